//! Blocking: by command, by another client of the account, and by a server that cannot.

use messenger_bridge::{
    bridge::Settings,
    domain::{BareJid, output::Ephemeral},
    store::blocked::MOST_BLOCKED,
};
use minidom::Element;
use ruma::presence::PresenceState;
use serde_json::json;

use super::stage::Stage;

const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
const JID: &str = "juliet@capulet.lit";
const NS: &str = "urn:xmpp:blocking";
const DISCO: &str = "http://jabber.org/protocol/disco#info montague.lit";
const FEATURES: &str =
    "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:xmpp:blocking'/></query>";
const BLOCKED: &str = "This contact is blocked now";
const UNBLOCKED: &str = "This contact is no longer blocked.";

pub(super) fn list(of: &[&str]) -> String {
    let items: String = of.iter().map(|jid| format!("<item jid='{jid}'/>")).collect();
    format!("<blocklist xmlns='{NS}'>{items}</blocklist>")
}

/// Romeo's server keeps a list of the blocked, with these in it.
fn blocking(roster: &str, of: &[&str]) -> Stage {
    blocking_with(Stage::settings(), roster, of)
}

pub(super) fn blocking_with(settings: Settings, roster: &str, of: &[&str]) -> Stage {
    let mut stage = Stage::with(settings);
    stage.answers.insert(DISCO, FEATURES.to_owned());
    stage.answers.insert(NS, list(of));
    stage.sign_in(roster);
    stage
}

pub(super) fn push(stage: &mut Stage, from: &str, payload: &str) -> Element {
    let from = if from.is_empty() { String::new() } else { format!(" from='{from}'") };
    stage.server_sends(&format!("<iq type='set' id='push1'{from}>{payload}</iq>"));
    stage.sent.iter().rev().find(|stanza| stanza.attr("id") == Some("push1")).unwrap().clone()
}

pub(super) fn change(kind: &str, of: &[&str]) -> String {
    list(of).replace("blocklist", kind)
}

/// The blocks and unblocks that were asked of the server, as (name, whom).
pub(super) fn asked(stage: &Stage) -> Vec<(String, String)> {
    let payloads = stage.sent.iter().filter(|iq| iq.name() == "iq" && iq.attr("type") == Some("set"));
    payloads
        .filter_map(|iq| iq.children().find(|child| child.ns() == NS))
        .map(|payload| (payload.name().to_owned(), payload.children().next().unwrap().attr("jid").unwrap().to_owned()))
        .collect()
}

fn notices(stage: &Stage) -> Vec<String> {
    let notices = stage.heard(JID).into_iter().filter(|said| said.content["msgtype"] == "m.notice");
    notices.map(|said| said.body().trim_start_matches("\u{26a0}\u{fe0f} ").to_owned()).collect()
}

fn last_presence(stage: &Stage) -> PresenceState {
    let ghost = stage.ghost(JID);
    let shown = stage.ephemerals.iter().rev().find_map(|ephemeral| match ephemeral {
        Ephemeral::Presence { ghost: of, state, .. } if *of == ghost => Some(state.clone()),
        _ => None,
    });
    shown.unwrap()
}

pub(super) fn is_blocked(stage: &Stage, jid: &str) -> bool {
    stage.engine.store().is_blocked(&stage.login(), &BareJid::parse(jid).unwrap()).unwrap()
}

#[test]
fn a_contact_is_blocked_and_unblocked_in_their_room() {
    let mut stage = blocking(JULIET, &[]);
    let room = stage.room(JID);
    stage.server_sends("<presence from='juliet@capulet.lit/b'/>");
    assert_eq!(last_presence(&stage), PresenceState::Online);
    stage.says(&room, "!msgr block");
    assert_eq!(asked(&stage), [("block".to_owned(), JID.to_owned())]);
    // The server tells every client that has asked for the list, ours too: that is no second news.
    let answer = push(&mut stage, "", &change("block", &[JID]));
    assert_eq!(answer.attr("type"), Some("result"));
    assert_eq!(notices(&stage).len(), 1, "{:?}", notices(&stage));
    assert!(notices(&stage)[0].starts_with(BLOCKED) && notices(&stage)[0].contains("`!msgr unblock`"));
    assert!(is_blocked(&stage, JID));
    assert_eq!(last_presence(&stage), PresenceState::Offline);

    // Nothing of hers is let in, should the server let it through, and none of it is shown.
    stage.server_sends("<presence from='juliet@capulet.lit/b'/>");
    stage.phone_sends("juliet@capulet.lit/b", "Art thou there?");
    assert_eq!(last_presence(&stage), PresenceState::Offline);
    assert!(!stage.bodies(JID).contains(&"Art thou there?".to_owned()));

    // What Romeo says is not lost in silence.
    stage.says(&room, "Speak again, bright angel");
    assert!(stage.texts_to(JID).is_empty());
    let word = notices(&stage).pop().unwrap();
    assert!(word.contains("Your message was not sent: you have blocked this contact (`!msgr unblock`"), "{word}");
    assert_eq!(stage.statuses(JID).pop().unwrap()["status"], "FAIL_PERMANENT");
    stage.says(&room, "!msgr nudge");
    assert!(stage.bodies(JID).pop().unwrap().contains("You have blocked this contact."));
    stage.types(&room, true);
    assert!(stage.messages_to(JID).is_empty());
    stage.says(&room, "!msgr block");
    assert_eq!(stage.bodies(JID).pop().unwrap(), "juliet@capulet.lit is blocked by romeo@montague.lit already.");

    stage.says(&room, "!msgr unblock");
    push(&mut stage, "romeo@montague.lit", &change("unblock", &[JID]));
    assert_eq!(asked(&stage).len(), 2);
    let probes = stage.sent.iter().filter(|stanza| stanza.attr("type") == Some("probe"));
    assert_eq!(probes.map(|probe| probe.attr("to").unwrap()).collect::<Vec<_>>(), [JID]);
    stage.server_sends("<presence from='juliet@capulet.lit/b'/>");
    assert_eq!(last_presence(&stage), PresenceState::Online);
    assert_eq!(notices(&stage).iter().filter(|notice| *notice == UNBLOCKED).count(), 1);
    stage.says(&room, "Speak again");
    stage.phone_sends("juliet@capulet.lit/b", "Ay me");
    assert_eq!(stage.texts_to(JID), ["Speak again"]);
    assert_eq!(stage.bodies(JID).pop().unwrap(), "Ay me");
}

#[test]
fn the_management_room_hears_of_whom_has_no_room() {
    let mut stage = blocking(JULIET, &[]);
    stage.command("block tybalt@capulet.lit");
    let word = stage.last_word();
    assert!(word.starts_with("tybalt@capulet.lit is blocked now by romeo@montague.lit"), "{word}");
    push(&mut stage, "montague.lit", &change("block", &["tybalt@capulet.lit"]));
    assert_eq!(stage.bot_said().iter().filter(|said| said.contains("is blocked now")).count(), 1);
    stage.command("block");
    assert!(stage.last_word().starts_with("Blocked by romeo@montague.lit: tybalt@capulet.lit."));
    stage.command("start-chat tybalt@capulet.lit");
    assert!(stage.last_word().contains("`unblock romeo@montague.lit tybalt@capulet.lit` ends it"));
    stage.command("unblock tybalt@capulet.lit");
    assert_eq!(stage.last_word(), "tybalt@capulet.lit is no longer blocked by romeo@montague.lit.");
    stage.command("unblock tybalt@capulet.lit");
    assert_eq!(stage.last_word(), "tybalt@capulet.lit is not blocked by romeo@montague.lit.");
    // Asked for here, of someone who has a room: it is said in both, once each.
    stage.command("block juliet@capulet.lit");
    assert!(stage.last_word().starts_with("juliet@capulet.lit is blocked now"));
    assert_eq!(notices(&stage).len(), 1);
    for (command, word) in [
        ("block romeo@montague.lit", "That is your own address, or your own server."),
        ("block montague.lit", "That is your own address, or your own server."),
        ("block a b", "That is not an address"),
    ] {
        stage.command(command);
        let said = stage.last_word();
        assert!(said.starts_with(word) || said.starts_with("You have no such login"), "{command}: {said}");
    }
}

#[test]
fn what_another_client_blocks_is_blocked_here() {
    let mut stage = blocking(JULIET, &[]);
    push(&mut stage, "romeo@montague.lit", &change("block", &[JID, "tybalt@capulet.lit/sword"]));
    assert!(is_blocked(&stage, JID) && !is_blocked(&stage, "tybalt@capulet.lit"));
    assert_eq!(stage.ignored("block of a single client, or of no address"), 1);
    assert_eq!(notices(&stage).len(), 1);
    push(&mut stage, "", "<unblock xmlns='urn:xmpp:blocking'/>");
    assert!(!is_blocked(&stage, JID));
    assert_eq!(notices(&stage).pop().unwrap(), UNBLOCKED);
    // A whole domain (XEP-0191 section 5).
    push(&mut stage, "", &change("block", &["capulet.lit"]));
    let room = stage.room(JID);
    stage.says(&room, "Hist!");
    assert!(stage.texts_to(JID).is_empty());
    stage.says(&room, "!msgr unblock");
    assert!(stage.bodies(JID).pop().unwrap().contains("Everyone at capulet.lit is blocked"));
}

#[test]
fn nobody_else_may_block_or_free_anyone() {
    let mut stage = blocking(JULIET, &["tybalt@capulet.lit"]);
    for from in [JID, "capulet.lit", "romeo@montague.lit/elsewhere", "@@/", "montague.lit/x"] {
        let refused = push(&mut stage, from, &change("block", &[JID]));
        assert_eq!(refused.attr("type"), Some("error"), "{from}");
        push(&mut stage, from, "<unblock xmlns='urn:xmpp:blocking'/>");
    }
    assert_eq!(stage.ignored("forged push of a block"), 10);
    assert!(!is_blocked(&stage, JID) && is_blocked(&stage, "tybalt@capulet.lit"));
    // Nor may a contact say that they are.
    let room = stage.room(JID);
    stage.says(&room, "Hist!");
    let id = stage.messages_to(JID)[0].attr("id").unwrap().to_owned();
    let error = "<error type='cancel'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><blocked xmlns='urn:xmpp:blocking:errors'/></error>";
    stage.server_sends(&format!("<message type='error' id='{id}' from='{JID}'>{error}</message>"));
    assert!(notices(&stage).pop().unwrap().contains("does not accept it"));
}

#[test]
fn a_message_that_meets_a_block_on_its_way_says_so() {
    let mut stage = blocking(JULIET, &[]);
    let room = stage.room(JID);
    stage.says(&room, "Hist!");
    let id = stage.messages_to(JID)[0].attr("id").unwrap().to_owned();
    push(&mut stage, "", &change("block", &[JID]));
    let error = "<error type='cancel'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><blocked xmlns='urn:xmpp:blocking:errors'/></error>";
    stage.server_sends(&format!("<message type='error' id='{id}' from='{JID}'>{error}</message>"));
    let word = notices(&stage).pop().unwrap();
    assert!(word.contains("was not delivered: you have blocked this contact"), "{word}");
    assert_eq!(stage.statuses(JID).pop().unwrap()["reason"], "m.no_permission");
}

#[test]
fn who_was_blocked_before_is_no_news_and_gets_no_room() {
    let roster = format!("{JULIET}<item jid='tybalt@capulet.lit' subscription='both'/>");
    let mut stage = blocking(&roster, &["tybalt@capulet.lit"]);
    let rooms = |stage: &Stage| stage.engine.store().portals(&stage.login()).unwrap().len();
    assert_eq!(rooms(&stage), 1);
    assert!(stage.bot_said().iter().all(|said| !said.contains("tybalt")), "{:?}", stage.bot_said());
    // What changes while nobody looks is news.
    stage.answers.insert(NS, list(&[JID]));
    stage.cut(false);
    assert_eq!(notices(&stage).len(), 1);
    assert!(stage.bot_said().contains(&"tybalt@capulet.lit is no longer blocked by romeo@montague.lit.".to_owned()));
    stage.pass(5_000);
    assert_eq!(rooms(&stage), 2);
    stage.cut(false);
    stage.crash();
    assert_eq!(notices(&stage).len(), 1, "the same list says nothing new");
}

#[test]
fn where_the_server_cannot_block_a_sentence_says_so() {
    let mut messenger = Stage::messenger("<item jid='juliet@messenger.live.com' subscription='both'/>");
    messenger.command("block juliet@messenger.live.com");
    assert!(messenger.last_word().contains("has no list of blocked contacts"), "{}", messenger.last_word());
    let mut stage = Stage::with(Stage::settings());
    stage.answers.insert(DISCO, FEATURES.replace(NS, "urn:xmpp:carbons:2"));
    stage.sign_in(JULIET);
    stage.command("block juliet@capulet.lit");
    assert!(stage.last_word().contains("has no list of blocked contacts"));
    assert!(asked(&stage).is_empty());
    // It does not even say what it can do.
    let mut stage = Stage::xmpp(JULIET);
    stage.command("block juliet@capulet.lit");
    assert!(stage.last_word().ends_with("its server cannot do that."), "{}", stage.last_word());

    // It says that it can, and does not.
    let mut stage = blocking(JULIET, &[]);
    stage.answers.remove(NS);
    let room = stage.room(JID);
    stage.says(&room, "!msgr block");
    let word = stage.bodies(JID).pop().unwrap();
    assert_eq!(word, "juliet@capulet.lit could not be blocked by romeo@montague.lit: its server cannot do that.");
    stage.silent = vec![NS];
    stage.says(&room, "!msgr block");
    stage.pass(61_000);
    assert!(stage.bodies(JID).pop().unwrap().contains("its server has not answered"));
    assert!(!is_blocked(&stage, JID));
    assert_eq!(stage.engine.debts(), 0);
}

#[test]
fn a_block_waits_for_the_account_and_survives_a_crash() {
    let mut stage = blocking(JULIET, &[]);
    stage.unreachable(3);
    stage.hush();
    let room = stage.room(JID);
    stage.says(&room, "!msgr block");
    let word = stage.bodies(JID).pop().unwrap();
    assert!(word.contains("not connected just now: juliet@capulet.lit will be blocked"), "{word}");
    stage.says(&room, "!msgr block");
    assert!(stage.bodies(JID).pop().unwrap().contains("already"));
    stage.crash();
    stage.pass(60_000);
    assert_eq!(asked(&stage), [("block".to_owned(), JID.to_owned())]);
    assert_eq!(notices(&stage).iter().filter(|notice| notice.starts_with(BLOCKED)).count(), 1);

    // Unblocked and written to in one breath: the server handles both in order.
    stage.says(&room, "!msgr unblock");
    stage.says(&room, "Hist!");
    assert_eq!(stage.texts_to(JID), ["Hist!"]);
}

#[test]
fn a_list_beyond_the_bound_is_kept_up_to_it() {
    let many: Vec<String> = (0..MOST_BLOCKED + 3).map(|number| format!("n{number}@spam.test")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut stage = blocking(JULIET, &many);
    assert_eq!(stage.engine.store().blocked(&stage.login()).unwrap().len(), MOST_BLOCKED);
    assert_eq!(stage.ignored("blocked address beyond the bound"), 3);
    let said = stage.bot_said().len();
    push(&mut stage, "", "<unblock xmlns='urn:xmpp:blocking'/>");
    assert!(stage.engine.store().blocked(&stage.login()).unwrap().is_empty());
    assert_eq!(stage.bot_said().len(), said + 6);
    assert!(stage.last_word().starts_with(&format!("{} more changes", MOST_BLOCKED - 5)), "{}", stage.last_word());
}

#[test]
fn nothing_of_it_is_left_after_signing_out() {
    let mut stage = blocking(JULIET, &[JID]);
    assert!(stage.records().iter().any(|(key, _)| matches!(key.first(), Some(b'I'))));
    stage.command("logout romeo@montague.lit");
    let left = stage.records();
    assert!(left.iter().all(|(key, _)| !matches!(key.first(), Some(b'I'..=b'N'))), "{left:?}");
}

#[test]
fn others_may_not_block_in_ones_room() {
    let mut stage = blocking(JULIET, &[]);
    let room = stage.room(JID);
    let content = json!({ "msgtype": "m.text", "body": "!msgr block" });
    stage.matrix(&room, "@paris:h.test", "m.room.message", None, &content);
    assert!(asked(&stage).is_empty());
}
