//! Pending writes over a backend: read through at once, and committed together.

use std::cmp::Ordering;
use std::ops::Bound;

use super::backend::{Backend, Batch, Record, StoreError};
use super::memory::first_after;

/// The writes of one batch of inputs, laid over `B`.
///
/// Memory is bounded by its user: the engine takes a bounded number of inputs per batch, and one input's own writes are bounded by the
/// size of the input.
pub struct Overlay<B> {
    backend: B,
    pending: Batch,
}

impl<B: Backend> Overlay<B> {
    /// An overlay without pending writes.
    pub fn new(backend: B) -> Self {
        Self { backend, pending: Batch::new() }
    }

    /// The value under `key`, as it will be once this batch is committed.
    ///
    /// # Errors
    /// As [`Backend::get`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.pending.fate(key) {
            Some(fate) => Ok(fate.clone()),
            None => self.backend.get(key),
        }
    }

    /// Puts `value` under `key`.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.pending.put(key, value);
    }

    /// Removes `key`, whether it is there or not.
    pub fn remove(&mut self, key: impl Into<Vec<u8>>) {
        self.pending.remove(key);
    }

    /// Records whose keys begin with `prefix`, strictly after `after` if given, ascending, at most `limit`, as they will
    /// be once this batch is committed.
    ///
    /// # Errors
    /// As [`Backend::scan`].
    pub fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let mut pending = self
            .pending
            .range((first_after(prefix, after), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .peekable();
        if pending.peek().is_none() {
            return self.backend.scan(prefix, after, limit);
        }
        let mut out: Vec<Record> = Vec::new();
        let mut cursor = after.map(<[u8]>::to_vec);
        while out.len() < limit {
            let wanted = limit - out.len();
            let stored = self.backend.scan(prefix, cursor.as_deref(), wanted)?;
            let last_page = stored.len() < wanted;
            cursor = stored.last().map(|(key, _)| key.clone()).or(cursor);
            for (key, value) in stored {
                let mut hidden = false;
                while let Some((pending_key, fate)) = pending.next_if(|(pending_key, _)| **pending_key <= key) {
                    hidden = pending_key.as_slice().cmp(&key) == Ordering::Equal;
                    out.extend(fate.as_ref().map(|value| (pending_key.clone(), value.clone())));
                }
                if !hidden {
                    out.push((key, value));
                }
            }
            if last_page {
                out.extend(pending.filter_map(|(key, fate)| Some((key.clone(), fate.clone()?))));
                break;
            }
        }
        out.truncate(limit);
        Ok(out)
    }

    /// Drops every pending write.
    pub fn discard(&mut self) {
        self.pending = Batch::new();
    }

    /// Commits everything pending as one batch, durable when this returns `Ok`; without pending writes it does nothing.
    /// After an error the pending writes are still here: commit again, or discard them.
    ///
    /// # Errors
    /// As [`Backend::commit`].
    pub fn commit(&mut self) -> Result<(), StoreError> {
        if !self.pending.is_empty() {
            self.backend.commit(&self.pending)?;
            self.pending = Batch::new();
        }
        Ok(())
    }

    /// Whether there is anything to commit.
    pub fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    /// How many keys are pending.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The backend below, without the pending writes.
    pub fn backend(&self) -> &B {
        &self.backend
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::memory::MemoryBackend;
    use super::*;

    #[test]
    fn reads_see_pending_writes_and_the_backend_does_not() {
        let disk = MemoryBackend::new();
        let mut overlay = Overlay::new(disk.reopen());
        overlay.put("a", "1");
        assert!(overlay.is_dirty());
        assert_eq!((overlay.get(b"a").unwrap(), disk.get(b"a").unwrap()), (Some(b"1".to_vec()), None));
        overlay.commit().unwrap();
        assert!(!overlay.is_dirty());
        overlay.remove("a");
        assert_eq!((overlay.get(b"a").unwrap(), disk.get(b"a").unwrap()), (None, Some(b"1".to_vec())));
        drop(overlay);
        assert_eq!(
            disk.reopen().get(b"a").unwrap(),
            Some(b"1".to_vec()),
            "what was not committed dies with its process"
        );
    }

    #[test]
    fn a_failed_commit_keeps_the_writes() {
        let disk = MemoryBackend::new();
        let mut overlay = Overlay::new(disk.reopen());
        overlay.put("a", "1");
        disk.fail_commits(1);
        assert!(overlay.commit().is_err());
        assert_eq!((overlay.is_dirty(), overlay.get(b"a").unwrap()), (true, Some(b"1".to_vec())));
        overlay.commit().unwrap();
        assert_eq!(disk.get(b"a").unwrap(), Some(b"1".to_vec()));
    }

    #[test]
    fn nothing_pending_costs_no_commit() {
        let disk = MemoryBackend::new();
        Overlay::new(disk.reopen()).commit().unwrap();
        assert_eq!(disk.commits(), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Put(Vec<u8>, u8),
        Remove(Vec<u8>),
        Commit,
        Discard,
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0_u8, 1, 255]), 1..4)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (key(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
            3 => key().prop_map(Step::Remove),
            1 => Just(Step::Commit),
            1 => Just(Step::Discard),
        ]
    }

    proptest! {
        #[test]
        fn behaves_as_a_plain_map(
            steps in prop::collection::vec(step(), 0..60),
            prefix in prop::collection::vec(prop::sample::select(vec![0_u8, 1, 255]), 0..3),
            after in prop::option::of(key()),
            limit in 0_usize..8,
        ) {
            let mut overlay = Overlay::new(MemoryBackend::new());
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            let mut committed = model.clone();
            for step in steps {
                match step {
                    Step::Put(key, value) => { overlay.put(key.clone(), [value]); model.insert(key, vec![value]); }
                    Step::Remove(key) => { overlay.remove(key.clone()); model.remove(&key); }
                    Step::Commit => { overlay.commit().unwrap(); committed = model.clone(); }
                    Step::Discard => { overlay.discard(); model = committed.clone(); }
                }
                let expected: Vec<Record> = model.iter()
                    .filter(|(key, _)| key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after))
                    .take(limit).map(|(key, value)| (key.clone(), value.clone())).collect();
                prop_assert_eq!(overlay.scan(&prefix, after.as_deref(), limit).unwrap(), expected);
                if let Some(after) = &after {
                    prop_assert_eq!(overlay.get(after).unwrap(), model.get(after).cloned());
                }
            }
        }
    }
}
