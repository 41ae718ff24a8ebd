//! A stream while it is being set up: one side speaks, the other answers, every answer in time.

use std::{io, time::Duration};

use futures::{SinkExt, StreamExt};
use minidom::Element;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};
use tokio_xmpp::xmlstream::{ReadError, StreamHeader, Timeouts, XmlStream, initiate_stream};

use super::{
    element::{NS_CLIENT, NS_STREAM, Outgoing},
    transport::Transport,
};
use crate::domain::stream::StreamEnd;

/// The namespace of stream error conditions (RFC 6120 section 4.9.2).
const NS_STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Longest text of the other side that is passed on.
const MAX_TEXT: usize = 500;
/// Long enough to be never.
const FAR: Duration = Duration::from_hours(365 * 24);
const CLOSED: &str = "the server closed the connection";

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

/// A stream of the library, over our transport.
pub type Stream<IO> = XmlStream<Transport<IO>, Element>;

/// One connection and the stream on it.
pub struct Wire<IO> {
    /// On the heap: it is large, and handed on many times until a session is up.
    stream: Box<Stream<IO>>,
    /// The domain, for the header and for the words of an error.
    host: String,
    /// Each answer gets this long…
    step: Duration,
    /// …but all together no longer than this.
    deadline: Instant,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    /// Opens a stream to `host` and gives its features (RFC 6120 sections 4.2, 4.3). `from` is left out before TLS, and
    /// always where the account is not known. `step`: how long one answer may take; `deadline`: when the whole must be
    /// done.
    pub async fn open(
        io: IO,
        host: &str,
        from: Option<&str>,
        step: Duration,
        deadline: Instant,
    ) -> Result<(Self, Element), Stop> {
        Self::begin(io, host, from, step, deadline, false).await
    }

    /// Opens the stream anew on the same connection; whatever was read of the old one is dropped.
    pub async fn reopen(self, from: Option<&str>) -> Result<(Self, Element), Stop> {
        let Self { stream, host, step, deadline } = self;
        Self::begin(stream.into_inner().into_io(), &host, from, step, deadline, true).await
    }

    async fn begin(
        io: IO,
        host: &str,
        from: Option<&str>,
        step: Duration,
        deadline: Instant,
        known: bool,
    ) -> Result<(Self, Element), Stop> {
        let not_xmpp = || StreamEnd::NotXmpp { host: host.to_owned() };
        let header = StreamHeader { to: Some(host.into()), from: from.map(Into::into), id: None };
        // Only our own rules tell when a stream is dead.
        let never = Timeouts { read_timeout: FAR, response_timeout: FAR };
        let phase = "the stream's header";
        let opening = Box::pin(initiate_stream(Transport::new(io), NS_CLIENT, header, never));
        let opened = timeout_at(deadline.min(Instant::now() + step), opening).await.map_err(|_| timed_out(phase))?;
        let opened = opened.map_err(|error| match malformed(&error) {
            Malformed::Xml if known => closed(&io_words(&error)),
            Malformed::Xml | Malformed::Header => not_xmpp().into(),
            Malformed::No => closed(&io_words(&error)),
        })?;
        // They are read as an element like any other: the library's own type knows neither all mechanisms nor all
        // features that we use.
        let mut wire = Self { stream: Box::new(opened.skip_features()), host: host.to_owned(), step, deadline };
        let features = wire.element("the stream's features").await?;
        if features.is("features", NS_STREAM) { Ok((wire, features)) } else { Err(not_xmpp().into()) }
    }

    /// Ends the setting up: the stream goes on.
    pub fn into_stream(self) -> Box<Stream<IO>> {
        self.stream
    }

    /// Gives the bare connection back; whatever was read beyond the last element is dropped, so that nothing sent
    /// before TLS counts after it (RFC 6120 section 5.4.3.3).
    pub fn into_io(self) -> IO {
        self.stream.into_inner().into_io()
    }

    /// The connection.
    pub fn io(&self) -> &IO {
        self.stream.get_stream().io()
    }

    /// Sends an element.
    pub async fn send(&mut self, element: &Element, phase: &str) -> Result<(), Stop> {
        let outgoing = Outgoing(element);
        let until = self.deadline.min(Instant::now() + self.step);
        let sent = timeout_at(until, self.stream.send(&outgoing)).await.map_err(|_| timed_out(phase))?;
        sent.map_err(|error| closed(&io_words(&error)))
    }

    /// The next element; stream errors and the end of the stream stop.
    pub async fn element(&mut self, phase: &str) -> Result<Element, Stop> {
        let until = self.deadline.min(Instant::now() + self.step);
        loop {
            let next = timeout_at(until, self.stream.next()).await.map_err(|_| timed_out(phase))?;
            match next {
                Some(Ok(element)) if element.is("error", NS_STREAM) => return Err(stream_error(&element)),
                Some(Ok(element)) => return Ok(element),
                Some(Err(error)) => {
                    if let Some(detail) = read_words(&error, self.stream.get_stream()) {
                        return Err(closed(&detail));
                    }
                }
                None => return Err(closed(CLOSED)),
            }
        }
    }
}

/// What is wrong with what came, if that is what is wrong.
enum Malformed {
    Xml,
    Header,
    No,
}

fn malformed(error: &io::Error) -> Malformed {
    match error.get_ref() {
        Some(inner) if inner.is::<rxml::Error>() => Malformed::Xml,
        // Of TLS too there are invalid data.
        Some(inner) if inner.is::<rustls::Error>() => Malformed::No,
        _ if error.kind() == io::ErrorKind::InvalidData => Malformed::Header,
        _ => Malformed::No,
    }
}

/// Why a stream cannot be read on, in words for a person; nothing if it can.
pub fn read_words<IO: AsyncWrite>(error: &ReadError, transport: &Transport<IO>) -> Option<String> {
    match error {
        ReadError::HardError(error) => Some(io_words(transport.failure().unwrap_or(error))),
        ReadError::StreamFooterReceived => Some("the server closed the stream".to_owned()),
        // An element takes whatever is well-formed, and silence is not the library's to judge.
        ReadError::ParseError(_) | ReadError::SoftTimeout => None,
    }
}

/// A failed read or write in words for a person. That TLS was not ended in style is nobody's concern here: what counts
/// is confirmed by the protocol above.
pub fn io_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => CLOSED.to_owned(),
        _ if matches!(malformed(error), Malformed::Xml) => format!("what came is not well-formed: {error}"),
        _ => error.to_string(),
    }
}

fn timed_out(phase: &str) -> Stop {
    StreamEnd::TimedOut { phase: phase.to_owned() }.into()
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
