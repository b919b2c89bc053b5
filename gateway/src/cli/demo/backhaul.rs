//! The demo's backhaul: a TCP forwarder between gateway and destination that can be cut.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A forwarder; its threads end with the process.
pub(super) struct Backhaul {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    up: AtomicBool,
    bytes: AtomicU64,
    /// Bytes that may still go up before it closes by itself.
    window: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Backhaul {
    /// Forwards to `target`, cut at first.
    pub(super) fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            up: false.into(),
            bytes: 0.into(),
            window: u64::MAX.into(),
            open: Mutex::default(),
        });
        let theirs = shared.clone();
        thread::Builder::new().name("backhaul".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection over a cut backhaul ends without a byte.
                if theirs.up.load(Ordering::SeqCst)
                    && let Ok(onward) = TcpStream::connect(target)
                {
                    theirs.forward(&stream, &onward);
                }
            }
        })?;
        Ok(Backhaul { address, shared })
    }

    /// Where the gateway finds the destination.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives the backhaul until about `window` bytes have gone up; then it cuts itself and every connection over it.
    pub(super) fn open(&self, window: u64) {
        self.shared.window.store(window, Ordering::SeqCst);
        self.shared.up.store(true, Ordering::SeqCst);
    }

    /// Whether there is a backhaul.
    pub(super) fn is_open(&self) -> bool {
        self.shared.up.load(Ordering::SeqCst)
    }

    /// Bytes that went over it, both ways.
    pub(super) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts bytes on their way up; false, and all connections cut, once the window is over.
    fn passes(&self, count: u64) -> bool {
        let left = |window: u64| Some(window.saturating_sub(count));
        let before = self.window.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).unwrap_or(0);
        if before > count {
            return true;
        }
        self.up.store(false, Ordering::SeqCst);
        for stream in self.open().drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
        false
    }

    fn forward(self: &Arc<Self>, near: &TcpStream, far: &TcpStream) {
        for (from, to, is_up) in [(near, far, true), (far, near, false)] {
            let (Ok(from), Ok(to), Ok(kept)) = (from.try_clone(), to.try_clone(), from.try_clone()) else {
                return;
            };
            self.open().push(kept);
            let shared = self.clone();
            thread::spawn(move || {
                let mut from = Counted { stream: from, shared, is_up };
                // Either end may close at any time; that is then passed on.
                let _ = io::copy(&mut from, &mut &to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    }
}

struct Counted {
    stream: TcpStream,
    shared: Arc<Shared>,
    /// From the gateway to the destination.
    is_up: bool,
}

impl io::Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
        match self.is_up && !self.shared.passes(count as u64) {
            true => Ok(0),
            false => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_cut_backhaul_carries_nothing_and_an_open_one_what_fits_its_window() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let backhaul = Backhaul::start(server.local_addr().unwrap()).unwrap();
        let mut cut = TcpStream::connect(backhaul.address()).unwrap();
        assert_eq!(cut.read(&mut [0; 8]).unwrap_or(0), 0);
        backhaul.open(8);
        let mut near = TcpStream::connect(backhaul.address()).unwrap();
        near.write_all(b"hello").unwrap();
        let (mut far, _) = server.accept().unwrap();
        let mut got = [0; 5];
        far.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        assert_eq!(backhaul.bytes(), 5);
        assert!(backhaul.is_open());
        near.write_all(b"and more").unwrap();
        assert_eq!(far.read(&mut got).unwrap_or(0), 0, "what is beyond the window does not pass");
        assert!(!backhaul.is_open());
    }
}
