//! TCP connections as links.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use waypost_link::{Link, LinkInfo, Medium};

/// Frames of this many bytes fill a TCP link well (design §5: 16 KiB).
pub const USEFUL_FRAME: usize = 16 * 1024;
/// A peer that left without a word is noticed after about this long, even while nothing is sent.
const KEEPALIVE: Duration = Duration::from_secs(30);

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

    /// The next connection. An error concerns one connection, or that file descriptors are used up; listening goes on.
    pub async fn accept(&self) -> io::Result<Link> {
        let (stream, address) = self.inner.accept().await?;
        Ok(link(stream, address.to_string(), false))
    }
}

/// Opens a link to `host:port`.
pub async fn connect(address: &str, timeout: Duration) -> Result<Link, LanError> {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(link(stream, address.to_owned(), true)),
        Ok(Err(source)) => Err(LanError::Connect { address: address.to_owned(), source }),
        Err(_) => Err(LanError::Timeout { address: address.to_owned(), seconds: timeout.as_secs() }),
    }
}

fn link(stream: TcpStream, address: String, outgoing: bool) -> Link {
    // Either setting failing costs speed or patience, not correctness.
    if let Err(error) = stream.set_nodelay(true) {
        log::debug!("{address}: no TCP_NODELAY: {error}");
    }
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
    if let Err(error) = SockRef::from(&stream).set_tcp_keepalive(&keepalive) {
        log::debug!("{address}: no TCP keepalive: {error}");
    }
    let info =
        LinkInfo { medium: Medium::Lan, address, group: String::new(), outgoing, useful_frame: USEFUL_FRAME };
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
}
