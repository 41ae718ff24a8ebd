//! Messages: `m.room.message` of text, notice and emote <-> `<body/>` (RFC 6121 section 5.2.3), with XEP-0245 `/me`.

use minidom::Element;
use ruma::events::{
    Mentions,
    room::message::{MessageFormat, MessageType, RoomMessageEventContent},
};
use serde_json::value::RawValue;

use super::{
    html, location, reply,
    rich_text::{LONGEST, RichText},
    stanza::{Stanza, addressed, element, legal, text_element},
    styling, xhtml,
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
    /// The form of the text.
    pub form: Form,
}

/// What is known of a text's form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As it stands. What looks like styling may be meant so.
    #[default]
    Plain,
    /// What looks like styling is not meant so.
    Unstyled,
    /// This. Toward XMPP, the text was made of it.
    Rich(RichText),
}

impl Message {
    /// A message without form.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), emote: false, form: Form::Plain }
    }

    /// The message said anew, in the way that people do it who cannot change what they said.
    #[must_use]
    pub fn anew(&self) -> Self {
        // What begins a block keeps its line.
        let apart = self.text.starts_with('>') || self.text.starts_with(styling::FENCE);
        let mut anew = self.clone();
        anew.text.insert_str(0, if apart { "*\n" } else { "* " });
        if let Form::Rich(rich) = &mut anew.form {
            rich.put_before("* ");
        }
        anew
    }
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

/// Most of a message's text and HTML together, as JSON, that leaves room for an event around it, even one that says all twice
/// because it is an edit; beyond it the text goes without form.
const ROOM: usize = 28 * 1024;

/// Takes the body out of a stanza. `None` if there is none, or an empty one.
pub fn from_xmpp(stanza: &mut Stanza) -> Option<Message> {
    take(stanza, false)
}

/// The same for a stanza that may `answer` another, whose quotation is then cut.
pub fn take(stanza: &mut Stanza, answers: bool) -> Option<Message> {
    let mut body = stanza.take_text("body").filter(|body| !body.is_empty())?;
    let unstyled = styling::take_unstyled(stanza);
    let mut rich = xhtml::from_xmpp(stanza);
    if answers {
        let stripped = reply::strip(stanza, &body);
        // An answer that is all quotation says at least that. Where something was cut, what has form still has it.
        if !stripped.is_empty() && stripped != body {
            (body, rich) = (stripped, None);
        }
    }
    let emote = body.len() > ME.len() && body.starts_with(ME);
    // What stands beside the body says an action as the body does; if not, it is not of this body.
    let of_body = |mut rich: RichText| (!emote || rich.take_from_start(ME)).then_some(rich);
    let form = match rich.and_then(of_body) {
        // It says what has form and what has none (XEP-0071 section 8, rule 10).
        Some(rich) if rich.is_plain() => Form::Plain,
        Some(rich) => Form::Rich(rich),
        None if unstyled => Form::Unstyled,
        None => styling::read(&body).and_then(of_body).map_or(Form::Plain, Form::Rich),
    };
    if emote {
        body.drain(..ME.len());
    }
    Some(Message { text: body, emote, form })
}

/// The Matrix event of a message: the body as it came, and HTML where the text has form. It mentions nobody: without `m.mentions` a
/// homeserver would look for `@room` and for the owner's name in the body (Matrix specification, "User and room mentions").
pub fn to_matrix(message: &Message) -> MatrixEvent {
    let html = match &message.form {
        Form::Rich(rich) => Some(html::write(rich)).filter(|html| fits_event(&message.text, html)),
        Form::Plain | Form::Unstyled => None,
    };
    let text = &message.text;
    let mut content = match (message.emote, html) {
        (false, None) => RoomMessageEventContent::text_plain(text),
        (false, Some(html)) => RoomMessageEventContent::text_html(text, html),
        (true, None) => RoomMessageEventContent::emote_plain(text),
        (true, Some(html)) => RoomMessageEventContent::emote_html(text, html),
    };
    content.mentions = Some(Mentions::new());
    MatrixEvent { kind: "m.room.message".to_owned(), content: serde_json::to_string(&content).unwrap_or_default() }
}

fn fits_event(text: &str, html: &str) -> bool {
    let length = |text: &str| serde_json::to_string(text).map_or(usize::MAX, |json| json.len());
    length(text).saturating_add(length(html)) <= ROOM
}

/// Reads the content of an `m.room.message`. The quotation that older clients put before a reply is no part of it.
pub fn from_matrix(content: &RawValue) -> Result<Message, Untranslatable> {
    let answers = reply::from_matrix(content).is_some();
    let content: RoomMessageEventContent = serde_json::from_str(content.get()).map_err(|_| Untranslatable::Broken)?;
    let (text, formatted, emote) = match content.msgtype {
        MessageType::Text(text) => (text.body, text.formatted, false),
        MessageType::Notice(notice) => (notice.body, notice.formatted, false),
        MessageType::Emote(emote) => (emote.body, emote.formatted, true),
        MessageType::Location(place) => (location::from_matrix(&place).unwrap_or(place.body), None, false),
        _ => return Err(Untranslatable::Kind("this kind of message")),
    };
    let text = if answers { reply::strip_matrix(&text).to_owned() } else { text };
    let html = formatted.filter(|formatted| formatted.format == MessageFormat::Html).map(|formatted| formatted.body);
    let (text, form) = match html.and_then(|html| html::read(&html)) {
        Some(rich) => of_rich(text, rich, emote),
        None => (text, Form::Plain),
    };
    if text.is_empty() { Err(Untranslatable::Empty) } else { Ok(Message { text, emote, form }) }
}

/// The text to send where there is HTML. The body stays as it was typed if the HTML adds nothing to it.
fn of_rich(body: String, rich: RichText, emote: bool) -> (String, Form) {
    // A body may name people by links or MXIDs, which the HTML tells by their names.
    let names_people = !rich.people.is_empty()
        && (body.contains("https://matrix.to/#/") || rich.people.iter().any(|id| body.contains(id.as_str())));
    if rich.is_plain() && !names_people && !body.is_empty() {
        // A styling that the sender's own client did not see is none.
        let looks_styled = if emote { styling::read(&format!("{ME}{body}")) } else { styling::read(&body) }.is_some();
        return (body, if looks_styled { Form::Unstyled } else { Form::Plain });
    }
    let text = styling::write(&rich);
    if text.is_empty() || text.len() > LONGEST { (body, Form::Plain) } else { (text, Form::Rich(rich)) }
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
        assert_eq!(message, Message::plain("Art thou not Romeo?"));
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
        assert_eq!(from_matrix(&raw(&image)), Err(Untranslatable::Kind("this kind of message")), "it is a file");
    }

    #[test]
    fn eight_thousand_ascii_characters_are_one_message_everywhere() {
        let message = Message::plain("x".repeat(8000));
        assert_eq!(to_bodies(&message, 12 * 1024 - 2048).len(), 1);
    }

    #[test]
    fn said_anew_blocks_stay_blocks() {
        let anew = |formatted: &str| {
            let content = json!({ "msgtype": "m.text", "body": "b", "format": "org.matrix.custom.html", "formatted_body": formatted });
            from_matrix(&raw(&content)).unwrap().anew().text
        };
        assert_eq!(anew("<b>a</b>"), "* *a*");
        assert_eq!(anew("<blockquote>a</blockquote>"), "*\n> a");
        assert_eq!(Message::plain("a").anew(), Message::plain("* a"));
    }

    #[test]
    fn a_mention_is_a_name() {
        for (body, sent) in [
            ("Alice:  hi", "Alice:  hi"),
            ("@alice:h:  hi", "Alice: hi"),
            ("[Alice](https://matrix.to/#/%40alice%3Ah):  hi", "Alice: hi"),
            ("", "Alice: hi"),
        ] {
            let formatted = "<a href=\"https://matrix.to/#/@alice:h\">Alice</a>:  hi";
            let content = json!({ "msgtype": "m.text", "body": body, "format": "org.matrix.custom.html", "formatted_body": formatted });
            assert_eq!(from_matrix(&raw(&content)).unwrap().text, sent);
        }
    }

    #[test]
    fn html_that_says_nothing_leaves_the_body() {
        for formatted in ["", "<p></p>", "<b>", "<mx-reply>a</mx-reply>"] {
            let content = json!({ "msgtype": "m.text", "body": "b", "format": "org.matrix.custom.html", "formatted_body": formatted });
            assert_eq!(from_matrix(&raw(&content)), Ok(Message::plain("b")), "{formatted}");
        }
        let other = json!({ "msgtype": "m.text", "body": "b", "format": "org.example", "formatted_body": "<b>a</b>" });
        assert_eq!(from_matrix(&raw(&other)), Ok(Message::plain("b")));
    }

    proptest! {
        #[test]
        fn parts_joined_are_the_message_and_each_fits(text in "(/me )?[\\PC\n&<>\"']{0,400}(/me )?[\\PC&]{0,200}", budget in 24usize..200) {
            let message = Message::plain(text.clone());
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
            prop_assume!(!text.starts_with(ME));
            let message = Message::plain(legal(&text));
            let sent = to_bodies(&message, 100_000);
            let xml = to_xml(&text_element("body", CLIENT, &sent[0])).unwrap();
            let mut stanza = stanza(&format!("<message xmlns='jabber:client'>{xml}</message>"));
            let came = from_xmpp(&mut stanza).unwrap();
            prop_assert_eq!(&came.text, &message.text);
            let content: serde_json::Value = serde_json::from_str(&to_matrix(&came).content).unwrap();
            prop_assert_eq!(content["body"].as_str(), Some(message.text.as_str()));
            let plain = raw(&json!({"msgtype": "m.text", "body": message.text}));
            prop_assert_eq!(from_matrix(&plain), Ok(message));
        }
    }
}
