//! Bodies that come in pieces: one under way belongs to (id, depositor), and only the hash over all of it makes a document.

use bytes::Bytes;
use waypost_protocol::document::{Description, IdHasher};
use waypost_protocol::envelope::Header;
use waypost_protocol::ids::{MessageId, PeerKey};
use waypost_protocol::refusal::Reason;

use super::documents::{Arrival, Depositor};
use super::{Extra, Tx};
use crate::body::{self, Hashing};
use crate::change::Applied;
use crate::error::{ChangeError, StoreError};
use crate::rows::*;
use crate::seal::{Prf, Sealer};
use crate::shares::Pool;
use crate::tables::{Table, Tables, damaged};

pub(super) struct Piece<'a> {
    pub(super) description: &'a Description,
    pub(super) header: &'a Header,
    pub(super) offset: u64,
    pub(super) bytes: &'a Bytes,
    pub(super) age: u64,
}

/// The row key of a body under way.
pub(crate) fn partial_key(tables: &Tables, id: &MessageId, depositor: u64) -> Prf {
    tables.keys.prf(Table::Partials, &[id.as_bytes(), &depositor.to_be_bytes()])
}

impl Tx<'_> {
    pub(super) fn piece(
        &mut self,
        piece: Piece<'_>,
        depositor: Option<PeerKey>,
        extra: Extra,
    ) -> Result<Applied, ChangeError> {
        let Piece { description, header, offset, bytes, age } = piece;
        let received = extra.received;
        let depositor = self.depositor(depositor.as_ref(), received)?;
        let key = partial_key(self.tables(), &description.id, depositor.number);
        let partial = match self.get::<PartialRow>(&key) {
            // Damage must not keep the document out for ever: it begins anew.
            Err(StoreError::Damaged { .. }) => {
                self.remove(Table::Partials, &key)?;
                None
            }
            found => found?,
        };
        if let Some(known) = self.already_known(&description.id, header, depositor, received)? {
            if let Some(partial) = partial {
                self.drop_partial(&key, &partial)?;
            }
            return known;
        }
        let committed = partial.as_ref().map_or(0, |partial| partial.committed);
        let fits = partial.as_ref().is_none_or(|partial| partial.description().as_ref() == Some(description));
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= description.size);
        let Some(end) = end.filter(|_| fits) else { return Err(ChangeError::Refused(Reason::Malformed)) };
        if offset > committed {
            return Err(ChangeError::Gap { offset, committed });
        }
        if end <= committed && committed < description.size {
            return Ok(Applied::Partial { committed });
        }
        let fresh = usize::try_from(committed - offset).map_or(Bytes::new(), |skip| bytes.slice(skip..));
        let encoded_header = self.acceptable(header, age)?;
        let length = fresh.len() as u64;
        self.admit_piece(&key, description, length, partial.is_none(), depositor, received.is_some())?;
        let resumed = match partial {
            Some(partial) => self.resume(&key, partial)?,
            None => Some(self.start(description, encoded_header, depositor)?),
        };
        let Some((mut partial, sealer, mut hashing)) = resumed else {
            return Err(ChangeError::Gap { offset, committed: 0 });
        };
        hashing.hasher.update(&fresh);
        hashing.length = end;
        if end == description.size && hashing.hasher.clone().finish() != description.id {
            // Committed together with the rest: bytes with a wrong hash shall not be resumed.
            self.drop_partial(&key, &partial)?;
            return Err(ChangeError::Refused(Reason::WrongHash));
        }
        let (tables, blob) = (self.tables(), partial.blob);
        body::write(tables, &mut self.txn, &mut self.rng, &sealer, blob, committed, &fresh)?;
        if end < description.size {
            (partial.committed, partial.touched) = (end, self.now);
            self.put(&key, &partial)?;
            self.set_hashing(key, Some(hashing));
            return Ok(Applied::Partial { committed: end });
        }
        self.remove_partial(&key, &partial)?;
        let first = partial.header().ok_or_else(|| damaged(Table::Partials, &key))?;
        let encoded_header = partial.header;
        self.insert(Arrival { description, header: &first, encoded_header, age, blob }, depositor, extra)
    }

    /// Room for the piece, and for a new body for all of it, making way among the others if need be.
    fn admit_piece(
        &mut self,
        key: &Prf,
        description: &Description,
        length: u64,
        new: bool,
        depositor: Depositor,
        received: bool,
    ) -> Result<(), ChangeError> {
        let options = &self.store.inner.options;
        let (most, most_bytes) = (u64::from(options.max_partials), options.max_partial_bytes);
        let idle = options.partial_idle.as_secs();
        if new {
            if depositor.number != 0 && description.size > most_bytes {
                return Err(ChangeError::Refused(Reason::TooLarge));
            }
            self.within_share(description.size, depositor)?;
            self.has_room(description.size, received)?;
            // Whoever has its share of them makes way among its own.
            while self.partials_of(depositor)? >= (most / 4).max(1) {
                self.make_way(key, idle, |row| match depositor.pool {
                    Some(pool) => row.pool() == Some(pool),
                    None => row.depositor == depositor.number,
                })?;
            }
            // This node's own documents are not limited by what others may have under way.
            let over = |tx: &Self| {
                depositor.number != 0
                    && (tx.meta.counts.partials >= most
                        || tx.meta.counts.partial_bytes.saturating_add(description.size) > most_bytes)
            };
            while over(self) {
                self.make_way(key, idle, |_| true)?;
            }
        }
        self.take_room(length, received)?;
        if new { self.flows_in(description.size, depositor) } else { Ok(()) }
    }

    /// How many bodies are under way of those with which whoever brings one shares.
    fn partials_of(&mut self, depositor: Depositor) -> Result<u64, StoreError> {
        Ok(match depositor.pool {
            Some(pool) => *self.meta.counts.of_pool(pool)[1],
            None => self.peer_of_number(depositor.number)?.map_or(0, |peer| peer.partials),
        })
    }

    /// Gives up one body under way of those that `may` be, but for `but`.
    fn make_way(
        &mut self,
        but: &Prf,
        idle: u64,
        may: impl Fn(&PartialRow) -> bool,
    ) -> Result<(), ChangeError> {
        match self.oldest_partial(but, idle, may)? {
            Some((oldest, row)) => Ok(self.drop_partial(&oldest, &row)?),
            None => Err(ChangeError::Refused(Reason::OverQuota)),
        }
    }

    /// The body under way that got nothing for the longest time, at least `idle` seconds. Those that are being sent
    /// are spared: two large ones would otherwise throw each other out for ever.
    fn oldest_partial(
        &self,
        but: &Prf,
        idle: u64,
        may: impl Fn(&PartialRow) -> bool,
    ) -> Result<Option<(Prf, PartialRow)>, StoreError> {
        let mut oldest: Option<(Prf, PartialRow)> = None;
        for row in self.tables().rows_after::<PartialRow>(&self.txn, None)? {
            let (key, row) = row?;
            let Ok(key) = Prf::try_from(key) else { continue };
            let is_idle = self.now.saturating_sub(row.touched) >= idle;
            let is_older = oldest.as_ref().is_none_or(|(_, oldest)| row.touched < oldest.touched);
            if key != *but && row.depositor != 0 && is_idle && is_older && may(&row) {
                oldest = Some((key, row));
            }
        }
        Ok(oldest)
    }

    /// The row, key and running hash to go on with. `None` where what is on the disk is damaged; it is given up.
    fn resume(
        &mut self,
        key: &Prf,
        partial: PartialRow,
    ) -> Result<Option<(PartialRow, Sealer, Hashing)>, StoreError> {
        let (tables, blob) = (self.tables(), partial.blob);
        let hashing = match (self.hashing(key, blob, partial.committed), partial.description()) {
            (Some(hashing), _) => Some(hashing),
            // Not in memory, so not touched by this transaction either: what is committed is what counts.
            (None, Some(description)) => body::rehash(tables, &description, blob, partial.committed)?,
            (None, None) => None,
        };
        match (hashing, body::sealer(tables, &self.txn, blob)) {
            (Some(hashing), Ok(Some(sealer))) => Ok(Some((partial, sealer, hashing))),
            (_, Ok(_) | Err(StoreError::Damaged { .. })) => {
                self.drop_partial(key, &partial)?;
                Ok(None)
            }
            (_, Err(error)) => Err(error),
        }
    }

    fn start(
        &mut self,
        description: &Description,
        header: Vec<u8>,
        depositor: Depositor,
    ) -> Result<(PartialRow, Sealer, Hashing), StoreError> {
        let blob = self.new_blob();
        let row = PartialRow {
            id: description.id.0.to_vec(),
            group: description.group.0.to_vec(),
            timestamp: description.timestamp.0,
            size: description.size,
            header,
            depositor: depositor.number,
            blob,
            committed: 0,
            touched: self.now,
            pool: Pool::code(depositor.pool),
        };
        let sealer = body::begin(self.tables(), &mut self.txn, &mut self.rng, blob)?;
        self.count_partial(&row, true)?;
        let hasher = IdHasher::new(description.group, description.timestamp);
        Ok((row, sealer, Hashing { hasher, blob, length: 0 }))
    }

    /// Gives up a body under way.
    pub(crate) fn drop_partial(&mut self, key: &Prf, row: &PartialRow) -> Result<(), StoreError> {
        self.kill_blob(row.blob)?;
        self.remove_partial(key, row)
    }

    pub(super) fn drop_partial_of(&mut self, id: &MessageId, depositor: u64) -> Result<(), StoreError> {
        let key = partial_key(self.tables(), id, depositor);
        match self.get::<PartialRow>(&key)? {
            Some(row) => self.drop_partial(&key, &row),
            None => Ok(()),
        }
    }

    pub(super) fn give_up(&mut self, id: &MessageId, depositor: Option<&PeerKey>) -> Result<(), StoreError> {
        let number = match depositor {
            Some(key) => self.peer(key)?.map(|(number, _)| number),
            None => Some(0),
        };
        number.map_or(Ok(()), |number| self.drop_partial_of(id, number))
    }

    fn remove_partial(&mut self, key: &Prf, row: &PartialRow) -> Result<(), StoreError> {
        self.remove(Table::Partials, key)?;
        self.set_hashing(*key, None);
        self.count_partial(row, false)
    }

    /// Adds a body under way to the sums, or takes it out.
    fn count_partial(&mut self, row: &PartialRow, add: bool) -> Result<(), StoreError> {
        let step = |(number, bytes): (&mut u64, &mut u64)| {
            (*number, *bytes) = match add {
                true => (number.saturating_add(1), bytes.saturating_add(row.size)),
                false => (number.saturating_sub(1), bytes.saturating_sub(row.size)),
            };
        };
        let counts = &mut self.meta.counts;
        step((&mut counts.partials, &mut counts.partial_bytes));
        if let Some(pool) = row.pool() {
            let [_, number, bytes] = counts.of_pool(pool);
            step((number, bytes));
        } else if let Some(peer) = self.peer_of_number(row.depositor)? {
            step((&mut peer.partials, &mut peer.partial_bytes));
        }
        Ok(())
    }
}
