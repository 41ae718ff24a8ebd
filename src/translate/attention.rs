//! Nudges: an action in the room, and the command `nudge` <-> attention (XEP-0224).

use minidom::Element;
use serde_json::json;

use super::stanza::{Stanza, addressed, element};
use crate::domain::{BareJid, effect::MatrixEvent};

/// XEP-0224.
pub const NS: &str = "urn:xmpp:attention:0";

/// Takes the wish for attention out of a stanza.
pub fn from_xmpp(stanza: &mut Stanza) -> bool {
    stanza.take("attention", NS).is_some()
}

/// What the room shows.
pub fn to_matrix() -> MatrixEvent {
    let content = json!({ "msgtype": "m.emote", "body": "has sent you a nudge.", "m.mentions": {} });
    MatrixEvent { kind: "m.room.message".to_owned(), content: content.to_string() }
}

/// A nudge (XEP-0224 section 2).
pub fn to_xmpp(to: &BareJid) -> Element {
    let mut stanza = addressed("message", Some(to.as_str()), Some("headline"), None);
    stanza.append_child(element("attention", NS));
    stanza
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XEP-0224 section 2, example 3.
    #[test]
    fn a_nudge_is_read_and_written() {
        let xml = "<message xmlns='jabber:client' from='calvin@usrobots.lit/lab' to='herbie@usrobots.lit/home' type='headline'>\
                   <attention xmlns='urn:xmpp:attention:0'/><body>Why don't you answer, Herbie?</body></message>";
        let mut stanza = Stanza::read(&xml.parse().unwrap());
        assert!(from_xmpp(&mut stanza) && !from_xmpp(&mut stanza));
        assert!(from_xmpp(&mut Stanza::read(&to_xmpp(&BareJid::parse("a@b").unwrap()))));
    }
}
