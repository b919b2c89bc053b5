//! Confirmations: what the destination said, who has to be told, and what becomes of the documents.

use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::ids::{MessageId, PeerKey};

use super::Tx;
use crate::change::{Applied, Free, Freeing};
use crate::error::{ChangeError, StoreError};
use crate::rows::*;
use crate::tables::{Table, Tables, key8, key16, number};

/// The row key of a destination's verdict on a document.
pub(crate) fn verdict_key(tables: &Tables, id: &MessageId, destination: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&tables.keys.prf(Table::Verdicts, &[id.as_bytes()]));
    key[16..].copy_from_slice(&destination.to_be_bytes());
    key
}

/// All verdicts on a document, by destination. A foreign destination can sign for any id; only that of the
/// document's own destination counts, and those of ids that are not here are only passed on.
pub(crate) fn verdicts_on(
    tables: &Tables,
    txn: &heed::RoTxn,
    id: &MessageId,
) -> Result<Vec<(u64, VerdictRow)>, StoreError> {
    let prefix = tables.keys.prf(Table::Verdicts, &[id.as_bytes()]);
    let rows = tables.rows_with_prefix::<VerdictRow>(txn, &prefix)?;
    rows.map(|row| row.map(|(key, row)| (number(key, 2), row))).collect()
}

impl Tx<'_> {
    pub(super) fn verdict(&self, id: &MessageId, destination: u64) -> Result<Option<VerdictRow>, StoreError> {
        self.get(&verdict_key(self.tables(), id, destination))
    }

    pub(super) fn verdicts_on(&self, id: &MessageId) -> Result<Vec<(u64, VerdictRow)>, StoreError> {
        verdicts_on(self.tables(), &self.txn, id)
    }

    pub(super) fn confirmation(
        &mut self,
        confirmation: &Confirmation,
        freeing: &Freeing,
        from: Option<&PeerKey>,
    ) -> Result<Applied, ChangeError> {
        let statement = &confirmation.statement;
        let destination = self.destination(&statement.destination())?;
        let mut news = Vec::new();
        for (id, verdict) in statement.verdicts() {
            let known = self.verdict(id, destination)?.and_then(|row| row.verdict());
            if known.is_none_or(|known| known.may_become(*verdict)) {
                news.push((*id, *verdict));
            }
        }
        if news.is_empty() {
            return Ok(Applied::Verdicts { new: false, changed: Vec::new() });
        }
        let from = match from {
            Some(key) => self.peer_or_new(key)?.0,
            None => 0,
        };
        let number = self.insert_confirmation(confirmation, destination)?;
        let mut changed = Vec::new();
        for (id, verdict) in news {
            let row = VerdictRow { verdict: u32::from(verdict.code()), confirmation: number };
            self.put(&verdict_key(self.tables(), &id, destination), &row)?;
            self.found(&id, destination)?;
            let Some((seq, row)) = self.find(&id)?.filter(|(_, row)| row.destination == destination) else {
                continue;
            };
            self.tell(seq, &row, number, from)?;
            self.settle(seq, row, verdict, freeing)?;
            changed.push((id, verdict));
        }
        Ok(Applied::Verdicts { new: true, changed })
    }

    fn insert_confirmation(
        &mut self,
        confirmation: &Confirmation,
        destination: u64,
    ) -> Result<u64, StoreError> {
        let index = self.prf(Table::ConfirmationIndex, &[confirmation.id().as_bytes()]);
        if let Some(ConfirmationIndexRow { seq }) = self.get(&index)? {
            return Ok(seq);
        }
        let seq = self.meta.next_confirmation;
        self.meta.next_confirmation += 1;
        let row = ConfirmationRow { encoded: confirmation.encode(), since: self.now, destination };
        self.put(&key8(seq), &row)?;
        self.put(&index, &ConfirmationIndexRow { seq })?;
        Ok(seq)
    }

    /// The confirmation is due to everybody who deposited or holds the document, except who brought it.
    fn tell(&mut self, seq: u64, row: &DocumentRow, number: u64, from: u64) -> Result<(), StoreError> {
        let mut peers: Vec<u64> =
            self.seconds::<DepositorRow>(seq)?.into_iter().map(|(peer, _)| peer).collect();
        for (peer, answer) in self.seconds::<AnswerRow>(seq)? {
            if answer.held {
                // A later verdict must reach it, too, and its answer is about to go.
                self.put(&key16(seq, peer), &DepositorRow {})?;
                peers.push(peer);
            }
        }
        peers.push(row.depositor);
        for peer in peers {
            if peer != 0 && peer != from {
                self.put(&key16(peer, number), &DueRow {})?;
            }
        }
        Ok(())
    }

    fn settle(
        &mut self,
        seq: u64,
        mut row: DocumentRow,
        verdict: Verdict,
        freeing: &Freeing,
    ) -> Result<(), StoreError> {
        self.leave_outbox(seq, &row)?;
        if row.received {
            return self.update(seq, &mut row, |row| {
                (row.state, row.verdict) = (RECEIVED, u32::from(verdict.code()));
            });
        }
        let free = freeing.on(verdict, &row.group);
        let dies = row.live && free == Free::Now;
        if dies {
            self.kill_body(seq, row.blob)?;
        }
        let now = self.now;
        self.update(seq, &mut row, |row| {
            row.state = CONFIRMED;
            row.verdict = u32::from(verdict.code());
            row.live &= !dies;
            row.set_free(free, now);
        })
    }

    pub(super) fn delivered(
        &mut self,
        peer: &PeerKey,
        confirmation: &MessageId,
    ) -> Result<Applied, ChangeError> {
        let index = self.prf(Table::ConfirmationIndex, &[confirmation.as_bytes()]);
        let Some(ConfirmationIndexRow { seq }) = self.get(&index)? else { return Ok(Applied::Done) };
        let Some((number, _)) = self.peer(peer)? else { return Ok(Applied::Done) };
        if self.remove(Table::Due, &key16(number, seq))?
            && let Some((_, row)) = self.peer(peer)?
        {
            row.delivered = row.delivered.saturating_add(1);
        }
        Ok(Applied::Done)
    }

    /// Forgets a confirmation, and documents of which nothing else is left.
    pub(crate) fn forget_confirmation(&mut self, seq: u64) -> Result<(), StoreError> {
        let Some(row) = self.get::<ConfirmationRow>(&key8(seq))? else { return Ok(()) };
        if let Some(confirmation) = row.confirmation() {
            for (id, _) in confirmation.statement.verdicts() {
                let key = verdict_key(self.tables(), id, row.destination);
                // A later confirmation may have taken the verdict over.
                if self.get::<VerdictRow>(&key)?.is_none_or(|verdict| verdict.confirmation != seq) {
                    continue;
                }
                self.remove(Table::Verdicts, &key)?;
                if let Some((document, held)) = self.find(id)?
                    && held.destination == row.destination
                    && !held.live
                {
                    self.remove_document(document, &held)?;
                }
            }
            let index = self.prf(Table::ConfirmationIndex, &[confirmation.id().as_bytes()]);
            self.remove(Table::ConfirmationIndex, &index)?;
        }
        for peer in 1..self.meta.next_peer {
            self.remove(Table::Due, &key16(peer, seq))?;
        }
        self.remove(Table::Confirmations, &key8(seq))?;
        Ok(())
    }
}
