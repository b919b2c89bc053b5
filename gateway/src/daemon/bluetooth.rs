//! Phones over Bluetooth: what everyone near is told, and how the adapters are.

use std::convert::Infallible;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use tokio::sync::{mpsc, watch};
use waypost_ble::{AdapterStatus, Options, Peripheral, Visible, Which};
use waypost_config::Config;
use waypost_link::Link;
use waypost_protocol::advertising::{Advertisement, AdvertisingKey, Identifier};
use waypost_protocol::time::Monotonic;

use super::callers::Caller;

/// How long an identifier is used (design §5).
const RENEW: Duration = Duration::from_secs(15 * 60);
/// With less than this the store takes no form worth a contact.
const ROOM: u64 = 64 * 1024;

/// Facts that everyone near may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// A path to a destination may be there.
    pub(super) has_backhaul: bool,
    /// Bytes that the store takes.
    pub(super) room: u64,
}

/// The gateway on the air.
pub(super) struct Bluetooth {
    peripheral: Peripheral,
    visible: watch::Sender<Visible>,
    key: AdvertisingKey,
    rng: ChaCha20Rng,
    identifier: Identifier,
    renew_at: Monotonic,
    facts: Facts,
    name: String,
    /// Calls phones; ends with this.
    _caller: Option<Caller>,
}

impl Bluetooth {
    /// Begins, where the configuration says so. Links that phones open go to `links`.
    pub(super) fn start(
        config: &Config,
        key: AdvertisingKey,
        mut rng: ChaCha20Rng,
        now: Monotonic,
        links: mpsc::Sender<Link>,
        caller: Option<Caller>,
    ) -> Option<Self> {
        if !config.ble.enabled {
            return None;
        }
        let facts = Facts { has_backhaul: false, room: 0 };
        let identifier = Identifier::make(&key, &mut rng);
        let name = config.name.as_str().to_owned();
        let (visible, seen) = watch::channel(said(&name, facts, identifier));
        let options =
            Options { adapters: adapters(config), links: places(config), sparing: true, l2cap: true };
        let peripheral = Peripheral::start(options, seen, links);
        let renew_at = now + RENEW;
        Some(Bluetooth { peripheral, visible, key, rng, identifier, renew_at, facts, name, _caller: caller })
    }

    /// What everyone near may know has perhaps changed.
    pub(super) fn tell(&mut self, facts: Facts, name: &str, now: Monotonic) {
        self.facts = facts;
        self.name = name.to_owned();
        if self.renew_at <= now {
            self.identifier = Identifier::make(&self.key, &mut self.rng);
            self.renew_at = now + RENEW;
        }
        let said = said(&self.name, self.facts, self.identifier);
        self.visible.send_if_modified(|before| {
            let is_new = *before != said;
            *before = said;
            is_new
        });
    }

    /// When [`Bluetooth::tell`] is due at the latest.
    pub(super) fn renew_at(&self) -> Monotonic {
        self.renew_at
    }

    /// How the adapters are.
    pub(super) fn status(&self) -> Vec<AdapterStatus> {
        self.peripheral.status()
    }
}

fn said(name: &str, facts: Facts, identifier: Identifier) -> Visible {
    let advertisement = Advertisement {
        has_backhaul: facts.has_backhaul,
        offers_wifi: false,
        has_room: facts.room >= ROOM,
        is_gateway: true,
        identifier,
    };
    Visible { name: name.to_owned(), data: advertisement.encode().to_vec() }
}

/// Adapters as the configuration names them.
pub(super) fn adapters(config: &Config) -> Vec<Which> {
    let which = |name: &waypost_config::AdapterName| {
        let parsed: Result<Which, Infallible> = name.as_str().parse();
        parsed.unwrap_or_else(|never| match never {})
    };
    config.ble.adapters.iter().map(which).collect()
}

/// Phones at once on each adapter.
pub(super) fn places(config: &Config) -> usize {
    usize::try_from(config.ble.links).unwrap_or(usize::MAX)
}
