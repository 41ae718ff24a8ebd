//! What a network can do: partly fixed by its profile, partly found out on the stream. Rules ask these, never the
//! profile's name.

use serde::{Deserialize, Serialize};

/// Which archive a network keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Archive {
    /// None that is known.
    None,
    /// XEP-0313, with stable ids.
    Mam,
    /// XEP-0136: the last messages of a conversation, without ids.
    Recent,
}

/// The largest stanza that is sent to a server that announces no limit (XEP-0478), in bytes.
pub const DEFAULT_MAX_STANZA: u32 = 64 * 1024;

/// What is fixed by a network's profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The name in `m.bridge` (`protocol.id`) and in the registration's `protocols`.
    pub protocol: &'static str,
    /// How people call it.
    pub display_name: &'static str,
    /// The token says who one is (X-MESSENGER-OAUTH2): no JID is asked for at sign-in.
    pub token_decides_account: bool,
    /// Roster sets are allowed: remove and rename (adding is tried everywhere).
    pub roster_writes: bool,
    /// Archive where discovery says nothing.
    pub archive: Archive,
    /// Ask the server and the account what they can do (XEP-0030).
    pub discovers: bool,
    /// Chat states go to every contact, unasked.
    pub chat_states_always: bool,
    /// The largest stanza to send unless the server announces another limit, in bytes.
    pub max_stanza: u32,
    /// Only vcard-temp exists, and may only be fetched.
    pub vcard_fetch_only: bool,
    /// Stanzas may carry more than text and chat states.
    pub extensible: bool,
    /// `xa` and `chat` are not known to the network.
    pub plain_show: bool,
    /// XML namespace of the e-mail to JID look-up, where the network has one.
    pub jid_lookup: Option<&'static str>,
}

/// Windows Live Messenger's XMPP service.
pub const MESSENGER: Profile = Profile {
    protocol: "messenger",
    display_name: "Messenger",
    token_decides_account: true,
    roster_writes: false,
    archive: Archive::Recent,
    discovers: false,
    chat_states_always: true,
    max_stanza: 12 * 1024,
    vcard_fetch_only: true,
    extensible: false,
    plain_show: true,
    jid_lookup: Some("http://messenger.live.com/xmpp/jidlookup"),
};

/// Any server that follows the standards.
pub const XMPP: Profile = Profile {
    protocol: "xmpp",
    display_name: "XMPP",
    token_decides_account: false,
    roster_writes: true,
    archive: Archive::None,
    discovers: true,
    chat_states_always: false,
    max_stanza: DEFAULT_MAX_STANZA,
    vcard_fetch_only: false,
    extensible: true,
    plain_show: false,
    jid_lookup: None,
};
