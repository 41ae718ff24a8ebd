//! Tests of the presence budget.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

fn user(name: &str) -> OwnedUserId {
    OwnedUserId::try_from(format!("@{name}:h")).unwrap()
}

fn budget(rate: u32) -> Budget {
    let mut budget = Budget::new(rate);
    budget.homeserver(true, false);
    budget.watch(0, &user("owner"), true);
    budget
}

/// Runs from `from` to `until` with a homeserver that takes everything at once; gives the time of each update.
fn run(budget: &mut Budget, from: u64, until: u64) -> Vec<(u64, Put)> {
    let (mut now, mut sent) = (from, Vec::new());
    while now < until {
        match budget.step(now) {
            Step::Send(put) => {
                budget.done(now, &put.ghost, true);
                sent.push((now, put));
            }
            Step::Until(at) => {
                assert!(at > now, "time must pass");
                now = at;
            }
            Step::Idle => break,
        }
    }
    sent
}

fn set(budget: &mut Budget, now: u64, ghost: &str, state: &PresenceState, status: Option<&str>) {
    assert!(budget.set(now, &user(ghost), &user("owner"), state, status));
}

#[test]
fn a_refresh_repeats_state_and_status_in_time() {
    let mut budget = budget(20);
    set(&mut budget, 0, "a", &PresenceState::Unavailable, Some("at lunch"));
    let sent = run(&mut budget, 0, 100_000);
    assert!(sent.len() >= 5);
    for pair in sent.windows(2) {
        assert!(pair[1].0 - pair[0].0 <= ROUND);
    }
    assert!(sent.iter().all(|(_, put)| put.status.as_deref() == Some("at lunch")));
    assert!(sent.iter().all(|(_, put)| put.state == PresenceState::Unavailable));
}

#[test]
fn offline_is_said_once_and_then_forgotten() {
    let mut budget = budget(20);
    set(&mut budget, 0, "a", &PresenceState::Online, None);
    run(&mut budget, 0, 5_000);
    set(&mut budget, 5_000, "a", &PresenceState::Offline, None);
    let sent = run(&mut budget, 5_000, 200_000);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1.state, PresenceState::Offline);
    assert!(budget.is_empty());
    set(&mut budget, 200_000, "b", &PresenceState::Offline, None);
    assert!(budget.is_empty() && budget.step(200_000) == Step::Idle);
}

#[test]
fn an_owner_who_does_not_look_gets_none_and_everything_on_return() {
    let mut budget = budget(20);
    budget.watch(0, &user("owner"), false);
    set(&mut budget, 0, "a", &PresenceState::Online, Some("x"));
    assert_eq!(budget.step(1_000), Step::Idle);
    budget.watch(2_000, &user("owner"), true);
    assert_eq!(run(&mut budget, 2_000, 3_000).len(), 1);
    budget.watch(3_000, &user("owner"), false);
    assert!(run(&mut budget, 3_000, 90_000).is_empty());
    budget.watch(90_000, &user("owner"), true);
    assert_eq!(run(&mut budget, 90_000, 91_000).len(), 1);
}

#[test]
fn a_homeserver_without_presence_gets_nothing() {
    let mut budget = Budget::new(20);
    budget.watch(0, &user("owner"), true);
    set(&mut budget, 0, "a", &PresenceState::Online, None);
    assert_eq!(budget.step(0), Step::Idle);
    budget.homeserver(true, false);
    assert_eq!(run(&mut budget, 1_000, 2_000).len(), 1);
    budget.homeserver(false, false);
    assert_eq!(budget.step(60_000), Step::Idle);
    assert_eq!(budget.without(), 0);
}

#[test]
fn away_is_said_again_after_the_ghost_sent() {
    let mut budget = budget(20);
    set(&mut budget, 0, "away", &PresenceState::Unavailable, Some("s"));
    set(&mut budget, 0, "there", &PresenceState::Online, None);
    run(&mut budget, 0, 5_000);
    budget.note_activity(5_000, &user("away"));
    budget.note_activity(5_000, &user("there"));
    budget.note_activity(5_000, &user("stranger"));
    let sent = run(&mut budget, 5_000, 10_000);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].0, sent[0].1.ghost.as_str(), sent[0].1.status.as_deref()), (5_500, "@away:h", Some("s")));
}

#[test]
fn beyond_the_budget_the_most_recently_active_win() {
    let mut budget = budget(1);
    for n in 0..30_u64 {
        set(&mut budget, n * 1_000, &format!("g{n}"), &PresenceState::Online, None);
        run(&mut budget, n * 1_000, n * 1_000 + 1_000);
    }
    assert_eq!(budget.without(), 10);
    budget.note_activity(60_000, &user("g0"));
    assert_eq!(budget.without(), 10);
    let sent = run(&mut budget, 60_000, 120_000);
    assert!(sent.iter().any(|(_, put)| put.ghost == user("g0")));
    assert!(!sent.iter().any(|(_, put)| put.ghost == user("g1")));
    set(&mut budget, 120_000, "g29", &PresenceState::Offline, None);
    assert_eq!(budget.without(), 9);
}

#[test]
fn changes_come_before_refreshes() {
    let mut budget = budget(1);
    for n in 0..5 {
        set(&mut budget, 0, &format!("g{n}"), &PresenceState::Online, None);
    }
    run(&mut budget, 0, 19_000);
    set(&mut budget, 40_000, "new", &PresenceState::Online, None);
    let sent = run(&mut budget, 40_000, 46_000);
    assert_eq!(sent[0].1.ghost, user("new"));
}

#[test]
fn a_failed_update_is_tried_again_and_a_flickering_contact_is_slowed_down() {
    let mut budget = budget(100);
    set(&mut budget, 0, "a", &PresenceState::Online, None);
    assert!(matches!(budget.step(0), Step::Send(_)));
    assert_eq!(budget.step(10), Step::Idle, "one update of a ghost at a time");
    budget.done(20, &user("a"), false);
    assert_eq!(budget.step(20), Step::Until(20 + RETRY));
    assert!(matches!(budget.step(20 + RETRY), Step::Send(_)));
    set(&mut budget, 5_030, "a", &PresenceState::Unavailable, None);
    assert_eq!(budget.step(5_040), Step::Idle, "one update of a ghost at a time");
    budget.done(5_040, &user("a"), false);
    let news = 20 + RETRY + SPACING;
    assert_eq!(budget.step(5_040), Step::Until(news));
    assert_eq!(run(&mut budget, news, news + 10).len(), 1);
    let mut updates = 0;
    for n in 0..1_000 {
        let state = if n % 2 == 0 { PresenceState::Online } else { PresenceState::Unavailable };
        set(&mut budget, 50_000 + n * 10, "a", &state, None);
        updates += run(&mut budget, 50_000 + n * 10, 50_000 + n * 10 + 10).len();
    }
    assert!((9..=11).contains(&updates), "{updates}");
}

#[test]
fn busy_is_spelled_as_the_homeserver_knows_it() {
    let busy = PresenceState::from("busy");
    assert_eq!(Seen::of(&busy).shown(true).spelled().as_str(), "org.matrix.msc3026.busy");
    assert_eq!(Seen::of(&busy).shown(false).spelled(), PresenceState::Unavailable);
    assert_eq!(Seen::of(&PresenceState::from("dancing")).shown(true).spelled(), PresenceState::Unavailable);
    let mut budget = budget(20);
    budget.homeserver(true, true);
    set(&mut budget, 0, "a", &busy, None);
    run(&mut budget, 0, 1_000);
    budget.watch(1_000, &user("owner"), false);
    set(&mut budget, 2_000, "a", &PresenceState::Offline, None);
    // Busy would stay for an hour, so its end is said even to nobody.
    assert_eq!(run(&mut budget, 2_000, 3_000).len(), 1);
}

#[test]
fn the_homeserver_can_ask_for_a_pause() {
    let mut budget = budget(20);
    set(&mut budget, 0, "a", &PresenceState::Online, None);
    budget.pause(0, 7_000);
    assert_eq!(budget.step(0), Step::Until(7_000));
    budget.pause(0, u64::MAX);
    assert_eq!(budget.step(0), Step::Until(60_000));
}

#[test]
fn the_number_of_ghosts_is_bounded() {
    let mut budget = budget(20);
    for n in 0..GHOSTS {
        set(&mut budget, 0, &format!("g{n}"), &PresenceState::Online, None);
    }
    assert!(!budget.set(0, &user("more"), &user("owner"), &PresenceState::Online, None));
    assert_eq!((budget.len(), budget.without()), (GHOSTS, GHOSTS - 400));
    set(&mut budget, 0, "g7", &PresenceState::Offline, None);
    set(&mut budget, 0, "more", &PresenceState::Online, Some(&"é".repeat(5_000)));
    let status = budget.ghosts.get(budget.ghosts.find("@more:h").unwrap()).unwrap().status.as_ref().unwrap();
    assert_eq!(status.chars().count(), STATUS_LIMIT);
}

#[derive(Clone, Debug)]
enum Act {
    Set(u8, u8),
    Watch(u8, bool),
    Activity(u8),
    Wait(u16),
    Fail,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..40_u8, 0..4_u8).prop_map(|(ghost, state)| Act::Set(ghost, state)),
        1 => (0..3_u8, any::<bool>()).prop_map(|(owner, watching)| Act::Watch(owner, watching)),
        2 => (0..40_u8).prop_map(Act::Activity),
        3 => (0..30_000_u16).prop_map(Act::Wait),
        1 => Just(Act::Fail),
    ]
}

proptest! {
    /// Whatever happens: the rate is kept, owners who do not look get nothing but the end of a presence, each update shows
    /// what was asked for last, and once it is quiet every kept ghost is refreshed in time.
    #[test]
    fn the_promises_hold(acts in prop::collection::vec(act(), 1..80), rate in 1..5_u32) {
        let mut budget = Budget::new(rate);
        budget.homeserver(true, true);
        let (mut now, mut fail) = (0_u64, false);
        let mut model: HashMap<OwnedUserId, (OwnedUserId, PresenceState, Option<String>)> = HashMap::new();
        let mut watching = HashSet::new();
        let mut times: Vec<u64> = Vec::new();
        let mut last: HashMap<String, u64> = HashMap::new();
        let quiet = [Act::Wait(60_000), Act::Wait(60_000), Act::Wait(60_000)];
        let last_act = acts.len();
        for (index, act) in acts.into_iter().chain(quiet).enumerate() {
            let until = match act {
                Act::Set(ghost, state) => {
                    let (name, owner) = (user(&format!("g{ghost}")), user(&format!("o{}", ghost % 3)));
                    let state = match state {
                        0 => PresenceState::Online,
                        1 => PresenceState::Unavailable,
                        2 => PresenceState::Offline,
                        _ => PresenceState::from("org.matrix.msc3026.busy"),
                    };
                    let status = (index % 2 == 0).then(|| index.to_string());
                    budget.set(now, &name, &owner, &state, status.as_deref());
                    model.insert(name, (owner, state, status));
                    now
                }
                Act::Watch(owner, on) => {
                    let owner = user(&format!("o{owner}"));
                    budget.watch(now, &owner, on);
                    if on { watching.insert(owner) } else { watching.remove(&owner) };
                    now
                }
                Act::Activity(ghost) => { budget.note_activity(now, &user(&format!("g{ghost}"))); now }
                Act::Wait(millis) => now + u64::from(millis),
                Act::Fail => { fail = true; now }
            };
            loop {
                match budget.step(now) {
                    Step::Send(put) => {
                        let (owner, state, status) = &model[&put.ghost];
                        prop_assert_eq!((&put.state, &put.status), (state, status));
                        prop_assert!(watching.contains(owner) || *state == PresenceState::Offline);
                        budget.done(now, &put.ghost, !std::mem::take(&mut fail));
                        times.push(now);
                        last.insert(put.ghost.to_string(), now);
                    }
                    Step::Until(at) if at <= until => now = at,
                    Step::Until(_) | Step::Idle => break,
                }
            }
            now = now.max(until);
            if index > last_act + 1 {
                for &(_, id) in &budget.kept {
                    let at = last.get(&*budget.ghosts.get(id).unwrap().name).copied();
                    prop_assert!(at.is_some_and(|at| now - at <= ROUND), "{:?} at {}", budget.ghosts.get(id), now);
                }
            }
        }
        let most = usize::try_from(rate).unwrap() + 1;
        for window in times.windows(most + 1) {
            prop_assert!(window[most] - window[0] >= 999, "{window:?}");
        }
        prop_assert!(budget.kept.len() <= budget.room);
        prop_assert!(budget.spare.is_empty() || budget.kept.len() == budget.room);
    }
}

#[test]
fn ten_thousand_updates_a_second_become_a_budgets_worth_of_requests() {
    let mut budget = budget(20);
    let mut sent = Vec::new();
    for number in 0..10_000_u64 {
        let now = number / 10;
        set(&mut budget, now, &format!("g{}", number % 40), &PresenceState::Online, Some(&number.to_string()));
        sent.extend(run(&mut budget, now, now + 1));
    }
    assert!(sent.len() <= 21, "{} requests in a second", sent.len());
    assert_eq!(budget.len(), 40, "one state of each ghost is kept");
    // What is shown in the end is the last that was said.
    let after = run(&mut budget, 1_000, 60_000);
    assert!(after.len() <= 59 * 20 + 1);
    for ghost in 0..40_u64 {
        let last = after.iter().rev().find(|(_, put)| put.ghost == user(&format!("g{ghost}"))).unwrap();
        assert_eq!(last.1.status, Some((9_960 + ghost).to_string()));
    }
}
