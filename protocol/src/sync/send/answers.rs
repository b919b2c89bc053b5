//! What the peer says of documents: ACK, refusal, confirmation, REQUEST and RESUME.

use super::{Item, MAX_SETTLED, MAX_UNANSWERED, MAX_WITHDRAWN, Next, Sender, Sent, Stage};
use crate::ids::{Fingerprint, GroupId, MessageId, StoreId};
use crate::mvds;
use crate::refusal::Reason;
use crate::sync::engine::Outbound;
use crate::sync::types::{Event, Pipe};
use crate::sync::{Holdings, INLINE_MAX, Outgoing, Recipient};
use crate::time::Monotonic;

impl Sender {
    /// The peer's store holds `id`. `None` where it was not sent by this conversation.
    pub(in crate::sync) fn acknowledged(
        &mut self,
        id: &MessageId,
        store: StoreId,
        out: &mut Outbound,
    ) -> Option<Sent> {
        let Item { destination, wanted, .. } = self.remove(id)?;
        out.event(Event::HeldByPeer { store, id: *id });
        Some(Sent { destination, wanted })
    }

    pub(in crate::sync) fn refused(
        &mut self,
        id: &MessageId,
        store: StoreId,
        reason: Reason,
        out: &mut Outbound,
    ) {
        if self.remove(id).is_some() {
            out.event(Event::RefusedByPeer { store, id: *id, reason });
        }
    }

    /// `destination` has spoken about these: no need to send those that are addressed to it. Of the others the peer
    /// takes it for an answer, so they are sent without being offered.
    ///
    /// A subscriber wants documents all the same, and asks for what it was offered and does not have. Where it answers
    /// an OFFER with the confirmation, it has had the document.
    pub(in crate::sync) fn confirmed_by(
        &mut self,
        destination: &Fingerprint,
        ids: &[MessageId],
        store: StoreId,
        out: &mut Outbound,
    ) {
        let (own, others): (Vec<_>, Vec<_>) =
            ids.iter().partition(|id| self.items.get(id).is_none_or(|item| item.destination == *destination));
        let stays = |next: &Next| {
            let document = &next.document;
            next.wanted || !ids.contains(&document.description.id) || document.destination != *destination
        };
        self.fetched.retain(stays);
        self.large.retain(stays);
        for id in own {
            match self.items.get(id).is_some_and(|item| item.wanted) {
                true => self.confirmed_subscription(id, store, out),
                false => self.give_up(id),
            }
        }
        others.iter().for_each(|id| self.send_now(id));
    }

    /// A confirmation may be the subscriber's answer, or have come by itself.
    pub(super) fn confirmed_subscription(&mut self, id: &MessageId, store: StoreId, out: &mut Outbound) {
        let Some(item) = self.items.get_mut(id) else { return };
        item.stage = match item.stage {
            // Nothing was asked yet.
            Stage::Offer { sent: false }
            | Stage::Message { sent: false }
            | Stage::Start { sent: false, .. } => return,
            // If it wants the document nevertheless, its REQUEST or RESUME says so.
            Stage::Offer { sent: true } => return self.settle(id, None, store, out),
            Stage::Start { transfer, sent: true } => return self.settle(id, Some(transfer), store, out),
            // Asked again, it says which of the two it was.
            Stage::Message { sent: true } => Stage::Offer { sent: false },
            Stage::Chunks { transfer, .. } => Stage::Start { transfer, sent: false },
        };
        item.due = None;
        if !self.ready.contains(id) {
            self.ready.push_back(*id);
        }
    }

    pub(super) fn settle(
        &mut self,
        id: &MessageId,
        transfer: Option<u32>,
        store: StoreId,
        out: &mut Outbound,
    ) {
        let Some(item) = self.remove(id) else { return };
        if let Some(transfer) = transfer {
            self.settled.insert(transfer, item);
            if self.settled.len() > MAX_SETTLED {
                self.settled.pop_first();
            }
        }
        if self.pipe == Pipe::Ordered {
            out.event(Event::HeldByPeer { store, id: *id });
        }
    }

    /// These were answered: they are not sent in this conversation.
    pub(in crate::sync) fn answered(&mut self, ids: &[MessageId]) {
        if ids.is_empty() {
            return;
        }
        self.fetched.retain(|next| !ids.contains(&next.document.description.id));
        self.large.retain(|next| !ids.contains(&next.document.description.id));
        for id in ids {
            self.give_up(id);
        }
    }

    /// Drops a document that is not to be sent any more, telling the peer where that waits for it.
    pub(super) fn give_up(&mut self, id: &MessageId) {
        let Some(item) = self.remove(id) else { return };
        let waits = match item.stage {
            Stage::Offer { .. } | Stage::Message { sent: true } => false,
            Stage::Message { sent: false } | Stage::Start { .. } => item.attempts > 0,
            Stage::Chunks { .. } => true,
        };
        if waits {
            self.withdraw(*id);
        }
    }

    /// Of the collections that the peer may want, only these are left: what was offered of others is withdrawn.
    pub(in crate::sync) fn narrow_wants(&mut self, still: &[GroupId]) {
        let is_closed = |wanted: bool, group: &GroupId| wanted && !still.contains(group);
        for queue in [&mut self.fetched, &mut self.large, &mut self.again] {
            queue.retain(|next| !is_closed(next.wanted, &next.document.description.group));
        }
        let closed = self.items.iter().filter(|(_, item)| {
            is_closed(item.wanted, &item.description.group) && !matches!(item.stage, Stage::Chunks { .. })
        });
        for id in closed.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.remove(&id);
            self.withdraw(id);
        }
    }

    /// The peer is told that the document will not come.
    pub(in crate::sync) fn withdraw(&mut self, id: MessageId) {
        if self.withdrawn.len() < MAX_WITHDRAWN && !self.withdrawn.contains(&id) {
            self.withdrawn.push_back(id);
        }
    }

    /// The peer asks for a document. Where it was not offered just now, the peer had it and has lost it; false where
    /// there is nothing to send it.
    pub(in crate::sync) fn requested(
        &mut self,
        id: &MessageId,
        to: &Recipient,
        holdings: &dyn Holdings,
        out: &mut Outbound,
    ) -> bool {
        if self.items.contains_key(id) {
            self.send_now(id);
            return true;
        }
        if self.fetched.iter().chain(&self.large).any(|next| next.document.description.id == *id) {
            // Its turn comes.
            return true;
        }
        if self.pipe != Pipe::Ordered {
            // Over a pipe that doubles payloads this may be a REQUEST that was answered long ago.
            return false;
        }
        // Also where it cannot be sent now: then it is offered at the next contact.
        out.event(Event::LostByPeer { store: to.store, id: *id });
        let room = self.again.len() < MAX_UNANSWERED;
        let found = match room.then(|| holdings.outgoing_again(to, id)).transpose() {
            Ok(found) => found.flatten(),
            Err(error) => {
                out.unreadable(&error);
                None
            }
        };
        let known = found.is_some();
        if let Some(document) = found {
            let wanted = to.wants.contains(&document.description.group);
            self.again.push_back(Next { document: Outgoing { maybe_held: false, ..document }, wanted });
        }
        known
    }

    /// Goes on from an offer to the document itself.
    pub(super) fn send_now(&mut self, id: &MessageId) {
        let next_transfer = self.next_transfer;
        let Some(item) = self.items.get_mut(id) else { return };
        let stage = match item.stage {
            Stage::Offer { .. } | Stage::Message { .. } if item.place.size <= INLINE_MAX => {
                Stage::Message { sent: false }
            }
            Stage::Offer { .. } | Stage::Message { .. } => {
                self.next_transfer += 1;
                self.transfers.insert(next_transfer, *id);
                Stage::Start { transfer: next_transfer, sent: false }
            }
            Stage::Start { transfer, .. } => Stage::Start { transfer, sent: false },
            Stage::Chunks { .. } => return,
        };
        item.stage = stage;
        item.due = None;
        if !self.ready.contains(id) {
            self.ready.push_back(*id);
        }
    }

    /// The peer has committed so much of a body, and wants the rest.
    pub(in crate::sync) fn resumed(
        &mut self,
        resume: &mvds::Resume,
        store: StoreId,
        now: Monotonic,
        out: &mut Outbound,
    ) {
        if let Some(item) = self.settled.remove(&resume.transfer) {
            let id = item.description.id;
            out.event(Event::LostByPeer { store, id });
            self.transfers.insert(resume.transfer, id);
            self.items.insert(id, item);
        }
        let Some(item) = self.transfers.get(&resume.transfer).and_then(|id| self.items.get_mut(id)) else {
            return;
        };
        let reported = resume.committed.min(item.place.size);
        item.stage = match item.stage {
            Stage::Start { transfer, .. } => Stage::Chunks { transfer, next: reported, committed: reported },
            Stage::Chunks { transfer, next, committed } => {
                Stage::Chunks { transfer, next: next.max(reported), committed: committed.max(reported) }
            }
            other => other,
        };
        item.attempts = 1;
        item.due = self.pipe.due(1, now);
    }
}
