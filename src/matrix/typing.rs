//! Typing notifications and presence: worth doing now or not at all.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{OwnedRoomId, OwnedUserId};

use super::{
    client::Client,
    counters::{Count, Counters},
    presence_task::PresenceKeeper,
};
use crate::domain::output::Ephemeral;

/// Typing notifications in flight at once; more are dropped and counted.
pub const TYPING_AT_ONCE: usize = 16;

/// A ghost in a room, and the newest that it should show there while a request is in flight.
type InFlight = HashMap<(OwnedRoomId, OwnedUserId), Option<Option<u64>>>;

/// Takes what the engine asks for now.
#[derive(Debug)]
pub struct Now {
    client: Client,
    counters: Arc<Counters>,
    presence: Arc<PresenceKeeper>,
    in_flight: Mutex<InFlight>,
}

impl Now {
    /// Shares the client, the counters and the presence budget with the rest of the shell.
    pub fn new(client: Client, counters: Arc<Counters>, presence: Arc<PresenceKeeper>) -> Arc<Self> {
        Arc::new(Self { client, counters, presence, in_flight: Mutex::default() })
    }

    /// Does it, or drops it; never waits. Must be called within a tokio runtime.
    pub fn perform(self: &Arc<Self>, ephemeral: Ephemeral) {
        match ephemeral {
            Ephemeral::Typing { room, user, timeout } => self.typing(room, user, timeout),
            Ephemeral::Presence { ghost, owner, state, status } => {
                self.presence.set(&ghost, &owner, &state, status.as_deref());
            }
            Ephemeral::Watching { owner, watching } => self.presence.watch(&owner, watching),
        }
    }

    /// Requests of one ghost in one room go out one after the other, the newest replacing one that waits: an end of
    /// typing must not be overtaken by its beginning.
    fn typing(self: &Arc<Self>, room: OwnedRoomId, user: OwnedUserId, timeout: Option<u64>) {
        let mut in_flight = self.in_flight();
        let count = in_flight.len();
        match in_flight.entry((room, user)) {
            Entry::Occupied(mut entry) => *entry.get_mut() = Some(timeout),
            Entry::Vacant(_) if count >= TYPING_AT_ONCE => self.counters.add(Count::TypingDropped),
            Entry::Vacant(entry) => {
                let key = entry.key().clone();
                entry.insert(None);
                let this = Arc::clone(self);
                tokio::spawn(async move { this.send(key, timeout).await });
            }
        }
    }

    async fn send(&self, key: (OwnedRoomId, OwnedUserId), first: Option<u64>) {
        let mut next = Some(first);
        while let Some(timeout) = next {
            match self.client.typing(&key.1, &key.0, timeout.map(Duration::from_millis)).await {
                Ok(()) => self.presence.note_activity(&key.1),
                Err(_) => self.counters.add(Count::TypingFailed),
            }
            let mut in_flight = self.in_flight();
            next = in_flight.get_mut(&key).and_then(Option::take);
            if next.is_none() {
                in_flight.remove(&key);
            }
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
