//! Sessions over links, driven around the engine and the store: what gateway and phone share.

mod ahead;
mod clock;
mod codes;
mod conversation;
mod host;
mod io;
mod keys;
mod limits;
mod node;
mod turns;

pub use clock::Clock;
pub use host::{ContactSummary, Ending, Grant, Host, StoredNow};
pub use keys::{KeyFileError, identity, identity_secret, inspect_key, secret_key, store_key, system_rng};
pub use limits::{Limits, MediumLimits};
pub use node::{ConversationId, Node, NodeEvent};
pub use turns::{Admission, TurnLength, Turns};
