//! What was said before, meanwhile and elsewhere.

use messenger_bridge::domain::{
    Timestamp,
    input::Input,
    stream::{StreamEnd, StreamReport},
};
use ruma::presence::PresenceState;

use super::stage::Stage;

const JULIET: &str = "<item jid='juliet@capulet.lit' subscription='both'/>";
const MAM: &str = "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:xmpp:mam:2'/></query>";

fn archived(n: u32) -> (String, String, String) {
    (
        format!("id{n}"),
        format!("2026-01-01T00:00:{n:02}Z"),
        format!(
            "<message from='juliet@capulet.lit/b' to='romeo@montague.lit' type='chat' id='m{n}'><body>{n}</body></message>"
        ),
    )
}

fn with_archive(count: u32) -> Stage {
    let mut stage = Stage::with(Stage::settings());
    stage.answers.insert("http://jabber.org/protocol/disco#info romeo@montague.lit", MAM.to_owned());
    stage.archive = (0..count).map(archived).collect();
    stage
}

#[test]
fn a_new_room_begins_with_its_history_at_its_own_time() {
    let mut stage = with_archive(3);
    stage.sign_in(JULIET);
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["0", "1", "2"]);
    assert_eq!(stage.heard("juliet@capulet.lit")[1].at, Timestamp::parse("2026-01-01T00:00:01Z").map(|at| at.0));
    // Asked again after a reconnect, nothing comes twice.
    stage.cut(false);
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["0", "1", "2"]);
}

#[test]
fn what_was_missed_is_fetched_from_the_last_id_and_what_came_live_is_known() {
    let mut stage = with_archive(2);
    stage.sign_in(JULIET);
    stage.archive.push(archived(2));
    stage.server_sends("<message from='juliet@capulet.lit/b' type='chat' id='m2'><body>2</body><stanza-id xmlns='urn:xmpp:sid:0' by='romeo@montague.lit' id='id2'/></message>");
    stage.archive.push(archived(3));
    stage.archive.push(archived(4));
    stage.cut(false);
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["0", "1", "2", "3", "4"]);
}

#[test]
fn a_live_message_waits_until_history_is_in() {
    let mut stage = with_archive(0);
    stage.sign_in("");
    stage.archive = vec![
        (
            "a".to_owned(),
            "2026-01-01T00:00:00Z".to_owned(),
            "<message from='tybalt@capulet.lit' to='romeo@montague.lit' type='chat'><body>before</body></message>"
                .to_owned(),
        ),
        (
            "b".to_owned(),
            "2026-01-02T00:00:00Z".to_owned(),
            "<message from='tybalt@capulet.lit' to='romeo@montague.lit' type='chat'><body>now</body></message>"
                .to_owned(),
        ),
    ];
    stage.server_sends("<message from='tybalt@capulet.lit' type='chat'><body>now</body><stanza-id xmlns='urn:xmpp:sid:0' by='romeo@montague.lit' id='b'/></message>");
    assert_eq!(stage.bodies("tybalt@capulet.lit"), ["before", "now"]);
}

#[test]
fn what_the_person_sent_through_matrix_is_not_shown_again() {
    let mut stage = with_archive(0);
    stage.sign_in(JULIET);
    let room = stage.room("juliet@capulet.lit");
    stage.says(&room, "from Matrix");
    let id = stage.messages_to("juliet@capulet.lit")[0].attr("id").unwrap().to_owned();
    stage.archive.push(("x".to_owned(), "2026-01-01T00:00:00Z".to_owned(), format!("<message from='romeo@montague.lit/bridge' to='juliet@capulet.lit' type='chat' id='{id}'><body>from Matrix</body></message>")));
    stage.archive.push(("y".to_owned(), "2026-01-01T00:00:01Z".to_owned(), "<message from='romeo@montague.lit/phone' to='juliet@capulet.lit' type='chat' id='z'><body>from the phone</body></message>".to_owned()));
    stage.cut(false);
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["from the phone"]);
    assert_eq!(stage.heard("juliet@capulet.lit")[0].sender, stage.ghost("romeo@montague.lit").as_str());
}

#[test]
fn more_than_is_fetched_is_said_and_the_newest_come() {
    let mut settings = Stage::settings();
    settings.history_catch_up = 5;
    let mut stage = Stage::with(settings);
    stage.answers.insert("http://jabber.org/protocol/disco#info romeo@montague.lit", MAM.to_owned());
    stage.archive = vec![archived(0)];
    stage.sign_in(JULIET);
    stage.archive.extend((1..30).map(archived));
    stage.cut(false);
    let bodies = stage.bodies("juliet@capulet.lit");
    assert_eq!(bodies.first().map(String::as_str), Some("0"));
    assert_eq!(bodies.last().map(String::as_str), Some("29"));
    assert!(bodies.len() < 20);
    assert!(stage.bot_said().iter().any(|said| said.contains("More was said")));
}

/// The Messenger service: offline messages come after initial presence, and its archive has no ids.
#[test]
fn offline_messages_are_gathered_and_one_that_the_archive_has_too_is_one() {
    let jid = "juliet@messenger.live.com";
    let mut stage = Stage::with(Stage::settings());
    stage.answers.insert(
        "urn:xmpp:archive",
        format!(
            "<chat xmlns='urn:xmpp:archive' with='{jid}' start='2026-01-01T00:00:00Z'><from secs='0'><body>old</body></from>\
             <to secs='10'><body>answer</body></to><from secs='50'><body>hi</body></from><from secs='0'><body>hi</body></from></chat>"
        ),
    );
    stage.account = "0123456789abcdef@messenger.live.com";
    stage.managed = false;
    stage.answers.insert(
        "jabber:iq:roster",
        format!("<query xmlns='jabber:iq:roster'><item jid='{jid}' subscription='both'/></query>"),
    );
    stage.management(super::stage::OWNER);
    stage.command("login messenger");
    stage.command("https://login.live.com/oauth20_desktop.srf?code=c&state=s");
    stage.pass(5_000);
    assert_eq!(stage.bodies(jid), ["old", "answer", "hi", "hi"]);
    assert_eq!(stage.heard(jid)[1].sender, stage.ghost("0123456789abcdef@messenger.live.com").as_str());
    // Two equal live messages stay two, whatever the archive says.
    stage.phone_sends(jid, "hi");
    stage.phone_sends(jid, "hi");
    // What the offline store has of the archive's is known: both "hi" are, a third is not.
    for _ in 0..3 {
        stage.server_sends(&format!("<message from='{jid}' type='chat'><body>hi</body><delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:01:01Z'/></message>"));
    }
    assert_eq!(stage.bodies(jid), ["old", "answer", "hi", "hi", "hi", "hi", "hi"]);
    stage.cut(false);
    assert_eq!(stage.bodies(jid).len(), 7, "asked again, the archive shows nothing twice");
}

/// A connection that was frozen for a while: what came late, and what was taken late, is in the archive at its own time.
#[test]
fn what_came_or_went_late_is_known_when_the_archive_has_it_at_its_own_time() {
    let jid = "juliet@messenger.live.com";
    let mut stage = Stage::messenger(&format!("<item jid='{jid}' subscription='both'/>"));
    let room = stage.room(jid);
    let begun = stage.now.wall;
    stage.says(&room, "sent before the server had it");
    stage.pass(30_000);
    stage.phone_sends(jid, "heard after the server had it");
    stage.phone_sends(jid, "again");
    let stamp = begun.to_xmpp();
    stage.answers.insert(
        "urn:xmpp:archive",
        format!(
            "<chat xmlns='urn:xmpp:archive' with='{jid}' start='{stamp}'><to secs='20'><body>sent before the server had \
             it</body></to><from secs='1'><body>heard after the server had it</body></from><from secs='1'><body>again\
             </body></from><from secs='1'><body>again</body></from></chat>"
        ),
    );
    stage.cut(false);
    // Only the second "again" was lost with the connection.
    assert_eq!(stage.bodies(jid), ["heard after the server had it", "again", "again"]);
    stage.cut(false);
    assert_eq!(stage.bodies(jid).len(), 3, "asked again, the archive shows nothing twice");
}

/// What comes live while the archive is asked waits for its answer. Of what came late by a slow connection, what the archive no
/// longer has among its last messages was said before them, and what it has is known, whatever time it was read at.
#[test]
fn what_waited_for_the_archive_comes_before_what_it_is_not_among() {
    let jid = "juliet@messenger.live.com";
    let mut stage = Stage::messenger(&format!("<item jid='{jid}' subscription='both'/>"));
    let stamp = stage.now.wall.to_xmpp();
    let said = |body: &str| format!("<message from='{jid}' type='chat'><body>{body}</body></message>");
    stage.offline = vec![said("first"), said("second"), said("third"), said("second")];
    stage.answers.insert(
        "urn:xmpp:archive",
        format!(
            "<chat xmlns='urn:xmpp:archive' with='{jid}' start='{stamp}'><from secs='0'><body>third</body></from><from \
             secs='1'><body>second</body></from><from secs='0'><body>lost with the connection</body></from></chat>"
        ),
    );
    stage.pass(30_000);
    stage.cut(false);
    assert_eq!(stage.bodies(jid), ["first", "second", "third", "second", "lost with the connection"]);
    stage.offline.clear();
    stage.cut(false);
    assert_eq!(stage.bodies(jid).len(), 5, "asked again, the archive shows nothing twice");
}

/// What the server kept for an account that was away need not be in the archive; its stamp tells where it belongs, and that an
/// equal text of another time is another message.
#[test]
fn what_the_server_kept_stands_by_its_stamp_beside_the_archives_lines() {
    let jid = "juliet@messenger.live.com";
    let mut stage = Stage::messenger(&format!("<item jid='{jid}' subscription='both'/>"));
    let kept = |body: &str, stamp: &str| {
        format!(
            "<message from='{jid}' type='chat'><body>{body}</body><delay xmlns='urn:xmpp:delay' stamp='2026-01-01T{stamp}Z'/></message>"
        )
    };
    stage.offline = vec![
        kept("ok", "12:00:00"),
        kept("before", "09:00:00"),
        kept("just before", "10:00:00"),
        kept("after", "11:00:00"),
    ];
    stage.answers.insert(
        "urn:xmpp:archive",
        format!(
            "<chat xmlns='urn:xmpp:archive' with='{jid}' start='2026-01-01T10:00:00Z'><from secs='0'><body>ok</body></from>\
             <to secs='60'><body>mine</body></to></chat>"
        ),
    );
    stage.cut(false);
    assert_eq!(stage.bodies(jid), ["before", "just before", "ok", "mine", "after", "ok"]);
    stage.offline.clear();
    stage.cut(false);
    assert_eq!(stage.bodies(jid).len(), 6, "asked again, the archive shows nothing twice");
}

/// The archive keeps the last ten lines of a chat. Where these do not reach back to what was known before the connection broke,
/// nobody can know what was said between, and the person is told.
#[test]
fn what_may_be_missing_before_the_archives_last_lines_is_said() {
    let jid = "juliet@messenger.live.com";
    let mut stage = Stage::messenger(&format!("<item jid='{jid}' subscription='both'/>"));
    stage.phone_sends(jid, "line 0");
    let stamp = stage.now.wall.to_xmpp();
    let archive_holds = |stage: &mut Stage, from: usize, to: usize| {
        let line = |number| format!("<from secs='0'><body>line {number}</body></from>");
        let lines: String = (from..to).map(line).collect();
        let chat = format!("<chat xmlns='urn:xmpp:archive' with='{jid}' start='{stamp}'>{lines}</chat>");
        stage.answers.insert("urn:xmpp:archive", chat);
        stage.pass(500);
        stage.cut(false);
    };
    let gaps = |stage: &Stage| stage.bodies(jid).iter().filter(|body| body.contains("may be missing")).count();
    archive_holds(&mut stage, 0, 10);
    assert_eq!((gaps(&stage), stage.bodies(jid).len()), (0, 10), "it begins with what is known");
    archive_holds(&mut stage, 9, 19);
    assert_eq!((gaps(&stage), stage.bodies(jid).len()), (0, 19), "it begins with what is known");
    // What comes on the new stream before the archive's answer is known, and says nothing of what was lost before it.
    let said = |body: &str| format!("<message from='{jid}' type='chat'><body>{body}</body></message>");
    stage.offline = vec![said("line 29"), said("line 30")];
    archive_holds(&mut stage, 21, 31);
    let bodies = stage.bodies(jid);
    assert_eq!((gaps(&stage), bodies.len()), (1, 30));
    assert!(bodies[19].contains("may be missing") && bodies[20] == "line 21" && bodies[29] == "line 30");
    stage.offline.clear();
    archive_holds(&mut stage, 21, 31);
    assert_eq!((gaps(&stage), stage.bodies(jid).len()), (1, 30), "asked again, nothing is said twice");
}

/// The clock is stepped an hour and back while people talk: the archive's times, which are right, are still known.
#[test]
fn a_step_of_the_clock_shows_nothing_twice() {
    let jid = "juliet@messenger.live.com";
    let mut stage = Stage::messenger(&format!("<item jid='{jid}' subscription='both'/>"));
    let room = stage.room(jid);
    let stamp = stage.now.wall.to_xmpp();
    for step in [3_600_000, -3_600_000] {
        stage.now.wall.0 += step;
        stage.says(&room, "mine");
        stage.phone_sends(jid, "theirs");
        stage.now.wall.0 -= step;
    }
    let lines = "<to secs='0'><body>mine</body></to><from secs='0'><body>theirs</body></from>".repeat(2);
    stage.answers.insert(
        "urn:xmpp:archive",
        format!("<chat xmlns='urn:xmpp:archive' with='{jid}' start='{stamp}'>{lines}</chat>"),
    );
    stage.cut(false);
    assert_eq!(stage.bodies(jid), ["theirs", "theirs"]);
}

#[test]
fn what_the_server_kept_comes_oldest_first_before_anything_live() {
    let kept = |body: &str, stamp: &str| {
        format!(
            "<message from='juliet@capulet.lit' type='chat'><body>{body}</body><delay xmlns='urn:xmpp:delay' stamp='{stamp}'/></message>"
        )
    };
    let mut stage = Stage::with(Stage::settings());
    stage.offline = vec![
        kept("second", "2026-01-01T00:00:02Z"),
        "<message from='juliet@capulet.lit' type='chat'><body>live</body></message>".to_owned(),
        kept("first", "2026-01-01T00:00:01Z"),
    ];
    stage.sign_in(JULIET);
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["first", "second", "live"]);
    let stamps: Vec<_> = stage.heard("juliet@capulet.lit").iter().map(|said| said.at).collect();
    let stamp = |text| Timestamp::parse(text).map(|at| at.0);
    assert_eq!(stamps, [stamp("2026-01-01T00:00:01Z"), stamp("2026-01-01T00:00:02Z"), None]);
}

#[test]
fn a_session_is_resumed_across_a_restart_and_nothing_is_asked_again() {
    let mut stage = Stage::xmpp(JULIET);
    let room = stage.room("juliet@capulet.lit");
    stage.says(&room, "one");
    let before = stage.sent.len();
    stage.cut(true);
    assert!(stage.connects.last().unwrap().resume.is_some());
    let asked =
        |stage: &Stage| stage.sent.iter().filter(|iq| iq.children().any(|c| c.ns() == "jabber:iq:roster")).count();
    assert_eq!(asked(&stage), 1, "the roster is not fetched again");
    assert!(stage.sent.len() >= before);
    stage.phone_sends("juliet@capulet.lit", "two");
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["two"]);
    assert_eq!(stage.texts_to("juliet@capulet.lit"), ["one"]);
    stage.crash();
    assert!(stage.connects.last().unwrap().resume.is_some(), "the session outlives the process");
    stage.phone_sends("juliet@capulet.lit", "three");
    assert_eq!(asked(&stage), 1);
    assert_eq!(stage.bodies("juliet@capulet.lit"), ["two", "three"]);
    assert!(stage.shown().iter().all(|presence| presence.attr("type").is_none()), "nobody sees the account leave");
}

/// As Prosody 0.12 does after a connection that broke in the middle of a stanza.
#[test]
fn a_session_that_does_not_hear_after_it_was_resumed_is_given_up() {
    for (timed_out, heard, resumes) in [(true, false, false), (true, true, true), (false, false, true)] {
        let mut stage = Stage::xmpp(JULIET);
        let room = stage.room("juliet@capulet.lit");
        stage.cut(true);
        assert!(stage.connects.last().unwrap().resume.is_some());
        stage.mute = true;
        stage.says(&room, "one");
        let stream = stage.stream.take().unwrap();
        let h = u32::try_from(stage.sent.len()).unwrap() - 1;
        if heard {
            stage.play(Input::Stream { stream, report: StreamReport::Acked(h) });
        }
        let end = if timed_out {
            StreamEnd::TimedOut { phase: "confirming what we send".to_owned() }
        } else {
            StreamEnd::Lost { detail: "cut".to_owned() }
        };
        stage.play(Input::Stream { stream, report: StreamReport::Down(end) });
        // What is to be resumed outlives the process.
        stage.mute = false;
        stage.crash();
        stage.pass(10_000);
        assert_eq!(stage.connects.last().unwrap().resume.is_some(), resumes, "{timed_out} {heard}");
    }
}

#[test]
fn what_is_answered_is_not_waited_for_any_longer() {
    let mut stage = Stage::xmpp(JULIET);
    stage.pass(4_000);
    stage.cut(false);
    stage.pass(50_000);
    // A question that is not answered is given up after a minute.
    assert!(
        stage.engine.next_wake().is_none_or(|at| at > stage.now.uptime + 20_000),
        "{:?} at {}",
        stage.engine.next_wake(),
        stage.now.uptime
    );
}

#[test]
fn after_a_restart_contacts_see_nothing_anew_unless_something_has_changed() {
    let mut stage = Stage::xmpp(JULIET);
    stage.is(PresenceState::Unavailable, Some("at sea"));
    let shown = stage.shown().len();
    for _ in 0..2 {
        stage.crash();
        assert!(stage.connects.last().unwrap().resume.is_some());
        assert_eq!(stage.shown().len(), shown);
    }
    stage.is(PresenceState::Unavailable, Some("ashore"));
    assert_eq!(stage.shown().len(), shown + 1);
    stage.crash();
    stage.is(PresenceState::Unavailable, Some("ashore"));
    assert_eq!(stage.shown().len(), shown + 1);
    // A new session begins as nobody's: who is there is said again.
    stage.cut(false);
    assert_eq!(stage.shown().len(), 1);
    stage.crash();
    assert_eq!(stage.shown().len(), 1);
}
