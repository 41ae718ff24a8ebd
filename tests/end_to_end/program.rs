//! The program as an operator meets it: `check`, the exit codes of `run`, stopping, and the store's commands.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::json;

use super::bridge::{Bridge, Management, Portal, program, run_program, starttls};
use super::clients::Contact;
use super::ground;
use super::servers::Prosody;

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `store …` on a bridge's files.
fn store(bridge: &Bridge, arguments: &[&str]) -> Output {
    let mut command = program();
    command.arg("store").args(arguments).current_dir(bridge.folder());
    command.output().expect("start the program")
}

/// A copy of a bridge's files, with something replaced in one of them, so that a mistake can be planted.
fn planted(bridge: &Bridge, file: &str, from: &str, to: &str) -> std::path::PathBuf {
    let folder = ground::folder("planted");
    for name in ["config.yaml", "registration.yaml"] {
        let text = fs::read_to_string(bridge.folder().join(name)).expect("a file of the bridge");
        let changed = if name == file { text.replace(from, to) } else { text.clone() };
        assert!(name != file || changed != text, "{from:?} does not stand in {file}");
        fs::write(folder.join(name), changed).expect("write the planted file");
    }
    folder
}

fn token(folder: &Path, key: &str) -> String {
    let registration = fs::read_to_string(folder.join("registration.yaml")).expect("the registration");
    let line = registration.lines().find(|line| line.starts_with(key)).expect("a token");
    line.split(':').nth(1).expect("its value").trim().trim_matches('"').to_owned()
}

#[test]
fn check_finds_a_working_bridge_well_and_names_each_mistake_with_its_remedy() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));

    let running = run_program(bridge.folder(), &["check"]);
    assert!(running.status.success(), "{}", said(&running));
    assert!(said(&running).contains("reaches the running bridge"), "{}", said(&running));
    assert!(said(&running).contains("ok    ephemeral"), "{}", said(&running));

    bridge.terminate();
    let stopped = run_program(bridge.folder(), &["check"]);
    assert!(stopped.status.success(), "{}", said(&stopped));
    for check in [
        "config",
        "registration file",
        "permissions",
        "disk",
        "listener",
        "homeserver",
        "registration",
        "bot",
        "ping",
        "presence",
        "clock",
        "ephemeral",
        "rate limit",
        "media",
        "network xmpp",
        "certificate",
        "store",
        "open files",
    ] {
        assert!(
            said(&stopped).lines().any(|line| line.starts_with(&format!("ok    {check}"))),
            "{check}: {}",
            said(&stopped)
        );
    }

    let as_token = token(bridge.folder(), "as_token");
    let hs_token = token(bridge.folder(), "hs_token");
    let other = "0".repeat(64);
    for (file, from, to, named) in [
        ("registration.yaml", as_token.as_str(), other.as_str(), ["FAIL", "not installed"]),
        ("registration.yaml", hs_token.as_str(), other.as_str(), ["FAIL", "hs_token"]),
        ("config.yaml", &format!("127.0.0.1:{}", prosody.reach().starttls), "127.0.0.1:1", ["FAIL", "127.0.0.1:1"]),
        ("config.yaml", &bridge.synapse.address(), "http://127.0.0.1:1", ["FAIL", "homeserver.address"]),
    ] {
        let folder = planted(&bridge, file, from, to);
        let output = run_program(&folder, &["check"]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        for part in named {
            assert!(said(&output).contains(part), "{part:?} is not said: {}", said(&output));
        }
    }
}

#[test]
fn run_ends_with_a_code_of_its_own_for_each_cause() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let code = |folder: &Path| {
        let output = run_program(folder, &["run"]);
        (output.status.code(), said(&output))
    };

    // Two processes on one store.
    let (exit, text) = code(bridge.folder());
    assert_eq!(exit, Some(28), "{text}");
    assert!(text.contains("in use by another process"), "{text}");
    for action in ["verify", "export"] {
        let arguments: &[&str] = if action == "export" { &["export", "second.jsonl"] } else { &[action] };
        let refused = store(&bridge, arguments);
        assert_eq!(refused.status.code(), Some(28), "{}", said(&refused));
    }
    let refused = run_program(bridge.folder(), &["recover"]);
    assert_eq!(refused.status.code(), Some(28), "{}", said(&refused));
    bridge.terminate();

    let unknown = planted(&bridge, "registration.yaml", &token(bridge.folder(), "as_token"), &"0".repeat(64));
    let (exit, text) = code(&unknown);
    assert_eq!(exit, Some(19), "{text}");
    assert!(text.contains("registration.yaml"), "{text}");

    let busy = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = busy.local_addr().expect("its address").port();
    let config = fs::read_to_string(bridge.folder().join("config.yaml")).expect("the config");
    let listen =
        config.split("\"listen\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("listen").to_owned();
    let taken = planted(
        &bridge,
        "config.yaml",
        &format!("\"listen\":\"{listen}\""),
        &format!("\"listen\":\"127.0.0.1:{port}\""),
    );
    assert_eq!(code(&taken).0, Some(23));

    fs::remove_file(bridge.folder().join("data.key")).expect("the key");
    let (exit, text) = code(bridge.folder());
    assert_eq!(exit, Some(26), "{text}");
    assert!(text.contains("data.key"), "{text}");
}

#[test]
fn a_store_that_is_exported_and_imported_goes_on_where_it_was() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let (alice, bob) = (prosody.account("alice"), prosody.account("bob"));
    let contact = Contact::connect(&bob);
    let own = Contact::connect(&alice);
    own.befriend(&contact);
    own.leave();
    let person = bridge.person("romeo");
    let management = Management::sign_in(&person, &alice.jid);
    let portal = Portal::appears(&person, &bob.jid);
    bridge.terminate();

    let verified = store(&bridge, &["verify"]);
    assert!(verified.status.success(), "{}", said(&verified));
    let exported = store(&bridge, &["export", "all.jsonl"]);
    assert!(exported.status.success(), "{}", said(&exported));
    fs::rename(bridge.folder().join("data"), bridge.folder().join("data.old")).expect("move the store aside");
    let imported = store(&bridge, &["import", "all.jsonl"]);
    assert!(imported.status.success(), "{}", said(&imported));

    bridge.launch();
    contact.say(&alice.jid, "still there?");
    person.hears(&portal.room, "still there?");
    management.ask("list-logins", |answer| answer.contains(&alice.jid) && answer.contains("online"));
}

#[test]
fn a_configuration_is_brought_onto_the_newest_example_and_nothing_of_it_is_lost() {
    let folder = ground::folder("upgrade");
    let own = "# Ours.\nhomeserver:\n  address: http://127.0.0.1:8008\n  domain: hs.test # not to be changed\n\n\
               permissions:\n  \"hs.test\": user\n\nnetworks:\n  chat:\n    profile: xmpp\n\nhistory:\n  initial: 7\n";
    let path = folder.join("config.yaml");
    let upgrade = |arguments: &[&str]| {
        let mut command = program();
        command.args(["config", "upgrade"]).args(arguments).current_dir(&folder);
        command.output().expect("start the program")
    };
    fs::write(&path, own).expect("write the config");
    let printed = String::from_utf8_lossy(&upgrade(&[]).stdout).into_owned();
    let diff = String::from_utf8_lossy(&upgrade(&["--diff"]).stdout).into_owned();
    assert_eq!(fs::read_to_string(&path).expect("the config"), own, "it is only looked at");
    assert!(
        diff.starts_with("--- config.yaml\n+++ config.yaml\n@@ ") && diff.contains("\n+  catch_up: 500\n"),
        "{diff}"
    );
    assert!(upgrade(&["--write"]).status.success());
    assert_eq!(fs::read_to_string(&path).expect("the config"), printed);
    assert_eq!(fs::read_to_string(folder.join("config.yaml.bak")).expect("the old one"), own);
    let mut lines = printed.lines();
    assert!(own.lines().all(|line| lines.any(|other| other == line)), "each line is there, in order: {printed}");
    let again = upgrade(&["--diff"]);
    assert!(again.status.success() && again.stdout.is_empty(), "{}", said(&again));
    let checked = run_program(&folder, &["check"]);
    assert!(said(&checked).contains("ok    config: config.yaml"), "{}", said(&checked));

    // What it does not know is named and kept; what it cannot edit is left whole.
    fs::write(&path, format!("{own}  catchup: 9\n")).expect("write the config");
    let unknown = upgrade(&[]);
    assert_eq!(unknown.status.code(), Some(11));
    for part in ["`history.catchup`: not a known key", "nearest known key: `catch_up`", "\n  catchup: 9\n"] {
        assert!(said(&unknown).contains(part), "{part:?} is not in {}", said(&unknown));
    }
    let braces = own.replace("history:\n  initial: 7", "history: { initial: 7 }");
    fs::write(&path, &braces).expect("write the config");
    let refused = upgrade(&["--write"]);
    assert_eq!(refused.status.code(), Some(11));
    assert!(
        said(&refused).contains("config.yaml:13:") && said(&refused).contains("history.catch_up"),
        "{}",
        said(&refused)
    );
    assert_eq!(fs::read_to_string(&path).expect("the config"), braces);
}
