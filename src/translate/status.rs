//! Statuses: how a Matrix message fares on its way -> `com.beeper.message_send_status`, as mautrix-go's bridgev2 sends it
//! (`event.BeeperMessageStatusEventContent`), and the notices that say the same to clients that do not know it.

use ruma::OwnedEventId;
use serde_json::{Value, json};

use super::failure;
use crate::{
    domain::{Timestamp, effect::MatrixEvent, in_words},
    store::trouble::Why,
};

/// The event type.
pub const KIND: &str = "com.beeper.message_send_status";

/// How a message fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is tried again by itself.
    Pending,
    /// It was delivered.
    Success,
    /// It was not delivered and is not tried again; the person may send it once more.
    FailRetriable,
    /// It was not delivered and will not be.
    FailPermanent,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Success => "SUCCESS",
            Self::FailRetriable => "FAIL_RETRIABLE",
            Self::FailPermanent => "FAIL_PERMANENT",
        }
    }
}

/// Why a message fares ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its kind cannot be sent.
    Unsupported,
    /// It is encrypted.
    Undecryptable,
    /// It waited too long.
    TooOld,
    /// The network did not take it.
    Network,
    /// The contact or a server does not permit it.
    NoPermission,
    /// The bridge cannot reach the network.
    Unavailable,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Unsupported => "com.beeper.unsupported_event",
            Self::Undecryptable => "com.beeper.undecryptable_event",
            Self::TooOld => "m.event_too_old",
            Self::Network => "m.foreign_network_error",
            Self::NoPermission => "m.no_permission",
            Self::Unavailable => "m.bridge_unavailable",
        }
    }
}

/// What is wrong with a message: why, a short name of the error, and a sentence for the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Why.
    pub reason: Reason,
    /// A stanza error condition, or a short name of our own.
    pub error: String,
    /// The sentence.
    pub sentence: String,
}

impl Trouble {
    /// Of a message that waits.
    pub fn waits(why: Why, sentence: String) -> Self {
        let (reason, error) = match why {
            Why::SignedOut => (Reason::Unavailable, "signed-out"),
            Why::NotConnected => (Reason::Unavailable, "not-connected"),
            Why::CatchingUp => (Reason::Unavailable, "catching-up"),
            Why::Unconfirmed => (Reason::Network, "unconfirmed"),
        };
        Self { reason, error: error.to_owned(), sentence }
    }
}

/// "Your message has", "Your 3 messages have".
fn yours(count: u32, one: &str, more: &str) -> String {
    if count == 1 { format!("Your message {one}") } else { format!("Your {count} messages {more}") }
}

/// `count` messages wait, at most until `until`; `because` is a part of a sentence.
pub fn waiting(count: u32, why: Why, because: &str, until: Timestamp) -> String {
    let (subject, it) = (yours(count, "has", "have"), if count == 1 { "it" } else { "them" });
    let what_next = match why {
        Why::SignedOut => format!("I send {it} by myself once you have signed in again"),
        Why::NotConnected | Why::CatchingUp | Why::Unconfirmed => format!("I go on trying to deliver {it}"),
    };
    format!("{subject} not been delivered yet: {because}. {what_next}, until {}.", until.to_person())
}

/// `count` messages were given up after `expire` milliseconds. `certain`: the server never had one of them.
pub fn given_up(count: u32, certain: bool, because: &str, expire: u64) -> String {
    let subject = if certain {
        yours(count, "was not", "were not")
    } else {
        yours(count, "may not have been", "may not have been")
    };
    let (it, matters) = if count == 1 { ("it", "it still matters") } else { ("them", "they still matter") };
    format!(
        "{subject} delivered: {because}. After {} I have given {it} up; please write again if {matters}.",
        in_words(expire)
    )
}

/// `count` messages are sent again, and nobody can know whether they had arrived.
pub fn doubtful(count: u32) -> String {
    let subject = yours(count, "may not have been", "may not have been");
    let it = if count == 1 { "it" } else { "them" };
    format!(
        "{subject} delivered, or may have been delivered twice: the connection broke before the server confirmed {it}, and I have sent {it} again."
    )
}

/// Something may be lost between what was said last and what follows.
pub fn gap(network: &str, lines: usize) -> String {
    format!(
        "Messages may be missing here: the connection broke, and of what was said meanwhile {network} keeps no more than the last {lines} lines of a chat. What is missing may still be in your other apps."
    )
}

/// The status of a message; `network` is the id that the room's `m.bridge` gives its protocol.
pub fn to_matrix(network: &str, about: &OwnedEventId, state: State, trouble: Option<&Trouble>) -> MatrixEvent {
    let mut content = json!({
        "network": network,
        "m.relates_to": { "rel_type": "m.reference", "event_id": about },
        "status": state.name(),
    });
    if let Some(trouble) = trouble {
        content["reason"] = json!(trouble.reason.name());
        // `error` is the older of the two names.
        content["error"] = json!(trouble.error);
        content["internal_error"] = json!(trouble.error);
        content["message"] = json!(trouble.sentence);
    }
    MatrixEvent { kind: KIND.to_owned(), content: content.to_string() }
}

/// The notice `of`, in reply to `about`, says this from now on.
pub fn edit(text: &str, about: &OwnedEventId, of: &OwnedEventId) -> MatrixEvent {
    let new = failure::to_matrix(text, Some(about.clone()));
    let Ok(Value::Object(new)) = serde_json::from_str::<Value>(&new.content) else { return new };
    let body = new.get("body").and_then(Value::as_str).unwrap_or_default();
    let mut content = failure::content(&format!("* {body}"));
    content["m.new_content"] = failure::content(body);
    content["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": of });
    MatrixEvent { kind: "m.room.message".to_owned(), content: content.to_string() }
}

#[cfg(test)]
mod tests {
    use ruma::owned_event_id;

    use super::*;

    fn content(event: &MatrixEvent) -> Value {
        serde_json::from_str(&event.content).unwrap()
    }

    #[test]
    fn a_status_has_the_shape_that_bridgev2_gives_it() {
        let trouble = Trouble {
            reason: Reason::Unavailable,
            error: "not-connected".to_owned(),
            sentence: "Your message has not been sent yet.".to_owned(),
        };
        let about = owned_event_id!("$about");
        let status = to_matrix("xmpp", &about, State::Pending, Some(&trouble));
        assert_eq!(status.kind, "com.beeper.message_send_status");
        assert_eq!(
            content(&status),
            json!({
                "network": "xmpp",
                "m.relates_to": { "rel_type": "m.reference", "event_id": "$about" },
                "status": "PENDING",
                "reason": "m.bridge_unavailable",
                "error": "not-connected",
                "internal_error": "not-connected",
                "message": "Your message has not been sent yet.",
            })
        );
        let success = content(&to_matrix("xmpp", &about, State::Success, None));
        assert_eq!(success["status"], "SUCCESS");
        assert!(["reason", "error", "internal_error", "message"].iter().all(|key| success.get(key).is_none()));
    }

    #[test]
    fn what_a_person_reads() {
        let until = Timestamp(1_774_000_000_000);
        assert_eq!(
            waiting(1, Why::NotConnected, "romeo@montague.lit is not connected", until),
            "Your message has not been delivered yet: romeo@montague.lit is not connected. I go on trying to deliver it, until \
             2026-03-20 09:46 UTC."
        );
        assert!(
            waiting(3, Why::SignedOut, "x", until)
                .starts_with("Your 3 messages have not been delivered yet: x. I send them by myself once")
        );
        assert_eq!(
            given_up(1, true, "romeo@montague.lit is not connected", 7 * 86_400_000),
            "Your message was not delivered: romeo@montague.lit is not connected. After 7 days I have given it up; please write \
             again if it still matters."
        );
        assert!(
            given_up(2, false, "x", 60_000)
                .starts_with("Your 2 messages may not have been delivered: x. After 1 minute")
        );
        assert!(
            doubtful(1).starts_with("Your message may not have been delivered, or may have been delivered twice: ")
        );
    }

    /// Client-server API, "Event replacements".
    #[test]
    fn an_edit_replaces_the_whole_notice() {
        let edit = content(&edit("new", &owned_event_id!("$about"), &owned_event_id!("$of")));
        assert_eq!(edit["m.relates_to"], json!({ "rel_type": "m.replace", "event_id": "$of" }));
        assert_eq!(edit["m.new_content"], json!({ "msgtype": "m.notice", "body": "\u{26a0}\u{fe0f} new" }));
    }
}
