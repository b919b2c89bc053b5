//! Being the one who looks and calls: scanning in windows, and opening links by L2CAP or GATT.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bluer::gatt::remote::Characteristic;
use bluer::l2cap::SocketAddr;
use bluer::{
    Adapter, AdapterEvent, Address, AddressType, Device, DeviceEvent, DeviceProperty, DiscoveryFilter,
    DiscoveryTransport, Session,
};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use waypost_link::{Link, LinkInfo, Medium};

use crate::adapter::{self, Which};
use crate::bluez::{self, BleError, call, is_blocked, within};
use crate::info::{INFO, Info, RX, SERVICE, TX};
use crate::links::{Links, Up};
use crate::{COMPANY, USEFUL_FRAME, channel, gatt_stream};

/// How long connecting may take: two of the slowest advertising intervals, and retries.
const CONNECT: Duration = Duration::from_secs(12);
/// How long a channel may take to open where the radio link is there.
const OPEN: Duration = Duration::from_secs(6);
/// How long finding the peer's services may take.
const SERVICES: Duration = Duration::from_secs(15);
/// How often everyone is looked through who was heard: a device that was known before is perhaps heard once, before
/// changes of it are watched.
const LOOK_THROUGH: Duration = Duration::from_millis(400);
/// How long a hang-up may take.
const HANG_UP: Duration = Duration::from_secs(5);

/// Somebody who advertises the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Its address of the moment.
    pub address: String,
    /// Whether that is a random one.
    is_random: bool,
    /// Its name, where it tells one.
    pub name: Option<String>,
    /// How strong its signal is, in dBm.
    pub signal: Option<i16>,
    /// What it advertises as manufacturer's data.
    pub data: Vec<u8>,
    /// When it was heard last.
    pub seen: Instant,
}

/// What a link is to run over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bearer {
    /// L2CAP, and GATT where that is not to be had.
    #[default]
    Any,
    /// L2CAP only.
    L2cap,
    /// GATT only.
    Gatt,
}

/// A link that was opened.
pub struct Call {
    /// The link. When it is dropped, the radio link beneath it ends soon.
    pub link: Link,
    /// The peer's PSM, which makes the next call shorter.
    pub psm: Option<u16>,
    /// Ends the radio link at once.
    pub hang_up: HangUp,
}

/// Ends a radio link, which the system would hold for some time.
#[derive(Clone)]
pub struct HangUp(Arc<RadioLink>);

struct RadioLink {
    adapter: Adapter,
    device: Device,
    forgets: bool,
    is_over: AtomicBool,
    /// Counts from the attempt on until it has ended.
    _up: Up,
}

impl HangUp {
    fn new(radio: &Radio, device: &Device) -> Self {
        HangUp(Arc::new(RadioLink {
            adapter: radio.adapter.clone(),
            device: device.clone(),
            forgets: radio.forgets,
            is_over: AtomicBool::new(false),
            _up: Up::new(&Links::of(radio.name()), device.address()),
        }))
    }

    /// Ends it; a peer that has gone is no error.
    pub async fn now(&self) {
        self.0.is_over.store(true, Ordering::Release);
        self.0.end().await;
    }
}

impl RadioLink {
    async fn end(&self) {
        end(&self.device).await;
        if self.forgets && matches!(self.device.is_paired().await, Ok(false)) {
            let forget = self.adapter.remove_device(self.device.address());
            if let Err(error) = call("forget a device", forget).await {
                log::debug!("{error}");
            }
        }
    }
}

/// Ends a radio link with the link that holds this.
struct HangUpOnDrop(HangUp);

impl Drop for HangUpOnDrop {
    fn drop(&mut self) {
        let is_over = self.0.0.is_over.swap(true, Ordering::AcqRel);
        // Without a runtime the program is about to end, and the system ends the link after it.
        if let (false, Ok(runtime)) = (is_over, Handle::try_current()) {
            let hang_up = self.0.clone();
            runtime.spawn(async move { hang_up.0.end().await });
        }
    }
}

async fn end(device: &Device) {
    if let Err(error) = within(HANG_UP, "end a connection", device.disconnect()).await {
        log::debug!("{error}");
    }
}

/// An adapter from which others are looked for and called.
pub struct Radio {
    /// Its tasks end with it.
    _session: Session,
    adapter: Adapter,
    forgets: bool,
}

impl Radio {
    /// Opens an adapter; it is switched on where it is off. Of several, the first by name.
    pub async fn open(which: &Which) -> Result<Self, BleError> {
        let session = bluez::session().await?;
        let chosen = adapter::choose(&session, std::slice::from_ref(which), &BTreeSet::new()).await?;
        let name = chosen.there.into_iter().next().ok_or_else(|| BleError::NoAdapter(which.to_string()))?;
        let adapter = session.adapter(&name).map_err(|_| BleError::NoAdapter(name.clone()))?;
        if !call("read the adapter's state", adapter.is_powered()).await? {
            if is_blocked(&name) {
                return Err(BleError::Blocked(name));
            }
            call("switch the adapter on", adapter.set_powered(true))
                .await
                .map_err(|_| BleError::Off(name))?;
        }
        Ok(Radio { _session: session, adapter, forgets: false })
    }

    /// Has the system forget whom it has called as soon as the link has ended: for a kiosk that many phones pass, whose
    /// addresses change.
    #[must_use]
    pub fn forgetting(mut self) -> Self {
        self.forgets = true;
        self
    }

    /// Whether a link of this program is up to whoever has this address, or about to be.
    pub fn has_link(&self, to: &Sighting) -> bool {
        to.address.parse().is_ok_and(|address| Links::of(self.name()).from(address) > 0)
    }

    /// The adapter's name, such as `hci0`.
    pub fn name(&self) -> &str {
        self.adapter.name()
    }

    /// Listens for so long to who advertises the service, or until `seen` has heard enough. Each is told whenever it is
    /// heard. When this returns, the adapter scans no more.
    pub async fn scan(
        &self,
        window: Duration,
        seen: &mut (dyn FnMut(Sighting) -> ControlFlow<()> + Send),
    ) -> Result<(), BleError> {
        self.scanned(window, seen).await.map_err(|error| self.of(error))
    }

    async fn scanned(
        &self,
        window: Duration,
        seen: &mut (dyn FnMut(Sighting) -> ControlFlow<()> + Send),
    ) -> Result<(), BleError> {
        let filter = DiscoveryFilter {
            transport: DiscoveryTransport::Le,
            duplicate_data: true,
            uuids: [SERVICE].into(),
            ..DiscoveryFilter::default()
        };
        let until = tokio::time::Instant::now() + window;
        call("set what is looked for", self.adapter.set_discovery_filter(filter)).await?;
        {
            let heard = call("look around", self.adapter.discover_devices_with_changes()).await?;
            tokio::pin!(heard);
            'listening: loop {
                let again = until.min(tokio::time::Instant::now() + LOOK_THROUGH);
                let addresses = match tokio::time::timeout_at(again, heard.next()).await {
                    Ok(Some(AdapterEvent::DeviceAdded(address))) => vec![address],
                    Ok(Some(_)) => continue,
                    Ok(None) => return Err(BleError::Off(self.name().to_owned())),
                    Err(_) => call("list who was heard", self.adapter.device_addresses()).await?,
                };
                for address in addresses {
                    let Some(sighting) = self.sighting(address).await else { continue };
                    if seen(sighting).is_break() {
                        break 'listening;
                    }
                }
                if until <= tokio::time::Instant::now() {
                    break;
                }
            }
        }
        self.quiet().await;
        Ok(())
    }

    /// Waits until the adapter has stopped scanning: to connect at the same time upsets some of them.
    async fn quiet(&self) {
        for _ in 0..40 {
            if !matches!(self.adapter.is_discovering().await, Ok(true)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What is known of a device, if it was heard in this scan and offers the service.
    async fn sighting(&self, address: Address) -> Option<Sighting> {
        let device = self.adapter.device(address).ok()?;
        let signal = device.rssi().await.ok()??;
        let services = device.uuids().await.ok()?.unwrap_or_default();
        let data = device.manufacturer_data().await.ok().flatten().unwrap_or_default().remove(&COMPANY);
        // Of a device that was connected before, BlueZ may have forgotten the services that it advertises.
        let is_one = services.contains(&SERVICE) || services.is_empty() && data.is_some();
        if !is_one {
            return None;
        }
        Some(Sighting {
            address: address.to_string(),
            is_random: device.address_type().await.is_ok_and(|kind| kind == AddressType::LeRandom),
            name: device.name().await.ok().flatten(),
            signal: Some(signal),
            data: data.unwrap_or_default(),
            seen: Instant::now(),
        })
    }

    /// Opens a link to somebody who was seen. `psm`: what its L2CAP listener had the last time.
    pub async fn call(&self, to: &Sighting, bearer: Bearer, psm: Option<u16>) -> Result<Call, BleError> {
        let address: Address =
            to.address.parse().map_err(|_| BleError::Unusable(format!("{} is no address", to.address)))?;
        let device = self.adapter.device(address).map_err(|_| BleError::NoAdapter(self.name().to_owned()))?;
        // What is left of an earlier call is on its way down, and would take the new link with it.
        if matches!(device.is_connected().await, Ok(true)) {
            end(&device).await;
        }
        let hang_up = HangUp::new(self, &device);
        let called = self.call_device(&hang_up, to, bearer, psm).await;
        if called.is_err() {
            // A connection that is half made would keep the peer from being seen.
            hang_up.now().await;
        }
        called.map_err(|error| match error {
            // BlueZ forgets after half a minute whom it has heard.
            BleError::NoAdapter(_) => BleError::Unreachable("it has not been heard for too long".into()),
            error => self.of(error),
        })
    }

    /// An error that names the adapter.
    fn of(&self, error: BleError) -> BleError {
        match error {
            BleError::Off(_) => BleError::Off(self.name().to_owned()),
            BleError::NoAdapter(_) => BleError::NoAdapter(self.name().to_owned()),
            other => other,
        }
    }

    async fn call_device(
        &self,
        hang_up: &HangUp,
        to: &Sighting,
        bearer: Bearer,
        psm: Option<u16>,
    ) -> Result<Call, BleError> {
        let device = &hang_up.0.device;
        if let Some(known) = psm.filter(|_| bearer != Bearer::Gatt) {
            match self.channel(hang_up, to, known, CONNECT).await {
                Ok(link) => return Ok(Call { link, psm, hang_up: hang_up.clone() }),
                // Its PSM may be another one by now.
                Err(error) => log::debug!("no channel at the PSM of the last time: {error}"),
            }
        }
        match within(CONNECT, "connect", device.connect()).await {
            Ok(()) => {}
            Err(BleError::Failed { why, .. }) => return Err(BleError::Unreachable(why)),
            Err(BleError::Hung(_)) => return Err(BleError::Unreachable("no answer".into())),
            Err(other) => return Err(other),
        }
        let found = characteristics(device).await?;
        let info = within(OPEN, "read its info", found.info.read()).await?;
        let info = Info::decode(&info).map_err(|error| BleError::Unusable(error.to_string()))?;
        let failed = match info.psm.filter(|_| bearer != Bearer::Gatt) {
            Some(psm) => match self.channel(hang_up, to, psm, OPEN).await {
                Ok(link) => return Ok(Call { link, psm: Some(psm), hang_up: hang_up.clone() }),
                Err(error) => error,
            },
            None => BleError::Unusable("it has no L2CAP channel".into()),
        };
        if bearer == Bearer::L2cap {
            return Err(failed);
        }
        if info.gatt_taken {
            return Err(BleError::GattTaken);
        }
        let link = gatt_link(hang_up, to, found).await?;
        Ok(Call { link, psm: info.psm, hang_up: hang_up.clone() })
    }

    async fn channel(
        &self,
        hang_up: &HangUp,
        to: &Sighting,
        psm: u16,
        limit: Duration,
    ) -> Result<Link, BleError> {
        let kind = if to.is_random { AddressType::LeRandom } else { AddressType::LePublic };
        let from = adapter::own_address(&self.adapter).await?;
        let connect = channel::connect(from, SocketAddr::new(hang_up.0.device.address(), kind, psm));
        let channel = match tokio::time::timeout(limit, connect).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(BleError::Unreachable(error.to_string())),
            Err(_) => return Err(BleError::Unreachable("no channel in time".into())),
        };
        let (reader, writer) = channel
            .split(HangUpOnDrop(hang_up.clone()))
            .map_err(|error| BleError::Failed { doing: "read a channel", why: error.to_string() })?;
        Ok(Link::new(link_info(self.name(), to, Medium::BleL2cap), reader, writer))
    }
}

/// The service's characteristics at a peer.
struct Found {
    info: Characteristic,
    rx: Option<Characteristic>,
    tx: Option<Characteristic>,
}

async fn characteristics(device: &Device) -> Result<Found, BleError> {
    let services = match within(SERVICES, "find its services", device.services()).await {
        Ok(services) => services,
        Err(BleError::Hung(_)) => {
            return Err(BleError::Unreachable("its services were not found in time".into()));
        }
        Err(other) => return Err(other),
    };
    let (mut info, mut rx, mut tx) = (None, None, None);
    for service in services {
        if !service.uuid().await.is_ok_and(|uuid| uuid == SERVICE) {
            continue;
        }
        for one in call("read its characteristics", service.characteristics()).await? {
            match one.uuid().await {
                Ok(uuid) if uuid == INFO => info = Some(one),
                Ok(uuid) if uuid == RX => rx = Some(one),
                Ok(uuid) if uuid == TX => tx = Some(one),
                _ => {}
            }
        }
    }
    let info = info.ok_or_else(|| BleError::Unusable("it does not offer the service".into()))?;
    Ok(Found { info, rx, tx })
}

async fn gatt_link(hang_up: &HangUp, to: &Sighting, found: Found) -> Result<Link, BleError> {
    let (Some(rx), Some(tx)) = (found.rx, found.tx) else {
        return Err(BleError::Unusable("its service has no GATT link".into()));
    };
    let events = call("watch the connection", hang_up.0.device.events()).await?;
    let values = within(OPEN, "ask for notifications", tx.notify_io()).await?;
    let writer = within(OPEN, "write to it", rx.write_io()).await?;
    let room = writer.mtu();
    let (reader, writer) =
        gatt_stream::stream(values, writer, room, disconnected(events), HangUpOnDrop(hang_up.clone()));
    Ok(Link::new(link_info(hang_up.0.device.adapter_name(), to, Medium::BleGatt), reader, writer))
}

/// Ends when the device is no longer connected.
pub(crate) async fn disconnected(events: impl futures_util::Stream<Item = DeviceEvent>) {
    tokio::pin!(events);
    while let Some(event) = events.next().await {
        if matches!(event, DeviceEvent::PropertyChanged(DeviceProperty::Connected(false))) {
            return;
        }
    }
}

fn link_info(adapter: &str, to: &Sighting, medium: Medium) -> LinkInfo {
    LinkInfo {
        medium,
        address: to.address.clone(),
        group: adapter.to_owned(),
        outgoing: true,
        useful_frame: USEFUL_FRAME,
    }
}
