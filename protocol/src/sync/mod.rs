//! The sync engine: OFFER, REQUEST, MESSAGE, ACK of 2/MVDS between two nodes, and Waypost's extensions.

mod holdings;

pub use holdings::{Holdings, HoldingsError, Outgoing, Persist, Recipient, Standing};

/// At most so many collections have a line of their own in a report.
pub const MAX_REPORTED_COLLECTIONS: usize = 16;
