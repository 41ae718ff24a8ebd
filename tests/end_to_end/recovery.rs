//! The store is gone while people talk: the bridge refuses to begin anew, `recover` finds the rooms, and the talk goes on in
//! them, each message once.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;

use super::bridge::{Bridge, Management, Portal, run_program, starttls};
use super::clients::{Contact, Person};
use super::servers::{PASSWORD, Prosody};

fn text(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The rooms whose `m.bridge` names the contact, as the person knows them.
fn rooms_of(person: &Person, jid: &str) -> BTreeSet<String> {
    person
        .events(|event| event["type"] == "m.bridge" && event["content"]["channel"]["id"] == jid)
        .iter()
        .filter_map(|event| event["room"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn a_lost_store_is_recovered_from_the_rooms_and_nothing_is_made_or_said_twice() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let alice_account = prosody.account("alice");
    let [bob, carol] = ["bob", "carol"].map(|stem| Contact::connect(&prosody.account(stem)));
    let alice = Contact::connect(&alice_account);
    alice.befriend(&bob);
    alice.befriend(&carol);
    alice.leave();
    let person = bridge.person("romeo");
    let management = Management::sign_in(&person, &alice_account.jid);
    let [with_bob, with_carol] = [&bob, &carol].map(|contact| Portal::appears(&person, &contact.jid));
    for number in 1..=3 {
        let words = format!("before {number}");
        bob.say(&alice_account.jid, &words);
        person.hears(&with_bob.room, &words);
        person.say(&with_bob.room, &words);
        bob.hears(&alice_account.jid, &words);
    }
    // Somebody who may use the bridge has copied what stands in the room.
    let state = person
        .expect("the bridge state", |event| event["type"] == "m.bridge" && event["room"] == with_bob.room.as_str());
    let mallory = bridge.person("mallory");
    let planted = mallory.direct_room(Bridge::BOT);
    mallory.sees_member(&planted, Bridge::BOT, "join");
    let stolen = json!({"room": planted, "type": "m.bridge", "key": state["state_key"], "content": state["content"]});
    mallory.call("set_state", stolen);
    bridge.terminate();

    fs::rename(bridge.folder().join("data"), bridge.folder().join("data.lost")).expect("lose the store");
    let (persons, bobs) = (person.heard(&with_bob.room).len(), bob.heard(&alice_account.jid).len());
    bob.say(&alice_account.jid, "while it was lost");
    person.say(&with_bob.room, "is anybody there?");

    // An empty store beside these rooms is no place to begin: nothing is taken in and nothing made.
    let refused = run_program(bridge.folder(), &["run"]);
    assert_eq!(refused.status.code(), Some(29), "{}", text(&refused));
    assert!(text(&refused).contains("messenger-bridge recover"), "{}", text(&refused));
    let checked = run_program(bridge.folder(), &["check"]);
    assert_eq!(checked.status.code(), Some(1), "{}", text(&checked));
    assert!(text(&checked).lines().any(|line| line.starts_with("FAIL  rooms") && line.contains("recover")));

    for chats in ["2 chats found again", "2 chats were known already"] {
        let recovered = run_program(bridge.folder(), &["recover"]);
        assert!(recovered.status.success(), "{}", text(&recovered));
        assert!(text(&recovered).contains(chats), "{}", text(&recovered));
    }
    let mark = person.mark();
    bridge.launch();
    person.expect_since(mark, "word from the bot that the sign-in is gone", |event| {
        event["room"] == management.room()
            && event["body"].as_str().is_some_and(|body| body.contains("sign in again with `login xmpp"))
    });
    management.ask("list-logins", |answer| answer.contains(&alice_account.jid) && answer.contains("signed out"));
    management.login(&format!("login xmpp {} {PASSWORD}", alice_account.jid), &alice_account.jid);

    bob.hears(&alice_account.jid, "is anybody there?");
    person.hears(&with_bob.room, "while it was lost");
    bob.say(&alice_account.jid, "after");
    carol.say(&alice_account.jid, "after");
    person.hears(&with_bob.room, "after");
    person.hears(&with_carol.room, "after");
    person.say(&with_bob.room, "after");
    bob.hears(&alice_account.jid, "after");
    assert_eq!(person.heard(&with_bob.room)[persons..], ["while it was lost", "after"]);
    assert_eq!(person.heard(&with_carol.room), ["after"]);
    assert_eq!(bob.heard(&alice_account.jid)[bobs..], ["is anybody there?", "after"]);
    assert_eq!(rooms_of(&person, &bob.jid), [with_bob.room.clone()].into());
    assert_eq!(rooms_of(&person, &carol.jid), [with_carol.room.clone()].into());
    // What was planted gave Mallory nothing: it is a room in which she talks with the bot alone.
    mallory.say(&planted, "list-logins");
    let answer = mallory.expect("the bot's answer", |event| {
        event["room"] == planted.as_str()
            && event["sender"] == Bridge::BOT
            && event["event"] == "message"
            && event["body"].as_str().is_some_and(|body| body.contains("not signed in"))
    });
    assert!(!answer["body"].as_str().unwrap_or_default().contains(&alice_account.jid), "{answer}");
}
