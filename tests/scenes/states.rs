//! How the bridge and its logins are: what programs are told, and what people are.

use messenger_bridge::{
    bridge::{Settings, StatusNotices},
    domain::{
        bridge_state::StateEvent::{self, *},
        request::{Request, RoomsAfterLogout, Wish},
        stream::{Refusal, StreamEnd},
    },
};

use ruma::UserId;

use super::stage::{OWNER, Stage};

const ROSTER: &str = "<item jid='juliet@capulet.lit' subscription='both'/>";
const ACCOUNT: &str = "romeo@montague.lit";

fn with(status_notices: StatusNotices) -> Stage {
    let mut stage = Stage::with(Settings { status_notices, ..Stage::settings() });
    stage.sign_in(ROSTER);
    stage
}

/// What programs were told since this was last asked: of the login, and of the bridge.
fn told(stage: &mut Stage) -> (Vec<StateEvent>, Vec<StateEvent>) {
    let (login, bridge): (Vec<_>, Vec<_>) =
        std::mem::take(&mut stage.bridge_states).into_iter().partition(|state| state.remote.is_some());
    let events = |states: Vec<messenger_bridge::domain::bridge_state::BridgeState>| {
        states.into_iter().map(|state| state.event).collect()
    };
    (events(login), events(bridge))
}

/// The notices with a state that were said: text, and name of the state.
fn notices(stage: &Stage) -> Vec<(String, String)> {
    let said = stage.said().into_iter().filter(|said| !said.content["fi.mau.bridge_state"].is_null());
    said.map(|said| {
        let event = said.content["fi.mau.bridge_state"]["state_event"].as_str().unwrap().to_owned();
        assert_eq!(said.content["fi.mau.bridge_state"]["remote_name"], ACCOUNT);
        (said.body().to_owned(), event)
    })
    .collect()
}

fn gone() -> StreamEnd {
    StreamEnd::Unreachable { host: "montague.lit".to_owned(), detail: "connection refused".to_owned() }
}

#[test]
fn each_change_of_a_login_is_told_once() {
    let mut stage = Stage::with(Stage::settings());
    assert_eq!(told(&mut stage), (vec![], vec![Unconfigured]));
    stage.sign_in(ROSTER);
    assert_eq!(told(&mut stage), (vec![Backfilling, Connected], vec![Running]));
    stage.unreachable(3);
    stage.hush();
    stage.pass(60_000);
    assert_eq!(
        told(&mut stage).0,
        [TransientDisconnect, TransientDisconnect, Backfilling, Connected],
        "lost, then unreachable"
    );
    stage.pass(3_600_000);
    assert_eq!(told(&mut stage), (vec![], vec![]));
    stage.command(&format!("logout {ACCOUNT}"));
    assert_eq!(told(&mut stage), (vec![LoggedOut], vec![Unconfigured]));
}

#[test]
fn a_state_says_why_and_what_to_do() {
    let mut stage = with(StatusNotices::Errors);
    stage.bridge_states.clear();
    stage.sign_ins.push_back(StreamEnd::Refused(Refusal::NotAuthorized));
    stage.hush();
    stage.pass(10_000);
    let last = stage.bridge_states.pop().unwrap();
    assert_eq!((last.event, last.error, last.user_action()), (BadCredentials, Some("xmpp-rejected"), Some("RELOGIN")));
    assert_eq!(last.message.as_deref(), Some("the sign-in was refused"));
    let remote = last.remote.unwrap();
    assert_eq!((remote.login, remote.owner.as_str(), remote.account.as_str()), (stage.login(), OWNER, ACCOUNT));
    // The bot says it once, with the state; and a start says nothing anew.
    let said = notices(&stage);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].0.contains("is signed out: the sign-in was refused") && said[0].1 == "BAD_CREDENTIALS", "{said:?}");
    stage.bridge_states.clear();
    stage.crash();
    assert_eq!((told(&mut stage).0, notices(&stage).len()), (vec![BadCredentials], 1));
}

#[test]
fn a_short_disconnect_is_not_worth_a_word_a_long_one_is_and_so_is_its_end() {
    let mut stage = with(StatusNotices::Errors);
    stage.hush();
    stage.pass(4 * 60_000);
    assert!(notices(&stage).is_empty(), "it was over in time");
    for _ in 0..500 {
        stage.sign_ins.push_back(gone());
    }
    stage.hush();
    stage.pass(2 * 60_000);
    assert!(notices(&stage).is_empty(), "not yet");
    stage.pass(2 * 60_000);
    let said = notices(&stage);
    assert_eq!(said.len(), 1);
    assert_eq!(
        said[0],
        (
            format!(
                "{ACCOUNT} has not been connected for 3 minutes: montague.lit could not be reached: connection refused. I go on trying."
            ),
            "TRANSIENT_DISCONNECT".to_owned()
        )
    );
    stage.pass(3_600_000);
    assert_eq!(notices(&stage).len(), 1, "it is said once");
    stage.sign_ins.clear();
    stage.pass(600_000);
    assert_eq!(notices(&stage)[1..], [(format!("{ACCOUNT} is connected again."), "CONNECTED".to_owned())]);
    stage.pass(3_600_000);
    assert_eq!(notices(&stage).len(), 2);
}

#[test]
fn a_connection_that_comes_and_goes_is_told_by_none_of_its_short_ends() {
    let mut stage = with(StatusNotices::Errors);
    for _ in 0..20 {
        stage.hush();
        stage.pass(100_000);
    }
    assert!(notices(&stage).is_empty(), "{:?}", notices(&stage));
}

#[test]
fn trouble_that_trying_does_not_mend_is_told_at_once_and_its_end() {
    let mut stage = with(StatusNotices::Errors);
    let wrong = || StreamEnd::Certificate { host: "montague.lit".to_owned(), detail: "it has expired".to_owned() };
    for _ in 0..3 {
        stage.sign_ins.push_back(wrong());
    }
    stage.hush();
    stage.pass(60_000);
    let said = notices(&stage);
    assert!(
        said[0].0.contains("is not connected: the certificate of montague.lit") && said[0].1 == "UNKNOWN_ERROR",
        "{said:?}"
    );
    assert_eq!((said[1].0.as_str(), said.len()), ("romeo@montague.lit is connected again.", 2));
}

#[test]
fn people_are_told_of_nothing_or_of_all_where_the_operator_says_so() {
    let mut silent = with(StatusNotices::None);
    silent.sign_ins.push_back(StreamEnd::Refused(Refusal::NotAuthorized));
    silent.hush();
    silent.pass(600_000);
    assert_eq!(told(&mut silent).0.last(), Some(&BadCredentials));
    assert!(notices(&silent).is_empty());
    assert!(!silent.bot_said().iter().any(|said| said.contains("signed out")));

    let mut all = with(StatusNotices::All);
    all.hush();
    all.pass(60_000);
    let said: Vec<String> = notices(&all).into_iter().map(|(_, state)| state).collect();
    assert_eq!(said, ["BACKFILLING", "CONNECTED", "TRANSIENT_DISCONNECT", "BACKFILLING", "CONNECTED"]);
}

#[test]
fn whoever_signs_out_and_keeps_the_rooms_is_signed_out_too() {
    let mut stage = with(StatusNotices::Errors);
    stage.bridge_states.clear();
    let wish = Wish::Logout { login: None, rooms: Some(RoomsAfterLogout::Nothing) };
    stage.ask(Request::Person { owner: UserId::parse(OWNER).unwrap(), wish });
    stage.pass(3_600_000);
    assert_eq!(told(&mut stage), (vec![LoggedOut], vec![]));
    stage.command(&format!("login xmpp {ACCOUNT} secret"));
    stage.pass(10_000);
    assert_eq!(told(&mut stage).0, [Backfilling, Connected]);
    assert!(notices(&stage).is_empty(), "{:?}", notices(&stage));
}

#[test]
fn to_sign_in_again_is_not_said_twice() {
    let mut stage = with(StatusNotices::Errors);
    for _ in 0..20 {
        stage.sign_ins.push_back(gone());
    }
    stage.hush();
    stage.pass(4 * 60_000);
    stage.sign_ins.clear();
    stage.sign_ins.push_back(StreamEnd::Refused(Refusal::NotAuthorized));
    stage.pass(600_000);
    assert_eq!(notices(&stage).len(), 2);
    stage.command(&format!("login xmpp {ACCOUNT} secret"));
    stage.pass(10_000);
    assert_eq!(notices(&stage).len(), 2, "{:?}", notices(&stage));
    assert!(stage.bot_said().iter().any(|said| said.contains("Signed in to romeo@montague.lit again")));
}
