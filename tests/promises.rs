//! What docs/security.md promises is held by tests that exist.

#![allow(clippy::expect_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The names of all functions of these folders that are marked as tests.
pub fn tests_of(folders: &[&str]) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in folders {
        sources(&root.join(folder), &mut files);
    }
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).expect("a source");
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            } else if let Some(rest) = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn ")) {
                if std::mem::take(&mut marked) {
                    names.insert(rest.split(['(', '<']).next().unwrap_or_default().to_owned());
                }
            } else if !line.starts_with('#') && !line.starts_with("//") {
                marked = false;
            }
        }
    }
    names
}

/// The last cell of each row of a table: names in backticks.
fn named(page: &str) -> Vec<(String, Vec<String>)> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let (attack, last) = (cells.first()?, cells.last()?);
        let names = last.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (*last != "held by").then(|| ((*attack).to_owned(), names))
    })
    .collect()
}

#[test]
fn every_promise_of_the_security_page_names_tests_that_exist() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let rows = named(&fs::read_to_string(page).expect("docs/security.md"));
    assert!(rows.len() > 40, "{} rows", rows.len());
    let tests = tests_of(&["src", "tests"]);
    for (attack, names) in rows {
        assert!(!names.is_empty(), "no test holds: {attack}");
        for name in names {
            assert!(tests.contains(&name), "{attack}: there is no test {name}");
        }
    }
}
