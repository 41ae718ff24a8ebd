//! A seeded world against a reference model: a homeserver that repeats transactions and lets them overtake each other, an XMPP server with and without
//! archive and stream management, files on their way, crashes, cuts, lost answers and failed commits. Every seed must end with each message
//! once and in order.
//!
//! `SIM_SEEDS=50000` tries more seeds than the usual, `SIM_SEED=17` plays one and tells its story, whose length
//! `SIM_LINES=2000` sets.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::format_push_string)]

mod check;
mod config;
mod homeserver;
pub(crate) mod random;
mod server;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

pub use self::random::Random;
use self::{config::Planted, world::World};

/// How many seeds every test run tries.
const SEEDS: u64 = 1_000;

fn play(seed: u64, planted: Planted, trace: bool) -> Result<(), String> {
    let mut world = World::new(seed, planted, trace);
    let played = catch_unwind(AssertUnwindSafe(|| world.run().and_then(|()| world.check())));
    let outcome = played.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        Err(said.or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned())).unwrap_or_default())
    });
    outcome.map_err(|why| {
        let again = format!("SIM_SEED={seed} cargo test --test tests simulation::one_seed -- --nocapture");
        format!("seed {seed}, {:?}: {why}\n{}repeat with: {again}", world.config, world.story())
    })
}

/// The first seeds that fail, at most so many, of a range that is played on every core.
fn failures(seeds: u64, planted: Planted, enough: usize) -> Vec<(u64, String)> {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let found = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || found.lock().unwrap().len() >= enough {
                        return;
                    }
                    if let Err(why) = play(seed, planted, false) {
                        found.lock().unwrap().push((seed, why));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort_unstable();
    found
}

#[test]
fn every_seed_ends_with_each_message_once_and_in_order() {
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let failed = failures(seeds, Planted::None, 10);
    if let Some((seed, _)) = failed.first() {
        let story = play(*seed, Planted::None, true).err().unwrap_or_else(|| "it did not fail again".to_owned());
        let all: String = failed.iter().map(|(_, why)| format!("{why}\n")).collect();
        panic!("{} seeds or more fail:\n{all}The first:\n{story}", failed.len());
    }
}

#[test]
fn one_seed() {
    let Some(seed) = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()) else { return };
    if let Err(why) = play(seed, Planted::None, true) {
        panic!("{why}");
    }
}

#[test]
fn a_seed_plays_the_same_every_time() {
    let tell = |seed| {
        let mut world = World::new(seed, Planted::None, true);
        let _ = world.run();
        world.story()
    };
    for seed in 0..10 {
        assert_eq!(tell(seed), tell(seed), "seed {seed}");
    }
}

/// What the checks say of statuses and doubts is worth something only where there are some.
#[test]
fn messages_are_shown_as_waiting_and_doubted_in_some_worlds() {
    let (mut pending, mut doubted) = (0, 0);
    for seed in 0..200 {
        let mut world = World::new(seed, Planted::None, false);
        world.run().unwrap();
        pending += usize::from(world.hs.rooms.iter().any(|room| !room.statuses.is_empty()));
        doubted += usize::from(world.contacts().iter().any(|jid| world.doubts(jid) > 0));
    }
    assert!(pending > 5 && doubted > 5, "{pending} and {doubted} of 200 worlds");
}

#[test]
fn files_are_carried_both_ways_fail_and_are_tried_again() {
    let mut ends = String::new();
    for seed in 0..40 {
        let mut world = World::new(seed, Planted::None, false);
        world.run().unwrap();
        ends.push_str(&world.carried.join("\n"));
    }
    for part in ["Uploaded", "Stored", "Size", "Failed", "mxc://h/small"] {
        assert!(ends.contains(part), "{part}");
    }
}

#[test]
fn ids_that_live_only_in_memory_are_caught() {
    assert!(!failures(SEEDS, Planted::IdsOnlyInMemory, 1).is_empty());
}

#[test]
fn an_answer_before_the_commit_is_caught() {
    assert!(!failures(SEEDS, Planted::AnswerBeforeCommit, 1).is_empty());
}

#[test]
fn an_acknowledgement_before_the_commit_is_caught() {
    assert!(!failures(SEEDS, Planted::AckBeforeCommit, 1).is_empty());
}

#[test]
fn a_fresh_transaction_id_at_a_retry_is_caught() {
    assert!(!failures(SEEDS, Planted::FreshTransactionId, 1).is_empty());
}

#[test]
fn transactions_that_are_taken_as_they_come_are_caught() {
    assert!(!failures(SEEDS, Planted::NoReview, 1).is_empty());
}

#[test]
fn a_retry_that_does_not_look_for_what_was_sent_before_is_caught() {
    assert!(!failures(SEEDS, Planted::NoLook, 1).is_empty());
}

#[test]
fn what_is_said_in_the_persons_name_without_a_proof_is_caught() {
    assert!(!failures(SEEDS, Planted::NoProof, 1).is_empty());
}
