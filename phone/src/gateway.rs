//! Peers that the phone has been introduced to: kiosks, and other phones; where they were seen and how to meet them.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use waypost_protocol::advertising::AdvertisingKey;
use waypost_protocol::ids::PeerKey;
use waypost_protocol::invite::{CodeSecret, InviteError, Pairing};
use waypost_protocol::session::Introduction;
use waypost_protocol::sync::PeerHello;
use waypost_protocol::time::UnixTime;
use waypost_store::{Change, PeerClass};
use waypost_wifi_direct::{Network, Ssid};

use crate::Phone;
use crate::settings::SettingError;
use crate::words::{means, plain};

const PREFIX: &str = "peer/";
/// At most so many addresses are remembered of a peer, the last useful one first.
const MAX_ADDRESSES: usize = 8;

/// Why a peer is not known.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The pairing text cannot be read.
    #[error(transparent)]
    Code(#[from] InviteError),
    /// It is the phone's own.
    #[error("this is the phone's own code; let the other phone read it")]
    Own,
    /// No peer fits.
    #[error(
        "no kiosk or phone fits `{0}`; give its whole name or at least 4 digits of its key, `waypost-phone gateways` \
         shows both"
    )]
    Unknown(String),
    /// Several peers fit.
    #[error("several fit `{0}`; give the beginning of the key instead, which `waypost-phone gateways` shows")]
    Ambiguous(String),
    /// What the phone knows cannot be read or written.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

/// What a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Takes documents to destinations.
    Kiosk,
    /// Another phone, which carries documents to a kiosk.
    Phone,
}

/// A kiosk or phone that this phone was introduced to.
#[derive(Clone)]
pub struct Gateway {
    /// Its static key.
    pub key: PeerKey,
    /// For people, unproven.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// `host:port`, the last useful one first.
    pub addresses: Vec<String>,
    /// The pairing code, until the peer has accepted it.
    pub code: Option<CodeSecret>,
    /// When it was last met, by the phone's clock; `None`: never.
    pub last_seen: Option<UnixTime>,
    /// With which its advertisements are recognised, once it has told.
    pub advertising_key: Option<AdvertisingKey>,
    /// The PSM that it had the last time, over Bluetooth.
    pub psm: Option<u16>,
    /// Its own Wi-Fi network, once this phone was let in.
    pub wifi: Option<Network>,
}

impl Gateway {
    /// From a pairing text.
    pub fn from_code(text: &str, role: Role) -> Result<Self, GatewayError> {
        let pairing = Pairing::parse(text)?;
        Ok(Gateway {
            key: pairing.gateway,
            name: plain(&pairing.name),
            role,
            addresses: pairing.addresses.into_iter().take(MAX_ADDRESSES).collect(),
            code: Some(pairing.secret),
            last_seen: None,
            advertising_key: None,
            psm: None,
            wifi: None,
        })
    }

    /// Whether the peer has accepted the code.
    pub fn is_paired(&self) -> bool {
        self.code.is_none()
    }

    /// How to open a session, most likely first.
    ///
    /// A code whose acceptance went missing with the link has made the phone known already; so that way follows.
    pub fn introductions(&self) -> Vec<Introduction> {
        let code = self.code.clone().map(|code| Introduction::Code(self.key, code));
        code.into_iter().chain([Introduction::Known(self.key)]).collect()
    }

    /// For people: its name, or the beginning of its key.
    pub fn label(&self) -> String {
        match self.name.is_empty() {
            false => self.name.clone(),
            true => self.key.to_string().chars().take(12).collect(),
        }
    }
}

/// What is stored of a [`Gateway`].
#[derive(Serialize, Deserialize)]
struct Row {
    key: PeerKey,
    name: String,
    role: Role,
    addresses: Vec<String>,
    code: Option<String>,
    last_seen: Option<UnixTime>,
    advertising_key: Option<String>,
    #[serde(default)]
    psm: Option<u16>,
    #[serde(default)]
    wifi: Option<WifiRow>,
}

/// What is stored of a [`Network`].
#[derive(Serialize, Deserialize)]
struct WifiRow {
    ssid: String,
    key: String,
}

impl WifiRow {
    fn network(&self) -> Option<Network> {
        let bytes = |text: &str| BASE64.decode(text.as_bytes()).ok();
        Some(Network::new(Ssid::new(&bytes(&self.ssid)?).ok()?, bytes(&self.key)?.try_into().ok()?))
    }
}

impl From<&Network> for WifiRow {
    fn from(network: &Network) -> Self {
        let text = |bytes| BASE64.encode(bytes);
        WifiRow { ssid: text(network.ssid.as_bytes()), key: text(network.expose_key()) }
    }
}

impl From<Row> for Gateway {
    fn from(row: Row) -> Self {
        let bytes = |text: String| BASE64.decode(text.as_bytes()).ok()?.try_into().ok();
        Gateway {
            key: row.key,
            name: row.name,
            role: row.role,
            addresses: row.addresses,
            code: row.code.and_then(bytes).map(CodeSecret::new),
            last_seen: row.last_seen,
            advertising_key: row.advertising_key.and_then(bytes).map(AdvertisingKey::new),
            psm: row.psm,
            wifi: row.wifi.as_ref().and_then(WifiRow::network),
        }
    }
}

impl From<&Gateway> for Row {
    fn from(gateway: &Gateway) -> Self {
        Row {
            key: gateway.key,
            name: gateway.name.clone(),
            role: gateway.role,
            addresses: gateway.addresses.clone(),
            code: gateway.code.as_ref().map(|code| BASE64.encode(code.expose())),
            last_seen: gateway.last_seen,
            advertising_key: gateway.advertising_key.as_ref().map(|key| BASE64.encode(key.expose())),
            psm: gateway.psm,
            wifi: gateway.wifi.as_ref().map(WifiRow::from),
        }
    }
}

impl Phone {
    /// Remembers whom a pairing text introduces. The code is kept until the peer has accepted it.
    pub fn introduce(&self, text: &str, role: Role) -> Result<Gateway, GatewayError> {
        let mut gateway = Gateway::from_code(text, role)?;
        if gateway.key == self.key() {
            return Err(GatewayError::Own);
        }
        if let Some(known) = self.gateway_by_key(&gateway.key)? {
            gateway.last_seen = known.last_seen;
            gateway.advertising_key = known.advertising_key;
            gateway.wifi = known.wifi;
            for address in known.addresses {
                if gateway.addresses.len() < MAX_ADDRESSES && !gateway.addresses.contains(&address) {
                    gateway.addresses.push(address);
                }
            }
        }
        self.put_gateway(&gateway)?;
        Ok(gateway)
    }

    fn put_gateway(&self, gateway: &Gateway) -> Result<(), SettingError> {
        let class = match gateway.role {
            Role::Kiosk => PeerClass::Gateway,
            Role::Phone => PeerClass::Paired,
        };
        let label = Some(gateway.name.clone()).filter(|name| !name.is_empty());
        self.writer().apply(Change::PutPeer { peer: gateway.key, class, label })?;
        self.save(&format!("{PREFIX}{}", gateway.key), &Row::from(gateway))
    }

    /// Writes down that a peer was met at `address`, what it says of itself, and whether it has accepted the code.
    pub(crate) fn met(
        &self,
        key: &PeerKey,
        address: &str,
        hello: Option<&PeerHello>,
        accepted: bool,
    ) -> Result<(), SettingError> {
        let Some(mut gateway) = self.gateway_by_key(key)? else { return Ok(()) };
        if !address.is_empty() {
            gateway.addresses.retain(|known| known != address);
            gateway.addresses.insert(0, address.to_owned());
            gateway.addresses.truncate(MAX_ADDRESSES);
        }
        if let Some(hello) = hello {
            // Whatever its user took it for: only a kiosk's word is worth "at the kiosk".
            gateway.role = if hello.is_gateway { Role::Kiosk } else { Role::Phone };
            if !hello.name.is_empty() {
                gateway.name = plain(&hello.name);
            }
            // One that serves this phone as a stranger does not tell its key again, and keeps it all the same.
            gateway.advertising_key = hello.advertising_key.clone().or(gateway.advertising_key);
        }
        if accepted {
            gateway.code = None;
        }
        gateway.last_seen = Some(self.wall());
        self.put_gateway(&gateway)
    }

    /// Writes down at which PSM a peer was reached over Bluetooth.
    pub(crate) fn remember_psm(&self, key: &PeerKey, psm: Option<u16>) -> Result<(), SettingError> {
        match self.gateway_by_key(key)? {
            Some(gateway) => self.put_gateway(&Gateway { psm, ..gateway }),
            None => Ok(()),
        }
    }

    /// Writes down how a peer's own Wi-Fi network is joined.
    pub(crate) fn remember_wifi(&self, key: &PeerKey, network: &Network) -> Result<(), SettingError> {
        match self.gateway_by_key(key)? {
            Some(gateway) if gateway.wifi.as_ref() != Some(network) => {
                self.put_gateway(&Gateway { wifi: Some(network.clone()), ..gateway })
            }
            _ => Ok(()),
        }
    }

    /// Forgets a peer, which is not served any more where it comes by itself, nor with a code that it has used. What it was
    /// given stays known, so that nothing is sent to it twice after another pairing.
    pub fn forget_gateway(&self, key: &PeerKey) -> Result<(), SettingError> {
        self.erase(&format!("{PREFIX}{key}"))?;
        self.writer().apply(Change::Forget { peer: *key })?;
        Ok(())
    }

    /// All that are known, the last met first.
    pub fn gateways(&self) -> Result<Vec<Gateway>, SettingError> {
        let mut all: Vec<Gateway> = self.load_all::<Row>(PREFIX)?.into_iter().map(Gateway::from).collect();
        all.sort_by_key(|gateway| std::cmp::Reverse(gateway.last_seen));
        Ok(all)
    }

    /// The one with this key.
    pub fn gateway_by_key(&self, key: &PeerKey) -> Result<Option<Gateway>, SettingError> {
        Ok(self.load::<Row>(&format!("{PREFIX}{key}"))?.map(Gateway::from))
    }

    /// The one that a user means by its name or the beginning of its key, four digits at least.
    pub fn gateway(&self, text: &str) -> Result<Gateway, GatewayError> {
        let all = self.gateways()?;
        let fits = |one: &&Gateway| means(text, &one.name, &one.key.to_string());
        let mut found = all.iter().filter(fits);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one.clone()),
            (Some(_), Some(_)) => Err(GatewayError::Ambiguous(text.to_owned())),
            (None, _) => Err(GatewayError::Unknown(text.to_owned())),
        }
    }
}
