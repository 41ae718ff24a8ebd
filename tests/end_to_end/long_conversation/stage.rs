//! What all scenes need: who is there, and what each says and sees.

use std::cell::RefCell;
use std::collections::BTreeSet;

use base64::Engine as _;
use serde_json::{Value, json};

use super::audience::Audience;
use super::page;
use crate::end_to_end::bridge::{Bridge, Management, Portal};
use crate::end_to_end::clients::{Contact, Person};
use crate::end_to_end::ground;
use crate::end_to_end::servers::Account;

/// Romeo in Matrix, Juliet on XMPP, and the room between them.
pub struct Stage<'a> {
    pub bridge: &'a Bridge,
    pub person: &'a Person,
    pub juliet: &'a Contact,
    /// Romeo's account.
    pub romeo: &'a Account,
    pub management: String,
    pub portal: Portal,
    pub audience: Option<&'a Audience>,
    /// The concepts that were used so far, by their files in src/translate/.
    used: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Stage<'a> {
    /// Romeo signs in, and Juliet's room appears.
    pub fn set(
        bridge: &'a Bridge,
        person: &'a Person,
        juliet: &'a Contact,
        romeo: &'a Account,
        audience: Option<&'a Audience>,
    ) -> Self {
        let management = Management::sign_in(person, &romeo.jid).room().to_owned();
        let portal = room_with(person, juliet);
        Self { bridge, person, juliet, romeo, management, portal, audience, used: RefCell::default() }
    }

    /// The same with another room between them.
    pub fn in_room(self, room: String) -> Self {
        Self { portal: Portal { room, ghost: self.portal.ghost }, ..self }
    }

    /// What follows uses the concept of this file in src/translate/.
    pub fn uses(&self, concept: &'static str) {
        self.used.borrow_mut().insert(concept);
    }

    /// Every row of docs/features.md was used.
    pub fn used_all_of_the_page(&self) {
        let used = self.used.borrow();
        let rows = page::rows();
        for concept in used.iter() {
            let file = ground::repository(&format!("src/translate/{concept}.rs"));
            assert!(file.exists(), "{concept} is no concept");
        }
        for (concept, files) in &rows {
            let elsewhere = || page::ELSEWHERE.iter().any(|(file, _)| files.contains(file));
            assert!(files.iter().any(|file| used.contains(file)) || elsewhere(), "nobody uses this: {concept}");
        }
    }

    // ---- Romeo, in Matrix

    /// He says something, and Juliet reads it. Gives its event, and the id that her app knows it by.
    pub fn says(&self, body: &str) -> (String, String) {
        let event = self.person.say(&self.portal.room, body);
        (event, id_of(&self.juliet.hears(&self.romeo.jid, body)))
    }

    /// He sends a message of any content.
    pub fn sends(&self, content: &Value) -> String {
        let room = &self.portal.room;
        let sent = self.person.call("send", json!({"room": room, "body": content["body"], "content": content}));
        sent.as_str().expect("an event id").to_owned()
    }

    /// The same as an event of any type.
    pub fn sends_event(&self, kind: &str, content: &Value) -> String {
        let event = json!({"room": self.portal.room, "type": kind, "content": content});
        self.person.call("send_event", event).as_str().expect("an event id").to_owned()
    }

    /// He answers `event`.
    pub fn answers(&self, event: &Value, body: &str) -> String {
        self.sends(&json!({"msgtype": "m.text", "body": body, "m.relates_to": {"m.in_reply_to": {"event_id": event}}}))
    }

    /// He changes what `event` says.
    pub fn changes(&self, event: &str, body: &str) {
        self.sends(&json!({
            "msgtype": "m.text", "body": format!("* {body}"), "m.new_content": {"msgtype": "m.text", "body": body},
            "m.relates_to": {"rel_type": "m.replace", "event_id": event},
        }));
    }

    pub fn reacts(&self, event: &Value, key: &str) -> String {
        let relation = json!({"rel_type": "m.annotation", "event_id": event, "key": key});
        self.sends_event("m.reaction", &json!({"m.relates_to": relation}))
    }

    pub fn takes_back(&self, event: &str) {
        self.person.call("redact", json!({"room": self.portal.room, "event_id": event}));
    }

    /// He shares a file of the homeserver's, as a message or sticker of this content beside.
    pub fn shares(&self, name: &str, mime: &str, data: &[u8], content: &Value) -> String {
        let upload = json!({"name": name, "mime": mime, "content": {"base64": base64(data)}});
        let mut content = content.clone();
        content["url"] = self.person.call("upload", upload)["url"].clone();
        content["info"]["mimetype"] = json!(mime);
        content["info"]["size"] = json!(data.len());
        match content["msgtype"].as_str() {
            Some(_) => self.sends(&content),
            None => self.sends_event("m.sticker", &content),
        }
    }

    /// He sees something of Juliet's in the room.
    pub fn sees(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.person.expect(what, |event| {
            event["room"] == self.portal.room.as_str() && event["sender"] == self.portal.ghost.as_str() && wanted(event)
        })
    }

    /// He sees this in the room, whoever said it: what he says elsewhere is his own, or his other self's.
    pub fn shows(&self, body: &str) -> Value {
        self.person.expect(&format!("{body:?} in the room"), |event| {
            event["event"] == "message" && event["room"] == self.portal.room.as_str() && event["body"] == body
        })
    }

    /// He sees what she takes back, an event of hers.
    pub fn sees_taken_back(&self, event: &Value) {
        self.sees("what was taken back", |told| {
            told["event"] == "redaction" && (told["redacts"] == *event || told["content"]["redacts"] == *event)
        });
    }

    /// The bot tells him something with these words.
    pub fn is_told(&self, room: &str, words: &str) -> Value {
        self.person.expect(&format!("the bot's words: {words}"), |event| {
            event["room"] == room
                && event["sender"] == Bridge::BOT
                && event["body"].as_str().is_some_and(|body| body.contains(words))
        })
    }

    // ---- Juliet, on XMPP

    /// She says something, and Romeo reads it. Gives its id, and its event.
    pub fn juliet_says(&self, body: &str) -> (String, Value) {
        let id = self.juliet.say(&self.romeo.jid, body);
        (id, self.person.hears(&self.portal.room, body)["event_id"].clone())
    }

    /// She sends a message with this beside.
    pub fn juliet_sends(&self, body: Option<&str>, beside: &[&str]) -> String {
        let sent = self.juliet.call("send", json!({"to": self.romeo.jid, "body": body, "extra": beside}));
        sent.as_str().expect("an id").to_owned()
    }

    /// She shares a file.
    pub fn juliet_shares(&self, name: &str, mime: &str, data: &[u8]) -> Value {
        let content = json!({"base64": base64(data)});
        self.juliet.call("share", json!({"to": self.romeo.jid, "name": name, "mime": mime, "content": content}));
        let event = self.sees(&format!("the file {name}"), |event| event["body"] == name);
        assert!(event["content"]["url"].as_str().is_some_and(|url| url.starts_with("mxc://")), "{event}");
        event
    }

    /// She gets a stanza with all of these in it.
    pub fn juliet_gets(&self, what: &str, parts: &[&str]) -> Value {
        self.juliet.expect(what, |event| {
            event["event"] == "message"
                && event["xml"].as_str().is_some_and(|xml| parts.iter().all(|part| xml.contains(part)))
        })
    }

    /// Romeo's web client shows another page of its own.
    pub fn audience_visits(&self, path: &str) {
        if let Some(audience) = self.audience {
            audience.visits(path);
        }
    }

    /// Everybody looks up: what Romeo's web client shows is kept under this name, once it shows this text.
    pub fn picture(&self, name: &str, text: &str) {
        if let Some(audience) = self.audience {
            audience.picture(name, text);
        }
    }
}

/// The room that appears for Juliet. The bridge lets Romeo into it itself, so he may never see an invitation.
fn room_with(person: &Person, juliet: &Contact) -> Portal {
    let bridged = person.expect("a room whose m.bridge names Juliet", |event| {
        event["type"] == "m.bridge" && event["content"]["channel"]["id"] == juliet.jid.as_str()
    });
    let room = bridged["room"].as_str().expect("a room").to_owned();
    let ghost = person.expect("Juliet's ghost in her room", |event| {
        event["type"] == "m.room.member"
            && event["room"] == room.as_str()
            && event["content"]["membership"] == "join"
            && event["state_key"].as_str().is_some_and(|key| key.starts_with("@messenger_") && key.contains("juliet"))
    });
    Portal { room, ghost: ghost["state_key"].as_str().expect("an MXID").to_owned() }
}

/// The id of a stanza.
pub fn id_of(message: &Value) -> String {
    message["id"].as_str().expect("an id").to_owned()
}

pub fn base64(data: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(data)
}
