//! What a person has chosen for a chat with one contact, kept on their account's server for their other clients: an item of a
//! private node (XEP-0223), which holds what [`super::favourite`] and [`super::notify`] say.
//!
//! XEP-0469 pins bookmarks of XEP-0402, which are rooms alone: an item there whose id is a contact would make other clients join a
//! room. XEP-0492 wants its settings within "an element identifying a specific chat by its JID" and names no other place. So they
//! stand in a node of our own, with these same elements, where nobody takes them for something else.

use minidom::Element;

use super::{
    favourite, notify, pep,
    stanza::{element, set},
};
use crate::domain::{
    BareJid,
    choice::{Choice, Keep},
};

/// The node, and the namespace of its items.
pub const NODE: &str = "https://github.com/messenger-bridge/messenger-bridge#direct-chats";
/// What asks the account's server to tell changes (XEP-0163 section 4.3).
pub const NOTIFY: &str = "https://github.com/messenger-bridge/messenger-bridge#direct-chats+notify";
const NODE_CONFIG: &str = "http://jabber.org/protocol/pubsub#node_config";
/// What the node has to be (XEP-0223 section 3, with the values that XEP-0402 section 3 has): first what keeps it private.
const OPTIONS: [(&str, &str); 4] = [
    ("pubsub#persist_items", "true"),
    ("pubsub#access_model", "whitelist"),
    ("pubsub#max_items", "max"),
    ("pubsub#send_last_published_item", "never"),
];
/// So many items are looked at.
pub const MOST: usize = 1024;

/// What an answer or an event says of one chat.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// With whom.
    pub contact: BareJid,
    /// The element that stands for it; `None`: nothing is chosen any more.
    pub chat: Option<Element>,
}

/// Asks for all items.
pub fn ask() -> Element {
    pep::get_all(NODE)
}

/// Reads the answer.
pub fn list(answer: &Element) -> Option<Vec<Item>> {
    let items = answer.get_child("pubsub", pep::NS)?.get_child("items", pep::NS)?;
    (items.attr("node") == Some(NODE)).then(|| read(items, pep::NS))
}

/// Is this the payload of an event of our node? What it says; a node that is emptied or deleted says `None`.
pub fn event(payload: &Element) -> Option<Option<Vec<Item>>> {
    if !payload.is("event", pep::EVENT) {
        return None;
    }
    let of_node = payload.children().find(|child| child.attr("node") == Some(NODE))?;
    match of_node.name() {
        "items" => Some(Some(read(of_node, pep::EVENT))),
        "purge" | "delete" => Some(None),
        _ => None,
    }
}

/// The name and namespace of an event's payload.
pub const EVENT_PAYLOAD: (&str, &str) = ("event", pep::EVENT);

fn read(items: &Element, namespace: &str) -> Vec<Item> {
    let read = |item: &Element| {
        let contact = BareJid::parse(item.attr("id")?).ok().filter(|contact| contact.localpart().is_some())?;
        if item.is("retract", namespace) {
            return Some(Item { contact, chat: None });
        }
        let chat = item.get_child("chat", NODE)?.clone();
        item.is("item", namespace).then_some(Item { contact, chat: Some(chat) })
    };
    items.children().filter_map(read).take(MOST).collect()
}

/// What was chosen.
pub fn choice(chat: &Element) -> Choice {
    Choice { pinned: favourite::from_xmpp(chat), notify: notify::from_xmpp(chat) }
}

/// The element with this choice in it, and what else was in it; `None`: nothing is left to be said.
pub fn with_choice(known: Option<&Element>, contact: &BareJid, choice: Choice) -> Option<Element> {
    let mut chat = element("chat", NODE);
    set(&mut chat, "jid", contact.as_str());
    let is_ours = |child: &Element| child.is("pinned", favourite::NS) || child.is("notify", notify::NS);
    for child in known.iter().flat_map(|known| known.children()).filter(|child| !is_ours(child)) {
        chat.append_child(child.clone());
    }
    if choice.pinned {
        chat.append_child(favourite::to_xmpp());
    }
    if let Some(notify) = notify::to_xmpp(known.and_then(|known| known.get_child("notify", notify::NS)), choice.notify)
    {
        chat.append_child(notify);
    }
    chat.children().next().is_some().then_some(chat)
}

/// Keeps it: publishes the item, in a node that is nobody else's to read, or takes it back.
pub fn keep(contact: &BareJid, chat: Option<&Element>, step: Keep) -> Element {
    if step == Keep::Make {
        let mut create = element("create", pep::NS);
        set(&mut create, "node", NODE);
        let mut configure = element("configure", pep::NS);
        configure.append_child(pep::form(NODE_CONFIG, &OPTIONS));
        return pep::pubsub([create, configure]);
    }
    let Some(chat) = chat else {
        let mut item = element("item", pep::NS);
        set(&mut item, "id", contact.as_str());
        let mut retract = element("retract", pep::NS);
        set(&mut retract, "node", NODE);
        set(&mut retract, "notify", "true");
        retract.append_child(item);
        return pep::pubsub([retract]);
    };
    // Some servers know no others in a publication.
    let private = if step == Keep::Publish { &OPTIONS[..] } else { &OPTIONS[..2] };
    pep::publish_if(NODE, contact.as_str(), chat.clone(), private)
}

#[cfg(test)]
mod tests {
    use super::super::pep::{EVENT, NS as PUBSUB, PUBLISH_OPTIONS};
    use super::*;
    use crate::{domain::choice::Notify, translate::stanza::to_xml};

    fn jid(text: &str) -> BareJid {
        BareJid::parse(text).unwrap()
    }

    fn chat(inner: &str) -> Element {
        format!("<chat xmlns='{NODE}' jid='juliet@capulet.lit'>{inner}</chat>").parse().unwrap()
    }

    const PINNED: &str = "<pinned xmlns='urn:xmpp:bookmarks-pinning:0'/>";
    const NEVER: &str = "<notify xmlns='urn:xmpp:notification-settings:1'><never/></notify>";

    /// The shape of XEP-0402 section 3.3, "Client adds a new bookmark": node, item, and options that keep it private.
    #[test]
    fn a_choice_is_kept_in_a_private_node() {
        let chosen = with_choice(None, &jid("juliet@capulet.lit"), Choice { pinned: true, notify: Notify::Never });
        assert_eq!(chosen, Some(chat(&format!("{PINNED}{NEVER}"))));
        let xml = to_xml(&keep(&jid("juliet@capulet.lit"), chosen.as_ref(), Keep::Publish)).unwrap();
        let field = |name: &str, value: &str| format!("<field var='{name}'><value>{value}</value></field>");
        let example = format!(
            "<pubsub xmlns='{PUBSUB}'><publish node='{NODE}'><item id='juliet@capulet.lit'>\
             <chat xmlns='{NODE}' jid='juliet@capulet.lit'>{PINNED}{NEVER}</chat></item></publish><publish-options>\
             <x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>{PUBLISH_OPTIONS}</value></field>\
             {}{}{}{}</x></publish-options></pubsub>",
            field("pubsub#persist_items", "true"),
            field("pubsub#access_model", "whitelist"),
            field("pubsub#max_items", "max"),
            field("pubsub#send_last_published_item", "never"),
        );
        assert_eq!(xml.parse::<Element>().unwrap(), example.parse::<Element>().unwrap());
        // XEP-0060 section 8.1.3, "Entity requests a new node with non-default configuration", for servers that know few options.
        let xml = to_xml(&keep(&jid("juliet@capulet.lit"), chosen.as_ref(), Keep::Make)).unwrap();
        let form = |kind: &str, fields: &str| {
            let kind = format!("<field var='FORM_TYPE' type='hidden'><value>{kind}</value></field>");
            format!("<x xmlns='jabber:x:data' type='submit'>{kind}{fields}</x>")
        };
        let private = field("pubsub#persist_items", "true") + &field("pubsub#access_model", "whitelist");
        let all = format!(
            "{private}{}{}",
            field("pubsub#max_items", "max"),
            field("pubsub#send_last_published_item", "never")
        );
        let example = format!(
            "<pubsub xmlns='{PUBSUB}'><create node='{NODE}'/><configure>{}</configure></pubsub>",
            form("http://jabber.org/protocol/pubsub#node_config", &all)
        );
        assert_eq!(xml.parse::<Element>().unwrap(), example.parse::<Element>().unwrap());
        // What is published then is still refused by a node that others may read.
        let xml = to_xml(&keep(&jid("juliet@capulet.lit"), chosen.as_ref(), Keep::PublishMade)).unwrap();
        let options = format!("<publish-options>{}</publish-options>", form(pep::PUBLISH_OPTIONS, &private));
        let options: Element =
            options.replacen("<publish-options", &format!("<publish-options xmlns='{PUBSUB}'"), 1).parse().unwrap();
        assert_eq!(xml.parse::<Element>().unwrap().get_child("publish-options", pep::NS), Some(&options));
        // XEP-0402 section 3.5, "Client removes a new bookmark".
        let xml = to_xml(&keep(&jid("juliet@capulet.lit"), None, Keep::Publish)).unwrap();
        let example = format!(
            "<pubsub xmlns='{PUBSUB}'><retract node='{NODE}' notify='true'><item id='juliet@capulet.lit'/></retract></pubsub>"
        );
        assert_eq!(xml.parse::<Element>().unwrap(), example.parse::<Element>().unwrap());
    }

    #[test]
    fn answers_and_events_are_read_whatever_some_items_are() {
        let items = format!(
            "<items node='{NODE}'><item id='juliet@capulet.lit'><chat xmlns='{NODE}'>{PINNED}</chat></item>\
                 <item id='no address'><chat xmlns='{NODE}'/></item><item id='a@b'/><item/><item id='domain'><chat xmlns='{NODE}'/>\
                 </item><retract id='nurse@capulet.lit'/></items>"
        );
        let answer = format!("<iq xmlns='jabber:client' type='result'><pubsub xmlns='{PUBSUB}'>{items}</pubsub></iq>");
        let event_of = |inner: &str| event(&format!("<event xmlns='{EVENT}'>{inner}</event>").parse().unwrap());
        for read in [list(&answer.parse().unwrap()).unwrap(), event_of(&items).unwrap().unwrap()] {
            let read: Vec<_> =
                read.iter().map(|item| (item.contact.as_str(), item.chat.as_ref().map(choice))).collect();
            let pinned = Choice { pinned: true, notify: Notify::Always };
            assert_eq!(read, [("juliet@capulet.lit", Some(pinned)), ("nurse@capulet.lit", None)]);
        }
        assert_eq!(event_of(&format!("<purge node='{NODE}'/>")), Some(None));
        assert_eq!(event_of(&format!("<delete node='{NODE}'/>")), Some(None));
        assert_eq!(event_of("<items node='urn:xmpp:bookmarks:1'/>"), None);
        assert_eq!(list(&"<iq xmlns='jabber:client' type='result'/>".parse().unwrap()), None);
    }

    /// XEP-0402 section 2: what one does not know stays.
    #[test]
    fn what_else_stands_there_stays() {
        let known =
            chat(&format!("<state xmlns='http://myclient.example/bookmark/state' minimized='true'/>{PINNED}{NEVER}"));
        let state = "<state xmlns='http://myclient.example/bookmark/state' minimized='true'/>";
        let juliet = jid("juliet@capulet.lit");
        assert_eq!(with_choice(Some(&known), &juliet, Choice::default()), Some(chat(state)));
        assert_eq!(with_choice(Some(&chat(PINNED)), &juliet, Choice::default()), None);
    }
}
