//! How the kiosk is, in plain words: the same on its screen and in `waypost-status.txt`.

use std::collections::BTreeMap;
use std::process::Command;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use serde::{Deserialize, Serialize};
use waypost_config::{Problem, Severity, printable};

use crate::activate::RUN;
use crate::apply::{current_settings, settings_in};
use crate::disk::Disk;
use crate::gateway::{AskError, Status};

const NOT_ONLINE: &str = "Not online.";

/// How the kiosk is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overview {
    /// Host name.
    pub host_name: String,
    /// What the gateway says, or why it says nothing.
    pub gateway: Option<Result<Status, AskError>>,
    /// Addresses of each interface.
    pub addresses: BTreeMap<String, Vec<String>>,
    /// What was wrong in the boot partition's files at the last start.
    pub mistakes: Mistakes,
}

/// How much was wrong in the boot partition's files at the last start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mistakes {
    /// What is left out, or keeps the files from being used.
    pub errors: usize,
    /// What was perhaps meant otherwise.
    pub remarks: usize,
    /// Whether the data partition was not there.
    #[serde(default)]
    pub forgets: bool,
    /// How often its file system had an error, for which the board was started anew.
    #[serde(default)]
    pub repairs: usize,
}

/// The file on the boot partition that has a line for each time that the data partition's file system had an error.
pub const REPAIRS: &str = "waypost-repairs.txt";

impl Mistakes {
    /// Counts them; `repairs` is the text of [`REPAIRS`].
    pub fn of(problems: &[Problem], forgets: bool, repairs: &str) -> Self {
        let remarks = problems.iter().filter(|problem| problem.severity == Severity::Warning).count();
        // That the partition is not there is no mistake in the file.
        let repairs = repairs.lines().filter(|line| !line.trim().is_empty()).count();
        Mistakes { errors: problems.len() - remarks - usize::from(forgets), remarks, forgets, repairs }
    }

    /// Where those of the last start are written down.
    pub fn path() -> String {
        format!("{RUN}/mistakes.json")
    }
}

impl Overview {
    /// Looks at everything but the gateway.
    pub fn of_machine(disk: &dyn Disk) -> Self {
        let mistakes = disk.read(&Mistakes::path(), 4096).ok();
        let settings = current_settings(disk).or_else(|| settings_in(disk, RUN));
        Overview {
            host_name: settings.map(|settings| settings.host_name).unwrap_or_default(),
            gateway: None,
            addresses: addresses(),
            mistakes: mistakes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default(),
        }
    }

    /// What the gateway says, where it does.
    pub fn status(&self) -> Option<&Status> {
        self.gateway.as_ref()?.as_ref().ok()
    }

    /// The name that phones see.
    pub fn name(&self) -> String {
        self.status().map_or_else(|| self.host_name.clone(), |status| printable(&status.name))
    }

    /// The one thing to know, in a sentence, as it is from one document to the next.
    pub fn standing(&self) -> &'static str {
        let status = match &self.gateway {
            None => return "The gateway is starting.",
            // It is tried by nobody before the next start.
            Some(Err(_)) if self.mistakes.forgets => {
                return "The gateway does not run, as the card's data partition is not there.";
            }
            Some(Err(_)) => return "The gateway does not run; it is being started.",
            Some(Ok(status)) => status,
        };
        if status.destinations.is_empty() {
            return "No destination is set up, so that no documents are taken. See waypost.toml on the card.";
        }
        if status.notices.iter().any(|notice| notice.about == "store") {
            return "The store cannot be written, so that no documents are taken.";
        }
        let is_online = status.networks.as_ref().is_none_or(|networks| !networks.is_empty());
        let is_reached = status.destinations.iter().any(|one| one.state == "ok" || one.progress.is_some());
        match (is_reached, is_online) {
            (true, _) => "Connected to its destination.",
            (false, true) => "Online, but no destination is reached.",
            (false, false) => NOT_ONLINE,
        }
    }

    /// The same at this moment, with how many documents are waiting.
    pub fn state(&self) -> String {
        let standing = self.standing();
        let Some(status) = self.status().filter(|status| !status.destinations.is_empty()) else {
            return standing.to_owned();
        };
        let waiting = match status.waiting {
            0 => "No documents are waiting.".to_owned(),
            1 => "1 document is waiting.".to_owned(),
            many => format!("{many} documents are waiting."),
        };
        if status.destinations.iter().any(|one| one.progress.is_some()) {
            return format!("Uploading. {waiting}");
        }
        let kept = if standing == NOT_ONLINE { " They are kept until there is a connection." } else { "" };
        format!("{standing} {waiting}{kept}")
    }

    /// What somebody should look at.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if self.mistakes.forgets {
            notices.push(
                "the card's data partition is not there: nothing is kept, see waypost-errors.txt on the card"
                    .to_owned(),
            );
        }
        if self.mistakes.repairs > 0 {
            notices.push(format!(
                "the card had an error and was repaired, {} times by now: see {REPAIRS} on the card",
                self.mistakes.repairs
            ));
        }
        match self.mistakes.errors {
            0 => {}
            1 => notices.push("1 mistake in waypost.toml: see waypost-errors.txt on the card".to_owned()),
            many => {
                notices.push(format!("{many} mistakes in waypost.toml: see waypost-errors.txt on the card"))
            }
        }
        if let Some(Err(error)) = &self.gateway {
            notices.push(printable(&error.to_string()));
        }
        if let Some(status) = self.status() {
            notices.extend(status.notices.iter().map(|notice| printable(&notice.text)));
            for one in &status.destinations {
                let trouble = one.trouble.iter().map(|trouble| format!("{}: {trouble}", one.name));
                notices.extend(trouble.map(|trouble| printable(&trouble)));
            }
            let adapters = status.bluetooth.iter().filter(|adapter| !adapter.why.is_empty());
            // Where BlueZ is not there, nor is an adapter's name.
            let told = adapters.map(|adapter| match adapter.name.as_str() {
                "" if adapter.why.starts_with("Bluetooth") => adapter.why.clone(),
                "" => format!("Bluetooth: {}", adapter.why),
                name => format!("Bluetooth {name}: {}", adapter.why),
            });
            notices.extend(told.map(|text| printable(&text)));
        }
        notices
    }
}

/// Addresses of interfaces that are up, but for the loopback's and those that are good on one wire only.
fn addresses() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in getifaddrs().into_iter().flatten() {
        let is_up =
            one.flags.contains(InterfaceFlags::IFF_UP) && !one.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let Some(address) = one.address.filter(|_| is_up) else { continue };
        let v4 = address.as_sockaddr_in().map(|address| address.ip().to_string());
        let v6 = address.as_sockaddr_in6().map(|address| address.ip());
        let v6 = v6.filter(|address| !address.is_unicast_link_local()).map(|address| address.to_string());
        found.entry(one.interface_name).or_default().extend(v4.or(v6));
    }
    found.retain(|_, addresses| !addresses.is_empty());
    found
}

/// Whether the kernel's clock was set by a time server; absent where that cannot be told.
pub fn is_clock_synchronized() -> Option<bool> {
    let out =
        Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output().ok()?;
    match String::from_utf8_lossy(&out.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}
