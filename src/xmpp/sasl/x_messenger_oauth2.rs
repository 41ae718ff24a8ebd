//! X-MESSENGER-OAUTH2: the Messenger service's own mechanism. One step, client first, empty `<success/>`.

use crate::domain::credentials::Secret;

/// The mechanism's name.
pub const NAME: &str = "X-MESSENGER-OAUTH2";

/// The access token **as it is**: it looks like base64 already and is not encoded again.
pub fn initial(token: &Secret) -> Secret {
    token.clone()
}
