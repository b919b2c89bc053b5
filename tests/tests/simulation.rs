//! Phones, gateways and a destination under every fault: what must hold, holds after every step, for each seed.
//!
//! `WAYPOST_SEED=N` runs one seed, as a failing one is named in the panic; `WAYPOST_SEEDS=N` runs that many.

use waypost_tests::sim::{Faults, Village, World};

const HARSH: Faults = Faults { loss: 20, duplication: 10, reordering: 20, cuts: 40, datagrams: true };
const CUT_STREAMS: Faults = Faults { cuts: 60, ..Faults::NONE };

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    match number("WAYPOST_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("WAYPOST_SEEDS").unwrap_or(24)).collect(),
    }
}

fn village(faults: Faults, wipes: u32) -> Village {
    Village { phones: 4, gateways: 2, documents: 4, steps: 60, faults, wipes }
}

#[test]
fn nothing_is_lost_over_streams_that_are_cut() {
    for seed in seeds() {
        World::new(village(CUT_STREAMS, 0), seed).run();
    }
}

#[test]
fn nothing_is_lost_over_datagrams_that_are_dropped_doubled_and_reordered() {
    for seed in seeds() {
        World::new(village(HARSH, 0), seed).run();
    }
}

#[test]
fn what_a_wiped_gateway_had_acknowledged_is_delivered_all_the_same() {
    for seed in seeds() {
        World::new(village(CUT_STREAMS, 5), seed).run();
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let run = |seed| World::new(village(HARSH, 5), seed).run();
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}
