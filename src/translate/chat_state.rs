//! Typing: `m.typing` <-> chat states (XEP-0085).

use minidom::Element;

use super::stanza::{Stanza, addressed, element};
use crate::domain::BareJid;

/// XEP-0085.
pub const NS: &str = xmpp_parsers::ns::CHATSTATES;

/// Chat states (XEP-0085 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatState {
    /// Takes part.
    Active,
    /// Types.
    Composing,
    /// Typed, but stopped.
    Paused,
    /// Has not looked for a while.
    Inactive,
    /// Has closed the chat.
    Gone,
}

/// Takes the chat state out of a stanza.
pub fn from_xmpp(stanza: &mut Stanza) -> Option<ChatState> {
    stanza.take_all(NS).iter().find_map(|child| match child.name() {
        "active" => Some(ChatState::Active),
        "composing" => Some(ChatState::Composing),
        "paused" => Some(ChatState::Paused),
        "inactive" => Some(ChatState::Inactive),
        "gone" => Some(ChatState::Gone),
        _ => None,
    })
}

/// Does the ghost type? All states but one say no.
pub fn to_matrix(state: ChatState) -> bool {
    state == ChatState::Composing
}

/// The state of a person who types, or has stopped to.
pub fn from_matrix(typing: bool) -> ChatState {
    if typing { ChatState::Composing } else { ChatState::Paused }
}

/// A message of nothing but a state (XEP-0085 section 5.3); not worth keeping (XEP-0334).
pub fn to_xmpp(state: ChatState, to: &BareJid) -> Element {
    let name = match state {
        ChatState::Active => "active",
        ChatState::Composing => "composing",
        ChatState::Paused => "paused",
        ChatState::Inactive => "inactive",
        ChatState::Gone => "gone",
    };
    let mut stanza = addressed("message", Some(to.as_str()), Some("chat"), None);
    stanza.append_child(element(name, NS));
    stanza.append_child(element("no-store", "urn:xmpp:hints"));
    stanza
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XEP-0085 section 4, example 4 and those around it.
    #[test]
    fn states_are_read_and_written() {
        for (name, state, types) in [
            ("composing", ChatState::Composing, true),
            ("paused", ChatState::Paused, false),
            ("active", ChatState::Active, false),
            ("inactive", ChatState::Inactive, false),
            ("gone", ChatState::Gone, false),
        ] {
            let xml = format!(
                "<message xmlns='jabber:client' type='chat'><thread>act2</thread><{name} xmlns='{NS}'/></message>"
            );
            assert_eq!(from_xmpp(&mut Stanza::read(&xml.parse().unwrap())), Some(state));
            assert_eq!(to_matrix(state), types);
            let written = to_xmpp(state, &BareJid::parse("juliet@capulet.lit").unwrap());
            assert_eq!(from_xmpp(&mut Stanza::read(&written)), Some(state));
        }
        assert_eq!(from_matrix(true), ChatState::Composing);
        assert_eq!(from_matrix(false), ChatState::Paused);
    }
}
