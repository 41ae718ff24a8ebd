//! Form: Matrix HTML, message styling and XHTML-IM, with answers, edits and actions.

use serde_json::{Value, json};

use super::about::{last, message, payload, with_client};
use super::stage::{OWNER, Stage};

const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
const JID: &str = "juliet@capulet.lit";
const XHTML_IM: &str = "http://jabber.org/protocol/xhtml-im";
const XHTML: &str = "http://www.w3.org/1999/xhtml";
const EDIT: &str = "urn:xmpp:message-correct:0";
const REPLY: &str = "urn:xmpp:reply:0";

fn html(body: &str, formatted: &str) -> Value {
    json!({ "msgtype": "m.text", "body": body, "format": "org.matrix.custom.html", "formatted_body": formatted })
}

fn says(stage: &mut Stage, content: &Value) -> String {
    let room = stage.room(JID);
    stage.matrix(&room, OWNER, "m.room.message", None, content);
    payload(&last(stage), "body", "jabber:client").text()
}

fn formatted(stage: &Stage) -> (String, Option<String>) {
    let said = stage.heard(JID).pop().unwrap();
    (said.body().to_owned(), said.content["formatted_body"].as_str().map(str::to_owned))
}

#[test]
fn the_persons_html_becomes_styling() {
    let mut stage = with_client(&[]);
    for (body, formatted, sent) in [
        ("**Art** thou _Romeo_?", "<strong>Art</strong> thou <em>Romeo</em>?", "*Art* thou _Romeo_?"),
        (
            "[Juliet](https://matrix.to/#/@j:h): come",
            "<a href=\"https://matrix.to/#/@j:h\">Juliet</a>: come",
            "Juliet: come",
        ),
        ("||poison||", "<span data-mx-spoiler=\"the end\">poison</span>", "[spoiler: the end] poison"),
        // What adds nothing goes as it was typed, to the blank.
        ("a  b\n\n\nc ", "<p>a b</p>\n<p>c</p>\n", "a  b\n\n\nc "),
        ("Juliet: come", "<a href=\"https://matrix.to/#/@j:h\">Juliet</a>: come", "Juliet: come"),
    ] {
        assert_eq!(says(&mut stage, &html(body, formatted)), sent);
        assert!(last(&stage).get_child("unstyled", "urn:xmpp:styling:0").is_none());
        assert!(last(&stage).get_child("html", XHTML_IM).is_none());
    }
    let emote = json!({ "msgtype": "m.emote", "body": "waves **both** hands", "format": "org.matrix.custom.html", "formatted_body": "waves <b>both</b> hands" });
    assert_eq!(says(&mut stage, &emote), "/me waves *both* hands");
}

#[test]
fn what_only_looks_styled_is_said_to_be_none() {
    let mut stage = with_client(&[]);
    assert_eq!(says(&mut stage, &html("*x*", "<p>*x*</p>")), "*x*");
    payload(&last(&stage), "unstyled", "urn:xmpp:styling:0");
    // Without HTML, people style by hand.
    assert_eq!(says(&mut stage, &json!({ "msgtype": "m.text", "body": "*x*" })), "*x*");
    assert!(last(&stage).get_child("unstyled", "urn:xmpp:styling:0").is_none());
}

#[test]
fn the_contacts_styling_becomes_html_beside_the_body_as_it_came() {
    let mut stage = Stage::xmpp(JULIET);
    stage.server_sends(&message("j1", "<body>*Art* thou\n&gt; Romeo &amp; _I_</body>"));
    let shown = "<strong>Art</strong> thou<blockquote>Romeo &amp; <em>I</em></blockquote>";
    assert_eq!(formatted(&stage), ("*Art* thou\n> Romeo & _I_".to_owned(), Some(shown.to_owned())));
    assert_eq!(stage.heard(JID).pop().unwrap().content["format"], "org.matrix.custom.html");
    stage.server_sends(&message("j2", "<body>&gt; _ &lt;</body><unstyled xmlns='urn:xmpp:styling:0'/>"));
    assert_eq!(formatted(&stage), ("> _ <".to_owned(), None));
    stage.server_sends(&message("j3", "<body>/me *waves*</body>"));
    assert_eq!(formatted(&stage), ("*waves*".to_owned(), Some("<strong>waves</strong>".to_owned())));
    assert_eq!(stage.heard(JID).pop().unwrap().content["msgtype"], "m.emote");
    assert_eq!(stage.ignored("payload that is not translated"), 0);
}

#[test]
fn the_contacts_xhtml_becomes_html() {
    let mut stage = Stage::xmpp(JULIET);
    let with = |body: &str, inner: &str| {
        format!("<body>{body}</body><html xmlns='{XHTML_IM}'><body xmlns='{XHTML}'>{inner}</body></html>")
    };
    let green = "<p>I&apos;m <span style='color:green;font-weight:bold'>green</span> <img src='https://spy.example/a' alt='with envy'/></p>";
    stage.server_sends(&message("j1", &with("I&apos;m green", green)));
    let shown = "<p>I'm <strong>green</strong> with envy</p>";
    assert_eq!(formatted(&stage), ("I'm green".to_owned(), Some(shown.to_owned())));
    // It says that nothing has form, and so nothing has.
    stage.server_sends(&message("j2", &with("*no*", "<p>*no*</p>")));
    assert_eq!(formatted(&stage), ("*no*".to_owned(), None));
    // One with nothing in it says nothing.
    stage.server_sends(&message("j3", &with("*yes*", "<p/>")));
    assert_eq!(formatted(&stage).1.as_deref(), Some("<strong>yes</strong>"));
    stage.server_sends(&message("j4", &with("/me waves", "<p>/me <em>waves</em></p>")));
    assert_eq!(formatted(&stage), ("waves".to_owned(), Some("<p><em>waves</em></p>".to_owned())));
}

#[test]
fn answers_and_edits_of_the_contact_have_form() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room(JID);
    stage.says(&room, "😀?");
    let id = last(&stage).attr("id").unwrap().to_owned();
    // "> 😀?\n" is five code points.
    let answer = format!(
        "<body>&gt; 😀?\n*No* &gt;</body><reply xmlns='{REPLY}' id='{id}'/>\
         <fallback xmlns='urn:xmpp:fallback:0' for='{REPLY}'><body start='0' end='5'/></fallback>"
    );
    stage.server_sends(&message("j1", &answer));
    assert_eq!(formatted(&stage), ("*No* >".to_owned(), Some("<strong>No</strong> &gt;".to_owned())));
    assert!(stage.heard(JID).pop().unwrap().content["m.relates_to"]["m.in_reply_to"].is_object());
    let action = format!(
        "<body>&gt; 😀?\n/me _waves_</body><reply xmlns='{REPLY}' id='{id}'/>\
         <fallback xmlns='urn:xmpp:fallback:0' for='{REPLY}'><body start='0' end='5'/></fallback>"
    );
    stage.server_sends(&message("j2", &action));
    assert_eq!(formatted(&stage), ("_waves_".to_owned(), Some("<em>waves</em>".to_owned())));
    assert_eq!(stage.heard(JID).pop().unwrap().content["msgtype"], "m.emote");
    stage.server_sends(&message("j3", &format!("<body>_Yes_</body><replace xmlns='{EDIT}' id='j1'/>")));
    let edit = stage.heard(JID).pop().unwrap().content;
    assert_eq!(edit["m.new_content"]["formatted_body"], "<em>Yes</em>");
    assert_eq!((&edit["m.new_content"]["body"], &edit["formatted_body"]), (&json!("_Yes_"), &json!("* <em>Yes</em>")));
}

#[test]
fn answers_and_edits_of_the_person_have_form() {
    let mut stage = with_client(&[EDIT, REPLY, "http://jabber.org/protocol/xhtml-im"]);
    stage.server_sends(&message("j1", "<body>*Art* thou 😀?</body>"));
    let event = stage.event_saying("*Art* thou 😀?");
    let mut answer =
        html("> <@j:h> *Art* thou 😀?\n\n**No**", "<mx-reply><blockquote>Art thou?</blockquote></mx-reply><b>No</b>");
    answer["m.relates_to"] = json!({ "m.in_reply_to": { "event_id": event } });
    assert_eq!(says(&mut stage, &answer), "> *Art* thou 😀?\n*No*");
    let part = payload(&last(&stage), "fallback", "urn:xmpp:fallback:0").children().next().unwrap().clone();
    assert_eq!((part.attr("start"), part.attr("end")), (Some("0"), Some("16")));
    assert!(last(&stage).get_child("html", XHTML_IM).is_none(), "a client that knows newer things styles");
    let said = stage.last_event();

    let mut edit = html("* **Yes**", "* <b>Yes</b>");
    edit["m.new_content"] = html("**Yes**", "<b>Yes</b>");
    edit["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": said });
    assert_eq!(says(&mut stage, &edit), "*Yes*");
    payload(&last(&stage), "replace", EDIT);

    let mut edit = html("* \\*Yes*", "* *Yes*");
    edit["m.new_content"] = html("*Yes*", "*Yes*");
    edit["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": said });
    assert_eq!(says(&mut stage, &edit), "*Yes*");
    payload(&last(&stage), "unstyled", "urn:xmpp:styling:0");
}

#[test]
fn old_clients_get_xhtml_too() {
    let mut stage = with_client(&[XHTML_IM, "urn:xmpp:receipts"]);
    assert_eq!(says(&mut stage, &html("**No**", "<b>No</b>")), "*No*");
    let body = |stage: &Stage| {
        let html = String::from(&payload(&last(stage), "html", XHTML_IM));
        html.split_once(&format!("<body xmlns='{XHTML}'>")).unwrap().1.replace("</body></html>", "")
    };
    assert_eq!(body(&stage), "<strong>No</strong>");
    let said = stage.last_event();
    says(&mut stage, &json!({ "msgtype": "m.text", "body": "plain" }));
    assert!(last(&stage).get_child("html", XHTML_IM).is_none());

    let mut edit = html("* **Yes**", "* <b>Yes</b>");
    edit["m.new_content"] = html("**Yes**", "<b>Yes</b>");
    edit["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": said });
    assert_eq!(says(&mut stage, &edit), "* *Yes*");
    assert_eq!(body(&stage), "* <strong>Yes</strong>");

    stage.server_sends(&message("j1", "<body>Art thou &lt;3?</body>"));
    let event = stage.event_saying("Art thou <3?");
    let mut answer = html("**No**", "<b>No</b>");
    answer["m.relates_to"] = json!({ "m.in_reply_to": { "event_id": event } });
    assert_eq!(says(&mut stage, &answer), "> Art thou <3?\n*No*");
    assert_eq!(body(&stage), "<blockquote>Art thou &lt;3?</blockquote><strong>No</strong>");
    // What does not fit one stanza twice goes once.
    let long = "x".repeat(40_000);
    assert_eq!(says(&mut stage, &html("y", &format!("<b>{long}</b>"))), format!("*{long}*"));
    assert!(last(&stage).get_child("html", XHTML_IM).is_none());
}

/// The Messenger service knows no extensions; its clients get the text.
#[test]
fn messenger_gets_the_text_alone() {
    let jid = "juliet@messenger.live.com";
    let mut stage = Stage::messenger(&format!("<item jid='{jid}' subscription='both'/>"));
    let room = stage.room(jid);
    for (body, formatted, sent) in [("**No**", "<b>No</b>", "*No*"), ("*x*", "*x*", "*x*")] {
        stage.matrix(&room, OWNER, "m.room.message", None, &html(body, formatted));
        assert_eq!(stage.texts_to(jid).pop().unwrap(), sent);
        let stanza = stage.messages_to(jid).pop().unwrap();
        assert!(!stanza.has_child("unstyled", "urn:xmpp:styling:0") && !stanza.has_child("html", XHTML_IM));
    }
}

#[test]
fn what_is_too_long_with_form_goes_without() {
    let mut stage = Stage::xmpp(JULIET);
    let long = "*a* ".repeat(3_000);
    stage.server_sends(&message("j1", &format!("<body>{long}</body>")));
    assert_eq!(formatted(&stage), (long, None));
}
