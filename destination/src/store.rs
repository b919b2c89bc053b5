//! What the server knows: documents, verdicts, confirmations, and who uploaded what.
//!
//! [`Records`] says what is kept; [`Store`] keeps it in SQLite, [`Postgres`] where several processes share it. SQLite has
//! a write-ahead log with `synchronous = FULL`: a commit that returned is on the disk.

mod clients;
mod documents;
mod embedded;
mod logs;
mod postgres;
mod quota;
mod records;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use waypost_protocol::confirmation::ConfirmationError;

pub use clients::{Client, ClientKind};
pub use documents::{Committed, Counts, Held, NewDocument, Notice, Page, Staged};
pub use logs::{LogHead, LogRecords, Reserved};
pub use postgres::Postgres;
pub(crate) use postgres::{ClaimedRow, PartRow};
pub use quota::{Quota, Used};
pub use records::{Records, Sign};

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite's own, which says all in its words: what it names as its source says them again, with a number before.
    #[error("database: {0}")]
    Sqlite(rusqlite::Error),
    /// PostgreSQL's, or of the way to it.
    #[error("database: {0}; see that PostgreSQL runs and that `database` in destination.toml is right")]
    Postgres(#[source] sqlx::Error),
    /// A newer program wrote it.
    #[error("database has layout {found}, this program knows {known}; update it")]
    Newer {
        /// In the database.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The client's access was ended.
    #[error("this client's access was revoked")]
    Revoked,
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

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::Postgres(error)
    }
}

impl StoreError {
    /// Whether the fault is that there is no room.
    pub fn is_full(&self) -> bool {
        match self {
            StoreError::Sqlite(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            // disk_full
            StoreError::Postgres(error) => postgres::has_code(error, &["53100"]),
            _ => false,
        }
    }
}

/// One connection to the embedded database. Several processes of one machine may have one each.
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
        let found: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let known = i64::try_from(LAYOUTS.len()).unwrap_or(i64::MAX);
        let missing = usize::try_from(found).ok().and_then(|found| LAYOUTS.get(found..));
        for statements in missing.ok_or(StoreError::Newer { found, known })? {
            tx.execute_batch(statements)?;
        }
        tx.pragma_update(None, "user_version", known)?;
        tx.commit()?;
        Ok(Store { db })
    }
}

/// What makes each layout of the tables from the one before; only ever added to.
const LAYOUTS: [&str; 3] = [TABLES, NOTICES_AND_QUOTAS, LOGS];

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

/// `notify` is when the webhook is to be told of an opened document next. `used_day` is the day, since 1970, of the two
/// numbers of that day.
const NOTICES_AND_QUOTAS: &str = "
ALTER TABLE documents ADD COLUMN content_size INTEGER;
ALTER TABLE documents ADD COLUMN notify INTEGER;
ALTER TABLE documents ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
CREATE INDEX documents_to_notify ON documents (notify) WHERE notify IS NOT NULL;
ALTER TABLE clients ADD COLUMN day_bytes INTEGER;
ALTER TABLE clients ADD COLUMN day_documents INTEGER;
ALTER TABLE clients ADD COLUMN total_bytes INTEGER;
ALTER TABLE clients ADD COLUMN total_documents INTEGER;
ALTER TABLE clients ADD COLUMN used_day INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN used_day_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN used_day_documents INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN used_total_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN used_total_documents INTEGER NOT NULL DEFAULT 0;
UPDATE clients SET
    used_total_documents = (SELECT count(*) FROM uploads WHERE client = clients.id),
    used_total_bytes = (SELECT coalesce(sum(size), 0) FROM uploads JOIN documents ON document = seq
        WHERE client = clients.id);
";

/// Remote logs. `log_content` is what lies whole where content is; `log_reserved` is room for what is being put.
/// `used_log_bytes` counts both. `before` is the head that the present one replaced.
const LOGS: &str = "
CREATE TABLE log_content (
    hash BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    client INTEGER NOT NULL REFERENCES clients (id)
) WITHOUT ROWID;
CREATE TABLE log_reserved (
    hash BLOB NOT NULL,
    client INTEGER NOT NULL REFERENCES clients (id),
    size INTEGER NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (hash, client)
) WITHOUT ROWID;
CREATE TABLE log_heads (
    name BLOB PRIMARY KEY,
    head BLOB NOT NULL,
    before BLOB
) WITHOUT ROWID;
CREATE TABLE log_ended (
    name BLOB NOT NULL,
    log BLOB NOT NULL,
    PRIMARY KEY (name, log)
) WITHOUT ROWID;
ALTER TABLE clients ADD COLUMN log_bytes INTEGER;
ALTER TABLE clients ADD COLUMN used_log_bytes INTEGER NOT NULL DEFAULT 0;
";
