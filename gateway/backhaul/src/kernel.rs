//! Asking and hearing the kernel.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::networks::{Networks, Route};

/// One change mostly brings others: a link, its addresses, its routes. They are looked at together.
const SETTLE: Duration = Duration::from_millis(50);
/// After asking the kernel has failed.
const AGAIN: Duration = Duration::from_secs(5);

/// Hears of networks that come and go, as long as it lives.
pub struct Watch {
    networks: watch::Receiver<Networks>,
    tasks: [JoinHandle<()>; 2],
}

impl Watch {
    /// Begins to listen. What is there already is told first.
    ///
    /// # Errors
    /// The kernel gives no netlink socket: AF_NETLINK is not allowed to this process.
    pub fn start() -> std::io::Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (connection, handle, mut changes) = new_multicast_connection(&groups)?;
        let (told, networks) = watch::channel(Networks::default());
        let listening = tokio::spawn(connection);
        let asking = tokio::spawn(async move {
            loop {
                match ask(&handle).await {
                    Ok(found) => {
                        told.send_if_modified(|known| std::mem::replace(known, found.clone()) != found);
                        if changes.next().await.is_none() {
                            return;
                        }
                        tokio::time::sleep(SETTLE).await;
                    }
                    Err(error) => {
                        log::warn!(error:%; "cannot ask the kernel for its routes: {error}");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                // What they say is asked for again as a whole, so that a message that was lost costs nothing.
                while changes.next().now_or_never().flatten().is_some() {}
            }
        });
        Ok(Watch { networks, tasks: [listening, asking] })
    }

    /// The networks after the next change; the first call gives those that are there. Cancel-safe.
    pub async fn changed(&mut self) -> Networks {
        if self.networks.changed().await.is_err() {
            // The kernel closed the socket: nothing more is heard, and timers have to do.
            std::future::pending::<()>().await;
        }
        self.networks.borrow_and_update().clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// All routes of the main table over links that carry packets.
async fn ask(handle: &Handle) -> Result<Networks, rtnetlink::Error> {
    let mut links = HashMap::new();
    let mut all = handle.link().get().execute();
    while let Some(link) = all.try_next().await? {
        let carries = link.header.flags.contains(LinkFlags::Up | LinkFlags::Running);
        let is_loopback = link.header.flags.contains(LinkFlags::Loopback);
        let name = link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        });
        links.extend(name.filter(|_| carries && !is_loopback).map(|name| (link.header.index, name)));
    }
    let requests =
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
    let mut routes = Vec::new();
    for request in requests {
        let mut all = handle.route().get(request).execute();
        while let Some(message) = all.try_next().await? {
            routes.extend(route(&message, &links));
        }
    }
    Ok(Networks::new(routes))
}

fn route(message: &RouteMessage, links: &HashMap<u32, String>) -> Option<Route> {
    let header = &message.header;
    let (mut table, mut index, mut metric) = (u32::from(header.table), None, 0);
    let (mut towards, mut gateway) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Oif(number) => index = Some(*number),
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Destination(address) => towards = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            _ => {}
        }
    }
    let leads = table == u32::from(RouteHeader::RT_TABLE_MAIN) && header.kind == RouteType::Unicast;
    let interface = links.get(&index?).filter(|_| leads)?.clone();
    Some(Route {
        interface,
        towards: towards
            .filter(|_| header.destination_prefix_length > 0)
            .map(|ip| (ip, header.destination_prefix_length)),
        is_v6: header.address_family == AddressFamily::Inet6,
        gateway,
        metric,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
