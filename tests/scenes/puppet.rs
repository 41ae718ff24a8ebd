//! Double puppeting: what the person does elsewhere is their own in Matrix, and never goes to the contact twice.

use messenger_bridge::{
    domain::{Input, input::RoomEvent, output::MatrixCall},
    translate::bridge_info::{DEBT, PUPPET},
};
use ruma::{OwnedUserId, UserId};
use serde_json::{Value, json};

use super::stage::{OWNER, Stage};

const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
const CONTACT: &str = "juliet@capulet.lit";
const OWN_GHOST: &str = "romeo@montague.lit";

fn puppets(roster: &str) -> Stage {
    let mut settings = Stage::settings();
    settings.double_puppet = true;
    let mut stage = Stage::with(settings);
    stage.sign_in(roster);
    stage
}

/// The person's other client says something; the server copies it to us.
fn elsewhere(stage: &mut Stage, inner: &str) {
    stage.server_sends(&format!(
        "<message from='romeo@montague.lit' to='romeo@montague.lit/x'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
         <message xmlns='jabber:client' from='romeo@montague.lit/phone' to='{CONTACT}' type='chat' {inner}</message></forwarded></sent></message>"
    ));
}

/// All that was sent in the person's name, as the homeserver pushes it back.
fn echoes(stage: &Stage) -> Vec<RoomEvent> {
    let ids: Vec<(&String, &String)> = stage.contents.iter().filter(|(id, _)| id.starts_with("$e")).collect();
    let sent = stage.calls.iter().filter_map(|call| match call {
        MatrixCall::Send { room, user, kind, content, at, .. } if user == OWNER => {
            let (id, _) = ids.iter().find(|(_, known)| *known == content).unwrap();
            Some(RoomEvent {
                room: room.clone(),
                id: ruma::EventId::parse(id).unwrap(),
                sender: user.clone(),
                kind: kind.clone(),
                state_key: None,
                at: at.unwrap(),
                content: serde_json::from_str(content).unwrap(),
                redacts: None,
            })
        }
        _ => None,
    });
    sent.collect()
}

fn owner() -> OwnedUserId {
    UserId::parse(OWNER).unwrap()
}

#[test]
fn what_is_said_elsewhere_is_the_persons_own_and_never_comes_back_to_the_contact() {
    let mut stage = puppets(JULIET);
    elsewhere(&mut stage, "id='p1'><body>from the phone</body>");
    let heard = stage.heard(CONTACT);
    assert_eq!((heard[0].sender.as_str(), heard[0].body()), (OWNER, "from the phone"));
    assert!(heard[0].at.is_some(), "it has a time that nobody else can give it");
    let ghosts = stage
        .calls
        .iter()
        .filter(|call| matches!(call, MatrixCall::Register { localpart } if localpart.contains("romeo")));
    assert_eq!(ghosts.count(), 0, "nobody needs a ghost of the account");
    // It comes back, and again after a restart, and again in a room that is read.
    for _ in 0..2 {
        let echoes = echoes(&stage);
        assert_eq!(echoes.len(), 1);
        stage.transaction(echoes.clone(), Vec::new());
        stage.crash();
        stage.transaction(echoes, Vec::new());
    }
    assert!(stage.texts_to(CONTACT).is_empty());
    // What the person says in Matrix goes as ever.
    let room = stage.room(CONTACT);
    stage.says(&room, "from Element");
    assert_eq!(stage.texts_to(CONTACT), ["from Element"]);
}

#[test]
fn an_echo_that_comes_before_the_answer_pays_for_what_was_sent() {
    let mut stage = puppets(JULIET);
    stage.unanswered = Some(|call| matches!(call, MatrixCall::Send { user, .. } if user == OWNER));
    elsewhere(&mut stage, "id='p1'><body>first</body>");
    elsewhere(&mut stage, "id='p2'><body>second</body>");
    assert_eq!(stage.bodies(CONTACT), ["first"]);
    let echoes = echoes(&stage);
    stage.transaction(echoes, Vec::new());
    assert_eq!(stage.bodies(CONTACT), ["first", "second"]);
    // The process dies before the second comes back; its echo is known by the next one.
    let second = self::echoes(&stage).pop().unwrap();
    stage.unanswered = None;
    let debts = stage.engine.debts();
    assert!(debts > 0);
    stage.away = usize::MAX;
    stage.crash();
    stage.transaction(vec![second], Vec::new());
    stage.away = 0;
    stage.pass(600_000);
    assert_eq!(stage.engine.debts(), 0);
    assert_eq!(stage.bodies(CONTACT), ["first", "second"], "it was not said again");
    assert!(stage.texts_to(CONTACT).is_empty());
}

#[test]
fn a_copy_of_what_was_said_in_ones_name_is_ones_own() {
    let mut stage = puppets(JULIET);
    elsewhere(&mut stage, "id='p1'><body>look</body>");
    let echo = echoes(&stage).pop().unwrap();
    stage.transaction(vec![echo.clone()], Vec::new());
    let content: Value = serde_json::from_str(echo.content.get()).unwrap();
    assert!(content[DEBT].is_string() && content[PUPPET].is_string());
    let room = stage.room(CONTACT);
    stage.pass(1_000);
    // A client that forwards all that an event holds.
    stage.matrix(&room, OWNER, "m.room.message", None, &content);
    // One that quotes it, with the marks left in the new content.
    let mut edit = content.clone();
    edit["body"] = json!("* look here");
    edit["m.new_content"] =
        json!({ "msgtype": "m.text", "body": "look here", DEBT: content[DEBT], PUPPET: content[PUPPET] });
    edit["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": echo.id });
    stage.matrix(&room, OWNER, "m.room.message", None, &edit);
    // One that makes up the marks.
    let forged = json!({ "msgtype": "m.text", "body": "forged", DEBT: content[DEBT], PUPPET: "00000000000000000000000000000000" });
    stage.matrix(&room, OWNER, "m.room.message", None, &forged);
    assert_eq!(stage.texts_to(CONTACT), ["look", "* look here", "forged"]);
    assert_eq!(stage.ignored("copy of what was said in a person's name"), 3);
}

#[test]
fn a_copy_in_another_chat_and_by_someone_else_proves_nothing() {
    let mut stage = puppets(&format!("{JULIET}<item jid='tybalt@capulet.lit' subscription='both'/>"));
    elsewhere(&mut stage, "id='p1'><body>look</body>");
    let echo = echoes(&stage).pop().unwrap();
    // With the very time, which no client can give it: another room is enough.
    let other = stage.room("tybalt@capulet.lit");
    let copy = RoomEvent { room: other, id: ruma::owned_event_id!("$copy"), ..echo.clone() };
    stage.transaction(vec![copy], Vec::new());
    assert_eq!(stage.texts_to("tybalt@capulet.lit"), ["look"]);
    let guest =
        RoomEvent { sender: ruma::owned_user_id!("@paris:h.test"), id: ruma::owned_event_id!("$guest"), ..echo };
    stage.transaction(vec![guest], Vec::new());
    assert!(stage.texts_to(CONTACT).is_empty());
    assert_eq!(stage.ignored("said in a portal by someone else"), 1);
}

#[test]
fn where_the_homeserver_gives_times_of_its_own_the_echo_in_hand_is_known_too() {
    let mut stage = puppets(JULIET);
    stage.unanswered = Some(|call| matches!(call, MatrixCall::Send { user, .. } if user == OWNER));
    elsewhere(&mut stage, "id='p1'><body>hello</body>");
    let mut echo = echoes(&stage).pop().unwrap();
    echo.at.0 += 17;
    stage.transaction(vec![echo.clone()], Vec::new());
    assert!(stage.texts_to(CONTACT).is_empty());
    assert_eq!(stage.engine.debts(), 0);
    stage.transaction(vec![echo], Vec::new());
    assert!(stage.texts_to(CONTACT).is_empty());
}

#[test]
fn edits_reactions_retractions_and_files_elsewhere_are_the_persons_own() {
    let mut stage = puppets(JULIET);
    elsewhere(&mut stage, "id='p1'><body>teh</body>");
    elsewhere(&mut stage, "id='p2'><body>the</body><replace xmlns='urn:xmpp:message-correct:0' id='p1'/>");
    stage.server_sends(&format!("<message from='{CONTACT}/b' type='chat' id='j1'><body>hi</body></message>"));
    elsewhere(
        &mut stage,
        "id='p3'><reactions xmlns='urn:xmpp:reactions:0' id='j1'><reaction>👍</reaction></reactions>",
    );
    let file = "<x xmlns='jabber:x:oob'><url>https://f.test/a.png</url></x>";
    elsewhere(&mut stage, &format!("id='p4'><body>https://f.test/a.png</body>{file}"));
    let sent: Vec<(String, Value)> = stage
        .calls
        .iter()
        .filter_map(|call| match call {
            MatrixCall::Send { user, kind, content, .. } if user == OWNER => {
                Some((kind.clone(), serde_json::from_str(content).unwrap()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(sent.len(), 4, "{sent:#?}");
    let first = stage.event_saying("teh");
    assert_eq!(sent[1].1["m.relates_to"], json!({ "rel_type": "m.replace", "event_id": first }));
    assert_eq!((sent[2].0.as_str(), &sent[2].1["m.relates_to"]["key"]), ("m.reaction", &json!("👍")));
    assert_eq!(sent[3].1["msgtype"], "m.image");
    let echoes = echoes(&stage);
    stage.transaction(echoes, Vec::new());
    // Taken back there: redacted by the person here, whose redaction is not told to the contact.
    elsewhere(&mut stage, "id='p5'><body>gone</body><retract xmlns='urn:xmpp:message-retract:1' id='p1'/>");
    let by: Vec<&OwnedUserId> = stage
        .calls
        .iter()
        .filter_map(|call| match call {
            MatrixCall::Redact { user, event, .. } if event.as_str() == first => Some(user),
            _ => None,
        })
        .collect();
    assert_eq!(by, [&owner()]);
    let room = stage.room(CONTACT);
    stage.matrix(&room, OWNER, "m.room.redaction", None, &json!({ "redacts": first }));
    assert!(stage.messages_to(CONTACT).is_empty(), "{:?}", stage.messages_to(CONTACT));
}

#[test]
fn what_was_said_in_matrix_is_edited_in_the_persons_name() {
    let mut stage = puppets(JULIET);
    let room = stage.room(CONTACT);
    stage.says(&room, "teh");
    let event = stage.last_event();
    let id = stage.messages_to(CONTACT)[0].attr("id").unwrap().to_owned();
    elsewhere(&mut stage, &format!("id='p2'><body>the</body><replace xmlns='urn:xmpp:message-correct:0' id='{id}'/>"));
    let heard = stage.heard(CONTACT);
    assert_eq!(heard[0].sender, OWNER);
    assert_eq!(heard[0].content["m.relates_to"], json!({ "rel_type": "m.replace", "event_id": event }));
    let echoes = echoes(&stage);
    stage.transaction(echoes, Vec::new());
    assert_eq!(stage.texts_to(CONTACT), ["teh"]);
}

#[test]
fn the_person_is_in_their_rooms_by_themselves_and_they_are_direct() {
    let stage = puppets(JULIET);
    let room = stage.room(CONTACT);
    let joined: Vec<String> = stage
        .calls
        .iter()
        .filter_map(|call| match call {
            MatrixCall::Join { room, user } if user == OWNER => Some(room.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(joined, [room.to_string(), super::stage::room_for("space").to_string()]);
    let ghost = stage.ghost(CONTACT);
    assert!(stage.calls.iter().any(|call| matches!(call,
        MatrixCall::ListDirect { user, room: r, ghost: g, listed: true } if user == OWNER && *r == room && *g == ghost)));
    assert!(stage.followed.contains_key(&owner()));
}

#[test]
fn to_be_let_in_accepts_nobody_and_strangers_rooms_are_joined_by_hand() {
    let mut stage = puppets("");
    stage.server_sends("<presence from='tybalt@capulet.lit' type='subscribe'/>");
    stage.phone_sends("tybalt@capulet.lit/x", "villain");
    stage.pass(5_000);
    let room = stage.room("tybalt@capulet.lit");
    let joins = |stage: &Stage| {
        let join =
            |call: &&MatrixCall| matches!(call, MatrixCall::Join { room: r, user } if user == OWNER && *r == room);
        stage.calls.iter().filter(join).count()
    };
    assert_eq!(joins(&stage), 0);
    // One's own message joins, and still accepts nobody.
    stage.server_sends(
        "<message from='romeo@montague.lit' to='romeo@montague.lit/x'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
         <message xmlns='jabber:client' from='romeo@montague.lit/phone' to='tybalt@capulet.lit' type='chat'><body>tut</body></message></forwarded></sent></message>",
    );
    assert_eq!(joins(&stage), 1);
    stage.matrix(&room, OWNER, "m.room.member", Some(OWNER), &json!({ "membership": "join" }));
    assert!(!stage.bot_said().iter().any(|said| said.contains("is accepted")), "{:?}", stage.bot_said());
}

#[test]
fn where_the_homeserver_refuses_it_the_ghost_speaks_and_nothing_is_lost() {
    let mut stage = puppets(JULIET);
    stage.refuses = Some(
        |call| matches!(call, MatrixCall::Send { user, .. } | MatrixCall::Join { user, .. } | MatrixCall::Redact { user, .. } if user == OWNER),
    );
    elsewhere(&mut stage, "id='p1'><body>one</body>");
    elsewhere(&mut stage, "id='p2'><body>two</body><replace xmlns='urn:xmpp:message-correct:0' id='p1'/>");
    elsewhere(&mut stage, "id='p3'><body>three</body>");
    stage.pass(10_000);
    let ghost = stage.ghost(OWN_GHOST).to_string();
    let heard: Vec<(String, String)> =
        stage.heard(CONTACT).iter().map(|said| (said.sender.clone(), said.body().to_owned())).collect();
    let by = |text: &str| (ghost.clone(), text.to_owned());
    assert_eq!(heard, [by("one"), by("* two"), by("three")]);
    let edit = &stage.heard(CONTACT)[1].content["m.relates_to"]["rel_type"];
    assert_eq!(edit, "m.replace", "the ghost has said it, so it can change it");
    elsewhere(&mut stage, "id='p5'><body>gone</body><retract xmlns='urn:xmpp:message-retract:1' id='p3'/>");
    assert_eq!(stage.redactions(CONTACT), 1, "the bot can");
    assert_eq!(stage.engine.debts(), 0);
}

#[test]
fn other_homeservers_people_are_never_acted_for() {
    let mut settings = Stage::settings();
    settings.double_puppet = true;
    settings.permissions =
        vec![(messenger_bridge::bridge::PermissionKey::Anyone, messenger_bridge::bridge::Permission::User)];
    let mut stage = Stage::with(settings);
    let other = "@romeo:elsewhere.test";
    stage.answers.insert("jabber:iq:roster", format!("<query xmlns='jabber:iq:roster'>{JULIET}</query>"));
    stage.management(other);
    let room = super::stage::room_for(&format!("management {other}"));
    let login = json!({ "msgtype": "m.text", "body": "login xmpp romeo@montague.lit secret" });
    stage.matrix(&room, other, "m.room.message", None, &login);
    stage.pass(10_000);
    elsewhere(&mut stage, "id='p1'><body>hello</body>");
    assert_eq!(stage.heard(CONTACT)[0].sender, stage.ghost(OWN_GHOST).as_str());
    assert!(stage.followed.is_empty());
    let acts = stage.calls.iter().any(|call| matches!(call,
        MatrixCall::Join { user, .. } | MatrixCall::Send { user, .. } | MatrixCall::ListDirect { user, .. } if user == other));
    assert!(!acts);
}

#[test]
fn account_data_is_followed_from_where_it_was_and_while_there_is_a_login() {
    let mut stage = puppets(JULIET);
    assert_eq!(stage.followed.get(&owner()), Some(&None), "all of it at first");
    stage.command("ping");
    assert!(stage.last_word().contains("Double puppeting is on"), "{}", stage.last_word());
    stage.play(Input::Followed { owner: owner(), since: "s1".to_owned(), whole: true });
    stage.crash();
    assert_eq!(stage.followed.get(&owner()), Some(&Some("s1".to_owned())));
    stage.command("logout romeo@montague.lit");
    assert!(stage.followed.is_empty());
    assert_eq!(stage.engine.store().followed(&owner()).unwrap(), None);
}

#[test]
fn a_token_that_the_homeserver_does_not_know_is_not_tried_for_each_message() {
    let mut stage = puppets(JULIET);
    // What is asked for in the person's name finds nobody who knows the token.
    stage.refusal = "M_UNKNOWN_TOKEN";
    stage.refuses = Some(|call| matches!(call, MatrixCall::Send { user, .. } if user == OWNER));
    for n in 0..3 {
        elsewhere(&mut stage, &format!("id='p{n}'><body>{n}</body>"));
    }
    stage.refuses = None;
    let ghost = stage.ghost(OWN_GHOST);
    assert!(stage.heard(CONTACT).iter().all(|said| said.sender == ghost.as_str()));
    assert_eq!(stage.bodies(CONTACT), ["0", "1", "2"]);
    assert_eq!(stage.ignored("owner's ghost speaks for them"), 1);
    stage.command("ping");
    assert!(stage.last_word().contains("does not work for you"), "{}", stage.last_word());
    // Installed meanwhile.
    stage.pass(11 * 60_000);
    elsewhere(&mut stage, "id='p9'><body>9</body>");
    assert_eq!(stage.heard(CONTACT).last().unwrap().sender, OWNER);
}
