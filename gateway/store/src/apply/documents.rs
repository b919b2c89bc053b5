//! Documents: coming in, going out of the outbox, losing their body, going for good.

use waypost_protocol::confirmation::Verdict;
use waypost_protocol::document::Description;
use waypost_protocol::envelope::Header;
use waypost_protocol::ids::{MessageId, PeerKey, Seq};
use waypost_protocol::refusal::Reason;

use super::{Extra, Tx};
use crate::change::{Applied, Free, NewDocument, PeerClass};
use crate::error::{ChangeError, StoreError};
use crate::rows::*;
use crate::shares::Pool;
use crate::tables::{Table, key8, key16};
use crate::{admit, body};

/// Peers of a class that has a share together bring so many times that share in a day.
const SHARES_A_DAY: u64 = 4;
/// What a document counts at least, in bytes: it costs rows and a transaction, too.
const LEAST_INFLOW: u64 = 4_096;

/// Who brings a document: its peer number (0: this node), and whose share it counts towards.
#[derive(Clone, Copy)]
pub(super) struct Depositor {
    pub(super) number: u64,
    /// It counts towards what all of its class may have together.
    pub(super) pool: Option<Pool>,
    /// It counts towards what this peer may have.
    pub(super) bounded: bool,
}

/// A document that is about to exist, its body written.
pub(super) struct Arrival<'a> {
    pub(super) description: &'a Description,
    pub(super) header: &'a Header,
    pub(super) encoded_header: Vec<u8>,
    pub(super) age: u64,
    pub(super) blob: u64,
}

impl Tx<'_> {
    pub(super) fn document(
        &mut self,
        new: &NewDocument,
        received: Option<Free>,
    ) -> Result<Applied, ChangeError> {
        let description = new.document.description();
        let encoded_header = self.acceptable(&new.header, new.age)?;
        let depositor = self.depositor(new.depositor.as_ref(), received)?;
        if let Some(known) = self.already_known(&description.id, &new.header, depositor, received)? {
            self.drop_partial_of(&description.id, depositor.number)?;
            return known;
        }
        self.within_share(description.size, depositor)?;
        self.take_room(description.size, received.is_some())?;
        self.flows_in(description.size, depositor)?;
        let blob = self.new_blob();
        let sealer = body::begin(self.tables(), &mut self.txn, &mut self.rng, blob)?;
        let (tables, bytes) = (self.tables(), new.document.body());
        body::write(tables, &mut self.txn, &mut self.rng, &sealer, blob, 0, bytes)?;
        // A body under way from the same peer has become needless.
        self.drop_partial_of(&description.id, depositor.number)?;
        let extra = Extra { draft: new.draft, note: new.note.clone(), received };
        let arrival =
            Arrival { description: &description, header: &new.header, encoded_header, age: new.age, blob };
        self.insert(arrival, depositor, extra)
    }

    /// Checks what the header alone says; the header's encoding.
    pub(super) fn acceptable(&self, header: &Header, age: u64) -> Result<Vec<u8>, ChangeError> {
        if header.ephemeral {
            // Never stored (R24).
            return Err(ChangeError::Refused(Reason::NotPermitted));
        }
        if header.lifetime > 0 && age >= header.lifetime {
            return Err(ChangeError::Refused(Reason::Expired));
        }
        header.encode().map_err(|_| ChangeError::Refused(Reason::Malformed))
    }

    pub(super) fn depositor(
        &mut self,
        key: Option<&PeerKey>,
        received: Option<Free>,
    ) -> Result<Depositor, ChangeError> {
        let Some(key) = key else { return Ok(Depositor { number: 0, pool: None, bounded: false }) };
        let (number, peer) = self.peer_or_new(key)?;
        if peer.revoked {
            return Err(ChangeError::Refused(Reason::NotPermitted));
        }
        // What this node has subscribed to is no deposit of whoever brings it.
        let (deposits, class) = (received.is_none(), PeerClass::from_code(peer.class));
        let pool = Pool::of(class).filter(|_| deposits);
        Ok(Depositor { number, pool, bounded: deposits && pool.is_none() && class != PeerClass::Gateway })
    }

    /// The answer where nothing needs to be stored: it is held, confirmed or gone.
    pub(super) fn already_known(
        &mut self,
        id: &MessageId,
        header: &Header,
        depositor: Depositor,
        received: Option<Free>,
    ) -> Result<Option<Result<Applied, ChangeError>>, StoreError> {
        if let Some((seq, row)) = self.find(id)? {
            if row.verdict().is_some() && !row.is_read_by(received) {
                return self.confirmed_for(id, row.destination, depositor.number, seq).map(Some);
            }
            if row.is_expired(self.now) {
                return Ok(Some(Err(ChangeError::Refused(Reason::Expired))));
            }
            self.add_depositor(seq, row, depositor.number, received)?;
            return Ok(Some(Ok(Applied::AlreadyHeld { seq: Seq(seq) })));
        }
        let tombstone = self.prf(Table::Tombstones, &[id.as_bytes()]);
        let gone = self.get::<TombstoneRow>(&tombstone)?;
        // Only a verdict of the document's own destination counts. Readers want a document also after it.
        let destination = self.destination(&header.destination)?;
        if (received.is_none() || gone.is_some()) && self.verdict(id, destination)?.is_some() {
            return self.confirmed_for(id, destination, depositor.number, 0).map(Some);
        }
        Ok(gone.map(|row| Err(ChangeError::Refused(Reason::from_code(row.reason)))))
    }

    fn confirmed_for(
        &mut self,
        id: &MessageId,
        destination: u64,
        depositor: u64,
        seq: u64,
    ) -> Result<Result<Applied, ChangeError>, StoreError> {
        let confirmation = match self.verdict(id, destination)? {
            Some(row) => self.get::<ConfirmationRow>(&key8(row.confirmation))?.zip(Some(row.confirmation)),
            None => None,
        };
        let parsed = confirmation.and_then(|(row, number)| row.confirmation().zip(Some(number)));
        let Some((confirmation, number)) = parsed else {
            // Its confirmation is forgotten, but it is here.
            return Ok(Ok(Applied::AlreadyHeld { seq: Seq(seq) }));
        };
        if depositor != 0 {
            self.put(&key16(depositor, number), &DueRow {})?;
        }
        Ok(Ok(Applied::Confirmed(Box::new(confirmation))))
    }

    pub(super) fn further_depositor(
        &mut self,
        id: &MessageId,
        peer: &PeerKey,
        received: Option<Free>,
    ) -> Result<Applied, ChangeError> {
        let depositor = self.depositor(Some(peer), received)?;
        if let Some((seq, row)) = self.find(id)? {
            if row.verdict().is_some() && !row.is_read_by(received) {
                return self.confirmed_for(id, row.destination, depositor.number, seq)?;
            }
            self.add_depositor(seq, row, depositor.number, received)?;
            return Ok(Applied::AlreadyHeld { seq: Seq(seq) });
        }
        let verdicts = self.verdicts_on(id)?;
        match verdicts.first() {
            Some((destination, _)) => self.confirmed_for(id, *destination, depositor.number, 0)?,
            None => Err(ChangeError::NoDocument(*id)),
        }
    }

    fn add_depositor(
        &mut self,
        seq: u64,
        mut row: DocumentRow,
        depositor: u64,
        received: Option<Free>,
    ) -> Result<(), StoreError> {
        if row.state == RECEIVED && received.is_none() {
            // Whoever brings it counts on its being delivered.
            self.put(&key16(row.destination, seq), &OutboxRow { attempts: 0 })?;
            self.update(seq, &mut row, |row| {
                // It goes when it was delivered, and not before.
                (row.state, row.free_at, row.yields) = (WAITING, 0, false);
            })?;
        }
        let key = key16(seq, depositor);
        if depositor == 0 || depositor == row.depositor || self.get::<DepositorRow>(&key)?.is_some() {
            return Ok(());
        }
        self.put(&key, &DepositorRow {})
    }

    /// Whether whoever brings a body of that size may have it here beside what is here of it, or under way.
    pub(super) fn within_share(&mut self, size: u64, depositor: Depositor) -> Result<(), ChangeError> {
        let (held, limit) = if let Some(pool) = depositor.pool {
            let limit = match pool {
                Pool::Open => self.open_limit,
                Pool::Posters => self.poster_limit,
            };
            let [bytes, _, under_way] = self.meta.counts.of_pool(pool);
            (bytes.saturating_add(*under_way), limit)
        } else if depositor.bounded {
            let limit = self.peer_limit;
            let peer = self.peer_of_number(depositor.number)?;
            (peer.map_or(0, |peer| peer.held_bytes.saturating_add(peer.partial_bytes)), limit)
        } else {
            return Ok(());
        };
        match held.saturating_add(size) > limit {
            true => Err(ChangeError::Refused(Reason::OverQuota)),
            false => Ok(()),
        }
    }

    /// Counts what a class brings, the last thing before it is taken: twice its share at once, and then [`SHARES_A_DAY`] of
    /// them, however soon it is delivered.
    pub(super) fn flows_in(&mut self, size: u64, depositor: Depositor) -> Result<(), ChangeError> {
        let Some(pool) = depositor.pool else { return Ok(()) };
        let gone = self.now.saturating_sub(self.meta.inflow_at);
        let limits = [self.open_limit, self.poster_limit];
        let levels = [&mut self.meta.open_inflow, &mut self.meta.poster_inflow];
        // Not each second: little by little nothing would be taken off of a small share.
        if gone >= 60 {
            self.meta.inflow_at = self.now;
            for (level, limit) in levels.into_iter().zip(limits) {
                let drained = u128::from(limit) * u128::from(SHARES_A_DAY) * u128::from(gone) / 86_400;
                *level = level.saturating_sub(u64::try_from(drained).unwrap_or(u64::MAX));
            }
        }
        let (level, limit) = match pool {
            Pool::Open => (&mut self.meta.open_inflow, self.open_limit),
            Pool::Posters => (&mut self.meta.poster_inflow, self.poster_limit),
        };
        let with_it = level.saturating_add(size.max(LEAST_INFLOW));
        if with_it > limit.saturating_mul(2) {
            return Err(ChangeError::Refused(Reason::OverQuota));
        }
        *level = with_it;
        Ok(())
    }

    /// Sets aside what a body of that size takes.
    pub(super) fn take_room(&mut self, size: u64, received: bool) -> Result<(), ChangeError> {
        self.has_room(size, received)?;
        self.room -= admit::cost(size);
        Ok(())
    }

    /// Whether there is room for a body of that size, which retained ones make for it where it is to be delivered.
    pub(super) fn has_room(&mut self, size: u64, received: bool) -> Result<(), ChangeError> {
        if admit::cost(size) > self.room && (received || !self.make_room(admit::cost(size))?) {
            return Err(ChangeError::Refused(Reason::OverQuota));
        }
        Ok(())
    }

    pub(super) fn new_blob(&mut self) -> u64 {
        let blob = self.meta.next_blob;
        self.meta.next_blob += 1;
        blob
    }

    /// Makes the document exist.
    pub(super) fn insert(
        &mut self,
        arrival: Arrival<'_>,
        depositor: Depositor,
        extra: Extra,
    ) -> Result<Applied, ChangeError> {
        let Arrival { description, header, encoded_header, age, blob } = arrival;
        let destination = self.destination(&header.destination)?;
        let seq = self.meta.next_seq;
        self.meta.next_seq += 1;
        let mut row = DocumentRow {
            id: description.id.0.to_vec(),
            group: description.group.0.to_vec(),
            timestamp: description.timestamp.0,
            size: description.size,
            header: encoded_header,
            destination,
            lifetime: header.lifetime,
            priority: u32::from(header.priority),
            depositor: depositor.number,
            pool: Pool::code(depositor.pool),
            age,
            arrival: self.now,
            wall: self.store.inner.uptime.wall().0,
            state: match (extra.received, extra.draft) {
                (Some(_), _) => RECEIVED,
                (None, true) => DRAFT,
                (None, false) => WAITING,
            },
            live: true,
            blob,
            note: extra.note,
            ..DocumentRow::default()
        };
        if let Some(free) = extra.received {
            row.received = true;
            row.set_free(free, self.now);
            row.verdict = self.verdict(&description.id, destination)?.map_or(0, |known| known.verdict);
        }
        let index = self.prf(Table::Index, &[description.id.as_bytes()]);
        self.put(&index, &IndexRow { seq })?;
        if row.state == WAITING {
            self.put(&key16(destination, seq), &OutboxRow { attempts: 0 })?;
        }
        self.count(&row, true)?;
        self.place(seq, None, Some(&row))?;
        self.put(&key8(seq), &row)?;
        self.found(&description.id, destination)?;
        self.count_deposit(depositor.number, description.size)?;
        Ok(Applied::Stored { seq: Seq(seq) })
    }

    /// Adds a row to the sums, or takes it out. Done before and after each change of a row.
    pub(super) fn count(&mut self, row: &DocumentRow, add: bool) -> Result<(), StoreError> {
        let step = |sum: &mut u64, by: u64| {
            *sum = if add { sum.saturating_add(by) } else { sum.saturating_sub(by) };
        };
        if row.is_charged() {
            // What is retained makes room for strangers as for others.
            match row.pool() {
                Some(pool) => step(self.meta.counts.of_pool(pool)[0], row.size),
                None => {
                    if let Some(peer) = self.peer_of_number(row.depositor)? {
                        step(&mut peer.held_bytes, row.size);
                    }
                }
            }
        }
        let counts = &mut self.meta.counts;
        match (row.state, row.verdict()) {
            (DRAFT, _) => step(&mut counts.drafts, 1),
            (RECEIVED, _) => step(&mut counts.received, 1),
            (CONFIRMED, Some(Verdict::Opened)) => step(&mut counts.opened, 1),
            (CONFIRMED, Some(Verdict::Held)) => step(&mut counts.held, 1),
            (CONFIRMED, Some(Verdict::Rejected(_))) => step(&mut counts.rejected, 1),
            _ => step(&mut counts.waiting, 1),
        }
        if row.live {
            step(&mut counts.body_bytes, row.size);
        }
        if row.is_retained() {
            step(&mut counts.retained_bytes, row.size);
        }
        if row.is_timed() {
            step(&mut counts.timed, 1);
        }
        Ok(())
    }

    /// Changes a document's row and keeps the sums right.
    pub(super) fn update(
        &mut self,
        seq: u64,
        row: &mut DocumentRow,
        change: impl FnOnce(&mut DocumentRow),
    ) -> Result<(), StoreError> {
        let before = row.clone();
        change(row);
        self.count(&before, false)?;
        self.count(row, true)?;
        self.place(seq, Some(&before), Some(row))?;
        self.put(&key8(seq), row)
    }

    pub(super) fn release(&mut self, id: &MessageId) -> Result<Applied, ChangeError> {
        let (seq, mut row) = self.find_or_error(id)?;
        if row.state == DRAFT {
            self.put(&key16(row.destination, seq), &OutboxRow { attempts: 0 })?;
            self.update(seq, &mut row, |row| row.state = WAITING)?;
        }
        Ok(Applied::Done)
    }

    pub(super) fn attempted(&mut self, id: &MessageId) -> Result<Applied, ChangeError> {
        let (seq, row) = self.find_or_error(id)?;
        let key = key16(row.destination, seq);
        if let Some(OutboxRow { attempts }) = self.get(&key)? {
            self.put(&key, &OutboxRow { attempts: attempts.saturating_add(1) })?;
        }
        Ok(Applied::Done)
    }

    pub(crate) fn free_body(&mut self, id: &MessageId) -> Result<Applied, ChangeError> {
        let (seq, mut row) = self.find_or_error(id)?;
        if row.state == CONFIRMED && row.live {
            self.kill_body(seq, row.blob)?;
            self.update(seq, &mut row, |row| row.live = false)?;
        }
        Ok(Applied::Done)
    }

    /// The time of a body that was kept is over: what came for readers goes with it.
    pub(crate) fn let_go(&mut self, id: &MessageId) -> Result<Applied, ChangeError> {
        match self.find_or_error(id)? {
            (_, row) if row.state == RECEIVED => self.delete(id, Reason::Expired),
            _ => self.free_body(id),
        }
    }

    /// Removes a document and remembers why. A confirmed one stays confirmed.
    pub(crate) fn delete(&mut self, id: &MessageId, reason: Reason) -> Result<Applied, ChangeError> {
        let (seq, row) = self.find_or_error(id)?;
        self.bury(id, reason)?;
        self.remove_document(seq, &row)?;
        Ok(Applied::Done)
    }

    /// Remembers that a document is gone that is not here.
    pub(super) fn gone(&mut self, id: &MessageId, reason: Reason) -> Result<Applied, ChangeError> {
        if self.find(id)?.is_none() && self.verdicts_on(id)?.is_empty() {
            self.bury(id, reason)?;
        }
        Ok(Applied::Done)
    }

    fn bury(&mut self, id: &MessageId, reason: Reason) -> Result<(), StoreError> {
        let key = self.prf(Table::Tombstones, &[id.as_bytes()]);
        let row = TombstoneRow { reason: reason.code(), since: self.now, id: id.0.to_vec() };
        self.put(&key, &row)
    }

    pub(super) fn remove_document(&mut self, seq: u64, row: &DocumentRow) -> Result<(), StoreError> {
        if row.live {
            self.kill_body(seq, row.blob)?;
        }
        self.leave_outbox(seq, row)?;
        self.forget_answers(seq)?;
        for (peer, DepositorRow {}) in self.seconds(seq)? {
            self.remove(Table::Depositors, &key16(seq, peer))?;
        }
        let index = self.prf(Table::Index, &[&row.id]);
        self.remove(Table::Index, &index)?;
        self.remove(Table::Documents, &key8(seq))?;
        self.count(row, false)?;
        self.place(seq, Some(row), None)
    }

    /// Removes the key of a document's body, which is the deletion, and leaves its pieces to the sweeper. Nobody needs
    /// to be remembered to have it any more.
    pub(super) fn kill_body(&mut self, seq: u64, blob: u64) -> Result<(), StoreError> {
        self.forget_answers(seq)?;
        self.kill_blob(blob)
    }

    pub(super) fn kill_blob(&mut self, blob: u64) -> Result<(), StoreError> {
        self.remove(Table::BodyKeys, &key8(blob))?;
        self.put(&key8(blob), &DeadRow {})
    }

    /// It need not get to its destination any more.
    pub(super) fn leave_outbox(&mut self, seq: u64, row: &DocumentRow) -> Result<(), StoreError> {
        self.remove(Table::Outbox, &key16(row.destination, seq)).map(|_| ())
    }

    fn forget_answers(&mut self, seq: u64) -> Result<(), StoreError> {
        for (peer, _) in self.seconds::<AnswerRow>(seq)? {
            self.remove(Table::Answers, &key16(seq, peer))?;
        }
        Ok(())
    }
}
