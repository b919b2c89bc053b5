//! A secret key, of a destination or a reader: made, kept, signing verdicts, opening documents.

use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use sequoia_openpgp as openpgp;

use openpgp::Cert;
use openpgp::cert::prelude::*;
use openpgp::crypto::hash::Hash as _;
use openpgp::crypto::{KeyPair, Signer as _};
use openpgp::packet::Signature;
use openpgp::packet::signature::subpacket::{Subpacket, SubpacketArea, SubpacketValue};
use openpgp::packet::signature::{Signature4, SignatureBuilder};
use openpgp::policy::StandardPolicy;
use openpgp::serialize::{MarshalInto, SerializeInto};
use openpgp::types::{Features, HashAlgorithm, KeyFlags, SignatureType};
use waypost_protocol::confirmation::{Confirmation, ConfirmationError, Statement, Verdict};
use waypost_protocol::content::Label;
use waypost_protocol::ids::{Fingerprint, MessageId};
use waypost_protocol::time::UnixTime;
use zeroize::Zeroizing;

use crate::certificate::{fingerprint_of, parse};
use crate::clock::{reference, to_system};
use crate::open::{DecryptionKey, Keys, open};
use crate::{Certificate, CertificateError, Limits, OpenError, Opened};

/// Why a key cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The bytes are no key.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Only public parts.
    #[error("this holds no secret key; export one with `gpg --export-secret-subkeys KEY`")]
    NoSecret,
    /// It is under a passphrase.
    #[error(
        "secret key {0} is protected by a passphrase; export it without one, the server starts unattended"
    )]
    Protected(Fingerprint),
    /// A certificate of another primary key.
    #[error("certificate {found} does not belong to key {expected}")]
    OtherKey {
        /// Ours.
        expected: Fingerprint,
        /// What was given.
        found: Fingerprint,
    },
    /// No valid secret key that may sign.
    #[error("no secret key here may sign at {0}: none is there, or it has expired or was revoked")]
    NoSigningKey(UnixTime),
    /// The primary secret is kept elsewhere.
    #[error(
        "the primary secret of key {0} is not here; do this where it is kept, `gpg --export-secret-keys` exports it"
    )]
    NoPrimary(Fingerprint),
    /// The statement is not possible.
    #[error(transparent)]
    Statement(#[from] ConfirmationError),
    /// The library refused.
    #[error("OpenPGP: {0}")]
    OpenPgp(String),
}

pub(crate) fn library(error: openpgp::anyhow::Error) -> KeyError {
    KeyError::OpenPgp(error.to_string())
}

/// A certificate with secret parts: for signing, for decryption, or for both. Cannot be printed.
#[derive(Clone)]
pub struct SecretKey {
    pub(crate) cert: Cert,
    certificate: Certificate,
    decryption: Vec<DecryptionKey>,
}

impl SecretKey {
    /// Makes a key as GnuPG 2.2 reads it: v4, Ed25519 primary that certifies and signs, an Ed25519 subkey that signs, a
    /// Cv25519 subkey to encrypt to, features SEIPDv1; never expiring. Verdicts are signed by the subkey; of a primary
    /// key that may not sign, GnuPG would not verify the statement that names a successor.
    pub fn generate(user_id: &str, now: UnixTime) -> Result<Self, KeyError> {
        let encryption = KeyFlags::empty().set_transport_encryption().set_storage_encryption();
        let builder = CertBuilder::new()
            .set_cipher_suite(CipherSuite::Cv25519)
            .set_profile(openpgp::Profile::RFC4880)
            .and_then(|builder| builder.set_features(Features::empty().set_seipdv1()))
            .map_err(library)?
            .set_creation_time(to_system(reference(now, [])))
            .set_primary_key_flags(KeyFlags::empty().set_certification().set_signing())
            .add_userid(user_id)
            .add_signing_subkey()
            .add_subkey(encryption, None, None);
        let (cert, _revocation) = builder.generate().map_err(library)?;
        Self::new(cert)
    }

    /// From an armored or binary secret key without a passphrase; parts of it may be missing.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::new(parse(bytes)?)
    }

    pub(crate) fn new(cert: Cert) -> Result<Self, KeyError> {
        let certificate = Certificate::new(cert.clone().strip_secret_key_material())?;
        if cert.keys().unencrypted_secret().next().is_none() {
            return Err(match cert.is_tsk() {
                true => KeyError::Protected(certificate.fingerprint()),
                false => KeyError::NoSecret,
            });
        }
        // Whatever can decrypt does, also after its end: documents may be older than that.
        let public = Arc::new(certificate.cert.clone());
        let decryption =
            cert.keys().unencrypted_secret().map(|key| key.key().clone().role_into_unspecified());
        let decryption = decryption.filter(|key| key.pk_algo().for_encryption());
        let decryption = decryption.map(|key| DecryptionKey { key, cert: public.clone() }).collect();
        Ok(SecretKey { cert, certificate, decryption })
    }

    /// The secret key in ASCII armor, to be kept in a file that only its owner can read.
    pub fn to_armor(&self) -> Result<Zeroizing<String>, KeyError> {
        let bytes = SerializeInto::to_vec(&self.cert.as_tsk().armored()).map_err(library)?;
        String::from_utf8(bytes).map(Zeroizing::new).map_err(|error| KeyError::OpenPgp(error.to_string()))
    }

    /// Its public part.
    pub fn certificate(&self) -> Certificate {
        self.certificate.clone()
    }

    /// Adds what the public certificate has and this file lacks: exports of single subkeys lack the others.
    pub fn with_certificate(&self, certificate: &Certificate) -> Result<Self, KeyError> {
        if !certificate.is_same_key(&self.certificate) {
            let (expected, found) = (self.certificate.fingerprint(), certificate.fingerprint());
            return Err(KeyError::OtherKey { expected, found });
        }
        Self::new(self.cert.clone().merge_public(certificate.cert.clone()).map_err(library)?)
    }

    /// The same key without the secrets that decrypt, and without the primary one where a subkey signs: for a server
    /// that holds documents for a key kept elsewhere.
    pub fn signing_only(&self) -> Result<Self, KeyError> {
        let is_signing = |fingerprint: &openpgp::Fingerprint| {
            let mut keys = self.cert.keys().unencrypted_secret();
            keys.any(|key| key.key().fingerprint() == *fingerprint && key.key().pk_algo().for_signing())
        };
        let primary = self.cert.fingerprint();
        let has_subkey = self.cert.keys().subkeys().any(|key| is_signing(&key.key().fingerprint()));
        let tsk = self.cert.as_tsk().set_filter(|key| {
            let fingerprint = key.fingerprint();
            is_signing(&fingerprint) && !(has_subkey && fingerprint == primary)
        });
        Self::from_bytes(&Zeroizing::new(MarshalInto::to_vec(&tsk).map_err(library)?))
    }

    /// Also opens what was sealed to `older`: a key that this one has succeeded. It still signs by itself alone.
    pub fn also_opening(mut self, older: &SecretKey) -> Self {
        self.decryption.extend(older.decryption.iter().cloned());
        self
    }

    /// Whether a secret key for decryption is here.
    pub fn can_open(&self) -> bool {
        !self.decryption.is_empty()
    }

    /// Signs verdicts on 1–256 documents for the destination of that first fingerprint.
    ///
    /// The statement's time is `time`, or the moment that the signing key was made where the clock is behind it; the
    /// signature has that very time, and nothing but its issuer beside it.
    pub fn sign(
        &self,
        destination: Fingerprint,
        verdicts: Vec<(MessageId, Verdict)>,
        time: UnixTime,
    ) -> Result<Confirmation, KeyError> {
        let time = reference(time, [self.certificate.creation_time()]);
        let mut pair = self.signing_pair(time)?;
        let signer = fingerprint_of(&pair.public().fingerprint()).ok_or(KeyError::NoSigningKey(time))?;
        let statement = Statement::new(destination, signer, time, verdicts)?;
        let signature = sign_text(&mut pair, &statement.text(), time).map_err(library)?;
        let signature = openpgp::Packet::from(signature);
        let bytes = MarshalInto::to_vec(&signature).map_err(library)?;
        Ok(Confirmation::new(statement, Bytes::from(bytes))?)
    }

    /// Opens a sealed message into `sink`, whose content counts only when this returns the label: integrity is known
    /// at the very end. Memory is bounded whatever the size.
    pub fn open(
        &self,
        sealed: impl Read + Send + Sync,
        sink: impl Write,
        limits: Limits,
    ) -> Result<Label, OpenError> {
        self.open_signed(sealed, sink, limits, &[]).map(|opened| opened.label)
    }

    /// As [`SecretKey::open`], and says who signed the message inside, as far as `authors` are known.
    ///
    /// Whoever is no author of a proven signature may be anybody: everyone who has a certificate can seal to it.
    pub fn open_signed(
        &self,
        sealed: impl Read + Send + Sync,
        sink: impl Write,
        limits: Limits,
        authors: &[Certificate],
    ) -> Result<Opened, OpenError> {
        match self.can_open() {
            true => open(Keys { decryption: &self.decryption }, sealed, sink, limits, authors),
            false => Err(OpenError::NoDecryptionKey),
        }
    }

    /// The newest valid secret key that may sign at `time`.
    pub(crate) fn signing_pair(&self, time: UnixTime) -> Result<KeyPair, KeyError> {
        let policy = StandardPolicy::at(to_system(time));
        let keys = self.cert.keys().with_policy(&policy, to_system(time)).supported().alive().revoked(false);
        let keys = keys.for_signing().unencrypted_secret();
        let key = keys.max_by_key(|key| key.key().creation_time()).ok_or(KeyError::NoSigningKey(time))?;
        key.key().clone().into_keypair().map_err(library)
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({})", self.certificate.fingerprint())
    }
}

/// The detached signature. The library's builder adds a 72-byte notation to every v4 signature, which each
/// confirmation would carry over the radio; so v4 ones are put together here (RFC 9580 §5.2.3, §5.2.4).
pub(crate) fn sign_text(pair: &mut KeyPair, text: &str, time: UnixTime) -> openpgp::Result<Signature> {
    let created = to_system(time);
    if pair.public().version() != 4 {
        let builder = SignatureBuilder::new(SignatureType::Binary).set_hash_algo(HashAlgorithm::SHA512);
        return builder.set_signature_creation_time(created)?.sign_message(pair, text);
    }
    let (hash_algorithm, fingerprint) = (HashAlgorithm::SHA512, pair.public().fingerprint());
    let hashed = SubpacketArea::new(vec![
        Subpacket::new(SubpacketValue::SignatureCreationTime(created.try_into()?), true)?,
        Subpacket::new(SubpacketValue::IssuerFingerprint(fingerprint), false)?,
    ])?;
    let unsigned = |prefix, mpis| {
        let loose = SubpacketArea::new(Vec::new())?;
        let algorithm = pair.public().pk_algo();
        let kind = SignatureType::Binary;
        openpgp::Result::Ok(Signature4::new(
            kind,
            algorithm,
            hash_algorithm,
            hashed.clone(),
            loose,
            prefix,
            mpis,
        ))
    };
    let blank = openpgp::crypto::mpi::Signature::Unknown { mpis: Box::new([]), rest: Vec::new().into() };
    let mut context = hash_algorithm.context()?.for_signature(4);
    context.update(text.as_bytes());
    unsigned([0; 2], blank)?.hash(&mut context)?;
    let digest = context.into_digest()?;
    let prefix = [digest[0], digest[1]];
    let mpis = pair.clone().sign(hash_algorithm, &digest)?;
    Ok(unsigned(prefix, mpis)?.into())
}
