//! Peers that say what a test wants: a session by hand over TCP, a gateway and a destination that lie.
//!
//! What goes wrong here panics, as it does in a test.

mod destination;
mod gateway;
mod session;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::{Fingerprint, GroupId, StoreId};
use waypost_protocol::invite::Pairing;
use waypost_protocol::session::{Identity, Introduction};
use waypost_protocol::sync::{PeerHello, WINDOW};
use waypost_protocol::time::UnixTime;

use crate::scenario::{Gateway, content};

pub use destination::RogueDestination;
pub use gateway::RogueGateway;
pub use session::{RawError, RawSession, Told, recorded};

/// The key pair of this seed.
#[track_caller]
pub fn identity(seed: u64) -> Identity {
    Identity::generate(&mut ChaCha20Rng::seed_from_u64(seed)).unwrap()
}

/// What a peer says of itself, taking documents for `serves`.
pub fn hello(name: &str, serves: &[Fingerprint]) -> PeerHello {
    PeerHello {
        store: StoreId([0x5a; 16]),
        serves: serves.to_vec(),
        wants: Vec::new(),
        max_document: if serves.is_empty() { 0 } else { 1 << 30 },
        window: WINDOW,
        name: name.to_owned(),
        has_backhaul: false,
        is_gateway: !serves.is_empty(),
        moves: false,
        advertising_key: None,
    }
}

/// A document with this header whose sealed part is noise of `size` bytes: nobody can open it.
#[track_caller]
pub fn document(header: &Header, seed: u64, size: usize) -> Document {
    let body = envelope::assemble(header, &content(seed, size)).unwrap();
    Document::new(GroupId([3; 32]), UnixTime(1_800_000_000 / 3_600 * 3_600), body).unwrap()
}

/// How a stranger gets to know a gateway: by a new code of it.
#[track_caller]
pub fn introduced_to(gateway: &Gateway) -> Introduction {
    let code = Pairing::parse(&gateway.pairing_code()).unwrap();
    Introduction::Code(code.gateway, code.secret)
}

/// How one that is known already opens a session with a gateway.
#[track_caller]
pub fn known_to(gateway: &Gateway) -> Introduction {
    Introduction::Known(gateway.status()["key"].as_str().unwrap().parse().unwrap())
}
