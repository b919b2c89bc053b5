//! What was done with a bundle, for people and programs, while it is being done and at the end.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use waypost_bundle::Fault;
use waypost_protocol::ids::MessageId;

use super::WorkError;

/// So many files are named in each list; those beyond are only counted.
const MOST: usize = 200;

/// What was passed over, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// How many.
    pub count: u64,
    /// The first of them: a file of the bundle, or an id.
    pub named: Vec<(String, String)>,
}

impl Passed {
    pub(super) fn note(&mut self, what: impl Display, why: impl Display) {
        self.count += 1;
        if self.named.len() < MOST {
            self.named.push((what.to_string(), why.to_string()));
        }
    }

    pub(super) fn fault(&mut self, fault: &Fault) {
        self.note(fault.path.display(), &fault.damage);
    }
}

/// What came of an export or an import. Numbers that mean nothing to one of them are 0 there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// "export" or "import".
    pub work: String,
    /// The folder that was named.
    pub folder: PathBuf,
    /// Documents written to the bundle, or taken from it.
    pub documents: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Documents that were there already: in the bundle, whole, or here.
    pub already: u64,
    /// Documents of the bundle on which their destination has spoken already, as is known here.
    pub confirmed: u64,
    /// Confirmations written, or taken after their signature was verified.
    pub confirmations: u64,
    /// Confirmations that were there already, or say nothing new.
    pub confirmations_already: u64,
    /// Documents that these confirmations settled here.
    pub settled: u64,
    /// Confirmed and deleted documents that were removed from the bundle.
    pub removed: u64,
    /// Whether the bundle has this kiosk's identity, which is secret.
    pub identity: bool,
    /// Documents that did not fit on the stick.
    pub no_room: u64,
    /// Documents and confirmations that are not taken here.
    pub refused: Passed,
    /// Files of the bundle that are damaged or do not belong there.
    pub damaged: Passed,
    /// Documents that an index of the bundle lists, that are not there, and that nobody has confirmed.
    pub missing: Passed,
    /// Documents of this gateway that cannot be read.
    pub unreadable: Passed,
}

impl Report {
    pub(super) fn new(work: &str, folder: &Path) -> Self {
        Report { work: work.to_owned(), folder: folder.to_owned(), ..Report::default() }
    }

    /// Whether nothing was passed over.
    pub fn is_whole(&self) -> bool {
        let passed = [&self.refused, &self.damaged, &self.missing, &self.unreadable];
        self.no_room == 0 && passed.iter().all(|passed| passed.count == 0)
    }
}

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is under way, in words.
    pub step: String,
    /// Files looked at in this step.
    pub files: u64,
    /// The last one.
    pub id: Option<MessageId>,
}

/// Progress that others look at meanwhile, and their wish to stop. Clones are the same.
#[derive(Clone, Default)]
pub struct Shown {
    progress: Arc<Mutex<Progress>>,
    stop: Arc<AtomicBool>,
}

impl Shown {
    /// How far it is now.
    pub fn progress(&self) -> Progress {
        self.lock().clone()
    }

    /// Lets the work end after the file that is under way.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn step(&self, step: &str) {
        *self.lock() = Progress { step: step.to_owned(), ..Progress::default() };
    }

    /// One more file; an error where it shall stop.
    pub(super) fn file(&self, id: &MessageId) -> Result<(), WorkError> {
        let mut progress = self.lock();
        progress.files += 1;
        progress.id = Some(*id);
        self.go_on()
    }

    pub(super) fn go_on(&self) -> Result<(), WorkError> {
        if self.stop.load(Ordering::Relaxed) { Err(WorkError::Stopped) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
