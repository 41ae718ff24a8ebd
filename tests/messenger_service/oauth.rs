//! The OAuth 2.0 endpoints, under the names of both releases.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use url::Url;
use url::form_urlencoded::parse;

use super::service::Hub;
use super::tokens::Grant;
use super::wire::esc;
use super::world::World;

/// The scope that a refresh token needs.
const OFFLINE_ACCESS: &str = "wl.offline_access";
/// Largest form, in bytes.
const MAX_FORM: usize = 64 * 1024;

/// All endpoints.
pub fn router(hub: Arc<Hub>) -> Router {
    let authorize = || get(show_form).post(allow);
    Router::new()
        .route("/oauth20_authorize.srf", authorize())
        .route("/authorize", authorize())
        .route("/oauth20_token.srf", post(token))
        .route("/token", post(token))
        .route("/oauth20_desktop.srf", get(desktop))
        .route("/desktop", get(desktop))
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .with_state(hub)
}

type Fields = BTreeMap<String, String>;

fn fields(encoded: &[u8]) -> Fields {
    parse(encoded).into_owned().collect()
}

fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// An authorization request that makes sense.
struct Asked {
    client_id: String,
    redirect_uri: Url,
    scope: String,
    state: Option<String>,
    implicit: bool,
    challenge: Option<String>,
}

/// A request that cannot be answered by a redirect gets a page (RFC 6749 4.1.2.1).
fn asked(hub: &Hub, query: &Fields) -> Result<Asked, Box<Response>> {
    let client_id = field(query, "client_id").unwrap_or_default().to_owned();
    let known = hub.settings.oauth_client.as_ref().is_none_or(|(id, _)| *id == client_id);
    if client_id.is_empty() || !known {
        return Err(Box::new(page(StatusCode::BAD_REQUEST, "<p>The application is not known (client_id).</p>")));
    }
    let Some(redirect_uri) = field(query, "redirect_uri").and_then(|uri| Url::parse(uri).ok()) else {
        return Err(Box::new(page(StatusCode::BAD_REQUEST, "<p>The request has no usable redirect_uri.</p>")));
    };
    let implicit = field(query, "response_type") == Some("token");
    let asked = Asked {
        client_id,
        redirect_uri,
        scope: field(query, "scope").unwrap_or_default().to_owned(),
        state: field(query, "state").map(str::to_owned),
        implicit,
        challenge: field(query, "code_challenge").map(str::to_owned),
    };
    let error = if !implicit && field(query, "response_type") != Some("code") {
        "unsupported_response_type"
    } else if asked.scope.is_empty() {
        "invalid_scope"
    } else if asked.challenge.is_some() && field(query, "code_challenge_method") != Some("S256") {
        "invalid_request"
    } else {
        return Ok(asked);
    };
    Err(Box::new(redirect(asked, &[("error", error)])))
}

fn redirect(asked: Asked, answer: &[(&str, &str)]) -> Response {
    let mut target = asked.redirect_uri;
    let state = asked.state.as_deref().map(|state| ("state", state));
    let answer = answer.iter().copied().chain(state);
    if asked.implicit {
        let fragment = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(answer).finish();
        target.set_fragment(Some(&fragment));
    } else {
        target.query_pairs_mut().extend_pairs(answer);
    }
    (StatusCode::FOUND, [(header::LOCATION, target.to_string())]).into_response()
}

fn page(status: StatusCode, inside: &str) -> Response {
    let html = format!(
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>Sign in</title>\
         <body style=\"font-family:sans-serif;max-width:24em;margin:4em auto\"><h1>Messenger</h1>{inside}</body></html>"
    );
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

fn form(status: StatusCode, query: &str, hint: &str, note: &str) -> Response {
    page(
        status,
        &format!(
            "<form method=\"post\" action=\"?{}\"><p>{note}</p>\
             <p><label>E-mail<br><input name=\"email\" type=\"email\" value=\"{}\"></label></p>\
             <p><label>Password<br><input name=\"password\" type=\"password\"></label></p>\
             <p><button>Sign in</button></p></form>",
            esc(query),
            esc(hint)
        ),
    )
}

async fn show_form(State(hub): State<Arc<Hub>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let fields = fields(query.as_bytes());
    if let Err(response) = asked(&hub, &fields) {
        return *response;
    }
    let hint = field(&fields, "login_hint").unwrap_or_default();
    form(StatusCode::OK, &query, hint, "An application asks to sign in to Messenger for you.")
}

/// The form comes back: the request in the query or in the form, e-mail address and password in the form.
async fn allow(State(hub): State<Arc<Hub>>, RawQuery(query): RawQuery, body: Bytes) -> Response {
    let query = query.unwrap_or_default();
    let mut all = fields(query.as_bytes());
    all.extend(fields(&body));
    let asked = match asked(&hub, &all) {
        Err(response) => return *response,
        Ok(asked) => asked,
    };
    let email = field(&all, "email").unwrap_or_default();
    let mut world = hub.world();
    let account = world
        .resolve(email)
        .ok()
        .and_then(|jid| world.people.get(&jid))
        .filter(|person| Some(person.account.password.as_str()) == all.get("password").map(String::as_str))
        .map(|person| person.account.jid.clone());
    let Some(account) = account else {
        return form(StatusCode::UNAUTHORIZED, &query, email, "The e-mail address or the password is wrong.");
    };
    let grant = Grant { account, client_id: asked.client_id.clone(), scope: asked.scope.clone() };
    if asked.implicit {
        let (token, expires_in) = access(&mut world, grant);
        let scope = asked.scope.clone();
        let expires_in = expires_in.to_string();
        let answer =
            [("access_token", &*token), ("token_type", "bearer"), ("expires_in", &*expires_in), ("scope", &*scope)];
        redirect(asked, &answer)
    } else {
        let redirect_uri = all.get("redirect_uri").cloned().unwrap_or_default();
        let code = world.tokens.code(grant, redirect_uri, asked.challenge.clone());
        redirect(asked, &[("code", &code)])
    }
}

/// A new access token and the seconds for which it is good.
fn access(world: &mut World, grant: Grant) -> (String, u64) {
    let lifetime = world.switches.token_lifetime_ms;
    (world.tokens.access_token(grant, Duration::from_millis(lifetime)), lifetime / 1000)
}

async fn token(State(hub): State<Arc<Hub>>, body: Bytes) -> Response {
    let form = fields(&body);
    let answer = |status, value: serde_json::Value| {
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        (status, headers, value.to_string()).into_response()
    };
    match exchange(&hub, &form) {
        Ok(value) => answer(StatusCode::OK, value),
        Err(error) => answer(StatusCode::BAD_REQUEST, json!({ "error": error })),
    }
}

fn exchange(hub: &Hub, form: &Fields) -> Result<serde_json::Value, &'static str> {
    let given = |name| field(form, name).ok_or("invalid_request");
    let client_id = given("client_id")?;
    if let Some((id, secret)) = &hub.settings.oauth_client
        && (id != client_id || secret.as_deref() != field(form, "client_secret"))
    {
        return Err("invalid_client");
    }
    let mut world = hub.world();
    let grant = match given("grant_type")? {
        "authorization_code" => {
            let (code, redirect_uri) = (given("code")?, given("redirect_uri")?);
            let grant = world.tokens.redeem(code, client_id, redirect_uri, field(form, "code_verifier"));
            let grant = grant.ok_or("invalid_grant")?;
            world.count(&grant.account, |counters| counters.codes_redeemed += 1);
            grant
        }
        "refresh_token" => {
            let grant = world.tokens.refresh(given("refresh_token")?, client_id);
            let account = grant.as_ref().map(|grant| grant.account.clone()).unwrap_or_default();
            let Some(grant) = grant.filter(|_| !world.switches.refuse_refresh) else {
                world.count(&account, |counters| counters.refreshes_refused += 1);
                return Err("invalid_grant");
            };
            world.count(&account, |counters| counters.refreshes += 1);
            grant
        }
        _ => return Err("unsupported_grant_type"),
    };
    let (token, expires_in) = access(&mut world, grant.clone());
    let expires_in = if world.switches.expires_in_as_text { json!(expires_in.to_string()) } else { json!(expires_in) };
    let mut answer =
        json!({ "access_token": token, "token_type": "bearer", "expires_in": expires_in, "scope": grant.scope });
    if grant.allows(OFFLINE_ACCESS) {
        answer["refresh_token"] = json!(world.tokens.refresh_token(grant));
    }
    Ok(answer)
}

async fn desktop() -> Response {
    page(StatusCode::OK, "<p>You are signed in. Copy the address of this page into the application.</p>")
}
