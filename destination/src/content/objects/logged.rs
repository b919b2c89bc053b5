//! Content of remote logs as objects, `log/` and the hash.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore as _};
use sha2::{Digest as _, Sha256};
use waypost_remote_log::{ContentHash, PlaceError};

use super::{Objects, io_error, tempfile};
use crate::blocking::Blocking;

impl Objects {
    pub(super) fn log_path(&self, hash: &ContentHash) -> Path {
        self.below("log").join(hash.to_string())
    }

    /// The object appears whole, so the bytes are verified before.
    pub(super) fn put_log(
        &self,
        hash: &ContentHash,
        length: u64,
        bytes: &mut dyn Read,
    ) -> Result<(), PlaceError> {
        let mut file = tempfile(&self.temporary).map_err(unreachable)?;
        spool(&mut file, hash, length, bytes)?;
        file.rewind().map_err(unreachable)?;
        self.runtime.wait(self.upload(file, &self.log_path(hash))).map_err(unreachable)
    }

    pub(super) fn get_log(&self, hash: &ContentHash, offset: u64) -> Result<Box<dyn Read + '_>, PlaceError> {
        let options = GetOptions { range: Some(GetRange::Offset(offset)), ..GetOptions::default() };
        let path = self.log_path(hash);
        match self.runtime.wait(self.store.get_opts(&path, options)) {
            Ok(found) => Ok(Box::new(Arriving {
                runtime: &self.runtime,
                pieces: found.into_stream(),
                piece: Bytes::new(),
            })),
            Err(Error::NotFound { .. }) => Err(PlaceError::Missing(*hash)),
            Err(error) => Err(unreachable(io_error(error))),
        }
    }
}

fn spool(file: &mut File, hash: &ContentHash, length: u64, bytes: &mut dyn Read) -> Result<(), PlaceError> {
    let (mut hasher, mut written) = (Sha256::new(), 0u64);
    let mut buffer = vec![0; 64 << 10];
    while written <= length {
        let count = match bytes.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(PlaceError::Source(error)),
        };
        let piece = buffer.get(..count).unwrap_or_default();
        written = written.saturating_add(count as u64);
        hasher.update(piece);
        file.write_all(piece).map_err(unreachable)?;
    }
    match written == length && hasher.finalize().as_slice() == hash.0 {
        true => Ok(()),
        false => Err(PlaceError::Refused("its bytes have another hash or length than was said".into())),
    }
}

fn unreachable(error: io::Error) -> PlaceError {
    PlaceError::Unreachable(error.to_string())
}

/// An object while it comes.
struct Arriving<'a> {
    runtime: &'a Blocking,
    pieces: BoxStream<'static, object_store::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Arriving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.runtime.wait(self.pieces.next()) {
                Some(piece) => self.piece = piece.map_err(io_error)?,
                None => return Ok(0),
            }
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
