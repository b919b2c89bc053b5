//! Who is connected to an adapter without a link: they hold a place of it, and are sent away after a while.

use std::collections::HashMap;
use std::time::Duration;

use bluer::{Adapter, Address, Device, DeviceEvent, DeviceProperty};
use futures_util::StreamExt as _;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::bluez::call;
use crate::links::Links;

/// Whoever is connected for so long without a link is disconnected.
const IDLE: Duration = Duration::from_secs(15);
/// How often it is looked who is connected, while somebody is or may be.
const EVERY: Duration = Duration::from_secs(3);
/// How often otherwise: BlueZ does not say when one connects whom it knows.
const SELDOM: Duration = Duration::from_secs(12);
/// For so long after somebody was new it is looked often.
const LOOK: Duration = Duration::from_secs(60);
/// Who is new has connected by then, if that is why BlueZ knows it.
const SOON: Duration = Duration::from_millis(300);

/// Those who are connected.
pub(crate) struct Guests {
    /// Whether anybody is sent away.
    limited: bool,
    here: HashMap<Address, Guest>,
    look_until: Instant,
    last_look: Instant,
    next_look: Instant,
}

struct Guest {
    /// Since when it has had no link.
    since: Instant,
    /// Ends with its connection.
    stay: AbortOnDropHandle<()>,
}

impl Guest {
    async fn new(device: &Device, since: Instant) -> Self {
        let events = call("watch a connection", device.events()).await;
        let stay = tokio::spawn(async {
            let Ok(events) = events else { return };
            // BlueZ says only the last of two changes in quick succession: one that comes is another one.
            let mut changes = std::pin::pin!(events.filter(|event| {
                let is_change = matches!(event, DeviceEvent::PropertyChanged(DeviceProperty::Connected(_)));
                std::future::ready(is_change)
            }));
            changes.next().await;
        });
        Guest { since, stay: AbortOnDropHandle::new(stay) }
    }
}

impl Guests {
    pub(crate) fn new(limited: bool) -> Self {
        let now = Instant::now();
        Guests {
            limited,
            here: HashMap::new(),
            look_until: now + LOOK,
            last_look: now,
            next_look: now + EVERY,
        }
    }

    /// Somebody connects, or was heard.
    pub(crate) fn expect(&mut self) {
        let now = Instant::now();
        self.look_until = now + LOOK;
        // Not for each of a crowd.
        self.next_look = self.next_look.min((now + SOON).max(self.last_look + SOON * 4));
    }

    /// Whether somebody is connected, as far as was seen.
    pub(crate) fn are_here(&self) -> bool {
        !self.here.is_empty()
    }

    /// When [`Guests::look`] is due.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.limited.then_some(self.next_look)
    }

    /// Sends away whoever is here without a link for too long, where it is time to look. Whether somebody was new.
    pub(crate) async fn look(&mut self, adapter: &Adapter, links: &Links) -> bool {
        let now = Instant::now();
        if self.next_look().is_none_or(|look| now < look) {
            return false;
        }
        // An adapter that says nothing shows in other ways.
        self.last_look = now;
        let Ok(addresses) = call("list who is connected", adapter.device_addresses()).await else {
            self.next_look = now + EVERY;
            return false;
        };
        let mut is_new = false;
        let mut before = std::mem::take(&mut self.here);
        for address in addresses {
            let Ok(device) = adapter.device(address) else { continue };
            if !device.is_connected().await.unwrap_or(false) || device.is_paired().await.unwrap_or(true) {
                continue;
            }
            // It may have left and come again since then.
            let mut guest = match before.remove(&address) {
                Some(guest) if !guest.stay.is_finished() => guest,
                _ => {
                    is_new = true;
                    // BlueZ may have taken its time to answer.
                    Guest::new(&device, Instant::now()).await
                }
            };
            if links.from(address) > 0 {
                guest.since = now;
            } else if now.duration_since(guest.since) >= IDLE {
                guest.since = now;
                log::info!(adapter = adapter.name(), address:%; "connected without a link for {} s; disconnected", IDLE.as_secs());
                tokio::spawn(async move {
                    if let Err(error) = call("disconnect", device.disconnect()).await {
                        log::debug!("{error}");
                    }
                });
            }
            self.here.insert(address, guest);
        }
        let is_busy = now < self.look_until || links.count() > 0 || self.are_here();
        // At the very moment for whoever is to go.
        let dues = self.here.values().map(|guest| guest.since + IDLE);
        self.next_look = dues.fold(now + if is_busy { EVERY } else { SELDOM }, Instant::min);
        is_new
    }
}
