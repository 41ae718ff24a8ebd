//! Links to the page for signing in, and what stands for a visitor who has entered by one.
//!
//! Both are the sign-in's id and an HMAC-SHA-256 over it with what it is for, so that nothing has to be kept and nobody can make
//! one. Whether a link was used already, the engine knows.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::Mac;

use super::SignInPage;
use crate::domain::{credentials::Secret, file::LinkKey, request::ProcessId};

/// What the paths of the page begin with.
pub const PATH: &str = "/login";
/// Where an OAuth provider sends the person back to. No link is called that.
pub const RETURN: &str = "/login/return";
/// Longest text that is looked at, in bytes.
const LONGEST: usize = 128;

/// What one is for.
#[derive(Clone, Copy)]
enum Purpose {
    Link,
    Session,
}

impl Purpose {
    fn signed(self, process: &str) -> String {
        let word = match self {
            Self::Link => "link",
            Self::Session => "session",
        };
        format!("{word} {process}")
    }
}

fn write(key: &LinkKey, purpose: Purpose, process: ProcessId) -> String {
    let process = process.to_string();
    let signature = URL_SAFE_NO_PAD.encode(key.mac(&purpose.signed(&process)).finalize().into_bytes());
    format!("{process}.{signature}")
}

/// The signature is compared in constant time.
fn read(key: &LinkKey, purpose: Purpose, text: &str) -> Option<ProcessId> {
    let (process, signature) = Some(text).filter(|text| text.len() <= LONGEST)?.split_once('.')?;
    key.mac(&purpose.signed(process)).verify_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    process.parse().ok()
}

/// The address of the page for a sign-in.
pub fn link(page: &SignInPage, process: ProcessId) -> Secret {
    Secret::new(format!("{}{PATH}/{}", page.address, write(&page.key, Purpose::Link, process)))
}

/// Which sign-in the last part of a link's path leads to, if the link is ours.
pub fn read_link(page: &SignInPage, text: &str) -> Option<ProcessId> {
    read(&page.key, Purpose::Link, text)
}

/// What stands for a visitor who has entered.
pub fn session(page: &SignInPage, process: ProcessId) -> Secret {
    Secret::new(write(&page.key, Purpose::Session, process))
}

/// Which sign-in the visitor has entered, if the session is ours.
pub fn read_session(page: &SignInPage, text: &str) -> Option<ProcessId> {
    read(&page.key, Purpose::Session, text)
}

/// Where an OAuth provider sends the person back to.
pub fn return_address(page: &SignInPage) -> String {
    format!("{}{RETURN}", page.address)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::domain::Timestamp;

    fn page(byte: u8) -> SignInPage {
        let key = LinkKey::new(Zeroizing::new([byte; 32]));
        SignInPage { address: "https://bridge.example.org".to_owned(), key }
    }

    #[test]
    fn each_is_read_again_for_its_own_purpose_and_under_its_own_key_alone() {
        let process = ProcessId { number: 7, made: Timestamp(1_774_000_000_000) };
        let link = link(&page(1), process);
        let token = link.expose().strip_prefix("https://bridge.example.org/login/").unwrap();
        let session = session(&page(1), process);
        assert_eq!(read_link(&page(1), token), Some(process));
        assert_eq!(read_session(&page(1), session.expose()), Some(process));
        assert_eq!(read_link(&page(2), token), None);
        assert_eq!(read_session(&page(1), token), None);
        assert_eq!(read_link(&page(1), session.expose()), None);
        assert_eq!(return_address(&page(1)), "https://bridge.example.org/login/return");
        assert_eq!(read_link(&page(1), "return"), None);
    }

    #[test]
    fn nothing_of_one_can_be_changed() {
        let process = ProcessId { number: 7, made: Timestamp(1) };
        let token = write(&page(1).key, Purpose::Link, process);
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'8' { b'9' } else { b'8' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(read_link(&page(1), &changed), None, "{changed}");
        }
        assert_eq!(read_link(&page(1), &format!("{token}A")), None);
        assert_eq!(read_link(&page(1), &"7".repeat(200)), None);
    }
}
