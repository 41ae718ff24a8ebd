//! Favourites: the room tag `m.favourite` <-> XEP-0469 `<pinned/>`.

use minidom::Element;
use serde_json::{Value, value::RawValue};

use super::stanza::element;

/// XEP-0469.
pub const NS: &str = "urn:xmpp:bookmarks-pinning:0";
/// The account data that holds a room's tags (Matrix CS API, "Room Tagging").
pub const TAGS: &str = "m.tag";
/// The tag.
pub const TAG: &str = "m.favourite";

/// Is the chat pinned, by the element that stands for it?
pub fn from_xmpp(chat: &Element) -> bool {
    chat.has_child("pinned", NS)
}

/// What a pinned chat holds (XEP-0469 section 3).
pub fn to_xmpp() -> Element {
    element("pinned", NS)
}

/// Is the room a favourite, by all of its tags? `None`: they cannot be read.
pub fn from_matrix(tags: &RawValue) -> Option<bool> {
    let content: Value = serde_json::from_str(tags.get()).ok()?;
    match content.as_object()?.get("tags") {
        None => Some(false),
        Some(tags) => Some(tags.as_object()?.contains_key(TAG)),
    }
}

/// The content of the tag; `None` takes it off.
pub fn to_matrix(pinned: bool) -> Option<String> {
    pinned.then(|| "{}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XEP-0469 section 3, "Client adds a new bookmark": the extensions of a pinned bookmark.
    #[test]
    fn a_pinned_chat_is_known() {
        let extensions: Element =
            "<extensions xmlns='urn:xmpp:bookmarks:1'><pinned xmlns='urn:xmpp:bookmarks-pinning:0'/></extensions>"
                .parse()
                .unwrap();
        assert!(from_xmpp(&extensions));
        assert!(!from_xmpp(&"<extensions xmlns='urn:xmpp:bookmarks:1'><pinned/></extensions>".parse().unwrap()));
        assert_eq!(to_xmpp(), *extensions.get_child("pinned", NS).unwrap());
    }

    /// Matrix CS API, "Room Tagging", `m.tag`.
    #[test]
    fn tags_are_read() {
        let read = |text: &str| from_matrix(&RawValue::from_string(text.to_owned()).unwrap());
        assert_eq!(read(r#"{"tags":{"u.work":{"order":0.9}}}"#), Some(false));
        assert_eq!(read(r#"{"tags":{"m.favourite":{"order":0.1},"u.work":{}}}"#), Some(true));
        assert_eq!(read("{}"), Some(false));
        assert_eq!(read(r#"{"tags":["m.favourite"]}"#), None);
        assert_eq!((to_matrix(true).as_deref(), to_matrix(false)), (Some("{}"), None));
    }
}
