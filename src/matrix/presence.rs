//! The presence budget: which ghost's presence is sent to the homeserver next.
//!
//! A homeserver forgets a ghost's presence 30 s after it was set, and each refresh is a request. So: changes first, then
//! refreshes, evenly spread within a number of updates per second; none for owners who are not looking; and where there
//! are more ghosts than the budget can keep up, those that were active last win. This file decides and holds no clock:
//! times are milliseconds since some start. [`super::presence_task`] sends.

use std::collections::{BTreeSet, HashMap, HashSet};

use ruma::{OwnedUserId, UserId, presence::PresenceState};

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

#[derive(Debug)]
struct Ghost {
    name: OwnedUserId,
    owner: OwnedUserId,
    state: PresenceState,
    status: Option<String>,
    /// When it was last active: changed or sent.
    active: u64,
    /// When it was last sent, and as what.
    shown: Option<(u64, PresenceState)>,
    /// What is to be shown differs from what was sent.
    dirty: bool,
    in_flight: bool,
    change: Option<u64>,
    refresh: Option<u64>,
    place: Place,
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
    next: u64,
    names: HashMap<OwnedUserId, u64>,
    ghosts: HashMap<u64, Ghost>,
    owners: HashMap<OwnedUserId, HashSet<u64>>,
    watching: HashSet<OwnedUserId>,
    changes: BTreeSet<(u64, u64)>,
    refreshes: BTreeSet<(u64, u64)>,
    kept: BTreeSet<(u64, u64)>,
    spare: BTreeSet<(u64, u64)>,
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
            next: 0,
            names: HashMap::new(),
            ghosts: HashMap::new(),
            owners: HashMap::new(),
            watching: HashSet::new(),
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
        self.ghosts.is_empty()
    }

    /// A ghost's presence, for its owner to see. `false` if there was no room for it ([`GHOSTS`]).
    pub fn set(
        &mut self,
        now: u64,
        ghost: OwnedUserId,
        owner: OwnedUserId,
        state: PresenceState,
        status: Option<String>,
    ) -> bool {
        let status = status.filter(|text| !text.is_empty()).map(|text| text.chars().take(STATUS_LIMIT).collect());
        let id = match self.names.get(&ghost) {
            Some(id) => *id,
            // Nothing of it is shown, so nothing is to be taken back.
            None if state == PresenceState::Offline => return true,
            None if self.ghosts.len() >= GHOSTS => return false,
            None => self.add(ghost, owner.clone(), now),
        };
        let watched = self.watching.contains(&owner);
        let Some(known) = self.ghosts.get_mut(&id) else { return true };
        if known.owner != owner {
            let before = std::mem::replace(&mut known.owner, owner.clone());
            self.disown(&before, id);
            self.owners.entry(owner).or_default().insert(id);
        }
        let Some(known) = self.ghosts.get_mut(&id) else { return true };
        if known.shown.is_some() && known.state == state && known.status == status {
            return true;
        }
        (known.state, known.status, known.dirty) = (state, status, true);
        if known.state != PresenceState::Offline {
            self.touch(id, now);
            self.schedule(id, now);
            return true;
        }
        // A busy ghost stays busy for an hour, everything else is forgotten by the homeserver at once.
        let lasting = matches!(&known.shown, Some((_, shown)) if shown.as_str() == BUSY);
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
    pub fn watch(&mut self, now: u64, owner: OwnedUserId, watching: bool) {
        let ids: Vec<u64> = self.owners.get(&owner).into_iter().flatten().copied().collect();
        if !watching {
            self.watching.remove(&owner);
        } else if self.watching.len() < GHOSTS {
            self.watching.insert(owner);
        }
        for id in ids {
            self.settle(id);
            self.schedule(id, now);
        }
    }

    /// A ghost sent a message or typed: the homeserver now shows it as online, so away is said again soon.
    pub fn note_activity(&mut self, now: u64, ghost: &UserId) {
        let Some(id) = self.names.get(ghost).copied() else { return };
        let Some(known) = self.ghosts.get_mut(&id) else { return };
        if known.state == PresenceState::Offline {
            return;
        }
        if matches!(&known.shown, Some((_, PresenceState::Unavailable))) {
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
        let Some(ghost) = self.ghosts.get_mut(&id) else { return Step::Idle };
        let state = spelled(&ghost.state, busy);
        (ghost.shown, ghost.dirty, ghost.in_flight) = (Some((now, state.clone())), false, true);
        Step::Send(Put { ghost: ghost.name.clone(), state, status: ghost.status.clone() })
    }

    /// How sending went. A failed update is tried again; the end of a ghost's presence is not, for the homeserver forgets
    /// it by itself.
    pub fn done(&mut self, now: u64, ghost: &UserId, sent: bool) {
        let Some(id) = self.names.get(ghost).copied() else { return };
        let Some(known) = self.ghosts.get_mut(&id) else { return };
        known.in_flight = false;
        if known.state == PresenceState::Offline && !known.dirty {
            return self.forget(id);
        }
        // What changed meanwhile is news, not a repetition.
        let again = if sent || known.dirty { now } else { now + RETRY };
        known.dirty |= !sent;
        self.schedule(id, again);
    }

    fn add(&mut self, name: OwnedUserId, owner: OwnedUserId, now: u64) -> u64 {
        let id = self.next;
        self.next += 1;
        self.names.insert(name.clone(), id);
        self.owners.entry(owner.clone()).or_default().insert(id);
        let (state, place) = (PresenceState::Offline, Place::Out);
        let ghost = Ghost {
            name,
            owner,
            state,
            status: None,
            active: now,
            shown: None,
            dirty: true,
            in_flight: false,
            change: None,
            refresh: None,
            place,
        };
        self.ghosts.insert(id, ghost);
        id
    }

    fn forget(&mut self, id: u64) {
        self.put_in(id, Place::Out);
        self.unschedule(id);
        if let Some(ghost) = self.ghosts.remove(&id) {
            self.names.remove(&ghost.name);
            self.disown(&ghost.owner, id);
        }
    }

    fn disown(&mut self, owner: &UserId, id: u64) {
        if let Some(ids) = self.owners.get_mut(owner) {
            ids.remove(&id);
            if ids.is_empty() {
                self.owners.remove(owner);
            }
        }
    }

    fn touch(&mut self, id: u64, now: u64) {
        self.put_in(id, Place::Out);
        if let Some(ghost) = self.ghosts.get_mut(&id) {
            ghost.active = now;
        }
        self.settle(id);
    }

    /// Puts a ghost where it belongs, moving the least recently active one out of the budget if there is no room.
    fn settle(&mut self, id: u64) {
        let Some(ghost) = self.ghosts.get(&id) else { return };
        if ghost.state == PresenceState::Offline || !self.watching.contains(&ghost.owner) {
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

    fn put_in(&mut self, id: u64, place: Place) {
        let Some(ghost) = self.ghosts.get_mut(&id) else { return };
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
    fn schedule(&mut self, id: u64, due: u64) {
        let Some(ghost) = self.ghosts.get_mut(&id) else { return };
        if let Some(before) = ghost.change.take() {
            self.changes.remove(&(before, id));
        }
        let wanted = self.watching.contains(&ghost.owner) || ghost.state == PresenceState::Offline;
        if ghost.dirty && wanted && !ghost.in_flight {
            let due = ghost.shown.as_ref().map_or(due, |(at, _)| due.max(at + SPACING));
            ghost.change = Some(due);
            self.changes.insert((due, id));
        }
        self.reschedule(id);
    }

    /// Queues the ghost's refresh if it is kept and has no change to be sent.
    fn reschedule(&mut self, id: u64) {
        let Some(ghost) = self.ghosts.get_mut(&id) else { return };
        if let Some(before) = ghost.refresh.take() {
            self.refreshes.remove(&(before, id));
        }
        if let (Place::Kept, false, None, Some((at, _))) = (ghost.place, ghost.in_flight, ghost.change, &ghost.shown) {
            let due = at + REFRESH_AFTER;
            ghost.refresh = Some(due);
            self.refreshes.insert((due, id));
        }
    }

    fn unschedule(&mut self, id: u64) {
        let Some(ghost) = self.ghosts.get_mut(&id) else { return };
        if let Some(due) = ghost.change.take() {
            self.changes.remove(&(due, id));
        }
        if let Some(due) = ghost.refresh.take() {
            self.refreshes.remove(&(due, id));
        }
    }
}

/// As the homeserver spells it: busy in its own word where it has one, else away.
fn spelled(state: &PresenceState, busy: bool) -> PresenceState {
    match state {
        PresenceState::Online | PresenceState::Unavailable | PresenceState::Offline => state.clone(),
        other if busy && other.as_str().ends_with("busy") => PresenceState::from(BUSY),
        _ => PresenceState::Unavailable,
    }
}

#[cfg(test)]
#[path = "presence_tests.rs"]
mod tests;
