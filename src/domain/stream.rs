//! What the engine and an XMPP stream tell each other. The stream's own sequence (connect, TLS, SASL, bind or resume)
//! is the shell's; what is said on it after that is the engine's.

use minidom::Element;
use serde::{Deserialize, Serialize};

use super::{BareJid, credentials::Credentials};

/// Asks the XMPP shell to open a stream.
#[derive(Clone, Debug)]
pub struct ConnectOrder {
    /// The name of the network in the configuration: gives address, TLS settings and time-outs.
    pub network: String,
    /// The account; `None` where the token decides who one is (X-MESSENGER-OAUTH2).
    pub account: Option<BareJid>,
    /// The stream's domain (`to` of the stream header).
    pub domain: String,
    /// The resource to ask for at bind (RFC 6120 section 7).
    pub resource: String,
    /// What to sign in with.
    pub credentials: Credentials,
    /// The account has signed in by SCRAM before: a password is never shown to a server that no longer offers it (XEP-0474
    /// section 5, pinning).
    pub scram_only: bool,
    /// A session to resume before a new one is bound (XEP-0198 section 5).
    pub resume: Option<Resume>,
    /// Milliseconds to wait first: backoff, and the staggering of starts.
    pub delay: u64,
}

/// A session that can be resumed (XEP-0198 section 5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The server's `id` of the session (`previid`).
    pub id: String,
    /// Where the server prefers to be resumed (`location`), if it said so.
    pub location: Option<String>,
    /// Stanzas that were handled **and committed** (`h`).
    pub inbound: u32,
}

/// What a stream is told to do. All orders of one stream are carried out in order.
#[derive(Clone, Debug)]
pub enum StreamOrder {
    /// Open it.
    Connect(Box<ConnectOrder>),
    /// Write these stanzas in this order. With stream management the n-th stanza ever sent after `<enable/>` has the
    /// sequence number n; the engine counts alike.
    Send(Vec<Element>),
    /// This many stanzas of the session are committed now: `<a h='…'/>` may say so (on `<r/>` and by itself).
    Ack(u32),
    /// Write what was sent, an `<a/>`, then `</stream:stream>`, and end: the session is over (logout).
    Close,
    /// Tell the server whether the person looks (XEP-0352). It is no stanza and is not counted.
    Activity {
        /// They do.
        active: bool,
    },
    /// End the connection but leave the session resumable (shutdown of the process): `<a/>` is written, then the
    /// connection is dropped without closing the stream.
    Suspend,
}

/// Stream management as the server enabled it (XEP-0198 section 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Management {
    /// The id to resume with; `None` if the server does not allow resumption.
    pub id: Option<String>,
    /// Preferred place to resume.
    pub location: Option<String>,
}

/// A stream is up: bound, or resumed.
#[derive(Clone, Debug)]
pub struct StreamUp {
    /// The account as the server bound it.
    pub account: BareJid,
    /// The bound resource.
    pub resource: String,
    /// `Some(h)` if the session was resumed: how many of our stanzas the server has handled.
    pub resumed: Option<u32>,
    /// `h` of a `<failed/>` resumption, where the server said it: stanzas of the lost session that it did handle.
    pub failed_h: Option<u32>,
    /// Stream management, if the server has it.
    pub management: Option<Management>,
    /// The largest stanza that the server announces to accept, in bytes (XEP-0478).
    pub max_bytes: Option<u32>,
    /// The server offered roster versioning (RFC 6121 section 2.6).
    pub roster_versioning: bool,
    /// The server offered client state indication (XEP-0352).
    pub csi: bool,
    /// What to keep in place of the credentials that were used (SCRAM keys for a password); `None`: keep them.
    pub keep: Option<Credentials>,
    /// The SASL mechanism that was used, for the log and `list-logins`.
    pub mechanism: String,
}

/// What a stream reports. A stream's reports come in the order in which they happened.
#[derive(Clone, Debug)]
pub enum StreamReport {
    /// Signed in.
    Up(Box<StreamUp>),
    /// One stanza (`message`, `presence`, `iq`), raw. Every countable stanza is reported exactly once.
    Stanza(Box<Element>),
    /// The server's `<a h='…'/>`.
    Acked(u32),
    /// The stream is over; nothing follows.
    Down(StreamEnd),
}

/// Why a stream ended, or did not come up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamEnd {
    /// The name does not resolve.
    #[error("there is no server for {host}: its name is not known")]
    UnknownHost {
        /// The domain that was looked up.
        host: String,
    },
    /// No address accepts connections.
    #[error("{host} could not be reached: {detail}")]
    Unreachable {
        /// The host (and port) that was tried last.
        host: String,
        /// What the operating system said.
        detail: String,
    },
    /// The certificate is not valid for the service.
    #[error("the certificate of {host} cannot be trusted: {detail}")]
    Certificate {
        /// The name that was checked.
        host: String,
        /// What is wrong with it, in words.
        detail: String,
    },
    /// TLS failed for another reason, or is not offered.
    #[error("no secure connection to {host}: {detail}")]
    Tls {
        /// The host.
        host: String,
        /// What happened.
        detail: String,
    },
    /// Something answered that does not speak XMPP.
    #[error("{host} answered, but it is not an XMPP server")]
    NotXmpp {
        /// The host.
        host: String,
    },
    /// No SASL mechanism fits what the login holds.
    #[error("{host} offers no way to sign in that fits: it offers {offered}")]
    NoCommonMechanism {
        /// The host.
        host: String,
        /// The names that it offers, comma separated.
        offered: String,
    },
    /// The server refused the credentials.
    #[error("the sign-in was refused")]
    Refused(Refusal),
    /// The server's proof of knowing the password was wrong (RFC 5802 section 5): someone may be in between.
    #[error("{host} could not prove that it knows the account: the connection may not be safe")]
    ServerNotVerified {
        /// The host.
        host: String,
    },
    /// SCRAM keys are kept, but the server has changed salt, iterations or mechanism: the password is needed again.
    #[error("the server has changed how it stores the password: sign in again")]
    KeysOutdated,
    /// SCRAM was used before, and what is offered now would show the password: someone may have taken SCRAM away.
    #[error(
        "{host} no longer offers the safe way to sign in that it had before (it offers {offered}): someone may be in \
         between, so the password was not sent"
    )]
    Downgraded {
        /// The host.
        host: String,
        /// The names that it offers, comma separated.
        offered: String,
    },
    /// The list of mechanisms that came is not the one that the server made (XEP-0474 section 4.2).
    #[error("what {host} offers for signing in was changed on the way: the connection is not safe")]
    Tampered {
        /// The host.
        host: String,
    },
    /// Bind or session failed.
    #[error("the server did not open a session: {condition}")]
    BindRefused {
        /// The stanza error condition.
        condition: String,
    },
    /// The server sent us elsewhere too often, or in a circle.
    #[error("the server redirected too many times")]
    TooManyRedirects,
    /// A `<stream:error/>` (RFC 6120 section 4.9).
    #[error("the server ended the stream: {condition}")]
    StreamError {
        /// The defined condition.
        condition: String,
        /// The text beside it.
        text: Option<String>,
    },
    /// Nothing came in time.
    #[error("the server did not answer in time ({phase})")]
    TimedOut {
        /// What was waited for.
        phase: String,
    },
    /// The connection was closed or broke.
    #[error("the connection was lost: {detail}")]
    Lost {
        /// What the operating system or the parser said.
        detail: String,
    },
    /// Ended because we asked for it.
    #[error("closed")]
    Closed,
}

/// How the server refused the sign-in (RFC 6120 section 6.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `not-authorized` and what means the same.
    NotAuthorized,
    /// `credentials-expired`.
    Expired,
    /// `account-disabled`.
    Disabled,
    /// `temporary-auth-failure`: worth another try later.
    Temporary,
    /// Any other condition, as sent.
    Other(String),
}
