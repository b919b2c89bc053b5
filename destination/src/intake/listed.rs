//! Documents that the remote log of who uploads them lists: they are kept as content too, so that they do not come again.

use std::io::{self, Read, Seek as _, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tempfile::{SpooledTempFile, spooled_tempfile_in};
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::ids::MessageId;
use waypost_remote_log::ContentHash;

use super::{Incoming, Intake};
use crate::judge::Failed;
use crate::log::Arrived;
use crate::partials::Partial;

/// Documents up to this many bytes are held in memory.
const IN_MEMORY: usize = 64 << 10;

/// Reads from a source, and keeps a copy of what it reads.
pub(super) struct Copying<'a, R> {
    source: &'a mut R,
    copy: Copy,
}

/// The bytes that passed.
struct Copy {
    hasher: Sha256,
    length: u64,
    file: SpooledTempFile,
    /// They could not be kept.
    is_broken: bool,
}

impl<'a, R> Copying<'a, R> {
    /// In that folder, where the copy is large.
    pub(super) fn new(source: &'a mut R, folder: &Path) -> Self {
        let file = spooled_tempfile_in(IN_MEMORY, folder);
        Copying { source, copy: Copy { hasher: Sha256::new(), length: 0, file, is_broken: false } }
    }

    /// The copy, if it is whole.
    pub(super) fn finish(self) -> Option<Arrived> {
        let Copy { hasher, length, mut file, is_broken } = self.copy;
        let is_whole = !is_broken && file.rewind().is_ok();
        is_whole.then(|| Arrived {
            hash: ContentHash(hasher.finalize().into()),
            length,
            bytes: Box::new(file),
        })
    }
}

impl<R: Read> Read for Copying<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        let (copy, bytes) = (&mut self.copy, buffer.get(..count).unwrap_or_default());
        if !copy.is_broken {
            copy.hasher.update(bytes);
            copy.length += bytes.len() as u64;
            copy.is_broken = copy.file.write_all(bytes).is_err();
        }
        Ok(count)
    }
}

impl<R: Incoming> Incoming for Copying<'_, R> {
    fn is_idle(&mut self) -> bool {
        self.source.is_idle()
    }

    fn is_intact(&self) -> bool {
        self.source.is_intact()
    }
}

impl Intake {
    /// As [`Intake::put`]; a document that is taken is kept as content of the client's remote log too.
    pub fn put_listed(
        &self,
        client: i64,
        id: MessageId,
        source: &mut impl Incoming,
        length: u64,
    ) -> io::Result<Result<Vec<Confirmation>, Failed>> {
        let mut copying = Copying::new(source, &self.temporary);
        let outcome = self.put(client, id, &mut copying, length)?;
        if outcome.as_ref().is_ok_and(|confirmations| is_taken_of(confirmations, &id)) {
            self.logs.keep(client, copying.finish().into_iter().collect());
        }
        Ok(outcome)
    }

    /// The same for a whole unfinished upload that was taken.
    pub(super) fn keep_file(&self, client: i64, partial: &Partial) {
        let read = || {
            let (hash, length) = ContentHash::of_reader(&mut partial.reader()?)?;
            io::Result::Ok(Arrived { hash, length, bytes: Box::new(partial.reader()?) })
        };
        // Where it cannot be read now, it comes by itself later.
        self.logs.keep(client, read().into_iter().collect());
    }
}

/// Whether logs list documents with this verdict.
pub(super) fn is_taken(verdict: Verdict) -> bool {
    !matches!(verdict, Verdict::Rejected(_))
}

/// Whether these give the document such a verdict.
pub(super) fn is_taken_of(confirmations: &[Confirmation], id: &MessageId) -> bool {
    let mut verdicts = confirmations.iter().flat_map(|confirmation| confirmation.statement.verdicts());
    verdicts.any(|(named, verdict)| named == id && is_taken(*verdict))
}
