//! Who asks: by the shared secret for anybody, or by a token of the homeserver for oneself.

use axum::http::{HeaderMap, StatusCode, header};
use ruma::{OwnedUserId, UserId};
use subtle::ConstantTimeEq as _;

use super::{
    Provisioning,
    identity::{Token, wrong_token},
    reply::Problem,
};
use crate::{
    bridge::Permission,
    domain::{address::GHOST_PREFIX, credentials::Secret},
};

/// What a token for OpenID begins with.
const OPENID: &str = "openid:";

impl Provisioning {
    /// Who asks.
    ///
    /// # Errors
    /// Nobody, somebody who may not, or the API is off.
    pub(super) async fn person(&self, headers: &HeaderMap, user_id: Option<&str>) -> Result<OwnedUserId, Problem> {
        if self.secret.is_none() && !self.allow_matrix_auth {
            return Err(forbidden(
                "The provisioning API is off (provisioning.shared_secret, provisioning.allow_matrix_auth).",
            ));
        }
        let token = bearer(headers)
            .ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "Missing auth token."))?;
        let secret = self.secret.as_ref().map(|secret| secret.expose().as_bytes());
        let trusted = secret.is_some_and(|secret| secret.ct_eq(token.expose().as_bytes()).into());
        let named = match user_id.map(UserId::parse).transpose() {
            Ok(named) => named,
            Err(_) if trusted => return Err(Problem::bad("M_INVALID_PARAM", "user_id is no Matrix user id.")),
            Err(_) => return Err(wrong_token()),
        };
        let person = if trusted {
            named.ok_or_else(|| Problem::bad("M_MISSING_PARAM", "user_id is missing: whom is it for?"))?
        } else if self.allow_matrix_auth {
            let person = self.of_token(&token).await?;
            if named.is_some_and(|named| named != person) {
                return Err(wrong_token());
            }
            person
        } else {
            return Err(wrong_token());
        };
        let own = person.server_name() == self.homeserver.name && person.localpart().starts_with(GHOST_PREFIX);
        if own || person == self.homeserver.bot || self.settings.permission(&person) < Permission::User {
            return Err(forbidden("You have no permission to use this bridge. Its operator can give it to you."));
        }
        Ok(person)
    }

    async fn of_token(&self, token: &Secret) -> Result<OwnedUserId, Problem> {
        let Some(openid) = token.expose().strip_prefix(OPENID) else {
            return self.identity.of(Token::Access(token)).await;
        };
        // Who names the server, too, must mean ours.
        let server = format!("{}:", self.homeserver.name);
        let openid = Secret::new(openid.strip_prefix(&server).unwrap_or(openid));
        self.identity.of(Token::OpenId(&openid)).await
    }
}

fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).map(Secret::new)
}

fn forbidden(sentence: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", sentence)
}
