//! What can be set when a store is opened.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::disk::{DiskSpace, SystemDisk};

/// Settings of a store. [`Options::default`] suits a gateway.
#[derive(Clone)]
pub struct Options {
    /// Size of the memory map in bytes, rounded up to whole MiB. Default 64 GiB. Costs address space only.
    pub map_size: u64,
    /// The store takes documents up to so many bytes. Default: no limit of its own.
    pub quota: u64,
    /// Size of the reserve file, and of the room on the disk that documents never use, in bytes. Default 16 MiB.
    pub reserve: u64,
    /// Whether documents are offered to peers that serve their destination. Default false (a gateway); phones set true.
    pub forwards: bool,
    /// Percent of the room that documents of peers of the class [`crate::PeerClass::Open`] may use together. Default 5.
    pub open_share: u8,
    /// The same for those of the class [`crate::PeerClass::Poster`]. Default 5.
    pub poster_share: u8,
    /// Percent of the room that documents which one peer of another class has brought may use. Default 50.
    pub peer_share: u8,
    /// At most so many bodies may be under way at once. Default 256. Costs 200 bytes of memory each. A quarter of
    /// them may be one peer's, or those of one of these classes together.
    pub max_partials: u32,
    /// The declared sizes of the bodies under way may add up to so many bytes. Default 4 GiB.
    pub max_partial_bytes: u64,
    /// A body that got nothing for so long may be dropped in favour of a new one. Default one minute.
    pub partial_idle: Duration,
    /// A body that got nothing for so long, by the uptime clock, is dropped. Default 14 days.
    pub partial_lifetime: Duration,
    /// How long confirmations and ids of what was deleted are remembered, by the uptime clock. Default 400 days.
    pub remember: Duration,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Who says what is free on the disk.
    pub disk: Arc<dyn DiskSpace>,
}

impl Default for Options {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Options {
            map_size: 64 << 30,
            quota: u64::MAX,
            reserve: 16 << 20,
            forwards: false,
            open_share: 5,
            poster_share: 5,
            peer_share: 50,
            max_partials: 256,
            max_partial_bytes: 4 << 30,
            partial_idle: Duration::from_secs(60),
            partial_lifetime: DAY * 14,
            remember: DAY * 400,
            clock: Arc::new(SystemClock::new()),
            disk: Arc::new(SystemDisk),
        }
    }
}
