//! Why a document or a session is refused, as numbers on the wire and words for people.

use serde::{Deserialize, Serialize};

/// Why a document is not taken. Never an ACK, and never a reason to delete the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// This node does not take documents for that destination.
    DestinationNotServed,
    /// This node does not carry that collection.
    CollectionNotServed,
    /// Larger than this node takes from this peer.
    TooLarge,
    /// This peer's or this node's share of storage is used up; later may do.
    OverQuota,
    /// It had been here and its lifetime has passed.
    Expired,
    /// It had been here and was deleted by its user or the admin.
    Deleted,
    /// The body is no envelope, or its header is wrong.
    Malformed,
    /// This peer may not do that.
    NotPermitted,
    /// The storage failed; later may do.
    StorageFailed,
    /// The bytes do not have the hash that was announced.
    WrongHash,
    /// The confirmation's signature is not one of the destination's over this text.
    NotProven,
    /// Said by the one who offered it: it will not come in this session, since it was deleted, has expired or cannot be
    /// read.
    Withdrawn,
    /// A reason that a newer version knows.
    Other(u32),
}

impl Reason {
    const TABLE: [(u32, Reason); 12] = [
        (1, Reason::DestinationNotServed),
        (2, Reason::CollectionNotServed),
        (3, Reason::TooLarge),
        (4, Reason::OverQuota),
        (5, Reason::Expired),
        (6, Reason::Deleted),
        (7, Reason::Malformed),
        (8, Reason::NotPermitted),
        (9, Reason::StorageFailed),
        (10, Reason::WrongHash),
        (11, Reason::NotProven),
        (12, Reason::Withdrawn),
    ];

    /// The number on the wire.
    pub fn code(self) -> u32 {
        if let Reason::Other(code) = self {
            return code;
        }
        Self::TABLE.iter().find(|(_, reason)| *reason == self).map_or(0, |(code, _)| *code)
    }

    /// From the number on the wire; an unknown one is kept.
    pub fn from_code(code: u32) -> Reason {
        Self::TABLE.iter().find(|(known, _)| *known == code).map_or(Reason::Other(code), |(_, r)| *r)
    }

    /// Whether the same document may be taken by the same store later.
    pub fn is_temporary(self) -> bool {
        matches!(
            self,
            Reason::OverQuota
                | Reason::StorageFailed
                | Reason::WrongHash
                | Reason::NotProven
                | Reason::Withdrawn
        )
    }

    /// Whether the same store may take the same document once its admin has changed something, or serves this peer as
    /// another class. Worth asking again at the next contact; until then it stands.
    pub fn depends_on_settings(self) -> bool {
        matches!(self, Reason::DestinationNotServed | Reason::CollectionNotServed | Reason::TooLarge)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reason::DestinationNotServed => "does not carry documents for this destination",
            Reason::CollectionNotServed => "does not carry this collection",
            Reason::TooLarge => "too large for this kiosk",
            Reason::OverQuota => "no room for it at the moment",
            Reason::Expired => "its lifetime has passed",
            Reason::Deleted => "it was deleted there",
            Reason::Malformed => "not a valid document",
            Reason::NotPermitted => "not permitted for this peer",
            Reason::StorageFailed => "storage failed, try again later",
            Reason::WrongHash => "its bytes were damaged on the way",
            Reason::NotProven => "the confirmation's signature does not verify",
            Reason::Withdrawn => "it was withdrawn before it had come",
            Reason::Other(code) => return write!(f, "refused for a reason of a newer version (code {code})"),
        })
    }
}

/// Why a session ends before it is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goodbye {
    /// The responder serves only peers it knows, and this one is not known.
    NotPaired,
    /// This peer was revoked.
    Revoked,
    /// The pairing code is unknown, used up or too old.
    BadCode,
    /// As many sessions as the node serves at once are under way.
    Busy,
    /// The node is stopping.
    Stopping,
    /// The peer broke the protocol.
    ProtocolError,
    /// Nothing happened for too long.
    Idle,
    /// A reason that a newer version knows.
    Other(u32),
}

impl Goodbye {
    const TABLE: [(u32, Goodbye); 7] = [
        (1, Goodbye::NotPaired),
        (2, Goodbye::Revoked),
        (3, Goodbye::BadCode),
        (4, Goodbye::Busy),
        (5, Goodbye::Stopping),
        (6, Goodbye::ProtocolError),
        (7, Goodbye::Idle),
    ];

    /// The number on the wire.
    pub fn code(self) -> u32 {
        if let Goodbye::Other(code) = self {
            return code;
        }
        Self::TABLE.iter().find(|(_, reason)| *reason == self).map_or(0, |(code, _)| *code)
    }

    /// From the number on the wire; an unknown one is kept.
    pub fn from_code(code: u32) -> Goodbye {
        Self::TABLE.iter().find(|(known, _)| *known == code).map_or(Goodbye::Other(code), |(_, r)| *r)
    }
}

impl std::fmt::Display for Goodbye {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Goodbye::NotPaired => "this phone is not paired there; scan its QR code again",
            Goodbye::Revoked => "this phone's access was revoked; ask the admin",
            Goodbye::BadCode => "the pairing code is used up or too old; ask for a new one",
            Goodbye::Busy => "it serves as many phones as it can; try again in a moment",
            Goodbye::Stopping => "it is shutting down; try again later",
            Goodbye::ProtocolError => "the two programs do not understand each other; update the older one",
            Goodbye::Idle => "nothing happened for too long",
            Goodbye::Other(code) => return write!(f, "ended for a reason of a newer version (code {code})"),
        })
    }
}
