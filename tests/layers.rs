//! The layers of the house: modules import only downwards, and the pure ones know no I/O, clock or chance.

#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up. Modules of one row do not import each other.
const LAYERS: [&[&str]; 6] = [
    &["domain"],
    &["store"],
    &["bridge", "bot", "desk"],
    &["translate"],
    &["engine", "matrix", "page", "provisioning", "web", "xmpp"],
    &["app", "config", "registration"],
];

/// Modules that may not name what these tests forbid.
const PURE: [&str; 6] = ["domain", "store", "bridge", "bot", "translate", "engine"];

/// What no pure layer names.
const FORBIDDEN: [&str; 12] = [
    "tokio::",
    "axum::",
    "reqwest::",
    "hyper::",
    "rand::",
    "std::net::Tcp",
    "std::net::Udp",
    "SystemTime",
    "Instant::",
    "std::process",
    "std::env",
    "println!",
];

/// Exceptions. The key file is written under a name of this process' own before it is put in place; the store's own fault
/// tests start processes and kill them.
const EXCEPTIONS: [(&str, &str); 3] =
    [("store/seal.rs", "std::process"), ("store/sled_damage.rs", "std::process"), ("store/sled_damage.rs", "std::env")];

/// Lines of a source file at most.
const LONGEST: usize = 600;

fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of src") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                let inner = path.strip_prefix(&root).expect("below src").to_path_buf();
                let module =
                    inner.components().next().expect("a name").as_os_str().to_string_lossy().replace(".rs", "");
                found.push((module, inner, text));
            }
        }
    }
    assert!(found.len() > 40, "too few sources were found: {}", found.len());
    found
}

/// The code of a source without its comments and its tests.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The modules of the crate that a source names: `crate::x`, and each branch of `crate::{x, y}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0usize;
            let mut start = true;
            let mut name = String::new();
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    letter if depth == 0 && start && (letter.is_alphanumeric() || letter == '_') => name.push(letter),
                    letter if letter.is_whitespace() => {}
                    _ => start = false,
                }
                if (letter == ',' || letter == ':') && depth == 0 && !name.is_empty() {
                    found.insert(std::mem::take(&mut name));
                }
            }
            if !name.is_empty() {
                found.insert(name);
            }
        } else {
            found.insert(rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect());
        }
    }
    found
}

#[test]
fn modules_import_only_downwards() {
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        let Some(own) = layer(&module) else {
            assert!(matches!(module.as_str(), "lib" | "main"), "{module} stands in no layer");
            continue;
        };
        for import in imports(&code(&text)) {
            match layer(&import) {
                Some(other) if other > own || other == own && import != module && own < LAYERS.len() - 1 => {
                    wrong.push(format!("{}: {module} imports {import}", path.display()));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_layers_name_no_io_no_clock_and_no_chance() {
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        if !PURE.contains(&module.as_str()) {
            continue;
        }
        let code = code(&text);
        for word in FORBIDDEN {
            let excepted = EXCEPTIONS.iter().any(|(file, what)| Path::new(file) == path && *what == word);
            if code.contains(word) && !excepted {
                wrong.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_source_is_longer_than_a_newcomer_reads() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(_, _, text)| text.lines().count() > LONGEST)
        .map(|(_, path, text)| format!("{}: {} lines", path.display(), text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_concept_stands_in_the_index() {
    let all = sources();
    let index = &all.iter().find(|(_, path, _)| path == Path::new("translate/mod.rs")).expect("the index").2;
    let named: BTreeSet<&str> =
        index.lines().filter_map(|line| line.strip_prefix("//! | [`")?.split('`').next()).collect();
    let there: BTreeSet<&str> = all
        .iter()
        .filter(|(module, _, _)| module == "translate")
        .filter_map(|(_, path, _)| path.file_stem()?.to_str())
        .filter(|name| !matches!(*name, "mod" | "stanza") && !name.ends_with("_tests"))
        .collect();
    assert_eq!(named, there);
}

#[test]
fn the_reader_of_imports_reads_groups() {
    let code = "use crate::{\n    bridge::{Want, x::y},\n    domain::Now,\n    store,\n};\nuse crate::bot::welcome;";
    assert_eq!(imports(code), ["bot", "bridge", "domain", "store"].map(str::to_owned).into());
}
