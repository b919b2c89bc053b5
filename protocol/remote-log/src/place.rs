//! Where logs are: a content store and a name system, whatever they are made of.

use std::io::{self, Read};

use bytes::Bytes;

use crate::hash::ContentHash;
use crate::head::LogKey;
use crate::page::MAX_PAGE;

/// Why a place did not do it.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Nothing of this name is there.
    #[error("content {0} is not there")]
    Missing(ContentHash),
    /// What is there has another hash, or is no page where one was expected.
    #[error("content {hash} is damaged: {detail}")]
    Damaged {
        /// Its name.
        hash: ContentHash,
        /// What is wrong.
        detail: String,
    },
    /// Somebody else has published a head meanwhile.
    #[error("the head was changed by another writer meanwhile")]
    Changed,
    /// There is no room.
    #[error("there is no room: {0}")]
    Full(String),
    /// The place does not want it; trying again cannot help.
    #[error("it is refused: {0}")]
    Refused(String),
    /// The place cannot be reached or read now; it may be later.
    #[error("{0}")]
    Unreachable(String),
    /// What was to be put could not be read here.
    #[error("the content to be put cannot be read: {0}")]
    Source(io::Error),
}

/// Stores content under its hash (`CAS` of 3/REMOTE-LOG).
pub trait ContentStore {
    /// For each, whether it is there.
    fn has(&mut self, hashes: &[ContentHash]) -> Result<Vec<bool>, PlaceError>;

    /// Stores `length` bytes that have this hash; they are durable when it returns. What is there already may be put again.
    fn put(&mut self, hash: &ContentHash, length: u64, content: &mut dyn Read) -> Result<(), PlaceError>;

    /// The bytes of this name from `offset` on, **unverified**: who reads them computes the hash.
    fn get(&mut self, hash: &ContentHash, offset: u64) -> Result<Box<dyn Read + '_>, PlaceError>;

    /// Small contents, each with the bytes that it should have, in one question, **unverified**. `None` where the place
    /// does not give them so: then [`ContentStore::get`] does, or says why not.
    fn get_small(&mut self, wanted: &[(ContentHash, u64)]) -> Result<Vec<Option<Bytes>>, PlaceError> {
        Ok(vec![None; wanted.len()])
    }
}

/// Associates a log's key with its newest head (`NS` of 3/REMOTE-LOG).
pub trait NameSystem {
    /// The head's bytes, unverified, at most [`crate::head::MAX_HEAD`].
    fn resolve(&mut self, name: &LogKey) -> Result<Option<Bytes>, PlaceError>;

    /// Replaces the head. `replaces` is the hash of the bytes that stand there, as [`NameSystem::resolve`] gave them:
    /// where others stand there by now, nothing happens ([`PlaceError::Changed`]). A place may remove the version of the
    /// newest page that nobody needs any more ([`crate::superseded`]).
    fn publish(
        &mut self,
        name: &LogKey,
        head: &Bytes,
        replaces: Option<ContentHash>,
    ) -> Result<(), PlaceError>;
}

/// Both.
pub trait Place: ContentStore + NameSystem {}

impl<T: ContentStore + NameSystem + ?Sized> Place for T {}

/// Reads a small content whole, at most [`MAX_PAGE`] bytes, and verifies its hash.
pub(crate) fn read_page(
    place: &mut (impl ContentStore + ?Sized),
    hash: &ContentHash,
) -> Result<Bytes, PlaceError> {
    let mut bytes = Vec::new();
    let reader = place.get(hash, 0)?;
    reader
        .take(MAX_PAGE as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| PlaceError::Unreachable(error.to_string()))?;
    if ContentHash::of(&bytes) != *hash {
        return Err(PlaceError::Damaged { hash: *hash, detail: "its bytes have another hash".to_owned() });
    }
    Ok(Bytes::from(bytes))
}
