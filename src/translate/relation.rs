//! What an event refers to: `m.relates_to`, once the event that it refers to is known.

use ruma::OwnedEventId;
use serde_json::{Value, json};

use super::{edit, reaction};
use crate::domain::effect::{About, MatrixEvent, Relation};

/// The event with what it refers to. Where that is not known, an answer or an edit is shown for itself, and a reaction is
/// nothing (`None`).
pub fn to_matrix(event: &MatrixEvent, about: &About, target: Option<&OwnedEventId>) -> Option<MatrixEvent> {
    let content = match (&about.relation, target) {
        (Relation::Reply, Some(target)) => {
            let mut content: Value = serde_json::from_str(&event.content).unwrap_or_default();
            content["m.relates_to"] = json!({ "m.in_reply_to": { "event_id": target } });
            content.to_string()
        }
        (Relation::Replace, Some(target)) => edit::to_matrix(&event.content, target),
        (Relation::Reply | Relation::Replace, None) => event.content.clone(),
        (Relation::Reaction(key), Some(target)) => reaction::to_matrix(target, key),
        (Relation::Reaction(_), None) => return None,
    };
    Some(MatrixEvent { kind: event.kind.clone(), content })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_refers_to_something_unknown_is_shown_for_itself_or_not_at_all() {
        let event = MatrixEvent { kind: "m.room.message".to_owned(), content: r#"{"body":"x"}"#.to_owned() };
        let about = |relation| About { name: "c:1".to_owned(), relation };
        let target = OwnedEventId::try_from("$t").unwrap();
        for relation in [Relation::Reply, Relation::Replace] {
            assert_eq!(to_matrix(&event, &about(relation.clone()), None).unwrap(), event);
            assert!(to_matrix(&event, &about(relation), Some(&target)).unwrap().content.contains("$t"));
        }
        let reaction = about(Relation::Reaction("👍".to_owned()));
        assert_eq!(to_matrix(&event, &reaction, None), None);
        assert!(to_matrix(&event, &reaction, Some(&target)).unwrap().content.contains("m.annotation"));
    }
}
