//! One write transaction: the rows, and what is written once at its end (counters, peers) or kept after it (hashes).

use std::collections::{BTreeMap, HashMap};

use heed::RwTxn;
use rand_chacha::ChaCha20Rng;
use waypost_protocol::ids::{Fingerprint, MessageId, PeerKey};
use waypost_protocol::refusal::Reason;

use super::Extra;
use crate::body::Hashing;
use crate::change::{Applied, Change, PeerClass};
use crate::error::{ChangeError, StoreError};
use crate::rows::*;
use crate::seal::Prf;
use crate::tables::{Table, Tables, damaged, key8, number};
use crate::{Store, Writing, random};

pub(crate) struct Tx<'e> {
    pub(super) store: &'e Store,
    pub(super) txn: RwTxn<'e>,
    pub(super) rng: ChaCha20Rng,
    /// The store's row: counters.
    pub(super) meta: StoreRow,
    /// The uptime clock at the start.
    pub(super) now: u64,
    /// Bytes that documents may still take.
    pub(super) room: u64,
    /// The most that peers of the class open, and of posters, may hold together.
    pub(super) open_limit: u64,
    pub(super) poster_limit: u64,
    /// The most that any other peer may hold.
    pub(super) peer_limit: u64,
    /// Peers that were looked up: as they were, and as they are now.
    peers: BTreeMap<u64, (PeerRow, PeerRow)>,
    /// Numbers that were looked up.
    peer_numbers: HashMap<PeerKey, u64>,
    destinations: HashMap<Fingerprint, u64>,
    writing: &'e mut Writing,
    /// Hashes as they will be after the commit; `None` where the body is no longer under way.
    hashers: HashMap<Prf, Option<Hashing>>,
}

impl<'e> Tx<'e> {
    pub(crate) fn begin(store: &'e Store, writing: &'e mut Writing) -> Result<Self, StoreError> {
        let tables = &store.inner.tables;
        let txn = tables.write()?;
        let meta = tables.get::<StoreRow>(&txn, STORE_KEY)?.ok_or_else(|| damaged(Table::Meta, STORE_KEY))?;
        let usage = store.usage_in(&txn)?;
        let options = &store.inner.options;
        let share = |percent: u8| {
            (usage.used.saturating_add(usage.room) / 100).saturating_mul(percent.min(100).into())
        };
        Ok(Tx {
            store,
            rng: random()?,
            // Another process may have counted further.
            now: store.inner.uptime.now().max(meta.uptime),
            room: usage.room,
            open_limit: share(options.open_share),
            poster_limit: share(options.poster_share),
            peer_limit: share(options.peer_share),
            peers: BTreeMap::new(),
            peer_numbers: HashMap::new(),
            destinations: HashMap::new(),
            writing,
            hashers: HashMap::new(),
            meta,
            txn,
        })
    }

    /// Makes it durable. On an error nothing was written.
    pub(crate) fn commit(self) -> Result<(), StoreError> {
        let store = self.store;
        let done = self.write_out();
        store.note(done.clone());
        done
    }

    fn write_out(mut self) -> Result<(), StoreError> {
        let tables = &self.store.inner.tables;
        for (number, (before, row)) in std::mem::take(&mut self.peers) {
            if row != before {
                tables.put(&mut self.txn, &mut self.rng, &key8(number), &row)?;
            }
        }
        self.meta.set_uptime(self.now, self.store.inner.uptime.boot());
        tables.put(&mut self.txn, &mut self.rng, STORE_KEY, &self.meta)?;
        self.txn.commit()?;
        let most = usize::try_from(self.store.inner.options.max_partials).unwrap_or(usize::MAX);
        for (key, hashing) in self.hashers {
            match hashing {
                Some(hashing)
                    if self.writing.hashers.len() < most || self.writing.hashers.contains_key(&key) =>
                {
                    self.writing.hashers.insert(key, hashing);
                }
                _ => {
                    self.writing.hashers.remove(&key);
                }
            }
        }
        Ok(())
    }

    /// Makes one change. After [`ChangeError::Storage`] the transaction must be dropped; after any other error it
    /// is as if the change had not been asked for (or as its documentation says).
    pub(super) fn change(&mut self, change: &Change, extra: Extra) -> Result<Applied, ChangeError> {
        match change {
            Change::Document(new) => self.document(new, extra.received),
            Change::Piece { description, header, offset, bytes, age, depositor } => {
                let piece = super::pieces::Piece { description, header, offset: *offset, bytes, age: *age };
                self.piece(piece, *depositor, extra)
            }
            Change::OwnPiece { description, header, offset, bytes, draft, note } => {
                let piece = super::pieces::Piece { description, header, offset: *offset, bytes, age: 0 };
                self.piece(piece, None, Extra { draft: *draft, note: note.clone(), received: None })
            }
            Change::Received { change, free } => {
                self.change(change, Extra { received: Some(*free), ..Extra::default() })
            }
            Change::Depositor { id, peer } => self.further_depositor(id, peer, extra.received),
            Change::Release { id } => self.release(id),
            Change::Attempted { id } => self.attempted(id),
            Change::Delete { id } => self.delete(id, Reason::Deleted),
            Change::Gone { id, reason } => self.gone(id, *reason),
            Change::Damaged { id } => self.damaged(id),
            Change::Forgo { id, peer } => self.forgo(id, peer),
            Change::FreeBody { id } => self.free_body(id),
            Change::Confirmation { confirmation, freeing, from } => {
                self.confirmation(confirmation, freeing, from.as_ref())
            }
            Change::Delivered { peer, confirmation } => self.delivered(peer, confirmation),
            Change::ToldChains { peer, digest } => self.told_chains(peer, digest.as_ref()),
            Change::PeerHolds { peer, store, id } => self.answer(peer, store, id, None),
            Change::PeerRefuses { peer, store, id, reason } => self.answer(peer, store, id, Some(*reason)),
            Change::PeerSeen { peer, store, label, advertising_key } => {
                self.peer_seen(peer, store.as_ref(), label.as_deref(), advertising_key.as_ref())
            }
            Change::PutPeer { peer, class, label } => self.put_peer(peer, *class, label.as_deref()),
            Change::Revoke { peer } => self.revoke(peer),
            Change::Forget { peer } => self.forget(peer),
            Change::AddCode { secret, class, valid, poster } => {
                self.add_code(secret, *class, *valid, poster.as_deref())
            }
            Change::ConsumeCode { code, peer, label } => self.consume_code(code, peer, label.as_deref()),
            Change::RemovePoster { name, revoke } => self.remove_poster(name, *revoke),
            Change::Put { key, value } => self.put_setting(key, value.as_deref()),
        }
    }

    pub(super) fn tables(&self) -> &'e Tables {
        &self.store.inner.tables
    }

    pub(crate) fn get<R: Row>(&self, key: &[u8]) -> Result<Option<R>, StoreError> {
        self.tables().get(&self.txn, key)
    }

    pub(super) fn put<R: Row>(&mut self, key: &[u8], row: &R) -> Result<(), StoreError> {
        self.tables().put(&mut self.txn, &mut self.rng, key, row)
    }

    pub(crate) fn remove(&mut self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.tables().delete(&mut self.txn, table, key)
    }

    pub(super) fn prf(&self, table: Table, parts: &[&[u8]]) -> Prf {
        self.tables().keys.prf(table, parts)
    }

    /// Second numbers of the keys that begin with `first`.
    pub(super) fn seconds<R: Row>(&self, first: u64) -> Result<Vec<(u64, R)>, StoreError> {
        let rows = self.tables().rows_of::<R>(&self.txn, first, None)?;
        rows.map(|row| row.map(|(key, row)| (number(key, 1), row))).collect()
    }

    /// The document `id`, with its sequence.
    pub(super) fn find(&self, id: &MessageId) -> Result<Option<(u64, DocumentRow)>, StoreError> {
        let index = self.prf(Table::Index, &[id.as_bytes()]);
        let Some(IndexRow { seq }) = self.get(&index)? else { return Ok(None) };
        match self.get::<DocumentRow>(&key8(seq))? {
            Some(row) => Ok(Some((seq, row))),
            None => Err(damaged(Table::Documents, &key8(seq))),
        }
    }

    pub(super) fn find_or_error(&self, id: &MessageId) -> Result<(u64, DocumentRow), ChangeError> {
        self.find(id)?.ok_or(ChangeError::NoDocument(*id))
    }

    /// The number of a destination, a new one where it has none.
    pub(super) fn destination(&mut self, fingerprint: &Fingerprint) -> Result<u64, StoreError> {
        if let Some(number) = self.destinations.get(fingerprint) {
            return Ok(*number);
        }
        let key = self.prf(Table::DestinationIndex, &[fingerprint.as_bytes()]);
        let number = match self.get(&key)? {
            Some(DestinationIndexRow { destination }) => destination,
            None => self.new_destination(&key, fingerprint)?,
        };
        self.destinations.insert(*fingerprint, number);
        Ok(number)
    }

    fn new_destination(&mut self, key: &Prf, fingerprint: &Fingerprint) -> Result<u64, StoreError> {
        let destination = self.meta.next_destination;
        self.meta.next_destination += 1;
        self.put(key, &DestinationIndexRow { destination })?;
        let fingerprint = fingerprint.as_bytes().to_vec();
        self.put(&key8(destination), &DestinationRow { fingerprint })?;
        Ok(destination)
    }

    /// A peer's number and row, if it is known.
    pub(super) fn peer(&mut self, key: &PeerKey) -> Result<Option<(u64, &mut PeerRow)>, StoreError> {
        let peer = match self.peer_numbers.get(key) {
            Some(peer) => *peer,
            None => {
                let index = self.prf(Table::PeerIndex, &[key.as_bytes()]);
                let Some(PeerIndexRow { peer }) = self.get(&index)? else { return Ok(None) };
                self.peer_numbers.insert(*key, peer);
                peer
            }
        };
        match self.peer_of_number(peer)? {
            Some(row) => Ok(Some((peer, row))),
            None => Err(damaged(Table::Peers, &key8(peer))),
        }
    }

    /// The row of the peer that has this number; 0 is this node.
    pub(super) fn peer_of_number(&mut self, peer: u64) -> Result<Option<&mut PeerRow>, StoreError> {
        if peer != 0 && !self.peers.contains_key(&peer) {
            match self.get::<PeerRow>(&key8(peer)) {
                // What a peer had here can go also where its row is damaged.
                Err(StoreError::Damaged { .. }) | Ok(None) => return Ok(None),
                Ok(Some(row)) => drop(self.peers.insert(peer, (row.clone(), row))),
                Err(error) => return Err(error),
            }
        }
        Ok(self.peers.get_mut(&peer).map(|(_, row)| row))
    }

    /// The numbers of all peers.
    pub(super) fn peer_numbers(&self) -> Result<Vec<u64>, StoreError> {
        let rows = self.tables().rows_after::<PeerRow>(&self.txn, None)?;
        rows.map(|row| row.map(|(key, _)| number(key, 0))).collect()
    }

    /// A peer's number and row; it becomes known as open where it is not.
    pub(super) fn peer_or_new(&mut self, key: &PeerKey) -> Result<(u64, &mut PeerRow), StoreError> {
        if self.peer(key)?.is_none() {
            let peer = self.meta.next_peer;
            self.meta.next_peer += 1;
            let index = self.prf(Table::PeerIndex, &[key.as_bytes()]);
            let row = PeerRow {
                key: key.0.to_vec(),
                class: PeerClass::Open.code(),
                first_contact: self.store.inner.uptime.wall().0,
                ..PeerRow::default()
            };
            self.put(&index, &PeerIndexRow { peer })?;
            self.put(&key8(peer), &row)?;
        }
        self.peer(key)?.ok_or_else(|| damaged(Table::PeerIndex, key.as_bytes()))
    }

    /// The running hash of a body under way, if this process has it as of `blob` and `length`.
    pub(super) fn hashing(&self, partial: &Prf, blob: u64, length: u64) -> Option<Hashing> {
        let known = match self.hashers.get(partial) {
            Some(pending) => pending.as_ref(),
            None => self.writing.hashers.get(partial),
        };
        known.filter(|hashing| hashing.blob == blob && hashing.length == length).cloned()
    }

    pub(super) fn set_hashing(&mut self, partial: Prf, hashing: Option<Hashing>) {
        self.hashers.insert(partial, hashing);
    }
}
