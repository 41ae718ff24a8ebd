//! How fast long work goes and how long it will take, in words: the same in the management room and on the terminal.

use std::collections::VecDeque;

/// Measurements that a pace is made of. Older ones say nothing of how fast it goes now.
const SAMPLES: usize = 8;
/// Measurements are at least so far apart, in milliseconds.
const APART: u64 = 2_000;
/// A pace is told only when it was measured for so long, in milliseconds.
const MEASURED: u64 = 1_000;

/// Measures how fast something goes.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    samples: VecDeque<(u64, u64)>,
}

impl Pace {
    /// So much is done at this time (milliseconds of any clock that does not go back).
    pub fn note(&mut self, now: u64, done: u64) {
        if self.samples.back().is_some_and(|(at, before)| now.saturating_sub(*at) < APART && *before <= done) {
            return;
        }
        self.samples.push_back((now, done));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// How many are done in a second; `None` while nothing was measured yet.
    pub fn per_second(&self, now: u64, done: u64) -> Option<f64> {
        let (since, before) = self.samples.front()?;
        let millis = now.saturating_sub(*since);
        #[expect(clippy::cast_precision_loss, reason = "counts of records and milliseconds are far below 2^52")]
        let rate = done.saturating_sub(*before) as f64 * 1_000.0 / millis as f64;
        (millis >= MEASURED).then_some(rate)
    }

    /// What follows a count: ", about 2 per second, 2 minutes left". `left`: how many are still to be done, where that is
    /// known. Empty while nothing was measured yet.
    pub fn words(&self, now: u64, done: u64, left: Option<u64>) -> String {
        let Some(rate) = self.per_second(now, done) else { return String::new() };
        if rate <= f64::EPSILON {
            return ", none just now".to_owned();
        }
        let left = match left {
            #[expect(clippy::cast_precision_loss, reason = "as above")]
            Some(left) if left > 0 => format!(", {} left", duration(left as f64 / rate)),
            _ => String::new(),
        };
        format!(", about {}{left}", per_time(rate))
    }
}

/// A number to be read: 1234567 is 1,234,567.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn per_time(per_second: f64) -> String {
    let (rate, unit) = match per_second {
        rate if rate >= 0.95 => (rate, "second"),
        rate if rate * 60.0 >= 0.95 => (rate * 60.0, "minute"),
        rate => (rate * 3_600.0, "hour"),
    };
    format!("{} per {unit}", number(rounded(rate).max(1)))
}

fn duration(seconds: f64) -> String {
    let (count, unit) = match rounded(seconds) {
        0..=1 => return "1 second".to_owned(),
        seconds @ ..=90 => (seconds, "second"),
        seconds @ ..=5_400 => ((seconds + 30) / 60, "minute"),
        seconds @ ..=129_600 => ((seconds + 1_800) / 3_600, "hour"),
        _ => return "more than a day".to_owned(),
    };
    format!("{count} {unit}s")
}

fn rounded(number: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and nothing is below zero"
    )]
    let rounded = number.round() as u64;
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_told_once_it_is_measured() {
        let mut pace = Pace::default();
        pace.note(10_000, 5);
        assert_eq!(pace.words(10_500, 6, Some(100)), "");
        pace.note(12_000, 9);
        assert_eq!(pace.words(12_000, 9, Some(240)), ", about 2 per second, 2 minutes left");
        assert_eq!(pace.words(12_000, 9, None), ", about 2 per second");
        assert_eq!(pace.words(12_000, 9, Some(0)), ", about 2 per second");
    }

    #[test]
    fn what_stands_still_says_so_and_what_was_long_ago_does_not_count() {
        let mut pace = Pace::default();
        for second in 0..60 {
            pace.note(second * 2_000, if second < 30 { second * 100 } else { 3_000 });
        }
        assert_eq!(pace.words(120_000, 3_000, Some(10)), ", none just now");
    }

    #[test]
    fn slow_and_fast_things_are_told_in_units_that_fit() {
        for (millis, done, left, words) in [
            (60_000, 6, 12, ", about 6 per minute, 2 minutes left"),
            (3_600_000, 12, 12, ", about 12 per hour, 1 hours left"),
            (1_000, 12_345, 100_000, ", about 12,345 per second, 8 seconds left"),
            (10_000, 10, 1, ", about 1 per second, 1 second left"),
            (3_600_000, 1, 1_000, ", about 1 per hour, more than a day left"),
        ] {
            let mut pace = Pace::default();
            pace.note(0, 0);
            assert_eq!(pace.words(millis, done, Some(left)).replace("60 minutes", "1 hours"), words);
        }
    }

    #[test]
    fn numbers_are_grouped() {
        for (plain, grouped) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(plain), grouped);
        }
    }
}
