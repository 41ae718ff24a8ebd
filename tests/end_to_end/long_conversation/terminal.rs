//! Juliet at a terminal: profanity, which knows little of what apps can do today. What it shows is kept as text.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::stage::Stage;
use super::things::{MOON, ROSE};
use crate::end_to_end::certificates::Authority;
use crate::end_to_end::ground;
use crate::end_to_end::process::{self, Process};
use crate::end_to_end::servers::{Account, PASSWORD};

/// Columns and lines of the terminal. It is tall, so that nothing scrolls away.
const SIZE: [&str; 2] = ["92", "60"];

/// Where tmux listens, in its folder.
const SOCKET: &str = "tmux.sock";

/// profanity in a terminal of tmux.
pub struct Terminal {
    folder: PathBuf,
    kept_in: PathBuf,
    _server: Process,
}

impl Terminal {
    /// Signs in, with the conversation before her.
    pub fn open(account: &Account, kept_in: &Path) -> Self {
        let folder = ground::folder("profanity");
        let ca = Authority::trusted().file();
        for (file, text) in [
            (
                "config/profanity/profrc",
                "[ui]\nsplash=false\nroster=false\ntime.chat=%H:%M\ntime.console=%H:%M\n".to_owned(),
            ),
            (
                "data/profanity/accounts",
                format!(
                    "[juliet]\nenabled=true\njid={}\nresource=profanity\nserver=127.0.0.1\nport={}\npassword={PASSWORD}\n\
                     tls.policy=force\npresence.login=online\npriority.online=0\n",
                    account.jid, account.reach.starttls
                ),
            ),
        ] {
            let file = folder.join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("profanity's folders");
            fs::write(file, text).expect("profanity's files");
        }
        let [columns, lines] = SIZE;
        let start = format!("new-session -d -x {columns} -y {lines} profanity\n");
        fs::write(folder.join("tmux.conf"), start).expect("what tmux starts");
        let mut command = Command::new("tmux");
        command.args(["-S", SOCKET, "-f", "tmux.conf", "-D"]).current_dir(&folder);
        command.env("HOME", &folder).env("XDG_CONFIG_HOME", folder.join("config"));
        command.env("XDG_DATA_HOME", folder.join("data")).env("LC_ALL", "C.UTF-8").env("SSL_CERT_FILE", &ca);
        let server = Process::start("tmux", command, &folder.join("tmux.log"));
        let terminal = Self { folder, kept_in: kept_in.to_owned(), _server: server };
        terminal.shows("Profanity");
        terminal.types(&format!("/tls certpath set {}", ca.parent().expect("a folder").display()));
        for setting in [
            "/carbons on",
            "/receipts send on",
            "/receipts request on",
            "/outtype on",
            "/correction on",
            "/resource message off",
        ] {
            terminal.types(setting);
        }
        terminal.types("/connect juliet");
        terminal.shows("logged in successfully");
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-S", SOCKET]).args(arguments).env("LC_ALL", "C.UTF-8").current_dir(&self.folder);
        command
    }

    /// Types a line.
    pub fn types(&self, line: &str) {
        self.keys(line);
        process::run(&mut self.tmux(&["send-keys", "Enter"]));
    }

    /// Types without the return key.
    pub fn keys(&self, text: &str) {
        process::run(&mut self.tmux(&["send-keys", "-l", "--", text]));
    }

    /// What stands on the screen; nothing before there is one.
    fn screen(&self) -> String {
        let captured = self.tmux(&["capture-pane", "-p"]).output().expect("start tmux");
        String::from_utf8_lossy(&captured.stdout).into_owned()
    }

    /// Awaits that a text stands on the screen, in however many lines.
    pub fn shows(&self, text: &str) {
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let wanted = flat(text);
        let there = ground::poll(|| flat(&self.screen()).contains(&wanted));
        assert!(there, "{text:?} is not on profanity's screen:\n{}", self.screen());
    }

    /// Keeps the screen as text, without its empty middle.
    pub fn keeps(&self, name: &str) {
        let mut screen: Vec<String> = self.screen().lines().map(|line| line.trim_end().to_owned()).collect();
        screen.dedup_by(|line, before| line.is_empty() && before.is_empty());
        let file = self.kept_in.join(format!("{name}.txt"));
        fs::write(file, screen.join("\n").trim_end().to_owned() + "\n").expect("keep the screen");
    }
}

/// What Romeo does arrives in words, and what Juliet's other app does shows beside it.
pub fn reads_what_it_does_not_know(stage: &Stage<'_>, terminal: &Terminal) {
    // It shows itself some time after it says that it is there.
    let own = format!("{}/profanity", stage.juliet.jid);
    stage.juliet.expect("profanity on line", |event| event["event"] == "presence" && event["from"] == own.as_str());
    terminal.types("/status set online \"At the terminal\"");
    // With another app of hers there, which knows it all, nothing would be put into words.
    stage.juliet.call("presence", json!({"type": "unavailable"}));
    stage.person.expect("Juliet at the terminal", |event| {
        event["event"] == "presence"
            && event["user"] == stage.portal.ghost.as_str()
            && event["status"] == "At the terminal"
    });
    terminal.types(&format!("/msg {}", stage.romeo.jid));
    terminal.types("The nurse has my phone. I am at the old terminal.");
    let asked = stage.person.hears(&stage.portal.room, "The nurse has my phone. I am at the old terminal.");
    let event = &asked["event_id"];
    stage.answers(event, "Then I shall speak plainly.");
    terminal.shows("Then I shall speak plainly.");
    stage.reacts(event, "🕯");
    terminal.shows("🕯");
    let said = stage.person.say(&stage.portal.room, "I have nights cloak to hide me");
    terminal.shows("I have nights cloak");
    stage.changes(&said, "I have night’s cloak to hide me from their eyes.");
    terminal.shows("I have night’s cloak to hide me from their eyes.");
    let said = stage.person.say(&stage.portal.room, "Your cousin Tybalt is a bore.");
    terminal.shows("Tybalt is a bore");
    stage.takes_back(&said);
    stage.is_told(&stage.portal.room, "cannot take messages back");
    stage.sends(&json!({"msgtype": "m.emote", "body": "climbs the wall"}));
    terminal.shows("climbs the wall");
    let picture = json!({"msgtype": "m.image", "filename": "balcony.png", "body": "Is this your window?", "info": {"w": 420, "h": 260}});
    stage.shares("balcony.png", "image/png", MOON, &picture);
    terminal.shows("Is this your window?");
    stage.shares("rose.png", "image/png", ROSE, &json!({"body": "a rose", "info": {"w": 160, "h": 160}}));
    stage.sends(&json!({"msgtype": "m.location", "body": "Mantua", "geo_uri": "geo:45.1564,10.7914"}));
    terminal.shows("geo:45.1564,10.7914");
    stage.sends(&json!({
        "msgtype": "m.text", "body": "…", "format": "org.matrix.custom.html",
        "formatted_body": "<p>With <strong>love’s light wings</strong>:</p><ol><li>o’er-perch these walls</li>\
                           <li>read <a href=\"https://en.wikipedia.org/wiki/Verona\">the map</a></li></ol>\
                           <blockquote><p>stony limits cannot hold love out</p></blockquote>\
                           <p><span data-mx-spoiler=\"act five\">they die</span></p>",
    }));
    terminal.shows("they die");
    stage.person.say(&stage.portal.room, "!msgr nudge");
    stage.is_told(&stage.portal.room, "does not know nudges");
    stage.picture("to-profanity", "does not know nudges");
}

/// What Juliet types there.
pub fn writes(stage: &Stage<'_>, terminal: &Terminal) {
    terminal.keys("They will m");
    stage.person.expect("Juliet typing", |event| {
        event["event"] == "typing"
            && event["room"] == stage.portal.room.as_str()
            && event["users"] == json!([stage.portal.ghost])
    });
    terminal.types("urther thee.");
    let event = stage.person.hears(&stage.portal.room, "They will murther thee.")["event_id"].clone();
    terminal.types("/correct If they do see thee, they will murder thee.");
    let edit = stage.sees("the correction", |told| {
        told["content"]["m.new_content"]["body"] == "If they do see thee, they will murder thee."
    });
    assert_eq!(edit["relates_to"]["event_id"], event, "{edit}");
    terminal.types("/me draws the curtain");
    stage.sees("the action", |told| told["msgtype"] == "m.emote" && told["body"] == "draws the curtain");
    fs::write(terminal.folder.join("curtain.png"), MOON).expect("a file to send");
    terminal.types("/sendfile curtain.png");
    stage.sees("the file", |told: &Value| told["msgtype"] == "m.image" && told["content"]["url"].is_string());
    terminal.types("/status set away \"The nurse is coming\"");
    stage
        .person
        .expect("Juliet's status", |event| event["event"] == "presence" && event["status"] == "The nurse is coming");
    stage.person.call("typing", json!({"room": stage.portal.room}));
    terminal.shows("typing...");
    terminal.shows("/curtain.png");
    terminal.keeps("profanity");
    stage.person.call("typing", json!({"room": stage.portal.room, "typing": false}));
    stage.juliet.show(None, Some("At the window"));
    terminal.types("/quit");
    stage
        .person
        .expect("Juliet at the window", |event| event["event"] == "presence" && event["status"] == "At the window");
}
