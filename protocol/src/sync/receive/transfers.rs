//! Bodies that come in chunks: started, resumed, cut into pieces for the store.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};

use super::{Answer, Context, MAX_TRANSFERS, PENDING_COST, PIECE, Pending, Receiver};
use crate::document::{Description, parse_timestamp};
use crate::envelope::{self, EnvelopeError, Header};
use crate::ids::{Fingerprint, GroupId, MessageId};
use crate::mvds;
use crate::refusal::Reason;
use crate::sync::Persist;
use crate::sync::engine::Outbound;
use crate::sync::types::{Event, Pipe, ProtocolError};

/// A body under way.
pub(super) struct Incoming {
    pub(super) description: Description,
    destination: Fingerprint,
    header: Option<Arc<Header>>,
    /// Bytes taken off the link.
    received: u64,
    /// Bytes durable.
    pub(super) committed: u64,
    buffer: BytesMut,
    age: u64,
}

impl Incoming {
    /// So much is durable, whoever brought it. What of it waits in the buffer is not needed any more; how much that is.
    pub(super) fn commit(&mut self, committed: u64) -> usize {
        self.committed = self.committed.max(committed);
        let buffered = self.received - self.buffer.len() as u64;
        let needless = self.committed.saturating_sub(buffered);
        let needless = usize::try_from(needless).unwrap_or(usize::MAX).min(self.buffer.len());
        self.buffer.advance(needless);
        self.received = self.received.max(self.committed);
        needless
    }
}

impl Receiver {
    pub(super) fn start(
        &mut self,
        start: mvds::Start,
        ages: &HashMap<MessageId, u64>,
        cx: &mut Context<'_>,
    ) -> Result<(), ProtocolError> {
        let id = MessageId::from_slice(&start.id)?;
        let group = GroupId::from_slice(&start.group_id)?;
        self.requested.remove(&id);
        if let Some(known) = self.transfers.get(&start.transfer)
            && known.description.id == id
        {
            // Sent again: chunks were lost, or the answer was. What came so far is made durable, and that is the answer.
            if known.buffer.is_empty() || known.header.is_none() {
                let resume = mvds::Resume { transfer: start.transfer, committed: known.committed };
                self.answers.push_back(Answer::Resume(resume));
            }
            self.persist_piece(start.transfer, cx.out);
            return Ok(());
        }
        let destination = Fingerprint::from_slice(&start.destination)?;
        if !self.is_new(id, Some(&destination), Some(&group), cx) {
            return Ok(());
        }
        let Ok(timestamp) = parse_timestamp(start.timestamp) else {
            self.refuse(id, Some(group), Reason::Malformed, cx);
            return Ok(());
        };
        if start.size < envelope::FIXED as u64 {
            self.refuse(id, Some(group), Reason::Malformed, cx);
            return Ok(());
        }
        if let Err(reason) = cx.accepts.check(&destination, &group, start.size) {
            self.refuse(id, Some(group), reason, cx);
            return Ok(());
        }
        let description = Description { id, group, timestamp, size: start.size };
        let partial = match cx.holdings.partial(&id, cx.peer) {
            Ok(partial) => partial.filter(|partial| partial.committed < description.size),
            Err(error) => {
                cx.out.unreadable(&error);
                self.refuse(id, Some(group), Reason::StorageFailed, cx);
                return Ok(());
            }
        };
        if let Some(partial) = &partial
            && let Err(reason) = cx.accepts.check_header(&partial.header, &group, description.size)
        {
            self.refuse(id, Some(group), reason, cx);
            return Ok(());
        }
        // The peer began this document anew, or gave its number to another.
        let earlier = self.transfer_of(&id);
        let known = earlier.and_then(|earlier| self.transfers.get(&earlier)?.header.clone());
        earlier.into_iter().chain([start.transfer]).for_each(|transfer| self.drop_transfer(transfer));
        if self.transfers.len() >= MAX_TRANSFERS {
            self.refuse(id, Some(group), Reason::OverQuota, cx);
            return Ok(());
        }
        let committed = partial.as_ref().map_or(0, |partial| partial.committed);
        cx.out.event(Event::Progress { id, sending: false, done: committed, size: start.size });
        let incoming = Incoming {
            description,
            destination,
            header: known.or_else(|| partial.map(|partial| Arc::new(partial.header))),
            received: committed,
            committed,
            buffer: BytesMut::new(),
            age: ages.get(&id).copied().unwrap_or(0),
        };
        self.transfers.insert(start.transfer, incoming);
        self.answers.push_back(Answer::Resume(mvds::Resume { transfer: start.transfer, committed }));
        Ok(())
    }

    pub(super) fn chunk(&mut self, chunk: mvds::Chunk, cx: &mut Context<'_>) -> Result<(), ProtocolError> {
        let transfer = chunk.transfer;
        let Some(incoming) = self.transfers.get_mut(&transfer) else {
            // A refusal crosses chunks that are under way already; those are passed over.
            return Ok(());
        };
        let Some(skip) = incoming.received.checked_sub(chunk.offset) else {
            return match self.pipe {
                Pipe::Ordered => Err(ProtocolError::BeyondBounds("end of what came before it")),
                // The sender notices, and goes back to what is committed.
                Pipe::Datagram(_) => Ok(()),
            };
        };
        // What was there before is skipped.
        let skip = usize::try_from(skip).ok().filter(|skip| *skip < chunk.bytes.len());
        let Some(bytes) = skip.map(|skip| chunk.bytes.slice(skip..)) else { return Ok(()) };
        let Description { id, group, size, .. } = incoming.description;
        let end = incoming.received + bytes.len() as u64;
        if end > size {
            return Err(ProtocolError::BeyondBounds("announced size"));
        }
        if end > incoming.committed.saturating_add(self.window) {
            return Err(ProtocolError::BeyondBounds("window"));
        }
        incoming.received = end;
        self.unpersisted += bytes.len();
        incoming.buffer.extend_from_slice(&bytes);
        if incoming.header.is_none() {
            let whole = incoming.buffer.len() >= envelope::FIXED + envelope::MAX_HEADER || end == size;
            let checked = match envelope::parse(&incoming.buffer) {
                // The rest of the header comes with the next chunk.
                Err(EnvelopeError::Short) if !whole => return Ok(()),
                Err(error) => Err((Reason::Malformed, error.to_string())),
                Ok((header, _)) if header.destination != incoming.destination => {
                    Err((Reason::Malformed, "the envelope names another destination than its START".into()))
                }
                Ok((header, _)) => match cx.accepts.check_header(&header, &group, size) {
                    Ok(()) => Ok(header),
                    Err(reason) => Err((reason, reason.to_string())),
                },
            };
            match checked {
                Ok(header) => incoming.header = Some(Arc::new(header)),
                Err((reason, detail)) => {
                    self.drop_transfer(transfer);
                    cx.malformed(|| format!("{id}: {detail}"));
                    self.refuse(id, Some(group), reason, cx);
                    return Ok(());
                }
            }
        }
        if incoming.buffer.len() >= PIECE || incoming.received == size {
            self.persist_piece(transfer, cx.out);
        }
        Ok(())
    }

    fn persist_piece(&mut self, transfer: u32, out: &mut Outbound) {
        let Some(incoming) = self.transfers.get_mut(&transfer) else { return };
        let Some(header) = incoming.header.clone() else { return };
        let bytes: Bytes = std::mem::take(&mut incoming.buffer).freeze();
        if bytes.is_empty() {
            return;
        }
        let (length, age) = (bytes.len(), incoming.age);
        let (description, offset) = (incoming.description, incoming.received - length as u64);
        self.unpersisted += PENDING_COST;
        let ticket = out.persist(Persist::Piece { description, header, offset, bytes, age });
        self.pending.insert(ticket, Pending::Piece { id: description.id, bytes: length });
    }

    /// Makes what came of large bodies durable, as the link is gone.
    pub(in crate::sync) fn flush(&mut self, out: &mut Outbound) {
        let transfers: Vec<u32> = self.transfers.keys().copied().collect();
        for transfer in transfers {
            self.persist_piece(transfer, out);
        }
    }

    pub(super) fn transfer_of(&self, id: &MessageId) -> Option<u32> {
        self.transfers.iter().find(|(_, known)| known.description.id == *id).map(|(at, _)| *at)
    }

    /// The peer will not send what it has offered or begun. What came of it is kept for another time.
    pub(in crate::sync) fn withdrawn(&mut self, id: &MessageId, out: &mut Outbound) {
        if self.requested.remove(id).is_some() {
            out.event(Event::Withdrawn { id: *id });
        }
        if let Some(transfer) = self.transfer_of(id) {
            self.persist_piece(transfer, out);
            self.drop_transfer(transfer);
        }
    }

    /// Forgets a transfer and what of it was not handed to the store.
    pub(super) fn drop_transfer(&mut self, transfer: u32) {
        if let Some(incoming) = self.transfers.remove(&transfer) {
            self.unpersisted -= incoming.buffer.len().min(self.unpersisted);
        }
    }
}
