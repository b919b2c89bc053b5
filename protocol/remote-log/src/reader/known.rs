//! What a reader remembers of a log from one round to the next, as bytes for whoever keeps it.

use bytes::Bytes;
use prost::Message as _;
use waypost_protocol::ids::{GroupId, MessageId};

use crate::hash::ContentHash;
use crate::head::{Head, LogId};
use crate::page::{Chain, Described};

/// Logs that are remembered for one key; the one that was not shown for longest is forgotten first.
pub const MAX_LOGS: usize = 16;
/// Documents that are tried again, for one log; the oldest is given up first.
pub const MAX_OWED: usize = 256;

/// The bytes are none that [`Memory::encode`] made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what was remembered of a log does not read: {0}; it is read again from its beginning")]
pub struct MemoryError(String);

/// What is known of one key's logs: usually one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The last shown comes last.
    logs: Vec<KnownLog>,
}

/// One log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLog {
    /// Which.
    pub log: LogId,
    /// Of the newest head accepted.
    pub sequence: u64,
    /// All its documents.
    pub chain: Chain,
    /// Its newest page.
    pub root: ContentHash,
    /// Everything up to here was looked at.
    pub floor: Chain,
    /// The next page to be read, and the chain that it must end with; `None` where all is read.
    pub walk: Option<(ContentHash, Chain)>,
    /// What a walk that was given up promised; the present one must pass through it.
    pub witness: Option<Chain>,
    /// What could not be taken, and is tried again.
    pub owed: Vec<Owed>,
    /// It contradicted itself, and nothing of it is read any more.
    pub forked: bool,
}

/// A document that could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// Which.
    pub described: Described,
    /// Where: its content, or the page that has it inline.
    pub hash: ContentHash,
    /// Where `hash` is a page's: what is below that page. Should it be written anew, the log is read again from there.
    pub below: Option<Chain>,
}

impl KnownLog {
    /// Remembers what could not be taken. Whether that is new.
    pub(super) fn owe(&mut self, owed: Owed) -> bool {
        if let Some(known) = self.owed.iter_mut().find(|known| known.described.id == owed.described.id) {
            return std::mem::replace(known, owed) != owed;
        }
        if self.owed.len() >= MAX_OWED {
            self.owed.remove(0);
        }
        self.owed.push(owed);
        true
    }

    /// It is there, or not wanted any more. Whether it was owed.
    pub(super) fn settle(&mut self, id: &MessageId) -> bool {
        let before = self.owed.len();
        self.owed.retain(|owed| owed.described.id != *id);
        self.owed.len() != before
    }
}

impl Memory {
    /// The logs, the last shown last.
    pub fn logs(&self) -> &[KnownLog] {
        &self.logs
    }

    pub(super) fn find(&self, log: &LogId) -> Option<&KnownLog> {
        self.logs.iter().find(|known| known.log == *log)
    }

    pub(super) fn find_mut(&mut self, log: &LogId) -> Option<&mut KnownLog> {
        self.logs.iter_mut().find(|known| known.log == *log)
    }

    /// What is known of the head's log; a new one begins with nothing.
    pub(super) fn find_or_add(&mut self, head: &Head) -> &mut KnownLog {
        let known = match self.logs.iter().position(|known| known.log == head.log) {
            Some(at) => self.logs.remove(at),
            None => KnownLog {
                log: head.log,
                sequence: 0,
                chain: Chain::EMPTY,
                root: ContentHash([0; 32]),
                floor: Chain::EMPTY,
                walk: None,
                witness: None,
                owed: Vec::new(),
                forked: false,
            },
        };
        if self.logs.len() >= MAX_LOGS {
            self.logs.remove(0);
        }
        let at = self.logs.len();
        self.logs.push(known);
        &mut self.logs[at]
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        let log = |known: &KnownLog| WireLog {
            log: copy(&known.log.0),
            sequence: known.sequence,
            chain: Some(wire_mark(&known.chain)),
            root: copy(&known.root.0),
            floor: Some(wire_mark(&known.floor)),
            walk_page: known.walk.map(|(page, _)| copy(&page.0)).unwrap_or_default(),
            walk_chain: known.walk.map(|(_, chain)| wire_mark(&chain)),
            witness: known.witness.as_ref().map(wire_mark),
            owed: known.owed.iter().map(wire_owed).collect(),
            forked: known.forked,
        };
        WireMemory { logs: self.logs.iter().map(log).collect() }.encode_to_vec()
    }

    /// From [`Memory::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Memory, MemoryError> {
        let wire = WireMemory::decode(bytes).map_err(|error| MemoryError(error.to_string()))?;
        let logs =
            wire.logs.into_iter().map(|log| parse_log(log).ok_or_else(|| MemoryError("a field".into())));
        Ok(Memory { logs: logs.collect::<Result<_, _>>()? })
    }
}

fn wire_mark(chain: &Chain) -> WireMark {
    WireMark { count: chain.count, chain: Bytes::copy_from_slice(&chain.hash) }
}

fn wire_owed(owed: &Owed) -> WireOwed {
    let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    WireOwed {
        id: copy(owed.described.id.as_bytes()),
        group: copy(owed.described.group.as_bytes()),
        size: owed.described.size,
        hash: copy(&owed.hash.0),
        below: owed.below.as_ref().map(wire_mark),
    }
}

fn parse_log(wire: WireLog) -> Option<KnownLog> {
    let mark = |wire: WireMark| Some(Chain { count: wire.count, hash: wire.chain.as_ref().try_into().ok()? });
    let owed = |wire: WireOwed| {
        let described = Described {
            id: MessageId::from_slice(&wire.id).ok()?,
            group: GroupId::from_slice(&wire.group).ok()?,
            size: wire.size,
        };
        let below = match wire.below {
            Some(below) => Some(mark(below)?),
            None => None,
        };
        Some(Owed { described, hash: ContentHash::from_slice(&wire.hash)?, below })
    };
    let walk = match wire.walk_chain {
        Some(chain) => Some((ContentHash::from_slice(&wire.walk_page)?, mark(chain)?)),
        None => None,
    };
    let witness = match wire.witness {
        Some(witness) => Some(mark(witness)?),
        None => None,
    };
    Some(KnownLog {
        log: LogId::from_slice(&wire.log)?,
        sequence: wire.sequence,
        chain: mark(wire.chain?)?,
        root: ContentHash::from_slice(&wire.root)?,
        floor: mark(wire.floor?)?,
        walk,
        witness,
        owed: wire.owed.into_iter().map(owed).collect::<Option<_>>()?,
        forked: wire.forked,
    })
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireMemory {
    #[prost(message, repeated, tag = "1")]
    logs: Vec<WireLog>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireLog {
    #[prost(bytes = "bytes", tag = "1")]
    log: Bytes,
    #[prost(uint64, tag = "2")]
    sequence: u64,
    #[prost(message, optional, tag = "3")]
    chain: Option<WireMark>,
    #[prost(bytes = "bytes", tag = "4")]
    root: Bytes,
    #[prost(message, optional, tag = "5")]
    floor: Option<WireMark>,
    #[prost(bytes = "bytes", tag = "6")]
    walk_page: Bytes,
    #[prost(message, optional, tag = "7")]
    walk_chain: Option<WireMark>,
    #[prost(message, optional, tag = "8")]
    witness: Option<WireMark>,
    #[prost(message, repeated, tag = "9")]
    owed: Vec<WireOwed>,
    #[prost(bool, tag = "10")]
    forked: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireMark {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(bytes = "bytes", tag = "2")]
    chain: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireOwed {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    group: Bytes,
    #[prost(uint64, tag = "3")]
    size: u64,
    #[prost(bytes = "bytes", tag = "4")]
    hash: Bytes,
    #[prost(message, optional, tag = "5")]
    below: Option<WireMark>,
}
