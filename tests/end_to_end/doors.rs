//! Attacks on the whole program: what it leaves behind on disk and in its log, where it connects to, whom its rooms let in.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::bridge::{Bridge, Management, Portal, program, run_program, starttls};
use super::clients::{Contact, Person};
use super::scripted::{Script, Scripted};
use super::servers::{PASSWORD, Prosody};

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o7777
}

fn holds(hay: &[u8], needle: &str) -> bool {
    hay.windows(needle.len()).any(|part| part == needle.as_bytes())
}

/// The value of a key of the registration.
fn token(folder: &Path, key: &str) -> String {
    let registration = fs::read_to_string(folder.join("registration.yaml")).expect("the registration");
    let line = registration.lines().find(|line| line.starts_with(key)).expect("a token");
    line.split(':').nth(1).expect("its value").trim().trim_matches('"').to_owned()
}

#[test]
fn no_log_at_trace_level_and_no_file_holds_a_secret_or_what_was_said() {
    const WRONG: &str = "Tr0ub4dor-and-3";
    const TOKEN: &str = "EwA8k2ysAndMoreOfaToken";
    let prosody = Prosody::shared();
    let bridge = Bridge::start_with(
        "bridge",
        &json!({"xmpp": {"profile": "xmpp", "domains": {Prosody::DOMAIN: starttls(prosody.reach())}}}),
        &json!({"logging": {"level": "trace", "format": "text"}}),
    );
    let (alice, bob) = (prosody.account("alice"), prosody.account("bob"));
    let contact = Contact::connect(&bob);
    let own = Contact::connect(&alice);
    own.befriend(&contact);
    own.leave();
    let person = bridge.person("romeo");
    let management = Management::open(&person);
    management.refused(&alice.jid, WRONG, &["password"]);
    management.say_secret(&format!("login xmpp {} --token {TOKEN}", alice.jid));
    management.login(&format!("login xmpp {} {PASSWORD}", alice.jid), &alice.jid);
    let portal = Portal::appears(&person, &bob.jid);
    let mut said = Vec::new();
    let mut talk = |round: &str| {
        let (there, back) = (format!("sealed-lips-{round}"), format!("whispered-words-{round}"));
        contact.say(&alice.jid, &there);
        person.hears(&portal.room, &there);
        person.say(&portal.room, &back);
        contact.hears(&alice.jid, &back);
        said.extend([there, back]);
    };
    talk("one");
    bridge.kill();
    bridge.launch();
    talk("two");
    // What waits when the program dies is in the store, and must not be read there either.
    let waits = "unsent-when-it-died";
    person.say(&portal.room, waits);
    bridge.kill();
    let stored = files(&bridge.folder().join("data"));
    assert!(!stored.is_empty());
    for file in stored {
        assert!(!holds(&fs::read(&file).expect("a file of the store"), waits), "{waits} stands in {}", file.display());
    }
    bridge.launch();
    contact.hears(&alice.jid, waits);
    talk("three");
    bridge.terminate();
    said.push(waits.to_owned());

    let mut command = program();
    command.args(["store", "export", "out.jsonl"]).current_dir(bridge.folder());
    let exported = command.output().expect("start the program");
    assert!(exported.status.success(), "{exported:?}");
    let checked = run_program(bridge.folder(), &["check"]);
    let (as_token, hs_token) = (token(bridge.folder(), "as_token"), token(bridge.folder(), "hs_token"));
    let mut secrets: Vec<String> = [PASSWORD, WRONG, TOKEN, &as_token, &hs_token].map(str::to_owned).to_vec();
    let user = alice.jid.split('@').next().unwrap_or_default();
    for password in [PASSWORD, WRONG] {
        secrets.push(STANDARD.encode(password));
        secrets.push(STANDARD.encode(format!("\0{user}\0{password}")));
    }
    secrets.extend(said);

    let log = fs::read(bridge.folder().join("bridge.log")).expect("the log");
    let text = String::from_utf8_lossy(&log);
    let fine: Vec<&str> = text.lines().filter(|line| line.contains(" DEBUG ") || line.contains(" TRACE ")).collect();
    assert!(!fine.is_empty() && holds(&log, "ready"), "the log is at a fine level");
    for line in fine {
        // Behind the level stand the spans, then whose line it is: other crates are not shown so finely.
        assert!(line.contains(" messenger_bridge::"), "{line}");
    }
    let mut places = vec![("the log".to_owned(), log)];
    places.push(("what check says".to_owned(), [checked.stdout, checked.stderr].concat()));
    places.push(("what export says".to_owned(), [exported.stdout, exported.stderr].concat()));
    for file in files(&bridge.folder().join("data")).into_iter().chain([bridge.folder().join("out.jsonl")]) {
        places.push((file.display().to_string(), fs::read(&file).expect("a file")));
    }
    for (place, bytes) in &places {
        for secret in &secrets {
            assert!(!holds(bytes, secret), "{place} holds {secret:?}");
        }
    }
    // The export writes values as base64; so what is said in it is looked for there too.
    let export = fs::read_to_string(bridge.folder().join("out.jsonl")).expect("the export");
    for line in export.lines() {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let Some(value) = line["v"].as_str().and_then(|value| STANDARD.decode(value).ok()) else { continue };
        for secret in &secrets {
            assert!(!holds(&value, secret), "the export holds {secret:?}");
        }
    }
}

#[test]
fn files_are_the_owners_alone_and_core_dumps_are_off() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let limits = fs::read_to_string(format!("/proc/{}/limits", bridge.pid())).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the limit of core dumps");
    let numbers: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(numbers, ["0", "0"], "{core}");
    // The kernel gives what belongs to a process that cannot be dumped to root, whoever runs it.
    let environment = fs::metadata(format!("/proc/{}/environ", bridge.pid())).expect("its environment");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&environment), 0);
    bridge.terminate();
    // The next start takes the export of the day, too.
    bridge.launch();
    bridge.terminate();
    let mut command = program();
    command.args(["store", "export", "out.jsonl"]).current_dir(bridge.folder());
    assert!(command.output().expect("start the program").status.success());
    for name in ["registration.yaml", "doublepuppet.yaml", "data.key", "out.jsonl"] {
        assert_eq!(mode(&bridge.folder().join(name)), 0o600, "{name}");
    }
    for folder in ["data", "data.exports"] {
        let folder = bridge.folder().join(folder);
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for file in files(&folder) {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }
}

#[test]
fn nothing_that_a_contact_links_to_is_fetched() {
    let trap = TcpListener::bind(("127.0.0.1", 0)).expect("a trap");
    trap.set_nonblocking(true).expect("a trap that can be looked into");
    let url = format!("http://{}/secret.png", trap.local_addr().expect("its address"));
    let server = Scripted::start(
        "links.test",
        Script {
            roster: "<item jid='bob@links.test' subscription='both' name='Bob'/>".to_owned(),
            ..Script::default()
        },
    );
    let bridge = Bridge::start("bridge", &json!({"links.test": server.domain()}));
    let person = bridge.person("romeo");
    Management::sign_in(&person, &server.jid());
    let bob = Portal::appears(&person, "bob@links.test");
    for payload in [
        format!("<x xmlns='jabber:x:oob'><url>{url}</url></x>"),
        format!(
            "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'><img src='{url}'/></body></html>"
        ),
        format!(
            "<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='urn:xmpp:avatar:metadata'><item id='a'><metadata xmlns='urn:xmpp:avatar:metadata'><info id='a' bytes='1' type='image/png' url='{url}'/></metadata></item></items></event>"
        ),
    ] {
        server.send(&format!(
            "<message from='bob@links.test/x' to='{}' type='chat'><body>{url}</body>{payload}</message>",
            server.jid()
        ));
    }
    server.send("<message from='bob@links.test/x' type='chat'><body>after the links</body></message>");
    person.hears(&bob.room, "after the links");
    let came = trap.accept();
    assert!(came.is_err(), "someone came: {came:?}");
}

#[test]
fn a_chats_room_lets_no_other_person_join_invite_or_be_invited() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let (alice, bob) = (prosody.account("alice"), prosody.account("bob"));
    let contact = Contact::connect(&bob);
    let own = Contact::connect(&alice);
    own.befriend(&contact);
    own.leave();
    let (romeo, paris) = (bridge.person("romeo"), bridge.person("paris"));
    Management::sign_in(&romeo, &alice.jid);
    let portal = Portal::appears(&romeo, &bob.jid);
    let refused = |person: &Person, what: &str, arguments: serde_json::Value| {
        let answer = person.try_call(what, arguments);
        assert!(answer.is_err(), "{} may {what}: {answer:?}", person.id);
    };
    refused(&paris, "join", json!({"room": portal.room}));
    refused(&paris, "send", json!({"room": portal.room, "body": "as romeo"}));
    refused(&paris, "invite", json!({"room": portal.room, "user": paris.id}));
    refused(&romeo, "invite", json!({"room": portal.room, "user": paris.id}));
    romeo.say(&portal.room, "mine alone");
    contact.hears(&alice.jid, "mine alone");
    assert_eq!(contact.heard(&alice.jid), ["mine alone"]);
}

#[test]
fn a_stranger_waits_for_the_owners_word_on_real_servers() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start_with(
        "bridge",
        &json!({"xmpp": {"profile": "xmpp", "domains": {Prosody::DOMAIN: starttls(prosody.reach())}}}),
        &json!({"portals": {"create": "contacts", "per_second": 20, "strangers": "request"}}),
    );
    let (alice, eve) = (prosody.account("alice"), prosody.account("eve"));
    let stranger = Contact::connect(&eve);
    let person = bridge.person("romeo");
    let management = Management::sign_in(&person, &alice.jid);
    let mark = person.mark();
    stranger.say(&alice.jid, "you do not know me");
    stranger.say(&alice.jid, "but you will");
    person.expect_since(mark, "the bot's question", |event| {
        event["sender"] == Bridge::BOT
            && event["body"].as_str().is_some_and(|body| body.contains(&format!("accept {}", eve.jid)))
    });
    management.ask(&format!("accept {}", eve.jid), |answer| answer.contains("accepted"));
    let portal = Portal::appears(&person, &eve.jid);
    person.hears(&portal.room, "but you will");
    assert_eq!(person.heard(&portal.room), ["you do not know me", "but you will"]);
    person.say(&portal.room, "who are you?");
    stranger.hears(&alice.jid, "who are you?");
}
