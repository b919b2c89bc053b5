//! A receive window that is wide from the first bytes on: for clients far away each round trip that it grows in is lost.
//!
//! Linux begins with 64 KiB and widens it as it sees the program read, which on links of 600 ms may take it several round
//! trips to notice. `SO_RCVLOWAT` widens the buffer at once (tcp(7), since Linux 4.18); unlike `SO_RCVBUF` it neither fixes
//! its size nor is it bounded by `net.core.rmem_max`. The low-water mark itself is taken back.

use std::os::fd::AsFd;

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SetUsize;

/// Half of a batch of documents, and 600 ms of 14 Mbit/s; at most half of `net.ipv4.tcp_rmem`'s largest.
const WINDOW: usize = 1 << 20;

/// `SO_RCVLOWAT`: from how many waiting bytes on a read is woken up.
#[derive(Clone)]
struct LowWater;

nix::setsockopt_impl!(LowWater, libc::SOL_SOCKET, libc::SO_RCVLOWAT, usize, SetUsize);

/// Widens it; on a system where that is not possible it grows by itself.
pub(crate) fn open_wide(stream: &impl AsFd) {
    for mark in [WINDOW, 1] {
        if let Err(error) = setsockopt(stream, LowWater, &mark) {
            log::debug!("the receive window stays as it is: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_is_wider_and_a_single_byte_still_wakes_the_reader() {
        use std::io::{Read as _, Write as _};
        use std::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let size = |stream: &TcpStream| {
            nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::RcvBuf).unwrap()
        };
        let before = size(&server);
        open_wide(&server);
        assert!(size(&server) >= before.max(1 << 20), "{} after {before}", size(&server));
        server.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        client.write_all(b"x").unwrap();
        assert_eq!(server.read(&mut [0; 10]).unwrap(), 1);
    }
}
