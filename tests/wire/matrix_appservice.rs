//! What a homeserver asks of us, and the checks at start.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use messenger_bridge::{
    domain::{Input, credentials::Secret, input::EphemeralEvent},
    matrix::{
        appservice::{AppService, BODY_LIMIT, TRANSACTIONS_AT_ONCE},
        counters::{Count, Counters},
        probe,
        start::{self, Check, Facts, Finding, Identity},
    },
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::matrix_homeserver::Homeserver;

struct Bridge {
    url: String,
    service: Arc<AppService>,
    counters: Arc<Counters>,
    engine: mpsc::Receiver<Input>,
    http: reqwest::Client,
}

impl Bridge {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let counters = Arc::new(Counters::default());
        let (mailbox, engine) = mpsc::channel(4);
        let service = AppService::new(Secret::new("hs-token"), mailbox, Arc::clone(&counters));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = service.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, service, counters, engine, http: reqwest::Client::new() }
    }

    fn request(&self, method: Method, path: &str, token: Option<&str>, body: impl Into<reqwest::Body>) -> Answering {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        tokio::spawn(async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
        })
    }

    fn push(&self, txn: &str, body: impl Into<reqwest::Body>) -> Answering {
        self.request(Method::PUT, &format!("/_matrix/app/v1/transactions/{txn}"), Some("hs-token"), body)
    }

    async fn asks(&self, method: Method, path: &str, token: Option<&str>) -> (u16, String) {
        let (status, body) = self.request(method, path, token, "{}").await.unwrap();
        (status, body["errcode"].as_str().unwrap_or_default().to_owned())
    }
}

type Answering = tokio::task::JoinHandle<(u16, Value)>;

#[tokio::test]
async fn the_token_is_asked_for_and_unknown_paths_say_so() {
    let bridge = Bridge::start().await;
    let right = Some("hs-token");
    for (method, path, token, status, code) in [
        (Method::PUT, "/_matrix/app/v1/transactions/1", None, 401, "M_MISSING_TOKEN"),
        (Method::PUT, "/_matrix/app/v1/transactions/1", Some("hs-tokem"), 403, "M_FORBIDDEN"),
        (Method::PUT, "/_matrix/app/v1/transactions/1?access_token=wrong", None, 403, "M_FORBIDDEN"),
        (Method::PUT, "/transactions/1", None, 401, "M_MISSING_TOKEN"),
        (Method::POST, "/_matrix/app/v1/ping", None, 401, "M_MISSING_TOKEN"),
        (Method::POST, "/_matrix/app/v1/transactions/1", right, 405, "M_UNRECOGNIZED"),
        (Method::GET, "/_matrix/app/v1/ping", right, 405, "M_UNRECOGNIZED"),
        (Method::GET, "/_matrix/app/v2/users/x", right, 404, "M_UNRECOGNIZED"),
        (Method::GET, "/", None, 404, "M_UNRECOGNIZED"),
        (Method::GET, "/_matrix/app/v1/users/@messenger_x:h", right, 404, "M_NOT_FOUND"),
        (Method::GET, "/users/@messenger_x:h?access_token=hs-token", None, 404, "M_NOT_FOUND"),
        (Method::GET, "/_matrix/app/v1/rooms/%23messenger_x:h", right, 404, "M_NOT_FOUND"),
        (Method::GET, "/rooms/%23messenger_x:h", right, 404, "M_NOT_FOUND"),
        (Method::GET, "/_matrix/app/v1/thirdparty/protocol/irc", right, 404, "M_NOT_FOUND"),
        (Method::GET, "/_matrix/app/v1/thirdparty/user/irc", right, 404, "M_NOT_FOUND"),
        (Method::POST, "/_matrix/app/v1/ping", right, 200, ""),
        (Method::POST, "/_matrix/app/unstable/fi.mau.msc2659/ping", right, 200, ""),
        (Method::GET, "/_matrix/mau/live", None, 200, ""),
        (Method::GET, "/_matrix/mau/ready", None, 503, ""),
    ] {
        let answer = bridge.asks(method.clone(), path, token).await;
        assert_eq!(answer, (status, code.to_owned()), "{method} {path} {token:?}");
    }
    assert_eq!(bridge.counters.get(Count::TokenMissing), 3);
    assert_eq!(bridge.counters.get(Count::TokenWrong), 2);
    bridge.service.set_ready(true);
    assert_eq!(bridge.asks(Method::GET, "/_matrix/mau/ready", None).await.0, 200);
}

#[tokio::test]
async fn third_party_lookups_describe_the_networks_and_show_nobody() {
    let bridge = Bridge::start().await;
    for name in ["messenger", "xmpp"] {
        let path = format!("/_matrix/app/v1/thirdparty/protocol/{name}");
        let (status, body) = bridge.request(Method::GET, &path, Some("hs-token"), "").await.unwrap();
        assert_eq!(status, 200);
        assert_eq!(body["instances"][0]["network_id"], name);
        let field = body["user_fields"][0].as_str().unwrap();
        assert!(body["field_types"][field]["regexp"].is_string(), "{body}");
        let path = format!("/_matrix/app/v1/thirdparty/user/{name}?{field}=a@b");
        assert_eq!(bridge.request(Method::GET, &path, Some("hs-token"), "").await.unwrap(), (200, json!([])));
    }
    for path in ["user?userid=@a:h", "location?alias=%23a:h", "location/xmpp"] {
        let path = format!("/_matrix/app/v1/thirdparty/{path}");
        assert_eq!(bridge.request(Method::GET, &path, Some("hs-token"), "").await.unwrap(), (200, json!([])));
    }
}

#[tokio::test]
async fn a_transaction_is_answered_only_when_it_is_durable() {
    let mut bridge = Bridge::start().await;
    let typing = json!({"type": "m.typing", "room_id": "!r:h", "content": {"user_ids": ["@a:h"]}});
    let body = json!({
        "events": [
            {"type": "m.room.message", "room_id": "!r", "event_id": "$1", "sender": "@a:h", "origin_server_ts": 1, "content": {"body": "x"}},
            {"type": "m.room.message", "content": "broken"},
            {"type": "org.example.new", "state_key": "", "room_id": "!r", "event_id": "$2", "sender": "@a:h", "origin_server_ts": 2, "content": {}},
        ],
        "ephemeral": [typing], "de.sorunome.msc2409.ephemeral": [typing],
    });
    let answer = bridge.push("a%2Fb", body.to_string());
    let Some(Input::Transaction { ticket, txn_id, events, ephemeral, .. }) = bridge.engine.recv().await else {
        panic!()
    };
    assert_eq!(txn_id, "a/b");
    assert_eq!(
        events.iter().map(|e| (e.id.as_str(), e.state_key.as_deref())).collect::<Vec<_>>(),
        [("$1", None), ("$2", Some(""))]
    );
    assert!(matches!(&ephemeral[..], [EphemeralEvent::Typing { .. }]), "{ephemeral:?}");
    assert_eq!(bridge.counters.get(Count::EventBroken), 1);
    assert!(!answer.is_finished());
    assert_eq!(bridge.service.tickets.waiting(), 1);
    bridge.service.tickets.answer(ticket);
    assert_eq!(answer.await.unwrap(), (200, json!({})));
    assert_eq!(bridge.service.tickets.waiting(), 0);
}

#[tokio::test]
async fn bodies_that_are_no_transaction_are_refused_and_odd_ones_are_not() {
    let mut bridge = Bridge::start().await;
    for (body, status, code) in [("<html>", 400, "M_NOT_JSON"), ("", 400, "M_NOT_JSON"), ("[]", 400, "M_BAD_JSON")] {
        let (answered, body) = bridge.push("1", body).await.unwrap();
        assert_eq!((answered, body["errcode"].as_str().unwrap()), (status, code));
    }
    for body in ["{}", r#"{"events":[],"ephemeral":null}"#, r#"{"events":null}"#] {
        let answer = bridge.push("1", body);
        let Some(Input::Transaction { ticket, .. }) = bridge.engine.recv().await else { panic!() };
        bridge.service.tickets.answer(ticket);
        assert_eq!(answer.await.unwrap().0, 200, "{body}");
    }
    let (status, body) = bridge.push("1", vec![b' '; BODY_LIMIT + 1]).await.unwrap();
    assert_eq!((status, body["errcode"].as_str().unwrap()), (413, "M_TOO_LARGE"));
    // Without its length said beforehand.
    let chunks = futures::stream::iter((0..65).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 20])));
    let (status, body) = bridge.push("1", reqwest::Body::wrap_stream(chunks)).await.unwrap();
    assert_eq!((status, body["errcode"].as_str().unwrap()), (413, "M_TOO_LARGE"));
    assert_eq!(bridge.push(&"1".repeat(300), "{}").await.unwrap().0, 400);
}

/// The stack of whoever follows nested JSON ends some time; the parser's own bound comes before.
#[tokio::test]
async fn json_nested_without_end_costs_no_more_than_its_event() {
    let mut bridge = Bridge::start().await;
    let plain = r#"{"type":"m.room.message","event_id":"$after","sender":"@a:h","room_id":"!a:h","origin_server_ts":1,"content":{"body":"x"}}"#;
    let depth = 1_000_000;
    let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    // The whole body, the list, and one event's content.
    let (status, _) = bridge.push("1", nested.clone()).await.unwrap();
    assert_eq!(status, 400);
    for (txn, event) in [("2", nested.clone()), ("3", format!(r#"{{"type":"m.room.message","content":{nested}}}"#))] {
        let answer = bridge.push(txn, format!(r#"{{"events":[{event},{plain}]}}"#));
        tokio::select! {
            Some(Input::Transaction { ticket, events, .. }) = bridge.engine.recv() => {
                assert!(events.iter().any(|event| event.id.as_str() == "$after"), "the next event is there");
                bridge.service.tickets.answer(ticket);
                assert_eq!(answer.await.unwrap().0, 200);
            }
        }
    }
}

/// Bodies are taken as they come: nothing is unpacked, so nothing can burst.
#[tokio::test]
async fn a_packed_transaction_is_no_json() {
    let bridge = Bridge::start().await;
    let request = bridge
        .http
        .put(format!("{}/_matrix/app/v1/transactions/1", bridge.url))
        .bearer_auth("hs-token")
        .header("content-encoding", "gzip")
        .body(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 400);
}

#[tokio::test]
async fn without_an_engine_the_homeserver_is_told_to_come_again() {
    let mut bridge = Bridge::start().await;
    let taken = bridge.push("1", "{}");
    bridge.engine.recv().await.unwrap();
    let queued = bridge.push("2", "{}");
    bridge.engine.close();
    while bridge.engine.recv().await.is_some() {}
    drop(std::mem::replace(&mut bridge.engine, mpsc::channel(1).1));
    assert_eq!(taken.await.unwrap().0, 503);
    assert_eq!(queued.await.unwrap().0, 503);
    assert_eq!(bridge.push("3", "{}").await.unwrap().0, 503);
    assert_eq!(bridge.service.tickets.waiting(), 0);
    assert_eq!(bridge.counters.get(Count::TransactionRefused), 3);
}

#[tokio::test]
async fn a_homeserver_that_goes_away_leaves_no_ticket_and_only_so_many_wait() {
    let mut bridge = Bridge::start().await;
    let mut waiting = Vec::new();
    for n in 0..TRANSACTIONS_AT_ONCE {
        waiting.push(bridge.push(&n.to_string(), "{}"));
        bridge.engine.recv().await.unwrap();
    }
    assert_eq!(bridge.push("more", "{}").await.unwrap().0, 503);
    assert_eq!(bridge.service.tickets.waiting(), TRANSACTIONS_AT_ONCE);
    for request in waiting {
        request.abort();
    }
    while bridge.service.tickets.waiting() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_transaction_after_one_that_did_not_get_through_may_have_overtaken_it() {
    let mut bridge = Bridge::start().await;
    assert_eq!(bridge.push("1", "{broken").await.unwrap().0, 400);
    for (txn, after_a_failure) in [("2", true), ("3", false)] {
        let answer = bridge.push(txn, "{}");
        let Some(Input::Transaction { ticket, overtakes, .. }) = bridge.engine.recv().await else { panic!() };
        assert_eq!(overtakes, after_a_failure, "{txn}");
        bridge.service.tickets.refuse(ticket);
        assert_eq!(answer.await.unwrap().0, 503);
    }
}

/// A homeserver as the start checks see it; `ping` is the answer to the ping, or `None` to call the bridge as asked.
fn homeserver(bridge: &Bridge, server: Homeserver, presence: &'static str, ping: Option<(u16, &'static str)>) {
    let (bridge_url, http) = (bridge.url.clone(), bridge.http.clone());
    let mut server = server;
    tokio::spawn(async move {
        loop {
            let asked = server.next().await;
            let line = asked.line();
            match (line.as_str(), ping) {
                ("GET client/versions", _) => asked.answer(
                    200,
                    r#"{"versions":["v1.12"],"unstable_features":{"org.matrix.msc3026.busy_presence":true}}"#,
                ),
                ("GET client/v3/account/whoami", _) => asked.answer(200, r#"{"user_id":"@bot:h"}"#),
                ("POST client/v3/register", _) => asked.answer(400, r#"{"errcode":"M_USER_IN_USE","error":""}"#),
                ("POST client/v1/appservice/messenger-bridge/ping", Some((status, body))) => asked.answer(status, body),
                ("POST client/v1/appservice/messenger-bridge/ping", None) => {
                    let ping = http.post(format!("{bridge_url}/_matrix/app/v1/ping")).bearer_auth("hs-token");
                    let body = json!({ "transaction_id": asked.json()["transaction_id"] }).to_string();
                    assert_eq!(ping.body(body).send().await.unwrap().status(), 200);
                    asked.answer(200, r#"{"duration_ms":3}"#);
                }
                ("GET client/v3/presence/@bot:h/status", _) => asked.answer(200, presence),
                (_, _) if asked.method == "PUT" => asked.answer(200, "{}"),
                _ => asked.answer(404, r#"{"errcode":"M_UNRECOGNIZED"}"#),
            }
        }
    });
}

fn identity() -> Identity {
    Identity {
        appservice: "messenger-bridge".to_owned(),
        address: "http://127.0.0.1:29340".to_owned(),
        bot: "@bot:h".try_into().unwrap(),
        displayname: "Messenger bridge".to_owned(),
    }
}

#[tokio::test]
async fn the_start_checks_find_a_healthy_homeserver_well() {
    let bridge = Bridge::start().await;
    let server = Homeserver::start().await;
    let (client, lines) = (server.client(), Arc::clone(&server.lines));
    homeserver(&bridge, server, r#"{"presence":"online"}"#, None);
    let report = start::check(&client, &identity(), &bridge.service, "n1").await;
    assert!(report.is_well(), "{report:?}");
    assert_eq!(report.lines.len(), 5);
    assert_eq!(report.facts, Facts { presence: true, busy: true });
    let lines = lines.lock().unwrap().clone();
    assert!(lines.contains(&"PUT client/v3/profile/@bot:h/displayname".to_owned()));
    assert_eq!(lines.last().map(String::as_str), Some("PUT client/v3/presence/@bot:h/status"));
}

#[tokio::test]
async fn the_start_checks_see_presence_off_and_a_ping_that_went_elsewhere() {
    let bridge = Bridge::start().await;
    let server = Homeserver::start().await;
    let client = server.client();
    homeserver(&bridge, server, r#"{"presence":"offline"}"#, Some((200, r#"{"duration_ms":3}"#)));
    let report = start::check(&client, &identity(), &bridge.service, "n1").await;
    assert_eq!(report.facts, Facts::default());
    let ping = report.lines.iter().find(|line| line.check == Check::Ping).unwrap();
    assert_eq!(ping.result, Err(Finding::PingElsewhere(identity().address)));
    assert!(!report.is_well());

    let server = Homeserver::start().await;
    let client = server.client();
    let wrong = (502, r#"{"errcode":"M_BAD_STATUS","error":"HTTP 403","status":403,"body":"{}"}"#);
    homeserver(&bridge, server, r#"{"presence":"online"}"#, Some(wrong));
    let report = start::check(&client, &identity(), &bridge.service, "n2").await;
    let ping = report.lines.iter().find(|line| line.check == Check::Ping).unwrap();
    assert_eq!(ping.result, Err(Finding::WrongHsToken(403)));
}

#[tokio::test]
async fn a_registration_that_is_not_installed_is_its_own_finding() {
    let bridge = Bridge::start().await;
    let server = Homeserver::start().await;
    let client = server.client();
    server.serve(|asked| match asked.path.as_str() {
        "/_matrix/client/versions" => (200, r#"{"versions":[]}"#.to_owned()),
        _ => (401, r#"{"errcode":"M_UNKNOWN_TOKEN","error":"Invalid access token passed."}"#.to_owned()),
    });
    let report = start::check(&client, &identity(), &bridge.service, "n1").await;
    assert_eq!(report.lines.last().unwrap().result, Err(Finding::NotInstalled));
    assert_eq!(report.lines.len(), 2);
    assert!(!Finding::NotInstalled.may_pass());
}

/// A homeserver whose limits hold for us takes the first update of presence and refuses the next: it keeps presence all the same.
#[tokio::test]
async fn a_limit_on_presence_is_no_lack_of_presence() {
    let bridge = Bridge::start().await;
    let server = Homeserver::start().await;
    let client = server.client();
    let puts = std::sync::atomic::AtomicUsize::new(0);
    server.serve(move |asked| {
        let (method, path) = (asked.method.as_str(), asked.path.as_str());
        match (method, path.rsplit('/').next().unwrap_or_default()) {
            ("GET", "versions") => (200, r#"{"versions":["v1.12"]}"#.to_owned()),
            ("GET", "whoami") => (200, r#"{"user_id":"@bot:h"}"#.to_owned()),
            ("GET", "status") => (200, r#"{"presence":"online"}"#.to_owned()),
            ("PUT", "status") if puts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0 => {
                (429, r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":9000}"#.to_owned())
            }
            _ => (200, r#"{"duration_ms":1,"user_id":"@bot:h"}"#.to_owned()),
        }
    });
    let report = start::check(&client, &identity(), &bridge.service, "n1").await;
    assert!(report.facts.presence, "{report:?}");
    let bot = identity().bot;
    assert_eq!(probe::is_limited(&client, &bot).await, Ok(true));
}

/// While `check` listens, the homeserver's transactions show what it was told, and what is in them comes again.
#[tokio::test]
async fn a_bridge_that_only_looks_takes_nothing_but_what_is_ephemeral() {
    let mut bridge = Bridge::start().await;
    bridge.service.only_look();
    let seen = |after: &str| bridge.request(Method::GET, &format!("/_matrix/mau/seen{after}"), Some("hs-token"), "");
    assert_eq!(bridge.asks(Method::GET, "/_matrix/mau/seen", None).await.0, 401);
    assert_eq!(seen("").await.unwrap().1["transactions"], 0);
    let waiting = seen("?after=0");
    let presence = json!({"type": "m.presence", "sender": "@bot:h", "content": {"presence": "online"}});
    let both = json!({"events": [], "ephemeral": [presence], "de.sorunome.msc2409.ephemeral": [presence]});
    assert_eq!(bridge.push("1", both.to_string()).await.unwrap().0, 200);
    let (_, told) = waiting.await.unwrap();
    assert_eq!(told["flags"], json!({"receive_ephemeral": true, "push_ephemeral": true}));
    let event = json!({"type": "m.room.message", "room_id": "!r:h", "event_id": "$e", "sender": "@a:h", "origin_server_ts": 1, "content": {}});
    let one = json!({"events": [event], "de.sorunome.msc2409.ephemeral": []});
    assert_eq!(bridge.push("2", one.to_string()).await.unwrap().0, 503);
    let seen = bridge.service.seen(1).await;
    assert_eq!((seen.transactions, seen.flags.receive_ephemeral, seen.flags.push_ephemeral), (2, false, true));
    assert!(bridge.engine.try_recv().is_err(), "and nothing reached the engine");
}
