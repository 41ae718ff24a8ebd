//! A stream while it is being set up: one side speaks, the other answers, every answer in time.

use std::time::Duration;

use minidom::Element;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};

use super::frames::{Frame, Frames, NS_STREAM, write_element, write_header};
use crate::domain::stream::StreamEnd;

/// The namespace of stream error conditions (RFC 6120 section 4.9.2).
const NS_STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Longest text of the other side that is passed on.
const MAX_TEXT: usize = 500;
/// Bytes that are read at once.
pub const READ_SIZE: usize = 8 * 1024;

/// Why the setting up stops.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// For good.
    End(StreamEnd),
    /// It goes on at this host, as the server wrote it (RFC 6120 section 4.9.3.19).
    Redirect(String),
}

impl From<StreamEnd> for Stop {
    fn from(end: StreamEnd) -> Self {
        Self::End(end)
    }
}

/// Reads `<stream:error/>` (RFC 6120 section 4.9), leniently.
pub fn stream_error(error: &Element) -> Stop {
    let condition = error.children().find(|child| child.name() != "text");
    let name = condition.map_or("undefined-condition", Element::name);
    if let Some(place) = condition.filter(|condition| condition.name() == "see-other-host") {
        return Stop::Redirect(bounded(place.text().trim()));
    }
    let text = error.get_child("text", NS_STREAM_ERRORS).map(|text| bounded(text.text().trim()));
    Stop::End(StreamEnd::StreamError { condition: bounded(name), text: text.filter(|text| !text.is_empty()) })
}

/// Text of the other side, short and on one line.
pub fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

/// One connection and its frames.
pub struct Wire<IO> {
    io: IO,
    frames: Frames,
    /// The domain, for the words of an error.
    host: String,
    /// Each answer gets this long…
    step: Duration,
    /// …but all together no longer than this.
    deadline: Instant,
    heard: bool,
    buffer: Vec<u8>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    /// `step`: how long one answer may take; `deadline`: when the whole must be done.
    pub fn new(io: IO, host: &str, step: Duration, deadline: Instant) -> Self {
        Self {
            io,
            frames: Frames::default(),
            host: host.to_owned(),
            step,
            deadline,
            heard: false,
            buffer: vec![0; READ_SIZE],
        }
    }

    /// Ends the setting up: the connection, and what was read of the stream. What is buffered but not yet framed goes
    /// with it.
    pub fn into_parts(self) -> (IO, Frames) {
        (self.io, self.frames)
    }

    /// Gives the bare connection back; whatever was read beyond the last frame is dropped, so that nothing sent before
    /// TLS counts after it (RFC 6120 section 5.4.3.3).
    pub fn into_io(self) -> IO {
        self.io
    }

    /// The connection.
    pub fn io(&self) -> &IO {
        &self.io
    }

    /// Opens the stream, or opens it anew, and gives the features (RFC 6120 sections 4.2, 4.3).
    pub async fn open(&mut self, to: &str, from: Option<&str>) -> Result<Element, Stop> {
        self.frames = Frames::default();
        let mut bytes = Vec::new();
        write_header(to, from, &mut bytes);
        self.write(&bytes, "opening the stream").await?;
        match self.next("the stream's header").await? {
            Frame::Header(header) if header.is("stream", NS_STREAM) => {}
            _ => return Err(StreamEnd::NotXmpp { host: self.host.clone() }.into()),
        }
        let features = self.element("the stream's features").await?;
        if features.is("features", NS_STREAM) {
            Ok(features)
        } else {
            Err(StreamEnd::NotXmpp { host: self.host.clone() }.into())
        }
    }

    /// Sends an element.
    pub async fn send(&mut self, element: &Element, phase: &str) -> Result<(), Stop> {
        let mut bytes = Vec::new();
        write_element(element, &mut bytes);
        self.write(&bytes, phase).await
    }

    /// The next element; stream errors and the end of the stream stop.
    pub async fn element(&mut self, phase: &str) -> Result<Element, Stop> {
        match self.next(phase).await? {
            Frame::Element(element) if element.is("error", NS_STREAM) => Err(stream_error(&element)),
            Frame::Element(element) => Ok(element),
            Frame::Header(_) | Frame::End => Err(closed("the server closed the stream")),
        }
    }

    async fn write(&mut self, bytes: &[u8], phase: &str) -> Result<(), Stop> {
        let io = &mut self.io;
        let written = async {
            io.write_all(bytes).await?;
            io.flush().await
        };
        match timeout_at(self.deadline.min(Instant::now() + self.step), written).await {
            Ok(written) => written.map_err(|error| closed(&error.to_string())),
            Err(_) => Err(StreamEnd::TimedOut { phase: phase.to_owned() }.into()),
        }
    }

    async fn next(&mut self, phase: &str) -> Result<Frame, Stop> {
        let until = self.deadline.min(Instant::now() + self.step);
        loop {
            if let Some(frame) = self.frames.pop() {
                self.heard = true;
                return Ok(frame);
            }
            let read = timeout_at(until, self.io.read(&mut self.buffer)).await;
            let read = read.map_err(|_| StreamEnd::TimedOut { phase: phase.to_owned() })?;
            match read {
                Ok(0) => return Err(closed("the server closed the connection")),
                Ok(n) => self.frames.feed(&self.buffer[..n]).map_err(|error| {
                    if self.heard {
                        closed(&error.to_string())
                    } else {
                        StreamEnd::NotXmpp { host: self.host.clone() }.into()
                    }
                })?,
                Err(error) => return Err(closed(&error.to_string())),
            }
        }
    }
}

fn closed(detail: &str) -> Stop {
    StreamEnd::Lost { detail: detail.to_owned() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(inner: &str) -> Stop {
        stream_error(&format!("<error xmlns='{NS_STREAM}'>{inner}</error>").parse().unwrap())
    }

    #[test]
    fn stream_errors_are_read_leniently() {
        let end = |condition: &str, text: Option<&str>| {
            Stop::End(StreamEnd::StreamError { condition: condition.to_owned(), text: text.map(str::to_owned) })
        };
        let ns = NS_STREAM_ERRORS;
        assert_eq!(error(&format!("<conflict xmlns='{ns}'/>")), end("conflict", None));
        assert_eq!(error(&format!("<text xmlns='{ns}'> be\nlow </text><x xmlns='{ns}'/>")), end("x", Some("below")));
        assert_eq!(error(""), end("undefined-condition", None));
        let other = error(&format!("<see-other-host xmlns='{ns}'> A.example:1 </see-other-host>"));
        assert_eq!(other, Stop::Redirect("A.example:1".to_owned()));
    }
}
