//! Several accounts of one person, signing in again, and what becomes of the rooms at logout, on a real Synapse and Prosody.

use serde_json::json;

use super::bridge::{Bridge, Management, Portal, starttls};
use super::certificates::Authority;
use super::clients::{Contact, Person};
use super::servers::{PASSWORD, Prosody};

fn member(person: &Person, room: &str, user: &str) -> String {
    let answer = person.call("state", json!({"room": room, "type": "m.room.member", "key": user}));
    answer["membership"].as_str().unwrap_or("none").to_owned()
}

#[test]
fn accounts_sign_in_again_and_rooms_stay_are_left_or_go_at_logout() {
    let prosody = Prosody::start("prosody", Authority::trusted());
    let networks = json!({"xmpp": {"profile": "xmpp", "domains": {Prosody::DOMAIN: starttls(prosody.reach())}}});
    let bridge = Bridge::start_with("bridge", &networks, &json!({"logins": {"max_logins": 2}}));
    let (alice, bob) = (prosody.account("alice"), prosody.account("bob"));
    let contact = Contact::connect(&bob);
    let phone = Contact::connect(&alice);
    phone.befriend(&contact);
    phone.leave();
    let person = bridge.person("romeo");
    let management = Management::sign_in(&person, &alice.jid);
    let portal = Portal::appears(&person, &bob.jid);
    person.say(&portal.room, "before");
    contact.hears(&alice.jid, "before");

    // Signed out, with the rooms kept: what is said waits for the sign-in, across a kill of the bridge.
    management.ask(&format!("logout {} nothing", alice.jid), |answer| answer.contains("Signed out"));
    management.ask("list-logins", |answer| answer.contains("you signed out"));
    person.say(&portal.room, "meanwhile");
    management.ask("list-logins", |answer| answer.contains("1 of your messages waits"));
    bridge.kill();
    bridge.launch();
    management.ask(&format!("relogin {}", alice.jid), |answer| answer.contains("send the password"));
    management.say_secret("not the password");
    management.ask("list-logins", |answer| answer.contains("you signed out"));
    management.login(&format!("relogin {} {PASSWORD}", alice.jid), &alice.jid);
    contact.hears(&alice.jid, "meanwhile");
    contact.say(&alice.jid, "welcome back");
    person.hears(&portal.room, "welcome back");
    assert_eq!(contact.heard(&alice.jid), ["before", "meanwhile"]);

    // As many accounts as the operator allows.
    let second = prosody.account("mercutio");
    let other = Contact::connect(&second);
    other.befriend(&contact);
    other.leave();
    management.login(&format!("login xmpp {} {PASSWORD}", second.jid), &second.jid);
    let rooms = |event: &serde_json::Value| {
        event["type"] == "m.bridge" && event["content"]["channel"]["id"] == bob.jid.as_str()
    };
    person.expect_count(2, "a room of the second account", rooms);
    let second_room = person
        .events(rooms)
        .iter()
        .filter_map(|event| event["room"].as_str())
        .find(|room| *room != portal.room)
        .map(str::to_owned)
        .expect("the room");
    let third = prosody.account("benvolio");
    management.refused(&third.jid, PASSWORD, &["2 accounts at most"]);

    // Signed out and rid of the rooms, or with the rooms left to the person.
    let mark = person.mark();
    management.ask(&format!("logout {} delete", alice.jid), |answer| answer.contains("Signed out"));
    person
        .expect_since(mark, "the room gone", |event| event["event"] == "left" && event["room"] == portal.room.as_str());
    let mark = person.mark();
    management.ask(&format!("logout {}", second.jid), |answer| answer.contains("Signed out"));
    person.expect_since(mark, "the bot gone", |event| {
        event["type"] == "m.room.member"
            && event["room"] == second_room.as_str()
            && event["state_key"] == Bridge::BOT
            && event["content"]["membership"] == "leave"
    });
    assert_eq!(member(&person, &second_room, &person.id), "join");
    management.ask("list-logins", |answer| answer.contains("not signed in to any account"));
}
