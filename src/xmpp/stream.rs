//! The task of one stream: its only reader and writer, reading and writing at the same time. It holds no rules: what
//! comes is reported, what is ordered is written; only acknowledgements, keep-alives and time-outs are its own.

use std::{collections::VecDeque, time::Duration};

use minidom::Element;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Timeouts,
    frames::{Frame, Frames, NS_CLIENT, NS_STREAM, element, write_element},
    sign_in::{NS_SM, handled, is_stanza},
    wire::{READ_SIZE, Stop, stream_error},
};
use crate::domain::{
    StreamId,
    stream::{StreamEnd, StreamOrder, StreamReport, StreamUp},
};

/// Bytes that wait to be written; above, no further orders are taken until the server reads.
const HIGH_WATER: usize = 256 * 1024;
/// Commits are told to the server by themselves when this many stanzas were not yet.
const ACK_EVERY: u32 = 20;
/// How long an ending stream may take to write what is left, and then again to hear the server's end.
const CLOSING: Duration = Duration::from_secs(3);

/// Everything about a stream that is up.
pub struct Live<'a> {
    /// Its id, for the keep-alive's own ids.
    pub stream: StreamId,
    /// The stream's domain.
    pub domain: &'a str,
    /// How long things may take.
    pub timeouts: &'a Timeouts,
    /// What it is told.
    pub orders: &'a mut mpsc::Receiver<StreamOrder>,
    /// Whom it tells.
    pub reports: &'a mpsc::Sender<(StreamId, StreamReport)>,
}

/// Why nothing more is read or ordered.
enum Ending {
    /// The stream is over; what was read before is still reported.
    Over(StreamEnd),
    /// We end it: what is left is written until then. With `true` the server's own end is waited for.
    Closing(Instant, bool),
}

/// The counts of XEP-0198.
struct Acks {
    /// Stream management is on.
    managed: bool,
    /// Stanzas received in the session.
    inbound: u32,
    /// Stanzas of it that are committed.
    committed: u32,
    /// The last `h` that we sent.
    told: u32,
    /// The server asked when not everything was committed.
    asked: bool,
    /// Stanzas were written since the last `<r/>`.
    unasked: bool,
}

struct State {
    /// What waits to be written.
    out: Vec<u8>,
    /// What was written but may still be buffered below.
    unflushed: bool,
    /// The last time that something was written, or that there was nothing to write.
    wrote: Instant,
    /// The last time that something came.
    heard: Instant,
    /// A keep-alive was sent at this time and nothing has come since.
    probed: Option<Instant>,
    probes: u64,
    /// Reports that wait for room in the mailbox: those of one read at most. Nothing is read meanwhile.
    ready: VecDeque<StreamReport>,
    acks: Acks,
    ending: Option<Ending>,
}

impl Live<'_> {
    /// Runs until the stream is over. `inbound` is how many stanzas of a resumed session are handled already.
    pub async fn run<IO: AsyncRead + AsyncWrite>(
        mut self,
        io: IO,
        mut frames: Frames,
        up: StreamUp,
        early: Vec<Element>,
        inbound: u32,
        held: Vec<StreamOrder>,
    ) -> StreamEnd {
        let (mut reader, mut writer) = tokio::io::split(io);
        let now = Instant::now();
        let mut state = State {
            out: Vec::new(),
            unflushed: false,
            wrote: now,
            heard: now,
            probed: None,
            probes: 0,
            ready: VecDeque::new(),
            acks: Acks {
                managed: up.management.is_some(),
                inbound,
                committed: inbound,
                told: inbound,
                asked: false,
                unasked: false,
            },
            ending: None,
        };
        state.ready.push_back(StreamReport::Up(Box::new(up)));
        for stanza in early {
            state.element(stanza, self.stream);
        }
        state.frames(&mut frames, self.stream);
        for order in held {
            state.order(order);
        }
        let mut buffer = vec![0; READ_SIZE];
        loop {
            match &state.ending {
                Some(Ending::Over(end)) if state.ready.is_empty() => {
                    let end = end.clone();
                    // A last word, such as our half of the stream's end, if it can be had at once.
                    let _ = timeout(CLOSING, write_rest(&mut writer, &state.out)).await;
                    return end;
                }
                Some(Ending::Closing(_, false)) if !state.writes() => {
                    let _ = timeout(CLOSING, writer.shutdown()).await;
                    return StreamEnd::Closed;
                }
                _ => {}
            }
            let over = matches!(state.ending, Some(Ending::Over(_)));
            let alarm = state.alarm(self.timeouts);
            tokio::select! {
                read = reader.read(&mut buffer), if state.ready.is_empty() && !over => {
                    state.heard = Instant::now();
                    state.probed = None;
                    match read {
                        Ok(0) => state.over("the server closed the connection"),
                        Ok(n) => {
                            if let Err(error) = frames.feed(&buffer[..n]) {
                                state.frames(&mut frames, self.stream);
                                state.over(&error.to_string());
                            }
                            state.frames(&mut frames, self.stream);
                        }
                        Err(error) => state.over(&error.to_string()),
                    }
                }
                written = write_some(&mut writer, &state.out), if state.writes() && !over => match written {
                    Ok(n) => state.written(n),
                    Err(error) => state.over(&error.to_string()),
                },
                permit = self.reports.reserve(), if !state.ready.is_empty() => {
                    let Ok(permit) = permit else { return StreamEnd::Closed };
                    if let Some(report) = state.ready.pop_front() {
                        permit.send((self.stream, report));
                    }
                    if state.ready.is_empty() {
                        // While nothing was read the server could not be heard.
                        state.heard = Instant::now();
                    }
                }
                order = self.orders.recv(), if state.ending.is_none() && state.out.len() < HIGH_WATER => {
                    state.order(order.unwrap_or(StreamOrder::Suspend));
                }
                () = sleep_until(alarm) => {
                    if let Some(end) = state.alarmed(&mut self) {
                        return end;
                    }
                }
            }
        }
    }
}

/// Writes some of it, or flushes where there is nothing to write. Nothing is lost if it is dropped half-way.
async fn write_some<W: AsyncWrite + Unpin>(writer: &mut W, out: &[u8]) -> std::io::Result<usize> {
    if out.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(out).await {
        Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
        written => written,
    }
}

async fn write_rest<W: AsyncWrite + Unpin>(writer: &mut W, out: &[u8]) -> std::io::Result<()> {
    writer.write_all(out).await?;
    writer.flush().await?;
    writer.shutdown().await
}

impl State {
    fn over(&mut self, detail: &str) {
        // Once we are closing, losing the connection is no news.
        let end = match self.ending {
            Some(Ending::Closing(..)) => StreamEnd::Closed,
            _ => StreamEnd::Lost { detail: detail.to_owned() },
        };
        self.end(end);
    }

    fn end(&mut self, end: StreamEnd) {
        if !matches!(self.ending, Some(Ending::Over(_))) {
            self.ending = Some(Ending::Over(end));
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        if !self.writes() {
            self.wrote = Instant::now();
        }
        self.out.extend_from_slice(bytes);
    }

    /// Something waits to be written or flushed.
    fn writes(&self) -> bool {
        !self.out.is_empty() || self.unflushed
    }

    /// `n` bytes were written; none: all was flushed.
    fn written(&mut self, n: usize) {
        self.wrote = Instant::now();
        self.unflushed = n > 0;
        self.out.drain(..n);
        if n > 0 && self.out.is_empty() {
            self.out.shrink_to(READ_SIZE);
            if self.acks.unasked && self.ending.is_none() {
                self.acks.unasked = false;
                self.push(b"<r xmlns='urn:xmpp:sm:3'/>");
            }
        }
    }

    fn frames(&mut self, frames: &mut Frames, stream: StreamId) {
        while let Some(frame) = frames.pop() {
            match frame {
                _ if matches!(self.ending, Some(Ending::Over(_))) => {}
                Frame::Element(element) => self.element(element, stream),
                Frame::Header(_) => {}
                Frame::End => {
                    if self.ending.is_none() {
                        self.push(b"</stream:stream>");
                    }
                    self.over("the server closed the stream");
                }
            }
        }
    }

    fn element(&mut self, element: Element, stream: StreamId) {
        if is_stanza(&element) {
            self.acks.inbound = self.acks.inbound.wrapping_add(1);
            if self.acks.managed || !is_our_pong(&element, stream) {
                self.ready.push_back(StreamReport::Stanza(Box::new(element)));
            }
        } else if element.has_ns(NS_SM) {
            match element.name() {
                "r" => {
                    self.tell();
                    self.acks.asked = self.acks.told != self.acks.inbound;
                }
                "a" => self.ready.extend(handled(&element).map(StreamReport::Acked)),
                _ => {}
            }
        } else if element.is("error", NS_STREAM) {
            self.push(b"</stream:stream>");
            self.end(match stream_error(&element) {
                Stop::End(end) => end,
                Stop::Redirect(place) => {
                    StreamEnd::StreamError { condition: "see-other-host".to_owned(), text: Some(place) }
                }
            });
        }
    }

    fn order(&mut self, order: StreamOrder) {
        match order {
            StreamOrder::Connect(_) => tracing::warn!("a stream cannot be connected twice: order ignored"),
            StreamOrder::Send(stanzas) => {
                for stanza in &stanzas {
                    self.push(b"");
                    write_element(stanza, &mut self.out);
                }
                self.acks.unasked |= self.acks.managed && !stanzas.is_empty();
            }
            StreamOrder::Ack(committed) => {
                // A count never goes back; it wraps around (XEP-0198 section 4).
                if committed.wrapping_sub(self.acks.committed) <= u32::MAX / 2 {
                    self.acks.committed = committed;
                }
                let behind = self.acks.committed.wrapping_sub(self.acks.told);
                if self.acks.managed && (self.acks.asked && behind > 0 || behind >= ACK_EVERY) {
                    self.tell();
                    self.acks.asked = self.acks.told != self.acks.inbound && self.acks.asked;
                }
            }
            StreamOrder::Close => {
                if self.acks.managed {
                    self.tell();
                }
                self.push(b"</stream:stream>");
                self.ending = Some(Ending::Closing(Instant::now() + CLOSING, true));
            }
            StreamOrder::Suspend => {
                if self.acks.managed {
                    self.tell();
                }
                self.ending = Some(Ending::Closing(Instant::now() + CLOSING, false));
            }
        }
    }

    /// `<a/>`: only what is committed.
    fn tell(&mut self) {
        self.acks.told = self.acks.committed;
        let bytes = format!("<a xmlns='{NS_SM}' h='{}'/>", self.acks.committed);
        self.push(bytes.as_bytes());
    }

    /// When something has to be done even if nothing happens.
    fn alarm(&self, timeouts: &Timeouts) -> Instant {
        let far = Instant::now() + Duration::from_hours(1);
        match self.ending {
            Some(Ending::Closing(until, _)) => return until,
            Some(Ending::Over(_)) => return far,
            None => {}
        }
        let write = self.writes().then(|| self.wrote + timeouts.write);
        // A full mailbox is our own silence, not the server's.
        let heard = self.ready.is_empty().then(|| match self.probed {
            Some(at) => at + timeouts.answer,
            None => self.heard + timeouts.keepalive,
        });
        [write, heard].into_iter().flatten().min().unwrap_or(far)
    }

    fn alarmed(&mut self, live: &mut Live<'_>) -> Option<StreamEnd> {
        let now = Instant::now();
        let late = |phase: &str| Some(StreamEnd::TimedOut { phase: phase.to_owned() });
        match self.ending {
            Some(Ending::Closing(until, _)) if now >= until => return Some(StreamEnd::Closed),
            Some(_) => return None,
            None => {}
        }
        if self.writes() && now >= self.wrote + live.timeouts.write {
            return late("taking what we send");
        }
        if !self.ready.is_empty() {
            return None;
        }
        match self.probed {
            Some(at) if now >= at + live.timeouts.answer => return late("a sign of life"),
            None if now >= self.heard + live.timeouts.keepalive => {
                self.probed = Some(now);
                if self.acks.managed {
                    self.push(b"<r xmlns='urn:xmpp:sm:3'/>");
                } else {
                    let id = format!("{}{}", ping_prefix(live.stream), self.probes);
                    let mut ping = element("iq", NS_CLIENT, &[("type", "get"), ("id", &id), ("to", live.domain)]);
                    ping.append_child(element("ping", "urn:xmpp:ping", &[]));
                    self.probes += 1;
                    self.push(b"");
                    write_element(&ping, &mut self.out);
                }
            }
            _ => {}
        }
        None
    }
}

/// Ids of our own keep-alive pings (XEP-0199), which nobody else needs to see answered.
fn ping_prefix(stream: StreamId) -> String {
    format!("keepalive-{stream}-")
}

fn is_our_pong(element: &Element, stream: StreamId) -> bool {
    element.name() == "iq"
        && matches!(element.attr("type"), Some("result" | "error"))
        && element.attr("id").is_some_and(|id| id.starts_with(&ping_prefix(stream)))
}
