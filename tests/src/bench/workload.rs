//! What is moved: incompressible content sealed to a real destination key, as a phone seals it.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use waypost_openpgp::{Certificate, Compress, SecretKey, seal_bytes};
use waypost_protocol::collection::CollectionKey;
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::content::Label;
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::{Fingerprint, MessageId};
use waypost_protocol::time::UnixTime;

use super::Outcome;

/// Bytes of a form.
pub const FORM: usize = 1_000;
/// Bytes of a photo.
pub const PHOTO: usize = 200_000;
/// Where forms go.
const COLLECTION: &str = "forms";
/// At most so many verdicts fit one confirmation.
const VERDICTS: usize = 256;

/// Now, by the wall clock.
pub fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Bytes that do not compress; the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    ChaCha20Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// Who documents are sealed to, by its public part.
#[derive(Clone)]
pub struct Addressee {
    /// Its OpenPGP certificate.
    pub certificate: Certificate,
    /// Makes its group ids.
    pub collection_key: CollectionKey,
}

impl Addressee {
    /// A certificate by itself, whose group ids anyone can compute.
    pub fn new(certificate: Certificate) -> Self {
        let collection_key = CollectionKey::well_known(&certificate.fingerprint());
        Addressee { certificate, collection_key }
    }

    /// Its name.
    pub fn fingerprint(&self) -> Fingerprint {
        self.certificate.fingerprint()
    }

    /// The OpenPGP message of one piece of content, labelled with collection and time.
    pub fn seal(&self, content: &[u8]) -> Outcome<Vec<u8>> {
        let label = Label { collection: COLLECTION.into(), time: Some(now()), ..Label::default() };
        Ok(seal_bytes(
            &label,
            content,
            std::slice::from_ref(&self.certificate),
            Compress::WhenSmaller,
            now(),
        )?)
    }

    /// A document around bytes that are taken for sealed.
    pub fn wrap(&self, sealed: &[u8]) -> Outcome<Document> {
        let destination = self.fingerprint();
        let body: Bytes = envelope::assemble(&Header::to(destination), sealed)?;
        let group = self.collection_key.group(&destination, COLLECTION);
        Ok(Document::new(group, now().rounded_to_hour(), body)?)
    }

    /// `count` documents of `size` bytes of content each, sealed.
    pub fn documents(&self, seed: u64, count: usize, size: usize) -> Outcome<Vec<Document>> {
        (0..count as u64).map(|at| self.wrap(&self.seal(&noise(seed << 32 | at, size))?)).collect()
    }
}

/// A destination that opens everything at once: a real key that really signs.
pub struct Signer {
    key: SecretKey,
    /// Its public part.
    pub addressee: Addressee,
}

impl Signer {
    /// A fresh Ed25519/Cv25519 key.
    pub fn new() -> Outcome<Self> {
        let key = SecretKey::generate("Clinic", now())?;
        let addressee = Addressee::new(key.certificate());
        Ok(Signer { key, addressee })
    }

    /// The verdict `opened` on each document, in as few confirmations as there can be.
    pub fn confirm(&self, ids: &[MessageId]) -> Outcome<Vec<Confirmation>> {
        let sign = |ids: &[MessageId]| {
            let verdicts = ids.iter().map(|id| (*id, Verdict::Opened)).collect();
            Ok(self.key.sign(self.addressee.fingerprint(), verdicts, now())?)
        };
        ids.chunks(VERDICTS).map(sign).collect()
    }
}
