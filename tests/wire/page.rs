//! The page for signing in against a stand-in for the engine: what browsers are told, and what each attack comes to.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, time::Duration};

use messenger_bridge::{
    domain::{
        BareJid,
        request::{FieldId, RefusalCode, Step},
    },
    page::{AT_ONCE, LARGEST_FORM, LONGEST_RETURN, Patience},
};
use reqwest::{Method, Response, redirect::Policy};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::page_engine::{PageStage, account_and_password, done, provider, wrong_password};

/// A browser of our own: it follows nothing, and remembers one cookie.
struct Browser<'a> {
    stage: &'a PageStage,
    http: reqwest::Client,
    /// Where it believes to be.
    origin: String,
    cookie: Option<String>,
}

/// An answer that was read.
struct Seen {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Seen {
    async fn read(response: Response) -> Self {
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        Self { status, headers, body: response.text().await.unwrap() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    fn says(&self, text: &str) -> bool {
        self.body.contains(text)
    }

    /// The value of a hidden field.
    fn hidden(&self, name: &str) -> String {
        let start = self.body.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap();
        start.split('"').next().unwrap().to_owned()
    }
}

impl<'a> Browser<'a> {
    fn new(stage: &'a PageStage) -> Self {
        let http = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
        Self { stage, http, origin: stage.url.clone(), cookie: None }
    }

    /// One that has entered.
    async fn entered(stage: &'a PageStage, name: &str) -> Self {
        let mut browser = Self::new(stage);
        let seen = browser.post(&format!("/login/link-{name}.x"), "").await;
        assert_eq!((seen.status, seen.header("location")), (303, "/login"), "{}", seen.body);
        let cookie = seen.header("set-cookie").split(';').next().unwrap().to_owned();
        assert!(cookie.ends_with(&format!("=session-{name}.x")), "{cookie}");
        browser.cookie = Some(cookie);
        browser
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.stage.url));
        match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> Seen {
        Seen::read(self.request(Method::GET, path).send().await.unwrap()).await
    }

    fn form(&self, path: &str, body: &str) -> reqwest::RequestBuilder {
        let mime = "application/x-www-form-urlencoded";
        self.request(Method::POST, path).header("content-type", mime).body(body.to_owned())
    }

    async fn post(&self, path: &str, body: &str) -> Seen {
        let request = self.form(path, body).header("origin", &self.origin).header("sec-fetch-site", "same-origin");
        Seen::read(request.send().await.unwrap()).await
    }

    /// Fills in the form of the present step.
    async fn answer(&self, fields: &str) -> Seen {
        let page = self.get("/login").await;
        self.post("/login", &format!("form={}&step={}&{fields}", page.hidden("form"), page.hidden("step"))).await
    }
}

/// More than a busy machine needs; what a test waits for itself is set there.
fn patient() -> Patience {
    let long = Duration::from_secs(30);
    Patience { form: long, engine: long, step: long, wait: long, pause: Duration::from_millis(10) }
}

async fn stage() -> PageStage {
    PageStage::start("127.0.0.1", None, patient()).await
}

#[tokio::test]
async fn a_link_is_looked_at_as_often_as_one_likes_and_entered_once() {
    let stage = stage().await;
    stage.begin("a", account_and_password());
    stage.mend("a", |step| step.again = Some(BareJid::parse("juliet@capulet.example").unwrap()));
    let browser = Browser::new(&stage);
    for method in [Method::GET, Method::HEAD, Method::GET] {
        let seen = Seen::read(browser.request(method.clone(), "/login/link-a.x").send().await.unwrap()).await;
        assert_eq!(seen.status, 200);
        assert!(!seen.headers.contains_key("set-cookie"));
        if method == Method::GET {
            for text in
                ["@alice:example.org", "xmpp", "juliet@capulet.example", "Continue", "within the next 14 minutes"]
            {
                assert!(seen.says(text), "{text}: {}", seen.body);
            }
            assert!(!seen.says("link-a"), "the link stands in no page");
        }
    }
    assert!(!stage.is_used("a"), "whatever previews links must not use them up");
    let entered = Browser::entered(&stage, "a").await;
    assert!(entered.get("/login").await.says("Password"));
    for (seen, here) in [
        (browser.get("/login/link-a.x").await, false),
        (browser.post("/login/link-a.x", "").await, false),
        (entered.get("/login/link-a.x").await, true),
    ] {
        assert_eq!(seen.status, 410);
        assert!(seen.says("This link was used already") && seen.says("<code>login</code>"), "{}", seen.body);
        assert_eq!(seen.says("go on with it"), here);
        assert!(!seen.headers.contains_key("set-cookie"));
    }
}

#[tokio::test]
async fn a_link_that_is_forged_or_has_ended_leads_to_a_page_that_says_what_to_do() {
    let stage = stage().await;
    stage.begin("old", account_and_password());
    stage.begin("done", done());
    stage.end("old");
    let browser = Browser::new(&stage);
    let long = format!("/login/{}", "7".repeat(3_000));
    for path in ["/login/7-1.forged", "/login/link-old.x", "/login/link-done.x", "/login/%2e%2e%2fx", &long] {
        let seen = browser.get(path).await;
        assert_eq!(seen.status, 404, "{path}");
        assert!(seen.says("This link does not work, or no longer") && seen.says("send <code>login</code>"), "{path}");
    }
    for path in ["/login/7-1.forged", "/login/link-old.x"] {
        let seen = browser.post(path, "").await;
        assert_eq!(seen.status, 404, "{path}");
        assert!(!seen.headers.contains_key("set-cookie"));
    }
    assert_eq!(browser.get("/login/%ff").await.status, 400);
}

#[tokio::test]
async fn the_session_is_in_a_cookie_that_no_script_and_no_other_host_has() {
    let stage = stage().await;
    stage.begin("a", account_and_password());
    let seen = Browser::new(&stage).post("/login/link-a.x", "").await;
    let flags = "; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax";
    assert_eq!(seen.header("set-cookie"), format!("sign-in=session-a.x{flags}"));

    let public = "https://bridge.example.org";
    let stage = PageStage::start("127.0.0.1", Some(public), patient()).await;
    stage.begin("a", account_and_password());
    let browser = Browser { origin: public.to_owned(), ..Browser::new(&stage) };
    let seen = browser.post("/login/link-a.x", "").await;
    assert_eq!(seen.header("set-cookie"), format!("__Host-sign-in=session-a.x{flags}; Secure"));
    // What any host of the domain may set is not it.
    let browser = Browser { cookie: Some("sign-in=session-a.x".to_owned()), ..Browser::new(&stage) };
    assert_eq!(browser.get("/login").await.status, 404);
}

#[tokio::test]
async fn every_answer_of_the_page_is_hardened() {
    let public = "https://bridge.example.org";
    for secure in [true, false] {
        let stage = PageStage::start("127.0.0.1", secure.then_some(public), patient()).await;
        stage.begin("a", account_and_password());
        stage.begin("wait", Step::Wait);
        stage.begin("link", provider(true, None));
        stage.begin("paste", provider(false, None));
        stage.begin("done", done());
        stage.begin("failed", Step::Failed { sentence: "No.".to_owned() });
        let mut browser = Browser::new(&stage);
        if secure {
            public.clone_into(&mut browser.origin);
        }
        let mut all = Vec::new();
        let mut see = async |method: Method, path: &str, cookie: Option<&str>, status: u16| {
            let name = if secure { "__Host-sign-in" } else { "sign-in" };
            browser.cookie = cookie.map(|cookie| format!("{name}=session-{cookie}.x"));
            let request = browser.request(method.clone(), path).header("origin", &browser.origin);
            let seen = Seen::read(request.send().await.unwrap()).await;
            assert_eq!(seen.status, status, "{method} {path}");
            all.push((format!("{method} {path}"), seen));
        };
        see(Method::GET, "/login/link-a.x", None, 200).await;
        see(Method::GET, "/login/forged", None, 404).await;
        see(Method::GET, "/login/", None, 404).await;
        see(Method::GET, "/login/a/b/c", None, 404).await;
        see(Method::GET, "/login", None, 404).await;
        see(Method::GET, "/login/wait", None, 404).await;
        see(Method::GET, "/login/elsewhere", None, 403).await;
        see(Method::GET, "/login/return?code=1", None, 303).await;
        see(Method::GET, "/login/%ff", None, 400).await;
        see(Method::POST, "/login", None, 415).await;
        see(Method::POST, "/login/cancel", None, 415).await;
        see(Method::DELETE, "/login", None, 405).await;
        see(Method::GET, "/login/cancel", None, 303).await;
        see(Method::PATCH, "/login/cancel", None, 405).await;
        see(Method::PUT, "/login/link-a.x", None, 405).await;
        see(Method::OPTIONS, "/login/wait", None, 405).await;
        see(Method::POST, "/login/return", None, 405).await;
        for cookie in ["a", "wait", "link", "paste", "done", "failed"] {
            see(Method::GET, "/login", Some(cookie), 200).await;
        }
        see(Method::GET, "/login", Some("nobody"), 410).await;
        see(Method::POST, "/login/link-a.x", None, 303).await;
        for (what, seen) in all {
            let policy = seen.header("content-security-policy");
            let (before, after) = policy.split_once("'sha256-").expect("the hash of the style");
            assert_eq!(before, "default-src 'none'; style-src ", "{what}");
            let after = after.split_once('\'').unwrap().1;
            assert_eq!(after, "; form-action 'self'; frame-ancestors 'none'; base-uri 'none'", "{what}");
            for (name, value) in [
                ("x-content-type-options", "nosniff"),
                ("x-frame-options", "DENY"),
                ("referrer-policy", "no-referrer"),
                ("cache-control", "no-store"),
                ("x-robots-tag", "noindex, nofollow"),
                ("cross-origin-opener-policy", "same-origin"),
                ("cross-origin-resource-policy", "same-origin"),
                ("strict-transport-security", if secure { "max-age=31536000" } else { "" }),
            ] {
                assert_eq!(seen.header(name), value, "{what}: {name}");
            }
            assert!(seen.header("permissions-policy").contains("camera=()"), "{what}");
            assert!(!seen.headers.contains_key("access-control-allow-origin"), "{what}");
            if seen.status != 303 && seen.status != 400 {
                assert!(seen.says("<html lang=\"en\">") && seen.says("<title>"), "{what}");
                assert_eq!(seen.body.matches("<h1>").count(), 1, "{what}");
                for word in ["<script", "javascript:", "onload", "onclick", "style=", "src="] {
                    assert!(!seen.says(word), "{what}: {word}");
                }
            }
        }
    }
}

/// The policy holds only if the hash is that of the style which stands in the page.
#[tokio::test]
async fn the_style_is_the_one_that_the_policy_names() {
    use base64::Engine as _;
    use sha2::Digest as _;
    let stage = stage().await;
    let seen = Browser::new(&stage).get("/login").await;
    let style = seen.body.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(style));
    assert!(seen.header("content-security-policy").contains(&format!("'sha256-{hash}'")));
}

#[tokio::test]
async fn what_is_typed_reaches_the_engine_and_comes_back_to_nobody() {
    let stage = stage().await;
    stage.begin("a", account_and_password());
    let browser = Browser::entered(&stage, "a").await;
    let page = browser.get("/login").await;
    for text in [
        "type=\"password\" autocomplete=\"current-password\"",
        "autocomplete=\"username\"",
        "for=\"password\"",
        "aria-describedby=\"account-hint\"",
        "<title>Sign in – Messenger bridge</title>",
        "@alice:example.org",
        "SCRAM",
    ] {
        assert!(page.says(text), "{text}: {}", page.body);
    }
    let Step::Fields(mut fields) = wrong_password("The server says that the password is wrong.") else { panic!() };
    // Even if it were handed over.
    fields[1].value = Some("wh3refore".to_owned());
    stage.then("a", Step::Fields(fields));
    let seen = browser.answer("account=juliet%40capulet.example&password=wh3refore+%26%3C%22").await;
    assert_eq!((seen.status, seen.header("location"), seen.body.as_str()), (303, "/login", ""));
    let given = [(FieldId::Account, "juliet@capulet.example"), (FieldId::Password, "wh3refore &<\"")];
    let given = given.into_iter().map(|(id, value)| (id, value.to_owned())).collect();
    assert_eq!(stage.given("a"), [(1, given)]);
    for _ in 0..2 {
        let page = browser.get("/login").await;
        assert!(!page.says("wh3refore"));
        for text in [
            "<title>Error: Sign in",
            "role=\"alert\"",
            "<a href=\"#password\">The server says that the password is wrong.</a>",
            "id=\"password-problem\">The server says",
            "aria-invalid=\"true\" aria-describedby=\"password-problem password-hint\" autofocus",
            "value=\"juliet@capulet.example\"",
        ] {
            assert!(page.says(text), "{text}: {}", page.body);
        }
    }
    assert_eq!(stage.given("a").len(), 1, "loading a page again repeats nothing");
    stage.then("a", done());
    assert_eq!(browser.answer("account=juliet%40capulet.example&password=right").await.status, 303);
    let page = browser.get("/login").await;
    assert!(page.says("<h1>Signed in</h1>") && page.says("juliet@capulet.example") && page.says("close this page"));
    assert!(!page.says("<form"), "nothing is left to do");
}

#[tokio::test]
async fn what_others_named_is_text_in_the_page() {
    let stage = stage().await;
    let evil = "\"><script>alert(1)</script><img src=x onerror=alert(1)>&amp;";
    let Step::Fields(mut fields) = account_and_password() else { panic!() };
    fields[0].value = Some(evil.to_owned());
    fields[0].problem = Some(evil.to_owned());
    fields[1].name = evil.to_owned();
    fields[1].description = evil.to_owned();
    stage.begin("a", Step::Fields(fields));
    stage.mend("a", |step| step.network = evil.to_owned());
    stage.begin("failed", Step::Failed { sentence: evil.to_owned() });
    stage.begin("link", Step::Link { authorize: format!("https://x.example/?{evil}"), returns: true, problem: None });
    stage.begin("script", Step::Link { authorize: "javascript:alert(1)".to_owned(), returns: true, problem: None });
    let mut pages = vec![Browser::new(&stage).get("/login/link-a.x").await];
    for name in ["a", "failed", "link", "script"] {
        pages.push(Browser::entered(&stage, name).await.get("/login").await);
    }
    for page in pages {
        assert_eq!(page.status, 200);
        assert!(!page.says("<script") && !page.says("<img") && !page.says("href=\"javascript"), "{}", page.body);
    }
}

/// Cross-site request forgery: a page of somebody else's has the visitor's browser send forms.
#[tokio::test]
async fn forms_that_another_site_sends_are_not_used() {
    let stage = stage().await;
    stage.begin("a", account_and_password());
    stage.begin("b", account_and_password());
    let browser = Browser::entered(&stage, "a").await;
    let page = browser.get("/login").await;
    let form = format!("form={}&step=1&account=mallory%40evil.example&password=x", page.hidden("form"));
    let ours = stage.url.clone();
    for (what, headers) in [
        ("another site's form", vec![("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")]),
        ("its form in a sandbox", vec![("origin", "null"), ("sec-fetch-site", "cross-site")]),
        (
            "a form of another host of the same domain",
            vec![("origin", "http://localhost"), ("sec-fetch-site", "same-site")],
        ),
        ("an old browser's", vec![("origin", "https://evil.example")]),
        ("one that hides where it is from", vec![("origin", "null")]),
        ("one that says nothing", vec![]),
        ("two that contradict each other", vec![("origin", &ours), ("sec-fetch-site", "cross-site")]),
        ("one typed into the address bar", vec![("sec-fetch-site", "none")]),
    ] {
        for path in ["/login", "/login/cancel", "/login/link-b.x"] {
            let mut request = browser.form(path, &form);
            for (name, value) in &headers {
                request = request.header(*name, *value);
            }
            let seen = Seen::read(request.send().await.unwrap()).await;
            assert_eq!(seen.status, 403, "{what}: {path}");
            assert!(seen.says("This was not sent from here"), "{what}: {}", seen.body);
            assert!(!seen.headers.contains_key("set-cookie"), "{what}");
        }
    }
    // Even where all of that were wrong, the form lacks its mark.
    for mark in ["", "form=&", "form=AAAA&"] {
        let seen = browser.post("/login", &format!("{mark}step=1&account=m&password=x")).await;
        assert_eq!(seen.status, 403, "{mark}");
        assert_eq!(browser.post("/login/cancel", mark).await.status, 403, "{mark}");
    }
    assert!(stage.given("a").is_empty() && !stage.is_used("b"));
    assert_eq!(browser.get("/login").await.status, 200, "nothing was cancelled");
    // A browser of today sends this of the page's own form, for it is told to send no `Referer`.
    let request = browser.form("/login", &form).header("origin", "null").header("sec-fetch-site", "same-origin");
    assert_eq!(request.send().await.unwrap().status(), 303);
    assert_eq!(stage.given("a").len(), 1);
}

#[tokio::test]
async fn a_form_of_one_sign_in_does_not_answer_another() {
    let stage = stage().await;
    stage.begin("a", account_and_password());
    stage.begin("b", account_and_password());
    let (a, b) = (Browser::entered(&stage, "a").await, Browser::entered(&stage, "b").await);
    let mark = a.get("/login").await.hidden("form");
    assert_ne!(mark, b.get("/login").await.hidden("form"));
    let form = format!("form={mark}&step=1&account=x%40y.example&password=x");
    let seen = b.post("/login", &form).await;
    assert_eq!(seen.status, 403);
    assert!(seen.says("Another sign-in was begun"));
    assert_eq!(b.post("/login/cancel", &form).await.status, 403);
    // Nor does a session that nobody was given, whatever its mark.
    let guessed = Browser { cookie: Some("sign-in=session-c.x".to_owned()), ..Browser::new(&stage) };
    assert_eq!(guessed.get("/login").await.status, 410);
    assert_eq!(guessed.post("/login", &form).await.status, 403);
    let nobody = Browser::new(&stage);
    assert_eq!(nobody.post("/login", &form).await.status, 404);
    assert!(stage.given("a").is_empty() && stage.given("b").is_empty());
}

/// Login CSRF (RFC 6749 section 10.12): somebody sends their own code, or their own link, to a person.
#[tokio::test]
async fn nobody_is_signed_in_by_the_code_of_someone_else() {
    let stage = stage().await;
    stage.begin("a", provider(true, None));
    let nobody = Browser::new(&stage);
    let seen = nobody.get("/login/return?code=mallorys&state=mallorys").await;
    assert_eq!((seen.status, seen.header("location")), (303, "/login/elsewhere"));
    let seen = nobody.get("/login/elsewhere").await;
    assert_eq!(seen.status, 403);
    assert!(seen.says("begun in another browser"));
    // In the person's own browser the engine is told both, and it knows the state of this sign-in.
    let browser = Browser::entered(&stage, "a").await;
    stage.then("a", provider(true, Some("That does not belong to this sign-in.")));
    let seen = browser.get("/login/return?code=mallorys&state=mallorys").await;
    assert_eq!((seen.status, seen.header("location")), (303, "/login"));
    let address = format!("{}/login/return?code=mallorys&state=mallorys", stage.url);
    assert_eq!(stage.given("a"), [(1, [(FieldId::Redirect, address)].into())]);
    let seen = browser.get("/login").await;
    assert!(
        seen.says("That does not belong to this sign-in.") && seen.says("Go to login.example.com"),
        "{}",
        seen.body
    );
    assert!(!seen.says("mallorys"));
    // A token has no state: it could be anybody's. It stands behind a `#`, and nothing of that is handed on.
    stage.then("a", provider(true, None));
    let host = stage.url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(host).await.unwrap();
    let cookie = browser.cookie.as_ref().unwrap();
    let request = "GET /login/return?x=y#access_token=mallorys HTTP/1.1";
    let request = format!("{request}\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    socket.read_to_string(&mut String::new()).await.unwrap();
    let given = stage.given("a");
    assert!(given[1..].iter().all(|(_, fields)| !fields[&FieldId::Redirect].contains("mallorys")), "{given:?}");
}

#[tokio::test]
async fn the_way_over_the_provider_leaves_no_code_in_the_address_bar() {
    let stage = stage().await;
    stage.begin("a", provider(true, None));
    let browser = Browser::entered(&stage, "a").await;
    let page = browser.get("/login").await;
    let href = "href=\"https://login.example.com/authorize?client_id=1&amp;state=st%2Fate&amp;code_challenge=c\" rel=\"noreferrer\"";
    assert!(page.says(href) && page.says("Sign in at login.example.com"), "{}", page.body);
    let long = format!("/login/return?code={}", "x".repeat(LONGEST_RETURN));
    assert_eq!(browser.get(&long).await.status, 414);
    assert!(stage.given("a").is_empty());
    stage.then("a", done());
    let path = "/login/return?code=c%2Bo%20de+&state=st%2Fate&iss=https%3A%2F%2Fx";
    let seen = browser.get(path).await;
    assert_eq!((seen.status, seen.header("location"), seen.body.as_str()), (303, "/login", ""));
    assert_eq!(stage.given("a"), [(1, [(FieldId::Redirect, format!("{}{path}", stage.url))].into())], "as it came");
    // Loaded once more, or by whatever looks ahead, it repeats nothing.
    let seen = browser.get(path).await;
    assert_eq!((seen.status, seen.header("location")), (303, "/login"));
    assert_eq!(stage.given("a").len(), 1);
}

#[tokio::test]
async fn where_nobody_is_sent_back_the_address_is_pasted() {
    let stage = stage().await;
    stage.begin("a", provider(false, None));
    let browser = Browser::entered(&stage, "a").await;
    let page = browser.get("/login").await;
    assert!(page.says("target=\"_blank\" rel=\"noopener noreferrer\"") && page.says("name=\"redirect\""));
    stage.then("a", provider(false, Some("No sign-in came back with that.")));
    assert_eq!(browser.answer("redirect=n0nsense").await.status, 303);
    let seen = browser.get("/login").await;
    assert!(seen.says("id=\"redirect-problem\">No sign-in came back with that.") && !seen.says("n0nsense"));
    stage.then("a", done());
    assert_eq!(browser.answer("redirect=https%3A%2F%2Fx%2F%3Fcode%3D1").await.status, 303);
    let given: Vec<_> =
        stage.given("a").into_iter().map(|(step, fields)| (step, fields[&FieldId::Redirect].clone())).collect();
    assert_eq!(given, [(1, "n0nsense".to_owned()), (2, "https://x/?code=1".to_owned())]);
}

#[tokio::test]
async fn a_step_that_takes_long_is_waited_for_without_a_script() {
    let patience = Patience { step: Duration::from_millis(100), ..patient() };
    let stage = PageStage::start("127.0.0.1", None, patience).await;
    stage.begin("a", account_and_password());
    let browser = Browser::entered(&stage, "a").await;
    stage.then("a", Step::Wait);
    // The form does not keep the browser for long.
    let seen = browser.answer("account=a%40b.example&password=x").await;
    assert_eq!((seen.status, seen.header("location")), (303, "/login"));
    let page = browser.get("/login").await;
    assert!(page.says("<meta http-equiv=\"refresh\" content=\"0; url=/login/wait\">"), "{}", page.body);
    assert!(page.says("Signing in…") && page.says("role=\"status\""));
    let before = stage.waiting("a");
    let waiting = browser.request(Method::GET, "/login/wait").send();
    let news = async {
        while stage.waiting("a") == before {
            tokio::task::yield_now().await;
        }
        stage.advance("a", done());
    };
    let both = async { tokio::join!(waiting, news) };
    let (seen, ()) = tokio::time::timeout(Duration::from_mins(1), both).await.unwrap();
    let seen = Seen::read(seen.unwrap()).await;
    assert_eq!((seen.status, seen.header("location")), (303, "/login"));
    assert!(browser.get("/login").await.says("<h1>Signed in</h1>"));
    // Where there is nothing to wait for, it does not wait.
    assert_eq!(browser.get("/login/wait").await.header("location"), "/login");
}

#[tokio::test]
async fn a_browser_that_waits_does_not_come_more_often_than_it_may() {
    let pause = Duration::from_millis(300);
    let stage = PageStage::start("127.0.0.1", None, Patience { wait: Duration::ZERO, pause, ..patient() }).await;
    stage.begin("a", Step::Wait);
    let browser = Browser::entered(&stage, "a").await;
    let began = std::time::Instant::now();
    let seen = browser.get("/login/wait").await;
    assert_eq!((seen.status, seen.header("location")), (303, "/login"));
    assert!(began.elapsed() >= pause, "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_answer_to_a_step_that_is_over_is_not_used() {
    let stage = stage().await;
    stage.begin("a", account_and_password());
    let browser = Browser::entered(&stage, "a").await;
    let page = browser.get("/login").await;
    let form = format!("form={}&step={}&account=a%40b.example&password=x", page.hidden("form"), page.hidden("step"));
    stage.then("a", wrong_password("No."));
    assert_eq!(browser.post("/login", &form).await.status, 303);
    // The same once more, as with a double click, or "back" and "send again".
    let seen = browser.post("/login", &form).await;
    assert_eq!((seen.status, seen.header("location")), (303, "/login"));
    assert_eq!(stage.given("a").len(), 1);
}

#[tokio::test]
async fn a_sign_in_that_is_given_up_or_has_ended_leaves_no_cookie() {
    let stage = stage().await;
    stage.begin("a", account_and_password());
    stage.begin("b", account_and_password());
    let browser = Browser::entered(&stage, "a").await;
    let mark = browser.get("/login").await.hidden("form");
    let seen = browser.post("/login/cancel", &format!("form={mark}")).await;
    assert_eq!(seen.status, 200);
    assert!(seen.says("The sign-in is cancelled"));
    let gone = "sign-in=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax";
    assert_eq!(seen.header("set-cookie"), gone);
    let again = browser.post("/login/cancel", &format!("form={mark}")).await;
    assert_eq!((again.status, again.header("set-cookie")), (410, gone));

    let browser = Browser::entered(&stage, "b").await;
    let mark = browser.get("/login").await.hidden("form");
    stage.end("b");
    let late = browser.post("/login", &format!("form={mark}&step=1&password=x")).await;
    for seen in [browser.get("/login").await, late] {
        assert_eq!((seen.status, seen.header("set-cookie")), (410, gone));
        assert!(seen.says("This sign-in has ended"));
    }
    assert_eq!(browser.get("/login/return?code=1").await.header("location"), "/login");
}

#[tokio::test]
async fn a_form_is_bounded_in_size_in_time_and_in_kind() {
    let stage = stage().await;
    stage.begin("a", account_and_password());
    let browser = Browser::entered(&stage, "a").await;
    let mark = browser.get("/login").await.hidden("form");
    let fitting = format!("form={mark}&step=1&password=");
    let large = format!("{fitting}{}", "x".repeat(LARGEST_FORM));
    assert_eq!(browser.post("/login", &large).await.status, 413);
    assert_eq!(browser.post("/login/cancel", &large).await.status, 413);
    // Without a length, piece by piece.
    let pieces: Vec<Result<_, std::io::Error>> =
        vec![Ok(fitting.clone()), Ok("x".repeat(LARGEST_FORM)), Ok("x".into())];
    let request = browser
        .request(Method::POST, "/login")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("origin", &browser.origin)
        .body(reqwest::Body::wrap_stream(futures::stream::iter(pieces)));
    assert_eq!(request.send().await.unwrap().status(), 413);
    for (mime, status) in [("multipart/form-data", 415), ("application/json", 415), ("text/plain", 415)] {
        let request = browser.request(Method::POST, "/login").header("origin", &browser.origin);
        let seen = request.header("content-type", mime).body(fitting.clone()).send().await.unwrap();
        assert_eq!(seen.status(), status, "{mime}");
    }
    for odd in ["password=b", "step=2", "account=%FF"] {
        assert_eq!(browser.post("/login", &format!("{fitting}a&{odd}&{odd}")).await.status, 400, "{odd}");
    }
    assert_eq!(browser.post("/login", &format!("form={mark}")).await.status, 400, "which step?");
    assert!(stage.given("a").is_empty());
    let just = "x".repeat(LARGEST_FORM - fitting.len());
    assert_eq!(browser.post("/login", &format!("{fitting}{just}")).await.status, 303);
    assert_eq!(stage.given("a")[0].1[&FieldId::Password].len(), just.len());

    // A body that does not come.
    let patience = Patience { form: Duration::from_millis(100), ..patient() };
    let stage = PageStage::start("127.0.0.1", None, patience).await;
    let mut slow = dangling(&stage).await;
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("did not arrive in time"));
}

/// A form of which the last byte is missing.
async fn dangling(stage: &PageStage) -> TcpStream {
    let host = stage.url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(host).await.unwrap();
    let head = format!(
        "POST /login HTTP/1.1\r\nHost: {host}\r\nOrigin: {}\r\nConnection: close\r\nContent-Length: 3\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\na=",
        stage.url
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

#[tokio::test]
async fn so_many_come_in_at_once_and_no_more() {
    let stage = PageStage::start("127.0.0.1", None, patient()).await;
    stage.begin("a", account_and_password());
    let browser = Browser::new(&stage);
    let mut crowd = Vec::new();
    for _ in 0..AT_ONCE {
        crowd.push(dangling(&stage).await);
    }
    // Those of the crowd are let in as their first bytes are read.
    let refused = loop {
        let seen = browser.get("/login/link-a.x").await;
        if seen.status == 503 {
            break seen;
        }
        assert_eq!(seen.status, 200);
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, "5"));
    assert!(refused.says("try again in a moment"));
    assert!(refused.header("content-security-policy").contains("default-src 'none'"));
    drop(crowd);
    loop {
        match browser.get("/login/link-a.x").await.status {
            200 => break,
            status => assert_eq!(status, 503),
        }
    }
}

#[tokio::test]
async fn when_the_engine_does_not_answer_one_is_told_to_come_again() {
    let stage = PageStage::start("127.0.0.1", None, patient()).await;
    stage.begin("a", account_and_password());
    let browser = Browser::entered(&stage, "a").await;
    stage.stop().await;
    for path in ["/login", "/login/link-a.x", "/login/wait"] {
        let seen = browser.get(path).await;
        assert_eq!((seen.status, seen.header("retry-after")), (503, "5"), "{path}");
        assert!(seen.says("being restarted") && seen.says("href=\"\">Try again<"), "{path}: {}", seen.body);
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_its_own_words() {
    let stage = stage().await;
    stage.begin("a", account_and_password());
    let browser = Browser::entered(&stage, "a").await;
    for (code, status) in [(RefusalCode::TooMany, 409), (RefusalCode::NoPermission, 403), (RefusalCode::NotNow, 503)] {
        stage.refuse("a", code, "You have as many as you may have.");
        let seen = browser.answer("account=a%40b.example&password=x").await;
        assert_eq!(seen.status, status);
        assert!(seen.says("You have as many as you may have."));
    }
    stage.refuse("a", RefusalCode::Unreadable, "That is not an address.");
    let seen = browser.answer("account=a&password=x").await;
    assert_eq!(seen.status, 422);
    assert!(seen.says("role=\"alert\"><p>That is not an address.</p>") && seen.says("name=\"password\""));
}
