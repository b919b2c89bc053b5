//! A request's body, pumped to a blocking thread through a bounded channel.

use std::io::{self, Read};
use std::time::Instant;

use axum::body::Body;
use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

use super::STALL;
use super::digest::Digests;
use crate::intake::Incoming;

/// Pieces under way between the two; each is as large as the TLS records that came together, some tens of KiB.
const DEPTH: usize = 16;
/// After the first minute, an upload slower than this is ended: bytes per second on average.
const SLOWEST: u64 = 64;

/// The reading end, for the blocking thread.
pub(super) struct BodyReader {
    pieces: Receiver<io::Result<Bytes>>,
    current: Bytes,
    digests: Digests,
}

/// The two ends of a pump.
pub(super) fn pipe(digests: Digests) -> (Sender<io::Result<Bytes>>, BodyReader) {
    let (sender, pieces) = channel(DEPTH);
    (sender, BodyReader { pieces, current: Bytes::new(), digests })
}

/// Moves the body into the pipe until it ends, stalls, fails, or nobody reads any more.
pub(super) async fn pump(mut body: Body, sender: Sender<io::Result<Bytes>>) {
    let begun = Instant::now();
    let mut bytes = 0u64;
    loop {
        let piece = match timeout(STALL, body.frame()).await {
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
        if sender.send(piece).await.is_err() || failed {
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
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
            self.digests.update(&self.current);
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
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
