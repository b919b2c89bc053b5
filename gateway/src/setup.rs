//! From configuration to an open store, keys, and what peers are told.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use waypost_config::{Config, Problem, Severity};
use waypost_node::{KeyFileError, Limits, MediumLimits, identity, inspect_key, store_key};
use waypost_protocol::session::Identity;
use waypost_protocol::sync::{PeerHello, WINDOW};
use waypost_store::{DiskSpace, OpenError, Options, Store, SystemDisk};

use crate::destinations::Destinations;

/// The configuration file that is used unless another is named.
pub const DEFAULT_CONFIG: &str = "/etc/waypost/gateway.toml";

/// Where the gateway's secret key is unless another place is named.
const DEFAULT_IDENTITY: &str = "/var/lib/waypost/identity.key";

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A key file is of no use.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// There is a store, and its key is not there.
    #[error("{} is missing, and the store does not open without it; restore it", .0.display())]
    KeyMissing(PathBuf),
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// Opens the store that the configuration names, making it where it is missing.
pub fn open_store(config: &Config) -> Result<Store, SetupError> {
    let path = store_key_path(config);
    if !path.exists() && holds_documents(config) {
        return Err(SetupError::KeyMissing(path));
    }
    let key = store_key(&path)?;
    Ok(Store::open(&config.store.path, &key, store_options(config))?)
}

/// Where the store's key is: as configured, else beside the store.
pub fn store_key_path(config: &Config) -> PathBuf {
    let beside = || {
        let mut name = config.store.path.as_os_str().to_owned();
        name.push(".key");
        PathBuf::from(name)
    };
    config.store.key_file.clone().unwrap_or_else(beside)
}

/// Where the gateway's secret key is: as configured, else in its state folder.
pub fn identity_path(config: &Config) -> PathBuf {
    config.identity.key_file.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_IDENTITY))
}

/// The gateway's static key pair, made where it is missing.
pub fn open_identity(config: &Config) -> Result<Identity, SetupError> {
    Ok(identity(&identity_path(config))?)
}

/// What of the files and folders that the configuration names would keep the gateway from starting. Makes nothing.
pub fn inspect(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut find = |key: &str, message: String| {
        problems.push(Problem::new(Severity::Error, None, Some(key), &message));
    };
    let (store_key, identity) = (store_key_path(config), identity_path(config));
    for (key, path) in [("store.key_file", &store_key), ("identity.key_file", &identity)] {
        if let Err(error) = inspect_key(path) {
            find(key, error.to_string());
        }
    }
    if !store_key.exists() && holds_documents(config) {
        find("store.key_file", SetupError::KeyMissing(store_key).to_string());
    }
    let socket = config.control.socket.parent().unwrap_or(Path::new("."));
    for (key, folder) in [("store.path", config.store.path.as_path()), ("control.socket", socket)] {
        // The first of its folders that is there; those below it are made at the start.
        let there = folder.ancestors().find(|part| part.exists());
        if let Some(there) = there.filter(|there| !there.is_dir()) {
            find(key, format!("{} is no folder; move it away, or set another path", there.display()));
        }
    }
    problems
}

fn holds_documents(config: &Config) -> bool {
    config.store.path.join("data.mdb").exists()
}

fn store_options(config: &Config) -> Options {
    let defaults = Options::default();
    let percent = |share: u32| u8::try_from(share.min(100)).unwrap_or(100);
    Options {
        map_size: config.store.map_size.bytes(),
        quota: config.store.quota.map_or(u64::MAX, |quota| quota.bytes()),
        peer_share: percent(config.store.phone_share),
        open_share: percent(config.store.open_share),
        poster_share: percent(config.store.poster_share),
        disk: Arc::new(FreeAbove { reserve: config.store.reserve.bytes() }),
        remember: config.store.remember.duration(),
        // The largest document that is taken has to fit by itself.
        max_partial_bytes: defaults.max_partial_bytes.max(config.limits.max_document.bytes()),
        ..defaults
    }
}

/// What of the disk documents may use: all but `[store] reserve`.
struct FreeAbove {
    reserve: u64,
}

impl DiskSpace for FreeAbove {
    fn free(&self, folder: &Path) -> std::io::Result<u64> {
        // The store keeps its own reserve file free on top of this.
        let own = Options::default().reserve;
        Ok(SystemDisk.free(folder)?.saturating_sub(self.reserve.saturating_sub(own)))
    }

    fn size(&self, folder: &Path) -> std::io::Result<u64> {
        SystemDisk.size(folder)
    }
}

/// What every peer is told.
pub fn hello(config: &Config, store: &Store, destinations: &Destinations) -> PeerHello {
    PeerHello {
        store: store.store_id(),
        serves: destinations.fingerprints(),
        wants: Vec::new(),
        max_document: config.limits.max_document.bytes(),
        window: WINDOW,
        name: config.name.as_str().to_owned(),
        has_backhaul: false,
        is_gateway: true,
        moves: false,
        advertising_key: None,
    }
}

/// The node's bounds.
pub fn limits(config: &Config) -> Limits {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Limits {
        sessions: count(config.limits.sessions),
        per_address: count(config.limits.sessions_per_address),
        half_open: count(config.limits.half_open),
        handshake: config.limits.handshake_timeout.duration(),
        idle: config.limits.idle_timeout.duration(),
        lan: MediumLimits::none(),
        wifi: MediumLimits { links: count(config.wifi_direct.links), ..MediumLimits::wifi_direct() },
        ble: MediumLimits { links: count(config.ble.links), ..MediumLimits::bluetooth() },
    }
}
