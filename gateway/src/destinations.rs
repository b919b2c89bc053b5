//! The destinations that this gateway serves: configuration with certificate and credentials loaded.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use waypost_config::{Collection, Config, Credentials, Destination, Keep, Problem, Severity};
use waypost_openpgp::{Certificate, Chain, VerifyError, verify_confirmation};
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::{Fingerprint, GroupId};
use waypost_protocol::succession;
use waypost_protocol::sync::{self, Accepts};
use waypost_protocol::time::UnixTime;
use waypost_store::{Free, Freeing, Store};

use waypost_upload::settings::TimeFloor;
use waypost_upload::way::Way;
use waypost_upload::{Client, ClientCertificate, Settings, Token};
use zeroize::Zeroizing;

use crate::notices::{Ending, SOON};

/// Files that the configuration names are read up to this size.
const MAX_FILE: u64 = 4 << 20;

/// A destination with everything that serving it takes.
#[derive(Clone)]
pub struct Served {
    /// Its first fingerprint: its name for ever.
    pub fingerprint: Fingerprint,
    /// Its certificates, the pinned one first; shared by all that serve it, so that what one learns counts for all.
    chain: Arc<Mutex<Chain>>,
    /// What the configuration says.
    pub config: Destination,
    files: Files,
}

/// What the files had in them that the configuration names.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    token: Option<Zeroizing<Vec<u8>>>,
    client_certificate: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    ca: Option<Vec<u8>>,
}

/// All of them.
#[derive(Clone, Default)]
pub struct Destinations(pub Vec<Served>);

impl Destinations {
    /// Loads what the configuration names. What cannot be served is left out and named.
    pub fn load(config: &Config) -> (Destinations, Vec<Problem>) {
        let (mut served, mut problems): (Vec<Served>, Vec<Problem>) = (Vec::new(), Vec::new());
        for destination in &config.destination {
            match load_one(destination) {
                Ok(one) => match served.iter().find(|known| known.fingerprint == one.fingerprint) {
                    None => served.push(one),
                    Some(known) => problems.push(destination.problem(
                        Severity::Error,
                        "certificate",
                        &format!(
                            "is the same as that of \"{}\"; each destination has its own",
                            known.config.name
                        ),
                    )),
                },
                Err((key, message)) => problems.push(destination.problem(Severity::Error, key, &message)),
            }
        }
        (Destinations(served), problems)
    }

    /// The destination of this fingerprint.
    pub fn get(&self, fingerprint: &Fingerprint) -> Option<&Served> {
        self.0.iter().find(|served| served.fingerprint == *fingerprint)
    }

    /// Their fingerprints.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.0.iter().map(|served| served.fingerprint).collect()
    }

    /// Goes on with the chains that were known before: those of `before`, else those in the store.
    pub fn go_on(&mut self, before: &Destinations, store: &Store) {
        for served in &mut self.0 {
            let known = match before.get(&served.fingerprint) {
                Some(before) => Some(before.chain.clone()),
                None => stored_chain(store, &served.fingerprint).map(|chain| Arc::new(Mutex::new(chain))),
            };
            if let Some(known) = known {
                served.go_on_with(known);
            }
        }
    }

    /// What a peer may deposit, up to `max_document` bytes each, and with `records` their revisions; `limit_of` says what a
    /// destination itself takes.
    pub fn accepts(
        &self,
        max_document: u64,
        records: bool,
        limit_of: impl Fn(&Fingerprint) -> Option<u64>,
    ) -> Accepts {
        let served = |served: &Served| sync::Served {
            destination: served.fingerprint,
            collections: served
                .config
                .collections
                .as_ref()
                .map(|collections| collections.iter().map(|collection| collection.group).collect()),
            max_document: limit_of(&served.fingerprint).unwrap_or(u64::MAX),
        };
        Accepts { destinations: self.0.iter().map(served).collect(), max_document, records }
    }

    /// Collections of which paired phones may be sent documents.
    pub fn subscribable(&self) -> Vec<GroupId> {
        let collections = self.0.iter().flat_map(|served| served.config.collections.iter().flatten());
        collections.filter(|one| one.may_be_subscribed()).map(|one| one.group).collect()
    }

    /// Whether paired phones may be sent documents of one of its collections.
    pub fn has_readers(&self, destination: &Fingerprint) -> bool {
        let collections = self.get(destination).and_then(|served| served.config.collections.as_ref());
        collections.into_iter().flatten().any(Collection::may_be_subscribed)
    }

    /// Whether a confirmation is one of a destination that is served, and signed by it.
    pub fn verify(&self, confirmation: &Confirmation, now: UnixTime) -> Result<(), VerifyError> {
        match self.get(&confirmation.statement.destination()) {
            Some(served) => served.verify(confirmation, now),
            None => Err(VerifyError::NoCertificate),
        }
    }

    /// What becomes of bodies that a confirmation covers: any verdict frees them, as `keep` and the collections'
    /// `retain` allow.
    pub fn freeing(&self, confirmation: &Confirmation) -> Freeing {
        let served = self.get(&confirmation.statement.destination());
        let free = match served.map(|served| &served.config.keep) {
            None | Some(Keep::UntilConfirmed) => Free::Now,
            Some(Keep::For(period)) => Free::After(period.duration().as_secs()),
            Some(Keep::Always) => Free::Never,
        };
        let collections = served.into_iter().flat_map(|served| served.config.collections.iter().flatten());
        let retained = |one: &Collection| Some((one.group, one.retain?.duration().as_secs()));
        Freeing {
            opened: free,
            held: free,
            rejected: free,
            retain: collections.filter_map(retained).collect(),
        }
    }
}

impl Destinations {
    /// How long the bytes of a document of this collection are kept for readers once its destination has spoken; `None`:
    /// not at all.
    pub fn kept_for_readers(&self, destination: &Fingerprint, group: &GroupId) -> Option<Free> {
        let config = &self.get(destination)?.config;
        let collection = config.collections.iter().flatten().find(|one| one.group == *group);
        let retained = collection.and_then(|one| one.retain).map(|span| span.duration().as_secs());
        match (&config.keep, retained) {
            (Keep::Always, _) => Some(Free::Never),
            (Keep::For(period), retained) => {
                Some(Free::After(period.duration().as_secs().max(retained.unwrap_or(0))))
            }
            (Keep::UntilConfirmed, retained) => retained.map(Free::After),
        }
    }
}

impl Served {
    /// Its certificates.
    pub fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it signed this confirmation.
    pub fn verify(&self, confirmation: &Confirmation, now: UnixTime) -> Result<(), VerifyError> {
        verify_confirmation(confirmation, self.chain().certificates(), now)
    }

    /// The certificates in the admin's file.
    pub fn configured_chain(&self) -> Option<Chain> {
        configured_chain(&self.files.certificate).ok()
    }

    /// Goes on with that chain.
    pub fn set_chain(&self, chain: Chain) {
        *self.chain() = chain;
    }

    /// Goes on with the chain that was known: of before a reload, or in the store. The admin's files are added to it.
    fn go_on_with(&mut self, known: Arc<Mutex<Chain>>) {
        let configured = self.chain().clone();
        if let Ok(mut chain) = known.lock()
            && chain.fingerprint() == self.fingerprint
        {
            for certificate in configured.certificates() {
                if let Err(error) = chain.admit(certificate.clone()) {
                    log::warn!(destination = self.config.name.as_str(), error:%; "a certificate in the file is not used: {error}");
                }
            }
        } else {
            return;
        }
        self.chain = known;
    }

    /// Whether uploads to `other` are uploads to this one, in the same way: nothing has to be begun anew.
    pub fn uploads_like(&self, other: &Served) -> bool {
        self.fingerprint == other.fingerprint && self.config == other.config && self.files == other.files
    }

    /// Its certificates that have ended at `now` or do so soon.
    pub(crate) fn endings(&self, now: UnixTime) -> Vec<Ending> {
        let files = &self.files;
        let client = files.client_certificate.as_ref().and_then(|(chain, _)| ends_of_pem(chain).next());
        // One authority that still holds is enough.
        let authority = files.ca.as_ref().and_then(|pem| ends_of_pem(pem).max());
        let key = first_day_without_recipient(&self.chain(), now);
        let ending = |whose, end: Option<UnixTime>| {
            end.map(|end| Ending { destination: self.config.name.to_string(), whose, end })
        };
        [
            ending("OpenPGP certificate", key),
            ending("TLS client certificate", client),
            ending("TLS authority (ca_file)", authority),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// A client of its API. An error names the configuration's key.
    pub fn client(
        &self,
        config: &Config,
        time_floor: TimeFloor,
        way: Arc<dyn Way>,
    ) -> Result<Client, (&'static str, String)> {
        let mut settings = Settings::new(self.config.url.as_str(), Some(self.fingerprint));
        settings.token = self.files.token.as_ref().map(|bytes| {
            let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
            Token::new(&Zeroizing::new(text.trim().to_owned()))
        });
        settings.certificate = self
            .files
            .client_certificate
            .clone()
            .map(|(chain_pem, key_pem)| ClientCertificate { chain_pem, key_pem });
        settings.ca_pem = self.files.ca.clone();
        (settings.time_floor, settings.way) = (time_floor, way);
        settings.connect_timeout = config.upload.connect_timeout.duration();
        settings.stall_timeout = config.upload.idle_timeout.duration();
        Client::new(&settings).map_err(|error| ("url", error.to_string()))
    }
}

/// Under which a destination's chain is kept.
pub fn chain_key(destination: &Fingerprint) -> String {
    format!("chain/{destination}")
}

/// Under which the name of the chain that was taken last is kept.
pub fn tag_key(destination: &Fingerprint) -> String {
    format!("chain-tag/{destination}")
}

/// What is left of a chain without the successors that were learnt: certificates that are configured, with what is known of
/// them, since a revocation stays.
pub fn without_learnt(mut configured: Chain, learnt: &Chain) -> Chain {
    let stays: Vec<_> = configured.certificates().iter().map(Certificate::fingerprint).collect();
    for certificate in learnt.certificates().iter().filter(|one| stays.contains(&one.fingerprint())) {
        // Newer states of what is there always fit.
        drop(configured.admit(certificate.clone()));
    }
    configured
}

/// The chain that was learnt, if any.
pub fn stored_chain(store: &Store, destination: &Fingerprint) -> Option<Chain> {
    let bytes = store.setting(&chain_key(destination)).ok().flatten()?;
    Chain::from_links(&succession::decode(&bytes).ok()?).ok().flatten()
}

/// The first day, of those that are looked at, on which nothing can be sealed to any of its certificates.
fn first_day_without_recipient(chain: &Chain, now: UnixTime) -> Option<UnixTime> {
    let day = |number: u64| UnixTime(now.0 + number * 86_400);
    let last = SOON.as_secs() / 86_400;
    let is_over = |number: &u64| chain.recipient(day(*number)).is_none();
    // Mostly there is none, which the last day shows.
    is_over(&last).then(|| (0..=last).find(is_over).map(day)).flatten()
}

/// When each X.509 certificate of a PEM file ends; what is none is passed over.
fn ends_of_pem(pem: &[u8]) -> impl Iterator<Item = UnixTime> {
    x509_parser::pem::Pem::iter_from_buffer(pem).filter_map(|one| {
        let end = one.ok()?.parse_x509().ok()?.validity().not_after.timestamp();
        Some(UnixTime(u64::try_from(end).unwrap_or(0)))
    })
}

fn load_one(destination: &Destination) -> Result<Served, (&'static str, String)> {
    let read = |key, path: &Path| read_file(path).map_err(|error| (key, error));
    let bytes = read("certificate", &destination.certificate)?;
    let wrong = |error: String| ("certificate", format!("{}: {error}", destination.certificate.display()));
    let chain = configured_chain(&bytes).map_err(wrong)?;
    let fingerprint = chain.fingerprint();
    let mut files = Files { certificate: bytes, token: None, client_certificate: None, ca: None };
    match &destination.credentials {
        Credentials::None {} => {}
        Credentials::Token { token_file } => {
            files.token = Some(Zeroizing::new(read("token_file", token_file)?));
        }
        Credentials::Certificate { client_certificate, client_key } => {
            let key = Zeroizing::new(read("client_key", client_key)?);
            files.client_certificate = Some((read("client_certificate", client_certificate)?, key));
        }
    }
    files.ca = destination.ca_file.as_ref().map(|path| read("ca_file", path)).transpose()?;
    Ok(Served { fingerprint, chain: Arc::new(Mutex::new(chain)), config: destination.clone(), files })
}

/// What the admin's file says: the first certificate, then successors.
fn configured_chain(bytes: &[u8]) -> Result<Chain, String> {
    let certificates = Certificate::several_from_bytes(bytes).map_err(|error| error.to_string())?;
    let mut certificates = certificates.into_iter();
    let mut chain = Chain::new(certificates.next().ok_or("it is empty")?);
    for successor in certificates {
        chain.admit(successor).map_err(|error| error.to_string())?;
    }
    Ok(chain)
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        if fs::metadata(path)?.len() > MAX_FILE {
            return Err(io::Error::other("it is larger than 4 MiB"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use waypost_openpgp::SecretKey;

    use super::*;

    #[test]
    fn a_reset_forgets_successors_and_no_revocation() {
        let now = UnixTime(1_795_236_000);
        let [first, thief] = [(); 2].map(|()| SecretKey::generate("Clinic", now).unwrap());
        let configured = Chain::new(first.certificate());
        let mut learnt = configured.clone();
        let word = first.vouch(first.certificate().fingerprint(), &thief.certificate(), now).unwrap();
        assert_eq!(learnt.absorb(&[word], now).changes.len(), 1);
        let left = without_learnt(configured.clone(), &learnt);
        assert_eq!(left, configured);
        learnt.admit(first.revoke(true, now).unwrap().certificate()).unwrap();
        let left = without_learnt(configured, &learnt);
        assert_eq!(left.certificates().len(), 1);
        assert!(left.certificates()[0].is_hard_revoked());
    }

    #[test]
    fn the_ends_of_certificates_are_read_from_the_files() {
        let made = UnixTime(1_795_236_000);
        let day = 86_400;
        let key = SecretKey::generate("Clinic", made).unwrap();
        let chain = Chain::new(key.certificate());
        assert_eq!(first_day_without_recipient(&chain, made), None);
        let ended = Chain::new(key.revoke(true, made).unwrap().certificate());
        assert_eq!(first_day_without_recipient(&ended, UnixTime(made.0 + day)), Some(UnixTime(made.0 + day)));

        let mut parameters = rcgen::CertificateParams::new(vec!["kiosk".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2027, 1, 15);
        let pair = rcgen::KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&pair).unwrap().pem();
        let twice = format!("{pem}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{pem}");
        assert_eq!(ends_of_pem(twice.as_bytes()).collect::<Vec<_>>(), [UnixTime(1_799_971_200); 2]);
        assert_eq!(ends_of_pem(b"none").count(), 0);
    }
}
