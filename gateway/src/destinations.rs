//! The destinations that this gateway serves: configuration with certificate and credentials loaded.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use waypost_config::{Config, Credentials, Destination, Keep, Problem, Severity};
use waypost_openpgp::{Certificate, VerifyError, verify_confirmation};
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::sync::{self, Accepts};
use waypost_protocol::time::UnixTime;
use waypost_store::{Free, Freeing};

use waypost_upload::{Client, ClientCertificate, Settings, Token};
use zeroize::Zeroizing;

/// Files that the configuration names are read up to this size.
const MAX_FILE: u64 = 4 << 20;

/// A destination with everything that serving it takes.
#[derive(Clone)]
pub struct Served {
    /// Its first fingerprint: its name for ever.
    pub fingerprint: Fingerprint,
    /// Its certificates, the pinned one first.
    pub certificates: Vec<Certificate>,
    /// What the configuration says.
    pub config: Destination,
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

    /// What a peer may deposit, up to `max_document` bytes each; `limit_of` says what a destination itself takes.
    pub fn accepts(&self, max_document: u64, limit_of: impl Fn(&Fingerprint) -> Option<u64>) -> Accepts {
        let served = |served: &Served| sync::Served {
            destination: served.fingerprint,
            collections: served
                .config
                .collections
                .as_ref()
                .map(|collections| collections.iter().map(|collection| collection.group).collect()),
            max_document: limit_of(&served.fingerprint).unwrap_or(u64::MAX),
        };
        Accepts { destinations: self.0.iter().map(served).collect(), max_document }
    }

    /// Whether a confirmation is one of a destination that is served, and signed by it.
    pub fn verify(&self, confirmation: &Confirmation, now: UnixTime) -> Result<(), VerifyError> {
        let certificates =
            self.get(&confirmation.statement.destination()).map(|served| &served.certificates[..]);
        verify_confirmation(confirmation, certificates.unwrap_or(&[]), now)
    }

    /// What becomes of bodies that a confirmation covers: any verdict frees them, as `keep` allows.
    pub fn freeing(&self, confirmation: &Confirmation) -> Freeing {
        let keep = self.get(&confirmation.statement.destination()).map(|served| &served.config.keep);
        let free = match keep {
            None | Some(Keep::UntilConfirmed) => Free::Now,
            Some(Keep::For(period)) => Free::After(period.duration().as_secs()),
            Some(Keep::Always) => Free::Never,
        };
        Freeing { opened: free, held: free, rejected: free }
    }
}

impl Served {
    /// A client of its API.
    pub fn client(&self, config: &Config, time_floor: UnixTime) -> Result<Client, (&'static str, String)> {
        let mut settings = Settings::new(self.config.url.as_str(), Some(self.fingerprint));
        match &self.config.credentials {
            Credentials::None {} => {}
            Credentials::Token { token_file } => {
                let text = read_secret(token_file).map_err(|error| ("token_file", error))?;
                let text = String::from_utf8_lossy(&text).trim().to_owned();
                settings.token = Some(Token::new(&Zeroizing::new(text)));
            }
            Credentials::Certificate { client_certificate, client_key } => {
                settings.certificate = Some(ClientCertificate {
                    chain_pem: read_file(client_certificate)
                        .map_err(|error| ("client_certificate", error))?,
                    key_pem: read_secret(client_key).map_err(|error| ("client_key", error))?,
                });
            }
        }
        if let Some(ca) = &self.config.ca_file {
            settings.ca_pem = Some(read_file(ca).map_err(|error| ("ca_file", error))?);
        }
        settings.time_floor = time_floor;
        settings.connect_timeout = config.upload.connect_timeout.duration();
        settings.stall_timeout = config.upload.idle_timeout.duration();
        Client::new(&settings).map_err(|error| ("url", error.to_string()))
    }
}

fn load_one(destination: &Destination) -> Result<Served, (&'static str, String)> {
    let bytes = read_file(&destination.certificate).map_err(|error| ("certificate", error))?;
    let certificate = Certificate::from_bytes(&bytes)
        .map_err(|error| ("certificate", format!("{}: {error}", destination.certificate.display())))?;
    Ok(Served {
        fingerprint: certificate.fingerprint(),
        certificates: vec![certificate],
        config: destination.clone(),
    })
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

fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    read_file(path).map(Zeroizing::new)
}
