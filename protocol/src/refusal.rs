//! Why a document or a session is refused, as numbers on the wire and words for people.

use serde::{Deserialize, Serialize};

use crate::mvds;

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

/// When a peer's turn is, where others are served before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InLine {
    /// Its place: 1 is next. 0 where it has none.
    pub place: u32,
    /// Seconds after which it should come again; until some time after that its place is kept.
    pub again: u32,
}

impl InLine {
    /// Nobody is sent away for longer, whatever the other side says, in seconds.
    pub const LONGEST: u32 = 600;
}

impl std::fmt::Display for InLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ordinal = match (self.place % 10, self.place % 100) {
            (_, 11..=13) => "th",
            (1, _) => "st",
            (2, _) => "nd",
            (3, _) => "rd",
            _ => "th",
        };
        match self.place {
            0 => f.write_str("others are before this phone")?,
            1 => f.write_str("next in line")?,
            place => write!(f, "{place}{ordinal} in line")?,
        }
        write!(f, "; come again in {} s", self.again)
    }
}

/// Why a session ends before it is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Goodbye {
    /// The responder serves only peers it knows, and this one is not known.
    NotPaired,
    /// This peer was revoked.
    Revoked,
    /// The pairing code is unknown, used up or too old.
    BadCode,
    /// As many sessions as the node serves at once are under way, or others wait for their turn; perhaps with this
    /// peer's place among them.
    Busy(Option<InLine>),
    /// The node is stopping.
    Stopping,
    /// The peer broke the protocol.
    ProtocolError,
    /// Nothing happened for too long.
    Idle,
    /// The session goes on over another link.
    Moved,
    /// A reason that a newer version knows.
    Other(u32),
}

impl Goodbye {
    /// The number on the wire.
    pub fn code(self) -> u32 {
        match self {
            Goodbye::NotPaired => 1,
            Goodbye::Revoked => 2,
            Goodbye::BadCode => 3,
            Goodbye::Busy(_) => 4,
            Goodbye::Stopping => 5,
            Goodbye::ProtocolError => 6,
            Goodbye::Idle => 7,
            Goodbye::Moved => 8,
            Goodbye::Other(code) => code,
        }
    }

    /// From the number on the wire alone; an unknown one is kept.
    pub fn from_code(code: u32) -> Goodbye {
        match code {
            1 => Goodbye::NotPaired,
            2 => Goodbye::Revoked,
            3 => Goodbye::BadCode,
            4 => Goodbye::Busy(None),
            5 => Goodbye::Stopping,
            6 => Goodbye::ProtocolError,
            7 => Goodbye::Idle,
            8 => Goodbye::Moved,
            other => Goodbye::Other(other),
        }
    }

    /// From the wire. What is beyond [`InLine::LONGEST`] is cut.
    pub fn from_wire(wire: &mvds::Goodbye) -> Goodbye {
        let &mvds::Goodbye { reason, place, again } = wire;
        match Self::from_code(reason) {
            Goodbye::Busy(None) if again > 0 => {
                Goodbye::Busy(Some(InLine { place, again: again.min(InLine::LONGEST) }))
            }
            other => other,
        }
    }

    /// To the wire.
    pub fn to_wire(self) -> mvds::Goodbye {
        let line = self.line();
        mvds::Goodbye {
            reason: self.code(),
            place: line.map_or(0, |line| line.place),
            again: line.map_or(0, |line| line.again),
        }
    }

    /// When to come again, where the other side has said so.
    pub fn line(self) -> Option<InLine> {
        match self {
            Goodbye::Busy(line) => line,
            _ => None,
        }
    }
}

impl std::fmt::Display for Goodbye {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Goodbye::NotPaired => "this phone is not paired there; scan its QR code again",
            Goodbye::Revoked => "this phone's access was revoked; ask the admin",
            Goodbye::BadCode => "the pairing code is used up or too old; ask for a new one",
            Goodbye::Busy(None) => "it serves as many phones as it can; try again in a moment",
            Goodbye::Busy(Some(line)) => return write!(f, "it serves others now: {line}"),
            Goodbye::Stopping => "it is shutting down; try again later",
            Goodbye::ProtocolError => "the two programs do not understand each other; update the older one",
            Goodbye::Idle => "nothing happened for too long",
            Goodbye::Moved => "it goes on over another link",
            Goodbye::Other(code) => return write!(f, "ended for a reason of a newer version (code {code})"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_line_is_told_in_words() {
        let told = |place| InLine { place, again: 20 }.to_string();
        for (place, words) in [
            (0, "others are before this phone"),
            (1, "next in line"),
            (2, "2nd in line"),
            (3, "3rd in line"),
            (4, "4th in line"),
            (11, "11th in line"),
            (12, "12th in line"),
            (13, "13th in line"),
            (21, "21st in line"),
        ] {
            assert_eq!(told(place), format!("{words}; come again in 20 s"));
        }
    }

    #[test]
    fn a_goodbye_comes_back_and_sends_nobody_away_for_long() {
        let line = |place, again| Goodbye::Busy(Some(InLine { place, again }));
        let all = (1..=9).map(Goodbye::from_code);
        for goodbye in all.chain([line(3, 20), line(0, 1), line(1, InLine::LONGEST)]) {
            assert_eq!(Goodbye::from_wire(&goodbye.to_wire()), goodbye);
        }
        let longest = mvds::Goodbye { reason: 4, place: u32::MAX, again: u32::MAX };
        assert_eq!(Goodbye::from_wire(&longest), line(u32::MAX, InLine::LONGEST));
        // Fields of a reason that has none mean nothing; a place without a time is none.
        for (reason, known) in [(5, Goodbye::Stopping), (4, Goodbye::Busy(None))] {
            let again = if reason == 5 { 20 } else { 0 };
            assert_eq!(Goodbye::from_wire(&mvds::Goodbye { reason, place: 3, again }), known);
        }
    }
}
