//! OAuth 2.0 (RFC 6749) with PKCE (RFC 7636) against a network's provider: the link, redeeming a code, renewing.
//!
//! Providers of the service's time are not strict about the answer's JSON, so it is brought into RFC 6749's shape before
//! it is read. No redirect is followed, and no answer is read beyond a bound.

use std::{
    path::PathBuf,
    pin::Pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet, HttpRequest,
    HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, Scope,
    TokenResponse, TokenUrl,
    basic::{BasicClient, BasicErrorResponse, BasicErrorResponseType, BasicTokenResponse},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::tls::{Tls, TlsMode, TlsSettings};
use crate::domain::{
    Timestamp,
    credentials::{Secret, Tokens},
    input::Answer,
    output::Ask,
};

/// A request to the provider gets this long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// A network's OAuth provider.
#[derive(Clone, Debug, Default)]
pub struct OAuthSettings {
    /// Who we are to the provider.
    pub client_id: String,
    /// Only of confidential clients.
    pub client_secret: Option<SecretString>,
    /// Where the person goes.
    pub authorize_url: String,
    /// Where codes become tokens.
    pub token_url: String,
    /// Where the provider sends the person back to.
    pub redirect_url: String,
    /// What is asked for; joined by a blank.
    pub scopes: Vec<String>,
    /// Further roots (PEM) for the token endpoint.
    pub ca_file: Option<PathBuf>,
    /// A further name that its certificate may carry.
    pub accept_name: Option<String>,
}

type Client = BasicClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// Why there are no tokens. Holds no secret.
struct Failed {
    refused: bool,
    sentence: String,
}

impl Failed {
    fn configuration(what: &str) -> Self {
        Self { refused: true, sentence: format!("the configuration of this network's sign-in is wrong: {what}") }
    }
}

impl From<Failed> for Answer {
    fn from(Failed { refused, sentence }: Failed) -> Self {
        Self::OAuthFailed { refused, sentence }
    }
}

/// A request could not be made; the words are for a person.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct HttpError(String);

/// Answers the engine's question.
pub async fn answer(settings: &OAuthSettings, tls: &Tls, ask: Ask) -> Answer {
    let redirect = match &ask {
        Ask::BeginOAuth { redirect, .. } | Ask::RedeemCode { redirect, .. } => redirect.as_deref(),
        Ask::Refresh { .. } => None,
    };
    let client = match client(settings, redirect) {
        Ok(client) => client,
        Err(failed) => return failed.into(),
    };
    let tokens = match ask {
        Ask::BeginOAuth { .. } => return begin(&client, settings),
        Ask::RedeemCode { code, verifier, .. } => redeem(&client, settings, tls, &code, &verifier).await,
        Ask::Refresh { refresh, .. } => renew(&client, settings, tls, &refresh).await,
    };
    match tokens {
        Ok(tokens) => Answer::Tokens(tokens),
        Err(failed) => failed.into(),
    }
}

fn begin(client: &Client, settings: &OAuthSettings) -> Answer {
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let (url, state) = client
        .authorize_url(CsrfToken::new_random)
        .add_scopes(settings.scopes.iter().cloned().map(Scope::new))
        .set_pkce_challenge(challenge)
        .url();
    let verifier = Secret::new(verifier.secret().as_str());
    Answer::OAuthBegun { url: url.into(), state: state.into_secret(), verifier }
}

async fn redeem(
    client: &Client,
    settings: &OAuthSettings,
    tls: &Tls,
    code: &Secret,
    verifier: &Secret,
) -> Result<Tokens, Failed> {
    let send = sender(http(settings, tls)?);
    let request = client
        .exchange_code(AuthorizationCode::new(code.expose().to_owned()))
        .set_pkce_verifier(PkceCodeVerifier::new(verifier.expose().to_owned()));
    read(request.request_async(&send).await, None)
}

async fn renew(client: &Client, settings: &OAuthSettings, tls: &Tls, refresh: &Secret) -> Result<Tokens, Failed> {
    let send = sender(http(settings, tls)?);
    let token = RefreshToken::new(refresh.expose().to_owned());
    // A provider that gives no new refresh token means the old one to go on (RFC 6749 section 6).
    read(client.exchange_refresh_token(&token).request_async(&send).await, Some(refresh))
}

/// `redirect`: where the provider sends the person back to, if not as configured.
fn client(settings: &OAuthSettings, redirect: Option<&str>) -> Result<Client, Failed> {
    for url in [&settings.authorize_url, &settings.token_url] {
        if !is_safe(url) {
            return Err(Failed::configuration("authorize_url and token_url must be https, or http on loopback"));
        }
    }
    let authorize = AuthUrl::new(settings.authorize_url.clone()).map_err(|_| Failed::configuration("authorize_url"))?;
    let token = TokenUrl::new(settings.token_url.clone()).map_err(|_| Failed::configuration("token_url"))?;
    let redirect = RedirectUrl::new(redirect.unwrap_or(&settings.redirect_url).to_owned())
        .map_err(|_| Failed::configuration("redirect_url"))?;
    let mut client = BasicClient::new(ClientId::new(settings.client_id.clone()))
        .set_auth_uri(authorize)
        .set_token_uri(token)
        .set_redirect_uri(redirect)
        .set_auth_type(AuthType::RequestBody);
    if let Some(secret) = &settings.client_secret {
        client = client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()));
    }
    Ok(client)
}

/// Tokens may only travel encrypted, or not leave the machine.
fn is_safe(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else { return false };
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(url::Host::Domain(name))) => name == "localhost" || name.ends_with(".localhost"),
        ("http", Some(url::Host::Ipv4(address))) => address.is_loopback(),
        ("http", Some(url::Host::Ipv6(address))) => address.is_loopback(),
        _ => false,
    }
}

fn http(settings: &OAuthSettings, tls: &Tls) -> Result<reqwest::Client, Failed> {
    let trust = TlsSettings {
        mode: TlsMode::Direct,
        ca_file: settings.ca_file.clone(),
        accept_name: settings.accept_name.clone(),
    };
    let config = tls.http_config(&trust).map_err(|error| Failed::configuration(&error.to_string()))?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(TIMEOUT)
        .build()
        .map_err(|_| Failed::configuration("no HTTP client could be made"))
}

type Sending = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send>>;

/// [`send`] in the shape that the crate takes, with a future that any thread may carry on.
fn sender(http: reqwest::Client) -> impl Fn(HttpRequest) -> Sending {
    move |request| {
        let http = http.clone();
        Box::pin(async move { send(&http, request).await })
    }
}

/// One request; the body is read up to a bound.
async fn send(http: &reqwest::Client, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let failed = |error: &reqwest::Error| HttpError(words(error).to_owned());
    let (parts, body) = request.into_parts();
    let request = http.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
    let mut response = request.send().await.map_err(|error| failed(&error))?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(HttpError("its answer is too long".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_server_error() {
        return Err(HttpError(format!("it answered with status {}", status.as_u16())));
    }
    let mut answer = HttpResponse::new(in_shape(body));
    *answer.status_mut() = status;
    // The type is said by what it is: some of these providers call it text.
    let json = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, json);
    Ok(answer)
}

/// What went wrong, without the URL.
fn words(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "it did not answer in time"
    } else if error.is_connect() {
        "it could not be reached, or its certificate cannot be trusted"
    } else {
        "the connection was lost"
    }
}

/// The answer in the shape of RFC 6749 section 5.1: `expires_in` may come as text, `token_type` not at all, and `scope`
/// and a null refresh token do not matter.
fn in_shape(body: Vec<u8>) -> Vec<u8> {
    let Ok(Value::Object(mut answer)) = serde_json::from_slice(&body) else { return body };
    if answer.contains_key("access_token") {
        let seconds = match answer.get("expires_in") {
            Some(Value::Number(number)) => number.as_u64().or_else(|| whole(&number.to_string())),
            Some(Value::String(text)) => whole(text),
            _ => None,
        };
        answer.remove("expires_in");
        if let Some(seconds) = seconds {
            answer.insert("expires_in".to_owned(), Value::from(seconds));
        }
        if !answer.get("token_type").is_some_and(Value::is_string) {
            answer.insert("token_type".to_owned(), Value::from("bearer"));
        }
        if answer.get("refresh_token").and_then(Value::as_str).is_none_or(str::is_empty) {
            answer.remove("refresh_token");
        }
        answer.remove("scope");
    } else {
        for extra in ["error_description", "error_uri"] {
            if !answer.get(extra).is_some_and(Value::is_string) {
                answer.remove(extra);
            }
        }
    }
    serde_json::to_vec(&answer).unwrap_or(body)
}

/// The whole seconds of a number written as text.
fn whole(text: &str) -> Option<u64> {
    text.trim().split('.').next()?.parse().ok().filter(|seconds| *seconds < 10_000_000_000)
}

fn read(
    result: Result<BasicTokenResponse, RequestTokenError<HttpError, BasicErrorResponse>>,
    old: Option<&Secret>,
) -> Result<Tokens, Failed> {
    let answer = result.map_err(|error| match error {
        RequestTokenError::ServerResponse(response) => refusal(response.error()),
        RequestTokenError::Request(HttpError(detail)) => {
            Failed { refused: false, sentence: format!("the sign-in service failed: {detail}") }
        }
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            Failed { refused: false, sentence: "the sign-in service's answer makes no sense".to_owned() }
        }
    })?;
    let refresh = answer.refresh_token().map(|token| Secret::new(token.secret().as_str())).or_else(|| old.cloned());
    let expires_at = answer.expires_in().map(|lifetime| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from((now + lifetime).as_millis()).unwrap_or(i64::MAX))
    });
    Ok(Tokens { access: Secret::new(answer.access_token().secret().as_str()), refresh, expires_at })
}

fn refusal(error: &BasicErrorResponseType) -> Failed {
    let sentence = match error {
        BasicErrorResponseType::InvalidGrant => "the sign-in service no longer accepts this sign-in".to_owned(),
        BasicErrorResponseType::InvalidClient | BasicErrorResponseType::UnauthorizedClient => {
            "the sign-in service does not accept this bridge: its client_id or client_secret is wrong".to_owned()
        }
        other => {
            // A code is a plain word (RFC 6749 section 5.2); whatever else stands there is not shown.
            let code = Some(other.as_ref())
                .filter(|code| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            format!("the sign-in service refused: {}", code.unwrap_or("it does not say why"))
        }
    };
    let later = matches!(error.as_ref(), "temporarily_unavailable" | "server_error" | "slow_down");
    Failed { refused: !later, sentence }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> OAuthSettings {
        OAuthSettings {
            client_id: "id".to_owned(),
            authorize_url: "https://login.live.com/oauth20_authorize.srf".to_owned(),
            token_url: "https://login.live.com/oauth20_token.srf".to_owned(),
            redirect_url: "https://login.live.com/oauth20_desktop.srf".to_owned(),
            scopes: vec!["wl.messenger".to_owned(), "wl.offline_access".to_owned()],
            ..OAuthSettings::default()
        }
    }

    #[tokio::test]
    async fn the_link_asks_for_a_code_with_a_challenge_and_a_state() {
        let ask = Ask::BeginOAuth { network: "messenger".to_owned(), redirect: None };
        let Answer::OAuthBegun { url, state, verifier } = answer(&settings(), &Tls::new(), ask).await else { panic!() };
        let url = url::Url::parse(&url).unwrap();
        let value = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        assert_eq!(value("response_type").as_deref(), Some("code"));
        assert_eq!(value("scope").as_deref(), Some("wl.messenger wl.offline_access"));
        assert_eq!(value("state"), Some(state));
        assert_eq!(value("redirect_uri").as_deref(), Some("https://login.live.com/oauth20_desktop.srf"));
        assert_eq!(value("code_challenge_method").as_deref(), Some("S256"));
        let challenge =
            PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(verifier.expose().to_owned()));
        assert_eq!(value("code_challenge").as_deref(), Some(challenge.as_str()));
    }

    #[tokio::test]
    async fn the_person_comes_back_to_where_the_question_says() {
        let ours = "https://bridge.example.org/login/return";
        let ask = Ask::BeginOAuth { network: "messenger".to_owned(), redirect: Some(ours.to_owned()) };
        let Answer::OAuthBegun { url, .. } = answer(&settings(), &Tls::new(), ask).await else { panic!() };
        let url = url::Url::parse(&url).unwrap();
        assert!(url.query_pairs().any(|(key, value)| key == "redirect_uri" && value == ours), "{url}");
    }

    #[tokio::test]
    async fn tokens_never_travel_in_the_clear() {
        for url in ["http://login.live.com/token", "http://10.0.0.1/token", "ftp://localhost/", "token"] {
            let settings = OAuthSettings { token_url: url.to_owned(), ..settings() };
            let ask = Ask::BeginOAuth { network: String::new(), redirect: None };
            assert!(matches!(answer(&settings, &Tls::new(), ask).await, Answer::OAuthFailed { .. }), "{url}");
        }
        for url in ["http://127.0.0.1:1/t", "http://[::1]/t", "http://localhost:80/t", "https://a.example/t"] {
            assert!(is_safe(url), "{url}");
        }
    }

    #[test]
    fn answers_are_brought_into_shape() {
        let read = |text: &str| {
            let answer: BasicTokenResponse = serde_json::from_slice(&in_shape(text.as_bytes().to_vec())).unwrap();
            (answer.expires_in().map(|lifetime| lifetime.as_secs()), answer.refresh_token().is_some())
        };
        assert_eq!(read(r#"{"access_token":"a","expires_in":"3600","scope":["x"]}"#), (Some(3600), false));
        assert_eq!(read(r#"{"access_token":"a","token_type":"bearer","expires_in":3600.0}"#), (Some(3600), false));
        assert_eq!(read(r#"{"access_token":"a","expires_in":"soon","refresh_token":"r"}"#), (None, true));
        assert_eq!(read(r#"{"access_token":"a","expires_in":-5,"refresh_token":null}"#), (None, false));
        assert_eq!(in_shape(b"<html>".to_vec()), b"<html>");
    }
}
