//! Shapes that must not end a stream nor lose the next message.

use serde_json::json;

use super::bridge::{Bridge, Management, Portal, starttls};
use super::clients::{Contact, Person};
use super::scripted::{Script, Scripted};
use super::servers::Prosody;

const SERVER: &str = "hostile.test";

/// A roster with one item that no address is, before and after good ones.
const ROSTER: &str = "<item jid='first@hostile.test' subscription='both' name='First'/>\
     <item jid='@@not an address@@/' subscription='both' name='Broken'/><item subscription='both'/>\
     <item jid='bob@hostile.test' subscription='maybe' name='Bob' ask='banana'/>";

struct Scene {
    server: Scripted,
    _bridge: Bridge,
    person: Person,
    bob: Portal,
}

impl Scene {
    fn open() -> Self {
        let server = Scripted::start(SERVER, Script { roster: ROSTER.to_owned(), ..Script::default() });
        let bridge = Bridge::start("bridge", &json!({SERVER: server.domain()}));
        let person = bridge.person("romeo");
        Management::sign_in(&person, &server.jid());
        let bob = Portal::appears(&person, "bob@hostile.test");
        Self { server, _bridge: bridge, person, bob }
    }

    /// Bob says something plain, which must arrive on the connection that was there before.
    fn next_message_arrives(&self, body: &str) {
        let connections = self.server.connections();
        self.server.send(&chat("bob@hostile.test/home", body, ""));
        self.person.hears(&self.bob.room, body);
        self.server.await_all_acknowledged();
        assert_eq!(self.server.connections(), connections, "the stream ended");
    }
}

fn chat(from: &str, body: &str, more: &str) -> String {
    format!("<message from='{from}' to='alice@hostile.test/scripted' type='chat'><body>{body}</body>{more}</message>")
}

#[test]
fn hostile_stanzas_neither_end_the_stream_nor_lose_the_next_message() {
    let scene = Scene::open();
    // The broken items of the roster are skipped, the others kept.
    Portal::appears(&scene.person, "first@hostile.test");
    scene.next_message_arrives("after a broken roster item");

    let attribute = "a".repeat(100_000);
    scene.server.send(&chat(
        "bob@hostile.test/home",
        "beside an attribute",
        &format!("<x xmlns='urn:test' a='{attribute}'/>"),
    ));
    scene.person.hears(&scene.bob.room, "beside an attribute");
    scene
        .server
        .send(&format!("<message from='bob@hostile.test' type='chat' id='{attribute}'><body>by id</body></message>"));
    scene.next_message_arrives("after an attribute of 100 kB");

    for stanza in ["message", "presence", "iq"] {
        scene.server.send(&format!(
            "<{stanza} from='bob@hostile.test/home' id='banana' type='banana'><body>odd</body></{stanza}>"
        ));
        scene.next_message_arrives(&format!("after a {stanza} of an unknown type"));
    }

    scene.server.send("<presence from='bob@hostile.test/📱🙂'><show>away</show></presence>");
    scene.server.send(&chat("bob@hostile.test/📱🙂", "from a resource with emoji", ""));
    scene.person.hears(&scene.bob.room, "from a resource with emoji");
    scene.next_message_arrives("after an emoji");

    let odd = [
        "<message from='@@/' type='chat'><body>from nowhere</body></message>",
        "<message from='bob@hostile.test' type='chat'/>",
        "<presence from='bob@hostile.test/home'><priority>many</priority><show>banana</show></presence>",
        "<iq from='hostile.test' type='set' id='push'><query xmlns='jabber:iq:roster'><item jid='//'/></query></iq>",
        "<iq from='bob@hostile.test/home' type='get' id='empty'/>",
    ];
    for (number, stanza) in odd.into_iter().enumerate() {
        scene.server.send(stanza);
        scene.next_message_arrives(&format!("after oddity {number}"));
    }
}

#[test]
fn a_failed_resumption_without_a_count_becomes_a_fresh_session() {
    let scene = Scene::open();
    scene.next_message_arrives("before the cut");
    scene.server.cut();
    scene.server.expect("an attempt to resume", |element| element.name() == "resume");
    // `<failed/>` was the answer: the bridge binds anew.
    scene.server.expect_times(2, "enable");
    scene.next_message_arrives("after the cut");
    scene.person.say(&scene.bob.room, "and back");
    scene.server.expect("the answer", |element| {
        element.name() == "message"
            && element.get_child("body", "jabber:client").is_some_and(|body| body.text() == "and back")
    });
    assert_eq!(scene.person.heard(&scene.bob.room), ["before the cut", "after the cut"]);
}

#[test]
fn prosody_passes_on_what_must_not_harm() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let (alice_account, bob_account) = (prosody.account("alice"), prosody.account("bob"));
    let alice = Contact::connect(&alice_account);
    let bob = Contact::connect(&bob_account);
    alice.befriend(&bob);
    alice.leave();
    let person = bridge.person("romeo");
    Management::sign_in(&person, &alice_account.jid);
    let portal = Portal::appears(&person, &bob.jid);
    let to = &alice_account.jid;
    let attribute = "a".repeat(100_000);
    bob.raw(&format!(
        "<message to='{to}' type='chat'><body>with it</body><x xmlns='urn:test' a='{attribute}'/></message>"
    ));
    bob.say(to, "after an attribute of 100 kB");
    person.hears(&portal.room, "after an attribute of 100 kB");
    bob.raw(&format!("<message to='{to}' type='banana'><body>odd</body></message>"));
    bob.say(to, "after an unknown type");
    person.hears(&portal.room, "after an unknown type");
}
