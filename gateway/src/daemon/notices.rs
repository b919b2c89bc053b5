//! What needs the admin: looked at now and then, and whenever somebody asks how the gateway is; said in the log when it
//! begins and when it is over.

use std::time::Duration;

use waypost_protocol::ids::Fingerprint;
use waypost_store::Store;

use super::Daemon;
use super::bluetooth::Bluetooth;
use crate::notices::{Facts, Notice, changes};

/// So soon after the start a time server may not have answered yet.
const SETTLES: Duration = Duration::from_secs(600);

impl Daemon {
    /// Looks, and says in the log what has changed.
    pub(super) fn look_for_notices(&mut self) {
        let now = self.notices();
        let (new, over) = changes(&self.noticed, &now);
        for Notice { about, which, text } in new {
            log::warn!(about:?, which; "notice: {text}");
        }
        for Notice { about, which, text } in over {
            log::info!(about:?, which; "no more: {text}");
        }
        self.noticed = now;
    }

    /// What needs the admin now.
    pub(super) fn notices(&self) -> Vec<Notice> {
        let time = &self.shared.time;
        let now = time.now();
        let served = &self.destinations.0;
        let adapters = self.bluetooth.as_ref().map(Bluetooth::status).unwrap_or_default();
        let facts = Facts {
            waited: served
                .iter()
                .filter_map(|one| {
                    Some((one.config.name.to_string(), waited(&self.shared.store, &one.fingerprint)?))
                })
                .collect(),
            not_served: self.not_served(),
            patience: self.config.notices.waiting.duration(),
            store: self.shared.store.trouble().map(|trouble| trouble.error.to_string()),
            disk: self.shared.store.disk(),
            limit: self
                .shared
                .store
                .usage()
                .ok()
                .map(|usage| (usage.limit.saturating_sub(usage.used), usage.limit)),
            has_quota: self.config.store.quota.is_some_and(|quota| quota <= self.config.store.map_size),
            endings: served.iter().flat_map(|one| one.endings(now)).collect(),
            now,
            wrong_clock: time.wrong(),
            unconfirmed_clock: time.unconfirmed().filter(|_| self.node.clock().now().0 >= SETTLES),
            resets: adapters.into_iter().map(|one| (one.name, one.resets)).collect(),
        };
        facts.notices()
    }

    /// Destinations that documents wait for and that the configuration does not have any more, or has with a mistake.
    fn not_served(&self) -> Vec<String> {
        let store = &self.shared.store;
        let is_served =
            |one: &Fingerprint| self.destinations.0.iter().any(|served| served.fingerprint == *one);
        let known = store.destinations().unwrap_or_default();
        let left = known.iter().filter(|one| !is_served(one) && waited(store, one).is_some());
        left.map(ToString::to_string).collect()
    }
}

/// How long the first document has waited for a destination.
fn waited(store: &Store, destination: &Fingerprint) -> Option<Duration> {
    let first = store.waiting(destination, None, 1).ok()?;
    Some(Duration::from_secs(first.first()?.waited))
}
