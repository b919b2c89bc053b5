//! A whole engine: payloads of a peer, and what happens to a conversation meanwhile.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use prost::Message as _;
use waypost_protocol::ids::MessageId;
use waypost_protocol::mvds::Payload;
use waypost_protocol::session::MAX_PAYLOAD;
use waypost_protocol::sync::{
    Backoff, Engine, Event, Input, MAX_UNPERSISTED, Output, Parameters, Persist, Pipe, Ticket,
};
use waypost_protocol::time::Monotonic;

use crate::shelf::{GROUP, NOW, Shelf, confirmation, document, parameters};
use crate::steps;

/// Bits of an input's first byte.
const INITIATOR: u8 = 1;
const DATAGRAM: u8 = 2;
const GREETED: u8 = 4;
const SENDS: u8 = 8;
const SHARES: u8 = 16;
const READS: u8 = 32;
const DISTRUSTS: u8 = 64;
const NO_RECORDS: u8 = 128;

/// A payload for each step of an even first byte; of an odd one, what the store and the link do.
pub fn protobuf(data: &[u8]) -> bool {
    let Some((&traits, data)) = data.split_first() else { return false };
    let mut conversation = Conversation::new(traits);
    let mut accepted = false;
    for (what, bytes) in steps(data) {
        let input = match what % 16 {
            1 => {
                conversation.commit(usize::MAX);
                continue;
            }
            3 => {
                conversation.commit(1);
                continue;
            }
            5 => {
                conversation.now = conversation.now + Duration::from_secs(60);
                Input::Timeout
            }
            7 => Input::LinkDown,
            9 => Input::Confirmation,
            11 => Input::Document,
            13 => {
                conversation.engine.narrow_wants(&[]);
                continue;
            }
            15 => {
                conversation.engine.wind_up();
                continue;
            }
            _ if !conversation.engine.wants_input() => {
                conversation.commit(usize::MAX);
                continue;
            }
            _ => Input::Frame(bytes.to_vec().into()),
        };
        let is_payload = matches!(input, Input::Frame(_)) && !bytes.is_empty();
        if conversation.engine.handle_input(input, conversation.now, &conversation.shelf).is_err() {
            // The caller says goodbye and drops it.
            return accepted;
        }
        accepted |= is_payload;
        conversation.drain();
    }
    accepted
}

struct Conversation {
    engine: Engine,
    shelf: Shelf,
    now: Monotonic,
    waiting: VecDeque<(Ticket, Persist)>,
    /// What the peer may be told that it is stored here.
    durable: BTreeSet<MessageId>,
}

impl Conversation {
    fn new(traits: u8) -> Self {
        let has = |bit| traits & bit != 0;
        let backoff =
            Backoff { first: Duration::from_secs(1), factor_percent: 200, cap: Duration::from_secs(60) };
        let mut parameters = Parameters { may_want: vec![GROUP], ..parameters(has(INITIATOR)) };
        if has(DATAGRAM) {
            parameters.pipe = Pipe::Datagram(backoff);
        }
        parameters.accepts.records = !has(NO_RECORDS);
        if has(READS) {
            parameters.hello.wants = vec![GROUP];
        }
        let (small, large) = (document(1, 200), document(2, 40_000));
        let mut shelf = Shelf { reads: has(READS), distrusts: has(DISTRUSTS), ..Shelf::default() };
        if has(SENDS) {
            shelf.outbox = [(1, small.clone()), (2, large.clone())].into();
            shelf.due = vec![confirmation(&[&document(3, 50)])];
        }
        if has(SHARES) {
            shelf.shared = [(3, small), (4, large)].into();
            shelf.lost = vec![document(5, 50).id()];
        }
        let greeting = Engine::encode_hello(&crate::shelf::parameters(!has(INITIATOR)).hello);
        let mut conversation = Conversation {
            engine: Engine::new(parameters),
            shelf,
            now: NOW,
            waiting: VecDeque::new(),
            durable: BTreeSet::new(),
        };
        if has(GREETED) {
            let hello = Input::Frame(greeting.into());
            conversation.engine.handle_input(hello, NOW, &conversation.shelf).expect("a hello");
            conversation.drain();
        }
        conversation
    }

    /// Everything that the engine puts out now.
    fn drain(&mut self) {
        for _ in 0..100_000 {
            match self.engine.poll_output(self.now, true, &self.shelf) {
                Output::Transmit(payload) => self.check(&payload),
                Output::Persist { ticket, item } => {
                    if let Persist::Piece { description, offset, bytes, .. } = &item {
                        let end = offset.checked_add(bytes.len() as u64).expect("a piece ends");
                        assert!(end <= description.size, "a piece beyond the body");
                    }
                    self.waiting.push_back((ticket, item));
                }
                Output::Event(Event::Received { id, .. }) => {
                    assert!(self.durable.contains(&id), "{id} is said to be durable before it is");
                }
                Output::Event(_) => {}
                Output::Timeout(_) => {
                    let held: usize = self.waiting.iter().map(|(_, item)| bytes_of(item)).sum();
                    assert!(held <= MAX_UNPERSISTED + MAX_PAYLOAD, "{held} bytes wait to become durable");
                    return;
                }
            }
        }
        panic!("outputs without end");
    }

    fn check(&self, payload: &[u8]) {
        assert!(payload.len() <= MAX_PAYLOAD);
        let payload = Payload::decode(payload).expect("a payload of ours");
        for ack in &payload.acks {
            let id = MessageId::from_slice(ack).expect("an id");
            let is_known = self.durable.contains(&id) || self.shelf.standing.contains_key(&id);
            assert!(is_known, "{id} is acknowledged before it is durable");
        }
    }

    fn commit(&mut self, most: usize) {
        for _ in 0..most {
            let Some((ticket, item)) = self.waiting.pop_front() else { break };
            let id = id_of(&item);
            let input = match self.shelf.persist(item) {
                Ok(outcome) => {
                    self.durable.insert(id);
                    Input::Persisted { ticket, outcome }
                }
                Err(reason) => Input::PersistFailed { ticket, reason },
            };
            self.engine.handle_input(input, self.now, &self.shelf).expect("an answer of the store");
        }
        self.drain();
    }
}

fn id_of(item: &Persist) -> MessageId {
    match item {
        Persist::Document { document, .. } => document.id(),
        Persist::Piece { description, .. } => description.id,
        Persist::Confirmation(confirmation) => confirmation.id(),
        Persist::Succession(link) => link.id(),
        Persist::Depositor(id) => *id,
    }
}

fn bytes_of(item: &Persist) -> usize {
    match item {
        Persist::Document { document, .. } => document.body().len(),
        Persist::Piece { bytes, .. } => bytes.len(),
        Persist::Confirmation(confirmation) => confirmation.encode().len(),
        Persist::Succession(link) => link.certificate.len(),
        Persist::Depositor(_) => 0,
    }
}
