//! What clients are told of what can be said in a room.

use messenger_bridge::{
    bridge::Settings,
    domain::output::{MatrixCall, RoomKind},
};
use serde_json::Value;

use super::stage::Stage;

const KIND: &str = "com.beeper.room_features";
const JULIET: &str = "juliet@capulet.lit";
const ROSTER: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";

/// What the rooms were told, in order, with the state key.
fn told(stage: &Stage) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for call in &stage.calls {
        match call {
            MatrixCall::CreateRoom(room) if room.kind == RoomKind::Direct => {
                let initial = room.state.iter().filter(|(kind, ..)| kind == KIND);
                found.extend(initial.map(|(_, key, content)| (key.clone(), content.clone())));
            }
            MatrixCall::SetState { kind, key, content, .. } if kind == KIND => {
                found.push((key.clone(), content.clone()));
            }
            _ => {}
        }
    }
    found.into_iter().map(|(key, content)| (key, serde_json::from_str(&content).unwrap())).collect()
}

/// Juliet's app comes, with these abilities of its own.
fn comes(stage: &mut Stage, app: &str, features: &[&str]) {
    let features: String = features.iter().map(|feature| format!("<feature var='{feature}'/>")).collect();
    let answer = format!("<query xmlns='http://jabber.org/protocol/disco#info'>{features}</query>");
    stage.answers.insert("http://jabber.org/protocol/disco#info", answer);
    stage.server_sends(&format!(
        "<presence from='{JULIET}/{app}'><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='{app}'/></presence>"
    ));
}

#[test]
fn a_room_is_made_with_its_features_and_told_when_the_contact_turns_out_to_know_more() {
    let mut stage = Stage::xmpp(ROSTER);
    let first = told(&stage);
    assert_eq!(first.len(), 1, "{first:?}");
    let key = format!("org.messenger_bridge://xmpp/{}", stage.login());
    assert_eq!((first[0].0.as_str(), &first[0].1["edit"]), (key.as_str(), &Value::from(1)));
    assert_eq!(first[0].1["file"]["m.image"]["max_size"], 1_000_000);
    stage.pass(3_600_000);
    assert_eq!(told(&stage).len(), 1, "nothing has changed");
    comes(&mut stage, "new", &["urn:xmpp:message-correct:0", "urn:xmpp:reactions:0"]);
    stage.pass(20_000);
    let second = told(&stage);
    assert_eq!((second.len(), &second[1].0), (2, &key));
    assert_eq!(
        (&second[1].1["edit"], &second[1].1["reaction"], &second[1].1["reply"]),
        (&2.into(), &2.into(), &1.into())
    );
    assert_ne!(second[0].1["id"], second[1].1["id"]);
    // What was told is known after a restart, too.
    stage.crash();
    stage.pass(3_600_000);
    assert_eq!(told(&stage).len(), 2);
}

#[test]
fn apps_that_come_and_go_make_an_event_now_and_then_at_most() {
    let mut stage = Stage::xmpp(ROSTER);
    let before = told(&stage).len();
    for round in 0..60 {
        let features: &[&str] = if round % 2 == 0 { &["urn:xmpp:message-correct:0"] } else { &["urn:xmpp:reply:0"] };
        comes(&mut stage, &format!("app{round}"), features);
        stage.pass(30_000);
        stage.server_sends(&format!("<presence from='{JULIET}/app{round}' type='unavailable'/>"));
        stage.pass(30_000);
    }
    let events = told(&stage).len() - before;
    assert!((1..=7).contains(&events), "{events} events in an hour");
}

#[test]
fn where_the_server_takes_files_is_told_once_it_is_known() {
    let mut stage = Stage::xmpp(ROSTER);
    stage.answers.insert(
        "http://jabber.org/protocol/disco#items",
        "<query xmlns='http://jabber.org/protocol/disco#items'/>".to_owned(),
    );
    stage.answers.insert(
        "http://jabber.org/protocol/disco#info",
        "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:xmpp:http:upload:0'/>\
         <x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>urn:xmpp:http:upload:0</value></field>\
         <field var='max-file-size'><value>5000</value></field></x></query>"
            .to_owned(),
    );
    let room = stage.room(JULIET);
    let file =
        serde_json::json!({ "msgtype": "m.file", "body": "a.txt", "url": "mxc://h.test/a", "info": { "size": 10 } });
    stage.matrix(&room, super::stage::OWNER, "m.room.message", None, &file);
    stage.pass(20_000);
    let last = told(&stage).pop().unwrap().1;
    assert_eq!(last["file"]["m.file"]["max_size"], 5000, "{last}");
    // On a new session it is not known until it is asked again; until then it is what it was.
    let before = told(&stage).len();
    stage.cut(false);
    stage.pass(3_600_000);
    assert_eq!(told(&stage).len(), before);
}

#[test]
fn a_network_without_files_says_so_and_a_change_of_the_operators_is_told_after_the_next_start() {
    let mut stage = Stage::messenger("<item jid='friend@messenger.live.com' subscription='both'/>");
    let first = told(&stage);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].1["file"]["m.image"]["mime_types"]["*/*"], -2);
    let key = messenger_bridge::domain::file::LinkKey::new(zeroize::Zeroizing::new([7; 32]));
    let public = messenger_bridge::bridge::PublicMedia { address: "https://b.test".to_owned(), expires: 1_000, key };
    stage.change(Settings { public_media: Some(public), ..Stage::settings() });
    stage.crash();
    stage.pass(60_000);
    let second = told(&stage);
    assert_eq!(second.len(), 2);
    assert_eq!(second[1].1["file"]["m.image"]["max_size"], 1_000_000);
}

#[test]
fn a_room_that_takes_anothers_place_is_told_too() {
    let mut stage = Stage::xmpp(ROSTER);
    let room = stage.room(JULIET);
    stage.says(&room, "!msgr sync-portal");
    stage.pass(5_000);
    assert_eq!(told(&stage).len(), 2, "set right by hand");
}
