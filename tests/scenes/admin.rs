//! Administrators look after the bridge: each command allowed, refused, and at its bound.

use messenger_bridge::{
    bridge::{Permission, PermissionKey},
    domain::{BareJid, LoginId, Timestamp, output::MatrixCall, verbosity::Verbosity},
    store::{Store, login::Login, management::Management},
};
use ruma::{OwnedUserId, RoomId, UserId};
use serde_json::json;

use super::stage::{BOT, OWNER, Stage, TODAY, room_for};

const ADMIN: &str = "@escalus:h.test";

/// The owner is signed in, and there is an administrator with a management room.
fn stage() -> Stage {
    let mut stage = Stage::with(settings());
    stage.sign_in("");
    stage.management(ADMIN);
    stage.pass(1_000);
    stage
}

fn settings() -> messenger_bridge::bridge::Settings {
    let mut settings = Stage::settings();
    settings.permissions.push((PermissionKey::User(UserId::parse(ADMIN).unwrap()), Permission::Admin));
    settings
}

/// What the bot said to somebody in their management room.
fn told(stage: &Stage, whom: &str) -> Vec<String> {
    let room = room_for(&format!("management {whom}"));
    let said = stage.said().into_iter().filter(|said| said.room == room.as_str() && said.sender == BOT);
    said.map(|said| said.body().to_owned()).collect()
}

fn says_in(stage: &mut Stage, room: &RoomId, whom: &str, text: &str) {
    stage.matrix(room, whom, "m.room.message", None, &json!({ "msgtype": "m.text", "body": text }));
}

/// What somebody is answered in their management room.
fn ask(stage: &mut Stage, whom: &str, text: &str) -> String {
    let before = told(stage, whom).len();
    says_in(stage, &room_for(&format!("management {whom}")), whom, text);
    let answers = told(stage, whom);
    assert_eq!(answers.len(), before + 1, "{text}: {:?}", &answers[before..]);
    answers.last().unwrap().clone()
}

#[test]
fn whoever_is_no_administrator_has_no_permission_whatever_they_say() {
    let mut stage = stage();
    for text in [
        "list-users",
        "sudo @escalus:h.test ping",
        "sudo",
        "doas @romeo:h.test list-logins",
        "broadcast confirm hello",
        "broadcast",
        "broadcast stop",
        "stats",
        "set-log-level trace",
        "set-log-level loud",
    ] {
        let answer = ask(&mut stage, OWNER, text);
        assert_eq!(
            answer, "You have no permission for that. The operator of this bridge can give it to you.",
            "{text}"
        );
    }
    assert!(stage.levels.is_empty());
    stage.pass(5_000);
    assert!(!told(&stage, ADMIN).iter().any(|text| text.contains("hello")));
    let help = ask(&mut stage, OWNER, "help");
    assert!(help.contains("list-logins") && !help.contains("sudo") && !help.contains("dministrator"), "{help}");
    let help = ask(&mut stage, ADMIN, "help");
    for name in ["list-users", "sudo <MXID> <command>", "broadcast", "stats", "set-log-level"] {
        assert!(help.contains(name), "{help}");
    }
    says_in(&mut stage, &room_for("a room of many"), ADMIN, "!msgr help");
    let help = stage.said().pop().unwrap().body().to_owned();
    assert!(help.contains("list-logins") && !help.contains("sudo"), "{help}");
}

#[test]
fn what_administrators_say_where_others_read_is_not_answered_there() {
    let mut stage = stage();
    let room = room_for("a room of many");
    for text in ["!msgr list-users", "!msgr stats", "!msgr sudo @romeo:h.test list-logins"] {
        let before = stage.said().len();
        says_in(&mut stage, &room, ADMIN, text);
        let said = stage.said();
        assert_eq!(said.len(), before + 1);
        assert!(said[before].body().contains("in a room with me alone"), "{}", said[before].body());
    }
}

#[test]
fn people_are_listed_with_their_accounts_states_and_no_account() {
    let mut stage = stage();
    let login = stage.login();
    let list = ask(&mut stage, ADMIN, "list-users");
    assert_eq!(list, format!("1 person with 1 account:\n- {OWNER}: xmpp at montague.lit ({login}) online"));
    stage.unreachable(3);
    stage.hush();
    let list = ask(&mut stage, ADMIN, "list-users ROMEO");
    assert!(list.ends_with("not connected"), "{list}");
    let list = ask(&mut stage, ADMIN, "list-users juliet");
    assert_eq!(list, "Nobody whose address has that in it is signed in to an account.");
}

/// A store with so many people, each signed out of `accounts` accounts.
fn crowd(store: &mut Store, people: usize, accounts: usize) {
    for number in 0..people {
        let owner: OwnedUserId = UserId::parse(format!("@p{number:03}:h.test")).unwrap();
        let room = Some(room_for(&format!("management {owner}")));
        store.put_management(&owner, &Management { room, ..Management::default() }).unwrap();
        for account in 0..accounts {
            let account = BareJid::parse(&format!("secret{account}@x.lit")).unwrap();
            let id = LoginId::derive(owner.as_str(), "xmpp", account.as_str());
            let suspended = Some("the sign-in was refused".to_owned());
            store
                .put_login(&Login {
                    id,
                    owner: owner.clone(),
                    network: "xmpp".to_owned(),
                    account,
                    resource: "r".to_owned(),
                    made: Timestamp(TODAY),
                    suspended,
                    archive_after: None,
                    roster_version: None,
                    own_name: None,
                })
                .unwrap();
        }
    }
    store.commit().unwrap();
}

#[test]
fn a_list_of_people_is_bounded_and_says_what_is_left_out() {
    let mut stage = Stage::with(settings());
    stage.lose_store(|mut store| crowd(&mut store, 60, 12));
    stage.management(ADMIN);
    let list = ask(&mut stage, ADMIN, "list-users");
    assert!(list.starts_with("60 people with 720 accounts:"), "{list}");
    assert_eq!(list.matches("\n- @p").count(), 50);
    assert!(list.contains("signed out; and 2 more\n") && list.contains("and 10 more: say part"), "{list}");
    assert!(!list.contains("secret") && list.len() < 60_000);
    let list = ask(&mut stage, ADMIN, "list-users p059");
    assert!(list.starts_with("1 person with 12 accounts:"), "{list}");
}

#[test]
fn an_administrator_runs_harmless_commands_for_somebody_who_is_told() {
    let mut stage = stage();
    let list = ask(&mut stage, ADMIN, "sudo @romeo:h.test list-logins");
    assert!(list.starts_with("As @romeo:h.test: Your accounts:\n- \u{2026}@montague.lit (xmpp): online"), "{list}");
    assert_eq!(stage.last_word(), "An administrator of this bridge ran `list-logins` for you.");
    let ping = ask(&mut stage, ADMIN, "doas @romeo:h.test ping");
    assert!(ping.contains("I am here.") && !ping.contains("romeo@"), "{ping}");
    let sync = ask(&mut stage, ADMIN, "sudo @romeo:h.test sync");
    assert_eq!(sync, "As @romeo:h.test: I am fetching your contact lists again.");
    assert!(stage.last_word().contains("ran `sync` for you. I am fetching"));
    let nothing = ask(&mut stage, ADMIN, "sudo @romeo:h.test cancel");
    assert_eq!(nothing, "As @romeo:h.test: There is nothing to cancel.");
    let login = stage.login();
    let out = ask(&mut stage, ADMIN, &format!("sudo @romeo:h.test logout {login}"));
    assert_eq!(out, "As @romeo:h.test: Signed out of \u{2026}@montague.lit.");
    assert!(stage.engine.store().logins().unwrap().is_empty());
    assert_eq!(
        stage.last_word(),
        "An administrator of this bridge ran `logout` for you. Signed out of romeo@montague.lit."
    );
}

#[test]
fn an_administrator_gets_at_no_secret_and_no_contact() {
    let mut stage = stage();
    let before = stage.bot_said().len();
    for command in [
        "login xmpp romeo@montague.lit hunter2",
        "start-chat juliet@capulet.lit",
        "search juliet",
        "accept juliet@capulet.lit",
        "block",
        "id",
        "publish-profile on",
        "delete-all-portals confirm",
        "set-management-room",
        "stats",
        "sudo @romeo:h.test ping",
    ] {
        let answer = ask(&mut stage, ADMIN, &format!("sudo @romeo:h.test {command}"));
        assert!(answer.starts_with("I run `list-logins`, `ping`"), "{command}: {answer}");
    }
    // The password was typed, so it goes.
    let redacted = stage.calls.iter().filter(|call| matches!(call, MatrixCall::Redact { .. })).count();
    // The owner's own at sign-in, and this one.
    assert_eq!(redacted, 2);
    assert_eq!(stage.bot_said().len(), before, "nothing was done, so nothing is told");
    for (text, answer) in [
        ("sudo romeo ping", "Say whom you mean by their MXID"),
        ("sudo @nobody:h.test ping", "Nobody called @nobody:h.test uses this bridge."),
        ("sudo @romeo:h.test dance", "I don't know that command."),
        ("sudo @romeo:h.test", "Use it like this: `sudo <MXID> <command>`"),
        ("sudo @romeo:h.test logout tybalt@capulet.lit", "As @romeo:h.test: You have no such login."),
    ] {
        let said = ask(&mut stage, ADMIN, text);
        assert!(said.starts_with(answer), "{text}: {said}");
    }
}

#[test]
fn a_broadcast_needs_a_word_goes_at_its_pace_and_tells_how_many_got_it() {
    let mut stage = stage();
    for person in ["@benvolio:h.test", "@mercutio:h.test"] {
        stage.management(person);
    }
    let asked = ask(&mut stage, ADMIN, "broadcast The bridge rests at noon.");
    assert_eq!(asked, "That would be said to 4 people, within about 1 second. `broadcast confirm <text>` says it.");
    stage.pass(5_000);
    let got = |stage: &Stage| {
        let says = |text: &String| text == "The operator of this bridge says:\nThe bridge rests at noon.";
        [ADMIN, OWNER, "@benvolio:h.test", "@mercutio:h.test"]
            .map(|person| told(stage, person).iter().filter(|t| says(t)).count())
    };
    assert_eq!(got(&stage), [0; 4]);
    assert_eq!(ask(&mut stage, ADMIN, "broadcast confirm The bridge rests at noon."), "I am saying it to 4 people.");
    stage.pass(200);
    assert_eq!(got(&stage).iter().sum::<usize>(), 1);
    stage.pass(200);
    assert_eq!(got(&stage).iter().sum::<usize>(), 2);
    // It goes on where it was, after a crash too.
    stage.crash();
    stage.pass(2_000);
    assert_eq!(got(&stage), [1; 4]);
    assert_eq!(told(&stage, ADMIN).pop().unwrap(), "Your broadcast is over: 4 people have got it.");
    assert_eq!(stage.engine.store().broadcast().unwrap(), None);
}

#[test]
fn a_broadcast_is_bounded_in_length_number_and_what_waits_and_can_be_stopped() {
    let mut stage = Stage::with(settings());
    stage.lose_store(|mut store| crowd(&mut store, 300, 0));
    stage.management(ADMIN);
    let long = ask(&mut stage, ADMIN, &format!("broadcast confirm {}", "x".repeat(2_001)));
    assert_eq!(long, "That is too long: 2000 characters are the most.");
    assert_eq!(ask(&mut stage, ADMIN, "broadcast stop"), "No broadcast is on its way.");
    assert_eq!(ask(&mut stage, ADMIN, "broadcast confirm hear"), "I am saying it to 301 people.");
    stage.pass(600);
    let other = ask(&mut stage, ADMIN, "broadcast confirm more");
    assert!(other.starts_with("Another is still on its way: 3 people have got it so far."), "{other}");
    // The homeserver takes nothing: the bot owes so much and no more.
    stage.away = usize::MAX;
    stage.pass(120_000);
    let owed = stage.engine.debts();
    assert!((195..=210).contains(&owed), "{owed}");
    stage.away = 0;
    stage.pass(600_000);
    let everybody = (0..300).all(|n| told(&stage, &format!("@p{n:03}:h.test")).len() == 1);
    assert!(everybody && told(&stage, ADMIN).iter().any(|text| text.contains("301 people have got it")));
    assert_eq!(ask(&mut stage, ADMIN, "broadcast confirm again"), "I am saying it to 301 people.");
    stage.pass(1_000);
    let stopped = ask(&mut stage, ADMIN, "broadcast stop");
    assert_eq!(stopped, "Stopped: 5 people have got it.");
    let said = stage.said().len();
    stage.pass(10_000);
    assert_eq!(stage.said().len(), said);
}

#[test]
fn stats_tell_how_the_bridge_is() {
    let mut stage = stage();
    stage.phone_sends("juliet@capulet.lit/balcony", "hello");
    stage.pass(1_000);
    let room = stage.room("juliet@capulet.lit");
    stage.says(&room, "good night");
    stage.says(&room, "a thousand times");
    stage.pass(2_000);
    let stats = ask(&mut stage, ADMIN, "stats");
    for line in [
        "messenger-bridge 9.9, up 0 min.",
        "Accounts: 1 online.",
        "Waiting: 0 debts.",
        "Messages since the start: 1 into rooms, 2 to contacts; today (UTC): 1 and 2.",
        "Store: unknown. Memory: 35.4 MB.",
    ] {
        assert!(stats.lines().any(|other| other == line), "{line} in {stats}");
    }
    stage.unreachable(1_000);
    stage.hush();
    stage.says(&room, "times the worse");
    stage.pass(86_400_000 - 10_000);
    let stats = ask(&mut stage, ADMIN, "stats");
    assert!(stats.contains("Accounts: 1 not connected.") || stats.contains("1 connecting"), "{stats}");
    assert!(stats.contains("1 debt, the oldest since 2026-03-20"), "{stats}");
    assert!(stats.contains("2 to contacts; today (UTC): 0 and 0."), "{stats}");
}

#[test]
fn the_log_level_is_set() {
    let mut stage = stage();
    let answer = ask(&mut stage, ADMIN, "set-log-level Debug");
    assert!(answer.starts_with("The log shows `debug` and graver from now on"), "{answer}");
    assert_eq!(stage.levels, [Verbosity::Debug]);
    let answer = ask(&mut stage, ADMIN, "set-log-level loud");
    assert!(answer.starts_with("Use it like this: `set-log-level <error | warn"), "{answer}");
    assert_eq!(stage.levels.len(), 1);
}
