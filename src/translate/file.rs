//! Files: `m.image`, `m.video`, `m.audio`, `m.file`, `m.sticker` with captions (MSC2530) <-> XEP-0066, XEP-0447 with
//! XEP-0446; XEP-0385 and XEP-0449 in. Where they are put is [`upload`](super::upload)'s; small pictures of them are
//! [`super::preview`]'s, and voice messages [`super::voice`]'s.

use std::collections::BTreeSet;

use minidom::Element;
use ruma::MxcUri;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    bits::Bits,
    fallback,
    file_name::{clean, from_url, with_extension},
    message::Untranslatable,
    preview,
    stanza::{Stanza, element, set, text_element},
    voice,
};
use crate::domain::{
    effect::MatrixEvent,
    file::{FileInfo, FileKind, IncomingFile, IncomingMedia, OutgoingPreview, Preview, Stored},
};

/// XEP-0066.
pub const OOB: &str = "jabber:x:oob";
/// XEP-0447.
pub const SHARING: &str = "urn:xmpp:sfs:0";
/// XEP-0446.
pub const METADATA: &str = "urn:xmpp:file:metadata:0";
/// XEP-0385.
pub const SIMS: &str = "urn:xmpp:sims:1";
/// XEP-0449.
const STICKERS: &str = "urn:xmpp:stickers:0";
/// XEP-0372.
const REFERENCE: &str = "urn:xmpp:reference:0";
/// XEP-0103.
const URL_DATA: &str = "http://jabber.org/protocol/url-data";
/// XEP-0234.
const JINGLE_FILE: &str = "urn:xmpp:jingle:apps:file-transfer:5";

/// Longest address of a file, in bytes.
const LONGEST_URL: usize = 4096;
/// Most files of one message that are brought over; the others are named.
pub const MOST: usize = 10;

/// A media file as an event tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// `mxc://` URI.
    pub media: String,
    /// What the event says of it.
    pub info: FileInfo,
    /// What is said to it.
    pub caption: Option<String>,
    /// It is a voice message.
    pub voice: bool,
    /// A small picture of it.
    pub preview: Option<OutgoingPreview>,
}

/// A file as a stanza tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Where it lies.
    pub url: String,
    /// What is said of it.
    pub info: FileInfo,
    /// What is said to it.
    pub caption: Option<String>,
    /// If it is to be heard it is a voice message.
    pub voice: bool,
    /// A small picture of it.
    pub preview: Option<Preview>,
}

/// Reads an event that may be a file. `None`: it is none.
pub fn from_matrix(kind: &str, content: &RawValue) -> Result<Option<Media>, Untranslatable> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(default)]
        msgtype: Value,
        #[serde(default)]
        body: Value,
        #[serde(default)]
        filename: Value,
        #[serde(default)]
        url: Value,
        #[serde(default)]
        file: Value,
        #[serde(default)]
        info: Value,
    }
    let raw = content;
    let content: Content = match serde_json::from_str(content.get()) {
        Ok(content) => content,
        Err(_) => return Ok(None),
    };
    let kind = match (kind, content.msgtype.as_str()) {
        ("m.sticker", _) => FileKind::Sticker,
        (_, Some("m.image")) => FileKind::Image,
        (_, Some("m.video")) => FileKind::Video,
        (_, Some("m.audio")) => FileKind::Audio,
        (_, Some("m.file")) => FileKind::File,
        _ => return Ok(None),
    };
    if content.file.is_object() {
        return Err(Untranslatable::Kind("an encrypted file"));
    }
    let media = content.url.as_str().ok_or(Untranslatable::Broken)?;
    <&MxcUri>::from(media).validate().map_err(|_| Untranslatable::Broken)?;
    let body = content.body.as_str().unwrap_or_default();
    let (name, caption) = match content.filename.as_str().filter(|name| !name.is_empty()) {
        Some(name) if name != body && !body.trim().is_empty() => (name, Some(body.to_owned())),
        Some(name) => (name, None),
        None => (body, None),
    };
    let info = &content.info;
    // Recordings come as `audio/ogg; codecs=opus`: what follows is the player's, not the upload service's.
    let mime = info["mimetype"].as_str().and_then(|mime| mime.split(';').next()).map(str::trim);
    let mime = mime.filter(|mime| is_mime(mime)).map(str::to_ascii_lowercase);
    let pixels = |key: &str| number(&info[key]).and_then(|number| u32::try_from(number).ok());
    let info = FileInfo {
        kind,
        name: with_extension(&clean(name, stem(kind)), mime.as_deref()),
        size: number(&info["size"]),
        width: pixels("w"),
        height: pixels("h"),
        duration: number(&info["duration"]),
        mime,
    };
    let voice =
        kind == FileKind::Audio && serde_json::from_str(raw.get()).is_ok_and(|content| voice::from_matrix(&content));
    let preview =
        matches!(kind, FileKind::Image | FileKind::Video).then(|| preview::from_matrix(&content.info)).flatten();
    Ok(Some(Media { media: media.to_owned(), info, caption, voice, preview }))
}

/// A number that a client may have written as a float.
pub fn number(value: &Value) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    let whole = |float: f64| (0.0..9e15).contains(&float).then_some(float as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

/// What a nameless file of this kind is called.
fn stem(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Image => "image",
        FileKind::Video => "video",
        FileKind::Audio => "audio",
        FileKind::File => "file",
        FileKind::Sticker => "sticker",
    }
}

/// A media type as RFC 6838 section 4.2 spells it, without parameters.
pub fn is_mime(mime: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty()
            && part.len() <= 127
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    mime.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub))
}

/// The payloads that say that the body is a file at this address.
pub fn to_xmpp(url: &str, info: &FileInfo, preview: Option<&OutgoingPreview>) -> Vec<Element> {
    let mut oob = element("x", OOB);
    oob.append_child(text_element("url", OOB, url));
    let mut file = element("file", METADATA);
    let mut say = |name: &str, text: Option<String>| {
        if let Some(text) = text {
            file.append_child(text_element(name, METADATA, &text));
        }
    };
    say("media-type", info.mime.clone());
    say("name", Some(info.name.clone()));
    say("size", info.size.map(|size| size.to_string()));
    say("width", info.width.map(|width| width.to_string()));
    say("height", info.height.map(|height| height.to_string()));
    say("length", info.duration.map(|duration| duration.to_string()));
    if let Some(thumbnail) = preview.and_then(preview::to_xmpp) {
        file.append_child(thumbnail);
    }
    let mut source = element("url-data", URL_DATA);
    set(&mut source, "target", url);
    let mut sources = element("sources", SHARING);
    sources.append_child(source);
    let mut sharing = element("file-sharing", SHARING);
    set(&mut sharing, "disposition", if info.kind == FileKind::File { "attachment" } else { "inline" });
    sharing.append_child(file);
    sharing.append_child(sources);
    vec![oob, sharing, fallback::to_xmpp(SHARING, None)]
}

/// A file that a stanza tells of, while it is read.
struct Found {
    url: String,
    /// What is said of it.
    file: Option<Element>,
    /// It is to be shown in its place (XEP-0447 section 3.1).
    inline: bool,
}

/// Takes out the files that a stanza shares, in order; `body` is its text. What is said to them stands with the first. A body that
/// is only an address stays a text unless a payload says that it is a file.
pub fn from_xmpp(stanza: &mut Stanza, body: Option<&str>, bits: &mut Bits) -> Vec<Shared> {
    let mut found: Vec<Found> = Vec::new();
    while let Some(sharing) = stanza.take("file-sharing", SHARING) {
        found.extend(of_sharing(&sharing));
    }
    found.extend(take_sims(stanza));
    while let Some(oob) = stanza.take("x", OOB) {
        let url = oob.get_child("url", OOB).map(Element::text).filter(|url| is_address(url));
        found.extend(url.map(|url| Found { url, file: None, inline: false }));
    }
    let sticker = stanza.take("sticker", STICKERS).is_some();
    // The same file may be told of in several ways; the first says the most.
    let mut known = BTreeSet::new();
    found.retain(|one| known.insert(one.url.clone()));
    if found.is_empty() {
        return Vec::new();
    }
    let mut parts = fallback::take(stanza, SHARING);
    parts.extend(fallback::take(stanza, OOB));
    let body = fallback::cut(body.unwrap_or_default(), &parts);
    // One address may begin with another.
    let mut caption =
        known.iter().rev().fold(body.clone(), |text, url| text.replace(url.as_str(), "")).trim().to_owned();
    // Whoever says more than addresses in one text means a text; whoever says other words means them for the file.
    let is_text = !caption.is_empty() && known.iter().any(|url| body.contains(url.as_str()));
    if is_text && found.iter().all(|one| one.file.is_none()) {
        return Vec::new();
    }
    for other in found.drain(MOST.min(found.len())..) {
        caption.push_str(if caption.is_empty() { "" } else { "\n" });
        caption.push_str(&other.url);
    }
    let mut caption = Some(caption).filter(|caption| !caption.is_empty());
    let shared = |one: Found| {
        let mut info = one.file.as_ref().map_or_else(nothing_known, info_of);
        if sticker {
            info.kind = FileKind::Sticker;
        }
        let nameless = info.name.is_empty();
        if nameless {
            info.name = from_url(&one.url);
        }
        let voice = voice::from_xmpp(&info.name) || one.inline && nameless;
        let preview = one.file.as_ref().and_then(|file| preview::from_xmpp(file, bits));
        Shared { url: one.url, info, caption: caption.take(), voice, preview }
    };
    found.into_iter().map(shared).collect()
}

/// What a contact's link says where its file needs a key that only its sender's client shares (XEP-0454).
pub fn is_encrypted_link(text: &str) -> bool {
    let text = text.trim();
    text.starts_with("aesgcm://") && !text.contains(char::is_whitespace)
}

/// Is this an address that a file can be fetched from?
pub fn is_address(url: &str) -> bool {
    url.len() <= LONGEST_URL
        && url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
}

pub(super) fn nothing_known() -> FileInfo {
    FileInfo {
        kind: FileKind::File,
        name: String::new(),
        mime: None,
        size: None,
        width: None,
        height: None,
        duration: None,
    }
}

fn of_sharing(sharing: &Element) -> Option<Found> {
    let sources = sharing.get_child("sources", SHARING)?;
    let targets = sources.children().filter(|source| source.is("url-data", URL_DATA)).filter_map(|s| s.attr("target"));
    let url = targets.map(str::to_owned).find(|url| is_address(url))?;
    let file = sharing.get_child("file", METADATA).cloned().unwrap_or_else(|| element("file", METADATA));
    Some(Found { url, file: Some(file), inline: sharing.attr("disposition") == Some("inline") })
}

/// The references that share a file; others are put back.
fn take_sims(stanza: &mut Stanza) -> Vec<Found> {
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for reference in stanza.take_all(REFERENCE) {
        match reference.get_child("media-sharing", SIMS).and_then(of_sims) {
            Some(file) => found.push(file),
            None => others.push(reference),
        }
    }
    stanza.put_back(others);
    found
}

fn of_sims(sharing: &Element) -> Option<Found> {
    let sources = sharing.get_child("sources", SIMS)?;
    let uris = sources.children().filter(|source| source.is("reference", REFERENCE)).filter_map(|s| s.attr("uri"));
    let url = uris.map(str::to_owned).find(|url| is_address(url))?;
    let file = sharing.get_child("file", JINGLE_FILE).cloned().unwrap_or_else(|| element("file", JINGLE_FILE));
    Some(Found { url, file: Some(file), inline: false })
}

/// What a `<file/>` of XEP-0446 or XEP-0234 says; both have the same names for the same things.
fn info_of(file: &Element) -> FileInfo {
    let text = |name: &str| file.children().find(|child| child.name() == name).map(Element::text);
    let whole = |name: &str| text(name).and_then(|text| text.trim().parse::<u64>().ok());
    let pixels = |name: &str| whole(name).and_then(|number| u32::try_from(number).ok());
    let mime = text("media-type").map(|mime| mime.trim().to_ascii_lowercase()).filter(|mime| is_mime(mime));
    FileInfo {
        kind: FileKind::File,
        name: text("name").map(|name| clean(&name, "")).unwrap_or_default(),
        mime,
        size: whole("size"),
        width: pixels("width"),
        height: pixels("height"),
        duration: whole("length"),
    }
}

/// The event of a file that lies in the homeserver's media.
pub fn to_matrix(media: &IncomingMedia, stored: &Stored) -> MatrixEvent {
    let file = &media.file;
    let mut info = json!({ "mimetype": stored.mime, "size": stored.size });
    let claimed = file.info.width.zip(file.info.height);
    // These four are only said of bytes that were looked at.
    let is_image = matches!(stored.mime.as_str(), "image/png" | "image/jpeg" | "image/gif" | "image/webp");
    let is_video = stored.mime.starts_with("video/");
    if let Some((width, height)) = stored.dimensions.or(claimed.filter(|_| is_video)) {
        info["w"] = json!(width);
        info["h"] = json!(height);
    }
    let is_audio = stored.mime.starts_with("audio/");
    if let Some(duration) = file.info.duration.filter(|_| is_video || is_audio) {
        info["duration"] = json!(duration);
    }
    if let Some(small) = &stored.preview {
        preview::to_matrix(&mut info, small);
    }
    let name = with_extension(&file.info.name, Some(&stored.mime));
    if file.info.kind == FileKind::Sticker && is_image && file.caption.is_none() {
        let content = json!({ "body": name, "url": stored.url, "info": info });
        return MatrixEvent { kind: "m.sticker".to_owned(), content: content.to_string() };
    }
    let msgtype = match () {
        () if is_image => "m.image",
        () if is_video => "m.video",
        () if is_audio => "m.audio",
        () => "m.file",
    };
    let body = file.caption.as_deref().unwrap_or(&name);
    let mut content = json!({ "msgtype": msgtype, "body": body, "filename": name, "url": stored.url, "info": info });
    if is_audio && media.voice && file.caption.is_none() {
        voice::to_matrix(&mut content, file.info.duration);
    }
    MatrixEvent { kind: "m.room.message".to_owned(), content: content.to_string() }
}

/// A file that could not be brought over: what was said, with the address, and why.
pub fn to_words(file: &IncomingFile, why: &str) -> MatrixEvent {
    let caption = file.caption.clone().map(|caption| caption + "\n").unwrap_or_default();
    let text = format!("{caption}{}\n[The file itself could not be brought over: {why}.]", file.url);
    let content = json!({ "msgtype": "m.text", "body": text });
    MatrixEvent { kind: "m.room.message".to_owned(), content: content.to_string() }
}

/// A number of bytes as people say it.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "kB", "MB", "GB", "TB"];
    let mut rest = count;
    let mut tenths = 0;
    let mut unit = 0;
    while rest >= 1000 && unit + 1 < UNITS.len() {
        tenths = rest % 1000 / 100;
        rest /= 1000;
        unit += 1;
    }
    if unit == 0 || rest >= 10 { format!("{rest} {}", UNITS[unit]) } else { format!("{rest}.{tenths} {}", UNITS[unit]) }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
