//! The guard between socket and parser: bounds what a network may feed us. **No stanza may end a stream**, for the
//! server would deliver it again for ever; so what is over a bound is cut out and counted, and what is left is
//! well-formed wherever the input was. The bounds of names and values are within what the parser takes: `rxml` as the
//! library's `xmlstream` makes it ends a stream at a name or value of more than [`MAX_TOKEN`] bytes (text it hands on in
//! pieces of that length, a tag as a whole has no limit). `xmlstream` also ends one at a header with attributes that it
//! does not know, without `version='1.0'`, and at text between stanzas; none of these gets that far.
//!
//! It works byte by byte and does not care how the bytes are cut into reads. What is within the bounds keeps its
//! meaning: white space inside tags is normalised, CDATA becomes escaped text, everything else passes as it came.

/// The longest name or value that the parser takes, in bytes; a reference counts as the character that it stands for.
pub const MAX_TOKEN: usize = 8 * 1024;
/// Longest attribute value that is let through, in bytes as it came. A longer one is dropped with its name.
pub const MAX_VALUE: usize = MAX_TOKEN;
/// Longest start tag, in bytes, after over-long values are dropped.
pub const MAX_TAG: usize = 64 * 1024;
/// Most attributes of one element.
pub const MAX_ATTRIBUTES: usize = 64;
/// Longest name of an element or attribute, in bytes.
pub const MAX_NAME: usize = 1024;
/// Deepest nesting, the stream's own element counted. Elements below are dropped with their content.
pub const MAX_DEPTH: usize = 64;
/// Largest stanza, in bytes. What follows in the same stanza is dropped; its open elements still close.
pub const MAX_STANZA: usize = 1024 * 1024;

/// Longest reference (`&#x0001F600;`), without `&` and `;`.
const MAX_REFERENCE: usize = 16;
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    /// After `&`, in text or (true) in an attribute value; `held` is what followed.
    Reference(bool),
    /// After `<`.
    Open,
    Name,
    Between,
    AttributeName,
    BeforeEquals,
    BeforeValue,
    Value,
    /// After `/` in a tag.
    Slash,
    CloseTag,
    /// After `<!`; `held` is what followed.
    Bang,
    /// In a comment, this many `-` seen.
    Comment(u8),
    /// In a processing instruction; `?` was just seen.
    Instruction(bool),
    /// In a declaration, at this depth of `[`.
    Declaration(u8),
    /// In a CDATA section, this many `]` held back.
    Cdata(u8),
    /// The markup is not XML: nothing more passes, and the parser has been given something to complain about.
    Broken,
}

/// One attribute that was kept: where it stands in [`Tag::attributes`] and what it is.
#[derive(Clone, Copy, Debug)]
struct Kept {
    start: usize,
    end: usize,
    /// It has a prefix other than `xml`, which a declaration must explain.
    prefixed: bool,
}

/// The start tag that is being read.
#[derive(Debug, Default)]
struct Tag {
    name: Vec<u8>,
    attributes: Vec<u8>,
    kept: Vec<Kept>,
    /// It is over a bound as a whole.
    over: bool,
    /// The attribute that is being read.
    attribute: Vec<u8>,
    value: Vec<u8>,
    value_over: bool,
    quote: u8,
}

impl Tag {
    fn clear(&mut self) {
        self.name.clear();
        self.attributes.clear();
        self.kept.clear();
        self.over = false;
        // A single large tag should not hold its memory for the life of the stream.
        self.attributes.shrink_to(1024);
        self.value.shrink_to(1024);
    }
}

/// See the module.
#[derive(Debug)]
pub struct Guard {
    state: State,
    tag: Tag,
    held: Vec<u8>,
    /// Elements that are open on the parser's side, the stream's own counted.
    depth: usize,
    /// Elements that are open inside a part that is being dropped.
    dropped: usize,
    /// Bytes of the current stanza that were let through.
    size: usize,
    /// The current stanza is over its bound.
    over: bool,
    /// The last character of text was begun before the bound and must be finished.
    finish_character: bool,
    cuts: u64,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            state: State::Text,
            tag: Tag::default(),
            held: Vec::new(),
            depth: 0,
            dropped: 0,
            size: 0,
            over: false,
            finish_character: false,
            cuts: 0,
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// An attribute of a stream's header that `xmlstream` takes (RFC 6120 section 4.7), but for `version`.
fn is_of_header(attribute: &[u8]) -> bool {
    matches!(attribute, b"from" | b"to" | b"id" | b"xml:lang")
}

/// A control character, which XML 1.0 forbids (section 2.2).
fn is_forbidden(byte: u8) -> bool {
    byte < 0x20 && !is_space(byte)
}

/// `reference` stands for itself: one of the five of XML 1.0 section 4.6, or a number of an allowed character.
fn is_allowed_reference(reference: &[u8]) -> bool {
    if matches!(reference, b"lt" | b"gt" | b"amp" | b"apos" | b"quot") {
        return true;
    }
    let Some(digits) = std::str::from_utf8(reference).ok().and_then(|text| text.strip_prefix('#')) else {
        return false;
    };
    let number = match digits.strip_prefix('x') {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    let unsigned = !digits.contains('+');
    unsigned && number.ok().and_then(char::from_u32).is_some_and(is_xml_character)
}

/// XML 1.0 section 2.2, production `Char`.
pub fn is_xml_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

impl Guard {
    /// How often something was cut out so far.
    pub fn cuts(&self) -> u64 {
        self.cuts
    }

    /// How many elements are open, the stream's own counted.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Takes the next bytes of the stream and appends to `out` what may pass.
    pub fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while let Some(&byte) = input.first() {
            let plain = match self.state {
                State::Text => {
                    let end = input.iter().position(|&b| matches!(b, b'<' | b'&') || is_forbidden(b));
                    let run = &input[..end.unwrap_or(input.len())];
                    self.text(run, out);
                    run.len()
                }
                State::Value => {
                    let quote = self.tag.quote;
                    let end = input.iter().position(|&b| b == quote || matches!(b, b'<' | b'&') || is_forbidden(b));
                    let run = &input[..end.unwrap_or(input.len())];
                    self.value(run);
                    run.len()
                }
                _ => 0,
            };
            if plain > 0 {
                input = &input[plain..];
                continue;
            }
            self.step(byte, out);
            input = &input[1..];
        }
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.state {
            State::Text => match byte {
                b'<' => self.state = State::Open,
                b'&' => self.begin_reference(false),
                _ => self.piece(REPLACEMENT, out),
            },
            State::Reference(in_value) => self.reference(byte, in_value, out),
            State::Open => match byte {
                b'/' => {
                    self.held.clear();
                    self.state = State::CloseTag;
                }
                b'!' => {
                    self.held.clear();
                    self.state = State::Bang;
                }
                b'?' => self.state = State::Instruction(false),
                b'>' | b'<' | b'&' | b'=' => self.broken(out),
                _ if is_space(byte) => self.broken(out),
                _ => {
                    self.tag.clear();
                    self.tag.name.push(byte);
                    self.state = State::Name;
                }
            },
            State::Name => match byte {
                b'/' => self.state = State::Slash,
                b'>' => self.start_tag(false, out),
                b'<' => self.broken(out),
                _ if is_space(byte) => self.state = State::Between,
                _ if self.tag.name.len() >= MAX_NAME => self.tag.over = true,
                _ => self.tag.name.push(byte),
            },
            State::Between => match byte {
                b'/' => self.state = State::Slash,
                b'>' => self.start_tag(false, out),
                b'<' | b'=' => self.broken(out),
                _ if is_space(byte) => {}
                _ => {
                    self.tag.attribute.clear();
                    self.tag.attribute.push(byte);
                    self.tag.value.clear();
                    self.tag.value_over = false;
                    self.state = State::AttributeName;
                }
            },
            State::AttributeName => match byte {
                b'=' => self.state = State::BeforeValue,
                b'<' | b'>' => self.broken(out),
                _ if is_space(byte) => self.state = State::BeforeEquals,
                _ if self.tag.attribute.len() >= MAX_NAME => self.tag.value_over = true,
                _ => self.tag.attribute.push(byte),
            },
            State::BeforeEquals => match byte {
                b'=' => self.state = State::BeforeValue,
                _ if is_space(byte) => {}
                _ => self.broken(out),
            },
            State::BeforeValue => match byte {
                b'"' | b'\'' => {
                    self.tag.quote = byte;
                    self.state = State::Value;
                }
                _ if is_space(byte) => {}
                _ => self.broken(out),
            },
            State::Value => match byte {
                b'&' => self.begin_reference(true),
                b'<' => self.value(b"&lt;"),
                _ if byte == self.tag.quote => self.attribute(),
                _ => self.value(REPLACEMENT),
            },
            State::Slash => match byte {
                b'>' => self.start_tag(true, out),
                _ => self.broken(out),
            },
            State::CloseTag => match byte {
                b'>' => self.close_tag(out),
                _ if self.held.len() < MAX_NAME => self.held.push(byte),
                _ => {}
            },
            State::Bang => self.bang(byte),
            State::Comment(dashes) => {
                self.state = match byte {
                    b'>' if dashes >= 2 => self.cut_to_text(),
                    b'-' => State::Comment(dashes.saturating_add(1)),
                    _ => State::Comment(0),
                }
            }
            State::Instruction(question) => {
                self.state = match byte {
                    // The XML declaration is an instruction too, and tells nothing that RFC 6120 leaves open.
                    b'>' if question && self.depth == 0 => State::Text,
                    b'>' if question => self.cut_to_text(),
                    _ => State::Instruction(byte == b'?'),
                }
            }
            State::Declaration(depth) => {
                self.state = match byte {
                    b'>' if depth == 0 => self.cut_to_text(),
                    b'[' => State::Declaration(depth.saturating_add(1)),
                    b']' => State::Declaration(depth.saturating_sub(1)),
                    _ => State::Declaration(depth),
                }
            }
            State::Cdata(brackets) => self.cdata(byte, brackets, out),
            State::Broken => {}
        }
    }

    /// What was just read is cut out.
    fn cut_to_text(&mut self) -> State {
        self.cuts += 1;
        State::Text
    }

    fn begin_reference(&mut self, in_value: bool) {
        self.held.clear();
        self.state = State::Reference(in_value);
    }

    fn reference(&mut self, byte: u8, in_value: bool, out: &mut Vec<u8>) {
        let back = if in_value { State::Value } else { State::Text };
        if byte == b';' {
            self.state = back;
            let mut whole = vec![b'&'];
            if is_allowed_reference(&self.held) {
                whole.extend_from_slice(&self.held);
                whole.push(b';');
            } else {
                // Undeclared, or a character that XML forbids: the parser would end the stream.
                self.cuts += 1;
                whole = REPLACEMENT.to_vec();
            }
            return if in_value { self.value(&whole) } else { self.piece(&whole, out) };
        }
        if self.held.len() < MAX_REFERENCE && (byte.is_ascii_alphanumeric() || byte == b'#') {
            self.held.push(byte);
            return;
        }
        // Not a reference: an ampersand that somebody did not escape.
        self.cuts += 1;
        self.state = back;
        let mut whole = b"&amp;".to_vec();
        whole.append(&mut self.held);
        if in_value {
            self.value(&whole);
        } else {
            self.piece(&whole, out);
        }
        self.feed(&[byte], out);
    }

    fn bang(&mut self, byte: u8) {
        self.held.push(byte);
        self.state = match self.held.as_slice() {
            b"--" => State::Comment(0),
            b"[CDATA[" => State::Cdata(0),
            prefix if b"--".starts_with(prefix) || b"[CDATA[".starts_with(prefix) => State::Bang,
            _ if byte == b'>' => self.cut_to_text(),
            _ => State::Declaration(u8::from(byte == b'[')),
        };
    }

    fn cdata(&mut self, byte: u8, brackets: u8, out: &mut Vec<u8>) {
        match byte {
            b']' if brackets < 2 => self.state = State::Cdata(brackets + 1),
            b']' => self.text(b"]", out),
            b'>' if brackets == 2 => self.state = State::Text,
            _ => {
                for _ in 0..brackets {
                    self.text(b"]", out);
                }
                self.state = State::Cdata(0);
                match byte {
                    b'<' => self.piece(b"&lt;", out),
                    b'>' => self.piece(b"&gt;", out),
                    b'&' => self.piece(b"&amp;", out),
                    _ if is_forbidden(byte) => self.piece(REPLACEMENT, out),
                    _ => self.text(&[byte], out),
                }
            }
        }
    }

    /// Text passes byte by byte until the stanza is full; the character that was begun is finished.
    fn text(&mut self, mut run: &[u8], out: &mut Vec<u8>) {
        if self.dropped > 0 {
            return;
        }
        if self.over && self.finish_character {
            let rest = run.iter().take_while(|&&b| b & 0xc0 == 0x80).count();
            out.extend_from_slice(&run[..rest]);
            run = &run[rest..];
            self.finish_character = run.is_empty();
        }
        if self.over || run.is_empty() {
            return;
        }
        if self.depth < 2 {
            return self.outside(run, out);
        }
        let fits = run.len().min(MAX_STANZA - self.size.min(MAX_STANZA));
        out.extend_from_slice(&run[..fits]);
        self.size += fits;
        if self.size >= MAX_STANZA {
            self.fill();
            self.finish_character = true;
            self.text(&run[fits..], out);
        }
    }

    /// A piece of text that passes whole or not at all.
    fn piece(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.finish_character = false;
        if self.dropped > 0 || self.over {
            return;
        }
        if self.depth < 2 {
            return self.outside(piece, out);
        }
        out.extend_from_slice(piece);
        self.size += piece.len();
        if self.size >= MAX_STANZA {
            self.fill();
        }
    }

    /// Text that belongs to no stanza: only white space may stand there (RFC 6120 section 11.7). What does not even
    /// begin with a tag is another protocol.
    fn outside(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let spaces = text.iter().filter(|&&byte| is_space(byte));
        let other = text.len() > spaces.clone().count();
        if self.depth > 0 {
            out.extend(spaces);
            self.cuts += u64::from(other);
        } else if other {
            self.broken(out);
        }
    }

    fn fill(&mut self) {
        self.over = true;
        self.cuts += 1;
    }

    fn value(&mut self, run: &[u8]) {
        if self.tag.value_over || self.dropped > 0 {
            return;
        }
        if self.tag.value.len() + run.len() > MAX_VALUE {
            self.tag.value_over = true;
            self.tag.value.clear();
        } else {
            self.tag.value.extend_from_slice(run);
        }
    }

    /// An attribute is complete.
    fn attribute(&mut self) {
        self.state = State::Between;
        if self.dropped > 0 {
            return;
        }
        let tag = &mut self.tag;
        let declares = tag.attribute == b"xmlns" || tag.attribute.starts_with(b"xmlns:");
        if self.depth == 0 && !declares && !is_of_header(&tag.attribute) {
            return;
        }
        if tag.value_over {
            self.cuts += 1;
            if !declares || tag.attribute.len() >= MAX_NAME {
                tag.over |= declares;
                return;
            }
            // Something may use the prefix, so it stays declared; two of them must not become one.
            tag.value = format!("urn:cut:{}", self.cuts).into_bytes();
        }
        let start = tag.attributes.len();
        if tag.kept.len() >= MAX_ATTRIBUTES || start + tag.attribute.len() + tag.value.len() > MAX_TAG {
            tag.over = true;
            return;
        }
        tag.attributes.push(b' ');
        tag.attributes.extend_from_slice(&tag.attribute);
        tag.attributes.extend_from_slice(&[b'=', tag.quote]);
        tag.attributes.extend_from_slice(&tag.value);
        tag.attributes.push(tag.quote);
        let prefixed = !declares && tag.attribute.contains(&b':') && !tag.attribute.starts_with(b"xml:");
        tag.kept.push(Kept { start, end: tag.attributes.len(), prefixed });
    }

    /// A start tag is complete: it passes, or it is dropped with all that it holds.
    fn start_tag(&mut self, empty: bool, out: &mut Vec<u8>) {
        self.state = State::Text;
        self.finish_character = false;
        if self.dropped > 0 {
            self.dropped += usize::from(!empty);
            return;
        }
        let stanza = self.depth == 1;
        if stanza {
            self.size = 0;
            self.over = false;
        }
        let nested = self.depth >= 2;
        let nameless = self.tag.name.len() >= MAX_NAME;
        if nested && (self.over || self.tag.over || self.depth >= MAX_DEPTH) || nameless {
            self.cuts += 1;
            self.dropped = usize::from(!empty);
            return;
        }
        let before = out.len();
        out.push(b'<');
        out.extend_from_slice(&self.tag.name);
        if self.tag.over {
            // A stanza is counted by both sides, so it is delivered all the same: bare, without what it holds. An
            // attribute whose declaration may be among the dropped ones would be an error.
            for kept in self.tag.kept.iter().filter(|kept| !kept.prefixed) {
                out.extend_from_slice(&self.tag.attributes[kept.start..kept.end]);
            }
            self.fill();
        } else {
            out.extend_from_slice(&self.tag.attributes);
        }
        if self.depth == 0 {
            // The features that follow, or do not, say what the server really speaks.
            out.extend_from_slice(b" version='1.0'");
        }
        out.extend_from_slice(if empty { b"/>" } else { b">" });
        self.depth += usize::from(!empty);
        if stanza || nested {
            self.size += out.len() - before;
            if self.size >= MAX_STANZA && !self.over {
                self.fill();
            }
        }
        // Bytes between stanzas belong to none.
        self.over &= !(stanza && empty);
    }

    fn close_tag(&mut self, out: &mut Vec<u8>) {
        self.state = State::Text;
        self.finish_character = false;
        if self.dropped > 0 {
            self.dropped -= 1;
            return;
        }
        self.depth = self.depth.saturating_sub(1);
        out.extend_from_slice(b"</");
        out.extend_from_slice(&self.held);
        out.push(b'>');
        if self.depth <= 1 {
            self.over = false;
        }
    }

    fn broken(&mut self, out: &mut Vec<u8>) {
        self.state = State::Broken;
        out.extend_from_slice(b"<<");
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
