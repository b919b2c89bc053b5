//! Time as an argument: a monotonic clock for timers, Unix seconds for what people and signatures read.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment on the caller's monotonic clock, as the time since an arbitrary start. Never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// The time since `earlier`, or zero.
    pub fn since(self, earlier: Monotonic) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Monotonic {
    type Output = Monotonic;
    fn add(self, span: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(span))
    }
}

impl Sub<Monotonic> for Monotonic {
    type Output = Duration;
    fn sub(self, earlier: Monotonic) -> Duration {
        self.since(earlier)
    }
}

/// Seconds since 1970-01-01T00:00:00Z by somebody's wall clock; may be wrong, orders nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// The exclusive upper end of what a document's timestamp may be: 2^40 seconds (design §2).
    pub const LIMIT: UnixTime = UnixTime(1 << 40);

    /// Rounded down to the hour, as documents carry it, so that a capture says little about when it was written.
    pub fn rounded_to_hour(self) -> UnixTime {
        UnixTime(self.0 - self.0 % 3600)
    }

    /// Year, month, day, hour, minute, second in UTC (proleptic Gregorian; Howard Hinnant, "chrono-Compatible
    /// Low-Level Date Algorithms", civil_from_days).
    fn civil(self) -> (u64, u64, u64, u64, u64, u64) {
        let (days, rest) = (self.0 / 86_400, self.0 % 86_400);
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        (year, month, day, rest / 3600, rest / 60 % 60, rest % 60)
    }
}

/// RFC 3339 in UTC, whole seconds: `2026-11-21T04:40:00Z`.
impl std::fmt::Display for UnixTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day, hour, minute, second) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Text that is no time as [`UnixTime`] writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time like 2026-11-21T04:40:00Z")]
pub struct TimeError;

/// Only what `Display` writes: RFC 3339 in UTC, whole seconds, no other spelling (days_from_civil, same source).
impl std::str::FromStr for UnixTime {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Self, TimeError> {
        // The largest time below `LIMIT` has a year of five digits.
        if !text.is_ascii() || text.len() > 24 {
            return Err(TimeError);
        }
        let parts = text.strip_suffix('Z').and_then(|text| text.split_once('T')).ok_or(TimeError)?;
        let numbers = |text: &str, between: char| -> Option<[u64; 3]> {
            let mut parts = text.split(between).map(|part| part.parse::<u64>().ok().filter(|n| *n < 100_000));
            let found = [parts.next()??, parts.next()??, parts.next()??];
            parts.next().is_none().then_some(found)
        };
        let [year, month, day] = numbers(parts.0, '-').ok_or(TimeError)?;
        let [hour, minute, second] = numbers(parts.1, ':').ok_or(TimeError)?;
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
            return Err(TimeError);
        }
        let shifted_year = if month <= 2 { year - 1 } else { year };
        let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = (era * 146_097 + day_of_era).checked_sub(719_468).ok_or(TimeError)?;
        let time = UnixTime(days * 86_400 + hour * 3600 + minute * 60 + second);
        if time.to_string() == text { Ok(time) } else { Err(TimeError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_236_000, "2026-11-21T04:40:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(UnixTime(seconds).to_string(), text);
            assert_eq!(text.parse(), Ok(UnixTime(seconds)));
        }
        let last = UnixTime(UnixTime::LIMIT.0 - 1);
        assert_eq!(last.to_string().parse(), Ok(last));
    }

    #[test]
    fn other_spellings_of_a_time_are_refused() {
        for text in [
            "",
            "2026-11-21T04:40:00",
            "2026-11-21t04:40:00Z",
            "2026-11-21T04:40:60Z",
            "2026-02-30T04:40:00Z",
            "2026-11-21T4:40:00Z",
            "+2026-11-21T04:40:00Z",
            "1969-12-31T23:59:59Z",
            "2026-11-21T04:40:00.0Z",
            "99999999999999999999-01-01T00:00:00Z",
        ] {
            assert_eq!(text.parse::<UnixTime>(), Err(TimeError), "{text}");
        }
    }

    #[test]
    fn document_times_lose_minutes() {
        assert_eq!(UnixTime(7_199).rounded_to_hour(), UnixTime(3_600));
    }
}
