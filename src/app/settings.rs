//! The configuration, as each layer wants it.

use std::collections::HashMap;

use ruma::UserId;

use super::files::Trust;
use crate::{
    bridge::{self, Homeserver, Permission, PermissionKey, Settings},
    config::{self, AfterLogout, Config, CreatePortals, Domains, Level, Network, OfflineAs, Span, TlsMode},
    domain::{capability, file::LinkKey, request::RoomsAfterLogout},
    store::{Store, StoreError},
    web::Allowed,
    xmpp::{self, NetworkSettings, oauth::OAuthSettings, tls},
};

/// Who we are on which homeserver. `None` if the bot's name makes no MXID; the configuration has been checked for that.
pub fn homeserver(config: &Config) -> Option<Homeserver> {
    Some(Homeserver {
        name: config.homeserver.domain.clone(),
        bot: UserId::parse(config.bot_mxid()).ok()?,
        bot_name: config.appservice.bot.displayname.clone(),
    })
}

/// What the rules need.
pub fn settings(config: &Config) -> Settings {
    Settings {
        networks: config.networks.iter().map(|(name, network)| (name.clone(), bridged(network))).collect(),
        rooms_for_contacts: config.portals.create == CreatePortals::Contacts,
        room_pause: millis(1_000.0 / config.portals.per_second),
        strangers: match config.portals.strangers {
            config::Strangers::Room => bridge::Strangers::Room,
            config::Strangers::Request => bridge::Strangers::Request,
        },
        space: config.portals.space,
        history_initial: config.history.initial,
        history_catch_up: config.history.catch_up,
        warn_after: whole_millis(config.outbox.warn_after),
        expire: whole_millis(config.outbox.expire),
        presence_to_matrix: config.presence.to_matrix,
        presence_from_matrix: config.presence.from_matrix,
        offline_as: match config.presence.offline_as {
            OfflineAs::Away => bridge::OfflineAs::Away,
            OfflineAs::Xa => bridge::OfflineAs::ExtendedAway,
            OfflineAs::Unavailable => bridge::OfflineAs::Unavailable,
        },
        permissions: config.permissions.iter().filter_map(permission).collect(),
        max_file: config.files.max_bytes,
        public_media: None,
        page: None,
        max_logins: config.logins.max_logins.try_into().unwrap_or(usize::MAX),
        after_logout: match config.logins.after_logout {
            AfterLogout::Leave => RoomsAfterLogout::Leave,
            AfterLogout::Delete => RoomsAfterLogout::Delete,
            AfterLogout::Nothing => RoomsAfterLogout::Nothing,
        },
        status_notices: match config.logins.status_notices {
            config::StatusNotices::None => bridge::StatusNotices::None,
            config::StatusNotices::Errors => bridge::StatusNotices::Errors,
            config::StatusNotices::All => bridge::StatusNotices::All,
        },
        version: env!("CARGO_PKG_VERSION"),
        double_puppet: config.double_puppet.registration.is_some(),
    }
}

/// How links to files are made, if the operator wants any. They are signed with a key of the store's own.
pub fn public_media(config: &Config, store: &Store) -> Result<Option<bridge::PublicMedia>, StoreError> {
    let Some(address) = config.public_media.address.as_ref().filter(|_| config.public_media.enabled) else {
        return Ok(None);
    };
    Ok(Some(bridge::PublicMedia {
        address: address.as_str().to_owned(),
        expires: whole_millis(config.public_media.expires),
        key: LinkKey::new(store.derive_key("public media")?),
    }))
}

/// How links to the page for signing in are made, if the operator wants one. They are made with a key of the store's own.
pub fn page(config: &Config, store: &Store) -> Result<Option<bridge::SignInPage>, StoreError> {
    let Some(address) = &config.web.public_address else { return Ok(None) };
    Ok(Some(bridge::SignInPage {
        address: address.as_str().trim_end_matches('/').to_owned(),
        key: LinkKey::new(store.derive_key("sign-in page")?),
    }))
}

/// Whole milliseconds; the configuration bounds what they come from.
fn millis(number: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the configuration")]
    let millis = number.clamp(1.0, 3_600_000.0) as u64;
    millis
}

fn whole_millis(Span(span): Span) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn permission((key, level): (&str, Level)) -> Option<(PermissionKey, Permission)> {
    let key = match key {
        "*" => PermissionKey::Anyone,
        user if user.starts_with('@') => PermissionKey::User(UserId::parse(user).ok()?),
        server => PermissionKey::Server(server.to_owned()),
    };
    let permission = match level {
        Level::Block => Permission::Block,
        Level::User => Permission::User,
        Level::Admin => Permission::Admin,
    };
    Some((key, permission))
}

fn bridged(network: &Network) -> bridge::Network {
    match network {
        Network::Messenger(network) => bridge::Network {
            profile: capability::MESSENGER,
            domain: Some(network.domain.clone()),
            domains: None,
            oauth: true,
        },
        Network::Xmpp(network) => bridge::Network {
            profile: capability::XMPP,
            domain: None,
            domains: match &network.domains {
                Domains::Any => None,
                Domains::Only(domains) => Some(domains.keys().cloned().collect()),
            },
            oauth: false,
        },
    }
}

/// What the XMPP shell needs.
pub fn networks(config: &Config) -> HashMap<String, NetworkSettings> {
    config.networks.iter().map(|(name, network)| (name.clone(), connected(network))).collect()
}

fn connected(network: &Network) -> NetworkSettings {
    match network {
        Network::Messenger(network) => NetworkSettings {
            domain: Some(network.domain.clone()),
            endpoint: endpoint(&network.endpoint()),
            oauth: Some(OAuthSettings {
                client_id: network.oauth.client_id.clone(),
                client_secret: network.oauth.client_secret.clone(),
                authorize_url: network.oauth.authorize_url.as_str().to_owned(),
                token_url: network.oauth.token_url.as_str().to_owned(),
                redirect_url: network.oauth.redirect_url.as_str().to_owned(),
                scopes: network.oauth.scopes.clone(),
                ca_file: network.tls.ca_file.clone(),
                accept_name: network.tls.accept_name.clone(),
            }),
            ..NetworkSettings::default()
        },
        Network::Xmpp(network) => NetworkSettings {
            domains: match &network.domains {
                Domains::Any => HashMap::new(),
                Domains::Only(domains) => domains.iter().map(|(name, at)| (name.clone(), endpoint(at))).collect(),
            },
            ..NetworkSettings::default()
        },
    }
}

fn endpoint(endpoint: &config::Endpoint) -> xmpp::Endpoint {
    xmpp::Endpoint {
        address: endpoint.address.as_ref().map(ToString::to_string),
        tls: tls::TlsSettings {
            mode: match endpoint.tls_mode() {
                TlsMode::Auto => tls::TlsMode::Auto,
                TlsMode::Starttls => tls::TlsMode::StartTls,
                TlsMode::Direct => tls::TlsMode::Direct,
            },
            ca_file: endpoint.tls.ca_file.clone(),
            accept_name: endpoint.tls.accept_name.clone(),
        },
    }
}

/// Private hosts that files may be fetched from and put to.
pub fn allowed(config: &Config) -> Vec<Allowed> {
    let allowed = config.fetch.allow_private.iter();
    allowed.map(|at| Allowed { host: at.host.clone(), port: at.port }).collect()
}

/// Whose certificates count for files: beside the system's the `ca_file` of the domain that an account is of.
pub fn trust(config: &Config) -> Result<Trust, tls::CaFileError> {
    let tls = tls::Tls::new();
    let of = |settings: &tls::TlsSettings| {
        let files = tls::TlsSettings { ca_file: settings.ca_file.clone(), ..tls::TlsSettings::default() };
        tls.http_config(&files)
    };
    let mut own = HashMap::new();
    for (name, network) in networks(config) {
        let fixed = network.domain.map(|domain| (domain, network.endpoint));
        for (domain, endpoint) in network.domains.into_iter().chain(fixed) {
            if endpoint.tls.ca_file.is_some() {
                match of(&endpoint.tls) {
                    Ok(config) => drop(own.insert((name.clone(), domain), config)),
                    // Whoever signs in there is told the same; other networks go on.
                    Err(error) => tracing::warn!(network = %name, "{error}"),
                }
            }
        }
    }
    Ok(Trust { usual: of(&tls::TlsSettings::default())?, own })
}
