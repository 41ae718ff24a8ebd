//! SASL (RFC 6120 section 6): which mechanism, and one file per mechanism.
//!
//! One `<auth/>` per connection: after a refusal no weaker mechanism is tried, for that would hand the password to
//! whoever refused.

mod oauthbearer;
mod plain;
mod scram;
mod x_messenger_oauth2;
mod x_oauth2;

use base64::{Engine, engine::general_purpose::STANDARD};
use minidom::Element;

use self::scram::Scram;
use super::element::element;
use crate::domain::{
    BareJid,
    credentials::{Credentials, ScramHash, Secret},
    stream::{Refusal, StreamEnd},
};

/// The namespace of SASL elements.
pub const NS_SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// The namespace of offered channel bindings (XEP-0440).
const NS_CHANNEL_BINDING: &str = "urn:xmpp:sasl-cb:0";
/// The channel binding that we speak (RFC 9266).
pub const TLS_EXPORTER: &str = "tls-exporter";
/// Most mechanisms, and most channel bindings, that are read of an offer.
const MAX_OFFERED: usize = 256;
/// The longest name of a condition or mechanism that is passed on.
const MAX_SHOWN: usize = 64;

/// What a server offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Mechanisms, trimmed.
    mechanisms: Vec<String>,
    /// Channel bindings, if it says (XEP-0440).
    bindings: Option<Vec<String>>,
}

impl Offer {
    /// Reads stream features. Names are trimmed: the Messenger service wrote a blank after one.
    pub fn read(features: &Element) -> Self {
        let mechanisms = features.get_child("mechanisms", NS_SASL).into_iter().flat_map(Element::children);
        let bindings = features.get_child("sasl-channel-binding", NS_CHANNEL_BINDING);
        Self {
            mechanisms: mechanisms
                .filter(|child| child.name() == "mechanism")
                .map(|child| child.text().trim().to_owned())
                .filter(|name| !name.is_empty())
                .take(MAX_OFFERED)
                .collect(),
            bindings: bindings.map(|all| {
                all.children().filter_map(|child| child.attr("type")).take(MAX_OFFERED).map(str::to_owned).collect()
            }),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.mechanisms.iter().any(|offered| offered == name)
    }

    fn any_scram(&self) -> bool {
        self.mechanisms.iter().any(|offered| offered.starts_with("SCRAM-"))
    }

    fn any_plus(&self) -> bool {
        self.mechanisms.iter().any(|offered| offered.starts_with("SCRAM-") && offered.ends_with("-PLUS"))
    }

    /// All that is offered, as XEP-0474 section 4.1 hashes it: sorted by bytes, so that server and client write the same.
    fn canonical(&self) -> String {
        let joined = |names: &[String]| {
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.sort_unstable();
            names.join("\u{1e}")
        };
        match &self.bindings {
            Some(bindings) => format!("{}\u{1f}{}", joined(&self.mechanisms), joined(bindings)),
            None => joined(&self.mechanisms),
        }
    }

    /// The names, for a person.
    pub fn shown(&self) -> String {
        match self.mechanisms.as_slice() {
            [] => "nothing".to_owned(),
            names => names.iter().take(10).map(|name| shown(name)).collect::<Vec<_>>().join(", "),
        }
    }
}

/// Text of the other side that a person may get to see.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

/// A sign-in under way.
pub struct Exchange {
    name: &'static str,
    initial: Initial,
    mechanism: Mechanism,
}

enum Initial {
    /// To be base64-encoded.
    Bytes(Secret),
    /// Goes on the wire as it is.
    Text(Secret),
}

enum Mechanism {
    Scram(Box<Scram>),
    OAuthBearer,
    /// The initial response is all there is.
    OneStep,
}

impl Exchange {
    /// Chooses by strength and by what the login holds. `exporter` is the channel binding data of the connection
    /// (RFC 9266), where it has any; `nonce` is fresh. `scram_only`: what shows the password is not chosen.
    pub fn choose(
        offer: &Offer,
        credentials: &Credentials,
        scram_only: bool,
        account: Option<&BareJid>,
        exporter: Option<&[u8]>,
        nonce: &str,
        host: &str,
    ) -> Result<Self, StreamEnd> {
        let misfit = || StreamEnd::NoCommonMechanism { host: host.to_owned(), offered: offer.shown() };
        let user = account.and_then(BareJid::localpart);
        let one_step = |name, initial| Ok(Self { name, initial, mechanism: Mechanism::OneStep });
        match credentials {
            Credentials::Password(_) | Credentials::Scram(_) => {
                let user = user.ok_or_else(misfit)?;
                let hash = match credentials {
                    Credentials::Scram(keys) => Some(keys.hash),
                    _ => None,
                };
                if let Some((name, hash, plus)) = best_scram(offer, exporter.is_some(), hash) {
                    let binding = match (exporter, plus) {
                        (Some(data), true) => scram::Binding::Used(data.to_vec()),
                        // We could, and the server seems not to: the server will notice if someone took its offer away.
                        (Some(_), false) if !offer.any_plus() => scram::Binding::NotOffered,
                        _ => scram::Binding::NotSupported,
                    };
                    let scram =
                        Scram::new(hash, user, credentials.clone(), binding, nonce, host).guarding(offer.canonical());
                    let initial = Initial::Bytes(Secret::new(scram.first()));
                    return Ok(Self { name, initial, mechanism: Mechanism::Scram(Box::new(scram)) });
                }
                let plain_only = !offer.any_scram() && offer.has("PLAIN");
                match credentials {
                    Credentials::Scram(_) | Credentials::Password(_)
                        if plain_only && (scram_only || matches!(credentials, Credentials::Scram(_))) =>
                    {
                        Err(StreamEnd::Downgraded { host: host.to_owned(), offered: offer.shown() })
                    }
                    // The password is gone and the keys do not fit what is offered now.
                    Credentials::Scram(_) if offer.any_scram() => Err(StreamEnd::KeysOutdated),
                    Credentials::Password(password) if plain_only => {
                        one_step("PLAIN", Initial::Bytes(plain::initial(user, password)))
                    }
                    _ => Err(misfit()),
                }
            }
            Credentials::Token(token) => Self::bearer(offer, user, token).ok_or_else(misfit),
            Credentials::OAuth(tokens) if offer.has(x_messenger_oauth2::NAME) => {
                one_step(x_messenger_oauth2::NAME, Initial::Text(x_messenger_oauth2::initial(&tokens.access)))
            }
            Credentials::OAuth(tokens) => Self::bearer(offer, user, &tokens.access).ok_or_else(misfit),
        }
    }

    fn bearer(offer: &Offer, user: Option<&str>, token: &Secret) -> Option<Self> {
        if offer.has(oauthbearer::NAME) {
            let initial = Initial::Bytes(oauthbearer::initial(token));
            return Some(Self { name: oauthbearer::NAME, initial, mechanism: Mechanism::OAuthBearer });
        }
        let (name, initial) = if offer.has(x_oauth2::NAME) {
            (x_oauth2::NAME, Initial::Bytes(x_oauth2::initial(user?, token)))
        } else if offer.has(x_messenger_oauth2::NAME) {
            (x_messenger_oauth2::NAME, Initial::Text(x_messenger_oauth2::initial(token)))
        } else {
            return None;
        };
        Some(Self { name, initial, mechanism: Mechanism::OneStep })
    }

    /// The mechanism's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// `<auth/>`.
    pub fn auth(&self) -> Element {
        let text = match &self.initial {
            Initial::Bytes(bytes) => encode(bytes.expose().as_bytes()),
            Initial::Text(text) => text.expose().to_owned(),
        };
        let mut auth = element("auth", NS_SASL, &[("mechanism", self.name)]);
        auth.append_text(text);
        auth
    }

    /// Answers a `<challenge/>` with a `<response/>`.
    pub async fn challenge(&mut self, challenge: &Element) -> Result<Element, StreamEnd> {
        let data = decode(&challenge.text());
        let answer = match &mut self.mechanism {
            Mechanism::Scram(scram) => scram.challenge(&data.unwrap_or_default()).await?,
            Mechanism::OAuthBearer => oauthbearer::REFUSED.to_vec(),
            Mechanism::OneStep => Vec::new(),
        };
        let mut response = Element::bare("response", NS_SASL);
        if !answer.is_empty() {
            response.append_text(encode(&answer));
        }
        Ok(response)
    }

    /// Takes `<success/>`: checks the server's proof, and gives what to keep in place of the credentials.
    pub fn success(self, success: &Element) -> Result<Option<Credentials>, StreamEnd> {
        match self.mechanism {
            Mechanism::Scram(scram) => scram.success(&decode(&success.text()).unwrap_or_default()),
            Mechanism::OAuthBearer | Mechanism::OneStep => Ok(None),
        }
    }
}

/// The strongest SCRAM that both sides speak; with kept keys only of their hash.
fn best_scram(offer: &Offer, exporter: bool, hash: Option<ScramHash>) -> Option<(&'static str, ScramHash, bool)> {
    // Only where the server names it (XEP-0440). RFC 9266 section 3 makes it the default of TLS 1.3, but ejabberd before
    // it learned tls-exporter offers -PLUS there too, means tls-unique, and calls everything else a wrong password.
    let binds = exporter && offer.bindings.iter().flatten().any(|one| one == TLS_EXPORTER);
    [
        ("SCRAM-SHA-256-PLUS", ScramHash::Sha256, true),
        ("SCRAM-SHA-1-PLUS", ScramHash::Sha1, true),
        ("SCRAM-SHA-256", ScramHash::Sha256, false),
        ("SCRAM-SHA-1", ScramHash::Sha1, false),
    ]
    .into_iter()
    .find(|(name, this, plus)| offer.has(name) && (binds || !plus) && hash.is_none_or(|hash| hash == *this))
}

/// Reads `<failure/>` as it comes: only the first condition matters, and it may be missing.
pub fn refusal(failure: &Element) -> Refusal {
    let condition = failure.children().map(Element::name).find(|name| *name != "text").unwrap_or("not-authorized");
    match condition {
        "not-authorized" | "invalid-authzid" => Refusal::NotAuthorized,
        "credentials-expired" => Refusal::Expired,
        "account-disabled" => Refusal::Disabled,
        "temporary-auth-failure" => Refusal::Temporary,
        other => Refusal::Other(shown(other)),
    }
}

/// RFC 6120 section 6.4.2: an empty value is `=`.
fn encode(bytes: &[u8]) -> String {
    if bytes.is_empty() { "=".to_owned() } else { STANDARD.encode(bytes) }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let text: String = text.split_ascii_whitespace().collect();
    if text == "=" { Some(Vec::new()) } else { STANDARD.decode(text).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::credentials::{ScramKeys, Tokens};

    fn offer(names: &[&str]) -> Offer {
        let list: String =
            names.iter().fold(String::new(), |all, name| all + &format!("<mechanism>{name}</mechanism>"));
        let bindings = format!(
            "<sasl-channel-binding xmlns='{NS_CHANNEL_BINDING}'><x type='tls-exporter'/></sasl-channel-binding>"
        );
        let xml = format!("<features xmlns='u'><mechanisms xmlns='{NS_SASL}'>{list}</mechanisms>{bindings}</features>");
        Offer::read(&xml.parse().unwrap())
    }

    fn choose(names: &[&str], credentials: &Credentials, exporter: bool) -> Result<Exchange, StreamEnd> {
        let account = BareJid::parse("user@h").unwrap();
        Exchange::choose(
            &offer(names),
            credentials,
            false,
            Some(&account),
            exporter.then_some(&[1; 32][..]),
            "nonce",
            "h",
        )
    }

    fn name(names: &[&str], credentials: &Credentials, exporter: bool) -> String {
        choose(names, credentials, exporter)
            .map_or_else(|end| format!("{end:?}"), |exchange| exchange.name().to_owned())
    }

    #[test]
    fn the_strongest_mechanism_that_fits_is_chosen() {
        let password = Credentials::Password(Secret::new("pencil"));
        let all = ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"];
        assert_eq!(name(&all, &password, true), "SCRAM-SHA-256-PLUS");
        assert_eq!(name(&all, &password, false), "SCRAM-SHA-256");
        assert_eq!(name(&["PLAIN", "SCRAM-SHA-1"], &password, true), "SCRAM-SHA-1");
        assert_eq!(name(&["PLAIN"], &password, true), "PLAIN");
        // A server that offers SCRAM, if only one that we do not speak, is not shown the password.
        assert!(name(&["PLAIN", "SCRAM-SHA-512"], &password, true).starts_with("NoCommon"));
        let end = choose(&["GSSAPI", "EXTERNAL"], &password, true).err().unwrap();
        assert_eq!(end.to_string(), "h offers no way to sign in that fits: it offers GSSAPI, EXTERNAL");
    }

    #[test]
    fn only_a_channel_binding_that_the_server_names_is_used() {
        let xml = format!(
            "<features xmlns='u'><mechanisms xmlns='{NS_SASL}'><mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-1\
             </mechanism></mechanisms><sasl-channel-binding xmlns='{NS_CHANNEL_BINDING}'><channel-binding type='%'/>\
             </sasl-channel-binding></features>"
        );
        let best =
            |kind: &str| best_scram(&Offer::read(&xml.replace('%', kind).parse().unwrap()), true, None).unwrap().0;
        assert_eq!(best("tls-exporter"), "SCRAM-SHA-1-PLUS");
        assert_eq!(best("tls-unique"), "SCRAM-SHA-1");
        let unnamed =
            Offer { mechanisms: vec!["SCRAM-SHA-1".to_owned(), "SCRAM-SHA-1-PLUS".to_owned()], bindings: None };
        assert_eq!(best_scram(&unnamed, true, None).unwrap().0, "SCRAM-SHA-1");
    }

    #[test]
    fn kept_keys_sign_in_with_their_own_hash_alone() {
        let keys =
            ScramKeys { hash: ScramHash::Sha1, salt: vec![], iterations: 1, client_key: vec![], server_key: vec![] };
        let keys = Credentials::Scram(keys);
        assert_eq!(name(&["SCRAM-SHA-1", "SCRAM-SHA-256"], &keys, false), "SCRAM-SHA-1");
        assert_eq!(name(&["SCRAM-SHA-256"], &keys, false), "KeysOutdated");
    }

    #[test]
    fn once_scram_was_used_nothing_that_shows_the_password_is_chosen() {
        let keys =
            ScramKeys { hash: ScramHash::Sha1, salt: vec![], iterations: 1, client_key: vec![], server_key: vec![] };
        let sentence = |credentials: &Credentials, names: &[&str], scram_only| {
            let account = BareJid::parse("user@h").unwrap();
            let offer = offer(names);
            Exchange::choose(&offer, credentials, scram_only, Some(&account), None, "nonce", "h")
                .map_or_else(|end| end.to_string(), |exchange| exchange.name().to_owned())
        };
        let refused = "h no longer offers the safe way to sign in that it had before (it offers PLAIN): someone may be \
                       in between, so the password was not sent";
        let password = Credentials::Password(Secret::new("pencil"));
        assert_eq!(sentence(&Credentials::Scram(keys), &["PLAIN"], false), refused);
        assert_eq!(sentence(&password, &["PLAIN"], true), refused, "a password typed anew is not shown either");
        assert_eq!(sentence(&password, &["PLAIN", "SCRAM-SHA-1"], true), "SCRAM-SHA-1");
        assert_eq!(sentence(&password, &["PLAIN"], false), "PLAIN", "the first sign-in knows no better");
    }

    /// XEP-0474 section 4.3, the text that the example's hash is made of.
    #[test]
    fn an_offer_is_written_as_the_server_hashes_it() {
        let xml = format!(
            "<features xmlns='u'><mechanisms xmlns='{NS_SASL}'><mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-1\
             </mechanism></mechanisms><sasl-channel-binding xmlns='{NS_CHANNEL_BINDING}'><channel-binding \
             type='tls-server-end-point'/><channel-binding type='tls-exporter'/></sasl-channel-binding></features>"
        );
        let canonical = Offer::read(&xml.parse().unwrap()).canonical();
        assert_eq!(canonical, "SCRAM-SHA-1\u{1e}SCRAM-SHA-1-PLUS\u{1f}tls-exporter\u{1e}tls-server-end-point");
    }

    #[test]
    fn tokens_go_on_the_wire_as_each_mechanism_wants_them() {
        let token = Credentials::Token(Secret::new("tok"));
        let auth = |names: &[&str], credentials| choose(names, credentials, false).unwrap().auth();
        assert_eq!(decode(&auth(&["X-OAUTH2"], &token).text()).unwrap(), b"\0user\0tok");
        let bearer = auth(&["X-OAUTH2", "OAUTHBEARER"], &token);
        assert_eq!(decode(&bearer.text()).unwrap(), b"n,,\x01auth=Bearer tok\x01\x01");
        // The service's mechanism, with its trailing blank, takes the characters as they are.
        let access = Secret::new("EwA+b/c=");
        let oauth = Credentials::OAuth(Tokens { access, refresh: None, expires_at: None });
        let messenger = auth(&["X-MESSENGER-OAUTH2 "], &oauth);
        assert_eq!((messenger.text().as_str(), messenger.attr("mechanism")), ("EwA+b/c=", Some("X-MESSENGER-OAUTH2")));
        let exchange = Exchange::choose(&offer(&["X-MESSENGER-OAUTH2"]), &oauth, false, None, None, "n", "h");
        assert!(exchange.is_ok(), "the token says who one is");
    }

    #[tokio::test]
    async fn a_refused_bearer_token_is_answered_so_that_the_failure_comes() {
        let mut exchange = choose(&["OAUTHBEARER"], &Credentials::Token(Secret::new("tok")), false).unwrap();
        let challenge = format!("<challenge xmlns='{NS_SASL}'>{}</challenge>", STANDARD.encode(r#"{"status":"x"}"#));
        assert_eq!(exchange.challenge(&challenge.parse().unwrap()).await.unwrap().text(), "AQ==");
    }

    #[test]
    fn failures_are_read_leniently() {
        let read = |inner: &str| refusal(&format!("<failure xmlns='{NS_SASL}'>{inner}</failure>").parse().unwrap());
        assert_eq!(read(""), Refusal::NotAuthorized);
        assert_eq!(read("<text>no</text><credentials-expired/>"), Refusal::Expired);
        assert_eq!(read("<account-disabled/>"), Refusal::Disabled);
        assert_eq!(read("<temporary-auth-failure/><text>later</text>"), Refusal::Temporary);
        assert_eq!(read("<odd/>"), Refusal::Other("odd".to_owned()));
    }
}
