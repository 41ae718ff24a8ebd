//! Two Matrix users whose accounts share a contact: nothing of one shows for the other.

use serde_json::{Value, json};

use super::bridge::{Bridge, Management, Portal, starttls};
use super::clients::{Contact, Person};
use super::servers::Prosody;

#[test]
fn two_people_who_know_the_same_contact_see_nothing_of_each_other() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let [ann_account, zoe_account] = ["ann", "zoe"].map(|stem| prosody.account(stem));
    let [shared, only_anns] = ["shared", "intimate"].map(|stem| Contact::connect(&prosody.account(stem)));
    for (account, name) in [(&ann_account, "Ann's darling"), (&zoe_account, "Zoe's dentist")] {
        let owner = Contact::connect(account);
        owner.befriend(&shared);
        owner.call("roster_set", json!({"jid": shared.jid, "name": name}));
        if account.jid == ann_account.jid {
            owner.befriend(&only_anns);
        }
        owner.leave();
    }

    let (ann, zoe) = (bridge.person("matrixann"), bridge.person("matrixzoe"));
    Management::sign_in(&ann, &ann_account.jid);
    let zoes_management = Management::sign_in(&zoe, &zoe_account.jid);
    let (anns, zoes) = (Portal::appears(&ann, &shared.jid), Portal::appears(&zoe, &shared.jid));
    let intimate = Portal::appears(&ann, &only_anns.jid);
    assert_ne!(anns.room, zoes.room);
    assert_ne!(anns.ghost, zoes.ghost);

    shared.say(&ann_account.jid, "for Ann's eyes");
    only_anns.say(&ann_account.jid, "nobody else knows me");
    shared.call("presence", json!({"to": ann_account.jid, "show": "away", "status": "thinking of Ann"}));
    ann.hears(&anns.room, "for Ann's eyes");
    ann.hears(&intimate.room, "nobody else knows me");
    ann.expect("the presence that is Ann's alone", |event| {
        event["event"] == "presence" && event["user"] == anns.ghost.as_str() && event["status"] == "thinking of Ann"
    });
    ann.say(&anns.room, "from Ann in confidence");
    shared.hears(&ann_account.jid, "from Ann in confidence");

    // What is said to Zoe afterwards comes last, so whatever leaked would be there by now.
    shared.say(&zoe_account.jid, "for Zoe");
    zoe.hears(&zoes.room, "for Zoe");
    assert_eq!(zoe.heard(&zoes.room), ["for Zoe"]);
    shared.call("presence", json!({"to": zoe_account.jid, "show": "dnd", "status": "drilling"}));
    zoe.expect("the presence that is Zoe's alone", |event| {
        event["event"] == "presence" && event["user"] == zoes.ghost.as_str() && event["status"] == "drilling"
    });
    let logins = zoes_management.ask("list-logins", |answer| answer.contains(&zoe_account.jid));
    assert!(!logins.contains(&ann_account.jid), "{logins}");
    let anns_secrets = [
        "for Ann's eyes",
        "nobody else knows me",
        "thinking of Ann",
        "in confidence",
        "darling",
        &only_anns.jid,
        &ann_account.jid,
        &anns.ghost,
        &anns.room,
        &intimate.ghost,
        &intimate.room,
    ];
    let zoes_secrets = ["for Zoe", "drilling", "dentist", &zoe_account.jid, &zoes.ghost, &zoes.room];
    assert_saw_nothing_of(&zoe, &anns_secrets);
    assert_saw_nothing_of(&ann, &zoes_secrets);

    for (person, room) in [(&zoe, &anns.room), (&ann, &zoes.room)] {
        let peek = person.try_call("state", json!({"room": room}));
        assert!(peek.is_err(), "{} reads {room}: {peek:?}", person.id);
    }
}

fn assert_saw_nothing_of(person: &Person, secrets: &[&str]) {
    for event in person.events(|_: &Value| true) {
        // As text and as it stands inside JSON.
        let told = event.to_string();
        for secret in secrets {
            assert!(!told.contains(*secret), "{} was shown {secret:?}: {told}", person.id);
        }
    }
}
