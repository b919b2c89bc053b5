//! A request's body, pumped to a blocking thread through a bounded channel.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::STALL;
use super::digest::Digests;
use crate::intake::Incoming;

/// Bytes under way between the two. While documents are opened or flushed the body goes on being read: a window that
/// shrinks meanwhile costs a client far away a round trip for each time.
const DEPTH: usize = 1 << 20;
/// After the first minute, an upload slower than this is ended: bytes per second on average.
const SLOWEST: u64 = 64;

/// The reading end, for the blocking thread.
pub(super) struct BodyReader {
    pieces: UnboundedReceiver<Piece>,
    current: Bytes,
    /// Room that the current piece takes.
    taken: Option<OwnedSemaphorePermit>,
    digests: Digests,
}

/// What came together, with the room that it takes.
type Piece = io::Result<(Bytes, OwnedSemaphorePermit)>;

/// The writing end.
pub(super) struct BodyWriter {
    pieces: UnboundedSender<Piece>,
    room: Arc<Semaphore>,
}

impl BodyWriter {
    /// Waits for room. False where nobody reads any more.
    async fn send(&self, piece: io::Result<Bytes>) -> bool {
        let piece = match piece {
            Ok(bytes) => {
                // A piece larger than all the room goes when there is nothing else.
                let size = u32::try_from(bytes.len().min(DEPTH)).unwrap_or(u32::MAX);
                let room = self.room.clone().acquire_many_owned(size);
                let room = tokio::select! {
                    room = room => room,
                    () = self.pieces.closed() => return false,
                };
                match room {
                    Ok(room) => Ok((bytes, room)),
                    Err(_) => return false,
                }
            }
            Err(error) => Err(error),
        };
        self.pieces.send(piece).is_ok()
    }
}

/// The two ends of a pump.
pub(super) fn pipe(digests: Digests) -> (BodyWriter, BodyReader) {
    let (sender, pieces) = unbounded_channel();
    let writer = BodyWriter { pieces: sender, room: Arc::new(Semaphore::new(DEPTH)) };
    (writer, BodyReader { pieces, current: Bytes::new(), taken: None, digests })
}

/// Moves the body into the pipe until it ends, stalls, fails, nobody reads any more, or `superseded` is told.
pub(super) async fn pump(mut body: Body, writer: BodyWriter, superseded: CancellationToken) {
    let begun = Instant::now();
    let mut bytes = 0u64;
    loop {
        let next = tokio::select! {
            next = timeout(STALL, body.frame()) => next,
            () = superseded.cancelled() => {
                writer.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
                return;
            }
        };
        let piece = match next {
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
            Ok(None) => return,
            Ok(Some(Err(error))) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, error)),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Ok(data),
                // Trailers.
                Err(_) => continue,
            },
        };
        bytes += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        let seconds = begun.elapsed().as_secs();
        let piece = match seconds > 60 && bytes / seconds < SLOWEST {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => piece,
        };
        let failed = piece.is_err();
        if !writer.send(piece).await || failed {
            return;
        }
    }
}

impl BodyReader {
    /// Reads and drops what is left, then says whether the promised digests hold.
    pub(super) fn finish(mut self) -> io::Result<bool> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.digests.hold())
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => {
                    let (bytes, room) = piece?;
                    (self.current, self.taken) = (bytes, Some(room));
                }
                None => return Ok(0),
            }
            self.digests.update(&self.current);
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        if self.current.is_empty() {
            self.taken = None;
        }
        Ok(count)
    }
}

impl Incoming for BodyReader {
    fn is_idle(&mut self) -> bool {
        self.current.is_empty() && self.pieces.is_empty() && !self.pieces.is_closed()
    }

    fn is_intact(&self) -> bool {
        self.digests.hold()
    }
}
