//! OAUTHBEARER (RFC 7628).

use crate::domain::credentials::Secret;

/// The mechanism's name.
pub const NAME: &str = "OAUTHBEARER";
/// The answer to the challenge that tells why the token was refused (section 3.2.3): the `<failure/>` follows it.
pub const REFUSED: &[u8] = b"\x01";

/// The GS2 header and the one pair that XMPP needs (section 3.1).
pub fn initial(token: &Secret) -> Secret {
    Secret::new(format!("n,,\x01auth=Bearer {}\x01\x01", token.expose()))
}
