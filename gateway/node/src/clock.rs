//! The node's clocks: a monotonic one for timers, the wall clock for what is shown and signed.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use waypost_protocol::time::{Monotonic, UnixTime};

/// Reads both clocks; monotonic time starts when it is made.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { start: Instant::now() }
    }
}

impl Clock {
    /// Time since the start.
    pub fn now(&self) -> Monotonic {
        Monotonic(self.start.elapsed())
    }

    /// The moment `at` on tokio's clock, to sleep until.
    pub fn instant(&self, at: Monotonic) -> tokio::time::Instant {
        (self.start + at.0).into()
    }

    /// The wall clock, which may be wrong; 1970 where it is before that.
    pub fn wall(&self) -> UnixTime {
        UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }
}
