//! Changes of a file's lines, for [`super::upgrade`] and [`super::rename`].

use std::collections::BTreeMap;

use super::fault::{Fault, Origin};
use super::outline::Outline;

pub(super) fn read(text: &str) -> Result<Outline<'_>, Fault> {
    Outline::read(text).map_err(|line| Fault::new("not readable as YAML").or_at(&place(line, 1)))
}

pub(super) fn place(line: usize, column: usize) -> Origin {
    Origin::File { line: line + 1, column, width: 1 }
}

pub(super) fn not_understood(line: usize, what: &str) -> Fault {
    let fault =
        Fault::new(format!("the upgrade would have to edit beside {what}, which it does not do: nothing was changed"));
    fault.or_at(&place(line, 1)).hint("write it without, one key a line; or add what is new by hand")
}

/// One change of the lines, which are counted in the old text.
pub(super) enum Edit {
    /// Before this line.
    Insert { line: usize, text: String },
    /// These lines.
    Remove { lines: std::ops::Range<usize> },
}

/// Insertions at one place keep their order.
pub(super) fn apply(lines: &[&str], edits: Vec<Edit>) -> String {
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
pub(super) fn shifted(lines: &[&str], column: usize, to: usize) -> String {
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

pub(super) fn strs(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}
