//! Handing confirmations to the peer, until it has stored them.

use std::collections::VecDeque;

use super::engine::Outbound;
use super::payload::{Filling, REFUSAL_COST, bytes_of};
use super::types::{Event, Pipe};
use super::unanswered::Unanswered;
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

pub(super) struct Confirming {
    cursor: Option<Seq>,
    exhausted: bool,
    queue: VecDeque<Confirmation>,
    named: VecDeque<MessageId>,
    sent: Unanswered<mvds::Confirmation>,
    delivered: VecDeque<MessageId>,
}

impl Confirming {
    pub(super) fn new(pipe: Pipe) -> Self {
        Confirming {
            cursor: None,
            exhausted: false,
            queue: VecDeque::new(),
            named: VecDeque::new(),
            sent: Unanswered::new(pipe, |payload| &mut payload.confirmations),
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
        self.sent.deadline()
    }

    pub(super) fn handle_timeout(&mut self, now: Monotonic) {
        self.sent.handle_timeout(now);
    }

    /// Answers a document with its confirmation. False where too many wait already.
    pub(super) fn enqueue(&mut self, document: MessageId, confirmation: Confirmation) -> bool {
        let id = confirmation.id();
        if self.sent.contains(&id) || self.queue.contains(&confirmation) || self.named.contains(&document) {
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
        if self.sent.remove(id) {
            if self.delivered.len() >= MAX_DELIVERED {
                self.delivered.pop_front();
            }
            self.delivered.push_back(*id);
            out.event(Event::Delivered { id: *id });
        }
    }

    pub(super) fn refused(&mut self, id: &MessageId, reason: Reason, out: &mut Outbound) {
        if self.sent.remove(id) {
            out.event(Event::Undelivered { id: *id, reason });
        }
    }

    pub(super) fn fill(
        &mut self,
        filling: &mut Filling,
        now: Monotonic,
        to: &PeerKey,
        holdings: &dyn Holdings,
        out: &mut Outbound,
    ) {
        if !self.sent.send_again(filling, now) {
            return;
        }
        while self.sent.len() < MAX_UNANSWERED {
            self.look_up(filling, holdings, out);
            let Some(confirmation) = self.next(to, holdings, out) else { return };
            let id = confirmation.id();
            if self.sent.contains(&id) {
                continue;
            }
            if !self.sent.send(id, confirmation.to_wire(), filling, now) {
                self.queue.push_front(confirmation);
                return;
            }
            self.named.retain(|document| confirmation.statement.verdict_on(document).is_none());
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
