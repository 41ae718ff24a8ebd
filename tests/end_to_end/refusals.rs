//! What goes wrong at sign-in or at start is said in a sentence of its own that names the cause.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::bridge::{Bridge, Management, direct_tls, run_program, starttls};
use super::certificates::Authority;
use super::ground;
use super::scripted::{Script, Scripted};
use super::servers::{PASSWORD, Prosody, Reach};

/// Within this time the person knows what is wrong, whatever it is.
const PROMISED: Duration = Duration::from_secs(30);

const WRONG: &str = "Tr0ub4dor & 3";

#[test]
fn each_refusal_at_sign_in_has_its_own_sentence() {
    let prosody = Prosody::shared();
    let stranger = Prosody::start("prosody-untrusted", &Authority::untrusted());
    let no_mechanism = Scripted::start("mechanism.test", Script { mechanisms: &["GSSAPI"], ..Script::default() });
    let telnet = something_that_is_no_xmpp_server();
    let closed = ground::Port::reserve();
    let at = |port: u16| Reach { domain: "", starttls: port, direct_tls: port };
    let domains = json!({
        Prosody::DOMAIN: starttls(prosody.reach()),
        // Over direct TLS the certificate comes before the server could say that it does not know the domain.
        "stranger.test": direct_tls(stranger.reach()),
        "misnamed.test": direct_tls(prosody.reach()),
        "unserved.test": starttls(prosody.reach()),
        "mechanism.test": no_mechanism.domain(),
        "telnet.test": starttls(at(telnet)),
        "closed.test": starttls(at(closed.number())),
        "nowhere.invalid": {},
    });
    let bridge = Bridge::start("bridge", &domains);
    let person = bridge.person("romeo");
    let management = Management::open(&person);
    let account = prosody.account("alice");

    let sentences = [
        refusal(&management, &account.jid, WRONG, &["password"]),
        refusal(&management, "alice@nowhere.invalid", PASSWORD, &["nowhere.invalid"]),
        refusal(&management, "alice@closed.test", PASSWORD, &["closed.test"]),
        refusal(&management, "alice@stranger.test", PASSWORD, &["certificate"]),
        refusal(&management, "alice@misnamed.test", PASSWORD, &["certificate", "misnamed.test"]),
        refusal(&management, "alice@unserved.test", PASSWORD, &["unserved.test"]),
        refusal(&management, "alice@telnet.test", PASSWORD, &["XMPP"]),
        refusal(&management, "alice@mechanism.test", PASSWORD, &["GSSAPI"]),
    ];
    for (index, sentence) in sentences.iter().enumerate() {
        assert!(!sentences[..index].contains(sentence), "twice: {sentence}");
        assert!(!sentence.contains(PASSWORD) && !sentence.contains(WRONG), "a secret: {sentence}");
    }

    // None of it left a login, and none of it stands in the way of a good one.
    management.login(&format!("login xmpp {} {PASSWORD}", account.jid), &account.jid);
    let logins = management.ask("list-logins", |answer| answer.contains(&account.jid));
    for domain in ["nowhere.invalid", "closed", "stranger", "misnamed", "unserved", "telnet", "mechanism"] {
        assert!(!logins.contains(&format!("alice@{domain}")), "{logins}");
    }
}

#[test]
fn a_refused_password_is_offered_once_and_by_no_weaker_mechanism() {
    let server = Scripted::start(
        "refusing.test",
        Script { mechanisms: &["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"], refuse: true, ..Script::default() },
    );
    let bridge = Bridge::start("bridge", &json!({"refusing.test": server.domain()}));
    let person = bridge.person("romeo");
    let management = Management::open(&person);
    refusal(&management, "alice@refusing.test", PASSWORD, &["password"]);
    // Another login is served after the first, so a second try of that would be there by now.
    refusal(&management, "bob@refusing.test", PASSWORD, &["password"]);
    let offers = server.received("auth");
    assert_eq!(offers.len(), 2, "{offers:?}");
    assert!(offers.iter().all(|offer| offer.attr("mechanism") == Some("SCRAM-SHA-256")), "{offers:?}");
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_bot_that_may_not_redact_a_secret_says_so() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let person = bridge.person("romeo");
    // Without a preset, who is invited has no power over what others say.
    let room = person.call("create", json!({"invite": [Bridge::BOT]}));
    let room = room.as_str().expect("a room");
    person.sees_member(room, Bridge::BOT, "join");
    person.say(room, &format!("login xmpp {} {PASSWORD}", prosody.account("alice").jid));
    person.expect("advice to delete the secret oneself", |event| {
        let body = event["body"].as_str().unwrap_or_default().to_lowercase();
        event["sender"] == Bridge::BOT && ["redact", "delete", "remove"].iter().any(|word| body.contains(word))
    });
}

/// The bot's sentence on a login that fails; within the time that was promised.
fn refusal(management: &Management<'_>, jid: &str, password: &str, named: &[&str]) -> String {
    let began = Instant::now();
    let sentence = management.refused(jid, password, named);
    assert!(began.elapsed() < PROMISED, "{:?} until: {sentence}", began.elapsed());
    sentence
}

/// A port that answers as other services do.
fn something_that_is_no_xmpp_server() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    port
}

#[test]
fn a_mistyped_key_of_the_config_is_named_with_its_place_and_its_neighbour() {
    let folder = ground::folder("mistyped");
    let config = "homeserver:\n  address: http://127.0.0.1:8008\n  domian: hs.test\n";
    fs::write(folder.join("config.yaml"), config).expect("write a config");
    for command in ["run", "check"] {
        let output = run_program(&folder, &[command]);
        assert!(!output.status.success(), "{command}: {:?}", output.status);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        for part in ["config.yaml", "domian", "domain", "3"] {
            assert!(said.contains(part), "{command} does not say {part:?}: {said}");
        }
    }
}
