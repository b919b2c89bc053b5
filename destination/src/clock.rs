//! The server's clock, read in one place.

use std::time::{SystemTime, UNIX_EPOCH};

use waypost_protocol::time::UnixTime;

/// Unix seconds by the system's clock.
pub fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_secs()))
}
