//! `waypost-status.txt`: how the kiosk is, for whoever takes its card to a laptop.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::machine::{Machine, colons};
use crate::overview::Overview;

/// The file's name.
pub const STATUS: &str = "waypost-status.txt";

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

/// The text, with line ends as Windows' editors want them. The clock is told by the day: a file that changes with every
/// minute would wear out the card.
pub fn text(overview: &Overview, machine: &Machine, clock: &Clock) -> String {
    let mut text = String::from("How this Waypost kiosk was when it last had something new to say.\n\n");
    // Writing to a text cannot fail.
    let mut line = |key: &str, value: &str| _ = writeln!(text, "{key:<14}{value}");
    line("name", &overview.name());
    line("host name", &overview.host_name);
    line("serial", machine.serial.as_deref().unwrap_or("not known"));
    line("MAC", &machine.macs.iter().map(|mac| colons(mac)).collect::<Vec<_>>().join(", "));
    line("state", &overview.state());
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
    use crate::gateway::{AskError, Destination, Status};
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
            "state         Not online. 7 documents are waiting.",
            "key           abcd\r\n",
            "last upload   4 documents since it was switched on\r\n",
            "clock         2027-01-15, not set by a time server",
            "notice        2 mistakes in waypost.toml",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
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
