//! Long work shows itself, in one message edited in place, and can be cancelled.

use messenger_bridge::{
    domain::output::{MatrixCall, RoomKind},
    store::portal::History,
};
use serde_json::Value;

use super::stage::{OWNER, Stage, room_for};

const MAM: &str = "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:xmpp:mam:2'/></query>";

fn roster(count: u32) -> String {
    (0..count).map(|n| format!("<item jid='c{n}@capulet.lit' name='C {n}' subscription='both'/>")).collect()
}

/// The person signs in to an account with so many contacts; no time passes.
fn signs_in(stage: &mut Stage, contacts: u32) {
    let items = roster(contacts);
    stage.answers.insert("jabber:iq:roster", format!("<query xmlns='jabber:iq:roster'>{items}</query>"));
    if stage.bot_said().is_empty() {
        stage.management(OWNER);
    }
    let account = stage.account;
    stage.command(&format!("login xmpp {account} secret"));
}

fn rooms(stage: &Stage) -> usize {
    let direct = |call: &&MatrixCall| matches!(call, MatrixCall::CreateRoom(room) if room.kind == RoomKind::Direct);
    stage.calls.iter().filter(direct).count()
}

/// What the bot says of this, in order: when (milliseconds), what, and which event it edits.
fn told(stage: &Stage, about: &str) -> Vec<(i64, String, Option<String>)> {
    let room = room_for(&format!("management {OWNER}"));
    let all = stage.calls.iter().zip(&stage.called).filter_map(|(call, at)| match call {
        MatrixCall::Send { room: where_, content, kind, .. } if *where_ == room && kind == "m.room.message" => {
            let content: Value = serde_json::from_str(content).unwrap();
            let text = content["m.new_content"]["body"].as_str().or(content["body"].as_str()).unwrap().to_owned();
            Some((at.0, text, content["m.relates_to"]["event_id"].as_str().map(str::to_owned)))
        }
        _ => None,
    });
    all.filter(|(_, text, _)| text.contains(about) && !text.starts_with("Signed in")).collect()
}

/// One message, and edits of it.
fn assert_one_message(told: &[(i64, String, Option<String>)]) {
    assert!(told.len() > 1, "{told:?}");
    assert_eq!(told[0].2, None, "the first one is a message of its own");
    let first = told[1].2.clone();
    assert!(first.is_some() && told[1..].iter().all(|(_, _, edits)| *edits == first), "{told:?}");
}

#[test]
fn the_import_of_contacts_tells_counts_a_rate_and_what_is_left_and_edits_no_more_often_than_it_may() {
    let mut stage = Stage::with(Stage::settings());
    signs_in(&mut stage, 60);
    stage.pass(60_000);
    assert_eq!(rooms(&stage), 60);
    let told = told(&stage, "contacts");
    assert_one_message(&told);
    assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 5_000), "{told:?}");
    assert!(told.len() <= 8, "{told:?}");
    let middle = &told[1].1;
    assert!(middle.contains(" of 60 rooms made, about 2 per second, 25 seconds left. `cancel` stops it."), "{middle}");
    assert_eq!(told.last().unwrap().1, "romeo@montague.lit: all 60 contacts are here.");
}

#[test]
fn two_accounts_of_a_person_take_turns_in_telling() {
    let mut stage = Stage::with(Stage::settings());
    signs_in(&mut stage, 40);
    stage.account = "tybalt@capulet.lit";
    signs_in(&mut stage, 40);
    stage.pass(60_000);
    let all = told(&stage, "ontacts");
    assert!(all.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 5_000), "{all:?}");
    for account in ["romeo@montague.lit", "tybalt@capulet.lit"] {
        assert_one_message(
            &told(&stage, account).into_iter().filter(|told| told.1.contains("ontacts")).collect::<Vec<_>>(),
        );
        assert!(all.iter().any(|(_, text, _)| *text == format!("{account}: all 40 contacts are here.")), "{all:?}");
    }
}

#[test]
fn after_a_restart_the_same_message_goes_on_being_edited() {
    let mut stage = Stage::with(Stage::settings());
    signs_in(&mut stage, 40);
    stage.pass(8_000);
    let before = rooms(&stage);
    assert!((10..30).contains(&before), "{before}");
    stage.crash();
    stage.pass(40_000);
    assert_eq!(rooms(&stage), 40);
    let told = told(&stage, "contacts");
    assert_one_message(&told);
    let counted = told.iter().filter(|(_, text, _)| text.contains(" of 40 rooms made")).count();
    assert!(counted >= 3, "the count goes on: {told:?}");
    assert_eq!(told.last().unwrap().1, "romeo@montague.lit: all 40 contacts are here.");
}

#[test]
fn cancel_stops_making_rooms_which_come_with_the_first_message_by_start_chat_or_by_sync() {
    let mut stage = Stage::with(Stage::settings());
    signs_in(&mut stage, 40);
    stage.pass(6_000);
    stage.command("cancel");
    let made = rooms(&stage);
    assert!((10..20).contains(&made), "{made}");
    assert_eq!(stage.last_word(), "I make no more rooms for the contacts of romeo@montague.lit.");
    stage.pass(10_000);
    let last = told(&stage, "contacts").pop().unwrap();
    let expected = format!("Cancelled: {made} of the contacts of romeo@montague.lit are here. The others come with");
    assert!(last.1.starts_with(&expected) && last.2.is_some(), "{last:?}");
    stage.command("cancel");
    assert_eq!(stage.last_word(), "There is nothing to cancel.");

    // It holds after a reconnect and a restart.
    stage.cut(false);
    stage.crash();
    stage.pass(60_000);
    assert_eq!(rooms(&stage), made);

    stage.phone_sends("c39@capulet.lit", "hi");
    assert_eq!((rooms(&stage), stage.bodies("c39@capulet.lit")), (made + 1, vec!["hi".to_owned()]));
    stage.command("start-chat c38@capulet.lit");
    assert_eq!(rooms(&stage), made + 2);
    // A contact that is new gets a room as ever.
    stage.server_sends(
        "<iq type='set' id='p' from='romeo@montague.lit'><query xmlns='jabber:iq:roster'><item jid='new@capulet.lit' subscription='both'/></query></iq>",
    );
    stage.pass(5_000);
    assert_eq!(rooms(&stage), made + 3);

    stage.command("sync");
    stage.pass(60_000);
    assert_eq!(rooms(&stage), 41);
    let last = told(&stage, "contacts").pop().unwrap();
    let expected = format!("romeo@montague.lit: all {} contacts are here.", 41 - made - 3);
    assert_eq!(last.1, expected);
}

#[test]
fn cancel_in_the_middle_of_a_sign_in_ends_that_first() {
    let mut stage = Stage::with(Stage::settings());
    signs_in(&mut stage, 40);
    stage.command("login xmpp mercutio@montague.lit");
    stage.command("cancel");
    assert_eq!(stage.last_word(), "Cancelled.");
    stage.command("cancel");
    assert_eq!(stage.last_word(), "I make no more rooms for the contacts of romeo@montague.lit.");
}

#[test]
fn rooms_that_the_homeserver_refuses_are_told_once_with_its_sentence() {
    let mut stage = Stage::with(Stage::settings());
    stage.refuses = Some(|call| match call {
        MatrixCall::CreateRoom(room) => {
            room.kind == RoomKind::Direct && room.invite.iter().any(|user| user.as_str().contains("_c2"))
        }
        _ => false,
    });
    signs_in(&mut stage, 6);
    stage.pass(20_000);
    let said = stage.bot_said();
    assert!(!said.iter().any(|text| text.contains("held up")), "{said:?}");
    let last = told(&stage, "contacts").pop().unwrap().1;
    assert_eq!(
        last,
        "romeo@montague.lit: 5 of 6 contacts are here; no room could be made for c2@capulet.lit: the homeserver says \
         \u{201c}You may not.\u{201d}. I try these again from time to time."
    );
}

/// Messages of the archive with each of the contacts.
fn archive(stage: &mut Stage, contacts: u32) {
    stage.answers.insert("http://jabber.org/protocol/disco#info romeo@montague.lit", MAM.to_owned());
    stage.archive = (0..contacts)
        .map(|n| {
            let message = format!(
                "<message from='c{n}@capulet.lit/b' to='romeo@montague.lit' type='chat' id='m{n}'><body>said {n}</body></message>"
            );
            (format!("id{n}"), "2026-01-01T00:00:00Z".to_owned(), message)
        })
        .collect();
}

#[test]
fn an_ordinary_short_history_and_absence_say_nothing() {
    let mut stage = Stage::with(Stage::settings());
    archive(&mut stage, 10);
    signs_in(&mut stage, 10);
    stage.pass(20_000);
    stage.cut(false);
    stage.pass(20_000);
    let said = stage.bot_said();
    assert!(!said.iter().any(|text| text.contains("istory") || text.contains("missed")), "{said:?}");
}

/// Twelve contacts get their rooms, and the server takes its time over the archive.
fn slow_archive() -> Stage {
    let mut settings = Stage::settings();
    settings.room_pause = 100;
    let mut stage = Stage::with(settings);
    stage.answers.insert("http://jabber.org/protocol/disco#info romeo@montague.lit", MAM.to_owned());
    signs_in(&mut stage, 12);
    archive(&mut stage, 12);
    stage.silent = vec!["urn:xmpp:mam:2"];
    stage
}

#[test]
fn history_that_takes_long_is_told_and_cancel_stops_what_is_not_asked_for_yet() {
    let mut stage = slow_archive();
    stage.pass(20_000);
    assert_eq!(rooms(&stage), 12);
    let told_so_far = told(&stage, "history");
    assert!(
        told_so_far.last().unwrap().1.contains(" 0 of 11 chats") && told_so_far.last().unwrap().1.contains("`cancel`")
    );
    stage.command("cancel");
    assert_eq!(stage.last_word(), "I fetch no more history of romeo@montague.lit for rooms that have none yet.");
    let login = stage.login();
    let wanted = |stage: &Stage| {
        let portals = stage.engine.store().portals(&login).unwrap();
        portals.into_iter().filter(|(_, portal)| portal.history == History::Wanted).count()
    };
    assert_eq!(wanted(&stage), 4, "what was begun goes on");
    // What is said now comes at once where nothing is fetched, and waits where it is.
    stage.phone_sends("c9@capulet.lit", "now");
    stage.phone_sends("c1@capulet.lit", "after the history");
    assert_eq!(stage.bodies("c9@capulet.lit"), ["now"]);
    assert!(stage.bodies("c1@capulet.lit").is_empty());
    stage.pass(120_000);
    assert_eq!(wanted(&stage), 0);
    assert_eq!(stage.bodies("c1@capulet.lit"), ["after the history"]);
    let all = told(&stage, "");
    let all: Vec<_> = all
        .into_iter()
        .filter(|(_, text, _)| text.contains("istory") || text.starts_with("Cancelled"))
        .filter(|(_, text, _)| !text.starts_with("I fetch"))
        .collect();
    assert_one_message(&all);
    assert!(all.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 5_000), "{all:?}");
    assert!(all.last().unwrap().1.starts_with("Cancelled: "), "{all:?}");
    // What was missed is fetched all the same at the next connection, also where history was cancelled.
    stage.silent.clear();
    stage.cut(false);
    stage.pass(5_000);
    assert_eq!(stage.bodies("c9@capulet.lit"), ["now", "said 9"]);
}

#[test]
fn what_was_missed_is_told_when_it_takes_long_and_cannot_be_cancelled() {
    let mut stage = Stage::with(Stage::settings());
    archive(&mut stage, 0);
    signs_in(&mut stage, 1);
    stage.pass(5_000);
    archive(&mut stage, 1);
    stage.silent = vec!["urn:xmpp:mam:2"];
    stage.cut(false);
    stage.pass(12_000);
    let told_so_far = told(&stage, "Fetching what romeo@montague.lit has missed: 0 messages so far");
    assert!(!told_so_far.is_empty());
    stage.command("cancel");
    assert!(stage.last_word().contains("is fetched all the same"), "{}", stage.last_word());
    // The process ends in the middle of it; the next one goes on in the same message.
    stage.silent.clear();
    stage.stream = None;
    stage.crash();
    stage.pass(30_000);
    assert_eq!(stage.bodies("c0@capulet.lit"), ["said 0"]);
    let last = told(&stage, "romeo@montague.lit: 1 message that was missed is here.").pop().unwrap();
    assert!(
        last.2.is_some()
            && last.2 == told(&stage, "has missed").last().and_then(|edit| edit.2.clone()).or(last.2.clone())
    );
}

#[test]
fn the_message_of_history_ends_after_a_restart_too() {
    let mut stage = slow_archive();
    stage.pass(10_000);
    assert!(!told(&stage, "Fetching the history").is_empty());
    stage.silent.clear();
    stage.crash();
    stage.pass(30_000);
    let told = told(&stage, "istory");
    assert_one_message(&told);
    assert!(
        told.last().unwrap().1.starts_with("romeo@montague.lit: the history of 11 chats is here, 11 messages."),
        "{told:?}"
    );
    for n in 1..12 {
        assert_eq!(stage.bodies(&format!("c{n}@capulet.lit")), [format!("said {n}")]);
    }
}
