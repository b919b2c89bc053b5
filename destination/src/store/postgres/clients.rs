//! Who may upload, and how much.

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use waypost_protocol::time::UnixTime;

use super::super::clients::COLUMNS;
use super::{Client, ClientKind, Postgres, Quota, StoreError, number, positive};
use crate::store::Used;

impl Postgres {
    pub(super) async fn insert_client(
        &self,
        name: &str,
        kind: ClientKind,
        token_hash: Option<[u8; 32]>,
        certificate_hash: Option<[u8; 32]>,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO clients (name, kind, token_hash, certificate_hash, created)
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO NOTHING";
        let query = sqlx::query(sql).bind(name).bind(kind.word());
        let query = query.bind(token_hash.map(Vec::from)).bind(certificate_hash.map(Vec::from));
        Ok(query.bind(number(now.0)).execute(&self.pool).await?.rows_affected() == 1)
    }

    pub(super) async fn all_clients(&self) -> Result<Vec<Client>, StoreError> {
        let sql = format!("{COLUMNS} ORDER BY name");
        let rows = sqlx::query(&sql).fetch_all(&self.pool).await?;
        rows.iter().map(client).collect()
    }

    pub(super) async fn named(&self, name: &str, kind: ClientKind, now: UnixTime) -> Result<i64, StoreError> {
        self.insert_client(name, kind, None, None, now).await?;
        let sql = "SELECT id FROM clients WHERE name = $1";
        Ok(sqlx::query_scalar(sql).bind(name).fetch_one(&self.pool).await?)
    }

    pub(super) async fn kind(&self, id: i64) -> Result<Option<ClientKind>, StoreError> {
        let sql = "SELECT kind FROM clients WHERE id = $1";
        let kind: Option<String> = sqlx::query_scalar(sql).bind(id).fetch_optional(&self.pool).await?;
        Ok(kind.as_deref().map(ClientKind::from_word))
    }

    pub(super) async fn client_by(&self, sql: &str, hash: &[u8; 32]) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar(sql).bind(&hash[..]).fetch_optional(&self.pool).await?)
    }

    pub(super) async fn revoke(&self, name: &str, now: UnixTime) -> Result<bool, StoreError> {
        let sql = "UPDATE clients SET revoked = $1 WHERE name = $2 AND revoked IS NULL";
        let done = sqlx::query(sql).bind(number(now.0)).bind(name).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }

    pub(super) async fn write_quota(&self, name: &str, quota: &Quota) -> Result<bool, StoreError> {
        let sql =
            "UPDATE clients SET day_bytes = $1, day_documents = $2, total_bytes = $3, total_documents = $4,
            log_bytes = $5 WHERE name = $6";
        let Quota { day_bytes, day_documents, total_bytes, total_documents, log_bytes } = *quota;
        let mut query = sqlx::query(sql);
        for limit in [day_bytes, day_documents, total_bytes, total_documents, log_bytes] {
            query = query.bind(limit.map(number));
        }
        Ok(query.bind(name).execute(&self.pool).await?.rows_affected() == 1)
    }
}

/// What the client may bring and brought, until the transaction ends for nobody else to write; a revoked one may nothing,
/// also within an upload.
pub(super) async fn account(tx: &mut PgConnection, client: i64) -> Result<(Quota, Used), StoreError> {
    let sql = "SELECT revoked, day_bytes, day_documents, total_bytes, total_documents, used_day, used_day_bytes,
        used_day_documents, used_total_bytes, used_total_documents FROM clients WHERE id = $1 FOR NO KEY UPDATE";
    let row = sqlx::query(sql).bind(client).fetch_optional(tx).await?.ok_or(StoreError::Revoked)?;
    match row.try_get::<Option<i64>, _>(0)? {
        None => Ok((quota(&row, 1)?, used(&row, 5)?)),
        Some(_) => Err(StoreError::Revoked),
    }
}

pub(super) async fn write_account(tx: &mut PgConnection, client: i64, used: &Used) -> Result<(), StoreError> {
    let sql = "UPDATE clients SET used_day = $1, used_day_bytes = $2, used_day_documents = $3,
        used_total_bytes = $4, used_total_documents = $5 WHERE id = $6";
    let Used { day, day_bytes, day_documents, total_bytes, total_documents, .. } = *used;
    let mut query = sqlx::query(sql);
    for value in [day, day_bytes, day_documents, total_bytes, total_documents] {
        query = query.bind(number(value));
    }
    query.bind(client).execute(tx).await?;
    Ok(())
}

fn client(row: &PgRow) -> Result<Client, StoreError> {
    Ok(Client {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        kind: ClientKind::from_word(row.try_get(2)?),
        token: row.try_get(3)?,
        client_certificate: row.try_get(4)?,
        created: UnixTime(positive(row.try_get(5)?)),
        revoked: row.try_get::<Option<i64>, _>(6)?.map(|time| UnixTime(positive(time))),
        documents: positive(row.try_get(7)?),
        quota: Quota { log_bytes: row.try_get::<Option<i64>, _>(17)?.map(positive), ..quota(row, 8)? },
        used: Used { log_bytes: positive(row.try_get(18)?), ..used(row, 12)? },
    })
}

fn quota(row: &PgRow, at: usize) -> Result<Quota, StoreError> {
    let limit = |column: usize| {
        let value: Option<i64> = row.try_get(at + column)?;
        Ok::<_, StoreError>(value.map(positive))
    };
    Ok(Quota {
        day_bytes: limit(0)?,
        day_documents: limit(1)?,
        total_bytes: limit(2)?,
        total_documents: limit(3)?,
        ..Quota::default()
    })
}

fn used(row: &PgRow, at: usize) -> Result<Used, StoreError> {
    let count = |column: usize| Ok::<_, StoreError>(positive(row.try_get(at + column)?));
    Ok(Used {
        day: count(0)?,
        day_bytes: count(1)?,
        day_documents: count(2)?,
        total_bytes: count(3)?,
        total_documents: count(4)?,
        ..Used::default()
    })
}
