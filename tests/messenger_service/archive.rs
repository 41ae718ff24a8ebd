//! The archive (XEP-0136): up to the last ten lines of a conversation; paging and `after` are ignored.
use std::collections::VecDeque;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::wire::{Node, bare, esc};
use super::world::{World, stamp};

/// `urn:xmpp:archive`
pub const ARCHIVE: &str = "urn:xmpp:archive";
/// Lines kept of each conversation.
pub const LINES: usize = 10;

/// Which way a line went, seen from the owner of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The owner wrote it.
    Sent,
    /// The contact wrote it.
    Received,
}

/// A line of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which way it went.
    pub direction: Direction,
    /// The body.
    pub text: String,
    /// When it was sent.
    pub stamp: OffsetDateTime,
}

impl World {
    /// Adds a line to one side's archive, at its place in time.
    pub fn archive_line(&mut self, owner: &str, with: &str, text: &str, stamp: OffsetDateTime, direction: Direction) {
        let Some(person) = self.people.get_mut(owner) else { return };
        let lines = person.archive.entry(with.to_owned()).or_default();
        let place = lines.iter().rposition(|line| line.stamp <= stamp).map_or(0, |before| before + 1);
        lines.insert(place, Line { direction, text: text.to_owned(), stamp });
        while lines.len() > LINES {
            lines.pop_front();
        }
    }

    /// Answers `<retrieve/>` and `<list/>`.
    pub fn archive_request(&mut self, id: u64, request: &Node, query: &Node) {
        let Some(account) = self.sessions.get(&id).map(|session| session.account.clone()) else { return };
        self.count(&account, |counters| counters.archive_requests += 1);
        let Some(person) = self.people.get(&account) else { return };
        let with = query.attr("with").map(bare);
        let answer = match (query.name.as_str(), &with) {
            ("retrieve", Some(with)) => chat(with, person.archive.get(with)),
            ("retrieve", None) => {
                self.refuse(id, request, "modify", "bad-request");
                return;
            }
            _ => {
                let chats = person.archive.iter().filter(|(other, _)| with.as_ref().is_none_or(|with| with == *other));
                let heads = chats.filter_map(|(other, lines)| lines.front().map(|line| (other, line)));
                let heads = heads.fold(String::new(), |mut out, (other, line)| {
                    // Writing to a String does not fail.
                    let _ = write!(out, "<chat with='{}' start='{}'/>", esc(other), stamp(line.stamp));
                    out
                });
                format!("<list xmlns='{ARCHIVE}'>{heads}</list>")
            }
        };
        let attrs = self.reply_attrs(id, request);
        self.send(id, format!("<iq type='result'{attrs}>{answer}</iq>"));
    }
}

/// One collection: seconds count from the line before, the first from `start` (XEP-0136, "Retrieving a Collection").
fn chat(with: &str, lines: Option<&VecDeque<Line>>) -> String {
    let Some((lines, first)) = lines.and_then(|lines| Some((lines, lines.front()?))) else {
        return format!("<chat xmlns='{ARCHIVE}' with='{}'/>", esc(with));
    };
    let mut out = format!("<chat xmlns='{ARCHIVE}' with='{}' start='{}'>", esc(with), stamp(first.stamp));
    let mut passed = 0;
    for line in lines {
        // Whole seconds, without the roundings adding up.
        let since = (line.stamp - first.stamp).whole_seconds();
        let tag = match line.direction {
            Direction::Sent => "to",
            Direction::Received => "from",
        };
        // Writing to a String does not fail.
        let _ = write!(out, "<{tag} secs='{}'><body>{}</body></{tag}>", since - passed, esc(&line.text));
        passed = since;
    }
    out + "</chat>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_count_from_the_line_before() {
        let start = time::macros::datetime!(2012-04-20 10:00 UTC);
        let line = |ms: i64, direction, text: &str| Line {
            direction,
            text: text.into(),
            stamp: start + time::Duration::milliseconds(ms),
        };
        let lines = VecDeque::from([
            line(0, Direction::Received, "a"),
            line(1700, Direction::Sent, "b"),
            line(3400, Direction::Received, "c<"),
        ]);
        assert_eq!(
            chat("x@y", Some(&lines)),
            "<chat xmlns='urn:xmpp:archive' with='x@y' start='2012-04-20T10:00:00.000Z'>\
             <from secs='0'><body>a</body></from><to secs='1'><body>b</body></to>\
             <from secs='2'><body>c&lt;</body></from></chat>"
        );
    }
}
