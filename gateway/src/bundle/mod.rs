//! Bundles of this gateway: what goes out to a stick, what is taken from one, and the whole kiosk to a spare board.
//!
//! The same code runs in the daemon, on a thread of its own, and in a command while no daemon runs.

mod export;
mod import;
mod jobs;
mod kiosk;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use waypost_bundle::BundleError;
use waypost_node::KeyFileError;
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::PeerKey;
use waypost_store::{ChangeError, Store, StoreError};

pub use jobs::{Job, Jobs, Task};
pub use kiosk::{KioskError, receive as receive_kiosk};
pub use report::{Passed, Progress, Report, Shown};

use crate::destinations::Destinations;

/// What is asked of the time: the judge of a confirmation's signature.
pub type Verify = Box<dyn Fn(&Confirmation) -> Result<(), String> + Send>;

/// With what a bundle is written and read.
pub struct Gateway {
    /// The store; may be in use by others.
    pub store: Store,
    /// Whose documents are taken.
    pub destinations: Arc<Destinations>,
    /// The largest document that is taken, in bytes of its body.
    pub max_document: u64,
    /// The gateway's static key.
    pub key: PeerKey,
    /// Where its secret part is.
    pub key_file: PathBuf,
    /// Verifies a confirmation against the pinned certificates.
    pub verify: Verify,
}

/// Why a bundle was not written or read to its end. What was done by then stays, and doing it again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The bundle as a whole.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The stick failed in between.
    #[error("{path}: {error}; what was written by then is of use, run it again with a stick that works")]
    Stick {
        /// Where.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A change of the store.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The identity of a kiosk.
    #[error(transparent)]
    Kiosk(#[from] KioskError),
    /// The gateway's own key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The gateway is stopping.
    #[error("interrupted: the gateway is stopping; run it again")]
    Stopped,
}

/// Runs one task to its end.
pub fn run(gateway: &Gateway, task: &Task, shown: &Shown) -> Result<Vec<Report>, WorkError> {
    match task {
        Task::Export { folder, identity } => Ok(vec![export::export(gateway, folder, *identity, shown)?]),
        Task::Import { folder } => Ok(vec![import::import(gateway, folder, shown)?]),
        Task::Stick { folder } => {
            let mut reports = Vec::new();
            // A stick that has nothing on it yet.
            match import::import(gateway, folder, shown) {
                Err(WorkError::Bundle(BundleError::None(_))) => {}
                imported => reports.push(imported?),
            }
            reports.push(export::export(gateway, folder, false, shown)?);
            Ok(reports)
        }
    }
}

fn stick(path: &Path) -> impl Fn(std::io::Error) -> WorkError + '_ {
    move |error| WorkError::Stick { path: path.to_owned(), error }
}
