//! When a destination's chain of certificates is fetched, and what is told of it.

use std::time::{Duration, Instant};

use waypost_openpgp::{Absorbed, Change};
use waypost_protocol::ids::Fingerprint;
use waypost_store::Store;

/// A server that lets a stranger sign costs at most one fetch in this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What says that the chain should be fetched.
pub(super) struct Follow {
    /// How the destination calls its present chain; empty where it has not said.
    pub(super) told: String,
    /// How it called the one that was taken last.
    pub(super) taken: String,
    /// A confirmation came that nobody known has signed.
    pub(super) stranger: bool,
    last: Option<Instant>,
}

impl Follow {
    pub(super) fn new(store: &Store, destination: &Fingerprint) -> Self {
        let taken = store.setting(&tag_key(destination)).ok().flatten();
        let taken = taken.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        Follow { told: String::new(), taken, stranger: false, last: None }
    }

    /// Whether to fetch it now; says so once.
    pub(super) fn wants(&mut self) -> bool {
        let is_other = !self.told.is_empty() && self.told != self.taken;
        let stranger = std::mem::take(&mut self.stranger);
        let waited = self.last.is_none_or(|last| last.elapsed() >= PATIENCE);
        let wants = (is_other || stranger) && waited;
        if wants {
            self.last = Some(Instant::now());
        }
        wants
    }
}

/// Under which the name of the chain that was taken last is kept.
pub(super) fn tag_key(destination: &Fingerprint) -> String {
    format!("chain-tag/{destination}")
}

/// Tells the journal.
pub(super) fn tell(destination: &str, absorbed: &Absorbed) {
    for change in &absorbed.changes {
        match change {
            Change::Renewed(key) => {
                log::info!(destination, key:%; "the destination has renewed its key {key}")
            }
            Change::Succeeded { successor, by } => {
                log::info!(destination, successor:%, by:%; "the destination has a successor key {successor}, vouched for by {by}");
            }
        }
    }
    for fault in &absorbed.faults {
        log::warn!(destination, error:% = fault; "a certificate of the destination is not taken: {fault}");
    }
}
