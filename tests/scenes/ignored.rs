//! Whom the person ignores in Matrix, and whom their account blocks: one is made of both, each way, and no echo goes round.

use messenger_bridge::{
    bridge::Settings,
    domain::{Input, output::MatrixCall},
};
use ruma::{OwnedUserId, UserId};
use serde_json::{Value, json};

use super::{
    blocking::{asked, blocking_with, change, is_blocked, list, push},
    stage::{OWNER, Stage},
};

const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
const JID: &str = "juliet@capulet.lit";
const KIND: &str = "m.ignored_user_list";

fn puppeted() -> Settings {
    Settings { double_puppet: true, ..Stage::settings() }
}

fn stage(of: &[&str]) -> Stage {
    blocking_with(puppeted(), JULIET, of)
}

/// The person's list is this now.
fn ignores(stage: &mut Stage, users: &[OwnedUserId]) {
    let users: serde_json::Map<String, Value> = users.iter().map(|user| (user.to_string(), json!({}))).collect();
    tells(stage, &json!({ "ignored_users": users }));
}

fn tells(stage: &mut Stage, content: &Value) {
    let (owner, content) = (UserId::parse(OWNER).unwrap(), serde_json::value::to_raw_value(content).unwrap());
    stage.play(Input::AccountData { owner, room: None, kind: KIND.to_owned(), content });
}

/// What was written into the person's list, as (ghost, in or out).
fn written(stage: &Stage) -> Vec<(OwnedUserId, bool)> {
    let write = |call: &MatrixCall| match call {
        MatrixCall::Ignore { user, ghost, ignored } => {
            assert_eq!(user, OWNER);
            Some((ghost.clone(), *ignored))
        }
        _ => None,
    };
    stage.calls.iter().filter_map(write).collect()
}

#[test]
fn a_ghost_that_is_ignored_is_blocked_and_the_other_way_round() {
    let mut stage = stage(&[]);
    let (ghost, friend) = (stage.ghost(JID), UserId::parse("@friend:h.test").unwrap());
    ignores(&mut stage, std::slice::from_ref(&friend));
    assert!(asked(&stage).is_empty());
    ignores(&mut stage, &[friend.clone(), ghost.clone()]);
    assert_eq!(asked(&stage), [("block".to_owned(), JID.to_owned())]);
    push(&mut stage, "", &change("block", &[JID]));
    assert!(is_blocked(&stage, JID));
    // The same list again, and the server's push, are no news: nothing goes round.
    ignores(&mut stage, &[friend.clone(), ghost.clone()]);
    assert_eq!((asked(&stage).len(), written(&stage).len()), (1, 0));
    ignores(&mut stage, std::slice::from_ref(&friend));
    assert_eq!(asked(&stage).last().unwrap(), &("unblock".to_owned(), JID.to_owned()));
    push(&mut stage, "", &change("unblock", &[JID]));
    assert!(!is_blocked(&stage, JID) && written(&stage).is_empty());
}

#[test]
fn whom_the_account_blocks_is_ignored_in_matrix() {
    let mut stage = stage(&[]);
    let ghost = stage.ghost(JID);
    push(&mut stage, "", &change("block", &[JID, "stranger@spam.test"]));
    assert_eq!(written(&stage), [(ghost.clone(), true)], "nobody without a ghost");
    // What we wrote comes back.
    ignores(&mut stage, std::slice::from_ref(&ghost));
    assert_eq!((asked(&stage).len(), written(&stage).len()), (0, 1));
    let room = stage.room(JID);
    stage.says(&room, "!msgr unblock");
    assert_eq!(written(&stage).last().unwrap(), &(ghost, false));
    ignores(&mut stage, &[]);
    assert_eq!((asked(&stage).len(), written(&stage).len()), (1, 2));
}

/// The homeserver is away: what is to be written waits, and what comes back meanwhile is not taken for the person's wish.
#[test]
fn what_is_on_its_way_is_no_wish_of_the_persons() {
    let mut stage = stage(&[]);
    let ghost = stage.ghost(JID);
    stage.away = 1_000;
    push(&mut stage, "", &change("block", &[JID]));
    ignores(&mut stage, &[]);
    assert!(asked(&stage).is_empty());
    push(&mut stage, "", &change("unblock", &[JID]));
    stage.away = 0;
    stage.pass(900_000);
    assert_eq!(written(&stage), [(ghost.clone(), true), (ghost.clone(), false)]);
    ignores(&mut stage, &[]);
    assert!(asked(&stage).is_empty());
}

#[test]
fn what_was_before_double_puppeting_is_written_once_it_may_be() {
    let mut stage = blocking_with(Stage::settings(), JULIET, &[]);
    push(&mut stage, "", &change("block", &[JID]));
    assert!(written(&stage).is_empty());
    // Juliet stays blocked; the next start may act for Romeo.
    stage.answers.insert("urn:xmpp:blocking", list(&[JID]));
    stage.change(puppeted());
    stage.crash();
    let owner = UserId::parse(OWNER).unwrap();
    let ghost = stage.ghost(JID);
    stage.play(Input::Followed { owner: owner.clone(), since: "s1".to_owned(), whole: true });
    assert_eq!(written(&stage), [(ghost, true)]);
    stage.play(Input::Followed { owner, since: "s2".to_owned(), whole: true });
    assert_eq!(written(&stage).len(), 1);
}

#[test]
fn lists_that_are_odd_change_nothing() {
    let mut stage = stage(&[]);
    let ghost = stage.ghost(JID);
    ignores(&mut stage, std::slice::from_ref(&ghost));
    for odd in [json!([]), json!({ "ignored_users": [ghost] }), json!({ "ignored_users": 7 })] {
        tells(&mut stage, &odd);
    }
    assert_eq!(asked(&stage).len(), 1);
    assert_eq!(stage.ignored("list of the ignored that cannot be read"), 3);
    // Ghosts of nobody, of other people's logins, and of people that the account does not know.
    let others: Vec<OwnedUserId> = [
        "@messenger_:h.test".to_owned(),
        "@messenger_abcdefgh_juliet=40capulet.lit:h.test".to_owned(),
        stage.ghost("nobody@capulet.lit").to_string(),
        ghost.to_string(),
    ]
    .into_iter()
    .map(|user| UserId::parse(user).unwrap())
    .collect();
    ignores(&mut stage, &others);
    assert_eq!(asked(&stage).len(), 1);
}

#[test]
fn where_the_account_cannot_block_the_person_is_told() {
    let mut settings = puppeted();
    settings.space = false;
    let mut stage = Stage::with(settings);
    stage.answers.insert(
        "http://jabber.org/protocol/disco#info montague.lit",
        "<query xmlns='http://jabber.org/protocol/disco#info'/>".to_owned(),
    );
    stage.sign_in(JULIET);
    let ghost = stage.ghost(JID);
    ignores(&mut stage, std::slice::from_ref(&ghost));
    assert!(stage.last_word().contains("cannot block them: they are only hidden from you"), "{}", stage.last_word());
    let said = stage.bot_said().len();
    ignores(&mut stage, &[ghost]);
    ignores(&mut stage, &[]);
    assert_eq!(stage.bot_said().len(), said);
}

#[test]
fn no_ghost_stays_in_the_list_after_signing_out() {
    let mut stage = stage(&[]);
    let ghost = stage.ghost(JID);
    ignores(&mut stage, std::slice::from_ref(&ghost));
    stage.command("logout romeo@montague.lit");
    assert_eq!(written(&stage), [(ghost, false)]);
    assert!(stage.records().iter().all(|(key, _)| !matches!(key.first(), Some(b'I'..=b'N'))));
}
