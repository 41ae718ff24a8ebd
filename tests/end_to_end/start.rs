//! The start toward a homeserver that has been waiting: what it holds is taken at once, not after its own pause.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::bridge::{program, run_program};
use super::ground::{self, Port};
use super::process::Process;

/// A homeserver that, as Synapse does, tries its waiting transaction when it is pinged, and not again until it is pinged
/// again.
struct Waiting {
    bridge: u16,
    hs_token: String,
    /// How the bridge answered the transaction, each time.
    answers: Mutex<Vec<u16>>,
    news: Condvar,
}

async fn answer(State(homeserver): State<Arc<Waiting>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    let answer = match path.rsplit('/').next().unwrap_or_default() {
        "versions" => json!({"versions": ["v1.11"]}),
        "whoami" | "register" => json!({"user_id": "@messengerbot:hs.test"}),
        "status" => json!({"presence": "online"}),
        "joined_rooms" => json!({"joined_rooms": []}),
        "ping" => {
            let ping = serde_json::from_slice::<Value>(&body).unwrap_or_default();
            homeserver.send(reqwest::Method::POST, "ping", ping).await;
            let status = homeserver.send(reqwest::Method::PUT, "transactions/1", json!({"events": []})).await;
            homeserver.answers.lock().expect("no test panicked in here").push(status);
            homeserver.news.notify_all();
            json!({"duration_ms": 1})
        }
        _ => json!({}),
    };
    ([("Content-Type", "application/json")], answer.to_string()).into_response()
}

impl Waiting {
    async fn send(&self, method: reqwest::Method, path: &str, body: Value) -> u16 {
        let address = format!("http://127.0.0.1:{}/_matrix/app/v1/{path}", self.bridge);
        let request = reqwest::Client::new().request(method, address).bearer_auth(&self.hs_token);
        let answer = request.header("Content-Type", "application/json").body(body.to_string()).send().await;
        answer.map_or(0, |answer| answer.status().as_u16())
    }
}

fn token(folder: &Path, key: &str) -> String {
    let registration = fs::read_to_string(folder.join("registration.yaml")).expect("the registration");
    let line = registration.lines().find(|line| line.starts_with(key)).expect("a token");
    line.split(':').nth(1).expect("its value").trim().trim_matches('"').to_owned()
}

#[test]
fn what_the_homeserver_holds_is_asked_for_once_the_bridge_is_ready() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (folder, port, homeserver) = (ground::folder("bridge"), Port::reserve(), Port::reserve());
    let config = json!({
        "homeserver": {"address": format!("http://127.0.0.1:{homeserver}"), "domain": "hs.test"},
        "appservice": {"listen": format!("127.0.0.1:{port}"), "address": format!("http://127.0.0.1:{port}")},
        "store": {"path": "./data", "key_file": "./data.key"},
        "permissions": {"hs.test": "user"},
        "networks": {"xmpp": {"profile": "xmpp"}},
    });
    // JSON is YAML.
    fs::write(folder.join("config.yaml"), config.to_string()).expect("write the config");
    assert!(run_program(&folder, &["generate-registration"]).status.success());
    let waiting = Arc::new(Waiting {
        bridge: port.number(),
        hs_token: token(&folder, "hs_token"),
        answers: Mutex::default(),
        news: Condvar::new(),
    });
    let runtime = Runtime::new().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", homeserver.number()))).expect("listen");
    let router = Router::new().fallback(answer).with_state(Arc::clone(&waiting));
    runtime.spawn(async move { axum::serve(listener, router).await });

    let mut command = program();
    command.arg("run").current_dir(&folder);
    let bridge = Process::start("the bridge", command, &folder.join("bridge.log"));
    let answers = waiting.answers.lock().expect("no test panicked in here");
    let taken = |answers: &mut Vec<u16>| answers.last() != Some(&200);
    let (answers, _) = waiting.news.wait_timeout_while(answers, ground::deadline(), taken).expect("no test panicked");
    assert_eq!(*answers, [503, 200], "{}", bridge.log_tail());
}
