//! The contacts of a login get their ghosts and rooms, one after the other at the configured pace.

use std::collections::{BTreeSet, VecDeque};

use super::{Engine, Timer, progress::Task, session::Live};
use crate::{
    bridge::{ghost::contact_of, question::Question},
    domain::{
        BareJid, LoginId,
        effect::ContactKey,
        pace::{Pace, number},
    },
    store::{
        StoreError,
        contact::{GhostState, VCardState},
        work::{Kind, Work},
    },
};

/// Rooms of one login that are asked for at once: what is not asked for yet can be cancelled.
const AT_ONCE: usize = 16;
/// Milliseconds between two ghosts where there are no rooms to be made.
const GHOST_PAUSE: u64 = 50;
/// Contacts without a room that are named.
const NAMED: usize = 3;

/// Contacts that get their ghosts and rooms one after the other.
#[derive(Debug, Default)]
pub(super) struct Import {
    pub waiting: VecDeque<BareJid>,
    /// Those whose room is asked for and not there yet.
    making: BTreeSet<BareJid>,
    /// Those whose room the homeserver refuses, and what it says. Their lanes are tried again from time to time.
    failed: BTreeSet<BareJid>,
    why: String,
    running: bool,
    /// When the roster was last looked through, and whether it is to be again.
    pub looked: Option<u64>,
    pub stale: bool,
    pub task: Task,
}

impl Import {
    /// Nothing is to be done any more.
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.making.is_empty()
    }

    /// What the owner is told.
    pub fn text(&self, account: &BareJid, work: &Work, pace: &Pace, now: u64, rooms: bool) -> String {
        let left = count(self.waiting.len() + self.making.len());
        let failed = count(self.failed.len());
        let total = work.done + failed + left;
        let (made, all) = (number(work.done), number(total));
        let failures = match failed {
            0 => String::new(),
            _ => format!("; no room could be made for {}", self.failures()),
        };
        let again = if failed == 0 { "" } else { " I try these again from time to time." };
        if !self.is_over() && work.stopped {
            format!("I stop fetching the contacts of {account}: {made} rooms made, {} still to come.", number(left))
        } else if !self.is_over() {
            let what = if rooms { "rooms made" } else { "contacts" };
            let pace = pace.words(now, work.done, Some(left));
            format!(
                "Fetching the contacts of {account}: {made} of {all} {what}{pace}{failures}. `cancel` stops it.{again}"
            )
        } else if work.stopped {
            format!(
                "Cancelled: {made} of the contacts of {account} are here{failures}. The others come with their first message, or by \
                 `start-chat`; `sync` goes on with all of them.{again}"
            )
        } else if failed > 0 {
            format!("{account}: {made} of {all} contacts are here{failures}.{again}")
        } else if total == 1 {
            format!("{account}: your contact is here.")
        } else {
            format!("{account}: all {all} contacts are here.")
        }
    }

    /// Of whom there is no room, and why.
    fn failures(&self) -> String {
        let mut named: Vec<String> = self.failed.iter().take(NAMED).map(ToString::to_string).collect();
        if self.failed.len() > NAMED {
            named.push(format!("{} more", self.failed.len() - NAMED));
        }
        let last = named.pop().unwrap_or_default();
        let whom = if named.is_empty() { last } else { format!("{} and {last}", named.join(", ")) };
        format!("{whom}: the homeserver says \u{201c}{}\u{201d}", self.why)
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Engine {
    /// Which contacts have no ghost or room yet: they get them at the configured pace.
    pub(super) fn queue_import(&mut self, login: &LoginId) -> Result<(), StoreError> {
        if !self.lives.get(login).is_some_and(Live::caught_up) {
            return Ok(());
        }
        let uptime = self.bridge.now.uptime;
        let rooms = self.bridge.settings.rooms_for_contacts;
        let mut waiting = VecDeque::new();
        let mut making = BTreeSet::new();
        let mut vcards = VecDeque::new();
        let blocks = !self.bridge.store.blocked(login)?.is_empty();
        for (contact, row) in self.bridge.store.contacts(login)? {
            if !row.on_roster {
                continue;
            }
            let key = contact_of(login, &contact);
            // Who is blocked gets no room; one that is there stays.
            if blocks && self.is_blocked(&key)? {
                continue;
            }
            let there = if rooms {
                let portal = self.bridge.store.portal(&key)?;
                if portal.as_ref().is_some_and(|portal| portal.room.is_none()) {
                    making.insert(contact.clone());
                }
                portal.is_some() || self.bridge.store.look(&key)?.closed
            } else {
                row.ghost != GhostState::None
            };
            let fetched = match &row.vcard {
                VCardState::Unknown => false,
                VCardState::Fetched(hash) => row.announced_photo.is_none() || row.announced_photo == *hash,
            };
            let asked = |pending: &super::session::Pending| matches!(&pending.question, Question::VCard { contact: asked, .. } if *asked == contact);
            let asked = self.lives.get(login).is_some_and(|live| live.questions.values().any(asked));
            if !fetched && !asked {
                vcards.push_back((contact.clone(), row.announced_photo.clone()));
            }
            if !there && !self.bridge.store.is_put_off(&key)? {
                waiting.push_back(contact);
            }
        }
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        live.vcards = vcards;
        let import = &mut live.import;
        import.looked = Some(uptime);
        import.stale = false;
        import.failed.retain(|contact| making.remove(contact));
        import.making = making;
        import.waiting = waiting;
        let over = import.is_over();
        let known = self.bridge.store.work(login, Kind::Contacts)?;
        if over && known.is_some() {
            // What was under way when the process ended is done.
            self.end_task(login, Kind::Contacts)?;
        } else if !over {
            let goes_on = known.is_some() && !self.lives.get(login).is_some_and(|live| live.import.task.is_active());
            self.begin_task(login, Kind::Contacts, known)?;
            if goes_on {
                self.told_lately(login)?;
            }
        }
        self.next_vcard(login)?;
        self.go_on_importing(login)
    }

    fn go_on_importing(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let goes = self.lives.get(login).is_some_and(|live| !live.import.running && !live.import.waiting.is_empty());
        if goes { self.import_next(login) } else { Ok(()) }
    }

    /// The next contact gets its ghost and room.
    pub(super) fn import_next(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let rooms = self.bridge.settings.rooms_for_contacts;
        let uptime = self.bridge.now.uptime;
        let pause = self.bridge.settings.room_pause;
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        if live.import.waiting.is_empty() || live.import.making.len() >= AT_ONCE {
            live.import.running = false;
            return Ok(());
        }
        live.import.running = true;
        if rooms && live.room_due > uptime {
            // A stranger's room was made just now.
            let after = live.room_due - uptime;
            self.set_timer(after, Timer::Import(login.clone()));
            return Ok(());
        }
        let Some(contact) = live.import.waiting.pop_front() else { return Ok(()) };
        if rooms {
            live.room_due = uptime + pause;
        }
        let contact = contact_of(login, &contact);
        let new =
            if rooms { self.bridge.ensure_portal(&contact)? } else { self.bridge.ensure_ghost(&contact)?.is_some() };
        if rooms
            && new
            && let Some(live) = self.lives.get_mut(login)
        {
            live.import.making.insert(contact.contact);
        } else {
            self.count_import(login)?;
        }
        let pace = if rooms { pause } else { GHOST_PAUSE };
        self.set_timer(pace, Timer::Import(login.clone()));
        Ok(())
    }

    /// A portal is deleted: nobody waits for its room any more.
    pub(super) fn forget_import(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        let Some(live) = self.lives.get_mut(&portal.login) else { return Ok(()) };
        live.import.failed.remove(&portal.contact);
        let was = live.import.is_over();
        live.import.making.remove(&portal.contact);
        live.import.waiting.retain(|waiting| *waiting != portal.contact);
        if was { Ok(()) } else { self.import_moved(&portal.login) }
    }

    /// A portal's room is there.
    pub(super) fn room_made(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        let Some(live) = self.lives.get_mut(&portal.login) else { return Ok(()) };
        let waited = live.import.making.remove(&portal.contact) | live.import.failed.remove(&portal.contact);
        if waited { self.count_import(&portal.login) } else { Ok(()) }
    }

    /// The homeserver refuses a contact's room, or their ghost. `true` if the owner is told of it by the import.
    pub(super) fn room_refused(&mut self, portal: &ContactKey, sentence: &str) -> Result<bool, StoreError> {
        let Some(live) = self.lives.get_mut(&portal.login) else { return Ok(false) };
        if !live.import.making.remove(&portal.contact) {
            return Ok(false);
        }
        live.import.failed.insert(portal.contact.clone());
        sentence.clone_into(&mut live.import.why);
        self.import_moved(&portal.login)?;
        Ok(true)
    }

    /// One more contact is here: tells how far it is.
    fn count_import(&mut self, login: &LoginId) -> Result<(), StoreError> {
        self.count_task(login, Kind::Contacts, |work| work.done += 1)?;
        self.import_moved(login)
    }

    /// What is to be done has become less.
    fn import_moved(&mut self, login: &LoginId) -> Result<(), StoreError> {
        if self.lives.get(login).is_some_and(|live| live.import.is_over()) {
            return self.end_task(login, Kind::Contacts);
        }
        self.progressed(login)?;
        self.go_on_importing(login)
    }

    /// The owner wants no more rooms for the contacts of a login; those that are asked for are made. `false` if none was to be.
    pub(super) fn stop_import(&mut self, login: &LoginId) -> Result<bool, StoreError> {
        if self.bridge.store.work(login, Kind::Contacts)?.is_none_or(|work| work.stopped) {
            return Ok(false);
        }
        let rooms = self.bridge.settings.rooms_for_contacts;
        let mut stopped = false;
        for (contact, row) in self.bridge.store.contacts(login)?.into_iter().filter(|(_, row)| row.on_roster) {
            let key = contact_of(login, &contact);
            let there = if rooms { self.bridge.store.portal(&key)?.is_some() } else { row.ghost != GhostState::None };
            if !there && !self.bridge.store.look(&key)?.closed {
                self.bridge.store.put_off(&key, self.bridge.now.wall)?;
                stopped = true;
            }
        }
        if !stopped {
            return Ok(false);
        }
        if let Some(live) = self.lives.get_mut(login) {
            live.import.waiting.clear();
        }
        self.count_task(login, Kind::Contacts, |work| work.stopped = true)?;
        self.import_moved(login)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(text: &str) -> BareJid {
        BareJid::parse(text).expect("an address")
    }

    #[test]
    fn what_is_told_says_how_far_it_is_how_fast_it_goes_and_how_it_ended() {
        let account = jid("romeo@montague.lit");
        let mut pace = Pace::default();
        pace.note(0, 0);
        let mut import = Import { waiting: (0..220).map(|n| jid(&format!("c{n}@x"))).collect(), ..Import::default() };
        let mut work = Work { done: 120, ..Work::default() };
        let text = |import: &Import, work: &Work| import.text(&account, work, &pace, 60_000, true);
        assert_eq!(
            text(&import, &work),
            "Fetching the contacts of romeo@montague.lit: 120 of 340 rooms made, about 2 per second, 2 minutes left. `cancel` stops it."
        );
        import.failed = ["a@x", "b@x", "c@x", "d@x"].into_iter().map(jid).collect();
        import.waiting.clear();
        "You may not.".clone_into(&mut import.why);
        assert_eq!(
            text(&import, &work),
            "romeo@montague.lit: 120 of 124 contacts are here; no room could be made for a@x, b@x, c@x and 1 more: the homeserver \
             says \u{201c}You may not.\u{201d}. I try these again from time to time."
        );
        import.failed.clear();
        work.stopped = true;
        assert!(text(&import, &work).starts_with("Cancelled: 120 of the contacts of romeo@montague.lit are here. The"));
    }
}
