//! Where the keys of a YAML file stand, line by line: for an editor that leaves all else as it is.

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span, StructureStyle};

/// The keys of a file.
#[derive(Debug)]
pub(super) struct Outline<'a> {
    /// The lines, each with its end.
    pub(super) lines: Vec<&'a str>,
    /// The outermost keys.
    pub(super) root: Section,
    /// The first thing that no line can be added beside safely: its line, and what it is.
    pub(super) odd: Option<(usize, &'static str)>,
}

/// The keys of one map.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// Written `{…}`.
    pub(super) flow: bool,
    /// In the order of the file.
    pub(super) entries: Vec<Entry>,
}

/// One key. Lines count from 0.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The bytes of the file that the key takes, with its quotes.
    pub(super) bytes: std::ops::Range<usize>,
    pub(super) line: usize,
    /// The key's column, from 0.
    pub(super) column: usize,
    /// The last line of its value.
    pub(super) last: usize,
    pub(super) value: Value,
}

/// What stands after a key.
#[derive(Debug)]
pub(super) enum Value {
    /// Nothing at all.
    Empty,
    /// One value, as read.
    Scalar(String),
    List,
    Section(Section),
}

impl Section {
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The entry at this path.
    pub(super) fn find(&self, path: &[String]) -> Option<&Entry> {
        let (first, rest) = path.split_first()?;
        let entry = self.get(first)?;
        match (&entry.value, rest) {
            (_, []) => Some(entry),
            (Value::Section(section), rest) => section.find(rest),
            (Value::Empty | Value::Scalar(_) | Value::List, _) => None,
        }
    }
}

impl<'a> Outline<'a> {
    /// Reads a text that [`super::yaml::parse`] has accepted, so that its depth and size are bounded. `Err`: the line that the
    /// parser stopped at.
    pub(super) fn read(text: &'a str) -> Result<Self, usize> {
        let mut reader = Reader { parser: Parser::new_from_str(text), odd: None };
        let mut outline = Self { lines: text.split_inclusive('\n').collect(), root: Section::default(), odd: None };
        while let Some((event, span)) = reader.next()? {
            match event {
                Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
                event => {
                    if let (Value::Section(section), _) = reader.value(event, span, &outline.lines)? {
                        outline.root = section;
                    }
                }
            }
        }
        outline.odd = reader.odd;
        Ok(outline)
    }

    /// The first line of the comment that stands directly above an entry of `section`, or its own. `above`: the line of the
    /// section's own key.
    pub(super) fn first(&self, section: &Section, entry: &Entry, above: Option<usize>) -> usize {
        let before = section.entries.iter().filter(|other| other.line < entry.line).map(|other| other.last + 1).max();
        let bound = before.or(above.map(|line| line + 1)).unwrap_or(0);
        let mut first = entry.line;
        while first > bound && self.is_comment(first - 1) {
            first -= 1;
        }
        first
    }

    /// The line after an entry and after the comments that belong to it: those that are further in, and at the end of a section
    /// all that follow directly.
    pub(super) fn after(&self, section: &Section, entry: &Entry) -> usize {
        let closes = section.entries.iter().all(|other| other.line <= entry.line);
        let mut end = entry.last + 1;
        while self.is_comment(end) {
            end += 1;
        }
        if end == entry.last + 1 {
            return end;
        }
        // What follows at the same depth is said to the next key.
        let next = self.lines.get(end).map(|line| indentation(line));
        let leads = next.is_some_and(|next| next >= entry.column && !self.is_blank(end));
        let deep = |line: &usize| {
            let indent = self.lines.get(*line).map_or(0, |line| indentation(line));
            if closes && !leads { indent >= entry.column.max(1) } else { indent > entry.column }
        };
        (entry.last + 1..end).take_while(deep).last().map_or(entry.last + 1, |line| line + 1)
    }

    fn is_comment(&self, line: usize) -> bool {
        self.lines.get(line).is_some_and(|line| line.trim_start().starts_with('#'))
    }

    pub(super) fn is_blank(&self, line: usize) -> bool {
        self.lines.get(line).is_some_and(|line| line.trim().is_empty())
    }
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    odd: Option<(usize, &'static str)>,
}

fn line(marker: Marker) -> usize {
    marker.line().saturating_sub(1)
}

/// The last line that a value takes. Block scalars end where the next thing begins.
fn last(span: Span) -> usize {
    let (start, end) = (line(span.start), line(span.end));
    if end > start && span.end.col() == 0 { end - 1 } else { end }
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, usize> {
        loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..) | Event::Anchor(..), _))) => {}
                Some(Ok(found)) => return Ok(Some(found)),
                Some(Err(error)) => return Err(line(*error.marker())),
            }
        }
    }

    fn strange(&mut self, at: usize, what: &'static str) {
        self.odd.get_or_insert((at, what));
    }

    /// One value, with all in it, and its last line.
    fn value(&mut self, event: Event<'a>, span: Span, lines: &[&str]) -> Result<(Value, usize), usize> {
        let at = line(span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.properties(at, anchor, tag.is_some());
                let nothing = style == ScalarStyle::Plain && span.start == span.end;
                Ok(if nothing { (Value::Empty, at) } else { (Value::Scalar(text.into_owned()), last(span)) })
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.properties(at, anchor, tag.is_some());
                let mut end = at;
                loop {
                    match self.next()? {
                        Some((Event::SequenceEnd, span)) => return Ok((Value::List, end.max(closing(span, lines)))),
                        Some((event, span)) => end = end.max(self.value(event, span, lines)?.1),
                        None => return Err(at),
                    }
                }
            }
            Event::MappingStart(style, anchor, tag) => {
                self.properties(at, anchor, tag.is_some());
                self.section(style == StructureStyle::Flow, at, lines)
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.strange(at, "an alias");
                Ok((Value::Scalar(String::new()), at))
            }
            _ => Err(at),
        }
    }

    fn section(&mut self, flow: bool, at: usize, lines: &[&str]) -> Result<(Value, usize), usize> {
        let (mut section, mut end) = (Section { flow, entries: Vec::new() }, at);
        loop {
            let (event, key) = self.next()?.ok_or(at)?;
            let name = match event {
                Event::MappingEnd => {
                    let closed = if flow { end.max(closing(key, lines)) } else { end };
                    return Ok((Value::Section(section), closed));
                }
                Event::Scalar(name, _, anchor, tag) => {
                    self.properties(line(key.start), anchor, tag.is_some());
                    name.into_owned()
                }
                _ => return Err(line(key.start)),
            };
            let (row, column) = (line(key.start), key.start.col());
            let before = lines.get(row).and_then(|line| line.get(..column));
            if !flow
                && !before
                    .is_some_and(|before| before.trim_start_matches('\u{feff}').trim_start_matches(' ').is_empty())
            {
                self.strange(row, "a key that does not begin its line");
            }
            let (event, span) = self.next()?.ok_or(row)?;
            let (value, last) = self.value(event, span, lines)?;
            // Where nothing stands, the parser names the place of what comes next.
            let last = if matches!(value, Value::Empty) { line(key.end) } else { last.max(row) };
            end = end.max(last);
            let bytes = key.start.byte_offset().unwrap_or(0)..key.end.byte_offset().unwrap_or(0);
            section.entries.push(Entry { key: name, bytes, line: row, column, last, value });
        }
    }

    fn properties(&mut self, at: usize, anchor: usize, tagged: bool) {
        if anchor > 0 {
            self.strange(at, "an anchor");
        }
        if tagged {
            self.strange(at, "a tag");
        }
    }
}

/// The line of a closing bracket; of a block list, which has none, its first.
fn closing(span: Span, lines: &[&str]) -> usize {
    let (row, column) = (line(span.start), span.start.col());
    let bracket = lines.get(row).and_then(|line| line.chars().nth(column)).is_some_and(|c| matches!(c, ']' | '}'));
    if bracket { row } else { 0 }
}
