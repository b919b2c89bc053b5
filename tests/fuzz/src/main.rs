//! One target under libFuzzer, by its name in `WAYPOST_TARGET`; without a name, says which there are.
#![no_main]

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use waypost_fuzz_targets::{Limited, TARGETS, Target};

#[global_allocator]
static ALLOCATOR: Limited = Limited;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let wanted = std::env::var("WAYPOST_TARGET").unwrap_or_default();
    match TARGETS.iter().find(|(name, _)| *name == wanted) {
        Some((_, target)) => *target,
        None => {
            TARGETS.iter().for_each(|(name, _)| println!("{name}"));
            std::process::exit(0);
        }
    }
});

static PLACES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// libFuzzer's own hook ends the program at each panic, also one that the caller catches: those in the OpenPGP library. A
/// target's own goes on to be a crash all the same.
fn begin() {
    LazyLock::force(&TARGET);
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if PLACES.lock().is_ok_and(|mut places| places.insert(place)) {
            eprintln!("{panic}");
        }
    }));
}

fuzz_target!(init: begin(), |data: &[u8]| {
    TARGET(data);
});
