//! Signing out, and what becomes of the rooms.

use messenger_bridge::{
    bridge::Settings,
    domain::{
        output::{Ephemeral, MatrixCall},
        request::{Connection, Response, RoomsAfterLogout, Wish},
    },
};
use ruma::presence::PresenceState;

use super::stage::{BOT, OWNER, Stage};
use messenger_bridge::domain::request::Request;

fn roster() -> Stage {
    Stage::xmpp("<item jid='juliet@capulet.lit' subscription='both'/>")
}

fn left(stage: &Stage, room: &ruma::RoomId) -> Vec<String> {
    let left = stage.calls.iter().filter_map(|call| match call {
        MatrixCall::Leave { room: of, user } if of == room => Some(user.to_string()),
        _ => None,
    });
    left.collect()
}

/// Whom the bot has taken out of a room.
fn removed(stage: &Stage, room: &ruma::RoomId) -> Vec<String> {
    let removed = stage.calls.iter().filter_map(|call| match call {
        MatrixCall::SetState { room: of, kind, key, content, .. }
            if of == room && kind == "m.room.member" && content.contains("leave") =>
        {
            Some(key.clone())
        }
        _ => None,
    });
    removed.collect()
}

#[test]
fn by_leaving_the_person_keeps_the_rooms() {
    let mut stage = roster();
    let room = stage.room("juliet@capulet.lit");
    stage.command("logout romeo@montague.lit leave");
    assert!(left(&stage, &room).contains(&BOT.to_owned()) && removed(&stage, &room).is_empty());
}

#[test]
fn by_deleting_the_person_is_taken_out_before_the_bot_leaves() {
    let mut stage = roster();
    let room = stage.room("juliet@capulet.lit");
    stage.command("logout romeo@montague.lit delete");
    assert_eq!(removed(&stage, &room), [OWNER]);
    let place = |wanted: &dyn Fn(&MatrixCall) -> bool| stage.calls.iter().position(wanted).unwrap();
    let out = place(
        &|call| matches!(call, MatrixCall::SetState { kind, room: of, .. } if kind == "m.room.member" && *of == room),
    );
    let bot = place(&|call| matches!(call, MatrixCall::Leave { user, room: of } if user == BOT && *of == room));
    assert!(out < bot);
    assert!(stage.engine.store().logins().unwrap().is_empty());
}

#[test]
fn by_doing_nothing_the_rooms_wait_and_what_it_signs_in_with_is_gone() {
    let mut stage = roster();
    let (room, login) = (stage.room("juliet@capulet.lit"), stage.login());
    let rooms = |stage: &Stage| stage.calls.iter().filter(|call| matches!(call, MatrixCall::CreateRoom(_))).count();
    stage.server_sends("<presence from='juliet@capulet.lit/a'/>");
    stage.command("logout romeo@montague.lit nothing");
    assert!(stage.stream.is_none() && left(&stage, &room).is_empty() && removed(&stage, &room).is_empty());
    assert!(stage.engine.store().credentials(&login).unwrap().is_none());
    let away = |ephemeral: &Ephemeral| matches!(ephemeral, Ephemeral::Presence { state, .. } if *state == PresenceState::Offline);
    assert!(stage.ephemerals.iter().any(away), "the contact is no longer seen to be there");
    stage.says(&room, "waits");
    let (before, connects) = (rooms(&stage), stage.connects.len());
    stage.crash();
    stage.pass(3_600_000);
    assert_eq!(stage.connects.len(), connects, "it does not connect by itself");
    let Some(Response::Overview(overview)) =
        stage.ask(Request::Person { owner: OWNER.try_into().unwrap(), wish: Wish::Overview }).1
    else {
        panic!()
    };
    assert_eq!(overview.logins[0].connection, Connection::SignedOut);
    assert_eq!(overview.logins[0].reason.as_deref(), Some("you signed out"));
    stage.command("relogin romeo@montague.lit secret");
    stage.pass(10_000);
    assert_eq!(stage.texts_to("juliet@capulet.lit"), ["waits"]);
    assert_eq!((rooms(&stage), stage.login()), (before, login), "in the same rooms");
}

#[test]
fn the_operators_choice_counts_where_the_person_makes_none() {
    let mut stage = Stage::with(Settings { after_logout: RoomsAfterLogout::Delete, ..Stage::settings() });
    stage.sign_in("<item jid='juliet@capulet.lit' subscription='both'/>");
    let room = stage.room("juliet@capulet.lit");
    stage.command("logout romeo@montague.lit");
    assert_eq!(removed(&stage, &room), [OWNER]);
    stage.command("logout romeo@montague.lit sideways");
    assert!(stage.last_word().contains("leave | delete | nothing"), "{}", stage.last_word());
}

#[test]
fn a_token_that_is_renewed_meanwhile_does_not_come_back() {
    let mut stage = Stage::messenger("");
    let login = stage.login();
    stage.command(&format!("logout {login} nothing"));
    assert!(stage.engine.store().credentials(&login).unwrap().is_none());
    stage.pass(24 * 3_600_000);
    assert!(stage.engine.store().credentials(&login).unwrap().is_none());
}

#[test]
fn by_the_api_one_login_or_all() {
    let mut stage = roster();
    let ask = |stage: &mut Stage, login: Option<&str>| {
        let wish = Wish::Logout { login: login.map(str::to_owned), rooms: None };
        stage.ask(Request::Person { owner: OWNER.try_into().unwrap(), wish }).1
    };
    assert!(matches!(ask(&mut stage, Some("nobody@h.test")), Some(Response::Refused(_))));
    assert!(matches!(ask(&mut stage, None), Some(Response::Done)));
    assert!(stage.last_word().contains("Signed out of romeo@montague.lit"));
    assert!(stage.engine.store().logins().unwrap().is_empty());
}
