//! Messages, typing and failures.

use messenger_bridge::domain::output::{Ephemeral, MatrixCall};
use ruma::UserId;
use serde_json::json;

use super::stage::{OWNER, Stage};

const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";

#[test]
fn what_the_phone_sends_the_room_receives_from_the_ghost() {
    let mut stage = Stage::xmpp(JULIET);
    stage.phone_sends("juliet@capulet.lit/balcony", "Art thou not Romeo?\nAnd a Montague?");
    let heard = stage.heard("juliet@capulet.lit");
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].sender, stage.ghost("juliet@capulet.lit").as_str());
    assert_eq!(
        (heard[0].content["msgtype"].as_str(), heard[0].body()),
        (Some("m.text"), "Art thou not Romeo?\nAnd a Montague?")
    );
    assert_eq!(heard[0].at, None, "a live message has its own time");
}

#[test]
fn actions_are_actions_on_both_sides_and_commands_are_not() {
    let mut stage = Stage::xmpp(JULIET);
    stage.phone_sends("juliet@capulet.lit/b", "/me sighs");
    assert_eq!(stage.heard("juliet@capulet.lit")[0].content["msgtype"], "m.emote");
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["sighs"]);
    let room = stage.room("juliet@capulet.lit");
    stage.matrix(&room, OWNER, "m.room.message", None, &json!({ "msgtype": "m.emote", "body": "climbs" }));
    stage.says(&room, "/me is a command");
    assert_eq!(stage.texts_to("juliet@capulet.lit"), ["/me climbs", "\u{2060}/me is a command"]);
}

#[test]
fn a_message_carries_its_id_as_origin_id_and_no_stamp() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room("juliet@capulet.lit");
    stage.says(&room, "Neither, fair saint");
    let message = stage.messages_to("juliet@capulet.lit").remove(0);
    let origin = message.get_child("origin-id", "urn:xmpp:sid:0").unwrap();
    assert_eq!(origin.attr("id"), message.attr("id"));
    assert_eq!(message.attr("type"), Some("chat"));
    assert!(message.get_child("delay", "urn:xmpp:delay").is_none());
}

#[test]
fn the_homeserver_counts_its_transactions_anew_and_may_hand_an_event_over_twice() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room("juliet@capulet.lit");
    let words = ["My bounty is as boundless", "as the sea", "My love as deep"];
    let [first, second, third] = words
        .map(|body| stage.event(&room, OWNER, "m.room.message", None, &json!({ "msgtype": "m.text", "body": body })));
    stage.transaction_named("1", vec![first.clone()], Vec::new());
    stage.transaction_named("1", vec![first.clone()], Vec::new());
    stage.crash();
    stage.transaction_named("1", vec![second.clone()], Vec::new());
    stage.transaction_named("2", vec![first, second, third], Vec::new());
    assert_eq!(stage.texts_to("juliet@capulet.lit"), words);
}

#[test]
fn long_text_is_split_and_joins_to_the_original() {
    let mut stage = Stage::messenger("<item jid='juliet@messenger.live.com' subscription='both'/>");
    let room = stage.room("juliet@messenger.live.com");
    let eight = "x".repeat(8_000);
    stage.says(&room, &eight);
    assert_eq!(stage.texts_to("juliet@messenger.live.com"), [eight]);
    let long = "Ünïcödé <&> 😀 \n".repeat(3_000);
    stage.sent.clear();
    stage.says(&room, &long);
    let parts = stage.texts_to("juliet@messenger.live.com");
    assert!(parts.len() > 3);
    assert_eq!(parts.concat(), long);
    for message in stage.messages_to("juliet@messenger.live.com") {
        assert!(String::from(&message).len() < 12 * 1024);
    }
}

#[test]
fn an_error_is_a_notice_in_reply_and_never_chat() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room("juliet@capulet.lit");
    stage.says(&room, "Hist! Juliet");
    let id = stage.messages_to("juliet@capulet.lit")[0].attr("id").unwrap().to_owned();
    stage.server_sends(&format!(
        "<message type='error' from='juliet@capulet.lit' id='{id}'><body>Hist! Juliet</body><error type='cancel'>\
         <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
    ));
    let heard = stage.heard("juliet@capulet.lit");
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].content["msgtype"], "m.notice");
    assert!(heard[0].content["m.relates_to"]["m.in_reply_to"]["event_id"].as_str().unwrap().starts_with("$p"));
    assert!(heard[0].body().contains("was not delivered"));
    // An error that answers nothing of ours is nothing to show.
    stage.server_sends("<message type='error' from='juliet@capulet.lit' id='x'><error type='cancel'/></message>");
    assert_eq!(stage.heard("juliet@capulet.lit").len(), 1);
}

#[test]
fn what_cannot_be_sent_is_said_in_reply() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room("juliet@capulet.lit");
    stage.matrix(&room, OWNER, "m.room.message", None, &json!({ "msgtype": "org.example.dance", "body": "a jig" }));
    assert!(stage.texts_to("juliet@capulet.lit").is_empty());
    assert!(stage.bodies("juliet@capulet.lit")[0].contains("this kind of message cannot be sent"));
}

#[test]
fn a_message_that_waited_says_when_it_was_written() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room("juliet@capulet.lit");
    for _ in 0..20 {
        stage
            .sign_ins
            .push_back(messenger_bridge::domain::stream::StreamEnd::TimedOut { phase: "connecting".to_owned() });
    }
    stage.cut(false);
    let written = stage.now.wall.to_xmpp();
    stage.says(&room, "waits");
    stage.pass(90_000);
    stage.sign_ins.clear();
    stage.pass(600_000);
    let messages = stage.messages_to("juliet@capulet.lit");
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].get_child("delay", "urn:xmpp:delay").unwrap().attr("stamp"), Some(written.as_str()));
}

#[test]
fn typing_goes_both_ways_on_messenger_without_asking() {
    let jid = "juliet@messenger.live.com";
    let mut stage = Stage::messenger("<item jid='juliet@messenger.live.com' subscription='both'/>");
    let room = stage.room(jid);
    stage.types(&room, true);
    stage.types(&room, false);
    let states: Vec<String> =
        stage.messages_to(jid).iter().map(|m| m.children().next().unwrap().name().to_owned()).collect();
    assert_eq!(states, ["composing", "paused"]);

    stage.server_sends(&format!(
        "<message from='{jid}' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"
    ));
    let typing = |stage: &Stage| {
        stage.ephemerals.iter().filter(|e| matches!(e, Ephemeral::Typing { .. })).cloned().collect::<Vec<_>>()
    };
    assert!(
        matches!(&typing(&stage)[0], Ephemeral::Typing { timeout: Some(_), user, .. } if *user == stage.ghost(jid))
    );
    stage.pass(60_000);
    assert!(typing(&stage).len() >= 3, "it is renewed while it lasts");
    stage.phone_sends(jid, "done");
    assert!(matches!(typing(&stage).last(), Some(Ephemeral::Typing { timeout: None, .. })), "a message ends it");
    let count = typing(&stage).len();
    stage.pass(300_000);
    assert_eq!(typing(&stage).len(), count);
}

#[test]
fn elsewhere_chat_states_go_only_to_contacts_that_know_them() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room("juliet@capulet.lit");
    stage.types(&room, true);
    assert!(stage.messages_to("juliet@capulet.lit").is_empty());
    stage.types(&room, false);
    // Her phone shows by what it does that it knows them.
    stage.server_sends("<message from='juliet@capulet.lit/b' type='chat'><body>hi</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>");
    stage.types(&room, true);
    assert_eq!(stage.messages_to("juliet@capulet.lit").len(), 1);
}

#[test]
fn capabilities_tell_of_chat_states_too() {
    // XEP-0115 section 5.1 for identity client/phone and the features chatstates and disco#info.
    let info = "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='client' type='phone'/>\
                <feature var='http://jabber.org/protocol/chatstates'/><feature var='http://jabber.org/protocol/disco#info'/></query>";
    let mut stage = Stage::with(Stage::settings());
    stage.answers.insert("http://jabber.org/protocol/disco#info juliet@capulet.lit/b", info.to_owned());
    stage.sign_in(JULIET);
    let ver = {
        use base64::Engine as _;
        use sha1::Digest as _;
        let text = "client/phone//<http://jabber.org/protocol/chatstates<http://jabber.org/protocol/disco#info<";
        base64::engine::general_purpose::STANDARD.encode(sha1::Sha1::digest(text))
    };
    stage.server_sends(&format!("<presence from='juliet@capulet.lit/b'><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='{ver}'/></presence>"));
    let room = stage.room("juliet@capulet.lit");
    stage.types(&room, true);
    assert_eq!(stage.messages_to("juliet@capulet.lit").len(), 1);
}

#[test]
fn what_was_said_on_another_device_comes_from_the_accounts_own_ghost() {
    let mut stage = Stage::xmpp(JULIET);
    stage.server_sends(
        "<message from='romeo@montague.lit'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
         <message xmlns='jabber:client' from='romeo@montague.lit/phone' to='juliet@capulet.lit' type='chat'><body>from my phone</body></message>\
         </forwarded></sent></message>",
    );
    let heard = stage.heard("juliet@capulet.lit");
    assert_eq!(
        (heard[0].body(), heard[0].sender.as_str()),
        ("from my phone", stage.ghost("romeo@montague.lit").as_str())
    );
    let named = stage.calls.iter().any(|call| matches!(call, MatrixCall::SetDisplayName { user, name } if *user == stage.ghost("romeo@montague.lit") && name == "romeo (you)"));
    assert!(named);
    let invited = stage
        .calls
        .iter()
        .any(|call| matches!(call, MatrixCall::Invite { target, .. } if *target == stage.ghost("romeo@montague.lit")));
    assert!(invited);
}

#[test]
fn a_person_who_left_is_invited_again_at_the_next_message() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room("juliet@capulet.lit");
    stage.matrix(&room, OWNER, "m.room.member", Some(OWNER), &json!({ "membership": "join" }));
    stage.matrix(&room, OWNER, "m.room.member", Some(OWNER), &json!({ "membership": "leave" }));
    let invites = |stage: &Stage| {
        stage
            .calls
            .iter()
            .filter(
                |call| matches!(call, MatrixCall::Invite { target, .. } if *target == UserId::parse(OWNER).unwrap()),
            )
            .count()
    };
    assert_eq!(invites(&stage), 0);
    stage.phone_sends("juliet@capulet.lit", "come back");
    stage.phone_sends("juliet@capulet.lit", "please");
    assert_eq!(invites(&stage), 1);
}

#[test]
fn a_stranger_gets_a_room_at_the_first_message() {
    let mut stage = Stage::xmpp("");
    stage.phone_sends("tybalt@capulet.lit/sword", "Draw!");
    assert_eq!(stage.bodies("tybalt@capulet.lit"), ["Draw!"]);
    let room = stage
        .calls
        .iter()
        .find_map(|call| if let MatrixCall::CreateRoom(room) = call { Some(room) } else { None })
        .unwrap();
    assert_eq!(room.invite, [UserId::parse(OWNER).unwrap(), stage.ghost("tybalt@capulet.lit")]);
    let bridge: serde_json::Value =
        serde_json::from_str(&room.state.iter().find(|(kind, _, _)| kind == "m.bridge").unwrap().2).unwrap();
    assert_eq!(
        (bridge["protocol"]["id"].as_str(), bridge["channel"]["id"].as_str()),
        (Some("xmpp"), Some("tybalt@capulet.lit"))
    );
}

/// More than may be on its way at once: each windowful is confirmed by a ping, and the next goes out.
#[test]
fn many_waiting_messages_all_go_out_without_stream_management() {
    let mut stage = Stage::messenger("<item jid='juliet@messenger.live.com' subscription='both'/>");
    let room = stage.room("juliet@messenger.live.com");
    stage.hush();
    for number in 0..300 {
        stage.says(&room, &number.to_string());
    }
    assert!(stage.texts_to("juliet@messenger.live.com").is_empty());
    stage.pass(10_000);
    let sent = stage.texts_to("juliet@messenger.live.com");
    assert_eq!(sent, (0..300).map(|number| number.to_string()).collect::<Vec<_>>());
}
