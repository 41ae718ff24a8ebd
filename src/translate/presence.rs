//! Presence: `m.presence` <-> RFC 6121 section 4, with XEP-0115 capabilities on what we send.

use minidom::Element;
use ruma::presence::PresenceState;

use super::stanza::{CLIENT, Stanza, addressed, set, text_element};
use crate::{
    bridge::OfflineAs,
    domain::{BareJid, StreamId, Timestamp, capability::Profile},
    store::presence::{RESOURCES, Resource, Resources},
};

/// Longest status text that is carried over, in characters.
const MAX_STATUS: usize = 1000;
/// How the homeserver calls a busy person (MSC3026).
pub const BUSY: &str = "org.matrix.msc3026.busy";

/// One client's presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// On line.
    Available(Resource),
    /// Gone.
    Unavailable,
}

/// Takes presence out of a stanza of no type or of type `unavailable`; the caller has seen the type.
pub fn from_xmpp(stanza: &mut Stanza, resource: &str) -> Presence {
    if stanza.kind == "unavailable" {
        return Presence::Unavailable;
    }
    let show = stanza
        .take_text("show")
        .map(|show| show.trim().to_owned())
        .filter(|show| matches!(show.as_str(), "away" | "chat" | "dnd" | "xa"));
    let status = stanza.take_text("status").map(|status| status.trim().chars().take(MAX_STATUS).collect::<String>());
    let priority = stanza.take_text("priority").and_then(|priority| priority.trim().parse::<i32>().ok()).unwrap_or(0);
    let caps = super::discovery::take_caps(stanza);
    Presence::Available(Resource {
        name: resource.to_owned(),
        show,
        status: status.filter(|status| !status.is_empty()),
        priority: i8::try_from(priority.clamp(-128, 127)).unwrap_or(0),
        caps,
    })
}

/// Writes one client's presence into those of its contact. `bound` is the session on which it was told: what an earlier
/// session told is replaced, not added to.
pub fn merge(known: Option<Resources>, bound: StreamId, resource: &str, presence: Presence) -> Resources {
    let mut row = known.filter(|row| row.bound == bound).unwrap_or(Resources { bound, list: Vec::new() });
    row.list.retain(|known| known.name != resource);
    if let Presence::Available(resource) = presence {
        row.list.push(resource);
        if row.list.len() > RESOURCES {
            row.list.remove(0);
        }
    }
    row
}

/// What a contact with these clients is in Matrix: of the clients with the highest priority the most available counts, of several
/// such the newest (RFC 6121 section 8.5.2.1.1 sends messages there; docs/protocol.md).
pub fn to_matrix(clients: &[Resource], busy: bool) -> (PresenceState, Option<String>) {
    let Some(best) = best(clients) else {
        return (PresenceState::Offline, None);
    };
    let state = match best.show.as_deref() {
        None | Some("chat") => PresenceState::Online,
        Some("dnd") if busy => PresenceState::from(BUSY),
        Some(_) => PresenceState::Unavailable,
    };
    (state, best.status.clone())
}

/// The client that counts.
pub fn best(clients: &[Resource]) -> Option<&Resource> {
    let rank = |show: Option<&str>| match show {
        Some("chat") => 4,
        None => 3,
        Some("dnd") => 2,
        Some("away") => 1,
        _ => 0,
    };
    clients.iter().max_by_key(|client| (client.priority, rank(client.show.as_deref())))
}

/// What the person's contacts are to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// `false`: unavailable.
    pub available: bool,
    /// `<show/>`.
    pub show: Option<&'static str>,
    /// `<status/>`.
    pub status: Option<String>,
    /// Since when the person has not been active (XEP-0319).
    pub idle: Option<Timestamp>,
}

/// What a person's Matrix presence is to their contacts.
pub fn from_matrix(state: &PresenceState, status: Option<&str>, offline_as: OfflineAs, profile: &Profile) -> Shown {
    let status = status.filter(|status| !status.is_empty()).map(|status| status.chars().take(MAX_STATUS).collect());
    let shown = |show| Shown { available: true, show, status: status.clone(), idle: None };
    match state {
        PresenceState::Online => shown(None),
        PresenceState::Offline => match offline_as {
            OfflineAs::Unavailable => Shown { available: false, show: None, status, idle: None },
            OfflineAs::ExtendedAway if !profile.plain_show => shown(Some("xa")),
            OfflineAs::ExtendedAway | OfflineAs::Away => shown(Some("away")),
        },
        state if matches!(state.as_str(), BUSY | "busy") => shown(Some("dnd")),
        _ => shown(Some("away")),
    }
}

/// The presence stanza to broadcast.
pub fn to_xmpp(shown: &Shown) -> Element {
    let mut stanza = addressed("presence", None, (!shown.available).then_some("unavailable"), None);
    if let Some(show) = shown.show {
        stanza.append_child(text_element("show", CLIENT, show));
    }
    if let Some(status) = &shown.status {
        stanza.append_child(text_element("status", CLIENT, status));
    }
    if let Some(since) = shown.idle.filter(|_| shown.available) {
        stanza.append_child(super::idle::to_xmpp(since));
    }
    if shown.available {
        stanza.append_child(super::discovery::caps());
    }
    stanza
}

/// Asks whether a contact is there (RFC 6121 section 4.3). Servers do that by themselves, except where they have kept a contact
/// away until now.
pub fn probe(contact: &BareJid) -> Element {
    addressed("presence", Some(contact.as_str()), Some("probe"), None)
}

/// Whom a presence concerns, by its `to`: nobody but the account.
pub fn directed(to: &str) -> Element {
    let mut stanza = Element::bare("presence", CLIENT);
    set(&mut stanza, "to", to);
    stanza
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::capability::{MESSENGER, XMPP};

    fn read(xml: &str) -> Presence {
        from_xmpp(&mut Stanza::read(&format!("<presence xmlns='jabber:client'{xml}").parse().unwrap()), "r")
    }

    fn client(show: Option<&str>, priority: i8) -> Resource {
        Resource {
            name: format!("{show:?}{priority}"),
            show: show.map(str::to_owned),
            status: show.map(str::to_owned),
            priority,
            caps: None,
        }
    }

    /// RFC 6121 section 4.7.2, examples.
    #[test]
    fn show_status_and_priority_are_read_leniently() {
        let Presence::Available(r) =
            read("><show>dnd</show><status>Wooing Juliet</status><priority>1</priority></presence>")
        else {
            panic!()
        };
        assert_eq!((r.show.as_deref(), r.status.as_deref(), r.priority), (Some("dnd"), Some("Wooing Juliet"), 1));
        let Presence::Available(r) = read("><show>online</show><priority>300</priority></presence>") else { panic!() };
        assert_eq!((r.show, r.priority), (None, 127));
        assert_eq!(read(" type='unavailable'/>"), Presence::Unavailable);
    }

    #[test]
    fn the_highest_priority_then_the_most_available_client_counts() {
        assert_eq!(to_matrix(&[client(Some("away"), 5), client(None, 1)], true).0, PresenceState::Unavailable);
        assert_eq!(to_matrix(&[client(Some("away"), 1), client(None, 1)], true).0, PresenceState::Online);
        assert_eq!(to_matrix(&[client(Some("chat"), 0)], true).0, PresenceState::Online);
        assert_eq!(to_matrix(&[client(Some("dnd"), 0)], true).0.as_str(), BUSY);
        assert_eq!(to_matrix(&[client(Some("dnd"), 0)], false).0, PresenceState::Unavailable);
        assert_eq!(to_matrix(&[], true), (PresenceState::Offline, None));
        // Only a client that gets no messages: still there.
        assert_eq!(to_matrix(&[client(Some("away"), -1)], true).0, PresenceState::Unavailable);
        let (old, new) = (client(Some("dnd"), 3), client(None, 3));
        assert_eq!(to_matrix(&[old.clone(), new.clone()], true).0, PresenceState::Online);
        assert_eq!(to_matrix(&[new, client(Some("xa"), 3), old], true).0, PresenceState::Online);
        let status = |text: &str| Resource { status: Some(text.to_owned()), ..client(None, 1) };
        assert_eq!(to_matrix(&[status("old"), status("new")], true).1.as_deref(), Some("new"));
    }

    #[test]
    fn another_sessions_clients_are_replaced() {
        let old = merge(None, StreamId(1), "a", Presence::Available(client(None, 0)));
        let new = merge(Some(old), StreamId(2), "b", Presence::Available(client(None, 1)));
        assert_eq!(new.list.len(), 1);
        assert!(merge(Some(new), StreamId(2), "None1", Presence::Unavailable).list.is_empty());
    }

    #[test]
    fn a_persons_presence() {
        let shown = |state, as_, profile| from_matrix(&state, Some("at sea"), as_, profile);
        assert_eq!(shown(PresenceState::Online, OfflineAs::Away, &XMPP).show, None);
        assert_eq!(shown(PresenceState::Unavailable, OfflineAs::Away, &XMPP).show, Some("away"));
        assert_eq!(shown(PresenceState::Offline, OfflineAs::ExtendedAway, &XMPP).show, Some("xa"));
        assert_eq!(shown(PresenceState::Offline, OfflineAs::ExtendedAway, &MESSENGER).show, Some("away"));
        assert!(!shown(PresenceState::Offline, OfflineAs::Unavailable, &XMPP).available);
        let stanza = to_xmpp(&shown(PresenceState::from(BUSY), OfflineAs::Away, &XMPP));
        let Presence::Available(r) = from_xmpp(&mut Stanza::read(&stanza), "r") else { panic!() };
        assert_eq!((r.show.as_deref(), r.status.as_deref()), (Some("dnd"), Some("at sea")));
    }
}
