//! Bounds on what peers may use up, in all and on each radio.

use std::time::Duration;

use waypost_link::Medium;

use crate::turns::TurnLength;

/// Bounds on what peers may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Authenticated conversations at the same time.
    pub sessions: usize,
    /// Links at the same time that come from one address.
    pub per_address: usize,
    /// Links of unlimited media at the same time on which nobody has authenticated.
    pub half_open: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a conversation may be silent.
    pub idle: Duration,
    /// Of local networks.
    pub lan: MediumLimits,
    /// Of each radio's Wi-Fi Direct group.
    pub wifi: MediumLimits,
    /// Of each Bluetooth adapter, L2CAP and GATT together.
    pub ble: MediumLimits,
}

/// Bounds of links that share something, [`waypost_link::LinkInfo::shares`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediumLimits {
    /// Peers that are served at the same time. Whoever comes beyond that waits for its turn.
    pub links: usize,
    /// Links at the same time on which nobody has authenticated. They come on top of `links`: who has to wait needs one
    /// to be told. Those beyond it wait unheard, as many as `links`, until a handshake is over.
    pub half_open: usize,
    /// How long a turn is while others wait.
    pub turn: TurnLength,
}

impl MediumLimits {
    /// As many as come.
    pub fn none() -> Self {
        MediumLimits { links: usize::MAX, half_open: usize::MAX, turn: TurnLength::default() }
    }

    /// A Bluetooth adapter as boards have it, which keeps about 8 links: 7 are served, which leaves one for whoever has to
    /// be told to wait; 3 handshakes at once.
    pub fn bluetooth() -> Self {
        MediumLimits { links: 7, half_open: 3, turn: TurnLength::default() }
    }

    /// A Wi-Fi Direct group of a board's radio, which keeps 7 to 10 stations: everybody may come, and 7 are served at once.
    pub fn wifi_direct() -> Self {
        MediumLimits { links: 7, half_open: 8, turn: TurnLength::default() }
    }

    /// Whether links are counted at all.
    pub(crate) fn is_limited(&self) -> bool {
        self.links != usize::MAX
    }
}

impl Limits {
    /// What holds for links of this kind that share something.
    pub fn of(&self, medium: Medium) -> MediumLimits {
        match medium {
            Medium::Memory => MediumLimits::none(),
            Medium::Lan => self.lan,
            Medium::WifiDirect => self.wifi,
            Medium::BleL2cap | Medium::BleGatt => self.ble,
        }
    }
}
