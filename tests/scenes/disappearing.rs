//! Messages that disappear (XEP-0466): the contact's when they were read, the person's own once they went out.

use messenger_bridge::domain::{Input, input::EphemeralEvent, output::MatrixCall};
use minidom::Element;
use ruma::UserId;
use serde_json::json;

use super::about::message;
use super::stage::{BOT, OWNER, Stage};

const JID: &str = "juliet@capulet.lit";
const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
const NS: &str = "urn:xmpp:ephemeral:0";

fn vanishing(id: &str, text: &str, timer: u32) -> String {
    message(id, &format!("<body>{text}</body><ephemeral xmlns='{NS}' timer='{timer}'/>"))
}

/// What the bot took out of Juliet's room: the event and the reason.
fn gone(stage: &Stage) -> Vec<(String, Option<&'static str>)> {
    let here = stage.room(JID);
    let redaction = |call: &MatrixCall| match call {
        MatrixCall::Redact { room, user, event, reason, .. } if *room == here => {
            assert_eq!(user, BOT);
            Some((event.to_string(), *reason))
        }
        _ => None,
    };
    stage.calls.iter().filter_map(redaction).collect()
}

fn reads(stage: &mut Stage, event: &str) {
    let read = EphemeralEvent::Read {
        room: stage.room(JID),
        user: UserId::parse(OWNER).unwrap(),
        event: ruma::EventId::parse(event).unwrap(),
    };
    stage.transaction(Vec::new(), vec![read]);
}

fn timer(stanza: &Element) -> Option<String> {
    stanza.get_child("ephemeral", NS).map(|child| child.attr("timer").unwrap().to_owned())
}

fn notices(stage: &Stage) -> usize {
    stage.bodies(JID).iter().filter(|body| body.contains("disappear")).count()
}

#[test]
fn what_was_read_privately_or_on_another_device_was_read() {
    let mut stage = Stage::xmpp(JULIET);
    stage.server_sends(&vanishing("m1", "Burn this", 60));
    let first = stage.event_saying("Burn this");
    stage.play(Input::ReadPrivately {
        owner: UserId::parse(OWNER).unwrap(),
        room: stage.room(JID),
        event: ruma::EventId::parse(first.as_str()).unwrap(),
    });
    stage.pass(61_000);
    assert_eq!(gone(&stage).len(), 1);
    stage.server_sends(&vanishing("m2", "And this", 60));
    stage.server_sends(&format!(
        "<message from='romeo@montague.lit' type='chat'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
         <message xmlns='jabber:client' from='romeo@montague.lit/phone' to='{JID}' type='chat'><displayed \
         xmlns='urn:xmpp:chat-markers:0' id='m2'/></message></forwarded></sent></message>"
    ));
    stage.pass(61_000);
    assert_eq!(gone(&stage).len(), 2);
}

#[test]
fn a_message_of_the_contact_disappears_so_long_after_it_was_read() {
    let mut stage = Stage::xmpp(JULIET);
    stage.server_sends(&vanishing("m1", "Burn this", 60));
    stage.server_sends(&vanishing("m2", "And this", 60));
    let (first, second) = (stage.event_saying("Burn this"), stage.event_saying("And this"));
    assert!(stage.bodies(JID).iter().any(|body| body.contains("disappear 1 minute after they have been read")));
    assert_eq!(notices(&stage), 1, "the room is told once");
    stage.pass(3_600_000);
    assert!(gone(&stage).is_empty(), "nobody has read it");
    reads(&mut stage, &first);
    stage.pass(59_000);
    assert!(gone(&stage).is_empty());
    stage.pass(2_000);
    assert_eq!(gone(&stage), [(first, Some("This message has disappeared."))]);
    // Who writes has read what was there. It survives the end of the process.
    let room = stage.room(JID);
    stage.says(&room, "It is ashes");
    let own = stage.last_event();
    stage.crash();
    stage.pass(61_000);
    let events: Vec<String> = gone(&stage).into_iter().map(|(event, _)| event).collect();
    assert_eq!(events[1..], [second, own]);
    stage.pass(86_400_000);
    assert_eq!(gone(&stage).len(), 3, "each once");
}

#[test]
fn what_nobody_was_seen_to_read_disappears_in_the_end() {
    let mut stage = Stage::xmpp(JULIET);
    stage.server_sends(&vanishing("m1", "Burn this", 3_600));
    stage.pass(7 * 86_400_000);
    assert!(gone(&stage).is_empty());
    stage.pass(3_600_000 + 3_600_000);
    assert_eq!(gone(&stage).len(), 1);
}

#[test]
fn what_the_person_says_disappears_too_and_says_so_to_the_contact() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room(JID);
    stage.says(&room, "before");
    assert_eq!(stage.messages_to(JID).last().and_then(timer), None);
    stage.server_sends(&message(
        "n1",
        &format!("<ephemeral xmlns='{NS}' timer='432000'/><store xmlns='urn:xmpp:hints'/>"),
    ));
    stage.says(&room, "after");
    let own = stage.last_event();
    assert_eq!(stage.messages_to(JID).last().and_then(timer).as_deref(), Some("432000"));
    // Whoever spoke last decides what follows; what was said keeps its own time.
    stage.server_sends(&vanishing("m1", "Five days are long", 60));
    stage.says(&room, "as you like");
    let next = stage.last_event();
    assert_eq!(stage.messages_to(JID).last().and_then(timer).as_deref(), Some("60"));
    stage.pass(61_000);
    let read = stage.event_saying("Five days are long");
    let events: Vec<String> = gone(&stage).into_iter().map(|(event, _)| event).collect();
    assert!(events.len() == 2 && events.contains(&next) && events.contains(&read), "{events:?}");
    stage.pass(432_000_000);
    assert_eq!(gone(&stage).last().map(|(event, _)| event.clone()), Some(own));
    assert_eq!(notices(&stage), 2);
}

#[test]
fn it_begins_when_the_message_goes_out_and_once_though_it_is_sent_again() {
    let mut stage = Stage::xmpp(JULIET);
    stage.server_sends(&message("n1", &format!("<ephemeral xmlns='{NS}' timer='60'/>")));
    let room = stage.room(JID);
    stage.unreachable(5);
    stage.hush();
    stage.says(&room, "I wait");
    stage.pass(10_000);
    assert!(gone(&stage).is_empty());
    stage.mute_at_message = true;
    stage.pass(120_000);
    stage.mute_at_message = false;
    stage.mute = false;
    stage.cut(false);
    stage.pass(120_000);
    let own = stage.last_event();
    let redacted = gone(&stage).into_iter().filter(|(event, _)| *event == own).count();
    assert_eq!(redacted, 1, "not before it was delivered, and once");
    assert_eq!(stage.texts_to(JID), ["I wait"]);
}

#[test]
fn edits_and_files_disappear_with_the_message_and_reactions_say_nothing_of_it() {
    let mut stage = Stage::xmpp(JULIET);
    stage.server_sends(&vanishing("m1", "Brun this", 60));
    let edit = format!(
        "<body>Burn this</body><replace xmlns='urn:xmpp:message-correct:0' id='m1'/><ephemeral xmlns='{NS}' timer='60'/>"
    );
    stage.server_sends(&message("m2", &edit));
    let oob = format!(
        "<body>https://h/a.png</body><x xmlns='jabber:x:oob'><url>https://h/a.png</url></x><ephemeral xmlns='{NS}' timer='60'/>"
    );
    stage.server_sends(&message("m3", &oob));
    let room = stage.room(JID);
    stage.says(&room, "done");
    stage.pass(61_000);
    // The message, its edit, the file, and what the person said.
    assert_eq!(gone(&stage).len(), 4);
    stage.matrix(&room, OWNER, "m.room.redaction", None, &json!({ "redacts": stage.last_event() }));
    assert_eq!(stage.messages_to(JID).last().and_then(timer).as_deref(), Some("60"));
}

#[test]
fn what_was_said_on_another_device_has_been_read() {
    let mut stage = Stage::xmpp(JULIET);
    stage.server_sends(&format!(
        "<message from='romeo@montague.lit' type='chat'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
         <message xmlns='jabber:client' from='romeo@montague.lit/phone' to='{JID}' type='chat' id='c1'><body>from the phone</body>\
         <ephemeral xmlns='{NS}' timer='60'/></message></forwarded></sent></message>"
    ));
    stage.pass(61_000);
    assert_eq!(gone(&stage).len(), 1);
}

#[test]
fn the_person_sets_a_time_and_ends_it_and_who_goes_on_says_nothing_new() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room(JID);
    stage.says(&room, "!msgr disappearing 5m");
    let said = stage.bodies(JID).pop().unwrap();
    assert!(said.contains("5 minutes") && said.contains("does not say that it knows this"), "{said}");
    let negotiation = stage.messages_to(JID).pop().unwrap();
    assert_eq!(timer(&negotiation).as_deref(), Some("300"));
    assert!(!negotiation.has_child("body", "jabber:client"));
    stage.server_sends(&vanishing("m1", "as you like", 300));
    stage.says(&room, "!msgr disappearing off");
    stage.says(&room, "this stays");
    assert_eq!(stage.messages_to(JID).last().and_then(timer), None);
    // Her app goes on as before: hers disappears, ours does not.
    stage.server_sends(&vanishing("m2", "still mine goes", 300));
    stage.says(&room, "and mine stays");
    assert_eq!(stage.messages_to(JID).last().and_then(timer), None);
    stage.pass(301_000);
    assert_eq!(gone(&stage).len(), 2);
    // Another time is a new wish.
    stage.server_sends(&vanishing("m3", "shorter, then", 60));
    stage.says(&room, "well");
    assert_eq!(stage.messages_to(JID).last().and_then(timer).as_deref(), Some("60"));
    stage.server_sends(&message("m4", "<body>no more</body><i-want-out/>"));
    stage.says(&room, "good");
    assert_eq!(stage.messages_to(JID).last().and_then(timer), None);
    stage.says(&room, "!msgr disappearing");
    assert!(stage.bodies(JID).pop().unwrap().contains("do not disappear"));
    stage.command("disappearing 5m");
    assert!(stage.last_word().contains("in the room of a contact"));
}

#[test]
fn a_time_that_the_archive_tells_late_does_not_undo_a_newer_one() {
    let mut stage = Stage::xmpp(JULIET);
    stage.server_sends(&message("n1", &format!("<ephemeral xmlns='{NS}' timer='60'/>")));
    let old =
        format!("<ephemeral xmlns='{NS}' timer='999'/><delay xmlns='urn:xmpp:delay' stamp='2012-04-01T10:00:00Z'/>");
    stage.server_sends(&message("n0", &old));
    let room = stage.room(JID);
    stage.says(&room, "which?");
    assert_eq!(stage.messages_to(JID).last().and_then(timer).as_deref(), Some("60"));
}

#[test]
fn strangers_and_the_messenger_service_open_nothing_by_it() {
    let mut stage = Stage::xmpp("");
    stage.server_sends(&format!("<message from='tybalt@capulet.lit/x'><ephemeral xmlns='{NS}' timer='60'/></message>"));
    stage.pass(5_000);
    assert!(
        stage
            .engine
            .store()
            .agreed(&messenger_bridge::bridge::ghost::contact_of(
                &stage.login(),
                &messenger_bridge::domain::BareJid::parse("tybalt@capulet.lit").unwrap()
            ))
            .unwrap()
            .is_none()
    );
    let jid = "juliet@messenger.live.com";
    let mut messenger = Stage::messenger(&format!("<item jid='{jid}' subscription='both'/>"));
    messenger.server_sends(&format!(
        "<message from='{jid}' type='chat'><body>hi</body><ephemeral xmlns='{NS}' timer='60'/></message>"
    ));
    let room = messenger.room(jid);
    messenger.says(&room, "hi");
    assert_eq!(messenger.messages_to(jid).last().and_then(timer), None);
}

#[test]
fn beyond_the_bound_the_oldest_goes_early() {
    let mut stage = Stage::xmpp(JULIET);
    let bound = messenger_bridge::store::vanishing::PER_CHAT;
    for number in 0..=bound {
        stage.server_sends(&vanishing(&format!("m{number}"), &format!("number {number}"), 3_600));
    }
    let first = stage.event_saying("number 0");
    assert_eq!(gone(&stage).into_iter().map(|(event, _)| event).collect::<Vec<_>>(), [first]);
    // Signing out forgets the rest.
    let redactions =
        |stage: &Stage| stage.calls.iter().filter(|call| matches!(call, MatrixCall::Redact { .. })).count();
    let before = redactions(&stage);
    stage.command("logout romeo@montague.lit");
    stage.pass(14 * 86_400_000);
    assert_eq!(redactions(&stage), before);
}
