//! The properties of `fuzz/`, on the corpus and on some new inputs, without a fuzzer. `FUZZ_INPUTS` is how many new inputs each
//! target gets (500 if not set), `FUZZ_SEED` makes others. What fails is written to `fuzz/artifacts/`; it goes into the
//! corpus with the change that mends it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, that is how one says what must hold")]

pub(crate) mod properties;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use self::properties::{Property, TARGETS};
use crate::simulation::random::Random;

/// The largest new input.
const LONGEST: usize = 16 * 1024;

fn folder(name: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name).join(target)
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder("corpus", target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn tried(target: &str, property: Property, input: &[u8], what: &str) {
    if catch_unwind(AssertUnwindSafe(|| property(input))).is_err() {
        let artifacts = folder("artifacts", target);
        fs::create_dir_all(&artifacts).unwrap();
        let path = artifacts
            .join(format!("{:016x}", messenger_bridge::translate::stable_id::text_hash(&format!("{input:?}"))));
        fs::write(&path, input).unwrap();
        panic!("{target} does not hold for {what}; the input is in {}", path.display());
    }
}

/// A new input made of those of the corpus.
fn mutated(random: &mut Random, corpus: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    const WORDS: [&str; 24] = [
        "<body>",
        "</body>",
        "<",
        ">",
        "&",
        "\"",
        "'",
        "&#0;",
        "\0",
        "\u{202e}",
        "\u{fffd}",
        "\u{10ffff}",
        "@",
        "/",
        ":",
        "=",
        "==",
        "{",
        "}",
        "null",
        "[]",
        "18446744073709551616",
        "-1",
        "\n",
    ];
    let pick = |random: &mut Random, length: usize| usize::try_from(random.between(0, length as u64)).unwrap();
    let one = |random: &mut Random| &corpus[pick(random, corpus.len() - 1)].1;
    let mut input = one(random).clone();
    for _ in 0..random.between(1, 8) {
        let (from, to) = (pick(random, input.len()), pick(random, input.len()));
        let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 64));
        match random.between(0, 7) {
            0 if from < input.len() => input[from] ^= 1 << random.between(0, 7),
            1 if from < input.len() => input[from] = u8::try_from(random.between(0, 255)).unwrap(),
            2 => drop(input.drain(from..to)),
            3 => {
                let copy = input[from..to].to_vec();
                let at = pick(random, input.len());
                input.splice(at..at, copy.iter().copied().cycle().take(copy.len() * 3));
            }
            4 | 5 => {
                let word = WORDS[pick(random, WORDS.len() - 1)];
                input.splice(from..from, word.bytes());
            }
            6 => {
                let other = one(random);
                let (a, b) = (pick(random, other.len()), pick(random, other.len()));
                input.splice(from..to, other[a.min(b)..a.max(b)].iter().copied());
            }
            _ => input.truncate(to),
        }
        input.truncate(LONGEST);
    }
    input
}

fn replay(target: &str) {
    let (_, property) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target");
    let corpus = corpus(target);
    assert!(corpus.len() >= 5, "the corpus of {target} is there");
    for (path, input) in &corpus {
        tried(target, *property, input, &path.display().to_string());
    }
    let seed = number("FUZZ_SEED", 1);
    let mut random = Random::new(seed);
    for round in 0..number("FUZZ_INPUTS", 500) {
        let input = mutated(&mut random, &corpus);
        tried(target, *property, &input, &format!("input {round} of seed {seed}"));
    }
}

#[test]
fn stanzas() {
    replay("stanza");
}

#[test]
fn transactions() {
    replay("transaction");
}

#[test]
fn messages() {
    replay("message");
}

#[test]
fn addresses() {
    replay("address");
}

#[test]
fn configurations() {
    replay("config");
}

#[test]
fn the_guard() {
    replay("guard");
}

#[test]
fn every_target_has_its_program_and_its_corpus() {
    for (name, _) in TARGETS {
        let program = folder("fuzz_targets", "").join(format!("{name}.rs"));
        let text = fs::read_to_string(&program).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        assert!(text.contains(&format!("properties::{name}(data)")), "{name}");
        let manifest = fs::read_to_string(folder("", "").join("Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
