//! Pages: which documents there are, newest first, where their content is, and which page is the next older one.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use waypost_protocol::ids::{GroupId, MessageId};

use crate::hash::ContentHash;
use crate::head::LogKey;
use crate::wire;

/// No page is longer, in bytes.
pub const MAX_PAGE: usize = 64 << 10;
/// No page lists more documents.
pub const MAX_ENTRIES: usize = 1_024;

/// Why bytes are no page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// It is longer than [`MAX_PAGE`].
    #[error("a page of {0} bytes, at most {MAX_PAGE} are allowed")]
    TooLong(usize),
    /// The protobuf does not decode.
    #[error("not the protobuf of a page: {0}")]
    Protobuf(String),
    /// A field is missing or has a wrong length.
    #[error("the page's {0} is missing or has a wrong length")]
    Field(&'static str),
    /// It is another log's.
    #[error("the page is of log {0}")]
    OtherLog(LogKey),
    /// No documents, or too many.
    #[error("a page of {0} documents, expected 1 to {MAX_ENTRIES}")]
    Entries(usize),
}

/// A running hash over the ids of a log, oldest first, and how many they are: what makes a log append-only.
///
/// The chain of no ids is 32 zero bytes; each id makes SHA-256("waypost log chain v1" ‖ chain before ‖ id) of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// How many ids.
    pub count: u64,
    /// The hash.
    pub hash: [u8; 32],
}

impl Chain {
    /// Of no ids.
    pub const EMPTY: Chain = Chain { count: 0, hash: [0; 32] };

    /// With one id more.
    #[must_use]
    pub fn then(self, id: &MessageId) -> Chain {
        let mut hasher = Sha256::new();
        hasher.update(b"waypost log chain v1");
        hasher.update(self.hash);
        hasher.update(id.as_bytes());
        Chain { count: self.count.saturating_add(1), hash: hasher.finalize().into() }
    }
}

/// What a log says of a document before it is fetched. Only the document's own bytes prove any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// Message id.
    pub id: MessageId,
    /// Collection.
    pub group: GroupId,
    /// Bytes in canonical encoding.
    pub size: u64,
}

/// Where a document's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In the page: the canonical encoding.
    Inline(Bytes),
    /// In the content store.
    At(ContentHash),
}

/// One document of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub described: Described,
    /// Where its bytes are.
    pub content: Content,
}

/// A page. Entries are kept oldest first, as they were appended; on the wire the newest comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Whose log it is of: no two logs share a page, so that each can remove its own.
    pub key: LogKey,
    /// Oldest first; at least one.
    pub entries: Vec<Entry>,
    /// The chain of everything that is older than this page.
    pub below: Chain,
    /// The next older page; `None` where nothing is below.
    pub tail: Option<ContentHash>,
}

impl Page {
    /// The chain with this page's documents.
    pub fn chain(&self) -> Chain {
        self.entries.iter().fold(self.below, |chain, entry| chain.then(&entry.described.id))
    }

    /// The chain when the log had `count` documents, if that lies within this page or at one of its ends.
    pub fn chain_at(&self, count: u64) -> Option<Chain> {
        let above = usize::try_from(count.checked_sub(self.below.count)?).ok()?;
        let ids = self.entries.get(..above)?.iter();
        Some(ids.fold(self.below, |chain, entry| chain.then(&entry.described.id)))
    }

    /// As protobuf, and its name.
    pub fn encode(&self) -> (Bytes, ContentHash) {
        let mut places = BTreeMap::new();
        let mut groups = Vec::new();
        let mut place_of = |group: &GroupId| {
            *places.entry(*group).or_insert_with(|| {
                groups.push(Bytes::copy_from_slice(group.as_bytes()));
                u32::try_from(groups.len() - 1).unwrap_or(u32::MAX)
            })
        };
        let pair = self.entries.iter().rev().map(|Entry { described, content }| {
            let (remote_hash, data, size) = match content {
                Content::Inline(data) => (Bytes::new(), data.clone(), 0),
                Content::At(hash) => (Bytes::copy_from_slice(&hash.0), Bytes::new(), described.size),
            };
            let local_hash = Bytes::copy_from_slice(described.id.as_bytes());
            wire::Pair { remote_hash, local_hash, data, size, group: place_of(&described.group) }
        });
        let pair = pair.collect();
        let below = (self.below != Chain::EMPTY).then(|| wire::Below {
            count: self.below.count,
            chain: Bytes::copy_from_slice(&self.below.hash),
        });
        let tail = self.tail.map(|hash| Bytes::copy_from_slice(&hash.0)).unwrap_or_default();
        let key = Bytes::copy_from_slice(&self.key.0);
        let bytes =
            Bytes::from(wire::RemoteLog { pair, tail, below, groups, head: None, key }.encode_to_vec());
        let hash = ContentHash::of(&bytes);
        (bytes, hash)
    }

    /// From protobuf.
    pub fn decode(bytes: Bytes) -> Result<Page, PageError> {
        if bytes.len() > MAX_PAGE {
            return Err(PageError::TooLong(bytes.len()));
        }
        let wire = wire::RemoteLog::decode(bytes).map_err(|error| PageError::Protobuf(error.to_string()))?;
        if wire.pair.is_empty() || wire.pair.len() > MAX_ENTRIES {
            return Err(PageError::Entries(wire.pair.len()));
        }
        let key = LogKey::from_slice(&wire.key).ok_or(PageError::Field("log key"))?;
        let below = match wire.below {
            None => Chain::EMPTY,
            Some(below) if below.count > 0 => {
                let hash = below.chain.as_ref().try_into().map_err(|_| PageError::Field("chain"))?;
                Chain { count: below.count, hash }
            }
            Some(_) => return Err(PageError::Field("count of older documents")),
        };
        let tail = ContentHash::from_slice(&wire.tail);
        if tail.is_some() != (below.count > 0) || (tail.is_none() && !wire.tail.is_empty()) {
            return Err(PageError::Field("next page"));
        }
        let entry = |pair: wire::Pair| {
            let id = MessageId::from_slice(&pair.local_hash).map_err(|_| PageError::Field("message id"))?;
            let group = usize::try_from(pair.group).ok().and_then(|at| wire.groups.get(at));
            let group = group.and_then(|group| GroupId::from_slice(group).ok());
            let group = group.ok_or(PageError::Field("group id"))?;
            let (content, size) = match (pair.remote_hash.is_empty(), pair.data.is_empty()) {
                (true, false) => {
                    let size = pair.data.len() as u64;
                    (Content::Inline(pair.data), size)
                }
                (false, true) => {
                    let hash = ContentHash::from_slice(&pair.remote_hash);
                    (Content::At(hash.ok_or(PageError::Field("content hash"))?), pair.size)
                }
                _ => return Err(PageError::Field("content")),
            };
            Ok(Entry { described: Described { id, group, size }, content })
        };
        let entries = wire.pair.into_iter().rev().map(entry).collect::<Result<Vec<_>, _>>()?;
        if below.count.checked_add(entries.len() as u64).is_none() {
            return Err(PageError::Field("count of older documents"));
        }
        Ok(Page { key, entries, below, tail })
    }
}
