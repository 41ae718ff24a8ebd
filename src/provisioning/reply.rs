//! What the API answers: JSON, and errors as Matrix has them (`errcode`, `error`).

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{
    desk::NoAnswer,
    domain::request::{Refusal, RefusalCode},
};

/// A request that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// `errcode`.
    pub code: &'static str,
    /// `error`: what a person is told.
    pub sentence: String,
    /// Seconds after which it is worth trying again.
    pub retry_after: Option<u64>,
}

impl Problem {
    /// With nothing about when to try again.
    pub fn new(status: StatusCode, code: &'static str, sentence: impl Into<String>) -> Self {
        Self { status, code, sentence: sentence.into(), retry_after: None }
    }

    /// Says when it is worth trying again, in seconds.
    #[must_use]
    pub fn again_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// A request that has to be written otherwise.
    pub fn bad(code: &'static str, sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, sentence)
    }

    /// The engine gave an answer to another question.
    pub fn unexpected() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "The bridge gave no fitting answer.")
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = match refusal.code {
            RefusalCode::NoPermission => (StatusCode::FORBIDDEN, "M_FORBIDDEN"),
            RefusalCode::NoSuchLogin
            | RefusalCode::NoSuchFlow
            | RefusalCode::NoSuchProcess
            | RefusalCode::NoSuchPerson
            | RefusalCode::WrongLink
            | RefusalCode::UsedLink => (StatusCode::NOT_FOUND, "M_NOT_FOUND"),
            RefusalCode::WrongStep => (StatusCode::BAD_REQUEST, "M_BAD_STATE"),
            RefusalCode::TooMany => (StatusCode::FORBIDDEN, "FI.MAU.BRIDGE.TOO_MANY_LOGINS"),
            RefusalCode::Unreadable => (StatusCode::BAD_REQUEST, "M_INVALID_PARAM"),
            RefusalCode::NotNow => (StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN"),
        };
        Self::new(status, code, refusal.sentence)
    }
}

impl From<NoAnswer> for Problem {
    fn from(why: NoAnswer) -> Self {
        let (status, code, seconds) = match why {
            NoAnswer::Busy | NoAnswer::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", 5),
            NoAnswer::Late => (StatusCode::GATEWAY_TIMEOUT, "ORG.MESSENGER_BRIDGE.TIMEOUT", 1),
        };
        Self::new(status, code, why.to_string()).again_after(seconds)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({ "errcode": self.code, "error": self.sentence });
        if let Some(seconds) = self.retry_after {
            body["retry_after_ms"] = json!(seconds * 1000);
        }
        let mut response = answer(self.status, &body);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// JSON.
pub fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from(body.to_string())).into_response()
}

/// What browsers need to let a page of another address use the API (Matrix CS API, "Web Browser Clients"), as bridgev2 sends it,
/// and what keeps an answer from being shown, kept or passed on.
pub fn dress(response: &mut Response) {
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "X-Requested-With, Content-Type, Authorization"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}
