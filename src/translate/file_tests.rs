use serde_json::json;

use super::*;
use crate::{
    domain::effect::Sender,
    translate::stanza::{CLIENT, to_xml},
};

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

fn take(inner: &str) -> (Option<Shared>, Stanza) {
    let mut stanza = Stanza::read(&format!("<message xmlns='{CLIENT}'>{inner}</message>").parse().unwrap());
    let body = stanza.take_text("body");
    let mut bits = Bits::take(&mut stanza);
    let mut found = from_xmpp(&mut stanza, body.as_deref(), &mut bits);
    assert!(found.len() < 2, "{found:?}");
    (found.pop(), stanza)
}

fn take_several(inner: &str) -> Vec<Shared> {
    let mut stanza = Stanza::read(&format!("<message xmlns='{CLIENT}'>{inner}</message>").parse().unwrap());
    let body = stanza.take_text("body");
    let mut bits = Bits::take(&mut stanza);
    from_xmpp(&mut stanza, body.as_deref(), &mut bits)
}

fn incoming(kind: FileKind, caption: Option<&str>) -> IncomingMedia {
    let file = IncomingFile {
        url: "https://h/cat".to_owned(),
        info: FileInfo { kind, name: "cat".to_owned(), width: Some(4), height: Some(3), ..nothing_known() },
        caption: caption.map(str::to_owned),
        sender: Sender::Bot,
        answers: None,
        at: None,
        binds: Vec::new(),
    };
    file.into()
}

/// Matrix CS API, `m.image`'s example, and MSC2530.
#[test]
fn an_event_is_a_file_with_or_without_a_caption() {
    let image = json!({
        "body": "filename.jpg", "msgtype": "m.image", "url": "mxc://example.org/JWEIFJgwEIhweiWJE",
        "info": { "h": 398, "mimetype": "image/jpeg", "size": 31037, "w": 394.0 },
    });
    let file = from_matrix("m.room.message", &raw(&image)).unwrap().unwrap();
    assert_eq!((file.info.kind, file.info.name.as_str(), file.caption), (FileKind::Image, "filename.jpg", None));
    assert_eq!((file.info.size, file.info.width, file.info.height), (Some(31037), Some(394), Some(398)));

    let captioned = json!({ "body": "our cat", "filename": "cat.mp4", "msgtype": "m.video", "url": "mxc://h/x" });
    let file = from_matrix("m.room.message", &raw(&captioned)).unwrap().unwrap();
    assert_eq!((file.info.name.as_str(), file.caption.as_deref()), ("cat.mp4", Some("our cat")));
    let same = json!({ "body": "cat.mp4", "filename": "cat.mp4", "msgtype": "m.video", "url": "mxc://h/x" });
    assert_eq!(from_matrix("m.room.message", &raw(&same)).unwrap().unwrap().caption, None);

    let sticker = json!({ "body": "Landing", "url": "mxc://h/x", "info": { "mimetype": "image/png" } });
    let file = from_matrix("m.sticker", &raw(&sticker)).unwrap().unwrap();
    assert_eq!((file.info.kind, file.info.name.as_str()), (FileKind::Sticker, "Landing.png"));

    // MSC3245: a voice message is a recording.
    let voice = json!({
        "body": "Voice message", "msgtype": "m.audio", "url": "mxc://h/x", "org.matrix.msc3245.voice": {},
        "info": { "mimetype": "audio/ogg; codecs=opus", "duration": 1500, "size": "many" },
    });
    let file = from_matrix("m.room.message", &raw(&voice)).unwrap().unwrap();
    assert_eq!((file.info.kind, file.info.name.as_str(), file.voice), (FileKind::Audio, "Voice message.ogg", true));
    assert_eq!((file.info.mime.as_deref(), file.info.duration, file.info.size), (Some("audio/ogg"), Some(1500), None));

    let text = json!({ "body": "hi", "msgtype": "m.text" });
    assert_eq!(from_matrix("m.room.message", &raw(&text)), Ok(None));
    let encrypted = json!({ "body": "x", "msgtype": "m.file", "file": { "url": "mxc://h/x" } });
    assert!(matches!(from_matrix("m.room.message", &raw(&encrypted)), Err(Untranslatable::Kind(_))));
    for url in [json!("https://h/x"), json!("mxc://h"), json!(7), Value::Null] {
        let broken = json!({ "body": "x", "msgtype": "m.file", "url": url });
        assert_eq!(from_matrix("m.room.message", &raw(&broken)), Err(Untranslatable::Broken), "{url}");
    }
}

#[test]
fn what_is_sent_says_the_address_and_what_the_file_is() {
    let info = FileInfo {
        kind: FileKind::Audio,
        name: "Voice message.ogg".to_owned(),
        mime: Some("audio/ogg".to_owned()),
        size: Some(17),
        duration: Some(1500),
        ..nothing_known()
    };
    let xml: String = to_xmpp("https://h/a?b&c", &info, None).iter().filter_map(to_xml).collect();
    for part in ["<url>https://h/a?b&amp;c</url>", "<length>1500</length>", "<size>17</size>", "audio/ogg", "inline"] {
        assert!(xml.contains(part), "{part} in {xml}");
    }
    let (read, _) = take(&format!("<body>https://h/a?b&amp;c</body>{xml}"));
    let read = read.unwrap();
    assert_eq!((read.url.as_str(), read.caption), ("https://h/a?b&c", None));
    assert_eq!(read.info, FileInfo { kind: FileKind::File, ..info });
}

/// XEP-0066 section 3, example, and how clients use it (XEP-0363 section 10).
#[test]
fn a_body_that_is_an_address_is_a_file_only_where_xep_0066_says_so() {
    let oob = "<x xmlns='jabber:x:oob'><url>https://h/cat%20one.jpg</url></x>";
    let (file, stanza) = take(&format!("<body>https://h/cat%20one.jpg</body>{oob}"));
    let file = file.unwrap();
    assert_eq!((file.info.name.as_str(), file.caption), ("cat one.jpg", None));
    assert!(stanza.leftovers().is_empty());
    assert!(take(oob).0.is_some());
    assert_eq!(take("<body>https://h/cat.jpg</body>").0, None);
    assert_eq!(take(&format!("<body>Look: https://h/cat%20one.jpg</body>{oob}")).0, None);
    assert_eq!(take(&format!("<body>My cat</body>{oob}")).0.unwrap().caption.as_deref(), Some("My cat"));
    for url in ["ftp://h/x", "javascript:alert(1)", "x", "https://", "mxc://h/x", "file:///etc/passwd"] {
        assert_eq!(take(&format!("<x xmlns='jabber:x:oob'><url>{url}</url></x>")).0, None, "{url}");
    }
}

/// XEP-0447 section 3.1, example 1, with the fallback of section 5.
#[test]
fn stateless_file_sharing() {
    let (file, stanza) = take(
        "<body>https://download.montague.lit/4a771ac1-f0b2-4a4a-9700-f2a26fa2bb67/summit.jpg</body>\
         <fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:sfs:0'><body/></fallback>\
         <file-sharing xmlns='urn:xmpp:sfs:0' disposition='inline'><file xmlns='urn:xmpp:file:metadata:0'>\
         <media-type>image/jpeg</media-type><name>summit.jpg</name><size>3032449</size><dimensions>4096x2160</dimensions>\
         <hash xmlns='urn:xmpp:hashes:2' algo='sha3-256'>2XarmwTlNxDAMkvymloX3S5+VbylNrJt/l5QyPa+YoU=</hash><desc>Photo</desc>\
         </file><sources><url-data xmlns='http://jabber.org/protocol/url-data' target='https://download.montague.lit/4a771ac1-f0b2-4a4a-9700-f2a26fa2bb67/summit.jpg'/>\
         <jinglepub xmlns='urn:xmpp:jinglepub:1' id='9559976B-3FBF-4E7E-B457-2DAA225972BB'/></sources></file-sharing>",
    );
    let file = file.unwrap();
    assert_eq!((file.info.name.as_str(), file.info.size, file.caption), ("summit.jpg", Some(3_032_449), None));
    assert!(stanza.leftovers().is_empty(), "{:?}", stanza.leftovers());
}

#[test]
fn of_several_files_each_comes_once_and_in_order() {
    let oob = |url: &str| format!("<x xmlns='jabber:x:oob'><url>{url}</url></x>");
    let urls = |files: &[Shared]| files.iter().map(|file| file.url.clone()).collect::<Vec<_>>();
    let all = [oob("https://h/1.png"), oob("https://h/2.png"), oob("https://h/1.png"), oob("https://h/3.png")].concat();
    let files = take_several(&format!("<body>https://h/1.png</body>{all}"));
    assert_eq!(urls(&files), ["https://h/1.png", "https://h/2.png", "https://h/3.png"]);
    assert!(files.iter().all(|file| file.caption.is_none()));
    // One address may begin with another; all of them are gone from what is said.
    let both = oob("https://h/1") + &oob("https://h/1.png");
    assert!(
        take_several(&format!("<body>https://h/1 https://h/1.png</body>{both}")).iter().all(|f| f.caption.is_none())
    );
    // What is told of in three ways is one file, and the first way says the most.
    let thrice = format!(
        "<body>Look</body><file-sharing xmlns='urn:xmpp:sfs:0' id='a'><file xmlns='urn:xmpp:file:metadata:0'><name>one.png</name></file>\
         <sources><url-data xmlns='http://jabber.org/protocol/url-data' target='https://h/1'/></sources></file-sharing>\
         <reference xmlns='urn:xmpp:reference:0' type='data'><media-sharing xmlns='urn:xmpp:sims:1'><sources>\
         <reference xmlns='urn:xmpp:reference:0' type='data' uri='https://h/1'/></sources></media-sharing></reference>\
         <reference xmlns='urn:xmpp:reference:0' type='data'><media-sharing xmlns='urn:xmpp:sims:1'><sources>\
         <reference xmlns='urn:xmpp:reference:0' type='data' uri='https://h/2'/></sources></media-sharing></reference>{}",
        oob("https://h/1")
    );
    let files = take_several(&thrice);
    assert_eq!(urls(&files), ["https://h/1", "https://h/2"]);
    assert_eq!((files[0].info.name.as_str(), files[0].caption.as_deref()), ("one.png", Some("Look")));
    assert_eq!(files[1].caption, None, "what is said is said once");
    // Beyond a bound they are named.
    let many: String = (0..MOST + 2).map(|n| oob(&format!("https://h/{n}.png"))).collect();
    let files = take_several(&many);
    assert_eq!(files.len(), MOST);
    assert_eq!(files[0].caption.as_deref(), Some("https://h/10.png\nhttps://h/11.png"));
}

#[test]
fn a_recording_is_known_by_its_name_or_by_its_place() {
    let shared = |disposition: &str, name: &str| {
        take(&format!(
            "<file-sharing xmlns='urn:xmpp:sfs:0'{disposition}><file xmlns='urn:xmpp:file:metadata:0'><media-type>audio/ogg</media-type>{name}\
             <length>1500</length></file><sources><url-data xmlns='http://jabber.org/protocol/url-data' target='https://h/x.ogg'/>\
             </sources></file-sharing>"
        ))
        .0
        .unwrap()
    };
    let inline = " disposition='inline'";
    assert!(shared(inline, "").voice && !shared("", "").voice);
    assert!(!shared(inline, "<name>song.ogg</name>").voice, "a song has a name");
    assert!(shared("", "<name>voice-message-20260301-101112.m4a</name>").voice);
    let oob = |url: &str| take(&format!("<body>{url}</body><x xmlns='jabber:x:oob'><url>{url}</url></x>")).0.unwrap();
    assert!(oob("https://h/abc/RECORDING_20260301_101112131.m4a").voice && !oob("https://h/abc/song.m4a").voice);
}

/// XEP-0385 section 3.1, example 1.
#[test]
fn stateless_inline_media_sharing() {
    let (file, _) = take(
        "<body>Look at the nice view from the summit</body><reference xmlns='urn:xmpp:reference:0' begin='17' end='37' type='data'>\
         <media-sharing xmlns='urn:xmpp:sims:1'><file xmlns='urn:xmpp:jingle:apps:file-transfer:5'><media-type>image/jpeg</media-type>\
         <name>summit.jpg</name><size>3032449</size></file><sources>\
         <reference xmlns='urn:xmpp:reference:0' type='data' uri='ftp://download.montague.lit/a'/>\
         <reference xmlns='urn:xmpp:reference:0' type='data' uri='https://download.montague.lit/4a771ac1/summit.jpg'/>\
         </sources></media-sharing></reference>",
    );
    let file = file.unwrap();
    assert_eq!(
        (file.url.as_str(), file.info.name.as_str()),
        ("https://download.montague.lit/4a771ac1/summit.jpg", "summit.jpg")
    );
    assert_eq!(file.caption.as_deref(), Some("Look at the nice view from the summit"));
    let (mention, stanza) =
        take("<body>Hi</body><reference xmlns='urn:xmpp:reference:0' type='mention' uri='xmpp:a@b'/>");
    assert!(mention.is_none() && stanza.leftovers().len() == 1);
}

/// XEP-0449 section 4.
#[test]
fn a_sticker_is_a_sticker() {
    let (file, _) = take(
        "<body>😘</body><fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:sfs:0'><body/></fallback>\
         <sticker xmlns='urn:xmpp:stickers:0' pack='EpRv28DHHzFrE4zd+xaNpVb4'/><file-sharing xmlns='urn:xmpp:sfs:0'>\
         <file xmlns='urn:xmpp:file:metadata:0'><media-type>image/png</media-type></file><sources>\
         <url-data xmlns='http://jabber.org/protocol/url-data' target='https://h/s.png'/></sources></file-sharing>",
    );
    let file = file.unwrap();
    assert_eq!((file.info.kind, file.caption), (FileKind::Sticker, None));
}

#[test]
fn the_event_is_what_the_bytes_are() {
    let stored = |mime: &str, dimensions| Stored {
        url: "mxc://h/m".to_owned(),
        mime: mime.to_owned(),
        size: 5,
        dimensions,
        preview: None,
    };
    let content = |file: &IncomingMedia, stored: &Stored| -> (String, Value) {
        let event = to_matrix(file, stored);
        (event.kind, serde_json::from_str(&event.content).unwrap())
    };
    let (kind, image) = content(&incoming(FileKind::File, Some("my cat")), &stored("image/png", Some((2, 1))));
    let wanted = json!({ "msgtype": "m.image", "body": "my cat", "filename": "cat.png", "url": "mxc://h/m",
                         "info": { "mimetype": "image/png", "size": 5, "w": 2, "h": 1 } });
    assert_eq!((kind.as_str(), image), ("m.room.message", wanted));
    let (kind, sticker) = content(&incoming(FileKind::Sticker, None), &stored("image/png", Some((2, 1))));
    assert_eq!((kind.as_str(), sticker.get("msgtype")), ("m.sticker", None));
    for (mime, msgtype) in [("video/mp4", "m.video"), ("audio/ogg", "m.audio"), ("application/octet-stream", "m.file")]
    {
        assert_eq!(content(&incoming(FileKind::Sticker, None), &stored(mime, None)).1["msgtype"], msgtype);
    }
    let mut picture = stored("image/png", Some((2, 1)));
    picture.preview = Some(Box::new(Stored { url: "mxc://h/t".to_owned(), ..stored("image/jpeg", Some((1, 1))) }));
    let info = content(&incoming(FileKind::File, None), &picture).1["info"].clone();
    assert_eq!(info["thumbnail_url"], "mxc://h/t");
    assert_eq!(info["thumbnail_info"], json!({ "mimetype": "image/jpeg", "size": 5, "w": 1, "h": 1 }));
    let recording = |mime: &str, caption| {
        let mut media = incoming(FileKind::File, caption);
        (media.voice, media.file.info.duration) = (true, Some(1500));
        content(&media, &stored(mime, None)).1
    };
    let voice = recording("audio/ogg", None);
    assert_eq!(voice["org.matrix.msc3245.voice"], json!({}));
    assert_eq!(
        (&voice["info"]["duration"], &voice["org.matrix.msc1767.audio"]["duration"]),
        (&json!(1500), &json!(1500))
    );
    for plain in [recording("audio/ogg", Some("a song")), recording("video/mp4", None)] {
        assert!(plain.get("org.matrix.msc3245.voice").is_none(), "{plain}");
    }
    let words = to_words(&incoming(FileKind::File, Some("my cat")).file, "it is gone");
    assert!(
        words.content.contains("my cat\\nhttps://h/cat\\n[") && words.content.contains("it is gone"),
        "{}",
        words.content
    );
}

#[test]
fn links_with_a_key_are_known_and_sizes_are_said() {
    assert!(
        is_encrypted_link("aesgcm://h/x.jpg#0123")
            && !is_encrypted_link("see aesgcm://h/x")
            && !is_encrypted_link("https://h/x")
    );
    let said: Vec<String> = [0, 999, 1_000, 1_950_000, 104_857_600, u64::MAX].map(bytes).into();
    assert_eq!(said, ["0 bytes", "999 bytes", "1.0 kB", "1.9 MB", "104 MB", "18446744 TB"]);
    assert!(is_mime("image/svg+xml") && !is_mime("image") && !is_mime("text/html; charset=x") && !is_mime("a/\r\nb"));
}
