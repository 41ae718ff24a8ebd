//! Personal eventing (XEP-0163 over XEP-0060): what others publish of themselves, and what the person does.

use minidom::Element;

use super::stanza::{Stanza, element, set, text_element};

/// XEP-0060.
pub const NS: &str = xmpp_parsers::ns::PUBSUB;
/// XEP-0060 section 7.1.2.1: a notification.
pub const EVENT: &str = xmpp_parsers::ns::PUBSUB_EVENT;
/// XEP-0060 section 7.1.5: what a node has to be like for a publication to be taken.
pub const PUBLISH_OPTIONS: &str = "http://jabber.org/protocol/pubsub#publish-options";
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
    pubsub([items])
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
    pubsub([publish])
}

/// The same, only if the node is as these options say, or can be made so (XEP-0060 section 7.1.5).
pub fn publish_if(node: &str, id: &str, payload: Element, wanted: &[(&str, &str)]) -> Element {
    let mut pubsub = publish(node, Some(id), payload);
    let mut options = element("publish-options", NS);
    options.append_child(form(PUBLISH_OPTIONS, wanted));
    pubsub.append_child(options);
    pubsub
}

/// Asks for all items of a node.
pub fn get_all(node: &str) -> Element {
    let mut items = element("items", NS);
    set(&mut items, "node", node);
    pubsub([items])
}

/// A request of XEP-0060.
pub fn pubsub(children: impl IntoIterator<Item = Element>) -> Element {
    let mut pubsub = element("pubsub", NS);
    for child in children {
        pubsub.append_child(child);
    }
    pubsub
}

/// Options of this kind, as a form that is filled in (XEP-0004, XEP-0068).
pub fn form(kind: &str, options: &[(&str, &str)]) -> Element {
    const FORM: &str = "jabber:x:data";
    let mut form = element("x", FORM);
    set(&mut form, "type", "submit");
    for (name, value) in [("FORM_TYPE", kind)].iter().chain(options) {
        let mut field = element("field", FORM);
        set(&mut field, "var", *name);
        if *name == "FORM_TYPE" {
            set(&mut field, "type", "hidden");
        }
        field.append_child(text_element("value", FORM, value));
        form.append_child(field);
    }
    form
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
