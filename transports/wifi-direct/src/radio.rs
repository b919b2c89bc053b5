//! Radios as the kernel shows them in `/sys`: which there are, whether one is blocked, how its group is reached.

use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::WifiError;

const NETWORKS: &str = "/sys/class/net";
/// How the names of groups' interfaces begin. wpa_supplicant makes them: `p2p-wlan0-0`, with another number each time, or
/// `p2p-0` where the radio's own name is long.
pub const GROUP_PREFIX: &str = "p2p-";
/// How long the kernel may take to give a new interface its address, which it first asks others about (RFC 4862, 5.4).
const ADDRESS: Duration = Duration::from_secs(5);
/// Addresses of IPv6 (`proc_pid_net(5)`).
const ADDRESSES: &str = "/proc/net/if_inet6";
/// IFA_F_TENTATIVE and IFA_F_DADFAILED of `linux/if_addr.h`.
const NOT_USABLE: u32 = 0x40 | 0x08;
const LOOK: Duration = Duration::from_millis(100);

/// The radio to use: the one of that name, else the first that there is.
pub(crate) fn find(wanted: Option<&str>) -> Result<String, WifiError> {
    let networks = Path::new(NETWORKS);
    match wanted {
        Some(name) if phy(networks, name).is_some() => Ok(name.to_owned()),
        Some(name) => Err(WifiError::NoRadio(name.to_owned())),
        None => radios(networks).into_iter().next().ok_or_else(|| WifiError::NoRadio(String::new())),
    }
}

/// The interfaces of radios that are no group's, by their names.
fn radios(networks: &Path) -> Vec<String> {
    let entries = fs::read_dir(networks).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut radios: Vec<String> =
        names.filter(|name| !name.starts_with(GROUP_PREFIX) && phy(networks, name).is_some()).collect();
    radios.sort_unstable();
    radios
}

/// The device that an interface is one of, such as `…/ieee80211/phy0`.
fn phy(networks: &Path, interface: &str) -> Option<PathBuf> {
    fs::canonicalize(networks.join(interface).join("phy80211")).ok()
}

/// The kernel's number of an interface, which is another one for each that ever was; `None` where there is none.
pub(crate) fn number(interface: &str) -> Option<u32> {
    fs::read_to_string(Path::new(NETWORKS).join(interface).join("ifindex")).ok()?.trim().parse().ok()
}

/// Whether a radio is there and not switched off by rfkill or a hardware switch.
pub(crate) fn check(name: &str) -> Result<(), WifiError> {
    let phy = Path::new(NETWORKS).join(name).join("phy80211");
    let entries = fs::read_dir(&phy).map_err(|_| WifiError::NoRadio(name.to_owned()))?;
    let switches =
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("rfkill"));
    let is_on = |switch: &Path, kind: &str| {
        fs::read_to_string(switch.join(kind)).is_ok_and(|state| state.trim() == "1")
    };
    let is_blocked = |entry: fs::DirEntry| {
        let switch = entry.path();
        is_on(&switch, "soft") || is_on(&switch, "hard")
    };
    match switches.into_iter().any(is_blocked) {
        true => Err(WifiError::Blocked(name.to_owned())),
        false => Ok(()),
    }
}

/// The radio that a group's interface is on, such as `wlan0` of `p2p-wlan0-0`; `None` for other interfaces.
pub fn radio_of(interface: &str) -> Option<String> {
    radio_among(Path::new(NETWORKS), interface)
}

/// The interfaces of groups on that radio that the kernel has, whoever began them.
pub(crate) fn groups_on(radio: &str) -> Vec<String> {
    groups_among(Path::new(NETWORKS), radio)
}

fn groups_among(networks: &Path, radio: &str) -> Vec<String> {
    let entries = fs::read_dir(networks).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| {
        name.starts_with(GROUP_PREFIX) && radio_among(networks, name).as_deref() == Some(radio)
    });
    names.sort_unstable();
    names
}

/// Whether this is an interface of a group on that radio.
pub(crate) fn is_group_on(interface: &str, radio: &str) -> bool {
    let networks = Path::new(NETWORKS);
    let of_group = phy(networks, interface).filter(|_| interface.starts_with(GROUP_PREFIX));
    of_group.is_some() && of_group == phy(networks, radio)
}

/// Its name does not tell: a radio with a long one has groups called `p2p-0`.
fn radio_among(networks: &Path, interface: &str) -> Option<String> {
    let of_group = phy(networks, interface).filter(|_| interface.starts_with(GROUP_PREFIX))?;
    radios(networks).into_iter().find(|radio| phy(networks, radio).as_ref() == Some(&of_group))
}

/// The link-local address of an interface, once it has one that can be used.
pub(crate) async fn link_local(interface: &str) -> Option<Ipv6Addr> {
    let until = tokio::time::Instant::now() + ADDRESS;
    loop {
        let found = link_local_now(interface);
        if found.is_some() || tokio::time::Instant::now() >= until {
            return found;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The link-local address of an interface, if it has one that can be used.
pub(crate) fn link_local_now(interface: &str) -> Option<Ipv6Addr> {
    usable(&fs::read_to_string(ADDRESSES).ok()?, interface)
}

/// In the kernel's list: address, index, length of the prefix, scope and flags, all hexadecimal, and the interface's name. One
/// that the kernel still asks others about, or that somebody else has, cannot be used.
fn usable(list: &str, interface: &str) -> Option<Ipv6Addr> {
    list.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = Ipv6Addr::from(u128::from_str_radix(words.next()?, 16).ok()?);
        let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
        let is_its = words.next()? == interface;
        (is_its && flags & NOT_USABLE == 0 && address.is_unicast_link_local()).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_groups_radio_is_that_of_the_same_device() {
        let system = tempfile::tempdir().unwrap();
        let (devices, networks) = (system.path().join("ieee80211"), system.path().join("net"));
        for device in ["phy0", "phy1"] {
            fs::create_dir_all(devices.join(device)).unwrap();
        }
        for (interface, device) in
            [("wlan0", "phy0"), ("wlx00c0ca123456", "phy1"), ("p2p-wlan0-3", "phy0"), ("p2p-0", "phy1")]
        {
            fs::create_dir_all(networks.join(interface)).unwrap();
            symlink(devices.join(device), networks.join(interface).join("phy80211")).unwrap();
        }
        fs::create_dir(networks.join("eth0")).unwrap();
        assert_eq!(radio_among(&networks, "p2p-wlan0-3").as_deref(), Some("wlan0"));
        assert_eq!(radio_among(&networks, "p2p-0").as_deref(), Some("wlx00c0ca123456"));
        for other in ["wlan0", "eth0", "p2p-gone-0"] {
            assert_eq!(radio_among(&networks, other), None, "{other}");
        }
        assert_eq!(radios(&networks), ["wlan0", "wlx00c0ca123456"]);
        assert_eq!(groups_among(&networks, "wlan0"), ["p2p-wlan0-3"]);
        assert_eq!(groups_among(&networks, "wlx00c0ca123456"), ["p2p-0"]);
        assert_eq!(groups_among(&networks, "eth0"), [""; 0]);
    }

    #[test]
    fn an_address_counts_once_nobody_else_has_it() {
        let list = "fe800000000000000000000000000001 03 40 20 c0    wlan0\n\
                    fe800000000000000000000000000002 04 40 20 80    wlan1\n\
                    fd000000000000000000000000000003 05 40 00 80    wlan2\n\
                    fe800000000000000000000000000004 06 40 20 88    wlan3\n";
        assert_eq!(usable(list, "wlan0"), None, "tentative");
        assert_eq!(usable(list, "wlan1"), Some("fe80::2".parse().unwrap()));
        assert_eq!((usable(list, "wlan2"), usable(list, "wlan3"), usable(list, "wlan")), (None, None, None));
        assert_eq!(usable("nonsense\n\nfe80 1\n", "wlan1"), None);
    }

    #[test]
    fn a_radio_that_is_not_there_is_named() {
        let missing = WifiError::NoRadio("wlan-nowhere".into());
        assert_eq!(find(Some("wlan-nowhere")), Err(missing.clone()));
        assert_eq!(check("wlan-nowhere"), Err(missing));
        assert!(find(Some("lo")).is_err(), "no radio");
    }
}
