//! Certificates: a destination's and readers' public keys.

use sequoia_openpgp as openpgp;

use openpgp::Cert;
use openpgp::cert::CertParser;
use openpgp::packet::signature::subpacket::{Subpacket, SubpacketValue};
use openpgp::packet::{Key, Signature, key};
use openpgp::parse::Parse as _;
use openpgp::serialize::{MarshalInto, SerializeInto};
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::time::UnixTime;

use crate::clock::{from_system, to_system};
use crate::guard::{GAVE_UP, guard};

/// The largest certificate that is read, in bytes. Usual ones have less than 2 KiB, much-signed ones some hundred.
pub const MAX_CERTIFICATE: usize = 256 * 1024;

/// Why bytes are no usable certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// More than [`MAX_CERTIFICATE`] bytes.
    #[error(
        "certificate of {0} bytes, at most {MAX_CERTIFICATE} are read; export it again with \
         `gpg --export-options export-minimal --export`"
    )]
    TooLarge(usize),
    /// No OpenPGP certificate.
    #[error("not an OpenPGP certificate ({0}); `gpg --export KEY` and `sq key export` make one")]
    Malformed(String),
    /// More than one.
    #[error("more than one certificate in one file; export the destination's alone")]
    Several,
    /// A secret key is in it.
    #[error("this holds a secret key; keep it with the destination, and use what `gpg --export KEY` makes")]
    Secret,
    /// A key version that fingerprints are not known for.
    #[error("certificate of key version {0}, expected 4 or 6")]
    Version(u8),
}

/// A public certificate (RFC 9580 §10.1).
#[derive(Clone, PartialEq)]
pub struct Certificate {
    pub(crate) cert: Cert,
    fingerprint: Fingerprint,
}

impl Eq for Certificate {}

impl Certificate {
    /// From binary or armored bytes holding exactly one public certificate.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CertificateError> {
        let cert = parse(bytes)?;
        match cert.is_tsk() {
            true => Err(CertificateError::Secret),
            false => Self::new(cert),
        }
    }

    pub(crate) fn new(cert: Cert) -> Result<Self, CertificateError> {
        let fingerprint = fingerprint_of(&cert.fingerprint())
            .ok_or_else(|| CertificateError::Version(cert.primary_key().key().version()))?;
        // The library reads some signatures that it cannot write.
        MarshalInto::to_vec(&cert).map_err(|error| CertificateError::Malformed(error.to_string()))?;
        Ok(Certificate { cert, fingerprint })
    }

    /// Of the primary key: what the destination is called for ever.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Binary.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Writing to memory; whether it can be written was seen when it was made.
        MarshalInto::to_vec(&self.cert).unwrap_or_default()
    }

    /// ASCII-armored (RFC 9580 §6).
    pub fn to_armor(&self) -> String {
        String::from_utf8(SerializeInto::to_vec(&self.cert.armored()).unwrap_or_default()).unwrap_or_default()
    }

    /// The first user id, for people; never trusted for anything.
    pub fn user_id(&self) -> Option<String> {
        self.cert.userids().next().map(|user| String::from_utf8_lossy(user.userid().value()).into_owned())
    }

    /// The certificates in a keyring, in their order.
    pub fn several_from_bytes(bytes: &[u8]) -> Result<Vec<Self>, CertificateError> {
        if bytes.len() > MAX_CERTIFICATE {
            return Err(CertificateError::TooLarge(bytes.len()));
        }
        let wrong = |error: openpgp::anyhow::Error| CertificateError::Malformed(error.to_string());
        let read = || {
            let parser = CertParser::from_bytes(bytes).map_err(wrong)?;
            let certs = parser.map(|cert| cert.map_err(wrong)).collect::<Result<Vec<_>, _>>()?;
            match certs.iter().any(Cert::is_tsk) {
                true => Err(CertificateError::Secret),
                false => certs.into_iter().map(Self::new).collect::<Result<Vec<_>, _>>(),
            }
        };
        let found = guard(read).unwrap_or_else(|| Err(CertificateError::Malformed(GAVE_UP.to_owned())))?;
        match found.is_empty() {
            true => Err(CertificateError::Malformed("it is empty".to_owned())),
            false => Ok(found),
        }
    }

    /// Without what its own primary key has not signed: anybody can add such things.
    pub(crate) fn self_signed(&self) -> Result<Self, CertificateError> {
        let strip = || self_signed(&self.cert).map_err(|e| CertificateError::Malformed(e.to_string()));
        let cert = guard(strip).unwrap_or_else(|| Err(CertificateError::Malformed(GAVE_UP.to_owned())))?;
        Self::new(cert)
    }

    /// With everything that either of the two states of the same certificate has; what was known stays, so that a
    /// revocation is never lost.
    pub(crate) fn merged(&self, newer: &Certificate) -> Result<Self, CertificateError> {
        let merge = || self.cert.clone().merge_public(newer.cert.clone());
        let merged = guard(merge).unwrap_or_else(|| Err(openpgp::anyhow::anyhow!(GAVE_UP)));
        Self::new(merged.map_err(|error| CertificateError::Malformed(error.to_string()))?)
    }

    /// Whether its owner has said that the key is in other hands, or must not be relied on (RFC 9580 §5.2.3.31): it
    /// counts for nothing then, whatever the date.
    pub fn is_hard_revoked(&self) -> bool {
        // At a time before every signature, only hard revocations count.
        let policy = openpgp::policy::StandardPolicy::at(to_system(crate::clock::BUILD_FLOOR));
        let at = to_system(self.creation_time());
        matches!(self.cert.revocation_status(&policy, at), openpgp::types::RevocationStatus::Revoked(_))
    }

    /// Since when its signatures, as far as they are here, bind the primary key and this key of it. A program that renews
    /// a key may put the new ones in the place of the old (GnuPG does).
    pub(crate) fn bound_since(&self, key: Fingerprint) -> Option<UnixTime> {
        let users = self.cert.userids().flat_map(|user| user.self_signatures());
        let primary = users.chain(self.cert.primary_key().self_signatures());
        let is_key = |fingerprint| fingerprint_of(&fingerprint) == Some(key);
        let subkeys = self.cert.keys().subkeys().filter(|subkey| is_key(subkey.key().fingerprint()));
        let subkey = subkeys.flat_map(|subkey| subkey.self_signatures());
        let (primary, subkey) = (primary.filter_map(made).min(), subkey.filter_map(made).min());
        primary.max(subkey)
    }

    /// When the primary key was made, Unix seconds.
    pub fn creation_time(&self) -> UnixTime {
        from_system(self.cert.primary_key().key().creation_time())
    }

    /// Whether `other` is the same certificate at another time, with subkeys or signatures of its own.
    pub fn is_same_key(&self, other: &Certificate) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// Whether something can be sealed to it at `now`.
    pub fn can_be_sealed_to(&self, now: UnixTime) -> bool {
        let reference = crate::clock::reference(now, [self.creation_time()]);
        let policy = openpgp::policy::StandardPolicy::at(to_system(reference));
        crate::seal::encryption_key(&self.cert, &policy, to_system(reference)).is_some()
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.fingerprint)
    }
}

type Primary = Key<key::PublicParts, key::PrimaryRole>;
type Subkey = Key<key::PublicParts, key::SubordinateRole>;

/// One certificate, public or secret.
pub(crate) fn parse(bytes: &[u8]) -> Result<Cert, CertificateError> {
    if bytes.len() > MAX_CERTIFICATE {
        return Err(CertificateError::TooLarge(bytes.len()));
    }
    guard(|| parse_unguarded(bytes)).unwrap_or_else(|| Err(CertificateError::Malformed(GAVE_UP.to_owned())))
}

fn parse_unguarded(bytes: &[u8]) -> Result<Cert, CertificateError> {
    let wrong = |error: openpgp::anyhow::Error| CertificateError::Malformed(error.to_string());
    let mut certs = CertParser::from_bytes(bytes).map_err(wrong)?;
    let none = || CertificateError::Malformed("it is empty".to_owned());
    let cert = certs.next().ok_or_else(none)?.map_err(wrong)?;
    match certs.next() {
        None => Ok(cert),
        Some(_) => Err(CertificateError::Several),
    }
}

/// The primary key with what it has signed itself: dates, user ids, subkeys, revocations.
fn self_signed(cert: &Cert) -> openpgp::Result<Cert> {
    let primary = cert.primary_key();
    let mut packets = vec![openpgp::Packet::from(primary.key().clone())];
    let mut add = |head: Option<openpgp::Packet>, subkey: Option<&Subkey>, signatures: Vec<&Signature>| {
        if head.is_none() || !signatures.is_empty() {
            packets.extend(head);
            let tidied = signatures.into_iter().map(|one| tidied(one, primary.key(), subkey));
            packets.extend(tidied.filter_map(Result::ok).map(openpgp::Packet::from));
        }
    };
    add(None, None, primary.self_revocations().chain(primary.self_signatures()).collect());
    for user in cert.userids() {
        let signatures = user.self_revocations().chain(user.self_signatures()).collect();
        add(Some(user.userid().clone().into()), None, signatures);
    }
    for subkey in cert.keys().subkeys() {
        let signatures = subkey.self_revocations().chain(subkey.self_signatures()).collect();
        add(Some(subkey.key().clone().into()), Some(subkey.key()), signatures);
    }
    Cert::from_packets(packets.into_iter())
}

/// A signature of the primary key; of what lies outside its hashed area, which anybody can write, only the issuer and what
/// the subkey has signed back.
fn tidied(signature: &Signature, primary: &Primary, subkey: Option<&Subkey>) -> openpgp::Result<Signature> {
    let is_back = |back: &Signature| {
        subkey.is_some_and(|subkey| back.verify_primary_key_binding(primary, subkey).is_ok())
    };
    let mut kept = issuers(signature, &primary.fingerprint());
    let embedded = signature.unhashed_area().iter().find_map(|subpacket| match subpacket.value() {
        SubpacketValue::EmbeddedSignature(back) if is_back(back) => Some(back),
        _ => None,
    });
    if let (Some(back), Some(subkey)) = (embedded, subkey) {
        let back = with_unhashed(back, issuers(back, &subkey.fingerprint()))?;
        kept.push(SubpacketValue::EmbeddedSignature(back));
    }
    with_unhashed(signature, kept)
}

/// What names this issuer outside the hashed area, each once.
fn issuers(signature: &Signature, issuer: &openpgp::Fingerprint) -> Vec<SubpacketValue> {
    let names = |value: &SubpacketValue| match value {
        SubpacketValue::Issuer(id) => *id == issuer.into(),
        SubpacketValue::IssuerFingerprint(fingerprint) => fingerprint == issuer,
        _ => false,
    };
    let mut found: Vec<SubpacketValue> = Vec::new();
    for value in signature.unhashed_area().iter().map(Subpacket::value) {
        if names(value) && !found.contains(value) {
            found.push(value.clone());
        }
    }
    found
}

fn made(signature: &Signature) -> Option<UnixTime> {
    signature.signature_creation_time().map(from_system)
}

fn with_unhashed(signature: &Signature, values: Vec<SubpacketValue>) -> openpgp::Result<Signature> {
    let mut signature = signature.clone();
    let area = signature.unhashed_area_mut();
    area.clear();
    for value in values {
        area.add(Subpacket::new(value, false)?)?;
    }
    Ok(signature)
}

/// Of versions 4 and 6.
pub(crate) fn fingerprint_of(fingerprint: &openpgp::Fingerprint) -> Option<Fingerprint> {
    Fingerprint::from_slice(fingerprint.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    #[test]
    fn certificates_come_back_from_binary_and_armor() {
        let certificate =
            SecretKey::generate("Clinic <a@example.org>", UnixTime(1_795_236_000)).unwrap().certificate();
        let armor = certificate.to_armor();
        assert!(armor.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----"));
        for bytes in [certificate.to_bytes(), armor.into_bytes()] {
            let back = Certificate::from_bytes(&bytes).unwrap();
            assert_eq!(back, certificate);
            assert_eq!(back.fingerprint(), certificate.fingerprint());
            assert_eq!(back.user_id().as_deref(), Some("Clinic <a@example.org>"));
        }
        assert!(
            certificate.to_bytes().len() < 1_400,
            "{} bytes do not fit a code",
            certificate.to_bytes().len()
        );
    }

    #[test]
    fn what_is_no_single_public_certificate_is_refused_with_the_reason() {
        let key = SecretKey::generate("a", UnixTime(1_795_236_000)).unwrap();
        let mut two = key.certificate().to_bytes();
        two.extend(SecretKey::generate("b", UnixTime(1_795_236_000)).unwrap().certificate().to_bytes());
        assert_eq!(Certificate::from_bytes(&two), Err(CertificateError::Several));
        assert_eq!(
            Certificate::from_bytes(key.to_armor().unwrap().as_bytes()),
            Err(CertificateError::Secret)
        );
        assert!(matches!(Certificate::from_bytes(b"hello"), Err(CertificateError::Malformed(_))));
        assert!(matches!(Certificate::from_bytes(b""), Err(CertificateError::Malformed(_))));
        let large = vec![0; MAX_CERTIFICATE + 1];
        assert_eq!(Certificate::from_bytes(&large), Err(CertificateError::TooLarge(MAX_CERTIFICATE + 1)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_certificate_or_an_error(bytes: Vec<u8>, at in 0usize..600, flip: u8) {
            let _ = Certificate::from_bytes(&bytes);
            let mut near = SecretKey::generate("a", UnixTime(1_795_236_000)).unwrap().certificate().to_bytes();
            near[at] ^= flip;
            let _ = Certificate::from_bytes(&near);
            near.truncate(at);
            let _ = Certificate::from_bytes(&near);
        }
    }
}
