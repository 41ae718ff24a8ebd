//! The few files that lie beside sled's own and keep it honest. sled repairs its log by cutting off what it cannot read,
//! which after a crash is right and after damage loses records in silence; these files tell the two apart.
//!
//! - `format`: written last when a store is made: this is a store, of this format, and which one (a random id).
//! - `witness`: the number of the last batch, written after each commit. A log that ends before it has lost something.
//! - `clean`: checksums of all files, written at an orderly close, checked and taken away at the next open.
//!
//! Also file modes (directory 0700, files 0600, whatever the umask) and the directory's lock.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{thread, time::Duration};

use sha2::{Digest, Sha256};

use super::backend::StoreError;

/// How often a lock that is held is asked for again, and how long between.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// The newest format of a store's files that this program knows.
pub const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "format";
const WITNESS_FILE: &str = "witness";
const CLEAN_FILE: &str = "clean";
/// Present while a store is being made: what else is there may be thrown away.
const CREATING_FILE: &str = "creating";
/// sled's log; the others of sled are `conf`, `snap.*` and `blobs/`.
pub const DB_FILE: &str = "db";

/// What a store's directory turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or what an interrupted creation left (removed by now).
    Nothing,
    /// A store with this id.
    Store([u8; 16]),
}

/// Makes the directory if need be, closes it to others and locks it for this process until the file is dropped.
pub fn lock_directory(path: &Path) -> Result<File, StoreError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(StoreError::io("making the directory above the store"))?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StoreError::io("making the store's directory")(error));
        }
        _ => {}
    }
    let directory = File::open(path).map_err(StoreError::io("opening the store's directory"))?;
    // A process that is just ending, or a child that has not yet become another program, may hold the lock for an instant.
    let mut tries = LOCK_TRIES;
    loop {
        match directory.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if tries > 0 => {
                tries -= 1;
                thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("locking the store's directory")(error)),
        }
    }
    set_mode(path, 0o700)?;
    Ok(directory)
}

/// Says what is in the directory. Anything that is neither a store nor empty is damage, never a place for a new store.
pub fn examine(path: &Path) -> Result<Found, StoreError> {
    let there = names(path)?;
    let creating = there.iter().any(|name| name == CREATING_FILE);
    if there.iter().any(|name| name == FORMAT_FILE) {
        let instance = read_format(path)?;
        if !there.iter().any(|name| name == DB_FILE) {
            return Err(StoreError::corrupt("its file `db` is missing"));
        }
        if creating {
            remove(path, CREATING_FILE)?;
        }
        return Ok(Found::Store(instance));
    }
    if creating {
        for name in there.iter().filter(|name| ours(name)) {
            remove(path, name)?;
        }
        if path.join("blobs").exists() {
            fs::remove_dir_all(path.join("blobs")).map_err(StoreError::io("clearing an unfinished store"))?;
        }
        remove(path, CREATING_FILE)?;
        return Ok(Found::Nothing);
    }
    match there.iter().find(|name| *name != "lost+found") {
        None => Ok(Found::Nothing),
        Some(_) => {
            Err(StoreError::corrupt("its directory holds files, but not the file `format` that every store has"))
        }
    }
}

/// Begins a creation: until [`finish_creation`], whatever is in the directory is known to be unfinished.
pub fn begin_creation(path: &Path) -> Result<(), StoreError> {
    write_file(path, CREATING_FILE, b"")?;
    // Made here with its mode; sled takes the file as it finds it.
    private(path, DB_FILE, true)?;
    sync_directory(path)
}

/// Ends a creation: from here on the directory is a store.
pub fn finish_creation(path: &Path, instance: &[u8; 16]) -> Result<(), StoreError> {
    let body = format!("messenger-bridge store\nformat {FORMAT}\ninstance {}\n", hex(instance));
    write_file(path, FORMAT_FILE, with_checksum(body).as_bytes())?;
    sync_directory(path)?;
    remove(path, CREATING_FILE)?;
    sync_directory(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => sync_directory(Path::new(".")),
    }
}

fn read_format(path: &Path) -> Result<[u8; 16], StoreError> {
    let broken = || StoreError::corrupt("its file `format` is not as it was written");
    let text = read_small(path, FORMAT_FILE)?;
    let body = without_checksum(&text).ok_or_else(broken)?;
    let mut lines = body.lines();
    lines.next().filter(|line| *line == "messenger-bridge store").ok_or_else(broken)?;
    let format = lines.next().and_then(|line| line.strip_prefix("format ")).ok_or_else(broken)?;
    match format.parse::<u32>() {
        Ok(found) if found > FORMAT => return Err(StoreError::NewerFormat { found, known: FORMAT }),
        Ok(FORMAT) => {}
        _ => return Err(broken()),
    }
    let instance = lines.next().and_then(|line| line.strip_prefix("instance ")).ok_or_else(broken)?;
    unhex(instance).ok_or_else(broken)
}

/// The number of the last batch, kept in two slots that are written in turn, each in its own sector.
///
/// It is not synced with each commit: after a power cut it may be behind, which is no harm; ahead of the log it cannot
/// be, for the log is synced first.
#[derive(Debug)]
pub struct Witness {
    file: File,
    instance: [u8; 16],
}

const SLOT: u64 = 512;

impl Witness {
    /// Makes the file of a new store.
    pub fn create(path: &Path, instance: [u8; 16]) -> Result<Self, StoreError> {
        let file = private(path, WITNESS_FILE, true)?;
        let witness = Self { file, instance };
        witness.file.set_len(2 * SLOT).map_err(StoreError::io("making the store's witness"))?;
        witness.note(0)?;
        witness.file.sync_all().map_err(StoreError::io("syncing the store's witness"))?;
        Ok(witness)
    }

    /// Opens the file of a store; also the number of the last batch that it saw.
    pub fn open(path: &Path, instance: [u8; 16]) -> Result<(Self, u64), StoreError> {
        let file = match private(path, WITNESS_FILE, false) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::corrupt("its file `witness` is missing"));
            }
            other => other?,
        };
        let witness = Self { file, instance };
        let seen = [0, SLOT].into_iter().filter_map(|offset| witness.read(offset)).max();
        let seen = seen.ok_or_else(|| StoreError::corrupt("its file `witness` is not as it was written"))?;
        Ok((witness, seen))
    }

    /// Notes that batch `sequence` is durable.
    pub fn note(&self, sequence: u64) -> Result<(), StoreError> {
        let mut slot = sequence.to_le_bytes().to_vec();
        slot.extend_from_slice(&self.tag(sequence));
        self.file.write_all_at(&slot, sequence % 2 * SLOT).map_err(StoreError::io("writing the store's witness"))
    }

    fn read(&self, offset: u64) -> Option<u64> {
        let mut slot = [0; 16];
        self.file.read_exact_at(&mut slot, offset).ok()?;
        let (sequence, tag) = slot.split_first_chunk::<8>()?;
        let sequence = u64::from_le_bytes(*sequence);
        (tag == self.tag(sequence)).then_some(sequence)
    }

    fn tag(&self, sequence: u64) -> [u8; 8] {
        let digest = Sha256::new().chain_update(self.instance).chain_update(sequence.to_le_bytes()).finalize();
        let mut tag = [0; 8];
        tag.copy_from_slice(&digest[..8]);
        tag
    }
}

/// Writes `clean`: the checksums of all files, once nothing writes to them any more.
pub fn write_manifest(path: &Path) -> Result<(), StoreError> {
    let mut body = String::new();
    for name in manifest_names(path)? {
        // Writing into a string cannot fail.
        let _ = writeln!(body, "{} {name}", hash_file(&path.join(&name))?);
    }
    write_file(path, CLEAN_FILE, with_checksum(body).as_bytes())?;
    sync_directory(path)
}

/// Checks all files against `clean` and takes it away, for from here on they change. `false` if there is none: the last
/// run did not end in order, and the contents must be examined instead.
pub fn take_manifest(path: &Path) -> Result<bool, StoreError> {
    let text = match read_small(path, CLEAN_FILE) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let body =
        without_checksum(&text).ok_or_else(|| StoreError::corrupt("its file `clean` is not as it was written"))?;
    for line in body.lines() {
        let (expected, name) =
            line.split_once(' ').ok_or_else(|| StoreError::corrupt("its file `clean` is not as it was written"))?;
        match hash_file(&path.join(name)) {
            Ok(actual) if actual == expected => {}
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::corrupt(format!("its file `{name}` is missing")));
            }
            Ok(_) => {
                return Err(StoreError::corrupt(format!("its file `{name}` has changed since the store was closed")));
            }
            Err(error) => return Err(error),
        }
    }
    remove(path, CLEAN_FILE)?;
    sync_directory(path)?;
    Ok(true)
}

fn manifest_names(path: &Path) -> Result<Vec<String>, StoreError> {
    let mut all: Vec<String> = names(path)?.into_iter().filter(|name| ours(name) && name != CLEAN_FILE).collect();
    if path.join("blobs").is_dir() {
        all.extend(names(&path.join("blobs"))?.into_iter().map(|name| format!("blobs/{name}")));
    }
    all.sort();
    Ok(all)
}

/// Whether a file of that name is the store's, sled's among them.
fn ours(name: &str) -> bool {
    matches!(name, DB_FILE | "conf" | FORMAT_FILE | WITNESS_FILE | CLEAN_FILE)
        || name.starts_with("snap.")
        || [FORMAT_FILE, CLEAN_FILE, CREATING_FILE].iter().any(|of| name.strip_suffix(".new") == Some(of))
}

fn names(path: &Path) -> Result<Vec<String>, StoreError> {
    let listing = || -> io::Result<Vec<String>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    listing().map_err(StoreError::io("listing the store's directory"))
}

/// The newest of sled's large values, by name. sled syncs such a file but not the directory that names it.
pub fn newest_blob(path: &Path) -> Result<Option<i64>, StoreError> {
    Ok(names(&path.join("blobs"))?.iter().filter_map(|name| name.parse().ok()).max())
}

/// Makes directory entries durable.
pub fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(StoreError::io("syncing a directory"))
}

/// Removes snapshots that sled had begun when it was cut off: it would take the newest of them for a whole one.
pub fn clear_unfinished_snapshots(path: &Path) -> Result<(), StoreError> {
    for name in names(path)?.iter().filter(|name| name.starts_with("snap.") && name.ends_with("generating")) {
        remove(path, name)?;
    }
    Ok(())
}

/// Closes sled's own files to others: it makes them with the process's umask.
pub fn tighten(path: &Path) -> Result<(), StoreError> {
    for name in manifest_names(path)? {
        set_mode(&path.join(name), 0o600)?;
    }
    set_mode(&path.join("blobs"), 0o700)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    let set = || -> io::Result<()> {
        if fs::metadata(path)?.permissions().mode() & 0o7777 != mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        Ok(())
    };
    match set() {
        // sled removes old snapshots and blobs by itself.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(StoreError::io("setting the mode of the store's files")),
    }
}

fn private(path: &Path, name: &str, create: bool) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(create)
        .mode(0o600)
        .open(path.join(name))
        .map_err(StoreError::io(format!("opening `{name}` of the store")))
}

/// Writes a small file so that it is there whole or not at all; the caller syncs the directory.
fn write_file(path: &Path, name: &str, content: &[u8]) -> Result<(), StoreError> {
    let new = format!("{name}.new");
    let mut file = private(path, &new, true)?;
    let write = |file: &mut File| -> io::Result<()> {
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(path.join(&new), path.join(name))
    };
    write(&mut file).map_err(StoreError::io(format!("writing `{name}` of the store")))
}

/// Reads one of our own text files; they are small, and what is longer is not one of them.
fn read_small(path: &Path, name: &str) -> Result<String, StoreError> {
    const MOST: u64 = 16 << 20;
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path.join(name))?.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(StoreError::io(format!("reading `{name}` of the store")))?;
    String::from_utf8(bytes).map_err(|_| StoreError::corrupt(format!("its file `{name}` is not as it was written")))
}

fn remove(path: &Path, name: &str) -> Result<(), StoreError> {
    fs::remove_file(path.join(name)).map_err(StoreError::io(format!("removing `{name}` of the store")))
}

fn hash_file(path: &PathBuf) -> Result<String, StoreError> {
    let hash = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex(&digest.finalize())),
                read => digest.update(&buffer[..read]),
            }
        }
    };
    hash().map_err(StoreError::io("reading a file of the store"))
}

fn with_checksum(mut body: String) -> String {
    let digest = hex(&Sha256::digest(body.as_bytes()));
    let _ = writeln!(body, "sha256 {digest}");
    body
}

fn without_checksum(text: &str) -> Option<&str> {
    let end = text.strip_suffix('\n')?.rfind('\n').map_or(0, |at| at + 1);
    let (body, last) = text.split_at(end);
    (last == format!("sha256 {}\n", hex(&Sha256::digest(body.as_bytes())))).then_some(body)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes from hexadecimal of exactly their length.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}
