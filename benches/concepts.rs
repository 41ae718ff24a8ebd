//! Each concept both ways: from a stanza's bytes to what the homeserver is asked, and from an event's JSON to the stanza's bytes. Through
//! the real engine over a store in memory; time and allocations of one message, commit included.

#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a bench, on the scenes' stage")]

#[path = "../tests/scenes/stage.rs"]
mod stage;

use std::cell::RefCell;

use divan::{AllocProfiler, Bencher};
use messenger_bridge::domain::{
    Input, Output, StreamId, Ticket,
    input::{EphemeralEvent, RoomEvent},
    output::MatrixCall,
    stream::{StreamOrder, StreamReport},
};
use ruma::{OwnedRoomId, UserId};
use serde_json::{Value, json};

use self::stage::{OWNER, Stage};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const CONTACT: &str = "juliet@capulet.lit";

/// What comes from a contact.
const STANZAS: [(&str, &str); 12] = [
    ("text", "<body>Art thou not Romeo, and a Montague?</body>"),
    ("formatted", "<body>*bold* and _italic_, `code`\n> and a quotation</body>"),
    (
        "reply",
        "<body>&gt; before\nYes</body><reply xmlns='urn:xmpp:reply:0' to='romeo@montague.lit' id='known'/><fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='0' end='9'/></fallback>",
    ),
    ("edit", "<body>corrected</body><replace xmlns='urn:xmpp:message-correct:0' id='known'/>"),
    (
        "retraction",
        "<body>(deleted)</body><retract xmlns='urn:xmpp:message-retract:1' id='known'/><fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:message-retract:1'/>",
    ),
    ("reaction", "<reactions xmlns='urn:xmpp:reactions:0' id='known'><reaction>👋</reaction></reactions>"),
    (
        "file",
        "<body>https://upload.capulet.lit/a/picture.png</body><x xmlns='jabber:x:oob'><url>https://upload.capulet.lit/a/picture.png</url></x>",
    ),
    ("typing", "<composing xmlns='http://jabber.org/protocol/chatstates'/>"),
    (
        "receipt asked",
        "<body>seen?</body><request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/>",
    ),
    ("nudge", "<attention xmlns='urn:xmpp:attention:0'/>"),
    ("delayed", "<body>earlier</body><delay xmlns='urn:xmpp:delay' from='montague.lit' stamp='2026-03-20T10:00:00Z'/>"),
    ("long text", LONG),
];

const LONG: &str = concat!(
    "<body>",
    "Two households, both alike in dignity, In fair Verona, where we lay our scene, From ancient grudge break to new mutiny, Where civil blood makes civil hands unclean. ",
    "Two households, both alike in dignity, In fair Verona, where we lay our scene, From ancient grudge break to new mutiny, Where civil blood makes civil hands unclean. ",
    "Two households, both alike in dignity, In fair Verona, where we lay our scene, From ancient grudge break to new mutiny, Where civil blood makes civil hands unclean. ",
    "</body>"
);

/// What the person says: (name, content).
fn events() -> Vec<(&'static str, &'static str, Value)> {
    let text = |extra: Value| {
        let mut content = json!({ "msgtype": "m.text", "body": "Neither, fair saint, if either thee dislike." });
        for (key, value) in extra.as_object().into_iter().flatten() {
            content[key] = value.clone();
        }
        content
    };
    vec![
        ("text", "m.room.message", text(json!({}))),
        (
            "formatted",
            "m.room.message",
            text(json!({
                "format": "org.matrix.custom.html",
                "formatted_body": "<p><strong>Neither</strong>, <em>fair saint</em></p><blockquote>if either</blockquote><pre><code>thee</code></pre>",
            })),
        ),
        ("emote", "m.room.message", json!({ "msgtype": "m.emote", "body": "climbs over the wall" })),
        ("reply", "m.room.message", text(json!({ "m.relates_to": { "m.in_reply_to": { "event_id": "$known" } } }))),
        (
            "location",
            "m.room.message",
            json!({ "msgtype": "m.location", "body": "Verona", "geo_uri": "geo:45.4384,10.9916" }),
        ),
    ]
}

/// The stage, with one contact who is on line and whose app knows everything.
fn stage() -> Stage {
    let mut stage = Stage::xmpp(&format!("<item jid='{CONTACT}' name='Juliet' subscription='both'/>"));
    stage.server_sends(&format!("<presence from='{CONTACT}/balcony'/>"));
    stage.pass(60_000);
    stage.server_sends(&format!(
        "<message from='{CONTACT}/balcony' type='chat' id='known'><body>before</body></message>"
    ));
    stage
}

/// What was asked is answered, so that nothing piles up.
fn pay(stage: &mut Stage, outputs: Vec<Output>) {
    for output in outputs {
        stage.give(output);
    }
}

fn names() -> Vec<&'static str> {
    STANZAS.iter().map(|(name, _)| *name).collect()
}

#[divan::bench(args = names(), sample_size = 1, sample_count = 2000)]
fn to_matrix(bencher: Bencher<'_, '_>, name: &str) {
    let inner = STANZAS.iter().find(|(known, _)| *known == name).expect("a name of the table").1;
    let stage = RefCell::new(stage());
    let stream: StreamId = stage.borrow().stream.expect("it is on line");
    let done = RefCell::new(Vec::<Output>::new());
    let mut count = 0u64;
    bencher
        .with_inputs(|| {
            let outputs = std::mem::take(&mut *done.borrow_mut());
            pay(&mut stage.borrow_mut(), outputs);
            count += 1;
            format!("<message xmlns='jabber:client' from='{CONTACT}/balcony' to='romeo@montague.lit/x' type='chat' id='n{count}'>{inner}</message>")
        })
        .bench_local_values(|bytes: String| {
            let mut stage = stage.borrow_mut();
            let now = stage.now;
            let stanza = bytes.parse().expect("a stanza");
            stage.engine.handle(now, Input::Stream { stream, report: StreamReport::Stanza(Box::new(stanza)) }).expect("the store");
            let outputs = stage.engine.commit().expect("the store");
            let bytes: usize = outputs.iter().map(written).sum();
            done.borrow_mut().extend(outputs);
            bytes
        });
}

#[divan::bench(args = events().iter().map(|(name, ..)| *name).collect::<Vec<_>>(), sample_size = 1, sample_count = 2000)]
fn to_xmpp(bencher: Bencher<'_, '_>, name: &str) {
    let (_, kind, content) = events().into_iter().find(|(known, ..)| *known == name).expect("a name of the table");
    let content = content.to_string();
    let stage = RefCell::new(stage());
    let room: OwnedRoomId = stage.borrow().room(CONTACT);
    let sender = UserId::parse(OWNER).expect("an MXID");
    let done = RefCell::new(Vec::<Output>::new());
    let mut count = 0u64;
    bencher
        .with_inputs(|| {
            let outputs = std::mem::take(&mut *done.borrow_mut());
            pay(&mut stage.borrow_mut(), outputs);
            count += 1;
            (count, content.clone())
        })
        .bench_local_values(|(count, content): (u64, String)| {
            let mut stage = stage.borrow_mut();
            let now = stage.now;
            let event = RoomEvent {
                room: room.clone(),
                id: ruma::EventId::parse(format!("$n{count}")).expect("an event id"),
                sender: sender.clone(),
                kind: kind.to_owned(),
                state_key: None,
                at: now.wall,
                content: serde_json::value::RawValue::from_string(content).expect("JSON"),
                redacts: None,
            };
            let input = Input::Transaction {
                ticket: Ticket(1_000_000 + count),
                txn_id: format!("n{count}"),
                events: vec![event],
                ephemeral: Vec::<EphemeralEvent>::new(),
                overtakes: false,
            };
            stage.engine.handle(now, input).expect("the store");
            let outputs = stage.engine.commit().expect("the store");
            let bytes: usize = outputs.iter().map(written).sum();
            done.borrow_mut().extend(outputs);
            bytes
        });
}

/// The bytes that would go out.
fn written(output: &Output) -> usize {
    match output {
        Output::Stream { order: StreamOrder::Send(stanzas), .. } => {
            stanzas.iter().map(|stanza| String::from(stanza).len()).sum()
        }
        Output::Matrix(work) => match &work.call {
            MatrixCall::Send { content, .. } | MatrixCall::SetState { content, .. } => content.len(),
            _ => 0,
        },
        _ => 0,
    }
}
