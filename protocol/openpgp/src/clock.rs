//! Which time counts where clocks may stand at 1970: a floor, and conversions for OpenPGP's 32-bit seconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use waypost_protocol::time::UnixTime;

/// No trustworthy clock stands before this: 2026-01-01T00:00:00Z. Raised with releases.
pub const BUILD_FLOOR: UnixTime = UnixTime(1_767_225_600);

/// A signature is not refused for being ahead of a clock that may stand at 1970, but for being ahead of the build by
/// more than this: 30 years, in seconds.
pub(crate) const FUTURE: u64 = 30 * 365 * 86_400;

/// OpenPGP's last second (RFC 9580 §3.5: four octets).
const LAST: u64 = u32::MAX as u64;

/// The reference time: the latest of the clock, [`BUILD_FLOOR`], and moments that must have passed.
pub(crate) fn reference(now: UnixTime, passed: impl IntoIterator<Item = UnixTime>) -> UnixTime {
    passed.into_iter().fold(now.max(BUILD_FLOOR), UnixTime::max).min(UnixTime(LAST))
}

/// For sequoia; times past OpenPGP's end become the end.
pub(crate) fn to_system(time: UnixTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.0.min(LAST))
}

/// From sequoia.
pub(crate) fn from_system(time: SystemTime) -> UnixTime {
    UnixTime(time.duration_since(UNIX_EPOCH).map_or(0, |span| span.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_at_1970_gets_the_floor_and_whatever_must_have_passed() {
        let later = UnixTime(BUILD_FLOOR.0 + 5);
        assert_eq!(reference(UnixTime(0), []), BUILD_FLOOR);
        assert_eq!(reference(UnixTime(7), [later]), later);
        assert_eq!(reference(UnixTime(later.0 + 1), [later]), UnixTime(later.0 + 1));
        assert_eq!(reference(UnixTime(u64::MAX), []), UnixTime(LAST));
    }
}
