//! Up to where a chat was read, among the person's devices (XEP-0490, XEP-0333, private receipts).

use messenger_bridge::domain::{Input, input::EphemeralEvent, output::MatrixCall};
use minidom::Element;
use ruma::{EventId, UserId};

use super::stage::{OWNER, Stage};

const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
const CONTACT: &str = "juliet@capulet.lit";
const PUBSUB: &str = "http://jabber.org/protocol/pubsub";

fn stage(published: &str) -> Stage {
    let mut settings = Stage::settings();
    settings.double_puppet = true;
    let mut stage = Stage::with(settings);
    stage.answers.insert(
        "http://jabber.org/protocol/disco#info romeo@montague.lit",
        "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:xmpp:mam:2'/>\
         <feature var='http://jabber.org/protocol/pubsub#publish-options'/></query>"
            .to_owned(),
    );
    stage.answers.insert(
        PUBSUB,
        format!("<pubsub xmlns='{PUBSUB}'><items node='urn:xmpp:mds:displayed:0'>{published}</items></pubsub>"),
    );
    stage.sign_in(JULIET);
    stage
}

fn item(id: &str) -> String {
    format!(
        "<item id='{CONTACT}'><displayed xmlns='urn:xmpp:mds:displayed:0'>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='romeo@montague.lit' id='{id}'/></displayed></item>"
    )
}

fn told(from: &str, id: &str) -> String {
    format!(
        "<message from='{from}' type='headline'><event xmlns='{PUBSUB}#event'><items node='urn:xmpp:mds:displayed:0'>{}</items></event></message>",
        item(id)
    )
}

fn says(stage: &mut Stage, id: &str, more: &str) -> String {
    stage.server_sends(&format!(
        "<message from='{CONTACT}/b' type='chat' id='m{id}'><body>{id}</body>{more}<stanza-id xmlns='urn:xmpp:sid:0' by='romeo@montague.lit' id='{id}'/></message>"
    ));
    stage.event_saying(id)
}

/// Up to which events the person has read elsewhere.
fn read(stage: &Stage) -> Vec<String> {
    let read = stage.calls.iter().filter_map(|call| match call {
        MatrixCall::ReadMarkers { user, event, .. } => {
            assert_eq!(user, OWNER);
            Some(event.to_string())
        }
        _ => None,
    });
    read.collect()
}

/// The archive's ids that were published.
fn published(stage: &Stage) -> Vec<String> {
    let publish = |stanza: &Element| {
        let item = stanza.get_child("pubsub", PUBSUB)?.get_child("publish", PUBSUB)?.children().next()?.clone();
        assert_eq!(item.attr("id"), Some(CONTACT));
        Some(item.children().next()?.children().next()?.attr("id")?.to_owned())
    };
    stage.sent.iter().filter_map(publish).collect()
}

fn reads(stage: &mut Stage, event: &str, privately: bool) {
    let (owner, room) = (UserId::parse(OWNER).unwrap(), stage.room(CONTACT));
    let event = EventId::parse(event).unwrap();
    if privately {
        stage.play(Input::ReadPrivately { owner, room, event });
    } else {
        stage.transaction(Vec::new(), vec![EphemeralEvent::Read { room, user: owner, event }]);
    }
}

#[test]
fn what_was_read_on_another_device_is_read_in_matrix() {
    let mut stage = stage("");
    let (first, second) = (says(&mut stage, "a1", ""), says(&mut stage, "a2", ""));
    stage.server_sends(&told("romeo@montague.lit", "a1"));
    stage.server_sends(&told("romeo@montague.lit", "a2"));
    // Backwards, again, from somebody else, and of something unknown: nothing.
    for (from, id) in
        [("romeo@montague.lit", "a1"), ("romeo@montague.lit", "a2"), (CONTACT, "a1"), ("romeo@montague.lit/x", "a1")]
    {
        stage.server_sends(&told(from, id));
    }
    assert_eq!(read(&stage), [first, second.clone()]);
    assert_eq!(stage.ignored("forged read state"), 2);
    // What we did is followed back to us, and goes no further.
    reads(&mut stage, &second, true);
    assert!(published(&stage).is_empty());
}

#[test]
fn what_is_told_before_the_message_comes_counts_when_it_does() {
    let mut stage = stage("");
    stage.server_sends(&told("romeo@montague.lit", "a2"));
    says(&mut stage, "a1", "");
    assert!(read(&stage).is_empty());
    let second = says(&mut stage, "a2", "");
    assert_eq!(read(&stage), [second]);
}

#[test]
fn a_new_session_asks_for_what_was_read_meanwhile() {
    let mut stage = stage("");
    let first = says(&mut stage, "a1", "");
    assert!(read(&stage).is_empty());
    stage.answers.insert(
        PUBSUB,
        format!("<pubsub xmlns='{PUBSUB}'><items node='urn:xmpp:mds:displayed:0'>{}</items></pubsub>", item("a1")),
    );
    stage.cut(false);
    assert_eq!(read(&stage), std::slice::from_ref(&first));
    // Also where a new process takes the session up again.
    stage.crash();
    assert_eq!(read(&stage), [first.clone(), first]);
}

#[test]
fn a_marker_that_another_device_sent_is_not_sent_again() {
    let mut stage = stage("");
    let event = says(&mut stage, "a1", "<markable xmlns='urn:xmpp:chat-markers:0'/>");
    stage.server_sends(&format!(
        "<message from='romeo@montague.lit'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
         <message xmlns='jabber:client' from='romeo@montague.lit/phone' to='{CONTACT}' type='chat'>\
         <displayed xmlns='urn:xmpp:chat-markers:0' id='ma1'/></message></forwarded></sent></message>"
    ));
    assert_eq!(read(&stage), std::slice::from_ref(&event));
    reads(&mut stage, &event, false);
    assert!(stage.messages_to(CONTACT).is_empty(), "{:?}", stage.messages_to(CONTACT));
}

#[test]
fn what_is_read_in_matrix_is_for_the_other_devices_to_know_and_privately_for_them_alone() {
    let mut stage = stage("");
    let first = says(&mut stage, "a1", "<markable xmlns='urn:xmpp:chat-markers:0'/>");
    let second = says(&mut stage, "a2", "<markable xmlns='urn:xmpp:chat-markers:0'/>");
    reads(&mut stage, &first, true);
    assert_eq!(published(&stage), ["a1"]);
    assert!(stage.messages_to(CONTACT).is_empty(), "the contact is not told");
    reads(&mut stage, &second, false);
    assert_eq!(published(&stage), ["a1", "a2"]);
    assert_eq!(stage.messages_to(CONTACT).len(), 1, "the contact is told");
    // The server tells all devices, us too.
    stage.server_sends(&told("romeo@montague.lit", "a2"));
    reads(&mut stage, &first, true);
    assert_eq!((published(&stage).len(), read(&stage).len()), (2, 0));
}

#[test]
fn nothing_is_published_where_others_could_see_it() {
    let mut stage = Stage::xmpp(JULIET);
    let event = says(&mut stage, "a1", "");
    reads(&mut stage, &event, false);
    assert!(published(&stage).is_empty());
}

#[test]
fn without_double_puppeting_nothing_is_read_in_the_persons_name() {
    let mut stage = Stage::xmpp(JULIET);
    says(&mut stage, "a1", "");
    stage.server_sends(&told("romeo@montague.lit", "a1"));
    assert!(read(&stage).is_empty() && stage.engine.debts() == 0);
}

#[test]
fn a_server_that_keeps_few_is_asked_for_less() {
    let mut stage = stage("");
    let (first, second) = (says(&mut stage, "a1", ""), says(&mut stage, "a2", ""));
    stage.answers.remove(PUBSUB);
    reads(&mut stage, &first, false);
    reads(&mut stage, &second, false);
    assert_eq!(published(&stage), ["a1", "a1", "a2"], "asked once more, and then no more");
    let last = stage.sent.iter().rev().find(|stanza| stanza.get_child("pubsub", PUBSUB).is_some()).unwrap();
    assert!(!String::from(last).contains("max_items"));
}
