//! The envelope: a document's body. A small clear header, then the sealed OpenPGP message.
//!
//! Layout: `57 50 01` (the letters "WP" and the format version), the header's length as a big-endian u16, the
//! header (protobuf), the sealed bytes up to the end of the body. The document id covers all of it.

use bytes::Bytes;
use prost::Message as _;

use crate::ids::{Fingerprint, IdError, MessageId, RecordTag};

const MAGIC: [u8; 2] = *b"WP";
/// The format version of this crate's envelopes.
pub const FORMAT: u8 = 1;
/// Bytes before the header: magic, format version, header's length.
pub const FIXED: usize = 5;
/// The longest header, in bytes: with it, header and first chunk fit one Bluetooth frame of 4 KiB.
pub const MAX_HEADER: usize = 3 * 1024;
/// At most so many parents (design §2).
pub const MAX_PARENTS: usize = 64;
/// At most so many replaced revisions.
pub const MAX_REPLACES: usize = 16;

/// Why a body is no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It does not begin with "WP".
    #[error("body does not begin with the envelope's magic bytes")]
    Magic,
    /// A format version that this crate does not know.
    #[error("envelope format {0}, this program knows {FORMAT}")]
    Format(u8),
    /// It ends within the header.
    #[error("envelope ends within its header")]
    Short,
    /// The header is longer than [`MAX_HEADER`].
    #[error("envelope header of {0} bytes, at most {MAX_HEADER} are allowed")]
    HeaderTooLong(usize),
    /// The header's protobuf does not decode.
    #[error("envelope header: {0}")]
    Protobuf(String),
    /// A field has a wrong length.
    #[error("envelope header: {0}")]
    Id(#[from] IdError),
    /// Too many ids in a list.
    #[error("envelope header names {found} {what}, at most {most} are allowed")]
    TooMany {
        /// Which list.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many may be.
        most: usize,
    },
    /// The priority is above 9.
    #[error("priority {0}, expected 0 to 9")]
    Priority(u32),
}

/// What a gateway may see of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The destination's first fingerprint.
    pub destination: Fingerprint,
    /// Links the revisions of one record.
    pub record: Option<RecordTag>,
    /// Depth of the revision, 0 for the first.
    pub revision: u64,
    /// Revisions of the same record that this one replaces.
    pub replaces: Vec<MessageId>,
    /// Documents that an application should see before this one.
    pub parents: Vec<MessageId>,
    /// Relayed to whoever is connected, never stored, never acknowledged.
    pub ephemeral: bool,
    /// Seconds after which nobody wants it any more, counted by monotonic clocks; 0: for ever.
    pub lifetime: u64,
    /// 0 (ordinary) to 9, compared only within one depositor and collection.
    pub priority: u8,
}

impl Header {
    /// A header with nothing but a destination.
    pub fn to(destination: Fingerprint) -> Self {
        Header {
            destination,
            record: None,
            revision: 0,
            replaces: Vec::new(),
            parents: Vec::new(),
            ephemeral: false,
            lifetime: 0,
            priority: 0,
        }
    }

    /// Whether it is a revision of a record.
    pub fn is_revision(&self) -> bool {
        self.record.is_some() || self.revision > 0 || !self.replaces.is_empty()
    }

    /// The bytes that come before the sealed message.
    pub fn encode(&self) -> Result<Vec<u8>, EnvelopeError> {
        let wire = WireHeader {
            destination: self.destination.as_bytes().to_vec(),
            record: self.record.map(|tag| tag.0.to_vec()).unwrap_or_default(),
            revision: self.revision,
            replaces: self.replaces.iter().map(|id| id.0.to_vec()).collect(),
            parents: self.parents.iter().map(|id| id.0.to_vec()).collect(),
            ephemeral: self.ephemeral,
            lifetime: self.lifetime,
            priority: u32::from(self.priority),
        };
        wire.parse()?;
        let header = wire.encode_to_vec();
        let length = match u16::try_from(header.len()) {
            Ok(length) if header.len() <= MAX_HEADER => length,
            _ => return Err(EnvelopeError::HeaderTooLong(header.len())),
        };
        let mut out = Vec::with_capacity(FIXED + header.len());
        out.extend(MAGIC);
        out.push(FORMAT);
        out.extend(length.to_be_bytes());
        out.extend(header);
        Ok(out)
    }
}

/// Reads the header at the start of a body: the header, and where the sealed bytes begin.
///
/// `body` may be only the body's beginning, as long as the header is in it.
pub fn parse(body: &[u8]) -> Result<(Header, usize), EnvelopeError> {
    let (fixed, rest) = body.split_at_checked(FIXED).ok_or(EnvelopeError::Short)?;
    if fixed[..2] != MAGIC {
        return Err(EnvelopeError::Magic);
    }
    if fixed[2] != FORMAT {
        return Err(EnvelopeError::Format(fixed[2]));
    }
    let length = usize::from(u16::from_be_bytes([fixed[3], fixed[4]]));
    if length > MAX_HEADER {
        return Err(EnvelopeError::HeaderTooLong(length));
    }
    let header = rest.get(..length).ok_or(EnvelopeError::Short)?;
    let wire = WireHeader::decode(header).map_err(|error| EnvelopeError::Protobuf(error.to_string()))?;
    Ok((wire.parse()?, FIXED + length))
}

/// Header and sealed bytes as one body.
pub fn assemble(header: &Header, sealed: &[u8]) -> Result<Bytes, EnvelopeError> {
    let mut body = header.encode()?;
    body.extend_from_slice(sealed);
    Ok(body.into())
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireHeader {
    #[prost(bytes = "vec", tag = "1")]
    destination: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    record: Vec<u8>,
    #[prost(uint64, tag = "3")]
    revision: u64,
    #[prost(bytes = "vec", repeated, tag = "4")]
    replaces: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "5")]
    parents: Vec<Vec<u8>>,
    #[prost(bool, tag = "6")]
    ephemeral: bool,
    #[prost(uint64, tag = "7")]
    lifetime: u64,
    #[prost(uint32, tag = "8")]
    priority: u32,
}

impl WireHeader {
    fn parse(&self) -> Result<Header, EnvelopeError> {
        let ids = |what, list: &[Vec<u8>], most| {
            if list.len() > most {
                return Err(EnvelopeError::TooMany { what, found: list.len(), most });
            }
            list.iter().map(|id| MessageId::from_slice(id).map_err(EnvelopeError::from)).collect()
        };
        Ok(Header {
            destination: Fingerprint::from_slice(&self.destination)?,
            record: match self.record.as_slice() {
                [] => None,
                tag => Some(RecordTag::from_slice(tag)?),
            },
            revision: self.revision,
            replaces: ids("replaced revisions", &self.replaces, MAX_REPLACES)?,
            parents: ids("parents", &self.parents, MAX_PARENTS)?,
            ephemeral: self.ephemeral,
            lifetime: self.lifetime,
            priority: match u8::try_from(self.priority) {
                Ok(priority) if priority <= 9 => priority,
                _ => return Err(EnvelopeError::Priority(self.priority)),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> impl Strategy<Value = MessageId> {
        any::<[u8; 32]>().prop_map(MessageId)
    }

    prop_compose! {
        fn any_header()(
            destination in prop_oneof![
                any::<[u8; 20]>().prop_map(Fingerprint::V4),
                any::<[u8; 32]>().prop_map(Fingerprint::V6),
            ],
            record in proptest::option::of(any::<[u8; 16]>().prop_map(RecordTag)),
            revision: u64,
            replaces in proptest::collection::vec(id(), 0..=MAX_REPLACES),
            parents in proptest::collection::vec(id(), 0..=MAX_PARENTS),
            ephemeral: bool,
            lifetime: u64,
            priority in 0u8..=9,
        ) -> Header {
            Header { destination, record, revision, replaces, parents, ephemeral, lifetime, priority }
        }
    }

    proptest! {
        #[test]
        fn a_header_comes_back_as_it_was(header in any_header(), sealed: Vec<u8>) {
            let body = assemble(&header, &sealed).unwrap();
            let (parsed, at) = parse(&body).unwrap();
            prop_assert_eq!(parsed, header);
            prop_assert_eq!(&body[at..], &sealed[..]);
        }

        #[test]
        fn any_bytes_are_an_envelope_or_an_error(bytes: Vec<u8>, cut in 0usize..200) {
            let _ = parse(&bytes);
            let mut body = assemble(&Header::to(Fingerprint::V4([1; 20])), b"sealed").unwrap().to_vec();
            body.truncate(cut);
            let _ = parse(&body);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parse(b"WP"), Err(EnvelopeError::Short));
        assert_eq!(parse(b"XX\x01\0\0"), Err(EnvelopeError::Magic));
        assert_eq!(parse(b"WP\x02\0\0"), Err(EnvelopeError::Format(2)));
        assert_eq!(parse(b"WP\x01\xff\xff"), Err(EnvelopeError::HeaderTooLong(65_535)));
        assert_eq!(parse(b"WP\x01\0\x05abc"), Err(EnvelopeError::Short));
        let mut header = Header::to(Fingerprint::V4([1; 20]));
        header.priority = 10;
        assert_eq!(header.encode(), Err(EnvelopeError::Priority(10)));
    }
}
