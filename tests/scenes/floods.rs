//! More of everything than anyone sends in good faith. Each flood must leave the next message of a contact its way, and
//! what it leaves behind must be bounded.

use std::time::{Duration, Instant};

use messenger_bridge::domain::{
    Input,
    output::{Ephemeral, MatrixCall},
    stream::StreamReport,
};
use serde_json::json;

use super::stage::Stage;

const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
/// A second's worth of a flood.
const FLOOD: usize = 10_000;
/// What it may take here, on a slow machine and unoptimised; a quadratic cost would take minutes.
const BOUND: Duration = Duration::from_mins(1);

fn rooms(stage: &Stage) -> usize {
    stage.calls.iter().filter(|call| matches!(call, MatrixCall::CreateRoom(_))).count()
}

fn still_hears(stage: &mut Stage) {
    stage.phone_sends("juliet@capulet.lit/b", "still there?");
    assert_eq!(stage.bodies("juliet@capulet.lit").last().map(String::as_str), Some("still there?"));
}

#[test]
fn ten_thousand_roster_pushes_in_a_second_make_rooms_at_their_pace() {
    let mut stage = Stage::xmpp(JULIET);
    let (before, began) = (rooms(&stage), Instant::now());
    for number in 0..FLOOD {
        stage.server_sends(&format!(
            "<iq type='set' id='p{number}'><query xmlns='jabber:iq:roster'><item jid='c{number}@capulet.lit' subscription='both'/></query></iq>"
        ));
    }
    stage.pass(1_000);
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    assert!(rooms(&stage) - before <= 4, "{} rooms", rooms(&stage) - before);
    assert!(stage.engine.debts() < 20, "{} debts", stage.engine.debts());
    assert_eq!(stage.engine.store().contacts(&stage.login()).unwrap().len(), FLOOD + 1);
    still_hears(&mut stage);
    stage.pass(10_000);
    assert_eq!(rooms(&stage) - before, 1 + 22, "one in 500 ms, and none forgotten");
}

#[test]
fn ten_thousand_presences_in_a_second_leave_one_state_and_no_debt() {
    let mut stage = Stage::xmpp(JULIET);
    let began = Instant::now();
    for number in 0..FLOOD {
        let resource = number % 500;
        let stanza = match number % 4 {
            0 => format!("<presence from='juliet@capulet.lit/r{resource}'><status>{number}</status></presence>"),
            1 => format!("<presence from='juliet@capulet.lit/r{resource}' type='unavailable'/>"),
            2 => format!(
                "<presence from='juliet@capulet.lit/r{resource}'><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='{number}'/></presence>"
            ),
            _ => format!("<presence from='x{number}@evil.lit/r'><status>{number}</status></presence>"),
        };
        stage.server_sends(&stanza);
    }
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    let login = stage.login();
    let present = stage.engine.store().present(&login).unwrap();
    assert_eq!(present.len(), 1, "strangers are not kept");
    assert!(present[0].1.list.len() <= 16, "{} clients of one contact", present[0].1.list.len());
    assert_eq!(stage.engine.debts(), 0);
    // What is worth doing only now is never stored: the presence budget takes the last of each ghost.
    let owed = stage.ephemerals.iter().filter(|ephemeral| matches!(ephemeral, Ephemeral::Presence { .. })).count();
    assert!(owed <= FLOOD);
    still_hears(&mut stage);
}

#[test]
fn a_photo_that_changes_all_the_time_is_fetched_now_and_then() {
    let mut stage = Stage::xmpp(JULIET);
    let fetched = |stage: &Stage| {
        stage.sent.iter().filter(|iq| iq.children().next().is_some_and(|child| child.name() == "vCard")).count()
    };
    let before = fetched(&stage);
    for number in 0..FLOOD {
        stage.server_sends(&format!(
            "<presence from='juliet@capulet.lit/b'><x xmlns='vcard-temp:x:update'><photo>{number:040x}</photo></x></presence>"
        ));
    }
    assert!(fetched(&stage) - before <= 1, "{} in a moment", fetched(&stage) - before);
    stage.pass(60_000);
    let later = fetched(&stage) - before;
    assert!((1..=2).contains(&later), "the last one is fetched: {later}");
    still_hears(&mut stage);
}

#[test]
fn clients_that_a_contact_makes_up_do_not_fill_the_store() {
    use base64::Engine as _;
    use sha1::Digest as _;
    let mut stage = Stage::with(Stage::settings());
    stage.sign_in(JULIET);
    for number in 0..2_500 {
        let feature = format!("urn:made-up:{number}");
        let ver = base64::engine::general_purpose::STANDARD.encode(sha1::Sha1::digest(format!("{feature}<")));
        stage.answers.insert(
            "http://jabber.org/protocol/disco#info juliet@capulet.lit/b",
            format!("<query xmlns='http://jabber.org/protocol/disco#info'><feature var='{feature}'/></query>"),
        );
        stage.server_sends(&format!(
            "<presence from='juliet@capulet.lit/b'><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='{ver}'/></presence>"
        ));
        if number == 0 {
            let known = stage.engine.store().caps_chat_states(&format!("n#{ver}")).unwrap();
            assert_eq!(known, Some(false), "they are remembered as they come");
        }
    }
    let known = (0..2_500).filter(|number| {
        let ver =
            base64::engine::general_purpose::STANDARD.encode(sha1::Sha1::digest(format!("urn:made-up:{number}<")));
        stage.engine.store().caps_chat_states(&format!("n#{ver}")).unwrap().is_some()
    });
    assert!((1..=2_000).contains(&known.count()));
    still_hears(&mut stage);
}

#[test]
fn a_flood_of_new_senders_waits_in_the_store_within_bounds() {
    let mut stage = Stage::xmpp(JULIET);
    let (before, began) = (rooms(&stage), Instant::now());
    for number in 0..FLOOD + 2_000 {
        stage.phone_sends(&format!("spam{number}@evil.lit/x"), "cheap swords");
    }
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    assert_eq!(rooms(&stage) - before, 1);
    assert_eq!(stage.engine.store().newcomers(&stage.login()).unwrap().len(), 10_000);
    assert_eq!(stage.ignored("message of a newcomer beyond the bound"), 1_999);
    let told = stage.bot_said().iter().filter(|said| said.contains("More is written")).count();
    assert_eq!(told, 1, "and the owner knows");
    assert_eq!(stage.engine.debts(), 0);
    still_hears(&mut stage);
    stage.pass(5_000);
    assert_eq!(rooms(&stage) - before, 11, "one in 500 ms");
}

#[test]
fn a_newcomers_long_messages_are_bounded_together() {
    let mut stage = Stage::xmpp(JULIET);
    stage.phone_sends("first@evil.lit", "takes the turn");
    let long = super::stage::xml(&format!("<message type='chat'><body>{}</body></message>", "x".repeat(1_000_000)));
    for number in 0..20 {
        let mut stanza = long.clone();
        let from = minidom::rxml::NcName::try_from("from").unwrap();
        stanza.set_attr(minidom::rxml::Namespace::NONE, from, format!("spam{}@evil.lit/x", number % 4));
        let report = StreamReport::Stanza(Box::new(stanza));
        stage.play(Input::Stream { stream: stage.stream.unwrap(), report });
    }
    let kept = stage.engine.store().newcomers(&stage.login()).unwrap();
    let bytes: usize = kept.iter().map(|newcomer| newcomer.bytes).sum();
    assert!(bytes <= 16 * 1024 * 1024 && bytes > 15 * 1024 * 1024, "{bytes}");
}

/// While a login catches up its messages are held, in order; that is bounded in bytes too.
#[test]
fn long_messages_while_a_login_catches_up_are_held_within_bounds_and_none_is_lost() {
    let mut stage = Stage::with(Stage::settings());
    stage.sign_in(JULIET);
    stage.silent = vec!["urn:xmpp:ping"];
    stage.cut(false);
    let long = super::stage::xml(&format!(
        "<message from='juliet@capulet.lit' type='chat'><body>{}</body></message>",
        "x".repeat(1_000_000)
    ));
    for _ in 0..20 {
        let report = StreamReport::Stanza(Box::new(long.clone()));
        stage.play(Input::Stream { stream: stage.stream.unwrap(), report });
    }
    let (held, bytes) = stage.engine.store().held_size(&stage.login()).unwrap();
    assert!(bytes < 18 * 1024 * 1024 && held == 17, "{held} of {bytes} bytes");
    let shown = stage.bodies("juliet@capulet.lit").len();
    assert_eq!(held + shown, 20, "what is not held goes its way");
}

#[test]
fn a_flood_of_subscription_requests_is_asked_about_a_hundred_times() {
    let mut stage = Stage::xmpp(JULIET);
    let before = stage.said().len();
    for number in 0..1_000 {
        stage.server_sends(&format!(
            "<presence from='s{number}@evil.lit' type='subscribe'><status>let me</status></presence>"
        ));
    }
    assert_eq!(stage.said().len() - before, 100);
    assert_eq!(stage.ignored("subscription request beyond the bound"), 900);
    // The server keeps the rest, and sends it again when the account comes back.
    stage.command("deny s7@evil.lit");
    stage.server_sends("<presence from='s500@evil.lit' type='subscribe'/>");
    assert!(stage.last_word().contains("s500@evil.lit"));
    still_hears(&mut stage);
}

#[test]
fn chat_states_of_a_flood_set_one_timer() {
    let mut stage = Stage::xmpp(JULIET);
    let began = Instant::now();
    for number in 0..FLOOD {
        let types = if number % 2 == 0 { "composing" } else { "paused" };
        stage.server_sends(&format!("<message from='juliet@capulet.lit/r{number}' type='chat'><{types} xmlns='http://jabber.org/protocol/chatstates'/></message>"));
        stage.server_sends(&format!("<message from='x{number}@evil.lit/r' type='chat'><{types} xmlns='http://jabber.org/protocol/chatstates'/></message>"));
    }
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    assert_eq!(stage.engine.debts(), 0);
    assert_eq!(stage.engine.store().contacts(&stage.login()).unwrap().len(), 1, "strangers leave nothing behind");
    still_hears(&mut stage);
}

/// The recursion of what is nested is the parser's: none of ours follows it.
#[test]
fn json_that_is_nested_without_end_is_a_message_that_cannot_be_read() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room("juliet@capulet.lit");
    let depth = 200_000;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let inner = if open == "[" { String::new() } else { "1".to_owned() };
        let nested = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
        for content in [
            format!("{{\"msgtype\":\"m.text\",\"body\":\"x\",\"m.relates_to\":{nested}}}"),
            format!("{{\"msgtype\":{nested},\"body\":\"x\"}}"),
            format!("{{\"channel\":{nested}}}"),
        ] {
            let content = serde_json::value::RawValue::from_string(content);
            // The homeserver's transaction is read the same way: what is too deep even for that is never seen here.
            let Ok(content) = content else { continue };
            for (kind, key) in
                [("m.room.message", None), ("m.bridge", Some("x")), ("m.room.member", Some("@romeo:h.test"))]
            {
                stage.raw_event(&room, super::stage::OWNER, kind, key, content.clone());
                stage.raw_event(&room, super::stage::BOT, kind, key, content.clone());
            }
        }
    }
    stage.matrix(&room, super::stage::OWNER, "m.room.message", None, &json!({ "msgtype": "m.text", "body": "after" }));
    assert_eq!(stage.texts_to("juliet@capulet.lit").last().map(String::as_str), Some("after"));
}

/// `formatted_body` is not read at all: only the plain text crosses.
#[test]
fn html_that_is_nested_without_end_is_not_parsed() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room("juliet@capulet.lit");
    let html = format!("{}x{}", "<blockquote>".repeat(100_000), "</blockquote>".repeat(100_000));
    stage.matrix(
        &room,
        super::stage::OWNER,
        "m.room.message",
        None,
        &json!({ "msgtype": "m.text", "body": "plain", "format": "org.matrix.custom.html", "formatted_body": html }),
    );
    assert_eq!(stage.texts_to("juliet@capulet.lit"), ["plain"]);
    assert_eq!(stage.messages_to("juliet@capulet.lit")[0].children().filter(|child| child.name() == "html").count(), 0);
}
