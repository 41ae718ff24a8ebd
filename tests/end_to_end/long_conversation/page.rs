//! The rows of docs/features.md.

use std::fs;

use crate::end_to_end::ground;

/// What cannot be part of this conversation, by its file in src/translate/, and why.
pub const ELSEWHERE: [(&str, &str); 2] = [
    ("public_link", "it is for networks that take no files, and Prosody does"),
    ("activity", "it is between the bridge and the server, and nobody sees it"),
];

/// The concept of each row, and its files in src/translate/.
pub fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    let page = fs::read_to_string(ground::repository("docs/features.md")).expect("docs/features.md");
    let rows = page.leak().lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let rows = cells.filter(|cells| cells.first() != Some(&"concept"));
    rows.map(|cells| (cells[0], cells[1].split('`').skip(1).step_by(2).collect())).collect()
}
