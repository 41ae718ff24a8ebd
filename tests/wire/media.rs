//! Small pictures and bits of binary on their way into a homeserver's media.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use messenger_bridge::domain::file::{Job, Preview, Stored, TransferOutcome};

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
