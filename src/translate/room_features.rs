//! What can be said in a room: `com.beeper.room_features` (bridgev2's `event/capabilities.go`) -> what the network, the account's
//! server and the contact's apps can do. Clients hide what is of no use there.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::domain::feature::{Feature, Features};

/// The event type. Its state key is that of `m.bridge`.
pub const KIND: &str = "com.beeper.room_features";

/// It is refused, with a sentence.
const REJECTED: i8 = -2;
/// It crosses in another form, such as words.
const PARTIAL: i8 = 1;
/// It crosses as it is.
const FULL: i8 = 2;

/// Kinds of files, as [`KIND`] names them.
const FILES: [&str; 6] = ["m.image", "m.video", "m.audio", "m.file", "m.sticker", "org.matrix.msc3245.voice"];
/// Form that message styling (XEP-0393) has a mark for.
const STYLED: [&str; 6] = ["bold", "italic", "strikethrough", "inline_code", "code_block", "blockquote"];
/// Form that becomes words or lines.
const REWORDED: [&str; 12] = [
    "inline_link",
    "user_link",
    "room_link",
    "event_link",
    "unordered_list",
    "ordered_list",
    "ordered_list.start",
    "headers",
    "horizontal_line",
    "spoiler",
    "spoiler.reason",
    "table",
];

/// What is known of a chat's other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The network lets stanzas carry more than a text.
    pub extensible: bool,
    /// What the contact's apps can do.
    pub features: Features,
    /// The largest file that goes there, in bytes; `None`: none does.
    pub largest_file: Option<u64>,
}

/// The content, and its id: a hash over the rest of it, as in bridgev2.
pub fn to_matrix(known: &Known) -> (String, String) {
    let Known { extensible, features, largest_file } = *known;
    let level = |feature| if extensible && features.has(feature) { FULL } else { PARTIAL };
    let styled = if extensible { FULL } else { PARTIAL };
    let formatting: Map<String, Value> =
        STYLED.map(|form| (form, styled)).into_iter().chain(REWORDED.map(|form| (form, PARTIAL))).map(entry).collect();
    let file = match largest_file {
        // What is said to it comes after it, as a message of its own.
        Some(most) => json!({ "mime_types": { "*/*": FULL }, "caption": PARTIAL, "max_size": most }),
        None => json!({ "mime_types": { "*/*": REJECTED } }),
    };
    let mut content = json!({
        "formatting": formatting,
        "file": FILES.iter().map(|kind| ((*kind).to_owned(), file.clone())).collect::<Map<_, _>>(),
        "location_message": PARTIAL,
        "reply": level(Feature::Replies),
        "edit": level(Feature::Edits),
        "reaction": level(Feature::Reactions),
        "read_receipts": extensible,
        "typing_notifications": true,
        // A chat is one's own and the contact's.
        "member_actions": { "ban": REJECTED, "invite": REJECTED, "kick": REJECTED, "revoke_invite": REJECTED },
    });
    if extensible && features.has(Feature::Retractions) {
        content["delete"] = FULL.into();
    }
    let id = URL_SAFE_NO_PAD.encode(Sha256::digest(content.to_string()));
    content["id"] = id.as_str().into();
    (id, content.to_string())
}

fn entry((name, level): (&str, i8)) -> (String, Value) {
    (name.to_owned(), level.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(known: &Known) -> Value {
        let (id, content) = to_matrix(known);
        let content: Value = serde_json::from_str(&content).unwrap();
        assert_eq!(content["id"], id.as_str());
        content
    }

    #[test]
    fn a_contact_whose_app_knows_all_gets_all_and_another_gets_words() {
        let features = [Feature::Replies, Feature::Edits, Feature::Reactions, Feature::Retractions];
        let features = features.into_iter().fold(Features::default(), Features::with);
        let all = of(&Known { extensible: true, features, largest_file: Some(1000) });
        for (key, level) in [("reply", 2), ("edit", 2), ("reaction", 2), ("delete", 2)] {
            assert_eq!(all[key], level, "{key}");
        }
        assert_eq!(all["file"]["m.image"], json!({ "mime_types": { "*/*": 2 }, "caption": 1, "max_size": 1000 }));
        assert_eq!((&all["formatting"]["bold"], &all["formatting"]["table"]), (&json!(2), &json!(1)));
        let none = of(&Known { extensible: true, features: Features::default(), largest_file: Some(1000) });
        assert_eq!((&none["reply"], &none["delete"]), (&json!(1), &Value::Null));
        assert_ne!(all["id"], none["id"]);
    }

    #[test]
    fn a_network_of_texts_alone_takes_no_files_and_knows_no_receipts() {
        let content = of(&Known { extensible: false, features: Features::ALL, largest_file: None });
        assert_eq!(content["file"]["m.file"], json!({ "mime_types": { "*/*": -2 } }));
        assert_eq!((&content["read_receipts"], &content["reaction"]), (&json!(false), &json!(1)));
    }
}
