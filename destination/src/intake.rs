//! Taking documents in: judged one by one, committed in groups, confirmed once per batch.
//!
//! The order is what makes it safe to lose power between any two steps. Opened content lies whole and flushed in
//! `tmp/` before the row that says so is committed; the row names that file; then one atomic rename puts it where it
//! belongs, once; then the verdict is signed. [`Intake::recover`] goes on from wherever a crash came.

mod resumed;

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::unistd::syncfs;
use waypost_openpgp::SecretKey;
use waypost_protocol::api::FailureCode;
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::ids::{Fingerprint, MessageId};

use crate::clock::now;
use crate::confirmations::Exporter;
use crate::durable::{is_full, sync_folder};
use crate::home::Home;
use crate::inbox;
use crate::judge::{Failed, Judge, Outcome};
use crate::partials::Partials;
use crate::store::{NewDocument, Staged, Store, StoreError};

pub use resumed::Advance;

/// Documents that share one flush of the disk.
const GROUP_DOCUMENTS: usize = 64;
/// Bytes after which they are flushed anyway.
const GROUP_BYTES: u64 = 4 << 20;
/// Files that are flushed at a time: file systems join such flushes.
const FLUSHERS: usize = 8;
/// What is read and thrown away of a batch that is over its limits, so that the client hears the answer, in bytes.
const DRAIN: u64 = 64 << 20;

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

/// How large a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Documents.
    pub documents: u32,
    /// Bytes, lengths included.
    pub bytes: u64,
}

/// What came of an upload.
#[derive(Debug, Default)]
pub struct Upload {
    /// Signed verdicts, each once.
    pub confirmations: Vec<Confirmation>,
    /// Documents without a verdict, by their place in the batch.
    pub failures: Vec<(u32, Failed)>,
}

/// Why the server cannot start taking documents.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or folder.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
}

/// Takes documents in, for one destination. Blocking; shared between threads.
pub struct Intake {
    judge: Judge,
    store: Mutex<Store>,
    key: SecretKey,
    destination: Fingerprint,
    exporter: Exporter,
    home: Home,
    /// Rows whose files are in their place, which the next commit will say.
    placed: Mutex<Vec<(i64, Vec<u8>)>>,
    /// A file could not be put in its place; to be tried again.
    unplaced: AtomicBool,
    partials: Arc<Partials>,
}

impl Intake {
    /// Opens the home's store. [`Intake::recover`] comes next.
    pub fn open(home: &Home) -> Result<Self, IntakeError> {
        let folder = home.partials_folder();
        Ok(Intake {
            judge: home.judge(home.key().clone()),
            store: Mutex::new(Store::open(&home.store_file())?),
            key: home.key().clone(),
            destination: home.destination(),
            exporter: Exporter::new(&home.confirmations_folder()),
            home: home.clone(),
            placed: Mutex::new(Vec::new()),
            unplaced: AtomicBool::new(false),
            partials: Arc::new(
                Partials::open(&folder).map_err(|error| IntakeError::File { path: folder, error })?,
            ),
        })
    }

    /// The store, for questions.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        // A panic while it was locked left a transaction that was rolled back.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uploads that go on later.
    pub fn partials(&self) -> &Arc<Partials> {
        &self.partials
    }

    /// Goes on where a crash came: puts opened files in their place, signs verdicts that no confirmation names,
    /// writes confirmations that are no files yet. `sweep` also removes temporary files that no row names, which no
    /// other process may be writing.
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
        self.exporter.export_new(&mut self.store())?;
        if let Err(error) = self.partials.sweep() {
            log::warn!("old unfinished uploads cannot be removed: {error}");
        }
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
        let folder = self.home.temporary_folder();
        let file = |error| IntakeError::File { path: folder.clone(), error };
        let known: HashSet<_> = self.store().unplaced()?.into_iter().map(|staged| staged.staged).collect();
        for entry in fs::read_dir(&folder).map_err(file)? {
            let entry = entry.map_err(file)?;
            if entry.file_name().to_str().is_none_or(|name| !known.contains(name)) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
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
        if self.store().row(&id).is_ok_and(|row| row.is_some()) {
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

    /// Takes a stream of documents, each after its length as a big-endian u32, and confirms them when it ends. One
    /// bad document holds back no other. An error is the stream's; what had come by then is stored and confirmed,
    /// and asking again gives the confirmation.
    pub fn batch(&self, client: i64, source: &mut impl Incoming, limits: BatchLimits) -> io::Result<Upload> {
        if self.unplaced.swap(false, Ordering::Relaxed)
            && let Err(error) = self.place_left_over()
        {
            log::error!("documents that are stored cannot be put into the inbox yet: {error}");
        }
        let mut batch = Batch::default();
        let read = self.read_batch(client, source, limits, &mut batch);
        self.flush(client, &mut batch);
        let confirmations = self.confirm(&batch.rows, Some(client));
        read?;
        let confirmations = confirmations.unwrap_or_else(|error| {
            let failed = store_failed(&error);
            batch.failures.extend((0..batch.count).map(|index| (index, failed.clone())));
            Vec::new()
        });
        batch.failures.sort_by_key(|(index, _)| *index);
        batch.failures.dedup_by_key(|(index, _)| *index);
        Ok(Upload { confirmations, failures: batch.failures })
    }

    fn read_batch(
        &self,
        client: i64,
        source: &mut impl Incoming,
        limits: BatchLimits,
        batch: &mut Batch,
    ) -> io::Result<()> {
        let mut bytes = 0u64;
        loop {
            if !batch.group.is_empty() && source.is_idle() {
                self.flush(client, batch);
            }
            let mut prefix = [0; 4];
            let index = batch.count;
            match read_up_to(source, &mut prefix)? {
                0 => return Ok(()),
                4 => {}
                _ => {
                    batch.fail(index, FailureCode::Malformed, "the batch ends within a length");
                    return Ok(());
                }
            }
            batch.count += 1;
            let length = u64::from(u32::from_be_bytes(prefix));
            bytes += length + 4;
            if batch.count > limits.documents || bytes > limits.bytes {
                let detail = format!(
                    "the batch has more than {} documents or {} bytes; send the rest in another",
                    limits.documents, limits.bytes
                );
                batch.fail(index, FailureCode::Full, detail);
                io::copy(&mut source.take(DRAIN), &mut io::sink())?;
                return Ok(());
            }
            let outcome = match length > self.readable() {
                true => skip(source, length).map(|()| {
                    let most = self.judge.limits().max_document;
                    let detail = format!("{length} bytes, at most {most} are taken");
                    Outcome::Failed(Failed::new(None, FailureCode::Malformed, detail))
                }),
                false => self.judge.judge(source, length),
            };
            match outcome {
                Ok(Outcome::Judged(document)) => {
                    batch.bytes += document.size;
                    batch.group.push((index, document));
                }
                Ok(Outcome::Failed(failed)) => batch.failures.push((index, failed)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    batch.fail(index, FailureCode::Malformed, "the batch ends within this document");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            if batch.group.len() >= GROUP_DOCUMENTS || batch.bytes >= GROUP_BYTES {
                self.flush(client, batch);
            }
        }
    }

    /// Makes a group of judged documents durable, and puts their files in their place.
    fn flush(&self, client: i64, batch: &mut Batch) {
        let group = std::mem::take(&mut batch.group);
        batch.bytes = 0;
        if group.is_empty() {
            return;
        }
        let faults = self.sync_staged(&group);
        let mut durable = Vec::with_capacity(group.len());
        for ((index, document), fault) in group.into_iter().zip(faults) {
            match fault {
                None => durable.push((index, document)),
                Some(error) => {
                    document.staged.iter().for_each(|staged| self.judge.discard(staged));
                    batch.failures.push((index, file_failed(&error, document.id)));
                }
            }
        }
        let documents: Vec<NewDocument> = durable.iter().map(|(_, document)| document.clone()).collect();
        let placed = std::mem::take(&mut *self.placed());
        let committed = self.store().commit(client, &documents, &placed, now());
        let rows = match committed {
            Ok(rows) => rows,
            Err(error) => {
                // The files stay: whether the rows are there is only known after the next start.
                self.placed().extend(placed);
                let failed = store_failed(&error);
                let all = durable
                    .into_iter()
                    .map(|(index, document)| (index, Failed { id: Some(document.id), ..failed.clone() }));
                return batch.failures.extend(all);
            }
        };
        let mut staged = Vec::new();
        for ((_, document), (seq, is_new)) in durable.into_iter().zip(rows) {
            batch.rows.push(seq);
            let NewDocument { id, verdict, collection, name, staged: Some(file), .. } = document else {
                continue;
            };
            match is_new {
                true => {
                    let collection = collection.unwrap_or_default();
                    staged.push(Staged { seq, id, verdict, collection, name, staged: file });
                }
                false => self.judge.discard(&file),
            }
        }
        let placed = self.place(&staged);
        self.placed().extend(placed);
    }

    /// Flushes files, several at a time, then their folder. Returns what went wrong with each.
    fn sync_staged(&self, group: &[(u32, NewDocument)]) -> Vec<Option<io::Error>> {
        let folder = self.home.temporary_folder();
        let files: Vec<_> = group.iter().map(|(_, document)| document.staged.as_deref()).collect();
        let mut faults = sync_files(&folder, &files);
        if let Err(error) = sync_folder(&folder) {
            let kind = error.kind();
            faults.iter_mut().for_each(|fault| *fault = Some(kind.into()));
        }
        faults
    }

    /// Puts files where they belong, and flushes the folders. Returns the rows that are in their place.
    pub(crate) fn place(&self, staged: &[Staged]) -> Vec<(i64, Vec<u8>)> {
        let mut placed = Vec::with_capacity(staged.len());
        let mut folders = BTreeSet::from([self.home.temporary_folder()]);
        let mut moved_before = false;
        for row in staged {
            match self.place_one(row) {
                Ok(found) => {
                    moved_before |= found.is_none();
                    let path = found.as_ref().map(|found| found.path.as_os_str().as_encoded_bytes().to_vec());
                    folders.extend(found.into_iter().flat_map(|found| found.folders));
                    placed.push((row.seq, path.unwrap_or_default()));
                }
                Err(error) => {
                    self.unplaced.store(true, Ordering::Relaxed);
                    log::error!(
                        "document {} is stored, but cannot be put into the inbox yet: {error}",
                        row.id
                    );
                }
            }
        }
        let inbox = self.home.inbox_folder();
        // Whoever moved them may not have come to flushing; where they are now is not known, so everything is.
        let all = if moved_before { File::open(&inbox).and_then(|file| Ok(syncfs(&file)?)) } else { Ok(()) };
        let flushed = folders.iter().map(|folder| (folder, sync_folder(folder))).chain([(&inbox, all)]);
        for (folder, result) in flushed {
            if let Err(error) = result {
                // Not noted as placed, so that the next start looks again.
                log::error!("{}: {error}", folder.display());
                self.unplaced.store(true, Ordering::Relaxed);
                return Vec::new();
            }
        }
        placed
    }

    /// `None` where it had been put there before.
    fn place_one(&self, row: &Staged) -> io::Result<Option<inbox::Placed>> {
        let from = self.home.temporary_folder();
        if !from.join(&row.staged).try_exists()? {
            return Ok(None);
        }
        if row.verdict != Verdict::Held {
            let inbox = self.home.inbox_folder();
            let name = row.name.as_deref();
            return match inbox::place(&inbox, &from, &row.staged, &row.collection, name, &row.id) {
                // Another thread was faster.
                Err(_) if !from.join(&row.staged).try_exists()? => Ok(None),
                other => other.map(Some),
            };
        }
        let path = self.home.held_file(&row.id);
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        fs::create_dir_all(&folder)?;
        fs::rename(from.join(&row.staged), &path)?;
        Ok(Some(inbox::Placed { path, folders: vec![folder, self.home.held_folder()] }))
    }

    /// Confirmations of known documents; `client` may ask for them since its cursor from now on.
    pub fn known(&self, client: i64, ids: &[MessageId]) -> Result<Vec<Confirmation>, StoreError> {
        let rows =
            ids.iter().filter_map(|id| self.store().row(id).transpose()).collect::<Result<Vec<_>, _>>()?;
        self.confirm(&rows, Some(client))
    }

    /// Which of these documents have a verdict.
    pub fn has(&self, ids: &[MessageId]) -> Result<Vec<bool>, StoreError> {
        let store = self.store();
        ids.iter().map(|id| Ok(store.row(id)?.is_some())).collect()
    }

    pub(crate) fn confirm(&self, rows: &[i64], client: Option<i64>) -> Result<Vec<Confirmation>, StoreError> {
        let mut store = self.store();
        let confirmations =
            store.confirm(rows, client, |verdicts| self.key.sign(self.destination, verdicts, now()))?;
        if let Err(error) = self.exporter.export_new(&mut store) {
            log::error!("confirmations are stored, but cannot be written as files: {error}");
        }
        Ok(confirmations)
    }

    /// Says what was put in its place since the last commit, so that the next start finds nothing to do.
    pub fn finish(&self) -> Result<(), StoreError> {
        let placed = std::mem::take(&mut *self.placed());
        self.store().note_placed(&placed)
    }

    fn placed(&self) -> MutexGuard<'_, Vec<(i64, Vec<u8>)>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch under way.
#[derive(Default)]
struct Batch {
    count: u32,
    bytes: u64,
    group: Vec<(u32, NewDocument)>,
    rows: Vec<i64>,
    failures: Vec<(u32, Failed)>,
}

impl Batch {
    fn fail(&mut self, index: u32, code: FailureCode, detail: impl Into<String>) {
        self.failures.push((index, Failed::new(None, code, detail)));
    }
}

/// Flushes the named files of a folder, several at a time.
pub(crate) fn sync_files(folder: &Path, files: &[Option<&str>]) -> Vec<Option<io::Error>> {
    let next = AtomicUsize::new(0);
    let faults: Vec<_> = files.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(name), Some(fault)) = (files.get(at), faults.get(at)) else { break };
            let Some(name) = name else { continue };
            let result = File::open(folder.join(name)).and_then(|file| file.sync_all());
            *fault.lock().unwrap_or_else(PoisonError::into_inner) = result.err();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..FLUSHERS.min(files.len()) {
            scope.spawn(work);
        }
        work();
    });
    faults.into_iter().map(|fault| fault.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

fn read_up_to(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn skip(source: &mut impl Read, length: u64) -> io::Result<()> {
    match io::copy(&mut source.take(length), &mut io::sink())? {
        read if read == length => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn file_failed(error: &io::Error, id: MessageId) -> Failed {
    let code = if is_full(error) { FailureCode::Full } else { FailureCode::Server };
    Failed::new(Some(id), code, format!("the server cannot store it: {error}; send it again later"))
}

fn store_failed(error: &StoreError) -> Failed {
    log::error!("{error}");
    let code = if error.is_full() { FailureCode::Full } else { FailureCode::Server };
    Failed::new(None, code, format!("the server cannot store it: {error}; send it again later"))
}

#[cfg(test)]
mod tests;
