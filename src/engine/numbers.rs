//! The numbers that the engine gives out. They are kept as things happen: taking them reads nothing of the store, and costs the same
//! however much is owed.

use std::collections::BTreeMap;

use super::{Carrier, Engine, session::Phase};
use crate::{
    bridge::{
        meter::{Direction, Messages, Step},
        outbox::Kind,
    },
    domain::{LoginId, StreamId, Timestamp, request::Connection},
};

/// What stands for a network that is no longer in the configuration.
const UNCONFIGURED: &str = "unconfigured";

/// What the metrics show of the engine.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// How many logins there are, by network and state.
    pub logins: BTreeMap<(String, Connection), u64>,
    /// How many debts wait, by the kind of their lane, and since when the oldest does.
    pub waiting: Vec<(Kind, usize, Option<Timestamp>)>,
    /// Messages since the start, by direction.
    pub messages: Vec<(Direction, Messages)>,
    /// What was left out since the start, by kind.
    pub ignored: BTreeMap<&'static str, u64>,
}

impl Engine {
    /// The numbers as they are now.
    pub fn numbers(&self) -> Numbers {
        let networks = &self.bridge.settings.networks;
        let mut logins = BTreeMap::new();
        for network in networks.keys() {
            // One that is not there is 0, not missing: so an alert can tell the two apart.
            logins.extend(Connection::ALL.map(|state| ((network.as_str(), state), 0)));
        }
        for (id, standing) in self.bridge.store.standings() {
            let network = networks.get_key_value(&standing.network).map_or(UNCONFIGURED, |(name, _)| name);
            *logins.entry((network, self.connection_of(id, standing.suspended))).or_insert(0) += 1;
        }
        let logins = logins.into_iter().map(|((network, state), count)| ((network.to_owned(), state), count)).collect();
        let waiting = Kind::ALL.map(|kind| {
            let (count, oldest) = self.bridge.outbox.waiting(kind);
            (kind, count, oldest)
        });
        Numbers {
            logins,
            waiting: waiting.to_vec(),
            messages: Direction::ALL.map(|way| (way, *self.bridge.meter.messages(way))).to_vec(),
            ignored: self.bridge.ignored.clone(),
        }
    }

    /// How a login is connected. One that has lost its stream is down until it has another.
    pub(super) fn connection_of(&self, id: &LoginId, suspended: bool) -> Connection {
        match self.lives.get(id) {
            _ if suspended => Connection::SignedOut,
            Some(live) if live.caught_up() => Connection::Connected,
            Some(live) if live.phase == Phase::Up => Connection::CatchingUp,
            Some(live) if live.last_end.is_some() => Connection::Down,
            Some(_) | None => Connection::Connecting,
        }
    }

    /// The login that a stream is for; `None` for a sign-in, and for a stream that is over.
    pub fn login_on(&self, stream: StreamId) -> Option<&LoginId> {
        match self.streams.get(&stream)? {
            Carrier::Login(login) => Some(login),
            Carrier::Candidate(_) => None,
        }
    }

    /// Whether somebody reads the steps of messages from now on.
    pub fn watch_messages(&mut self, watched: bool) {
        self.bridge.meter.watched = watched;
    }

    /// The steps of messages since they were last taken, and how many more there were.
    pub fn take_steps(&mut self) -> (Vec<Step>, u64) {
        self.bridge.meter.take_steps()
    }
}
