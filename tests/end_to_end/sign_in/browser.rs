//! A person's browser: a headless Chromium without scripts.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::end_to_end::clients::Driver;
use crate::end_to_end::ground;

/// It.
pub struct Browser(Driver);

/// The size of its window and the scheme of its colours.
pub type Window = (u32, u32, &'static str);

impl Browser {
    /// One with a wide window in light colours.
    pub fn open() -> Self {
        let mut command = Command::new("node");
        command.arg(ground::repository("tests/end_to_end/sign_in/browser.mjs"));
        let chromium = env::var_os("CHROMIUM").unwrap_or_else(|| OsString::from("/usr/bin/chromium"));
        command.env("CHROMIUM", chromium).env("BROWSER_TOOLS", ground::repository(".tools/browser"));
        let browser = Self(Driver::run("browser", command));
        browser.fresh((1280, 800, "light"));
        browser
    }

    /// As it comes new.
    pub fn fresh(&self, window: Window) {
        self.renew(window, false);
    }

    /// The same with scripts, which axe needs to look at a page.
    pub fn fresh_with_scripts(&self, window: Window) {
        self.renew(window, true);
    }

    fn renew(&self, (width, height, scheme): Window, scripts: bool) {
        self.0.call("fresh", json!({"width": width, "height": height, "scheme": scheme, "scripts": scripts}));
    }

    pub fn resize(&self, (width, height, scheme): Window) {
        self.0.call("resize", json!({"width": width, "height": height, "scheme": scheme}));
    }

    pub fn visit(&self, url: &str) {
        self.0.call("visit", json!({"url": url}));
    }

    /// Opens an address in another tab, clicks there, and comes back to this one.
    pub fn second_tab(&self, url: &str, clicked: &str) {
        self.0.call("second_tab", json!({"url": url, "clicked": clicked}));
    }

    pub fn reload(&self) {
        self.0.call("reload", json!({}));
    }

    pub fn sees(&self, text: &str) {
        self.0.call("sees", json!({"text": text}));
    }

    pub fn fill(&self, label: &str, text: &str) {
        self.0.call("fill", json!({"label": label, "text": text}));
    }

    pub fn clicks(&self, name: &str) {
        self.0.call("click", json!({"name": name}));
    }

    /// The same without awaiting the page that comes of it.
    pub fn clicks_hastily(&self, name: &str) {
        self.0.call("click", json!({"name": name, "hasty": true}));
    }

    pub fn follows(&self, link: &str) {
        self.0.call("click", json!({"role": "link", "name": link}));
    }

    pub fn press(&self, key: &str) {
        self.0.call("press", json!({"key": key}));
    }

    pub fn types(&self, text: &str) {
        self.0.call("type", json!({"text": text}));
    }

    /// What has the focus.
    pub fn focus(&self) -> Value {
        self.0.call("focus", json!({}))
    }

    /// `title`, `text`, `html`, `url`, and `overflow`: pixels that do not fit into the window's width.
    pub fn page(&self) -> Value {
        self.0.call("page", json!({}))
    }

    pub fn title(&self) -> String {
        self.page()["title"].as_str().unwrap_or_default().to_owned()
    }

    pub fn url(&self) -> String {
        self.page()["url"].as_str().unwrap_or_default().to_owned()
    }

    /// The title that its window shows, also while the next page is on its way.
    pub fn window_title(&self) -> String {
        self.0.call("frame", json!({}))["title"].as_str().unwrap_or_default().to_owned()
    }

    /// There is nothing new at such an address (with `*`) from now on: the browser stays where it is.
    pub fn still(&self, address: &str) {
        self.0.call("still", json!({"address": address}));
    }

    /// What stands in its console of errors, such as what a policy stopped. That a page has a status of its own, and that a site
    /// has no icon, is told there too, and is left out.
    pub fn complaints(&self) -> Vec<String> {
        let all = self.0.call("complaints", json!({})).as_array().cloned().unwrap_or_default();
        let all = all.iter().filter_map(|complaint| complaint.as_str());
        all.filter(|complaint| !complaint.starts_with("Failed to load resource: the server responded with a status"))
            .map(str::to_owned)
            .collect()
    }

    pub fn cookies(&self) -> Value {
        self.0.call("cookies", json!({}))
    }

    /// `method`, `url` and `referer` of each.
    pub fn requests(&self) -> Vec<Value> {
        self.0.call("requests", json!({})).as_array().cloned().unwrap_or_default()
    }

    /// Panics if axe finds something wrong with the page, or something that it cannot judge.
    pub fn is_accessible(&self, what: &str) {
        let found = self.0.call("axe", json!({}));
        assert_eq!((&found["violations"], &found["incomplete"]), (&json!([]), &json!([])), "{what}");
        assert!(found["passes"].as_u64().is_some_and(|passes| passes > 10), "axe looked at nothing: {found}");
    }

    pub fn picture(&self, file: &Path) {
        self.0.call("picture", json!({"file": file}));
    }

    pub fn sheet(&self, narrow: &[&Path], wide: &[&Path], file: &Path) {
        self.0.call("sheet", json!({"narrow": narrow, "wide": wide, "file": file}));
    }
}
