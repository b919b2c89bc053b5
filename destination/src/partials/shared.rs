//! Unfinished uploads that servers share: rows in PostgreSQL, bytes as objects of some MiB each.
//!
//! A part lasts once its object is put and then its row is committed, which only the upload's holder may: each request draws
//! a ticket, which tells the holder to let go; where that does not, its server being gone, the ticket takes it over, and
//! what the earlier holder still has is refused. So bytes that had come to a server are only lost with that server.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::claims::Key;
use super::{Claimed, KEPT, PartialError, Place, Room, Stored, StoredBytes};
use crate::content::Objects;
use crate::store::{ClaimedRow, PartRow, Postgres, Records};

/// Bytes of a part, which are held in memory until they have come.
const PART: usize = 4 << 20;
/// A last part smaller than this becomes one with what comes next, so that an upload in many small pieces has few objects.
const SMALL: u64 = 1 << 20;
/// Between two looks whether another server's request wants an upload.
const WATCH: Duration = Duration::from_secs(1);

/// In a database and an object store.
pub(crate) struct Shared {
    rows: Arc<Postgres>,
    objects: Arc<Objects>,
}

struct StoredParts {
    rows: Arc<Postgres>,
    objects: Arc<Objects>,
    upload: i64,
    ticket: i64,
    length: u64,
    /// What lasts, without a gap.
    parts: Vec<PartRow>,
    /// What comes after that.
    tail: Vec<u8>,
    /// The last part of before, whose bytes the tail begins with.
    replaced: Option<PartRow>,
    is_held: bool,
    watch: AbortHandle,
}

impl Shared {
    pub(crate) fn new(rows: Arc<Postgres>, objects: Arc<Objects>) -> Self {
        Shared { rows, objects }
    }

    fn stored(
        &self,
        (upload, ticket): (i64, i64),
        length: u64,
        parts: Vec<PartRow>,
        superseded: &CancellationToken,
    ) -> Box<dyn Stored> {
        let (rows, superseded) = (self.rows.clone(), superseded.clone());
        let watch = self.rows.spawn(async move {
            loop {
                tokio::time::sleep(WATCH).await;
                // Where the database does not answer, it refuses the next part as well.
                if rows.is_partial_wanted(upload, ticket).await.unwrap_or(false) {
                    return superseded.cancel();
                }
            }
        });
        let (rows, objects) = (self.rows.clone(), self.objects.clone());
        let (tail, replaced, is_held) = (Vec::new(), None, true);
        Box::new(StoredParts { rows, objects, upload, ticket, length, parts, tail, replaced, is_held, watch })
    }

    /// What stays for now is swept away at a server's start.
    fn remove_objects(&self, uploads: &[i64]) {
        for upload in uploads {
            if let Err(error) = self.objects.remove_parts(*upload) {
                log::warn!("parts of an upload that is gone stay for now: {error}");
            }
        }
    }
}

impl Place for Shared {
    fn begin(
        &self,
        key: Key,
        length: u64,
        room: &Room,
        superseded: &CancellationToken,
    ) -> Result<Box<dyn Stored>, PartialError> {
        let begun = self.rows.begin_partial(key, length, room)?.map_err(PartialError::Full)?;
        self.remove_objects(&begun.gone);
        Ok(self.stored((begun.upload, begun.ticket), length, Vec::new(), superseded))
    }

    fn claim(
        &self,
        key: Key,
        ticket: &mut Option<i64>,
        take_over: bool,
        superseded: &CancellationToken,
    ) -> Result<Claimed, PartialError> {
        Ok(match self.rows.claim_partial(key, *ticket, take_over)? {
            ClaimedRow::None => Claimed::None,
            ClaimedRow::Superseded => Claimed::Superseded,
            ClaimedRow::Busy(drawn) => {
                *ticket = Some(drawn);
                Claimed::Busy
            }
            ClaimedRow::Mine { upload, ticket, length, parts } => {
                Claimed::Mine(self.stored((upload, ticket), length, parts, superseded))
            }
        })
    }

    fn sweep(&self, _: &dyn Records) -> Result<(), PartialError> {
        self.remove_objects(&self.rows.sweep_partials(KEPT)?);
        Ok(())
    }

    fn sweep_orphans(&self) -> Result<(), PartialError> {
        let known = self.rows.partials()?.into_iter().collect();
        Ok(self.objects.sweep_parts(&known)?)
    }
}

impl StoredParts {
    fn durable(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.start + part.size)
    }

    /// Fetches a small last part, so that what comes is put together with it.
    fn reopen(&mut self) -> io::Result<()> {
        if let Some(last) = self.parts.last().copied().filter(|part| part.size < SMALL) {
            self.tail = self.objects.part(self.upload, &last)?.into();
            self.parts.pop();
            self.replaced = Some(last);
        }
        Ok(())
    }

    /// Puts the tail, then says so.
    fn store(&mut self) -> io::Result<()> {
        if self.tail.is_empty() {
            return Ok(());
        }
        let part = PartRow { start: self.durable(), size: self.tail.len() as u64, ticket: self.ticket };
        let bytes = Bytes::from(std::mem::take(&mut self.tail));
        if let Err(error) = self.objects.put_part(self.upload, &part, bytes.clone()) {
            self.tail = bytes.into();
            return Err(error);
        }
        if !self.rows.add_part(self.upload, &part).map_err(io::Error::other)? {
            self.is_held = false;
            let _ = self.objects.remove_part(self.upload, &part);
            return Err(io::Error::other("a later request has this upload now"));
        }
        self.parts.push(part);
        if let Some(replaced) = self.replaced.take()
            && let Err(error) = self.objects.remove_part(self.upload, &replaced)
        {
            log::debug!("a part that was put together with the next stays for now: {error}");
        }
        Ok(())
    }
}

impl Stored for StoredParts {
    fn length(&self) -> u64 {
        self.length
    }

    fn offset(&self) -> u64 {
        self.durable() + self.tail.len() as u64
    }

    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.tail.is_empty() && !bytes.is_empty() {
            self.reopen()?;
        }
        while !bytes.is_empty() {
            let (now, then) = bytes.split_at(bytes.len().min(PART.saturating_sub(self.tail.len())));
            self.tail.extend_from_slice(now);
            bytes = then;
            if self.tail.len() >= PART {
                self.store()?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.store()?;
        self.is_held = false;
        self.rows.release_partial(self.upload, self.ticket).map_err(io::Error::other)
    }

    fn reader(&self) -> io::Result<StoredBytes> {
        let (objects, upload) = (self.objects.clone(), self.upload);
        let parts = self.parts.clone().into_iter();
        let parts = Parts { objects, upload, parts, current: Bytes::new() };
        Ok(Box::new(parts.chain(Cursor::new(self.tail.clone()))))
    }

    fn remove(&mut self) -> Result<(), PartialError> {
        self.is_held = false;
        // Where a later request has it, it is that one's.
        if self.rows.remove_partial(self.upload, self.ticket)? {
            self.objects.remove_parts(self.upload)?;
        }
        Ok(())
    }
}

impl Drop for StoredParts {
    fn drop(&mut self) {
        self.watch.abort();
        if self.is_held {
            let (rows, upload, ticket) = (self.rows.clone(), self.upload, self.ticket);
            self.rows.spawn(async move {
                if let Err(error) = rows.release(upload, ticket).await {
                    log::debug!("an unfinished upload is let go of late: {error}");
                }
            });
        }
    }
}

/// Reads one part after another, each at once.
struct Parts {
    objects: Arc<Objects>,
    upload: i64,
    parts: std::vec::IntoIter<PartRow>,
    current: Bytes,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let Some(part) = self.parts.next() else { return Ok(0) };
            self.current = self.objects.part(self.upload, &part)?;
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
