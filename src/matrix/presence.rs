//! The presence budget: which ghost's presence is sent to the homeserver next.
//!
//! A homeserver forgets a ghost's presence 30 s after it was set, and each refresh is a request. So: changes first, then
//! refreshes, evenly spread within a number of updates per second; none for owners who are not looking; and where there
//! are more ghosts than the budget can keep up, those that were active last win. This file decides and holds no clock:
//! times are milliseconds since some start. [`super::presence_task`] sends.

use std::collections::BTreeSet;

use ruma::{OwnedUserId, UserId, presence::PresenceState};

use super::named::{Named, Table};

/// A kept ghost is refreshed when so long has passed since its last update.
pub const REFRESH_AFTER: u64 = 20_000;

/// A kept ghost's refresh is never later than this, as long as changes take no more than a fifth of the budget. Below the
/// 30 s (`sync_online_timeout`) after which Synapse shows it offline.
pub const ROUND: u64 = 25_000;

/// Ghosts kept in mind; a further one is not shown, and counted.
pub const GHOSTS: usize = 100_000;

/// Characters of a status text that are kept.
pub const STATUS_LIMIT: usize = 1_000;

/// One ghost is not updated more often: a contact that flickers must not use up the budget of the others.
const SPACING: u64 = 1_000;

/// A failed update is tried again after this.
const RETRY: u64 = 5_000;

/// Synapse shows a ghost that sends as online a moment *after* it answered.
const REASSERT: u64 = 500;

/// What Synapse calls busy (MSC3026).
const BUSY: &str = "org.matrix.msc3026.busy";

/// One update to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Whose.
    pub ghost: OwnedUserId,
    /// The state.
    pub state: PresenceState,
    /// The status text: repeated in each update, for an update without it erases it.
    pub status: Option<String>,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this and report with [`Budget::done`].
    Send(Put),
    /// Nothing before this time.
    Until(u64),
    /// Nothing until something changes.
    Idle,
}

/// What a ghost is to be, in a byte: there may be many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Online,
    Away,
    Busy,
    Offline,
}

impl Seen {
    fn of(state: &PresenceState) -> Self {
        match state {
            PresenceState::Online => Self::Online,
            PresenceState::Offline => Self::Offline,
            PresenceState::Unavailable => Self::Away,
            other if other.as_str().ends_with("busy") => Self::Busy,
            _ => Self::Away,
        }
    }

    /// As a homeserver has it that knows busy, or does not.
    fn shown(self, busy: bool) -> Self {
        if self == Self::Busy && !busy { Self::Away } else { self }
    }

    /// As the homeserver spells it.
    fn spelled(self) -> PresenceState {
        match self {
            Self::Online => PresenceState::Online,
            Self::Away => PresenceState::Unavailable,
            Self::Busy => PresenceState::from(BUSY),
            Self::Offline => PresenceState::Offline,
        }
    }
}

/// Stands for a time where there is none: an `Option` would take twice the room.
const NEVER: u64 = u64::MAX;

/// Small, for fifty thousand of them are no rarity.
#[derive(Debug)]
struct Ghost {
    name: Box<str>,
    status: Option<Box<str>>,
    /// When it was last active: changed or sent.
    active: u64,
    /// When it was last sent, if ever.
    shown_at: u64,
    /// When its change is due, or [`NEVER`].
    change: u64,
    /// When its refresh is due, or [`NEVER`].
    refresh: u64,
    owner: u32,
    state: Seen,
    /// As what it was last sent.
    shown: Option<Seen>,
    /// What is to be shown differs from what was sent.
    dirty: bool,
    in_flight: bool,
    place: Place,
}

impl Named for Ghost {
    fn name(&self) -> &str {
        &self.name
    }
}

/// Kept while it looks or has ghosts.
#[derive(Debug)]
struct Owner {
    name: Box<str>,
    watching: bool,
    ghosts: Vec<u32>,
}

impl Named for Owner {
    fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Not to be refreshed: offline, or its owner does not look.
    Out,
    Kept,
    Spare,
}

/// See the module.
#[derive(Debug)]
pub struct Budget {
    /// Microseconds from one update to the next.
    interval: u64,
    /// The next update is not before this, in microseconds.
    slot: u64,
    /// How many ghosts can be kept up.
    room: usize,
    presence: bool,
    busy: bool,
    ghosts: Table<Ghost>,
    owners: Table<Owner>,
    changes: BTreeSet<(u64, u32)>,
    refreshes: BTreeSet<(u64, u32)>,
    kept: BTreeSet<(u64, u32)>,
    spare: BTreeSet<(u64, u32)>,
}

impl Budget {
    /// Nothing is sent until [`Budget::homeserver`] says that the homeserver keeps presence. `updates_per_second` is
    /// taken as at least 1 and at most 1,000.
    pub fn new(updates_per_second: u32) -> Self {
        let rate = u64::from(updates_per_second.clamp(1, 1_000));
        Self {
            interval: 1_000_000 / rate,
            slot: 0,
            room: usize::try_from(rate * REFRESH_AFTER / 1_000).unwrap_or(usize::MAX),
            presence: false,
            busy: false,
            ghosts: Table::default(),
            owners: Table::default(),
            changes: BTreeSet::new(),
            refreshes: BTreeSet::new(),
            kept: BTreeSet::new(),
            spare: BTreeSet::new(),
        }
    }

    /// What the homeserver can do: keep presence at all, and show someone as busy.
    pub fn homeserver(&mut self, presence: bool, busy: bool) {
        (self.presence, self.busy) = (presence, busy);
    }

    /// How many ghosts should be shown but are beyond the budget.
    pub fn without(&self) -> usize {
        if self.presence { self.spare.len() } else { 0 }
    }

    /// How many ghosts are kept in mind.
    pub fn len(&self) -> usize {
        self.ghosts.len()
    }

    /// No ghost is.
    pub fn is_empty(&self) -> bool {
        self.ghosts.len() == 0
    }

    /// A ghost's presence, for its owner to see. `false` if there was no room for it ([`GHOSTS`]).
    pub fn set(
        &mut self,
        now: u64,
        ghost: &UserId,
        owner: &UserId,
        state: &PresenceState,
        status: Option<&str>,
    ) -> bool {
        let status: Option<Box<str>> =
            status.filter(|text| !text.is_empty()).map(|text| text.chars().take(STATUS_LIMIT).collect());
        let state = Seen::of(state);
        let id = match self.ghosts.find(ghost.as_str()) {
            Some(id) => id,
            // Nothing of it is shown, so nothing is to be taken back.
            None if state == Seen::Offline => return true,
            None if self.ghosts.len() >= GHOSTS => return false,
            None => self.add(ghost.as_str(), owner.as_str(), now),
        };
        let owner = self.owner(owner.as_str());
        let watched = self.watches(owner);
        let Some(known) = self.ghosts.get_mut(id) else { return true };
        let before = std::mem::replace(&mut known.owner, owner);
        if before != owner {
            self.disown(before, id);
            self.own(owner, id);
        }
        let Some(known) = self.ghosts.get_mut(id) else { return true };
        if known.shown.is_some() && known.state == state && known.status == status {
            return true;
        }
        (known.state, known.status, known.dirty) = (state, status, true);
        if known.state != Seen::Offline {
            self.touch(id, now);
            self.schedule(id, now);
            return true;
        }
        // A busy ghost stays busy for an hour, everything else is forgotten by the homeserver at once.
        let lasting = known.shown == Some(Seen::Busy);
        let tell = known.in_flight || (known.shown.is_some() && (watched || lasting));
        self.put_in(id, Place::Out);
        if tell {
            self.schedule(id, now);
        } else {
            self.forget(id);
        }
        true
    }

    /// An owner looks, or no longer does.
    pub fn watch(&mut self, now: u64, owner: &UserId, watching: bool) {
        let known = match self.owners.find(owner.as_str()) {
            None if !watching || self.owners.len() >= GHOSTS => return,
            None => self.owner(owner.as_str()),
            Some(known) => known,
        };
        let Some(owner) = self.owners.get_mut(known) else { return };
        owner.watching = watching;
        let ids = owner.ghosts.clone();
        self.let_owner_go(known);
        for id in ids {
            self.settle(id);
            self.schedule(id, now);
        }
    }

    /// A ghost sent a message or typed: the homeserver now shows it as online, so away is said again soon.
    pub fn note_activity(&mut self, now: u64, ghost: &UserId) {
        let Some(id) = self.ghosts.find(ghost.as_str()) else { return };
        let Some(known) = self.ghosts.get_mut(id) else { return };
        if known.state == Seen::Offline {
            return;
        }
        if known.shown == Some(Seen::Away) {
            known.dirty = true;
        }
        self.touch(id, now);
        self.schedule(id, now + REASSERT);
    }

    /// The homeserver asked to wait.
    pub fn pause(&mut self, now: u64, for_millis: u64) {
        self.slot = self.slot.max(now.saturating_add(for_millis.min(60_000)).saturating_mul(1_000));
    }

    /// What to do now. Each [`Step::Send`] must be followed by a [`Budget::done`] for that ghost.
    pub fn step(&mut self, now: u64) -> Step {
        if !self.presence {
            return Step::Idle;
        }
        let now_micros = now.saturating_mul(1_000);
        let first = match (self.changes.first(), self.refreshes.first()) {
            (Some(&change), refresh) if change.0 <= now || refresh.is_none_or(|refresh| change.0 <= refresh.0) => {
                Some(change)
            }
            (_, refresh) => refresh.copied(),
        };
        let Some((due, id)) = first else { return Step::Idle };
        let due = due.max(self.slot.div_ceil(1_000));
        if due > now {
            return Step::Until(due);
        }
        self.slot = self.slot.max(now_micros.saturating_sub(self.interval)) + self.interval;
        self.unschedule(id);
        let busy = self.busy;
        let Some(ghost) = self.ghosts.get_mut(id) else { return Step::Idle };
        let state = ghost.state.shown(busy);
        (ghost.shown_at, ghost.shown, ghost.dirty, ghost.in_flight) = (now, Some(state), false, true);
        let status = ghost.status.as_deref().map(str::to_owned);
        if let Ok(ghost) = UserId::parse(&*ghost.name) {
            return Step::Send(Put { ghost, state: state.spelled(), status });
        }
        // It was an MXID when it came in.
        self.forget(id);
        Step::Until(now)
    }

    /// How sending went. A failed update is tried again; the end of a ghost's presence is not, for the homeserver forgets
    /// it by itself.
    pub fn done(&mut self, now: u64, ghost: &UserId, sent: bool) {
        let Some(id) = self.ghosts.find(ghost.as_str()) else { return };
        let Some(known) = self.ghosts.get_mut(id) else { return };
        known.in_flight = false;
        if known.state == Seen::Offline && !known.dirty {
            return self.forget(id);
        }
        // What changed meanwhile is news, not a repetition.
        let again = if sent || known.dirty { now } else { now + RETRY };
        known.dirty |= !sent;
        self.schedule(id, again);
    }

    fn add(&mut self, name: &str, owner: &str, now: u64) -> u32 {
        let owner = self.owner(owner);
        let id = self.ghosts.insert(Ghost {
            name: name.into(),
            status: None,
            active: now,
            shown_at: 0,
            change: NEVER,
            refresh: NEVER,
            owner,
            state: Seen::Offline,
            shown: None,
            dirty: true,
            in_flight: false,
            place: Place::Out,
        });
        self.own(owner, id);
        id
    }

    fn forget(&mut self, id: u32) {
        self.put_in(id, Place::Out);
        self.unschedule(id);
        if let Some(ghost) = self.ghosts.remove(id) {
            self.disown(ghost.owner, id);
        }
    }

    /// The owner of this name, who may be new.
    fn owner(&mut self, name: &str) -> u32 {
        let known = self.owners.find(name);
        let new = || Owner { name: name.into(), watching: false, ghosts: Vec::new() };
        known.unwrap_or_else(|| self.owners.insert(new()))
    }

    fn watches(&self, owner: u32) -> bool {
        self.owners.get(owner).is_some_and(|owner| owner.watching)
    }

    fn own(&mut self, owner: u32, id: u32) {
        if let Some(owner) = self.owners.get_mut(owner) {
            owner.ghosts.push(id);
        }
    }

    fn disown(&mut self, owner: u32, id: u32) {
        if let Some(owner) = self.owners.get_mut(owner) {
            owner.ghosts.retain(|known| *known != id);
        }
        self.let_owner_go(owner);
    }

    /// Forgets an owner who does not look and has no ghosts.
    fn let_owner_go(&mut self, owner: u32) {
        if self.owners.get(owner).is_some_and(|owner| !owner.watching && owner.ghosts.is_empty()) {
            self.owners.remove(owner);
        }
    }

    fn touch(&mut self, id: u32, now: u64) {
        self.put_in(id, Place::Out);
        if let Some(ghost) = self.ghosts.get_mut(id) {
            ghost.active = now;
        }
        self.settle(id);
    }

    /// Puts a ghost where it belongs, moving the least recently active one out of the budget if there is no room.
    fn settle(&mut self, id: u32) {
        let Some(ghost) = self.ghosts.get(id) else { return };
        if ghost.state == Seen::Offline || !self.watches(ghost.owner) {
            return self.put_in(id, Place::Out);
        }
        if ghost.place != Place::Out {
            return;
        }
        self.put_in(id, Place::Kept);
        if self.kept.len() > self.room
            && let Some(&(_, least)) = self.kept.first()
        {
            self.put_in(least, Place::Spare);
        }
    }

    fn put_in(&mut self, id: u32, place: Place) {
        let Some(ghost) = self.ghosts.get_mut(id) else { return };
        let before = std::mem::replace(&mut ghost.place, place);
        if before == place {
            return;
        }
        let key = (ghost.active, id);
        match before {
            Place::Kept => self.kept.remove(&key),
            Place::Spare => self.spare.remove(&key),
            Place::Out => false,
        };
        match place {
            Place::Kept => self.kept.insert(key),
            Place::Spare => self.spare.insert(key),
            Place::Out => false,
        };
        self.reschedule(id);
        if before == Place::Kept
            && place == Place::Out
            && let Some(&(_, best)) = self.spare.last()
        {
            self.put_in(best, Place::Kept);
        }
    }

    /// Queues the ghost's change, not before `due`, if there is one to be sent; and its refresh.
    fn schedule(&mut self, id: u32, due: u64) {
        let Some(ghost) = self.ghosts.get(id) else { return };
        let wanted = self.watches(ghost.owner) || ghost.state == Seen::Offline;
        let Some(ghost) = self.ghosts.get_mut(id) else { return };
        self.changes.remove(&(std::mem::replace(&mut ghost.change, NEVER), id));
        if ghost.dirty && wanted && !ghost.in_flight {
            ghost.change = if ghost.shown.is_some() { due.max(ghost.shown_at + SPACING) } else { due };
            self.changes.insert((ghost.change, id));
        }
        self.reschedule(id);
    }

    /// Queues the ghost's refresh if it is kept and has no change to be sent.
    fn reschedule(&mut self, id: u32) {
        let Some(ghost) = self.ghosts.get_mut(id) else { return };
        self.refreshes.remove(&(std::mem::replace(&mut ghost.refresh, NEVER), id));
        let kept = ghost.place == Place::Kept && ghost.shown.is_some();
        if kept && !ghost.in_flight && ghost.change == NEVER {
            ghost.refresh = ghost.shown_at + REFRESH_AFTER;
            self.refreshes.insert((ghost.refresh, id));
        }
    }

    fn unschedule(&mut self, id: u32) {
        let Some(ghost) = self.ghosts.get_mut(id) else { return };
        self.changes.remove(&(std::mem::replace(&mut ghost.change, NEVER), id));
        self.refreshes.remove(&(std::mem::replace(&mut ghost.refresh, NEVER), id));
    }
}

#[cfg(test)]
#[path = "presence_tests.rs"]
mod tests;
