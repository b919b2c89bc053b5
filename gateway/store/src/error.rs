//! What can go wrong: opening, reading, and each change by itself.

use std::path::PathBuf;

use waypost_protocol::ids::MessageId;
use waypost_protocol::refusal::Reason;
use waypost_protocol::sync::HoldingsError;

/// Why a store cannot be opened, copied or compacted.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made or used.
    #[error("store folder {path}: {error}; check that it exists and belongs to this user")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// This process has it open.
    #[error("store {0} is open in this program already; use the handle that is there")]
    AlreadyOpen(PathBuf),
    /// The key does not open what is inside.
    #[error("the key does not fit the store {0}; give the key that it was made with")]
    WrongKey(PathBuf),
    /// A newer version of this program made it.
    #[error("store {path} has schema {found}, this program knows up to {known}; update the program")]
    Newer {
        /// Which store.
        path: PathBuf,
        /// Its schema version.
        found: u32,
        /// The newest that this program can read.
        known: u32,
    },
    /// The map size cannot be used on this machine.
    #[error("map size of {0} bytes is more than this machine can address; set a smaller one")]
    MapSize(u64),
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why reading or committing failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The map or the disk has no room.
    #[error("no room in the store: {0} is full; delete documents, or give it more space")]
    Full(&'static str),
    /// A value does not open under the store's key, or is not what its table holds.
    #[error("store is damaged: row {key} of table {table} does not open; run `waypost store check`")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// The row's key in hexadecimal.
        key: String,
    },
    /// The disk failed; what the system said.
    #[error("store: {0}; if this stays, the disk is failing: replace it")]
    Io(String),
    /// The database failed; what it said.
    #[error("store: {0}; if this stays, check the disk and restart")]
    Database(String),
    /// The database takes and gives nothing any more, as it cannot know what the disk has kept of the last commit.
    #[error("store: its database has stopped after an error of the disk; open it anew: restart")]
    Broken,
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

impl From<heed::Error> for StoreError {
    fn from(error: heed::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match &error {
            heed::Error::Mdb(heed::MdbError::Panic) => StoreError::Broken,
            heed::Error::Mdb(heed::MdbError::MapFull | heed::MdbError::TxnFull) => {
                StoreError::Full("its map")
            }
            heed::Error::Io(io) if matches!(io.kind(), StorageFull | QuotaExceeded) => {
                StoreError::Full("the disk")
            }
            heed::Error::Io(io) => StoreError::Io(io.to_string()),
            _ => StoreError::Database(error.to_string()),
        }
    }
}

impl From<StoreError> for HoldingsError {
    fn from(error: StoreError) -> Self {
        HoldingsError(error.to_string())
    }
}

/// Why one change was not made. The others of its batch are not touched by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The document is not taken.
    #[error("document refused: {0}")]
    Refused(Reason),
    /// Bytes between what is committed and this piece are missing; send on from there.
    #[error("piece begins at byte {offset}, but only {committed} are stored; send from there")]
    Gap {
        /// Where the piece begins.
        offset: u64,
        /// Where the next one must begin.
        committed: u64,
    },
    /// There is no such document.
    #[error("no document {0} here; list the documents to see which there are")]
    NoDocument(MessageId),
    /// There is no such peer.
    #[error("no such peer here; list the peers to see which there are")]
    NoPeer,
    /// The pairing code is unknown, used up or too old.
    #[error("the pairing code is unknown, used up or too old; make a new one")]
    BadCode,
    /// No poster is called so.
    #[error("no poster is called so")]
    NoPoster,
    /// It could not be written.
    #[error(transparent)]
    Storage(#[from] StoreError),
}

impl ChangeError {
    /// What a peer is told.
    pub fn reason(&self) -> Reason {
        match self {
            ChangeError::Refused(reason) => *reason,
            ChangeError::Storage(StoreError::Full(_)) => Reason::OverQuota,
            ChangeError::NoPeer | ChangeError::BadCode | ChangeError::NoPoster => Reason::NotPermitted,
            ChangeError::NoDocument(_) | ChangeError::Gap { .. } | ChangeError::Storage(_) => {
                Reason::StorageFailed
            }
        }
    }
}
