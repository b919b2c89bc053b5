//! OpenPGP: sealed messages, what is inside them, certificates, signatures.

use std::sync::LazyLock;

use aes::Aes128;
use aes::cipher::{BlockEncrypt as _, KeyInit as _};
use bytes::Bytes;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::Value;
use waypost_openpgp::{
    Certificate, Chain, Limits, MAX_CERTIFICATE, SecretKey, armor_detached, verify_confirmation,
};
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::content::Label;
use waypost_protocol::document::Document;
use waypost_protocol::envelope;
use waypost_protocol::succession::{self, Link, MAX_CHAIN};
use waypost_protocol::time::UnixTime;

use crate::{frozen, hex};

const NOW: UnixTime = UnixTime(1_795_300_000);
const MAX_CONTENT: u64 = 64 << 10;
/// Of [`session_key_packet`], as `gpg --show-session-key` shows it, for AES-128.
const SESSION_KEY: u128 = 0xe6a4_4f28_34a3_6b4a_fea7_fecc_e028_96d4;

/// Bytes before what is encrypted: a block, and its last two bytes once more.
const PREFIX: usize = 18;
/// Bytes after it: a packet with a SHA-1.
const INTEGRITY: usize = 22;

struct Destination {
    key: SecretKey,
    certificate: Certificate,
    confirmation: Confirmation,
    /// The sealed bytes of its documents.
    sealed: Vec<Vec<u8>>,
}

static DESTINATION: LazyLock<Destination> = LazyLock::new(|| {
    let file = frozen(include_str!("../../../versions/v1-openpgp.json"));
    let key = SecretKey::from_bytes(file["secret_key"].as_str().expect("armor").as_bytes()).expect("a key");
    let sealed = |document: &Value| sealed_in(&hex(&document["document"]));
    Destination {
        certificate: key.certificate(),
        key,
        confirmation: Confirmation::decode(&hex(&file["confirmation"]["wire"])).expect("a confirmation"),
        sealed: file["documents"].as_array().expect("documents").iter().map(sealed).collect(),
    }
});

static SUCCESSION: LazyLock<Vec<Link>> = LazyLock::new(|| {
    let file = frozen(include_str!("../../../versions/v1-succession.json"));
    succession::decode(&hex(&file["successions"])).expect("a chain")
});

/// The sealed bytes within a document.
pub(crate) fn sealed_in(document: &[u8]) -> Vec<u8> {
    let document = Document::decode(Bytes::copy_from_slice(document)).expect("a document");
    let (_, at) = envelope::parse(document.body()).expect("an envelope");
    document.body()[at..].to_vec()
}

/// A sealed message to the frozen destination.
pub fn openpgp(data: &[u8]) -> bool {
    opens(data)
}

/// What somebody has encrypted to the frozen destination, whatever it is.
pub fn inside_seal(data: &[u8]) -> bool {
    opens(&[session_key_packet(), &encrypted(data)].concat())
}

fn opens(sealed: &[u8]) -> bool {
    let Destination { key, certificate, .. } = &*DESTINATION;
    let mut content = Vec::new();
    let limits = Limits { max_content: MAX_CONTENT };
    let opened = key.open_signed(sealed, &mut content, limits, std::slice::from_ref(certificate));
    assert!(content.len() as u64 <= MAX_CONTENT);
    if let Ok(opened) = &opened
        && let Ok(line) = opened.label.encode()
    {
        assert_eq!(Label::parse(&line).map(|(label, _)| label).as_ref(), Ok(&opened.label));
    }
    opened.is_ok()
}

/// The first packet of a frozen document: its session key, encrypted.
fn session_key_packet() -> &'static [u8] {
    let message = &DESTINATION.sealed[1];
    assert_eq!(message[0], 0xc1, "a session key is the first packet");
    &message[..2 + usize::from(message[1])]
}

/// A packet of version 1 of encrypted data with integrity (RFC 9580 §5.13.1).
fn encrypted(inside: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x11; PREFIX];
    bytes.extend_from_slice(inside);
    bytes.extend([0xd3, 0x14]);
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &bytes);
    bytes.extend_from_slice(hash.as_ref());
    cfb(SESSION_KEY, &mut bytes, true);
    let length = u32::try_from(bytes.len() + 1).expect("an input is short");
    [&[0xd2, 0xff][..], &length.to_be_bytes(), &[1], &bytes].concat()
}

/// What a frozen message has inside, by its session key.
pub(crate) fn inside(message: &[u8], session_key: u128) -> Vec<u8> {
    let packet = &message[2 + usize::from(message[1])..];
    // A length of one byte, or of two from 192 on; then the version.
    let head = if packet[1] < 192 { 3 } else { 4 };
    let mut bytes = packet[head..].to_vec();
    cfb(session_key, &mut bytes, false);
    bytes[PREFIX..bytes.len() - INTEGRITY].to_vec()
}

fn cfb(key: u128, bytes: &mut [u8], encrypt: bool) {
    let cipher = Aes128::new(&key.to_be_bytes().into());
    let mut block = [0; 16];
    for part in bytes.chunks_mut(16) {
        cipher.encrypt_block((&mut block).into());
        for (byte, mask) in part.iter_mut().zip(&mut block) {
            let before = *byte;
            *byte ^= *mask;
            *mask = if encrypt { *byte } else { before };
        }
    }
}

/// A certificate, public or secret, binary or armored.
pub fn certificate(data: &[u8]) -> bool {
    let certificate = Certificate::from_bytes(data);
    if let Ok(certificate) = &certificate {
        // The library may sort a signature that proves nothing to another place: the bytes are what counts.
        for bytes in [certificate.to_bytes(), certificate.to_armor().into_bytes()] {
            let again = Certificate::from_bytes(&bytes).expect("what was read can be written");
            assert!(again.is_same_key(certificate) && again.to_bytes() == certificate.to_bytes());
        }
        certificate.can_be_sealed_to(NOW);
        certificate.is_hard_revoked();
        certificate.user_id();
        let mut chain = Chain::new(DESTINATION.certificate.clone());
        let link =
            Link { destination: chain.fingerprint(), certificate: certificate.to_bytes().into(), word: None };
        chain.absorb(&[link], NOW);
        check_chain(&chain, &DESTINATION.certificate);
        assert_eq!(chain.certificates().len(), 1, "nobody vouched for it");
    }
    let secret = SecretKey::from_bytes(data);
    if let Ok(secret) = &secret {
        let armor = secret.to_armor().expect("what was read can be written");
        let again = SecretKey::from_bytes(armor.as_bytes()).expect("what was written can be read");
        assert_eq!(again.certificate().to_bytes(), secret.certificate().to_bytes());
    }
    let several = Certificate::several_from_bytes(data);
    if let Ok(certificate) = &certificate {
        assert!(several.is_ok_and(|several| several.len() == 1 && several[0].is_same_key(certificate)));
    }
    certificate.is_ok() || secret.is_ok()
}

/// A signature on the frozen confirmation, and a chain that grows from the frozen one's first certificate.
pub fn signature(data: &[u8]) -> bool {
    let Destination { certificate, confirmation, .. } = &*DESTINATION;
    let by = std::slice::from_ref(certificate);
    let given = Confirmation::new(confirmation.statement.clone(), Bytes::copy_from_slice(data));
    let holds = given.as_ref().is_ok_and(|given| verify_confirmation(given, by, NOW).is_ok());
    // One confirmation has one id everywhere, so that its bytes cannot be others.
    assert!(!holds || data == confirmation.signature(), "another signature on the same statement holds");
    if let Ok(given) = Confirmation::decode(data)
        && verify_confirmation(&given, by, NOW).is_ok()
    {
        assert_eq!(given, *confirmation, "forged");
    }
    let text = armor_detached(data);
    assert!(data.is_empty() || text.starts_with("-----BEGIN PGP SIGNATURE-----"));
    let Ok(links) = succession::decode(data) else { return holds };
    let first = Certificate::from_bytes(&SUCCESSION[0].certificate).expect("a certificate");
    let mut chain = Chain::new(first.clone());
    let absorbed = chain.absorb(&links, NOW);
    check_chain(&chain, &first);
    let vouched = Certificate::from_bytes(&SUCCESSION[1].certificate).expect("a certificate");
    assert!(chain.certificates()[1..].iter().all(|one| one.is_same_key(&vouched)), "forged");
    holds || !absorbed.changes.is_empty()
}

fn check_chain(chain: &Chain, first: &Certificate) {
    assert_eq!(chain.fingerprint(), first.fingerprint());
    assert!((1..=MAX_CHAIN).contains(&chain.certificates().len()));
    assert!(chain.certificates().iter().all(|one| one.to_bytes().len() <= MAX_CERTIFICATE));
    let again = Chain::from_links(&chain.links()).expect("a chain can be read").expect("a chain");
    assert_eq!(again.links(), chain.links());
}
