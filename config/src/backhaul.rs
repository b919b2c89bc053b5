//! Backhauls: ways to the internet, in which order they are used, and what each may cost.

use std::fmt;
use std::ops::Range;

use schemars::JsonSchema;
use serde::Serialize;
use toml::de::{DeTable, DeValue};

use crate::problem::Origin;
use crate::quantity::Size;
use crate::reader::Reader;
use crate::setting::section;
use crate::tables::{self, Entry, tables_of};
use crate::value::{Cost, Leaf, Name, text};

/// At most so many backhauls.
pub const MAX_BACKHAULS: usize = 16;
const DAY: u16 = 24 * 60;

/// A way to the internet. The order of the configuration is the order in which they are preferred.
#[derive(Debug, Clone, Serialize)]
pub struct Backhaul {
    /// How people call it; unique.
    pub name: Name,
    /// Its network interfaces.
    pub interfaces: Vec<Pattern>,
    /// Whether bytes cost money.
    pub cost: Cost,
    /// Bytes in a day, both ways.
    pub day: Option<Size>,
    /// Bytes in a month, both ways.
    pub month: Option<Size>,
    /// Times of day at which it may be used; empty: always.
    pub windows: Vec<Window>,
    /// Where it was configured; counts for nothing when backhauls are compared.
    #[serde(skip)]
    pub origin: Option<Origin>,
}

section! {
    /// A way to the internet. The first of them that is connected, within its windows and its budget, is used. Interfaces
    /// that none names may be used without bounds, after those that are named. Without any such table the system's
    /// routes alone decide.
    #[schemars(rename = "Backhaul", extend("required" = ["name", "interfaces"]))]
    pub(crate) struct Draft {
        /// How people call it, in lists and logs: up to 64 bytes, unique. Needed.
        [reload] name: Option<Name> = None, example "\"modem\"";
        /// Its network interfaces (`ip link`); `*` stands for any end of a name. Needed.
        #[schemars(with = "Vec<String>")]
        [reload] interfaces: Vec<Pattern> = Vec::new();
        /// "free", or "metered" where bytes cost money: then documents go all the same, but verdicts that a destination
        /// gives later (`held` documents that were opened) are asked for once a day in place of every 15 minutes.
        [reload] cost: Cost = Cost::Free;
        /// At most this much in 24 hours, both ways, counted with what TCP and TLS add. Absent, no bound. What is left of
        /// a large document goes on the next day where it stopped.
        [reload] day: Option<Size> = None, example "\"50MB\"";
        /// The same in 30 days.
        [reload] month: Option<Size> = None, example "\"1GB\"";
        /// Times of day at which it may be used, by the system's local time; one may pass midnight. Empty, always. While
        /// the gateway does not know the time, it may be used.
        #[schemars(with = "Vec<String>")]
        [reload] windows: Vec<Window> = Vec::new();
    }
}

impl Backhaul {
    /// Whether it may be used at this minute of the day.
    pub fn is_open_at(&self, minute: u16) -> bool {
        self.windows.is_empty() || self.windows.iter().any(|window| window.contains(minute))
    }

    /// Whether this network interface is one of its.
    pub fn has(&self, interface: &str) -> bool {
        self.interfaces.iter().any(|pattern| pattern.fits(interface))
    }
}

impl Entry for Backhaul {
    type Draft = Draft;
    const KEY: &'static str = "backhaul";
    const MOST: usize = MAX_BACKHAULS;

    fn name(&self) -> &Name {
        &self.name
    }

    fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    fn finish(
        draft: Draft,
        table: &DeTable<'_>,
        header: Range<usize>,
        reader: &mut Reader<'_>,
    ) -> Option<Self> {
        tables::need(
            &[("name", "name = \"modem\""), ("interfaces", "interfaces = [\"wwan*\"]")],
            table,
            &header,
            reader,
        );
        let Draft { name, interfaces, cost, day, month, windows } = draft;
        let origin = Some(reader.source().origin(header.start));
        Some(Backhaul { name: name?, interfaces, cost, day, month, windows, origin })
    }

    fn changed(&self, other: &Self) -> Vec<&'static str> {
        let differs = [
            ("interfaces", self.interfaces != other.interfaces),
            ("cost", self.cost != other.cost),
            ("day", self.day != other.day),
            ("month", self.month != other.month),
            ("windows", self.windows != other.windows),
        ];
        differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }
}

impl PartialEq for Backhaul {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.changed(other).is_empty()
    }
}

tables_of!(Backhaul);

/// The name of a network interface, or its beginning and `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// Whether the interface has this name.
    pub fn fits(&self, interface: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => interface.starts_with(beginning),
            None => interface == self.0,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Leaf for Pattern {
    const EXPECTED: &'static str = "the name of a network interface such as \"eth0\" or \"wwan*\"";
    fn read(value: &DeValue<'_>, _: &std::path::Path) -> Result<Self, String> {
        let text = text(value)?.trim();
        let name = text.strip_suffix('*').unwrap_or(text);
        // Linux: up to 15 bytes, neither `/` nor white space.
        let is_name = name.len() <= 15
            && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b'*');
        if is_name && !text.is_empty() { Ok(Pattern(text.to_owned())) } else { Err(String::new()) }
    }
}

/// A span of the day, in minutes since midnight; its end is not in it. It may pass midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: u16,
    to: u16,
}

impl Window {
    /// Whether the minute of the day is in it.
    pub fn contains(&self, minute: u16) -> bool {
        match self.from < self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, self.to / 60, self.to % 60)
    }
}

impl Serialize for Window {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Leaf for Window {
    const EXPECTED: &'static str = "a span of the day such as \"22:00-06:00\"";
    fn read(value: &DeValue<'_>, _: &std::path::Path) -> Result<Self, String> {
        let time = |text: &str| -> Option<u16> {
            let (hours, minutes) = text.trim().split_once(':')?;
            let digits = |text: &str| {
                text.len() <= 2 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
            };
            let (hours, minutes) = (digits(hours).then_some(hours)?, digits(minutes).then_some(minutes)?);
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            Some(hours * 60 + minutes).filter(|time| minutes < 60 && *time <= DAY)
        };
        let (from, to) = text(value)?.split_once('-').ok_or_else(String::new)?;
        let (from, to) = time(from).zip(time(to)).ok_or("hours go from 0 to 24, minutes to 59")?;
        if from % DAY == to % DAY {
            return Err("it begins when it ends; leave `windows` out for always".to_owned());
        }
        Ok(Window { from: from % DAY, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(text: &str) -> Option<Window> {
        Window::read(&DeValue::String(text.into()), std::path::Path::new("/")).ok()
    }

    #[test]
    fn windows_may_pass_midnight() {
        let night = window("22:00-06:00").unwrap();
        for (hour, expected) in
            [(21, false), (22, true), (23, true), (0, true), (5, true), (6, false), (12, false)]
        {
            assert_eq!(night.contains(hour * 60), expected, "{hour}");
        }
        let evening = window("18:30 - 24:00").unwrap();
        assert!(evening.contains(DAY - 1) && !evening.contains(0) && !evening.contains(18 * 60 + 29));
        assert_eq!(night.to_string(), "22:00-06:00");
    }

    #[test]
    fn what_is_no_span_of_the_day_is_not_taken() {
        for wrong in
            ["", "22:00", "25:00-1:00", "1:60-2:00", "6:00-6:00", "0:00-24:00", "a:b-c:d", "-1:00-2:00"]
        {
            assert!(window(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn patterns_fit_names_and_beginnings() {
        let fits = |pattern: &str, name: &str| Pattern(pattern.into()).fits(name);
        assert!(fits("wwan*", "wwan0") && fits("eth0", "eth0") && fits("*", "anything"));
        assert!(!fits("eth0", "eth01") && !fits("wwan*", "wlan0"));
    }
}
