//! Identifiers, each a type of its own so that none is taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One account of one person: the unit of isolation, privacy, deletion and sharding. Ten characters of `a-z2-7`,
/// derived from owner, network and account, so that the same sign-in always gives the same login. Scope: the bridge.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LoginId(String);

/// Characters of a [`LoginId`].
pub const LOGIN_ID_LENGTH: usize = 10;

impl LoginId {
    /// The login of `owner` (MXID) for `account` (bare JID) on the network that the configuration calls `network`.
    pub fn derive(owner: &str, network: &str, account: &str) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut hash = Sha256::new();
        for part in [owner, network, account] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let id =
            hash.finalize().iter().take(LOGIN_ID_LENGTH).map(|b| char::from(ALPHABET[usize::from(b & 31)])).collect();
        Self(id)
    }

    /// Reads an id back from text; `None` where it is not the shape of one.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == LOGIN_ID_LENGTH && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
        fits.then(|| Self(text.to_owned()))
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LoginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LoginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// One debt of the outbox. Rises by one with every debt; never used again in the same store. Scope: the store.
    DebtId
);
number!(
    /// One attempt to hold a stream for a login: a new one for each connection. Scope: the store's life, so that an
    /// effect that was fenced with an old stream cannot be paid on a new one.
    StreamId
);
number!(
    /// Whom the shell has to tell once an input is durable (a transaction that waits for its 200). Scope: the process.
    Ticket
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_id_is_stable_and_tells_owner_network_and_account_apart() {
        let id = LoginId::derive("@a:h", "xmpp", "a@x");
        assert_eq!(id, LoginId::derive("@a:h", "xmpp", "a@x"));
        for other in
            [("@b:h", "xmpp", "a@x"), ("@a:h", "messenger", "a@x"), ("@a:h", "xmpp", "b@x"), ("@a:hx", "mpp", "a@x")]
        {
            assert_ne!(id, LoginId::derive(other.0, other.1, other.2));
        }
        assert_eq!(LoginId::parse(id.as_str()), Some(id));
        assert_eq!(LoginId::parse("short"), None);
        assert_eq!(LoginId::parse("ABCDEFGHIJ"), None);
    }
}
