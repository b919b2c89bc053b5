//! Who may upload: gateways and phones, by token or client certificate.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;
use waypost_protocol::time::UnixTime;

use super::{Quota, Store, StoreError, Used};

/// What a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientKind {
    /// An appliance that carries other people's documents.
    Gateway,
    /// Phones that share a token to upload by themselves.
    Phone,
}

impl ClientKind {
    pub(super) fn from_word(word: &str) -> Self {
        if word == "phone" { ClientKind::Phone } else { ClientKind::Gateway }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            ClientKind::Gateway => "gateway",
            ClientKind::Phone => "phone",
        }
    }
}

/// A gateway, or phones that share a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Client {
    /// Row.
    #[serde(skip)]
    pub id: i64,
    /// The name that the admin gave.
    pub name: String,
    /// What it is.
    pub kind: ClientKind,
    /// Whether it has a token.
    pub token: bool,
    /// Whether it has a client certificate.
    pub client_certificate: bool,
    /// When it was added.
    pub created: UnixTime,
    /// When it was revoked.
    pub revoked: Option<UnixTime>,
    /// How many documents it uploaded.
    pub documents: u64,
    /// What it may bring.
    pub quota: Quota,
    /// What it brought that was new.
    pub used: Used,
}

/// The same words for both databases.
pub(super) const COLUMNS: &str =
    "SELECT id, name, kind, token_hash IS NOT NULL, certificate_hash IS NOT NULL, created, revoked,
    (SELECT count(*) FROM uploads WHERE client = clients.id),
    day_bytes, day_documents, total_bytes, total_documents,
    used_day, used_day_bytes, used_day_documents, used_total_bytes, used_total_documents,
    log_bytes, used_log_bytes FROM clients";

impl Store {
    /// Adds a client; tokens and certificates are known by their SHA-256. False where the name is taken.
    pub fn add_client(
        &self,
        name: &str,
        kind: ClientKind,
        token_hash: Option<[u8; 32]>,
        certificate_hash: Option<[u8; 32]>,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let sql =
            "INSERT INTO clients (name, kind, token_hash, certificate_hash, created) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (name) DO NOTHING";
        let now = i64::try_from(now.0).unwrap_or(i64::MAX);
        Ok(self.db.execute(sql, params![name, kind.word(), token_hash, certificate_hash, now])? == 1)
    }

    /// The row of the client of that name, which is added without token and certificate where there is none.
    pub fn client_named(&self, name: &str, kind: ClientKind, now: UnixTime) -> Result<i64, StoreError> {
        self.add_client(name, kind, None, None, now)?;
        Ok(self.db.query_row("SELECT id FROM clients WHERE name = ?", [name], |row| row.get(0))?)
    }

    /// All, revoked ones too.
    pub fn clients(&self) -> Result<Vec<Client>, StoreError> {
        let mut statement = self.db.prepare(&format!("{COLUMNS} ORDER BY name"))?;
        let rows = statement.query_map([], client)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The unrevoked client with that token.
    pub fn client_by_token(&self, hash: &[u8; 32]) -> Result<Option<i64>, StoreError> {
        self.client_by("token_hash", hash)
    }

    /// The unrevoked client with that certificate.
    pub fn client_by_certificate(&self, hash: &[u8; 32]) -> Result<Option<i64>, StoreError> {
        self.client_by("certificate_hash", hash)
    }

    fn client_by(&self, column: &str, hash: &[u8; 32]) -> Result<Option<i64>, StoreError> {
        let sql = format!("SELECT id FROM clients WHERE {column} = ? AND revoked IS NULL");
        Ok(self.db.prepare_cached(&sql)?.query_row([hash], |row| row.get(0)).optional()?)
    }

    /// What a client is.
    pub fn client_kind(&self, id: i64) -> Result<Option<ClientKind>, StoreError> {
        let sql = "SELECT kind = 'phone' FROM clients WHERE id = ?";
        let phone: Option<bool> =
            self.db.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?;
        Ok(phone.map(|phone| if phone { ClientKind::Phone } else { ClientKind::Gateway }))
    }

    /// What a client may bring and brought. [`StoreError::Revoked`] where its access has ended.
    pub fn account(&self, client: i64) -> Result<(Quota, Used), StoreError> {
        account(&self.db, client)
    }

    /// Ends a client's access, at once; what it uploaded stays. False where there is none of that name.
    pub fn revoke_client(&self, name: &str, now: UnixTime) -> Result<bool, StoreError> {
        let sql = "UPDATE clients SET revoked = ? WHERE name = ? AND revoked IS NULL";
        Ok(self.db.execute(sql, params![i64::try_from(now.0).unwrap_or(i64::MAX), name])? == 1)
    }

    /// Says what a client may bring. False where there is none of that name.
    pub fn set_quota(&self, name: &str, quota: &Quota) -> Result<bool, StoreError> {
        let sql = "UPDATE clients SET day_bytes = ?, day_documents = ?, total_bytes = ?, total_documents = ?,
            log_bytes = ? WHERE name = ?";
        let number = |limit: Option<u64>| limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let Quota { day_bytes, day_documents, total_bytes, total_documents, log_bytes } = *quota;
        let row = params![
            number(day_bytes),
            number(day_documents),
            number(total_bytes),
            number(total_documents),
            number(log_bytes),
            name
        ];
        Ok(self.db.execute(sql, row)? == 1)
    }
}

fn client(row: &Row<'_>) -> rusqlite::Result<Client> {
    let number = |column: usize| row.get::<_, i64>(column).map(|value| u64::try_from(value).unwrap_or(0));
    let limit = |column: usize| {
        let value: Option<i64> = row.get(column)?;
        Ok::<_, rusqlite::Error>(value.and_then(|value| u64::try_from(value).ok()))
    };
    Ok(Client {
        id: row.get(0)?,
        name: row.get(1)?,
        kind: ClientKind::from_word(&row.get::<_, String>(2)?),
        token: row.get(3)?,
        client_certificate: row.get(4)?,
        created: UnixTime(number(5)?),
        revoked: limit(6)?.map(UnixTime),
        documents: number(7)?,
        quota: Quota {
            day_bytes: limit(8)?,
            day_documents: limit(9)?,
            total_bytes: limit(10)?,
            total_documents: limit(11)?,
            log_bytes: limit(17)?,
        },
        used: Used {
            day: number(12)?,
            day_bytes: number(13)?,
            day_documents: number(14)?,
            total_bytes: number(15)?,
            total_documents: number(16)?,
            log_bytes: number(18)?,
        },
    })
}

/// What the client may bring and brought; a revoked one may nothing, also within an upload.
pub(super) fn account(db: &Connection, client: i64) -> Result<(Quota, Used), StoreError> {
    let sql =
        "SELECT revoked, day_bytes, day_documents, total_bytes, total_documents, used_day, used_day_bytes,
        used_day_documents, used_total_bytes, used_total_documents FROM clients WHERE id = ?";
    let mut statement = db.prepare_cached(sql)?;
    let found = statement.query_row([client], |row| {
        let limit = |column| {
            let value: Option<i64> = row.get(column)?;
            Ok::<_, rusqlite::Error>(value.and_then(|value| u64::try_from(value).ok()))
        };
        let count = |column| limit(column).map(Option::unwrap_or_default);
        let quota = Quota {
            day_bytes: limit(1)?,
            day_documents: limit(2)?,
            total_bytes: limit(3)?,
            total_documents: limit(4)?,
            ..Quota::default()
        };
        let used = Used {
            day: count(5)?,
            day_bytes: count(6)?,
            day_documents: count(7)?,
            total_bytes: count(8)?,
            total_documents: count(9)?,
            ..Used::default()
        };
        Ok((row.get::<_, Option<i64>>(0)?, quota, used))
    });
    match found.optional()? {
        Some((None, quota, used)) => Ok((quota, used)),
        _ => Err(StoreError::Revoked),
    }
}

pub(super) fn write_account(db: &Connection, client: i64, used: &Used) -> Result<(), StoreError> {
    let sql =
        "UPDATE clients SET used_day = ?, used_day_bytes = ?, used_day_documents = ?, used_total_bytes = ?,
        used_total_documents = ? WHERE id = ?";
    let Used { day, day_bytes, day_documents, total_bytes, total_documents, .. } = *used;
    let [day, day_bytes, day_documents, total_bytes, total_documents] =
        [day, day_bytes, day_documents, total_bytes, total_documents]
            .map(|value| i64::try_from(value).unwrap_or(i64::MAX));
    db.prepare_cached(sql)?.execute([day, day_bytes, day_documents, total_bytes, total_documents, client])?;
    Ok(())
}
