//! Up to where a chat was read, among all devices of the person: what was read elsewhere is read in Matrix, and what is read
//! there is for the account's other devices to know (XEP-0490), beside what the contact is told (XEP-0333).

use std::collections::{HashMap, VecDeque};

use ruma::EventId;

use super::Engine;
use crate::{
    bridge::{ghost::contact_of, question::Question},
    domain::{
        BareJid, LoginId,
        effect::{ContactKey, Effect, Lane},
    },
    store::StoreError,
    translate::{displayed::Displayed, receipt::Receipts, stable_id},
};

/// Chats of which it is known up to where they were read.
const CHATS: usize = 10_000;
/// Messages of a chat whose order is remembered.
const ORDER: usize = 16;

/// What is known of it on a stream.
#[derive(Debug, Default)]
pub(super) struct ReadState {
    /// The account takes what we publish, and shows it to nobody else; `None`: not asked yet.
    pub supported: Option<bool>,
    /// The server does not let us ask it to keep more than it wants to.
    pub few: bool,
    /// The archive's id that was published or told last, for each chat.
    known: HashMap<BareJid, String>,
    /// The archive's ids of the newest messages, oldest first, for each chat.
    order: HashMap<BareJid, VecDeque<String>>,
}

impl ReadState {
    /// A message came into a chat; `true`: it was told before that it is read.
    fn note(&mut self, contact: &BareJid, id: &str) -> bool {
        if self.order.len() < CHATS || self.order.contains_key(contact) {
            let order = self.order.entry(contact.clone()).or_default();
            order.push_back(id.to_owned());
            if order.len() > ORDER {
                order.pop_front();
            }
        }
        self.known.get(contact).is_some_and(|known| known == id)
    }

    /// Notes up to where a chat was read; `false`: that is known, or less than is known.
    fn advance(&mut self, contact: &BareJid, id: &str) -> bool {
        let known = self.known.get(contact);
        if known.is_none() && self.known.len() >= CHATS {
            return false;
        }
        let place = |id: &str| self.order.get(contact)?.iter().position(|known| known == id);
        let back = known.and_then(|known| place(known)).zip(place(id)).is_some_and(|(known, new)| new < known);
        if back || known.is_some_and(|known| known == id) {
            return false;
        }
        self.known.insert(contact.clone(), id.to_owned());
        true
    }
}

impl Engine {
    /// What the account can do is known, or is not: its read state is asked for once what was missed is there.
    pub(super) fn ask_displayed(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some(live) = self.lives.get(login).filter(|live| live.caught_up()) else { return Ok(()) };
        match live.read.supported {
            Some(true) => self.ask(login, Question::Displayed),
            Some(false) => Ok(()),
            // A session that was resumed by a new process.
            None if self.profile_of(login)?.is_some_and(|profile| profile.discovers) => {
                self.ask(login, Question::AccountFeatures)
            }
            None => Ok(()),
        }
    }

    /// Another device of the account has read chats up to these messages.
    pub(super) fn on_displayed_elsewhere(&mut self, login: &LoginId, told: Vec<Displayed>) -> Result<(), StoreError> {
        for Displayed { contact, id } in told {
            let new = self.lives.get_mut(login).is_some_and(|live| live.read.advance(&contact, &id));
            if new {
                self.read_by_owner(&contact_of(login, &contact), stable_id::archived(&id))?;
            }
        }
        Ok(())
    }

    /// The owner has read up to the message of this name, where it is known.
    fn read_by_owner(&mut self, contact: &ContactKey, name: String) -> Result<(), StoreError> {
        if let Some(event) = self.bridge.store.event_of(contact, &name)? {
            self.read_vanishing(contact, Some(&event))?;
        }
        if self.bridge.store.is_seen(contact, &name)? && self.bridge.puppets_owner(contact)? {
            self.bridge.owe(Lane::ToMatrix(contact.clone()), Effect::ReadByOwner { name })?;
        }
        Ok(())
    }

    /// A message has come that has this id in the archive.
    pub(super) fn note_archived(&mut self, contact: &ContactKey, id: &str) -> Result<(), StoreError> {
        let read = self.lives.get_mut(&contact.login).is_some_and(|live| live.read.note(&contact.contact, id));
        if read { self.read_by_owner(contact, stable_id::archived(id)) } else { Ok(()) }
    }

    /// Another device of the account has told the contact that it displayed a message (XEP-0333): so it need not be told again.
    pub(super) fn on_own_receipts(&mut self, contact: &ContactKey, receipts: &Receipts) -> Result<(), StoreError> {
        let Some(id) = &receipts.displayed else { return Ok(()) };
        if let Some(live) = self.lives.get_mut(&contact.login)
            && let Some(waiting) = live.markable.get_mut(&contact.contact)
            && let Some(through) = waiting.iter().position(|waiting| waiting == id)
        {
            waiting.drain(..=through);
        }
        for name in [stable_id::named(id, false), stable_id::archived(id)] {
            if self.bridge.store.is_seen(contact, &name)? {
                return self.read_by_owner(contact, name);
            }
        }
        Ok(())
    }

    /// The server has not taken what was published: it is asked for less.
    pub(super) fn not_published(&mut self, login: &LoginId, contact: BareJid, id: String) -> Result<(), StoreError> {
        match self.lives.get_mut(login) {
            Some(live) if !live.read.few => live.read.few = true,
            _ => {
                self.bridge.ignore("read state not published");
                return Ok(());
            }
        }
        self.ask(login, Question::PublishDisplayed { contact, id })
    }

    /// The owner has read up to an event in Matrix: the account's other devices are told.
    pub(super) fn publish_displayed(&mut self, portal: &ContactKey, event: &EventId) -> Result<(), StoreError> {
        let id = self.bridge.store.archive_id_of(portal, event)?;
        // Of a message that has a name of its own, and none by the archive, nothing can be told.
        let theirs = self.bridge.store.stanza_of(portal, event)?;
        let theirs = theirs.as_deref().and_then(stable_id::id_of).is_some_and(|(_, own)| !own);
        let Some(live) = self.lives.get_mut(&portal.login).filter(|live| live.caught_up()) else { return Ok(()) };
        if live.read.supported != Some(true) {
            return Ok(());
        }
        let newest = || live.read.order.get(&portal.contact).and_then(VecDeque::back).cloned();
        // One's own message, or a notice: all before it was seen.
        let Some(id) = id.or_else(|| if theirs { None } else { newest() }) else { return Ok(()) };
        if live.read.advance(&portal.contact, &id) {
            self.ask(&portal.login, Question::PublishDisplayed { contact: portal.contact.clone(), id })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_moves_only_forward_as_far_as_the_order_is_known() {
        let (mut state, romeo) = (ReadState::default(), BareJid::parse("romeo@montague.lit").unwrap());
        for id in 0..ORDER + 2 {
            assert!(!state.note(&romeo, &id.to_string()));
        }
        assert!(state.advance(&romeo, "10") && !state.advance(&romeo, "10") && !state.advance(&romeo, "9"));
        assert!(state.advance(&romeo, "17") && state.advance(&romeo, "to come"));
        assert!(state.note(&romeo, "to come"), "it was told of before it came");
        assert_eq!(state.order[&romeo].len(), ORDER);
    }

    #[test]
    fn the_number_of_chats_is_bounded() {
        let mut state = ReadState::default();
        for n in 0..CHATS + 5 {
            let contact = BareJid::parse(&format!("c{n}@x.test")).unwrap();
            state.note(&contact, "1");
            assert_eq!(state.advance(&contact, "1"), n < CHATS);
        }
        assert_eq!((state.known.len(), state.order.len()), (CHATS, CHATS));
    }
}
