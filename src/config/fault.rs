//! What is wrong in a file, said so that a person can mend it: file, line, key, and the nearest known key.
//!
//! A fault never quotes what stands after it in its line, nor a line in which a secret may stand before it.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use serde::de;

use super::yaml::Node;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nothing was written: the whole file, or a default.
    Nowhere,
    /// In the file: line and column count from 1, in characters; `width` is how many characters of that line it takes.
    File { line: usize, column: usize, width: usize },
    /// The environment variable of this name (or the file that it names).
    Env(String),
}

impl Origin {
    /// The place of a span in `source`, with its width cut to the first line of it.
    pub(super) fn file(source: &str, location: serde_saphyr::Location) -> Self {
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let (line, column) = (number(location.line()), number(location.column()));
        if line == 0 {
            return Self::Nowhere;
        }
        let rest = source.lines().nth(line - 1).map_or(0, |text| text.chars().count()).saturating_sub(column - 1);
        Self::File { line, column, width: number(location.span().len()).min(rest).max(1) }
    }
}

/// One thing that is wrong, while its place is still being worked out.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The key, from the outermost section inwards.
    path: Vec<String>,
    at: Option<Origin>,
    what: String,
    hint: Option<String>,
    missing: bool,
}

impl Fault {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { path: Vec::new(), at: None, what: what.into(), hint: None, missing: false }
    }

    /// Adds how it can be mended.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the place, unless something nearer has set it.
    pub(crate) fn or_at(mut self, origin: &Origin) -> Self {
        self.at.get_or_insert_with(|| origin.clone());
        self
    }

    /// Sets the place to that of a value. A key that is missing has none: its section's key will be shown.
    pub(crate) fn in_value(self, origin: &Origin) -> Self {
        if self.missing { self } else { self.or_at(origin) }
    }

    /// Says that the fault is inside of `key`.
    pub(crate) fn within(mut self, key: &str) -> Self {
        self.path.insert(0, key.to_owned());
        self
    }

    /// Takes the place of its key in the tree.
    pub(super) fn placed_in(self, tree: &Node) -> Self {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let origin = tree.origin_of(&path).clone();
        self.or_at(&origin)
    }

    /// Says at which key the fault is.
    pub(crate) fn at_path(mut self, path: &[&str]) -> Self {
        self.path = path.iter().map(|part| (*part).to_owned()).collect();
        self
    }
}

impl Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {}", Found(found)))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut fault = Self::new("not a known key").at_path(&[field]);
        if let Some(nearest) = nearest(field, expected.iter().copied()) {
            fault = fault.hint(format!("nearest known key: `{nearest}`; known here: {}", expected.join(", ")));
        }
        fault
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let fault = Self::new(format!("`{}` is not one of: {}", short(variant), expected.join(", ")));
        match nearest(variant, expected.iter().copied()) {
            Some(nearest) => fault.hint(format!("nearest: `{nearest}`")),
            None => fault,
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: true, ..Self::new("missing").at_path(&[field]) }
    }
}

/// A value's kind, never the value: it may be a secret in the wrong place.
struct Found<'a>(de::Unexpected<'a>);

impl Display for Found<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            de::Unexpected::Bool(_) => formatter.write_str("a boolean"),
            de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) | de::Unexpected::Float(_) => {
                formatter.write_str("a number")
            }
            de::Unexpected::Char(_) | de::Unexpected::Str(_) => formatter.write_str("text"),
            de::Unexpected::Unit | de::Unexpected::Option => formatter.write_str("nothing"),
            de::Unexpected::Seq => formatter.write_str("a list"),
            de::Unexpected::Map => formatter.write_str("a map"),
            de::Unexpected::Other(what) => formatter.write_str(what),
            ref other => write!(formatter, "{other}"),
        }
    }
}

/// At most 64 characters of what was written, for a message.
pub(super) fn short(text: &str) -> String {
    if text.chars().count() <= 64 { text.to_owned() } else { text.chars().take(63).chain(['…']).collect() }
}

/// The name in `known` that takes the fewest typing mistakes to become `name`.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known.into_iter().min_by_key(|candidate| strsim::damerau_levenshtein(name, candidate))
}

/// One thing that is wrong in a file, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1; `None` where nothing was written or the value came from the environment.
    pub line: Option<usize>,
    /// The column in that line, from 1, in characters.
    pub column: Option<usize>,
    /// The key with its sections, such as `homeserver.address`; empty if the file as a whole cannot be read.
    pub key: String,
    /// What is wrong, in one sentence without the place.
    pub message: String,
    /// Whether the fault is that a required key was left out.
    pub missing: bool,
    /// All of it with the place, the line and a caret, on several lines.
    shown: String,
}

impl Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown)
    }
}

impl Problem {
    pub(super) fn new(file: &Path, source: &str, fault: Fault) -> Self {
        let key = fault.path.join(".");
        let subject = if key.is_empty() { String::new() } else { format!("`{key}`: ") };
        let (mut line, mut column, mut excerpt) = (None, None, None);
        let place = match &fault.at {
            Some(Origin::File { line: at, column: from, width }) => {
                (line, column) = (Some(*at), Some(*from));
                excerpt = self::excerpt(source, *at, *from, *width);
                format!("{}:{at}:{from}", file.display())
            }
            Some(Origin::Env(variable)) => format!("environment variable {variable}"),
            Some(Origin::Nowhere) | None => file.display().to_string(),
        };
        let mut shown = format!("{place}: {subject}{}", fault.what);
        for part in [excerpt, fault.hint.as_ref().map(|hint| format!("  = {hint}"))].into_iter().flatten() {
            shown.push('\n');
            shown.push_str(&part);
        }
        Self { line, column, key, message: fault.what, missing: fault.missing, shown }
    }
}

/// The line up to the end of the fault, with a caret under it. `None` if a secret may stand there.
fn excerpt(source: &str, line: usize, column: usize, width: usize) -> Option<String> {
    let text = source.lines().nth(line - 1)?;
    let before = line.checked_sub(2).and_then(|index| source.lines().nth(index)).unwrap_or_default();
    let secret = |text: &str| ["secret", "token:", "password"].iter().any(|word| text.to_lowercase().contains(word));
    if secret(text) || secret(before) {
        return None;
    }
    // A very long line would only hide the message.
    let (from, width) = (column - 1, width.min(80));
    if from > 160 {
        return None;
    }
    let shown: String = text.chars().take(from + width).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let carets = format!("{}{}", " ".repeat(from), "^".repeat(width));
    Some(format!("  {margin} |\n  {number} | {shown}\n  {margin} | {carets}"))
}

/// Why a configuration or registration file cannot be used. `Display` tells it all, on several lines.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read at all.
    #[error("{}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason, or that it is no UTF-8 or far too big.
        reason: String,
    },
    /// The file was read, and this is wrong in it.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
}

impl ConfigError {
    /// Whether the only thing wrong is that the homeserver's domain was not set.
    pub fn is_domain_unset(&self) -> bool {
        match self {
            Self::Read { .. } => false,
            Self::Invalid(problems) => problems.iter().all(|p| p.missing && p.key == "homeserver.domain"),
        }
    }

    /// What is wrong in the file; empty if it could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Read { .. } => &[],
            Self::Invalid(problems) => problems,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &str, line: usize, column: usize, width: usize) -> String {
        let fault = Fault::new("wrong").or_at(&Origin::File { line, column, width });
        Problem::new(Path::new("f.yaml"), source, fault).to_string()
    }

    #[test]
    fn shows_the_line_up_to_the_fault_and_no_further() {
        let text = shown("a:\n  sercet_of_mine: hunter2\n", 2, 3, 14);
        assert_eq!(text, "f.yaml:2:3: wrong\n    |\n  2 |   sercet_of_mine\n    |   ^^^^^^^^^^^^^^");
    }

    #[test]
    fn never_shows_a_line_that_may_hold_a_secret() {
        for source in
            ["oauth: { client_secret: hunter2, x: 1 }\n", "client_secret: |\n  hunter2\n", "as_token: hunter2"]
        {
            for line in 1..=source.lines().count() {
                assert!(!shown(source, line, 20, 9).contains("hunter2"), "{source}");
            }
        }
    }

    #[test]
    fn the_nearest_name_is_the_one_with_the_fewest_mistakes() {
        assert_eq!(nearest("adress", ["domain", "address", "listen"]), Some("address"));
        assert_eq!(nearest("x", []), None);
    }
}
