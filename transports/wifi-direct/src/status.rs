//! What an admin is shown of the group, and the log lines when it changes.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::channel::Megahertz;

/// How the group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// There is no radio, or no wpa_supplicant.
    Missing,
    /// Switched off by rfkill or a hardware switch.
    Blocked,
    /// The radio cannot do it.
    Unsupported,
    /// Being set up.
    Starting,
    /// Phones can join.
    Up,
    /// It comes when somebody wants it.
    Waiting,
    /// Something else does not work; it is tried again.
    Failed,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Missing => "missing",
            State::Blocked => "blocked",
            State::Unsupported => "unsupported",
            State::Starting => "starting",
            State::Up => "up",
            State::Waiting => "waiting",
            State::Failed => "failed",
        })
    }
}

/// The group, as `waypost status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The radio's interface, such as `wlan0`; empty where there is none.
    pub radio: String,
    /// How it is.
    pub state: State,
    /// What to do about it, or why it is so; empty where all is well.
    pub why: String,
    /// The network's name.
    pub ssid: String,
    /// What is up.
    pub group: Option<Up>,
    /// How many are in it.
    pub stations: usize,
}

/// A group that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Up {
    /// Its interface, such as `p2p-wlan0-0`.
    pub interface: String,
    /// Its address on the air, such as `02:00:00:00:00:00`.
    pub bssid: String,
    /// Where it is, in MHz.
    pub frequency: Megahertz,
    /// Where it is reached in the group; `None` while the interface has no address.
    pub address: Option<Ipv6Addr>,
}

/// Where the group's life is written down.
pub(crate) struct Board(pub(crate) watch::Sender<GroupStatus>);

impl Board {
    /// The group is in a state; said in the log where that is new.
    pub(crate) fn set(&self, radio: &str, state: State, why: &str) {
        self.0.send_if_modified(|status| {
            if (status.radio.as_str(), status.state, status.why.as_str()) == (radio, state, why) {
                return false;
            }
            (status.radio, status.state, status.why) = (radio.to_owned(), state, why.to_owned());
            if state != State::Up {
                (status.group, status.stations) = (None, 0);
            }
            match state {
                State::Starting => log::debug!(radio; "the Wi-Fi Direct group is being set up"),
                State::Waiting => {
                    log::info!(radio; "no Wi-Fi Direct group now; it comes when somebody wants it")
                }
                State::Up => log::info!(radio; "Wi-Fi Direct group goes on: {why}"),
                _ => log::warn!(radio, state:%, why; "Wi-Fi Direct is {state}: {why}"),
            }
            true
        });
    }

    /// The group is up.
    pub(crate) fn up(&self, radio: &str, up: Up, why: &str) {
        self.0.send_modify(|status| {
            let (ssid, interface) = (status.ssid.as_str(), up.interface.as_str());
            log::info!(
                radio, interface, bssid = up.bssid.as_str(), frequency = up.frequency;
                "Wi-Fi Direct group {ssid} is up on {} MHz; phones can join{}{why}", up.frequency,
                if why.is_empty() { "" } else { ". " }
            );
            (status.radio, status.state, status.why) = (radio.to_owned(), State::Up, why.to_owned());
            (status.group, status.stations) = (Some(up), 0);
        });
    }

    /// The group is on another channel.
    pub(crate) fn moved(&self, frequency: Megahertz) {
        self.0.send_if_modified(|status| match &mut status.group {
            Some(up) if up.frequency != frequency => {
                log::info!(radio = status.radio.as_str(), frequency; "the Wi-Fi Direct group is on {frequency} MHz now");
                up.frequency = frequency;
                true
            }
            _ => false,
        });
    }

    /// The group's interface has an address.
    pub(crate) fn has_address(&self, address: Option<Ipv6Addr>) {
        self.0.send_if_modified(|status| match &mut status.group {
            Some(up) if up.address.is_none() && address.is_some() => {
                up.address = address;
                true
            }
            _ => false,
        });
    }

    /// So many are in the group.
    pub(crate) fn stations(&self, count: usize) {
        self.0.send_if_modified(|status| std::mem::replace(&mut status.stations, count) != count);
    }
}
