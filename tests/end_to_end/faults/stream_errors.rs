//! What no real server would do at a test's word: every stream error of RFC 6120, resumption refused, and counts beyond what
//! was sent, each while messages are on their way.
//!
//! All play at once, each on a server of its own, for the bridge waits before it connects again.

use std::thread;

use serde_json::json;

use crate::end_to_end::bridge::{Bridge, Management, Portal};
use crate::end_to_end::clients::Person;
use crate::end_to_end::ground::poll;
use crate::end_to_end::scripted::{Resumption, Script, Scripted};
use crate::end_to_end::servers::PASSWORD;

/// RFC 6120 section 4.9.3; names of servers begin with them.
const CONDITIONS: [&str; 25] = [
    "bad-format.test",
    "bad-namespace-prefix.test",
    "conflict.test",
    "connection-timeout.test",
    "host-gone.test",
    "host-unknown.test",
    "improper-addressing.test",
    "internal-server-error.test",
    "invalid-from.test",
    "invalid-namespace.test",
    "invalid-xml.test",
    "not-authorized.test",
    "not-well-formed.test",
    "policy-violation.test",
    "remote-connection-failed.test",
    "reset.test",
    "resource-constraint.test",
    "restricted-xml.test",
    "see-other-host.test",
    "system-shutdown.test",
    "undefined-condition.test",
    "unsupported-encoding.test",
    "unsupported-feature.test",
    "unsupported-stanza-type.test",
    "unsupported-version.test",
];

/// How a server ends the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With a stream error.
    Error,
    /// Without a word.
    Cut,
    /// The same, after it claimed to have handled more than it was sent, as it goes on to do.
    CutBeyond,
}

struct Case {
    name: &'static str,
    end: End,
    resumption: Resumption,
    server: Scripted,
}

impl Case {
    fn start(name: &'static str, end: End, resumption: Resumption) -> Self {
        let roster = format!("<item jid='bob@{name}' subscription='both' name='Bob'/>");
        Self {
            name,
            end,
            resumption,
            server: Scripted::start(name, Script { roster, resumption, ..Script::default() }),
        }
    }

    fn bob(&self) -> String {
        format!("bob@{}", self.name)
    }

    fn bob_says(&self, text: &str) {
        let (bob, id) = (self.bob(), text.replace(' ', "-"));
        let to = self.server.jid();
        self.server.send(&format!(
            "<message from='{bob}/home' to='{to}/scripted' type='chat' id='{id}'><body>{text}</body></message>"
        ));
    }

    /// Messages go both ways, the stream ends while more are on their way, and everything arrives on the next.
    /// Nothing tells how much of what was on its way had arrived.
    fn doubts(&self) -> bool {
        self.resumption == Resumption::Refused || self.end == End::CutBeyond
    }

    fn play(&self, person: &Person, portal: &Portal) {
        let (server, room) = (&self.server, &portal.room);
        person.say_surely(room, "out 0");
        server.expect("the first message", |element| {
            element.get_child("body", "jabber:client").is_some_and(|body| body.text() == "out 0")
        });
        self.bob_says("in 0");
        person.hears(room, "in 0");
        server.await_all_acknowledged();

        server.lose();
        for text in ["out 1", "out 2", "out 3"] {
            person.say_surely(room, text);
        }
        server.expect_lost("out 3");
        self.bob_says("in 1");
        self.bob_says("in 2");
        match self.end {
            End::Error => {
                let condition = self.name.trim_end_matches(".test");
                let inside = if condition == "see-other-host" { "elsewhere.test" } else { "" };
                server
                    .fail(&format!("<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{inside}</{condition}>"));
            }
            End::Cut => server.cut(),
            End::CutBeyond => {
                server.claim_beyond();
                server.cut();
            }
        }
        person.say_surely(room, "out 4");

        let wanted = ["out 0", "out 1", "out 2", "out 3", "out 4"];
        let all = || server.texts().last().is_some_and(|text| text == "out 4");
        // After a conflict the bridge rests for a minute, which is as long as one such wait.
        let arrived = poll(all) || poll(all);
        let case = format!("{} ({:?}, resumption {:?})", self.name, self.end, self.resumption);
        assert!(arrived, "{case}: the server has {:?}", server.texts());
        assert_eq!(server.texts(), wanted, "{case}");
        self.bob_says("in 3");
        person.hears(room, "in 3");
        let (notices, said): (Vec<_>, Vec<_>) =
            person.heard(room).into_iter().partition(|text| text.starts_with('\u{26a0}'));
        assert_eq!(said, ["in 0", "in 1", "in 2", "in 3"], "{case}");
        // Without an archive and without a count that can be true nobody knows what arrived, and the person is told so.
        let doubts = notices.iter().filter(|notice| notice.contains("may have been delivered twice")).count();
        assert_eq!(doubts, usize::from(self.doubts()), "{case}: {notices:?}");
    }
}

#[test]
fn no_stream_error_and_no_wrong_count_loses_or_doubles_a_message() {
    use Resumption::{Granted, Refused, RefusedCounted};
    let mut cases: Vec<Case> = Vec::new();
    for (name, resumption) in CONDITIONS.into_iter().zip([Granted, Refused, RefusedCounted].into_iter().cycle()) {
        cases.push(Case::start(name, End::Error, resumption));
    }
    for (name, end, resumption) in [
        ("cut-granted.test", End::Cut, Granted),
        ("cut-refused.test", End::Cut, Refused),
        ("cut-refused-counted.test", End::Cut, RefusedCounted),
        ("beyond-granted.test", End::CutBeyond, Granted),
        ("beyond-refused.test", End::CutBeyond, Refused),
        ("beyond-refused-counted.test", End::CutBeyond, RefusedCounted),
    ] {
        cases.push(Case::start(name, end, resumption));
    }
    let domains: serde_json::Map<_, _> =
        cases.iter().map(|case| (case.name.to_owned(), case.server.domain())).collect();
    let networks = json!({"xmpp": {"profile": "xmpp", "domains": domains}});
    let bridge = Bridge::start_with("bridge", &networks, &json!({"logins": {"max_logins": cases.len()}}));
    let person = bridge.person("romeo");
    let management = Management::open(&person);
    let portals: Vec<Portal> = cases
        .iter()
        .map(|case| {
            let jid = case.server.jid();
            management.login(&format!("login xmpp {jid} {PASSWORD}"), &jid);
            Portal::appears(&person, &case.bob())
        })
        .collect();
    thread::scope(|scope| {
        for (case, portal) in cases.iter().zip(&portals) {
            let person = &person;
            scope.spawn(move || case.play(person, portal));
        }
    });
    let logins = management.ask("list-logins", |answer| answer.contains("online"));
    assert_eq!(logins.matches(": online").count(), cases.len(), "{logins}");
}
