//! Large documents whose upload goes on later (tus 1.0): what came of each, by client and document.
//!
//! They lie in a folder of this machine, or in the database and object store that servers share. Whether
//! the bytes are the document's is only known when all have come and its id is computed; so nothing here needs to be trusted
//! after a power cut.

mod claims;
mod folder;
mod limits;
mod shared;

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use waypost_protocol::ids::MessageId;

use crate::intake::Incoming;
use crate::store::{Records, StoreError};
use claims::{Claim, Claims, Key};

pub(crate) use folder::Folder;
pub use limits::Limits;
pub(crate) use limits::{Pending, Room};
pub(crate) use shared::Shared;

/// How long an unfinished upload is kept after the last request for it.
const KEPT: Duration = Duration::from_secs(14 * 86_400);
/// How long a request waits for an earlier one of the same upload to let go of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long for one at another server, which may be gone: then what it has not stored is lost.
const ELSEWHERE: Duration = Duration::from_secs(5);
/// Between two looks whether it has let go.
const LOOK: Duration = Duration::from_millis(100);

/// Why an unfinished upload cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PartialError {
    /// An earlier request does not let go of it, or a later one took it.
    #[error("another request of this upload has not ended; try again in some seconds")]
    Locked,
    /// The client has as many as it may, or its quota would not take it.
    #[error("{0}")]
    Full(String),
    /// The file system, or the object store.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where unfinished uploads lie. Calls block.
pub(crate) trait Place: Send + Sync {
    /// Begins an upload in place of what there is of the same document, where there is room.
    fn begin(
        &self,
        key: Key,
        length: u64,
        room: &Room,
        superseded: &CancellationToken,
    ) -> Result<Box<dyn Stored>, PartialError>;

    /// Asks for an upload. `ticket` is that of this request's first look; `take_over` ends another server's request.
    fn claim(
        &self,
        key: Key,
        ticket: &mut Option<i64>,
        take_over: bool,
        superseded: &CancellationToken,
    ) -> Result<Claimed, PartialError>;

    /// Removes what was left alone for too long, and what is of revoked clients.
    fn sweep(&self, records: &dyn Records) -> Result<(), PartialError>;

    /// Removes what no upload names.
    fn sweep_orphans(&self) -> Result<(), PartialError>;
}

/// What came of asking.
pub(crate) enum Claimed {
    /// There is no such upload.
    None,
    /// A request at another server is told to let go of it.
    Busy,
    /// A later request wants it.
    Superseded,
    /// It is this request's.
    Mine(Box<dyn Stored>),
}

/// The bytes of an upload.
pub type StoredBytes = Box<dyn Read + Send + Sync>;

/// What came of an upload.
pub(crate) trait Stored: Send + Sync {
    /// Bytes in all.
    fn length(&self) -> u64;
    /// Bytes that are here.
    fn offset(&self) -> u64;
    /// Adds bytes; on an error the offset says how many of them.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes it durable, and lets go of it.
    fn finish(&mut self) -> io::Result<()>;
    /// All bytes that are here, from the first on.
    fn reader(&self) -> io::Result<StoredBytes>;
    /// Removes it.
    fn remove(&mut self) -> Result<(), PartialError>;
}

/// Unfinished uploads of all clients.
pub struct Partials {
    place: Box<dyn Place>,
    records: Arc<dyn Records>,
    limits: Limits,
    claims: Arc<Claims>,
}

/// An unfinished upload, which nobody else has meanwhile.
pub struct Partial {
    // Let go of before the claim.
    stored: Box<dyn Stored>,
    claim: Claim,
    /// Why bytes could not be kept.
    fault: Option<io::Error>,
}

impl Partials {
    pub(crate) fn new(place: Box<dyn Place>, records: Arc<dyn Records>, limits: Limits) -> Self {
        Partials { place, records, limits, claims: Arc::default() }
    }

    /// The most bytes that an upload may have.
    pub fn most(&self) -> u64 {
        self.limits.bytes
    }

    /// Begins an upload of `length` bytes. What there is of the same document is thrown away.
    pub async fn create(
        self: &Arc<Self>,
        client: i64,
        id: MessageId,
        length: u64,
    ) -> Result<Partial, PartialError> {
        let key = (client, id);
        let claim = self.claims.claim(key, PATIENCE).await.ok_or(PartialError::Locked)?;
        let partials = self.clone();
        blocking(move || {
            let is_known = partials.records.rows(&[id])?.iter().any(Option::is_some);
            let (quota, used) = partials.records.account(client)?;
            let account = (!is_known).then(|| (quota, used.at(crate::clock::now())));
            let room = Room { limits: partials.limits, account };
            let stored = partials.place.begin(key, length, &room, claim.superseded())?;
            Ok(Partial { stored, claim, fault: None })
        })
        .await
    }

    /// The upload of this document that this client began, if any. A request that still adds to it is ended first: its
    /// client is back, so its connection is dead.
    pub async fn find(self: &Arc<Self>, client: i64, id: MessageId) -> Result<Option<Partial>, PartialError> {
        let key = (client, id);
        let mut claim = self.claims.claim(key, PATIENCE).await.ok_or(PartialError::Locked)?;
        let (begun, mut ticket) = (Instant::now(), None);
        loop {
            let partials = self.clone();
            let take_over = begun.elapsed() >= ELSEWHERE;
            let look = move || {
                let found = partials.place.claim(key, &mut ticket, take_over, claim.superseded())?;
                Ok((found, claim, ticket))
            };
            let found;
            (found, claim, ticket) = blocking(look).await?;
            match found {
                Claimed::Mine(stored) => return Ok(Some(Partial { stored, claim, fault: None })),
                Claimed::None => return Ok(None),
                Claimed::Superseded => return Err(PartialError::Locked),
                Claimed::Busy if claim.superseded().is_cancelled() => return Err(PartialError::Locked),
                Claimed::Busy => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Removes what was left alone for too long, and what is of revoked clients. Blocking.
    pub fn sweep(&self) -> Result<(), PartialError> {
        self.place.sweep(&*self.records)
    }

    /// Removes what no upload names. Blocking.
    pub(crate) fn sweep_orphans(&self) -> Result<(), PartialError> {
        self.place.sweep_orphans()
    }
}

/// Where blocking is allowed; goes on where nobody waits for it any more.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PartialError> + Send + 'static,
) -> Result<T, PartialError> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

impl Partial {
    /// Bytes in all.
    pub fn length(&self) -> u64 {
        self.stored.length()
    }

    /// Bytes that are here.
    pub fn offset(&self) -> u64 {
        self.stored.offset()
    }

    /// Told when another request wants this upload: this one must end.
    pub fn superseded(&self) -> CancellationToken {
        self.claim.superseded().clone()
    }

    /// What passes through the reader is also kept here. Blocking, as all that follows.
    pub fn keeping<'b, R>(&'b mut self, source: &'b mut R) -> Keeping<'b, R> {
        Keeping { source, stored: &mut *self.stored, fault: &mut self.fault }
    }

    /// Why bytes could not be kept, where that is what ended the reading.
    pub fn take_fault(&mut self) -> Option<io::Error> {
        self.fault.take()
    }

    /// All bytes that are here, from the first on.
    pub fn reader(&self) -> io::Result<StoredBytes> {
        self.stored.reader()
    }

    /// Makes what is here durable.
    pub fn finish(mut self) -> io::Result<()> {
        self.stored.finish()
    }

    /// Removes it.
    pub fn remove(mut self) -> Result<(), PartialError> {
        self.stored.remove()
    }
}

/// Reads from a source, and keeps what it reads.
pub struct Keeping<'a, R> {
    source: &'a mut R,
    stored: &'a mut dyn Stored,
    fault: &'a mut Option<io::Error>,
}

impl<R: Read> Read for Keeping<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        match self.stored.append(buffer.get(..count).unwrap_or_default()) {
            Ok(()) => Ok(count),
            Err(error) => {
                let kind = error.kind();
                *self.fault = Some(error);
                Err(kind.into())
            }
        }
    }
}

impl<R: Incoming> Incoming for Keeping<'_, R> {
    fn is_idle(&mut self) -> bool {
        self.source.is_idle()
    }

    fn is_intact(&self) -> bool {
        self.source.is_intact()
    }
}

#[cfg(test)]
mod tests;
