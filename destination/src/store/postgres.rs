//! The same in PostgreSQL, which several processes share.
//!
//! Rows are inserted with `ON CONFLICT DO NOTHING`, so that one process wins; verdicts are signed under one lock of the
//! database, so that a document is confirmed once and cursors never pass over what another process is about to commit.
//! What a process has begun is its own for a lease, by the database's clock; after that another one goes on with it.

mod clients;
mod documents;
mod logs;
mod notices;
mod partials;

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection as _, Row as _};
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::MessageId;
use waypost_protocol::time::UnixTime;

use super::{
    Client, ClientKind, Committed, Counts, Held, NewDocument, Notice, Page, Quota, Records, Sign, Staged,
    StoreError, Used,
};
use crate::blocking::Blocking;

pub(crate) use partials::{ClaimedRow, PartRow};

/// Connections of one process.
const CONNECTIONS: u32 = 12;
/// For a connection to become free, or to be made.
const ACQUIRE: Duration = Duration::from_secs(30);
/// How often a transaction is tried that the database ended for the sake of others.
const TRIES: u32 = 6;
/// The locks under which verdicts are signed, tables are made, and room for remote logs is counted: any numbers of ours.
const SIGNING: i64 = 0x7761_7970_0001;
const LAYING_OUT: i64 = 0x7761_7970_0002;
const LOG_ROOM: i64 = 0x7761_7970_0003;

/// A pool of connections.
pub struct Postgres {
    pool: PgPool,
    runtime: Blocking,
    /// For how long what this process began is its own, in seconds.
    lease: f64,
}

impl Postgres {
    /// Connects, and makes or updates the tables. `lease` is how long what a process began is its own.
    pub fn open(url: &str, lease: Duration) -> Result<Self, StoreError> {
        let runtime = Blocking::new("postgres").map_err(sqlx::Error::Io)?;
        let options: PgConnectOptions = url.parse()?;
        // A process that is cut off must not keep its locks.
        let options = options
            .application_name("waypost-destination")
            .options([("statement_timeout", "120s"), ("idle_in_transaction_session_timeout", "60s")]);
        let pool = runtime.wait(async {
            let pool = PgPoolOptions::new()
                .max_connections(CONNECTIONS)
                .acquire_timeout(ACQUIRE)
                .connect_with(options)
                .await?;
            lay_out(&mut *pool.acquire().await?).await?;
            Ok::<_, StoreError>(pool)
        })?;
        Ok(Postgres { pool, runtime, lease: lease.as_secs_f64() })
    }

    /// Waits for a transaction; tries again what the database ended for the sake of others.
    fn retried<T, F>(&self, mut transaction: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.runtime.wait(async {
            let mut tries = 0;
            loop {
                tries += 1;
                match transaction().await {
                    // serialization_failure, deadlock_detected
                    Err(StoreError::Postgres(error))
                        if tries < TRIES && has_code(&error, &["40001", "40P01"]) =>
                    {
                        tokio::time::sleep(Duration::from_millis(u64::from(tries) * 20)).await;
                    }
                    other => return other,
                }
            }
        })
    }
}

/// Whether the server gave one of these codes (PostgreSQL, appendix A).
pub(super) fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| codes.contains(&&*code))
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn positive(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// 32 bytes, or the row is broken.
fn id(bytes: &[u8]) -> Result<MessageId, StoreError> {
    let bytes = <[u8; 32]>::try_from(bytes).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(MessageId(bytes))
}

/// Makes the tables, one process at a time.
async fn lay_out(connection: &mut PgConnection) -> Result<(), StoreError> {
    let mut tx = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LAYING_OUT).execute(&mut *tx).await?;
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS waypost_layout (version BIGINT NOT NULL)")
        .execute(&mut *tx)
        .await?;
    let row = sqlx::query("SELECT version FROM waypost_layout").fetch_optional(&mut *tx).await?;
    let found = row.as_ref().map(|row| row.try_get::<i64, _>(0)).transpose()?;
    let version = found.unwrap_or(0);
    let known = i64::try_from(LAYOUTS.len()).unwrap_or(i64::MAX);
    let missing = usize::try_from(version).ok().and_then(|version| LAYOUTS.get(version..));
    for statements in missing.ok_or(StoreError::Newer { found: version, known })? {
        sqlx::raw_sql(statements).execute(&mut *tx).await?;
    }
    let sql = match found {
        None => "INSERT INTO waypost_layout (version) VALUES ($1)",
        Some(_) => "UPDATE waypost_layout SET version = $1",
    };
    sqlx::query(sql).bind(known).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}

/// What makes each layout of the tables from the one before; only ever added to.
const LAYOUTS: [&str; 3] = [TABLES, PARTIALS, LOGS];

/// As SQLite has them, see [`super::Store`]; `claimed` is until when the row is the business of the process that wrote it
/// last.
const TABLES: &str = "
CREATE TABLE clients (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    token_hash BYTEA UNIQUE,
    certificate_hash BYTEA UNIQUE,
    created BIGINT NOT NULL,
    revoked BIGINT,
    day_bytes BIGINT,
    day_documents BIGINT,
    total_bytes BIGINT,
    total_documents BIGINT,
    used_day BIGINT NOT NULL DEFAULT 0,
    used_day_bytes BIGINT NOT NULL DEFAULT 0,
    used_day_documents BIGINT NOT NULL DEFAULT 0,
    used_total_bytes BIGINT NOT NULL DEFAULT 0,
    used_total_documents BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE confirmations (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    wire BYTEA NOT NULL,
    exported BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX confirmations_to_export ON confirmations (seq) WHERE NOT exported;
CREATE TABLE documents (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id BYTEA NOT NULL UNIQUE,
    group_id BYTEA NOT NULL,
    timestamp BIGINT NOT NULL,
    size BIGINT NOT NULL,
    received BIGINT NOT NULL,
    verdict SMALLINT NOT NULL,
    confirmation BIGINT REFERENCES confirmations (seq),
    collection TEXT,
    name BYTEA,
    staged TEXT,
    path BYTEA,
    content_size BIGINT,
    claimed TIMESTAMPTZ NOT NULL,
    notify TIMESTAMPTZ,
    tries INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX documents_to_confirm ON documents (seq) WHERE confirmation IS NULL;
CREATE INDEX documents_to_place ON documents (seq) WHERE staged IS NOT NULL;
CREATE INDEX documents_held ON documents (seq) WHERE verdict = 2;
CREATE INDEX documents_confirmed ON documents (confirmation);
CREATE INDEX documents_to_notify ON documents (notify) WHERE notify IS NOT NULL;
CREATE TABLE uploads (
    document BIGINT NOT NULL REFERENCES documents (seq),
    client BIGINT NOT NULL REFERENCES clients (id),
    PRIMARY KEY (document, client)
);
CREATE TABLE deliveries (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client BIGINT NOT NULL REFERENCES clients (id),
    confirmation BIGINT NOT NULL REFERENCES confirmations (seq),
    UNIQUE (client, confirmation)
);
CREATE INDEX deliveries_of_client ON deliveries (client, seq);
";

/// `ticket` is that of the last request that asked for the upload, `holder` that of the one that is at it. `touched` is when
/// one was. Parts follow each other without a gap.
const PARTIALS: &str = "
CREATE TABLE partials (
    upload BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client BIGINT NOT NULL REFERENCES clients (id),
    id BYTEA NOT NULL,
    length BIGINT NOT NULL,
    ticket BIGINT NOT NULL DEFAULT 1,
    holder BIGINT DEFAULT 1,
    touched TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (client, id)
);
CREATE TABLE parts (
    upload BIGINT NOT NULL REFERENCES partials (upload) ON DELETE CASCADE,
    start BIGINT NOT NULL,
    size BIGINT NOT NULL,
    ticket BIGINT NOT NULL,
    PRIMARY KEY (upload, start)
);
";

/// As SQLite has them.
const LOGS: &str = "
CREATE TABLE log_content (
    hash BYTEA PRIMARY KEY,
    size BIGINT NOT NULL,
    client BIGINT NOT NULL REFERENCES clients (id)
);
CREATE TABLE log_reserved (
    hash BYTEA NOT NULL,
    client BIGINT NOT NULL REFERENCES clients (id),
    size BIGINT NOT NULL,
    since TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (hash, client)
);
CREATE TABLE log_heads (
    name BYTEA PRIMARY KEY,
    head BYTEA NOT NULL,
    before BYTEA
);
CREATE TABLE log_ended (
    name BYTEA NOT NULL,
    log BYTEA NOT NULL,
    PRIMARY KEY (name, log)
);
ALTER TABLE clients ADD COLUMN log_bytes BIGINT;
ALTER TABLE clients ADD COLUMN used_log_bytes BIGINT NOT NULL DEFAULT 0;
";

impl Records for Postgres {
    fn commit(
        &self,
        client: i64,
        documents: &[NewDocument],
        placed: &[(i64, Vec<u8>)],
        notify: bool,
        now: UnixTime,
    ) -> Result<Vec<Committed>, StoreError> {
        self.retried(|| self.commit_documents(client, documents, placed, notify, now))
    }

    fn note_placed(&self, placed: &[(i64, Vec<u8>)]) -> Result<(), StoreError> {
        self.retried(|| async {
            let mut tx = self.pool.begin().await?;
            documents::note_placed(&mut tx, placed).await?;
            Ok(tx.commit().await?)
        })
    }

    fn confirm(
        &self,
        rows: &[i64],
        client: Option<i64>,
        sign: Sign<'_>,
    ) -> Result<Vec<Confirmation>, StoreError> {
        self.retried(|| self.confirm_rows(rows, client, sign))
    }

    fn rows(&self, ids: &[MessageId]) -> Result<Vec<Option<i64>>, StoreError> {
        self.runtime.wait(self.rows_of(ids))
    }

    fn unconfirmed(&self, limit: u32) -> Result<Vec<i64>, StoreError> {
        self.runtime.wait(self.left_unconfirmed(limit))
    }

    fn since(&self, client: i64, cursor: u64, limit: u32, max_bytes: usize) -> Result<Page, StoreError> {
        self.runtime.wait(self.page_since(client, cursor, limit, max_bytes))
    }

    fn unplaced(&self) -> Result<Vec<Staged>, StoreError> {
        self.retried(|| self.claim_unplaced())
    }

    fn staged(&self) -> Result<Vec<String>, StoreError> {
        self.runtime.wait(async {
            let sql = "SELECT staged FROM documents WHERE staged IS NOT NULL";
            Ok(sqlx::query_scalar(sql).fetch_all(&self.pool).await?)
        })
    }

    fn held(&self, after: i64, limit: u32) -> Result<Vec<Held>, StoreError> {
        self.runtime.wait(self.held_after(after, limit))
    }

    fn resolve(
        &self,
        resolved: &[(i64, NewDocument)],
        notify: bool,
        _now: UnixTime,
    ) -> Result<Vec<bool>, StoreError> {
        self.retried(|| self.resolve_held(resolved, notify))
    }

    fn to_export(&self, after: i64, all: bool, limit: u32) -> Result<Vec<(i64, Confirmation)>, StoreError> {
        self.runtime.wait(self.confirmations_after(after, all, limit))
    }

    fn note_exported(&self, rows: &[i64]) -> Result<(), StoreError> {
        self.retried(|| async {
            let sql = "UPDATE confirmations SET exported = TRUE WHERE seq = ANY($1)";
            sqlx::query(sql).bind(rows).execute(&self.pool).await?;
            Ok(())
        })
    }

    fn claim_notices(&self, limit: u32, _now: UnixTime, lease: Duration) -> Result<Vec<Notice>, StoreError> {
        self.retried(|| self.claim_due_notices(limit, lease))
    }

    fn note_notice(&self, seq: i64, _now: UnixTime, again: Option<Duration>) -> Result<(), StoreError> {
        self.retried(|| self.write_notice(seq, again))
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        self.runtime.wait(self.count())
    }

    fn add_client(
        &self,
        name: &str,
        kind: ClientKind,
        token_hash: Option<[u8; 32]>,
        certificate_hash: Option<[u8; 32]>,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        self.runtime.wait(self.insert_client(name, kind, token_hash, certificate_hash, now))
    }

    fn clients(&self) -> Result<Vec<Client>, StoreError> {
        self.runtime.wait(self.all_clients())
    }

    fn client_named(&self, name: &str, kind: ClientKind, now: UnixTime) -> Result<i64, StoreError> {
        self.runtime.wait(self.named(name, kind, now))
    }

    fn client_kind(&self, id: i64) -> Result<Option<ClientKind>, StoreError> {
        self.runtime.wait(self.kind(id))
    }

    fn account(&self, client: i64) -> Result<(Quota, Used), StoreError> {
        self.runtime.wait(async { clients::account(&mut *self.pool.acquire().await?, client).await })
    }

    fn client_by_token(&self, hash: &[u8; 32]) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT id FROM clients WHERE token_hash = $1 AND revoked IS NULL";
        self.runtime.wait(self.client_by(sql, hash))
    }

    fn client_by_certificate(&self, hash: &[u8; 32]) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT id FROM clients WHERE certificate_hash = $1 AND revoked IS NULL";
        self.runtime.wait(self.client_by(sql, hash))
    }

    fn revoke_client(&self, name: &str, now: UnixTime) -> Result<bool, StoreError> {
        self.runtime.wait(self.revoke(name, now))
    }

    fn set_quota(&self, name: &str, quota: &Quota) -> Result<bool, StoreError> {
        self.runtime.wait(self.write_quota(name, quota))
    }
}
