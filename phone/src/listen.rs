//! Being there for another phone: the code that it is shown, and where this phone can be reached.

use std::net::IpAddr;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use rand_core::RngCore as _;
use waypost_lan::Listener;
use waypost_node::system_rng;
use waypost_protocol::invite::{CodeSecret, Pairing};
use waypost_store::{Change, PeerClass};

use crate::Phone;
use crate::contact::SyncError;
use crate::settings::SettingError;

/// A code for another phone is valid for so long.
pub const CODE_VALID: Duration = Duration::from_secs(15 * 60);

impl Phone {
    /// Makes a code with which one other phone may come, and the text to show it.
    pub fn invite(&self, addresses: Vec<String>) -> Result<Pairing, SyncError> {
        let mut secret = [0; 16];
        system_rng()?.fill_bytes(&mut secret);
        let secret = CodeSecret::new(secret);
        let code = Change::AddCode {
            secret: secret.clone(),
            class: PeerClass::Paired,
            valid: Some(CODE_VALID),
            poster: None,
        };
        self.writer().apply(code).map_err(SettingError::from)?;
        Ok(Pairing { gateway: self.key(), secret, name: self.name()?, addresses })
    }
}

/// Where others reach a listener: its own address, or those of this machine's interfaces where it listens on all.
pub fn addresses_of(listener: &Listener) -> std::io::Result<Vec<String>> {
    let local = listener.local_address()?;
    if !local.ip().is_unspecified() {
        return Ok(vec![local.to_string()]);
    }
    let mut found: Vec<IpAddr> = Vec::new();
    for interface in getifaddrs()? {
        let is_up = interface.flags.contains(InterfaceFlags::IFF_UP);
        let is_loopback = interface.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let Some(address) = interface.address.filter(|_| is_up && !is_loopback) else { continue };
        let ip: Option<IpAddr> = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => Some(v4.ip().into()),
            // A link-local address means nothing without the interface of who uses it.
            (_, Some(v6)) => Some(v6.ip().into()).filter(|_| !v6.ip().is_unicast_link_local()),
            _ => None,
        };
        found.extend(ip.filter(|ip| local.is_ipv6() || ip.is_ipv4()));
    }
    found.sort_by_key(IpAddr::is_ipv6);
    found.dedup();
    let addresses = found.iter().take(4).map(|ip| std::net::SocketAddr::new(*ip, local.port()).to_string());
    Ok(addresses.collect())
}
