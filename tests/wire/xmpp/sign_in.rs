//! From a connection to a session.

use hmac::{Hmac, Mac};
use messenger_bridge::domain::{
    credentials::{Credentials, Secret, Tokens},
    stream::{Management, StreamOrder},
};
use sha2::{Digest, Sha256};

use super::*;

#[tokio::test]
async fn a_session_is_bound_and_everything_that_the_server_says_is_taken() {
    let server = Server::new().await;
    let mut client = Client::start(server.settings(), order(password()));
    let mut peer = server.accept_tls().await;
    let header = peer.open(&mechanisms(&["PLAIN", "UNHEARD-OF"])).await;
    assert!(header.contains("from='juliet@capulet.lit'"), "known to the server only under TLS");
    // "\0juliet\0R0m30 ", the blank included.
    let auth = peer.until("</auth>").await;
    assert!(auth.contains("mechanism='PLAIN'>AGp1bGlldABSMG0zMCA=<"), "{auth}");
    peer.send(SUCCESS).await;
    peer.open(&format!(
        "{BIND}<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/><ver xmlns='urn:xmpp:features:rosterver'/>\
         <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits>"
    ))
    .await;
    peer.bind().await;
    peer.until("<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>").await;
    // Somebody else's answer is none; the stanza is not lost.
    peer.send("<iq type='result' id='session' from='mallory@evil.lit'/>").await;
    peer.send("<iq type='result' id='session'/><message from='a@b'/>").await;
    let up = client.up().await;
    assert_eq!((up.account.as_str(), up.resource.as_str()), ("juliet@capulet.lit", "given"));
    assert_eq!((up.max_bytes, up.roster_versioning, up.mechanism.as_str()), (Some(10_000), true, "PLAIN"));
    assert_eq!((up.management, up.resumed, up.failed_h, up.keep), (None, None, None, None));
    assert_eq!(client.stanza().await.attr("from"), Some("mallory@evil.lit"));
    assert_eq!(client.stanza().await.name(), "message");
}

#[tokio::test]
async fn an_optional_session_is_not_asked_for_and_direct_tls_names_its_protocol() {
    let server = Server::new().await;
    let mut settings = server.settings();
    settings.endpoint.tls.mode = TlsMode::Direct;
    let mut client = Client::start(settings, order(password()));
    let mut peer = server.accept().await.secure(&server.acceptor).await.unwrap();
    assert_eq!(peer.io.get_ref().1.server_name(), Some(DOMAIN));
    peer.open(&mechanisms(&["PLAIN"])).await;
    peer.until("</auth>").await;
    peer.send(SUCCESS).await;
    peer.open(&format!("{BIND}<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>")).await;
    peer.bind().await;
    client.up().await;
}

#[tokio::test]
async fn the_messenger_service_signs_in_by_its_token_and_says_who_one_is() {
    let server = Server::new().await;
    let tokens = Tokens { access: Secret::new("EwA+/="), refresh: None, expires_at: None };
    let order = ConnectOrder { account: None, ..order(Credentials::OAuth(tokens)) };
    let mut client = Client::start(server.settings(), order);
    let mut peer = server.accept_tls().await;
    let header = peer.open(&mechanisms(&["X-MESSENGER-OAUTH2 "])).await;
    assert!(!header.contains("from="));
    let auth = peer.until("</auth>").await;
    assert!(auth.ends_with("mechanism='X-MESSENGER-OAUTH2'>EwA+/=</auth>"), "{auth}");
    peer.send(SUCCESS).await;
    peer.open(BIND).await;
    peer.bind().await;
    assert_eq!(client.up().await.account.as_str(), "juliet@capulet.lit");
}

/// The server's side of SCRAM-SHA-256-PLUS (RFC 5802, RFC 9266), written from the specifications.
async fn scram(peer: &mut Peer<TlsStream<TcpStream>>, honest: bool) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mac = |key: &[u8], data: &[u8]| -> Vec<u8> {
        Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(data).finalize().into_bytes().to_vec()
    };
    let inner = |text: String| {
        let text = text.rsplit_once("</").unwrap().0.rsplit_once('>').unwrap().1.to_owned();
        String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
    };
    let binding = "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/></sasl-channel-binding>";
    peer.open(&(mechanisms(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]) + binding)).await;
    let first = peer.until("</auth>").await;
    assert!(first.contains("'SCRAM-SHA-256-PLUS'"), "{first}");
    let first = inner(first);
    let bare = first.strip_prefix("p=tls-exporter,,").unwrap();
    let nonce = format!("{}srv", bare.rsplit_once("r=").unwrap().1);
    let server_first = format!("r={nonce},s={},i=4096", STANDARD.encode("salt"));
    peer.send(&format!("<challenge xmlns='{NS}'>{}</challenge>", STANDARD.encode(&server_first))).await;
    let last = inner(peer.until("</response>").await);
    let (without_proof, proof) = last.rsplit_once(",p=").unwrap();

    let exported = peer.io.get_ref().1.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).unwrap();
    let channel = STANDARD.encode([b"p=tls-exporter,,".as_slice(), exported.as_slice()].concat());
    assert_eq!(without_proof, format!("c={channel},r={nonce}"), "bound to this very connection");
    let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(b"R0m30 ", b"salt", 4096);
    let auth_message = format!("{bare},{server_first},{without_proof}");
    let client_key = mac(&salted, b"Client Key");
    let signature = mac(&Sha256::digest(&client_key), auth_message.as_bytes());
    let expected: Vec<u8> = client_key.iter().zip(signature).map(|(key, sign)| key ^ sign).collect();
    assert_eq!(STANDARD.decode(proof).unwrap(), expected);
    let mut proof = mac(&mac(&salted, b"Server Key"), auth_message.as_bytes());
    proof[0] ^= u8::from(!honest);
    let server_last = STANDARD.encode(format!("v={}", STANDARD.encode(proof)));
    peer.send(&format!("<success xmlns='{NS}'>{server_last}</success>")).await;
}

const NS: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

#[tokio::test]
async fn scram_is_bound_to_the_connection_and_its_keys_are_kept() {
    let server = Server::new().await;
    let mut client = Client::start(server.settings(), order(password()));
    let mut peer = server.accept_tls().await;
    scram(&mut peer, true).await;
    peer.open(BIND).await;
    peer.bind().await;
    let keep = client.up().await.keep.unwrap();
    assert!(matches!(keep, Credentials::Scram(_)));
    // The keys alone sign in the next time.
    let mut client = Client::start(server.settings(), order(keep));
    let mut peer = server.accept_tls().await;
    scram(&mut peer, true).await;
    peer.open(BIND).await;
    peer.bind().await;
    assert_eq!(client.up().await.keep, None);
}

#[tokio::test]
async fn a_server_that_does_not_know_the_password_is_left() {
    let server = Server::new().await;
    let mut client = Client::start(server.settings(), order(password()));
    let mut peer = server.accept_tls().await;
    scram(&mut peer, false).await;
    assert_eq!(client.down().await, StreamEnd::ServerNotVerified { host: DOMAIN.to_owned() });
}

#[tokio::test]
async fn a_session_is_resumed() {
    let server = Server::new().await;
    let mut client = Client::start(server.settings(), resuming());
    let mut peer = server.accept_signed_in().await;
    peer.open(&format!("{BIND}{SM}")).await;
    assert!(peer.until("/>").await.contains("<resume xmlns='urn:xmpp:sm:3' h='7' previd='s0'/>"));
    peer.send("<resumed xmlns='urn:xmpp:sm:3' h='3' previd='s0'/><message from='a@b'/><r xmlns='urn:xmpp:sm:3'/>")
        .await;
    let up = client.up().await;
    assert_eq!((up.resumed, up.account.as_str()), (Some(3), "juliet@capulet.lit"));
    assert_eq!(up.management, Some(Management { id: Some("s0".to_owned()), location: None }));
    client.stanza().await;
    let first = peer.until("<a xmlns='urn:xmpp:sm:3' h='7'/>").await;
    assert!(first.starts_with("<r xmlns='urn:xmpp:sm:3'/>"), "whether it hears is asked at once: {first}");
    client.handle.send(StreamOrder::Ack(8)).unwrap();
    peer.until("<a xmlns='urn:xmpp:sm:3' h='8'/>").await;
}

#[tokio::test]
async fn a_session_that_cannot_be_resumed_is_bound_anew() {
    for (failed, handled) in [
        ("<failed xmlns='urn:xmpp:sm:3'/>", None),
        (
            "<failed xmlns='urn:xmpp:sm:3' h='9'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
            Some(9),
        ),
        ("<failed xmlns='urn:xmpp:sm:3' h='many'/>", None),
    ] {
        let server = Server::new().await;
        let mut client = Client::start(server.settings(), resuming());
        let mut peer = server.accept_signed_in().await;
        peer.open(&format!("{BIND}{SM}")).await;
        peer.until("<resume ").await;
        peer.send(failed).await;
        peer.bind().await;
        peer.until("<enable ").await;
        // Before `<enabled/>` nothing is counted by the server, so it must not be by us.
        peer.send("<iq type='get' id='x' from='capulet.lit'/>").await;
        peer.send("<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='1' location='[::1]:5222'/><message id='first'/>")
            .await;
        let up = client.up().await;
        assert_eq!((up.resumed, up.failed_h), (None, handled));
        let (id, location) = (Some("s1".to_owned()), Some("[::1]:5222".to_owned()));
        assert_eq!(up.management, Some(Management { id, location }));
        assert_eq!(client.stanza().await.attr("id"), Some("first"));
    }
}

#[tokio::test]
async fn a_session_is_resumed_where_the_server_prefers_it() {
    let (server, other) = (Server::new().await, Server::new().await);
    let mut settings = server.settings();
    settings.endpoint.tls.ca_file = Some(other.ca.file());
    let mut order = resuming();
    order.resume.as_mut().unwrap().location = Some(other.address());
    let mut client = Client::start(settings, order);
    let mut peer = other.accept_signed_in().await;
    peer.open(&format!("{BIND}{SM}")).await;
    peer.until("<resume ").await;
    peer.send("<resumed xmlns='urn:xmpp:sm:3' h='3' previd='s0'/>").await;
    assert_eq!(client.up().await.resumed, Some(3));
}

#[tokio::test]
async fn a_preferred_place_that_is_not_there_is_no_obstacle() {
    let server = Server::new().await;
    let free = { TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
    let mut order = resuming();
    order.resume.as_mut().unwrap().location = Some(free.to_string());
    let mut client = Client::start(server.settings(), order);
    let mut peer = server.accept_signed_in().await;
    peer.open(&format!("{BIND}{SM}")).await;
    peer.until("<resume ").await;
    peer.send("<resumed xmlns='urn:xmpp:sm:3' h='3' previd='s0'/>").await;
    assert_eq!(client.up().await.resumed, Some(3));
}

#[tokio::test]
async fn redirects_are_followed_before_and_after_the_sign_in() {
    let server = Server::new().await;
    let port = server.listener.local_addr().unwrap().port();
    let mut client = Client::start(server.settings(), order(password()));
    // In place of the features, in upper case, after TLS.
    let mut peer = server.accept_tls().await;
    peer.open_with(&see_other_host(&format!("LOCALHOST:{port}"))).await;
    // After authentication; the domain and the name of the certificate stay.
    let mut peer = server.accept_signed_in().await;
    peer.open_with(&see_other_host(&format!("127.0.0.1:{port}"))).await;
    // Before TLS.
    let mut peer = server.accept().await;
    peer.open_with(&see_other_host(&format!("127.0.0.1:{port}"))).await;
    let _peer = server.accept_bound(false).await;
    client.up().await;
}

#[tokio::test]
async fn the_sixth_redirect_is_one_too_many() {
    let server = Server::new().await;
    let mut client = Client::start(server.settings(), order(password()));
    for _ in 0..6 {
        let mut peer = server.accept_tls().await;
        peer.open_with(&see_other_host(&server.address())).await;
    }
    assert_eq!(client.down().await, StreamEnd::TooManyRedirects);
}

#[tokio::test]
async fn what_comes_in_the_clear_before_tls_does_not_count_after_it() {
    let server = Server::new().await;
    let mut client = Client::start(server.settings(), order(password()));
    let mut peer = server.accept().await;
    peer.open("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    peer.until("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    peer.send(&format!(
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>{SUCCESS}<message from='mallory@evil.lit'/>"
    ))
    .await;
    let mut peer = peer.secure(&server.acceptor).await.unwrap();
    peer.open(&mechanisms(&["PLAIN"])).await;
    peer.until("</auth>").await;
    peer.send(SUCCESS).await;
    peer.open(BIND).await;
    peer.bind().await;
    peer.send("<message from='a@b'/>").await;
    client.up().await;
    assert_eq!(client.stanza().await.attr("from"), Some("a@b"));
}

#[tokio::test]
async fn a_probe_goes_as_far_as_the_features() {
    let server = Server::new().await;
    let client = Client::start(server.settings(), ConnectOrder { delay: 60_000, ..order(password()) });
    let probe = tokio::spawn(async move { client.xmpp.probe("net").await });
    let mut peer = server.accept_tls().await;
    peer.open(&mechanisms(&["SCRAM-SHA-1"])).await;
    let probed = probe.await.unwrap().remove(0);
    let reached = probed.reached.unwrap();
    let expected = format!("connected to {} with TLS 1.3; it offers SCRAM-SHA-1", server.address());
    assert_eq!((probed.domain.as_str(), reached.line), ("capulet.lit", expected));
    assert!(!reached.certificate.is_empty());
    assert_eq!(peer.rest().await, "");
}
