//! Where files are put: XEP-0363, found by XEP-0030.

use minidom::Element;

use super::{
    discovery::{INFO, has_feature},
    stanza::{CLIENT, STANZAS, element, set},
};
use crate::domain::file::Slot;

/// XEP-0363.
pub const NS: &str = "urn:xmpp:http:upload:0";
const ITEMS: &str = xmpp_parsers::ns::DISCO_ITEMS;
const DATA: &str = xmpp_parsers::ns::DATA_FORMS;

/// Most services of a server that are asked whether they take files.
const MOST_SERVICES: usize = 20;
/// Longest address and header, in bytes.
const LONGEST: usize = 8192;

/// Asks what services a server has.
pub fn ask_services() -> Element {
    element("query", ITEMS)
}

/// The addresses of a server's services.
pub fn read_services(answer: &Element) -> Vec<String> {
    let items = answer.get_child("query", ITEMS).into_iter().flat_map(Element::children);
    let own = items.filter(|item| item.is("item", ITEMS) && item.attr("node").is_none());
    own.filter_map(|item| item.attr("jid")).take(MOST_SERVICES).map(str::to_owned).collect()
}

/// What a service says of itself: `Some` if it takes files, with the largest that it takes where it says so (XEP-0363 section 4).
pub fn read_service(answer: &Element) -> Option<Option<u64>> {
    has_feature(answer, NS).then(|| {
        let forms = answer.get_child("query", INFO).into_iter().flat_map(Element::children);
        let form =
            forms.filter(|form| form.is("x", DATA)).find(|form| value(form, "FORM_TYPE").as_deref() == Some(NS))?;
        value(form, "max-file-size")?.trim().parse().ok()
    })
}

fn value(form: &Element, name: &str) -> Option<String> {
    let field = form.children().find(|field| field.is("field", DATA) && field.attr("var") == Some(name))?;
    field.get_child("value", DATA).map(Element::text)
}

/// Asks for a slot.
pub fn ask_slot(name: &str, size: u64, mime: &str) -> Element {
    let mut request = element("request", NS);
    set(&mut request, "filename", name);
    set(&mut request, "size", size.to_string());
    set(&mut request, "content-type", mime);
    request
}

/// Reads the slot out of an answer. Of headers only those that XEP-0363 section 4 allows are taken, without line breaks.
pub fn read_slot(answer: &Element) -> Option<Slot> {
    let slot = answer.get_child("slot", NS)?;
    let url = |name: &str| {
        let url = slot.get_child(name, NS)?.attr("url")?;
        (url.len() <= LONGEST && url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")))
            .then(|| url.to_owned())
    };
    let (put, get) = (url("put")?, url("get")?);
    let mut headers: Vec<(String, String)> = Vec::new();
    for header in slot.get_child("put", NS)?.children().filter(|header| header.is("header", NS)) {
        let name = header.attr("name").unwrap_or_default().replace(['\r', '\n'], "");
        let known = ["Authorization", "Cookie", "Expires"].into_iter().find(|known| known.eq_ignore_ascii_case(&name));
        let value = header.text().replace(['\r', '\n'], "");
        if let Some(known) =
            known.filter(|known| value.len() <= LONGEST && headers.iter().all(|(name, _)| name != known))
        {
            headers.push((known.to_owned(), value));
        }
    }
    Some(Slot { put, headers, get })
}

/// Why there is no slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSlot {
    /// The file is too large; the most that is taken, where it says so.
    TooLarge(Option<u64>),
    /// Not now.
    Later,
    /// For good, in the server's words where it has some.
    Refused(Option<String>),
}

/// Reads why there is no slot out of an error.
pub fn read_refusal(answer: &Element) -> NoSlot {
    let Some(error) = answer.get_child("error", CLIENT) else { return NoSlot::Refused(None) };
    if let Some(large) = error.get_child("file-too-large", NS) {
        let most = large.get_child("max-file-size", NS).and_then(|most| most.text().trim().parse().ok());
        return NoSlot::TooLarge(most);
    }
    if error.attr("type") == Some("wait") {
        return NoSlot::Later;
    }
    let text = error.get_child("text", STANZAS).map(|text| text.text().trim().chars().take(200).collect::<String>());
    NoSlot::Refused(text.filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::stanza::to_xml;

    fn iq(inner: &str) -> Element {
        format!("<iq xmlns='jabber:client' type='result'>{inner}</iq>").parse().unwrap()
    }

    /// XEP-0363 section 4, examples 2 to 5.
    #[test]
    fn a_service_and_its_limit_are_found() {
        let items = iq(
            "<query xmlns='http://jabber.org/protocol/disco#items'><item jid='upload.montague.tld' name='HTTP File Upload'/>\
                        <item jid='montague.tld' node='x'/></query>",
        );
        assert_eq!(read_services(&items), ["upload.montague.tld"]);
        let info = iq(
            "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='store' type='file' name='HTTP File Upload'/>\
             <feature var='urn:xmpp:http:upload:0'/><x type='result' xmlns='jabber:x:data'>\
             <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:http:upload:0</value></field>\
             <field var='max-file-size'><value>5242880</value></field></x></query>",
        );
        assert_eq!(read_service(&info), Some(Some(5_242_880)));
        let other =
            iq("<query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:xmpp:http:upload:0'/></query>");
        assert_eq!(read_service(&other), Some(None));
        assert_eq!(read_service(&iq("<query xmlns='http://jabber.org/protocol/disco#info'/>")), None);
    }

    /// XEP-0363 section 5, examples 6 and 7.
    #[test]
    fn a_slot_is_asked_for_and_read() {
        let asked = to_xml(&ask_slot("très cool.jpg", 23_456, "image/jpeg")).unwrap();
        for part in ["filename=\"très cool.jpg\"", "size=\"23456\"", "content-type=\"image/jpeg\""] {
            assert!(asked.replace('\'', "\"").contains(part), "{asked}");
        }
        let slot = iq(
            "<slot xmlns='urn:xmpp:http:upload:0'><put url='https://upload.montague.tld/4a77/tr%C3%A8s%20cool.jpg'>\
             <header name='Authorization'>Basic Base64String==</header><header name='COOKIE'>foo=bar;\r\nuser=romeo</header>\
             <header name='Host'>evil</header><header name='Expires'>a</header><header name='expires'>b</header></put>\
             <get url='https://download.montague.tld/4a77/tr%C3%A8s%20cool.jpg'/></slot>",
        );
        let slot = read_slot(&slot).unwrap();
        assert!(slot.put.starts_with("https://upload.") && slot.get.starts_with("https://download."));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let wanted =
            [pair("Authorization", "Basic Base64String=="), pair("Cookie", "foo=bar;user=romeo"), pair("Expires", "a")];
        assert_eq!(slot.headers, wanted);
        for broken in [
            "<slot xmlns='urn:xmpp:http:upload:0'><put url='https://a/'/></slot>",
            "<slot xmlns='urn:xmpp:http:upload:0'><put url='file:///etc/passwd'/><get url='https://a/'/></slot>",
            "",
        ] {
            assert_eq!(read_slot(&iq(broken)), None, "{broken}");
        }
    }

    /// XEP-0363 section 5, examples 8 to 10.
    #[test]
    fn refusals_are_told_apart() {
        let error = |kind: &str, inner: &str| iq(&format!("<error type='{kind}'>{inner}</error>"));
        let large = "<not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><file-too-large xmlns='urn:xmpp:http:upload:0'>\
                     <max-file-size>20000</max-file-size></file-too-large>";
        assert_eq!(read_refusal(&error("modify", large)), NoSlot::TooLarge(Some(20_000)));
        let quota = "<resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><retry xmlns='urn:xmpp:http:upload:0' stamp='2017-12-03T23:42:05Z'/>";
        assert_eq!(read_refusal(&error("wait", quota)), NoSlot::Later);
        let no = "<not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>Only users of this server</text>";
        assert_eq!(read_refusal(&error("cancel", no)), NoSlot::Refused(Some("Only users of this server".to_owned())));
    }
}
