//! Who is connected to an adapter without a link: they hold a place of it, and are sent away after a while.

use std::collections::HashMap;
use std::time::Duration;

use bluer::{Adapter, Address, Device};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::bluez::call;
use crate::central::disconnected;
use crate::links::Links;

/// Whoever is connected for so long without a link is disconnected.
const IDLE: Duration = Duration::from_secs(15);
/// How often it is looked who is connected.
const EVERY: Duration = Duration::from_secs(3);
/// For so long after somebody was new.
const LOOK: Duration = Duration::from_secs(60);

/// Those who are connected.
pub(crate) struct Guests {
    /// Whether anybody is sent away.
    limited: bool,
    here: HashMap<Address, Guest>,
    look_until: Instant,
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
            if let Ok(events) = events {
                disconnected(events).await;
            }
        });
        Guest { since, stay: AbortOnDropHandle::new(stay) }
    }
}

impl Guests {
    pub(crate) fn new(limited: bool) -> Self {
        let now = Instant::now();
        Guests { limited, here: HashMap::new(), look_until: now + LOOK, next_look: now + EVERY }
    }

    /// Somebody connects, or was heard.
    pub(crate) fn expect(&mut self) {
        self.look_until = Instant::now() + LOOK;
    }

    /// When [`Guests::look`] is due.
    pub(crate) fn next_look(&self, links: &Links) -> Option<Instant> {
        let looks = Instant::now() < self.look_until || links.count() > 0 || !self.here.is_empty();
        (self.limited && looks).then_some(self.next_look)
    }

    /// Sends away whoever is here without a link for too long, where it is time to look.
    pub(crate) async fn look(&mut self, adapter: &Adapter, links: &Links) {
        let now = Instant::now();
        if self.next_look(links).is_none_or(|look| now < look) {
            return;
        }
        self.next_look = now + EVERY;
        // An adapter that says nothing shows in other ways.
        let Ok(addresses) = call("list who is connected", adapter.device_addresses()).await else { return };
        let mut before = std::mem::take(&mut self.here);
        for address in addresses {
            let Ok(device) = adapter.device(address) else { continue };
            if !device.is_connected().await.unwrap_or(false) || device.is_paired().await.unwrap_or(true) {
                continue;
            }
            // It may have left and come again since then.
            let mut guest = match before.remove(&address) {
                Some(guest) if !guest.stay.is_finished() => guest,
                _ => Guest::new(&device, now).await,
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
    }
}
