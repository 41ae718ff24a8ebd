//! Delayed history: `?ts=` <-> delayed delivery (XEP-0203); archives (XEP-0313, XEP-0136).

use minidom::Element;

use super::{
    message::Message,
    stanza::{CLIENT, Stanza, element, set, text_element},
};
use crate::domain::{BareJid, Timestamp};

/// XEP-0203.
pub const DELAY: &str = xmpp_parsers::ns::DELAY;
/// XEP-0313.
pub const MAM: &str = xmpp_parsers::ns::MAM;
/// XEP-0136.
pub const ARCHIVE: &str = "urn:xmpp:archive";
/// XEP-0297.
pub const FORWARD: &str = xmpp_parsers::ns::FORWARD;
/// XEP-0059.
const RSM: &str = xmpp_parsers::ns::RSM;
/// XEP-0004.
const FORMS: &str = xmpp_parsers::ns::DATA_FORMS;

/// How many archived messages are asked for at once.
pub const PAGE: u32 = 100;

/// Takes the stamp of delayed delivery out of a stanza.
pub fn from_xmpp(stanza: &mut Stanza) -> Option<Timestamp> {
    stanza.take_all(DELAY).iter().find_map(|delay| delay.attr("stamp").and_then(Timestamp::parse))
}

/// The element that says when a message was written.
pub fn delay(written: Timestamp, account: &BareJid) -> Element {
    let mut delay = element("delay", DELAY);
    set(&mut delay, "from", account.as_str());
    set(&mut delay, "stamp", written.to_xmpp());
    delay
}

/// One message of an archive (XEP-0313 section 4.2).
#[derive(Clone, Debug)]
pub struct Archived {
    /// The query that it answers.
    pub query: String,
    /// The archive's id of the message.
    pub id: String,
    /// When it was said.
    pub at: Timestamp,
    /// The message.
    pub message: Element,
}

/// Takes an archive's result out of a stanza. The caller has checked that the stanza comes from the account itself.
pub fn take_result(stanza: &mut Stanza) -> Option<Archived> {
    let result = stanza.take("result", MAM)?;
    let forwarded = result.get_child("forwarded", FORWARD)?;
    let at = forwarded.get_child("delay", DELAY).and_then(|delay| delay.attr("stamp")).and_then(Timestamp::parse)?;
    Some(Archived {
        query: result.attr("queryid").unwrap_or_default().to_owned(),
        id: result.attr("id")?.to_owned(),
        at,
        message: forwarded.get_child("message", CLIENT)?.clone(),
    })
}

/// What is asked of an archive (XEP-0313 section 4.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    /// Only what was said with this contact.
    pub with: Option<&'a BareJid>,
    /// Only what came since.
    pub since: Option<Timestamp>,
    /// Only what came after this id (XEP-0059 section 2.2).
    pub after: Option<&'a str>,
    /// The newest page rather than the oldest.
    pub newest: bool,
    /// At most so many.
    pub limit: u32,
}

/// The payload of a query. `id` comes back in each result.
pub fn query(id: &str, what: &Query<'_>) -> Element {
    let mut query = element("query", MAM);
    set(&mut query, "queryid", id);
    let mut form = element("x", FORMS);
    set(&mut form, "type", "submit");
    let mut field = |name: &str, kind: Option<&str>, value: &str| {
        let mut field = element("field", FORMS);
        set(&mut field, "var", name);
        if let Some(kind) = kind {
            set(&mut field, "type", kind);
        }
        field.append_child(text_element("value", FORMS, value));
        form.append_child(field);
    };
    field("FORM_TYPE", Some("hidden"), MAM);
    if let Some(with) = what.with {
        field("with", None, with.as_str());
    }
    if let Some(since) = what.since {
        field("start", None, &since.to_xmpp());
    }
    query.append_child(form);
    let mut set = element("set", RSM);
    set.append_child(text_element("max", RSM, &what.limit.to_string()));
    if let Some(after) = what.after {
        set.append_child(text_element("after", RSM, after));
    }
    if what.newest {
        set.append_child(element("before", RSM));
    }
    query.append_child(set);
    query
}

/// The end of a page (XEP-0313 section 4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Nothing follows.
    pub complete: bool,
    /// The id of the last message of the page.
    pub last: Option<String>,
}

/// Reads the answer of a query. A missing or odd `<set/>` is no last id.
pub fn read_end(answer: &Element) -> End {
    let Some(fin) = answer.get_child("fin", MAM) else { return End { complete: true, last: None } };
    let last = fin.get_child("set", RSM).and_then(|set| set.get_child("last", RSM)).map(Element::text);
    End { complete: matches!(fin.attr("complete"), Some("true" | "1")), last: last.filter(|last| !last.is_empty()) }
}

/// Asks for the last messages with a contact (XEP-0136 section 6.2, as the Messenger service has it).
pub fn query_recent(with: &BareJid) -> Element {
    let mut retrieve = element("retrieve", ARCHIVE);
    set(&mut retrieve, "with", with.as_str());
    retrieve
}

/// How many lines of a chat an archive without ids keeps.
pub const RECENT_LINES: usize = 10;

/// A message of a recent archive: who said it, when, what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    /// The account said it.
    pub own: bool,
    /// When.
    pub at: Timestamp,
    /// What.
    pub message: Message,
}

/// Reads the last messages with a contact, oldest first (XEP-0136 section 5.1: `secs` counts from the message before, or
/// `utc` says the time).
pub fn read_recent(answer: &Element) -> Vec<Recent> {
    let Some(chat) = answer.get_child("chat", ARCHIVE) else { return Vec::new() };
    let Some(mut at) = chat.attr("start").and_then(Timestamp::parse) else { return Vec::new() };
    let mut messages = Vec::new();
    for entry in chat.children().filter(|child| matches!(child.name(), "from" | "to")) {
        if let Some(utc) = entry.attr("utc").and_then(Timestamp::parse) {
            at = utc;
        } else if let Some(secs) = entry.attr("secs").and_then(|secs| secs.parse::<u32>().ok()) {
            at = Timestamp(at.0.saturating_add(i64::from(secs) * 1000));
        }
        let Some(body) = entry.children().find(|child| child.name() == "body").map(Element::text) else { continue };
        let mut stanza = Stanza::read(&addressed_body(&body));
        if let Some(message) = super::message::from_xmpp(&mut stanza) {
            messages.push(Recent { own: entry.name() == "to", at, message });
        }
    }
    messages
}

fn addressed_body(body: &str) -> Element {
    let mut stanza = element("message", CLIENT);
    stanza.append_child(text_element("body", CLIENT, body));
    stanza
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XEP-0203 section 3, example 1.
    #[test]
    fn the_stamp_of_delayed_delivery() {
        let xml = "<message xmlns='jabber:client' type='chat'><body>O blessed, blessed night!</body>\
                   <delay xmlns='urn:xmpp:delay' from='capulet.com' stamp='2002-09-10T23:08:25Z'>Offline Storage</delay></message>";
        assert_eq!(from_xmpp(&mut Stanza::read(&xml.parse().unwrap())), Some(Timestamp(1_031_699_305_000)));
    }

    /// XEP-0313 section 4.2 and 4.3, the first result and the end.
    #[test]
    fn results_of_an_archive() {
        let xml = "<message xmlns='jabber:client' id='aeb213' to='juliet@capulet.lit/chamber'>\
                   <result xmlns='urn:xmpp:mam:2' queryid='f27' id='28482-98726-73623'><forwarded xmlns='urn:xmpp:forward:0'>\
                   <delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:25Z'/><message xmlns='jabber:client' from='witch@shakespeare.lit'>\
                   <body>Hail to thee</body></message></forwarded></result></message>";
        let result = take_result(&mut Stanza::read(&xml.parse().unwrap())).unwrap();
        assert_eq!(
            (result.query.as_str(), result.id.as_str(), result.at),
            ("f27", "28482-98726-73623", Timestamp(1_278_803_305_000))
        );
        let end: Element = "<iq xmlns='jabber:client' type='result'><fin xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'>\
                            <first index='0'>a</first><last>09af3-cc343-b409f</last></set></fin></iq>".parse().unwrap();
        assert_eq!(read_end(&end), End { complete: false, last: Some("09af3-cc343-b409f".to_owned()) });
        let odd: Element = "<iq xmlns='jabber:client' type='result'><fin xmlns='urn:xmpp:mam:2' complete='true'/></iq>"
            .parse()
            .unwrap();
        assert_eq!(read_end(&odd), End { complete: true, last: None });
    }

    /// XEP-0136 section 5.1: times add up, or are told.
    #[test]
    fn recent_messages_of_a_conversation() {
        let xml = "<iq xmlns='jabber:client' type='result'><chat xmlns='urn:xmpp:archive' with='j@c.lit' start='1469-07-21T02:56:15Z'>\
                   <from secs='0'><body>Art thou not Romeo?</body></from><to secs='11'><body>Neither, fair saint</body></to>\
                   <from secs='7'><body>How cam'st thou hither</body></from><note>no message</note>\
                   <to utc='2012-04-01T00:00:00Z'><body>/me bows</body></to></chat></iq>";
        let recent = read_recent(&xml.parse().unwrap());
        let start = Timestamp::parse("1469-07-21T02:56:15Z").unwrap().0;
        assert_eq!(
            recent.iter().map(|m| (m.own, m.at.0)).collect::<Vec<_>>(),
            [(false, start), (true, start + 11_000), (false, start + 18_000), (true, 1_333_238_400_000)]
        );
        assert!(recent[3].message.emote);
        assert!(read_recent(&"<iq xmlns='jabber:client' type='result'/>".parse().unwrap()).is_empty());
    }
}
