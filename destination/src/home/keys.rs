//! The destination's keys: the first one in `secret.pgp`, its successors in `keys/`, and in `chain.pb` what is told to
//! gateways and phones: every certificate, and each old key's word for the next.
//!
//! A secret is written before the chain that names it, so that a power cut leaves at most a secret that is not used yet.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use waypost_openpgp::{Certificate, Chain, KeyError, SecretKey};
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::succession::{self, Link};
use zeroize::Zeroizing;

use super::{Home, HomeError, at};
use crate::clock::now;
use crate::durable;

/// The chain, as it is served.
const CHAIN: &str = "chain.pb";
/// Secrets of successors.
const KEYS: &str = "keys";

/// The key that signs and opens, and the chain that it belongs to.
pub(super) fn open(home: &Path, first: SecretKey) -> Result<(SecretKey, Chain), HomeError> {
    let mut secrets = vec![first];
    for file in successors(&home.join(KEYS))? {
        secrets.push(read_secret(&file)?);
    }
    let file = home.join(CHAIN);
    let mut chain = match fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            secrets.first().map(|first| Chain::new(first.certificate()))
        }
        Err(error) => return Err(at(&file)(error)),
        Ok(bytes) => read_chain(&bytes).map_err(|reason| HomeError::Chain { path: file.clone(), reason })?,
    }
    .ok_or_else(|| HomeError::Chain { path: file, reason: "it is empty".to_owned() })?;
    // A certificate may be newer beside its secret than in the chain, where the power was cut in between.
    chain.absorb(&secrets.iter().map(|secret| state_of(&chain, secret)).collect::<Vec<_>>(), now());
    let newest = chain.certificates().iter().rev().find_map(|certificate| {
        let is_its = |secret: &&SecretKey| secret.certificate().fingerprint() == certificate.fingerprint();
        secrets.iter().find(is_its).filter(|_| !certificate.is_hard_revoked())
    });
    // Where all are revoked nothing that is signed counts; the server still opens what comes.
    let Some(present) = newest.or(secrets.last()) else {
        return Err(HomeError::Missing(home.to_owned()));
    };
    let name = present.certificate().fingerprint();
    let others = secrets.iter().filter(|secret| secret.certificate().fingerprint() != name);
    let key = others.fold(present.clone(), SecretKey::also_opening);
    Ok((key, chain))
}

fn read_chain(bytes: &[u8]) -> Result<Option<Chain>, String> {
    let links = succession::decode(bytes).map_err(|error| error.to_string())?;
    Chain::from_links(&links).map_err(|error| error.to_string())
}

fn read_secret(file: &Path) -> Result<SecretKey, HomeError> {
    let bytes = Zeroizing::new(fs::read(file).map_err(at(file))?);
    SecretKey::from_bytes(&bytes).map_err(|error| HomeError::Key { path: file.to_owned(), error })
}

fn successors(folder: &Path) -> Result<Vec<PathBuf>, HomeError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(at(folder))?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = paths.map_err(at(folder))?;
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "pgp"));
    paths.sort();
    Ok(paths)
}

/// The state of a certificate that belongs to the chain.
fn state_of(chain: &Chain, secret: &SecretKey) -> Link {
    let certificate = secret.certificate().to_bytes().into();
    Link { destination: chain.fingerprint(), certificate, word: None }
}

impl Home {
    /// Every certificate, the first one first, and why each but that one counts.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What is told to gateways and phones. Nothing where this home does not have the first certificate.
    pub fn successions(&self) -> Vec<Link> {
        match self.chain.fingerprint() == self.destination() {
            true => self.chain.links(),
            false => Vec::new(),
        }
    }

    /// All certificates as one keyring, binary, the first one first.
    pub fn keyring(&self) -> Vec<u8> {
        self.chain.certificates().iter().flat_map(Certificate::to_bytes).collect()
    }

    /// Gives the present key new subkeys, and `span` of validity from now on. The home is to be opened anew, and a
    /// server that runs to be started anew.
    pub fn renew_key(&self, span: Option<Duration>) -> Result<(), HomeError> {
        let renewed = self.key.renew(span, now()).map_err(|error| self.key_error(error))?;
        self.put_key(&renewed)
    }

    /// Names a successor of the present key; from then on that one signs. Its fingerprint.
    pub fn succeed_key(&self, successor: Option<SecretKey>) -> Result<Fingerprint, HomeError> {
        let wrong = |error| self.key_error(error);
        let successor = match successor {
            Some(successor) => successor,
            None => SecretKey::generate(&self.settings.name, now()).map_err(wrong)?,
        };
        let certificate = successor.certificate();
        if !certificate.can_be_sealed_to(now()) {
            return Err(HomeError::CannotBeSealedTo(certificate.fingerprint()));
        }
        let link = self.key.vouch(self.destination(), &certificate, now()).map_err(wrong)?;
        let mut chain = self.chain.clone();
        if let Some(fault) = chain.absorb(&[link], now()).faults.first() {
            return Err(HomeError::Succession(fault.to_string()));
        }
        self.write_secret(&successor)?;
        self.write_chain(&chain)?;
        Ok(certificate.fingerprint())
    }

    /// Revokes a key of the chain: as one in other hands, or as one that is only retired.
    pub fn revoke_key(&self, fingerprint: &Fingerprint, compromised: bool) -> Result<(), HomeError> {
        let secret = read_secret(&self.secret_file(fingerprint))?;
        let revoked = secret.revoke(compromised, now()).map_err(|error| self.key_error(error))?;
        self.put_key(&revoked)
    }

    /// Keeps a newer state of a key of the chain.
    fn put_key(&self, key: &SecretKey) -> Result<(), HomeError> {
        let mut chain = self.chain.clone();
        if let Some(fault) = chain.absorb(&[state_of(&chain, key)], now()).faults.first() {
            return Err(HomeError::Succession(fault.to_string()));
        }
        self.write_secret(key)?;
        self.write_chain(&chain)
    }

    fn secret_file(&self, fingerprint: &Fingerprint) -> PathBuf {
        match *fingerprint == self.chain.fingerprint() {
            true => self.path.join("secret.pgp"),
            false => self.path.join(KEYS).join(format!("{fingerprint}.pgp")),
        }
    }

    fn write_secret(&self, key: &SecretKey) -> Result<(), HomeError> {
        let folder = self.path.join(KEYS);
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        durable::sync_folder(&self.path).map_err(at(&self.path))?;
        let armored = key.to_armor().map_err(|error| self.key_error(error))?;
        let file = self.secret_file(&key.certificate().fingerprint());
        durable::write(&file, armored.as_bytes(), 0o600).map_err(at(&file))
    }

    /// The chain, and the first certificate in its present state for gateways that are set up later.
    fn write_chain(&self, chain: &Chain) -> Result<(), HomeError> {
        let file = self.path.join(CHAIN);
        durable::write(&file, &succession::encode(&chain.links()), 0o644).map_err(at(&file))?;
        let Some(first) = chain.certificates().first() else { return Ok(()) };
        let file = self.certificate_file();
        durable::write(&file, first.to_armor().as_bytes(), 0o644).map_err(at(&file))
    }

    fn key_error(&self, error: KeyError) -> HomeError {
        HomeError::Key { path: self.secret_file(&self.key.certificate().fingerprint()), error }
    }
}
