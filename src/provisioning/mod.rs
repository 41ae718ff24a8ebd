//! The HTTP API for programs that look after people's logins: version 3 of the provisioning API of mautrix's bridgev2
//! (`bridgev2/matrix/provisioning.go`), so that what knows that knows us. `docs/openapi.yaml` says it to programs,
//! `docs/api.md` to people.

mod auth;
pub mod identity;
pub mod limits;
mod login;
mod people;
mod reply;
pub mod status;
mod step;
mod whoami;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    extract::{FromRequestParts, Path, Request, State},
    http::{Method, StatusCode, header, request},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use futures::StreamExt as _;
use ruma::OwnedUserId;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use self::{identity::Identity, limits::Limits, reply::Problem, status::StatusBoard};
use crate::{
    bridge::{Homeserver, Settings},
    desk::Desk,
    domain::{
        credentials::Secret,
        request::{Request as Asked, Response as Told, Wish},
    },
};

/// What all paths of the API begin with.
pub const BASE: &str = "/_matrix/provision";
/// The API's description for programs.
pub const OPENAPI: &str = include_str!("../../docs/openapi.yaml");
/// The longest body that is read, in bytes.
pub const BODY: usize = 64 * 1024;
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(15);
/// How long the engine may take where nobody outside has to be waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// What requests to an endpoint cost; see [`limits`].
fn cost(path: &str) -> u32 {
    match path {
        // They make the bridge ask somebody else.
        path if ["/login/start/", "/login/step/", "{identifier}"].iter().any(|part| path.contains(part)) => 10,
        // They look through all contacts.
        "/v3/contacts" | "/v3/search_users" => 5,
        _ => 1,
    }
}

/// The API.
#[derive(Debug)]
pub struct Provisioning {
    desk: Arc<Desk>,
    board: Arc<StatusBoard>,
    identity: Identity,
    homeserver: Homeserver,
    settings: Settings,
    secret: Option<Secret>,
    allow_matrix_auth: bool,
    limits: Arc<Limits>,
    waits: tokio::sync::Semaphore,
}

/// What opens it.
#[derive(Debug)]
pub struct Keys {
    /// The shared secret.
    pub secret: Option<Secret>,
    /// Tokens of the homeserver.
    pub allow_matrix_auth: bool,
    /// Whose these are.
    pub identity: Identity,
}

type Routes = Vec<(&'static str, &'static str, MethodRouter<Arc<Provisioning>>)>;

/// Every endpoint that needs a person: method, path below [`BASE`], and what serves it.
fn endpoints() -> Routes {
    vec![
        ("GET", "/v3/whoami", get(whoami::whoami)),
        ("GET", "/v3/capabilities", get(whoami::capabilities)),
        ("GET", "/v3/login/flows", get(whoami::flows)),
        ("POST", "/v3/login/start/{flowID}", post(login::start)),
        ("POST", "/v3/login/step/{loginProcessID}/{stepID}/user_input", post(login::user_input)),
        ("POST", "/v3/login/step/{loginProcessID}/{stepID}/display_and_wait", post(login::display_and_wait)),
        ("POST", "/v3/login/cancel/{loginProcessID}", post(login::cancel)),
        ("POST", "/v3/logout/{loginID}", post(login::logout)),
        ("GET", "/v3/logins", get(whoami::logins)),
        ("GET", "/v3/contacts", get(people::contacts)),
        ("POST", "/v3/search_users", post(people::search)),
        ("GET", "/v3/resolve_identifier/{identifier}", get(people::resolve)),
        ("POST", "/v3/create_dm/{identifier}", post(people::create_dm)),
    ]
}

/// Every endpoint: method, and path below [`BASE`].
pub fn routes() -> Vec<(&'static str, &'static str)> {
    let open = [("GET", "/openapi.yaml")];
    open.into_iter().chain(endpoints().into_iter().map(|(method, path, _)| (method, path))).collect()
}

impl Provisioning {
    /// `settings` and `homeserver` as the engine has them.
    pub fn new(
        desk: Arc<Desk>,
        board: Arc<StatusBoard>,
        keys: Keys,
        homeserver: Homeserver,
        settings: Settings,
    ) -> Arc<Self> {
        let Keys { secret, allow_matrix_auth, identity } = keys;
        let limits = Arc::default();
        let waits = tokio::sync::Semaphore::new(login::WAITS);
        Arc::new(Self { desk, board, identity, homeserver, settings, secret, allow_matrix_auth, limits, waits })
    }

    /// All endpoints.
    pub fn router(self: &Arc<Self>) -> Router {
        let mut router = Router::new();
        for (_, path, endpoint) in endpoints() {
            let guarded = middleware::from_fn_with_state((Arc::clone(self), path), let_in);
            router = router.route(&format!("{BASE}{path}"), endpoint.layer(guarded));
        }
        let wrong_method = async || {
            let sentence = "This endpoint does not know that method.";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", sentence).into_response()
        };
        router
            .method_not_allowed_fallback(wrong_method)
            .route(&format!("{BASE}/openapi.yaml"), get(openapi))
            .route_layer(middleware::from_fn(for_browsers))
            .with_state(Arc::clone(self))
    }

    /// Asks the engine for a person.
    async fn ask(&self, owner: &OwnedUserId, wish: Wish, patience: Duration) -> Result<Told, Problem> {
        match self.desk.ask(Asked::Person { owner: owner.clone(), wish }, patience).await? {
            Told::Refused(refusal) => Err(refusal.into()),
            told => Ok(told),
        }
    }
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/yaml")], OPENAPI).into_response()
}

/// Who asks, behind [`let_in`].
#[derive(Clone, Debug)]
struct Caller(OwnedUserId);

/// A request has a person, and they have not asked too much.
async fn let_in(
    State((api, path)): State<(Arc<Provisioning>, &'static str)>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let user_id = query(&request, "user_id");
    let response = match api.person(request.headers(), user_id.as_deref()).await {
        Err(problem) => problem.into_response(),
        Ok(person) => match api.limits.enter(&person, cost(path), began) {
            Err(problem) => problem.into_response(),
            Ok(_in_hand) => {
                request.extensions_mut().insert(Caller(person));
                next.run(request).await
            }
        },
    };
    // Neither the path as it came nor the query: they say whom a person looks for.
    tracing::debug!(path, status = response.status().as_u16(), took = ?began.elapsed(), "provisioning");
    response
}

async fn for_browsers(request: Request, next: Next) -> Response {
    let mut response =
        if request.method() == Method::OPTIONS { StatusCode::OK.into_response() } else { next.run(request).await };
    reply::dress(&mut response);
    response
}

/// A parameter of the query that is there and not empty.
fn query(request: &Request, name: &str) -> Option<String> {
    let query = request.uri().query()?;
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty())
}

/// A body that is a JSON object.
async fn object(request: Request) -> Result<serde_json::Map<String, serde_json::Value>, Problem> {
    let body = read(request).await?;
    match serde_json::from_slice(&body).map_err(|_| Problem::bad("M_NOT_JSON", "The body is no JSON."))? {
        serde_json::Value::Object(members) => Ok(members),
        _ => Err(Problem::bad("M_BAD_JSON", "The body is no JSON object.")),
    }
}

/// A body that is a JSON object of texts.
async fn texts(request: Request) -> Result<HashMap<String, Secret>, Problem> {
    let text = |(name, value)| match value {
        serde_json::Value::String(text) => Ok((name, Secret::new(text))),
        _ => Err(Problem::bad("M_BAD_JSON", "Every member of the body has to be a text.")),
    };
    object(request).await?.into_iter().map(text).collect()
}

async fn read(request: Request) -> Result<zeroize::Zeroizing<Vec<u8>>, Problem> {
    let mut stream = request.into_body().into_data_stream();
    let whole = async {
        let mut body = zeroize::Zeroizing::new(Vec::new());
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|_| Problem::bad("M_UNKNOWN", "The body broke off."))?;
            if body.len() + piece.len() > BODY {
                let sentence = "The body is larger than 64 kB.";
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", sentence));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    };
    let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", "The body took too long.");
    timeout(BODY_TIME, whole).await.unwrap_or_else(|_| Err(late()))
}

/// The parts of the path that are the request's own.
struct Parts<T>(T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Parts<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, Problem> {
        let wrong = |_| Problem::bad("M_INVALID_PARAM", "The path is no UTF-8.");
        Path::from_request_parts(parts, state).await.map(|Path(found)| Self(found)).map_err(wrong)
    }
}

/// What every endpoint is given.
type Api = State<Arc<Provisioning>>;
type Who = Extension<Caller>;
