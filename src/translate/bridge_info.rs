//! What a portal is: `m.bridge` and `uk.half-shot.bridge` (MSC2346), from which the mapping can be rebuilt.

use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{
    bridge::{Bridge, Network},
    domain::{BareJid, LoginId, effect::ContactKey},
    store::{StoreError, login::Login},
};

/// The private key that marks what this bridge sent: `{instance}-{debt}`.
pub const DEBT: &str = "org.messenger_bridge.debt";

/// The private key that proves that what this bridge sent in a person's own name is not the person's own: of the room, the
/// sender, the time and the debt, so that a copy of it proves nothing.
pub const PUPPET: &str = "org.messenger_bridge.puppet";

/// The state key of a portal's bridge state.
pub fn state_key(login: &Login, protocol: &str) -> String {
    format!("org.messenger_bridge://{protocol}/{}", login.id)
}

/// Which portal a room is by the content of its `m.bridge`, which only the bot's own event may tell.
pub fn portal_of(content: &RawValue) -> Option<ContactKey> {
    #[derive(Deserialize)]
    struct Content {
        channel: Channel,
    }
    #[derive(Deserialize)]
    struct Channel {
        id: String,
        #[serde(rename = "org.messenger_bridge.login")]
        login: String,
    }
    let Content { channel } = serde_json::from_str(content.get()).ok()?;
    Some(ContactKey { login: LoginId::parse(&channel.login)?, contact: BareJid::parse(&channel.id).ok()? })
}

/// What a portal's `m.bridge` says, which only the bot's own event may tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeState {
    /// Which portal it is.
    pub portal: ContactKey,
    /// Whose login it is of.
    pub owner: OwnedUserId,
    /// The network's name in the configuration.
    pub network: String,
    /// The account.
    pub account: BareJid,
}

/// Reads all of a portal's `m.bridge`. `None` where a part is missing, or where the login is not the one that its owner,
/// network and account give.
pub fn read(content: &RawValue) -> Option<BridgeState> {
    #[derive(Deserialize)]
    struct Content {
        creator: OwnedUserId,
        network: Network,
        channel: Channel,
    }
    #[derive(Deserialize)]
    struct Network {
        id: String,
    }
    #[derive(Deserialize)]
    struct Channel {
        #[serde(rename = "org.messenger_bridge.account")]
        account: String,
    }
    let portal = portal_of(content)?;
    let Content { creator: owner, network, channel } = serde_json::from_str(content.get()).ok()?;
    let account = BareJid::parse(&channel.account).ok()?;
    let derived = LoginId::derive(owner.as_str(), &network.id, account.as_str());
    (derived == portal.login).then_some(BridgeState { portal, owner, network: network.id, account })
}

/// The initial state of a portal's room: (type, state key, JSON content).
pub fn state(
    bridge: &Bridge,
    contact: &ContactKey,
    login: &Login,
    network: &Network,
) -> Result<Vec<(String, String, String)>, StoreError> {
    let profile = &network.profile;
    let content = json!({
        "bridgebot": bridge.homeserver.bot,
        "creator": login.owner,
        "protocol": { "id": profile.protocol, "displayname": profile.display_name },
        "network": { "id": login.network, "displayname": network.domain.as_deref().unwrap_or(login.account.domain()) },
        "channel": {
            "id": contact.contact.as_str(),
            // The same at every try, whatever the contact is called by then: a room whose answer was lost is found by it.
            "displayname": contact.contact.as_str(),
            "org.messenger_bridge.login": login.id.as_str(),
            "org.messenger_bridge.account": login.account.as_str(),
        },
        "com.beeper.room_type": "dm",
    })
    .to_string();
    let key = state_key(login, profile.protocol);
    Ok(["m.bridge", "uk.half-shot.bridge"]
        .into_iter()
        .map(|kind| (kind.to_owned(), key.clone(), content.clone()))
        .collect())
}
