//! Sweeping: what is over is removed in small transactions, so that no deletion ever takes long.

use std::ops::ControlFlow;

use waypost_protocol::ids::{MessageId, Seq};
use waypost_protocol::refusal::Reason;

use crate::apply::{Tx, save_uptime};
use crate::error::{ChangeError, StoreError};
use crate::rows::*;
use crate::seal::Prf;
use crate::tables::{Table, key8, number};
use crate::{Store, Writing};

/// At most so many confirmations are forgotten in one go: each may take 256 documents with it.
const CONFIRMATIONS: usize = 4;
/// A body of this node's own is written in one go: after so many seconds whoever began it is dead. Sealed anew it is
/// another document.
const OWN_PARTIAL: u64 = 3_600;
/// The uptime is written down this often, in seconds, where nothing else is written.
const SAVE_UPTIME: u64 = 600;

/// What one sweep has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Pieces of bodies whose key was gone.
    pub pieces: usize,
    /// Documents whose lifetime has passed.
    pub expired: usize,
    /// Bodies that were kept for a while after their confirmation.
    pub freed: usize,
    /// Bodies under way that nobody went on with.
    pub partials: usize,
    /// Confirmations, tombstones and codes that are too old.
    pub forgotten: usize,
    /// More is known to be left: call again soon.
    pub more: bool,
}

/// How far the passes over large tables have come.
#[derive(Default)]
pub(crate) struct Cursors {
    documents: Option<Seq>,
    tombstones: Option<Prf>,
    confirmations: Option<u64>,
}

#[derive(Default)]
struct Plan {
    pieces: Vec<[u8; 16]>,
    dead: Vec<u64>,
    expired: Vec<MessageId>,
    freed: Vec<MessageId>,
    partials: Vec<(Prf, PartialRow)>,
    tombstones: Vec<Prf>,
    confirmations: Vec<u64>,
    codes: Vec<Vec<u8>>,
    more: bool,
}

impl Store {
    /// Removes what is over, looking at about `rows` rows (1,000 is a good number; each costs a microsecond or two)
    /// and going on there with the next call. Writes only where there is something to do.
    ///
    /// Deleted and freed bodies take up room until their pieces are swept: call it after deletions and confirmations,
    /// and every few minutes.
    ///
    /// What has outlived its lifetime is not shown or sent from that second on; the sweep only clears it away.
    pub fn sweep(&self, rows: usize) -> Result<Swept, StoreError> {
        let mut writing = self.inner.writing();
        self.inner.tables.environment().clear_stale_readers()?;
        let plan = self.plan(&mut writing.sweep, rows.max(1))?;
        let swept = Swept {
            pieces: plan.pieces.len(),
            expired: plan.expired.len(),
            freed: plan.freed.len(),
            partials: plan.partials.len(),
            forgotten: plan.tombstones.len() + plan.confirmations.len() + plan.codes.len(),
            more: plan.more,
        };
        if (Swept { more: false, ..swept }) == Swept::default() && plan.dead.is_empty() {
            self.save_uptime()?;
        } else {
            match self.carry_out(&mut writing, &plan).map_err(|error| self.explained(error)) {
                Err(StoreError::Full(_)) if self.inner.reserve.release() => {
                    self.carry_out(&mut writing, &plan)?
                }
                done => done?,
            }
        }
        self.inner.reserve.restore(self.disk_free());
        Ok(swept)
    }

    /// Now and then; at once where the last transaction failed, which shows whether the next one would.
    fn save_uptime(&self) -> Result<(), StoreError> {
        let saved = save_uptime(&self.inner, if self.trouble().is_some() { 0 } else { SAVE_UPTIME });
        if saved != Ok(false) {
            self.note(saved.clone().map(drop));
        }
        saved.map(drop)
    }

    fn plan(&self, cursors: &mut Cursors, rows: usize) -> Result<Plan, StoreError> {
        let mut plan = Plan::default();
        let now = self.uptime();
        self.plan_pieces(&mut plan, rows)?;
        self.plan_documents(&mut plan, cursors, rows, now)?;
        self.plan_memories(&mut plan, cursors, rows, now)?;
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        let lifetime = self.inner.options.partial_lifetime.as_secs();
        for row in tables.rows_after::<PartialRow>(&txn, None)? {
            let (key, row) = row?;
            if let Ok(key) = Prf::try_from(key)
                && now.saturating_sub(row.touched) >= if row.depositor == 0 { OWN_PARTIAL } else { lifetime }
            {
                plan.partials.push((key, row));
            }
        }
        for row in tables.rows_after::<CodeRow>(&txn, None)? {
            let (key, row) = row?;
            if row.is_over(now) {
                plan.codes.push(key.to_vec());
            }
        }
        Ok(plan)
    }

    fn plan_pieces(&self, plan: &mut Plan, rows: usize) -> Result<(), StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        for row in tables.rows_after::<DeadRow>(&txn, None)? {
            let blob = number(row?.0, 0);
            for piece in tables.pieces(&txn, blob, 0)? {
                if plan.pieces.len() + plan.dead.len() >= rows {
                    plan.more = true;
                    return Ok(());
                }
                plan.pieces.extend(<[u8; 16]>::try_from(piece?.0));
            }
            plan.dead.push(blob);
        }
        Ok(())
    }

    fn plan_documents(
        &self,
        plan: &mut Plan,
        cursors: &mut Cursors,
        rows: usize,
        now: u64,
    ) -> Result<(), StoreError> {
        let counts = {
            let row = self.inner.tables.get::<StoreRow>(&*self.inner.tables.read()?, STORE_KEY)?;
            row.map(|row| row.counts).unwrap_or_default()
        };
        if counts.timed == 0 {
            return Ok(());
        }
        let (mut seen, mut last) = (0, None);
        self.scan(cursors.documents, |_, seq, row| {
            seen += 1;
            last = Some(Seq(seq));
            if let Some(description) = row.description() {
                if row.is_expired(now) {
                    plan.expired.push(description.id);
                } else if row.live && row.free_at > 0 && now >= row.free_at {
                    plan.freed.push(description.id);
                }
            }
            Ok(if seen < rows { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        // At the end it begins anew.
        cursors.documents = last.filter(|_| seen >= rows);
        Ok(())
    }

    fn plan_memories(
        &self,
        plan: &mut Plan,
        cursors: &mut Cursors,
        rows: usize,
        now: u64,
    ) -> Result<(), StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        let remember = self.inner.options.remember.as_secs();
        let too_old = |since: u64| now.saturating_sub(since) >= remember;
        if now < remember {
            return Ok(());
        }
        let mut last = None;
        let after = cursors.tombstones.take();
        for row in tables.rows_after::<TombstoneRow>(&txn, after.as_ref().map(|key| &key[..]))?.take(rows) {
            let (key, row) = row?;
            last = Prf::try_from(key).ok();
            plan.tombstones.extend(last.filter(|_| too_old(row.since)));
        }
        cursors.tombstones = last;
        let after = cursors.confirmations.take().map(key8);
        let old = tables.rows_after::<ConfirmationRow>(&txn, after.as_ref().map(|key| &key[..]))?;
        for row in old.take(rows) {
            let (key, row) = row?;
            // They are in order of arrival.
            if !too_old(row.since) {
                break;
            }
            if plan.confirmations.len() >= CONFIRMATIONS {
                plan.more = true;
                break;
            }
            cursors.confirmations = Some(number(key, 0));
            if !self.proves_a_body(&txn, &row)? {
                plan.confirmations.push(number(key, 0));
            }
        }
        Ok(())
    }

    /// Whether a document that it names still has its body here: then it stays, however old.
    fn proves_a_body(&self, txn: &heed::RoTxn, row: &ConfirmationRow) -> Result<bool, StoreError> {
        let Some(confirmation) = row.confirmation() else { return Ok(false) };
        for (id, _) in confirmation.statement.verdicts() {
            if self.find(txn, id)?.is_some_and(|(_, document)| document.live) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn carry_out(&self, writing: &mut Writing, plan: &Plan) -> Result<(), StoreError> {
        let mut tx = Tx::begin(self, writing)?;
        tx.remove_dead(&plan.pieces, &plan.dead)?;
        for id in &plan.expired {
            gone_is_fine(tx.delete(id, Reason::Expired))?;
        }
        for id in &plan.freed {
            gone_is_fine(tx.let_go(id))?;
        }
        for (key, row) in &plan.partials {
            tx.expire_partial(key, row)?;
        }
        for key in &plan.tombstones {
            tx.remove(Table::Tombstones, key)?;
        }
        for seq in &plan.confirmations {
            tx.forget_confirmation(*seq)?;
        }
        for key in &plan.codes {
            tx.remove(Table::Codes, key)?;
        }
        tx.commit()
    }
}

/// Another process may have been quicker.
fn gone_is_fine<T>(result: Result<T, ChangeError>) -> Result<(), StoreError> {
    match result {
        Err(ChangeError::Storage(error)) => Err(error),
        _ => Ok(()),
    }
}

impl Tx<'_> {
    fn remove_dead(&mut self, pieces: &[[u8; 16]], blobs: &[u64]) -> Result<(), StoreError> {
        for key in pieces {
            self.remove(Table::Pieces, key)?;
        }
        for blob in blobs {
            self.remove(Table::Dead, &key8(*blob))?;
        }
        Ok(())
    }

    /// Gives a body under way up, unless it was gone on with in the meantime.
    fn expire_partial(&mut self, key: &Prf, planned: &PartialRow) -> Result<(), StoreError> {
        match self.get::<PartialRow>(key)? {
            Some(row) if row == *planned => self.drop_partial(key, &row),
            _ => Ok(()),
        }
    }
}
