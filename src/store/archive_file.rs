//! Exports: the whole store as one text file that any version of any backend can read back, checked from end to end.
//!
//! JSON lines. First `{"messenger_bridge_store":1,"schema":…,"records":…}`, then one `{"k":…,"v":…}` per record, ascending
//! by key, both in Base64, then `{"sha256":…}` over every byte before it. Sealed values stay sealed: an export needs the
//! key file as much as the store does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::backend::{Backend, Batch, MAX_VALUE, StoreError, schema_version};
use super::integrity::{hex, sync_directory};
use super::meta;

/// The version of this format, the first thing in an export.
pub const FORMAT: u32 = 1;
const PAGE: usize = 512;
/// The longest line: key and value at their largest, in Base64, with what stands around them.
const MAX_LINE: u64 = (MAX_VALUE as u64) * 3 + 1_024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    messenger_bridge_store: u32,
    schema: Option<u32>,
    records: u64,
}

/// Of a newer export only this much need be understood.
#[derive(Deserialize)]
struct AnyHead {
    messenger_bridge_store: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    k: String,
    v: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tail {
    sha256: String,
}

/// Writes all of `backend` to `out`; the number of records written.
///
/// # Errors
/// As [`Backend::scan`]; [`StoreError::Io`] when `out` fails.
pub fn export<B: Backend + ?Sized>(backend: &B, out: &mut (impl Write + ?Sized)) -> Result<u64, StoreError> {
    export_watched(backend, out, &mut |_, _| true)
}

/// Is told how many records are done, and of how many if that is known yet; goes on as long as that is `true`.
pub type Watch<'a> = &'a mut dyn FnMut(u64, Option<u64>) -> bool;

/// The same, watched: first while the records are counted, then while they are written.
///
/// # Errors
/// As [`export`]; [`StoreError::Cancelled`].
pub fn export_watched<B: Backend + ?Sized>(
    backend: &B,
    out: &mut (impl Write + ?Sized),
    watch: Watch<'_>,
) -> Result<u64, StoreError> {
    let mut records = 0;
    each_page(backend, |page| {
        records += page.len() as u64;
        go_on(watch, records, None)
    })?;
    let mut out = Hashing { out, digest: Sha256::new() };
    let schema = schema_version(backend)?;
    put_line(&mut out, &Head { messenger_bridge_store: FORMAT, schema, records })?;
    let mut written = 0;
    each_page(backend, |page| {
        go_on(watch, written, Some(records))?;
        written += page.len() as u64;
        for (key, value) in page {
            put_line(&mut out, &Line { k: STANDARD.encode(key), v: STANDARD.encode(value) })?;
        }
        Ok(())
    })?;
    let sha256 = hex(&out.digest.clone().finalize());
    put_line(&mut out, &Tail { sha256 })?;
    out.flush().map_err(StoreError::io("writing the export"))?;
    go_on(watch, records, Some(records))?;
    Ok(records)
}

fn go_on(watch: Watch<'_>, done: u64, total: Option<u64>) -> Result<(), StoreError> {
    if watch(done, total) { Ok(()) } else { Err(StoreError::Cancelled) }
}

type Page = [(Vec<u8>, Vec<u8>)];

fn each_page<B: Backend + ?Sized>(
    backend: &B,
    mut take: impl FnMut(&Page) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = backend.scan(b"", after.as_deref(), PAGE)?;
        take(&page)?;
        match page.into_iter().next_back() {
            Some((key, _)) => after = Some(key),
            None => return Ok(()),
        }
    }
}

fn put_line(out: &mut impl Write, line: &impl Serialize) -> Result<(), StoreError> {
    let mut write = || -> io::Result<()> {
        serde_json::to_writer(&mut *out, line)?;
        out.write_all(b"\n")
    };
    write().map_err(StoreError::io("writing the export"))
}

struct Hashing<'a, W: ?Sized> {
    out: &'a mut W,
    digest: Sha256,
}

impl<W: Write + ?Sized> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads an export into `backend`, in one batch: all of it or nothing. `entropy` takes its counters on, so that no id is used
/// twice; `None` leaves them. The records of the store itself (schema version, key
/// check) come from the export. Holds the whole export in memory.
///
/// # Errors
/// [`StoreError::NotEmpty`]: `backend` holds a table's records. [`StoreError::NewerFormat`], [`StoreError::NewerSchema`]
/// (above `known_schema`). [`StoreError::BadExport`]: cut short or altered.
pub fn import<B: Backend + ?Sized>(
    input: &mut (impl BufRead + ?Sized),
    backend: &mut B,
    known_schema: u32,
    entropy: Option<u64>,
) -> Result<u64, StoreError> {
    import_watched(input, backend, known_schema, entropy, &mut |_, _| true)
}

/// The same, watched while it is read; what is written after that is one step.
///
/// # Errors
/// As [`import`]; [`StoreError::Cancelled`]: nothing was written.
pub fn import_watched<B: Backend + ?Sized>(
    input: &mut (impl BufRead + ?Sized),
    backend: &mut B,
    known_schema: u32,
    entropy: Option<u64>,
    watch: Watch<'_>,
) -> Result<u64, StoreError> {
    let own = backend.scan(b"\0", None, PAGE)?;
    if !backend.scan(b"", own.last().map(|(key, _)| key.as_slice()), 1)?.is_empty() {
        return Err(StoreError::NotEmpty);
    }
    let mut lines = Lines { input, digest: Sha256::new(), number: 0, line: Vec::new() };
    let head: Head = {
        lines.advance()?;
        match lines.parse::<AnyHead>() {
            Ok(head) if head.messenger_bridge_store > FORMAT => {
                return Err(StoreError::NewerFormat { found: head.messenger_bridge_store, known: FORMAT });
            }
            Ok(_) => lines.parse()?,
            Err(_) => return Err(lines.bad("this is no export of messenger-bridge")),
        }
    };
    match head.schema {
        Some(found) if found > known_schema => return Err(StoreError::NewerSchema { found, known: known_schema }),
        _ => {}
    }
    let mut batch = Batch::new();
    for (key, _) in own {
        batch.remove(key);
    }
    let mut last = Vec::new();
    for number in 0..head.records {
        if number.is_multiple_of(PAGE as u64) {
            go_on(watch, number, Some(head.records))?;
        }
        lines.advance()?;
        let line: Line = lines.parse()?;
        let (Ok(key), Ok(value)) = (STANDARD.decode(&line.k), STANDARD.decode(&line.v)) else {
            return Err(lines.bad("the record is not in Base64"));
        };
        if key <= last {
            return Err(lines.bad("the records are out of order"));
        }
        last.clone_from(&key);
        if entropy.is_some() && key == meta::began_key() {
            continue;
        }
        let moved_on = entropy.and_then(|entropy| meta::moved_on(&key, &value, entropy));
        batch.put(key, moved_on.unwrap_or(value));
    }
    lines.advance()?;
    let tail: Tail = lines.parse()?;
    if tail.sha256 != hex(&lines.digest.clone().finalize()) {
        return Err(lines.bad("the checksum does not match: the file was altered"));
    }
    if !lines.input.fill_buf().map_err(StoreError::io("reading the export"))?.is_empty() {
        return Err(lines.bad("something follows the end"));
    }
    go_on(watch, head.records, Some(head.records))?;
    backend.commit(&batch)?;
    Ok(head.records)
}

struct Lines<'a, R: ?Sized> {
    input: &'a mut R,
    /// Over everything before the current line.
    digest: Sha256,
    number: u64,
    line: Vec<u8>,
}

impl<R: BufRead + ?Sized> Lines<'_, R> {
    fn advance(&mut self) -> Result<(), StoreError> {
        self.digest.update(&self.line);
        self.number += 1;
        self.line.clear();
        let read = Read::take(&mut *self.input, MAX_LINE).read_until(b'\n', &mut self.line);
        read.map_err(StoreError::io("reading the export"))?;
        if self.line.last() != Some(&b'\n') {
            return Err(self.bad("the file is cut short"));
        }
        Ok(())
    }

    fn parse<'l, T: Deserialize<'l>>(&'l self) -> Result<T, StoreError> {
        serde_json::from_slice(&self.line).map_err(|_| self.bad("it is not what belongs there: the file was altered"))
    }

    fn bad(&self, why: &str) -> StoreError {
        StoreError::BadExport { line: self.number, why: why.to_owned() }
    }
}

/// Writes the next export of a rotation into `dir` (made with mode 0700 if need be): `export-000001.jsonl` and so on, mode
/// 0600, in place only when whole and on disk. Then removes the oldest beyond `keep`, of which at least one stays.
///
/// # Errors
/// What `write` said, [`StoreError::Io`]. The exports before are untouched then.
pub fn rotate_exports(
    dir: &Path,
    keep: usize,
    write: impl FnOnce(&mut dyn Write) -> Result<(), StoreError>,
) -> Result<PathBuf, StoreError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(StoreError::io("making the directory of exports"))?;
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(StoreError::io("listing the exports"))? {
        let name = entry.map_err(StoreError::io("listing the exports"))?.file_name();
        numbers.extend(name.to_str().and_then(export_number));
    }
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last + 1);
    let path = dir.join(export_name(next));
    let partial = dir.join("export.partial");
    // One that a crash left behind may have another mode or owner.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::io("clearing an unfinished export")(error));
        }
        _ => {}
    }
    let done = write_export(&partial, &path, write);
    if done.is_err() {
        // What was written is of no use; the error is what counts.
        let _ = fs::remove_file(&partial);
    }
    done?;
    sync_directory(dir)?;
    numbers.push(next);
    let surplus = numbers.len().saturating_sub(keep.max(1));
    for number in &numbers[..surplus] {
        fs::remove_file(dir.join(export_name(*number))).map_err(StoreError::io("removing an old export"))?;
    }
    Ok(path)
}

fn write_export(
    partial: &Path,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed = || StoreError::io("writing an export");
    let file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial).map_err(failed())?;
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    let file = out.into_inner().map_err(|error| failed()(error.into_error()))?;
    file.sync_all().map_err(failed())?;
    fs::rename(partial, path).map_err(failed())
}

fn export_name(number: u64) -> String {
    format!("export-{number:06}.jsonl")
}

fn export_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("export-")?.strip_suffix(".jsonl")?.parse().ok()?;
    (export_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::backend::put_schema_version;
    use super::super::memory::MemoryBackend;
    use super::super::sled::SledBackend;
    use super::*;

    fn filled(records: u32) -> MemoryBackend {
        let mut backend = MemoryBackend::new();
        let mut batch = Batch::new();
        put_schema_version(&mut batch, 3);
        for number in 0..records {
            batch.put(format!("m/{number:05}"), [number.to_le_bytes().as_slice(), b"\0\n\xff"].concat());
        }
        backend.commit(&batch).unwrap();
        backend
    }

    fn exported(backend: &impl Backend) -> Vec<u8> {
        let mut out = Vec::new();
        export(backend, &mut out).unwrap();
        out
    }

    fn refused(file: &[u8]) -> StoreError {
        let mut target = MemoryBackend::new();
        let error = import(&mut &file[..], &mut target, 3, None).unwrap_err();
        assert_eq!(target.commits(), 0, "nothing is taken over: {error}");
        error
    }

    #[test]
    fn a_store_goes_through_an_export_into_the_other_backend_and_back() {
        let directory = tempfile::tempdir().unwrap();
        let source = filled(1_500);
        let file = exported(&source);
        let mut disk = SledBackend::open(&directory.path().join("data"), [1; 16]).unwrap();
        assert_eq!(import(&mut file.as_slice(), &mut disk, 3, None).unwrap(), 1_501);
        assert_eq!(disk.scan(b"", None, 9_999).unwrap(), source.scan(b"", None, 9_999).unwrap());
        assert_eq!(exported(&disk), file, "the same records make the same file");
        disk.check().unwrap();
    }

    #[test]
    fn only_an_empty_store_is_imported_into() {
        let file = exported(&filled(3));
        let mut target = filled(1);
        assert!(matches!(import(&mut file.as_slice(), &mut target, 3, None), Err(StoreError::NotEmpty)));
        let mut fresh = filled(0);
        assert_eq!(
            import(&mut file.as_slice(), &mut fresh, 3, None).unwrap(),
            4,
            "the store's own records are no obstacle"
        );
    }

    #[test]
    fn any_cut_and_any_altered_byte_is_refused() {
        let file = exported(&filled(3));
        for length in 0..file.len() {
            refused(&file[..length]);
        }
        for at in 0..file.len() {
            for flip in [1, 4, 0x20] {
                let mut altered = file.clone();
                altered[at] ^= flip;
                refused(&altered);
            }
        }
        let twice = [file.as_slice(), b"{}\n"].concat();
        assert!(refused(&twice).to_string().contains("something follows the end"));
        assert!(refused(b"not an export\n").to_string().contains("no export of messenger-bridge"));
    }

    #[test]
    fn newer_exports_are_refused_by_name() {
        let newer = b"{\"messenger_bridge_store\":2,\"something\":\"new\"}\n";
        assert!(matches!(refused(newer), StoreError::NewerFormat { found: 2, known: 1 }));
        let mut target = MemoryBackend::new();
        let error = import(&mut exported(&filled(1)).as_slice(), &mut target, 2, None).unwrap_err();
        assert!(matches!(error, StoreError::NewerSchema { found: 3, known: 2 }));
    }

    #[test]
    fn exports_rotate_by_number_and_a_failed_one_leaves_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("exports");
        let names = || {
            let mut names: Vec<String> =
                fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        for number in 1..=4 {
            let path = rotate_exports(&dir, 3, |out| export(&filled(number), out).map(|_| ())).unwrap();
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), format!("export-{number:06}.jsonl"));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        }
        let kept = ["export-000002.jsonl", "export-000003.jsonl", "export-000004.jsonl"];
        assert_eq!(names(), kept);
        assert!(rotate_exports(&dir, 3, |_| Err(StoreError::NotEmpty)).is_err());
        assert_eq!(names(), kept);
        fs::write(dir.join("export.partial"), "left by a crash").unwrap();
        fs::write(dir.join("export-9.jsonl"), "someone else's").unwrap();
        rotate_exports(&dir, 0, |out| export(&filled(5), out).map(|_| ())).unwrap();
        assert_eq!(names(), ["export-000005.jsonl", "export-9.jsonl"]);
        let mut newest = io::BufReader::new(File::open(dir.join("export-000005.jsonl")).unwrap());
        assert_eq!(import(&mut newest, &mut MemoryBackend::new(), 3, None).unwrap(), 6);
    }
}
