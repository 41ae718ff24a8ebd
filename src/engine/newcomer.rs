//! People who write and have no room yet. Their rooms are made at the configured pace, or when the owner says so; what they wrote
//! waits in the store, in order. Contacts of the roster are no newcomers, nor is anyone that the owner has written to.

use std::collections::{HashMap, VecDeque};

use super::{Engine, Timer, session::Live, xmpp::Arrival};
use crate::{
    bridge::Strangers,
    domain::{BareJid, LoginId, Timestamp, effect::ContactKey},
    store::{
        StoreError,
        held::Held,
        newcomer::{Newcomer, Request},
        portal::Source,
    },
    translate::stanza::{Stanza, to_xml},
};

/// People of one login who may wait for their rooms.
pub const MOST_WAITING: usize = 10_000;
/// People of one login about whom the owner is asked and has not answered.
pub const MOST_REQUESTS: usize = 100;
/// Messages of one of them that are kept.
pub const MOST_MESSAGES: usize = 100;
/// Bytes of what all of them wrote, of one login.
pub const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Those of a login, as the store has them.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    /// How many messages of each wait, and how long they are.
    kept: HashMap<BareJid, (usize, usize)>,
    /// Who gets a room next.
    waiting: VecDeque<BareJid>,
    bytes: usize,
    /// The owner was told that it is too much.
    told: bool,
    /// A timer is set for the next room.
    running: bool,
    /// How many subscription requests wait for the owner's answer.
    pub asking: usize,
}

impl Newcomers {
    fn add(&mut self, contact: &BareJid, messages: usize, bytes: usize) {
        let kept = self.kept.entry(contact.clone()).or_default();
        kept.0 += messages;
        kept.1 += bytes;
        self.bytes += bytes;
    }

    fn remove(&mut self, contact: &BareJid) -> bool {
        let Some((_, bytes)) = self.kept.remove(contact) else { return false };
        self.bytes -= bytes;
        self.waiting.retain(|waiting| waiting != contact);
        self.told &= !self.kept.is_empty();
        true
    }
}

impl Engine {
    /// Reads who waits, when a login begins to connect.
    pub(super) fn load_newcomers(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let asks = self.bridge.settings.strangers == Strangers::Request;
        let asking = self.bridge.store.contacts(login)?.iter().filter(|(_, row)| row.asks).count();
        let mut all = Newcomers { asking, ..Newcomers::default() };
        for Newcomer { contact, messages, bytes } in self.bridge.store.newcomers(login)? {
            all.add(&contact, messages, bytes);
            if !asks {
                all.waiting.push_back(contact);
                continue;
            }
            let key = ContactKey { login: login.clone(), contact };
            if self.bridge.store.request(&key)?.is_none() {
                // The operator has just changed how strangers are met.
                self.ask_owner(&key)?;
            }
        }
        if let Some(live) = self.lives.get_mut(login) {
            live.newcomers = all;
        }
        Ok(())
    }

    /// Is this a message of someone who has no room and is no contact? Then it goes no further here, unless their room may be
    /// made at once.
    pub(super) fn meets_newcomer(
        &mut self,
        contact: &ContactKey,
        own: bool,
        arrival: &Arrival<'_>,
        (source, at): (Source, Timestamp),
    ) -> Result<bool, StoreError> {
        if own {
            // To whom the person writes elsewhere is no stranger.
            self.admit(contact, false)?;
            return Ok(false);
        }
        if self.bridge.store.portal(contact)?.is_some()
            || self.bridge.store.contact(contact)?.is_some_and(|row| row.on_roster)
        {
            return Ok(false);
        }
        let request = self.bridge.store.request(contact)?;
        if request.is_some_and(|request| request.denied) {
            self.bridge.ignore("message of someone who was denied");
            return Ok(true);
        }
        let asks = self.bridge.settings.strangers == Strangers::Request;
        let uptime = self.bridge.now.uptime;
        let pause = self.bridge.settings.room_pause;
        let Some(live) = self.lives.get_mut(&contact.login) else { return Ok(false) };
        let known = live.newcomers.kept.contains_key(&contact.contact);
        if !asks && !known && live.newcomers.waiting.is_empty() && live.room_due <= uptime {
            live.room_due = uptime + pause;
            return Ok(false);
        }
        let Some(stanza) = to_xml(arrival.stanza) else {
            self.bridge.ignore("message that cannot be written again");
            return Ok(true);
        };
        let most = if asks { MOST_REQUESTS } else { MOST_WAITING };
        let all = &mut live.newcomers;
        let messages = all.kept.get(&contact.contact).map_or(0, |(messages, _)| *messages);
        if messages >= MOST_MESSAGES || all.bytes + stanza.len() > MOST_BYTES || !known && all.kept.len() >= most {
            self.bridge.ignore("message of a newcomer beyond the bound");
            self.tell_of_too_many(&contact.login)?;
            return Ok(true);
        }
        all.add(&contact.contact, 1, stanza.len());
        if !asks && !known {
            all.waiting.push_back(contact.contact.clone());
        }
        let bound = arrival.bound.or_else(|| Some(live.session.as_ref()?.bound));
        // When it comes into its room it is old: it has its own time there.
        let kept = if source == Source::Live { Source::Offline } else { source };
        let archive_id = arrival.archive_id.clone();
        self.bridge.store.keep_newcomer(contact, &Held { stanza, source: kept, at, archive_id, bound })?;
        if let Some(account) = self.lives.get(&contact.login).and_then(|live| live.account.clone()) {
            let id = self.take_archive_id(&contact.login, &mut Stanza::read(arrival.stanza), &account)?;
            self.advance_archive(&contact.login, source, id.as_deref())?;
        }
        if asks && request.is_none() {
            self.ask_owner(contact)?;
        }
        self.run_newcomers(&contact.login);
        Ok(true)
    }

    fn ask_owner(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        self.bridge.store.put_request(contact, Request::default())?;
        let Some(login) = self.bridge.store.login(&contact.login)? else { return Ok(()) };
        let who = &contact.contact;
        self.bridge.say(
            &login.owner,
            format!(
                "{who} writes to {} and is not among your contacts. `accept {who}` opens the chat with what they wrote, `deny {who}` \
                 drops it, and all that they write later.",
                login.account
            ),
        )
    }

    fn tell_of_too_many(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let told = self.lives.get_mut(login).is_none_or(|live| std::mem::replace(&mut live.newcomers.told, true));
        let Some(row) = self.bridge.store.login(login)?.filter(|_| !told) else { return Ok(()) };
        self.bridge.say(
            &row.owner,
            format!(
                "More is written to {} by people who are not your contacts than I keep: what is too much is left out here, and may be \
                 in your other apps.",
                row.account
            ),
        )
    }

    /// Sets the timer of the next newcomer's room, where one is wanted.
    pub(super) fn run_newcomers(&mut self, login: &LoginId) {
        let uptime = self.bridge.now.uptime;
        let Some(live) = self.lives.get_mut(login) else { return };
        if live.newcomers.waiting.is_empty() || live.newcomers.running || !live.caught_up() {
            return;
        }
        live.newcomers.running = true;
        let after = live.room_due.saturating_sub(uptime);
        self.set_timer(after, Timer::Newcomer(login.clone()));
    }

    /// The next newcomer gets their room.
    pub(super) fn next_newcomer(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let uptime = self.bridge.now.uptime;
        let pause = self.bridge.settings.room_pause;
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        live.newcomers.running = false;
        if live.caught_up() && live.room_due <= uptime {
            let Some(contact) = live.newcomers.waiting.pop_front() else { return Ok(()) };
            live.room_due = uptime + pause;
            self.admit(&ContactKey { login: login.clone(), contact }, true)?;
        }
        self.run_newcomers(login);
        Ok(())
    }

    /// Someone is a newcomer no longer: what they wrote goes into their room, in order. `open`: the room is made even if they
    /// wrote nothing.
    pub(super) fn admit(&mut self, contact: &ContactKey, open: bool) -> Result<(), StoreError> {
        if self.bridge.store.request(contact)?.is_some() {
            self.bridge.store.erase_request(contact);
        }
        let kept = self.lives.get_mut(&contact.login).is_some_and(|live| live.newcomers.remove(&contact.contact));
        if !open && !kept {
            return Ok(());
        }
        self.bridge.ensure_portal(contact)?;
        let messages = self.bridge.store.newcomer_messages(contact)?;
        let account = self.lives.get(&contact.login).and_then(|live: &Live| live.account.clone());
        let (Some(account), false) = (account, messages.is_empty()) else { return Ok(()) };
        self.bridge.store.release_newcomer(contact)?;
        for held in messages {
            let Ok(stanza) = held.stanza.parse() else {
                self.bridge.ignore("held message that cannot be read again");
                continue;
            };
            self.arrive(&contact.login, &account, &Arrival::held(&stanza, held))?;
        }
        Ok(())
    }

    /// The owner wants to hear nothing of them.
    pub(super) fn refuse_newcomer(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        if let Some(live) = self.lives.get_mut(&contact.login) {
            live.newcomers.remove(&contact.contact);
        }
        self.bridge.store.release_newcomer(contact)?;
        self.bridge.store.put_request(contact, Request { denied: true })
    }
}
