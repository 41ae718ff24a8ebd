//! Presence: broadcast, directed, reflected; no probes (RFC 6121 4).
use serde::Serialize;

use super::journal::Event;
use super::settings::{MAX_PENDING, Status};
use super::wire::{CLIENT, Node, attr, bare, element, esc};
use super::world::{SCRIPTED, World};

/// What someone is, and their personal message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// The state.
    pub status: Status,
    /// The personal message.
    pub text: String,
}

impl Presence {
    fn of(stanza: &Node) -> Self {
        let text = |name| stanza.child(name, CLIENT).map(|child| child.text.clone()).unwrap_or_default();
        let status =
            if stanza.attr("type") == Some("unavailable") { Status::Offline } else { Status::of_show(&text("show")) };
        Self { status, text: text("status") }
    }

    /// As a stanza: Messenger knows a state and a text; capabilities, hashes and priorities are lost on the way.
    pub fn to_xml(&self, from: &str, to: &str) -> String {
        let kind = (self.status == Status::Offline).then_some("unavailable");
        format!(
            "<presence from='{}' to='{}'{}>{}{}</presence>",
            esc(from),
            esc(to),
            attr("type", kind),
            element("show", self.status.show().unwrap_or_default()),
            element("status", &self.text)
        )
    }
}

impl World {
    /// A client's presence stanza.
    pub fn presence(&mut self, id: u64, stanza: &Node) {
        let Some(account) = self.sessions.get(&id).map(|session| session.account.clone()) else { return };
        let to = stanza.attr("to").filter(|to| !to.is_empty());
        match (stanza.attr("type"), to) {
            (None | Some("unavailable"), Some(to)) => self.directed(id, &account, to, &Presence::of(stanza)),
            (None | Some("unavailable"), None) => self.broadcast(id, &account, &Presence::of(stanza)),
            (Some("subscribe"), Some(to)) => self.subscribe(id, &account, to, stanza),
            (Some("subscribed"), Some(to)) => self.subscribed(&account, &bare(to)),
            (Some("unsubscribe"), Some(to)) => self.unsubscribe(&account, &bare(to)),
            (Some("unsubscribed"), Some(to)) => self.unsubscribed(&account, &bare(to)),
            (Some("probe"), _) => self.count(&account, |counters| counters.probes += 1),
            // Errors, and types that nobody knows.
            _ => {}
        }
    }

    fn directed(&mut self, id: u64, account: &str, to: &str, presence: &Presence) {
        self.count(account, |counters| counters.directed += 1);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let contact = bare(to);
        if presence.status == Status::Offline {
            session.directed.remove(&contact);
        } else if session.directed.len() < MAX_PENDING {
            session.directed.insert(contact.clone());
        }
        let from = session.jid.clone();
        self.show_to(&contact, &from, presence);
    }

    fn broadcast(&mut self, id: u64, account: &str, presence: &Presence) {
        let leaving = presence.status == Status::Offline;
        self.count(account, |counters| {
            counters.presences += 1;
            counters.unavailable += u64::from(leaving);
        });
        if leaving {
            self.depart(id);
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let first = session.presence.replace(presence.clone()).is_none();
        let jid = session.jid.clone();
        self.announce(account, &jid, presence);
        if self.switches.reflect_presence {
            for other in self.available_sessions(account) {
                self.send(other, presence.to_xml(&jid, account));
            }
        }
        if first {
            self.welcome(id, account, &jid);
        }
    }

    /// What follows the initial presence: who is there, who asks, and what was kept.
    fn welcome(&mut self, id: u64, account: &str, jid: &str) {
        let Some(person) = self.people.get(account) else { return };
        let seen: Vec<String> =
            person.roster.iter().filter(|(_, item)| item.to).map(|(contact, _)| contact.clone()).collect();
        let invitations: Vec<String> = person.invitations.iter().cloned().collect();
        for contact in seen {
            for (from, presence) in self.presences_of(&contact) {
                self.send(id, presence.to_xml(&from, jid));
            }
        }
        for contact in invitations {
            let request = self.subscription_xml(&contact, account, "subscribe");
            self.send(id, request);
        }
        self.deliver_offline(id, account);
    }

    /// A client is unavailable: whoever saw it is told. Nothing happens when nobody did.
    pub fn depart(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (account, jid) = (session.account.clone(), session.jid.clone());
        let was_there = session.presence.take().is_some();
        let directed = std::mem::take(&mut session.directed);
        let gone = Presence { status: Status::Offline, text: String::new() };
        let watchers = self.watchers(&account);
        for contact in directed.iter().filter(|contact| !was_there || !watchers.contains(contact)) {
            self.show_to(contact, &jid, &gone);
        }
        if was_there {
            self.announce(&account, &jid, &gone);
            for other in self.available_sessions(&account) {
                self.send(other, gone.to_xml(&jid, &account));
            }
        }
    }

    /// The scripted contact's presence changes.
    pub fn set_stage(&mut self, account: &str, presence: &Presence) {
        let Some(person) = self.people.get_mut(account) else { return };
        let before = std::mem::replace(&mut person.stage, presence.clone());
        if before.status == Status::Offline && presence.status != Status::Offline && !person.had_client {
            // It has now read what was kept for it; the journal told of it when it came.
            person.offline.clear();
        }
        if before.status != Status::Offline || presence.status != Status::Offline {
            self.announce(account, &format!("{account}/{SCRIPTED}"), presence);
        }
        self.accept_by_itself(account);
    }

    /// Where the account can be seen, and as what.
    pub fn presences_of(&self, account: &str) -> Vec<(String, Presence)> {
        let clients = self.available_sessions(account).into_iter().filter_map(|id| {
            let session = self.sessions.get(&id)?;
            Some((session.jid.clone(), session.presence.clone()?))
        });
        let stage = self.people.get(account).map(|person| person.stage.clone());
        let stage = stage.filter(|stage| stage.status != Status::Offline);
        clients.chain(stage.map(|stage| (format!("{account}/{SCRIPTED}"), stage))).collect()
    }

    fn watchers(&self, account: &str) -> Vec<String> {
        let roster = self.people.get(account).map(|person| &person.roster);
        roster.into_iter().flatten().filter(|(_, item)| item.from).map(|(contact, _)| contact.clone()).collect()
    }

    fn announce(&mut self, account: &str, from: &str, presence: &Presence) {
        for contact in self.watchers(account) {
            self.show_to(&contact, from, presence);
        }
    }

    /// Shows one presence to one account.
    pub fn show_to(&mut self, contact: &str, from: &str, presence: &Presence) {
        for id in self.available_sessions(contact) {
            self.send(id, presence.to_xml(from, contact));
        }
        let Presence { status, text } = presence.clone();
        self.tell_script(contact, Event::Presence { to: contact.to_owned(), from: from.to_owned(), status, text });
    }
}
