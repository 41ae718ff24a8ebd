//! Contacts: roster, rooms, names, photos, presence, subscriptions.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use messenger_bridge::{
    bridge::OfflineAs,
    domain::{
        Input,
        output::{Ephemeral, MatrixCall, RoomKind},
    },
};
use ruma::{UserId, presence::PresenceState};
use serde_json::json;

use super::stage::{OWNER, Stage};

fn names(stage: &Stage, jid: &str) -> Vec<String> {
    let ghost = stage.ghost(jid);
    stage
        .calls
        .iter()
        .filter_map(|call| match call {
            MatrixCall::SetDisplayName { user, name } if *user == ghost => Some(name.clone()),
            _ => None,
        })
        .collect()
}

fn rooms(stage: &Stage) -> usize {
    stage
        .calls
        .iter()
        .filter(|call| matches!(call, MatrixCall::CreateRoom(room) if room.kind == RoomKind::Direct))
        .count()
}

fn presences(stage: &Stage, jid: &str) -> Vec<(PresenceState, Option<String>)> {
    let ghost = stage.ghost(jid);
    stage
        .ephemerals
        .iter()
        .filter_map(|e| match e {
            Ephemeral::Presence { ghost: g, state, status, .. } if *g == ghost => Some((state.clone(), status.clone())),
            _ => None,
        })
        .collect()
}

#[test]
fn every_contact_gets_a_ghost_and_a_room_at_the_configured_pace_with_one_progress_line() {
    let mut stage = Stage::with(Stage::settings());
    let roster: String =
        (0..12).map(|n| format!("<item jid='c{n}@capulet.lit' name='C {n}' subscription='none'/>")).collect();
    let broken = "<item jid='' subscription='both'/><item jid='two words@x' subscription='both'/>";
    stage.answers.insert("jabber:iq:roster", format!("<query xmlns='jabber:iq:roster'>{broken}{roster}</query>"));
    stage.management(OWNER);
    stage.command("login xmpp romeo@montague.lit secret");
    assert_eq!(rooms(&stage), 1);
    stage.pass(2_000);
    assert!((4..=6).contains(&rooms(&stage)), "{}", rooms(&stage));
    stage.pass(10_000);
    assert_eq!(rooms(&stage), 12);
    assert_eq!(stage.ignored("roster item with an invalid address"), 2);
    let progress: Vec<_> = stage
        .said()
        .into_iter()
        .filter(|said| said.body().contains("contacts") && said.body().contains("romeo@montague.lit:"))
        .collect();
    assert!(progress.len() > 2);
    assert!(progress[0].content["m.relates_to"].is_null());
    assert!(progress[1..].iter().all(|said| said.content["m.relates_to"]["rel_type"] == "m.replace"));
    assert!(progress.iter().any(|said| said.body().contains(" of 12 rooms made")));
    assert!(stage.last_word().contains("all 12 contacts are here"), "{}", stage.last_word());
}

#[test]
fn with_rooms_for_messages_contacts_get_ghosts_only() {
    let mut settings = Stage::settings();
    settings.rooms_for_contacts = false;
    let mut stage = Stage::with(settings);
    stage.sign_in("<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>");
    assert_eq!(rooms(&stage), 0);
    assert_eq!(names(&stage, "juliet@capulet.lit"), ["Juliet"]);
    stage.phone_sends("juliet@capulet.lit", "hi");
    assert_eq!(rooms(&stage), 1);
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["hi"]);
}

#[test]
fn roster_pushes_add_rename_and_remove() {
    let mut stage = Stage::xmpp("");
    let push = |stage: &mut Stage, item: &str| {
        stage.server_sends(&format!(
            "<iq type='set' id='p' from='romeo@montague.lit'><query xmlns='jabber:iq:roster'>{item}</query></iq>"
        ));
        stage.pass(2_000);
    };
    push(&mut stage, "<item jid='juliet@capulet.lit' subscription='both'/>");
    assert_eq!((rooms(&stage), names(&stage, "juliet@capulet.lit")), (1, vec!["juliet".to_owned()]));
    push(&mut stage, "<item jid='juliet@capulet.lit' name='My love' subscription='both'/>");
    assert_eq!(names(&stage, "juliet@capulet.lit"), ["juliet", "My love"]);
    let renamed = stage.calls.iter().any(|call| matches!(call, MatrixCall::SetState { kind, content, .. } if kind == "m.room.name" && content.contains("My love")));
    assert!(renamed);
    push(&mut stage, "<item jid='juliet@capulet.lit' subscription='remove'/>");
    assert!(stage.bodies("juliet@capulet.lit").last().unwrap().contains("removed"));
    assert_eq!(
        stage.sent.iter().filter(|iq| iq.attr("type") == Some("result") && iq.attr("id") == Some("p")).count(),
        3
    );
}

#[test]
fn a_read_only_roster_never_gets_a_roster_set() {
    let mut stage = Stage::messenger("<item jid='juliet@messenger.live.com' subscription='both'/>");
    stage.command("start-chat tybalt@messenger.live.com");
    stage.server_sends("<presence type='subscribe' from='paris@messenger.live.com'/>");
    stage.command("accept paris@messenger.live.com");
    stage.pass(10_000);
    assert!(!stage.sent.iter().any(|iq| iq.name() == "iq"
        && iq.attr("type") == Some("set")
        && iq.children().any(|c| c.ns() == "jabber:iq:roster")));
}

#[test]
fn names_come_from_the_roster_then_the_vcard_and_photos_by_their_content() {
    let mut stage = Stage::with(Stage::settings());
    let png = STANDARD.encode(b"\x89PNG\r\n\x1a\nphoto");
    let card = |inner: &str| format!("<vCard xmlns='vcard-temp'>{inner}</vCard>");
    stage.answers.insert(
        "vcard-temp juliet@capulet.lit",
        card(&format!("<FN>Juliet Capulet</FN><NICKNAME>Jule</NICKNAME><PHOTO><BINVAL>{png}</BINVAL></PHOTO>")),
    );
    stage
        .answers
        .insert("vcard-temp nurse@capulet.lit", card("<FN>The Nurse</FN><PHOTO><BINVAL>PHN2Zy8+</BINVAL></PHOTO>"));
    stage.sign_in("<item jid='juliet@capulet.lit' subscription='both'/><item jid='nurse@capulet.lit' name='Nurse' subscription='both'/>");
    assert_eq!(names(&stage, "juliet@capulet.lit").last().map(String::as_str), Some("Jule"));
    assert_eq!(names(&stage, "nurse@capulet.lit"), ["Nurse"], "the roster's name comes first, and stays");
    let uploads: Vec<_> = stage
        .calls
        .iter()
        .filter_map(|call| match call {
            MatrixCall::Upload { mime, bytes, user } => Some((*mime, bytes.clone(), user.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(uploads, [("image/png", b"\x89PNG\r\n\x1a\nphoto".to_vec(), UserId::parse(super::stage::BOT).unwrap())]);
    assert_eq!(stage.ignored("photo of an unknown kind or size"), 1);
    // The same hash again asks for nothing; another one does, once.
    let asked =
        |stage: &Stage| stage.sent.iter().filter(|iq| iq.children().any(|c| c.is("vCard", "vcard-temp"))).count();
    let before = asked(&stage);
    for hash in ["aa", "aa", "bb"] {
        stage.server_sends(&format!(
            "<presence from='juliet@capulet.lit/b'><x xmlns='vcard-temp:x:update'><photo>{hash}</photo></x></presence>"
        ));
        stage.pass(10_000);
    }
    assert_eq!(asked(&stage), before + 2);
}

#[test]
fn a_contacts_presence_is_the_ghosts() {
    let mut stage = Stage::xmpp("<item jid='juliet@capulet.lit' subscription='both'/>");
    stage.server_sends("<presence from='juliet@capulet.lit/phone'><show>away</show><status>in the garden</status><priority>1</priority></presence>");
    stage.server_sends("<presence from='juliet@capulet.lit/desk'><show>dnd</show><priority>5</priority></presence>");
    stage.server_sends("<presence from='juliet@capulet.lit/desk' type='unavailable'/>");
    stage.server_sends("<presence from='juliet@capulet.lit/phone' type='unavailable'/>");
    assert_eq!(
        presences(&stage, "juliet@capulet.lit"),
        [
            (PresenceState::Unavailable, Some("in the garden".to_owned())),
            (PresenceState::Unavailable, None),
            (PresenceState::Unavailable, Some("in the garden".to_owned())),
            (PresenceState::Offline, None),
        ]
    );
    // Strangers' and one's own are nothing.
    stage.server_sends("<presence from='tybalt@capulet.lit/x'/>");
    stage.server_sends("<presence from='romeo@montague.lit/other'/>");
    assert_eq!(stage.ignored("presence of a stranger"), 1);
}

#[test]
fn the_persons_presence_is_what_contacts_see() {
    for (offline_as, kind, show) in [
        (OfflineAs::Away, None, Some("away")),
        (OfflineAs::ExtendedAway, None, Some("xa")),
        (OfflineAs::Unavailable, Some("unavailable"), None),
    ] {
        let mut settings = Stage::settings();
        settings.offline_as = offline_as;
        let mut stage = Stage::with(settings);
        stage.sign_in("<item jid='juliet@capulet.lit' subscription='both'/>");
        stage.is(PresenceState::Online, Some("at the feast"));
        stage.is(PresenceState::Unavailable, Some("at the feast"));
        stage.is(PresenceState::Unavailable, Some("at the feast"));
        stage.is(PresenceState::Offline, None);
        let seen: Vec<_> = stage
            .shown()
            .iter()
            .map(|p| {
                (
                    p.attr("type").map(str::to_owned),
                    p.get_child("show", "jabber:client").map(minidom::Element::text),
                    p.get_child("status", "jabber:client").map(minidom::Element::text),
                )
            })
            .collect();
        let text = |s: &str| Some(s.to_owned());
        assert_eq!(
            seen,
            [
                (None, None, None),
                (None, None, text("at the feast")),
                (None, text("away"), text("at the feast")),
                (kind.map(str::to_owned), show.map(str::to_owned), None)
            ]
        );
    }
}

#[test]
fn a_homeserver_without_presence_leaves_the_account_available_and_gets_no_updates() {
    let mut stage = Stage::xmpp("<item jid='juliet@capulet.lit' subscription='both'/>");
    stage.play(Input::Homeserver { presence: false, busy: false });
    let (shown, told) = (stage.shown().len(), presences(&stage, "juliet@capulet.lit").len());
    stage.is(PresenceState::Offline, None);
    stage.server_sends("<presence from='juliet@capulet.lit/b'/>");
    assert_eq!((stage.shown().len(), presences(&stage, "juliet@capulet.lit").len()), (shown, told));
}

#[test]
fn a_request_waits_for_the_persons_answer() {
    let mut stage = Stage::xmpp("");
    stage.server_sends("<presence type='subscribe' from='paris@verona.lit/x'><nick xmlns='http://jabber.org/protocol/nick'>Count Paris</nick></presence>");
    assert!(stage.last_word().contains("Count Paris (paris@verona.lit) wants to add"), "{}", stage.last_word());
    let directed = |stage: &Stage| {
        stage
            .sent
            .iter()
            .filter(|p| p.name() == "presence" && p.attr("to").is_some())
            .map(|p| (p.attr("to").unwrap().to_owned(), p.attr("type").unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    assert!(directed(&stage).is_empty(), "nothing is accepted by itself");
    stage.command("accept paris@verona.lit");
    let yes = |kind: &str| ("paris@verona.lit".to_owned(), kind.to_owned());
    assert_eq!(directed(&stage), [yes("subscribed"), yes("subscribe")]);
    stage.server_sends("<presence type='subscribe' from='tybalt@capulet.lit'/>");
    stage.command("deny tybalt@capulet.lit");
    assert_eq!(directed(&stage).last(), Some(&("tybalt@capulet.lit".to_owned(), "unsubscribed".to_owned())));
    stage.command("deny tybalt@capulet.lit");
    assert!(stage.last_word().contains("has not asked"));
}

#[test]
fn chats_are_opened_by_command_by_address_and_by_inviting_a_ghost() {
    let mut stage = Stage::messenger("");
    stage.answers.insert(
        "http://messenger.live.com/xmpp/jidlookup",
        "<getjid xmlns='http://messenger.live.com/xmpp/jidlookup'><jid>aa@messenger.live.com</jid></getjid>".to_owned(),
    );
    stage.command("start-chat friend@hotmail.com");
    assert_eq!(rooms(&stage), 1);
    assert!(stage.last_word().contains("friend@hotmail.com is open"));
    stage.command("pm bb@messenger.live.com");
    assert_eq!(rooms(&stage), 2);
    stage.command("start-chat not an address");
    assert!(stage.last_word().contains("start-chat"));
    let ghost = stage.ghost("cc@messenger.live.com");
    let room = super::stage::room_for("a room of the owner's");
    stage.matrix(
        &room,
        OWNER,
        "m.room.member",
        Some(ghost.as_str()),
        &json!({ "membership": "invite", "is_direct": true }),
    );
    assert_eq!(rooms(&stage), 3);
    stage.matrix(
        &room,
        "@mercutio:h.test",
        "m.room.member",
        Some(stage.ghost("dd@messenger.live.com").as_str()),
        &json!({ "membership": "invite" }),
    );
    assert_eq!(rooms(&stage), 3, "another person's ghosts are not theirs to call");
}

#[test]
fn an_address_that_is_nobodys_or_several_peoples_opens_nothing_and_says_so() {
    const LOOKUP: &str = "http://messenger.live.com/xmpp/jidlookup";
    let mut stage = Stage::messenger("");
    stage.command("start-chat nobody@hotmail.com");
    assert!(stage.last_word().contains("Nobody with the address nobody@hotmail.com"), "{}", stage.last_word());
    let two = format!(
        "<getjid xmlns='{LOOKUP}'><jid>aa@messenger.live.com</jid><jid>bb@messenger.live.com</jid><jid>bb@messenger.live.com</jid><jid/></getjid>"
    );
    stage.answers.insert(LOOKUP, two);
    stage.command("start-chat twins@hotmail.com");
    let said = stage.last_word();
    assert!(said.contains("aa@messenger.live.com, bb@messenger.live.com.") && said.contains("which one"), "{said}");
    assert_eq!(rooms(&stage), 0);
    stage.command("start-chat bb@messenger.live.com");
    assert_eq!(rooms(&stage), 1);
    // Nobody is left without an answer.
    stage.silent.push(LOOKUP);
    stage.command("start-chat slow@hotmail.com");
    stage.pass(61_000);
    assert!(stage.last_word().contains("there was no answer"), "{}", stage.last_word());
    stage.command("start-chat cut@hotmail.com");
    stage.hush();
    assert!(stage.last_word().contains("cut@hotmail.com could not be looked up"), "{}", stage.last_word());
}
