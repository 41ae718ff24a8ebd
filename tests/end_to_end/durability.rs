//! Nothing is answered or sent before what it rests on is on the disk: shown by tracing the system calls of a run.
//!
//! The homeserver's side is plain HTTP, so the trace shows each transaction's request and its answer. On a stream the bytes
//! are encrypted; there the message that comes out on the homeserver's side stands for what was read before it.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::bridge::{Bridge, Management, Portal, starttls};
use super::clients::Contact;
use super::servers::Prosody;

/// What a line of the trace is to this test.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    /// A transaction's request was read, on this descriptor.
    Pushed(String),
    /// An answer was written, on this descriptor.
    Answered(String),
    /// Bytes came from an XMPP server.
    Heard,
    /// An event was sent to the homeserver.
    Sent,
    /// The store's file is on the disk: the call has returned.
    Synced,
}

/// Reads the lines of `strace -f -y`: a call that another thread interrupted stands on two lines, of which the second is
/// when it returned.
fn read(trace: &str, xmpp: u16) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut begun: std::collections::HashMap<&str, String> = std::collections::HashMap::new();
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
            "read" | "recvfrom" if whole && text.contains("PUT /_matrix/app/v1/transactions/") => {
                calls.push(Call::Pushed(descriptor()));
            }
            "read" | "recvfrom"
                if whole && text.contains(&format!("->127.0.0.1:{xmpp}]")) && !text.contains("EAGAIN") =>
            {
                calls.push(Call::Heard);
            }
            // A call that sends counts from when it begins.
            "write" | "writev" | "sendto" | "sendmsg" if !rest.starts_with("<... ") => {
                if text.contains("HTTP/1.1 200 OK") {
                    calls.push(Call::Answered(descriptor()));
                } else if text.contains("/send/m.room.message/") {
                    calls.push(Call::Sent);
                }
            }
            _ => {}
        }
    }
    calls
}

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
    for number in 1..=10 {
        contact.say(&alice.jid, &format!("to Matrix {number}"));
        person.hears(&portal.room, &format!("to Matrix {number}"));
        person.say(&portal.room, &format!("to XMPP {number}"));
        contact.hears(&alice.jid, &format!("to XMPP {number}"));
    }
    bridge.terminate();

    let calls = read(&traced(bridge.folder()), prosody.reach().starttls);
    let count = |wanted: fn(&Call) -> bool| calls.iter().filter(|call| wanted(call)).count();
    assert!(count(|call| matches!(call, Call::Pushed(_))) >= 20, "the trace shows too few transactions: {calls:?}");
    assert!(count(|call| matches!(call, Call::Sent)) >= 10, "the trace shows too few events: {calls:?}");
    assert!(count(|call| matches!(call, Call::Heard)) >= 10, "the trace shows no stream: {calls:?}");

    for (at, call) in calls.iter().enumerate() {
        match call {
            Call::Pushed(descriptor) => {
                let answer =
                    calls[at..].iter().position(|later| matches!(later, Call::Answered(on) if on == descriptor));
                let Some(answer) = answer else { continue };
                assert!(
                    calls[at..at + answer].contains(&Call::Synced),
                    "a transaction was answered before the disk had it: {:?}",
                    &calls[at..=at + answer]
                );
            }
            Call::Sent => {
                let heard = calls[..at].iter().rposition(|earlier| *earlier == Call::Heard);
                let pushed = calls[..at].iter().rposition(|earlier| matches!(earlier, Call::Pushed(_)));
                // What is sent rests on something read before: on the disk, since the first thing it can rest on.
                let Some(first) = heard.into_iter().chain(pushed).min() else { continue };
                assert!(
                    calls[first..at].contains(&Call::Synced),
                    "an event was sent before the disk had what it rests on"
                );
            }
            Call::Answered(_) | Call::Heard | Call::Synced => {}
        }
    }
}

#[test]
fn the_reader_of_traces_reads_calls_that_were_interrupted() {
    let trace = "12 read(7<TCP:[127.0.0.1:1->127.0.0.1:9]>, \"PUT /_matrix/app/v1/transactions/5 HTTP\"..., 99) = 99\n\
                 13 fsync(5</x/data/db> <unfinished ...>\n12 sendto(8<TCP:[a]>, \"PUT /_matrix/client/v3/rooms/!a/send/m.room.message/x\"..., 5 <unfinished ...>\n\
                 13 <... fsync resumed>) = 0\n12 <... sendto resumed>) = 5\n\
                 12 writev(7<TCP:[127.0.0.1:1->127.0.0.1:9]>, [{iov_base=\"HTTP/1.1 200 OK\\r\\n\"...}]) = 9\n12 read(9<TCP:[127.0.0.1:3->127.0.0.1:5222]>, \"\\27\", 4096) = 1\n";
    let socket = "7<TCP:[127.0.0.1:1->127.0.0.1:9]>".to_owned();
    assert_eq!(
        read(trace, 5222),
        [Call::Pushed(socket.clone()), Call::Sent, Call::Synced, Call::Answered(socket), Call::Heard]
    );
}
