//! What goes with files: small pictures, voice messages, several at once, pictures in texts, and links that the bridge serves.

use messenger_bridge::{
    bridge::PublicMedia,
    domain::{
        BareJid, DebtId, Input, LoginId, Ticket,
        effect::{ContactKey, Debt, Effect, Lane, Sender},
        file::{
            FileInfo, FileKind, IncomingFile, Job, LinkId, LinkKey, OutgoingFile, Preview, PublicFile, Side, Stored,
            TransferOutcome,
        },
        input::{Cause, Failure},
    },
    translate::public_link,
};
use minidom::Element;
use serde_json::{Value, json};

use super::{
    files::{image, oob, sends, shares, stage},
    stage::{OWNER, Stage},
};

const JID: &str = "juliet@capulet.lit";
/// SHA-1 of "foo".
const CID: &str = "sha1+0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33@bob.xmpp.org";
const BIT: &str = "<data xmlns='urn:xmpp:bob' cid='sha1+0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33@bob.xmpp.org' max-age='86400' type='image/png'>Zm9v</data>";

fn says(inner: &str) -> String {
    format!("<message from='juliet@capulet.lit/b' type='chat' id='m1'>{inner}</message>")
}

fn xhtml(inner: &str) -> String {
    format!(
        "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'><p>{inner}</p></body></html>"
    )
}

fn emoticon(words: &str) -> String {
    says(&format!("<body>{words}:x:</body>{}", xhtml(&format!("{words}<img alt=':x:' src='cid:{CID}'/>"))))
}

fn failed(at: Side, permanent: bool) -> TransferOutcome {
    let cause = Cause { code: "x".to_owned(), sentence: "it is no picture".to_owned() };
    let failure = if permanent { Failure::Permanent(cause) } else { Failure::Transient { cause, retry_after: None } };
    TransferOutcome::Failed { at, failure }
}

/// What was asked of this address by XEP-0231.
fn asked(stage: &Stage, to: &str) -> usize {
    let asks = |stanza: &&Element| stanza.attr("to") == Some(to) && stanza.get_child("data", "urn:xmpp:bob").is_some();
    stage.sent.iter().filter(asks).count()
}

fn kinds(stage: &Stage) -> Vec<String> {
    stage.heard(JID).iter().map(|said| said.content["msgtype"].as_str().unwrap_or_default().to_owned()).collect()
}

fn online(stage: &mut Stage) {
    stage.server_sends("<presence from='juliet@capulet.lit/b'/>");
}

// ---- several files

#[test]
fn several_files_of_one_message_come_as_events_of_their_own_in_order_and_go_together() {
    let mut stage = stage();
    let sharing = |name: &str| {
        format!(
            "<file-sharing xmlns='urn:xmpp:sfs:0' disposition='inline' id='{name}'><file xmlns='urn:xmpp:file:metadata:0'><name>{name}</name></file>\
             <sources><url-data xmlns='http://jabber.org/protocol/url-data' target='https://files.lit/{name}'/></sources></file-sharing>"
        )
    };
    let all: String = ["1.png", "2.png", "3.png"].map(sharing).concat();
    stage.server_sends(&says(&format!("<body>my cats</body>{all}")));
    assert_eq!(stage.bodies(JID), ["my cats", "2.png", "3.png"], "what is said stands with the first");
    assert_eq!(kinds(&stage), ["m.image"; 3]);
    // A failed one does not take the others with it.
    stage.transferred.push_back(failed(Side::Web, true));
    stage.server_sends(&says(&format!("<body/>{}", all.replace("files.lit", "other.lit"))).replace("m1", "m2"));
    assert_eq!(kinds(&stage)[3..], ["m.text", "m.image", "m.image"]);
    // The third of them is answered and reacted to as what it is a part of; the contact takes all back at once.
    let (room, third) = (stage.room(JID), stage.event_saying("3.png"));
    let reaction = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": third, "key": "x" } });
    stage.matrix(&room, OWNER, "m.reaction", None, &reaction);
    assert!(stage.texts_to(JID).pop().unwrap().contains('x'));
    let before = stage.calls.len();
    stage.server_sends("<message from='juliet@capulet.lit/b' type='chat'><retract xmlns='urn:xmpp:message-retract:1' id='m1'/></message>");
    let redacted = stage.calls[before..].iter().filter(|call| format!("{call:?}").starts_with("Redact")).count();
    assert_eq!(redacted, 3);
}

#[test]
fn files_that_an_earlier_version_owed_are_carried() {
    let mut stage = stage();
    let contact = ContactKey { login: stage.login(), contact: BareJid::parse(JID).unwrap() };
    let info = FileInfo {
        kind: FileKind::File,
        name: "cat.png".to_owned(),
        mime: None,
        size: Some(70),
        width: None,
        height: None,
        duration: None,
    };
    let shown = IncomingFile {
        url: "https://files.lit/cat.png".to_owned(),
        info: info.clone(),
        caption: None,
        sender: Sender::Ghost(contact.contact.clone()),
        answers: None,
        at: None,
        binds: vec!["c:old".to_owned()],
    };
    let sent = OutgoingFile {
        media: "mxc://h.test/cat".to_owned(),
        info,
        measured: false,
        payloads: Vec::new(),
        event: ruma::owned_event_id!("$old"),
        written: stage.now.wall,
    };
    let mut store = stage.store_again();
    for (lane, effect) in
        [(Lane::ToMatrix(contact.clone()), Effect::ShowFile(shown)), (Lane::ToXmpp(contact), Effect::SendFile(sent))]
    {
        let id = store.take_debt_id().unwrap();
        store.put_debt(&Debt { id, lane, effect, after: None, made: stage.now.wall, tried: false }).unwrap();
    }
    store.commit().unwrap();
    stage.crash();
    stage.pass(10_000);
    assert_eq!(
        (stage.bodies(JID), stage.texts_to(JID)),
        (vec!["cat.png".to_owned()], vec!["https://down.montague.lit/1/cat.png".to_owned()])
    );
}

// ---- small pictures

#[test]
fn a_small_picture_goes_before_the_file_and_the_contact_is_told_where_it_is() {
    let mut stage = stage();
    let mut content = image(None, Some(70_000));
    content["info"]["thumbnail_url"] = json!("mxc://h.test/small");
    content["info"]["thumbnail_info"] = json!({ "mimetype": "image/jpeg", "size": 700, "w": 20, "h": 10 });
    sends(&mut stage, &content);
    let put: Vec<(&str, u64)> = stage
        .transfers
        .iter()
        .map(|transfer| match &transfer.job {
            Job::Put { media, size, .. } => (media.as_str(), *size),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(put, [("mxc://h.test/small", 700), ("mxc://h.test/cat", 70_000)]);
    let thumbnail = |stage: &Stage| {
        let sent = stage.messages_to(JID).pop().unwrap();
        let sharing = sent.get_child("file-sharing", "urn:xmpp:sfs:0").unwrap();
        let file = sharing.get_child("file", "urn:xmpp:file:metadata:0").unwrap();
        file.get_child("thumbnail", "urn:xmpp:thumbs:1").cloned()
    };
    let said = thumbnail(&stage).unwrap();
    for (name, value) in [
        ("uri", "https://down.montague.lit/1/cat.png"),
        ("media-type", "image/jpeg"),
        ("width", "20"),
        ("height", "10"),
    ] {
        assert_eq!(said.attr(name), Some(value));
    }
    // One that cannot be put, and one that is no smaller than the file, hold nothing up.
    stage.transferred.push_back(failed(Side::Web, false));
    sends(&mut stage, &content);
    assert_eq!((stage.texts_to(JID).len(), thumbnail(&stage)), (2, None));
    content["info"]["size"] = json!(600);
    let before = stage.transfers.len();
    sends(&mut stage, &content);
    assert_eq!((stage.transfers.len() - before, stage.texts_to(JID).len()), (1, 3));
    // A server that gives it no place is asked for the file's all the same.
    content["info"]["size"] = json!(70_000);
    let asked = |stage: &Stage| {
        stage.sent.iter().filter(|stanza| stanza.get_child("request", "urn:xmpp:http:upload:0").is_some()).count()
    };
    let before = asked(&stage);
    let nothing = "<slot xmlns='urn:xmpp:http:upload:0'/>".to_owned();
    stage.answers.insert("urn:xmpp:http:upload:0 upload.montague.lit", nothing);
    sends(&mut stage, &content);
    assert_eq!(asked(&stage) - before, 2);
}

#[test]
fn a_small_picture_of_a_contacts_file_is_fetched_with_it() {
    let mut stage = stage();
    let sharing = |thumbnail: &str| {
        says(&format!(
            "{BIT}<file-sharing xmlns='urn:xmpp:sfs:0'><file xmlns='urn:xmpp:file:metadata:0'><name>a.mp4</name>{thumbnail}</file>\
             <sources><url-data xmlns='http://jabber.org/protocol/url-data' target='https://files.lit/a.mp4'/></sources></file-sharing>"
        ))
    };
    let small = Stored {
        url: "mxc://h.test/t".to_owned(),
        mime: "image/png".to_owned(),
        size: 3,
        dimensions: Some((2, 1)),
        preview: None,
    };
    let video = Stored {
        url: "mxc://h.test/v".to_owned(),
        mime: "video/mp4".to_owned(),
        size: 99,
        dimensions: None,
        preview: Some(Box::new(small)),
    };
    stage.transferred.push_back(TransferOutcome::Stored(video));
    stage.server_sends(&sharing(&format!(
        "<thumbnail xmlns='urn:xmpp:thumbs:1' uri='cid:{CID}' media-type='image/png'/>"
    )));
    let Job::Take { preview, .. } = &stage.transfers[0].job else { panic!("{:?}", stage.transfers) };
    assert_eq!(preview, &Some(Preview::Bytes(b"foo".to_vec())));
    let info = stage.heard(JID).pop().unwrap().content["info"].clone();
    assert_eq!((&info["thumbnail_url"], &info["thumbnail_info"]["w"]), (&json!("mxc://h.test/t"), &json!(2)));
    assert_eq!(stage.heard(JID).len(), 1, "it is not a picture of its own");
}

// ---- voice messages

#[test]
fn voice_messages_are_such_on_both_sides() {
    let mut stage = stage();
    let voice = json!({
        "msgtype": "m.audio", "body": "Voice message", "url": "mxc://h.test/v", "org.matrix.msc3245.voice": {},
        "org.matrix.msc1767.audio": { "duration": 2140, "waveform": [1, 2] },
        "info": { "mimetype": "audio/ogg; codecs=opus", "size": 70, "duration": 2140 },
    });
    sends(&mut stage, &voice);
    let sent = stage.messages_to(JID).pop().unwrap();
    let sharing = sent.get_child("file-sharing", "urn:xmpp:sfs:0").unwrap();
    assert_eq!(sharing.attr("disposition"), Some("inline"));
    let file = sharing.get_child("file", "urn:xmpp:file:metadata:0").unwrap();
    let said = |name: &str| file.get_child(name, "urn:xmpp:file:metadata:0").map(Element::text).unwrap_or_default();
    assert!(said("name").starts_with("voice-message-2026") && said("name").contains(".ogg"), "{}", said("name"));
    assert_eq!((said("length").as_str(), said("media-type").as_str()), ("2140", "audio/ogg"));

    let heard = |url: &str| Stored {
        url: url.to_owned(),
        mime: "audio/mp4".to_owned(),
        size: 9,
        dimensions: None,
        preview: None,
    };
    for (name, is_voice) in [("RECORDING_20260301_101112131.m4a", true), ("song.m4a", false)] {
        stage.transferred.push_back(TransferOutcome::Stored(heard(name)));
        stage.server_sends(&shares(name, &format!("https://files.lit/{name}")));
        let content = stage.heard(JID).pop().unwrap().content;
        assert_eq!(content["msgtype"], "m.audio");
        assert_eq!(content.get("org.matrix.msc3245.voice").is_some(), is_voice, "{content}");
    }
}

// ---- pictures in texts (XEP-0231)

#[test]
fn a_picture_that_comes_with_its_text_is_an_event_of_its_own() {
    let mut stage = stage();
    stage.server_sends(&emoticon("").replace("</message>", &format!("{BIT}</message>")));
    let Job::Keep { name, bytes } = &stage.transfers[0].job else { panic!("{:?}", stage.transfers) };
    assert_eq!((name.as_str(), bytes.as_slice()), ("x", b"foo".as_slice()));
    assert_eq!(kinds(&stage), ["m.image"], "its words are not said beside it");
    let url = stage.heard(JID)[0].content["url"].clone();
    // Beside other words it follows them; it is known, so nothing is carried or asked again.
    stage.server_sends(&emoticon("hi ").replace("m1", "m2"));
    assert_eq!(kinds(&stage), ["m.image", "m.text", "m.image"]);
    assert_eq!(stage.heard(JID)[1].content["body"], "hi :x:");
    assert_eq!(
        (&stage.heard(JID)[2].content["url"], stage.transfers.len(), asked(&stage, "juliet@capulet.lit/b")),
        (&url, 1, 0)
    );
    // One without a text.
    let foo_256 = "sha-256+2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae@bob.xmpp.org";
    stage.server_sends(&says(&BIT.replace(CID, foo_256)).replace("m1", "m3"));
    assert_eq!((kinds(&stage).len(), stage.bodies(JID).pop().unwrap()), (4, "picture.png".to_owned()));
    // A forged one is no picture, and the text stays.
    stage.server_sends(
        &emoticon("so ")
            .replace("</message>", &format!("{}</message>", BIT.replace("Zm9v", "YmFy")))
            .replace(CID, foo_256)
            .replace("m1", "m4"),
    );
    assert_eq!(stage.bodies(JID)[4], "so :x:");
}

#[test]
fn a_picture_that_does_not_come_with_its_text_is_asked_of_that_client_once() {
    let mut stage = stage();
    stage.silent = vec!["urn:xmpp:bob"];
    online(&mut stage);
    stage.server_sends(&emoticon(""));
    stage.phone_sends("juliet@capulet.lit/b", "after it");
    assert_eq!((asked(&stage, "juliet@capulet.lit/b"), kinds(&stage).len()), (1, 0), "what follows waits");
    let id = stage
        .sent
        .iter()
        .rev()
        .find(|stanza| stanza.get_child("data", "urn:xmpp:bob").is_some())
        .unwrap()
        .attr("id")
        .unwrap()
        .to_owned();
    // Someone else's answer is none.
    let answer = |from: &str| format!("<iq from='{from}' type='result' id='{id}'>{BIT}</iq>");
    stage.server_sends(&answer("juliet@capulet.lit/other"));
    stage.server_sends(&answer("mercutio@verona.lit/b"));
    assert!(stage.transfers.is_empty());
    stage.server_sends(&answer("juliet@capulet.lit/b"));
    assert_eq!(kinds(&stage), ["m.image", "m.text"]);
    stage.server_sends(&answer("juliet@capulet.lit/b"));
    assert_eq!((kinds(&stage).len(), stage.transfers.len()), (2, 1));
    assert_eq!(asked(&stage, "juliet@capulet.lit/b"), 1);
}

#[test]
fn only_so_many_pictures_are_asked_for_at_once_and_all_come() {
    let contacts: Vec<String> = (0..6).map(|n| format!("c{n}@capulet.lit")).collect();
    let roster: String = contacts.iter().map(|jid| format!("<item jid='{jid}' subscription='both'/>")).collect();
    let mut stage = Stage::xmpp(&roster);
    stage.silent = vec!["urn:xmpp:bob"];
    for jid in &contacts {
        stage.server_sends(&format!("<presence from='{jid}/b'/>"));
        stage.server_sends(&emoticon("").replace("juliet@capulet.lit", jid));
    }
    let questions = |stage: &Stage| -> Vec<(String, String)> {
        let asked = stage.sent.iter().filter(|stanza| stanza.get_child("data", "urn:xmpp:bob").is_some());
        asked.map(|stanza| (stanza.attr("to").unwrap().to_owned(), stanza.attr("id").unwrap().to_owned())).collect()
    };
    assert_eq!(questions(&stage).len(), 4);
    let mut answered = 0;
    while answered < questions(&stage).len() {
        let (from, id) = questions(&stage)[answered].clone();
        stage.server_sends(&format!("<iq from='{from}' type='error' id='{id}'><error type='cancel'/></iq>"));
        answered += 1;
        assert!(questions(&stage).len() <= answered + 4);
    }
    assert_eq!(answered, 6);
    assert!(contacts.iter().all(|jid| stage.bodies(jid) == [":x:"]));
}

#[test]
fn a_picture_that_cannot_be_had_is_its_words() {
    // Nobody is asked who is not there, or is no contact: that would tell them when one is.
    let mut offline = stage();
    offline.server_sends(&emoticon(""));
    assert_eq!((offline.bodies(JID), asked(&offline, "juliet@capulet.lit/b")), (vec![":x:".to_owned()], 0));
    offline.server_sends(&emoticon("").replace("juliet@capulet.lit/b", "stranger@capulet.lit/b"));
    offline.pass(10_000);
    assert_eq!(
        (offline.bodies("stranger@capulet.lit"), asked(&offline, "stranger@capulet.lit/b")),
        (vec![":x:".to_owned()], 0)
    );
    // No answer in time, an error, or another bit than was asked for.
    for (silent, answer) in [(true, None), (false, None), (false, Some(BIT.replace("Zm9v", "YmFy")))] {
        let mut stage = stage();
        if silent {
            stage.silent = vec!["urn:xmpp:bob"];
        }
        if let Some(answer) = &answer {
            stage.answers.insert("urn:xmpp:bob juliet@capulet.lit/b", answer.clone());
        }
        online(&mut stage);
        stage.server_sends(&emoticon(""));
        stage.phone_sends("juliet@capulet.lit/b", "after it");
        stage.pass(12_000);
        assert_eq!(
            (stage.bodies(JID), asked(&stage, "juliet@capulet.lit/b")),
            (vec![":x:".to_owned(), "after it".to_owned()], 1),
            "{silent} {answer:?}"
        );
        // Who does not answer is not asked again: every message would wait.
        stage.server_sends(&emoticon("").replace("m1", "m2"));
        stage.pass(12_000);
        assert_eq!(asked(&stage, "juliet@capulet.lit/b"), if silent { 1 } else { 2 });
    }
    // Its bytes are no picture; where a text says its words nothing more is said.
    let mut stage = stage();
    for (words, said) in [("", vec![":x:"]), ("hi ", vec![":x:", "hi :x:"])] {
        stage.transferred.push_back(failed(Side::Web, true));
        stage.server_sends(
            &emoticon(words)
                .replace("</message>", &format!("{BIT}</message>"))
                .replace("m1", &format!("m{}", words.len())),
        );
        assert_eq!(stage.bodies(JID), said);
    }
}

#[test]
fn a_picture_outlives_a_crash_and_the_stream_that_it_was_asked_on() {
    let mut stage = stage();
    stage.held = true;
    stage.server_sends(&emoticon("").replace("</message>", &format!("{BIT}</message>")));
    stage.held = false;
    stage.crash();
    stage.pass(5_000);
    assert_eq!(kinds(&stage), ["m.image"]);
    stage.silent = vec!["urn:xmpp:bob"];
    online(&mut stage);
    stage.server_sends(&emoticon("").replace(CID, "sha1+x@bob.xmpp.org").replace("m1", "m2"));
    assert_eq!((asked(&stage, "juliet@capulet.lit/b"), kinds(&stage).len()), (1, 1));
    stage.cut(true);
    assert_eq!(stage.bodies(JID)[1..], [":x:"], "it is not waited for");
}

// ---- links that the bridge serves

fn key() -> LinkKey {
    LinkKey::new(zeroize::Zeroizing::new([7; 32]))
}

fn linking(profile: fn(&str) -> Stage) -> Stage {
    let mut stage = profile(
        "<item jid='a@messenger.live.com' subscription='both'/><item jid='juliet@capulet.lit' subscription='both'/>",
    );
    let mut settings = Stage::settings();
    settings.public_media =
        Some(PublicMedia { address: "https://bridge.lit/x/".to_owned(), expires: 60_000, key: key() });
    stage.change(settings);
    stage.crash();
    stage.pass(10_000);
    stage
}

/// What the link in a text leads to at its signature's word, and then in the engine.
fn follow(stage: &mut Stage, link: &str) -> Option<PublicFile> {
    let token = link.strip_prefix("https://bridge.lit/x/public/")?.split('/').next()?;
    let link = public_link::read(&key(), token, stage.now.wall)?;
    stage.play(Input::PublicFileAsked { ticket: Ticket(1), link });
    stage.linked.pop().unwrap()
}

fn sends_to(stage: &mut Stage, jid: &str, content: &Value) {
    let room = stage.room(jid);
    stage.matrix(&room, OWNER, "m.room.message", None, content);
}

#[test]
fn a_network_without_files_gets_a_link_that_ends() {
    const JID: &str = "a@messenger.live.com";
    let mut stage = linking(Stage::messenger);
    sends_to(&mut stage, JID, &image(Some("my cat"), Some(70)));
    let texts = stage.texts_to(JID);
    let [text, caption] = texts.as_slice() else { panic!("{texts:?}") };
    let (name, link) = text.split_once('\n').unwrap();
    assert_eq!((name, caption.as_str()), ("cat.png", "my cat"));
    assert!(link.ends_with("/cat.png") && !link.contains("mxc") && !link.contains("h.test"), "{link}");
    assert!(stage.messages_to(JID)[0].get_child("x", "jabber:x:oob").is_none(), "the network knows nothing but text");
    let file = follow(&mut stage, link).unwrap();
    assert_eq!(
        (file.media.as_str(), file.name.as_str(), file.mime.as_deref()),
        ("mxc://h.test/cat", "cat.png", Some("image/png"))
    );
    assert!(stage.transfers.is_empty(), "nothing is carried before someone asks");
    // Over a crash, and until its time.
    stage.crash();
    assert!(follow(&mut stage, link).is_some());
    let login = stage.login();
    stage.pass(60_000);
    assert_eq!(follow(&mut stage, link), None);
    // Even at the word of a signature it has ended, and an unknown one leads nowhere.
    for link in
        [LinkId { login, debt: DebtId(1) }, LinkId { login: LoginId::derive("@b:h", "x", "y"), debt: DebtId(2) }]
    {
        stage.play(Input::PublicFileAsked { ticket: Ticket(2), link });
        assert_eq!(stage.linked.pop(), Some(None));
    }
    // Over the operator's limit there is a sentence.
    sends_to(&mut stage, JID, &image(None, Some(2_000_000)));
    assert!(stage.heard(JID).pop().unwrap().body().contains("I carry at most 1.0 MB"));
}

#[test]
fn what_is_taken_back_and_whoever_signs_out_takes_the_link_along() {
    const JID: &str = "a@messenger.live.com";
    let mut stage = linking(Stage::messenger);
    let link = |stage: &Stage| stage.texts_to(JID).pop().unwrap().split_once('\n').unwrap().1.to_owned();
    sends_to(&mut stage, JID, &image(None, Some(70)));
    let (first, event) = (link(&stage), stage.last_event());
    sends_to(&mut stage, JID, &image(None, Some(70)));
    let second = link(&stage);
    let room = stage.room(JID);
    stage.matrix(&room, OWNER, "m.room.redaction", None, &json!({ "redacts": event }));
    assert!(follow(&mut stage, &first).is_none() && follow(&mut stage, &second).is_some());
    let told = stage.heard(JID).pop().unwrap();
    assert!(told.body().contains("the link to your file leads nowhere now"), "{}", told.body());
    let account = stage.account;
    stage.command(&format!("logout {account}"));
    assert!(follow(&mut stage, &second).is_none());
}

#[test]
fn a_server_without_an_upload_service_gets_a_link_too_and_one_with_it_does_not() {
    let mut stage = linking(Stage::xmpp);
    sends_to(&mut stage, JID, &image(None, Some(70)));
    let sent = stage.messages_to(JID).pop().unwrap();
    let link = oob(&sent).unwrap();
    assert_eq!(stage.texts_to(JID), std::slice::from_ref(&link), "for the contact's app it is a file like any other");
    assert!(follow(&mut stage, &link).is_some());
    let mut served = super::files::stage();
    let mut settings = Stage::settings();
    settings.public_media = Some(PublicMedia { address: "https://bridge.lit".to_owned(), expires: 60_000, key: key() });
    served.change(settings);
    served.crash();
    served.pass(10_000);
    sends(&mut served, &image(None, Some(70)));
    assert_eq!(served.texts_to(JID), ["https://down.montague.lit/1/cat.png"]);
}
