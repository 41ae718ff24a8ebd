//! Stanzas made to fill memory or the stack. Each is cut to bounds, and the next arrives on the same stream.

use super::*;

/// No part of a stanza that is passed on is longer (the guard's own bound is 1 MiB for the whole).
const BOUND: usize = 2 * 1024 * 1024;

async fn up() -> (Server, Client, Peer<TlsStream<TcpStream>>) {
    let server = Server::new().await;
    let mut client = Client::start(server.settings(), order(password()));
    let peer = server.accept_bound(false).await;
    client.up().await;
    (server, client, peer)
}

fn depth(element: &minidom::Element) -> usize {
    1 + element.children().map(depth).max().unwrap_or(0)
}

fn length(element: &minidom::Element) -> usize {
    let attributes: usize = element.attrs().iter().map(|(_, value)| value.len()).sum();
    element.text().len() + attributes + element.children().map(length).sum::<usize>()
}

/// Sends the bomb in pieces, then a plain message; gives what came of the bomb.
async fn survives(pieces: impl Iterator<Item = String> + Send + 'static) -> minidom::Element {
    let (_server, mut client, mut peer) = up().await;
    let writer = tokio::spawn(async move {
        for piece in pieces {
            peer.send(&piece).await;
        }
        peer.send("<message id='next'><body>whole</body></message>").await;
        peer
    });
    let bomb = client.stanza().await;
    let next = client.stanza().await;
    assert_eq!((next.attr("id"), next.children().next().unwrap().text().as_str()), (Some("next"), "whole"));
    writer.await.unwrap();
    bomb
}

#[tokio::test]
async fn a_stanza_of_100_megabytes_is_cut() {
    let chunk = "x".repeat(1 << 20);
    let pieces = std::iter::once("<message id='bomb'><body>".to_owned())
        .chain((0..100).map(move |_| chunk.clone()))
        .chain(std::iter::once("</body></message>".to_owned()));
    let before = messenger_bridge::xmpp::cuts();
    let bomb = survives(pieces).await;
    assert!(messenger_bridge::xmpp::cuts() > before, "and counted, for the metrics");
    assert_eq!(bomb.attr("id"), Some("bomb"));
    assert!(length(&bomb) <= BOUND, "{}", length(&bomb));
}

#[tokio::test]
async fn a_stanza_of_a_million_children_is_cut() {
    let chunk = "<a/>".repeat(100_000);
    let pieces = std::iter::once("<message id='bomb'>".to_owned())
        .chain((0..10).map(move |_| chunk.clone()))
        .chain(std::iter::once("</message>".to_owned()));
    let bomb = survives(pieces).await;
    assert!(bomb.children().count() < 400_000, "{}", bomb.children().count());
}

#[tokio::test]
async fn elements_nested_a_hundred_thousand_deep_are_cut() {
    let pieces =
        ["<message id='bomb'>".to_owned(), "<a>".repeat(100_000), "</a>".repeat(100_000), "</message>".to_owned()];
    let bomb = survives(pieces.into_iter()).await;
    assert!(depth(&bomb) <= 256, "{}", depth(&bomb));
}

#[tokio::test]
async fn a_hundred_thousand_attributes_are_cut() {
    let attributes: String = (0..100_000).map(|number| format!(" a{number}='x'")).collect();
    let bomb = survives([format!("<message id='bomb'><body{attributes}>x</body></message>")].into_iter()).await;
    assert!(bomb.children().all(|child| child.attrs().iter().count() <= 1_000));
    let namespaces: String = (0..100_000).map(|number| format!(" xmlns:n{number}='urn:{number}'")).collect();
    let bomb = survives([format!("<message id='bomb'><body{namespaces}>x</body></message>")].into_iter()).await;
    assert_eq!(bomb.attr("id"), Some("bomb"));
}

/// The billion laughs: declarations are cut before the parser, and references other than the five of XML are text.
#[tokio::test]
async fn declared_entities_are_neither_declared_nor_expanded() {
    let laughs = (1..10).map(|level| format!("<!ENTITY l{level} '{}'>", format!("&l{};", level - 1).repeat(10)));
    let entities: String = std::iter::once("<!ENTITY l0 'lol'><!ENTITY file SYSTEM 'file:///etc/passwd'>".to_owned())
        .chain(laughs)
        .collect();
    let pieces =
        [format!("<!DOCTYPE x [{entities}]>"), "<message id='bomb'><body>&l9;&file;&amp;</body></message>".to_owned()];
    let bomb = survives(pieces.into_iter()).await;
    let text = bomb.children().next().unwrap().text();
    assert!(text.len() < 64 && !text.contains("lol") && !text.contains("root:"), "{text}");
}
