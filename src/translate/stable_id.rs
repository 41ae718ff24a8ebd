//! Stable ids (XEP-0359): how a message that comes again is known.

use minidom::Element;
use ruma::EventId;

use super::stanza::{Stanza, element, set};
use crate::domain::BareJid;

/// XEP-0359.
pub const NS: &str = xmpp_parsers::ns::SID;

/// Takes out the id that the account's own archive gave the message. Ids by anyone else, or those that the sender wrote
/// in, are worth nothing (XEP-0359 section 6) and dropped. The caller knows whether the server strips forged ones; an id
/// is only trusted `by` the account itself.
pub fn take_archive_id(stanza: &mut Stanza, account: &BareJid) -> Option<String> {
    let mut found = None;
    for child in stanza.take_all(NS) {
        let by = child.attr("by").and_then(|by| BareJid::parse(by).ok());
        if child.name() == "stanza-id" && by.as_ref() == Some(account) {
            found = child.attr("id").filter(|id| !id.is_empty()).map(str::to_owned);
        }
    }
    found
}

/// The origin-id of a stanza of ours.
pub fn origin_id(id: &str) -> Element {
    let mut origin = element("origin-id", NS);
    set(&mut origin, "id", id);
    origin
}

/// The name that an archive's id is bound under.
pub fn archived(id: &str) -> String {
    format!("a:{id}")
}

/// The name that a stanza of ours is bound under.
pub fn sent(wire_id: &str) -> String {
    format!("o:{wire_id}")
}

/// The name that a message of the contact, or one that the account wrote elsewhere, is bound under by its own id: what edits,
/// reactions, replies and receipts refer to.
pub fn named(id: &str, own: bool) -> String {
    format!("{}:{id}", if own { 'd' } else { 'c' })
}

/// What says that an edit of the message with this name came first: the message itself is not shown any more.
pub fn superseded(name: &str) -> String {
    format!("x:{name}")
}

/// The name that a further event of the stanza with this name is bound under: one stanza can hold several files.
pub fn part(name: &str, number: usize) -> String {
    format!("f:{number}:{name}")
}

/// What says that the owner's own user has said what has this name, and not the account's ghost.
pub fn by_owner(name: &str) -> String {
    format!("p:{name}")
}

/// What says that the account has taken back what has this name, or this event, on another device.
pub fn taken_back(what: &str) -> String {
    format!("r:{what}")
}

/// The id that others refer to, and whether the account wrote the message itself: of a name of [`sent`], [`named`] or
/// [`theirs`].
pub fn id_of(name: &str) -> Option<(&str, bool)> {
    let (kind, rest) = name.split_once(':')?;
    match kind {
        "o" | "d" => Some((rest, true)),
        "c" => Some((rest, false)),
        "i" | "j" => rest.split_once(':').map(|(_, id)| (id, false)),
        // Others know the stanza as a whole. A part is of no part, so this ends.
        "f" => rest.split_once(':').map(|(_, name)| name).filter(|name| !name.starts_with("f:")).and_then(id_of),
        _ => None,
    }
}

/// The name that an event is bound under that became no stanza, so that it is known when it comes again.
pub fn handled(event: &EventId) -> String {
    format!("e:{event}")
}

/// The name that a sender's own id is bound under. Careless clients use an id twice, so the text is part of the name, and
/// a message that the archive named too is told apart from one that it did not: two of the archive's are never one.
pub fn theirs(id: &str, text: &str, archived: bool) -> String {
    format!("{}:{:016x}:{id}", if archived { 'j' } else { 'i' }, text_hash(text))
}

/// A short hash of a text, to compare without keeping it.
pub fn text_hash(text: &str) -> u64 {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(text.as_bytes());
    hash.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_id_that_others_refer_to() {
        assert_eq!(id_of(&sent("mb-1")), Some(("mb-1", true)));
        assert_eq!(id_of(&named("a:b", true)), Some(("a:b", true)));
        assert_eq!(id_of(&named("x", false)), Some(("x", false)));
        assert_eq!(id_of(&theirs("x:y", "text", true)), Some(("x:y", false)));
        assert_eq!(id_of(&archived("17")), None);
    }

    #[test]
    fn only_the_accounts_own_archive_is_believed() {
        let xml = "<message xmlns='jabber:client'><stanza-id xmlns='urn:xmpp:sid:0' by='evil@x' id='1'/>\
                   <stanza-id xmlns='urn:xmpp:sid:0' by='Romeo@montague.lit' id='2'/><origin-id xmlns='urn:xmpp:sid:0' id='3'/></message>";
        let mut stanza = Stanza::read(&xml.parse().unwrap());
        assert_eq!(take_archive_id(&mut stanza, &BareJid::parse("romeo@montague.lit").unwrap()).as_deref(), Some("2"));
        assert!(stanza.leftovers().is_empty());
    }

    #[test]
    fn a_part_is_known_to_others_as_the_whole() {
        let name = named("m1", false);
        assert_eq!(id_of(&part(&name, 3)), Some(("m1", false)));
        assert_eq!(id_of(&part(&named("x:y", true), 1)), Some(("x:y", true)));
        assert_eq!(id_of(&part(&archived("a"), 1)), None);
        assert_eq!(id_of(&part(&part(&name, 1), 1)), None, "a part is of no part");
    }
}
