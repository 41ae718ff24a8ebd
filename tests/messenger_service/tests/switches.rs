//! Redirects, the sender of IQ replies, and what cuts a connection.
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::client::{Client, DOMAIN, body, stream_error};
use super::{SOON, Stage};
use crate::messenger_service::session::BROKEN;
use crate::messenger_service::wire::Frame;
use crate::messenger_service::{IqFrom, Redirect};

/// What a new connection gets first: the host of a redirect, or none when it is served.
async fn first(stage: &Stage, address: SocketAddr) -> Option<String> {
    let (mut client, first) = Client::up_to_features(&stage.service, address).await;
    if first.name == "features" {
        return None;
    }
    let (condition, host, _) = stream_error(&first);
    assert_eq!(condition, "see-other-host");
    assert_eq!(client.frame().await, Some(Frame::Footer));
    Some(host.to_owned())
}

#[tokio::test]
async fn redirects_come_never_once_always_or_in_a_loop() {
    let stage = Stage::plain().await;
    let (front, gateway) = (stage.service.xmpp_addr(), stage.service.gateway_addr());
    let there = Some(gateway.to_string());
    for (redirect, expected) in [
        (Redirect::Never, [&None, &None, &None]),
        (Redirect::Once, [&there, &None, &None]),
        (Redirect::Always, [&there, &there, &None]),
        (Redirect::Loop, [&there, &there, &there]),
    ] {
        stage.service.set(|switches| switches.redirect = redirect);
        for (address, expected) in [front, front, gateway].into_iter().zip(expected) {
            assert_eq!(first(&stage, address).await, *expected, "{redirect:?}");
        }
    }
    assert_eq!(stage.service.counters().redirects, 6);
    assert_eq!(stage.service.counters().gateway_connections, 4);
}

#[tokio::test]
async fn a_redirect_may_come_after_authentication() {
    let stage = Stage::new(|settings| settings.switches.redirect = Redirect::AfterAuth).await;
    let token = stage.service.access_token(&stage.me.jid, SOON).unwrap();
    let (mut client, _) = Client::up_to_features(&stage.service, stage.service.xmpp_addr()).await;
    assert_eq!(client.auth(&token).await.name, "success");
    let answer = client.open().await;
    assert_eq!(stream_error(&answer).1, stage.service.gateway_addr().to_string());
    let (mut client, _) = Client::up_to_features(&stage.service, stage.service.gateway_addr()).await;
    assert_eq!(client.auth(&token).await.name, "success");
    client.bind("x").await;
}

#[tokio::test]
async fn a_redirect_names_host_and_port_as_switched() {
    let stage = Stage::new(|settings| settings.switches.redirect = Redirect::Always).await;
    let front = stage.service.xmpp_addr();
    let port = stage.service.gateway_addr().port();
    stage.service.set(|switches| switches.redirect_port = false);
    assert_eq!(first(&stage, front).await.as_deref(), Some("127.0.0.1"));
    stage.service.set(|switches| {
        switches.redirect_host = Some("baymsg.localhost".into());
        switches.redirect_upper_case = true;
    });
    assert_eq!(first(&stage, front).await.as_deref(), Some("BAYMSG.LOCALHOST"));
    stage.service.set(|switches| switches.redirect_port = true);
    assert_eq!(first(&stage, front).await, Some(format!("BAYMSG.LOCALHOST:{port}")));
}

#[tokio::test]
async fn iq_replies_come_from_where_the_switch_says() {
    let stage = Stage::plain().await;
    let mut client = stage.client().await;
    let roster = "<query xmlns='jabber:iq:roster'/>";
    for (from, expected) in
        [(IqFrom::Domain, Some(DOMAIN)), (IqFrom::Bare, Some(stage.me.jid.as_str())), (IqFrom::None, None)]
    {
        stage.service.set(|switches| switches.iq_from = from);
        assert_eq!(client.iq("get", None, roster).await.attr("from"), expected);
        // Errors as well; and who was addressed always answers in its own name.
        assert_eq!(client.iq("get", None, "<nothing xmlns='x'/>").await.attr("from"), expected);
        let vcard = client.iq("get", Some(&stage.heron.jid), "<vCard xmlns='vcard-temp'/>").await;
        assert_eq!(vcard.attr("from"), Some(stage.heron.jid.as_str()));
    }
}

#[tokio::test]
async fn white_space_does_not_keep_a_client_but_pings_do() {
    let stage = Stage::plain().await;
    let mut pinging = stage.client().await;
    let mut blank = Client::signed_in(&stage.service, &stage.heron).await;
    // Takes effect on clients that are already there.
    stage.service.set(|switches| switches.idle_cut_ms = 600);
    let begun = Instant::now();
    let mut events = stage.service.messages_to(&stage.heron.jid).unwrap();
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    let cut =
        events.wait(SOON, |event| matches!(event, crate::messenger_service::Event::SignedOut { .. }).then_some(()));
    tokio::pin!(cut);
    loop {
        tokio::select! {
            cut = &mut cut => break cut.unwrap(),
            _ = pace.tick() => {
                assert!(pinging.settle().await.is_empty());
                blank.try_send(" ").await;
            }
        }
    }
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!(blank.frame().await, None);
    pinging.settle().await;
    assert_eq!(stage.service.counters().idle_cuts, 1);
    assert_eq!(stage.service.clients(&stage.me.jid).unwrap().len(), 1);
}

#[tokio::test]
async fn a_stanza_near_16_kb_breaks_the_parser() {
    let stage = Stage::plain().await;
    stage.service.online(&stage.heron.jid, "").unwrap();
    let mut inbox = stage.service.messages_to(&stage.heron.jid).unwrap();
    let message = |length: usize| {
        format!("<message type='chat' to='{}'><body>{}</body></message>", stage.heron.jid, "x".repeat(length))
    };
    let mut client = stage.client().await;
    client.send(&message(12_000)).await;
    assert_eq!(inbox.message(SOON).await.unwrap().len(), 12_000);
    client.send(&message(16_000)).await;
    let error = client.stanza().await;
    assert_eq!(stream_error(&error), ("not-well-formed", "", BROKEN));
    assert!(BROKEN.starts_with("XmlException due to: Unexpected end of file"));
    assert_eq!(client.frame().await, Some(Frame::Footer));
    assert_eq!(stage.service.counters().stanza_cuts, 1);
    stage.service.set(|switches| switches.stanza_limit = 0);
    let mut client = stage.client().await;
    client.send(&message(200_000)).await;
    assert_eq!(inbox.message(SOON).await.unwrap().len(), 200_000);
}

#[tokio::test]
async fn a_cut_comes_without_a_word() {
    let stage = Stage::plain().await;
    let mut client = stage.client().await;
    assert_eq!(stage.service.cut(&stage.me.email).unwrap(), 1);
    assert_eq!(client.frame().await, None);
    assert_eq!(stage.service.cut(&stage.me.email).unwrap(), 0);
}

#[tokio::test]
async fn a_closed_stream_is_closed_in_order() {
    let stage = Stage::plain().await;
    let mut client = stage.client().await;
    client.send("</stream:stream>").await;
    assert_eq!(client.frame().await, Some(Frame::Footer));
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn what_is_not_xml_ends_the_stream() {
    let stage = Stage::plain().await;
    for wrong in ["<message><body></message>", "<!-- no -->", "<message>&lol;</message>", "<a><![CDATA[\u{1}]]></a>"] {
        let mut client = stage.client().await;
        client.send(wrong).await;
        assert_eq!(stream_error(&client.stanza().await).0, "not-well-formed", "{wrong}");
    }
}
