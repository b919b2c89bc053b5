//! What the sync engine asks: answered from what is committed.

use std::collections::BTreeSet;

use bytes::Bytes;
use heed::RoTxn;
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::ids::{Fingerprint, MessageId, PeerKey, Seq};
use waypost_protocol::refusal::Reason;
use waypost_protocol::sync::{Holdings, HoldingsError, Outgoing, Page, Partial, Recipient, Standing};

use crate::Store;
use crate::apply::{collection_key, counts, partial_key, settles, verdicts_on};
use crate::error::StoreError;
use crate::read::description;
use crate::rows::*;
use crate::tables::{Table, damaged, key8, number};

/// So many documents of wanted collections are looked at for one page.
const LOOK: usize = 1024;

impl Holdings for Store {
    /// Where no destination is given, an id that is not here is answered with whatever confirmation names it,
    /// whichever destination signed it: the peer knows its document's destination and judges. A document itself is only
    /// ever taken as confirmed by its own destination ([`crate::Change::Document`]).
    fn standing(&self, id: &MessageId, destination: Option<&Fingerprint>) -> Result<Standing, HoldingsError> {
        Ok(self.standing_of(id, destination)?)
    }

    fn lost(&self, from: &PeerKey, limit: usize) -> Result<Vec<MessageId>, HoldingsError> {
        Ok(self.lost_of(from, limit)?)
    }

    fn partial(&self, id: &MessageId, from: &PeerKey) -> Result<Option<Partial>, HoldingsError> {
        Ok(self.partial_of(id, from)?)
    }

    fn outgoing(
        &self,
        to: &Recipient,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<Outgoing>, HoldingsError> {
        if !self.inner.options.forwards || limit == 0 {
            return Ok(Vec::new());
        }
        Ok(self.outgoing_to(to, after, limit)?)
    }

    fn outgoing_again(&self, to: &Recipient, id: &MessageId) -> Result<Option<Outgoing>, HoldingsError> {
        Ok(self.again_to(to, id)?)
    }

    fn subscribed(&self, to: &Recipient, after: Option<Seq>, limit: usize) -> Result<Page, HoldingsError> {
        Ok(self.subscribed_by(to, after, limit)?)
    }

    fn is_missing(&self, id: &MessageId) -> Result<bool, HoldingsError> {
        Ok(self.was_never_here(id)?)
    }

    fn read_body(&self, seq: Seq, offset: u64, len: usize) -> Result<Bytes, HoldingsError> {
        let txn = self.inner.tables.read()?;
        Ok(self.body(&txn, seq.0, offset, len)?)
    }

    fn confirmations_due(
        &self,
        to: &PeerKey,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<(Seq, Confirmation)>, HoldingsError> {
        Ok(self.due(to, after, limit)?)
    }
}

impl Store {
    fn standing_of(&self, id: &MessageId, destination: Option<&Fingerprint>) -> Result<Standing, StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        let mut verdicts = verdicts_on(tables, &txn, id)?;
        if let Some((_, row)) = self.find(&txn, id)? {
            // What came to be read is held, whatever was said of it.
            let is_read = row.state == RECEIVED && row.live;
            if row.verdict().is_some() && !is_read {
                let own = verdicts.iter().find(|(destination, _)| *destination == row.destination);
                let confirmation = own.map(|(_, verdict)| self.confirmation_at(&txn, verdict.confirmation));
                if let Some(confirmation) = confirmation.transpose()?.flatten() {
                    return Ok(Standing::Confirmed(Box::new(confirmation)));
                }
            }
            return Ok(match (is_read || row.verdict().is_none()) && row.is_expired(self.uptime()) {
                true => Standing::Gone(Reason::Expired),
                false => Standing::Held,
            });
        }
        if let Some(destination) = destination {
            let own = self.destination_number(&txn, destination)?;
            verdicts.retain(|(number, _)| Some(*number) == own);
        }
        for (_, verdict) in verdicts {
            if let Some(confirmation) = self.confirmation_at(&txn, verdict.confirmation)? {
                return Ok(Standing::Confirmed(Box::new(confirmation)));
            }
        }
        let tombstone = tables.keys.prf(Table::Tombstones, &[id.as_bytes()]);
        let gone = tables.get::<TombstoneRow>(&txn, &tombstone)?;
        Ok(gone.map_or(Standing::Unknown, |row| Standing::Gone(Reason::from_code(row.reason))))
    }

    fn partial_of(&self, id: &MessageId, from: &PeerKey) -> Result<Option<Partial>, StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        let Some((peer, _)) = self.peer_row(&txn, from)? else { return Ok(None) };
        match tables.get::<PartialRow>(&txn, &partial_key(tables, id, peer)) {
            // It will be begun anew.
            Err(StoreError::Damaged { .. }) => Ok(None),
            row => Ok(row?.and_then(|row| Some(Partial { committed: row.committed, header: row.header()? }))),
        }
    }

    /// The outboxes of the destinations that `to` serves, merged in order of arrival.
    fn outgoing_to(
        &self,
        to: &Recipient,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<Outgoing>, StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        // What another store of that peer said counts for nothing.
        let peer = self.peer_row(&txn, &to.key)?.filter(|(_, row)| row.store() == Some(to.store));
        let now = self.uptime();
        let mut destinations = BTreeSet::new();
        for fingerprint in &to.serves {
            destinations.extend(self.destination_number(&txn, fingerprint)?);
        }
        let mut boxes = Vec::new();
        for destination in destinations {
            let mut rows = tables.rows_of::<OutboxRow>(&txn, destination, after.map(|seq| seq.0))?;
            let first = rows.next().transpose()?.map(|(key, row)| (number(key, 1), row));
            boxes.push((first, rows));
        }
        let mut outgoing = Vec::new();
        while outgoing.len() < limit {
            let next = boxes.iter_mut().filter(|(head, _)| head.is_some());
            let Some((head, rest)) = next.min_by_key(|(head, _)| head.map(|(seq, _)| seq)) else { break };
            let Some((seq, outbox)) = head.take() else { break };
            *head = rest.next().transpose()?.map(|(key, row)| (number(key, 1), row));
            let Some(others) = self.others_hold(&txn, seq, peer.as_ref())? else { continue };
            let Some(row) = self.undamaged_row(&txn, seq)? else { continue };
            if !may_go(&row, to, peer.as_ref(), now) {
                continue;
            }
            outgoing.push(self.outgoing_row(&txn, seq, &row, others || outbox.attempts > 0)?);
        }
        Ok(outgoing)
    }

    /// A document that a peer asks for, although its store may have acknowledged it.
    fn again_to(&self, to: &Recipient, id: &MessageId) -> Result<Option<Outgoing>, StoreError> {
        let txn = self.inner.tables.read()?;
        let peer = self.peer_row(&txn, &to.key)?;
        let Some((seq, row)) = self.find(&txn, id)? else { return Ok(None) };
        let served = row.header().is_some_and(|header| to.serves.contains(&header.destination));
        let carried = self.inner.options.forwards && row.state == WAITING && served;
        let wanted = to.wants.iter().any(|group| group.as_bytes() == row.group) && is_for_subscribers(&row);
        if !(carried || wanted) || !may_go(&row, to, peer.as_ref(), self.uptime()) {
            return Ok(None);
        }
        self.outgoing_row(&txn, seq, &row, false).map(Some)
    }

    /// The wanted collections, merged in order of arrival.
    fn subscribed_by(&self, to: &Recipient, after: Option<Seq>, limit: usize) -> Result<Page, StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        // What another store of that peer said, or brought, counts for nothing.
        let peer = self.peer_row(&txn, &to.key)?.filter(|(_, row)| row.store() == Some(to.store));
        let (now, after) = (self.uptime(), after.map_or(0, |seq| seq.0));
        let wants: BTreeSet<_> =
            to.wants.iter().map(|group| collection_key(tables, group.as_bytes())).collect();
        let mut collections = Vec::new();
        for key in &wants {
            let mut rows = tables.rows_under::<CollectionRow>(&txn, key, after)?;
            let first = rows.next().transpose()?.map(|(key, _)| number(key, 2));
            collections.push((first, rows));
        }
        let mut page = Page::default();
        for looked in 0.. {
            let next =
                collections.iter_mut().filter(|(head, _)| head.is_some()).min_by_key(|(head, _)| *head);
            let Some((Some(seq), rest)) = next.map(|(head, rest)| (head.take(), (head, rest))) else { break };
            if looked >= LOOK || page.documents.len() >= limit {
                page.more = true;
                break;
            }
            *rest.0 = rest.1.next().transpose()?.map(|(key, _)| number(key, 2));
            page.seen = Some(Seq(seq));
            let Some(row) = self.undamaged_row(&txn, seq)? else { continue };
            if !is_for_subscribers(&row)
                || !may_go(&row, to, peer.as_ref(), now)
                || self.others_hold(&txn, seq, peer.as_ref())?.is_none()
            {
                continue;
            }
            page.documents.push(self.outgoing_row(&txn, seq, &row, true)?);
        }
        Ok(page)
    }

    fn was_never_here(&self, id: &MessageId) -> Result<bool, StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        let tombstone = tables.keys.prf(Table::Tombstones, &[id.as_bytes()]);
        Ok(self.find(&txn, id)?.is_none() && tables.get::<TombstoneRow>(&txn, &tombstone)?.is_none())
    }

    fn outgoing_row(
        &self,
        txn: &RoTxn,
        seq: u64,
        row: &DocumentRow,
        maybe_held: bool,
    ) -> Result<Outgoing, StoreError> {
        let tables = &self.inner.tables;
        let destination = tables.get::<DestinationRow>(txn, &key8(row.destination))?;
        let destination = destination.and_then(|row| Fingerprint::from_slice(&row.fingerprint).ok());
        Ok(Outgoing {
            seq: Seq(seq),
            description: description(seq, row)?,
            destination: destination.ok_or_else(|| damaged(Table::Destinations, &key8(row.destination)))?,
            age: (row.lifetime > 0).then(|| row.age_at(self.uptime())),
            maybe_held,
        })
    }

    fn lost_of(&self, from: &PeerKey, limit: usize) -> Result<Vec<MessageId>, StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        let Some((peer, _)) = self.peer_row(&txn, from)? else { return Ok(Vec::new()) };
        let mut lost = Vec::new();
        for row in tables.rows_with_prefix::<LostRow>(&txn, &key8(peer))?.take(limit) {
            lost.extend(row?.1.id());
        }
        Ok(lost)
    }

    /// `None` where `peer` has settled the document; else whether any other peer's store holds it.
    fn others_hold(
        &self,
        txn: &RoTxn,
        seq: u64,
        peer: Option<&(u64, PeerRow)>,
    ) -> Result<Option<bool>, StoreError> {
        let mut others = false;
        for answer in self.inner.tables.rows_of::<AnswerRow>(txn, seq, None)? {
            let (key, answer) = answer?;
            match peer.filter(|(known, _)| *known == number(key, 1)) {
                Some((_, row)) if counts(&answer, row) && settles(&answer) => return Ok(None),
                Some(_) => {}
                None => others |= answer.held,
            }
        }
        Ok(Some(others))
    }

    fn due(
        &self,
        to: &PeerKey,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<(Seq, Confirmation)>, StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        let Some((peer, _)) = self.peer_row(&txn, to)? else { return Ok(Vec::new()) };
        let mut due = Vec::new();
        for row in tables.rows_of::<DueRow>(&txn, peer, after.map(|seq| seq.0))? {
            if due.len() >= limit {
                break;
            }
            let seq = number(row?.0, 1);
            match self.confirmation_at(&txn, seq) {
                Ok(confirmation) => due.extend(confirmation.map(|confirmation| (Seq(seq), confirmation))),
                Err(error @ StoreError::Damaged { .. }) => {
                    log::error!(error:%; "passing over a confirmation")
                }
                Err(error) => return Err(error),
            }
        }
        Ok(due)
    }
}

/// Whether subscribers may have it: not a draft, and not what its destination never wanted.
fn is_for_subscribers(row: &DocumentRow) -> bool {
    row.state != DRAFT && !matches!(row.verdict(), Some(Verdict::Rejected(_)))
}

/// Whether the document may be sent to that peer at all.
fn may_go(row: &DocumentRow, to: &Recipient, peer: Option<&(u64, PeerRow)>, now: u64) -> bool {
    let brought_it = peer.is_some_and(|(number, _)| row.depositor == *number);
    !brought_it && row.size <= to.max_document && row.live && !row.is_expired(now)
}
