//! Texts and their form, and what is said about what was said, each way, as Juliet's newer app knows it.

use serde_json::json;

use super::stage::Stage;
use crate::end_to_end::clients::Mark;

/// Texts, actions and formatting.
pub fn cross(stage: &Stage<'_>) {
    stage.uses("message");
    stage.says("But soft! What light through yonder window breaks?");
    stage.juliet_says("Ay me! 🌙");
    stage.picture("history", "Ay me!");

    stage.uses("message");
    stage.sends(&json!({"msgtype": "m.emote", "body": "shades his eyes"}));
    stage.juliet.hears(&stage.romeo.jid, "/me shades his eyes");
    stage.juliet.say(&stage.romeo.jid, "/me leans her cheek upon her hand");
    stage.sees("the action", |event| event["msgtype"] == "m.emote" && event["body"] == "leans her cheek upon her hand");

    stage.uses("html");
    let pill = format!("<a href=\"https://matrix.to/#/{}\">Juliet</a>", stage.portal.ghost);
    let html = format!(
        "<p>{pill}, it is <strong>the east</strong>, and you are <em>the sun</em>:</p>\n\
         <ul>\n<li>arise, fair sun</li>\n<li>and kill the <del>envious</del> moon</li>\n</ul>\n\
         <blockquote>\n<p>who is already sick and pale with grief</p>\n</blockquote>\n\
         <p>Run <code>arise --now</code>, see <a href=\"https://en.wikipedia.org/wiki/Balcony\">this page</a>, \
         and do not look: <span data-mx-spoiler=\"the end\">it ends badly</span></p>"
    );
    let body = "Juliet, it is **the east**, and you are *the sun*: …";
    stage.sends(&json!({
        "msgtype": "m.text", "body": body, "format": "org.matrix.custom.html", "formatted_body": html,
    }));
    let heard = stage.juliet_gets("what is formatted", &["the east"]);
    let text = heard["body"].as_str().unwrap_or_default();
    for part in [
        "Juliet, it is *the east*, and you are _the sun_:\n- arise, fair sun\n- and kill the ~envious~ moon",
        "> who is already sick",
        "`arise --now`",
        "https://en.wikipedia.org/wiki/Balcony",
        "[spoiler: the end] it ends badly",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    let said =
        "*O Romeo*, _wherefore_ art thou `Romeo`?\n> Deny thy father\n\n```\nif love:\n    be_no_longer(capulet)\n```";
    stage.juliet.say(&stage.romeo.jid, said);
    let seen = stage.sees("what is formatted", |event| event["body"] == said);
    assert_eq!(
        seen["content"]["formatted_body"],
        "<strong>O Romeo</strong>, <em>wherefore</em> art thou <code>Romeo</code>?<blockquote>Deny thy father</blockquote>\
         <pre><code>if love:\n    be_no_longer(capulet)\n</code></pre>"
    );
    stage.picture("words", "be_no_longer");
}

/// Replies, edits, retractions, reactions and receipts.
pub fn are_answered_and_changed(stage: &Stage<'_>) {
    stage.uses("reply");
    let (asked, id) = stage.says("Shall I hear more, or shall I speak at this?");
    let quotation = "> Shall I hear more, or shall I speak at this?\n";
    let to = format!("<reply xmlns='urn:xmpp:reply:0' to='{}' id='{id}'/>", stage.romeo.jid);
    let part = format!(
        "<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='0' end='{}'/></fallback>",
        quotation.chars().count()
    );
    stage.juliet_sends(Some(&format!("{quotation}Speak!")), &[&to, &part]);
    let answer = stage.sees("the answer", |event| event["body"] == "Speak!");
    assert_eq!(answer["relates_to"]["m.in_reply_to"]["event_id"], asked.as_str(), "{answer}");
    let (_, name) = stage.juliet_says("What’s in a name?");
    stage.answers(&name, "Call me but love.");
    stage.juliet_gets("the answer", &["urn:xmpp:reply:0", "Call me but love."]);

    stage.uses("edit");
    let (event, id) = stage.says("I never will be Rommeo again");
    stage.changes(&event, "Henceforth I never will be Romeo.");
    stage.juliet_gets("the edit", &["urn:xmpp:message-correct:0", &id, "Henceforth I never will be Romeo."]);
    let (id, event) = stage.juliet_says("How camest thou hither, tel me?");
    let right = "How camest thou hither, tell me, and wherefore?";
    stage.juliet_sends(Some(right), &[&format!("<replace xmlns='urn:xmpp:message-correct:0' id='{id}'/>")]);
    let edit = stage.sees("the edit", |told| told["content"]["m.new_content"]["body"] == right);
    assert_eq!(edit["relates_to"]["event_id"], event, "{edit}");

    stage.uses("retraction");
    let (event, id) = stage.says("Lady, by yonder blessed moon I swear");
    stage.takes_back(&event);
    stage.juliet_gets("what was taken back", &["urn:xmpp:message-retract:1", &id]);
    let (id, event) = stage.juliet_says("Fain would I dwell on form");
    stage.juliet_sends(
        Some("/me retracted a previous message, but it's unsupported by your client."),
        &[
            &format!("<retract xmlns='urn:xmpp:message-retract:1' id='{id}'/>"),
            "<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:message-retract:1'/>",
        ],
    );
    stage.sees_taken_back(&event);

    stage.uses("reaction");
    let (event, id) = stage.says("My life were better ended by their hate than wanting of thy love.");
    stage.juliet_sends(
        None,
        &[&format!(
            "<reactions xmlns='urn:xmpp:reactions:0' id='{id}'><reaction>❤️</reaction><reaction>😮</reaction></reactions>"
        )],
    );
    for key in ["❤️", "😮"] {
        let reaction =
            stage.sees("the reaction", |told| told["event"] == "reaction" && told["relates_to"]["key"] == key);
        assert_eq!(reaction["relates_to"]["event_id"], event.as_str(), "{reaction}");
    }
    let (id, hers) = stage.juliet_says("Thou know’st the mask of night is on my face.");
    stage.reacts(&hers, "🌹");
    stage.juliet_gets("the reaction", &["urn:xmpp:reactions:0", &id, "🌹"]);

    stage.uses("receipt");
    let (event, id) = stage.says("Have you read this?");
    stage.juliet_sends(None, &[&format!("<displayed xmlns='urn:xmpp:chat-markers:0' id='{id}'/>")]);
    stage.person.expect("Juliet's read receipt", |seen| {
        seen["event"] == "receipt" && seen["user"] == stage.portal.ghost.as_str() && seen["event_id"] == event.as_str()
    });
    let wishes = ["<markable xmlns='urn:xmpp:chat-markers:0'/>", "<request xmlns='urn:xmpp:receipts'/>"];
    let id = stage.juliet_sends(Some("I have. Have you?"), &wishes);
    stage.juliet.expect("the delivery receipt", |event| event["receipt_for"] == id.as_str());
    let event = stage.person.hears(&stage.portal.room, "I have. Have you?");
    stage.person.call("read", json!({"room": stage.portal.room, "event_id": event["event_id"]}));
    let displayed = |told: &serde_json::Value| {
        told["xml"].as_str().is_some_and(|xml| xml.contains("urn:xmpp:chat-markers:0") && xml.contains(&id))
    };
    stage.juliet.expect_since(Mark::START, "the displayed marker", displayed);
    stage.picture("about", "I have. Have you?");
}
