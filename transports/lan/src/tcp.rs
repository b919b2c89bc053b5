//! TCP connections as links.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use waypost_link::{Link, LinkInfo, Medium};

/// Frames of this many bytes fill a TCP link well (design §5: 16 KiB).
pub const USEFUL_FRAME: usize = 16 * 1024;
/// A peer that is silent for so long is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// A peer that takes nothing for so long, or has answered nothing of what it was asked, has left. Without this the kernel goes
/// on trying for a quarter of an hour (RFC 9293, 3.8.3). A peer that writes to a slow disk may take nothing for a while.
const GONE: Duration = Duration::from_secs(60);

/// Why there is no TCP link.
#[derive(Debug, thiserror::Error)]
pub enum LanError {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {source}; choose another address in [lan] listen")]
    Listen {
        /// As configured.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("cannot reach {address}: {source}")]
    Connect {
        /// As asked.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error("{address} does not answer within {seconds} s")]
    Timeout {
        /// As asked.
        address: String,
        /// How long it was waited.
        seconds: u64,
    },
}

/// Takes connections.
pub struct Listener {
    inner: TcpListener,
}

impl Listener {
    /// Listens on `address` (`host:port`; `[::]:4180` takes IPv4 as well).
    pub async fn bind(address: &str) -> Result<Self, LanError> {
        let inner = TcpListener::bind(address)
            .await
            .map_err(|source| LanError::Listen { address: address.to_owned(), source })?;
        Ok(Listener { inner })
    }

    /// Where it listens; tells the port where 0 was asked for.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The next connection; its group is the interface that it came by. An error concerns one connection, or that file
    /// descriptors are used up; listening goes on.
    pub async fn accept(&self) -> io::Result<Link> {
        let (stream, address) = self.inner.accept().await?;
        let interface = stream.local_addr().ok().and_then(interface_of).unwrap_or_default();
        Ok(link(stream, address.to_string(), interface, false, GONE))
    }
}

/// Opens a link to `host:port`.
pub async fn connect(address: &str, timeout: Duration) -> Result<Link, LanError> {
    connect_while_near(address, timeout, GONE).await
}

/// The same to somebody who can be reached another way as well: who takes nothing for `gone` has left.
pub async fn connect_while_near(address: &str, timeout: Duration, gone: Duration) -> Result<Link, LanError> {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(link(stream, address.to_owned(), String::new(), true, gone)),
        Ok(Err(source)) => Err(LanError::Connect { address: address.to_owned(), source }),
        Err(_) => Err(LanError::Timeout { address: address.to_owned(), seconds: timeout.as_secs() }),
    }
}

/// The network interface that has an address.
fn interface_of(address: SocketAddr) -> Option<String> {
    let ip = address.ip().to_canonical();
    let scope = match address {
        SocketAddr::V6(address) => address.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let has_it = |one: &nix::ifaddrs::InterfaceAddress| {
        let Some(own) = &one.address else { return false };
        match (ip, own.as_sockaddr_in(), own.as_sockaddr_in6()) {
            (std::net::IpAddr::V4(ip), Some(own), _) => own.ip() == ip,
            (std::net::IpAddr::V6(ip), _, Some(own)) => {
                own.ip() == ip && (scope == 0 || own.scope_id() == scope)
            }
            _ => false,
        }
    };
    getifaddrs().ok()?.find(has_it).map(|one| one.interface_name)
}

fn link(stream: TcpStream, address: String, group: String, outgoing: bool, gone: Duration) -> Link {
    // Either setting failing costs speed or patience, not correctness.
    if let Err(error) = stream.set_nodelay(true) {
        log::debug!("{address}: no TCP_NODELAY: {error}");
    }
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    let socket = SockRef::from(&stream);
    let set = socket.set_tcp_keepalive(&keepalive).and_then(|()| socket.set_tcp_user_timeout(Some(gone)));
    if let Err(error) = set {
        log::debug!("{address}: a peer that leaves is noticed late: {error}");
    }
    let info = LinkInfo { medium: Medium::Lan, address, group, outgoing, useful_frame: USEFUL_FRAME };
    let (reader, writer) = stream.into_split();
    Link::new(info, reader, writer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_pass_both_ways() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_address().unwrap().to_string();
        let (near, far) = tokio::join!(connect(&address, Duration::from_secs(5)), listener.accept());
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        near.writer.feed(vec![1, 2].into()).await.unwrap();
        near.writer.flush().await.unwrap();
        assert_eq!(far.reader.next().await.unwrap().as_deref(), Some(&[1, 2][..]));
        far.writer.feed(vec![3].into()).await.unwrap();
        far.writer.close().await.unwrap();
        assert_eq!(near.reader.next().await.unwrap().as_deref(), Some(&[3][..]));
        assert!(near.reader.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_cannot_be_reached_is_named() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_address().unwrap().to_string();
        let taken = Listener::bind(&address).await.err().unwrap().to_string();
        assert!(taken.contains(&address) && taken.contains("[lan] listen"), "{taken}");
        drop(listener);
        let error = connect(&address, Duration::from_secs(5)).await.err().unwrap().to_string();
        assert!(error.contains(&address), "{error}");
    }

    #[tokio::test]
    async fn a_link_that_came_names_the_interface_that_it_came_by() {
        for (listen, at) in [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::]:0", "[::1]")] {
            let listener = Listener::bind(listen).await.unwrap();
            let address = format!("{at}:{}", listener.local_address().unwrap().port());
            let (near, far) = tokio::join!(connect(&address, Duration::from_secs(5)), listener.accept());
            let (near, far) = (near.unwrap(), far.unwrap());
            assert_eq!((near.info.group.as_str(), far.info.group.as_str()), ("", "lo"), "{listen} at {at}");
        }
    }
}
