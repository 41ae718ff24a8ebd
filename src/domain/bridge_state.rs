//! How the bridge and its logins are, as programs that look after bridges want to be told (the bridge states of mautrix's
//! bridgev2, `status/bridgestate.go`): names, fields and lifetimes are theirs.

use ruma::OwnedUserId;
use serde_json::{Value, json};

use super::{BareJid, LoginId, Timestamp, request::Connection, stream::StreamEnd};

/// The key under which a notice of the bot holds a state.
pub const CONTENT_KEY: &str = "fi.mau.bridge_state";

/// A state holds so long, in seconds, unless another one is told.
const TTL: u64 = 21_600;
/// The same of one with an error.
const TTL_OF_ERROR: u64 = 3_600;

/// What is the matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateEvent {
    /// The process starts. Of the bridge.
    Starting,
    /// Nobody is signed in. Of the bridge.
    Unconfigured,
    /// Somebody is. Of the bridge.
    Running,
    /// It connects for the first time. Of a login, as all that follow.
    Connecting,
    /// It is connected and fetches what it has missed.
    Backfilling,
    /// It is on line.
    Connected,
    /// It is not, and goes on trying.
    TransientDisconnect,
    /// It is not until the person signs in again.
    BadCredentials,
    /// The person has signed out.
    LoggedOut,
    /// It is not, and trying alone may not mend it.
    UnknownError,
}

impl StateEvent {
    /// Its name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Unconfigured => "UNCONFIGURED",
            Self::Running => "RUNNING",
            Self::Connecting => "CONNECTING",
            Self::Backfilling => "BACKFILLING",
            Self::Connected => "CONNECTED",
            Self::TransientDisconnect => "TRANSIENT_DISCONNECT",
            Self::BadCredentials => "BAD_CREDENTIALS",
            Self::LoggedOut => "LOGGED_OUT",
            Self::UnknownError => "UNKNOWN_ERROR",
        }
    }
}

impl From<Connection> for StateEvent {
    fn from(connection: Connection) -> Self {
        match connection {
            Connection::Connecting => Self::Connecting,
            Connection::CatchingUp => Self::Backfilling,
            Connection::Connected => Self::Connected,
            Connection::Down => Self::TransientDisconnect,
            Connection::SignedOut => Self::BadCredentials,
        }
    }
}

/// Whose state it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The login.
    pub login: LoginId,
    /// Its owner.
    pub owner: OwnedUserId,
    /// Its account.
    pub account: BareJid,
    /// The name that the person gave themselves there.
    pub name: Option<String>,
}

/// The state of the bridge, or of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeState {
    /// Whose; `None`: of the bridge.
    pub remote: Option<Remote>,
    /// What.
    pub event: StateEvent,
    /// Since when.
    pub at: Timestamp,
    /// What went wrong, for programs; `None`: nothing.
    pub error: Option<&'static str>,
    /// The same for people, without a full stop.
    pub message: Option<String>,
}

impl BridgeState {
    /// The state of the bridge.
    pub fn of_bridge(event: StateEvent, at: Timestamp) -> Self {
        Self { remote: None, event, at, error: None, message: None }
    }

    /// Does it say the same (bridgev2's `ShouldDeduplicate`)? When it began, and how it is said, makes no difference.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.event == other.event && self.error == other.error && self.remote == other.remote
    }

    /// For how many seconds it holds.
    pub fn ttl(&self) -> u64 {
        if self.error.is_some() { TTL_OF_ERROR } else { TTL }
    }

    /// What the person can do.
    pub fn user_action(&self) -> Option<&'static str> {
        (self.event == StateEvent::BadCredentials).then_some("RELOGIN")
    }

    /// As bridgev2 writes it; `timestamp` in seconds.
    pub fn to_json(&self) -> Value {
        let mut json = json!({
            "state_event": self.event.as_str(),
            "timestamp": self.at.0.div_euclid(1000),
            "ttl": self.ttl(),
            "source": "bridge",
        });
        let mut set = |key: &str, value: Value| json[key] = value;
        if let Some(error) = self.error {
            set("error", error.into());
        }
        if let Some(message) = &self.message {
            set("message", message.as_str().into());
        }
        if let Some(action) = self.user_action() {
            set("user_action", action.into());
        }
        if let Some(remote) = &self.remote {
            set("user_id", remote.owner.as_str().into());
            set("remote_id", remote.login.as_str().into());
            set("remote_name", remote.account.as_str().into());
            set("remote_profile", remote.profile());
        }
        json
    }
}

impl Remote {
    /// Who the person is on the other side.
    pub fn profile(&self) -> Value {
        profile(&self.account, self.name.as_deref())
    }
}

/// A `RemoteProfile` of bridgev2.
pub fn profile(account: &BareJid, name: Option<&str>) -> Value {
    match name {
        Some(name) => json!({ "username": account.as_str(), "name": name }),
        None => json!({ "username": account.as_str() }),
    }
}

/// The code of a stream's end, and whether trying alone may mend it.
pub fn error_of(end: &StreamEnd) -> (&'static str, bool) {
    match end {
        StreamEnd::UnknownHost { .. } => ("xmpp-unknown-host", true),
        StreamEnd::Unreachable { .. } => ("xmpp-unreachable", true),
        StreamEnd::Certificate { .. } => ("xmpp-certificate", false),
        StreamEnd::Tls { .. } => ("xmpp-tls", true),
        StreamEnd::NotXmpp { .. } => ("xmpp-no-xmpp", false),
        StreamEnd::NoCommonMechanism { .. } => ("xmpp-no-mechanism", false),
        StreamEnd::Refused(_) => ("xmpp-refused", true),
        StreamEnd::ServerNotVerified { .. } => ("xmpp-server-not-verified", false),
        StreamEnd::KeysOutdated => ("xmpp-keys-outdated", false),
        StreamEnd::Downgraded { .. } => ("xmpp-downgraded", false),
        StreamEnd::Tampered { .. } => ("xmpp-tampered", false),
        StreamEnd::BindRefused { .. } => ("xmpp-bind-refused", true),
        StreamEnd::TooManyRedirects => ("xmpp-redirects", true),
        StreamEnd::StreamError { .. } => ("xmpp-stream-error", true),
        StreamEnd::TimedOut { .. } => ("xmpp-timeout", true),
        StreamEnd::Lost { .. } => ("xmpp-lost", true),
        StreamEnd::Closed => ("xmpp-closed", true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_written_as_bridgev2_writes_it() {
        let starting = BridgeState::of_bridge(StateEvent::Starting, Timestamp(1_774_000_000_999));
        assert_eq!(
            starting.to_json(),
            json!({ "state_event": "STARTING", "timestamp": 1_774_000_000, "ttl": 21_600, "source": "bridge" })
        );
        let account = BareJid::parse("romeo@x.test").unwrap();
        let login = LoginId::derive("@romeo:h.test", "xmpp", "romeo@x.test");
        let remote = Remote { login: login.clone(), owner: ruma::owned_user_id!("@romeo:h.test"), account, name: None };
        let wrong = BridgeState {
            remote: Some(remote),
            event: StateEvent::BadCredentials,
            error: Some("xmpp-signed-out"),
            message: Some("the sign-in was refused".to_owned()),
            ..starting
        };
        assert_eq!(
            wrong.to_json(),
            json!({
                "state_event": "BAD_CREDENTIALS", "timestamp": 1_774_000_000, "ttl": 3_600, "source": "bridge",
                "error": "xmpp-signed-out", "message": "the sign-in was refused", "user_action": "RELOGIN",
                "user_id": "@romeo:h.test", "remote_id": login.as_str(), "remote_name": "romeo@x.test",
                "remote_profile": { "username": "romeo@x.test" },
            })
        );
        let later = BridgeState { at: Timestamp(0), message: None, ..wrong.clone() };
        assert!(wrong.says_the_same(&later));
        assert!(!wrong.says_the_same(&BridgeState { error: None, ..later }));
    }
}
