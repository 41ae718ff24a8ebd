//! Before the bridge, and the first that it shows: history, contacts, names and pictures, the room, the space, a newcomer.

use serde_json::{Value, json};

use super::stage::{Stage, base64};
use crate::end_to_end::clients::{Contact, is_presence};
use crate::end_to_end::servers::Account;

const JULIET: &[u8] = include_bytes!("pictures/juliet.png");
const ROMEO: &[u8] = include_bytes!("pictures/romeo.png");

/// What was said before Romeo came to Matrix.
pub struct Past {
    pub juliet: Contact,
    said: Vec<&'static str>,
}

/// Both are on XMPP and friends; then Romeo's app leaves, and what Juliet says waits for him.
pub fn before_the_bridge(romeo_account: &Account, juliet_account: &Account) -> Past {
    let (romeo, juliet) = (Contact::connect(romeo_account), Contact::connect(juliet_account));
    romeo.befriend(&juliet);
    juliet.call("vcard", json!({"nickname": "Juliet", "full_name": "Juliet Capulet", "photo": base64(JULIET)}));
    romeo.call("roster_set", json!({"jid": juliet.jid, "name": "Juliet"}));
    juliet.call("nick", json!({"nick": "Juliet"}));
    juliet.call("avatar", json!({"picture": base64(JULIET)}));
    juliet.call("roster_set", json!({"jid": romeo.jid, "name": "Romeo"}));
    let said = vec![
        "Good pilgrim, you do wrong your hand too much.",
        "O, then, dear saint, let lips do what hands do.",
        "Saints do not move, though grant for prayers’ sake.",
        "Are you gone? I wrote this while nobody was there.",
    ];
    juliet.say(&romeo.jid, said[0]);
    romeo.hears(&juliet.jid, said[0]);
    romeo.say(&juliet.jid, said[1]);
    juliet.hears(&romeo.jid, said[1]);
    juliet.say(&romeo.jid, said[2]);
    romeo.hears(&juliet.jid, said[2]);
    let mark = juliet.mark();
    let jid = romeo.jid.clone();
    romeo.leave();
    juliet.expect_since(mark, "Romeo gone", |event| is_presence(event, "unavailable", &jid));
    juliet.say(&jid, said[3]);
    juliet.call("ping", json!({}));
    Past { juliet, said }
}

/// What Romeo finds in Matrix when he has signed in.
pub fn shows_who_is_there(stage: &Stage<'_>, past: &Past) {
    let (person, portal) = (stage.person, &stage.portal);
    stage.uses("history");
    stage.shows(past.said[3]);
    let shown = person.events(|event| event["event"] == "message" && event["room"] == portal.room.as_str());
    let shown: Vec<&str> = shown.iter().filter_map(|event| event["body"].as_str()).collect();
    assert_eq!(shown, past.said);

    // Portal::appears saw that `m.bridge` names Juliet, and her ghost in the room.
    stage.uses("roster");
    stage.uses("bridge_info");

    stage.uses("vcard");
    let profile = person.expect("Juliet's name and picture", |event| {
        event["type"] == "m.room.member"
            && event["state_key"] == portal.ghost.as_str()
            && event["content"]["avatar_url"].is_string()
    });
    assert_eq!(profile["content"]["displayname"], "Juliet");
    shows_himself(stage);

    stage.uses("room_look");
    let shown = |kind: &str| person.call("state", json!({"room": portal.room, "type": kind}));
    person.expect("the room's picture", |event| {
        event["type"] == "m.room.avatar" && event["room"] == portal.room.as_str() && event["content"]["url"].is_string()
    });
    assert_eq!(shown("m.room.name")["name"], "Juliet");
    assert_eq!(shown("m.room.topic")["topic"], stage.juliet.jid.as_str());

    stage.uses("room_features");
    let features = person.expect("what can be said in the room", |event| {
        event["type"] == "com.beeper.room_features" && event["room"] == portal.room.as_str()
    });
    assert!(features["content"]["formatting"].is_object(), "{features}");

    stage.uses("space");
    let space = space_of(stage, &portal.room);
    assert_eq!(person.call("state", json!({"room": space, "type": "m.room.create"}))["type"], "m.space");
}

/// Romeo has a name and a picture in Matrix, and wants his account to show them.
fn shows_himself(stage: &Stage<'_>) {
    stage.uses("nickname");
    stage.uses("avatar");
    let upload = json!({"name": "romeo.png", "mime": "image/png", "content": {"base64": base64(ROMEO)}});
    let picture = stage.person.call("upload", upload);
    stage.person.call("set_avatar", json!({"url": picture["url"]}));
    stage.person.say(&stage.management, "publish-profile on");
    stage.is_told(&stage.management, "from now on");
    stage.juliet_gets("his name", &["http://jabber.org/protocol/nick", "Romeo"]);
    stage.juliet_gets("his picture", &["urn:xmpp:avatar:metadata", "image/png"]);
}

/// Mercutio wants to be a contact, and Romeo lets him.
pub fn someone_new(stage: &Stage<'_>, mercutio: &Account) {
    stage.uses("subscription");
    let (person, romeo) = (stage.person, &stage.romeo.jid);
    let friend = Contact::connect(mercutio);
    friend.call("vcard", json!({"nickname": "Mercutio"}));
    friend.raw(&format!(
        "<presence to='{romeo}' type='subscribe'><status>Gentle Romeo, we must have you dance.</status>\
         <nick xmlns='http://jabber.org/protocol/nick'>Mercutio</nick></presence>"
    ));
    stage.is_told(&stage.management, &format!("accept {}", mercutio.jid));
    stage.audience_visits(&format!("/home/{}/", encoded(&stage.management)));
    person.say(&stage.management, &format!("accept {}", mercutio.jid));
    friend.expect("that he is accepted", |event| is_presence(event, "subscribed", romeo));
    stage.picture("bot", "is accepted");
    stage.audience_visits(&room_page(stage));
}

/// The space in which a room stands.
pub fn space_of(stage: &Stage<'_>, room: &str) -> String {
    let child: Value = stage.person.expect("the room in the space", |event| {
        event["type"] == "m.space.child" && event["state_key"] == room && event["content"]["via"].is_array()
    });
    child["room"].as_str().expect("a room").to_owned()
}

/// Where the web client shows the room with Juliet, in its space.
pub fn room_page(stage: &Stage<'_>) -> String {
    let room = &stage.portal.room;
    format!("/{}/{}/", encoded(&space_of(stage, room)), encoded(room))
}

pub fn encoded(room: &str) -> String {
    room.replace('!', "%21").replace(':', "%3A")
}
