//! What ways out there are, and who is told.

use std::net::SocketAddr;

use waypost_backhaul::Networks;
use waypost_protocol::sync::PeerHello;

use super::bluetooth::Facts;
use super::wifi::Wifi;
use super::{Daemon, LOOK_EVERY};
use crate::setup;

impl Daemon {
    /// A network came or went: what could not be reached may be reached now.
    pub(super) fn networks_changed(&mut self, networks: Networks) {
        let outward = networks.outward();
        let names: Vec<String> = outward.iter().map(|network| network.interface.clone()).collect();
        log::info!(networks:? = names; "networks with a way out: {}", listed(&names));
        self.look_at_backhauls(None, Some(outward));
        if networks.adds_to(&self.networks) {
            self.uploads.iter().for_each(|upload| upload.uploader.path_up());
        } else if networks.is_empty() {
            self.uploads.iter().for_each(|upload| upload.uploader.path_down());
        }
        self.networks = networks;
        self.tell_everyone();
    }

    /// Says how things stand: to peers that come, and over Bluetooth to everyone near.
    pub(super) fn tell_everyone(&mut self) {
        let has_backhaul = self.has_backhaul();
        let offers_wifi = self.offers_wifi();
        let hello = self.node.hello();
        if (hello.has_backhaul, hello.moves) != (has_backhaul, self.may_offer_wifi()) {
            self.set_hello();
        }
        let Some(bluetooth) = &mut self.bluetooth else { return };
        let room = match self.shared.store.usage() {
            Ok(usage) => usage.room,
            Err(error) => {
                log::warn!(error:%; "the store does not say how much room it has: {error}");
                0
            }
        };
        bluetooth.tell(
            Facts { has_backhaul, offers_wifi, room },
            self.config.name.as_str(),
            self.node.clock().now(),
        );
    }

    /// Whether a path to a destination may be there: a network with a way out. Where the kernel does not tell of networks,
    /// a path is found by trying only.
    fn has_backhaul(&self) -> bool {
        self.watch.is_none() || !self.networks.outward().is_empty()
    }

    pub(super) fn set_hello(&mut self) {
        let hello = setup::hello(&self.config, &self.shared.store, &self.destinations);
        let (has_backhaul, moves) = (self.has_backhaul(), self.may_offer_wifi());
        self.node.set_hello(PeerHello { has_backhaul, moves, ..hello });
    }

    /// Whether phones that are here over Bluetooth may go on over the gateway's Wi-Fi, now or in a moment.
    fn offers_wifi(&self) -> bool {
        self.wifi.as_ref().is_some_and(Wifi::is_offered) && self.group_port().is_some()
    }

    /// Whether that can come to be while they are here: a radio that is blocked now may not be so then.
    fn may_offer_wifi(&self) -> bool {
        self.wifi.as_ref().is_some_and(Wifi::is_possible) && self.group_port().is_some()
    }

    /// The port at which links come to the group's link-local address.
    pub(super) fn group_port(&self) -> Option<u16> {
        let bound = self.listening.iter().filter_map(|text| text.parse::<SocketAddr>().ok());
        bound
            .filter(|address| address.is_ipv6() && address.ip().is_unspecified())
            .map(|one| one.port())
            .next()
    }

    /// Tells phones that would be done sooner over Wi-Fi how to get there, once the group is up.
    pub(super) fn follow_moves(&mut self) {
        let new = self.node.worth_moving();
        let (Some(wifi), Some(port)) = (&self.wifi, self.group_port()) else { return };
        self.moving.extend(new);
        // The group may have taken long to come.
        self.moving.retain(|id| self.node.is_still_worth_moving(*id));
        if self.moving.is_empty() {
            return;
        }
        // However long it takes; and once it is up, they have their time to join from now on.
        wifi.want();
        let Some(network) = wifi.network(port) else { return };
        for id in std::mem::take(&mut self.moving) {
            let is_told = self.node.offer_wifi(id, &network);
            log::info!(link:% = id, is_told; "a phone is told to go on over Wi-Fi");
        }
    }

    /// Another backhaul may be used now.
    pub(super) fn look_at_backhauls(
        &mut self,
        configured: Option<Vec<waypost_config::Backhaul>>,
        outward: Option<Vec<waypost_backhaul::Network>>,
    ) {
        self.next_look = self.node.clock().now() + LOOK_EVERY;
        if self.backhauls.look(configured, outward) {
            self.uploads.iter().for_each(|upload| upload.uploader.path_up());
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
