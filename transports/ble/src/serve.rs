//! What an adapter that works offers: the GATT service, the L2CAP listener, the advertisement; and the links that come.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bluer::gatt::CharacteristicWriter;
use bluer::gatt::local::{ApplicationHandle, CharacteristicControl, CharacteristicControlEvent};
use bluer::l2cap::StreamListener;
use bluer::{Adapter, Address};
use futures_util::StreamExt;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::Instant;
use waypost_link::{Link, LinkInfo, Medium};

use crate::adapter;
use crate::advertiser::Advertiser;
use crate::bluez::{BleError, call};
use crate::central::disconnected;
use crate::channel::{self, Channel};
use crate::fragment::Sender;
use crate::gatt_service::{self, Taken, Uses};
use crate::links::{Links, Up};
use crate::peripheral::Shared;
use crate::{USEFUL_FRAME, gatt_stream};

/// Links of one phone: a newer one, and the older one that is on its way down.
const LINKS_OF_ONE: usize = 2;
/// Links above the limit, to be told within their sessions when to come again. Adapters that hold fewer let nobody
/// connect.
const TO_BE_TOLD: usize = 4;
/// How long whoever is turned away may take to hear it.
const LAST_WORD: Duration = Duration::from_secs(3);
/// How long a phone may take between asking for notifications and its first value.
const HALF_GATT: Duration = Duration::from_secs(5);

/// Why an adapter is served no more.
pub(crate) enum Stopped {
    /// It was switched off.
    Off,
    /// It is not there.
    Gone,
    /// Nothing is advertised any more.
    Silent,
}

pub(crate) struct Service {
    _application: ApplicationHandle,
    advertiser: Advertiser,
    reception: Reception,
}

/// Takes the links that come.
struct Reception {
    adapter: Adapter,
    shared: Shared,
    /// For L2CAP channels, if they are taken.
    listener: Option<StreamListener>,
    tx: CharacteristicControl,
    links: Arc<Links>,
    uses: Arc<Uses>,
    /// A phone that has asked for notifications and has not written yet.
    half: Option<(CharacteristicWriter, Instant)>,
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
        let links = Links::of(adapter.name());
        let advertiser = Advertiser::new(adapter, shared, &links);
        let (adapter, shared) = (adapter.clone(), shared.clone());
        let reception = Reception { adapter, shared, listener, tx, links, uses, half: None };
        Ok(Service { _application: application, advertiser, reception })
    }

    /// Serves until something ends it. Links are taken also while the service answers what the advertiser asks.
    pub(crate) async fn serve(&mut self) -> Result<Stopped, BleError> {
        tokio::select! {
            stopped = self.advertiser.run() => stopped,
            never = self.reception.receive() => match never {},
        }
    }
}

impl Reception {
    async fn receive(&mut self) -> Infallible {
        let uses = self.uses.clone();
        loop {
            let half_until = self.half.as_ref().map(|(_, since)| *since + HALF_GATT);
            let limit = async {
                match half_until {
                    Some(limit) => tokio::time::sleep_until(limit).await,
                    None => std::future::pending().await,
                }
            };
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
                () = limit => {
                    self.half = None;
                    uses.set_half(None);
                }
            }
        }
    }

    /// Whether one more link may come.
    fn has_room(&self, from: Address) -> bool {
        let has_room = self.links.count() < self.shared.options.links + TO_BE_TOLD
            && self.links.from(from) < LINKS_OF_ONE;
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
            return turn_away(writer, ());
        };
        if !self.has_room(from) {
            return turn_away(writer, taken);
        }
        if let Err(error) = self.gatt(from, writer, values, taken).await {
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

/// Ends a GATT link before it has begun: without a word its phone would wait. `guard` is dropped afterwards.
fn turn_away(writer: CharacteristicWriter, guard: impl Send + 'static) {
    tokio::spawn(async move {
        let told = tokio::time::timeout(LAST_WORD, writer.send(&Sender::end())).await;
        log::debug!(address:% = writer.device_address(), told = matches!(told, Ok(Ok(()))); "a GATT link was turned away");
        drop(guard);
    });
}
