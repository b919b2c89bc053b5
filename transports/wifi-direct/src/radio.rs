//! Radios as the kernel shows them in `/sys`: which there are, whether one is blocked, how its group is reached.

use std::fs;
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Duration;

use crate::error::WifiError;

const NETWORKS: &str = "/sys/class/net";
/// How the names of groups' interfaces begin. wpa_supplicant makes them: `p2p-wlan0-0`, with another number each time.
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
    if let Some(name) = wanted {
        let is_there = Path::new(NETWORKS).join(name).join("phy80211").exists();
        return is_there.then(|| name.to_owned()).ok_or_else(|| WifiError::NoRadio(name.to_owned()));
    }
    let entries = fs::read_dir(NETWORKS).into_iter().flatten().flatten();
    let radios = entries.filter(|entry| entry.path().join("phy80211").exists());
    let names = radios.filter_map(|entry| entry.file_name().into_string().ok());
    let first = names.filter(|name| !name.starts_with(GROUP_PREFIX)).min();
    first.ok_or_else(|| WifiError::NoRadio(String::new()))
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

/// The radio that a group's interface is on, by its name: `wlan0` of `p2p-wlan0-0`.
pub fn radio_of(interface: &str) -> Option<&str> {
    let rest = interface.strip_prefix(GROUP_PREFIX)?;
    let (radio, number) = rest.rsplit_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    (is_number && !radio.is_empty()).then_some(radio)
}

/// The link-local address of an interface, once it has one that can be used.
pub(crate) async fn link_local(interface: &str) -> Option<Ipv6Addr> {
    let until = tokio::time::Instant::now() + ADDRESS;
    loop {
        let found = usable(&fs::read_to_string(ADDRESSES).ok()?, interface);
        if found.is_some() || tokio::time::Instant::now() >= until {
            return found;
        }
        tokio::time::sleep(LOOK).await;
    }
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
    use super::*;

    #[test]
    fn a_groups_interface_names_its_radio() {
        assert_eq!(radio_of("p2p-wlan0-0"), Some("wlan0"));
        assert_eq!(radio_of("p2p-wlx00c0ca-1234-17"), Some("wlx00c0ca-1234"));
        for other in ["wlan0", "p2p-", "p2p-wlan0", "p2p-dev-wlan0", "p2p--0", "p2p-wlan0-", "eth0"] {
            assert_eq!(radio_of(other), None, "{other}");
        }
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
