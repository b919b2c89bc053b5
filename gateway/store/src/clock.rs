//! The store's own time: seconds that the machine was on, as far as the store can know; no wall clock orders anything.

use std::time::{Duration, Instant, SystemTime};

use waypost_protocol::time::{Monotonic, UnixTime};

/// Where the store gets its time from.
pub trait Clock: Send + Sync {
    /// Never goes back while the process runs.
    fn monotonic(&self) -> Monotonic;
    /// What people read; may be wrong.
    fn wall(&self) -> UnixTime;
    /// Which start of the machine this is, and seconds since then, where that is known: time also counts while no
    /// process has the store open, until the machine is switched off.
    fn boot(&self) -> Option<Boot> {
        None
    }
}

/// A moment since a start of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// Names the start.
    pub name: String,
    /// Seconds since then, suspension included.
    pub seconds: u64,
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

    /// From `/proc`, see random(4) and proc_uptime(5).
    fn boot(&self) -> Option<Boot> {
        let name = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let seconds = uptime.split('.').next()?.trim().parse().ok()?;
        Some(Boot { name: name.trim().to_owned(), seconds })
    }
}

/// The uptime clock: what was saved, and the seconds since.
pub(crate) struct Uptime {
    clock: std::sync::Arc<dyn Clock>,
    saved: u64,
    opened: Monotonic,
    boot: Option<Boot>,
}

impl Uptime {
    /// Goes on from `saved`, which was written at `then`.
    pub(crate) fn resume(clock: std::sync::Arc<dyn Clock>, saved: u64, then: Option<&Boot>) -> Self {
        let (opened, boot) = (clock.monotonic(), clock.boot());
        let since = match (then, &boot) {
            (Some(then), Some(now)) if then.name == now.name => now.seconds.saturating_sub(then.seconds),
            _ => 0,
        };
        Uptime { clock, saved: saved.saturating_add(since), opened, boot }
    }

    /// What is to be saved beside [`Uptime::now`].
    pub(crate) fn boot(&self) -> Option<Boot> {
        let since = self.clock.monotonic().since(self.opened).as_secs();
        self.boot.clone().map(|boot| Boot { seconds: boot.seconds.saturating_add(since), ..boot })
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
