//! What ways out there are, and who is told.

use waypost_backhaul::Networks;
use waypost_protocol::sync::PeerHello;

use super::bluetooth::Facts;
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
        if self.node.hello().has_backhaul != has_backhaul {
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
        bluetooth.tell(Facts { has_backhaul, room }, self.config.name.as_str(), self.node.clock().now());
    }

    /// Whether a path to a destination may be there: a network with a way out. Where the kernel does not tell of networks,
    /// a path is found by trying only.
    fn has_backhaul(&self) -> bool {
        self.watch.is_none() || !self.networks.outward().is_empty()
    }

    pub(super) fn set_hello(&mut self) {
        let hello = setup::hello(&self.config, &self.shared.store, &self.destinations);
        let has_backhaul = self.has_backhaul();
        self.node.set_hello(PeerHello { has_backhaul, ..hello });
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
