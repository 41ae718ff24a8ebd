//! People on the other side, for who asks by the API: contacts, search, who somebody is, and the room of their chat.

use messenger_bridge::domain::{
    Ticket,
    output::{MatrixCall, RoomKind},
    request::{Person, RefusalCode, Request, Response, Wish},
};
use ruma::UserId;

use super::stage::{OWNER, Stage};

const ROSTER: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>\
                      <item jid='nurse@capulet.lit' name='Angelica' subscription='both'/>";
const LOOKUP: &str = "http://messenger.live.com/xmpp/jidlookup";

fn person(owner: &str, wish: Wish) -> Request {
    Request::Person { owner: UserId::parse(owner).unwrap(), wish }
}

fn people(stage: &mut Stage, wish: Wish) -> Vec<Person> {
    match stage.ask(person(OWNER, wish)).1 {
        Some(Response::People(people)) => people,
        other => panic!("{other:?}"),
    }
}

fn resolve(stage: &mut Stage, who: &str, open: bool) -> (Ticket, Option<Response>) {
    stage.ask(person(OWNER, Wish::Resolve { login: None, who: who.to_owned(), open }))
}

fn resolved(response: Option<Response>) -> Person {
    match response {
        Some(Response::Resolved(person)) => *person,
        other => panic!("{other:?}"),
    }
}

fn refused(response: Option<Response>) -> (RefusalCode, String) {
    match response {
        Some(Response::Refused(refusal)) => (refusal.code, refusal.sentence),
        other => panic!("{other:?}"),
    }
}

fn makes_chats(call: &MatrixCall) -> bool {
    matches!(call, MatrixCall::CreateRoom(room) if room.kind == RoomKind::Direct)
}

#[test]
fn contacts_are_listed_and_searched_by_name_and_address_and_each_has_ghost_and_room() {
    let mut stage = Stage::xmpp(ROSTER);
    let all = people(&mut stage, Wish::Contacts { login: None });
    let names: Vec<_> = all.iter().map(|person| person.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["Angelica", "Juliet"]);
    let juliet = &all[1];
    assert_eq!(juliet.ghost.as_ref(), Some(&stage.ghost("juliet@capulet.lit")));
    assert_eq!(juliet.room.as_ref(), Some(&stage.room("juliet@capulet.lit")));
    let found =
        |stage: &mut Stage, text: &str| people(stage, Wish::Search { login: None, text: text.to_owned() }).len();
    assert_eq!(
        (
            found(&mut stage, "ANGEL"),
            found(&mut stage, "capulet"),
            found(&mut stage, " juliet "),
            found(&mut stage, "x")
        ),
        (1, 2, 1, 0)
    );
    let login = stage.login().to_string();
    assert_eq!(people(&mut stage, Wish::Contacts { login: Some(login) }).len(), 2);
    let nobodys = Wish::Contacts { login: Some("tybalt@capulet.lit".to_owned()) };
    assert_eq!(refused(stage.ask(person(OWNER, nobodys)).1).0, RefusalCode::NoSuchLogin);
    let long = Wish::Search { login: None, text: "x".repeat(2_000) };
    assert_eq!(refused(stage.ask(person(OWNER, long)).1).0, RefusalCode::Unreadable);
}

#[test]
fn nobody_is_told_of_anothers_contacts() {
    let mut stage = Stage::xmpp(ROSTER);
    let (login, ghost) = (stage.login().to_string(), stage.ghost("juliet@capulet.lit").to_string());
    for wish in [
        Wish::Contacts { login: None },
        Wish::Contacts { login: Some(login.clone()) },
        Wish::Search { login: Some(login.clone()), text: String::new() },
        Wish::Resolve { login: Some(login), who: "juliet@capulet.lit".to_owned(), open: true },
    ] {
        let (code, _) = refused(stage.ask(person("@paris:h.test", wish)).1);
        assert_eq!(code, RefusalCode::NoSuchLogin);
    }
    let wish = Wish::Resolve { login: None, who: ghost, open: true };
    assert_eq!(refused(stage.ask(person("@paris:h.test", wish)).1).0, RefusalCode::NoSuchPerson);
}

#[test]
fn an_address_a_uri_and_a_ghost_are_the_same_contact() {
    let mut stage = Stage::xmpp(ROSTER);
    let ghost = stage.ghost("juliet@capulet.lit").to_string();
    for who in ["juliet@capulet.lit", "Juliet@Capulet.lit", "xmpp:juliet@capulet.lit", ghost.as_str()] {
        let juliet = resolved(resolve(&mut stage, who, false).1);
        assert_eq!((juliet.contact.as_str(), juliet.name.as_deref()), ("juliet@capulet.lit", Some("Juliet")), "{who}");
    }
    // Somebody who is no contact has an address, and no room.
    let tybalt = resolved(resolve(&mut stage, "tybalt@capulet.lit", false).1);
    assert_eq!((tybalt.room, tybalt.avatar), (None, None));
    assert_eq!(refused(resolve(&mut stage, "romeo@montague.lit", true).1).0, RefusalCode::Unreadable);
    assert_eq!(refused(resolve(&mut stage, "no@address@", true).1).0, RefusalCode::NoSuchPerson);
    for nobody in ["@messenger_x:h.test", "@juliet:h.test", "@", &ghost.replace("juliet", "tybalt")] {
        assert_eq!(refused(resolve(&mut stage, nobody, true).1).0, RefusalCode::NoSuchPerson, "{nobody}");
    }
}

#[test]
fn a_chat_is_opened_and_answered_once_its_room_is_there() {
    let mut stage = Stage::xmpp(ROSTER);
    stage.unanswered = Some(makes_chats);
    let (ticket, response) = resolve(&mut stage, "tybalt@capulet.lit", true);
    assert!(response.is_none(), "{response:?}");
    let (second, response) = resolve(&mut stage, "tybalt@capulet.lit", true);
    assert!(response.is_none(), "whoever asks twice waits twice");
    stage.pass(5_000);
    assert!(stage.responses.is_empty());
    stage.unanswered = None;
    stage.crash();
    assert!(stage.responses.is_empty(), "who waited for the process that died waits no more");
    let _ = (ticket, second);
    let tybalt = resolved(resolve(&mut stage, "tybalt@capulet.lit", true).1);
    assert_eq!(tybalt.room, Some(stage.room("tybalt@capulet.lit")));
    let made = stage.calls.iter().filter(|call| matches!(call, MatrixCall::CreateRoom(room) if room.look_first.is_none() && room.kind == RoomKind::Direct));
    assert_eq!(made.count(), 3, "two of the roster, and one");
    let juliet = resolved(resolve(&mut stage, "juliet@capulet.lit", true).1);
    assert_eq!(juliet.room, Some(stage.room("juliet@capulet.lit")));
}

#[test]
fn who_waits_for_a_room_is_told_when_it_cannot_be_made_or_the_login_goes() {
    let mut stage = Stage::xmpp("");
    stage.refuses = Some(makes_chats);
    let (ticket, response) = resolve(&mut stage, "tybalt@capulet.lit", true);
    let response = response.or_else(|| stage.responses.remove(&ticket));
    let (code, sentence) = refused(response);
    assert_eq!(code, RefusalCode::NotNow);
    assert!(sentence.contains("cannot be made"), "{sentence}");
    stage.refuses = None;
    stage.unanswered = Some(makes_chats);
    let (ticket, response) = resolve(&mut stage, "paris@verona.lit", true);
    assert!(response.is_none());
    stage.command("logout romeo@montague.lit");
    assert_eq!(refused(stage.responses.remove(&ticket)).0, RefusalCode::NoSuchLogin);
}

#[test]
fn so_many_wait_for_rooms_and_no_more() {
    let mut stage = Stage::xmpp("");
    stage.unanswered = Some(makes_chats);
    for number in 0..16 {
        assert!(resolve(&mut stage, &format!("friend{number}@capulet.lit"), true).1.is_none());
    }
    assert_eq!(refused(resolve(&mut stage, "one-more@capulet.lit", true).1).0, RefusalCode::NotNow);
    stage.pass(11 * 60_000);
    assert_eq!(stage.responses.len(), 16, "who waited too long is told so");
}

#[test]
fn an_email_address_is_looked_up_and_answered_here_and_not_by_the_bot() {
    let mut stage = Stage::messenger("");
    let one = format!("<getjid xmlns='{LOOKUP}'><jid>aa@messenger.live.com</jid></getjid>");
    let two =
        format!("<getjid xmlns='{LOOKUP}'><jid>aa@messenger.live.com</jid><jid>bb@messenger.live.com</jid></getjid>");
    let before = stage.bot_said().len();
    assert_eq!(refused_later(&mut stage, "mailto:nobody@hotmail.com").0, RefusalCode::NoSuchPerson);
    stage.answers.insert(LOOKUP, one);
    let (ticket, response) = resolve(&mut stage, "friend@hotmail.com", false);
    let friend = resolved(response.or_else(|| stage.responses.remove(&ticket)));
    assert_eq!((friend.contact.as_str(), friend.room), ("aa@messenger.live.com", None), "asking opens nothing");
    let (ticket, response) = resolve(&mut stage, "friend@hotmail.com", true);
    let friend = resolved(response.or_else(|| stage.responses.remove(&ticket)));
    assert_eq!(friend.room, Some(stage.room("aa@messenger.live.com")));
    stage.answers.insert(LOOKUP, two);
    let (code, sentence) = refused_later(&mut stage, "twins@hotmail.com");
    assert_eq!(code, RefusalCode::Unreadable);
    assert!(sentence.contains("aa@messenger.live.com, bb@messenger.live.com. Please say which one."), "{sentence}");
    stage.silent.push(LOOKUP);
    let (ticket, response) = resolve(&mut stage, "cut@hotmail.com", true);
    assert!(response.is_none());
    stage.hush();
    assert!(refused(stage.responses.remove(&ticket)).1.contains("cut@hotmail.com could not be looked up"));
    assert_eq!(stage.bot_said().len(), before, "{:?}", stage.bot_said());
}

fn refused_later(stage: &mut Stage, who: &str) -> (RefusalCode, String) {
    let (ticket, response) = resolve(stage, who, true);
    refused(response.or_else(|| stage.responses.remove(&ticket)))
}
