//! STARTTLS, the mechanism, the token, bind.
use std::time::Duration;

use super::client::{Client, DOMAIN, condition, stream_error};
use super::{SOON, Stage};
use crate::messenger_service::wire::Frame;
use crate::messenger_service::{Event, MISMATCHED_NAME, Refusal};

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

#[tokio::test]
async fn nothing_is_offered_before_tls() {
    let stage = Stage::plain().await;
    let mut client = Client::connect(stage.service.xmpp_addr()).await;
    let features = client.open().await;
    assert_eq!(features.children.len(), 1);
    assert_eq!(features.children[0].name, "starttls");
    let refusal = client.auth("EwA").await;
    assert_eq!(stream_error(&refusal).0, "policy-violation");
}

#[tokio::test]
async fn the_token_decides_the_jid_and_the_client_the_resource() {
    let stage = Stage::plain().await;
    let token = stage.service.access_token(&stage.me.jid, SOON).unwrap();
    let (mut client, features) = Client::up_to_features(&stage.service, stage.service.xmpp_addr()).await;
    let mechanisms = features.child("mechanisms", SASL).unwrap();
    let names: Vec<_> = mechanisms.children.iter().map(|it| it.text.as_str()).collect();
    assert_eq!(names, ["X-MESSENGER-OAUTH2"]);
    let success = client.auth(&token).await;
    assert_eq!((success.name.as_str(), success.text.as_str()), ("success", ""));
    let reply = client.bind("kitchen").await;
    assert_eq!(client.jid, format!("{}/kitchen", stage.me.jid));
    assert_eq!(reply.attr("from"), Some(DOMAIN));
    let (local, domain) = stage.me.jid.split_once('@').unwrap();
    assert!(local.len() == 16 && local.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')));
    assert_eq!(domain, DOMAIN);
    let session = client.iq("set", None, "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>").await;
    assert_eq!(session.attr("type"), Some("result"));
    assert_eq!(stage.service.counters_of(&stage.me.jid).unwrap().sign_ins, 1);
}

#[tokio::test]
async fn another_domain_is_unknown() {
    let stage = Stage::plain().await;
    let mut client = Client::connect(stage.service.xmpp_addr()).await;
    client
        .send("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='a.test'>")
        .await;
    assert!(matches!(client.frame().await, Some(Frame::Header(_))));
    assert_eq!(stream_error(&client.stanza().await).0, "host-unknown");
}

#[tokio::test]
async fn a_refused_token_ends_the_connection() {
    let stage = Stage::plain().await;
    let spent = stage.service.access_token(&stage.me.jid, Duration::ZERO).unwrap();
    let refusals = [Refusal::NotAuthorized, Refusal::CredentialsExpired, Refusal::TemporaryAuthFailure];
    for (refusal, token) in refusals.into_iter().zip(["EwAunknown", &spent, &spent]) {
        stage.service.set(|switches| switches.refusal = refusal);
        let (mut client, _) = Client::up_to_features(&stage.service, stage.service.xmpp_addr()).await;
        let failure = client.auth(token).await;
        assert_eq!((failure.name.as_str(), failure.children[0].name.as_str()), ("failure", refusal.condition()));
        assert_eq!(client.frame().await, Some(Frame::Footer));
        assert_eq!(client.frame().await, None);
    }
    let counters = stage.service.counters();
    assert_eq!((counters.auth_elements, counters.refused, counters.sign_ins), (3, 3, 0));
    assert_eq!(stage.service.counters_of(&stage.me.jid).unwrap().auth_elements, 2);
}

#[tokio::test]
async fn good_tokens_can_be_refused_a_number_of_times() {
    let stage = Stage::plain().await;
    let token = stage.service.access_token(&stage.me.jid, SOON).unwrap();
    stage.service.refuse_next_sign_ins(2);
    for expected in ["failure", "failure", "success"] {
        let (mut client, _) = Client::up_to_features(&stage.service, stage.service.xmpp_addr()).await;
        assert_eq!(client.auth(&token).await.name, expected);
    }
    let mut events = stage.service.messages_to(&stage.me.jid).unwrap();
    assert_eq!(events.next().await, Ok(Event::Refused { account: Some(stage.me.jid.clone()) }));
}

#[tokio::test]
async fn a_token_that_ends_in_mid_session_does_not_end_the_stream() {
    let stage = Stage::plain().await;
    let lifetime = Duration::from_millis(1500);
    let token = stage.service.access_token(&stage.me.jid, lifetime).unwrap();
    let made = tokio::time::Instant::now();
    let (mut client, _) = Client::up_to_features(&stage.service, stage.service.xmpp_addr()).await;
    assert_eq!(client.auth(&token).await.name, "success");
    client.bind("x").await;
    tokio::time::sleep_until(made + lifetime).await;
    assert!(client.settle().await.is_empty());
    let (mut second, _) = Client::up_to_features(&stage.service, stage.service.xmpp_addr()).await;
    assert_eq!(second.auth(&token).await.name, "failure");
}

#[tokio::test]
async fn the_mechanism_may_have_a_trailing_blank() {
    let stage = Stage::new(|settings| settings.switches.trailing_blank = true).await;
    let (_, features) = Client::up_to_features(&stage.service, stage.service.xmpp_addr()).await;
    assert_eq!(features.child("mechanisms", SASL).unwrap().children[0].text, "X-MESSENGER-OAUTH2 ");
}

#[tokio::test]
async fn the_certificate_can_mismatch() {
    let stage = Stage::new(|settings| settings.switches.mismatched_certificate = true).await;
    let connect = async |name: &str| {
        let mut client = Client::connect(stage.service.xmpp_addr()).await;
        client.secure(&stage.service, name).await
    };
    let why = connect(DOMAIN).await.unwrap_err().to_string();
    assert!(why.contains("certificate"), "{why}");
    connect(MISMATCHED_NAME).await.unwrap();
    stage.service.set(|switches| switches.mismatched_certificate = false);
    connect(DOMAIN).await.unwrap();
    connect("xmpp.messenger.live.com").await.unwrap();
}

#[tokio::test]
async fn the_same_full_jid_gives_way_and_another_stands_beside() {
    let stage = Stage::plain().await;
    let mut first = stage.client().await;
    let second = stage.client().await;
    assert_eq!(first.jid, second.jid);
    assert_eq!(stream_error(&first.stanza().await).0, "conflict");
    let token = stage.service.access_token(&stage.me.jid, SOON).unwrap();
    let (mut third, _) = Client::up_to_features(&stage.service, stage.service.xmpp_addr()).await;
    third.auth(&token).await;
    third.bind("third").await;
    assert_eq!(stage.service.clients(&stage.me.jid).unwrap().len(), 2);
}

#[tokio::test]
async fn own_pem_files_are_shown() {
    let made = Stage::plain().await;
    let folder = tempfile::tempdir().unwrap();
    // A root of its own, used as the leaf too.
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![DOMAIN.to_owned()]).unwrap().self_signed(&key).unwrap();
    let (chain, key_file) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let stage = Stage::new(|settings| {
        settings.certificate = crate::messenger_service::Certificate::Files {
            chain: chain.clone(),
            key: key_file.clone(),
            ca: chain.clone(),
        };
    })
    .await;
    let mut client = Client::connect(stage.service.xmpp_addr()).await;
    client.secure(&stage.service, DOMAIN).await.unwrap();
    let mut client = Client::connect(stage.service.xmpp_addr()).await;
    client.secure(&made.service, DOMAIN).await.unwrap_err();
}

#[tokio::test]
async fn what_comes_before_the_bind_is_not_served() {
    let stage = Stage::plain().await;
    let token = stage.service.access_token(&stage.me.jid, SOON).unwrap();
    let (mut client, _) = Client::up_to_features(&stage.service, stage.service.xmpp_addr()).await;
    client.auth(&token).await;
    client.open().await;
    client.send("<iq type='get' id='x'><query xmlns='jabber:iq:roster'/></iq>").await;
    assert_eq!(stream_error(&client.stanza().await).0, "not-authorized");
    let mut live = stage.client().await;
    let reply = live.iq("get", None, "<query xmlns='jabber:iq:version'/>").await;
    assert_eq!(condition(&reply), "service-unavailable");
}
