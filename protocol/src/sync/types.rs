//! What goes into the engine and comes out of it.

use std::time::Duration;

use bytes::Bytes;

use super::Persist;
use crate::advertising::AdvertisingKey;
use crate::confirmation::Confirmation;
use crate::envelope::Header;
use crate::ids::{Fingerprint, GroupId, IdError, MessageId, PeerKey, Seq, StoreId};
use crate::moving::WifiOffer;
use crate::mvds;
use crate::refusal::{Goodbye, Reason};
use crate::succession::Link;
use crate::time::Monotonic;

/// Names one [`Output::Persist`] until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What happens to a conversation.
#[derive(Debug)]
pub enum Input {
    /// A payload came, decrypted.
    Frame(Bytes),
    /// What was asked to be persisted is durable now.
    Persisted {
        /// Which.
        ticket: Ticket,
        /// What it has become.
        outcome: Stored,
    },
    /// It could not be made durable.
    PersistFailed {
        /// Which.
        ticket: Ticket,
        /// Why.
        reason: Reason,
    },
    /// The store has a new confirmation for this peer, perhaps.
    Confirmation,
    /// The store has a new document for this peer, perhaps.
    Document,
    /// The link is gone: what came of large bodies shall be kept.
    LinkDown,
    /// A deadline that [`Output::Timeout`] named has passed.
    Timeout,
}

/// What something persisted has become. Being stored here is not being confirmed by the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A document or confirmation that was not here before.
    New,
    /// It was here already.
    AlreadyHeld,
    /// A document that the destination has spoken about.
    Confirmed(Box<Confirmation>),
    /// A piece, and not the last.
    Partial {
        /// Bytes of the body that are durable now.
        committed: u64,
    },
}

/// What the conversation wants.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Send this payload.
    Transmit(Vec<u8>),
    /// Make this durable, and say when it is.
    Persist {
        /// To name it in the answer.
        ticket: Ticket,
        /// What.
        item: Persist,
    },
    /// Something that the node should know.
    Event(Event),
    /// Nothing more until an input, or until this moment.
    Timeout(Option<Monotonic>),
}

/// What a node may write down, show or act on.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The peer's parameters are known.
    Hello(PeerHello),
    /// The peer's store holds the document durably.
    HeldByPeer {
        /// The peer's store.
        store: StoreId,
        /// The document.
        id: MessageId,
    },
    /// The peer does not take the document.
    RefusedByPeer {
        /// The peer's store.
        store: StoreId,
        /// The document.
        id: MessageId,
        /// Why.
        reason: Reason,
    },
    /// The peer's store had acknowledged the document, and asks for it again: it has lost it.
    LostByPeer {
        /// The peer's store.
        store: StoreId,
        /// The document.
        id: MessageId,
    },
    /// The peer will not send a document that it offered, or that this side lost and asked for.
    Withdrawn {
        /// The document.
        id: MessageId,
    },
    /// The peer has stored this confirmation.
    Delivered {
        /// The confirmation's message id.
        id: MessageId,
    },
    /// The peer does not take this confirmation.
    Undelivered {
        /// The confirmation's message id.
        id: MessageId,
        /// Why.
        reason: Reason,
    },
    /// The peer has taken all of [`Parameters::tells`].
    ToldChains,
    /// A document or confirmation came that was not taken.
    Refused {
        /// Its id.
        id: MessageId,
        /// Why.
        reason: Reason,
    },
    /// A document came and is durable.
    Received {
        /// Its id.
        id: MessageId,
        /// Bytes of its body.
        size: u64,
    },
    /// A document's bytes move, in either direction.
    Progress {
        /// The document.
        id: MessageId,
        /// Whether they leave this node.
        sending: bool,
        /// Bytes that the receiver has committed (sending: sent).
        done: u64,
        /// Bytes of the body.
        size: u64,
    },
    /// Something that is no document was sent and passed over.
    Malformed(String),
    /// The bytes of a document cannot be read from the store; the others go on.
    Unreadable {
        /// Which.
        id: MessageId,
        /// What the store says.
        detail: String,
    },
    /// The store could not be read; the document or answer concerned is left for the next contact.
    StoreUnreadable(String),
    /// Both sides have nothing left to do.
    Finished {
        /// What this side received.
        ours: Report,
        /// What the peer received.
        theirs: Report,
    },
    /// The peer has so many bytes of bodies to send.
    Waiting(u64),
    /// The session can go on over Wi-Fi.
    Wifi(Box<WifiOffer>),
    /// The peer ends the session.
    Goodbye(Goodbye),
}

/// The parameters that a peer opened with.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerHello {
    /// Its store.
    pub store: StoreId,
    /// Destinations that it takes documents for.
    pub serves: Vec<Fingerprint>,
    /// Collections that it wants.
    pub wants: Vec<GroupId>,
    /// The largest body that it takes, in bytes.
    pub max_document: u64,
    /// Bytes of one body that may be under way beyond what it has committed.
    pub window: u64,
    /// Its name, for people.
    pub name: String,
    /// Whether it has a path to a destination now.
    pub has_backhaul: bool,
    /// Whether it is a gateway.
    pub is_gateway: bool,
    /// Whether it can go on over Wi-Fi: a gateway has a network, a phone can join one.
    pub moves: bool,
    /// With which its advertisements are recognised; `None` where it does not know this side.
    pub advertising_key: Option<AdvertisingKey>,
}

/// Shows neither name nor key.
impl std::fmt::Debug for PeerHello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerHello")
            .field("store", &self.store)
            .field("is_gateway", &self.is_gateway)
            .finish_non_exhaustive()
    }
}

const FLAG_BACKHAUL: u32 = 1;
const FLAG_GATEWAY: u32 = 2;
const FLAG_MOVES: u32 = 4;
/// At most so many destinations or collections in a hello.
pub const MAX_HELLO_ENTRIES: usize = 64;
/// The longest name in a hello, in bytes.
pub const MAX_NAME: usize = 64;

impl PeerHello {
    /// From the wire.
    pub(super) fn parse(wire: &mvds::Hello) -> Result<Self, ProtocolError> {
        if wire.serves.len() > MAX_HELLO_ENTRIES || wire.wants.len() > MAX_HELLO_ENTRIES {
            return Err(ProtocolError::TooMany("entries in a hello"));
        }
        let mut name: String = wire.name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
        while name.len() > MAX_NAME {
            name.pop();
        }
        Ok(PeerHello {
            store: StoreId::from_slice(&wire.store_id)?,
            serves: wire.serves.iter().map(|f| Fingerprint::from_slice(f)).collect::<Result<_, _>>()?,
            wants: wire.wants.iter().map(|g| GroupId::from_slice(g)).collect::<Result<_, _>>()?,
            max_document: wire.max_document,
            window: wire.window.max(1),
            name,
            has_backhaul: wire.flags & FLAG_BACKHAUL != 0,
            is_gateway: wire.flags & FLAG_GATEWAY != 0,
            moves: wire.flags & FLAG_MOVES != 0,
            advertising_key: match wire.advertising_key.is_empty() {
                true => None,
                false => Some(AdvertisingKey::from_slice(&wire.advertising_key)?),
            },
        })
    }

    /// Our own window: less than what is made durable at once would never open again.
    pub(super) fn receive_window(&self) -> u64 {
        self.window.max(super::PIECE as u64)
    }

    /// To the wire.
    pub(super) fn to_wire(&self) -> mvds::Hello {
        let flag = |on, bit| if on { bit } else { 0 };
        mvds::Hello {
            store_id: Bytes::copy_from_slice(self.store.as_bytes()),
            serves: self.serves.iter().map(|f| Bytes::copy_from_slice(f.as_bytes())).collect(),
            wants: self.wants.iter().map(|g| Bytes::copy_from_slice(g.as_bytes())).collect(),
            max_document: self.max_document,
            window: self.receive_window(),
            name: self.name.clone(),
            flags: flag(self.has_backhaul, FLAG_BACKHAUL)
                | flag(self.is_gateway, FLAG_GATEWAY)
                | flag(self.moves, FLAG_MOVES),
            advertising_key: self
                .advertising_key
                .as_ref()
                .map(|key| Bytes::copy_from_slice(key.expose()))
                .unwrap_or_default(),
        }
    }
}

/// How the conversation's payloads travel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pipe {
    /// In order and complete, or the link ends: nothing is sent twice on it.
    Ordered,
    /// Payloads may be lost, doubled and overtake each other: what is not answered is sent again.
    Datagram(Backoff),
}

impl Pipe {
    /// When something is to be sent again that was sent for the `attempt`th time and is not answered.
    pub(super) fn due(self, attempt: u32, now: Monotonic) -> Option<Monotonic> {
        match self {
            Pipe::Ordered => None,
            Pipe::Datagram(backoff) => Some(now + backoff.span(attempt)),
        }
    }
}

/// Bounded exponential backoff of retransmission (2/MVDS, "Retransmission").
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// After the first sending.
    pub first: Duration,
    /// Each further span is so many times as long, in hundredths: 200 doubles.
    pub factor_percent: u32,
    /// No span is longer.
    pub cap: Duration,
}

impl Backoff {
    /// How long to wait after sending number `attempt` (1 is the first).
    pub fn span(&self, attempt: u32) -> Duration {
        let mut span = self.first;
        for _ in 1..attempt {
            span = span.saturating_mul(self.factor_percent) / 100;
            if span >= self.cap {
                return self.cap;
            }
        }
        span.min(self.cap)
    }
}

/// What a peer may deposit. Whatever node-wide rules there are, the store decides when it persists.
#[derive(Debug, Clone)]
pub struct Accepts {
    /// Destinations.
    pub destinations: Vec<Served>,
    /// The largest body, in bytes.
    pub max_document: u64,
    /// Whether documents may be revisions of a record.
    pub records: bool,
}

/// A destination that documents are taken for.
#[derive(Debug, Clone)]
pub struct Served {
    /// Its first fingerprint.
    pub destination: Fingerprint,
    /// Its collections; `None` for every collection.
    pub collections: Option<Vec<GroupId>>,
    /// The largest body that it takes itself, in bytes; `u64::MAX` while that is not known.
    pub max_document: u64,
}

impl Served {
    /// Every collection, and any size.
    pub fn all(destination: Fingerprint) -> Self {
        Served { destination, collections: None, max_document: u64::MAX }
    }
}

impl Accepts {
    /// Whether a document with this header, group and size may come.
    pub fn check_header(&self, header: &Header, group: &GroupId, size: u64) -> Result<(), Reason> {
        if header.ephemeral || (!self.records && header.is_revision()) {
            return Err(Reason::NotPermitted);
        }
        self.check(&header.destination, group, size)
    }

    /// Whether a document for this destination, of this group and size, may come.
    pub fn check(&self, destination: &Fingerprint, group: &GroupId, size: u64) -> Result<(), Reason> {
        let served = self.destinations.iter().find(|served| served.destination == *destination);
        match served {
            None => Err(Reason::DestinationNotServed),
            Some(Served { collections: Some(groups), .. }) if !groups.contains(group) => {
                Err(Reason::CollectionNotServed)
            }
            Some(served) if size > self.max_document.min(served.max_document) => Err(Reason::TooLarge),
            Some(_) => Ok(()),
        }
    }
}

/// With what a conversation begins.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// Our side's hello, as the handshake carries it.
    pub hello: PeerHello,
    /// What this peer may deposit; it may be less than the hello says to everyone.
    pub accepts: Accepts,
    /// Collections of which this peer may be sent documents, if it wants them. Whatever else it wants is passed over.
    pub may_want: Vec<GroupId>,
    /// What this peer is to hear of destinations' certificates, each destination's first one first. No confirmation goes
    /// before it.
    pub tells: Vec<Link>,
    /// The peer's static key.
    pub peer: PeerKey,
    /// Whether this side opened the session. It leads the exchange of reports.
    pub initiator: bool,
    /// Bytes that a payload should have at most, so that it fills one frame.
    pub target_payload: usize,
    /// How payloads travel.
    pub pipe: Pipe,
}

/// What one side received in a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Documents stored, that were not held before.
    pub stored: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Documents that were held or confirmed already.
    pub already_held: u64,
    /// Documents refused.
    pub refused: u64,
    /// New confirmations.
    pub confirmations: u64,
    /// The same per collection; group `None` sums what had no known collection or no line of its own.
    pub collections: Vec<(Option<GroupId>, CollectionReport)>,
}

impl Report {
    /// Whether nothing was received that had not been there: "nothing new".
    pub fn is_nothing_new(&self) -> bool {
        self.stored == 0 && self.confirmations == 0 && self.refused == 0
    }
}

/// One collection's part of a [`Report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CollectionReport {
    /// Documents stored.
    pub stored: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Documents that were held or confirmed already.
    pub already_held: u64,
    /// Documents refused.
    pub refused: u64,
}

/// The peer broke the protocol; the session must end. Nothing stored is touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The payload is no protobuf.
    #[error("payload does not decode: {0}")]
    Payload(String),
    /// An id of another length than its kind has.
    #[error(transparent)]
    Id(#[from] IdError),
    /// More of something than a peer may have under way.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// A hello that is not the first payload.
    #[error("a second hello")]
    SecondHello,
    /// A chunk for a transfer that was not started.
    #[error("chunk for unknown transfer {0}")]
    UnknownTransfer(u32),
    /// A chunk beyond the announced size, the window, or what came before it.
    #[error("chunk beyond the {0}")]
    BeyondBounds(&'static str),
}

/// A row of the sender: which document, and where it stands in the sender's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) seq: Seq,
    pub(super) size: u64,
}
