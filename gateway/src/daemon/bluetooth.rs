//! Phones over Bluetooth: what everyone near is told, and how the adapters are.

use std::convert::Infallible;
use std::path::PathBuf;
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
    /// Phones may go on over the gateway's Wi-Fi.
    pub(super) offers_wifi: bool,
    /// Bytes that the store takes.
    pub(super) room: u64,
}

/// The gateway on the air.
pub(super) struct Bluetooth {
    peripheral: Peripheral,
    visible: watch::Sender<Visible>,
    identifiers: Identifiers,
    /// Calls phones; ends with this.
    _caller: Option<Caller>,
}

/// Identifiers that only those recognise who have met the gateway, each for a while.
struct Identifiers {
    key: AdvertisingKey,
    rng: ChaCha20Rng,
    current: Identifier,
    renew_at: Monotonic,
}

impl Identifiers {
    fn new(key: AdvertisingKey, mut rng: ChaCha20Rng, now: Monotonic) -> Self {
        let current = Identifier::make(&key, &mut rng);
        Identifiers { key, rng, current, renew_at: now + RENEW }
    }

    /// The one that is used now.
    fn at(&mut self, now: Monotonic) -> Identifier {
        if self.renew_at <= now {
            self.current = Identifier::make(&self.key, &mut self.rng);
            self.renew_at = now + RENEW;
        }
        self.current
    }
}

impl Bluetooth {
    /// Begins, where the configuration says so. Links that phones open go to `links`.
    pub(super) fn start(
        config: &Config,
        key: AdvertisingKey,
        rng: ChaCha20Rng,
        now: Monotonic,
        links: mpsc::Sender<Link>,
        caller: Option<Caller>,
    ) -> Option<Self> {
        if !config.ble.enabled {
            return None;
        }
        let facts = Facts { has_backhaul: false, offers_wifi: false, room: 0 };
        let mut identifiers = Identifiers::new(key, rng, now);
        let (visible, seen) = watch::channel(said(config.name.as_str(), facts, identifiers.at(now)));
        let options = Options {
            adapters: adapters(config),
            links: places(config),
            sparing: true,
            l2cap: true,
            // Under systemd, whose waypost-bluetooth.path watches for it.
            restart_request: std::env::var_os("RUNTIME_DIRECTORY")
                .map(|folder| PathBuf::from(folder).join("restart-bluetooth")),
        };
        let peripheral = Peripheral::start(options, seen, links);
        Some(Bluetooth { peripheral, visible, identifiers, _caller: caller })
    }

    /// What everyone near may know has perhaps changed.
    pub(super) fn tell(&mut self, facts: Facts, name: &str, now: Monotonic) {
        let said = said(name, facts, self.identifiers.at(now));
        self.visible.send_if_modified(|before| {
            let is_new = *before != said;
            *before = said;
            is_new
        });
    }

    /// When [`Bluetooth::tell`] is due at the latest.
    pub(super) fn renew_at(&self) -> Monotonic {
        self.identifiers.renew_at
    }

    /// How the adapters are.
    pub(super) fn status(&self) -> Vec<AdapterStatus> {
        self.peripheral.status()
    }
}

fn said(name: &str, facts: Facts, identifier: Identifier) -> Visible {
    let advertisement = Advertisement {
        has_backhaul: facts.has_backhaul,
        offers_wifi: facts.offers_wifi,
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

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn an_identifier_is_used_for_a_quarter_of_an_hour_and_then_another_one_of_the_same_key() {
        let key = AdvertisingKey::new([7; 16]);
        let begun = Monotonic(Duration::from_secs(5));
        let mut identifiers = Identifiers::new(key.clone(), ChaCha20Rng::seed_from_u64(1), begun);
        let first = identifiers.at(begun);
        assert_eq!(identifiers.at(begun + Duration::from_secs(899)), first);
        let due = identifiers.renew_at;
        assert_eq!(due, begun + Duration::from_secs(900));
        let second = identifiers.at(due);
        assert_ne!(second, first);
        assert!(first.is_of(&key) && second.is_of(&key) && !second.is_of(&AdvertisingKey::new([8; 16])));
        assert_eq!(identifiers.renew_at, due + Duration::from_secs(900));
    }
}
