//! Brings a configuration file onto the newest example: what is new is added where the example has it, with its comment; what
//! was renamed is moved; every other line stays as it is.
//!
//! It edits lines, by the places that the parser gives. That no value changed is not left to the editor: the tree that is read
//! afterwards must hold all that was in the tree before.

use std::collections::BTreeMap;

use super::edit::{Edit, apply, not_understood, read, shifted, strs};
use super::fault::{Fault, Origin, nearest};
use super::keys::{KEYS, NAMED, pattern};
use super::outline::{Entry, Outline, Section, Value};
use super::rename::{Rename, rename_one};
use super::yaml::{self, Kind, Node};

/// Keys without a default: they are never added, for only the operator knows what must stand there.
const WITHOUT_DEFAULT: &[&str] = &[
    "homeserver",
    "homeserver.address",
    "homeserver.domain",
    "permissions",
    "networks",
    "networks.*.profile",
    "networks.*.oauth",
    "networks.*.oauth.client_id",
];

/// What became of a file.
#[derive(Debug)]
pub(super) struct Upgrade {
    /// The new text.
    pub(super) text: String,
    /// The keys and sections that were added.
    pub(super) added: Vec<String>,
    /// What was moved: old path, new path.
    pub(super) moved: Vec<(String, String)>,
    /// Keys that nobody knows; they are where they were.
    pub(super) unknown: Vec<Fault>,
}

/// Upgrades `text` to `example`.
pub(super) fn upgrade(text: &str, example: &str, renames: &[Rename]) -> Result<Upgrade, Fault> {
    let before = yaml::parse(text)?;
    let mut moved = Vec::new();
    let mut now = text.to_owned();
    for rename in renames {
        while let Some((next, from, to)) = rename_one(&now, example, rename)? {
            now = next;
            moved.push((from, to));
        }
    }
    let template = read(example)?;
    let outline = read(&now)?;
    let mut editor = Editor { outline: &outline, template: &template, edits: Vec::new(), added: Vec::new() };
    editor.fill(&outline.root, &template.root, &mut Vec::new(), None)?;
    let Editor { edits, added, .. } = editor;
    if let (Some((line, what)), false) = (outline.odd, edits.is_empty()) {
        return Err(not_understood(line, what));
    }
    let now = apply(&outline.lines, edits);
    let after = yaml::parse(&now)?;
    if !keeps(&before, &after, &moved) {
        return Err(Fault::new("it cannot be upgraded without changing a value, so nothing was changed"));
    }
    let unknown = unknown(&read(&now)?, &template, &after);
    Ok(Upgrade { text: now, added, moved, unknown })
}

struct Editor<'a> {
    outline: &'a Outline<'a>,
    template: &'a Outline<'a>,
    edits: Vec<Edit>,
    added: Vec<String>,
}

impl Editor<'_> {
    /// Adds to a section what the example's has beside it. `key`: the section's own key.
    fn fill(
        &mut self,
        section: &Section,
        template: &Section,
        path: &mut Vec<String>,
        key: Option<&Entry>,
    ) -> Result<(), Fault> {
        let mut previous: Option<&Entry> = None;
        for wanted in &template.entries {
            path.push(wanted.key.clone());
            let pattern = pattern(path);
            match (section.get(&wanted.key), NAMED.contains(&pattern.as_str())) {
                (Some(entry), named) => {
                    previous = Some(entry);
                    match (&entry.value, &wanted.value) {
                        (Value::Section(own), Value::Section(wanted)) if named => self.networks(own, wanted, path)?,
                        (Value::Section(own), Value::Section(wanted)) => self.fill(own, wanted, path, Some(entry))?,
                        (Value::Empty, Value::Section(wanted)) if !named => {
                            self.fill(&Section::default(), wanted, path, Some(entry))?;
                        }
                        (Value::Scalar(text), Value::Section(wanted))
                            if !named && ["null", "~"].contains(&text.as_str()) =>
                        {
                            let first = wanted.entries.first().map_or("", |entry| &entry.key);
                            return Err(not_understood(entry.line, &format!("`{text}`"))
                                .at_path(&path.iter().map(String::as_str).collect::<Vec<_>>())
                                .hint(format!("leave its value empty; `{first}` and what follows are new in it")));
                        }
                        _ => {}
                    }
                }
                (None, _) if WITHOUT_DEFAULT.contains(&pattern.as_str()) => {}
                (None, _) => self.add(section, template, wanted, previous, path, key)?,
            }
            path.pop();
        }
        Ok(())
    }

    /// Each network gets what the example's of the same profile has.
    fn networks(&mut self, section: &Section, template: &Section, path: &mut Vec<String>) -> Result<(), Fault> {
        for entry in &section.entries {
            let Value::Section(own) = &entry.value else { continue };
            let Some(profile) = profile(own) else { continue };
            let same = template.entries.iter().find_map(|wanted| match &wanted.value {
                Value::Section(wanted) if self::profile(wanted) == Some(profile) => Some(wanted),
                _ => None,
            });
            if let Some(wanted) = same {
                path.push(entry.key.clone());
                self.fill(own, wanted, path, Some(entry))?;
                path.pop();
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        section: &Section,
        template: &Section,
        wanted: &Entry,
        previous: Option<&Entry>,
        path: &[String],
        key: Option<&Entry>,
    ) -> Result<(), Fault> {
        if section.flow {
            let at = key.map_or(0, |key| key.line);
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            return Err(not_understood(at, "a map in braces, { … }").at_path(&path));
        }
        let column = section.entries.first().map_or_else(|| key.map_or(0, |key| key.column + 2), |first| first.column);
        let from = self.template.first(template, wanted, None);
        let mut text = shifted(self.template.lines.get(from..=wanted.last).unwrap_or_default(), wanted.column, column);
        let line = match (previous, section.entries.first(), key) {
            (Some(previous), _, _) => self.outline.after(section, previous),
            (None, Some(first), key) => self.outline.first(section, first, key.map(|key| key.line)),
            (None, None, Some(key)) => key.line + 1,
            (None, None, None) => self.outline.lines.len(),
        };
        if path.len() == 1 {
            // Sections stand apart.
            let first = self.edits.is_empty() && line == 0;
            if previous.is_none() && !section.entries.is_empty() {
                text.push('\n');
            } else if !first {
                text.insert(0, '\n');
            }
        }
        self.edits.push(Edit::Insert { line, text });
        self.added.push(path.join("."));
        Ok(())
    }
}

fn profile(network: &Section) -> Option<&str> {
    match &network.get("profile")?.value {
        Value::Scalar(text) => Some(text),
        Value::Empty | Value::List | Value::Section(_) => None,
    }
}

/// All values by their paths. What is not set has none.
fn leaves(node: &Node, path: &mut Vec<String>, found: &mut BTreeMap<Vec<String>, String>) {
    let mut inner = |key: String, node: &Node| {
        path.push(key);
        leaves(node, path, found);
        path.pop();
    };
    match &node.kind {
        Kind::Null => {}
        Kind::Map(entries) => entries.iter().for_each(|entry| inner(entry.key.clone(), &entry.value)),
        Kind::List(items) => {
            items.iter().enumerate().for_each(|(index, item)| inner(format!("[{index}]"), item));
            found.insert(path.iter().cloned().chain(["[]".to_owned()]).collect(), items.len().to_string());
        }
        Kind::Text(text) => drop(found.insert(path.clone(), text.clone())),
    }
}

/// Whether all that was set is set to the same, under the new names.
fn keeps(before: &Node, after: &Node, moved: &[(String, String)]) -> bool {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    leaves(before, &mut Vec::new(), &mut old);
    leaves(after, &mut Vec::new(), &mut new);
    old.into_iter().all(|(path, value)| {
        let mut path = path.join("\0");
        for (from, to) in moved {
            let (from, to) = (from.replace('.', "\0"), to.replace('.', "\0"));
            if let Some(rest) = path.strip_prefix(&from).filter(|rest| rest.is_empty() || rest.starts_with('\0')) {
                path = to + rest;
            }
        }
        new.iter().any(|(other, now)| other.join("\0") == path && *now == value)
    })
}

/// Keys that the program does not know, each with its nearest neighbour.
fn unknown(outline: &Outline<'_>, template: &Outline<'_>, tree: &Node) -> Vec<Fault> {
    let mut faults = Vec::new();
    let names = template.root.get("networks").map(|entry| &entry.value);
    look(&outline.root, &mut Vec::new(), &mut |path: &[String]| {
        let pattern = pattern(path);
        let (Some((own, parent)), true) = (path.split_last(), !pattern.ends_with('*')) else { return true };
        let mut known: Vec<&str> = siblings(&self::pattern(parent));
        // A network has the keys of its profile alone.
        if let ([_, _], Some(Value::Section(templates))) = (parent, names)
            && let Some(Value::Section(section)) = outline.root.find(parent).map(|entry| &entry.value)
            && let Some(profile) = profile(section)
        {
            let same = templates.entries.iter().find_map(|entry| match &entry.value {
                Value::Section(section) if self::profile(section) == Some(profile) => Some(section),
                _ => None,
            });
            known.retain(|key| same.is_none_or(|same| same.get(key).is_some()));
        }
        if known.is_empty() || known.contains(&own.as_str()) {
            return true;
        }
        let place = outline.root.find(path).map(|entry| Origin::File {
            line: entry.line + 1,
            column: entry.column + 1,
            width: own.chars().count(),
        });
        let mut fault = Fault::new("not a known key; it was left as it is");
        if let Some(nearest) = nearest(own, known.iter().copied()) {
            fault = fault.hint(format!("nearest known key: `{nearest}`; known here: {}", known.join(", ")));
        }
        faults.push(fault.at_path(&strs(path)).or_at(&place.unwrap_or(tree.origin.clone())));
        false
    });
    faults
}

/// Goes through all keys; below one only if `visit` says so.
fn look(section: &Section, path: &mut Vec<String>, visit: &mut impl FnMut(&[String]) -> bool) {
    for entry in &section.entries {
        path.push(entry.key.clone());
        if let (true, Value::Section(inner)) = (visit(path), &entry.value) {
            look(inner, path, visit);
        }
        path.pop();
    }
}

/// The keys of the section with this pattern.
fn siblings(parent: &str) -> Vec<&'static str> {
    let mut known = Vec::new();
    for key in KEYS {
        let rest = if parent.is_empty() {
            Some(key.path)
        } else {
            key.path.strip_prefix(parent).and_then(|rest| rest.strip_prefix('.'))
        };
        if let Some(name) = rest.and_then(|rest| rest.split('.').next())
            && !known.contains(&name)
        {
            known.push(name);
        }
    }
    known
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;
