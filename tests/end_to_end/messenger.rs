//! A person's Messenger account: the OAuth link, twenty contacts, the conversation, what was said before, and tokens that
//! end. The service behaves as it did in April 2012: it redirects, its mechanism's name has a trailing blank, its answers
//! come from its domain, and it cuts who is idle for 90 s.

use std::fs;

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use tokio::runtime::Runtime;

use super::bridge::{Bridge, Management, Portal};
use super::clients::Person;
use super::ground;
use crate::messenger_service::{
    Account, ChatState, Direction, Era, Event, Inbox, IqFrom, MISMATCHED_NAME, Redirect, Service, Settings, Status,
    Switches, cast,
};

/// The service, its clock, and one account on it.
pub struct Messenger {
    pub runtime: Runtime,
    pub service: Service,
    pub me: Account,
}

impl Messenger {
    pub fn start(change: impl FnOnce(&mut Switches)) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let mut switches = Switches {
            era: Era::April2012,
            redirect: Redirect::Always,
            trailing_blank: true,
            iq_from: IqFrom::Domain,
            idle_cut_ms: 90_000,
            ..Switches::default()
        };
        change(&mut switches);
        let settings = Settings { switches, ..Settings::default() };
        let service = runtime.block_on(Service::start(settings)).expect("the Messenger service");
        let me = service.add_account("romeo@hotmail.com", "Romeo", "wherefore").expect("an account");
        Self { runtime, service, me }
    }

    pub fn contact(&self, name: &str) -> Account {
        let contact = self.service.add_account(&format!("{name}@hotmail.com"), name, "pw").expect("a contact");
        self.service.befriend(&self.me.jid, &contact.jid, name).expect("friends");
        self.service.online(&contact.jid, "").expect("on line");
        contact
    }

    /// `networks` of the bridge's configuration.
    pub fn networks(&self, accept_name: Option<&str>) -> Value {
        let ca = ground::folder("messenger").join("ca.pem");
        fs::write(&ca, self.service.ca_pem()).expect("write the authority");
        json!({"messenger": {
            "profile": "messenger",
            "domain": "messenger.live.com",
            "address": self.service.xmpp_addr().to_string(),
            "tls": {"ca_file": ca, "accept_name": accept_name},
            "oauth": {
                "client_id": "000000004C00AAAA",
                "authorize_url": self.service.authorize_url(),
                "token_url": self.service.token_url(),
                "redirect_url": self.service.desktop_url(),
            },
        }})
    }

    /// What a browser does: opens the bot's link, signs in there, and ends on a page whose address it gives.
    pub fn browse(&self, link: &str, account: &Account) -> String {
        let body = format!("email={}&password={}", account.email.replace('@', "%40"), account.password);
        self.runtime.block_on(async {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let browser =
                reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a browser");
            let request = browser.post(link).header("Content-Type", "application/x-www-form-urlencoded").body(body);
            let answer = request.send().await.expect("the provider's answer");
            assert_eq!(answer.status().as_u16(), 302, "{answer:?}");
            answer.headers()["location"].to_str().expect("an address").to_owned()
        })
    }

    pub fn sign_in(&self, management: &Management<'_>) {
        self.sign_in_as(management, &self.me);
    }

    fn sign_in_as(&self, management: &Management<'_>, account: &Account) {
        let answer = management.ask("login messenger", |answer| answer.contains("http"));
        let link = answer.split_whitespace().find(|word| word.starts_with("http")).expect("a link").to_owned();
        management.say_secret(&self.browse(&link, account));
        management.ask("list-logins", |answer| answer.contains(&account.jid));
    }

    pub fn wait<T>(&self, inbox: &mut Inbox, what: &str, wanted: impl FnMut(&Event) -> Option<T>) -> T {
        self.runtime.block_on(inbox.wait(ground::deadline(), wanted)).unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    fn hears(&self, inbox: &mut Inbox, text: &str) {
        self.wait(inbox, text, |event| event.text().filter(|heard| *heard == text).map(drop));
    }
}

pub fn portal(person: &Person, contact: &Account) -> Portal {
    Portal::appears_on(person, &contact.jid, "messenger")
}

#[test]
fn twenty_contacts_become_ghosts_and_rooms_and_everybody_converses() {
    let messenger = Messenger::start(|_| {});
    let _context = messenger.runtime.enter();
    let contacts = cast::contacts(&messenger.service, &messenger.me.jid, 20).expect("a cast");
    for contact in &contacts {
        messenger.service.autoreply(&contact.jid, None).expect("silence");
    }
    let names = names(&messenger, &contacts);
    let bridge = Bridge::start_on("bridge", &messenger.networks(None));
    let person = bridge.person("romeo");
    let management = Management::open(&person);
    messenger.sign_in(&management);

    let portals: Vec<Portal> = contacts.iter().map(|contact| portal(&person, contact)).collect();
    for (index, (name, portal)) in names.iter().zip(&portals).enumerate() {
        person.expect(&format!("{name} with a photo"), |event| {
            event["type"] == "m.room.member"
                && event["room"] == portal.room.as_str()
                && event["state_key"] == portal.ghost.as_str()
                && event["content"]["displayname"] == name.as_str()
                && event["content"]["avatar_url"].is_string()
        });
        let photo = person.call("avatar", json!({"user": portal.ghost}));
        assert_eq!(
            (photo["type"].as_str(), photo["length"].as_u64()),
            (Some("image/png"), Some(cast::picture(index).len() as u64))
        );
        assert_eq!(photo["sha1"].as_str().map(str::to_owned), Some(sha1(&cast::picture(index))));
    }
    let progress = person.expect("the progress, edited in place", |event| {
        event["room"] == management.room()
            && event["content"]["m.new_content"]["body"].as_str().is_some_and(|body| body.contains("20 contacts"))
    });
    assert_eq!(progress["content"]["m.relates_to"]["rel_type"], "m.replace");

    let (friend, room) = (&contacts[0], &portals[0]);
    talk(&messenger, &person, friend, room);
    long_texts(&messenger, &person, friend, room);
    typing(&messenger, &person, friend, room);
    presence(&messenger, &person, friend, room);
    people(&messenger, &person, &management);
    let counters = messenger.service.counters();
    assert!(counters.redirects >= 1 && counters.sign_ins == 1 && counters.refused == 0, "{counters:?}");
    assert_eq!(counters.unavailable, 0, "nobody saw the account leave");
}

/// What each contact is to be called. Most have a name in the roster; the last have less and less of one.
fn names(messenger: &Messenger, contacts: &[Account]) -> Vec<String> {
    let mut names: Vec<String> = contacts.iter().map(|contact| contact.name.clone()).collect();
    let localpart = contacts[19].jid.split('@').next().unwrap_or_default();
    for (index, in_roster, nickname, full_name, shown) in [
        (16, "Named by me", "Nick", "Full Name", "Named by me"),
        (17, "", "Nick Only", "Full Name", "Nick Only"),
        (18, "", "", "Full Name Only", "Full Name Only"),
        (19, "", "", "", localpart),
    ] {
        let jid = &contacts[index].jid;
        messenger.service.befriend(&messenger.me.jid, jid, in_roster).expect("friends");
        messenger.service.set_vcard(jid, nickname, full_name, Some(cast::picture(index))).expect("a vCard");
        shown.clone_into(&mut names[index]);
    }
    names
}

fn sha1(bytes: &[u8]) -> String {
    use sha1::Digest;
    sha1::Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hundred messages each way at once, exact and in order.
fn talk(messenger: &Messenger, person: &Person, friend: &Account, room: &Portal) {
    let shapes = [
        "Ünï©ode 🌍 & <b>\n \"second\" line ",
        "]]> &amp; 'single' > <body/> \u{202e}שלום\u{202c}",
        "e\u{301} 👩\u{200d}👩\u{200d}👧 \t tab\n\n\nthree lines",
        "not an action: /me",
    ];
    let words = |who: &str| -> Vec<String> {
        (1..=100).zip(shapes.iter().cycle()).map(|(n, shape)| format!("{who} {n}: {shape}")).collect()
    };
    let (theirs, mine) = (words("Friend"), words("Romeo"));
    let mut inbox = messenger.service.messages_from_now(&friend.jid).expect("the contact's messages");
    for (their, my) in theirs.iter().zip(&mine) {
        messenger.service.say(&friend.jid, &messenger.me.jid, their).expect("said");
        person.tell("send", json!({"room": room.room, "body": my}));
    }
    let mut heard = Vec::new();
    while heard.len() < mine.len() {
        heard.push(messenger.wait(&mut inbox, "a message", |event| event.text().map(str::to_owned)));
    }
    assert_eq!(heard, mine);
    person.hears(&room.room, &theirs[99]);
    let heard: Vec<String> = person.heard(&room.room).into_iter().filter(|body| body.starts_with("Friend ")).collect();
    assert_eq!(heard, theirs);
    // Two equal messages stay two.
    for _ in 0..2 {
        messenger.service.say(&friend.jid, &messenger.me.jid, "twice").expect("said");
    }
    person
        .expect_count(2, "two equal messages", |event| event["room"] == room.room.as_str() && event["body"] == "twice");
    // An action is one on both sides; a text that merely begins like one is none.
    messenger.service.say(&friend.jid, &messenger.me.jid, "/me waves").expect("said");
    assert_eq!(person.hears(&room.room, "waves")["msgtype"], "m.emote");
    person.call("send", json!({"room": room.room, "body": "bows", "msgtype": "m.emote"}));
    messenger.hears(&mut inbox, "/me bows");
    person.say(&room.room, "/me is how it is written");
    let written = messenger.wait(&mut inbox, "a text like an action", |event| event.text().map(str::to_owned));
    assert!(!written.starts_with("/me ") && written.ends_with("/me is how it is written"), "{written:?}");
}

fn long_texts(messenger: &Messenger, person: &Person, friend: &Account, room: &Portal) {
    let mut inbox = messenger.service.messages_from_now(&friend.jid).expect("the contact's messages");
    let long = "0123456789abcdef".repeat(500);
    person.say(&room.room, &long);
    messenger.hears(&mut inbox, &long);
    let huge = "&é<".repeat(4_000) + "the end";
    person.say(&room.room, &huge);
    let mut joined = String::new();
    while !joined.ends_with("the end") {
        joined += &messenger.wait(&mut inbox, "a part", |event| event.text().map(str::to_owned));
    }
    assert_eq!(joined, huge);
}

fn typing(messenger: &Messenger, person: &Person, friend: &Account, room: &Portal) {
    let seen = |users: Value| {
        move |event: &Value| {
            event["event"] == "typing" && event["room"] == room.room.as_str() && event["users"] == users
        }
    };
    for (state, users) in [(ChatState::Composing, json!([room.ghost])), (ChatState::Paused, json!([]))] {
        let mark = person.mark();
        messenger.service.chat_state(&friend.jid, &messenger.me.jid, state).expect("typed");
        person.expect_since(mark, "the ghost's typing", seen(users));
    }
    let mut inbox = messenger.service.messages_from_now(&friend.jid).expect("the contact's messages");
    let state = |inbox: &mut Inbox| {
        messenger.wait(inbox, "a chat state", |event| {
            if let Event::ChatState { state, .. } = event { Some(state.clone()) } else { None }
        })
    };
    person.call("typing", json!({"room": room.room}));
    assert_eq!(state(&mut inbox), "composing");
    person.call("typing", json!({"room": room.room, "typing": false}));
    assert_eq!(state(&mut inbox), "paused");
}

fn presence(messenger: &Messenger, person: &Person, friend: &Account, room: &Portal) {
    for (status, text, presence) in [
        (Status::Away, "out for lunch 🍲", "unavailable"),
        (Status::Busy, "do not disturb", "unavailable"),
        (Status::Online, "here", "online"),
    ] {
        messenger.service.presence(&friend.jid, status, text).expect("shown");
        person.expect(text, |event| {
            event["event"] == "presence"
                && event["user"] == room.ghost.as_str()
                && event["presence"] == presence
                && event["status"] == text
        });
    }
    let mark = person.mark();
    messenger.service.offline(&friend.jid, "").expect("left");
    person.expect_since(mark, "the contact off line", |event| {
        event["event"] == "presence" && event["user"] == room.ghost.as_str() && event["presence"] == "offline"
    });
    let mark = person.mark();
    messenger.service.online(&friend.jid, "back").expect("back");
    person.expect_since(mark, "the contact back", |event| {
        event["event"] == "presence" && event["user"] == room.ghost.as_str() && event["status"] == "back"
    });
    let mut inbox = messenger.service.messages_from_now(&friend.jid).expect("what the contact sees");
    // Who is offline on Matrix is away: the stream stays.
    for (presence, text, wanted) in [
        ("unavailable", "on the train", Status::Away),
        ("online", "home", Status::Online),
        ("offline", "asleep", Status::Away),
        ("online", "awake", Status::Online),
    ] {
        person.call("presence", json!({"presence": presence, "status": text}));
        messenger.wait(&mut inbox, text, |event| match event {
            Event::Presence { status, text: seen, .. } if *status == wanted && seen == text => Some(()),
            _ => None,
        });
    }
}

/// Someone asks, and someone is found by their e-mail address.
fn people(messenger: &Messenger, person: &Person, management: &Management<'_>) {
    let stranger = messenger.service.add_account("paris@hotmail.com", "Count Paris", "pw").expect("an account");
    messenger.service.online(&stranger.jid, "").expect("on line");
    let mark = person.mark();
    messenger.service.invite(&stranger.jid, &messenger.me.jid).expect("asked");
    person.expect_since(mark, "the request", |event| {
        event["body"].as_str().is_some_and(|body| body.contains("Count Paris") && body.contains("accept"))
    });
    let mut inbox = messenger.service.messages_from_now(&stranger.jid).expect("the stranger's events");
    management.ask(&format!("accept {}", stranger.jid), |answer| answer.contains("accepted"));
    messenger.wait(&mut inbox, "the acceptance", |event| matches!(event, Event::Subscription { .. }).then_some(()));

    let friend = messenger.service.add_account("friend@hotmail.com", "Old friend", "pw").expect("an account");
    messenger.service.online(&friend.jid, "").expect("on line");
    management.ask("start-chat friend@hotmail.com", |answer| answer.contains("friend@hotmail.com is open"));
    let portal = portal(person, &friend);
    let mut inbox = messenger.service.messages_from_now(&friend.jid).expect("the friend's messages");
    person.say(&portal.room, "found you");
    messenger.hears(&mut inbox, "found you");
    management.ask("start-chat nobody@hotmail.com", |answer| answer.contains("Nobody with the address"));
}

/// Whose address book an address is looked up in is said where there is more than one account; who is nobody opens nothing.
#[test]
fn an_address_is_looked_up_for_the_account_that_is_named() {
    let messenger = Messenger::start(|_| {});
    let _context = messenger.runtime.enter();
    let other = messenger.service.add_account("montague@hotmail.com", "Montague", "elder").expect("another account");
    let friend = messenger.service.add_account("friend@hotmail.com", "Old friend", "pw").expect("an account");
    messenger.service.online(&friend.jid, "").expect("on line");
    let bridge = Bridge::start_on("bridge", &messenger.networks(None));
    let person = bridge.person("romeo");
    let management = Management::open(&person);
    messenger.sign_in(&management);
    messenger.sign_in_as(&management, &other);
    management.ask("start-chat friend@hotmail.com", |answer| answer.contains("several accounts"));
    management.ask(&format!("start-chat {} friend@hotmail.com", other.jid), |answer| {
        answer.contains("friend@hotmail.com is open")
    });
    let portal = portal(&person, &friend);
    let mut inbox = messenger.service.messages_from_now(&friend.jid).expect("the friend's messages");
    person.say(&portal.room, "found you");
    messenger.hears(&mut inbox, "found you");
    management.ask(&format!("start-chat {} nobody@hotmail.com", other.jid), |answer| {
        answer.contains("Nobody with the address nobody@hotmail.com")
    });
}

/// What was said before is in the room once, at its own time, oldest first, before anything live; asked again after a
/// restart, nothing comes twice.
#[test]
fn offline_and_archived_messages_come_once_at_their_own_times() {
    let messenger = Messenger::start(|_| {});
    let juliet = messenger.contact("juliet");
    let begun = OffsetDateTime::now_utc() - Duration::hours(5);
    let mut past = Vec::new();
    for n in 0..10 {
        let (stamp, direction) =
            (begun + Duration::minutes(n), if n % 2 == 0 { Direction::Received } else { Direction::Sent });
        messenger
            .service
            .store_archived(&messenger.me.jid, &juliet.jid, &format!("archived {n}"), stamp, direction)
            .expect("archived");
        past.push((format!("archived {n}"), stamp, direction == Direction::Received));
    }
    // One of them is in the offline store as well, a second later by its clock, and is still one message.
    messenger
        .service
        .store_offline(&juliet.jid, &messenger.me.jid, "archived 8", begun + Duration::minutes(8) + Duration::SECOND)
        .expect("kept");
    // Kept out of order.
    for n in [2, 0, 1, 3, 4] {
        let stamp = begun + Duration::hours(1) + Duration::minutes(n);
        messenger.service.store_offline(&juliet.jid, &messenger.me.jid, &format!("offline {n}"), stamp).expect("kept");
    }
    past.extend((0..5).map(|n| (format!("offline {n}"), begun + Duration::hours(1) + Duration::minutes(n), true)));

    let bridge = Bridge::start_on("bridge", &messenger.networks(None));
    let person = bridge.person("romeo");
    let management = Management::open(&person);
    messenger.sign_in(&management);
    let room = portal(&person, &juliet);
    messenger.service.say(&juliet.jid, &messenger.me.jid, "live at last").expect("said");
    person.hears(&room.room, "live at last");
    let mut wanted: Vec<&str> = past.iter().map(|(body, _, _)| body.as_str()).collect();
    wanted.push("live at last");
    assert_eq!(person.heard(&room.room), wanted);
    for (body, stamp, theirs) in &past {
        let event = person.hears(&room.room, body);
        let apart =
            (i128::from(event["ts"].as_i64().unwrap_or_default()) - stamp.unix_timestamp_nanos() / 1_000_000).abs();
        assert!(apart <= 1_000, "{apart} ms: {event}");
        assert_eq!(event["sender"] == room.ghost.as_str(), *theirs, "{event}");
    }

    let mut inbox = messenger.service.messages_from_now(&juliet.jid).expect("her messages");
    person.say(&room.room, "through Matrix");
    messenger.hears(&mut inbox, "through Matrix");
    bridge.kill();
    let mine = || messenger.service.clients(&messenger.me.jid).expect("the account's clients");
    assert!(ground::poll(|| mine().is_empty()), "the killed bridge stays connected");
    // It is in the offline store and in the archive.
    messenger.service.say(&juliet.jid, &messenger.me.jid, "while it was down").expect("said");
    let asked = || messenger.service.counters().archive_requests;
    let before = asked();
    bridge.launch();
    person.hears(&room.room, "while it was down");
    assert!(ground::poll(|| asked() > before), "the archive is not asked again");
    // The archive's answer is on the stream before this, and a room keeps its order.
    messenger.service.say(&juliet.jid, &messenger.me.jid, "after the restart").expect("said");
    person.hears(&room.room, "after the restart");
    // What the person said through Matrix is in the archive too, and not said again by the account's own ghost.
    wanted.extend(["while it was down", "after the restart"]);
    // What had not been confirmed yet when the bridge was killed, it says it is not sure of.
    let heard: Vec<String> = person.heard(&room.room);
    let heard: Vec<&str> =
        heard.iter().map(String::as_str).filter(|body| !body.contains("may have been delivered twice")).collect();
    assert_eq!(heard, wanted);
}

#[test]
fn a_refused_token_is_renewed_without_the_person_and_a_refused_renewal_asks_them() {
    let messenger = Messenger::start(|_| {});
    let juliet = messenger.contact("juliet");
    let bridge = Bridge::start_on("bridge", &messenger.networks(None));
    let person = bridge.person("romeo");
    let management = Management::open(&person);
    messenger.sign_in(&management);
    let room = portal(&person, &juliet);

    let mark = person.mark();
    messenger.service.refuse_next_sign_ins(1);
    messenger.service.cut(&messenger.me.jid).expect("cut");
    messenger.service.say(&juliet.jid, &messenger.me.jid, "back?").expect("said");
    person.hears(&room.room, "back?");
    assert_eq!(messenger.service.counters().refreshes, 1);
    let told = person.events_since(mark, |event| event["event"] == "message" && event["sender"] == Bridge::BOT);
    assert!(told.is_empty(), "the person was troubled: {told:?}");

    messenger.service.refuse_next_sign_ins(1);
    messenger.service.refuse_refresh(true);
    messenger.service.cut(&messenger.me.jid).expect("cut");
    person.expect_since(mark, "being asked to sign in", |event| {
        event["sender"] == Bridge::BOT
            && event["body"]
                .as_str()
                .is_some_and(|body| body.contains("sign in again") && body.contains("login messenger"))
    });
    person.say(&room.room, "this waits");
    messenger.service.say(&juliet.jid, &messenger.me.jid, "this waits too").expect("said");
    messenger.service.refuse_refresh(false);
    let mut inbox = messenger.service.messages_from_now(&juliet.jid).expect("her messages");
    messenger.sign_in(&management);
    messenger.hears(&mut inbox, "this waits");
    person.hears(&room.room, "this waits too");
    messenger.service.say(&juliet.jid, &messenger.me.jid, "the last word").expect("said");
    person.hears(&room.room, "the last word");
    assert_eq!(person.heard(&room.room), ["back?", "this waits too", "the last word"]);
    person.say(&room.room, "my last word");
    let next = messenger.wait(&mut inbox, "a message", |event| event.text().map(str::to_owned));
    assert_eq!(next, "my last word", "what waited was sent again");
}

#[test]
fn a_certificate_of_another_name_is_refused_unless_the_operator_names_it() {
    let messenger = Messenger::start(|switches| switches.mismatched_certificate = true);
    let juliet = messenger.contact("juliet");
    let bridge = Bridge::start_on("strict", &messenger.networks(None));
    let person = bridge.person("romeo");
    let management = Management::open(&person);
    let answer = management.ask("login messenger", |answer| answer.contains("http"));
    let link = answer.split_whitespace().find(|word| word.starts_with("http")).expect("a link").to_owned();
    let mark = person.mark();
    management.say_secret(&messenger.browse(&link, &messenger.me));
    person.expect_since(mark, "the certificate's trouble", |event| {
        event["body"].as_str().is_some_and(|body| body.contains("certificate"))
    });
    drop(bridge);

    let bridge = Bridge::start_on("lenient", &messenger.networks(Some(MISMATCHED_NAME)));
    let person = bridge.person("romeo");
    messenger.sign_in(&Management::open(&person));
    portal(&person, &juliet);
}

/// The service cuts who says nothing for 90 s; the bridge's pings keep the stream.
#[test]
fn an_idle_stream_is_kept_by_pings() {
    let messenger = Messenger::start(|_| {});
    let juliet = messenger.contact("juliet");
    let bridge = Bridge::start_on("bridge", &messenger.networks(None));
    let person = bridge.person("romeo");
    messenger.sign_in(&Management::open(&person));
    let room = portal(&person, &juliet);
    let pings = messenger.service.counters().pings;
    // Nothing happens but time: longer than the service's patience.
    let began = std::time::Instant::now();
    while began.elapsed().as_secs() < 100 {
        std::thread::park_timeout(std::time::Duration::from_secs(1));
        assert_eq!(messenger.service.counters().sign_ins, 1, "the stream was cut");
    }
    assert!(messenger.service.counters().pings > pings, "nothing was asked of the service");
    messenger.service.say(&juliet.jid, &messenger.me.jid, "still there").expect("said");
    person.hears(&room.room, "still there");
    assert_eq!(messenger.service.counters().sign_ins, 1);
}
