//! What the webhook is to be told, and how much there is of everything.

use std::time::Duration;

use sqlx::Row as _;
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::time::UnixTime;

use super::documents::verdict;
use super::{Counts, Notice, Postgres, StoreError, id, positive};

impl Postgres {
    pub(super) async fn claim_due_notices(
        &self,
        limit: u32,
        lease: Duration,
    ) -> Result<Vec<Notice>, StoreError> {
        let sql = "UPDATE documents SET notify = now() + make_interval(secs => $1), tries = tries + 1
            WHERE seq IN (SELECT seq FROM documents WHERE notify <= now() AND staged IS NULL
                ORDER BY notify LIMIT $2 FOR UPDATE SKIP LOCKED)
            RETURNING seq, id, collection, name, content_size, received, path, tries";
        let query = sqlx::query(sql).bind(lease.as_secs_f64()).bind(i64::from(limit));
        let rows = query.fetch_all(&self.pool).await?;
        let notice = |row: &sqlx::postgres::PgRow| {
            Ok(Notice {
                seq: row.try_get(0)?,
                id: id(row.try_get(1)?)?,
                collection: row.try_get::<Option<String>, _>(2)?.unwrap_or_default(),
                name: row.try_get(3)?,
                size: positive(row.try_get::<Option<i64>, _>(4)?.unwrap_or(0)),
                received: UnixTime(positive(row.try_get(5)?)),
                path: row.try_get::<Option<Vec<u8>>, _>(6)?.unwrap_or_default(),
                tries: u32::try_from(row.try_get::<i32, _>(7)?).unwrap_or(1),
            })
        };
        rows.iter().map(notice).collect()
    }

    pub(super) async fn write_notice(&self, seq: i64, again: Option<Duration>) -> Result<(), StoreError> {
        // Of no time there is none.
        let sql = "UPDATE documents SET notify = now() + make_interval(secs => $1) WHERE seq = $2";
        let again = again.map(|span| span.as_secs_f64());
        sqlx::query(sql).bind(again).bind(seq).execute(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn count(&self) -> Result<Counts, StoreError> {
        let mut counts = Counts::default();
        let sql = "SELECT verdict, count(*) FROM documents GROUP BY verdict";
        for row in sqlx::query(sql).fetch_all(&self.pool).await? {
            let count = positive(row.try_get(1)?);
            match verdict(row.try_get(0)?)? {
                Verdict::Opened => counts.opened += count,
                Verdict::Held => counts.held += count,
                Verdict::Rejected(_) => counts.rejected += count,
            }
        }
        let sql = "SELECT (SELECT count(*) FROM confirmations),
            (SELECT count(*) FROM documents WHERE notify IS NOT NULL)";
        let row = sqlx::query(sql).fetch_one(&self.pool).await?;
        counts.confirmations = positive(row.try_get(0)?);
        counts.notices = positive(row.try_get(1)?);
        Ok(counts)
    }
}
