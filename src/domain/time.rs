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

    /// Milliseconds from `earlier` to this; negative if `earlier` is later.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
