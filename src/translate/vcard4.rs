//! vCard4 (XEP-0292) -> the ghost's name, where neither roster, nickname nor vCard (XEP-0054) has one.

use minidom::Element;

use super::pep;
use crate::domain::text::{MAX_NAME, one_line};

/// XEP-0292: the node.
pub const NODE: &str = "urn:xmpp:vcard4";
/// RFC 6351.
pub const NS: &str = "urn:ietf:params:xml:ns:vcard-4.0";

/// The names of a vCard4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// `nickname`, the first.
    pub nickname: Option<String>,
    /// `fn`.
    pub full_name: Option<String>,
}

/// Asks for a vCard4.
pub fn get() -> Element {
    pep::get(NODE, None)
}

/// Reads the answer; an error, or no vCard4, has no names.
pub fn from_xmpp(answer: &Element) -> Names {
    let payload = pep::read(answer, NODE).and_then(|item| item.payload);
    let Some(card) = payload.filter(|payload| payload.is("vcard", NS)) else { return Names::default() };
    let text = |name: &str| {
        let text = card.get_child(name, NS)?.get_child("text", NS)?.text();
        Some(one_line(&text, MAX_NAME)).filter(|text| !text.is_empty())
    };
    Names { nickname: text("nickname"), full_name: text("fn") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XEP-0292 section 4.1.1, example 2, shortened.
    #[test]
    fn names_of_a_vcard4() {
        let answer = |node: &str, inner: &str| {
            let xml = format!(
                "<iq xmlns='jabber:client' type='result'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='{node}'>\
                 <item id='e0bf7714'><vcard xmlns='{NS}'>{inner}</vcard></item></items></pubsub></iq>"
            );
            from_xmpp(&xml.parse().unwrap())
        };
        let names = answer(
            NODE,
            "<fn><text>Peter Saint-Andre</text></fn><n><surname>Saint-Andre</surname></n><nickname><text>stpeter</text></nickname>\
             <nickname><text>psa</text></nickname><photo><uri>https://stpeter.im/a.jpg</uri></photo>",
        );
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(names, Names { nickname: some("stpeter"), full_name: some("Peter Saint-Andre") });
        assert_eq!(answer("other", "<fn><text>X</text></fn>"), Names::default());
        assert_eq!(answer(NODE, "<fn>X</fn><nickname><text> </text></nickname>"), Names::default());
        assert_eq!(from_xmpp(&"<iq xmlns='jabber:client' type='error'/>".parse().unwrap()), Names::default());
    }
}
