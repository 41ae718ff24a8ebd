//! Form, between matrix-nio and slixmpp on Prosody: Matrix HTML, message styling, XHTML-IM, actions.

use minidom::Element;
use serde_json::{Value, json};

use super::about::Chat;
use super::bridge::{Bridge, starttls};
use super::clients::Contact;
use super::servers::Prosody;

const XHTML_IM: &str = "http://jabber.org/protocol/xhtml-im";
const XHTML: &str = "http://www.w3.org/1999/xhtml";

impl Chat<'_> {
    fn person_formats(&self, msgtype: &str, body: &str, html: &str) {
        let content = json!({"msgtype": msgtype, "format": "org.matrix.custom.html", "formatted_body": html});
        self.person.call("send", json!({"room": self.portal.room, "body": body, "content": content}));
    }

    /// Awaits what Bob said, as it is shown to a person.
    fn shown(&self, body: &str) -> Value {
        self.person_sees("the message", |event| event["body"] == body)["content"].clone()
    }
}

#[test]
fn form_crosses_both_ways() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let chat = Chat::begin_with(&bridge, prosody, Contact::connect);

    chat.bob.say(&chat.alice, "*Art* _thou_ `Romeo`?\n> Neither\n\n```\nfair  saint\n```");
    let content = chat.shown("*Art* _thou_ `Romeo`?\n> Neither\n\n```\nfair  saint\n```");
    assert_eq!(
        content["formatted_body"],
        "<strong>Art</strong> <em>thou</em> <code>Romeo</code>?<blockquote>Neither</blockquote>\
         <pre><code>fair  saint\n</code></pre>"
    );
    chat.bob_sends(Some("> _ <"), "<unstyled xmlns='urn:xmpp:styling:0'/>");
    assert_eq!(chat.shown("> _ <").get("formatted_body"), None);
    let xhtml = format!(
        "<html xmlns='{XHTML_IM}'><body xmlns='{XHTML}'><p>I am <strong onclick='x()'>green</strong> \
         <a href='https://matrix.to/#/@x:y'>x</a><img src='https://spy.example/' alt=''/></p></body></html>"
    );
    chat.bob_sends(Some("I am green"), &xhtml);
    let shown = "<p>I am <strong>green</strong> x (<code>https://matrix.to/#/@x:y</code>)[picture]</p>";
    assert_eq!(chat.shown("I am green")["formatted_body"], shown);
    chat.bob.say(&chat.alice, "/me *waves*");
    let content = chat.shown("*waves*");
    assert_eq!(
        (&content["msgtype"], &content["formatted_body"]),
        (&json!("m.emote"), &json!("<strong>waves</strong>"))
    );

    for (msgtype, body, html, sent) in [
        (
            "m.text",
            "**Wilt** thou:\n- stay\n- go\n\n> so _soon_?",
            "<p><strong>Wilt</strong> thou:</p>\n<ul>\n<li>stay</li>\n<li>go</li>\n</ul>\n<blockquote>\n<p>so <em>soon</em>?</p>\n</blockquote>\n",
            "*Wilt* thou:\n- stay\n- go\n> so _soon_?",
        ),
        ("m.emote", "_climbs_", "<em>climbs</em>", "/me _climbs_"),
        ("m.text", "||he dies||", "<span data-mx-spoiler=\"the end\">he dies</span>", "[spoiler: the end] he dies"),
    ] {
        chat.person_formats(msgtype, body, html);
        let heard = chat.bob.hears(&chat.alice, sent);
        assert!(heard["xml"].as_str().is_some_and(|xml| !xml.contains(XHTML_IM)), "{heard}");
    }
    let typed = "  Ünïcödé *so*\n\n\n  it  is ";
    chat.person.say(&chat.portal.room, typed);
    chat.bob.hears(&chat.alice, typed);
    chat.person_formats("m.text", "*no*", "*no*");
    chat.bob_gets("what has no form", &["*no*", "unstyled", "urn:xmpp:styling:0"]);
}

#[test]
fn an_old_client_gets_xhtml() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let chat = Chat::begin_with(&bridge, prosody, Contact::connect_old);
    chat.person_formats("m.text", "**No** `x`", "<b>No</b> <code>x</code>");
    let heard = chat.bob.hears(&chat.alice, "*No* `x`");
    let stanza: Element = heard["xml"].as_str().expect("the stanza").parse().expect("XML");
    let body = stanza.get_child("html", XHTML_IM).and_then(|html| html.get_child("body", XHTML)).expect("XHTML");
    assert_eq!(body.get_child("strong", XHTML).map(Element::text).as_deref(), Some("No"));
    let code = body.get_child("span", XHTML).expect("code");
    assert_eq!((code.attr("style"), code.text().as_str()), (Some("font-family: monospace"), "x"));

    // What is answered is quoted in both.
    let id = chat.bob.say(&chat.alice, "Neither?");
    assert!(!id.is_empty());
    let event = chat.person.hears(&chat.portal.room, "Neither?");
    let content = json!({
        "format": "org.matrix.custom.html", "formatted_body": "<i>Neither</i>",
        "m.relates_to": {"m.in_reply_to": {"event_id": event["event_id"]}},
    });
    chat.person.call("send", json!({"room": chat.portal.room, "body": "_Neither_", "content": content}));
    let heard = chat.bob.hears(&chat.alice, "> Neither?\n_Neither_");
    let stanza: Element = heard["xml"].as_str().expect("the stanza").parse().expect("XML");
    let body = stanza.get_child("html", XHTML_IM).and_then(|html| html.get_child("body", XHTML)).expect("XHTML");
    assert_eq!(body.get_child("blockquote", XHTML).map(Element::text).as_deref(), Some("Neither?"));
    assert_eq!(body.get_child("em", XHTML).map(Element::text).as_deref(), Some("Neither"));
}
