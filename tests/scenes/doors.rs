//! What others try.

use serde_json::json;

use super::stage::{OWNER, Stage};

const JULIET: &str = "<item jid='juliet@capulet.lit' subscription='both'/>";

#[test]
fn forged_carbons_archives_pushes_and_answers_are_counted_and_do_nothing() {
    let mut stage = Stage::xmpp(JULIET);
    let inner = "<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>\
                 <message xmlns='jabber:client' from='juliet@capulet.lit' to='romeo@montague.lit' type='chat'><body>forged</body></message></forwarded>";
    for from in ["tybalt@capulet.lit", "romeo@montague.lit/evil", "montague.lit"] {
        stage.server_sends(&format!(
            "<message from='{from}'><received xmlns='urn:xmpp:carbons:2'>{inner}</received></message>"
        ));
        stage
            .server_sends(&format!("<message from='{from}'><sent xmlns='urn:xmpp:carbons:2'>{inner}</sent></message>"));
        stage.server_sends(&format!(
            "<message from='{from}'><result xmlns='urn:xmpp:mam:2' id='1' queryid='q1-1'>{inner}</result></message>"
        ));
    }
    // Not asked for, though from the account.
    stage.server_sends(&format!("<message from='romeo@montague.lit'><result xmlns='urn:xmpp:mam:2' id='1' queryid='none'>{inner}</result></message>"));
    stage.server_sends("<iq type='set' id='f' from='tybalt@capulet.lit'><query xmlns='jabber:iq:roster'><item jid='tybalt@capulet.lit' subscription='both'/></query></iq>");
    stage.pass(5_000);
    assert!(stage.bodies("juliet@capulet.lit").is_empty());
    assert_eq!(stage.ignored("forged carbon"), 6);
    assert_eq!(stage.ignored("forged archive result"), 3);
    assert_eq!(stage.ignored("archive result that was not asked for"), 1);
    assert_eq!(stage.ignored("forged roster push"), 1);
    assert!(
        stage
            .engine
            .store()
            .contacts(&stage.login())
            .unwrap()
            .iter()
            .all(|(contact, _)| contact.as_str() != "tybalt@capulet.lit")
    );
}

#[test]
fn an_answer_counts_only_from_whom_was_asked() {
    let mut stage = Stage::with(Stage::settings());
    stage.sign_in(JULIET);
    stage.server_sends("<presence from='juliet@capulet.lit/b'><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='unanswered'/></presence>");
    let asked = stage.sent.iter().rev().find(|iq| iq.attr("to") == Some("juliet@capulet.lit/b")).unwrap();
    let id = asked.attr("id").unwrap().to_owned();
    // The stage has refused it; a second answer finds no question, whoever sends it.
    stage.server_sends(&format!("<iq type='result' id='{id}' from='tybalt@capulet.lit'/>"));
    assert!(stage.stream.is_some());
}

#[test]
fn group_chats_and_ones_own_messages_are_no_direct_chats() {
    let mut stage = Stage::xmpp("");
    stage.server_sends("<message from='room@muc.lit/nick' type='groupchat'><body>hi all</body></message>");
    stage.server_sends("<message from='room@muc.lit/nick' type='chat'><x xmlns='http://jabber.org/protocol/muc#user'/><body>psst</body></message>");
    stage.server_sends("<message from='romeo@montague.lit/a' to='romeo@montague.lit/b'><body>note</body></message>");
    stage.server_sends("<message><body>from the server</body></message>");
    assert!(stage.engine.store().portals(&stage.login()).unwrap().is_empty());
    assert_eq!(stage.ignored("message of a group chat"), 2);
}

#[test]
fn odd_stanzas_lose_nothing_that_follows() {
    let mut stage = Stage::xmpp(JULIET);
    for odd in [
        "<message from='juliet@capulet.lit/😀' type='nonsense'><body>odd type</body></message>",
        "<message from='not an address' type='chat'><body>x</body></message>",
        "<message from='juliet@capulet.lit' type='chat'><body/></message>",
        "<presence from='juliet@capulet.lit/x' type='invisible'/>",
        "<presence from='juliet@capulet.lit/x'><show>online</show><priority>9999</priority></presence>",
        "<iq type='get' id='' from='juliet@capulet.lit/x'/>",
        "<iq type='what' id='1'/>",
        "<iq type='result' id='nobody asked'/>",
        "<message from='juliet@capulet.lit' type='chat'><thread>a</thread><thread>b</thread><body>two threads</body></message>",
    ] {
        stage.server_sends(odd);
    }
    stage.phone_sends("juliet@capulet.lit", "still here");
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["odd type", "two threads", "still here"]);
}

#[test]
fn what_someone_else_says_in_a_portal_is_not_said_in_the_owners_name() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room("juliet@capulet.lit");
    for sender in ["@mercutio:h.test", "@romeo:elsewhere.test"] {
        stage.matrix(&room, sender, "m.room.message", None, &json!({ "msgtype": "m.text", "body": "in your name" }));
    }
    assert!(stage.texts_to("juliet@capulet.lit").is_empty());
    assert_eq!(stage.ignored("said in a portal by someone else"), 2);
    let ghost = stage.ghost("juliet@capulet.lit");
    stage.matrix(&room, ghost.as_str(), "m.room.message", None, &json!({ "msgtype": "m.text", "body": "echo" }));
    assert!(stage.texts_to("juliet@capulet.lit").is_empty(), "our own ghosts' words do not go back");
}

#[test]
fn two_owners_of_one_contact_share_nothing() {
    let mut stage = Stage::xmpp(JULIET);
    stage.phone_sends("juliet@capulet.lit", "for romeo");
    let first = stage.room("juliet@capulet.lit");
    let owner = "@paris:h.test";
    let room = super::stage::room_for(&format!("management {owner}"));
    stage.management(owner);
    stage.matrix(
        &room,
        owner,
        "m.room.message",
        None,
        &json!({ "msgtype": "m.text", "body": "login xmpp paris@verona.lit secret" }),
    );
    stage.pass(5_000);
    let logins = stage.engine.store().logins().unwrap();
    assert_eq!(logins.len(), 2);
    let paris = logins.iter().find(|login| login.owner == owner).unwrap();
    let portals = stage.engine.store().portals(&paris.id).unwrap();
    assert_eq!(portals.len(), 1);
    assert_ne!(portals[0].1.room.as_deref(), Some(&*first));
    stage.matrix(&room, owner, "m.room.message", None, &json!({ "msgtype": "m.text", "body": "list-logins" }));
    let answer = stage.said().into_iter().rfind(|said| said.room == room.as_str()).unwrap();
    assert!(answer.body().contains("paris@verona.lit") && !answer.body().contains("romeo"), "{}", answer.body());
    stage.matrix(
        &room,
        owner,
        "m.room.message",
        None,
        &json!({ "msgtype": "m.text", "body": "logout romeo@montague.lit" }),
    );
    assert_eq!(stage.engine.store().logins().unwrap().len(), 2, "nobody signs another out");
}

#[test]
fn nobody_without_permission_gets_more_than_a_sentence() {
    let mut stage = Stage::with(Stage::settings());
    let stranger = "@tybalt:elsewhere.test";
    let room = super::stage::room_for("a room");
    stage.matrix(
        &room,
        stranger,
        "m.room.message",
        None,
        &json!({ "msgtype": "m.text", "body": "!msgr login xmpp a@b c" }),
    );
    let said = stage.said();
    assert_eq!(said.len(), 1);
    assert!(said[0].body().contains("no permission"));
    assert!(stage.connects.is_empty());
    stage.matrix(&room, OWNER, "m.room.message", None, &json!({ "msgtype": "m.text", "body": "!msgr version" }));
    assert!(stage.said()[1].body().contains("9.9"));
}

#[test]
fn a_repeated_transaction_changes_nothing_and_is_answered_again() {
    use messenger_bridge::domain::{Input, Ticket, input::RoomEvent};
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room("juliet@capulet.lit");
    let event = || RoomEvent {
        room: room.clone(),
        id: ruma::EventId::parse("$same").unwrap(),
        sender: ruma::UserId::parse(OWNER).unwrap(),
        kind: "m.room.message".to_owned(),
        state_key: None,
        at: stage_time(),
        content: serde_json::value::to_raw_value(&json!({ "msgtype": "m.text", "body": "once" })).unwrap(),
        redacts: None,
    };
    for ticket in [901, 902] {
        stage.play(Input::Transaction {
            ticket: Ticket(ticket),
            txn_id: "same".to_owned(),
            events: vec![event()],
            ephemeral: Vec::new(),
            overtakes: false,
        });
    }
    stage.crash();
    stage.play(Input::Transaction {
        ticket: Ticket(903),
        txn_id: "same".to_owned(),
        events: vec![event()],
        ephemeral: Vec::new(),
        overtakes: false,
    });
    assert_eq!(stage.texts_to("juliet@capulet.lit"), ["once"]);
    assert!([901, 902, 903].iter().all(|ticket| stage.answered.contains(&Ticket(*ticket))));
}

fn stage_time() -> messenger_bridge::domain::Timestamp {
    messenger_bridge::domain::Timestamp(super::stage::TODAY)
}
