//! What was read or written lately, and which keys hold nothing: a message asks for the same two dozen rows several times, and asking
//! the database costs more than all that is done with the answer (docs/performance.md).

use std::collections::HashMap;

/// How many bytes either half may hold. When the younger is full it becomes the elder, and what was in that is forgotten.
const HALF: usize = 1 << 20;
/// What an entry costs beside its bytes.
const ENTRY: usize = 96;
/// A value that is longer is not kept.
const LONGEST: usize = 16 << 10;

/// A record as it is on the disk: its value and checksum.
pub type Known = Option<(Vec<u8>, u64)>;

/// At most `2 * HALF` bytes.
#[derive(Default)]
pub struct Cache {
    young: HashMap<Vec<u8>, Known>,
    old: HashMap<Vec<u8>, Known>,
    bytes: usize,
}

impl Cache {
    /// What is known of `key`: `None` says nothing, `Some(None)` that it holds nothing.
    pub fn get(&mut self, key: &[u8]) -> Option<&Known> {
        if !self.young.contains_key(key) {
            let (key, known) = self.old.remove_entry(key)?;
            self.put(key, known);
        }
        self.young.get(key)
    }

    /// `key` holds this now.
    pub fn put(&mut self, key: Vec<u8>, known: Known) {
        let length = known.as_ref().map_or(0, |(value, _)| value.len());
        if length > LONGEST {
            self.young.remove(&key);
            self.old.remove(&key);
            return;
        }
        if self.bytes >= HALF {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        // Written over, an entry counts twice: that only ends the half's time sooner.
        self.bytes += key.len() + length + ENTRY;
        self.young.insert(key, known);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_word_counts_and_nothing_is_kept_beyond_the_bound() {
        let mut cache = Cache::default();
        assert_eq!(cache.get(b"a"), None);
        cache.put(b"a".to_vec(), None);
        assert_eq!(cache.get(b"a"), Some(&None));
        cache.put(b"a".to_vec(), Some((b"1".to_vec(), 7)));
        // What is asked for again and again outlives what is not, whatever comes by.
        for number in 0..100_000u32 {
            cache.put(number.to_le_bytes().to_vec(), Some((vec![0; 100], 0)));
            assert_eq!(cache.get(b"a"), Some(&Some((b"1".to_vec(), 7))));
            let entries = cache.young.len() + cache.old.len();
            assert!(entries <= 2 * HALF / (100 + 4 + ENTRY) + 4, "{entries} entries after {number}");
        }
        assert_eq!(cache.get(&0u32.to_le_bytes()), None);
        cache.clear();
        assert_eq!(cache.get(b"a"), None);
    }

    #[test]
    fn what_is_too_long_to_keep_leaves_nothing_stale_behind() {
        let mut cache = Cache::default();
        cache.put(b"a".to_vec(), Some((b"1".to_vec(), 7)));
        // Into the elder half.
        for number in 0..10_000u32 {
            cache.put(number.to_le_bytes().to_vec(), Some((vec![0; 100], 0)));
        }
        cache.put(b"a".to_vec(), Some((vec![0; LONGEST + 1], 8)));
        assert_eq!(cache.get(b"a"), None);
        // An older word in the elder half never comes up again.
        cache.put(b"b".to_vec(), Some((b"1".to_vec(), 1)));
        cache.bytes = HALF;
        cache.put(b"c".to_vec(), None);
        cache.put(b"b".to_vec(), Some((b"2".to_vec(), 2)));
        assert_eq!(cache.get(b"b"), Some(&Some((b"2".to_vec(), 2))));
    }
}
