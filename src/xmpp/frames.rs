//! Bytes <-> the parts of a stream (RFC 6120 section 4): the header, the elements below it, the end.
//!
//! The framing is our own, on `rxml` and `minidom`: a ready-made stream type fixes the length of a token at 8 KiB and
//! cannot read while a write is pending.

use std::collections::VecDeque;

use minidom::{Element, Node};
use rxml::{Event, Namespace, NcName, Options, Parse, Parser, WithOptions, error::EndOrError};

use super::guard::{Guard, MAX_TOKEN, is_xml_character};

/// The namespace of stanzas.
pub const NS_CLIENT: &str = "jabber:client";
/// The namespace of the stream's own elements.
pub const NS_STREAM: &str = "http://etherx.jabber.org/streams";

/// One part of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// `<stream:stream …>`, without content.
    Header(Element),
    /// A complete element below it.
    Element(Element),
    /// `</stream:stream>`.
    End,
}

/// What came is not an XML stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what came is not well-formed: {0}")]
pub struct NotWellFormed(String);

/// Reads one stream: feed it bytes, take frames. After a stream restart (RFC 6120 section 6.4.6) a new one is needed.
pub struct Frames {
    guard: Guard,
    parser: Parser,
    buffer: Vec<u8>,
    /// The elements that are open below the stream's own.
    open: Vec<Element>,
    header: bool,
    /// Something other than white space came.
    begun: bool,
    ready: VecDeque<Frame>,
}

impl Default for Frames {
    fn default() -> Self {
        let options = Options { max_token_length: MAX_TOKEN, ..Options::default() };
        Self {
            guard: Guard::default(),
            parser: Parser::with_options(options),
            buffer: Vec::new(),
            open: Vec::new(),
            header: false,
            begun: false,
            ready: VecDeque::new(),
        }
    }
}

impl Frames {
    /// Takes the next bytes. At most one read's worth of frames waits in [`Self::pop`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), NotWellFormed> {
        if !self.begun {
            match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
                None => return Ok(()),
                Some(b'<') => self.begun = true,
                Some(_) => return Err(NotWellFormed("it does not begin with a tag".to_owned())),
            }
        }
        self.guard.feed(bytes, &mut self.buffer);
        let mut rest = self.buffer.as_slice();
        let outcome = loop {
            match self.parser.parse(&mut rest, false) {
                Ok(Some(event)) => {
                    if let Some(frame) = take(event, &mut self.open, &mut self.header) {
                        self.ready.push_back(frame);
                    }
                }
                Ok(None) | Err(EndOrError::NeedMoreData) => break Ok(()),
                Err(EndOrError::Error(error)) => break Err(NotWellFormed(error.to_string())),
            }
        };
        let left = rest.len();
        self.buffer.drain(..self.buffer.len() - left);
        self.buffer.shrink_to(8 * 1024);
        outcome
    }

    /// The next frame that is complete.
    pub fn pop(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    /// How often the guard cut something out.
    pub fn cuts(&self) -> u64 {
        self.guard.cuts()
    }
}

fn take(event: Event, open: &mut Vec<Element>, header: &mut bool) -> Option<Frame> {
    match event {
        Event::XmlDeclaration(..) => None,
        Event::StartElement(_, (namespace, name), attributes) => {
            let mut element = Element::bare(name.to_string(), namespace.as_str());
            *element.attrs_mut() = attributes;
            if !*header {
                *header = true;
                return Some(Frame::Header(element));
            }
            open.push(element);
            None
        }
        Event::Text(_, text) => {
            if let Some(element) = open.last_mut() {
                element.append_text(text);
            }
            None
        }
        Event::EndElement(_) => match (open.pop(), open.last_mut()) {
            (Some(element), Some(parent)) => {
                parent.append_child(element);
                None
            }
            (Some(element), None) => Some(Frame::Element(element)),
            (None, _) => Some(Frame::End),
        },
    }
}

/// The stream header that we send (RFC 6120 section 4.7). `from` is left out before TLS, and always where the account
/// is not known.
pub fn write_header(to: &str, from: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='");
    out.extend_from_slice(NS_STREAM.as_bytes());
    out.extend_from_slice(b"' version='1.0' xml:lang='en' to='");
    escape(to, out);
    if let Some(from) = from {
        out.extend_from_slice(b"' from='");
        escape(from, out);
    }
    out.extend_from_slice(b"'>");
}

/// An element of our own, with attributes of no namespace.
pub fn element(name: &str, namespace: &str, attributes: &[(&str, &str)]) -> Element {
    let mut element = Element::bare(name, namespace);
    for (name, value) in attributes {
        if let Ok(name) = NcName::try_from(*name) {
            element.attrs_mut().insert(Namespace::NONE, name, (*value).to_owned());
        }
    }
    element
}

/// Appends an element as it stands inside a stream. Never fails: characters that XML forbids become U+FFFD, so that an
/// element which was counted is always written.
pub fn write_element(element: &Element, out: &mut Vec<u8>) {
    write_below(element, NS_CLIENT, out);
}

fn write_below(element: &Element, default: &str, out: &mut Vec<u8>) {
    let namespace = element.ns();
    out.push(b'<');
    out.extend_from_slice(element.name().as_bytes());
    if namespace != default {
        out.extend_from_slice(b" xmlns='");
        escape(&namespace, out);
        out.push(b'\'');
    }
    for (index, ((attribute_ns, name), value)) in element.attrs().iter().enumerate() {
        out.push(b' ');
        if *attribute_ns == Namespace::XML {
            out.extend_from_slice(b"xml:");
        } else if !attribute_ns.as_str().is_empty() {
            let prefix = format!("a{index}");
            out.extend_from_slice(format!("xmlns:{prefix}='").as_bytes());
            escape(attribute_ns.as_str(), out);
            out.extend_from_slice(format!("' {prefix}:").as_bytes());
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b"='");
        escape(value, out);
        out.push(b'\'');
    }
    if element.nodes().next().is_none() {
        out.extend_from_slice(b"/>");
        return;
    }
    out.push(b'>');
    for node in element.nodes() {
        match node {
            Node::Element(child) => write_below(child, &namespace, out),
            Node::Text(text) => escape(text, out),
        }
    }
    out.extend_from_slice(b"</");
    out.extend_from_slice(element.name().as_bytes());
    out.push(b'>');
}

fn escape(text: &str, out: &mut Vec<u8>) {
    let mut encoded = [0; 4];
    for c in text.chars() {
        out.extend_from_slice(match c {
            '<' => b"&lt;",
            '>' => b"&gt;",
            '&' => b"&amp;",
            '\'' => b"&apos;",
            '"' => b"&quot;",
            // A parser turns a bare CR into LF, and white space of an attribute into blanks.
            '\r' => b"&#xD;",
            '\n' => b"&#xA;",
            '\t' => b"&#x9;",
            c if is_xml_character(c) => c.encode_utf8(&mut encoded).as_bytes(),
            _ => "\u{fffd}".as_bytes(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Frames::default();
        frames.feed(bytes).unwrap();
        std::iter::from_fn(|| frames.pop()).collect()
    }

    #[test]
    fn a_stream_is_read_in_its_parts() {
        let mut bytes = Vec::new();
        write_header("capulet.lit", Some("juliet@capulet.lit"), &mut bytes);
        bytes.extend_from_slice(b"<iq type='get' id='1'><q xmlns='u'>a&amp;<b/>c</q></iq> \n<a/></stream:stream>");
        let all = frames(&bytes);
        let [Frame::Header(header), Frame::Element(iq), Frame::Element(_), Frame::End] = all.as_slice() else {
            panic!("{all:?}")
        };
        assert!(header.is("stream", NS_STREAM));
        assert_eq!((header.attr("to"), header.attr("from")), (Some("capulet.lit"), Some("juliet@capulet.lit")));
        assert!(iq.is("iq", NS_CLIENT));
        assert_eq!(iq.get_child("q", "u").unwrap().text(), "a&c");
    }

    #[test]
    fn what_is_written_is_read_back_and_forbidden_characters_are_replaced_one_for_one() {
        let inner = Element::builder("x", "urn:x").append("t\u{1}\u{fffe}<>&'\"\r\n\u{1F600}").build();
        let mut stanza = Element::builder("message", NS_CLIENT).append(inner).build();
        stanza.set_attr(rxml::Namespace::XML, NcName::try_from("lang").unwrap(), "de");
        stanza.set_attr(rxml::Namespace::from_str("urn:y"), NcName::try_from("z").unwrap(), "a\nb");
        let mut bytes = Vec::new();
        write_header("h", None, &mut bytes);
        write_element(&stanza, &mut bytes);
        let Some(Frame::Element(read)) = frames(&bytes).pop() else { panic!() };
        assert_eq!(read.children().next().unwrap().text(), "t\u{fffd}\u{fffd}<>&'\"\r\n\u{1F600}");
        assert_eq!(read.attr_ns("urn:y", "z"), Some("a\nb"));
        assert_eq!(read.attr_ns(rxml::parser::XMLNS_XML, "lang"), Some("de"));
    }

    #[test]
    fn other_protocols_are_not_well_formed() {
        for banner in ["SSH-2.0-OpenSSH_9\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "* OK IMAP\r\n", "\x15\x03\x01"] {
            assert!(Frames::default().feed(banner.as_bytes()).is_err(), "{banner}");
        }
    }
}
