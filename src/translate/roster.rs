//! The roster (RFC 6121 section 2) -> ghosts, rooms and names.

use minidom::Element;

use super::stanza::{element, set};
use crate::domain::BareJid;

/// RFC 6121 section 2.1.
pub const NS: &str = xmpp_parsers::ns::ROSTER;
/// Longest name that is kept, in characters.
const MAX_NAME: usize = 1024;

/// An item of the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Who.
    pub contact: BareJid,
    /// The name that the person gave them.
    pub name: Option<String>,
    /// The account sees their presence.
    pub sees: bool,
    /// They are taken off the roster.
    pub removed: bool,
}

/// A roster or a push, item by item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// The version (RFC 6121 section 2.6).
    pub version: Option<String>,
    /// The items that could be read.
    pub items: Vec<Item>,
    /// How many could not: their address is none.
    pub skipped: usize,
}

/// Reads a roster's payload, whatever some of its items are.
pub fn from_xmpp(query: &Element) -> Roster {
    let mut roster = Roster { version: query.attr("ver").map(str::to_owned), items: Vec::new(), skipped: 0 };
    for item in query.children().filter(|child| child.is("item", NS)) {
        let Some(contact) = item.attr("jid").and_then(|jid| BareJid::parse(jid).ok()) else {
            roster.skipped += 1;
            continue;
        };
        roster.items.push(Item {
            contact,
            name: item
                .attr("name")
                .map(|name| name.chars().take(MAX_NAME).collect::<String>())
                .filter(|name| !name.trim().is_empty()),
            sees: matches!(item.attr("subscription"), Some("to" | "both")),
            removed: item.attr("subscription") == Some("remove"),
        });
    }
    roster
}

/// Asks for the roster; with the version that is known where the server keeps versions.
pub fn get(version: Option<&str>) -> Element {
    let mut query = element("query", NS);
    if let Some(version) = version {
        set(&mut query, "ver", version);
    }
    query
}

/// Adds a contact.
pub fn add(contact: &BareJid) -> Element {
    let mut query = element("query", NS);
    let mut item = element("item", NS);
    set(&mut item, "jid", contact.as_str());
    query.append_child(item);
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6121 section 2.1.4, example, with one item that is broken.
    #[test]
    fn one_broken_item_does_not_take_the_others_along() {
        let xml = "<query xmlns='jabber:iq:roster' ver='ver7'><item jid='nurse@example.com' subscription='none'/>\
                   <item jid='ro meo@example.net' name='Romeo' subscription='both'/><item/>\
                   <item jid='Benvolio@example.net' name='B' subscription='both' ask='nonsense'><group>Friends</group></item>\
                   <item jid='gone@example.net' subscription='remove'/></query>";
        let roster = from_xmpp(&xml.parse().unwrap());
        assert_eq!(roster.skipped, 2);
        assert_eq!(roster.version.as_deref(), Some("ver7"));
        let seen: Vec<_> =
            roster.items.iter().map(|i| (i.contact.as_str(), i.name.as_deref(), i.sees, i.removed)).collect();
        assert_eq!(
            seen,
            [
                ("nurse@example.com", None, false, false),
                ("benvolio@example.net", Some("B"), true, false),
                ("gone@example.net", None, false, true)
            ]
        );
    }
}
