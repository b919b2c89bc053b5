//! Sealing and opening: what comes back, what it costs, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{self, Read, Write};

use waypost_openpgp::{Compress, Limits, OpenError, SealError, SecretKey, seal, seal_bytes};
use waypost_protocol::content::Label;
use waypost_protocol::time::UnixTime;

const NOW: UnixTime = UnixTime(1_795_236_000);
const LIMITS: Limits = Limits { max_content: 1 << 30 };

fn key() -> SecretKey {
    SecretKey::generate("Clinic", NOW).unwrap()
}

fn label() -> Label {
    Label { collection: "forms".into(), time: Some(UnixTime(NOW.0 + 61)), ..Label::default() }
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32).to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn open(key: &SecretKey, sealed: &[u8]) -> Result<(Label, Vec<u8>), OpenError> {
    let mut content = Vec::new();
    key.open(sealed, &mut content, LIMITS).map(|label| (label, content))
}

#[test]
fn what_is_sealed_opens_with_label_and_content() {
    let key = key();
    let names: [Option<&[u8]>; 3] = [None, Some(b"a\xff/b\n'\".xml"), Some(b"-rf")];
    for (length, name) in [0, 1, 5_000, 300_000, 9_000_000].into_iter().zip(names.into_iter().cycle()) {
        for time in [None, Some(UnixTime(0)), Some(NOW), Some(UnixTime((1 << 40) - 1))] {
            let file_name = name.map(<[u8]>::to_vec);
            let label = Label { time, file_name, record: Some("r 1".into()), ..label() };
            let content = noise(length);
            let sealed =
                seal_bytes(&label, &content, &[key.certificate()], Compress::default(), NOW).unwrap();
            assert!(open(&key, &sealed).unwrap() == (label, content), "{length} bytes at {time:?}");
        }
    }
}

#[test]
fn a_form_of_1000_bytes_costs_at_most_160_bytes_to_seal() {
    let key = key();
    let sealed = seal_bytes(&label(), &noise(1_000), &[key.certificate()], Compress::default(), NOW).unwrap();
    let overhead = sealed.len() - 1_000;
    println!("seal overhead: {overhead} bytes");
    assert!(overhead <= 160, "{overhead} bytes");
    assert_eq!(open(&key, &sealed).unwrap().0, label());
}

#[test]
fn only_what_shrinks_is_compressed() {
    let key = key();
    let size = |content: &[u8], compress| {
        seal_bytes(&label(), content, &[key.certificate()], compress, NOW).unwrap().len()
    };
    let text = b"<form><name>Ann</name><visit>3</visit></form>\n".repeat(100);
    assert!(size(&text, Compress::WhenSmaller) < 500);
    assert!(size(&text, Compress::Never) > text.len());
    assert_eq!(size(&noise(5_000), Compress::WhenSmaller), size(&noise(5_000), Compress::Never));
}

#[test]
fn readers_can_open_it_too_and_others_cannot() {
    let (destination, reader, other) = (key(), key(), key());
    let recipients = [destination.certificate(), reader.certificate()];
    let sealed = seal_bytes(&label(), b"hello", &recipients, Compress::Never, NOW).unwrap();
    assert_eq!(open(&destination, &sealed).unwrap().1, b"hello");
    assert_eq!(open(&reader, &sealed).unwrap().1, b"hello");
    assert!(matches!(open(&other, &sealed), Err(OpenError::OtherKey)));
    let signing = destination.signing_only().unwrap();
    assert!(matches!(open(&signing, &sealed), Err(OpenError::NoDecryptionKey)));
    assert!(!signing.can_open() && destination.can_open());
    assert_eq!(signing.certificate(), destination.certificate());
    let nobody = seal_bytes(&label(), b"", &[], Compress::Never, NOW);
    assert!(matches!(nobody, Err(SealError::NoRecipient)));
}

#[test]
fn every_altered_or_missing_byte_is_noticed() {
    let key = key();
    let content = b"some content ".repeat(20);
    for compress in [Compress::Never, Compress::WhenSmaller] {
        let sealed = seal_bytes(&label(), &content, &[key.certificate()], compress, NOW).unwrap();
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            // The key id in the clear is only a hint, as is the parity of an unused bit of the ephemeral point.
            match open(&key, &altered) {
                Err(_) => {}
                Ok(opened) => assert!(opened == (label(), content.clone()), "byte {at}"),
            }
            assert!(open(&key, &sealed[..at]).is_err(), "cut at {at}");
        }
        let longer = [&sealed[..], b"x"].concat();
        assert!(open(&key, &longer).is_err());
    }
    assert!(matches!(open(&key, b"hello"), Err(OpenError::Damaged(_))));
}

#[test]
fn a_small_message_that_unpacks_to_much_is_stopped_at_the_limit() {
    let key = key();
    let zeros = io::repeat(0).take(200 << 20);
    let mut sealed = Vec::new();
    seal(&label(), zeros, &[key.certificate()], Compress::WhenSmaller, &mut sealed, NOW).unwrap();
    assert!(sealed.len() < 1 << 20);
    let limits = Limits { max_content: 1 << 20 };
    let mut sink = Counting(0);
    let error = key.open(&sealed[..], &mut sink, limits).unwrap_err();
    assert!(matches!(error, OpenError::TooLarge(limit) if limit == 1 << 20));
    assert!(sink.0 <= 1 << 20);
}

#[test]
fn a_bad_disk_is_not_taken_for_a_bad_message() {
    let key = key();
    let sealed = seal_bytes(&label(), &noise(500_000), &[key.certificate()], Compress::Never, NOW).unwrap();
    let error = key.open(sealed[..200_000].chain(Failing), io::sink(), LIMITS).unwrap_err();
    assert!(matches!(error, OpenError::Read(_)) && error.is_temporary(), "{error}");
    let error = key.open(&sealed[..], Failing, LIMITS).unwrap_err();
    assert!(matches!(error, OpenError::Write(_)) && error.is_temporary(), "{error}");
}

#[test]
fn a_clock_at_1970_seals_opens_and_makes_keys() {
    let key = SecretKey::generate("Clinic", UnixTime(0)).unwrap();
    let later = SecretKey::generate("Clinic", UnixTime(NOW.0 * 2)).unwrap();
    for key in [key, later] {
        let label = Label { time: None, ..label() };
        let sealed =
            seal_bytes(&label, b"hello", &[key.certificate()], Compress::Never, UnixTime(0)).unwrap();
        assert_eq!(open(&key, &sealed).unwrap(), (label, b"hello".to_vec()));
    }
}

struct Counting(u64);

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("disk on fire"))
    }
}

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::other("disk on fire"))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
