//! What a message stanza says: the table of the concepts that a message can carry, each in its own file. A stanza says one of
//! these; what belongs to none is left over and counted.

use super::{
    attention,
    bits::{Bits, Picture},
    edit, encrypted,
    file::{self, Shared},
    location::{self, Place},
    message,
    message::Message,
    reaction::{self, Reactions},
    reply, retraction,
    stanza::Stanza,
};
use crate::domain::Address;

/// What a message stanza says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Something new, perhaps in answer to the message with this id.
    Message {
        /// What.
        message: Message,
        /// To what.
        answers: Option<String>,
    },
    /// Files, at least one, perhaps in answer to the message with this id.
    Files {
        /// Which, in order.
        files: Vec<Shared>,
        /// To what.
        answers: Option<String>,
    },
    /// A text with pictures in it, perhaps in answer to the message with this id.
    Pictures {
        /// The text, with the pictures' words in their places. `None`: there is none, or none beside those words.
        text: Option<Message>,
        /// Which, in order; at least one.
        pictures: Vec<Picture>,
        /// To what.
        answers: Option<String>,
    },
    /// What the message with this id should have said.
    Edit {
        /// Which.
        id: String,
        /// What.
        message: Message,
    },
    /// The message with this id is taken back.
    Retraction {
        /// Which.
        id: String,
    },
    /// Reactions to a message.
    Reactions(Reactions),
    /// A wish for attention.
    Nudge,
    /// A place.
    Place(Place),
    /// Something that cannot be read here.
    Encrypted {
        /// How it is encrypted.
        method: String,
        /// What the sender's client says to those who cannot read it.
        fallback: Option<String>,
    },
}

impl Content {
    /// Takes out what the stanza says. `None` if it says nothing.
    pub fn take(stanza: &mut Stanza) -> Option<Self> {
        if let Some(method) = encrypted::from_xmpp(stanza) {
            let fallback = message::from_xmpp(stanza).map(|message| message.text);
            return Some(Self::Encrypted { method, fallback });
        }
        if let Some(id) = retraction::from_xmpp(stanza) {
            return Some(Self::Retraction { id });
        }
        if let Some(reactions) = reaction::from_xmpp(stanza) {
            return Some(Self::Reactions(reactions));
        }
        if attention::from_xmpp(stanza) && !stanza.has("body", super::stanza::CLIENT) {
            return Some(Self::Nudge);
        }
        if let Some(place) = location::from_xmpp(stanza) {
            return Some(Self::Place(place));
        }
        let (replaces, answers) = (edit::from_xmpp(stanza), reply::from_xmpp(stanza));
        let mut bits = Bits::take(stanza);
        let message = message::take(stanza, answers.is_some());
        if replaces.is_none() {
            let files = file::from_xmpp(stanza, message.as_ref().map(|message| message.text.as_str()), &mut bits);
            if !files.is_empty() {
                return Some(Self::Files { files, answers });
            }
            let alone = bits.alone;
            let from = stanza.from.as_ref().filter(|from| from.resource.is_some()).map(Address::to_text);
            let pictures = bits.pictures(from.as_deref());
            if !pictures.is_empty() {
                return Some(Self::Pictures { text: message.filter(|_| !alone), pictures, answers });
            }
        }
        let message = message?;
        if file::is_encrypted_link(&message.text) {
            return Some(Self::Encrypted { method: "OMEMO (a file, XEP-0454)".to_owned(), fallback: None });
        }
        Some(match replaces {
            Some(id) => Self::Edit { id, message },
            None => Self::Message { message, answers },
        })
    }

    /// What tells it from another of the same sender with the same id.
    pub fn text(&self) -> String {
        match self {
            Self::Message { message, .. } => message.text.clone(),
            Self::Files { files, .. } => {
                let said = |file: &Shared| format!(" {} {}", file.url, file.caption.as_deref().unwrap_or_default());
                format!("\u{0}file{}", files.iter().map(said).collect::<String>())
            }
            Self::Pictures { text: Some(message), .. } => message.text.clone(),
            Self::Pictures { text: None, pictures, .. } => {
                let cids: Vec<&str> = pictures.iter().map(|picture| picture.cid.as_str()).collect();
                format!("\u{0}pictures {}", cids.join(" "))
            }
            Self::Edit { id, message } => format!("\u{0}edit {id} {}", message.text),
            Self::Retraction { id } => format!("\u{0}retraction {id}"),
            Self::Reactions(reactions) => format!("\u{0}reactions {reactions:?}"),
            Self::Place(place) => place.uri.clone(),
            Self::Nudge => "\u{0}nudge".to_owned(),
            Self::Encrypted { method, .. } => format!("\u{0}encrypted {method}"),
        }
    }

    /// Can it open a chat? What only changes what was said cannot.
    pub fn opens_chat(&self) -> bool {
        !matches!(self, Self::Retraction { .. } | Self::Reactions(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(inner: &str) -> Option<Content> {
        Content::take(&mut Stanza::read(&format!("<message xmlns='jabber:client'>{inner}</message>").parse().unwrap()))
    }

    fn message(text: &str) -> Message {
        Message::plain(text)
    }

    #[test]
    fn each_concept_is_found_and_a_body_that_stands_for_it_is_not_shown() {
        assert_eq!(take("<body>hi</body>"), Some(Content::Message { message: message("hi"), answers: None }));
        assert_eq!(
            take("<body>hi</body><replace xmlns='urn:xmpp:message-correct:0' id='a'/>"),
            Some(Content::Edit { id: "a".to_owned(), message: message("hi") })
        );
        let retract = "<body>x</body><retract xmlns='urn:xmpp:message-retract:1' id='a'/>";
        assert_eq!(take(retract), Some(Content::Retraction { id: "a".to_owned() }));
        let reacts = "<body>x</body><reactions xmlns='urn:xmpp:reactions:0' id='a'/>";
        assert!(matches!(take(reacts), Some(Content::Reactions(_))));
        assert_eq!(take("<attention xmlns='urn:xmpp:attention:0'/>"), Some(Content::Nudge));
        let reply = "<body>&gt; a\nb</body><reply xmlns='urn:xmpp:reply:0' id='m'/><fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='0' end='4'/></fallback>";
        assert_eq!(take(reply), Some(Content::Message { message: message("b"), answers: Some("m".to_owned()) }));
        let oob = "<body>https://h/a.png</body><x xmlns='jabber:x:oob'><url>https://h/a.png</url></x>";
        assert!(matches!(take(oob), Some(Content::Files { .. })));
        let picture = "<body>:x:</body><html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'>\
                       <img alt=':x:' src='cid:a'/></body></html>";
        assert!(matches!(take(picture), Some(Content::Pictures { text: None, .. })));
        let changed = format!("{picture}<replace xmlns='urn:xmpp:message-correct:0' id='a'/>");
        assert!(matches!(take(&changed), Some(Content::Edit { .. })), "its words stand for it");
        assert!(matches!(take("<body>aesgcm://h/a.png#00</body>"), Some(Content::Encrypted { .. })));
        assert_eq!(take("<active xmlns='http://jabber.org/protocol/chatstates'/>"), None);
    }

    #[test]
    fn one_that_names_nothing_loses_nothing() {
        for payload in
            ["<replace xmlns='urn:xmpp:message-correct:0'/>", "<retract xmlns='urn:xmpp:message-retract:1'/>"]
        {
            let content = take(&format!("<body>hi</body>{payload}"));
            assert_eq!(content, Some(Content::Message { message: message("hi"), answers: None }), "{payload}");
        }
    }
}
