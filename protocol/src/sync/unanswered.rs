//! What was sent and waits for the peer's answer by its id; sent again where payloads may be lost.

use std::collections::BTreeMap;

use super::payload::{Filling, cost_of};
use super::types::Pipe;
use crate::ids::MessageId;
use crate::mvds;
use crate::time::Monotonic;

struct Sent<W> {
    wire: W,
    attempts: u32,
    due: Option<Monotonic>,
    resend: bool,
}

/// Messages of one kind.
pub(super) struct Unanswered<W> {
    pipe: Pipe,
    /// The kind's place in a payload.
    list: fn(&mut mvds::Payload) -> &mut Vec<W>,
    sent: BTreeMap<MessageId, Sent<W>>,
}

impl<W: prost::Message + Clone> Unanswered<W> {
    pub(super) fn new(pipe: Pipe, list: fn(&mut mvds::Payload) -> &mut Vec<W>) -> Self {
        Unanswered { pipe, list, sent: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub(super) fn contains(&self, id: &MessageId) -> bool {
        self.sent.contains_key(id)
    }

    /// Whether it waited for an answer.
    pub(super) fn remove(&mut self, id: &MessageId) -> bool {
        self.sent.remove(id).is_some()
    }

    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.sent.values().filter_map(|sent| sent.due).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Monotonic) {
        for sent in self.sent.values_mut().filter(|sent| sent.due.is_some_and(|due| due <= now)) {
            (sent.due, sent.resend) = (None, true);
        }
    }

    /// Sends what nobody has answered in time. False where the payload has no room for all of it.
    pub(super) fn send_again(&mut self, filling: &mut Filling, now: Monotonic) -> bool {
        for sent in self.sent.values_mut().filter(|sent| sent.resend) {
            if !filling.take(cost_of(&sent.wire)) {
                return false;
            }
            (self.list)(filling.payload()).push(sent.wire.clone());
            sent.resend = false;
            sent.attempts += 1;
            sent.due = self.pipe.due(sent.attempts, now);
        }
        true
    }

    /// Sends another one. False where the payload has no room for it.
    pub(super) fn send(&mut self, id: MessageId, wire: W, filling: &mut Filling, now: Monotonic) -> bool {
        if !filling.take(cost_of(&wire)) {
            return false;
        }
        (self.list)(filling.payload()).push(wire.clone());
        let due = self.pipe.due(1, now);
        self.sent.insert(id, Sent { wire, attempts: 1, due, resend: false });
        true
    }
}
