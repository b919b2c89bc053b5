//! What time it is at least: boards boot in 1970, so what destinations sign is remembered (design §7).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use waypost_protocol::time::UnixTime;
use waypost_store::{Change, Clock as _, Store, SystemClock, Writer};
use waypost_upload::settings::TimeFloor;

/// Where it is kept among the store's settings.
const KEY: &str = "time/vouched-for";
/// The start of the machine in which a time server was last followed.
const SERVER: &str = "time/server";
/// One source alone moves the time by at most so much.
const STEP: u64 = 86_400;

/// A time that somebody vouched for, the store's clock at that moment, and which start of the machine that was in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Vouched {
    time: UnixTime,
    uptime: u64,
    #[serde(default)]
    boot: Option<String>,
}

/// The time as far as it can be relied on; clones are the same.
#[derive(Clone)]
pub(super) struct TrustedTime {
    vouched: Arc<Mutex<Option<Vouched>>>,
    /// Whether the kernel's clock has followed a time server since the machine was switched on.
    synchronized: Arc<AtomicBool>,
    /// Names this start of the machine.
    boot: Option<String>,
    floor: TimeFloor,
    store: Store,
    writer: Writer,
}

impl TrustedTime {
    /// Goes on from what was saved, and not before the program was built.
    pub(super) fn load(store: Store, writer: Writer) -> Self {
        let saved = store.setting(KEY).ok().flatten();
        let saved: Option<Vouched> = saved.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let boot = SystemClock::new().boot().map(|boot| boot.name);
        let server = store.setting(SERVER).ok().flatten();
        let synchronized = boot.as_ref().is_some_and(|boot| server.as_deref() == Some(boot.as_bytes()));
        let time = TrustedTime {
            vouched: Arc::new(Mutex::new(saved)),
            synchronized: Arc::new(AtomicBool::new(synchronized)),
            boot,
            floor: TimeFloor::new(waypost_openpgp::BUILD_FLOOR),
            store,
            writer,
        };
        time.raise_floor();
        time
    }

    /// For TLS, whose certificates are judged by it.
    pub(super) fn floor(&self) -> TimeFloor {
        self.floor.clone()
    }

    /// Brings the floor forward by the time that has passed, before a certificate is judged.
    pub(super) fn raise_floor(&self) {
        self.floor.raise(self.at_least());
    }

    /// The wall clock, but not earlier than what is known: for signatures.
    pub(super) fn now(&self) -> UnixTime {
        wall().max(self.at_least())
    }

    /// The wall clock, unless it is known to be behind.
    pub(super) fn wall(&self) -> Option<UnixTime> {
        Some(wall()).filter(|wall| wall.0 + STEP >= self.at_least().0)
    }

    /// What the wall clock says where that is known to be wrong.
    pub(super) fn wrong(&self) -> Option<UnixTime> {
        self.wall().is_none().then(wall)
    }

    /// What the wall clock says, where that is not known to be wrong, but nobody has confirmed it since the machine was switched on:
    /// neither a time server nor a destination. While the power is off the clocks of most boards stand still.
    pub(super) fn unconfirmed(&self) -> Option<UnixTime> {
        let wall = self.wall()?;
        let is_of_this_start = |vouched: &Vouched| self.boot.is_some() && vouched.boot == self.boot;
        let is_vouched_for = self.vouched().as_ref().is_some_and(is_of_this_start)
            && self.vouched_for().is_some_and(|time| time.0.abs_diff(wall.0) <= STEP);
        let is_confirmed = is_vouched_for || self.has_followed_server();
        (!is_confirmed).then_some(wall)
    }

    /// Whether the wall clock can be relied on.
    pub(super) fn is_confirmed(&self) -> bool {
        self.wall().is_some() && self.unconfirmed().is_none()
    }

    /// The kernel's clock follows a time server, which holds until the machine is switched off.
    pub(super) fn follows_server(&self) {
        self.synchronized.store(true, Ordering::Relaxed);
        let value = self.boot.as_ref().map(|boot| boot.clone().into_bytes());
        self.writer.submit(Change::Put { key: SERVER.to_owned(), value }, |_| ());
    }

    /// Whether it has, since the machine was switched on.
    pub(super) fn has_followed_server(&self) -> bool {
        self.synchronized.load(Ordering::Relaxed)
    }

    /// What somebody vouched for, and the time that has passed since; it is not later than that.
    pub(super) fn vouched_for(&self) -> Option<UnixTime> {
        let uptime = self.store.uptime();
        self.vouched()
            .as_ref()
            .map(|vouched| UnixTime(vouched.time.0 + uptime.saturating_sub(vouched.uptime)))
    }

    /// A destination has signed that it is `time`. Alone it moves what is known by a day at most; where the wall clock
    /// says about the same, the two of them are believed.
    pub(super) fn heard(&self, time: UnixTime) {
        let known = self.at_least();
        let agrees = wall().0.abs_diff(time.0) <= STEP;
        let believed = if agrees { time } else { time.min(UnixTime(known.0 + STEP)) };
        if believed <= known {
            return;
        }
        let vouched = Vouched { time: believed, uptime: self.store.uptime(), boot: self.boot.clone() };
        let value = serde_json::to_vec(&vouched).ok();
        *self.vouched() = Some(vouched);
        self.floor.raise(believed);
        self.writer.submit(Change::Put { key: KEY.to_owned(), value }, |_| ());
    }

    fn at_least(&self) -> UnixTime {
        self.vouched_for().unwrap_or(UnixTime(0)).max(waypost_openpgp::BUILD_FLOOR)
    }

    fn vouched(&self) -> MutexGuard<'_, Option<Vouched>> {
        self.vouched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wall() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs())
}

#[cfg(test)]
mod tests {
    use waypost_store::{Options, StoreKey, WriterOptions};

    use super::*;

    fn open(folder: &std::path::Path) -> (TrustedTime, Writer) {
        let options = Options { map_size: 16 << 20, reserve: 0, ..Options::default() };
        let store = Store::open(folder, &StoreKey::new([1; 32]), options).unwrap();
        let writer = Writer::start(store.clone(), WriterOptions::default()).unwrap();
        (TrustedTime::load(store, writer.clone()), writer)
    }

    #[test]
    fn one_source_moves_the_time_by_a_day_two_that_agree_by_any_span_and_it_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let now = wall().0;
        {
            let (time, writer) = open(folder.path());
            assert_eq!(time.vouched_for(), None);
            assert_eq!(time.floor().get(), waypost_openpgp::BUILD_FLOOR);
            // The wall clock says about the same.
            time.heard(UnixTime(now - 3_600));
            assert!(time.vouched_for().unwrap().0.abs_diff(now - 3_600) <= 2);
            // Alone against the wall clock: a day at most, however far ahead.
            time.heard(UnixTime(now + 1_000 * STEP));
            let moved = time.vouched_for().unwrap().0;
            assert!(moved.abs_diff(now - 3_600 + STEP) <= 2, "{moved}");
            assert_eq!(time.floor().get().0, moved);
            // It never goes back.
            time.heard(UnixTime(5));
            assert!(time.vouched_for().unwrap().0 >= moved);
            assert_eq!(time.now().0, moved.max(time.now().0));
            writer.flush();
            writer.stop();
        }
        let (time, writer) = open(folder.path());
        assert!(time.floor().get().0 >= now - 3_600 + STEP, "after a restart it is not 1970 again");
        assert!(time.now().0 > wall().0, "signatures are judged by what is known");
        writer.stop();
    }

    #[test]
    fn a_wall_clock_that_is_behind_what_is_known_tells_no_hours() {
        let folder = tempfile::tempdir().unwrap();
        let (time, writer) = open(folder.path());
        assert!(time.wall().is_some());
        let far = wall().0 + 10 * STEP;
        *time.vouched() = Some(Vouched { time: UnixTime(far), uptime: time.store.uptime(), boot: None });
        assert_eq!(time.wall(), None);
        assert!(!time.is_confirmed() && time.unconfirmed().is_none());
        time.follows_server();
        assert!(!time.is_confirmed(), "what is signed counts for more");
        writer.stop();
    }

    #[test]
    fn a_clock_is_confirmed_by_a_time_server_or_by_a_destination_since_the_machine_was_switched_on() {
        let folder = tempfile::tempdir().unwrap();
        let (mut time, writer) = open(folder.path());
        assert!(time.unconfirmed().is_some_and(|said| said.0.abs_diff(wall().0) <= 2));
        // What was signed two days ago says little of now.
        time.heard(UnixTime(wall().0 - 2 * STEP));
        assert!(!time.is_confirmed());
        time.heard(UnixTime(wall().0 - 60));
        assert!(time.is_confirmed() && time.clone().is_confirmed());
        time.boot = Some("the next start".into());
        assert!(!time.is_confirmed(), "the clock may have stood still meanwhile");
        time.follows_server();
        assert!(time.is_confirmed());
        writer.flush();
        let again = |boot: &str| {
            let mut time = TrustedTime::load(time.store.clone(), writer.clone());
            let server = time.store.setting(SERVER).unwrap().unwrap();
            time.boot = Some(boot.into());
            (String::from_utf8(server).unwrap(), time.has_followed_server())
        };
        // It was another start that this process is in.
        assert_eq!(again("the next start"), ("the next start".to_owned(), false));
        time.boot = SystemClock::new().boot().map(|boot| boot.name);
        time.follows_server();
        writer.flush();
        assert!(
            TrustedTime::load(time.store.clone(), writer.clone()).is_confirmed(),
            "the gateway alone was started anew"
        );
        writer.stop();
    }
}
