//! What the homeserver may ask of us: the application-service API (Matrix AS API, v1.17), and two health endpoints.
//!
//! A transaction is answered only when the engine says that it is durable. If the engine is gone it is refused, so that
//! the homeserver sends it again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use futures::StreamExt;
use ruma::{
    api::{
        OutgoingResponse,
        appservice::{event::push_events, ping::send_ping, thirdparty::get_protocol},
    },
    thirdparty::{FieldType, FieldTypeInit, ProtocolInit, ProtocolInstanceInit},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::sync::{Semaphore, mpsc, watch};

use super::{
    counters::{Count, Counters},
    tickets::Tickets,
    transaction::{self, Flags},
};
use crate::domain::{Input, credentials::Secret};

/// The largest body that is read: 64 MiB. Synapse sends at most 100 events of 64 KiB and 100 ephemeral ones at a time.
pub const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// Transactions handled at once. A homeserver sends one after the other; more are retries of one that it gave up.
pub const TRANSACTIONS_AT_ONCE: usize = 4;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);

/// The longest transaction id that is taken: they are stored, and Synapse's are short numbers.
const TXN_ID_LIMIT: usize = 255;

/// What the endpoints share with the rest of the process.
#[derive(Debug)]
pub struct AppService {
    hs_token: Secret,
    mailbox: mpsc::Sender<Input>,
    /// Whom to tell when a transaction is durable.
    pub tickets: Tickets,
    counters: Arc<Counters>,
    places: Semaphore,
    ready: AtomicBool,
    /// Transactions are told to come again.
    refusing: AtomicBool,
    /// One was.
    held: AtomicBool,
    /// A transaction came and did not reach the engine: the next may have overtaken it.
    missed: AtomicBool,
    last_ping: Mutex<Option<String>>,
    /// Transactions are looked at and no more; see [`AppService::only_look`].
    only_looking: AtomicBool,
    seen: watch::Sender<Seen>,
}

/// What the homeserver's requests have shown, for `check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// How many transactions came.
    pub transactions: u64,
    /// What the last one showed.
    pub flags: Flags,
    /// The id of the last ping.
    pub ping: Option<String>,
}

/// How long [`SEEN_PATH`] waits for news.
const SEEN_WAIT: Duration = Duration::from_secs(3);

/// Where a running bridge tells what it has seen (with the `hs_token`): [`Seen`], as JSON. With `?after=N` it waits a moment for
/// more than `N` transactions.
pub const SEEN_PATH: &str = "/_matrix/mau/seen";

impl AppService {
    /// `hs_token` is the registration's; `mailbox` is the engine's, bounded: while it is full the homeserver waits.
    pub fn new(hs_token: Secret, mailbox: mpsc::Sender<Input>, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            hs_token,
            mailbox,
            tickets: Tickets::default(),
            counters,
            places: Semaphore::new(TRANSACTIONS_AT_ONCE),
            ready: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            held: AtomicBool::new(false),
            missed: AtomicBool::new(false),
            last_ping: Mutex::new(None),
            only_looking: AtomicBool::new(false),
            seen: watch::Sender::default(),
        })
    }

    /// From now on `/_matrix/mau/ready` answers 200 (or no longer does).
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
        self.refusing.store(false, Ordering::Relaxed);
    }

    /// Until [`AppService::set_ready`], transactions are told to come again: with a blank store what they bring would be
    /// answered for and lost, should there be rooms to recover.
    pub fn refuse_transactions(&self) {
        self.refusing.store(true, Ordering::Relaxed);
    }

    /// A transaction was told to come again because of [`AppService::refuse_transactions`]: unless it is asked to, the
    /// homeserver may take minutes to try again.
    pub fn held_any(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// From now on transactions are looked at and told to come again, for nobody is there to handle them, save those with nothing
    /// in them but what is ephemeral: these end here, so that the homeserver does not wait with the next.
    pub fn only_look(&self) {
        self.only_looking.store(true, Ordering::Relaxed);
    }

    /// What was seen, once there are more than so many transactions, or after a moment.
    pub async fn seen(&self, after: u64) -> Seen {
        let mut news = self.seen.subscribe();
        let more = news.wait_for(|seen| seen.transactions > after);
        // Without news within the time, what there is.
        drop(tokio::time::timeout(SEEN_WAIT, more).await);
        self.seen_now()
    }

    fn seen_now(&self) -> Seen {
        Seen { ping: self.last_ping(), ..self.seen.borrow().clone() }
    }

    /// The transaction id of the last ping that reached *this* process: tells it from another one that listens at the
    /// address in the registration.
    pub fn last_ping(&self) -> Option<String> {
        self.last_ping.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All endpoints.
    pub fn router(self: &Arc<Self>) -> Router {
        let app = Router::new()
            .route(transaction::path(), put(push))
            .route("/transactions/{txn_id}", put(push))
            .route("/_matrix/app/v1/users/{user_id}", get(nobody))
            .route("/users/{user_id}", get(nobody))
            .route("/_matrix/app/v1/rooms/{alias}", get(no_room))
            .route("/rooms/{alias}", get(no_room))
            .route("/_matrix/app/v1/ping", post(ping))
            .route("/_matrix/app/unstable/fi.mau.msc2659/ping", post(ping))
            .route(SEEN_PATH, get(seen))
            .route("/_matrix/app/v1/thirdparty/protocol/{protocol}", get(protocol))
            .route("/_matrix/app/v1/thirdparty/user/{protocol}", get(look_up))
            .route("/_matrix/app/v1/thirdparty/location/{protocol}", get(look_up))
            .route("/_matrix/app/v1/thirdparty/user", get(nothing))
            .route("/_matrix/app/v1/thirdparty/location", get(nothing))
            .route_layer(middleware::from_fn_with_state(Arc::clone(self), authenticate))
            .with_state(Arc::clone(self));
        let health = Router::new()
            .route("/_matrix/mau/live", get(async || StatusCode::OK))
            .route("/_matrix/mau/ready", get(ready))
            .with_state(Arc::clone(self));
        app.merge(health)
            .fallback(async || error(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "There is no such endpoint."))
            .method_not_allowed_fallback(async || {
                error(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "This endpoint does not know that method.")
            })
    }
}

/// The specification leaves the error codes of 401 and 403 to the application service.
async fn authenticate(State(service): State<Arc<AppService>>, request: Request, next: Next) -> Response {
    match token(&request) {
        None => {
            service.counters.add(Count::TokenMissing);
            error(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "The request carries no hs_token.")
        }
        Some(token) if token.expose().as_bytes().ct_eq(service.hs_token.expose().as_bytes()).into() => {
            next.run(request).await
        }
        Some(_) => {
            service.counters.add(Count::TokenWrong);
            error(StatusCode::FORBIDDEN, "M_FORBIDDEN", "The hs_token is not the one in our registration.")
        }
    }
}

/// From the `Authorization` header, or from the legacy `access_token` of the query. The header decides if both are there.
fn token(request: &Request) -> Option<Secret> {
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(token.trim()));
    }
    let query = request.uri().query()?;
    let found = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "access_token")?;
    Some(Secret::new(found.1))
}

async fn push(State(service): State<Arc<AppService>>, Path(txn_id): Path<String>, request: Request) -> Response {
    if txn_id.len() > TXN_ID_LIMIT {
        return error(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", "The transaction id is too long.");
    }
    let on_its_way = OnItsWay(&service.missed);
    if service.refusing.load(Ordering::Relaxed) {
        service.held.store(true, Ordering::Relaxed);
        return refuse(&service, "The bridge is starting.");
    }
    let Ok(_place) = service.places.try_acquire() else {
        return refuse(&service, "Other transactions are still being handled.");
    };
    let body = match read(request).await {
        Ok(body) => body,
        Err(why) => return why.into_response(),
    };
    let transaction = match transaction::parse(&body, &service.counters) {
        Ok(transaction) => transaction,
        Err(why) => {
            let code = match why {
                transaction::NoTransaction::NotJson => "M_NOT_JSON",
                transaction::NoTransaction::NotAnObject => "M_BAD_JSON",
            };
            return error(StatusCode::BAD_REQUEST, code, &why.to_string());
        }
    };
    drop(body);
    service.seen.send_modify(|seen| {
        seen.transactions += 1;
        seen.flags = transaction.flags;
    });
    if service.only_looking.load(Ordering::Relaxed) {
        if transaction.events.is_empty() {
            return respond(push_events::v1::Response::new());
        }
        return refuse(&service, "The bridge does not run.");
    }
    let mut waiting = service.tickets.draw();
    let input = Input::Transaction {
        ticket: waiting.ticket(),
        txn_id,
        events: transaction.events,
        ephemeral: transaction.ephemeral,
        overtakes: service.missed.swap(false, Ordering::Relaxed),
    };
    if service.mailbox.send(input).await.is_err() {
        return refuse(&service, "The bridge is stopping.");
    }
    std::mem::forget(on_its_way);
    let durable = tokio::select! {
        biased;
        answered = waiting.answered() => answered,
        () = service.mailbox.closed() => false,
    };
    if durable { respond(push_events::v1::Response::new()) } else { refuse(&service, "It cannot be taken now.") }
}

/// A transaction that is not with the engine yet. Dropped then, whether refused or because the homeserver gave it up, the
/// next one may be a later one.
struct OnItsWay<'a>(&'a AtomicBool);

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn refuse(service: &AppService, why: &str) -> Response {
    service.counters.add(Count::TransactionRefused);
    error(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", why)
}

/// Why a body could not be read.
enum NoBody {
    TooLarge,
    BrokenOff,
    TooSlow,
}

impl IntoResponse for NoBody {
    fn into_response(self) -> Response {
        match self {
            Self::TooLarge => error(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", "The body is larger than 64 MiB."),
            Self::BrokenOff => error(StatusCode::BAD_REQUEST, "M_UNKNOWN", "The body broke off."),
            Self::TooSlow => error(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", "The body took too long."),
        }
    }
}

async fn read(request: Request) -> Result<Vec<u8>, NoBody> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > BODY_LIMIT)) {
        return Err(NoBody::TooLarge);
    }
    let mut stream = request.into_body().into_data_stream();
    let whole = async {
        let mut body = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| NoBody::BrokenOff)?;
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(NoBody::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    tokio::time::timeout(BODY_TIMEOUT, whole).await.unwrap_or(Err(NoBody::TooSlow))
}

/// Ghosts and rooms are made when a contact is known, never because the homeserver asks.
async fn nobody() -> Response {
    error(StatusCode::NOT_FOUND, "M_NOT_FOUND", "No such user.")
}

async fn no_room() -> Response {
    error(StatusCode::NOT_FOUND, "M_NOT_FOUND", "No such room.")
}

async fn ping(State(service): State<Arc<AppService>>, request: Request) -> Response {
    let body = match read(request).await {
        Ok(body) => body,
        Err(why) => return why.into_response(),
    };
    // The body may be empty or without an id: a ping is answered all the same.
    let id = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|value| value.get("transaction_id")?.as_str().map(str::to_owned))
        .filter(|id| id.len() <= TXN_ID_LIMIT);
    *service.last_ping.lock().unwrap_or_else(PoisonError::into_inner) = id;
    respond(send_ping::v1::Response::new())
}

async fn seen(State(service): State<Arc<AppService>>, Query(asked): Query<Asked>) -> Response {
    let seen = match asked.after {
        Some(after) => service.seen(after).await,
        None => service.seen_now(),
    };
    let body = serde_json::to_string(&seen).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[derive(Deserialize)]
struct Asked {
    after: Option<u64>,
}

async fn ready(State(service): State<Arc<AppService>>) -> StatusCode {
    if service.ready.load(Ordering::Relaxed) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn protocol(Path(name): Path<String>) -> Response {
    let (desc, field, regexp, placeholder) = match name.as_str() {
        "messenger" => ("Messenger", "address", r"[^\s@]+@[^\s@]+", "friend@example.org"),
        "xmpp" => ("XMPP", "jid", r"[^\s@/]+@[^\s@/]+", "friend@example.org"),
        _ => return error(StatusCode::NOT_FOUND, "M_NOT_FOUND", "This bridge does not know that protocol."),
    };
    let field_type = FieldType::from(FieldTypeInit { regexp: regexp.to_owned(), placeholder: placeholder.to_owned() });
    respond(get_protocol::v1::Response::new(
        ProtocolInit {
            user_fields: vec![field.to_owned()],
            location_fields: Vec::new(),
            icon: String::new(),
            field_types: BTreeMap::from([(field.to_owned(), field_type)]),
            instances: vec![
                ProtocolInstanceInit { desc: desc.to_owned(), fields: BTreeMap::new(), network_id: name }.into(),
            ],
        }
        .into(),
    ))
}

/// A contact belongs to one login, so nobody else may look it up.
async fn look_up(Path(name): Path<String>) -> Response {
    match name.as_str() {
        "messenger" | "xmpp" => nothing().await,
        _ => error(StatusCode::NOT_FOUND, "M_NOT_FOUND", "This bridge does not know that protocol."),
    }
}

async fn nothing() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], "[]").into_response()
}

fn respond(response: impl OutgoingResponse) -> Response {
    match response.try_into_http_response::<Vec<u8>>() {
        Ok(response) => response.map(Body::from),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "The answer could not be written."),
    }
}

fn error(status: StatusCode, code: &str, sentence: &str) -> Response {
    let body = json!({ "errcode": code, "error": sentence }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, authorization: Option<&str>) -> Request {
        let mut builder = Request::builder().uri(uri);
        if let Some(value) = authorization {
            builder = builder.header(header::AUTHORIZATION, value);
        }
        builder.body(Body::empty()).unwrap()
    }

    #[test]
    fn the_token_comes_from_the_header_or_the_legacy_query() {
        let found = |uri, header| token(&request(uri, header)).map(|t| t.expose().to_owned());
        assert_eq!(found("/x", Some("Bearer abc")).as_deref(), Some("abc"));
        assert_eq!(found("/x", Some("bearer abc")).as_deref(), Some("abc"));
        assert_eq!(found("/x?access_token=a%2Bb", None).as_deref(), Some("a+b"));
        assert_eq!(found("/x?access_token=right", Some("Bearer wrong")).as_deref(), Some("wrong"));
        assert_eq!(found("/x?access_token=right", Some("Basic abc")), None);
        assert_eq!(found("/x?user_id=a", None), None);
    }
}
