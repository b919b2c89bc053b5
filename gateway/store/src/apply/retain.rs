//! Documents whose bodies are here by collection, and bodies that are kept for subscribers until others need the room.

use waypost_protocol::ids::GroupId;
use waypost_protocol::refusal::Reason;

use super::Tx;
use crate::admit;
use crate::error::{ChangeError, StoreError};
use crate::rows::*;
use crate::seal::Prf;
use crate::tables::{Table, Tables, key8, key16, key24, number};

/// At most so many bodies make way for one document.
const MAX_EVICTED: usize = 4096;

/// The first part of a collection's row keys.
pub(crate) fn collection_key(tables: &Tables, group: &[u8]) -> Prf {
    tables.keys.prf(Table::Collections, &[group])
}

impl Tx<'_> {
    /// Keeps a document's rows in the order of its collection, and among those that yield, in line with its own row.
    pub(super) fn place(
        &mut self,
        seq: u64,
        before: Option<&DocumentRow>,
        after: Option<&DocumentRow>,
    ) -> Result<(), StoreError> {
        let group = before.or(after).map_or(&[][..], |row| &row.group);
        let is_here = |row: Option<&DocumentRow>| row.is_some_and(|row| row.live);
        if is_here(before) != is_here(after) {
            let key = key24(&collection_key(self.tables(), group), seq);
            match is_here(after) {
                true => self.put(&key, &CollectionRow {})?,
                false => drop(self.remove(Table::Collections, &key)?),
            }
        }
        let is_retained = |row: Option<&DocumentRow>| row.is_some_and(DocumentRow::is_retained);
        if is_retained(before) != is_retained(after) {
            match is_retained(after) {
                true => self.put(&key8(seq), &RetainedRow {})?,
                false => drop(self.remove(Table::Retained, &key8(seq))?),
            }
        }
        Ok(())
    }

    /// Removes retained bodies, oldest first, until `cost` bytes fit. False where all of them together would not do;
    /// then none goes.
    pub(super) fn make_room(&mut self, cost: u64) -> Result<bool, ChangeError> {
        if self.room.saturating_add(self.meta.counts.retained_bytes) < cost {
            return Ok(false);
        }
        for _ in 0..MAX_EVICTED {
            if cost <= self.room {
                return Ok(true);
            }
            let oldest = self.tables().rows_after::<RetainedRow>(&self.txn, None)?.next().transpose()?;
            let Some(seq) = oldest.map(|(key, _)| number(key, 0)) else { break };
            self.evict(seq)?;
        }
        Ok(cost <= self.room)
    }

    fn evict(&mut self, seq: u64) -> Result<(), ChangeError> {
        let row = self.get::<DocumentRow>(&key8(seq))?;
        let Some((row, description)) =
            row.and_then(|row| row.description().zip(Some(row))).map(|(d, r)| (r, d))
        else {
            self.remove(Table::Retained, &key8(seq))?;
            return Ok(());
        };
        let was_received = row.state == RECEIVED;
        self.let_go(&description.id)?;
        // The sweeper would come too late: what comes in needs the room now.
        let pieces = self.tables().pieces(&self.txn, row.blob, 0).map_err(StoreError::from)?;
        let pieces: Vec<[u8; 16]> = pieces
            .map(|piece| piece.map(|(key, _)| key16(number(key, 0), number(key, 1))))
            .collect::<Result<_, _>>()
            .map_err(StoreError::from)?;
        for piece in &pieces {
            self.remove(Table::Pieces, piece)?;
        }
        self.remove(Table::Dead, &key8(row.blob))?;
        self.room = self.room.saturating_add(admit::cost(row.size).saturating_sub(admit::ROWS));
        let group = GroupId::from_slice(&row.group).map(|group| group.to_string()).unwrap_or_default();
        let reason = Reason::OverQuota;
        log::info!(document:% = description.id, collection = group.as_str(), received = was_received, reason:%; "a body that was kept for subscribers made room");
        Ok(())
    }
}
