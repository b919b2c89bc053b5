//! What differs between a gateway and a phone: who may come, what is done with what happens.

use std::time::Duration;

use waypost_link::LinkInfo;
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::{GroupId, PeerKey};
use waypost_protocol::refusal::{Goodbye, Reason};
use waypost_protocol::session::Pattern;
use waypost_protocol::succession::Link;
use waypost_protocol::sync::{Accepts, Event, Report};
use waypost_store::Freeing;

use crate::node::ConversationId;

/// What a peer may do in this conversation.
#[derive(Debug, Clone)]
pub struct Grant {
    /// What it may deposit.
    pub accepts: Accepts,
    /// Collections of which it may be sent documents.
    pub may_want: Vec<GroupId>,
    /// Whether its turn comes before that of peers that anybody may be.
    pub is_known: bool,
    /// Whether what it sends is to be read here, and not to be delivered.
    pub reads: bool,
}

impl Grant {
    /// Deposits, and nothing else.
    pub fn deposits(accepts: Accepts) -> Self {
        Grant { accepts, may_want: Vec::new(), is_known: false, reads: false }
    }
}

/// How a contact ended. Three different words for three different things (design R32), and reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Both sides had nothing left to do, and something was moved.
    Finished,
    /// Both sides had nothing left to do, and nothing was moved.
    NothingNew,
    /// The link ended before that.
    LinkLost(String),
    /// This side ended it.
    SaidGoodbye(Goodbye),
    /// The peer ended it.
    HeardGoodbye(Goodbye),
    /// The other side closed the link in the middle of the handshake that this side began: it has another key than this
    /// side expects, or does not know the code.
    HungUp,
    /// There was no session: versions, keys, codes, damaged frames.
    Failed(String),
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ending::Finished => f.write_str("finished"),
            Ending::NothingNew => f.write_str("nothing new"),
            Ending::LinkLost(why) => write!(f, "link lost: {why}"),
            Ending::SaidGoodbye(why) => write!(f, "ended by this side: {why}"),
            Ending::HeardGoodbye(why) => write!(f, "ended by the other side: {why}"),
            Ending::HungUp => f.write_str(
                "failed: the other side ended the handshake; it has another key than expected, or does not know the code",
            ),
            Ending::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// A contact that is over.
#[derive(Debug, Clone)]
pub struct ContactSummary {
    /// The conversation.
    pub id: ConversationId,
    /// The peer, where it had proven itself.
    pub peer: Option<PeerKey>,
    /// The link.
    pub link: LinkInfo,
    /// How it ended.
    pub ending: Ending,
    /// What this side received.
    pub ours: Report,
    /// What the peer said that it received.
    pub theirs: Report,
    /// Frame bytes that came, with length prefixes.
    pub bytes_in: u64,
    /// Frame bytes that went, with length prefixes.
    pub bytes_out: u64,
    /// How long it took.
    pub took: Duration,
}

/// The program around the node.
pub trait Host {
    /// Whether an authenticated peer is served, and with which rights. What this writes down must be durable.
    fn admit(&mut self, peer: &PeerKey, pattern: Pattern, link: &LinkInfo) -> Result<Grant, Goodbye>;

    /// Whether a peer is one that this node knows, or comes with a code that makes it one, so that it is told more than
    /// passers-by are. It has not proven that it is there; nothing is to be changed.
    fn knows(&self, _peer: &PeerKey, _pattern: Pattern) -> bool {
        false
    }

    /// Whether somebody who knows nothing of this node, and has no code, is answered at all: an answer tells this node's
    /// static key to whoever asks.
    fn answers_strangers(&self) -> bool {
        true
    }

    /// What a peer that is served is to hear of destinations' certificates; empty where it has taken just these before. Asked
    /// again when there are new confirmations, while the peer is here.
    fn tells(&self, _peer: &PeerKey) -> Vec<Link> {
        Vec::new()
    }

    /// Whether the destination signed this; the reason where not.
    fn verify(&mut self, confirmation: &Confirmation) -> Result<(), String>;

    /// Takes a certificate of a destination, as far as it verifies. What is taken must be durable; nothing is to be done
    /// where it is of no destination that this node has.
    fn follow(&mut self, link: &Link) -> Result<(), Reason>;

    /// What becomes of bodies that a confirmation covers.
    fn freeing(&self, confirmation: &Confirmation) -> Freeing;

    /// Something happened in a conversation; facts about documents are in the store already, or on their way there.
    fn event(&mut self, id: ConversationId, peer: &PeerKey, event: &Event);

    /// Something became durable: documents to upload, verdicts to show.
    fn stored(&mut self, what: StoredNow);

    /// A contact is over.
    fn ended(&mut self, summary: ContactSummary);
}

/// What became durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredNow {
    /// A document that was not here before.
    Document,
    /// A confirmation that said something new.
    Confirmation,
}
