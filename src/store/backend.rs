//! What the store asks of the thing that keeps its bytes: ordered keys, and batches that are all or nothing.
//!
//! Two backends stand behind this trait: [`super::sled`] on disk and [`super::memory`] for tests and the simulation. Both
//! pass the suite in `conformance.rs`.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Where the schema version is kept, as four bytes little-endian. Keys that begin with a zero byte belong to the store
/// itself; no table's prefix does.
pub const SCHEMA_KEY: &[u8] = b"\0schema";

/// One record of a store: key and value.
pub type Record = (Vec<u8>, Vec<u8>);

/// What a batch makes of a key: a new value, or `None`: removed.
pub type Fate = Option<Vec<u8>>;

/// An ordered map of bytes that survives the process. One writer.
pub trait Backend: Send {
    /// The value under `key`. An empty key holds nothing.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the value's checksum is wrong, [`StoreError::Io`] when the disk fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Records whose keys begin with `prefix`, strictly after `after` if given, ascending by key, at most `limit`.
    ///
    /// # Errors
    /// As [`Backend::get`]; a corrupt record among those asked for fails the whole scan and names its key.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError>;

    /// Applies `batch`, all or nothing; what it wrote is durable when this returns `Ok`. After an error the batch may or
    /// may not have been kept: committing it again is harmless and settles it.
    ///
    /// # Errors
    /// [`StoreError::EmptyKey`] and [`StoreError::TooLarge`] for a batch that no backend takes (nothing is applied),
    /// otherwise what the disk said.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Bytes on disk (or in memory), overhead included.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the files cannot be examined.
    fn size_on_disk(&self) -> Result<u64, StoreError>;

    /// Checks what the backend knows about the whole of its contents, beyond each record: reads everything.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with what is wrong.
    fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl<B: Backend + ?Sized> Backend for Box<B> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        (**self).get(key)
    }
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        (**self).scan(prefix, after, limit)
    }
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        (**self).commit(batch)
    }
    fn size_on_disk(&self) -> Result<u64, StoreError> {
        (**self).size_on_disk()
    }
    fn check(&self) -> Result<(), StoreError> {
        (**self).check()
    }
}

/// The largest value that a backend takes, in bytes. Media never goes into the store; this is far above any stanza or
/// event that the shells let in.
pub const MAX_VALUE: usize = 16 << 20;

/// Writes that belong together: a key has one fate, `Some` value or `None` (removed). The last word on a key counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Batch {
    writes: BTreeMap<Vec<u8>, Fate>,
}

impl Batch {
    /// A batch without writes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `value` under `key`.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes.insert(key.into(), Some(value.into()));
    }

    /// Removes `key`, whether it is there or not.
    pub fn remove(&mut self, key: impl Into<Vec<u8>>) {
        self.writes.insert(key.into(), None);
    }

    /// The fate of `key`, if the batch has one for it.
    pub fn fate(&self, key: &[u8]) -> Option<&Fate> {
        self.writes.get(key)
    }

    /// All writes, ascending by key.
    pub fn iter(&self) -> btree_map::Iter<'_, Vec<u8>, Fate> {
        self.writes.iter()
    }

    /// Writes from `bounds` on, ascending by key.
    pub(super) fn range<'a>(
        &'a self,
        bounds: (std::ops::Bound<&'a [u8]>, std::ops::Bound<&'a [u8]>),
    ) -> btree_map::Range<'a, Vec<u8>, Fate> {
        self.writes.range::<[u8], _>(bounds)
    }

    /// How many keys it writes.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether it writes nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Refuses what no backend takes.
    ///
    /// # Errors
    /// [`StoreError::EmptyKey`], [`StoreError::TooLarge`].
    pub fn validate(&self) -> Result<(), StoreError> {
        for (key, value) in &self.writes {
            if key.is_empty() {
                return Err(StoreError::EmptyKey);
            }
            if key.len() > MAX_VALUE || value.as_ref().is_some_and(|value| value.len() > MAX_VALUE) {
                return Err(StoreError::TooLarge { key: RecordKey(key.clone()) });
            }
        }
        Ok(())
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = (&'a Vec<u8>, &'a Fate);
    type IntoIter = btree_map::Iter<'a, Vec<u8>, Fate>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Batch {
    // Keys hold addresses and values hold messages: neither belongs in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("writes", &self.writes.len()).finish_non_exhaustive()
    }
}

/// A record's key inside an error. It prints as its table and length, for a key holds people's addresses.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordKey(pub Vec<u8>);

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.first() {
            Some(table) => write!(f, "table {}, key of {} bytes", table.escape_ascii(), self.0.len()),
            None => f.write_str("the store's own header"),
        }
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why the store did not do what was asked. Each prints as a sentence with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process (or another handle of this one) holds the store.
    #[error("the store {} is in use by another process: stop that one first, or set another `store.path`", path.display())]
    Locked {
        /// The store's directory.
        path: PathBuf,
    },
    /// Bytes are not what was written. The store is left as it is.
    #[error(
        "the store is damaged ({what}): nothing of it was changed on purpose; move its directory aside and run \
         `messenger-bridge store import FILE` with the newest export, or `messenger-bridge recover`"
    )]
    Corrupt {
        /// What was found.
        what: String,
        /// The record, where it is a single one.
        key: Option<RecordKey>,
    },
    /// There is no store where one was expected.
    #[error("there is no store at {}: check `store.path`, or start the bridge once to create one", path.display())]
    Missing {
        /// The store's directory.
        path: PathBuf,
    },
    /// The disk or the file system failed.
    #[error(
        "{what} failed: {source}; check that the disk works, has space left, and that the files belong to this user"
    )]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The disk did not confirm a write, so nothing that follows can be trusted until the files are read afresh.
    #[error("the disk failed to confirm a write to the store: check the disk, then restart the bridge")]
    Unsynced,
    /// The store was written by a newer version of the program.
    #[error(
        "the store has schema version {found}, this program knows up to {known}: use the newer program again, or import \
         an export that this one made"
    )]
    NewerSchema {
        /// The version in the store.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// The store is older than anything that this program can bring up.
    #[error(
        "the store has schema version {found}, from which this program cannot lead to {known}: start a version of the \
         program in between once, then this one again"
    )]
    OlderSchema {
        /// The version in the store.
        found: u32,
        /// The version that this program works with.
        known: u32,
    },
    /// The store's files have a format that this program does not know.
    #[error("the store's files have format {found}, this program knows up to {known}: use the newer program again")]
    NewerFormat {
        /// The format of the files.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// Somebody ended it before it was done.
    #[error("ended before it was done")]
    Cancelled,
    /// The key file is not the one that the store was sealed with.
    #[error(
        "the key in `store.key_file` is not the one that this store was sealed with: put the right key file back; without \
         it the sign-ins in this store cannot be read, and everyone has to sign in again to a fresh store"
    )]
    WrongKey,
    /// The key file cannot be used.
    #[error("the key file {} cannot be used: {why}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        why: String,
    },
    /// An import into a store that already holds something.
    #[error("the store already holds records: import goes into an empty store only; move the old one aside first")]
    NotEmpty,
    /// An export that cannot be imported; nothing of it was taken over.
    #[error("the export cannot be imported, line {line}: {why}; nothing was taken over, use another export")]
    BadExport {
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A write under an empty key: a mistake in the program.
    #[error("a record without a key was to be stored: please report this as a bug")]
    EmptyKey,
    /// A value over [`MAX_VALUE`]: a mistake in the program.
    #[error("a record ({key}) is larger than the store takes: please report this as a bug")]
    TooLarge {
        /// The record.
        key: RecordKey,
    },
}

impl StoreError {
    /// A failure of the disk while doing `what`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Damage that is not one record's.
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into(), key: None }
    }

    /// A damaged record.
    pub fn corrupt_record(key: &[u8], why: &str) -> Self {
        let key = RecordKey(key.to_vec());
        Self::Corrupt { what: format!("{key}: {why}"), key: Some(key) }
    }
}

/// The schema version of `backend`; `None` in a store that has none yet (a new one).
///
/// # Errors
/// [`StoreError::Corrupt`] when the record is not a version, or as [`Backend::get`].
pub fn schema_version<B: Backend + ?Sized>(backend: &B) -> Result<Option<u32>, StoreError> {
    let Some(value) = backend.get(SCHEMA_KEY)? else { return Ok(None) };
    let bytes = <[u8; 4]>::try_from(value.as_slice())
        .map_err(|_| StoreError::corrupt_record(SCHEMA_KEY, "not a schema version"))?;
    Ok(Some(u32::from_le_bytes(bytes)))
}

/// As [`schema_version`], refusing a version above `known`, and a store that holds records but no version.
///
/// # Errors
/// [`StoreError::NewerSchema`], [`StoreError::Corrupt`].
pub fn known_schema_version<B: Backend + ?Sized>(backend: &B, known: u32) -> Result<Option<u32>, StoreError> {
    match schema_version(backend)? {
        Some(found) if found > known => Err(StoreError::NewerSchema { found, known }),
        None if !backend.scan(b"", None, 1)?.is_empty() => {
            Err(StoreError::corrupt("it holds records but no schema version"))
        }
        version => Ok(version),
    }
}

/// Adds to `batch` that the store has schema `version` from then on: belongs into the same batch as the migration.
pub fn put_schema_version(batch: &mut Batch, version: u32) {
    batch.put(SCHEMA_KEY, version.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryBackend;
    use super::*;

    #[test]
    fn a_newer_schema_is_refused_with_a_sentence() {
        let mut backend = MemoryBackend::new();
        assert_eq!(known_schema_version(&backend, 3).unwrap(), None);
        let mut batch = Batch::new();
        put_schema_version(&mut batch, 4);
        backend.commit(&batch).unwrap();
        assert_eq!(schema_version(&backend).unwrap(), Some(4));
        assert_eq!(known_schema_version(&backend, 4).unwrap(), Some(4));
        let error = known_schema_version(&backend, 3).unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema { found: 4, known: 3 }));
        assert!(error.to_string().contains("schema version 4, this program knows up to 3"));
    }

    #[test]
    fn records_without_a_schema_version_and_broken_versions_are_damage() {
        let mut backend = MemoryBackend::new();
        let mut batch = Batch::new();
        batch.put("l/1", "x");
        backend.commit(&batch).unwrap();
        assert!(matches!(known_schema_version(&backend, 1), Err(StoreError::Corrupt { .. })));
        batch.put(SCHEMA_KEY, "12345");
        backend.commit(&batch).unwrap();
        assert!(matches!(known_schema_version(&backend, 1), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn errors_and_batches_print_no_address_and_no_value() {
        let mut batch = Batch::new();
        batch.put("c/alice@example.org", "secret text");
        let error = StoreError::corrupt_record(b"c/alice@example.org", "checksum");
        for printed in [format!("{batch:?}"), error.to_string(), format!("{error:?}")] {
            assert!(!printed.contains("alice") && !printed.contains("secret"), "{printed}");
        }
        assert!(error.to_string().contains("table c, key of 19 bytes"));
    }
}
