//! Protobuf of pages and heads: 3/REMOTE-LOG's `RemoteLog`, with fields from 5100 on that plain readers pass over.

use bytes::Bytes;

/// 3/REMOTE-LOG "RemoteLog": a page, or, without pairs and with `head`, a head.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RemoteLog {
    /// Newest first.
    #[prost(message, repeated, tag = "1")]
    pub(crate) pair: Vec<Pair>,
    /// The next page, which is older: its content hash; empty at the end.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) tail: Bytes,
    /// Extension, pages: what lies below this page.
    #[prost(message, optional, tag = "5100")]
    pub(crate) below: Option<Below>,
    /// Extension, pages: group ids that pairs refer to by their place.
    #[prost(bytes = "bytes", repeated, tag = "5101")]
    pub(crate) groups: Vec<Bytes>,
    /// Extension, heads.
    #[prost(message, optional, tag = "5102")]
    pub(crate) head: Option<SignedHead>,
    /// Extension, pages: the key of the log.
    #[prost(bytes = "bytes", tag = "5103")]
    pub(crate) key: Bytes,
}

/// 3/REMOTE-LOG "Pair".
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Pair {
    /// Where the content is in the content store; empty where `data` has it.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) remote_hash: Bytes,
    /// Message id.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) local_hash: Bytes,
    /// The content itself; empty where `remote_hash` says where it is.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) data: Bytes,
    /// Extension: bytes of the content, where `data` does not say it.
    #[prost(uint64, tag = "5100")]
    pub(crate) size: u64,
    /// Extension: place of the group id in the page's `groups`.
    #[prost(uint32, tag = "5101")]
    pub(crate) group: u32,
}

/// How many entries are below a page, and their chain.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Below {
    #[prost(uint64, tag = "1")]
    pub(crate) count: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) chain: Bytes,
}

/// What a head says beside the root page's hash, which is its `tail`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SignedHead {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) log: Bytes,
    #[prost(uint64, tag = "3")]
    pub(crate) sequence: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) count: u64,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) chain: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) bookmark: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    pub(crate) signature: Bytes,
}
