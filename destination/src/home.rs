//! The server's home folder: its settings, keys, store and inbox.
//!
//! ```text
//! destination.toml   settings            inbox/COLLECTION/…   opened content under its own name
//! secret.pgp         the OpenPGP key     held/                sealed documents whose key is elsewhere
//! certificate.pgp    its public part     confirmations/       NAME.txt and NAME.txt.asc
//! collection.key     names the groups    store.sqlite         what became of each document
//! tls/               certificates        tmp/                 what is being received
//! log/               remote logs         publishing/          what gateways do not see yet
//! keys/              successors' keys    chain.pb             all certificates, and who vouches for them
//! ```

mod expiry;
mod keys;
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_encoding::HEXLOWER;
use waypost_openpgp::{Certificate, CertificateError, Chain, KeyError, SecretKey};
use waypost_protocol::collection::CollectionKey;
use waypost_protocol::ids::{Fingerprint, MessageId};
use waypost_remote_log::Signer;
use zeroize::Zeroizing;

pub use settings::{Settings, WebhookSettings};
use settings::{
    default_listen, default_max_batch_bytes, default_max_batch_documents, default_max_content,
    default_max_document, default_max_log_bytes, default_max_partials, default_takeover_after,
    default_tls_certificate, default_tls_key,
};

use crate::clock::now;
use crate::durable;
use crate::intake::BatchLimits;
use crate::judge::{Judge, Limits};
use crate::names::is_folder_name;
use crate::partials;
use crate::store::{Postgres, Records, Store, StoreError};
use crate::tls::{self, TlsError};

/// Folders in it.
const FOLDERS: [&str; 5] = ["inbox", "held", "confirmations", "tmp", "tls"];
/// The secret of the destination's own remote log.
const LOG_KEY: &str = "log.key";
/// Settings.
const SETTINGS: &str = "destination.toml";

/// Why a home cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Nothing there.
    #[error("{0} is not the home of a destination; make one with `waypost-destination init --home {0}`")]
    Missing(PathBuf),
    /// Something there.
    #[error("{0} is a destination's home already; nothing was changed")]
    Exists(PathBuf),
    /// A file or folder cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// The settings do not parse.
    #[error("{path}: {error}")]
    Settings {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        error: Box<toml::de::Error>,
    },
    /// A key.
    #[error("{path}: {error}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: KeyError,
    },
    /// A certificate.
    #[error("{path}: {error}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: CertificateError,
    },
    /// The collection key is not 32 bytes of hexadecimal text.
    #[error("{0} does not hold 64 hexadecimal digits; put the file back that `init` made")]
    CollectionKey(PathBuf),
    /// The log's secret is none.
    #[error("{0} does not hold 32 bytes; move it away, and another log begins")]
    LogKey(PathBuf),
    /// A collection's name cannot be a folder.
    #[error(
        "collection {0:?} cannot be the name of a folder; leave out `/` and names of more than 255 bytes"
    )]
    Collection(String),
    /// Nothing could be sealed to it.
    #[error(
        "certificate {0} has no valid key to encrypt to, so that phones cannot seal anything; give the whole one \
         with --certificate FILE"
    )]
    CannotBeSealedTo(Fingerprint),
    /// What connects the destination's keys.
    #[error("{path}: {reason}; put it back from a backup")]
    Chain {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A key cannot be renewed or succeeded.
    #[error("nothing was changed: {0}")]
    Succession(String),
    /// TLS certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A database of another kind.
    #[error(
        "{path}: database {found:?} is none that this program knows; it begins with postgres://, or leave it out for SQLite"
    )]
    Database {
        /// The settings.
        path: PathBuf,
        /// Without what may be a password.
        found: String,
    },
    /// A database for several processes, content for one.
    #[error(
        "{0}: `database` can be shared by several servers, the content in this home cannot; set content = \"s3://BUCKET/PREFIX\", or content = \"folder\" where only one server runs"
    )]
    HalfShared(PathBuf),
    /// The largest document could not be uploaded in parts.
    #[error(
        "{path}: max_partial_bytes = {bytes} and max_partials = {count} leave no room for a document of max_document = {document} bytes; raise them"
    )]
    Partials {
        /// The settings.
        path: PathBuf,
        /// As configured.
        bytes: u64,
        /// As configured.
        count: u64,
        /// As configured.
        document: u64,
    },
    /// A webhook that cannot be called.
    #[error("{path}: the webhook's url {found:?} begins neither with https:// nor with http://")]
    Webhook {
        /// The settings.
        path: PathBuf,
        /// As configured.
        found: String,
    },
}

/// How a home is made.
#[derive(Debug, Clone, Default)]
pub struct Init {
    /// A name for people.
    pub name: String,
    /// Base URL for gateways and phones.
    pub url: Option<String>,
    /// Names of collections; "forms" where there is none.
    pub collections: Vec<String>,
    /// Host names and addresses of a certificate under a certificate authority of its own, made here.
    pub self_signed: Vec<String>,
    /// The server's certificates and key, where it has some.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// A secret key that signs, in place of a new one. Where it cannot decrypt, documents are held.
    pub signing_key: Option<PathBuf>,
    /// The whole certificate of that key.
    pub certificate: Option<PathBuf>,
}

/// An opened home.
#[derive(Clone)]
pub struct Home {
    path: PathBuf,
    settings: Settings,
    key: Arc<SecretKey>,
    chain: Chain,
    collection_key: CollectionKey,
}

impl Home {
    /// Makes the folder and everything in it; the settings come last, so that a broken try can be done again.
    pub fn init(path: &Path, init: &Init) -> Result<Self, HomeError> {
        let path = std::path::absolute(path).map_err(at(path))?;
        if path.join(SETTINGS).exists() {
            return Err(HomeError::Exists(path));
        }
        let collections = match init.collections.is_empty() {
            true => vec!["forms".to_owned()],
            false => init.collections.clone(),
        };
        if let Some(wrong) = collections.iter().find(|name| !is_folder_name(name)) {
            return Err(HomeError::Collection(wrong.clone()));
        }
        let key = match &init.signing_key {
            Some(file) => import_key(file, init.certificate.as_deref())?,
            None => SecretKey::generate(&init.name, now())
                .map_err(|error| HomeError::Key { path: path.clone(), error })?,
        };
        for folder in FOLDERS {
            let folder = path.join(folder);
            fs::create_dir_all(&folder).map_err(at(&folder))?;
        }
        let write = |name: &str, bytes: &[u8], mode: u32| {
            let file = path.join(name);
            durable::write(&file, bytes, mode).map_err(at(&file))
        };
        let armored = key.to_armor().map_err(|error| HomeError::Key { path: path.clone(), error })?;
        write("secret.pgp", armored.as_bytes(), 0o600)?;
        write("certificate.pgp", key.certificate().to_armor().as_bytes(), 0o644)?;
        let secret = Zeroizing::new(durable::random::<32>().map_err(at(&path))?);
        let line = Zeroizing::new(HEXLOWER.encode(secret.as_slice()) + "\n");
        write("collection.key", line.as_bytes(), 0o600)?;
        let mut settings = Settings {
            name: init.name.clone(),
            url: init.url.clone(),
            listen: default_listen(),
            collections,
            first_fingerprint: None,
            tls_certificate: default_tls_certificate(),
            tls_key: default_tls_key(),
            max_document: default_max_document(),
            max_content: default_max_content(),
            max_batch_documents: default_max_batch_documents(),
            max_batch_bytes: default_max_batch_bytes(),
            max_partial_bytes: None,
            max_partials: default_max_partials(),
            max_log_bytes: default_max_log_bytes(),
            database: None,
            content: None,
            content_options: BTreeMap::new(),
            takeover_after: default_takeover_after(),
            metrics: None,
            webhook: None,
        };
        match &init.tls {
            Some((certificate, key)) => {
                settings.tls_certificate = std::path::absolute(certificate).map_err(at(certificate))?;
                settings.tls_key = std::path::absolute(key).map_err(at(key))?;
                tls::server_config(&settings.tls_certificate, &settings.tls_key)?;
            }
            None => {
                let made = tls::make_authority(&init.name, &host_names(init))?;
                write("tls/ca.pem", made.authority.as_bytes(), 0o644)?;
                write("tls/server.pem", made.certificate.as_bytes(), 0o644)?;
                write("tls/server.key", made.key.as_bytes(), 0o600)?;
            }
        }
        let text = toml::to_string(&settings).map_err(|error| at(&path)(io::Error::other(error)))?;
        write(SETTINGS, text.as_bytes(), 0o644)?;
        Self::open(&path)
    }

    /// Reads a home.
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        let path = std::path::absolute(path).map_err(at(path))?;
        let file = path.join(SETTINGS);
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(HomeError::Missing(path)),
            other => other.map_err(at(&file))?,
        };
        let settings: Settings = toml::from_str(&text)
            .map_err(|error| HomeError::Settings { path: file, error: Box::new(error) })?;
        if let Some(wrong) = settings.collections.iter().find(|name| !is_folder_name(name)) {
            return Err(HomeError::Collection(wrong.clone()));
        }
        settings.check(&path.join(SETTINGS))?;
        let file = path.join("secret.pgp");
        let bytes = Zeroizing::new(fs::read(&file).map_err(at(&file))?);
        let first = SecretKey::from_bytes(&bytes).map_err(|error| HomeError::Key { path: file, error })?;
        let (key, chain) = keys::open(&path, first)?;
        let file = path.join("collection.key");
        let line = Zeroizing::new(fs::read_to_string(&file).map_err(at(&file))?);
        let bytes =
            HEXLOWER.decode(line.trim().as_bytes()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let collection_key = CollectionKey::new(bytes.ok_or(HomeError::CollectionKey(file))?);
        for folder in FOLDERS {
            let folder = path.join(folder);
            fs::create_dir_all(&folder).map_err(at(&folder))?;
        }
        Ok(Home { path, settings, key: Arc::new(key), chain, collection_key })
    }

    /// The folder, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The key that signs now; opens where it can, also what was sealed to those before it.
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// The first public certificate, which gateways and phones pin.
    pub fn certificate(&self) -> Certificate {
        self.chain.certificates().first().cloned().unwrap_or_else(|| self.key.certificate())
    }

    /// The destination's name for ever.
    pub fn destination(&self) -> Fingerprint {
        self.settings.first_fingerprint.unwrap_or(self.chain.fingerprint())
    }

    /// What phones make group ids with.
    pub fn collection_key(&self) -> &CollectionKey {
        &self.collection_key
    }

    /// The public certificate's file, armored.
    pub fn certificate_file(&self) -> PathBuf {
        self.path.join("certificate.pgp")
    }

    /// The certificate authority's file, where it was made here.
    pub fn authority_file(&self) -> Option<PathBuf> {
        Some(self.path.join("tls/ca.pem")).filter(|path| path.exists())
    }

    /// The server's TLS certificates and key.
    pub fn tls_files(&self) -> (PathBuf, PathBuf) {
        (self.path.join(&self.settings.tls_certificate), self.path.join(&self.settings.tls_key))
    }

    /// Opened content.
    pub fn inbox_folder(&self) -> PathBuf {
        self.path.join("inbox")
    }

    /// Opened content, for people: a folder, or an object store's URL.
    pub fn inbox(&self) -> String {
        match self.settings.content.as_deref() {
            None | Some(crate::content::FOLDER) => self.inbox_folder().display().to_string(),
            Some(url) => format!("{}/inbox", url.trim_end_matches('/')),
        }
    }

    /// Confirmations as files.
    pub fn confirmations_folder(&self) -> PathBuf {
        self.path.join("confirmations")
    }

    pub(crate) fn temporary_folder(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// Uploads that go on later.
    pub(crate) fn partials_folder(&self) -> PathBuf {
        self.path.join("partials")
    }

    pub(crate) fn held_folder(&self) -> PathBuf {
        self.path.join("held")
    }

    /// Signs the destination's own remote log, with a key that is made where there is none.
    pub fn log_signer(&self) -> Result<Signer, HomeError> {
        let file = self.path.join(LOG_KEY);
        let read = |file: &Path| fs::read(file).map(Zeroizing::new);
        let secret = match read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let fresh = Zeroizing::new(durable::random::<32>().map_err(at(&file))?);
                durable::write(&file, fresh.as_slice(), 0o600).map_err(at(&file))?;
                read(&file).map_err(at(&file))?
            }
            other => other.map_err(at(&file))?,
        };
        let secret = <&[u8; 32]>::try_from(secret.as_slice()).ok();
        secret.and_then(Signer::derive).ok_or(HomeError::LogKey(file))
    }

    /// Remote logs of gateways, and the destination's own.
    pub fn log_folder(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The database.
    pub fn store_file(&self) -> PathBuf {
        self.path.join("store.sqlite")
    }

    /// Opens the database.
    pub fn records(&self) -> Result<Arc<dyn Records>, StoreError> {
        Ok(match &self.settings.database {
            None => Arc::new(Mutex::new(Store::open(&self.store_file())?)),
            Some(url) => Arc::new(self.postgres(url)?),
        })
    }

    pub(crate) fn postgres(&self, url: &str) -> Result<Postgres, StoreError> {
        Postgres::open(url, Duration::from_secs(u64::from(self.settings.takeover_after)))
    }

    /// The file of a held document; 256 folders, so that none gets too large.
    pub(crate) fn held_file(&self, id: &MessageId) -> PathBuf {
        let hex = id.to_string();
        self.held_folder().join(&hex[..2]).join(hex)
    }

    pub(crate) fn judge(&self, key: SecretKey) -> Judge {
        let limits =
            Limits { max_document: self.settings.max_document, max_content: self.settings.max_content };
        let collections = &self.settings.collections;
        Judge::new(
            self.destination(),
            key,
            &self.collection_key,
            collections,
            &self.temporary_folder(),
            limits,
        )
    }

    pub(crate) fn partial_limits(&self) -> partials::Limits {
        partials::Limits { bytes: self.settings.partial_bytes(), count: self.settings.max_partials }
    }

    pub(crate) fn batch_limits(&self) -> BatchLimits {
        BatchLimits { documents: self.settings.max_batch_documents, bytes: self.settings.max_batch_bytes }
    }
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Home").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A secret key and, where it is given apart, the certificate that it belongs to.
fn import_key(file: &Path, certificate: Option<&Path>) -> Result<SecretKey, HomeError> {
    let wrong = |error| HomeError::Key { path: file.to_owned(), error };
    let bytes = Zeroizing::new(fs::read(file).map_err(at(file))?);
    let mut key = SecretKey::from_bytes(&bytes).map_err(wrong)?;
    if let Some(path) = certificate {
        let bytes = fs::read(path).map_err(at(path))?;
        let certificate = Certificate::from_bytes(&bytes)
            .map_err(|error| HomeError::Certificate { path: path.to_owned(), error })?;
        key = key.with_certificate(&certificate).map_err(wrong)?;
    }
    match key.certificate().can_be_sealed_to(now()) {
        true => Ok(key),
        false => Err(HomeError::CannotBeSealedTo(key.certificate().fingerprint())),
    }
}

/// Those given, else the URL's, else this machine itself.
fn host_names(init: &Init) -> Vec<String> {
    if !init.self_signed.is_empty() {
        return init.self_signed.clone();
    }
    let host = init.url.as_deref().and_then(|url| {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next()?;
        let host = match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next()?,
            None => authority.split(':').next()?,
        };
        (!host.is_empty()).then(|| host.to_owned())
    });
    host.map_or_else(
        || vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()],
        |host| vec![host],
    )
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |error| HomeError::File { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_made_once_and_read_again() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home");
        assert!(matches!(Home::open(&path), Err(HomeError::Missing(_))));
        let init = Init { name: "Clinic".into(), url: Some("https://[::1]:8443".into()), ..Init::default() };
        let home = Home::init(&path, &init).unwrap();
        assert!(matches!(Home::init(&path, &init), Err(HomeError::Exists(_))));
        let again = Home::open(&path).unwrap();
        assert_eq!(again.settings(), home.settings());
        assert_eq!(again.destination(), home.destination());
        assert!(again.collection_key() == home.collection_key());
        assert_eq!(again.settings().collections, ["forms"]);
        for secret in ["secret.pgp", "collection.key", "tls/server.key"] {
            let mode = fs::metadata(path.join(secret)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{secret}");
        }
    }

    #[test]
    fn host_names_come_from_the_url() {
        let hosts = |url: &str| host_names(&Init { url: Some(url.into()), ..Init::default() });
        assert_eq!(hosts("https://example.org:8443/x"), ["example.org"]);
        assert_eq!(hosts("https://[fe80::1]:8443"), ["fe80::1"]);
        assert_eq!(host_names(&Init::default()).len(), 3);
    }

    #[test]
    fn wrong_settings_are_named_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        Home::init(folder.path(), &Init::default()).unwrap();
        let file = folder.path().join(SETTINGS);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}\ncolections = []\n")).unwrap();
        let error = Home::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("colections") && error.contains("line"), "{error}");
        let init = Init { collections: vec!["../x".into()], ..Init::default() };
        assert!(matches!(Home::init(&folder.path().join("other"), &init), Err(HomeError::Collection(_))));
    }
}
