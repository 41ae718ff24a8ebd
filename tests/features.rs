//! docs/features.md, doap.xml and the index of src/translate/mod.rs say the same, and every row of the page is shown by a test
//! with real servers.

#![allow(clippy::expect_used)]

use std::{collections::BTreeSet, fs, path::Path};

use super::promises;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a file of the repository")
}

/// A row of one of the page's tables.
struct Row {
    concept: String,
    files: Vec<String>,
    way: String,
    text: String,
    tests: Vec<String>,
}

/// What stands in backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn rows(page: &str) -> Vec<Row> {
    let lines = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let cells = lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    cells
        .filter(|cells| cells.first() != Some(&"concept"))
        .map(|cells| {
            assert_eq!(cells.len(), 8, "a row with other columns: {cells:?}");
            Row {
                concept: cells[0].to_owned(),
                files: quoted(cells[1]),
                way: cells[4].to_owned(),
                text: cells.join(" "),
                tests: quoted(cells[7]),
            }
        })
        .collect()
}

/// The numbers behind each `XEP-`, or behind each `xep-` of a link.
fn xeps(text: &str, mark: &str) -> BTreeSet<String> {
    text.split(mark).skip(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect()).collect()
}

/// The index: the file of each row, and what the row says.
fn index() -> Vec<(String, String)> {
    let source = read("src/translate/mod.rs");
    let lines = source.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    lines.filter_map(|line| Some((line.split('`').next()?.to_owned(), line.to_owned()))).collect()
}

#[test]
fn every_concept_of_the_index_is_on_the_page() {
    let page = read("docs/features.md");
    let rows = rows(&page);
    let below = page.split("## What these stand on").nth(1).expect("the last section");
    let listed: BTreeSet<String> = rows.iter().flat_map(|row| row.files.iter().cloned()).chain(quoted(below)).collect();
    let index = index();
    let named: BTreeSet<String> = index.iter().map(|(file, _)| file.clone()).collect();
    assert_eq!(listed, named);
    for (file, said) in index {
        let places: Vec<&str> =
            rows.iter().filter(|row| row.files.contains(&file)).map(|row| row.text.as_str()).collect();
        let page = if places.is_empty() { below.to_owned() } else { places.join(" ") };
        let missing: Vec<String> = xeps(&said, "XEP-").difference(&xeps(&page, "XEP-")).cloned().collect();
        assert!(missing.is_empty(), "the index names XEPs beside `{file}` that the page does not: {missing:?}");
    }
}

#[test]
fn the_page_and_doap_xml_name_the_same_xeps() {
    let (page, doap) = (read("docs/features.md"), read("doap.xml"));
    doap.parse::<minidom::Element>().expect("well-formed XML");
    assert_eq!(xeps(&page, "XEP-"), xeps(&doap, "extensions/xep-"));
}

#[test]
fn every_row_is_shown_by_a_test_with_real_servers() {
    let real = promises::tests_of(&["tests/end_to_end"]);
    for row in rows(&read("docs/features.md")) {
        assert!(["↔", "→", "←"].contains(&row.way.as_str()), "which way? {}", row.concept);
        assert!(!row.tests.is_empty() && !row.files.is_empty(), "neither test nor file: {}", row.concept);
        for test in row.tests {
            assert!(real.contains(&test), "no such test in tests/end_to_end: {test} ({})", row.concept);
        }
    }
}
