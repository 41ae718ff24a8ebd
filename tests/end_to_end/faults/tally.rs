//! What was said against what was heard, and the table of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::load::{Load, Toward, Way};
use crate::end_to_end::ground;

/// A message is put down to the fault nearest in time to when it was said, if one was no further away than this: it may
/// have been on its way when the fault began, or met what the fault had left behind.
const NEAR: Duration = Duration::from_secs(20);
/// How often the other side is asked for what has come; it is many clients, so there is no one event to wait for.
const LOOK: Duration = Duration::from_millis(250);
/// Lines of what went wrong that are shown.
const SHOWN: usize = 40;

/// A fault that struck, and when.
#[derive(Debug, Clone, Copy)]
pub struct Strike {
    pub fault: Fault,
    pub began: Duration,
    pub ended: Duration,
}

/// What can happen to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    Lost,
    Doubled,
    Reordered,
    /// It came back into its own room, as if it had been said elsewhere.
    Echoed,
}

/// A message that did not arrive once and in order.
#[derive(Debug, Clone)]
pub struct Finding {
    pub wrong: Wrong,
    pub way: Way,
    pub number: usize,
    /// When it was said.
    pub said: Duration,
    /// The fault that was near; `None`: the run itself.
    pub fault: Option<Fault>,
    /// The network's own server lost it.
    pub by_server: bool,
    /// What was heard around it, in order.
    pub among: Vec<usize>,
}

/// The outcome of a run.
#[derive(Debug)]
pub struct Tally {
    pub strikes: Vec<Strike>,
    pub findings: Vec<Finding>,
    /// How many messages were said toward Matrix, and toward the network.
    pub said: [usize; 2],
    pub lasted: Duration,
}

/// Awaits what was said on each way, or only what was said last (`last_words`), as long as something still comes. Says
/// whether all came. `poke` is called at first, and when nothing comes for a while.
pub fn settle(load: &Load<'_>, last_words: bool, poke: impl Fn()) -> bool {
    poke();
    // A dead connection is found out after a minute and a half, and tried again after a pause.
    let patience = Duration::from_mins(2) + ground::deadline();
    let missing = |way: Way, at_last: bool| {
        let last = load.said(way).len();
        absent(&load.heard(way, at_last), if last_words { last } else { 1 }, last)
    };
    let mut left: Vec<(Way, usize)> = load.ways().map(|way| (way, usize::MAX)).collect();
    let (mut news, mut poked, mut told) = (Instant::now(), Instant::now(), false);
    loop {
        let mut still = Vec::new();
        for (way, before) in left {
            let count = missing(way, false);
            if count < before {
                news = Instant::now();
            }
            if count > 0 {
                still.push((way, count));
            }
        }
        left = still;
        if left.is_empty() {
            return true;
        }
        let idle = news.elapsed();
        if idle > Duration::from_secs(10) && poked.elapsed() > Duration::from_secs(10) {
            // What reached a client in the moment in which it lost its connection is known to its server only.
            left.retain(|(way, _)| missing(*way, true) > 0);
            poke();
            poked = Instant::now();
        }
        if idle > Duration::from_secs(20) && !std::mem::replace(&mut told, true) {
            eprintln!("{:>6.1} s: still waiting for (way, messages): {left:?}", load.began.elapsed().as_secs_f64());
        }
        if idle > patience {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}

/// How many of the numbers from `first` to `last` are absent.
fn absent(heard: &[usize], first: usize, last: usize) -> usize {
    (first..=last).filter(|number| !heard.contains(number)).count()
}

/// What is wrong with what was heard, when the numbers from 1 to `last` were said.
fn judge(heard: &[usize], last: usize) -> Vec<(Wrong, usize)> {
    let mut wrong = Vec::new();
    let mut seen = vec![false; last + 1];
    let mut highest = 0;
    for number in heard.iter().copied().filter(|number| (1..=last).contains(number)) {
        if std::mem::replace(&mut seen[number], true) {
            wrong.push((Wrong::Doubled, number));
        } else if number < highest {
            wrong.push((Wrong::Reordered, number));
        }
        highest = highest.max(number);
    }
    wrong.extend((1..=last).filter(|number| !seen[*number]).map(|number| (Wrong::Lost, number)));
    wrong
}

impl Tally {
    /// Compares each way of each room.
    pub fn take(load: &Load<'_>, mut strikes: Vec<Strike>) -> Self {
        outlast(&mut strikes);
        let mut findings = Vec::new();
        let mut total = [0, 0];
        for way in load.ways() {
            let said = load.said(way);
            total[usize::from(way.toward == Toward::Network)] += said.len();
            let heard = load.heard(way, true);
            let mut wrong = judge(&heard, said.len());
            wrong.extend(load.echoed(way).into_iter().map(|number| (Wrong::Echoed, number)));
            for (wrong, number) in wrong {
                let at = said[number - 1];
                let by_server = wrong == Wrong::Lost && load.network.lost_itself(way, &way.text(number));
                let (fault, among) = (near(&strikes, at), among(&heard, number));
                findings.push(Finding { wrong, way, number, said: at, fault, by_server, among });
            }
        }
        Self { strikes, findings, said: total, lasted: load.began.elapsed() }
    }

    /// Did a connection break between these moments? What was sent before and not confirmed then is sent again.
    pub fn breaks_between(&self, from: Duration, to: Duration) -> bool {
        breaks_between(&self.strikes, from, to)
    }

    /// Did a connection break soon after this moment? What was said then may have been in it, unread: a full disk stops the
    /// reading.
    pub fn breaks_after(&self, said: Duration) -> bool {
        self.breaks_between(said, said + NEAR)
    }

    /// Whatever is wrong and not the network's own doing.
    pub fn ours(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| !finding.by_server)
    }

    /// The table, and what went wrong in detail.
    pub fn table(&self, title: &str) -> String {
        let mut rows: BTreeMap<Option<Fault>, [usize; 4]> = BTreeMap::new();
        for strike in &self.strikes {
            rows.entry(Some(strike.fault)).or_default()[0] += 1;
        }
        rows.entry(None).or_default();
        for finding in self.ours() {
            let column = match finding.wrong {
                Wrong::Lost => 1,
                Wrong::Doubled | Wrong::Echoed => 2,
                Wrong::Reordered => 3,
            };
            rows.entry(finding.fault).or_default()[column] += 1;
        }
        let mut text = String::new();
        let [to_matrix, to_network] = self.said;
        let seconds = self.lasted.as_secs();
        let _ = writeln!(text, "\n{title}: {to_matrix} messages to Matrix, {to_network} from it, {seconds} s");
        let _ = writeln!(text, "{:<42} {:>6} {:>6} {:>8} {:>10}", "fault", "times", "lost", "doubled", "reordered");
        for (fault, [times, lost, doubled, reordered]) in &rows {
            let (name, times) = match fault {
                Some(fault) => (fault.to_string(), times.to_string()),
                None => ("the run, with no fault near".to_owned(), "-".to_owned()),
            };
            let _ = writeln!(text, "{name:<42} {times:>6} {lost:>6} {doubled:>8} {reordered:>10}");
        }
        let by_server = self.findings.len() - self.ours().count();
        if by_server > 0 {
            let _ = writeln!(text, "{by_server} more were lost inside the network's own server when it was killed");
        }
        for finding in self.ours().take(SHOWN) {
            let Finding { wrong, way, number, said, fault, among, .. } = finding;
            let fault = fault.map_or_else(|| "no fault near".to_owned(), |fault| fault.to_string());
            let said = said.as_secs_f64();
            let _ = writeln!(
                text,
                "  {wrong:?}: \"{}\", said after {said:.1} s ({fault}), heard among {among:?}",
                way.text(*number)
            );
        }
        text
    }
}

/// What was heard before and after a number, each time that it was heard, and between what it was missed.
fn among(heard: &[usize], number: usize) -> Vec<usize> {
    let near = |at: usize| at.saturating_sub(6)..(at + 7).min(heard.len());
    let mut places: Vec<usize> = (0..heard.len()).filter(|place| heard[*place] == number).flat_map(near).collect();
    if places.is_empty() {
        places.extend(heard.iter().position(|other| *other > number).into_iter().flat_map(near));
    }
    places.dedup();
    places.into_iter().map(|place| heard[place]).collect()
}

/// A dead stream stays dead until something else ends it.
fn outlast(strikes: &mut [Strike]) {
    for place in 0..strikes.len() {
        if strikes[place].fault == Fault::StreamDead {
            let next = strikes[place + 1..].iter().find(|strike| strike.fault.breaks_streams());
            strikes[place].ended = next.map_or(Duration::MAX, |next| next.began);
        }
    }
}

/// Of faults that are as near, one that breaks streams.
fn near(strikes: &[Strike], at: Duration) -> Option<Fault> {
    let apart = |strike: &Strike| strike.began.saturating_sub(at).max(at.saturating_sub(strike.ended));
    let nearest = strikes.iter().min_by_key(|strike| (apart(strike), !strike.fault.breaks_streams()))?;
    (apart(nearest) <= NEAR).then_some(nearest.fault)
}

fn breaks_between(strikes: &[Strike], from: Duration, to: Duration) -> bool {
    let between = |strike: &&Strike| strike.ended >= from && strike.began <= to;
    strikes.iter().filter(between).any(|strike| strike.fault.breaks_streams())
}

#[test]
fn what_is_wrong_is_seen() {
    assert_eq!(judge(&[1, 2, 3], 3), []);
    let wrong = judge(&[1, 4, 2, 2, 4, 5], 6);
    let wanted = [(Wrong::Reordered, 2), (Wrong::Doubled, 2), (Wrong::Doubled, 4), (Wrong::Lost, 3), (Wrong::Lost, 6)];
    assert_eq!(wrong, wanted);
    assert_eq!(absent(&[3, 1], 1, 4), 2);
}

#[test]
fn a_message_is_put_down_to_the_nearest_fault() {
    let strike = |fault, from, to| Strike { fault, began: Duration::from_secs(from), ended: Duration::from_secs(to) };
    let strikes = [strike(Fault::StreamCut, 10, 12), strike(Fault::BridgeKilled, 20, 22)];
    let at = |seconds| near(&strikes, Duration::from_secs(seconds));
    assert_eq!((at(9), at(15), at(19)), (Some(Fault::StreamCut), Some(Fault::StreamCut), Some(Fault::BridgeKilled)));
    assert_eq!((at(40), at(60)), (Some(Fault::BridgeKilled), None));

    let breaks = |from, to| breaks_between(&strikes, Duration::from_secs(from), Duration::from_secs(to));
    assert!(breaks(9, 10) && breaks(11, 11) && breaks(0, 40) && !breaks(13, 19) && !breaks(23, 40));
    let clock = [strike(Fault::ClockBack, 10, 12)];
    assert!(!breaks_between(&clock, Duration::ZERO, Duration::from_mins(1)));

    let restarted = strike(Fault::BridgeRestarted, 90, 92);
    let mut strikes = [strike(Fault::StreamDead, 50, 50), strike(Fault::ClockBack, 60, 65), restarted];
    outlast(&mut strikes);
    let at = |seconds| near(&strikes, Duration::from_secs(seconds));
    assert_eq!((at(62), at(80), at(92)), (Some(Fault::StreamDead), Some(Fault::StreamDead), Some(restarted.fault)));
}
