//! A stream of documents, each after its length.

use std::io::{self, Read};

use waypost_protocol::api::{FailureCode, LISTED_BIT};
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::MessageId;

use super::listed::{Copying, is_taken};
use super::{Incoming, Intake, store_failed};
use crate::judge::{Failed, Outcome};
use crate::log::Arrived;
use crate::store::NewDocument;

/// Documents that share one flush of the disk.
const GROUP_DOCUMENTS: usize = 64;
/// Bytes after which they are flushed anyway.
const GROUP_BYTES: u64 = 4 << 20;
/// What is read and thrown away of a batch that is over its limits, so that the client hears the answer, in bytes.
const DRAIN: u64 = 64 << 20;

/// How large a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Documents.
    pub documents: u32,
    /// Bytes, lengths included.
    pub bytes: u64,
}

/// What came of an upload.
#[derive(Debug, Default)]
pub struct Upload {
    /// Signed verdicts, each once.
    pub confirmations: Vec<Confirmation>,
    /// Documents without a verdict, by their place in the batch.
    pub failures: Vec<(u32, Failed)>,
    /// The client's access ended while it came.
    pub is_revoked: bool,
}

impl Intake {
    /// Takes a stream of documents, each after its length as a big-endian u32 (see [`LISTED_BIT`]), and confirms them
    /// when it ends. One bad document holds back no other. An error is the stream's; what had come by then is stored and
    /// confirmed, and asking again gives the confirmation.
    pub fn batch(&self, client: i64, source: &mut impl Incoming, limits: BatchLimits) -> io::Result<Upload> {
        self.retry_unplaced();
        let mut batch = Batch::default();
        let read = self.read_batch(client, source, limits, &mut batch);
        self.flush(client, &mut batch);
        let confirmations = self.confirm(&batch.rows, Some(client));
        read?;
        let confirmations = confirmations.unwrap_or_else(|error| {
            let failed = store_failed(&error);
            batch.failures.extend((0..batch.count).map(|index| (index, failed.clone())));
            Vec::new()
        });
        batch.failures.sort_by_key(|(index, _)| *index);
        batch.failures.dedup_by_key(|(index, _)| *index);
        Ok(Upload { confirmations, failures: batch.failures, is_revoked: batch.is_revoked })
    }

    fn read_batch(
        &self,
        client: i64,
        source: &mut impl Incoming,
        limits: BatchLimits,
        batch: &mut Batch,
    ) -> io::Result<()> {
        let mut bytes = 0u64;
        loop {
            if !batch.group.is_empty() && source.is_idle() {
                self.flush(client, batch);
            }
            if batch.is_revoked {
                return Ok(());
            }
            let mut prefix = [0; 4];
            let index = batch.count;
            match read_up_to(source, &mut prefix)? {
                0 => return Ok(()),
                4 => {}
                _ => {
                    batch.fail(index, FailureCode::Malformed, "the batch ends within a length");
                    return Ok(());
                }
            }
            batch.count += 1;
            let prefix = u32::from_be_bytes(prefix);
            let is_listed = prefix & LISTED_BIT != 0;
            let length = u64::from(prefix & !LISTED_BIT);
            bytes += length + 4;
            if batch.count > limits.documents || bytes > limits.bytes {
                let detail = format!(
                    "the batch has more than {} documents or {} bytes; send the rest in another",
                    limits.documents, limits.bytes
                );
                batch.fail(index, FailureCode::Full, detail);
                io::copy(&mut source.take(DRAIN), &mut io::sink())?;
                return Ok(());
            }
            let mut copy = None;
            let outcome = if length > self.readable() {
                skip(source, length).map(|()| {
                    let most = self.judge.limits().max_document;
                    let detail = format!("{length} bytes, at most {most} are taken");
                    Outcome::Failed(Failed::new(None, FailureCode::Malformed, detail))
                })
            } else if is_listed {
                let mut copying = Copying::new(source, &self.temporary);
                let outcome = self.judge.judge(&mut copying, length);
                copy = copying.finish();
                outcome
            } else {
                self.judge.judge(source, length)
            };
            match outcome {
                Ok(Outcome::Judged(document)) => {
                    batch.bytes += document.size;
                    let copy = copy.filter(|_| is_taken(document.verdict));
                    batch.copies.extend(copy.map(|copy| (document.id, copy)));
                    batch.group.push((index, document));
                }
                Ok(Outcome::Failed(failed)) => batch.failures.push((index, failed)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    batch.fail(index, FailureCode::Malformed, "the batch ends within this document");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            if batch.group.len() >= GROUP_DOCUMENTS || batch.bytes >= GROUP_BYTES {
                self.flush(client, batch);
            }
        }
    }
}

/// A batch under way.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) count: u32,
    pub(super) bytes: u64,
    pub(super) group: Vec<(u32, NewDocument)>,
    /// Of those that the client's remote log lists.
    pub(super) copies: Vec<(MessageId, Arrived)>,
    pub(super) rows: Vec<i64>,
    pub(super) failures: Vec<(u32, Failed)>,
    /// The client's access ended meanwhile.
    pub(super) is_revoked: bool,
}

impl Batch {
    fn fail(&mut self, index: u32, code: FailureCode, detail: impl Into<String>) {
        self.failures.push((index, Failed::new(None, code, detail)));
    }
}

fn read_up_to(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn skip(source: &mut impl Read, length: u64) -> io::Result<()> {
    match io::copy(&mut source.take(length), &mut io::sink())? {
        read if read == length => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
