//! Personal eventing (XEP-0163 over XEP-0060): what others publish of themselves, and what the person does.

use minidom::Element;

use super::stanza::{Stanza, element, set};

/// XEP-0060.
pub const NS: &str = xmpp_parsers::ns::PUBSUB;
/// XEP-0060 section 7.1.2.1: a notification.
pub const EVENT: &str = xmpp_parsers::ns::PUBSUB_EVENT;
/// Notifications in one stanza that are looked at.
const AT_ONCE: usize = 16;

/// A node has another newest item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The node.
    pub node: String,
    /// Its newest item; `None`: there is none any more.
    pub item: Option<Item>,
}

/// An item of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its id; empty where none is told.
    pub id: String,
    /// What it holds, where that is told.
    pub payload: Option<Element>,
}

/// Takes notifications out of a message. The caller has seen whom it is from: only a bare JID speaks for its own nodes.
pub fn take_events(stanza: &mut Stanza) -> Option<Vec<Event>> {
    let event = stanza.take("event", EVENT)?;
    let events = event.children().filter_map(|child| {
        let node = child.attr("node").filter(|node| node.len() <= 512)?.to_owned();
        match child.name() {
            "items" => {
                let item = newest(child, EVENT);
                (item.is_some() || child.has_child("retract", EVENT)).then_some(Event { node, item })
            }
            "purge" | "delete" => Some(Event { node, item: None }),
            _ => None,
        }
    });
    Some(events.take(AT_ONCE).collect())
}

fn newest(items: &Element, namespace: &str) -> Option<Item> {
    let item = items.children().filter(|child| child.is("item", namespace)).last()?;
    Some(Item { id: item.attr("id").unwrap_or_default().to_owned(), payload: item.children().next().cloned() })
}

/// Asks for a node's item of this id, or for its newest one.
pub fn get(node: &str, item: Option<&str>) -> Element {
    let mut items = element("items", NS);
    set(&mut items, "node", node);
    match item {
        Some(id) => {
            let mut wanted = element("item", NS);
            set(&mut wanted, "id", id);
            items.append_child(wanted);
        }
        None => set(&mut items, "max_items", "1"),
    }
    let mut pubsub = element("pubsub", NS);
    pubsub.append_child(items);
    pubsub
}

/// The newest item in the answer to [`get`].
pub fn read(answer: &Element, node: &str) -> Option<Item> {
    let items = answer.get_child("pubsub", NS)?.get_child("items", NS)?;
    newest(items, NS).filter(|_| items.attr("node") == Some(node))
}

/// Publishes an item in one's own node.
pub fn publish(node: &str, id: Option<&str>, payload: Element) -> Element {
    let mut item = element("item", NS);
    if let Some(id) = id {
        set(&mut item, "id", id);
    }
    item.append_child(payload);
    let mut publish = element("publish", NS);
    set(&mut publish, "node", node);
    publish.append_child(item);
    let mut pubsub = element("pubsub", NS);
    pubsub.append_child(publish);
    pubsub
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(inner: &str) -> Vec<Event> {
        let xml = format!("<message xmlns='jabber:client'><event xmlns='{EVENT}'>{inner}</event></message>");
        take_events(&mut Stanza::read(&xml.parse().unwrap())).unwrap()
    }

    /// XEP-0163 section 1.1, example 2, and XEP-0060 sections 7.2.2.1, 8.4.2 and 8.5.2.
    #[test]
    fn notifications_name_a_node_and_its_newest_item() {
        let tune = "<items node='http://jabber.org/protocol/tune'><item><tune xmlns='http://jabber.org/protocol/tune'/></item></items>";
        let [Event { node, item: Some(item) }] = &events(tune)[..] else { panic!() };
        assert_eq!((node.as_str(), item.id.as_str()), ("http://jabber.org/protocol/tune", ""));
        assert!(item.payload.as_ref().unwrap().is("tune", "http://jabber.org/protocol/tune"));
        for gone in ["<items node='n'><retract id='a'/></items>", "<purge node='n'/>", "<delete node='n'/>"] {
            assert_eq!(events(gone), [Event { node: "n".to_owned(), item: None }], "{gone}");
        }
        for nothing in ["", "<items node='n'/>", "<items><item/></items>", "<configuration node='n'/>"] {
            assert_eq!(events(nothing), [], "{nothing}");
        }
        assert_eq!(events(&"<purge node='n'/>".repeat(40)).len(), AT_ONCE);
    }

    #[test]
    fn what_is_asked_for_is_read() {
        assert_eq!(
            get("n", Some("i")).get_child("items", NS).unwrap().get_child("item", NS).unwrap().attr("id"),
            Some("i")
        );
        let answer = |node: &str| {
            let xml = format!(
                "<iq xmlns='jabber:client' type='result'><pubsub xmlns='{NS}'><items node='{node}'><item id='i'><x xmlns='y'/></item></items></pubsub></iq>"
            );
            read(&xml.parse().unwrap(), "n")
        };
        assert_eq!(answer("n").map(|item| item.id).as_deref(), Some("i"));
        assert_eq!(answer("other"), None);
        assert_eq!(read(&"<iq xmlns='jabber:client' type='error'/>".parse().unwrap(), "n"), None);
    }
}
