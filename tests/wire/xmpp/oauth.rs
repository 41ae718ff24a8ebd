//! The OAuth client against a scripted token endpoint.

use messenger_bridge::{
    domain::{input::Answer, output::Ask},
    xmpp::oauth::OAuthSettings,
};

use super::*;

/// Asks for a refresh (or, with `code`, to redeem) while the endpoint answers with `response`; gives the answer and the
/// request.
async fn ask(response: &str, code: bool) -> (Answer, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let oauth = OAuthSettings {
        client_id: "bridge".to_owned(),
        client_secret: Some("s3cr3t".to_owned().into()),
        authorize_url: format!("{base}/authorize"),
        token_url: format!("{base}/token"),
        redirect_url: "https://login.live.com/oauth20_desktop.srf".to_owned(),
        ..OAuthSettings::default()
    };
    let settings = NetworkSettings { oauth: Some(oauth), ..NetworkSettings::default() };
    let xmpp = Xmpp::new(HashMap::from([("net".to_owned(), settings)]));
    let network = "net".to_owned();
    let question = if code {
        Ask::RedeemCode { network, redirect: None, code: Secret::new("C0de"), verifier: Secret::new("v".repeat(43)) }
    } else {
        Ask::Refresh { network, refresh: Secret::new("0ld") }
    };
    let server = async {
        let (mut io, _) = listener.accept().await.unwrap();
        let mut request = String::new();
        let body = |request: &str| {
            let (head, body) = request.split_once("\r\n\r\n")?;
            let length = head.to_ascii_lowercase().split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
            (body.len() >= length).then(|| body.to_owned())
        };
        let body = loop {
            let mut buffer = [0; 4096];
            let n = io.read(&mut buffer).await.unwrap();
            assert!(n > 0);
            request.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
            if let Some(body) = body(&request) {
                break body;
            }
        };
        // An answer that is too long is not read to its end.
        let _ = io.write_all(response.as_bytes()).await;
        body
    };
    let (answer, body) = timeout(PATIENCE, async { tokio::join!(xmpp.answer(question), server) }).await.unwrap();
    let shown = format!("{answer:?}");
    for secret in ["s3cr3t", "C0de", "0ld", "EwA"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    (answer, body)
}

fn response(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_code_becomes_tokens() {
    let answer = r#"{"token_type":"bearer","expires_in":"3600","scope":"wl.messenger","access_token":"EwA1","refresh_token":"EwA2"}"#;
    let (answer, request) = ask(&response("200 OK", answer), true).await;
    let Answer::Tokens(tokens) = answer else { panic!("{answer:?}") };
    assert_eq!((tokens.access.expose(), tokens.refresh.unwrap().expose()), ("EwA1", "EwA2"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let left = tokens.expires_at.unwrap().0 - i64::try_from(now).unwrap();
    assert!((3_590_000..=3_600_000).contains(&left), "{left}");
    let sent: HashMap<_, _> = url::form_urlencoded::parse(request.as_bytes()).into_owned().collect();
    let verifier = "v".repeat(43);
    for (name, value) in [
        ("grant_type", "authorization_code"),
        ("code", "C0de"),
        ("code_verifier", &verifier),
        ("client_id", "bridge"),
        ("client_secret", "s3cr3t"),
        ("redirect_uri", "https://login.live.com/oauth20_desktop.srf"),
    ] {
        assert_eq!(sent.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_refresh_without_a_new_refresh_token_keeps_the_old() {
    let (answer, request) = ask(&response("200 OK", r#"{"access_token":"EwA1"}"#), false).await;
    let Answer::Tokens(tokens) = answer else { panic!("{answer:?}") };
    assert_eq!((tokens.refresh.unwrap().expose(), tokens.expires_at), ("0ld", None));
    assert!(request.contains("grant_type=refresh_token") && request.contains("refresh_token=0ld"));
}

#[tokio::test]
async fn a_refusal_is_told_from_a_failure() {
    let long = "x".repeat(100_000);
    for (answer, refused) in [
        (response("400 Bad Request", r#"{"error":"invalid_grant","error_description":"EwA 0ld"}"#), true),
        (response("400 Bad Request", r#"{"error":"odd EwA 0ld"}"#), true),
        (response("401 Unauthorized", r#"{"error":"invalid_client"}"#), true),
        (response("400 Bad Request", r#"{"error":"temporarily_unavailable"}"#), false),
        (response("503 Unavailable", r#"{"error":"invalid_grant"}"#), false),
        (response("200 OK", "<html>0ld</html>"), false),
        (response("200 OK", &format!(r#"{{"access_token":"EwA1","x":"{long}"}}"#)), false),
        ("HTTP/1.1 302 Found\r\nLocation: /token\r\nContent-Length: 0\r\n\r\n".to_owned(), false),
        (String::new(), false),
    ] {
        let (Answer::OAuthFailed { refused: is, sentence }, _) = ask(&answer, false).await else { panic!("{answer}") };
        assert_eq!(is, refused, "{answer}: {sentence}");
    }
}

#[tokio::test]
async fn a_network_without_a_provider_says_so() {
    let xmpp = Xmpp::new(HashMap::from([("net".to_owned(), NetworkSettings::default())]));
    let answer = xmpp.answer(Ask::BeginOAuth { network: "net".to_owned(), redirect: None }).await;
    assert!(matches!(answer, Answer::OAuthFailed { refused: true, .. }));
}

/// A token endpoint that sends us elsewhere, to this machine's own services or the cloud's: nobody is asked there, and the code
/// and the secret stay with the endpoint that the operator named.
#[tokio::test]
async fn a_redirected_token_request_is_not_followed() {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = trap.local_addr().unwrap();
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let answer = format!("HTTP/1.1 {status}\r\nLocation: http://{place}/token\r\nContent-Length: 0\r\n\r\n");
        let (answer, _) = ask(&answer, true).await;
        assert!(matches!(answer, Answer::OAuthFailed { refused: false, .. }), "{answer:?}");
    }
    let came = timeout(Duration::from_millis(200), trap.accept()).await;
    assert!(came.is_err(), "someone came: {came:?}");
}

/// No encoding is undone: what is packed counts as it came, and is then no answer.
#[tokio::test]
async fn a_packed_answer_is_not_unpacked() {
    // 10 MB of zeros in a few bytes would be {"access_token": …} to whoever unpacked it.
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\n\u{1f}packed...";
    let (answer, _) = ask(answer, false).await;
    assert!(matches!(answer, Answer::OAuthFailed { refused: false, .. }), "{answer:?}");
}
