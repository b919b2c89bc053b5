//! Successions: how a destination's certificate gets new subkeys or a successor, as fields, and as the canonical text
//! that the old key signs. Verifying the signature needs OpenPGP and lies outside this crate.

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::collection::successions_group;
use crate::confirmation::MAX_SIGNATURE;
use crate::document::IdHasher;
use crate::ids::{Fingerprint, IdError, MessageId};
use crate::mvds;
use crate::time::UnixTime;

/// The largest certificate of a chain that travels, in bytes. Usual ones have less than 2 KiB.
pub const MAX_CERTIFICATE: usize = 16 * 1024;
/// At most so many certificates of one destination, the first one included.
pub const MAX_CHAIN: usize = 8;
/// At most so many links in one list: a payload, or a server's answer. More than the chain has, so that contradictions
/// can be named.
pub const MAX_LINKS: usize = 2 * MAX_CHAIN;

/// Why fields are no link of a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    /// The protobuf does not decode.
    #[error("not a list of successions: {0}")]
    Protobuf(String),
    /// A field has a wrong length.
    #[error(transparent)]
    Id(#[from] IdError),
    /// More than [`MAX_LINKS`].
    #[error("{0} certificates and successions in one list, at most {MAX_LINKS} are read")]
    Count(usize),
    /// No certificate, or one larger than [`MAX_CERTIFICATE`].
    #[error("certificate of {0} bytes, expected 1 to {MAX_CERTIFICATE}")]
    Certificate(usize),
    /// The signature is longer than [`MAX_SIGNATURE`].
    #[error("signature of {0} bytes, expected at most {MAX_SIGNATURE}")]
    Signature(usize),
    /// The time is 2^40 or later.
    #[error("succession's time {0} is outside 0 ≤ t < 2^40 seconds")]
    Time(u64),
}

/// What is signed: that a destination goes on under another certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// First fingerprint of the destination: its name, which stays.
    pub destination: Fingerprint,
    /// Primary key of the certificate that is succeeded; it signs.
    pub signer: Fingerprint,
    /// Primary key of the certificate that goes on.
    pub successor: Fingerprint,
    /// When it was signed.
    pub time: UnixTime,
}

impl Statement {
    /// The canonical text, UTF-8 with LF line ends, that the detached signature is over.
    pub fn text(&self) -> String {
        let Statement { destination, signer, successor, time } = self;
        format!(
            "Waypost succession 1\nDestination: {destination}\nSigner: {signer}\nSuccessor: {successor}\nTime: {time}\n"
        )
    }
}

/// The old key's word for a certificate. Whether its signature verifies is another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Primary key of the certificate that is succeeded.
    pub signer: Fingerprint,
    /// When it was signed.
    pub time: UnixTime,
    /// The binary detached OpenPGP signature over [`Statement::text`].
    pub signature: Bytes,
}

/// One certificate of a destination's chain, with the word of the one before it; without it, a newer state of a
/// certificate that is known already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// First fingerprint of the destination.
    pub destination: Fingerprint,
    /// The certificate, binary; not parsed here.
    pub certificate: Bytes,
    /// Who vouches for it.
    pub word: Option<Word>,
}

impl Link {
    /// The fields on the wire.
    pub fn to_wire(&self) -> mvds::Succession {
        let copy = |fingerprint: &Fingerprint| Bytes::copy_from_slice(fingerprint.as_bytes());
        let word = self.word.as_ref();
        mvds::Succession {
            destination: copy(&self.destination),
            certificate: self.certificate.clone(),
            signer: word
                .filter(|word| word.signer != self.destination)
                .map_or_else(Bytes::new, |word| copy(&word.signer)),
            time: word.map_or(0, |word| word.time.0),
            signature: word.map_or_else(Bytes::new, |word| word.signature.clone()),
        }
    }

    /// From the fields on the wire.
    pub fn from_wire(wire: &mvds::Succession) -> Result<Self, SuccessionError> {
        if wire.certificate.is_empty() || wire.certificate.len() > MAX_CERTIFICATE {
            return Err(SuccessionError::Certificate(wire.certificate.len()));
        }
        if wire.signature.len() > MAX_SIGNATURE {
            return Err(SuccessionError::Signature(wire.signature.len()));
        }
        if UnixTime(wire.time) >= UnixTime::LIMIT {
            return Err(SuccessionError::Time(wire.time));
        }
        let destination = Fingerprint::from_slice(&wire.destination)?;
        let signer = match wire.signer.is_empty() {
            true => destination,
            false => Fingerprint::from_slice(&wire.signer)?,
        };
        // Copies, since slices would keep the whole payload that they came in.
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        let word = (!wire.signature.is_empty()).then(|| Word {
            signer,
            time: UnixTime(wire.time),
            signature: copy(&wire.signature),
        });
        Ok(Link { destination, certificate: copy(&wire.certificate), word })
    }

    /// The id by which it is acknowledged: as an MVDS message of the reserved group, at the time of the word, 0 without.
    pub fn id(&self) -> MessageId {
        Self::id_of(self.destination, &self.to_wire())
    }

    /// The same of fields that are no link; `None` where the destination or time cannot be.
    pub fn id_of_wire(wire: &mvds::Succession) -> Option<MessageId> {
        let destination = Fingerprint::from_slice(&wire.destination).ok()?;
        (UnixTime(wire.time) < UnixTime::LIMIT).then(|| Self::id_of(destination, wire))
    }

    fn id_of(destination: Fingerprint, wire: &mvds::Succession) -> MessageId {
        let mut hasher = IdHasher::new(successions_group(&destination), UnixTime(wire.time));
        hasher.update(&wire.encode_to_vec());
        hasher.finish()
    }
}

/// Names a state of chains: SHA-256 over [`encode`].
pub fn digest(links: &[Link]) -> [u8; 32] {
    Sha256::digest(encode(links)).into()
}

/// Links as they are stored and served.
pub fn encode(links: &[Link]) -> Vec<u8> {
    mvds::Successions { successions: links.iter().map(Link::to_wire).collect() }.encode_to_vec()
}

/// From [`encode`].
pub fn decode(bytes: &[u8]) -> Result<Vec<Link>, SuccessionError> {
    let list =
        mvds::Successions::decode(bytes).map_err(|error| SuccessionError::Protobuf(error.to_string()))?;
    if list.successions.len() > MAX_LINKS {
        return Err(SuccessionError::Count(list.successions.len()));
    }
    list.successions.iter().map(Link::from_wire).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Fingerprint = Fingerprint::V4([0xaa; 20]);

    fn link(signer: Fingerprint) -> Link {
        let word = Word { signer, time: UnixTime(1_795_236_000), signature: Bytes::from_static(b"sig") };
        Link { destination: FIRST, certificate: Bytes::from_static(b"cert"), word: Some(word) }
    }

    #[test]
    fn the_text_is_what_people_can_read() {
        let (signer, successor) = (Fingerprint::V4([0xbb; 20]), Fingerprint::V4([0xcc; 20]));
        let text = Statement { destination: FIRST, signer, successor, time: UnixTime(1_795_236_000) }.text();
        let (a, b, c) = ("AA".repeat(20), "BB".repeat(20), "CC".repeat(20));
        let expected = format!(
            "Waypost succession 1\nDestination: {a}\nSigner: {b}\nSuccessor: {c}\nTime: 2026-11-21T04:40:00Z\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn lists_come_back_as_they_were() {
        let update = Link { word: None, ..link(FIRST) };
        let links = vec![update, link(FIRST), link(Fingerprint::V4([0xbb; 20]))];
        assert_eq!(decode(&encode(&links)), Ok(links));
    }

    #[test]
    fn wrong_fields_are_refused_with_the_reason() {
        let broken = |change: fn(&mut mvds::Succession)| {
            let mut wire = link(FIRST).to_wire();
            change(&mut wire);
            Link::from_wire(&wire).unwrap_err()
        };
        assert_eq!(broken(|w| w.certificate = Bytes::new()), SuccessionError::Certificate(0));
        assert_eq!(
            broken(|w| w.certificate = vec![0; MAX_CERTIFICATE + 1].into()),
            SuccessionError::Certificate(MAX_CERTIFICATE + 1)
        );
        assert_eq!(broken(|w| w.signature = vec![0; 2049].into()), SuccessionError::Signature(2049));
        assert_eq!(broken(|w| w.time = 1 << 40), SuccessionError::Time(1 << 40));
        assert!(matches!(broken(|w| w.destination = Bytes::new()), SuccessionError::Id(_)));
        let many = vec![link(FIRST); MAX_LINKS + 1];
        assert_eq!(decode(&encode(&many)), Err(SuccessionError::Count(MAX_LINKS + 1)));
        assert!(matches!(decode(b"\xff"), Err(SuccessionError::Protobuf(_))));
    }
}
