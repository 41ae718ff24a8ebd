//! Transfers of files over real sockets: a homeserver, and a web server that means no good.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::StreamExt;
use messenger_bridge::{
    app::files::{Bounds, Files, Trust},
    domain::{
        DebtId,
        credentials::Secret,
        file::{Job, Side, Slot, Stored, Transfer, TransferOutcome},
        input::Failure,
    },
    matrix::client::Client,
    web::{Allowed, Limits, Lookup, Web, WebError},
    xmpp::tls::{Tls, TlsSettings},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

pub const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\0\x01\x08\x06\0\0\0";
const LIMITS: Limits = Limits { connect: Duration::from_secs(5), idle: Duration::from_millis(300), redirects: 3 };

// ---- a web server that says whatever a test wants, byte by byte

/// What a path answers.
#[derive(Clone)]
pub enum Says {
    /// These bytes, head and all; then the end.
    Bytes(Vec<u8>),
    /// A head, then zeros for ever.
    Endless(&'static str),
    /// A head and one byte, then nothing; the connection stays.
    Stalls(&'static str),
    /// A head, then one byte after the other, slowly, for ever.
    Drips(&'static str),
    /// Reads a body of the length that is announced, then says this.
    Takes(&'static str),
}

pub struct WebServer {
    pub port: u16,
    /// Heads of the requests, and the length of each body that was read whole.
    heads: Arc<Mutex<Vec<String>>>,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl WebServer {
    pub async fn start(paths: Vec<(&'static str, Says)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server =
            Self { port: listener.local_addr().unwrap().port(), heads: Arc::default(), bodies: Arc::default() };
        let (heads, bodies) = (Arc::clone(&server.heads), Arc::clone(&server.bodies));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, paths.clone(), Arc::clone(&heads), Arc::clone(&bodies)));
            }
        });
        server
    }

    pub fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port)
    }

    pub fn asked(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

async fn serve(
    mut stream: TcpStream,
    paths: Vec<(&'static str, Says)>,
    heads: Arc<Mutex<Vec<String>>>,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
) {
    let mut seen = Vec::new();
    let end = loop {
        if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8_lossy(&seen[..end]).into_owned();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
    heads.lock().unwrap().push(head);
    let said = paths.iter().find(|(known, _)| *known == path).map(|(_, said)| said.clone()).unwrap();
    match said {
        Says::Bytes(bytes) => drop(stream.write_all(&bytes).await),
        Says::Endless(head) => {
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(&[0; 16 * 1024]).await.is_ok() {}
        }
        Says::Stalls(head) => {
            let _ = stream.write_all(format!("{head}x").as_bytes()).await;
            let _ = stream.read(&mut [0]).await;
        }
        Says::Drips(head) => {
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Says::Takes(answer) => {
            let mut body = seen[end..].to_vec();
            while body.len() < length.unwrap() {
                if stream.read_buf(&mut body).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            bodies.lock().unwrap().push(body);
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }
}

pub fn ok(mime: &str, body: &[u8]) -> Says {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {mime}\r\ncontent-length: {}\r\n\r\n", body.len());
    Says::Bytes([head.as_bytes(), body].concat())
}

fn redirect(to: &str) -> Says {
    Says::Bytes(format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes())
}

// ---- names

/// Gives each name its addresses, one list after the other, the last for ever.
#[derive(Default)]
struct Names {
    known: HashMap<&'static str, Vec<&'static str>>,
    asked: AtomicUsize,
}

impl Lookup for Names {
    fn look_up<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        let found = self.known.get(host).map(|all| all[turn.min(all.len() - 1)].parse().unwrap());
        Box::pin(async move {
            let address: std::net::IpAddr = found.ok_or(io::ErrorKind::NotFound)?;
            Ok(vec![SocketAddr::new(address, port)])
        })
    }
}

fn names(known: &[(&'static str, &[&'static str])]) -> Arc<Names> {
    Arc::new(Names {
        known: known.iter().map(|(name, all)| (*name, all.to_vec())).collect(),
        asked: AtomicUsize::new(0),
    })
}

fn allowed(host: &str, port: u16) -> Vec<Allowed> {
    vec![Allowed { host: host.to_owned(), port }]
}

fn tls() -> rustls::ClientConfig {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Tls::new().http_config(&TlsSettings::default()).unwrap()
}

async fn fetch(names: Arc<Names>, allowed: Vec<Allowed>, url: &str) -> Result<Vec<u8>, WebError> {
    let mut source = Web::new(names, allowed, LIMITS).get(url, &tls()).await?;
    let mut all = Vec::new();
    while let Some(piece) = source.next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

// ---- a homeserver that keeps media

#[derive(Default)]
pub struct Media {
    limit: u64,
    /// What was uploaded: query, content type, bytes.
    pub kept: Mutex<Vec<(String, String, Vec<u8>)>>,
    /// What an upload is answered with.
    refuses: Option<(u16, &'static str)>,
    tokens: Mutex<Vec<String>>,
}

pub struct Ground {
    pub media: Arc<Media>,
    client: Client,
    folder: tempfile::TempDir,
}

pub async fn ground(media: Media) -> Ground {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let media = Arc::new(media);
    let router = Router::new()
        .route("/_matrix/client/v1/media/config", get(config))
        .route("/_matrix/client/v1/media/download/{server}/{id}", get(download))
        .route("/_matrix/media/v3/upload", post(upload))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(Arc::clone(&media));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = Client::new(&url, Secret::new("as-token")).unwrap();
    Ground { media, client, folder: tempfile::tempdir().unwrap() }
}

async fn config(State(media): State<Arc<Media>>) -> String {
    format!(r#"{{"m.upload.size":{}}}"#, media.limit)
}

async fn upload(State(media): State<Arc<Media>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    assert!(!header("content-length").is_empty(), "Synapse refuses an upload without a length");
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if let Some((status, body)) = media.refuses {
        return (StatusCode::from_u16(status).unwrap(), body).into_response();
    }
    let query = parts.uri.query().unwrap_or_default().to_owned();
    media.kept.lock().unwrap().push((query, header("content-type"), bytes.to_vec()));
    r#"{"content_uri":"mxc://h.test/kept"}"#.into_response()
}

/// `known`: five bytes. `streamed`: as many without a length. `gone`: none.
async fn download(
    State(media): State<Arc<Media>>,
    Path((_, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    media.tokens.lock().unwrap().push(headers["authorization"].to_str().unwrap().to_owned());
    let pieces = || futures::stream::iter([b"he", &b"llo"[..]]).map(|piece| io::Result::Ok(Bytes::from_static(piece)));
    match id.as_str() {
        "known" => ([(CONTENT_TYPE, "text/html")], "hello").into_response(),
        "streamed" => Body::from_stream(pieces()).into_response(),
        "page" => ([(CONTENT_TYPE, "text/html")], "<script>alert(1)</script>").into_response(),
        "stalls" => {
            let never = futures::stream::pending::<io::Result<Bytes>>();
            Response::builder().header("content-length", "9").body(Body::from_stream(pieces().chain(never))).unwrap()
        }
        "breaks" => {
            let broken = futures::stream::once(async { Err(io::Error::other("gone")) });
            Response::builder().header("content-length", "9").body(Body::from_stream(pieces().chain(broken))).unwrap()
        }
        _ => (StatusCode::NOT_FOUND, r#"{"errcode":"M_NOT_FOUND","error":"x"}"#).into_response(),
    }
}

impl Ground {
    pub fn files(&self, server: &WebServer, most: u64, whole: Duration) -> Files {
        let web = Web::new(names(&[("files.test", &["127.0.0.1"])]), allowed("files.test", server.port), LIMITS);
        let bounds = Bounds { most, whole, folder: PathBuf::from(self.folder.path()) };
        let trust = Trust { usual: tls(), own: HashMap::new() };
        Files::new(self.client.clone(), "@messengerbot:h.test".try_into().unwrap(), web, trust, bounds)
    }

    async fn take(&self, server: &WebServer, path: &str) -> TransferOutcome {
        let job =
            Job::Take { url: server.url("files.test", path), name: "cat.png".to_owned(), mime: None, preview: None };
        self.files(server, 1_000_000, Duration::from_mins(1)).run(&transfer(job)).await
    }

    async fn put(&self, server: &WebServer, media: &str, size: u64, path: &str) -> TransferOutcome {
        let slot = Slot {
            put: server.url("files.test", path),
            headers: vec![("Authorization".to_owned(), "Basic x".to_owned())],
            get: String::new(),
        };
        let (media, mime) = (format!("mxc://h.test/{media}"), "image/png".to_owned());
        self.files(server, 1_000_000, Duration::from_mins(1)).run(&transfer(Job::Put { media, size, mime, slot })).await
    }
}

pub fn transfer(job: Job) -> Transfer {
    Transfer { debt: DebtId(1), network: "xmpp".to_owned(), domain: "d.test".to_owned(), job }
}

pub fn media() -> Media {
    Media { limit: 500_000, ..Media::default() }
}

fn failure(outcome: &TransferOutcome) -> (Side, bool, &str) {
    match outcome {
        TransferOutcome::Failed { at, failure: Failure::Permanent(cause) } => (*at, true, &cause.sentence),
        TransferOutcome::Failed { at, failure: Failure::Transient { cause, .. } } => (*at, false, &cause.sentence),
        other => panic!("{other:?}"),
    }
}

// ---- where requests go

#[tokio::test]
async fn no_address_inside_is_gone_to() {
    let server = WebServer::start(vec![("/", ok("text/plain", b"secret"))]).await;
    let port = server.port;
    for host in [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0x7f.1",
        "2130706433",
        "0.0.0.0",
        "10.1.2.3",
        "169.254.169.254",
        "inside.test",
        "[::]",
    ] {
        let names = names(&[("inside.test", &["127.0.0.1"])]);
        let found = fetch(names, Vec::new(), &format!("https://{host}:{port}/")).await;
        assert_eq!(found, Err(WebError::Private), "{host}");
    }
    for (url, why) in [
        (format!("http://inside.test:{port}/"), WebError::NotSecure),
        ("http://outside.test/".to_owned(), WebError::NotSecure),
        ("https://unknown.test/".to_owned(), WebError::NotFound),
        ("ftp://outside.test/".to_owned(), WebError::NoAddress),
        ("file:///etc/passwd".to_owned(), WebError::NoAddress),
        ("data:text/plain,x".to_owned(), WebError::NoAddress),
    ] {
        let names = names(&[("inside.test", &["127.0.0.1"]), ("outside.test", &["1.1.1.1"])]);
        // Another port, or another name, of an allowed host is not allowed.
        let found = fetch(names, allowed("inside.test", port.wrapping_add(1)), &url).await;
        assert_eq!(found, Err(why), "{url}");
    }
    assert_eq!(server.asked(), 0);
    for (host, listed) in [("Inside.test", "inside.test"), ("inside.test", "127.0.0.1")] {
        let names = names(&[("inside.test", &["127.0.0.1"])]);
        let found = fetch(names, allowed(listed, port), &server.url(host, "/")).await;
        assert_eq!(found.as_deref(), Ok(&b"secret"[..]), "{listed}");
    }
    assert!(server.heads.lock().unwrap()[0].contains("accept-encoding: identity"));
}

#[tokio::test]
async fn a_redirect_is_checked_as_the_first_address() {
    let inside = WebServer::start(vec![("/", ok("text/plain", b"secret"))]).await;
    let server = WebServer::start(vec![
        ("/inside", redirect(&inside.url("inside.test", "/"))),
        ("/secure", redirect(&inside.url("inside.test", "/").replace("http", "https"))),
        ("/literal", redirect(&format!("https://127.0.0.1:{}/", inside.port))),
        ("/file", redirect("file:///etc/passwd")),
        ("/loop", redirect("/loop")),
        ("/1", redirect("/2")),
        ("/2", redirect("/3")),
        ("/3", redirect("/4")),
        ("/4", ok("text/plain", b"there")),
    ])
    .await;
    let get = async |path: &str| {
        let names = names(&[("files.test", &["127.0.0.1"]), ("inside.test", &["127.0.0.1"])]);
        fetch(names, allowed("files.test", server.port), &server.url("files.test", path)).await
    };
    assert_eq!(get("/inside").await, Err(WebError::NotSecure));
    assert_eq!(get("/secure").await, Err(WebError::Private));
    assert_eq!(get("/literal").await, Err(WebError::Private));
    assert_eq!(get("/file").await, Err(WebError::NoAddress));
    assert_eq!(inside.asked(), 0);
    assert_eq!(get("/loop").await, Err(WebError::Redirects));
    assert_eq!(get("/1").await.as_deref(), Ok(&b"there"[..]));
}

#[tokio::test]
async fn a_name_that_turns_to_another_address_gains_nothing() {
    let server = WebServer::start(vec![
        ("/", redirect("/again")),
        ("/again", ok("text/plain", b"x")),
        ("/once", ok("text/plain", b"x")),
    ])
    .await;
    // Good at first, private when it is asked again: the second hop is checked for itself.
    let turning = names(&[("turns.test", &["127.0.0.1", "127.0.0.2"])]);
    let found =
        fetch(Arc::clone(&turning) as _, allowed("127.0.0.1", server.port), &server.url("turns.test", "/")).await;
    assert_eq!((found, turning.asked.load(Ordering::SeqCst)), (Err(WebError::NotSecure), 2));
    // Within one hop it is asked once: the connection goes to what was checked.
    let turning = names(&[("turns.test", &["127.0.0.1", "127.0.0.2"])]);
    let found =
        fetch(Arc::clone(&turning) as _, allowed("127.0.0.1", server.port), &server.url("turns.test", "/once")).await;
    assert_eq!((found.is_ok(), turning.asked.load(Ordering::SeqCst)), (true, 1));
}

// ---- from the web into Matrix

#[tokio::test]
async fn a_picture_is_stored_as_what_its_bytes_are() {
    let ground = ground(media()).await;
    let page = b"<html><script>alert(1)</script>";
    let server = WebServer::start(vec![
        ("/cat", ok("text/html", PNG)),
        ("/page", ok("text/html", page)),
        ("/video", ok("video/mp4; codecs=x", b"video")),
        (
            "/chunked",
            Says::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec()),
        ),
        ("/empty", ok("text/plain", b"")),
    ])
    .await;
    let stored = |mime: &str, size, dimensions| {
        TransferOutcome::Stored(Stored {
            url: "mxc://h.test/kept".to_owned(),
            mime: mime.to_owned(),
            size,
            dimensions,
            preview: None,
        })
    };
    assert_eq!(ground.take(&server, "/cat").await, stored("image/png", PNG.len() as u64, Some((2, 1))));
    assert_eq!(ground.take(&server, "/page").await, stored("application/octet-stream", page.len() as u64, None));
    assert_eq!(ground.take(&server, "/video").await, stored("video/mp4", 5, None));
    assert_eq!(ground.take(&server, "/chunked").await, stored("application/octet-stream", 5, None));
    assert_eq!(ground.take(&server, "/empty").await, stored("text/plain", 0, None));
    let kept = ground.media.kept.lock().unwrap();
    let (query, mime, bytes) = &kept[0];
    assert!(query.contains("filename=cat.png") && query.contains("user_id=%40messengerbot"), "{query}");
    assert_eq!((mime.as_str(), bytes.as_slice()), ("image/png", PNG));
    assert_eq!(kept[3].2, b"hello");
}

#[tokio::test]
async fn a_large_body_passes_whole_with_and_without_its_length() {
    let ground = ground(media()).await;
    let bytes: Vec<u8> = (0..400_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let mut chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for piece in bytes.chunks(30_000) {
        chunked.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        chunked.extend(piece);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let server =
        WebServer::start(vec![("/long", ok("application/zip", &bytes)), ("/chunked", Says::Bytes(chunked))]).await;
    for path in ["/long", "/chunked"] {
        let outcome = ground.take(&server, path).await;
        assert!(matches!(&outcome, TransferOutcome::Stored(stored) if stored.size == 400_000), "{path}: {outcome:?}");
        assert!(ground.media.kept.lock().unwrap().pop().unwrap().2 == bytes, "{path}");
    }
    assert_eq!(std::fs::read_dir(ground.folder.path()).unwrap().count(), 0, "nothing is left lying");
}

#[tokio::test]
async fn a_web_server_that_means_no_good_gets_a_sentence() {
    let ground = ground(media()).await;
    let server = WebServer::start(vec![
        ("/huge", Says::Stalls("HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n")),
        ("/endless", Says::Endless("HTTP/1.1 200 OK\r\n\r\n")),
        ("/stalls", Says::Stalls("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")),
        ("/drips", Says::Drips("HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n")),
        ("/short", Says::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\nonly this".to_vec())),
        ("/gone", Says::Bytes(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec())),
        ("/busy", Says::Bytes(b"HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n".to_vec())),
        ("/part", Says::Bytes(b"HTTP/1.1 206 x\r\ncontent-length: 1\r\n\r\nx".to_vec())),
        ("/nonsense", Says::Bytes(b"SSH-2.0-x\r\n\r\n".to_vec())),
    ])
    .await;
    for (path, permanent, sentence) in [
        ("/huge", true, "it has 1.0 TB, and at most 500 kB can be taken"),
        ("/endless", true, "it has more, and at most 500 kB can be taken"),
        ("/stalls", false, "its server does not answer in time"),
        ("/short", false, "its server cannot be reached, or the connection broke"),
        ("/gone", true, "it is no longer there"),
        ("/busy", false, "its server answers with an error (503)"),
        ("/part", true, "its server answers with an error (206)"),
        ("/nonsense", false, "its server cannot be reached, or the connection broke"),
    ] {
        let outcome = ground.take(&server, path).await;
        assert_eq!(failure(&outcome), (Side::Web, permanent, sentence), "{path}");
    }
    assert!(ground.media.kept.lock().unwrap().is_empty());
    // One that gives a little again and again: the whole has its time too.
    let files = ground.files(&server, 1_000_000, Duration::from_secs(1));
    let job = Job::Take { url: server.url("files.test", "/drips"), name: "x".to_owned(), mime: None, preview: None };
    assert_eq!(failure(&files.run(&transfer(job)).await), (Side::Web, true, "it takes too long"));
}

#[tokio::test]
async fn a_homeserver_that_does_not_take_it_is_named() {
    let server = WebServer::start(vec![("/cat", ok("image/png", PNG))]).await;
    for (refuses, permanent, sentence) in [
        ((413, r#"{"errcode":"M_TOO_LARGE"}"#), true, "it is too large for the homeserver"),
        ((403, r#"{"errcode":"M_FORBIDDEN"}"#), true, "the homeserver refuses it"),
        ((502, "<html>"), false, "the homeserver did not do its part"),
    ] {
        let ground = ground(Media { refuses: Some(refuses), ..media() }).await;
        let outcome = ground.take(&server, "/cat").await;
        assert_eq!(failure(&outcome), (Side::Matrix, permanent, sentence));
    }
}

// ---- from Matrix to a slot

#[tokio::test]
async fn media_is_put_into_its_slot() {
    let ground = ground(media()).await;
    let server =
        WebServer::start(vec![("/slot", Says::Takes("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n"))]).await;
    for media in ["known", "streamed"] {
        assert_eq!(ground.put(&server, media, 5, "/slot").await, TransferOutcome::Uploaded);
        assert_eq!(server.bodies.lock().unwrap().pop().unwrap(), b"hello");
    }
    let heads = server.heads.lock().unwrap().clone();
    for wanted in ["PUT /slot", "authorization: Basic x", "content-type: image/png", "content-length: 5"] {
        assert!(heads[0].contains(wanted), "{wanted} in {}", heads[0]);
    }
    assert!(heads.iter().all(|head| !head.contains("as-token")), "our token goes to nobody else");
    assert!(ground.media.tokens.lock().unwrap().iter().all(|token| token == "Bearer as-token"));
    // Another size than was announced: nothing is put anywhere.
    for media in ["known", "streamed"] {
        assert_eq!(ground.put(&server, media, 6, "/slot").await, TransferOutcome::Size(5));
    }
    assert_eq!(server.asked(), 2);
    let files = ground.files(&server, 1_000, Duration::from_mins(1));
    for media in ["known", "streamed"] {
        let job = Job::Measure { media: format!("mxc://h.test/{media}") };
        assert_eq!(files.run(&transfer(job)).await, TransferOutcome::Size(5));
    }
}

#[tokio::test]
async fn a_slot_that_does_not_take_it_gets_a_sentence() {
    let ground = ground(media()).await;
    let inside = WebServer::start(vec![("/", Says::Takes("HTTP/1.1 201 x\r\ncontent-length: 0\r\n\r\n"))]).await;
    let server = WebServer::start(vec![
        ("/expired", Says::Takes("HTTP/1.1 403 x\r\ncontent-length: 0\r\n\r\n")),
        ("/large", Says::Takes("HTTP/1.1 413 x\r\ncontent-length: 0\r\n\r\n")),
        ("/busy", Says::Takes("HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n")),
        ("/away", redirect(&inside.url("files.test", "/"))),
        ("/slot", Says::Takes("HTTP/1.1 201 x\r\ncontent-length: 0\r\n\r\n")),
    ])
    .await;
    for (path, permanent) in [("/expired", false), ("/large", true), ("/busy", false), ("/away", true)] {
        let outcome = ground.put(&server, "known", 5, path).await;
        let (at, lasting, sentence) = failure(&outcome);
        assert_eq!((at, lasting), (Side::Web, permanent), "{path}: {sentence}");
    }
    assert_eq!(inside.asked(), 0, "a redirect of what we send is not followed");
    let gone = ground.put(&server, "gone", 5, "/slot").await;
    assert_eq!(failure(&gone), (Side::Matrix, true, "the homeserver does not have it"));
    let broken = ground.put(&server, "breaks", 9, "/slot").await;
    assert_eq!(failure(&broken).0, Side::Matrix);
    assert!(!failure(&broken).1 && server.bodies.lock().unwrap().iter().all(|body| body.len() == 5));
    // A slot inside is no more reached than a link.
    let slot = Slot { put: format!("https://127.0.0.1:{}/", inside.port), headers: Vec::new(), get: String::new() };
    let job = Job::Put { media: "mxc://h.test/known".to_owned(), size: 5, mime: "image/png".to_owned(), slot };
    let outcome = ground.files(&server, 1_000, Duration::from_mins(1)).run(&transfer(job)).await;
    assert_eq!(
        failure(&outcome),
        (Side::Web, true, "your server's upload service did not take it (its address is a private one)")
    );
    assert_eq!(inside.asked(), 0);
}
