//! Documents, their verdicts and confirmations.

use std::time::Duration;

use rusqlite::{OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use serde::Serialize;
use waypost_openpgp::KeyError;
use waypost_protocol::confirmation::{Confirmation, ConfirmationError, MAX_DOCUMENTS, Verdict};
use waypost_protocol::ids::{GroupId, MessageId};
use waypost_protocol::time::UnixTime;

use super::clients::{account, write_account};
use super::{Store, StoreError};

/// A judged document that is not in the store yet.
#[derive(Clone, PartialEq, Eq)]
pub struct NewDocument {
    /// Its id, computed from its bytes.
    pub id: MessageId,
    /// Its collection's group.
    pub group: GroupId,
    /// Its timestamp.
    pub timestamp: UnixTime,
    /// Bytes of its body.
    pub size: u64,
    /// What became of it.
    pub verdict: Verdict,
    /// Collection, where it was opened.
    pub collection: Option<String>,
    /// The author's file name, where it was opened and has one.
    pub name: Option<Vec<u8>>,
    /// The whole and flushed file in `tmp/`: opened content, or the sealed document that is held.
    pub staged: Option<String>,
    /// Bytes of the opened content.
    pub content_size: Option<u64>,
}

/// Shows nothing that its author has sealed.
impl std::fmt::Debug for NewDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewDocument")
            .field("id", &self.id)
            .field("verdict", &self.verdict)
            .finish_non_exhaustive()
    }
}

/// What became of a judged document in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// It has this row now.
    New(i64),
    /// It had this row before.
    Known(i64),
    /// The client has brought as much as it may; says what to do.
    OverQuota(String),
}

/// An opened document that the webhook is to be told of.
#[derive(Clone, PartialEq, Eq)]
pub struct Notice {
    /// Row.
    pub seq: i64,
    /// Document.
    pub id: MessageId,
    /// Its collection.
    pub collection: String,
    /// The author's file name.
    pub name: Option<Vec<u8>>,
    /// Bytes of the opened content.
    pub size: u64,
    /// When the document came.
    pub received: UnixTime,
    /// Where the content is, below the inbox.
    pub path: Vec<u8>,
    /// How often it was tried, this time included.
    pub tries: u32,
}

/// Shows nothing that its author has sealed.
impl std::fmt::Debug for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notice").field("seq", &self.seq).field("id", &self.id).finish_non_exhaustive()
    }
}

/// A row whose file is to be put where it belongs.
#[derive(Clone, PartialEq, Eq)]
pub struct Staged {
    /// Row.
    pub seq: i64,
    /// Document.
    pub id: MessageId,
    /// Decides where it belongs.
    pub verdict: Verdict,
    /// Collection's folder.
    pub collection: String,
    /// The author's file name.
    pub name: Option<Vec<u8>>,
    /// The file in `tmp/`.
    pub staged: String,
}

/// Shows nothing that its author has sealed.
impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staged").field("seq", &self.seq).field("id", &self.id).finish_non_exhaustive()
    }
}

/// A document whose key is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Row.
    pub seq: i64,
    /// Document.
    pub id: MessageId,
}

/// How many documents there are, by verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// In the inbox.
    pub opened: u64,
    /// Waiting for the key.
    pub held: u64,
    /// Never wanted.
    pub rejected: u64,
    /// Confirmations signed.
    pub confirmations: u64,
    /// Opened documents that the webhook has not taken yet.
    pub notices: u64,
}

/// Confirmations of one client's uploads, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order in which they became known for that client.
    pub confirmations: Vec<Confirmation>,
    /// For the next question.
    pub cursor: u64,
}

impl Store {
    /// Inserts judged documents that are new, as far as the client's quota goes, and notes who uploaded them and those
    /// that were known; `placed` are rows whose files have been put in their place since. With `notify` the webhook is
    /// to be told of opened ones.
    pub fn commit(
        &mut self,
        client: i64,
        documents: &[NewDocument],
        placed: &[(i64, Vec<u8>)],
        notify: bool,
        now: UnixTime,
    ) -> Result<Vec<Committed>, StoreError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        note_placed(&tx, placed)?;
        let (quota, used) = account(&tx, client)?;
        let mut used = used.at(now);
        let mut rows = Vec::with_capacity(documents.len());
        for document in documents {
            let row = match row_of(&tx, &document.id)? {
                Some(seq) => Committed::Known(seq),
                None => match used.take(&quota, document.size) {
                    Ok(()) => Committed::New(insert(&tx, document, notify, now)?),
                    Err(detail) => Committed::OverQuota(detail),
                },
            };
            if let Committed::New(seq) | Committed::Known(seq) = row {
                tx.prepare_cached("INSERT OR IGNORE INTO uploads (document, client) VALUES (?, ?)")?
                    .execute([seq, client])?;
            }
            rows.push(row);
        }
        write_account(&tx, client, &used)?;
        tx.commit()?;
        Ok(rows)
    }

    /// Notes that files have been put in their place.
    pub fn note_placed(&mut self, placed: &[(i64, Vec<u8>)]) -> Result<(), StoreError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        note_placed(&tx, placed)?;
        Ok(tx.commit()?)
    }

    /// Signs one confirmation per 256 of these documents that have a verdict and none yet, then returns the
    /// confirmations of all of them, each once; `client`, if any, is entitled to hear of them.
    pub fn confirm(
        &mut self,
        rows: &[i64],
        client: Option<i64>,
        sign: impl Fn(Vec<(MessageId, Verdict)>) -> Result<Confirmation, KeyError>,
    ) -> Result<Vec<Confirmation>, StoreError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut unconfirmed = Vec::new();
        {
            let sql = "SELECT id, verdict FROM documents WHERE seq = ? AND confirmation IS NULL";
            let mut statement = tx.prepare_cached(sql)?;
            for &seq in rows {
                let found =
                    statement.query_row([seq], |row| Ok((id(row, 0)?, verdict(row, 1)?))).optional()?;
                unconfirmed.extend(found.map(|found| (seq, found)));
            }
        }
        unconfirmed.sort_unstable_by_key(|(seq, _)| *seq);
        unconfirmed.dedup_by_key(|(seq, _)| *seq);
        for chunk in unconfirmed.chunks(MAX_DOCUMENTS) {
            let confirmation = sign(chunk.iter().map(|(_, verdict)| *verdict).collect())?;
            tx.prepare_cached("INSERT INTO confirmations (wire) VALUES (?)")?
                .execute([confirmation.encode()])?;
            let number = tx.last_insert_rowid();
            for (seq, _) in chunk {
                tx.prepare_cached("UPDATE documents SET confirmation = ? WHERE seq = ?")?
                    .execute([number, *seq])?;
                // Whoever brought it may ask since a cursor.
                tx.prepare_cached(
                    "INSERT OR IGNORE INTO deliveries (client, confirmation)
                     SELECT client, ?1 FROM uploads WHERE document = ?2",
                )?
                .execute([number, *seq])?;
            }
        }
        let mut numbers = Vec::with_capacity(rows.len());
        for &seq in rows {
            let mut statement = tx.prepare_cached("SELECT confirmation FROM documents WHERE seq = ?")?;
            numbers.extend(statement.query_row([seq], |row| row.get::<_, i64>(0)).optional()?);
        }
        numbers.sort_unstable();
        numbers.dedup();
        for &number in client.iter().flat_map(|_| &numbers) {
            tx.prepare_cached("INSERT OR IGNORE INTO deliveries (client, confirmation) VALUES (?, ?)")?
                .execute(params![client, number])?;
        }
        tx.commit()?;
        numbers.into_iter().map(|number| self.confirmation(number)).collect()
    }

    fn confirmation(&self, number: i64) -> Result<Confirmation, StoreError> {
        let mut statement = self.db.prepare_cached("SELECT wire FROM confirmations WHERE seq = ?")?;
        Ok(Confirmation::decode(&statement.query_row([number], |row| row.get::<_, Vec<u8>>(0))?)?)
    }

    /// The row of a document.
    pub fn row(&self, id: &MessageId) -> Result<Option<i64>, StoreError> {
        row_of(&self.db, id)
    }

    /// Rows that have a verdict and no confirmation, at most `limit`.
    pub fn unconfirmed(&self, limit: u32) -> Result<Vec<i64>, StoreError> {
        let sql = "SELECT seq FROM documents WHERE confirmation IS NULL ORDER BY seq LIMIT ?";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([limit], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Confirmations of this client's own uploads after the cursor, at most `limit`, and about `max_bytes`.
    pub fn since(&self, client: i64, cursor: u64, limit: u32, max_bytes: usize) -> Result<Page, StoreError> {
        let sql = "SELECT deliveries.seq, wire FROM deliveries JOIN confirmations ON confirmation = confirmations.seq
            WHERE client = ? AND deliveries.seq > ? ORDER BY deliveries.seq LIMIT ?";
        let mut statement = self.db.prepare_cached(sql)?;
        let after = i64::try_from(cursor).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![client, after, limit])?;
        let mut page = Page { confirmations: Vec::new(), cursor };
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let wire: Vec<u8> = row.get(1)?;
            bytes += wire.len();
            if bytes > max_bytes && !page.confirmations.is_empty() {
                break;
            }
            page.confirmations.push(Confirmation::decode(&wire)?);
            page.cursor = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(cursor);
        }
        Ok(page)
    }

    /// Rows whose files may not have been put in their place.
    pub fn unplaced(&self) -> Result<Vec<Staged>, StoreError> {
        let sql = "SELECT seq, id, verdict, collection, name, staged FROM documents WHERE staged IS NOT NULL";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(Staged {
                seq: row.get(0)?,
                id: id(row, 1)?,
                verdict: verdict(row, 2)?,
                collection: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
                name: row.get(4)?,
                staged: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Held documents after row `after`, in order, at most `limit`.
    pub fn held(&self, after: i64, limit: u32) -> Result<Vec<Held>, StoreError> {
        let sql = "SELECT seq, id FROM documents WHERE verdict = ? AND seq > ? ORDER BY seq LIMIT ?";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map(params![Verdict::Held.code(), after, limit], |row| {
            Ok(Held { seq: row.get(0)?, id: id(row, 1)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Gives held documents their last verdict. Rows that are held no more are left alone; returns which were moved.
    /// With `notify` the webhook is to be told of those that were opened.
    pub fn resolve(
        &mut self,
        resolved: &[(i64, NewDocument)],
        notify: bool,
        now: UnixTime,
    ) -> Result<Vec<bool>, StoreError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut moved = Vec::with_capacity(resolved.len());
        for (seq, document) in resolved {
            let sql = "UPDATE documents SET verdict = ?, collection = ?, name = ?, staged = ?, path = NULL,
                content_size = ?, notify = ?, confirmation = NULL WHERE seq = ? AND verdict = ?";
            let NewDocument { collection, name, staged, .. } = document;
            let is_last = Verdict::Held.may_become(document.verdict);
            let changed = match is_last {
                true => tx.prepare_cached(sql)?.execute(params![
                    document.verdict.code(),
                    collection,
                    name,
                    staged,
                    document.content_size.map(number),
                    notice_due(document, notify, now),
                    seq,
                    Verdict::Held.code()
                ])?,
                false => 0,
            };
            moved.push(changed == 1);
        }
        tx.commit()?;
        Ok(moved)
    }

    /// Confirmations that are not yet files, at most `limit`; all of them where `all` is set, after row `after`.
    pub fn to_export(
        &self,
        after: i64,
        all: bool,
        limit: u32,
    ) -> Result<Vec<(i64, Confirmation)>, StoreError> {
        let sql = match all {
            true => "SELECT seq, wire FROM confirmations WHERE seq > ? ORDER BY seq LIMIT ?",
            false => {
                "SELECT seq, wire FROM confirmations WHERE seq > ? AND exported = 0 ORDER BY seq LIMIT ?"
            }
        };
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([after, i64::from(limit)], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows = rows.collect::<Result<Vec<(i64, Vec<u8>)>, _>>()?;
        rows.into_iter().map(|(seq, wire)| Ok((seq, Confirmation::decode(&wire)?))).collect()
    }

    /// Notes that they are files now.
    pub fn note_exported(&mut self, rows: &[i64]) -> Result<(), StoreError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for row in rows {
            tx.prepare_cached("UPDATE confirmations SET exported = 1 WHERE seq = ?")?.execute([row])?;
        }
        Ok(tx.commit()?)
    }

    /// Opened documents in their place that the webhook is to be told of by now, at most `limit`. They are not given
    /// again for as long as the lease.
    pub fn claim_notices(
        &mut self,
        limit: u32,
        now: UnixTime,
        lease: Duration,
    ) -> Result<Vec<Notice>, StoreError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = "UPDATE documents SET notify = ?, tries = tries + 1 WHERE seq IN (SELECT seq FROM documents
                WHERE notify <= ? AND staged IS NULL ORDER BY notify LIMIT ?)
            RETURNING seq, id, collection, name, content_size, received, path, tries";
        let notices = {
            let mut statement = tx.prepare_cached(sql)?;
            let rows = statement.query_map(params![after(now, lease), number(now.0), limit], |row| {
                let positive = |value: i64| u64::try_from(value).unwrap_or(0);
                Ok(Notice {
                    seq: row.get(0)?,
                    id: id(row, 1)?,
                    collection: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
                    name: row.get(3)?,
                    size: positive(row.get::<_, Option<i64>>(4)?.unwrap_or(0)),
                    received: UnixTime(positive(row.get(5)?)),
                    path: row.get::<_, Option<Vec<u8>>>(6)?.unwrap_or_default(),
                    tries: row.get(7)?,
                })
            })?;
            rows.collect::<Result<_, _>>()?
        };
        tx.commit()?;
        Ok(notices)
    }

    /// The webhook took it, where `again` is empty; else it is to be told again after that.
    pub fn note_notice(
        &mut self,
        seq: i64,
        now: UnixTime,
        again: Option<Duration>,
    ) -> Result<(), StoreError> {
        let again = again.map(|span| after(now, span));
        self.db.execute("UPDATE documents SET notify = ? WHERE seq = ?", params![again, seq])?;
        Ok(())
    }

    /// How many there are.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        let mut counts = Counts::default();
        let mut statement =
            self.db.prepare_cached("SELECT verdict, count(*) FROM documents GROUP BY verdict")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let count = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
            match verdict(row, 0)? {
                Verdict::Opened => counts.opened += count,
                Verdict::Held => counts.held += count,
                Verdict::Rejected(_) => counts.rejected += count,
            }
        }
        let number: i64 = self.db.query_row("SELECT count(*) FROM confirmations", [], |row| row.get(0))?;
        counts.confirmations = u64::try_from(number).unwrap_or(0);
        let sql = "SELECT count(*) FROM documents WHERE notify IS NOT NULL";
        let notices: i64 = self.db.query_row(sql, [], |row| row.get(0))?;
        counts.notices = u64::try_from(notices).unwrap_or(0);
        Ok(counts)
    }
}

fn note_placed(tx: &Transaction<'_>, placed: &[(i64, Vec<u8>)]) -> Result<(), StoreError> {
    for (seq, path) in placed {
        let path = Some(path).filter(|path| !path.is_empty());
        let sql = "UPDATE documents SET staged = NULL, path = coalesce(?, path) WHERE seq = ?";
        tx.prepare_cached(sql)?.execute(params![path, seq])?;
    }
    Ok(())
}

fn row_of(db: &rusqlite::Connection, id: &MessageId) -> Result<Option<i64>, StoreError> {
    let mut statement = db.prepare_cached("SELECT seq FROM documents WHERE id = ?")?;
    Ok(statement.query_row([id.as_bytes()], |row| row.get(0)).optional()?)
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn after(now: UnixTime, span: Duration) -> i64 {
    number(now.0.saturating_add(span.as_secs()))
}

/// When the webhook is to be told of a document, if at all.
fn notice_due(document: &NewDocument, notify: bool, now: UnixTime) -> Option<i64> {
    (notify && document.verdict == Verdict::Opened).then(|| number(now.0))
}

fn insert(
    tx: &Transaction<'_>,
    document: &NewDocument,
    notify: bool,
    now: UnixTime,
) -> Result<i64, StoreError> {
    tx.prepare_cached(
        "INSERT INTO documents (id, group_id, timestamp, size, received, verdict, collection, name, staged,
            content_size, notify) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        document.id.as_bytes(),
        document.group.as_bytes(),
        number(document.timestamp.0),
        number(document.size),
        number(now.0),
        document.verdict.code(),
        document.collection,
        document.name,
        document.staged,
        document.content_size.map(number),
        notice_due(document, notify, now),
    ])?;
    Ok(tx.last_insert_rowid())
}

fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<MessageId> {
    Ok(MessageId(row.get(column)?))
}

fn verdict(row: &Row<'_>, column: usize) -> rusqlite::Result<Verdict> {
    let code: u8 = row.get(column)?;
    let wrong = ConfirmationError::Verdict(code);
    let error =
        || rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Integer, Box::new(wrong));
    Verdict::from_code(code).ok_or_else(error)
}
