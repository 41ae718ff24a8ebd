//! Signing in and out.

use messenger_bridge::domain::{
    credentials::Credentials,
    input::Answer,
    output::MatrixCall,
    stream::{Refusal, StreamEnd},
};
use serde_json::json;

use super::stage::{OWNER, Stage, room_for};

fn fresh() -> Stage {
    let mut stage = Stage::with(Stage::settings());
    stage.management(OWNER);
    stage
}

fn redacted(stage: &Stage) -> usize {
    stage.calls.iter().filter(|call| matches!(call, MatrixCall::Redact { .. })).count()
}

fn password(stage: &Stage) -> String {
    match &stage.connects.last().unwrap().credentials {
        Credentials::Password(secret) | Credentials::Token(secret) => secret.expose().to_owned(),
        Credentials::OAuth(tokens) => tokens.access.expose().to_owned(),
        Credentials::Scram(_) => String::new(),
    }
}

#[test]
fn the_bot_welcomes_and_asks_for_the_password_and_removes_it() {
    let mut stage = fresh();
    assert!(stage.last_word().contains("management room"));
    stage.command("login xmpp romeo@montague.lit");
    assert!(stage.last_word().contains("password"));
    assert_eq!((redacted(&stage), stage.connects.len()), (0, 0));
    stage.command(" blanks count ");
    assert_eq!((redacted(&stage), password(&stage).as_str()), (1, " blanks count "));
    assert!(stage.bot_said().iter().any(|said| said.contains("Signed in to romeo@montague.lit")));
}

#[test]
fn a_password_or_token_in_the_command_is_removed_too() {
    let mut stage = fresh();
    stage.command("login xmpp romeo@montague.lit secret");
    assert_eq!((redacted(&stage), password(&stage).as_str()), (1, "secret"));
    stage.command("login xmpp romeo@montague.lit --token abc");
    assert_eq!((redacted(&stage), password(&stage).as_str()), (2, "abc"));
    stage.command("login xmpp romeo@montague.lit --token");
    stage.command("def");
    assert_eq!((redacted(&stage), password(&stage).as_str()), (3, "def"));
    assert_eq!(stage.engine.store().logins().unwrap().len(), 1, "the same account is the same login");
}

#[test]
fn a_refusal_is_one_sentence_and_one_attempt() {
    for (end, word) in [
        (StreamEnd::Refused(Refusal::NotAuthorized), "password is wrong"),
        (StreamEnd::UnknownHost { host: "montague.lit".to_owned() }, "montague.lit"),
        (
            StreamEnd::Certificate { host: "montague.lit".to_owned(), detail: "it has expired".to_owned() },
            "certificate",
        ),
        (StreamEnd::NotXmpp { host: "montague.lit".to_owned() }, "not an XMPP server"),
        (StreamEnd::NoCommonMechanism { host: "montague.lit".to_owned(), offered: "GSSAPI".to_owned() }, "GSSAPI"),
    ] {
        let mut stage = fresh();
        stage.sign_ins.push_back(end);
        stage.command("login xmpp romeo@montague.lit secret");
        stage.pass(600_000);
        assert!(stage.last_word().contains(word), "{}", stage.last_word());
        assert_eq!(stage.connects.len(), 1);
        assert!(stage.engine.store().logins().unwrap().is_empty());
        assert!(stage.bot_said().iter().all(|said| !said.contains("secret")));
    }
}

#[test]
fn messenger_is_signed_in_to_by_link_and_a_strangers_link_is_refused() {
    let mut stage = fresh();
    stage.command("login messenger");
    assert!(stage.last_word().contains("https://login.live.com/"));
    stage.account = "0123456789abcdef@messenger.live.com";
    stage.command("https://login.live.com/oauth20_desktop.srf?code=c&state=other");
    assert!(stage.last_word().contains("does not belong"), "{}", stage.last_word());
    assert!(stage.connects.is_empty());
    stage.command("login messenger");
    stage.command("what is this?");
    assert!(stage.last_word().contains("cannot find"));
    stage.command("https://login.live.com/oauth20_desktop.srf#access_token=EwA%2B&expires_in=3600");
    assert!(stage.bot_said().iter().any(|said| said.contains("cannot be renewed")));
    assert_eq!(password(&stage), "EwA+");
    assert_eq!(stage.engine.store().logins().unwrap()[0].account.as_str(), "0123456789abcdef@messenger.live.com");
}

#[test]
fn a_refused_token_is_renewed_once_and_then_the_person_is_asked() {
    let mut stage = Stage::messenger("<item jid='juliet@messenger.live.com' subscription='both'/>");
    let room = stage.room("juliet@messenger.live.com");
    stage.sign_ins.push_back(StreamEnd::Refused(Refusal::NotAuthorized));
    let said = stage.bot_said().len();
    stage.cut(false);
    assert!(stage.stream.is_some(), "renewed, and back on line");
    assert_eq!(stage.bot_said().len(), said, "without the person");
    stage.sign_ins.push_back(StreamEnd::Refused(Refusal::NotAuthorized));
    stage.oauth.push_back(Answer::OAuthFailed { refused: true, sentence: "no".to_owned() });
    stage.cut(false);
    assert!(stage.last_word().contains("sign in again"), "{}", stage.last_word());
    let connects = stage.connects.len();
    stage.says(&room, "waits");
    stage.pass(3_600_000);
    assert_eq!(stage.connects.len(), connects, "it does not go on trying");
    stage.command("list-logins");
    assert!(
        stage.last_word().contains("signed out") && stage.last_word().contains("1 of your messages"),
        "{}",
        stage.last_word()
    );
    stage.command("login messenger");
    stage.command("https://login.live.com/oauth20_desktop.srf?code=c&state=s");
    stage.pass(5_000);
    assert_eq!(stage.texts_to("juliet@messenger.live.com"), ["waits"]);
}

#[test]
fn cancel_ends_what_was_begun() {
    let mut stage = fresh();
    stage.command("cancel");
    assert!(stage.last_word().contains("nothing"));
    stage.command("login xmpp romeo@montague.lit");
    stage.command("cancel");
    assert!(stage.last_word().contains("Cancelled"));
    stage.command("hunter2");
    assert!(stage.connects.is_empty());
}

#[test]
fn logging_out_leaves_nothing_behind() {
    let mut stage = Stage::xmpp("<item jid='juliet@capulet.lit' subscription='both'/>");
    let (room, ghost, login) = (stage.room("juliet@capulet.lit"), stage.ghost("juliet@capulet.lit"), stage.login());
    stage.command("logout romeo@montague.lit");
    assert!(stage.stream.is_none());
    let left: Vec<_> = stage
        .calls
        .iter()
        .filter_map(|call| match call {
            MatrixCall::Leave { room: r, user } if *r == room => Some(user.clone()),
            _ => None,
        })
        .collect();
    assert!(left.contains(&ghost) && left.iter().any(|user| user.as_str() == super::stage::BOT), "{left:?}");
    let store = stage.engine.store();
    assert!(
        store.logins().unwrap().is_empty()
            && store.contacts(&login).unwrap().is_empty()
            && store.portals(&login).unwrap().is_empty()
    );
    assert!(store.room(&room).unwrap().is_none() && store.credentials(&login).unwrap().is_none());
    stage.pass(600_000);
    assert!(stage.stream.is_none());
    stage.command("list-logins");
    assert!(stage.last_word().contains("not signed in"));
}

#[test]
fn commands_are_found_and_elsewhere_need_the_prefix() {
    let mut stage = Stage::xmpp("<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>");
    stage.command("lst-logins");
    assert!(stage.last_word().contains("list-logins"));
    stage.command("search JUL");
    assert!(stage.last_word().contains("Juliet (juliet@capulet.lit)"), "{}", stage.last_word());
    stage.command("ping");
    assert!(stage.last_word().contains("online"), "{}", stage.last_word());
    let room = stage.room("juliet@capulet.lit");
    stage.says(&room, "help");
    assert_eq!(stage.texts_to("juliet@capulet.lit"), ["help"]);
    stage.says(&room, "!msgr version");
    assert_eq!(stage.texts_to("juliet@capulet.lit").len(), 1);
    assert!(stage.bodies("juliet@capulet.lit").last().unwrap().contains("9.9"));
    stage.says(&room, "!msgr login xmpp a@b secret");
    assert!(stage.bodies("juliet@capulet.lit").last().unwrap().contains("alone"));
    let management = room_for(&format!("management {OWNER}"));
    stage.matrix(&management, OWNER, "m.room.encrypted", None, &json!({ "algorithm": "m.megolm.v1.aes-sha2" }));
    assert!(stage.last_word().contains("encrypted"));
}

/// Whoever took SCRAM away could also make a person type the password anew, by refusing the keys.
#[test]
fn a_sign_in_anew_is_not_weaker_than_the_one_before() {
    use messenger_bridge::domain::{
        credentials::{Credentials, ScramHash, ScramKeys},
        stream::StreamEnd,
    };
    let mut stage = Stage::with(Stage::settings());
    stage.keep = Some(Credentials::Scram(ScramKeys {
        hash: ScramHash::Sha1,
        salt: vec![1],
        iterations: 4096,
        client_key: vec![2; 20],
        server_key: vec![3; 20],
    }));
    stage.sign_in("");
    assert!(!stage.connects[0].scram_only, "nothing is known of the account yet");
    let downgraded = || StreamEnd::Downgraded { host: "montague.lit".to_owned(), offered: "PLAIN".to_owned() };
    stage.sign_ins.push_back(downgraded());
    stage.cut(false);
    assert!(
        stage
            .bot_said()
            .iter()
            .any(|said| said.contains("someone may be in between") && said.contains("I go on trying"))
    );
    stage.sign_ins.push_back(downgraded());
    stage.command("login xmpp romeo@montague.lit secret");
    assert!(stage.connects.last().unwrap().scram_only);
    let word = stage.last_word();
    assert!(word.contains("password was not sent") && word.contains("`logout`"), "{word}");
    // Another person's login of the same account knows nothing of it.
    let room = super::stage::room_for("management @paris:h.test");
    stage.management("@paris:h.test");
    let login = serde_json::json!({ "msgtype": "m.text", "body": "login xmpp romeo@montague.lit secret" });
    stage.matrix(&room, "@paris:h.test", "m.room.message", None, &login);
    assert!(!stage.connects.last().unwrap().scram_only);
}
