//! Double puppeting on real servers: what the person does with another client of their account is their own in Matrix, with a
//! restart of the bridge in between; and up to where they have read is known to all their devices.

use serde_json::{Value, json};

use super::bridge::{Bridge, Management, Portal, run_program, starttls};
use super::clients::{Contact, Mark, Person, Tls};
use super::ground;
use super::servers::{Account, Ejabberd, PASSWORD, Prosody};

const MARKABLE: &str = "<markable xmlns='urn:xmpp:chat-markers:0'/>";

/// The person, their other client, and Bob.
struct Cast {
    person: Person,
    phone: Contact,
    bob: Contact,
    alice: String,
    room: String,
    ghost: String,
}

impl Cast {
    /// The person clicks on nothing: what is theirs they are in by themselves.
    fn begin(bridge: &Bridge, (alice, bob): (&Account, &Account)) -> Self {
        let phone = Contact::connect_by(alice, Tls::Start, PASSWORD, "phone").expect("a second client");
        let bob = Contact::connect(bob);
        phone.befriend(&bob);
        let person = Person::login_by_hand(&bridge.synapse.user("romeo"));
        Management::sign_in(&person, &alice.jid);
        let bridged = person.expect("the contact's room, joined", |event| {
            event["type"] == "m.bridge" && event["content"]["channel"]["id"] == bob.jid.as_str()
        });
        let room = bridged["room"].as_str().expect("a room").to_owned();
        let joined = |event: &Value| {
            event["type"] == "m.room.member"
                && event["room"] == room.as_str()
                && event["content"]["membership"] == "join"
        };
        let ghost = person.expect("the ghost", |event| {
            joined(event) && event["state_key"].as_str().is_some_and(|key| key.starts_with("@messenger_"))
        });
        let ghost = ghost["state_key"].as_str().expect("an MXID").to_owned();
        person.expect("the space, joined", |event| event["type"] == "org.messenger_bridge.space");
        person.expect("m.direct", |event| {
            event["event"] == "account_data"
                && event["type"] == "m.direct"
                && event["content"][&ghost]
                    .as_array()
                    .is_some_and(|rooms| rooms.iter().any(|listed| *listed == room.as_str()))
        });
        Self { person, phone, bob, alice: alice.jid.clone(), room, ghost }
    }

    /// Awaits a message with this body by the person's own user.
    fn own(&self, body: &str) -> Value {
        self.person.expect(&format!("one's own {body:?}"), |event| {
            event["event"] == "message" && event["sender"] == self.person.id.as_str() && event["body"] == body
        })
    }

    /// Bob says something that wants to be read; gives its event, its id, and the archive's.
    fn bob_says(&self, body: &str) -> (String, String, String) {
        let sent = self.bob.call("send", json!({"to": self.alice, "body": body, "extra": [MARKABLE]}));
        let event = self.person.hears(&self.room, body);
        let mut archived = None;
        assert!(ground::poll(|| {
            let all = self.phone.archive_with(&self.bob.jid);
            archived = all.iter().find(|message| message["body"] == body).map(|message| message["archive_id"].clone());
            archived.is_some()
        }));
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (text(&event["event_id"]), text(&sent), text(&archived.expect("just seen")))
    }

    /// Awaits that the person's own client has this event as read, by receipt and by marker.
    fn is_read(&self, event: &str) {
        self.person.expect("one's own private receipt", |seen| {
            seen["event"] == "receipt"
                && seen["type"] == "m.read.private"
                && seen["user"] == self.person.id.as_str()
                && seen["event_id"] == event
        });
        self.person.expect("the marker", |seen| {
            seen["type"] == "m.fully_read" && seen["room"] == self.room.as_str() && seen["content"]["event_id"] == event
        });
    }

    /// Awaits that the account's node says that the chat with Bob was read up to here.
    fn is_published(&self, archived: &str) {
        const ALL: &str =
            "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:mds:displayed:0'/></pubsub>";
        let mut answer = String::new();
        let there = ground::poll(|| {
            answer = self
                .phone
                .try_call("iq", json!({"type": "get", "payload": ALL}))
                .map_or_else(|error| error, |answer| answer.as_str().unwrap_or_default().to_owned());
            answer.contains(&self.bob.jid) && answer.contains(archived)
        });
        assert!(there, "{archived} is not published: {answer}");
    }

    /// How often Bob was told that the message with this id was displayed.
    fn markers(&self, id: &str) -> usize {
        self.bob.events(|event| is_marker(event, id)).len()
    }
}

fn is_marker(event: &Value, id: &str) -> bool {
    event["xml"]
        .as_str()
        .is_some_and(|xml| xml.contains("urn:xmpp:chat-markers:0") && xml.contains("displayed") && xml.contains(id))
}

#[test]
fn the_persons_other_client_is_the_person_on_prosody() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start_puppets("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}), true);
    everything(&bridge, (&prosody.account("alice"), &prosody.account("bob")));
}

#[test]
fn the_persons_other_client_is_the_person_on_ejabberd() {
    let ejabberd = Ejabberd::shared();
    let bridge = Bridge::start_puppets("bridge", &json!({Ejabberd::DOMAIN: starttls(ejabberd.reach())}), true);
    everything(&bridge, (&ejabberd.account("alice"), &ejabberd.account("bob")));
}

fn everything(bridge: &Bridge, accounts: (&Account, &Account)) {
    let checked = String::from_utf8_lossy(&run_program(bridge.folder(), &["check"]).stdout).into_owned();
    assert!(checked.contains("ok    double puppet: "), "{checked}");
    let cast = Cast::begin(bridge, accounts);
    what_is_said(bridge, &cast);
    what_is_read(&cast);
}

fn what_is_said(bridge: &Bridge, cast: &Cast) {
    let (person, phone, bob) = (&cast.person, &cast.phone, &cast.bob);
    let id = phone.say(&bob.jid, "from the phone");
    let first = cast.own("from the phone");
    person.say(&cast.room, "from Element");
    bob.hears(&cast.alice, "from Element");
    let edit = format!("<replace xmlns='urn:xmpp:message-correct:0' id='{id}'/>");
    phone.call("send", json!({"to": bob.jid, "body": "from my phone", "extra": [edit]}));
    let edit = cast.own("* from my phone");
    assert_eq!(edit["relates_to"]["event_id"], first["event_id"], "{edit}");
    // The person's client sends on all that the event holds; it is a message of theirs as any other.
    person.call("send", json!({"room": cast.room, "body": "look", "content": first["content"]}));
    bob.expect("the forwarded message", |event| {
        event["body"] == "from the phone" && event["xml"].as_str().is_some_and(|xml| xml.contains("mb-"))
    });

    bridge.kill();
    phone.say(&bob.jid, "while it was away");
    person.say(&cast.room, "meanwhile");
    bridge.launch();
    cast.own("while it was away");
    bob.hears(&cast.alice, "meanwhile");
    // Lanes keep their order, so nothing is on its way behind these.
    phone.say(&bob.jid, "the end");
    let end = cast.own("the end");
    person.expect("the end in the room", |event| event["event_id"] == end["event_id"]);
    person.say(&cast.room, "the very end");
    bob.hears(&cast.alice, "the very end");
    let heard = bob.heard(&cast.alice);
    for (body, times) in [
        ("from the phone", 2),
        ("from my phone", 1),
        ("while it was away", 1),
        ("the end", 1),
        ("from Element", 1),
        ("meanwhile", 1),
    ] {
        assert_eq!(heard.iter().filter(|heard| *heard == body).count(), times, "{body}: {heard:?}");
    }
    let members = person.call("members", json!({"room": cast.room}));
    let ghosts = members.as_object().expect("members").keys().filter(|user| user.starts_with("@messenger_")).count();
    assert_eq!(ghosts, 1, "no ghost of the account: {members}");
}

fn what_is_read(cast: &Cast) {
    let (person, phone, bob) = (&cast.person, &cast.phone, &cast.bob);
    // On the phone, by its server's node.
    let (event, _, archived) = cast.bob_says("read on the phone");
    let publish = |more: &str| {
        format!(
            "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:mds:displayed:0'><item id='{}'>\
         <displayed xmlns='urn:xmpp:mds:displayed:0'><stanza-id xmlns='urn:xmpp:sid:0' by='{}' id='{archived}'/></displayed>\
         </item></publish><publish-options><x xmlns='jabber:x:data' type='submit'>\
         <field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>\
         <field var='pubsub#persist_items'><value>true</value></field>{more}\
         <field var='pubsub#access_model'><value>whitelist</value></field></x></publish-options></pubsub>",
            bob.jid, cast.alice
        )
    };
    let publish = |more: &str| phone.try_call("iq", json!({"type": "set", "payload": publish(more)}));
    // ejabberd 23.01 does not know these fields.
    publish(
        "<field var='pubsub#max_items'><value>max</value></field>\
         <field var='pubsub#send_last_published_item'><value>never</value></field>",
    )
    .or_else(|_| publish(""))
    .unwrap_or_else(|error| panic!("the phone cannot publish: {error}"));
    cast.is_read(&event);
    // On the phone, by a marker to Bob.
    let (event, id, _) = cast.bob_says("read on the phone, and Bob is told");
    phone.call(
        "send",
        json!({"to": bob.jid, "extra": [format!("<displayed xmlns='urn:xmpp:chat-markers:0' id='{id}'/>")]}),
    );
    cast.is_read(&event);
    // In Element.
    let (event, told, archived) = cast.bob_says("read in Element");
    person.call("read", json!({"room": cast.room, "event_id": event}));
    cast.is_published(&archived);
    bob.expect("the marker", |event| is_marker(event, &told));
    // In Element, privately: Bob is not told.
    let (event, untold, archived) = cast.bob_says("read in Element, privately");
    let path = format!("/_matrix/client/v3/rooms/{}/read_markers", cast.room);
    person.call("request", json!({"method": "POST", "path": path, "body": {"m.read.private": event}}));
    cast.is_published(&archived);
    let (event, last, archived) = cast.bob_says("the last");
    person.call("read", json!({"room": cast.room, "event_id": event}));
    cast.is_published(&archived);
    bob.expect("the marker", |event| is_marker(event, &last));
    assert_eq!((cast.markers(&id), cast.markers(&told), cast.markers(&untold)), (1, 1, 0));
    assert!(cast.ghost.starts_with("@messenger_"));
}

#[test]
fn on_a_homeserver_that_has_not_installed_it_a_ghost_speaks() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start_puppets("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}), false);
    let output = run_program(bridge.folder(), &["check"]);
    let checked = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(checked.contains("FAIL  double puppet: ") && checked.contains("doublepuppet.yaml"), "{checked}");
    assert!(bridge.logged_since(0, "does not know the as_token of double_puppet.registration"));
    let (alice, bob) = (prosody.account("alice"), prosody.account("bob"));
    let phone = Contact::connect_by(&alice, Tls::Start, PASSWORD, "phone").expect("a second client");
    let bob = Contact::connect(&bob);
    phone.befriend(&bob);
    let person = bridge.person("romeo");
    let management = Management::sign_in(&person, &alice.jid);
    let portal = Portal::appears(&person, &bob.jid);
    for body in ["one", "two"] {
        phone.say(&bob.jid, body);
        let said = person.hears(&portal.room, body);
        assert!(said["sender"].as_str().is_some_and(|sender| sender.starts_with("@messenger_")), "{said}");
        assert_ne!(said["sender"], portal.ghost.as_str());
    }
    management.ask("ping", |answer| answer.contains("Double puppeting does not work for you"));
    person.say(&portal.room, "three");
    bob.hears(&alice.jid, "three");
    assert_eq!(bob.heard(&alice.jid), ["one", "two", "three"]);
    assert_eq!(
        person.events_since(Mark::START, |event| event["event"] == "message" && event["body"] == "one").len(),
        1
    );
}
