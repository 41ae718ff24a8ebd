//! The networks: where their servers are, how TLS to them is checked, and how people sign in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::fault::Fault;
use super::values::{HostPort, WebUrl, host_name, parsed};

/// What kind of network it is, which says what is known of it beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// The Messenger XMPP service.
    Messenger,
    /// Any server that follows the XMPP standards.
    Xmpp,
}

impl Profile {
    /// The profile's name, as the configuration and `m.bridge` write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Messenger => "messenger",
            Self::Xmpp => "xmpp",
        }
    }
}

/// One entry of `networks`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// `profile: messenger`.
    Messenger(Box<MessengerNetwork>),
    /// `profile: xmpp`.
    Xmpp(XmppNetwork),
}

impl Network {
    /// The network's profile.
    pub const fn profile(&self) -> Profile {
        match self {
            Self::Messenger(_) => Profile::Messenger,
            Self::Xmpp(_) => Profile::Xmpp,
        }
    }

    /// How to reach the server of `domain`, or `None` if this network does not serve that domain.
    pub fn endpoint(&self, domain: &str) -> Option<Endpoint> {
        match self {
            Self::Messenger(network) => network.domain.eq_ignore_ascii_case(domain).then(|| network.endpoint()),
            Self::Xmpp(network) => match &network.domains {
                Domains::Any => Some(Endpoint::default()),
                Domains::Only(domains) => domains.get(&domain.to_lowercase()).cloned(),
            },
        }
    }
}

/// The Messenger service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessengerNetwork {
    /// The stream's domain.
    #[serde(default = "messenger_domain", deserialize_with = "domain")]
    pub domain: String,
    /// Host and port instead of SRV.
    #[serde(default)]
    pub address: Option<HostPort>,
    /// How TLS begins and what is trusted.
    #[serde(default)]
    pub tls: Tls,
    /// The application that people allow to sign in for them.
    pub oauth: OAuth,
}

impl MessengerNetwork {
    /// How to reach the service.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.address.clone(), tls: self.tls.clone() }
    }
}

/// Standards-following servers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct XmppNetwork {
    /// The domains that people may sign in to.
    pub domains: Domains,
}

/// Which domains a network serves.
#[derive(Clone, Debug, Default)]
pub enum Domains {
    /// Every domain, each found by SRV.
    #[default]
    Any,
    /// Only these, in lower case, each with how to reach it. In the file a list, or a map.
    Only(BTreeMap<String, Endpoint>),
}

/// How to reach the server of a domain.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Endpoint {
    /// Host and port instead of SRV.
    pub address: Option<HostPort>,
    /// How TLS begins and what is trusted.
    pub tls: Tls,
}

impl Endpoint {
    /// The mode with `auto` decided where it can be: with an address there is no SRV record that could announce direct
    /// TLS (XEP-0368), so it is STARTTLS.
    pub const fn tls_mode(&self) -> TlsMode {
        match (self.tls.mode, &self.address) {
            (TlsMode::Auto, Some(_)) => TlsMode::Starttls,
            (mode, _) => mode,
        }
    }
}

/// TLS towards one network. It also holds for that network's HTTP endpoints.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// How TLS begins.
    pub mode: TlsMode,
    /// A PEM file with certificate authorities that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// A further name that the certificate may carry besides the service's domain.
    #[serde(deserialize_with = "optional_name")]
    pub accept_name: Option<String>,
}

/// How TLS begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// As the SRV records say (XEP-0368); with an address, STARTTLS.
    #[default]
    Auto,
    /// Plain TCP that turns to TLS before anything is said (RFC 6120 section 5).
    Starttls,
    /// TLS from the first byte.
    Direct,
}

/// OAuth 2.0 (RFC 6749) towards a network's sign-in pages.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth {
    /// The application's id.
    pub client_id: String,
    /// The application's secret, for applications that can keep one.
    #[serde(default, deserialize_with = "secret")]
    pub client_secret: Option<SecretString>,
    /// The page where a person allows the application.
    #[serde(default = "authorize_url")]
    pub authorize_url: WebUrl,
    /// Where codes and refresh tokens are changed into access tokens.
    #[serde(default = "token_url")]
    pub token_url: WebUrl,
    /// The page whose address the person pastes.
    #[serde(default = "redirect_url")]
    pub redirect_url: WebUrl,
    /// The scopes asked for; sent joined by a blank.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
}

fn messenger_domain() -> String {
    "messenger.live.com".to_owned()
}

/// The service's own pages, `https://login.live.com/oauth20_<page>.srf`.
fn login_page(page: &str) -> WebUrl {
    #[expect(clippy::expect_used, reason = "fixed text, and each page is read by a test")]
    format!("https://login.live.com/oauth20_{page}.srf").parse().expect("a web address")
}

fn authorize_url() -> WebUrl {
    login_page("authorize")
}

fn token_url() -> WebUrl {
    login_page("token")
}

fn redirect_url() -> WebUrl {
    login_page("desktop")
}

fn scopes() -> Vec<String> {
    ["wl.messenger", "wl.offline_access"].map(str::to_owned).to_vec()
}

fn domain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    parsed(deserializer, host_name)
}

fn optional_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    parsed(deserializer, |text| host_name(text).map(Some))
}

pub(super) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

impl<'de> Deserialize<'de> for Domains {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DomainsVisitor)
    }
}

struct DomainsVisitor;

impl<'de> Visitor<'de> for DomainsVisitor {
    type Value = Domains;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("`any`, a list of domains, or a map of domains")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Domains, E> {
        if text == "any" { Ok(Domains::Any) } else { Err(E::custom("write `any`, or a list: [ example.org ]")) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Domains, A::Error> {
        let mut domains = BTreeMap::new();
        while let Some(Domain(name)) = items.next_element()? {
            domains.insert(name, Endpoint::default());
        }
        Ok(Domains::Only(domains))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Domains, A::Error> {
        let mut domains = BTreeMap::new();
        while let Some(Domain(name)) = entries.next_key()? {
            let endpoint: Option<Endpoint> = entries.next_value()?;
            domains.insert(name, endpoint.unwrap_or_default());
        }
        if entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            return Err(de::Error::custom("more entries than keys"));
        }
        Ok(Domains::Only(domains))
    }
}

struct Domain(String);

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        domain(deserializer).map(Self)
    }
}

/// Checks one network and makes its paths absolute from `base`, the config file's folder.
pub(super) fn check(name: &str, network: &mut Network, base: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |path: &[&str], text: String| {
        let path: Vec<&str> = ["networks", name].iter().chain(path).copied().collect();
        faults.push(Fault::new(text).at_path(&path));
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c)) {
        fault(&[], "a network's name is written with a-z, 0-9, - and _".to_owned());
    }
    match network {
        Network::Messenger(network) => {
            check_tls(&mut network.tls, base, |text| fault(&["tls", "ca_file"], text));
            let oauth = &network.oauth;
            if oauth.client_id.trim().is_empty() {
                fault(&["oauth", "client_id"], "empty".to_owned());
            }
            let urls = [
                ("authorize_url", &oauth.authorize_url),
                ("token_url", &oauth.token_url),
                ("redirect_url", &oauth.redirect_url),
            ];
            for (key, url) in urls {
                if url.url().scheme() == "http" && !url.is_loopback() {
                    fault(&["oauth", key], "plain http is allowed on loopback only; write https://".to_owned());
                }
                if url.url().fragment().is_some() {
                    fault(&["oauth", key], "must not carry a fragment (#…)".to_owned());
                }
            }
            if oauth.scopes.is_empty() {
                fault(&["oauth", "scopes"], "at least one scope is needed".to_owned());
            }
            // RFC 6749 section 3.3: %x21 / %x23-5B / %x5D-7E.
            let legal = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
            for (index, scope) in oauth.scopes.iter().enumerate() {
                if scope.is_empty() || !scope.chars().all(legal) {
                    fault(&["oauth", "scopes", &index.to_string()], "not a scope: one word in ASCII".to_owned());
                }
            }
        }
        Network::Xmpp(network) => {
            let Domains::Only(domains) = &mut network.domains else { return faults };
            if domains.is_empty() {
                fault(&["domains"], "no domain: write `any`, or name one".to_owned());
            }
            for (domain, endpoint) in domains {
                check_tls(&mut endpoint.tls, base, |text| fault(&["domains", domain, "tls", "ca_file"], text));
            }
        }
    }
    faults
}

fn check_tls(tls: &mut Tls, base: &Path, fault: impl FnOnce(String)) {
    if let Some(file) = &mut tls.ca_file {
        *file = base.join(&*file);
        if let Err(error) = std::fs::File::open(&*file) {
            fault(format!("{} cannot be read: {error}", file.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: Option<&str>, mode: TlsMode) -> Endpoint {
        Endpoint { address: address.map(|text| text.parse().unwrap()), tls: Tls { mode, ..Tls::default() } }
    }

    #[test]
    fn auto_with_an_address_is_starttls() {
        assert_eq!(endpoint(None, TlsMode::Auto).tls_mode(), TlsMode::Auto);
        assert_eq!(endpoint(Some("h:1"), TlsMode::Auto).tls_mode(), TlsMode::Starttls);
        assert_eq!(endpoint(Some("h:1"), TlsMode::Direct).tls_mode(), TlsMode::Direct);
    }

    #[test]
    fn a_network_serves_its_domains_only() {
        let any = Network::Xmpp(XmppNetwork::default());
        assert!(any.endpoint("whatever.test").is_some());
        let listed = BTreeMap::from([("a.test".to_owned(), endpoint(Some("127.0.0.1:5222"), TlsMode::Auto))]);
        let only = Network::Xmpp(XmppNetwork { domains: Domains::Only(listed) });
        assert_eq!(only.endpoint("A.test").and_then(|e| e.address).map(|a| a.port), Some(5222));
        assert!(only.endpoint("b.test").is_none());
    }

    #[test]
    fn the_default_pages_are_the_services() {
        let pages = [authorize_url(), token_url(), redirect_url()].map(|url| url.as_str().to_owned());
        assert_eq!(
            pages,
            ["authorize", "token", "desktop"].map(|page| format!("https://login.live.com/oauth20_{page}.srf"))
        );
    }
}
