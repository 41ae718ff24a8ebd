//! Blocking: `m.ignored_user_list`, commands `block` and `unblock` <-> XEP-0191.

use std::collections::BTreeSet;

use minidom::Element;
use ruma::{OwnedUserId, UserId};
use serde_json::{Value, json, value::RawValue};

use super::stanza::{element, set};
use crate::domain::{BareJid, address::Address};

/// XEP-0191, as servers announce it too (section 3.1).
pub const NS: &str = "urn:xmpp:blocking";
/// What marks the error of a message to someone who is blocked (XEP-0191 section 3.3).
pub const ERRORS: &str = "urn:xmpp:blocking:errors";
/// The name that such an error has among stanza error conditions.
pub const BLOCKED: &str = "blocked";
/// The list in a person's account data (Matrix CS API, "Ignoring Users").
pub const IGNORED: &str = "m.ignored_user_list";
/// How a person ends it in the room of the contact.
pub const HOW_TO_END: &str = "`!msgr unblock` in this room ends it";

/// Whom a list or a push names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items {
    /// Accounts and whole domains.
    pub whole: BTreeSet<BareJid>,
    /// How many name a single client (`user@domain/resource`), or nobody: they say nothing of a contact as such.
    pub other: usize,
}

/// A change that the account's server tells all of its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// These are blocked.
    Blocked(Items),
    /// These no longer are.
    Unblocked(Items),
    /// Nobody is any longer (XEP-0191 section 3.5).
    UnblockedAll,
}

/// Asks for the list; from then on the server tells changes.
pub fn ask() -> Element {
    element("blocklist", NS)
}

/// Reads the answer: everyone who is blocked.
pub fn list(answer: &Element) -> Option<Items> {
    answer.get_child("blocklist", NS).map(items)
}

/// Reads the payload of a push; `None` if it is none.
pub fn push(payload: &Element) -> Option<Push> {
    let named = payload.children().any(|child| child.is("item", NS));
    match (payload.name(), named) {
        _ if payload.ns() != NS => None,
        ("block", _) => Some(Push::Blocked(items(payload))),
        ("unblock", true) => Some(Push::Unblocked(items(payload))),
        ("unblock", false) => Some(Push::UnblockedAll),
        _ => None,
    }
}

/// Blocks someone, or no longer.
pub fn to_xmpp(who: &BareJid, blocked: bool) -> Element {
    let mut payload = element(if blocked { "block" } else { "unblock" }, NS);
    let mut item = element("item", NS);
    set(&mut item, "jid", who.as_str());
    payload.append_child(item);
    payload
}

fn items(list: &Element) -> Items {
    let mut items = Items::default();
    for item in list.children().filter(|child| child.is("item", NS)) {
        match item.attr("jid").map(Address::parse) {
            Some(Ok(Address { bare, resource: None })) => {
                items.whole.insert(bare);
            }
            _ => items.other += 1,
        }
    }
    items
}

/// Whom a person ignores; what is no user is passed over.
pub fn ignored(content: &RawValue) -> Option<BTreeSet<OwnedUserId>> {
    let content: Value = serde_json::from_str(content.get()).ok()?;
    let listed = content
        .as_object()?
        .get("ignored_users")
        .map_or_else(|| Some(Vec::new()), |users| Some(users.as_object()?.keys().cloned().collect()))?;
    Some(listed.into_iter().filter_map(|user| UserId::parse(user).ok()).collect())
}

/// The list with a user in it, or without; `None` where it is so already. What else it holds stays as it is.
pub fn with_ignored(known: &Value, user: &UserId, ignored: bool) -> Option<Value> {
    let mut content = known.as_object().cloned().unwrap_or_default();
    let mut users = content.get("ignored_users").and_then(Value::as_object).cloned().unwrap_or_default();
    if users.contains_key(user.as_str()) == ignored {
        return None;
    }
    if ignored {
        users.insert(user.to_string(), json!({}));
    } else {
        users.remove(user.as_str());
    }
    content.insert("ignored_users".to_owned(), Value::Object(users));
    Some(Value::Object(content))
}

/// Does a block of `blocked` reach the account `who` (XEP-0191 section 5)?
pub fn reaches(blocked: &BareJid, who: &BareJid) -> bool {
    blocked == who || blocked.localpart().is_none() && blocked.as_str() == who.domain()
}

/// What is said where `who` is blocked from now on, or no longer; `here`: in their own room.
pub fn notice(who: &BareJid, account: &BareJid, blocked: bool, here: bool) -> String {
    let whom = if who.localpart().is_none() { format!("Everyone at {who}") } else { who.to_string() };
    match (blocked, here) {
        (true, true) => format!(
            "This contact is blocked now: nothing of theirs reaches you, and nothing of yours reaches them. {HOW_TO_END}."
        ),
        (false, true) => "This contact is no longer blocked.".to_owned(),
        (true, false) => format!(
            "{whom} is blocked now by {account}: nothing of theirs reaches you, and nothing of yours reaches them. \
             `unblock {account} {who}` ends it."
        ),
        (false, false) => format!("{whom} is no longer blocked by {account}."),
    }
}

/// The end of a sentence: why a message to someone who is blocked is not sent.
pub fn why_not_sent() -> String {
    format!("you have blocked this contact ({HOW_TO_END})")
}

/// That the server did not do it; `condition` of the error, where it gave one.
pub fn refused(who: &BareJid, account: &BareJid, blocked: bool, condition: Option<&str>) -> String {
    let what = if blocked { "blocked" } else { "unblocked" };
    let why = match condition {
        None => "its server has not answered; please try again".to_owned(),
        Some("service-unavailable" | "feature-not-implemented") => "its server cannot do that".to_owned(),
        Some(condition) => format!("its server refuses it ({condition})"),
    };
    format!("{who} could not be {what} by {account}: {why}.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::stanza::to_xml;

    fn jid(text: &str) -> BareJid {
        BareJid::parse(text).unwrap()
    }

    /// XEP-0191 section 3.2, "Server returns blocklist with items", and with an empty one.
    #[test]
    fn the_list_is_read() {
        let answer = |inner: &str| -> Element {
            format!("<iq xmlns='jabber:client' type='result' id='blocklist1'>{inner}</iq>").parse().unwrap()
        };
        let items = list(&answer(
            "<blocklist xmlns='urn:xmpp:blocking'><item jid='romeo@montague.net'/><item jid='iago@shakespeare.lit'/></blocklist>",
        ));
        let whole = [jid("romeo@montague.net"), jid("iago@shakespeare.lit")].into();
        assert_eq!(items, Some(Items { whole, other: 0 }));
        assert_eq!(list(&answer("<blocklist xmlns='urn:xmpp:blocking'/>")), Some(Items::default()));
        assert_eq!(list(&answer("")), None);
    }

    /// XEP-0191 sections 3.3 to 3.5, the pushes, and items that are no account.
    #[test]
    fn pushes_are_read() {
        let read = |xml: &str| push(&xml.parse().unwrap());
        let romeo = Items { whole: [jid("romeo@montague.net")].into(), other: 0 };
        let item = "<item jid='romeo@montague.net'/>";
        assert_eq!(
            read(&format!("<block xmlns='urn:xmpp:blocking'>{item}</block>")),
            Some(Push::Blocked(romeo.clone()))
        );
        assert_eq!(
            read(&format!("<unblock xmlns='urn:xmpp:blocking'>{item}</unblock>")),
            Some(Push::Unblocked(romeo.clone()))
        );
        assert_eq!(read("<unblock xmlns='urn:xmpp:blocking'/>"), Some(Push::UnblockedAll));
        assert_eq!(read("<block xmlns='urn:example'/>"), None);
        assert_eq!(read("<blocklist xmlns='urn:xmpp:blocking'/>"), None);
        // One client of an account is not the account, and a broken item frees nobody.
        let odd = "<item jid='romeo@montague.net/orchard'/><item/><item jid='ro meo@x'/>";
        assert_eq!(
            read(&format!("<unblock xmlns='urn:xmpp:blocking'>{odd}{item}</unblock>")),
            Some(Push::Unblocked(Items { other: 3, ..romeo }))
        );
        assert_eq!(
            read(&format!("<unblock xmlns='urn:xmpp:blocking'>{odd}</unblock>")),
            Some(Push::Unblocked(Items { whole: BTreeSet::new(), other: 3 }))
        );
    }

    /// XEP-0191 section 3.3, "Block command", and section 3.4, "Unblock JID command".
    #[test]
    fn commands_are_written() {
        for (name, blocked) in [("block", true), ("unblock", false)] {
            let xml = to_xml(&to_xmpp(&jid("romeo@montague.net"), blocked)).unwrap();
            let example: Element =
                format!("<{name} xmlns='urn:xmpp:blocking'><item jid='romeo@montague.net'/></{name}>").parse().unwrap();
            assert_eq!(xml.parse::<Element>().unwrap(), example);
        }
    }

    /// Matrix CS API, "Ignoring Users", the example, beside what else may stand there.
    #[test]
    fn the_list_of_the_ignored_keeps_what_else_is_in_it() {
        let known = json!({ "ignored_users": { "@someone:example.org": {} }, "org.example": 7 });
        let raw = serde_json::value::to_raw_value(&known).unwrap();
        assert_eq!(ignored(&raw), Some([UserId::parse("@someone:example.org").unwrap()].into()));
        let ghost = ruma::user_id!("@messenger_x:h");
        let with = with_ignored(&known, ghost, true).unwrap();
        assert_eq!(
            with,
            json!({ "ignored_users": { "@someone:example.org": {}, "@messenger_x:h": {} }, "org.example": 7 })
        );
        assert_eq!(with_ignored(&with, ghost, true), None);
        assert_eq!(with_ignored(&with, ghost, false).unwrap(), known);
        assert_eq!(
            with_ignored(&json!({}), ghost, true).unwrap(),
            json!({ "ignored_users": { "@messenger_x:h": {} } })
        );
        let read = |text: &str| ignored(&RawValue::from_string(text.to_owned()).unwrap()).map(|users| users.len());
        assert_eq!(read("{}"), Some(0));
        assert_eq!(read(r#"{"ignored_users":{"no user":{},"@a:h":7}}"#), Some(1));
        // What cannot be read frees nobody.
        assert_eq!(read(r#"{"ignored_users":[]}"#), None);
        assert_eq!(read("[]"), None);
    }

    /// XEP-0191 section 5.
    #[test]
    fn a_block_of_a_domain_reaches_all_of_it() {
        assert!(reaches(&jid("montague.net"), &jid("romeo@montague.net")));
        assert!(reaches(&jid("montague.net"), &jid("montague.net")));
        assert!(!reaches(&jid("montague.net"), &jid("romeo@sub.montague.net")));
        assert!(reaches(&jid("romeo@montague.net"), &jid("romeo@montague.net")));
        assert!(!reaches(&jid("romeo@montague.net"), &jid("montague.net")));
    }
}
