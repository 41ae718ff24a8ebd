//! The store on disk, on sled 0.34.
//!
//! One tree; a commit is one sled batch, flushed, then `sync_all` on sled's file, because sled's own flush is no fsync on
//! Linux. Each value carries a checksum and the batch renews a header over all of them (`record.rs`); the files beside
//! sled's (`integrity.rs`) tell damage from a crash. sled answers some damage with a panic: each call is guarded.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ::sled::{Db, Error as SledError, Mode};

use super::backend::{Backend, Batch, Record, StoreError};
use super::cache::{Cache, Known};
use super::integrity::{self, DB_FILE, Found, Witness};
use super::memory::first_after;
use super::record::{self, HEADER_KEY, Header};

/// sled's page cache; its real memory is two to three times this.
const CACHE_BYTES: u64 = 8 << 20;
/// How often a millisecond is waited for sled's background threads to let go of the file when it is closed.
const CLOSE_TRIES: u32 = 5_000;

const OPENING: &str = "opening the store";
const READING: &str = "reading the store";

/// A store in a directory of its own, held by one process at a time.
pub struct SledBackend {
    path: PathBuf,
    /// `None` after a failed write, until the next commit has opened it again.
    db: Option<Db>,
    /// A second handle on sled's file, to sync it.
    file: File,
    header: Header,
    witness: Witness,
    newest_blob: Option<i64>,
    /// A sync failed: the kernel may have dropped what it could not write, so only a new process may go on.
    unsynced: bool,
    /// Opened and examined, and no damage met since: its files may be vouched for at the close.
    sound: Cell<bool>,
    cache: RefCell<Cache>,
    _lock: File,
}

/// A batch that is about to be written.
struct Prepared {
    writes: ::sled::Batch,
    header: Header,
    /// What each key will hold.
    after: Vec<(Vec<u8>, Known)>,
}

impl SledBackend {
    /// Opens the store in `path`, or makes one if the directory is empty or not there; `entropy` then becomes its id.
    ///
    /// After an orderly close all files are checked against their checksums; after a crash every record is read and
    /// checked. A store that cannot be read is refused, never replaced by an empty one.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Corrupt`], [`StoreError::NewerFormat`], [`StoreError::Io`].
    pub fn open(path: &Path, entropy: [u8; 16]) -> Result<Self, StoreError> {
        let lock = integrity::lock_directory(path)?;
        match integrity::examine(path)? {
            Found::Nothing => Self::create(path, entropy, lock),
            Found::Store(instance) => Self::load(path, instance, lock),
        }
    }

    /// Opens the store in `path`, which must exist.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is none, else as [`SledBackend::open`].
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        if !path.is_dir() {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        let lock = integrity::lock_directory(path)?;
        match integrity::examine(path)? {
            Found::Nothing => Err(StoreError::Missing { path: path.to_owned() }),
            Found::Store(instance) => Self::load(path, instance, lock),
        }
    }

    fn create(path: &Path, instance: [u8; 16], lock: File) -> Result<Self, StoreError> {
        integrity::begin_creation(path)?;
        let db = start(path)?;
        let header = Header::new(instance);
        guarded("making the store", || {
            db.insert(HEADER_KEY, header.encode())?;
            db.flush()
        })?;
        let file = open_file(path)?;
        file.sync_all().map_err(StoreError::io("syncing the store"))?;
        let witness = Witness::create(path, instance)?;
        integrity::tighten(path)?;
        integrity::finish_creation(path, &instance)?;
        let path = path.to_owned();
        Ok(Self {
            path,
            db: Some(db),
            file,
            header,
            witness,
            newest_blob: None,
            unsynced: false,
            sound: Cell::new(true),
            cache: RefCell::default(),
            _lock: lock,
        })
    }

    fn load(path: &Path, instance: [u8; 16], lock: File) -> Result<Self, StoreError> {
        let (witness, seen) = Witness::open(path, instance)?;
        let clean = integrity::take_manifest(path)?;
        let file = open_file(path)?;
        let db = start(path)?;
        let header = read_header(&db, instance, seen)?;
        integrity::tighten(path)?;
        let path = path.to_owned();
        let newest_blob = integrity::newest_blob(&path)?;
        let sound = Cell::new(false);
        let cache = RefCell::default();
        let store =
            Self { path, db: Some(db), file, header, witness, newest_blob, unsynced: false, sound, cache, _lock: lock };
        if !clean {
            store.check()?;
        }
        // What sled recovered from its log is in the page cache at best: durable before anything is built on it.
        store.file.sync_all().map_err(StoreError::io("syncing the store"))?;
        store.witness.note(store.header.sequence)?;
        store.sound.set(true);
        Ok(store)
    }

    /// Closes the store in order, so that the next open can check its files. Dropping it does the same, without telling
    /// of errors.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the contents are safe all the same.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.shut()
    }

    fn shut(&mut self) -> Result<(), StoreError> {
        let sound = self.sound.replace(false) && self.db.is_some() && !self.unsynced;
        self.let_go()?;
        if !sound {
            return Ok(());
        }
        self.file.sync_all().map_err(StoreError::io("syncing the store"))?;
        integrity::tighten(&self.path)?;
        integrity::write_manifest(&self.path)
    }

    /// Drops sled and waits until its background threads have let go of the file.
    fn let_go(&mut self) -> Result<(), StoreError> {
        let Some(db) = self.db.take() else { return Ok(()) };
        guarded("closing the store", || {
            drop(db);
            Ok(())
        })?;
        let probe = open_file(&self.path)?;
        for _ in 0..CLOSE_TRIES {
            if probe.try_lock().is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        let busy = io::Error::new(io::ErrorKind::ResourceBusy, "its file is still in use");
        Err(StoreError::io("closing the store")(busy))
    }

    /// After a failed write: starts afresh from what is on disk.
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.cache.get_mut().clear();
        self.let_go()?;
        let (_, seen) = Witness::open(&self.path, self.header.instance)?;
        let db = start(&self.path)?;
        self.header = read_header(&db, self.header.instance, seen)?;
        integrity::tighten(&self.path)?;
        self.db = Some(db);
        Ok(())
    }

    fn db(&self) -> Result<&Db, StoreError> {
        if self.unsynced {
            return Err(StoreError::Unsynced);
        }
        self.db.as_ref().ok_or_else(|| {
            let cause = io::Error::new(io::ErrorKind::NotConnected, "an earlier write failed");
            StoreError::io("reading the store")(cause)
        })
    }

    /// Notes damage, so that the files are not vouched for when the store is closed.
    fn noting_damage<T>(&self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(done, Err(StoreError::Corrupt { .. })) {
            self.sound.set(false);
        }
        done
    }

    /// What `batch` comes to on disk.
    fn prepare(&self, batch: &Batch) -> Result<Prepared, StoreError> {
        let mut header = self.header;
        let mut writes = ::sled::Batch::default();
        let mut after = Vec::with_capacity(batch.len());
        for (key, value) in batch {
            let before = self.known(key, |known| known.as_ref().map(|(_, tag)| *tag))?;
            if let Some(tag) = before {
                header.subtract(tag);
            }
            let known = value.as_ref().map(|value| {
                let (stored, tag) = record::wrap(key, value);
                header.add(tag);
                writes.insert(key.as_slice(), stored);
                (value.clone(), tag)
            });
            if known.is_none() && before.is_some() {
                writes.remove(key.as_slice());
            }
            after.push((key.clone(), known));
        }
        header.sequence += 1;
        writes.insert(HEADER_KEY, header.encode());
        Ok(Prepared { writes, header, after })
    }

    fn apply(&mut self, Prepared { writes, header, after }: Prepared) -> Result<(), StoreError> {
        let db = self.db()?;
        guarded("writing the store", || {
            db.apply_batch(writes)?;
            db.flush()
        })?;
        if self.file.sync_all().is_err() {
            self.unsynced = true;
            return Err(StoreError::Unsynced);
        }
        let newest_blob = integrity::newest_blob(&self.path)?;
        if newest_blob > self.newest_blob {
            integrity::sync_directory(&self.path.join("blobs"))?;
        }
        self.newest_blob = newest_blob;
        self.header = header;
        let cache = self.cache.get_mut();
        for (key, known) in after {
            cache.put(key, known);
        }
        self.witness.note(header.sequence)
    }

    /// What `key` holds on the disk, as `look` sees it.
    fn known<T>(&self, key: &[u8], look: impl FnOnce(&Known) -> T) -> Result<T, StoreError> {
        let db = self.db()?;
        let mut cache = self.cache.borrow_mut();
        if let Some(known) = cache.get(key) {
            return Ok(look(known));
        }
        let known = match guarded(READING, || db.get(key))? {
            Some(stored) => Some(record::unwrap(key, &stored).map(|(value, tag)| (value.to_vec(), tag))?),
            None => None,
        };
        let seen = look(&known);
        cache.put(key.to_vec(), known);
        Ok(seen)
    }

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.known(key, |known| known.as_ref().map(|(value, _)| value.clone()))
    }

    fn read_range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let db = self.db()?;
        let mut out = Vec::new();
        let range = (first_after(prefix, after), Bound::Unbounded);
        let mut records = guarded(READING, || Ok(db.range::<&[u8], _>(range)))?;
        while out.len() < limit {
            let Some((key, stored)) = guarded(READING, || records.next().transpose())? else { break };
            if key == HEADER_KEY {
                continue;
            }
            if !key.starts_with(prefix) {
                break;
            }
            let value = record::unwrap(&key, &stored)?.0.to_vec();
            out.push((key.to_vec(), value));
        }
        Ok(out)
    }

    fn examine(&self) -> Result<(), StoreError> {
        let db = self.db()?;
        let mut counted = Header { records: 0, sum: 0, ..self.header };
        let mut stored_header = None;
        let mut records = guarded(READING, || Ok(db.iter()))?;
        while let Some((key, stored)) = guarded(READING, || records.next().transpose())? {
            if key == HEADER_KEY {
                stored_header = Some(Header::decode(&stored)?);
            } else {
                counted.add(record::unwrap(&key, &stored)?.1);
            }
        }
        if stored_header != Some(self.header) {
            return Err(StoreError::corrupt("its header is not the one of the last batch"));
        }
        if counted != self.header {
            let (held, expected) = (counted.records, self.header.records);
            return Err(StoreError::corrupt(format!("it holds {held} records that are not the {expected} written")));
        }
        Ok(())
    }
}

impl Backend for SledBackend {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if key == HEADER_KEY { Ok(None) } else { self.noting_damage(self.read(key)) }
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.noting_damage(self.read_range(prefix, after, limit))
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        batch.validate()?;
        if batch.is_empty() {
            return Ok(());
        }
        if self.unsynced {
            return Err(StoreError::Unsynced);
        }
        if self.db.is_none() {
            self.reopen()?;
        }
        let prepared = self.noting_damage(self.prepare(batch))?;
        let done = self.apply(prepared);
        // sled stays broken after a failed write, and its memory runs ahead of the disk: only what is on disk counts.
        if done.is_err() && !self.unsynced && self.reopen().is_err() {
            self.db = None;
        }
        done
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        let db = self.db()?;
        guarded("examining the store", || db.size_on_disk())
    }

    fn check(&self) -> Result<(), StoreError> {
        self.noting_damage(self.examine())
    }
}

impl Drop for SledBackend {
    fn drop(&mut self) {
        // Without `clean` the next open examines every record instead: slower, not less safe.
        let _ = self.shut();
    }
}

fn open_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().read(true).write(true).open(path.join(DB_FILE)).map_err(StoreError::io("opening the store"))
}

fn start(path: &Path) -> Result<Db, StoreError> {
    integrity::clear_unfinished_snapshots(path)?;
    let config = ::sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .mode(Mode::LowSpace)
        // Nothing is ever left unflushed: each commit does it.
        .flush_every_ms(None);
    guarded(OPENING, || config.open())
}

fn read_header(db: &Db, instance: [u8; 16], seen: u64) -> Result<Header, StoreError> {
    let stored = guarded(READING, || db.get(HEADER_KEY))?;
    let header = Header::decode(&stored.ok_or_else(|| StoreError::corrupt("its header is missing"))?)?;
    if header.instance != instance {
        return Err(StoreError::corrupt("its file `db` is another store's"));
    }
    if header.sequence < seen {
        let (lost, at) = (seen - header.sequence, header.sequence);
        return Err(StoreError::corrupt(format!("its last {lost} batches, after batch {at}, are lost")));
    }
    Ok(header)
}

/// Calls into sled: errors become ours, and a panic, which is how sled answers some damage, becomes an error too.
fn guarded<T>(what: &str, call: impl FnOnce() -> ::sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        // Where nothing is written, a file that ends early or a value of its own that is gone is damage, not a failing disk.
        Ok(Err(SledError::Io(source)))
            if matches!(what, OPENING | READING)
                && matches!(
                    source.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound | io::ErrorKind::InvalidData
                ) =>
        {
            Err(StoreError::corrupt(format!("sled, while {what}: {source}")))
        }
        Ok(Err(SledError::Io(source))) => Err(StoreError::io(what)(source)),
        Ok(Err(SledError::Corruption { .. })) => Err(StoreError::corrupt(format!("sled found it while {what}"))),
        Ok(Err(other)) => Err(StoreError::corrupt(format!("sled, while {what}: {other}"))),
        Err(_) => Err(StoreError::corrupt(format!("sled gave up while {what}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::{conformance, verify};
    use super::*;

    fn batch(key: &str, value: &str) -> Batch {
        let mut batch = Batch::new();
        batch.put(key, value);
        batch
    }

    fn modes(path: &Path, found: &mut Vec<(String, u32)>) {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
            found.push((entry.file_name().into_string().unwrap(), mode));
            if entry.path().is_dir() {
                modes(&entry.path(), found);
            }
        }
    }

    #[test]
    fn conforms() {
        conformance::suite(|| {
            let directory = tempfile::tempdir().unwrap();
            Box::new(move || Box::new(SledBackend::open(&directory.path().join("data"), [1; 16]).unwrap()))
        });
    }

    #[test]
    fn nobody_else_can_read_the_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("above/data");
        for _ in 0..2 {
            let mut store = SledBackend::open(&path, [1; 16]).unwrap();
            let mut large = batch("a", "1");
            large.put("large", vec![b'x'; 1_000_000]);
            store.commit(&large).unwrap();
            let mut found = vec![("data".to_owned(), fs::metadata(&path).unwrap().permissions().mode() & 0o7777)];
            store.close().unwrap();
            modes(&path, &mut found);
            assert!(found.len() > 6, "{found:?}");
            for (name, mode) in found {
                let expected = if matches!(name.as_str(), "data" | "blobs") { 0o700 } else { 0o600 };
                assert_eq!(mode, expected, "{name}");
            }
            fs::set_permissions(path.join("conf"), fs::Permissions::from_mode(0o644)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn a_second_handle_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let store = SledBackend::open(&path, [1; 16]).unwrap();
        let error = SledBackend::open(&path, [1; 16]).map(|_| ()).unwrap_err();
        assert!(matches!(error, StoreError::Locked { .. }));
        assert!(error.to_string().contains("in use by another process"), "{error}");
        drop(store);
        SledBackend::open(&path, [1; 16]).unwrap();
    }

    #[test]
    fn only_an_existing_store_is_opened_when_one_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        assert!(matches!(SledBackend::open_existing(&path), Err(StoreError::Missing { .. })));
        assert!(!path.exists());
        SledBackend::open(&path, [1; 16]).unwrap().commit(&batch("a", "1")).unwrap();
        assert_eq!(SledBackend::open_existing(&path).unwrap().get(b"a").unwrap(), Some(b"1".to_vec()));
    }

    #[test]
    fn a_record_that_changed_by_itself_is_never_passed_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let mut store = SledBackend::open(&path, [1; 16]).unwrap();
        for key in ["a/1", "b/2", "c/3"] {
            store.commit(&batch(key, "value")).unwrap();
        }
        // Past the backend, as a disk would: sled's own checksums are right.
        let db = store.db().unwrap();
        let mut stored = db.get("b/2").unwrap().unwrap().to_vec();
        *stored.last_mut().unwrap() ^= 1;
        db.insert("b/2", stored).unwrap();
        // What is remembered of it is from before.
        store.cache.get_mut().clear();
        let error = store.get(b"b/2").unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt { key: Some(key), .. } if key.0 == b"b/2"), "{error}");
        assert!(error.to_string().contains("table b"), "{error}");
        assert!(store.scan(b"", None, 9).is_err());
        assert!(matches!(store.commit(&batch("b/2", "new")), Err(StoreError::Corrupt { .. })));
        assert_eq!(store.get(b"c/3").unwrap(), Some(b"value".to_vec()), "the others are still there");
        store.commit(&batch("d/4", "value")).unwrap();
        let report = verify::verify(&store, &[verify::Table { name: "any", prefix: b"", decode: &|_, _| Ok(()) }]);
        assert_eq!((report.records, report.problem_count), (4, 2), "{report:?}");
        store.close().unwrap();
        assert!(!path.join("clean").exists(), "such files are not vouched for");
        assert!(matches!(SledBackend::open(&path, [1; 16]), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn a_large_batch_is_taken_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let mut large = Batch::new();
        for number in 0..30_000_u32 {
            large.put(number.to_be_bytes(), [b'v'; 100]);
        }
        SledBackend::open(&path, [1; 16]).unwrap().commit(&large).unwrap();
        fs::remove_file(path.join("clean")).unwrap();
        let store = SledBackend::open(&path, [2; 16]).unwrap();
        assert_eq!(store.header.records, 30_000);
        assert_eq!(store.header.instance, [1; 16]);
    }
}
