//! Bits of binary: pictures in a text -> `m.image` (XEP-0231, referred to by XEP-0071's `<img src='cid:…'/>`). In only.
//!
//! What comes is hostile: a bit is taken only if it is what its name says (the hash in it), is called a picture, and is small. Whether
//! it is a picture the shell sees by its bytes.

use std::collections::BTreeMap;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use minidom::{Element, Node};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::{
    stanza::{Stanza, element, set},
    xhtml,
};

/// XEP-0231.
pub const NS: &str = "urn:xmpp:bob";

/// The largest that is taken, in bytes; XEP-0231 section 2.1 asks for no more than 8 kB.
pub const LARGEST: usize = 32 * 1024;
/// Most of one message that are taken.
pub const MOST: usize = 8;
/// Longest name and longest words, in bytes.
const LONGEST: usize = 256;

/// A picture in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Its name: `algorithm+hash@bob.xmpp.org`.
    pub cid: String,
    /// The words that stand for it; empty where there are none.
    pub alt: String,
    /// Its bytes, where they came with the message.
    pub bytes: Option<Vec<u8>>,
    /// The client that has it: whole address, where there is one.
    pub from: Option<String>,
}

/// What a message holds of bits.
#[derive(Clone, Debug, Default)]
pub struct Bits {
    /// Those that the text refers to, with their words.
    named: Vec<(String, String)>,
    /// What came with the message.
    bytes: BTreeMap<String, Vec<u8>>,
    /// The text is nothing but the words of those pictures.
    pub alone: bool,
}

impl Bits {
    /// Takes them out of a stanza. The form of its text stays.
    pub fn take(stanza: &mut Stanza) -> Self {
        let mut bits = Self::default();
        for data in stanza.take_all(NS).iter().take(MOST) {
            bits.bytes.extend(read(data));
        }
        let html = stanza.leftovers().iter().find(|child| child.is("html", xhtml::NS));
        if let Some(body) = html.and_then(|html| html.children().find(|child| child.name() == "body")) {
            bits.look(body);
        }
        bits
    }

    fn look(&mut self, body: &Element) {
        let (mut open, mut says_more) = (vec![body.nodes()], false);
        while let Some(nodes) = open.last_mut() {
            match nodes.next() {
                None => drop(open.pop()),
                Some(Node::Text(text)) => says_more |= !text.trim().is_empty(),
                Some(Node::Element(child)) if child.name() == "img" => match child.attr("src").and_then(cid_of) {
                    Some(cid) if self.named.len() < MOST => {
                        let alt: String =
                            child.attr("alt").unwrap_or_default().trim().chars().take(LONGEST / 4).collect();
                        self.named.push((cid.to_owned(), alt));
                    }
                    _ => says_more = true,
                },
                Some(Node::Element(child)) => open.push(child.nodes()),
            }
        }
        self.alone = !self.named.is_empty() && !says_more;
    }

    /// The bytes of one, which is then no picture of the text.
    pub fn take_bytes(&mut self, cid: &str) -> Option<Vec<u8>> {
        self.bytes.remove(cid)
    }

    /// The pictures, in the order of the text; then those that it does not refer to.
    pub fn pictures(mut self, from: Option<&str>) -> Vec<Picture> {
        let mut pictures = Vec::new();
        for (cid, alt) in std::mem::take(&mut self.named) {
            let bytes = self.bytes.get(&cid).cloned();
            pictures.push(Picture { cid, alt, bytes, from: from.map(str::to_owned) });
        }
        self.bytes.retain(|cid, _| pictures.iter().all(|known| known.cid != *cid));
        for (cid, bytes) in self.bytes {
            pictures.push(Picture { cid, alt: String::new(), bytes: Some(bytes), from: from.map(str::to_owned) });
        }
        pictures.truncate(MOST);
        pictures
    }
}

/// The name in a `cid:` URI (RFC 2392).
pub fn cid_of(uri: &str) -> Option<&str> {
    uri.strip_prefix("cid:").filter(|cid| !cid.is_empty() && cid.len() <= LONGEST)
}

/// Asks for a bit.
pub fn ask(cid: &str) -> Element {
    let mut data = element("data", NS);
    set(&mut data, "cid", cid);
    data
}

/// Reads the bit of this name out of an answer.
pub fn read_answer(answer: &Element, cid: &str) -> Option<Vec<u8>> {
    let (name, bytes) = read(answer.get_child("data", NS)?)?;
    (name == cid).then_some(bytes)
}

/// Reads a bit that is what its name says.
fn read(data: &Element) -> Option<(String, Vec<u8>)> {
    // White space was allowed once, and the pad bits are no one's business.
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let cid = data.attr("cid").filter(|cid| cid.len() <= LONGEST)?;
    if !data.attr("type")?.trim().to_ascii_lowercase().starts_with("image/") {
        return None;
    }
    let text: String = data.text().chars().filter(|c| !c.is_ascii_whitespace()).take(LARGEST * 2).collect();
    let bytes = LENIENT.decode(text).ok().filter(|bytes| (1..=LARGEST).contains(&bytes.len()))?;
    is_named(cid, &bytes).then(|| (cid.to_owned(), bytes))
}

/// Is this the name of these bytes (section 2.5)? A name without a hash that we know cannot be trusted.
fn is_named(cid: &str, bytes: &[u8]) -> bool {
    let Some((algorithm, said)) = cid.strip_suffix("@bob.xmpp.org").and_then(|name| name.split_once('+')) else {
        return false;
    };
    let hash = match algorithm {
        "sha1" | "sha-1" => Sha1::digest(bytes).to_vec(),
        "sha-256" => Sha256::digest(bytes).to_vec(),
        "sha-512" => Sha512::digest(bytes).to_vec(),
        _ => return false,
    };
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    said.eq_ignore_ascii_case(&hex)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::stanza::to_xml;

    /// XEP-0231 section 2.3, example 3: as it stands there, with line breaks in it. The name of the example is another's hash.
    const SPOT: &str = "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAYAAACNMs+9AAAABGdBTUEAALGP\nC/xhBQAAAAlwSFlzAAALEwAACxMBAJqcGAAAAAd0SU1FB9YGARc5KB0XV+IA\n\
                        AAAddEVYdENvbW1lbnQAQ3JlYXRlZCB3aXRoIFRoZSBHSU1Q72QlbgAAAF1J\nREFUGNO9zL0NglAAxPEfdLTs4BZM4DIO4C7OwQg2JoQ9LE1exdlYvBBeZ7jq\n\
                        ch9//q1uH4TLzw4d6+ErXMMcXuHWxId3KOETnnXXV6MJpcq2MLaI97CER3N0\nvr4MkhoXe0rZigAAAABJRU5ErkJggg==";
    const FOO: &str = "sha1+0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33@bob.xmpp.org";
    const FOO_256: &str = "sha-256+2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae@bob.xmpp.org";

    fn take(inner: &str) -> Bits {
        Bits::take(&mut Stanza::read(&format!("<message xmlns='jabber:client'>{inner}</message>").parse().unwrap()))
    }

    fn html(inner: &str) -> String {
        format!("<html xmlns='{}'><body xmlns='http://www.w3.org/1999/xhtml'>{inner}</body></html>", xhtml::NS)
    }

    fn data(cid: &str, mime: &str, text: &str) -> String {
        format!("<data xmlns='{NS}' cid='{cid}' max-age='86400' type='{mime}'>{text}</data>")
    }

    /// XEP-0231 section 2.2, example 1.
    #[test]
    fn a_text_refers_to_a_picture() {
        let xhtml = html(
            "<p>Yet here's a spot. <img alt='A spot' src='cid:sha1+8f35fef110ffc5df08d579a50083ff9308fb6242@bob.xmpp.org'/></p>",
        );
        let bits = take(&xhtml);
        assert!(!bits.alone);
        let [spot] = &bits.pictures(Some("ladymacbeth@shakespeare.lit/castle"))[..] else { panic!() };
        assert_eq!(spot.cid, "sha1+8f35fef110ffc5df08d579a50083ff9308fb6242@bob.xmpp.org");
        assert_eq!((spot.alt.as_str(), spot.bytes.as_ref()), ("A spot", None));
        assert_eq!(spot.from.as_deref(), Some("ladymacbeth@shakespeare.lit/castle"));
        assert!(take(&html(&format!("<p> <img alt=':x:' src='cid:{FOO}'/> </p>"))).alone);
        assert!(!take(&html("<p><img alt=':x:' src='https://h/x.png'/></p>")).alone);
        assert!(take(&html("<p>words</p>")).pictures(None).is_empty());
    }

    /// XEP-0231 section 2.3, examples 2 and 3.
    #[test]
    fn a_bit_is_asked_for_and_must_be_what_its_name_says() {
        assert!(to_xml(&ask(FOO)).unwrap().contains(&format!("cid='{FOO}'")));
        let png = take(&data("x@bob.xmpp.org", "image/png", SPOT));
        assert!(png.pictures(None).is_empty(), "a name without a hash");
        let bytes = LENIENT_FOR_TESTS.decode(SPOT.replace('\n', "")).unwrap();
        let hex: String = Sha1::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let cid = format!("sha1+{hex}@bob.xmpp.org");
        let answer: Element =
            format!("<iq xmlns='jabber:client' type='result'>{}</iq>", data(&cid, "image/png", SPOT)).parse().unwrap();
        assert_eq!(read_answer(&answer, &cid), Some(bytes));
        assert_eq!(read_answer(&answer, FOO), None, "another bit");
    }

    const LENIENT_FOR_TESTS: GeneralPurpose = base64::engine::general_purpose::STANDARD;

    #[test]
    fn what_is_forged_large_or_no_picture_is_not_taken() {
        for (cid, mime, text, taken) in [
            (FOO, "image/png", "Zm9v", true),
            (FOO_256, "image/gif", " Zm 9v ", true),
            (
                &FOO.to_uppercase().replace("SHA1", "sha1").replace("BOB.XMPP.ORG", "bob.xmpp.org"),
                "IMAGE/PNG",
                "Zm9v",
                true,
            ),
            (FOO, "image/png", "YmFy", false),
            (FOO, "text/html", "Zm9v", false),
            (FOO, "image/png", "", false),
            (FOO, "image/png", "!!!", false),
            ("md5+acbd18db4cc2f85cedef654fccc4a4d8@bob.xmpp.org", "image/png", "Zm9v", false),
            (&FOO.replace("bob", "eve"), "image/png", "Zm9v", false),
        ] {
            assert_eq!(take(&data(cid, mime, text)).pictures(None).len(), usize::from(taken), "{cid} {mime} {text}");
        }
        let large = LENIENT_FOR_TESTS.encode(vec![7; LARGEST + 1]);
        let hash: String = Sha1::digest(vec![7; LARGEST + 1]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(take(&data(&format!("sha1+{hash}@bob.xmpp.org"), "image/png", &large)).pictures(None).is_empty());
        let many: String = (0..50).map(|n| format!("<img src='cid:{n}'/>")).collect();
        assert_eq!(take(&html(&many)).pictures(None).len(), MOST);
    }

    #[test]
    fn what_came_with_the_text_is_in_its_place() {
        let both = html(&format!("<img alt=':a:' src='cid:other'/><img alt=':b:' src='cid:{FOO}'/>"));
        let pictures =
            take(&(both + &data(FOO, "image/png", "Zm9v") + &data(FOO_256, "image/png", "Zm9v"))).pictures(None);
        let seen: Vec<(&str, bool)> =
            pictures.iter().map(|picture| (picture.alt.as_str(), picture.bytes.is_some())).collect();
        assert_eq!(seen, [(":a:", false), (":b:", true), ("", true)]);
    }
}
