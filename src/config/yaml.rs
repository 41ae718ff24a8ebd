//! YAML with its origins: a tree in which each node knows where it was written.
//!
//! serde-saphyr reads the text. The tree stands between it and the typed structs for two reasons: values from the
//! environment are laid over it before it is typed, and a fault found later (a port that is out of range, a file that is
//! not there) can still name its line.

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::fault::{Fault, Origin};

/// One value, and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) origin: Origin,
    pub(crate) kind: Kind,
}

/// What a value is. Scalars keep the text that was written (`client_id: 0012` keeps its zeros): only the struct that it
/// is read into knows whether it is a number.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Not set: an empty value, `~` or `null`. Where a key is expected this is the same as leaving the key out.
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `key: value` of a map.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) origin: Origin,
    pub(crate) value: Node,
}

impl Node {
    /// The value of `key`, if this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The entries, if this is a map.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            Kind::Null | Kind::Text(_) | Kind::List(_) => &[],
        }
    }

    /// Where the value at `path` was written, or else the nearest part of the path that was.
    pub(crate) fn origin_of(&self, path: &[&str]) -> &Origin {
        let Some((first, rest)) = path.split_first() else { return &self.origin };
        let child = match &self.kind {
            Kind::List(items) => first.parse().ok().and_then(|index: usize| items.get(index)),
            // Names of hosts are lower case in the typed structs.
            Kind::Map(_) | Kind::Null | Kind::Text(_) => {
                let entry = self.entries().iter().find(|entry| entry.key.eq_ignore_ascii_case(first));
                entry.map(|entry| &entry.value)
            }
        };
        child.map_or(&self.origin, |child| child.origin_of(rest))
    }
}

/// Reads one YAML document into a tree. An empty document is an empty map.
///
/// Double keys, documents after the first and what exceeds serde-saphyr's budget (alias bombs, depth) are faults.
pub(crate) fn parse(text: &str) -> Result<Node, Fault> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let raw: Option<Spanned<Raw>> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error.location().map_or(Origin::Nowhere, |location| Origin::file(text, location));
        // The position is told by ours: the parser's own rendering would quote lines that may hold a secret.
        let formatter = serde_saphyr::UserMessageFormatter;
        let rendered = error.without_snippet().render_with_formatter(&formatter);
        let message = rendered.lines().next().unwrap_or_default();
        let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
        Fault::new(format!("not readable as YAML: {message}")).or_at(&at)
    })?;
    let root = raw.map_or(Kind::Null, |raw| node(text, raw).kind);
    Ok(Node { origin: Origin::Nowhere, kind: if matches!(root, Kind::Null) { Kind::Map(Vec::new()) } else { root } })
}

/// What serde-saphyr gives before positions are worked out.
enum Raw {
    Null,
    /// A plain scalar that looks like a number or a boolean, in its normal form.
    Inferred(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn node(source: &str, raw: Spanned<Raw>) -> Node {
    let kind = match raw.value {
        Raw::Null => Kind::Null,
        Raw::Text(text) => Kind::Text(text),
        Raw::Inferred(normal) => {
            let span = raw.defined.span();
            let written = span.byte_offset().zip(span.byte_len()).and_then(|(start, length)| {
                let start = usize::try_from(start).ok()?;
                source.get(start..start.checked_add(usize::try_from(length).ok()?)?)
            });
            Kind::Text(written.map_or(normal, |written| written.trim_end().to_owned()))
        }
        Raw::List(items) => Kind::List(items.into_iter().map(|item| node(source, item)).collect()),
        Raw::Map(entries) => Kind::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    origin: Origin::file(source, key.referenced),
                    key: key.value,
                    value: node(source, value),
                })
                .collect(),
        ),
    };
    Node { origin: Origin::file(source, raw.referenced), kind }
}

impl<'de> de::Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a YAML value")
    }
    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Inferred(value.to_string()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Inferred(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Inferred(value.to_string()))
    }
    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Inferred(value.to_string()))
    }
    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Inferred(value.to_string()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Inferred(value.to_string()))
    }
    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn text(node: &Node, key: &str) -> String {
        match node.get(key).map(|value| &value.kind) {
            Some(Kind::Text(text)) => text.clone(),
            other => panic!("{key}: {other:?}"),
        }
    }

    #[test]
    fn scalars_keep_the_text_that_was_written() {
        let tree = parse("a: 0000000048093E31\nb: 4809e3  # a float?\nc: yes\nd: 'x: 1'\ne: 1_000\nf: &n 007\ng: *n\n")
            .unwrap();
        let expected = [("a", "0000000048093E31"), ("b", "4809e3"), ("c", "yes"), ("d", "x: 1"), ("e", "1_000")];
        for (key, written) in expected.into_iter().chain([("f", "007"), ("g", "007")]) {
            assert_eq!(text(&tree, key), written, "{key}");
        }
    }

    #[test]
    fn each_node_knows_its_place() {
        let tree = parse("# é\nhome:\n  address: x\n  list: [a, bé, c]\n").unwrap();
        let place = |path: &[&str]| match tree.origin_of(path) {
            Origin::File { line, column, width } => (*line, *column, *width),
            other => panic!("{other:?}"),
        };
        assert_eq!(place(&["home", "address"]), (3, 12, 1));
        assert_eq!(place(&["home", "list", "1"]), (4, 13, 2));
        assert_eq!(place(&["home", "missing"]).0, 3, "the nearest part that exists");
    }

    #[test]
    fn an_alias_bomb_and_a_double_key_are_faults() {
        assert!(parse("a: 1\nb: 2\na: 3\n").is_err());
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let refs = vec![format!("*a{}", level - 1); 10].join(", ");
            writeln!(bomb, "a{level}: &a{level} [{refs}]").unwrap();
        }
        assert!(parse(&bomb).is_err());
    }

    #[test]
    fn an_empty_document_is_an_empty_map() {
        for text in ["", "# only a comment\n", "---\n"] {
            assert!(matches!(&parse(text).unwrap().kind, Kind::Map(entries) if entries.is_empty()), "{text:?}");
        }
    }
}
