//! What goes with files, between matrix-nio and slixmpp: small pictures, voice messages, stickers, several files at once, pictures in
//! texts; and links that the bridge serves where a network takes no files.

use std::fs;

use serde_json::{Value, json};

use super::bridge::{Bridge, Management, Plan, Portal};
use super::clients::{Mark, PHOTO};
use super::files::{Chat, bridge};
use super::ground;
use super::messenger::{self, Messenger};
use super::servers::{Ejabberd, Prosody};
use crate::messenger_service::{Account, Inbox};

const SFS: &str = "urn:xmpp:sfs:0";
const XHTML: &str = "http://www.w3.org/1999/xhtml";

impl Chat {
    fn uploads(&self, content: &Value, mime: &str) -> Value {
        self.person.call("upload", json!({"name": "x", "mime": mime, "content": content}))
    }

    /// The person sends an event; gives what Bob's client is told of its file.
    fn bob_is_told(&self, kind: &str, content: &Value) -> Value {
        let mark = self.bob.mark();
        self.person.call("send_event", json!({"room": self.portal.room, "type": kind, "content": content}));
        self.bob.expect_since(mark, "the message with the file", |event| event["oob"].is_string())
    }

    /// Bob's client sends a message with these further children.
    fn bob_sends_with(&self, body: Option<&str>, extra: &[String]) -> Mark {
        let mark = self.person.mark();
        self.bob.call("send", json!({"to": self.alice, "body": body, "extra": extra}));
        mark
    }

    fn is_bobs(&self, event: &Value) -> bool {
        event["room"] == self.portal.room.as_str() && event["sender"] == self.portal.ghost.as_str()
    }

    /// The next event of Bob's with media.
    fn person_gets(&self, mark: Mark) -> Value {
        self.person.expect_since(mark, "an event with media", |event| {
            self.is_bobs(event) && event["content"]["url"].is_string()
        })
    }

    fn sha1_of(&self, url: &Value) -> String {
        self.person.call("media", json!({"url": url}))["sha1"].as_str().expect("a hash").to_owned()
    }
}

fn photo() -> Value {
    json!({"base64": PHOTO})
}

fn sharing(url: &str, name: &str, inside: &str) -> String {
    format!(
        "<file-sharing xmlns='{SFS}' disposition='inline' id='{name}'><file xmlns='urn:xmpp:file:metadata:0'><name>{name}</name>{inside}</file>\
         <sources><url-data xmlns='http://jabber.org/protocol/url-data' target='{url}'/></sources></file-sharing>"
    )
}

fn attribute<'a>(xml: &'a str, name: &str) -> &'a str {
    xml.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default()
}

fn all_kinds(chat: &Chat) {
    small_pictures(chat);
    voice_messages_and_stickers(chat);
    several_at_once(chat);
    pictures_in_texts(chat);
}

fn small_pictures(chat: &Chat) {
    let (small, large) = (chat.uploads(&photo(), "image/png"), chat.uploads(&json!({"size": 90_000}), "image/webp"));
    let told = chat.bob_is_told(
        "m.room.message",
        &json!({
            "msgtype": "m.image", "body": "sea.webp", "url": large["url"],
            "info": {
                "mimetype": "image/webp", "size": 90_000, "w": 800, "h": 600, "thumbnail_url": small["url"],
                "thumbnail_info": {"mimetype": "image/png", "size": small["size"], "w": 1, "h": 1},
            },
        }),
    );
    let xml = told["xml"].as_str().expect("the stanza");
    let (_, thumbnail) = xml.split_once("thumbnail").expect("a small picture");
    assert_eq!((attribute(thumbnail, "width"), attribute(thumbnail, "media-type")), ("1", "image/png"), "{xml}");
    let got = chat.bob.call("fetch", json!({"url": attribute(thumbnail, "uri")}));
    assert_eq!(got["sha1"], small["sha1"]);
    assert_eq!(chat.bob.call("fetch", json!({"url": told["oob"]}))["sha1"], large["sha1"]);
    assert!(xml.contains("800</") && xml.contains("600</"), "{xml}");

    // And back: one in the web, and one inside of the stanza.
    let upload = |name: &str, mime: &str, content: Value| {
        chat.bob.call("upload", json!({"name": name, "mime": mime, "content": content}))
    };
    let film = upload("film.mp4", "video/mp4", json!({"size": 70_000}));
    let still = upload("still.png", "image/png", photo());
    for uri in [still["url"].as_str().expect("a URL").to_owned(), format!("data:image/png;base64,{PHOTO}")] {
        let about = format!(
            "<media-type>video/mp4</media-type><width>640</width><height>480</height><length>63000</length>\
             <thumbnail xmlns='urn:xmpp:thumbs:1' uri='{uri}' media-type='image/png' width='1' height='1'/>"
        );
        let mark = chat.bob_sends_with(None, &[sharing(film["url"].as_str().expect("a URL"), "film.mp4", &about)]);
        let event = chat.person_gets(mark);
        let info = &event["content"]["info"];
        assert_eq!(
            (event["msgtype"].as_str(), &info["duration"], &info["w"]),
            (Some("m.video"), &json!(63_000), &json!(640))
        );
        assert_eq!(chat.sha1_of(&info["thumbnail_url"]), still["sha1"].as_str().expect("a hash"), "{event}");
        assert_eq!(
            (&info["thumbnail_info"]["w"], &info["thumbnail_info"]["mimetype"]),
            (&json!(1), &json!("image/png"))
        );
    }
}

fn voice_messages_and_stickers(chat: &Chat) {
    let recording = chat.uploads(&json!({"size": 3_000}), "audio/ogg");
    let told = chat.bob_is_told(
        "m.room.message",
        &json!({
            "msgtype": "m.audio", "body": "Voice message", "url": recording["url"], "org.matrix.msc3245.voice": {},
            "org.matrix.msc1767.audio": {"duration": 2140, "waveform": [0, 512, 1024]},
            "info": {"mimetype": "audio/ogg", "size": 3_000, "duration": 2140},
        }),
    );
    let xml = told["xml"].as_str().expect("the stanza");
    for part in ["voice-message-20", ".ogg</", "2140</", "audio/ogg</", "disposition=\"inline\""] {
        assert!(xml.contains(part), "{part} in {xml}");
    }
    assert_eq!(chat.bob.call("fetch", json!({"url": told["oob"]}))["sha1"], recording["sha1"]);
    for (name, voice) in [("RECORDING_20260301_101112131.m4a", true), ("song.m4a", false)] {
        let mark = chat.person.mark();
        let file = json!({"to": chat.alice, "name": name, "mime": "audio/mp4", "content": {"size": 2_000}});
        let sent = chat.bob.call("share", file);
        let event = chat.person_gets(mark);
        assert_eq!(event["msgtype"], "m.audio", "{event}");
        assert_eq!(event["content"]["org.matrix.msc3245.voice"].is_object(), voice, "{event}");
        assert_eq!(chat.sha1_of(&event["content"]["url"]), sent["sha1"].as_str().expect("a hash"));
    }

    let picture = chat.uploads(&photo(), "image/png");
    let sticker =
        json!({"body": "Wave", "url": picture["url"], "info": {"mimetype": "image/png", "size": picture["size"]}});
    let told = chat.bob_is_told("m.sticker", &sticker);
    assert!(told["xml"].as_str().is_some_and(|xml| xml.contains("Wave.png")), "{told}");
    assert_eq!(chat.bob.call("fetch", json!({"url": told["oob"]}))["sha1"], picture["sha1"]);
    let uploaded = chat.bob.call("upload", json!({"name": "kiss.png", "mime": "image/png", "content": photo()}));
    let kiss = sharing(uploaded["url"].as_str().expect("a URL"), "kiss.png", "<media-type>image/png</media-type>");
    let extra = [
        kiss,
        "<sticker xmlns='urn:xmpp:stickers:0' pack='p'/>".to_owned(),
        format!("<fallback xmlns='urn:xmpp:fallback:0' for='{SFS}'><body/></fallback>"),
    ];
    let mark = chat.bob_sends_with(Some(":-*"), &extra);
    assert_eq!(chat.person_gets(mark)["type"], "m.sticker");
    // XEP-0385, with words.
    let sims = format!(
        "<reference xmlns='urn:xmpp:reference:0' type='data'><media-sharing xmlns='urn:xmpp:sims:1'>\
         <file xmlns='urn:xmpp:jingle:apps:file-transfer:5'><name>view.png</name></file><sources>\
         <reference xmlns='urn:xmpp:reference:0' type='data' uri='{}'/></sources></media-sharing></reference>",
        uploaded["url"].as_str().expect("a URL")
    );
    let mark = chat.bob_sends_with(Some("the view"), &[sims]);
    let event = chat.person_gets(mark);
    assert_eq!((event["body"].as_str(), event["content"]["filename"].as_str()), (Some("the view"), Some("view.png")));
}

fn several_at_once(chat: &Chat) {
    // An address alone is what it says.
    let mark = chat.person.mark();
    chat.bob.say(&chat.alice, "https://files.example.org/cat.png");
    let text = chat.person.expect_since(mark, "the link", |event| {
        chat.is_bobs(event) && event["body"] == "https://files.example.org/cat.png"
    });
    assert_eq!(text["msgtype"], "m.text", "{text}");
    let sent: Vec<Value> = [3_001, 3_002, 3_003]
        .map(|size| {
            let file = json!({"name": format!("{size}.zip"), "mime": "application/zip", "content": {"size": size}});
            chat.bob.call("upload", file)
        })
        .into();
    let shared: Vec<String> = sent
        .iter()
        .map(|file| sharing(file["url"].as_str().expect("a URL"), &format!("{}.zip", file["size"]), ""))
        .collect();
    let mark = chat.bob_sends_with(Some("three of them"), &shared);
    chat.bob.say(&chat.alice, "after the three");
    chat.person.expect_since(mark, "what was said after them", |event| event["body"] == "after the three");
    let came = chat.person.events(|event| {
        chat.is_bobs(event) && event["content"]["filename"].as_str().is_some_and(|name| name.starts_with("300"))
    });
    let hashes: Vec<String> = came.iter().map(|event| chat.sha1_of(&event["content"]["url"])).collect();
    let wanted: Vec<&str> = sent.iter().filter_map(|file| file["sha1"].as_str()).collect();
    assert_eq!(hashes, wanted, "each, once, in order");
    assert_eq!((came[0]["body"].as_str(), came[1]["body"].as_str()), (Some("three of them"), Some("3002.zip")));
}

fn pictures_in_texts(chat: &Chat) {
    // Bob's client keeps it, and is asked for it.
    let cid = chat.bob.call("keep_bit", json!({"mime": "image/png", "content": photo()}));
    let cid = cid.as_str().expect("its name");
    let hash = cid.trim_start_matches("sha1+").split('@').next().unwrap_or_default().to_owned();
    let html = |before: &str, cid: &str| {
        format!(
            "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='{XHTML}'><p>{before}<img alt=':wave:' src='cid:{cid}'/></p></body></html>"
        )
    };
    let mark = chat.bob_sends_with(Some("Yet here is a spot. :wave:"), &[html("Yet here is a spot. ", cid)]);
    let event = chat.person_gets(mark);
    assert_eq!((event["msgtype"].as_str(), chat.sha1_of(&event["content"]["url"])), (Some("m.image"), hash));
    let text = chat.person.expect_since(mark, "its text", |event| event["body"] == "Yet here is a spot. :wave:");
    assert_eq!(text["msgtype"], "m.text");
    // Another comes with its text, which says nothing else: a GIF of one pixel.
    let gif = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";
    let own = "sha1+6b6e7ed7fa1e4d9bd0f0d8d5a3b8f8f2b0f1f6a3@bob.xmpp.org";
    let name = sha1_name(gif);
    let data = |cid: &str| format!("<data xmlns='urn:xmpp:bob' cid='{cid}' type='image/gif' max-age='0'>{gif}</data>");
    let mark = chat.bob_sends_with(Some(":wave:"), &[html("", &name), data(&name)]);
    let event = chat.person_gets(mark);
    assert_eq!(event["content"]["info"]["mimetype"], "image/gif", "{event}");
    // One that is not what its name says, and that nobody has, is its words.
    let mark = chat.bob_sends_with(Some(":wave:"), &[html("", own), data(own)]);
    let words = chat.person.expect_since(mark, "its words", |event| chat.is_bobs(event) && event["body"] == ":wave:");
    assert_eq!(words["msgtype"], "m.text");
}

fn sha1_name(base64: &str) -> String {
    use base64::Engine as _;
    use sha1::Digest as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64).expect("base64");
    let hash: String = sha1::Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha1+{hash}@bob.xmpp.org")
}

#[test]
fn what_goes_with_files_crosses_both_ways_with_prosody() {
    let prosody = Prosody::shared();
    let bridge = bridge(Prosody::DOMAIN, prosody.reach(), &prosody.upload());
    all_kinds(&Chat::begin(&bridge, [prosody.account("alice"), prosody.account("bob")]));
}

#[test]
fn what_goes_with_files_crosses_both_ways_with_ejabberd() {
    let ejabberd = Ejabberd::shared();
    let bridge = bridge(Ejabberd::DOMAIN, ejabberd.reach(), &ejabberd.upload());
    all_kinds(&Chat::begin(&bridge, [ejabberd.account("alice"), ejabberd.account("bob")]));
}

// ---- links that the bridge serves

/// What a contact's browser gets.
#[derive(Debug, PartialEq)]
struct Page {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Page {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

fn browse(messenger: &Messenger, method: reqwest::Method, link: &str) -> Page {
    messenger.runtime.block_on(async {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let browser = reqwest::Client::new();
        let answer = browser.request(method, link).send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = answer.headers().iter().filter(|(name, _)| *name != "date");
        let headers = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
        Page { status, headers, body: answer.bytes().await.expect("a body").to_vec() }
    })
}

/// The person sends the picture; gives the event and the link that the contact gets.
fn links(
    messenger: &Messenger,
    chat: (&super::clients::Person, &Portal),
    inbox: &mut Inbox,
    (info, bytes): (&Value, &Value),
) -> (String, String) {
    let (person, portal) = chat;
    let uploaded = person.call("upload", json!({"name": "x", "mime": info["mimetype"], "content": bytes}));
    let mut content = json!({"msgtype": "m.image", "body": "my cat.png", "url": uploaded["url"], "info": info});
    content["info"]["size"] = uploaded["size"].clone();
    let event = person.call("send_event", json!({"room": portal.room, "type": "m.room.message", "content": content}));
    let event = event.as_str().expect("an event id").to_owned();
    let text = messenger.wait(inbox, "a link", |event| {
        event.text().filter(|text| text.starts_with("my cat.png\nhttp")).map(str::to_owned)
    });
    (event, text.split_once('\n').expect("a link").1.to_owned())
}

#[test]
fn a_file_is_a_link_on_the_messenger_service() {
    let messenger = Messenger::start(|_| {});
    let _context = messenger.runtime.enter();
    let friend: Account = messenger.contact("tybalt");
    messenger.service.autoreply(&friend.jid, None).expect("silence");
    let plan = Plan::new("bridge");
    let address = format!("http://127.0.0.1:{}", plan.port);
    let public = |expires: &str| json!({"enabled": true, "address": address, "expires": expires});
    let sections = json!({"public_media": public("1h")});
    let bridge = Bridge::start_as_planned(plan, &messenger.networks(None), &sections);
    let person = bridge.person("romeo");
    let management = Management::open(&person);
    messenger.sign_in(&management);
    let portal = messenger::portal(&person, &friend);
    let mut inbox = messenger.service.messages_from_now(&friend.jid).expect("the contact's messages");

    let png = json!({"mimetype": "image/png"});
    let (event, link) = links(&messenger, (&person, &portal), &mut inbox, (&png, &photo()));
    let page = browse(&messenger, reqwest::Method::GET, &link);
    assert_eq!(page.status, 200, "{page:?}");
    let bytes = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(PHOTO).expect("base64")
    };
    assert_eq!(page.body, bytes);
    for (name, value) in [
        ("content-type", "image/png"),
        ("content-disposition", "inline; filename=\"my cat.png\"; filename*=UTF-8''my%20cat.png"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "private, no-store"),
    ] {
        assert_eq!(page.header(name), value, "{page:?}");
    }
    assert!(page.header("content-security-policy").starts_with("sandbox"), "{page:?}");
    let head = browse(&messenger, reqwest::Method::HEAD, &link);
    assert_eq!(
        (head.status, head.body.len(), head.header("content-length")),
        (200, 0, bytes.len().to_string().as_str())
    );

    // What a browser could run is only ever saved.
    let (_, hostile) = links(&messenger, (&person, &portal), &mut inbox, (&json!({"mimetype": "text/html"}), &photo()));
    let saved = browse(&messenger, reqwest::Method::GET, &hostile);
    assert_eq!((saved.status, saved.header("content-type")), (200, "application/octet-stream"));
    assert!(saved.header("content-disposition").starts_with("attachment"), "{saved:?}");

    // A signature that is changed, a link that never was, and one that was taken back: the same answer.
    let (before, token, name) = {
        let mut parts = link.rsplitn(3, '/');
        let (name, token, before) = (parts.next(), parts.next(), parts.next());
        (before.expect("its beginning"), token.expect("its signed part"), name.expect("its name"))
    };
    let swapped = |at: usize, with: &str| format!("{before}/{}{with}{}/{name}", &token[..at], &token[at + 1..]);
    let last = token.len() - 2;
    let other = if token[last..].starts_with('A') { "B" } else { "A" };
    let forged = browse(&messenger, reqwest::Method::GET, &swapped(last, other));
    assert_eq!(forged.status, 404);
    let never = browse(&messenger, reqwest::Method::GET, &format!("{before}/x"));
    let nothing = browse(&messenger, reqwest::Method::GET, &format!("{before}/{token}"));
    assert_eq!((&never, &nothing), (&forged, &forged));
    person.call("redact", json!({"room": portal.room, "event_id": event}));
    assert_eq!(ends(&messenger, &link), forged);
    assert_eq!(browse(&messenger, reqwest::Method::GET, &hostile).status, 200, "the other goes on");

    // A large one passes through: the bridge never has it whole.
    let size = 50 * 1024 * 1024;
    let (_, large) = links(&messenger, (&person, &portal), &mut inbox, (&png, &json!({ "size": size })));
    bridge.peak_memory();
    let before = bridge.peak_memory();
    assert_eq!(browse(&messenger, reqwest::Method::GET, &large).body.len(), size);
    let after = bridge.peak_memory();
    println!("peak of memory in kB: {before} before, {after} while 50 MiB are fetched by their link");
    assert!(after - before < 12 * 1024, "{before} {after}");

    // Links outlive the process; one that ends soon does.
    bridge.terminate();
    let file = bridge.folder().join("config.yaml");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("the config")).expect("JSON");
    config["public_media"] = public("3s");
    fs::write(&file, config.to_string()).expect("the config");
    bridge.launch();
    let (_, short) = links(&messenger, (&person, &portal), &mut inbox, (&png, &photo()));
    assert_eq!(ends(&messenger, &short), forged);
    assert_eq!(browse(&messenger, reqwest::Method::GET, &hostile).status, 200, "the other goes on");

    // Off, nothing is served, and the person is told that the next file does not go.
    bridge.terminate();
    config["public_media"] = json!({"enabled": false});
    fs::write(&file, config.to_string()).expect("the config");
    bridge.launch();
    assert_eq!(browse(&messenger, reqwest::Method::GET, &hostile).status, 404);
    let mark = person.mark();
    let content = json!({"msgtype": "m.image", "body": "x.png", "url": "mxc://hs.test/x", "info": {"size": 9}});
    person.call("send_event", json!({"room": portal.room, "type": "m.room.message", "content": content}));
    person.expect_since(mark, "word that it does not go", |event| {
        event["sender"] == Bridge::BOT && event["body"].as_str().is_some_and(|body| body.contains("carries no files"))
    });
}

/// The answer once a link has ended: its time is over, which is no event.
fn ends(messenger: &Messenger, link: &str) -> Page {
    let mut page = browse(messenger, reqwest::Method::GET, link);
    let ended = ground::poll(|| {
        page = browse(messenger, reqwest::Method::GET, link);
        page.status == 404
    });
    assert!(ended, "the link does not end: {page:?}");
    page
}
