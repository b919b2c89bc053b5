//! Signatures inside the seal: who is believed to have written what, and who is not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write as _;

use sequoia_openpgp as openpgp;

use openpgp::Cert;
use openpgp::cert::CertRevocationBuilder;
use openpgp::crypto::KeyPair;
use openpgp::parse::Parse as _;
use openpgp::policy::StandardPolicy;
use openpgp::serialize::SerializeInto as _;
use openpgp::serialize::stream::{Encryptor, LiteralWriter, Message, Signer};
use openpgp::types::ReasonForRevocation;
use waypost_openpgp::{
    Author, Certificate, Compress, Limits, OpenError, Opened, SecretKey, seal_bytes, seal_bytes_signed,
};
use waypost_protocol::content::Label;
use waypost_protocol::time::UnixTime;

const POLICY: &StandardPolicy<'_> = &StandardPolicy::new();
const NOW: UnixTime = UnixTime(1_795_236_000);
const LIMITS: Limits = Limits { max_content: 1 << 24 };

fn key() -> SecretKey {
    SecretKey::generate("Clinic", NOW).unwrap()
}

fn label() -> Label {
    Label { collection: "news".into(), time: Some(UnixTime(NOW.0 + 61)), ..Label::default() }
}

fn open(key: &SecretKey, sealed: &[u8], authors: &[Certificate]) -> Result<(Opened, Vec<u8>), OpenError> {
    let mut content = Vec::new();
    key.open_signed(sealed, &mut content, LIMITS, authors).map(|opened| (opened, content))
}

#[test]
fn a_reader_learns_who_signed_and_the_author_reads_its_own_copy() {
    let (author, reader, stranger) = (key(), key(), key());
    let recipients = [author.certificate(), reader.certificate()];
    let content = b"vaccines come on Tuesday\n".repeat(5_000);
    for compress in [Compress::Never, Compress::WhenSmaller] {
        let sealed = seal_bytes_signed(&label(), &content, &author, &recipients, compress, NOW).unwrap();
        for key in [&reader, &author] {
            let (opened, plain) =
                open(key, &sealed, &[stranger.certificate(), author.certificate()]).unwrap();
            assert!(plain == content);
            assert_eq!(opened.label, label(), "the time is in the line, where the signature covers it");
            let certificate = author.certificate().fingerprint();
            assert_eq!(opened.author, Author::Signed { certificate, time: NOW });
        }
    }
}

#[test]
fn without_the_authors_certificate_or_a_signature_nobody_is_believed() {
    let (author, reader, stranger) = (key(), key(), key());
    let recipients = [reader.certificate()];
    let signed = seal_bytes_signed(&label(), b"x", &author, &recipients, Compress::Never, NOW).unwrap();
    assert_eq!(open(&reader, &signed, &[]).unwrap().0.author, Author::Unknown);
    assert_eq!(open(&reader, &signed, &[stranger.certificate()]).unwrap().0.author, Author::Unknown);
    let plain = seal_bytes(&label(), b"x", &recipients, Compress::Never, NOW).unwrap();
    let (opened, content) = open(&reader, &plain, &[author.certificate()]).unwrap();
    assert_eq!((opened.author, opened.label), (Author::Nobody, label()));
    assert_eq!(content, b"x");
}

/// A reader knows the signed content, and may seal it on to others. They must not take it for the author's word to them.
#[test]
fn what_was_signed_for_one_reader_proves_nothing_to_another() {
    let (author, reader, other) = (key(), key(), key());
    let (opened, content) =
        open(&other, &sealed_on(&author, &reader, &other), &[author.certificate()]).unwrap();
    assert_eq!(content, b"for you");
    assert!(matches!(opened.author, Author::NotProven(_)), "{:?}", opened.author);
    let (opened, _) = open(&reader, &sealed_on(&author, &reader, &reader), &[author.certificate()]).unwrap();
    assert!(matches!(opened.author, Author::Signed { .. }), "{:?}", opened.author);
}

#[test]
fn an_author_whose_key_was_revoked_is_not_believed() {
    let (author, reader) = (key(), key());
    let sealed =
        seal_bytes_signed(&label(), b"x", &author, &[reader.certificate()], Compress::Never, NOW).unwrap();
    let (opened, _) = open(&reader, &sealed, &[revoked(&author)]).unwrap();
    assert!(matches!(opened.author, Author::NotProven(_)), "{:?}", opened.author);
}

#[test]
fn a_signed_message_that_was_altered_anywhere_does_not_open_as_signed() {
    let (author, reader) = (key(), key());
    let sealed =
        seal_bytes_signed(&label(), b"twenty", &author, &[reader.certificate()], Compress::Never, NOW)
            .unwrap();
    for at in 0..sealed.len() {
        let mut bad = sealed.clone();
        bad[at] ^= 1;
        if let Ok((opened, content)) = open(&reader, &bad, &[author.certificate()]) {
            // What says whom it is sealed to is no part of what is signed.
            assert_eq!((opened.label, &content[..]), (label(), &b"twenty"[..]), "byte {at}");
        }
        let cut = open(&reader, &sealed[..at], &[author.certificate()]);
        assert!(cut.is_err(), "{at} of {} bytes", sealed.len());
    }
}

#[test]
fn nothing_is_sealed_by_an_author_that_cannot_sign() {
    let reader = key();
    let sealed = seal_bytes_signed(
        &label(),
        b"x",
        &only_opening(&key()),
        &[reader.certificate()],
        Compress::Never,
        NOW,
    );
    assert!(sealed.unwrap_err().to_string().contains("no secret key here may sign"));
}

fn cert(key: &SecretKey) -> Cert {
    Cert::from_bytes(key.to_armor().unwrap().as_bytes()).unwrap()
}

fn pair(cert: &Cert) -> KeyPair {
    let keys = cert.keys().with_policy(POLICY, None).for_signing().unencrypted_secret();
    keys.last().unwrap().key().clone().into_keypair().unwrap()
}

/// What `reader` can make of a message that `author` signed for it alone: the same signed part, sealed to `to`.
fn sealed_on(author: &SecretKey, reader: &SecretKey, to: &SecretKey) -> Vec<u8> {
    let (author, reader, to) = (cert(author), cert(reader), cert(to));
    let mut sealed = Vec::new();
    let keys = to.keys().with_policy(POLICY, None).for_transport_encryption();
    let message = Encryptor::for_recipients(Message::new(&mut sealed), keys).build().unwrap();
    let signer = Signer::new(message, pair(&author)).unwrap().add_intended_recipient(&reader);
    let mut literal = LiteralWriter::new(signer.build().unwrap()).build().unwrap();
    literal.write_all(b"c=news\nfor you").unwrap();
    literal.finalize().unwrap();
    sealed
}

fn revoked(key: &SecretKey) -> Certificate {
    let cert = cert(key);
    let mut primary = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let reason = ReasonForRevocation::KeyCompromised;
    let revocation = CertRevocationBuilder::new().set_reason_for_revocation(reason, b"").unwrap();
    let revocation = revocation.build(&mut primary, &cert, None).unwrap();
    let (cert, _) = cert.insert_packets(revocation).unwrap();
    Certificate::from_bytes(&cert.strip_secret_key_material().to_vec().unwrap()).unwrap()
}

fn only_opening(key: &SecretKey) -> SecretKey {
    let cert = cert(key);
    let tsk = cert.as_tsk().set_filter(|key| key.pk_algo().for_encryption());
    SecretKey::from_bytes(&tsk.to_vec().unwrap()).unwrap()
}
