//! What one person may ask of the API: a bucket of tokens that fills again, and so many requests at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::http::StatusCode;
use ruma::{OwnedUserId, UserId};

use super::reply::Problem;

/// Tokens that a bucket holds.
pub const BURST: u32 = 200;
/// Tokens that it gets back in a second.
pub const PER_SECOND: u32 = 20;
/// Requests of one person at a time.
pub const AT_ONCE: usize = 16;
/// People whose buckets are remembered. Beyond, full ones are forgotten; if none is full nobody new is let in.
pub const PEOPLE: usize = 10_000;

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
    in_hand: usize,
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let grown = now.saturating_duration_since(self.filled).as_secs_f64() * f64::from(PER_SECOND);
        self.tokens = (self.tokens + grown).min(f64::from(BURST));
        self.filled = now;
    }

    fn is_full(&self) -> bool {
        self.tokens >= f64::from(BURST) && self.in_hand == 0
    }
}

/// All people's buckets.
#[derive(Debug, Default)]
pub struct Limits {
    people: Mutex<HashMap<OwnedUserId, Bucket>>,
}

/// A request in hand, until it is dropped.
#[derive(Debug)]
pub struct InHand {
    limits: Arc<Limits>,
    person: OwnedUserId,
}

impl Limits {
    /// Takes so many tokens of a person's bucket, and a place for a request.
    ///
    /// # Errors
    /// There are not so many, or no place.
    pub fn enter(self: &Arc<Self>, person: &UserId, cost: u32, now: Instant) -> Result<InHand, Problem> {
        let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        if !people.contains_key(person) && people.len() >= PEOPLE {
            people.retain(|_, bucket| {
                bucket.fill(now);
                !bucket.is_full()
            });
            if people.len() >= PEOPLE {
                return Err(limited("The bridge is busy. Please try again in a moment.", 1.0));
            }
        }
        let new = || Bucket { tokens: f64::from(BURST), filled: now, in_hand: 0 };
        let bucket = people.entry(person.to_owned()).or_insert_with(new);
        bucket.fill(now);
        let missing = f64::from(cost) - bucket.tokens;
        if missing > 0.0 {
            return Err(limited("Too many requests.", missing / f64::from(PER_SECOND)));
        }
        if bucket.in_hand >= AT_ONCE {
            return Err(limited("Too many requests at a time.", 1.0));
        }
        bucket.tokens -= f64::from(cost);
        bucket.in_hand += 1;
        Ok(InHand { limits: Arc::clone(self), person: person.to_owned() })
    }
}

fn limited(sentence: &str, seconds: f64) -> Problem {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few seconds")]
    let seconds = seconds.ceil().max(1.0) as u64;
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", sentence).again_after(seconds)
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut people = self.limits.people.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = people.get_mut(&self.person) {
            bucket.in_hand = bucket.in_hand.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ruma::user_id;

    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again_and_each_has_their_own() {
        let (limits, now) = (Arc::new(Limits::default()), Instant::now());
        let romeo = user_id!("@romeo:h.test");
        for _ in 0..BURST / 10 {
            limits.enter(romeo, 10, now).unwrap();
        }
        let refused = limits.enter(romeo, 10, now).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), ("M_LIMIT_EXCEEDED", Some(1)));
        assert!(limits.enter(user_id!("@juliet:h.test"), 10, now).is_ok());
        assert!(limits.enter(romeo, 10, now + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn so_many_at_a_time_and_a_place_comes_back() {
        let (limits, now) = (Arc::new(Limits::default()), Instant::now());
        let romeo = user_id!("@romeo:h.test");
        let mut held: Vec<_> = (0..AT_ONCE).map(|_| limits.enter(romeo, 1, now).unwrap()).collect();
        assert_eq!(limits.enter(romeo, 1, now).unwrap_err().sentence, "Too many requests at a time.");
        held.pop();
        assert!(limits.enter(romeo, 1, now).is_ok());
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let (limits, now) = (Arc::new(Limits::default()), Instant::now());
        let person = |number: usize| UserId::parse(format!("@u{number}:h.test")).unwrap();
        for number in 0..PEOPLE {
            limits.enter(&person(number), 1, now).unwrap();
        }
        assert!(limits.enter(&person(PEOPLE), 1, now).is_err());
        assert!(limits.enter(&person(0), 1, now).is_ok(), "who is known goes on");
        assert!(limits.enter(&person(PEOPLE), 1, now + Duration::from_secs(1)).is_ok(), "full ones are forgotten");
        assert!(limits.people.lock().unwrap().len() < PEOPLE);
    }
}
