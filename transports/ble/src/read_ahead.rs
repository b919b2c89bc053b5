//! Reading ahead of whoever reads a channel, so that the kernel's buffer never fills.
//!
//! Linux (6.12) gives credit for more than its buffer holds, by the size of its own structures, and sets aside what comes
//! when that is full. What comes then, while a little of it is being read, is put before it: the stream is out of order,
//! which its session notices and ends. So everything is taken from the kernel at once, up to [`AHEAD`], by a thread that
//! does nothing else: however long the program's own event loop takes for something, nothing waits for it.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::runtime::{Builder, EnterGuard, Runtime};
use tokio::sync::oneshot;

/// Bytes that are read ahead at most: more than peers send before they are answered.
const AHEAD: usize = 1 << 20;
/// Bytes that are read at once.
const PART: usize = 16 * 1024;

/// The thread that reads. It lasts as long as the process.
static READING: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(1).thread_name("ble-read").enable_all().build()
});

/// A stream that is made while this is held tells the reading thread, and not the program's loop, when it can be read.
pub(crate) fn by_the_reading_thread() -> io::Result<EnterGuard<'static>> {
    reading().map(Runtime::enter)
}

fn reading() -> io::Result<&'static Runtime> {
    READING.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
}

/// The reading end.
pub(crate) struct ReadAhead {
    pipe: DuplexStream,
    failed: Arc<Mutex<Option<io::Error>>>,
    /// Tells the task that nobody reads any more.
    _reads: oneshot::Receiver<Infallible>,
}

impl ReadAhead {
    /// Reads from `source` until its end, its failure, or until this is dropped.
    pub(crate) fn new(source: impl AsyncRead + Unpin + Send + 'static) -> io::Result<Self> {
        let (pipe, far) = duplex(AHEAD);
        let failed = Arc::default();
        let (reads, until) = oneshot::channel();
        reading()?.spawn(read(source, far, reads, Arc::clone(&failed)));
        Ok(ReadAhead { pipe, failed, _reads: until })
    }
}

async fn read(
    mut source: impl AsyncRead + Unpin,
    mut pipe: DuplexStream,
    mut reads: oneshot::Sender<Infallible>,
    failed: Arc<Mutex<Option<io::Error>>>,
) {
    let mut part = vec![0; PART];
    let all = async {
        loop {
            let count = source.read(&mut part).await?;
            if count == 0 {
                return Ok(());
            }
            pipe.write_all(part.get(..count).unwrap_or_default()).await?;
        }
    };
    let ended: io::Result<()> = tokio::select! {
        ended = all => ended,
        () = reads.closed() => Ok(()),
    };
    // Before the pipe ends, which is when it is asked for.
    *failed.lock().unwrap_or_else(PoisonError::into_inner) = ended.err();
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buf))?;
        if buf.filled().len() == before
            && let Some(error) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken;

    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        }
    }

    #[tokio::test]
    async fn what_came_is_read_before_the_failure_is_told() {
        let mut reader = ReadAhead::new(AsyncReadExt::chain(&b"before"[..], Broken)).unwrap();
        let mut read = Vec::new();
        let error = reader.read_to_end(&mut read).await.unwrap_err();
        assert_eq!((read.as_slice(), error.kind()), (&b"before"[..], io::ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn a_source_is_read_without_a_reader_and_let_go_with_it() {
        let (mut near, far) = duplex(64);
        let reader = ReadAhead::new(far).unwrap();
        // Far more than the source itself holds.
        near.write_all(&[7; 100_000]).await.unwrap();
        drop(reader);
        while near.write_all(&[7; 1000]).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_source_is_read_while_the_loop_is_busy() {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let mut reader = {
            let _made = by_the_reading_thread().unwrap();
            ReadAhead::new(tokio::net::UnixStream::from_std(far).unwrap()).unwrap()
        };
        // This blocks the loop until all of it was taken: far more than a socket holds.
        let sent = vec![7; AHEAD];
        std::io::Write::write_all(&mut &near, &sent).unwrap();
        drop(near);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.unwrap();
        assert!(read == sent);
    }
}
