//! Unfinished uploads: who holds which, and the parts of each.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use tokio::task::AbortHandle;
use waypost_protocol::ids::MessageId;

use super::clients::account;
use super::{Postgres, StoreError, id, number, positive};
use crate::partials::{Pending, Room};

/// A part of an unfinished upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartRow {
    /// Where in the upload it begins, in bytes.
    pub(crate) start: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Of the request that brought it.
    pub(crate) ticket: i64,
}

/// An upload that was begun.
pub(crate) struct BegunRow {
    pub(crate) upload: i64,
    pub(crate) ticket: i64,
    /// Uploads that are there no more.
    pub(crate) gone: Vec<i64>,
}

/// What came of asking for an upload.
pub(crate) enum ClaimedRow {
    /// There is none.
    None,
    /// Another request has it; this one's ticket, by which it is told.
    Busy(i64),
    /// A later request asked for it.
    Superseded,
    /// It is this request's.
    Mine { upload: i64, ticket: i64, length: u64, parts: Vec<PartRow> },
}

/// Client and document.
type Key = (i64, MessageId);

impl Postgres {
    /// Drives a task on the thread of the database.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.runtime.spawn(work)
    }

    /// Begins an upload in place of what there is of the same document, and of those that make room for it. The words
    /// say why there is none.
    pub(crate) fn begin_partial(
        &self,
        key: Key,
        length: u64,
        room: &Room,
    ) -> Result<Result<BegunRow, String>, StoreError> {
        self.retried(|| self.begin(key, length, room))
    }

    async fn begin(
        &self,
        (client, document): Key,
        length: u64,
        room: &Room,
    ) -> Result<Result<BegunRow, String>, StoreError> {
        let mut tx = self.pool.begin().await?;
        // Until the end nobody else begins one for this client.
        account(&mut tx, client).await?;
        let sql = "SELECT upload, id, length, extract(epoch FROM now() - touched)::float8 FROM partials
            WHERE client = $1";
        let rows = sqlx::query(sql).bind(client).fetch_all(&mut *tx).await?;
        let found = rows.iter().map(pending).collect::<Result<Vec<_>, _>>()?;
        let others = found.iter().map(|(_, pending)| pending).filter(|pending| pending.id != document);
        let made = match room.make(others.cloned().collect(), length) {
            Ok(made) => made,
            Err(words) => return Ok(Err(words)),
        };
        let gone = found.iter().filter(|(_, other)| other.id == document || made.contains(&other.id));
        let gone: Vec<i64> = gone.map(|(upload, _)| *upload).collect();
        sqlx::query("DELETE FROM partials WHERE upload = ANY($1)").bind(&gone).execute(&mut *tx).await?;
        let sql = "INSERT INTO partials (client, id, length) VALUES ($1, $2, $3) RETURNING upload, ticket";
        let query = sqlx::query(sql).bind(client).bind(&document.0[..]).bind(number(length));
        let row = query.fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(Ok(BegunRow { upload: row.try_get(0)?, ticket: row.try_get(1)?, gone }))
    }

    /// Asks for an upload: with a new ticket, or with that of before. It is had where nobody has it, or by force.
    pub(crate) fn claim_partial(
        &self,
        key: Key,
        ticket: Option<i64>,
        take_over: bool,
    ) -> Result<ClaimedRow, StoreError> {
        self.retried(|| self.claim(key, ticket, take_over))
    }

    async fn claim(
        &self,
        (client, document): Key,
        ticket: Option<i64>,
        take_over: bool,
    ) -> Result<ClaimedRow, StoreError> {
        let mut tx = self.pool.begin().await?;
        let sql =
            "SELECT upload, length, ticket, holder FROM partials WHERE client = $1 AND id = $2 FOR UPDATE";
        let query = sqlx::query(sql).bind(client).bind(&document.0[..]);
        let Some(row) = query.fetch_optional(&mut *tx).await? else { return Ok(ClaimedRow::None) };
        let upload: i64 = row.try_get(0)?;
        let (drawn, holder): (i64, Option<i64>) = (row.try_get(2)?, row.try_get(3)?);
        let ticket = ticket.unwrap_or(drawn + 1);
        if drawn > ticket {
            return Ok(ClaimedRow::Superseded);
        }
        let is_mine = holder.is_none() || take_over;
        let sql =
            "UPDATE partials SET ticket = $1, touched = now(), holder = CASE WHEN $2 THEN $1 ELSE holder END
            WHERE upload = $3";
        sqlx::query(sql).bind(ticket).bind(is_mine).bind(upload).execute(&mut *tx).await?;
        let parts = if is_mine { parts(&mut tx, upload).await? } else { Vec::new() };
        tx.commit().await?;
        Ok(match is_mine {
            true => ClaimedRow::Mine { upload, ticket, length: positive(row.try_get(1)?), parts },
            false => ClaimedRow::Busy(ticket),
        })
    }

    /// Whether a later request asked for it, or it is gone.
    pub(crate) async fn is_partial_wanted(&self, upload: i64, ticket: i64) -> Result<bool, StoreError> {
        let sql = "SELECT NOT EXISTS (SELECT 1 FROM partials WHERE upload = $1 AND ticket = $2)";
        Ok(sqlx::query_scalar(sql).bind(upload).bind(ticket).fetch_one(&self.pool).await?)
    }

    /// Notes a part, in place of one that begins at the same byte. False where the request has the upload no more.
    pub(crate) fn add_part(&self, upload: i64, part: &PartRow) -> Result<bool, StoreError> {
        self.retried(|| async {
            let mut tx = self.pool.begin().await?;
            let sql = "UPDATE partials SET touched = now() WHERE upload = $1 AND holder = $2";
            let held = sqlx::query(sql).bind(upload).bind(part.ticket).execute(&mut *tx).await?;
            if held.rows_affected() == 0 {
                return Ok(false);
            }
            let sql = "INSERT INTO parts (upload, start, size, ticket) VALUES ($1, $2, $3, $4)
                ON CONFLICT (upload, start) DO UPDATE SET size = excluded.size, ticket = excluded.ticket";
            let query = sqlx::query(sql).bind(upload).bind(number(part.start)).bind(number(part.size));
            query.bind(part.ticket).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(true)
        })
    }

    /// The request lets go of it.
    pub(crate) fn release_partial(&self, upload: i64, ticket: i64) -> Result<(), StoreError> {
        self.retried(|| self.release(upload, ticket))
    }

    /// As [`Postgres::release_partial`].
    pub(crate) async fn release(&self, upload: i64, ticket: i64) -> Result<(), StoreError> {
        let sql = "UPDATE partials SET holder = NULL WHERE upload = $1 AND holder = $2";
        sqlx::query(sql).bind(upload).bind(ticket).execute(&self.pool).await?;
        Ok(())
    }

    /// Removes it. False where the request has it no more.
    pub(crate) fn remove_partial(&self, upload: i64, ticket: i64) -> Result<bool, StoreError> {
        self.retried(|| async {
            let sql = "DELETE FROM partials WHERE upload = $1 AND holder = $2";
            let done = sqlx::query(sql).bind(upload).bind(ticket).execute(&self.pool).await?;
            Ok(done.rows_affected() == 1)
        })
    }

    /// Removes those that no request was at for so long, and those of revoked clients.
    pub(crate) fn sweep_partials(&self, kept: Duration) -> Result<Vec<i64>, StoreError> {
        self.retried(|| async {
            let sql = "DELETE FROM partials WHERE touched < now() - make_interval(secs => $1)
                OR client IN (SELECT id FROM clients WHERE revoked IS NOT NULL) RETURNING upload";
            Ok(sqlx::query_scalar(sql).bind(kept.as_secs_f64()).fetch_all(&self.pool).await?)
        })
    }

    /// All unfinished uploads.
    pub(crate) fn partials(&self) -> Result<Vec<i64>, StoreError> {
        let all = sqlx::query_scalar("SELECT upload FROM partials").fetch_all(&self.pool);
        Ok(self.runtime.wait(all)?)
    }
}

async fn parts(tx: &mut PgConnection, upload: i64) -> Result<Vec<PartRow>, StoreError> {
    let sql = "SELECT start, size, ticket FROM parts WHERE upload = $1 ORDER BY start";
    let rows = sqlx::query(sql).bind(upload).fetch_all(tx).await?;
    let part = |row: &PgRow| {
        let (start, size) = (positive(row.try_get(0)?), positive(row.try_get(1)?));
        Ok(PartRow { start, size, ticket: row.try_get(2)? })
    };
    rows.iter().map(part).collect()
}

fn pending(row: &PgRow) -> Result<(i64, Pending), StoreError> {
    let idle = Duration::try_from_secs_f64(row.try_get(3)?).unwrap_or_default();
    Ok((row.try_get(0)?, Pending { id: id(row.try_get(1)?)?, length: positive(row.try_get(2)?), idle }))
}
