//! Long work shows itself: one message in the owner's management room for each piece of it, edited in place.
//!
//! A person gets one such event in five seconds at most, however many accounts they have. What is told stands in the store from
//! the first word to the last, so that the same message goes on being edited after a restart.

use ruma::{OwnedUserId, UserId};

use super::{Engine, Timer, session::Phase};
use crate::{
    bridge::question::Question,
    domain::{
        BareJid, LoginId,
        capability::Archive,
        effect::Notice,
        pace::{Pace, number},
    },
    store::{
        StoreError,
        portal::History,
        work::{Kind, Work},
    },
};

/// A person is told of progress no more often, in milliseconds.
const PAUSE: u64 = 5_000;
/// Fetching history is told when it has taken so long, in milliseconds: an ordinary short absence says nothing.
const LONG: u64 = 5_000;

/// A piece of long work as its owner is told of it. How far it is stands in the store while there is a message of it.
#[derive(Debug, Default)]
pub(super) struct Task {
    /// It is told, or is to be.
    active: bool,
    /// Its end is to be told.
    ended: bool,
    pace: Pace,
    /// What the message says.
    told: String,
}

/// What is fetched from an archive, and for how long.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    pub task: Task,
    /// Since when something was to be fetched without a break, as uptime.
    since: Option<u64>,
    /// What was fetched since then, until there is a message of it.
    so_far: Work,
    /// Whether a message of an earlier process goes on was looked for.
    looked: bool,
}

/// When a person may be told of progress next.
#[derive(Debug, Default)]
pub(super) struct Teller {
    due: u64,
    timer: bool,
    /// Whose turn it is, where there is more than one piece of work.
    turn: usize,
}

impl Task {
    pub fn is_active(&self) -> bool {
        self.active
    }
}

impl Engine {
    fn task(&mut self, login: &LoginId, kind: Kind) -> Option<&mut Task> {
        let live = self.lives.get_mut(login)?;
        Some(match kind {
            Kind::Contacts => &mut live.import.task,
            Kind::History => &mut live.fetching.task,
        })
    }

    /// Long work begins, or goes on as `known`.
    pub(super) fn begin_task(&mut self, login: &LoginId, kind: Kind, known: Option<Work>) -> Result<(), StoreError> {
        let (now, began) = (self.bridge.now.uptime, self.bridge.now.wall);
        let work = known.unwrap_or(Work { began, ..Work::default() });
        self.bridge.store.put_work(login, kind, &work)?;
        if let Some(task) = self.task(login, kind) {
            task.ended = false;
            if !std::mem::replace(&mut task.active, true) {
                task.pace.note(now, work.done);
            }
        }
        Ok(())
    }

    /// More of it is done.
    pub(super) fn count_task(
        &mut self,
        login: &LoginId,
        kind: Kind,
        count: impl FnOnce(&mut Work),
    ) -> Result<(), StoreError> {
        let Some(mut work) = self.bridge.store.work(login, kind)? else { return Ok(()) };
        count(&mut work);
        self.bridge.store.put_work(login, kind, &work)
    }

    /// Nothing of it is left: its end is told.
    pub(super) fn end_task(&mut self, login: &LoginId, kind: Kind) -> Result<(), StoreError> {
        if self.bridge.store.work(login, kind)?.is_none() {
            return Ok(());
        }
        if let Some(task) = self.task(login, kind) {
            (task.active, task.ended) = (true, true);
        }
        self.progressed(login)
    }

    /// There is news of a login's work: its owner is told when it is time.
    pub(super) fn progressed(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some(owner) = self.owner_of(login)? else { return Ok(()) };
        self.tell_at(&owner, 0);
        Ok(())
    }

    /// An earlier process may have told the owner just now.
    pub(super) fn told_lately(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let due = self.bridge.now.uptime.saturating_add(PAUSE);
        if let Some(owner) = self.owner_of(login)? {
            self.tellers.entry(owner).or_default().due = due;
        }
        Ok(())
    }

    fn tell_at(&mut self, owner: &OwnedUserId, after: u64) {
        let now = self.bridge.now.uptime;
        let teller = self.tellers.entry(owner.clone()).or_default();
        if !std::mem::replace(&mut teller.timer, true) {
            let after = after.max(teller.due.saturating_sub(now));
            self.set_timer(after, Timer::Progress(owner.clone()));
        }
    }

    /// It is time to tell a person how far their work is: the next piece of which there is news.
    pub(super) fn tell_progress(&mut self, owner: &OwnedUserId) -> Result<(), StoreError> {
        let now = self.bridge.now.uptime;
        let Some(teller) = self.tellers.get_mut(owner) else { return Ok(()) };
        teller.timer = false;
        let mut pieces = Vec::new();
        let mut goes_on = false;
        for login in self.logins_of(owner)? {
            self.show_if_long(&login.id)?;
            goes_on |= self.lives.get(&login.id).is_some_and(|live| live.fetching.since.is_some());
            for kind in Kind::ALL {
                if self.task(&login.id, kind).is_some_and(|task| task.active) {
                    pieces.push((login.id.clone(), login.account.clone(), kind));
                }
            }
        }
        let first = self.tellers.get(owner).map_or(0, |teller| teller.turn);
        let mut told = false;
        for step in 0..pieces.len() {
            let place = (first + step) % pieces.len();
            let (login, account, kind) = &pieces[place];
            goes_on |= self.goes_on(login, *kind);
            if !told && self.tell_piece(owner, login, account, *kind)? {
                told = true;
                if let Some(teller) = self.tellers.get_mut(owner) {
                    (teller.turn, teller.due) = (place + 1, now.saturating_add(PAUSE));
                }
            } else if told {
                // What else there is to be told waits for its turn.
                goes_on = true;
            }
        }
        if goes_on {
            self.tell_at(owner, PAUSE);
        }
        Ok(())
    }

    /// Does what is told of it change by itself, if only its pace?
    fn goes_on(&self, login: &LoginId, kind: Kind) -> bool {
        self.lives.get(login).is_some_and(|live| match kind {
            Kind::Contacts => !live.import.is_over(),
            Kind::History => live.phase == Phase::Up && live.fetching.since.is_some(),
        })
    }

    /// Tells how far a piece of work is, if that is news. `true` if there was something to tell.
    fn tell_piece(
        &mut self,
        owner: &UserId,
        login: &LoginId,
        account: &BareJid,
        kind: Kind,
    ) -> Result<bool, StoreError> {
        let now = self.bridge.now.uptime;
        let Some(work) = self.bridge.store.work(login, kind)? else {
            if let Some(task) = self.task(login, kind) {
                *task = Task::default();
            }
            return Ok(false);
        };
        let text = match kind {
            Kind::Contacts => {
                let rooms = self.bridge.settings.rooms_for_contacts;
                let Some(live) = self.lives.get_mut(login) else { return Ok(false) };
                live.import.task.pace.note(now, work.done);
                live.import.text(account, &work, &live.import.task.pace, now, rooms)
            }
            Kind::History => self.fetching_text(login, account, &work)?,
        };
        let Some(task) = self.task(login, kind) else { return Ok(false) };
        let (news, ended) = (task.told != text, task.ended);
        if ended {
            *task = Task::default();
        } else {
            task.told.clone_from(&text);
        }
        if ended {
            self.bridge.store.erase_work(login, kind);
        }
        if news {
            let what = match kind {
                Kind::Contacts => "contacts",
                Kind::History => "history",
            };
            let key = format!("{what} {login} {}", work.began.0);
            self.bridge.say_notice(owner, Notice::plain(text), Some(key))?;
        }
        Ok(news)
    }

    /// How many pages of what was missed, and how many chats, are still to come for a login.
    fn to_fetch(&self, login: &LoginId) -> (bool, usize) {
        let Some(live) = self.lives.get(login).filter(|live| live.phase == Phase::Up) else { return (false, 0) };
        let mut chats = live.histories.len();
        let mut missed = false;
        for pending in live.questions.values() {
            match pending.question {
                Question::CatchUp { .. } => missed = true,
                Question::History { .. } | Question::Recent { .. } => chats += 1,
                _ => {}
            }
        }
        (missed, chats)
    }

    /// Something was fetched, or is to be.
    pub(super) fn fetched(&mut self, login: &LoginId, count: impl FnOnce(&mut Work)) -> Result<(), StoreError> {
        let (missed, chats) = self.to_fetch(login);
        let now = self.bridge.now.uptime;
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        if !std::mem::replace(&mut live.fetching.looked, true)
            && let Some(known) = self.bridge.store.work(login, Kind::History)?
        {
            self.begin_task(login, Kind::History, Some(known))?;
            self.told_lately(login)?;
        }
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        let busy = missed || chats > 0;
        let fetching = &mut live.fetching;
        fetching.since = if busy { fetching.since.or(Some(now)) } else { None };
        if fetching.task.active {
            fetching.task.ended = !busy;
            self.count_task(login, Kind::History, count)?;
            return self.progressed(login);
        }
        if busy {
            count(&mut fetching.so_far);
            return self.progressed(login);
        }
        fetching.so_far = Work::default();
        Ok(())
    }

    /// What takes long gets its message.
    fn show_if_long(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let now = self.bridge.now.uptime;
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        let long = live.fetching.since.is_some_and(|since| now.saturating_sub(since) >= LONG);
        if !long || live.fetching.task.active {
            return Ok(());
        }
        let so_far = std::mem::take(&mut live.fetching.so_far);
        let work = Work { began: self.bridge.now.wall, ..so_far };
        self.begin_task(login, Kind::History, Some(work))
    }

    /// The stream is gone: what was being fetched is asked for again on the next one.
    pub(super) fn fetching_breaks(&mut self, login: &LoginId) {
        if let Some(live) = self.lives.get_mut(login) {
            live.fetching.since = None;
        }
    }

    fn fetching_text(&mut self, login: &LoginId, account: &BareJid, work: &Work) -> Result<String, StoreError> {
        let (missed, left) = self.to_fetch(login);
        let archive = self.bridge.archive(login)?;
        let now = self.bridge.now.uptime;
        let Some(live) = self.lives.get_mut(login) else { return Ok(String::new()) };
        let (over, pace) = (live.fetching.task.ended, &mut live.fetching.task.pace);
        let left = u64::try_from(left).unwrap_or(u64::MAX);
        if missed {
            pace.note(now, work.missed);
            let pace = pace.words(now, work.missed, None);
            return Ok(format!("Fetching what {account} has missed: {} messages so far{pace}.", number(work.missed)));
        }
        pace.note(now, work.done);
        Ok(fetching_text(account, work, (over, left), &pace.words(now, work.done, Some(left)), archive))
    }

    /// The owner wants no history of rooms that is not asked for yet. `false` if there is none.
    fn stop_history(&mut self, login: &LoginId) -> Result<bool, StoreError> {
        // An archive that has only the last lines is how what was missed is fetched.
        if self.bridge.archive(login)? != Archive::Mam {
            return Ok(false);
        }
        let Some(live) = self.lives.get_mut(login) else { return Ok(false) };
        let begun: Vec<BareJid> = live
            .questions
            .values()
            .filter_map(|pending| match &pending.question {
                Question::History { contact } => Some(contact.clone()),
                _ => None,
            })
            .collect();
        live.histories.clear();
        let mut stopped = false;
        for (contact, mut portal) in self.bridge.store.portals(login)? {
            if portal.history == History::Wanted && !begun.contains(&contact) {
                portal.history = History::Done;
                self.bridge.store.put_portal(&crate::bridge::ghost::contact_of(login, &contact), &portal)?;
                stopped = true;
            }
        }
        if stopped {
            self.release_held(login)?;
            self.fetched(login, |work| work.stopped = true)?;
        }
        Ok(stopped)
    }

    /// `cancel`: ends the long work of a person's accounts where it can be ended. Gives what to answer.
    pub(super) fn cancel_work(&mut self, owner: &UserId) -> Result<String, StoreError> {
        let mut said = Vec::new();
        for login in self.logins_of(&owner.to_owned())? {
            let account = &login.account;
            if self.stop_import(&login.id)? {
                said.push(format!("I make no more rooms for the contacts of {account}."));
            }
            if self.stop_history(&login.id)? {
                said.push(format!("I fetch no more history of {account} for rooms that have none yet."));
            }
            if self.to_fetch(&login.id).0 {
                said.push(format!(
                    "What {account} has missed is fetched all the same: nothing of that may be left out."
                ));
            }
        }
        Ok(if said.is_empty() { "There is nothing to cancel.".to_owned() } else { said.join(" ") })
    }

    /// `sync`: contacts that were put off by `cancel` get their rooms after all.
    pub(super) fn take_up_import(&mut self, login: &LoginId) -> Result<(), StoreError> {
        self.bridge.store.erase_put_off(login)?;
        self.count_task(login, Kind::Contacts, |work| work.stopped = false)
    }
}

/// What is told of history: of chats, once what was missed is here.
fn fetching_text(account: &BareJid, work: &Work, (over, left): (bool, u64), pace: &str, archive: Archive) -> String {
    let (messages, chats) = (number(work.messages), number(work.done));
    let missed = match work.missed {
        0 => String::new(),
        1 => " 1 message that was missed is here.".to_owned(),
        missed => format!(" {} messages that were missed are here.", number(missed)),
    };
    match (over, work.stopped) {
        (false, false) => {
            let all = number(work.done + left);
            let hint = if archive == Archive::Mam { " `cancel` stops it." } else { "" };
            format!(
                "Fetching the history of {account}: {messages} messages; {chats} of {all} chats{pace}.{hint}{missed}"
            )
        }
        (false, true) => {
            format!("I stop fetching the history of {account}: {} chats still to come.{missed}", number(left))
        }
        (true, true) => format!(
            "Cancelled: {messages} messages of {chats} chats of {account} are here. What was said before in the others is in your other \
             apps; all that is said from now on comes here.{missed}"
        ),
        (true, false) if work.done == 0 => format!("{account}:{missed}"),
        (true, false) => format!("{account}: the history of {chats} chats is here, {messages} messages.{missed}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_told_with_counts_and_how_it_ended() {
        let account = BareJid::parse("romeo@montague.lit").expect("an address");
        let mut work = Work { done: 40, messages: 1_900, ..Work::default() };
        let text = |work: &Work, over, archive| {
            fetching_text(&account, work, over, ", about 3 per second, 27 seconds left", archive)
        };
        assert_eq!(
            text(&work, (false, 80), Archive::Mam),
            "Fetching the history of romeo@montague.lit: 1,900 messages; 40 of 120 chats, about 3 per second, 27 seconds left. `cancel` stops it."
        );
        assert!(
            !text(&work, (false, 80), Archive::Recent).contains("cancel"),
            "what was missed is not to be cancelled"
        );
        work.missed = 350;
        assert_eq!(
            text(&work, (true, 0), Archive::Mam),
            "romeo@montague.lit: the history of 40 chats is here, 1,900 messages. 350 messages that were missed are here."
        );
        work.stopped = true;
        assert!(text(&work, (true, 0), Archive::Mam).starts_with("Cancelled: 1,900 messages of 40 chats of"));
        let only_missed = Work { missed: 1, ..Work::default() };
        assert_eq!(
            text(&only_missed, (true, 0), Archive::Mam),
            "romeo@montague.lit: 1 message that was missed is here."
        );
    }
}
