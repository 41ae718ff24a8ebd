//! The page in people's hands: by keyboard alone, with the buttons of the browser, and with what a browser tells others.

use messenger_bridge::page::Patience;
use tokio::runtime::Runtime;

use super::browser::Browser;
use crate::end_to_end::ground;
use crate::wire::page_engine::{PageStage, account_and_password, done, wrong_password};

#[test]
fn the_form_is_filled_in_by_keyboard_alone_and_without_a_script() {
    let runtime = Runtime::new().expect("a runtime");
    let stage = runtime.block_on(PageStage::start("localhost", None, Patience::default()));
    let _context = runtime.enter();
    let browser = Browser::open();
    stage.begin("keys", account_and_password());
    let focused = |name: &str| {
        let focus = browser.focus();
        assert_eq!(focus["name"], name, "{focus}");
        assert_eq!(focus["outlined"], true, "one sees where one is: {focus}");
        focus
    };
    browser.visit(&format!("{}/login/link-keys.x", stage.url));
    browser.press("Tab");
    focused("Continue");
    browser.press("Enter");
    browser.sees("Where your password goes");
    // The cursor stands where one goes on.
    let account = focused("Address");
    assert!(account["described"].as_str().is_some_and(|text| text.contains("you@example.org")), "{account}");
    browser.types("juliet@capulet.example");
    browser.press("Tab");
    focused("Password");
    // What is left empty the browser itself asks for, and nothing is sent.
    browser.press("Enter");
    assert!(stage.given("keys").is_empty());
    browser.types("wh3refore");
    stage.then("keys", wrong_password("The server says that the password is wrong."));
    browser.press("Enter");
    browser.sees("The server says that the password is wrong.");
    assert!(browser.title().starts_with("Error: "), "{}", browser.title());
    let password = focused("Password");
    assert_eq!(password["invalid"], true, "{password}");
    let described = password["described"].as_str().unwrap_or_default();
    assert!(described.starts_with("The server says that the password is wrong."), "{password}");
    browser.press("Shift+Tab");
    focused("Address");
    browser.press("Tab");
    browser.types("wherefore");
    browser.press("Tab");
    focused("Sign in");
    browser.press("Tab");
    focused("Cancel");
    browser.press("Shift+Tab");
    stage.then("keys", done());
    browser.press("Space");
    browser.sees("You can close this page");
    let given = stage.given("keys");
    let passwords: Vec<&str> = given.iter().flat_map(|(_, fields)| fields.values()).map(String::as_str).collect();
    assert_eq!(passwords, ["juliet@capulet.example", "wh3refore", "juliet@capulet.example", "wherefore"]);
    // Whatever one does afterwards, nothing is sent again.
    browser.reload();
    browser.sees("You can close this page");
    assert_eq!(stage.given("keys").len(), 2);
    assert_eq!(browser.url(), format!("{}/login", stage.url));
}

#[test]
fn a_page_that_waits_goes_on_by_itself_and_is_read_out_once() {
    use messenger_bridge::domain::request::Step;
    let runtime = Runtime::new().expect("a runtime");
    let stage = runtime.block_on(PageStage::start("localhost", None, Patience::default()));
    let _context = runtime.enter();
    let browser = Browser::open();
    stage.begin("wait", Step::Wait);
    browser.visit(&format!("{}/login/link-wait.x", stage.url));
    browser.clicks_hastily("Continue");
    let waits = || stage.waiting("wait") > 0 && browser.window_title() == "Signing in… – Messenger bridge";
    assert!(ground::poll(waits), "it shows {:?}", browser.window_title());
    stage.advance("wait", done());
    browser.sees("You can close this page");
    let requests = browser.requests();
    let pages = requests.iter().filter(|request| request["url"] == format!("{}/login", stage.url)).count();
    assert_eq!(pages, 2, "once to wait, once for the news: {requests:?}");
}
