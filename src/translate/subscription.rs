//! Subscriptions: the bot's notices and the commands `accept` and `deny` <-> RFC 6121 section 3, with XEP-0172 nicknames.

use minidom::Element;

use super::stanza::{Stanza, addressed, text_element};
use crate::domain::{
    BareJid,
    effect::Subscription,
    text::{MAX_NAME, one_line},
};

/// XEP-0172.
pub const NICK: &str = xmpp_parsers::ns::NICK;

/// Most characters of a request's own words that are shown.
const MAX_WORDS: usize = 300;

/// What a presence stanza says about a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Someone asks to see the account's presence.
    Asks {
        /// The name that they give themselves.
        nick: Option<String>,
        /// Their words.
        text: Option<String>,
    },
    /// The contact has accepted.
    Accepted,
    /// The contact has refused, or no longer lets itself be seen.
    Refused,
    /// The contact no longer looks.
    Left,
}

/// Takes a subscription out of a presence stanza; `None` for any other type.
pub fn from_xmpp(stanza: &mut Stanza) -> Option<Said> {
    Some(match stanza.kind.as_str() {
        "subscribe" => Said::Asks {
            nick: stanza
                .take("nick", NICK)
                .map(|nick| one_line(&nick.text(), MAX_NAME))
                .filter(|nick| !nick.is_empty()),
            text: stanza.take_text("status").map(|text| one_line(&text, MAX_WORDS)).filter(|text| !text.is_empty()),
        },
        "subscribed" => Said::Accepted,
        "unsubscribed" => Said::Refused,
        "unsubscribe" => Said::Left,
        _ => return None,
    })
}

/// The presence stanza of a decision. A request says how the person calls themselves, where they want that to be told (XEP-0172
/// section 4.1).
pub fn to_xmpp(kind: Subscription, contact: &BareJid, id: &str, nick: Option<&str>) -> Element {
    let word = match kind {
        Subscription::Subscribe => "subscribe",
        Subscription::Subscribed => "subscribed",
        Subscription::Unsubscribed => "unsubscribed",
    };
    let mut stanza = addressed("presence", Some(contact.as_str()), Some(word), Some(id));
    if let Some(nick) = nick.filter(|_| kind == Subscription::Subscribe) {
        stanza.append_child(text_element("nick", NICK, nick));
    }
    stanza
}

/// The notice of a request.
pub fn notice(contact: &BareJid, account: &BareJid, nick: Option<&str>, text: Option<&str>) -> String {
    let who = match nick {
        Some(nick) => format!("{nick} ({contact})"),
        None => contact.to_string(),
    };
    let words = text.map(|text| format!(" They write: \u{201c}{text}\u{201d}")).unwrap_or_default();
    format!(
        "{who} wants to add {account} and see when you are online.{words} Answer with `accept {contact}` or `deny {contact}`."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6121 section 3.1.2 with XEP-0172 section 4.2, example 3.
    #[test]
    fn a_request_with_a_nickname() {
        let xml = "<presence xmlns='jabber:client' from='narrator@moby-dick.lit' type='subscribe'><nick xmlns='http://jabber.org/protocol/nick'>Ishmael</nick></presence>";
        let said = from_xmpp(&mut Stanza::read(&xml.parse().unwrap())).unwrap();
        assert_eq!(said, Said::Asks { nick: Some("Ishmael".to_owned()), text: None });
        for (kind, expected) in
            [("subscribed", Said::Accepted), ("unsubscribed", Said::Refused), ("unsubscribe", Said::Left)]
        {
            let xml = format!("<presence xmlns='jabber:client' type='{kind}'/>");
            assert_eq!(from_xmpp(&mut Stanza::read(&xml.parse().unwrap())), Some(expected));
        }
    }

    #[test]
    fn a_request_cannot_speak_as_the_bot() {
        let xml = "<presence xmlns='jabber:client' type='subscribe'><nick xmlns='http://jabber.org/protocol/nick'>Friar\n\nSigned out.</nick>\
                   <status>hi\u{202e}\n\nYour account has expired: send your password.</status></presence>";
        let Some(Said::Asks { nick, text }) = from_xmpp(&mut Stanza::read(&xml.parse().unwrap())) else { panic!() };
        let jid = BareJid::parse("a@b").unwrap();
        let notice = notice(&jid, &jid, nick.as_deref(), text.as_deref());
        assert_eq!(notice.lines().count(), 1, "{notice}");
        assert!(!notice.contains('\u{202e}'));
    }

    #[test]
    fn a_decision_is_a_presence() {
        let contact = BareJid::parse("a@b").unwrap();
        let stanza = to_xmpp(Subscription::Subscribed, &contact, "i", Some("Ishmael"));
        assert!(stanza.children().next().is_none(), "only a request says a name");
        let mut request = Stanza::read(&to_xmpp(Subscription::Subscribe, &contact, "i", Some("Ishmael")));
        let said = Said::Asks { nick: Some("Ishmael".to_owned()), text: None };
        assert_eq!(from_xmpp(&mut request), Some(said));
        assert_eq!(
            (stanza.attr("type"), stanza.attr("to"), stanza.name()),
            (Some("subscribed"), Some("a@b"), "presence")
        );
    }
}
