//! What crashes, damage and second processes do to a store on disk: nothing acknowledged is lost, nothing damaged is
//! passed on, and nothing unreadable is opened as if it were empty.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::backend::{Backend, Batch, Record, StoreError};
use super::sled::SledBackend;
use super::verify::{Table, verify};

/// Set in a child process: the store that it is to write to.
const CHILD_STORE: &str = "MESSENGER_BRIDGE_TEST_CHILD_STORE";

/// Starts this very test again in a process of its own, with `store` to work on; `first` is what the shell does before.
fn child(test: &str, store: &Path, first: &str) -> Child {
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    Command::new("sh")
        .args(["-c", &format!("{first} exec \"$0\" \"$@\"")])
        .arg(env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(CHILD_STORE, store)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The numbers that the child said, one per line after a `#`.
fn said(child: &mut Child) -> impl Iterator<Item = u64> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| line.rsplit('#').next()?.parse().ok())
}

fn say(number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "#{number}").unwrap();
    out.flush().unwrap();
}

/// Batch `number` of the kill test: a record in each of five tables, one replaced and one removed.
fn numbered(number: u64) -> Batch {
    let mut batch = Batch::new();
    for table in ["a", "b", "c", "d", "e"] {
        batch.put(format!("{table}/{number:08}"), format!("{number} {}", "text ".repeat(30)));
    }
    batch.put("newest", number.to_string());
    if number > 20 {
        batch.remove(format!("e/{:08}", number - 20));
    }
    batch
}

fn newest(store: &SledBackend) -> u64 {
    store.get(b"newest").unwrap().map_or(0, |value| String::from_utf8(value).unwrap().parse().unwrap())
}

/// Says `#0`, opens the store, then commits one batch after another and says its number.
fn write_for_ever(path: &Path) -> ! {
    say(0);
    let mut store = SledBackend::open(path, [1; 16]).unwrap();
    let mut number = newest(&store);
    loop {
        number += 1;
        store.commit(&numbered(number)).unwrap();
        say(number);
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9_whole() {
    if let Some(path) = env::var_os(CHILD_STORE) {
        write_for_ever(Path::new(&path));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let mut total = 0;
    for round in 0..16 {
        let mut writer = child("what_was_acknowledged_survives_kill_9_whole", &path, "");
        let mut numbers = said(&mut writer);
        // Every other time it dies while it opens the store.
        let last = numbers.nth(if round % 2 == 0 { 20 + round * 9 } else { 0 }).expect("the child writes");
        writer.kill().unwrap();
        let acknowledged = numbers.last().unwrap_or(last).max(total);
        writer.wait().unwrap();
        let store = SledBackend::open_existing(&path).unwrap();
        total = newest(&store);
        assert!(total == acknowledged || total == acknowledged + 1, "{acknowledged} acknowledged, {total} found");
        for number in 1..=total {
            for table in ["a", "b", "c", "d", "e"] {
                let value = store.get(format!("{table}/{number:08}").as_bytes()).unwrap();
                let gone = table == "e" && number + 20 <= total;
                assert_eq!(value.is_none(), gone, "{table}/{number} of {total}");
            }
        }
        assert_eq!(store.scan(b"", None, usize::MAX).unwrap().len() as u64, total * 4 + total.min(20) + 1);
    }
    assert!(total > 300);
}

#[test]
fn a_creation_cut_off_anywhere_begins_again() {
    if let Some(path) = env::var_os(CHILD_STORE) {
        write_for_ever(Path::new(&path));
    }
    let directory = tempfile::tempdir().unwrap();
    for moment in ["creating", "db", "conf", "blobs", "witness", "format.new", "format"] {
        let path = directory.path().join(moment);
        let mut writer = child("a_creation_cut_off_anywhere_begins_again", &path, "");
        let _numbers = said(&mut writer);
        while !path.join(moment).exists() && !path.join("format").exists() {
            assert!(writer.try_wait().unwrap().is_none(), "the child makes a store");
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        let mut store = SledBackend::open(&path, [2; 16]).unwrap();
        let number = newest(&store) + 1;
        store.commit(&numbered(number)).unwrap();
        drop(store);
        assert_eq!(newest(&SledBackend::open_existing(&path).unwrap()), number);
    }
}

#[test]
fn a_second_process_is_refused() {
    if let Some(path) = env::var_os(CHILD_STORE) {
        let refused = matches!(SledBackend::open(Path::new(&path), [2; 16]), Err(StoreError::Locked { .. }));
        return say(u64::from(refused));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let mut store = SledBackend::open(&path, [1; 16]).unwrap();
    for expected in [1, 0] {
        let mut second = child("a_second_process_is_refused", &path, "");
        assert_eq!(said(&mut second).last(), Some(expected));
        second.wait().unwrap();
        if expected == 1 {
            store.commit(&numbered(1)).unwrap();
            drop(store);
            store = SledBackend::open(&directory.path().join("other"), [1; 16]).unwrap();
        }
    }
}

/// Commits until the disk takes no more (a limit on file sizes stands in for a full disk), then goes on once it does.
#[test]
fn a_full_disk_fails_the_commit_and_later_ones_succeed() {
    if let Some(path) = env::var_os(CHILD_STORE) {
        let mut store = SledBackend::open(Path::new(&path), [1; 16]).unwrap();
        let mut number = 1;
        while store.commit(&numbered(number)).is_ok() {
            number += 1;
        }
        assert!(store.commit(&numbered(number)).is_err(), "still full");
        say(number);
        // The parent lifts the limit and says so.
        std::io::stdin().lines().next();
        store.commit(&numbered(number)).unwrap();
        store.check().unwrap();
        store.commit(&numbered(number + 1)).unwrap();
        store.close().unwrap();
        return say(number + 1);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    // Soft limit only, in blocks of 512 bytes; without the signal, a write over it fails with EFBIG.
    let limits = "trap '' XFSZ; ulimit -S -f 2100;";
    let mut writer = child("a_full_disk_fails_the_commit_and_later_ones_succeed", &path, limits);
    let mut numbers = said(&mut writer);
    let failed = numbers.next().expect("a commit fails");
    let pid = writer.id().to_string();
    assert!(Command::new("prlimit").args(["--fsize=unlimited", "--pid", &pid]).status().unwrap().success());
    writeln!(writer.stdin.take().unwrap(), "go on").unwrap();
    assert_eq!(numbers.next(), Some(failed + 1));
    assert!(writer.wait().unwrap().success());
    let store = SledBackend::open_existing(&path).unwrap();
    for number in 1..=failed + 1 {
        assert!(store.get(format!("a/{number:08}").as_bytes()).unwrap().is_some(), "{number} of {}", failed + 1);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(path: &Path, under: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            files(&entry.path(), under, found);
        } else {
            found.push(entry.path().strip_prefix(under).unwrap().to_owned());
        }
    }
}

/// A store with a large value (in a file of its own) and many small ones; as a crash would leave it, and closed.
fn made(directory: &Path) -> (PathBuf, PathBuf, Vec<Record>) {
    let (closed, crashed) = (directory.join("closed"), directory.join("crashed"));
    let mut store = SledBackend::open(&closed, [1; 16]).unwrap();
    let mut large = Batch::new();
    large.put("large", vec![b'L'; 300_000]);
    store.commit(&large).unwrap();
    (1..30).for_each(|number| store.commit(&numbered(number)).unwrap());
    drop(store);
    let mut store = SledBackend::open(&closed, [1; 16]).unwrap();
    (30..45).for_each(|number| store.commit(&numbered(number)).unwrap());
    copy(&closed, &crashed);
    let records = store.scan(b"", None, usize::MAX).unwrap();
    store.close().unwrap();
    (closed, crashed, records)
}

/// What became of a store with a planted fault.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Refused(String),
    Found(String),
    Intact,
    Passed,
}

fn outcome(path: &Path, expected: &[Record]) -> Outcome {
    let store = match SledBackend::open(path, [9; 16]) {
        Err(error) => return Outcome::Refused(error.to_string()),
        Ok(store) => store,
    };
    let tables = [Table { name: "any", prefix: b"", decode: &|_, _| Ok(()) }];
    let report = verify(&store, &tables);
    if let Some(problem) = report.problems.first() {
        return Outcome::Found(problem.clone());
    }
    match store.scan(b"", None, usize::MAX) {
        Ok(records) if records == expected => Outcome::Intact,
        _ => Outcome::Passed,
    }
}

fn flip(path: &Path, at: usize, mask: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= mask;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_byte_in_any_file_of_a_closed_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (closed, _, records) = made(directory.path());
    let mut names = Vec::new();
    files(&closed, &closed, &mut names);
    assert!(names.len() >= 6 && names.iter().any(|name| name.starts_with("blobs")), "{names:?}");
    let work = directory.path().join("work");
    for name in names {
        let size = fs::read(closed.join(&name)).unwrap().len();
        for at in [0, size / 2, size - 1] {
            copy(&closed, &work);
            flip(&work.join(&name), at, 0x10);
            let outcome = outcome(&work, &records);
            assert!(matches!(&outcome, Outcome::Refused(why) if why.contains("damaged")), "{name:?} {at} {outcome:?}");
            fs::remove_dir_all(&work).unwrap();
        }
    }
    assert_eq!(outcome(&closed, &records), Outcome::Intact);
}

#[test]
fn a_flipped_byte_in_a_crashed_store_is_found_or_did_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let (_, crashed, records) = made(directory.path());
    let work = directory.path().join("work");
    copy(&crashed, &work);
    assert_eq!(outcome(&work, &records), Outcome::Intact, "a crash alone is no damage");
    fs::remove_dir_all(&work).unwrap();
    copy(&crashed, &work);
    fs::write(work.join("snap.FFFFFFFFFFFFFFFF.generating"), "").unwrap();
    assert_eq!(outcome(&work, &records), Outcome::Intact, "nor is a snapshot that sled had only begun");
    fs::remove_dir_all(&work).unwrap();
    let mut names = Vec::new();
    files(&crashed, &crashed, &mut names);
    assert!(names.len() >= 6 && !names.contains(&"clean".into()), "{names:?}");
    let mut told = 0;
    for name in names {
        let bytes = fs::read(crashed.join(&name)).unwrap();
        let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let tries = if name.ends_with("db") { 60 } else { 8 };
        for at in written.iter().step_by((written.len() / tries).max(1)) {
            copy(&crashed, &work);
            flip(&work.join(&name), *at, 0x10);
            let outcome = outcome(&work, &records);
            assert_ne!(outcome, Outcome::Passed, "{name:?} {at}");
            told += usize::from(outcome != Outcome::Intact);
            fs::remove_dir_all(&work).unwrap();
        }
    }
    assert!(told > 30, "{told} were told");
}

#[test]
fn a_missing_file_is_no_empty_store() {
    let directory = tempfile::tempdir().unwrap();
    let (closed, crashed, records) = made(directory.path());
    let work = directory.path().join("work");
    for source in [&closed, &crashed] {
        let mut names = Vec::new();
        files(source, source, &mut names);
        for name in names {
            copy(source, &work);
            fs::remove_file(work.join(&name)).unwrap();
            let outcome = outcome(&work, &records);
            let needed = ["db", "format", "witness"].iter().any(|needed| name.ends_with(needed));
            // sled can do without its settings and snapshots: what it then reads is examined record by record.
            let kept = outcome == Outcome::Intact && !needed;
            assert!(
                kept || matches!(&outcome, Outcome::Refused(why) if why.contains("damaged")),
                "{name:?} {outcome:?}"
            );
            fs::remove_dir_all(&work).unwrap();
        }
        copy(source, &work);
        fs::write(work.join("db"), b"").unwrap();
        assert!(matches!(outcome(&work, &records), Outcome::Refused(_)), "an emptied log");
        fs::remove_dir_all(&work).unwrap();
    }
}

#[test]
fn an_older_or_foreign_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (_, crashed, records) = made(directory.path());
    let other = directory.path().join("other");
    drop(SledBackend::open(&other, [2; 16]).unwrap());
    let work = directory.path().join("work");
    for file in ["db", "format", "witness"] {
        copy(&crashed, &work);
        fs::copy(other.join(file), work.join(file)).unwrap();
        assert!(matches!(outcome(&work, &records), Outcome::Refused(_)), "{file} of another store");
        fs::remove_dir_all(&work).unwrap();
    }
    copy(&crashed, &work);
    SledBackend::open(&work, [1; 16]).unwrap().commit(&numbered(45)).unwrap();
    fs::remove_file(work.join("clean")).unwrap();
    fs::copy(crashed.join("db"), work.join("db")).unwrap();
    let outcome = outcome(&work, &records);
    assert!(
        matches!(&outcome, Outcome::Refused(why) if why.contains("lost") || why.contains("damaged")),
        "{outcome:?}"
    );
}

#[test]
fn an_interrupted_creation_begins_again_and_strange_files_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(SledBackend::open(&path, [1; 16]).unwrap());
    fs::remove_file(path.join("format")).unwrap();
    let refused = SledBackend::open(&path, [2; 16]).map(|_| ());
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })), "files without `format` are no new store");
    fs::write(path.join("creating"), "").unwrap();
    fs::write(path.join("format.new"), "half").unwrap();
    let mut store = SledBackend::open(&path, [2; 16]).unwrap();
    store.commit(&numbered(1)).unwrap();
    drop(store);
    assert_eq!(newest(&SledBackend::open_existing(&path).unwrap()), 1);
    let strange = directory.path().join("strange");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("letter.txt"), "dear").unwrap();
    assert!(matches!(SledBackend::open(&strange, [1; 16]), Err(StoreError::Corrupt { .. })));
    assert_eq!(fs::read_dir(&strange).unwrap().count(), 1);
}
