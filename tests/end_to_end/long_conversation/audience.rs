//! Who looks on, if `script/conversation` invites them: a web client of Matrix in a browser, as Romeo has it before him. What
//! it shows is kept as pictures in the folder that `CONVERSATION` names.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::terminal::Terminal;
use crate::end_to_end::clients::Driver;
use crate::end_to_end::ground;
use crate::end_to_end::servers::Account;
use crate::end_to_end::servers::synapse::User;

/// The size of the browser's window. It is tall, so that one picture shows a whole scene.
const WINDOW: (u32, u32) = (1080, 1180);

/// The web client, and where pictures go.
pub struct Audience {
    browser: Driver,
    folder: PathBuf,
}

impl Audience {
    /// Opens the web client as this user, if there is to be an audience.
    pub fn invited(user: &User, password: &str) -> Option<Self> {
        let folder = PathBuf::from(env::var_os("CONVERSATION")?);
        fs::create_dir_all(&folder).expect("a folder for the pictures");
        let mut command = Command::new("node");
        command.arg(ground::repository("tests/end_to_end/long_conversation/browser.mjs"));
        let browser = Driver::run("browser", command);
        let (width, height) = WINDOW;
        browser.call(
            "open",
            json!({
                "homeserver": user.homeserver, "user": user.id, "password": password, "width": width, "height": height,
            }),
        );
        Some(Self { browser, folder })
    }

    /// Looks at another page of the web client.
    pub fn visits(&self, path: &str) {
        self.browser.call("visit", json!({"at": path}));
    }

    /// Keeps what the web client shows, once it shows this text.
    pub fn picture(&self, name: &str, text: &str) {
        self.browser.call("sees", json!({"text": text}));
        self.browser.call("picture", json!({"file": self.folder.join(format!("{name}.png"))}));
    }

    /// Juliet opens profanity beside her other app.
    pub fn opens_profanity(&self, account: &Account) -> Terminal {
        Terminal::open(account, &self.folder)
    }
}
