//! DNS-SD: gateways announce `_waypost._tcp`, phones look for it (RFC 6763 over RFC 6762, through `mdns-sd`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use mdns_sd::{ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};

/// The service type.
pub const SERVICE: &str = "_waypost._tcp.local.";
/// The longest instance name, in bytes (RFC 6763 §4.1.1).
const MAX_INSTANCE: usize = 63;

/// So many hosts are asked for all of their addresses: somebody may announce any number.
const MOST_HOSTS: usize = 64;

/// Why there is no discovery. Links to known addresses work all the same.
#[derive(Debug, thiserror::Error)]
#[error("DNS-SD is not available: {0}")]
pub struct DiscoveryError(#[from] mdns_sd::Error);

/// A running announcement; ends when dropped.
pub struct Announcement {
    daemon: ServiceDaemon,
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // It fails only where the daemon has ended already.
        if let Err(error) = self.daemon.shutdown() {
            log::debug!("DNS-SD: {error}");
        }
    }
}

/// Announces a gateway on every interface. `tag` tells two gateways of one name apart and is no secret.
pub fn announce(name: &str, tag: &[u8], port: u16) -> Result<Announcement, DiscoveryError> {
    let daemon = ServiceDaemon::new()?;
    let instance = instance(name, tag);
    let host = format!("waypost-{}.local.", data_encoding::HEXLOWER.encode(tag));
    let properties = [("v", "1"), ("n", name)];
    let info = ServiceInfo::new(SERVICE, &instance, &host, "", port, &properties[..])?.enable_addr_auto();
    daemon.register(info)?;
    Ok(Announcement { daemon })
}

/// What a gateway's service is called: its name, as far as there is room, and the tag.
pub fn instance(name: &str, tag: &[u8]) -> String {
    let tag = data_encoding::HEXLOWER.encode(tag);
    let room = MAX_INSTANCE.saturating_sub(tag.len() + 3);
    let mut instance = name.to_owned();
    while instance.len() > room {
        instance.pop();
    }
    format!("{instance} ({tag})")
}

/// A gateway that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name for people, unproven.
    pub name: String,
    /// Highest protocol version that it says it speaks.
    pub version: String,
    /// Where it listens, IPv4 first; link-local addresses of IPv6 with the interface that they are on.
    pub addresses: Vec<SocketAddr>,
}

/// Looks for gateways for `span`; each once, by name.
pub async fn browse(span: Duration) -> Result<Vec<Found>, DiscoveryError> {
    let daemon = ServiceDaemon::new()?;
    let events = daemon.browse(SERVICE)?;
    let mut found = BTreeMap::new();
    let mut hosts = BTreeMap::new();
    let deadline = tokio::time::Instant::now() + span;
    while let Ok(Ok(event)) = tokio::time::timeout_at(deadline, events.recv_async()).await {
        if let ServiceEvent::ServiceResolved(service) = event {
            let port = service.get_port();
            let mut addresses: Vec<SocketAddr> =
                service.get_addresses().iter().map(|ip| socket_address(ip, port)).collect();
            addresses.sort_by_key(|address| (address.is_ipv6(), is_loopback(address.ip()), *address));
            let text = |key| service.get_property_val_str(key).unwrap_or_default().to_owned();
            let gateway = Found { name: text("n"), version: text("v"), addresses };
            found.insert(service.get_fullname().to_owned(), gateway);
            // Who answers a question about services over IPv4 tells no address of IPv6 with that, and says it only once. What is
            // found of the host by asking for that comes as the service again.
            let has_room = hosts.len() < MOST_HOSTS;
            if let Entry::Vacant(host) = hosts.entry(service.get_hostname().to_owned())
                && has_room
            {
                // Anybody can announce a name that cannot be asked for; the others are found all the same.
                match daemon.resolve_hostname(host.key(), None) {
                    Ok(answers) => {
                        host.insert(answers);
                    }
                    Err(error) => log::debug!("DNS-SD: {}: {error}", host.key()),
                }
            }
        }
    }
    if let Err(error) = daemon.shutdown() {
        log::debug!("DNS-SD: {error}");
    }
    Ok(found.into_values().collect())
}

fn socket_address(ip: &ScopedIp, port: u16) -> SocketAddr {
    match ip {
        ScopedIp::V6(v6) if v6.addr().is_unicast_link_local() => {
            SocketAddrV6::new(*v6.addr(), port, 0, v6.scope_id().index).into()
        }
        other => SocketAddr::new(other.to_ip_addr(), port),
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.is_loopback()
}
