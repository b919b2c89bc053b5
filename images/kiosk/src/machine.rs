//! What machine this is: the names by which a boot file may call it, and what it knows of time zones.

use std::collections::BTreeSet;

use waypost_config::boot::kiosk_id;

use crate::disk::Disk;

/// Where the kernel tells the serial number of a Raspberry Pi.
const SERIALS: [&str; 2] = ["/proc/device-tree/serial-number", "/sys/firmware/devicetree/base/serial-number"];
/// Files that are read to learn about the machine are no larger.
const MAX: usize = 1 << 20;

/// A machine.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Serial number, as [`kiosk_id`] writes it.
    pub serial: Option<String>,
    /// MAC addresses of its network interfaces, as [`kiosk_id`] writes them, in the order of the interfaces' names.
    pub macs: Vec<String>,
    /// Names of the time zones that it knows; empty where that cannot be told.
    pub zones: BTreeSet<String>,
}

impl Machine {
    /// Looks at the machine that this runs on.
    pub fn read(disk: &dyn Disk) -> Self {
        let text = |path: &str| {
            let bytes = disk.read(path, MAX).ok()?;
            Some(String::from_utf8_lossy(&bytes).trim_matches(['\0', '\n', ' ']).to_owned())
        };
        let serial = SERIALS.iter().find_map(|path| kiosk_id(&text(path)?)).filter(|id| id.len() == 16);
        let interfaces = disk.list("/sys/class/net").unwrap_or_default();
        let macs = interfaces
            .iter()
            .filter_map(|name| kiosk_id(&text(&format!("/sys/class/net/{name}/address"))?))
            .filter(|mac| mac.len() == 12 && mac.bytes().any(|digit| digit != b'0'))
            .collect();
        let zones = text("/usr/share/zoneinfo/tzdata.zi").map(|text| zones(&text)).unwrap_or_default();
        Machine { serial, macs, zones }
    }

    /// Whether it is called so.
    pub fn is_called(&self, id: &str) -> bool {
        self.serial.as_deref() == Some(id) || self.macs.iter().any(|mac| mac == id)
    }

    /// The name that it has as long as nobody gave it another: `waypost-` and the end of its serial number.
    pub fn default_name(&self) -> String {
        let id = self.serial.as_deref().or(self.macs.first().map(String::as_str));
        match id.and_then(|id| id.get(id.len().saturating_sub(6)..)) {
            Some(end) => format!("waypost-{end}"),
            None => "waypost".to_owned(),
        }
    }
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
    fn zones_and_links_are_known() {
        let known = zones(
            "# version 2025b\nZ Africa/Nairobi 2:27:16 - LMT\n2:30 - +0230\nL Africa/Nairobi Africa/Kampala\n",
        );
        assert_eq!(known.into_iter().collect::<Vec<_>>(), ["Africa/Kampala", "Africa/Nairobi"]);
    }
}
