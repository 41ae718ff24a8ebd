//! Contacts' rooms on a real Synapse: spaces, what a client shows, what the person decides, letting go, and room upgrades.

use std::fs;

use serde_json::{Value, json};

use super::bridge::{Bridge, Management, Portal, starttls};
use super::clients::{Contact, PHOTO, Person};
use super::servers::Prosody;

struct Chat<'a> {
    person: Person,
    bob: Contact,
    alice: String,
    portal: Portal,
    _bridge: &'a Bridge,
    management: String,
}

impl<'a> Chat<'a> {
    fn begin(bridge: &'a Bridge, prosody: &Prosody) -> Self {
        let (alice_account, bob_account) = (prosody.account("alice"), prosody.account("bob"));
        let (alice, bob) = (Contact::connect(&alice_account), Contact::connect(&bob_account));
        alice.befriend(&bob);
        alice.leave();
        let person = bridge.person("romeo");
        let management = Management::sign_in(&person, &alice_account.jid).room().to_owned();
        let portal = Portal::appears(&person, &bob.jid);
        Self { person, bob, alice: alice_account.jid, portal, _bridge: bridge, management }
    }

    fn state(&self, room: &str, kind: &str) -> Value {
        self.person.call("state", json!({"room": room, "type": kind}))
    }

    fn set_state(&self, room: &str, kind: &str, content: &Value) {
        let path = format!("/_matrix/client/v3/rooms/{}/state/{kind}", escape(room));
        self.person.call("request", json!({"method": "PUT", "path": path, "body": content}));
    }

    /// Both say something in this room, and each hears the other.
    fn converses_in(&self, room: &str, words: &str) {
        self.bob.say(&self.alice, words);
        let heard = self.person.hears(room, words);
        assert_eq!(heard["sender"], self.portal.ghost.as_str());
        let answer = format!("{words}, too");
        self.person.say(room, &answer);
        self.bob.hears(&self.alice, &answer);
    }

    /// Awaits the invitation to another room, and returns it.
    fn is_invited_elsewhere(&self, since: super::clients::Mark) -> String {
        let known = [&self.portal.room, &self.management];
        let invite = self.person.expect_since(since, "an invitation to another room", |event| {
            event["event"] == "invite" && known.iter().all(|room| event["room"] != room.as_str())
        });
        invite["room"].as_str().expect("a room").to_owned()
    }

    /// Awaits that a room stands in the person's space, or no longer; returns the space.
    fn in_space(&self, room: &str, listed: bool) -> String {
        let child = self.person.expect(&format!("{room} in the space: {listed}"), |event| {
            event["type"] == "m.space.child"
                && event["state_key"] == room
                && event["content"]["via"].is_array() == listed
        });
        child["room"].as_str().expect("a room").to_owned()
    }
}

fn escape(room: &str) -> String {
    room.replace('!', "%21").replace(':', "%3A")
}

#[test]
fn rooms_stand_in_a_space_keep_what_the_person_decides_and_are_let_go() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let chat = Chat::begin(&bridge, prosody);
    let room = chat.portal.room.as_str();

    let space = chat.in_space(room, true);
    assert_eq!(chat.state(&space, "m.room.create")["type"], "m.space");
    assert_eq!(chat.state(&space, "m.room.name")["name"], format!("XMPP ({})", chat.alice));
    let children = chat.person.call(
        "request",
        json!({"method": "GET", "path": format!("/_matrix/client/v1/rooms/{}/hierarchy", escape(&space))}),
    );
    assert!(
        children["rooms"].as_array().is_some_and(|rooms| rooms.iter().any(|child| child["room_id"] == room)),
        "{children}"
    );
    assert_eq!(chat.state(room, "io.element.functional_members"), json!({"service_members": [Bridge::BOT]}));
    assert_eq!(chat.state(room, "m.room.topic")["topic"], chat.bob.jid.as_str());

    // The person gives the room a name; the contact takes another, and a photo.
    chat.set_state(room, "m.room.name", &json!({"name": "My friend"}));
    // What is said after it comes after it: the bridge knows of the name when this has crossed.
    chat.converses_in(room, "Is it named?");
    chat.bob.call("vcard", json!({"nickname": "Bobby", "full_name": "Robert Test", "photo": PHOTO}));
    let ghost = chat.person.expect("the ghost with its new name and photo", |event| {
        event["type"] == "m.room.member"
            && event["state_key"] == chat.portal.ghost.as_str()
            && event["content"]["displayname"] == "Bobby"
            && event["content"]["avatar_url"].is_string()
    });
    let picture = chat.person.expect("the room's picture", |event| {
        event["type"] == "m.room.avatar" && event["room"] == room && event["content"]["url"].is_string()
    });
    assert_eq!(picture["content"]["url"], ghost["content"]["avatar_url"]);
    chat.converses_in(room, "Still named so?");
    assert_eq!(chat.state(room, "m.room.name")["name"], "My friend");

    // Let go: the ghost and the bot leave; the next message opens another room, with the contact's own name.
    let mark = chat.person.mark();
    chat.person.say(room, "!msgr delete-portal");
    for user in [chat.portal.ghost.as_str(), Bridge::BOT] {
        chat.person.sees_member(room, user, "leave");
    }
    chat.in_space(room, false);
    chat.bob.say(&chat.alice, "Where are you?");
    let next = chat.is_invited_elsewhere(mark);
    chat.person.hears(&next, "Where are you?");
    assert_eq!(chat.state(&next, "m.room.name")["name"], "Bobby");
    assert_eq!(chat.state(&next, "m.room.avatar")["url"], ghost["content"]["avatar_url"]);
    assert_eq!(chat.in_space(&next, true), space);
    chat.converses_in(&next, "Here I am");
    assert!(!chat.person.heard(room).iter().any(|body| body == "Where are you?"));

    // Signing out takes the space away.
    let mark = chat.person.mark();
    chat.person.say(&chat.management, &format!("logout {}", chat.alice));
    chat.person
        .expect_since(mark, "the space left", |event| event["event"] == "left" && event["room"] == space.as_str());
}

#[test]
fn upgraded_rooms_are_followed() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let chat = Chat::begin(&bridge, prosody);
    let first = chat.portal.room.clone();
    chat.converses_in(&first, "First");
    let space = chat.in_space(&first, true);

    // With the bridge's own token, which acts as the bot.
    let registration = fs::read_to_string(bridge.folder().join("registration.yaml")).expect("the registration");
    let token = registration.lines().find_map(|line| line.strip_prefix("as_token: ")).expect("a token");
    let path = format!("/_matrix/client/v3/rooms/{}/upgrade", escape(&first));
    let mark = chat.person.mark();
    let answer = bridge.synapse.post_as(&path, token.trim_matches(['"', '\'']), &json!({"new_version": "12"}));
    let second = answer["replacement_room"].as_str().expect("a room").to_owned();
    assert_eq!(chat.is_invited_elsewhere(mark), second);
    chat.person.sees_member(&second, &chat.portal.ghost, "join");
    chat.converses_in(&second, "Second");
    chat.person.sees_member(&first, Bridge::BOT, "leave");
    assert_eq!(chat.state(&second, "m.room.topic")["topic"], chat.bob.jid.as_str());
    assert_eq!(chat.state(&second, "io.element.functional_members"), json!({"service_members": [Bridge::BOT]}));
    assert_eq!(chat.in_space(&second, true), space);
    chat.in_space(&first, false);
    let bridged = chat
        .person
        .expect("m.bridge in the new room", |event| event["type"] == "m.bridge" && event["room"] == second.as_str());
    assert_eq!(bridged["content"]["channel"]["id"], chat.bob.jid.as_str());

    // By an administrator of the homeserver, who takes the bot's power for it and shares their own; what Bob says meanwhile waits.
    let admin = Person::login(&bridge.synapse.admin("admin"));
    let path = format!("/_synapse/admin/v1/rooms/{}/make_room_admin", escape(&second));
    admin.call("request", json!({"method": "POST", "path": path, "body": {"user_id": admin.id}}));
    admin.call("join", json!({"room": second}));
    let path = format!("/_matrix/client/v3/rooms/{}/upgrade", escape(&second));
    let upgrade = json!({"new_version": "12", "additional_creators": [Bridge::BOT]});
    let answer = admin.call("request", json!({"method": "POST", "path": path, "body": upgrade}));
    let third = answer["replacement_room"].as_str().expect("a room").to_owned();
    chat.bob.say(&chat.alice, "Meanwhile");
    admin.call("invite", json!({"room": third, "user": Bridge::BOT}));
    chat.person.sees_member(&third, &chat.portal.ghost, "join");
    chat.person.hears(&third, "Meanwhile");
    chat.converses_in(&third, "Third");
    assert!(!chat.person.heard(&second).iter().any(|body| body == "Meanwhile"));

    // A management room is its owner's, who invites the bot to the next.
    let path = format!("/_matrix/client/v3/rooms/{}/upgrade", escape(&chat.management));
    let answer = chat.person.call("request", json!({"method": "POST", "path": path, "body": {"new_version": "11"}}));
    let management = answer["replacement_room"].as_str().expect("a room").to_owned();
    chat.person.call("invite", json!({"room": management, "user": Bridge::BOT}));
    chat.person.expect("the bot in the next management room", |event| {
        event["room"] == management.as_str()
            && event["body"].as_str().is_some_and(|body| body.contains("management room"))
    });
    chat.person.say(&management, "list-logins");
    chat.person.expect("its answer", |event| {
        event["room"] == management.as_str()
            && event["sender"] == Bridge::BOT
            && event["body"].as_str().is_some_and(|body| body.contains(&chat.alice))
    });
}
