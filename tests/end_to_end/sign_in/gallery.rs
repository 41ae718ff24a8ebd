//! Every page that there is, in both schemes, narrow and wide: is it one that everybody can use? `script/screenshots` keeps what it
//! looks like.

use std::env;
use std::fs;
use std::path::PathBuf;

use messenger_bridge::domain::BareJid;
use messenger_bridge::domain::request::{Field, FieldId, RefusalCode, Step};
use messenger_bridge::page::Patience;
use tokio::runtime::Runtime;

use super::browser::{Browser, Window};
use crate::end_to_end::ground;
use crate::wire::page_engine::{PageStage, account_and_password, done, provider, wrong_password};

/// A phone and a desk, each by day and by night.
const WINDOWS: [Window; 4] = [(360, 640, "light"), (360, 640, "dark"), (1280, 800, "light"), (1280, 800, "dark")];

/// Every page and its title; [`arrive`] says how one comes there.
const PAGES: [(&str, &str); 23] = [
    ("link", "Sign in"),
    ("fields", "Sign in"),
    ("wrong-password", "Error: Sign in"),
    ("wrong-address", "Error: Sign in"),
    ("again", "Sign in again"),
    ("token", "Sign in"),
    ("provider", "Sign in at login.example.com"),
    ("provider-refused", "Error: Sign in at login.example.com"),
    ("paste", "Sign in at login.example.com"),
    ("paste-problem", "Error: Sign in at login.example.com"),
    ("waiting", "Signing in…"),
    ("done", "Signed in"),
    ("failed", "The sign-in did not work"),
    ("cancelled", "The sign-in is cancelled"),
    ("ended", "This sign-in has ended"),
    ("used-link", "This link was used already"),
    ("wrong-link", "This link does not work, or no longer"),
    ("no-sign-in", "There is nothing to sign in to"),
    ("other-browser", "Begun in another browser"),
    ("other-sign-in", "Another sign-in was begun"),
    ("too-long", "That cannot be read"),
    ("refused", "That did not work"),
    // Nothing answers after it.
    ("restarting", "Please try again in a moment"),
];

/// The problem of the address.
fn wrong_address() -> Step {
    let Step::Fields(mut fields) = account_and_password() else { unreachable!() };
    fields[0].problem = Some("An account looks like you@example.org: a name, an @ and a server.".to_owned());
    Step::Fields(fields)
}

fn known_account() -> Step {
    let Step::Fields(mut fields) = account_and_password() else { unreachable!() };
    fields[0].value = Some("juliet@capulet.example".to_owned());
    Step::Fields(fields)
}

fn token() -> Step {
    let Step::Fields(mut fields) = account_and_password() else { unreachable!() };
    let description = "An OAuth token that your server takes in place of the password.".to_owned();
    fields[1] = Field { id: FieldId::Token, name: "Token".to_owned(), description, value: None, problem: None };
    Step::Fields(fields)
}

fn failed() -> Step {
    let sentence = "Could not sign in to juliet@capulet.example: the server cannot be reached.".to_owned();
    Step::Failed { sentence }
}

/// Enters, and answers with too much, or with what is refused, or not at all.
fn arrive(name: &'static str, stage: &PageStage, browser: &Browser) {
    let at = |path: &str| browser.visit(&format!("{}/login{path}", stage.url));
    let enter = || {
        stage.begin(name, account_and_password());
        at(&format!("/link-{name}.x"));
        browser.clicks("Continue");
        browser.sees("Where your password goes");
    };
    let step = |step: Step| {
        enter();
        stage.mend(name, |now| now.step = step);
        at("");
    };
    let sends = |password: &str, seen: &str| {
        browser.fill("Address", "juliet@capulet.example");
        browser.fill("Password", password);
        browser.clicks("Sign in");
        browser.sees(seen);
    };
    match name {
        "link" => {
            stage.begin(name, account_and_password());
            at("/link-link.x");
        }
        "fields" => enter(),
        "wrong-password" => step(wrong_password("The name or password is wrong, or the token is not valid.")),
        "wrong-address" => step(wrong_address()),
        "again" => {
            enter();
            stage.mend(name, |step| step.again = BareJid::parse("juliet@capulet.example").ok());
            stage.mend(name, |now| now.step = known_account());
            at("");
        }
        "token" => step(token()),
        "provider" => step(provider(true, None)),
        "provider-refused" => step(provider(true, Some("The sign-in was refused there. You can try again."))),
        "paste" => step(provider(false, None)),
        "paste-problem" => step(provider(false, Some("No sign-in came back with that. Please try again."))),
        "waiting" => {
            // While the next page is on its way, this one can be looked at but not asked.
            browser.still("**/login/wait");
            step(Step::Wait);
        }
        "done" => step(done()),
        "failed" => step(failed()),
        "cancelled" => {
            enter();
            browser.clicks("Cancel");
            browser.sees("The sign-in is cancelled");
        }
        "ended" => {
            enter();
            stage.end(name);
            at("");
        }
        "used-link" => {
            enter();
            at("/link-used-link.x");
        }
        "wrong-link" => at("/7-1.forged"),
        "no-sign-in" => at(""),
        "other-browser" => at("/return?code=1&state=2"),
        "other-sign-in" => {
            enter();
            stage.begin("a-second", account_and_password());
            browser.second_tab(&format!("{}/login/link-a-second.x", stage.url), "Continue");
            sends("x", "Another sign-in was begun");
        }
        "too-long" => {
            enter();
            sends(&"x".repeat(20_000), "longer than any password");
        }
        "refused" => {
            enter();
            let sentence = "You may be signed in to 10 accounts at most. Sign out of one first, with `logout`.";
            stage.refuse(name, RefusalCode::TooMany, sentence);
            sends("x", "10 accounts at most");
        }
        "restarting" => {
            stage.stop_now();
            at("/link-link.x");
        }
        other => panic!("nobody knows the way to {other}"),
    }
}

#[test]
fn every_page_is_for_everybody_in_both_schemes_narrow_and_wide() {
    let runtime = Runtime::new().expect("a runtime");
    let stage = runtime.block_on(PageStage::start("localhost", None, Patience::default()));
    let _context = runtime.enter();
    let browser = Browser::open();
    let folder = ground::folder("gallery");
    let kept = env::var_os("SIGN_IN_PICTURES").map(PathBuf::from);
    for (name, title) in PAGES {
        browser.fresh_with_scripts(WINDOWS[0]);
        arrive(name, &stage, &browser);
        let mut files = Vec::new();
        for window in WINDOWS {
            let (width, _, scheme) = window;
            let what = format!("{name}, {width} px, {scheme}");
            browser.resize(window);
            let page = browser.page();
            assert_eq!(page["title"], format!("{title} – Messenger bridge"), "{what}");
            assert_eq!(page["overflow"], 0, "{what}: it has to be moved sideways");
            browser.is_accessible(&what);
            if kept.is_some() {
                let file = folder.join(format!("{name}-{width}-{scheme}.png"));
                browser.picture(&file);
                files.push(file);
            }
        }
        if let Some(kept) = &kept {
            fs::create_dir_all(kept).expect("a folder for the pictures");
            let files: Vec<_> = files.iter().map(PathBuf::as_path).collect();
            browser.sheet(&files[..2], &files[2..], &kept.join(format!("{name}.png")));
        }
        let complaints = browser.complaints();
        assert!(complaints.is_empty(), "{name}: {complaints:?}");
    }
}
