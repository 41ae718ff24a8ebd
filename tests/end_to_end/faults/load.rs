//! What is said meanwhile: numbered messages, both ways, in every room, and when each was said.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::network::Network;
use crate::end_to_end::bridge::Portal;
use crate::end_to_end::clients::Person;
use crate::simulation::Random;

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Toward {
    Matrix,
    Network,
}

impl Toward {
    pub const BOTH: [Self; 2] = [Self::Matrix, Self::Network];

    fn letter(self) -> char {
        match self {
            Self::Matrix => 'm',
            Self::Network => 'n',
        }
    }
}

/// One direction of one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    pub toward: Toward,
    pub room: usize,
}

impl Way {
    /// The text of a message; the first has number 1.
    pub fn text(self, number: usize) -> String {
        format!("{}{} {number}", self.toward.letter(), self.room)
    }

    fn place(self) -> usize {
        self.room * 2 + usize::from(self.toward == Toward::Network)
    }

    /// The number of a message that was said here.
    pub fn number(self, text: &str) -> Option<usize> {
        text.strip_prefix(&format!("{}{} ", self.toward.letter(), self.room))?.parse().ok()
    }
}

/// The rooms of one person with one account, and everything that was said in them.
pub struct Load<'a> {
    pub person: &'a Person,
    pub portals: &'a [Portal],
    pub network: &'a dyn Network,
    /// Since when times count.
    pub began: Instant,
    said: Mutex<Vec<Vec<Duration>>>,
    stop: AtomicBool,
}

impl<'a> Load<'a> {
    pub fn new(person: &'a Person, portals: &'a [Portal], network: &'a dyn Network) -> Self {
        let said = Mutex::new(vec![Vec::new(); portals.len() * 2]);
        Self { person, portals, network, began: Instant::now(), said, stop: AtomicBool::new(false) }
    }

    /// All directions of all rooms.
    pub fn ways(&self) -> impl Iterator<Item = Way> + use<> {
        let rooms = self.portals.len();
        Toward::BOTH.into_iter().flat_map(move |toward| (0..rooms).map(move |room| Way { toward, room }))
    }

    /// When each message of a way was said, since the beginning.
    pub fn said(&self, way: Way) -> Vec<Duration> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)[way.place()].clone()
    }

    /// The numbers of the messages of a way that arrived so far, in order. `at_last`: also what only a server knows by
    /// now.
    pub fn heard(&self, way: Way, at_last: bool) -> Vec<usize> {
        let texts = match way.toward {
            Toward::Matrix => self.person.heard(&self.portals[way.room].room),
            Toward::Network => self.network.heard(way.room, at_last),
        };
        texts.iter().filter_map(|text| way.number(text)).collect()
    }

    /// The numbers of messages from Matrix that came back into their room, as if they had been said elsewhere.
    pub fn echoed(&self, way: Way) -> Vec<usize> {
        let texts = match way.toward {
            Toward::Matrix => Vec::new(),
            Toward::Network => self.person.heard(&self.portals[way.room].room),
        };
        texts.iter().filter_map(|text| way.number(text)).collect()
    }

    /// Says the next message of a way, and returns when the server there has it.
    pub fn say(&self, way: Way) {
        let number = {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            let said = &mut said[way.place()];
            said.push(self.began.elapsed());
            said.len()
        };
        let text = way.text(number);
        match way.toward {
            Toward::Matrix => self.network.say(way.room, &text),
            Toward::Network => drop(self.person.say_surely(&self.portals[way.room].room, &text)),
        }
    }

    /// Talks in one direction until [`Self::stop`]: one to four messages at once, in one room or in several.
    pub fn talk(&self, toward: Toward, seed: u64) {
        let mut random = Random::new(seed);
        let rooms = self.portals.len() as u64;
        while !self.stop.load(Ordering::Relaxed) {
            let mut room = usize::try_from(random.next() % rooms).unwrap_or(0);
            for _ in 0..random.between(1, 4) {
                self.say(Way { toward, room });
                if random.chance(30) {
                    room = usize::try_from(random.next() % rooms).unwrap_or(0);
                }
            }
            // The pace of people who talk; nothing is awaited here.
            thread::sleep(Duration::from_millis(random.between(50, 500)));
        }
    }

    /// No more is said.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
