//! Brings a configuration file onto the newest example: what is new is added where the example has it, with its comment; what
//! was renamed is moved; every other line stays as it is.
//!
//! It edits lines, by the places that the parser gives. That no value changed is not left to the editor: the tree that is read
//! afterwards must hold all that was in the tree before.

use std::collections::BTreeMap;

use super::fault::{Fault, Origin, nearest};
use super::keys::KEYS;
use super::outline::{Entry, Outline, Section, Value};
use super::yaml::{self, Kind, Node};

/// A key that has another name since a version.
#[derive(Clone, Copy, Debug)]
pub struct Rename {
    /// The version that brought the new name.
    pub since: &'static str,
    /// The old path, with `*` for names that the operator chose.
    pub from: &'static str,
    /// The new one, with as many `*`.
    pub to: &'static str,
}

/// Every rename, oldest first.
pub const RENAMES: &[Rename] = &[];

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

/// Maps whose keys are names that the operator chose.
const NAMED: &[&str] = &["permissions", "networks", "networks.*.domains"];

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

fn read(text: &str) -> Result<Outline<'_>, Fault> {
    Outline::read(text).map_err(|line| Fault::new("not readable as YAML").or_at(&place(line, 1)))
}

fn place(line: usize, column: usize) -> Origin {
    Origin::File { line: line + 1, column, width: 1 }
}

fn not_understood(line: usize, what: &str) -> Fault {
    let fault =
        Fault::new(format!("the upgrade would have to edit beside {what}, which it does not do: nothing was changed"));
    fault.or_at(&place(line, 1)).hint("write it without, one key a line; or add what is new by hand")
}

/// One change of the lines, which are counted in the old text.
enum Edit {
    /// Before this line.
    Insert { line: usize, text: String },
    /// These lines.
    Remove { lines: std::ops::Range<usize> },
}

/// Insertions at one place keep their order.
fn apply(lines: &[&str], edits: Vec<Edit>) -> String {
    let mut inserted: BTreeMap<usize, String> = BTreeMap::new();
    let mut gone = vec![false; lines.len()];
    for edit in edits {
        match edit {
            Edit::Insert { line, text } => inserted.entry(line).or_default().push_str(&text),
            Edit::Remove { lines } => gone[lines].fill(true),
        }
    }
    let ending = if lines.first().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" };
    let mut out = String::new();
    for number in 0..=lines.len() {
        if let Some(text) = inserted.get(&number) {
            if !out.is_empty() && !out.ends_with('\n') {
                out.push_str(ending);
            }
            for line in text.lines() {
                out.push_str(line);
                out.push_str(ending);
            }
        }
        if let (Some(line), Some(false)) = (lines.get(number), gone.get(number)) {
            out.push_str(line);
        }
    }
    out
}

/// Lines of `from`, whose key stands at `column`, moved to another column.
fn shifted(lines: &[&str], column: usize, to: usize) -> String {
    let mut out = String::new();
    for line in lines {
        let line = line.trim_end_matches(['\n', '\r']);
        let own = line.len() - line.trim_start_matches(' ').len();
        // What stands further out than its key, such as a comment at the margin, goes no further.
        let indent = if line.trim().is_empty() { 0 } else { (to + own).saturating_sub(column) };
        out.extend(std::iter::repeat_n(' ', indent));
        out.push_str(line.trim_start_matches(' '));
        out.push('\n');
    }
    out
}

/// The path with `*` where a name is the operator's.
fn pattern(path: &[String]) -> String {
    let mut pattern = String::new();
    for part in path {
        let named = NAMED.contains(&pattern.as_str());
        if !pattern.is_empty() {
            pattern.push('.');
        }
        pattern.push_str(if named { "*" } else { part });
    }
    pattern
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

/// Carries out a rename at the first place where the old name stands. `None`: at none. Else the text, and the two paths.
fn rename_one(text: &str, example: &str, rename: &Rename) -> Result<Option<(String, String, String)>, Fault> {
    let outline = read(text)?;
    let mut found = Vec::new();
    find(&outline.root, &rename.from.split('.').collect::<Vec<_>>(), &mut Vec::new(), &mut found);
    let Some(from) = found.into_iter().next() else { return Ok(None) };
    let mut names =
        from.iter().zip(rename.from.split('.')).filter(|(_, part)| *part == "*").map(|(name, _)| name.clone());
    let to: Vec<String> = rename
        .to
        .split('.')
        .map(|part| if part == "*" { names.next().unwrap_or_default() } else { part.to_owned() })
        .collect();
    let Some(entry) = outline.root.find(&from) else { return Ok(None) };
    let (Some((new, parent)), Some((_, old_parent))) = (to.split_last(), from.split_last()) else { return Ok(None) };
    if outline.root.find(&to).is_some() {
        let fault =
            Fault::new(format!("its name is `{}` since {}, and both are set: remove one", to.join("."), rename.since));
        return Err(fault.or_at(&place(entry.line, entry.column + 1)).at_path(&strs(&from)));
    }
    if let Some((line, what)) = outline.odd {
        return Err(not_understood(line, what));
    }
    let next = if parent == old_parent {
        let mut next = text.to_owned();
        next.replace_range(entry.bytes.clone(), new);
        next
    } else {
        moved(&outline, example, &from, &to)?
    };
    Ok(Some((next, from.join("."), to.join("."))))
}

fn strs(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

/// The paths in the file that a pattern stands for.
fn find(section: &Section, pattern: &[&str], at: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let Some((first, rest)) = pattern.split_first() else { return };
    for entry in section.entries.iter().filter(|entry| *first == "*" || entry.key == *first) {
        at.push(entry.key.clone());
        match (&entry.value, rest) {
            (_, []) => found.push(at.clone()),
            (Value::Section(inner), rest) => find(inner, rest, at, found),
            (Value::Empty | Value::Scalar(_) | Value::List, _) => {}
        }
        at.pop();
    }
}

/// Moves an entry, with its comment, into another section, which is made where there is none.
fn moved(outline: &Outline<'_>, example: &str, from: &[String], to: &[String]) -> Result<String, Fault> {
    let gone = || Fault::new("a renamed key was not found again");
    let (Some((new, to_parent)), Some((_, from_parent))) = (to.split_last(), from.split_last()) else {
        return Err(gone());
    };
    let (home, above) = section_at(&outline.root, from_parent).ok_or_else(gone)?;
    let entry = outline.root.find(from).ok_or_else(gone)?;
    if home.flow {
        return Err(not_understood(entry.line, "a map in braces, { … }").at_path(&strs(from)));
    }
    let first = outline.first(home, entry, above.map(|key| key.line));
    // The new name in the old lines.
    let start: usize = outline.lines.iter().take(entry.line).map(|line| line.len()).sum();
    let mut renamed = outline.lines.get(entry.line).copied().unwrap_or_default().to_owned();
    renamed.replace_range(entry.bytes.start - start..entry.bytes.end - start, new);
    let mut lines: Vec<&str> = outline.lines.get(first..=entry.last).unwrap_or_default().to_vec();
    if let Some(line) = lines.get_mut(entry.line - first) {
        *line = &renamed;
    }
    // The nearest section on the way that there is, and the heads of those that there are not.
    let template = read(example)?;
    let mut depth = to_parent.len();
    while depth > 0 && !matches!(section_at(&outline.root, &to_parent[..depth]), Some((section, _)) if !section.flow) {
        if outline.root.find(&to_parent[..depth]).is_some_and(|entry| !matches!(entry.value, Value::Empty)) {
            return Err(not_understood(entry.line, "a map in braces, { … }").at_path(&strs(to_parent)));
        }
        depth -= 1;
    }
    let (section, key) = section_at(&outline.root, &to_parent[..depth]).ok_or_else(gone)?;
    let mut column = section.entries.first().map_or_else(|| key.map_or(0, |key| key.column + 2), |first| first.column);
    let mut text = String::new();
    let mut empty = None;
    for end in depth..to_parent.len() {
        if let Some(there) = outline.root.find(&to_parent[..=end]) {
            empty = Some(there);
        } else {
            let head = section_at(&template.root, &to_parent[..end]).and_then(|(inside, key)| {
                let entry = inside.get(&to_parent[end])?;
                let first = template.first(inside, entry, key.map(|key| key.line));
                Some(shifted(template.lines.get(first..=entry.line)?, entry.column, column))
            });
            if column == 0 {
                text.push('\n');
            }
            text.push_str(&head.unwrap_or_else(|| format!("{:column$}{}:\n", "", to_parent[end])));
        }
        column += 2;
    }
    text.push_str(&shifted(&lines, entry.column, column));
    // Behind the last before it in the example's order.
    let before = section_at(&template.root, &to_parent[..depth]).and_then(|(order, _)| {
        let next = to.get(depth)?;
        let names = order.entries.iter().take_while(|entry| entry.key != *next);
        names.filter_map(|name| section.get(&name.key)).last()
    });
    let line = match (empty, before.or(section.entries.last()), key) {
        (Some(empty), _, _) => empty.line + 1,
        (None, Some(before), _) => outline.after(section, before),
        (None, None, Some(key)) => key.line + 1,
        (None, None, None) => outline.lines.len(),
    };
    let mut edits = vec![Edit::Insert { line, text }, Edit::Remove { lines: first..entry.last + 1 }];
    // A section that is left empty and is no longer known goes, too.
    if let Some(key) = above
        && home.entries.len() == 1
        && !is_known(&pattern(from_parent))
    {
        edits.push(Edit::Remove { lines: key.line..key.line + 1 });
    }
    Ok(apply(&outline.lines, edits))
}

/// The section at a path, and its key.
fn section_at<'a>(root: &'a Section, path: &[String]) -> Option<(&'a Section, Option<&'a Entry>)> {
    if path.is_empty() {
        return Some((root, None));
    }
    let entry = root.find(path)?;
    match &entry.value {
        Value::Section(section) => Some((section, Some(entry))),
        Value::Empty | Value::Scalar(_) | Value::List => None,
    }
}

/// Whether a key, or one below it, has this pattern.
fn is_known(pattern: &str) -> bool {
    KEYS.iter()
        .any(|key| key.path == pattern || key.path.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('.')))
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
