//! Going on over Wi-Fi in the middle of a session, where the kiosk offers it and much is left.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use tokio::task::JoinHandle;
use waypost_lan::connect_while_near;
use waypost_link::{Link, Medium};
use waypost_protocol::invite::CodeSecret;
use waypost_protocol::moving::{WifiNetwork, WifiOffer};
use waypost_wifi_direct::{Credentials, Joined, Network, Passphrase, Ssid, Station, leave_dropped};

/// How long a network may take to be joined: a phone that is told where it is needs one to four seconds.
const JOIN: Duration = Duration::from_secs(15);
/// How long the kiosk may take to answer there.
const CONNECT: Duration = Duration::from_secs(5);

/// A kiosk that takes nothing for so long is out of reach over Wi-Fi, and may still be near over Bluetooth.
const GONE: Duration = Duration::from_secs(10);

/// How this phone gets into a kiosk's network.
#[derive(Debug, Clone)]
pub enum Wifi {
    /// By wpa_supplicant.
    Radio {
        /// The radio's interface; `None` for the first one.
        interface: Option<String>,
        /// The D-Bus address of the bus that wpa_supplicant is on; `None` for the system's.
        bus: Option<String>,
    },
    /// It is in it already, by whatever else the system has for that.
    Joined,
}

/// The other end of a move.
pub(crate) struct Arrived {
    pub(crate) link: Link,
    pub(crate) token: CodeSecret,
    network: Option<Joined>,
}

impl Wifi {
    async fn join(self, offer: Box<WifiOffer>) -> Result<Arrived, String> {
        let words = |error: &dyn std::fmt::Display| error.to_string();
        let WifiOffer { network, token, .. } = *offer;
        let joined = match &self {
            Wifi::Joined => None,
            Wifi::Radio { interface, bus } => {
                let station = Station::open(interface.as_deref(), bus.as_deref())
                    .await
                    .map_err(|error| words(&error))?;
                let credentials = Credentials {
                    ssid: Ssid::new(&network.ssid).map_err(|error| words(&error))?,
                    passphrase: Passphrase::new(&network.passphrase).map_err(|error| words(&error))?,
                };
                let bssid = network.bssid.map(|bytes| bytes.map(|byte| format!("{byte:02x}")).join(":"));
                let frequency = u16::try_from(network.frequency).ok().filter(|frequency| *frequency > 0);
                let joined = station.join(&credentials.network(), bssid.as_deref(), frequency, JOIN).await;
                Some(joined.map_err(|error| words(&error))?)
            }
        };
        let mut last = "no network interface is up".to_owned();
        for address in addresses(&network, joined.as_ref()) {
            match connect_while_near(&address.to_string(), CONNECT, GONE).await {
                Ok(mut link) => {
                    link.info.medium = Medium::WifiDirect;
                    return Ok(Arrived { link, token, network: joined });
                }
                Err(error) => last = error.to_string(),
            }
        }
        leave(joined).await;
        Err(last)
    }
}

/// Where the kiosk may be: a link-local address on the interface that is in its network, or on each where that is not known.
fn addresses(network: &WifiNetwork, joined: Option<&Joined>) -> Vec<SocketAddr> {
    let ip = match network.address {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => ip,
        other => return vec![SocketAddr::new(other, network.port)],
    };
    let indices: Vec<u32> = match joined {
        Some(joined) => vec![joined.index],
        None => {
            let up = |one: &nix::ifaddrs::InterfaceAddress| {
                one.flags.contains(InterfaceFlags::IFF_UP)
                    && !one.flags.contains(InterfaceFlags::IFF_LOOPBACK)
            };
            let names = getifaddrs().into_iter().flatten().filter(up).map(|one| one.interface_name);
            let mut indices: Vec<u32> = names.filter_map(|name| if_nametoindex(name.as_str()).ok()).collect();
            indices.sort_unstable();
            indices.dedup();
            indices
        }
    };
    indices.into_iter().map(|index| SocketAddrV6::new(ip, network.port, 0, index).into()).collect()
}

async fn leave(network: Option<Joined>) {
    if let Some(network) = network {
        network.leave().await;
    }
}

/// A move that is under way, and the network that has to be left after it.
#[derive(Default)]
pub(crate) struct Moving {
    task: Option<JoinHandle<Result<Arrived, String>>>,
    network: Option<Joined>,
    leaving: Option<JoinHandle<()>>,
}

impl Moving {
    /// Begins to join; the session goes on meanwhile where it is.
    pub(crate) fn begin(&mut self, wifi: &Wifi, offer: Box<WifiOffer>) {
        if self.task.is_none() && self.network.is_none() && self.leaving.is_none() {
            self.task = Some(tokio::spawn(wifi.clone().join(offer)));
        }
    }

    /// Waits for the end of what was begun; for ever where nothing was.
    pub(crate) async fn arrived(&mut self) -> Result<(Link, CodeSecret), String> {
        let Some(task) = &mut self.task else { return std::future::pending().await };
        let ended = task.await;
        self.task = None;
        let Arrived { link, token, network } = ended.map_err(|error| error.to_string())??;
        self.network = network;
        Ok((link, token))
    }

    /// What it takes to join again what was joined.
    pub(crate) fn network(&self) -> Option<&Network> {
        self.network.as_ref()?.network.as_ref()
    }

    /// It was for nothing: leaves what was joined; the session goes on meanwhile where it is.
    pub(crate) fn give_up(&mut self) {
        if let Some(network) = self.network.take() {
            self.leaving = Some(tokio::spawn(network.leave()));
        }
    }

    /// Leaves what was joined, or is about to be.
    pub(crate) async fn end(mut self) {
        self.give_up();
        if let Some(task) = self.task.take() {
            task.abort();
            // What it had when it was told is dropped with it.
            let _ = task.await;
            leave_dropped().await;
        }
        if let Some(leaving) = self.leaving.take() {
            let _ = leaving.await;
        }
    }
}
