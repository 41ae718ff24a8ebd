//! Encrypted messages that the bridge cannot read: a notice that says what it is and what to do (XEP-0380).

use serde_json::json;

use super::stanza::Stanza;
use crate::domain::effect::MatrixEvent;

/// XEP-0380.
const NS: &str = "urn:xmpp:eme:0";
/// What encrypted payloads are known by where no hint says it: namespace and name.
const KNOWN: [(&str, &str, &str); 5] = [
    ("encrypted", "eu.siacs.conversations.axolotl", "OMEMO"),
    ("encrypted", "urn:xmpp:omemo:2", "OMEMO"),
    ("openpgp", "urn:xmpp:openpgp:0", "OpenPGP"),
    ("x", "jabber:x:encrypted", "OpenPGP"),
    ("e2e", "urn:ietf:params:xml:ns:xmpp-e2e", "S/MIME"),
];
/// Longest name of a method that is shown, in characters.
const LONGEST: usize = 40;

/// Takes out what says that the message is encrypted: the method's name. The body beside it is the sender's fallback.
pub fn from_xmpp(stanza: &mut Stanza) -> Option<String> {
    let hint = stanza.take("encryption", NS);
    let found = KNOWN.iter().find(|(name, namespace, _)| stanza.take(name, namespace).is_some());
    let hint = hint.map(|hint| {
        let namespace = hint.attr("namespace").unwrap_or_default();
        let known = KNOWN.iter().find(|(_, known, _)| *known == namespace).map(|(_, _, name)| (*name).to_owned());
        known.or(hint.attr("name").map(str::to_owned)).unwrap_or_else(|| namespace.to_owned())
    });
    let method = hint.or(found.map(|(_, _, name)| (*name).to_owned()))?;
    Some(method.chars().filter(|c| !c.is_control()).take(LONGEST).collect())
}

/// The notice in the room, with the sender's own fallback text where there is one.
pub fn to_matrix(method: &str, fallback: Option<&str>) -> MatrixEvent {
    let mut text = format!(
        "\u{1f512} This message is encrypted with {method}, which this bridge cannot read. Ask the sender to turn encryption off in this chat, or read it in an app that has the key."
    );
    if let Some(fallback) = fallback {
        text.push_str("\nTheir app says: ");
        text.push_str(fallback);
    }
    let content = json!({ "msgtype": "m.notice", "body": text, "m.mentions": {} });
    MatrixEvent { kind: "m.room.message".to_owned(), content: content.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inner: &str) -> Option<String> {
        from_xmpp(&mut Stanza::read(&format!("<message xmlns='jabber:client'>{inner}</message>").parse().unwrap()))
    }

    /// XEP-0380 section 3, examples.
    #[test]
    fn the_method_is_named() {
        let otr = "<encryption xmlns='urn:xmpp:eme:0' namespace='urn:xmpp:otr:0'/><body>?OTRv23?</body>";
        assert_eq!(read(otr).as_deref(), Some("urn:xmpp:otr:0"));
        let named = "<encryption xmlns='urn:xmpp:eme:0' name='Something new' namespace='urn:new'/>";
        assert_eq!(read(named).as_deref(), Some("Something new"));
        let omemo = "<encrypted xmlns='eu.siacs.conversations.axolotl'/><encryption xmlns='urn:xmpp:eme:0' namespace='eu.siacs.conversations.axolotl' name='x'/>";
        assert_eq!(read(omemo).as_deref(), Some("OMEMO"));
        assert_eq!(read("<encrypted xmlns='urn:xmpp:omemo:2'/>").as_deref(), Some("OMEMO"));
        assert_eq!(read("<body>plain</body>"), None);
        assert!(to_matrix("OMEMO", Some("no key")).content.contains("no key"));
    }
}
