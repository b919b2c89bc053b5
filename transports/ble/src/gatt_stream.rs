//! A stream of bytes over two GATT characteristics: carries bytes between a pipe and values, within their credit.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bluer::gatt::{CharacteristicReader, CharacteristicWriter};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::fragment::{FragmentError, LONGEST_VALUE, Receiver, Sender, Value};

/// Bytes that wait on each side of the pipe.
const PIPE: usize = 8 * 1024;
/// Values that wait to be sent, beyond which nothing is taken.
const GOING: usize = 8;
/// How long the peer may take to end its direction after this side has ended its own.
const LINGER: Duration = Duration::from_secs(3);

/// Where values come from.
pub(crate) trait Values: Send + 'static {
    /// The next value; cancel-safe. An empty one: the socket has closed.
    fn next(&mut self) -> impl Future<Output = io::Result<Vec<u8>>> + Send;
}

/// Where values go.
pub(crate) trait Writer: Send + 'static {
    /// Sends one value whole, or not at all where it is cancelled.
    fn send(&mut self, value: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
}

impl Values for CharacteristicReader {
    async fn next(&mut self) -> io::Result<Vec<u8>> {
        self.recv().await
    }
}

impl Values for mpsc::Receiver<Vec<u8>> {
    async fn next(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.recv().await.unwrap_or_default())
    }
}

impl Writer for CharacteristicWriter {
    async fn send(&mut self, value: &[u8]) -> io::Result<()> {
        CharacteristicWriter::send(self, value).await
    }
}

/// Makes a stream of both directions. `value` is the longest value that may go, in bytes. The stream fails when `gone`
/// ends; `guard` is dropped with it.
pub(crate) fn stream<G: Send + 'static>(
    values: impl Values,
    writer: impl Writer,
    value: usize,
    gone: impl Future<Output = ()> + Send + 'static,
    guard: G,
) -> (ReadHalf<DuplexStream>, Writing) {
    let (near, far) = duplex(PIPE);
    let (mut carried, over) = oneshot::channel();
    let carry = Carry::new(far, value.clamp(2, LONGEST_VALUE) - 1);
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = carry.run(values, writer, &mut carried) => ended,
            () = gone => Err(io::Error::new(io::ErrorKind::ConnectionReset, "the other side is gone")),
        };
        if let Err(error) = ended {
            log::debug!("a GATT link has ended: {error}");
        }
        drop((guard, carried));
    });
    let (reader, writer) = split(near);
    (reader, Writing { pipe: writer, over })
}

/// The writing half. It is shut down when the peer has everything, or will not have it.
pub(crate) struct Writing {
    pipe: WriteHalf<DuplexStream>,
    over: oneshot::Receiver<Infallible>,
}

impl AsyncWrite for Writing {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.pipe).poll_shutdown(cx))?;
        // It ends with an error, since nobody sends anything.
        Pin::new(&mut self.over).poll(cx).map(|_| Ok(()))
    }
}

/// What is under way.
struct Carry {
    from: ReadHalf<DuplexStream>,
    to: WriteHalf<DuplexStream>,
    /// Bytes of data that fit one value.
    room: usize,
    sender: Sender,
    receiver: Receiver,
    /// Data that came and was not consumed, at most a window.
    came: VecDeque<Vec<u8>>,
    /// Of the first of these, the bytes that were consumed.
    consumed: usize,
    /// Values to be sent.
    going: VecDeque<Vec<u8>>,
    /// Whether this side's direction has ended, and the peer's.
    ended: (bool, bool),
}

impl Carry {
    fn new(far: DuplexStream, room: usize) -> Self {
        let (from, to) = split(far);
        Carry {
            from,
            to,
            room,
            sender: Sender::default(),
            receiver: Receiver::default(),
            came: VecDeque::new(),
            consumed: 0,
            going: VecDeque::new(),
            ended: (false, false),
        }
    }

    async fn run(
        mut self,
        mut values: impl Values,
        mut writer: impl Writer,
        carried: &mut oneshot::Sender<Infallible>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; self.room];
        // What has failed; what came before that is handed on all the same.
        let mut failed: Option<io::Error> = None;
        let mut linger = None;
        loop {
            let is_whole = self.ended == (true, true) && self.going.is_empty();
            if self.came.is_empty() && (is_whole || failed.is_some()) {
                // A peer that has said its last word may be gone before it hears ours.
                return failed.filter(|_| !self.ended.1).map_or(Ok(()), Err);
            }
            if self.ended.1 && self.came.is_empty() {
                // The reader sees the end; a second shutdown does nothing.
                self.to.shutdown().await?;
            }
            let is_up = failed.is_none();
            let may_read = is_up && self.sender.may_send() && self.going.is_empty() && !self.ended.0;
            let over = async {
                match linger {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let happened: io::Result<()> = tokio::select! {
                // A peer that takes nothing is told of no more credit.
                value = values.next(), if is_up && self.going.len() < GOING => value.and_then(|value| self.take(&value)),
                sent = writer.send(self.going.front().map_or(&[][..], Vec::as_slice)), if is_up && !self.going.is_empty() => {
                    sent.map(|()| drop(self.going.pop_front()))
                }
                written = self.to.write(self.came.front().map_or(&[][..], |first| &first[self.consumed..])),
                    if !self.came.is_empty() => {
                    self.wrote(written?);
                    Ok(())
                }
                read = self.from.read(&mut buffer), if may_read => {
                    match read? {
                        0 => {
                            self.ended.0 = true;
                            self.going.push_back(Sender::end());
                            linger = Some(Instant::now() + LINGER);
                        }
                        count => self.going.push_back(self.sender.value(&buffer[..count])),
                    }
                    Ok(())
                }
                // Nobody writes any more, which is not seen while there is no credit.
                () = carried.closed(), if linger.is_none() => {
                    linger = Some(Instant::now() + LINGER);
                    Ok(())
                }
                () = over => return Ok(()),
            };
            failed = failed.or(happened.err());
        }
    }

    fn take(&mut self, value: &[u8]) -> io::Result<()> {
        if value.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.keep(value).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn keep(&mut self, value: &[u8]) -> Result<(), FragmentError> {
        match self.receiver.take(value)? {
            Value::Data(bytes) => self.came.push_back(bytes.to_vec()),
            Value::Credit(count) => self.sender.granted(count)?,
            Value::End => self.ended.1 = true,
        }
        if self.came.back().is_some_and(Vec::is_empty) {
            self.came.pop_back();
            self.going.extend(self.receiver.consumed());
        }
        Ok(())
    }

    fn wrote(&mut self, count: usize) {
        self.consumed += count;
        if self.came.front().is_some_and(|first| first.len() <= self.consumed) {
            self.came.pop_front();
            self.consumed = 0;
            self.going.extend(self.receiver.consumed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Out(mpsc::Sender<Vec<u8>>);

    impl Writer for Out {
        async fn send(&mut self, value: &[u8]) -> io::Result<()> {
            let place = self.0.reserve().await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            place.send(value.to_vec());
            Ok(())
        }
    }

    type Halves = (ReadHalf<DuplexStream>, Writing);

    fn pair(value: usize) -> (Halves, Halves) {
        let ((a, b), (c, d)) = (mpsc::channel(4), mpsc::channel(4));
        let never = std::future::pending;
        (stream(b, Out(c), value, never(), ()), stream(d, Out(a), value, never(), ()))
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_at_once_at_every_mtu_and_end_in_order() {
        let data: Vec<u8> = (0u32..30_000).map(|at| u8::try_from(at % 253).unwrap()).collect();
        // ATT's MTU from 23 to 517, less its header and the five bytes that bluer leaves free.
        for mtu in [23, 24, 50, 185, 247, 515, 517] {
            let ((mut from_near, mut near), (mut from_far, mut far)) = pair(mtu - 5);
            let send = async {
                near.write_all(&data).await.unwrap();
                near.shutdown().await.unwrap();
            };
            let back = async {
                far.write_all(&data).await.unwrap();
                far.shutdown().await.unwrap();
            };
            let (mut there, mut here) = (Vec::new(), Vec::new());
            let ((), (), a, b) =
                tokio::join!(send, back, from_far.read_to_end(&mut there), from_near.read_to_end(&mut here));
            assert_eq!((a.unwrap(), b.unwrap()), (data.len(), data.len()), "MTU {mtu}");
            assert!(there == data && here == data, "MTU {mtu}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_slow_holds_the_sender_up_and_costs_bounded_memory() {
        let ((_from_near, mut near), (mut from_far, _far)) = pair(100);
        let written = tokio::time::timeout(Duration::from_millis(300), async {
            let mut written = 0;
            loop {
                written += near.write(&[7; 1000]).await.unwrap();
                tokio::task::yield_now().await;
                if written > 1 << 20 {
                    return written;
                }
            }
        })
        .await;
        assert!(written.is_err(), "nobody reads, so that it stops: {written:?}");
        let mut first = vec![0; 20_000];
        from_far.read_exact(&mut first).await.unwrap();
        assert!(first.iter().all(|byte| *byte == 7));
    }

    #[tokio::test]
    async fn a_peer_that_gives_no_credit_keeps_nothing() {
        let ((_to, values), (out, mut sent)) = (mpsc::channel::<Vec<u8>>(4), mpsc::channel(200));
        let (guard, mut gone) = oneshot::channel::<()>();
        let (reader, mut writer) = stream(values, Out(out), 20, std::future::pending(), guard);
        writer.write_all(&[7; 3000]).await.unwrap();
        drop((reader, writer));
        let until = Instant::now() + LINGER * 2;
        assert!(
            tokio::time::timeout_at(until, &mut gone).await.is_ok_and(|gone| gone.is_err()),
            "it goes on"
        );
        assert!(sent.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_peer_that_breaks_the_rules_or_goes_ends_the_stream() {
        for bad in [vec![5, 1, 2], vec![]] {
            let ((to, values), (out, _kept)) = (mpsc::channel(4), mpsc::channel(4));
            let (mut reader, _writer) = stream(values, Out(out), 20, std::future::pending(), ());
            to.send(bad).await.unwrap();
            assert_eq!(reader.read(&mut [0; 10]).await.unwrap(), 0);
        }
        let ((_to, values), (out, _kept)) = (mpsc::channel(4), mpsc::channel(4));
        let (mut reader, _writer) = stream(values, Out(out), 20, std::future::ready(()), ());
        assert_eq!(reader.read(&mut [0; 10]).await.unwrap(), 0);
    }
}
