//! A contact of two simulated nodes: two engines, a pipe with faults between them, and stores that commit late.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::{Fingerprint, PeerKey};
use waypost_protocol::succession::Link;
use waypost_protocol::sync::{
    Accepts, Backoff, Engine, Event, Input, Output, Parameters, PeerHello, Persist, Pipe, Report, Served,
    Ticket, WINDOW,
};
use waypost_protocol::time::Monotonic;

use super::store::MemoryStore;
use super::{chance, pick};

/// What goes wrong on the way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    /// Payloads lost, in percent. Only over datagrams.
    pub loss: u32,
    /// Payloads that come twice, in percent. Only over datagrams.
    pub duplication: u32,
    /// Payloads that are held up and overtaken, in percent. Only over datagrams.
    pub reordering: u32,
    /// The link ends at a random payload, in percent of contacts.
    pub cuts: u32,
    /// Whether payloads may be lost at all.
    pub datagrams: bool,
}

impl Faults {
    /// A stream that nothing happens to.
    pub const NONE: Faults = Faults { loss: 0, duplication: 0, reordering: 0, cuts: 0, datagrams: false };
}

/// One side of a contact.
pub struct ContactEnd<'a> {
    /// The node's static key.
    pub key: PeerKey,
    /// Its store.
    pub store: &'a mut MemoryStore,
    /// Destinations it takes documents for.
    pub serves: Vec<Fingerprint>,
    /// The largest body it takes.
    pub max_document: u64,
}

impl ContactEnd<'_> {
    fn parameters(&self, peer: PeerKey, initiator: bool, faults: &Faults) -> Parameters {
        let backoff =
            Backoff { first: Duration::from_millis(500), factor_percent: 200, cap: Duration::from_secs(8) };
        Parameters {
            hello: PeerHello {
                store: self.store.id,
                serves: self.serves.clone(),
                wants: Vec::new(),
                max_document: self.max_document,
                window: WINDOW,
                name: String::new(),
                has_backhaul: false,
                is_gateway: !initiator,
                moves: false,
                advertising_key: None,
            },
            may_want: Vec::new(),
            tells: match self.store.tells(&peer) {
                true => self.serves.iter().map(chain_of).collect(),
                false => Vec::new(),
            },
            accepts: Accepts {
                destinations: self.serves.iter().copied().map(Served::all).collect(),
                max_document: self.max_document,
                records: true,
            },
            peer,
            initiator,
            target_payload: 4096,
            pipe: if faults.datagrams { Pipe::Datagram(backoff) } else { Pipe::Ordered },
        }
    }
}

/// What came of a contact.
#[derive(Debug, Default)]
pub struct Contact {
    /// Events of the initiator and of the responder.
    pub events: [Vec<Event>; 2],
    /// Payload bytes that the initiator and the responder sent.
    pub bytes: [u64; 2],
    /// Payloads sent by both.
    pub payloads: u64,
    /// Whether both sides finished.
    pub finished: Option<(Report, Report)>,
    /// Whether the link ended before.
    pub cut: bool,
    /// Virtual time that it took.
    pub took: Duration,
}

enum Happening {
    Arrives(usize, Vec<u8>),
    Committed(usize, Ticket, Persist),
    Wakes,
}

impl Contact {
    /// Lets two nodes sync until both are finished, the link ends, or `longest` has passed.
    pub fn run(
        initiator: ContactEnd<'_>,
        responder: ContactEnd<'_>,
        faults: Faults,
        longest: Duration,
        seed: u64,
        verify: &dyn Fn(&Confirmation) -> bool,
    ) -> Contact {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut contact = Contact::default();
        let mut engines = [
            Engine::new(initiator.parameters(responder.key, true, &faults)),
            Engine::new(responder.parameters(initiator.key, false, &faults)),
        ];
        let keys = [initiator.key, responder.key];
        let stores = [&mut *initiator.store, &mut *responder.store];
        let hellos = [engines[0].hello(), engines[1].hello()];
        let mut queue: BinaryHeap<Reverse<(Monotonic, u64, usize)>> = BinaryHeap::new();
        let mut happenings: Vec<Option<Happening>> = Vec::new();
        let mut order = 0;
        let mut push =
            |queue: &mut BinaryHeap<_>, happenings: &mut Vec<_>, at: Monotonic, what: Happening| {
                order += 1;
                happenings.push(Some(what));
                queue.push(Reverse((at, order, happenings.len() - 1)));
            };
        let cut_after = chance(&mut rng, faults.cuts).then(|| pick(&mut rng, 60));
        let mut last_arrival = [Monotonic::default(); 2];
        let mut finished: [Option<(Report, Report)>; 2] = [None, None];
        let mut now = Monotonic::default();
        // The handshake carries the hellos, so that they are never lost.
        for (side, hello) in hellos.into_iter().enumerate() {
            push(&mut queue, &mut happenings, now, Happening::Arrives(1 - side, hello));
        }
        while let Some(Reverse((at, _, index))) = queue.pop() {
            now = at;
            if now.0 > longest {
                break;
            }
            match happenings[index].take() {
                Some(Happening::Arrives(side, payload)) => {
                    let input = Input::Frame(payload.into());
                    let handled = engines[side].handle_input(input, now, &*stores[side]);
                    assert!(handled.is_ok(), "seed {seed}: side {side}: {handled:?}");
                }
                Some(Happening::Committed(side, ticket, item)) => {
                    let input = match stores[side].persist(item, keys[1 - side], verify) {
                        Ok(outcome) => Input::Persisted { ticket, outcome },
                        Err(reason) => Input::PersistFailed { ticket, reason },
                    };
                    let handled = engines[side].handle_input(input, now, &*stores[side]);
                    assert!(handled.is_ok(), "seed {seed}: side {side}: {handled:?}");
                }
                Some(Happening::Wakes) | None => {
                    for side in 0..2 {
                        let _ = engines[side].handle_input(Input::Timeout, now, &*stores[side]);
                    }
                }
            }
            for side in 0..2 {
                loop {
                    match engines[side].poll_output(now, true, &*stores[side]) {
                        Output::Transmit(payload) => {
                            contact.bytes[side] += payload.len() as u64;
                            contact.payloads += 1;
                            if cut_after.is_some_and(|after| contact.payloads > after) {
                                contact.cut = true;
                                continue;
                            }
                            let copies = match faults.datagrams {
                                true if chance(&mut rng, faults.loss) => 0,
                                true if chance(&mut rng, faults.duplication) => 2,
                                _ => 1,
                            };
                            for _ in 0..copies {
                                let held_up = faults.datagrams && chance(&mut rng, faults.reordering);
                                let delay = 5 + pick(&mut rng, 5) + if held_up { 200 } else { 0 };
                                let mut at = now + Duration::from_millis(delay);
                                if !faults.datagrams {
                                    at = at.max(last_arrival[side]);
                                    last_arrival[side] = at;
                                }
                                push(
                                    &mut queue,
                                    &mut happenings,
                                    at,
                                    Happening::Arrives(1 - side, payload.clone()),
                                );
                            }
                        }
                        Output::Persist { ticket, item } => {
                            let at = now + Duration::from_millis(20);
                            push(&mut queue, &mut happenings, at, Happening::Committed(side, ticket, item));
                        }
                        Output::Event(event) => {
                            note(stores[side], &event, keys[1 - side]);
                            if let Event::Finished { ours, theirs } = &event {
                                finished[side] = Some((ours.clone(), theirs.clone()));
                            }
                            contact.events[side].push(event);
                        }
                        Output::Timeout(deadline) => {
                            if let Some(deadline) = deadline {
                                push(&mut queue, &mut happenings, deadline.max(now), Happening::Wakes);
                            }
                            break;
                        }
                    }
                }
            }
            let both_idle = engines.iter().all(Engine::is_idle);
            if both_idle && finished[0].is_some() && (faults.datagrams || finished[1].is_some()) {
                contact.finished = finished[0].take();
                break;
            }
            if contact.cut {
                break;
            }
        }
        if contact.cut {
            for side in 0..2 {
                let _ = engines[side].handle_input(Input::LinkDown, now, &*stores[side]);
                while let Output::Persist { item, .. } = engines[side].poll_output(now, false, &*stores[side])
                {
                    if rng.next_u32() % 2 == 0 {
                        let _ = stores[side].persist(item, keys[1 - side], verify);
                    }
                }
            }
        }
        contact.took = now.0;
        contact
    }
}

/// A destination's certificate, or bytes in the place of one.
fn chain_of(destination: &Fingerprint) -> Link {
    Link { destination: *destination, certificate: Bytes::from_static(&[0x99; 900]), word: None }
}

/// What a node writes down of what happened.
fn note(store: &mut MemoryStore, event: &Event, peer: PeerKey) {
    match event {
        Event::HeldByPeer { store: theirs, id } => store.peer_holds(*theirs, *id),
        Event::RefusedByPeer { store: theirs, id, reason } => store.peer_refuses(*theirs, *id, *reason),
        Event::Delivered { id } => store.delivered(peer, *id),
        Event::ToldChains => store.has_told(peer),
        _ => {}
    }
}
