//! Time as it comes in with an input. The pure layers never read a clock.

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// Wall-clock time: milliseconds since 1970-01-01T00:00:00Z, as Matrix counts `origin_server_ts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Reads an XEP-0082 date-time (`2002-09-10T23:08:25Z`, fractions and offsets allowed). `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text.trim(), &Rfc3339).ok()?;
        i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok().map(Self)
    }

    /// Writes an XEP-0082 date-time in UTC with milliseconds.
    pub fn to_xmpp(self) -> String {
        const FORM: &[time::format_description::BorrowedFormatItem<'_>] =
            time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|at| at.to_offset(UtcOffset::UTC).format(FORM).ok())
            .unwrap_or_else(|| "1970-01-01T00:00:00.000Z".to_owned())
    }

    /// The minute, in UTC, for a person: `2026-03-20 09:46 UTC`.
    pub fn to_person(self) -> String {
        const FORM: &[time::format_description::BorrowedFormatItem<'_>] =
            time::macros::format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|at| at.format(FORM).ok())
            .unwrap_or_else(|| "an unknown time".to_owned())
    }

    /// So many milliseconds later.
    #[must_use]
    pub fn after(self, millis: u64) -> Self {
        Self(self.0.saturating_add_unsigned(millis))
    }

    /// Milliseconds from `earlier` to this; negative if `earlier` is later.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A length of time in milliseconds, for a person, in its largest whole unit: `7 days`, `90 seconds`.
pub fn in_words(millis: u64) -> String {
    let seconds = millis / 1_000;
    let (count, unit) = match seconds {
        _ if seconds > 0 && seconds.is_multiple_of(86_400) => (seconds / 86_400, "day"),
        _ if seconds > 0 && seconds.is_multiple_of(3_600) => (seconds / 3_600, "hour"),
        _ if seconds > 0 && seconds.is_multiple_of(60) => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// How long the messages of a chat stay once they are read (XEP-0466).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// So many seconds.
    Seconds(u32),
    /// They do not disappear.
    Unlimited,
}

/// The two clocks of an input: `wall` for what people see, `uptime` for timers, which must not move when the wall
/// clock is stepped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Wall-clock time.
    pub wall: Timestamp,
    /// Milliseconds since the process started; never goes back.
    pub uptime: u64,
}

/// Wall-clock time that goes on evenly when the clock is stepped, as long as the step does not last: for telling times of
/// our own from times that somebody else's clock gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steady {
    /// Wall-clock time at uptime 0; `None` before the first look.
    base: Option<i64>,
    /// Since when the clock has been elsewhere, in uptime.
    stepped: Option<u64>,
    uptime: u64,
}

impl Steady {
    /// A clock that is elsewhere for so long was set right, in milliseconds.
    const LASTS: u64 = 10 * 60_000;
    /// What a clock may be elsewhere without having been stepped (it is slewed, or the process slept), in milliseconds.
    const SLACK: i64 = 500;

    /// Takes note of both clocks.
    pub fn look(&mut self, now: Now) {
        self.uptime = now.uptime;
        let base = now.wall.0.saturating_sub(i64::try_from(now.uptime).unwrap_or(i64::MAX));
        let apart = self.base.map_or(0, |known| base.saturating_sub(known).abs());
        let since = *self.stepped.get_or_insert(now.uptime);
        if apart <= Self::SLACK || now.uptime.saturating_sub(since) >= Self::LASTS {
            self.base = Some(base);
            self.stepped = None;
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.base.unwrap_or(0).saturating_add(i64::try_from(self.uptime).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_clock_counts_only_when_it_lasts() {
        let mut steady = Steady::default();
        let mut at = |uptime: u64, ahead: i64| {
            let wall = Timestamp(1_000_000 + i64::try_from(uptime).unwrap_or_default() + ahead);
            steady.look(Now { wall, uptime });
            steady.now().since(Timestamp(1_000_000)) - i64::try_from(uptime).unwrap_or_default()
        };
        assert_eq!([at(5, 0), at(10, 400), at(15, 800)], [0, 400, 800], "a clock that is slewed is followed");
        assert_eq!([at(20, -3_600_000), at(60_000, -3_600_000), at(61_000, 800)], [800, 800, 800]);
        assert_eq!([at(62_000, 3_600_000), at(661_999, 3_600_000), at(662_000, 3_600_000)], [800, 800, 3_600_000]);
    }

    #[test]
    fn xep_0082_examples() {
        assert_eq!(Timestamp::parse("1969-07-21T02:56:15Z"), Some(Timestamp(-14_159_025_000)));
        assert_eq!(Timestamp::parse("1969-07-20T21:56:15-05:00"), Some(Timestamp(-14_159_025_000)));
        assert_eq!(
            Timestamp::parse("2002-09-10T23:08:25.500Z").map(Timestamp::to_xmpp).as_deref(),
            Some("2002-09-10T23:08:25.500Z")
        );
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn times_and_lengths_of_time_for_people() {
        assert_eq!(Timestamp(1_774_000_000_000).to_person(), "2026-03-20 09:46 UTC");
        assert_eq!(Timestamp(i64::MAX).to_person(), "an unknown time");
        let words: Vec<String> = [7 * 86_400_000, 3_600_000, 90_000, 120_000, 0].map(in_words).into();
        assert_eq!(words, ["7 days", "1 hour", "90 seconds", "2 minutes", "0 seconds"]);
    }
}
