//! A deterministic simulation of phones, gateways and a destination: virtual time, seeded faults, the real engine.

mod destination;
mod pair;
mod store;
mod world;

pub use destination::Destination;
pub use pair::{Contact, ContactEnd, Faults};
pub use store::MemoryStore;
pub use world::{Summary, Village, World};

use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;

/// A number below `below` (at least 1).
pub fn pick(rng: &mut ChaCha20Rng, below: u64) -> u64 {
    rng.next_u64() % below.max(1)
}

/// An index below `below` (at least 1).
pub fn pick_index(rng: &mut ChaCha20Rng, below: usize) -> usize {
    usize::try_from(pick(rng, below as u64)).unwrap_or(0)
}

/// Whether something happens that happens with `percent` %.
pub fn chance(rng: &mut ChaCha20Rng, percent: u32) -> bool {
    pick(rng, 100) < u64::from(percent)
}
