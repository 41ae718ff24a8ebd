//! What OAuth hands out: codes, access tokens, refresh tokens.
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::settings::MAX_TOKENS;

/// How long a code may wait to be redeemed.
const CODE_LIFETIME: Duration = Duration::from_mins(10);

/// What a person allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The account's bare JID.
    pub account: String,
    /// Whom it is for.
    pub client_id: String,
    /// The scopes, as asked for.
    pub scope: String,
}

impl Grant {
    /// Whether the scope is among those allowed; they are separated by blanks or commas.
    pub fn allows(&self, scope: &str) -> bool {
        self.scope.split([' ', ',']).any(|one| one == scope)
    }
}

/// A code and what it is bound to.
struct Code {
    grant: Grant,
    redirect_uri: String,
    challenge: Option<String>,
    until: Instant,
}

/// A map that forgets its oldest entry when it is full.
struct Bounded<V> {
    entries: HashMap<String, V>,
    order: VecDeque<String>,
}

impl<V> Default for Bounded<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<V> Bounded<V> {
    fn insert(&mut self, key: String, value: V) {
        if self.order.len() >= MAX_TOKENS
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.entries.insert(key, value);
    }
}

/// Everything handed out.
#[derive(Default)]
pub struct Tokens {
    codes: Bounded<Code>,
    access: Bounded<(Grant, Instant)>,
    refresh: Bounded<Grant>,
}

impl Tokens {
    /// A code for the redirect. `challenge` is PKCE's, S256.
    pub fn code(&mut self, grant: Grant, redirect_uri: String, challenge: Option<String>) -> String {
        let code = random(24);
        let until = Instant::now() + CODE_LIFETIME;
        self.codes.insert(code.clone(), Code { grant, redirect_uri, challenge, until });
        code
    }

    /// Redeems a code, once.
    pub fn redeem(&mut self, code: &str, client_id: &str, redirect_uri: &str, verifier: Option<&str>) -> Option<Grant> {
        let code = self.codes.entries.remove(code)?;
        let proved = match (&code.challenge, verifier) {
            (None, _) => true,
            (Some(challenge), Some(verifier)) => *challenge == URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)),
            (Some(_), None) => false,
        };
        let fits = code.grant.client_id == client_id && code.redirect_uri == redirect_uri;
        (proved && fits && Instant::now() < code.until).then_some(code.grant)
    }

    /// An access token of the service's look: base64 that begins with `EwA`, about 800 characters, with `+` and `/`.
    pub fn access_token(&mut self, grant: Grant, lifetime: Duration) -> String {
        let bytes: [u8; 594] = std::array::from_fn(|_| rand::random());
        let token = format!("EwA+/{}", STANDARD.encode(bytes));
        self.access.insert(token.clone(), (grant, Instant::now() + lifetime));
        token
    }

    /// The grant behind an access token that is still good.
    pub fn check(&self, token: &str) -> Option<&Grant> {
        let (grant, until) = self.access.entries.get(token)?;
        (Instant::now() < *until).then_some(grant)
    }

    /// Whose token it is, good or not.
    pub fn owner(&self, token: &str) -> Option<String> {
        self.access.entries.get(token).map(|(grant, _)| grant.account.clone())
    }

    /// A refresh token.
    pub fn refresh_token(&mut self, grant: Grant) -> String {
        let token = format!("Mref-{}", random(48));
        self.refresh.insert(token.clone(), grant);
        token
    }

    /// The grant behind a refresh token of that client. It stays good, for the answer may be lost.
    pub fn refresh(&self, token: &str, client_id: &str) -> Option<Grant> {
        self.refresh.entries.get(token).filter(|grant| grant.client_id == client_id).cloned()
    }
}

fn random(bytes: usize) -> String {
    let bytes: Vec<u8> = (0..bytes).map(|_| rand::random()).collect();
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant { account: "a".into(), client_id: "c".into(), scope: "wl.messenger,wl.offline_access".into() }
    }

    #[test]
    fn a_code_is_good_once_and_only_for_its_client_uri_and_verifier() {
        let mut tokens = Tokens::default();
        // RFC 7636, appendix B.
        let challenge = Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned());
        let verifier = Some("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let code = |tokens: &mut Tokens| tokens.code(grant(), "u".into(), challenge.clone());
        let good = code(&mut tokens);
        assert_eq!(tokens.redeem(&good, "c", "u", verifier), Some(grant()));
        assert_eq!(tokens.redeem(&good, "c", "u", verifier), None);
        for (client, uri, verifier) in
            [("x", "u", verifier), ("c", "x", verifier), ("c", "u", Some("x")), ("c", "u", None)]
        {
            let code = code(&mut tokens);
            assert_eq!(tokens.redeem(&code, client, uri, verifier), None);
        }
    }

    #[test]
    fn an_access_token_looks_like_the_service_s_and_ends() {
        let mut tokens = Tokens::default();
        let token = tokens.access_token(grant(), Duration::from_mins(1));
        assert!(token.starts_with("EwA") && token.contains('+') && token.contains('/'));
        assert!((700..900).contains(&token.len()));
        assert!(tokens.check(&token).is_some_and(|grant| grant.allows("wl.messenger")));
        let token = tokens.access_token(grant(), Duration::ZERO);
        assert!(tokens.check(&token).is_none() && tokens.owner(&token).is_some());
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let mut tokens = Tokens::default();
        let first = tokens.refresh_token(grant());
        for _ in 0..MAX_TOKENS {
            tokens.refresh_token(grant());
        }
        assert_eq!(tokens.refresh(&first, "c"), None);
        assert_eq!(tokens.refresh.entries.len(), MAX_TOKENS);
    }
}
