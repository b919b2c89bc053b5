//! Two ends of a link inside one process.

use tokio::io::{duplex, split};

use crate::{Link, LinkInfo, Medium};

/// How much a link in memory holds and what its frames look like.
#[derive(Debug, Clone, Copy)]
pub struct Throttle {
    /// Bytes that may be under way each way before the sender waits.
    pub buffer: usize,
    /// [`LinkInfo::useful_frame`] of both ends.
    pub useful_frame: usize,
}

impl Default for Throttle {
    fn default() -> Self {
        Throttle { buffer: 64 * 1024, useful_frame: 16 * 1024 }
    }
}

/// Both ends of a link; the first is the one that opened it.
pub fn memory_pair(throttle: Throttle) -> (Link, Link) {
    let (near, far) = duplex(throttle.buffer);
    let end = |stream, outgoing| {
        let (reader, writer) = split(stream);
        let address = if outgoing { "far end" } else { "near end" };
        let info = LinkInfo {
            medium: Medium::Memory,
            address: address.into(),
            group: String::new(),
            outgoing,
            useful_frame: throttle.useful_frame,
        };
        Link::new(info, reader, writer)
    };
    (end(near, true), end(far, false))
}
