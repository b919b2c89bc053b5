//! The store's own time: seconds that some process has had it open, summed over restarts; no wall clock orders anything.

use std::time::{Duration, Instant, SystemTime};

use waypost_protocol::time::{Monotonic, UnixTime};

/// Where the store gets its time from.
pub trait Clock: Send + Sync {
    /// Never goes back while the process runs.
    fn monotonic(&self) -> Monotonic;
    /// What people read; may be wrong.
    fn wall(&self) -> UnixTime;
}

/// The clocks of the operating system.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// Starts counting.
    pub fn new() -> Self {
        SystemClock(Instant::now())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.elapsed())
    }

    fn wall(&self) -> UnixTime {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        UnixTime(since.map(|since| since.as_secs()).unwrap_or(0))
    }
}

/// The uptime clock: what was saved, and the seconds since.
pub(crate) struct Uptime {
    clock: std::sync::Arc<dyn Clock>,
    saved: u64,
    opened: Monotonic,
}

impl Uptime {
    pub(crate) fn resume(clock: std::sync::Arc<dyn Clock>, saved: u64) -> Self {
        let opened = clock.monotonic();
        Uptime { clock, saved, opened }
    }

    /// Seconds of uptime.
    pub(crate) fn now(&self) -> u64 {
        let since: Duration = self.clock.monotonic().since(self.opened);
        self.saved.saturating_add(since.as_secs())
    }

    pub(crate) fn wall(&self) -> UnixTime {
        self.clock.wall()
    }
}
