//! slixmpp on an XMPP server; commands and events as in `contact.py`.

use std::ops::Deref;

use serde_json::{Value, json};

use super::Driver;
use crate::end_to_end::certificates::Authority;
use crate::end_to_end::servers::{Account, PASSWORD};

/// A photo for a vCard: a PNG of one pixel, 70 bytes, as base64.
pub const PHOTO: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// Somebody with an XMPP account and a client.
#[derive(Debug)]
pub struct Contact {
    driver: Driver,
    /// The bare JID.
    pub jid: String,
}

/// How a contact's client reaches its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Start,
    Direct,
}

impl Contact {
    /// Signs in by STARTTLS and shows itself available.
    pub fn connect(account: &Account) -> Self {
        Self::connect_by(account, Tls::Start, PASSWORD, "tests")
            .unwrap_or_else(|error| panic!("{}: {error}", account.jid))
    }

    /// Signs in with a client that knows XHTML-IM and nothing newer.
    pub fn connect_old(account: &Account) -> Self {
        Self::connect_as(account, Tls::Start, PASSWORD, "old", true)
            .unwrap_or_else(|error| panic!("{}: {error}", account.jid))
    }

    /// Signs in with all choices open; `Err` is what slixmpp says.
    pub fn connect_by(account: &Account, tls: Tls, password: &str, resource: &str) -> Result<Self, String> {
        Self::connect_as(account, tls, password, resource, false)
    }

    fn connect_as(account: &Account, tls: Tls, password: &str, resource: &str, old: bool) -> Result<Self, String> {
        let driver = Driver::start(account.localpart(), "contact.py");
        let port = if tls == Tls::Direct { account.reach.direct_tls } else { account.reach.starttls };
        driver.try_call(
            "connect",
            json!({
                "jid": format!("{}/{resource}", account.jid), "password": password, "host": "127.0.0.1", "port": port,
                "ca": Authority::trusted().file(), "direct_tls": tls == Tls::Direct,
                "old": old,
            }),
        )?;
        Ok(Self { driver, jid: account.jid.clone() })
    }

    /// Signs in by STARTTLS, and again whenever the connection is lost.
    pub fn stay(account: &Account) -> Self {
        let driver = Driver::start(account.localpart(), "contact.py");
        driver.call(
            "connect",
            json!({
                "jid": format!("{}/tests", account.jid), "password": PASSWORD, "host": "127.0.0.1",
                "port": account.reach.starttls, "ca": Authority::trusted().file(), "stay": true,
            }),
        );
        Self { driver, jid: account.jid.clone() }
    }

    /// Says something until the server has it for certain; the client must [`Self::stay`]. `id` is the stanza's.
    pub fn say_surely(&self, to: &str, body: &str, id: &str) {
        self.driver.call("say_surely", json!({"to": to, "body": body, "name": id}));
    }

    /// What the own archive holds of the conversation with this bare JID, oldest first.
    pub fn archive_with(&self, with: &str) -> Vec<Value> {
        match self.driver.call("archive", json!({"contact": with})) {
            Value::Array(messages) => messages,
            other => panic!("expected an archive, got {other}"),
        }
    }

    /// Bodies of all messages from this bare JID that the own archive holds, in its order.
    pub fn archived(&self, from: &str) -> Vec<String> {
        let messages = self.archive_with(from);
        let theirs = messages.iter().filter(|message| bare(&message["from"]) == from);
        theirs.filter_map(|message| message["body"].as_str().map(str::to_owned)).collect()
    }

    /// Sends a chat message and returns its id.
    pub fn say(&self, to: &str, body: &str) -> String {
        let id = self.driver.call("send", json!({"to": to, "body": body}));
        id.as_str().expect("a message id").to_owned()
    }

    /// Awaits a message with exactly this body from this bare JID.
    pub fn hears(&self, from: &str, body: &str) -> Value {
        self.driver.expect(&format!("the message {body:?} from {from}"), |event| {
            is_message_of(event, from) && event["body"] == body
        })
    }

    /// Bodies of all messages so far from this bare JID, in order.
    pub fn heard(&self, from: &str) -> Vec<String> {
        let messages = self.driver.events(|event| is_message_of(event, from) && event["body"].is_string());
        messages.iter().filter_map(|event| event["body"].as_str().map(str::to_owned)).collect()
    }

    /// Asks something and gives the answer, both as XML text.
    pub fn ask(&self, kind: &str, payload: &str) -> String {
        let answer = self.driver.call("iq", json!({"type": kind, "payload": payload}));
        answer.as_str().expect("an answer").to_owned()
    }

    /// Sends stanzas as they are.
    pub fn raw(&self, xml: &str) {
        self.driver.call("raw", json!({"xml": xml}));
    }

    /// Sets one's own presence.
    pub fn show(&self, show: Option<&str>, status: Option<&str>) {
        self.driver.call("presence", json!({"show": show, "status": status}));
    }

    /// Subscribes both to each other's presence, and waits until each server knows it.
    pub fn befriend(&self, other: &Self) {
        for (one, two) in [(self, other), (other, self)] {
            one.driver.call("subscribe", json!({"jid": two.jid}));
            two.driver.expect("a subscription request", |event| is_presence(event, "subscribe", &one.jid));
            two.driver.call("accept", json!({"jid": one.jid}));
            one.driver.expect("the acceptance", |event| is_presence(event, "subscribed", &two.jid));
        }
    }

    /// Signs out in order.
    pub fn leave(self) {
        self.driver.call("disconnect", json!({}));
    }
}

impl Deref for Contact {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

/// Whether an event is a presence of this type from that account.
pub fn is_presence(event: &Value, kind: &str, from: &str) -> bool {
    event["event"] == "presence" && event["type"] == kind && bare(&event["from"]) == from
}

fn is_message_of(event: &Value, from: &str) -> bool {
    event["event"] == "message" && bare(&event["from"]) == from
}

fn bare(jid: &Value) -> &str {
    let jid = jid.as_str().unwrap_or_default();
    jid.split_once('/').map_or(jid, |(bare, _)| bare)
}
