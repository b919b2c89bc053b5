//! What any database of a destination does, whichever it is.

use std::time::Duration;

use waypost_openpgp::KeyError;
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::ids::MessageId;
use waypost_protocol::time::UnixTime;

use super::logs::LogRecords;
use super::{
    Client, ClientKind, Committed, Counts, Held, NewDocument, Notice, Page, Quota, Staged, StoreError, Used,
};

/// Signs verdicts.
pub type Sign<'a> = &'a dyn Fn(Vec<(MessageId, Verdict)>) -> Result<Confirmation, KeyError>;

/// Documents, verdicts, confirmations, clients. Calls block; what has returned is on the disk. Several threads may call,
/// and where the database is shared, several processes: one document has one row and one confirmation, whoever brings it.
pub trait Records: LogRecords {
    /// Inserts judged documents that are new, as far as the client's quota goes, and notes who uploaded them and those
    /// that were known; `placed` are rows whose content has been put in its place since. With `notify` the webhook is
    /// to be told of opened ones. [`StoreError::Revoked`] where the client's access has ended: then nothing is done.
    fn commit(
        &self,
        client: i64,
        documents: &[NewDocument],
        placed: &[(i64, Vec<u8>)],
        notify: bool,
        now: UnixTime,
    ) -> Result<Vec<Committed>, StoreError>;

    /// Notes that content has been put in its place.
    fn note_placed(&self, placed: &[(i64, Vec<u8>)]) -> Result<(), StoreError>;

    /// Signs one confirmation per 256 of these documents that have a verdict and none yet, then returns the
    /// confirmations of all of them, each once; `client`, if any, is entitled to hear of them.
    fn confirm(
        &self,
        rows: &[i64],
        client: Option<i64>,
        sign: Sign<'_>,
    ) -> Result<Vec<Confirmation>, StoreError>;

    /// The row of each document, where there is one.
    fn rows(&self, ids: &[MessageId]) -> Result<Vec<Option<i64>>, StoreError>;

    /// Rows that have a verdict and no confirmation, at most `limit`, and that no other process is at.
    fn unconfirmed(&self, limit: u32) -> Result<Vec<i64>, StoreError>;

    /// Confirmations of this client's own uploads after the cursor, at most `limit`, and about `max_bytes`.
    fn since(&self, client: i64, cursor: u64, limit: u32, max_bytes: usize) -> Result<Page, StoreError>;

    /// Rows whose content may not have been put in its place, and that no other process is at; from now on this one is.
    fn unplaced(&self) -> Result<Vec<Staged>, StoreError>;

    /// What all rows call the content that may not have been put in its place.
    fn staged(&self) -> Result<Vec<String>, StoreError>;

    /// Held documents after row `after`, in order, at most `limit`.
    fn held(&self, after: i64, limit: u32) -> Result<Vec<Held>, StoreError>;

    /// Gives held documents their last verdict. Rows that are held no more are left alone; returns which were moved.
    fn resolve(
        &self,
        resolved: &[(i64, NewDocument)],
        notify: bool,
        now: UnixTime,
    ) -> Result<Vec<bool>, StoreError>;

    /// Confirmations that are not yet files, at most `limit`; all of them where `all` is set, after row `after`.
    fn to_export(&self, after: i64, all: bool, limit: u32) -> Result<Vec<(i64, Confirmation)>, StoreError>;

    /// Notes that they are files now.
    fn note_exported(&self, rows: &[i64]) -> Result<(), StoreError>;

    /// Opened documents in their place that the webhook is to be told of by now, at most `limit`; nobody is given them
    /// again for as long as the lease.
    fn claim_notices(&self, limit: u32, now: UnixTime, lease: Duration) -> Result<Vec<Notice>, StoreError>;

    /// The webhook took it, where `again` is empty; else it is to be told again after that.
    fn note_notice(&self, seq: i64, now: UnixTime, again: Option<Duration>) -> Result<(), StoreError>;

    /// How many there are.
    fn counts(&self) -> Result<Counts, StoreError>;

    /// Adds a client; tokens and certificates are known by their SHA-256. False where the name is taken.
    fn add_client(
        &self,
        name: &str,
        kind: ClientKind,
        token_hash: Option<[u8; 32]>,
        certificate_hash: Option<[u8; 32]>,
        now: UnixTime,
    ) -> Result<bool, StoreError>;

    /// All, revoked ones too.
    fn clients(&self) -> Result<Vec<Client>, StoreError>;

    /// The row of the client of that name, which is added without token and certificate where there is none.
    fn client_named(&self, name: &str, kind: ClientKind, now: UnixTime) -> Result<i64, StoreError>;

    /// What a client is.
    fn client_kind(&self, id: i64) -> Result<Option<ClientKind>, StoreError>;

    /// What a client may bring and brought. [`StoreError::Revoked`] where its access has ended.
    fn account(&self, client: i64) -> Result<(Quota, Used), StoreError>;

    /// The unrevoked client with that token.
    fn client_by_token(&self, hash: &[u8; 32]) -> Result<Option<i64>, StoreError>;

    /// The unrevoked client with that certificate.
    fn client_by_certificate(&self, hash: &[u8; 32]) -> Result<Option<i64>, StoreError>;

    /// Ends a client's access, at once; what it uploaded stays. False where there is none of that name.
    fn revoke_client(&self, name: &str, now: UnixTime) -> Result<bool, StoreError>;

    /// Says what a client may bring. False where there is none of that name.
    fn set_quota(&self, name: &str, quota: &Quota) -> Result<bool, StoreError>;
}
