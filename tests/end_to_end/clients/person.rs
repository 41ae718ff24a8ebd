//! matrix-nio on Synapse; commands and events as in `person.py`.

use std::ops::Deref;

use serde_json::{Value, json};

use super::Driver;
use crate::end_to_end::servers::PASSWORD;
use crate::end_to_end::servers::synapse::User;

/// Somebody with a Matrix account and a client, who joins what they are invited to.
#[derive(Debug)]
pub struct Person {
    driver: Driver,
    /// The MXID.
    pub id: String,
}

impl Person {
    /// Signs in and follows from now on.
    pub fn login(user: &User) -> Self {
        Self::login_as(user, true)
    }

    /// The same for somebody who accepts no invitation.
    pub fn login_by_hand(user: &User) -> Self {
        Self::login_as(user, false)
    }

    fn login_as(user: &User, auto_join: bool) -> Self {
        let name = user.id.trim_start_matches('@').split(':').next().unwrap_or_default();
        let driver = Driver::start(name, "person.py");
        driver.call(
            "login",
            json!({"homeserver": user.homeserver, "user": user.id, "password": PASSWORD, "auto_join": auto_join}),
        );
        Self { driver, id: user.id.clone() }
    }

    /// A new direct room to which `user` is invited.
    pub fn direct_room(&self, user: &str) -> String {
        text(self.driver.call("direct", json!({"user": user})))
    }

    /// Sends a text and returns its event id.
    pub fn say(&self, room: &str, body: &str) -> String {
        text(self.driver.call("send", json!({"room": room, "body": body})))
    }

    /// The same until the homeserver has it for certain, also while it restarts.
    pub fn say_surely(&self, room: &str, body: &str) -> String {
        text(self.driver.call("say_surely", json!({"room": room, "body": body})))
    }

    /// Awaits a message in `room` with exactly this body from somebody else.
    pub fn hears(&self, room: &str, body: &str) -> Value {
        self.driver.expect(&format!("the message {body:?} in {room}"), |event| {
            self.is_message_in(event, room) && event["body"] == body
        })
    }

    /// Bodies of all texts, emotes and notices so far that others sent to `room`, in order.
    pub fn heard(&self, room: &str) -> Vec<String> {
        let messages = self.driver.events(|event| self.is_message_in(event, room));
        messages.iter().filter_map(|event| event["body"].as_str().map(str::to_owned)).collect()
    }

    /// Awaits the member event by which `user` is in (or invited to) `room`.
    pub fn sees_member(&self, room: &str, user: &str, membership: &str) -> Value {
        self.driver.expect(&format!("{user} as {membership} of {room}"), |event| {
            event["type"] == "m.room.member"
                && event["room"] == room
                && event["state_key"] == user
                && event["content"]["membership"] == membership
        })
    }

    fn is_message_in(&self, event: &Value, room: &str) -> bool {
        event["event"] == "message" && event["room"] == room && event["sender"] != self.id.as_str()
    }
}

impl Deref for Person {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

/// The text that a client answered.
fn text(answer: Value) -> String {
    match answer {
        Value::String(text) => text,
        other => panic!("expected a text, got {other}"),
    }
}
