//! The rows of docs/features.md, by the name of their concept.

use std::collections::BTreeSet;
use std::fs;

use crate::end_to_end::ground;

/// All of them.
pub fn concepts() -> BTreeSet<&'static str> {
    let page = fs::read_to_string(ground::repository("docs/features.md")).expect("docs/features.md");
    let rows = page.leak().lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let concepts = rows.filter_map(|row| row.trim_matches('|').split('|').next()).map(str::trim);
    concepts.filter(|concept| *concept != "concept").collect()
}
