//! Other people of the same homeserver, and of others.

use messenger_bridge::domain::output::MatrixCall;
use ruma::UserId;
use serde_json::json;

use super::stage::{BOT, OWNER, Said, Stage, room_for};

const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
const PARIS: &str = "@paris:h.test";

/// What the bot has said in a room since then.
fn said_in(stage: &Stage, room: &str, since: usize) -> Vec<Said> {
    stage.said().into_iter().skip(since).filter(|said| said.room == room).collect()
}

#[test]
fn nobody_commands_anothers_login_nor_reads_its_contacts() {
    let mut stage = Stage::xmpp(JULIET);
    stage.phone_sends("juliet@capulet.lit", "for romeo alone");
    stage.server_sends("<presence from='tybalt@capulet.lit' type='subscribe'/>");
    let (login, sent) = (stage.login(), stage.sent.len());
    stage.management(PARIS);
    let (own, theirs, elsewhere) =
        (room_for(&format!("management {PARIS}")), room_for(&format!("management {OWNER}")), room_for("a room"));
    let before = stage.said().len();
    let commands = [
        "list-logins".to_owned(),
        "ping".to_owned(),
        "sync".to_owned(),
        "search juliet".to_owned(),
        "search capulet.lit".to_owned(),
        "logout romeo@montague.lit".to_owned(),
        format!("logout {login}"),
        "start-chat romeo@montague.lit juliet@capulet.lit".to_owned(),
        format!("start-chat {login} juliet@capulet.lit"),
        "start-chat juliet@capulet.lit".to_owned(),
        format!("accept {login} tybalt@capulet.lit"),
        "accept tybalt@capulet.lit".to_owned(),
        "deny romeo@montague.lit tybalt@capulet.lit".to_owned(),
        "cancel".to_owned(),
    ];
    for command in &commands {
        let say = |text: &str| json!({ "msgtype": "m.text", "body": text });
        stage.matrix(&own, PARIS, "m.room.message", None, &say(command));
        stage.matrix(&elsewhere, PARIS, "m.room.message", None, &say(&format!("!msgr {command}")));
        // In the owner's own management room, should they have let him in.
        stage.matrix(&theirs, PARIS, "m.room.message", None, &say(command));
        stage.matrix(&theirs, PARIS, "m.room.message", None, &say(&format!("!msgr {command}")));
    }
    assert_eq!(stage.engine.store().logins().unwrap().len(), 1);
    assert_eq!(stage.sent.len(), sent, "nothing goes out on the owner's stream");
    let heard: Vec<Said> = stage.said().into_iter().skip(before).collect();
    assert!(!heard.is_empty());
    for said in &heard {
        let body = said.body();
        assert!(!body.contains("montague") && !body.contains("Juliet") && !body.contains("messenger_"), "{body}");
    }
    assert!(said_in(&stage, own.as_str(), before).iter().any(|said| said.body() == "None of your contacts fits."));
    let asked = stage.engine.store().contacts(&login).unwrap();
    assert!(
        asked.iter().any(|(contact, row)| contact.as_str() == "tybalt@capulet.lit" && row.asks),
        "nobody answered for him"
    );
}

#[test]
fn a_ghost_invited_by_someone_else_leaves_and_opens_nothing() {
    let mut stage = Stage::xmpp(JULIET);
    let (ghost, unknown) = (stage.ghost("juliet@capulet.lit"), stage.ghost("nobody@capulet.lit"));
    let (calls, portals) = (stage.calls.len(), stage.engine.store().portals(&stage.login()).unwrap().len());
    for (room, target) in [("paris", &ghost), ("paris too", &unknown)] {
        stage.matrix(
            &room_for(room),
            PARIS,
            "m.room.member",
            Some(target.as_str()),
            &json!({ "membership": "invite", "is_direct": true }),
        );
    }
    let after: Vec<_> = stage.calls[calls..].iter().collect();
    assert!(after.iter().all(|call| matches!(call, MatrixCall::Leave { .. })) && after.len() == 2, "{after:?}");
    assert_eq!(stage.engine.store().portals(&stage.login()).unwrap().len(), portals);
    assert_eq!(stage.ignored("ghost invited by someone else"), 2);
}

#[test]
fn what_guests_of_a_chat_say_type_and_do_is_not_the_owners() {
    let mut stage = Stage::xmpp(JULIET);
    stage.server_sends("<message from='juliet@capulet.lit/b' type='chat'><body>hi</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>");
    let room = stage.room("juliet@capulet.lit");
    let sent = stage.sent.len();
    stage.matrix(&room, OWNER, "m.room.member", Some(PARIS), &json!({ "membership": "invite" }));
    stage.matrix(&room, PARIS, "m.room.member", Some(PARIS), &json!({ "membership": "join" }));
    for kind in ["m.room.message", "m.sticker", "m.reaction", "m.room.encrypted", "m.room.redaction"] {
        stage.matrix(&room, PARIS, kind, None, &json!({ "msgtype": "m.text", "body": "as romeo" }));
    }
    stage.matrix(
        &room,
        PARIS,
        "m.room.message",
        None,
        &json!({ "msgtype": "m.text", "body": "!msgr logout romeo@montague.lit" }),
    );
    let typing = |user: &str| {
        vec![messenger_bridge::domain::input::EphemeralEvent::Typing {
            room: room.clone(),
            users: vec![UserId::parse(user).unwrap()],
        }]
    };
    stage.transaction(Vec::new(), typing(PARIS));
    stage.transaction(
        Vec::new(),
        vec![messenger_bridge::domain::input::EphemeralEvent::Presence {
            user: UserId::parse(PARIS).unwrap(),
            state: ruma::presence::PresenceState::Offline,
            status: Some("as romeo".to_owned()),
            last_active_ago: None,
        }],
    );
    assert_eq!(stage.sent.len(), sent, "{:?}", stage.sent.last());
    assert_eq!(stage.engine.store().logins().unwrap().len(), 1);
    // Someone else's kick of another is not the owner's leaving.
    stage.matrix(&room, PARIS, "m.room.member", Some(PARIS), &json!({ "membership": "leave" }));
    stage.phone_sends("juliet@capulet.lit", "still here?");
    let invited = |call: &&MatrixCall| matches!(call, MatrixCall::Invite { target, .. } if target.as_str() == OWNER);
    assert!(!stage.calls.iter().any(|call| invited(&call)));
}

#[test]
fn a_chats_room_lets_nobody_in_but_by_the_bridge() {
    let stage = Stage::xmpp(JULIET);
    let room = stage
        .calls
        .iter()
        .find_map(|call| if let MatrixCall::CreateRoom(room) = call { Some(room) } else { None })
        .unwrap();
    let levels: serde_json::Value = serde_json::from_str(&room.power_levels).unwrap();
    for power in ["invite", "kick", "ban", "state_default"] {
        assert_eq!(levels[power], 100, "{power}");
    }
    assert!(
        levels.get("users").is_none() && levels.get("users_default").is_none(),
        "the owner has no more power than anyone"
    );
    let events: Vec<&String> = levels["events"].as_object().unwrap().keys().collect();
    assert_eq!(events, ["m.room.avatar", "m.room.name", "m.room.topic"]);
    assert_eq!(room.invite.len(), 2, "the owner and the ghost");
    for kind in ["m.room.join_rules", "m.room.guest_access", "m.room.history_visibility", "m.room.power_levels"] {
        assert!(room.state.iter().all(|(set, _, _)| set != kind), "{kind} is that of a private room");
    }
}

#[test]
fn a_room_that_is_anothers_does_not_become_a_management_room() {
    let mut stage = Stage::xmpp(JULIET);
    let (portal, theirs) = (stage.room("juliet@capulet.lit"), room_for(&format!("management {OWNER}")));
    for room in [&portal, &theirs] {
        stage.matrix(room, PARIS, "m.room.member", Some(BOT), &json!({ "membership": "invite", "is_direct": true }));
        stage.matrix(room, PARIS, "m.room.message", None, &json!({ "msgtype": "m.text", "body": "list-logins" }));
    }
    assert_eq!(stage.ignored("management room that is another's"), 2);
    // Both are what they were.
    stage.says(&portal, "to Juliet");
    assert_eq!(stage.texts_to("juliet@capulet.lit"), ["to Juliet"]);
    stage.command("version");
    assert!(stage.last_word().contains("9.9"));
}

#[test]
fn a_forged_bridge_state_takes_over_no_room() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room("juliet@capulet.lit");
    let other = room_for("trap");
    let content =
        json!({ "channel": { "id": "juliet@capulet.lit", "org.messenger_bridge.login": stage.login().as_str() } });
    for sender in [PARIS, OWNER, stage.ghost("juliet@capulet.lit").as_str()] {
        stage.matrix(&other, sender, "m.bridge", Some("x"), &content);
    }
    stage.phone_sends("juliet@capulet.lit", "whither?");
    assert!(stage.said().iter().all(|said| said.room != other.as_str()));
    assert_eq!(stage.heard("juliet@capulet.lit").len(), 1);
    stage.says(&other, "nowhere");
    assert!(stage.texts_to("juliet@capulet.lit").is_empty());
    stage.says(&room, "here");
    assert_eq!(stage.texts_to("juliet@capulet.lit"), ["here"]);
}
