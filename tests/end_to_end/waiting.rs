//! The XMPP server is gone and the person writes: they see that it waits, and that is mended when the server is back, though
//! the bridge was killed meanwhile.

use serde_json::{Value, json};

use super::bridge::{Bridge, Management, Portal, starttls};
use super::certificates::Authority;
use super::clients::{Contact, Person};
use super::servers::Prosody;

/// The states that were shown of an event, in order.
fn states(person: &Person, of: &str) -> Vec<String> {
    let statuses = person.events(|event| is_status(event, of));
    statuses.iter().filter_map(|event| event["content"]["status"].as_str().map(str::to_owned)).collect()
}

fn is_status(event: &Value, of: &str) -> bool {
    event["type"] == "com.beeper.message_send_status"
        && event["sender"] == Bridge::BOT
        && event["content"]["m.relates_to"] == json!({"rel_type": "m.reference", "event_id": of})
}

#[test]
fn a_message_that_waits_is_shown_so_and_mended_when_the_server_is_back() {
    let prosody = Prosody::start("prosody", Authority::trusted());
    let networks = json!({"xmpp": {"profile": "xmpp", "domains": {Prosody::DOMAIN: starttls(prosody.reach())}}});
    let bridge = Bridge::start_with("bridge", &networks, &json!({"outbox": {"warn_after": "2s"}}));
    let (alice_account, bob_account) = (prosody.account("alice"), prosody.account("bob"));
    let bob = Contact::connect(&bob_account);
    let alice = Contact::connect(&alice_account);
    alice.befriend(&bob);
    alice.leave();
    let person = bridge.person("romeo");
    let management = Management::sign_in(&person, &alice_account.jid);
    let portal = Portal::appears(&person, &bob.jid);
    let quick = person.say(&portal.room, "in time");
    bob.hears(&alice_account.jid, "in time");
    // An offline contact is no failure: the server keeps it.
    bob.leave();

    prosody.kill();
    let event = person.say(&portal.room, "too late");
    let status = person.expect("the status of a message that waits", |told| is_status(told, &event));
    assert_eq!(
        (status["content"]["status"].as_str(), status["content"]["error"].as_str()),
        (Some("PENDING"), Some("not-connected"))
    );
    let is_notice = |told: &Value| {
        told["room"] == portal.room.as_str()
            && told["sender"] == Bridge::BOT
            && told["body"].as_str().is_some_and(|body| body.contains("not been delivered yet"))
    };
    let notice = person.expect("the notice", is_notice);
    assert_eq!(notice["msgtype"], "m.notice");
    assert_eq!(notice["relates_to"]["m.in_reply_to"]["event_id"], event.as_str());
    management.ask("list-logins", |answer| {
        answer.contains(&alice_account.jid)
            && answer.contains("not connected since 20")
            && answer.contains("; 1 of your messages waits to be sent, since 20")
    });

    bridge.kill();
    bridge.launch();
    prosody.launch();
    person.expect("that the message was delivered", |told| {
        is_status(told, &event) && told["content"]["status"] == "SUCCESS"
    });
    person.expect("the end of the notice", |told| {
        told["event"] == "redaction"
            && (told["redacts"] == notice["event_id"] || told["content"]["redacts"] == notice["event_id"])
    });
    let bob = Contact::connect(&bob_account);
    bob.hears(&alice_account.jid, "too late");
    person.say(&portal.room, "in time again");
    bob.hears(&alice_account.jid, "in time again");
    bob.say(&alice_account.jid, "all is well");
    person.hears(&portal.room, "all is well");
    assert_eq!(bob.heard(&alice_account.jid), ["too late", "in time again"]);
    assert_eq!(states(&person, &event), ["PENDING", "SUCCESS"]);
    assert!(states(&person, &quick).is_empty());
    assert_eq!(person.events(is_notice).len(), 1);
}
