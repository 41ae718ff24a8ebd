//! Contacts' rooms: how they look and whose that is, spaces, upgrades, and the commands that look after them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use messenger_bridge::domain::output::{CreateRoom, MatrixCall, RoomKind};
use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};

use super::stage::{BOT, OWNER, Stage, room_for};

const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
const NURSE: &str = "<item jid='nurse@capulet.lit' name='Nurse' subscription='both'/>";
const JID: &str = "juliet@capulet.lit";

fn created(stage: &Stage, kind: RoomKind) -> Vec<&CreateRoom> {
    let made = stage.calls.iter().filter_map(|call| match call {
        MatrixCall::CreateRoom(room) => Some(room.as_ref()),
        _ => None,
    });
    made.filter(|room| room.kind == kind).collect()
}

fn initial<'a>(room: &'a CreateRoom, kind: &str) -> Option<&'a str> {
    room.state.iter().find(|(k, _, _)| k == kind).map(|(_, _, content)| content.as_str())
}

/// The state that the bot has set: room, type, key, content.
fn states(stage: &Stage, kind: &str) -> Vec<(OwnedRoomId, String, Value)> {
    let of_kind = |call: &MatrixCall| match call {
        MatrixCall::SetState { room, kind: k, key, content, .. } if k == kind => {
            Some((room.clone(), key.clone(), serde_json::from_str(content).unwrap()))
        }
        _ => None,
    };
    stage.calls.iter().filter_map(of_kind).collect()
}

fn left(stage: &Stage, room: &RoomId) -> Vec<String> {
    let who = |call: &MatrixCall| match call {
        MatrixCall::Leave { room: r, user } if r == room => Some(user.to_string()),
        _ => None,
    };
    stage.calls.iter().filter_map(who).collect()
}

fn state(stage: &mut Stage, room: &RoomId, sender: &str, kind: &str, content: &Value) {
    stage.matrix(room, sender, kind, Some(""), content);
}

fn rename(stage: &mut Stage, name: &str) {
    stage.answers.insert("jabber:iq:roster", String::new());
    let item = format!("<item jid='{JID}' name='{name}' subscription='both'/>");
    stage.server_sends(&format!(
        "<iq type='set' id='p' from='romeo@montague.lit'><query xmlns='jabber:iq:roster'>{item}</query></iq>"
    ));
}

fn new_photo(stage: &mut Stage, photo: &str) {
    let bytes = STANDARD.encode(format!("\u{89}PNG\r\n\x1a\n{photo}").chars().map(|c| c as u8).collect::<Vec<_>>());
    let card = format!("<vCard xmlns='vcard-temp'><PHOTO><BINVAL>{bytes}</BINVAL></PHOTO></vCard>");
    stage.answers.insert("vcard-temp juliet@capulet.lit", card);
    stage.server_sends(&format!(
        "<presence from='{JID}/b'><x xmlns='vcard-temp:x:update'><photo>{photo}</photo></x></presence>"
    ));
}

// ---- the look

#[test]
fn a_room_has_the_contacts_name_address_and_photo_and_says_that_the_bot_serves() {
    let mut stage = Stage::xmpp(JULIET);
    let rooms = created(&stage, RoomKind::Direct);
    assert_eq!(rooms[0].name, "Juliet");
    assert_eq!(initial(rooms[0], "m.room.topic"), Some(r#"{"topic":"juliet@capulet.lit"}"#));
    let functional: Value = serde_json::from_str(initial(rooms[0], "io.element.functional_members").unwrap()).unwrap();
    assert_eq!(functional, json!({ "service_members": [BOT] }));
    assert_eq!(initial(rooms[0], "m.room.avatar"), None, "no photo is known yet");
    new_photo(&mut stage, "aa");
    new_photo(&mut stage, "aa");
    let avatars = states(&stage, "m.room.avatar");
    assert_eq!(avatars.len(), 1, "only on change");
    let ghosts = stage.calls.iter().find_map(|call| match call {
        MatrixCall::SetAvatar { url, .. } => Some(url.clone()),
        _ => None,
    });
    assert_eq!(avatars[0].2["url"].as_str(), ghosts.as_deref());
    // A contact's photo is fetched at most once within some time.
    stage.pass(60_000);
    new_photo(&mut stage, "bb");
    assert_eq!(states(&stage, "m.room.avatar").len(), 2);
    stage.server_sends(&format!("<presence from='{JID}/b'><x xmlns='vcard-temp:x:update'><photo/></x></presence>"));
    assert_eq!(states(&stage, "m.room.avatar").last().unwrap().2, json!({}), "the photo is gone");
}

#[test]
fn a_room_that_is_made_after_its_photo_begins_with_it() {
    let mut settings = Stage::settings();
    settings.rooms_for_contacts = false;
    let mut stage = Stage::with(settings);
    stage.sign_in(JULIET);
    new_photo(&mut stage, "aa");
    stage.phone_sends(JID, "hi");
    let rooms = created(&stage, RoomKind::Direct);
    assert!(initial(rooms[0], "m.room.avatar").unwrap().contains("mxc://"));
    assert!(states(&stage, "m.room.avatar").is_empty());
}

#[test]
fn what_the_person_sets_stays_theirs_also_over_a_crash() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room(JID);
    state(&mut stage, &room, OWNER, "m.room.name", &json!({ "name": "My love" }));
    state(&mut stage, &room, OWNER, "m.room.avatar", &json!({ "url": "mxc://h.test/own" }));
    state(&mut stage, &room, OWNER, "m.room.topic", &json!({ "topic": "balcony" }));
    stage.crash();
    rename(&mut stage, "Juliet Capulet");
    new_photo(&mut stage, "aa");
    assert!(states(&stage, "m.room.name").is_empty() && states(&stage, "m.room.avatar").is_empty());
    let ghost = stage.ghost(JID);
    let named = |call: &MatrixCall| matches!(call, MatrixCall::SetDisplayName { user, name } if *user == ghost && name == "Juliet Capulet");
    assert!(stage.calls.iter().any(named), "the ghost is renamed all the same");
    stage.says(&room, "!msgr sync-portal");
    for kind in ["m.room.name", "m.room.avatar", "m.room.topic"] {
        assert!(states(&stage, kind).is_empty(), "{kind}");
    }
}

#[test]
fn what_the_person_emptied_is_the_contacts_again_by_sync_portal() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room(JID);
    state(&mut stage, &room, OWNER, "m.room.name", &json!({}));
    rename(&mut stage, "Juliet Capulet");
    assert!(states(&stage, "m.room.name").is_empty());
    stage.says(&room, "!msgr sync-portal");
    assert_eq!(states(&stage, "m.room.name").pop().unwrap().2, json!({ "name": "Juliet Capulet" }));
    rename(&mut stage, "Juliet M.");
    assert_eq!(states(&stage, "m.room.name").pop().unwrap().2, json!({ "name": "Juliet M." }));
}

// ---- spaces

#[test]
fn a_login_has_a_space_that_holds_its_rooms() {
    let stage = Stage::xmpp(&format!("{JULIET}{NURSE}"));
    let spaces = created(&stage, RoomKind::Space);
    assert_eq!(spaces.len(), 1);
    assert_eq!(spaces[0].name, "XMPP (romeo@montague.lit)");
    assert_eq!(spaces[0].invite, [OWNER]);
    let children = states(&stage, "m.space.child");
    let (space, via) = (room_for("space"), json!({ "via": ["h.test"] }));
    let child = |jid: &str| (space.clone(), stage.room(jid).to_string(), via.clone());
    assert_eq!(children, [child(JID), child("nurse@capulet.lit")]);
}

#[test]
fn without_spaces_there_are_none_and_rooms_that_are_older_than_the_space_come_into_it_at_the_pace_of_new_ones() {
    let mut settings = Stage::settings();
    settings.space = false;
    let mut stage = Stage::with(settings.clone());
    stage.sign_in(&format!("{JULIET}{NURSE}"));
    assert!(created(&stage, RoomKind::Space).is_empty() && states(&stage, "m.space.child").is_empty());
    settings.space = true;
    stage.change(settings);
    stage.crash();
    assert_eq!(states(&stage, "m.space.child").len(), 2);
    stage.crash();
    stage.pass(10_000);
    assert_eq!((created(&stage, RoomKind::Space).len(), states(&stage, "m.space.child").len()), (1, 2), "each once");
}

#[test]
fn a_space_whose_making_was_not_answered_is_looked_for_first() {
    let mut stage = Stage::with(Stage::settings());
    stage.unanswered = Some(|call| matches!(call, MatrixCall::CreateRoom(room) if room.kind == RoomKind::Space));
    stage.sign_in(JULIET);
    assert!(states(&stage, "m.space.child").is_empty());
    stage.unanswered = None;
    stage.crash();
    let spaces = created(&stage, RoomKind::Space);
    assert_eq!(spaces.len(), 2);
    assert_eq!(spaces[0].look_first, None);
    let (kind, key) = spaces[1].look_first.clone().unwrap();
    assert!(spaces[1].state.iter().any(|(k, s, _)| (k, s) == (&kind, &key)));
    assert_eq!(spaces[0].state, spaces[1].state);
    assert_eq!(states(&stage, "m.space.child").len(), 1);
}

#[test]
fn the_echo_of_a_space_pays_for_it() {
    let mut stage = Stage::with(Stage::settings());
    stage.unanswered = Some(|call| matches!(call, MatrixCall::CreateRoom(room) if room.kind == RoomKind::Space));
    stage.sign_in(JULIET);
    let (kind, key, content) = created(&stage, RoomKind::Space)[0].state[0].clone();
    let content: Value = serde_json::from_str(&content).unwrap();
    stage.matrix(&room_for("found"), "@mallory:h.test", &kind, Some(&key), &content);
    assert!(states(&stage, "m.space.child").is_empty(), "only the bot says so");
    stage.matrix(&room_for("found"), BOT, &kind, Some(&key), &content);
    assert_eq!(states(&stage, "m.space.child")[0].0, room_for("found"));
}

#[test]
fn a_space_that_the_homeserver_refuses_costs_no_room_and_is_tried_again() {
    let mut stage = Stage::with(Stage::settings());
    stage.refuses = Some(|call| matches!(call, MatrixCall::CreateRoom(room) if room.kind == RoomKind::Space));
    stage.sign_in(JULIET);
    stage.phone_sends(JID, "hi");
    assert_eq!(stage.bodies(JID), ["hi"]);
    assert!(states(&stage, "m.space.child").is_empty());
    stage.refuses = None;
    stage.cut(false);
    assert_eq!(states(&stage, "m.space.child").len(), 1);
}

#[test]
fn logout_takes_the_space_away() {
    let mut stage = Stage::xmpp(JULIET);
    stage.command("logout romeo@montague.lit");
    let space = room_for("space");
    assert_eq!(left(&stage, &space), [BOT]);
    let (room, who, content) = states(&stage, "m.room.member").pop().unwrap();
    assert_eq!((room, who.as_str(), content["membership"].as_str()), (space, OWNER, Some("leave")));
}

#[test]
fn a_person_who_left_the_space_is_asked_in_by_sync_only() {
    let mut stage = Stage::xmpp(JULIET);
    let space = room_for("space");
    stage.matrix(&space, OWNER, "m.room.member", Some(OWNER), &json!({ "membership": "leave" }));
    let invites = |stage: &Stage| {
        stage.calls.iter().filter(|call| matches!(call, MatrixCall::Invite { room, .. } if *room == space)).count()
    };
    stage.cut(false);
    assert_eq!(invites(&stage), 0);
    stage.command("sync");
    assert_eq!(invites(&stage), 1);
}

// ---- commands

#[test]
fn delete_portal_lets_go_and_the_next_message_makes_a_new_room() {
    let mut stage = Stage::xmpp(JULIET);
    stage.phone_sends(JID, "before");
    let (room, ghost) = (stage.room(JID), stage.ghost(JID));
    stage.says(&room, "!msgr delete-portal");
    assert_eq!(left(&stage, &room), [ghost.to_string(), BOT.to_owned()]);
    assert_eq!(states(&stage, "m.space.child").pop().unwrap().2, json!({}), "it is out of the space");
    assert_eq!(stage.engine.store().room(&room).unwrap(), None);
    let said = stage.sent.len();
    stage.says(&room, "into the void");
    assert_eq!(stage.sent.len(), said);
    // Neither a new session nor the roster makes it again.
    stage.cut(false);
    rename(&mut stage, "Juliet C.");
    stage.pass(10_000);
    assert_eq!(created(&stage, RoomKind::Direct).len(), 1);
    stage.phone_sends(JID, "after");
    assert_eq!(created(&stage, RoomKind::Direct).len(), 2);
    assert_eq!(stage.bodies(JID).last().map(String::as_str), Some("after"));
    let invited = &created(&stage, RoomKind::Direct)[1].invite;
    assert!(invited.iter().any(|user| user == OWNER));
    stage.says(&room, "and back");
    assert_eq!(stage.texts_to(JID), ["and back"]);
}

#[test]
fn what_had_not_reached_a_deleted_room_reaches_the_next_one() {
    let mut stage = Stage::xmpp(JULIET);
    let (room, ghost) = (stage.room(JID), stage.ghost(JID));
    stage.refuses =
        Some(|call| matches!(call, MatrixCall::Send { user, .. } if user.localpart().starts_with("messenger_")));
    stage.phone_sends(JID, "one");
    stage.server_sends(&format!(
        "<message from='{JID}/phone' type='chat'><body>https://h/a.png</body><x xmlns='jabber:x:oob'><url>https://h/a.png</url></x></message>"
    ));
    stage.phone_sends(JID, "two");
    stage.refuses = None;
    stage.calls.clear();
    stage.says(&room, "!msgr delete-portal");
    assert_eq!(created(&stage, RoomKind::Direct).len(), 1);
    let ghosts = stage.heard(JID).into_iter().filter(|said| said.sender == ghost.as_str());
    assert_eq!(ghosts.map(|said| said.body().to_owned()).collect::<Vec<_>>(), ["one", "a.png", "two"]);
}

#[test]
fn delete_all_portals_asks_first() {
    let mut stage = Stage::xmpp(&format!("{JULIET}{NURSE}"));
    let rooms = [stage.room(JID), stage.room("nurse@capulet.lit")];
    stage.says(&rooms[0], "!msgr delete-all-portals confirm");
    assert!(stage.bodies(JID).last().unwrap().contains("management room"));
    stage.command("delete-all-portals");
    assert!(stage.last_word().contains("2 rooms") && stage.last_word().contains("delete-all-portals confirm"));
    assert!(rooms.iter().all(|room| left(&stage, room).is_empty()));
    stage.command("delete-all-portals confirm");
    assert!(rooms.iter().all(|room| left(&stage, room).len() == 2));
    assert!(stage.last_word().contains("2 rooms are deleted"), "{}", stage.last_word());
}

#[test]
fn sync_portal_brings_back_whoever_is_missing_ahead_of_what_waits() {
    let mut stage = Stage::xmpp(JULIET);
    let (room, ghost) = (stage.room(JID), stage.ghost(JID));
    // The ghost was thrown out: what it says is refused, and kept.
    stage.refuses =
        Some(|call| matches!(call, MatrixCall::Send { user, .. } if user.localpart().starts_with("messenger_")));
    stage.phone_sends(JID, "hello?");
    assert!(stage.last_word().contains("held up"), "{}", stage.last_word());
    stage.refuses = None;
    stage.matrix(&room, OWNER, "m.room.member", Some(OWNER), &json!({ "membership": "leave" }));
    stage.calls.clear();
    stage.says(&room, "!msgr sync-portal");
    let place = |wanted: &dyn Fn(&MatrixCall) -> bool| stage.calls.iter().position(wanted).unwrap();
    place(&|call| matches!(call, MatrixCall::Invite { target, .. } if *target == ghost));
    place(&|call| matches!(call, MatrixCall::Join { user, .. } if *user == ghost));
    place(&|call| matches!(call, MatrixCall::Invite { target, .. } if target == OWNER));
    assert!(stage.heard(JID).iter().any(|said| said.body() == "hello?"));
    for kind in ["m.bridge", "uk.half-shot.bridge", "io.element.functional_members", "m.room.name", "m.room.topic"] {
        assert_eq!(states(&stage, kind).len(), 1, "{kind}");
    }
    assert_eq!(states(&stage, "m.space.child").len(), 1);
}

#[test]
fn id_tells_what_a_room_is() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room(JID);
    stage.says(&room, "!msgr id");
    let told = stage.bodies(JID).pop().unwrap();
    let (login, ghost) = (stage.login(), stage.ghost(JID));
    for part in [room.as_str(), login.as_str(), "romeo@montague.lit", JID, ghost.as_str()] {
        assert!(told.contains(part), "{part} in {told}");
    }
    stage.command("id");
    assert!(stage.last_word().contains("management room"));
    // Whoever else is in the room learns nothing.
    stage.matrix(
        &room,
        "@mercutio:h.test",
        "m.room.message",
        None,
        &json!({ "msgtype": "m.text", "body": "!msgr id" }),
    );
    assert_eq!(stage.bodies(JID).pop().unwrap(), told);
}

#[test]
fn the_management_room_is_moved_by_command_where_nobody_else_is() {
    let mut stage = Stage::xmpp(JULIET);
    let (portal, other) = (stage.room(JID), room_for("another"));
    stage.says(&portal, "!msgr set-management-room");
    assert!(stage.bodies(JID).last().unwrap().contains("room of a contact"));
    stage.members = 3;
    stage.says(&other, "!msgr set-management-room");
    let said = |stage: &Stage| {
        stage
            .said()
            .iter()
            .filter(|said| said.room == other.as_str())
            .map(|said| said.body().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(said(&stage).last().unwrap().contains("3 are in this room"));
    stage.members = 2;
    stage.says(&other, "!msgr set-management-room");
    assert!(said(&stage).last().unwrap().contains("marked as your management room"));
    stage.says(&other, "list-logins");
    assert!(said(&stage).last().unwrap().contains("romeo@montague.lit"));
}

// ---- subscriptions

#[test]
fn joining_a_contacts_room_accepts_what_they_asked() {
    let mut stage = Stage::xmpp("<item jid='paris@verona.lit' subscription='none'/>");
    let room = stage.room("paris@verona.lit");
    stage.server_sends("<presence type='subscribe' from='paris@verona.lit/x'/>");
    assert!(stage.last_word().contains("Joining their room accepts"), "{}", stage.last_word());
    let answers = |stage: &Stage| {
        let to = |p: &&minidom::Element| p.name() == "presence" && p.attr("to") == Some("paris@verona.lit");
        stage.sent.iter().filter(to).map(|p| p.attr("type").unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(answers(&stage).is_empty());
    stage.matrix(&room, OWNER, "m.room.member", Some(OWNER), &json!({ "membership": "join" }));
    assert_eq!(answers(&stage), ["subscribed", "subscribe"]);
    assert!(stage.last_word().contains("is accepted"));
    // A change of the person's own name is no joining.
    stage.server_sends("<presence type='subscribe' from='paris@verona.lit/x'/>");
    assert!(!stage.last_word().contains("Joining"));
    stage.matrix(&room, OWNER, "m.room.member", Some(OWNER), &json!({ "membership": "join", "displayname": "R" }));
    assert_eq!(answers(&stage).len(), 2);
}

#[test]
fn start_chat_asks_whom_is_no_contact_to_be_one() {
    let mut stage = Stage::xmpp(JULIET);
    let asked = |stage: &Stage| {
        let asks = |p: &&minidom::Element| p.attr("type") == Some("subscribe");
        stage.sent.iter().filter(asks).map(|p| p.attr("to").unwrap().to_owned()).collect::<Vec<_>>()
    };
    stage.command(&format!("start-chat {JID}"));
    assert!(asked(&stage).is_empty() && !stage.last_word().contains("asked them"), "{}", stage.last_word());
    stage.command("start-chat tybalt@capulet.lit");
    assert_eq!(asked(&stage), ["tybalt@capulet.lit"]);
    assert!(stage.last_word().contains("I have asked them to be your contact"), "{}", stage.last_word());
}

// ---- whom messages go to

/// RFC 6121 section 5.1 and XEP-0296 would lock onto the client that spoke last; docs/protocol.md says why we do not.
#[test]
fn messages_go_to_the_bare_address_whichever_client_spoke_last() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room(JID);
    for client in ["balcony", "garden"] {
        stage.server_sends(&format!("<presence from='{JID}/{client}'/>"));
        stage.phone_sends(&format!("{JID}/{client}"), client);
        stage.says(&room, &format!("to {client}"));
    }
    stage.server_sends(&format!("<presence from='{JID}/garden' type='unavailable'/>"));
    stage.says(&room, "good night");
    assert_eq!(stage.texts_to(JID), ["to balcony", "to garden", "good night"]);
}

// ---- upgrades

fn tombstone(stage: &mut Stage, old: &RoomId, new: &RoomId, sender: &str) {
    let content = json!({ "body": "This room has been replaced", "replacement_room": new });
    state(stage, old, sender, "m.room.tombstone", &content);
}

fn replaces(stage: &mut Stage, new: &RoomId, old: &RoomId) {
    stage.creates.insert(new.to_owned(), json!({ "predecessor": { "room_id": old, "event_id": "$t" } }).to_string());
}

#[test]
fn a_portal_follows_its_room_into_the_next() {
    let mut stage = Stage::xmpp(JULIET);
    let (old, new, ghost) = (stage.room(JID), room_for("new"), stage.ghost(JID));
    state(&mut stage, &old, OWNER, "m.room.name", &json!({ "name": "My love" }));
    replaces(&mut stage, &new, &old);
    tombstone(&mut stage, &old, &new, BOT);
    let joined = |call: &MatrixCall| match call {
        MatrixCall::Join { room, user } if *room == new => Some(user.to_string()),
        _ => None,
    };
    assert_eq!(stage.calls.iter().filter_map(joined).collect::<Vec<_>>(), [BOT.to_owned(), ghost.to_string()]);
    assert_eq!(left(&stage, &old), [ghost.to_string(), BOT.to_owned()]);
    assert_eq!(states(&stage, "m.bridge").pop().unwrap().0, new);
    assert_eq!(states(&stage, "io.element.functional_members").pop().unwrap().0, new);
    let invited =
        |call: &MatrixCall| matches!(call, MatrixCall::Invite { room, target, .. } if *room == new && target == OWNER);
    assert!(stage.calls.iter().any(invited));
    let children = states(&stage, "m.space.child");
    let last: Vec<_> = children[children.len() - 2..]
        .iter()
        .map(|(_, key, content)| (key.clone(), content["via"].is_array()))
        .collect();
    assert_eq!(last, [(old.to_string(), false), (new.to_string(), true)]);
    stage.crash();
    stage.phone_sends(JID, "here?");
    let said = stage.said().pop().unwrap();
    assert_eq!((said.room.as_str(), said.body()), (new.as_str(), "here?"));
    // Leaving the old room is not leaving the chat.
    stage.matrix(&old, OWNER, "m.room.member", Some(OWNER), &json!({ "membership": "leave" }));
    stage.says(&new, "here");
    assert_eq!(stage.texts_to(JID), ["here"]);
    // The name that the person gave it is still theirs.
    rename(&mut stage, "Juliet Capulet");
    assert!(states(&stage, "m.room.name").is_empty());
}

#[test]
fn what_is_said_during_an_upgrade_waits_for_the_invitation() {
    let mut stage = Stage::xmpp(JULIET);
    let (old, new, ghost) = (stage.room(JID), room_for("new"), stage.ghost(JID));
    replaces(&mut stage, &new, &old);
    stage.refuses = Some(|call| matches!(call, MatrixCall::Join { .. }));
    // An administrator of the homeserver has taken the bot's power, and upgrades.
    tombstone(&mut stage, &old, &new, "@admin:h.test");
    assert!(!stage.last_word().contains("be invited there"), "mostly it is on its way");
    stage.phone_sends(JID, "meanwhile");
    stage.pass(60_000);
    assert!(stage.last_word().contains("be invited there"), "{}", stage.last_word());
    assert!(stage.bodies(JID).is_empty());
    stage.crash();
    stage.refuses = None;
    let invite = json!({ "membership": "invite" });
    stage.matrix(&new, "@admin:h.test", "m.room.member", Some(ghost.as_str()), &invite);
    assert!(left(&stage, &new).is_empty(), "the ghost waits for the bot");
    stage.matrix(&new, "@admin:h.test", "m.room.member", Some(BOT), &invite);
    let said = stage.said().pop().unwrap();
    assert_eq!((said.room.as_str(), said.body()), (new.as_str(), "meanwhile"));
    assert!(stage.bodies(JID).is_empty(), "nothing more in the old room");
}

#[test]
fn an_upgrade_by_the_bot_is_followed_though_its_tombstone_comes_first() {
    let mut stage = Stage::xmpp(JULIET);
    let (old, new) = (stage.room(JID), room_for("new"));
    replaces(&mut stage, &new, &old);
    stage.refuses = Some(|call| matches!(call, MatrixCall::Join { .. }));
    tombstone(&mut stage, &old, &new, BOT);
    stage.refuses = None;
    stage.matrix(&new, BOT, "m.room.member", Some(BOT), &json!({ "membership": "join" }));
    stage.phone_sends(JID, "here?");
    assert_eq!(stage.said().pop().unwrap().room, new.as_str());
    stage.pass(120_000);
    assert!(!stage.last_word().contains("be invited there"));
}

#[test]
fn a_tombstone_leads_nowhere_else() {
    let mut stage = Stage::xmpp(&format!("{JULIET}{NURSE}"));
    let (old, nurse) = (stage.room(JID), stage.room("nurse@capulet.lit"));
    // A room of ours is no replacement.
    tombstone(&mut stage, &old, &nurse, BOT);
    assert_eq!(stage.ignored("tombstone that names a room of ours"), 1);
    // Nor is one that knows nothing of it.
    let new = room_for("new");
    replaces(&mut stage, &new, &nurse);
    tombstone(&mut stage, &old, &new, BOT);
    assert_eq!(left(&stage, &new), [BOT]);
    stage.phone_sends(JID, "still here");
    assert_eq!(stage.bodies(JID), ["still here"]);
    // A management room is its owner's.
    let management = room_for(&format!("management {OWNER}"));
    tombstone(&mut stage, &management, &room_for("trap"), "@mallory:h.test");
    assert!(!stage.calls.iter().any(|call| matches!(call, MatrixCall::Join { room, .. } if *room == room_for("trap"))));
}

#[test]
fn management_rooms_and_spaces_are_followed_too() {
    let mut stage = Stage::xmpp(JULIET);
    let (old, new) = (room_for(&format!("management {OWNER}")), room_for("new"));
    replaces(&mut stage, &new, &old);
    tombstone(&mut stage, &old, &new, OWNER);
    assert_eq!(left(&stage, &old), [BOT]);
    stage.says(&new, "list-logins");
    let said = stage.said().pop().unwrap();
    assert_eq!(said.room, new.as_str());
    assert!(said.body().contains("romeo@montague.lit"));
    let (space, next) = (room_for("space"), room_for("next space"));
    replaces(&mut stage, &next, &space);
    tombstone(&mut stage, &space, &next, BOT);
    assert_eq!(left(&stage, &space), [BOT]);
    stage.server_sends("<message from='tybalt@capulet.lit' type='chat'><body>Romeo!</body></message>");
    assert_eq!(states(&stage, "m.space.child").pop().unwrap().0, next);
}
