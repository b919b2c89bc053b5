//! Applying changes: batches in one transaction each, where one bad change does not fail the others.

mod codes;
mod confirmations;
mod documents;
mod lost;
mod peers;
mod pieces;
mod retain;
mod tx;

pub(crate) use codes::code_key;
pub(crate) use confirmations::{verdict_key, verdicts_on};
pub(crate) use peers::{counts, setting_key, settles};
pub(crate) use pieces::partial_key;
pub(crate) use retain::collection_key;
pub(crate) use tx::Tx;

use std::sync::Arc;

use waypost_protocol::ids::{MessageId, PeerKey};

use crate::change::{Applied, Change, Free, NewDocument};
use crate::disk::{DiskSpace as _, SystemDisk};
use crate::error::{ChangeError, StoreError};
use crate::rows::{STORE_KEY, StoreRow};
use crate::{Inner, MAX_TRANSACTION, Store, Writing, random};

type Outcome = Result<Applied, ChangeError>;

/// A whole document above this size is written in pieces, over several transactions.
const LARGE: usize = 1 << 20;
/// At most so many changes in one transaction.
pub(crate) const MAX_CHANGES: usize = 1024;

impl Store {
    /// Makes the changes, in order, and answers each. When this returns, what was answered with `Ok` is flushed.
    ///
    /// A transaction takes [`MAX_TRANSACTION`] bytes of changes. When one fails as a whole (map or disk full), its
    /// changes are tried one by one. Whatever frees space may use the reserve.
    pub fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied, ChangeError>> {
        let mut writing = self.inner.writing();
        let mut outcomes = Vec::with_capacity(changes.len());
        let mut batch = Vec::new();
        let mut weight = 0;
        for change in changes {
            if is_large(&change) {
                self.run(&mut writing, &std::mem::take(&mut batch), &mut outcomes);
                weight = 0;
                outcomes.push(self.apply_large(&mut writing, change, None));
                continue;
            }
            if weight + change.weight() > MAX_TRANSACTION || batch.len() >= MAX_CHANGES {
                self.run(&mut writing, &std::mem::take(&mut batch), &mut outcomes);
                weight = 0;
            }
            weight += change.weight();
            batch.push(change);
        }
        self.run(&mut writing, &batch, &mut outcomes);
        outcomes
    }

    /// Makes one change.
    pub fn apply_one(&self, change: Change) -> Result<Applied, ChangeError> {
        let failed = || Err(StoreError::Database("a change got no answer".into()).into());
        self.apply(vec![change]).pop().unwrap_or_else(failed)
    }

    fn run(&self, writing: &mut Writing, batch: &[Change], outcomes: &mut Vec<Outcome>) {
        if batch.is_empty() {
            return;
        }
        match self.transact(writing, batch) {
            Ok(done) => outcomes.extend(done),
            Err(_) if batch.len() > 1 => {
                let mut failed = None;
                for change in batch {
                    // After a failure of the disk the rest would only wear it; what frees space may still help.
                    let outcome = match &failed {
                        Some(StoreError::Full(_)) if !change.is_growth() => self.run_one(writing, change),
                        Some(error) => Err(StoreError::clone(error).into()),
                        None => self.run_one(writing, change),
                    };
                    if let Err(ChangeError::Storage(error @ (StoreError::Full(_) | StoreError::Io(_)))) =
                        &outcome
                    {
                        failed = Some(error.clone());
                    }
                    outcomes.push(outcome);
                }
            }
            Err(error) => {
                outcomes.extend(batch.iter().map(|change| self.retry(writing, change, error.clone())))
            }
        }
    }

    fn run_one(&self, writing: &mut Writing, change: &Change) -> Outcome {
        match self.transact(writing, std::slice::from_ref(change)) {
            Ok(mut done) => done.pop().unwrap_or(Ok(Applied::Done)),
            Err(error) => self.retry(writing, change, error),
        }
    }

    /// Tries once more with the reserve given up, if that can help.
    fn retry(&self, writing: &mut Writing, change: &Change, error: StoreError) -> Outcome {
        let may_use_reserve = matches!(error, StoreError::Full(_)) && !change.is_growth();
        if !may_use_reserve || !self.inner.reserve.release() {
            return Err(error.into());
        }
        let mut done = self.transact(writing, std::slice::from_ref(change))?;
        done.pop().unwrap_or(Ok(Applied::Done))
    }

    /// One transaction. An error means that nothing of it was written.
    fn transact(&self, writing: &mut Writing, batch: &[Change]) -> Result<Vec<Outcome>, StoreError> {
        self.try_transact(writing, batch).map_err(|error| self.explained(error))
    }

    /// LMDB reports the short write that ends at a full disk as an input/output error.
    pub(crate) fn explained(&self, error: StoreError) -> StoreError {
        let enough = 2 * MAX_TRANSACTION as u64;
        match error {
            StoreError::Io(_) if SystemDisk.free(&self.inner.folder).is_ok_and(|free| free < enough) => {
                StoreError::Full("the disk")
            }
            other => other,
        }
    }

    fn try_transact(&self, writing: &mut Writing, batch: &[Change]) -> Result<Vec<Outcome>, StoreError> {
        let mut tx = Tx::begin(self, writing)?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for change in batch {
            match tx.change(change, Extra::default()) {
                // What was written of a change that failed half-way must not be committed.
                Err(ChangeError::Storage(error)) => return Err(error),
                outcome => outcomes.push(outcome),
            }
        }
        tx.commit()?;
        Ok(outcomes)
    }

    fn apply_large(&self, writing: &mut Writing, change: Change, received: Option<Free>) -> Outcome {
        match change {
            Change::Received { change, free } => self.apply_large(writing, *change, Some(free)),
            Change::Document(new) => {
                let NewDocument { document, header, age, depositor, draft, note } = *new;
                let extra = Extra { draft, note, received };
                let (description, header) = (document.description(), Arc::new(header));
                let outcome = self.pieces(writing, document.body(), extra, |offset, bytes| Change::Piece {
                    description,
                    header: header.clone(),
                    offset,
                    bytes,
                    age,
                    depositor,
                });
                if outcome.is_err() {
                    // Whoever has the whole document sends it whole again: what is stored of it is of no use.
                    self.give_up(writing, &description.id, depositor.as_ref());
                }
                outcome
            }
            Change::Piece { description, header, offset: start, bytes, age, depositor } => {
                let extra = Extra { received, ..Extra::default() };
                self.pieces(writing, &bytes, extra, |offset, bytes| Change::Piece {
                    description,
                    header: header.clone(),
                    offset: start.saturating_add(offset),
                    bytes,
                    age,
                    depositor,
                })
            }
            Change::OwnPiece { description, header, offset: start, bytes, draft, note } => {
                self.pieces(writing, &bytes, Extra::default(), |offset, bytes| Change::OwnPiece {
                    description,
                    header: header.clone(),
                    offset: start.saturating_add(offset),
                    bytes,
                    draft,
                    note: note.clone(),
                })
            }
            other => self.run_one(writing, &other),
        }
    }

    fn give_up(&self, writing: &mut Writing, id: &MessageId, depositor: Option<&PeerKey>) {
        let dropped = Tx::begin(self, writing).map_err(ChangeError::from).and_then(|mut tx| {
            tx.give_up(id, depositor)?;
            Ok(tx.commit()?)
        });
        if let Err(error) = dropped {
            log::debug!(error:%; "the rest of a document that was not stored stays until it is too old");
        }
    }

    fn pieces(
        &self,
        writing: &mut Writing,
        whole: &bytes::Bytes,
        extra: Extra,
        piece: impl Fn(u64, bytes::Bytes) -> Change,
    ) -> Outcome {
        let mut outcome = Ok(Applied::Done);
        let mut at = 0;
        while at < whole.len() {
            let end = whole.len().min(at + LARGE);
            let mut tx = Tx::begin(self, writing)?;
            outcome = tx.change(&piece(at as u64, whole.slice(at..end)), extra.clone());
            match &outcome {
                Err(ChangeError::Storage(error)) => return Err(self.explained(error.clone()).into()),
                _ => tx.commit().map_err(|error| self.explained(error))?,
            }
            if !matches!(outcome, Ok(Applied::Partial { .. })) {
                return outcome;
            }
            at = end;
        }
        outcome
    }
}

fn is_large(change: &Change) -> bool {
    match change {
        Change::Document(new) => new.document.body().len() > LARGE,
        Change::Piece { bytes, .. } | Change::OwnPiece { bytes, .. } => bytes.len() > LARGE,
        Change::Received { change, .. } => is_large(change),
        _ => false,
    }
}

/// What a document has beside what came with it.
#[derive(Clone, Default)]
pub(crate) struct Extra {
    pub(crate) draft: bool,
    pub(crate) note: Option<String>,
    /// It is for readers, and goes then.
    pub(crate) received: Option<Free>,
}

/// Writes the uptime down if at least `seconds` have passed since it was.
pub(crate) fn save_uptime(inner: &Inner, seconds: u64) -> Result<bool, StoreError> {
    let saved = |txn: &heed::RoTxn| -> Result<Option<StoreRow>, StoreError> {
        let row = inner.tables.get::<StoreRow>(txn, STORE_KEY)?;
        Ok(row.filter(|row| inner.uptime.now() >= row.uptime.saturating_add(seconds)))
    };
    if saved(&*inner.tables.read()?)?.is_none() {
        return Ok(false);
    }
    let mut txn = inner.tables.write()?;
    let Some(mut row) = saved(&txn)? else { return Ok(false) };
    row.set_uptime(inner.uptime.now(), inner.uptime.boot());
    inner.tables.put(&mut txn, &mut random()?, STORE_KEY, &row)?;
    txn.commit()?;
    Ok(true)
}
