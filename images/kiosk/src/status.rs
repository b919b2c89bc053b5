//! `waypost-status.txt`: how the kiosk is, for whoever takes its card to a laptop.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::machine::{Machine, colons};
use crate::overview::Overview;

/// The file's name.
pub const STATUS: &str = "waypost-status.txt";

/// Counts alone are not written more often: each write makes the partition with kernel and firmware writable.
const COUNTS: Duration = Duration::from_secs(6 * 3600);
/// Characters of a line before what it says.
const KEY: usize = 14;

/// What a clock says, and how far it can be relied on.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Now, by the system's clock.
    pub now: Timestamp,
    /// The kiosk's time zone.
    pub zone: TimeZone,
    /// Whether a time server has set it; absent where that cannot be told.
    pub synchronized: Option<bool>,
}

/// Whether a text is to be written over another one, which was written so long ago; absent: before the kiosk was switched on.
pub fn is_due(before: Option<&str>, now: &str, since: Option<Duration>) -> bool {
    let Some(before) = before else { return true };
    before != now && (lasting(before) != lasting(now) || since.is_none_or(|since| since >= COUNTS))
}

/// What of a text does not change from one document, or one day, to the next.
fn lasting(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| {
        let key = line.get(..KEY).unwrap_or(line).trim_end();
        match key {
            "waiting" | "delivered" | "last upload" | "room" => None,
            // In words: percents, days and dates are in them.
            "clock" | "notice" => Some(line.chars().filter(|c| !c.is_ascii_digit()).collect()),
            _ => Some(line.to_owned()),
        }
    });
    lines.collect()
}

/// The text, with line ends as Windows' editors want them.
pub fn text(overview: &Overview, machine: &Machine, clock: &Clock) -> String {
    let mut text = String::from("How this Waypost kiosk was when it last had something new to say.\n\n");
    // Writing to a text cannot fail.
    let mut line = |key: &str, value: &str| _ = writeln!(text, "{key:<KEY$}{value}");
    line("name", &overview.name());
    line("host name", &overview.host_name);
    line("serial", machine.serial.as_deref().unwrap_or("not known"));
    line("MAC", &machine.macs.iter().map(|mac| colons(mac)).collect::<Vec<_>>().join(", "));
    line("state", overview.standing());
    for (interface, addresses) in &overview.addresses {
        line("address", &format!("{interface} {}", addresses.join(", ")));
    }
    let day = |time: Timestamp| time.to_zoned(clock.zone.clone()).strftime("%Y-%m-%d").to_string();
    if let Some(status) = overview.status() {
        line("version", &format!("waypost {}, waypost-kiosk {}", status.version, env!("CARGO_PKG_VERSION")));
        line("key", &status.key);
        line("waiting", &status.waiting.to_string());
        line(
            "delivered",
            &format!("{} opened, {} held, {} rejected", status.opened, status.held, status.rejected),
        );
        let last = status.last_upload.and_then(|seconds| Timestamp::from_second(seconds).ok());
        let uploaded: u64 = status.destinations.iter().map(|one| one.uploaded).sum();
        let since = format!("{uploaded} documents since it was switched on");
        line("last upload", &last.map_or(since.clone(), |time| format!("{}; {since}", day(time))));
        // To the tenth: it is not worth a write for every document.
        let tenths = status.room / 100_000_000;
        line("room", &format!("{}.{} GB", tenths / 10, tenths % 10));
        for one in &status.destinations {
            line("destination", &format!("{}: {} ({})", one.name, one.state, one.fingerprint));
        }
    } else {
        line("version", &format!("waypost-kiosk {}", env!("CARGO_PKG_VERSION")));
    }
    let trusted = overview.status().and_then(|status| status.clock_trusted);
    let reliance = match (trusted, clock.synchronized) {
        (Some(true), _) | (None, Some(true)) => "trusted",
        (Some(false), _) => "not trusted",
        (None, Some(false)) => "not set by a time server since it was switched on",
        (None, None) => "not known whether it can be trusted",
    };
    line("clock", &format!("{}, {reliance}", day(clock.now)));
    for notice in overview.notices() {
        line("notice", &notice);
    }
    if let Some(status) = overview.status() {
        status.problems.iter().for_each(|problem| line("problem", &waypost_config::printable(problem)));
    }
    text.lines().map(|line| format!("{}\r\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{Adapter, AskError, Destination, Status};
    use crate::overview::Mistakes;

    fn clock() -> Clock {
        Clock {
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            zone: TimeZone::UTC,
            synchronized: Some(false),
        }
    }

    #[test]
    fn the_status_names_what_an_admin_asks_for() {
        let destination = Destination {
            name: "ministry".into(),
            state: "no network".into(),
            uploaded: 4,
            ..Destination::default()
        };
        let status = Status {
            version: "0.1.0".into(),
            name: "Clinic Mbale".into(),
            key: "abcd".into(),
            waiting: 7,
            networks: Some(Vec::new()),
            destinations: vec![destination],
            bluetooth: vec![
                Adapter { why: "Bluetooth: no bluetoothd".into(), ..Adapter::default() },
                Adapter { why: "it does not answer".into(), ..Adapter::default() },
                Adapter { name: "hci0".into(), why: "off".into(), ..Adapter::default() },
            ],
            ..Status::default()
        };
        let overview = Overview {
            gateway: Some(Ok(status)),
            host_name: "clinic-mbale".into(),
            mistakes: Mistakes { errors: 2, ..Mistakes::default() },
            ..Overview::default()
        };
        let machine = Machine {
            serial: Some("10000000abcdef01".into()),
            macs: vec!["b827eb000001".into()],
            ..Machine::default()
        };
        let text = text(&overview, &machine, &clock());
        for expected in [
            "name          Clinic Mbale\r\n",
            "serial        10000000abcdef01\r\n",
            "MAC           b8:27:eb:00:00:01\r\n",
            "state         Not online.\r\n",
            "waiting       7\r\n",
            "key           abcd\r\n",
            "last upload   4 documents since it was switched on\r\n",
            "clock         2027-01-15, not set by a time server",
            "notice        2 mistakes in waypost.toml",
            "notice        Bluetooth: no bluetoothd\r\n",
            "notice        Bluetooth: it does not answer\r\n",
            "notice        Bluetooth hci0: off\r\n",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn what_people_look_for_is_written_at_once_and_counts_now_and_then() {
        let before = "name          A\r\nstate         Not online.\r\nwaiting       1\r\nclock         2027-01-15, trusted\r\n\
                      notice        the disk is 91 % full\r\n";
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        assert!(is_due(None, before, hours(0)));
        for since in [None, hours(0), hours(7)] {
            assert!(!is_due(Some(before), before, since), "nothing is new");
        }
        for (old, new) in [("waiting       1", "waiting       2"), ("01-15", "01-16"), ("91 %", "92 %")] {
            let now = before.replace(old, new);
            assert!(!is_due(Some(before), &now, hours(5)), "{new}");
            assert!(is_due(Some(before), &now, hours(6)) && is_due(Some(before), &now, None), "{new}");
        }
        for (old, new) in
            [("Not", "Now"), ("  A", "  B"), ("trusted", "not trusted"), ("the disk", "the card")]
        {
            assert!(is_due(Some(before), &before.replace(old, new), hours(0)), "{new}");
        }
        let more = format!("{before}notice        Bluetooth hci0: off\r\n");
        assert!(is_due(Some(before), &more, hours(0)) && is_due(Some(&more), before, hours(0)));
    }

    #[test]
    fn a_gateway_that_does_not_run_is_told() {
        let overview = Overview {
            gateway: Some(Err(AskError::Refused("no gateway runs".into()))),
            ..Overview::default()
        };
        let text = text(&overview, &Machine::default(), &clock());
        assert!(
            text.contains("The gateway does not run") && text.contains("notice        no gateway runs"),
            "{text}"
        );
    }
}
