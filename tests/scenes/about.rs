//! What is said about what was said: answers, edits, retractions, reactions, receipts, nudges and what cannot be read.

use messenger_bridge::domain::output::MatrixCall;
use minidom::Element;
use serde_json::json;

use super::stage::{OWNER, Stage};

const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
const JID: &str = "juliet@capulet.lit";
const EDIT: &str = "urn:xmpp:message-correct:0";
const RETRACT: &str = "urn:xmpp:message-retract:1";
const REACTIONS: &str = "urn:xmpp:reactions:0";
const REPLY: &str = "urn:xmpp:reply:0";

/// Juliet is on line with a client that knows these.
pub(super) fn with_client(features: &[&str]) -> Stage {
    let mut stage = Stage::xmpp(JULIET);
    let features: String = features.iter().map(|feature| format!("<feature var='{feature}'/>")).collect();
    let info = format!("<query xmlns='http://jabber.org/protocol/disco#info'>{features}</query>");
    stage.answers.insert("http://jabber.org/protocol/disco#info juliet@capulet.lit/b", info);
    stage.server_sends(
        "<presence from='juliet@capulet.lit/b'><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='1'/></presence>",
    );
    stage
}

fn modern() -> Stage {
    with_client(&[EDIT, RETRACT, REACTIONS, REPLY])
}

fn says(stage: &mut Stage, text: &str) -> (String, String) {
    let room = stage.room(JID);
    stage.says(&room, text);
    let id = stage.messages_to(JID).last().unwrap().attr("id").unwrap().to_owned();
    (stage.last_event(), id)
}

pub(super) fn last(stage: &Stage) -> Element {
    stage.messages_to(JID).pop().unwrap()
}

pub(super) fn payload(stanza: &Element, name: &str, namespace: &str) -> Element {
    stanza.get_child(name, namespace).unwrap_or_else(|| panic!("{}", String::from(stanza))).clone()
}

pub(super) fn message(id: &str, inner: &str) -> String {
    format!("<message from='juliet@capulet.lit/b' type='chat' id='{id}'>{inner}</message>")
}

fn redactions(stage: &Stage) -> Vec<(String, String)> {
    let redaction = |call: &MatrixCall| match call {
        MatrixCall::Redact { user, event, .. } => Some((user.to_string(), event.to_string())),
        _ => None,
    };
    stage.calls.iter().filter_map(redaction).filter(|(user, _)| !user.contains("bot")).collect()
}

#[test]
fn an_answer_of_the_contact_answers_in_the_room() {
    let mut stage = modern();
    let (event, id) = says(&mut stage, "Shall I come?");
    let answer = format!(
        "<body>&gt; Shall I come?\nYes</body><reply xmlns='{REPLY}' to='romeo@montague.lit' id='{id}'/>\
         <fallback xmlns='urn:xmpp:fallback:0' for='{REPLY}'><body start='0' end='16'/></fallback>"
    );
    stage.server_sends(&message("j1", &answer));
    let heard = stage.heard(JID).pop().unwrap();
    assert_eq!(
        (heard.body(), heard.content["m.relates_to"]["m.in_reply_to"]["event_id"].as_str()),
        ("Yes", Some(event.as_str()))
    );
    // To something unknown it is shown for itself.
    stage.server_sends(&message("j2", &format!("<body>Hm</body><reply xmlns='{REPLY}' id='unknown'/>")));
    let heard = stage.heard(JID).pop().unwrap();
    assert_eq!((heard.body(), heard.content.get("m.relates_to")), ("Hm", None));
}

#[test]
fn an_answer_of_the_person_quotes_and_names_what_it_answers() {
    let mut stage = modern();
    stage.server_sends(&message("j1", "<body>Art thou\nRomeo?</body>"));
    let event = stage.event_saying("Art thou\nRomeo?");
    let answer = |body: &str| json!({ "msgtype": "m.text", "body": body, "m.relates_to": { "m.in_reply_to": { "event_id": event } } });
    let room = stage.room(JID);
    stage.matrix(&room, OWNER, "m.room.message", None, &answer("> <@j:h> Art thou\n> Romeo?\n\nNeither"));
    let sent = last(&stage);
    assert_eq!(payload(&sent, "body", "jabber:client").text(), "> Art thou\n> Romeo?\nNeither");
    let reply = payload(&sent, "reply", REPLY);
    assert_eq!((reply.attr("id"), reply.attr("to")), (Some("j1"), Some(JID)));
    let part = payload(&sent, "fallback", "urn:xmpp:fallback:0").children().next().unwrap().clone();
    assert_eq!((part.attr("start"), part.attr("end")), (Some("0"), Some("20")));

    // A client that does not know answers gets the quotation alone.
    let mut plain = with_client(&[]);
    plain.server_sends(&message("j1", "<body>Art thou?</body>"));
    let event = plain.event_saying("Art thou?");
    let content =
        json!({ "msgtype": "m.text", "body": "No", "m.relates_to": { "m.in_reply_to": { "event_id": event } } });
    plain.matrix(&room, OWNER, "m.room.message", None, &content);
    assert_eq!(plain.texts_to(JID).pop().unwrap(), "> Art thou?\nNo");
    assert!(last(&plain).get_child("reply", REPLY).is_none());
}

#[test]
fn the_contact_edits_a_message_several_times() {
    let mut stage = modern();
    stage.server_sends(&message("j1", "<body>teh</body>"));
    let event = stage.event_saying("teh");
    for (id, text) in [("j2", "the"), ("j3", "The")] {
        stage.server_sends(&message(id, &format!("<body>{text}</body><replace xmlns='{EDIT}' id='j1'/>")));
        let heard = stage.heard(JID).pop().unwrap();
        assert_eq!(heard.content["m.new_content"]["body"], text);
        assert_eq!(heard.content["m.relates_to"]["event_id"], event.as_str());
    }
    // An answer to the edit is one to the message.
    let room = stage.room(JID);
    let content =
        json!({ "msgtype": "m.text", "body": "ok", "m.relates_to": { "m.in_reply_to": { "event_id": event } } });
    stage.matrix(&room, OWNER, "m.room.message", None, &content);
    assert!(last(&stage).get_child("reply", REPLY).is_some());
}

#[test]
fn an_edit_that_comes_before_its_message_stands_for_it() {
    let mut stage = modern();
    stage.server_sends(&message("j2", &format!("<body>the</body><replace xmlns='{EDIT}' id='j1'/>")));
    stage.server_sends(&message("j1", "<body>teh</body>"));
    assert_eq!(stage.bodies(JID), ["the"]);
    stage.server_sends(&message("j3", &format!("<body>The</body><replace xmlns='{EDIT}' id='j1'/>")));
    assert_eq!(stage.heard(JID).pop().unwrap().content["m.new_content"]["body"], "The");
}

#[test]
fn nobody_edits_or_takes_back_what_someone_else_said() {
    let mut stage = modern();
    let (_, id) = says(&mut stage, "mine");
    stage.server_sends(&message("j2", &format!("<retract xmlns='{RETRACT}' id='{id}'/>")));
    assert!(redactions(&stage).is_empty());
    assert_eq!(stage.ignored("retraction of something unknown"), 1);
    stage.server_sends(&message("j1", &format!("<body>forged</body><replace xmlns='{EDIT}' id='{id}'/>")));
    let heard = stage.heard(JID).pop().unwrap();
    assert!(heard.content.get("m.new_content").is_none(), "{heard:?}");
}

#[test]
fn the_person_edits_and_clients_without_edits_get_it_anew() {
    for (mut stage, knows) in [(modern(), true), (with_client(&[]), false)] {
        let (event, id) = says(&mut stage, "teh");
        let room = stage.room(JID);
        for text in ["the", "The"] {
            let content = json!({
                "msgtype": "m.text", "body": format!("* {text}"),
                "m.new_content": { "msgtype": "m.text", "body": text },
                "m.relates_to": { "rel_type": "m.replace", "event_id": event },
            });
            stage.matrix(&room, OWNER, "m.room.message", None, &content);
            let sent = last(&stage);
            let replaces = sent.get_child("replace", EDIT).and_then(|replace| replace.attr("id"));
            assert_eq!(replaces, knows.then_some(id.as_str()));
            let body = payload(&sent, "body", "jabber:client").text();
            assert_eq!(body, if knows { text.to_owned() } else { format!("* {text}") });
        }
    }
}

#[test]
fn messages_are_taken_back_both_ways() {
    let mut stage = modern();
    stage.server_sends(&message("j1", "<body>oops</body>"));
    let event = stage.event_saying("oops");
    stage.server_sends(&message("j2", &format!("<body>unsupported</body><retract xmlns='{RETRACT}' id='j1'/>")));
    assert_eq!(redactions(&stage), [(stage.ghost(JID).to_string(), event)]);
    assert_eq!(stage.bodies(JID), ["oops"], "the words for other clients are not shown");

    let (event, id) = says(&mut stage, "mine");
    let room = stage.room(JID);
    stage.matrix(&room, OWNER, "m.room.redaction", None, &json!({ "redacts": event }));
    let sent = last(&stage);
    assert_eq!(payload(&sent, "retract", RETRACT).attr("id"), Some(id.as_str()));
    assert!(
        sent.get_child("body", "jabber:client").is_some()
            && sent.get_child("fallback", "urn:xmpp:fallback:0").is_some()
    );
}

#[test]
fn what_cannot_be_taken_back_is_said() {
    let mut stage = with_client(&[]);
    let (event, _) = says(&mut stage, "mine");
    let room = stage.room(JID);
    let before = stage.messages_to(JID).len();
    stage.matrix(&room, OWNER, "m.room.redaction", None, &json!({ "redacts": event }));
    assert_eq!(stage.messages_to(JID).len(), before);
    let notice = stage.heard(JID).pop().unwrap();
    assert!(notice.body().contains("was not taken back"), "{}", notice.body());
    assert_eq!(notice.content["m.relates_to"]["m.in_reply_to"]["event_id"], event.as_str());
}

#[test]
fn a_contacts_reactions_are_added_and_taken_back_one_by_one() {
    let mut stage = modern();
    let (event, id) = says(&mut stage, "Shall I come?");
    let react = |stage: &mut Stage, number: u32, set: &[&str]| {
        let set: String = set.iter().map(|text| format!("<reaction>{text}</reaction>")).collect();
        stage.server_sends(&message(
            &format!("r{number}"),
            &format!("<reactions xmlns='{REACTIONS}' id='{id}'>{set}</reactions>"),
        ));
    };
    react(&mut stage, 1, &["👍", "❤"]);
    let keys = |stage: &Stage| -> Vec<String> {
        let annotation = |call: &MatrixCall| {
            let MatrixCall::Send { kind, content, .. } = call else { return None };
            let content: serde_json::Value = serde_json::from_str(content).unwrap();
            let relation = &content["m.relates_to"];
            let fits = kind == "m.reaction" && relation["event_id"] == event.as_str();
            fits.then(|| relation["key"].as_str().unwrap_or_default().to_owned())
        };
        stage.calls.iter().filter_map(annotation).collect()
    };
    assert_eq!(keys(&stage), ["❤", "👍"]);
    react(&mut stage, 2, &["👍", "🐢"]);
    assert_eq!(keys(&stage), ["❤", "👍", "🐢"]);
    assert_eq!(redactions(&stage).len(), 1);
    react(&mut stage, 3, &[]);
    assert_eq!(redactions(&stage).len(), 3);
}

/// A reaction has no body: an app that does not know it would show nothing.
#[test]
fn a_reaction_goes_in_words_while_one_of_the_contacts_apps_does_not_know_it() {
    let mut stage = modern();
    stage.server_sends(&message("j1", "<body>Do you love me?</body>"));
    let (room, event) = (stage.room(JID), stage.event_saying("Do you love me?"));
    let react = |stage: &mut Stage, key: &str| {
        let relates = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": event, "key": key } });
        stage.matrix(&room, OWNER, "m.reaction", None, &relates);
        last(stage)
    };
    assert!(react(&mut stage, "1").get_child("reactions", REACTIONS).is_some());
    // One that gets no messages does not count.
    stage.server_sends("<presence from='juliet@capulet.lit/bot'><priority>-1</priority></presence>");
    assert!(react(&mut stage, "2").get_child("reactions", REACTIONS).is_some());
    stage.server_sends("<presence from='juliet@capulet.lit/old'/>");
    let said = react(&mut stage, "3");
    assert!(said.get_child("reactions", REACTIONS).is_none() && said.get_child("body", "jabber:client").is_some());
    stage.server_sends("<presence from='juliet@capulet.lit/old' type='unavailable'/>");
    assert!(react(&mut stage, "4").get_child("reactions", REACTIONS).is_some());
}

#[test]
fn the_persons_reactions_go_as_one_set() {
    let mut stage = modern();
    stage.server_sends(&message("j1", "<body>It is the east</body>"));
    let event = stage.event_saying("It is the east");
    let room = stage.room(JID);
    let set = |stage: &Stage| -> Vec<String> {
        payload(&last(stage), "reactions", REACTIONS).children().map(Element::text).collect()
    };
    let mut events = Vec::new();
    for key in ["👍", "☀"] {
        let content = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": event, "key": key } });
        stage.matrix(&room, OWNER, "m.reaction", None, &content);
        events.push(stage.last_event());
    }
    assert_eq!(payload(&last(&stage), "reactions", REACTIONS).attr("id"), Some("j1"));
    assert_eq!(set(&stage), ["☀", "👍"]);
    assert!(last(&stage).get_child("body", "jabber:client").is_none());
    stage.matrix(&room, OWNER, "m.room.redaction", None, &json!({ "redacts": events[0] }));
    assert_eq!(set(&stage), ["☀"]);

    let mut plain = with_client(&[]);
    plain.server_sends(&message("j1", "<body>It is the east</body>"));
    let event = plain.event_saying("It is the east");
    let content = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": event, "key": "👍" } });
    plain.matrix(&room, OWNER, "m.reaction", None, &content);
    assert_eq!(plain.texts_to(JID).pop().unwrap(), "> It is the east\n👍");
}

#[test]
fn receipts_are_given_and_taken() {
    use messenger_bridge::domain::input::EphemeralEvent;
    let mut stage = modern();
    let (event, id) = says(&mut stage, "read me");
    assert!(last(&stage).get_child("markable", "urn:xmpp:chat-markers:0").is_some());
    stage.server_sends(&message("j0", &format!("<displayed xmlns='urn:xmpp:chat-markers:0' id='{id}'/>")));
    let read = |call: &MatrixCall| match call {
        MatrixCall::Read { user, event, .. } => Some((user.to_string(), event.to_string())),
        _ => None,
    };
    assert_eq!(stage.calls.iter().find_map(read), Some((stage.ghost(JID).to_string(), event)));

    let wishes = "<request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/>";
    stage.server_sends(&message("j1", &format!("<body>one</body>{wishes}")));
    stage.server_sends(&message("j2", &format!("<body>two</body>{wishes}")));
    let received = |stage: &Stage| -> Vec<String> {
        let id = |stanza: Element| Some(stanza.get_child("received", "urn:xmpp:receipts")?.attr("id")?.to_owned());
        stage.messages_to(JID).into_iter().filter_map(id).collect()
    };
    assert_eq!(received(&stage), ["j1", "j2"]);
    let (room, owner) = (stage.room(JID), ruma::UserId::parse(OWNER).unwrap());
    let event = ruma::EventId::parse(stage.event_saying("one")).unwrap();
    stage.transaction(Vec::new(), vec![EphemeralEvent::Read { room: room.clone(), user: owner.clone(), event }]);
    let displayed = |stage: &Stage| {
        last(stage).get_child("displayed", "urn:xmpp:chat-markers:0").map(|d| d.attr("id").unwrap().to_owned())
    };
    assert_eq!(displayed(&stage).as_deref(), Some("j1"));
    let event = ruma::EventId::parse(stage.event_saying("two")).unwrap();
    stage.transaction(Vec::new(), vec![EphemeralEvent::Read { room, user: owner, event }]);
    assert_eq!(displayed(&stage).as_deref(), Some("j2"));
}

#[test]
fn strangers_and_copies_get_no_receipts() {
    let mut stage = modern();
    let wishes = "<body>hi</body><request xmlns='urn:xmpp:receipts'/>";
    stage.server_sends(&format!("<message from='tybalt@capulet.lit/x' type='chat' id='t1'>{wishes}</message>"));
    let copy = format!(
        "<message from='romeo@montague.lit'><received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
         <message xmlns='jabber:client' from='juliet@capulet.lit/b' to='romeo@montague.lit/phone' type='chat' id='j1'>{wishes}</message></forwarded></received></message>"
    );
    stage.server_sends(&copy);
    let receipts = stage.sent.iter().filter(|stanza| stanza.get_child("received", "urn:xmpp:receipts").is_some());
    assert_eq!(receipts.count(), 0);
    assert_eq!(stage.bodies(JID), ["hi"]);
}

#[test]
fn nudges_and_what_cannot_be_read_are_shown() {
    let mut stage = modern();
    stage.server_sends(
        "<message from='juliet@capulet.lit/b' type='headline'><attention xmlns='urn:xmpp:attention:0'/></message>",
    );
    let nudge = stage.heard(JID).pop().unwrap();
    assert_eq!((nudge.content["msgtype"].as_str(), nudge.body()), (Some("m.emote"), "has sent you a nudge."));
    let secret =
        "<body>I sent you an OMEMO encrypted message</body><encrypted xmlns='eu.siacs.conversations.axolotl'/>";
    stage.server_sends(&message("j1", secret));
    let notice = stage.heard(JID).pop().unwrap();
    assert_eq!(notice.content["msgtype"], "m.notice");
    assert!(notice.body().contains("OMEMO") && notice.body().contains("I sent you"), "{}", notice.body());
}

#[test]
fn a_nudge_is_sent_to_an_app_that_knows_it_and_the_person_told() {
    for (features, answer, nudges) in
        [(vec!["urn:xmpp:attention:0"], "You sent a nudge.", 1), (vec![], "does not know nudges", 0)]
    {
        let mut stage = with_client(&features);
        let room = stage.room(JID);
        stage.matrix(&room, OWNER, "m.room.message", None, &json!({ "msgtype": "m.text", "body": "!msgr nudge" }));
        let said = stage.heard(JID).pop().unwrap();
        assert!(said.body().contains(answer), "{}", said.body());
        let sent = stage.messages_to(JID).iter().filter(|m| m.has_child("attention", "urn:xmpp:attention:0")).count();
        assert_eq!(sent, nudges);
    }
}

#[test]
fn on_a_network_of_plain_messages_all_of_it_is_said_in_words() {
    let mut stage = Stage::messenger("<item jid='friend@messenger.live.com' name='Friend' subscription='both'/>");
    let jid = "friend@messenger.live.com";
    stage.phone_sends("friend@messenger.live.com/c", "hello");
    let event = stage.event_saying("hello");
    let room = stage.room(jid);
    let answer =
        json!({ "msgtype": "m.text", "body": "hi", "m.relates_to": { "m.in_reply_to": { "event_id": event } } });
    stage.matrix(&room, OWNER, "m.room.message", None, &answer);
    let reaction = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": event, "key": "👍" } });
    stage.matrix(&room, OWNER, "m.reaction", None, &reaction);
    let edit = json!({
        "msgtype": "m.text", "body": "* hi!", "m.new_content": { "msgtype": "m.text", "body": "hi!" },
        "m.relates_to": { "rel_type": "m.replace", "event_id": event },
    });
    stage.matrix(&room, OWNER, "m.room.message", None, &edit);
    assert_eq!(stage.texts_to(jid), ["> hello\nhi", "> hello\n👍", "* hi!"]);
    for stanza in stage.messages_to(jid) {
        let known = |child: &Element| {
            matches!(child.ns().as_str(), "jabber:client" | "urn:xmpp:sid:0" | "http://jabber.org/protocol/chatstates")
        };
        assert!(stanza.children().all(known), "{}", String::from(&stanza));
    }
}

#[test]
fn places_are_places_on_both_sides() {
    let mut stage = modern();
    stage.server_sends(&message("j1", "<body>geo:45.44,12.33</body>"));
    let place = stage.heard(JID).pop().unwrap();
    assert_eq!(
        (place.content["msgtype"].as_str(), place.content["geo_uri"].as_str()),
        (Some("m.location"), Some("geo:45.44,12.33"))
    );
    let room = stage.room(JID);
    let content = json!({ "msgtype": "m.location", "body": "Verona", "geo_uri": "geo:45.43,10.99" });
    stage.matrix(&room, OWNER, "m.room.message", None, &content);
    assert_eq!(stage.texts_to(JID).pop().unwrap(), "geo:45.43,10.99");
}
