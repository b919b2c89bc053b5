//! Remote logs: which content is here and on whose account, and the heads.

use std::sync::Mutex;
use std::time::Duration;

use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior, params};
use waypost_protocol::time::UnixTime;
use waypost_remote_log::{ContentHash, LogId, LogKey};

use super::embedded::lock;
use super::quota::LogRoom;
use super::{Store, StoreError};

/// Whether there is room for content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    /// It is kept free until [`LogRecords::note_content`] or [`LogRecords::release_content`].
    Room,
    /// The content is here.
    Known,
    /// There is none; says what to do.
    Full(String),
}

/// The head that stands under a name, and the one that it replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// Signed bytes.
    pub head: Vec<u8>,
    /// Signed bytes; `None` for the first.
    pub before: Option<Vec<u8>>,
}

/// Content of remote logs by hash, and heads by name; the bytes of content are [`crate::content::Content`]'s. Calls
/// block; what has returned is on the disk. Several threads may call, and where the database is shared, several processes.
pub trait LogRecords: Send + Sync {
    /// Bytes of each content that is here.
    fn content_sizes(&self, hashes: &[ContentHash]) -> Result<Vec<Option<u64>>, StoreError>;

    /// Makes room on the client's account for content of these sizes, whose bytes are to be written then. All content
    /// together may have `most` bytes.
    fn reserve_content(
        &self,
        client: i64,
        wanted: &[(ContentHash, u64)],
        most: u64,
        now: UnixTime,
    ) -> Result<Vec<Reserved>, StoreError>;

    /// The bytes are here.
    fn note_content(&self, client: i64, content: &[(ContentHash, u64)]) -> Result<(), StoreError>;

    /// The bytes did not come: the room is free again.
    fn release_content(&self, client: i64, hashes: &[ContentHash]) -> Result<(), StoreError>;

    /// Frees the room of what was to come for so long, and never did; its hashes, as far as they are not here and nobody
    /// else is bringing them.
    fn release_abandoned(&self, age: Duration, now: UnixTime) -> Result<Vec<ContentHash>, StoreError>;

    /// Content is here no longer, and its room is free. False where it was not here. Its bytes are removed after that.
    fn forget_content(&self, hash: &ContentHash) -> Result<bool, StoreError>;

    /// What stands under a name.
    fn log_head(&self, name: &LogKey) -> Result<Option<LogHead>, StoreError>;

    /// Puts a head where `present` stands, or nothing; `ended` is the log that ends with it. False, and nothing done, where
    /// something else stands there by now.
    fn replace_head(
        &self,
        name: &LogKey,
        head: &[u8],
        present: Option<&[u8]>,
        ended: Option<&LogId>,
    ) -> Result<bool, StoreError>;

    /// Logs that a name has led to before the present one.
    fn ended_logs(&self, name: &LogKey) -> Result<Vec<LogId>, StoreError>;
}

impl LogRecords for Mutex<Store> {
    fn content_sizes(&self, hashes: &[ContentHash]) -> Result<Vec<Option<u64>>, StoreError> {
        let store = lock(self);
        hashes.iter().map(|hash| size_of(&store.db, hash)).collect()
    }

    fn reserve_content(
        &self,
        client: i64,
        wanted: &[(ContentHash, u64)],
        most: u64,
        now: UnixTime,
    ) -> Result<Vec<Reserved>, StoreError> {
        let mut store = lock(self);
        let tx = store.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = "SELECT log_bytes, used_log_bytes, (SELECT sum(used_log_bytes) FROM clients) FROM clients WHERE id = ?";
        let mut room = tx.query_row(sql, [client], |row| {
            let limit: Option<i64> = row.get(0)?;
            Ok(LogRoom {
                limit: limit.map(positive),
                used: positive(row.get(1)?),
                all: positive(row.get(2)?),
                most,
            })
        })?;
        let mut reserved = Vec::with_capacity(wanted.len());
        for (hash, size) in wanted {
            reserved.push(match size_of(&tx, hash)? {
                Some(_) => Reserved::Known,
                None => match reserve(&tx, client, hash, *size, &mut room, now)? {
                    Ok(()) => Reserved::Room,
                    Err(detail) => Reserved::Full(detail),
                },
            });
        }
        tx.commit()?;
        Ok(reserved)
    }

    fn note_content(&self, client: i64, content: &[(ContentHash, u64)]) -> Result<(), StoreError> {
        let mut store = lock(self);
        let tx = store.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (hash, size) in content {
            release(&tx, client, hash)?;
            let sql = "INSERT OR IGNORE INTO log_content (hash, size, client) VALUES (?, ?, ?)";
            if tx.prepare_cached(sql)?.execute(params![hash.0, number(*size), client])? == 1 {
                charge(&tx, client, number(*size))?;
            }
        }
        Ok(tx.commit()?)
    }

    fn release_content(&self, client: i64, hashes: &[ContentHash]) -> Result<(), StoreError> {
        let mut store = lock(self);
        let tx = store.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        hashes.iter().try_for_each(|hash| release(&tx, client, hash))?;
        Ok(tx.commit()?)
    }

    fn release_abandoned(&self, age: Duration, now: UnixTime) -> Result<Vec<ContentHash>, StoreError> {
        let before = number(now.0.saturating_sub(age.as_secs()));
        let mut store = lock(self);
        let tx = store.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let rows: Vec<([u8; 32], i64)> = {
            let mut statement = tx.prepare("SELECT hash, client FROM log_reserved WHERE since < ?")?;
            let rows = statement.query_map([before], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<_, _>>()?
        };
        let mut gone = Vec::new();
        for (hash, client) in rows {
            let hash = ContentHash(hash);
            release(&tx, client, &hash)?;
            let sql = "SELECT 1 FROM log_reserved WHERE hash = ?";
            if size_of(&tx, &hash)?.is_none() && !tx.prepare_cached(sql)?.exists([hash.0])? {
                gone.push(hash);
            }
        }
        tx.commit()?;
        Ok(gone)
    }

    fn forget_content(&self, hash: &ContentHash) -> Result<bool, StoreError> {
        let mut store = lock(self);
        let tx = store.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = "DELETE FROM log_content WHERE hash = ? RETURNING client, size";
        let found = tx.query_row(sql, [hash.0], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?))).optional()?;
        if let Some((client, size)) = found {
            charge(&tx, client, -size)?;
        }
        tx.commit()?;
        Ok(found.is_some())
    }

    fn log_head(&self, name: &LogKey) -> Result<Option<LogHead>, StoreError> {
        let store = lock(self);
        let mut statement = store.db.prepare_cached("SELECT head, before FROM log_heads WHERE name = ?")?;
        let head = |row: &rusqlite::Row<'_>| Ok(LogHead { head: row.get(0)?, before: row.get(1)? });
        Ok(statement.query_row([name.0], head).optional()?)
    }

    fn replace_head(
        &self,
        name: &LogKey,
        head: &[u8],
        present: Option<&[u8]>,
        ended: Option<&LogId>,
    ) -> Result<bool, StoreError> {
        let mut store = lock(self);
        let tx = store.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = match present {
            Some(present) => tx.execute(
                "UPDATE log_heads SET before = head, head = ? WHERE name = ? AND head = ?",
                params![head, name.0, present],
            )?,
            None => {
                let sql = "INSERT INTO log_heads (name, head) VALUES (?, ?) ON CONFLICT DO NOTHING";
                tx.execute(sql, params![name.0, head])?
            }
        };
        if let Some(ended) = ended.filter(|_| done == 1) {
            let sql = "INSERT OR IGNORE INTO log_ended (name, log) VALUES (?, ?)";
            tx.execute(sql, params![name.0, ended.0])?;
        }
        tx.commit()?;
        Ok(done == 1)
    }

    fn ended_logs(&self, name: &LogKey) -> Result<Vec<LogId>, StoreError> {
        let store = lock(self);
        let mut statement = store.db.prepare_cached("SELECT log FROM log_ended WHERE name = ?")?;
        let rows = statement.query_map([name.0], |row| Ok(LogId(row.get(0)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn size_of(db: &rusqlite::Connection, hash: &ContentHash) -> Result<Option<u64>, StoreError> {
    let mut statement = db.prepare_cached("SELECT size FROM log_content WHERE hash = ?")?;
    Ok(statement.query_row([hash.0], |row| row.get(0).map(positive)).optional()?)
}

/// Room for one content; what a client reserves twice counts once.
fn reserve(
    tx: &Transaction<'_>,
    client: i64,
    hash: &ContentHash,
    size: u64,
    room: &mut LogRoom,
    now: UnixTime,
) -> Result<Result<(), String>, StoreError> {
    let sql = "SELECT 1 FROM log_reserved WHERE hash = ? AND client = ?";
    if tx.prepare_cached(sql)?.exists(params![hash.0, client])? {
        return Ok(Ok(()));
    }
    if let Err(detail) = room.take(size) {
        return Ok(Err(detail));
    }
    let sql = "INSERT INTO log_reserved (hash, client, size, since) VALUES (?, ?, ?, ?)";
    tx.prepare_cached(sql)?.execute(params![hash.0, client, number(size), number(now.0)])?;
    charge(tx, client, number(size))?;
    Ok(Ok(()))
}

fn release(tx: &Transaction<'_>, client: i64, hash: &ContentHash) -> Result<(), StoreError> {
    let sql = "DELETE FROM log_reserved WHERE hash = ? AND client = ? RETURNING size";
    let mut statement = tx.prepare_cached(sql)?;
    match statement.query_row(params![hash.0, client], |row| row.get::<_, i64>(0)).optional()? {
        Some(size) => charge(tx, client, -size),
        None => Ok(()),
    }
}

fn charge(tx: &Transaction<'_>, client: i64, bytes: i64) -> Result<(), StoreError> {
    let sql = "UPDATE clients SET used_log_bytes = used_log_bytes + ? WHERE id = ?";
    tx.prepare_cached(sql)?.execute([bytes, client])?;
    Ok(())
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn positive(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ClientKind, Records as _};

    #[test]
    fn what_one_gateway_gave_up_is_not_removed_under_another_that_is_bringing_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Mutex::new(Store::open(&folder.path().join("store.sqlite")).unwrap());
        let now = UnixTime(1_795_236_000);
        let [one, other] =
            ["one", "other"].map(|name| store.client_named(name, ClientKind::Gateway, now).unwrap());
        let later = UnixTime(now.0 + 3_600);
        let wanted = [(ContentHash([1; 32]), 100), (ContentHash([2; 32]), 10)];
        assert_eq!(
            store.reserve_content(one, &wanted, 10_000, now).unwrap(),
            [Reserved::Room, Reserved::Room]
        );
        assert_eq!(store.reserve_content(other, &wanted[..1], 10_000, later).unwrap(), [Reserved::Room]);
        let gone = store.release_abandoned(Duration::from_secs(3_000), later).unwrap();
        assert_eq!(gone, [wanted[1].0], "the first one is on its way");
        store.note_content(other, &wanted[..1]).unwrap();
        assert_eq!(store.content_sizes(&[wanted[0].0]).unwrap(), [Some(100)]);
        assert_eq!(store.release_abandoned(Duration::ZERO, UnixTime(later.0 + 1)).unwrap(), []);
    }
}
