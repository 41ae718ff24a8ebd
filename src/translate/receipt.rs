//! Receipts: `m.read` <-> displayed markers (XEP-0333), and delivery receipts (XEP-0184), which we give when a message is in
//! its room. A ghost's read receipt appears only when the contact's client says that the message was displayed.

use minidom::Element;

use super::{
    reaction::HINTS,
    stanza::{Stanza, addressed, element, set},
};
use crate::domain::BareJid;

/// XEP-0184.
pub const NS: &str = xmpp_parsers::ns::RECEIPTS;
/// XEP-0333.
pub const MARKERS: &str = "urn:xmpp:chat-markers:0";

/// What a stanza says of a message, or asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipts {
    /// The message with this id was displayed, and all before it.
    pub displayed: Option<String>,
    /// The message with this id has arrived.
    pub received: Option<String>,
    /// The sender wants to know when the message has arrived.
    pub wants_received: bool,
    /// The sender wants to know when it was displayed.
    pub wants_displayed: bool,
}

/// Takes receipts and markers out of a stanza, and the wish for them.
pub fn from_xmpp(stanza: &mut Stanza) -> Receipts {
    let mut receipts = Receipts::default();
    let id = |child: &Element| child.attr("id").filter(|id| !id.is_empty()).map(str::to_owned);
    for child in stanza.take_all(NS) {
        match child.name() {
            "received" => receipts.received = id(&child),
            "request" => receipts.wants_received = true,
            _ => {}
        }
    }
    for child in stanza.take_all(MARKERS) {
        match child.name() {
            "displayed" => receipts.displayed = id(&child),
            "received" => receipts.received = receipts.received.or(id(&child)),
            "markable" => receipts.wants_displayed = true,
            _ => {}
        }
    }
    receipts
}

/// The payloads that ask for both.
pub fn ask() -> Vec<Element> {
    vec![element("request", NS), element("markable", MARKERS)]
}

/// A message of nothing but a delivery receipt (XEP-0184 section 5.3).
pub fn received(id: &str, to: &BareJid) -> Element {
    bare(element("received", NS), id, to)
}

/// A message of nothing but a displayed marker (XEP-0333 section 4).
pub fn displayed(id: &str, to: &BareJid) -> Element {
    bare(element("displayed", MARKERS), id, to)
}

fn bare(mut payload: Element, id: &str, to: &BareJid) -> Element {
    set(&mut payload, "id", id);
    let mut stanza = addressed("message", Some(to.as_str()), Some("chat"), None);
    stanza.append_child(payload);
    stanza.append_child(element("store", HINTS));
    stanza
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inner: &str) -> Receipts {
        from_xmpp(&mut Stanza::read(&format!("<message xmlns='jabber:client'>{inner}</message>").parse().unwrap()))
    }

    /// XEP-0184 section 5, examples 3 and 4; XEP-0333 section 4, examples.
    #[test]
    fn receipts_and_markers_are_told_apart() {
        let wishes = read("<request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/>");
        assert!(wishes.wants_received && wishes.wants_displayed);
        assert_eq!(
            read("<received xmlns='urn:xmpp:receipts' id='richard2-4.1.247'/>").received.as_deref(),
            Some("richard2-4.1.247")
        );
        assert_eq!(
            read("<displayed xmlns='urn:xmpp:chat-markers:0' id='message-1'/>").displayed.as_deref(),
            Some("message-1")
        );
        assert_eq!(read("<displayed xmlns='urn:xmpp:chat-markers:0'/>"), Receipts::default());
        let to = BareJid::parse("a@b").unwrap();
        let back = |stanza: Element| from_xmpp(&mut Stanza::read(&stanza));
        assert_eq!(back(displayed("m", &to)).displayed.as_deref(), Some("m"));
        assert_eq!(back(received("m", &to)).received.as_deref(), Some("m"));
    }
}
