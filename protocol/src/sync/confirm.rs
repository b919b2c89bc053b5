//! Handing confirmations to the peer, until it has stored them.

use std::collections::{BTreeMap, VecDeque};

use super::engine::Outbound;
use super::payload::{Filling, REFUSAL_COST, bytes_of, cost_of};
use super::types::{Event, Pipe};
use super::{Holdings, Standing};
use crate::confirmation::Confirmation;
use crate::ids::{MessageId, PeerKey, Seq};
use crate::mvds;
use crate::refusal::Reason;
use crate::time::Monotonic;

/// Confirmations that wait for the peer's ACK at the same time.
const MAX_UNANSWERED: usize = 16;
/// Confirmations that were asked for and wait to be sent.
const MAX_QUEUED: usize = 64;
/// Confirmations that the peer has acknowledged and that are remembered, so that they follow no further document.
const MAX_DELIVERED: usize = 64;
/// Documents whose confirmations are to be looked up when there is room for them.
const MAX_NAMED: usize = 1024;

struct Sent {
    wire: mvds::Confirmation,
    attempts: u32,
    due: Option<Monotonic>,
    resend: bool,
}

pub(super) struct Confirming {
    pipe: Pipe,
    cursor: Option<Seq>,
    exhausted: bool,
    queue: VecDeque<Confirmation>,
    named: VecDeque<MessageId>,
    sent: BTreeMap<MessageId, Sent>,
    delivered: VecDeque<MessageId>,
}

impl Confirming {
    pub(super) fn new(pipe: Pipe) -> Self {
        Confirming {
            pipe,
            cursor: None,
            exhausted: false,
            queue: VecDeque::new(),
            named: VecDeque::new(),
            sent: BTreeMap::new(),
            delivered: VecDeque::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.exhausted && self.queue.is_empty() && self.named.is_empty() && self.sent.is_empty()
    }

    pub(super) fn look_again(&mut self) {
        self.exhausted = false;
    }

    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.sent.values().filter_map(|sent| sent.due).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Monotonic) {
        for sent in self.sent.values_mut().filter(|sent| sent.due.is_some_and(|due| due <= now)) {
            (sent.due, sent.resend) = (None, true);
        }
    }

    /// Answers a document with its confirmation. False where too many wait already.
    pub(super) fn enqueue(&mut self, document: MessageId, confirmation: Confirmation) -> bool {
        let id = confirmation.id();
        if self.sent.contains_key(&id) || self.queue.contains(&confirmation) || self.named.contains(&document)
        {
            return true;
        }
        if self.queue.len() < MAX_QUEUED {
            self.queue.push_back(confirmation);
            return true;
        }
        let fits = self.named.len() < MAX_NAMED;
        if fits {
            self.named.push_back(document);
        }
        fits
    }

    /// The peer has got a document that this confirmation covers. One that it has acknowledged just now is not sent
    /// again: it need only be written down again.
    pub(super) fn follow(&mut self, document: MessageId, confirmation: Confirmation, out: &mut Outbound) {
        let id = confirmation.id();
        match self.delivered.contains(&id) {
            true => out.event(Event::Delivered { id }),
            // Where too many wait, it is due at the next contact.
            false => drop(self.enqueue(document, confirmation)),
        }
    }

    pub(super) fn acknowledged(&mut self, id: &MessageId, out: &mut Outbound) {
        if self.sent.remove(id).is_some() {
            if self.delivered.len() >= MAX_DELIVERED {
                self.delivered.pop_front();
            }
            self.delivered.push_back(*id);
            out.event(Event::Delivered { id: *id });
        }
    }

    pub(super) fn refused(&mut self, id: &MessageId) {
        self.sent.remove(id);
    }

    pub(super) fn fill(
        &mut self,
        filling: &mut Filling,
        now: Monotonic,
        to: &PeerKey,
        holdings: &dyn Holdings,
        out: &mut Outbound,
    ) {
        for sent in self.sent.values_mut().filter(|sent| sent.resend) {
            if !filling.take(cost_of(&sent.wire)) {
                return;
            }
            filling.payload().confirmations.push(sent.wire.clone());
            sent.resend = false;
            sent.attempts += 1;
            sent.due = due_after(self.pipe, sent.attempts, now);
        }
        while self.sent.len() < MAX_UNANSWERED {
            self.look_up(filling, holdings, out);
            let Some(confirmation) = self.next(to, holdings, out) else { return };
            let id = confirmation.id();
            let wire = confirmation.to_wire();
            if self.sent.contains_key(&id) {
                continue;
            }
            if !filling.take(cost_of(&wire)) {
                self.queue.push_front(confirmation);
                return;
            }
            filling.payload().confirmations.push(wire.clone());
            self.named.retain(|document| confirmation.statement.verdict_on(document).is_none());
            let due = due_after(self.pipe, 1, now);
            self.sent.insert(id, Sent { wire, attempts: 1, due, resend: false });
        }
    }

    /// Turns documents that wait into their confirmations, as there is room for those.
    fn look_up(&mut self, filling: &mut Filling, holdings: &dyn Holdings, out: &mut Outbound) {
        while self.queue.is_empty()
            && let Some(document) = self.named.front().copied()
        {
            match holdings.standing(&document, None) {
                Ok(Standing::Confirmed(confirmation)) => self.queue.push_back(*confirmation),
                // It was confirmed a moment ago; the peer is not left waiting, and may ask another time.
                other => {
                    if !filling.take(REFUSAL_COST) {
                        return;
                    }
                    let reason = Reason::StorageFailed.code();
                    filling.payload().refusals.push(mvds::Refusal { id: bytes_of(&document), reason });
                    if let Err(error) = other {
                        out.unreadable(&error);
                    }
                }
            }
            self.named.pop_front();
        }
    }

    fn next(&mut self, to: &PeerKey, holdings: &dyn Holdings, out: &mut Outbound) -> Option<Confirmation> {
        if self.queue.is_empty() && !self.exhausted {
            match holdings.confirmations_due(to, self.cursor, MAX_UNANSWERED) {
                Ok(rows) => {
                    self.exhausted = rows.is_empty();
                    for (seq, confirmation) in rows {
                        self.cursor = Some(seq);
                        self.queue.push_back(confirmation);
                    }
                }
                Err(error) => {
                    self.exhausted = true;
                    out.unreadable(&error);
                }
            }
        }
        self.queue.pop_front()
    }
}

fn due_after(pipe: Pipe, attempts: u32, now: Monotonic) -> Option<Monotonic> {
    match pipe {
        Pipe::Ordered => None,
        Pipe::Datagram(backoff) => Some(now + backoff.span(attempts)),
    }
}
