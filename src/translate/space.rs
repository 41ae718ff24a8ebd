//! Spaces: `m.space` and `m.space.child` -> the account of a login and its rooms.

use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{
    bridge::{Bridge, Network},
    domain::LoginId,
    store::login::Login,
};

/// The type of the event by which our own space is known; its state key is the login's id.
pub const MARK: &str = "org.messenger_bridge.space";
/// The type of the event that puts a room into a space.
pub const CHILD: &str = "m.space.child";

/// The name of a login's space.
pub fn name(login: &Login, network: &Network) -> String {
    format!("{} ({})", network.profile.display_name, login.account)
}

/// The initial state of a login's space: (type, state key, JSON content). The same at every try: a space whose answer was lost
/// is found by it.
pub fn state(login: &Login) -> Vec<(String, String, String)> {
    let content = json!({ "login": login.id.as_str(), "network": login.network, "account": login.account.as_str() });
    vec![(MARK.to_owned(), login.id.to_string(), content.to_string())]
}

/// Which login's space a room is by the content of its [`MARK`], which only the bot's own event may tell.
pub fn login_of(content: &RawValue) -> Option<LoginId> {
    #[derive(Deserialize)]
    struct Content {
        login: String,
    }
    let Content { login } = serde_json::from_str(content.get()).ok()?;
    LoginId::parse(&login)
}

/// The content of [`CHILD`]; empty takes the room out.
pub fn child(bridge: &Bridge, listed: bool) -> String {
    if listed { json!({ "via": [bridge.homeserver.name] }) } else { json!({}) }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_names_the_login() {
        let login = LoginId::derive("@romeo:h.test", "xmpp", "romeo@montague.lit");
        let content = RawValue::from_string(json!({ "login": login.as_str() }).to_string()).unwrap();
        assert_eq!(login_of(&content), Some(login));
        assert_eq!(login_of(&RawValue::from_string("{}".to_owned()).unwrap()), None);
    }
}
