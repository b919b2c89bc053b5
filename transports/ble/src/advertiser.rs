//! Being seen: the advertisements of an adapter that works, registered again for as long as it does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bluer::adv::{Advertisement, AdvertisementHandle, SecondaryChannel};
use bluer::{Adapter, AdapterEvent, AdapterProperty};
use futures_util::StreamExt;
use tokio::time::Instant;

use crate::bluez::{BleError, call};
use crate::guests::Guests;
use crate::info::SERVICE;
use crate::links::Links;
use crate::peripheral::{Shared, Visible};
use crate::serve::Stopped;
use crate::{COMPANY, adapter};

/// Advertising intervals: while nobody is here, and while somebody is or was a moment ago.
const IDLE_INTERVAL: Duration = Duration::from_millis(1022);
const ACTIVE_INTERVAL: Duration = Duration::from_millis(152);
/// How long it stays active after the last link.
const STAY_ACTIVE: Duration = Duration::from_secs(30);
/// How often the advertisement is registered again while somebody is connected: with extended advertising nobody else can
/// connect after somebody has, until it is.
const AGAIN_WITH_LINKS: Duration = Duration::from_secs(2);
/// How often otherwise: it shows whether the adapter still answers.
const AGAIN: Duration = Duration::from_secs(60);
/// A legacy packet's room for a name: 31 bytes less length and type.
const LEGACY_NAME: usize = 29;
/// Names in extended packets.
const LONGEST_NAME: usize = 64;

/// The advertisements of one adapter.
pub(crate) struct Advertiser {
    adapter: Adapter,
    shared: Shared,
    links: Arc<Links>,
    advertised: Vec<AdvertisementHandle>,
    guests: Guests,
    active_until: Instant,
}

impl Advertiser {
    pub(crate) fn new(adapter: &Adapter, shared: &Shared, links: &Arc<Links>) -> Self {
        Advertiser {
            adapter: adapter.clone(),
            shared: shared.clone(),
            links: links.clone(),
            advertised: Vec::new(),
            // A phone's own adapter has other guests.
            guests: Guests::new(shared.options.sparing),
            active_until: Instant::now() + STAY_ACTIVE,
        }
    }

    /// Advertises until the adapter does not work any more.
    pub(crate) async fn run(&mut self) -> Result<Stopped, BleError> {
        let events = call("watch the adapter", self.adapter.events()).await?;
        tokio::pin!(events);
        self.advertise().await?;
        let links = self.links.clone();
        self.shared.board.links(self.adapter.name(), links.count());
        let mut again = self.next();
        loop {
            let limit = self.guests.next_look().map_or(again, |look| look.min(again));
            tokio::select! {
                event = events.next() => match event {
                    None => return Ok(Stopped::Gone),
                    Some(AdapterEvent::PropertyChanged(AdapterProperty::Powered(false))) => return Ok(Stopped::Off),
                    // Somebody connects, or was heard.
                    Some(AdapterEvent::DeviceAdded(_)) => self.guests.expect(),
                    Some(_) => {}
                },
                () = links.changed.notified() => {
                    self.active_until = Instant::now() + STAY_ACTIVE;
                    self.shared.board.links(self.adapter.name(), links.count());
                    again = again.min(Instant::now() + AGAIN_WITH_LINKS);
                }
                changed = self.shared.visible.changed() => {
                    if changed.is_err() {
                        // Whoever is visible is about to end.
                        std::future::pending::<()>().await;
                    }
                    again = Instant::now();
                }
                () = tokio::time::sleep_until(limit) => {}
            }
            if self.guests.look(&self.adapter, &links).await {
                // Nobody else could connect until then.
                again = again.min(Instant::now());
            }
            if again <= Instant::now() {
                if !call("read the adapter's state", self.adapter.is_powered()).await? {
                    return Ok(Stopped::Off);
                }
                if call("read what is advertised", self.adapter.active_advertising_instances()).await? == 0 {
                    return Ok(Stopped::Silent);
                }
                self.advertise().await?;
                again = self.next();
            }
        }
    }

    /// When the advertisements are registered again, if nothing happens before.
    fn next(&self) -> Instant {
        let now = Instant::now();
        if self.links.count() > 0 || self.guests.are_here() {
            return now + AGAIN_WITH_LINKS;
        }
        // They become slow as soon as they may.
        if self.active_until > now { self.active_until.min(now + AGAIN) } else { now + AGAIN }
    }

    /// Registers the advertisements, those of before being taken back.
    async fn advertise(&mut self) -> Result<(), BleError> {
        let visible = self.shared.visible.borrow_and_update().clone();
        let is_active =
            !self.shared.options.sparing || self.links.count() > 0 || Instant::now() < self.active_until;
        let interval = if is_active { ACTIVE_INTERVAL } else { IDLE_INTERVAL };
        self.take_back().await;
        let legacy = advertisement(&visible, interval, LEGACY_NAME);
        self.advertised.push(call("advertise", self.adapter.advertise(legacy)).await?);
        if adapter::is_extended(&self.adapter).await {
            let extended = Advertisement {
                secondary_channel: Some(SecondaryChannel::OneM),
                ..advertisement(&visible, interval, LONGEST_NAME)
            };
            // Old phones see the legacy one; nothing depends on this.
            match call("advertise in extended packets", self.adapter.advertise(extended)).await {
                Ok(handle) => self.advertised.push(handle),
                Err(error) => log::debug!("{}: {error}", self.adapter.name()),
            }
        }
        Ok(())
    }

    /// Ends the advertisements, which tasks of their own do, and waits until they have.
    async fn take_back(&mut self) {
        let own = u8::try_from(self.advertised.len()).unwrap_or(u8::MAX);
        if own == 0 {
            return;
        }
        let before = self.adapter.active_advertising_instances().await.unwrap_or(0);
        self.advertised.clear();
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(25)).await;
            match self.adapter.active_advertising_instances().await {
                Ok(now) if now > before.saturating_sub(own) => {}
                _ => return,
            }
        }
    }
}

/// What is advertised, with so many bytes of the name.
fn advertisement(visible: &Visible, interval: Duration, name: usize) -> Advertisement {
    Advertisement {
        service_uuids: [SERVICE].into(),
        manufacturer_data: BTreeMap::from([(COMPANY, visible.data.clone())]),
        discoverable: Some(true),
        local_name: Some(shortened(&visible.name, name).to_owned()),
        min_interval: Some(interval),
        max_interval: Some(interval + interval / 8),
        ..Advertisement::default()
    }
}

/// The longest beginning of a text that has at most so many bytes.
fn shortened(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(shortened("Clinic", 29), "Clinic");
        assert_eq!(shortened("Ségou", 2), "S");
        assert_eq!(shortened("Ségou", 3), "Sé");
        assert_eq!(shortened("", 3), "");
    }
}
