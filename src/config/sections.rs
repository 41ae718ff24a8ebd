//! The sections of `config.yaml`, as typed structs with their defaults. `config.yaml.example` says the same to people;
//! a test holds the two together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ruma::OwnedServerName;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

use super::network::{Network, secret};
use super::permissions::Permissions;
use super::values::{HostPort, Span, WebUrl, parsed};

/// The whole configuration. All paths are already relative to the process, no longer to the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The homeserver that we serve.
    pub homeserver: Homeserver,
    /// Our own side of the application service API, and the bot.
    #[serde(default)]
    pub appservice: Appservice,
    /// Where things are kept.
    #[serde(default)]
    pub store: Store,
    /// Who may use the bridge.
    pub permissions: Permissions,
    /// Events in a person's own name.
    #[serde(default)]
    pub double_puppet: DoublePuppet,
    /// The networks that people may sign in to, by the name that commands use.
    pub networks: BTreeMap<String, Network>,
    /// Rooms for contacts.
    #[serde(default)]
    pub portals: Portals,
    /// How much of the past is fetched.
    #[serde(default)]
    pub history: History,
    /// Messages that wait to be sent to contacts.
    #[serde(default)]
    pub outbox: Outbox,
    /// Presence both ways.
    #[serde(default)]
    pub presence: Presence,
    /// What may be fetched on behalf of a contact.
    #[serde(default)]
    pub fetch: Fetch,
    /// Files both ways.
    #[serde(default)]
    pub files: Files,
    /// Files as links of the bridge's own.
    #[serde(default)]
    pub public_media: PublicMedia,
    /// Logs, on stderr.
    #[serde(default)]
    pub logging: Logging,
    /// What people's browsers reach.
    #[serde(default)]
    pub web: Web,
    /// People's logins.
    #[serde(default)]
    pub logins: Logins,
    /// The HTTP API for programs that look after people's logins.
    #[serde(default)]
    pub provisioning: Provisioning,
    /// Numbers for Prometheus.
    #[serde(default)]
    pub metrics: Metrics,
}

/// The HTTP API for programs that look after people's logins.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provisioning {
    /// Whoever has it acts for everybody.
    #[serde(deserialize_with = "secret")]
    pub shared_secret: Option<SecretString>,
    /// People act for themselves, by a token of the homeserver.
    pub allow_matrix_auth: bool,
    /// Where people's OpenID tokens are checked; `None`: at the homeserver's address.
    pub federation_address: Option<WebUrl>,
}

/// What people's browsers reach.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Web {
    /// The bridge's address as they reach it, through a reverse proxy; with one there is a page for signing in.
    pub public_address: Option<WebUrl>,
}

/// People's logins.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logins {
    /// So many a person may have at most.
    pub max_logins: u32,
    /// What becomes of a login's rooms when it is signed out.
    pub after_logout: AfterLogout,
    /// What of their connections people are told by the bot.
    pub status_notices: StatusNotices,
}

/// What of their connections people are told by the bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusNotices {
    /// Nothing.
    None,
    /// What does not work, and that it works again.
    Errors,
    /// Every change.
    All,
}

/// What becomes of a login's rooms when it is signed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfterLogout {
    /// The bot and the ghosts leave them.
    Leave,
    /// That, and the person is taken out of them.
    Delete,
    /// They stay as they are.
    Nothing,
}

/// The homeserver.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Homeserver {
    /// Its address for the client-server API.
    pub address: WebUrl,
    /// Its server name: what stands after the colon in its users' MXIDs.
    #[serde(deserialize_with = "server_name")]
    pub domain: OwnedServerName,
    /// Where it is told how the bridge and its logins are.
    #[serde(default)]
    pub status_endpoint: Option<WebUrl>,
}

/// Our side of the application service API.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Appservice {
    /// The address and port that we listen on.
    #[serde(deserialize_with = "socket_address")]
    pub listen: SocketAddr,
    /// Our address as the homeserver reaches it; the registration's `url`.
    pub address: WebUrl,
    /// The bot.
    pub bot: Bot,
}

/// The bot that people talk to.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bot {
    /// The part of its MXID before the colon.
    pub localpart: String,
    /// Its name.
    pub displayname: String,
}

/// Where things are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// The folder of the database.
    pub path: PathBuf,
    /// The key that seals credentials; made at the first start with mode 0600, outside of `path`.
    pub key_file: PathBuf,
}

/// Events in a person's own name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DoublePuppet {
    /// The file `doublepuppet.yaml`, once the homeserver knows it.
    pub registration: Option<PathBuf>,
}

/// Rooms for contacts.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Portals {
    /// When a contact's room is made.
    pub create: CreatePortals,
    /// At most so many rooms are made per second and login.
    pub per_second: f64,
    /// What happens when someone writes who is no contact.
    pub strangers: Strangers,
    /// A space holds the rooms of each login.
    pub space: bool,
}

/// What happens when someone writes who is no contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strangers {
    /// They get a room.
    Room,
    /// The bot asks the person first.
    Request,
}

/// When a contact's room is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CreatePortals {
    /// At sign-in, for every contact of the roster.
    Contacts,
    /// With the first message.
    Messages,
}

/// How much of the past is fetched, in messages per chat.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Into a new room.
    pub initial: u32,
    /// After a reconnect.
    pub catch_up: u32,
}

/// Messages that wait to be sent to contacts.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outbox {
    /// A person is told of a message that waits longer.
    pub warn_after: Span,
    /// A message that could not be sent for so long is given up.
    pub expire: Span,
}

/// Presence both ways.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Presence {
    /// Contacts' presence becomes their ghosts'.
    pub to_matrix: bool,
    /// The person's presence in Matrix becomes that of their account.
    pub from_matrix: bool,
    /// What the account shows while its owner is offline in Matrix.
    pub offline_as: OfflineAs,
    /// At most so many presence requests per second, for all ghosts together.
    pub updates_per_second: f64,
}

/// What an account shows while its owner is offline in Matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OfflineAs {
    /// `<show>away</show>`.
    Away,
    /// `<show>xa</show>`.
    Xa,
    /// Unavailable presence; the stream stays.
    Unavailable,
}

/// What may be fetched on behalf of a contact.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fetch {
    /// Hosts, as named in the URL or as resolved, that may be private or loopback addresses.
    pub allow_private: Vec<HostPort>,
}

/// Files both ways.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// The largest file that is carried over, in bytes.
    pub max_bytes: u64,
}

/// Files as links of the bridge's own, where a network takes none.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublicMedia {
    /// Links are made, and served.
    pub enabled: bool,
    /// The bridge's address as contacts reach it, through a reverse proxy.
    pub address: Option<WebUrl>,
    /// How long a link lasts.
    pub expires: Span,
}

/// Logs.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// The least important level that is shown.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// Numbers for Prometheus.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// The address and port at which `/metrics` is; `None`: nowhere.
    #[serde(deserialize_with = "maybe_socket_address")]
    pub listen: Option<SocketAddr>,
}

/// How important a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for Appservice {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 29340));
        #[expect(clippy::expect_used, reason = "a socket address always makes a web address")]
        let address = format!("http://{listen}").parse().expect("a web address");
        Self { listen, address, bot: Bot::default() }
    }
}

impl Default for Bot {
    fn default() -> Self {
        Self { localpart: "messengerbot".to_owned(), displayname: "Messenger bridge".to_owned() }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { path: "./data".into(), key_file: "./data.key".into() }
    }
}

impl Default for Portals {
    fn default() -> Self {
        Self { create: CreatePortals::Contacts, per_second: 2.0, strangers: Strangers::Room, space: true }
    }
}

impl Default for History {
    fn default() -> Self {
        Self { initial: 50, catch_up: 500 }
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self { warn_after: Span(Duration::from_secs(30)), expire: Span(Duration::from_hours(7 * 24)) }
    }
}

impl Default for Presence {
    fn default() -> Self {
        Self { to_matrix: true, from_matrix: true, offline_as: OfflineAs::Away, updates_per_second: 20.0 }
    }
}

impl Default for Files {
    fn default() -> Self {
        Self { max_bytes: 100 * 1024 * 1024 }
    }
}

impl Default for PublicMedia {
    fn default() -> Self {
        Self { enabled: false, address: None, expires: Span(Duration::from_hours(7 * 24)) }
    }
}

impl Default for Logins {
    fn default() -> Self {
        Self { max_logins: 10, after_logout: AfterLogout::Leave, status_notices: StatusNotices::Errors }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
}

fn server_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OwnedServerName, D::Error> {
    parsed(deserializer, |text| {
        ruma::ServerName::parse(text).map_err(|_| format!("`{}` is not a server name", super::fault::short(text)))
    })
}

fn socket_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parsed(deserializer, |text| address(text, 29340))
}

fn maybe_socket_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    parsed(deserializer, |text| address(text, 29341)).map(Some)
}

fn address(text: &str, port: u16) -> Result<SocketAddr, String> {
    let unlike = format!("`{}` is not an IP address and port like 127.0.0.1:{port}", super::fault::short(text));
    text.parse().map_err(|_| unlike)
}
