//! Destinations that the user has pinned: whom documents are sealed to, and whose word counts.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use waypost_openpgp::{Absorbed, Certificate, CertificateError, Chain, Change};
use waypost_protocol::collection::CollectionKey;
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::ids::{Fingerprint, GroupId};
use waypost_protocol::invite;
use waypost_protocol::succession::{self, Link};
use waypost_protocol::time::UnixTime;
use waypost_store::{Free, Freeing};
use waypost_upload::settings::TimeFloor;
use waypost_upload::{Client, Settings, SettingsError, Token};
use zeroize::Zeroizing;

use crate::Phone;
use crate::settings::SettingError;
use crate::words::means;

const PREFIX: &str = "destination/";
/// The collection of a destination that named none.
pub const USUAL_COLLECTION: &str = "forms";

/// Why something is no destination.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The code cannot be read.
    #[error(transparent)]
    Code(#[from] invite::InviteError),
    /// The URL, CA or token cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The server did not hand out its certificate.
    #[error(transparent)]
    Fetch(#[from] waypost_upload::Error),
    /// The code has neither a certificate nor a URL to get it from.
    #[error("the code has no certificate and no url; ask the destination's admin for a whole one")]
    NoCertificate,
    /// Certificate and expected fingerprint differ.
    #[error(
        "the certificate's fingerprint is {found}, expected {expected}; do not use it, ask the destination's admin"
    )]
    OtherFingerprint {
        /// Of the user, or in the code.
        expected: Fingerprint,
        /// Of the certificate.
        found: Fingerprint,
    },
    /// Nothing can be sealed to it.
    #[error(
        "certificate {0} has no valid encryption key (expired or revoked); ask the destination's admin for the present one"
    )]
    NoKey(Fingerprint),
    /// Nothing can be sealed to a reader.
    #[error(
        "the reader's certificate {0} has no valid encryption key (expired, revoked, or none); ask the reader for the present one"
    )]
    NoReaderKey(Fingerprint),
    /// What the phone knows cannot be read or written.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// No destination fits.
    #[error(
        "no destination fits `{0}`; give its whole name or at least 4 digits of its fingerprint, \
         `waypost-phone destination list` shows both"
    )]
    Unknown(String),
    /// Several destinations fit.
    #[error("several destinations fit `{0}`; give more of the fingerprint with --destination")]
    Ambiguous(String),
    /// There is none at all.
    #[error("there is no destination yet; add one with `waypost-phone destination add URL|CERTIFICATE|CODE`")]
    None,
}

/// When the phone's copy of a document is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeleteOn {
    /// When the destination has opened it.
    #[default]
    Opened,
    /// Also when the destination holds it unopened, its key being offline.
    Held,
}

/// A destination as the phone knows it.
#[derive(Clone)]
pub struct Destination {
    /// The pinned certificate first, successors after it.
    pub certificates: Vec<Certificate>,
    /// Base URL of its API, where the phone may deliver by itself.
    pub url: Option<String>,
    /// Authorities (PEM) that are trusted for the URL instead of the public ones.
    pub ca_pem: Option<String>,
    /// With which the phone delivers by itself.
    pub token: Option<Zeroizing<String>>,
    /// Makes group ids and record tags.
    pub collection_key: CollectionKey,
    /// Names of its collections, the usual one first; never empty.
    pub collections: Vec<String>,
    /// When the phone's copies are deleted.
    pub delete_on: DeleteOn,
    /// Who can read its collections beside itself.
    pub readers: Vec<Reader>,
    /// Successors that its code named, in their order.
    named: Vec<Fingerprint>,
    fingerprint: Fingerprint,
}

/// Somebody beside the destination whom documents are sealed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Whom.
    pub certificate: Certificate,
    /// Names of the collections; empty for all.
    pub collections: Vec<String>,
}

impl Destination {
    /// A destination known by its certificate alone: collections are not hidden from who has the certificate.
    pub fn from_certificate(certificate: Certificate) -> Self {
        let fingerprint = certificate.fingerprint();
        Destination {
            certificates: vec![certificate],
            url: None,
            ca_pem: None,
            token: None,
            collection_key: CollectionKey::well_known(&fingerprint),
            collections: vec![USUAL_COLLECTION.to_owned()],
            delete_on: DeleteOn::default(),
            readers: Vec::new(),
            named: Vec::new(),
            fingerprint,
        }
    }

    /// From what a code says; a certificate that is not inside is fetched from the URL, and must be the one named.
    /// Blocks while it is fetched.
    pub fn from_code(text: &str, ca_pem: Option<&str>) -> Result<Self, DestinationError> {
        let code = invite::Destination::parse(text)?;
        let mut destination = match (&code.certificate, &code.url) {
            (Some(bytes), _) => Self::from_certificate(Certificate::from_bytes(bytes)?),
            (None, Some(url)) => fetch(url, ca_pem, Some(code.fingerprint))?,
            (None, None) => return Err(DestinationError::NoCertificate),
        };
        destination.expect(code.fingerprint)?;
        destination.named = code.successors;
        if let Some(url) = &code.url {
            destination.fetch_named(url, ca_pem)?;
        }
        destination.url = code.url;
        destination.ca_pem = ca_pem.map(str::to_owned);
        destination.token = code.token;
        destination.collection_key = code.collection_key;
        if !code.collections.is_empty() {
            destination.collections = code.collections;
        }
        Ok(destination)
    }

    /// Fetches successors that the code names and that are not here. Who does not reach the server gets them at a kiosk;
    /// an error only where nothing can be done without them.
    fn fetch_named(&mut self, url: &str, ca_pem: Option<&str>) -> Result<(), DestinationError> {
        let is_known = |one: &Fingerprint| self.certificates.iter().any(|known| known.fingerprint() == *one);
        if self.named.iter().all(is_known) {
            return Ok(());
        }
        match Client::new(&settings(url, ca_pem, Some(self.fingerprint)))?.successions() {
            Ok(bytes) => {
                if let Ok(links) = succession::decode(&bytes) {
                    self.follow(&links, waypost_openpgp::BUILD_FLOOR);
                }
                Ok(())
            }
            Err(error) if self.certificates.iter().any(Certificate::is_hard_revoked) => Err(error.into()),
            Err(_) => Ok(()),
        }
    }

    /// From its server, whose word says nothing before a person has compared the fingerprint. Blocks.
    pub fn from_url(url: &str, ca_pem: Option<&str>) -> Result<Self, DestinationError> {
        let mut destination = fetch(url, ca_pem, None)?;
        destination.url = Some(url.to_owned());
        destination.ca_pem = ca_pem.map(str::to_owned);
        Ok(destination)
    }

    /// Its first fingerprint: its name for ever.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// For people: what its certificate calls itself, unproven; or the fingerprint's beginning.
    pub fn name(&self) -> String {
        let own = self.certificates.first().and_then(Certificate::user_id);
        let own = own.map(|name| crate::words::plain(&name)).filter(|name| !name.is_empty());
        own.unwrap_or_else(|| self.fingerprint.to_string().chars().take(16).collect())
    }

    /// An error where it is not the one that the user expects.
    pub fn expect(&self, expected: Fingerprint) -> Result<(), DestinationError> {
        match self.fingerprint == expected {
            true => Ok(()),
            false => Err(DestinationError::OtherFingerprint { expected, found: self.fingerprint }),
        }
    }

    /// Group id of one of its collections.
    pub fn group(&self, collection: &str) -> GroupId {
        self.collection_key.group(&self.fingerprint, collection)
    }

    /// Takes newer states of its certificates, and successors: those that the code names, and then those that the ones
    /// before vouch for. Until the named ones are here no other one is taken, whoever vouches for it: the first key may be
    /// in other hands.
    pub fn follow(&mut self, links: &[Link], now: UnixTime) -> Absorbed {
        let Some(mut chain) = self.chain() else { return Absorbed::default() };
        let offered: Vec<(Certificate, &Link)> = links
            .iter()
            .filter(|link| link.destination == self.fingerprint)
            .filter_map(|link| Some((Certificate::from_bytes(&link.certificate).ok()?, link)))
            .collect();
        let has = |chain: &Chain, one: &Fingerprint| {
            chain.certificates().iter().any(|known| known.fingerprint() == *one)
        };
        let mut admitted = Vec::new();
        let mut waits = false;
        for named in &self.named {
            let by = chain.certificates().last().map_or(self.fingerprint, Certificate::fingerprint);
            let found = offered.iter().find(|(certificate, _)| certificate.fingerprint() == *named);
            match found {
                _ if has(&chain, named) => {}
                Some((certificate, _)) if chain.admit(certificate.clone()) == Ok(true) => {
                    admitted.push(Change::Succeeded { successor: *named, by });
                }
                _ => {
                    waits = true;
                    break;
                }
            }
        }
        let absorbed = match waits {
            false => chain.absorb(links, now),
            true => {
                let known = offered.iter().filter(|(certificate, _)| has(&chain, &certificate.fingerprint()));
                let known: Vec<Link> = known.map(|(_, link)| (*link).clone()).collect();
                chain.absorb(&known, now)
            }
        };
        self.certificates = chain.certificates().to_vec();
        Absorbed { changes: [admitted, absorbed.changes].concat(), faults: absorbed.faults }
    }

    /// What the phone has accepted.
    fn chain(&self) -> Option<Chain> {
        let mut certificates = self.certificates.iter().cloned();
        let mut chain = Chain::new(certificates.next()?);
        // They came out of a chain, so that they fit into one.
        certificates.for_each(|certificate| drop(chain.admit(certificate)));
        Some(chain)
    }

    /// Whom a document of a collection is sealed to at `now`: the destination's newest certificate that can be sealed
    /// to, then the readers.
    pub fn recipients(&self, collection: &str, now: UnixTime) -> Vec<Certificate> {
        let reads = |reader: &&Reader| {
            reader.collections.is_empty() || reader.collections.iter().any(|name| name == collection)
        };
        let readers = self.readers.iter().filter(reads).map(|reader| &reader.certificate);
        let newest = self.certificates.iter().rev().find(|one| one.can_be_sealed_to(now));
        // Without any, sealing to the first one says what is wrong with it.
        newest.or(self.certificates.first()).into_iter().chain(readers).cloned().collect()
    }

    /// Name of the collection with this group id.
    pub fn collection_of(&self, group: &GroupId) -> Option<&str> {
        self.collections.iter().map(String::as_str).find(|name| self.group(name) == *group)
    }

    /// What becomes of the phone's copies by verdict.
    pub fn freeing(&self) -> Freeing {
        match self.delete_on {
            DeleteOn::Opened => Freeing::PHONE,
            DeleteOn::Held => Freeing { held: Free::Now, ..Freeing::PHONE },
        }
    }

    /// Whether a document with this verdict is done with, as far as this phone goes.
    pub fn is_final(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Opened => true,
            Verdict::Held => self.delete_on == DeleteOn::Held,
            Verdict::Rejected(_) => false,
        }
    }

    /// Whether it signed this confirmation; the reason where not.
    pub fn verify(&self, confirmation: &Confirmation, now: UnixTime) -> Result<(), String> {
        waypost_openpgp::verify_confirmation(confirmation, &self.certificates, now)
            .map_err(|error| crate::words::plain(&error.to_string()))
    }

    /// How to talk to its server; `None` where there is no URL.
    pub(crate) fn client_settings(&self) -> Option<Settings> {
        let mut settings = settings(self.url.as_deref()?, self.ca_pem.as_deref(), Some(self.fingerprint));
        settings.token = self.token.as_ref().map(|token| Token::new(token));
        Some(settings)
    }
}

/// Under which the name of the chain is kept that was taken last.
pub(crate) fn chain_tag(destination: &Fingerprint) -> String {
    format!("chain-tag/{destination}")
}

fn settings(url: &str, ca_pem: Option<&str>, fingerprint: Option<Fingerprint>) -> Settings {
    Settings {
        ca_pem: ca_pem.map(|pem| pem.as_bytes().to_vec()),
        time_floor: TimeFloor::new(waypost_openpgp::BUILD_FLOOR),
        connect_timeout: std::time::Duration::from_secs(10),
        ..Settings::new(url, fingerprint)
    }
}

fn fetch(
    url: &str,
    ca_pem: Option<&str>,
    fingerprint: Option<Fingerprint>,
) -> Result<Destination, DestinationError> {
    let mut client = Client::new(&settings(url, ca_pem, fingerprint))?;
    let certificates = Certificate::several_from_bytes(&client.certificate()?)?;
    let first = certificates.into_iter().next().ok_or(DestinationError::NoCertificate)?;
    let mut destination = Destination::from_certificate(first);
    // A server that hands out no chain has one certificate; one that is not proven is left out.
    if let Ok(links) =
        client.successions().map_err(drop).and_then(|bytes| succession::decode(&bytes).map_err(drop))
    {
        destination.follow(&links, waypost_openpgp::BUILD_FLOOR);
    }
    Ok(destination)
}

/// What is stored of a [`Destination`].
#[derive(Serialize, Deserialize)]
struct Row {
    certificates: Vec<String>,
    url: Option<String>,
    ca_pem: Option<String>,
    token: Option<String>,
    collection_key: String,
    collections: Vec<String>,
    delete_on: DeleteOn,
    #[serde(default)]
    readers: Vec<ReaderRow>,
    #[serde(default)]
    named: Vec<Fingerprint>,
}

#[derive(Serialize, Deserialize)]
struct ReaderRow {
    certificate: String,
    collections: Vec<String>,
}

impl Row {
    fn parse(&self) -> Option<Destination> {
        let decode = |text: &String| BASE64.decode(text.as_bytes()).ok();
        let certificates = self.certificates.iter().map(|text| Certificate::from_bytes(&decode(text)?).ok());
        let certificates = certificates.collect::<Option<Vec<_>>>()?;
        let fingerprint = certificates.first()?.fingerprint();
        let read = |row: &ReaderRow| {
            let certificate = Certificate::from_bytes(&decode(&row.certificate)?).ok()?;
            Some(Reader { certificate, collections: row.collections.clone() })
        };
        Some(Destination {
            certificates,
            url: self.url.clone(),
            ca_pem: self.ca_pem.clone(),
            token: self.token.clone().map(Zeroizing::new),
            collection_key: CollectionKey::new(decode(&self.collection_key)?.try_into().ok()?),
            collections: Some(self.collections.clone()).filter(|names| !names.is_empty())?,
            delete_on: self.delete_on,
            readers: self.readers.iter().map(read).collect::<Option<_>>()?,
            named: self.named.clone(),
            fingerprint,
        })
    }
}

impl From<&Destination> for Row {
    fn from(destination: &Destination) -> Self {
        Row {
            certificates: destination.certificates.iter().map(|one| BASE64.encode(&one.to_bytes())).collect(),
            url: destination.url.clone(),
            ca_pem: destination.ca_pem.clone(),
            token: destination.token.as_ref().map(|token| token.to_string()),
            collection_key: BASE64.encode(destination.collection_key.expose()),
            collections: destination.collections.clone(),
            delete_on: destination.delete_on,
            readers: destination
                .readers
                .iter()
                .map(|reader| ReaderRow {
                    certificate: BASE64.encode(&reader.certificate.to_bytes()),
                    collections: reader.collections.clone(),
                })
                .collect(),
            named: destination.named.clone(),
        }
    }
}

impl Phone {
    /// Remembers a destination. Its user must have confirmed the fingerprint. One that is known already gets what is
    /// new: the certificate's present state, URL, token, further collections.
    pub fn put_destination(&self, destination: &Destination) -> Result<Destination, DestinationError> {
        let can_be_sealed_to = |one: &Certificate| one.can_be_sealed_to(self.wall());
        if !destination.certificates.iter().any(can_be_sealed_to) {
            return Err(DestinationError::NoKey(destination.fingerprint));
        }
        let key = format!("{PREFIX}{}", destination.fingerprint);
        let mut merged = destination.clone();
        if let Some(known) = self.load::<Row>(&key)?.and_then(|row| row.parse()) {
            let chain = known.chain();
            merged.url = merged.url.or(known.url);
            merged.ca_pem = merged.ca_pem.or(known.ca_pem);
            merged.token = merged.token.or(known.token);
            if merged.collection_key == CollectionKey::well_known(&merged.fingerprint) {
                merged.collection_key = known.collection_key;
            }
            for name in known.collections {
                if !merged.collections.contains(&name) {
                    merged.collections.push(name);
                }
            }
            merged.readers = known.readers;
            if merged.named.is_empty() {
                merged.named = known.named;
            }
            if let Some(mut chain) = chain {
                destination.certificates.iter().for_each(|one| drop(chain.admit(one.clone())));
                merged.certificates = chain.certificates().to_vec();
            }
        }
        self.save(&key, &Row::from(&merged))?;
        Ok(merged)
    }

    /// Remembers what a destination's server or a kiosk says of its certificates, as far as it verifies, and logs it.
    pub(crate) fn follow_destination(
        &self,
        destination: &mut Destination,
        links: &[Link],
    ) -> Result<Absorbed, DestinationError> {
        let absorbed = destination.follow(links, self.wall());
        let name = destination.name();
        for change in &absorbed.changes {
            match change {
                Change::Renewed(key) => log::info!("{name}: its key {key} is renewed"),
                Change::Succeeded { successor, by } => {
                    log::info!("{name}: it has a successor key {successor}, vouched for by {by}");
                }
            }
        }
        absorbed.faults.iter().for_each(|fault| log::warn!("{name}: {fault}"));
        if !absorbed.changes.is_empty() {
            self.save(&format!("{PREFIX}{}", destination.fingerprint), &Row::from(&*destination))?;
        }
        Ok(absorbed)
    }

    /// Sets when copies are deleted.
    pub fn set_delete_on(
        &self,
        fingerprint: Fingerprint,
        delete_on: DeleteOn,
    ) -> Result<(), DestinationError> {
        let mut destination = self.destination(&fingerprint.to_string())?;
        destination.delete_on = delete_on;
        Ok(self.save(&format!("{PREFIX}{fingerprint}"), &Row::from(&destination))?)
    }

    /// Sets who can read its collections beside itself. Each must have a key to encrypt to.
    pub fn set_readers(
        &self,
        fingerprint: Fingerprint,
        readers: Vec<Reader>,
    ) -> Result<(), DestinationError> {
        let unusable = readers.iter().find(|reader| !reader.certificate.can_be_sealed_to(self.wall()));
        if let Some(reader) = unusable {
            return Err(DestinationError::NoReaderKey(reader.certificate.fingerprint()));
        }
        let mut destination = self.destination(&fingerprint.to_string())?;
        destination.readers = readers;
        Ok(self.save(&format!("{PREFIX}{fingerprint}"), &Row::from(&destination))?)
    }

    /// Forgets a destination. Documents for it stay and cannot be confirmed until it is added again.
    pub fn remove_destination(&self, fingerprint: Fingerprint) -> Result<(), DestinationError> {
        self.erase(&chain_tag(&fingerprint))?;
        Ok(self.erase(&format!("{PREFIX}{fingerprint}"))?)
    }

    /// All destinations, by fingerprint.
    pub fn destinations(&self) -> Result<Vec<Destination>, SettingError> {
        let rows = self.load_all::<Row>(PREFIX)?;
        Ok(rows.iter().filter_map(Row::parse).collect())
    }

    /// The destination that a user means by its name or the beginning of its fingerprint, four digits at least.
    pub fn destination(&self, text: &str) -> Result<Destination, DestinationError> {
        let all = self.destinations()?;
        let fits = |one: &&Destination| means(text, &one.name(), &one.fingerprint.to_string());
        let mut found = all.iter().filter(fits);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one.clone()),
            (Some(_), Some(_)) => Err(DestinationError::Ambiguous(text.to_owned())),
            (None, _) => Err(DestinationError::Unknown(text.to_owned())),
        }
    }

    /// Where a document goes when its user names only a collection, or nothing: the only destination, or the only
    /// one with that collection.
    pub fn destination_for(&self, collection: Option<&str>) -> Result<Destination, DestinationError> {
        let all = self.destinations()?;
        if all.is_empty() {
            return Err(DestinationError::None);
        }
        if let [only] = all.as_slice() {
            return Ok(only.clone());
        }
        let name = collection.unwrap_or_default();
        let mut found = all.iter().filter(|one| one.collections.iter().any(|known| known == name));
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one.clone()),
            _ => Err(DestinationError::Ambiguous(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use waypost_openpgp::SecretKey;

    use super::*;

    const NOW: UnixTime = UnixTime(1_795_236_000);

    #[test]
    fn successors_that_the_code_names_are_taken_without_another_word_and_nobody_else_before_them() {
        let [first, second, third, thief] = [(); 4].map(|()| SecretKey::generate("Clinic", NOW).unwrap());
        let name = first.certificate().fingerprint();
        let code = invite::Destination {
            url: None,
            fingerprint: name,
            certificate: Some(first.certificate().to_bytes()),
            successors: vec![second.certificate().fingerprint(), third.certificate().fingerprint()],
            collection_key: CollectionKey::well_known(&name),
            collections: vec![],
            token: None,
        };
        let mut destination = Destination::from_code(&code.to_text(), None).unwrap();
        let known = |destination: &Destination| {
            destination.certificates.iter().map(Certificate::fingerprint).collect::<Vec<_>>()
        };
        let stolen = first.vouch(name, &thief.certificate(), NOW).unwrap();
        assert_eq!(destination.follow(std::slice::from_ref(&stolen), NOW), Absorbed::default());
        // As a kiosk tells it that knows the first key to be revoked.
        let bare =
            |key: &SecretKey| Link { word: None, ..first.vouch(name, &key.certificate(), NOW).unwrap() };
        let revoked = first.revoke(true, NOW).unwrap();
        let told = [bare(&revoked), stolen.clone(), bare(&third)];
        destination.follow(&told, NOW);
        assert_eq!(known(&destination), [name], "one after the other");
        assert!(destination.certificates[0].is_hard_revoked());
        destination.follow(&[bare(&second), bare(&third)], NOW);
        let all = [name, second.certificate().fingerprint(), third.certificate().fingerprint()];
        assert_eq!(known(&destination), all);
        // It lasts, and from here on the usual rules hold.
        let mut destination = Row::from(&destination).parse().unwrap();
        assert_eq!(destination.follow(&[stolen], NOW).faults.len(), 1);
        let next = SecretKey::generate("Clinic", NOW).unwrap();
        let word = third.vouch(name, &next.certificate(), NOW).unwrap();
        assert_eq!(destination.follow(&[word], NOW).changes.len(), 1);
        assert_eq!(known(&destination).len(), 4);
    }
}
