//! One long conversation that uses every row of docs/features.md: Romeo, in Matrix, and Juliet, who has an app that knows all
//! of it and later also profanity, a program for the terminal that knows little.
//!
//! It is a test like any other. `script/conversation` plays it before an audience ([`audience`]): a web client of Matrix and
//! profanity show what their users see, and pictures of it are taken.

mod audience;
mod decisions;
mod opening;
mod page;
mod stage;
mod terminal;
mod things;
mod turns;
mod words;

use serde_json::json;

use super::bridge::{Bridge, Plan, starttls};
use super::certificates::Authority;
use super::clients::{Contact, Person};
use super::servers::{PASSWORD, Prosody};
use audience::Audience;
use stage::Stage;

#[test]
fn a_long_conversation_uses_every_concept() {
    let prosody = Prosody::start("prosody", Authority::trusted());
    let networks = json!({"xmpp": {"profile": "xmpp", "domains": {Prosody::DOMAIN: starttls(prosody.reach())}}});
    let sections = json!({
        "fetch": {"allow_private": [prosody.upload()]}, "double_puppet": {"registration": "./doublepuppet.yaml"},
    });
    // The web client that may look on lists no rooms whose ids are newer than itself.
    let plan = Plan { settings: json!({"default_room_version": "10"}), ..Plan::new("bridge") };
    let bridge = Bridge::start_registered(plan, &networks, &sections, &["registration.yaml", "doublepuppet.yaml"]);
    let [romeo, juliet, mercutio] = ["romeo", "juliet", "mercutio"].map(|name| prosody.account_named(name));
    let past = opening::before_the_bridge(&romeo, &juliet);

    let user = bridge.synapse.user_named("romeo");
    let person = Person::login(&user);
    person.call("set_displayname", json!({"name": "Romeo"}));
    let audience = Audience::invited(&user, PASSWORD);
    let stage = Stage::set(&bridge, &person, &past.juliet, &romeo, audience.as_ref());

    opening::shows_who_is_there(&stage, &past);
    opening::someone_new(&stage, &mercutio);
    words::cross(&stage);
    words::are_answered_and_changed(&stage);
    things::cross(&stage);
    turns::are_taken(&stage);
    decisions::are_made(&stage);
    if let Some(audience) = &audience {
        let terminal = audience.opens_profanity(&juliet);
        terminal::reads_what_it_does_not_know(&stage, &terminal);
        terminal::writes(&stage, &terminal);
    }
    turns::a_refusal(&stage);
    let stage = turns::another_room(stage);
    stage.used_all_of_the_page();
}

/// A second client of Romeo's account.
fn another_device(account: &super::servers::Account) -> Contact {
    Contact::connect_by(account, super::clients::Tls::Start, PASSWORD, "another")
        .unwrap_or_else(|error| panic!("{}: {error}", account.jid))
}
