//! The counts of XEP-0198 on one stream: what we may confirm, and what of ours is on its way.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Bytes of stanzas that may be on their way unconfirmed. Prosody 0.12 keeps what it had read of a stanza when the connection
/// broke, and reads the resumed session on from there. It reads 8 KiB at once, or up to the end of a TLS record where there is
/// less: so little on its way, and a stanza of up to as much again, is read whole or not at all.
const WINDOW: u32 = 4 * 1024;
/// Commits are told to the server by themselves when this many stanzas were not yet.
const ACK_EVERY: u32 = 20;
/// Above this the room of [`Acks::out`] is given back when nothing is on its way.
const SMALL: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Acks {
    /// Stream management is on.
    managed: bool,
    /// Stanzas received in the session.
    inbound: u32,
    /// Stanzas of it that are committed.
    committed: u32,
    /// The last `h` that we sent.
    told: u32,
    /// The server asked when not everything was committed.
    asked: bool,
    /// Stanzas were written since the last `<r/>`.
    unasked: bool,
    /// The last `h` of the server.
    confirmed: u32,
    /// Where in what was written on this connection each stanza begins that is not confirmed.
    out: VecDeque<u32>,
    /// When the first `<r/>` was written that was not answered yet.
    waits: Option<Instant>,
}

impl Acks {
    /// For a stream whose session has `inbound` stanzas handled by us and `confirmed` by the server.
    pub fn new(managed: bool, inbound: u32, confirmed: u32) -> Self {
        Self {
            managed,
            inbound,
            committed: inbound,
            told: inbound,
            asked: false,
            unasked: false,
            confirmed,
            out: VecDeque::new(),
            waits: None,
        }
    }

    /// Stream management is on.
    pub fn managed(&self) -> bool {
        self.managed
    }

    /// A stanza came.
    pub fn came(&mut self) {
        self.inbound = self.inbound.wrapping_add(1);
    }

    /// What `<a/>` says now: only what is committed.
    pub fn tell(&mut self) -> u32 {
        self.told = self.committed;
        self.told
    }

    /// The server asked (`<r/>`), and was told.
    pub fn was_asked(&mut self) {
        self.asked = self.told != self.inbound;
    }

    /// So many stanzas are committed. `true` if the server is to be told.
    pub fn commit(&mut self, committed: u32) -> bool {
        // A count never goes back; it wraps around (XEP-0198 section 4).
        if committed.wrapping_sub(self.committed) <= u32::MAX / 2 {
            self.committed = committed;
        }
        let behind = self.committed.wrapping_sub(self.told);
        self.managed && (self.asked && behind > 0 || behind >= ACK_EVERY)
    }

    /// What was just told after a commit answers a question only if it was all.
    pub fn told_after_commit(&mut self) {
        self.asked = self.told != self.inbound && self.asked;
    }

    /// A stanza is written that begins at this place.
    pub fn write(&mut self, place: u32) {
        if self.managed {
            self.unasked = true;
            self.out.push_back(place);
        }
    }

    /// At this place no more can be written until the server has confirmed something.
    pub fn full(&self, place: u32) -> bool {
        self.out.front().is_some_and(|first| place.wrapping_sub(*first) >= WINDOW)
    }

    /// `<r/>` has to be written: there is something that it was not written for.
    pub fn ask(&mut self) -> bool {
        std::mem::take(&mut self.unasked)
    }

    /// `<r/>` is written.
    pub fn asks(&mut self) {
        self.waits.get_or_insert_with(Instant::now);
    }

    /// The server's `<a/>`.
    pub fn confirm(&mut self, h: u32) {
        // A count that makes no sense is not waited for to make some.
        let more = usize::try_from(h.wrapping_sub(self.confirmed)).unwrap_or(usize::MAX).min(self.out.len());
        self.out.drain(..more);
        if self.out.is_empty() && self.out.capacity() > SMALL {
            self.out = VecDeque::new();
        }
        self.confirmed = h;
        self.waits = None;
    }

    /// Since when an `<r/>` is not answered.
    pub fn waits(&self) -> Option<Instant> {
        self.waits
    }

    /// For so long the server could not be heard.
    pub fn unheard(&mut self, long: Duration) {
        self.waits = self.waits.map(|at| at + long);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_much_is_on_its_way_at_a_time() {
        let mut acks = Acks::new(true, 0, 7);
        let mut place = u32::MAX - 1_000;
        let mut written = 0;
        while !acks.full(place) {
            acks.write(place);
            place = place.wrapping_add(500);
            written += 1;
        }
        assert_eq!(written, 9, "from the first stanza's beginning on, across the end of the numbers");
        acks.confirm(8);
        assert!(!acks.full(place));
        acks.confirm(7 + written);
        assert_eq!(acks.out.len(), 0);
        acks.write(place);
        assert!(!acks.full(place.wrapping_add(WINDOW - 1)) && acks.full(place.wrapping_add(WINDOW)));
    }

    #[test]
    fn a_count_that_makes_no_sense_holds_nothing_up() {
        for h in [6, 1_000] {
            let mut acks = Acks::new(true, 0, 7);
            acks.write(0);
            acks.write(WINDOW);
            acks.confirm(h);
            assert!(!acks.full(2 * WINDOW));
        }
    }

    #[test]
    fn without_stream_management_there_is_no_window() {
        let mut acks = Acks::new(false, 0, 0);
        acks.write(0);
        assert!(!acks.full(10 * WINDOW) && !acks.ask());
    }

    #[test]
    fn the_room_of_many_small_stanzas_is_given_back() {
        let mut acks = Acks::new(true, 0, 0);
        for place in 0..100 {
            acks.write(place);
        }
        acks.confirm(100);
        assert_eq!(acks.out.capacity(), 0);
    }
}
