//! Room upgrades: `m.room.tombstone` and the `predecessor` of `m.room.create` -> which room replaces which.

use ruma::OwnedRoomId;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The event by which a room ends and another takes its place.
pub const TOMBSTONE: &str = "m.room.tombstone";
/// A room's first event.
pub const CREATE: &str = "m.room.create";

/// The room that takes a room's place, by its tombstone.
pub fn replacement(tombstone: &RawValue) -> Option<OwnedRoomId> {
    #[derive(Deserialize)]
    struct Tombstone {
        replacement_room: OwnedRoomId,
    }
    serde_json::from_str::<Tombstone>(tombstone.get()).ok().map(|content| content.replacement_room)
}

/// The room whose place a room takes, by the content of its `m.room.create`.
pub fn predecessor(create: &str) -> Option<OwnedRoomId> {
    #[derive(Deserialize)]
    struct Create {
        predecessor: Predecessor,
    }
    #[derive(Deserialize)]
    struct Predecessor {
        room_id: OwnedRoomId,
    }
    serde_json::from_str::<Create>(create).ok().map(|content| content.predecessor.room_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Matrix CS API, `m.room.tombstone` and `m.room.create`, examples.
    #[test]
    fn both_ends_of_an_upgrade() {
        let tombstone = r#"{"body":"This room has been replaced","replacement_room":"!newroom:example.org"}"#;
        let tombstone = RawValue::from_string(tombstone.to_owned()).unwrap();
        assert_eq!(replacement(&tombstone).unwrap(), "!newroom:example.org");
        let create = r#"{"creator":"@example:example.org","room_version":"11","predecessor":{"event_id":"$something:example.org","room_id":"!oldroom:example.org"}}"#;
        assert_eq!(predecessor(create).unwrap(), "!oldroom:example.org");
        assert_eq!(predecessor("{}"), None);
    }
}
