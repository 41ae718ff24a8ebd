//! Stanzas that say they are someone else's, and what foreign text may become.

use messenger_bridge::domain::{file::Job, output::MatrixCall};
use serde_json::json;

use super::stage::{BOT, OWNER, Stage};

const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
const TYBALT: &str = "tybalt@capulet.lit";

fn forwarded(from: &str, inner: &str) -> String {
    format!(
        "<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>\
         <message xmlns='jabber:client' from='{from}' to='romeo@montague.lit' type='chat'>{inner}</message></forwarded>"
    )
}

#[test]
fn a_forwarded_message_is_not_said_by_whom_it_names() {
    let mut stage = Stage::xmpp(JULIET);
    let copy = forwarded("juliet@capulet.lit", "<body>I hate thee</body>");
    stage.server_sends(&format!("<message from='{TYBALT}' type='chat'><body>look</body>{copy}</message>"));
    // Within other wrappers that clients have opened: events, encryption, a result of another archive, old carbons.
    for wrapper in [
        "event xmlns='http://jabber.org/protocol/pubsub#event'",
        "result xmlns='urn:xmpp:mam:0' id='1'",
        "received xmlns='urn:xmpp:carbons:1'",
    ] {
        let name = wrapper.split(' ').next().unwrap();
        stage.server_sends(&format!("<message from='{TYBALT}' type='chat'><{wrapper}>{copy}</{name}></message>"));
        stage.server_sends(&format!(
            "<message from='romeo@montague.lit' type='chat'><{wrapper}>{copy}</{name}></message>"
        ));
    }
    assert!(stage.bodies("juliet@capulet.lit").is_empty());
    assert_eq!(stage.bodies(TYBALT), ["look"]);
}

#[test]
fn a_copy_within_a_copy_is_not_opened() {
    let mut stage = Stage::xmpp(JULIET);
    let inner = forwarded("juliet@capulet.lit", "<body>forged</body>");
    let carbon = format!("<received xmlns='urn:xmpp:carbons:2'>{inner}</received>");
    // The server copies faithfully what Tybalt sent to the phone: a carbon of his own making.
    let copied = forwarded(TYBALT, &carbon);
    stage.server_sends(&format!(
        "<message from='romeo@montague.lit'><received xmlns='urn:xmpp:carbons:2'>{copied}</received></message>"
    ));
    // And the archive gives it back later.
    stage.archive.push((
        "a1".to_owned(),
        "2026-03-20T10:00:00Z".to_owned(),
        format!(
            "<message from='{TYBALT}/x' to='romeo@montague.lit' type='chat'><body>beside it</body>{carbon}</message>"
        ),
    ));
    stage.answers.insert(
        "http://jabber.org/protocol/disco#info romeo@montague.lit",
        "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:xmpp:mam:2'/></query>".to_owned(),
    );
    stage.cut(false);
    assert_eq!(stage.bodies(TYBALT), ["beside it"], "the archive was read");
    assert!(stage.bodies("juliet@capulet.lit").is_empty());
    assert!(stage.said().iter().all(|said| said.body() != "forged"));
}

#[test]
fn who_has_no_address_is_not_the_server() {
    let mut stage = Stage::xmpp(JULIET);
    let push = "<query xmlns='jabber:iq:roster'><item jid='tybalt@capulet.lit' subscription='both'/></query>";
    for from in [
        "@@/",
        "tybalt@capulet.lit/\u{85}",
        "jul\u{200b}iet@capulet.lit",
        "romeo@montague.lit/elsewhere",
        "montague.lit/x",
        "",
    ] {
        stage.server_sends(&format!("<iq type='set' id='p' from='{from}'>{push}</iq>"));
    }
    assert_eq!(stage.ignored("forged roster push"), 6);
    stage.pass(5_000);
    let contacts = stage.engine.store().contacts(&stage.login()).unwrap();
    assert!(contacts.iter().all(|(contact, _)| contact.as_str() != TYBALT), "{contacts:?}");
}

/// One question goes to nobody (the roster), one to a contact (a vCard); neither is answered by anyone else.
#[test]
fn a_question_is_answered_by_nobody_but_who_was_asked() {
    let mut stage = Stage::with(Stage::settings());
    stage.silent = vec!["jabber:iq:roster"];
    stage.sign_in("");
    let asked = |stage: &Stage, namespace: &str| {
        let asks = |iq: &&minidom::Element| iq.children().any(|child| child.ns() == namespace);
        stage.sent.iter().rev().find(asks).unwrap().attr("id").unwrap().to_owned()
    };
    let strangers = [TYBALT, "tybalt@capulet.lit/x", "@@/", "", "capulet.lit", "tybalt@capulet.lit/\u{85}"];
    let roster = |name: &str| {
        format!(
            "<query xmlns='jabber:iq:roster'><item jid='juliet@capulet.lit' name='{name}' subscription='both'/></query>"
        )
    };
    let id = asked(&stage, "jabber:iq:roster");
    for from in strangers.into_iter().chain(["juliet@capulet.lit"]) {
        stage.server_sends(&format!("<iq type='result' id='{id}' from='{from}'>{}</iq>", roster("Forged")));
        stage.server_sends(&format!("<iq type='error' id='{id}' from='{from}'/>"));
    }
    stage.silent = vec!["vcard-temp"];
    stage.server_sends(&format!("<iq type='result' id='{id}'>{}</iq>", roster("")));
    stage.pass(5_000);
    let id = asked(&stage, "vcard-temp");
    let card = |name: &str| format!("<vCard xmlns='vcard-temp'><NICKNAME>{name}</NICKNAME></vCard>");
    for from in strangers.into_iter().chain(["montague.lit", "romeo@montague.lit", "juliet@capulet.lit/x"]) {
        stage.server_sends(&format!("<iq type='result' id='{id}' from='{from}'>{}</iq>", card("Forged")));
    }
    // Without a sender it is the server's, which was not asked either.
    stage.server_sends(&format!("<iq type='result' id='{id}'>{}</iq>", card("Forged")));
    stage.server_sends(&format!("<iq type='result' id='{id}' from='juliet@capulet.lit'>{}</iq>", card("Juliet")));
    let contacts = stage.engine.store().contacts(&stage.login()).unwrap();
    assert_eq!((contacts.len(), contacts[0].1.nickname.as_deref()), (1, Some("Juliet")));
    assert_eq!(contacts[0].1.roster_name, None);
    assert_eq!(stage.ignored("answer from someone who was not asked"), 2 * 7 + 6 + 3 + 1);
}

#[test]
fn an_error_from_someone_else_fails_no_message() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room("juliet@capulet.lit");
    stage.says(&room, "Hist!");
    let id = stage.messages_to("juliet@capulet.lit")[0].attr("id").unwrap().to_owned();
    for from in [TYBALT, "capulet.lit", "montague.lit"] {
        stage.server_sends(&format!(
            "<message type='error' from='{from}' id='{id}'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        ));
    }
    assert!(stage.heard("juliet@capulet.lit").is_empty());
    assert_eq!(stage.ignored("error that answers no message"), 3);
}

#[test]
fn edits_retractions_markers_and_receipts_of_others_change_nothing_and_lose_no_text() {
    let mut stage = Stage::xmpp(JULIET);
    stage.server_sends("<message from='juliet@capulet.lit/b' type='chat' id='m1'><body>hers</body></message>");
    let room = stage.room("juliet@capulet.lit");
    stage.says(&room, "his");
    let own = stage.messages_to("juliet@capulet.lit")[0].attr("id").unwrap().to_owned();
    let before = stage.calls.len();
    for id in ["m1", own.as_str()] {
        for payload in [
            format!("<received xmlns='urn:xmpp:receipts' id='{id}'/>"),
            format!("<displayed xmlns='urn:xmpp:chat-markers:0' id='{id}'/>"),
            format!("<acknowledged xmlns='urn:xmpp:chat-markers:0' id='{id}'/>"),
            format!("<retract xmlns='urn:xmpp:message-retract:1' id='{id}'/>"),
            format!(
                "<apply-to xmlns='urn:xmpp:fasten:0' id='{id}'><retract xmlns='urn:xmpp:message-retract:0'/></apply-to>"
            ),
            format!("<reactions xmlns='urn:xmpp:reactions:0' id='{id}'><reaction>👎</reaction></reactions>"),
        ] {
            stage.server_sends(&format!("<message from='{TYBALT}' type='chat'>{payload}</message>"));
        }
    }
    assert_eq!(stage.calls.len(), before, "{:?}", &stage.calls[before..]);
    // With a text they are what they are without: a new message of whom they are from.
    stage.server_sends(&format!("<message from='{TYBALT}' type='chat'><body>new</body><replace xmlns='urn:xmpp:message-correct:0' id='m1'/></message>"));
    stage.server_sends(&format!("<message from='{TYBALT}' type='chat'><body>took it back</body><retract xmlns='urn:xmpp:message-retract:1' id='{own}'/><fallback xmlns='urn:xmpp:fallback:0'/></message>"));
    assert_eq!(stage.bodies(TYBALT), ["new"], "what stands beside a retraction is for clients that do not know it");
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["hers"]);
    let touched = |call: &&MatrixCall| match call {
        MatrixCall::Redact { .. } => true,
        MatrixCall::Send { kind, content, .. } => kind != "m.room.message" || content.contains("m.relates_to"),
        _ => false,
    };
    // The management room's progress notice is the bot's own edit.
    assert!(!stage.calls[before..].iter().any(|call| touched(&call)));
}

#[test]
fn presence_of_strangers_and_acceptances_that_nobody_asked_for_show_nothing() {
    let mut stage = Stage::xmpp(JULIET);
    let (said, ephemerals) = (stage.said().len(), stage.ephemerals.len());
    for presence in [
        "<presence from='tybalt@capulet.lit/x'><status>I am here</status></presence>",
        "<presence from='tybalt@capulet.lit/x' type='unavailable'/>",
        "<presence from='tybalt@capulet.lit' type='subscribed'/>",
        "<presence from='tybalt@capulet.lit' type='unsubscribed'/>",
        "<presence from='tybalt@capulet.lit' type='error'/>",
        "<presence from='romeo@montague.lit/phone'><status>one's own</status></presence>",
        "<presence><status>nobody's</status></presence>",
    ] {
        stage.server_sends(presence);
    }
    assert_eq!((stage.said().len(), stage.ephemerals.len()), (said, ephemerals));
    assert_eq!(stage.ignored("acceptance that was not asked for"), 1);
}

#[test]
fn nothing_of_group_chats_and_bookmarks_shows_as_a_direct_chat() {
    let mut stage = Stage::xmpp("");
    let muc = "<x xmlns='http://jabber.org/protocol/muc#user'/>";
    let groupchat = "<message xmlns='jabber:client' from='room@muc.lit/nick' to='romeo@montague.lit/x' type='groupchat'><body>all</body></message>";
    let private = format!(
        "<message xmlns='jabber:client' from='romeo@montague.lit/x' to='room@muc.lit/nick' type='chat'><body>psst</body>{muc}</message>"
    );
    for stanza in [
        "<message from='room@muc.lit' type='groupchat'><subject>topic</subject></message>".to_owned(),
        format!("<message from='room@muc.lit/nick' type='chat'><body>psst</body>{muc}</message>"),
        "<message from='room@muc.lit'><x xmlns='http://jabber.org/protocol/muc#user'><invite from='tybalt@capulet.lit'><reason>come</reason></invite></x><body>You are invited</body></message>".to_owned(),
        format!("<presence from='room@muc.lit/nick'>{muc}</presence>"),
        format!("<message from='romeo@montague.lit'><received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>{groupchat}</forwarded></received></message>"),
        format!("<message from='romeo@montague.lit'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>{private}</forwarded></sent></message>"),
        "<message from='romeo@montague.lit' type='headline'><event xmlns='http://jabber.org/protocol/pubsub#event'><items node='urn:xmpp:bookmarks:1'><item id='room@muc.lit'><conference xmlns='urn:xmpp:bookmarks:1' autojoin='true'/></item></items></event></message>".to_owned(),
        "<message from='tybalt@capulet.lit' type='headline'><event xmlns='http://jabber.org/protocol/pubsub#event'><items node='storage:bookmarks'><item><storage xmlns='storage:bookmarks'><conference jid='room@muc.lit' autojoin='true'/></storage></item></items></event></message>".to_owned(),
        "<iq type='set' id='b' from='tybalt@capulet.lit/x'><query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'><conference jid='room@muc.lit' autojoin='true'/></storage></query></iq>".to_owned(),
    ] {
        stage.server_sends(&stanza);
    }
    for (id, message) in [("g1", groupchat.to_owned()), ("g2", private)] {
        stage.archive.push((
            id.to_owned(),
            "2026-03-20T10:00:00Z".to_owned(),
            message.replacen(" xmlns='jabber:client'", "", 1),
        ));
    }
    stage.answers.insert(
        "http://jabber.org/protocol/disco#info romeo@montague.lit",
        "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:xmpp:mam:2'/></query>".to_owned(),
    );
    stage.cut(false);
    assert!(stage.engine.store().portals(&stage.login()).unwrap().is_empty());
    assert!(stage.ignored("message of a group chat") >= 6, "the archive's are among them");
    let joins = |stanza: &&minidom::Element| stanza.name() == "presence" && stanza.attr("to").is_some();
    assert!(!stage.sent.iter().any(|stanza| joins(&stanza)), "no room is joined because someone says so");
}

#[test]
fn an_archive_id_that_the_sender_wrote_in_is_not_believed() {
    let mut stage = Stage::xmpp(JULIET);
    for (by, body) in [("romeo@montague.lit", "one"), ("romeo@montague.lit", "two"), ("capulet.lit", "three")] {
        stage.server_sends(&format!(
            "<message from='juliet@capulet.lit/b' type='chat'><body>{body}</body><stanza-id xmlns='urn:xmpp:sid:0' by='{by}' id='same'/></message>"
        ));
    }
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["one", "two", "three"]);
    assert_eq!(stage.engine.store().login(&stage.login()).unwrap().unwrap().archive_after, None);
}

#[test]
fn a_homograph_of_a_contact_is_someone_else() {
    let mut stage = Stage::xmpp("<item jid='straße@capulet.lit' name='Juliet' subscription='both'/>");
    for other in ["strasse@capulet.lit", "str\u{430}ße@capulet.lit", "straße@c\u{430}pulet.lit"] {
        stage.phone_sends(other, "it is I, Juliet");
        stage.pass(1_000);
        assert_eq!(stage.bodies(other), ["it is I, Juliet"]);
    }
    assert!(stage.bodies("straße@capulet.lit").is_empty());
    stage.phone_sends("STRASSE@capulet.lit/b", "again");
    assert_eq!(stage.bodies("strasse@capulet.lit"), ["it is I, Juliet", "again"], "the same in another case");
}

/// Only who holds the registration's token, or the homeserver itself, could make such events.
#[test]
fn an_event_of_a_ghost_or_the_bot_that_we_did_not_send_goes_nowhere() {
    let mut stage = Stage::xmpp(JULIET);
    let (room, ghost) = (stage.room("juliet@capulet.lit"), stage.ghost("juliet@capulet.lit"));
    let management = super::stage::room_for(&format!("management {OWNER}"));
    let instance = stage.said()[0].content["org.messenger_bridge.debt"].as_str().unwrap().to_owned();
    let before = (stage.calls.len(), stage.sent.len());
    let mut users =
        vec![ghost.to_string(), BOT.to_owned(), "@messenger_evil:h.test".to_owned(), "@messenger_:h.test".to_owned()];
    users.push(stage.ghost("romeo@montague.lit").to_string());
    for user in &users {
        for mark in [json!(null), json!(instance), json!("mb-0-1"), json!(7)] {
            let said = |text: &str| json!({ "msgtype": "m.text", "body": text, "org.messenger_bridge.debt": mark });
            stage.matrix(&room, user, "m.room.message", None, &said("in your name"));
            stage.matrix(&room, user, "m.room.message", None, &said("!msgr logout romeo@montague.lit"));
            stage.matrix(&management, user, "m.room.message", None, &said("logout romeo@montague.lit"));
            stage.matrix(&management, user, "m.room.message", None, &said("!msgr list-logins"));
        }
    }
    assert_eq!((stage.calls.len(), stage.sent.len()), before);
    assert_eq!(stage.engine.store().logins().unwrap().len(), 1);
    // A mark of ours in someone else's message neither pays a debt nor keeps the message from going out.
    stage.matrix(
        &room,
        OWNER,
        "m.room.message",
        None,
        &json!({ "msgtype": "m.text", "body": "mine", "org.messenger_bridge.debt": instance }),
    );
    assert_eq!(stage.texts_to("juliet@capulet.lit"), ["mine"]);
}

#[test]
fn foreign_text_stays_plain_and_mentions_nobody() {
    let mut stage = Stage::xmpp(JULIET);
    let html = "&lt;img src=x onerror=alert(1)&gt;&lt;b&gt;@room&lt;/b&gt; @romeo:h.test \u{202e}tfel";
    let xhtml = "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'><script>alert(1)</script></body></html>";
    stage.server_sends(&format!("<message from='juliet@capulet.lit' type='chat'><body>{html}</body>{xhtml}</message>"));
    stage.server_sends("<message from='juliet@capulet.lit' type='chat'><body>/me &lt;u&gt;@room</body></message>");
    let heard = stage.heard("juliet@capulet.lit");
    assert_eq!(heard.len(), 2);
    for said in &heard {
        let keys: Vec<&String> = said.content.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["body", "m.mentions", "msgtype", "org.messenger_bridge.debt"]);
        assert_eq!(said.content["m.mentions"], json!({}));
    }
    // The bot's own words too: the strangers' that they quote are not looked through for names.
    stage.server_sends("<presence from='tybalt@capulet.lit' type='subscribe'><nick xmlns='http://jabber.org/protocol/nick'>@room &lt;b&gt;</nick><status>@romeo:h.test</status></presence>");
    let said = stage.said().pop().unwrap();
    assert!(said.body().contains("@room") && said.content["m.mentions"] == json!({}), "{said:?}");
    // Commands stand as code in them, and nothing that is a stranger's has form.
    let html = said.content["formatted_body"].as_str().unwrap();
    assert!(html.contains("&lt;b&gt;") && html.contains("<code>accept tybalt@capulet.lit</code>"), "{html}");
    assert!(!html.replace("<code>", "").replace("</code>", "").contains('<'), "{html}");
}

#[test]
fn names_neither_hide_nor_pass_for_another() {
    let mut stage = Stage::with(Stage::settings());
    let card = |name: &str| format!("<vCard xmlns='vcard-temp'><NICKNAME>{name}</NICKNAME></vCard>");
    stage.answers.insert("vcard-temp a@capulet.lit", card("Ju\u{200b}liet\u{202e} \u{2066}(you)"));
    stage.answers.insert("vcard-temp b@capulet.lit", card("\u{200b}\u{3164}\u{202e}"));
    stage.answers.insert("vcard-temp c@capulet.lit", card("(YOU)"));
    stage.answers.insert("vcard-temp d@capulet.lit", card(&"x".repeat(5_000)));
    stage.sign_in(
        "<item jid='a@capulet.lit'/><item jid='b@capulet.lit'/><item jid='c@capulet.lit'/><item jid='d@capulet.lit'/>\
         <item jid='e@capulet.lit' name='Nurse&#10;&#10;Messenger bridge: sign in again'/>",
    );
    let name = |jid: &str| {
        let ghost = stage.ghost(jid);
        let named = |call: &MatrixCall| match call {
            MatrixCall::SetDisplayName { user, name } if *user == ghost => Some(name.clone()),
            _ => None,
        };
        stage.calls.iter().rev().find_map(named).unwrap()
    };
    assert_eq!(name("a@capulet.lit"), "Juliet");
    assert_eq!(name("b@capulet.lit"), "b");
    assert_eq!(name("c@capulet.lit"), "c");
    assert_eq!(name("d@capulet.lit"), "x".repeat(100));
    assert_eq!(name("e@capulet.lit"), "Nurse Messenger bridge: sign in again");
    stage.command("search e@capulet");
    assert_eq!(stage.last_word().lines().count(), 2, "one line each: {}", stage.last_word());
}

/// What a contact sends as a file is left to the shell that judges addresses (its tests: `wire::files`), and nothing else is
/// ever fetched.
#[test]
fn addresses_that_contacts_write_are_not_fetched() {
    let mut stage = Stage::with(Stage::settings());
    let url = "http://169.254.169.254/latest/meta-data/";
    stage.answers.insert(
        "vcard-temp juliet@capulet.lit",
        format!("<vCard xmlns='vcard-temp'><PHOTO><EXTVAL>{url}</EXTVAL></PHOTO><URL>{url}</URL></vCard>"),
    );
    stage.sign_in(JULIET);
    stage.server_sends("<presence from='juliet@capulet.lit/b'><x xmlns='vcard-temp:x:update'><photo>0123456789abcdef0123456789abcdef01234567</photo></x></presence>");
    for payload in [
        format!("<x xmlns='jabber:x:oob'><url>{url}</url></x>"),
        format!(
            "<file-sharing xmlns='urn:xmpp:sfs:0'><sources><url-data xmlns='http://jabber.org/protocol/url-data' target='{url}'/></sources></file-sharing>"
        ),
        format!("<reference xmlns='urn:xmpp:reference:0' type='data' uri='{url}'/>"),
        format!(
            "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'><img src='{url}'/></body></html>"
        ),
    ] {
        stage.server_sends(&format!(
            "<message from='juliet@capulet.lit/b' type='chat'><body>{url}</body>{payload}</message>"
        ));
    }
    assert!(stage.transfers.iter().all(|transfer| matches!(transfer.job, Job::Take { .. })));
    assert_eq!(stage.transfers.len(), 2, "those that say they are files");
    assert_eq!(stage.bodies("juliet@capulet.lit")[2..], [url; 2], "the others are texts like any other");
    assert!(!stage.calls.iter().any(|call| matches!(call, MatrixCall::Upload { .. } | MatrixCall::SetAvatar { .. })));
}

/// Pictures go through as the bytes that they are: the bridge has no decoder that one could burst.
#[test]
fn a_picture_that_unpacks_to_gigabytes_is_never_unpacked() {
    use base64::Engine as _;
    // A PNG that says it is 65,535 by 65,535 at 16 bits RGBA: 34 GB.
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bomb.extend_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 16, 6, 0, 0, 0]);
    bomb.extend_from_slice(&[0; 2_000]);
    let mut stage = Stage::with(Stage::settings());
    let photo = base64::engine::general_purpose::STANDARD.encode(&bomb);
    stage.answers.insert(
        "vcard-temp juliet@capulet.lit",
        format!("<vCard xmlns='vcard-temp'><PHOTO><TYPE>image/jpeg</TYPE><BINVAL>{photo}</BINVAL></PHOTO></vCard>"),
    );
    stage.sign_in(JULIET);
    let uploads: Vec<_> = stage
        .calls
        .iter()
        .filter_map(|call| match call {
            MatrixCall::Upload { mime, bytes, .. } => Some((*mime, bytes.len())),
            _ => None,
        })
        .collect();
    assert_eq!(uploads, [("image/png", bomb.len())]);
    let lock = include_str!("../../Cargo.lock");
    for decoder in [
        "image",
        "png",
        "jpeg-decoder",
        "zune-jpeg",
        "gif",
        "webp",
        "image-webp",
        "flate2",
        "miniz_oxide",
        "async-compression",
        "brotli",
        "zstd",
        "libwebp-sys",
    ] {
        assert!(
            !lock.contains(&format!("name = \"{decoder}\"\n")),
            "{decoder} has come into the tree: what bounds what it unpacks?"
        );
    }
}
