//! vCards (XEP-0054), with the photo hash of presence (XEP-0153) -> the ghost's name and picture.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidom::Element;
use sha1::{Digest, Sha1};

use super::stanza::{CLIENT, STANZAS, Stanza, element, text_element, to_xml};

/// XEP-0054.
pub const NS: &str = xmpp_parsers::ns::VCARD;
/// XEP-0153.
pub const UPDATE: &str = xmpp_parsers::ns::VCARD_UPDATE;
/// Largest photo that is taken, in bytes.
pub const MAX_PHOTO: usize = 1024 * 1024;

/// What the bridge uses of a vCard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VCard {
    /// `NICKNAME`.
    pub nickname: Option<String>,
    /// `FN`.
    pub full_name: Option<String>,
    /// The photo.
    pub photo: Photo,
}

/// A photo, if it is one that clients can show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Photo {
    /// There is none.
    #[default]
    None,
    /// There is something, but not a picture of a kind and size that is taken.
    Unusable,
    /// A picture.
    Picture {
        /// By its content, whatever the vCard says.
        mime: &'static str,
        /// Lower-case hex SHA-1 (XEP-0153 section 3.1).
        hash: String,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// What presence says about the photo (XEP-0153 section 4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announced {
    /// Nothing.
    Nothing,
    /// There is none.
    NoPhoto,
    /// There is one with this hash.
    Hash(String),
}

/// Takes the photo hash out of a presence stanza.
pub fn take_announced(stanza: &mut Stanza) -> Announced {
    let photo = stanza.take("x", UPDATE).and_then(|x| x.get_child("photo", UPDATE).map(Element::text));
    match photo.map(|hash| hash.trim().to_lowercase()) {
        None => Announced::Nothing,
        Some(hash) if hash.is_empty() => Announced::NoPhoto,
        Some(hash) if hash.len() <= 128 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => Announced::Hash(hash),
        Some(_) => Announced::Nothing,
    }
}

/// Reads the answer to a vCard request. An error, or no vCard, is an empty one.
pub fn from_xmpp(answer: &Element) -> VCard {
    let Some(card) = answer.get_child("vCard", NS) else { return VCard::default() };
    let text = |name: &str| {
        card.get_child(name, NS).map(|child| child.text().trim().to_owned()).filter(|text| !text.is_empty())
    };
    VCard { nickname: text("NICKNAME"), full_name: text("FN"), photo: photo(card) }
}

fn photo(card: &Element) -> Photo {
    let Some(encoded) = card.get_child("PHOTO", NS).and_then(|photo| photo.get_child("BINVAL", NS)).map(Element::text)
    else {
        return Photo::None;
    };
    picture(&encoded)
}

/// A picture in base64, if it is one of a kind and size that is taken.
pub fn picture(encoded: &str) -> Photo {
    let encoded: String = encoded.split_whitespace().collect();
    if encoded.is_empty() {
        return Photo::None;
    }
    if encoded.len() / 4 * 3 > MAX_PHOTO + 3 {
        return Photo::Unusable;
    }
    let Ok(bytes) = STANDARD.decode(encoded) else { return Photo::Unusable };
    match kind(&bytes) {
        Some(mime) if bytes.len() <= MAX_PHOTO => {
            let hash = Sha1::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            Photo::Picture { mime, hash, bytes }
        }
        _ => Photo::Unusable,
    }
}

/// What a picture is, by its first bytes.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// Asks for a vCard.
pub fn get() -> Element {
    element("vCard", NS)
}

/// Does an answer say that there is no vCard at all? Any other error may hide one.
pub fn is_none(answer: &Element) -> bool {
    answer.get_child("error", CLIENT).is_some_and(|error| error.has_child("item-not-found", STANZAS))
}

/// One's own vCard with another nickname and all else as it was, as XML; `None` where nothing is to be changed. `ours` is the
/// nickname that was put there before: one that the person has given themselves elsewhere meanwhile is not taken away.
pub fn with_nickname(answer: Option<&Element>, wanted: Option<&str>, ours: Option<&str>) -> Option<String> {
    let mut card = answer.and_then(|answer| answer.get_child("vCard", NS)).cloned().unwrap_or_else(get);
    let known = card.get_child("NICKNAME", NS).map(Element::text);
    if known.as_deref() == wanted || wanted.is_none() && known.as_deref() != ours {
        return None;
    }
    let others: Vec<Element> = card.children().filter(|child| !child.is("NICKNAME", NS)).cloned().collect();
    card.take_nodes();
    for child in others {
        card.append_child(child);
    }
    if let Some(name) = wanted {
        card.append_child(text_element("NICKNAME", NS, name));
    }
    to_xml(&card)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(inner: &str) -> VCard {
        from_xmpp(
            &format!("<iq xmlns='jabber:client' type='result'><vCard xmlns='vcard-temp'>{inner}</vCard></iq>")
                .parse()
                .unwrap(),
        )
    }

    /// XEP-0054 section 3.1, example 2, shortened.
    #[test]
    fn names_and_a_photo() {
        let png = STANDARD.encode(b"\x89PNG\r\n\x1a\nrest");
        let (a, b) = png.split_at(7);
        let vcard = card(&format!(
            "<FN>Peter Saint-Andre</FN><NICKNAME>stpeter</NICKNAME><PHOTO><TYPE>image/jpeg</TYPE><BINVAL>{a}\n {b}</BINVAL></PHOTO>"
        ));
        assert_eq!(
            (vcard.full_name.as_deref(), vcard.nickname.as_deref()),
            (Some("Peter Saint-Andre"), Some("stpeter"))
        );
        assert!(matches!(vcard.photo, Photo::Picture { mime: "image/png", .. }));
    }

    #[test]
    fn what_is_no_picture_is_not_taken() {
        for (bytes, photo) in [
            (b"<svg/>".to_vec(), Photo::Unusable),
            ([b"\xff\xd8\xff".to_vec(), vec![0; MAX_PHOTO]].concat(), Photo::Unusable),
            (vec![], Photo::None),
        ] {
            assert_eq!(card(&format!("<PHOTO><BINVAL>{}</BINVAL></PHOTO>", STANDARD.encode(bytes))).photo, photo);
        }
        assert_eq!(card("<PHOTO><EXTVAL>http://10.0.0.1/</EXTVAL></PHOTO>").photo, Photo::None);
        assert_eq!(card("<PHOTO><BINVAL>***</BINVAL></PHOTO>").photo, Photo::Unusable);
        assert_eq!(from_xmpp(&"<iq xmlns='jabber:client' type='error'/>".parse().unwrap()), VCard::default());
    }

    /// XEP-0054 section 3.2: what is written is the whole.
    #[test]
    fn a_nickname_is_put_into_a_vcard_and_all_else_stays() {
        let answer = |inner: &str| -> Element {
            format!("<iq xmlns='jabber:client' type='result'><vCard xmlns='vcard-temp'>{inner}</vCard></iq>")
                .parse()
                .unwrap()
        };
        let card = |xml: &str| xml.parse::<Element>().unwrap();
        let full = "<FN>Peter</FN><N><GIVEN>P</GIVEN></N><NICKNAME>stpeter</NICKNAME><PHOTO><BINVAL>AA</BINVAL></PHOTO><TEL><NUMBER>1</NUMBER></TEL><TEL><NUMBER>2</NUMBER></TEL>";
        let new = with_nickname(Some(&answer(full)), Some("Romeo"), None).unwrap();
        let kept = card(&new);
        let names: Vec<&str> = kept.children().map(Element::name).collect();
        assert_eq!(names, ["FN", "N", "PHOTO", "TEL", "TEL", "NICKNAME"]);
        assert_eq!(kept.get_child("NICKNAME", NS).unwrap().text(), "Romeo");
        let phones: Vec<String> =
            kept.children().filter_map(|child| Some(child.get_child("NUMBER", NS)?.text())).collect();
        assert_eq!(phones, ["1", "2"]);
        assert_eq!(with_nickname(Some(&answer(full)), Some("stpeter"), None), None);
        assert_eq!(with_nickname(Some(&answer(full)), None, Some("Romeo")), None, "it is theirs");
        assert!(!with_nickname(Some(&answer(full)), None, Some("stpeter")).unwrap().contains("NICKNAME"));
        assert!(with_nickname(None, Some("Romeo"), None).unwrap().contains("Romeo"));
        let error = |condition: &str| -> Element {
            format!("<iq xmlns='jabber:client' type='error'><error type='cancel'><{condition} xmlns='{STANZAS}'/></error></iq>").parse().unwrap()
        };
        assert!(is_none(&error("item-not-found")) && !is_none(&error("internal-server-error")));
    }

    /// XEP-0153 section 4.3.
    #[test]
    fn the_announced_hash() {
        let read = |inner: &str| {
            take_announced(&mut Stanza::read(
                &format!("<presence xmlns='jabber:client'>{inner}</presence>").parse().unwrap(),
            ))
        };
        assert_eq!(read("<x xmlns='vcard-temp:x:update'><photo>SHA1-not-hex</photo></x>"), Announced::Nothing);
        assert_eq!(
            read("<x xmlns='vcard-temp:x:update'><photo>01b87fcd030b72895ff8e88db57ec525450f000d</photo></x>"),
            Announced::Hash("01b87fcd030b72895ff8e88db57ec525450f000d".to_owned())
        );
        assert_eq!(read("<x xmlns='vcard-temp:x:update'><photo/></x>"), Announced::NoPhoto);
        assert_eq!(read("<x xmlns='vcard-temp:x:update'/>"), Announced::Nothing);
    }
}
