//! What lies between a connection and the library's `xmlstream`: the guard on the way in, the time of the last sign of
//! life in either direction, and how a stream ends.

use std::{
    cell::Cell,
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, BufWriter, ReadBuf},
    time::Instant,
};

use super::guard::Guard;

/// Bytes that are read at once.
const READ_SIZE: usize = 8 * 1024;
/// Small writes are put together until this many bytes or a flush: `xmlstream` writes a header in two parts, and each
/// stanza apart.
const WRITE_SIZE: usize = 1024;

/// How often guards cut something out, on all streams of the process: a stream may end at any point, and nobody is left to ask it.
static CUTS: AtomicU64 = AtomicU64::new(0);

/// How often something that was over a bound was cut out of a stream, since the process began.
pub fn cuts() -> u64 {
    CUTS.load(Ordering::Relaxed)
}

/// What becomes of the connection when `xmlstream` is shut down. It knows one way: `</stream:stream>`, and then nothing
/// more can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parting {
    /// `</stream:stream>` goes out and the connection stays: the other side has its own half to end (RFC 6120
    /// section 4.4), and TLS 1.2 would have it stop at our word (RFC 5246 section 7.2.1).
    #[default]
    Wait,
    /// Both go.
    End,
    /// Only the connection goes: a session that is to be resumed must not see `</stream:stream>` (XEP-0198 section 5).
    Suspend,
}

/// See the module. Dropping it cuts the connection.
#[derive(Debug)]
pub struct Transport<IO> {
    io: BufWriter<IO>,
    guard: Guard,
    /// What the guard let through; nothing while the stream is idle.
    passed: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
    /// Why nothing more comes.
    failure: Option<io::Error>,
    heard: Instant,
    wrote: Instant,
    sent: u32,
    parting: Cell<Parting>,
}

impl<IO: AsyncWrite> Transport<IO> {
    /// A transport for one stream; after a restart (RFC 6120 section 6.4.6) a new one is needed.
    pub fn new(io: IO) -> Self {
        let now = Instant::now();
        let (io, guard, parting) = (BufWriter::with_capacity(WRITE_SIZE, io), Guard::default(), Cell::default());
        Self { io, guard, passed: Vec::new(), taken: 0, failure: None, heard: now, wrote: now, sent: 0, parting }
    }

    /// The connection.
    pub fn io(&self) -> &IO {
        self.io.get_ref()
    }

    /// The bare connection; whatever was read but not taken is dropped.
    pub fn into_io(self) -> IO {
        self.io.into_inner()
    }

    /// Why nothing more comes: the parser only knows that it does not.
    pub fn failure(&self) -> Option<&io::Error> {
        self.failure.as_ref()
    }

    /// When the last bytes came.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// When the last bytes could be written.
    pub fn wrote(&self) -> Instant {
        self.wrote
    }

    /// How many bytes were taken for writing (modulo 2^32).
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// How often the guard cut something out.
    pub fn cuts(&self) -> u64 {
        self.guard.cuts()
    }

    /// What the next shutdown does. Through a shared reference, for that is all that `xmlstream` lends.
    pub fn part(&self, parting: Parting) {
        self.parting.set(parting);
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncBufRead for Transport<IO> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.taken == this.passed.len() && this.failure.is_none() {
            this.passed.clear();
            this.taken = 0;
            let mut space = [MaybeUninit::uninit(); READ_SIZE];
            let mut read = ReadBuf::uninit(&mut space);
            let Poll::Ready(outcome) = Pin::new(&mut this.io).poll_read(cx, &mut read) else {
                this.passed.shrink_to(0);
                return Poll::Pending;
            };
            let outcome = match outcome {
                Ok(()) if read.filled().is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
                other => other,
            };
            if let Err(error) = outcome {
                if this.guard.depth() == 0 {
                    return Poll::Ready(Err(error));
                }
                // The parser may still hold the end of an element, which an error would lose and the end of input brings
                // out.
                this.failure = Some(error);
                break;
            }
            this.heard = Instant::now();
            let before = this.guard.cuts();
            this.guard.feed(read.filled(), &mut this.passed);
            CUTS.fetch_add(this.guard.cuts() - before, Ordering::Relaxed);
        }
        Poll::Ready(Ok(&this.passed[this.taken..]))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        self.get_mut().taken += amount;
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Transport<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let passed = ready!(self.as_mut().poll_fill_buf(cx))?;
        let amount = passed.len().min(buffer.remaining());
        buffer.put_slice(&passed[..amount]);
        self.consume(amount);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Transport<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.parting.get() == Parting::Suspend {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, bytes))?;
        if written == 0 && !bytes.is_empty() {
            // `xmlstream` would ask again, at once and for ever.
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        this.wrote = Instant::now();
        // Only differences count.
        this.sent = this.sent.wrapping_add(u32::try_from(written).unwrap_or(u32::MAX));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.parting.get() {
            Parting::Wait => Pin::new(&mut this.io).poll_flush(cx),
            Parting::End | Parting::Suspend => Pin::new(&mut this.io).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
pub(super) mod tests;
