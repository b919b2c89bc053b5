//! The destination API's shapes, shared by the server and its clients. `destination/openapi.json` is its specification.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{Fingerprint, IdError, MessageId, PeerKey};
use crate::mvds;
use crate::time::UnixTime;

/// Version of the API: the first part of each path.
pub const VERSION: u32 = 1;
/// Server information, JSON, with an `ETag`.
pub const INFO: &str = "/v1/info";
/// The OpenPGP certificates, binary: the first one, then its successors.
pub const CERTIFICATE: &str = "/v1/certificate";
/// Response header of any answer: [`Info::chain`], so that a client need not ask for that to know of a new key.
pub const CHAIN: &str = "waypost-chain";
/// [`mvds::Successions`]: the certificates, each with the word of the one before it.
pub const SUCCESSIONS: &str = "/v1/successions";
/// `POST` of ids: which of them the destination holds, and their confirmations.
pub const HAVE: &str = "/v1/have";
/// `PUT` of one document under its id, in canonical encoding.
pub const DOCUMENTS: &str = "/v1/documents";
/// `POST` of a stream of documents.
pub const BATCH: &str = "/v1/batch";
/// `POST` of ids, or `GET` with `?since=`: confirmations.
pub const CONFIRMATIONS: &str = "/v1/confirmations";
/// Uploads that go on later, by tus 1.0: `POST` begins one, `HEAD` and `PATCH` go on under the document's id.
pub const UPLOADS: &str = "/v1/uploads";
/// Header of an upload, `?1`, by which a gateway says that its remote log lists the document, so that the destination keeps
/// it as content too. In a batch [`LISTED_BIT`] says it of each.
pub const LISTED: &str = "waypost-listed";
/// Set in a document's length in a batch as [`LISTED`] is for one; so lengths are below it.
pub const LISTED_BIT: u32 = 1 << 31;
/// The version of tus that is spoken.
pub const TUS_VERSION: &str = "1.0.0";
/// Media type of bytes at an offset (tus 1.0).
pub const TUS_STREAM: &str = "application/offset+octet-stream";
/// `POST` of content hashes: which of them are there.
pub const CONTENT_HAVE: &str = "/v1/content/have";
/// `POST` of content hashes: the bytes of those that are small, each after its length as a big-endian u32, in the order
/// asked. Length 0: it is not there, not small, or does not fit any more; ask for it by itself.
pub const CONTENT_GET: &str = "/v1/content/get";
/// Media type of the answer.
pub const CONTENTS_STREAM: &str = "application/vnd.waypost.contents";
/// What is small for it, in bytes, and how many bytes an answer has at most beside the lengths.
pub const SMALL_CONTENT: u64 = 64 << 10;
/// See [`SMALL_CONTENT`].
pub const MAX_CONTENTS: u64 = 1 << 20;
/// `PUT` and `GET` of a remote log's content under its SHA-256, `GET` with `?from=BYTE`.
pub const CONTENT: &str = "/v1/content";
/// `PUT` and `GET` of a remote log's head under its key.
pub const NAMES: &str = "/v1/names";
/// Media type of an [`Answer`] in protobuf; clients that do not accept it get JSON.
pub const PROTOBUF: &str = "application/x-protobuf";
/// Media type of one document in canonical encoding.
pub const DOCUMENT: &str = "application/vnd.waypost.document";
/// Media type of a batch: documents, each after its length as a big-endian u32, see [`LISTED_BIT`].
pub const DOCUMENTS_STREAM: &str = "application/vnd.waypost.documents";
/// Media type of ids, 32 bytes each.
pub const IDS: &str = "application/vnd.waypost.ids";
/// At most so many ids in one request.
pub const MAX_IDS: usize = 8_192;

/// What `GET /v1/info` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// API versions that the server speaks.
    pub versions: Vec<u32>,
    /// First fingerprint: the destination's name.
    pub fingerprint: Fingerprint,
    /// A name for people.
    pub name: String,
    /// The largest document in bytes, in canonical encoding.
    pub max_document: u64,
    /// At most so many documents in a batch.
    pub max_batch_documents: u32,
    /// At most so many bytes in a batch.
    pub max_batch_bytes: u64,
    /// Whether uploads can go on later ([`UPLOADS`]).
    #[serde(default)]
    pub resumable: bool,
    /// Key of the remote log of documents that the destination writes itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PeerKey>,
    /// Changes with the answer of [`SUCCESSIONS`]; empty where the server has none.
    #[serde(default)]
    pub chain: String,
    /// The server's time, for clients that booted in 1970.
    pub time: UnixTime,
}

/// The answer to uploads and to questions.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    /// Signed verdicts, new or repeated.
    #[prost(message, repeated, tag = "1")]
    pub confirmations: Vec<mvds::Confirmation>,
    /// Documents that got no verdict, and why.
    #[prost(message, repeated, tag = "2")]
    pub failures: Vec<Failure>,
    /// For `have`: one bit per id asked, most significant first; set where the destination holds the document.
    #[prost(bytes = "bytes", tag = "3")]
    pub held: Bytes,
    /// For `?since=`: where to go on.
    #[prost(uint64, tag = "4")]
    pub cursor: u64,
}

/// A document that got no verdict.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Failure {
    /// Its place in the batch, from 0.
    #[prost(uint32, tag = "1")]
    pub index: u32,
    /// Its id, where that could be computed.
    #[prost(bytes = "bytes", tag = "2")]
    pub id: Bytes,
    /// A number of [`FailureCode`].
    #[prost(uint32, tag = "3")]
    pub code: u32,
    /// For people.
    #[prost(string, tag = "4")]
    pub detail: String,
}

/// Why a document got no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureCode {
    /// The bytes are no document in canonical encoding, or not the one that the path names. Sending it again cannot help.
    Malformed,
    /// It is addressed to another destination. Sending it again cannot help.
    WrongDestination,
    /// The server failed. The same document may be sent later.
    Server,
    /// There is no room. The same document may be sent later.
    Full,
}

impl FailureCode {
    /// The number in [`Failure::code`].
    pub fn code(self) -> u32 {
        match self {
            FailureCode::Malformed => 1,
            FailureCode::WrongDestination => 2,
            FailureCode::Server => 3,
            FailureCode::Full => 4,
        }
    }

    /// From the number; unknown ones count as the server's failure, which may be tried again.
    pub fn from_code(code: u32) -> Self {
        match code {
            1 => FailureCode::Malformed,
            2 => FailureCode::WrongDestination,
            4 => FailureCode::Full,
            _ => FailureCode::Server,
        }
    }

    /// Whether sending the same document later may help.
    pub fn is_temporary(self) -> bool {
        matches!(self, FailureCode::Server | FailureCode::Full)
    }
}

/// Ids as the body of a request.
pub fn encode_ids<'a>(ids: impl IntoIterator<Item = &'a MessageId>) -> Vec<u8> {
    ids.into_iter().flat_map(|id| id.0).collect()
}

/// Ids from the body of a request; refuses a length that is no multiple of 32.
pub fn decode_ids(bytes: &[u8]) -> Result<Vec<MessageId>, IdError> {
    bytes.chunks(32).map(MessageId::from_slice).collect()
}

/// A bitmap for [`Answer::held`].
pub fn encode_bitmap(bits: &[bool]) -> Bytes {
    let byte =
        |chunk: &[bool]| chunk.iter().enumerate().fold(0, |sum, (at, &bit)| sum | u8::from(bit) << (7 - at));
    bits.chunks(8).map(byte).collect()
}

/// Whether bit `index` of a bitmap is set; beyond its end nothing is.
pub fn bit(bitmap: &[u8], index: usize) -> bool {
    bitmap.get(index / 8).is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bitmap_holds_its_bits(bits: Vec<bool>) {
            let bitmap = encode_bitmap(&bits);
            for (at, &expected) in bits.iter().enumerate() {
                prop_assert_eq!(bit(&bitmap, at), expected);
            }
            prop_assert!(!bit(&bitmap, bits.len().next_multiple_of(8)));
        }
    }

    #[test]
    fn ids_of_a_broken_length_are_refused() {
        let ids = vec![MessageId([1; 32]), MessageId([2; 32])];
        let bytes = encode_ids(&ids);
        assert_eq!(decode_ids(&bytes), Ok(ids));
        assert!(decode_ids(&bytes[..63]).is_err());
    }
}
