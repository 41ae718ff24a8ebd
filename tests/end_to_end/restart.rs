//! `kill -9` while messages flow both ways on Prosody: each arrives once, in order, and the contact sees nobody leave.

use std::thread;

use serde_json::json;

use super::bridge::{Bridge, Management, Portal, starttls};
use super::clients::{Contact, Mark, is_presence};
use super::servers::Prosody;

const MESSAGES: usize = 150;

#[test]
fn a_killed_bridge_loses_nothing_repeats_nothing_and_nobody_sees_it_leave() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let (alice_account, bob_account) = (prosody.account("alice"), prosody.account("bob"));
    let (alice, bob) = (Contact::connect(&alice_account), Contact::connect(&bob_account));
    alice.befriend(&bob);
    alice.leave();

    let person = bridge.person("romeo");
    Management::sign_in(&person, &alice_account.jid);
    let portal = Portal::appears(&person, &bob.jid);
    bob.say(&alice_account.jid, "before");
    person.hears(&portal.room, "before");
    person.say(&portal.room, "before");
    bob.hears(&alice_account.jid, "before");
    let (persons, bobs) = (person.heard(&portal.room).len(), bob.heard(&alice_account.jid).len());
    let signed_in = bob.mark();

    let words = |who: &str| -> Vec<String> { (1..=MESSAGES).map(|number| format!("{who} {number}")).collect() };
    let (from_bob, from_alice) = (words("Bob"), words("Alice"));
    thread::scope(|scope| {
        scope.spawn(|| {
            for (bobs, alices) in from_bob.iter().zip(&from_alice) {
                // Synapse takes some 30 ms for it, which paces both.
                person.say(&portal.room, alices);
                bob.say(&alice_account.jid, bobs);
            }
        });
        for landmark in [10, 50, 100] {
            person.hears(&portal.room, &from_bob[landmark]);
            bob.hears(&alice_account.jid, &from_alice[landmark]);
            bridge.kill();
            bridge.launch();
        }
    });

    // Lanes keep their order: what is said last comes last, so nothing can still be on its way behind it.
    bob.say(&alice_account.jid, "after");
    person.hears(&portal.room, "after");
    person.say(&portal.room, "after");
    bob.hears(&alice_account.jid, "after");
    let wanted = |words: &[String]| -> Vec<String> { words.iter().cloned().chain(["after".to_owned()]).collect() };
    assert_eq!(person.heard(&portal.room)[persons..], wanted(&from_bob));
    assert_eq!(bob.heard(&alice_account.jid)[bobs..], wanted(&from_alice));
    assert_nobody_left(&bob, signed_in, &alice_account.jid);

    // A restart in order is no departure either.
    bridge.terminate();
    bob.say(&alice_account.jid, "while it was down");
    bridge.launch();
    person.hears(&portal.room, "while it was down");
    assert_nobody_left(&bob, signed_in, &alice_account.jid);
}

fn assert_nobody_left(bob: &Contact, since: Mark, jid: &str) {
    let departures = bob.events_since(since, |event| is_presence(event, "unavailable", jid));
    assert!(departures.is_empty(), "{departures:?}");
}
