//! Transfers of files between the homeserver and the web: from socket to socket, within bounds of size, time and number.

use std::{
    collections::HashMap,
    io::{self, SeekFrom},
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures::stream;
use reqwest::Body;
use ruma::OwnedUserId;
use rustls::ClientConfig;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
    sync::{Mutex, Semaphore},
};

use crate::{
    domain::{
        file::{Job, Preview, Side, Slot, Stored, Transfer, TransferOutcome},
        input::{Cause, Failure},
    },
    engine::TRANSFERS,
    matrix::{
        client::{CallError, Client},
        media::{Download, Media},
    },
    translate::{file::bytes, file_name::with_extension, preview},
    web::{Source, Web, WebError, sniff},
};

/// A transfer may take so long.
const WHOLE: Duration = Duration::from_mins(10);
/// How long the homeserver's limit is believed.
const LIMIT_HOLDS: Duration = Duration::from_mins(10);
/// What a small picture of a file may take beside the file itself.
const PREVIEW: Duration = Duration::from_secs(20);
/// A piece that is read back from a file, in bytes.
const PIECE: usize = 64 * 1024;

/// Whose certificates count beside the system's: those that the operator gave for a domain count for its account's files.
#[derive(Debug)]
pub struct Trust {
    /// The system's.
    pub usual: ClientConfig,
    /// Those of (network, domain).
    pub own: HashMap<(String, String), ClientConfig>,
}

/// How far transfers may go.
#[derive(Debug)]
pub struct Bounds {
    /// The largest file, in bytes.
    pub most: u64,
    /// The longest transfer.
    pub whole: Duration,
    /// Where a file waits whose size nobody said: without a name, and gone with its transfer.
    pub folder: PathBuf,
}

impl Bounds {
    /// With the usual time.
    pub fn new(most: u64, folder: PathBuf) -> Self {
        Self { most, whole: WHOLE, folder }
    }
}

/// Makes transfers.
pub struct Files {
    client: Client,
    bot: OwnedUserId,
    web: Web,
    trust: Trust,
    bounds: Bounds,
    /// The homeserver's own limit, and when it said so.
    limit: Mutex<Option<(Instant, u64)>>,
    places: Semaphore,
}

/// Why a transfer ended early.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    Matrix(CallError),
    Web(WebError),
    /// So many bytes, which are more than the second number.
    TooLarge(Option<u64>, u64),
    Disk,
    NoPicture,
}

/// Where the bytes come from.
pub(super) enum Origin {
    Here(Download),
    Web(Source),
    Spooled(File),
}

impl Files {
    /// Uploads as `bot` with a client that carries the `as_token`.
    pub fn new(client: Client, bot: OwnedUserId, web: Web, trust: Trust, bounds: Bounds) -> Self {
        Self { client, bot, web, trust, bounds, limit: Mutex::default(), places: Semaphore::new(TRANSFERS) }
    }

    /// Makes a transfer. Always ends, and never panics.
    pub async fn run(&self, transfer: &Transfer) -> TransferOutcome {
        // The semaphore is never closed.
        let _place = self.places.acquire().await;
        let began = Instant::now();
        let outcome = match tokio::time::timeout(self.bounds.whole, self.perform(transfer)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(fault)) => fault.into_outcome(),
            Err(_) => failed(Side::Web, true, "timeout", "it takes too long".to_owned(), None),
        };
        match &outcome {
            TransferOutcome::Failed { at, failure } => {
                let (Failure::Permanent(cause) | Failure::Transient { cause, .. }) = failure;
                tracing::debug!(debt = %transfer.debt, ?at, code = cause.code, "a transfer failed");
            }
            TransferOutcome::Uploaded | TransferOutcome::Size(_) | TransferOutcome::Stored(_) => {
                let millis = began.elapsed().as_millis();
                tracing::debug!(debt = %transfer.debt, millis, "a transfer is done");
            }
        }
        outcome
    }

    async fn perform(&self, transfer: &Transfer) -> Result<TransferOutcome, Fault> {
        let tls = self.trust.own.get(&(transfer.network.clone(), transfer.domain.clone())).unwrap_or(&self.trust.usual);
        match &transfer.job {
            Job::Measure { media } => {
                let mut origin = self.media(media, tls).await?;
                let size = match origin.size() {
                    Some(size) => size,
                    None => origin.count(self.bounds.most).await?,
                };
                Ok(TransferOutcome::Size(size))
            }
            Job::Put { media, size, mime, slot } => self.put(media, (mime, *size), slot, tls).await,
            Job::Take { url, name, mime, preview } => {
                let mut stored = self.take(url, name, mime.as_deref(), tls).await?;
                if let Some(preview) = preview {
                    // The file is shown without one rather than later.
                    let small = tokio::time::timeout(PREVIEW, self.take_preview(preview, tls)).await;
                    stored.preview = small.ok().flatten().map(Box::new);
                }
                Ok(TransferOutcome::Stored(stored))
            }
            Job::Keep { name, bytes } => Ok(TransferOutcome::Stored(self.keep(name, bytes.clone().into()).await?)),
        }
    }

    /// A small picture of a file; `None` if there is any trouble with it.
    async fn take_preview(&self, preview: &Preview, tls: &ClientConfig) -> Option<Stored> {
        let most = usize::try_from(preview::LARGEST).unwrap_or(usize::MAX);
        let bytes = match preview {
            Preview::Bytes(bytes) => bytes.clone().into(),
            Preview::At(url) => {
                let mut source = self.web.get(url, tls).await.ok()?;
                let mut bytes = BytesMut::new();
                while let Some(piece) = source.next().await.ok()? {
                    if bytes.len() + piece.len() > most {
                        return None;
                    }
                    bytes.extend_from_slice(&piece);
                }
                bytes.freeze()
            }
        };
        if bytes.len() > most {
            return None;
        }
        self.keep("thumbnail", bytes).await.ok()
    }

    /// Uploads bytes that are a picture.
    async fn keep(&self, name: &str, bytes: Bytes) -> Result<Stored, Fault> {
        let picture = sniff::picture(&bytes).ok_or(Fault::NoPicture)?;
        let (size, most) = (length(&bytes), self.most().await?);
        if size > most {
            return Err(Fault::TooLarge(Some(size), most));
        }
        let name = with_extension(name, Some(picture.mime));
        let url = self.client.upload_stream(&self.bot, (&name, picture.mime, size), Body::from(bytes)).await?;
        Ok(Stored { url, mime: picture.mime.to_owned(), size, dimensions: picture.dimensions, preview: None })
    }

    /// Media of the homeserver, to be read; `None` if it cannot be had, or is larger than what is carried.
    pub(super) async fn open(&self, media: &str) -> Option<Origin> {
        let origin = self.media(media, &self.trust.usual).await.ok()?;
        origin.size().is_none_or(|size| size <= self.bounds.most).then_some(origin)
    }

    async fn media(&self, media: &str, tls: &ClientConfig) -> Result<Origin, Fault> {
        Ok(match self.client.download(media).await? {
            Media::Here(download) => Origin::Here(download),
            Media::At(url) => Origin::Web(self.web.get(&url, tls).await?),
        })
    }

    async fn put(
        &self,
        media: &str,
        said: (&str, u64),
        slot: &Slot,
        tls: &ClientConfig,
    ) -> Result<TransferOutcome, Fault> {
        let mut origin = self.media(media, tls).await?;
        let size = match origin.size() {
            Some(size) => size,
            None => origin.spool(Bytes::new(), self.bounds.most, &self.bounds.folder).await?,
        };
        if size != said.1 {
            return Ok(TransferOutcome::Size(size));
        }
        if size > self.bounds.most {
            return Err(Fault::TooLarge(Some(size), self.bounds.most));
        }
        let fault = Arc::new(OnceLock::new());
        let body = body(Bytes::new(), origin, size, Arc::clone(&fault));
        let done = self.web.put(&slot.put, &slot.headers, said, body, tls).await;
        match (fault.get(), done) {
            (Some(fault), _) => Err(fault.clone()),
            (None, Ok(())) => Ok(TransferOutcome::Uploaded),
            (None, Err(error)) => {
                // A slot holds for a while only; the next try has a new one.
                let again = error.is_transient() || matches!(error, WebError::Status(401 | 403 | 404 | 410));
                let sentence = format!("your server's upload service did not take it ({error})");
                Ok(failed(Side::Web, !again, "slot", sentence, None))
            }
        }
    }

    async fn take(&self, url: &str, name: &str, said: Option<&str>, tls: &ClientConfig) -> Result<Stored, Fault> {
        let most = self.most().await?;
        let source = self.web.get(url, tls).await?;
        let header = sniff::harmless(source.mime()).or(sniff::harmless(said));
        let mut size = source.size();
        if size.is_some_and(|size| size > most) {
            return Err(Fault::TooLarge(size, most));
        }
        let mut origin = Origin::Web(source);
        let mut head = BytesMut::new();
        while head.len() < sniff::LOOKED_AT {
            let Some(piece) = origin.next().await? else {
                size = Some(length(&head));
                break;
            };
            head.extend_from_slice(&piece);
            if length(&head) > most {
                return Err(Fault::TooLarge(None, most));
            }
        }
        let mut head = head.freeze();
        let picture = sniff::picture(&head);
        let mime = picture.map(|picture| picture.mime).or(header).unwrap_or(sniff::OCTETS);
        let size = match size {
            Some(size) => size,
            // A homeserver takes no upload whose size it is not told.
            None => origin.spool(std::mem::take(&mut head), most, &self.bounds.folder).await?,
        };
        let fault = Arc::new(OnceLock::new());
        let body = body(head, origin, most, Arc::clone(&fault));
        let done = self.client.upload_stream(&self.bot, (name, mime, size), body).await;
        if let Some(fault) = fault.get() {
            return Err(fault.clone());
        }
        let dimensions = picture.and_then(|picture| picture.dimensions);
        Ok(Stored { url: done?, mime: mime.to_owned(), size, dimensions, preview: None })
    }

    /// The most that the homeserver and the operator allow.
    async fn most(&self) -> Result<u64, CallError> {
        let mut known = self.limit.lock().await;
        let theirs = match *known {
            Some((since, limit)) if since.elapsed() < LIMIT_HOLDS => limit,
            _ => {
                let limit = self.client.largest_upload().await?.unwrap_or(u64::MAX);
                *known = Some((Instant::now(), limit));
                limit
            }
        };
        Ok(theirs.min(self.bounds.most))
    }
}

impl Origin {
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Self::Here(download) => download.size(),
            Self::Web(source) => source.size(),
            Self::Spooled(_) => None,
        }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        match self {
            Self::Here(download) => Ok(download.next().await?),
            Self::Web(source) => Ok(source.next().await?),
            Self::Spooled(file) => {
                let mut piece = BytesMut::with_capacity(PIECE);
                let read = file.read_buf(&mut piece).await.map_err(|_| Fault::Disk)?;
                Ok((read > 0).then(|| piece.freeze()))
            }
        }
    }

    async fn count(&mut self, most: u64) -> Result<u64, Fault> {
        let mut size = 0;
        while let Some(piece) = self.next().await? {
            size += length(&piece);
            if size > most {
                return Err(Fault::TooLarge(None, most));
            }
        }
        Ok(size)
    }

    /// Writes what comes into a file without a name, which is then where the bytes come from. Gives how many they are.
    async fn spool(&mut self, head: Bytes, most: u64, folder: &std::path::Path) -> Result<u64, Fault> {
        let folder = folder.to_owned();
        let file = tokio::task::spawn_blocking(move || tempfile::tempfile_in(folder)).await;
        let mut file = File::from_std(file.map_err(|_| Fault::Disk)?.map_err(|_| Fault::Disk)?);
        let mut size = 0;
        let mut next = Some(head);
        while let Some(piece) = next {
            size += length(&piece);
            if size > most {
                return Err(Fault::TooLarge(None, most));
            }
            file.write_all(&piece).await.map_err(|_| Fault::Disk)?;
            next = self.next().await?;
        }
        file.flush().await.map_err(|_| Fault::Disk)?;
        file.seek(SeekFrom::Start(0)).await.map_err(|_| Fault::Disk)?;
        *self = Self::Spooled(file);
        Ok(size)
    }
}

/// The bytes as the body of a request. What goes wrong where they come from is left in `fault`, for the request itself only
/// says that its body failed.
fn body(head: Bytes, origin: Origin, most: u64, fault: Arc<OnceLock<Fault>>) -> Body {
    let pieces = stream::unfold(Some((head, origin, 0)), move |state| {
        let fault = Arc::clone(&fault);
        async move {
            let (head, mut origin, before) = state?;
            let next = if head.is_empty() { origin.next().await } else { Ok(Some(head)) };
            let why = match next {
                Ok(None) => return None,
                Ok(Some(piece)) => {
                    let size = before + length(&piece);
                    if size <= most {
                        return Some((Ok(piece), Some((Bytes::new(), origin, size))));
                    }
                    Fault::TooLarge(None, most)
                }
                Err(why) => why,
            };
            // It is set once: after an error the stream has ended.
            let _ = fault.set(why);
            Some((Err(io::Error::other("the file cannot be read on")), None))
        }
    });
    Body::wrap_stream(pieces)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        Self::Matrix(error)
    }
}

impl From<WebError> for Fault {
    fn from(error: WebError) -> Self {
        Self::Web(error)
    }
}

impl Fault {
    fn into_outcome(self) -> TransferOutcome {
        match self {
            Self::Web(error) => failed(Side::Web, !error.is_transient(), "web", error.to_string(), None),
            Self::TooLarge(size, most) => {
                let has = size.map_or_else(|| "more".to_owned(), bytes);
                let sentence = format!("it has {has}, and at most {} can be taken", bytes(most));
                failed(Side::Web, true, "too-large", sentence, None)
            }
            Self::NoPicture => failed(Side::Web, true, "no-picture", "it is no picture".to_owned(), None),
            Self::Disk => {
                failed(Side::Matrix, false, "disk", "the bridge has no room to write it down".to_owned(), None)
            }
            Self::Matrix(error) => {
                let sentence = match error.status() {
                    Some(404) => "the homeserver does not have it",
                    Some(413) => "it is too large for the homeserver",
                    Some(400..500) => "the homeserver refuses it",
                    _ => "the homeserver did not do its part",
                };
                let (permanent, code, retry_after) = match error.into_failure() {
                    Failure::Permanent(cause) => (true, cause.code, None),
                    Failure::Transient { cause, retry_after } => (false, cause.code, retry_after),
                };
                failed(Side::Matrix, permanent, &code, sentence.to_owned(), retry_after)
            }
        }
    }
}

fn failed(at: Side, permanent: bool, code: &str, sentence: String, retry_after: Option<u64>) -> TransferOutcome {
    let cause = Cause { code: code.to_owned(), sentence };
    let failure = if permanent { Failure::Permanent(cause) } else { Failure::Transient { cause, retry_after } };
    TransferOutcome::Failed { at, failure }
}

/// The outcome of a transfer whose task died: it is tried again.
pub fn died() -> TransferOutcome {
    failed(Side::Web, false, "internal", "the bridge failed inside".to_owned(), None)
}
