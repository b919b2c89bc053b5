//! Verifying a destination's confirmation.

use sequoia_openpgp as openpgp;

use openpgp::armor;
use openpgp::cert::prelude::*;
use openpgp::packet::Signature;
use openpgp::packet::key::{PublicParts, UnspecifiedRole};
use openpgp::packet::signature::subpacket::{Subpacket, SubpacketValue};
use openpgp::parse::{Dearmor, PacketParserBuilder, PacketParserResult, Parse as _};
use openpgp::policy::{Policy as _, StandardPolicy};
use openpgp::serialize::MarshalInto as _;
use openpgp::types::{RevocationStatus, SignatureType};
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::time::UnixTime;

use crate::Certificate;
use crate::certificate::fingerprint_of;
use crate::clock::{BUILD_FLOOR, FUTURE, from_system, reference, to_system};
use crate::guard::{GAVE_UP, guard};

/// Why a confirmation proves nothing. None of these is a reason to delete anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No certificate was given to check against.
    #[error("no certificate of the destination is known; add the destination first")]
    NoCertificate,
    /// It speaks for another destination.
    #[error("confirmation of destination {found}, expected {expected}")]
    WrongDestination {
        /// First fingerprint that was expected.
        expected: Fingerprint,
        /// The one that the statement names.
        found: Fingerprint,
    },
    /// The signature's bytes are not exactly one OpenPGP signature.
    #[error("signature is malformed: {0}")]
    Malformed(String),
    /// A signature of another kind, say over a key.
    #[error("signature is not one over a document")]
    WrongKind,
    /// The signer is no key of the destination's certificates.
    #[error("signed by {0}, which is no key of the destination; fetch its certificate again")]
    WrongKey(Fingerprint),
    /// The key or its certificate was revoked.
    #[error("signed by {0}, which is revoked")]
    Revoked(Fingerprint),
    /// The key was not valid when it signed: expired, not yet made, or not for signing.
    #[error("signed by {signer}, which was not valid at {time}: {reason}")]
    NotValid {
        /// The key.
        signer: Fingerprint,
        /// When it signed.
        time: UnixTime,
        /// What was missing.
        reason: String,
    },
    /// The signature says another time than the statement.
    #[error("signature was made at {signature}, the statement says {statement}")]
    WrongTime {
        /// In the signature.
        signature: UnixTime,
        /// In the statement.
        statement: UnixTime,
    },
    /// Decades ahead of this program.
    #[error("confirmation is dated {0}, decades from now")]
    Future(UnixTime),
    /// Text, key and signature do not belong together.
    #[error("signature does not match: the statement was altered, or another key made it")]
    Altered,
    /// Algorithms that are not accepted any more, of the signature, its key, or what binds the key.
    #[error("signature is too weak: {0}")]
    Weak(String),
}

/// Verifies that the destination signed this statement.
///
/// `certificates` is the destination's chain, first certificate first. `now` is the caller's clock or its last
/// trusted time, whichever is later; a clock at 1970 does, since what must have passed raises it (design §5).
pub fn verify_confirmation(
    confirmation: &Confirmation,
    certificates: &[Certificate],
    now: UnixTime,
) -> Result<(), VerifyError> {
    let statement = &confirmation.statement;
    let first = certificates.first().ok_or(VerifyError::NoCertificate)?;
    if statement.destination() != first.fingerprint() {
        let (expected, found) = (first.fingerprint(), statement.destination());
        return Err(VerifyError::WrongDestination { expected, found });
    }
    let gave_up = || Err(VerifyError::Malformed(GAVE_UP.to_owned()));
    guard(|| verify_signature(confirmation, certificates, now)).unwrap_or_else(gave_up)
}

/// The signature's side of it; the destination is the right one.
fn verify_signature(
    confirmation: &Confirmation,
    certificates: &[Certificate],
    now: UnixTime,
) -> Result<(), VerifyError> {
    let statement = &confirmation.statement;
    let signature = parse_signature(confirmation.signature())?;
    let time = statement.time();
    let signed = signature.signature_creation_time().map(from_system);
    if signed != Some(time) {
        return Err(VerifyError::WrongTime { signature: signed.unwrap_or_default(), statement: time });
    }
    if time.0 > BUILD_FLOOR.0 + FUTURE {
        return Err(VerifyError::Future(time));
    }
    let signer = statement.signer();
    let is_signer = |found: &openpgp::Fingerprint| fingerprint_of(found) == Some(signer);
    let has_signer =
        |certificate: &&Certificate| certificate.cert.keys().any(|key| is_signer(&key.key().fingerprint()));
    let holder = certificates.iter().find(has_signer).ok_or(VerifyError::WrongKey(signer))?;
    let reference = reference(now, [holder.creation_time(), time]);
    let policy = StandardPolicy::at(to_system(reference));
    // A refreshed certificate may have lost the self-signatures of the signature's time: then the oldest of those that
    // are left count, or today's.
    let key = signing_key(holder, signer, &policy, time).or_else(|error| {
        let later = holder.bound_since(signer).filter(|since| *since > time).into_iter().chain([reference]);
        let mut keys = later.filter_map(|at| signing_key(holder, signer, &policy, at).ok());
        keys.find(|key| from_system(key.key().creation_time()) <= time).ok_or(error)
    })?;
    signature.verify_message(key.key(), statement.text()).map_err(|_| VerifyError::Altered)?;
    check_loose_parts(&signature, key.key())?;
    policy.signature(&signature, Default::default()).map_err(|error| VerifyError::Weak(error.to_string()))
}

/// The ASCII-armored detached signature, as `gpg --verify NAME.txt.asc NAME.txt` takes it.
pub fn armor_signature(confirmation: &Confirmation) -> String {
    armor_detached(confirmation.signature())
}

/// A binary detached signature in ASCII armor.
pub fn armor_detached(signature: &[u8]) -> String {
    use std::io::Write as _;
    let armored = armor::Writer::new(Vec::new(), armor::Kind::Signature).and_then(|mut writer| {
        writer.write_all(signature)?;
        writer.finalize()
    });
    // Writing to memory does not fail, and armor is ASCII.
    armored.ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Exactly one binary signature packet over a document.
pub(crate) fn parse_signature(bytes: &[u8]) -> Result<Signature, VerifyError> {
    let malformed = |error: openpgp::anyhow::Error| VerifyError::Malformed(error.to_string());
    let other = |what: &str| VerifyError::Malformed(what.to_owned());
    let parser = PacketParserBuilder::from_bytes(bytes).map_err(malformed)?;
    let PacketParserResult::Some(parser) = parser.dearmor(Dearmor::Disabled).build().map_err(malformed)?
    else {
        return Err(other("it is empty"));
    };
    let (packet, rest) = parser.next().map_err(malformed)?;
    let openpgp::Packet::Signature(signature) = packet else {
        return Err(other("it is another kind of packet"));
    };
    if let PacketParserResult::Some(_) = rest {
        return Err(other("something follows it"));
    }
    if signature.typ() != SignatureType::Binary {
        return Err(VerifyError::WrongKind);
    }
    let body = signature.to_vec().map_err(malformed)?;
    // A header has two bytes, or three where the length takes two.
    if !bytes.ends_with(&body) || bytes.len() > body.len() + 3 {
        return Err(other("it is not encoded in the shortest way"));
    }
    Ok(signature)
}

/// What the signature does not cover must not vary, since the same confirmation has the same bytes, and so the same
/// id, everywhere: the digest's first two bytes, and at most a hint at the very key that signed.
pub(crate) fn check_loose_parts(
    signature: &Signature,
    key: &openpgp::packet::Key<PublicParts, UnspecifiedRole>,
) -> Result<(), VerifyError> {
    if signature.computed_digest().is_none_or(|digest| !digest.starts_with(signature.digest_prefix())) {
        return Err(VerifyError::Altered);
    }
    let is_hint = |packet: &Subpacket| match packet.value() {
        SubpacketValue::Issuer(id) => *id == key.keyid(),
        SubpacketValue::IssuerFingerprint(fingerprint) => *fingerprint == key.fingerprint(),
        _ => false,
    };
    let loose = signature.unhashed_area();
    match loose.iter().count() <= 1 && loose.iter().all(is_hint) {
        true => Ok(()),
        false => Err(VerifyError::Malformed("it carries notes that are not signed".to_owned())),
    }
}

/// The key `signer` if it may sign at `time`.
fn signing_key<'a>(
    holder: &'a Certificate,
    signer: Fingerprint,
    policy: &'a StandardPolicy<'a>,
    time: UnixTime,
) -> Result<ValidErasedKeyAmalgamation<'a, PublicParts>, VerifyError> {
    let not_valid = |error: openpgp::anyhow::Error| not_valid(signer, time, &error);
    let at = to_system(time);
    let key = holder
        .cert
        .keys()
        .find(|key| fingerprint_of(&key.key().fingerprint()) == Some(signer))
        .ok_or(VerifyError::WrongKey(signer))?;
    // A hard-revoked key counts for nothing, whatever the date; a softly revoked one from then on.
    let is_revoked = |status: RevocationStatus<'_>| matches!(status, RevocationStatus::Revoked(_));
    if is_revoked(holder.cert.revocation_status(policy, at)) {
        return Err(VerifyError::Revoked(signer));
    }
    let key = key.with_policy(policy, at).map_err(not_valid)?;
    if is_revoked(key.revocation_status()) {
        return Err(VerifyError::Revoked(signer));
    }
    key.valid_cert().alive().map_err(not_valid)?;
    key.alive().map_err(not_valid)?;
    match key.for_signing() {
        true => Ok(key),
        false => Err(not_valid(openpgp::anyhow::anyhow!("the key is not for signing"))),
    }
}

/// Why a key was not valid: its state at `time`, or what it is made of.
pub(crate) fn not_valid(signer: Fingerprint, time: UnixTime, error: &openpgp::anyhow::Error) -> VerifyError {
    // With its causes; the first of them says which key only.
    let reason = format!("{error:#}");
    match error.downcast_ref() {
        Some(openpgp::Error::PolicyViolation(..)) => VerifyError::Weak(format!("{signer}: {reason}")),
        _ => VerifyError::NotValid { signer, time, reason },
    }
}
