//! Idle (XEP-0319): `unavailable` with words in the status <- since when a contact's client has not been used; since when the
//! person has not been active (`last_active_ago` of `m.presence`) -> the account's presence.
//!
//! A homeserver counts `last_active_ago` of a ghost from when the bridge last set its presence, and lets nobody set it. Matrix's
//! `unavailable` is its word for an idle person, so that is what a ghost is shown as; since when stands in its status text.

use minidom::Element;
use ruma::presence::PresenceState;

use super::{
    presence,
    stanza::{Stanza, element, set},
};
use crate::{
    domain::Timestamp,
    store::{idle::IdleClients, presence::Resource},
};

/// XEP-0319.
pub const NS: &str = xmpp_parsers::ns::IDLE;

/// How much later a person's last activity must be for contacts to be told anew, in milliseconds: a homeserver tells it as an age,
/// which is a little off each time.
const CLOSE: i64 = 60_000;

/// Takes out since when the client has not been used.
pub fn from_xmpp(stanza: &mut Stanza, now: Timestamp) -> Option<Timestamp> {
    let since = stanza.take("idle", NS)?;
    // A time from the future is someone's wrong clock.
    since.attr("since").and_then(Timestamp::parse).map(|since| since.min(now))
}

/// The payload of presence.
pub fn to_xmpp(since: Timestamp) -> Element {
    let mut idle = element("idle", NS);
    set(&mut idle, "since", since.to_xmpp());
    idle
}

/// What a contact with these clients is in Matrix.
pub fn to_matrix(clients: &[Resource], idle: &IdleClients, busy: bool) -> (PresenceState, Option<String>) {
    let (state, status) = presence::to_matrix(clients, busy);
    let since = presence::best(clients).and_then(|best| idle.of(&best.name));
    let Some(since) = since else { return (state, status) };
    let words = format!("idle since {}", since.to_person());
    let status = status.map_or_else(|| words.clone(), |status| format!("{status} ({words})"));
    (if state == PresenceState::Online { PresenceState::Unavailable } else { state }, Some(status))
}

/// Since when the person has not been active, by what the homeserver says and what was known before.
pub fn from_matrix(
    state: &PresenceState,
    last_active_ago: Option<u64>,
    known: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    if !matches!(state, PresenceState::Unavailable | PresenceState::Offline) {
        return None;
    }
    let ago = i64::try_from(last_active_ago?).ok()?;
    let since = Timestamp(now.0.saturating_sub(ago));
    Some(known.filter(|known| since.since(*known).abs() < CLOSE).unwrap_or(since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::StreamId;

    const NOW: Timestamp = Timestamp(1_774_000_000_000);

    /// XEP-0319 section 2.1, example 1.
    #[test]
    fn since_when_a_client_has_not_been_used() {
        let read = |since: &str| {
            let xml = format!(
                "<presence xmlns='jabber:client'><show>away</show><idle xmlns='urn:xmpp:idle:1' {since}/></presence>"
            );
            from_xmpp(&mut Stanza::read(&xml.parse().unwrap()), NOW)
        };
        assert_eq!(read("since='1969-07-21T02:56:15Z'"), Some(Timestamp(-14_159_025_000)));
        assert_eq!(read("since='2999-01-01T00:00:00Z'"), Some(NOW));
        assert_eq!((read("since='yesterday'"), read("")), (None, None));
        let mut back = Stanza::read(&"<presence xmlns='jabber:client'/>".parse().unwrap());
        back.put_back(vec![to_xmpp(NOW)]);
        assert_eq!(from_xmpp(&mut back, Timestamp(i64::MAX)), Some(NOW));
    }

    #[test]
    fn only_the_client_that_counts_makes_a_contact_idle() {
        let client = |name: &str, priority, show: Option<&str>| Resource {
            name: name.to_owned(),
            show: show.map(str::to_owned),
            status: None,
            priority,
            caps: None,
        };
        let idle = IdleClients { bound: StreamId(1), since: vec![("phone".to_owned(), NOW)] };
        let words = Some("idle since 2026-03-20 09:46 UTC".to_owned());
        let phone = client("phone", 1, None);
        assert_eq!(to_matrix(std::slice::from_ref(&phone), &idle, true), (PresenceState::Unavailable, words.clone()));
        assert_eq!(to_matrix(&[phone.clone(), client("desk", 2, None)], &idle, true), (PresenceState::Online, None));
        let busy = client("phone", 1, Some("dnd"));
        assert_eq!(to_matrix(&[busy], &idle, true), (PresenceState::from(presence::BUSY), words));
        let said = Resource { status: Some("at sea".to_owned()), ..phone };
        assert_eq!(to_matrix(&[said], &idle, true).1.as_deref(), Some("at sea (idle since 2026-03-20 09:46 UTC)"));
        assert_eq!(to_matrix(&[], &idle, true), (PresenceState::Offline, None));
    }

    #[test]
    fn a_persons_idleness_is_told_once() {
        let from = |state, ago, known| from_matrix(&state, ago, known, NOW);
        let since = Timestamp(NOW.0 - 300_000);
        assert_eq!(from(PresenceState::Unavailable, Some(300_000), None), Some(since));
        assert_eq!(from(PresenceState::Unavailable, Some(310_000), Some(since)), Some(since), "it is the same still");
        assert_eq!(from(PresenceState::Unavailable, Some(200_000), Some(since)), Some(Timestamp(NOW.0 - 200_000)));
        assert_eq!(from(PresenceState::Online, Some(300_000), Some(since)), None);
        assert_eq!(from(PresenceState::Unavailable, None, None), None);
        assert_eq!(from(PresenceState::Unavailable, Some(u64::MAX), None), None);
    }
}
