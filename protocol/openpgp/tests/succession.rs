//! A destination's chain: what extends it, and that nothing else does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use proptest::prelude::*;
use sequoia_openpgp::Packet;
use sequoia_openpgp::cert::{Cert, CertBuilder};
use sequoia_openpgp::packet::signature::subpacket::{NotationData, Subpacket, SubpacketValue};
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::serialize::MarshalInto as _;
use sequoia_openpgp::types::SignatureType;
use waypost_openpgp::{
    Certificate, Chain, ChainError, Change, Compress, Limits, SecretKey, VerifyError, seal_bytes,
    verify_confirmation,
};
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::content::Label;
use waypost_protocol::ids::MessageId;
use waypost_protocol::succession::{Link, MAX_CERTIFICATE, MAX_CHAIN, Word};
use waypost_protocol::time::UnixTime;

const NOW: UnixTime = UnixTime(1_795_236_000);
const DAY: u64 = 86_400;

fn key() -> SecretKey {
    SecretKey::generate("Clinic", NOW).unwrap()
}

fn chain(first: &SecretKey) -> Chain {
    Chain::new(first.certificate())
}

fn later(days: u64) -> UnixTime {
    UnixTime(NOW.0 + days * DAY)
}

fn vouch(old: &SecretKey, destination: &SecretKey, new: &SecretKey) -> Link {
    old.vouch(destination.certificate().fingerprint(), &new.certificate(), later(1)).unwrap()
}

/// A newer state of a certificate.
fn update(destination: &SecretKey, certificate: &Certificate) -> Link {
    let destination = destination.certificate().fingerprint();
    Link { destination, certificate: Bytes::from(certificate.to_bytes()), word: None }
}

fn verdicts() -> Vec<(MessageId, Verdict)> {
    vec![(MessageId([1; 32]), Verdict::Opened)]
}

/// What the one fault is.
fn fault(chain: &mut Chain, links: &[Link]) -> ChainError {
    let before = chain.clone();
    let mut absorbed = chain.absorb(links, later(2));
    assert_eq!(*chain, before, "{absorbed:?}");
    assert_eq!((absorbed.changes.len(), absorbed.faults.len()), (0, 1), "{absorbed:?}");
    absorbed.faults.remove(0)
}

#[test]
fn a_chain_follows_the_word_of_each_old_key_in_any_order() {
    let (a, b, c) = (key(), key(), key());
    let links = [vouch(&b, &a, &c), vouch(&a, &a, &b)];
    for links in [links.to_vec(), links.iter().rev().cloned().collect()] {
        let mut chain = chain(&a);
        let absorbed = chain.absorb(&links, later(2));
        let fingerprint = |key: &SecretKey| key.certificate().fingerprint();
        let expected = vec![
            Change::Succeeded { successor: fingerprint(&b), by: fingerprint(&a) },
            Change::Succeeded { successor: fingerprint(&c), by: fingerprint(&b) },
        ];
        assert_eq!((absorbed.changes, absorbed.faults), (expected, vec![]));
        assert_eq!(chain.fingerprint(), fingerprint(&a), "the name stays");
        assert_eq!(chain.recipient(later(2)).map(Certificate::fingerprint), Some(fingerprint(&c)));
        for signer in [&a, &b, &c] {
            let confirmation = signer.sign(fingerprint(&a), verdicts(), later(2)).unwrap();
            assert_eq!(verify_confirmation(&confirmation, chain.certificates(), later(2)), Ok(()));
        }
        // Again it is no news, and it comes back from where it is kept.
        assert_eq!(chain.absorb(&links, later(3)), Default::default());
        assert_eq!(chain.absorb(&chain.clone().links(), later(3)), Default::default());
        assert_eq!(Chain::from_links(&chain.links()).unwrap(), Some(chain));
    }
}

#[test]
fn a_succession_that_the_old_primary_key_has_not_signed_changes_nothing() {
    let (a, b, stranger) = (key(), key(), key());
    let good = vouch(&a, &a, &b);
    let successor = b.certificate().fingerprint();
    let with = |change: &dyn Fn(&mut Word)| {
        let mut link = good.clone();
        link.word.as_mut().map(change).unwrap();
        fault(&mut chain(&a), &[link])
    };
    let expected = |error| ChainError::NotProven { successor, error };
    // Another key signed, whether it says so or not.
    let signer = stranger.certificate().fingerprint();
    let forged = vouch(&stranger, &a, &b);
    let wrong_signer = ChainError::WrongSigner { successor, signer };
    assert_eq!(fault(&mut chain(&a), std::slice::from_ref(&forged)), wrong_signer);
    let theirs = forged.word.clone().unwrap();
    let posing = with(&|word| word.signature = theirs.signature.clone());
    assert_eq!(posing, expected(VerifyError::Altered));
    // Another certificate, another time, another destination, noise.
    let other = Link { certificate: Bytes::from(stranger.certificate().to_bytes()), ..good.clone() };
    let error = VerifyError::Altered;
    assert_eq!(fault(&mut chain(&a), &[other]), ChainError::NotProven { successor: signer, error });
    assert!(matches!(with(&|word| word.time.0 += 1), ChainError::NotProven { .. }));
    let elsewhere = Link { destination: signer, ..good.clone() };
    assert!(matches!(fault(&mut chain(&a), &[elsewhere]), ChainError::WrongDestination { .. }));
    let noise = with(&|word| word.signature = Bytes::from_static(b"noise"));
    assert!(matches!(noise, ChainError::NotProven { error: VerifyError::Malformed(_), .. }));
    let garbage = Link { certificate: Bytes::from_static(b"noise"), ..good.clone() };
    assert!(matches!(fault(&mut chain(&a), &[garbage]), ChainError::Certificate(_)));
    let unvouched = Link { word: None, ..good.clone() };
    assert_eq!(fault(&mut chain(&a), &[unvouched]), ChainError::Stranger(successor));
    // A subkey signed, as a stolen server could.
    let subkey = a.sign(a.certificate().fingerprint(), verdicts(), later(1)).unwrap();
    assert!(matches!(
        with(&|word| word.signature = subkey.signature().clone()),
        ChainError::NotProven { .. }
    ));
    let server = a.signing_only().unwrap();
    let refused = server.vouch(a.certificate().fingerprint(), &b.certificate(), later(1)).unwrap_err();
    assert!(refused.to_string().contains("primary secret"), "{refused}");
    assert_eq!(chain(&a).absorb(&[good], later(2)).changes.len(), 1, "the truth counts");
}

#[test]
fn of_two_successors_the_first_accepted_stays_and_of_two_at_once_the_earlier() {
    let (a, b, c) = (key(), key(), key());
    let name = a.certificate().fingerprint();
    let early = a.vouch(name, &b.certificate(), later(1)).unwrap();
    let late = a.vouch(name, &c.certificate(), later(2)).unwrap();
    let (first, second) = (b.certificate().fingerprint(), c.certificate().fingerprint());
    let fork = |known, found| ChainError::Fork { signer: name, known, found };
    for links in [[early.clone(), late.clone()], [late.clone(), early.clone()]] {
        let mut chain = chain(&a);
        let absorbed = chain.absorb(&links, later(3));
        assert_eq!(absorbed.changes, vec![Change::Succeeded { successor: first, by: name }]);
        assert_eq!(absorbed.faults, vec![fork(first, second)]);
    }
    let mut chain = chain(&a);
    chain.absorb(&[late], later(3));
    assert_eq!(fault(&mut chain, &[early]), fork(second, first));
    // Nor does a chain turn back on itself.
    let back = c.vouch(name, &a.certificate(), later(3)).unwrap();
    assert!(matches!(fault(&mut chain, &[back]), ChainError::Fork { .. }));
}

#[test]
fn a_hard_revoked_key_vouches_for_nobody_and_what_was_accepted_before_stays() {
    let (a, b) = (key(), key());
    let link = vouch(&a, &a, &b);
    let revoked = a.revoke(true, later(5)).unwrap();
    let news = update(&a, &revoked.certificate());
    let successor = b.certificate().fingerprint();

    let mut late = chain(&a);
    let absorbed = late.absorb(&[link.clone(), news.clone()], later(6));
    let error = VerifyError::Revoked(a.certificate().fingerprint());
    assert_eq!(absorbed.faults, vec![ChainError::NotProven { successor, error: error.clone() }]);
    assert_eq!(late.recipient(later(6)), None, "nothing is sealed to a key in other hands");

    let mut early = chain(&a);
    early.absorb(&[link], later(2));
    early.absorb(&[news], later(6));
    let says = |key: &SecretKey| {
        let confirmation = key.sign(early.fingerprint(), verdicts(), later(2)).unwrap();
        verify_confirmation(&confirmation, early.certificates(), later(6))
    };
    assert!(matches!(says(&a), Err(VerifyError::Revoked(_))), "{:?}", says(&a));
    assert_eq!(says(&b), Ok(()));
    assert!(early.certificates()[0].is_hard_revoked() && !early.certificates()[1].is_hard_revoked());
    let kept = Chain::from_links(&early.links()).unwrap().unwrap();
    assert_eq!(kept, early, "it is not judged anew where it is kept");
}

#[test]
fn a_retired_key_may_have_named_its_successor_before() {
    let (a, b) = (key(), key());
    let retired = a.revoke(false, later(5)).unwrap();
    let mut chain = chain(&a);
    let absorbed = chain.absorb(&[vouch(&a, &a, &b), update(&a, &retired.certificate())], later(6));
    assert_eq!((absorbed.changes.len(), absorbed.faults), (2, vec![]));
    assert!(!chain.certificates()[0].is_hard_revoked());
}

#[test]
fn a_renewed_key_signs_and_is_sealed_to_anew_and_opens_what_is_older() {
    let a = key();
    let label = Label { collection: "forms".into(), ..Default::default() };
    let seal = |to: &Certificate, at| {
        seal_bytes(&label, b"x", std::slice::from_ref(to), Compress::Never, at).unwrap()
    };
    let before = seal(&a.certificate(), NOW);
    let renewed = a.renew(Some(Duration::from_secs(100 * DAY)), later(10)).unwrap();
    let confirmation = renewed.sign(a.certificate().fingerprint(), verdicts(), later(11)).unwrap();
    let mut chain = chain(&a);
    let unknown = verify_confirmation(&confirmation, chain.certificates(), later(11));
    assert!(matches!(unknown, Err(VerifyError::WrongKey(_))), "{unknown:?}");
    let absorbed = chain.absorb(&[update(&a, &renewed.certificate())], later(11));
    assert_eq!(absorbed.changes, vec![Change::Renewed(a.certificate().fingerprint())]);
    assert_eq!(verify_confirmation(&confirmation, chain.certificates(), later(11)), Ok(()));
    let old = a.sign(a.certificate().fingerprint(), verdicts(), NOW).unwrap();
    assert_eq!(verify_confirmation(&old, chain.certificates(), later(11)), Ok(()));
    // An older state takes nothing away.
    assert_eq!(chain.absorb(&[update(&a, &a.certificate())], later(12)), Default::default());
    assert!(chain.recipient(later(109)).is_some() && chain.recipient(later(111)).is_none());
    let after = seal(chain.recipient(later(12)).unwrap(), later(12));
    let limits = Limits { max_content: 10 };
    assert!(a.open(&after[..], &mut Vec::new(), limits).is_err(), "it is sealed to the new subkey");
    for sealed in [before, after] {
        assert_eq!(renewed.open(&sealed[..], &mut Vec::new(), limits).unwrap(), label);
    }
}

#[test]
fn a_successor_opens_what_was_sealed_to_the_key_before_it() {
    let (a, b) = (key(), key());
    let label = Label { collection: "forms".into(), ..Default::default() };
    let sealed = seal_bytes(&label, b"x", &[a.certificate()], Compress::Never, NOW).unwrap();
    let limits = Limits { max_content: 10 };
    assert!(b.open(&sealed[..], &mut Vec::new(), limits).is_err());
    let both = b.also_opening(&a);
    assert_eq!(both.open(&sealed[..], &mut Vec::new(), limits).unwrap(), label);
}

#[test]
fn what_a_stranger_adds_to_a_certificate_is_left_out() {
    let (a, stranger) = (key(), key());
    // A stranger's signing subkey, with its binding, behind our primary key.
    let theirs = stranger.renew(None, later(1)).unwrap().certificate().to_bytes();
    let mut mixed = a.certificate().to_bytes();
    // Everything after the primary key packet of the other certificate: header of two bytes, then its length.
    let skip = 2 + usize::from(theirs[1]);
    mixed.extend_from_slice(&theirs[skip..]);
    let mixed = Certificate::from_bytes(&mixed).unwrap();
    assert_ne!(mixed, a.certificate(), "the library keeps what it cannot verify");
    let mut chain = chain(&a);
    assert_eq!(chain.absorb(&[update(&a, &mixed)], later(2)), Default::default());
    assert_eq!(chain.certificates(), [a.certificate()]);
}

#[test]
fn nobody_can_fill_a_certificate_up_so_that_its_owners_word_has_no_room() {
    let a = key();
    let mut stuffed = Vec::new();
    for packet in Cert::from_bytes(&a.certificate().to_bytes()).unwrap().into_packets() {
        stuffed.push(match packet {
            Packet::Signature(mut signature) if stuffed.len() < 3 => {
                for n in 0..10 {
                    let name = format!("{n}@example.org");
                    let notation = NotationData::new(name, [7; 1_000], None);
                    let notation = Subpacket::new(SubpacketValue::NotationData(notation), false).unwrap();
                    signature.unhashed_area_mut().add(notation).unwrap();
                }
                signature.into()
            }
            other => other,
        });
    }
    let stuffed = Cert::from_packets(stuffed.into_iter()).unwrap().to_vec().unwrap();
    assert!((10_000..=MAX_CERTIFICATE).contains(&stuffed.len()), "{}", stuffed.len());
    let stuffed = Certificate::from_bytes(&stuffed).unwrap();
    let mut chain = chain(&a);
    assert_eq!(chain.absorb(&[update(&a, &stuffed)], later(2)), Default::default());
    assert_eq!(chain.certificates(), [a.certificate()]);
    // Not even whoever pinned such a certificate is without room.
    let mut chain = Chain::new(stuffed);
    for year in 1..=6 {
        let renewed = a.renew(Some(Duration::from_secs(DAY * 365 * year)), later(year)).unwrap();
        assert_eq!(chain.absorb(&[update(&a, &renewed.certificate())], later(10)).faults, vec![]);
    }
    let revoked = a.revoke(true, later(10)).unwrap().certificate();
    assert_eq!(chain.absorb(&[update(&a, &revoked)], later(10)).faults, vec![]);
    assert!(chain.certificates()[0].is_hard_revoked());
}

#[test]
fn a_chain_has_an_end() {
    let first = key();
    let mut chain = chain(&first);
    let mut last = first.clone();
    for _ in 1..MAX_CHAIN {
        let next = key();
        assert_eq!(chain.absorb(&[vouch(&last, &first, &next)], later(2)).faults, vec![]);
        last = next;
    }
    assert_eq!(fault(&mut chain, &[vouch(&last, &first, &key())]), ChainError::TooLong);
    assert_eq!(chain.admit(key().certificate()), Err(ChainError::TooLong));
}

#[test]
fn an_admins_word_counts_as_the_old_keys() {
    let (a, b, c) = (key(), key(), key());
    let mut chain = chain(&a);
    assert_eq!(chain.admit(b.certificate()), Ok(true));
    assert_eq!(chain.admit(b.certificate()), Ok(false));
    // What the old key says of it later is kept for those who have only that word.
    let absorbed = chain.absorb(&[vouch(&a, &a, &b)], later(2));
    assert_eq!((absorbed.changes.len(), absorbed.faults), (1, vec![]));
    assert_eq!(chain.absorb(&[vouch(&a, &a, &b)], later(2)), Default::default());
    let mut other = Chain::new(a.certificate());
    other.absorb(&chain.links(), later(2));
    assert_eq!(other.certificates(), chain.certificates());
    assert!(matches!(fault(&mut chain, &[vouch(&a, &a, &c)]), ChainError::Fork { .. }));
    assert_eq!(chain.absorb(&[vouch(&b, &a, &c)], later(2)).changes.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn merging_never_loses_a_revocation_nor_a_subkey(order in Just((0..5).collect::<Vec<usize>>()).prop_shuffle(), cut in 1usize..=5) {
        let a = key();
        let renewed = a.renew(None, later(1)).unwrap();
        let retired = renewed.revoke(false, later(2)).unwrap();
        let revoked = a.revoke(true, later(3)).unwrap();
        let states = [&a, &renewed, &retired, &revoked, &a].map(|key| update(&a, &key.certificate()));
        let mut chain = chain(&a);
        let mut was_revoked = false;
        for &at in order.iter().take(cut) {
            chain.absorb(&[states[at].clone()], later(4));
            was_revoked |= at == 3;
            prop_assert_eq!(chain.certificates()[0].is_hard_revoked(), was_revoked);
        }
        chain.absorb(&states, later(4));
        prop_assert!(chain.certificates()[0].is_hard_revoked());
        let all = chain.clone();
        for state in &states {
            chain.absorb(std::slice::from_ref(state), later(5));
            prop_assert_eq!(&chain, &all);
        }
    }

    #[test]
    fn damaged_links_extend_nothing(at in 0usize..2_000, flip in 1u8..) {
        let (a, b) = (key(), key());
        let mut link = vouch(&a, &a, &b);
        let mut certificate = link.certificate.to_vec();
        let length = certificate.len();
        let word = link.word.as_mut().unwrap();
        let mut signature = word.signature.to_vec();
        let is_certificate = at % 2 == 0;
        match is_certificate {
            true => certificate[at % length] ^= flip,
            false => { let end = signature.len(); signature[at % end] ^= flip; }
        }
        word.signature = signature.into();
        link.certificate = certificate.into();
        let mut chain = chain(&a);
        let absorbed = chain.absorb(&[link], later(2));
        // A certificate may be damaged where it does not matter; then it is the same key all the same.
        let same = chain.certificates().get(1).is_none_or(|one| one.fingerprint() == b.certificate().fingerprint());
        prop_assert!(same && (is_certificate || absorbed.changes.is_empty()), "{:?}", absorbed);
    }
}

/// A certificate as key servers hand it out: this many people have signed its user ID.
fn well_known(certificate: &Certificate, signers: usize) -> Certificate {
    let (stranger, _) = CertBuilder::general_purpose(Some("Stranger")).generate().unwrap();
    let mut signer =
        stranger.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let cert = Cert::from_bytes(&certificate.to_bytes()).unwrap();
    let user = cert.userids().next().unwrap().userid().clone();
    let dates = (0..signers).map(|n| UNIX_EPOCH + Duration::from_secs(NOW.0 + n as u64));
    let words = dates.map(|date| {
        user.certify(&mut signer, &cert, SignatureType::PositiveCertification, None, date).unwrap()
    });
    let words = words.collect::<Vec<_>>();
    Certificate::from_bytes(&cert.insert_packets(words).unwrap().0.to_vec().unwrap()).unwrap()
}

#[test]
fn certificates_that_many_people_have_signed_are_kept_without_that() {
    let (a, b) = (key(), key());
    let (first, second) = (well_known(&a.certificate(), 200), well_known(&b.certificate(), 200));
    assert!(first.to_bytes().len() > MAX_CERTIFICATE, "{}", first.to_bytes().len());
    let mut chain = Chain::new(first);
    assert_eq!(chain.admit(second), Ok(true));
    let links = chain.links();
    assert!(links.iter().all(|link| link.certificate.len() <= MAX_CERTIFICATE));
    let decoded =
        waypost_protocol::succession::decode(&waypost_protocol::succession::encode(&links)).unwrap();
    assert_eq!(Chain::from_links(&decoded).unwrap().unwrap(), chain);
    // What counts is there.
    let confirmation = b.sign(a.certificate().fingerprint(), verdicts(), later(2)).unwrap();
    assert_eq!(verify_confirmation(&confirmation, chain.certificates(), later(2)), Ok(()));
    // A few signatures are left as they are.
    let known = well_known(&a.certificate(), 3);
    assert_eq!(Chain::new(known.clone()).certificates(), &[known]);
}
