//! A stream that is up: stanzas, acknowledgements, keep-alives, and peers that are slow or gone.

use messenger_bridge::{domain::stream::StreamOrder, xmpp::MAX_ORDERS};

use super::*;

async fn up(managed: bool) -> (Server, Client, Peer<TlsStream<TcpStream>>) {
    let server = Server::new().await;
    let mut client = Client::start(server.settings(), order(password()));
    let peer = server.accept_bound(managed).await;
    client.up().await;
    (server, client, peer)
}

#[tokio::test]
async fn hostile_stanzas_do_not_end_a_stream_nor_lose_the_next() {
    let (_server, mut client, mut peer) = up(true).await;
    let huge = "x".repeat(100_000);
    let deep = "<a>".repeat(500) + &"</a>".repeat(500);
    let hostile = [
        format!("<message id='0' evil='{huge}'><body evil='{huge}'>hi</body></message>"),
        format!("<message id='1'><body>{}</body><x/></message>", "ü".repeat(1024 * 1024)),
        format!("<presence id='2' from='a@b/😀 ✅' type='invisible'>{deep}<!-- c --><?php x?></presence>"),
        "<iq id='3' type=''><query xmlns='jabber:iq:roster'><item jid='@'/></query></iq>".to_owned(),
        "<message id='4' type='unheard-of' from=''>&nbsp;&#0;<![CDATA[<]]></message>".to_owned(),
    ];
    peer.send(&hostile.concat()).await;
    peer.send("<r xmlns='urn:xmpp:sm:3'/><message id='5'><body>whole</body></message>").await;
    for id in 0..5 {
        assert_eq!(client.stanza().await.attr("id"), Some(id.to_string().as_str()));
    }
    assert_eq!(client.stanza().await.children().next().unwrap().text(), "whole");
    client.handle.send(StreamOrder::Ack(6)).unwrap();
    peer.until("<a xmlns='urn:xmpp:sm:3' h='6'/>").await;
}

#[tokio::test]
async fn only_what_is_committed_is_acknowledged() {
    let (_server, mut client, mut peer) = up(true).await;
    peer.send("<message/><presence/><r xmlns='urn:xmpp:sm:3'/>").await;
    client.stanza().await;
    client.stanza().await;
    peer.until("<a xmlns='urn:xmpp:sm:3' h='0'/>").await;
    // The server asked, so it hears of the commit when it comes.
    client.handle.send(StreamOrder::Ack(1)).unwrap();
    peer.until("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
    client.handle.send(StreamOrder::Ack(2)).unwrap();
    peer.until("<a xmlns='urn:xmpp:sm:3' h='2'/>").await;
    // Unasked it hears of every twentieth, and at the end.
    for h in 3..=23 {
        client.handle.send(StreamOrder::Ack(h)).unwrap();
    }
    peer.until("<a xmlns='urn:xmpp:sm:3' h='22'/>").await;
    client.handle.send(StreamOrder::Suspend).unwrap();
    assert_eq!(peer.rest().await, "<a xmlns='urn:xmpp:sm:3' h='23'/>", "the stream is not closed");
    assert_eq!(client.down().await, StreamEnd::Closed);
}

#[tokio::test]
async fn what_is_sent_arrives_in_order_and_is_asked_about() {
    let (_server, mut client, mut peer) = up(true).await;
    let stanzas = |ids: std::ops::Range<u32>| ids.map(|id| element(&format!("<message id='{id}'/>"))).collect();
    client.handle.send(StreamOrder::Send(stanzas(0..3))).unwrap();
    client.handle.send(StreamOrder::Send(stanzas(3..4))).unwrap();
    let sent = peer.until("id='3'/>").await;
    peer.until("<r xmlns='urn:xmpp:sm:3'/>").await;
    let ids: Vec<_> = sent.match_indices("id='").map(|(at, _)| &sent[at + 4..=at + 4]).collect();
    assert_eq!(ids, ["0", "1", "2", "3"]);
    assert!(sent.starts_with("<message id='0'/>"), "no namespace is repeated: {sent}");
    peer.send("<a xmlns='urn:xmpp:sm:3' h='4'/><a xmlns='urn:xmpp:sm:3'/>").await;
    assert!(matches!(client.report().await, StreamReport::Acked(4)));
    client.handle.send(StreamOrder::Send(stanzas(4..5))).unwrap();
    client.handle.send(StreamOrder::Close).unwrap();
    let last = peer.until("</stream:stream>").await;
    assert!(
        last.contains("<message id='4'/>") && last.contains("<a xmlns='urn:xmpp:sm:3' h='0'/></stream:stream>"),
        "{last}"
    );
    peer.send("</stream:stream>").await;
    assert_eq!(client.down().await, StreamEnd::Closed);
}

/// XEP-0352 section 4: what the server is told of the person is no stanza, is not counted, and keeps its place.
#[tokio::test]
async fn whether_the_person_looks_is_told_in_its_place_and_not_asked_about() {
    let server = Server::new().await;
    let mut client = Client::start(server.settings(), order(password()));
    let mut peer = server.accept_signed_in().await;
    peer.open(&format!("{BIND}{SM}<csi xmlns='urn:xmpp:csi:0'/>")).await;
    peer.bind().await;
    peer.until("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    peer.send("<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/>").await;
    assert!(client.up().await.csi);
    client.handle.send(StreamOrder::Activity { active: false }).unwrap();
    assert_eq!(peer.until("/>").await, "<inactive xmlns='urn:xmpp:csi:0'/>");
    client.handle.send(StreamOrder::Send(vec![element("<presence id='1'/>")])).unwrap();
    assert_eq!(peer.until("sm:3'/>").await, "<presence id='1'/><r xmlns='urn:xmpp:sm:3'/>");
    client.handle.send(StreamOrder::Activity { active: true }).unwrap();
    assert_eq!(peer.until("/>").await, "<active xmlns='urn:xmpp:csi:0'/>", "nothing is asked about");
}

#[tokio::test]
async fn orders_given_before_the_stream_is_up_are_kept() {
    let server = Server::new().await;
    let mut client = Client::start(server.settings(), order(password()));
    client.handle.send(StreamOrder::Send(vec![element("<presence id='1'/>")])).unwrap();
    let mut peer = server.accept_bound(false).await;
    client.up().await;
    assert_eq!(peer.until("<presence id='1'/>").await, "<presence id='1'/>");
}

#[tokio::test]
async fn a_stream_can_be_given_up_before_it_is_up() {
    let server = Server::new().await;
    let mut client = Client::start(server.settings(), ConnectOrder { delay: 3_600_000, ..order(password()) });
    client.handle.send(StreamOrder::Close).unwrap();
    assert_eq!(client.down().await, StreamEnd::Closed);
}

#[tokio::test]
async fn an_idle_server_is_pinged_and_the_answer_is_nobodys_business() {
    let server = Server::new().await;
    let mut settings = server.settings();
    settings.timeouts.keepalive = Duration::from_millis(100);
    settings.timeouts.answer = Duration::from_millis(300);
    let mut client = Client::start(settings, order(password()));
    let mut peer = server.accept_bound(false).await;
    client.up().await;
    for kind in ["result", "error"] {
        let ping = peer.until("</iq>").await;
        assert!(ping.contains("<ping xmlns='urn:xmpp:ping'/>") && ping.contains("to='capulet.lit'"), "{ping}");
        let id = ping.split("id='").nth(1).unwrap().split('\'').next().unwrap();
        peer.send(&format!("<iq type='{kind}' id='{id}' from='capulet.lit'/>")).await;
    }
    peer.send("<message id='1'/>").await;
    assert_eq!(client.stanza().await.attr("id"), Some("1"));
    peer.until("</iq>").await;
    assert_eq!(client.down().await, StreamEnd::TimedOut { phase: "a sign of life".to_owned() });
}

#[tokio::test]
async fn with_stream_management_the_ping_is_not_counted() {
    let server = Server::new().await;
    let mut settings = server.settings();
    settings.timeouts.keepalive = Duration::from_millis(50);
    let mut client = Client::start(settings, order(password()));
    let mut peer = server.accept_bound(true).await;
    client.up().await;
    assert_eq!(peer.until("/>").await, "<r xmlns='urn:xmpp:sm:3'/>");
    peer.send("<a xmlns='urn:xmpp:sm:3' h='0'/>").await;
    assert!(matches!(client.report().await, StreamReport::Acked(0)));
}

#[tokio::test]
async fn a_full_mailbox_stops_reading_and_loses_nothing() {
    const STANZAS: usize = 3000;
    let server = Server::new().await;
    let mut settings = server.settings();
    // Our own slowness must not look like the server's silence.
    settings.timeouts.keepalive = Duration::from_millis(300);
    settings.timeouts.answer = Duration::from_millis(1);
    let mut client = Client::with_mailbox(settings, order(password()), 1);
    let mut peer = server.accept_bound(true).await;
    let writer = tokio::spawn(async move {
        for id in 0..STANZAS {
            peer.send(&format!("<message id='{id}'><body>{}</body></message>", "x".repeat(8000))).await;
        }
        peer
    });
    // 24 MB do not fit into any buffer between the two: the writer has to wait for us. This is our slowness itself, longer than
    // `keepalive` and `answer` together, and not a wait for something.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!writer.is_finished());
    client.up().await;
    for id in 0..STANZAS {
        assert_eq!(client.stanza().await.attr("id"), Some(id.to_string().as_str()));
    }
    let _peer = timeout(PATIENCE, writer).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_on_its_way_unconfirmed_has_a_bound_and_is_waited_for_only_so_long() {
    let server = Server::new().await;
    let mut settings = server.settings();
    settings.timeouts.write = Duration::from_millis(500);
    let mut client = Client::start(settings, order(password()));
    let mut peer = server.accept_bound(true).await;
    client.up().await;
    let stanza = |id: u32| element(&format!("<message id='{id}'><body>{}</body></message>", "x".repeat(1_000)));
    client.handle.send(StreamOrder::Send((1..=9).map(stanza).collect())).unwrap();
    let ids = |sent: &str| -> Vec<String> {
        sent.split("<message id='").skip(1).map(|rest| rest.split('\'').next().unwrap().to_owned()).collect()
    };
    let question = "<r xmlns='urn:xmpp:sm:3'/>";
    assert_eq!(ids(&peer.until(question).await), ["1", "2", "3", "4"]);
    // Half of it is confirmed: half as much follows, and nothing else until more is.
    peer.send("<a xmlns='urn:xmpp:sm:3' h='2'/>").await;
    assert!(matches!(client.report().await, StreamReport::Acked(2)));
    assert_eq!(ids(&peer.until(question).await), ["5", "6"]);
    peer.send("<a xmlns='urn:xmpp:sm:3' h='6'/>").await;
    assert!(matches!(client.report().await, StreamReport::Acked(6)));
    assert_eq!(ids(&peer.until(question).await), ["7", "8", "9"]);
    // The question goes although nothing else may.
    client.handle.send(StreamOrder::Send(vec![stanza(10)])).unwrap();
    assert_eq!(ids(&peer.until(question).await), ["10"]);
    // It goes on speaking, but has not taken what it was sent.
    let late = loop {
        peer.send("<message/>").await;
        match client.report().await {
            StreamReport::Stanza(_) => {}
            StreamReport::Down(end) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(late, StreamEnd::TimedOut { phase: "confirming what we send".to_owned() });
}

/// What the server has confirmed cannot be read while the mailbox is full: that is our own slowness, and no fault of the server's.
#[tokio::test]
async fn a_full_mailbox_is_not_taken_for_a_server_that_confirms_nothing() {
    let server = Server::new().await;
    let mut settings = server.settings();
    settings.timeouts.write = Duration::from_millis(200);
    let mut client = Client::with_mailbox(settings, order(password()), 1);
    let mut peer = server.accept_bound(true).await;
    client.up().await;
    peer.send("<message id='1'/><message id='2'/><message id='3'/><message id='4'/>").await;
    let stanza = |id: u32| element(&format!("<message id='{id}'><body>{}</body></message>", "x".repeat(1_000)));
    client.handle.send(StreamOrder::Send((1..=9).map(stanza).collect())).unwrap();
    peer.until("<r xmlns='urn:xmpp:sm:3'/>").await;
    peer.send("<a xmlns='urn:xmpp:sm:3' h='4'/>").await;
    // Our slowness itself, longer than `write`, and not a wait for something.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for id in 1..=4 {
        assert_eq!(client.stanza().await.attr("id"), Some(id.to_string().as_str()));
    }
    assert!(matches!(client.report().await, StreamReport::Acked(4)));
    assert!(peer.until("<r xmlns='urn:xmpp:sm:3'/>").await.contains("<message id='8'>"));
}

#[tokio::test]
async fn reading_goes_on_while_the_server_does_not_read() {
    let server = Server::new().await;
    let mut settings = server.settings();
    settings.timeouts.write = Duration::from_millis(500);
    let mut client = Client::start(settings, order(password()));
    let mut peer = server.accept_bound(false).await;
    client.up().await;
    let large = element(&format!("<message id='x'><body>{}</body></message>", "x".repeat(60_000)));
    client.handle.send(StreamOrder::Send(vec![large; 500])).unwrap();
    for id in 0..10 {
        peer.send(&format!("<message id='{id}'/>")).await;
        assert_eq!(client.stanza().await.attr("id"), Some(id.to_string().as_str()));
    }
    assert_eq!(client.down().await, StreamEnd::TimedOut { phase: "taking what we send".to_owned() });
}

#[tokio::test]
async fn a_stream_that_falls_behind_its_orders_is_ended() {
    let (_server, mut client, _peer) = up(true).await;
    let large = element(&format!("<message id='x'><body>{}</body></message>", "x".repeat(60_000)));
    let mut sent = 0;
    while client.handle.send(StreamOrder::Send(vec![large.clone(); 10])).is_ok() {
        sent += 1;
        assert!(sent <= 10 * MAX_ORDERS, "no bound");
        tokio::task::yield_now().await;
    }
    assert_eq!(client.down().await, StreamEnd::TimedOut { phase: "taking what we send".to_owned() });
}

#[tokio::test]
async fn what_came_before_the_end_is_reported_before_it() {
    let ns = "urn:ietf:params:xml:ns:xmpp-streams";
    let error = |condition: &str| StreamEnd::StreamError { condition: condition.to_owned(), text: None };
    let lost = |detail: &str| StreamEnd::Lost { detail: detail.to_owned() };
    for (last, end) in [
        (format!("<stream:error><conflict xmlns='{ns}'/></stream:error>"), error("conflict")),
        ("</stream:stream>".to_owned(), lost("the server closed the stream")),
        (String::new(), lost("the server closed the connection")),
    ] {
        let (_server, mut client, mut peer) = up(false).await;
        peer.send(&format!("<message id='1'/><message id='2'/>{last}")).await;
        peer.io.shutdown().await.unwrap();
        client.stanza().await;
        client.stanza().await;
        assert_eq!(client.down().await, end);
    }
    // Cut without a word of TLS, as a crash or a middlebox does.
    let (_server, mut client, peer) = up(false).await;
    drop(peer);
    assert_eq!(client.down().await, lost("the server closed the connection"));
    let (_server, mut client, mut peer) = up(false).await;
    peer.send("<message id='1'/><message></presence>").await;
    client.stanza().await;
    assert!(matches!(client.down().await, StreamEnd::Lost { .. }));
}

#[tokio::test]
async fn dropping_the_handle_suspends() {
    let (_server, Client { handle, mut reports, .. }, mut peer) = up(true).await;
    drop(handle);
    assert_eq!(peer.rest().await, "<a xmlns='urn:xmpp:sm:3' h='0'/>");
    assert!(matches!(reports.recv().await, Some((StreamId(5), StreamReport::Down(StreamEnd::Closed)))));
}
