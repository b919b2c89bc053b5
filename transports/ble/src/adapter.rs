//! Choosing adapters: by name, by address, the best one, or all.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::str::FromStr;

use bluer::{Adapter, Address, AddressType, Session};

use crate::bluez::{BleError, call, is_blocked};

/// Which adapter is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one that can do most: usable, with extended advertising, with the most advertising sets, the first by name.
    Best,
    /// Every adapter there is.
    All,
    /// By the kernel's name, such as `hci0`, or by its address.
    Named(String),
}

impl FromStr for Which {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.trim() {
            "best" | "" => Which::Best,
            "all" => Which::All,
            name => Which::Named(name.to_owned()),
        })
    }
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Which::Best => "best",
            Which::All => "all",
            Which::Named(name) => name,
        })
    }
}

/// What is known of an adapter that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    name: String,
    address: String,
    is_usable: bool,
    is_extended: bool,
    sets: u8,
}

/// The adapters that are meant.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The names of those that are there.
    pub(crate) there: BTreeSet<String>,
    /// Those that were named and are not.
    pub(crate) missing: Vec<String>,
}

/// The adapters that are meant. `current`: those that are in use, of which the best one stays the best for as long as it is
/// usable.
pub(crate) async fn choose(
    session: &Session,
    wanted: &[Which],
    current: &BTreeSet<String>,
) -> Result<Chosen, BleError> {
    let mut there = Vec::new();
    for name in call("list the adapters", session.adapter_names()).await? {
        let Ok(adapter) = session.adapter(&name) else { continue };
        // One that has just gone is as if it had not been listed.
        let Ok(address) = adapter.address().await else { continue };
        there.push(Candidate {
            is_usable: adapter.is_powered().await.unwrap_or(false) || !is_blocked(&name),
            is_extended: is_extended(&adapter).await,
            sets: adapter.supported_advertising_instances().await.unwrap_or(0),
            address: address.to_string(),
            name,
        });
    }
    Ok(pick(&there, wanted, current))
}

fn pick(there: &[Candidate], wanted: &[Which], current: &BTreeSet<String>) -> Chosen {
    let mut chosen = Chosen::default();
    let names = &mut chosen.there;
    for which in wanted {
        match which {
            Which::All => names.extend(there.iter().map(|one| one.name.clone())),
            Which::Best => {
                let rank = |one: &&Candidate| {
                    let number = one.name.trim_start_matches(|digit: char| !digit.is_ascii_digit());
                    let number = number.parse().unwrap_or(u32::MAX);
                    let is_current = current.contains(&one.name);
                    (one.is_usable, is_current, one.is_extended, one.sets.min(8), std::cmp::Reverse(number))
                };
                names.extend(there.iter().max_by_key(rank).map(|one| one.name.clone()));
            }
            Which::Named(text) => {
                let fits = |one: &&Candidate| one.name == *text || one.address.eq_ignore_ascii_case(text);
                match there.iter().find(fits) {
                    Some(one) => drop(names.insert(one.name.clone())),
                    None => chosen.missing.push(text.clone()),
                }
            }
        }
    }
    chosen
}

/// Whether the adapter advertises packets of more than 31 bytes.
pub(crate) async fn is_extended(adapter: &Adapter) -> bool {
    matches!(adapter.supported_advertising_secondary_channels().await, Ok(Some(channels)) if !channels.is_empty())
}

/// The address that links of an adapter have on this side.
pub(crate) async fn own_address(adapter: &Adapter) -> Result<(Address, AddressType), BleError> {
    let address = call("read the adapter's address", adapter.address()).await?;
    let kind = match call("read the adapter's address", adapter.address_type()).await? {
        AddressType::LeRandom => AddressType::LeRandom,
        AddressType::LePublic | AddressType::BrEdr => AddressType::LePublic,
    };
    Ok((address, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, address: &str, is_usable: bool, is_extended: bool, sets: u8) -> Candidate {
        Candidate { name: name.into(), address: address.into(), is_usable, is_extended, sets }
    }

    #[test]
    fn the_best_is_usable_then_extended_then_the_first() {
        let there = [
            candidate("hci0", "00:00:00:00:00:01", true, false, 5),
            candidate("hci1", "00:00:00:00:00:02", false, true, 16),
            candidate("hci10", "00:00:00:00:00:03", true, true, 4),
            candidate("hci2", "AA:00:00:00:00:04", true, true, 4),
        ];
        let names = |wanted: &[&str], there: &[Candidate]| {
            let wanted: Vec<Which> = wanted.iter().map(|text| text.parse().unwrap()).collect();
            pick(there, &wanted, &BTreeSet::new()).there.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(names(&["best"], &there), ["hci2"]);
        assert_eq!(names(&["best"], &there[..2]), ["hci0"]);
        assert_eq!(names(&["best"], &[]), [""; 0]);
        let stay = |current: &str| pick(&there, &[Which::Best], &[current.to_owned()].into()).there;
        assert!(stay("hci0").contains("hci0"), "links of the one in use are worth more than a better one");
        assert!(stay("hci1").contains("hci2"), "the one in use is blocked");
        assert_eq!(names(&["all"], &there), ["hci0", "hci1", "hci10", "hci2"]);
        assert_eq!(names(&["hci1", "aa:00:00:00:00:04", "hci7"], &there), ["hci1", "hci2"]);
        let wanted = ["hci1", "hci7"].map(|text| text.parse().unwrap());
        assert_eq!(pick(&there, &wanted, &BTreeSet::new()).missing, ["hci7"]);
    }
}
