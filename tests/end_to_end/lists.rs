//! What a person decides about a contact, between matrix-nio and slixmpp: blocking, by command, from another XMPP client and by
//! ignoring the ghost; favourites and mutes.

use serde_json::{Value, json};

use super::about::Chat;
use super::bridge::{Bridge, starttls};
use super::clients::Contact;
use super::servers::{Account, Ejabberd, Prosody, Reach};

fn bridge(domain: &str, reach: Reach) -> Bridge {
    Bridge::start("bridge", &json!({ domain: starttls(reach) }))
}

/// One that acts in people's names.
fn puppeting(domain: &str, reach: Reach) -> Bridge {
    Bridge::start_puppets("bridge", &json!({ domain: starttls(reach) }), true)
}

/// The notice of the bot in the portal that has these words.
fn notice(chat: &Chat<'_>, words: &str) {
    let room = chat.portal.room.as_str();
    chat.person.expect(&format!("the notice {words:?}"), |event| {
        event["room"] == room
            && event["sender"] == Bridge::BOT
            && event["body"].as_str().is_some_and(|body| body.contains(words))
    });
}

fn ghost_is(chat: &Chat<'_>, since: super::clients::Mark, presence: &str) {
    let ghost = chat.portal.ghost.as_str();
    chat.person.expect_since(since, &format!("the ghost as {presence}"), |event| {
        event["event"] == "presence" && event["user"] == ghost && event["presence"] == presence
    });
}

const LIST: &str = "<blocklist xmlns='urn:xmpp:blocking'/>";

fn change(kind: &str, jid: &str) -> String {
    format!("<{kind} xmlns='urn:xmpp:blocking'><item jid='{jid}'/></{kind}>")
}

fn blocking(bridge: &Bridge, alice: &Account, bob: &Account) {
    let chat = Chat::between(bridge, alice, bob, Contact::connect);
    let room = chat.portal.room.clone();
    // By command.
    let mark = chat.person.mark();
    chat.person.say(&room, "!msgr block");
    notice(&chat, "This contact is blocked now");
    ghost_is(&chat, mark, "offline");
    let phone = Contact::connect(alice);
    assert!(phone.ask("get", LIST).contains(&bob.jid));
    chat.bob.say(&chat.alice, "Can you hear me?");
    chat.bob
        .expect("that it was not let in", |event| event["type"] == "error" && event["error"] == "service-unavailable");
    chat.person.say(&room, "I can not");
    notice(&chat, "Your message was not sent: you have blocked this contact");
    let mark = chat.person.mark();
    chat.person.say(&room, "!msgr unblock");
    notice(&chat, "This contact is no longer blocked.");
    ghost_is(&chat, mark, "online");
    assert!(!phone.ask("get", LIST).contains(&bob.jid));
    chat.person.say(&room, "And now?");
    chat.bob.hears(&chat.alice, "And now?");
    chat.bob.say(&chat.alice, "Now I can");
    chat.person.hears(&room, "Now I can");

    // By another client of the account.
    let blocked = || chat.person.heard(&room).iter().filter(|body| body.contains("is blocked now")).count();
    let before = blocked();
    phone.ask("set", &change("block", &bob.jid));
    chat.person.expect_count(before + 1, "one more notice of a block", |event| {
        event["room"] == room.as_str() && event["body"].as_str().is_some_and(|body| body.contains("is blocked now"))
    });
    chat.person.say(&room, "Still there?");
    chat.person.expect_count(2, "one more notice of a message that was not sent", |event| {
        event["body"].as_str().is_some_and(|body| body.contains("Your message was not sent"))
    });
    phone.ask("set", &change("unblock", &bob.jid));
    chat.person.expect_count(2, "one more notice of its end", |event| {
        event["room"] == room.as_str() && event["body"].as_str().is_some_and(|body| body.contains("no longer blocked"))
    });
    chat.person.say(&room, "At last");
    chat.bob.hears(&chat.alice, "At last");
    assert_eq!(chat.bob.heard(&chat.alice).iter().filter(|body| *body == "Still there?").count(), 0);
    assert_eq!(blocked(), before + 1);
    assert!(!chat.person.heard(&room).contains(&"Can you hear me?".to_owned()));
}

#[test]
fn a_contact_is_blocked_by_command_and_by_another_client_on_prosody() {
    let prosody = Prosody::shared();
    let bridge = bridge(Prosody::DOMAIN, prosody.reach());
    blocking(&bridge, &prosody.account("alice"), &prosody.account("bob"));
}

#[test]
fn a_contact_is_blocked_by_command_and_by_another_client_on_ejabberd() {
    let ejabberd = Ejabberd::shared();
    let bridge = bridge(Ejabberd::DOMAIN, ejabberd.reach());
    blocking(&bridge, &ejabberd.account("alice"), &ejabberd.account("bob"));
}

const IGNORED: &str = "m.ignored_user_list";
const NODE: &str = "https://github.com/messenger-bridge/messenger-bridge#direct-chats";

impl Chat<'_> {
    fn account_data(&self, path: &str) -> Value {
        let path = format!("/_matrix/client/v3/{path}");
        self.person.try_call("request", json!({"method": "GET", "path": path})).unwrap_or_else(|_| json!({}))
    }

    fn change(&self, method: &str, path: &str, body: &Value) {
        let path = format!("/_matrix/client/v3/{path}");
        self.person.call("request", json!({"method": method, "path": path, "body": body}));
    }

    fn of_person(&self, rest: &str) -> String {
        format!("user/{}/{rest}", self.person.id)
    }

    fn ignored(&self) -> Value {
        self.account_data(&self.of_person(&format!("account_data/{IGNORED}")))["ignored_users"].clone()
    }

    fn is_favourite(&self) -> bool {
        let tags = self.account_data(&self.of_person(&format!("rooms/{}/tags", self.portal.room)));
        tags["tags"].get("m.favourite").is_some()
    }

    fn rule(&self, kind: &str) -> Value {
        self.account_data(&format!("pushrules/global/{kind}/{}", self.portal.room))
    }
}

/// Asks until it is so. What the account's server keeps in a private node is told to no client of ours, and a push rule or a
/// tag to be gone is no event.
fn becomes(what: &str, is_so: impl Fn() -> bool) {
    assert!(super::ground::poll(is_so), "{what}: not in time");
}

fn ignoring(bridge: &Bridge, alice: &Account, bob: &Account) {
    let chat = Chat::between(bridge, alice, bob, Contact::connect);
    let (phone, ghost) = (Contact::connect(alice), chat.portal.ghost.as_str());
    let blocked = || phone.ask("get", LIST).contains(&bob.jid);
    let path = chat.of_person(&format!("account_data/{IGNORED}"));
    // Somebody else was ignored before, and stays so throughout.
    let list = |users: Value| json!({"ignored_users": users, "org.example": 7});
    chat.change("PUT", &path, &list(json!({"@spam:hs.test": {}})));

    chat.change("PUT", &path, &list(json!({"@spam:hs.test": {}, ghost: {}})));
    notice(&chat, "This contact is blocked now");
    assert!(blocked());
    chat.change("PUT", &path, &list(json!({"@spam:hs.test": {}})));
    notice(&chat, "This contact is no longer blocked.");
    assert!(!blocked());

    phone.ask("set", &change("block", &bob.jid));
    becomes("the ghost ignored", || chat.ignored() == json!({"@spam:hs.test": {}, ghost: {}}));
    chat.person.say(&chat.portal.room, "!msgr unblock");
    becomes("the ghost no longer ignored", || chat.ignored() == json!({"@spam:hs.test": {}}));
    assert!(!blocked());
    assert_eq!(chat.account_data(&path)["org.example"], 7);
    // Nothing has gone round: the chat goes on.
    chat.person.say(&chat.portal.room, "At last");
    chat.bob.hears(&chat.alice, "At last");
    chat.bob.say(&chat.alice, "Indeed");
    chat.person.hears(&chat.portal.room, "Indeed");
    let notices = chat.person.heard(&chat.portal.room).iter().filter(|body| body.contains("blocked")).count();
    assert_eq!(notices, 4);
    assert!(!blocked());
}

fn choosing(bridge: &Bridge, alice: &Account, bob: &Account) {
    let chat = Chat::between(bridge, alice, bob, Contact::connect);
    let phone = Contact::connect(alice);
    let (jid, room) = (bob.jid.as_str(), chat.portal.room.as_str());
    let all = format!("<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='{NODE}'/></pubsub>");
    let items = || {
        // Before the first choice there is no node.
        let answer = phone.try_call("iq", json!({"type": "get", "payload": all}));
        answer.map(|answer| answer.as_str().unwrap_or_default().to_owned()).unwrap_or_default()
    };
    let publish = |inner: &str| {
        let chat = format!("<chat xmlns='{NODE}' jid='{jid}'>{inner}</chat>");
        phone.ask(
            "set",
            &format!(
                "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{NODE}'><item id='{jid}'>{chat}</item></publish></pubsub>"
            ),
        );
    };

    // In Matrix: a favourite, then off, then mentions alone, then as usual.
    let tag = chat.of_person(&format!("rooms/{room}/tags/m.favourite"));
    chat.change("PUT", &tag, &json!({"order": 0.5}));
    becomes("the chat pinned", || items().contains("urn:xmpp:bookmarks-pinning:0"));
    let off = format!("pushrules/global/override/{room}");
    let condition = json!({"kind": "event_match", "key": "room_id", "pattern": room});
    chat.change("PUT", &off, &json!({"conditions": [condition], "actions": []}));
    becomes("the chat off", || items().contains("never"));
    chat.change("DELETE", &off, &Value::Null);
    chat.change("PUT", &format!("pushrules/global/room/{room}"), &json!({"actions": []}));
    becomes("mentions alone", || items().contains("on-mention"));
    chat.change("DELETE", &format!("pushrules/global/room/{room}"), &Value::Null);
    chat.change("DELETE", &tag, &Value::Null);
    becomes("the item taken back", || !items().contains(jid));
    // Nobody else may read the node.
    let refused = chat.bob.try_call("iq", json!({"type": "get", "payload": all, "to": chat.alice}));
    assert!(refused.is_err(), "{refused:?}");

    // In another client.
    publish("<pinned xmlns='urn:xmpp:bookmarks-pinning:0'/>");
    becomes("the room a favourite", || chat.is_favourite());
    publish("<notify xmlns='urn:xmpp:notification-settings:1'><never/></notify>");
    becomes("the room off", || chat.rule("override")["actions"] == json!([]));
    becomes("no favourite", || !chat.is_favourite());
    publish("<notify xmlns='urn:xmpp:notification-settings:1'><on-mention/></notify>");
    becomes("mentions alone", || chat.rule("room")["actions"] == json!([]) && chat.rule("override") == json!({}));
    publish("<notify xmlns='urn:xmpp:notification-settings:1'><always/></notify>");
    becomes("the room as usual", || chat.rule("room") == json!({}) && chat.rule("override") == json!({}));

    // A rule of the room that says something is the person's own.
    let of_room = format!("pushrules/global/room/{room}");
    chat.change("PUT", &of_room, &json!({"actions": ["notify", {"set_tweak": "sound", "value": "ring"}]}));
    for (name, is_off) in [("never", true), ("always", false)] {
        publish(&format!("<notify xmlns='urn:xmpp:notification-settings:1'><{name}/></notify>"));
        becomes(name, || (chat.rule("override")["actions"] == json!([])) == is_off);
        assert_eq!(chat.rule("room")["actions"][0], "notify");
    }

    chat.person.say(room, "At last");
    chat.bob.hears(&chat.alice, "At last");
    assert!(!chat.is_favourite() && items().contains("always"), "{}", items());
}

#[test]
fn a_ghost_that_is_ignored_is_a_contact_that_is_blocked_on_prosody() {
    let prosody = Prosody::shared();
    let bridge = puppeting(Prosody::DOMAIN, prosody.reach());
    ignoring(&bridge, &prosody.account("alice"), &prosody.account("bob"));
}

#[test]
fn a_ghost_that_is_ignored_is_a_contact_that_is_blocked_on_ejabberd() {
    let ejabberd = Ejabberd::shared();
    let bridge = puppeting(Ejabberd::DOMAIN, ejabberd.reach());
    ignoring(&bridge, &ejabberd.account("alice"), &ejabberd.account("bob"));
}

#[test]
fn favourites_and_mutes_are_the_accounts_on_prosody() {
    let prosody = Prosody::shared();
    let bridge = puppeting(Prosody::DOMAIN, prosody.reach());
    choosing(&bridge, &prosody.account("alice"), &prosody.account("bob"));
}

#[test]
fn favourites_and_mutes_are_the_accounts_on_ejabberd() {
    let ejabberd = Ejabberd::shared();
    let bridge = puppeting(Ejabberd::DOMAIN, ejabberd.reach());
    choosing(&bridge, &ejabberd.account("alice"), &ejabberd.account("bob"));
}
