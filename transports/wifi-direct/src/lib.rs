//! Wi-Fi Direct (Wi-Fi Alliance, Wi-Fi Direct specification 1.9) by wpa_supplicant, over its D-Bus API.
//!
//! [`GroupOwner`] keeps a kiosk's group up, with the same name, passphrase and address over restarts. [`Station`] finds
//! kiosks from a phone's side, and joins their groups. Links over a group are TCP, which `waypost-lan` makes.
//!
//! Everybody who was ever told a group's passphrase can join it: a group is a way to reach the gateway, and no boundary.

mod beside;
mod bonjour;
mod channel;
mod credentials;
mod error;
mod group;
mod left;
mod membership;
mod owner;
mod radio;
mod said;
mod station;
mod status;
mod supplicant;
mod wish;

pub use bonjour::Service;
pub use channel::{Channels, Megahertz, channel, frequency};
pub use credentials::{CredentialError, Credentials, Network, Passphrase, Pin, Ssid};
pub use error::WifiError;
pub use left::end_left;
pub use membership::{leave_all, leave_dropped};
pub use owner::{GroupOwner, Join, Options};
pub use radio::{GROUP_PREFIX, radio_of};
pub use said::{Near, Peer};
pub use station::{Found, Joined, Station};
pub use status::{GroupStatus, State, Up};
pub use wish::Mode;
