//! Wire formats, Noise sessions and the sync engine of Waypost, without IO: no sockets, files, threads or clocks.
//!
//! `docs/protocol.md` is the specification; `tests/versions/` freezes the bytes.

pub mod advertising;
pub mod api;
pub mod collection;
pub mod confirmation;
pub mod content;
pub mod document;
pub mod envelope;
pub mod ids;
pub mod invite;
pub mod moving;
pub mod mvds;
pub mod refusal;
pub mod session;
pub mod succession;
pub mod sync;
pub mod time;
