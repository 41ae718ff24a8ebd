//! Files both ways, as the rules see them: the transfers themselves are a shell's.

use messenger_bridge::domain::{
    Input,
    file::{Job, Side, Stored, TransferOutcome},
    input::{Cause, Failure},
};
use minidom::Element;
use serde_json::{Value, json};

use super::stage::{OWNER, Stage};

const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
const JID: &str = "juliet@capulet.lit";
const SLOT: &str = "urn:xmpp:http:upload:0";
const OOB: &str = "jabber:x:oob";

/// Signed in on a server that takes files of at most 500,000 bytes.
pub fn stage() -> Stage {
    let mut stage = Stage::xmpp(JULIET);
    stage.answers.insert(
        "http://jabber.org/protocol/disco#items montague.lit",
        "<query xmlns='http://jabber.org/protocol/disco#items'><item jid='muc.montague.lit'/><item jid='upload.montague.lit'/></query>".to_owned(),
    );
    stage.answers.insert(
        "http://jabber.org/protocol/disco#info upload.montague.lit",
        format!(
            "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='{SLOT}'/><x xmlns='jabber:x:data' type='result'>\
             <field var='FORM_TYPE'><value>{SLOT}</value></field><field var='max-file-size'><value>500000</value></field></x></query>"
        ),
    );
    stage.answers.insert(
        "urn:xmpp:http:upload:0 upload.montague.lit",
        format!(
            "<slot xmlns='{SLOT}'><put url='https://up.montague.lit/1/cat.png'><header name='Authorization'>Basic x</header></put>\
             <get url='https://down.montague.lit/1/cat.png'/></slot>"
        ),
    );
    stage
}

pub fn image(caption: Option<&str>, size: Option<u64>) -> Value {
    let body = caption.unwrap_or("cat.png");
    let mut content = json!({
        "msgtype": "m.image", "body": body, "filename": "cat.png", "url": "mxc://h.test/cat",
        "info": { "mimetype": "image/png", "w": 2, "h": 1 },
    });
    if let Some(size) = size {
        content["info"]["size"] = json!(size);
    }
    content
}

pub fn sends(stage: &mut Stage, content: &Value) {
    let room = stage.room(JID);
    stage.matrix(&room, OWNER, "m.room.message", None, content);
}

fn failed(at: Side, permanent: bool, sentence: &str) -> TransferOutcome {
    let cause = Cause { code: "x".to_owned(), sentence: sentence.to_owned() };
    let failure = if permanent { Failure::Permanent(cause) } else { Failure::Transient { cause, retry_after: None } };
    TransferOutcome::Failed { at, failure }
}

pub fn oob(stanza: &Element) -> Option<String> {
    Some(stanza.get_child("x", OOB)?.get_child("url", OOB)?.text())
}

pub fn shares(id: &str, url: &str) -> String {
    format!(
        "<message from='juliet@capulet.lit/b' type='chat' id='{id}'><body>{url}</body><x xmlns='{OOB}'><url>{url}</url></x></message>"
    )
}

#[test]
fn a_picture_is_put_where_the_server_says_and_the_contact_gets_its_address_then_the_caption() {
    let mut stage = stage();
    sends(&mut stage, &image(Some("my cat"), Some(70)));
    let [transfer] = stage.transfers.as_slice() else { panic!("{:?}", stage.transfers) };
    let Job::Put { media, size, mime, slot } = &transfer.job else { panic!("{transfer:?}") };
    assert_eq!((media.as_str(), *size, mime.as_str()), ("mxc://h.test/cat", 70, "image/png"));
    assert_eq!((transfer.network.as_str(), transfer.domain.as_str()), ("xmpp", "montague.lit"));
    assert_eq!(slot.put, "https://up.montague.lit/1/cat.png");
    assert_eq!(slot.headers, [("Authorization".to_owned(), "Basic x".to_owned())]);
    assert_eq!(stage.texts_to(JID), ["https://down.montague.lit/1/cat.png", "my cat"]);
    let sent = &stage.messages_to(JID)[0];
    assert_eq!(oob(sent).as_deref(), Some("https://down.montague.lit/1/cat.png"));
    assert!(sent.get_child("file-sharing", "urn:xmpp:sfs:0").is_some());
    // What answers or takes back the picture means the picture, not the caption.
    let event = stage.last_event();
    let id = sent.attr("id").unwrap().to_owned();
    let read = format!(
        "<message from='juliet@capulet.lit/b' type='chat'><body>nice</body><reply xmlns='urn:xmpp:reply:0' id='{id}'/></message>"
    );
    stage.server_sends(&read);
    let heard = stage.heard(JID).pop().unwrap();
    assert_eq!(heard.content["m.relates_to"]["m.in_reply_to"]["event_id"], event.as_str());
    // The service is asked for once.
    sends(&mut stage, &image(None, Some(70)));
    let asked = stage
        .sent
        .iter()
        .filter(|stanza| stanza.get_child("query", "http://jabber.org/protocol/disco#items").is_some());
    assert_eq!((asked.count(), stage.transfers.len()), (1, 2));
}

#[test]
fn what_is_said_after_a_file_waits_for_it_and_what_was_said_before_is_not_said_twice() {
    let mut stage = stage();
    stage.managed = false;
    stage.held = true;
    let room = stage.room(JID);
    stage.says(&room, "before");
    sends(&mut stage, &image(None, Some(70)));
    stage.says(&room, "after");
    assert_eq!(stage.texts_to(JID), ["before"]);
    stage.held = false;
    // It fails, is tried again after a pause with a slot of its own, and works.
    let debt = stage.transfers[0].debt;
    stage.play(Input::Transferred { debt, outcome: failed(Side::Web, false, "its server does not answer in time") });
    assert_eq!((stage.texts_to(JID).len(), stage.transfers.len()), (1, 1), "it does not hurry");
    stage.pass(5_000);
    assert_eq!(stage.texts_to(JID), ["before", "https://down.montague.lit/1/cat.png", "after"]);
    assert_eq!(stage.transfers.len(), 2);
}

#[test]
fn a_slow_file_holds_up_its_own_chat_alone() {
    let mut stage = Stage::xmpp(&format!("{JULIET}<item jid='nurse@capulet.lit' subscription='both'/>"));
    stage.held = true;
    let (juliet, nurse) = (stage.room(JID), stage.room("nurse@capulet.lit"));
    stage.server_sends(&shares("f", "https://files.lit/cat.png"));
    stage.phone_sends("juliet@capulet.lit/b", "after it");
    stage.phone_sends("nurse@capulet.lit/b", "Madam!");
    assert!(stage.heard(JID).is_empty());
    assert_eq!(stage.bodies("nurse@capulet.lit"), ["Madam!"]);
    stage.says(&juliet, "meanwhile");
    assert_eq!(stage.texts_to(JID), ["meanwhile"]);
    stage.says(&nurse, "Yes?");
    assert_eq!(stage.texts_to("nurse@capulet.lit"), ["Yes?"]);
}

#[test]
fn a_file_that_will_not_go_is_told_and_nothing_of_it_is_sent() {
    let sentence = |stage: &Stage| stage.heard(JID).pop().unwrap().body().to_owned();
    let mut refused = stage();
    refused.transferred.push_back(failed(Side::Matrix, true, "the homeserver does not have it"));
    sends(&mut refused, &image(Some("my cat"), Some(70)));
    assert!(refused.texts_to(JID).is_empty());
    assert!(
        sentence(&refused).ends_with("Your file was not sent: the homeserver does not have it."),
        "{}",
        sentence(&refused)
    );
    let room = refused.room(JID);
    refused.says(&room, "hm");
    assert_eq!(refused.texts_to(JID), ["hm"], "the chat goes on");

    // It fails again and again: it is given up.
    let mut lasting = stage();
    lasting.transferred.extend(vec![failed(Side::Web, false, "its server does not answer in time"); 20]);
    sends(&mut lasting, &image(None, Some(70)));
    lasting.pass(600_000);
    assert_eq!(lasting.transfers.len(), 6);
    assert!(sentence(&lasting).contains("does not answer in time"), "{}", sentence(&lasting));

    // Over the server's limit, and over the operator's: before anything is carried.
    for (size, limit) in [(600_000, "your server takes at most 500 kB"), (2_000_000, "I carry at most 1.0 MB")] {
        let mut large = stage();
        sends(&mut large, &image(None, Some(size)));
        assert!(large.transfers.is_empty() && sentence(&large).contains(limit), "{}", sentence(&large));
    }

    let mut nowhere = Stage::xmpp(JULIET);
    sends(&mut nowhere, &image(None, Some(70)));
    assert!(sentence(&nowhere).contains("your server takes no files"), "{}", sentence(&nowhere));
    // It is told for each, and nobody is asked again.
    let asked = nowhere.sent.len();
    sends(&mut nowhere, &image(None, Some(70)));
    assert_eq!(nowhere.sent.len(), asked);

    let mut messenger = Stage::messenger("<item jid='a@messenger.live.com' subscription='both'/>");
    let room = messenger.room("a@messenger.live.com");
    messenger.matrix(&room, OWNER, "m.room.message", None, &image(None, Some(70)));
    let told = messenger.heard("a@messenger.live.com").pop().unwrap();
    assert!(
        told.body().contains("this network carries no files") && messenger.texts_to("a@messenger.live.com").is_empty()
    );
}

#[test]
fn the_size_that_counts_is_that_of_the_bytes() {
    // Unknown: it is found out first. Wrong: a slot of the right size is asked for.
    let mut unknown = stage();
    sends(&mut unknown, &image(None, None));
    assert!(matches!(unknown.transfers[0].job, Job::Measure { .. }));
    assert!(matches!(unknown.transfers[1].job, Job::Put { size: 17, .. }));
    let mut wrong = stage();
    wrong.transferred.push_back(TransferOutcome::Size(80));
    sends(&mut wrong, &image(None, Some(70)));
    assert!(matches!(wrong.transfers[1].job, Job::Put { size: 80, .. }));
    assert_eq!(wrong.texts_to(JID).len(), 1);
    let mut large = stage();
    large.transferred.push_back(TransferOutcome::Size(700_000));
    sends(&mut large, &image(None, Some(70)));
    assert_eq!((large.transfers.len(), large.texts_to(JID).len()), (1, 0));
    assert!(large.heard(JID)[0].body().contains("your server takes at most 500 kB"));
}

#[test]
fn a_refused_slot_says_why() {
    let mut stage = stage();
    stage
        .answers
        .insert("urn:xmpp:http:upload:0 upload.montague.lit", "<slot xmlns='urn:xmpp:http:upload:0'/>".to_owned());
    sends(&mut stage, &image(None, Some(70)));
    assert!(stage.transfers.is_empty());
    assert!(stage.heard(JID)[0].body().contains("your server does not take it"), "{}", stage.heard(JID)[0].body());
}

#[test]
fn a_contacts_picture_comes_into_the_room_with_its_size_and_its_time() {
    let mut stage = stage();
    stage.server_sends(&shares("f1", "https://files.lit/a/my%20cat.png"));
    let Job::Take { url, name, .. } = &stage.transfers[0].job else { panic!("{:?}", stage.transfers) };
    assert_eq!((url.as_str(), name.as_str()), ("https://files.lit/a/my%20cat.png", "my cat.png"));
    let heard = stage.heard(JID).pop().unwrap();
    assert_eq!(heard.sender, stage.ghost(JID).as_str());
    assert_eq!(heard.content["msgtype"], "m.image");
    assert_eq!(heard.content["info"], json!({ "mimetype": "image/png", "size": 70, "w": 2, "h": 1 }));
    assert_eq!((heard.content["url"].as_str(), heard.at), (Some("mxc://h.test/0"), None));
    // What the server kept has its own time; the same again is not shown again.
    let late = shares("f2", "https://files.lit/b.png")
        .replace("</message>", "<delay xmlns='urn:xmpp:delay' stamp='2026-03-01T00:00:00Z'/></message>");
    for _ in 0..2 {
        stage.server_sends(&late);
    }
    assert_eq!((stage.heard(JID).len(), stage.heard(JID)[1].at), (2, Some(1_772_323_200_000)));
    // A link without word that it is a file stays a text.
    stage.phone_sends("juliet@capulet.lit/b", "https://files.lit/page");
    assert_eq!((stage.bodies(JID).pop().unwrap().as_str(), stage.transfers.len()), ("https://files.lit/page", 2));
}

#[test]
fn a_file_that_cannot_be_brought_over_is_shown_in_words() {
    let mut stage = stage();
    stage.transferred.push_back(failed(Side::Web, true, "its address is a private one"));
    stage.server_sends(&shares("f1", "https://files.lit/cat.png"));
    let words = stage.bodies(JID).pop().unwrap();
    assert_eq!(
        words,
        "https://files.lit/cat.png\n[The file itself could not be brought over: its address is a private one.]"
    );
    // For a while: it is tried again, and what comes after it waits for it.
    stage.transferred.push_back(failed(Side::Web, false, "its server cannot be found"));
    stage.server_sends(&shares("f2", "https://files.lit/dog.png"));
    stage.phone_sends("juliet@capulet.lit/b", "after it");
    assert_eq!(stage.bodies(JID).len(), 1);
    stage.pass(5_000);
    assert_eq!(stage.bodies(JID)[1..], ["dog.png", "after it"]);
    // For good: after a few times.
    let before = stage.transfers.len();
    stage.transferred.extend(vec![failed(Side::Web, false, "its server cannot be found"); 20]);
    stage.server_sends(&shares("f3", "https://files.lit/cow.png"));
    stage.pass(600_000);
    assert_eq!(stage.transfers.len() - before, 6);
    assert!(stage.bodies(JID).pop().unwrap().contains("its server cannot be found"));
    // A homeserver that is away is waited for much longer.
    stage.transferred.clear();
    stage.transferred.extend(vec![failed(Side::Matrix, false, "the homeserver did not do its part"); 10]);
    stage.server_sends(&shares("f4", "https://files.lit/hen.png"));
    stage.pass(3_600_000);
    assert_eq!(stage.bodies(JID).pop().unwrap(), "hen.png");
}

#[test]
fn a_transfer_that_a_crash_cut_off_is_made_again_and_its_event_comes_once() {
    let mut stage = stage();
    stage.held = true;
    stage.server_sends(&shares("f1", "https://files.lit/cat.png"));
    sends(&mut stage, &image(None, Some(70)));
    assert_eq!(stage.transfers.len(), 2);
    stage.held = false;
    stage.crash();
    stage.pass(5_000);
    assert_eq!(stage.transfers.len(), 4);
    assert_eq!((stage.bodies(JID), stage.texts_to(JID).len()), (vec!["cat.png".to_owned()], 1));
    // One that ends twice, or whose login is gone, changes nothing.
    let debt = stage.transfers[0].debt;
    stage.play(Input::Transferred { debt, outcome: TransferOutcome::Uploaded });
    assert_eq!(stage.heard(JID).len(), 1);
}

#[test]
fn a_login_that_is_gone_takes_its_transfers_with_it() {
    let mut stage = stage();
    stage.held = true;
    stage.server_sends(&shares("f1", "https://files.lit/cat.png"));
    let debt = stage.transfers[0].debt;
    let account = stage.account;
    stage.command(&format!("logout {account}"));
    let stored = Stored {
        url: "mxc://h.test/x".to_owned(),
        mime: "image/png".to_owned(),
        size: 1,
        dimensions: None,
        preview: None,
    };
    let before = stage.calls.len();
    stage.play(Input::Transferred { debt, outcome: TransferOutcome::Stored(stored) });
    stage.pass(10_000);
    let said = stage.calls[before..].iter().filter(|call| format!("{call:?}").contains("mxc://h.test/x")).count();
    assert_eq!(said, 0);
}

#[test]
fn many_files_of_one_login_wait_for_each_other_and_all_come() {
    let roster: String = (0..10).map(|n| format!("<item jid='c{n}@capulet.lit' subscription='both'/>")).collect();
    let mut stage = Stage::xmpp(&roster);
    stage.held = true;
    for n in 0..10 {
        let message = shares(&format!("f{n}"), "https://files.lit/cat.png").replace("juliet@", &format!("c{n}@"));
        stage.server_sends(&message);
    }
    assert_eq!(stage.transfers.len(), 4);
    let mut done = 0;
    while done < stage.transfers.len() {
        let debt = stage.transfers[done].debt;
        done += 1;
        let stored = Stored {
            url: "mxc://h.test/x".to_owned(),
            mime: "image/png".to_owned(),
            size: 1,
            dimensions: None,
            preview: None,
        };
        stage.play(Input::Transferred { debt, outcome: TransferOutcome::Stored(stored) });
        assert!(stage.transfers.len() - done <= 4);
    }
    assert_eq!(done, 10);
    assert!((0..10).all(|n| stage.heard(&format!("c{n}@capulet.lit")).len() == 1));
}

#[test]
fn a_file_of_another_client_of_the_account_is_said_by_the_accounts_own_ghost() {
    let mut stage = stage();
    let carbon = format!(
        "<message from='romeo@montague.lit'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
         <message xmlns='jabber:client' from='romeo@montague.lit/phone' to='{JID}' type='chat' id='p1'><body>https://files.lit/a.png</body>\
         <x xmlns='{OOB}'><url>https://files.lit/a.png</url></x></message></forwarded></sent></message>"
    );
    stage.server_sends(&carbon);
    let heard = stage.heard(JID).pop().unwrap();
    assert_eq!(
        (heard.sender, heard.content["msgtype"].as_str()),
        (stage.ghost("romeo@montague.lit").to_string(), Some("m.image"))
    );
}

#[test]
fn an_answer_may_be_a_file_both_ways() {
    let mut stage = stage();
    let room = stage.room(JID);
    stage.says(&room, "What does it look like?");
    let (event, id) = (stage.last_event(), stage.messages_to(JID)[0].attr("id").unwrap().to_owned());
    let reply = format!("<reply xmlns='urn:xmpp:reply:0' id='{id}'/></message>");
    stage.server_sends(&shares("f1", "https://files.lit/a.png").replace("</message>", &reply));
    let heard = stage.heard(JID).pop().unwrap();
    assert_eq!(heard.content["m.relates_to"]["m.in_reply_to"]["event_id"], event.as_str());
    assert_eq!(heard.content["msgtype"], "m.image");

    let info = "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:xmpp:reply:0'/></query>";
    stage.answers.insert("http://jabber.org/protocol/disco#info juliet@capulet.lit/b", info.to_owned());
    stage.server_sends("<presence from='juliet@capulet.lit/b'><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='1'/></presence>");
    let mut content = image(None, Some(70));
    content["m.relates_to"] = json!({ "m.in_reply_to": { "event_id": stage.event_saying("a.png") } });
    sends(&mut stage, &content);
    let sent = stage.messages_to(JID).pop().unwrap();
    assert_eq!(sent.get_child("reply", "urn:xmpp:reply:0").unwrap().attr("id"), Some("f1"));
    assert_eq!(
        sent.get_child("body", "jabber:client").map(Element::text),
        oob(&sent),
        "no quotation, or it is no file"
    );
}

#[test]
fn stickers_captions_and_claims() {
    let mut stage = stage();
    // A sticker of the person goes as a picture; one of the contact comes as a sticker.
    let room = stage.room(JID);
    let sticker =
        json!({ "body": "Landing", "url": "mxc://h.test/s", "info": { "mimetype": "image/png", "size": 70 } });
    stage.matrix(&room, OWNER, "m.sticker", None, &sticker);
    assert_eq!(stage.texts_to(JID), ["https://down.montague.lit/1/cat.png"]);
    let sharing = |size: u64, extra: &str| {
        format!(
            "<message from='juliet@capulet.lit/b' type='chat' id='s{size}'><body>:-*</body><fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:sfs:0'>\
             <body/></fallback>{extra}<file-sharing xmlns='urn:xmpp:sfs:0'><file xmlns='urn:xmpp:file:metadata:0'><name>kiss.png</name>\
             <size>{size}</size></file><sources><url-data xmlns='http://jabber.org/protocol/url-data' target='https://files.lit/s.png'/>\
             </sources></file-sharing></message>"
        )
    };
    stage.server_sends(&sharing(70, "<sticker xmlns='urn:xmpp:stickers:0' pack='p'/>"));
    let shown = stage.calls.iter().rev().find_map(|call| match call {
        messenger_bridge::domain::output::MatrixCall::Send { kind, content, .. } => {
            Some((kind.clone(), content.clone()))
        }
        _ => None,
    });
    let (kind, content) = shown.unwrap();
    assert!(kind == "m.sticker" && content.contains("kiss.png") && !content.contains("msgtype"), "{kind} {content}");
    // One that is said to be too large is not even fetched.
    let before = stage.transfers.len();
    stage.server_sends(&sharing(2_000_000, ""));
    assert_eq!(stage.transfers.len(), before);
    assert!(stage.bodies(JID).pop().unwrap().contains("at most 1.0 MB"), "{:?}", stage.bodies(JID));
    // What is said to a file can be changed, the file cannot.
    sends(&mut stage, &image(Some("my cta"), Some(70)));
    let event = stage.last_event();
    let edit = |new: Value| json!({ "msgtype": "m.image", "body": "x", "m.new_content": new, "m.relates_to": { "rel_type": "m.replace", "event_id": event } });
    sends(&mut stage, &edit(image(Some("my cat"), Some(70))));
    assert_eq!(stage.texts_to(JID).pop().unwrap(), "* my cat");
    sends(&mut stage, &edit(image(None, Some(70))));
    assert!(stage.bodies(JID).pop().unwrap().contains("cannot be changed"));
    // A link with a key in it is not fetched: nobody here has what decrypts it.
    stage.phone_sends("juliet@capulet.lit/b", "aesgcm://files.lit/x.jpg#00ff");
    assert!(stage.bodies(JID).pop().unwrap().contains("XEP-0454") && stage.transfers.len() == before + 1);
}

#[test]
fn the_persons_files_wait_for_a_place_too() {
    let mut stage = stage();
    let jids: Vec<String> = (0..6).map(|n| format!("c{n}@capulet.lit")).collect();
    for jid in &jids {
        stage.phone_sends(&format!("{jid}/b"), "hi");
    }
    // Rooms of strangers are made at their pace.
    stage.pass(60_000);
    stage.held = true;
    for jid in &jids {
        let room = stage.room(jid);
        stage.matrix(&room, OWNER, "m.room.message", None, &image(None, Some(70)));
    }
    assert_eq!(stage.transfers.len(), 4);
    // Two end, badly and well: both make room.
    let (first, second) = (stage.transfers[0].debt, stage.transfers[1].debt);
    stage.play(Input::Transferred { debt: first, outcome: failed(Side::Web, true, "it is gone") });
    assert_eq!(stage.transfers.len(), 5);
    stage.play(Input::Transferred { debt: second, outcome: TransferOutcome::Uploaded });
    assert_eq!((stage.transfers.len(), stage.texts_to(&jids[0]).len(), stage.texts_to(&jids[1]).len()), (6, 0, 1));
    assert!(stage.bodies(&jids[0]).pop().unwrap().contains("Your file was not sent: it is gone."));
}
