//! `docs/doctor.md`: under each heading what `check` says of that mistake.

use std::fs;
use std::process::Output;
use std::sync::{Mutex, PoisonError};

use crate::end_to_end::ground;

/// Tests that record do so one after another.
static WRITING: Mutex<()> = Mutex::new(());

/// The page, as one test reads it.
pub struct Page {
    /// What differs from run to run, and what stands for it on the page.
    names: Vec<(String, String)>,
    wrong: Mutex<Vec<String>>,
}

impl Page {
    pub fn new(names: &[(&str, &str)]) -> Self {
        let names = names.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        Self { names, wrong: Mutex::default() }
    }

    /// What is not well in the output is what the page shows under this heading.
    pub fn shows(&self, heading: &str, output: &Output) {
        self.compare(heading, output, &[], |_| true);
    }

    /// The same with further names.
    pub fn shows_with(&self, heading: &str, output: &Output, names: &[(&str, &str)]) {
        self.compare(heading, output, names, |_| true);
    }

    /// The same for some of the checks.
    pub fn shows_of(&self, heading: &str, output: &Output, checks: &[&str]) {
        self.compare(heading, output, &[], |check| checks.iter().any(|wanted| check.starts_with(wanted)));
    }

    fn compare(&self, heading: &str, output: &Output, names: &[(&str, &str)], of: impl Fn(&str) -> bool) {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.ends_with(" skipped\n"),
            "{heading}: it did not end\n{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let fails = text.lines().any(|line| line.starts_with("FAIL"));
        assert_eq!(output.status.code(), Some(i32::from(fails)), "{heading}\n{text}");
        let mut shown = String::new();
        let mut wanted = false;
        for line in text.lines() {
            match line.get(..6) {
                Some("warn  " | "FAIL  " | "skip  ") => {
                    let check = line[6..].split(':').next().unwrap_or_default();
                    wanted = of(check);
                }
                Some("      ") => {}
                _ => wanted = false,
            }
            if wanted {
                shown.push_str(line);
                shown.push('\n');
            }
        }
        assert!(!shown.is_empty(), "{heading}: nothing was found\n{text}");
        let own = names.iter().map(|(from, to)| (*from, *to));
        for (from, to) in self.names.iter().map(|(from, to)| (from.as_str(), to.as_str())).chain(own) {
            shown = shown.replace(from, to);
        }
        // An hour more or less, to the second.
        for (at, whole) in [(3600, 3600), (120, 120)] {
            for second in [at - 2, at - 1, at + 1, at + 2] {
                shown = shown.replace(&format!("clock is {second} s "), &format!("clock is {whole} s "));
            }
        }
        self.hold(heading, &shown);
    }

    fn hold(&self, heading: &str, shown: &str) {
        let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let path = ground::repository("docs/doctor.md");
        let page = fs::read_to_string(&path).expect("docs/doctor.md");
        let block = page.find(&format!("\n### {heading}\n")).and_then(|start| {
            let end = page[start + 5..].find("\n### ").map_or(page.len(), |end| start + 5 + end);
            let from = start + page[start..end].find("```text\n")? + 8;
            Some(from..from + page[from..end].find("```")?)
        });
        let block =
            block.unwrap_or_else(|| panic!("docs/doctor.md has no block under {heading:?}; it would be\n{shown}"));
        if page[block.clone()] == *shown {
            return;
        }
        if std::env::var_os("DOCTOR_RECORD").is_some() {
            let mut page = page;
            page.replace_range(block, shown);
            fs::write(&path, page).expect("write docs/doctor.md");
        } else {
            let mut wrong = self.wrong.lock().expect("no test panicked in here");
            wrong.push(format!("### {heading}\nthe page has\n{}the program says\n{shown}", &page[block]));
        }
    }

    /// Panics with all that differs.
    pub fn finish(&self) {
        let wrong = self.wrong.lock().expect("no test panicked in here");
        assert!(wrong.is_empty(), "DOCTOR_RECORD=1 would write it to docs/doctor.md:\n{}", wrong.join("\n"));
    }
}
