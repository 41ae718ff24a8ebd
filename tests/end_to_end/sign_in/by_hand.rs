//! The page in people's hands: by keyboard alone, with the buttons of the browser, and with what a browser tells others.

use std::sync::Arc;

use messenger_bridge::domain::request::Step;
use messenger_bridge::page::Patience;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

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

/// A reverse proxy with TLS as operators have one, but with a certificate that nobody signed.
fn proxy(listener: TcpListener, to: String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("its key");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("a configuration")));
    tokio::spawn(async move {
        while let Ok((visitor, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                let mut visitor = acceptor.accept(visitor).await.ok()?;
                let mut page = TcpStream::connect(to).await.ok()?;
                tokio::io::copy_bidirectional(&mut visitor, &mut page).await.ok()
            });
        }
    });
}

/// Only with TLS is the cookie one that no other host can set, and is the page never again asked for without.
#[test]
fn behind_a_proxy_with_tls_the_cookie_is_the_hosts_own() {
    let runtime = Runtime::new().expect("a runtime");
    let _context = runtime.enter();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let public = format!("https://localhost:{}", listener.local_addr().expect("its address").port());
    let stage = runtime.block_on(PageStage::start("127.0.0.1", Some(&public), Patience::default()));
    proxy(listener, stage.url.strip_prefix("http://").expect("an address").to_owned());
    let browser = Browser::open();
    stage.begin("tls", account_and_password());
    browser.visit(&format!("{public}/login/link-tls.x"));
    browser.clicks("Continue");
    browser.sees("Where your password goes");
    let cookies = browser.cookies();
    let all = cookies.as_array().expect("a list");
    assert_eq!(all.len(), 1, "{cookies}");
    for (key, value) in [("name", "__Host-sign-in"), ("value", "session-tls.x"), ("sameSite", "Lax"), ("path", "/")] {
        assert_eq!(all[0][key], value, "{cookies}");
    }
    assert_eq!((&all[0]["secure"], &all[0]["httpOnly"]), (&true.into(), &true.into()), "{cookies}");
    browser.fill("Address", "juliet@capulet.example");
    browser.fill("Password", "wherefore");
    stage.then("tls", done());
    browser.clicks("Sign in");
    browser.sees("You can close this page");
    assert_eq!(browser.complaints(), [""; 0]);
}
