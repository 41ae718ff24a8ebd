//! Messages: `m.room.message` of text, notice and emote <-> `<body/>` (RFC 6121 section 5.2.3), with XEP-0245 `/me`.

use minidom::Element;
use ruma::events::{
    Mentions,
    room::message::{MessageType, RoomMessageEventContent},
};
use serde_json::value::RawValue;

use super::{
    location,
    stanza::{Stanza, addressed, element, legal, text_element},
};
use crate::domain::{
    BareJid, Timestamp,
    effect::{MatrixEvent, Outgoing},
};

/// What makes an action of a body (XEP-0245 section 2).
const ME: &str = "/me ";
/// Stands before a text that would be taken for an action: WORD JOINER, which has no width and breaks nothing.
const NOT_AN_ACTION: char = '\u{2060}';

/// A message, as both sides know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The text, for an action without `/me `.
    pub text: String,
    /// It is an action ("waves").
    pub emote: bool,
}

/// Why a Matrix message has no form here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untranslatable {
    /// The content is not what the specification says.
    #[error("the message could not be read")]
    Broken,
    /// A kind that is not carried over.
    #[error("{0} cannot be sent to this contact")]
    Kind(&'static str),
    /// Nothing to send.
    #[error("the message is empty")]
    Empty,
}

/// Takes the body out of a stanza. `None` if there is none, or an empty one.
pub fn from_xmpp(stanza: &mut Stanza) -> Option<Message> {
    let body = stanza.take_text("body").filter(|body| !body.is_empty())?;
    Some(match body.strip_prefix(ME) {
        Some(action) if !action.is_empty() => Message { text: action.to_owned(), emote: true },
        _ => Message { text: body, emote: false },
    })
}

/// The Matrix event of a message: plain text, which mentions nobody. Without `m.mentions` a homeserver would look for `@room` and
/// for the owner's name in the body (Matrix specification, "User and room mentions").
pub fn to_matrix(message: &Message) -> MatrixEvent {
    let mut content = if message.emote {
        RoomMessageEventContent::emote_plain(&message.text)
    } else {
        RoomMessageEventContent::text_plain(&message.text)
    };
    content.mentions = Some(Mentions::new());
    MatrixEvent { kind: "m.room.message".to_owned(), content: serde_json::to_string(&content).unwrap_or_default() }
}

/// Reads the content of an `m.room.message`.
pub fn from_matrix(content: &RawValue) -> Result<Message, Untranslatable> {
    let content: RoomMessageEventContent = serde_json::from_str(content.get()).map_err(|_| Untranslatable::Broken)?;
    let (text, emote) = match content.msgtype {
        MessageType::Text(text) => (text.body, false),
        MessageType::Notice(notice) => (notice.body, false),
        MessageType::Emote(emote) => (emote.body, true),
        MessageType::Image(_) => return Err(Untranslatable::Kind("a picture")),
        MessageType::Video(_) => return Err(Untranslatable::Kind("a video")),
        MessageType::Audio(_) => return Err(Untranslatable::Kind("a recording")),
        MessageType::File(_) => return Err(Untranslatable::Kind("a file")),
        MessageType::Location(place) => (location::from_matrix(&place).unwrap_or(place.body), false),
        _ => return Err(Untranslatable::Kind("this kind of message")),
    };
    if text.is_empty() { Err(Untranslatable::Empty) } else { Ok(Message { text, emote }) }
}

/// The text of an event's content, where it has one.
pub fn text_of(content: &str) -> Option<String> {
    let content: serde_json::Value = serde_json::from_str(content).ok()?;
    content["body"].as_str().map(str::to_owned)
}

/// The bodies of a message, none of which takes more than `budget` bytes as escaped XML text. They are cut between code
/// points; joined they are the message.
pub fn to_bodies(message: &Message, budget: usize) -> Vec<String> {
    let mut text = legal(&message.text);
    if message.emote {
        text.insert_str(0, ME);
    } else if text.starts_with(ME) {
        text.insert(0, NOT_AN_ACTION);
    }
    let mut bodies = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let mut cut = fitting(rest, budget);
        // A later part must not begin an action of its own.
        while rest[cut..].starts_with(ME) && cut > 1 {
            cut = rest[..cut].char_indices().next_back().map_or(cut, |(at, _)| at.max(1));
        }
        let (body, after) = rest.split_at(cut);
        bodies.push(body.to_owned());
        rest = after;
    }
    bodies
}

/// How many bytes of the text fit the budget once escaped; at least one code point.
fn fitting(text: &str, budget: usize) -> usize {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += match c {
            '&' | '\r' => 5,
            '<' | '>' => 4,
            '"' | '\'' => 6,
            c => c.len_utf8(),
        };
        if used > budget && at > 0 {
            return at;
        }
    }
    text.len()
}

/// What a stanza carries beside its text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// The chat state of one who has just written (XEP-0085).
    pub chat_state: bool,
    /// The wish to know when it has arrived and when it was displayed (XEP-0184, XEP-0333).
    pub receipts: bool,
}

/// The stanza of an outgoing message. `id` is the origin-id as well (XEP-0359 section 3). `delayed`: it waited so long that
/// it says when it was written (XEP-0203).
pub fn to_xmpp(
    message: &Outgoing,
    to: &BareJid,
    id: &str,
    beside: Beside,
    delayed: Option<(Timestamp, &BareJid)>,
) -> Element {
    let mut stanza = addressed("message", Some(to.as_str()), Some("chat"), Some(id));
    if !message.body.is_empty() {
        stanza.append_child(text_element("body", super::stanza::CLIENT, &message.body));
    }
    stanza.append_child(super::stable_id::origin_id(id));
    if beside.chat_state {
        stanza.append_child(element("active", super::chat_state::NS));
    }
    // What says nothing new is not worth a receipt.
    if beside.receipts && !message.body.is_empty() {
        for wish in super::receipt::ask() {
            stanza.append_child(wish);
        }
    }
    if let Some((written, account)) = delayed {
        stanza.append_child(super::history::delay(written, account));
    }
    stanza
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::translate::stanza::{CLIENT, to_xml};

    fn stanza(xml: &str) -> Stanza {
        Stanza::read(&xml.parse().unwrap())
    }

    fn raw(value: &serde_json::Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(value).unwrap()
    }

    /// RFC 6121 section 5.2.3, example.
    #[test]
    fn a_body_becomes_text() {
        let mut stanza =
            stanza("<message xmlns='jabber:client' type='chat'><body>Art thou not Romeo?</body></message>");
        let message = from_xmpp(&mut stanza).unwrap();
        assert_eq!(message, Message { text: "Art thou not Romeo?".to_owned(), emote: false });
        assert_eq!(to_matrix(&message).content, r#"{"msgtype":"m.text","body":"Art thou not Romeo?","m.mentions":{}}"#);
    }

    /// XEP-0245 section 3, examples 1 and 5.
    #[test]
    fn me_is_an_action_only_at_the_start_with_a_blank() {
        for (body, emote) in [
            ("/me shrugs in disgust", true),
            ("/meshrugs", false),
            (" /me shrugs", false),
            ("\"/me shrugs\"", false),
            ("* Atlas shrugs", false),
            ("/me ", false),
        ] {
            let mut stanza = stanza(&format!("<message xmlns='jabber:client'><body>{body}</body></message>"));
            assert_eq!(from_xmpp(&mut stanza).unwrap().emote, emote, "{body}");
        }
    }

    #[test]
    fn a_text_that_begins_like_an_action_stays_a_text() {
        let message = from_matrix(&raw(&json!({"msgtype": "m.text", "body": "/me is a command"}))).unwrap();
        let bodies = to_bodies(&message, 1000);
        assert_eq!(bodies, ["\u{2060}/me is a command"]);
        let emote = from_matrix(&raw(&json!({"msgtype": "m.emote", "body": "waves"}))).unwrap();
        assert_eq!(to_bodies(&emote, 1000), ["/me waves"]);
    }

    #[test]
    fn what_cannot_be_sent_says_so() {
        assert_eq!(from_matrix(&raw(&json!({"msgtype": "m.text"}))), Err(Untranslatable::Broken));
        assert_eq!(from_matrix(&raw(&json!({"msgtype": "m.text", "body": ""}))), Err(Untranslatable::Empty));
        let image = json!({"msgtype": "m.image", "body": "a.png", "url": "mxc://h/a"});
        assert_eq!(from_matrix(&raw(&image)), Err(Untranslatable::Kind("a picture")));
    }

    #[test]
    fn eight_thousand_ascii_characters_are_one_message_everywhere() {
        let message = Message { text: "x".repeat(8000), emote: false };
        assert_eq!(to_bodies(&message, 12 * 1024 - 2048).len(), 1);
    }

    proptest! {
        #[test]
        fn parts_joined_are_the_message_and_each_fits(text in "(/me )?[\\PC\n&<>\"']{0,400}(/me )?[\\PC&]{0,200}", budget in 24usize..200) {
            let message = Message { text: text.clone(), emote: false };
            let bodies = to_bodies(&message, budget);
            let joined: String = bodies.concat();
            prop_assert_eq!(joined.strip_prefix(NOT_AN_ACTION).filter(|t| t.starts_with(ME)).unwrap_or(&joined), legal(&text));
            for (n, body) in bodies.iter().enumerate() {
                let xml = to_xml(&text_element("body", CLIENT, body)).unwrap();
                prop_assert!(xml.len() <= budget + "<body xmlns='jabber:client'></body>".len(), "{} > {}", xml.len(), budget);
                prop_assert!(n == 0 || !body.starts_with(ME));
            }
        }

        #[test]
        fn text_goes_round_unchanged(text in "[\\PC\n\t]{1,300}") {
            let message = Message { text: legal(&text), emote: false };
            prop_assume!(!text.starts_with(ME));
            let sent = to_bodies(&message, 100_000);
            let xml = to_xml(&text_element("body", CLIENT, &sent[0])).unwrap();
            let mut stanza = stanza(&format!("<message xmlns='jabber:client'>{xml}</message>"));
            prop_assert_eq!(from_xmpp(&mut stanza), Some(message.clone()));
            let content: Box<RawValue> = RawValue::from_string(to_matrix(&message).content).unwrap();
            prop_assert_eq!(from_matrix(&content), Ok(message));
        }
    }
}
