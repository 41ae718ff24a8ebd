//! Every way in which there is no session: one connection, and a sentence that names the cause.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use messenger_bridge::domain::{
    credentials::{ScramHash, ScramKeys},
    stream::Refusal,
};
use rcgen::date_time_ymd;
use sha1::Digest as _;

use super::*;

async fn end(settings: NetworkSettings) -> StreamEnd {
    Client::start(settings, order(password())).down().await
}

#[tokio::test]
async fn encryption_that_is_not_offered_ends_it_without_a_word_of_the_password() {
    for (features, detail) in [
        (mechanisms(&["PLAIN"]), "it does not offer encryption"),
        ("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>".to_owned(), "it refused to begin encryption"),
    ] {
        let server = Server::new().await;
        let mut client = Client::start(server.settings(), order(password()));
        let mut peer = server.accept().await;
        let header = peer.open(&features).await;
        assert!(!header.contains("from="), "nothing of the account goes in the clear");
        peer.send("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        let end = client.down().await;
        assert_eq!(end.to_string(), format!("no secure connection to capulet.lit: {detail}"));
        assert!(!peer.rest().await.contains("auth"));
    }
}

#[tokio::test]
async fn each_certificate_error_has_its_words() {
    let names =
        |names: &[&str]| CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    let mut expired = names(&[DOMAIN]);
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut early = names(&[DOMAIN]);
    early.not_before = date_time_ymd(2100, 1, 1);
    let (ca, stranger) = (Ca::new(), Ca::new());
    let key = KeyPair::generate().unwrap();
    let alone = names(&[DOMAIN]).self_signed(&key).unwrap();
    for (acceptor, detail) in [
        (ca.acceptor_of(&expired), "it has expired"),
        (ca.acceptor_of(&early), "it is not valid yet"),
        (ca.acceptor(&["montague.lit", "*.edge.lit"]), "it is for montague.lit, *.edge.lit"),
        (stranger.acceptor(&[DOMAIN]), "its issuer is not known here"),
        (acceptor(alone.der().clone(), &key), "it is self-signed"),
    ] {
        let mut server = Server::new().await;
        server.acceptor = acceptor;
        let mut settings = server.settings();
        settings.endpoint.tls.ca_file = Some(ca.file());
        settings.endpoint.tls.mode = TlsMode::Direct;
        let mut client = Client::start(settings, order(password()));
        assert!(server.accept().await.secure(&server.acceptor).await.is_err());
        let expected = StreamEnd::Certificate { host: DOMAIN.to_owned(), detail: detail.to_owned() };
        assert_eq!(client.down().await, expected);
    }
}

#[tokio::test]
async fn the_operator_may_accept_one_more_name_and_no_other() {
    for (accept, trusted) in [("edge.lit", true), ("other.lit", false)] {
        let mut server = Server::new().await;
        server.acceptor = server.ca.acceptor(&["edge.lit"]);
        let mut settings = server.settings();
        settings.endpoint.tls.accept_name = Some(accept.to_owned());
        settings.endpoint.tls.mode = TlsMode::Direct;
        let mut client = Client::start(settings, order(password()));
        let peer = server.accept().await.secure(&server.acceptor).await;
        assert_eq!(peer.is_ok(), trusted);
        if let Ok(mut peer) = peer {
            assert_eq!(peer.io.get_ref().1.server_name(), Some(DOMAIN));
            peer.open(&mechanisms(&["X"])).await;
            assert!(matches!(client.down().await, StreamEnd::NoCommonMechanism { .. }));
        } else {
            assert!(matches!(client.down().await, StreamEnd::Certificate { .. }));
        }
    }
}

#[tokio::test]
async fn a_redirect_cannot_choose_whose_certificate_is_good() {
    let mut server = Server::new().await;
    let mut client = Client::start(server.settings(), order(password()));
    let mut peer = server.accept_tls().await;
    server.acceptor = server.ca.acceptor(&["localhost"]);
    let port = server.listener.local_addr().unwrap().port();
    peer.open_with(&see_other_host(&format!("localhost:{port}"))).await;
    let mut peer = server.accept().await;
    peer.open("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    peer.until("<starttls ").await;
    peer.send("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    assert!(peer.secure(&server.acceptor).await.is_err());
    let expected = StreamEnd::Certificate { host: DOMAIN.to_owned(), detail: "it is for localhost".to_owned() };
    assert_eq!(client.down().await, expected);
}

#[tokio::test]
async fn each_refusal_ends_it_after_one_attempt() {
    for (condition, refusal) in [
        ("<not-authorized/>", Refusal::NotAuthorized),
        ("<credentials-expired/>", Refusal::Expired),
        ("<account-disabled/><text>no</text>", Refusal::Disabled),
        ("<temporary-auth-failure/>", Refusal::Temporary),
        ("", Refusal::NotAuthorized),
    ] {
        let server = Server::new().await;
        let mut client = Client::start(server.settings(), order(password()));
        let mut peer = server.accept_tls().await;
        peer.open(&mechanisms(&["SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN"])).await;
        assert!(peer.until("</auth>").await.contains("SCRAM-SHA-256"));
        peer.send(&format!("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{condition}</failure>")).await;
        assert_eq!(client.down().await, StreamEnd::Refused(refusal));
        assert!(!peer.rest().await.contains("<auth"), "no weaker mechanism");
    }
}

#[tokio::test]
async fn scram_taken_away_from_a_login_that_had_it_ends_it_without_the_password() {
    let keys = ScramKeys {
        hash: ScramHash::Sha256,
        salt: b"salt".to_vec(),
        iterations: 4096,
        client_key: vec![1; 32],
        server_key: vec![2; 32],
    };
    for (credentials, scram_only) in [(Credentials::Scram(keys), false), (password(), true)] {
        let server = Server::new().await;
        let mut client = Client::start(server.settings(), ConnectOrder { scram_only, ..order(credentials) });
        let mut peer = server.accept_tls().await;
        peer.open(&mechanisms(&["PLAIN", "LOGIN"])).await;
        let end = client.down().await;
        assert_eq!(
            end.to_string(),
            "capulet.lit no longer offers the safe way to sign in that it had before (it offers PLAIN, LOGIN): someone may be in \
             between, so the password was not sent"
        );
        assert!(!peer.rest().await.contains("<auth"));
    }
}

/// XEP-0474: the server tells within SCRAM what it offered, and whoever is in between cannot change that unnoticed.
#[tokio::test]
async fn an_offer_that_was_changed_on_the_way_gets_no_proof() {
    let server = Server::new().await;
    let mut client = Client::start(server.settings(), order(password()));
    let mut peer = server.accept_tls().await;
    peer.open(&mechanisms(&["SCRAM-SHA-1"])).await;
    let auth = peer.until("</auth>").await;
    let first = auth.split('>').nth(1).unwrap().split('<').next().unwrap();
    let first = String::from_utf8(STANDARD.decode(first).unwrap()).unwrap();
    let nonce = first.split("r=").nth(1).unwrap();
    // The hash of what the server itself offered: SCRAM-SHA-256 too.
    let hash = STANDARD.encode(sha1::Sha1::digest("SCRAM-SHA-1\u{1e}SCRAM-SHA-256"));
    let challenge = STANDARD.encode(format!("r={nonce}more,s=c2FsdA==,i=4096,h={hash}"));
    peer.send(&format!("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{challenge}</challenge>")).await;
    let end = client.down().await;
    assert_eq!(
        end.to_string(),
        "what capulet.lit offers for signing in was changed on the way: the connection is not safe"
    );
    assert!(!peer.rest().await.contains("<response"));
}

#[tokio::test]
async fn a_refused_bind_says_why() {
    let server = Server::new().await;
    let mut client = Client::start(server.settings(), order(password()));
    let mut peer = server.accept_signed_in().await;
    peer.open(BIND).await;
    peer.until("</iq>").await;
    peer.send(
        "<iq type='error' id='bind'><error type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         </error></iq>",
    )
    .await;
    assert_eq!(client.down().await, StreamEnd::BindRefused { condition: "resource-constraint".to_owned() });
}

#[tokio::test]
async fn what_is_no_xmpp_server_is_called_so() {
    for banner in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "<html><body/></html>"] {
        let server = Server::new().await;
        let mut client = Client::start(server.settings(), order(password()));
        server.accept().await.send(banner).await;
        assert_eq!(client.down().await, StreamEnd::NotXmpp { host: DOMAIN.to_owned() });
    }
    let server = Server::new().await;
    let mut settings = server.settings();
    settings.endpoint.tls.mode = TlsMode::Direct;
    let mut client = Client::start(settings, order(password()));
    server.accept().await.send("SSH-2.0-OpenSSH_9.2\r\n").await;
    let expected = "no secure connection to capulet.lit: what answered does not speak TLS";
    assert_eq!(client.down().await.to_string(), expected);
}

#[tokio::test]
async fn hosts_that_are_not_there_are_told_apart() {
    let mut settings = Server::new().await.settings();
    let free = settings.endpoint.address.clone().unwrap();
    assert!(matches!(end(settings.clone()).await, StreamEnd::Unreachable { host, .. } if host == free));
    settings.endpoint.address = Some("not a name".to_owned());
    assert_eq!(end(settings.clone()).await, StreamEnd::UnknownHost { host: "not a name".to_owned() });
    settings.endpoint.address = Some("127.0.0.1:1".to_owned());
    settings.endpoint.tls.ca_file = Some("/nowhere/ca.pem".into());
    assert!(matches!(end(settings).await, StreamEnd::Unreachable { .. }));
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_read_is_named() {
    let server = Server::new().await;
    let mut settings = server.settings();
    settings.endpoint.tls =
        TlsSettings { mode: TlsMode::Direct, ca_file: Some("/nowhere/ca.pem".into()), accept_name: None };
    let end = end(settings).await;
    assert!(matches!(&end, StreamEnd::Tls { detail, .. } if detail.contains("/nowhere/ca.pem")), "{end}");
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for_long() {
    let server = Server::new().await;
    let mut settings = server.settings();
    settings.timeouts.step = Duration::from_millis(50);
    let mut client = Client::start(settings.clone(), order(password()));
    let _peer = server.accept().await;
    assert_eq!(client.down().await, StreamEnd::TimedOut { phase: "the stream's header".to_owned() });
    settings.timeouts.sign_in = Duration::from_millis(100);
    settings.timeouts.step = PATIENCE;
    let mut client = Client::start(settings, order(password()));
    let _peer = server.accept_tls().await;
    assert!(matches!(client.down().await, StreamEnd::TimedOut { .. }));
}

#[tokio::test]
async fn an_error_in_place_of_the_features_is_passed_on() {
    let server = Server::new().await;
    let mut client = Client::start(server.settings(), order(password()));
    let mut peer = server.accept().await;
    let ns = "urn:ietf:params:xml:ns:xmpp-streams";
    peer.open_with(&format!("<stream:error><host-unknown xmlns='{ns}'/><text xmlns='{ns}'>who?</text></stream:error>"))
        .await;
    let expected = StreamEnd::StreamError { condition: "host-unknown".to_owned(), text: Some("who?".to_owned()) };
    assert_eq!(client.down().await, expected);
}
