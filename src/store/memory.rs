//! A backend in memory, for tests and the simulation: what is committed survives a "crash", what is not is gone.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::backend::{Backend, Batch, Record, StoreError};

#[derive(Default)]
struct Disk {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    commits: u64,
    failures_left: u32,
}

/// Handles on one imaginary disk. The disk outlives every handle: drop one to crash, [`MemoryBackend::reopen`] to start
/// again with what was committed.
#[derive(Default)]
pub struct MemoryBackend {
    disk: Arc<Mutex<Disk>>,
}

impl MemoryBackend {
    /// A fresh, empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another handle on the same disk, as a new process would open it.
    #[must_use]
    pub fn reopen(&self) -> Self {
        Self { disk: Arc::clone(&self.disk) }
    }

    /// The next `times` commits fail as on a full disk and change nothing.
    pub fn fail_commits(&self, times: u32) {
        self.disk().failures_left = times;
    }

    /// How many batches were committed over the disk's life.
    pub fn commits(&self) -> u64 {
        self.disk().commits
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // A panic elsewhere leaves no half-done batch: each commit is one pass under the lock that cannot fail.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for MemoryBackend {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.disk().records.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let records = &self.disk().records;
        Ok(records
            .range::<[u8], _>((first_after(prefix, after), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        batch.validate()?;
        let mut disk = self.disk();
        if disk.failures_left > 0 {
            disk.failures_left -= 1;
            return Err(StoreError::io("writing the store")(io::ErrorKind::StorageFull.into()));
        }
        for (key, value) in batch {
            match value {
                Some(value) => disk.records.insert(key.clone(), value.clone()),
                None => disk.records.remove(key),
            };
        }
        disk.commits += 1;
        Ok(())
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        Ok(self.disk().records.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum())
    }
}

/// Where a scan of `prefix` strictly after `after` begins.
pub(super) fn first_after<'a>(prefix: &'a [u8], after: Option<&'a [u8]>) -> Bound<&'a [u8]> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[test]
    fn conforms() {
        conformance::suite(|| {
            let disk = MemoryBackend::new();
            Box::new(move || Box::new(disk.reopen()))
        });
    }

    #[test]
    fn failed_commits_change_nothing_and_end() {
        let mut backend = MemoryBackend::new();
        let mut batch = Batch::new();
        batch.put("a", "1");
        backend.fail_commits(2);
        assert!(matches!(backend.commit(&batch), Err(StoreError::Io { .. })));
        assert!(backend.commit(&batch).is_err());
        assert_eq!((backend.get(b"a").unwrap(), backend.commits()), (None, 0));
        backend.commit(&batch).unwrap();
        assert_eq!((backend.reopen().get(b"a").unwrap(), backend.commits()), (Some(b"1".to_vec()), 1));
    }
}
