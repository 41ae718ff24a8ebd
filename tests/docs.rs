//! The docs name what there is: links lead somewhere, commands and keys exist, and none is left out.

#![allow(clippy::expect_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use clap::CommandFactory;
use messenger_bridge::{
    app::cli::Cli,
    bot::{ADMIN_COMMANDS, COMMANDS, Entry},
    config::EXAMPLE,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page of the repository, by its path from the root.
fn pages() -> BTreeMap<PathBuf, String> {
    let folders = [root().to_path_buf(), root().join("docs"), root().join("docs/recipes")];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder").flatten());
    let paths = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "md"));
    let pages: BTreeMap<_, _> =
        paths.map(|path| (path.clone(), fs::read_to_string(path).expect("a page of the docs"))).collect();
    assert!(pages.len() > 10, "too few pages were found");
    pages
}

/// The page without its blocks of code.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// What stands in backticks.
fn quoted(page: &str) -> Vec<String> {
    let prose = prose(page);
    prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The name by which a link finds a heading.
fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(kept).map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    let prose = prose(page);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// Every key of the commented example, with its sections.
fn keys() -> BTreeSet<String> {
    let mut sections: Vec<(usize, String)> = Vec::new();
    let mut keys = BTreeSet::new();
    for line in EXAMPLE.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let Some((name, _)) = line.split_once(':') else { continue };
        let depth = line.len() - line.trim_start().len();
        sections.retain(|(other, _)| *other < depth);
        sections.push((depth, name.trim().trim_matches('"').to_owned()));
        keys.insert(sections.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join("."));
    }
    assert!(keys.contains("presence.offline_as") && keys.contains("networks.messenger.oauth.client_id"));
    keys
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let mut wrong = Vec::new();
    for (path, page) in &pages {
        for (at, _) in prose(page).match_indices("](") {
            let prose = prose(page);
            let target = prose[at + 2..].split(')').next().unwrap_or_default().to_owned();
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, fragment) = target.split_once('#').unwrap_or((&target, ""));
            let aim = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            let exists = aim.exists();
            let aim = aim.canonicalize().unwrap_or(aim);
            let found = fragment.is_empty() || pages.get(&aim).is_some_and(|page| anchors(page).contains(fragment));
            if !exists || !found {
                wrong.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn every_page_is_in_the_book() {
    let pages = pages();
    let summary = &pages[&root().join("docs/SUMMARY.md")];
    for path in pages.keys().filter_map(|path| path.strip_prefix(root().join("docs")).ok()) {
        let name = path.to_str().expect("a name");
        assert!(name == "SUMMARY.md" || summary.contains(&format!("]({name})")), "{name} is not in docs/SUMMARY.md");
    }
}

/// The commands in the table below a heading of a page.
fn commands_of(page: &str, heading: &str) -> BTreeSet<String> {
    let page = fs::read_to_string(root().join(page)).expect("a page");
    let part = page.split("\n## ").find(|part| part.starts_with(heading)).expect("the commands");
    let rows = part.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| quoted(row.trim_start_matches('|').split(" | ").next().unwrap_or_default()))
        .filter_map(|call| call.split_whitespace().next().map(str::to_owned))
        .collect()
}

fn names(table: &[Entry], aliases: &[&str]) -> BTreeSet<String> {
    table.iter().map(|entry| entry.name).chain(aliases.iter().copied()).map(str::to_owned).collect()
}

#[test]
fn every_command_of_the_bot_is_on_the_page_for_people_and_nothing_else() {
    assert_eq!(commands_of("docs/users.md", "Commands"), names(&COMMANDS, &["pm"]));
}

#[test]
fn every_command_of_administrators_is_on_the_page_for_operators_and_nothing_else() {
    assert_eq!(commands_of("docs/operators.md", "Administrators"), names(&ADMIN_COMMANDS, &["doas"]));
}

#[test]
fn every_key_that_the_docs_name_exists() {
    let keys = keys();
    let sections: BTreeSet<&str> = keys.iter().filter_map(|key| key.split('.').next()).collect();
    let word = |text: &str| !text.is_empty() && text.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
    let mut wrong = Vec::new();
    for (path, page) in pages() {
        for name in quoted(&page) {
            let name = name.split(':').next().unwrap_or_default();
            let parts: Vec<&str> = name.split('.').collect();
            let names_key = parts.len() > 1 && parts.iter().all(|part| word(part)) && sections.contains(parts[0]);
            // The names of networks and domains are people's own; this key is the homeserver's.
            let is_file = matches!(parts.last(), Some(&("yaml" | "rs" | "md" | "log" | "key" | "jsonl" | "exports")));
            if names_key && !is_file && parts[0] != "networks" && name != "presence.enabled" && !keys.contains(name) {
                wrong.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "keys that do not exist:\n{}", wrong.join("\n"));
}

#[test]
fn every_command_line_that_the_docs_show_is_known() {
    let cli = Cli::command();
    let known: BTreeSet<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
    let mut shown = BTreeSet::new();
    for (path, page) in pages() {
        // In code alone: prose may go on after the program's name.
        let code = page.split("```").skip(1).step_by(2).map(str::to_owned).chain(quoted(&page));
        for text in code {
            for line in text.lines() {
                let Some(rest) = line.trim().strip_prefix("messenger-bridge ") else { continue };
                let Some(word) = rest.split_whitespace().next().filter(|word| !word.starts_with(['-', '<', '…', '#']))
                else {
                    continue;
                };
                assert!(known.contains(word), "{}: {line}", path.display());
                shown.insert(word.to_owned());
            }
        }
    }
    let hidden: Vec<&&str> = known.iter().filter(|name| !shown.contains(**name)).collect();
    assert!(hidden.is_empty(), "commands that no page shows: {hidden:?}");
}

#[test]
fn every_mistake_of_the_doctors_page_is_made_by_its_test() {
    let page = fs::read_to_string(root().join("docs/doctor.md")).expect("the doctor's page");
    let test = fs::read_to_string(root().join("tests/end_to_end/doctor.rs")).expect("the doctor's test");
    let mistakes: Vec<&str> = page.split("\n### ").skip(1).collect();
    assert!(mistakes.len() > 30, "too few were found");
    for mistake in mistakes {
        let (heading, rest) = mistake.split_once('\n').expect("a heading");
        assert!(test.contains(&format!("\"{heading}\"")), "nobody makes {heading:?}");
        assert!(rest.contains("\n      = "), "nothing to do is said under {heading:?}");
    }
}

/// Paths that the program's sources include from outside of `src/`, from the root.
fn included(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of src").flatten() {
        let path = entry.path();
        if path.is_dir() {
            included(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source");
        for part in text.split("include_str!(\"").chain(text.split("include_bytes!(\"")).skip(1) {
            let Some((target, _)) = part.split_once("\")") else { continue };
            let full = path.parent().expect("a folder").join(target);
            let Ok(full) = full.canonicalize() else { continue };
            let inner = full.strip_prefix(root()).expect("of the repository").to_string_lossy().into_owned();
            if !inner.starts_with("src/") {
                found.insert(inner);
            }
        }
    }
}

#[test]
fn the_image_gets_all_that_its_build_reads() {
    let text = fs::read_to_string(root().join(".dockerignore")).expect("what the image does not get");
    let let_in: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let mut needed =
        BTreeSet::from(["Cargo.toml", "Cargo.lock", ".cargo/config.toml", "src/main.rs"].map(str::to_owned));
    included(&root().join("src"), &mut needed);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    // Cargo reads no manifest with a target that is not there.
    let targets = manifest.lines().filter_map(|line| line.strip_prefix("path = \"")?.strip_suffix('"'));
    needed.extend(targets.map(str::to_owned));
    assert!(needed.contains("docs/openapi.yaml") && needed.contains("benches/load/main.rs"), "{needed:?}");
    let missing: Vec<&String> = needed
        .iter()
        .filter(|path| !let_in.iter().any(|let_in| path == let_in || path.starts_with(&format!("{let_in}/"))))
        .collect();
    assert!(missing.is_empty(), "the image's build does not get {missing:?}: see .dockerignore");
}
