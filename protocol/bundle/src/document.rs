//! A document's file: its canonical encoding, streamed.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use waypost_protocol::document::{Description, IdHasher, MAX_PREFIX, parse_prefix, prefix};
use waypost_protocol::envelope::{self, FIXED, Header, MAX_HEADER};
use waypost_protocol::ids::MessageId;

use crate::fault::{Damage, WriteError};
use crate::folder::{Folder, part_name};

/// Bytes that are read and written at a time.
const STEP: usize = 256 * 1024;

/// A document's file, whose beginning and length are as they should be.
pub struct DocumentFile {
    file: File,
    description: Description,
    header: Header,
    /// Bytes before the body.
    prefix: u64,
}

impl DocumentFile {
    pub(crate) fn open(shelf: &Folder, name: &str, id: MessageId) -> Result<Self, Damage> {
        let file = shelf.file(name.as_ref())?;
        let found = file.metadata()?.len();
        let mut head = vec![0; MAX_PREFIX + FIXED + MAX_HEADER];
        let length = read_at(&file, &mut head, 0)?;
        head.truncate(length);
        let (group, timestamp, size, prefix) = parse_prefix(head.get(..MAX_PREFIX).unwrap_or(&head))?;
        let expected = size.saturating_add(prefix as u64);
        if found != expected {
            return Err(Damage::Length { found, expected });
        }
        let (header, _) = envelope::parse(head.get(prefix..).unwrap_or_default())?;
        let description = Description { id, group, timestamp, size };
        Ok(DocumentFile { file, description, header, prefix: prefix as u64 })
    }

    /// Its id by its name, which [`DocumentFile::verify`] compares with its hash; group, time, size of the body.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Its envelope's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.prefix.saturating_add(self.description.size)
    }

    /// Whether its bytes have the hash that is its name. Reads all of it.
    pub fn verify(&mut self) -> Result<(), Damage> {
        let Description { id, group, timestamp, size } = self.description;
        let mut hasher = IdHasher::new(group, timestamp);
        let mut at = 0;
        while at < size {
            let bytes = self.body(at, STEP)?;
            if bytes.is_empty() {
                return Err(Damage::Length { found: self.prefix + at, expected: self.length() });
            }
            hasher.update(&bytes);
            at += bytes.len() as u64;
        }
        match hasher.finish() {
            found if found == id => Ok(()),
            found => Err(Damage::Hash(found)),
        }
    }

    /// At most `most` bytes of the body from `offset` on; none at its end.
    pub fn body(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.description.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; most.min(left)];
        let length = read_at(&self.file, &mut bytes, self.prefix.saturating_add(offset))?;
        bytes.truncate(length);
        Ok(bytes.into())
    }

    /// The file from its first byte on.
    pub fn reader(&self) -> impl Read + Send + Sync + '_ {
        FromStart { file: &self.file, at: 0 }
    }
}

struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Fills the buffer as far as there are bytes.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes a document beside, flushes it, and gives it its name if its hash is that.
pub(crate) fn write<E>(
    shelf: &Folder,
    name: &str,
    description: &Description,
    mut read: impl FnMut(u64, usize) -> Result<Bytes, E>,
) -> Result<(), WriteError<E>> {
    let part = part_name(name);
    let mut write = || {
        let mut file = shelf.create(part.as_ref(), 0o644).map_err(WriteError::Bundle)?;
        file.write_all(&prefix(description)).map_err(WriteError::Bundle)?;
        let mut hasher = IdHasher::new(description.group, description.timestamp);
        let mut at = 0;
        while at < description.size {
            let bytes = read(at, STEP).map_err(WriteError::Source)?;
            at += bytes.len() as u64;
            if bytes.is_empty() || at > description.size {
                return Err(WriteError::Damaged);
            }
            hasher.update(&bytes);
            file.write_all(&bytes).map_err(WriteError::Bundle)?;
        }
        if hasher.finish() != description.id {
            return Err(WriteError::Damaged);
        }
        file.sync_all().map_err(WriteError::Bundle)?;
        shelf.rename(part.as_ref(), name.as_ref()).map_err(WriteError::Bundle)
    };
    let written = write();
    if written.is_err() {
        // It would take room that others may need.
        let _ = shelf.remove(part.as_ref());
    }
    written
}
