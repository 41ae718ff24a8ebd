//! Nothing is answered or sent before what it rests on is on the disk: shown by tracing the system calls of a run.
//!
//! The homeserver's side is plain HTTP, so the trace shows each transaction's request and its answer. On a stream the bytes
//! are encrypted; there each message of the contact is so long that its read cannot be taken for another, and the event
//! that comes out on the homeserver's side stands for what was read before it. Acks cannot be told apart here, as a
//! request for one is answered at once with what is committed by then; what they hold is shown where the stream can be
//! read, in `tests/wire/xmpp`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use serde_json::json;

use super::bridge::{Bridge, Management, Portal, starttls};
use super::clients::Contact;
use super::servers::Prosody;

/// What a line of the trace is to this test.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    /// A part of a transaction's request was read, on this descriptor.
    Pushed(String),
    /// In that part was a message of the person.
    Told(String),
    /// An answer was written, on this descriptor.
    Answered(String),
    /// At least [`LONG`] bytes came from the XMPP server at once: a message of the contact.
    Heard,
    /// An event was sent to the homeserver.
    Sent,
    /// The store's file is on the disk: the call has returned.
    Synced,
}

/// What a message of the person begins with.
const TO_XMPP: &str = "to XMPP ";

/// Bytes of a message's padding. Whatever else the server sends in a conversation is shorter.
const LONG: usize = 3_200;

/// Reads the lines of `strace -f -y`: a call that another thread interrupted stands on two lines, of which the second is
/// when it returned. Only what is sent to `room` counts: the bot says things elsewhere.
fn read(trace: &str, xmpp: u16, room: &str) -> Vec<Call> {
    let room = room.trim_start_matches('!').split(':').next().unwrap_or_default();
    let mut calls = Vec::new();
    let mut begun: HashMap<&str, String> = HashMap::new();
    // Descriptors with a request that is not answered yet.
    let mut open: HashSet<String> = HashSet::new();
    let stream = format!("->127.0.0.1:{xmpp}]");
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let (text, whole) = if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(thread, start.to_owned());
            (start.to_owned(), false)
        } else if rest.starts_with("<... ") {
            let Some(start) = begun.remove(thread) else { continue };
            (start + rest, true)
        } else {
            (rest.to_owned(), true)
        };
        let descriptor =
            || text.split('(').nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default().to_owned();
        let name = text.split('(').next().unwrap_or_default();
        match name {
            "fsync" if whole && text.contains("/data/db>") => calls.push(Call::Synced),
            "read" | "recvfrom" if whole => {
                let bytes = text.rsplit("= ").next().and_then(|bytes| bytes.trim().parse::<usize>().ok()).unwrap_or(0);
                if descriptor().contains(&stream) {
                    calls.extend((bytes >= LONG).then_some(Call::Heard));
                } else if text.contains("PUT /_matrix/app/v1/transactions/")
                    || open.contains(&descriptor()) && bytes > 0
                {
                    open.insert(descriptor());
                    calls.push(Call::Pushed(descriptor()));
                    calls.extend(text.contains(TO_XMPP).then(|| Call::Told(descriptor())));
                }
            }
            // A call that sends counts from when it begins.
            "write" | "writev" | "sendto" | "sendmsg" if !rest.starts_with("<... ") => {
                if text.contains("HTTP/1.1 200 OK") {
                    open.remove(&descriptor());
                    calls.push(Call::Answered(descriptor()));
                } else if text.contains("/send/m.room.message/") && text.contains(room) {
                    calls.push(Call::Sent);
                }
            }
            _ => {}
        }
    }
    calls
}

/// Messages each way.
const ROUNDS: usize = 10;

fn traced(folder: &Path) -> String {
    fs::read_to_string(folder.join("trace")).expect("the trace")
}

#[test]
fn nothing_is_answered_or_sent_before_the_disk_has_it() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let (alice, bob) = (prosody.account("alice"), prosody.account("bob"));
    let contact = Contact::connect(&bob);
    let own = Contact::connect(&alice);
    own.befriend(&contact);
    own.leave();
    let person = bridge.person("romeo");
    Management::sign_in(&person, &alice.jid);
    let portal = Portal::appears(&person, &bob.jid);
    contact.say(&alice.jid, "before the trace");
    person.hears(&portal.room, "before the trace");
    bridge.terminate();

    bridge.launch_traced();
    for number in 1..=ROUNDS {
        let long = format!("to Matrix {number} {}", "x".repeat(LONG));
        contact.say(&alice.jid, &long);
        person.hears(&portal.room, &long);
        person.say(&portal.room, &format!("{TO_XMPP}{number}"));
        contact.hears(&alice.jid, &format!("{TO_XMPP}{number}"));
    }
    bridge.terminate();

    let calls = read(&traced(bridge.folder()), prosody.reach().starttls, &portal.room);
    let count = |wanted: fn(&Call) -> bool| calls.iter().filter(|call| wanted(call)).count();
    assert!(count(|call| matches!(call, Call::Pushed(_))) >= 2 * ROUNDS, "the trace shows too few transactions");
    assert!(
        count(|call| matches!(call, Call::Told(_))) >= ROUNDS,
        "the trace does not show each message of the person"
    );
    assert_eq!(count(|call| *call == Call::Sent), ROUNDS, "the trace does not show each event");
    assert_eq!(count(|call| *call == Call::Heard), ROUNDS, "the trace does not show each message");

    for (at, call) in calls.iter().enumerate() {
        let later = &calls[at..];
        match call {
            Call::Told(descriptor) => {
                let answered = |call: &Call| matches!(call, Call::Answered(on) if on == descriptor);
                // The last may have come when the program was ending, without an answer.
                let Some(answer) = later.iter().position(answered) else { continue };
                let rest = &later[..answer];
                assert!(rest.contains(&Call::Synced), "a transaction was answered before the disk had it: {rest:?}");
            }
            Call::Heard => {
                let sent = later.iter().position(|call| *call == Call::Sent).expect("the event of the message");
                let synced = later.iter().position(|call| *call == Call::Synced).expect("a sync after the message");
                assert!(synced < sent, "an event was sent before the disk had its message: {:?}", &later[..=synced]);
            }
            // A transaction that brings nothing new, such as our own events, has nothing to be written.
            Call::Pushed(_) | Call::Answered(_) | Call::Sent | Call::Synced => {}
        }
    }
}

#[test]
fn the_reader_of_traces_reads_calls_that_were_interrupted() {
    let trace = concat!(
        "12 read(7<TCP:[127.0.0.1:1->127.0.0.1:9]>, \"PUT /_matrix/app/v1/transactions/5 HTTP\"..., 99) = 99\n",
        "12 read(7<TCP:[127.0.0.1:1->127.0.0.1:9]>, \"{\\\"events\\\":[{\\\"content\\\":{\\\"body\\\":\\\"to XMPP 1\\\"\"..., 99) = 40\n",
        "12 read(7<TCP:[127.0.0.1:1->127.0.0.1:9]>, 0x7f, 99) = -1 EAGAIN (Resource temporarily unavailable)\n",
        "13 fsync(5</x/data/db> <unfinished ...>\n",
        "12 sendto(8<TCP:[a]>, \"PUT /_matrix/client/v3/rooms/!a/send/m.room.message/x\"..., 5 <unfinished ...>\n",
        "13 <... fsync resumed>) = 0\n",
        "12 <... sendto resumed>) = 5\n",
        "12 writev(7<TCP:[127.0.0.1:1->127.0.0.1:9]>, [{iov_base=\"HTTP/1.1 200 OK\\r\\n\"...}]) = 9\n",
        "12 read(7<TCP:[127.0.0.1:1->127.0.0.1:9]>, \"GET / HTTP\"..., 99) = 40\n",
        "12 read(9<TCP:[127.0.0.1:3->127.0.0.1:5222]>, \"\\27\", 4096) = 1\n",
        "12 read(9<TCP:[127.0.0.1:3->127.0.0.1:5222]>,  <unfinished ...>\n",
        "12 <... read resumed>\"\\27\"..., 4096) = 3400\n",
    );
    let socket = "7<TCP:[127.0.0.1:1->127.0.0.1:9]>".to_owned();
    let pushed = || Call::Pushed(socket.clone());
    let told = Call::Told(socket.clone());
    let wanted = [pushed(), pushed(), told, Call::Sent, Call::Synced, Call::Answered(socket.clone()), Call::Heard];
    assert_eq!(read(trace, 5222, "!a"), wanted);
}
