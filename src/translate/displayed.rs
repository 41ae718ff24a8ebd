//! Read state among the account's own devices: `m.read.private` and `m.fully_read` <-> XEP-0490.

use minidom::Element;

use super::{
    pep, stable_id,
    stanza::{Stanza, element, set},
};
use crate::domain::BareJid;

/// XEP-0490: the node, and the namespace of what stands in it.
pub const NS: &str = "urn:xmpp:mds:displayed:0";
/// What asks the server to tell of it (XEP-0163 section 4).
pub const NOTIFY: &str = "urn:xmpp:mds:displayed:0+notify";
/// Chats of one answer or event that are looked at.
const MOST: usize = 10_000;

/// Up to where a chat was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Displayed {
    /// With whom.
    pub contact: BareJid,
    /// The id that the account's archive gave the message.
    pub id: String,
}

/// Takes what the account's own node tells out of a stanza. `None`: the stanza is of another node, or of none. The caller sees
/// to it that it comes from the account itself.
pub fn from_xmpp(stanza: &mut Stanza, account: &BareJid) -> Option<Vec<Displayed>> {
    let events = stanza.take_all(pep::EVENT);
    let ours = |event: &Element| event.children().any(|items| items.attr("node") == Some(NS));
    if !events.iter().any(ours) {
        stanza.put_back(events);
        return None;
    }
    Some(events.iter().flat_map(|event| read_items(event, account)).collect())
}

/// What an answer to [`get`] says.
pub fn read_answer(answer: &Element, account: &BareJid) -> Vec<Displayed> {
    answer.get_child("pubsub", pep::NS).map(|pubsub| read_items(pubsub, account)).unwrap_or_default()
}

fn read_items(within: &Element, account: &BareJid) -> Vec<Displayed> {
    let items = within.children().filter(|items| items.name() == "items" && items.attr("node") == Some(NS));
    items.flat_map(Element::children).take(MOST).filter_map(|item| read_item(item, account)).collect()
}

/// A group chat's id is by its room: those are not ours.
fn read_item(item: &Element, account: &BareJid) -> Option<Displayed> {
    let contact = BareJid::parse(item.attr("id")?).ok()?;
    let id = item.get_child("displayed", NS)?.get_child("stanza-id", stable_id::NS)?;
    let by = BareJid::parse(id.attr("by")?).ok()?;
    let id = id.attr("id").filter(|id| !id.is_empty() && by == *account)?;
    Some(Displayed { contact, id: id.to_owned() })
}

/// The payload that asks for all of it (XEP-0490 section 4.4).
pub fn get() -> Element {
    pep::get_all(NS)
}

/// The payload that publishes it, for nobody else to see (XEP-0490 section 4.2). `all`: the node is to keep all chats; some
/// servers (ejabberd 23.01) refuse to be asked for that.
pub fn to_xmpp(displayed: &Displayed, account: &BareJid, all: bool) -> Element {
    let mut id = element("stanza-id", stable_id::NS);
    set(&mut id, "by", account.as_str());
    set(&mut id, "id", displayed.id.clone());
    let mut payload = element("displayed", NS);
    payload.append_child(id);
    let wanted: &[(&str, &str)] = &[
        ("pubsub#persist_items", "true"),
        ("pubsub#access_model", "whitelist"),
        ("pubsub#max_items", "max"),
        ("pubsub#send_last_published_item", "never"),
    ];
    pep::publish_if(NS, displayed.contact.as_str(), payload, if all { wanted } else { &wanted[..2] })
}

#[cfg(test)]
mod tests {
    use super::super::stanza::to_xml;
    use super::*;

    fn juliet() -> BareJid {
        BareJid::parse("juliet@capulet.lit").unwrap()
    }

    fn romeo(id: &str) -> Displayed {
        Displayed { contact: BareJid::parse("romeo@montegue.lit").unwrap(), id: id.to_owned() }
    }

    /// XEP-0490 section 4.5.4, the notification.
    #[test]
    fn a_notification_tells_up_to_where_a_chat_was_read() {
        let xml = |node: &str| {
            format!(
                "<message xmlns='jabber:client' from='juliet@capulet.lit' to='juliet@capulet.lit/balcony' type='headline' id='new-displayed-pep-event'>\
                 <event xmlns='http://jabber.org/protocol/pubsub#event'><items node='{node}'><item id='romeo@montegue.lit'>\
                 <displayed xmlns='urn:xmpp:mds:displayed:0'><stanza-id xmlns='urn:xmpp:sid:0' by='juliet@capulet.lit' \
                 id='0423e3a9-d516-493d-bb06-bee0e51ab9fb'/></displayed></item></items></event></message>"
            )
        };
        let mut stanza = Stanza::read(&xml(NS).parse().unwrap());
        assert_eq!(from_xmpp(&mut stanza, &juliet()), Some(vec![romeo("0423e3a9-d516-493d-bb06-bee0e51ab9fb")]));
        // What is of another node is left to whom it concerns.
        let mut other = Stanza::read(&xml("urn:xmpp:avatar:metadata").parse().unwrap());
        assert_eq!(from_xmpp(&mut other, &juliet()), None);
        assert_eq!(other.leftovers().len(), 1);
    }

    /// XEP-0490 section 4.4.
    #[test]
    fn all_of_it_is_asked_for_and_group_chats_are_passed_over() {
        let asked =
            "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:mds:displayed:0'/></pubsub>";
        assert_eq!(get(), asked.parse().unwrap());
        let answer = "<iq xmlns='jabber:client' type='result' to='juliet@capulet.lit/balcony' id='catchup-1'>\
            <pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:mds:displayed:0'>\
            <item id='romeo@montegue.lit'><displayed xmlns='urn:xmpp:mds:displayed:0'><stanza-id xmlns='urn:xmpp:sid:0' \
            id='0f710f2b-52ed-4d52-b928-784dad74a52b' by='juliet@capulet.lit'/></displayed></item>\
            <item id='example@conference.shakespeare.lit'><displayed xmlns='urn:xmpp:mds:displayed:0'><stanza-id xmlns='urn:xmpp:sid:0' \
            id='ca21deaf-812c-48f1-8f16-339a674f2864' by='example@conference.shakespeare.lit'/></displayed></item>\
            <item id='broken'/><item/></items></pubsub></iq>";
        let read = read_answer(&answer.parse().unwrap(), &juliet());
        assert_eq!(read, [romeo("0f710f2b-52ed-4d52-b928-784dad74a52b")]);
    }

    /// XEP-0490 section 4.2.
    #[test]
    fn it_is_published_for_nobody_else() {
        let published = to_xmpp(&romeo("0f710f2b-52ed-4d52-b928-784dad74a52b"), &juliet(), true);
        let xml = to_xml(&published).unwrap();
        for part in [
            "<publish node=\"urn:xmpp:mds:displayed:0\"><item id=\"romeo@montegue.lit\"><displayed xmlns='urn:xmpp:mds:displayed:0'>",
            "<field type=\"hidden\" var=\"FORM_TYPE\"><value>http://jabber.org/protocol/pubsub#publish-options</value></field>",
            "<field var=\"pubsub#access_model\"><value>whitelist</value></field>",
            "<field var=\"pubsub#max_items\"><value>max</value></field>",
        ] {
            let plain = |text: &str| text.replace('\'', "\"");
            assert!(plain(&xml).contains(&plain(part)), "{part}\n{xml}");
        }
        let few = to_xml(&to_xmpp(&romeo("1"), &juliet(), false)).unwrap();
        assert!(few.contains("whitelist") && !few.contains("max_items") && !few.contains("last_published"), "{few}");
        let item = published.get_child("publish", pep::NS).unwrap();
        let mut items = element("items", pep::NS);
        set(&mut items, "node", NS);
        items.append_child(item.children().next().unwrap().clone());
        assert_eq!(read_items(&pep::pubsub([items]), &juliet()), [romeo("0f710f2b-52ed-4d52-b928-784dad74a52b")]);
    }
}
