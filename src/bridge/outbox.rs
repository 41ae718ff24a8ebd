//! The outbox's state in memory: which lanes have debts, how far each has been handed out, and when it may go on.
//!
//! It can be rebuilt from the store at any time; nothing is known only here that a crash may not forget.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

use crate::{
    domain::{
        DebtId, LoginId, Timestamp,
        effect::{Debt, Lane},
    },
    store::{Store, StoreError},
};

/// First pause after a failure, in milliseconds; it doubles with each further one.
const FIRST_PAUSE: u64 = 1_000;
/// Longest pause between two tries.
const LONGEST_PAUSE: u64 = 5 * 60 * 1_000;

/// Room that is kept though few lanes need it, in lanes.
const ROOM: usize = 1024;

/// The kinds of lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "those of Lane")]
pub enum Kind {
    ToMatrix,
    ToXmpp,
    Ghost,
    Login,
    Management,
    Space,
    Person,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::ToMatrix, Self::ToXmpp, Self::Ghost, Self::Login, Self::Management, Self::Space, Self::Person];

    /// The label in the metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::ToMatrix => "to_matrix",
            Self::ToXmpp => "to_xmpp",
            Self::Ghost => "ghost",
            Self::Login => "login",
            Self::Management => "management",
            Self::Space => "space",
            Self::Person => "person",
        }
    }

    fn of(lane: &Lane) -> Self {
        match lane {
            Lane::ToMatrix(_) => Self::ToMatrix,
            Lane::ToXmpp(_) => Self::ToXmpp,
            Lane::Ghost(_) => Self::Ghost,
            Lane::Login(_) => Self::Login,
            Lane::Management(_) => Self::Management,
            Lane::Space(_) => Self::Space,
            Lane::Person(_) => Self::Person,
        }
    }
}

/// Who pays the debts of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payer {
    /// A login's stream.
    Stream,
    /// The homeserver, which takes only so many requests at once.
    Homeserver,
}

/// The login whose stream pays a lane; `None`: the homeserver does.
pub fn stream_of(lane: &Lane) -> Option<&LoginId> {
    match lane {
        Lane::ToXmpp(contact) => Some(&contact.login),
        Lane::Login(login) => Some(login),
        Lane::ToMatrix(_) | Lane::Ghost(_) | Lane::Management(_) | Lane::Space(_) | Lane::Person(_) => None,
    }
}

/// A lane that has debts.
#[derive(Debug, Default)]
struct LaneState {
    /// Its debts, in order.
    debts: BTreeSet<DebtId>,
    /// The last debt that was handed out and is not back yet. To Matrix there is one at a time; to XMPP many.
    handed_out: Option<DebtId>,
    /// Failures of a debt in a row: of the head, or of one that must be prepared before it is handed out.
    failures: u32,
    /// The head may have been paid by a try whose outcome is not known.
    doubtful: bool,
    /// Which.
    failing: Option<DebtId>,
    /// Not before this uptime.
    not_before: u64,
    /// Stands in the queue of ready lanes.
    queued: bool,
}

/// Which lanes may be paid.
#[derive(Debug, Default)]
pub struct Outbox {
    lanes: HashMap<Lane, LaneState>,
    /// The lanes that each login's stream pays: among half a million they are found at once.
    streams: HashMap<LoginId, BTreeSet<Lane>>,
    /// Those of streams that may be paid.
    ready: VecDeque<Lane>,
    /// Those that the homeserver pays. Apart, for while it has enough in hand nobody goes through them.
    asking: VecDeque<Lane>,
    timers: BTreeSet<(u64, Lane)>,
    waiting: HashMap<DebtId, Vec<Lane>>,
    /// What is owed, each with the kind of its lane.
    unpaid: HashMap<DebtId, Kind>,
    /// The same for each kind, with when it was made.
    waiting_by: [BTreeMap<DebtId, Timestamp>; Kind::ALL.len()],
}

impl Outbox {
    /// Reads what is owed, after a start.
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        let mut outbox = Self::default();
        for debt in store.debts()? {
            outbox.added(&debt);
        }
        // The process before may have tried the first of each.
        outbox.lanes.values_mut().for_each(|state| state.doubtful = true);
        Ok(outbox)
    }

    /// A debt was made.
    pub fn added(&mut self, debt: &Debt) {
        let kind = Kind::of(&debt.lane);
        self.unpaid.insert(debt.id, kind);
        self.waiting_by[kind as usize].insert(debt.id, debt.made);
        self.lanes.entry(debt.lane.clone()).or_default().debts.insert(debt.id);
        if let Some(login) = stream_of(&debt.lane) {
            self.streams.entry(login.clone()).or_default().insert(debt.lane.clone());
        }
        self.wake(&debt.lane);
    }

    /// How many debts there are.
    pub fn len(&self) -> usize {
        self.unpaid.len()
    }

    /// Is nothing owed?
    pub fn is_empty(&self) -> bool {
        self.unpaid.is_empty()
    }

    /// Is this debt still owed?
    pub fn owes(&self, debt: DebtId) -> bool {
        self.unpaid.contains_key(&debt)
    }

    /// How many debts stand in lanes of a kind, and when the oldest of them was made.
    pub fn waiting(&self, kind: Kind) -> (usize, Option<Timestamp>) {
        let waiting = &self.waiting_by[kind as usize];
        // Their ids rise as they are made.
        (waiting.len(), waiting.first_key_value().map(|(_, made)| *made))
    }

    fn strike(&mut self, debt: DebtId) {
        if let Some(kind) = self.unpaid.remove(&debt) {
            self.waiting_by[kind as usize].remove(&debt);
        }
    }

    /// A lane that may have something to pay; each is given once until it is woken again.
    pub fn next_ready(&mut self, payer: Payer) -> Option<Lane> {
        loop {
            let lane = self.queue(payer).pop_front()?;
            // One that was emptied while it stood there stays in the queue; if it has debts again, it stands there twice.
            if let Some(state) = self.lanes.get_mut(&lane)
                && std::mem::take(&mut state.queued)
            {
                return Some(lane);
            }
        }
    }

    /// The first debt of a lane after the given one.
    pub fn next(&self, lane: &Lane, after: Option<DebtId>) -> Option<DebtId> {
        let debts = &self.lanes.get(lane)?.debts;
        match after {
            Some(after) => debts.range((Bound::Excluded(after), Bound::Unbounded)).next().copied(),
            None => debts.first().copied(),
        }
    }

    /// How many lanes stand in the queue.
    pub fn ready(&mut self, payer: Payer) -> usize {
        self.queue(payer).len()
    }

    fn queue(&mut self, payer: Payer) -> &mut VecDeque<Lane> {
        match payer {
            Payer::Stream => &mut self.ready,
            Payer::Homeserver => &mut self.asking,
        }
    }

    /// Puts a lane back into the queue.
    pub fn wake(&mut self, lane: &Lane) {
        if let Some(state) = self.lanes.get_mut(lane)
            && !state.queued
        {
            state.queued = true;
            let queue = if stream_of(lane).is_some() { &mut self.ready } else { &mut self.asking };
            queue.push_back(lane.clone());
        }
    }

    /// What stood in the way of the lane's head is gone: it is tried again at once.
    pub fn urge(&mut self, lane: &Lane) {
        if let Some(state) = self.lanes.get_mut(lane) {
            state.not_before = 0;
        }
        self.wake(lane);
    }

    /// Wakes the lanes of a login's stream, in order: it has come up, or takes more again.
    pub fn wake_stream(&mut self, login: &LoginId) {
        for lane in self.streams.get(login).cloned().unwrap_or_default() {
            self.wake(&lane);
        }
    }

    /// The lanes that have debts and fit, in order.
    pub fn lanes_where(&self, fits: impl Fn(&Lane) -> bool) -> Vec<Lane> {
        // A map's own order differs from run to run; a run must be one that can be played again.
        let mut lanes: Vec<Lane> = self.lanes.keys().filter(|lane| fits(lane)).cloned().collect();
        lanes.sort_unstable();
        lanes
    }

    /// The last debt of the lane that is on its way.
    pub fn handed_out(&self, lane: &Lane) -> Option<DebtId> {
        self.lanes.get(lane).and_then(|state| state.handed_out)
    }

    /// May the lane be paid at this uptime?
    pub fn may_go(&self, lane: &Lane, uptime: u64) -> bool {
        self.lanes.get(lane).is_some_and(|state| state.not_before <= uptime)
    }

    /// A debt was handed to a shell.
    pub fn hand_out(&mut self, lane: &Lane, debt: DebtId) {
        if let Some(state) = self.lanes.get_mut(lane) {
            state.handed_out = Some(debt);
        }
    }

    /// What was handed out will not come back (its stream is gone): it is to be handed out anew.
    pub fn take_back(&mut self, lane: &Lane) {
        if let Some(state) = self.lanes.get_mut(lane) {
            state.handed_out = None;
        }
        self.wake(lane);
    }

    /// A debt is paid or given up.
    pub fn removed(&mut self, lane: &Lane, debt: DebtId) {
        self.strike(debt);
        if let Some(state) = self.lanes.get_mut(lane) {
            state.debts.remove(&debt);
            if state.debts.is_empty() {
                self.lanes.remove(lane);
                self.unlist(lane);
            }
        }
        if let Some(state) = self.lanes.get_mut(lane) {
            if state.handed_out == Some(debt) {
                state.handed_out = None;
            }
            state.doubtful = false;
            // One that was on its way before says nothing of the one that fails.
            if state.failing.is_none_or(|failing| failing == debt) {
                state.failures = 0;
                state.not_before = 0;
                state.failing = None;
            }
            self.wake(lane);
        }
        for lane in self.waiting.remove(&debt).unwrap_or_default() {
            self.wake(&lane);
        }
        self.give_back();
    }

    /// The room that a burst took: a sign-in owes the homeserver every contact of a roster at once.
    fn give_back(&mut self) {
        let too_much = |length: usize, capacity: usize| capacity > ROOM && length < capacity / 8;
        for queue in [&mut self.ready, &mut self.asking] {
            if too_much(queue.len(), queue.capacity()) {
                queue.shrink_to(queue.len() * 2);
            }
        }
        if too_much(self.lanes.len(), self.lanes.capacity()) {
            self.lanes.shrink_to(self.lanes.len() * 2);
        }
        if too_much(self.unpaid.len(), self.unpaid.capacity()) {
            self.unpaid.shrink_to(self.unpaid.len() * 2);
        }
    }

    fn unlist(&mut self, lane: &Lane) {
        let Some(login) = stream_of(lane) else { return };
        if let Some(lanes) = self.streams.get_mut(login) {
            lanes.remove(lane);
            if lanes.is_empty() {
                self.streams.remove(login);
            }
        }
    }

    /// The lane's head waits for a debt of another lane.
    pub fn wait_for(&mut self, lane: &Lane, debt: DebtId) {
        let lanes = self.waiting.entry(debt).or_default();
        if !lanes.contains(lane) {
            lanes.push(lane.clone());
        }
    }

    /// The lane's head failed and is tried again after a pause: `asked` milliseconds where the other side said so, else
    /// twice the last pause. The pause is spread by the debt's id, so that lanes that failed together do not come back
    /// together.
    pub fn failed(&mut self, lane: &Lane, debt: DebtId, uptime: u64, asked: Option<u64>) {
        if let Some(state) = self.lanes.get_mut(lane) {
            state.handed_out = None;
        }
        self.pause(lane, debt, uptime, asked);
    }

    /// The same for a debt that could not be prepared yet: what is on its way before it stays on its way.
    pub fn pause(&mut self, lane: &Lane, debt: DebtId, uptime: u64, asked: Option<u64>) {
        let Some(state) = self.lanes.get_mut(lane) else { return };
        if state.failing.replace(debt) != Some(debt) {
            state.failures = 0;
        }
        state.failures = state.failures.saturating_add(1);
        state.doubtful = true;
        let pause = FIRST_PAUSE.saturating_mul(1 << (state.failures - 1).min(16)).min(LONGEST_PAUSE);
        let spread = pause / 4;
        let pause = pause - spread / 2 + scatter(debt.0 ^ u64::from(state.failures)) % spread.max(1);
        state.not_before = uptime + asked.unwrap_or(0).max(pause);
        self.timers.insert((state.not_before, lane.clone()));
    }

    /// May the lane's head have been paid already, by a try whose outcome is not known?
    pub fn may_be_paid(&self, lane: &Lane) -> bool {
        self.lanes.get(lane).is_some_and(|state| state.doubtful)
    }

    /// How often the lane's head has failed in a row.
    pub fn failures(&self, lane: &Lane) -> u32 {
        self.lanes.get(lane).map_or(0, |state| state.failures)
    }

    /// Wakes the lanes whose pause is over.
    pub fn tick(&mut self, uptime: u64) {
        while let Some((at, _)) = self.timers.first()
            && *at <= uptime
        {
            if let Some((_, lane)) = self.timers.pop_first() {
                self.wake(&lane);
            }
        }
    }

    /// When the next pause is over.
    pub fn next_wake(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// A debt is given up because its login is gone.
    pub fn forget(&mut self, debt: DebtId) {
        self.strike(debt);
        for lane in self.waiting.remove(&debt).unwrap_or_default() {
            self.wake(&lane);
        }
    }

    /// Forgets the lanes that fit (their login is gone).
    pub fn forget_where(&mut self, fits: impl Fn(&Lane) -> bool) {
        self.lanes.retain(|lane, _| !fits(lane));
        self.streams.retain(|_, lanes| {
            lanes.retain(|lane| !fits(lane));
            !lanes.is_empty()
        });
        self.ready.retain(|lane| !fits(lane));
        self.asking.retain(|lane| !fits(lane));
        self.timers.retain(|(_, lane)| !fits(lane));
    }
}

/// Spreads neighbouring numbers (`SplitMix64`'s finaliser).
pub fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        BareJid,
        effect::{ContactKey, Effect},
    };

    #[test]
    fn pauses_double_up_to_a_bound_and_obey_the_other_side() {
        let lane = Lane::Login(LoginId::derive("a", "b", "c"));
        let mut outbox = Outbox::default();
        outbox.lanes.insert(lane.clone(), LaneState::default());
        let mut last = 0;
        for _ in 0..40 {
            outbox.failed(&lane, DebtId(7), 0, None);
            let at = outbox.lanes[&lane].not_before;
            assert!(at <= LONGEST_PAUSE + LONGEST_PAUSE / 8 && at > last / 2, "{at}");
            last = at;
        }
        outbox.failed(&lane, DebtId(7), 0, Some(3_600_000));
        assert_eq!(outbox.lanes[&lane].not_before, 3_600_000);
        assert!(!outbox.may_go(&lane, 3_599_999) && outbox.may_go(&lane, 3_600_000));
    }

    #[test]
    fn what_a_burst_took_is_given_back() {
        let mut outbox = Outbox::default();
        let login = LoginId::derive("a", "b", "c");
        let debt = |number: u64| Debt {
            id: DebtId(number),
            lane: Lane::Ghost(ContactKey {
                login: login.clone(),
                contact: BareJid::parse(&format!("c{number}@x")).expect("an address"),
            }),
            effect: Effect::RegisterGhost,
            after: None,
            made: Timestamp(0),
            tried: false,
        };
        (0..50_000).for_each(|number| outbox.added(&debt(number)));
        for number in 0..50_000 {
            let lane = outbox.next_ready(Payer::Homeserver).expect("a lane");
            assert_eq!(lane, debt(number).lane);
            outbox.removed(&lane, DebtId(number));
        }
        assert!(outbox.is_empty() && outbox.next_ready(Payer::Homeserver).is_none());
        let kept = [outbox.lanes.capacity(), outbox.unpaid.capacity(), outbox.asking.capacity()];
        assert!(kept.iter().all(|kept| *kept <= 8 * ROOM), "{kept:?}");
    }

    #[test]
    fn what_is_on_its_way_neither_comes_back_with_a_pause_nor_ends_it() {
        let lane = Lane::Login(LoginId::derive("a", "b", "c"));
        let mut outbox = Outbox::default();
        let debts = [7, 8, 9].map(DebtId).into();
        outbox.lanes.insert(lane.clone(), LaneState { debts, ..LaneState::default() });
        outbox.hand_out(&lane, DebtId(7));
        outbox.pause(&lane, DebtId(8), 0, None);
        assert_eq!(outbox.handed_out(&lane), Some(DebtId(7)));
        outbox.removed(&lane, DebtId(7));
        assert_eq!((outbox.failures(&lane), outbox.may_go(&lane, 1), outbox.handed_out(&lane)), (1, false, None));
        outbox.removed(&lane, DebtId(8));
        assert_eq!((outbox.failures(&lane), outbox.may_go(&lane, 1)), (0, true));
    }

    #[test]
    fn what_waits_is_known_by_kind_and_age_without_counting() {
        use crate::domain::effect::Effect;
        let (ours, other) = (LoginId::derive("a", "b", "c"), LoginId::derive("d", "e", "f"));
        let debt = |id: u64, lane: Lane| Debt {
            id: DebtId(id),
            lane,
            effect: Effect::CreateSpace,
            after: None,
            made: Timestamp(i64::try_from(id).unwrap() * 10),
            tried: false,
        };
        let mut outbox = Outbox::default();
        for (id, lane) in [(1, Lane::Login(ours.clone())), (2, Lane::Space(ours)), (3, Lane::Login(other.clone()))] {
            outbox.added(&debt(id, lane));
        }
        assert_eq!(outbox.waiting(Kind::Login), (2, Some(Timestamp(10))));
        assert_eq!(outbox.waiting(Kind::Space), (1, Some(Timestamp(20))));
        outbox.forget(DebtId(1));
        assert_eq!(outbox.waiting(Kind::Login), (1, Some(Timestamp(30))));
        outbox.removed(&Lane::Login(other), DebtId(3));
        assert_eq!((outbox.waiting(Kind::Login), outbox.len()), ((0, None), 1));
    }

    #[test]
    fn the_next_debt_of_a_lane_is_known_in_order_and_an_empty_lane_is_gone() {
        let lane = Lane::Login(LoginId::derive("a", "b", "c"));
        let debt = |id| Debt {
            id: DebtId(id),
            lane: lane.clone(),
            effect: crate::domain::effect::Effect::CreateSpace,
            after: None,
            made: Timestamp(0),
            tried: false,
        };
        let mut outbox = Outbox::default();
        for id in [3, 5, 9] {
            outbox.added(&debt(id));
        }
        let walk = |outbox: &Outbox, after: Option<u64>| outbox.next(&lane, after.map(DebtId)).map(|debt| debt.0);
        assert_eq!(
            [None, Some(3), Some(4), Some(9)].map(|after| walk(&outbox, after)),
            [Some(3), Some(5), Some(5), None]
        );
        outbox.removed(&lane, DebtId(3));
        assert_eq!(walk(&outbox, None), Some(5));
        outbox.removed(&lane, DebtId(9));
        outbox.removed(&lane, DebtId(5));
        assert_eq!((walk(&outbox, None), outbox.lanes.len()), (None, 0));
        // Emptied while it stood in the queue, and filled again: it is given once.
        outbox.added(&debt(11));
        assert_eq!((outbox.next_ready(Payer::Stream), outbox.next_ready(Payer::Stream)), (Some(lane.clone()), None));
    }

    #[test]
    fn lanes_of_a_stream_are_woken_alone_and_stand_apart_from_the_homeservers() {
        use crate::domain::effect::Effect;
        let (ours, other) = (LoginId::derive("a", "b", "c"), LoginId::derive("d", "e", "f"));
        let debt = |id, lane: &Lane| Debt {
            id: DebtId(id),
            lane: lane.clone(),
            effect: Effect::CreateSpace,
            after: None,
            made: Timestamp(0),
            tried: false,
        };
        let lanes = [Lane::Login(ours.clone()), Lane::Login(other.clone()), Lane::Space(ours.clone())];
        let mut outbox = Outbox::default();
        for (id, lane) in (0..).zip(&lanes) {
            outbox.added(&debt(id, lane));
        }
        assert_eq!((outbox.ready(Payer::Stream), outbox.ready(Payer::Homeserver)), (2, 1));
        assert_eq!(outbox.next_ready(Payer::Homeserver), Some(lanes[2].clone()));
        while outbox.next_ready(Payer::Stream).is_some() {}
        outbox.wake_stream(&ours);
        assert_eq!(outbox.next_ready(Payer::Stream), Some(lanes[0].clone()));
        assert_eq!(outbox.next_ready(Payer::Stream), None);
        outbox.removed(&lanes[0], DebtId(0));
        outbox.forget_where(|lane| *lane == lanes[1]);
        outbox.wake_stream(&ours);
        outbox.wake_stream(&other);
        assert_eq!((outbox.ready(Payer::Stream), outbox.streams.len()), (0, 0));
    }

    #[test]
    fn a_lane_stands_in_the_queue_once() {
        let lane = Lane::Login(LoginId::derive("a", "b", "c"));
        let mut outbox = Outbox::default();
        outbox.lanes.insert(lane.clone(), LaneState::default());
        outbox.wake(&lane);
        outbox.wake(&lane);
        assert_eq!(outbox.next_ready(Payer::Stream), Some(lane));
        assert_eq!(outbox.next_ready(Payer::Stream), None);
    }
}
