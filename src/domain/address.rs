//! JIDs as the bridge compares them, and the MXIDs of their ghosts.
//!
//! Two accounts must never be taken for one, nor one for two. A server sends addresses in its own normal form: that of RFC
//! 3920's stringprep or that of RFC 7622's PRECIS. So the form here leaves both as they are, and does only what both
//! do: width, case and canonical composition. Stringprep's foldings beyond that (`ß` to `ss`, `ﬁ` to `fi`) would make one of
//! two accounts of a PRECIS server, or of two domains. What neither allows and nobody sees (characters without width, or that
//! turn the direction of text) is no address. All else is let through: strict preparation refuses addresses that living
//! servers use, and a refusal would lose the message. The resource is kept as it came.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

use super::LoginId;

/// Longest localpart, domain or resource in bytes (RFC 7622 section 3.1).
pub const MAX_PART: usize = 1023;
/// Longest MXID in bytes (Matrix specification, appendix "User identifiers").
pub const MAX_MXID: usize = 255;
/// What every ghost's localpart begins with; the registration's namespace.
pub const GHOST_PREFIX: &str = "messenger_";

/// An account or contact, normalised for comparison: `localpart@domain` or `domain`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BareJid(String);

/// An address as it came: the bare JID, normalised, and the resource untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whom.
    pub bare: BareJid,
    /// Which of their clients.
    pub resource: Option<String>,
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No domain, or an empty part where the separator promises one.
    #[error("a part of the address is empty")]
    Empty,
    /// A part is longer than RFC 7622 allows.
    #[error("a part of the address is longer than 1023 bytes")]
    TooLong,
    /// A character that no address may hold.
    #[error("the address holds a character that is not allowed")]
    Forbidden,
}

impl Address {
    /// Reads `[localpart@]domain[/resource]` (RFC 7622 section 3.1).
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (bare, resource) = match text.split_once('/') {
            Some((bare, resource)) => (bare, Some(resource)),
            None => (text, None),
        };
        if let Some(resource) = resource {
            check_length(resource)?;
            if resource.chars().any(char::is_control) {
                return Err(AddressError::Forbidden);
            }
        }
        Ok(Self { bare: BareJid::parse(bare)?, resource: resource.map(str::to_owned) })
    }

    /// The address as text, the resource as it came.
    pub fn to_text(&self) -> String {
        match &self.resource {
            Some(resource) => format!("{}/{resource}", self.bare),
            None => self.bare.to_string(),
        }
    }
}

impl BareJid {
    /// Reads `[localpart@]domain` and normalises both (case, width, Unicode form); a resource is an error.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (localpart, domain) = match text.split_once('@') {
            Some((localpart, domain)) => (Some(localpart), domain),
            None => (None, text),
        };
        check_length(domain)?;
        // The full stops of RFC 3490 section 3.1, and one at the end.
        let domain = prepared(domain)?.replace('\u{3002}', ".");
        let domain = domain.strip_suffix('.').unwrap_or(&domain);
        check_length(domain)?;
        if domain.split('.').any(str::is_empty) {
            return Err(AddressError::Empty);
        }
        if domain.chars().any(|c| c.is_whitespace() || c.is_control() || "\"&'/:<>@".contains(c) && !is_ipv6(domain)) {
            return Err(AddressError::Forbidden);
        }
        let Some(localpart) = localpart else { return Ok(Self(domain.to_owned())) };
        check_length(localpart)?;
        let localpart = prepared(localpart)?;
        check_length(&localpart)?;
        if localpart.chars().any(|c| c.is_whitespace() || c.is_control() || "\"&'/:<>@".contains(c)) {
            return Err(AddressError::Forbidden);
        }
        Ok(Self(format!("{localpart}@{domain}")))
    }

    /// The whole bare JID.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the `@`, if anything does.
    pub fn localpart(&self) -> Option<&str> {
        self.0.split_once('@').map(|(localpart, _)| localpart)
    }

    /// What stands after the `@`.
    pub fn domain(&self) -> &str {
        self.0.split_once('@').map_or(self.0.as_str(), |(_, domain)| domain)
    }
}

fn check_length(part: &str) -> Result<(), AddressError> {
    match part.len() {
        0 => Err(AddressError::Empty),
        n if n > MAX_PART => Err(AddressError::TooLong),
        _ => Ok(()),
    }
}

fn is_ipv6(domain: &str) -> bool {
    domain.strip_prefix('[').and_then(|d| d.strip_suffix(']')).is_some_and(|d| d.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Width, case and composition, as the profile `UsernameCaseMapped` of RFC 8265 (section 3.3.2) has them.
fn prepared(text: &str) -> Result<String, AddressError> {
    if text.chars().any(is_unseen) {
        return Err(AddressError::Forbidden);
    }
    let mut narrow = String::with_capacity(text.len());
    for c in text.chars() {
        // Fullwidth and halfwidth forms (Unicode block FF00..FFEF) are the only ones whose compatibility form counts.
        match c {
            '\u{ff00}'..='\u{ffef}' => narrow.extend(std::iter::once(c).nfkc()),
            c => narrow.push(c),
        }
    }
    let once = |text: &str| text.chars().flat_map(char::to_lowercase).nfc().collect::<String>();
    // What is composed may have a lower case of its own.
    Ok(once(&once(&narrow)))
}

/// Characters that nobody sees, or that change how others are seen. Neither stringprep (RFC 3454 tables C.2 to C.9, and B.1,
/// which drops some) nor PRECIS (RFC 8264 section 9.13) has them in an address; both would be taken for another.
pub fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

impl fmt::Display for BareJid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BareJid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The localpart of a contact's ghost: `messenger_<login>_<escaped JID>`. Letters `a-z`, digits, `.`, `-` and `_`
/// stand for themselves, every other byte of the UTF-8 text is `=` and two lower-case hex digits: reversible, free of
/// collisions, and free of upper case. A JID too long for an MXID of 255 bytes becomes `==` and its hash instead.
pub fn ghost_localpart(login: &LoginId, contact: &BareJid, server: &str) -> String {
    let mut localpart = format!("{GHOST_PREFIX}{login}_");
    let prefix = localpart.len();
    escape(contact, &mut localpart);
    // "@", ":" and the server's name belong to the MXID as well.
    if localpart.len() + server.len() + 2 > MAX_MXID {
        localpart.truncate(prefix);
        localpart.push_str("==");
        for byte in Sha256::digest(contact.0.as_bytes()).iter().take(20) {
            push_hex(*byte, &mut localpart);
        }
    }
    localpart
}

fn escape(contact: &BareJid, into: &mut String) {
    for byte in contact.0.bytes() {
        if matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_') {
            into.push(char::from(byte));
        } else {
            into.push('=');
            push_hex(byte, into);
        }
    }
}

fn push_hex(byte: u8, into: &mut String) {
    for digit in [byte >> 4, byte & 15] {
        into.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
    }
}

/// Whose ghost a localpart names: the login, and the contact unless the localpart is hashed (then it must be looked up).
/// `None` if it is no ghost's.
pub fn parse_ghost_localpart(localpart: &str) -> Option<(LoginId, Option<BareJid>)> {
    let (login, escaped) = localpart.strip_prefix(GHOST_PREFIX)?.split_once('_')?;
    let login = LoginId::parse(login)?;
    if escaped.starts_with("==") {
        return Some((login, None));
    }
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'=' => {
                let digit =
                    |b: Option<u8>| b.filter(|b| !b.is_ascii_uppercase()).and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' => bytes.push(byte),
            _ => return None,
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    let contact = BareJid::parse(&text).ok()?;
    // Only the one spelling that the escaping makes is a ghost; anything else could name another's.
    let mut spelled = String::with_capacity(escaped.len());
    escape(&contact, &mut spelled);
    (spelled == escaped).then_some((login, Some(contact)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bare(text: &str) -> BareJid {
        BareJid::parse(text).unwrap()
    }

    #[test]
    fn parts_are_normalised_and_the_resource_is_kept_as_it_came() {
        let address = Address::parse("Juliet@Capulet.LIT/Balcony 😀").unwrap();
        assert_eq!(address.bare.as_str(), "juliet@capulet.lit");
        assert_eq!(address.resource.as_deref(), Some("Balcony 😀"));
        assert_eq!(address.to_text(), "juliet@capulet.lit/Balcony 😀");
        assert_eq!(bare("capulet.lit.").as_str(), "capulet.lit");
        assert_eq!(bare("ＪＵＬＩＥＴ@capulet.lit").as_str(), "juliet@capulet.lit");
        assert_eq!(bare("😀@capulet.lit").as_str(), "😀@capulet.lit");
        // Too new for stringprep's tables; its lower case is not, and is mapped on.
        let sigma = bare("\u{3f9}\u{3b1}@\u{3f9}.lit");
        assert_eq!(bare(sigma.as_str()), sigma);
        assert_eq!(sigma, bare("\u{3f2}\u{3b1}@\u{3f2}.lit"));
        assert_eq!((bare("a@b").localpart(), bare("a@b").domain(), bare("b").localpart()), (Some("a"), "b", None));
    }

    /// What each pair would be under stringprep is one; under PRECIS, and in the DNS of today, they are two.
    #[test]
    fn accounts_that_a_server_tells_apart_are_told_apart() {
        for (one, other) in [
            ("straße@capulet.lit", "strasse@capulet.lit"),
            ("juliet@straße.example", "juliet@strasse.example"),
            ("ﬁona@capulet.lit", "fiona@capulet.lit"),
            ("ſam@capulet.lit", "sam@capulet.lit"),
            ("τις@capulet.lit", "τισ@capulet.lit"),
            ("x²@capulet.lit", "x2@capulet.lit"),
            // Homographs are other letters: Cyrillic a, Latin a; dotless i; Greek omicron.
            ("j\u{430}ne@capulet.lit", "jane@capulet.lit"),
            ("jul\u{131}et@capulet.lit", "juliet@capulet.lit"),
            ("juliet@capulet.lit", "juliet@c\u{430}pulet.lit"),
            ("b\u{3bf}b@capulet.lit", "bob@capulet.lit"),
        ] {
            assert_ne!(bare(one), bare(other));
            let login = LoginId::parse("abcdefghij").unwrap();
            assert_ne!(ghost_localpart(&login, &bare(one), "h"), ghost_localpart(&login, &bare(other), "h"));
        }
    }

    #[test]
    fn spellings_of_one_account_are_one() {
        for (one, other) in [
            ("JULIET@Capulet.Lit", "juliet@capulet.lit"),
            ("ｊｕｌｉｅｔ＠capulet.lit", "juliet@capulet.lit"),
            ("ame\u{301}lie@capulet.lit", "amélie@capulet.lit"),
            ("AME\u{301}LIE😀@capulet.lit", "amélie😀@capulet.lit"),
            ("juliet@capulet。lit", "juliet@capulet.lit"),
            ("ΟΔΥΣΣΕΥΣ@capulet.lit", "οδυσσευσ@capulet.lit"),
        ] {
            // A fullwidth @ is no separator; written so it belongs to nobody.
            if one.contains('＠') {
                assert_eq!(BareJid::parse(one), Err(AddressError::Forbidden));
            } else {
                assert_eq!(bare(one), bare(other), "{one}");
            }
        }
    }

    #[test]
    fn an_address_with_what_nobody_sees_is_none() {
        for hidden in
            ['\u{200b}', '\u{200d}', '\u{202e}', '\u{2066}', '\u{feff}', '\u{ad}', '\u{3164}', '\u{e0061}', '\u{fe0f}']
        {
            for text in [format!("jul{hidden}iet@capulet.lit"), format!("juliet@cap{hidden}ulet.lit")] {
                assert_eq!(BareJid::parse(&text), Err(AddressError::Forbidden), "{hidden:?}");
            }
        }
    }

    #[test]
    fn the_longest_parts_have_ghosts_of_their_own_and_longer_ones_none() {
        let login = LoginId::parse("abcdefghij").unwrap();
        let server = "s".repeat(230 - "messenger_abcdefghij_==".len() - 20);
        let longest = |last: char| format!("{}{last}@{}", "a".repeat(MAX_PART - 1), "d".repeat(MAX_PART));
        let ghosts = ['a', 'b'].map(|last| ghost_localpart(&login, &bare(&longest(last)), &server));
        assert_ne!(ghosts[0], ghosts[1], "they differ in their last byte only");
        assert!(ghosts.iter().all(|ghost| ghost.len() + server.len() + 2 <= MAX_MXID));
        for text in [format!("a{}", longest('a')), format!("{}d", longest('a')), format!("a@b/{}", "r".repeat(1024))] {
            assert_eq!(Address::parse(&text), Err(AddressError::TooLong));
        }
        // Normalising must not grow a part beyond the limit either.
        assert_eq!(BareJid::parse(&format!("{}@h", "\u{130}".repeat(400))), Err(AddressError::TooLong));
    }

    #[test]
    fn a_jid_that_spells_another_ghost_is_escaped_and_stays_its_own() {
        let (mine, yours) = (LoginId::parse("abcdefghij").unwrap(), LoginId::parse("klmnopqrst").unwrap());
        let victim = ghost_localpart(&yours, &bare("juliet@capulet.lit"), "h");
        for contact in ["_juliet=40capulet.lit", "klmnopqrst_juliet=40capulet.lit", "==0123", "x=40y"] {
            let contact = bare(contact);
            let ghost = ghost_localpart(&mine, &contact, "h");
            assert_ne!(ghost, victim);
            assert_eq!(parse_ghost_localpart(&ghost), Some((mine.clone(), Some(contact))));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, why) in [
            ("", AddressError::Empty),
            ("@capulet.lit", AddressError::Empty),
            ("juliet@", AddressError::Empty),
            ("juliet@capulet..lit", AddressError::Empty),
            ("juliet@capulet.lit/", AddressError::Empty),
            ("ju liet@capulet.lit", AddressError::Forbidden),
            ("juliet@capu<let", AddressError::Forbidden),
            ("a@b@c", AddressError::Forbidden),
        ] {
            assert_eq!(Address::parse(text), Err(why), "{text}");
        }
        assert_eq!(BareJid::parse(&format!("{}@h", "a".repeat(1024))), Err(AddressError::TooLong));
    }

    #[test]
    fn ghosts_are_spelled_as_the_documentation_says() {
        let login = LoginId::parse("abcdefghij").unwrap();
        assert_eq!(
            ghost_localpart(&login, &bare("juliet+x@capulet.lit"), "h"),
            "messenger_abcdefghij_juliet=2bx=40capulet.lit"
        );
        let long = bare(&format!("{}@h", "a".repeat(300)));
        let hashed = ghost_localpart(&login, &long, "h");
        assert!(hashed.starts_with("messenger_abcdefghij_==") && hashed.len() < 100);
        assert_eq!(parse_ghost_localpart(&hashed), Some((login, None)));
    }

    #[test]
    fn another_spelling_of_a_ghost_is_not_a_ghost() {
        for localpart in [
            "messenger_abcdefghij_=61=40h",
            "messenger_abcdefghij_a=40H",
            "messenger_abcdefghij_a=4",
            "messengerbot",
            "messenger_abcdefghij_A=40h",
            "messenger_abcdefghij_a=4Ah",
        ] {
            let other = parse_ghost_localpart(localpart);
            let login = LoginId::parse("abcdefghij").unwrap();
            if let Some((_, Some(contact))) = other {
                assert_eq!(ghost_localpart(&login, &contact, "h"), localpart);
            }
        }
        assert_eq!(parse_ghost_localpart("messenger_abcdefghij_=61=40h"), None);
    }

    proptest! {
        #[test]
        fn escaping_is_reversible_and_legal(local in "[^/@]{1,40}", domain in "[a-z0-9.]{1,20}") {
            let Ok(contact) = BareJid::parse(&format!("{local}@{domain}")) else { return Ok(()) };
            let login = LoginId::parse("abcdefghij").unwrap();
            let localpart = ghost_localpart(&login, &contact, "example.org");
            prop_assert!(localpart.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'=' | b'-')));
            if !localpart.contains("==") {
                prop_assert_eq!(parse_ghost_localpart(&localpart), Some((login, Some(contact))));
            }
        }

        #[test]
        fn normalising_twice_changes_nothing(text in "\\PC{1,40}") {
            if let Ok(once) = BareJid::parse(&text) {
                prop_assert_eq!(BareJid::parse(once.as_str()), Ok(once.clone()));
            }
        }
    }
}
