//! Bounded exponential backoff with jitter from a seed.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// Makes delays that double from `least` to `most`, each shortened by up to a half at random, so that the gateways of
/// a region that lost the same network do not come back all at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    least: Duration,
    most: Duration,
    random: ChaCha8Rng,
}

impl Backoff {
    pub(crate) fn new(least: Duration, most: Duration, seed: u64) -> Self {
        Backoff { least, most: most.max(least), random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The delay after so many failures in a row, from 1.
    pub(crate) fn after(&mut self, failures: u32) -> Duration {
        self.up_to(failures, self.most)
    }

    /// The same with another upper bound.
    pub(crate) fn up_to(&mut self, failures: u32, most: Duration) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        let whole = self.least.saturating_mul(1 << doublings).min(most);
        let half = u64::try_from((whole / 2).as_millis()).unwrap_or(u64::MAX);
        whole.saturating_sub(Duration::from_millis(self.random.next_u64() % half.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn delays_stay_between_half_and_whole_of_their_step(failures in 1u32..200, seed: u64) {
            let (least, most) = (Duration::from_secs(2), Duration::from_secs(300));
            let delay = Backoff::new(least, most, seed).after(failures);
            let step = if failures > 9 { most } else { most.min(least * (1 << (failures - 1))) };
            prop_assert!(delay <= step && delay >= step / 2, "{delay:?} of {step:?}");
        }
    }
}
