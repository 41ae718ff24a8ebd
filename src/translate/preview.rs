//! Small pictures of files: `info.thumbnail_url` <-> XEP-0264 inside of XEP-0446 (and of XEP-0234, in).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minidom::Element;
use ruma::MxcUri;
use serde_json::{Value, json};

use super::{
    bits::{Bits, cid_of},
    file::{is_address, is_mime, number},
    stanza::{element, set},
};
use crate::domain::file::{OutgoingPreview, Preview, Stored};

/// XEP-0264.
pub const NS: &str = "urn:xmpp:thumbs:1";

/// The largest that goes either way, in bytes: it is to be there sooner than the file.
pub const LARGEST: u64 = 256 * 1024;
/// Most of one file that are looked at.
const MOST: usize = 8;

/// The small picture that an event's `info` tells of, if its size is told and small. An encrypted one (`thumbnail_file`) is left out.
pub fn from_matrix(info: &Value) -> Option<OutgoingPreview> {
    let media = info["thumbnail_url"].as_str()?;
    <&MxcUri>::from(media).validate().ok()?;
    let about = &info["thumbnail_info"];
    let size = number(&about["size"]).filter(|size| (1..=LARGEST).contains(size))?;
    let mime = about["mimetype"].as_str().map(str::to_ascii_lowercase);
    let mime = mime.filter(|mime| is_mime(mime) && mime.starts_with("image/"))?;
    let pixels = |key: &str| number(&about[key]).and_then(|number| u32::try_from(number).ok());
    Some(OutgoingPreview { media: media.to_owned(), mime, size, width: pixels("w"), height: pixels("h"), url: None })
}

/// The element that stands in a `<file/>`, once the picture is where the contact can fetch it.
pub fn to_xmpp(preview: &OutgoingPreview) -> Option<Element> {
    let mut thumbnail = element("thumbnail", NS);
    set(&mut thumbnail, "uri", preview.url.as_deref()?);
    set(&mut thumbnail, "media-type", preview.mime.as_str());
    for (name, pixels) in [("width", preview.width), ("height", preview.height)] {
        if let Some(pixels) = pixels {
            set(&mut thumbnail, name, pixels.to_string());
        }
    }
    Some(thumbnail)
}

/// The first small picture of a `<file/>` that can be had: what came with the stanza (`cid:`, `data:`), or what lies in the web.
pub fn from_xmpp(file: &Element, bits: &mut Bits) -> Option<Preview> {
    let thumbnails = file.children().filter(|child| child.is("thumbnail", NS)).take(MOST);
    let mut uris: Vec<&str> = thumbnails.filter_map(|thumbnail| thumbnail.attr("uri")).collect();
    // What is here need not be fetched.
    uris.sort_by_key(|uri| is_address(uri));
    uris.into_iter().find_map(|uri| {
        if let Some(cid) = cid_of(uri) {
            return bits.take_bytes(cid).map(Preview::Bytes);
        }
        if let Some(data) = uri.strip_prefix("data:image/") {
            let bytes = STANDARD.decode(data.split_once(";base64,")?.1).ok()?;
            return (!bytes.is_empty()).then_some(Preview::Bytes(bytes));
        }
        is_address(uri).then(|| Preview::At(uri.to_owned()))
    })
}

/// Says in an event's `info` where the small picture lies in the homeserver's media.
pub fn to_matrix(info: &mut Value, stored: &Stored) {
    info["thumbnail_url"] = json!(stored.url);
    info["thumbnail_info"] = json!({ "mimetype": stored.mime, "size": stored.size });
    if let Some((width, height)) = stored.dimensions {
        info["thumbnail_info"]["w"] = json!(width);
        info["thumbnail_info"]["h"] = json!(height);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::stanza::{Stanza, to_xml};

    fn no_bits() -> Bits {
        Bits::take(&mut Stanza::read(&"<message xmlns='jabber:client'/>".parse().unwrap()))
    }

    fn file(thumbnails: &str) -> Element {
        format!("<file xmlns='urn:xmpp:file:metadata:0'><name>a</name>{thumbnails}</file>").parse().unwrap()
    }

    /// Matrix CS API, `m.image`'s example of `thumbnail_info`.
    #[test]
    fn a_small_one_goes_and_says_its_size() {
        let info = json!({
            "thumbnail_url": "mxc://example.org/t",
            "thumbnail_info": { "h": 300, "mimetype": "image/jpeg", "size": 46144, "w": 300 },
        });
        let mut preview = from_matrix(&info).unwrap();
        assert_eq!((preview.size, preview.width, preview.mime.as_str()), (46_144, Some(300), "image/jpeg"));
        assert_eq!(to_xmpp(&preview), None, "nowhere yet");
        preview.url = Some("https://h/t".to_owned());
        let xml = to_xml(&to_xmpp(&preview).unwrap()).unwrap();
        for part in ["uri='https://h/t'", "media-type='image/jpeg'", "width='300'", "height='300'"] {
            assert!(xml.contains(part), "{part} in {xml}");
        }
        assert_eq!(from_xmpp(&file(&xml), &mut no_bits()), Some(Preview::At("https://h/t".to_owned())));
    }

    #[test]
    fn what_is_large_or_odd_is_left_out() {
        let info = |about: Value, url: &str| json!({ "thumbnail_url": url, "thumbnail_info": about });
        for (about, url) in [
            (json!({ "mimetype": "image/png", "size": LARGEST + 1 }), "mxc://h/t"),
            (json!({ "mimetype": "image/png" }), "mxc://h/t"),
            (json!({ "mimetype": "text/html", "size": 5 }), "mxc://h/t"),
            (json!({ "mimetype": "image/png", "size": 5 }), "https://h/t"),
            (json!([]), "mxc://h/t"),
        ] {
            assert_eq!(from_matrix(&info(about.clone(), url)), None, "{about} {url}");
        }
    }

    /// XEP-0264 section 3, example 1.
    #[test]
    fn one_that_came_with_the_stanza_is_taken_before_one_that_must_be_fetched() {
        let cid = "sha1+0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33@bob.xmpp.org";
        let stanza = format!(
            "<message xmlns='jabber:client'><data xmlns='urn:xmpp:bob' cid='{cid}' type='image/png'>Zm9v</data></message>"
        );
        let bits = || Bits::take(&mut Stanza::read(&stanza.parse().unwrap()));
        let both = format!(
            "<thumbnail xmlns='{NS}' uri='https://h/t' width='128'/><thumbnail xmlns='{NS}' uri='cid:{cid}' media-type='image/png' width='128' height='96'/>"
        );
        assert_eq!(from_xmpp(&file(&both), &mut bits()), Some(Preview::Bytes(b"foo".to_vec())));
        let mut left = bits();
        assert!(from_xmpp(&file(&both), &mut left).is_some());
        assert!(left.pictures(None).is_empty(), "it is not shown a second time");
        assert_eq!(from_xmpp(&file(&both), &mut no_bits()), Some(Preview::At("https://h/t".to_owned())));
        let data = format!("<thumbnail xmlns='{NS}' uri='data:image/png;base64,Zm9v'/>");
        assert_eq!(from_xmpp(&file(&data), &mut no_bits()), Some(Preview::Bytes(b"foo".to_vec())));
        for uri in
            ["data:image/thumbhash,abc", "data:text/html;base64,Zm9v", "ftp://h/t", "cid:x", "data:image/png;base64,!"]
        {
            let one = format!("<thumbnail xmlns='{NS}' uri='{uri}'/>");
            assert_eq!(from_xmpp(&file(&one), &mut no_bits()), None, "{uri}");
        }
    }
}
