//! What we are and can do, and what others can: XEP-0030, XEP-0115, and the small questions that clients ask each other
//! (XEP-0092 version, XEP-0199 ping, XEP-0202 time).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidom::Element;
use sha1::{Digest, Sha1};

use super::stanza::{STANZAS, Stanza, element, set, text_element};
use crate::domain::{
    Timestamp,
    feature::{Feature, Features},
};

/// XEP-0030.
pub const INFO: &str = xmpp_parsers::ns::DISCO_INFO;
const ITEMS: &str = xmpp_parsers::ns::DISCO_ITEMS;
/// XEP-0115.
pub const CAPS: &str = xmpp_parsers::ns::CAPS;
/// XEP-0199.
pub const PING: &str = xmpp_parsers::ns::PING;
const VERSION: &str = xmpp_parsers::ns::VERSION;
const TIME: &str = xmpp_parsers::ns::TIME;
/// XEP-0004.
const FORMS: &str = xmpp_parsers::ns::DATA_FORMS;
/// What we call ourselves (XEP-0115 `node`).
const NODE: &str = "https://github.com/messenger-bridge/messenger-bridge";
const NAME: &str = "messenger-bridge";

/// What we do, sorted as XEP-0115 section 5.1 wants it (by bytes).
const FEATURES: [&str; 27] = [
    CAPS,
    super::chat_state::NS,
    INFO,
    ITEMS,
    VERSION,
    super::subscription::NICK,
    PING,
    TIME,
    super::edit::NS,
    super::retraction::NS,
    super::reaction::NS,
    super::reply::NS,
    super::receipt::NS,
    super::receipt::MARKERS,
    super::attention::NS,
    super::fallback::NS,
    super::styling::NS,
    super::xhtml::NS,
    super::file::OOB,
    super::file::SHARING,
    super::file::SIMS,
    super::bits::NS,
    super::chats::NOTIFY,
    super::avatar::NOTIFY,
    super::nickname::NOTIFY,
    super::disappearing::NS,
    super::displayed::NOTIFY,
];

/// The `ver` of XEP-0115 section 5.1: base64 of the SHA-1 of identity and features.
fn verification() -> String {
    let mut features = FEATURES;
    features.sort_unstable();
    let mut text = format!("client/bot//{NAME}<");
    for feature in features {
        text.push_str(feature);
        text.push('<');
    }
    STANDARD.encode(Sha1::digest(text))
}

/// The element that presence carries.
pub fn caps() -> Element {
    let mut caps = element("c", CAPS);
    set(&mut caps, "hash", "sha-1");
    set(&mut caps, "node", NODE);
    set(&mut caps, "ver", verification());
    caps
}

/// Takes another client's capabilities out of presence, as `node#ver`.
pub fn take_caps(stanza: &mut Stanza) -> Option<String> {
    let caps = stanza.take("c", CAPS)?;
    let (node, ver) = (caps.attr("node")?, caps.attr("ver")?);
    (node.len() + ver.len() <= 512 && !ver.is_empty()).then(|| format!("{node}#{ver}"))
}

/// Asks what an entity can do, of these capabilities where given.
pub fn ask(node: Option<&str>) -> Element {
    let mut query = element("query", INFO);
    if let Some(node) = node {
        set(&mut query, "node", node);
    }
    query
}

/// Does the answer name this feature?
pub fn has_feature(answer: &Element, feature: &str) -> bool {
    answer.get_child("query", INFO).is_some_and(|query| {
        query.children().any(|child| child.is("feature", INFO) && child.attr("var") == Some(feature))
    })
}

/// What the answer says that the client can do, as far as rules ask.
pub fn features(answer: &Element) -> Features {
    const KNOWN: [(&str, Feature); 9] = [
        (super::edit::NS, Feature::Edits),
        (super::retraction::NS, Feature::Retractions),
        (super::reaction::NS, Feature::Reactions),
        (super::reply::NS, Feature::Replies),
        (super::receipt::NS, Feature::Receipts),
        (super::receipt::MARKERS, Feature::Markers),
        (super::xhtml::NS, Feature::Xhtml),
        (super::attention::NS, Feature::Attention),
        (super::disappearing::NS, Feature::Ephemeral),
    ];
    let known = KNOWN.iter().filter(|(name, _)| has_feature(answer, name));
    known.fold(Features::default(), |features, (_, feature)| features.with(*feature))
}

/// Does the answer fit the capabilities `node#ver` that presence told (XEP-0115 sections 5.1 and 5.4, with SHA-1)? Only then
/// may it speak for every client with the same.
pub fn is_verified(answer: &Element, caps: &str) -> bool {
    let (Some(query), Some((_, ver))) = (answer.get_child("query", INFO), caps.rsplit_once('#')) else { return false };
    let attr = |child: &Element, name: &str| child.attr(name).unwrap_or_default().to_owned();
    let language = |child: &Element| {
        child
            .attrs()
            .iter()
            .find(|((_, name), _)| name.as_str() == "lang")
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    };
    let mut identities: Vec<String> = query
        .children()
        .filter(|child| child.is("identity", INFO))
        .map(|i| format!("{}/{}/{}/{}", attr(i, "category"), attr(i, "type"), language(i), attr(i, "name")))
        .collect();
    let mut features: Vec<String> =
        query.children().filter(|child| child.is("feature", INFO)).map(|child| attr(child, "var")).collect();
    let mut forms: Vec<(String, String)> = query.children().filter_map(form).collect();
    for sorted in [&mut identities, &mut features] {
        sorted.sort_unstable();
    }
    forms.sort_unstable();
    // An answer that says a thing twice is ill-formed (section 5.4).
    let twice = |list: &[String]| list.windows(2).any(|pair| pair[0] == pair[1]);
    if twice(&identities) || twice(&features) || forms.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return false;
    }
    let mut text: String = identities.into_iter().chain(features).map(|part| part + "<").collect();
    text.extend(forms.into_iter().map(|(_, part)| part));
    STANDARD.encode(Sha1::digest(text)) == ver
}

/// What a form adds to that text, after its `FORM_TYPE` (XEP-0115 section 5.1, XEP-0128). `None` where it has none that counts.
fn form(element: &Element) -> Option<(String, String)> {
    if !element.is("x", FORMS) {
        return None;
    }
    let mut kind = None;
    let mut fields = Vec::new();
    for field in element.children().filter(|child| child.is("field", FORMS)) {
        let mut values: Vec<String> =
            field.children().filter(|child| child.is("value", FORMS)).map(Element::text).collect();
        values.sort_unstable();
        match field.attr("var").unwrap_or_default() {
            "FORM_TYPE" if field.attr("type") == Some("hidden") => kind = values.into_iter().next(),
            "FORM_TYPE" => return None,
            var => fields.push((var.to_owned(), values)),
        }
    }
    fields.sort_unstable();
    let kind = kind?;
    let parts = fields.into_iter().flat_map(|(var, values)| std::iter::once(var).chain(values));
    let text = std::iter::once(kind.clone()).chain(parts).map(|part| part + "<").collect();
    Some((kind, text))
}

/// Our answer to a question that any client may be asked; `None` if it is not ours to answer. `now` and `version` are told
/// to whoever asks.
pub fn answer(question: &Element, now: Timestamp, version: &str) -> Option<Result<Option<Element>, &'static str>> {
    let node = question.attr("node");
    Some(Ok(match (question.name(), question.ns().as_str()) {
        ("query", INFO) => {
            if node.is_some_and(|node| node != format!("{NODE}#{}", verification())) {
                return Some(Err("item-not-found"));
            }
            let mut query = ask(node);
            let mut identity = element("identity", INFO);
            for (name, value) in [("category", "client"), ("type", "bot"), ("name", NAME)] {
                set(&mut identity, name, value);
            }
            query.append_child(identity);
            for feature in FEATURES {
                let mut child = element("feature", INFO);
                set(&mut child, "var", feature);
                query.append_child(child);
            }
            Some(query)
        }
        ("query", ITEMS) => Some(element("query", ITEMS)),
        ("ping", PING) => None,
        ("query", VERSION) => {
            let mut query = element("query", VERSION);
            query.append_child(text_element("name", VERSION, NAME));
            query.append_child(text_element("version", VERSION, version));
            Some(query)
        }
        ("time", TIME) => {
            let mut time = element("time", TIME);
            time.append_child(text_element("tzo", TIME, "+00:00"));
            time.append_child(text_element("utc", TIME, &now.to_xmpp()));
            Some(time)
        }
        _ => return None,
    }))
}

/// An error payload (RFC 6120 section 8.3).
pub fn error(condition: &str, kind: &str) -> Element {
    let mut error = element("error", super::stanza::CLIENT);
    set(&mut error, "type", kind);
    error.append_child(element(condition, STANZAS));
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_in_presence_is_that_of_the_answer() {
        let answer = answer(&ask(None), Timestamp(0), "1").unwrap().unwrap().unwrap();
        let mut features: Vec<&str> =
            answer.children().filter(|c| c.name() == "feature").filter_map(|c| c.attr("var")).collect();
        features.sort_unstable();
        let text = format!("client/bot//{NAME}<{}<", features.join("<"));
        assert_eq!(caps().attr("ver"), Some(STANDARD.encode(Sha1::digest(text)).as_str()));
    }

    /// XEP-0115 section 5.2, the simple generation example.
    #[test]
    fn capabilities_are_verified() {
        let xml = "<iq xmlns='jabber:client' type='result'><query xmlns='http://jabber.org/protocol/disco#info'>\
                   <identity category='client' name='Exodus 0.9.1' type='pc'/><feature var='http://jabber.org/protocol/caps'/>\
                   <feature var='http://jabber.org/protocol/disco#info'/><feature var='http://jabber.org/protocol/disco#items'/>\
                   <feature var='http://jabber.org/protocol/muc'/></query></iq>";
        assert!(is_verified(&xml.parse().unwrap(), "http://code.google.com/p/exodus#QgayPKawpkPSDYmwT/WM94uAlu0="));
        assert!(!is_verified(&xml.parse().unwrap(), "http://code.google.com/p/exodus#AAAAPKawpkPSDYmwT/WM94uAlu0="));
    }

    /// XEP-0115 section 5.3, the complex generation example.
    #[test]
    fn capabilities_with_a_form_are_verified() {
        let answer = |form_type: &str| -> Element {
            format!(
                "<iq xmlns='jabber:client' type='result'><query xmlns='http://jabber.org/protocol/disco#info'>\
                 <identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>\
                 <identity xml:lang='el' category='client' name='Ψ 0.11' type='pc'/>\
                 <feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/>\
                 <feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/>\
                 <x xmlns='jabber:x:data' type='result'>{form_type}\
                 <field var='os'><value>Mac</value></field>\
                 <field var='ip_version' type='text-multi'><value>ipv6</value><value>ipv4</value></field>\
                 <field var='os_version'><value>10.5.1</value></field><field var='software'><value>Psi</value></field>\
                 <field var='software_version'><value>0.11</value></field></x></query></iq>"
            )
            .parse()
            .unwrap()
        };
        let caps = "http://psi-im.org#q07IKJEyjvHSyhy//CH0CxmKi8w=";
        let kind = "<field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>";
        assert!(is_verified(&answer(kind), caps));
        // A form whose type is none is not counted, so this is another answer.
        for other in ["", "<field var='FORM_TYPE'><value>urn:xmpp:dataforms:softwareinfo</value></field>"] {
            assert!(!is_verified(&answer(other), caps));
        }
    }

    /// XEP-0115 section 5.4: what is said twice makes an answer ill-formed, whatever its hash.
    #[test]
    fn an_answer_that_says_a_thing_twice_is_not_verified() {
        let xml = "<iq xmlns='jabber:client' type='result'><query xmlns='http://jabber.org/protocol/disco#info'>\
                   <identity category='client' type='pc'/><feature var='a'/><feature var='a'/></query></iq>";
        let ver = STANDARD.encode(Sha1::digest("client/pc//<a<a<"));
        assert!(!is_verified(&xml.parse().unwrap(), &format!("x#{ver}")));
    }

    /// XEP-0030 section 3.1, example 2.
    #[test]
    fn features_of_others() {
        let xml = "<iq xmlns='jabber:client' type='result'><query xmlns='http://jabber.org/protocol/disco#info'><identity category='conference'/>\
                   <feature var='http://jabber.org/protocol/muc'/></query></iq>";
        assert!(has_feature(&xml.parse().unwrap(), "http://jabber.org/protocol/muc"));
        assert!(!has_feature(&xml.parse().unwrap(), "http://jabber.org/protocol/chatstates"));
    }

    #[test]
    fn small_questions_are_answered_and_others_are_not() {
        let ask = |xml: &str| answer(&xml.parse().unwrap(), Timestamp(0), "1.2");
        assert!(matches!(ask("<ping xmlns='urn:xmpp:ping'/>"), Some(Ok(None))));
        assert!(matches!(ask("<query xmlns='jabber:iq:version'/>"), Some(Ok(Some(_)))));
        assert!(matches!(ask("<time xmlns='urn:xmpp:time'/>"), Some(Ok(Some(_)))));
        assert!(matches!(
            ask("<query xmlns='http://jabber.org/protocol/disco#info' node='other#x'/>"),
            Some(Err("item-not-found"))
        ));
        assert!(ask("<query xmlns='jabber:iq:private'/>").is_none());
    }
}
