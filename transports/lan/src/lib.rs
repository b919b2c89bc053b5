//! Links over TCP on a local network, and finding gateways there by DNS-SD.

mod discovery;
mod tcp;

pub use discovery::{Announcement, DiscoveryError, Found, SERVICE, announce, browse, instance};
pub use tcp::{LanError, Listener, USEFUL_FRAME, connect, connect_while_near};

/// The port of a gateway's LAN links unless its configuration says otherwise.
pub const DEFAULT_PORT: u16 = 4180;
