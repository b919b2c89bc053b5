//! Reading ahead of whoever reads a channel, so that the kernel's buffer never fills.
//!
//! Linux (6.12) gives credit for more than its buffer holds, by the size of its own structures, and sets aside what comes
//! when that is full. What comes then, while a little of it is being read, is put before it: the stream is out of order,
//! which its session notices and ends. So everything is taken from the kernel at once, up to [`AHEAD`].

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::sync::oneshot;

/// Bytes that are read ahead at most: more than peers send before they are answered.
const AHEAD: usize = 1 << 20;
/// Bytes that are read at once.
const PART: usize = 16 * 1024;

/// The reading end.
pub(crate) struct ReadAhead {
    pipe: DuplexStream,
    failed: Arc<Mutex<Option<io::Error>>>,
    /// Tells the task that nobody reads any more.
    _reads: oneshot::Receiver<Infallible>,
}

impl ReadAhead {
    /// Reads from `source` until its end, its failure, or until this is dropped.
    pub(crate) fn new(source: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (pipe, far) = duplex(AHEAD);
        let failed = Arc::default();
        let (reads, until) = oneshot::channel();
        tokio::spawn(read(source, far, reads, Arc::clone(&failed)));
        ReadAhead { pipe, failed, _reads: until }
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
        let mut reader = ReadAhead::new(AsyncReadExt::chain(&b"before"[..], Broken));
        let mut read = Vec::new();
        let error = reader.read_to_end(&mut read).await.unwrap_err();
        assert_eq!((read.as_slice(), error.kind()), (&b"before"[..], io::ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn a_source_is_read_without_a_reader_and_let_go_with_it() {
        let (mut near, far) = duplex(64);
        let reader = ReadAhead::new(far);
        // Far more than the source itself holds.
        near.write_all(&[7; 100_000]).await.unwrap();
        drop(reader);
        while near.write_all(&[7; 1000]).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
