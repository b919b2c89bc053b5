//! One conversation with one authenticated peer: inputs in, outputs out.
//!
//! Call order: after each [`Engine::handle_input`], call [`Engine::poll_output`] until it returns
//! [`Output::Timeout`]. Without room on the link, `poll_output` holds payloads back and still hands out the rest.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;

use super::chains::Telling;
use super::confirm::Confirming;
use super::payload::Filling;
use super::receive::{Covered, Receiver};
use super::report::Reporting;
use super::send::{Sender, Sent};
use super::types::{Event, Input, Output, Parameters, PeerHello, ProtocolError, Ticket};
use super::{Holdings, HoldingsError, Persist, Recipient, Standing};
use crate::ids::{Fingerprint, GroupId, MessageId, StoreId};
use crate::moving::WifiOffer;
use crate::mvds;
use crate::refusal::{Goodbye, Reason};
use crate::succession::Link;
use crate::time::Monotonic;

/// Bytes received and not yet durable, beyond which [`Engine::wants_input`] says no. What the engine keeps beside the
/// bytes counts as well.
pub const MAX_UNPERSISTED: usize = 1024 * 1024;
/// Outputs that wait for [`Engine::poll_output`], beyond which [`Engine::wants_input`] says no.
const MAX_OUTPUTS: usize = 4096;
/// Bytes of one body that a peer may send beyond the committed offset.
pub const WINDOW: u64 = 256 * 1024;

/// The sync engine of one conversation.
pub struct Engine {
    params: Parameters,
    peer: Option<PeerHello>,
    sender: Sender,
    receiver: Receiver,
    telling: Telling,
    confirming: Confirming,
    reporting: Reporting,
    outbound: Outbound,
}

/// What the parts of the engine put out, other than payloads.
#[derive(Default)]
pub(super) struct Outbound {
    queue: VecDeque<Output>,
    next_ticket: u64,
}

impl Outbound {
    pub(super) fn event(&mut self, event: Event) {
        self.queue.push_back(Output::Event(event));
    }

    pub(super) fn persist(&mut self, item: Persist) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.queue.push_back(Output::Persist { ticket, item });
        ticket
    }

    pub(super) fn unreadable(&mut self, error: &HoldingsError) {
        self.event(Event::StoreUnreadable(error.to_string()));
    }
}

impl Engine {
    /// Begins a conversation. Nothing is sent before the peer's first payload, its hello, has come.
    pub fn new(mut params: Parameters) -> Self {
        Engine {
            peer: None,
            telling: Telling::new(params.pipe, std::mem::take(&mut params.tells)),
            sender: Sender::new(params.pipe),
            receiver: Receiver::new(params.pipe, params.hello.receive_window()),
            confirming: Confirming::new(params.pipe),
            reporting: Reporting::new(params.initiator),
            outbound: Outbound::default(),
            params,
        }
    }

    /// The payload with our hello, for the handshake to carry.
    pub fn hello(&self) -> Vec<u8> {
        Self::encode_hello(&self.params.hello)
    }

    /// A payload with a hello, for a handshake that begins before the peer, and so the conversation, is known.
    pub fn encode_hello(hello: &PeerHello) -> Vec<u8> {
        mvds::Payload { hello: Some(hello.to_wire()), ..Default::default() }.encode_to_vec()
    }

    /// A payload that ends the session with a reason.
    pub fn encode_goodbye(reason: Goodbye) -> Vec<u8> {
        mvds::Payload { goodbye: Some(reason.to_wire()), ..Default::default() }.encode_to_vec()
    }

    /// A payload that says how many bytes of bodies this side has to send.
    pub fn encode_waiting(bytes: u64) -> Vec<u8> {
        mvds::Payload { waiting: Some(mvds::Waiting { bytes }), ..Default::default() }.encode_to_vec()
    }

    /// A payload that says where the session can go on.
    pub fn encode_wifi(offer: &WifiOffer) -> Vec<u8> {
        mvds::Payload { wifi: Some(offer.to_wire()), ..Default::default() }.encode_to_vec()
    }

    /// The peer's parameters, once they are known.
    pub fn peer(&self) -> Option<&PeerHello> {
        self.peer.as_ref()
    }

    /// Whether the caller should go on reading from the link; false while too much waits to become durable, or to be
    /// polled. Ask again after each answer of the store and after each [`Output::Timeout`].
    pub fn wants_input(&self) -> bool {
        self.receiver.unpersisted() < MAX_UNPERSISTED && self.outbound.queue.len() < MAX_OUTPUTS
    }

    /// Whether this side has nothing to send, to receive or to make durable.
    pub fn is_idle(&self) -> bool {
        self.peer.is_some()
            && self.telling.has_told()
            && self.sender.is_idle()
            && self.receiver.is_idle()
            && self.confirming.is_idle()
    }

    /// The conversation is about to end: what has come of bodies shall be kept as far as it has come.
    pub fn wind_up(&mut self) {
        self.receiver.flush(&mut self.outbound);
    }

    /// Whether everything that has come is durable, or refused, and answered.
    pub fn has_answered(&self) -> bool {
        self.outbound.queue.is_empty() && self.receiver.has_answered()
    }

    /// Destinations' certificates have changed since the conversation began: the peer hears of these, all of them, before any
    /// confirmation that has not been sent yet.
    pub fn tell(&mut self, links: Vec<Link>) {
        self.telling.tell(links);
    }

    /// The peer may be sent documents of these collections only, of those that it might be until now. Bodies that are under
    /// way go on.
    pub fn narrow_wants(&mut self, still: &[GroupId]) {
        self.params.may_want.retain(|group| still.contains(group));
        self.sender.narrow_wants(&self.params.may_want);
    }

    /// Takes an input. An error means that the peer broke the protocol; the caller says goodbye and drops the engine.
    pub fn handle_input(
        &mut self,
        input: Input,
        now: Monotonic,
        holdings: &dyn Holdings,
    ) -> Result<(), ProtocolError> {
        match input {
            Input::Frame(bytes) => self.handle_frame(bytes, now, holdings)?,
            Input::Persisted { ticket, outcome } => {
                if let Some(covered) = self.receiver.persisted(
                    ticket,
                    outcome,
                    &mut self.confirming,
                    &mut self.reporting,
                    &mut self.outbound,
                ) {
                    self.confirmed(&covered);
                }
            }
            Input::PersistFailed { ticket, reason } => {
                let (reporting, out) = (&mut self.reporting, &mut self.outbound);
                if let Some(covered) = self.receiver.failed(ticket, reason, reporting, out) {
                    // A confirmation that proves nothing here; the peer, who believes it, will not take these.
                    self.confirmed(&covered);
                }
            }
            Input::Confirmation => self.confirming.look_again(),
            Input::Document => self.sender.look_again(),
            Input::LinkDown => self.receiver.flush(&mut self.outbound),
            Input::Timeout => {
                self.sender.handle_timeout(now);
                self.receiver.handle_timeout(now);
                self.telling.handle_timeout(now);
                self.confirming.handle_timeout(now);
            }
        }
        Ok(())
    }

    fn confirmed(&mut self, covered: &Covered) {
        let store = self.peer.as_ref().map_or(StoreId([0; 16]), |peer| peer.store);
        let Covered { destination, documents } = covered;
        self.sender.confirmed_by(destination, documents, store, &mut self.outbound);
    }

    /// The next output. `room`: whether the link takes a payload now.
    pub fn poll_output(&mut self, now: Monotonic, room: bool, holdings: &dyn Holdings) -> Output {
        if let Some(output) = self.outbound.queue.pop_front() {
            return output;
        }
        if room && self.peer.is_some() {
            let payload = self.next_payload(now, holdings);
            if let Some(payload) = payload {
                return Output::Transmit(payload);
            }
            // Looking for something to send may have found events, for example an unreadable document.
            if let Some(output) = self.outbound.queue.pop_front() {
                return output;
            }
            if let Some(event) = self.reporting.finished(self.is_idle()) {
                return Output::Event(event);
            }
        }
        let deadlines = [
            self.sender.deadline(),
            self.receiver.deadline(),
            self.telling.deadline(),
            self.confirming.deadline(),
        ];
        Output::Timeout(deadlines.into_iter().flatten().min())
    }

    fn next_payload(&mut self, now: Monotonic, holdings: &dyn Holdings) -> Option<Vec<u8>> {
        let recipient = self.recipient()?;
        let window = self.peer.as_ref()?.window;
        let mut filling = Filling::new(self.params.target_payload);
        self.receiver.fill(&mut filling, now);
        self.telling.fill(&mut filling, now);
        if self.telling.has_told() {
            self.confirming.fill(&mut filling, now, &recipient.key, holdings, &mut self.outbound);
        }
        self.sender.fill(&mut filling, now, &recipient, window, holdings, &mut self.outbound);
        match filling.is_empty() {
            false => self.reporting.active(),
            true => {
                let idle = self.is_idle();
                self.reporting.fill(&mut filling, idle);
            }
        }
        (!filling.is_empty()).then(|| filling.encode())
    }

    fn recipient(&self) -> Option<Recipient> {
        let peer = self.peer.as_ref()?;
        Some(Recipient {
            key: self.params.peer,
            store: peer.store,
            serves: peer.serves.clone(),
            wants: peer.wants.iter().filter(|group| self.params.may_want.contains(group)).copied().collect(),
            max_document: peer.max_document,
        })
    }

    fn handle_frame(
        &mut self,
        bytes: Bytes,
        now: Monotonic,
        holdings: &dyn Holdings,
    ) -> Result<(), ProtocolError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let length = bytes.len();
        let payload =
            mvds::Payload::decode(bytes).map_err(|error| ProtocolError::Payload(error.to_string()))?;
        if let Some(goodbye) = &payload.goodbye {
            self.outbound.event(Event::Goodbye(Goodbye::from_wire(goodbye)));
        }
        match (&payload.hello, &self.peer) {
            (Some(_), Some(_)) => return Err(ProtocolError::SecondHello),
            (Some(hello), None) => {
                let hello = PeerHello::parse(hello)?;
                self.outbound.event(Event::Hello(hello.clone()));
                self.peer = Some(hello);
                self.receiver.ask_for_lost(&self.params.peer, holdings, &mut self.outbound);
                return Ok(());
            }
            // It serves somebody else first, and has nothing else to say.
            (None, None) if payload.goodbye.is_some() => return Ok(()),
            (None, None) => {
                self.telling.forgo();
                self.peer = Some(self.plain_peer());
            }
            (None, Some(_)) => {}
        }
        if let Some(waiting) = payload.waiting {
            self.outbound.event(Event::Waiting(waiting.bytes));
        }
        if let Some(wifi) = &payload.wifi {
            match WifiOffer::from_wire(wifi) {
                Some(offer) => self.outbound.event(Event::Wifi(Box::new(offer))),
                None => self.outbound.event(Event::Malformed("an offer of Wi-Fi".into())),
            }
        }
        let store = self.peer.as_ref().map_or(StoreId([0; 16]), |peer| peer.store);
        self.reporting.heard(&payload);
        for ack in &payload.acks {
            let id = MessageId::from_slice(ack)?;
            self.telling.answered(&id, false, &mut self.outbound);
            match self.sender.acknowledged(&id, store, &mut self.outbound) {
                None => self.confirming.acknowledged(&id, &mut self.outbound),
                Some(Sent { destination, wanted: true }) => self.tell_subscriber(id, &destination, holdings),
                Some(_) => {}
            }
        }
        for refusal in &payload.refusals {
            let id = MessageId::from_slice(&refusal.id)?;
            let reason = Reason::from_code(refusal.reason);
            match reason {
                // Both may send each other the same document: the reason tells which of the two is meant.
                Reason::Withdrawn => self.receiver.withdrawn(&id, &mut self.outbound),
                reason => {
                    self.sender.refused(&id, store, reason, &mut self.outbound);
                    self.telling.answered(&id, true, &mut self.outbound);
                    self.confirming.refused(&id, reason, &mut self.outbound);
                }
            }
        }
        for request in &payload.requests {
            self.requested(MessageId::from_slice(request)?, holdings);
        }
        for resume in &payload.resumes {
            self.sender.resumed(resume, store, now, &mut self.outbound);
        }
        let mut answered = Vec::new();
        let mut receiving = super::receive::Context {
            accepts: &self.params.accepts,
            wants: &self.params.hello.wants,
            peer: &self.params.peer,
            holdings,
            confirming: &mut self.confirming,
            reporting: &mut self.reporting,
            out: &mut self.outbound,
            answered: &mut answered,
            malformed: 0,
        };
        let handled = self.receiver.handle(payload, length, &mut receiving);
        self.sender.answered(&answered);
        handled
    }

    /// The peer wants a document: it gets it, or what the destination said of it, or hears that it will not come.
    fn requested(&mut self, id: MessageId, holdings: &dyn Holdings) {
        let Some(recipient) = self.recipient() else { return };
        if self.sender.requested(&id, &recipient, holdings, &mut self.outbound) {
            return;
        }
        match holdings.standing(&id, None) {
            Ok(Standing::Confirmed(confirmation)) => {
                if !self.confirming.enqueue(id, *confirmation) {
                    self.sender.withdraw(id);
                }
            }
            Ok(_) => self.sender.withdraw(id),
            Err(error) => {
                self.outbound.unreadable(&error);
                self.sender.withdraw(id);
            }
        }
    }

    /// A subscriber has a document now: what the destination has said of it goes after it.
    fn tell_subscriber(&mut self, id: MessageId, destination: &Fingerprint, holdings: &dyn Holdings) {
        match holdings.standing(&id, Some(destination)) {
            Ok(Standing::Confirmed(confirmation)) => {
                self.confirming.follow(id, *confirmation, &mut self.outbound);
            }
            Ok(_) => {}
            Err(error) => self.outbound.unreadable(&error),
        }
    }

    /// A node that knows only the RFCs says no hello: it takes everything that is small enough for it.
    fn plain_peer(&self) -> PeerHello {
        PeerHello {
            store: StoreId([0; 16]),
            serves: self.params.hello.serves.clone(),
            wants: Vec::new(),
            max_document: super::INLINE_MAX,
            window: 1,
            name: String::new(),
            has_backhaul: false,
            is_gateway: false,
            moves: false,
            advertising_key: None,
        }
    }
}
