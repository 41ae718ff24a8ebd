//! Links that the bridge serves itself: media of the homeserver -> an address that ends. For networks without XEP-0363.
//!
//! A link is `<address>/public/<login>.<debt>.<end>.<signature>/<name>`: whose file, which, until when (milliseconds), and an
//! HMAC-SHA-256 over these three. What it leads to stands in the store alone, so that a link can be ended early. The name is there for
//! people; nothing goes by it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::Mac;

use crate::domain::{
    DebtId, LoginId, Timestamp,
    file::{LinkId, LinkKey},
};

/// What the paths of links begin with.
pub const PATH: &str = "/public";
/// Longest signed part, in bytes.
const LONGEST: usize = 256;

/// The link to a file, below the bridge's own `address`.
pub fn write(address: &str, key: &LinkKey, id: &LinkId, ends: Timestamp, name: &str) -> String {
    let signed = format!("{}.{}.{}", id.login, id.debt.0, ends.0);
    let signature = URL_SAFE_NO_PAD.encode(key.mac(&signed).finalize().into_bytes());
    format!("{}{PATH}/{signed}.{signature}/{}", address.trim_end_matches('/'), escaped(name))
}

/// What a link's signed part leads to, if it is ours and has not ended. The signature is compared in constant time.
pub fn read(key: &LinkKey, token: &str, now: Timestamp) -> Option<LinkId> {
    let (signed, signature) = Some(token).filter(|token| token.len() <= LONGEST)?.rsplit_once('.')?;
    key.mac(signed).verify_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    let mut parts = signed.split('.');
    let (login, debt, ends) = (parts.next()?, parts.next()?, parts.next()?);
    let ends: i64 = ends.parse().ok()?;
    let id = LinkId { login: LoginId::parse(login)?, debt: DebtId(debt.parse().ok()?) };
    (parts.next().is_none() && ends > now.0).then_some(id)
}

/// A name as a part of a path (RFC 3986 section 2.3): what is not plain is percent-encoded.
pub fn escaped(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn key(byte: u8) -> LinkKey {
        LinkKey::new(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn a_link_is_read_again_until_it_ends_and_under_its_own_key_alone() {
        let id = LinkId { login: LoginId::derive("@a:h", "messenger", "a@b"), debt: DebtId(42) };
        let link = write("https://bridge.example.org/", &key(1), &id, Timestamp(1_000), "my cat (é).png");
        let rest = link.strip_prefix("https://bridge.example.org/public/").unwrap();
        let (token, name) = rest.split_once('/').unwrap();
        assert_eq!(name, "my%20cat%20%28%C3%A9%29.png");
        assert_eq!(read(&key(1), token, Timestamp(999)), Some(id.clone()));
        assert_eq!(read(&key(1), token, Timestamp(1_000)), None, "it has ended");
        assert_eq!(read(&key(2), token, Timestamp(0)), None);
        assert_ne!(link, write("https://bridge.example.org", &key(1), &id, Timestamp(1_001), "my cat (é).png"));
    }

    #[test]
    fn what_is_changed_leads_nowhere() {
        let id = LinkId { login: LoginId::derive("@a:h", "messenger", "a@b"), debt: DebtId(42) };
        let link = write("https://b", &key(1), &id, Timestamp(1_000), "x");
        let token = link.split('/').nth_back(1).unwrap();
        assert!(read(&key(1), token, Timestamp(0)).is_some());
        for at in 0..token.len() {
            let mut changed = token.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(read(&key(1), std::str::from_utf8(&changed).unwrap(), Timestamp(0)), None, "{at}");
        }
        let (signed, _) = token.rsplit_once('.').unwrap();
        for other in ["", ".", "...", signed, &format!("{signed}."), &format!("{token}A"), &"A".repeat(10_000)] {
            assert_eq!(read(&key(1), other, Timestamp(0)), None, "{other}");
        }
    }
}
