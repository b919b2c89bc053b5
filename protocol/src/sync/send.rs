//! The sending half: which documents go to the peer, as OFFER, MESSAGE or chunks, and what became of them.

mod answers;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::engine::Outbound;
use super::payload::{Filling, ID_COST, REFUSAL_COST, bytes_of, cost_of};
use super::types::{Event, Pipe, Place};
use super::{Holdings, HoldingsError, INLINE_MAX, Outgoing, Page, Recipient};
use crate::document::Description;
use crate::ids::{Fingerprint, MessageId, Seq};
use crate::mvds;
use crate::refusal::Reason;
use crate::time::Monotonic;

/// Documents that wait for an answer at the same time.
const MAX_UNANSWERED: usize = 256;
/// Bytes of inline bodies that wait for an answer at the same time.
const MAX_UNANSWERED_BYTES: u64 = 1024 * 1024;
/// Large documents that are started at the same time.
const MAX_STARTED: usize = 4;
/// Large documents that wait for one of those places.
const MAX_LARGE_WAITING: usize = 64;
/// Rows fetched from the store at once.
const FETCH: usize = 32;
/// Bytes of a body read from the store at once.
const READ_AHEAD: usize = 64 * 1024;
/// Bytes that a chunk costs beside its content.
const CHUNK_COST: usize = 3 + 3 + 6 + 11 + 4;
/// A chunk shorter than this waits for the next payload, unless it is the body's end.
const SMALLEST_CHUNK: usize = 1024;
/// Documents that the peer is to be told will not come.
const MAX_WITHDRAWN: usize = 1024;
/// Transfers that seem to be answered and are remembered in case they are not.
const MAX_SETTLED: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To be offered; offered.
    Offer { sent: bool },
    /// To be sent inline; sent.
    Message { sent: bool },
    /// To be started; started.
    Start { transfer: u32, sent: bool },
    /// Chunks go from `next` on; the peer has committed `committed`.
    Chunks { transfer: u32, next: u64, committed: u64 },
}

/// A document that waits for its turn.
struct Next {
    document: Outgoing,
    /// The peer has subscribed to it: it is offered, and confirmations are no reason not to send it.
    wanted: bool,
}

/// How far documents of one kind have been taken from the store.
#[derive(Default)]
struct Stream {
    cursor: Option<Seq>,
    exhausted: bool,
}

/// What the peer has acknowledged.
pub(super) struct Sent {
    pub(super) destination: Fingerprint,
    pub(super) wanted: bool,
}

struct Item {
    wanted: bool,
    place: Place,
    description: Description,
    destination: Fingerprint,
    age: Option<u64>,
    stage: Stage,
    attempts: u32,
    due: Option<Monotonic>,
}

pub(super) struct Sender {
    pipe: Pipe,
    /// What the peer carries on.
    carried: Stream,
    /// What the peer has subscribed to.
    subscribed: Stream,
    fetched: VecDeque<Next>,
    large: VecDeque<Next>,
    /// Asked for by the peer; they go before all others.
    again: VecDeque<Next>,
    items: BTreeMap<MessageId, Item>,
    ready: VecDeque<MessageId>,
    transfers: BTreeMap<u32, MessageId>,
    /// Started for a subscriber that has answered by a confirmation, as it seems.
    settled: BTreeMap<u32, Item>,
    withdrawn: VecDeque<MessageId>,
    next_transfer: u32,
    inline_bytes: u64,
    ahead: Option<(Seq, u64, Bytes)>,
}

impl Sender {
    pub(super) fn new(pipe: Pipe) -> Self {
        Sender {
            pipe,
            carried: Stream::default(),
            subscribed: Stream::default(),
            fetched: VecDeque::new(),
            large: VecDeque::new(),
            again: VecDeque::new(),
            items: BTreeMap::new(),
            ready: VecDeque::new(),
            transfers: BTreeMap::new(),
            settled: BTreeMap::new(),
            withdrawn: VecDeque::new(),
            next_transfer: 1,
            inline_bytes: 0,
            ahead: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.carried.exhausted
            && self.subscribed.exhausted
            && self.fetched.is_empty()
            && self.large.is_empty()
            && self.again.is_empty()
            && self.items.is_empty()
            && self.withdrawn.is_empty()
    }

    pub(super) fn look_again(&mut self) {
        (self.carried.exhausted, self.subscribed.exhausted) = (false, false);
    }

    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.items.values().filter_map(|item| item.due).min()
    }

    /// Sends again what was not answered in time; only over a pipe that loses payloads.
    pub(super) fn handle_timeout(&mut self, now: Monotonic) {
        for (id, item) in &mut self.items {
            if item.due.is_none_or(|due| due > now) {
                continue;
            }
            item.due = None;
            item.stage = match item.stage {
                Stage::Offer { .. } => Stage::Offer { sent: false },
                Stage::Message { .. } => Stage::Message { sent: false },
                Stage::Start { transfer, .. } | Stage::Chunks { transfer, .. } => {
                    Stage::Start { transfer, sent: false }
                }
            };
            self.ready.push_back(*id);
        }
    }

    /// Adds what is to be sent to a payload.
    pub(super) fn fill(
        &mut self,
        filling: &mut Filling,
        now: Monotonic,
        to: &Recipient,
        window: u64,
        holdings: &dyn Holdings,
        out: &mut Outbound,
    ) {
        self.admit(to, holdings, out);
        while let Some(id) = self.ready.pop_front() {
            match self.fill_item(&id, filling, now, holdings) {
                Ok(true) => {}
                Ok(false) => {
                    self.ready.push_front(id);
                    break;
                }
                Err(problem) => {
                    self.give_up(&id);
                    if let Some(error) = problem {
                        // One a payload: a store that fails does so for each document.
                        out.event(Event::Unreadable { id, detail: error.to_string() });
                        break;
                    }
                }
            }
            self.admit(to, holdings, out);
        }
        self.fill_withdrawn(filling);
        self.fill_chunk(filling, window, now, holdings, out);
        // A body may have turned out to be gone.
        self.fill_withdrawn(filling);
    }

    fn fill_withdrawn(&mut self, filling: &mut Filling) {
        while let Some(id) = self.withdrawn.front()
            && filling.take(REFUSAL_COST)
        {
            let refusal = mvds::Refusal { id: bytes_of(id), reason: Reason::Withdrawn.code() };
            filling.payload().refusals.push(refusal);
            self.withdrawn.pop_front();
        }
    }

    /// Takes documents from the store as long as few enough wait for an answer.
    fn admit(&mut self, to: &Recipient, holdings: &dyn Holdings, out: &mut Outbound) {
        loop {
            let started = self.transfers.len();
            if started < MAX_STARTED
                && self.items.len() < MAX_UNANSWERED
                && let Some(large) = self.large.pop_front()
            {
                let transfer = self.next_transfer;
                self.next_transfer += 1;
                self.transfers.insert(transfer, large.document.description.id);
                self.insert(large, Stage::Start { transfer, sent: false });
                continue;
            }
            if self.items.len() >= MAX_UNANSWERED
                || self.inline_bytes >= MAX_UNANSWERED_BYTES
                || self.large.len() >= MAX_LARGE_WAITING
            {
                return;
            }
            match self.again.pop_front().or_else(|| self.fetched.pop_front()) {
                Some(next) if self.items.contains_key(&next.document.description.id) => {}
                Some(next) if next.document.description.size > INLINE_MAX => self.large.push_back(next),
                Some(next) if next.document.maybe_held => self.insert(next, Stage::Offer { sent: false }),
                Some(next) => self.insert(next, Stage::Message { sent: false }),
                None if !self.carried.exhausted => self.fetch_carried(to, holdings, out),
                None if !self.subscribed.exhausted => self.fetch_subscribed(to, holdings, out),
                None => return,
            }
        }
    }

    fn fetch_carried(&mut self, to: &Recipient, holdings: &dyn Holdings, out: &mut Outbound) {
        match holdings.outgoing(to, self.carried.cursor, FETCH) {
            Ok(rows) => {
                self.carried.exhausted = rows.is_empty();
                self.carried.cursor = rows.last().map(|row| row.seq).or(self.carried.cursor);
                self.fetched = rows.into_iter().map(|document| Next { document, wanted: false }).collect();
            }
            Err(error) => {
                self.carried.exhausted = true;
                out.unreadable(&error);
            }
        }
    }

    fn fetch_subscribed(&mut self, to: &Recipient, holdings: &dyn Holdings, out: &mut Outbound) {
        if to.wants.is_empty() {
            self.subscribed.exhausted = true;
            return;
        }
        match holdings.subscribed(to, self.subscribed.cursor, FETCH) {
            Ok(Page { documents, seen, more }) => {
                self.subscribed.exhausted = !more;
                self.subscribed.cursor = seen.or(self.subscribed.cursor);
                // What is sent to it to be carried on need not be offered as well.
                let offered = documents.into_iter().map(|document| Outgoing { maybe_held: true, ..document });
                self.fetched = offered.map(|document| Next { document, wanted: true }).collect();
            }
            Err(error) => {
                self.subscribed.exhausted = true;
                out.unreadable(&error);
            }
        }
    }

    fn insert(&mut self, next: Next, stage: Stage) {
        let Next { document: Outgoing { seq, description, destination, age, .. }, wanted } = next;
        if description.size <= INLINE_MAX {
            self.inline_bytes += description.size;
        }
        let place = Place { seq, size: description.size };
        self.items.insert(
            description.id,
            Item { wanted, place, description, destination, age, stage, attempts: 0, due: None },
        );
        self.ready.push_back(description.id);
    }

    fn remove(&mut self, id: &MessageId) -> Option<Item> {
        let item = self.items.remove(id)?;
        if item.place.size <= INLINE_MAX {
            self.inline_bytes -= item.place.size;
        }
        if let Stage::Start { transfer, .. } | Stage::Chunks { transfer, .. } = item.stage {
            self.transfers.remove(&transfer);
        }
        Some(item)
    }

    /// `Ok(false)`: no room in this payload. `Err`: the document cannot be read, or is gone.
    fn fill_item(
        &mut self,
        id: &MessageId,
        filling: &mut Filling,
        now: Monotonic,
        holdings: &dyn Holdings,
    ) -> Result<bool, Option<HoldingsError>> {
        let Some(item) = self.items.get_mut(id) else { return Ok(true) };
        let age_cost = if item.age.is_some() { ID_COST + 12 } else { 0 };
        let stage = match item.stage {
            Stage::Offer { sent: false } => {
                if !filling.take(ID_COST) {
                    return Ok(false);
                }
                filling.payload().offers.push(bytes_of(id));
                Stage::Offer { sent: true }
            }
            Stage::Message { sent: false } => {
                // The sizes of the fixed fields are known before the body is read.
                let cost =
                    usize::try_from(item.place.size).unwrap_or(usize::MAX).saturating_add(60 + age_cost);
                if !filling.is_empty() && cost > filling.room() {
                    return Ok(false);
                }
                let message = read_message(item, holdings).map_err(Some)?.ok_or(None)?;
                filling.take(cost_of(&message) + age_cost);
                filling.payload().messages.push(message);
                filling.age(id, item.age);
                Stage::Message { sent: true }
            }
            Stage::Start { transfer, sent: false } => {
                let Description { group, timestamp, size, .. } = item.description;
                let start = mvds::Start {
                    transfer,
                    id: bytes_of(id),
                    group_id: Bytes::copy_from_slice(group.as_bytes()),
                    timestamp: i64::try_from(timestamp.0).unwrap_or(i64::MAX),
                    size,
                    destination: Bytes::copy_from_slice(item.destination.as_bytes()),
                };
                if !filling.take(cost_of(&start) + age_cost) {
                    return Ok(false);
                }
                filling.payload().starts.push(start);
                filling.age(id, item.age);
                Stage::Start { transfer, sent: true }
            }
            _ => return Ok(true),
        };
        item.stage = stage;
        item.attempts += 1;
        item.due = self.pipe.due(item.attempts, now);
        Ok(true)
    }

    /// Fills what room is left with a chunk of the first body whose window is open.
    fn fill_chunk(
        &mut self,
        filling: &mut Filling,
        window: u64,
        now: Monotonic,
        holdings: &dyn Holdings,
        out: &mut Outbound,
    ) {
        let open = self.transfers.values().copied().find(|id| {
            let stage = self.items.get(id).map(|item| (item.stage, item.place.size));
            matches!(stage, Some((Stage::Chunks { next, committed, .. }, size))
                if next < size && next < committed.saturating_add(window))
        });
        let Some(item) = open.and_then(|id| self.items.get_mut(&id)) else { return };
        let Stage::Chunks { transfer, next, committed } = item.stage else { return };
        let room = match filling.is_empty() {
            true => filling.room().saturating_sub(CHUNK_COST).max(SMALLEST_CHUNK),
            false => filling.room().saturating_sub(CHUNK_COST),
        };
        let allowed = (item.place.size - next).min(committed.saturating_add(window) - next);
        let length = usize::try_from(allowed).unwrap_or(usize::MAX).min(room);
        if length < SMALLEST_CHUNK && (length as u64) < allowed {
            return;
        }
        let (place, id) = (item.place, item.description.id);
        let bytes = match read_ahead(&mut self.ahead, place.seq, next, length, holdings) {
            Ok(bytes) if !bytes.is_empty() => bytes,
            // Deleted meanwhile.
            Ok(_) => return self.give_up(&id),
            Err(error) => {
                self.give_up(&id);
                return out.event(Event::Unreadable { id, detail: error.to_string() });
            }
        };
        let next = next + bytes.len() as u64;
        item.stage = Stage::Chunks { transfer, next, committed };
        item.due = self.pipe.due(item.attempts.max(1), now);
        filling.take(CHUNK_COST + bytes.len());
        filling.payload().chunks.push(mvds::Chunk { transfer, offset: next - bytes.len() as u64, bytes });
        out.event(Event::Progress { id, sending: true, done: next, size: place.size });
    }
}

/// `None`: deleted meanwhile.
fn read_message(item: &Item, holdings: &dyn Holdings) -> Result<Option<mvds::Message>, HoldingsError> {
    let size = usize::try_from(item.place.size).unwrap_or(usize::MAX);
    let body = holdings.read_body(item.place.seq, 0, size)?;
    Ok((body.len() == size).then(|| mvds::Message {
        group_id: Bytes::copy_from_slice(item.description.group.as_bytes()),
        timestamp: i64::try_from(item.description.timestamp.0).unwrap_or(i64::MAX),
        body,
        metadata: None,
    }))
}

fn read_ahead(
    ahead: &mut Option<(Seq, u64, Bytes)>,
    seq: Seq,
    offset: u64,
    length: usize,
    holdings: &dyn Holdings,
) -> Result<Bytes, HoldingsError> {
    if let Some((known, start, bytes)) = ahead
        && *known == seq
        && let Some(skip) = offset.checked_sub(*start).and_then(|skip| usize::try_from(skip).ok())
        && skip < bytes.len()
    {
        let end = bytes.len().min(skip + length);
        return Ok(bytes.slice(skip..end));
    }
    let bytes = holdings.read_body(seq, offset, READ_AHEAD.max(length))?;
    let now = bytes.slice(..bytes.len().min(length));
    *ahead = Some((seq, offset, bytes));
    Ok(now)
}
