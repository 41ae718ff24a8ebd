//! Who contacts are and whether they are there, between matrix-nio and slixmpp: avatars, nicknames, vCard4, idleness, several
//! clients of one contact, and what the server is told of the person.

use serde_json::{Value, json};

use super::bridge::{Bridge, Management, Portal, starttls};
use super::clients::{Contact, PHOTO, Person, Tls, is_presence};
use super::ground;
use super::servers::{Account, Ejabberd, PASSWORD, Prosody};

/// Another picture than [`PHOTO`]: what stands behind the first bytes of a PNG is no matter here.
const OTHER: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+A8AAwEBAGWjR9awAAAABJRU5ErkJggg==";

struct Scene {
    person: Person,
    bob: Contact,
    alice: String,
    portal: Portal,
    management: String,
    bridge: Bridge,
}

/// A person whose account is alice's, and their contact Bob, who has done this before.
fn begin(domain: &str, reach: super::servers::Reach, accounts: [Account; 2], before: impl FnOnce(&Contact)) -> Scene {
    let bridge = Bridge::start("bridge", &json!({domain: starttls(reach)}));
    let [alice_account, bob_account] = accounts;
    let (alice, bob) = (Contact::connect(&alice_account), Contact::connect(&bob_account));
    alice.befriend(&bob);
    alice.leave();
    before(&bob);
    let person = bridge.person("romeo");
    let management = Management::sign_in(&person, &alice_account.jid).room().to_owned();
    let portal = Portal::appears(&person, &bob.jid);
    Scene { person, bob, alice: alice_account.jid, portal, management, bridge }
}

fn on_prosody() -> Scene {
    let prosody = Prosody::shared();
    let accounts = ["alice", "bob"].map(|stem| prosody.account(stem));
    begin(Prosody::DOMAIN, prosody.reach(), accounts, |_| {})
}

fn on_ejabberd(before: impl FnOnce(&Contact)) -> Scene {
    let ejabberd = Ejabberd::shared();
    let accounts = ["alice", "bob"].map(|stem| ejabberd.account(stem));
    begin(Ejabberd::DOMAIN, ejabberd.reach(), accounts, before)
}

impl Scene {
    /// Awaits that the ghost is shown so in its room.
    fn shows(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.person.expect(what, |event| {
            event["type"] == "m.room.member"
                && event["room"] == self.portal.room.as_str()
                && event["state_key"] == self.portal.ghost.as_str()
                && wanted(&event["content"])
        })
    }

    fn sees(&self, what: &str, presence: &str, status: impl Fn(&str) -> bool) {
        self.person.expect(what, |event| {
            event["event"] == "presence"
                && event["user"] == self.portal.ghost.as_str()
                && event["presence"] == presence
                && status(event["status"].as_str().unwrap_or_default())
        });
    }
}

/// Nickname and avatar are the ghost's as they change, each picture once.
fn changes(scene: &Scene) {
    scene.bob.call("nick", json!({"nick": "Bobby Tables"}));
    scene.shows("the nickname", |content| content["displayname"] == "Bobby Tables");
    let mut sha1 = Value::Null;
    let mut shown = Vec::new();
    for picture in [PHOTO, OTHER] {
        let before = sha1;
        sha1 = scene.bob.call("avatar", json!({"picture": picture}));
        assert_ne!(before, sha1);
        let known = shown.clone();
        let content = scene.shows("the avatar", |content| {
            content["avatar_url"].as_str().is_some_and(|url| !known.iter().any(|known| known == url))
        });
        shown.push(content["content"]["avatar_url"].as_str().expect("its address").to_owned());
        assert_eq!(scene.person.call("avatar", json!({"user": scene.portal.ghost}))["sha1"], sha1);
    }
    scene.bob.call("nick", json!({"nick": "Bob"}));
    scene.shows("the next nickname", |content| content["displayname"] == "Bob");
    let mark = scene.person.mark();
    scene.bob.call("avatar", json!({}));
    scene.person.expect_since(mark, "no avatar", |event| {
        event["type"] == "m.room.member"
            && event["state_key"] == scene.portal.ghost.as_str()
            && event["content"]["avatar_url"].is_null()
    });
    let pictures = scene.person.events(|event| {
        event["type"] == "m.room.member"
            && event["state_key"] == scene.portal.ghost.as_str()
            && event["content"]["avatar_url"].as_str().is_some_and(|url| !shown.iter().any(|shown| shown == url))
    });
    assert!(pictures.is_empty(), "a picture was uploaded twice, by its vCard and by its avatar: {pictures:?}");
}

#[test]
fn avatars_and_nicknames_of_a_contact_on_prosody_are_the_ghosts() {
    let prosody = Prosody::shared();
    let accounts = ["alice", "bob"].map(|stem| prosody.account(stem));
    // What was published before is told when the account shows itself.
    let scene = begin(Prosody::DOMAIN, prosody.reach(), accounts, |bob| {
        bob.call("nick", json!({"nick": "Bob as he was"}));
        bob.call("avatar", json!({"picture": PHOTO}));
    });
    scene.shows("what he called himself before", |content| content["displayname"] == "Bob as he was");
    scene.shows("the avatar of before", |content| content["avatar_url"].is_string());
    changes(&scene);
}

#[test]
fn avatars_nicknames_and_a_vcard4_of_a_contact_on_ejabberd_are_the_ghosts() {
    let scene = on_ejabberd(|bob| {
        bob.call("vcard4", json!({"full_name": "Robert Fourth"}));
    });
    scene.shows("the vCard4's name", |content| content["displayname"] == "Robert Fourth");
    changes(&scene);
}

/// RFC 6121: priority, then the most available. Whatever the person says goes to all of them.
#[test]
fn of_several_clients_of_a_contact_the_one_with_the_highest_priority_counts_and_all_get_what_is_said() {
    let prosody = Prosody::shared();
    let (alice_account, bob_account) = (prosody.account("alice"), prosody.account("bob"));
    let accounts = [alice_account, bob_account.clone()];
    let scene = begin(Prosody::DOMAIN, prosody.reach(), accounts, |_| {});
    let desk = &scene.bob;
    let phone = Contact::connect_by(&bob_account, Tls::Start, PASSWORD, "phone").expect("a second client");
    desk.call("presence", json!({"show": "away", "status": "at the desk", "priority": 10}));
    scene.sees("the desk", "unavailable", |status| status == "at the desk");
    phone.call("presence", json!({"status": "with the phone", "priority": 5}));
    phone.call("ping", json!({}));
    desk.call("presence", json!({"show": "away", "status": "still at the desk", "priority": 10}));
    scene.sees("the desk still", "unavailable", |status| status == "still at the desk");
    phone.call("presence", json!({"show": "dnd", "status": "phone first", "priority": 20}));
    scene.sees("the phone", "unavailable", |status| status == "phone first");
    desk.call("presence", json!({"status": "both the same", "priority": 20}));
    scene.sees("the most available", "online", |status| status == "both the same");
    // A message to the bare JID reaches them all: one as its own, the other at the latest as a carbon.
    for client in [desk, &phone] {
        client.call("raw", json!({"xml": "<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>"}));
        client.call("ping", json!({}));
    }
    scene.person.say(&scene.portal.room, "to all of you");
    for client in [desk, &phone] {
        client.expect("the message", |event| {
            event["event"] == "message" && event["xml"].as_str().is_some_and(|xml| xml.contains("to all of you"))
        });
    }
    let never = scene.person.events(|event| event["event"] == "presence" && event["status"] == "with the phone");
    assert!(never.is_empty(), "{never:?}");
    phone.leave();
    desk.call("presence", json!({"show": "xa", "status": "alone", "priority": -1}));
    scene.sees("the desk alone", "unavailable", |status| status == "alone");
}

#[test]
fn idleness_crosses_both_ways() {
    let scene = on_prosody();
    scene.bob.call("idle", json!({"since": "2012-04-01T10:00:00+00:00"}));
    scene.sees("Bob idle", "unavailable", |status| status == "idle since 2012-04-01 10:00 UTC");
    scene.bob.show(None, Some("back"));
    scene.sees("Bob back", "online", |status| status == "back");

    let mark = scene.bob.mark();
    scene.person.call("presence", json!({"presence": "unavailable", "status": "asleep"}));
    let idle = scene.bob.expect_since(mark, "the person idle", |event| {
        is_presence(event, "available", &scene.alice)
            && event["xml"].as_str().is_some_and(|xml| xml.contains("urn:xmpp:idle:1"))
    });
    assert_eq!((idle["show"].as_str(), idle["status"].as_str()), (Some("away"), Some("asleep")), "{idle}");
    let mark = scene.bob.mark();
    scene.person.call("presence", json!({"presence": "online", "status": "awake"}));
    let back = scene.bob.expect_since(mark, "the person back", |event| {
        is_presence(event, "available", &scene.alice) && event["status"] == "awake"
    });
    assert!(!back["xml"].as_str().is_some_and(|xml| xml.contains("urn:xmpp:idle:1")), "{back}");
}

/// While the person does not look, the server may hold back presence; a message comes all the same, and what was held back comes
/// before it.
#[test]
fn a_server_that_knows_the_person_does_not_look_holds_back_presence_and_no_message() {
    let prosody = Prosody::start("csi", super::certificates::Authority::trusted());
    let accounts = ["alice", "bob"].map(|stem| prosody.account(stem));
    let scene = begin(Prosody::DOMAIN, prosody.reach(), accounts, |_| {});
    scene.bob.show(None, Some("first"));
    scene.sees("Bob", "online", |status| status == "first");
    assert!(!prosody.logged("Holding buffer"));
    scene.person.call("presence", json!({"presence": "unavailable", "status": "not looking"}));
    scene.bob.expect("the person away", |event| {
        is_presence(event, "available", &scene.alice) && event["show"] == "away" && event["status"] == "not looking"
    });
    // Prosody lets everything through for five seconds after each sign of life of ours.
    let mut number = 0;
    let held = ground::poll(|| {
        number += 1;
        scene.bob.show(Some("dnd"), Some(&format!("held back {number}")));
        scene.bob.call("ping", json!({}));
        prosody.logged("Holding buffer")
    });
    assert!(held, "Prosody was never told that the person does not look");
    scene.bob.say(&scene.alice, "are you there?");
    scene.person.hears(&scene.portal.room, "are you there?");
    let last = format!("held back {number}");
    scene.sees("Bob, once something important came", "unavailable", |status| status == last);
    scene.bob.show(None, Some("held back again"));
    scene.bob.call("ping", json!({}));
    scene.person.call("presence", json!({"presence": "online", "status": "looking"}));
    scene.sees("Bob, once the person looks", "online", |status| status == "held back again");
}

fn message(person: &Person, room: &str, body: &str) -> String {
    person.hears(room, body)["event_id"].as_str().expect("an event id").to_owned()
}

fn sees_gone(person: &Person, event: &str) {
    let redaction = person.expect("the redaction", |told| {
        told["event"] == "redaction" && (told["redacts"] == event || told["content"]["redacts"] == event)
    });
    assert_eq!(redaction["content"]["reason"], "This message has disappeared.", "{redaction}");
}

/// XEP-0466: the contact's message goes when it was read, also after a restart; the person's own goes and says so.
#[test]
fn messages_disappear_once_they_were_read_also_after_a_restart() {
    let scene = on_prosody();
    let (person, room) = (&scene.person, scene.portal.room.as_str());
    let says = |body: &str, timer: u32| {
        let extra = format!("<ephemeral xmlns='urn:xmpp:ephemeral:0' timer='{timer}'/>");
        scene.bob.call("send", json!({"to": scene.alice, "body": body, "extra": [extra]}));
        message(person, room, body)
    };
    let first = says("burn this", 1);
    person.expect("the notice", |told| {
        told["room"] == room && told["body"].as_str().is_some_and(|body| body.contains("disappear 1 second after"))
    });
    person.call("read", json!({"room": room, "event_id": first}));
    sees_gone(person, &first);

    let second = says("and this, later", 2);
    let own = person.say(room, "I burn it");
    let heard = scene.bob.hears(&scene.alice, "I burn it");
    assert!(
        heard["xml"].as_str().is_some_and(|xml| xml.contains("urn:xmpp:ephemeral:0") && xml.contains("timer=\"2\"")),
        "{heard}"
    );
    scene.bridge.kill();
    scene.bridge.launch();
    sees_gone(person, &second);
    sees_gone(person, &own);

    person.say(room, "!msgr disappearing off");
    person.expect("the answer", |told| {
        told["body"].as_str().is_some_and(|body| body.contains("does not disappear any more"))
    });
    person.say(room, "this stays");
    let heard = scene.bob.hears(&scene.alice, "this stays");
    assert!(!heard["xml"].as_str().is_some_and(|xml| xml.contains("urn:xmpp:ephemeral:0")), "{heard}");
}

/// The person's own name and picture are the account's once they ask for it, change with them, and are taken back.
fn publishes(scene: &Scene) {
    let says = |words: &str, wanted: &str| {
        scene.person.say(&scene.management, words);
        scene.person.expect(wanted, |told| {
            told["room"] == scene.management.as_str() && told["body"].as_str().is_some_and(|body| body.contains(wanted))
        });
    };
    let node = |node: &str| scene.bob.call("pep", json!({"jid": scene.alice, "node": node}));
    let nick = "http://jabber.org/protocol/nick";
    scene.person.call("set_displayname", json!({"name": "Romeo Montague"}));
    let media =
        scene.person.call("upload", json!({"name": "me.png", "mime": "image/png", "content": {"base64": PHOTO}}));
    scene.person.call("set_avatar", json!({"url": media["url"]}));
    assert_eq!(node(nick), Value::Null, "nothing is published unasked");
    says("publish-profile on", "from now on");
    let told = |what: &str, parts: &[&str]| {
        scene.bob.expect(what, |event| {
            event["event"] == "message"
                && event["xml"].as_str().is_some_and(|xml| parts.iter().all(|part| xml.contains(part)))
        })
    };
    told("the nickname", &[nick, "Romeo Montague"]);
    let metadata = told("the avatar", &["urn:xmpp:avatar:metadata", "info ", "image/png"]);
    let xml = metadata["xml"].as_str().unwrap_or_default();
    let info = xml.split_once("info ").map(|(_, info)| info).expect("what it is");
    let id = info.split(" id=\"").nth(1).and_then(|id| id.split('"').next());
    let id = id.or_else(|| info.strip_prefix("id=\"")?.split('"').next()).expect("its hash").to_owned();
    assert!(node("urn:xmpp:avatar:data").as_str().is_some_and(|item| item.contains(&id)), "{id}");
    scene.person.call("set_displayname", json!({"name": "Romeo M."}));
    told("the new nickname", &[nick, "Romeo M."]);
    let mark = scene.bob.mark();
    says("publish-profile off", "taken back");
    scene.bob.expect_since(mark, "no avatar", |event| {
        event["xml"].as_str().is_some_and(|xml| xml.contains("urn:xmpp:avatar:metadata") && !xml.contains("info"))
    });
    assert!(!node(nick).as_str().is_some_and(|item| item.contains("Romeo")));
}

#[test]
fn the_persons_profile_is_published_to_prosody_where_they_ask_for_it() {
    publishes(&on_prosody());
}

#[test]
fn the_persons_profile_is_published_to_ejabberd_where_they_ask_for_it() {
    publishes(&on_ejabberd(|_| {}));
}

#[test]
fn ejabberd_holds_back_no_message_while_the_person_does_not_look() {
    let scene = on_ejabberd(|_| {});
    scene.bob.show(None, Some("first"));
    scene.sees("Bob", "online", |status| status == "first");
    scene.person.call("presence", json!({"presence": "unavailable", "status": "not looking"}));
    scene.bob.expect("the person away", |event| {
        is_presence(event, "available", &scene.alice) && event["status"] == "not looking"
    });
    scene.bob.show(Some("dnd"), Some("held back"));
    scene.bob.call("ping", json!({}));
    scene.bob.say(&scene.alice, "are you there?");
    scene.person.hears(&scene.portal.room, "are you there?");
    scene.sees("Bob, once something important came", "unavailable", |status| status == "held back");
    scene.person.call("presence", json!({"presence": "online", "status": "looking"}));
    scene.bob.show(None, Some("back"));
    scene.sees("Bob, once the person looks", "online", |status| status == "back");
}
