//! Taking documents in: judged one by one, committed in groups, confirmed once per batch.
//!
//! The order is what makes it safe to lose power between any two steps. Opened content lies whole and flushed in
//! `tmp/`, or in the object store's `staging/`, before the row that says so is committed; the row names it; then it is put
//! where it belongs, once; then the verdict is signed. [`Intake::recover`] goes on from wherever a crash came, also that of
//! another process.

mod batch;
mod listed;
mod resumed;

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use waypost_openpgp::SecretKey;
use waypost_protocol::api::FailureCode;
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::{Fingerprint, MessageId};

use crate::clock::now;
use crate::confirmations::export_new;
use crate::content::{Content, ContentError, Placement};
use crate::durable::is_full;
use crate::home::Home;
use crate::judge::{Failed, Judge, Outcome};
use crate::log::Logs;
use crate::partials::{Partials, StoredBytes};
use crate::places::Places;
use crate::store::{Committed, NewDocument, Records, Staged, StoreError};

use batch::Batch;
pub use batch::{BatchLimits, Upload};
pub use resumed::Advance;

/// What a sender is told whose digest is another.
pub(crate) const DIGEST_MISMATCH: &str =
    "the bytes do not have the digest that the request promises; send them again";

/// A stream of documents.
pub trait Incoming: Read + Send + Sync {
    /// Whether the next bytes are yet to come, so that there is time to flush what is there.
    fn is_idle(&mut self) -> bool {
        false
    }

    /// Whether what was read has the digest that the sender promised.
    fn is_intact(&self) -> bool {
        true
    }
}

impl Incoming for &[u8] {}

impl Incoming for StoredBytes {}

/// Why the server cannot start taking documents.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Where content lies.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A file or folder.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// What an interruption left behind cannot be cleared away.
    #[error("temporary files: {0}")]
    Sweep(io::Error),
}

/// Takes documents in, for one destination. Blocking; shared between threads.
pub struct Intake {
    judge: Judge,
    records: Arc<dyn Records>,
    content: Arc<dyn Content>,
    logs: Logs,
    temporary: PathBuf,
    key: SecretKey,
    destination: Fingerprint,
    /// Whether the webhook is told of opened documents.
    notify: bool,
    /// Rows whose files are in their place, which the next commit will say.
    placed: Mutex<Vec<(i64, Vec<u8>)>>,
    /// A file could not be put in its place; to be tried again.
    unplaced: AtomicBool,
    partials: Arc<Partials>,
}

impl Intake {
    /// Opens the home's store. [`Intake::recover`] comes next.
    pub fn open(home: &Home) -> Result<Self, IntakeError> {
        let Places { records, content, partials } = Places::open(home)?;
        Ok(Intake {
            judge: home.judge(home.key().clone()),
            partials: Arc::new(Partials::new(partials, records.clone(), home.partial_limits())),
            logs: Logs::new(records.clone(), content.clone(), home.settings().max_log_bytes),
            records,
            content,
            temporary: home.temporary_folder(),
            key: home.key().clone(),
            destination: home.destination(),
            notify: home.settings().webhook.is_some(),
            placed: Mutex::new(Vec::new()),
            unplaced: AtomicBool::new(false),
        })
    }

    /// What is known of documents and clients.
    pub fn store(&self) -> &dyn Records {
        &*self.records
    }

    /// Uploads that go on later.
    pub fn partials(&self) -> &Arc<Partials> {
        &self.partials
    }

    /// Remote logs.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Where content lies.
    pub fn content(&self) -> &dyn Content {
        &*self.content
    }

    /// Whether the webhook is told of opened documents.
    pub(crate) fn notifies(&self) -> bool {
        self.notify
    }

    /// Goes on where a crash came: puts opened content in its place, signs verdicts that no confirmation names,
    /// writes confirmations that are no files yet. What other processes are at is left to them. `sweep` also removes
    /// temporary files that no row names, which no other process of this home may be writing.
    pub fn recover(&self, sweep: bool) -> Result<(), IntakeError> {
        self.place_left_over()?;
        if sweep {
            self.sweep()?;
        }
        loop {
            let rows = self.store().unconfirmed(1_024)?;
            if rows.is_empty() {
                break;
            }
            self.confirm(&rows, None)?;
        }
        export_new(self.content(), self.store())?;
        Ok(())
    }

    fn place_left_over(&self) -> Result<(), IntakeError> {
        let staged = self.store().unplaced()?;
        if !staged.is_empty() {
            log::info!("putting {} documents in their place that an interruption left behind", staged.len());
        }
        let placed = self.place(&staged);
        Ok(self.store().note_placed(&placed)?)
    }

    fn sweep(&self) -> Result<(), IntakeError> {
        let known = self.store().staged()?.into_iter().collect();
        if let Err(error) = self.partials.sweep_orphans() {
            log::warn!("parts of uploads that are gone cannot be removed: {error}");
        }
        self.content.sweep(&known).map_err(IntakeError::Sweep)
    }

    /// Tries again what could not be put in its place, where there is something.
    pub(crate) fn retry_unplaced(&self) {
        if self.unplaced.swap(false, Ordering::Relaxed)
            && let Err(error) = self.place_left_over()
        {
            log::error!("documents that are stored cannot be put into the inbox yet: {error}");
        }
    }

    /// The largest document that is read, in bytes: see [`crate::judge::Limits::readable`].
    pub fn readable(&self) -> u64 {
        self.judge.limits().readable()
    }

    /// Takes one document of `length` bytes that should have this id. An error is the stream's.
    pub fn put(
        &self,
        client: i64,
        id: MessageId,
        source: &mut impl Incoming,
        length: u64,
    ) -> io::Result<Result<Vec<Confirmation>, Failed>> {
        let wrong = |found: MessageId| {
            let detail = format!("these bytes are document {found}, the path says {id}");
            Failed::new(Some(found), FailureCode::Malformed, detail)
        };
        if self.store().rows(&[id]).is_ok_and(|rows| rows.iter().any(Option::is_some)) {
            // Known: nothing is opened again.
            return Ok(match self.judge.identify(source, length)? {
                Ok(found) if found == id => self.known(client, &[id]).map_err(|error| store_failed(&error)),
                Ok(found) => Err(wrong(found)),
                Err(failed) => Err(failed),
            });
        }
        let document = match self.judge.judge(source, length)? {
            Outcome::Judged(document) => document,
            Outcome::Failed(failed) => return Ok(Err(failed)),
        };
        let fault = match document.id == id {
            true if source.is_intact() => None,
            true => Some(Failed::new(Some(id), FailureCode::Malformed, DIGEST_MISMATCH)),
            false => Some(wrong(document.id)),
        };
        if let Some(failed) = fault {
            document.staged.iter().for_each(|staged| self.judge.discard(staged));
            return Ok(Err(failed));
        }
        let mut upload = Batch::default();
        upload.group.push((0, document));
        self.flush(client, &mut upload);
        Ok(match upload.failures.pop() {
            Some((_, failed)) => Err(failed),
            None => self.confirm(&upload.rows, Some(client)).map_err(|error| store_failed(&error)),
        })
    }

    /// Makes a group of judged documents durable, and puts their files in their place.
    fn flush(&self, client: i64, batch: &mut Batch) {
        let group = std::mem::take(&mut batch.group);
        let copies = std::mem::take(&mut batch.copies);
        batch.bytes = 0;
        if group.is_empty() {
            return;
        }
        let files: Vec<_> = group.iter().map(|(_, document)| document.staged.as_deref()).collect();
        let faults = self.content.keep(&files);
        let mut durable = Vec::with_capacity(group.len());
        for ((index, document), fault) in group.into_iter().zip(faults) {
            match fault {
                None => durable.push((index, document)),
                Some(error) => {
                    document.staged.iter().for_each(|staged| self.content.discard(staged));
                    batch.failures.push((index, file_failed(&error, document.id)));
                }
            }
        }
        let documents: Vec<NewDocument> = durable.iter().map(|(_, document)| document.clone()).collect();
        let placed = std::mem::take(&mut *self.placed());
        let committed = match self.store().commit(client, &documents, &placed, self.notify, now()) {
            Ok(committed) => committed,
            Err(error) => {
                // The files stay: whether the rows are there is only known after the next start. Not so for one who
                // may nothing.
                self.placed().extend(placed);
                if matches!(error, StoreError::Revoked) {
                    documents
                        .iter()
                        .filter_map(|document| document.staged.as_deref())
                        .for_each(|staged| self.content.discard(staged));
                    batch.is_revoked = true;
                }
                let failed = store_failed(&error);
                let all = durable
                    .into_iter()
                    .map(|(index, document)| (index, Failed { id: Some(document.id), ..failed.clone() }));
                return batch.failures.extend(all);
            }
        };
        let mut taken = HashSet::new();
        let mut staged = Vec::new();
        for ((index, document), committed) in durable.into_iter().zip(committed) {
            let NewDocument { id, verdict, collection, name, staged: file, .. } = document;
            match committed {
                Committed::New(seq) => {
                    batch.rows.push(seq);
                    taken.insert(id);
                    let collection = collection.unwrap_or_default();
                    staged.extend(file.map(|staged| Staged { seq, id, verdict, collection, name, staged }));
                }
                Committed::Known(seq) => {
                    batch.rows.push(seq);
                    taken.insert(id);
                    file.iter().for_each(|file| self.content.discard(file));
                }
                Committed::OverQuota(detail) => {
                    file.iter().for_each(|file| self.content.discard(file));
                    batch.failures.push((index, Failed::new(Some(id), FailureCode::Full, detail)));
                }
            }
        }
        let placed = self.place(&staged);
        self.placed().extend(placed);
        let copies = copies.into_iter().filter(|(id, _)| taken.contains(id)).map(|(_, copy)| copy);
        self.logs.keep(client, copies.collect());
    }

    /// Puts content where it belongs. Returns the rows that are in their place.
    pub(crate) fn place(&self, staged: &[Staged]) -> Vec<(i64, Vec<u8>)> {
        if staged.is_empty() {
            return Vec::new();
        }
        let Placement { placed, is_incomplete } = self.content.place(staged);
        if is_incomplete {
            self.unplaced.store(true, Ordering::Relaxed);
        }
        placed
    }

    /// Confirmations of known documents; `client` may ask for them since its cursor from now on.
    pub fn known(&self, client: i64, ids: &[MessageId]) -> Result<Vec<Confirmation>, StoreError> {
        let rows: Vec<_> = self.store().rows(ids)?.into_iter().flatten().collect();
        self.confirm(&rows, Some(client))
    }

    /// Which of these documents have a verdict.
    pub fn has(&self, ids: &[MessageId]) -> Result<Vec<bool>, StoreError> {
        Ok(self.store().rows(ids)?.iter().map(Option::is_some).collect())
    }

    pub(crate) fn confirm(&self, rows: &[i64], client: Option<i64>) -> Result<Vec<Confirmation>, StoreError> {
        let sign = |verdicts| self.key.sign(self.destination, verdicts, now());
        let confirmations = self.store().confirm(rows, client, &sign)?;
        if let Err(error) = export_new(self.content(), self.store()) {
            log::error!("confirmations are stored, but cannot be written as files: {error}");
        }
        Ok(confirmations)
    }

    /// Says what was put in its place since the last commit, so that the next start finds nothing to do.
    pub fn finish(&self) -> Result<(), StoreError> {
        let placed = std::mem::take(&mut *self.placed());
        let noted = if placed.is_empty() { Ok(()) } else { self.store().note_placed(&placed) };
        if noted.is_err() {
            self.placed().extend(placed);
        }
        noted
    }

    fn placed(&self) -> MutexGuard<'_, Vec<(i64, Vec<u8>)>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file_failed(error: &io::Error, id: MessageId) -> Failed {
    let code = if is_full(error) { FailureCode::Full } else { FailureCode::Server };
    Failed::new(Some(id), code, format!("the server cannot store it: {error}; send it again later"))
}

fn store_failed(error: &StoreError) -> Failed {
    if matches!(error, StoreError::Revoked) {
        return Failed { is_revoked: true, ..Failed::new(None, FailureCode::Server, error.to_string()) };
    }
    log::error!("{error}");
    let code = if error.is_full() { FailureCode::Full } else { FailureCode::Server };
    Failed::new(None, code, format!("the server cannot store it: {error}; send it again later"))
}

#[cfg(test)]
mod tests;
