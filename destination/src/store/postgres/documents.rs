//! Documents, their verdicts and confirmations.

use std::collections::HashMap;

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use waypost_protocol::confirmation::{Confirmation, ConfirmationError, MAX_DOCUMENTS, Verdict};
use waypost_protocol::ids::MessageId;
use waypost_protocol::time::UnixTime;

use super::clients::{account, write_account};
use super::{
    Committed, Held, NewDocument, Page, Postgres, SIGNING, Sign, Staged, StoreError, id, number, positive,
};

impl Postgres {
    pub(super) async fn commit_documents(
        &self,
        client: i64,
        documents: &[NewDocument],
        placed: &[(i64, Vec<u8>)],
        notify: bool,
        now: UnixTime,
    ) -> Result<Vec<Committed>, StoreError> {
        let mut tx = self.pool.begin().await?;
        note_placed(&mut tx, placed).await?;
        let (quota, used) = account(&mut tx, client).await?;
        let mut used = used.at(now);
        let ids: Vec<_> = documents.iter().map(|document| document.id).collect();
        let mut known = rows_of(&mut tx, &ids).await?;
        let mut committed: Vec<Option<Committed>> = vec![None; documents.len()];
        // In the order of their ids, so that two processes with the same documents don't wait for each other in a ring.
        let mut order: Vec<_> = documents.iter().zip(&mut committed).collect();
        order.sort_by_key(|(document, _)| document.id.0);
        let mut rows = Vec::with_capacity(documents.len());
        for (document, slot) in order {
            let outcome = match known.get(&document.id) {
                Some(seq) => Committed::Known(*seq),
                None => match used.take(&quota, document.size) {
                    Err(detail) => Committed::OverQuota(detail),
                    Ok(()) => match self.insert(&mut tx, document, notify, now).await? {
                        Some(seq) => Committed::New(seq),
                        None => {
                            used.give_back(document.size);
                            Committed::Known(row_of(&mut tx, &document.id).await?)
                        }
                    },
                },
            };
            if let Committed::New(seq) | Committed::Known(seq) = outcome {
                // The same document twice in one group.
                known.insert(document.id, seq);
                rows.push(seq);
            }
            *slot = Some(outcome);
        }
        let sql =
            "INSERT INTO uploads (document, client) SELECT DISTINCT row, $1::bigint FROM unnest($2::bigint[])
            AS row ON CONFLICT DO NOTHING";
        sqlx::query(sql).bind(client).bind(&rows).execute(&mut *tx).await?;
        write_account(&mut tx, client, &used).await?;
        tx.commit().await?;
        Ok(committed.into_iter().flatten().collect())
    }

    /// Nothing where another process was faster.
    async fn insert(
        &self,
        tx: &mut PgConnection,
        document: &NewDocument,
        notify: bool,
        now: UnixTime,
    ) -> Result<Option<i64>, StoreError> {
        let sql = "INSERT INTO documents (id, group_id, timestamp, size, received, verdict, collection, name, staged,
                content_size, claimed, notify)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + make_interval(secs => $11),
                CASE WHEN $12 THEN now() END)
            ON CONFLICT (id) DO NOTHING RETURNING seq";
        let query = sqlx::query_scalar(sql)
            .bind(&document.id.0[..])
            .bind(&document.group.0[..])
            .bind(number(document.timestamp.0))
            .bind(number(document.size))
            .bind(number(now.0))
            .bind(i16::from(document.verdict.code()))
            .bind(document.collection.as_deref())
            .bind(document.name.as_deref())
            .bind(document.staged.as_deref())
            .bind(document.content_size.map(number))
            .bind(self.lease)
            .bind(notify && document.verdict == Verdict::Opened);
        Ok(query.fetch_optional(tx).await?)
    }

    pub(super) async fn confirm_rows(
        &self,
        rows: &[i64],
        client: Option<i64>,
        sign: Sign<'_>,
    ) -> Result<Vec<Confirmation>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(client) = client
            && !self.has_news(rows, client).await?
        {
            return self.confirmations_of(rows).await;
        }
        let mut tx = self.pool.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(SIGNING).execute(&mut *tx).await?;
        let sql = "SELECT seq, id, verdict FROM documents WHERE seq = ANY($1) AND confirmation IS NULL
            ORDER BY seq FOR NO KEY UPDATE";
        let unconfirmed = sqlx::query(sql).bind(rows).fetch_all(&mut *tx).await?;
        for chunk in unconfirmed.chunks(MAX_DOCUMENTS) {
            let verdicts = chunk.iter().map(|row| Ok((id(row.try_get(1)?)?, verdict(row.try_get(2)?)?)));
            let confirmation = sign(verdicts.collect::<Result<_, StoreError>>()?)?;
            let sql = "INSERT INTO confirmations (wire) VALUES ($1) RETURNING seq";
            let query = sqlx::query_scalar(sql).bind(confirmation.encode());
            let new: i64 = query.fetch_one(&mut *tx).await?;
            let seqs = chunk.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
            let sql = "UPDATE documents SET confirmation = $1 WHERE seq = ANY($2)";
            sqlx::query(sql).bind(new).bind(&seqs).execute(&mut *tx).await?;
            // Whoever brought one of them may ask since a cursor.
            let sql = "INSERT INTO deliveries (client, confirmation)
                SELECT DISTINCT client, $1::bigint FROM uploads WHERE document = ANY($2) ON CONFLICT DO NOTHING";
            sqlx::query(sql).bind(new).bind(&seqs).execute(&mut *tx).await?;
        }
        if let Some(client) = client {
            let sql = "INSERT INTO deliveries (client, confirmation)
                SELECT DISTINCT $1::bigint, confirmation FROM documents
                WHERE seq = ANY($2) AND confirmation IS NOT NULL ON CONFLICT DO NOTHING";
            sqlx::query(sql).bind(client).bind(rows).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        self.confirmations_of(rows).await
    }

    /// Whether there is something to sign, or to deliver to this client for the first time. Questions mostly have
    /// neither, and then need no lock.
    async fn has_news(&self, rows: &[i64], client: i64) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM documents WHERE seq = ANY($1) AND (confirmation IS NULL
            OR NOT EXISTS (SELECT 1 FROM deliveries WHERE client = $2
                AND deliveries.confirmation = documents.confirmation)))";
        Ok(sqlx::query_scalar(sql).bind(rows).bind(client).fetch_one(&self.pool).await?)
    }

    async fn confirmations_of(&self, rows: &[i64]) -> Result<Vec<Confirmation>, StoreError> {
        let sql = "SELECT wire FROM confirmations WHERE seq IN (SELECT confirmation FROM documents
            WHERE seq = ANY($1)) ORDER BY seq";
        let wires: Vec<Vec<u8>> = sqlx::query_scalar(sql).bind(rows).fetch_all(&self.pool).await?;
        wires.iter().map(|wire| Ok(Confirmation::decode(wire)?)).collect()
    }

    pub(super) async fn rows_of(&self, ids: &[MessageId]) -> Result<Vec<Option<i64>>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let found = rows_of(&mut connection, ids).await?;
        Ok(ids.iter().map(|id| found.get(id).copied()).collect())
    }

    pub(super) async fn left_unconfirmed(&self, limit: u32) -> Result<Vec<i64>, StoreError> {
        let sql =
            "SELECT seq FROM documents WHERE confirmation IS NULL AND claimed <= now() ORDER BY seq LIMIT $1";
        Ok(sqlx::query_scalar(sql).bind(i64::from(limit)).fetch_all(&self.pool).await?)
    }

    pub(super) async fn page_since(
        &self,
        client: i64,
        cursor: u64,
        limit: u32,
        max_bytes: usize,
    ) -> Result<Page, StoreError> {
        let sql = "SELECT deliveries.seq, wire FROM deliveries JOIN confirmations ON confirmation = confirmations.seq
            WHERE client = $1 AND deliveries.seq > $2 ORDER BY deliveries.seq LIMIT $3";
        let query = sqlx::query(sql).bind(client).bind(number(cursor)).bind(i64::from(limit));
        let mut page = Page { confirmations: Vec::new(), cursor };
        let mut bytes = 0;
        for row in query.fetch_all(&self.pool).await? {
            let wire: &[u8] = row.try_get(1)?;
            bytes += wire.len();
            if bytes > max_bytes && !page.confirmations.is_empty() {
                break;
            }
            page.confirmations.push(Confirmation::decode(wire)?);
            page.cursor = positive(row.try_get(0)?);
        }
        Ok(page)
    }

    pub(super) async fn claim_unplaced(&self) -> Result<Vec<Staged>, StoreError> {
        let sql = "UPDATE documents SET claimed = now() + make_interval(secs => $1)
            WHERE seq IN (SELECT seq FROM documents WHERE staged IS NOT NULL AND claimed <= now()
                ORDER BY seq FOR UPDATE SKIP LOCKED)
            RETURNING seq, id, verdict, collection, name, staged";
        let rows = sqlx::query(sql).bind(self.lease).fetch_all(&self.pool).await?;
        let staged = |row: &PgRow| {
            Ok(Staged {
                seq: row.try_get(0)?,
                id: id(row.try_get(1)?)?,
                verdict: verdict(row.try_get(2)?)?,
                collection: row.try_get::<Option<String>, _>(3)?.unwrap_or_default(),
                name: row.try_get(4)?,
                staged: row.try_get(5)?,
            })
        };
        rows.iter().map(staged).collect()
    }

    pub(super) async fn held_after(&self, after: i64, limit: u32) -> Result<Vec<Held>, StoreError> {
        // The number in words of SQL, so that the partial index serves.
        let sql = format!(
            "SELECT seq, id FROM documents WHERE verdict = {} AND seq > $1 ORDER BY seq LIMIT $2",
            Verdict::Held.code()
        );
        let rows = sqlx::query(&sql).bind(after).bind(i64::from(limit)).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(Held { seq: row.try_get(0)?, id: id(row.try_get(1)?)? })).collect()
    }

    pub(super) async fn resolve_held(
        &self,
        resolved: &[(i64, NewDocument)],
        notify: bool,
    ) -> Result<Vec<bool>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let mut moved = Vec::with_capacity(resolved.len());
        for (seq, document) in resolved {
            if !Verdict::Held.may_become(document.verdict) {
                moved.push(false);
                continue;
            }
            let sql =
                "UPDATE documents SET verdict = $1, collection = $2, name = $3, staged = $4, path = NULL,
                    content_size = $5, claimed = now() + make_interval(secs => $6),
                    notify = CASE WHEN $7 THEN now() END, confirmation = NULL
                WHERE seq = $8 AND verdict = $9";
            let query = sqlx::query(sql)
                .bind(i16::from(document.verdict.code()))
                .bind(document.collection.as_deref())
                .bind(document.name.as_deref())
                .bind(document.staged.as_deref())
                .bind(document.content_size.map(number))
                .bind(self.lease)
                .bind(notify && document.verdict == Verdict::Opened)
                .bind(seq)
                .bind(i16::from(Verdict::Held.code()));
            moved.push(query.execute(&mut *tx).await?.rows_affected() == 1);
        }
        tx.commit().await?;
        Ok(moved)
    }

    pub(super) async fn confirmations_after(
        &self,
        after: i64,
        all: bool,
        limit: u32,
    ) -> Result<Vec<(i64, Confirmation)>, StoreError> {
        let sql = match all {
            true => "SELECT seq, wire FROM confirmations WHERE seq > $1 ORDER BY seq LIMIT $2",
            false => {
                "SELECT seq, wire FROM confirmations WHERE seq > $1 AND NOT exported ORDER BY seq LIMIT $2"
            }
        };
        let rows = sqlx::query(sql).bind(after).bind(i64::from(limit)).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, Confirmation::decode(row.try_get(1)?)?))).collect()
    }
}

/// In the order of rows, as everyone who writes several of them.
pub(super) async fn note_placed(tx: &mut PgConnection, placed: &[(i64, Vec<u8>)]) -> Result<(), StoreError> {
    let mut placed: Vec<_> = placed.iter().collect();
    placed.sort();
    for (seq, path) in placed {
        let path = Some(path).filter(|path| !path.is_empty());
        let sql = "UPDATE documents SET staged = NULL, path = coalesce($1, path) WHERE seq = $2";
        sqlx::query(sql).bind(path).bind(seq).execute(&mut *tx).await?;
    }
    Ok(())
}

async fn rows_of(
    connection: &mut PgConnection,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, i64>, StoreError> {
    let bytes: Vec<Vec<u8>> = ids.iter().map(|id| id.0.to_vec()).collect();
    let sql = "SELECT id, seq FROM documents WHERE id = ANY($1)";
    let rows = sqlx::query(sql).bind(bytes).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((id(row.try_get(0)?)?, row.try_get(1)?))).collect()
}

async fn row_of(connection: &mut PgConnection, id: &MessageId) -> Result<i64, StoreError> {
    let sql = "SELECT seq FROM documents WHERE id = $1";
    Ok(sqlx::query_scalar(sql).bind(&id.0[..]).fetch_one(connection).await?)
}

pub(super) fn verdict(code: i16) -> Result<Verdict, StoreError> {
    let byte = u8::try_from(code).unwrap_or(u8::MAX);
    Ok(Verdict::from_code(byte).ok_or(ConfirmationError::Verdict(byte))?)
}
