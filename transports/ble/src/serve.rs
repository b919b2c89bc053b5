//! What an adapter that works offers: the GATT service, the L2CAP listener, the advertisement; and the links that come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bluer::adv::{Advertisement, AdvertisementHandle, SecondaryChannel};
use bluer::gatt::CharacteristicWriter;
use bluer::gatt::local::{ApplicationHandle, CharacteristicControl, CharacteristicControlEvent};
use bluer::l2cap::StreamListener;
use bluer::{Adapter, AdapterEvent, AdapterProperty, Address};
use futures_util::StreamExt;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::Instant;
use waypost_link::{Link, LinkInfo, Medium};

use crate::adapter;
use crate::bluez::{BleError, call};
use crate::central::disconnected;
use crate::channel::{self, Channel};
use crate::gatt_service::{self, Taken, Uses};
use crate::guests::Guests;
use crate::info::SERVICE;
use crate::links::{Links, Up};
use crate::peripheral::{Shared, Visible};
use crate::{COMPANY, USEFUL_FRAME, gatt_stream};

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
/// Links of one phone: a newer one, and the older one that is on its way down.
const LINKS_OF_ONE: usize = 2;
/// How long a phone may take between asking for notifications and its first value.
const HALF_GATT: Duration = Duration::from_secs(5);
/// A legacy packet's room for a name: 31 bytes less length and type.
const LEGACY_NAME: usize = 29;
/// Names in extended packets.
const LONGEST_NAME: usize = 64;

/// Why an adapter is served no more.
pub(crate) enum Stopped {
    /// It was switched off.
    Off,
    /// It is not there.
    Gone,
    /// The service knows nothing of it any more.
    Restarted,
    /// Something does not work.
    Trouble(BleError),
}

pub(crate) struct Service {
    adapter: Adapter,
    shared: Shared,
    /// For L2CAP channels, if they are taken.
    listener: Option<StreamListener>,
    _application: ApplicationHandle,
    tx: CharacteristicControl,
    links: Arc<Links>,
    uses: Arc<Uses>,
    /// A phone that has asked for notifications and has not written yet.
    half: Option<(CharacteristicWriter, Instant)>,
    advertised: Vec<AdvertisementHandle>,
    guests: Guests,
    active_until: Instant,
}

impl Service {
    pub(crate) async fn start(adapter: &Adapter, shared: &Shared) -> Result<Self, BleError> {
        // Nobody pairs with a kiosk: sessions are secured by themselves. A phone's own adapter is its owner's.
        if shared.options.sparing
            && let Err(error) = call("forbid pairing", adapter.set_pairable(false)).await
        {
            log::debug!("{}: {error}", adapter.name());
        }
        let (address, kind) = adapter::own_address(adapter).await?;
        let failed = |error: std::io::Error| BleError::Failed {
            doing: "listen for L2CAP channels",
            why: error.to_string(),
        };
        let (listener, psm) = match shared.options.l2cap {
            true => channel::listen(address, kind)
                .map(|(listener, psm)| (Some(listener), Some(psm)))
                .map_err(failed)?,
            false => (None, None),
        };
        let uses = Arc::new(Uses::default());
        let (application, tx) = gatt_service::offer(adapter, psm, &uses).await?;
        Ok(Service {
            adapter: adapter.clone(),
            shared: shared.clone(),
            listener,
            _application: application,
            tx,
            links: Links::of(adapter.name()),
            uses,
            half: None,
            advertised: Vec::new(),
            // A phone's own adapter has other guests.
            guests: Guests::new(shared.options.sparing),
            active_until: Instant::now() + STAY_ACTIVE,
        })
    }

    /// Serves until something ends it.
    pub(crate) async fn serve(&mut self) -> Stopped {
        match self.until_stopped().await {
            Ok(stopped) => stopped,
            Err(error) => Stopped::Trouble(error),
        }
    }

    async fn until_stopped(&mut self) -> Result<Stopped, BleError> {
        let events = call("watch the adapter", self.adapter.events()).await?;
        tokio::pin!(events);
        self.advertise().await?;
        self.shared.board.links(self.adapter.name(), self.links.count());
        let mut again = self.next();
        let (links, uses) = (self.links.clone(), self.uses.clone());
        loop {
            let half = self.half.as_ref().map(|(_, since)| *since + HALF_GATT);
            let limit = [self.guests.next_look(), half].into_iter().flatten().fold(again, Instant::min);
            tokio::select! {
                accepted = channel::accept(self.listener.as_ref()) => match accepted {
                    Ok((channel, from)) => self.channel(channel, from),
                    // Of one connection; where the adapter is the reason, it shows soon.
                    Err(error) => {
                        log::warn!("{}: a channel could not be taken: {error}", self.adapter.name());
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                },
                Some(event) = self.tx.next() => self.subscribed(event).await,
                () = uses.written.notified() => self.open_gatt().await,
                event = events.next() => match event {
                    None => return Ok(Stopped::Gone),
                    Some(AdapterEvent::PropertyChanged(AdapterProperty::Powered(false))) => return Ok(Stopped::Off),
                    // Somebody connects, or was heard.
                    Some(AdapterEvent::DeviceAdded(_)) => self.guests.expect(),
                    Some(_) => {}
                },
                () = links.changed.notified() => {
                    self.active_until = Instant::now() + STAY_ACTIVE;
                    self.shared.board.links(self.adapter.name(), self.links.count());
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
            if self.half.as_ref().is_some_and(|(_, since)| since.elapsed() >= HALF_GATT) {
                self.half = None;
                uses.set_half(None);
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
                    return Ok(Stopped::Restarted);
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
            let now = self.adapter.active_advertising_instances().await;
            if now.is_ok_and(|now| now <= before.saturating_sub(own)) {
                return;
            }
        }
    }

    /// Whether one more link may come. One above the limit may, to be told so within its session.
    fn has_room(&self, from: Address) -> bool {
        let has_room =
            self.links.count() <= self.shared.options.links && self.links.from(from) < LINKS_OF_ONE;
        if !has_room {
            log::info!(adapter = self.adapter.name(), address:% = from; "no room for one more link");
        }
        has_room
    }

    fn channel(&mut self, channel: Channel, from: Address) {
        if !self.has_room(from) {
            return;
        }
        match channel.split(Up::new(&self.links, from)) {
            Ok((reader, writer)) => {
                self.hand_over(Link::new(self.link_info(from, Medium::BleL2cap), reader, writer));
            }
            Err(error) => log::warn!("{}: a channel could not be taken: {error}", self.adapter.name()),
        }
    }

    /// A phone asks for notifications.
    async fn subscribed(&mut self, event: CharacteristicControlEvent) {
        let CharacteristicControlEvent::Notify(writer) = event else { return };
        // Dropped, the notifications of whoever comes second end at once.
        if self.uses.is_taken() {
            return;
        }
        self.uses.set_half(Some(writer.device_address()));
        self.half = Some((writer, Instant::now()));
        self.open_gatt().await;
    }

    /// Opens the link of whoever has asked for notifications and has written: BlueZ tells of the two by different ways, in
    /// any order.
    async fn open_gatt(&mut self) {
        let Some((writer, _)) =
            self.half.take_if(|(writer, _)| self.uses.has_written(writer.device_address()))
        else {
            return;
        };
        let from = writer.device_address();
        let Some((values, taken)) = self.uses.open(from) else {
            log::info!(adapter = self.adapter.name(), address:% = from; "no GATT link: its first values were too many");
            return;
        };
        if self.has_room(from)
            && let Err(error) = self.gatt(from, writer, values, taken).await
        {
            log::warn!("{}: no GATT link: {error}", self.adapter.name());
        }
    }

    async fn gatt(
        &mut self,
        from: Address,
        writer: CharacteristicWriter,
        values: mpsc::Receiver<Vec<u8>>,
        taken: Taken,
    ) -> Result<(), BleError> {
        let guard = (Up::new(&self.links, from), taken);
        let device = self.adapter.device(from).map_err(|_| BleError::Unreachable(from.to_string()))?;
        let events = call("watch the connection", device.events()).await?;
        let room = writer.mtu();
        let (reader, writer) = gatt_stream::stream(values, writer, room, disconnected(events), guard);
        self.hand_over(Link::new(self.link_info(from, Medium::BleGatt), reader, writer));
        Ok(())
    }

    fn link_info(&self, from: Address, medium: Medium) -> LinkInfo {
        LinkInfo {
            medium,
            address: from.to_string(),
            group: self.adapter.name().to_owned(),
            outgoing: false,
            useful_frame: USEFUL_FRAME,
        }
    }

    fn hand_over(&mut self, link: Link) {
        log::debug!(adapter = self.adapter.name(), address = link.info.address.as_str(), medium:% = link.info.medium; "link");
        match self.shared.links.try_send(link) {
            // To a program that is about to end nobody comes any more.
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            // Each waits for its answer only.
            Err(TrySendError::Full(_)) => {
                log::warn!("{}: too many links at once; one was turned away", self.adapter.name());
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
