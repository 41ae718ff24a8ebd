//! Transactions that overtake each other: the room as the homeserver has it decides the order.

use messenger_bridge::domain::{
    Input, Ticket, Timestamp,
    input::{Cause, Failure, RoomEvent, RoomPage},
    output::{MatrixCall, RoomKind},
};
use ruma::{EventId, UserId};
use serde_json::json;

use super::stage::{OWNER, Stage, room_for};

const JULIET: &str = "<item jid='juliet@capulet.lit' subscription='both'/>";
/// After so long a transaction is believed.
const BELIEVED: u64 = 120_000;

fn said(stage: &Stage, number: u32) -> RoomEvent {
    RoomEvent {
        room: stage.room("juliet@capulet.lit"),
        id: EventId::parse(format!("$said{number}")).unwrap(),
        sender: UserId::parse(OWNER).unwrap(),
        kind: "m.room.message".to_owned(),
        state_key: None,
        at: stage.now.wall,
        content: serde_json::value::to_raw_value(&json!({ "msgtype": "m.text", "body": number.to_string() })).unwrap(),
        redacts: None,
    }
}

fn page(events: Vec<RoomEvent>, earlier: Option<&str>) -> RoomPage {
    RoomPage { events, earlier: earlier.map(str::to_owned) }
}

fn push(stage: &mut Stage, txn: u64, event: RoomEvent) {
    let transaction = Input::Transaction {
        ticket: Ticket(txn),
        txn_id: txn.to_string(),
        events: vec![event],
        ephemeral: Vec::new(),
        overtakes: false,
    };
    stage.play(transaction);
}

fn sent(stage: &Stage) -> Vec<String> {
    stage.texts_to("juliet@capulet.lit")
}

/// Signed in, and long enough ago that transactions are believed; the last had this number.
fn believing(number: u64) -> Stage {
    let mut stage = Stage::xmpp(JULIET);
    stage.pass(BELIEVED);
    let event = said(&stage, 0);
    push(&mut stage, number, event);
    stage.read.clear();
    stage
}

#[test]
fn after_a_start_the_room_decides_the_order() {
    let mut stage = Stage::xmpp(JULIET);
    let (first, second) = (said(&stage, 1), said(&stage, 2));
    stage.pages.push_back(Ok(page(vec![first.clone(), second.clone()], None)));
    push(&mut stage, 42, second);
    assert_eq!(sent(&stage), ["1", "2"]);
    push(&mut stage, 41, first);
    assert_eq!(sent(&stage), ["1", "2"], "its own transaction brings nothing new");
    assert_eq!(stage.answered.last(), Some(&Ticket(41)));
}

#[test]
fn a_transaction_that_is_believed_is_taken_as_it_comes() {
    let mut stage = believing(7);
    let event = said(&stage, 8);
    push(&mut stage, 8, event);
    assert!(stage.read.is_empty());
    assert_eq!(sent(&stage), ["0", "8"]);
}

#[test]
fn a_transaction_that_brings_nothing_new_is_answered_without_a_write() {
    let mut stage = believing(7);
    let known = said(&stage, 0);
    let own =
        RoomEvent { id: ruma::owned_event_id!("$echo"), sender: stage.ghost("juliet@capulet.lit"), ..said(&stage, 1) };
    let commits = stage.disk().commits();
    for (number, event) in [(8, known), (9, own)] {
        push(&mut stage, number, event);
        assert_eq!(stage.answered.last(), Some(&Ticket(number)));
    }
    assert_eq!(stage.disk().commits(), commits);
    let new = said(&stage, 2);
    push(&mut stage, 10, new);
    assert!(stage.disk().commits() > commits);
}

#[test]
fn a_gap_in_the_numbers_is_looked_into() {
    let mut stage = believing(7);
    let (eighth, ninth) = (said(&stage, 8), said(&stage, 9));
    stage.pages.push_back(Ok(page(vec![said(&stage, 0), eighth.clone(), ninth.clone()], Some("more"))));
    push(&mut stage, 9, ninth);
    assert_eq!(stage.read, [stage.room("juliet@capulet.lit")], "a page with something known in it is enough");
    assert_eq!(sent(&stage), ["0", "8", "9"]);
    push(&mut stage, 8, eighth);
    assert_eq!(sent(&stage), ["0", "8", "9"]);
}

#[test]
fn gaps_that_mean_nothing_are_soon_no_longer_looked_into() {
    let mut stage = believing(7);
    for number in 1..20 {
        let event = said(&stage, number);
        push(&mut stage, 7 + u64::from(number) * 10, event);
    }
    stage.pass(60_000);
    assert!(stage.read.len() < 12, "{} times", stage.read.len());
    assert_eq!(sent(&stage).len(), 20);
}

#[test]
fn gaps_of_a_homeserver_that_counts_for_others_too_are_soon_no_longer_looked_into_after_a_start_either() {
    let mut stage = Stage::xmpp(JULIET);
    for number in 1..50 {
        let transaction = Input::Transaction {
            ticket: Ticket(number),
            txn_id: (number * 2).to_string(),
            events: Vec::new(),
            ephemeral: Vec::new(),
            overtakes: false,
        };
        stage.play(transaction);
        stage.pass(1_000);
    }
    assert!(stage.read.len() < 12, "{} times", stage.read.len());
    // The one that is due when the doubt ends is not left out.
    let event = said(&stage, 1);
    stage.pages.push_back(Ok(page(vec![event], None)));
    stage.pass(BELIEVED);
    assert_eq!(sent(&stage), ["1"]);
}

#[test]
fn earlier_pages_are_read_until_something_known() {
    let mut stage = Stage::xmpp(JULIET);
    stage.pages.push_back(Ok(page(vec![said(&stage, 1)], None)));
    let first = said(&stage, 1);
    push(&mut stage, 1, first);
    for events in [[5, 6], [3, 4], [1, 2]] {
        let events = events.map(|number| said(&stage, number)).to_vec();
        stage.pages.push_back(Ok(page(events, Some("earlier"))));
    }
    let sixth = said(&stage, 6);
    push(&mut stage, 2, sixth);
    assert_eq!(sent(&stage), ["1", "2", "3", "4", "5", "6"]);
}

#[test]
fn a_transaction_whose_room_cannot_be_read_now_is_refused_and_taken_when_it_comes_again() {
    let mut stage = Stage::xmpp(JULIET);
    let cause = || Cause { code: "connection".to_owned(), sentence: "It broke.".to_owned() };
    stage.pages.push_back(Err(Failure::Transient { cause: cause(), retry_after: None }));
    let event = said(&stage, 1);
    push(&mut stage, 1, event.clone());
    assert_eq!((stage.refused.as_slice(), sent(&stage).len()), ([Ticket(1)].as_slice(), 0));
    push(&mut stage, 1, event);
    assert_eq!(sent(&stage), ["1"]);
    stage.pages.push_back(Err(Failure::Permanent(cause())));
    let event = said(&stage, 2);
    push(&mut stage, 2, event);
    assert_eq!(sent(&stage), ["1", "2"], "a room that may not be read is taken as it comes");
}

#[test]
fn what_was_kept_back_is_found_some_time_after_a_start() {
    let mut stage = Stage::xmpp(JULIET);
    stage.crash();
    let event = said(&stage, 1);
    stage.pages.push_back(Ok(page(vec![event], None)));
    stage.pass(BELIEVED);
    assert_eq!(sent(&stage), ["1"]);
}

#[test]
fn a_room_that_could_not_be_read_after_a_start_is_read_again() {
    let mut stage = Stage::xmpp(JULIET);
    stage.crash();
    let cause = Cause { code: "connection".to_owned(), sentence: "It broke.".to_owned() };
    stage.pages.push_back(Err(Failure::Transient { cause, retry_after: None }));
    let event = said(&stage, 1);
    stage.pages.push_back(Ok(page(vec![event], None)));
    stage.pass(BELIEVED);
    assert_eq!(sent(&stage), ["1"]);
}

#[test]
fn what_is_said_in_a_new_room_before_it_is_known_is_found_there() {
    let mut settings = Stage::settings();
    settings.rooms_for_contacts = false;
    let mut stage = Stage::with(settings);
    stage.sign_in(JULIET);
    let made = |call: &MatrixCall| match call {
        MatrixCall::CreateRoom(room) if room.kind == RoomKind::Direct => room.invite.last().cloned(),
        _ => None,
    };
    stage.unanswered = Some(|call| matches!(call, MatrixCall::CreateRoom(_)));
    stage.phone_sends("juliet@capulet.lit/b", "are you there?");
    let room = room_for(stage.calls.iter().find_map(made).unwrap().as_str());
    stage.matrix(&room, OWNER, "m.room.message", None, &json!({ "msgtype": "m.text", "body": "1" }));
    assert_eq!(sent(&stage), Vec::<String>::new());
    let event = stage.people.last().unwrap().clone();
    stage.unanswered = None;
    stage.crash();
    stage.pages.push_back(Ok(page(vec![event], None)));
    stage.pass(BELIEVED);
    assert_eq!(sent(&stage), ["1"]);
}

#[test]
fn what_was_said_before_the_store_began_is_not_sent() {
    let mut stage = Stage::xmpp(JULIET);
    let mut old = said(&stage, 1);
    old.at = Timestamp(super::stage::TODAY - 1);
    stage.pages.push_back(Ok(page(vec![old, said(&stage, 2)], None)));
    let second = said(&stage, 2);
    push(&mut stage, 1, second);
    assert_eq!(sent(&stage), ["2"]);
}

#[test]
fn what_a_homeserver_had_in_hand_when_it_ended_is_found_when_it_is_back() {
    let mut stage = believing(7);
    stage.away = 3;
    stage.phone_sends("juliet@capulet.lit/b", "are you there?");
    let event = said(&stage, 8);
    stage.pages.push_back(Ok(page(vec![event], None)));
    stage.pass(BELIEVED);
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["are you there?"]);
    assert_eq!(sent(&stage), ["0", "8"]);
}
