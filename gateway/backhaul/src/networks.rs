//! What the kernel's tables say: routes over links that carry packets, and which of them lead anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A network interface with a default route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The interface's name, for example `eth0` or `wwan0`.
    pub interface: String,
    /// Its best default route; the kernel prefers the lowest.
    pub metric: u32,
}

/// A route of the main table, over a link that carries packets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The interface's name.
    pub interface: String,
    /// Destination and prefix length; `None` for a default route.
    pub towards: Option<(IpAddr, u8)>,
    /// Whether it is one of IPv6.
    pub is_v6: bool,
    /// The next hop, where there is one.
    pub gateway: Option<IpAddr>,
    /// The kernel prefers the lowest.
    pub metric: u32,
}

/// The routes at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks {
    routes: BTreeSet<Route>,
}

impl Networks {
    /// From all routes that there are.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        Networks { routes: routes.into_iter().filter(|route| !route.stays_on_its_link()).collect() }
    }

    /// Interfaces with a default route, the one that the kernel prefers first.
    pub fn outward(&self) -> Vec<Network> {
        let mut best: BTreeMap<&str, u32> = BTreeMap::new();
        for route in self.routes.iter().filter(|route| route.towards.is_none()) {
            let metric = best.entry(&route.interface).or_insert(route.metric);
            *metric = route.metric.min(*metric);
        }
        let mut networks: Vec<Network> = best
            .into_iter()
            .map(|(interface, metric)| Network { interface: interface.to_owned(), metric })
            .collect();
        networks.sort_by_key(|network| network.metric);
        networks
    }

    /// Whether there is a way that was not there `before`: what could not be reached then may be reached now.
    pub fn adds_to(&self, before: &Networks) -> bool {
        !self.routes.is_subset(&before.routes)
    }

    /// Whether no route leads off this machine.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

impl Route {
    /// Link-local and multicast routes come with every link and lead nowhere else (RFC 3927, RFC 4291 §2.5.6).
    fn stays_on_its_link(&self) -> bool {
        // A Wi-Fi Direct group of this machine leads to phones.
        if self.interface.starts_with("p2p-") {
            return true;
        }
        match self.towards {
            Some((IpAddr::V4(address), _)) => {
                address.is_link_local() || address.is_loopback() || address.is_multicast()
            }
            Some((IpAddr::V6(address), _)) => {
                address.is_unicast_link_local() || address.is_loopback() || address.is_multicast()
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(interface: &str, towards: Option<(&str, u8)>, metric: u32) -> Route {
        let towards = towards.map(|(address, length)| (address.parse::<IpAddr>().unwrap(), length));
        let is_v6 = towards.is_some_and(|(address, _)| address.is_ipv6());
        Route { interface: interface.into(), towards, is_v6, gateway: None, metric }
    }

    #[test]
    fn the_network_that_the_kernel_prefers_comes_first() {
        let networks = Networks::new([
            route("wwan0", None, 700),
            route("eth0", None, 1_024),
            route("eth0", None, 100),
            route("wlan0", Some(("10.1.2.0", 24)), 600),
        ]);
        let names: Vec<_> = networks.outward().into_iter().map(|one| (one.interface, one.metric)).collect();
        assert_eq!(names, [("eth0".to_owned(), 100), ("wwan0".to_owned(), 700)]);
    }

    #[test]
    fn a_new_way_is_news_and_one_that_went_is_not() {
        let access_point = route("wlan0", Some(("10.1.2.0", 24)), 0);
        let before = Networks::new([access_point.clone()]);
        let with_modem = Networks::new([access_point.clone(), route("wwan0", None, 700)]);
        assert!(with_modem.adds_to(&before));
        assert!(!before.adds_to(&with_modem) && !before.adds_to(&before));
        // The same default route by another gateway is another network.
        let gateway = Some("10.9.9.9".parse().unwrap());
        let moved = Networks::new([access_point, Route { gateway, ..route("wwan0", None, 700) }]);
        assert!(moved.adds_to(&with_modem));
    }

    #[test]
    fn what_every_link_has_by_itself_leads_nowhere() {
        let own = [("169.254.0.0", 16), ("fe80::", 64), ("ff00::", 8), ("127.0.0.0", 8)];
        let networks = Networks::new(own.map(|towards| route("eth0", Some(towards), 0)));
        assert!(networks.is_empty() && networks.outward().is_empty());
    }

    #[test]
    fn the_gateways_own_wifi_is_no_way_out() {
        let group = [Some(("172.29.77.0", 24)), None].map(|towards| route("p2p-wlan0-0", towards, 0));
        assert!(Networks::new(group).is_empty());
    }
}
