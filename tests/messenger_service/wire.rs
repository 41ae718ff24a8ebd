//! Bytes to stanzas and back, bounded.
use std::fmt::Write as _;

use rxml::error::EndOrError;
use rxml::{Event, Parse as _, Parser};

use super::settings::HARD_STANZA_LIMIT;

/// `jabber:client`
pub const CLIENT: &str = "jabber:client";
/// The stream's own namespace.
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// Conditions of stream errors.
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Conditions of stanza errors.
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// SASL.
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// STARTTLS.
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";

/// Deepest nesting of a stanza.
const MAX_DEPTH: usize = 32;
/// Longest token that the parser takes, in bytes.
const MAX_TOKEN: usize = 8192;
/// Largest stream header, in bytes.
const MAX_HEADER: usize = 4096;

/// An element: its text is that of all its text nodes, joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Namespace.
    pub ns: String,
    /// Local name.
    pub name: String,
    /// Attributes without a namespace.
    pub attrs: Vec<(String, String)>,
    /// Child elements.
    pub children: Vec<Node>,
    /// Character data.
    pub text: String,
}

impl Node {
    /// The attribute's value.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attrs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first child of that name and namespace.
    pub fn child(&self, name: &str, ns: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.is(name, ns))
    }

    /// Whether it is that element.
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns == ns
    }
}

/// What a stream consists of.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// `<stream:stream …>`
    Header(Node),
    /// A child of it.
    Stanza(Node),
    /// `</stream:stream>`
    Footer,
}

/// Why a stream cannot be read on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A stanza is larger than allowed.
    #[error("a stanza is too large")]
    TooLarge,
    /// Not XML as XMPP wants it, or nested too deeply.
    #[error("not well-formed")]
    Malformed,
}

/// Cuts one stream into frames. A restarted stream needs a new one, made by [`Framer::restarted`].
pub struct Framer {
    parser: Parser,
    buffer: Vec<u8>,
    read: usize,
    open: Vec<Node>,
    size: usize,
}

impl Default for Framer {
    fn default() -> Self {
        Self::with(Vec::new())
    }
}

impl Framer {
    fn with(buffer: Vec<u8>) -> Self {
        Self { parser: Parser::new(), buffer, read: 0, open: Vec::new(), size: 0 }
    }

    /// For the next stream on the same connection: bytes not yet read belong to it.
    #[must_use]
    pub fn restarted(self) -> Self {
        Self::with(self.buffer.get(self.read..).unwrap_or_default().to_vec())
    }

    /// Bytes from the socket.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a stream restart would begin with bytes that were sent too early.
    pub fn has_rest(&self) -> bool {
        self.read < self.buffer.len()
    }

    /// The next frame, or none until more bytes come. A stanza that reaches `limit` bytes is an error.
    pub fn next(&mut self, limit: usize) -> Result<Option<Frame>, FrameError> {
        loop {
            let mut rest = self.buffer.get(self.read..).unwrap_or_default();
            let before = rest.len();
            let parsed = self.parser.parse(&mut rest, false);
            let consumed = before - rest.len();
            self.read += consumed;
            self.size += consumed;
            let limit = if self.open.is_empty() { MAX_HEADER } else { limit.min(HARD_STANZA_LIMIT) };
            let over = self.size > limit;
            let event = match parsed {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(Some(Frame::Footer)),
                Err(EndOrError::NeedMoreData) => {
                    // Between stanzas there may be white space without end, of which the parser holds back one token.
                    let over = if self.open.len() == 1 { self.size > limit + 2 * MAX_TOKEN } else { over };
                    return if over { Err(FrameError::TooLarge) } else { Ok(None) };
                }
                Err(_) => return Err(FrameError::Malformed),
            };
            match event {
                Event::XmlDeclaration(..) => {}
                Event::StartElement(_, (ns, name), attrs) => {
                    if over {
                        return Err(FrameError::TooLarge);
                    }
                    if self.open.len() > MAX_DEPTH {
                        return Err(FrameError::Malformed);
                    }
                    let node = Node {
                        ns: ns.as_str().to_owned(),
                        name: name.as_str().to_owned(),
                        attrs: attrs
                            .iter()
                            .filter(|((ns, _), _)| ns.as_str().is_empty())
                            .map(|((_, name), value)| (name.as_str().to_owned(), value.clone()))
                            .collect(),
                        ..Node::default()
                    };
                    self.open.push(node.clone());
                    if self.open.len() == 1 {
                        self.size = 0;
                        return Ok(Some(Frame::Header(node)));
                    }
                }
                Event::Text(_, text) => match self.open.len() {
                    0 | 1 => self.size = 0,
                    _ if over => return Err(FrameError::TooLarge),
                    _ => {
                        if let Some(top) = self.open.last_mut() {
                            top.text.push_str(&text);
                        }
                    }
                },
                Event::EndElement(_) => {
                    if over {
                        return Err(FrameError::TooLarge);
                    }
                    let Some(done) = self.open.pop() else { return Err(FrameError::Malformed) };
                    match self.open.len() {
                        0 => return Ok(Some(Frame::Footer)),
                        1 => {
                            self.size = 0;
                            return Ok(Some(Frame::Stanza(done)));
                        }
                        _ => {
                            if let Some(top) = self.open.last_mut() {
                                top.children.push(done);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Text as character data or as an attribute's value. What XML 1.0 forbids becomes U+FFFD.
pub fn esc(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(c),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}

/// ` name='value'`, or nothing without a value.
pub fn attr(name: &str, value: Option<&str>) -> String {
    value.map_or_else(String::new, |value| format!(" {name}='{}'", esc(value)))
}

/// `<name>text</name>`, or nothing when there is no text.
pub fn element(name: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<{name}>{}</{name}>", esc(text)) }
}

/// An error in answer to a stanza (RFC 6120 8.3). `kind` is `cancel`, `auth`, `modify` or `wait`.
pub fn error_reply(stanza: &Node, from: Option<&str>, to: &str, kind: &str, condition: &str) -> String {
    let mut out = format!("<{} type='error'{}", stanza.name, attr("id", stanza.attr("id")));
    // Writing to a String does not fail.
    let _ = write!(
        out,
        "{} to='{}'><error type='{kind}'><{condition} xmlns='{STANZA_ERRORS}'/></error></{}>",
        attr("from", from),
        esc(to),
        stanza.name
    );
    out
}

/// A stream error and the stream's end (RFC 6120 4.9). `inside` is the condition's own text.
pub fn stream_error(condition: &str, inside: &str, text: &str) -> String {
    let text = if text.is_empty() {
        String::new()
    } else {
        format!("<text xmlns='{STREAM_ERRORS}' xml:lang='en'>{}</text>", esc(text))
    };
    format!(
        "<stream:error><{condition} xmlns='{STREAM_ERRORS}'>{}</{condition}>{text}</stream:error></stream:stream>",
        esc(inside)
    )
}

/// The localpart and domain without the resource, in lower case: the addresses of this service are ASCII.
pub fn bare(jid: &str) -> String {
    jid.split('/').next().unwrap_or_default().to_ascii_lowercase()
}

/// The resource.
pub fn resource(jid: &str) -> Option<&str> {
    jid.split_once('/').map(|(_, resource)| resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
        xmlns:stream='http://etherx.jabber.org/streams' to='messenger.live.com' version='1.0'>";

    fn opened() -> Framer {
        let mut framer = Framer::default();
        framer.push(HEADER.as_bytes());
        assert!(matches!(framer.next(100), Ok(Some(Frame::Header(_)))));
        framer
    }

    #[test]
    fn a_stanza_in_pieces_is_one_frame() {
        let mut framer = opened();
        for byte in b" <message to='a'><body>x &amp; <![CDATA[y]]></body></message>" {
            assert_eq!(framer.next(100), Ok(None));
            framer.push(&[*byte]);
        }
        let Ok(Some(Frame::Stanza(stanza))) = framer.next(100) else { panic!("no stanza") };
        assert_eq!(stanza.attr("to"), Some("a"));
        assert_eq!(stanza.child("body", CLIENT).unwrap().text, "x & y");
        framer.push(b"</stream:stream>");
        assert_eq!(framer.next(100), Ok(Some(Frame::Footer)));
    }

    #[test]
    fn a_stanza_over_the_limit_is_an_error_before_it_is_complete() {
        let mut framer = opened();
        framer.push(b"<message><body>");
        assert_eq!(framer.next(64), Ok(None));
        framer.push(&[b'x'; 60]);
        assert_eq!(framer.next(64), Err(FrameError::TooLarge));
    }

    #[test]
    fn white_space_between_stanzas_has_no_limit() {
        let mut framer = opened();
        for _ in 0..200 {
            framer.push(b"  ");
            assert_eq!(framer.next(64), Ok(None));
        }
        framer.push(b"<presence/>");
        assert!(matches!(framer.next(64), Ok(Some(Frame::Stanza(_)))));
    }

    #[test]
    fn nesting_has_a_limit() {
        let mut framer = opened();
        framer.push("<a>".repeat(MAX_DEPTH + 2).as_bytes());
        assert_eq!(framer.next(10_000), Err(FrameError::Malformed));
    }

    #[test]
    fn what_xml_forbids_is_replaced() {
        assert_eq!(esc("a<b>\u{1}\r'\""), "a&lt;b&gt;\u{fffd}&#13;&apos;&quot;");
    }
}
