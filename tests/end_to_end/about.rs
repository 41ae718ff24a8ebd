//! What is said about what was said, between matrix-nio and slixmpp on Prosody: answers, edits, retractions, reactions, read
//! receipts and nudges, both ways.

use serde_json::{Value, json};

use super::bridge::{Bridge, Management, Portal, starttls};
use super::clients::{Contact, Person};
use super::servers::{Account, Prosody};

pub(super) struct Chat<'a> {
    pub person: Person,
    pub bob: Contact,
    pub alice: String,
    pub portal: Portal,
    _bridge: &'a Bridge,
}

impl<'a> Chat<'a> {
    fn begin(bridge: &'a Bridge, prosody: &Prosody) -> Self {
        Self::begin_with(bridge, prosody, Contact::connect)
    }

    /// A person whose account is alice's, and Bob with a client of this kind.
    pub(super) fn begin_with(bridge: &'a Bridge, prosody: &Prosody, client: impl FnOnce(&Account) -> Contact) -> Self {
        Self::between(bridge, &prosody.account("alice"), &prosody.account("bob"), client)
    }

    /// The same with accounts of any server.
    pub(super) fn between(
        bridge: &'a Bridge,
        alice_account: &Account,
        bob_account: &Account,
        client: impl FnOnce(&Account) -> Contact,
    ) -> Self {
        let (alice, bob) = (Contact::connect(alice_account), client(bob_account));
        alice.befriend(&bob);
        alice.leave();
        let person = bridge.person("romeo");
        Management::sign_in(&person, &alice_account.jid);
        let portal = Portal::appears(&person, &bob.jid);
        let chat = Self { person, bob, alice: alice_account.jid.clone(), portal, _bridge: bridge };
        // Once Bob's presence is known his client is asked what it can do. What then crosses both ways comes after the
        // question, and after the answer.
        chat.bob.show(None, Some("here"));
        chat.person.expect("Bob's presence", |event| {
            event["event"] == "presence" && event["user"] == chat.portal.ghost.as_str() && event["status"] == "here"
        });
        chat.person.say(&chat.portal.room, "Hello?");
        chat.bob.hears(&chat.alice, "Hello?");
        chat.bob.say(&chat.alice, "Hello");
        chat.person.hears(&chat.portal.room, "Hello");
        chat
    }

    /// The person says something; gives its event, and the id that Bob's client knows it by.
    fn said(&self, body: &str) -> (String, String) {
        let event = self.person.say(&self.portal.room, body);
        let heard = self.bob.hears(&self.alice, body);
        (event, heard["id"].as_str().expect("an id").to_owned())
    }

    /// Bob says something; gives its id and the event that the person's client knows it by.
    fn heard(&self, body: &str) -> (String, String) {
        let id = self.bob.say(&self.alice, body);
        let event = self.person.hears(&self.portal.room, body);
        (id, event["event_id"].as_str().expect("an event id").to_owned())
    }

    pub(super) fn bob_sends(&self, body: Option<&str>, extra: &str) -> String {
        let sent = self.bob.call("send", json!({"to": self.alice, "body": body, "extra": [extra]}));
        sent.as_str().expect("an id").to_owned()
    }

    /// Awaits a stanza at Bob's client with all of these in it.
    pub(super) fn bob_gets(&self, what: &str, parts: &[&str]) -> Value {
        self.bob.expect(what, |event| {
            event["event"] == "message"
                && event["xml"].as_str().is_some_and(|xml| parts.iter().all(|part| xml.contains(part)))
        })
    }

    pub(super) fn person_sees(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let ghost = self.portal.ghost.as_str();
        self.person.expect(what, |event| {
            event["room"] == self.portal.room.as_str() && event["sender"] == ghost && wanted(event)
        })
    }
}

#[test]
fn answers_edits_retractions_reactions_and_receipts_cross_both_ways() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let chat = Chat::begin(&bridge, prosody);
    from_bob(&chat);
    from_the_person(&chat);
}

fn from_bob(chat: &Chat<'_>) {
    let (event, id) = chat.said("Shall I come?");
    let quoted = "> Shall I come?\n";
    let reply = format!("<reply xmlns='urn:xmpp:reply:0' to='{}' id='{id}'/>", chat.alice);
    let part = format!(
        "<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='0' end='{}'/></fallback>",
        quoted.chars().count()
    );
    chat.bob.call("send", json!({"to": chat.alice, "body": format!("{quoted}Yes"), "extra": [reply, part]}));
    let answer = chat.person.hears(&chat.portal.room, "Yes");
    assert_eq!(answer["relates_to"]["m.in_reply_to"]["event_id"], event.as_str(), "{answer}");

    let (first, first_event) = chat.heard("Tomorow");
    for text in ["Tomorrow", "Tomorrow!"] {
        chat.bob_sends(Some(text), &format!("<replace xmlns='urn:xmpp:message-correct:0' id='{first}'/>"));
        let edit = chat.person_sees("the edit", |event| event["content"]["m.new_content"]["body"] == text);
        assert_eq!(edit["relates_to"]["event_id"], first_event.as_str(), "{edit}");
    }

    let mut reactions = Vec::new();
    for set in [vec!["👍", "❤"], vec!["❤"]] {
        let set: String = set.iter().map(|text| format!("<reaction>{text}</reaction>")).collect();
        chat.bob_sends(None, &format!("<reactions xmlns='urn:xmpp:reactions:0' id='{id}'>{set}</reactions>"));
        if reactions.is_empty() {
            for key in ["👍", "❤"] {
                let reaction = chat.person_sees("the reaction", |event| {
                    event["event"] == "reaction" && event["relates_to"]["key"] == key
                });
                assert_eq!(reaction["relates_to"]["event_id"], event.as_str(), "{reaction}");
                reactions.push(reaction["event_id"].clone());
            }
        }
    }
    let redacts = |event: &Value, target: &Value| {
        event["event"] == "redaction" && (event["redacts"] == *target || event["content"]["redacts"] == *target)
    };
    chat.person_sees("the reaction taken back", |event| redacts(event, &reactions[0]));

    chat.bob_sends(None, &format!("<displayed xmlns='urn:xmpp:chat-markers:0' id='{id}'/>"));
    chat.person.expect("the ghost's read receipt", |seen| {
        seen["event"] == "receipt" && seen["user"] == chat.portal.ghost.as_str() && seen["event_id"] == event.as_str()
    });

    let (oops, oops_event) = chat.heard("oops");
    chat.bob_sends(
        Some("I took something back."),
        &format!("<retract xmlns='urn:xmpp:message-retract:1' id='{oops}'/>"),
    );
    chat.person_sees("the retraction", |event| redacts(event, &json!(oops_event)));

    chat.bob_sends(None, "<attention xmlns='urn:xmpp:attention:0'/>");
    let nudge = chat.person_sees("the nudge", |event| event["body"] == "has sent you a nudge.");
    assert_eq!(nudge["msgtype"], "m.emote");

    let omemo = "<encryption xmlns='urn:xmpp:eme:0' namespace='eu.siacs.conversations.axolotl' name='OMEMO'/>";
    chat.bob_sends(Some("You cannot read this."), omemo);
    chat.person_sees("the notice of an encrypted message", |event| {
        event["msgtype"] == "m.notice" && event["body"].as_str().is_some_and(|body| body.contains("OMEMO"))
    });
    let heard = chat.person.heard(&chat.portal.room);
    assert!(!heard.iter().any(|body| body == "I took something back."), "{heard:?}");
}

fn from_the_person(chat: &Chat<'_>) {
    let (person, room) = (&chat.person, chat.portal.room.as_str());
    let (id, event) = chat.heard("What light is that?");
    let answer = json!({"m.relates_to": {"m.in_reply_to": {"event_id": event}}});
    person.call("send", json!({"room": room, "body": "The east", "content": answer}));
    let answer = chat.bob_gets("the answer", &["urn:xmpp:reply:0", "The east"]);
    assert_eq!(answer["body"], "> What light is that?\nThe east", "{answer}");
    assert!(answer["xml"].as_str().is_some_and(|xml| xml.contains(&id)), "{answer}");

    let (first_event, first) = chat.said("teh sun");
    let edit = json!({
        "body": "* the sun", "m.new_content": {"msgtype": "m.text", "body": "the sun"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": first_event},
    });
    person.call("send", json!({"room": room, "body": "* the sun", "content": edit}));
    let edit = chat.bob_gets("the edit", &["urn:xmpp:message-correct:0", &first]);
    assert_eq!(edit["body"], "the sun");

    let mut events = Vec::new();
    for key in ["👍", "☀"] {
        let content = json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": event, "key": key}});
        let sent = person.call("send_event", json!({"room": room, "type": "m.reaction", "content": content}));
        events.push(sent.as_str().expect("an event id").to_owned());
    }
    chat.bob_gets("both reactions", &["urn:xmpp:reactions:0", &id, "👍", "☀"]);
    let mark = chat.bob.mark();
    person.call("redact", json!({"room": room, "event_id": events[0]}));
    chat.bob.expect_since(mark, "one reaction left", |event| {
        event["xml"]
            .as_str()
            .is_some_and(|xml| xml.contains("urn:xmpp:reactions:0") && xml.contains("☀") && !xml.contains("👍"))
    });

    person.call("redact", json!({"room": room, "event_id": first_event}));
    chat.bob_gets("the retraction", &["urn:xmpp:message-retract:1", &first]);

    // Bob's client asks to be told of what is read.
    let id = chat.bob_sends(Some("Read this"), "<markable xmlns='urn:xmpp:chat-markers:0'/>");
    let event = person.hears(room, "Read this");
    person.call("read", json!({"room": room, "event_id": event["event_id"]}));
    chat.bob_gets("the marker", &["urn:xmpp:chat-markers:0", "displayed", &id]);

    let id = chat.bob_sends(Some("Have you got this?"), "<request xmlns='urn:xmpp:receipts'/>");
    chat.bob.expect("the delivery receipt", |event| event["receipt_for"] == id.as_str());

    person.say(room, "!msgr nudge");
    chat.bob_gets("the nudge", &["urn:xmpp:attention:0"]);
}
