//! `GET /public/…`: files of people, given to whoever has the link (`public_media`). Everything that is wrong with a link is
//! answered in the same way, so that nothing is learned from the answer.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures::stream;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::files::{Files, Origin};
use crate::{
    domain::{
        Input, Ticket, Timestamp,
        file::{LinkId, LinkKey, PublicFile},
    },
    translate::public_link::{self, escaped},
    web::sniff,
};

/// Files that are given at once; whoever comes then is told to come again.
const AT_ONCE: usize = 16;
/// How long the engine may take to say what a link leads to.
const ENGINE: Duration = Duration::from_secs(10);
/// How long whoever fetches may take from one piece to the next.
const IDLE: Duration = Duration::from_mins(1);
/// How long one may take in all.
const WHOLE: Duration = Duration::from_hours(1);
/// Pieces of a file that wait for whoever fetches it.
const PIECES: usize = 4;

/// Types that a browser shows in its window; any other file it is told to save. None of them can hold a script.
const SHOWN: [&str; 14] = [
    "audio/aac",
    "audio/flac",
    "audio/mp4",
    "audio/mpeg",
    "audio/ogg",
    "audio/wav",
    "audio/webm",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "video/mp4",
    "video/ogg",
    "video/webm",
];

/// Gives files to those who have the link.
pub struct PublicMedia {
    key: LinkKey,
    files: Arc<Files>,
    mailbox: mpsc::Sender<Input>,
    next: AtomicU64,
    waiting: Mutex<HashMap<Ticket, oneshot::Sender<Option<PublicFile>>>>,
    places: Arc<Semaphore>,
}

impl PublicMedia {
    /// `key`: what links are signed with.
    pub fn new(key: LinkKey, files: Arc<Files>, mailbox: mpsc::Sender<Input>) -> Arc<Self> {
        Arc::new(Self {
            key,
            files,
            mailbox,
            next: AtomicU64::default(),
            waiting: Mutex::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// The endpoint.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().route(&format!("{}/{{*rest}}", public_link::PATH), get(serve)).with_state(Arc::clone(self))
    }

    /// The engine has said what a link leads to ([`crate::domain::Output::PublicFile`]).
    pub fn answer(&self, ticket: Ticket, file: Option<PublicFile>) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
        if let Some(tell) = waiting {
            // Whoever asked may have gone away.
            let _ = tell.send(file);
        }
    }

    async fn file_of(&self, link: LinkId) -> Option<PublicFile> {
        let ticket = Ticket(self.next.fetch_add(1, Ordering::Relaxed));
        let (tell, told) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(ticket, tell);
        let asked = self.mailbox.send(Input::PublicFileAsked { ticket, link });
        let answer = async {
            asked.await.ok()?;
            told.await.ok()?
        };
        let file = timeout(ENGINE, answer).await.unwrap_or_default();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
        file
    }
}

fn now() -> Timestamp {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX))
}

async fn serve(State(public): State<Arc<PublicMedia>>, method: Method, uri: Uri) -> Response {
    // The name that follows is for people. Nothing in the signed part is ever encoded.
    let rest = uri.path().strip_prefix(public_link::PATH).and_then(|rest| rest.strip_prefix('/'));
    let token = rest.and_then(|rest| rest.split_once('/')).map(|(token, _)| token);
    let link = token.and_then(|token| public_link::read(&public.key, token, now()));
    let Some(link) = link else { return nowhere() };
    let Ok(place) = Arc::clone(&public.places).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "30")], "Busy. Come again.\n").into_response();
    };
    let Some(file) = public.file_of(link).await else { return nowhere() };
    let Some(origin) = public.files.open(&file.media).await else { return nowhere() };
    let size = origin.size();
    let body = if method == Method::HEAD { Body::empty() } else { body(origin, place) };
    let mut response = Response::new(body);
    let shown = file.mime.as_deref().filter(|mime| SHOWN.contains(mime));
    let mime = shown.or_else(|| sniff::harmless(file.mime.as_deref())).unwrap_or(sniff::OCTETS);
    let headers = response.headers_mut();
    let mut say = |name: HeaderName, value: String| {
        // What is written here is ASCII; a value that were none is left out.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    say(header::CONTENT_TYPE, mime.to_owned());
    say(header::CONTENT_DISPOSITION, disposition(shown.is_some(), &file.name));
    if let Some(size) = size {
        say(header::CONTENT_LENGTH, size.to_string());
    }
    harden(&mut response);
    response
}

/// The answer for every link that leads nowhere: forged, ended, taken back, or never one.
fn nowhere() -> Response {
    let mut response = (StatusCode::NOT_FOUND, "There is nothing here, or no longer.\n").into_response();
    harden(&mut response);
    response
}

/// What a browser is told of anything that comes from here.
fn harden(response: &mut Response) {
    let policy = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A link that has ended must not go on in a cache.
        (header::CACHE_CONTROL, "private, no-store"),
        (header::ACCEPT_RANGES, "none"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

/// `Content-Disposition` (RFC 6266): the name in ASCII for old browsers, and as it is (RFC 8187).
fn disposition(shown: bool, name: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() && !"\"\\%;".contains(c) || c == ' ' { c } else { '_' };
    let ascii: String = name.chars().map(plain).collect();
    let how = if shown { "inline" } else { "attachment" };
    format!("{how}; filename=\"{ascii}\"; filename*=UTF-8''{}", escaped(name))
}

/// The file, piece by piece. Whoever takes no more of it loses the place.
fn body(mut origin: Origin, place: OwnedSemaphorePermit) -> Body {
    let (send, receive) = mpsc::channel::<Result<Bytes, io::Error>>(PIECES);
    tokio::spawn(async move {
        let _place = place;
        let copied = timeout(WHOLE, async {
            loop {
                let piece = tokio::select! {
                    piece = origin.next() => match piece {
                        Ok(Some(piece)) => Ok(piece),
                        Ok(None) => return,
                        Err(_) => Err(io::Error::other("the file cannot be read on")),
                    },
                    () = send.closed() => return,
                };
                let broken = piece.is_err();
                if !matches!(timeout(IDLE, send.send(piece)).await, Ok(Ok(()))) || broken {
                    return;
                }
            }
        });
        if copied.await.is_err() {
            // It ends with less than was announced, so it is not taken for whole.
            let _ = send.try_send(Err(io::Error::other("it takes too long")));
        }
    });
    Body::from_stream(stream::unfold(receive, |mut receive| async move { Some((receive.recv().await?, receive)) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_header() {
        let value = disposition(false, "a\"b;\r\nSet-Cookie: x=y\\é.html");
        assert_eq!(
            value,
            "attachment; filename=\"a_b___Set-Cookie: x=y__.html\"; filename*=UTF-8''a%22b%3B%0D%0ASet-Cookie%3A%20x%3Dy%5C%C3%A9.html"
        );
        assert!(disposition(true, "cat.png").starts_with("inline; filename=\"cat.png\""));
    }

    #[test]
    fn nothing_that_is_shown_can_hold_a_script() {
        for mime in SHOWN {
            assert!(
                !mime.contains("svg") && !mime.contains("xml") && !mime.contains("html") && !mime.starts_with("text/")
            );
        }
    }
}
