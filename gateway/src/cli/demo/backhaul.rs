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
    open: Mutex<Vec<TcpStream>>,
}

impl Backhaul {
    /// Forwards to `target`, cut at first.
    pub(super) fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared =
            Arc::new(Shared { up: AtomicBool::new(false), bytes: AtomicU64::new(0), open: Mutex::default() });
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

    /// Gives the backhaul, or cuts it and every connection over it.
    pub(super) fn set(&self, up: bool) {
        self.shared.up.store(up, Ordering::SeqCst);
        if !up {
            for stream in self.shared.open().drain(..) {
                // It may have ended by itself.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
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

    fn forward(self: &Arc<Self>, near: &TcpStream, far: &TcpStream) {
        for (from, to) in [(near, far), (far, near)] {
            let (Ok(from), Ok(to), Ok(kept)) = (from.try_clone(), to.try_clone(), from.try_clone()) else {
                return;
            };
            self.open().push(kept);
            let shared = self.clone();
            thread::spawn(move || {
                let mut from = Counted { stream: from, shared };
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
}

impl io::Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_cut_backhaul_carries_nothing_and_one_given_back_carries_all() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let backhaul = Backhaul::start(server.local_addr().unwrap()).unwrap();
        let mut cut = TcpStream::connect(backhaul.address()).unwrap();
        assert_eq!(cut.read(&mut [0; 8]).unwrap_or(0), 0);
        backhaul.set(true);
        let mut near = TcpStream::connect(backhaul.address()).unwrap();
        near.write_all(b"hello").unwrap();
        let (mut far, _) = server.accept().unwrap();
        let mut got = [0; 5];
        far.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        assert_eq!(backhaul.bytes(), 5);
        backhaul.set(false);
        assert_eq!(far.read(&mut got).unwrap_or(0), 0);
    }
}
