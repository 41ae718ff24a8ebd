//! Files between matrix-nio on Synapse and slixmpp on Prosody and ejabberd, both ways: what arrives is what was sent.

use serde_json::{Value, json};

use super::bridge::{Bridge, Management, Portal, starttls};
use super::clients::{Contact, PHOTO, Person};
use super::servers::{Ejabberd, Prosody, Reach};

pub struct Chat {
    pub person: Person,
    pub bob: Contact,
    pub alice: String,
    pub portal: Portal,
}

impl Chat {
    pub fn begin(bridge: &Bridge, accounts: [super::servers::Account; 2]) -> Self {
        let [alice_account, bob_account] = accounts;
        let (alice, bob) = (Contact::connect(&alice_account), Contact::connect(&bob_account));
        alice.befriend(&bob);
        alice.leave();
        let person = bridge.person("romeo");
        Management::sign_in(&person, &alice_account.jid);
        let portal = Portal::appears(&person, &bob.jid);
        Self { person, bob, alice: alice_account.jid, portal }
    }

    /// The person sends a file of `size` bytes, or the picture; Bob's client fetches what comes. Gives what each saw.
    fn person_sends(&self, name: &str, mime: &str, size: Option<u64>, caption: Option<&str>) -> (Value, Value) {
        let content = match size {
            Some(size) => json!({"size": size}),
            None => json!({"base64": PHOTO}),
        };
        let upload = json!({"name": name, "mime": mime, "content": content});
        let uploaded = self.person.call("upload", upload);
        let kind = if mime.starts_with("image/") { "m.image" } else { "m.file" };
        let event = json!({
            "msgtype": kind, "url": uploaded["url"], "filename": name,
            "info": {"mimetype": mime, "size": uploaded["size"]},
        });
        let mark = self.bob.mark();
        let body = caption.unwrap_or(name);
        self.person.call("send", json!({"room": self.portal.room, "body": body, "content": event}));
        let message = self.bob.expect_since(mark, "the message with the file", |event| event["oob"].is_string());
        assert_eq!(message["oob"], message["body"], "clients show a file only where both are the same: {message}");
        if let Some(caption) = caption {
            self.bob.hears(&self.alice, caption);
        }
        (uploaded, self.bob.call("fetch", json!({"url": message["oob"]})))
    }

    /// Bob's client uploads a file and sends it; gives what it was and the person's event with its bytes.
    fn bob_sends(&self, name: &str, mime: &str, size: Option<u64>) -> (Value, Value, Value) {
        let content = match size {
            Some(size) => json!({"size": size}),
            None => json!({"base64": PHOTO}),
        };
        let mark = self.person.mark();
        let sent = self.bob.call("share", json!({"to": self.alice, "name": name, "mime": mime, "content": content}));
        let event = self.person.expect_since(mark, "the event of the file", |event| {
            event["room"] == self.portal.room.as_str() && event["sender"] == self.portal.ghost.as_str()
        });
        let url = event["content"]["url"].as_str().unwrap_or_else(|| panic!("no file came: {event}"));
        let got = self.person.call("media", json!({"url": url}));
        (sent, event, got)
    }
}

/// A network that may reach the server's upload service, which is on this machine.
pub fn bridge(domain: &str, reach: Reach, upload: &str) -> Bridge {
    let networks = json!({"xmpp": {"profile": "xmpp", "domains": {domain: starttls(reach)}}});
    Bridge::start_with("bridge", &networks, &json!({"fetch": {"allow_private": [upload]}}))
}

fn both_ways(chat: &Chat) {
    for (name, mime, size) in
        [("cat.png", "image/png", None), ("data.bin", "application/octet-stream", Some(5_000_000))]
    {
        let (sent, got) = chat.person_sends(name, mime, size, Some("look at this").filter(|_| size.is_none()));
        for same in ["sha1", "size", "mime"] {
            assert_eq!(sent[same], got[same], "{same}: {sent} {got}");
        }
        let (sent, event, got) = chat.bob_sends(name, mime, size);
        for same in ["sha1", "size"] {
            assert_eq!(sent[same], got[same], "{same}: {sent} {got}");
        }
        assert_eq!(
            (&got["type"], &event["content"]["info"]["mimetype"]),
            (&json!(mime), &json!(mime)),
            "{event} {got}"
        );
        assert_eq!((&event["body"], &event["content"]["info"]["size"]), (&json!(name), &sent["size"]), "{event}");
        if size.is_none() {
            assert_eq!((event["msgtype"].as_str(), event["content"]["info"]["w"].as_u64()), (Some("m.image"), Some(1)));
        }
    }
    // One that is over the server's limit goes nowhere, and the person is told.
    let mark = chat.person.mark();
    let event = json!({
        "msgtype": "m.file", "url": "mxc://hs.test/never", "info": {"mimetype": "text/plain", "size": 1_000_000_000},
    });
    chat.person.call("send", json!({"room": chat.portal.room, "body": "big.txt", "content": event}));
    chat.person.expect_since(mark, "word that it is too large", |event| {
        event["sender"] == Bridge::BOT && event["body"].as_str().is_some_and(|body| body.contains("at most"))
    });
}

#[test]
fn files_cross_both_ways_with_prosody() {
    let prosody = Prosody::shared();
    let bridge = bridge(Prosody::DOMAIN, prosody.reach(), &prosody.upload());
    let chat = Chat::begin(&bridge, [prosody.account("alice"), prosody.account("bob")]);
    both_ways(&chat);

    // A link inside, which nobody allowed, is shown and not followed.
    let mark = chat.person.mark();
    let port = bridge.synapse.address().rsplit(':').next().unwrap_or_default().to_owned();
    let inside = format!("https://127.0.0.1:{port}/_matrix/client/versions");
    let oob = format!("<x xmlns='jabber:x:oob'><url>{inside}</url></x>");
    chat.bob.call("send", json!({"to": chat.alice, "body": inside, "extra": [oob]}));
    let words = chat.person.expect_since(mark, "the link in words", |event| {
        event["body"].as_str().is_some_and(|body| body.starts_with(&inside))
    });
    assert!(words["body"].as_str().is_some_and(|body| body.contains("its address is a private one")), "{words}");

    // A large one passes through: the bridge never has it whole.
    bridge.peak_memory();
    let before = bridge.peak_memory();
    let size = 50 * 1024 * 1024;
    let (sent, got) = chat.person_sends("big.bin", "application/octet-stream", Some(size), None);
    assert_eq!(sent["sha1"], got["sha1"]);
    let between = bridge.peak_memory();
    let (sent, _, got) = chat.bob_sends("big.bin", "application/octet-stream", Some(size));
    assert_eq!(sent["sha1"], got["sha1"]);
    let after = bridge.peak_memory();
    println!(
        "peak of memory in kB: {before} before, {between} while 50 MiB go to XMPP, {after} while they go to Matrix"
    );
    assert!(between.max(after) - before < 12 * 1024, "{before} {between} {after}");
}

#[test]
fn files_cross_both_ways_with_ejabberd() {
    let ejabberd = Ejabberd::shared();
    let bridge = bridge(Ejabberd::DOMAIN, ejabberd.reach(), &ejabberd.upload());
    let chat = Chat::begin(&bridge, [ejabberd.account("alice"), ejabberd.account("bob")]);
    both_ways(&chat);
}
