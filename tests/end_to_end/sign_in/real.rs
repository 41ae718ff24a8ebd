//! A person signs in on the page of the real bridge: with a password on Prosody, and at the Messenger service's own page.

use serde_json::json;

use super::browser::Browser;
use crate::end_to_end::bridge::{Bridge, Management, Plan, Portal, starttls};
use crate::end_to_end::clients::Contact;
use crate::end_to_end::messenger::{self, Messenger};
use crate::end_to_end::servers::{PASSWORD, Prosody};

/// A bridge with a page, and the page's address. To a browser that is another site than 127.0.0.1, where the provider is.
fn bridge(name: &str, networks: &serde_json::Value) -> (Bridge, String) {
    let plan = Plan::new(name);
    let address = format!("http://localhost:{}", plan.port.number());
    let sections = json!({"web": {"public_address": address}});
    (Bridge::start_as_planned(plan, networks, &sections), address)
}

/// The link in the bot's answer to `words`.
fn link(management: &Management<'_>, address: &str, words: &str) -> String {
    let page = format!("{address}/login/");
    let answer = management.ask(words, |answer| answer.contains(&page));
    answer.split_whitespace().find(|word| word.starts_with(&page)).expect("a link").to_owned()
}

/// The value of the cookie that stands for the visitor.
fn session(browser: &Browser) -> String {
    let cookies = browser.cookies();
    let cookie = cookies.as_array().into_iter().flatten().find(|cookie| cookie["name"] == "sign-in");
    let cookie = cookie.unwrap_or_else(|| panic!("no session: {cookies}"));
    assert_eq!((&cookie["httpOnly"], &cookie["sameSite"]), (&json!(true), &json!("Lax")), "{cookie}");
    cookie["value"].as_str().expect("a text").to_owned()
}

/// Nothing of the sign-in is where others see it.
fn leaks_nothing(bridge: &Bridge, browser: &Browser, address: &str, secrets: &[&str]) {
    assert_eq!(browser.url(), format!("{address}/login"), "the address bar");
    for secret in secrets {
        assert!(secret.len() > 5 && !bridge.logged_since(0, secret), "{secret} is in the log");
    }
    for request in browser.requests() {
        let referer = request["referer"].as_str().unwrap_or_default();
        assert!(!referer.starts_with(address), "{request}");
    }
    assert_eq!(browser.complaints(), [""; 0], "the policy stops nothing that is needed");
}

#[test]
fn a_password_is_given_on_the_page_and_never_enters_a_room() {
    let prosody = Prosody::shared();
    let (alice, bob) = (prosody.account("alice"), prosody.account("bob"));
    {
        let (alice, bob) = (Contact::connect(&alice), Contact::connect(&bob));
        alice.befriend(&bob);
    }
    let domains = json!({Prosody::DOMAIN: starttls(prosody.reach())});
    let (bridge, address) = bridge("page", &json!({"xmpp": {"profile": "xmpp", "domains": domains}}));
    let person = bridge.person("alice");
    let management = Management::open(&person);
    let link = link(&management, &address, "login xmpp");
    let browser = Browser::open();
    browser.visit(&link);
    browser.sees("@alice");
    browser.sees("Check that it is meant for you");
    browser.clicks("Continue");
    browser.sees("Where your password goes");
    assert_eq!(browser.url(), format!("{address}/login"));
    let session = session(&browser);

    browser.fill("Address", &alice.jid);
    browser.fill("Password", "wr0ng-passw0rd");
    browser.clicks("Sign in");
    browser.sees("password is wrong");
    let page = browser.page();
    assert!(page["title"].as_str().is_some_and(|title| title.starts_with("Error: ")), "{page}");
    let focus = browser.focus();
    assert_eq!((&focus["name"], &focus["invalid"]), (&json!("Password"), &json!(true)), "{focus}");
    assert!(focus["described"].as_str().is_some_and(|text| text.contains("password is wrong")), "{focus}");
    let html = page["html"].as_str().expect("its HTML");
    assert!(html.contains(&alice.jid) && !html.contains("wr0ng-passw0rd"));

    browser.fill("Password", PASSWORD);
    browser.clicks("Sign in");
    browser.sees("You can close this page");
    browser.sees(&format!("Signed in as {}", alice.jid));
    let portal = Portal::appears(&person, &bob.jid);
    management.ask("list-logins", |answer| answer.contains(&alice.jid));
    let told = person.events(|event| event["body"].as_str().is_some_and(|body| body.contains(PASSWORD)));
    assert!(told.is_empty(), "{told:?}");
    let bob = Contact::connect(&bob);
    person.say(&portal.room, "signed in on a page");
    bob.hears(&alice.jid, "signed in on a page");

    let token = link.rsplit('/').next().expect("its token");
    leaks_nothing(&bridge, &browser, &address, &[token, &session, "wr0ng-passw0rd", PASSWORD]);
    browser.visit(&link);
    browser.sees("This link was used already");
}

#[test]
fn messenger_is_signed_in_to_at_its_own_page_with_nothing_to_paste() {
    let messenger = Messenger::start(|_| {});
    let _context = messenger.runtime.enter();
    let juliet = messenger.contact("juliet");
    let mallory = messenger.service.add_account("mallory@hotmail.com", "Mallory", "wherefore").expect("an account");
    let (bridge, address) = bridge("page", &messenger.networks(None));
    let person = bridge.person("romeo");
    let management = Management::open(&person);
    let link = link(&management, &address, "login messenger");
    let browser = Browser::open();
    browser.visit(&link);
    browser.clicks("Continue");
    browser.sees("Sign in at 127.0.0.1");
    let session = session(&browser);

    // Mallory has a code of her own, and sends the person's browser over our page with it.
    let theirs = messenger.browse(&authorize(&browser), &mallory);
    let theirs = theirs.split_once("state=").map(|(before, _)| format!("{before}state=mallorys")).expect("a state");
    browser.visit(&theirs);
    browser.sees("That does not belong to this sign-in");
    assert_eq!(browser.url(), format!("{address}/login"));
    // The person's own way back, in a browser that has not entered.
    let own = messenger.browse(&authorize(&browser), &messenger.me);
    let other = Browser::open();
    other.visit(&own);
    other.sees("Begun in another browser");
    assert_eq!(other.url(), format!("{address}/login/elsewhere"));
    assert_eq!(messenger.service.counters().codes_redeemed, 0);

    // Nor does the person want to, at first.
    browser.visit(&format!("{address}/login/return?error=access_denied"));
    browser.sees("The sign-in was refused there");
    browser.follows("Go to 127.0.0.1");
    browser.sees("An application asks to sign in to Messenger for you.");
    browser.fill("E-mail", &messenger.me.email);
    browser.fill("Password", &messenger.me.password);
    browser.clicks("Sign in");
    browser.sees("You can close this page");
    browser.sees(&format!("Signed in as {}", messenger.me.jid));
    let portal = messenger::portal(&person, &juliet);
    let mut inbox = messenger.service.messages_from_now(&juliet.jid).expect("her messages");
    person.say(&portal.room, "nothing was pasted");
    messenger
        .wait(&mut inbox, "the message", |event| event.text().filter(|text| *text == "nothing was pasted").map(drop));

    let redirected = browser.requests().into_iter().filter_map(|request| request["url"].as_str().map(str::to_owned));
    let codes: Vec<String> = redirected.filter_map(|url| Some(url.split_once("code=")?.1.to_owned())).collect();
    let codes: Vec<&str> = codes.iter().map(|code| code.split('&').next().unwrap_or_default()).collect();
    assert_eq!(codes.len(), 2, "one of Mallory's and the person's own: {codes:?}");
    let token = link.rsplit('/').next().expect("its token");
    leaks_nothing(&bridge, &browser, &address, &[&[token, &session], &*codes].concat());
}

/// Where the page leads to.
fn authorize(browser: &Browser) -> String {
    let html = browser.page()["html"].as_str().expect("its HTML").to_owned();
    let start = html.split("class=\"button\" href=\"").nth(1).expect("a way to the provider");
    start.split('"').next().expect("its address").replace("&amp;", "&")
}
