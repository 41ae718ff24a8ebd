//! What a portal is: `m.bridge` and `uk.half-shot.bridge` (MSC2346), from which the mapping can be rebuilt.

use serde_json::json;

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

/// Whose room a bridge state of ours names.
pub fn read(content: &str) -> Option<ContactKey> {
    #[derive(serde::Deserialize)]
    struct State {
        channel: Channel,
    }
    #[derive(serde::Deserialize)]
    struct Channel {
        id: String,
        #[serde(rename = "org.messenger_bridge.login")]
        login: String,
    }
    let State { channel } = serde_json::from_str(content).ok()?;
    Some(ContactKey { login: LoginId::parse(&channel.login)?, contact: BareJid::parse(&channel.id).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_another_bridge_names_nobody() {
        let ours = r#"{"channel":{"id":"juliet@capulet.lit","org.messenger_bridge.login":"abcdefghij"}}"#;
        assert_eq!(read(ours).map(|key| key.contact.to_string()).as_deref(), Some("juliet@capulet.lit"));
        assert_eq!(read(r#"{"channel":{"id":"juliet@capulet.lit"}}"#), None);
        assert_eq!(read(r#"{"channel":{"id":"","org.messenger_bridge.login":"abcdefghij"}}"#), None);
    }
}
