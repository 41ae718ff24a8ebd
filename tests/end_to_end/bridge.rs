//! The real binary between a Synapse of its own and the XMPP servers of a test.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;

use serde_json::{Value, json};

use super::certificates::Authority;
use super::clients::{Mark, Person};
use super::ground::{self, Port};
use super::http;
use super::process::{self, Process};
use super::servers::{PASSWORD, Reach, Synapse};

/// A homeserver and a bridge that it knows.
#[derive(Debug)]
pub struct Bridge {
    pub synapse: Synapse,
    folder: PathBuf,
    port: Port,
    /// What runs the program: a program with arguments, to which the bridge's command line is added; empty: nothing.
    runner: Vec<String>,
    process: Mutex<Option<Process>>,
}

/// Where a bridge and its homeserver are, and what stands between them.
#[derive(Debug)]
pub struct Plan {
    pub folder: PathBuf,
    /// Where the bridge listens.
    pub port: Port,
    /// Where Synapse listens.
    pub synapse: Port,
    /// The port at which the bridge reaches the homeserver.
    pub homeserver: u16,
    /// The port at which the homeserver reaches the bridge.
    pub appservice: u16,
    /// See [`Bridge`].
    pub runner: Vec<String>,
    /// Keys of the homeserver's configuration, an object.
    pub settings: Value,
}

impl Plan {
    /// Nothing in between, in a new folder whose name begins with `name`.
    pub fn new(name: &str) -> Self {
        let (port, synapse) = (Port::reserve(), Port::reserve());
        let (homeserver, appservice) = (synapse.number(), port.number());
        Self {
            folder: ground::folder(name),
            port,
            synapse,
            homeserver,
            appservice,
            runner: Vec::new(),
            settings: json!({}),
        }
    }
}

/// A person's direct chat with the bot.
#[derive(Debug)]
pub struct Management<'a> {
    person: &'a Person,
    room: String,
}

/// A person's direct chat with one contact, as seen from Matrix.
#[derive(Debug, Clone)]
pub struct Portal {
    pub room: String,
    /// The contact's ghost.
    pub ghost: String,
}

impl Bridge {
    /// The MXID of the bridge's bot.
    pub const BOT: &str = "@messengerbot:hs.test";

    /// Starts Synapse and the bridge, and awaits both. `domains` says where XMPP domains are reached (see [`starttls`]
    /// and [`direct_tls`]).
    pub fn start(name: &str, domains: &Value) -> Self {
        Self::start_on(name, &json!({"xmpp": {"profile": "xmpp", "domains": domains}}))
    }

    /// The same with the whole of `networks`.
    pub fn start_on(name: &str, networks: &Value) -> Self {
        Self::start_as_planned(Plan::new(name), networks, &json!({}))
    }

    /// The same with sections of the configuration replaced.
    pub fn start_with(name: &str, networks: &Value, sections: &Value) -> Self {
        Self::start_as_planned(Plan::new(name), networks, sections)
    }

    /// The same with double puppeting; `installed`: on the homeserver, too.
    pub fn start_puppets(name: &str, domains: &Value, installed: bool) -> Self {
        let networks = json!({"xmpp": {"profile": "xmpp", "domains": domains}});
        let sections = json!({"double_puppet": {"registration": "./doublepuppet.yaml"}});
        let registrations: &[&str] =
            if installed { &["registration.yaml", "doublepuppet.yaml"] } else { &["registration.yaml"] };
        Self::start_registered(Plan::new(name), &networks, &sections, registrations)
    }

    /// The same where `plan` says.
    pub fn start_as_planned(plan: Plan, networks: &Value, sections: &Value) -> Self {
        Self::start_registered(plan, networks, sections, &["registration.yaml"])
    }

    /// The same with these of its registrations installed on the homeserver.
    pub fn start_registered(plan: Plan, networks: &Value, sections: &Value, registrations: &[&str]) -> Self {
        let Plan { folder, port, synapse, homeserver, appservice, runner, settings } = plan;
        let mut config = json!({
            "homeserver": {"address": format!("http://127.0.0.1:{homeserver}"), "domain": Synapse::DOMAIN},
            "appservice": {
                "listen": format!("127.0.0.1:{port}"), "address": format!("http://127.0.0.1:{appservice}"),
                "bot": {"localpart": "messengerbot", "displayname": "Messenger bridge"},
            },
            "store": {"path": "./data", "key_file": "./data.key"},
            "permissions": {Synapse::DOMAIN: "user"},
            "networks": networks,
            "portals": {"create": "contacts", "per_second": 20},
            "logging": {"level": "debug", "format": "text"},
        });
        for (section, value) in sections.as_object().into_iter().flatten() {
            config[section] = value.clone();
        }
        // JSON is YAML.
        fs::write(folder.join("config.yaml"), config.to_string()).expect("write the bridge's config");
        let generated = run_program(&folder, &["generate-registration"]);
        assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));
        let registrations: Vec<PathBuf> = registrations.iter().map(|name| folder.join(name)).collect();
        let registrations: Vec<&Path> = registrations.iter().map(PathBuf::as_path).collect();
        let synapse = Synapse::start("synapse", synapse, &registrations, &settings);
        let bridge = Self { synapse, folder, port, runner, process: Mutex::new(None) };
        bridge.launch();
        bridge
    }

    /// Starts it again on the same folder and awaits that the homeserver and it know each other.
    pub fn launch(&self) {
        self.launch_as(self.runner());
    }

    fn launch_as(&self, command: Command) {
        let mut process = self.spawn(command);
        let port = self.port.number();
        process.await_ready(|| http::get(port, "/_matrix/mau/ready").is_ok_and(|answer| answer.status == 200));
        *self.process.lock().expect("no test panicked in here") = Some(process);
    }

    /// Starts it, awaits that it refuses to run, and returns the end of its log.
    pub fn refuses_to_run(&self) -> String {
        let mut process = self.spawn(self.runner());
        let status = process.wait();
        assert!(!status.success(), "the bridge ended with {status}; its log:\n{}", process.log_tail());
        process.log_tail()
    }

    fn spawn(&self, mut command: Command) -> Process {
        command.arg("run").args(FILES).current_dir(&self.folder);
        Process::start("the bridge", command, &self.log())
    }

    fn runner(&self) -> Command {
        let Some((runner, arguments)) = self.runner.split_first() else { return program() };
        let mut command = Command::new(runner);
        command.args(arguments).arg(program().get_program());
        command
    }

    /// The same under strace, which writes what the process asks of the system into `trace` in its folder.
    pub fn launch_traced(&self) {
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-yy", "-s", "4096", "-o", "trace"]);
        command.args(["-e", "trace=fsync,fdatasync,read,recvfrom,write,writev,sendto,sendmsg"]);
        command.arg(env!("CARGO_BIN_EXE_messenger-bridge"));
        self.launch_as(command);
    }

    /// `kill -9`.
    pub fn kill(&self) {
        self.process.lock().expect("no test panicked in here").take();
    }

    /// SIGTERM; panics unless it ends in order.
    pub fn terminate(&self) {
        let mut process = self.process.lock().expect("no test panicked in here");
        if let Some(mut process) = process.take() {
            process.signal("TERM");
            let status = process.wait();
            assert!(status.success(), "the bridge ended with {status}; its log:\n{}", process.log_tail());
        }
    }

    /// The most memory that was resident since this was last asked, in kB.
    pub fn peak_memory(&self) -> i64 {
        let process = self.process.lock().expect("no test panicked in here");
        let folder = format!("/proc/{}", process.as_ref().expect("it runs").id());
        let status = fs::read_to_string(format!("{folder}/status")).expect("read its status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
        fs::write(format!("{folder}/clear_refs"), "5").expect("forget its peak");
        peak.trim().trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// A new person on the homeserver.
    pub fn person(&self, stem: &str) -> Person {
        Person::login(&self.synapse.user(stem))
    }

    /// The id of its process, while it runs.
    pub fn pid(&self) -> u32 {
        self.process.lock().expect("no test panicked in here").as_ref().expect("it runs").id()
    }

    /// Sends it a signal (`"HUP"`).
    pub fn signal(&self, signal: &str) {
        self.process.lock().expect("no test panicked in here").as_ref().expect("it runs").signal(signal);
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How long its log is, in bytes.
    pub fn log_length(&self) -> u64 {
        self.log().metadata().map_or(0, |meta| meta.len())
    }

    /// Whether its log holds this beyond so many bytes.
    pub fn logged_since(&self, length: u64, text: &str) -> bool {
        let mut log = fs::File::open(self.log()).expect("the bridge's log");
        log.seek(SeekFrom::Start(length)).expect("the bridge's log");
        let mut news = String::new();
        log.read_to_string(&mut news).is_ok() && news.contains(text)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("bridge.log")
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the bridge's log {} ends so:\n{}", self.log().display(), process::tail(&self.log()));
        }
    }
}

impl<'a> Management<'a> {
    /// Opens it by inviting the bot, and awaits that it joins.
    pub fn open(person: &'a Person) -> Self {
        let room = person.direct_room(Bridge::BOT);
        person.sees_member(&room, Bridge::BOT, "join");
        Self { person, room }
    }

    /// Opens one and signs in to `jid` by password there.
    pub fn sign_in(person: &'a Person, jid: &str) -> Self {
        let management = Self::open(person);
        management.login(&format!("login xmpp {jid} {PASSWORD}"), jid);
        management
    }

    /// Says `words` and returns the bot's first answer that `wanted` accepts.
    pub fn ask(&self, words: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mark = self.person.mark();
        self.person.say(&self.room, words);
        let answer = self.person.expect_since(mark, &format!("the bot's answer to {words:?}"), |event| {
            self.is_bots(event) && event["body"].as_str().is_some_and(&wanted)
        });
        answer["body"].as_str().unwrap_or_default().to_owned()
    }

    /// Says what holds a secret and leads to a login of `jid`: it is redacted, an answer names the account, and
    /// `list-logins` does too.
    pub fn login(&self, secret: &str, jid: &str) {
        let mark = self.person.mark();
        let event = self.person.say(&self.room, secret);
        self.sees_redaction(mark, &event);
        self.person.expect_since(mark, &format!("word that {jid} is signed in"), |event| {
            self.is_bots(event) && event["body"].as_str().is_some_and(|body| body.contains(jid))
        });
        self.ask("list-logins", |answer| answer.contains(jid));
    }

    /// Tries to sign in in vain and returns the bot's sentence, which holds all of `named` (in any case).
    pub fn refused(&self, jid: &str, password: &str, named: &[&str]) -> String {
        let mark = self.person.mark();
        let event = self.person.say(&self.room, &format!("login xmpp {jid} {password}"));
        self.sees_redaction(mark, &event);
        let sentence = self.person.expect_since(mark, &format!("a sentence with {named:?} on {jid}"), |event| {
            let body = event["body"].as_str().unwrap_or_default().to_lowercase();
            self.is_bots(event) && named.iter().all(|name| body.contains(&name.to_lowercase()))
        });
        sentence["body"].as_str().unwrap_or_default().to_owned()
    }

    /// Says what is to be redacted.
    pub fn say_secret(&self, secret: &str) {
        let mark = self.person.mark();
        let event = self.person.say(&self.room, secret);
        self.sees_redaction(mark, &event);
    }

    /// Its room.
    pub fn room(&self) -> &str {
        &self.room
    }

    fn sees_redaction(&self, since: Mark, of: &str) {
        self.person.expect_since(since, "the redaction of the secret", |event| {
            event["event"] == "redaction" && (event["redacts"] == of || event["content"]["redacts"] == of)
        });
    }

    fn is_bots(&self, event: &Value) -> bool {
        event["event"] == "message" && event["sender"] == Bridge::BOT && event["room"] == self.room.as_str()
    }
}

impl Portal {
    /// Awaits the portal for the contact `jid`: the person was invited to it and joined, `m.bridge` names the contact,
    /// and the ghost is in it.
    pub fn appears(person: &Person, jid: &str) -> Self {
        Self::appears_on(person, jid, "xmpp")
    }

    /// The same on a network of another profile.
    pub fn appears_on(person: &Person, jid: &str, protocol: &str) -> Self {
        let bridged = person.expect(&format!("a room whose m.bridge names {jid}"), |event| {
            event["type"] == "m.bridge" && event["content"]["channel"]["id"] == jid
        });
        assert_eq!(bridged["content"]["protocol"]["id"], protocol, "{bridged}");
        let room = bridged["room"].as_str().expect("a room").to_owned();
        let unstable = person.expect(&format!("uk.half-shot.bridge in {room}"), |event| {
            event["type"] == "uk.half-shot.bridge" && event["room"] == room.as_str()
        });
        assert_eq!(unstable["content"], bridged["content"], "MSC2346's unstable name says the same");
        let localpart = jid.split('@').next().unwrap_or_default();
        // Escaping leaves letters and digits as they are, and the tests' accounts begin with those.
        let plain = localpart.split(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default();
        let ghost = person.expect(&format!("the ghost of {jid} in {room}"), |event| {
            event["type"] == "m.room.member"
                && event["room"] == room.as_str()
                && event["content"]["membership"] == "join"
                && event["state_key"].as_str().is_some_and(|key| key.starts_with("@messenger_") && key.contains(plain))
        });
        let invite =
            person.expect("the invitation", |event| event["event"] == "invite" && event["room"] == room.as_str());
        assert_eq!(invite["is_direct"], true, "{invite}");
        Self { room, ghost: ghost["state_key"].as_str().unwrap_or_default().to_owned() }
    }
}

const FILES: [&str; 4] = ["--config", "config.yaml", "--registration", "registration.yaml"];

/// Our binary.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_messenger-bridge"))
}

/// Runs our binary to its end in `folder`, on the `config.yaml` and `registration.yaml` there.
pub fn run_program(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = program();
    command.args(arguments).args(FILES).current_dir(folder).stdin(Stdio::null());
    command.output().expect("start the bridge")
}

/// A domain reached by STARTTLS at `reach`, trusting the test authority.
pub fn starttls(reach: Reach) -> Value {
    domain(reach.starttls, "starttls")
}

/// A domain reached by direct TLS at `reach`, trusting the test authority.
pub fn direct_tls(reach: Reach) -> Value {
    domain(reach.direct_tls, "direct")
}

fn domain(port: u16, mode: &str) -> Value {
    json!({
        "address": format!("127.0.0.1:{port}"),
        "tls": {"mode": mode, "ca_file": Authority::trusted().file()},
    })
}
