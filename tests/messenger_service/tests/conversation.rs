//! Messages, chat states, the offline store, the archive, personas.
use std::time::Duration;

use time::OffsetDateTime;
use time::macros::datetime;

use super::client::{Client, body, condition};
use super::{SOON, Stage};
use crate::messenger_service::chat::Fate;
use crate::messenger_service::wire::Node;
use crate::messenger_service::{ChatState, Direction, Era, Event, Persona};

const STATES: &str = "http://jabber.org/protocol/chatstates";
const THEN: OffsetDateTime = datetime!(2012-05-04 12:00 UTC);

fn stamp(stanza: &Node) -> Option<&str> {
    stanza.child("delay", "urn:xmpp:delay")?.attr("stamp")
}

#[tokio::test]
async fn a_scripted_contact_and_a_client_chat() {
    let stage = Stage::plain().await;
    let (me, heron) = (&stage.me.jid, &stage.heron.jid);
    stage.service.online(heron, "").unwrap();
    let mut inbox = stage.service.messages_to(heron).unwrap();
    let mut client = stage.available().await;
    client
        .send(&format!(
            "<message type='chat' id='m1' to='{heron}'><body>Größe &lt;3 &#128038;\nnext</body>\
             <active xmlns='{STATES}'/><request xmlns='urn:xmpp:receipts'/></message>"
        ))
        .await;
    let message = inbox.wait(SOON, |event| event.text().map(|_| event.clone())).await.unwrap();
    let expected = Event::Message {
        to: heron.clone(),
        from: client.jid.clone(),
        id: Some("m1".into()),
        text: "Größe <3 🐦\nnext".into(),
        stamp: None,
        stored: false,
    };
    assert_eq!(message, expected);
    assert!(matches!(inbox.next().await, Ok(Event::ChatState { state, .. }) if state == "active"));
    client.send(&format!("<message type='chat' to='{heron}'><composing xmlns='{STATES}'/></message>")).await;
    assert!(matches!(inbox.next().await, Ok(Event::ChatState { state, .. }) if state == "composing"));

    assert_eq!(stage.service.chat_state(heron, me, ChatState::Composing).unwrap(), Fate::Delivered);
    let typing = client.message().await;
    assert!(typing.child("composing", STATES).is_some() && body(&typing).is_none());
    assert_eq!(typing.attr("type"), Some("chat"));
    assert_eq!(stage.service.say(heron, me, "a < b\r\n'c'").unwrap(), Fate::Delivered);
    let said = client.message().await;
    assert_eq!(body(&said), Some("a < b\r\n'c'"));
    assert!(said.attr("from").unwrap().starts_with(&format!("{heron}/")));
    let counters = stage.service.counters_of(me).unwrap();
    assert_eq!((counters.messages, counters.chat_states), (1, 2));
}

#[tokio::test]
async fn two_clients_chat_and_only_what_messenger_knows_passes() {
    let stage = Stage::plain().await;
    let mut other = Client::signed_in(&stage.service, &stage.heron).await;
    other.send("<presence/>").await;
    other.settle().await;
    let mut client = stage.available().await;
    client
        .send(&format!(
            "<message type='chat' id='7' to='{}'><body>hello</body><gone xmlns='{STATES}'/>\
             <html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'/></html>\
             <origin-id xmlns='urn:xmpp:sid:0' id='7'/></message>",
            other.jid
        ))
        .await;
    let message = other.message().await;
    assert_eq!((message.attr("from"), message.attr("id")), (Some(client.jid.as_str()), Some("7")));
    let names: Vec<_> = message.children.iter().map(|child| child.name.as_str()).collect();
    assert_eq!(names, ["body", "gone"]);
    assert!(client.settle().await.iter().all(|stanza| stanza.name != "message"));
}

#[tokio::test]
async fn chat_is_the_only_type() {
    let stage = Stage::plain().await;
    stage.service.online(&stage.heron.jid, "").unwrap();
    let mut client = stage.client().await;
    for kind in ["", "type='normal'", "type='groupchat'", "type='headline'"] {
        client.send(&format!("<message {kind} id='x' to='{}'><body>x</body></message>", stage.heron.jid)).await;
        let error = client.message().await;
        assert_eq!((error.attr("type"), error.attr("id")), (Some("error"), Some("x")));
        assert_eq!(condition(&error), "service-unavailable");
    }
    client.send(&format!("<message type='error' to='{}'><body>x</body></message>", stage.heron.jid)).await;
    client.send("<message type='chat' id='y' to='nobody@messenger.live.com'><body>x</body></message>").await;
    assert_eq!(client.message().await.attr("id"), Some("y"), "an error is never answered, a stranger's absence is");
    assert_eq!(stage.service.counters().messages_refused, 4);
}

#[tokio::test]
async fn offline_messages_follow_the_initial_presence_in_the_order_of_their_stamps() {
    let stage = Stage::plain().await;
    let (me, heron) = (&stage.me.jid, &stage.heron.jid);
    stage.service.store_offline(heron, me, "second", THEN + Duration::from_mins(1)).unwrap();
    stage.service.store_offline(heron, me, "first", THEN).unwrap();
    assert_eq!(stage.service.say(heron, me, "third").unwrap(), Fate::Stored);
    assert_eq!(stage.service.chat_state(heron, me, ChatState::Composing).unwrap(), Fate::Dropped);
    let mut client = stage.client().await;
    assert!(client.settle().await.is_empty(), "nothing before the initial presence");
    client.send("<presence/>").await;
    let seen: Vec<_> = client.settle().await.into_iter().filter(|stanza| stanza.name == "message").collect();
    let texts: Vec<_> = seen.iter().filter_map(body).collect();
    assert_eq!(texts, ["first", "second", "third"]);
    assert_eq!(stamp(&seen[0]), Some("2012-05-04T12:00:00.000Z"));
    assert_eq!(stamp(&seen[1]), Some("2012-05-04T12:01:00.000Z"));
    assert!(stamp(&seen[2]).is_some());
    client.send("<presence><show>away</show></presence>").await;
    assert!(client.settle().await.iter().all(|stanza| stanza.name != "message"), "once");
}

#[tokio::test]
async fn without_an_offline_store_a_message_is_refused() {
    let stage = Stage::new(|settings| settings.switches.offline_store = false).await;
    let mut client = stage.client().await;
    let mut inbox = stage.service.messages_to(&stage.heron.jid).unwrap();
    let message = format!("<message type='chat' id='1' to='{}'><body>x</body></message>", stage.heron.jid);
    client.send(&message).await;
    assert_eq!(condition(&client.message().await), "service-unavailable");
    assert_eq!(stage.service.say(&stage.heron.jid, &stage.me.jid, "x").unwrap(), Fate::Refused);
    stage.service.set(|switches| switches.offline_store = true);
    client.send(&message).await;
    assert!(client.settle().await.is_empty());
    let stored = inbox.wait(SOON, |event| match event {
        Event::Message { stored, .. } => Some(*stored),
        _ => None,
    });
    assert_eq!(stored.await, Ok(true));
}

/// Direction, text and seconds from the start, as XEP-0136 has them.
fn lines(chat: &Node) -> Vec<(String, String, i64)> {
    let mut passed = 0;
    let read = |line: &Node| {
        passed += line.attr("secs").unwrap().parse::<i64>().unwrap();
        (line.name.clone(), line.children[0].text.clone(), passed)
    };
    chat.children.iter().map(read).collect()
}

#[tokio::test]
async fn the_archive_holds_the_last_ten_lines_of_a_conversation() {
    let stage = Stage::plain().await;
    let (me, heron) = (&stage.me.jid, &stage.heron.jid);
    let mut client = stage.client().await;
    let retrieve = format!(
        "<retrieve xmlns='urn:xmpp:archive' with='{heron}'>\
         <set xmlns='http://jabber.org/protocol/rsm'><max>3</max><after>5</after></set></retrieve>"
    );
    let empty = client.iq("get", None, &retrieve).await;
    assert_eq!(empty.attr("type"), Some("result"));
    assert!(lines(&empty.children[0]).is_empty());
    for number in 0..13_u32 {
        let direction = if number % 2 == 0 { Direction::Sent } else { Direction::Received };
        let time = THEN + Duration::from_secs(u64::from(number) * 7);
        stage.service.store_archived(me, heron, &number.to_string(), time, direction).unwrap();
    }
    let reply = client.iq("get", None, &retrieve).await;
    let chat = reply.child("chat", "urn:xmpp:archive").unwrap();
    assert_eq!(chat.attr("with"), Some(heron.as_str()));
    assert_eq!(chat.attr("start"), Some("2012-05-04T12:00:21.000Z"));
    let expected: Vec<_> = (3..13_i64)
        .map(|number| {
            let direction = if number % 2 == 0 { "to" } else { "from" };
            (direction.to_owned(), number.to_string(), (number - 3) * 7)
        })
        .collect();
    assert_eq!(lines(chat), expected);
    let list = client.iq("get", None, &format!("<list xmlns='urn:xmpp:archive' with='{heron}'/>")).await;
    assert_eq!(list.children[0].children[0].attr("start"), Some("2012-05-04T12:00:21.000Z"));
    let list = client.iq("get", None, "<list xmlns='urn:xmpp:archive' with='nobody@messenger.live.com'/>").await;
    assert!(list.children[0].children.is_empty());

    // What is said is archived too, on both sides.
    stage.service.online(heron, "").unwrap();
    client.send(&format!("<message type='chat' to='{heron}'><body>live</body></message>")).await;
    stage.service.messages_to(heron).unwrap().message(SOON).await.unwrap();
    let reply = client.iq("get", None, &retrieve).await;
    let newest = lines(&reply.children[0]).pop().unwrap();
    assert_eq!((newest.0.as_str(), newest.1.as_str()), ("to", "live"));
    let mut other = Client::signed_in(&stage.service, &stage.heron).await;
    let reply = other.iq("get", None, &format!("<retrieve xmlns='urn:xmpp:archive' with='{me}'/>")).await;
    assert_eq!(lines(&reply.children[0]), [("from".to_owned(), "live".to_owned(), 0)]);

    for change in [(false, Era::April2012), (true, Era::December2011)] {
        stage.service.set(|switches| (switches.archive, switches.era) = change);
        assert_eq!(condition(&client.iq("get", None, &retrieve).await), "service-unavailable");
    }
}

#[tokio::test]
async fn a_persona_shows_presence_types_and_answers() {
    let stage = Stage::plain().await;
    let heron = &stage.heron.jid;
    let persona = Persona::new(|said| (said != "quiet").then(|| said.to_uppercase())).typing(Duration::from_millis(5));
    stage.service.autoreply(heron, Some(persona)).unwrap();
    let mut client = stage.client().await;
    client.send("<presence/>").await;
    client.wait(|stanza| stanza.attr("from").is_some_and(|from| from.starts_with(heron.as_str()))).await;
    for said in ["quiet", "hello"] {
        client.send(&format!("<message type='chat' to='{heron}'><body>{said}</body></message>")).await;
    }
    assert!(client.message().await.child("composing", STATES).is_some());
    let answer = client.message().await;
    assert_eq!(body(&answer), Some("HELLO"));
    assert!(answer.child("active", STATES).is_some());
    stage.service.autoreply(heron, None).unwrap();
}
