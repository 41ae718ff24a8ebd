//! Whose a token of the homeserver is. Only our own homeserver is asked, so nobody of another one can come by this way.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use ruma::{OwnedServerName, OwnedUserId, UserId};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::reply::Problem;
use crate::domain::credentials::Secret;

/// How long it is believed whose a token is.
const BELIEVED: Duration = Duration::from_mins(5);
/// So many tokens are remembered, by their hash.
const REMEMBERED: usize = 1_000;
/// So many questions are out at a time.
const AT_ONCE: usize = 8;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest answer, in bytes.
const LONGEST: usize = 64 * 1024;
/// The longest token that is asked about, in bytes.
const TOKEN: usize = 8 * 1024;

/// A token of the homeserver.
#[derive(Debug)]
pub enum Token<'a> {
    /// An OpenID token (Matrix CS API, `POST /user/{userId}/openid/request_token`).
    OpenId(&'a Secret),
    /// An access token.
    Access(&'a Secret),
}

impl Token<'_> {
    fn text(&self) -> &str {
        match self {
            Self::OpenId(token) | Self::Access(token) => token.expose(),
        }
    }

    fn hash(&self) -> [u8; 32] {
        let kind = match self {
            Self::OpenId(_) => b"o",
            Self::Access(_) => b"a",
        };
        Sha256::new().chain_update(kind).chain_update(self.text()).finalize().into()
    }
}

/// Asks our own homeserver whose tokens are.
#[derive(Debug)]
pub struct Identity {
    http: reqwest::Client,
    server: OwnedServerName,
    /// For access tokens.
    client: String,
    /// For OpenID tokens.
    federation: String,
    known: Mutex<HashMap<[u8; 32], (OwnedUserId, Instant)>>,
    places: Semaphore,
}

impl Identity {
    /// `client` is the homeserver's address for clients, `federation` where its OpenID tokens are checked. A rustls provider must
    /// have been installed in the process before.
    ///
    /// # Errors
    /// No client for HTTP can be made.
    pub fn new(server: OwnedServerName, client: &str, federation: &str) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .timeout(PATIENCE)
            // Tokens go to the configured addresses and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("messenger-bridge/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let base = |address: &str| address.trim_end_matches('/').to_owned();
        Ok(Self {
            http,
            server,
            client: base(client),
            federation: base(federation),
            known: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
        })
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// It is nobody's, or it cannot be found out.
    pub async fn of(&self, token: Token<'_>) -> Result<OwnedUserId, Problem> {
        if token.text().is_empty() || token.text().len() > TOKEN {
            return Err(wrong_token());
        }
        let hash = token.hash();
        if let Some(user) = self.remembered(&hash) {
            return Ok(user);
        }
        let Ok(_place) = self.places.try_acquire() else {
            return Err(away("Too many tokens are being checked just now. Please try again in a moment."));
        };
        let (request, field) = match &token {
            Token::OpenId(token) => {
                let url = format!("{}/_matrix/federation/v1/openid/userinfo", self.federation);
                let query: String = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair("access_token", token.expose())
                    .finish();
                (self.http.get(format!("{url}?{query}")), "sub")
            }
            Token::Access(token) => {
                let url = format!("{}/_matrix/client/v3/account/whoami", self.client);
                (self.http.get(url).bearer_auth(token.expose()), "user_id")
            }
        };
        let answer = read(request).await?;
        let guest = answer["is_guest"] == true;
        let user = answer[field].as_str().and_then(|user| UserId::parse(user).ok()).filter(|_| !guest);
        // The homeserver speaks for its own people only.
        let user = user.filter(|user| user.server_name() == self.server).ok_or_else(wrong_token)?;
        self.remember(hash, user.clone());
        Ok(user)
    }

    fn remembered(&self, hash: &[u8; 32]) -> Option<OwnedUserId> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).filter(|(_, until)| *until > Instant::now()).map(|(user, _)| user.clone())
    }

    fn remember(&self, hash: [u8; 32], user: OwnedUserId) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if known.len() >= REMEMBERED {
            known.retain(|_, (_, until)| *until > now);
        }
        if known.len() >= REMEMBERED
            && let Some(oldest) = known.iter().min_by_key(|(_, (_, until))| *until).map(|(hash, _)| *hash)
        {
            known.remove(&oldest);
        }
        known.insert(hash, (user, now + BELIEVED));
    }
}

/// What the homeserver says; a refusal means that the token is nobody's.
async fn read(request: reqwest::RequestBuilder) -> Result<Value, Problem> {
    // The error would name the address, and with it the token.
    let mut answer = request.send().await.map_err(|_| away("The homeserver cannot be asked just now."))?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|_| away("The homeserver's answer broke off."))? {
        if body.len() + piece.len() > LONGEST {
            return Err(away("The homeserver's answer is too long."));
        }
        body.extend_from_slice(&piece);
    }
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    match (status.as_u16(), json["errcode"].as_str()) {
        (200, _) if json.is_object() => Ok(json),
        (401 | 403, _) => Err(wrong_token()),
        (404, Some("M_UNRECOGNIZED")) => Err(away(
            "The homeserver does not check tokens there: give its listener the resource openid, or set provisioning.federation_address.",
        )),
        (429, _) => Err(away("The homeserver is busy. Please try again in a moment.")),
        _ => Err(away("The homeserver cannot tell whose the token is.")),
    }
}

/// The token opens nothing.
pub fn wrong_token() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", "Invalid auth token.")
}

fn away(sentence: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", sentence).again_after(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_holds_no_token() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = ruma::server_name!("h.test").to_owned();
        let identity = Identity::new(server, "http://127.0.0.1:1", "http://127.0.0.1:1").unwrap();
        for number in 0..=REMEMBERED {
            let token = Secret::new(format!("token-{number}"));
            identity.remember(Token::OpenId(&token).hash(), ruma::owned_user_id!("@romeo:h.test"));
        }
        assert_eq!(identity.known.lock().unwrap().len(), REMEMBERED);
        let last = Secret::new(format!("token-{REMEMBERED}"));
        assert!(identity.remembered(&Token::OpenId(&last).hash()).is_some());
        assert!(identity.remembered(&Token::Access(&last).hash()).is_none(), "one kind is not the other");
        assert!(!format!("{identity:?}").contains("token-"));
    }
}
