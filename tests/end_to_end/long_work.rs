//! An account with some hundred contacts: the import tells how far it is in one message, and `cancel` stops it.

use serde_json::{Value, json};

use super::bridge::{Bridge, Management, Plan, starttls};
use super::clients::{Contact, Person};
use super::servers::Prosody;

/// Contacts on the roster.
const CONTACTS: usize = 200;

/// What the bot says of the import: when (milliseconds), what, and which event it edits.
fn told(person: &Person, management: &Management<'_>) -> Vec<(i64, String, Option<String>)> {
    let said = person.events(|event| {
        event["event"] == "message" && event["sender"] == Bridge::BOT && event["room"] == management.room()
    });
    let text = |event: &Value| {
        let content = &event["content"];
        content["m.new_content"]["body"].as_str().or(content["body"].as_str()).unwrap_or_default().to_owned()
    };
    said.iter()
        .map(|event| {
            let edits = event["relates_to"]["event_id"].as_str().map(str::to_owned);
            (event["ts"].as_i64().unwrap_or_default(), text(event), edits)
        })
        .filter(|(_, text, _)| text.starts_with("Fetching the contacts of") || text.starts_with("Cancelled: "))
        .collect()
}

fn invitations(person: &Person) -> usize {
    person.events(|event| event["event"] == "invite" && event["is_direct"] == true).len()
}

#[test]
fn an_import_of_hundreds_counts_in_one_message_and_cancel_stops_it_halfway() {
    let prosody = Prosody::shared();
    let networks = json!({"xmpp": {"profile": "xmpp", "domains": {Prosody::DOMAIN: starttls(prosody.reach())}}});
    let sections = json!({"portals": {"per_second": 20, "space": false}});
    let bridge = Bridge::start_as_planned(Plan::new("bridge"), &networks, &sections);
    let account = prosody.account("alice");
    let own = Contact::connect(&account);
    for number in 0..CONTACTS {
        own.call("roster_set", json!({"jid": format!("contact{number:03}@{}", Prosody::DOMAIN)}));
    }
    own.leave();
    let person = Person::login_by_hand(&bridge.synapse.user("romeo"));
    let management = Management::sign_in(&person, &account.jid);
    let counted = format!(" of {CONTACTS} rooms made, about ");
    let progress = |event: &Value| {
        event["event"] == "message"
            && event["relates_to"]["event_id"].is_string()
            && event["body"].as_str().is_some_and(|body| body.contains(&counted))
    };
    let edit = person.expect("an edit with a count and a pace", progress);
    let body = edit["body"].as_str().expect("its text");
    assert!(body.contains(" per second, ") && body.contains(" left. `cancel` stops it."), "{body}");

    let mark = person.mark();
    person.say(management.room(), "cancel");
    let last = person.expect_since(mark, "the end of the import", |event| {
        event["event"] == "message" && event["body"].as_str().is_some_and(|body| body.contains("Cancelled: "))
    });
    let last = last["body"].as_str().expect("its text");
    let made: usize = last
        .split("Cancelled: ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no number in {last}"));
    assert!((1..CONTACTS).contains(&made), "{last}");

    // The next room is the one that is asked for.
    let other = format!("contact{:03}@{}", CONTACTS - 1, Prosody::DOMAIN);
    let mark = person.mark();
    management.ask(&format!("start-chat {other}"), |answer| answer.contains(&other));
    person.expect_since(mark, "an invitation", |event| event["event"] == "invite" && event["is_direct"] == true);
    assert_eq!(invitations(&person), made + 1);

    let told = told(&person, &management);
    assert!(told.len() >= 3 && told[0].2.is_none(), "{told:?}");
    assert!(told[1..].iter().all(|(_, _, edits)| edits.is_some() && *edits == told[1].2), "one message: {told:?}");
    // The homeserver stamps when it takes an event in.
    assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 > 4_000), "{told:?}");
}
