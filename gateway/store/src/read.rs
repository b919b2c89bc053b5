//! Reading for programs and people: documents, the outbox, peers, confirmations, settings. Reads see what is
//! committed, and each takes a short transaction of its own, so that no reader grows old.

use std::collections::HashMap;
use std::ops::ControlFlow;

use heed::RoTxn;
use waypost_protocol::advertising::AdvertisingKey;
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::document::Description;
use waypost_protocol::envelope::Header;
use waypost_protocol::ids::{Fingerprint, GroupId, MessageId, PeerKey, Seq, StoreId};
use waypost_protocol::refusal::Reason;
use waypost_protocol::time::UnixTime;

use crate::apply::{counts, setting_key, verdict_key};
use crate::change::PeerClass;
use crate::error::StoreError;
use crate::rows::*;
use crate::tables::{Table, damaged, key8, number};
use crate::{Store, body};

/// So many rows are read in one transaction.
const SCAN: usize = 1024;

/// Where a document stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Kept back.
    Draft,
    /// On its way to its destination.
    Waiting,
    /// The destination has spoken.
    Confirmed(Verdict),
    /// It came for readers, here or elsewhere, and need not get to its destination; what that has said of it.
    Received(Option<Verdict>),
}

/// A document, as people are told of it.
#[derive(Clone, PartialEq, Eq)]
pub struct DocumentEntry {
    /// Its place in the order of arrival.
    pub seq: Seq,
    /// Id, group, time, size of the body.
    pub description: Description,
    /// The envelope's header.
    pub header: Header,
    /// Where it stands.
    pub state: State,
    /// Whether its body is there.
    pub has_body: bool,
    /// Who brought it first; `None` for this node itself.
    pub depositor: Option<PeerKey>,
    /// Seconds under way so far.
    pub age: u64,
    /// When it came, by the wall clock of this node.
    pub arrived: UnixTime,
    /// Attempts to get it to the destination.
    pub attempts: u32,
    /// For this node's user.
    pub note: Option<String>,
    /// Peers whose present store has acknowledged it.
    pub held_by: Vec<PeerKey>,
    /// Peers whose present store has refused it, and why.
    pub refused_by: Vec<(PeerKey, Reason)>,
}

/// Shows neither note nor peers.
impl std::fmt::Debug for DocumentEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DocumentEntry")
            .field("seq", &self.seq)
            .field("description", &self.description)
            .field("state", &self.state)
            .field("has_body", &self.has_body)
            .field("age", &self.age)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// Which documents [`Store::documents`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// All of them.
    All,
    /// Drafts.
    Draft,
    /// On their way.
    Waiting,
    /// With a verdict.
    Confirmed,
    /// That came for readers.
    Received,
    /// For one destination.
    For(Fingerprint),
    /// Of one collection.
    Collection(GroupId),
}

/// A document that has to get to its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the order of arrival.
    pub seq: Seq,
    /// Id, group, time, size of the body.
    pub description: Description,
    /// 0 (ordinary) to 9, compared only within one depositor and collection.
    pub priority: u8,
    /// Who brought it first; `None` for this node itself.
    pub depositor: Option<PeerKey>,
    /// Attempts so far.
    pub attempts: u32,
    /// Seconds that it has been here.
    pub waited: u64,
}

/// How many documents there are, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Kept back.
    pub drafts: u64,
    /// On their way.
    pub waiting: u64,
    /// Confirmed as opened.
    pub opened: u64,
    /// Confirmed as held.
    pub held: u64,
    /// Rejected by the destination.
    pub rejected: u64,
    /// Came for readers.
    pub received: u64,
    /// Bytes of bodies that are there.
    pub body_bytes: u64,
    /// Bodies under way.
    pub partials: u64,
    /// Their sizes when they are complete, in bytes.
    pub partial_bytes: u64,
    /// Documents that were damaged here, counted for each peer that is to be asked for them again.
    pub lost: u64,
}

/// A peer, as this node knows it.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerEntry {
    /// Its name for ever.
    pub key: PeerKey,
    /// What it may do.
    pub class: PeerClass,
    /// A name for people; empty for none.
    pub label: String,
    /// Nothing is taken from it any more.
    pub revoked: bool,
    /// Its store, when it was last heard of.
    pub store: Option<StoreId>,
    /// By the wall clock of this node.
    pub first_contact: UnixTime,
    /// By the wall clock of this node.
    pub last_contact: UnixTime,
    /// Documents that it brought first.
    pub deposited: u64,
    /// Bytes of their bodies.
    pub deposited_bytes: u64,
    /// Confirmations that it has acknowledged.
    pub delivered: u64,
    /// Names the state of destinations' certificates that it has taken.
    pub told: Option<[u8; 32]>,
    /// With which its advertisements are recognised, once it has told.
    pub advertising_key: Option<AdvertisingKey>,
}

/// Shows neither label nor advertising key.
impl std::fmt::Debug for PeerEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerEntry")
            .field("key", &self.key)
            .field("class", &self.class)
            .field("revoked", &self.revoked)
            .finish_non_exhaustive()
    }
}

/// A document that is remembered as gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Where to go on after it.
    pub place: Vec<u8>,
    /// Its id and why it is gone; `None` where only that is known of which it would be.
    pub document: Option<(MessageId, Reason)>,
}

impl Store {
    /// A document by id.
    pub fn document(&self, id: &MessageId) -> Result<Option<DocumentEntry>, StoreError> {
        let txn = self.inner.tables.read()?;
        match self.find(&txn, id)? {
            Some((seq, row)) => self.entry(&txn, seq, row, &mut HashMap::new()).map(Some),
            None => Ok(None),
        }
    }

    /// Documents in order of arrival, after `after`, at most `limit`.
    pub fn documents(
        &self,
        filter: &Filter,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<DocumentEntry>, StoreError> {
        let destination = match filter {
            Filter::For(fingerprint) => {
                let Some(number) = self.destination_number(&*self.inner.tables.read()?, fingerprint)? else {
                    return Ok(Vec::new());
                };
                number
            }
            _ => 0,
        };
        let fits = |row: &DocumentRow| match filter {
            Filter::All => true,
            Filter::Draft => row.state == DRAFT,
            Filter::Waiting => row.state == WAITING,
            Filter::Confirmed => row.state == CONFIRMED,
            Filter::Received => row.received,
            Filter::For(_) => row.destination == destination,
            Filter::Collection(group) => row.group == group.0,
        };
        let (mut found, mut peers) = (Vec::new(), HashMap::new());
        self.scan(after, |txn, seq, row| {
            if found.len() < limit && fits(&row) {
                found.push(self.entry(txn, seq, row, &mut peers)?);
            }
            Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(found)
    }

    /// Documents whose id begins with these hexadecimal digits, at most `limit`: for what people type.
    pub fn find_by_prefix(&self, digits: &str, limit: usize) -> Result<Vec<MessageId>, StoreError> {
        let digits = digits.trim().to_ascii_lowercase();
        let mut found = Vec::new();
        self.scan(None, |_, _, row| {
            let id = row.description().map(|description| description.id);
            found.extend(id.filter(|id| id.to_string().starts_with(&digits)));
            Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(found)
    }

    /// What has to get to `destination`, in order of arrival, after `after`, at most `limit`. What has outlived its
    /// lifetime is left out.
    pub fn waiting(
        &self,
        destination: &Fingerprint,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<Waiting>, StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        let Some(destination) = self.destination_number(&txn, destination)? else { return Ok(Vec::new()) };
        let now = self.uptime();
        let mut peers = HashMap::new();
        let mut waiting = Vec::new();
        for row in tables.rows_of::<OutboxRow>(&txn, destination, after.map(|seq| seq.0))? {
            if waiting.len() >= limit {
                break;
            }
            let (key, OutboxRow { attempts }) = row?;
            let seq = number(key, 1);
            let Some(row) = self.undamaged_row(&txn, seq)? else { continue };
            if row.is_expired(now) {
                continue;
            }
            waiting.push(Waiting {
                seq: Seq(seq),
                description: description(seq, &row)?,
                priority: u8::try_from(row.priority).unwrap_or(0),
                depositor: self.peer_key(&txn, row.depositor, &mut peers)?,
                attempts,
                waited: now.saturating_sub(row.arrival),
            });
        }
        Ok(waiting)
    }

    /// Destinations that documents have been addressed to, or that have confirmed any.
    pub fn destinations(&self) -> Result<Vec<Fingerprint>, StoreError> {
        let txn = self.inner.tables.read()?;
        let rows = self.inner.tables.rows_after::<DestinationRow>(&txn, None)?;
        rows.map(|row| {
            let (key, row) = row?;
            Fingerprint::from_slice(&row.fingerprint).map_err(|_| damaged(Table::Destinations, key))
        })
        .collect()
    }

    /// How many documents there are.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        let txn = self.inner.tables.read()?;
        let row = self.inner.tables.get::<StoreRow>(&txn, STORE_KEY)?;
        let counts = row.ok_or_else(|| damaged(Table::Meta, STORE_KEY))?.counts;
        Ok(Counts {
            drafts: counts.drafts,
            waiting: counts.waiting,
            opened: counts.opened,
            held: counts.held,
            rejected: counts.rejected,
            received: counts.received,
            body_bytes: counts.body_bytes,
            partials: counts.partials,
            partial_bytes: counts.partial_bytes,
            lost: counts.lost,
        })
    }

    /// All peers, in the order in which they became known.
    pub fn peers(&self) -> Result<Vec<PeerEntry>, StoreError> {
        let txn = self.inner.tables.read()?;
        let rows = self.inner.tables.rows_after::<PeerRow>(&txn, None)?;
        rows.map(|row| row.and_then(|(key, row)| peer_entry(key, row))).collect()
    }

    /// One peer.
    pub fn peer(&self, key: &PeerKey) -> Result<Option<PeerEntry>, StoreError> {
        let txn = self.inner.tables.read()?;
        let found = self.peer_row(&txn, key)?;
        found.map(|(number, row)| peer_entry(&key8(number), row)).transpose()
    }

    /// With which advertisements are recognised as those of peers that are known and not revoked, in the order in which
    /// they became known.
    pub fn advertising_keys(&self) -> Result<Vec<(PeerKey, AdvertisingKey)>, StoreError> {
        let peers = self.peers()?.into_iter().filter(|peer| peer.class.is_known() && !peer.revoked);
        Ok(peers.filter_map(|peer| Some((peer.key, peer.advertising_key?))).collect())
    }

    /// A confirmation by its own id.
    pub fn confirmation(&self, id: &MessageId) -> Result<Option<Confirmation>, StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        let index = tables.keys.prf(Table::ConfirmationIndex, &[id.as_bytes()]);
        match tables.get::<ConfirmationIndexRow>(&txn, &index)? {
            Some(ConfirmationIndexRow { seq }) => self.confirmation_at(&txn, seq),
            None => Ok(None),
        }
    }

    /// The confirmation that has the present verdict of `destination` on a document.
    pub fn confirmation_on(
        &self,
        id: &MessageId,
        destination: &Fingerprint,
    ) -> Result<Option<Confirmation>, StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        let Some(destination) = self.destination_number(&txn, destination)? else { return Ok(None) };
        match tables.get::<VerdictRow>(&txn, &verdict_key(tables, id, destination))? {
            Some(row) => self.confirmation_at(&txn, row.confirmation),
            None => Ok(None),
        }
    }

    /// Confirmations in the order in which they came, after `after`, at most `limit`.
    pub fn confirmations(
        &self,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<(Seq, Confirmation)>, StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        let after = after.map(|seq| key8(seq.0));
        let rows = tables.rows_after::<ConfirmationRow>(&txn, after.as_ref().map(|key| &key[..]))?;
        rows.take(limit)
            .map(|row| {
                let (key, row) = row?;
                let confirmation = row.confirmation().ok_or_else(|| damaged(Table::Confirmations, key))?;
                Ok((Seq(number(key, 0)), confirmation))
            })
            .collect()
    }

    /// What is remembered as gone, in no order, after the place `after`, at most `limit`.
    pub fn gone(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Gone>, StoreError> {
        let tables = &self.inner.tables;
        let txn = tables.read()?;
        let rows = tables.rows_after::<TombstoneRow>(&txn, after)?;
        rows.take(limit)
            .map(|row| {
                let (key, row) = row?;
                let id = MessageId::from_slice(&row.id).ok();
                let document = id.map(|id| (id, Reason::from_code(row.reason)));
                Ok(Gone { place: key.to_vec(), document })
            })
            .collect()
    }

    /// A setting of the program that uses the store.
    pub fn setting(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let tables = &self.inner.tables;
        let row = tables.get::<SettingRow>(&*tables.read()?, &setting_key(tables, key))?;
        Ok(row.map(|row| row.value))
    }

    /// Settings whose name begins with `prefix`, sorted by name.
    pub fn settings(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let txn = self.inner.tables.read()?;
        let mut found = Vec::new();
        for row in self.inner.tables.rows_after::<SettingRow>(&txn, None)? {
            let (_, SettingRow { key, value }) = row?;
            if key.starts_with(prefix) {
                found.push((key, value));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Calls `visit` with each document after `after`, in transactions of [`SCAN`] rows.
    pub(crate) fn scan(
        &self,
        after: Option<Seq>,
        mut visit: impl FnMut(&RoTxn, u64, DocumentRow) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut last = after.map(|seq| seq.0);
        loop {
            let txn = self.inner.tables.read()?;
            let start = last.map(key8);
            let mut seen = 0;
            let rows = self.inner.tables.rows_after(&txn, start.as_ref().map(|key| &key[..]))?;
            for row in rows.take(SCAN) {
                let (key, row) = row?;
                seen += 1;
                last = Some(number(key, 0));
                if visit(&txn, number(key, 0), row)?.is_break() {
                    return Ok(());
                }
            }
            if seen < SCAN {
                return Ok(());
            }
        }
    }

    pub(crate) fn find(&self, txn: &RoTxn, id: &MessageId) -> Result<Option<(u64, DocumentRow)>, StoreError> {
        let tables = &self.inner.tables;
        match tables.get::<IndexRow>(txn, &tables.keys.prf(Table::Index, &[id.as_bytes()]))? {
            Some(IndexRow { seq }) => Ok(Some((seq, self.row(txn, seq)?))),
            None => Ok(None),
        }
    }

    /// The row of a document that must be there.
    pub(crate) fn row(&self, txn: &RoTxn, seq: u64) -> Result<DocumentRow, StoreError> {
        let row = self.inner.tables.get(txn, &key8(seq))?;
        row.ok_or_else(|| damaged(Table::Documents, &key8(seq)))
    }

    /// As [`Store::row`], but a damaged one is reported and passed over: it must not hold back the others.
    pub(crate) fn undamaged_row(&self, txn: &RoTxn, seq: u64) -> Result<Option<DocumentRow>, StoreError> {
        match self.row(txn, seq) {
            Err(error @ StoreError::Damaged { .. }) => {
                log::error!(error:%; "passing over a damaged document");
                Ok(None)
            }
            row => row.map(Some),
        }
    }

    pub(crate) fn peer_row(&self, txn: &RoTxn, key: &PeerKey) -> Result<Option<(u64, PeerRow)>, StoreError> {
        let tables = &self.inner.tables;
        let index = tables.keys.prf(Table::PeerIndex, &[key.as_bytes()]);
        let Some(PeerIndexRow { peer }) = tables.get(txn, &index)? else { return Ok(None) };
        Ok(tables.get(txn, &key8(peer))?.map(|row| (peer, row)))
    }

    pub(crate) fn destination_number(
        &self,
        txn: &RoTxn,
        fingerprint: &Fingerprint,
    ) -> Result<Option<u64>, StoreError> {
        let tables = &self.inner.tables;
        let key = tables.keys.prf(Table::DestinationIndex, &[fingerprint.as_bytes()]);
        Ok(tables.get::<DestinationIndexRow>(txn, &key)?.map(|row| row.destination))
    }

    pub(crate) fn confirmation_at(&self, txn: &RoTxn, seq: u64) -> Result<Option<Confirmation>, StoreError> {
        let Some(row) = self.inner.tables.get::<ConfirmationRow>(txn, &key8(seq))? else { return Ok(None) };
        row.confirmation().map(Some).ok_or_else(|| damaged(Table::Confirmations, &key8(seq)))
    }

    pub(crate) fn body(
        &self,
        txn: &RoTxn,
        seq: u64,
        offset: u64,
        len: usize,
    ) -> Result<bytes::Bytes, StoreError> {
        match self.inner.tables.get::<DocumentRow>(txn, &key8(seq))? {
            Some(row) if row.live => body::read(&self.inner.tables, txn, row.blob, offset, len),
            _ => Ok(bytes::Bytes::new()),
        }
    }

    fn peer_key(
        &self,
        txn: &RoTxn,
        peer: u64,
        known: &mut HashMap<u64, Option<PeerRow>>,
    ) -> Result<Option<PeerKey>, StoreError> {
        Ok(self.known_peer(txn, peer, known)?.and_then(PeerRow::key))
    }

    fn known_peer<'k>(
        &self,
        txn: &RoTxn,
        peer: u64,
        known: &'k mut HashMap<u64, Option<PeerRow>>,
    ) -> Result<Option<&'k PeerRow>, StoreError> {
        if let std::collections::hash_map::Entry::Vacant(slot) = known.entry(peer) {
            slot.insert(self.inner.tables.get(txn, &key8(peer))?);
        }
        Ok(known.get(&peer).and_then(Option::as_ref))
    }

    fn entry(
        &self,
        txn: &RoTxn,
        seq: u64,
        row: DocumentRow,
        peers: &mut HashMap<u64, Option<PeerRow>>,
    ) -> Result<DocumentEntry, StoreError> {
        let tables = &self.inner.tables;
        let wrong = || damaged(Table::Documents, &key8(seq));
        let outbox = tables.get::<OutboxRow>(txn, &crate::tables::key16(row.destination, seq))?;
        let (mut held_by, mut refused_by) = (Vec::new(), Vec::new());
        for answer in tables.rows_of::<AnswerRow>(txn, seq, None)? {
            let (key, answer) = answer?;
            let Some(peer) = self.known_peer(txn, number(key, 1), peers)? else { continue };
            match peer.key() {
                Some(key) if counts(&answer, peer) && answer.held => held_by.push(key),
                Some(key) if counts(&answer, peer) => {
                    refused_by.push((key, Reason::from_code(answer.refused)))
                }
                _ => {}
            }
        }
        Ok(DocumentEntry {
            seq: Seq(seq),
            description: description(seq, &row)?,
            header: row.header().ok_or_else(wrong)?,
            state: match (row.state, row.verdict()) {
                (DRAFT, _) => State::Draft,
                (WAITING, _) => State::Waiting,
                (CONFIRMED, Some(verdict)) => State::Confirmed(verdict),
                (RECEIVED, verdict) => State::Received(verdict),
                _ => return Err(wrong()),
            },
            has_body: row.live,
            depositor: self.peer_key(txn, row.depositor, peers)?,
            age: row.age_at(self.uptime()),
            arrived: UnixTime(row.wall),
            attempts: outbox.map_or(0, |row| row.attempts),
            note: row.note,
            held_by,
            refused_by,
        })
    }
}

pub(crate) fn description(seq: u64, row: &DocumentRow) -> Result<Description, StoreError> {
    row.description().ok_or_else(|| damaged(Table::Documents, &key8(seq)))
}

fn peer_entry(key: &[u8], row: PeerRow) -> Result<PeerEntry, StoreError> {
    Ok(PeerEntry {
        key: row.key().ok_or_else(|| damaged(Table::Peers, key))?,
        class: PeerClass::from_code(row.class),
        revoked: row.revoked,
        store: row.store(),
        first_contact: UnixTime(row.first_contact),
        last_contact: UnixTime(row.last_contact),
        deposited: row.deposited,
        deposited_bytes: row.deposited_bytes,
        delivered: row.delivered,
        told: row.told.as_slice().try_into().ok(),
        advertising_key: row.advertising_key(),
        label: row.label,
    })
}
