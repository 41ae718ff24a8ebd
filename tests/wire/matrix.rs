//! What we ask of a homeserver, against one in this process.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use messenger_bridge::{
    domain::{
        DebtId, Input, Timestamp,
        credentials::Secret,
        input::{Failure, Outcome, Receipt},
        output::{CreateRoom, Ephemeral, MatrixCall, MatrixWork, RoomKind, WorkId},
    },
    matrix::{
        client::Client,
        counters::{Count, Counters},
        presence_task::PresenceKeeper,
        record::Record,
        sender::{self, MatrixSender},
        typing::{Now, TYPING_AT_ONCE},
    },
};
use ruma::{OwnedRoomId, OwnedUserId, presence::PresenceState};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::matrix_homeserver::Homeserver;

/// A room of version 12: its id has no server name.
const ROOM: &str = "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM";

fn room() -> OwnedRoomId {
    ROOM.try_into().unwrap()
}

fn user(name: &str) -> OwnedUserId {
    format!("@{name}:h").try_into().unwrap()
}

fn send() -> MatrixCall {
    MatrixCall::Send {
        room: room(),
        user: user("messenger_abcdefghij_a=40b"),
        kind: "m.room.message".to_owned(),
        txn: "d17".to_owned(),
        content: r#"{"body":"hi","msgtype":"m.text","org.example":{"debt":17}}"#.to_owned(),
        at: Some(Timestamp(1_700_000_000_123)),
        look_first: None,
    }
}

fn register() -> MatrixCall {
    MatrixCall::Register { localpart: "messenger_x".to_owned() }
}

/// Runs a call while answering each request with the next of `answers`; gives the outcome and the requests' lines.
async fn run(call: MatrixCall, answers: &[(u16, &str)]) -> (Outcome, Vec<String>) {
    let mut homeserver = Homeserver::start().await;
    let sender = homeserver.sender();
    let running = tokio::spawn(async move { sender.run(&call).await });
    for (status, body) in answers {
        homeserver.next().await.answer(*status, body);
    }
    let outcome = running.await.unwrap();
    assert!(homeserver.is_quiet());
    let lines = homeserver.lines.lock().unwrap().clone();
    (outcome, lines)
}

fn transient(outcome: Outcome) -> (String, String, Option<u64>) {
    match outcome {
        Outcome::Failed(Failure::Transient { cause, retry_after }) => (cause.code, cause.sentence, retry_after),
        other => panic!("{other:?}"),
    }
}

fn permanent(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(Failure::Permanent(cause)) => cause.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_goes_out_as_the_ghost_at_its_own_time() {
    let mut homeserver = Homeserver::start().await;
    let sender = homeserver.sender();
    let running = tokio::spawn(async move { sender.run(&send()).await });
    let asked = homeserver.next().await;
    assert_eq!(asked.line(), format!("PUT client/v3/rooms/{ROOM}/send/m.room.message/d17"));
    assert_eq!(asked.query("ts"), Some("1700000000123"));
    assert_eq!(asked.query("user_id"), Some("@messenger_abcdefghij_a=40b:h"));
    assert_eq!(asked.token, "Bearer as-token");
    assert_eq!(asked.body, br#"{"body":"hi","msgtype":"m.text","org.example":{"debt":17}}"#);
    asked.answer(200, r#"{"event_id":"$sent"}"#);
    assert_eq!(running.await.unwrap(), Outcome::Done(Receipt::Event("$sent".try_into().unwrap())));
}

#[tokio::test]
async fn registration_asks_for_no_login_and_a_known_name_is_success() {
    let mut homeserver = Homeserver::start().await;
    let sender = homeserver.sender();
    let running = tokio::spawn(async move { sender.run(&register()).await });
    let asked = homeserver.next().await;
    assert_eq!(asked.line(), "POST client/v3/register");
    assert_eq!(
        asked.json(),
        json!({"username": "messenger_x", "type": "m.login.application_service", "inhibit_login": true})
    );
    asked.answer(400, r#"{"errcode":"M_USER_IN_USE","error":"User ID already taken."}"#);
    assert_eq!(running.await.unwrap(), Outcome::Done(Receipt::Nothing));
    let (outcome, _) = run(register(), &[(400, r#"{"errcode":"M_EXCLUSIVE","error":"no"}"#)]).await;
    assert_eq!(permanent(outcome), "M_EXCLUSIVE");
}

#[tokio::test]
async fn an_avatar_is_uploaded_with_its_type() {
    let mut homeserver = Homeserver::start().await;
    let sender = homeserver.sender();
    let call = |length| MatrixCall::Upload { user: user("g"), mime: "image/png", bytes: vec![7; length] };
    let (small, large) = (call(3), call(sender::UPLOAD_LIMIT + 1));
    let running = tokio::spawn(async move { (sender.run(&small).await, sender.run(&large).await) });
    let asked = homeserver.next().await;
    assert_eq!((asked.line().as_str(), asked.content_type.as_str()), ("POST media/v3/upload", "image/png"));
    assert_eq!(asked.body, [7; 3]);
    asked.answer(200, r#"{"content_uri":"mxc://h/x"}"#);
    let (small, large) = running.await.unwrap();
    assert_eq!(small, Outcome::Done(Receipt::Media("mxc://h/x".to_owned())));
    permanent(large);
}

#[tokio::test]
async fn a_limit_pauses_its_kind_of_call_and_no_other() {
    let mut homeserver = Homeserver::start().await;
    let sender = homeserver.sender();
    let first = {
        let sender = Arc::clone(&sender);
        tokio::spawn(async move { sender.run(&send()).await })
    };
    let limited = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Too many","retry_after_ms":300}"#;
    homeserver.next().await.answer(429, limited);
    let (code, _, retry_after) = transient(first.await.unwrap());
    assert_eq!((code.as_str(), retry_after), ("M_LIMIT_EXCEEDED", Some(300)));
    let paused = Instant::now();
    let second = {
        let sender = Arc::clone(&sender);
        tokio::spawn(async move { sender.run(&send()).await })
    };
    let other = tokio::spawn(async move { sender.run(&register()).await });
    let asked = homeserver.next().await;
    assert_eq!(asked.line(), "POST client/v3/register");
    asked.answer(200, r#"{"user_id":"@messenger_x:h"}"#);
    assert_eq!(other.await.unwrap(), Outcome::Done(Receipt::Nothing));
    let asked = homeserver.next().await;
    assert!(paused.elapsed() >= Duration::from_millis(250), "{:?}", paused.elapsed());
    asked.answer(200, r#"{"event_id":"$sent"}"#);
    assert!(matches!(second.await.unwrap(), Outcome::Done(Receipt::Event(_))));
}

#[tokio::test]
async fn what_is_no_matrix_answer_is_tried_again_and_never_shown() {
    for (status, body) in [(502, "<html>secret</html>"), (500, ""), (404, "<html>secret"), (200, "secret"), (200, "")] {
        let (code, sentence, _) = transient(run(send(), &[(status, body)]).await.0);
        assert!(!sentence.contains("secret") && !sentence.is_empty(), "{sentence}");
        assert_eq!(code, if status == 200 { "bad-answer".to_owned() } else { format!("http-{status}") });
    }
    let (code, ..) = transient(run(send(), &[(401, r#"{"errcode":"M_UNKNOWN_TOKEN","error":"x"}"#)]).await.0);
    assert_eq!(code, "M_UNKNOWN_TOKEN");
    let (outcome, _) = run(send(), &[(403, r#"{"errcode":"M_FORBIDDEN","error":"not in room"}"#)]).await;
    assert_eq!(permanent(outcome), "M_FORBIDDEN");
    let (outcome, _) = run(send(), &[(200, &"x".repeat(11 << 20))]).await;
    assert_eq!(permanent(outcome), "too-large");
}

#[tokio::test]
async fn a_homeserver_that_is_not_there_is_tried_again() {
    let gone = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::new(&format!("http://{gone}"), Secret::new("as-token")).unwrap();
    let counters = Arc::new(Counters::default());
    let presence = PresenceKeeper::new(20, Arc::clone(&counters));
    let sender = MatrixSender::new(client, Arc::clone(&counters), presence, 1);
    let (code, sentence, _) = transient(sender.run(&send()).await);
    assert_eq!(code, "connection");
    assert!(!sentence.contains("as-token") && !sentence.contains("d17"), "{sentence}");
    assert_eq!(counters.get(Count::CallTransient), 1);
}

#[tokio::test]
async fn membership_calls_that_change_nothing_are_success_and_real_refusals_are_not() {
    const NO: (u16, &str) = (403, r#"{"errcode":"M_FORBIDDEN","error":"@x:h is already in the room."}"#);
    let is = |membership: &'static str| (200, membership);
    let (joined, invited, left) =
        (is(r#"{"membership":"join"}"#), is(r#"{"membership":"invite"}"#), is(r#"{"membership":"leave"}"#));
    let invite = || MatrixCall::Invite { room: room(), user: user("bot"), target: user("owner") };
    let join = || MatrixCall::Join { room: room(), user: user("g") };
    let leave = || MatrixCall::Leave { room: room(), user: user("g") };
    for (call, answers) in [
        (invite(), vec![(200, r#"{"event_id":"$invited"}"#)]),
        (invite(), vec![NO, joined]),
        (invite(), vec![NO, invited]),
        (join(), vec![NO, joined]),
        (leave(), vec![(200, "{}")]),
        (leave(), vec![NO, left]),
        (leave(), vec![NO, NO]),
        (leave(), vec![(404, r#"{"errcode":"M_NOT_FOUND"}"#), NO]),
    ] {
        let (outcome, lines) = run(call, &answers).await;
        assert_eq!(outcome, Outcome::Done(Receipt::Nothing), "{lines:?}");
    }
    for (call, answers) in [
        (invite(), vec![NO, left]),
        (invite(), vec![NO, NO]),
        (join(), vec![NO, NO]),
        (join(), vec![NO, invited]),
        (leave(), vec![NO, joined]),
    ] {
        let (outcome, lines) = run(call, &answers).await;
        assert_eq!(permanent(outcome), "M_FORBIDDEN", "{lines:?}");
    }
    let (_, lines) = run(invite(), &[NO, joined]).await;
    let path = format!("client/v3/rooms/{ROOM}/state/m.room.member/@owner:h");
    assert_eq!(lines, [format!("PUT {path}"), format!("GET {path}")]);
}

const BRIDGE: &str = r#"{"channel":{"id":"a@b"},"bridgebot":"@bot:h"}"#;

fn create(look_first: bool) -> MatrixCall {
    let kind = "m.bridge".to_owned();
    MatrixCall::CreateRoom(Box::new(CreateRoom {
        kind: RoomKind::Direct,
        creator: user("bot"),
        invite: vec![user("owner"), user("ghost")],
        name: "A".to_owned(),
        state: vec![(kind.clone(), "k/1".to_owned(), BRIDGE.to_owned())],
        power_levels: r#"{"users":{"@ghost:h":50}}"#.to_owned(),
        look_first: look_first.then(|| (kind, "k/1".to_owned())),
    }))
}

/// Rooms are numbered; `!room2` is what the lost call made, `!room5` the same content by somebody else.
fn rooms(path: &str) -> (u16, String) {
    let state = |sender: &str, content: &str| {
        (200, format!(r#"{{"type":"m.bridge","sender":"{sender}","content":{content}}}"#))
    };
    match path.split('/').nth(5) {
        Some("!room2:h") => state("@bot:h", r#"{"bridgebot":"@bot:h","channel":{"id":"a@b"}}"#),
        Some("!room5:h") => state("@eve:h", BRIDGE),
        Some("!room7:h") => state("@bot:h", r#"{"channel":{"id":"c@d"}}"#),
        Some("!room8:h") => (403, r#"{"errcode":"M_FORBIDDEN"}"#.to_owned()),
        _ => (404, r#"{"errcode":"M_NOT_FOUND"}"#.to_owned()),
    }
}

fn joined(numbers: &[u8]) -> (u16, String) {
    let ids: Vec<String> = numbers.iter().map(|n| format!("!room{n}:h")).collect();
    (200, json!({ "joined_rooms": ids }).to_string())
}

#[tokio::test]
async fn a_room_is_made_as_asked() {
    let mut homeserver = Homeserver::start().await;
    let sender = homeserver.sender();
    let running = tokio::spawn(async move { sender.run(&create(false)).await });
    let asked = homeserver.next().await;
    assert_eq!((asked.line().as_str(), asked.query("user_id")), ("POST client/v3/createRoom", Some("@bot:h")));
    let bridge: Value = serde_json::from_str(BRIDGE).unwrap();
    assert_eq!(
        asked.json(),
        json!({
            "invite": ["@owner:h", "@ghost:h"], "is_direct": true, "name": "A", "preset": "private_chat",
            "initial_state": [{"type": "m.bridge", "state_key": "k/1", "content": bridge}],
            "power_level_content_override": {"users": {"@ghost:h": 50}},
        })
    );
    asked.answer(200, &json!({ "room_id": ROOM }).to_string());
    assert_eq!(running.await.unwrap(), Outcome::Done(Receipt::Room(room())));
}

#[tokio::test]
async fn a_room_whose_making_was_answered_by_nobody_is_found_again() {
    // The homeserver makes the room, but a proxy answers.
    let (outcome, _) = run(create(false), &[(504, "<html>Gateway Timeout</html>")]).await;
    transient(outcome);
    let homeserver = Homeserver::start().await;
    let sender = homeserver.sender();
    let lines = homeserver.serve(|asked| match asked.path.as_str() {
        "/_matrix/client/v3/joined_rooms" => joined(&[0, 1, 5, 7, 8, 9, 2, 3, 4]),
        path => rooms(path),
    });
    assert_eq!(sender.run(&create(true)).await, Outcome::Done(Receipt::Room("!room2:h".try_into().unwrap())));
    let lines = lines.lock().unwrap().clone();
    assert!(
        lines[1].starts_with("GET client/v3/rooms/!room") && lines[1].ends_with("/state/m.bridge/k%2F1"),
        "{lines:?}"
    );
    assert!(!lines.iter().any(|line| line.contains("createRoom")));
}

#[tokio::test]
async fn a_room_is_made_anew_only_where_it_is_known_that_there_is_none() {
    let homeserver = Homeserver::start().await;
    let sender = homeserver.sender();
    homeserver.serve(|asked| match asked.path.as_str() {
        "/_matrix/client/v3/joined_rooms" => joined(&[0, 5, 7, 8]),
        "/_matrix/client/v3/createRoom" => (200, r#"{"room_id":"!new:h"}"#.to_owned()),
        path => rooms(path),
    });
    assert_eq!(sender.run(&create(true)).await, Outcome::Done(Receipt::Room("!new:h".try_into().unwrap())));

    let homeserver = Homeserver::start().await;
    let sender = homeserver.sender();
    let lines = homeserver.serve(|asked| match asked.path.as_str() {
        "/_matrix/client/v3/joined_rooms" => joined(&[0, 6]),
        path if path.contains("!room6") => (502, "<html>".to_owned()),
        path => rooms(path),
    });
    transient(sender.run(&create(true)).await);
    assert!(!lines.lock().unwrap().iter().any(|line| line.contains("createRoom")));
}

#[tokio::test]
async fn an_event_whose_answer_was_lost_is_looked_for_before_it_is_sent_again() {
    let looking = || {
        let MatrixCall::Send { room, user, kind, txn, content, at, .. } = send() else { unreachable!() };
        MatrixCall::Send { room, user, kind, txn, content, at, look_first: Some("d17".to_owned()) }
    };
    let event = |id: &str, sender: &str, mark: &str| json!({"event_id": id, "sender": sender, "type": "m.room.message", "content": {messenger_bridge::translate::bridge_info::DEBT: mark}});
    let messages = |events: &[serde_json::Value]| json!({"start": "s", "chunk": events}).to_string();
    let ghost = "@messenger_abcdefghij_a=40b:h";
    let there = messages(&[json!(7), event("$n", ghost, "d18"), event("$s", "@s:h", "d17"), event("$e", ghost, "d17")]);
    let (outcome, lines) = run(looking(), &[(200, &there)]).await;
    assert_eq!(outcome, Outcome::Done(Receipt::Event("$e".try_into().unwrap())));
    assert_eq!(lines.len(), 1, "it is not sent again: {lines:?}");
    assert!(lines[0].starts_with("GET client/v3/rooms/") && lines[0].ends_with("/messages"), "{lines:?}");

    let absent = messages(&[event("$s", "@s:h", "d17"), event("$n", ghost, "d16")]);
    for (status, answer) in [(200, absent.as_str()), (403, r#"{"errcode":"M_FORBIDDEN"}"#)] {
        let (outcome, lines) = run(looking(), &[(status, answer), (200, r#"{"event_id":"$x"}"#)]).await;
        assert_eq!(outcome, Outcome::Done(Receipt::Event("$x".try_into().unwrap())));
        assert!(lines[1].starts_with("PUT client/v3/rooms/"), "{lines:?}");
    }
    let (outcome, lines) = run(looking(), &[(502, "<html>")]).await;
    assert!(matches!(outcome, Outcome::Failed(Failure::Transient { .. })), "{outcome:?}");
    assert_eq!(lines.len(), 1, "who does not know does not send: {lines:?}");
}

#[tokio::test]
async fn the_pump_reports_every_outcome_and_ends_with_its_channel() {
    let homeserver = Homeserver::start().await;
    let sender = homeserver.sender();
    homeserver.serve(|asked| {
        let status = if asked.path.contains("bad") { 403 } else { 200 };
        (status, r#"{"event_id":"$x","errcode":"M_FORBIDDEN"}"#.to_owned())
    });
    let (give, work) = mpsc::channel(8);
    let (mailbox, mut engine) = mpsc::channel(8);
    let pump = tokio::spawn(sender::pump(sender, work, mailbox));
    let mut done = BTreeSet::new();
    for n in 0..100 {
        let MatrixCall::Send { room, user, kind, content, at, .. } = send() else { unreachable!() };
        let txn = if n % 2 == 0 { format!("d{n}") } else { format!("bad{n}") };
        let call = MatrixCall::Send { room, user, kind, txn, content, at, look_first: None };
        let id = WorkId::Debt(DebtId(n));
        let permit = loop {
            tokio::select! {
                permit = give.reserve() => break permit.unwrap(),
                Some(input) = engine.recv() => note(&mut done, &input),
            }
        };
        permit.send(MatrixWork { id, call });
    }
    drop(give);
    while let Some(input) = engine.recv().await {
        note(&mut done, &input);
    }
    pump.await.unwrap();
    assert_eq!(done.len(), 100);
}

fn note(done: &mut BTreeSet<u64>, input: &Input) {
    let Input::Done { work: WorkId::Debt(DebtId(n)), outcome } = input else { panic!("{input:?}") };
    assert_eq!(matches!(outcome, Outcome::Done(_)), n % 2 == 0, "{n} {outcome:?}");
    assert!(done.insert(*n), "reported twice: {n}");
}

#[tokio::test]
async fn the_pump_ends_when_the_engine_is_gone() {
    let homeserver = Homeserver::start().await;
    let sender = homeserver.sender();
    homeserver.serve(|_| (200, r#"{"event_id":"$x"}"#.to_owned()));
    let (give, work) = mpsc::channel(8);
    let (mailbox, engine) = mpsc::channel(8);
    drop(engine);
    let pump = tokio::spawn(sender::pump(sender, work, mailbox));
    give.send(MatrixWork { id: WorkId::Soft(1), call: send() }).await.unwrap();
    pump.await.unwrap();
    assert!(give.is_closed());
}

fn typing(user_name: &str, timeout: Option<u64>) -> Ephemeral {
    Ephemeral::Typing { room: room(), user: user(user_name), timeout }
}

#[tokio::test]
async fn typing_ends_after_it_began_and_too_much_of_it_is_dropped() {
    let mut homeserver = Homeserver::start().await;
    let counters = Arc::new(Counters::default());
    let now = Now::new(homeserver.client(), Arc::clone(&counters), PresenceKeeper::new(20, Arc::clone(&counters)));
    now.perform(typing("g", Some(30_000)));
    let first = homeserver.next().await;
    assert_eq!(first.line(), format!("PUT client/v3/rooms/{ROOM}/typing/@g:h"));
    assert_eq!(first.json(), json!({"typing": true, "timeout": 30_000}));
    now.perform(typing("g", Some(20_000)));
    now.perform(typing("g", None));
    assert!(homeserver.is_quiet());
    first.answer(200, "{}");
    let second = homeserver.next().await;
    assert_eq!(second.json(), json!({"typing": false}));
    // With `g` in flight, there is room for all but one of the others.
    for n in 0..TYPING_AT_ONCE {
        now.perform(typing(&format!("g{n}"), None));
    }
    assert_eq!(counters.get(Count::TypingDropped), 1);
    second.answer(500, "");
    for _ in 1..TYPING_AT_ONCE {
        homeserver.next().await.answer(200, "{}");
    }
    assert_eq!(counters.get(Count::TypingFailed), 1);
}

#[tokio::test]
async fn presence_goes_out_with_its_status_and_a_limit_is_obeyed() {
    let mut homeserver = Homeserver::start().await;
    let counters = Arc::new(Counters::default());
    let keeper = PresenceKeeper::new(100, Arc::clone(&counters));
    let task = tokio::spawn(Arc::clone(&keeper).run(homeserver.client()));
    let now = Now::new(homeserver.client(), Arc::clone(&counters), Arc::clone(&keeper));
    let presence = |state, status: &str| Ephemeral::Presence {
        ghost: user("g"),
        owner: user("owner"),
        state,
        status: Some(status.to_owned()),
    };
    now.perform(presence(PresenceState::Unavailable, "at lunch"));
    now.perform(Ephemeral::Watching { owner: user("owner"), watching: true });
    keeper.homeserver(true, false);
    let asked = homeserver.next().await;
    assert_eq!((asked.line().as_str(), asked.query("user_id")), ("PUT client/v3/presence/@g:h/status", Some("@g:h")));
    assert_eq!(asked.json(), json!({"presence": "unavailable", "status_msg": "at lunch"}));
    asked.answer(200, "{}");
    // Its message makes the homeserver show it as online, so away is said again.
    let sender = MatrixSender::new(homeserver.client(), Arc::clone(&counters), Arc::clone(&keeper), 1);
    let MatrixCall::Send { room, kind, txn, content, at, .. } = send() else { unreachable!() };
    let call = MatrixCall::Send { room, kind, txn, content, at, user: user("g"), look_first: None };
    let sending = tokio::spawn(async move { sender.run(&call).await });
    homeserver.next().await.answer(200, r#"{"event_id":"$x"}"#);
    sending.await.unwrap();
    let again = homeserver.next().await;
    assert_eq!(again.json(), json!({"presence": "unavailable", "status_msg": "at lunch"}));
    again.answer(429, r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":400}"#);
    let limited = Instant::now();
    now.perform(presence(PresenceState::Online, "back"));
    let last = homeserver.next().await;
    assert!(limited.elapsed() >= Duration::from_millis(350), "{:?}", limited.elapsed());
    assert_eq!(last.json(), json!({"presence": "online", "status_msg": "back"}));
    assert_eq!(counters.get(Count::PresenceFailed), 1);
    task.abort();
}

#[tokio::test]
async fn a_room_is_read_backwards_page_by_page_as_the_bot() {
    let mut homeserver = Homeserver::start().await;
    let record = Record::new(homeserver.client(), user("bot"));
    let reading = tokio::spawn({
        let record = record.clone();
        async move { record.read(&room(), None).await }
    });
    let asked = homeserver.next().await;
    assert_eq!(asked.line(), format!("GET client/v3/rooms/{ROOM}/messages"));
    assert_eq!(["dir", "user_id", "from"].map(|key| asked.query(key)), [Some("b"), Some("@bot:h"), None]);
    let event = |id: &str, content: &str| {
        format!(
            r#"{{"type":"m.room.message","event_id":"{id}","room_id":"{ROOM}","sender":"@owner:h","origin_server_ts":5,"content":{content}}}"#
        )
    };
    let (newer, broken, older) = (event("$b", r#"{"body":"b"}"#), event("$x", "7"), event("$a", r#"{"body":"a"}"#));
    asked.answer(200, &format!(r#"{{"start":"s9","end":"s5","chunk":[{newer},{broken},{older}]}}"#));
    let page = reading.await.unwrap().unwrap();
    let ids: Vec<_> = page.events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!((ids, page.earlier.as_deref()), (vec!["$a", "$b"], Some("s5")));

    let reading = tokio::spawn(async move { record.read(&room(), page.earlier).await });
    let asked = homeserver.next().await;
    assert_eq!(asked.query("from"), Some("s5"));
    asked.answer(403, r#"{"errcode":"M_FORBIDDEN","error":"not in the room"}"#);
    assert!(matches!(reading.await.unwrap(), Err(Failure::Permanent(_))));
}

/// No answer is unpacked: what says that it is packed is no Matrix answer, and a redirect is not followed with our token.
#[tokio::test]
async fn packed_answers_are_not_unpacked_and_redirects_not_followed() {
    let mut homeserver = Homeserver::start().await;
    let mut trap = Homeserver::start().await;
    let client = homeserver.client();
    let asking = tokio::spawn(async move { client.whoami().await });
    let asked = homeserver.next().await;
    assert_eq!(asked.accept_encoding, "", "we ask for no encoding");
    asked.answer_with(200, &[("content-encoding", "gzip")], "\u{1f}packed");
    assert!(asking.await.unwrap().unwrap_err().is_transient());
    let client = homeserver.client();
    let asking = tokio::spawn(async move { client.whoami().await });
    let place = format!("{}/elsewhere", trap.url);
    homeserver.next().await.answer_with(307, &[("location", &place)], "");
    assert!(asking.await.unwrap().is_err());
    assert!(trap.is_quiet());
}
