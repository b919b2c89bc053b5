//! The receiving half: what comes is checked, made durable, and only then acknowledged.

mod transfers;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::Bytes;

use self::transfers::Incoming;
use super::confirm::Confirming;
use super::engine::Outbound;
use super::payload::{Filling, ID_COST, REFUSAL_COST, bytes_of, cost_of};
use super::report::Reporting;
use super::types::{Accepts, Event, Pipe, ProtocolError, Stored, Ticket};
use super::{Holdings, Persist, Standing};
use crate::confirmation::Confirmation;
use crate::document::{Description, Document};
use crate::envelope;
use crate::ids::{Fingerprint, GroupId, MessageId, PeerKey};
use crate::mvds;
use crate::refusal::Reason;
use crate::succession::Link;
use crate::time::Monotonic;

/// Bytes of a body that are made durable at once.
pub const PIECE: usize = 64 * 1024;
/// Bodies that one peer may send at the same time.
const MAX_TRANSFERS: usize = 8;
/// Documents asked for and not yet there.
const MAX_REQUESTED: usize = 1024;
/// Lost documents asked for in one conversation.
const MAX_LOST: usize = 256;
/// Answers that wait for a payload: what two payloads full of offers ask for. A peer that asks on without taking them
/// is cut off.
const MAX_ANSWERS: usize = 4096;
/// What something that waits to become durable costs beside its bytes: tables, header, ticket.
const PENDING_COST: usize = 512;
/// Malformed entries of one payload that are reported one by one.
const MAX_MALFORMED: usize = 4;

/// What handling a payload needs from the rest of the engine.
pub(super) struct Context<'a> {
    pub(super) accepts: &'a Accepts,
    /// Collections that this side wants.
    pub(super) wants: &'a [GroupId],
    pub(super) peer: &'a PeerKey,
    pub(super) holdings: &'a dyn Holdings,
    pub(super) confirming: &'a mut Confirming,
    pub(super) reporting: &'a mut Reporting,
    pub(super) out: &'a mut Outbound,
    /// Documents of ours that the peer has answered with something that means nothing here.
    pub(super) answered: &'a mut Vec<MessageId>,
    /// Malformed entries so far.
    pub(super) malformed: usize,
}

impl Context<'_> {
    /// Whether this side wants a document for its content, although its destination has spoken: it never had it. An
    /// OFFER does not tell the collection; the document will.
    fn is_wanted(&self, id: &MessageId, group: Option<&GroupId>) -> bool {
        let wanted = group.map_or(!self.wants.is_empty(), |group| self.wants.contains(group));
        wanted && self.holdings.is_missing(id).unwrap_or(false)
    }

    fn malformed(&mut self, text: impl FnOnce() -> String) {
        self.malformed += 1;
        if self.malformed <= MAX_MALFORMED {
            self.out.event(Event::Malformed(text()));
        }
    }
}

enum Answer {
    Ack(MessageId),
    Request(MessageId),
    Resume(mvds::Resume),
    Refuse(MessageId, Reason),
}

enum Pending {
    Document { id: MessageId, group: GroupId, size: u64 },
    Piece { id: MessageId, bytes: usize },
    Confirmation { id: MessageId, covers: Covered, bytes: usize },
    Depositor { id: MessageId },
    Succession { id: MessageId, bytes: usize },
}

/// What a confirmation speaks about, and who.
pub(super) struct Covered {
    pub(super) destination: Fingerprint,
    pub(super) documents: Vec<MessageId>,
}

struct Requested {
    attempts: u32,
    due: Option<Monotonic>,
    /// Whether the REQUEST is among the answers that wait.
    queued: bool,
}

pub(super) struct Receiver {
    pipe: Pipe,
    window: u64,
    answers: VecDeque<Answer>,
    pending: HashMap<Ticket, Pending>,
    pending_ids: HashSet<MessageId>,
    unpersisted: usize,
    transfers: BTreeMap<u32, Incoming>,
    requested: BTreeMap<MessageId, Requested>,
}

impl Receiver {
    pub(super) fn new(pipe: Pipe, window: u64) -> Self {
        Receiver {
            pipe,
            window,
            answers: VecDeque::new(),
            pending: HashMap::new(),
            pending_ids: HashSet::new(),
            unpersisted: 0,
            transfers: BTreeMap::new(),
            requested: BTreeMap::new(),
        }
    }

    pub(super) fn unpersisted(&self) -> usize {
        self.unpersisted
    }

    pub(super) fn is_idle(&self) -> bool {
        self.answers.is_empty()
            && self.pending.is_empty()
            && self.transfers.is_empty()
            && self.requested.is_empty()
    }

    /// Whether nothing waits to become durable, or to be answered.
    pub(super) fn has_answered(&self) -> bool {
        self.answers.is_empty() && self.pending.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.requested.values().filter_map(|requested| requested.due).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Monotonic) {
        for (id, requested) in &mut self.requested {
            if requested.due.is_some_and(|due| due <= now) {
                (requested.due, requested.queued) = (None, true);
                self.answers.push_back(Answer::Request(*id));
            }
        }
    }

    /// Takes what a payload of `length` bytes brings.
    pub(super) fn handle(
        &mut self,
        payload: mvds::Payload,
        length: usize,
        cx: &mut Context<'_>,
    ) -> Result<(), ProtocolError> {
        let mut ages = HashMap::new();
        for age in &payload.ages {
            ages.insert(MessageId::from_slice(&age.id)?, age.seconds);
        }
        for succession in &payload.successions {
            self.succession(succession, cx);
        }
        for confirmation in &payload.confirmations {
            self.confirmation(confirmation, cx);
        }
        for offer in &payload.offers {
            self.offer(MessageId::from_slice(offer)?, cx);
        }
        for query in &payload.queries {
            self.query(MessageId::from_slice(query)?, cx);
        }
        for start in payload.starts {
            self.start(start, &ages, cx)?;
        }
        for mut message in payload.messages {
            if message.body.len() < length / 4 {
                // A slice would keep the whole payload, whatever else is in it, until the document is durable.
                message.body = Bytes::copy_from_slice(&message.body);
            }
            self.message(message, &ages, cx);
        }
        for chunk in payload.chunks {
            self.chunk(chunk, cx)?;
        }
        if cx.malformed > MAX_MALFORMED {
            let more = cx.malformed - MAX_MALFORMED;
            cx.out.event(Event::Malformed(format!("{more} more entries of the same payload")));
        }
        match self.answers.len() > MAX_ANSWERS {
            true => Err(ProtocolError::TooMany("documents that wait for an answer")),
            false => Ok(()),
        }
    }

    fn succession(&mut self, wire: &mvds::Succession, cx: &mut Context<'_>) {
        match Link::from_wire(wire) {
            Ok(link) => {
                let id = link.id();
                if !self.pending_ids.insert(id) {
                    return;
                }
                let bytes = wire.certificate.len() + wire.signature.len() + PENDING_COST;
                let ticket = cx.out.persist(Persist::Succession(Box::new(link)));
                self.unpersisted += bytes;
                self.pending.insert(ticket, Pending::Succession { id, bytes });
            }
            Err(error) => {
                cx.malformed(|| error.to_string());
                if let Some(id) = Link::id_of_wire(wire) {
                    self.answers.push_back(Answer::Refuse(id, Reason::Malformed));
                }
            }
        }
    }

    fn confirmation(&mut self, wire: &mvds::Confirmation, cx: &mut Context<'_>) {
        match Confirmation::from_wire(wire) {
            Ok(confirmation) => {
                let id = confirmation.id();
                if !self.pending_ids.insert(id) {
                    return;
                }
                let statement = &confirmation.statement;
                let documents = statement.verdicts().iter().map(|(id, _)| *id).collect();
                let covers = Covered { destination: statement.destination(), documents };
                let bytes = wire.ids.len() + wire.signature.len() + PENDING_COST;
                let ticket = cx.out.persist(Persist::Confirmation(Box::new(confirmation)));
                self.unpersisted += bytes;
                self.pending.insert(ticket, Pending::Confirmation { id, covers, bytes });
            }
            Err(error) => {
                cx.malformed(|| error.to_string());
                // A newer version's verdict, perhaps. The peer believes it, so that it waits for no other answer.
                if let Some(id) = Confirmation::id_of_wire(wire) {
                    self.answers.push_back(Answer::Refuse(id, Reason::Malformed));
                }
                cx.answered.extend(wire.ids.chunks_exact(32).filter_map(|id| MessageId::from_slice(id).ok()));
            }
        }
    }

    /// Hands over the confirmation of `id`, if there is one.
    fn query(&mut self, id: MessageId, cx: &mut Context<'_>) {
        match cx.holdings.standing(&id, None) {
            Ok(Standing::Confirmed(confirmation)) => self.confirmed(id, *confirmation, cx),
            Ok(_) => {}
            Err(error) => cx.out.unreadable(&error),
        }
    }

    fn confirmed(&mut self, id: MessageId, confirmation: Confirmation, cx: &mut Context<'_>) {
        if !cx.confirming.enqueue(id, confirmation) {
            self.refuse(id, None, Reason::OverQuota, cx);
        }
    }

    /// Answers by what is known of `id`, and where it is addressed and belongs (design R27). True where it is not here:
    /// never seen, or confirmed without having been here, and wanted.
    fn is_new(
        &mut self,
        id: MessageId,
        destination: Option<&Fingerprint>,
        group: Option<&GroupId>,
        cx: &mut Context<'_>,
    ) -> bool {
        if self.pending_ids.contains(&id) {
            return false;
        }
        match cx.holdings.standing(&id, destination) {
            Ok(Standing::Unknown) => return true,
            Ok(Standing::Held) => {
                // The ACK waits until it is durable that this peer, too, is to get the confirmation.
                self.pending_ids.insert(id);
                self.unpersisted += PENDING_COST;
                let ticket = cx.out.persist(Persist::Depositor(id));
                self.pending.insert(ticket, Pending::Depositor { id });
            }
            Ok(Standing::Confirmed(_)) if cx.is_wanted(&id, group) => return true,
            Ok(Standing::Confirmed(confirmation)) => {
                cx.reporting.already_held(None);
                self.confirmed(id, *confirmation, cx);
            }
            Ok(Standing::Gone(reason)) => self.refuse(id, None, reason, cx),
            Err(error) => {
                cx.out.unreadable(&error);
                self.refuse(id, None, Reason::StorageFailed, cx);
            }
        }
        false
    }

    fn refuse(&mut self, id: MessageId, group: Option<GroupId>, reason: Reason, cx: &mut Context<'_>) {
        cx.reporting.refused(group);
        cx.out.event(Event::Refused { id, reason });
        self.answers.push_back(Answer::Refuse(id, reason));
    }

    fn offer(&mut self, id: MessageId, cx: &mut Context<'_>) {
        if self.transfer_of(&id).is_some() {
            // It is on its way, and its end will be the answer.
            return;
        }
        if let Some(requested) = self.requested.get_mut(&id) {
            if !requested.queued {
                (requested.due, requested.queued) = (None, true);
                self.answers.push_back(Answer::Request(id));
            }
            return;
        }
        if !self.is_new(id, None, None, cx) {
            return;
        }
        if self.requested.len() >= MAX_REQUESTED {
            return self.refuse(id, None, Reason::OverQuota, cx);
        }
        self.requested.insert(id, Requested { attempts: 0, due: None, queued: true });
        self.answers.push_back(Answer::Request(id));
    }

    /// Asks the peer for what it brought and what was lost here since.
    pub(super) fn ask_for_lost(&mut self, peer: &PeerKey, holdings: &dyn Holdings, out: &mut Outbound) {
        match holdings.lost(peer, MAX_LOST) {
            Ok(lost) => {
                for id in lost {
                    self.requested.insert(id, Requested { attempts: 0, due: None, queued: true });
                    self.answers.push_back(Answer::Request(id));
                }
            }
            Err(error) => out.unreadable(&error),
        }
    }

    fn message(&mut self, message: mvds::Message, ages: &HashMap<MessageId, u64>, cx: &mut Context<'_>) {
        let document = match Document::from_message(message) {
            Ok(document) => document,
            Err(error) => return cx.malformed(|| error.to_string()),
        };
        let (id, group, size) = (document.id(), document.group(), document.body().len() as u64);
        let offered = self.requested.remove(&id).is_some();
        let header = match envelope::parse(document.body()) {
            Ok((header, _)) => header,
            Err(error) => {
                cx.malformed(|| format!("{id}: {error}"));
                return self.refuse(id, Some(group), Reason::Malformed, cx);
            }
        };
        if !self.is_new(id, Some(&header.destination), Some(&group), cx) {
            return;
        }
        if let Err(reason) = cx.accepts.check_header(&header, &group, size) {
            return self.refuse(id, Some(group), reason, cx);
        }
        let age = ages.get(&id).copied().unwrap_or(0);
        self.pending_ids.insert(id);
        self.unpersisted += document.body().len() + PENDING_COST;
        let ticket = cx.out.persist(Persist::Document { document, header: Box::new(header), age, offered });
        self.pending.insert(ticket, Pending::Document { id, group, size });
    }

    /// Something is durable. For a confirmation that counts: the documents that it covers.
    pub(super) fn persisted(
        &mut self,
        ticket: Ticket,
        outcome: Stored,
        confirming: &mut Confirming,
        reporting: &mut Reporting,
        out: &mut Outbound,
    ) -> Option<Covered> {
        match self.pending.remove(&ticket)? {
            Pending::Document { id, group, size } => {
                self.release(&id, size);
                self.stored(id, group, size, outcome, confirming, reporting, out);
            }
            Pending::Piece { id, bytes } => {
                self.unpersisted -= bytes + PENDING_COST;
                // Found by its document: the peer may have begun it anew under another number.
                let transfer = self.transfer_of(&id)?;
                let incoming = self.transfers.get_mut(&transfer)?;
                let Description { group, size, .. } = incoming.description;
                if let Stored::Partial { committed } = outcome {
                    self.unpersisted -= incoming.commit(committed);
                    let committed = incoming.committed;
                    out.event(Event::Progress { id, sending: false, done: committed, size });
                    self.answers.push_back(Answer::Resume(mvds::Resume { transfer, committed }));
                } else {
                    self.drop_transfer(transfer);
                    self.stored(id, group, size, outcome, confirming, reporting, out);
                }
            }
            Pending::Depositor { id } => {
                self.pending_ids.remove(&id);
                self.unpersisted -= PENDING_COST;
                reporting.already_held(None);
                match outcome {
                    Stored::Confirmed(confirmation) => self.answer_confirmed(id, *confirmation, confirming),
                    _ => self.answers.push_back(Answer::Ack(id)),
                }
            }
            Pending::Confirmation { id, covers, bytes } => {
                self.unpersisted -= bytes;
                self.pending_ids.remove(&id);
                if outcome == Stored::New {
                    reporting.confirmation();
                }
                self.answered_by(&covers);
                self.answers.push_back(Answer::Ack(id));
                return Some(covers);
            }
            Pending::Succession { id, bytes } => {
                self.unpersisted -= bytes;
                self.pending_ids.remove(&id);
                self.answers.push_back(Answer::Ack(id));
            }
        }
        None
    }

    #[expect(clippy::too_many_arguments, reason = "the engine's parts are borrowed one by one")]
    fn stored(
        &mut self,
        id: MessageId,
        group: GroupId,
        size: u64,
        outcome: Stored,
        confirming: &mut Confirming,
        reporting: &mut Reporting,
        out: &mut Outbound,
    ) {
        match outcome {
            Stored::New => {
                reporting.stored(group, size);
                out.event(Event::Received { id, size });
            }
            Stored::AlreadyHeld => reporting.already_held(Some(group)),
            Stored::Confirmed(confirmation) => {
                reporting.already_held(Some(group));
                return self.answer_confirmed(id, *confirmation, confirming);
            }
            // A part of a whole document is nothing to acknowledge.
            Stored::Partial { .. } => {
                reporting.refused(Some(group));
                return self.answers.push_back(Answer::Refuse(id, Reason::StorageFailed));
            }
        }
        self.answers.push_back(Answer::Ack(id));
    }

    fn answer_confirmed(&mut self, id: MessageId, confirmation: Confirmation, confirming: &mut Confirming) {
        if !confirming.enqueue(id, confirmation) {
            self.answers.push_back(Answer::Refuse(id, Reason::OverQuota));
        }
    }

    /// Something could not be made durable: the peer is told, and keeps it. For a confirmation: what it covers.
    pub(super) fn failed(
        &mut self,
        ticket: Ticket,
        reason: Reason,
        reporting: &mut Reporting,
        out: &mut Outbound,
    ) -> Option<Covered> {
        let mut covered = None;
        let (id, group) = match self.pending.remove(&ticket) {
            None => return None,
            Some(Pending::Document { id, group, size }) => {
                self.release(&id, size);
                (id, Some(group))
            }
            Some(Pending::Piece { id, bytes }) => {
                self.unpersisted -= bytes + PENDING_COST;
                let transfer = self.transfer_of(&id)?;
                let group = self.transfers.get(&transfer).map(|incoming| incoming.description.group);
                self.drop_transfer(transfer);
                (id, group)
            }
            Some(Pending::Depositor { id }) => {
                self.pending_ids.remove(&id);
                self.unpersisted -= PENDING_COST;
                (id, None)
            }
            Some(Pending::Confirmation { id, covers, bytes }) => {
                self.unpersisted -= bytes;
                self.pending_ids.remove(&id);
                self.answered_by(&covers);
                covered = Some(covers);
                (id, None)
            }
            // Whoever verified it has told why.
            Some(Pending::Succession { id, bytes }) => {
                self.unpersisted -= bytes;
                self.pending_ids.remove(&id);
                self.answers.push_back(Answer::Refuse(id, reason));
                return None;
            }
        };
        reporting.refused(group);
        out.event(Event::Refused { id, reason });
        self.answers.push_back(Answer::Refuse(id, reason));
        covered
    }

    /// A confirmation answers a REQUEST as well as the document does.
    fn answered_by(&mut self, covers: &Covered) {
        for id in &covers.documents {
            if self.requested.get(id).is_some_and(|requested| !requested.queued) {
                self.requested.remove(id);
            }
        }
    }

    fn release(&mut self, id: &MessageId, size: u64) {
        self.pending_ids.remove(id);
        let size = usize::try_from(size).unwrap_or(0) + PENDING_COST;
        self.unpersisted -= size.min(self.unpersisted);
    }

    /// Adds answers to a payload.
    pub(super) fn fill(&mut self, filling: &mut Filling, now: Monotonic) {
        while let Some(answer) = self.answers.front() {
            let fits = match answer {
                // It has come or was withdrawn meanwhile.
                Answer::Request(id) if !self.requested.contains_key(id) => true,
                Answer::Ack(_) | Answer::Request(_) => filling.take(ID_COST),
                Answer::Refuse(..) => filling.take(REFUSAL_COST),
                Answer::Resume(resume) => filling.take(cost_of(resume)),
            };
            let payload = filling.payload();
            match self.answers.pop_front() {
                Some(answer) if !fits => return self.answers.push_front(answer),
                Some(Answer::Ack(id)) => payload.acks.push(bytes_of(&id)),
                Some(Answer::Resume(resume)) => payload.resumes.push(resume),
                Some(Answer::Refuse(id, reason)) => {
                    payload.refusals.push(mvds::Refusal { id: bytes_of(&id), reason: reason.code() });
                }
                Some(Answer::Request(id)) => {
                    let Some(requested) = self.requested.get_mut(&id) else { continue };
                    payload.requests.push(bytes_of(&id));
                    requested.queued = false;
                    requested.attempts += 1;
                    if let Pipe::Datagram(backoff) = self.pipe {
                        requested.due = Some(now + backoff.span(requested.attempts));
                    }
                }
                None => return,
            }
        }
    }
}
