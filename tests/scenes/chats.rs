//! Favourites and mutes: chosen in Matrix or in another client of the account, the same on both sides, and no echo goes round.

use messenger_bridge::{
    bridge::Settings,
    domain::{Input, choice::Notify, output::MatrixCall},
    store::chat::MOST_CHATS,
};
use minidom::Element;
use ruma::UserId;
use serde_json::{Value, json};

use super::stage::{OWNER, Stage};

const JULIET: &str = "<item jid='juliet@capulet.lit' name='Juliet' subscription='both'/>";
const JID: &str = "juliet@capulet.lit";
const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
const NODE: &str = "https://github.com/messenger-bridge/messenger-bridge#direct-chats";
const DISCO: &str = "http://jabber.org/protocol/disco#info romeo@montague.lit";
const PINNED: &str = "<pinned xmlns='urn:xmpp:bookmarks-pinning:0'/>";
const NEVER: &str = "<notify xmlns='urn:xmpp:notification-settings:1'><never/></notify>";

fn settings() -> Settings {
    Settings { double_puppet: true, ..Stage::settings() }
}

fn item(jid: &str, inner: &str) -> String {
    format!("<item id='{jid}'><chat xmlns='{NODE}' jid='{jid}'>{inner}</chat></item>")
}

/// Romeo's server keeps private nodes; ours holds these items.
fn keeping(items: &str) -> Stage {
    let mut stage = Stage::with(settings());
    let features = "<query xmlns='http://jabber.org/protocol/disco#info'>\
                    <feature var='http://jabber.org/protocol/pubsub#publish-options'/></query>";
    stage.answers.insert(DISCO, features.to_owned());
    holds(&mut stage, items);
    stage.sign_in(JULIET);
    stage
}

fn holds(stage: &mut Stage, items: &str) {
    stage.answers.insert(PUBSUB, format!("<pubsub xmlns='{PUBSUB}'><items node='{NODE}'>{items}</items></pubsub>"));
}

fn tells(stage: &mut Stage, from: &str, inner: &str) {
    let event = format!("<event xmlns='http://jabber.org/protocol/pubsub#event'>{inner}</event>");
    stage.server_sends(&format!("<message from='{from}' type='headline'>{event}</message>"));
}

fn elsewhere(stage: &mut Stage, inner: &str) {
    tells(stage, "romeo@montague.lit", &format!("<items node='{NODE}'>{}</items>", item(JID, inner)));
}

fn account_data(stage: &mut Stage, kind: &str, content: &Value) {
    let room = (kind == "m.tag").then(|| stage.room(JID));
    let content = serde_json::value::to_raw_value(content).unwrap();
    let owner = UserId::parse(OWNER).unwrap();
    stage.play(Input::AccountData { owner, room, kind: kind.to_owned(), content });
}

fn tags(stage: &mut Stage, favourite: bool) {
    let tags = if favourite { json!({ "m.favourite": {}, "u.work": {} }) } else { json!({ "u.work": {} }) };
    account_data(stage, "m.tag", &json!({ "tags": tags }));
}

fn rules(stage: &mut Stage, notify: Notify) {
    let rule = json!([{ "rule_id": stage.room(JID), "enabled": true, "actions": [] }]);
    let global = match notify {
        Notify::Always => json!({ "override": [], "room": [] }),
        Notify::OnMention => json!({ "room": rule }),
        Notify::Never => json!({ "override": rule }),
    };
    account_data(stage, "m.push_rules", &json!({ "global": global }));
}

/// What was published or taken back on the account's server.
fn kept(stage: &Stage) -> Vec<String> {
    let sets = stage.sent.iter().filter(|iq| iq.name() == "iq" && iq.attr("type") == Some("set"));
    sets.filter_map(|iq| iq.get_child("pubsub", PUBSUB)?.children().next().cloned())
        .map(|change: Element| {
            let item = change.children().next().unwrap();
            assert_eq!(change.attr("node"), Some(NODE));
            match item.children().next() {
                Some(chat) => {
                    let children: Vec<String> = chat.children().map(inner).collect();
                    format!("{} {}", item.attr("id").unwrap(), children.join(" "))
                }
                None => format!("{} {}", item.attr("id").unwrap(), change.name()),
            }
        })
        .collect()
}

fn inner(child: &Element) -> String {
    match child.children().next() {
        Some(setting) => setting.name().to_owned(),
        None => child.name().to_owned(),
    }
}

/// What was written in Matrix in the person's name.
fn written(stage: &Stage) -> Vec<String> {
    let room = stage.room(JID);
    let write = |call: &MatrixCall| match call {
        MatrixCall::SetTag { user, room: of, tag, content } => {
            assert_eq!((user.as_str(), of, tag.as_str()), (OWNER, &room, "m.favourite"));
            Some(format!("{}", content.is_some()))
        }
        MatrixCall::Silence { user, room: of, notify } => {
            assert_eq!((user.as_str(), of), (OWNER, &room));
            Some(format!("{notify:?}"))
        }
        _ => None,
    };
    stage.calls.iter().filter_map(write).collect()
}

#[test]
fn what_is_chosen_in_matrix_is_kept_by_the_account_and_comes_back_as_no_news() {
    let mut stage = keeping("");
    tags(&mut stage, false);
    rules(&mut stage, Notify::Always);
    assert!(kept(&stage).is_empty());
    tags(&mut stage, true);
    assert_eq!(kept(&stage), ["juliet@capulet.lit pinned"]);
    elsewhere(&mut stage, PINNED);
    rules(&mut stage, Notify::Never);
    assert_eq!(kept(&stage).last().unwrap(), "juliet@capulet.lit pinned never");
    elsewhere(&mut stage, &format!("{PINNED}{NEVER}"));
    rules(&mut stage, Notify::OnMention);
    assert_eq!(kept(&stage).last().unwrap(), "juliet@capulet.lit pinned on-mention");
    tags(&mut stage, false);
    rules(&mut stage, Notify::Always);
    assert_eq!(kept(&stage)[3..], ["juliet@capulet.lit on-mention", "juliet@capulet.lit retract"]);
    tells(&mut stage, "romeo@montague.lit", &format!("<items node='{NODE}'><retract id='{JID}'/></items>"));
    assert_eq!((kept(&stage).len(), written(&stage).len()), (5, 0));
    assert!(stage.engine.store().chats(&stage.login()).unwrap().is_empty(), "nothing is chosen, so nothing is kept");
    assert_eq!(stage.engine.debts(), 0);
}

#[test]
fn what_another_client_chooses_is_set_in_matrix_and_comes_back_as_no_news() {
    let mut stage = keeping("");
    elsewhere(&mut stage, PINNED);
    assert_eq!(written(&stage), ["true"]);
    tags(&mut stage, true);
    elsewhere(&mut stage, NEVER);
    assert_eq!(written(&stage)[1..], ["false", "Never"]);
    tags(&mut stage, false);
    rules(&mut stage, Notify::Never);
    tells(&mut stage, "romeo@montague.lit", &format!("<purge node='{NODE}'/>"));
    assert_eq!(written(&stage)[3..], ["Always"]);
    rules(&mut stage, Notify::Always);
    assert!(kept(&stage).is_empty());
}

#[test]
fn nobody_else_chooses() {
    let mut stage = keeping("");
    for from in [JID, "montague.lit", "romeo@montague.lit/elsewhere", "@@/"] {
        tells(&mut stage, from, &format!("<items node='{NODE}'>{}</items>", item(JID, PINNED)));
    }
    assert!(written(&stage).is_empty());
    // Nor is it said in a room.
    assert!(stage.bodies(JID).is_empty());
}

#[test]
fn what_the_account_has_at_sign_in_is_set_in_a_new_room_and_what_changes_meanwhile_too() {
    let mut stage = keeping(&item(JID, &format!("{PINNED}{NEVER}")));
    assert_eq!(written(&stage), ["true", "Never"]);
    tags(&mut stage, true);
    rules(&mut stage, Notify::Never);
    assert!(kept(&stage).is_empty());
    // While nobody looked Juliet was unpinned.
    holds(&mut stage, &item(JID, NEVER));
    stage.cut(false);
    assert_eq!(written(&stage)[2..], ["false"]);
    tags(&mut stage, false);
    // And the whole node emptied.
    holds(&mut stage, "");
    stage.cut(false);
    assert_eq!(written(&stage)[3..], ["Always"]);
    assert!(kept(&stage).is_empty());
    // A node that is not there is an empty one.
    stage.answers.remove(PUBSUB);
    stage.cut(false);
    assert_eq!(written(&stage).len(), 4);
}

#[test]
fn what_is_chosen_while_the_account_is_away_is_kept_once_it_is_back() {
    let mut stage = keeping("");
    stage.unreachable(2);
    stage.hush();
    for favourite in [true, false, true] {
        tags(&mut stage, favourite);
    }
    assert_eq!(stage.engine.debts(), 1, "only the last choice counts");
    stage.crash();
    stage.pass(60_000);
    assert_eq!(kept(&stage), ["juliet@capulet.lit pinned"]);
    // The last word was taken back before it was said.
    stage.unreachable(1);
    stage.hush();
    tags(&mut stage, false);
    tags(&mut stage, true);
    stage.pass(60_000);
    assert!(kept(&stage).is_empty());
    assert_eq!(stage.engine.debts(), 0);
}

#[test]
fn what_is_on_its_way_to_matrix_is_not_taken_for_a_choice() {
    let mut stage = keeping("");
    stage.away = 1_000;
    elsewhere(&mut stage, PINNED);
    // A sync answer from before our write.
    tags(&mut stage, false);
    assert!(kept(&stage).is_empty());
    stage.away = 0;
    stage.pass(900_000);
    assert_eq!(written(&stage), ["true"]);
    tags(&mut stage, true);
    assert!(kept(&stage).is_empty());
    tags(&mut stage, false);
    assert_eq!(kept(&stage), ["juliet@capulet.lit retract"]);
}

#[test]
fn what_others_keep_in_the_item_stays() {
    let mut stage = keeping("");
    let others = "<notify xmlns='urn:xmpp:notification-settings:1'>\
                  <never identity-category='client' identity-type='pc'><advanced><x xmlns='custom:ns-1'/></advanced></never></notify>\
                  <state xmlns='urn:example'/>";
    elsewhere(&mut stage, others);
    assert!(written(&stage).is_empty());
    tags(&mut stage, true);
    let mut published = stage.sent.iter().filter(|iq| iq.get_child("pubsub", PUBSUB).is_some()).map(String::from);
    let published = published.next_back().unwrap();
    for part in ["custom:ns-1", "identity-type=\"pc\"", "urn:example", "pinned"] {
        assert!(published.replace('\'', "\"").contains(part), "{part}: {published}");
    }
}

#[test]
fn a_server_that_keeps_nothing_or_refuses_holds_up_nothing() {
    let mut stage = Stage::with(settings());
    stage.sign_in(JULIET);
    tags(&mut stage, true);
    assert!(kept(&stage).is_empty());
    let mut stage = keeping("");
    stage.answers.remove(PUBSUB);
    tags(&mut stage, true);
    stage.command("block tybalt@capulet.lit");
    assert_eq!(stage.ignored("choice for a chat not kept by the server"), 1);
    // A server that does not know all options of a publication gets the node made first.
    let steps = stage.sent.iter().filter(|iq| iq.attr("type") == Some("set"));
    let steps: Vec<String> =
        steps.filter_map(|iq| Some(iq.get_child("pubsub", PUBSUB)?.children().next()?.name().to_owned())).collect();
    assert_eq!(steps, ["publish", "create", "publish"]);
    stage.silent = vec![PUBSUB];
    rules(&mut stage, Notify::Never);
    stage.pass(61_000);
    assert_eq!(stage.ignored("choice for a chat not kept by the server"), 2);
    let room = stage.room(JID);
    stage.says(&room, "Hist!");
    assert_eq!(stage.texts_to(JID), ["Hist!"]);
    // It has come to its senses: what was chosen meanwhile is kept.
    stage.silent = Vec::new();
    holds(&mut stage, "");
    stage.cut(false);
    assert_eq!(kept(&stage), ["juliet@capulet.lit pinned never"]);
}

#[test]
fn odd_account_data_and_items_change_nothing() {
    let mut stage = keeping("");
    for (kind, content) in [
        ("m.tag", json!([])),
        ("m.tag", json!({ "tags": [] })),
        ("m.push_rules", json!({})),
        ("m.push_rules", json!({ "global": [] })),
    ] {
        account_data(&mut stage, kind, &content);
    }
    assert_eq!((stage.ignored("tags that cannot be read"), stage.ignored("push rules that cannot be read")), (2, 2));
    elsewhere(&mut stage, &format!("{PINNED}<x xmlns='urn:example'>{}</x>", "x".repeat(20_000)));
    assert_eq!(stage.ignored("choice for a chat that is too long"), 1);
    let many: String = (0..MOST_CHATS + 10).map(|number| item(&format!("n{number}@x.test"), PINNED)).collect();
    tells(&mut stage, "romeo@montague.lit", &format!("<items node='{NODE}'>{many}</items>"));
    elsewhere(&mut stage, PINNED);
    assert_eq!(stage.engine.store().chats(&stage.login()).unwrap().len(), MOST_CHATS);
    assert_eq!(stage.ignored("choice for one chat too many"), 1);
    assert!(written(&stage).is_empty() && kept(&stage).is_empty());
}

#[test]
fn a_new_room_of_a_contact_gets_what_was_chosen() {
    let mut stage = keeping(&item(JID, PINNED));
    assert_eq!(written(&stage), ["true"]);
    let room = stage.room(JID);
    stage.says(&room, "!msgr delete-portal");
    stage.phone_sends("juliet@capulet.lit/b", "Ay me");
    assert_eq!(written(&stage), ["true", "true"]);
    stage.command("logout romeo@montague.lit");
    assert!(stage.records().iter().all(|(key, _)| !matches!(key.first(), Some(b'I'..=b'N'))));
}
