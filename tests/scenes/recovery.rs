//! The store is lost, and rebuilt from the rooms that the bot is in: no second room, nothing twice, nothing of strangers.

use std::collections::BTreeMap;

use messenger_bridge::{
    domain::{
        BareJid, LoginId, Now, Timestamp,
        effect::ContactKey,
        input::RoomEvent,
        output::{MatrixCall, RoomKind},
        survey::SurveyedRoom,
    },
    engine::recovery::{Recovery, Report},
    store::{
        look::Decided,
        portal::{Membership, Portal, Room},
    },
};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId, owned_room_id};
use serde_json::{Value, json};

use super::stage::{BOT, OWNER, Stage, homeserver, room_for};

const JULIET: &str = "juliet@capulet.lit";
const TYBALT: &str = "tybalt@capulet.lit";
const ROSTER: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/><item jid='tybalt@capulet.lit' subscription='both'/>";
const MAM: &str = "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:xmpp:mam:2'/></query>";

fn event(room: &RoomId, sender: &UserId, kind: &str, key: Option<&str>, at: Timestamp, content: &Value) -> RoomEvent {
    RoomEvent {
        room: room.to_owned(),
        id: ruma::owned_event_id!("$e"),
        sender: sender.to_owned(),
        kind: kind.to_owned(),
        state_key: key.map(str::to_owned),
        at,
        content: serde_json::value::to_raw_value(content).unwrap(),
        redacts: None,
    }
}

fn member(room: &RoomId, who: &UserId, membership: &str, at: Timestamp) -> RoomEvent {
    event(room, who, "m.room.member", Some(who.as_str()), at, &json!({ "membership": membership }))
}

/// What the homeserver has of the rooms by now: what the bridge asked it for, and what people did.
fn rooms(stage: &Stage) -> Vec<SurveyedRoom> {
    let bot = UserId::parse(BOT).unwrap();
    let mut rooms: BTreeMap<OwnedRoomId, SurveyedRoom> = BTreeMap::new();
    let set = |room: &mut SurveyedRoom, new: RoomEvent| {
        room.state.retain(|old| (&old.kind, &old.state_key) != (&new.kind, &new.state_key));
        room.state.push(new);
    };
    for (call, at) in stage.calls.iter().zip(&stage.called) {
        match call {
            MatrixCall::CreateRoom(made) => {
                let id = match made.kind {
                    RoomKind::Space => room_for("space"),
                    RoomKind::Direct => room_for(made.invite.last().unwrap().as_str()),
                };
                let mut room = SurveyedRoom { room: id.clone(), state: Vec::new(), said: Vec::new() };
                for (kind, key, content) in &made.state {
                    let content = serde_json::from_str(content).unwrap();
                    room.state.push(event(&id, &bot, kind, Some(key), *at, &content));
                }
                room.state.push(event(&id, &bot, "m.room.name", Some(""), *at, &json!({ "name": made.name })));
                room.state.push(member(&id, &bot, "join", *at));
                room.state.extend(made.invite.iter().map(|who| member(&id, who, "invite", *at)));
                rooms.insert(id, room);
            }
            MatrixCall::Join { room: id, user } => {
                let room = rooms.entry(id.clone()).or_insert_with(|| {
                    let owner = member(id, &UserId::parse(OWNER).unwrap(), "join", *at);
                    SurveyedRoom { room: id.clone(), state: vec![owner], said: Vec::new() }
                });
                set(room, member(id, user, "join", *at));
            }
            MatrixCall::Send { room: id, user, kind, content, at: stamped, .. } => {
                let content = serde_json::from_str(content).unwrap();
                let said = event(id, user, kind, None, stamped.unwrap_or(*at), &content);
                rooms.get_mut(id).unwrap().said.push(said);
            }
            _ => {}
        }
    }
    for event in &stage.people {
        let Some(room) = rooms.get_mut(&event.room) else { continue };
        match event.kind.as_str() {
            "m.room.message" => room.said.push(event.clone()),
            "m.room.avatar" => set(room, event.clone()),
            "m.room.member" if event.state_key.as_deref() == Some(OWNER) => set(room, event.clone()),
            _ => {}
        }
    }
    rooms
        .into_values()
        .map(|mut room| {
            room.said.sort_by_key(|said| std::cmp::Reverse(said.at.0));
            room
        })
        .collect()
}

fn recover(stage: &mut Stage, rooms: Vec<SurveyedRoom>) -> Report {
    let mut report = None;
    let now = stage.now;
    stage.lose_store(|store| {
        let mut recovery = Recovery::new(homeserver(), Stage::settings());
        for room in rooms {
            recovery.take(room);
        }
        report = Some(recovery.finish(store, now).unwrap());
    });
    report.unwrap()
}

fn rooms_made(stage: &Stage) -> usize {
    stage.calls.iter().filter(|call| matches!(call, MatrixCall::CreateRoom(_))).count()
}

fn join(stage: &mut Stage, room: &RoomId) {
    stage.matrix(room, OWNER, "m.room.member", Some(OWNER), &json!({ "membership": "join" }));
}

/// A message that is delivered live and put into the archive.
fn live(stage: &mut Stage, id: &str, from: &str, body: &str) {
    archive(stage, id, from, "romeo@montague.lit", body);
    stage.server_sends(&format!(
        "<message from='{from}/b' type='chat' id='m{id}'><body>{body}</body><stanza-id xmlns='urn:xmpp:sid:0' by='romeo@montague.lit' id='{id}'/></message>"
    ));
}

fn archive(stage: &mut Stage, id: &str, from: &str, to: &str, body: &str) {
    let message = format!("<message from='{from}/b' to='{to}' type='chat' id='m{id}'><body>{body}</body></message>");
    stage.archive.push((id.to_owned(), stage.now.wall.to_xmpp(), message));
}

/// Rooms of two contacts in which something was said each way.
fn in_full_swing() -> Stage {
    let mut stage = Stage::with(Stage::settings());
    stage.answers.insert("http://jabber.org/protocol/disco#info romeo@montague.lit", MAM.to_owned());
    archive(&mut stage, "1", JULIET, "romeo@montague.lit", "long ago");
    stage.pass(3_600_000);
    stage.sign_in(ROSTER);
    let (juliet, tybalt) = (stage.room(JULIET), stage.room(TYBALT));
    join(&mut stage, &juliet);
    join(&mut stage, &tybalt);
    stage.matrix(&juliet, OWNER, "m.room.avatar", Some(""), &json!({ "url": "mxc://h.test/hers" }));
    live(&mut stage, "2", JULIET, "good morrow");
    stage.pass(600_000);
    stage.says(&juliet, "from Matrix");
    let id = stage.messages_to(JULIET)[0].attr("id").unwrap().to_owned();
    let own = format!(
        "<message from='romeo@montague.lit/x' to='{JULIET}' type='chat' id='{id}'><body>from Matrix</body></message>"
    );
    stage.archive.push(("3".to_owned(), stage.now.wall.to_xmpp(), own));
    stage.pass(2_000);
    live(&mut stage, "4", TYBALT, "peace?");
    live(&mut stage, "5", JULIET, "hist!");
    live(&mut stage, "6", JULIET, "hist!");
    assert_eq!(stage.bodies(JULIET), ["long ago", "good morrow", "hist!", "hist!"]);
    stage
}

#[test]
fn a_lost_store_is_rebuilt_without_a_second_room_and_without_a_message_twice() {
    let mut stage = in_full_swing();
    let (login, juliet) = (stage.login(), stage.room(JULIET));
    stage.pass(1_000);
    stage.says(&juliet, "said last");
    let id = stage.messages_to(JULIET).last().unwrap().attr("id").unwrap().to_owned();
    let own = format!(
        "<message from='romeo@montague.lit/x' to='{JULIET}' type='chat' id='{id}'><body>said last</body></message>"
    );
    stage.archive.push(("7".to_owned(), stage.now.wall.to_xmpp(), own));
    let (made, heard) = (rooms_made(&stage), stage.said().len());
    let surveyed = rooms(&stage);

    // While there is no bridge, both say something elsewhere, one of it in words that were said before.
    stage.pass(1_800_000);
    archive(&mut stage, "8", JULIET, "romeo@montague.lit", "hist!");
    archive(&mut stage, "9", "romeo@montague.lit", JULIET, "by phone");
    stage.pass(60_000);

    let report = recover(&mut stage, surveyed);
    let account = BareJid::parse("romeo@montague.lit").unwrap();
    assert_eq!(report.logins, [(UserId::parse(OWNER).unwrap(), "xmpp".to_owned(), account, 2)]);
    assert_eq!((report.management, report.foreign, report.abandoned), (1, 0, 0));
    assert_eq!(stage.login(), login);
    let told = stage.last_word();
    assert!(told.contains("sign in again with `login xmpp romeo@montague.lit`"), "{told}");

    // What the person writes meanwhile waits.
    stage.says(&juliet, "are you there?");
    assert!(stage.texts_to(JULIET).is_empty() || !stage.texts_to(JULIET).contains(&"are you there?".to_owned()));
    stage.command("login xmpp romeo@montague.lit secret");
    stage.pass(10_000);
    assert!(stage.bot_said().iter().any(|said| said.contains("Signed in to romeo@montague.lit again")));
    assert_eq!(rooms_made(&stage), made, "no second room");
    let new: Vec<String> = stage.said()[heard..]
        .iter()
        .filter(|said| said.room == juliet.as_str())
        .map(|said| said.body().to_owned())
        .collect();
    assert_eq!(new, ["hist!", "by phone"]);
    assert_eq!(stage.texts_to(JULIET), ["are you there?"]);

    // And on it goes, with nothing left of the recovery.
    live(&mut stage, "10", JULIET, "hist!");
    live(&mut stage, "11", TYBALT, "well?");
    stage.cut(false);
    assert_eq!(stage.bodies(JULIET), ["long ago", "good morrow", "hist!", "hist!", "hist!", "by phone", "hist!"]);
    assert_eq!(stage.bodies(TYBALT), ["peace?", "well?"]);
    let key = ContactKey { login, contact: BareJid::parse(JULIET).unwrap() };
    assert_eq!(stage.engine.store().recovered(&key).unwrap(), None);
    assert_eq!(stage.engine.store().look(&key).unwrap().avatar_by, Decided::Person);
    let space = stage.engine.store().space(&key.login).unwrap().unwrap();
    assert_eq!((space.room, space.creating), (Some(room_for("space")), None));
    assert_eq!(stage.engine.store().room(&room_for("space")).unwrap(), Some(Room::Space(key.login)));
}

#[test]
fn the_recent_archive_of_the_messenger_service_is_not_shown_again() {
    let jid = "juliet@messenger.live.com";
    let mut stage = Stage::messenger(&format!("<item jid='{jid}' subscription='both'/>"));
    let room = stage.room(jid);
    join(&mut stage, &room);
    let chat = |said: &[(bool, Timestamp, &str)]| {
        let entries: String = said
            .iter()
            .map(|(own, at, text)| {
                let name = if *own { "to" } else { "from" };
                format!("<{name} utc='{}'><body>{text}</body></{name}>", at.to_xmpp())
            })
            .collect();
        format!("<chat xmlns='urn:xmpp:archive' with='{jid}' start='2026-01-01T00:00:00Z'>{entries}</chat>")
    };
    let mut archive = Vec::new();
    // The server's clock is 20 s ahead of the homeserver's.
    let stamp = |stage: &Stage| Timestamp(stage.now.wall.0 + 20_000);
    archive.push((false, stamp(&stage), "one"));
    stage.phone_sends(jid, "one");
    stage.pass(300_000);
    archive.push((true, stamp(&stage), "two"));
    stage.says(&room, "two");
    stage.pass(1_000);
    archive.push((false, stamp(&stage), "three"));
    stage.phone_sends(jid, "three");
    let (surveyed, made) = (rooms(&stage), rooms_made(&stage));
    stage.pass(600_000);
    archive.push((false, stamp(&stage), "four"));
    let report = recover(&mut stage, surveyed);
    assert_eq!(report.logins.len(), 1);
    stage.answers.insert("urn:xmpp:archive", chat(&archive));
    stage.command("login messenger");
    stage.command("https://login.live.com/oauth20_desktop.srf?code=c&state=s");
    stage.pass(10_000);
    assert_eq!(stage.bodies(jid), ["one", "three", "four"]);
    stage.cut(false);
    assert_eq!((stage.bodies(jid).len(), rooms_made(&stage)), (3, made));
}

#[test]
fn an_older_export_goes_on_without_showing_again_what_came_after_it() {
    for recovered in [true, false] {
        let mut stage = in_full_swing();
        let export = stage.records();
        stage.pass(3_600_000);
        live(&mut stage, "7", JULIET, "after the export");
        stage.pass(600_000);
        live(&mut stage, "8", TYBALT, "just now");
        let surveyed = rooms(&stage);
        stage.pass(600_000);
        archive(&mut stage, "9", JULIET, "romeo@montague.lit", "while it was damaged");
        let now = stage.now;
        stage.replace_store(&export, |store| {
            let mut recovery = Recovery::new(homeserver(), Stage::settings());
            for room in surveyed {
                recovery.take(room);
            }
            if recovered {
                assert_eq!(recovery.finish(store, now).unwrap().known, 2);
            }
        });
        stage.pass(10_000);
        let times =
            |stage: &Stage, jid: &str, text: &str| stage.bodies(jid).iter().filter(|body| *body == text).count();
        assert_eq!(times(&stage, JULIET, "while it was damaged"), 1);
        let again = usize::from(!recovered);
        assert_eq!(times(&stage, JULIET, "after the export"), 1 + again, "recovered: {recovered}");
        assert_eq!(times(&stage, TYBALT, "just now"), 1 + again, "recovered: {recovered}");
        assert_eq!(times(&stage, JULIET, "hist!"), 2);
    }
}

#[test]
fn recovering_again_changes_nothing() {
    let mut stage = in_full_swing();
    let surveyed = rooms(&stage);
    recover(&mut stage, surveyed.clone());
    let before = stage.records();
    let mut recovery = Recovery::new(homeserver(), Stage::settings());
    for room in surveyed {
        recovery.take(room);
    }
    let report = recovery.finish(stage.store_again(), stage.now).unwrap();
    assert_eq!((report.known, report.logins.len(), report.doubles.len()), (2, 0, 0));
    let changed: Vec<_> = stage.records().into_iter().filter(|record| !before.contains(record)).collect();
    let keys: Vec<&[u8]> = changed.iter().map(|(key, _)| key.as_slice()).collect();
    assert_eq!(keys, [b"mbegan\0".as_slice(), b"mrecovery\0".as_slice()], "but when it was");
}

#[test]
fn rooms_of_an_older_store_are_added_to_it() {
    let mut stage = in_full_swing();
    let juliet = ContactKey { login: stage.login(), contact: BareJid::parse(JULIET).unwrap() };
    let surveyed = rooms(&stage);
    let only_tybalt: Vec<_> = surveyed.iter().filter(|room| room.room != stage.room(JULIET)).cloned().collect();
    recover(&mut stage, only_tybalt);
    assert_eq!(stage.engine.store().portal(&juliet).unwrap(), None);
    // Its room was owed when the store was saved.
    let mut store = stage.store_again();
    store
        .put_portal(&juliet, &Portal { creating: Some(messenger_bridge::domain::DebtId(7)), ..Portal::default() })
        .unwrap();
    store.commit().unwrap();
    let mut recovery = Recovery::new(homeserver(), Stage::settings());
    for room in surveyed {
        recovery.take(room);
    }
    let report = recovery.finish(stage.store_again(), stage.now).unwrap();
    assert_eq!((report.known, report.logins[0].3), (1, 1));
    let store = stage.store_again();
    let portal = store.portal(&juliet).unwrap().unwrap();
    assert_eq!(
        (portal.room.as_ref(), portal.creating, portal.owner),
        (Some(&stage.room(JULIET)), None, Membership::Joined)
    );
    assert_eq!(store.room(&stage.room(JULIET)).unwrap(), Some(Room::Portal(juliet)));
}

#[test]
fn forged_foreign_and_abandoned_rooms_are_left_alone() {
    let mut scene = in_full_swing();
    let (room, ghost) = (scene.room(JULIET), scene.ghost(JULIET));
    let all = rooms(&scene);
    let good = all.iter().find(|surveyed| surveyed.room == room).unwrap().clone();
    let changed = |change: &dyn Fn(&mut RoomEvent)| {
        let mut copy = good.clone();
        copy.state.iter_mut().for_each(change);
        copy
    };
    let edit = |event: &mut RoomEvent, edit: &dyn Fn(&mut Value)| {
        if event.kind == "m.bridge" {
            let mut content = serde_json::from_str(event.content.get()).unwrap();
            edit(&mut content);
            event.content = serde_json::value::to_raw_value(&content).unwrap();
        }
    };
    let mallory: OwnedUserId = UserId::parse("@mallory:h.test").unwrap();
    let other = LoginId::derive("@mallory:h.test", "xmpp", "romeo@montague.lit");
    let refused = [
        (
            "state set by somebody else",
            changed(&|event| {
                if event.kind == "m.bridge" {
                    event.sender = mallory.clone();
                }
            }),
        ),
        (
            "another owner than the login's",
            changed(&|event| edit(event, &|content| content["creator"] = json!(mallory))),
        ),
        (
            "another login than the owner's",
            changed(&|event| {
                edit(event, &|content| content["channel"]["org.messenger_bridge.login"] = json!(other.as_str()));
            }),
        ),
        (
            "another account",
            changed(&|event| {
                edit(event, &|content| content["channel"]["org.messenger_bridge.account"] = json!("paris@capulet.lit"));
            }),
        ),
        ("no contact", changed(&|event| edit(event, &|content| content["channel"]["id"] = json!("@@")))),
        (
            "the ghost has left",
            changed(&|event| {
                if event.state_key.as_deref() == Some(ghost.as_str()) {
                    event.content = serde_json::value::to_raw_value(&json!({ "membership": "leave" })).unwrap();
                }
            }),
        ),
        (
            "the ghost was never there",
            changed(&|event| {
                if event.state_key.as_deref() == Some(ghost.as_str()) {
                    event.state_key = Some(mallory.to_string());
                }
            }),
        ),
    ];
    for (what, planted) in refused {
        let mut recovery = Recovery::new(homeserver(), Stage::settings());
        recovery.take(planted);
        let report = recovery.finish(scene.store_again(), scene.now).unwrap();
        assert_eq!((report.logins.len(), report.known, report.management), (0, 0, 0), "{what}");
        assert_eq!(report.foreign + report.abandoned, 1, "{what}");
    }

    // A room of two is a management room only if the other is a person who may use the bridge.
    let at = scene.now.wall;
    let bot = UserId::parse(BOT).unwrap();
    for (who, management) in [(OWNER, 1), ("@stranger:elsewhere.test", 0), (ghost.as_str(), 0)] {
        let id = owned_room_id!("!two:h.test");
        let who = UserId::parse(who).unwrap();
        let state = vec![member(&id, &bot, "join", at), member(&id, &who, "join", at)];
        let mut recovery = Recovery::new(homeserver(), Stage::settings());
        assert_eq!(recovery.is_ours(&state), management == 1, "{who}");
        recovery.take(SurveyedRoom { room: id, state, said: Vec::new() });
        let mut report = None;
        scene.lose_store(|store| {
            report = Some(recovery.finish(store, Now { wall: at, uptime: 0 }).unwrap());
        });
        assert_eq!(report.unwrap().management, management, "{who}");
    }
}

#[test]
fn of_two_rooms_of_a_contact_the_one_with_the_person_in_it_is_taken() {
    let mut stage = in_full_swing();
    let owner = UserId::parse(OWNER).unwrap();
    let mut surveyed = rooms(&stage);
    let mut second = surveyed.iter().find(|surveyed| surveyed.room == stage.room(JULIET)).unwrap().clone();
    second.room = owned_room_id!("!zz:h.test");
    second.state.retain(|event| event.state_key.as_deref() != Some(OWNER));
    second.state.push(member(&second.room, &owner, "leave", stage.now.wall));
    for at in [0, surveyed.len()] {
        surveyed.insert(at, second.clone());
        let report = recover(&mut stage, surveyed.clone());
        assert_eq!((report.logins[0].3, report.doubles.as_slice()), (2, [second.room.clone()].as_slice()));
        assert_eq!(stage.engine.store().room(&second.room).unwrap(), None);
        surveyed.remove(at);
    }
}

#[test]
fn a_store_is_blank_until_something_is_in_it_and_after_a_recovery_no_more() {
    let mut stage = Stage::with(Stage::settings());
    assert!(stage.store_again().is_blank().unwrap());
    recover(&mut stage, Vec::new());
    assert!(!stage.store_again().is_blank().unwrap(), "a recovery that found nothing is not asked for again");
    let mut stage = Stage::with(Stage::settings());
    stage.management(OWNER);
    assert!(!stage.store_again().is_blank().unwrap());
}
