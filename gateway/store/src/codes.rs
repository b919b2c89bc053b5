//! Reading pairing codes.

use std::collections::BTreeMap;

use waypost_protocol::ids::{CodeId, PeerKey};
use waypost_protocol::invite::CodeSecret;
use zeroize::{Zeroize as _, Zeroizing};

use crate::Store;
use crate::apply::code_key;
use crate::change::PeerClass;
use crate::error::StoreError;
use crate::rows::{CodeRow, PeerRow};
use crate::tables::{Table, damaged};

/// A pairing code that is still valid. Cannot be printed.
pub struct Code {
    /// Its secret, for the handshake.
    pub secret: CodeSecret,
    /// What its user becomes.
    pub class: PeerClass,
    /// Who used it up: that peer may repeat it, in case the answer was lost; nobody else may use it.
    pub used_by: Option<PeerKey>,
}

/// A printed code. Cannot be formatted.
pub struct Poster {
    /// What it is called.
    pub name: String,
    /// Its code's secret; `None` where it is void and phones that came by it are still served.
    pub secret: Option<CodeSecret>,
    /// How many peers came by it and may come again.
    pub peers: u64,
}

impl Store {
    /// A pairing code, while it is valid: not too old, and unused, or used by the peer that it names.
    pub fn code(&self, id: &CodeId) -> Result<Option<Code>, StoreError> {
        let tables = &self.inner.tables;
        let key = code_key(tables, id);
        let Some(mut row) = tables.get::<CodeRow>(&*tables.read()?, &key)? else { return Ok(None) };
        let secret = secret_of(&mut row).ok_or_else(|| damaged(Table::Codes, &key))?;
        let used_by = PeerKey::from_slice(&row.used_by).ok();
        let code = Code { secret, class: PeerClass::from_code(row.class), used_by };
        Ok(Some(code).filter(|_| !row.is_over(self.uptime())))
    }

    /// The posters, by name.
    pub fn posters(&self) -> Result<Vec<Poster>, StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        let mut posters: BTreeMap<String, (Option<CodeSecret>, u64)> = BTreeMap::new();
        for row in tables.rows_after::<CodeRow>(&txn, None)? {
            let (_, mut row) = row?;
            let secret = secret_of(&mut row);
            if row.reusable {
                posters.entry(row.poster).or_default().0 = secret;
            }
        }
        for row in tables.rows_after::<PeerRow>(&txn, None)? {
            let (_, row) = row?;
            if PeerClass::from_code(row.class) == PeerClass::Poster && !row.revoked {
                posters.entry(row.poster).or_default().1 += 1;
            }
        }
        let poster = |(name, (secret, peers))| Poster { name, secret, peers };
        Ok(posters.into_iter().map(poster).collect())
    }
}

/// Takes it out of the row.
fn secret_of(row: &mut CodeRow) -> Option<CodeSecret> {
    let secret: Option<[u8; 16]> = row.secret.as_slice().try_into().ok();
    row.secret.zeroize();
    secret.map(|secret| CodeSecret::new(*Zeroizing::new(secret)))
}
