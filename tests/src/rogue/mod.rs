//! Peers that say what a test wants: a session by hand over TCP, a gateway and a destination that lie.
//!
//! What goes wrong here panics, as it does in a test.

mod destination;
mod gateway;
mod session;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use waypost_protocol::ids::{Fingerprint, StoreId};
use waypost_protocol::session::Identity;
use waypost_protocol::sync::{PeerHello, WINDOW};

pub use destination::RogueDestination;
pub use gateway::RogueGateway;
pub use session::{RawError, RawSession, Told};

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
    }
}
