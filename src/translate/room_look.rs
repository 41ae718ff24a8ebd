//! How a portal's room looks: `m.room.name`, `m.room.avatar`, `m.room.topic`, `io.element.functional_members` -> who decides it,
//! and the contact's name, picture and address.

use serde_json::{json, value::RawValue};

use crate::{
    bridge::{
        Bridge,
        look::{AVATAR, NAME, TOPIC, avatar, topic},
    },
    domain::effect::ContactKey,
    store::{
        StoreError,
        look::{Decided, Look},
    },
};

/// Members that serve the room and are no part of the talk (MSC4171): clients leave them out of a room's name.
pub const FUNCTIONAL: &str = "io.element.functional_members";

/// The content of [`FUNCTIONAL`]: the bot.
pub fn functional(bridge: &Bridge) -> String {
    json!({ "service_members": [bridge.homeserver.bot] }).to_string()
}

/// The initial state of a portal's room beside its name and what says that it is bridged: (type, state key, JSON content).
pub fn state(bridge: &Bridge, contact: &ContactKey) -> Result<Vec<(String, String, String)>, StoreError> {
    let plain = |kind: &str, content| (kind.to_owned(), String::new(), content);
    let mut state = vec![plain(FUNCTIONAL, functional(bridge)), plain(TOPIC, topic(contact))];
    if let Some(photo) = bridge.store.look(contact)?.avatar {
        state.push(plain(AVATAR, avatar(Some(&photo))));
    }
    Ok(state)
}

/// Notes who decides the part that is set by events of this type.
pub fn decide(look: &mut Look, kind: &str, by: Decided) {
    match kind {
        NAME => look.name_by = by,
        AVATAR => look.avatar_by = by,
        TOPIC => look.topic_by = by,
        _ => {}
    }
}

/// What someone else's state event decides: the person has set their own name, picture or topic, or wants none.
pub fn from_matrix(kind: &str, content: &RawValue) -> Option<Decided> {
    let field = match kind {
        NAME => "name",
        AVATAR => "url",
        TOPIC => "topic",
        _ => return None,
    };
    let content: serde_json::Map<String, serde_json::Value> = serde_json::from_str(content.get()).unwrap_or_default();
    let given = content.get(field).and_then(|value| value.as_str()).is_some_and(|value| !value.trim().is_empty());
    Some(if given { Decided::Person } else { Decided::Emptied })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_set_or_emptied() {
        let read = |kind: &str, content: &str| from_matrix(kind, &RawValue::from_string(content.to_owned()).unwrap());
        assert_eq!(read(NAME, r#"{"name":"My love"}"#), Some(Decided::Person));
        assert_eq!(read(NAME, r#"{"name":" "}"#), Some(Decided::Emptied));
        assert_eq!(read(AVATAR, "{}"), Some(Decided::Emptied));
        assert_eq!(read(TOPIC, r#"{"topic":7}"#), Some(Decided::Emptied));
        assert_eq!(read("m.room.join_rules", "{}"), None);
    }
}
