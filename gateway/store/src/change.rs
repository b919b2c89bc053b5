//! What can be changed in a store, and what comes of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waypost_protocol::advertising::AdvertisingKey;
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::document::{Description, Document};
use waypost_protocol::envelope::Header;
use waypost_protocol::ids::{CodeId, GroupId, MessageId, PeerKey, Seq, StoreId};
use waypost_protocol::invite::CodeSecret;
use waypost_protocol::refusal::Reason;

/// A whole document that comes in.
#[derive(Clone, PartialEq, Eq)]
pub struct NewDocument {
    /// The document.
    pub document: Document,
    /// Its envelope's header.
    pub header: Header,
    /// Seconds it has been under way.
    pub age: u64,
    /// Who brought it; `None` for this node itself.
    pub depositor: Option<PeerKey>,
    /// Kept back until [`Change::Release`].
    pub draft: bool,
    /// For this node's user only, for example a file's name.
    pub note: Option<String>,
}

/// Shows neither note nor depositor.
impl std::fmt::Debug for NewDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewDocument").finish_non_exhaustive()
    }
}

/// One change. Each succeeds or fails by itself.
#[derive(Clone)]
#[non_exhaustive]
pub enum Change {
    /// Stores a document. [`Applied::Stored`], [`Applied::AlreadyHeld`] or [`Applied::Confirmed`].
    Document(Box<NewDocument>),
    /// Stores the next bytes of a body: [`Applied::Partial`], and with the last ones as [`Change::Document`].
    Piece {
        /// The whole.
        description: Description,
        /// Its envelope's header; that of the first piece counts.
        header: Arc<Header>,
        /// Where the bytes begin: at what is committed, or before.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
        /// Seconds it has been under way.
        age: u64,
        /// Who brings it; the body under way belongs to that peer alone.
        depositor: Option<PeerKey>,
    },
    /// As [`Change::Piece`], for a document that this node itself makes and that is too large to hold in memory.
    OwnPiece {
        /// The whole.
        description: Description,
        /// Its envelope's header; that of the first piece counts.
        header: Arc<Header>,
        /// Where the bytes begin: at what is committed, or before.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
        /// Kept back until [`Change::Release`]; what the last piece says counts.
        draft: bool,
        /// For this node's user only; what the last piece says counts.
        note: Option<String>,
    },
    /// As [`Change::Document`], [`Change::Piece`] or [`Change::Depositor`] within, of a document that is not on its way
    /// to its destination: it came to be read here, or to be handed to subscribers. What is here already to be
    /// delivered stays so. A verdict does not free its body.
    Received {
        /// The change; any other is made as it is.
        change: Box<Change>,
        /// When it goes, counted from when it is stored.
        free: Free,
    },
    /// A peer offered a document that is here, or confirmed: it gets the confirmation, too.
    Depositor {
        /// The document.
        id: MessageId,
        /// The peer.
        peer: PeerKey,
    },
    /// A draft may go out.
    Release {
        /// The document.
        id: MessageId,
    },
    /// One more attempt to get it to its destination was made.
    Attempted {
        /// The document.
        id: MessageId,
    },
    /// Deletes a document for good: its id is remembered, so that it does not come back.
    Delete {
        /// The document.
        id: MessageId,
    },
    /// Remembers that a document is gone, as another store of the same node did: it is not taken in. Nothing happens
    /// where it is here, or has a verdict.
    Gone {
        /// The document.
        id: MessageId,
        /// Why.
        reason: Reason,
    },
    /// Gives up a document of others whose body cannot be read any more, and remembers to ask those who brought it for
    /// it again. Nothing happens to one that is whole, or that this node made itself: [`Applied::Done`], else
    /// [`Applied::Lost`].
    Damaged {
        /// The document.
        id: MessageId,
    },
    /// A peer was asked for a document that was lost here, and does not have it any more.
    Forgo {
        /// The document.
        id: MessageId,
        /// The peer.
        peer: PeerKey,
    },
    /// Removes the body of a confirmed document; without a verdict of the destination nothing happens.
    FreeBody {
        /// The document.
        id: MessageId,
    },
    /// Records a confirmation **that the caller has verified**. [`Applied::Verdicts`].
    Confirmation {
        /// The confirmation.
        confirmation: Box<Confirmation>,
        /// What becomes of the bodies.
        freeing: Freeing,
        /// Who brought it: that peer need not be sent it.
        from: Option<PeerKey>,
    },
    /// A peer has acknowledged a confirmation.
    Delivered {
        /// The peer.
        peer: PeerKey,
        /// [`Confirmation::id`].
        confirmation: MessageId,
    },
    /// What a peer has taken of destinations' certificates; `None`: nothing that counts.
    ToldChains {
        /// The peer.
        peer: PeerKey,
        /// Names that state.
        digest: Option<[u8; 32]>,
    },
    /// A peer's store has acknowledged a document.
    PeerHolds {
        /// The peer.
        peer: PeerKey,
        /// Its store.
        store: StoreId,
        /// The document.
        id: MessageId,
    },
    /// A peer's store has refused a document.
    PeerRefuses {
        /// The peer.
        peer: PeerKey,
        /// Its store.
        store: StoreId,
        /// The document.
        id: MessageId,
        /// Why.
        reason: Reason,
    },
    /// The peer is as one that was never made known, and no code that it came with works for it. What it holds stays
    /// written down, so that nothing is sent to it twice.
    Forget {
        /// Who.
        peer: PeerKey,
    },
    /// A peer is there. Makes it known as [`PeerClass::Open`] where it is new; with another store than before,
    /// what it had acknowledged and refused is void (R25).
    PeerSeen {
        /// The peer.
        peer: PeerKey,
        /// Its store, once it has told.
        store: Option<StoreId>,
        /// The name that it gives itself.
        label: Option<String>,
        /// With which its advertisements are recognised; `None` leaves the one that is there, which lasts as long as
        /// the peer's key.
        advertising_key: Option<AdvertisingKey>,
    },
    /// Makes a peer known, or changes its class and label. A revoked peer stays revoked.
    PutPeer {
        /// The peer.
        peer: PeerKey,
        /// What it may do.
        class: PeerClass,
        /// A name for people; `None` leaves the one that is there.
        label: Option<String>,
    },
    /// From now on nothing is taken from that peer.
    Revoke {
        /// The peer.
        peer: PeerKey,
    },
    /// Makes a pairing code valid.
    AddCode {
        /// Its secret.
        secret: CodeSecret,
        /// What the peer that uses it becomes.
        class: PeerClass,
        /// For how long, by the uptime clock; `None`: until it is used or removed.
        valid: Option<Duration>,
        /// What a printed code is called, which any number of peers may use.
        poster: Option<String>,
    },
    /// Uses a pairing code up and makes the peer known, both or neither. [`Applied::Paired`]. The peer that has used
    /// it may do so again while it is valid, in case the answer was lost.
    ConsumeCode {
        /// Which code.
        code: CodeId,
        /// The peer, authenticated with the code's secret.
        peer: PeerKey,
        /// A name for people.
        label: Option<String>,
    },
    /// The codes of a poster are void; [`Applied::Revoked`] with `revoke`.
    RemovePoster {
        /// What it is called.
        name: String,
        /// Whether nothing is taken any more from the peers that came by it.
        revoke: bool,
    },
    /// Sets or, with `None`, removes a small setting of the program that uses the store.
    Put {
        /// Its name.
        key: String,
        /// Its value.
        value: Option<Vec<u8>>,
    },
}

impl Change {
    /// About how many bytes of a transaction it takes.
    pub(crate) fn weight(&self) -> usize {
        const ROWS: usize = 1024;
        match self {
            Change::Document(new) => new.document.body().len() + ROWS,
            Change::Piece { bytes, .. } | Change::OwnPiece { bytes, .. } => bytes.len() + ROWS,
            Change::Confirmation { confirmation, .. } => confirmation.statement.verdicts().len() * 256 + ROWS,
            Change::Received { change, .. } => change.weight(),
            Change::Put { value, .. } => value.as_ref().map_or(0, Vec::len) + ROWS,
            _ => ROWS,
        }
    }

    /// Whether it only adds documents, which a full store may refuse; all else has the reserve to draw on.
    pub(crate) fn is_growth(&self) -> bool {
        match self {
            Change::Document(_) | Change::Piece { .. } | Change::OwnPiece { .. } => true,
            Change::Received { change, .. } => change.is_growth(),
            _ => false,
        }
    }
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The document exists now.
    Stored {
        /// Its place in the order of arrival.
        seq: Seq,
    },
    /// It did already.
    AlreadyHeld {
        /// Its place in the order of arrival.
        seq: Seq,
    },
    /// The destination has spoken on it; nothing was stored.
    Confirmed(Box<Confirmation>),
    /// The bytes are stored, more have to come.
    Partial {
        /// How many bytes of the body are stored without a gap.
        committed: u64,
    },
    /// The confirmation is recorded.
    Verdicts {
        /// Whether it said anything new.
        new: bool,
        /// Documents of this store whose state has changed by it.
        changed: Vec<(MessageId, Verdict)>,
    },
    /// The document is gone, and so many peers are to be asked for it.
    Lost {
        /// How many.
        peers: u64,
    },
    /// The peer is known from now on.
    Paired {
        /// As what.
        class: PeerClass,
    },
    /// From these nothing is taken any more.
    Revoked(Vec<PeerKey>),
    /// Done, and nothing to tell.
    Done,
}

/// What a peer is to this node, which decides what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerClass {
    /// Came with a one-time code.
    Paired,
    /// Is in the admin's list.
    Listed,
    /// Came with a printed code that many use.
    Poster,
    /// Came without anything.
    Open,
    /// Another gateway.
    Gateway,
}

impl PeerClass {
    const TABLE: [(u32, PeerClass); 5] = [
        (1, PeerClass::Paired),
        (2, PeerClass::Listed),
        (3, PeerClass::Poster),
        (4, PeerClass::Open),
        (5, PeerClass::Gateway),
    ];

    pub(crate) fn code(self) -> u32 {
        Self::TABLE.iter().find(|(_, class)| *class == self).map_or(0, |(code, _)| *code)
    }

    /// An unknown one has the fewest rights.
    pub(crate) fn from_code(code: u32) -> Self {
        Self::TABLE.iter().find(|(known, _)| *known == code).map_or(PeerClass::Open, |(_, class)| *class)
    }

    /// Whether the admin or a code of its own has made it known, so that it is told what passers-by are not.
    pub fn is_known(self) -> bool {
        !self.is_open()
    }

    /// Whether its documents share the small part of the store that is for everybody.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, PeerClass::Open | PeerClass::Poster)
    }
}

/// When a body is removed after a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Free {
    /// At once, in the transaction that records the verdict.
    Now,
    /// After so many seconds of the uptime clock.
    After(u64),
    /// After so many seconds of the uptime clock, or before that where a document that comes in needs the room: those
    /// that came first go first.
    Yielding(u64),
    /// Only when it is deleted.
    Never,
}

/// What becomes of bodies, by verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeing {
    /// On `opened`.
    pub opened: Free,
    /// On `held`.
    pub held: Free,
    /// On `rejected`.
    pub rejected: Free,
    /// Collections whose bodies stay for subscribers, unless they are rejected: so many seconds of the uptime clock,
    /// [`Free::Yielding`] where they would go otherwise.
    pub retain: Vec<(GroupId, u64)>,
}

impl Freeing {
    /// A gateway frees the body on any verdict (design §5).
    pub const GATEWAY: Freeing =
        Freeing { opened: Free::Now, held: Free::Now, rejected: Free::Now, retain: Vec::new() };
    /// A phone deletes on `opened` and keeps its copy of what was rejected.
    pub const PHONE: Freeing =
        Freeing { opened: Free::Now, held: Free::Never, rejected: Free::Never, retain: Vec::new() };

    pub(crate) fn on(&self, verdict: Verdict, group: &[u8]) -> Free {
        let free = match verdict {
            Verdict::Opened => self.opened,
            Verdict::Held => self.held,
            Verdict::Rejected(_) => return self.rejected,
        };
        let retained = self.retain.iter().find(|(retained, _)| retained.as_bytes() == group);
        match (free, retained) {
            (Free::Now, Some((_, seconds))) => Free::Yielding(*seconds),
            (Free::After(least), Some((_, seconds))) => Free::After(least.max(*seconds)),
            (free, _) => free,
        }
    }
}
