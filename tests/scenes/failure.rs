//! What a person sees of messages that are not delivered, or not yet.

use messenger_bridge::{
    bridge::Settings,
    domain::{
        Timestamp,
        input::RoomEvent,
        output::MatrixCall,
        stream::{Refusal, StreamEnd},
    },
};
use ruma::UserId;
use serde_json::json;

use super::stage::{BOT, OWNER, Stage, TODAY};

const ROSTER: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
const JULIET: &str = "juliet@capulet.lit";
const MESSENGER: &str = "juliet@messenger.live.com";
const DAY: u64 = 86_400_000;

/// A stage whose account has just lost its server.
fn unreachable() -> Stage {
    let mut stage = Stage::xmpp(ROSTER);
    stage.unreachable(5_000);
    stage.hush();
    stage
}

/// The server can be reached again, and so much time passes.
fn healed(stage: &mut Stage, millis: u64) {
    stage.sign_ins.clear();
    stage.pass(millis);
}

#[test]
fn a_message_that_waits_is_shown_as_waiting_and_mended_when_it_is_delivered() {
    let mut stage = unreachable();
    let room = stage.room(JULIET);
    stage.says(&room, "Ay me!");
    stage.pass(29_000);
    assert!(stage.heard(JULIET).is_empty() && stage.statuses(JULIET).is_empty(), "it may still go out soon");
    stage.pass(2_000);

    let status = stage.statuses(JULIET).remove(0);
    let event = status["m.relates_to"]["event_id"].as_str().unwrap().to_owned();
    assert_eq!((status["network"].as_str(), status["status"].as_str()), (Some("xmpp"), Some("PENDING")));
    assert_eq!(status["m.relates_to"]["rel_type"], "m.reference");
    assert_eq!(
        (status["reason"].as_str(), status["error"].as_str()),
        (Some("m.bridge_unavailable"), Some("not-connected"))
    );
    let notice = stage.heard(JULIET).remove(0);
    assert_eq!((notice.sender.as_str(), notice.content["msgtype"].as_str()), (BOT, Some("m.notice")));
    assert_eq!(notice.content["m.relates_to"]["m.in_reply_to"]["event_id"], event.as_str());
    assert_eq!(
        notice.body(),
        "\u{26a0}\u{fe0f} Your message has not been delivered yet: romeo@montague.lit is not connected: montague.lit could not be \
         reached: connection refused. I go on trying to deliver it, until 2026-03-27 09:46 UTC."
    );
    assert!(notice.body().ends_with(status["message"].as_str().unwrap()));

    stage.pass(3_600_000);
    assert_eq!((stage.heard(JULIET).len(), stage.statuses(JULIET).len()), (1, 1), "it is said once");
    healed(&mut stage, 400_000);
    assert_eq!(stage.texts_to(JULIET), ["Ay me!"]);
    assert_eq!(stage.states(JULIET), [(event.clone(), "PENDING".to_owned()), (event, "SUCCESS".to_owned())]);
    assert_eq!((stage.redactions(JULIET), stage.heard(JULIET).len()), (1, 1), "the notice is taken away");
    let last = stage.statuses(JULIET).pop().unwrap();
    assert!(last.get("message").is_none() && last.get("error").is_none() && last.get("reason").is_none());
    stage.pass(3_600_000);
    assert_eq!((stage.redactions(JULIET), stage.statuses(JULIET).len()), (1, 2));
}

#[test]
fn what_is_delivered_in_time_says_nothing_and_an_offline_contact_is_no_failure() {
    let mut stage = Stage::xmpp(ROSTER);
    let room = stage.room(JULIET);
    stage.server_sends("<presence from='juliet@capulet.lit/balcony' type='unavailable'/>");
    for number in 0..20 {
        stage.says(&room, &format!("{number}"));
        stage.pass(5_000);
    }
    stage.pass(DAY);
    assert_eq!(stage.texts_to(JULIET).len(), 20);
    assert!(stage.statuses(JULIET).is_empty() && stage.heard(JULIET).is_empty());
}

#[test]
fn what_the_server_does_not_confirm_is_shown_as_waiting_too() {
    let mut stage = Stage::xmpp(ROSTER);
    let room = stage.room(JULIET);
    stage.mute = true;
    stage.says(&room, "Ay me!");
    stage.pass(31_000);
    assert_eq!(stage.statuses(JULIET)[0]["error"], "unconfirmed");
    assert!(stage.bodies(JULIET)[0].contains("has not confirmed that it has it"), "{:?}", stage.bodies(JULIET));
    stage.mute = false;
    stage.says(&room, "She speaks");
    assert_eq!(stage.states(JULIET).last().unwrap().1, "SUCCESS");
    assert_eq!(stage.redactions(JULIET), 1);
}

#[test]
fn a_thousand_waiting_messages_make_one_notice_and_few_statuses() {
    let mut stage = unreachable();
    let room = stage.room(JULIET);
    stage.says(&room, "0");
    stage.pass(31_000);
    for number in 1..1_000 {
        stage.says(&room, &number.to_string());
    }
    stage.pass(30 * 60_000);
    let heard = stage.heard(JULIET);
    assert!(heard[1..].iter().all(|said| said.content["m.relates_to"]["rel_type"] == "m.replace"), "one notice");
    assert!((2..=3).contains(&heard.len()), "edited, not often: {}", heard.len());
    let last = &heard.last().unwrap().content["m.new_content"]["body"];
    // Of the last one that is looked at there might be more.
    assert!(last.as_str().unwrap().contains("Your 999 messages have not been delivered yet"), "{last}");
    assert_eq!(stage.statuses(JULIET).len(), 50);

    healed(&mut stage, 600_000);
    assert_eq!(stage.texts_to(JULIET), (0..1_000).map(|number| number.to_string()).collect::<Vec<_>>());
    let states = stage.states(JULIET);
    assert_eq!(states.len(), 100);
    let of = |state: &str| {
        let mut events: Vec<_> = states.iter().filter(|(_, is)| is == state).map(|(event, _)| event).collect();
        events.sort();
        events
    };
    assert_eq!(of("PENDING"), of("SUCCESS"), "each that was shown is mended");
    assert_eq!(stage.redactions(JULIET), 1);
}

#[test]
fn a_text_in_several_stanzas_is_one_message_that_is_delivered_with_the_last_of_them() {
    let mut stage = Stage::messenger(&format!("<item jid='{MESSENGER}' subscription='both'/>"));
    stage.unreachable(100);
    stage.hush();
    let room = stage.room(MESSENGER);
    stage.says(&room, &"x".repeat(30_000));
    stage.pass(31_000);
    assert!(stage.bodies(MESSENGER)[0].contains("Your message has"));
    assert_eq!(stage.states(MESSENGER).len(), 1);
    healed(&mut stage, 300_000);
    assert!(stage.texts_to(MESSENGER).len() > 1);
    let states: Vec<String> = stage.states(MESSENGER).into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["PENDING", "SUCCESS"]);
}

#[test]
fn what_was_shown_is_mended_after_a_restart() {
    let mut stage = unreachable();
    let room = stage.room(JULIET);
    stage.says(&room, "Ay me!");
    stage.pass(31_000);
    stage.unreachable(10);
    stage.crash();
    stage.pass(60_000);
    assert_eq!((stage.heard(JULIET).len(), stage.statuses(JULIET).len()), (1, 1), "nothing is said anew");
    healed(&mut stage, 400_000);
    let states: Vec<String> = stage.states(JULIET).into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["PENDING", "SUCCESS"]);
    assert_eq!(stage.redactions(JULIET), 1);
}

#[test]
fn what_waits_at_a_restart_is_shown_though_nobody_was_told_before() {
    let mut stage = unreachable();
    let room = stage.room(JULIET);
    stage.says(&room, "Ay me!");
    stage.pass(20_000);
    stage.crash();
    stage.pass(40_000);
    assert_eq!(stage.states(JULIET).len(), 1);
    assert_eq!(stage.heard(JULIET).len(), 1);
}

#[test]
fn after_seven_days_a_message_is_given_up_with_a_sentence() {
    let mut stage = unreachable();
    let room = stage.room(JULIET);
    stage.says(&room, "Ay me!");
    stage.says(&room, "O Romeo");
    stage.pass(7 * DAY - 60_000);
    assert_eq!(stage.engine.debts(), 2, "it is tried all the time");
    stage.pass(10 * 60_000);
    assert_eq!(stage.engine.debts(), 0);
    let states: Vec<String> = stage.states(JULIET).into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["PENDING", "PENDING", "FAIL_PERMANENT", "FAIL_PERMANENT"]);
    let failed = stage.statuses(JULIET).pop().unwrap();
    assert_eq!((failed["reason"].as_str(), failed["error"].as_str()), (Some("m.event_too_old"), Some("expired")));
    let last = stage.bodies(JULIET).pop().unwrap();
    assert!(last.contains("Your 2 messages were not delivered: romeo@montague.lit is not connected"), "{last}");
    assert!(last.contains("After 7 days I have given them up"), "{last}");
    assert_eq!(stage.redactions(JULIET), 1, "the notice that they wait is taken away");
    healed(&mut stage, 600_000);
    assert!(stage.texts_to(JULIET).is_empty());
    stage.says(&room, "later");
    assert_eq!(stage.texts_to(JULIET), ["later"]);
}

#[test]
fn messages_are_given_up_together_and_each_time_is_one_notice() {
    let mut stage = Stage::with(Settings { expire: 3_600_000, ..Stage::settings() });
    stage.sign_in(ROSTER);
    stage.unreachable(5_000);
    stage.hush();
    let room = stage.room(JULIET);
    for number in 0..200 {
        stage.says(&room, &number.to_string());
        stage.pass(3_000);
    }
    stage.pass(2 * 3_600_000);
    assert_eq!(stage.engine.debts(), 0);
    let given_up: Vec<String> = stage.bodies(JULIET).into_iter().filter(|body| body.contains("given")).collect();
    assert!((1..=3).contains(&given_up.len()), "{given_up:?}");
    let failed = stage.states(JULIET).iter().filter(|(_, state)| state == "FAIL_PERMANENT").count();
    assert!((50..=150).contains(&failed), "{failed}");
}

#[test]
fn a_clock_that_is_set_right_throws_nothing_away() {
    let mut stage = unreachable();
    let room = stage.room(JULIET);
    stage.now.wall = Timestamp(0);
    let event = RoomEvent {
        room,
        id: ruma::owned_event_id!("$one"),
        sender: UserId::parse(OWNER).unwrap(),
        kind: "m.room.message".to_owned(),
        state_key: None,
        at: Timestamp(TODAY),
        content: serde_json::value::to_raw_value(&json!({ "msgtype": "m.text", "body": "Ay me!" })).unwrap(),
        redacts: None,
    };
    stage.transaction(vec![event], Vec::new());
    stage.now.wall = Timestamp(TODAY);
    stage.pass(60_000);
    assert_eq!(stage.states(JULIET), [("$one".to_owned(), "PENDING".to_owned())]);
    // Back again: what was shown is not forgotten.
    stage.now.wall = Timestamp(0);
    healed(&mut stage, 400_000);
    assert_eq!(stage.states(JULIET).pop().unwrap().1, "SUCCESS");
    assert_eq!(stage.redactions(JULIET), 1);
}

#[test]
fn a_suspended_login_is_what_the_person_sees() {
    let mut stage = Stage::xmpp(ROSTER);
    let room = stage.room(JULIET);
    stage.sign_ins.push_back(StreamEnd::Refused(Refusal::NotAuthorized));
    stage.cut(false);
    stage.says(&room, "Ay me!");
    stage.pass(31_000);
    let status = stage.statuses(JULIET).remove(0);
    assert_eq!((status["status"].as_str(), status["error"].as_str()), (Some("PENDING"), Some("signed-out")));
    let body = stage.bodies(JULIET).remove(0);
    assert!(
        body.contains("is signed out: the sign-in was refused (sign in again with `login xmpp romeo@montague.lit`)"),
        "{body}"
    );
    stage.command("login xmpp romeo@montague.lit better");
    stage.pass(10_000);
    assert_eq!(stage.texts_to(JULIET), ["Ay me!"]);
    assert_eq!(stage.states(JULIET).pop().unwrap().1, "SUCCESS");
    assert_eq!(stage.redactions(JULIET), 1);
}

#[test]
fn the_notice_is_edited_when_the_reason_is_another() {
    let mut stage = unreachable();
    let room = stage.room(JULIET);
    stage.says(&room, "Ay me!");
    stage.pass(31_000);
    stage.sign_ins.clear();
    stage.sign_ins.push_back(StreamEnd::Refused(Refusal::NotAuthorized));
    stage.pass(11 * 60_000);
    let edit = &stage.heard(JULIET)[1].content;
    assert_eq!(edit["m.relates_to"]["rel_type"], "m.replace");
    assert!(edit["m.new_content"]["body"].as_str().unwrap().contains("signed out"), "{edit}");
    assert_eq!(stage.heard(JULIET).len(), 2);
}

#[test]
fn a_bounce_is_a_failure_and_a_temporary_one_may_be_tried_again() {
    let mut stage = Stage::xmpp(ROSTER);
    let room = stage.room(JULIET);
    for (number, (kind, state)) in [("cancel", "FAIL_PERMANENT"), ("wait", "FAIL_RETRIABLE")].into_iter().enumerate() {
        stage.says(&room, "Hist!");
        let id = stage.messages_to(JULIET).pop().unwrap().attr("id").unwrap().to_owned();
        stage.server_sends(&format!(
            "<message type='error' from='{JULIET}' id='{id}'><error type='{kind}'>\
             <remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        ));
        let status = &stage.statuses(JULIET)[number];
        assert_eq!(status["status"], state);
        assert_eq!(status["reason"], "m.foreign_network_error");
        assert_eq!(status["error"], "remote-server-timeout");
        assert_eq!(status["message"], "Your message was not delivered: the contact's server cannot be reached.");
        assert_eq!(stage.heard(JULIET).len(), number + 1);
    }
}

#[test]
fn a_bounce_of_a_message_that_was_shown_as_waiting_is_the_last_word() {
    let mut stage = Stage::xmpp(ROSTER);
    let room = stage.room(JULIET);
    stage.mute = true;
    stage.says(&room, "Hist!");
    stage.pass(31_000);
    let id = stage.messages_to(JULIET).pop().unwrap().attr("id").unwrap().to_owned();
    stage.server_sends(&format!("<message type='error' from='{JULIET}' id='{id}'><error type='cancel'/></message>"));
    stage.mute = false;
    stage.says(&room, "and this confirms both");
    let states: Vec<String> = stage.states(JULIET).into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["PENDING", "FAIL_PERMANENT"]);
    assert_eq!(stage.redactions(JULIET), 1);
}

#[test]
fn what_cannot_be_sent_at_all_has_a_status() {
    let mut stage = Stage::xmpp(ROSTER);
    let room = stage.room(JULIET);
    stage.matrix(&room, OWNER, "m.room.message", None, &json!({ "msgtype": "org.example.dance", "body": "a" }));
    stage.matrix(&room, OWNER, "m.room.encrypted", None, &json!({ "algorithm": "m.megolm.v1.aes-sha2" }));
    let reasons: Vec<_> = stage.statuses(JULIET).iter().map(|status| status["reason"].clone()).collect();
    assert_eq!(reasons, ["com.beeper.unsupported_event", "com.beeper.undecryptable_event"]);
    assert!(stage.states(JULIET).iter().all(|(_, state)| state == "FAIL_PERMANENT"));
    assert_eq!(stage.heard(JULIET).len(), 2);
}

#[test]
fn a_homeserver_that_refuses_statuses_or_notices_holds_up_no_chat() {
    let mut stage = unreachable();
    let room = stage.room(JULIET);
    stage.refuses = Some(|call| match call {
        MatrixCall::Send { kind, .. } => kind == "com.beeper.message_send_status" || kind == "m.room.message",
        _ => false,
    });
    stage.says(&room, "Ay me!");
    stage.pass(20 * 60_000);
    stage.refuses = None;
    healed(&mut stage, 400_000);
    assert_eq!(stage.texts_to(JULIET), ["Ay me!"]);
    assert_eq!(stage.ignored("notice refused"), 2, "each is tried once");
    stage.phone_sends(&format!("{JULIET}/b"), "He speaks");
    assert_eq!(stage.bodies(JULIET), ["He speaks"], "the lane is not parked");
    assert_eq!(stage.redactions(JULIET), 0);
}

#[test]
fn many_portals_are_looked_after_in_several_steps() {
    let jids: Vec<String> = (0..40).map(|number| format!("c{number}@capulet.lit")).collect();
    let roster: String = jids.iter().map(|jid| format!("<item jid='{jid}' subscription='both'/>")).collect();
    let mut stage = Stage::xmpp(&roster);
    stage.pass(60_000);
    stage.unreachable(5_000);
    stage.hush();
    for jid in &jids {
        let room = stage.room(jid);
        stage.says(&room, "Ay me!");
    }
    // The clock has jumped to where all are due at once.
    stage.now.uptime += 30_000;
    stage.now.wall.0 += 30_000;
    stage.play(messenger_bridge::domain::Input::Tick);
    let shown = |stage: &Stage| jids.iter().filter(|jid| !stage.statuses(jid).is_empty()).count();
    let first = shown(&stage);
    assert!((1..40).contains(&first), "{first}");
    stage.pass(1_000);
    assert_eq!(shown(&stage), 40);
    healed(&mut stage, 400_000);
    assert!(jids.iter().all(|jid| stage.states(jid).len() == 2 && stage.redactions(jid) == 1));
}

#[test]
fn where_nothing_tells_what_arrived_the_person_is_told_once_for_all_that_is_sent_again() {
    let mut stage = Stage::messenger(&format!("<item jid='{MESSENGER}' subscription='both'/>"));
    let room = stage.room(MESSENGER);
    stage.says(&room, "confirmed");
    stage.mute = true;
    for text in ["one", "two", "three"] {
        stage.says(&room, text);
    }
    stage.hush();
    // The process ends too, before it is sent again: what is in doubt is not forgotten.
    stage.crash();
    assert!(stage.bodies(MESSENGER).is_empty());
    stage.hush();
    stage.mute = false;
    stage.pass(10_000);
    assert_eq!(stage.texts_to(MESSENGER), ["one", "two", "three"], "sent again");
    let heard = stage.heard(MESSENGER);
    assert_eq!(heard.len(), 1);
    assert!(heard[0].body().contains("Your 3 messages may not have been delivered, or may have been delivered twice"));
    assert!(heard[0].content["m.relates_to"]["m.in_reply_to"]["event_id"].is_string());

    // Cut off once more, nothing new is in doubt of these; of another message it is said.
    stage.mute = true;
    stage.says(&room, "four");
    stage.mute = false;
    stage.cut(false);
    assert_eq!(stage.texts_to(MESSENGER), ["four"]);
    let bodies = stage.bodies(MESSENGER);
    assert_eq!(bodies.len(), 2);
    assert!(
        bodies[1].contains("Your message may not have been delivered, or may have been delivered twice"),
        "{bodies:?}"
    );
}

#[test]
fn the_same_message_is_doubted_once_however_often_it_is_cut_off() {
    let mut stage = Stage::messenger(&format!("<item jid='{MESSENGER}' subscription='both'/>"));
    let room = stage.room(MESSENGER);
    stage.mute_at_message = true;
    stage.says(&room, "one");
    for _ in 0..5 {
        stage.mute = false;
        stage.hush();
        stage.pass(20_000);
        assert_eq!(stage.texts_to(MESSENGER), ["one"], "sent again, and not confirmed");
        assert!(stage.mute);
    }
    let doubts = stage.bodies(MESSENGER).iter().filter(|body| body.contains("twice")).count();
    assert_eq!(doubts, 1);
}

#[test]
fn an_archive_or_a_resumed_session_leaves_no_doubt() {
    let mut stage = Stage::xmpp(ROSTER);
    stage.answers.insert(
        "http://jabber.org/protocol/disco#info romeo@montague.lit",
        "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:xmpp:mam:2'/></query>".to_owned(),
    );
    stage.cut(false);
    let room = stage.room(JULIET);
    stage.mute = true;
    stage.says(&room, "one");
    stage.mute = false;
    stage.cut(false);
    assert_eq!(stage.texts_to(JULIET), ["one"], "the archive does not have it");
    stage.mute = true;
    stage.says(&room, "two");
    stage.mute = false;
    stage.cut(true);
    assert!(stage.heard(JULIET).is_empty(), "{:?}", stage.bodies(JULIET));
}

#[test]
fn a_server_that_claims_to_have_read_more_than_was_sent_leaves_doubt() {
    let mut stage = Stage::xmpp(ROSTER);
    let room = stage.room(JULIET);
    stage.mute = true;
    stage.says(&room, "one");
    stage.mute = false;
    stage.claims = 7;
    stage.cut(true);
    assert_eq!(stage.ignored("acknowledged more than was sent"), 1);
    assert_eq!(stage.texts_to(JULIET), ["one", "one"], "sent again on the session that goes on");
    assert!(stage.bodies(JULIET)[0].contains("may have been delivered twice"), "{:?}", stage.bodies(JULIET));
}

#[test]
fn logins_tell_how_they_are_and_what_waits() {
    let mut stage = Stage::xmpp(ROSTER);
    let room = stage.room(JULIET);
    stage.command("ping");
    assert_eq!(stage.last_word(), "I am here.\nYour accounts:\n- romeo@montague.lit (xmpp): online");

    stage.unreachable(5_000);
    stage.hush();
    let lost = stage.now.wall.to_person();
    stage.pass(120_000);
    stage.says(&room, "one");
    let first = stage.now.wall.to_person();
    stage.pass(120_000);
    stage.says(&room, "two");
    stage.command("list-logins");
    let said = stage.last_word();
    assert!(said.contains(&format!("not connected since {lost}: montague.lit could not be reached")), "{said}");
    assert!(said.ends_with(&format!("; 2 of your messages wait to be sent, the oldest since {first}")), "{said}");

    stage.sign_ins.clear();
    stage.sign_ins.push_back(StreamEnd::Refused(Refusal::NotAuthorized));
    stage.pass(600_000);
    stage.command("list-logins");
    let said = stage.last_word();
    assert!(said.contains("signed out since 2026-03-20 "), "{said}");
    assert!(said.contains("rejected because the sign-in was refused; 2 of your messages"), "{said}");
}
