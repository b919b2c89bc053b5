//! A store in memory: what the real one promises, without disk. A document is in it or not; there is no between.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::document::{Description, Document};
use waypost_protocol::envelope::Header;
use waypost_protocol::ids::{Fingerprint, MessageId, PeerKey, Seq, StoreId};
use waypost_protocol::refusal::Reason;
use waypost_protocol::sync::{
    Holdings, HoldingsError, Outgoing, Partial, Persist, Recipient, Standing, Stored,
};

/// A document that is held.
#[derive(Debug, Clone)]
pub struct Held {
    /// Its place in the order of arrival.
    pub seq: Seq,
    /// The document.
    pub document: Document,
    /// Its envelope's header.
    pub header: Header,
}

/// The store of one simulated node.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    /// Its name.
    pub id: StoreId,
    /// Whether documents go to peers of their own accord: phones send, gateways do not.
    pub sends: bool,
    /// At most so many documents; more are refused for lack of room.
    pub capacity: usize,
    documents: BTreeMap<MessageId, Held>,
    by_seq: BTreeMap<Seq, MessageId>,
    next_seq: u64,
    partials: BTreeMap<(MessageId, PeerKey), (Header, BytesMut)>,
    confirmations: BTreeMap<MessageId, Confirmation>,
    verdicts: BTreeMap<MessageId, (Verdict, MessageId)>,
    gone: BTreeMap<MessageId, Reason>,
    depositors: BTreeMap<MessageId, BTreeSet<PeerKey>>,
    due: BTreeMap<(PeerKey, Seq), MessageId>,
    held_by: BTreeSet<(StoreId, MessageId)>,
    refused_by: BTreeSet<(StoreId, MessageId)>,
    /// Whether it knows the key with which the destination signs now; phones hear of it from gateways.
    knows_key: bool,
    told: BTreeSet<PeerKey>,
}

impl MemoryStore {
    /// An empty one.
    pub fn new(id: StoreId, sends: bool) -> Self {
        MemoryStore {
            id,
            sends,
            capacity: usize::MAX,
            documents: BTreeMap::new(),
            by_seq: BTreeMap::new(),
            next_seq: 1,
            partials: BTreeMap::new(),
            confirmations: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            gone: BTreeMap::new(),
            depositors: BTreeMap::new(),
            due: BTreeMap::new(),
            held_by: BTreeSet::new(),
            refused_by: BTreeSet::new(),
            knows_key: !sends,
            told: BTreeSet::new(),
        }
    }

    /// Whether this peer is to hear of the destination's key.
    pub fn tells(&self, peer: &PeerKey) -> bool {
        !self.sends && !self.told.contains(peer)
    }

    /// The peer has taken what it was told.
    pub fn has_told(&mut self, peer: PeerKey) {
        self.told.insert(peer);
    }

    fn next_seq(&mut self) -> Seq {
        let seq = Seq(self.next_seq);
        self.next_seq += 1;
        seq
    }

    /// Puts in a document of the node's own.
    pub fn author(&mut self, document: Document, header: Header) {
        let seq = self.next_seq();
        self.by_seq.insert(seq, document.id());
        self.documents.insert(document.id(), Held { seq, document, header });
    }

    /// Makes durable what the engine asked for. `verify` says whether a confirmation's signature holds.
    pub fn persist(
        &mut self,
        item: Persist,
        from: PeerKey,
        verify: impl Fn(&Confirmation) -> bool,
    ) -> Result<Stored, Reason> {
        match item {
            Persist::Document { document, header, .. } => self.insert(document, *header, from),
            Persist::Piece { description, header, offset, bytes, .. } => {
                self.piece(description, &header, offset, &bytes, from)
            }
            Persist::Depositor(id) => {
                self.deposited(id, from);
                Ok(self.confirmed(&id).map_or(Stored::AlreadyHeld, |c| Stored::Confirmed(Box::new(c))))
            }
            Persist::Succession(_) => {
                self.knows_key = true;
                Ok(Stored::AlreadyHeld)
            }
            Persist::Confirmation(confirmation) if self.knows_key && verify(&confirmation) => {
                Ok(if self.confirm(&confirmation) { Stored::New } else { Stored::AlreadyHeld })
            }
            Persist::Confirmation(_) => Err(Reason::NotProven),
        }
    }

    fn insert(&mut self, document: Document, header: Header, from: PeerKey) -> Result<Stored, Reason> {
        let id = document.id();
        if let Some(confirmation) = self.confirmed(&id) {
            return Ok(Stored::Confirmed(Box::new(confirmation)));
        }
        if let Some(reason) = self.gone.get(&id) {
            return Err(*reason);
        }
        if self.documents.contains_key(&id) {
            self.deposited(id, from);
            return Ok(Stored::AlreadyHeld);
        }
        if self.documents.len() >= self.capacity {
            return Err(Reason::OverQuota);
        }
        self.author(document, header);
        self.deposited(id, from);
        Ok(Stored::New)
    }

    fn piece(
        &mut self,
        description: Description,
        header: &Header,
        offset: u64,
        bytes: &Bytes,
        from: PeerKey,
    ) -> Result<Stored, Reason> {
        let key = (description.id, from);
        let (_, body) = self.partials.entry(key).or_insert_with(|| (header.clone(), BytesMut::new()));
        if body.len() as u64 != offset {
            return Err(Reason::StorageFailed);
        }
        body.extend_from_slice(bytes);
        let committed = body.len() as u64;
        if committed < description.size {
            return Ok(Stored::Partial { committed });
        }
        let whole = self.partials.remove(&key).map(|(_, body)| body.freeze()).unwrap_or_default();
        match Document::new(description.group, description.timestamp, whole) {
            Ok(document) if document.id() == description.id => self.insert(document, header.clone(), from),
            _ => Err(Reason::WrongHash),
        }
    }

    fn deposited(&mut self, id: MessageId, from: PeerKey) {
        self.depositors.entry(id).or_default().insert(from);
    }

    fn confirmed(&self, id: &MessageId) -> Option<Confirmation> {
        self.verdicts.get(id).and_then(|(_, confirmation)| self.confirmations.get(confirmation)).cloned()
    }

    /// Takes a verified confirmation. False where it was known.
    pub fn confirm(&mut self, confirmation: &Confirmation) -> bool {
        let confirmation_id = confirmation.id();
        if self.confirmations.insert(confirmation_id, confirmation.clone()).is_some() {
            return false;
        }
        let seq = self.next_seq();
        for (id, verdict) in confirmation.statement.verdicts() {
            let moves = self.verdicts.get(id).is_none_or(|(known, _)| known.may_become(*verdict));
            if !moves {
                continue;
            }
            self.verdicts.insert(*id, (*verdict, confirmation_id));
            for peer in self.depositors.get(id).into_iter().flatten() {
                self.due.insert((*peer, seq), confirmation_id);
            }
            if !self.sends || *verdict == Verdict::Opened {
                self.remove(id);
            }
        }
        true
    }

    fn remove(&mut self, id: &MessageId) {
        if let Some(held) = self.documents.remove(id) {
            self.by_seq.remove(&held.seq);
        }
    }

    /// Deletes by the user's or admin's will.
    pub fn delete(&mut self, id: MessageId) {
        self.remove(&id);
        self.gone.insert(id, Reason::Deleted);
    }

    /// Forgets an expired document, but that it was here.
    pub fn expire(&mut self, id: MessageId) {
        self.remove(&id);
        self.gone.insert(id, Reason::Expired);
    }

    /// A peer's store holds a document.
    pub fn peer_holds(&mut self, store: StoreId, id: MessageId) {
        self.held_by.insert((store, id));
    }

    /// A peer's store does not take a document.
    pub fn peer_refuses(&mut self, store: StoreId, id: MessageId, reason: Reason) {
        if !reason.is_temporary() {
            self.refused_by.insert((store, id));
        }
    }

    /// A peer has a confirmation.
    pub fn delivered(&mut self, peer: PeerKey, confirmation: MessageId) {
        self.due.retain(|(to, _), id| !(*to == peer && *id == confirmation));
    }

    /// Documents held, in order of arrival.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.by_seq.values().filter_map(|id| self.documents.get(id))
    }

    /// Whether it is held.
    pub fn holds(&self, id: &MessageId) -> bool {
        self.documents.contains_key(id)
    }

    /// The verdict that this node knows.
    pub fn verdict(&self, id: &MessageId) -> Option<Verdict> {
        self.verdicts.get(id).map(|(verdict, _)| *verdict)
    }

    /// Whether a peer's store has acknowledged it.
    pub fn is_held_by(&self, store: StoreId, id: MessageId) -> bool {
        self.held_by.contains(&(store, id))
    }
}

impl Holdings for MemoryStore {
    fn lost(&self, _: &PeerKey, _: usize) -> Result<Vec<MessageId>, HoldingsError> {
        Ok(Vec::new())
    }

    fn outgoing_again(&self, _: &Recipient, _: &MessageId) -> Result<Option<Outgoing>, HoldingsError> {
        Ok(None)
    }

    fn standing(&self, id: &MessageId, _: Option<&Fingerprint>) -> Result<Standing, HoldingsError> {
        Ok(match (self.confirmed(id), self.gone.get(id)) {
            (Some(confirmation), _) => Standing::Confirmed(Box::new(confirmation)),
            (None, Some(reason)) => Standing::Gone(*reason),
            (None, None) if self.holds(id) => Standing::Held,
            (None, None) => Standing::Unknown,
        })
    }

    fn partial(&self, id: &MessageId, from: &PeerKey) -> Result<Option<Partial>, HoldingsError> {
        let partial = self.partials.get(&(*id, *from));
        Ok(partial.map(|(header, body)| Partial { committed: body.len() as u64, header: header.clone() }))
    }

    fn outgoing(
        &self,
        to: &Recipient,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<Outgoing>, HoldingsError> {
        if !self.sends {
            return Ok(Vec::new());
        }
        let wanted = |held: &&Held| {
            let id = held.document.id();
            to.serves.contains(&held.header.destination)
                && held.document.body().len() as u64 <= to.max_document
                && !self.verdicts.contains_key(&id)
                && !self.held_by.contains(&(to.store, id))
                && !self.refused_by.contains(&(to.store, id))
        };
        let row = |held: &Held| Outgoing {
            seq: held.seq,
            description: held.document.description(),
            destination: held.header.destination,
            age: None,
            maybe_held: self.held_by.iter().any(|(_, id)| *id == held.document.id()),
        };
        Ok(self
            .held()
            .filter(|held| after.is_none_or(|after| held.seq > after))
            .filter(wanted)
            .take(limit)
            .map(row)
            .collect())
    }

    fn read_body(&self, seq: Seq, offset: u64, len: usize) -> Result<Bytes, HoldingsError> {
        let body = self
            .by_seq
            .get(&seq)
            .and_then(|id| self.documents.get(id))
            .map(|held| held.document.body().clone());
        let body = body.unwrap_or_default();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(body.len());
        Ok(body.slice(start..body.len().min(start.saturating_add(len))))
    }

    fn confirmations_due(
        &self,
        to: &PeerKey,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<(Seq, Confirmation)>, HoldingsError> {
        let from = (*to, after.map_or(Seq(0), |after| Seq(after.0 + 1)));
        let rows = self.due.range(from..=(*to, Seq(u64::MAX)));
        Ok(rows
            .filter_map(|((_, seq), id)| Some((*seq, self.confirmations.get(id)?.clone())))
            .take(limit)
            .collect())
    }
}
