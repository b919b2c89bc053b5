//! What the server knows, in SQLite: documents, verdicts, confirmations, and who uploaded what.
//!
//! Write-ahead log with `synchronous = FULL`: a commit that returned is on the disk.

mod clients;
mod documents;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use waypost_protocol::confirmation::ConfirmationError;

pub use clients::{Client, ClientKind};
pub use documents::{Counts, Held, NewDocument, Page, Staged};

/// The layout of the tables that this program writes.
const SCHEMA: i64 = 1;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite's own, which says all in its words: what it names as its source says them again, with a number before.
    #[error("database: {0}")]
    Sqlite(rusqlite::Error),
    /// A newer program wrote it.
    #[error("database has layout {0}, this program knows {SCHEMA}; update it")]
    Newer(i64),
    /// A confirmation in it does not decode.
    #[error("database holds a broken confirmation: {0}")]
    Broken(#[from] ConfirmationError),
    /// The key does not sign.
    #[error("verdicts cannot be signed: {0}")]
    Sign(#[from] waypost_openpgp::KeyError),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::Sqlite(error)
    }
}

impl StoreError {
    /// Whether the fault is that there is no room.
    pub fn is_full(&self) -> bool {
        let code = match self {
            StoreError::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        };
        code == Some(rusqlite::ErrorCode::DiskFull)
    }
}

/// One connection. Several processes may have one each.
pub struct Store {
    db: Connection,
}

impl Store {
    /// Opens or makes the file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut db = Connection::open(path)?;
        db.busy_timeout(Duration::from_secs(30))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "foreign_keys", "ON")?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match tx.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0 => {
                tx.execute_batch(TABLES)?;
                tx.pragma_update(None, "user_version", SCHEMA)?;
            }
            SCHEMA => {}
            other => return Err(StoreError::Newer(other)),
        }
        tx.commit()?;
        Ok(Store { db })
    }
}

/// `verdict` is the byte on the wire. `staged` names the file in `tmp/` that is yet to be put where it belongs: where
/// it is set and the file is gone, it was put there before the row could say so. `confirmation` is empty from the
/// verdict until it is signed.
const TABLES: &str = "
CREATE TABLE clients (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    token_hash BLOB UNIQUE,
    certificate_hash BLOB UNIQUE,
    created INTEGER NOT NULL,
    revoked INTEGER
);
CREATE TABLE confirmations (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    wire BLOB NOT NULL,
    exported INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX confirmations_to_export ON confirmations (seq) WHERE exported = 0;
CREATE TABLE documents (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    group_id BLOB NOT NULL,
    timestamp INTEGER NOT NULL,
    size INTEGER NOT NULL,
    received INTEGER NOT NULL,
    verdict INTEGER NOT NULL,
    confirmation INTEGER REFERENCES confirmations (seq),
    collection TEXT,
    name BLOB,
    staged TEXT,
    path BLOB
);
CREATE INDEX documents_to_confirm ON documents (seq) WHERE confirmation IS NULL;
CREATE INDEX documents_to_place ON documents (seq) WHERE staged IS NOT NULL;
CREATE INDEX documents_held ON documents (seq) WHERE verdict = 2;
CREATE INDEX documents_confirmed ON documents (confirmation);
CREATE TABLE uploads (
    document INTEGER NOT NULL REFERENCES documents (seq),
    client INTEGER NOT NULL REFERENCES clients (id),
    PRIMARY KEY (document, client)
) WITHOUT ROWID;
CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    client INTEGER NOT NULL REFERENCES clients (id),
    confirmation INTEGER NOT NULL REFERENCES confirmations (seq),
    UNIQUE (client, confirmation)
);
";
