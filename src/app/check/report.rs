//! What `check` prints: a line for each thing that was looked at, and the remedy below it where something is wrong.

use std::{fmt, io::Write};

use serde::Serialize;

use crate::app::exit::Exit;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but something is missing for it, or soon will be.
    Warn,
    /// It does not work.
    Fail,
    /// It could not be asked.
    Skip,
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        })
    }
}

/// One thing that was looked at; as JSON with `--json`.
#[derive(Serialize)]
struct Line<'a> {
    check: &'a str,
    level: Level,
    finding: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
}

/// Prints each line as it comes, and counts.
pub struct Report<W> {
    out: W,
    json: bool,
    counts: [usize; 4],
}

impl<W: Write> Report<W> {
    /// Prints to `out`, for people or, with `json`, one object a line.
    pub fn new(out: W, json: bool) -> Self {
        Self { out, json, counts: [0; 4] }
    }

    /// It is well.
    pub fn ok(&mut self, check: &str, finding: impl fmt::Display) {
        self.line(Level::Ok, check, &finding.to_string(), None);
    }

    /// Something is missing for it, or soon will be.
    pub fn warn(&mut self, check: &str, finding: impl fmt::Display, remedy: impl fmt::Display) {
        self.line(Level::Warn, check, &finding.to_string(), Some(&remedy.to_string()));
    }

    /// It does not work.
    pub fn fail(&mut self, check: &str, finding: impl fmt::Display, remedy: impl fmt::Display) {
        self.line(Level::Fail, check, &finding.to_string(), Some(&remedy.to_string()));
    }

    /// It could not be asked, and why.
    pub fn skip(&mut self, check: &str, reason: impl fmt::Display) {
        self.line(Level::Skip, check, &reason.to_string(), None);
    }

    fn line(&mut self, level: Level, check: &str, finding: &str, remedy: Option<&str>) {
        self.counts[level as usize] += 1;
        // Nothing is left to be done if it is closed.
        let _ = if self.json {
            let line = Line { check, level, finding, remedy };
            writeln!(self.out, "{}", serde_json::to_string(&line).unwrap_or_default())
        } else {
            let told = writeln!(self.out, "{level:<4}  {check}: {finding}");
            remedy.map_or(told, |remedy| writeln!(self.out, "      = {remedy}"))
        };
    }

    /// Sums it up, for people, and gives the exit code. `strict`: warnings count as failures.
    pub fn end(mut self, strict: bool) -> Exit {
        let [ok, warn, fail, skip] = self.counts;
        if !self.json {
            let many = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
            let _ = writeln!(
                self.out,
                "{}: {ok} ok, {}, {}, {skip} skipped",
                many(ok + warn + fail + skip, "check"),
                many(warn, "warning"),
                many(fail, "failure")
            );
        }
        if fail > 0 || strict && warn > 0 { Exit::CheckFailed } else { Exit::Success }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(json: bool, strict: bool, fails: bool) -> (String, Exit) {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, json);
        report.ok("store", "./data");
        report.warn("clock", "It is \"slow\".", "Set it.");
        report.skip("ping", "The homeserver does not answer.");
        if fails {
            report.fail("bot", "None.", "Make one.");
        }
        let exit = report.end(strict);
        (String::from_utf8(out).unwrap(), exit)
    }

    #[test]
    fn it_is_told_in_lines_with_the_remedy_below() {
        let (text, exit) = report(false, false, true);
        let expected = "ok    store: ./data\nwarn  clock: It is \"slow\".\n      = Set it.\nskip  ping: The homeserver does not answer.\n\
                        FAIL  bot: None.\n      = Make one.\n4 checks: 1 ok, 1 warning, 1 failure, 1 skipped\n";
        assert_eq!((text.as_str(), exit), (expected, Exit::CheckFailed));
        assert!(report(false, false, false).0.ends_with("3 checks: 1 ok, 1 warning, 0 failures, 1 skipped\n"));
    }

    #[test]
    fn as_json_each_line_is_an_object() {
        let (text, _) = report(true, false, true);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 4);
        let warning =
            serde_json::json!({"check": "clock", "level": "warn", "finding": "It is \"slow\".", "remedy": "Set it."});
        assert_eq!(lines[1], warning);
        assert_eq!(lines[2].get("remedy"), None);
    }

    #[test]
    fn warnings_count_only_if_it_is_strict() {
        assert_eq!(report(false, false, false).1, Exit::Success);
        assert_eq!(report(false, true, false).1, Exit::CheckFailed);
        assert_eq!(report(true, false, true).1, Exit::CheckFailed);
    }
}
