//! The phone: a folder with its store, and the keys of its identity and its store.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use waypost_node::{Clock, KeyFileError};
use waypost_openpgp::BUILD_FLOOR;
use waypost_protocol::ids::PeerKey;
use waypost_protocol::session::Identity;
use waypost_protocol::sync::MAX_NAME;
use waypost_protocol::time::UnixTime;
use waypost_store::{Options, Store, StoreKey, Writer, WriterOptions};

use crate::keys::{KeyFolder, KeysError};
use crate::lock::Passphrase;
use crate::settings::SettingError;

const NAME: &str = "name";

/// Why a phone's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made.
    #[error("folder {path}: {source}; choose another with --home")]
    Folder {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Its keys cannot be had.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] waypost_store::OpenError),
    /// The thread that writes cannot be started.
    #[error(transparent)]
    Writer(#[from] waypost_store::StoreError),
}

/// A phone. Cloning it is cheap; all clones share one store.
#[derive(Clone)]
pub struct Phone {
    home: PathBuf,
    identity: Identity,
    store: Store,
    writer: Writer,
    clock: Clock,
}

impl Phone {
    /// Opens the phone in `home`, making it where there is none. Several processes may have it open.
    pub fn open(home: &Path) -> Result<Self, OpenError> {
        Self::open_with(home, Options::default())
    }

    /// As [`Phone::open`] with other limits of the store; documents are always offered to peers.
    pub fn open_with(home: &Path, options: Options) -> Result<Self, OpenError> {
        Self::open_as(home, None, options)
    }

    /// As [`Phone::open`], also where it has this passphrase. One that is made has it from the beginning; one that has none opens,
    /// too.
    pub fn open_with_passphrase(home: &Path, passphrase: &Passphrase) -> Result<Self, OpenError> {
        Self::open_as(home, Some(passphrase), Options::default())
    }

    fn open_as(home: &Path, passphrase: Option<&Passphrase>, options: Options) -> Result<Self, OpenError> {
        let folder = |source| OpenError::Folder { path: home.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(home).map_err(folder)?;
        let keys = KeyFolder::hold(home)?.open(passphrase)?;
        let identity = Identity::from_private(*keys.identity);
        let identity = identity.map_err(|error| KeysError::Clear(KeyFileError::Identity(error)))?;
        let key = StoreKey::new(*keys.store);
        let store = Store::open(&home.join("store"), &key, Options { forwards: true, ..options })?;
        let writer = Writer::start(store.clone(), WriterOptions::default())?;
        Ok(Phone { home: home.to_owned(), identity, store, writer, clock: Clock::default() })
    }

    /// Whether there is a phone in `home` already. Where that cannot be seen, opening it says why.
    pub fn exists(home: &Path) -> bool {
        KeyFolder::has_keys(home)
    }

    /// Whether the phone in `home` opens with a passphrase only.
    pub fn has_passphrase(home: &Path) -> bool {
        KeyFolder::is_locked(home)
    }

    /// Puts the keys of the phone in `home` under a passphrase. What is stored stays as it is, as with the others.
    pub fn set_passphrase(home: &Path, passphrase: &Passphrase) -> Result<(), KeysError> {
        KeyFolder::hold(home)?.set(passphrase)
    }

    /// Puts them under another.
    pub fn change_passphrase(home: &Path, old: &Passphrase, new: &Passphrase) -> Result<(), KeysError> {
        KeyFolder::hold(home)?.change(old, new)
    }

    /// Leaves them beside the store in clear.
    pub fn remove_passphrase(home: &Path, passphrase: &Passphrase) -> Result<(), KeysError> {
        KeyFolder::hold(home)?.remove(passphrase)
    }

    /// Its folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Its public key: its name to peers.
    pub fn key(&self) -> PeerKey {
        self.identity.public()
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// The wall clock, which may be wrong.
    pub fn wall(&self) -> UnixTime {
        self.clock.wall()
    }

    /// The wall clock, where it may be right: not before this program was made.
    pub fn trusted_time(&self) -> Option<UnixTime> {
        Some(self.wall()).filter(|now| *now >= BUILD_FLOOR)
    }

    /// The label that it gives itself to paired peers; empty unless its user chose one.
    pub fn name(&self) -> Result<String, SettingError> {
        Ok(self.load(NAME)?.unwrap_or_default())
    }

    /// Sets the label, cut to what a peer reads.
    pub fn set_name(&self, name: &str) -> Result<(), SettingError> {
        let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
        self.save(NAME, &name)
    }
}
