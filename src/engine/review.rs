//! Review: a room as the homeserver has it (Matrix CS API, `GET /rooms/{room}/messages`), held against what its
//! transactions brought.
//!
//! A homeserver may send a later transaction before it repeats one that failed, and may keep one back until the next
//! failure (Synapse does both: its queue goes on while a failure is being noted, and a transaction made just as it
//! recovers is left for the next recovery). So wherever a transaction may have been overtaken, those that come are not
//! answered until their rooms have been read, and what was said is taken in the room's own order. Some time after a start
//! every portal is read once, so that nothing that was kept back stays unseen. An event is handled once by its id,
//! whichever way it comes and however often.

use std::{
    collections::{BTreeMap, VecDeque},
    mem::take,
};

use ruma::{OwnedRoomId, RoomId};

use super::{Engine, Timer};
use crate::{
    domain::{
        Output, Ticket,
        input::{EphemeralEvent, Failure, RoomEvent, RoomPage},
    },
    store::{StoreError, portal::Room},
};

/// For so long after the first transaction of a start, and of one that may have overtaken another, each is reviewed, in
/// milliseconds: while a homeserver recovers, more may come out of order.
const DOUBT: u64 = 60_000;
/// Pause between two rooms that are read for nothing but to see whether something was kept back, in milliseconds.
const PACE: u64 = 250;
/// Pause before a room that could not be read is read again, in milliseconds.
const RETRY: u64 = 10_000;
/// How often a gap in the transactions' numbers may mean nothing within [`ALARMS_FOR`] before gaps are no longer looked at:
/// a homeserver may count the transactions of all its application services together.
const FALSE_ALARMS: u8 = 8;
/// Milliseconds.
const ALARMS_FOR: u64 = 10 * 60 * 1_000;
/// A homeserver that could not be reached so often in a row was away: one lost connection is no restart.
const AWAY: u8 = 3;
/// Events of a room that are read at most before it is taken as it is.
const MOST: usize = 500;
/// What is older than this, in milliseconds, is not taken from a room: its transaction may still come.
const OLDEST: i64 = 24 * 60 * 60 * 1_000;

/// A transaction that is not answered until its rooms have been read.
struct Waiting {
    ticket: Ticket,
    txn: String,
    events: Vec<RoomEvent>,
    ephemeral: Vec<EphemeralEvent>,
}

/// A room that is being read.
#[derive(Default)]
struct Reading {
    /// What was read, oldest first.
    events: Vec<RoomEvent>,
    /// Something came of it since it was begun to be read: it is read anew.
    again: bool,
    done: bool,
}

/// How much the order of transactions is believed.
#[derive(Default)]
pub(super) struct Review {
    /// In doubt until this uptime; `None`: until some time after the first transaction.
    until: Option<u64>,
    /// Bounded by the shell, which lets only a few transactions in at a time.
    waiting: Vec<Waiting>,
    reading: BTreeMap<OwnedRoomId, Reading>,
    /// A room could not be read.
    failed: bool,
    /// How often in a row the homeserver could not be reached.
    unreached: u8,
    /// Rooms that are still to be read, one after the other.
    sweep: VecDeque<OwnedRoomId>,
    /// Once those are read, all are read again.
    anew: bool,
    /// The number of the newest transaction, where they are numbers.
    number: Option<u64>,
    /// A gap in the numbers is looked into.
    alarm: bool,
    false_alarms: u8,
    false_since: u64,
}

impl Review {
    /// Is there a gap in the numbers: has the transaction before this one not come?
    fn is_gap(&mut self, txn: &str, now: u64) -> bool {
        let Ok(number) = txn.parse::<u64>() else { return false };
        // One that is lower came late, or the homeserver counts anew.
        let last = self.number.replace(number);
        if now.saturating_sub(self.false_since) > ALARMS_FOR {
            self.false_alarms = 0;
        }
        last.is_some_and(|last| number > last.saturating_add(1)) && self.false_alarms < FALSE_ALARMS
    }
}

impl Engine {
    /// The process has started: what came while there was none may have been kept back.
    pub(super) fn begin_review(&mut self) -> Result<(), StoreError> {
        self.sweep_all_after(DOUBT);
        self.bridge.store.note_beginning(self.bridge.now.wall)
    }

    /// Whether the homeserver could be reached. One that was away may have been restarted: what it had in hand for us then, it
    /// may never send.
    pub(super) fn note_homeserver(&mut self, reached: bool) {
        if !reached {
            self.review.unreached = self.review.unreached.saturating_add(1);
        } else if take(&mut self.review.unreached) >= AWAY {
            self.review.until = None;
            self.sweep_all_after(DOUBT);
        }
    }

    pub(super) fn on_transaction(
        &mut self,
        ticket: Ticket,
        txn: String,
        events: Vec<RoomEvent>,
        ephemeral: Vec<EphemeralEvent>,
        overtakes: bool,
    ) -> Result<(), StoreError> {
        if let Some(same) = self.review.waiting.iter_mut().find(|waiting| waiting.txn == txn) {
            // The homeserver has given up waiting and asks again.
            same.ticket = ticket;
            return Ok(());
        }
        let now = self.bridge.now.uptime;
        let gap = self.review.is_gap(&txn, now);
        let until = match self.review.until {
            Some(until) if !overtakes => until,
            _ => {
                self.sweep_all_after(DOUBT);
                now + DOUBT
            }
        };
        self.review.until = Some(until);
        self.review.alarm |= gap;
        if gap || now < until {
            for event in &events {
                if !self.bridge.is_ours(&event.sender)
                    && matches!(self.bridge.store.room(&event.room)?, Some(Room::Portal(_)))
                {
                    self.read_room(&event.room);
                }
            }
        }
        if gap {
            // What is missing may be of another room, and of one that was just read.
            if self.review.sweep.is_empty() {
                self.sweep_after(PACE);
            } else {
                self.review.anew = true;
            }
        }
        self.review.waiting.push(Waiting { ticket, txn, events, ephemeral });
        self.release()
    }

    fn read_room(&mut self, room: &RoomId) {
        if let Some(reading) = self.review.reading.get_mut(room) {
            reading.again = true;
            return;
        }
        self.review.reading.insert(room.to_owned(), Reading::default());
        self.outputs.push(Output::ReadRoom { room: room.to_owned(), from: None });
    }

    pub(super) fn on_room_read(&mut self, room: &RoomId, page: Result<RoomPage, Failure>) -> Result<(), StoreError> {
        let Some(mut reading) = self.review.reading.remove(room) else { return Ok(()) };
        match page {
            Ok(page) => {
                reading.events.splice(0..0, page.events);
                if let Some(from) = page.earlier
                    && self.wants_earlier(&reading.events)?
                {
                    self.review.reading.insert(room.to_owned(), reading);
                    self.outputs.push(Output::ReadRoom { room: room.to_owned(), from: Some(from) });
                    return Ok(());
                }
            }
            Err(failure) => {
                // Half of it says nothing of the order of the whole.
                reading.events.clear();
                match failure {
                    Failure::Transient { .. } => {
                        self.review.failed = true;
                        if !self.review.sweep.iter().any(|waiting| waiting == room) {
                            self.review.sweep.push_back(room.to_owned());
                        }
                        self.sweep_after(RETRY);
                    }
                    // The bot is not in it any more, or the homeserver does not have it: it is taken as it comes.
                    Failure::Permanent(_) => self.bridge.ignore("room that cannot be reviewed"),
                }
            }
        }
        if take(&mut reading.again) {
            reading.events.clear();
            self.outputs.push(Output::ReadRoom { room: room.to_owned(), from: None });
        } else {
            reading.done = true;
        }
        self.review.reading.insert(room.to_owned(), reading);
        self.release()
    }

    /// Earlier events are wanted until one of the owner is found that was handled, or is too old to be taken. The time of a
    /// ghost's event says nothing: it may be that of a message of long ago.
    fn wants_earlier(&self, events: &[RoomEvent]) -> Result<bool, StoreError> {
        let oldest = self.oldest_reviewed()?;
        for event in events {
            // What we have said in the owner's name says nothing of what they said before.
            if self.is_said(event)?
                && !self.is_puppet_event(event)?
                && (event.at.0 < oldest || self.is_handled(event)?)
            {
                return Ok(false);
            }
        }
        Ok(events.len() < MOST)
    }

    /// Said by the owner of a portal in its room.
    fn is_said(&self, event: &RoomEvent) -> Result<bool, StoreError> {
        match self.bridge.store.room(&event.room)? {
            Some(Room::Portal(portal)) if event.state_key.is_none() => {
                Ok(self.owner_of(&portal.login)?.as_ref() == Some(&event.sender))
            }
            _ => Ok(false),
        }
    }

    fn is_handled(&self, event: &RoomEvent) -> Result<bool, StoreError> {
        match self.bridge.store.room(&event.room)? {
            Some(Room::Portal(portal)) => Ok(self.bridge.store.stanza_of(&portal, &event.id)?.is_some()),
            _ => Ok(false),
        }
    }

    fn oldest_reviewed(&self) -> Result<i64, StoreError> {
        let began = self.bridge.store.began()?.unwrap_or(self.bridge.now.wall);
        Ok(began.0.max(self.bridge.now.wall.0.saturating_sub(OLDEST)))
    }

    /// Takes in what waits, once all that is being read is there.
    fn release(&mut self) -> Result<(), StoreError> {
        if self.review.reading.values().any(|reading| !reading.done) {
            return Ok(());
        }
        let now = self.bridge.now.uptime;
        let (rooms, waiting) = (take(&mut self.review.reading), take(&mut self.review.waiting));
        let alarm = take(&mut self.review.alarm);
        if take(&mut self.review.failed) && !waiting.is_empty() {
            // They are sent again; taken now they could be out of order.
            self.outputs.extend(waiting.into_iter().map(|waiting| Output::Refuse(waiting.ticket)));
            self.review.until = None;
            return Ok(());
        }
        let oldest = self.oldest_reviewed()?;
        let mut missed = false;
        for event in rooms.values().flat_map(|reading| &reading.events) {
            if event.at.0 >= oldest && self.is_said(event)? && !self.is_handled(event)? {
                let new = self.take_event(event)?;
                missed |= new && !waiting.iter().flat_map(|waiting| &waiting.events).any(|known| known.id == event.id);
            }
        }
        if missed {
            self.bridge.ignore("transaction that was overtaken");
            self.review.false_alarms = 0;
        } else if alarm {
            if self.review.false_alarms == 0 {
                self.review.false_since = now;
            }
            self.review.false_alarms += 1;
        }
        for waiting in waiting {
            self.take_transaction(waiting)?;
        }
        Ok(())
    }

    /// The transaction's own id tells nothing: a homeserver may count anew, and put an event into a second one. One that brings nothing
    /// new, such as our own events, is answered without a write.
    fn take_transaction(&mut self, waiting: Waiting) -> Result<(), StoreError> {
        let mut fresh = waiting.events.is_empty();
        for event in &waiting.events {
            if self.bridge.is_ours(&event.sender) {
                self.on_own_event(event)?;
            } else {
                fresh |= self.take_event(event)?;
            }
        }
        // What else came with events that are known is as old as they are.
        if fresh {
            for event in waiting.ephemeral {
                self.on_ephemeral(event)?;
            }
        }
        self.outputs.push(Output::Answer(waiting.ticket));
        Ok(())
    }

    /// Takes in an event of somebody else, whichever way it came. `false`: it was handled before.
    fn take_event(&mut self, event: &RoomEvent) -> Result<bool, StoreError> {
        if self.is_nobodys(event)? {
            // It may have been said in a portal's room that was made and is not known yet: not handled, it is found there later.
            return Ok(true);
        }
        let new = self.bridge.store.note_event(&event.id)?;
        if new && !self.on_puppet_event(event)? {
            self.on_event(event)?;
        }
        Ok(new)
    }

    fn sweep_after(&mut self, pause: u64) {
        self.timers.retain(|(_, timer)| *timer != Timer::Sweep);
        self.set_timer(pause, Timer::Sweep);
    }

    /// Every portal is read, those too that were read just now.
    fn sweep_all_after(&mut self, pause: u64) {
        self.review.sweep.clear();
        self.sweep_after(pause);
    }

    /// Reads one more of the portals, or begins with the first.
    pub(super) fn sweep(&mut self) -> Result<(), StoreError> {
        if self.review.sweep.is_empty() {
            for login in self.bridge.store.logins()? {
                for (_, portal) in self.bridge.store.portals(&login.id)? {
                    self.review.sweep.extend(portal.room);
                }
            }
        }
        if let Some(room) = self.review.sweep.pop_front() {
            self.read_room(&room);
        }
        let now = self.bridge.now.uptime;
        if !self.review.sweep.is_empty() || take(&mut self.review.anew) {
            self.sweep_after(PACE);
        } else if let Some(until) = self.review.until.filter(|until| *until > now) {
            // A gap has hastened this one: there is one more when the doubt ends.
            self.sweep_after(until - now);
        }
        Ok(())
    }
}
