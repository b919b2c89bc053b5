//! Who may upload: gateways and phones, by token or client certificate.

use rusqlite::{OptionalExtension as _, Row, params};
use serde::Serialize;
use waypost_protocol::time::UnixTime;

use super::{Store, StoreError};

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
    fn word(self) -> &'static str {
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
}

const COLUMNS: &str =
    "SELECT id, name, kind, token_hash IS NOT NULL, certificate_hash IS NOT NULL, created, revoked,
    (SELECT count(*) FROM uploads WHERE client = clients.id) FROM clients";

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

    /// Ends a client's access, at once; what it uploaded stays. False where there is none of that name.
    pub fn revoke_client(&self, name: &str, now: UnixTime) -> Result<bool, StoreError> {
        let sql = "UPDATE clients SET revoked = ? WHERE name = ? AND revoked IS NULL";
        Ok(self.db.execute(sql, params![i64::try_from(now.0).unwrap_or(i64::MAX), name])? == 1)
    }
}

fn client(row: &Row<'_>) -> rusqlite::Result<Client> {
    let kind: String = row.get(2)?;
    let time = |seconds: i64| UnixTime(u64::try_from(seconds).unwrap_or(0));
    Ok(Client {
        id: row.get(0)?,
        name: row.get(1)?,
        kind: if kind == "phone" { ClientKind::Phone } else { ClientKind::Gateway },
        token: row.get(3)?,
        client_certificate: row.get(4)?,
        created: time(row.get(5)?),
        revoked: row.get::<_, Option<i64>>(6)?.map(time),
        documents: u64::try_from(row.get::<_, i64>(7)?).unwrap_or(0),
    })
}
