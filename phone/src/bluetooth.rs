//! Meeting kiosks and phones over Bluetooth: who is near, who of them is known, and syncing with them.

use std::ops::ControlFlow;
use std::time::Duration;

use rand_core::RngCore;
use tokio::sync::{mpsc, watch};
use waypost_ble::{Bearer, BleError, HangUp, Options, Peripheral, Radio, Sighting, Visible, Which};
use waypost_link::Link;
use waypost_node::system_rng;
use waypost_protocol::advertising::{Advertisement, AdvertisementError, Identifier};
use waypost_protocol::ids::PeerKey;
use waypost_protocol::session::Introduction;

use crate::Phone;
use crate::contact::{SyncError, SyncOptions};
use crate::gateway::{Gateway, Role};
use crate::reach::Opened;
use crate::report::{Ending, Progress, SyncReport};
use crate::settings::SettingError;
use crate::words::plain;

/// How long somebody in particular is looked for. A kiosk that has nobody near advertises about once a second; where a scan does
/// not begin at once BlueZ tries again after five.
pub const LOOK: Duration = Duration::from_secs(12);
/// How long is listened in the background, each time.
pub(crate) const GLANCE: Duration = Duration::from_secs(3);
/// After so long without anyone that is recognised, those are tried that may be meant.
const PATIENCE: Duration = Duration::from_secs(3);
/// At most so many are tried whose advertisement says nothing to this phone.
const MOST_TRIED: usize = 4;
/// An identifier is used for so long.
const RENEW: Duration = Duration::from_secs(15 * 60);
/// Links at once while this phone is visible.
const PLACES: usize = 2;

/// Why nobody near is known.
#[derive(Debug, thiserror::Error)]
pub enum BluetoothError {
    /// The adapter or the system's Bluetooth service.
    #[error(transparent)]
    Radio(#[from] BleError),
    /// What the phone knows cannot be read.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

/// An adapter, and what links are to run over.
pub struct Air {
    radio: Radio,
    bearer: Bearer,
}

impl Air {
    /// Opens an adapter: `best`, or by its name or address. `gatt`: links run over GATT, also where L2CAP is to be had.
    pub async fn open(adapter: &str, gatt: bool) -> Result<Self, BleError> {
        let which = adapter.parse().unwrap_or(Which::Best);
        let bearer = if gatt { Bearer::Gatt } else { Bearer::Any };
        Ok(Air { radio: Radio::open(&which).await?, bearer })
    }
}

/// Somebody near.
#[derive(Clone)]
pub struct Nearby {
    /// What was heard.
    pub sighting: Sighting,
    /// What it says of itself, where this program understands it.
    pub said: Option<Advertisement>,
    /// What it advertises is of a later version: it may be anybody.
    pub is_later: bool,
    /// Whom this phone takes it for. The handshake proves it or not.
    pub known: Option<Gateway>,
}

impl Nearby {
    fn is_phone(&self) -> bool {
        self.said.is_some_and(|said| !said.is_gateway)
    }

    /// Its name, as it says.
    pub fn name(&self) -> String {
        self.sighting.name.as_deref().map(plain).unwrap_or_default()
    }
}

/// Who is to be met.
#[derive(Clone, Copy)]
pub enum Who<'a> {
    /// Whichever of these is near.
    Any(&'a [Gateway]),
    /// Any kiosk, whoever that is.
    Stranger,
}

impl Phone {
    /// Who is near, the strongest signal first. Ends early where `enough` says so of somebody.
    pub async fn look_around(
        &self,
        air: &Air,
        window: Duration,
        mut enough: impl FnMut(&Nearby, Duration) -> bool + Send,
    ) -> Result<Vec<Nearby>, BluetoothError> {
        let known = self.gateways()?;
        let begun = std::time::Instant::now();
        let mut near: Vec<Nearby> = Vec::new();
        let mut seen = |sighting: Sighting| {
            let parsed = Advertisement::parse(&sighting.data);
            let is_later = matches!(parsed, Err(AdvertisementError::Later(_)));
            let said = parsed.ok();
            if said.is_none() && !is_later {
                return ControlFlow::Continue(());
            }
            let is_of = |one: &&Gateway| {
                one.advertising_key
                    .as_ref()
                    .is_some_and(|key| said.is_some_and(|said| said.identifier.is_of(key)))
            };
            let known = known.iter().find(is_of).cloned();
            let one = Nearby { sighting, said, is_later, known };
            let is_enough = enough(&one, begun.elapsed());
            near.retain(|before| before.sighting.address != one.sighting.address);
            near.push(one);
            if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        air.radio.scan(window, &mut seen).await?;
        near.sort_by_key(|one| std::cmp::Reverse(one.sighting.signal));
        Ok(near)
    }

    /// Meets somebody over Bluetooth and syncs. An error is of this phone itself; that nobody was reached is in the report.
    pub async fn sync_over_air(
        &self,
        air: &Air,
        who: Who<'_>,
        window: Duration,
        options: SyncOptions<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<SyncReport, SyncError> {
        let label = match who {
            Who::Any([one]) => one.label(),
            Who::Any(_) | Who::Stranger => String::new(),
        };
        let failed = |why: String| SyncReport::not_begun(&label, Ending::NotReached, why);
        // Those who have never told how to recognise them must be tried.
        let all_told =
            matches!(who, Who::Any(wanted) if wanted.iter().all(|one| one.advertising_key.is_some()));
        let mut tried: Vec<String> = Vec::new();
        let mut left = window;
        let mut last: Option<SyncReport> = None;
        // Whoever fails is passed over, and the rest of the window is listened to: anybody can repeat what somebody
        // advertises.
        while left > Duration::ZERO {
            let enough = |one: &Nearby, after: Duration| match who {
                _ if tried.contains(&one.sighting.address) => false,
                Who::Any(wanted) => {
                    let may_be = after > PATIENCE && (!all_told || one.is_later) && may_be(one, wanted);
                    is_wanted(one, wanted) || may_be
                }
                Who::Stranger => after > PATIENCE && !one.is_phone(),
            };
            let begun = std::time::Instant::now();
            let near = match self.look_around(air, left, enough).await {
                Ok(near) => near,
                Err(BluetoothError::Radio(error)) => return Ok(failed(error.to_string())),
                Err(BluetoothError::Setting(error)) => return Err(error.into()),
            };
            left = left.saturating_sub(begun.elapsed());
            let near: Vec<Nearby> =
                near.into_iter().filter(|one| !tried.contains(&one.sighting.address)).collect();
            for (one, gateway) in candidates(&near, who) {
                tried.push(one.sighting.address.clone());
                let report = match gateway {
                    Some(gateway) => self.meet_over_air(air, one, gateway, options, progress).await?,
                    None => match self.call(air, one, None).await {
                        Ok((opened, _)) => {
                            let options = SyncOptions { carry: false, ..options };
                            self.sync_over(opened.link, &Introduction::Open, options, progress).await?
                        }
                        Err(error) => failed(error.to_string()),
                    },
                };
                if report.key.is_some() {
                    return Ok(report);
                }
                last = Some(last.filter(|_| one.known.is_none()).unwrap_or(report));
            }
        }
        Ok(last.unwrap_or_else(|| failed("nobody of that kind is near; go nearer, and try again".to_owned())))
    }

    /// Syncs with somebody near who may be `gateway`.
    async fn meet_over_air(
        &self,
        air: &Air,
        near: &Nearby,
        gateway: &Gateway,
        options: SyncOptions<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<SyncReport, SyncError> {
        let mut psm = gateway.psm;
        let open = async || {
            let (opened, found) = self.call(air, near, psm).await.map_err(|error| error.to_string())?;
            psm = found;
            Ok(opened)
        };
        let mut report = self.meet_by(gateway, options, progress, open).await?;
        if report.over_wifi && report.ending == Ending::LinkLost && !report.stopped {
            // Where it came from, it goes on; and stays, as Wi-Fi has shown that it does not last.
            progress(Progress::NotMoved { why: report.why.clone() });
            let open = async || {
                let (opened, found) = self.call(air, near, psm).await.map_err(|error| error.to_string())?;
                psm = found;
                Ok(opened)
            };
            let options = SyncOptions { wifi: None, ..options };
            let back = self.meet_by(gateway, options, progress, open).await?;
            // That it is out of reach by now does not undo what went before.
            report = if back.key.is_some() { report.followed_by(back) } else { report };
        }
        // One that led to nobody is asked for the next time.
        let psm = psm.filter(|_| report.key.is_some());
        if psm != gateway.psm {
            self.remember_psm(&gateway.key, psm)?;
        }
        Ok(report)
    }

    async fn call(
        &self,
        air: &Air,
        near: &Nearby,
        psm: Option<u16>,
    ) -> Result<(Opened, Option<u16>), BleError> {
        let call = air.radio.call(&near.sighting, air.bearer, psm).await?;
        Ok((Opened { link: call.link, after: Some(call.hang_up) }, call.psm))
    }

    /// Lets others find this phone and connect to it; ends when what is returned is dropped.
    /// `gatt`: links run over GATT only.
    pub fn be_visible(
        &self,
        adapter: &str,
        gatt: bool,
        links: mpsc::Sender<Link>,
    ) -> Result<OnAir, SyncError> {
        let adapters = vec![adapter.parse().unwrap_or(Which::Best)];
        let (said, seen) = watch::channel(self.said()?);
        let options =
            Options { adapters, links: PLACES, sparing: false, l2cap: !gatt, restart_request: None };
        let peripheral = Peripheral::start(options, seen, links);
        let phone = self.clone();
        let renew = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW).await;
                match phone.said() {
                    // Nobody who listens any more: this ends with them.
                    Ok(now) => drop(said.send(now)),
                    Err(error) => log::warn!("the identifier on the air is not renewed: {error}"),
                }
            }
        });
        Ok(OnAir { peripheral, renew })
    }

    /// What a phone says of itself: no name, and an identifier that only those understand who know it.
    fn said(&self) -> Result<Visible, SyncError> {
        let mut rng = system_rng()?;
        let identifier = Identifier::make(&self.identity().advertising_key(), &mut rng as &mut dyn RngCore);
        let said = Advertisement {
            has_backhaul: false,
            offers_wifi: false,
            has_room: true,
            is_gateway: false,
            identifier,
        };
        Ok(Visible { name: String::new(), data: said.encode().to_vec() })
    }
}

/// This phone on the air.
pub struct OnAir {
    peripheral: Peripheral,
    renew: tokio::task::JoinHandle<()>,
}

impl OnAir {
    /// Waits until others can find the phone; the error says what keeps them from it.
    pub async fn ready(&mut self) -> Result<(), String> {
        loop {
            let status = self.peripheral.status();
            match status.first() {
                Some(one) if one.state == waypost_ble::State::Ready => return Ok(()),
                Some(one) if !one.why.is_empty() => return Err(one.why.clone()),
                _ => self.peripheral.changed().await,
            }
        }
    }
}

impl Drop for OnAir {
    fn drop(&mut self) {
        self.renew.abort();
    }
}

/// How a radio link that is over is ended.
pub(crate) async fn end(after: Option<HangUp>) {
    if let Some(hang_up) = after {
        hang_up.now().await;
    }
}

fn key_of(one: &Nearby) -> Option<PeerKey> {
    one.known.as_ref().map(|known| known.key)
}

fn is_wanted(one: &Nearby, wanted: &[Gateway]) -> bool {
    key_of(one).is_some_and(|key| wanted.iter().any(|gateway| gateway.key == key))
}

/// Whether somebody whose advertisement says nothing to this phone may be one of those who are wanted.
fn may_be(one: &Nearby, wanted: &[Gateway]) -> bool {
    one.known.is_none() && wanted.iter().any(|gateway| fits(one, gateway))
}

fn fits(one: &Nearby, gateway: &Gateway) -> bool {
    one.is_later || gateway.advertising_key.is_none() && one.is_phone() == (gateway.role == Role::Phone)
}

/// Whom to try, as whom: those who are recognised, then those who may be meant, the ones with the right name first.
fn candidates<'n>(near: &'n [Nearby], who: Who<'n>) -> Vec<(&'n Nearby, Option<&'n Gateway>)> {
    let wanted = match who {
        Who::Any(wanted) => wanted,
        Who::Stranger => {
            return near.iter().filter(|one| !one.is_phone()).take(1).map(|one| (one, None)).collect();
        }
    };
    let recognised = near.iter().filter_map(|one| {
        let key = key_of(one)?;
        Some((one, Some(wanted.iter().find(|gateway| gateway.key == key)?)))
    });
    let mut unknown: Vec<(&Nearby, Option<&Gateway>)> = Vec::new();
    for one in near.iter().filter(|one| one.known.is_none()) {
        unknown
            .extend(wanted.iter().filter(|gateway| fits(one, gateway)).map(|gateway| (one, Some(gateway))));
    }
    unknown.sort_by_key(|(one, gateway)| gateway.is_some_and(|gateway| gateway.name != one.name()));
    unknown.truncate(MOST_TRIED);
    recognised.chain(unknown).collect()
}
