//! Small pictures and bits of binary on their way into a homeserver's media; and what those get who come with a link.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use messenger_bridge::{
    app::public_media::PublicMedia,
    domain::{
        DebtId, Input, LoginId, Timestamp,
        file::{Job, LinkId, LinkKey, Preview, PublicFile, Stored, TransferOutcome},
    },
    translate::public_link,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::files::{Ground, PNG, Says, WebServer, ground, media, ok, transfer};

/// What is stored of `/film` with this small picture.
async fn with(ground: &Ground, server: &WebServer, preview: Preview) -> Stored {
    let url = server.url("files.test", "/film");
    let job = Job::Take { url, name: "film.mp4".to_owned(), mime: None, preview: Some(preview) };
    match ground.files(server, 1_000_000, Duration::from_mins(1)).run(&transfer(job)).await {
        TransferOutcome::Stored(stored) => stored,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_small_picture_is_stored_beside_its_file_and_never_in_its_way() {
    let ground = ground(media()).await;
    let large = [PNG, &vec![0; 300_000]].concat();
    let server = WebServer::start(vec![
        ("/film", ok("video/mp4", b"film")),
        ("/small", ok("text/html", PNG)),
        ("/page", ok("image/png", b"<html>")),
        ("/large", ok("image/png", &large)),
        ("/endless", Says::Endless("HTTP/1.1 200 OK\r\n\r\n")),
        ("/stalls", Says::Stalls("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")),
        ("/gone", Says::Bytes(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec())),
    ])
    .await;
    for preview in [Preview::Bytes(PNG.to_vec()), Preview::At(server.url("files.test", "/small"))] {
        let stored = with(&ground, &server, preview).await;
        let small = stored.preview.unwrap();
        assert_eq!((small.mime.as_str(), small.dimensions, small.size), ("image/png", Some((2, 1)), PNG.len() as u64));
        let kept = ground.media.kept.lock().unwrap().pop().unwrap();
        assert!(kept.0.contains("thumbnail.png") && kept.2 == PNG, "{kept:?}");
    }
    let before = ground.media.kept.lock().unwrap().len();
    let at = |path: &str| Preview::At(server.url("files.test", path));
    let inside = Preview::At(format!("https://127.0.0.1:{}/small", server.port));
    let bad = [at("/page"), at("/large"), at("/endless"), at("/stalls"), at("/gone"), inside, Preview::Bytes(large)];
    let count = bad.len();
    for preview in bad {
        let name = format!("{preview:?}").chars().take(60).collect::<String>();
        let stored = with(&ground, &server, preview).await;
        assert_eq!((stored.mime.as_str(), stored.preview), ("video/mp4", None), "{name}");
    }
    assert_eq!(ground.media.kept.lock().unwrap().len(), before + count, "the files alone");
}

#[tokio::test]
async fn a_bit_of_binary_is_stored_if_it_is_a_picture() {
    let ground = ground(media()).await;
    let server = WebServer::start(Vec::new()).await;
    let files = ground.files(&server, 1_000_000, Duration::from_mins(1));
    let keep =
        async |bytes: &[u8]| files.run(&transfer(Job::Keep { name: "wave".to_owned(), bytes: bytes.to_vec() })).await;
    let TransferOutcome::Stored(stored) = keep(PNG).await else { panic!() };
    assert_eq!((stored.mime.as_str(), stored.dimensions), ("image/png", Some((2, 1))));
    assert!(ground.media.kept.lock().unwrap()[0].0.contains("filename=wave.png"));
    for hostile in [b"<svg xmlns='http://www.w3.org/2000/svg'/>".as_slice(), b"<html>", b""] {
        assert!(format!("{:?}", keep(hostile).await).contains("it is no picture"));
    }
    assert_eq!(ground.media.kept.lock().unwrap().len(), 1);
}

// ---- links

/// The endpoint, with an engine that knows a file for each of these.
struct Links {
    port: u16,
    key: LinkKey,
    engine: tokio::task::JoinHandle<()>,
}

const FILES: [(&str, &str, Option<&str>); 6] = [
    ("known", "cat.png", Some("image/png")),
    ("page", "x.html", Some("text/html")),
    ("page", "x.svg", Some("image/svg+xml")),
    ("known", "a.pdf", Some("application/pdf")),
    ("gone", "gone.png", Some("image/png")),
    ("stalls", "slow.png", None),
];

async fn links() -> Links {
    let ground = ground(media()).await;
    let server = WebServer::start(Vec::new()).await;
    let files = Arc::new(ground.files(&server, 1_000_000, Duration::from_mins(1)));
    let key = LinkKey::new(zeroize::Zeroizing::new([7; 32]));
    let (mailbox, mut inputs) = mpsc::channel(16);
    let public = PublicMedia::new(key.clone(), files, mailbox);
    let router = public.router();
    let engine = tokio::spawn(async move {
        while let Some(input) = inputs.recv().await {
            let Input::PublicFileAsked { ticket, link } = input else { panic!("{input:?}") };
            let known = usize::try_from(link.debt.0).ok().and_then(|number| FILES.get(number));
            let file = known.map(|(id, name, mime)| PublicFile {
                media: format!("mxc://h.test/{id}"),
                name: (*name).to_owned(),
                mime: mime.map(str::to_owned),
                event: ruma::owned_event_id!("$e"),
                expires: Timestamp(i64::MAX),
            });
            public.answer(ticket, file);
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Links { port, key, engine }
}

impl Links {
    fn path(&self, number: u64, ends: i64) -> String {
        let id = LinkId { login: LoginId::derive("@a:h", "x", "a@b"), debt: DebtId(number) };
        public_link::write("", &self.key, &id, Timestamp(ends), "whatever")
    }

    /// Head and body of an answer.
    async fn ask(&self, method: &str, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let request = format!("{method} {path} HTTP/1.0\r\nhost: x\r\nrange: bytes=1-2\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let kept = head.lines().filter(|line| !line.starts_with("date:"));
        (kept.collect::<Vec<_>>().join("\n").to_lowercase(), body.to_owned())
    }
}

#[tokio::test]
async fn whoever_has_the_link_has_the_file_and_a_browser_runs_nothing_of_it() {
    let links = links().await;
    for (number, kind, how, body) in [
        (0, "image/png", "inline", "hello"),
        (1, "application/octet-stream", "attachment", "<script>alert(1)</script>"),
        (2, "application/octet-stream", "attachment", "<script>alert(1)</script>"),
        (3, "application/pdf", "attachment", "hello"),
    ] {
        let (head, said) = links.ask("GET", &links.path(number, i64::MAX)).await;
        assert!(head.starts_with("http/1.0 200"), "{head}");
        for wanted in [
            format!("content-type: {kind}"),
            format!("content-disposition: {how}; filename="),
            format!("content-length: {}", body.len()),
            "content-security-policy: sandbox; default-src 'none'".to_owned(),
            "x-content-type-options: nosniff".to_owned(),
            "cache-control: private, no-store".to_owned(),
            "referrer-policy: no-referrer".to_owned(),
            "accept-ranges: none".to_owned(),
        ] {
            assert!(head.contains(&wanted), "{wanted} in {head}");
        }
        assert_eq!(said, body);
        let (of_head, nothing) = links.ask("HEAD", &links.path(number, i64::MAX)).await;
        assert_eq!((of_head, nothing.as_str()), (head, ""));
    }
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_link_has_the_same_answer() {
    let links = links().await;
    let good = links.path(0, i64::MAX);
    let (token, _) = good.strip_prefix("/public/").unwrap().split_once('/').unwrap();
    let swapped = if token.starts_with('a') { "b" } else { "a" };
    let wrong = [
        links.path(0, 1),
        links.path(99, i64::MAX),
        links.path(4, i64::MAX),
        format!("/public/{swapped}{}/cat.png", &token[1..]),
        format!("/public/{token}"),
        "/public/x".to_owned(),
        "/public/x/y/z".to_owned(),
        format!("/public/{}/cat.png", "x".repeat(4_000)),
        "/public/%2e%2e/%2e%2e".to_owned(),
        "/public/%ff%fe/cat.png".to_owned(),
    ];
    let mut answers = Vec::new();
    for path in &wrong {
        answers.push((path, links.ask("GET", path).await));
    }
    assert!(answers[0].1.0.starts_with("http/1.0 404"), "{answers:?}");
    for (path, answer) in &answers {
        assert_eq!(answer, &answers[0].1, "{path}");
    }
    let (head, _) = links.ask("POST", &good).await;
    assert!(head.starts_with("http/1.0 405"), "{head}");
    // The engine is gone: so is everything.
    links.engine.abort();
    assert!(links.ask("GET", &good).await.0.starts_with("http/1.0 404"));
}

#[tokio::test]
async fn so_many_are_given_at_once_and_no_more() {
    let links = links().await;
    let mut slow = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(("127.0.0.1", links.port)).await.unwrap();
        let request = format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", links.path(5, i64::MAX));
        stream.write_all(request.as_bytes()).await.unwrap();
        // It has begun.
        assert!(stream.read_u8().await.is_ok());
        slow.push(stream);
    }
    let (head, _) = links.ask("GET", &links.path(0, i64::MAX)).await;
    assert!(head.starts_with("http/1.0 503") && head.contains("retry-after: 30"), "{head}");
    // A forged one is told the same as ever.
    assert!(links.ask("GET", "/public/x/y").await.0.starts_with("http/1.0 404"));
    // Whoever goes away gives up the place.
    slow.clear();
    for _ in 0..200 {
        if links.ask("GET", &links.path(0, i64::MAX)).await.0.starts_with("http/1.0 200") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no place became free");
}
