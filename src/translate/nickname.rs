//! Nicknames (XEP-0172): the ghost's name <- what a contact calls itself; the person's Matrix name -> what the account does.

use minidom::Element;

use super::{
    pep::{self, Item},
    stanza::{Stanza, text_element},
};
use crate::domain::text::{MAX_NAME, one_line};

/// XEP-0172: the node and the namespace.
pub const NS: &str = super::subscription::NICK;
/// Who has this among its features is told of contacts' nicknames (XEP-0163 section 4).
pub const NOTIFY: &str = "http://jabber.org/protocol/nick+notify";

/// Reads the newest item of a contact's node; `None`: it calls itself nothing. An outer `None`: it cannot be understood.
pub fn from_xmpp(item: Option<&Item>) -> Option<Option<String>> {
    let Some(item) = item else { return Some(None) };
    item.payload.as_ref().filter(|payload| payload.is("nick", NS)).map(named)
}

/// Takes the nickname out of the first message of someone unknown (XEP-0172 section 4.2).
pub fn take(stanza: &mut Stanza) -> Option<String> {
    stanza.take("nick", NS).as_ref().and_then(named)
}

fn named(nick: &Element) -> Option<String> {
    let name = one_line(&nick.text(), MAX_NAME);
    (!name.is_empty()).then_some(name)
}

/// The payload that publishes the person's own; `None` takes it back, for a node without items is not told of.
pub fn publish(name: Option<&str>) -> Element {
    pep::publish(NS, Some("current"), text_element("nick", NS, name.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XEP-0172 section 4.3, example 10, and section 4.2, example 8.
    #[test]
    fn a_nickname_is_published_and_told() {
        let item = |xml: &str| Item { id: String::new(), payload: xml.parse().ok() };
        let nick = "<nick xmlns='http://jabber.org/protocol/nick'>CallMeIshmael</nick>";
        assert_eq!(from_xmpp(Some(&item(nick))), Some(Some("CallMeIshmael".to_owned())));
        assert_eq!(
            from_xmpp(Some(&item("<nick xmlns='http://jabber.org/protocol/nick'> \u{202e}\n</nick>"))),
            Some(None)
        );
        assert_eq!(from_xmpp(Some(&item("<x xmlns='y'/>"))), None);
        assert_eq!(from_xmpp(None), Some(None));
        let xml = "<message xmlns='jabber:client'><body>Call me Ishmael</body><nick xmlns='http://jabber.org/protocol/nick'>Ishmael</nick></message>";
        assert_eq!(take(&mut Stanza::read(&xml.parse().unwrap())).as_deref(), Some("Ishmael"));
    }

    #[test]
    fn what_is_published_is_read_again() {
        for name in [Some("Romeo & Co."), None] {
            let published = publish(name);
            let item = published.get_child("publish", pep::NS).unwrap().get_child("item", pep::NS).unwrap();
            let item = Item { id: String::new(), payload: item.children().next().cloned() };
            assert_eq!(from_xmpp(Some(&item)), Some(name.map(str::to_owned)));
        }
    }
}
