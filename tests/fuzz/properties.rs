//! What must hold for any input at all: one function for each target. `fuzz/` runs them under libFuzzer,
//! `tests/fuzz/mod.rs` on the corpus and some new inputs with every test run.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeSet,
    fs,
    path::PathBuf,
};

use messenger_bridge::{
    app::settings,
    config::Config,
    domain::{
        Address, BareJid, Input, LoginId, Ticket, Timestamp,
        address::{GHOST_PREFIX, MAX_MXID, ghost_localpart, parse_ghost_localpart},
        effect::Outgoing,
        output::MatrixCall,
        stream::StreamReport,
    },
    matrix::{counters::Counters, transaction},
    store::{tables, verify::verify},
    translate::{
        message::{self, Message},
        stanza::{Stanza, legal, to_xml},
    },
    xmpp::guard::Guard,
};
use minidom::Element;
use ruma::UserId;

use crate::scenes::stage::{BOT, OWNER, Stage};

/// A property.
pub type Property = fn(&[u8]);

/// Every target by its name: a folder of `fuzz/corpus`, a file of `fuzz/fuzz_targets`.
pub const TARGETS: [(&str, Property); 6] = [
    ("stanza", stanza),
    ("transaction", transaction),
    ("message", message),
    ("address", address),
    ("config", config),
    ("guard", guard),
];

const JULIET: &str = "juliet@capulet.lit";
const ACCOUNT: &str = "romeo@montague.lit";
const ROSTER: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
/// Stands in inputs for the room of Juliet's portal, and for her ghost.
const PORTAL: &str = "!portal:h.test";
const GHOST: &str = "@juliet:h.test";
const MANAGEMENT: &str = "!management:h.test";

/// A signed-in engine with one contact's room, whose owner is in it; a fresh one each time, over the same store.
fn stage() -> Stage {
    thread_local! {
        static RECORDS: OnceCell<Vec<(Vec<u8>, Vec<u8>)>> = const { OnceCell::new() };
    }
    let records = RECORDS.with(|records| {
        records
            .get_or_init(|| {
                let mut stage = Stage::xmpp(ROSTER);
                stage.phone_sends(JULIET, "hist!");
                assert_eq!(stage.bodies(JULIET), ["hist!"]);
                stage.records()
            })
            .clone()
    });
    let mut stage = Stage::with(Stage::settings());
    stage.answers.insert("jabber:iq:roster", format!("<query xmlns='jabber:iq:roster'>{ROSTER}</query>"));
    stage.replace_store(&records, drop);
    stage.pass(10_000);
    stage
}

/// The next good message of each side arrives, once, and the store can be read.
fn goes_on(stage: &mut Stage) {
    const TO_MATRIX: &str = "still there, Romeo?";
    const TO_XMPP: &str = "still here, Juliet";
    let login = stage.engine.store().logins().unwrap().into_iter().find(|login| login.account.as_str() == ACCOUNT);
    if login.is_some_and(|login| login.suspended.is_none()) && stage.stream.is_some() {
        let room = stage.room(JULIET);
        stage.server_sends(&format!(
            "<message from='{JULIET}' type='chat' id='good'><body>{TO_MATRIX}</body></message>"
        ));
        let heard = stage.heard(JULIET).iter().filter(|said| said.body() == TO_MATRIX).count();
        assert_eq!(heard, 1, "a good message of the contact arrives once");
        stage.says(&room, TO_XMPP);
        stage.pass(1_000);
        let texts = stage.texts_to(JULIET);
        assert_eq!(texts.iter().filter(|text| *text == TO_XMPP).count(), 1, "and one of the owner: {}", texts.len());
    }
    for sent in &stage.sent {
        assert!(to_xml(sent).is_some(), "what is sent can be written");
    }
    for call in &stage.calls {
        if let MatrixCall::Send { user, content, .. } = call {
            let ours = user.as_str() == BOT || user.localpart().starts_with(GHOST_PREFIX);
            assert!(ours && user.server_name() == "h.test", "{user} says it");
            assert!(serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(content).is_ok());
        }
    }
    let report = verify(&stage.disk(), &tables());
    assert!(report.is_sound(), "{:?}", report.problems);
}

/// Stanzas -> engine: one or more stanzas as they stand in a stream.
pub fn stanza(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(stream) = format!("<stream xmlns='jabber:client'>{text}</stream>").parse::<Element>() else { return };
    let mut stage = stage();
    let login = stage.login();
    let inbound = |stage: &Stage| stage.engine.store().session(&login).unwrap().map(|session| session.inbound);
    let mut count = 0;
    for child in stream.children() {
        let (Some(stream), before) = (stage.stream, inbound(&stage)) else { break };
        stage.play(Input::Stream { stream, report: StreamReport::Stanza(Box::new(child.clone())) });
        let answers = inbound(&stage).unwrap_or_default().wrapping_sub(before.unwrap_or_default());
        assert!(answers >= 1, "each stanza is counted");
        count += 1;
        if count == 64 {
            break;
        }
    }
    stage.pass(60_000);
    goes_on(&mut stage);
    if data.len().is_multiple_of(8) {
        stage.crash();
        goes_on_after_a_crash(&mut stage);
    }
}

fn goes_on_after_a_crash(stage: &mut Stage) {
    let again = "and after a crash?";
    let Some(stream) = stage.stream else { return };
    let good =
        format!("<message xmlns='jabber:client' from='{JULIET}' type='chat' id='crash'><body>{again}</body></message>");
    stage.play(Input::Stream { stream, report: StreamReport::Stanza(Box::new(good.parse().unwrap())) });
    assert_eq!(stage.heard(JULIET).iter().filter(|said| said.body() == again).count(), 1);
}

/// A transaction -> engine: the body of `PUT /_matrix/app/v1/transactions/{txnId}`.
pub fn transaction(data: &[u8]) {
    let mut stage = stage();
    let ghost = stage.ghost(JULIET);
    let body = String::from_utf8_lossy(data)
        .replace(PORTAL, stage.room(JULIET).as_str())
        .replace(MANAGEMENT, crate::scenes::stage::room_for(&format!("management {OWNER}")).as_str())
        .replace(GHOST, ghost.as_str());
    let counters = Counters::default();
    let Ok(read) = transaction::parse(body.as_bytes(), &counters) else { return };
    let says = |kind: &str| matches!(kind, "m.room.message" | "m.reaction" | "m.room.redaction");
    let owners = read.events.iter().filter(|event| event.sender.as_str() == OWNER && says(&event.kind));
    let spoken = owners.count();
    let messages = |stage: &Stage| stage.sent.iter().filter(|sent| sent.name() == "message").count();
    let before = messages(&stage);
    let input = |ticket: u64| Input::Transaction {
        ticket: Ticket(1_000_000 + ticket),
        txn_id: "fuzz".to_owned(),
        events: read.events.clone(),
        ephemeral: read.ephemeral.clone(),
        overtakes: false,
    };
    stage.play(input(1));
    let states = stage.sent.iter().filter(|sent| sent.name() == "message" && !sent.has_child("body", "jabber:client"));
    let said = messages(&stage) - before - states.count();
    // A long text is sent in parts, but a transaction of the homeserver is no longer than these inputs.
    assert!(said <= spoken + data.len() / 1024, "{said} said for {spoken} events of the owner");
    let (calls, sent) = (stage.calls.len(), stage.sent.len());
    stage.play(input(2));
    assert_eq!((stage.calls.len(), stage.sent.len()), (calls, sent), "a repeated transaction changes nothing");
    let answered: BTreeSet<u64> = stage.answered.iter().map(|ticket| ticket.0).filter(|n| *n > 1_000_000).collect();
    assert_eq!(answered, [1_000_001, 1_000_002].into());
    stage.pass(60_000);
    goes_on(&mut stage);
}

/// Message content, both ways: JSON is taken for the content of an `m.room.message`, anything else for a text, for Matrix HTML
/// and for XHTML-IM.
pub fn message(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let budget = 16 + usize::from(data.first().copied().unwrap_or_default()) * 8;
    if let Ok(raw) = serde_json::value::RawValue::from_string(text.clone().into_owned()) {
        if let Ok(read) = message::from_matrix(&raw) {
            crosses(&read, budget);
        }
        return;
    }
    for emote in [false, true] {
        crosses(&Message { emote, ..Message::plain(text.clone()) }, budget);
    }
    let html = serde_json::json!({
        "msgtype": "m.text", "body": "x", "format": "org.matrix.custom.html", "formatted_body": text,
    });
    let raw = serde_json::value::to_raw_value(&html).unwrap();
    if let Ok(read) = message::from_matrix(&raw) {
        crosses(&read, budget);
    }
    let xhtml = format!(
        "<message xmlns='jabber:client'><body>x</body><html xmlns='http://jabber.org/protocol/xhtml-im'>\
         <body xmlns='http://www.w3.org/1999/xhtml'>{text}</body></html></message>"
    );
    if let Ok(stanza) = xhtml.parse() {
        let read = message::from_xmpp(&mut Stanza::read(&stanza)).expect("its body is there");
        let event: serde_json::Value = serde_json::from_str(&message::to_matrix(&read).content).unwrap();
        assert_eq!(event["body"], "x", "the body stays as it came");
        let shown = event["formatted_body"].as_str().unwrap_or_default().to_lowercase();
        for forbidden in ["<script", "<img", "<style", "<mx-reply", "javascript:", "href=\"https://matrix.to"] {
            assert!(!shown.contains(forbidden), "{forbidden} passes");
        }
    }
}

fn crosses(read: &Message, budget: usize) {
    let bodies = message::to_bodies(read, budget);
    let joined = bodies.concat();
    let plain = legal(&read.text);
    let wanted = match (read.emote, plain.starts_with("/me ")) {
        (true, _) => format!("/me {plain}"),
        (false, true) => format!("\u{2060}{plain}"),
        (false, false) => plain.clone(),
    };
    assert!(joined == wanted, "the parts are the message");
    let contact = BareJid::parse(JULIET).unwrap();
    for (number, body) in bodies.iter().enumerate() {
        let outgoing = Outgoing { body: body.clone(), event: ruma::owned_event_id!("$e"), written: Timestamp(0) };
        let xml = to_xml(&message::to_xmpp(
            &outgoing,
            &contact,
            "id",
            message::Beside { chat_state: true, receipts: true },
            None,
        ))
        .expect("it can be written");
        let mut stanza = Stanza::read(&xml.parse().expect("and read"));
        let back = message::from_xmpp(&mut stanza).expect("with its body");
        // What reads it normalises line ends (XML 1.0 section 2.11), unless they are written as references.
        let whole = if back.emote { format!("/me {}", back.text) } else { back.text.clone() };
        assert!(whole == *body, "the body crosses unchanged");
        assert!(!back.emote || read.emote && number == 0, "no part becomes an action");
        let event = message::to_matrix(&back);
        let raw = serde_json::value::RawValue::from_string(event.content).unwrap();
        // What is styled comes back in the words that the styling has in Matrix.
        let again = message::from_matrix(&raw).expect("it can be read again");
        if !matches!(back.form, message::Form::Rich(_)) {
            assert_eq!((again.text, again.emote), (back.text, back.emote), "and comes back");
        }
    }
}

/// JIDs <-> MXIDs: two lines, each taken for an address and for a ghost's localpart.
pub fn address(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let login = LoginId::derive("@a:h.test", "xmpp", "a@x");
    let mut seen: Vec<(BareJid, String)> = Vec::new();
    for line in text.lines().take(2) {
        if let Ok(address) = Address::parse(line) {
            assert_eq!(Address::parse(&address.to_text()).as_ref(), Ok(&address), "what is written is read back");
            let jid = address.bare;
            assert_eq!(BareJid::parse(jid.as_str()).as_ref(), Ok(&jid), "normalising again changes nothing");
            let localpart = ghost_localpart(&login, &jid, "h.test");
            let user = UserId::parse(format!("@{localpart}:h.test")).expect("a ghost has an MXID");
            user.validate_strict().expect("by the letter of the specification");
            assert!(user.as_str().len() <= MAX_MXID);
            match parse_ghost_localpart(&localpart) {
                Some((of, Some(contact))) => assert_eq!((of, &contact), (login.clone(), &jid)),
                Some((of, None)) => assert!(of == login && localpart.contains("==") && jid.as_str().len() > 60),
                None => panic!("a ghost is known as one"),
            }
            for (other, its) in &seen {
                assert_eq!(*other == jid, *its == localpart, "one contact, one ghost");
            }
            seen.push((jid, localpart));
        }
        if let Some((of, Some(contact))) = parse_ghost_localpart(line)
            && line.len() + 3 <= MAX_MXID
        {
            assert_eq!(ghost_localpart(&of, &contact, "h"), line, "a contact has no other ghost than its own");
        }
    }
}

/// A configuration file.
pub fn config(data: &[u8]) {
    thread_local! {
        static FILE: RefCell<Option<(tempfile::TempDir, PathBuf)>> = const { RefCell::new(None) };
    }
    FILE.with_borrow_mut(|file| {
        let (_, path) = file.get_or_insert_with(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("config.yaml");
            (folder, path)
        });
        fs::write(&*path, data).unwrap();
        match Config::load_with(path, []) {
            Ok(config) => {
                assert!(settings::homeserver(&config).is_some(), "a configuration that is taken can be used");
                assert_eq!(settings::settings(&config).networks.len(), settings::networks(&config).len());
            }
            Err(error) => assert!(error.to_string().contains("config.yaml"), "an error names the file"),
        }
    });
}

/// The guard before the XML parser: bytes as they come from a socket, however they are cut.
pub fn guard(data: &[u8]) {
    let whole = guarded(&[data]);
    let middle = data.len() / 2;
    let (first, second) = data.split_at(middle);
    assert!(guarded(&[first, second]) == whole, "where reads are cut does not matter");
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert!(guarded(&bytes) == whole, "nor that they are single bytes");
    // Each byte is let through, cut out, or replaced by one character of three bytes.
    assert!(whole.len() <= data.len() * 3 + 1024);
}

fn guarded(reads: &[&[u8]]) -> Vec<u8> {
    let mut guard = Guard::default();
    let mut out = Vec::new();
    for read in reads {
        guard.feed(read, &mut out);
    }
    out
}
