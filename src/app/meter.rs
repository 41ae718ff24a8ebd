//! How far long work is, on the terminal: a bar, or plain lines where stderr is none; and Ctrl-C, which ends it in order.

use std::{
    fmt::Display,
    io::{IsTerminal as _, Write as _},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::domain::pace::{Pace, number};

/// A plain line is written no more often.
const LINES: Duration = Duration::from_secs(1);

/// Shows how far one piece of work is.
pub struct Meter {
    /// What is counted, such as "rooms".
    what: &'static str,
    bar: Option<ProgressBar>,
    began: Instant,
    told: Option<Instant>,
    pace: Pace,
    last: Option<(u64, Option<u64>)>,
}

impl Meter {
    /// On stderr, for what is counted so.
    pub fn new(what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(ProgressStyle::default_spinner());
            bar
        });
        Self { what, bar, began: Instant::now(), told: None, pace: Pace::default(), last: None }
    }

    /// So many are done, of so many if that is known.
    pub fn at(&mut self, done: u64, total: Option<u64>) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.last.is_none_or(|(_, before)| before != total) {
            // Counting what there is goes at another pace than writing it.
            self.pace = Pace::default();
            self.pace.note(now, done);
        }
        self.last = Some((done, total));
        let ends = total == Some(done);
        let due = self.told.is_none_or(|told| told.elapsed() >= LINES);
        if let Some(bar) = &self.bar {
            if total != bar.length() {
                bar.set_style(style(total.is_some()));
                total.map_or_else(|| bar.unset_length(), |total| bar.set_length(total));
            }
            bar.set_position(done);
            bar.set_message(self.words(now));
        } else if due || ends && done > 0 {
            say(&self.words(now));
        }
        if due {
            self.told = Some(Instant::now());
            self.pace.note(now, done);
        }
    }

    fn words(&self, now: u64) -> String {
        let (done, total) = self.last.unwrap_or_default();
        let left = total.map(|total| total.saturating_sub(done));
        format!("{}{}", self.count(), self.pace.words(now, done, left))
    }

    /// "120 of 340 rooms", "120 rooms".
    pub fn count(&self) -> String {
        let (done, total) = self.last.unwrap_or_default();
        let of = total.map(|total| format!(" of {}", number(total))).unwrap_or_default();
        format!("{}{of} {}", number(done), self.what)
    }

    /// The bar stays as it is: what comes next begins on a line of its own.
    pub fn end(&self) {
        if let Some(bar) = self.bar.as_ref().filter(|bar| !bar.is_finished()) {
            bar.abandon();
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.end();
    }
}

fn style(bar: bool) -> ProgressStyle {
    let template = if bar { "[{bar:24}] {percent:>3}% {wide_msg}" } else { "{spinner} {wide_msg}" };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// Says something on stderr.
pub fn say(text: &dyn Display) {
    // Nothing is left to be done if stderr is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether somebody has asked for the end, by Ctrl-C or SIGTERM.
#[derive(Clone, Debug, Default)]
pub struct Stop(CancellationToken);

impl Stop {
    /// Listens from now on: these signals no longer end the process by themselves.
    ///
    /// # Errors
    /// The system lets nobody listen.
    pub fn listen() -> std::io::Result<Self> {
        let stop = Self::default();
        let asked = stop.0.clone();
        let (ready, is_ready) = mpsc::sync_channel(1);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let result = tokio::runtime::Builder::new_current_thread().enable_io().build().and_then(|runtime| {
                runtime.block_on(async {
                    let mut interrupt = signal(SignalKind::interrupt())?;
                    let mut terminate = signal(SignalKind::terminate())?;
                    // Nobody waits for it if the work is over already.
                    let _ = ready.send(Ok(()));
                    loop {
                        tokio::select! {
                            _ = interrupt.recv() => {}
                            _ = terminate.recv() => {}
                        }
                        asked.cancel();
                    }
                })
            });
            let _ = ready.send(result);
        })?;
        is_ready.recv().unwrap_or_else(|_| Err(std::io::Error::other("nobody listens for signals")))?;
        Ok(stop)
    }

    /// Somebody has asked for it.
    pub fn is_asked(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Awaits that somebody asks for it.
    pub async fn asked(&self) {
        self.0.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_counts_with_and_without_an_end() {
        let mut meter = Meter::new("records");
        meter.at(1_200, None);
        assert_eq!(meter.count(), "1,200 records");
        meter.at(1_200, Some(5_000));
        assert_eq!(meter.count(), "1,200 of 5,000 records");
        assert_eq!(meter.words(60_000), "1,200 of 5,000 records, none just now");
    }
}
