//! The gateway's own Wi-Fi Direct group: what it is called for ever, and how it is.

use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use waypost_config::{Config, WifiChannels, WifiJoin, WifiMode};
use waypost_protocol::ids::PeerKey;
use waypost_protocol::moving::WifiNetwork;
use waypost_protocol::session::HIGHEST_VERSION;
use waypost_store::{Change, Store};
use waypost_wifi_direct::{
    Channels, Credentials, GroupOwner, GroupStatus, Join, Mode, Options, Passphrase, Pin, Service, Ssid,
    State, end_left, frequency,
};
use zeroize::{Zeroize as _, Zeroizing};

use crate::admin::WifiInvitation;

/// The setting that keeps name, passphrase and PIN.
const KEY: &str = "wifi-direct/group";
/// The longest device name, in bytes (WSC specification 2.0, 12, "Device Name").
const MAX_DEVICE_NAME: usize = 32;

/// The group, attended.
pub(super) struct Wifi {
    owner: GroupOwner,
    changes: watch::Receiver<GroupStatus>,
    group: Group,
    join: WifiJoin,
}

/// What is made once and stays.
struct Group {
    credentials: Credentials,
    pin: Pin,
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
struct Row {
    ssid: Vec<u8>,
    passphrase: String,
    pin: String,
}

impl Drop for Row {
    fn drop(&mut self) {
        self.passphrase.zeroize();
        self.pin.zeroize();
    }
}

impl Group {
    /// The gateway's, made at the first start with Wi-Fi Direct.
    fn load_or_make(store: &Store, name: &str, mut rng: ChaCha20Rng) -> anyhow::Result<Self> {
        if let Some(bytes) = store.setting(KEY)? {
            match Self::parse(&Zeroizing::new(bytes)) {
                Some(group) => return Ok(group),
                None => log::error!(
                    "name and passphrase of the Wi-Fi Direct group cannot be read; new ones are made"
                ),
            }
        }
        let group =
            Group { credentials: Credentials::generate(name, &mut rng), pin: Pin::generate(&mut rng) };
        let row = Row {
            ssid: group.credentials.ssid.as_bytes().to_vec(),
            passphrase: group.credentials.passphrase.expose().to_owned(),
            pin: group.pin.expose().to_owned(),
        };
        store.apply_one(Change::Put { key: KEY.to_owned(), value: Some(serde_json::to_vec(&row)?) })?;
        Ok(group)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let row: Row = serde_json::from_slice(bytes).ok()?;
        let credentials = Credentials {
            ssid: Ssid::new(&row.ssid).ok()?,
            passphrase: Passphrase::new(&row.passphrase).ok()?,
        };
        Some(Group { credentials, pin: Pin::new(&row.pin)? })
    }
}

impl Wifi {
    /// Begins, where the configuration says so.
    pub(super) fn start(config: &Config, store: &Store, key: &PeerKey, rng: ChaCha20Rng) -> Option<Self> {
        let wifi = &config.wifi_direct;
        let mode = match wifi.mode {
            WifiMode::Off => {
                end_what_was_left(store);
                return None;
            }
            WifiMode::Always => Mode::Always,
            WifiMode::OnDemand => Mode::OnDemand,
        };
        let name = config.name.as_str();
        let group = match Group::load_or_make(store, name, rng) {
            Ok(group) => group,
            // One radio that fails stops no other.
            Err(error) => {
                log::error!(error:%; "no Wi-Fi Direct: its name and passphrase cannot be stored: {error}");
                return None;
            }
        };
        let mut device_name = name.to_owned();
        while device_name.len() > MAX_DEVICE_NAME {
            device_name.pop();
        }
        let service = Service {
            instance: waypost_lan::instance(name, &key.as_bytes()[..4]),
            name: name.to_owned(),
            version: HIGHEST_VERSION.to_string(),
        };
        let owner = GroupOwner::start(Options {
            radio: wifi.interface.interface().map(str::to_owned),
            bus: None,
            mode,
            credentials: group.credentials.clone(),
            device_name,
            channels: channels(&wifi.channels),
            join: match wifi.join {
                WifiJoin::Button => Join::Button,
                WifiJoin::Pin => Join::Pin(group.pin.clone()),
                WifiJoin::Closed => Join::Closed,
            },
            idle: wifi.idle.duration(),
            service,
        });
        let changes = owner.watch();
        Some(Wifi { owner, changes, group, join: wifi.join })
    }

    /// How it is.
    pub(super) fn status(&self) -> GroupStatus {
        self.owner.status()
    }

    /// Whether phones may go on over it, now or in a moment.
    pub(super) fn is_offered(&self) -> bool {
        matches!(self.status().state, State::Up | State::Starting | State::Waiting)
    }

    /// Whether that may come to be, as far as is known of the radio.
    pub(super) fn is_possible(&self) -> bool {
        self.status().state != State::Unsupported
    }

    /// The next time that something is different.
    pub(super) async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // It is about to end.
            std::future::pending().await
        }
    }

    /// Somebody is about to come.
    pub(super) fn want(&self) {
        self.owner.want();
    }

    /// The network as phones are told it, while it is up. `port`: of the gateway's TCP links.
    pub(super) fn network(&self, port: u16) -> Option<WifiNetwork> {
        let up = self.status().group?;
        let Credentials { ssid, passphrase } = &self.group.credentials;
        Some(WifiNetwork {
            ssid: ssid.as_bytes().to_vec(),
            passphrase: Zeroizing::new(passphrase.expose().to_owned()),
            bssid: mac(&up.bssid),
            frequency: up.frequency.into(),
            address: up.address?.into(),
            port,
        })
    }

    /// What people need to join.
    pub(super) fn invitation(&self) -> WifiInvitation {
        let Credentials { ssid, passphrase } = &self.group.credentials;
        WifiInvitation {
            ssid: ssid.to_string(),
            passphrase: passphrase.expose().to_owned(),
            pin: (self.join == WifiJoin::Pin).then(|| self.group.pin.expose().to_owned()),
            join: self.join.to_string(),
        }
    }

    /// Ends the group.
    pub(super) async fn stop(self) {
        self.owner.stop().await;
    }
}

/// A gateway that was killed leaves its group behind, also where it is to have none any more.
fn end_what_was_left(store: &Store) {
    let bytes = store.setting(KEY).ok().flatten().map(Zeroizing::new);
    let Some(group) = bytes.and_then(|bytes| Group::parse(&bytes)) else { return };
    tokio::spawn(async move {
        if let Err(error) = end_left(None, &group.credentials.ssid, None).await {
            log::warn!(error:%; "whether a Wi-Fi Direct group was left is not known: {error}");
        }
    });
}

/// The bytes of `02:00:00:00:00:00`.
fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> =
        text.split(':').map(|pair| u8::from_str_radix(pair, 16)).collect::<Result<_, _>>().ok()?;
    bytes.try_into().ok()
}

fn channels(configured: &WifiChannels) -> Channels {
    match configured {
        WifiChannels::Auto => Channels::Auto,
        WifiChannels::FiveGigahertz => Channels::FiveGigahertz,
        WifiChannels::TwoGigahertz => Channels::TwoGigahertz,
        WifiChannels::These(numbers) => {
            Channels::These(numbers.iter().filter_map(|one| frequency(*one)).collect())
        }
    }
}
