//! Remote logs: which content is here and on whose account, and the heads.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use waypost_protocol::time::UnixTime;
use waypost_remote_log::{ContentHash, LogId, LogKey};

use super::{LOG_ROOM, Postgres, StoreError, number, positive};
use crate::store::quota::LogRoom;
use crate::store::{LogHead, LogRecords, Reserved};

impl LogRecords for Postgres {
    fn content_sizes(&self, hashes: &[ContentHash]) -> Result<Vec<Option<u64>>, StoreError> {
        self.runtime.wait(async {
            let found = sizes(&mut *self.pool.acquire().await?, hashes).await?;
            Ok(hashes.iter().map(|hash| found.get(hash).copied()).collect())
        })
    }

    fn reserve_content(
        &self,
        client: i64,
        wanted: &[(ContentHash, u64)],
        most: u64,
        _now: UnixTime,
    ) -> Result<Vec<Reserved>, StoreError> {
        self.retried(|| self.reserve(client, wanted, most))
    }

    fn note_content(&self, client: i64, content: &[(ContentHash, u64)]) -> Result<(), StoreError> {
        self.retried(|| async {
            let mut tx = self.pool.begin().await?;
            let mut bytes = 0;
            for (hash, size) in sorted(content) {
                bytes -= release(&mut tx, client, hash).await?;
                let sql =
                    "INSERT INTO log_content (hash, size, client) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
                let query = sqlx::query(sql).bind(&hash.0[..]).bind(number(*size)).bind(client);
                if query.execute(&mut *tx).await?.rows_affected() == 1 {
                    bytes += number(*size);
                }
            }
            charge(&mut tx, client, bytes).await?;
            Ok(tx.commit().await?)
        })
    }

    fn release_content(&self, client: i64, hashes: &[ContentHash]) -> Result<(), StoreError> {
        self.retried(|| async {
            let mut tx = self.pool.begin().await?;
            let mut bytes = 0;
            for hash in hashes {
                bytes -= release(&mut tx, client, hash).await?;
            }
            charge(&mut tx, client, bytes).await?;
            Ok(tx.commit().await?)
        })
    }

    fn release_abandoned(&self, age: Duration, _now: UnixTime) -> Result<Vec<ContentHash>, StoreError> {
        self.retried(|| async {
            let mut tx = self.pool.begin().await?;
            let sql = "DELETE FROM log_reserved WHERE since < now() - make_interval(secs => $1)
                RETURNING hash, client, size";
            let mut hashes = Vec::new();
            for row in sqlx::query(sql).bind(age.as_secs_f64()).fetch_all(&mut *tx).await? {
                hashes.push(hash(row.try_get(0)?)?);
                charge(&mut tx, row.try_get(1)?, -row.try_get::<i64, _>(2)?).await?;
            }
            let here = sizes(&mut tx, &hashes).await?;
            hashes.retain(|hash| !here.contains_key(hash));
            let sql = "SELECT DISTINCT hash FROM log_reserved WHERE hash = ANY($1)";
            let left: Vec<_> = hashes.iter().map(|hash| hash.0.to_vec()).collect();
            let coming: Vec<Vec<u8>> = sqlx::query_scalar(sql).bind(&left).fetch_all(&mut *tx).await?;
            hashes.retain(|hash| !coming.iter().any(|other| other[..] == hash.0));
            tx.commit().await?;
            Ok(hashes)
        })
    }

    fn forget_content(&self, hash: &ContentHash) -> Result<bool, StoreError> {
        self.retried(|| async {
            let mut tx = self.pool.begin().await?;
            let sql = "DELETE FROM log_content WHERE hash = $1 RETURNING client, size";
            let found = sqlx::query(sql).bind(&hash.0[..]).fetch_optional(&mut *tx).await?;
            if let Some(row) = &found {
                charge(&mut tx, row.try_get(0)?, -row.try_get::<i64, _>(1)?).await?;
            }
            tx.commit().await?;
            Ok(found.is_some())
        })
    }

    fn log_head(&self, name: &LogKey) -> Result<Option<LogHead>, StoreError> {
        self.runtime.wait(async {
            let sql = "SELECT head, before FROM log_heads WHERE name = $1";
            let row = sqlx::query(sql).bind(&name.0[..]).fetch_optional(&self.pool).await?;
            row.map(|row| Ok(LogHead { head: row.try_get(0)?, before: row.try_get(1)? })).transpose()
        })
    }

    fn replace_head(
        &self,
        name: &LogKey,
        head: &[u8],
        present: Option<&[u8]>,
        ended: Option<&LogId>,
    ) -> Result<bool, StoreError> {
        self.retried(|| async {
            let mut tx = self.pool.begin().await?;
            let query = match present {
                // Who comes second waits for the row, and finds another head in it.
                Some(present) => {
                    let sql = "UPDATE log_heads SET before = head, head = $1 WHERE name = $2 AND head = $3";
                    sqlx::query(sql).bind(head).bind(&name.0[..]).bind(present)
                }
                None => {
                    let sql = "INSERT INTO log_heads (head, name) VALUES ($1, $2) ON CONFLICT DO NOTHING";
                    sqlx::query(sql).bind(head).bind(&name.0[..])
                }
            };
            let is_done = query.execute(&mut *tx).await?.rows_affected() == 1;
            if let Some(ended) = ended.filter(|_| is_done) {
                let sql = "INSERT INTO log_ended (name, log) VALUES ($1, $2) ON CONFLICT DO NOTHING";
                sqlx::query(sql).bind(&name.0[..]).bind(&ended.0[..]).execute(&mut *tx).await?;
            }
            tx.commit().await?;
            Ok(is_done)
        })
    }

    fn ended_logs(&self, name: &LogKey) -> Result<Vec<LogId>, StoreError> {
        self.runtime.wait(async {
            let query = sqlx::query_scalar("SELECT log FROM log_ended WHERE name = $1").bind(&name.0[..]);
            let rows: Vec<Vec<u8>> = query.fetch_all(&self.pool).await?;
            Ok(rows.iter().filter_map(|log| LogId::from_slice(log)).collect())
        })
    }
}

impl Postgres {
    async fn reserve(
        &self,
        client: i64,
        wanted: &[(ContentHash, u64)],
        most: u64,
    ) -> Result<Vec<Reserved>, StoreError> {
        let mut tx = self.pool.begin().await?;
        // The sum over all clients must not change meanwhile.
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOG_ROOM).execute(&mut *tx).await?;
        let sql = "SELECT log_bytes, used_log_bytes, (SELECT sum(used_log_bytes)::bigint FROM clients)
            FROM clients WHERE id = $1";
        let row = sqlx::query(sql).bind(client).fetch_one(&mut *tx).await?;
        let mut room = LogRoom {
            limit: row.try_get::<Option<i64>, _>(0)?.map(positive),
            used: positive(row.try_get(1)?),
            all: positive(row.try_get(2)?),
            most,
        };
        let hashes: Vec<_> = wanted.iter().map(|(hash, _)| *hash).collect();
        // In this order: what is reserved becomes content at any moment.
        let mut mine = reserved_by(&mut tx, client, &hashes).await?;
        let here = sizes(&mut tx, &hashes).await?;
        let (mut reserved, mut bytes) = (Vec::with_capacity(wanted.len()), 0);
        for (hash, size) in wanted {
            if here.contains_key(hash) {
                reserved.push(Reserved::Known);
                continue;
            }
            if !mine.insert(*hash) {
                reserved.push(Reserved::Room);
                continue;
            }
            if let Err(detail) = room.take(*size) {
                mine.remove(hash);
                reserved.push(Reserved::Full(detail));
                continue;
            }
            let sql = "INSERT INTO log_reserved (hash, client, size) VALUES ($1, $2, $3)";
            let query = sqlx::query(sql).bind(&hash.0[..]).bind(client).bind(number(*size));
            query.execute(&mut *tx).await?;
            bytes += number(*size);
            reserved.push(Reserved::Room);
        }
        charge(&mut tx, client, bytes).await?;
        tx.commit().await?;
        Ok(reserved)
    }
}

/// Bytes of those that are here.
async fn sizes(
    connection: &mut PgConnection,
    hashes: &[ContentHash],
) -> Result<HashMap<ContentHash, u64>, StoreError> {
    let wanted: Vec<_> = hashes.iter().map(|hash| hash.0.to_vec()).collect();
    let sql = "SELECT hash, size FROM log_content WHERE hash = ANY($1)";
    let rows = sqlx::query(sql).bind(&wanted).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((hash(row.try_get(0)?)?, positive(row.try_get(1)?)))).collect()
}

/// Those for which the client has room reserved.
async fn reserved_by(
    connection: &mut PgConnection,
    client: i64,
    hashes: &[ContentHash],
) -> Result<HashSet<ContentHash>, StoreError> {
    let wanted: Vec<_> = hashes.iter().map(|hash| hash.0.to_vec()).collect();
    let sql = "SELECT hash FROM log_reserved WHERE client = $1 AND hash = ANY($2)";
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(sql).bind(client).bind(&wanted).fetch_all(connection).await?;
    rows.iter().map(|bytes| hash(bytes)).collect()
}

/// Bytes that were reserved and are no longer.
async fn release(tx: &mut PgConnection, client: i64, hash: &ContentHash) -> Result<i64, StoreError> {
    let sql = "DELETE FROM log_reserved WHERE hash = $1 AND client = $2 RETURNING size";
    let query = sqlx::query_scalar(sql).bind(&hash.0[..]).bind(client);
    Ok(query.fetch_optional(tx).await?.unwrap_or(0))
}

async fn charge(tx: &mut PgConnection, client: i64, bytes: i64) -> Result<(), StoreError> {
    if bytes != 0 {
        let sql = "UPDATE clients SET used_log_bytes = used_log_bytes + $1 WHERE id = $2";
        sqlx::query(sql).bind(bytes).bind(client).execute(tx).await?;
    }
    Ok(())
}

/// By hash, so that two processes with the same content don't wait for each other in a ring.
fn sorted(content: &[(ContentHash, u64)]) -> Vec<&(ContentHash, u64)> {
    let mut sorted: Vec<_> = content.iter().collect();
    sorted.sort();
    sorted
}

fn hash(bytes: &[u8]) -> Result<ContentHash, StoreError> {
    let bytes = <[u8; 32]>::try_from(bytes).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(ContentHash(bytes))
}
