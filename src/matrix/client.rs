//! A request to the homeserver: ruma makes it and reads its answer, reqwest carries it, [`CallError`] says what went
//! wrong without ever showing a body.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use ruma::{
    OwnedServerName, OwnedUserId, UserId,
    api::{
        AppserviceUserIdentity, IncomingResponse, MatrixVersion, OutgoingRequest, OutgoingRequestAppserviceExt,
        SupportedVersions,
        auth_scheme::{AuthScheme, SendAccessToken},
        error::RetryAfter,
        path_builder::PathBuilder,
    },
};
use serde_json::{Value, value::RawValue};

use super::tally::Tally;
use crate::domain::{
    address::GHOST_PREFIX,
    credentials::Secret,
    input::{Cause, Failure},
};

/// The largest answer that is read: 10 MiB.
pub const ANSWER_LIMIT: usize = 10 * 1024 * 1024;

/// The longest wait that a homeserver can ask for: an hour.
const LONGEST_RETRY: Duration = Duration::from_hours(1);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// Making a room can take long on a busy homeserver.
const WHOLE_TIMEOUT: Duration = Duration::from_mins(3);
const IDLE_CONNECTIONS: usize = 256;

/// Characters kept of a homeserver's own sentence.
const MESSAGE_LIMIT: usize = 200;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The homeserver, or something in front of it, answered with an error.
    #[error("{}", .0.sentence())]
    Refused(Box<Refusal>),
    /// No answer in time.
    #[error("The homeserver did not answer in time.")]
    Timeout,
    /// The connection could not be made, or broke.
    #[error("The homeserver cannot be reached: {0}.")]
    Connection(String),
    /// An answer of more than [`ANSWER_LIMIT`] bytes.
    #[error("The homeserver's answer is larger than 10 MiB.")]
    TooLarge,
    /// An answer of success that cannot be read.
    #[error("The homeserver's answer to {0} cannot be understood.")]
    BadAnswer(&'static str),
    /// A request that cannot be made of what was given.
    #[error("The request cannot be made: {0}.")]
    BadRequest(String),
    /// The homeserver does not let us do this in a person's name.
    #[error("{}", .0.sentence())]
    NotAs(Box<Refusal>),
}

/// An answer of error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Matrix's `errcode`; `None` if the answer was not Matrix's (a proxy's page, an empty body).
    pub errcode: Option<String>,
    /// The homeserver's `error`, shortened.
    pub message: String,
    /// How many milliseconds to wait, at most an hour (`Retry-After`, else `retry_after_ms`).
    pub retry_after: Option<u64>,
    /// Of `M_BAD_STATUS` (appservice ping): the status that our own endpoint is said to have answered.
    pub ping_status: Option<u16>,
}

impl Refusal {
    /// Reads an answer of error; whatever it is, this gives something.
    pub(super) fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let header = headers.get(RETRY_AFTER).and_then(|value| RetryAfter::try_from(value).ok());
        let retry_after = match header {
            Some(RetryAfter::Delay(delay)) => Some(delay),
            Some(RetryAfter::DateTime(at)) => at.duration_since(std::time::SystemTime::now()).ok(),
            None => json["retry_after_ms"].as_u64().map(Duration::from_millis),
        };
        let text = |key: &str, limit: usize| -> Option<String> {
            let clean = |c: &char| !c.is_control();
            json[key].as_str().map(|text| text.chars().filter(clean).take(limit).collect())
        };
        Self {
            status,
            errcode: text("errcode", 100).filter(|code| !code.is_empty()),
            message: text("error", MESSAGE_LIMIT).unwrap_or_default(),
            retry_after: retry_after.map(|delay| millis(delay.min(LONGEST_RETRY))),
            ping_status: json["status"].as_u64().and_then(|status| status.try_into().ok()),
        }
    }

    fn sentence(&self) -> String {
        match (&self.errcode, self.message.as_str()) {
            (Some(code), "") => format!("The homeserver refused it ({} {code}).", self.status),
            (Some(code), message) => format!("The homeserver refused it ({} {code}: {message})", self.status),
            (None, _) => format!("Something that is not a Matrix homeserver answered {}.", self.status),
        }
    }
}

impl CallError {
    /// The `errcode` of a refusal.
    pub fn errcode(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) | Self::NotAs(refusal) => refusal.errcode.as_deref(),
            _ => None,
        }
    }

    /// The HTTP status of a refusal by the homeserver itself (one with an `errcode`).
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) | Self::NotAs(refusal) if refusal.errcode.is_some() => Some(refusal.status),
            _ => None,
        }
    }

    /// A 429: how long to wait, where it says so.
    pub fn limited(&self) -> Option<Option<u64>> {
        match self {
            Self::Refused(refusal)
                if refusal.status == 429 || refusal.errcode.as_deref() == Some("M_LIMIT_EXCEEDED") =>
            {
                Some(refusal.retry_after)
            }
            _ => None,
        }
    }

    /// Whether trying again can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout | Self::Connection(_) | Self::BadAnswer(_) => true,
            Self::TooLarge | Self::BadRequest(_) | Self::NotAs(_) => false,
            Self::Refused(refusal) => {
                if matches!(refusal.status, 408 | 425 | 429 | 500..) {
                    return true;
                }
                match refusal.errcode.as_deref() {
                    // Not Matrix's answer: a proxy whose homeserver is away. But an upload that is too large stays so.
                    None => refusal.status != 413,
                    // The registration is about to be installed again, or the homeserver has reached a limit that its
                    // admin can lift: what is owed stays owed.
                    Some("M_LIMIT_EXCEEDED" | "M_UNKNOWN_TOKEN" | "M_MISSING_TOKEN" | "M_RESOURCE_LIMIT_EXCEEDED") => {
                        true
                    }
                    Some(_) => false,
                }
            }
        }
    }

    /// As the engine wants it.
    pub fn into_failure(self) -> Failure {
        let code = match &self {
            Self::Refused(refusal) | Self::NotAs(refusal) => {
                refusal.errcode.clone().unwrap_or_else(|| format!("http-{}", refusal.status))
            }
            Self::Timeout => "timeout".to_owned(),
            Self::Connection(_) => "connection".to_owned(),
            Self::TooLarge => "too-large".to_owned(),
            Self::BadAnswer(_) => "bad-answer".to_owned(),
            Self::BadRequest(_) => "bad-request".to_owned(),
        };
        let cause = Cause { code, sentence: self.to_string() };
        if self.is_transient() {
            let retry_after = match &self {
                Self::Refused(refusal) => refusal.retry_after,
                _ => None,
            };
            Failure::Transient { cause, retry_after }
        } else {
            Failure::Permanent(cause)
        }
    }
}

/// Speaks to the homeserver as the application service.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    /// For media: how long it takes depends on its size, so only connecting has a time here.
    media: reqwest::Client,
    base: String,
    as_token: Secret,
    considering: SupportedVersions,
    puppets: Option<Arc<Puppets>>,
    tally: Arc<Tally>,
}

/// Double puppeting: the token of the second registration, and whom it is for.
#[derive(Debug)]
struct Puppets {
    token: Secret,
    /// The only homeserver whose users are acted for.
    server: OwnedServerName,
    bot: OwnedUserId,
    /// A refusal was told in the log, and nothing was allowed since.
    told: AtomicBool,
}

impl Client {
    /// `base` is the homeserver's address, such as `http://127.0.0.1:8008`; `as_token` the registration's. A rustls
    /// provider must have been installed in the process before.
    pub fn new(base: &str, as_token: Secret) -> Result<Self, CallError> {
        let builder = || {
            reqwest::Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                // The token goes to the configured homeserver and nowhere else.
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .user_agent(concat!("messenger-bridge/", env!("CARGO_PKG_VERSION")))
        };
        let wrong = |error: reqwest::Error| CallError::BadRequest(error.without_url().to_string());
        let http = builder().read_timeout(READ_TIMEOUT).timeout(WHOLE_TIMEOUT).build().map_err(wrong)?;
        let media = builder().build().map_err(wrong)?;
        // The paths are chosen here once: what the homeserver can do is tried, not read from its list of versions.
        let considering =
            SupportedVersions { versions: [MatrixVersion::V1_1, MatrixVersion::V1_7].into(), features: [].into() };
        let (base, tally) = (base.trim_end_matches('/').to_owned(), Arc::default());
        Ok(Self { http, media, base, as_token, considering, puppets: None, tally })
    }

    /// Whoever is neither `bot` nor a ghost is acted for with this token, the `as_token` of the registration for double
    /// puppeting. Only users of `server` are.
    #[must_use]
    pub fn with_puppets(self, token: Secret, server: OwnedServerName, bot: OwnedUserId) -> Self {
        let puppets = Puppets { token, server, bot, told: AtomicBool::new(false) };
        Self { puppets: Some(Arc::new(puppets)), ..self }
    }

    /// Is this somebody whom we act for by double puppeting?
    pub(super) fn is_person(&self, user: &UserId) -> bool {
        matches!(self.acting(Some(user)), Ok((_, Some(_))))
    }

    /// The token to act with as `user`, and the puppets' where it is theirs.
    fn acting(&self, user: Option<&UserId>) -> Result<(&Secret, Option<&Puppets>), CallError> {
        match (&self.puppets, user) {
            (Some(puppets), Some(user)) if *user != puppets.bot && !user.localpart().starts_with(GHOST_PREFIX) => {
                if user.server_name() != puppets.server {
                    return Err(CallError::BadRequest("it is in the name of another homeserver's user".to_owned()));
                }
                Ok((&puppets.token, Some(puppets)))
            }
            _ => Ok((&self.as_token, None)),
        }
    }

    /// The calls that were made, by this one and its clones.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Counts a call that has ended, and gives it on.
    pub(super) fn counted<T>(&self, name: &'static str, result: Result<T, CallError>) -> Result<T, CallError> {
        match &result {
            Ok(_) => self.tally.answered(name, 200),
            Err(error) => self.tally.failed(name, error),
        }
        result
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn token(&self) -> &Secret {
        &self.as_token
    }

    pub(super) fn media(&self) -> &reqwest::Client {
        &self.media
    }

    /// Sends a request as `user`, or as the bot.
    pub(super) async fn call<R>(
        &self,
        name: &'static str,
        user: Option<&UserId>,
        request: R,
    ) -> Result<R::IncomingResponse, CallError>
    where
        R: OutgoingRequest,
        for<'a> R::Authentication: AuthScheme<Input<'a> = SendAccessToken<'a>>,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = Cow<'a, SupportedVersions>>,
    {
        self.call_considering(name, user, request, &self.considering).await
    }

    /// The same on the paths of given versions.
    pub(super) async fn call_considering<R>(
        &self,
        name: &'static str,
        user: Option<&UserId>,
        request: R,
        considering: &SupportedVersions,
    ) -> Result<R::IncomingResponse, CallError>
    where
        R: OutgoingRequest,
        for<'a> R::Authentication: AuthScheme<Input<'a> = SendAccessToken<'a>>,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = Cow<'a, SupportedVersions>>,
    {
        let identity = user.map(AppserviceUserIdentity::new).unwrap_or_default();
        let (token, puppets) = self.acting(user)?;
        let request = request.try_into_http_request_with_identity::<Vec<u8>>(
            &self.base,
            SendAccessToken::Appservice(token.expose()),
            identity,
            Cow::Borrowed(considering),
        );
        self.carry(name, request.map_err(|error| CallError::BadRequest(error.to_string()))?, puppets).await
    }

    /// Sends a request of the client-server API as `user`, whose body and answer are JSON as it is. `path`: what follows
    /// `/_matrix/client/v3`, in parts that are escaped here.
    pub(super) async fn json(
        &self,
        name: &'static str,
        user: &UserId,
        method: http::Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&str>,
    ) -> Result<Box<RawValue>, CallError> {
        let (token, puppets) = self.acting(Some(user))?;
        let wrong = |why: &str| CallError::BadRequest(why.to_owned());
        let mut url = url::Url::parse(&self.base).map_err(|_| wrong("the homeserver's address is no URL"))?;
        url.path_segments_mut()
            .map_err(|()| wrong("the homeserver's address is no URL"))?
            .pop_if_empty()
            .extend(["_matrix", "client", "v3"].iter().chain(path));
        url.query_pairs_mut().extend_pairs(query).append_pair("user_id", user.as_str());
        let request = http::Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(http::header::AUTHORIZATION, format!("Bearer {}", token.expose()))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.unwrap_or_default().as_bytes().to_vec())
            .map_err(|_| wrong("its parts make no request"))?;
        let answer = self.fetch(name, request, puppets).await?;
        serde_json::from_slice(answer.body()).map_err(|_| CallError::BadAnswer(name))
    }

    /// Sends a request to an endpoint that has one path for all versions and needs no token.
    pub(super) async fn ask<R>(&self, name: &'static str, request: R) -> Result<R::IncomingResponse, CallError>
    where
        R: OutgoingRequest,
        for<'a> R::Authentication: AuthScheme<Input<'a> = SendAccessToken<'a>>,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        let request = request.try_into_http_request::<Vec<u8>>(&self.base, SendAccessToken::None, ());
        self.carry(name, request.map_err(|error| CallError::BadRequest(error.to_string()))?, None).await
    }

    /// Sends a request to an endpoint that need not know who asks, with our token all the same: homeservers can be told to want one.
    pub(super) async fn ask_as_ourselves<R>(
        &self,
        name: &'static str,
        request: R,
    ) -> Result<R::IncomingResponse, CallError>
    where
        R: OutgoingRequest,
        for<'a> R::Authentication: AuthScheme<Input<'a> = SendAccessToken<'a>>,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = Cow<'a, SupportedVersions>>,
    {
        let wrong = |error: String| CallError::BadRequest(error);
        let considering = Cow::Borrowed(&self.considering);
        let request = request.try_into_http_request::<Vec<u8>>(&self.base, SendAccessToken::None, considering);
        let mut request = request.map_err(|error| wrong(error.to_string()))?;
        let mut token = http::HeaderValue::from_str(&format!("Bearer {}", self.as_token.expose()))
            .map_err(|_| wrong("the as_token is none that a header can hold".to_owned()))?;
        token.set_sensitive(true);
        request.headers_mut().insert(http::header::AUTHORIZATION, token);
        self.carry(name, request, None).await
    }

    async fn carry<T: IncomingResponse>(
        &self,
        name: &'static str,
        request: http::Request<Vec<u8>>,
        puppets: Option<&Puppets>,
    ) -> Result<T, CallError> {
        let answer = self.fetch(name, request, puppets).await?;
        // The reason could quote the answer, so it is not kept.
        T::try_from_http_response(answer).map_err(|_| CallError::BadAnswer(name))
    }

    /// Sends a request as it is, and gives the whole answer.
    pub(super) async fn plain(
        &self,
        name: &'static str,
        request: http::Request<Vec<u8>>,
    ) -> Result<http::Response<Vec<u8>>, CallError> {
        self.fetch(name, request, None).await
    }

    async fn fetch(
        &self,
        name: &'static str,
        request: http::Request<Vec<u8>>,
        puppets: Option<&Puppets>,
    ) -> Result<http::Response<Vec<u8>>, CallError> {
        let result = self.fetch_uncounted(name, request, puppets).await;
        self.counted(name, result)
    }

    async fn fetch_uncounted(
        &self,
        name: &'static str,
        request: http::Request<Vec<u8>>,
        puppets: Option<&Puppets>,
    ) -> Result<http::Response<Vec<u8>>, CallError> {
        let request = reqwest::Request::try_from(request)
            .map_err(|_| CallError::BadRequest("the homeserver's address is not an HTTP one".to_owned()))?;
        let mut response = self.http.execute(request).await.map_err(|error| transport(&error))?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| transport(&error))? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                return Err(CallError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            let refusal = Refusal::read(status.as_u16(), &headers, &body);
            if let Some(puppets) = puppets
                && matches!(status.as_u16(), 401 | 403)
                && refusal
                    .errcode
                    .as_deref()
                    .is_some_and(|code| !matches!(code, "M_LIMIT_EXCEEDED" | "M_RESOURCE_LIMIT_EXCEEDED"))
            {
                puppets.refused(name, &refusal);
                return Err(CallError::NotAs(Box::new(refusal)));
            }
            if matches!(refusal.errcode.as_deref(), Some("M_UNKNOWN_TOKEN" | "M_MISSING_TOKEN")) {
                tracing::error!(
                    call = name,
                    "the homeserver does not know our as_token: install registration.yaml there and restart it"
                );
            }
            return Err(CallError::Refused(Box::new(refusal)));
        }
        if let Some(puppets) = puppets {
            puppets.told.store(false, Ordering::Relaxed);
        }
        let mut answer = http::Response::new(body);
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

impl Puppets {
    /// Says it once: each message of each person could be refused.
    fn refused(&self, name: &'static str, refusal: &Refusal) {
        if !self.told.swap(true, Ordering::Relaxed) {
            let code = refusal.errcode.as_deref().unwrap_or_default();
            tracing::warn!(
                call = name,
                code,
                sentence = refusal.message,
                "the homeserver refused something in a person's name; what people write elsewhere comes from a ghost \
                 meanwhile. `messenger-bridge check` says whether double puppeting works"
            );
        }
    }
}

/// What a person can use of a transport error: the innermost reason, without the URL.
pub(super) fn transport(error: &reqwest::Error) -> CallError {
    if error.is_timeout() {
        return CallError::Timeout;
    }
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    let reason = reason.to_string();
    // The system's number says nothing to a person.
    let reason = reason.split(" (os error").next().unwrap_or_default();
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(MESSAGE_LIMIT).collect();
    CallError::Connection(reason)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> CallError {
        CallError::Refused(Box::new(Refusal::read(status, &HeaderMap::new(), body.as_bytes())))
    }

    #[test]
    fn only_people_of_the_homeserver_are_acted_for_with_the_second_token() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::new("http://127.0.0.1:1", Secret::new("bridge")).unwrap();
        let (server, bot) = (ruma::owned_server_name!("h"), ruma::owned_user_id!("@bot:h"));
        let user = |id: &str| OwnedUserId::try_from(id).unwrap();
        assert_eq!(client.acting(Some(&user("@me:h"))).unwrap().0.expose(), "bridge", "nothing is set up");
        let client = client.with_puppets(Secret::new("people"), server, bot);
        for (id, token, person) in
            [("@me:h", "people", true), ("@bot:h", "bridge", false), ("@messenger_x_y:h", "bridge", false)]
        {
            let (secret, puppets) = client.acting(Some(&user(id))).unwrap();
            assert_eq!(
                (secret.expose(), puppets.is_some(), client.is_person(&user(id))),
                (token, person, person),
                "{id}"
            );
        }
        assert_eq!(client.acting(None).unwrap().0.expose(), "bridge");
        assert!(matches!(client.acting(Some(&user("@me:elsewhere"))), Err(CallError::BadRequest(_))));
        assert!(!format!("{client:?}").contains("people"));
        let refused =
            CallError::NotAs(Box::new(Refusal { errcode: Some("M_UNKNOWN_TOKEN".to_owned()), ..Refusal::default() }));
        assert!(!refused.is_transient(), "a ghost speaks instead, at once");
    }

    #[test]
    fn every_error_is_transient_or_permanent() {
        for (status, body, transient) in [
            (429, r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1500}"#, true),
            (502, "<html>Bad Gateway</html>", true),
            (404, "<html>not found</html>", true),
            (500, "", true),
            (401, r#"{"errcode":"M_UNKNOWN_TOKEN","error":"x"}"#, true),
            (403, r#"{"errcode":"M_RESOURCE_LIMIT_EXCEEDED"}"#, true),
            (403, r#"{"errcode":"M_FORBIDDEN","error":"no"}"#, false),
            (404, r#"{"errcode":"M_NOT_FOUND"}"#, false),
            (400, r#"{"errcode":"M_USER_IN_USE"}"#, false),
            (413, "<html>", false),
        ] {
            assert_eq!(refused(status, body).is_transient(), transient, "{status} {body}");
        }
        assert!(CallError::Timeout.is_transient() && !CallError::TooLarge.is_transient());
    }

    #[test]
    fn a_refusal_keeps_what_is_of_use_and_never_the_body() {
        let page = refused(502, "<html>secret</html>");
        assert_eq!(page.to_string(), "Something that is not a Matrix homeserver answered 502.");
        assert_eq!((page.errcode(), page.status()), (None, None));
        let long = format!(r#"{{"errcode":"M_FORBIDDEN","error":"{}\n"}}"#, "x".repeat(1000));
        assert!(refused(403, &long).to_string().len() < 300);
        let Failure::Transient { cause, retry_after } =
            refused(429, r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1500}"#).into_failure()
        else {
            panic!("permanent")
        };
        assert_eq!((cause.code.as_str(), retry_after), ("M_LIMIT_EXCEEDED", Some(1500)));
    }

    #[test]
    fn the_header_says_how_long_to_wait_and_an_hour_is_the_most() {
        let read = |header: &str, body: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, header.parse().unwrap())]);
            Refusal::read(429, &headers, body.as_bytes()).retry_after
        };
        assert_eq!(read("2", r#"{"retry_after_ms":1}"#), Some(2000));
        assert_eq!(read("soon", r#"{"retry_after_ms":1}"#), Some(1));
        assert_eq!(read("99999999", ""), Some(3_600_000));
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT", ""), None);
    }
}
