//! The node: every conversation, the store, and the one place where their events meet.
//!
//! Call order: wait for [`Node::next_event`] or [`Node::deadline`]; hand it to [`Node::handle`] or
//! [`Node::handle_deadline`]; both drain what the conversations have to say.

mod admission;
mod moving;

use std::collections::{BTreeMap, BTreeSet};

use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use waypost_link::{Link, LinkError};
use waypost_protocol::ids::{GroupId, PeerKey};
use waypost_protocol::refusal::{Goodbye, Reason};
use waypost_protocol::session::{Identity, Introduction, Session, SessionError};
use waypost_protocol::sync::{Engine, Event, Input, Output, PeerHello, Persist, Stored, Ticket};
use waypost_protocol::time::Monotonic;
use waypost_store::{Applied, Change, ChangeError, Free, NewDocument, Store, Writer};

use crate::clock::Clock;
use crate::codes::{Lookups, told_to_known};
use crate::conversation::{Conversation, Lost, Step};
use crate::host::{Ending, Host, StoredNow};
use crate::io::LinkTasks;
use crate::limits::Limits;

use self::admission::Radios;
pub(crate) use self::moving::Tokens;

/// Names a conversation within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId(pub u64);

impl std::fmt::Display for ConversationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What the node waits for.
#[derive(Debug)]
pub enum NodeEvent {
    /// A frame came.
    Frame(ConversationId, Bytes),
    /// The writer has room again.
    Writable(ConversationId),
    /// The link has ended, orderly or not.
    LinkDown(ConversationId, Option<LinkError>),
    /// The store has answered.
    Persisted(ConversationId, Ticket, Result<Applied, ChangeError>),
}

/// Sessions over links, driven around the engine and the store.
pub struct Node {
    identity: Identity,
    hello: PeerHello,
    limits: Limits,
    store: Store,
    writer: Writer,
    clock: Clock,
    rng: ChaCha20Rng,
    conversations: BTreeMap<ConversationId, Conversation>,
    /// Conversations whose turn ended before they did.
    again: BTreeSet<ConversationId>,
    radios: Radios,
    tokens: Tokens,
    /// Conversations that would be done sooner over Wi-Fi, and whose owner has not been told.
    worth_moving: Vec<ConversationId>,
    next_id: u64,
    events: mpsc::Receiver<NodeEvent>,
    events_in: mpsc::Sender<NodeEvent>,
    answers: mpsc::UnboundedReceiver<NodeEvent>,
    answers_in: mpsc::UnboundedSender<NodeEvent>,
    writers: TaskTracker,
}

impl Node {
    /// A node without links. `hello` is what it tells every peer; the advertising key, which is of `identity`, goes to
    /// those that are known.
    pub fn new(
        identity: Identity,
        hello: PeerHello,
        limits: Limits,
        store: Store,
        writer: Writer,
        rng: ChaCha20Rng,
    ) -> Self {
        let (events_in, events) = mpsc::channel(256);
        // The store's answers are as many as tickets are open, which each conversation bounds.
        let (answers_in, answers) = mpsc::unbounded_channel();
        Node {
            identity,
            hello,
            limits,
            store,
            writer,
            clock: Clock::default(),
            rng,
            conversations: BTreeMap::new(),
            again: BTreeSet::new(),
            radios: Radios::default(),
            tokens: Tokens::default(),
            worth_moving: Vec::new(),
            next_id: 1,
            events,
            events_in,
            answers,
            answers_in,
            writers: TaskTracker::new(),
        }
    }

    /// Waits until what was to be written on links that are closed has left, for so long at most. A program that ends
    /// before takes a peer's last word with it.
    pub async fn settle(&self, limit: Duration) {
        self.writers.close();
        // What has not left by then is lost with its link.
        let _ = tokio::time::timeout(limit, self.writers.wait()).await;
        self.writers.reopen();
    }

    /// The node's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The node's store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The one who writes to it.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Changes what peers that come from now on are told. Those that are known are told the advertising key besides.
    pub fn set_hello(&mut self, hello: PeerHello) {
        self.hello = hello;
    }

    /// What peers are told.
    pub fn hello(&self) -> &PeerHello {
        &self.hello
    }

    /// Changes the bounds.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.radios.set(&limits, self.clock.now());
    }

    /// How many peers are in conversation now.
    pub fn sessions(&self) -> usize {
        self.conversations.values().filter(|one| one.is_established()).count()
    }

    /// Peers in conversation now.
    pub fn peers(&self) -> Vec<PeerKey> {
        self.conversations.values().filter(|one| !one.is_closing()).filter_map(|one| one.peer).collect()
    }

    /// Whether both sides have nothing left to do, and nothing has moved since they said so.
    pub fn is_settled(&self, id: ConversationId) -> bool {
        self.conversations.get(&id).is_some_and(Conversation::is_settled)
    }

    /// Whether no link is up.
    pub fn is_empty(&self) -> bool {
        self.conversations.is_empty()
    }

    /// The next thing that happens. Cancel-safe.
    pub async fn next_event(&mut self) -> NodeEvent {
        loop {
            let event = tokio::select! {
                event = self.answers.recv() => event,
                event = self.events.recv() => event,
            };
            // The node holds a sender of both, so that they never end.
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// When [`Node::handle_deadline`] should be called, if nothing happens before.
    pub fn deadline(&self) -> Option<Monotonic> {
        if !self.again.is_empty() {
            return Some(self.clock.now());
        }
        let Limits { handshake, idle, .. } = self.limits;
        let conversations = self.conversations.values().map(|one| one.deadline(handshake, idle));
        conversations.chain(self.radios.deadline(&self.limits)).min()
    }

    /// Opens a session over a link that this side opened.
    pub fn open(&mut self, link: Link, introduction: &Introduction) -> Result<ConversationId, SessionError> {
        let hello = match introduction {
            Introduction::Known(_) | Introduction::Code(..) => told_to_known(&self.hello, &self.identity),
            Introduction::Open => self.hello.clone(),
        };
        let hello = Engine::encode_hello(&hello);
        let session = Session::initiate(introduction, &self.identity, hello, &mut self.rng)?;
        let id = self.add(None, link, session);
        let now = self.clock.now();
        if let Some(conversation) = self.conversations.get_mut(&id) {
            conversation.drain(now, &self.store, |_, _| {});
        }
        Ok(id)
    }

    fn next_id(&mut self) -> ConversationId {
        let id = ConversationId(self.next_id);
        self.next_id += 1;
        id
    }

    fn add(&mut self, id: Option<ConversationId>, link: Link, session: Session) -> ConversationId {
        let id = id.unwrap_or_else(|| self.next_id());
        let info = link.info.clone();
        let tasks = LinkTasks::spawn(id, link, self.events_in.clone(), &self.writers);
        self.conversations.insert(id, Conversation::new(id, info, tasks, session, self.clock.now()));
        id
    }

    /// Handles one event, and what follows from it.
    pub fn handle(&mut self, event: NodeEvent, host: &mut dyn Host) {
        let now = self.clock.now();
        let id = match event {
            NodeEvent::Frame(id, frame) => {
                self.frame(id, &frame, now, host);
                id
            }
            NodeEvent::Writable(id) => id,
            NodeEvent::Persisted(id, ticket, result) => {
                self.persisted(id, ticket, result, now, host);
                id
            }
            NodeEvent::LinkDown(id, error) => {
                let lost = error.map_or(Lost::Closed, |error| Lost::Otherwise(error.to_string()));
                return self.drop_link(id, lost, now, host);
            }
        };
        self.drain(id, now, host);
        self.take_turns(now, host);
    }

    /// Handles deadlines that have passed.
    pub fn handle_deadline(&mut self, host: &mut dyn Host) {
        let now = self.clock.now();
        let Limits { handshake, idle, .. } = self.limits;
        let due: Vec<ConversationId> = self
            .conversations
            .values()
            .filter(|one| one.deadline(handshake, idle) <= now)
            .map(|one| one.id)
            .collect();
        for id in due {
            let Some(conversation) = self.conversations.get_mut(&id) else { continue };
            if conversation.must_end(now) {
                self.drain(id, now, host);
            } else if conversation.is_closing() {
                self.drop_link(id, Lost::Otherwise(String::new()), now, host);
            } else if conversation.engine_is_due(now) {
                conversation.input(Input::Timeout, now, &self.store);
                self.drain(id, now, host);
            } else if conversation.is_established() && conversation.finished().is_none() {
                conversation.say_goodbye(Goodbye::Idle, now);
            } else if conversation.is_established() {
                // Nothing was left to do: an end like any other.
                self.drop_link(id, Lost::ByUs, now, host);
            } else {
                conversation.close(Ending::LinkLost("the handshake took too long".into()), now);
            }
        }
        self.unpark(now);
        self.take_turns(now, host);
    }

    /// The store may have new documents for peers.
    pub fn documents_changed(&mut self, host: &mut dyn Host) {
        self.tell_all(|| Input::Document, host);
    }

    /// The store may have new confirmations for peers.
    pub fn confirmations_changed(&mut self, host: &mut dyn Host) {
        // A key that is new as well may have signed them: whoever is here hears of it first.
        for conversation in self.conversations.values_mut() {
            if let Some(peer) = &conversation.peer {
                conversation.tell(host.tells(peer));
            }
        }
        self.tell_all(|| Input::Confirmation, host);
    }

    fn tell_all(&mut self, input: impl Fn() -> Input, host: &mut dyn Host) {
        let now = self.clock.now();
        let ids: Vec<ConversationId> = self.conversations.keys().copied().collect();
        for id in ids {
            if let Some(conversation) = self.conversations.get_mut(&id) {
                conversation.input(input(), now, &self.store);
            }
            self.drain(id, now, host);
        }
    }

    /// Ends every conversation with a peer, at once, telling it why.
    pub fn end_peer(&mut self, peer: &PeerKey, reason: Goodbye) {
        let now = self.clock.now();
        for conversation in self.conversations.values_mut().filter(|one| one.peer == Some(*peer)) {
            conversation.shut_out(reason, now);
        }
    }

    /// From now on peers are sent documents of these collections only, of those that they might want until now.
    pub fn narrow_wants(&mut self, still: &[GroupId]) {
        self.conversations.values_mut().for_each(|conversation| conversation.narrow_wants(still));
    }

    /// Ends every conversation, telling peers why.
    pub fn end_all(&mut self, reason: Goodbye) {
        let now = self.clock.now();
        for conversation in self.conversations.values_mut().filter(|one| !one.is_closing()) {
            conversation.say_goodbye(reason, now);
        }
    }

    /// Closes one conversation that has nothing left to do.
    pub fn close(&mut self, id: ConversationId, host: &mut dyn Host) {
        self.drop_link(id, Lost::ByUs, self.clock.now(), host);
    }

    fn frame(&mut self, id: ConversationId, frame: &Bytes, now: Monotonic, host: &mut dyn Host) {
        let is_crowded = self.is_crowded(id);
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        let (store, hello, identity, host_here) = (&self.store, &self.hello, &self.identity, &*host);
        let tokens = &self.tokens;
        let lookups = Lookups { store, hello, identity, host: host_here, is_crowded, tokens, now };
        match conversation.frame(frame, &lookups, now, &self.store) {
            Ok(Step::Nothing) => {}
            Ok(Step::Proven { peer, pattern, first }) => {
                self.proven(id, peer, pattern, first, now, host);
                self.unpark(now);
            }
            Err(error) => conversation.close(Ending::Failed(error.to_string()), now),
        }
        if let Some(conversation) = self.conversations.get_mut(&id) {
            conversation.release_reader();
        }
    }

    fn persisted(
        &mut self,
        id: ConversationId,
        ticket: Ticket,
        result: Result<Applied, ChangeError>,
        now: Monotonic,
        host: &mut dyn Host,
    ) {
        let input = match result {
            Ok(applied) => {
                match &applied {
                    Applied::Stored { .. } => host.stored(StoredNow::Document),
                    Applied::Verdicts { new: true, .. } => host.stored(StoredNow::Confirmation),
                    _ => {}
                }
                Input::Persisted { ticket, outcome: outcome_of(applied) }
            }
            Err(error) => {
                let reason = error.reason();
                log::warn!(link:% = id, error:%; "not stored: {error}");
                Input::PersistFailed { ticket, reason }
            }
        };
        if let Some(conversation) = self.conversations.get_mut(&id) {
            conversation.input(input, now, &self.store);
            conversation.resume_reader();
        }
    }

    /// Conversations that had more to say than fits one turn go on, each a turn at a time.
    fn take_turns(&mut self, now: Monotonic, host: &mut dyn Host) {
        for id in std::mem::take(&mut self.again) {
            self.drain(id, now, host);
        }
    }

    fn drain(&mut self, id: ConversationId, now: Monotonic, host: &mut dyn Host) {
        let Some(mut conversation) = self.conversations.remove(&id) else { return };
        let mut end = None;
        let mut failed = Vec::new();
        let more = conversation.drain(now, &self.store, |conversation, output| {
            let Some(peer) = conversation.peer else { return };
            match output {
                Output::Persist { ticket, item } => {
                    if let Err(reason) = self.submit(id, peer, conversation.reads, ticket, item, host) {
                        failed.push((ticket, reason));
                    }
                }
                Output::Event(event) => {
                    match &event {
                        Event::Goodbye(reason) => end = Some(*reason),
                        Event::Hello(hello) => conversation.may_move = hello.moves,
                        Event::Waiting(bytes) => conversation.waits(*bytes, now),
                        other => conversation.heard(other),
                    }
                    self.note(peer, conversation.told, &event);
                    host.event(id, &peer, &event);
                }
                Output::Transmit(_) | Output::Timeout(_) => {}
            }
        });
        if let Some(reason) = end {
            conversation.close(Ending::HeardGoodbye(reason), now);
        }
        let more = more || !failed.is_empty();
        for (ticket, reason) in failed {
            conversation.input(Input::PersistFailed { ticket, reason }, now, &self.store);
        }
        if more {
            self.again.insert(id);
        }
        self.conversations.insert(id, conversation);
        self.consider_moving(id, now);
    }

    /// Hands something to the writer, after checking what can be checked without it.
    fn submit(
        &self,
        id: ConversationId,
        peer: PeerKey,
        reads: bool,
        ticket: Ticket,
        item: Persist,
        host: &mut dyn Host,
    ) -> Result<(), Reason> {
        let elsewhere = match &item {
            Persist::Document { document, offered: true, .. } => Some(document.id()),
            _ => None,
        };
        let change = match item {
            Persist::Document { document, header, age, .. } => Change::Document(Box::new(NewDocument {
                document,
                header: *header,
                age,
                depositor: Some(peer),
                draft: false,
                note: None,
            })),
            Persist::Piece { description, header, offset, bytes, age } => {
                Change::Piece { description, header, offset, bytes, age, depositor: Some(peer) }
            }
            Persist::Depositor(id) => Change::Depositor { id, peer },
            Persist::Succession(link) => {
                host.follow(&link)?;
                // After the node has ended nobody waits for answers.
                let _ = self.answers_in.send(NodeEvent::Persisted(id, ticket, Ok(Applied::Done)));
                return Ok(());
            }
            Persist::Confirmation(confirmation) => {
                if let Err(why) = host.verify(&confirmation) {
                    log::warn!(peer:%, error = why.as_str(); "a confirmation does not verify and is not taken: {why}");
                    return Err(Reason::NotProven);
                }
                let freeing = host.freeing(&confirmation);
                Change::Confirmation { confirmation, freeing, from: Some(peer) }
            }
        };
        let change = match reads {
            true => Change::Received { change: Box::new(change), free: Free::Never },
            false => change,
        };
        let answers = self.answers_in.clone();
        let reply = move |result| {
            // After the node has ended nobody waits for answers.
            let _ = answers.send(NodeEvent::Persisted(id, ticket, result));
        };
        self.writer.submit(change, reply);
        // Another node may have brought it to its destination: that is asked before it is uploaded.
        if let Some(id) = elsewhere.filter(|_| !reads) {
            self.writer.submit(Change::Attempted { id }, |_| ());
        }
        Ok(())
    }

    /// Writes down what a peer has said of documents.
    fn note(&self, peer: PeerKey, told: Option<[u8; 32]>, event: &Event) {
        let change = match event {
            Event::Hello(hello) => {
                let label = (!hello.name.is_empty()).then(|| hello.name.clone());
                let advertising_key = hello.advertising_key.clone();
                Change::PeerSeen { peer, store: Some(hello.store), label, advertising_key }
            }
            Event::HeldByPeer { store, id } => Change::PeerHolds { peer, store: *store, id: *id },
            Event::RefusedByPeer { store, id, reason } => {
                Change::PeerRefuses { peer, store: *store, id: *id, reason: *reason }
            }
            Event::LostByPeer { store, id } => {
                Change::PeerRefuses { peer, store: *store, id: *id, reason: Reason::StorageFailed }
            }
            Event::Withdrawn { id } => Change::Forgo { id: *id, peer },
            Event::Delivered { id } => Change::Delivered { peer, confirmation: *id },
            Event::ToldChains => Change::ToldChains { peer, digest: told },
            // It may not know who signed: it is told again.
            Event::Undelivered { reason: Reason::NotProven, .. } if told.is_none() => {
                Change::ToldChains { peer, digest: None }
            }
            _ => return,
        };
        let done = |result: Result<Applied, ChangeError>| {
            if let Err(error) = result {
                log::warn!(error:%; "could not write down what a peer said: {error}");
            }
        };
        self.writer.submit(change, done);
    }

    fn drop_link(&mut self, id: ConversationId, lost: Lost, now: Monotonic, host: &mut dyn Host) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        conversation.input(Input::LinkDown, now, &self.store);
        self.drain(id, now, host);
        self.again.remove(&id);
        if let Some(conversation) = self.conversations.remove(&id) {
            self.give_up_turn(id, conversation.has_broken(&lost), now);
            host.ended(conversation.summary(lost, now));
        }
    }
}

fn outcome_of(applied: Applied) -> Stored {
    match applied {
        Applied::Stored { .. } | Applied::Verdicts { new: true, .. } => Stored::New,
        Applied::Confirmed(confirmation) => Stored::Confirmed(confirmation),
        Applied::Partial { committed } => Stored::Partial { committed },
        Applied::AlreadyHeld { .. }
        | Applied::Verdicts { .. }
        | Applied::Lost { .. }
        | Applied::Paired { .. }
        | Applied::Revoked(_)
        | Applied::Done => Stored::AlreadyHeld,
    }
}
