//! One byte of one file changes, a file is cut short or goes: the program finds it, refuses with a sentence, or what is
//! read is exactly what was written. `STORE_DAMAGE` multiplies the tries, `STORE_SEED` begins elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use messenger_bridge::store::{
    Store, StoreError,
    archive_file::export,
    seal::{KeyFile, Seal},
    sled::SledBackend,
    tables,
    verify::verify,
};
use serde_json::json;

use super::everything::fill;
use crate::simulation::random::Random;

/// The program on files of its own, with nothing around it: the store is opened before anybody is called.
pub struct Program(PathBuf);

impl Program {
    pub fn new(folder: &Path) -> Self {
        let config = json!({
            "homeserver": { "address": "http://127.0.0.1:1", "domain": "h.test" },
            "appservice": { "listen": "127.0.0.1:1", "address": "http://127.0.0.1:1",
                            "bot": { "localpart": "messengerbot", "displayname": "Messenger bridge" } },
            "store": { "path": "./data", "key_file": "./data.key" },
            "permissions": { "h.test": "user" },
            "networks": { "xmpp": { "profile": "xmpp", "domains": "any" } },
        });
        fs::write(folder.join("config.yaml"), config.to_string()).unwrap();
        let program = Self(folder.to_owned());
        let (code, said) = program.run(&["generate-registration", "--force"]);
        assert_eq!(code, 0, "{said}");
        program
    }

    /// Its exit code and all that it said.
    pub fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output =
            Command::new(env!("CARGO_BIN_EXE_messenger-bridge")).args(arguments).current_dir(&self.0).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
    }
}

/// A store with something in every table, as an orderly end leaves it and as a crash does, each with its key file, and all
/// that is in it as an export.
struct Made {
    _folder: tempfile::TempDir,
    closed: PathBuf,
    crashed: PathBuf,
    export: Vec<u8>,
}

fn made() -> Made {
    let folder = tempfile::tempdir().unwrap();
    let (closed, crashed) = (folder.path().join("closed"), folder.path().join("crashed"));
    fs::create_dir(&closed).unwrap();
    let open = || {
        let key = KeyFile::load_or_create(&closed.join("data.key"), [7; 32]).unwrap();
        Store::open(Box::new(SledBackend::open(&closed.join("data"), [1; 16]).unwrap()), Seal::new(&key), 5).unwrap()
    };
    let mut store = open();
    fill(&mut store, 0);
    store.commit().unwrap();
    let large = messenger_bridge::store::management::Management {
        notices: vec![("x".repeat(300_000), ruma::owned_event_id!("$large"))],
        ..Default::default()
    };
    store.put_management(&ruma::owned_user_id!("@large:h.test"), &large).unwrap();
    store.commit().unwrap();
    drop(store);
    let mut store = open();
    for number in 0..30 {
        store.note_event(&ruma::EventId::parse(format!("$t{}", number + 10)).unwrap()).unwrap();
        store.commit().unwrap();
    }
    copy(&closed, &crashed);
    drop(store);
    let mut bytes = Vec::new();
    export(&SledBackend::open_existing(&closed.join("data")).unwrap(), &mut bytes).unwrap();
    Made { _folder: folder, closed, crashed, export: bytes }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).map(drop).unwrap();
        }
    }
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() { folders.push(entry) } else { found.push(entry.strip_prefix(path).unwrap().to_owned()) }
        }
    }
    found.sort();
    found
}

/// What became of a damaged store.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It was not opened; the sentence says what to do.
    Refused,
    /// `store verify` names it.
    Found,
    /// All that was written is read.
    Whole,
}

fn outcome(folder: &Path, expected: &[u8], what: &str) -> Outcome {
    let refused = |error: &StoreError| {
        let said = error.to_string();
        let remedies = ["move its directory aside", "put the right", "put the one back", "chmod", "is in use"];
        assert!(remedies.iter().any(|remedy| said.contains(remedy)), "{what}: no remedy in: {said}");
        Outcome::Refused
    };
    let backend = match SledBackend::open(&folder.join("data"), [9; 16]) {
        Ok(backend) => backend,
        Err(error) => return refused(&error),
    };
    if !verify(&backend, &tables()).is_sound() {
        return Outcome::Found;
    }
    let mut bytes = Vec::new();
    export(&backend, &mut bytes).unwrap();
    assert!(bytes == expected, "{what}: what is read is not what was written, and nothing was said");
    let opened =
        KeyFile::load(&folder.join("data.key")).and_then(|key| Store::open(Box::new(backend), Seal::new(&key), 6));
    match opened {
        Ok(store) => {
            assert!(!store.is_blank().unwrap(), "{what}: begun anew");
            Outcome::Whole
        }
        Err(error) => refused(&error),
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn one_changed_byte_anywhere_is_found_or_changes_nothing() {
    let made = made();
    let work = made.closed.with_file_name("work");
    let mut random = Random::new(number("STORE_SEED", 1));
    let tries = number("STORE_DAMAGE", 1);
    let mut seen = [0; 3];
    for (source, closed) in [(&made.closed, true), (&made.crashed, false)] {
        assert_eq!(
            {
                copy(source, &work);
                let outcome = outcome(&work, &made.export, "undamaged");
                fs::remove_dir_all(&work).unwrap();
                outcome
            },
            Outcome::Whole
        );
        let names = files(source);
        assert!(names.len() >= 7, "{names:?}");
        for name in names {
            let bytes = fs::read(source.join(&name)).unwrap();
            let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
            let positions = tries * if name.ends_with("db") { 60 } else { 12 };
            for round in 0..positions {
                // Most of the log is room that was never written to; every fourth try goes there too.
                let at = match round % 4 {
                    0 => usize::try_from(random.between(0, bytes.len() as u64 - 1)).unwrap(),
                    _ => written[usize::try_from(random.between(0, written.len() as u64 - 1)).unwrap()],
                };
                let mask = u8::try_from(1 + random.between(0, 254)).unwrap();
                copy(source, &work);
                let mut changed = bytes.clone();
                changed[at] ^= mask;
                fs::write(work.join(&name), changed).unwrap();
                let what = format!(
                    "{} of a store {}, byte {at} ^ {mask:#x}",
                    name.display(),
                    if closed { "closed" } else { "crashed" }
                );
                let outcome = outcome(&work, &made.export, &what);
                let is_key = name.ends_with("data.key");
                if closed && !is_key {
                    assert_eq!(outcome, Outcome::Refused, "{what}");
                    assert_eq!(
                        fs::read(work.join(&name)).unwrap()[at],
                        bytes[at] ^ mask,
                        "{what}: it is left as it was"
                    );
                }
                seen[match outcome {
                    Outcome::Refused => 0,
                    Outcome::Found => 1,
                    Outcome::Whole => 2,
                }] += 1;
                fs::remove_dir_all(&work).unwrap();
            }
        }
    }
    println!("refused {}, found {}, changed nothing {}", seen[0], seen[1], seen[2]);
    assert!(seen[0] > 100, "{seen:?}");
}

#[test]
fn a_file_cut_short_or_gone_is_found_or_changes_nothing() {
    let made = made();
    let work = made.closed.with_file_name("work");
    let mut random = Random::new(number("STORE_SEED", 2));
    for source in [&made.closed, &made.crashed] {
        for name in files(source) {
            let bytes = fs::read(source.join(&name)).unwrap();
            let mut lengths = vec![None, Some(0), Some(bytes.len() - 1)];
            lengths.extend((0..3).map(|_| Some(usize::try_from(random.between(0, bytes.len() as u64 - 1)).unwrap())));
            for length in lengths {
                copy(source, &work);
                match length {
                    None => fs::remove_file(work.join(&name)).unwrap(),
                    Some(length) => fs::write(work.join(&name), &bytes[..length]).unwrap(),
                }
                let what = format!("{} of {} bytes left with {length:?}", name.display(), bytes.len());
                outcome(&work, &made.export, &what);
                fs::remove_dir_all(&work).unwrap();
            }
        }
    }
}

#[test]
fn the_program_ends_with_a_sentence_and_a_code_and_leaves_the_files_alone() {
    let made = made();
    let work = made.closed.with_file_name("work");
    for name in files(&made.closed) {
        copy(&made.closed, &work);
        let program = Program::new(&work);
        let mut bytes = fs::read(work.join(&name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(work.join(&name), &bytes).unwrap();
        let is_key = name.ends_with("data.key");
        for (command, code) in
            [(&["run"][..], if is_key { 26 } else { 14 }), (&["store", "verify"], if is_key { 0 } else { 27 })]
        {
            let (exit, said) = program.run(command);
            assert_eq!(exit, code, "{}: {said}", name.display());
            let named = if is_key {
                code == 0 || said.contains("key")
            } else {
                said.contains("damaged") && said.contains("recover")
            };
            assert!(named, "{}: {said}", name.display());
        }
        assert!(fs::read(work.join(&name)).unwrap() == bytes, "{}: it is left as it was", name.display());
        fs::remove_dir_all(&work).unwrap();
    }
    // A directory of which only the store's own mark is gone is no empty one.
    copy(&made.closed, &work);
    let program = Program::new(&work);
    fs::remove_file(work.join("data/format")).unwrap();
    let (exit, said) = program.run(&["run"]);
    assert_eq!(exit, 14, "{said}");
    assert!(work.join("data/db").exists() && !work.join("data/format").exists());
}
