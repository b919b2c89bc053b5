//! Meeting kiosks by Wi-Fi Direct: who is near, joining somebody's group, and syncing there.

use std::time::Duration;

use waypost_lan::{browse, connect};
use waypost_link::Medium;
use waypost_protocol::session::Introduction;
use waypost_wifi_direct::{Found, Joined, Network, Pin, Station, WifiError};

use crate::Phone;
use crate::bluetooth::Who;
use crate::contact::{SyncError, SyncOptions};
use crate::gateway::Gateway;
use crate::moving::Wifi;
use crate::reach::Opened;
use crate::report::{Ending, Progress, SyncReport};

/// How long somebody is looked for: all channels once, then the social ones in turn. Whoever is there mostly answers within ten
/// seconds.
pub const WIFI_LOOK: Duration = Duration::from_secs(30);
/// How long joining by button or PIN may take.
const JOIN: Duration = Duration::from_secs(30);
/// How long joining a network may take that is known and near.
const KNOWN: Duration = Duration::from_secs(10);
/// How long a network may take to come that was asked for, and how often it is looked for.
const WAKE: Duration = Duration::from_secs(2);
const WAKES: usize = 4;
const WOKEN: Duration = Duration::from_secs(20);
/// How long the group is asked for the kiosk's address, and how often.
const BROWSE: Duration = Duration::from_secs(2);
const BROWSES: usize = 4;
/// How long the kiosk may take to answer there.
const CONNECT: Duration = Duration::from_secs(5);
/// At most so many are joined, one after the other, that may be meant.
const MOST_TRIED: usize = 3;

impl Wifi {
    async fn open(&self) -> Result<Station, WifiError> {
        match self {
            Wifi::Radio { interface, bus } => Station::open(interface.as_deref(), bus.as_deref()).await,
            Wifi::Joined => Err(WifiError::NoRadio("that is this program's".into())),
        }
    }

    /// Who is near by Wi-Fi Direct, those first who say that they are a Waypost.
    pub async fn look(&self, window: Duration) -> Result<Vec<Found>, WifiError> {
        self.open().await?.look(window, |_| false).await
    }
}

impl Phone {
    /// Meets a kiosk by Wi-Fi Direct: joins its group, by button or by its PIN where this phone was not let in before, and syncs.
    /// An error is of this phone itself; that nobody was reached is in the report.
    pub async fn sync_over_wifi(
        &self,
        wifi: &Wifi,
        who: Who<'_>,
        pin: Option<&Pin>,
        window: Duration,
        options: SyncOptions<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<SyncReport, SyncError> {
        let label = match who {
            Who::Any([one]) => one.label(),
            Who::Any(_) | Who::Stranger => String::new(),
        };
        let failed = |why: String| SyncReport::not_begun(&label, Ending::NotReached, why);
        let station = match wifi.open().await {
            Ok(station) => station,
            Err(error) => return Ok(failed(error.to_string())),
        };
        if let Some(report) = self.sync_where_known(&station, wanted(who), options, progress).await? {
            return Ok(report);
        }
        let found = match station.look(window, |one| is_enough(one, who)).await {
            Ok(found) => found,
            Err(error) => return Ok(failed(error.to_string())),
        };
        let mut last = failed(WifiError::Nobody.to_string());
        for one in candidates(&found, who) {
            let is_it = |gateway: &&Gateway| {
                one.service
                    .as_ref()
                    .is_some_and(|service| service.name == gateway.name && gateway.wifi.is_some())
            };
            let known = wanted(who).iter().find(is_it);
            if !one.peer.is_owner {
                if let Err(error) = station.wake(&one.peer).await {
                    log::info!("{error}");
                }
                match known {
                    Some(known) => {
                        if let Some(report) = self.sync_with_woken(&station, known, options, progress).await?
                        {
                            return Ok(report);
                        }
                    }
                    None => {
                        let is_up =
                            |other: &Found| other.peer.is_owner && other.peer.address == one.peer.address;
                        if let Err(error) = station.look(WOKEN, is_up).await {
                            log::info!("{error}");
                        }
                    }
                }
            }
            let joined = match station.join_unknown(&one.peer, pin, JOIN).await {
                Ok(joined) => joined,
                Err(error) => {
                    last = failed(error.to_string());
                    continue;
                }
            };
            let network = joined.network.clone();
            let report = self.sync_in_group(&joined, who, options, progress).await;
            joined.leave().await;
            let report = report?;
            if let Some(key) = report.key {
                if let Some(network) = network {
                    self.remember_wifi(&key, &network)?;
                }
                return Ok(report);
            }
            last = report;
        }
        Ok(last)
    }

    /// Syncs in the network of one of these kiosks that is near and has let this phone in before.
    async fn sync_where_known(
        &self,
        station: &Station,
        kiosks: &[Gateway],
        options: SyncOptions<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<SyncReport>, SyncError> {
        let networks: Vec<Network> = kiosks.iter().filter_map(|kiosk| kiosk.wifi.clone()).collect();
        if networks.is_empty() {
            return Ok(None);
        }
        let near = station.hears(&networks).await.unwrap_or_else(|error| {
            log::debug!("{error}");
            Vec::new()
        });
        for one in near.into_iter().take(MOST_TRIED) {
            let Some(network) = networks.iter().find(|network| network.ssid == one.ssid) else { continue };
            let joined = match station.join(network, Some(&one.bssid), Some(one.frequency), KNOWN).await {
                Ok(joined) => joined,
                Err(error) => {
                    log::info!("{error}");
                    continue;
                }
            };
            let report = self.sync_in_group(&joined, Who::Any(kiosks), options, progress).await;
            joined.leave().await;
            let report = report?;
            if report.key.is_some() {
                return Ok(Some(report));
            }
        }
        Ok(None)
    }

    /// Waits until a kiosk that has let this phone in before has its network up, and syncs there.
    async fn sync_with_woken(
        &self,
        station: &Station,
        kiosk: &Gateway,
        options: SyncOptions<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<SyncReport>, SyncError> {
        for _ in 0..WAKES {
            tokio::time::sleep(WAKE).await;
            let kiosk = std::slice::from_ref(kiosk);
            if let Some(report) = self.sync_where_known(station, kiosk, options, progress).await? {
                return Ok(Some(report));
            }
        }
        Ok(None)
    }

    /// Syncs with the kiosk whose group this phone is in.
    async fn sync_in_group(
        &self,
        joined: &Joined,
        who: Who<'_>,
        options: SyncOptions<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<SyncReport, SyncError> {
        let mut last =
            SyncReport::not_begun("", Ending::NotReached, "it has not said where it is in its network");
        for _ in 0..BROWSES {
            let found = browse(BROWSE).await.unwrap_or_default();
            let scope = format!("%{}]", joined.index);
            let addresses = found.iter().flat_map(|one| &one.addresses).map(ToString::to_string);
            // What is reached over another interface is somebody else.
            for address in addresses.filter(|address| address.contains(&scope)) {
                let open = async || match connect(&address, CONNECT).await {
                    Ok(mut link) => {
                        link.info.medium = Medium::WifiDirect;
                        Ok(Opened { link, after: None })
                    }
                    Err(error) => Err(error.to_string()),
                };
                for gateway in wanted(who) {
                    match self.meet_by(gateway, options, progress, open).await? {
                        report if report.key.is_some() => return Ok(report),
                        report => last = report,
                    }
                }
                if let Who::Stranger = who
                    && let Ok(opened) = open().await
                {
                    let options = SyncOptions { carry: false, ..options };
                    return self.sync_over(opened.link, &Introduction::Open, options, progress).await;
                }
            }
            if !last.why.is_empty() && last.ending != Ending::NotReached {
                break;
            }
        }
        Ok(last)
    }
}

fn wanted<'w>(who: Who<'w>) -> &'w [Gateway] {
    match who {
        Who::Any(wanted) => wanted,
        Who::Stranger => &[],
    }
}

/// Whether looking can end: a Waypost of the right name, or any where there is none to look for.
fn is_enough(one: &Found, who: Who<'_>) -> bool {
    let Some(service) = &one.service else { return false };
    match who {
        Who::Any(wanted) => wanted.iter().any(|gateway| gateway.name == service.name),
        Who::Stranger => true,
    }
}

/// Whose group to join. A name proves nothing, but somebody else's group is not joined for nothing.
fn candidates<'f>(found: &'f [Found], who: Who<'_>) -> Vec<&'f Found> {
    found.iter().filter(|one| is_enough(one, who)).take(MOST_TRIED).collect()
}
