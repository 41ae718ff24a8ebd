//! A person's own account on Prosody and on ejabberd: contacts become ghosts and rooms, and everybody converses.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::bridge::{Bridge, Management, Portal, direct_tls, starttls};
use super::clients::{Contact, PHOTO, Person, is_presence};
use super::servers::{Account, Ejabberd, PASSWORD, Prosody};

#[test]
fn a_person_converses_through_prosody_by_starttls_and_scram() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let (alice, bob) = (prosody.account("alice"), prosody.account("bob"));
    converse(&bridge, &alice, &bob, |management| {
        // The password comes in a message of its own, as the bot asks.
        management.ask(&format!("login xmpp {}", alice.jid), |answer| answer.to_lowercase().contains("password"));
        management.login(PASSWORD, &alice.jid);
    });
}

#[test]
fn a_person_converses_through_ejabberd_by_direct_tls_and_password() {
    let ejabberd = Ejabberd::shared();
    let bridge = Bridge::start("bridge", &json!({Ejabberd::DOMAIN: direct_tls(ejabberd.reach())}));
    let (alice, bob) = (ejabberd.account("alice"), ejabberd.account("bob"));
    converse(&bridge, &alice, &bob, |management| {
        management.login(&format!("login xmpp {} {PASSWORD}", alice.jid), &alice.jid);
    });
}

#[test]
fn a_person_signs_in_to_ejabberd_with_an_oauth_token() {
    let ejabberd = Ejabberd::shared();
    let bridge = Bridge::start("bridge", &json!({Ejabberd::DOMAIN: direct_tls(ejabberd.reach())}));
    let (alice, bob) = (ejabberd.account("alice"), ejabberd.account("bob"));
    let token = ejabberd.token(&alice);
    converse(&bridge, &alice, &bob, |management| {
        management.login(&format!("login xmpp {} --token {token}", alice.jid), &alice.jid);
    });
}

/// The whole conversation of one person with `bob`; `sign_in` gets the person's management room.
fn converse(bridge: &Bridge, alice: &Account, bob: &Account, sign_in: impl FnOnce(&Management<'_>)) {
    let (bob, past) = prepare(alice, bob);
    let person = bridge.person("romeo");
    sign_in(&Management::open(&person));

    let portal = Portal::appears(&person, &bob.jid);
    shows_everybody(&person, alice, &bob, &portal);
    shows_history_once(&person, &bob, alice, &portal, &past);
    talk_both_ways(&person, &bob, alice, &portal);
    long_texts(&person, &bob, alice, &portal);
    typing_both_ways(&person, &bob, alice, &portal);
    presence_both_ways(&person, &bob, alice, &portal);
}

/// A message of the past: who said it (by bare JID), what, and when (ms since 1970).
#[derive(Debug)]
struct Past {
    from: String,
    body: String,
    ts: i128,
}

/// Before the bridge: two friends, further roster items without a subscription, ten archived messages, and five that
/// wait for Alice.
fn prepare(alice_account: &Account, bob_account: &Account) -> (Contact, Vec<Past>) {
    let alice = Contact::connect(alice_account);
    let bob = Contact::connect(bob_account);
    alice.befriend(&bob);
    bob.call("vcard", json!({"nickname": "Bobby", "full_name": "Robert Test", "photo": PHOTO}));
    alice.call("roster_set", json!({"jid": bob.jid, "name": "Bob from work"}));
    for (jid, name) in strangers(alice_account) {
        alice.call("roster_set", json!({"jid": jid, "name": name}));
    }
    for number in 1..=5 {
        alice.say(&bob.jid, &format!("archived {number} by Alice"));
        bob.hears(&alice.jid, &format!("archived {number} by Alice"));
        bob.say(&alice.jid, &format!("archived {number} by Bob"));
        alice.hears(&bob.jid, &format!("archived {number} by Bob"));
    }
    let mark = bob.mark();
    let alice_jid = alice.jid.clone();
    alice.leave();
    bob.expect_since(mark, "Alice gone", |event| is_presence(event, "unavailable", &alice_jid));
    for number in 1..=5 {
        bob.say(&alice_jid, &format!("waiting {number}"));
    }
    bob.call("ping", json!({}));
    let archive = bob.call("archive", json!({"contact": alice_jid}));
    let past: Vec<Past> = archive.as_array().expect("a list").iter().filter_map(past_message).collect();
    assert_eq!(past.len(), 15, "{archive}");
    (bob, past)
}

fn past_message(entry: &Value) -> Option<Past> {
    let stamp = OffsetDateTime::parse(entry["stamp"].as_str()?, &Rfc3339).ok()?;
    let from = entry["from"].as_str()?.split('/').next()?.to_owned();
    let body = entry["body"].as_str()?.to_owned();
    Some(Past { from, body, ts: stamp.unix_timestamp_nanos() / 1_000_000 })
}

/// Roster items of nobody who is there, with and without a name.
fn strangers(alice: &Account) -> Vec<(String, Option<&'static str>)> {
    let domain = alice.reach.domain;
    vec![
        (format!("carol-of-{}@{domain}", alice.localpart()), Some("Carol 🌻")),
        (format!("dave-of-{}@{domain}", alice.localpart()), None),
        (format!("eve=of={}@{domain}", alice.localpart()), Some("Eve & Co. <x>")),
    ]
}

fn shows_everybody(person: &Person, alice: &Account, bob: &Contact, portal: &Portal) {
    let name_of = |portal: &Portal| {
        let members = person.call("members", json!({"room": portal.room}));
        members[&portal.ghost]["displayname"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(name_of(portal), "Bob from work");
    let half_shot = person.expect("the older name of m.bridge", |event| {
        event["type"] == "uk.half-shot.bridge" && event["room"] == portal.room.as_str()
    });
    assert_eq!(half_shot["content"]["channel"]["id"], bob.jid.as_str());
    for (jid, name) in strangers(alice) {
        let portal = Portal::appears(person, &jid);
        assert_eq!(name_of(&portal), name.unwrap_or(jid.split('@').next().unwrap_or_default()));
    }
    person.expect("Bob's photo", |event| {
        event["type"] == "m.room.member"
            && event["state_key"] == portal.ghost.as_str()
            && event["content"]["avatar_url"].is_string()
    });
    let photo = person.call("avatar", json!({"user": portal.ghost}));
    assert_eq!(photo["length"], 70, "{photo}");
    assert_eq!(photo["type"], "image/png", "{photo}");
}

/// What was said before is there once, in order, before anything live, at its own time, by whoever said it.
fn shows_history_once(person: &Person, bob: &Contact, alice: &Account, portal: &Portal, past: &[Past]) {
    bob.say(&alice.jid, "live at last");
    person.hears(&portal.room, "live at last");
    let mut wanted: Vec<&str> = past.iter().map(|message| message.body.as_str()).collect();
    wanted.push("live at last");
    assert_eq!(person.heard(&portal.room), wanted);
    for message in past {
        let event = person.hears(&portal.room, &message.body);
        let ts = i128::from(event["ts"].as_i64().unwrap_or_default());
        let apart = (ts - message.ts).abs();
        assert!(apart <= 1000, "{apart} ms between {event} and {message:?}");
        assert_eq!(event["sender"] == portal.ghost.as_str(), message.from == bob.jid, "{event}");
    }
}

/// A hundred messages each way at the same time, exact and in order; actions and what only looks like one.
fn talk_both_ways(person: &Person, bob: &Contact, alice: &Account, portal: &Portal) {
    let words = |who: &str| -> Vec<String> {
        (1..=100).map(|number| format!("{who} {number}: Ünï©ode 🌍 & <b>\n  second line ")).collect()
    };
    let (from_bob, from_alice) = (words("Bob"), words("Alice"));
    let heard_before = person.heard(&portal.room).len();
    for (bobs, alices) in from_bob.iter().zip(&from_alice) {
        bob.tell("send", json!({"to": alice.jid, "body": bobs}));
        person.tell("send", json!({"room": portal.room, "body": alices}));
    }
    let in_room = |event: &Value| event["room"] == portal.room.as_str() && event["sender"] == portal.ghost.as_str();
    person.hears(&portal.room, &from_bob[99]);
    bob.hears(&alice.jid, &from_alice[99]);
    assert_eq!(person.heard(&portal.room)[heard_before..], from_bob);
    let heard: Vec<String> = bob.heard(&alice.jid).into_iter().filter(|body| body.starts_with("Alice ")).collect();
    assert_eq!(heard, from_alice);

    bob.say(&alice.jid, "/me bows");
    let bow = person.expect("the bow", |event| in_room(event) && event["msgtype"] == "m.emote");
    assert_eq!(bow["body"], "bows");
    person.call("send", json!({"room": portal.room, "body": "waves", "msgtype": "m.emote"}));
    bob.hears(&alice.jid, "/me waves");
    person.say(&portal.room, "/me is how one begins an action");
    let text = bob.expect("a text about actions", |event| {
        event["body"].as_str().is_some_and(|body| body.contains("is how one begins an action"))
    });
    assert!(!text["body"].as_str().unwrap_or_default().starts_with("/me "), "{text}");
    assert!(text["body"].as_str().unwrap_or_default().contains("/me is how"), "{text}");
}

/// 8,000 characters are one message; what is over the network's limit comes in parts that are the original when joined.
fn long_texts(person: &Person, bob: &Contact, alice: &Account, portal: &Portal) {
    let long = "0123456789abcdef".repeat(500);
    bob.say(&alice.jid, &long);
    person.hears(&portal.room, &long);
    person.say(&portal.room, &long);
    bob.hears(&alice.jid, &long);

    let before = bob.heard(&alice.jid).len();
    // Within Matrix's 64 KiB of an event, and escaped as XML (`&amp;`) over the 64 kB of a stanza.
    let huge = "&é".repeat(13_000) + "the end";
    let parts = ["a", "b"].map(|letter| huge.clone() + letter);
    for part in &parts {
        person.say(&portal.room, part);
    }
    bob.expect("the end of the second text", |event| {
        event["body"].as_str().is_some_and(|body| body.ends_with("the endb"))
    });
    assert_eq!(bob.heard(&alice.jid)[before..].concat(), parts.concat());
}

fn typing_both_ways(person: &Person, bob: &Contact, alice: &Account, portal: &Portal) {
    let typing = |users: Value| {
        move |event: &Value| {
            event["event"] == "typing" && event["room"] == portal.room.as_str() && event["users"] == users
        }
    };
    let mark = person.mark();
    bob.call("chat_state", json!({"to": alice.jid, "state": "composing"}));
    person.expect_since(mark, "Bob typing", typing(json!([portal.ghost])));
    let mark = person.mark();
    bob.call("chat_state", json!({"to": alice.jid, "state": "paused"}));
    person.expect_since(mark, "Bob pausing", typing(json!([])));

    let mark = bob.mark();
    person.call("typing", json!({"room": portal.room}));
    bob.expect_since(mark, "Alice composing", |event| event["chat_state"] == "composing");
    let mark = bob.mark();
    person.call("typing", json!({"room": portal.room, "typing": false}));
    bob.expect_since(mark, "Alice no longer composing", |event| {
        event["chat_state"] == "paused" || event["chat_state"] == "active"
    });
}

fn presence_both_ways(person: &Person, bob: &Contact, alice: &Account, portal: &Portal) {
    let shown = |presence: &'static str, status: &'static str| {
        move |event: &Value| {
            event["event"] == "presence"
                && event["user"] == portal.ghost.as_str()
                && event["presence"] == presence
                && event["status"] == status
        }
    };
    bob.show(Some("away"), Some("at lunch 🍲"));
    person.expect("Bob away", shown("unavailable", "at lunch 🍲"));
    bob.show(None, Some("back"));
    person.expect("Bob back", shown("online", "back"));

    person.call("presence", json!({"presence": "unavailable", "status": "on the train"}));
    let away = bob
        .expect("Alice away", |event| is_presence(event, "available", &alice.jid) && event["status"] == "on the train");
    assert_eq!(away["show"], "away", "{away}");
    let mark = bob.mark();
    person.call("presence", json!({"presence": "online", "status": "home"}));
    let back = bob.expect_since(mark, "Alice back", |event| {
        is_presence(event, "available", &alice.jid) && event["status"] == "home"
    });
    assert_eq!(back["show"], Value::Null, "{back}");
}
