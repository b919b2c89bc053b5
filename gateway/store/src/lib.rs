//! The durable store of gateway and phone, on LMDB: what [`Store::apply`] has answered with `Ok` is flushed.
//!
//! Documents are rows in order of arrival; their bodies lie in pieces, each body sealed under its own small key, so
//! that removing the key removes the body. Every value is sealed, row keys are sequence numbers or PRF outputs
//! (design R12). All writing goes through [`Change`]s, most comfortably through a [`Writer`]; reading sees what is
//! committed, in short transactions, so that old pages can be used again.
//!
//! Several processes may have the same store open (daemon and CLI); within one process it is opened once and the
//! handle is cloned.

#![deny(unsafe_code)]

mod admit;
mod apply;
mod body;
mod change;
mod check;
mod clock;
mod codes;
mod disk;
mod error;
mod holdings;
mod migrate;
mod options;
mod read;
mod rows;
mod seal;
mod shares;
mod sweep;
mod tables;
mod writer;

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use waypost_protocol::ids::StoreId;

pub use admit::Usage;
pub use change::{Applied, Change, Free, Freeing, NewDocument, PeerClass};
pub use check::Finding;
pub use clock::{Boot, Clock, SystemClock};
pub use codes::{Code, Poster};
pub use disk::{DiskSpace, SystemDisk};
pub use error::{ChangeError, OpenError, StoreError};
pub use options::Options;
pub use read::{Counts, DocumentEntry, Filter, Gone, PeerEntry, State, Waiting};
pub use seal::StoreKey;
pub use sweep::Swept;
pub use writer::{Unsubmitted, Writer, WriterOptions};

use body::Hashing;
use clock::Uptime;
use disk::Reserve;
use rows::{STORE_KEY, StoreRow};
use seal::{Keys, Prf};
use tables::Tables;

/// A write transaction takes changes of at most so many bytes (design §4).
pub const MAX_TRANSACTION: usize = 4 << 20;

/// A handle to an open store. Cloning it is cheap; the store is closed with the last one.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    tables: Tables,
    options: Options,
    id: StoreId,
    uptime: Uptime,
    reserve: Reserve,
    writing: Mutex<Writing>,
    trouble: Mutex<Option<Trouble>>,
}

/// Transactions fail, and it is not for want of room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What the first one that failed was answered.
    pub error: StoreError,
    /// When that was, by [`Store::uptime`].
    pub since: u64,
}

/// What only the one who writes may touch.
#[derive(Default)]
struct Writing {
    /// Running hashes of the bodies under way, as far as they are committed.
    hashers: HashMap<Prf, Hashing>,
    sweep: sweep::Cursors,
}

impl Store {
    /// Opens the store in `folder`, making both where they are missing. The folder gets mode 0700.
    pub fn open(folder: &Path, key: &StoreKey, options: Options) -> Result<Self, OpenError> {
        let at = |error| OpenError::Folder { path: folder.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at)?;
        let map_size = options.map_size.next_multiple_of(1 << 20);
        let map_size = usize::try_from(map_size).map_err(|_| OpenError::MapSize(map_size))?;
        let tables = Tables::open(folder, map_size, Keys::new(key))?;
        if begin(&tables)? {
            disk::sync_folder(folder).map_err(at)?;
            folder
                .canonicalize()
                .and_then(|path| path.parent().map_or(Ok(()), disk::sync_folder))
                .map_err(at)?;
        }
        let row = check_key_and_schema(&tables, folder)?;
        let id = StoreId::from_slice(&row.id).map_err(|_| tables::damaged(tables::Table::Meta, STORE_KEY))?;
        let store = Store {
            inner: Arc::new(Inner {
                folder: folder.to_owned(),
                id,
                uptime: Uptime::resume(options.clock.clone(), row.uptime, row.boot().as_ref()),
                reserve: Reserve::new(folder, options.reserve),
                writing: Mutex::default(),
                trouble: Mutex::default(),
                tables,
                options,
            }),
        };
        store.inner.reserve.restore(store.disk_free());
        Ok(store)
    }

    /// The random name that was made with the store.
    pub fn store_id(&self) -> StoreId {
        self.inner.id
    }

    /// The folder that it lies in.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Seconds that the machine was on since the store was made, as far as is known: the clock of lifetimes. What
    /// passes between the last transaction and switching off is not known, nor is the time while it is off.
    pub fn uptime(&self) -> u64 {
        self.inner.uptime.now()
    }

    /// Whether the database has stopped ([`StoreError::Broken`]): every handle must be dropped, then it can be opened again.
    pub fn is_broken(&self) -> bool {
        matches!(self.inner.tables.read(), Err(StoreError::Broken))
    }

    /// What is wrong, and since when, where the last transaction was not written and room is not what it lacked: a file system that
    /// is read-only after an error, for one. Every transaction writes something, so that it is over with the first that is
    /// written.
    pub fn trouble(&self) -> Option<Trouble> {
        self.inner.trouble().clone()
    }

    /// Takes down how a transaction ended.
    fn note(&self, done: Result<(), StoreError>) {
        let mut trouble = self.inner.trouble();
        match done.map_err(|error| self.explained(error)) {
            Ok(()) => *trouble = None,
            Err(StoreError::Full(_)) => {}
            Err(error) => _ = trouble.get_or_insert_with(|| Trouble { error, since: self.uptime() }),
        }
    }

    fn disk_free(&self) -> u64 {
        // Not knowing counts as room: a full disk is found out by the write itself.
        self.inner.options.disk.free(&self.inner.folder).unwrap_or(u64::MAX)
    }
}

impl Inner {
    fn writing(&self) -> MutexGuard<'_, Writing> {
        // What is in there is checked against the database before use, so a panic elsewhere spoils nothing.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    /// Saves the uptime, unless hardly any has passed: a CLI call should not wear the card.
    fn drop(&mut self) {
        if let Err(error) = apply::save_uptime(self, 60) {
            log::warn!(error:%; "could not save the store's uptime");
        }
    }
}

/// Gives a new store its name. Whether it was new.
fn begin(tables: &Tables) -> Result<bool, StoreError> {
    if tables.schema(&*tables.read()?)?.is_some() {
        return Ok(false);
    }
    let mut txn = tables.write()?;
    if tables.schema(&txn)?.is_some() {
        return Ok(false);
    }
    let mut rng = random()?;
    let mut id = [0; StoreId::LEN];
    rng.fill_bytes(&mut id);
    // Peer 0 is this node itself, and 0 is no verdict's confirmation.
    let row =
        StoreRow { id: id.to_vec(), next_peer: 1, next_confirmation: 1, next_seq: 1, ..StoreRow::default() };
    tables.put(&mut txn, &mut rng, STORE_KEY, &row)?;
    tables.set_schema(&mut txn, migrate::SCHEMA)?;
    txn.commit().map_err(StoreError::from)?;
    Ok(true)
}

fn check_key_and_schema(tables: &Tables, folder: &Path) -> Result<StoreRow, OpenError> {
    let found = tables.schema(&*tables.read()?)?.unwrap_or(migrate::SCHEMA);
    if found > migrate::SCHEMA {
        return Err(OpenError::Newer { path: folder.to_owned(), found, known: migrate::SCHEMA });
    }
    let row = |txn: &heed::RoTxn| match tables.get::<StoreRow>(txn, STORE_KEY) {
        Err(StoreError::Damaged { .. }) | Ok(None) => Err(OpenError::WrongKey(folder.to_owned())),
        Ok(Some(row)) => Ok(row),
        Err(error) => Err(error.into()),
    };
    row(&*tables.read()?)?;
    migrate::run(tables, found, migrate::STEPS)?;
    row(&*tables.read()?)
}

fn random() -> Result<ChaCha20Rng, StoreError> {
    ChaCha20Rng::try_from_os_rng().map_err(|error| StoreError::Random(error.to_string()))
}
