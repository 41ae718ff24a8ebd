//! Edits: `m.replace` <-> last message correction (XEP-0308). Every message may be edited, any number of times; each edit
//! names the message as it was first sent.

use minidom::Element;
use ruma::OwnedEventId;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::stanza::{Stanza, element, set};

/// XEP-0308.
pub const NS: &str = "urn:xmpp:message-correct:0";

/// Takes out which message is edited: its id.
pub fn from_xmpp(stanza: &mut Stanza) -> Option<String> {
    let replace = stanza.take("replace", NS)?;
    replace.attr("id").filter(|id| !id.is_empty()).map(str::to_owned)
}

/// The payload that says which message the stanza replaces.
pub fn to_xmpp(id: &str) -> Element {
    let mut replace = element("replace", NS);
    set(&mut replace, "id", id);
    replace
}

/// Which event a Matrix message replaces, and with what content (Matrix CS API, "Event replacements").
pub fn from_matrix(content: &RawValue) -> Option<(OwnedEventId, Box<RawValue>)> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.relates_to")]
        relates: Relates,
        #[serde(rename = "m.new_content")]
        new: Box<RawValue>,
    }
    #[derive(Deserialize)]
    struct Relates {
        rel_type: String,
        event_id: OwnedEventId,
    }
    let content: Content = serde_json::from_str(content.get()).ok()?;
    (content.relates.rel_type == "m.replace").then_some((content.relates.event_id, content.new))
}

/// The content that replaces an event by another content.
pub fn to_matrix(content: &str, target: &OwnedEventId) -> String {
    let new: Value = serde_json::from_str(content).unwrap_or_default();
    let mut edit = new.clone();
    for key in ["body", "formatted_body"] {
        if let Some(text) = new[key].as_str() {
            edit[key] = json!(format!("* {text}"));
        }
    }
    edit["m.new_content"] = new;
    edit["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": target });
    edit.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XEP-0308 section 3, example 3.
    #[test]
    fn an_edit_names_the_message_as_it_was_first() {
        let xml = "<message xmlns='jabber:client' to='juliet@capulet.net/balcony' id='good1'>\
                   <body>But soft, what light through yonder window breaks?</body>\
                   <replace id='bad1' xmlns='urn:xmpp:message-correct:0'/></message>";
        let mut stanza = Stanza::read(&xml.parse().unwrap());
        assert_eq!(from_xmpp(&mut stanza).as_deref(), Some("bad1"));
        let mut back = Stanza::read(&"<message xmlns='jabber:client'/>".parse().unwrap());
        back.put_back(vec![to_xmpp("bad1")]);
        assert_eq!(from_xmpp(&mut back).as_deref(), Some("bad1"));
    }

    /// Matrix CS API, "Event replacements", the example.
    #[test]
    fn a_matrix_edit_goes_round() {
        let target = OwnedEventId::try_from("$some_event_id").unwrap();
        let edit = to_matrix(r#"{"body":"Hello! My name is bar","msgtype":"m.text"}"#, &target);
        let raw = RawValue::from_string(edit.clone()).unwrap();
        let (event, new) = from_matrix(&raw).unwrap();
        assert_eq!((event, new.get()), (target, r#"{"body":"Hello! My name is bar","msgtype":"m.text"}"#));
        assert!(edit.contains("* Hello! My name is bar"));
        let plain = RawValue::from_string(r#"{"body":"x","msgtype":"m.text"}"#.to_owned()).unwrap();
        assert!(from_matrix(&plain).is_none());
    }
}
