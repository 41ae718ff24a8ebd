//! Failures: an error stanza (RFC 6120 section 8.3) -> a notice in reply to the message that it answers.

use ruma::OwnedEventId;
use serde_json::{Value, json};

use super::{
    blocking,
    stanza::{CLIENT, STANZAS, Stanza},
};
use crate::{
    bot::html_of,
    domain::{effect::MatrixEvent, text::one_line},
};

/// Most characters of the other side's words that are shown.
const MAX_WORDS: usize = 200;

/// A stanza error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StanzaError {
    /// The defined condition; `undefined-condition` where none is given. `blocked` where the account's own server says that it
    /// blocks whom the stanza was for (XEP-0191 section 3.3).
    pub condition: String,
    /// The server's own words.
    pub text: Option<String>,
    /// The error is temporary: its type is `wait` (RFC 6120 section 8.3.2).
    pub temporary: bool,
}

/// Takes the error out of a stanza of type `error`.
pub fn from_xmpp(stanza: &mut Stanza) -> StanzaError {
    let error = stanza.take("error", CLIENT);
    let children = || error.iter().flat_map(minidom::Element::children).filter(|child| child.ns() == STANZAS);
    let blocked = error.as_ref().is_some_and(|error| error.has_child(blocking::BLOCKED, blocking::ERRORS));
    let condition = match children().find(|child| child.name() != "text") {
        Some(_) if blocked => blocking::BLOCKED,
        Some(condition) => condition.name(),
        None => "undefined-condition",
    };
    let text = children().find(|child| child.name() == "text").map(|child| one_line(&child.text(), MAX_WORDS));
    StanzaError {
        condition: condition.to_owned(),
        text: text.filter(|text| !text.is_empty()),
        temporary: error.as_ref().is_some_and(|error| error.attr("type") == Some("wait")),
    }
}

impl StanzaError {
    /// What it means to a person.
    pub fn sentence(&self) -> String {
        let meaning = match self.condition.as_str() {
            "service-unavailable" | "recipient-unavailable" => "the contact cannot be reached",
            "item-not-found" => "there is no such contact",
            "remote-server-not-found" | "remote-server-timeout" => "the contact's server cannot be reached",
            "forbidden" | "not-authorized" | "not-allowed" | "not-acceptable" => {
                "the contact or the server does not accept it"
            }
            "subscription-required" | "registration-required" => "the contact must accept you first",
            "policy-violation" | "resource-constraint" => "the server refuses it for now",
            "gone" | "redirect" => "the contact has moved away",
            _ => "the server refused it",
        };
        match &self.text {
            _ if self.condition == blocking::BLOCKED => {
                format!("Your message was not delivered: {}.", blocking::why_not_sent())
            }
            Some(text) => format!("Your message was not delivered: {meaning} (\u{201c}{text}\u{201d})."),
            None => format!("Your message was not delivered: {meaning}."),
        }
    }
}

/// A notice of the bot that something is wrong, in reply to an event.
pub fn to_matrix(text: &str, about: Option<OwnedEventId>) -> MatrixEvent {
    let mut content = content(&format!("\u{26a0}\u{fe0f} {text}"));
    content["m.mentions"] = json!({});
    if let Some(event) = about {
        content["m.relates_to"] = json!({ "m.in_reply_to": { "event_id": event } });
    }
    MatrixEvent { kind: "m.room.message".to_owned(), content: content.to_string() }
}

/// A notice of the bot that all is as it should be.
pub fn all_well(text: &str) -> MatrixEvent {
    let mut content = content(text);
    content["m.mentions"] = json!({});
    MatrixEvent { kind: "m.room.message".to_owned(), content: content.to_string() }
}

/// What a notice says, with commands as code.
pub(super) fn content(text: &str) -> Value {
    let mut content = json!({ "msgtype": "m.notice", "body": text });
    if let Some(html) = html_of(text) {
        content["format"] = json!("org.matrix.custom.html");
        content["formatted_body"] = json!(html);
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_code_and_only_what_is_wrong_has_a_sign() {
        let shown = |event: MatrixEvent| -> Value { serde_json::from_str(&event.content).unwrap() };
        let wrong = shown(to_matrix("Not sent: `!msgr unblock` ends it, <b>.", None));
        assert_eq!(
            wrong["formatted_body"],
            "\u{26a0}\u{fe0f} Not sent: <code>!msgr unblock</code> ends it, &lt;b&gt;."
        );
        let well = shown(all_well("All is well."));
        assert_eq!(well, json!({ "msgtype": "m.notice", "body": "All is well.", "m.mentions": {} }));
    }

    /// RFC 6120 section 8.3.1, shape of an error.
    #[test]
    fn an_error_becomes_a_sentence() {
        let xml = "<message xmlns='jabber:client' type='error' id='x'><body>hi</body><error type='cancel'>\
                   <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
                   <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>no</text></error></message>";
        let error = from_xmpp(&mut Stanza::read(&xml.parse().unwrap()));
        assert_eq!(
            error,
            StanzaError { condition: "service-unavailable".to_owned(), text: Some("no".to_owned()), temporary: false }
        );
        assert_eq!(
            error.sentence(),
            "Your message was not delivered: the contact cannot be reached (\u{201c}no\u{201d})."
        );
        // XEP-0191 section 3.3, "Error: JID is blocked".
        let xml = "<message xmlns='jabber:client' type='error' from='romeo@montague.net' to='juliet@capulet.com'>\
                   <body>Can you hear me now?</body><error type='cancel'>\
                   <not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><blocked xmlns='urn:xmpp:blocking:errors'/>\
                   </error></message>";
        let blocked = from_xmpp(&mut Stanza::read(&xml.parse().unwrap()));
        assert_eq!(blocked.condition, "blocked");
        assert!(blocked.sentence().contains("you have blocked this contact"), "{}", blocked.sentence());
        let none = from_xmpp(&mut Stanza::read(&"<message xmlns='jabber:client' type='error'/>".parse().unwrap()));
        assert_eq!(none.condition, "undefined-condition");
    }
}
