//! Remote logs of gateways (3/REMOTE-LOG): content by hash, signed heads by name, within a quota.
//!
//! Heads are rows of the database, content lies where other content does; the rules are here, so that any server of a
//! destination answers for any log. A head must be signed by the key that is its name, must replace the one that its writer
//! has seen, and never lead back to an earlier one.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use waypost_protocol::api::{MAX_CONTENTS, SMALL_CONTENT};
use waypost_remote_log::{ContentHash, ContentStore, Head, LogKey, NameSystem, PlaceError, superseded};

use crate::clock::now;
use crate::content::Content;
use crate::store::{ClientKind, LogHead, Records, Reserved, StoreError};

/// So many times may a gateway begin a new log under one key.
const MAX_ENDED: usize = 1_024;
/// Room that was made for content is free again when that has not come for so long: no upload takes as long.
const ABANDONED: Duration = Duration::from_secs(2 * 86_400);

/// No client: who only reads.
const NOBODY: i64 = 0;
/// Contents that are written at a time: file systems join their flushes.
const WRITERS: usize = 8;

/// Content that is here, and is to be stored under its hash.
pub(crate) struct Arrived {
    pub(crate) hash: ContentHash,
    /// Bytes.
    pub(crate) length: u64,
    pub(crate) bytes: Box<dyn Read + Send>,
}

/// The logs of all gateways.
pub struct Logs {
    records: Arc<dyn Records>,
    content: Arc<dyn Content>,
    /// Bytes of all content.
    most: u64,
}

impl Logs {
    /// With so much room, in bytes.
    pub fn new(records: Arc<dyn Records>, content: Arc<dyn Content>, most: u64) -> Self {
        Logs { records, content, most }
    }

    /// For each, whether it is there.
    pub fn has(&self, hashes: &[ContentHash]) -> Result<Vec<bool>, PlaceError> {
        let sizes = self.records.content_sizes(hashes).map_err(failed)?;
        Ok(sizes.iter().map(Option::is_some).collect())
    }

    /// Stores content of that hash and length, on the client's account.
    pub fn put(
        &self,
        client: i64,
        hash: &ContentHash,
        length: u64,
        bytes: &mut dyn Read,
    ) -> Result<(), PlaceError> {
        let reserved = self.records.reserve_content(client, &[(*hash, length)], self.most, now());
        match reserved.map_err(failed)?.pop() {
            Some(Reserved::Room) => {}
            Some(Reserved::Known) | None => return Ok(()),
            Some(Reserved::Full(detail)) => return Err(PlaceError::Full(detail)),
        }
        let outcome = self.content.put_logged(hash, length, bytes);
        match &outcome {
            Ok(()) => self.records.note_content(client, &[(*hash, length)]),
            Err(_) => self.records.release_content(client, &[*hash]),
        }
        .map_err(failed)?;
        outcome
    }

    /// Stores content that came as a gateway's upload, as far as there is room; what is not there then can still be put.
    pub(crate) fn keep(&self, client: i64, content: Vec<Arrived>) {
        if content.is_empty() {
            return;
        }
        if let Err(error) = self.try_keep(client, content) {
            log::warn!("not kept for remote logs: {error}");
        }
    }

    fn try_keep(&self, client: i64, content: Vec<Arrived>) -> Result<(), StoreError> {
        if self.records.client_kind(client)? != Some(ClientKind::Gateway) {
            return Ok(());
        }
        let wanted: Vec<_> = content.iter().map(|one| (one.hash, one.length)).collect();
        let reserved = self.records.reserve_content(client, &wanted, self.most, now())?;
        let has_room = |(one, reserved): (Arrived, Reserved)| match reserved {
            Reserved::Room => Some(one),
            Reserved::Known => None,
            Reserved::Full(detail) => {
                log::debug!("not kept for remote logs: {detail}");
                None
            }
        };
        let content: Vec<_> = content.into_iter().zip(reserved).filter_map(has_room).collect();
        let (mut here, mut missing) = (Vec::new(), Vec::new());
        for (hash, length, is_here) in self.write(content) {
            match is_here {
                true => here.push((hash, length)),
                false => missing.push(hash),
            }
        }
        self.records.note_content(client, &here)?;
        self.records.release_content(client, &missing)
    }

    /// Writes content, several at a time. Returns whether each is there.
    fn write(&self, content: Vec<Arrived>) -> Vec<(ContentHash, u64, bool)> {
        let threads = WRITERS.min(content.len());
        let (queue, written) = (Mutex::new(content.into_iter()), Mutex::new(Vec::new()));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some(Arrived { hash, length, mut bytes }) = next() {
                let outcome = self.content.put_logged(&hash, length, &mut *bytes);
                if let Err(error) = &outcome {
                    log::warn!("content {hash} is not kept for remote logs: {error}");
                }
                let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
                written.push((hash, length, outcome.is_ok()));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        written.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Content from a byte on, unverified.
    pub fn get(&self, hash: &ContentHash, offset: u64) -> Result<Box<dyn Read + '_>, PlaceError> {
        match self.records.content_sizes(&[*hash]).map_err(failed)?.pop().flatten() {
            None => Err(PlaceError::Missing(*hash)),
            Some(size) if offset >= size => Ok(Box::new(io::empty())),
            Some(_) => match self.content.logged(hash, offset) {
                // Its bytes are lost: whoever has them may put them again.
                Err(PlaceError::Missing(hash)) => {
                    self.records.forget_content(&hash).map_err(failed)?;
                    log::error!(
                        "content {hash} of a remote log is lost; it is taken again where somebody has it"
                    );
                    Err(PlaceError::Missing(hash))
                }
                found => found,
            },
        }
    }

    /// One after the other those that are small, as far as they fit one answer; the others empty.
    pub fn small(&self, hashes: &[ContentHash]) -> Result<impl Iterator<Item = Vec<u8>>, PlaceError> {
        let sizes = self.records.content_sizes(hashes).map_err(failed)?;
        let mut left = MAX_CONTENTS;
        let read = move |(hash, size): (&ContentHash, Option<u64>)| {
            let size = size.filter(|size| *size <= SMALL_CONTENT.min(left)).unwrap_or(0);
            let mut bytes = Vec::new();
            if size > 0 {
                left -= size;
                let read =
                    self.content.logged(hash, 0).map(|reader| reader.take(size).read_to_end(&mut bytes));
                // It may have been removed meanwhile, and by itself the reason is told.
                if !matches!(read, Ok(Ok(_))) || bytes.len() as u64 != size {
                    bytes.clear();
                }
            }
            bytes
        };
        Ok(hashes.iter().zip(sizes).map(read))
    }

    /// A name's head.
    pub fn resolve(&self, name: &LogKey) -> Result<Option<Bytes>, PlaceError> {
        let found = self.records.log_head(name).map_err(failed)?;
        Ok(found.map(|found| found.head.into()))
    }

    /// Replaces the head that has the hash `replaces`.
    pub fn publish(
        &self,
        name: &LogKey,
        bytes: &Bytes,
        replaces: Option<ContentHash>,
    ) -> Result<(), PlaceError> {
        let refused = |why: String| Err(PlaceError::Refused(why));
        let head = match Head::decode(bytes, name) {
            Ok(head) => head,
            Err(error) => return refused(error.to_string()),
        };
        let standing = self.records.log_head(name).map_err(failed)?;
        if standing.as_ref().map(|standing| ContentHash::of(&standing.head)) != replaces {
            return Err(PlaceError::Changed);
        }
        let present = standing.as_ref().and_then(|standing| Head::decode(&standing.head, name).ok());
        let mut ended = None;
        if let Some(present) = &present {
            if present.log == head.log && head.sequence <= present.sequence {
                return refused(format!(
                    "head {} is no newer than head {}, which stands there",
                    head.sequence, present.sequence
                ));
            }
            if present.log != head.log {
                let logs = self.records.ended_logs(name).map_err(failed)?;
                if logs.contains(&head.log) || logs.len() >= MAX_ENDED {
                    return refused("this log was ended; begin one with a new id".to_owned());
                }
                ended = Some(present.log);
            }
        }
        if self.has(&[head.root])? != [true] {
            return refused(format!("its newest page {} is not there; put it first", head.root));
        }
        // What was found out holds for as long as the same head stands there: none stands there twice.
        let present = standing.as_ref().map(|standing| standing.head.as_slice());
        if !self.records.replace_head(name, bytes, present, ended.as_ref()).map_err(failed)? {
            return Err(PlaceError::Changed);
        }
        if let Some(LogHead { head: before, before: Some(earlier) }) = &standing
            && let Some(page) = superseded(&mut self.of(NOBODY), name, earlier, before, bytes)
        {
            self.remove(&page);
        }
        Ok(())
    }

    /// The head is published all the same where that fails; then the page stays.
    fn remove(&self, hash: &ContentHash) {
        match self.records.forget_content(hash) {
            Ok(true) => self.content.remove_logged(hash),
            Ok(false) => {}
            Err(error) => log::warn!("content {hash} stays: {error}"),
        }
    }

    /// Gives room back that was made for content which never came.
    pub fn tidy(&self) -> Result<(), StoreError> {
        for hash in self.records.release_abandoned(ABANDONED, now())? {
            self.content.remove_logged(&hash);
        }
        Ok(())
    }

    /// As a place where a client writes.
    pub fn of(&self, client: i64) -> LogsOf<'_> {
        LogsOf { logs: self, client }
    }
}

fn failed(error: StoreError) -> PlaceError {
    PlaceError::Unreachable(error.to_string())
}

/// The logs as one client writes and reads them.
pub struct LogsOf<'a> {
    logs: &'a Logs,
    client: i64,
}

impl ContentStore for LogsOf<'_> {
    fn has(&mut self, hashes: &[ContentHash]) -> Result<Vec<bool>, PlaceError> {
        self.logs.has(hashes)
    }

    fn put(&mut self, hash: &ContentHash, length: u64, content: &mut dyn Read) -> Result<(), PlaceError> {
        self.logs.put(self.client, hash, length, content)
    }

    fn get(&mut self, hash: &ContentHash, offset: u64) -> Result<Box<dyn Read + '_>, PlaceError> {
        self.logs.get(hash, offset)
    }
}

impl NameSystem for LogsOf<'_> {
    fn resolve(&mut self, name: &LogKey) -> Result<Option<Bytes>, PlaceError> {
        self.logs.resolve(name)
    }

    fn publish(
        &mut self,
        name: &LogKey,
        head: &Bytes,
        replaces: Option<ContentHash>,
    ) -> Result<(), PlaceError> {
        self.logs.publish(name, head, replaces)
    }
}
