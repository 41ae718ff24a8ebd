//! A homeserver that answers all that the bridge asks with as little work as it can: every user exists, every room can be joined, every
//! event is taken. It pushes transactions one after the other, as Synapse does.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{any, get, post, put},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

use super::tally::{Tally, Way};

pub use super::fill::HOMESERVER as NAME;

/// What it knows.
pub struct Homeserver {
    pub address: String,
    tally: Arc<Tally>,
    next: AtomicU64,
    requests: AtomicU64,
    /// Rooms by the address of their contact and their owner.
    rooms: Mutex<HashMap<(String, String), String>>,
    made: Notify,
    presence: Mutex<HashMap<String, Value>>,
    /// The bridge's address and `hs_token`, for pings and transactions.
    bridge: Mutex<(String, String)>,
    client: reqwest::Client,
}

type Shared = State<Arc<Homeserver>>;

impl Homeserver {
    pub async fn start(tally: Arc<Tally>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("its address"));
        let homeserver = Arc::new(Self {
            address,
            tally,
            next: AtomicU64::new(1),
            requests: AtomicU64::new(0),
            rooms: Mutex::default(),
            made: Notify::new(),
            presence: Mutex::default(),
            bridge: Mutex::default(),
            client: reqwest::Client::builder().no_proxy().build().expect("a client"),
        });
        let router = Router::new()
            .route("/_matrix/client/versions", get(async || answer(&json!({"versions": ["v1.11", "v1.12"]}))))
            .route("/_matrix/client/v3/account/whoami", get(whoami))
            .route("/_matrix/client/v1/appservice/{id}/ping", post(ping))
            .route("/_matrix/client/v3/createRoom", post(create_room))
            .route("/_matrix/client/v3/rooms/{room}/send/{kind}/{txn}", put(send))
            .route("/_matrix/client/v3/presence/{user}/status", put(set_presence).get(presence))
            .fallback(any(anything))
            .with_state(Arc::clone(&homeserver));
        tokio::spawn(async move { axum::serve(listener, router).await });
        homeserver
    }

    /// Where it pushes to.
    pub fn know(&self, address: String, hs_token: String) {
        *self.bridge.lock().unwrap_or_else(PoisonError::into_inner) = (address, hs_token);
    }

    fn event_id(&self) -> String {
        format!("$e{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How many rooms of contacts there are.
    pub fn rooms(&self) -> usize {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for so many rooms.
    pub async fn until_rooms(&self, count: usize) {
        loop {
            let made = self.made.notified();
            if self.rooms() >= count {
                return;
            }
            let _ = tokio::time::timeout(std::time::Duration::from_millis(100), made).await;
        }
    }

    /// The room of a contact.
    pub fn room(&self, owner: &str, contact: &str) -> Option<String> {
        let rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.get(&(owner.to_owned(), contact.to_owned())).cloned()
    }

    /// A message of a person, as it stands in a transaction.
    pub fn message(&self, room: &str, sender: &str, body: &str) -> String {
        let id = self.event_id();
        format!(
            r#"{{"type":"m.room.message","room_id":"{room}","event_id":"{id}","sender":"{sender}","origin_server_ts":1774000000000,"content":{{"msgtype":"m.text","body":"{body}"}}}}"#
        )
    }

    /// Pushes a transaction and waits for its answer.
    pub async fn push(&self, events: &[String]) {
        let (address, token) = self.bridge.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let txn = self.next.fetch_add(1, Ordering::Relaxed);
        let body = format!(r#"{{"events":[{}]}}"#, events.join(","));
        loop {
            let request = self
                .client
                .put(format!("{address}/_matrix/app/v1/transactions/t{txn}"))
                .bearer_auth(&token)
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.clone());
            match request.send().await {
                Ok(answer) if answer.status().is_success() => return,
                _ => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            }
        }
    }
}

fn answer(value: &Value) -> Response {
    plain(value.to_string())
}

fn plain(body: impl Into<String>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

async fn whoami(State(homeserver): Shared, Query(query): Query<HashMap<String, String>>) -> Response {
    homeserver.requests.fetch_add(1, Ordering::Relaxed);
    let user = query.get("user_id").cloned().unwrap_or_else(|| format!("@messengerbot:{NAME}"));
    answer(&json!({"user_id": user}))
}

async fn ping(State(homeserver): Shared, body: Bytes) -> Response {
    let (address, token) = homeserver.bridge.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let asked = homeserver.client.post(format!("{address}/_matrix/app/v1/ping")).bearer_auth(token).body(body);
    match asked.header(header::CONTENT_TYPE, "application/json").send().await {
        Ok(answered) if answered.status().is_success() => answer(&json!({"duration_ms": 1})),
        _ => (StatusCode::BAD_GATEWAY, r#"{"errcode":"M_CONNECTION_FAILED","error":"no answer"}"#).into_response(),
    }
}

async fn create_room(State(homeserver): Shared, body: Bytes) -> Response {
    homeserver.requests.fetch_add(1, Ordering::Relaxed);
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let number = homeserver.next.fetch_add(1, Ordering::Relaxed);
    let room = format!("!r{number}:{NAME}");
    let states = asked["initial_state"].as_array().cloned().unwrap_or_default();
    let contact = states
        .iter()
        .find(|state| state["type"] == "m.bridge")
        .and_then(|state| state["content"]["channel"]["id"].as_str().map(str::to_owned));
    if let Some(contact) = contact {
        let invited = asked["invite"].as_array().cloned().unwrap_or_default();
        let owner = invited.iter().filter_map(Value::as_str).find(|user| !user.starts_with("@messenger_"));
        let key = (owner.unwrap_or_default().to_owned(), contact);
        homeserver.rooms.lock().unwrap_or_else(PoisonError::into_inner).insert(key, room.clone());
        homeserver.made.notify_waiters();
    }
    plain(format!(r#"{{"room_id":"{room}"}}"#))
}

async fn send(State(homeserver): Shared, Path((_, kind, _)): Path<(String, String, String)>, body: Bytes) -> Response {
    homeserver.requests.fetch_add(1, Ordering::Relaxed);
    if kind == "m.room.message"
        && let Ok(content) = serde_json::from_slice::<Said<'_>>(&body)
    {
        homeserver.tally.hear(Way::ToMatrix, &content.body);
    }
    plain(format!(r#"{{"event_id":"{}"}}"#, homeserver.event_id()))
}

#[derive(serde::Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    body: std::borrow::Cow<'a, str>,
}

async fn set_presence(State(homeserver): Shared, Path(user): Path<String>, body: Bytes) -> Response {
    homeserver.requests.fetch_add(1, Ordering::Relaxed);
    let told: Value = serde_json::from_slice(&body).unwrap_or_default();
    homeserver.presence.lock().unwrap_or_else(PoisonError::into_inner).insert(user, told);
    plain("{}")
}

async fn presence(State(homeserver): Shared, Path(user): Path<String>) -> Response {
    let told = homeserver.presence.lock().unwrap_or_else(PoisonError::into_inner).get(&user).cloned();
    answer(&told.unwrap_or_else(|| json!({"presence": "offline"})))
}

/// What has no answer of its own gets what most of them have.
async fn anything(State(homeserver): Shared, method: Method, uri: Uri) -> Response {
    homeserver.requests.fetch_add(1, Ordering::Relaxed);
    let path = uri.path();
    if path.contains("/state/") && method == Method::PUT || path.contains("/redact/") {
        return plain(format!(r#"{{"event_id":"{}"}}"#, homeserver.event_id()));
    }
    if path.ends_with("/joined_rooms") {
        return plain(r#"{"joined_rooms":[]}"#);
    }
    if path.ends_with("/joined_members") {
        return plain(r#"{"joined":{}}"#);
    }
    if path.ends_with("/messages") {
        return plain(r#"{"chunk":[],"start":"s"}"#);
    }
    if path.ends_with("/register") {
        return plain(r#"{"user_id":"@someone:hs.bench"}"#);
    }
    if path.ends_with("/join") || path.contains("/client/v3/join/") {
        return plain(r#"{"room_id":"!r:hs.bench"}"#);
    }
    plain("{}")
}
