//! What a portal is: `m.bridge` and `uk.half-shot.bridge` (MSC2346), from which the mapping can be rebuilt.

use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{
    bridge::{Bridge, Network},
    domain::{BareJid, LoginId, effect::ContactKey},
    store::{StoreError, login::Login},
};

/// The private key that marks what this bridge sent: `{instance}-{debt}`.
pub const DEBT: &str = "org.messenger_bridge.debt";

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
