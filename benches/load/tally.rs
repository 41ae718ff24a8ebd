//! What was said, what was heard, and how long each took.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// XMPP -> Matrix.
    ToMatrix,
    /// Matrix -> XMPP.
    ToXmpp,
}

/// Counts what arrives. A message's body is `b<chat>-<number>-<nanoseconds since the clock began>`: one process is at both ends, so
/// there is one clock.
pub struct Tally {
    began: Instant,
    heard: AtomicU64,
    ears: Mutex<Ears>,
    news: Notify,
}

#[derive(Default)]
struct Ears {
    /// The next number that is due, by way and chat.
    due: HashMap<(Way, u32), u64>,
    /// Nanoseconds of each, as they came.
    took: HashMap<Way, Vec<u64>>,
    out_of_order: u64,
    doubled: u64,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Sum {
    pub heard: u64,
    pub out_of_order: u64,
    pub doubled: u64,
    /// Sorted.
    pub to_matrix: Vec<u64>,
    /// Sorted.
    pub to_xmpp: Vec<u64>,
}

impl Tally {
    pub fn new() -> Self {
        Self { began: Instant::now(), heard: AtomicU64::default(), ears: Mutex::default(), news: Notify::new() }
    }

    fn ears(&self) -> MutexGuard<'_, Ears> {
        self.ears.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of a message that is said now.
    pub fn body(&self, chat: u32, number: u64) -> String {
        format!("b{chat}-{number}-{}", self.began.elapsed().as_nanos())
    }

    /// A body has arrived; what is none of ours is left alone.
    pub fn hear(&self, way: Way, body: &str) {
        let now = self.nanos();
        let Some((chat, number, said)) = read(body) else { return };
        let mut ears = self.ears();
        let due = ears.due.entry((way, chat)).or_default();
        match number.cmp(due) {
            std::cmp::Ordering::Equal => *due += 1,
            std::cmp::Ordering::Greater => {
                *due = number + 1;
                ears.out_of_order += 1;
            }
            std::cmp::Ordering::Less => ears.doubled += 1,
        }
        ears.took.entry(way).or_default().push(now.saturating_sub(said));
        drop(ears);
        self.heard.fetch_add(1, Ordering::Relaxed);
        self.news.notify_waiters();
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Waits until so many have arrived in all; `false` if nothing arrived for `patience`.
    pub async fn until(&self, count: u64, patience: Duration) -> bool {
        let mut last = (self.heard(), Instant::now());
        loop {
            let news = self.news.notified();
            let heard = self.heard();
            if heard >= count {
                return true;
            }
            if heard != last.0 {
                last = (heard, Instant::now());
            } else if last.1.elapsed() > patience {
                return false;
            }
            // A message may have come between the look and the wait.
            let _ = tokio::time::timeout(Duration::from_millis(50), news).await;
        }
    }

    /// What has come since the last time, and forgets it; numbers of chats go on.
    pub fn take(&self) -> Sum {
        let mut ears = self.ears();
        let mut sorted = |way| {
            let mut took = ears.took.remove(&way).unwrap_or_default();
            took.sort_unstable();
            took
        };
        let (to_matrix, to_xmpp) = (sorted(Way::ToMatrix), sorted(Way::ToXmpp));
        let sum = Sum {
            heard: u64::try_from(to_matrix.len() + to_xmpp.len()).unwrap_or(u64::MAX),
            out_of_order: std::mem::take(&mut ears.out_of_order),
            doubled: std::mem::take(&mut ears.doubled),
            to_matrix,
            to_xmpp,
        };
        self.heard.store(0, Ordering::Relaxed);
        sum
    }
}

fn read(body: &str) -> Option<(u32, u64, u64)> {
    let mut parts = body.strip_prefix('b')?.splitn(3, '-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The value below which `share` (0 to 1) of the sorted values lie, in milliseconds.
pub fn percentile(sorted: &[u64], share: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let place = ((sorted.len() - 1) as f64 * share).round() as usize;
    #[allow(clippy::cast_precision_loss)]
    let nanos = sorted[place] as f64;
    nanos / 1e6
}
