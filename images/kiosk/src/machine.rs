//! What machine this is: the names by which a boot file may call it, and what it knows of time zones.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::{Deserialize, Serialize};
use waypost_config::boot::kiosk_id;

use crate::disk::{Disk, Readers, read_if_there, replace};

/// Where the kernel tells the serial number of a Raspberry Pi.
const SERIALS: [&str; 2] = ["/proc/device-tree/serial-number", "/sys/firmware/devicetree/base/serial-number"];
/// Time zones, each as a file of its name.
pub(crate) const ZONES: &str = "/usr/share/zoneinfo";
/// What the machine was seen with, on the data partition: a stick that is pulled out does not make another machine of it.
const SEEN: &str = "/var/lib/waypost-kiosk/machine.json";
/// At most so many addresses are remembered.
const MAX_SEEN: usize = 32;
/// Files that are read to learn about the machine are no larger.
const MAX: usize = 1 << 20;

/// A machine.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Serial number, as [`kiosk_id`] writes it.
    pub serial: Option<String>,
    /// MAC addresses of its network interfaces, as [`kiosk_id`] writes them, in the order of the interfaces' names.
    pub macs: Vec<String>,
    /// Of those, the ones of devices, which are remembered; bridges and the like come and go.
    pub devices: Vec<String>,
    /// MAC addresses that it was seen with before, the oldest first.
    pub remembered: Vec<String>,
    /// Names of the time zones that it knows; empty where that cannot be told.
    pub zones: BTreeSet<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Seen {
    serial: Option<String>,
    macs: Vec<String>,
}

impl Machine {
    /// Looks at the machine that this runs on.
    pub fn read(disk: &dyn Disk) -> Self {
        let text = |path: &str| {
            let bytes = disk.read(path, MAX).ok()?;
            Some(String::from_utf8_lossy(&bytes).trim_matches(['\0', '\n', ' ']).to_owned())
        };
        let serial = SERIALS.iter().find_map(|path| kiosk_id(&text(path)?)).filter(|id| id.len() == 16);
        let (mut macs, mut devices) = (Vec::new(), Vec::new());
        for name in disk.list("/sys/class/net").unwrap_or_default() {
            // A radio's own address: the interface's may be one that was thrown for a scan.
            let own = text(&format!("/sys/class/net/{name}/phy80211/macaddress"));
            let Some(mac) = own
                .or_else(|| text(&format!("/sys/class/net/{name}/address")))
                .and_then(|address| kiosk_id(&address))
                .filter(|mac| mac.len() == 12 && mac.bytes().any(|digit| digit != b'0'))
            else {
                continue;
            };
            if disk.list(&format!("/sys/class/net/{name}/device")).is_ok() && !devices.contains(&mac) {
                devices.push(mac.clone());
            }
            if !macs.contains(&mac) {
                macs.push(mac);
            }
        }
        let zones = text(&format!("{ZONES}/tzdata.zi")).map(|text| zones(&text)).unwrap_or_default();
        let zones = those_there(zones, disk);
        let seen: Seen = text(SEEN).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        // A card that was moved to another board remembers that other's addresses.
        let is_same = match (&seen.serial, &serial) {
            (None, None) => macs.is_empty() || macs.iter().any(|mac| seen.macs.contains(mac)),
            (then, now) => then == now,
        };
        let remembered = if is_same { seen.macs } else { Vec::new() };
        Machine { serial, macs, devices, remembered, zones }
    }

    /// Writes down what it is seen with now, where that is new.
    pub fn remember(&self, disk: &mut dyn Disk) -> io::Result<()> {
        let mut macs = self.remembered.clone();
        macs.extend(self.devices.iter().filter(|mac| !self.remembered.contains(mac)).cloned());
        macs.drain(..macs.len().saturating_sub(MAX_SEEN));
        let seen = serde_json::to_vec(&Seen { serial: self.serial.clone(), macs })?;
        // One that cannot be read is written anew.
        let before = read_if_there(disk, SEEN, MAX).ok().flatten();
        let is_known = before.map_or(self.devices.is_empty(), |before| before == seen);
        if is_known { Ok(()) } else { replace(disk, SEEN, &seen, Readers::All) }
    }

    /// Whether it is called so.
    pub fn is_called(&self, id: &str) -> bool {
        self.serial.as_deref() == Some(id) || self.macs.iter().any(|mac| mac == id)
    }

    /// Whether it is called so, or was once.
    pub fn was_called(&self, id: &str) -> bool {
        self.is_called(id) || self.remembered.iter().any(|mac| mac == id)
    }

    /// Which of these names are its own: those that it has now; where it has none of them, those that it had.
    pub fn own<'a>(&self, ids: &'a BTreeSet<String>) -> BTreeSet<&'a str> {
        let ids = || ids.iter().map(String::as_str);
        let now: BTreeSet<_> = ids().filter(|id| self.is_called(id)).collect();
        if now.is_empty() { ids().filter(|id| self.was_called(id)).collect() } else { now }
    }

    /// The names that a boot file may call it by, for people.
    pub fn names(&self) -> String {
        let serial = self.serial.iter().map(|serial| format!("serial number {serial}"));
        // Addresses come and go; where there is a number, it is the better name.
        let macs = self
            .macs
            .iter()
            .filter(|_| self.serial.is_none())
            .map(|mac| format!("MAC address {}", colons(mac)));
        let names: Vec<String> = serial.chain(macs).collect();
        if names.is_empty() { "not known".to_owned() } else { names.join(", ") }
    }

    /// The name that it has as long as nobody gave it another: `waypost-` and the end of its serial number.
    pub fn default_name(&self) -> String {
        let mac = self.remembered.first().or(self.macs.first());
        let id = self.serial.as_ref().or(mac);
        match id.and_then(|id| id.get(id.len().saturating_sub(6)..)) {
            Some(end) => format!("waypost-{end}"),
            None => "waypost".to_owned(),
        }
    }
}

/// A MAC address as it is printed on boxes.
pub fn colons(mac: &str) -> String {
    let pairs: Vec<&str> = (0..mac.len()).step_by(2).filter_map(|at| mac.get(at..at + 2)).collect();
    pairs.join(":")
}

/// Names in the compact form of the tz database: `Z NAME …` is a zone, `L TARGET NAME` a link to one.
fn zones(text: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        match words.next()? {
            "Z" => words.next().map(str::to_owned),
            "L" => words.nth(1).map(str::to_owned),
            _ => None,
        }
    };
    text.lines().filter_map(name).collect()
}

/// Those of the zones whose files are there: Debian has older names in a package of their own.
fn those_there(mut zones: BTreeSet<String>, disk: &dyn Disk) -> BTreeSet<String> {
    let mut folders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    zones.retain(|zone| {
        let path = format!("{ZONES}/{zone}");
        let (folder, name) = path.rsplit_once('/').unwrap_or_default();
        let names = folders.entry(folder.to_owned()).or_insert_with(|| disk.list(folder).unwrap_or_default());
        names.iter().any(|there| there == name)
    });
    zones
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_tells_kiosks_apart() {
        let pi = Machine {
            serial: Some("10000000abcdef01".into()),
            macs: vec!["b827eb000001".into()],
            ..Machine::default()
        };
        assert_eq!(pi.default_name(), "waypost-cdef01");
        assert_eq!(Machine { serial: None, ..pi }.default_name(), "waypost-000001");
        assert_eq!(Machine::default().default_name(), "waypost");
    }

    #[test]
    fn a_stick_that_was_in_another_kiosk_once_does_not_make_it_that_other() {
        let (own, lent) = ("b827eb000001", "b827eb000002");
        let machine = Machine {
            macs: vec![own.into()],
            remembered: vec![own.into(), lent.into()],
            ..Machine::default()
        };
        let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(machine.own(&ids(&[own, lent])), [own].into());
        assert_eq!(machine.own(&ids(&[lent])), [lent].into(), "as far as anybody knows it is its own");
        assert!(machine.own(&ids(&["b827eb000003"])).is_empty());
    }

    #[test]
    fn zones_and_links_are_known() {
        let known = zones(
            "# version 2025b\nZ Africa/Nairobi 2:27:16 - LMT\n2:30 - +0230\nL Africa/Nairobi Africa/Kampala\n",
        );
        assert_eq!(known.into_iter().collect::<Vec<_>>(), ["Africa/Kampala", "Africa/Nairobi"]);
    }
}
