//! How often `waypost-status.txt` is written on a kiosk at work: each write makes the boot partition writable for a moment.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod kit;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use kit::Kiosk;

const STATUS: &str = "boot/firmware/waypost-status.txt";
const ANSWERS: &str = "#!/bin/sh\n# Answers as the gateway's command does.\nset -eu\ncat \"$0.status\"\n";

struct AtWork {
    kiosk: Kiosk,
}

impl AtWork {
    fn new() -> Self {
        let kiosk = Kiosk::new("10000000abcdef01");
        kiosk.put("waypost.toml", "name = \"Clinic Mbale\"\n");
        kiosk.start();
        kiosk.write("waypost", ANSWERS);
        fs::set_permissions(kiosk.path("waypost"), fs::Permissions::from_mode(0o755)).unwrap();
        AtWork { kiosk }
    }

    /// Whether it writes at this time with so many documents, in this state of its destination.
    fn writes(&self, minutes: u64, documents: u64, state: &str) -> bool {
        let room = 98_000_000_000 - 100_000_000 * documents;
        self.kiosk.write("proc/uptime", &format!("{}.42 99.10\n", 60 * minutes));
        self.kiosk.write(
            "waypost.status",
            &format!(
                r#"{{"name":"Clinic Mbale","version":"1","waiting":{},"opened":{documents},"room":{room},
                   "destinations":[{{"name":"m","state":"{state}","uploaded":{documents},"progress":{}}}]}}"#,
                documents % 3,
                // Now and then one is on its way.
                if documents % 2 == 1 && state == "ok" { "[1,2]" } else { "null" },
            ),
        );
        let before = fs::metadata(self.kiosk.path(STATUS)).and_then(|about| about.modified()).ok();
        let waypost = self.kiosk.path("waypost");
        let out = self.kiosk.run(&["status", "--waypost", waypost.to_str().unwrap()]);
        assert!(out.status.success(), "{out:?}");
        let after = fs::metadata(self.kiosk.path(STATUS)).unwrap().modified().ok();
        before != after
    }
}

#[test]
fn a_busy_day_is_written_four_times() {
    let kiosk = AtWork::new();
    let writes = (0..96).filter(|quarter| kiosk.writes(3 + 15 * quarter, *quarter, "ok")).count();
    assert_eq!(writes, 4);
    // The last one was at 18 hours.
    assert!(kiosk.kiosk.text(STATUS).contains("delivered     72 opened"), "{}", kiosk.kiosk.text(STATUS));
}

#[test]
fn what_is_new_to_an_admin_is_written_at_once_and_a_new_start_begins_anew() {
    let kiosk = AtWork::new();
    assert!(kiosk.writes(3, 0, "ok"));
    assert!(!kiosk.writes(18, 2, "ok"));
    assert!(kiosk.writes(33, 2, "no network"));
    assert!(kiosk.kiosk.text(STATUS).contains("waiting       2"), "with all that was not told before");
    assert!(!kiosk.writes(48, 4, "no network") && !kiosk.writes(63, 4, "no network"));
    kiosk.kiosk.start();
    assert!(kiosk.writes(3, 4, "no network"), "what it counted last, before it was switched off and on");
}
