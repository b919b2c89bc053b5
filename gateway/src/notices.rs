//! What needs the admin, in words: from facts to notices, without IO.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use waypost_protocol::time::UnixTime;

/// A certificate that ends within so long is told.
pub(crate) const SOON: Duration = Duration::from_secs(30 * 86_400);
/// A disk is full for the admin's purposes with so many percent.
const FULL: u128 = 90;
/// An adapter that was reset so often within 24 hours needs somebody.
const OFTEN: usize = 3;

/// What a notice is about. Each has its paragraph in `docs/admin.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// Documents have waited for a destination for longer than `notices.waiting`.
    Waiting,
    /// Documents wait for a destination that is not served any more.
    NotServed,
    /// The store cannot be written.
    Store,
    /// The disk that the store is on is nearly full, or what the store may take of it.
    Disk,
    /// A certificate has ended, or does so soon.
    Certificate,
    /// The clock is behind, or nobody has confirmed it.
    Clock,
    /// A Bluetooth adapter is reset again and again.
    Adapter,
}

/// Something that needs the admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What kind of thing it is.
    pub about: About,
    /// Which one, where there are several: a destination's name, an adapter's; the fingerprint of a destination that has no
    /// name here.
    pub which: String,
    /// What is the matter, and what to do.
    pub text: String,
}

/// A certificate of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The destination's name.
    pub(crate) destination: String,
    /// Whose certificate it is, in words.
    pub(crate) whose: &'static str,
    /// The end of its validity; of an OpenPGP certificate, the first day on which nothing can be sealed to it.
    pub(crate) end: UnixTime,
}

/// How things are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// For each destination that documents wait for, its name and how long the first of them has.
    pub(crate) waited: Vec<(String, Duration)>,
    /// How long that may be.
    pub(crate) patience: Duration,
    /// Destinations that documents wait for and that are not served.
    pub(crate) not_served: Vec<String>,
    /// What the store's last transaction failed with, other than for want of room.
    pub(crate) store: Option<String>,
    /// Bytes of the store's disk that are free, and all of them; nothing where the system does not say.
    pub(crate) disk: Option<(u64, u64)>,
    /// Bytes that documents may still take, and those that they may in all.
    pub(crate) limit: Option<(u64, u64)>,
    /// Whether the configuration bounds that, other than by the size of the store's map.
    pub(crate) has_quota: bool,
    /// Certificates that have an end.
    pub(crate) endings: Vec<Ending>,
    /// The time as far as it can be relied on, Unix seconds.
    pub(crate) now: UnixTime,
    /// What the wall clock says where that is known to be wrong.
    pub(crate) wrong_clock: Option<UnixTime>,
    /// What it says where nobody has confirmed it for a while.
    pub(crate) unconfirmed_clock: Option<UnixTime>,
    /// Adapters, and how often each was reset within 24 hours.
    pub(crate) resets: Vec<(String, usize)>,
}

impl Facts {
    /// What of it needs the admin.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        let mut all = Vec::new();
        let mut add =
            |about, which: &str, text: String| all.push(Notice { about, which: which.into(), text });
        for (name, waited) in self.waited.iter().filter(|(_, waited)| *waited >= self.patience) {
            add(
                About::Waiting,
                name,
                format!(
                    "documents for {name} have waited for {}: bring a backhaul, or a USB stick",
                    days(*waited)
                ),
            );
        }
        for fingerprint in &self.not_served {
            add(
                About::NotServed,
                fingerprint,
                format!(
                    "documents wait for destination {fingerprint}, which is not served any more: configure it again (`waypost check` \
                     says why one is left out), or delete them"
                ),
            );
        }
        if let Some(error) = &self.store {
            add(
                About::Store,
                "",
                format!("no documents are taken, since the store cannot be written: {error}"),
            );
        }
        if let Some(full) = self.disk.map(percent_taken)
            && full >= FULL
        {
            add(
                About::Disk,
                "",
                format!("the disk is {full} % full: documents need a backhaul, or the kiosk a larger disk"),
            );
        }
        if let Some(full) = self.limit.map(percent_taken)
            && full >= FULL
        {
            let key = if self.has_quota { "store.quota" } else { "store.map_size" };
            let text = format!(
                "documents take {full} % of what `{key}` allows: they need a backhaul, or more of it"
            );
            add(About::Disk, "quota", text);
        }
        for Ending { destination, whose, end } in &self.endings {
            let left = end.0.saturating_sub(self.now.0);
            if left > SOON.as_secs() {
                continue;
            }
            let when = match left {
                0 => "has ended".to_owned(),
                left => format!("ends in {}", days(Duration::from_secs(left))),
            };
            add(
                About::Certificate,
                destination,
                format!("the {whose} of {destination} {when}: it has to be renewed"),
            );
        }
        if let Some(wrong) = self.wrong_clock {
            add(
                About::Clock,
                "",
                format!(
                    "the clock says {}, and it is {} at least: a network with a time server sets it",
                    date(wrong),
                    date(self.now)
                ),
            );
        }
        if let Some(said) = self.unconfirmed_clock {
            add(
                About::Clock,
                "",
                format!(
                    "the clock says {}, which nobody has confirmed since the power was switched on: a time server or a delivery does",
                    date(said)
                ),
            );
        }
        for (name, resets) in self.resets.iter().filter(|(_, resets)| *resets >= OFTEN) {
            add(
                About::Adapter,
                name,
                format!(
                    "Bluetooth adapter {name} was reset {resets} times within a day: check its power supply, or use another one"
                ),
            );
        }
        all
    }
}

/// Of a disk with so many bytes free out of all.
fn percent_taken((free, all): (u64, u64)) -> u128 {
    let taken = u128::from(all.saturating_sub(free)) * 100;
    taken.checked_div(u128::from(all)).unwrap_or(100)
}

/// What is new, and what is over, in the order in which it was told: a number that changes in a text is neither.
pub(crate) fn changes<'a>(before: &'a [Notice], now: &'a [Notice]) -> (Vec<&'a Notice>, Vec<&'a Notice>) {
    let is_in = |all: &[Notice], one: &Notice| {
        all.iter().any(|other| (other.about, &other.which) == (one.about, &one.which))
    };
    let new = now.iter().filter(|one| !is_in(before, one)).collect();
    let over = before.iter().filter(|one| !is_in(now, one)).collect();
    (new, over)
}

fn days(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3_600) {
        (0, 0) => "less than an hour".to_owned(),
        (0, 1) => "an hour".to_owned(),
        (0, hours) => format!("{hours} hours"),
        (1, _) => "a day".to_owned(),
        (days, _) => format!("{days} days"),
    }
}

/// As people write a day, UTC.
fn date(time: UnixTime) -> String {
    let time = jiff::Timestamp::from_second(i64::try_from(time.0).unwrap_or(i64::MAX))
        .unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn about(facts: &Facts) -> Vec<(About, String)> {
        facts.notices().into_iter().map(|one| (one.about, one.text)).collect()
    }

    fn well() -> Facts {
        Facts {
            waited: vec![("clinic".into(), DAY * 2)],
            patience: DAY * 3,
            not_served: Vec::new(),
            store: None,
            disk: Some((11, 100)),
            limit: Some((11, 100)),
            has_quota: true,
            endings: vec![Ending {
                destination: "clinic".into(),
                whose: "certificate",
                end: UnixTime(NOW.0 + 31 * 86_400),
            }],
            now: NOW,
            wrong_clock: None,
            unconfirmed_clock: None,
            resets: vec![("hci0".into(), 2)],
        }
    }

    #[test]
    fn where_all_is_well_there_is_nothing_to_be_told() {
        assert_eq!(about(&well()), []);
        assert_eq!(about(&Facts::default()), []);
    }

    #[test]
    fn documents_that_have_waited_for_longer_than_they_may_are_told_of() {
        let facts = Facts { waited: vec![("clinic".into(), DAY * 2), ("school".into(), DAY * 3)], ..well() };
        let told = "documents for school have waited for 3 days: bring a backhaul, or a USB stick";
        assert_eq!(about(&facts), [(About::Waiting, told.to_owned())]);
    }

    #[test]
    fn documents_for_a_destination_that_is_not_served_are_told_of_at_once() {
        let facts = Facts { not_served: vec!["F2C1".into(), "AB12".into()], ..well() };
        let told = about(&facts);
        assert_eq!(told.len(), 2);
        assert_eq!(told[0].0, About::NotServed);
        assert!(told[0].1.starts_with("documents wait for destination F2C1, which is not served any more"));
        assert_eq!(changes(&facts.notices()[..1], &facts.notices()).0, vec![&facts.notices()[1]]);
    }

    #[test]
    fn a_store_that_cannot_be_written_is_told_of_with_what_the_disk_said() {
        let facts = Facts { store: Some("store: Read-only file system".into()), ..well() };
        let told = "no documents are taken, since the store cannot be written: store: Read-only file system";
        assert_eq!(about(&facts), [(About::Store, told.to_owned())]);
    }

    #[test]
    fn a_disk_is_told_of_from_90_percent_on() {
        let full = |free, all| about(&Facts { disk: Some((free, all)), ..well() });
        assert_eq!(full(101, 1000), []);
        assert!(full(100, 1000)[0].1.starts_with("the disk is 90 % full"));
        assert!(full(0, 1000)[0].1.starts_with("the disk is 100 % full"));
        assert!(full(0, 0)[0].1.starts_with("the disk is 100 % full"), "no division by nothing");
        assert_eq!(full(u64::MAX / 2, u64::MAX), []);
    }

    #[test]
    fn a_quota_is_told_of_from_90_percent_on_beside_the_disk() {
        let facts = Facts { disk: Some((5, 100)), limit: Some((10, 100)), ..well() };
        let told = facts.notices();
        assert!(told[0].text.starts_with("the disk is 95 % full"));
        assert!(told[1].text.starts_with("documents take 90 % of what `store.quota` allows"));
        let unset = Facts { limit: Some((10, 100)), has_quota: false, ..well() };
        assert!(about(&unset)[0].1.starts_with("documents take 90 % of what `store.map_size` allows"));
        assert_eq!(changes(&told, &told[..1]).1, [&told[1]], "each begins and ends by itself");
    }

    #[test]
    fn a_certificate_is_told_of_from_30_days_before_its_end_on() {
        let ending = |end| {
            let endings = vec![Ending {
                destination: "clinic".into(),
                whose: "TLS client certificate",
                end: UnixTime(end),
            }];
            about(&Facts { endings, ..well() }).into_iter().map(|(_, text)| text).collect::<Vec<_>>()
        };
        assert_eq!(ending(NOW.0 + 30 * 86_400 + 1), [""; 0]);
        assert_eq!(
            ending(NOW.0 + 30 * 86_400),
            ["the TLS client certificate of clinic ends in 30 days: it has to be renewed"]
        );
        assert_eq!(
            ending(NOW.0 + 3_600),
            ["the TLS client certificate of clinic ends in an hour: it has to be renewed"]
        );
        assert_eq!(ending(NOW.0), ["the TLS client certificate of clinic has ended: it has to be renewed"]);
    }

    #[test]
    fn a_clock_that_is_behind_is_told_of_with_both_dates() {
        let facts = Facts { wrong_clock: Some(UnixTime(86_400)), ..well() };
        assert!(about(&facts)[0].1.starts_with("the clock says 1970-01-02, and it is 2027-01-15 at least"));
    }

    #[test]
    fn a_clock_that_nobody_has_confirmed_is_told_of() {
        let facts = Facts { unconfirmed_clock: Some(NOW), ..well() };
        let told = about(&facts);
        assert_eq!((told.len(), told[0].0), (1, About::Clock));
        assert!(told[0].1.starts_with("the clock says 2027-01-15, which nobody has confirmed"), "{told:?}");
    }

    #[test]
    fn an_adapter_that_was_reset_three_times_is_told_of() {
        let facts = Facts { resets: vec![("hci0".into(), 2), ("hci1".into(), 3)], ..well() };
        assert!(about(&facts)[0].1.starts_with("Bluetooth adapter hci1 was reset 3 times"));
        assert_eq!(about(&facts).len(), 1);
    }

    #[test]
    fn a_notice_whose_numbers_change_is_the_same_one() {
        let at = |days: u32| Facts { waited: vec![("clinic".into(), DAY * days)], ..well() }.notices();
        let (three, four) = (at(3), at(4));
        assert_ne!(three, four);
        assert_eq!(changes(&three, &four), (vec![], vec![]));
        assert_eq!(changes(&[], &four), (vec![&four[0]], vec![]));
        assert_eq!(changes(&four, &[]), (vec![], vec![&four[0]]));
    }
}
