//! What a person decides about a contact, between matrix-nio and slixmpp: blocking, by command, from another XMPP client.

use serde_json::json;

use super::about::Chat;
use super::bridge::{Bridge, starttls};
use super::clients::Contact;
use super::servers::{Account, Ejabberd, Prosody, Reach};

fn bridge(domain: &str, reach: Reach) -> Bridge {
    Bridge::start("bridge", &json!({ domain: starttls(reach) }))
}

/// The notice of the bot in the portal that has these words.
fn notice(chat: &Chat<'_>, words: &str) {
    let room = chat.portal.room.as_str();
    chat.person.expect(&format!("the notice {words:?}"), |event| {
        event["room"] == room
            && event["sender"] == Bridge::BOT
            && event["body"].as_str().is_some_and(|body| body.contains(words))
    });
}

fn ghost_is(chat: &Chat<'_>, since: super::clients::Mark, presence: &str) {
    let ghost = chat.portal.ghost.as_str();
    chat.person.expect_since(since, &format!("the ghost as {presence}"), |event| {
        event["event"] == "presence" && event["user"] == ghost && event["presence"] == presence
    });
}

const LIST: &str = "<blocklist xmlns='urn:xmpp:blocking'/>";

fn change(kind: &str, jid: &str) -> String {
    format!("<{kind} xmlns='urn:xmpp:blocking'><item jid='{jid}'/></{kind}>")
}

fn blocking(bridge: &Bridge, alice: &Account, bob: &Account) {
    let chat = Chat::between(bridge, alice, bob, Contact::connect);
    let room = chat.portal.room.clone();
    // By command.
    let mark = chat.person.mark();
    chat.person.say(&room, "!msgr block");
    notice(&chat, "This contact is blocked now");
    ghost_is(&chat, mark, "offline");
    let phone = Contact::connect(alice);
    assert!(phone.ask("get", LIST).contains(&bob.jid));
    chat.bob.say(&chat.alice, "Can you hear me?");
    chat.bob
        .expect("that it was not let in", |event| event["type"] == "error" && event["error"] == "service-unavailable");
    chat.person.say(&room, "I can not");
    notice(&chat, "Your message was not sent: you have blocked this contact");
    let mark = chat.person.mark();
    chat.person.say(&room, "!msgr unblock");
    notice(&chat, "This contact is no longer blocked.");
    ghost_is(&chat, mark, "online");
    assert!(!phone.ask("get", LIST).contains(&bob.jid));
    chat.person.say(&room, "And now?");
    chat.bob.hears(&chat.alice, "And now?");
    chat.bob.say(&chat.alice, "Now I can");
    chat.person.hears(&room, "Now I can");

    // By another client of the account.
    let blocked = || chat.person.heard(&room).iter().filter(|body| body.contains("is blocked now")).count();
    let before = blocked();
    phone.ask("set", &change("block", &bob.jid));
    chat.person.expect_count(before + 1, "one more notice of a block", |event| {
        event["room"] == room.as_str() && event["body"].as_str().is_some_and(|body| body.contains("is blocked now"))
    });
    chat.person.say(&room, "Still there?");
    chat.person.expect_count(2, "one more notice of a message that was not sent", |event| {
        event["body"].as_str().is_some_and(|body| body.contains("Your message was not sent"))
    });
    phone.ask("set", &change("unblock", &bob.jid));
    chat.person.expect_count(2, "one more notice of its end", |event| {
        event["room"] == room.as_str() && event["body"].as_str().is_some_and(|body| body.contains("no longer blocked"))
    });
    chat.person.say(&room, "At last");
    chat.bob.hears(&chat.alice, "At last");
    assert_eq!(chat.bob.heard(&chat.alice).iter().filter(|body| *body == "Still there?").count(), 0);
    assert_eq!(blocked(), before + 1);
    assert!(!chat.person.heard(&room).contains(&"Can you hear me?".to_owned()));
}

#[test]
fn a_contact_is_blocked_by_command_and_by_another_client_on_prosody() {
    let prosody = Prosody::shared();
    let bridge = bridge(Prosody::DOMAIN, prosody.reach());
    blocking(&bridge, &prosody.account("alice"), &prosody.account("bob"));
}

#[test]
fn a_contact_is_blocked_by_command_and_by_another_client_on_ejabberd() {
    let ejabberd = Ejabberd::shared();
    let bridge = bridge(Ejabberd::DOMAIN, ejabberd.reach());
    blocking(&bridge, &ejabberd.account("alice"), &ejabberd.account("bob"));
}
