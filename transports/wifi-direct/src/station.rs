//! A phone's side: who is near, and joining a group, as a station that knows its passphrase or as a client by button or PIN.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use tokio::time::Instant;
use zbus::Message;
use zbus::zvariant::{ObjectPath, OwnedObjectPath};

use crate::bonjour::{self, Service};
use crate::channel::Megahertz;
use crate::credentials::{Network, Pin, Ssid};
use crate::error::WifiError;
use crate::membership::{End, Membership, leave_dropped, leave_left, mark};
use crate::radio;
use crate::said::{self, Near, Peer, Said, Told};
use crate::supplicant::{BSS, GROUP, Heard, INTERFACE, P2P, PEER, Supplicant, member};

/// How often all channels are looked at: in between it is those where devices without a group listen, and a group is mostly
/// elsewhere.
const ALL_CHANNELS: Duration = Duration::from_secs(8);
/// How long is looked for more, once a Waypost has answered.
const MORE: Duration = Duration::from_secs(5);
/// How long a device may take to hear that its group is wanted.
const WAKE: Duration = Duration::from_secs(15);
/// How long a look at all channels may take.
const SCAN: Duration = Duration::from_secs(10);
/// How often it is looked whether a network is joined.
const LOOK: Duration = Duration::from_millis(50);

/// A radio that this program uses to find and join groups.
pub struct Station {
    radio: String,
    supplicant: Supplicant,
    device: OwnedObjectPath,
}

/// Somebody near.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The device.
    pub peer: Peer,
    /// What it says of itself as a Waypost, where it has answered.
    pub service: Option<Service>,
}

/// A network that was joined.
pub struct Joined {
    /// The interface that is in it.
    pub interface: String,
    /// The kernel's number of that, which link-local addresses need.
    pub index: u32,
    /// This side's address in it.
    pub address: Ipv6Addr,
    /// What it takes to join it again; `None` where wpa_supplicant does not say.
    pub network: Option<Network>,
    membership: Membership,
}

impl Station {
    /// Takes a radio: the one of that name, else the first. `bus` is the D-Bus address of wpa_supplicant's bus, if it is not
    /// the system's. The radio leaves what a process joined that was killed.
    pub async fn open(radio: Option<&str>, bus: Option<&str>) -> Result<Self, WifiError> {
        let radio = radio::find(radio)?;
        radio::check(&radio)?;
        let supplicant = Supplicant::connect(bus, &radio).await?;
        let device = supplicant.interface().await?;
        leave_dropped().await;
        leave_left(&supplicant, &device).await?;
        Ok(Station { radio, supplicant, device })
    }

    /// Who is near, for so long or until somebody is enough; once there is a Waypost, for a moment more in case there are two.
    /// Those who say that they are one come first.
    pub async fn look(
        &self,
        window: Duration,
        enough: impl FnMut(&Found) -> bool + Send,
    ) -> Result<Vec<Found>, WifiError> {
        // Whoever was found before may be gone by now.
        let () = self.supplicant.call("forget devices", &self.device, P2P, "Flush", &()).await?;
        let query = Told::from([("tlv", bonjour::ask_for_all().into())]);
        let query: u64 = self
            .supplicant
            .call("ask for services", &self.device, P2P, "ServiceDiscoveryRequest", &query)
            .await?;
        let looking = Membership::new(&self.supplicant, End::Look { device: self.device.clone(), query });
        let found = self.listen(window, enough).await;
        looking.leave().await;
        let mut found = found?;
        found.sort_by_key(|one| (one.service.is_none(), std::cmp::Reverse(one.peer.signal)));
        Ok(found)
    }

    async fn listen(
        &self,
        window: Duration,
        mut enough: impl FnMut(&Found) -> bool + Send,
    ) -> Result<Vec<Found>, WifiError> {
        let mut news = self.supplicant.news().await?;
        let mut until = Instant::now() + window;
        let seconds = i32::try_from(window.as_secs()).unwrap_or(i32::MAX).saturating_add(1);
        let told = Told::from([("Timeout", seconds.into()), ("DiscoveryType", "start_with_full".into())]);
        let mut found = BTreeMap::new();
        let mut all_channels = Instant::now();
        while Instant::now() < until {
            if all_channels <= Instant::now() {
                all_channels = Instant::now() + ALL_CHANNELS;
                // A second one would be refused while the first goes on.
                let _: Result<(), _> =
                    self.supplicant.call("end looking", &self.device, P2P, "StopFind", &()).await;
                let () = self.supplicant.call("look for devices", &self.device, P2P, "Find", &told).await?;
            }
            let Ok(heard) = tokio::time::timeout_at(until.min(all_channels), news.next()).await else {
                continue;
            };
            let Heard::Said(message) = heard else {
                return Err(WifiError::NoService("it has ended".into()));
            };
            let body = message.body();
            let peer = match member(&message).as_str() {
                "DeviceFound" => body.deserialize::<OwnedObjectPath>().ok().map(|path| (path, None)),
                "ServiceDiscoveryResponse" => {
                    body.deserialize::<Said>().ok().and_then(|said| service_of(&said))
                }
                _ => None,
            };
            let Some((path, service)) = peer else { continue };
            let Some(one) = self.found(&path, service, &mut found).await else { continue };
            if enough(one) {
                break;
            }
            if one.service.is_some() {
                until = until.min(Instant::now() + MORE);
            }
        }
        Ok(found.into_values().collect())
    }

    async fn found<'f>(
        &self,
        path: &ObjectPath<'_>,
        service: Option<Service>,
        found: &'f mut BTreeMap<String, Found>,
    ) -> Option<&'f Found> {
        let said = self.supplicant.get_all("ask for a device", path, PEER).await.ok()?;
        let peer = said::peer(&said)?;
        let before = found.remove(&peer.address).and_then(|one| one.service);
        let address = peer.address.clone();
        Some(found.entry(address).or_insert(Found { peer, service: service.or(before) }))
    }

    /// Which of these networks are near, the first ones first. The radio stays in the network that it is in.
    pub async fn hears(&self, networks: &[Network]) -> Result<Vec<Near>, WifiError> {
        let mut news = self.supplicant.news().await?;
        let told = said::scan(networks.iter().map(|network| &network.ssid));
        let (begun, until) = (Instant::now(), Instant::now() + SCAN);
        // One that is under way answers as well, if not for networks that keep their names to themselves.
        if let Err(error) =
            self.supplicant.call::<()>("look for networks", &self.device, INTERFACE, "Scan", &told).await
        {
            log::debug!("{error}");
        }
        while let Ok(heard) = tokio::time::timeout_at(until, news.next()).await {
            let Heard::Said(message) = heard else { return Err(WifiError::NoService("it has ended".into())) };
            if member(&message) == "ScanDone" {
                break;
            }
        }
        let all: Vec<OwnedObjectPath> =
            self.supplicant.get("list networks near", &self.device, INTERFACE, "BSSs").await?;
        let seconds = u32::try_from(begun.elapsed().as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let mut found = Vec::new();
        for path in all {
            let Ok(said) = self.supplicant.get_all("ask for a network near", &path, BSS).await else {
                continue;
            };
            let rank = |near: &Near| networks.iter().position(|network| network.ssid == near.ssid);
            found.extend(said::near(&said, seconds).and_then(|near| Some((rank(&near)?, near))));
        }
        found.sort_by_key(|(rank, _)| *rank);
        Ok(found.into_iter().map(|(_, near)| near).collect())
    }

    /// Tells a device that [`Station::look`] has found that somebody wants to join its group, which may not be there yet.
    pub async fn wake(&self, peer: &Peer) -> Result<(), WifiError> {
        let mut news = self.supplicant.news().await?;
        let (told, until) = ((self.peer(peer)?, "display"), Instant::now() + WAKE);
        let () = self
            .supplicant
            .call("ask for the group", &self.device, P2P, "ProvisionDiscoveryRequest", &told)
            .await?;
        // It listens a part of the time only, and is asked until it has heard.
        while let Ok(heard) = tokio::time::timeout_at(until, news.next()).await {
            let Heard::Said(message) = heard else { return Err(WifiError::NoService("it has ended".into())) };
            match member(&message).as_str() {
                "ProvisionDiscoveryFailure" => break,
                name if name.starts_with("ProvisionDiscoveryResponse") => return Ok(()),
                _ => {}
            }
        }
        Err(WifiError::NotJoined(peer.name.clone(), "it does not answer; go nearer"))
    }

    fn peer(&self, peer: &Peer) -> Result<ObjectPath<'static>, WifiError> {
        let path = format!("{}/Peers/{}", self.device.as_str(), peer.address.replace(':', ""));
        let gone = |_| WifiError::NotJoined(peer.name.clone(), "it is not near any more");
        ObjectPath::try_from(path).map_err(gone)
    }

    /// Joins a group whose key is known. The radio leaves the network that it is in, until [`Joined::leave`].
    pub async fn join(
        &self,
        known: &Network,
        bssid: Option<&str>,
        frequency: Option<Megahertz>,
        within: Duration,
    ) -> Result<Joined, WifiError> {
        let until = Instant::now() + within;
        let mut before = Vec::new();
        for network in self.supplicant.networks(&self.device).await? {
            if self.supplicant.is_enabled(&network).await.unwrap_or(false) {
                before.push(network);
            }
        }
        let told = said::network(known, mark(&before), bssid, frequency);
        let network: OwnedObjectPath = self
            .supplicant
            .call("describe the network", &self.device, INTERFACE, "AddNetwork", &told)
            .await?;
        let end = End::Network { device: self.device.clone(), network: network.clone(), before };
        let membership = Membership::new(&self.supplicant, end);
        let joined = async {
            let () = self
                .supplicant
                .call("join the network", &self.device, INTERFACE, "SelectNetwork", &network)
                .await?;
            self.completed(known, until).await?;
            let none =
                || WifiError::NotJoined(known.ssid.to_string(), "the kernel gave this side no IPv6 address");
            address_of(&self.radio).await.ok_or_else(none)
        };
        match joined.await {
            Ok((index, address)) => {
                let (interface, network) = (self.radio.clone(), Some(known.clone()));
                Ok(Joined { interface, index, address, network, membership })
            }
            Err(error) => {
                membership.leave().await;
                Err(error)
            }
        }
    }

    async fn completed(&self, known: &Network, until: Instant) -> Result<(), WifiError> {
        let mut was_close = false;
        loop {
            let state: String =
                self.supplicant.get("ask for the radio's state", &self.device, INTERFACE, "State").await?;
            match state.as_str() {
                "completed" => return Ok(()),
                "4way_handshake" => was_close = true,
                _ => {}
            }
            if Instant::now() >= until {
                let why = match was_close {
                    true => "it does not take the passphrase",
                    false => "it does not answer; go nearer",
                };
                return Err(WifiError::NotJoined(known.ssid.to_string(), why));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Joins the group of a device that [`Station::look`] has found, by its button or by its PIN.
    pub async fn join_unknown(
        &self,
        peer: &Peer,
        pin: Option<&Pin>,
        within: Duration,
    ) -> Result<Joined, WifiError> {
        let before = self.supplicant.interfaces().await?;
        let membership =
            Membership::new(&self.supplicant, End::Group { device: self.device.clone(), before });
        match self.be_let_in(peer, pin, Instant::now() + within).await {
            Ok(joined) => Ok(joined(membership)),
            Err(error) => {
                membership.leave().await;
                Err(error)
            }
        }
    }

    /// Name and key of a group that was joined. Not all that there is of it: some owners give their passphrase as well.
    async fn network_of(&self, group: &ObjectPath<'_>) -> Option<Network> {
        let doing = "ask for the group";
        let ssid: Vec<u8> = self.supplicant.get(doing, group, GROUP, "SSID").await.ok()?;
        let key: Vec<u8> = self.supplicant.get(doing, group, GROUP, "PSK").await.ok()?;
        Some(Network::new(Ssid::new(&ssid).ok()?, key.try_into().ok()?))
    }

    /// What has been joined, but for what undoes it.
    async fn be_let_in(
        &self,
        peer: &Peer,
        pin: Option<&Pin>,
        until: Instant,
    ) -> Result<impl FnOnce(Membership) -> Joined, WifiError> {
        let mut news = self.supplicant.news().await?;
        let failed = |why| WifiError::NotJoined(peer.name.clone(), why);
        let mut told = Told::from([
            ("peer", self.peer(peer)?.into()),
            ("join", true.into()),
            ("persistent", true.into()),
        ]);
        match pin {
            None => told.insert("wps_method", "pbc".into()),
            Some(pin) => {
                told.insert("pin", pin.expose().to_owned().into());
                told.insert("wps_method", "keypad".into())
            }
        };
        let _: String = self.supplicant.call("join the group", &self.device, P2P, "Connect", &told).await?;
        while let Ok(heard) = tokio::time::timeout_at(until, news.next()).await {
            let Heard::Said(message) = heard else { return Err(WifiError::NoService("it has ended".into())) };
            match member(&message).as_str() {
                "GroupStarted" => {}
                "GroupFormationFailure" | "ProvisionDiscoveryFailure" => break,
                // The group's owner would be asked again and again.
                "Event" if pin.is_some() && is_wrong_pin(&message) => {
                    return Err(failed("it does not take the PIN"));
                }
                _ => continue,
            }
            let body = message.body();
            let Ok(news) = body.deserialize::<Said>().map(|said| said::group_news(&said)) else { continue };
            let Some(object) = news.interface else { continue };
            let interface = self.supplicant.name(&object).await?;
            if news.is_owner || interface != self.radio && !radio::is_group_on(&interface, &self.radio) {
                continue;
            }
            let (index, address) =
                address_of(&interface).await.ok_or_else(|| failed("it gave this side no address"))?;
            let network = match news.group {
                Some(group) => self.network_of(&group).await,
                None => None,
            };
            return Ok(move |membership| Joined { interface, index, address, network, membership });
        }
        Err(failed("it did not let this device in"))
    }
}

impl Joined {
    /// Leaves the network; the radio goes back to those that it was in before.
    pub async fn leave(self) {
        self.membership.leave().await;
    }
}

async fn address_of(interface: &str) -> Option<(u32, Ipv6Addr)> {
    let address = radio::link_local(interface).await?;
    Some((if_nametoindex(interface).ok()?, address))
}

/// Whether a message of WPS is that the PIN is another one (wpa_supplicant's `WPS.Event`: a name, and what belongs to it): it has
/// failed at one of the messages M3 to M6, in which both sides prove that they know it (Wi-Fi Simple Configuration).
fn is_wrong_pin(message: &Message) -> bool {
    // As wpa_supplicant numbers messages (enum wps_msg_type).
    const M3_TO_M6: RangeInclusive<i32> = 7..=10;
    let body = message.body();
    let Ok((name, said)) = body.deserialize::<(String, Said)>() else { return false };
    name == "fail" && said::number(&said, "msg").is_some_and(|number| M3_TO_M6.contains(&number))
}

/// Who has answered, and what.
fn service_of(said: &Said) -> Option<(OwnedObjectPath, Option<Service>)> {
    let peer = OwnedObjectPath::try_from(said.get("peer_object")?.try_clone().ok()?).ok()?;
    let service = bonjour::read(&said::bytes(said, "tlvs")?).into_iter().next();
    Some((peer, service))
}
