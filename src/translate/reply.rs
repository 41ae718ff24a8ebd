//! Replies: `m.in_reply_to` <-> XEP-0461, with the quotation that clients without it see (XEP-0428).

use minidom::Element;
use ruma::OwnedEventId;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    fallback,
    stanza::{Stanza, element, set},
};
use crate::domain::BareJid;

/// XEP-0461.
pub const NS: &str = "urn:xmpp:reply:0";

/// Longest quotation for clients that do not know replies, in characters, and in lines.
const QUOTED: usize = 200;
const LINES: usize = 4;

/// Takes out what is answered: the message's id. The body's quotation of it is cut by [`strip`].
pub fn from_xmpp(stanza: &mut Stanza) -> Option<String> {
    let reply = stanza.take("reply", NS)?;
    reply.attr("id").filter(|id| !id.is_empty()).map(str::to_owned)
}

/// A body without the quotation that stands for the reply.
pub fn strip(stanza: &mut Stanza, body: &str) -> String {
    fallback::cut(body, &fallback::take(stanza, NS))
}

/// Which event a Matrix message answers.
pub fn from_matrix(content: &RawValue) -> Option<OwnedEventId> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.relates_to")]
        relates: Relates,
    }
    #[derive(Deserialize)]
    struct Relates {
        #[serde(rename = "m.in_reply_to")]
        reply: Reply,
    }
    #[derive(Deserialize)]
    struct Reply {
        event_id: OwnedEventId,
    }
    serde_json::from_str::<Content>(content.get()).ok().map(|content| content.relates.reply.event_id)
}

/// A Matrix body without the quotation that older clients put before a reply (Matrix CS API v1.12 and before, "Fallbacks for
/// rich replies").
pub fn strip_matrix(body: &str) -> &str {
    if !body.starts_with("> <") && !body.starts_with("> * <") {
        return body;
    }
    let mut rest = body;
    while let Some(quoted) = rest.strip_prefix('>') {
        rest = quoted.split_once('\n').map_or("", |(_, after)| after);
    }
    let answer = rest.strip_prefix('\n').unwrap_or(rest);
    if answer.is_empty() { body } else { answer }
}

/// The quotation of a text, to stand before an answer: lines that begin with "> ", the last with a line break.
pub fn quotation(text: &str) -> String {
    let text = strip_matrix(text);
    let mut quoted = String::new();
    let mut left = QUOTED;
    for (number, line) in text.lines().filter(|line| !line.trim().is_empty()).enumerate() {
        let part: String = line.chars().take(left).collect();
        let whole = part.len() == line.len();
        left -= part.chars().count();
        quoted.push_str("> ");
        quoted.push_str(&part);
        if !whole || number + 1 == LINES {
            if !whole || text.lines().filter(|line| !line.trim().is_empty()).count() > LINES {
                quoted.push('…');
            }
            quoted.push('\n');
            break;
        }
        quoted.push('\n');
    }
    quoted
}

/// The payload that says what is answered, and of whom it is.
pub fn to_xmpp(id: &str, author: &BareJid) -> Element {
    let mut reply = element("reply", NS);
    set(&mut reply, "to", author.as_str());
    set(&mut reply, "id", id);
    reply
}

/// How much of the body is the quotation.
pub fn quoted_part(quotation: &str) -> Element {
    fallback::to_xmpp(NS, Some((0, quotation.chars().count())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// XEP-0461 section 3, examples 1 and 4.
    #[test]
    fn a_reply_names_what_it_answers_and_its_quotation_goes() {
        let xml = "<message xmlns='jabber:client' to='anna@example.com' id='message-id2' type='chat'>\
                   <body>&gt; Anna wrote:\n&gt; We should bake a cake\nGreat idea!</body>\
                   <reply to='anna@example.com' id='message-id1' xmlns='urn:xmpp:reply:0'/>\
                   <fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='0' end='38'/></fallback></message>";
        let mut stanza = Stanza::read(&xml.parse().unwrap());
        assert_eq!(from_xmpp(&mut stanza).as_deref(), Some("message-id1"));
        let body = stanza.take_text("body").unwrap();
        assert_eq!(strip(&mut stanza, &body), "Great idea!");
    }

    #[test]
    fn a_matrix_reply_loses_the_quotation_of_older_clients() {
        let raw = |value: serde_json::Value| serde_json::value::to_raw_value(&value).unwrap();
        let content = json!({ "body": "x", "m.relates_to": { "m.in_reply_to": { "event_id": "$one" } } });
        assert_eq!(from_matrix(&raw(content)).unwrap().as_str(), "$one");
        assert_eq!(from_matrix(&raw(json!({ "body": "x" }))), None);
        assert_eq!(strip_matrix("> <@anna:h> We should bake\n> a cake\n\nGreat idea!"), "Great idea!");
        assert_eq!(strip_matrix("> * <@anna:h> waves\n\nhi"), "hi");
        for kept in ["> a quotation of one's own\n\nhi", "hi", "> <@anna:h> and nothing else"] {
            assert_eq!(strip_matrix(kept), kept);
        }
    }

    #[test]
    fn quotations_are_short() {
        assert_eq!(quotation("We should bake\na cake"), "> We should bake\n> a cake\n");
        assert_eq!(quotation("1\n\n2\n3\n4\n5"), "> 1\n> 2\n> 3\n> 4…\n");
        assert_eq!(quotation(&"x".repeat(300)).chars().count(), QUOTED + 4);
        assert_eq!(quotation(""), "");
    }
}
