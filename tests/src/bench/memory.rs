//! A node without a disk: holdings in memory that persist at once, and a conversation over one link.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use waypost_link::Link;
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::document::{Document, IdHasher};
use waypost_protocol::envelope;
use waypost_protocol::ids::{Fingerprint, MessageId, PeerKey, Seq, StoreId};
use waypost_protocol::refusal::Reason;
use waypost_protocol::session::{FRAME_OVERHEAD, Identity, Introduction, Received, Session};
use waypost_protocol::sync::{
    Accepts, Engine, Event, Holdings, HoldingsError, Input, Outgoing, Output, Parameters, Partial, PeerHello,
    Persist, Pipe, Recipient, Report, Served, Standing, Stored, Ticket, WINDOW,
};
use waypost_protocol::time::Monotonic;

use super::Outcome;

/// Documents to give away, and hashes of those that come; nothing that comes is kept.
#[derive(Default)]
pub struct Memory {
    documents: Vec<Document>,
    coming: HashMap<MessageId, (IdHasher, u64)>,
    /// Documents that came whole, their hash checked.
    pub received: u64,
}

impl Memory {
    /// With these to give away.
    pub fn with(documents: Vec<Document>) -> Self {
        Memory { documents, ..Memory::default() }
    }

    fn persist(&mut self, ticket: Ticket, item: Persist) -> Input {
        let stored = match item {
            // Its id was computed from its bytes as they were decoded.
            Persist::Document { .. } => {
                self.received += 1;
                Ok(Stored::New)
            }
            Persist::Piece { description, offset, bytes, .. } => {
                let fresh = || (IdHasher::new(description.group, description.timestamp), 0);
                let (hasher, committed) = self.coming.entry(description.id).or_insert_with(fresh);
                if *committed != offset {
                    Err(Reason::StorageFailed)
                } else {
                    hasher.update(&bytes);
                    *committed += bytes.len() as u64;
                    match *committed == description.size {
                        false => Ok(Stored::Partial { committed: *committed }),
                        true => self.finish(&description.id),
                    }
                }
            }
            Persist::Confirmation(_) | Persist::Succession(_) | Persist::Depositor(_) => {
                Ok(Stored::AlreadyHeld)
            }
        };
        match stored {
            Ok(outcome) => Input::Persisted { ticket, outcome },
            Err(reason) => Input::PersistFailed { ticket, reason },
        }
    }

    fn finish(&mut self, id: &MessageId) -> Result<Stored, Reason> {
        let whole = self.coming.remove(id).is_some_and(|(hasher, _)| hasher.finish() == *id);
        self.received += u64::from(whole);
        if whole { Ok(Stored::New) } else { Err(Reason::WrongHash) }
    }
}

impl Holdings for Memory {
    fn standing(&self, _: &MessageId, _: Option<&Fingerprint>) -> Result<Standing, HoldingsError> {
        Ok(Standing::Unknown)
    }

    fn lost(&self, _: &PeerKey, _: usize) -> Result<Vec<MessageId>, HoldingsError> {
        Ok(Vec::new())
    }

    fn outgoing_again(&self, _: &Recipient, _: &MessageId) -> Result<Option<Outgoing>, HoldingsError> {
        Ok(None)
    }

    fn partial(&self, _: &MessageId, _: &PeerKey) -> Result<Option<Partial>, HoldingsError> {
        Ok(None)
    }

    fn outgoing(
        &self,
        _: &Recipient,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<Outgoing>, HoldingsError> {
        let after = after.map_or(0, |seq| usize::try_from(seq.0).unwrap_or(usize::MAX));
        let rows = self.documents.iter().zip(1..).skip(after).take(limit);
        rows.map(|(document, seq)| {
            let (header, _) =
                envelope::parse(document.body()).map_err(|error| HoldingsError(error.to_string()))?;
            Ok(Outgoing {
                seq: Seq(seq),
                description: document.description(),
                destination: header.destination,
                age: None,
                maybe_held: false,
            })
        })
        .collect()
    }

    fn read_body(&self, seq: Seq, offset: u64, len: usize) -> Result<Bytes, HoldingsError> {
        let at = usize::try_from(seq.0).ok().and_then(|seq| seq.checked_sub(1));
        let document = at.and_then(|at| self.documents.get(at)).ok_or(HoldingsError("no such row".into()))?;
        let body = document.body();
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(body.len());
        Ok(body.slice(begin..body.len().min(begin.saturating_add(len))))
    }

    fn confirmations_due(
        &self,
        _: &PeerKey,
        _: Option<Seq>,
        _: usize,
    ) -> Result<Vec<(Seq, Confirmation)>, HoldingsError> {
        Ok(Vec::new())
    }
}

/// Which side of a conversation a node is.
pub enum Role<'a> {
    /// Opens it, and ends it when both have finished.
    Initiator(&'a Introduction),
    /// Answers, and takes documents for this destination.
    Responder(Fingerprint),
}

/// A whole conversation over one link; what this side and the other received. `identity` is this side's.
pub async fn converse(
    link: Link,
    role: Role<'_>,
    identity: &Identity,
    memory: &mut Memory,
) -> Outcome<(Report, Report)> {
    let Link { info, mut reader, mut writer } = link;
    let start = Instant::now();
    let now = || Monotonic(start.elapsed());
    let mut rng = waypost_node::system_rng()?;
    let serves = match &role {
        Role::Initiator(_) => Vec::new(),
        Role::Responder(destination) => vec![*destination],
    };
    let max_document = if serves.is_empty() { 0 } else { u64::MAX };
    let hello = PeerHello {
        store: StoreId([1; 16]),
        serves: serves.clone(),
        wants: Vec::new(),
        max_document,
        window: WINDOW,
        name: String::new(),
        has_backhaul: false,
        is_gateway: !serves.is_empty(),
        moves: false,
        advertising_key: None,
    };
    let encoded = Engine::encode_hello(&hello);
    let (mut session, initiator) = match role {
        Role::Initiator(introduction) => {
            (Session::initiate(introduction, identity, encoded, &mut rng)?, true)
        }
        Role::Responder(_) => (Session::respond(identity, encoded, &mut rng), false),
    };
    let accepts =
        Accepts { destinations: serves.into_iter().map(Served::all).collect(), max_document, records: true };
    let mut engine: Option<Engine> = None;
    let mut finished = None;
    loop {
        loop {
            while let Some(frame) = session.poll_frame() {
                writer.feed(frame.into()).await?;
            }
            let Some(engine) = &mut engine else { break };
            match engine.poll_output(now(), true, memory) {
                Output::Timeout(_) => break,
                Output::Transmit(payload) => session.seal(&payload, info.useful_frame)?,
                Output::Persist { ticket, item } => {
                    let input = memory.persist(ticket, item);
                    engine.handle_input(input, now(), memory)?;
                }
                Output::Event(Event::Finished { ours, theirs }) => finished = Some((ours, theirs)),
                Output::Event(Event::Goodbye(reason)) => {
                    return Err(format!("the peer ended it: {reason}").into());
                }
                Output::Event(_) => {}
            }
        }
        writer.flush().await?;
        if initiator && let Some(reports) = finished {
            writer.close().await?;
            return Ok(reports);
        }
        let Some(frame) = reader.next().await? else {
            return finished.ok_or_else(|| "the link ended before the conversation".into());
        };
        let payload = match session.handle_frame(&frame, &())? {
            None => continue,
            Some(Received::Payload(payload)) => payload,
            Some(Received::Established { peer, first, .. }) => {
                engine = Some(Engine::new(Parameters {
                    hello: hello.clone(),
                    accepts: accepts.clone(),
                    may_want: Vec::new(),
                    tells: Vec::new(),
                    peer,
                    initiator,
                    target_payload: info.useful_frame - FRAME_OVERHEAD,
                    pipe: Pipe::Ordered,
                }));
                first
            }
        };
        if let Some(engine) = &mut engine {
            engine.handle_input(Input::Frame(payload), now(), memory)?;
        }
    }
}
