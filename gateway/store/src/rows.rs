//! What is in the rows: protobuf messages, sealed. Field numbers are part of the schema version.

use std::fmt;

use prost::Message;
use waypost_protocol::advertising::AdvertisingKey;
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::document::Description;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::{GroupId, MessageId, PeerKey, StoreId};
use waypost_protocol::time::UnixTime;

use crate::change::Free;
use crate::clock::Boot;
use crate::shares::Pool;
use crate::tables::Table;

/// A message that has a table of its own.
pub(crate) trait Row: Message + Default {
    const TABLE: Table;
}

macro_rules! rows {
    ($($row:ident in $table:ident),* $(,)?) => {
        $(impl Row for $row { const TABLE: Table = Table::$table; })*
    };
}

rows! {
    StoreRow in Meta, DocumentRow in Documents, IndexRow in Index, OutboxRow in Outbox, BodyKeyRow in BodyKeys,
    DeadRow in Dead, PartialRow in Partials, TombstoneRow in Tombstones, ConfirmationRow in Confirmations,
    ConfirmationIndexRow in ConfirmationIndex, VerdictRow in Verdicts, DueRow in Due, PeerRow in Peers,
    PeerIndexRow in PeerIndex, DepositorRow in Depositors, AnswerRow in Answers, DestinationRow in Destinations,
    DestinationIndexRow in DestinationIndex, CodeRow in Codes, SettingRow in Settings,
    LostRow in Lost, CollectionRow in Collections, RetainedRow in Retained,
}

macro_rules! unformatted {
    ($($row:ident),*) => {
        $(impl fmt::Debug for $row {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($row))
            }
        })*
    };
}

// They have keys, secrets, or what says something of people.
unformatted!(BodyKeyRow, CodeRow, DocumentRow, PeerRow, SettingRow);

/// Key of the only [`StoreRow`].
pub(crate) const STORE_KEY: &[u8] = b"store";

/// The store's name and everything that is counted; rewritten with each transaction.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoreRow {
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Seconds on the uptime clock.
    #[prost(uint64, tag = "2")]
    pub uptime: u64,
    #[prost(uint64, tag = "3")]
    pub next_seq: u64,
    #[prost(uint64, tag = "4")]
    pub next_blob: u64,
    #[prost(uint64, tag = "5")]
    pub next_confirmation: u64,
    #[prost(uint64, tag = "6")]
    pub next_peer: u64,
    #[prost(uint64, tag = "7")]
    pub next_destination: u64,
    #[prost(message, required, tag = "8")]
    pub counts: CountsRow,
    /// When `uptime` was written: which start of the machine, and seconds since.
    #[prost(string, tag = "9")]
    pub boot: String,
    #[prost(uint64, tag = "10")]
    pub boot_seconds: u64,
    /// Bytes that peers of the class open, and of posters, have brought of late, as of `inflow_at` on the uptime clock.
    #[prost(uint64, tag = "11")]
    pub open_inflow: u64,
    #[prost(uint64, tag = "12")]
    pub poster_inflow: u64,
    #[prost(uint64, tag = "13")]
    pub inflow_at: u64,
}

impl StoreRow {
    /// Writes down what the clock says now.
    pub(crate) fn set_uptime(&mut self, uptime: u64, boot: Option<Boot>) {
        self.uptime = uptime;
        (self.boot, self.boot_seconds) = boot.map_or_else(Default::default, |boot| (boot.name, boot.seconds));
    }

    pub(crate) fn boot(&self) -> Option<Boot> {
        let known = !self.boot.is_empty();
        known.then(|| Boot { name: self.boot.clone(), seconds: self.boot_seconds })
    }
}

/// Sums over the other tables, which `check` recomputes.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct CountsRow {
    #[prost(uint64, tag = "1")]
    pub drafts: u64,
    #[prost(uint64, tag = "2")]
    pub waiting: u64,
    #[prost(uint64, tag = "3")]
    pub opened: u64,
    #[prost(uint64, tag = "4")]
    pub held: u64,
    #[prost(uint64, tag = "5")]
    pub rejected: u64,
    /// Bytes of bodies that are there.
    #[prost(uint64, tag = "6")]
    pub body_bytes: u64,
    /// Of those, what came from peers of the class open; and further down from those of posters.
    #[prost(uint64, tag = "7")]
    pub open_bytes: u64,
    #[prost(uint64, tag = "8")]
    pub partials: u64,
    /// Their declared sizes.
    #[prost(uint64, tag = "9")]
    pub partial_bytes: u64,
    /// Documents that something happens to by itself: a lifetime, or a body to be freed.
    #[prost(uint64, tag = "10")]
    pub timed: u64,
    /// Rows of documents to be asked for again.
    #[prost(uint64, tag = "11")]
    pub lost: u64,
    /// Documents that came for readers.
    #[prost(uint64, tag = "12")]
    pub received: u64,
    /// Of the bytes of bodies, what yields where others need the room.
    #[prost(uint64, tag = "13")]
    pub retained_bytes: u64,
    /// Of the bodies under way, those of peers of the class open, and their declared sizes.
    #[prost(uint64, tag = "14")]
    pub open_partials: u64,
    #[prost(uint64, tag = "15")]
    pub open_partial_bytes: u64,
    #[prost(uint64, tag = "16")]
    pub poster_bytes: u64,
    #[prost(uint64, tag = "17")]
    pub poster_partials: u64,
    #[prost(uint64, tag = "18")]
    pub poster_partial_bytes: u64,
}

/// States as numbers.
pub(crate) const DRAFT: u32 = 1;
pub(crate) const WAITING: u32 = 2;
pub(crate) const CONFIRMED: u32 = 3;
/// It came for readers: nothing has to become of it. It may have a verdict.
pub(crate) const RECEIVED: u32 = 4;

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct DocumentRow {
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub group: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub timestamp: u64,
    #[prost(uint64, tag = "4")]
    pub size: u64,
    /// [`Header::encode`].
    #[prost(bytes = "vec", tag = "5")]
    pub header: Vec<u8>,
    #[prost(uint64, tag = "6")]
    pub destination: u64,
    #[prost(uint64, tag = "7")]
    pub lifetime: u64,
    #[prost(uint32, tag = "8")]
    pub priority: u32,
    /// Peer number of the first depositor; 0 for this node itself.
    #[prost(uint64, tag = "9")]
    pub depositor: u64,
    /// A code of [`Pool`]: towards whose share its bytes count.
    #[prost(uint32, tag = "10")]
    pub pool: u32,
    /// Seconds under way before it came.
    #[prost(uint64, tag = "11")]
    pub age: u64,
    /// When it came, on the uptime clock.
    #[prost(uint64, tag = "12")]
    pub arrival: u64,
    /// When it came, by the wall clock.
    #[prost(uint64, tag = "13")]
    pub wall: u64,
    #[prost(uint32, tag = "14")]
    pub state: u32,
    /// A code of [`Verdict`], 0 for none.
    #[prost(uint32, tag = "15")]
    pub verdict: u32,
    /// Whether the body is there.
    #[prost(bool, tag = "16")]
    pub live: bool,
    #[prost(uint64, tag = "17")]
    pub blob: u64,
    #[prost(string, optional, tag = "18")]
    pub note: Option<String>,
    /// When the body shall be freed, on the uptime clock; 0 for never.
    #[prost(uint64, tag = "19")]
    pub free_at: u64,
    /// Whether it is for readers, so that no verdict frees its body.
    #[prost(bool, tag = "20")]
    pub received: bool,
    /// Whether its body goes earlier where others need the room.
    #[prost(bool, tag = "21")]
    pub yields: bool,
}

impl DocumentRow {
    /// `None` where a field has a wrong length.
    pub(crate) fn description(&self) -> Option<Description> {
        Some(Description {
            id: MessageId::from_slice(&self.id).ok()?,
            group: GroupId::from_slice(&self.group).ok()?,
            timestamp: UnixTime(self.timestamp),
            size: self.size,
        })
    }

    pub(crate) fn header(&self) -> Option<Header> {
        envelope::parse(&self.header).ok().map(|(header, _)| header)
    }

    pub(crate) fn verdict(&self) -> Option<Verdict> {
        u8::try_from(self.verdict).ok().and_then(Verdict::from_code)
    }

    /// Seconds under way at `now` of the uptime clock.
    pub(crate) fn age_at(&self, now: u64) -> u64 {
        self.age.saturating_add(now.saturating_sub(self.arrival))
    }

    /// Whether its lifetime has passed at `now`.
    pub(crate) fn is_expired(&self, now: u64) -> bool {
        self.lifetime > 0 && self.age_at(now) >= self.lifetime
    }

    /// Whether it came to be read, as does what `received` is about: then a verdict is no answer.
    pub(crate) fn is_read_by(&self, received: Option<Free>) -> bool {
        self.state == RECEIVED && received.is_some()
    }

    /// Notes when its body goes.
    pub(crate) fn set_free(&mut self, free: Free, now: u64) {
        self.free_at = match free {
            Free::After(seconds) | Free::Yielding(seconds) => now.saturating_add(seconds).max(1),
            Free::Now | Free::Never => 0,
        };
        self.yields = matches!(free, Free::Yielding(_));
    }

    pub(crate) fn pool(&self) -> Option<Pool> {
        Pool::from_code(self.pool)
    }

    /// Whether its body counts towards what its first depositor may hold here, or all of a class together.
    pub(crate) fn is_charged(&self) -> bool {
        self.live && !self.yields && !self.received && self.depositor != 0
    }

    /// Whether its body goes where others need the room.
    pub(crate) fn is_retained(&self) -> bool {
        self.live && self.yields
    }

    /// Whether the sweeper has to look at it.
    pub(crate) fn is_timed(&self) -> bool {
        self.lifetime > 0 || (self.live && self.free_at > 0)
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct IndexRow {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct OutboxRow {
    #[prost(uint32, tag = "1")]
    pub attempts: u32,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct BodyKeyRow {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct DeadRow {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PartialRow {
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub group: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub timestamp: u64,
    #[prost(uint64, tag = "4")]
    pub size: u64,
    #[prost(bytes = "vec", tag = "5")]
    pub header: Vec<u8>,
    #[prost(uint64, tag = "6")]
    pub depositor: u64,
    #[prost(uint64, tag = "7")]
    pub blob: u64,
    #[prost(uint64, tag = "8")]
    pub committed: u64,
    /// When the last piece came, on the uptime clock.
    #[prost(uint64, tag = "9")]
    pub touched: u64,
    /// A code of [`Pool`]: towards whose share it counts.
    #[prost(uint32, tag = "10")]
    pub pool: u32,
}

impl PartialRow {
    pub(crate) fn pool(&self) -> Option<Pool> {
        Pool::from_code(self.pool)
    }

    pub(crate) fn description(&self) -> Option<Description> {
        Some(Description {
            id: MessageId::from_slice(&self.id).ok()?,
            group: GroupId::from_slice(&self.group).ok()?,
            timestamp: UnixTime(self.timestamp),
            size: self.size,
        })
    }

    pub(crate) fn header(&self) -> Option<Header> {
        envelope::parse(&self.header).ok().map(|(header, _)| header)
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TombstoneRow {
    /// A number of [`waypost_protocol::refusal::Reason`].
    #[prost(uint32, tag = "1")]
    pub reason: u32,
    /// When it went, on the uptime clock.
    #[prost(uint64, tag = "2")]
    pub since: u64,
    /// The document; empty in rows of a program that did not write it yet.
    #[prost(bytes = "vec", tag = "3")]
    pub id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfirmationRow {
    /// [`Confirmation::encode`].
    #[prost(bytes = "vec", tag = "1")]
    pub encoded: Vec<u8>,
    /// When it came, on the uptime clock.
    #[prost(uint64, tag = "2")]
    pub since: u64,
    #[prost(uint64, tag = "3")]
    pub destination: u64,
}

impl ConfirmationRow {
    pub(crate) fn confirmation(&self) -> Option<Confirmation> {
        Confirmation::decode(&self.encoded).ok()
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ConfirmationIndexRow {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct VerdictRow {
    #[prost(uint32, tag = "1")]
    pub verdict: u32,
    #[prost(uint64, tag = "2")]
    pub confirmation: u64,
}

impl VerdictRow {
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        u8::try_from(self.verdict).ok().and_then(Verdict::from_code)
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct DueRow {}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct PeerRow {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub class: u32,
    #[prost(string, tag = "3")]
    pub label: String,
    #[prost(bool, tag = "4")]
    pub revoked: bool,
    /// Its store, when last heard of; empty before.
    #[prost(bytes = "vec", tag = "5")]
    pub store: Vec<u8>,
    /// Counts the stores it had: answers of an earlier one are void.
    #[prost(uint64, tag = "6")]
    pub epoch: u64,
    #[prost(uint64, tag = "7")]
    pub first_contact: u64,
    #[prost(uint64, tag = "8")]
    pub last_contact: u64,
    #[prost(uint64, tag = "9")]
    pub deposited: u64,
    #[prost(uint64, tag = "10")]
    pub deposited_bytes: u64,
    #[prost(uint64, tag = "11")]
    pub delivered: u64,
    /// What it has taken of destinations' certificates; empty for nothing.
    #[prost(bytes = "vec", tag = "12")]
    pub told: Vec<u8>,
    /// With which its advertisements are recognised; empty where it has not told.
    #[prost(bytes = "vec", tag = "13")]
    pub advertising_key: Vec<u8>,
    /// Bytes of bodies that are here because it brought them first; not where they count for all of a class.
    #[prost(uint64, tag = "14")]
    pub held_bytes: u64,
    /// Its bodies under way, and their declared sizes; not where they count for all of a class.
    #[prost(uint64, tag = "15")]
    pub partials: u64,
    #[prost(uint64, tag = "16")]
    pub partial_bytes: u64,
    /// The poster by which it came to be of that class.
    #[prost(string, tag = "17")]
    pub poster: String,
}

impl PeerRow {
    pub(crate) fn key(&self) -> Option<PeerKey> {
        PeerKey::from_slice(&self.key).ok()
    }

    pub(crate) fn store(&self) -> Option<StoreId> {
        StoreId::from_slice(&self.store).ok()
    }

    pub(crate) fn advertising_key(&self) -> Option<AdvertisingKey> {
        AdvertisingKey::from_slice(&self.advertising_key).ok()
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct PeerIndexRow {
    #[prost(uint64, tag = "1")]
    pub peer: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct DepositorRow {}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct AnswerRow {
    /// [`PeerRow::epoch`] at the time.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Acknowledged; else refused.
    #[prost(bool, tag = "2")]
    pub held: bool,
    /// A number of [`waypost_protocol::refusal::Reason`].
    #[prost(uint32, tag = "3")]
    pub refused: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DestinationRow {
    #[prost(bytes = "vec", tag = "1")]
    pub fingerprint: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct DestinationIndexRow {
    #[prost(uint64, tag = "1")]
    pub destination: u64,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct CodeRow {
    #[prost(bytes = "vec", tag = "1")]
    pub secret: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub class: u32,
    /// The end of its validity on the uptime clock; 0 for none.
    #[prost(uint64, tag = "3")]
    pub expires: u64,
    /// May be used by any number of peers.
    #[prost(bool, tag = "4")]
    pub reusable: bool,
    /// The peer that used it up; empty before.
    #[prost(bytes = "vec", tag = "5")]
    pub used_by: Vec<u8>,
    /// What a printed one is called.
    #[prost(string, tag = "6")]
    pub poster: String,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct SettingRow {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct CollectionRow {}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct RetainedRow {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LostRow {
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub destination: u64,
}

impl LostRow {
    pub(crate) fn id(&self) -> Option<MessageId> {
        MessageId::from_slice(&self.id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_secrets_or_names_are_formatted_without_them() {
        let (text, bytes) = ("planted".to_owned(), vec![211; 16]);
        let rows: [&dyn fmt::Debug; 5] = [
            &BodyKeyRow { key: bytes.clone() },
            &CodeRow { secret: bytes.clone(), ..CodeRow::default() },
            &DocumentRow { note: Some(text.clone()), ..DocumentRow::default() },
            &PeerRow { label: text.clone(), advertising_key: bytes.clone(), ..PeerRow::default() },
            &SettingRow { key: text, value: bytes },
        ];
        for shown in rows.map(|row| format!("{row:?}")) {
            assert!(!shown.contains("planted") && !shown.contains("211"), "{shown}");
        }
    }
}
