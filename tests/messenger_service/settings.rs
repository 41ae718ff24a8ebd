//! Where the service listens and how it behaves. Every switch can be changed while the service runs.
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// Most accounts, contacts in one roster, and sessions of one account.
pub const MAX_ACCOUNTS: usize = 4096;
/// Most items of one roster.
pub const MAX_ROSTER: usize = 2048;
/// Most clients of one account at the same time.
pub const MAX_SESSIONS: usize = 8;
/// Most connections at the same time.
pub const MAX_CONNECTIONS: usize = 512;
/// Most messages kept for an account that is offline.
pub const MAX_OFFLINE: usize = 200;
/// Most invitations that wait for one account's answer, and most addresses one session sent directed presence to.
pub const MAX_PENDING: usize = 256;
/// Stanzas that may wait for a client that does not read; one more and it is cut.
pub const MAX_QUEUED: usize = 8192;
/// Events that the journal keeps.
pub const MAX_JOURNAL: usize = 16_384;
/// Codes, access tokens and refresh tokens kept, each.
pub const MAX_TOKENS: usize = 4096;
/// A stanza above this ends the stream whatever the switches say, in bytes.
pub const HARD_STANZA_LIMIT: usize = 1 << 20;
/// How long a client may take for each step up to the bind, and for taking what is written to it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What is fixed when the service starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The service's domain.
    pub domain: String,
    /// Where clients connect. Port 0 takes a free one.
    pub xmpp: SocketAddr,
    /// Where redirected clients connect.
    pub gateway: SocketAddr,
    /// Where the OAuth endpoints listen.
    pub http: SocketAddr,
    /// The certificate for TLS.
    pub certificate: Certificate,
    /// The one registered OAuth client and its secret (none: a public client); without it any client will do.
    pub oauth_client: Option<(String, Option<String>)>,
    /// How the service behaves at first.
    pub switches: Switches,
}

impl Default for Settings {
    fn default() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            domain: "messenger.live.com".into(),
            xmpp: free,
            gateway: free,
            http: free,
            certificate: Certificate::SelfMade,
            oauth_client: None,
            switches: Switches::default(),
        }
    }
}

/// Where the certificate comes from.
#[derive(Debug, Clone)]
pub enum Certificate {
    /// A new certificate authority and leaves signed by it.
    SelfMade,
    /// PEM files; the switch for a mismatching certificate has no effect then.
    Files {
        /// The leaf's certificate and what leads to the root.
        chain: PathBuf,
        /// The leaf's key.
        key: PathBuf,
        /// The root to trust.
        ca: PathBuf,
    },
}

/// How the service behaves. The same names are command-line flags and members of the control channel's `set`.
#[derive(Debug, Clone, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Switches {
    /// What the service could do then: the first release or that of April 2012.
    #[arg(long, value_enum, default_value_t)]
    pub era: Era,
    /// When a client is sent to another host.
    #[arg(long, value_enum, default_value_t)]
    pub redirect: Redirect,
    /// The host that a redirect names; without it, the gateway's address.
    #[arg(long)]
    pub redirect_host: Option<String>,
    /// Whether a redirect names the port; without it, 5222 is meant.
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub redirect_port: bool,
    /// Whether a redirect names the host in upper case.
    #[arg(long, default_value_t = false, action = ArgAction::Set, value_name = "BOOL")]
    pub redirect_upper_case: bool,
    /// Show a certificate for other names than the service's.
    #[arg(long, default_value_t = false, action = ArgAction::Set, value_name = "BOOL")]
    pub mismatched_certificate: bool,
    /// A blank after the mechanism's name, as in the service's documentation.
    #[arg(long, default_value_t = false, action = ArgAction::Set, value_name = "BOOL")]
    pub trailing_blank: bool,
    /// Who the answer to an IQ without `to` comes from.
    #[arg(long, value_enum, default_value_t)]
    pub iq_from: IqFrom,
    /// Milliseconds without a stanza after which a client is cut; 0 is never.
    #[arg(long, default_value_t = 90_000, value_name = "MS")]
    pub idle_cut_ms: u64,
    /// Bytes of a stanza at which the server's parser breaks; 0 is never.
    #[arg(long, default_value_t = 16_000, value_name = "BYTES")]
    pub stanza_limit: usize,
    /// Milliseconds for which an access token is good.
    #[arg(long, default_value_t = 3_600_000, value_name = "MS")]
    pub token_lifetime_ms: u64,
    /// Write `expires_in` as a string.
    #[arg(long, default_value_t = false, action = ArgAction::Set, value_name = "BOOL")]
    pub expires_in_as_text: bool,
    /// How many of the next sign-ins are refused whatever their token; counts down.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub refuse_sign_ins: u32,
    /// The condition of a refusal.
    #[arg(long, value_enum, default_value_t)]
    pub refusal: Refusal,
    /// Whether the token endpoint refuses refresh tokens.
    #[arg(long, default_value_t = false, action = ArgAction::Set, value_name = "BOOL")]
    pub refuse_refresh: bool,
    /// Keep messages for who is offline.
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub offline_store: bool,
    /// Answer XEP-0136 requests (from April 2012 on).
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub archive: bool,
    /// Reflect a client's own presence to it.
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub reflect_presence: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            era: Era::default(),
            redirect: Redirect::default(),
            redirect_host: None,
            redirect_port: true,
            redirect_upper_case: false,
            mismatched_certificate: false,
            trailing_blank: false,
            iq_from: IqFrom::default(),
            idle_cut_ms: 90_000,
            stanza_limit: 16_000,
            token_lifetime_ms: 3_600_000,
            expires_in_as_text: false,
            refuse_sign_ins: 0,
            refusal: Refusal::default(),
            refuse_refresh: false,
            offline_store: true,
            archive: true,
            reflect_presence: true,
        }
    }
}

impl Switches {
    /// The release of April 2012 brought adding contacts, the archive, nicknames and the look-up of e-mail addresses.
    pub fn is_april_2012(&self) -> bool {
        self.era == Era::April2012
    }

    /// Whether XEP-0136 is there.
    pub fn has_archive(&self) -> bool {
        self.archive && self.is_april_2012()
    }

    /// How long a client may be silent.
    pub fn idle_cut(&self) -> Option<Duration> {
        (self.idle_cut_ms > 0).then(|| Duration::from_millis(self.idle_cut_ms))
    }

    /// Bytes of a stanza that end the stream.
    pub fn stanza_cut(&self) -> usize {
        if self.stanza_limit == 0 { HARD_STANZA_LIMIT } else { self.stanza_limit.min(HARD_STANZA_LIMIT) }
    }
}

/// A release of the service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Era {
    /// The first release: the roster is read-only.
    #[serde(rename = "2011-12")]
    #[value(name = "2011-12")]
    December2011,
    /// The second release: contacts can be added; archive, nicknames, look-up of e-mail addresses.
    #[default]
    #[serde(rename = "2012-04")]
    #[value(name = "2012-04")]
    April2012,
}

/// When a client gets `see-other-host`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Redirect {
    /// Never.
    #[default]
    Never,
    /// The next connection only.
    Once,
    /// Each connection to the front door; the gateway serves.
    Always,
    /// Each connection, the gateway's too.
    Loop,
    /// At the front door, but only after the client has authenticated.
    AfterAuth,
}

/// Who the answer to an IQ without `to` comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IqFrom {
    /// The service's domain, as the service did.
    #[default]
    Domain,
    /// The account's bare JID.
    Bare,
    /// Nobody: there is no `from`.
    None,
}

/// The condition of a refused sign-in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// `not-authorized`
    #[default]
    NotAuthorized,
    /// `credentials-expired`
    CredentialsExpired,
    /// `temporary-auth-failure`
    TemporaryAuthFailure,
}

impl Refusal {
    /// The element's name (RFC 6120 6.5).
    pub fn condition(self) -> &'static str {
        match self {
            Self::NotAuthorized => "not-authorized",
            Self::CredentialsExpired => "credentials-expired",
            Self::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }
}

/// What a Messenger user can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Online.
    Online,
    /// Away.
    Away,
    /// Idle: away, found out by the client.
    Idle,
    /// Be right back.
    BeRightBack,
    /// Out to lunch.
    OutToLunch,
    /// Busy.
    Busy,
    /// On the phone.
    OnThePhone,
    /// Offline.
    Offline,
}

impl Status {
    /// The `<show/>` it becomes for XMPP clients.
    pub fn show(self) -> Option<&'static str> {
        match self {
            Self::Online | Self::Offline => None,
            Self::Away | Self::Idle | Self::BeRightBack | Self::OutToLunch => Some("away"),
            Self::Busy | Self::OnThePhone => Some("dnd"),
        }
    }

    /// What an XMPP client's `<show/>` becomes: Messenger knows neither `xa` nor `chat`.
    pub fn of_show(show: &str) -> Self {
        match show.trim() {
            "away" | "xa" => Self::Away,
            "dnd" => Self::Busy,
            _ => Self::Online,
        }
    }
}
