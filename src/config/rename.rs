//! Keys that have another name than in an earlier version: the old name is found, and moved with what was said and set there.

use super::edit::{Edit, apply, not_understood, place, read, shifted, strs};
use super::fault::Fault;
use super::keys::{is_known, pattern};
use super::outline::{Entry, Outline, Section, Value};

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

/// Carries out a rename at the first place where the old name stands. `None`: at none. Else the text, and the two paths.
pub(super) fn rename_one(
    text: &str,
    example: &str,
    rename: &Rename,
) -> Result<Option<(String, String, String)>, Fault> {
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
