//! The way that connections take out of this device, and who pays for their bytes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many bytes are asked for at once.
const LEASE: u64 = 256 << 10;
/// Names, the three packets that open a connection and the four that close it.
pub(crate) const CONNECTION: u64 = 600;

/// Decides over connections and their bytes. Called from the thread that sends; may wait for a disk.
pub trait Way: Send + Sync + std::fmt::Debug {
    /// The network interface that a connection is bound to; `None`: the system's routes decide. An error says why no
    /// connection may be made now, and what to do.
    fn interface(&self) -> Result<Option<String>, String>;

    /// Leave to move this many bytes more, or fewer, both ways; an error where nothing may be moved.
    fn lease(&self, bytes: u64) -> Result<u64, String>;

    /// Leave that was not used.
    fn give_back(&self, bytes: u64);

    /// Whether bytes cost money: then what can wait is asked for rarely.
    fn is_metered(&self) -> bool {
        false
    }
}

/// The system's routes, without bounds.
#[derive(Debug, Clone, Copy)]
pub struct AnyWay;

impl Way for AnyWay {
    fn interface(&self) -> Result<Option<String>, String> {
        Ok(None)
    }

    fn lease(&self, _: u64) -> Result<u64, String> {
        Ok(u64::MAX / 2)
    }

    fn give_back(&self, _: u64) {}
}

/// Why nothing may be moved; travels inside an IO error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Closed(pub(crate) String);

/// Pays for the bytes of one client.
#[derive(Debug)]
pub(crate) struct Toll {
    way: Arc<dyn Way>,
    left: AtomicU64,
}

impl Toll {
    pub(crate) fn new(way: Arc<dyn Way>) -> Self {
        Toll { way, left: AtomicU64::new(0) }
    }

    pub(crate) fn way(&self) -> &dyn Way {
        &*self.way
    }

    /// Pays for bytes of a TCP stream, and for the headers around them: 52 bytes for a segment of 1,448,
    /// and as many for each second one that comes back.
    pub(crate) fn pay(&self, bytes: u64) -> io::Result<()> {
        let cost = cost(bytes);
        let mut left = self.left.load(Ordering::Relaxed);
        while left < cost {
            let lease = self.way.lease(LEASE.max(cost - left));
            left = left.saturating_add(lease.map_err(|why| io::Error::other(Closed(why)))?.max(1));
            self.left.store(left, Ordering::Relaxed);
        }
        self.left.store(left - cost, Ordering::Relaxed);
        Ok(())
    }

    /// So many bytes of those that were paid for were not moved after all.
    pub(crate) fn refund(&self, bytes: u64) {
        self.left.fetch_add(cost(bytes), Ordering::Relaxed);
    }

    /// Nothing is moved for a while.
    pub(crate) fn settle(&self) {
        let left = self.left.swap(0, Ordering::Relaxed);
        if left > 0 {
            self.way.give_back(left);
        }
    }
}

fn cost(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 16)
}

/// Why the way is closed, where that is what an IO error says.
pub(crate) fn closed(error: &io::Error) -> Option<&Closed> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Purse(AtomicU64);

    impl Way for Purse {
        fn interface(&self) -> Result<Option<String>, String> {
            Ok(None)
        }

        fn lease(&self, bytes: u64) -> Result<u64, String> {
            let left = self.0.load(Ordering::SeqCst);
            let granted = left.min(bytes);
            self.0.store(left - granted, Ordering::SeqCst);
            if granted == 0 { Err("nothing is left".into()) } else { Ok(granted) }
        }

        fn give_back(&self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::SeqCst);
        }
    }

    #[test]
    fn every_byte_is_paid_for_and_what_was_leased_and_not_used_comes_back() {
        let purse = Arc::new(Purse(AtomicU64::new(1_000_000)));
        let toll = Toll::new(purse.clone());
        for _ in 0..9 {
            toll.pay(16_000).unwrap();
        }
        toll.settle();
        assert_eq!(purse.0.load(Ordering::SeqCst), 1_000_000 - 9 * 17_000);
        while toll.pay(16_000).is_ok() {}
        let why = toll.pay(16_000).unwrap_err();
        assert_eq!(closed(&why).unwrap().to_string(), "nothing is left");
        toll.settle();
        let spent = 1_000_000 - purse.0.load(Ordering::SeqCst);
        assert_eq!(spent, 1_000_000 / 17_000 * 17_000, "never more than there is");
    }
}
