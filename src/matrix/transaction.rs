//! Reading a transaction (Matrix AS API, `PUT /_matrix/app/v1/transactions/{txnId}`), each part on its own.
//!
//! A homeserver repeats a refused transaction for ever, so one broken event must not refuse the others: what cannot be
//! read is counted and left out. Only a body that is no JSON object is refused.

use std::{borrow::Cow, collections::HashMap};

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId,
    api::appservice::event::push_events,
    api::{Metadata, path_builder::PathBuilder},
    presence::PresenceState,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use super::counters::{Count, Counters};
use crate::domain::{
    Timestamp,
    input::{EphemeralEvent, RoomEvent},
};

/// What a transaction holds.
#[derive(Debug, Default)]
pub struct Transaction {
    /// The room events that could be read, in order.
    pub events: Vec<RoomEvent>,
    /// The ephemeral events that could be read.
    pub ephemeral: Vec<EphemeralEvent>,
    /// Under which keys the homeserver sends ephemeral events, if only none of them: what the registration that it uses asks for.
    pub flags: Flags,
}

/// What a homeserver's registration of us asks for, as its transactions show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    /// `receive_ephemeral`.
    pub receive_ephemeral: bool,
    /// `de.sorunome.msc2409.push_ephemeral`.
    pub push_ephemeral: bool,
}

/// Why a body is no transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTransaction {
    /// Not JSON.
    #[error("The body is not JSON.")]
    NotJson,
    /// JSON, but not an object.
    #[error("The body is not a JSON object.")]
    NotAnObject,
}

/// The path of the endpoint, as ruma and axum spell it.
pub fn path() -> &'static str {
    <push_events::v1::Request as Metadata>::PATH_BUILDER
        .all_paths()
        .next()
        .unwrap_or("/_matrix/app/v1/transactions/{txn_id}")
}

/// Reads a transaction's body, counting what is left out.
pub fn parse(body: &[u8], counters: &Counters) -> Result<Transaction, NoTransaction> {
    // Bytes that are not UTF-8 spoil their own event, not the transaction.
    let text = String::from_utf8_lossy(body);
    // A map, not a struct: it does not mind keys that come twice.
    let parts: HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(&text).map_err(|_| match serde_json::from_str::<&RawValue>(&text) {
            Ok(_) => NoTransaction::NotAnObject,
            Err(_) => NoTransaction::NotJson,
        })?;
    let mut transaction = Transaction::default();
    for raw in list(parts.get("events").copied(), counters) {
        match event(raw, None) {
            Some(event) => transaction.events.push(event),
            None => counters.add(Count::EventBroken),
        }
    }
    transaction.flags = Flags {
        receive_ephemeral: parts.contains_key("ephemeral"),
        push_ephemeral: parts.contains_key("de.sorunome.msc2409.ephemeral"),
    };
    // A homeserver that was told both the stable and the unstable key sends each ephemeral event under both.
    let ephemeral_part = parts.get("ephemeral").or_else(|| parts.get("de.sorunome.msc2409.ephemeral"));
    for raw in list(ephemeral_part.copied(), counters) {
        ephemeral(raw, &mut transaction.ephemeral, counters);
    }
    Ok(transaction)
}

fn list<'a>(part: Option<&'a RawValue>, counters: &Counters) -> Vec<&'a RawValue> {
    let Some(part) = part else { return Vec::new() };
    if let Ok(list) = serde_json::from_str::<Option<Vec<&RawValue>>>(part.get()) {
        return list.unwrap_or_default();
    }
    counters.add(Count::ListBroken);
    Vec::new()
}

/// What every room event has (Matrix CS API, "Room event format").
#[derive(Deserialize)]
struct WireEvent<'a> {
    #[serde(default)]
    room_id: Option<OwnedRoomId>,
    event_id: OwnedEventId,
    sender: OwnedUserId,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    state_key: Option<String>,
    origin_server_ts: serde_json::Number,
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(default)]
    redacts: Option<Value>,
}

/// Reads a room event; `None` where it is not one. `room` is where it stands if it does not say so itself.
pub(super) fn event(raw: &RawValue, room: Option<&RoomId>) -> Option<RoomEvent> {
    let wire: WireEvent<'_> = serde_json::from_str(raw.get()).ok()?;
    if !wire.content.get().starts_with('{') {
        return None;
    }
    let redacts = if wire.kind == "m.room.redaction" { redacts(&wire) } else { None };
    Some(RoomEvent {
        room: room.map(RoomId::to_owned).or(wire.room_id)?,
        id: wire.event_id,
        sender: wire.sender,
        kind: wire.kind,
        state_key: wire.state_key,
        at: timestamp(&wire.origin_server_ts),
        content: wire.content.to_owned(),
        redacts,
    })
}

/// `redacts` stands in the content since room version 11, and beside it before.
fn redacts(wire: &WireEvent<'_>) -> Option<OwnedEventId> {
    #[derive(Deserialize)]
    struct Content {
        redacts: Value,
    }
    let inner = serde_json::from_str::<Content>(wire.content.get()).ok().map(|content| content.redacts);
    inner.iter().chain(wire.redacts.iter()).find_map(|value| value.as_str()?.try_into().ok())
}

/// Milliseconds; some servers wrote them with a fraction.
fn timestamp(number: &serde_json::Number) -> Timestamp {
    #[allow(clippy::cast_possible_truncation)] // `as` saturates, which is what is wanted
    let millis = number.as_i64().unwrap_or_else(|| number.as_f64().unwrap_or_default() as i64);
    Timestamp(millis)
}

#[derive(Deserialize)]
struct WireEphemeral<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    room_id: Option<OwnedRoomId>,
    #[serde(default)]
    sender: Option<OwnedUserId>,
    #[serde(borrow)]
    content: &'a RawValue,
}

fn ephemeral(raw: &RawValue, into: &mut Vec<EphemeralEvent>, counters: &Counters) {
    let read = serde_json::from_str::<WireEphemeral<'_>>(raw.get()).ok().and_then(|wire| match wire.kind.as_str() {
        "m.typing" => typing(wire, into, counters),
        "m.receipt" => receipts(&wire, into, counters),
        "m.presence" => presence(wire, into),
        _ => {
            counters.add(Count::EphemeralUnknown);
            Some(())
        }
    });
    if read.is_none() {
        counters.add(Count::EphemeralBroken);
    }
}

fn content<T: DeserializeOwned>(wire: &WireEphemeral<'_>) -> Option<T> {
    serde_json::from_str(wire.content.get()).ok()
}

fn typing(wire: WireEphemeral<'_>, into: &mut Vec<EphemeralEvent>, counters: &Counters) -> Option<()> {
    #[derive(Deserialize)]
    struct Typing {
        user_ids: Vec<Value>,
    }
    let typing: Typing = content(&wire)?;
    let users = typing.user_ids.iter().filter_map(|user| {
        let id = user.as_str().and_then(|id| OwnedUserId::try_from(id).ok());
        if id.is_none() {
            counters.add(Count::EphemeralBroken);
        }
        id
    });
    into.push(EphemeralEvent::Typing { users: users.collect(), room: wire.room_id? });
    Some(())
}

fn receipts(wire: &WireEphemeral<'_>, into: &mut Vec<EphemeralEvent>, counters: &Counters) -> Option<()> {
    let room = wire.room_id.as_ref()?;
    let events: serde_json::Map<String, Value> = content(wire)?;
    for (event, types) in events {
        let (Ok(event), Value::Object(types)) = (OwnedEventId::try_from(event), types) else {
            counters.add(Count::EphemeralBroken);
            continue;
        };
        for (kind, users) in types {
            match (kind.as_str(), users) {
                ("m.read", Value::Object(users)) => {
                    for user in users.keys() {
                        match OwnedUserId::try_from(user.as_str()) {
                            Ok(user) => {
                                let event = event.clone();
                                into.push(EphemeralEvent::Read { room: room.clone(), user, event });
                            }
                            Err(_) => counters.add(Count::EphemeralBroken),
                        }
                    }
                }
                ("m.read", _) => counters.add(Count::EphemeralBroken),
                _ => counters.add(Count::ReceiptOther),
            }
        }
    }
    Some(())
}

fn presence(wire: WireEphemeral<'_>, into: &mut Vec<EphemeralEvent>) -> Option<()> {
    #[derive(Deserialize)]
    struct Told {
        presence: PresenceState,
        #[serde(default)]
        status_msg: Value,
        #[serde(default)]
        last_active_ago: Value,
        #[serde(default)]
        currently_active: Value,
    }
    let presence: Told = content(&wire)?;
    let status = presence.status_msg.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let last_active_ago = presence.last_active_ago.as_u64().filter(|_| presence.currently_active != Value::Bool(true));
    into.push(EphemeralEvent::Presence { user: wire.sender?, state: presence.presence, status, last_active_ago });
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> (Transaction, Counters) {
        let counters = Counters::default();
        (parse(body.as_bytes(), &counters).unwrap(), counters)
    }

    fn message(id: &str, content: &str) -> String {
        format!(
            r#"{{"type":"m.room.message","room_id":"!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM","event_id":"{id}",
            "sender":"@a:h","origin_server_ts":1700000000000,"content":{content},"unsigned":{{"age":1}}}}"#
        )
    }

    #[test]
    fn broken_events_are_left_out_and_the_others_stay() {
        let good = message("$1", r#"{"msgtype":"m.text","body":"hi"}"#);
        let odd = message("$2", r#"{"n":1e400,"body":"\ud800"}"#);
        let body = format!(
            r#"{{"events":[{good},null,7,{{}},{{"type":5}},{},{odd}],"ephemeral":null,"events_":1}}"#,
            message("$3", "[]")
        );
        let (transaction, counters) = read(&body);
        let ids: Vec<_> = transaction.events.iter().map(|e| e.id.as_str()).collect();
        assert_eq!(ids, ["$1", "$2"]);
        assert_eq!(counters.get(Count::EventBroken), 5);
        assert_eq!(transaction.events[0].at, Timestamp(1_700_000_000_000));
        assert_eq!(transaction.events[0].content.get(), r#"{"msgtype":"m.text","body":"hi"}"#);
    }

    #[test]
    fn only_a_body_that_is_no_object_is_refused() {
        let counters = Counters::default();
        for (body, why) in [
            ("", NoTransaction::NotJson),
            ("<html>", NoTransaction::NotJson),
            (r#"{"events":[}"#, NoTransaction::NotJson),
            ("[]", NoTransaction::NotAnObject),
            ("3", NoTransaction::NotAnObject),
        ] {
            assert_eq!(parse(body.as_bytes(), &counters).unwrap_err(), why, "{body}");
        }
        for body in [r"{}", r#"{"events":{}}"#, r#"{"events":[],"events":[]}"#, r#"{"ephemeral":null}"#] {
            assert!(parse(body.as_bytes(), &counters).unwrap().events.is_empty(), "{body}");
        }
        assert_eq!(counters.get(Count::ListBroken), 1);
    }

    #[test]
    fn bytes_that_are_not_utf8_spoil_nothing_else() {
        let mut body = format!(r#"{{"events":[{},{{"x":""#, message("$1", "{}")).into_bytes();
        body.extend([0xff, 0xfe]);
        body.extend(br#""}]}"#);
        let counters = Counters::default();
        assert_eq!(parse(&body, &counters).unwrap().events.len(), 1);
        assert_eq!(counters.get(Count::EventBroken), 1);
    }

    #[test]
    fn ephemeral_events_are_read_from_one_key_only() {
        let typing = r#"{"type":"m.typing","room_id":"!r:h","content":{"user_ids":["@a:h",3,"nobody"]}}"#;
        let both = format!(r#"{{"events":[],"ephemeral":[{typing}],"de.sorunome.msc2409.ephemeral":[{typing}]}}"#);
        let (transaction, counters) = read(&both);
        assert_eq!(transaction.ephemeral.len(), 1);
        assert_eq!(counters.get(Count::EphemeralBroken), 2);
        let (transaction, _) = read(&format!(r#"{{"de.sorunome.msc2409.ephemeral":[{typing}]}}"#));
        let [EphemeralEvent::Typing { room, users }] = &transaction.ephemeral[..] else { panic!("{transaction:?}") };
        assert_eq!((room.as_str(), users.len(), users[0].as_str()), ("!r:h", 1, "@a:h"));
    }

    #[test]
    fn receipts_and_presence_are_read_leniently() {
        let body = r#"{"ephemeral":[
            {"type":"m.receipt","room_id":"!r:h","content":{"$1":{"m.read":{"@a:h":{"ts":1},"bad":{}},"m.read.private":{}},"bad":{}}},
            {"type":"m.presence","sender":"@a:h","content":{"presence":"org.matrix.msc3026.busy","status_msg":7,"last_active_ago":"x"}},
            {"type":"m.presence","content":{"presence":"online"}},
            {"type":"m.presence","sender":"@b:h","content":{"presence":"online","status_msg":"hello","last_active_ago":5,"currently_active":true}},
            {"type":"m.presence","sender":"@c:h","content":{"presence":"unavailable","last_active_ago":300000,"currently_active":false}},
            {"type":"org.example.new","content":{}}]}"#;
        let (transaction, counters) = read(body);
        let [
            EphemeralEvent::Read { event, .. },
            EphemeralEvent::Presence { state: busy, status: None, last_active_ago: None, .. },
            EphemeralEvent::Presence {
                state: PresenceState::Online, status: Some(status), last_active_ago: None, ..
            },
            EphemeralEvent::Presence { last_active_ago: Some(300_000), .. },
        ] = &transaction.ephemeral[..]
        else {
            panic!("{transaction:?}")
        };
        assert_eq!((event.as_str(), busy.as_str(), status.as_str()), ("$1", "org.matrix.msc3026.busy", "hello"));
        assert_eq!(counters.get(Count::ReceiptOther), 1);
        assert_eq!(counters.get(Count::EphemeralUnknown), 1);
        assert_eq!(counters.get(Count::EphemeralBroken), 3);
    }

    #[test]
    fn what_a_redaction_redacts_is_found_in_both_places() {
        let redaction = |top: &str, content: &str| {
            message("$1", content).replace("m.room.message", "m.room.redaction").replace("\"unsigned\"", top)
        };
        for (top, content) in [
            (r#""redacts":"$x","unsigned""#, "{}"),
            ("\"unsigned\"", r#"{"redacts":"$x"}"#),
            (r#""redacts":5,"u""#, r#"{"redacts":"$x"}"#),
        ] {
            let (transaction, _) = read(&format!(r#"{{"events":[{}]}}"#, redaction(top, content)));
            assert_eq!(transaction.events[0].redacts.as_ref().map(|e| e.as_str()), Some("$x"), "{top} {content}");
        }
    }

    proptest! {
        #[test]
        fn nothing_inside_an_event_refuses_the_transaction(text in ".{0,40}", key in "[a-z_]{1,12}") {
            let junk = serde_json::json!({ key: text }).to_string();
            let body = format!(r#"{{"events":[{junk},{}],"ephemeral":[{junk}]}}"#, message("$1", "{}"));
            let (transaction, _) = read(&body);
            prop_assert_eq!(transaction.events.len(), 1);
        }
    }
}
