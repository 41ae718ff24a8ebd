//! What a login signs in with. Kept sealed in the store, never shown.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::Timestamp;

/// Text that must not be seen: `Debug` hides it, dropping wipes it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes the text, exactly as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Shows the text; the only way to.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// The hash of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScramHash {
    /// SCRAM-SHA-1 (RFC 5802).
    Sha1,
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256,
}

/// What SCRAM needs instead of the password (RFC 5802 section 3): valid only for this salt and iteration count.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramKeys {
    /// The hash that the keys were made with.
    pub hash: ScramHash,
    /// The server's salt, raw.
    pub salt: Vec<u8>,
    /// The server's iteration count.
    pub iterations: u32,
    /// `HMAC(SaltedPassword, "Client Key")`.
    pub client_key: Vec<u8>,
    /// `HMAC(SaltedPassword, "Server Key")`.
    pub server_key: Vec<u8>,
}

impl Drop for ScramKeys {
    fn drop(&mut self) {
        self.client_key.zeroize();
        self.server_key.zeroize();
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramKeys({:?}, [hidden])", self.hash)
    }
}

/// OAuth 2.0 tokens (RFC 6749) of a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Signs in.
    pub access: Secret,
    /// Gets a new access token; `None` after an implicit grant, which cannot be renewed.
    pub refresh: Option<Secret>,
    /// When the access token ends, where the provider said so.
    pub expires_at: Option<Timestamp>,
}

/// What a login signs in with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credentials {
    /// A password, exactly as typed.
    Password(Secret),
    /// SCRAM keys, kept in place of the password after the first sign-in.
    Scram(ScramKeys),
    /// A token that the person brought (X-OAUTH2, OAUTHBEARER).
    Token(Secret),
    /// Tokens of the network's OAuth provider (X-MESSENGER-OAUTH2).
    OAuth(Tokens),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_every_secret() {
        let tokens = Tokens { access: Secret::new("EwA1"), refresh: Some(Secret::new("EwA2")), expires_at: None };
        let keys = ScramKeys {
            hash: ScramHash::Sha1,
            salt: vec![1],
            iterations: 1,
            client_key: b"EwA3".to_vec(),
            server_key: vec![69],
        };
        let all = [Credentials::Password(Secret::new("EwA4")), Credentials::OAuth(tokens), Credentials::Scram(keys)];
        let shown = format!("{all:?}");
        assert!(!shown.contains("EwA") && !shown.contains("69"), "{shown}");
    }
}
