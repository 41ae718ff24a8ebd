//! Carbons (XEP-0280): what the person wrote or got on another device -> events in the contact's room.

use minidom::Element;

use super::{
    history::FORWARD,
    stanza::{CLIENT, Stanza, element},
};

/// XEP-0280.
pub const NS: &str = xmpp_parsers::ns::CARBONS;

/// Takes the message out of a carbon. The caller has checked that the carbon comes from the account's own bare JID:
/// anyone can send one (XEP-0280 section 11, CVE-2017-5589).
pub fn from_xmpp(stanza: &mut Stanza) -> Option<Element> {
    let copy = stanza.take("sent", NS).or_else(|| stanza.take("received", NS))?;
    copy.get_child("forwarded", FORWARD)?.get_child("message", CLIENT).cloned()
}

/// Does the stanza carry a carbon at all?
pub fn is_carbon(stanza: &Stanza) -> bool {
    stanza.has("sent", NS) || stanza.has("received", NS)
}

/// The payload that asks for them.
pub fn enable() -> Element {
    element("enable", NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XEP-0280 section 8, a sent carbon.
    #[test]
    fn the_forwarded_message_is_taken_out() {
        let xml = "<message xmlns='jabber:client' from='romeo@montague.example' type='chat'><sent xmlns='urn:xmpp:carbons:2'>\
                   <forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' to='juliet@capulet.example/balcony' from='romeo@montague.example/home' type='chat'>\
                   <body>What man art thou</body></message></forwarded></sent></message>";
        let mut stanza = Stanza::read(&xml.parse().unwrap());
        assert!(is_carbon(&stanza));
        assert_eq!(from_xmpp(&mut stanza).unwrap().attr("to"), Some("juliet@capulet.example/balcony"));
    }
}
