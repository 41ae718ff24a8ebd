//! Retractions: `m.room.redaction` of a message <-> XEP-0424, with the text that clients without it see (XEP-0428).

use minidom::Element;

use super::{
    fallback,
    stanza::{Stanza, element, set},
};

/// XEP-0424.
pub const NS: &str = "urn:xmpp:message-retract:1";

/// What clients that do not know retractions show.
pub const WORDS: &str = "I have taken back an earlier message, but your app does not support that.";

/// Takes out which message is taken back: its id. The body beside it is only for clients that do not know this.
pub fn from_xmpp(stanza: &mut Stanza) -> Option<String> {
    let retract = stanza.take("retract", NS)?;
    let id = retract.attr("id").filter(|id| !id.is_empty()).map(str::to_owned)?;
    stanza.take_text("body");
    stanza.take_all(fallback::NS);
    Some(id)
}

/// The payloads that take a message back. The stanza's body is [`WORDS`].
pub fn to_xmpp(id: &str) -> Vec<Element> {
    let mut retract = element("retract", NS);
    set(&mut retract, "id", id);
    vec![retract, fallback::to_xmpp(NS, None), element("store", super::reaction::HINTS)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XEP-0424 section 5, example 3.
    #[test]
    fn a_retraction_names_the_message_and_its_words_are_not_shown() {
        let xml = "<message xmlns='jabber:client' type='chat' to='lord@capulet.example' id='retract-message-1'>\
                   <retract id='wrong-recipient-1' xmlns='urn:xmpp:message-retract:1'/>\
                   <fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:message-retract:1'/>\
                   <body>/me retracted a previous message, but it's unsupported by your client.</body>\
                   <store xmlns='urn:xmpp:hints'/></message>";
        let mut stanza = Stanza::read(&xml.parse().unwrap());
        assert_eq!(from_xmpp(&mut stanza).as_deref(), Some("wrong-recipient-1"));
        assert_eq!(stanza.take_text("body"), None);
        let mut back = Stanza::read(&"<message xmlns='jabber:client'/>".parse().unwrap());
        back.put_back(to_xmpp("m1"));
        assert_eq!(from_xmpp(&mut back).as_deref(), Some("m1"));
    }
}
