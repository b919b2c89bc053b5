//! The embedded database as [`Records`]: one connection, one user of it at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::MessageId;
use waypost_protocol::time::UnixTime;

use super::{
    Client, ClientKind, Committed, Counts, Held, NewDocument, Notice, Page, Quota, Records, Sign, Staged,
    Store, StoreError, Used,
};

pub(super) fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    // A panic while it was locked left a transaction that was rolled back.
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Records for Mutex<Store> {
    fn commit(
        &self,
        client: i64,
        documents: &[NewDocument],
        placed: &[(i64, Vec<u8>)],
        notify: bool,
        now: UnixTime,
    ) -> Result<Vec<Committed>, StoreError> {
        lock(self).commit(client, documents, placed, notify, now)
    }

    fn note_placed(&self, placed: &[(i64, Vec<u8>)]) -> Result<(), StoreError> {
        lock(self).note_placed(placed)
    }

    fn confirm(
        &self,
        rows: &[i64],
        client: Option<i64>,
        sign: Sign<'_>,
    ) -> Result<Vec<Confirmation>, StoreError> {
        lock(self).confirm(rows, client, sign)
    }

    fn rows(&self, ids: &[MessageId]) -> Result<Vec<Option<i64>>, StoreError> {
        let store = lock(self);
        ids.iter().map(|id| store.row(id)).collect()
    }

    fn unconfirmed(&self, limit: u32) -> Result<Vec<i64>, StoreError> {
        lock(self).unconfirmed(limit)
    }

    fn since(&self, client: i64, cursor: u64, limit: u32, max_bytes: usize) -> Result<Page, StoreError> {
        lock(self).since(client, cursor, limit, max_bytes)
    }

    fn unplaced(&self) -> Result<Vec<Staged>, StoreError> {
        lock(self).unplaced()
    }

    fn staged(&self) -> Result<Vec<String>, StoreError> {
        Ok(lock(self).unplaced()?.into_iter().map(|row| row.staged).collect())
    }

    fn held(&self, after: i64, limit: u32) -> Result<Vec<Held>, StoreError> {
        lock(self).held(after, limit)
    }

    fn resolve(
        &self,
        resolved: &[(i64, NewDocument)],
        notify: bool,
        now: UnixTime,
    ) -> Result<Vec<bool>, StoreError> {
        lock(self).resolve(resolved, notify, now)
    }

    fn to_export(&self, after: i64, all: bool, limit: u32) -> Result<Vec<(i64, Confirmation)>, StoreError> {
        lock(self).to_export(after, all, limit)
    }

    fn note_exported(&self, rows: &[i64]) -> Result<(), StoreError> {
        lock(self).note_exported(rows)
    }

    fn claim_notices(&self, limit: u32, now: UnixTime, lease: Duration) -> Result<Vec<Notice>, StoreError> {
        lock(self).claim_notices(limit, now, lease)
    }

    fn note_notice(&self, seq: i64, now: UnixTime, again: Option<Duration>) -> Result<(), StoreError> {
        lock(self).note_notice(seq, now, again)
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        lock(self).counts()
    }

    fn add_client(
        &self,
        name: &str,
        kind: ClientKind,
        token_hash: Option<[u8; 32]>,
        certificate_hash: Option<[u8; 32]>,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        lock(self).add_client(name, kind, token_hash, certificate_hash, now)
    }

    fn clients(&self) -> Result<Vec<Client>, StoreError> {
        lock(self).clients()
    }

    fn client_named(&self, name: &str, kind: ClientKind, now: UnixTime) -> Result<i64, StoreError> {
        lock(self).client_named(name, kind, now)
    }

    fn client_kind(&self, id: i64) -> Result<Option<ClientKind>, StoreError> {
        lock(self).client_kind(id)
    }

    fn account(&self, client: i64) -> Result<(Quota, Used), StoreError> {
        lock(self).account(client)
    }

    fn client_by_token(&self, hash: &[u8; 32]) -> Result<Option<i64>, StoreError> {
        lock(self).client_by_token(hash)
    }

    fn client_by_certificate(&self, hash: &[u8; 32]) -> Result<Option<i64>, StoreError> {
        lock(self).client_by_certificate(hash)
    }

    fn revoke_client(&self, name: &str, now: UnixTime) -> Result<bool, StoreError> {
        lock(self).revoke_client(name, now)
    }

    fn set_quota(&self, name: &str, quota: &Quota) -> Result<bool, StoreError> {
        lock(self).set_quota(name, quota)
    }
}
