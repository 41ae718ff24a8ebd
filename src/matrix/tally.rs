//! Calls to the homeserver, counted by endpoint and by how they ended. Both are closed sets: an endpoint is the name that the code
//! calls it by, never a path.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::client::CallError;

/// How calls ended, by endpoint.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl Tally {
    /// Counts one that was answered with this HTTP status.
    pub(super) fn answered(&self, endpoint: &'static str, status: u16) {
        self.add(endpoint, of_status(status));
    }

    /// Counts one that failed.
    pub(super) fn failed(&self, endpoint: &'static str, error: &CallError) {
        let how = match error {
            CallError::Refused(refusal) | CallError::NotAs(refusal) => of_status(refusal.status),
            CallError::Timeout => "timeout",
            CallError::Connection(_) => "connection",
            CallError::TooLarge => "too_large",
            CallError::BadAnswer(_) => "bad_answer",
            // It was never made.
            CallError::BadRequest(_) => return,
        };
        self.add(endpoint, how);
    }

    fn add(&self, endpoint: &'static str, how: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((endpoint, how)).or_default() += 1;
    }

    /// All of them: endpoint, how they ended, how many.
    pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((endpoint, how), count)| (*endpoint, *how, *count)).collect()
    }
}

/// What is usual by itself, the rest by its class: a homeserver, or what stands in front of it, may answer anything.
fn of_status(status: u16) -> &'static str {
    match status {
        200 => "200",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        413 => "413",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        201..=299 => "2xx",
        300..=399 => "3xx",
        402..=499 => "4xx",
        505..=599 | 501 => "5xx",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_place_in_a_small_set() {
        let labels: std::collections::BTreeSet<_> = (0..=u16::MAX).map(of_status).collect();
        assert_eq!(labels.len(), 16);
        for (status, label) in
            [(200, "200"), (204, "2xx"), (302, "3xx"), (418, "4xx"), (429, "429"), (599, "5xx"), (700, "other")]
        {
            assert_eq!(of_status(status), label);
        }
    }

    #[test]
    fn calls_are_counted_by_endpoint_and_end() {
        let tally = Tally::default();
        tally.answered("send", 200);
        tally.answered("send", 200);
        tally.failed("send", &CallError::Timeout);
        tally.failed("join", &CallError::BadRequest("it was never made".to_owned()));
        assert_eq!(tally.all(), [("send", "200", 2), ("send", "timeout", 1)]);
    }
}
