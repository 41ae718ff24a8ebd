//! Sends what the presence budget decides. The only place that sends presence.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use ruma::{UserId, presence::PresenceState};
use tokio::{sync::Notify, task::JoinSet, time::Instant};

use super::{
    client::{Client, millis},
    counters::{Count, Counters},
    presence::{Budget, Put, Step},
};

/// Presence requests in flight at once.
pub const UPDATES_AT_ONCE: usize = 8;

/// The presence budget with a clock. Its methods never wait.
#[derive(Debug)]
pub struct PresenceKeeper {
    budget: Mutex<Budget>,
    changed: Notify,
    counters: Arc<Counters>,
    started: Instant,
    /// Requests that were made.
    updates: AtomicU64,
}

impl PresenceKeeper {
    /// See [`Budget::new`].
    pub fn new(updates_per_second: u32, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            budget: Mutex::new(Budget::new(updates_per_second)),
            changed: Notify::new(),
            counters,
            started: Instant::now(),
            updates: AtomicU64::new(0),
        })
    }

    /// See [`Budget::homeserver`].
    pub fn homeserver(&self, presence: bool, busy: bool) {
        self.change(|budget, _| budget.homeserver(presence, busy));
    }

    /// See [`Budget::set`].
    pub fn set(&self, ghost: &UserId, owner: &UserId, state: &PresenceState, status: Option<&str>) {
        if !self.change(|budget, now| budget.set(now, ghost, owner, state, status)) {
            self.counters.add(Count::PresenceForgotten);
        }
    }

    /// See [`Budget::watch`].
    pub fn watch(&self, owner: &UserId, watching: bool) {
        self.change(|budget, now| budget.watch(now, owner, watching));
    }

    /// See [`Budget::note_activity`].
    pub fn note_activity(&self, ghost: &UserId) {
        self.change(|budget, now| budget.note_activity(now, ghost));
    }

    /// How many ghosts go without, for the metrics.
    pub fn without(&self) -> usize {
        self.budget().without()
    }

    /// How many ghosts have a presence that is kept up or waits to be.
    pub fn ghosts(&self) -> usize {
        self.budget().len()
    }

    /// How many updates were sent.
    pub fn updates(&self) -> u64 {
        self.updates.load(Ordering::Relaxed)
    }

    /// Sends until it is dropped.
    pub async fn run(self: Arc<Self>, client: Client) {
        let mut in_flight = JoinSet::new();
        loop {
            // Made before looking, so that a change after the look is not missed.
            let changed = self.changed.notified();
            let step = if in_flight.len() < UPDATES_AT_ONCE { self.budget().step(self.now()) } else { Step::Idle };
            let until = match step {
                Step::Send(put) => {
                    let (this, client) = (Arc::clone(&self), client.clone());
                    in_flight.spawn(async move { this.send(&client, put).await });
                    continue;
                }
                Step::Until(at) => Some(self.started + std::time::Duration::from_millis(at)),
                Step::Idle => None,
            };
            tokio::select! {
                () = changed => {}
                Some(_) = in_flight.join_next() => {}
                () = async {
                    match until {
                        Some(until) => tokio::time::sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    async fn send(&self, client: &Client, put: Put) {
        self.updates.fetch_add(1, Ordering::Relaxed);
        let sent = client.set_presence(&put.ghost, put.state, put.status).await;
        self.change(|budget, now| {
            if let Err(error) = &sent {
                self.counters.add(Count::PresenceFailed);
                if let Some(retry_after) = error.limited() {
                    budget.pause(now, retry_after.unwrap_or(1_000));
                }
            }
            budget.done(now, &put.ghost, sent.is_ok());
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut Budget, u64) -> T) -> T {
        let done = change(&mut self.budget(), self.now());
        self.changed.notify_one();
        done
    }

    fn now(&self) -> u64 {
        millis(self.started.elapsed())
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
