//! The ground itself, without the bridge: what the other tests lean on is what these servers and clients do.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::certificates::Authority;
use super::clients::{Contact, PHOTO, Person, Tls, is_presence};
use super::ground::{self, Port};
use super::process::{self, Process};
use super::scripted::{Script, Scripted};
use super::servers::{Account, Ejabberd, PASSWORD, Prosody, Synapse};

/// Two accounts, one by STARTTLS and one by direct TLS: presence with text, messages, chat states, the archive.
fn contacts_converse(alice_account: &Account, bob_account: &Account) {
    let alice = Contact::connect(alice_account);
    let bob = Contact::connect_by(bob_account, Tls::Direct, PASSWORD, "home").expect("direct TLS");
    let bob_jid = bob.jid.clone();
    alice.befriend(&bob);
    let roster = alice.call("roster", json!({}));
    assert_eq!(roster[&bob.jid]["subscription"], "both", "{roster}");

    bob.show(Some("away"), Some("at the window"));
    let away = alice.expect("Bob away", |event| is_presence(event, "available", &bob.jid) && event["show"] == "away");
    assert_eq!(away["status"], "at the window");

    let hash = bob.call("vcard", json!({"nickname": "Bobby", "full_name": "Robert Test", "photo": PHOTO}));
    let hash = hash.as_str().expect("the photo's hash");
    alice.expect("the photo's hash in Bob's presence (XEP-0153)", |event| {
        is_presence(event, "available", &bob.jid) && event["xml"].as_str().is_some_and(|xml| xml.contains(hash))
    });

    alice.call("chat_state", json!({"to": bob.jid, "state": "composing"}));
    bob.expect("Alice composing", |event| event["chat_state"] == "composing");
    let words = "Guten Morgen 🌅\n<second & line>";
    alice.say(&bob.jid, words);
    bob.hears(&alice.jid, words);
    bob.say(&alice.jid, "Bonjour");
    alice.hears(&bob.jid, "Bonjour");
    assert_eq!(alice.heard(&bob.jid), ["Bonjour"]);
    let numbers: Vec<String> = (1..=20).map(|number| number.to_string()).collect();
    for number in &numbers {
        bob.say(&alice.jid, number);
    }
    alice.expect_count(21, "all that Bob says", |event| event["body"].is_string());
    assert_eq!(alice.heard(&bob.jid)[1..], numbers);

    alice.call("ping", json!({}));
    let archive = alice.call("archive", json!({"contact": bob.jid}));
    let bodies: Vec<_> =
        archive.as_array().expect("a list").iter().filter_map(|entry| entry["body"].as_str()).collect();
    assert_eq!(bodies[..2], [words, "Bonjour"]);
    assert_eq!(bodies[2..], numbers);

    // What is said to somebody who is not there waits for them, with the time at which it was sent.
    let mark = alice.mark();
    bob.leave();
    alice.expect_since(mark, "Bob gone", |event| is_presence(event, "unavailable", &bob_jid));
    alice.say(&bob_jid, "are you there?");
    alice.call("ping", json!({}));
    let bob = Contact::connect(bob_account);
    let late = bob.hears(&alice.jid, "are you there?");
    assert!(late["stamp"].is_string(), "{late}");

    // Whatever XML a test writes reaches the other side.
    alice.raw(&format!(
        "<message to='{bob_jid}' type='chat' id='raw-1'><body>raw</body><x xmlns='urn:test'/></message>"
    ));
    let raw = bob.hears(&alice.jid, "raw");
    assert_eq!(raw["id"], "raw-1");

    let refused = Contact::connect_by(alice_account, Tls::Start, "wrong", "tests").expect_err("a wrong password");
    assert!(refused.contains("not authorized"), "{refused}");
}

#[test]
fn contacts_converse_on_prosody() {
    let prosody = Prosody::shared();
    contacts_converse(&prosody.account("alice"), &prosody.account("bob"));
}

#[test]
fn contacts_converse_on_ejabberd() {
    let ejabberd = Ejabberd::shared();
    contacts_converse(&ejabberd.account("alice"), &ejabberd.account("bob"));
}

#[test]
fn ejabberd_issues_tokens_that_sign_in() {
    let ejabberd = Ejabberd::shared();
    let account = ejabberd.account("carol");
    let token = ejabberd.token(&account);
    // `X-OAUTH2` has PLAIN's form with the token as the password. slixmpp does not know it, hence by hand.
    let success = sign_in_by_hand(&account, &token);
    assert!(success.contains("<success"), "{success}");
    let refusal = sign_in_by_hand(&account, "another-token");
    assert!(refusal.contains("<not-authorized"), "{refusal}");
}

/// The server's words up to its answer to `<auth mechanism='X-OAUTH2'/>` over direct TLS.
fn sign_in_by_hand(account: &Account, token: &str) -> String {
    let secret = format!("\0{}\0{token}", account.localpart());
    let secret = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, secret);
    let patience = ground::deadline().as_secs();
    let script = format!(
        r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
stream = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[2])), {patience}), server_hostname=sys.argv[3])
def until(*ends):
    text = ""
    while not any(end in text for end in ends): text += stream.recv(65536).decode()
    return text
stream.sendall(b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='%s'>" % sys.argv[3].encode())
until("</stream:features>")
stream.sendall(b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='X-OAUTH2'>{secret}</auth>")
print(until("<success", "</failure>"))
"#
    );
    let mut python = Command::new(ground::repository(".tools/venv/bin/python"));
    python.args(["-c", &script]).arg(Authority::trusted().file());
    process::run(python.args([&account.reach.direct_tls.to_string(), account.reach.domain]))
}

#[test]
fn the_scripted_server_speaks_as_slixmpp_expects() {
    let server = Scripted::start("scripted.test", Script::default());
    let alice = Contact::connect_by(&server.account(), Tls::Direct, "any", "tests").expect("signing in");
    server.expect("initial presence", |element| element.name() == "presence");
    server.send("<message from='bob@scripted.test/x' type='chat'><body>from the script</body></message>");
    alice.hears("bob@scripted.test", "from the script");
    server.await_all_acknowledged();
    alice.say("bob@scripted.test", "a > b & \"c\"");
    server.expect("the answer", |element| {
        element.get_child("body", "jabber:client").is_some_and(|body| body.text() == "a > b & \"c\"")
    });
    server.cut();
    alice.expect("the cut", |event| event["event"] == "disconnected");
}

#[test]
fn a_prosody_that_comes_back_still_knows_everybody() {
    let prosody = Prosody::start("prosody-restarts", Authority::trusted());
    let account = prosody.account("alice");
    let alice = Contact::connect(&account);
    prosody.kill();
    alice.expect("the cut", |event| event["event"] == "disconnected");
    prosody.launch();
    Contact::connect(&account).leave();
    prosody.stop();
    prosody.launch();
    Contact::connect(&account).leave();
}

#[test]
fn an_ejabberd_that_comes_back_still_knows_everybody() {
    let ejabberd = Ejabberd::start("ejabberd-restarts", Authority::trusted());
    let account = ejabberd.account("alice");
    let alice = Contact::connect(&account);
    ejabberd.kill();
    alice.expect("the cut", |event| event["event"] == "disconnected");
    ejabberd.launch();
    Contact::connect(&account).leave();
    ejabberd.stop();
    ejabberd.launch();
    Contact::connect(&account).leave();
}

#[test]
fn clients_refuse_a_certificate_of_an_unknown_authority() {
    let prosody = Prosody::start("prosody-untrusted", &Authority::untrusted());
    let account = prosody.account("alice");
    for tls in [Tls::Start, Tls::Direct] {
        let refused = Contact::connect_by(&account, tls, PASSWORD, "tests");
        assert!(refused.is_err(), "slixmpp trusted a stranger's certificate over {tls:?}");
    }
}

#[test]
fn persons_converse_on_synapse() {
    let synapse = Synapse::shared();
    let (romeo, juliet) = (Person::login(&synapse.user("romeo")), Person::login(&synapse.user("juliet")));
    let room = romeo.direct_room(&juliet.id);
    let invite = juliet.expect("the invitation", |event| event["event"] == "invite" && event["room"] == room.as_str());
    assert_eq!(invite["is_direct"], true, "{invite}");
    assert_eq!(invite["sender"], romeo.id.as_str());
    romeo.sees_member(&room, &juliet.id, "join");

    let words = "But soft 🌙\nwhat light";
    let event_id = romeo.say(&room, words);
    let heard = juliet.hears(&room, words);
    assert_eq!(heard["event_id"], event_id.as_str());
    assert_eq!(heard["msgtype"], "m.text");
    assert!(heard["ts"].as_u64().is_some_and(|ts| ts > 1_600_000_000_000), "{heard}");
    juliet.call("send", json!({"room": room, "body": "sighs", "msgtype": "m.emote"}));
    assert_eq!(romeo.hears(&room, "sighs")["msgtype"], "m.emote");

    juliet.call("typing", json!({"room": room}));
    romeo.expect("Juliet typing", |event| event["event"] == "typing" && event["users"] == json!([juliet.id]));
    juliet.call("read", json!({"room": room, "event_id": event_id}));
    romeo.expect("Juliet's receipt", |event| event["event"] == "receipt" && event["event_id"] == event_id.as_str());
    juliet.call("presence", json!({"presence": "unavailable", "status": "on the balcony"}));
    romeo.expect("Juliet away", |event| {
        event["event"] == "presence"
            && event["user"] == juliet.id.as_str()
            && event["presence"] == "unavailable"
            && event["status"] == "on the balcony"
    });
    assert_eq!(romeo.call("get_presence", json!({"user": juliet.id}))["status_msg"], "on the balcony");

    let redaction = romeo.call("redact", json!({"room": room, "event_id": event_id}));
    juliet.expect("the redaction", |event| event["event"] == "redaction" && event["event_id"] == redaction);

    juliet.call("set_displayname", json!({"name": "Juliet C."}));
    assert_eq!(romeo.call("displayname", json!({"user": juliet.id})), "Juliet C.");
    assert_eq!(romeo.call("avatar", json!({"user": juliet.id})), Value::Null);
    let members = romeo.call("members", json!({"room": room}));
    assert_eq!(members.as_object().map(serde_json::Map::len), Some(2), "{members}");
    assert_eq!(juliet.call("rooms", json!({})), json!([room]));
    let version = romeo.call("state", json!({"room": room, "type": "m.room.create"}));
    assert!(version["room_version"].is_string(), "{version}");
    juliet.call("leave", json!({"room": room}));
    romeo.sees_member(&room, &juliet.id, "leave");
    assert_eq!(juliet.heard(&room), [words]);
}

#[test]
fn a_synapse_that_comes_back_still_knows_everybody() {
    let synapse = Synapse::start("synapse-restarts", Port::reserve(), &[], &json!({"presence": {"enabled": false}}));
    let user = synapse.user("romeo");
    let romeo = Person::login(&user);
    let room = romeo.call("create", json!({"name": "Verona"}));
    synapse.stop();
    romeo.expect("the cut", |event| event["event"] == "sync_failed");
    synapse.launch();
    romeo.call("send", json!({"room": room, "body": "again"}));
    romeo.expect("one's own words", |event| event["body"] == "again");
    // This Synapse has presence off, as a test may ask for.
    assert_eq!(romeo.call("get_presence", json!({"user": user.id}))["presence"], "offline");
}

#[test]
fn a_dropped_process_takes_its_children_along() {
    let folder = ground::folder("family");
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 1000 & echo $! > child; echo $$ > parent; wait"]).current_dir(&folder);
    let process = Process::start("family", command, &folder.join("output.log"));
    let pid = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default().trim().to_owned();
    assert!(ground::poll(|| !pid("parent").is_empty() && !pid("child").is_empty()));
    let (child, parent) = (pid("child"), pid("parent"));
    assert!(Path::new("/proc").join(&child).exists());
    drop(process);
    // The orphan is reaped by whoever adopts it; until then it is a zombie.
    let gone = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    assert!(ground::poll(|| gone(&child) && gone(&parent)));
}
