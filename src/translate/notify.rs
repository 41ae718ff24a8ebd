//! Mutes: push rules of a room <-> XEP-0492.
//!
//! The rules are those that Element writes: an override rule with the room's id that says nothing is "off", a room rule that says
//! nothing leaves mentions.

use std::{cmp::Reverse, collections::BTreeSet};

use minidom::Element;
use ruma::RoomId;
use serde_json::{Value, json, value::RawValue};

use super::stanza::{element, set};
use crate::domain::choice::Notify;

/// XEP-0492.
pub const NS: &str = "urn:xmpp:notification-settings:1";
/// The account data that holds a person's push rules (Matrix CS API, "Push Notifications").
pub const RULES: &str = "m.push_rules";
/// What we are to others (XEP-0030), as the settings may tell one kind of client from another.
const IDENTITY: (&str, &str) = ("client", "bot");

fn name(notify: Notify) -> &'static str {
    match notify {
        Notify::Always => "always",
        Notify::OnMention => "on-mention",
        Notify::Never => "never",
    }
}

fn meaning(setting: &Element) -> Option<Notify> {
    let all = [Notify::Always, Notify::OnMention, Notify::Never];
    all.into_iter().find(|notify| setting.is(name(*notify), NS))
}

/// How closely a setting fits us: not at all, as the fallback, by category, by category and type (XEP-0492 section 3).
fn rank(setting: &Element) -> Option<u8> {
    meaning(setting)?;
    match (setting.attr("identity-category"), setting.attr("identity-type")) {
        (None, None) => Some(0),
        (Some(category), None) if category == IDENTITY.0 => Some(1),
        (Some(category), Some(kind)) if (category, kind) == IDENTITY => Some(2),
        _ => None,
    }
}

fn closest(notify: &Element) -> Option<&Element> {
    // Of several that fit alike, which must not be, the first counts.
    notify.children().filter(|setting| rank(setting).is_some()).min_by_key(|setting| Reverse(rank(setting)))
}

/// When the chat makes itself heard, by the element that stands for it.
pub fn from_xmpp(chat: &Element) -> Notify {
    chat.get_child("notify", NS).and_then(closest).and_then(meaning).unwrap_or_default()
}

/// The settings with this choice in them; `None`: nothing needs to be said. What they hold for other clients, and what of them only
/// others know, stays (XEP-0492 section 3).
pub fn to_xmpp(known: Option<&Element>, notify: Notify) -> Option<Element> {
    let mut settings: Vec<Element> = known.map(|known| known.children().cloned().collect()).unwrap_or_default();
    let place = known.and_then(closest).and_then(|closest| settings.iter().position(|setting| setting == closest));
    let ours = match place {
        Some(place) => settings.remove(place),
        None => element("always", NS),
    };
    let mut changed = element(name(notify), NS);
    for ((_, name), value) in ours.attrs() {
        set(&mut changed, name.as_str(), value.clone());
    }
    for child in ours.children() {
        changed.append_child(child.clone());
    }
    let is_fallback = rank(&changed) == Some(0);
    let says_nothing = notify == Notify::Always && is_fallback && changed.children().next().is_none();
    if !says_nothing || settings.iter().any(|setting| meaning(setting).is_some()) {
        if !is_fallback && settings.iter().all(|setting| rank(setting) != Some(0)) {
            settings.push(element(name(notify), NS));
        }
        settings.push(changed);
    }
    if settings.is_empty() {
        return None;
    }
    // The schema wants them in this order.
    settings.sort_by_key(|setting| meaning(setting).map(|notify| notify as u8));
    let mut notify = element("notify", NS);
    for setting in settings {
        notify.append_child(setting);
    }
    Some(notify)
}

/// The rooms that a person has silenced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    off: BTreeSet<String>,
    mentions: BTreeSet<String>,
}

impl Rules {
    /// When this room makes itself heard.
    pub fn of(&self, room: &RoomId) -> Notify {
        if self.off.contains(room.as_str()) {
            Notify::Never
        } else if self.mentions.contains(room.as_str()) {
            Notify::OnMention
        } else {
            Notify::Always
        }
    }
}

/// Reads a person's push rules; `None`: they cannot be read.
pub fn from_matrix(rules: &RawValue) -> Option<Rules> {
    let content: Value = serde_json::from_str(rules.get()).ok()?;
    let rules = content.as_object()?.get("global")?.as_object()?;
    let silent = |kind: &str| {
        let rules = rules.get(kind).and_then(Value::as_array).into_iter().flatten();
        let silent = rules.filter(|rule| is_silent(rule)).filter_map(|rule| rule["rule_id"].as_str());
        silent.filter(|id| id.starts_with('!')).map(str::to_owned).collect()
    };
    Some(Rules { off: silent("override"), mentions: silent("room") })
}

/// Does the rule say nothing? Older clients write `dont_notify`, which means the same as no action.
pub fn is_silent(rule: &Value) -> bool {
    let says = |action: &Value| matches!(action.as_str(), Some("notify" | "coalesce"));
    rule["enabled"] != json!(false) && rule["actions"].as_array().is_some_and(|actions| !actions.iter().any(says))
}

/// The override rule that turns a room off.
pub fn off(room: &RoomId) -> String {
    let condition = json!({ "kind": "event_match", "key": "room_id", "pattern": room });
    json!({ "conditions": [condition], "actions": [] }).to_string()
}

/// The room rule that leaves mentions.
pub fn mentions() -> String {
    json!({ "actions": [] }).to_string()
}

#[cfg(test)]
mod tests {
    use ruma::room_id;

    use super::*;

    fn notify(inner: &str) -> Element {
        format!("<notify xmlns='urn:xmpp:notification-settings:1'>{inner}</notify>").parse().unwrap()
    }

    fn read(inner: &str) -> Notify {
        let mut chat = element("chat", "urn:example");
        chat.append_child(notify(inner));
        from_xmpp(&chat)
    }

    /// XEP-0492 section 2.1, "Most basic example", and section 2.2, "An example of notification settings by identity", with ours.
    #[test]
    fn the_setting_that_fits_best_counts() {
        assert_eq!(read("<never />"), Notify::Never);
        let by_identity = "<never identity-category='client' identity-type='pc'/>\
                           <on-mention identity-category='client' identity-type='phone'/>\
                           <on-mention identity-category='gateway'/><always/>";
        assert_eq!(read(by_identity), Notify::Always);
        assert_eq!(read(&format!("{by_identity}<on-mention identity-category='client'/>")), Notify::OnMention);
        let closer = "<on-mention identity-category='client'/><never identity-category='client' identity-type='bot'/>";
        assert_eq!(read(&format!("{by_identity}{closer}")), Notify::Never);
        assert_eq!(read("<never identity-type='bot'/>"), Notify::Always, "a type needs its category");
        assert_eq!(read("<sometimes/>"), Notify::Always);
        assert_eq!(read("<never/><always/>"), Notify::Never, "the first of two that must not be");
        assert_eq!(from_xmpp(&element("chat", "urn:example")), Notify::Always);
    }

    /// XEP-0492 section 2.3, "Complex example of finer-grained notification settings", shortened: what only others know stays.
    #[test]
    fn what_others_have_set_stays() {
        let known = notify(
            "<never identity-category='client' identity-type='pc'><advanced><my xmlns='custom:ns-1'/></advanced></never>\
             <on-mention identity-category='gateway'/><always><advanced><better xmlns='custom:ns-3'/></advanced></always>",
        );
        let changed = to_xmpp(Some(&known), Notify::Never).unwrap();
        assert_eq!(
            changed,
            notify(
                "<on-mention identity-category='gateway'/>\
                 <never identity-category='client' identity-type='pc'><advanced><my xmlns='custom:ns-1'/></advanced></never>\
                 <never><advanced><better xmlns='custom:ns-3'/></advanced></never>"
            )
        );
        assert_eq!(
            from_xmpp(&{
                let mut chat = element("chat", "urn:example");
                chat.append_child(changed);
                chat
            }),
            Notify::Never
        );
        // Where something closer to us is set, that changes; the fallback is added where there is none.
        let known = notify("<always identity-category='client'/>");
        assert_eq!(
            to_xmpp(Some(&known), Notify::OnMention).unwrap(),
            notify("<on-mention/><on-mention identity-category='client'/>")
        );
    }

    #[test]
    fn the_default_needs_no_words() {
        assert_eq!(to_xmpp(None, Notify::Always), None);
        assert_eq!(to_xmpp(None, Notify::Never), Some(notify("<never/>")));
        assert_eq!(to_xmpp(Some(&notify("<never/>")), Notify::Always), None);
        let others = notify("<always/><never identity-category='client' identity-type='pc'/>");
        assert_eq!(to_xmpp(Some(&others), Notify::Always), Some(others));
    }

    /// As Element Web and Element X write them, and as the specification has them otherwise.
    #[test]
    fn rules_of_rooms_are_read() {
        let rules = json!({ "global": {
            "override": [
                { "rule_id": ".m.rule.master", "default": true, "enabled": false, "conditions": [], "actions": [] },
                { "rule_id": "!off:h", "enabled": true, "actions": ["dont_notify"],
                  "conditions": [{ "kind": "event_match", "key": "room_id", "pattern": "!off:h" }] },
                { "rule_id": "!old:h", "enabled": false, "actions": [] },
                { "rule_id": "!both:h", "enabled": true, "actions": [] },
                7,
            ],
            "room": [
                { "rule_id": "!mentions:h", "enabled": true, "actions": [] },
                { "rule_id": "!both:h", "enabled": true, "actions": [] },
                { "rule_id": "!loud:h", "enabled": true, "actions": ["notify", { "set_tweak": "sound", "value": "default" }] },
            ],
            "content": {},
        }, "device": {} });
        let read = |rules: &Value| from_matrix(&serde_json::value::to_raw_value(rules).unwrap());
        let rules = read(&rules).unwrap();
        for (room, notify) in [
            (room_id!("!off:h"), Notify::Never),
            (room_id!("!both:h"), Notify::Never),
            (room_id!("!old:h"), Notify::Always),
            (room_id!("!mentions:h"), Notify::OnMention),
            (room_id!("!loud:h"), Notify::Always),
            (room_id!("!other:h"), Notify::Always),
        ] {
            assert_eq!(rules.of(room), notify, "{room}");
        }
        assert_eq!(read(&json!({ "global": {} })), Some(Rules::default()));
        assert_eq!(read(&json!({})), None);
        // What we write reads as what we meant.
        let own = |kind: &str, rule: String| {
            let mut rule: Value = serde_json::from_str(&rule).unwrap();
            rule["rule_id"] = json!("!r:h");
            read(&json!({ "global": { kind: [rule] } })).unwrap().of(room_id!("!r:h"))
        };
        assert_eq!(own("override", off(room_id!("!r:h"))), Notify::Never);
        assert_eq!(own("room", mentions()), Notify::OnMention);
    }
}
