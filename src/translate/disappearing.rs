//! Disappearing messages: redaction by the bridge, once they are read <-> XEP-0466; command `disappearing`.
//!
//! Matrix has nothing of the kind that clients keep to, so what the contact wishes is done for the room: the event is redacted when
//! its time is over. XEP-0466 lets the one who spoke last decide the time of what follows.

use minidom::Element;

use super::{
    failure, reaction, retraction,
    stanza::{CLIENT, Stanza, addressed, element, set},
};
use crate::domain::{
    BareJid,
    effect::MatrixEvent,
    time::{Lifetime, in_words},
};

/// XEP-0466.
pub const NS: &str = "urn:xmpp:ephemeral:0";

/// What the room shows in place of one that has disappeared, where clients show a reason.
pub const REASON: &str = "This message has disappeared.";

/// Takes out how long a message is to stay. A time of nothing lets it go as soon as it is read.
pub fn take(stanza: &mut Stanza) -> Option<Lifetime> {
    let out = stanza.take("i-want-out", CLIENT).is_some();
    let timer = stanza.take("ephemeral", NS).and_then(|child| child.attr("timer")?.trim().parse::<u32>().ok());
    match timer {
        Some(timer) => Some(Lifetime::Seconds(timer)),
        None => out.then_some(Lifetime::Unlimited),
    }
}

/// Has the stanza something to say of it?
pub fn is_there(stanza: &Stanza) -> bool {
    stanza.has("ephemeral", NS) || stanza.has("i-want-out", CLIENT)
}

/// The payload of a message that disappears.
pub fn to_xmpp(timer: u32) -> Element {
    let mut payload = element("ephemeral", NS);
    set(&mut payload, "timer", timer.to_string());
    payload
}

/// A message that says nothing but after which time the next ones disappear (XEP-0466 section 3.4).
pub fn negotiation(timer: u32, to: &BareJid, id: &str) -> Element {
    let mut stanza = addressed("message", Some(to.as_str()), Some("chat"), Some(id));
    stanza.append_child(to_xmpp(timer));
    stanza.append_child(element("store", reaction::HINTS));
    stanza
}

/// Does this stanza say something that can disappear? What takes back or reacts says nothing that lasts.
pub fn can_disappear(stanza: &Element) -> bool {
    let about = |child: &Element| child.ns() == retraction::NS || child.ns() == reaction::NS;
    stanza.has_child("body", CLIENT) && !stanza.children().any(about)
}

/// What the room is told when the time has changed.
pub fn to_matrix(timer: Option<u32>) -> MatrixEvent {
    failure::all_well(&words(timer))
}

/// The same for an answer of the bot.
pub fn words(timer: Option<u32>) -> String {
    match timer {
        Some(timer) => format!(
            "Messages in this chat disappear {} after they have been read, here and at the contact's. `!msgr disappearing off` ends that for yours.",
            in_words(u64::from(timer) * 1_000)
        ),
        None => "Messages in this chat do not disappear.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inner: &str) -> Option<Lifetime> {
        take(&mut Stanza::read(&format!("<message xmlns='jabber:client'>{inner}</message>").parse().unwrap()))
    }

    /// XEP-0466 section 4.1 and section 3.5.
    #[test]
    fn a_message_says_when_it_disappears() {
        assert_eq!(
            read("<body>Something</body><ephemeral xmlns='urn:xmpp:ephemeral:0' timer='604800'/>"),
            Some(Lifetime::Seconds(604_800))
        );
        assert_eq!(
            read("<ephemeral xmlns='urn:xmpp:ephemeral:0' timer='432000'/><store xmlns='urn:xmpp:hints'/>"),
            Some(Lifetime::Seconds(432_000))
        );
        assert_eq!(read("<body>おは</body><i-want-out/>"), Some(Lifetime::Unlimited));
        for nothing in ["", "timer=''", "timer='-1'", "timer='4294967296'", "timer='soon'"] {
            assert_eq!(
                read(&format!("<body>x</body><ephemeral xmlns='urn:xmpp:ephemeral:0' {nothing}/>")),
                None,
                "{nothing}"
            );
        }
        assert_eq!(read("<body>x</body>"), None);
        let stanza = negotiation(432_000, &BareJid::parse("a@b").unwrap(), "i");
        assert_eq!(take(&mut Stanza::read(&stanza)), Some(Lifetime::Seconds(432_000)));
        assert!(stanza.has_child("store", "urn:xmpp:hints") && !can_disappear(&stanza));
    }

    #[test]
    fn what_only_changes_something_does_not_disappear() {
        let can =
            |inner: &str| can_disappear(&format!("<message xmlns='jabber:client'>{inner}</message>").parse().unwrap());
        assert!(can("<body>x</body>") && can("<body>x</body><replace xmlns='urn:xmpp:message-correct:0' id='a'/>"));
        assert!(!can("<body>x</body><retract xmlns='urn:xmpp:message-retract:1' id='a'/>"));
        assert!(!can("<body>x</body><reactions xmlns='urn:xmpp:reactions:0' id='a'/>") && !can(""));
    }

    #[test]
    fn the_words_name_the_time() {
        assert!(words(Some(604_800)).contains("7 days after they have been read"));
        assert!(to_matrix(None).content.contains("do not disappear"));
    }
}
