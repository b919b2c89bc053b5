//! Links over TCP on a local network, and finding gateways there by DNS-SD.

mod discovery;
mod tcp;

pub use discovery::{Announcement, DiscoveryError, Found, SERVICE, announce, browse};
pub use tcp::{LanError, Listener, USEFUL_FRAME, connect};

/// The port of a gateway's LAN links unless its configuration says otherwise.
pub const DEFAULT_PORT: u16 = 4180;
