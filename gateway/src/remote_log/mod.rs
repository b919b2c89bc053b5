//! The gateway's part in remote logs: it publishes what phones brought, and catches up from the logs that it follows.
//!
//! `Work` does both, one question to the place at a time. At a destination the uploader calls it when it has nothing
//! to upload (`destination.rs`), so that the documents of phones go first; for a folder there is a thread (`folder.rs`).

mod destination;
mod folder;
mod publish;
mod shelf;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use waypost_config::{Config, RemoteLog};
use waypost_node::{KeyFileError, identity_secret};
use waypost_protocol::ids::{Fingerprint, MessageId, PeerKey};
use waypost_protocol::time::Monotonic;
use waypost_remote_log::reader::Memory;
use waypost_remote_log::{LogKey, Place, PlaceError, Progress, ReadError, Reader, Signer, Writer};
use waypost_store::{Change, Store, Writer as StoreWriter};

use crate::destinations::Destinations;
use crate::setup::identity_path;
use publish::Published;
use shelf::GatewayShelf;

pub use destination::AtDestination;
pub use folder::AtFolder;

/// How long a place is left alone after the first failure; doubled with each further one, up to `interval`.
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// What the two parts need of the gateway.
#[derive(Clone)]
pub struct Parts {
    /// The store, for reading.
    pub store: Store,
    /// The store, for writing.
    pub writer: StoreWriter,
    /// What is served.
    pub destinations: Arc<Destinations>,
    /// The configuration.
    pub config: Arc<Config>,
    /// Signs the gateway's heads.
    pub signer: Arc<Signer>,
    /// Called when documents have come that may have to be uploaded.
    pub fetched: Arc<dyn Fn() + Send + Sync>,
}

/// How remote logs are at one place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// The destination's name, or the folder.
    pub place: String,
    /// Documents in this gateway's own log there, as far as it is known.
    pub published: u64,
    /// What is wrong with the place or with publishing.
    pub trouble: Option<String>,
    /// The logs that are followed.
    pub follows: Vec<FollowStatus>,
}

/// How one followed log is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowStatus {
    /// Its key.
    pub key: String,
    /// Documents in it that were looked at, from its beginning on.
    pub documents: u64,
    /// Documents taken since the start.
    pub taken: u64,
    /// Documents that could not be taken and are tried again.
    pub owed: u64,
    /// Whether all that it lists was looked at.
    pub is_read: bool,
    /// What is wrong with it.
    pub trouble: Option<String>,
}

/// The gateway's signing key, derived from its identity.
pub fn signer(config: &Config) -> Result<Arc<Signer>, KeyFileError> {
    let path = identity_path(config);
    let secret = identity_secret(&path)?;
    Signer::derive(&secret).map(Arc::new).ok_or(KeyFileError::Contents(path))
}

/// Whether anything is to be done at all.
pub fn is_wanted(config: &RemoteLog) -> bool {
    config.publish || !config.follow.is_empty()
}

/// Publishing and following at one place.
struct Work {
    parts: Parts,
    /// The destination whose documents are concerned; `None`: those of all.
    scope: Option<Fingerprint>,
    status: Arc<Mutex<LogStatus>>,
    publish_at: Option<Monotonic>,
    follow_at: Option<Monotonic>,
    failures: u32,
    own: Option<Writer>,
    /// Where publishing goes on.
    cursor: u64,
    /// Rows before that which are held back until they have been uploaded.
    later: BTreeSet<u64>,
    /// What was remembered of the own log last.
    known: Option<Published>,
    /// Documents that the place does not take.
    refused: BTreeSet<MessageId>,
    readers: Vec<Reader>,
    /// The reader whose round is under way.
    reading: Option<usize>,
    /// The log of documents that the destination writes itself.
    authored: Option<LogKey>,
}

/// A reader that goes on where it was, and what is shown of it.
fn open_reader(parts: &Parts, scope: Option<&Fingerprint>, key: LogKey) -> (Reader, FollowStatus) {
    let bytes = parts.store.setting(&memory_key(scope, &key)).ok().flatten();
    let memory = bytes.map(|bytes| Memory::decode(&bytes)).transpose().unwrap_or_else(|error| {
        log::error!(log:% = key, error:%; "{error}");
        None
    });
    let follow =
        FollowStatus { key: key.to_string(), documents: 0, taken: 0, owed: 0, is_read: false, trouble: None };
    (Reader::new(key, memory.unwrap_or_default()), follow)
}

impl Work {
    fn new(parts: Parts, scope: Option<Fingerprint>, place: String) -> Self {
        let settings = &parts.config.remote_log;
        let own = parts.signer.key();
        let keys = settings.follow.iter().map(|key| LogKey(key.0)).filter(|key| *key != own);
        let mut status = LogStatus { place, ..LogStatus::default() };
        let mut readers = Vec::new();
        for key in keys {
            let (reader, follow) = open_reader(&parts, scope.as_ref(), key);
            readers.push(reader);
            status.follows.push(follow);
        }
        let begin = Monotonic(Duration::ZERO);
        Work {
            publish_at: settings.publish.then_some(begin),
            follow_at: (!readers.is_empty()).then_some(begin),
            parts,
            scope,
            status: Arc::new(Mutex::new(status)),
            failures: 0,
            own: None,
            cursor: 0,
            later: BTreeSet::new(),
            known: None,
            refused: BTreeSet::new(),
            readers,
            reading: None,
            authored: None,
        }
    }

    /// The destination itself writes documents; those of collections that have readers here are fetched.
    fn follow_destination(&mut self, key: LogKey, now: Monotonic) {
        let has_readers = self.scope.is_some_and(|scope| self.parts.destinations.has_readers(&scope));
        let is_followed = self.settings().follow.iter().any(|followed| followed.0 == key.0);
        if !has_readers || is_followed || self.authored == Some(key) || key == self.parts.signer.key() {
            return;
        }
        self.authored = Some(key);
        if self.readers.iter().all(|reader| reader.key() != key) {
            let (reader, follow) = open_reader(&self.parts, self.scope.as_ref(), key);
            self.readers.push(reader);
            self.status().follows.push(follow);
        }
        self.follow_at = Some(now);
    }

    fn settings(&self) -> &RemoteLog {
        &self.parts.config.remote_log
    }

    fn status(&self) -> MutexGuard<'_, LogStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next step is due.
    fn due(&self) -> Option<Monotonic> {
        [self.publish_at, self.follow_at].into_iter().flatten().min()
    }

    /// There may be something new to publish.
    fn nudge(&mut self, now: Monotonic) {
        if self.settings().publish && self.failures == 0 {
            self.publish_at.get_or_insert(now);
        }
    }

    /// The place may be reached now.
    fn try_now(&mut self, now: Monotonic) {
        self.failures = 0;
        self.publish_at = self.settings().publish.then_some(now);
        self.follow_at = (!self.readers.is_empty()).then_some(now);
    }

    /// One step. Whether documents were stored.
    fn step(&mut self, place: &mut dyn Place, now: Monotonic) -> bool {
        if self.publish_at.is_some_and(|at| at <= now) {
            self.publish(place, now);
            false
        } else if self.follow_at.is_some_and(|at| at <= now) {
            self.follow(place, now)
        } else {
            false
        }
    }

    /// The place failed: it is left alone for a while.
    fn fail(&mut self, trouble: &str, now: Monotonic) {
        let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(16));
        let until = now + wait.min(self.settings().interval.duration().max(FIRST_WAIT));
        self.failures = self.failures.saturating_add(1);
        (self.own, self.reading) = (None, None);
        self.publish_at = self.publish_at.map(|_| until);
        self.follow_at = self.follow_at.map(|_| until);
        let mut status = self.status();
        if status.trouble.as_deref() != Some(trouble) {
            log::warn!(place = status.place.as_str(); "remote logs: {trouble}");
            status.trouble = Some(trouble.to_owned());
        }
    }

    fn succeed(&mut self) {
        self.failures = 0;
        self.status().trouble = None;
    }
}

/// Following.
impl Work {
    /// One step of the round under way. Whether a document was stored.
    fn follow(&mut self, place: &mut dyn Place, now: Monotonic) -> bool {
        let at = self.reading.unwrap_or_default();
        let Some(reader) = self.readers.get_mut(at) else {
            self.reading = None;
            self.follow_at = Some(now + self.settings().interval.duration());
            return false;
        };
        // The destination's server names this key: it must not become that of a peer who may do something here.
        let peer = match self.authored == Some(reader.key()) {
            true => PeerKey(Sha256::digest([b"waypost authored log", &reader.key().0[..]].concat()).into()),
            false => PeerKey(reader.key().0),
        };
        let authored = self.authored == Some(reader.key());
        if self.reading.is_none() {
            reader.begin();
            self.reading = Some(at);
        }
        let mut shelf = GatewayShelf { parts: &self.parts, scope: self.scope, peer, authored };
        let outcome = shelf.introduce().and_then(|()| reader.step(place, &mut shelf));
        let memory = reader.take_change();
        let key = memory_key(self.scope.as_ref(), &reader.key());
        if memory.is_some() {
            self.parts.writer.submit(Change::Put { key, value: memory }, |_| ());
        }
        self.show(at, &outcome);
        match outcome {
            Ok(Progress::Done) => self.next_reader(at),
            Ok(Progress::Taken(_)) => {
                self.succeed();
                return true;
            }
            Ok(_) => self.succeed(),
            Err(ReadError::Place(error @ (PlaceError::Unreachable(_) | PlaceError::Source(_)))) => {
                self.fail(&error.to_string(), now);
            }
            // This log only; the others are read all the same.
            Err(_) => self.next_reader(at),
        }
        false
    }

    fn next_reader(&mut self, at: usize) {
        self.reading = Some(at + 1);
        if let Some(reader) = self.readers.get_mut(at + 1) {
            reader.begin();
        }
    }

    /// Tells the admin, and the log where something is worth it.
    fn show(&self, at: usize, outcome: &Result<Progress, ReadError>) {
        let mut status = self.status();
        let Some((follow, reader)) = status.follows.get_mut(at).zip(self.readers.get(at)) else { return };
        if let Some(known) = reader.memory().logs().last() {
            follow.documents = known.floor.count;
            follow.owed = known.owed.len() as u64;
            follow.is_read = known.walk.is_none();
        }
        let key = reader.key();
        match outcome {
            Ok(Progress::Taken(id)) => {
                follow.taken += 1;
                log::debug!(log:% = key, document:% = id; "taken from a remote log");
            }
            Ok(Progress::Skipped(id, why)) => {
                log::warn!(log:% = key, document:% = id; "not taken from a remote log: {why}");
            }
            Ok(Progress::Head(None)) => follow.trouble = Some("it is not there (yet)".to_owned()),
            Ok(Progress::Done) if follow.documents > 0 => follow.trouble = None,
            Ok(_) => {}
            Err(ReadError::Place(PlaceError::Unreachable(_))) => {}
            Err(error) => {
                let words = error.to_string();
                if follow.trouble.as_deref() != Some(words.as_str()) {
                    log::error!(log:% = key, error:%; "a remote log is not read: {error}");
                    follow.trouble = Some(words);
                }
            }
        }
    }
}

fn scope_word(scope: Option<&Fingerprint>) -> String {
    scope.map_or_else(|| "folder".to_owned(), ToString::to_string)
}

fn memory_key(scope: Option<&Fingerprint>, key: &LogKey) -> String {
    format!("remote-log/read/{}/{key}", scope_word(scope))
}
