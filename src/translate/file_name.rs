//! Names of files: a name from a stranger is a word, not a path.

/// Longest name, in bytes.
const LONGEST: usize = 150;
/// What is an extension: so many bytes of letters and digits after the last dot.
const EXTENSION: usize = 10;

/// Extensions of media types; clients of XMPP go by them.
const EXTENSIONS: [(&str, &str); 22] = [
    ("image/png", "png"),
    ("image/jpeg", "jpg"),
    ("image/gif", "gif"),
    ("image/webp", "webp"),
    ("image/avif", "avif"),
    ("image/heic", "heic"),
    ("image/svg+xml", "svg"),
    ("video/mp4", "mp4"),
    ("video/webm", "webm"),
    ("video/quicktime", "mov"),
    ("video/x-matroska", "mkv"),
    ("video/3gpp", "3gp"),
    ("audio/ogg", "ogg"),
    ("audio/opus", "opus"),
    ("audio/mpeg", "mp3"),
    ("audio/mp4", "m4a"),
    ("audio/aac", "aac"),
    ("audio/wav", "wav"),
    ("audio/flac", "flac"),
    ("application/pdf", "pdf"),
    ("application/zip", "zip"),
    ("text/plain", "txt"),
];

/// The name without path, control characters and characters that turn the direction of text; `nameless` where nothing is left.
pub fn clean(name: &str, nameless: &str) -> String {
    let last = name.rsplit(['/', '\\']).find(|part| !part.trim().is_empty()).unwrap_or_default();
    let kept: String = last.chars().filter(|c| !c.is_control() && !turns(*c)).collect();
    let kept = kept.trim().trim_start_matches('.').trim();
    if kept.is_empty() { nameless.to_owned() } else { shorten(kept) }
}

/// Characters that show a name otherwise than it is (Unicode TR 36 section 2.3, "Bidirectional text spoofing"), and unseen ones.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn shorten(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let ending = extension(name).map(|ending| format!(".{ending}")).unwrap_or_default();
    let mut stem = name[..name.len() - ending.len()].to_owned();
    while stem.len() + ending.len() > LONGEST {
        stem.pop();
    }
    stem + &ending
}

fn extension(name: &str) -> Option<&str> {
    let (stem, ending) = name.rsplit_once('.')?;
    let fits = !stem.is_empty()
        && (1..=EXTENSION).contains(&ending.len())
        && ending.bytes().all(|b| b.is_ascii_alphanumeric());
    fits.then_some(ending)
}

/// The name, with the extension of its media type if it has none.
pub fn with_extension(name: &str, mime: Option<&str>) -> String {
    let known = EXTENSIONS.iter().find(|(known, _)| Some(*known) == mime);
    match known {
        Some((_, ending)) if extension(name).is_none() => format!("{name}.{ending}"),
        _ => name.to_owned(),
    }
}

/// The name that an address ends with.
pub fn from_url(url: &str) -> String {
    let last = url::Url::parse(url).ok().and_then(|url| {
        let last = url.path_segments()?.rfind(|part| !part.is_empty())?.to_owned();
        Some(decoded(&last))
    });
    clean(&last.unwrap_or_default(), "file")
}

/// Percent-encoded UTF-8 (RFC 3986 section 2.1); what is not UTF-8 stays encoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|code| *first == b'%' && code.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_no_path_and_shows_what_it_is() {
        for (name, cleaned) in [
            ("cat.png", "cat.png"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\me\\cat.png", "cat.png"),
            (".bashrc", "bashrc"),
            ("a\u{0}b\nc.txt", "abc.txt"),
            ("photo\u{202e}gnp.exe", "photognp.exe"),
            ("  ", "file"),
            ("/", "file"),
            ("..", "file"),
        ] {
            assert_eq!(clean(name, "file"), cleaned, "{name:?}");
        }
        let long = clean(&format!("{}.jpeg", "ü".repeat(300)), "file");
        assert!(long.len() <= LONGEST && long.ends_with("ü.jpeg"), "{long}");
    }

    #[test]
    fn names_come_from_addresses_and_media_types() {
        assert_eq!(from_url("https://h/a/b%20c%C3%A4.png?x=1#y"), "b cä.png");
        assert_eq!(from_url("https://h/%2e%2e%2f%2e%2e%2fx.png"), "x.png");
        assert_eq!(from_url("https://h/a%FF.png"), "a%FF.png");
        assert_eq!(from_url("https://h/"), "file");
        assert_eq!(with_extension("image", Some("image/png")), "image.png");
        assert_eq!(with_extension("Version 1.0 of it", Some("text/plain")), "Version 1.0 of it.txt");
        assert_eq!(with_extension("a.jpeg", Some("image/jpeg")), "a.jpeg");
        assert_eq!(with_extension("a", Some("application/x-unknown")), "a");
    }

    proptest! {
        #[test]
        fn whatever_comes_a_name_is_short_and_plain(name in ".*") {
            let name = clean(&name, "file");
            prop_assert!(!name.is_empty() && name.len() <= LONGEST);
            let plain = !name.contains(['/', '\\', '\n', char::from_u32(0x202e).unwrap()]) && !name.starts_with('.');
            prop_assert!(plain, "not plain");
        }
    }
}
