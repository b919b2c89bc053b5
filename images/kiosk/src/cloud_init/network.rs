//! `network-config`: netplan's version 2, its `ethernets` and `wifis`.

use std::net::IpAddr;
use std::path::PathBuf;

use waypost_config::boot::{Cidr, Country, Kind, Network, Ports, Secret, Ssid, is_wifi_password};
use waypost_config::{MAX_BACKHAULS, Name, Problem};

use super::yaml::Node;
use super::{CloudInit, Notes, read_yaml};

/// Reads `network-config`.
pub fn read(text: &str, file: PathBuf, out: &mut CloudInit, problems: &mut Vec<Problem>) {
    let mut notes = Notes { file, problems };
    let Some(root) = read_yaml(text, &mut notes) else { return };
    let root = root.get("network").unwrap_or(&root);
    if root.get("version").and_then(Node::text) != Some("2") {
        return notes.warn(root.line, "only `version: 2` is understood; this file is passed over");
    }
    for (key, value) in root.map().into_iter().flatten() {
        let devices = value.map().into_iter().flatten();
        match key.as_str() {
            "version" | "renderer" => {}
            "ethernets" => devices.for_each(|(name, device)| read_ethernet(name, device, out, &mut notes)),
            "wifis" => devices.for_each(|(_, device)| read_wifi(device, out, &mut notes)),
            other => notes.not_understood(value.line, other),
        }
    }
    out.networks.truncate(MAX_BACKHAULS);
}

fn read_ethernet(name: &str, device: &Node, out: &mut CloudInit, notes: &mut Notes<'_>) {
    let (Some(ports), Some(called)) = (Ports::named(name), Name::new(name)) else {
        return notes.warn(device.line, "its name is none of a network interface; it is passed over");
    };
    let mut network = Network::new(called, Kind::Ethernet(ports));
    read_addresses(device, &mut network, &[], notes);
    add(network, device, out, notes);
}

fn read_wifi(device: &Node, out: &mut CloudInit, notes: &mut Notes<'_>) {
    if let Some(country) = device.get("regulatory-domain").and_then(Node::text) {
        match Country::parse(country) {
            Some(country) => out.country = Some(country),
            None => {
                notes.warn(device.line, "`regulatory-domain` is no country of two letters; it is passed over")
            }
        }
    }
    let points = device.get("access-points").and_then(Node::map);
    for (name, point) in points.into_iter().flatten() {
        let (Some(ssid), Some(called)) = (Ssid::parse(name), Name::new(name)) else {
            notes.warn(point.line, "expected a network's name of 1 to 32 bytes; this one is passed over");
            continue;
        };
        let auth = point.get("auth");
        let method = auth.and_then(|auth| auth.get("key-management")).and_then(Node::text).unwrap_or("psk");
        let password = point.get("password").or_else(|| auth.and_then(|auth| auth.get("password")));
        let password = match (method, password.and_then(Node::text)) {
            ("none", _) | (_, None) => None,
            ("psk" | "sae", Some(text)) if is_wifi_password(text) => Some(Secret::Given(text.to_owned())),
            ("psk" | "sae", Some(_)) => {
                notes.warn(
                    point.line,
                    "expected a password of 8 to 63 characters; this network is passed over",
                );
                continue;
            }
            _ => {
                notes.warn(
                    point.line,
                    "only passwords are understood, no other `key-management`; this network is passed over",
                );
                continue;
            }
        };
        if password.is_some() {
            notes.warn(
                point.line,
                "this password stays readable on this card; write the network in waypost.toml to have it moved off",
            );
        }
        let hidden = point.get("hidden").and_then(Node::truth) == Some(true);
        let mut network = Network::new(called, Kind::Wifi { ssid, password, hidden, wpa3: method == "sae" });
        read_addresses(device, &mut network, &["access-points", "regulatory-domain"], notes);
        add(network, point, out, notes);
    }
}

fn add(mut network: Network, node: &Node, out: &mut CloudInit, notes: &mut Notes<'_>) {
    if out.networks.iter().any(|other| other.name == network.name) {
        return notes.warn(node.line, "another network has this name; this one is passed over");
    }
    network.origin = Some(waypost_config::Origin { file: notes.file.clone(), line: node.line, column: 1 });
    out.networks.push(network);
}

/// Addresses of a device; `known` are keys that the caller has read.
fn read_addresses(device: &Node, network: &mut Network, known: &[&str], notes: &mut Notes<'_>) {
    let address_of = |node: &Node| node.text().and_then(|text| text.parse::<IpAddr>().ok());
    for (key, value) in device.map().into_iter().flatten() {
        match key.as_str() {
            "dhcp4" | "dhcp6" | "optional" | "link-local" | "accept-ra" | "wakeonlan" => {}
            "addresses" => {
                let list = value.list().unwrap_or_default();
                network.address = list.first().and_then(Node::text).and_then(Cidr::parse);
                if network.address.is_none() || list.len() > 1 {
                    notes.warn(
                        value.line,
                        "of `addresses` one is used, such as 192.168.1.5/24; others are passed over",
                    );
                }
            }
            "gateway4" | "gateway6" => network.router = network.router.or(address_of(value)),
            "routes" => {
                let is_default = |route: &&Node| {
                    matches!(route.get("to").and_then(Node::text), Some("default" | "0.0.0.0/0" | "::/0"))
                };
                let default = value.list().into_iter().flatten().find(is_default);
                network.router = network.router.or(default.and_then(|route| address_of(route.get("via")?)));
            }
            "nameservers" => {
                let list = value.get("addresses").and_then(Node::list).into_iter().flatten();
                network.dns = list.filter_map(address_of).take(8).collect();
            }
            other if known.contains(&other) => {}
            other => notes.not_understood(value.line, other),
        }
    }
    if network
        .address
        .is_none_or(|own| network.router.is_some_and(|router| own.address.is_ipv4() != router.is_ipv4()))
    {
        network.router = None;
    }
}
