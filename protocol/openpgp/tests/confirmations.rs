//! Confirmations: what verifies, and that nothing else does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use sequoia_openpgp as openpgp;

use openpgp::cert::prelude::*;
use openpgp::packet::Key;
use openpgp::packet::key::{Key4, PrimaryRole, SecretParts, UnspecifiedRole};
use openpgp::packet::signature::SignatureBuilder;
use openpgp::policy::StandardPolicy;
use openpgp::serialize::SerializeInto as _;
use openpgp::types::{HashAlgorithm, KeyFlags, ReasonForRevocation, SignatureType};
use waypost_openpgp::{Certificate, SecretKey, VerifyError, verify_confirmation};
use waypost_protocol::confirmation::{Confirmation, Rejection, Statement, Verdict};
use waypost_protocol::ids::{Fingerprint, MessageId};
use waypost_protocol::time::UnixTime;

const NOW: UnixTime = UnixTime(1_795_236_000);
const DAY: u64 = 86_400;

fn key() -> SecretKey {
    SecretKey::generate("Clinic", NOW).unwrap()
}

fn verdicts() -> Vec<(MessageId, Verdict)> {
    vec![(MessageId([1; 32]), Verdict::Opened), (MessageId([2; 32]), Verdict::Rejected(Rejection::TooLarge))]
}

fn sign(key: &SecretKey, time: UnixTime) -> Confirmation {
    key.sign(key.certificate().fingerprint(), verdicts(), time).unwrap()
}

fn verify(confirmation: &Confirmation, certificate: &Certificate) -> Result<(), VerifyError> {
    verify_confirmation(confirmation, std::slice::from_ref(certificate), NOW)
}

/// The same signature under another statement.
fn restate(
    confirmation: &Confirmation,
    change: impl FnOnce(&mut (Fingerprint, Fingerprint, UnixTime, Vec<(MessageId, Verdict)>)),
) -> Confirmation {
    let statement = &confirmation.statement;
    let mut fields =
        (statement.destination(), statement.signer(), statement.time(), statement.verdicts().to_vec());
    change(&mut fields);
    let statement = Statement::new(fields.0, fields.1, fields.2, fields.3).unwrap();
    Confirmation::new(statement, confirmation.signature().clone()).unwrap()
}

/// A key whose subkey was revoked, or whose life is limited, at times of the test's choosing.
fn cert_of(key: &SecretKey) -> openpgp::Cert {
    use openpgp::parse::Parse as _;
    openpgp::Cert::from_bytes(key.to_armor().unwrap().as_bytes()).unwrap()
}

fn public(cert: &openpgp::Cert) -> Certificate {
    Certificate::from_bytes(&cert.clone().strip_secret_key_material().to_vec().unwrap()).unwrap()
}

fn system(time: UnixTime) -> std::time::SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.0)
}

fn revoke_signing_subkey(cert: &openpgp::Cert, reason: ReasonForRevocation, at: UnixTime) -> openpgp::Cert {
    let policy = StandardPolicy::at(system(at));
    let mut primary = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let valid = cert.with_policy(&policy, system(at)).unwrap();
    let subkey = valid.keys().subkeys().for_signing().next().unwrap().key().clone();
    let revocation = SubkeyRevocationBuilder::new()
        .set_signature_creation_time(system(at))
        .unwrap()
        .set_reason_for_revocation(reason, b"test")
        .unwrap()
        .build(&mut primary, cert, &subkey, None)
        .unwrap();
    cert.clone().insert_packets(vec![openpgp::Packet::from(subkey), revocation.into()]).unwrap().0
}

#[test]
fn the_destinations_own_confirmation_verifies_also_by_a_clock_at_1970() {
    let key = key();
    let confirmation = sign(&key, UnixTime(NOW.0 + 5));
    let chain = [key.certificate()];
    for now in [UnixTime(0), NOW, UnixTime(NOW.0 * 2)] {
        assert_eq!(verify_confirmation(&confirmation, &chain, now), Ok(()), "at {now}");
    }
    assert_ne!(confirmation.statement.signer(), confirmation.statement.destination(), "a subkey signs");
    assert!(confirmation.signature().len() <= 120, "{} bytes", confirmation.signature().len());
    let wire = Confirmation::decode(&confirmation.encode()).unwrap();
    assert_eq!(verify_confirmation(&wire, &chain, NOW), Ok(()));
}

#[test]
fn an_altered_statement_is_refused() {
    let key = key();
    let (confirmation, certificate) = (sign(&key, NOW), key.certificate());
    let other_id = restate(&confirmation, |fields| fields.3[0].0 = MessageId([3; 32]));
    assert_eq!(verify(&other_id, &certificate), Err(VerifyError::Altered));
    let other_verdict = restate(&confirmation, |fields| fields.3[1].1 = Verdict::Opened);
    assert_eq!(verify(&other_verdict, &certificate), Err(VerifyError::Altered));
    let other_time = restate(&confirmation, |fields| fields.2 = UnixTime(NOW.0 + 1));
    let expected = VerifyError::WrongTime { signature: NOW, statement: UnixTime(NOW.0 + 1) };
    assert_eq!(verify(&other_time, &certificate), Err(expected));
    let primary = restate(&confirmation, |fields| fields.1 = fields.0);
    assert_eq!(verify(&primary, &certificate), Err(VerifyError::Altered));
}

#[test]
fn another_key_or_destination_is_refused() {
    let (ours, theirs) = (key(), key());
    let fingerprint = ours.certificate().fingerprint();
    let forged = theirs.sign(fingerprint, verdicts(), NOW).unwrap();
    let signer = forged.statement.signer();
    assert_eq!(verify(&forged, &ours.certificate()), Err(VerifyError::WrongKey(signer)));
    let our_signer = sign(&ours, NOW).statement.signer();
    let posing = restate(&forged, |fields| fields.1 = our_signer);
    assert_eq!(verify(&posing, &ours.certificate()), Err(VerifyError::Altered));
    let elsewhere = sign(&theirs, NOW);
    let expected =
        VerifyError::WrongDestination { expected: fingerprint, found: theirs.certificate().fingerprint() };
    assert_eq!(verify(&elsewhere, &ours.certificate()), Err(expected));
    assert_eq!(verify_confirmation(&forged, &[], NOW), Err(VerifyError::NoCertificate));
    // In the destination's chain, the other key counts.
    let chain = [ours.certificate(), theirs.certificate()];
    assert_eq!(verify_confirmation(&forged, &chain, NOW), Ok(()));
}

#[test]
fn anything_but_one_bare_signature_is_refused() {
    let key = key();
    let (confirmation, certificate) = (sign(&key, NOW), key.certificate());
    let with = |bytes: Vec<u8>| {
        let confirmation = Confirmation::new(confirmation.statement.clone(), Bytes::from(bytes)).unwrap();
        verify(&confirmation, &certificate)
    };
    let good = confirmation.signature().to_vec();
    assert_eq!(with(good.clone()), Ok(()));
    for length in 1..good.len() {
        assert!(with(good[..length].to_vec()).is_err(), "cut at {length}");
    }
    for at in 0..good.len() {
        let mut altered = good.clone();
        altered[at] ^= 4;
        assert!(with(altered).is_err(), "byte {at}");
    }
    assert!(matches!(with([&good[..], &good[..]].concat()), Err(VerifyError::Malformed(_))));
    assert!(matches!(with([&good[..], b"\0"].concat()), Err(VerifyError::Malformed(_))));
    assert!(matches!(with([b"junk", &good[..]].concat()), Err(VerifyError::Malformed(_))));
    let armored = waypost_openpgp::armor_signature(&confirmation).into_bytes();
    assert!(matches!(with(armored), Err(VerifyError::Malformed(_))));

    // Valid, but with a note outside of what is signed, which anyone could vary.
    use openpgp::packet::signature::subpacket::{Subpacket, SubpacketValue};
    use openpgp::parse::Parse as _;
    let openpgp::Packet::Signature(mut noted) = openpgp::Packet::from_bytes(&good).unwrap() else { panic!() };
    let note = Subpacket::new(SubpacketValue::PolicyURI(b"x".to_vec()), false).unwrap();
    noted.unhashed_area_mut().add(note).unwrap();
    assert!(matches!(with(openpgp::Packet::from(noted).to_vec().unwrap()), Err(VerifyError::Malformed(_))));
}

#[test]
fn a_signature_over_something_else_than_a_document_is_refused() {
    let key = key();
    let cert = cert_of(&key);
    let policy = StandardPolicy::at(system(NOW));
    let keys = cert.keys().with_policy(&policy, system(NOW)).for_signing().unencrypted_secret();
    let mut pair = keys.last().unwrap().key().clone().into_keypair().unwrap();
    let confirmation = sign(&key, NOW);
    let text = confirmation.statement.text();
    let signature = SignatureBuilder::new(SignatureType::Text)
        .set_signature_creation_time(system(NOW))
        .unwrap()
        .sign_message(&mut pair, text)
        .unwrap();
    let bytes = Bytes::from(openpgp::Packet::from(signature).to_vec().unwrap());
    let other = Confirmation::new(confirmation.statement, bytes).unwrap();
    assert_eq!(verify(&other, &key.certificate()), Err(VerifyError::WrongKind));
}

#[test]
fn a_hard_revoked_key_counts_for_nothing_whatever_the_date() {
    let key = key();
    let confirmation = sign(&key, NOW);
    let later = UnixTime(NOW.0 + 30 * DAY);
    let revoked = revoke_signing_subkey(&cert_of(&key), ReasonForRevocation::KeyCompromised, later);
    let expected = VerifyError::Revoked(confirmation.statement.signer());
    assert_eq!(verify(&confirmation, &public(&revoked)), Err(expected.clone()));

    let mut primary =
        cert_of(&key).primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let whole = CertRevocationBuilder::new()
        .set_signature_creation_time(system(later))
        .unwrap()
        .set_reason_for_revocation(ReasonForRevocation::KeyCompromised, b"test")
        .unwrap()
        .build(&mut primary, &cert_of(&key), None)
        .unwrap();
    let revoked = cert_of(&key).insert_packets(vec![whole]).unwrap().0;
    assert_eq!(verify(&confirmation, &public(&revoked)), Err(expected));
    assert!(!public(&revoked).can_be_sealed_to(NOW));
}

#[test]
fn a_retired_key_counts_for_what_it_signed_before() {
    let key = key();
    let later = UnixTime(NOW.0 + 30 * DAY);
    let retired = public(&revoke_signing_subkey(&cert_of(&key), ReasonForRevocation::KeyRetired, later));
    assert_eq!(verify(&sign(&key, NOW), &retired), Ok(()));
    let after = sign(&key, UnixTime(later.0 + DAY));
    assert_eq!(verify(&after, &retired), Err(VerifyError::Revoked(after.statement.signer())));
}

#[test]
fn an_expired_key_counts_only_for_its_time_and_no_longer_signs() {
    let (cert, _) = CertBuilder::new()
        .set_creation_time(system(NOW))
        .add_userid("Clinic")
        .add_subkey(KeyFlags::empty().set_signing(), Duration::from_secs(10 * DAY), None)
        .generate()
        .unwrap();
    let key = SecretKey::from_bytes(&cert.as_tsk().to_vec().unwrap()).unwrap();
    let (before, after) = (UnixTime(NOW.0 + 9 * DAY), UnixTime(NOW.0 + 11 * DAY));
    let good = sign(&key, before);
    assert_eq!(verify_confirmation(&good, &[key.certificate()], after), Ok(()));
    let error = key.sign(key.certificate().fingerprint(), verdicts(), after).unwrap_err();
    assert!(error.to_string().contains("has expired"), "{error}");
    // Signed after the end by someone who has the same key without its end.
    let fresh = restamp(&key, after);
    let error = verify_confirmation(&fresh, &[key.certificate()], after).unwrap_err();
    assert!(matches!(error, VerifyError::NotValid { .. }), "{error}");
    let before_creation = restamp(&key, UnixTime(NOW.0 - DAY));
    assert!(verify_confirmation(&before_creation, &[key.certificate()], after).is_err());
}

#[test]
fn the_end_of_a_certificate_is_the_end_of_its_subkeys_too() {
    for subkey in [None, Some(Duration::from_secs(1_000 * DAY))] {
        let (cert, _) = CertBuilder::new()
            .set_creation_time(system(NOW))
            .set_validity_period(Duration::from_secs(10 * DAY))
            .add_userid("Clinic")
            .add_subkey(KeyFlags::empty().set_signing(), subkey, None)
            .generate()
            .unwrap();
        let key = SecretKey::from_bytes(&cert.as_tsk().to_vec().unwrap()).unwrap();
        let certificate = [key.certificate()];
        let (before, after) = (UnixTime(NOW.0 + 9 * DAY), UnixTime(NOW.0 + 11 * DAY));
        assert_eq!(verify_confirmation(&sign(&key, before), &certificate, after), Ok(()));
        let late = verify_confirmation(&restamp(&key, after), &certificate, after);
        assert!(matches!(late, Err(VerifyError::NotValid { time, .. }) if time == after), "{late:?}");
    }
}

#[test]
fn a_retired_certificate_counts_for_what_it_signed_before() {
    let key = key();
    let (before, after) = (UnixTime(NOW.0 + 29 * DAY), UnixTime(NOW.0 + 31 * DAY));
    let retired = key.revoke(false, UnixTime(NOW.0 + 30 * DAY)).unwrap().certificate();
    assert_eq!(verify(&sign(&key, before), &retired), Ok(()));
    let late = sign(&key, after);
    assert_eq!(verify(&late, &retired), Err(VerifyError::Revoked(late.statement.signer())));
}

#[test]
fn a_key_that_is_not_for_signing_signs_nothing() {
    let (cert, _) = CertBuilder::new()
        .set_creation_time(system(NOW))
        .add_userid("Clinic")
        .add_signing_subkey()
        .generate()
        .unwrap();
    let key = SecretKey::from_bytes(&cert.as_tsk().to_vec().unwrap()).unwrap();
    let primary = cert.primary_key().key().clone().parts_into_secret().unwrap().role_into_unspecified();
    let error = verify(&stamp(&key, primary, NOW, HashAlgorithm::SHA512), &key.certificate()).unwrap_err();
    assert!(
        matches!(&error, VerifyError::NotValid { reason, .. } if reason.contains("not for signing")),
        "{error}"
    );
}

#[test]
fn weak_hashes_and_short_keys_prove_nothing() {
    let key = key();
    let subkey = cert_of(&key).keys().subkeys().secret().next().unwrap().key().clone();
    for (hash, is_good) in [
        (HashAlgorithm::SHA512, true),
        (HashAlgorithm::SHA256, true),
        (HashAlgorithm::SHA1, false),
        (HashAlgorithm::MD5, false),
    ] {
        let confirmation = stamp(&key, subkey.clone().role_into_unspecified(), NOW, hash);
        let found = verify(&confirmation, &key.certificate());
        match is_good {
            true => assert_eq!(found, Ok(()), "{hash}"),
            false => assert!(matches!(found, Err(VerifyError::Weak(_))), "{hash}: {found:?}"),
        }
    }
    for (bits, is_good) in [(2_048, true), (1_024, false)] {
        let mut primary: Key<SecretParts, PrimaryRole> = Key4::generate_rsa(bits).unwrap().into();
        primary.set_creation_time(system(NOW)).unwrap();
        let cert = openpgp::Cert::from_packets(std::iter::once(primary.clone().into())).unwrap();
        let user = openpgp::packet::UserID::from("Clinic");
        let binding = SignatureBuilder::new(SignatureType::PositiveCertification)
            .set_signature_creation_time(system(NOW))
            .and_then(|builder| builder.set_key_flags(KeyFlags::empty().set_certification().set_signing()))
            .unwrap();
        let binding = user.bind(&mut primary.clone().into_keypair().unwrap(), &cert, binding).unwrap();
        let cert = cert.insert_packets([openpgp::Packet::from(user), binding.into()]).unwrap().0;
        let key = SecretKey::from_bytes(&cert.as_tsk().to_vec().unwrap()).unwrap();
        let confirmation = stamp(&key, primary.role_into_unspecified(), NOW, HashAlgorithm::SHA512);
        let found = verify(&confirmation, &key.certificate());
        match is_good {
            true => assert_eq!(found, Ok(())),
            false => assert!(matches!(found, Err(VerifyError::Weak(_))), "{found:?}"),
        }
    }
}

#[test]
fn a_signature_counts_for_its_own_documents_only_and_for_256_of_them_too() {
    let key = key();
    let certificate = key.certificate();
    let id = |number: u8| (MessageId([number; 32]), Verdict::Opened);
    let confirm = |ids: std::ops::RangeInclusive<u8>| {
        key.sign(certificate.fingerprint(), ids.map(id).collect(), NOW).unwrap()
    };
    let full = Confirmation::decode(&confirm(0..=255).encode()).unwrap();
    assert_eq!(full.statement.verdicts().len(), 256);
    assert_eq!(verify(&full, &certificate), Ok(()));
    // Each id was confirmed once, by the same key at the same time.
    for (signed, said) in [(1..=2, 2..=3), (1..=2, 1..=3), (1..=3, 1..=2), (0..=255, 0..=254)] {
        let reused = restate(&confirm(signed), |fields| fields.3 = said.map(id).collect());
        assert_eq!(verify(&reused, &certificate), Err(VerifyError::Altered));
    }
    let mut more = (0..=255).map(id).collect::<Vec<_>>();
    more.push((MessageId([[1; 16], [2; 16]].concat().try_into().unwrap()), Verdict::Opened));
    let error = key.sign(certificate.fingerprint(), more, NOW).unwrap_err();
    assert!(error.to_string().contains("257 documents"), "{error}");
}

/// Signs at `time` whatever the key's validity.
fn restamp(key: &SecretKey, time: UnixTime) -> Confirmation {
    let subkey = cert_of(key).keys().subkeys().secret().next().unwrap().key().clone();
    stamp(key, subkey.role_into_unspecified(), time, HashAlgorithm::SHA512)
}

/// For the destination of `key`, by whatever key and hash.
fn stamp(
    key: &SecretKey,
    by: Key<SecretParts, UnspecifiedRole>,
    time: UnixTime,
    hash: HashAlgorithm,
) -> Confirmation {
    let signer = Fingerprint::from_slice(by.fingerprint().as_bytes()).unwrap();
    let statement = Statement::new(key.certificate().fingerprint(), signer, time, verdicts()).unwrap();
    let signature = SignatureBuilder::new(SignatureType::Binary)
        .set_hash_algo(hash)
        .set_signature_creation_time(system(time))
        .unwrap()
        .sign_message(&mut by.into_keypair().unwrap(), statement.text())
        .unwrap();
    Confirmation::new(statement, Bytes::from(openpgp::Packet::from(signature).to_vec().unwrap())).unwrap()
}

#[test]
fn a_date_decades_ahead_is_refused() {
    let key = key();
    let far = sign(&key, UnixTime(NOW.0 + 40 * 365 * DAY));
    assert!(matches!(verify(&far, &key.certificate()), Err(VerifyError::Future(_))));
    let ahead = sign(&key, UnixTime(NOW.0 + 365 * DAY));
    assert_eq!(verify(&ahead, &key.certificate()), Ok(()), "clocks are wrong by a year in the field");
}

#[test]
fn signing_keys_of_version_6_work_too() {
    let (cert, _) = CertBuilder::new()
        .set_profile(openpgp::Profile::RFC9580)
        .unwrap()
        .set_creation_time(system(NOW))
        .add_userid("Clinic")
        .add_signing_subkey()
        .add_transport_encryption_subkey()
        .generate()
        .unwrap();
    let key = SecretKey::from_bytes(&cert.as_tsk().to_vec().unwrap()).unwrap();
    assert!(matches!(key.certificate().fingerprint(), Fingerprint::V6(_)));
    assert_eq!(verify(&sign(&key, NOW), &key.certificate()), Ok(()));
    let label = waypost_protocol::content::Label { collection: "forms".into(), ..Default::default() };
    let compress = waypost_openpgp::Compress::Never;
    let sealed = waypost_openpgp::seal_bytes(&label, b"x", &[key.certificate()], compress, NOW).unwrap();
    let mut content = Vec::new();
    let limits = waypost_openpgp::Limits { max_content: 10 };
    assert_eq!(key.open(&sealed[..], &mut content, limits).unwrap(), label);
    assert_eq!(content, b"x");
}
