//! `config.yaml.example`, [`KEYS`] and the structs name the same keys and the same defaults.

use std::collections::BTreeSet;

use super::tests::{MINIMAL, load};
use super::yaml::{Kind, Node};
use super::{EXAMPLE, KEYS, reader, yaml};

/// The example with the map of domains that stands in a comment.
fn with_domain_map() -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in EXAMPLE.lines() {
        let commented = line.strip_prefix("    #   ");
        match commented {
            Some(text) if text.starts_with(' ') || text == "domains:" => lines.push(format!("    {text}")),
            _ if line == "    domains: any" => {}
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n")
}

/// The paths of all values, with `*` for names that are the operator's.
fn paths(node: &Node, at: &str, found: &mut BTreeSet<String>) {
    let Kind::Map(entries) = &node.kind else {
        found.insert(at.to_owned());
        return;
    };
    for entry in entries {
        let named = ["permissions", "networks", "networks.*.domains"].contains(&at);
        let key = if named { "*" } else { entry.key.as_str() };
        paths(&entry.value, &if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }, found);
    }
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let mut found = BTreeSet::new();
    for text in [EXAMPLE.to_owned(), with_domain_map()] {
        load(&text).unwrap_or_else(|error| panic!("{error}"));
        paths(&yaml::parse(&text).unwrap(), "", &mut found);
    }
    let known: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(found, known);
}

#[test]
fn the_structs_have_every_key_and_no_other() {
    // A key that no section knows, put into each section, makes serde name the keys that it does know.
    let sections: BTreeSet<&str> = KEYS
        .iter()
        .filter_map(|key| key.path.rsplit_once('.').map(|(section, _)| section))
        .flat_map(|path| path.match_indices('.').map(|(end, _)| &path[..end]).chain([path]))
        .filter(|section| !["networks", "permissions", "networks.*.domains"].contains(section))
        .chain([""])
        .collect();
    assert_eq!(sections.len(), 20);
    let text = with_domain_map();
    for section in sections {
        let mut networks = vec!["messenger", "xmpp"];
        networks.retain(|network| section.starts_with("networks.*") || *network == "xmpp");
        let mut struct_keys = BTreeSet::new();
        for network in networks {
            let mut tree = yaml::parse(&text).unwrap();
            let path: Vec<&str> = section.split('.').filter(|part| !part.is_empty()).collect();
            let path: Vec<&str> = path
                .iter()
                .enumerate()
                .map(|(depth, part)| match (*part, depth) {
                    ("*", 1) => network,
                    ("*", _) => "example.net",
                    (part, _) => part,
                })
                .collect();
            let exists = path.iter().try_fold(&tree, |node, part| node.get(part)).is_some();
            if !exists {
                continue;
            }
            add_unknown(&mut tree, &path);
            let fault = reader::read::<super::Config>(&tree).unwrap_err();
            let problem = super::Problem::new("f".as_ref(), &text, fault).to_string();
            let (_, known) = problem.split_once("known here: ").unwrap_or_else(|| panic!("{section}: {problem}"));
            struct_keys.extend(known.split(", ").map(str::to_owned));
            if section == "networks.*" {
                struct_keys.insert("profile".to_owned());
            }
        }
        let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
        let known: BTreeSet<String> = KEYS
            .iter()
            .filter_map(|key| key.path.strip_prefix(&prefix))
            .filter_map(|rest| rest.split('.').next())
            .map(str::to_owned)
            .collect();
        assert_eq!(struct_keys, known, "in section {section:?}");
    }
}

fn add_unknown(node: &mut Node, path: &[&str]) {
    let origin = node.origin.clone();
    let Kind::Map(entries) = &mut node.kind else { panic!("{path:?} is not a section") };
    if let Some((first, rest)) = path.split_first() {
        let entry = entries.iter_mut().find(|entry| entry.key == *first).unwrap();
        return add_unknown(&mut entry.value, rest);
    }
    let value = Node { origin: origin.clone(), kind: Kind::Text("1".to_owned()) };
    entries.insert(0, yaml::Entry { key: "unknown_key".to_owned(), origin, value });
}

#[test]
fn the_example_shows_the_defaults() {
    // What the two have in common is what must be set; all else is a default on one side and written on the other.
    let normal = |text: &str| {
        let shown = format!("{:#?}", load(text).unwrap_or_else(|error| panic!("{error}")));
        // Each is read from a folder of its own.
        shown.lines().map(|line| line.rsplit_once("/./").map_or(line, |(_, name)| name)).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(normal(EXAMPLE), normal(MINIMAL));
}
