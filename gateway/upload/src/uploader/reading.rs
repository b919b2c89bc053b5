//! Bodies as they are read out of the source, and how an upload of them gets on.

use std::io::{self, Read};
use std::time::Instant;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use waypost_protocol::document::prefix;

use super::{CHUNK, Control, Event, PROGRESS_EVERY, Sink, Source};
use crate::error::{Cause, Error, plain};
use crate::plan::Waiting;

/// SHA-256 over the canonical encoding, for `Repr-Digest`.
pub(super) fn digest(document: &Waiting, source: &impl Source, control: &Control) -> Result<[u8; 32], Error> {
    let mut hasher = Sha256::new();
    hasher.update(prefix(&document.description));
    let mut body = StoredBody::new(source, document);
    while body.offset < document.description.size {
        if control.lock().stop {
            return Err(Error::Definite(Cause::Stopped));
        }
        let chunk = body.next_chunk().map_err(|detail| {
            Error::Definite(Cause::Local { id: document.description.id, detail: plain(&detail) })
        })?;
        hasher.update(&chunk);
    }
    Ok(hasher.finalize().into())
}

/// Reads a body out of the source, a chunk ahead at most.
pub(super) struct StoredBody<'a, S> {
    source: &'a S,
    document: &'a Waiting,
    offset: u64,
    chunk: Bytes,
}

impl<'a, S: Source> StoredBody<'a, S> {
    pub(super) fn new(source: &'a S, document: &'a Waiting) -> Self {
        StoredBody { source, document, offset: 0, chunk: Bytes::new() }
    }

    /// From an offset of the canonical encoding on.
    pub(super) fn from(source: &'a S, document: &'a Waiting, offset: u64) -> Self {
        let offset = offset.saturating_sub(prefix(&document.description).len() as u64);
        StoredBody { offset, ..Self::new(source, document) }
    }

    fn next_chunk(&mut self) -> Result<Bytes, String> {
        let left = self.document.description.size - self.offset;
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK);
        let chunk = self.source.read_body(self.document, self.offset, len)?;
        if chunk.len() != len {
            return Err(format!("{} bytes at {} where {len} were wanted", chunk.len(), self.offset));
        }
        self.offset += len as u64;
        Ok(chunk)
    }
}

impl<S: Source> Read for StoredBody<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() && self.offset < self.document.description.size {
            self.chunk = self.next_chunk().map_err(io::Error::other)?;
        }
        let amount = self.chunk.len().min(buffer.len());
        let part = self.chunk.split_to(amount);
        buffer.get_mut(..amount).unwrap_or_default().copy_from_slice(&part);
        Ok(amount)
    }
}

/// How an upload gets on.
pub(super) struct Pace {
    pub(super) begun: Instant,
    /// When bytes last left.
    pub(super) moved: Instant,
    /// How far it is.
    pub(super) sent: u64,
}

impl Pace {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Pace { begun: now, moved: now, sent: 0 }
    }
}

/// Notes how far a request's body is, and tells the sink, not too often.
pub(super) fn progress<'a, K: Sink>(
    sink: &'a mut K,
    pace: &'a mut Pace,
) -> impl FnMut(u64, u64) + use<'a, K> {
    let mut told: Option<Instant> = None;
    move |sent, total| {
        (pace.moved, pace.sent) = (Instant::now(), sent);
        if sent == total || told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY) {
            told = Some(Instant::now());
            sink.event(Event::Progress { sent, total });
        }
    }
}
