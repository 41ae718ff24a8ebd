//! Files in the world: what is one, and how its transfers end.

use super::*;

/// Bytes of the small pictures that can be put anywhere.
pub(super) const SMALL: u64 = 2;

impl World {
    /// What someone says next: now and then a file, by where the other side finds them.
    pub(super) fn words(&mut self, who: char, contact: usize, number: usize) -> String {
        if !self.config.messenger && self.random.chance(20) {
            return format!("{FILES}{who}{contact}-file-{number}");
        }
        format!("{who}{contact} says {number}")
    }

    /// A transfer ends, one way or another; never badly so often that it would be given up.
    pub(super) fn transfer(&mut self, run: u32, transfer: &Transfer) {
        let before = self.struck.get(&transfer.debt).copied().unwrap_or_default();
        let outcome = if before < 4 && self.strikes(20) {
            self.struck.insert(transfer.debt, before + 1);
            let cause = Cause { code: "connection".to_owned(), sentence: "lost".to_owned() };
            let at = if self.random.chance(50) { Side::Matrix } else { Side::Web };
            TransferOutcome::Failed { at, failure: Failure::Transient { cause, retry_after: None } }
        } else {
            match &transfer.job {
                Job::Measure { .. } => TransferOutcome::Size(5),
                Job::Put { size: 5 | SMALL, .. } => TransferOutcome::Uploaded,
                Job::Put { .. } => TransferOutcome::Size(5),
                Job::Take { name, .. } | Job::Keep { name, .. } => TransferOutcome::Stored(Stored {
                    url: format!("mxc://h/{name}"),
                    mime: "application/octet-stream".to_owned(),
                    size: 5,
                    dimensions: None,
                    preview: None,
                }),
            }
        };
        self.carried.push(format!("{:?} {outcome:?}", transfer.job));
        self.log(|| format!("transfer {transfer:?} ends {outcome:?}"));
        self.soon(1, 4_000, Event::Transferred(run, transfer.debt, outcome));
    }
}
