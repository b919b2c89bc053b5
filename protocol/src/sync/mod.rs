//! The sync engine: OFFER, REQUEST, MESSAGE, ACK of 2/MVDS between two nodes, and Waypost's extensions.

mod chains;
mod confirm;
mod engine;
mod holdings;
mod payload;
mod receive;
mod report;
mod send;
mod types;
mod unanswered;

pub use engine::{Engine, MAX_UNPERSISTED, WINDOW};
pub use holdings::{Holdings, HoldingsError, Outgoing, Page, Partial, Persist, Recipient, Standing};
pub use receive::PIECE;
pub use types::{
    Accepts, Backoff, CollectionReport, Event, Input, MAX_HELLO_ENTRIES, MAX_NAME, Output, Parameters,
    PeerHello, Pipe, ProtocolError, Report, Served, Stored, Ticket,
};

/// Bodies up to this size travel as one MESSAGE, larger ones in chunks (design §5).
pub const INLINE_MAX: u64 = 16 * 1024;
/// At most so many collections have a line of their own in a report.
pub const MAX_REPORTED_COLLECTIONS: usize = 16;
