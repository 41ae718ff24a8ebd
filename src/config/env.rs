//! Values from the environment: `MESSENGER_BRIDGE__SECTION__KEY=…`, or `…_FILE` for the file that holds the value.

use std::ffi::OsString;
use std::path::Path;

use super::fault::{Fault, Origin, nearest};
use super::keys;
use super::yaml::{Entry, Kind, Node};

/// What the name of a variable that is meant for us begins with.
pub const PREFIX: &str = "MESSENGER_BRIDGE__";

/// The largest value that is read from a file, in bytes.
pub const MAX_VALUE_FILE: u64 = 64 * 1024;

/// Lays the variables over the tree. An empty value unsets its key. `base` is the folder of the config file, to which
/// the paths of `…_FILE` are relative. Variables that do not begin with [`PREFIX`] are not looked at.
pub(super) fn overlay(
    tree: &mut Node,
    base: &Path,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<Fault> {
    let known = known(tree);
    let mut faults = Vec::new();
    let mut seen: Vec<&Variable> = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let origin = Origin::Env(name.to_owned());
        let found = known.iter().find(|variable| variable.name == name).map(|variable| (variable, false));
        let found = found.or_else(|| {
            let stem = name.strip_suffix("_FILE")?;
            known.iter().find(|variable| variable.name == stem).map(|variable| (variable, true))
        });
        let Some((variable, from_file)) = found else {
            let mut fault = Fault::new("no key of the configuration has this name").or_at(&origin);
            if let Some(nearest) = nearest(name, known.iter().map(|variable| variable.name.as_str())) {
                fault = fault.hint(format!("nearest: {nearest}"));
            }
            faults.push(fault);
            continue;
        };
        let path: Vec<&str> = variable.path.iter().map(String::as_str).collect();
        if seen.iter().any(|other| other.name == variable.name) {
            let fault = Fault::new(format!("both {0} and {0}_FILE are set", variable.name));
            faults.push(fault.or_at(&origin).at_path(&path));
            continue;
        }
        seen.push(variable);
        match content(value, from_file, base) {
            Ok(text) if text.is_empty() => set(tree, &path, Node { origin, kind: Kind::Null }),
            Ok(text) => set(tree, &path, Node { origin, kind: Kind::Text(text) }),
            Err(reason) => faults.push(Fault::new(reason).or_at(&origin).at_path(&path)),
        }
    }
    faults
}

/// A variable that would be understood, and the key that it sets.
struct Variable {
    name: String,
    path: Vec<String>,
}

/// Every variable that would be understood: each scalar key, with the names of the networks that the file has.
fn known(tree: &Node) -> Vec<Variable> {
    let networks: Vec<&str> =
        tree.get("networks").map_or(&[][..], Node::entries).iter().map(|entry| entry.key.as_str()).collect();
    let mut known = Vec::new();
    for key in keys::KEYS.iter().filter(|key| key.env) {
        let names = if key.path.contains('*') { networks.clone() } else { vec![""] };
        for network in names {
            let path: Vec<String> =
                key.path.split('.').map(|part| if part == "*" { network } else { part }.to_owned()).collect();
            let upper: Vec<String> = path.iter().map(|part| part.to_uppercase().replace('-', "_")).collect();
            known.push(Variable { name: format!("{PREFIX}{}", upper.join("__")), path });
        }
    }
    known
}

/// The text of a value; without one trailing line break if it was read from a file.
fn content(value: OsString, from_file: bool, base: &Path) -> Result<String, String> {
    let value = value.into_string().map_err(|_| "not UTF-8".to_owned())?;
    if !from_file {
        return Ok(value);
    }
    let path = base.join(&value);
    let text = super::read_text(&path, MAX_VALUE_FILE).map_err(|reason| format!("{}: {reason}", path.display()))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Puts a value at `path`, making the sections on the way.
fn set(tree: &mut Node, path: &[&str], value: Node) {
    let Some((first, rest)) = path.split_first() else {
        *tree = value;
        return;
    };
    if !matches!(tree.kind, Kind::Map(_)) {
        tree.kind = Kind::Map(Vec::new());
    }
    let Kind::Map(entries) = &mut tree.kind else { return };
    let index = entries.iter().position(|entry| entry.key == *first).unwrap_or_else(|| {
        let origin = value.origin.clone();
        let empty = Node { origin: origin.clone(), kind: Kind::Null };
        entries.push(Entry { key: (*first).to_owned(), origin, value: empty });
        entries.len() - 1
    });
    if let Some(entry) = entries.get_mut(index) {
        set(&mut entry.value, rest, value);
    }
}
