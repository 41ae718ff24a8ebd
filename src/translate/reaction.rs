//! Reactions: `m.reaction` and its redaction <-> XEP-0444, where a person's reactions to a message are one set that each stanza
//! says anew.

use std::collections::BTreeSet;

use minidom::Element;
use ruma::OwnedEventId;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::stanza::{Stanza, element, set, text_element};

/// XEP-0444.
pub const NS: &str = "urn:xmpp:reactions:0";
/// XEP-0334.
pub const HINTS: &str = "urn:xmpp:hints";

/// Most reactions of one person to one message; more are left out.
pub const MOST: usize = 32;
/// Longest reaction in bytes: an emoji with everything that may be joined to it. None holds a colon, so that it can be told
/// from what stands behind it in a name.
const LONGEST: usize = 64;

/// A person's reactions to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reactions {
    /// The message's id.
    pub to: String,
    /// All that are there now.
    pub set: BTreeSet<String>,
}

/// Takes a set of reactions out of a stanza. A body beside it is only for clients that do not know this.
pub fn from_xmpp(stanza: &mut Stanza) -> Option<Reactions> {
    let reactions = stanza.take("reactions", NS)?;
    let to = reactions.attr("id").filter(|id| !id.is_empty())?.to_owned();
    let texts =
        reactions.children().filter(|child| child.is("reaction", NS)).map(|child| child.text().trim().to_owned());
    let readable = |text: &String| !text.is_empty() && text.len() <= LONGEST && !text.contains(':');
    let set = texts.filter(readable).take(MOST).collect();
    stanza.take_text("body");
    stanza.take_all(super::fallback::NS);
    Some(Reactions { to, set })
}

/// The payloads of a set of reactions.
pub fn to_xmpp(id: &str, set_of: &BTreeSet<String>) -> Vec<Element> {
    let mut reactions = element("reactions", NS);
    set(&mut reactions, "id", id);
    for text in set_of {
        reactions.append_child(text_element("reaction", NS, text));
    }
    vec![reactions, element("store", HINTS)]
}

/// To which event a Matrix reaction is, and what it says (Matrix CS API, "Event annotations and reactions").
pub fn from_matrix(content: &RawValue) -> Option<(OwnedEventId, String)> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.relates_to")]
        relates: Relates,
    }
    #[derive(Deserialize)]
    struct Relates {
        rel_type: String,
        event_id: OwnedEventId,
        key: String,
    }
    let Content { relates } = serde_json::from_str(content.get()).ok()?;
    let readable = !relates.key.is_empty() && relates.key.len() <= LONGEST && !relates.key.contains(':');
    let fits = relates.rel_type == "m.annotation" && readable;
    fits.then_some((relates.event_id, relates.key))
}

/// The content of an `m.reaction`.
pub fn to_matrix(target: &OwnedEventId, key: &str) -> String {
    json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": target, "key": key } }).to_string()
}

/// The name that a reaction is bound under: one of the contact, or (`own`) of the account, whichever way it was made.
pub fn name(target: &str, key: &str, own: bool) -> String {
    format!("{}:{key}:{target}", if own { 'q' } else { 'r' })
}

/// To which message, and what, a reaction of the account is by the name that it is bound under. What it says holds no colon
/// of its own in front of the one that ends it.
pub fn of_name(name: &str) -> Option<(&str, &str)> {
    let (key, target) = name.strip_prefix("q:")?.split_once(':')?;
    Some((target, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XEP-0444 section 4, examples 2 and 3.
    #[test]
    fn a_set_is_read_and_written() {
        let xml = "<message xmlns='jabber:client' to='romeo@capulet.net/orchard' id='96d73204' type='chat'>\
                   <reactions id='744f6e18' xmlns='urn:xmpp:reactions:0'><reaction>👋</reaction><reaction>🐢</reaction></reactions>\
                   <store xmlns='urn:xmpp:hints'/></message>";
        let read = from_xmpp(&mut Stanza::read(&xml.parse().unwrap())).unwrap();
        assert_eq!((read.to.as_str(), read.set.len()), ("744f6e18", 2));
        let mut back = Stanza::read(&"<message xmlns='jabber:client'/>".parse().unwrap());
        back.put_back(to_xmpp(&read.to, &read.set));
        assert_eq!(from_xmpp(&mut back), Some(read));
        let none = "<message xmlns='jabber:client'><reactions id='a' xmlns='urn:xmpp:reactions:0'/></message>";
        assert!(from_xmpp(&mut Stanza::read(&none.parse().unwrap())).unwrap().set.is_empty());
    }

    #[test]
    fn a_flood_of_reactions_is_cut() {
        let many: String = (0..100).map(|n| format!("<reaction>{n}</reaction>")).collect();
        let long = "x".repeat(LONGEST + 1);
        let xml = format!(
            "<message xmlns='jabber:client'><reactions id='a' xmlns='{NS}'><reaction>{long}</reaction>{many}</reactions></message>"
        );
        assert_eq!(from_xmpp(&mut Stanza::read(&xml.parse().unwrap())).unwrap().set.len(), MOST);
    }

    /// Matrix CS API, "Event annotations and reactions", the example.
    #[test]
    fn a_matrix_reaction_goes_round() {
        let target = OwnedEventId::try_from("$some_event_id").unwrap();
        let raw = RawValue::from_string(to_matrix(&target, "👍")).unwrap();
        assert_eq!(from_matrix(&raw), Some((target, "👍".to_owned())));
        assert_eq!(of_name(&name("m:1", "👍", true)), Some(("m:1", "👍")));
        assert_eq!(of_name(&name("m:1", "👍", false)), None);
    }
}
