//! Who is there, from which device, what could not be delivered, and another room.

use std::fs;

use serde_json::{Value, json};

use super::another_device;
use super::opening::{encoded, room_page};
use super::stage::Stage;
use crate::end_to_end::bridge::Bridge;
use crate::end_to_end::clients::{Contact, is_presence};
use crate::end_to_end::ground;

/// XEP-0490.
const NODE: &str =
    "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:mds:displayed:0'/></pubsub>";

/// Presence, typing, and Romeo's other device.
pub fn are_taken(stage: &Stage<'_>) {
    let (person, juliet, portal) = (stage.person, stage.juliet, &stage.portal);
    stage.uses("presence");
    juliet.show(Some("away"), Some("Madam calls"));
    let shown = |presence: &'static str, status: &'static str| {
        move |event: &Value| {
            event["event"] == "presence"
                && event["user"] == portal.ghost.as_str()
                && event["presence"] == presence
                && event["status"] == status
        }
    };
    person.expect("Juliet away", shown("unavailable", "Madam calls"));
    stage.uses("idle");
    juliet.call("idle", json!({"since": "2012-04-01T10:00:00+00:00"}));
    person.expect("Juliet idle", shown("unavailable", "idle since 2012-04-01 10:00 UTC"));
    juliet.show(None, Some("On the balcony"));
    person.expect("Juliet back", shown("online", "On the balcony"));
    let sees = |status: &str| {
        juliet.expect(&format!("Romeo {status}"), |event| {
            is_presence(event, "available", &stage.romeo.jid) && event["status"] == status
        })
    };
    person.call("presence", json!({"presence": "unavailable", "status": "Hiding in the orchard"}));
    let away = sees("Hiding in the orchard");
    // A homeserver shows the most available of his clients, and before an audience he has two.
    assert!(away["show"] == "away" || stage.audience.is_some(), "{away}");
    person.call("presence", json!({"presence": "online", "status": "Under the balcony"}));
    assert_eq!(sees("Under the balcony")["show"], Value::Null);

    stage.uses("carbon");
    let other = another_device(stage.romeo);
    other.say(&juliet.jid, "This comes from my pocket, not from Matrix.");
    let own = stage.shows("This comes from my pocket, not from Matrix.");
    assert_eq!(own["sender"], person.id.as_str(), "{own}");
    juliet.hears(&stage.romeo.jid, "This comes from my pocket, not from Matrix.");
    what_was_read(stage, &other);
    other.leave();

    stage.uses("chat_state");
    let mark = juliet.mark();
    person.call("typing", json!({"room": portal.room}));
    juliet.expect_since(mark, "Romeo typing", |event| event["chat_state"] == "composing");
    person.call("typing", json!({"room": portal.room, "typing": false}));
    juliet.call("chat_state", json!({"to": stage.romeo.jid, "state": "composing"}));
    person.expect("Juliet typing", |event| {
        event["event"] == "typing" && event["room"] == portal.room.as_str() && event["users"] == json!([portal.ghost])
    });
    stage.picture("things", "is typing");
    stage.juliet_says("Wilt thou be gone? It is not yet near day.");
}

/// What Romeo has read in Matrix his other device need not show as new.
fn what_was_read(stage: &Stage<'_>, other: &Contact) {
    stage.uses("displayed");
    let (_, event) = stage.juliet_says("Then I can find you everywhere.");
    stage.person.call("read", json!({"room": stage.portal.room, "event_id": event}));
    let there = ground::poll(|| {
        let archive = other.archive_with(&stage.juliet.jid);
        let last = archive.iter().rfind(|message| message["body"] == "Then I can find you everywhere.");
        let Some(id) = last.and_then(|message| message["archive_id"].as_str()) else { return false };
        let known = other.try_call("iq", json!({"type": "get", "payload": NODE}));
        known.is_ok_and(|answer| answer.as_str().is_some_and(|xml| xml.contains(id)))
    });
    assert!(there, "the account does not know what Romeo has read");
}

/// Juliet lets nothing of Romeo's through for a while; he is told of what she did not get.
pub fn a_refusal(stage: &Stage<'_>) {
    stage.uses("failure");
    let blocks = |what: &str| {
        stage.juliet.raw(&format!(
            "<iq type='set' id='{what}-1'><{what} xmlns='urn:xmpp:blocking'><item jid='{}'/></{what}></iq>",
            stage.romeo.jid
        ));
        stage.juliet.call("ping", json!({}));
    };
    blocks("block");
    let event = stage.person.say(&stage.portal.room, "Let me be ta’en, let me be put to death.");
    let told = stage.is_told(&stage.portal.room, "was not delivered");
    assert_eq!(told["relates_to"]["m.in_reply_to"]["event_id"], event.as_str(), "{told}");
    blocks("unblock");
    stage.says("Good night, good night!");
    stage.juliet_says("Parting is such sweet sorrow.");
    stage.picture("from-profanity", "Parting is such sweet sorrow.");
}

/// The room is upgraded, and the conversation goes on in the new one.
pub fn another_room(stage: Stage<'_>) -> Stage<'_> {
    stage.uses("upgrade");
    let registration = fs::read_to_string(stage.bridge.folder().join("registration.yaml")).expect("the registration");
    let token = registration.lines().find_map(|line| line.strip_prefix("as_token: ")).expect("a token");
    let path = format!("/_matrix/client/v3/rooms/{}/upgrade", encoded(&stage.portal.room));
    let version = json!({"new_version": "11"});
    let answer = stage.bridge.synapse.post_as(&path, token.trim_matches(['"', '\'']), &version);
    let room = answer["replacement_room"].as_str().expect("a room").to_owned();
    stage.person.sees_member(&room, &stage.portal.ghost, "join");
    stage.person.sees_member(&stage.portal.room, Bridge::BOT, "leave");
    let stage = stage.in_room(room);
    stage.audience_visits(&room_page(&stage));
    stage.juliet_says("’Tis almost morning.");
    stage.says("Sleep dwell upon thine eyes, peace in thy breast!");
    stage.picture("morning", "Sleep dwell upon thine eyes");
    stage
}
