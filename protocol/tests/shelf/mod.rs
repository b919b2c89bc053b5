//! A shelf: what a node holds, in memory and small, with which tests drive one engine or two.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use prost::Message as _;
use waypost_protocol::confirmation::{Confirmation, Statement, Verdict};
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::{Fingerprint, GroupId, MessageId, PeerKey, Seq, StoreId};
use waypost_protocol::mvds;
use waypost_protocol::refusal::Reason;
use waypost_protocol::succession::Link;
use waypost_protocol::sync::{
    Accepts, Engine, Event, Holdings, HoldingsError, Input, Outgoing, Output, Page, Parameters, Partial,
    PeerHello, Persist, Pipe, ProtocolError, Recipient, Served, Standing, Stored, Ticket, WINDOW,
};
use waypost_protocol::time::{Monotonic, UnixTime};

pub const DESTINATION: Fingerprint = Fingerprint::V4([0xd5; 20]);
pub const GROUP: GroupId = GroupId([0x61; 32]);
pub const NOW: Monotonic = Monotonic(std::time::Duration::from_secs(100));

/// A document with a body of `size` bytes, unlike any with another `number`.
pub fn document(number: u32, size: usize) -> Document {
    let mut sealed = number.to_be_bytes().to_vec();
    let head = Header::to(DESTINATION).encode().unwrap().len();
    sealed.resize(size.saturating_sub(head).max(4), 0x5a);
    let body = envelope::assemble(&Header::to(DESTINATION), &sealed).unwrap();
    Document::new(GROUP, UnixTime(3_600), body).unwrap()
}

/// "Opened" for these, with bytes in the place of a signature.
pub fn confirmation(documents: &[&Document]) -> Confirmation {
    confirmation_by(DESTINATION, documents)
}

/// The same by any destination.
pub fn confirmation_by(destination: Fingerprint, documents: &[&Document]) -> Confirmation {
    let verdicts = documents.iter().map(|one| (one.id(), Verdict::Opened)).collect();
    let statement = Statement::new(destination, destination, UnixTime(1_795_236_000), verdicts).unwrap();
    Confirmation::new(statement, Bytes::from_static(b"signature")).unwrap()
}

/// What one node holds.
#[derive(Default)]
pub struct Shelf {
    /// To send, by sequence.
    pub outbox: BTreeMap<u64, Document>,
    /// Acknowledged by the peer, and kept until they are confirmed.
    pub kept: BTreeMap<u64, Document>,
    /// For subscribers, by sequence.
    pub shared: BTreeMap<u64, Document>,
    /// Whether documents that came from the peer are read here, also if they are confirmed.
    pub reads: bool,
    /// Documents that have come from the peer.
    pub received: BTreeMap<MessageId, Document>,
    /// Documents that the peer brought and that are lost here.
    pub lost: Vec<MessageId>,
    /// Documents written during the session.
    pub written: u64,
    /// Documents that are offered first.
    pub maybe_held: bool,
    /// What the ids are known as.
    pub standing: BTreeMap<MessageId, Standing>,
    /// What there is of bodies.
    pub partials: BTreeMap<MessageId, Vec<u8>>,
    /// Confirmations to hand over.
    pub due: Vec<Confirmation>,
    /// What was told of destinations' certificates, in order.
    pub chain: Vec<Link>,
    /// Whether confirmations verify here.
    pub distrusts: bool,
}

impl Shelf {
    pub fn sending(documents: impl IntoIterator<Item = Document>) -> Self {
        let outbox = documents.into_iter().zip(1..).map(|(document, seq)| (seq, document)).collect();
        Shelf { outbox, ..Default::default() }
    }

    /// With these for subscribers.
    pub fn sharing(documents: impl IntoIterator<Item = Document>) -> Self {
        let shared = documents.into_iter().zip(1..).map(|(document, seq)| (seq, document)).collect();
        Shelf { shared, ..Default::default() }
    }

    fn is_read_here(&self, id: &MessageId) -> bool {
        self.reads && self.received.contains_key(id)
    }

    /// Whether a document that comes is to be stored: it is new, or is read here and never was.
    fn takes(&self, id: &MessageId, destination: &Fingerprint) -> bool {
        match self.standing(id, Some(destination)) {
            Ok(Standing::Unknown) => true,
            Ok(Standing::Confirmed(_)) => self.reads,
            _ => false,
        }
    }

    pub fn delete(&mut self, id: &MessageId) {
        self.outbox.retain(|_, document| document.id() != *id);
    }

    /// Makes durable, as a store does: overlapping pieces are cut, gaps refused, the hash decides.
    pub fn persist(&mut self, item: Persist) -> Result<Stored, Reason> {
        match item {
            Persist::Document { document, .. } => self.insert(document),
            Persist::Piece { description, header, .. }
                if !self.takes(&description.id, &header.destination) =>
            {
                self.partials.remove(&description.id);
                self.known(&description.id)
            }
            Persist::Piece { description, offset, bytes, .. } => {
                let known = self.partials.entry(description.id).or_default();
                let skip = (known.len() as u64).checked_sub(offset).ok_or(Reason::StorageFailed)?;
                known.extend_from_slice(bytes.get(skip as usize..).unwrap_or_default());
                let committed = known.len() as u64;
                if committed < description.size {
                    return Ok(Stored::Partial { committed });
                }
                let body = self.partials.remove(&description.id).unwrap_or_default();
                match Document::new(description.group, description.timestamp, body.into()) {
                    Ok(document) if document.id() == description.id => self.insert(document),
                    _ => Err(Reason::WrongHash),
                }
            }
            Persist::Depositor(id) => self.known(&id),
            Persist::Succession(link) => {
                let proven = link.word.as_ref().is_none_or(|word| word.signature == b"good"[..]);
                self.chain.push(*link);
                if proven { Ok(Stored::AlreadyHeld) } else { Err(Reason::NotProven) }
            }
            Persist::Confirmation(_) if self.distrusts => Err(Reason::NotProven),
            Persist::Confirmation(confirmation) => {
                let known = Standing::Confirmed(confirmation.clone());
                let by = confirmation.statement.destination();
                let verdicts = confirmation.statement.verdicts().iter().map(|(id, _)| *id);
                let foreign = |id: &MessageId| {
                    self.outbox.values().any(|one| one.id() == *id && destination_of(one) != by)
                };
                let covered: Vec<_> = verdicts.filter(|id| !foreign(id)).collect();
                covered.iter().for_each(|id| self.delete(id));
                let mut new = false;
                for id in covered {
                    new |= self.standing.insert(id, known.clone()) != Some(known.clone());
                }
                Ok(if new { Stored::New } else { Stored::AlreadyHeld })
            }
        }
    }

    fn insert(&mut self, document: Document) -> Result<Stored, Reason> {
        if !self.takes(&document.id(), &destination_of(&document)) {
            return self.known(&document.id());
        }
        self.lost.retain(|id| *id != document.id());
        if self.standing(&document.id(), Some(&destination_of(&document))) == Ok(Standing::Unknown) {
            self.standing.insert(document.id(), Standing::Held);
        }
        self.received.insert(document.id(), document);
        Ok(Stored::New)
    }

    /// What a store answers that is given what it knows.
    pub fn known(&self, id: &MessageId) -> Result<Stored, Reason> {
        match self.standing.get(id) {
            Some(Standing::Confirmed(_)) if self.is_read_here(id) => Ok(Stored::AlreadyHeld),
            Some(Standing::Confirmed(confirmation)) => Ok(Stored::Confirmed(confirmation.clone())),
            Some(Standing::Gone(reason)) => Err(*reason),
            Some(Standing::Held) => Ok(Stored::AlreadyHeld),
            Some(Standing::Unknown) | None => Err(Reason::StorageFailed),
        }
    }
}

impl Holdings for Shelf {
    fn standing(&self, id: &MessageId, destination: Option<&Fingerprint>) -> Result<Standing, HoldingsError> {
        let known = self.standing.get(id).cloned().unwrap_or(Standing::Unknown);
        Ok(match (&known, destination) {
            (Standing::Confirmed(_), _) if self.is_read_here(id) => Standing::Held,
            (Standing::Confirmed(one), Some(own)) if one.statement.destination() != *own => Standing::Unknown,
            _ => known,
        })
    }

    fn lost(&self, _: &PeerKey, limit: usize) -> Result<Vec<MessageId>, HoldingsError> {
        Ok(self.lost.iter().copied().take(limit).collect())
    }

    fn subscribed(&self, to: &Recipient, after: Option<Seq>, limit: usize) -> Result<Page, HoldingsError> {
        let rows = self.shared.range(after.map_or(0, |seq| seq.0 + 1)..);
        let mut rows = rows.filter(|(_, document)| to.wants.contains(&document.group())).peekable();
        let documents: Vec<_> = rows.by_ref().take(limit).map(|(seq, one)| row(*seq, one, true)).collect();
        let (seen, more) = (documents.last().map(|one| one.seq), rows.peek().is_some());
        Ok(Page { documents, seen, more })
    }

    fn is_missing(&self, id: &MessageId) -> Result<bool, HoldingsError> {
        let is_gone = matches!(self.standing.get(id), Some(Standing::Gone(_) | Standing::Held));
        Ok(!is_gone && !self.received.contains_key(id))
    }

    fn outgoing_again(&self, to: &Recipient, id: &MessageId) -> Result<Option<Outgoing>, HoldingsError> {
        let wanted = self.shared.iter().filter(|(_, document)| to.wants.contains(&document.group()));
        let found = self.kept.iter().chain(wanted).find(|(_, document)| document.id() == *id);
        Ok(found.map(|(seq, document)| row(*seq, document, false)))
    }

    fn partial(&self, id: &MessageId, _: &PeerKey) -> Result<Option<Partial>, HoldingsError> {
        let header = Header::to(DESTINATION);
        Ok(self.partials.get(id).map(|known| Partial { committed: known.len() as u64, header }))
    }

    fn outgoing(
        &self,
        to: &Recipient,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<Outgoing>, HoldingsError> {
        let rows = self.outbox.range(after.map_or(0, |seq| seq.0 + 1)..);
        let rows = rows.filter(|(_, document)| document.body().len() as u64 <= to.max_document);
        Ok(rows.map(|(seq, document)| row(*seq, document, self.maybe_held)).take(limit).collect())
    }

    fn read_body(&self, seq: Seq, offset: u64, len: usize) -> Result<Bytes, HoldingsError> {
        let document = self.outbox.get(&seq.0).or_else(|| self.kept.get(&seq.0));
        let document = document.or_else(|| self.shared.get(&seq.0));
        let body = document.map(|document| document.body().clone()).unwrap_or_default();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(body.len());
        Ok(body.slice(start..body.len().min(start.saturating_add(len))))
    }

    fn confirmations_due(
        &self,
        _: &PeerKey,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<(Seq, Confirmation)>, HoldingsError> {
        let rows = self.due.iter().zip(1..).map(|(one, seq)| (Seq(seq), one.clone()));
        Ok(rows.filter(|(seq, _)| after.is_none_or(|after| *seq > after)).take(limit).collect())
    }
}

pub fn destination_of(document: &Document) -> Fingerprint {
    envelope::parse(document.body()).unwrap().0.destination
}

fn row(seq: u64, document: &Document, maybe_held: bool) -> Outgoing {
    let destination = destination_of(document);
    Outgoing { seq: Seq(seq), description: document.description(), destination, age: None, maybe_held }
}

pub fn parameters(initiator: bool) -> Parameters {
    Parameters {
        hello: PeerHello {
            store: StoreId([initiator.into(); 16]),
            serves: vec![DESTINATION],
            wants: Vec::new(),
            max_document: 1 << 40,
            window: WINDOW,
            name: String::new(),
            has_backhaul: false,
            is_gateway: !initiator,
            moves: false,
            advertising_key: None,
        },
        accepts: Accepts {
            destinations: vec![Served::all(DESTINATION)],
            max_document: 1 << 40,
            records: true,
        },
        may_want: Vec::new(),
        tells: Vec::new(),
        peer: PeerKey([u8::from(!initiator); 32]),
        initiator,
        target_payload: 4096,
        pipe: Pipe::Ordered,
    }
}

/// One engine with its shelf. What it asks to persist waits until the test lets it happen.
pub struct Side {
    pub engine: Engine,
    pub shelf: Shelf,
    pub waiting: VecDeque<(Ticket, Persist)>,
    pub events: Vec<Event>,
}

impl Side {
    pub fn new(initiator: bool, shelf: Shelf) -> Self {
        Self::with(parameters(initiator), shelf)
    }

    pub fn with(parameters: Parameters, shelf: Shelf) -> Self {
        Side { engine: Engine::new(parameters), shelf, waiting: VecDeque::new(), events: Vec::new() }
    }

    /// A side that has heard the hello of a peer which the test plays.
    pub fn greeted(shelf: Shelf) -> Self {
        let mut side = Side::new(false, shelf);
        side.hears_bytes(Engine::encode_hello(&parameters(true).hello)).unwrap();
        side.speaks();
        side
    }

    pub fn input(&mut self, input: Input) -> Result<(), ProtocolError> {
        self.engine.handle_input(input, NOW, &self.shelf)
    }

    pub fn hears_bytes(&mut self, payload: Vec<u8>) -> Result<(), ProtocolError> {
        self.input(Input::Frame(payload.into()))
    }

    pub fn hears(&mut self, payload: mvds::Payload) -> Result<(), ProtocolError> {
        self.hears_bytes(payload.encode_to_vec())
    }

    /// Everything that it says now; what is to be persisted waits.
    pub fn speaks(&mut self) -> Vec<Vec<u8>> {
        let mut said = Vec::new();
        loop {
            match self.engine.poll_output(NOW, true, &self.shelf) {
                Output::Transmit(payload) => said.push(payload),
                Output::Persist { ticket, item } => self.waiting.push_back((ticket, item)),
                Output::Event(event) => self.events.push(event),
                Output::Timeout(_) => return said,
            }
        }
    }

    /// [`Side::speaks`], decoded and joined to one payload.
    pub fn says(&mut self) -> mvds::Payload {
        let mut all = mvds::Payload::default();
        for payload in self.speaks() {
            all.merge(payload.as_slice()).unwrap();
        }
        all
    }

    /// The shelf makes durable what waits.
    pub fn commits(&mut self) {
        while let Some((ticket, item)) = self.waiting.pop_front() {
            let input = match self.shelf.persist(item) {
                Ok(outcome) => Input::Persisted { ticket, outcome },
                Err(reason) => Input::PersistFailed { ticket, reason },
            };
            self.input(input).unwrap();
        }
    }

    pub fn has_finished(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Finished { .. }))
    }
}

/// Two engines back to back.
pub struct Pair {
    pub sides: [Side; 2],
}

impl Pair {
    pub fn new(phone: Shelf, gateway: Shelf) -> Self {
        Self::with_target(phone, gateway, 4096)
    }

    /// The phone has subscribed to [`GROUP`], and may as far as `may_want` goes.
    pub fn subscribed(phone: Shelf, gateway: Shelf, may_want: Vec<GroupId>) -> Self {
        Self::subscribed_over(phone, gateway, may_want, Pipe::Ordered)
    }

    /// The same over another pipe.
    pub fn subscribed_over(phone: Shelf, gateway: Shelf, may_want: Vec<GroupId>, pipe: Pipe) -> Self {
        let mut wanting = Parameters { pipe, ..parameters(true) };
        (wanting.hello.wants, wanting.hello.serves) = (vec![GROUP], Vec::new());
        let sides = [
            Side::with(wanting, Shelf { reads: true, ..phone }),
            Side::with(Parameters { may_want, pipe, ..parameters(false) }, gateway),
        ];
        Self::greet(sides)
    }

    pub fn with_target(phone: Shelf, gateway: Shelf, target_payload: usize) -> Self {
        let side =
            |initiator, shelf| Side::with(Parameters { target_payload, ..parameters(initiator) }, shelf);
        Self::greet([side(true, phone), side(false, gateway)])
    }

    /// Both hear each other's hello.
    pub fn greet(mut sides: [Side; 2]) -> Self {
        let hellos = [sides[0].engine.hello(), sides[1].engine.hello()];
        let [first, second] = hellos;
        sides[1].hears_bytes(first).unwrap();
        sides[0].hears_bytes(second).unwrap();
        Pair { sides }
    }

    /// Moves what one side says to the other; how many payloads that were.
    pub fn carry(&mut self, from: usize) -> usize {
        let said = self.sides[from].speaks();
        let count = said.len();
        for payload in said {
            self.sides[1 - from].hears_bytes(payload).unwrap();
        }
        count
    }

    /// Until nothing moves any more. Panics where that takes too long.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let moved = self.carry(0) + self.carry(1);
            let waits = self.sides.iter().any(|side| !side.waiting.is_empty());
            self.sides.iter_mut().for_each(Side::commits);
            if moved == 0 && !waits {
                return;
            }
        }
        panic!("two sides talk without end");
    }
}

pub fn bytes_of(id: &MessageId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

pub fn start_of(transfer: u32, document: &Document) -> mvds::Start {
    mvds::Start {
        transfer,
        id: bytes_of(&document.id()),
        group_id: Bytes::copy_from_slice(document.group().as_bytes()),
        timestamp: document.timestamp().0 as i64,
        size: document.body().len() as u64,
        destination: Bytes::copy_from_slice(destination_of(document).as_bytes()),
    }
}
