//! Telling the peer what became of destinations' certificates. A peer that does not answer gets everything else.

use std::collections::VecDeque;

use super::engine::Outbound;
use super::payload::Filling;
use super::types::{Event, Pipe};
use super::unanswered::Unanswered;
use crate::ids::MessageId;
use crate::mvds;
use crate::succession::Link;
use crate::time::Monotonic;

/// Certificates on their way to the peer, each destination's first one first.
pub(super) struct Telling {
    links: VecDeque<Link>,
    sent: Unanswered<mvds::Succession>,
    refused: bool,
    /// The peer understands none of it.
    forgone: bool,
}

impl Telling {
    pub(super) fn new(pipe: Pipe, links: Vec<Link>) -> Self {
        let sent = Unanswered::new(pipe, |payload| &mut payload.successions);
        Telling { links: links.into(), sent, refused: false, forgone: false }
    }

    /// Whether all has been sent, answered or not.
    pub(super) fn has_told(&self) -> bool {
        self.links.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.sent.deadline()
    }

    pub(super) fn handle_timeout(&mut self, now: Monotonic) {
        self.sent.handle_timeout(now);
    }

    /// The peer would not understand any of it.
    pub(super) fn forgo(&mut self) {
        self.links.clear();
        self.forgone = true;
    }

    /// Others have taken their place.
    pub(super) fn tell(&mut self, links: Vec<Link>) {
        if !self.forgone {
            (self.links, self.refused) = (links.into(), false);
        }
    }

    /// The peer has answered. Whatever it refuses, all of it is told again at the next contact.
    pub(super) fn answered(&mut self, id: &MessageId, refused: bool, out: &mut Outbound) {
        if !self.sent.remove(id) {
            return;
        }
        self.refused |= refused;
        if self.links.is_empty() && self.sent.is_empty() && !self.refused {
            out.event(Event::ToldChains);
        }
    }

    pub(super) fn fill(&mut self, filling: &mut Filling, now: Monotonic) {
        if !self.sent.send_again(filling, now) {
            return;
        }
        while let Some(link) = self.links.front()
            && self.sent.send(link.id(), link.to_wire(), filling, now)
        {
            self.links.pop_front();
        }
    }
}
