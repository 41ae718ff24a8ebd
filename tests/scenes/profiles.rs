//! What contacts say of themselves by personal eventing, idleness, and whether the person looks.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use messenger_bridge::domain::output::{Ephemeral, MatrixCall};
use ruma::presence::PresenceState;
use sha1::{Digest, Sha1};

use super::stage::{OWNER, Stage};

const JID: &str = "juliet@capulet.lit";
const JULIET: &str = "<item jid='juliet@capulet.lit' subscription='both'/>";
const METADATA: &str = "urn:xmpp:avatar:metadata";
const DATA: &str = "urn:xmpp:avatar:data";

/// A picture by its name, and its SHA-1.
fn picture(name: &str) -> (Vec<u8>, String) {
    let bytes = format!("\u{fffd}{name}").into_bytes();
    let bytes = [b"\x89PNG\r\n\x1a\n".to_vec(), bytes].concat();
    let hash = Sha1::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    (bytes, hash)
}

fn event(from: &str, node: &str, item: &str) -> String {
    format!(
        "<message from='{from}' type='headline'><event xmlns='http://jabber.org/protocol/pubsub#event'><items node='{node}'>{item}</items></event></message>"
    )
}

fn nick(name: &str) -> String {
    format!("<item><nick xmlns='http://jabber.org/protocol/nick'>{name}</nick></item>")
}

fn avatar(hash: &str) -> String {
    format!(
        "<item id='{hash}'><metadata xmlns='{METADATA}'><info bytes='20' id='{hash}' type='image/png'/></metadata></item>"
    )
}

fn no_avatar() -> String {
    format!("<item><metadata xmlns='{METADATA}'/></item>")
}

/// What Juliet's data node answers.
fn data(stage: &mut Stage, bytes: &[u8], hash: &str) {
    let data = STANDARD.encode(bytes);
    let items = format!("<items node='{DATA}'><item id='{hash}'><data xmlns='{DATA}'>{data}</data></item></items>");
    stage.answers.insert(
        "http://jabber.org/protocol/pubsub juliet@capulet.lit",
        format!("<pubsub xmlns='http://jabber.org/protocol/pubsub'>{items}</pubsub>"),
    );
}

fn uploads(stage: &Stage) -> Vec<Vec<u8>> {
    let upload = |call: &MatrixCall| match call {
        MatrixCall::Upload { bytes, .. } => Some(bytes.clone()),
        _ => None,
    };
    stage.calls.iter().filter_map(upload).collect()
}

/// The pictures that Juliet's ghost had, oldest first; an empty one is none.
fn pictures(stage: &Stage) -> Vec<String> {
    let ghost = stage.ghost(JID);
    let picture = |call: &MatrixCall| match call {
        MatrixCall::SetAvatar { user, url } if *user == ghost => Some(url.clone()),
        _ => None,
    };
    stage.calls.iter().filter_map(picture).collect()
}

fn names(stage: &Stage) -> Vec<String> {
    let ghost = stage.ghost(JID);
    let name = |call: &MatrixCall| match call {
        MatrixCall::SetDisplayName { user, name } if *user == ghost => Some(name.clone()),
        _ => None,
    };
    stage.calls.iter().filter_map(name).collect()
}

/// How often an item of a node was asked for.
fn asked(stage: &Stage, node: &str) -> usize {
    stage
        .sent
        .iter()
        .filter(|iq| {
            iq.attr("type") == Some("get") && String::from(*iq).replace('"', "'").contains(&format!("node='{node}'"))
        })
        .count()
}

fn announce(stage: &mut Stage, hash: &str) {
    stage.server_sends(&format!(
        "<presence from='{JID}/b'><x xmlns='vcard-temp:x:update'><photo>{hash}</photo></x></presence>"
    ));
    stage.pass(20_000);
}

fn vcard_with(stage: &mut Stage, bytes: &[u8]) {
    let photo = STANDARD.encode(bytes);
    let card = format!("<vCard xmlns='vcard-temp'><PHOTO><BINVAL>{photo}</BINVAL></PHOTO></vCard>");
    stage.answers.insert("vcard-temp juliet@capulet.lit", card);
}

#[test]
fn an_avatar_is_fetched_when_it_changes_and_goes_when_it_is_taken_back() {
    let mut stage = Stage::xmpp(JULIET);
    let (bytes, hash) = picture("balcony");
    data(&mut stage, &bytes, &hash);
    for _ in 0..3 {
        stage.server_sends(&event(JID, METADATA, &avatar(&hash)));
    }
    assert_eq!((asked(&stage, DATA), uploads(&stage)), (1, vec![bytes]));
    assert!(pictures(&stage).last().unwrap().starts_with("mxc://"));
    // Another picture is asked for after a while, and its bytes must be what was announced.
    let (other, other_hash) = picture("masked ball");
    data(&mut stage, b"\x89PNG\r\n\x1a\nsomething else", &other_hash);
    stage.server_sends(&event(JID, METADATA, &avatar(&other_hash)));
    assert_eq!(asked(&stage, DATA), 1);
    stage.pass(20_000);
    assert_eq!((asked(&stage, DATA), uploads(&stage).len()), (2, 1));
    assert_eq!(stage.ignored("avatar that cannot be had or shown"), 1);
    // It is not asked for again and again.
    data(&mut stage, &other, &other_hash);
    stage.server_sends(&event(JID, METADATA, &avatar(&other_hash)));
    stage.pass(20_000);
    assert_eq!(asked(&stage, DATA), 2);
    let (third, third_hash) = picture("tomb");
    data(&mut stage, &third, &third_hash);
    stage.server_sends(&event(JID, METADATA, &avatar(&third_hash)));
    stage.pass(20_000);
    assert_eq!(uploads(&stage).last(), Some(&third));
    stage.server_sends(&event(JID, METADATA, &no_avatar()));
    assert_eq!(pictures(&stage).last().map(String::as_str), Some(""));
}

#[test]
fn one_picture_announced_by_both_is_uploaded_once_and_the_avatar_goes_before_the_photo() {
    let mut stage = Stage::xmpp(JULIET);
    let (bytes, hash) = picture("balcony");
    data(&mut stage, &bytes, &hash);
    vcard_with(&mut stage, &bytes);
    announce(&mut stage, &hash);
    stage.server_sends(&event(JID, METADATA, &avatar(&hash)));
    stage.pass(20_000);
    assert_eq!((uploads(&stage).len(), asked(&stage, DATA)), (1, 0), "the photo shows it already");
    // Another client of hers has an old photo; then none.
    let (old, old_hash) = picture("as a child");
    vcard_with(&mut stage, &old);
    announce(&mut stage, &old_hash);
    announce(&mut stage, "");
    assert_eq!((uploads(&stage).len(), pictures(&stage).len()), (1, 1), "{:?}", pictures(&stage));
    // Without the avatar the photo counts.
    announce(&mut stage, &old_hash);
    stage.server_sends(&event(JID, METADATA, &no_avatar()));
    stage.pass(20_000);
    assert_eq!(uploads(&stage).last(), Some(&old));
    assert!(pictures(&stage).last().unwrap().starts_with("mxc://"), "{:?}", pictures(&stage));
}

#[test]
fn the_avatar_is_asked_for_again_after_a_cut_and_a_restart() {
    let mut stage = Stage::xmpp(JULIET);
    let (bytes, hash) = picture("balcony");
    stage.silent.push("http://jabber.org/protocol/pubsub");
    stage.server_sends(&event(JID, METADATA, &avatar(&hash)));
    assert_eq!(asked(&stage, DATA), 1);
    stage.silent.clear();
    data(&mut stage, &bytes, &hash);
    stage.crash();
    stage.pass(20_000);
    assert_eq!(uploads(&stage), [bytes]);
}

#[test]
fn a_picture_that_the_homeserver_refuses_is_not_tried_for_ever() {
    let mut stage = Stage::xmpp(JULIET);
    let (bytes, hash) = picture("balcony");
    data(&mut stage, &bytes, &hash);
    stage.refuses = Some(|call| matches!(call, MatrixCall::Upload { .. }));
    stage.server_sends(&event(JID, METADATA, &avatar(&hash)));
    stage.refuses = None;
    stage.server_sends(&event(JID, METADATA, &avatar(&hash)));
    stage.pass(60_000);
    assert_eq!((uploads(&stage).len(), asked(&stage, DATA)), (0, 1));
}

#[test]
fn names_go_before_each_other_and_change_only_when_they_do() {
    let mut stage = Stage::with(Stage::settings());
    stage.answers.insert(
        "vcard-temp juliet@capulet.lit",
        "<vCard xmlns='vcard-temp'><FN>Juliet Capulet</FN></vCard>".to_owned(),
    );
    stage.sign_in(JULIET);
    let published = |stage: &mut Stage, name: &str| {
        stage.server_sends(&event(JID, "http://jabber.org/protocol/nick", &nick(name)));
        stage.server_sends(&event(JID, "http://jabber.org/protocol/nick", &nick(name)));
    };
    published(&mut stage, "Jule");
    published(&mut stage, "Jules");
    let roster = |stage: &mut Stage, name: &str| {
        stage.server_sends(&format!(
            "<iq type='set' id='p'><query xmlns='jabber:iq:roster'><item jid='{JID}' {name} subscription='both'/></query></iq>"
        ));
    };
    roster(&mut stage, "name='My love'");
    published(&mut stage, "J");
    roster(&mut stage, "");
    published(&mut stage, "");
    let all = names(&stage);
    let after = all.iter().position(|name| name == "Juliet Capulet").unwrap();
    assert_eq!(all[after..], ["Juliet Capulet", "Jule", "Jules", "My love", "J", "Juliet Capulet"]);
    assert_eq!(asked(&stage, "urn:xmpp:vcard4"), 0, "the vCard has a name");
}

#[test]
fn who_is_named_nowhere_is_named_by_the_vcard4() {
    let mut stage = Stage::with(Stage::settings());
    let card = "<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'><fn><text>Juliet Capulet</text></fn></vcard>";
    stage.answers.insert(
        "http://jabber.org/protocol/pubsub juliet@capulet.lit",
        format!("<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:vcard4'><item id='current'>{card}</item></items></pubsub>"),
    );
    stage.sign_in(&format!("{JULIET}<item jid='nurse@capulet.lit' subscription='both'/>"));
    assert_eq!(names(&stage).last().map(String::as_str), Some("Juliet Capulet"));
    assert_eq!(asked(&stage, "urn:xmpp:vcard4"), 2, "the nurse has none");
    stage.cut(false);
    stage.pass(20_000);
    assert_eq!(asked(&stage, "urn:xmpp:vcard4"), 0, "both are known on the new stream");
}

#[test]
fn nobody_speaks_for_the_nodes_of_others() {
    let mut stage = Stage::xmpp(JULIET);
    let before = names(&stage);
    for from in ["juliet@capulet.lit/b", "tybalt@capulet.lit", "capulet.lit", "romeo@montague.lit"] {
        stage.server_sends(&event(from, "http://jabber.org/protocol/nick", &nick("Your bank")));
    }
    // An event does not swallow what is said beside it.
    let said =
        event(JID, "http://jabber.org/protocol/nick", &nick("Jule")).replace("</message>", "<body>hi</body></message>");
    stage.server_sends(&said);
    assert_eq!(names(&stage).len(), before.len() + 1);
    assert_eq!(stage.bodies(JID), ["hi"]);
    let mut messenger = Stage::messenger("<item jid='juliet@messenger.live.com' subscription='both'/>");
    messenger.server_sends(&event("juliet@messenger.live.com", METADATA, &avatar(&picture("x").1)));
    assert_eq!(asked(&messenger, DATA), 0);
}

#[test]
fn someone_unknown_is_called_as_they_say_in_their_first_message() {
    let mut stage = Stage::xmpp("");
    stage.server_sends(
        "<message from='juliet@capulet.lit/b' type='chat'><body>Call me Jule</body><nick xmlns='http://jabber.org/protocol/nick'>Jule</nick></message>",
    );
    stage.pass(5_000);
    assert_eq!(names(&stage).last().map(String::as_str), Some("Jule"));
    assert_eq!(stage.bodies(JID), ["Call me Jule"]);
}

fn presences(stage: &Stage) -> Vec<(PresenceState, Option<String>)> {
    let ghost = stage.ghost(JID);
    let of = |ephemeral: &Ephemeral| match ephemeral {
        Ephemeral::Presence { ghost: shown, state, status, .. } if *shown == ghost => {
            Some((state.clone(), status.clone()))
        }
        _ => None,
    };
    stage.ephemerals.iter().filter_map(of).collect()
}

#[test]
fn a_contact_that_is_idle_is_unavailable_and_since_when_is_told() {
    let mut stage = Stage::xmpp(JULIET);
    let idle = "<idle xmlns='urn:xmpp:idle:1' since='2012-04-01T10:00:00Z'/>";
    stage.server_sends(&format!("<presence from='{JID}/b'><status>at home</status>{idle}</presence>"));
    stage.server_sends(&format!("<presence from='{JID}/b'><status>at home</status></presence>"));
    stage.server_sends(&format!("<presence from='{JID}/b'>{idle}</presence>"));
    stage.server_sends(&format!("<presence from='{JID}/b' type='unavailable'/>"));
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        presences(&stage),
        [
            (PresenceState::Unavailable, text("at home (idle since 2012-04-01 10:00 UTC)")),
            (PresenceState::Online, text("at home")),
            (PresenceState::Unavailable, text("idle since 2012-04-01 10:00 UTC")),
            (PresenceState::Offline, None),
        ]
    );
    // It is known on a session that is resumed after a restart.
    stage.server_sends(&format!("<presence from='{JID}/b'>{idle}</presence>"));
    stage.crash();
    assert_eq!(presences(&stage).last(), Some(&(PresenceState::Unavailable, text("idle since 2012-04-01 10:00 UTC"))));
}

#[test]
fn contacts_see_since_when_the_person_is_idle() {
    let mut stage = Stage::xmpp(JULIET);
    let since = |stage: &Stage| {
        let idle = stage.shown().last().unwrap().get_child("idle", "urn:xmpp:idle:1").cloned();
        idle.map(|idle| idle.attr("since").unwrap().to_owned())
    };
    stage.was_active(PresenceState::Unavailable, None, Some(300_000));
    let at = messenger_bridge::domain::Timestamp(stage.now.wall.0 - 300_000).to_xmpp();
    assert_eq!(since(&stage), Some(at.clone()));
    let told = stage.shown().len();
    stage.pass(10_000);
    stage.was_active(PresenceState::Unavailable, None, Some(309_000));
    assert_eq!(stage.shown().len(), told, "nothing has changed");
    stage.crash();
    assert_eq!(since(&stage), Some(at));
    stage.was_active(PresenceState::Online, None, None);
    assert_eq!(since(&stage), None);
    let mut messenger = Stage::messenger("");
    messenger.was_active(PresenceState::Unavailable, None, Some(300_000));
    assert_eq!(since(&messenger), None, "the service knew nothing of the kind");
}

#[test]
fn the_server_is_told_whether_the_person_looks_and_again_on_every_stream() {
    let mut stage = Stage::xmpp(JULIET);
    assert!(stage.activity.is_empty(), "a stream begins as active");
    stage.is(PresenceState::Unavailable, None);
    stage.is(PresenceState::Offline, None);
    stage.is(PresenceState::Online, None);
    stage.is(PresenceState::Online, Some("again"));
    assert_eq!(stage.activity, [false, true]);
    stage.is(PresenceState::Offline, None);
    stage.cut(true);
    stage.cut(false);
    assert_eq!(stage.activity, [false, true, false, false, false]);
    // What it is told is no stanza: the server's count of stanzas is still ours.
    stage.phone_sends(JID, "are you there?");
    let room = stage.room(JID);
    stage.says(&room, "yes");
    assert_eq!((stage.bodies(JID), stage.texts_to(JID)), (vec!["are you there?".to_owned()], vec!["yes".to_owned()]));
    assert_eq!(stage.engine.debts(), 0);
}

const PUBSUB: &str = "http://jabber.org/protocol/pubsub";

/// What was published or written to the account since then, in short.
fn published(stage: &Stage, since: usize) -> Vec<String> {
    let sets = stage.sent[since..].iter().filter(|iq| iq.attr("type") == Some("set") && iq.attr("to").is_none());
    let short = |iq: &minidom::Element| {
        let payload = iq.children().next()?;
        match payload.ns().as_str() {
            PUBSUB => {
                let publish = payload.get_child("publish", PUBSUB)?;
                let item = publish.get_child("item", PUBSUB)?;
                let inner = item.children().next()?;
                Some(format!(
                    "{} {}",
                    publish.attr("node")?,
                    if inner.name() == "nick" { inner.text() } else { item.attr("id").unwrap_or_default().to_owned() }
                ))
            }
            "vcard-temp" => Some(format!(
                "vCard {}",
                payload.children().map(|child| format!("{}={};", child.name(), child.text())).collect::<String>()
            )),
            _ => None,
        }
    };
    sets.filter_map(short).collect()
}

fn profile_is(stage: &mut Stage, name: &str, picture: Option<&str>) {
    stage.profile = serde_json::json!({ "displayname": name, "avatar_url": picture }).to_string();
    // The homeserver tells each room.
    for jid in [JID, "nurse@capulet.lit"] {
        let room = stage.room(jid);
        let content = serde_json::json!({ "membership": "join", "displayname": name, "avatar_url": picture });
        stage.matrix(&room, OWNER, "m.room.member", Some(OWNER), &content);
    }
}

fn willing() -> Stage {
    let mut stage = Stage::xmpp(&format!("{JULIET}<item jid='nurse@capulet.lit' subscription='both'/>"));
    stage.answers.insert(PUBSUB, String::new());
    stage
        .answers
        .insert("vcard-temp", "<vCard xmlns='vcard-temp'><FN>Romeo Montague</FN><TEL>1</TEL></vCard>".to_owned());
    stage
}

#[test]
fn nothing_of_the_person_is_published_unless_they_asked() {
    let mut stage = willing();
    let before = stage.sent.len();
    profile_is(&mut stage, "Romeo", Some("mxc://h.test/me"));
    assert!(published(&stage, before).is_empty());
    assert!(!stage.calls.iter().any(|call| matches!(call, MatrixCall::GetProfile { .. })));
    let mut messenger = Stage::messenger("");
    messenger.command("publish-profile on");
    assert!(messenger.last_word().contains("can only be read"), "{}", messenger.last_word());
    assert!(published(&messenger, 0).is_empty());
}

#[test]
fn the_persons_name_and_picture_are_published_once_for_each_change_and_taken_back() {
    let mut stage = willing();
    let (bytes, hash) = picture("romeo");
    stage.picture = bytes;
    stage.profile = serde_json::json!({ "displayname": "Romeo", "avatar_url": "mxc://h.test/me" }).to_string();
    let before = stage.sent.len();
    stage.command("publish-profile on");
    assert_eq!(
        published(&stage, before),
        [
            "http://jabber.org/protocol/nick Romeo".to_owned(),
            format!("{DATA} {hash}"),
            format!("{METADATA} {hash}"),
            "vCard FN=Romeo Montague;TEL=1;NICKNAME=Romeo;".to_owned(),
        ]
    );
    // A request says it, too.
    stage.command("start-chat paris@verona.lit");
    let request = stage.sent.iter().rev().find(|stanza| stanza.attr("type") == Some("subscribe")).unwrap();
    assert_eq!(request.get_child("nick", "http://jabber.org/protocol/nick").unwrap().text(), "Romeo");
    // Every room tells the same: nothing more is published; nor after a restart.
    let before = stage.sent.len();
    profile_is(&mut stage, "Romeo", Some("mxc://h.test/me"));
    stage.crash();
    assert!(published(&stage, before).is_empty(), "{:?}", published(&stage, before));
    // A change, told by every room, is published once.
    let before = stage.sent.len();
    profile_is(&mut stage, "Romeo Montague", Some("mxc://h.test/me"));
    assert_eq!(published(&stage, before)[0], "http://jabber.org/protocol/nick Romeo Montague");
    assert_eq!(published(&stage, before).len(), 2);
    // A name that one room has of its own is not the person's.
    let room = stage.room(JID);
    let before = stage.sent.len();
    stage.matrix(
        &room,
        OWNER,
        "m.room.member",
        Some(OWNER),
        &serde_json::json!({ "membership": "join", "displayname": "Masked" }),
    );
    assert!(published(&stage, before).is_empty());
    // What changed while the account was away is published when it is back.
    stage.hush();
    profile_is(&mut stage, "R", None);
    stage.pass(20_000);
    let all = published(&stage, 0);
    assert_eq!(
        all,
        ["http://jabber.org/protocol/nick R", &format!("{METADATA} "), "vCard FN=Romeo Montague;TEL=1;NICKNAME=R;"]
    );
    let before = stage.sent.len();
    stage.answers.insert(
        "vcard-temp",
        "<vCard xmlns='vcard-temp'><FN>Romeo Montague</FN><NICKNAME>R</NICKNAME></vCard>".to_owned(),
    );
    stage.command("publish-profile off");
    assert_eq!(published(&stage, before), ["http://jabber.org/protocol/nick ", "vCard FN=Romeo Montague;"]);
    let before = stage.sent.len();
    profile_is(&mut stage, "Romeo", None);
    stage.cut(false);
    assert!(published(&stage, before.min(stage.sent.len())).is_empty());
}

#[test]
fn a_vcard_that_cannot_be_read_is_not_overwritten_and_a_refusal_is_told_once() {
    let mut stage = Stage::xmpp(JULIET);
    stage.answers.insert(PUBSUB, String::new());
    stage.profile = serde_json::json!({ "displayname": "Romeo" }).to_string();
    let before = stage.sent.len();
    stage.command("publish-profile on");
    assert_eq!(published(&stage, before), ["http://jabber.org/protocol/nick Romeo"]);
    let mut refusing = Stage::xmpp(JULIET);
    refusing.profile = stage.profile.clone();
    refusing.command("publish-profile on");
    refusing.cut(false);
    refusing.cut(false);
    let told = refusing.bot_said().iter().filter(|said| said.contains("could not be published")).count();
    assert_eq!(told, 1);
    // A picture that cannot be shown is said to be so, and the name is published.
    let mut odd = willing();
    odd.picture = b"<svg/>".to_vec();
    odd.profile = serde_json::json!({ "displayname": "Romeo", "avatar_url": "mxc://h.test/me" }).to_string();
    odd.command("publish-profile on");
    assert!(odd.last_word().contains("picture could not be published"), "{}", odd.last_word());
    assert_eq!(published(&odd, 0).len(), 2);
}
