//! What Romeo decides: whom he blocks, what he pins and mutes, and that messages do not disappear any more.

use serde_json::{Value, json};

use super::another_device;
use super::stage::Stage;
use crate::end_to_end::bridge::Bridge;
use crate::end_to_end::clients::Contact;
use crate::end_to_end::ground;

const BLOCKED: &str = "<blocklist xmlns='urn:xmpp:blocking'/>";
const CHATS: &str = "<pubsub xmlns='http://jabber.org/protocol/pubsub'>\
                     <items node='https://github.com/messenger-bridge/messenger-bridge#direct-chats'/></pubsub>";

pub fn are_made(stage: &Stage<'_>) {
    messages_that_disappear(stage);
    a_favourite_and_muted(stage);
    blocking(stage);
    stage.picture("decisions", "What must be shall be.");
}

/// Juliet's app asks that what they say goes once it was read.
fn messages_that_disappear(stage: &Stage<'_>) {
    stage.uses("disappearing");
    let (person, room) = (stage.person, &stage.portal.room);
    stage.juliet_sends(
        Some("Burn this letter: the nurse comes at nine."),
        &["<ephemeral xmlns='urn:xmpp:ephemeral:0' timer='1'/>"],
    );
    let event = person.hears(room, "Burn this letter: the nurse comes at nine.")["event_id"].clone();
    stage.is_told(room, "disappear 1 second after");
    person.call("read", json!({"room": room, "event_id": event}));
    person.expect("that the message has disappeared", |told| {
        told["event"] == "redaction" && (told["redacts"] == event || told["content"]["redacts"] == event)
    });
    person.say(room, "!msgr disappearing off");
    stage.is_told(room, "does not disappear any more");
}

/// The room is pinned and silent, and so is the chat on his server.
fn a_favourite_and_muted(stage: &Stage<'_>) {
    stage.uses("favourite");
    stage.uses("notify");
    let (person, room) = (stage.person, &stage.portal.room);
    let other = another_device(stage.romeo);
    let change = |method: &str, path: &str, body: Value| {
        let path = format!("/_matrix/client/v3/{path}");
        person.call("request", json!({"method": method, "path": path, "body": body}));
    };
    change("PUT", &format!("user/{}/rooms/{room}/tags/m.favourite", person.id), json!({"order": 0.5}));
    kept(&other, "the chat pinned", "urn:xmpp:bookmarks-pinning:0");
    change("PUT", &format!("pushrules/global/room/{room}"), json!({"actions": []}));
    kept(&other, "mentions alone", "on-mention");
    change("DELETE", &format!("pushrules/global/room/{room}"), Value::Null);
    other.leave();
}

/// Asks the account's server until it has this of a chat: nobody tells a client without that feature of a change.
fn kept(device: &Contact, what: &str, part: &str) {
    let there = ground::poll(|| {
        let answer = device.try_call("iq", json!({"type": "get", "payload": CHATS}));
        answer.is_ok_and(|answer| answer.as_str().is_some_and(|xml| xml.contains(part)))
    });
    assert!(there, "the server does not have {what}");
}

/// He lets nothing of hers through, and then again.
fn blocking(stage: &Stage<'_>) {
    stage.uses("blocking");
    let (person, room, juliet) = (stage.person, &stage.portal.room, stage.juliet);
    let other = another_device(stage.romeo);
    person.say(room, "!msgr block");
    stage.is_told(room, "This contact is blocked now");
    assert!(other.ask("get", BLOCKED).contains(&juliet.jid));
    juliet.say(&stage.romeo.jid, "Art thou gone so?");
    juliet
        .expect("that it was not let in", |event| event["type"] == "error" && event["error"] == "service-unavailable");
    let event = person.say(room, "That may not be.");
    let told = stage.is_told(room, "you have blocked this contact");
    assert_eq!(told["relates_to"]["m.in_reply_to"]["event_id"], event.as_str(), "{told}");
    person.say(room, "!msgr unblock");
    stage.is_told(room, "no longer blocked");
    assert!(!other.ask("get", BLOCKED).contains(&juliet.jid));
    other.leave();
    stage.says("What must be shall be.");
    let heard = person.events(|event| event["body"] == "Art thou gone so?");
    assert!(heard.is_empty(), "{heard:?} came though {} had blocked it", Bridge::BOT);
}
