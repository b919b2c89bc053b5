//! A document: an immutable MVDS message, named by its hash.

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest, Sha256};

use crate::ids::{GroupId, IdError, MessageId};
use crate::mvds;
use crate::time::UnixTime;

/// Why bytes are not a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The protobuf does not decode.
    #[error("not an MVDS message: {0}")]
    Protobuf(String),
    /// The group id is not 32 bytes long.
    #[error(transparent)]
    Group(#[from] IdError),
    /// The timestamp is negative or 2^40 or later.
    #[error("timestamp {0} is outside 0 ≤ t < 2^40 seconds")]
    Timestamp(i64),
    /// The encoding is not the one that this crate makes, so that its length says nothing.
    #[error("not in canonical encoding")]
    NotCanonical,
}

/// What names a document before its body is there: group, time and size of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// Message id of the whole.
    pub id: MessageId,
    /// Collection.
    pub group: GroupId,
    /// Unix seconds, rounded to the hour by whoever wrote it.
    pub timestamp: UnixTime,
    /// Bytes of the body.
    pub size: u64,
}

/// A whole document. Holding one means that its id is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    id: MessageId,
    group: GroupId,
    timestamp: UnixTime,
    body: Bytes,
}

impl Document {
    /// Makes a document, computing its id. `timestamp` must be below [`UnixTime::LIMIT`].
    pub fn new(group: GroupId, timestamp: UnixTime, body: Bytes) -> Result<Self, DocumentError> {
        let timestamp = parse_timestamp(i64::try_from(timestamp.0).unwrap_or(i64::MAX))?;
        let mut hasher = IdHasher::new(group, timestamp);
        hasher.update(&body);
        Ok(Document { id: hasher.finish(), group, timestamp, body })
    }

    /// From the message of a payload; metadata is dropped (the envelope has it).
    pub fn from_message(message: mvds::Message) -> Result<Self, DocumentError> {
        let group = GroupId::from_slice(&message.group_id)?;
        Self::new(group, parse_timestamp(message.timestamp)?, message.body)
    }

    /// As the message of a payload, without metadata: the canonical form.
    pub fn to_message(&self) -> mvds::Message {
        mvds::Message {
            group_id: Bytes::copy_from_slice(self.group.as_bytes()),
            timestamp: i64::try_from(self.timestamp.0).unwrap_or(i64::MAX),
            body: self.body.clone(),
            metadata: None,
        }
    }

    /// The canonical encoding that is uploaded: [`prefix`] then the body.
    pub fn encode(&self) -> Vec<u8> {
        self.to_message().encode_to_vec()
    }

    /// From the canonical encoding.
    pub fn decode(bytes: Bytes) -> Result<Self, DocumentError> {
        let whole = bytes.len();
        let message =
            mvds::Message::decode(bytes).map_err(|error| DocumentError::Protobuf(error.to_string()))?;
        let document = Self::from_message(message)?;
        if document.to_message().encoded_len() != whole {
            return Err(DocumentError::NotCanonical);
        }
        Ok(document)
    }

    /// Message id: SHA-256 over all the rest.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Collection.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Unix seconds.
    pub fn timestamp(&self) -> UnixTime {
        self.timestamp
    }

    /// The envelope.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Id, group, time and size.
    pub fn description(&self) -> Description {
        Description {
            id: self.id,
            group: self.group,
            timestamp: self.timestamp,
            size: self.body.len() as u64,
        }
    }
}

/// Checks a timestamp off the wire: 0 ≤ t < 2^40.
pub fn parse_timestamp(seconds: i64) -> Result<UnixTime, DocumentError> {
    match u64::try_from(seconds) {
        Ok(value) if value < UnixTime::LIMIT.0 => Ok(UnixTime(value)),
        _ => Err(DocumentError::Timestamp(seconds)),
    }
}

/// The bytes of the canonical encoding that come before the body, so that a large body can be streamed after them.
pub fn prefix(description: &Description) -> Vec<u8> {
    let head = mvds::Message {
        group_id: Bytes::copy_from_slice(description.group.as_bytes()),
        timestamp: i64::try_from(description.timestamp.0).unwrap_or(i64::MAX),
        body: Bytes::new(),
        metadata: None,
    };
    let mut out = head.encode_to_vec();
    if description.size > 0 {
        prost::encoding::encode_key(6003, prost::encoding::WireType::LengthDelimited, &mut out);
        prost::encoding::encode_varint(description.size, &mut out);
    }
    out
}

/// Reads a [`prefix`]: group, timestamp, size of the body, and the prefix's own length.
///
/// `head` is the encoding's first [`MAX_PREFIX`] bytes, or all of it where it is shorter.
pub fn parse_prefix(head: &[u8]) -> Result<(GroupId, UnixTime, u64, usize), DocumentError> {
    use prost::encoding::{WireType, decode_key, decode_varint};
    let wrong = |error: prost::DecodeError| DocumentError::Protobuf(error.to_string());
    let mut rest = head;
    let mut group = None;
    let mut timestamp = 0i64;
    let mut size = 0;
    while !rest.is_empty() {
        let (tag, wire) = decode_key(&mut rest).map_err(wrong)?;
        match (tag, wire) {
            (6001, WireType::LengthDelimited) if group.is_none() => {
                let length = decode_varint(&mut rest).map_err(wrong)?;
                let bytes = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
                let (bytes, after) = bytes.ok_or(DocumentError::NotCanonical)?;
                group = Some(GroupId::from_slice(bytes)?);
                rest = after;
            }
            (6002, WireType::Varint) if timestamp == 0 => {
                timestamp = i64::try_from(decode_varint(&mut rest).map_err(wrong)?).unwrap_or(-1);
            }
            (6003, WireType::LengthDelimited) => {
                size = decode_varint(&mut rest).map_err(wrong)?;
                break;
            }
            _ => return Err(DocumentError::NotCanonical),
        }
    }
    let description = Description {
        id: MessageId([0; 32]),
        group: group.ok_or(DocumentError::NotCanonical)?,
        timestamp: parse_timestamp(timestamp)?,
        size,
    };
    let length = head.len() - rest.len();
    if head.get(..length) != Some(prefix(&description).as_slice()) {
        return Err(DocumentError::NotCanonical);
    }
    Ok((description.group, description.timestamp, size, length))
}

/// No [`prefix`] is longer than this: 3 keys, 32 bytes of group, three varints.
pub const MAX_PREFIX: usize = 3 * 3 + 1 + 32 + 10 + 10;

/// Computes a message id while the body streams by (2/MVDS, "Message Identifiers").
#[derive(Clone)]
pub struct IdHasher(Sha256);

impl IdHasher {
    /// Begins with what comes before the body.
    pub fn new(group: GroupId, timestamp: UnixTime) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"MESSAGE_ID");
        hasher.update(group.as_bytes());
        hasher.update(timestamp.0.to_le_bytes());
        IdHasher(hasher)
    }

    /// The next bytes of the body.
    pub fn update(&mut self, body: &[u8]) {
        self.0.update(body);
    }

    /// The id, after the last byte.
    pub fn finish(self) -> MessageId {
        MessageId(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(body: &'static [u8]) -> Document {
        Document::new(GroupId([7; 32]), UnixTime(1_800_000_000), Bytes::from_static(body)).unwrap()
    }

    #[test]
    fn the_id_is_the_hash_that_the_rfc_names() {
        let mut bytes = b"MESSAGE_ID".to_vec();
        bytes.extend([7; 32]);
        bytes.extend(1_800_000_000u64.to_le_bytes());
        bytes.extend(b"hello");
        assert_eq!(sample(b"hello").id().0, <[u8; 32]>::from(Sha256::digest(&bytes)));
    }

    #[test]
    fn the_prefix_is_the_encoding_up_to_the_body() {
        for body in [&b""[..], b"x", b"hello there"] {
            let document = sample(Box::leak(body.to_vec().into_boxed_slice()));
            let mut joined = prefix(&document.description());
            let prefix_length = joined.len();
            joined.extend(document.body());
            assert_eq!(joined, document.encode());
            assert_eq!(Document::decode(joined.clone().into()).unwrap(), document);
            let parsed = parse_prefix(&joined[..joined.len().min(MAX_PREFIX)]).unwrap();
            assert_eq!(
                parsed,
                (document.group(), document.timestamp(), document.body().len() as u64, prefix_length)
            );
        }
    }

    #[test]
    fn wrong_messages_are_refused_with_the_reason() {
        let mut message = sample(b"x").to_message();
        message.timestamp = 1 << 40;
        assert_eq!(Document::from_message(message.clone()), Err(DocumentError::Timestamp(1 << 40)));
        message.timestamp = -1;
        assert_eq!(Document::from_message(message.clone()), Err(DocumentError::Timestamp(-1)));
        message.timestamp = 0;
        message.group_id = Bytes::from_static(&[1; 33]);
        assert!(matches!(Document::from_message(message), Err(DocumentError::Group(_))));
        let mut bytes = sample(b"x").encode();
        bytes.extend([0x92, 0xf7, 0x02, 0x01]);
        assert!(Document::decode(bytes.into()).is_err());
    }
}
