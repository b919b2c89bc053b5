//! L2CAP credit-based channels as streams: listening on a dynamic PSM, connecting, and an end that loses nothing.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bluer::l2cap::{Socket, SocketAddr, Stream, StreamListener};
use bluer::{Address, AddressType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::guarded::Guarded;
use crate::read_ahead::{ReadAhead, by_the_reading_thread};

/// What a channel takes in one piece, in bytes. With 32 KiB Linux connects and then moves nothing.
const RECEIVE_MTU: u16 = 4096;
/// Connections that wait to be taken.
const BACKLOG: u32 = 4;
/// How often it is looked whether a channel is open.
const CONNECTING: Duration = Duration::from_millis(10);
/// How often it is looked whether everything has left the machine, before a channel is closed.
const DRAIN: Duration = Duration::from_millis(10);
/// How long that may take: longer than the supervision timeout of a link.
const DRAIN_MOST: u32 = 800;

/// Listens on the adapter's address. The kernel chooses the PSM, from 0x80 on.
pub(crate) fn listen(address: Address, kind: AddressType) -> io::Result<(StreamListener, u16)> {
    let socket = Socket::<Stream>::new_stream()?;
    socket.bind(SocketAddr::new(address, kind, 0))?;
    socket.set_recv_mtu(RECEIVE_MTU)?;
    let listener = socket.listen(BACKLOG)?;
    let psm = listener.as_ref().local_addr()?.psm;
    Ok((listener, psm))
}

/// Takes a channel that somebody opens, and tells whose it is. Without a listener nobody does.
pub(crate) async fn accept(listener: Option<&StreamListener>) -> io::Result<(Channel, Address)> {
    let Some(listener) = listener else { return std::future::pending().await };
    let accept = poll_fn(|cx| {
        let _made = by_the_reading_thread()?;
        listener.poll_accept(cx)
    });
    let (stream, from) = accept.await?;
    Ok((Channel::new(stream), from.addr))
}

/// Opens a channel from one adapter's address.
pub(crate) async fn connect(from: (Address, AddressType), to: SocketAddr) -> io::Result<Channel> {
    let socket = {
        let _made = by_the_reading_thread()?;
        Socket::<Stream>::new_stream()?
    };
    socket.bind(SocketAddr::new(from.0, from.1, 0))?;
    socket.set_recv_mtu(RECEIVE_MTU)?;
    let stream = socket.connect(to).await?;
    // That comes back early where the socket seems writable before it is connected.
    while stream.as_ref().conn_info().is_err() {
        // An error once the channel is closed, and none while it is being made.
        stream.peer_addr()?;
        tokio::time::sleep(CONNECTING).await;
    }
    Ok(Channel::new(stream))
}

/// A channel. Closing it waits until what was written has left: the kernel would throw it away.
pub(crate) struct Channel {
    stream: Stream,
    /// What the kernel says of its buffer while nothing waits in it: how much is free, or that nothing is used.
    empty: Option<u32>,
    drain: Option<(Pin<Box<Sleep>>, u32)>,
}

impl Channel {
    /// Of a stream on which nothing was written yet.
    fn new(stream: Stream) -> Self {
        let empty = stream.as_ref().output_buffer().ok();
        Channel { stream, empty, drain: None }
    }

    /// The two directions. `guard` is dropped when both are.
    pub(crate) fn split(
        self,
        guard: impl Send + Unpin + 'static,
    ) -> io::Result<(ReadAhead, impl AsyncWrite + Send + Unpin + 'static)> {
        let (reader, writer) = tokio::io::split(Guarded::new(self, guard));
        Ok((ReadAhead::new(reader)?, writer))
    }

    fn is_drained(&self) -> bool {
        self.stream.as_ref().output_buffer().ok() == self.empty
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.stream).poll_read(cx, buf)) {
            // So Linux calls it when the peer closes the channel in order; a radio link that is lost times out.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Poll::Ready(Ok(())),
            // What is read after the own end is the end.
            Err(error) if self.drain.is_some() && error.kind() == io::ErrorKind::NotConnected => {
                Poll::Ready(Ok(()))
            }
            read => Poll::Ready(read),
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let waited = self.drain.as_ref().map_or(0, |(_, waited)| *waited);
            if self.is_drained() || waited >= DRAIN_MOST {
                return match ready!(Pin::new(&mut self.stream).poll_shutdown(cx)) {
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
                    shut => Poll::Ready(shut),
                };
            }
            let (sleep, waited) = self.drain.get_or_insert_with(|| (Box::pin(tokio::time::sleep(DRAIN)), 0));
            ready!(sleep.as_mut().poll(cx));
            *waited += 1;
            sleep.as_mut().reset(tokio::time::Instant::now() + DRAIN);
        }
    }
}
