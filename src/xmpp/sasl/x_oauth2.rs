//! X-OAUTH2: Google Talk's mechanism, which ejabberd still speaks. One step, client first.

use crate::domain::credentials::Secret;

/// The mechanism's name.
pub const NAME: &str = "X-OAUTH2";

/// `NUL user NUL token`, as in PLAIN.
pub fn initial(user: &str, token: &Secret) -> Secret {
    Secret::new(format!("\0{user}\0{}", token.expose()))
}
