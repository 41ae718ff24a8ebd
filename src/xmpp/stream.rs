//! The task of one stream: its only reader and writer, reading and writing at the same time. It holds no rules: what
//! comes is reported, what is ordered is written; only acknowledgements, keep-alives and time-outs are its own.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Sink, StreamExt};
use minidom::Element;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_xmpp::xmlstream::ReadError;

use super::{
    Timeouts,
    acks::Acks,
    element::{NS_CLIENT, NS_STREAM, Outgoing, element},
    sign_in::{NS_CSI, NS_SM, handled, is_stanza},
    transport::{Parting, Transport},
    wire::{Stop, Stream, io_words, read_words, stream_error},
};
use crate::domain::{
    StreamId,
    stream::{StreamEnd, StreamOrder, StreamReport, StreamUp},
};

/// Elements that wait to be written; above, no further orders are taken until the server reads.
const HIGH_WATER: usize = 64;
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

/// Our half of the stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Open,
    /// `</stream:stream>` follows what waits to be written. After it there is nothing to say.
    Ending,
    Ended,
}

/// What a stream could do.
enum Moved {
    Read(Option<Result<Element, ReadError>>),
    Wrote(io::Result<()>),
}

struct State {
    /// What waits to be written.
    out: VecDeque<Element>,
    half: Half,
    /// What was written may still be buffered below.
    unflushed: bool,
    /// All that may go is written; the rest waits until the server has confirmed more.
    held: bool,
    /// Nothing can be written any more; what came before is still read.
    broken: Option<io::Error>,
    /// The last time that something was written, or that there was nothing to write.
    wrote: Instant,
    /// The last time that something came.
    heard: Instant,
    /// A keep-alive was sent at this time and nothing has come since.
    probed: Option<Instant>,
    probes: u64,
    /// Reports that wait for room in the mailbox: those of one element, and of the setting up. Nothing is read meanwhile.
    ready: VecDeque<StreamReport>,
    acks: Acks,
    ending: Option<Ending>,
}

impl Live<'_> {
    /// Runs until the stream is over. `inbound` is how many stanzas of a resumed session are handled already.
    pub async fn run<IO: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        mut stream: Box<Stream<IO>>,
        up: StreamUp,
        early: Vec<Element>,
        inbound: u32,
        held: Vec<StreamOrder>,
    ) -> StreamEnd {
        let now = Instant::now();
        let mut state = State {
            out: VecDeque::new(),
            half: Half::Open,
            unflushed: false,
            held: false,
            broken: None,
            wrote: now,
            heard: now,
            probed: None,
            probes: 0,
            ready: VecDeque::new(),
            acks: Acks::new(up.management.is_some(), inbound, up.resumed.unwrap_or(0)),
            ending: None,
        };
        if up.resumed.is_some() {
            // Whether it hears us on the new connection.
            state.push(element("r", NS_SM, &[]));
        }
        state.ready.push_back(StreamReport::Up(Box::new(up)));
        for stanza in early {
            state.element(stanza, self.stream);
        }
        for order in held {
            state.order(order);
        }
        loop {
            state.note(stream.get_stream());
            match &state.ending {
                Some(Ending::Over(end)) if state.ready.is_empty() => {
                    let end = end.clone();
                    // A last word, such as our half of the stream's end, if it can be had at once.
                    let _ = timeout(CLOSING, state.part(&mut stream)).await;
                    return end;
                }
                Some(Ending::Closing(_, false)) if !state.writes() => {
                    let _ = timeout(CLOSING, state.part(&mut stream)).await;
                    return StreamEnd::Closed;
                }
                _ => {}
            }
            let over = matches!(state.ending, Some(Ending::Over(_)));
            let (reads, writes) = (state.ready.is_empty() && !over, state.writes() && !over);
            let (alarm, began) = (state.alarm(self.timeouts), Instant::now());
            tokio::select! {
                moved = poll_fn(|cx| state.poll_move(&mut stream, reads, writes, cx)), if reads || writes => {
                    match moved {
                        Moved::Read(Some(Ok(element))) => state.element(element, self.stream),
                        Moved::Read(Some(Err(error))) => state.failed(&error, stream.get_stream()),
                        Moved::Read(None) => state.over("the server closed the connection"),
                        Moved::Wrote(Ok(())) => {}
                        Moved::Wrote(Err(error)) => state.over(&io_words(&error)),
                    }
                }
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
                    state.note(stream.get_stream());
                    if let Some(end) = state.alarmed(&mut self) {
                        return end;
                    }
                }
            }
            if !reads {
                state.acks.unheard(began.elapsed());
            }
        }
    }
}

impl State {
    /// Reads an element or writes what waits, whichever goes: neither waits for the other. What was read comes first, so
    /// that a server's last words are heard although it takes none of ours any more.
    fn poll_move<IO: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut Stream<IO>,
        reads: bool,
        writes: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Moved> {
        let mut wrote = Poll::Pending;
        if writes && self.broken.is_none() {
            match self.poll_write(stream, cx) {
                Poll::Ready(Err(error)) => self.broken = Some(error),
                other => wrote = other,
            }
        }
        if !reads {
            return wrote.map(Moved::Wrote);
        }
        if let Poll::Ready(read) = stream.poll_next_unpin(cx) {
            return Poll::Ready(Moved::Read(read));
        }
        match self.broken.take() {
            Some(error) => Poll::Ready(Moved::Wrote(Err(error))),
            None => wrote.map(Moved::Wrote),
        }
    }

    /// Writes and flushes all that waits and that may go before the server has confirmed more.
    fn poll_write<IO: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut Stream<IO>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(stream);
        if std::mem::take(&mut self.held) {
            // Until now nothing was there that the server could have taken.
            self.wrote = Instant::now();
        }
        while !self.out.is_empty() {
            ready!(Sink::<&Outgoing<'_>>::poll_ready(stream.as_mut(), cx))?;
            let place = stream.get_stream().sent();
            if self.acks.full(place) && self.out.front().is_some_and(is_stanza) {
                if !self.acks.ask() {
                    ready!(Sink::<&Outgoing<'_>>::poll_flush(stream, cx))?;
                    (self.unflushed, self.held) = (false, true);
                    return Poll::Pending;
                }
                self.out.push_front(element("r", NS_SM, &[]));
            }
            if let Some(element) = self.out.pop_front() {
                if is_stanza(&element) {
                    self.acks.write(place);
                } else if element.is("r", NS_SM) {
                    self.acks.asks();
                }
                stream.as_mut().start_send(&Outgoing(&element))?;
                self.unflushed = true;
            }
            if self.out.is_empty() && self.ending.is_none() && self.acks.ask() {
                self.out.push_back(element("r", NS_SM, &[]));
            }
        }
        if self.half == Half::Ending {
            ready!(stream.poll_shutdown(cx))?;
            self.half = Half::Ended;
        } else if self.half == Half::Open {
            ready!(Sink::<&Outgoing<'_>>::poll_flush(stream, cx))?;
        }
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Writes what is left and lets the connection go, with `</stream:stream>` only if our half was to end.
    async fn part<IO: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut Stream<IO>) -> io::Result<()> {
        let cuts = stream.get_stream().cuts();
        if cuts > 0 {
            tracing::debug!(cuts, "what was over a bound was cut out of the stream");
        }
        poll_fn(|cx| self.poll_write(stream, cx)).await?;
        let suspended = self.half == Half::Open;
        stream.get_stream().part(if suspended { Parting::Suspend } else { Parting::End });
        stream.shutdown().await
    }

    /// Takes over when something last came and went.
    fn note<IO: AsyncWrite>(&mut self, transport: &Transport<IO>) {
        self.wrote = self.wrote.max(transport.wrote());
        self.heard = self.heard.max(transport.heard());
        self.probed = self.probed.filter(|at| transport.heard() <= *at);
    }

    fn failed<IO: AsyncWrite>(&mut self, error: &ReadError, transport: &Transport<IO>) {
        let Some(detail) = read_words(error, transport) else { return };
        if matches!(error, ReadError::StreamFooterReceived) {
            self.end_half();
        }
        self.over(&detail);
    }

    fn end_half(&mut self) {
        if self.half == Half::Open {
            self.due();
            self.half = Half::Ending;
        }
    }

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

    fn push(&mut self, element: Element) {
        if self.half == Half::Open {
            self.due();
            self.out.push_back(element);
        }
    }

    /// Something is about to wait to be written: the time for it begins, unless it runs already.
    fn due(&mut self) {
        if !self.writes() {
            self.wrote = Instant::now();
        }
    }

    /// Something waits to be written or flushed.
    fn writes(&self) -> bool {
        !self.out.is_empty() || self.unflushed || self.half == Half::Ending
    }

    fn element(&mut self, element: Element, stream: StreamId) {
        if is_stanza(&element) {
            self.acks.came();
            if self.acks.managed() || !is_our_pong(&element, stream) {
                self.ready.push_back(StreamReport::Stanza(Box::new(element)));
            }
        } else if element.has_ns(NS_SM) {
            match element.name() {
                "r" => {
                    self.tell();
                    self.acks.was_asked();
                }
                "a" => {
                    if let Some(h) = handled(&element) {
                        self.acks.confirm(h);
                        self.ready.push_back(StreamReport::Acked(h));
                    }
                }
                _ => {}
            }
        } else if element.is("error", NS_STREAM) {
            self.end_half();
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
                for stanza in stanzas {
                    self.push(stanza);
                }
            }
            StreamOrder::Ack(committed) => {
                if self.acks.commit(committed) {
                    self.tell();
                    self.acks.told_after_commit();
                }
            }
            StreamOrder::Activity { active } => {
                self.push(element(if active { "active" } else { "inactive" }, NS_CSI, &[]));
            }
            StreamOrder::Close => {
                if self.acks.managed() {
                    self.tell();
                }
                self.end_half();
                self.ending = Some(Ending::Closing(Instant::now() + CLOSING, true));
            }
            StreamOrder::Suspend => {
                if self.acks.managed() {
                    self.tell();
                }
                self.ending = Some(Ending::Closing(Instant::now() + CLOSING, false));
            }
        }
    }

    /// `<a/>`: only what is committed.
    fn tell(&mut self) {
        let handled = self.acks.tell();
        self.push(element("a", NS_SM, &[("h", &handled.to_string())]));
    }

    /// When something has to be done even if nothing happens.
    fn alarm(&self, timeouts: &Timeouts) -> Instant {
        let far = Instant::now() + Duration::from_hours(1);
        match self.ending {
            Some(Ending::Closing(until, _)) => return until,
            Some(Ending::Over(_)) => return far,
            None => {}
        }
        let write = (self.writes() && !self.held).then(|| self.wrote + timeouts.write);
        // A full mailbox is our own silence, not the server's.
        let heard = self.ready.is_empty().then(|| match self.probed {
            Some(at) => at + timeouts.answer,
            None => self.heard + timeouts.keepalive,
        });
        let confirmed = self.acks.waits().filter(|_| self.ready.is_empty()).map(|at| at + timeouts.write);
        [write, heard, confirmed].into_iter().flatten().min().unwrap_or(far)
    }

    fn alarmed(&mut self, live: &mut Live<'_>) -> Option<StreamEnd> {
        let now = Instant::now();
        let late = |phase: &str| Some(StreamEnd::TimedOut { phase: phase.to_owned() });
        match self.ending {
            Some(Ending::Closing(until, _)) if now >= until => return Some(StreamEnd::Closed),
            Some(_) => return None,
            None => {}
        }
        let writes = self.writes() && !self.held && now >= self.wrote + live.timeouts.write;
        if !self.ready.is_empty() {
            return if writes { late("taking what we send") } else { None };
        }
        if self.acks.waits().is_some_and(|at| now >= at + live.timeouts.write) {
            return late("confirming what we send");
        }
        if writes {
            return late("taking what we send");
        }
        match self.probed {
            Some(at) if now >= at + live.timeouts.answer => return late("a sign of life"),
            None if now >= self.heard + live.timeouts.keepalive => {
                self.probed = Some(now);
                if self.acks.managed() {
                    self.push(element("r", NS_SM, &[]));
                } else {
                    let id = format!("{}{}", ping_prefix(live.stream), self.probes);
                    let mut ping = element("iq", NS_CLIENT, &[("type", "get"), ("id", &id), ("to", live.domain)]);
                    ping.append_child(element("ping", "urn:xmpp:ping", &[]));
                    self.probes += 1;
                    self.push(ping);
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::{
        super::{transport::tests::HEADER, wire::Wire},
        *,
    };
    use crate::domain::BareJid;

    #[tokio::test]
    async fn the_last_words_of_a_server_that_takes_none_are_heard() {
        let error = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
        let text = format!("{HEADER}<stream:features/><message id='1'/><message id='2'/>{error}");
        let (writer, mut peer) = tokio::io::duplex(1024);
        let io = tokio::io::join(text.as_bytes(), writer);
        let deadline = Instant::now() + Duration::from_secs(10);
        let (wire, _) = Wire::open(io, "capulet.lit", None, Duration::from_secs(10), deadline).await.unwrap();
        peer.shutdown().await.unwrap();
        drop(peer);
        let up = StreamUp {
            account: BareJid::parse("juliet@capulet.lit").unwrap(),
            resource: String::new(),
            resumed: None,
            failed_h: None,
            management: None,
            max_bytes: None,
            roster_versioning: false,
            csi: false,
            keep: None,
            mechanism: String::new(),
        };
        let (_orders, mut orders) = mpsc::channel(1);
        let (reports, mut inbox) = mpsc::channel(10);
        let timeouts = Timeouts::default();
        let live = Live {
            stream: StreamId(1),
            domain: "capulet.lit",
            timeouts: &timeouts,
            orders: &mut orders,
            reports: &reports,
        };
        let unsent = StreamOrder::Send(vec![element("message", NS_CLIENT, &[]); 3]);
        let end = live.run(wire.into_stream(), up, Vec::new(), 0, vec![unsent]).await;
        assert_eq!(end, StreamEnd::StreamError { condition: "conflict".to_owned(), text: None });
        inbox.close();
        let mut stanzas = 0;
        while let Some((_, report)) = inbox.recv().await {
            stanzas += usize::from(matches!(report, StreamReport::Stanza(_)));
        }
        assert_eq!(stanzas, 2);
    }
}
