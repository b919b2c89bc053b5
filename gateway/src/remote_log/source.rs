//! Documents of the store in canonical encoding, for whoever publishes them.

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use waypost_protocol::document::{Description, prefix};
use waypost_protocol::ids::{MessageId, Seq};
use waypost_protocol::sync::Holdings as _;
use waypost_remote_log::Source;
use waypost_store::Store;

/// Bytes of a body read from the store at once.
const CHUNK: usize = 64 << 10;

/// Bytes of a document in canonical encoding.
pub(super) fn encoded_len(description: &Description) -> u64 {
    description.size.saturating_add(prefix(description).len() as u64)
}

/// The store.
pub(super) struct StoreSource(pub(super) Store);

impl Source for StoreSource {
    fn open(&mut self, id: &MessageId) -> io::Result<Box<dyn Read + '_>> {
        let row = self.0.document(id).map_err(|error| io::Error::other(error.to_string()))?;
        let row = row.filter(|row| row.has_body).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "its bytes are not kept any more; see `keep` of its destination",
            )
        })?;
        let head = Cursor::new(prefix(&row.description));
        let body =
            Body { store: &self.0, seq: row.seq, size: row.description.size, offset: 0, chunk: Bytes::new() };
        Ok(Box::new(head.chain(body)))
    }
}

struct Body<'a> {
    store: &'a Store,
    seq: Seq,
    size: u64,
    offset: u64,
    chunk: Bytes,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() && self.offset < self.size {
            let read = self.store.read_body(self.seq, self.offset, CHUNK);
            self.chunk = read.map_err(|error| io::Error::other(error.to_string()))?;
            if self.chunk.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its bytes are not here any more"));
            }
            self.offset += self.chunk.len() as u64;
        }
        let amount = self.chunk.len().min(buffer.len());
        let part = self.chunk.split_to(amount);
        buffer.get_mut(..amount).unwrap_or_default().copy_from_slice(&part);
        Ok(amount)
    }
}
