//! Links over Bluetooth LE, by BlueZ: being found and called ([`Peripheral`]), looking and calling ([`Radio`]).
//!
//! L2CAP credit-based channels where both sides can, GATT otherwise. docs/bluetooth.md says what is advertised and which
//! states an adapter has; no type of BlueZ's bindings leaves this crate.

mod adapter;
mod advertiser;
mod bluez;
mod care;
mod central;
mod channel;
pub mod fragment;
mod gatt_service;
mod gatt_stream;
mod guarded;
mod guests;
mod info;
mod links;
mod peripheral;
mod presence;
mod read_ahead;
mod serve;
mod status;

pub use adapter::Which;
pub use bluez::BleError;
pub use central::{Bearer, Call, HangUp, Radio, Sighting};
pub use peripheral::{Options, Peripheral, Visible};
pub use status::{AdapterStatus, State};

/// Frames of this many bytes fill a link well: with their length they are one packet of a channel (4 KiB).
pub const USEFUL_FRAME: usize = 4096 - waypost_link::PREFIX;
/// Under which the advertisement's data stands: the identifier for those who have none of their own (Core Specification
/// Supplement, 1.4).
const COMPANY: u16 = 0xffff;
