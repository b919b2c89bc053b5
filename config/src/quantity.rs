//! Sizes and durations as people write them: `64KiB`, `2GB`, `90s`, `30d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// A text that is no size or no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct QuantityError {
    /// What would have been right.
    pub expected: &'static str,
    /// What came, cut to 40 characters.
    pub found: String,
}

impl QuantityError {
    fn new(expected: &'static str, found: &str) -> Self {
        QuantityError { expected, found: found.chars().take(40).collect() }
    }
}

/// A number of bytes, at most 2^63 − 1. `K`, `M`, `G`, `T` are powers of 1000, `Ki`, `Mi`, `Gi`, `Ti` of 1024, with
/// or without a `B`; a number alone is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// What an error says was expected.
    pub const EXPECTED: &'static str = "a size such as \"64KiB\", \"16 MiB\" or \"2GB\"";
    const MAX: u64 = i64::MAX as u64;
    const UNITS: [(&'static str, u64); 8] = [
        ("TiB", 1 << 40),
        ("TB", 1_000_000_000_000),
        ("GiB", 1 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
        ("KB", 1_000),
    ];

    /// So many bytes; more than 2^63 − 1 become that.
    pub const fn from_bytes(bytes: u64) -> Self {
        Size(if bytes > Self::MAX { Self::MAX } else { bytes })
    }

    /// So many KiB.
    pub const fn kib(count: u32) -> Self {
        Size((count as u64) << 10)
    }

    /// So many MiB.
    pub const fn mib(count: u32) -> Self {
        Size((count as u64) << 20)
    }

    /// So many GiB.
    pub const fn gib(count: u32) -> Self {
        Size::from_bytes((count as u64) << 30)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || QuantityError::new(Self::EXPECTED, text);
        let size = text.trim().parse::<bytesize::ByteSize>().map_err(|_| error())?;
        // The parser answers u64::MAX for whatever is beyond, so that this refuses overflow as well.
        if size.as_u64() > Self::MAX { Err(error()) } else { Ok(Size(size.as_u64())) }
    }
}

/// In the largest unit that needs no fraction; reads back as the same size.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::UNITS.iter().find(|(_, unit)| self.0 > 0 && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes: a number, or a text with a unit (KB, MB, GB, TB; KiB, MiB, GiB, TiB)",
            "type": ["string", "integer"],
            "minimum": 0,
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtTpPeE][iI]?)?[bB]?\s*$",
        })
    }
}

/// A length of time, at most 100 years, so that adding it to a clock cannot overflow. Always with a unit: `ms`, `s`,
/// `m`, `h`, `d`, `w`, or several as in `1h 30m`; a day is 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

impl Period {
    /// What an error says was expected.
    pub const EXPECTED: &'static str = "a duration such as \"90s\", \"15m\", \"6h\" or \"30d\"";
    /// 100 years of 365 days.
    pub const MAX: Period = Period::days(36_500);
    const UNITS: [(&'static str, u128); 7] = [
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];

    /// This long; more than [`Period::MAX`] becomes that.
    pub fn new(duration: Duration) -> Self {
        Period(duration.min(Self::MAX.0))
    }

    /// So many seconds, up to 136 years.
    pub const fn secs(count: u32) -> Self {
        Period(Duration::from_secs(count as u64))
    }

    /// So many minutes.
    pub const fn minutes(count: u16) -> Self {
        Period(Duration::from_secs(count as u64 * 60))
    }

    /// So many days.
    pub const fn days(count: u16) -> Self {
        Period(Duration::from_secs(count as u64 * 86_400))
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Period {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || QuantityError::new(Self::EXPECTED, text);
        let duration = humantime::parse_duration(text).map_err(|_| error())?;
        if duration > Self::MAX.0 { Err(error()) } else { Ok(Period(duration)) }
    }
}

/// In the largest unit that needs no fraction; reads back as the same duration.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        match Self::UNITS.iter().find(|(_, unit)| nanos > 0 && nanos.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", nanos / unit),
            None => f.write_str("0s"),
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration with its unit (ms, s, m, h, d, w), for example \"90s\" or \"1h 30m\"",
            "type": "string",
            "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*[a-zA-Zµ]+\s*)+$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_size_reads_back_as_it_is_written(bytes in 0..=Size::MAX) {
            let size = Size::from_bytes(bytes);
            prop_assert_eq!(size.to_string().parse::<Size>(), Ok(size));
        }

        #[test]
        fn round_sizes_read_back_and_keep_their_unit(count in 1u64..1000, unit in 0..Size::UNITS.len()) {
            let (name, bytes) = Size::UNITS[unit];
            let size = Size::from_bytes(count * bytes);
            prop_assert_eq!(format!("{count} {name}").parse::<Size>(), Ok(size));
            prop_assert_eq!(size.to_string().parse::<Size>(), Ok(size));
        }

        #[test]
        fn every_duration_reads_back_as_it_is_written(nanos in 0..=u64::MAX, coarse in 0..7usize) {
            // Every magnitude, from nanoseconds to days.
            let unit = u64::try_from(Period::UNITS[coarse].1).unwrap();
            let duration = Duration::from_nanos(nanos - nanos % unit);
            let period = Period::new(duration);
            prop_assert_eq!(period.to_string().parse::<Period>(), Ok(period));
        }

        #[test]
        fn any_text_is_a_quantity_or_an_error(text in ".{0,60}", number in "[0-9.]{1,30}[ a-zA-Zµ]{0,6}") {
            for text in [text, number] {
                let _ = text.parse::<Size>();
                let _ = text.parse::<Period>();
            }
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("16 MiB", 16 << 20),
            ("2GB", 2_000_000_000),
            ("1.5 GiB", 1_610_612_736),
            ("4096", 4096),
            (" 0 ", 0),
        ] {
            assert_eq!(text.parse::<Size>().map(Size::bytes), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "1 parsec", "9EiB", "99999999999999999999", "1e3", "1.2.3 GB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!(Size::gib(64).to_string(), "64GiB");
        assert_eq!(Size::from_bytes(2_000_000_000).to_string(), "2GB");
        assert_eq!(Size::from_bytes(1_025).to_string(), "1025B");
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in
            [("90s", 90), ("15m", 900), ("6h", 21_600), ("30d", 2_592_000), ("1h 30m", 5_400)]
        {
            assert_eq!(text.parse(), Ok(Period::secs(seconds)), "{text}");
        }
        for text in ["", "60", "s", "-5s", "5 moons", "200years", "99999999999999999999s"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
        assert_eq!(Period::days(400).to_string(), "400d");
        assert_eq!(Period::secs(90).to_string(), "90s");
    }
}
