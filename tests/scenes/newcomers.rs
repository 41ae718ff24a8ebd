//! People who write first and are no contacts: a room at the pace of rooms, or a question to the owner.

use messenger_bridge::{bridge::Strangers, domain::output::MatrixCall};

use super::stage::Stage;

const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
const TYBALT: &str = "tybalt@capulet.lit";

fn asking(roster: &str) -> Stage {
    let mut settings = Stage::settings();
    settings.strangers = Strangers::Request;
    let mut stage = Stage::with(settings);
    stage.sign_in(roster);
    stage
}

fn rooms(stage: &Stage) -> usize {
    stage.calls.iter().filter(|call| matches!(call, MatrixCall::CreateRoom(_))).count()
}

fn asked(stage: &Stage, who: &str) -> usize {
    stage.bot_said().iter().filter(|said| said.contains(&format!("accept {who}"))).count()
}

#[test]
fn rooms_of_strangers_are_made_at_the_configured_pace_and_keep_their_order() {
    let mut stage = Stage::xmpp(JULIET);
    let before = rooms(&stage);
    for number in 0..20 {
        for part in 0..3 {
            stage.phone_sends(&format!("stranger{number}@evil.lit/x"), &format!("{number}/{part}"));
        }
    }
    assert_eq!(rooms(&stage) - before, 1, "one at once");
    // A contact does not stand behind them.
    stage.phone_sends("juliet@capulet.lit", "hello");
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["hello"]);
    stage.pass(2_000);
    assert_eq!(rooms(&stage) - before, 5, "one in 500 ms");
    // What still waits is in the store.
    stage.crash();
    stage.pass(500);
    stage.phone_sends("stranger19@evil.lit/x", "19/3");
    stage.pass(10_000);
    assert_eq!(rooms(&stage) - before, 20);
    for number in 0..19 {
        let told: Vec<String> = (0..3).map(|part| format!("{number}/{part}")).collect();
        assert_eq!(stage.bodies(&format!("stranger{number}@evil.lit")), told);
    }
    assert_eq!(stage.bodies("stranger19@evil.lit"), ["19/0", "19/1", "19/2", "19/3"]);
}

#[test]
fn a_strangers_messages_wait_until_the_owner_accepts_and_come_in_order_with_their_times() {
    let mut stage = asking(JULIET);
    let before = rooms(&stage);
    let first = stage.now.wall.0;
    stage.phone_sends(&format!("{TYBALT}/sword"), "one");
    stage.pass(3_600_000);
    stage.phone_sends(&format!("{TYBALT}/sword"), "two");
    assert_eq!(asked(&stage, TYBALT), 1, "one question, however much they write");
    assert!(stage.last_word().contains("romeo@montague.lit") && stage.last_word().contains(&format!("deny {TYBALT}")));
    stage.crash();
    stage.phone_sends(TYBALT, "three");
    assert_eq!((rooms(&stage), asked(&stage, TYBALT)), (before, 1));
    stage.command(&format!("accept {TYBALT}"));
    assert!(stage.last_word().contains("is accepted"));
    assert_eq!(stage.bodies(TYBALT), ["one", "two", "three"]);
    assert_eq!(stage.heard(TYBALT)[0].at, Some(first), "each at its own time");
    stage.phone_sends(TYBALT, "four");
    assert_eq!(stage.bodies(TYBALT).len(), 4);
    stage.command(&format!("deny {TYBALT}"));
    assert!(stage.last_word().contains("has not asked"), "{}", stage.last_word());
}

#[test]
fn what_a_denied_stranger_wrote_and_writes_is_dropped_in_silence_until_the_owner_says_otherwise() {
    let mut stage = asking(JULIET);
    let before = rooms(&stage);
    stage.phone_sends(TYBALT, "villain");
    stage.command(&format!("deny {TYBALT}"));
    assert!(stage.last_word().contains("is denied"));
    let said = stage.said().len();
    stage.phone_sends(TYBALT, "still I write");
    stage.crash();
    stage.phone_sends(TYBALT, "and again");
    assert_eq!((rooms(&stage), stage.said().len()), (before, said));
    assert_eq!(stage.ignored("message of someone who was denied"), 1, "counted since the start");
    assert!(stage.engine.store().newcomers(&stage.login()).unwrap().is_empty());
    stage.command(&format!("accept {TYBALT}"));
    assert!(stage.bodies(TYBALT).is_empty(), "what was dropped is gone");
    stage.phone_sends(TYBALT, "a word with one of you");
    assert_eq!(stage.bodies(TYBALT), ["a word with one of you"]);
}

#[test]
fn whom_the_owner_knows_or_writes_to_is_no_stranger() {
    let mut stage = asking(JULIET);
    stage.phone_sends("juliet@capulet.lit", "hello");
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["hello"]);
    // By a chat that the owner opens.
    stage.phone_sends("nurse@capulet.lit", "anon");
    stage.command("start-chat nurse@capulet.lit");
    assert_eq!(stage.bodies("nurse@capulet.lit"), ["anon"]);
    // By what they write on another device.
    stage.phone_sends("friar@church.lit", "come");
    stage.server_sends(
        "<message from='romeo@montague.lit'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
         <message xmlns='jabber:client' from='romeo@montague.lit/phone' to='friar@church.lit' type='chat'><body>I come</body></message>\
         </forwarded></sent></message>",
    );
    assert_eq!(stage.bodies("friar@church.lit"), ["come", "I come"]);
    // By adding them to the contact list.
    stage.phone_sends("benvolio@montague.lit", "cousin");
    stage.server_sends("<iq type='set' id='p'><query xmlns='jabber:iq:roster'><item jid='benvolio@montague.lit' subscription='to'/></query></iq>");
    assert_eq!(stage.bodies("benvolio@montague.lit"), ["cousin"]);
}

#[test]
fn requests_are_bounded_in_number_length_and_words_to_the_owner() {
    let mut stage = asking(JULIET);
    for number in 0..300 {
        stage.phone_sends(&format!("s{number}@evil.lit"), "buy");
    }
    for number in 0..300 {
        stage.phone_sends("s0@evil.lit", &format!("{number}"));
    }
    let kept = stage.engine.store().newcomers(&stage.login()).unwrap();
    assert_eq!((kept.len(), kept[0].messages), (100, 100));
    assert_eq!(stage.ignored("message of a newcomer beyond the bound"), 200 + 201);
    let told = stage.bot_said().iter().filter(|said| said.contains("More is written")).count();
    assert_eq!(told, 1);
    // An answer makes room for the next.
    stage.command("deny s0@evil.lit");
    stage.phone_sends("s299@evil.lit", "buy");
    assert_eq!(asked(&stage, "s299@evil.lit"), 1);
    stage.command("logout romeo@montague.lit");
    let left = stage.engine.store();
    let login = messenger_bridge::domain::LoginId::derive(super::stage::OWNER, "xmpp", "romeo@montague.lit");
    assert!(left.newcomers(&login).unwrap().is_empty(), "nothing stays after signing out");
}

#[test]
fn the_same_word_answers_a_stranger_who_also_wants_to_be_a_contact() {
    let mut stage = asking("");
    stage.phone_sends(TYBALT, "let me in");
    stage.server_sends(&format!("<presence from='{TYBALT}' type='subscribe'/>"));
    stage.command(&format!("accept {TYBALT}"));
    assert_eq!(stage.bodies(TYBALT), ["let me in"]);
    let subscribed =
        |stanza: &&minidom::Element| stanza.attr("type") == Some("subscribed") && stanza.attr("to") == Some(TYBALT);
    assert_eq!(stage.sent.iter().filter(subscribed).count(), 1);
}
