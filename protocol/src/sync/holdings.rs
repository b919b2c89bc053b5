//! What the engine asks of the store: small, bounded reads, answered at once.

use bytes::Bytes;

use crate::confirmation::Confirmation;
use crate::document::{Description, Document};
use crate::envelope::Header;
use crate::ids::{Fingerprint, GroupId, MessageId, PeerKey, Seq, StoreId};
use crate::refusal::Reason;
use crate::succession::Link;

/// What a node knows of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Never seen, or no longer remembered.
    Unknown,
    /// Stored durably, without a verdict so far.
    Held,
    /// The destination has spoken.
    Confirmed(Box<Confirmation>),
    /// It was here: [`Reason::Deleted`] or [`Reason::Expired`].
    Gone(Reason),
}

/// A document that the store would send to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its place in the sender's order of arrival.
    pub seq: Seq,
    /// Id, group, time, size of the body.
    pub description: Description,
    /// First fingerprint of the destination that it is addressed to.
    pub destination: Fingerprint,
    /// Seconds under way so far, for a document with a lifetime.
    pub age: Option<u64>,
    /// Whether the recipient may have it already: it was sent there without an answer, or reached others.
    pub maybe_held: bool,
}

/// A body that has not all come yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// Bytes that are durable.
    pub committed: u64,
    /// The envelope's header, from the first bytes.
    pub header: Header,
}

/// Who a document would be sent to, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The peer.
    pub key: PeerKey,
    /// Its store; what another store of the same peer acknowledged counts for nothing.
    pub store: StoreId,
    /// Destinations that it takes documents for.
    pub serves: Vec<Fingerprint>,
    /// Collections that it wants to be sent, and may be.
    pub wants: Vec<GroupId>,
    /// The largest body that it takes, in bytes.
    pub max_document: u64,
}

/// Some of the documents that a subscriber wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// In order of arrival.
    pub documents: Vec<Outgoing>,
    /// How far was looked; the next page begins after it. `None` where nothing was.
    pub seen: Option<Seq>,
    /// Whether there is more behind it now.
    pub more: bool,
}

/// A read that failed; `0` says how, for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("store: {0}")]
pub struct HoldingsError(pub String);

/// What a node holds. Reads see what is committed, nothing else.
pub trait Holdings {
    /// What is known of `id`. Anyone's destination can sign for any id: where `destination` is given, a document that
    /// is not here counts as confirmed only by that one.
    fn standing(&self, id: &MessageId, destination: Option<&Fingerprint>) -> Result<Standing, HoldingsError>;

    /// Documents that `from` brought, that were acknowledged and have been lost here since, at most `limit`.
    fn lost(&self, from: &PeerKey, limit: usize) -> Result<Vec<MessageId>, HoldingsError>;

    /// What is committed of the body of `id` that `from` began to send.
    fn partial(&self, id: &MessageId, from: &PeerKey) -> Result<Option<Partial>, HoldingsError>;

    /// Documents to send to `to` whose sequence is greater than `after`, in that order, at most `limit`.
    ///
    /// Leaves out what that peer's store has acknowledged or refused for good, and what it does not serve.
    fn outgoing(
        &self,
        to: &Recipient,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<Outgoing>, HoldingsError>;

    /// The document `id`, where `to` may be sent it or has subscribed to it, also if its store has acknowledged it
    /// before: it asks, so it has lost it.
    fn outgoing_again(&self, to: &Recipient, id: &MessageId) -> Result<Option<Outgoing>, HoldingsError>;

    /// Documents of the collections that `to` wants, whose sequence is greater than `after`, in that order: at most
    /// `limit`, and fewer where looking for them takes long. They may be confirmed already.
    ///
    /// Leaves out what that peer brought, what its store has acknowledged or refused for good, what was rejected. A
    /// node that hands nothing to subscribers has none.
    fn subscribed(&self, _to: &Recipient, _after: Option<Seq>, _limit: usize) -> Result<Page, HoldingsError> {
        Ok(Page::default())
    }

    /// Whether `id` was never here, whatever its destination has said of it.
    fn is_missing(&self, id: &MessageId) -> Result<bool, HoldingsError> {
        Ok(self.standing(id, None)? == Standing::Unknown)
    }

    /// Bytes of the body at `seq` from `offset` on, at most `len`; fewer only at its end. Empty when it is gone.
    fn read_body(&self, seq: Seq, offset: u64, len: usize) -> Result<Bytes, HoldingsError>;

    /// Confirmations that `to` should get, in order, after `after`, at most `limit`.
    fn confirmations_due(
        &self,
        to: &PeerKey,
        after: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<(Seq, Confirmation)>, HoldingsError>;
}

/// What the engine asks to be made durable. The answer is [`super::Input::Persisted`] or [`super::Input::PersistFailed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persist {
    /// A whole document.
    Document {
        /// The document.
        document: Document,
        /// Its envelope's header.
        header: Box<Header>,
        /// Seconds it has been under way.
        age: u64,
        /// Whether the peer offered it first, which it does where another node may have it already.
        offered: bool,
    },
    /// The next bytes of a body. With the last ones, the store checks the hash over everything
    /// ([`Reason::WrongHash`]) and the document begins to exist.
    Piece {
        /// The whole.
        description: Description,
        /// Its envelope's header; the same with each piece.
        header: std::sync::Arc<Header>,
        /// Where these bytes begin: what is committed so far.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
        /// Seconds it has been under way.
        age: u64,
    },
    /// A confirmation, to be verified first ([`Reason::NotProven`]).
    Confirmation(Box<Confirmation>),
    /// A destination's certificate, to be verified first ([`Reason::NotProven`]).
    Succession(Box<Link>),
    /// The peer has this document too, which is held already: it shall get the confirmation.
    Depositor(MessageId),
}
