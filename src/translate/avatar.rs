//! Avatars (XEP-0084): the ghost's picture <- what a contact publishes; the person's own picture -> what the account publishes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidom::Element;

use super::{
    pep::{self, Item},
    stanza::{element, set, text_element},
    vcard::{self, Photo},
};
use crate::bridge::question::OwnPicture;

/// XEP-0084: the node and the namespace of what an avatar is.
pub const METADATA: &str = xmpp_parsers::ns::AVATAR_METADATA;
/// XEP-0084: the node and the namespace of its bytes.
pub const DATA: &str = xmpp_parsers::ns::AVATAR_DATA;
/// Who has this among its features is told of contacts' avatars (XEP-0163 section 4).
pub const NOTIFY: &str = "urn:xmpp:avatar:metadata+notify";

/// What a contact says of its avatar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It has none.
    None,
    /// It has one with this SHA-1 (lower-case hex), whose bytes are in its data node.
    Picture(String),
    /// It has one that cannot be taken: only at a web address, too large, or of a kind that clients cannot show. An address is not
    /// fetched: XEP-0084 asks for a PNG in the data node too, and a fetch would tell a stranger's server when one is on line.
    Unusable(String),
}

/// Reads the newest item of a contact's metadata node; `None` if it says nothing that can be understood.
pub fn from_xmpp(item: Option<&Item>) -> Option<Said> {
    let Some(item) = item else { return Some(Said::None) };
    let metadata = item.payload.as_ref().filter(|payload| payload.is("metadata", METADATA))?;
    let mut infos = metadata.children().filter(|child| child.is("info", METADATA)).peekable();
    if infos.peek().is_none() {
        return Some(Said::None);
    }
    let mut unusable = None;
    let mut found: Option<(bool, String)> = None;
    for info in infos {
        let Some(id) = info.attr("id").and_then(hash) else { continue };
        let mime = info.attr("type").unwrap_or_default();
        let known = matches!(mime, "image/png" | "image/jpeg" | "image/gif" | "image/webp");
        let fits = info
            .attr("bytes")
            .and_then(|bytes| bytes.parse::<usize>().ok())
            .is_none_or(|bytes| bytes <= vcard::MAX_PHOTO);
        if info.attr("url").is_some() || !known || !fits {
            unusable = Some(id);
            continue;
        }
        // The item's id is that of what is in the data node; of several that say so, the PNG.
        let better = id == item.id.to_lowercase() || mime == "image/png";
        if found.as_ref().is_none_or(|(best, _)| better && !best) {
            found = Some((better, id));
        }
    }
    found.map(|(_, id)| Said::Picture(id)).or(unusable.map(Said::Unusable))
}

fn hash(id: &str) -> Option<String> {
    (id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_lowercase())
}

/// Asks for the bytes of the avatar with this SHA-1.
pub fn ask(id: &str) -> Element {
    pep::get(DATA, Some(id))
}

/// Reads the answer: a picture only if it is the one that was asked for, by its own hash.
pub fn picture(answer: &Element, id: &str) -> Photo {
    let item = pep::read(answer, DATA).and_then(|item| item.payload).filter(|payload| payload.is("data", DATA));
    match item.map(|data| vcard::picture(&data.text())) {
        Some(Photo::Picture { mime, hash, bytes }) if hash == id => Photo::Picture { mime, hash, bytes },
        Some(_) => Photo::Unusable,
        None => Photo::None,
    }
}

/// The payload that publishes its bytes.
pub fn publish_data(own: &OwnPicture) -> Element {
    let data = text_element("data", DATA, &STANDARD.encode(&own.bytes));
    pep::publish(DATA, Some(&own.hash), data)
}

/// The payload that publishes what it is, once its bytes are there.
pub fn publish_metadata(own: &OwnPicture) -> Element {
    let mut info = element("info", METADATA);
    set(&mut info, "bytes", own.bytes.len().to_string());
    set(&mut info, "id", &own.hash);
    set(&mut info, "type", own.mime);
    if let Some((width, height)) = png_size(&own.bytes) {
        set(&mut info, "width", width.to_string());
        set(&mut info, "height", height.to_string());
    }
    let mut metadata = element("metadata", METADATA);
    metadata.append_child(info);
    pep::publish(METADATA, Some(&own.hash), metadata)
}

/// The payload that says that there is none any more (XEP-0084 section 3.4).
pub fn publish_none() -> Element {
    pep::publish(METADATA, None, element("metadata", METADATA))
}

/// Width and height of a PNG (its `IHDR` comes first).
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    let (width, rest) = header.get(8..)?.split_first_chunk::<4>()?;
    let (height, _) = rest.split_first_chunk::<4>()?;
    (header.get(4..8)? == b"IHDR").then(|| (u32::from_be_bytes(*width), u32::from_be_bytes(*height)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "111f4b3c50d7b0df729d299bc6f8e9ef9066971f";

    fn said(id: &str, inner: &str) -> Option<Said> {
        let payload = format!("<metadata xmlns='{METADATA}'>{inner}</metadata>").parse().unwrap();
        from_xmpp(Some(&Item { id: id.to_owned(), payload: Some(payload) }))
    }

    fn info(id: &str, kind: &str, more: &str) -> String {
        format!("<info bytes='12345' id='{id}' type='{kind}' height='64' width='64' {more}/>")
    }

    /// XEP-0084 section 3.2, example 3; section 5.1, example 9; section 3.4, example 8.
    #[test]
    fn metadata_says_which_picture_there_is() {
        assert_eq!(said(ID, &info(ID, "image/png", "")), Some(Said::Picture(ID.to_owned())));
        let (png, gif) = ("e279f80c38f99c1e7e53e262b440993b2f7eea57", "357a8123a30844a3aa99861b6349264ba67a5694");
        let several = info(png, "image/png", "url='http://avatars.example.org/happy.png'")
            + &info(ID, "image/png", "")
            + &info(gif, "image/gif", "url='http://avatars.example.org/happy.gif'")
            + &info("03a179fe37bd5d6bf9c2e1e592a14ae7814e31da", "image/mng", "");
        assert_eq!(said(ID, &several), Some(Said::Picture(ID.to_owned())));
        assert_eq!(said("", ""), Some(Said::None));
        assert_eq!(from_xmpp(None), Some(Said::None));
    }

    #[test]
    fn what_cannot_be_taken_is_told_from_none() {
        let url = info(ID, "image/png", "url='http://10.0.0.1/'");
        assert_eq!(said(ID, &url), Some(Said::Unusable(ID.to_owned())));
        assert_eq!(said(ID, &info(ID, "image/svg+xml", "")), Some(Said::Unusable(ID.to_owned())));
        let large = info(ID, "image/png", "").replace("12345", "99999999");
        assert_eq!(said(ID, &large), Some(Said::Unusable(ID.to_owned())));
        assert_eq!(said(ID, &info("../../etc/passwd", "image/png", "")), None);
        let other = Item { id: ID.to_owned(), payload: Some("<x xmlns='y'/>".parse().unwrap()) };
        assert_eq!(from_xmpp(Some(&other)), None);
        assert_eq!(from_xmpp(Some(&Item { payload: None, ..other })), None);
    }

    /// XEP-0084 section 3.3, example 6; what is written is read again.
    #[test]
    fn bytes_count_only_with_their_own_hash() {
        let bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\x01\0rest".to_vec();
        let Photo::Picture { mime, hash, bytes } = vcard::picture(&STANDARD.encode(bytes)) else { panic!() };
        let own = OwnPicture { mime, hash, bytes };
        let published = publish_data(&own);
        let item = published.get_child("publish", pep::NS).unwrap().get_child("item", pep::NS).unwrap();
        assert_eq!(item.attr("id"), Some(own.hash.as_str()));
        let xml = format!(
            "<iq xmlns='jabber:client' type='result'><pubsub xmlns='{}'><items node='{DATA}'>{}</items></pubsub></iq>",
            pep::NS,
            String::from(item)
        );
        let answer: Element = xml.parse().unwrap();
        assert!(matches!(picture(&answer, &own.hash), Photo::Picture { mime: "image/png", .. }));
        assert_eq!(picture(&answer, ID), Photo::Unusable, "other bytes than were announced");
        assert_eq!(picture(&"<iq xmlns='jabber:client' type='error'/>".parse().unwrap(), ID), Photo::None);
        let metadata = String::from(&publish_metadata(&own)).replace('"', "'");
        assert!(metadata.contains("width='2'") && metadata.contains("height='256'"), "{metadata}");
        assert!(!String::from(&publish_none()).contains("info"));
    }
}
