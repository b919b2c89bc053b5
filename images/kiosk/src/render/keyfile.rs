//! Networks as NetworkManager's keyfiles (nm-settings-keyfile(5)).

use std::fmt::Write as _;
use std::net::IpAddr;

use sha2::{Digest as _, Sha256};
use waypost_config::Cost;
use waypost_config::boot::{Kind, Network, Ports, Secret};

use super::{File, host_name};
use crate::disk::Readers;

/// The folder of a generation that they are in.
pub const FOLDER: &str = "networks";
/// How their names begin, so that they can be told from others.
pub const PREFIX: &str = "waypost-";

/// A file for each network, and one that gives every Ethernet port that none of them is about an address by DHCP.
pub fn files(networks: &[Network]) -> Vec<File> {
    let mut files: Vec<File> =
        networks.iter().enumerate().map(|(place, network)| file(place, network)).collect();
    let has_any = networks.iter().any(|network| network.kind == Kind::Ethernet(Ports::Any));
    if !has_any {
        let rest =
            waypost_config::Name::new("ethernet").map(|name| Network::new(name, Kind::Ethernet(Ports::Any)));
        files.extend(rest.map(|network| file(networks.len(), &network)));
    }
    files
}

/// `place` counts from 0, the preferred network.
fn file(place: usize, network: &Network) -> File {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let mut line = |line: &str| _ = writeln!(text, "{line}");
    let kind = match &network.kind {
        Kind::Wifi { .. } => "wifi",
        Kind::Ethernet(_) => "ethernet",
        Kind::Mobile { .. } => "gsm",
    };
    line("[connection]");
    line(&format!("id={}", value(network.name.as_str())));
    line(&format!("uuid={}", uuid(place, network.name.as_str())));
    line(&format!("type={kind}"));
    match &network.kind {
        Kind::Ethernet(Ports::Named(port)) => line(&format!("interface-name={}", value(port))),
        // One profile for as many ports as there are.
        Kind::Ethernet(Ports::Any) => line("multi-connect=3"),
        _ => {}
    }
    line(&format!("autoconnect-priority={}", 100_usize.saturating_sub(place)));
    if network.cost == Cost::Metered {
        line("metered=1");
    }
    // Tried for ever: there is nobody who would ask for it. Where a password was refused waypost-wifi.timer does so.
    line("autoconnect-retries=0");
    match &network.kind {
        Kind::Wifi { ssid, password, hidden, wpa3 } => {
            line("\n[wifi]");
            line("mode=infrastructure");
            line(&format!("ssid={}", bytes(ssid.as_str())));
            if *hidden {
                line("hidden=true");
            }
            if let Some(Secret::Given(password)) = password {
                line("\n[wifi-security]");
                line(if *wpa3 { "key-mgmt=sae" } else { "key-mgmt=wpa-psk" });
                line(&format!("psk={}", value(password)));
            }
        }
        Kind::Ethernet(_) => {}
        Kind::Mobile { apn, pin, user, password } => {
            line("\n[gsm]");
            line(&format!("apn={}", value(apn.as_str())));
            let given = |secret: &Option<Secret>| match secret {
                Some(Secret::Given(text)) => Some(text.clone()),
                _ => None,
            };
            let user = user.as_ref().map(|user| user.as_str().to_owned());
            for (key, text) in [("pin", given(pin)), ("username", user), ("password", given(password))] {
                if let Some(text) = text {
                    line(&format!("{key}={}", value(&text)));
                }
            }
        }
    }
    addresses(place, network, &mut line);
    let name = host_name(network.name.as_str()).unwrap_or_default();
    let path = format!("{FOLDER}/{PREFIX}{:02}-{name}.nmconnection", place + 1);
    File { path, content: text.into_bytes(), readers: Readers::Root }
}

fn addresses(place: usize, network: &Network, line: &mut dyn FnMut(&str)) {
    for (section, is_v4) in [("ipv4", true), ("ipv6", false)] {
        line(&format!("\n[{section}]"));
        match network.address.filter(|own| own.address.is_ipv4() == is_v4) {
            Some(own) => {
                line("method=manual");
                let router = network.router.map_or(String::new(), |router| format!(",{router}"));
                line(&format!("address1={own}{router}"));
            }
            None => line("method=auto"),
        }
        let is_of_it = |server: &&IpAddr| server.is_ipv4() == is_v4;
        let servers: String =
            network.dns.iter().filter(is_of_it).map(|server| format!("{server};")).collect();
        if !servers.is_empty() {
            line(&format!("dns={servers}"));
        }
        // Of several ways out the kernel takes the one that the file has first.
        line(&format!("route-metric={}", 100 + 50 * place));
    }
}

/// A text as GLib's key files have it.
fn value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match c {
            '\\' => out.push_str("\\\\"),
            ' ' if at == 0 || at + 1 == text.len() => out.push_str("\\s"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out
}

/// Bytes as text where they can be nothing else, as a list of numbers otherwise: `;` and digits mean something there.
fn bytes(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b" ._-".contains(&byte);
    let has_letter = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    match has_letter && text == text.trim() && text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => text.bytes().map(|byte| format!("{byte};")).collect(),
    }
}

/// The same for the same network, so that NetworkManager knows it again (RFC 9562, version 8).
fn uuid(place: usize, name: &str) -> String {
    let hash = Sha256::digest(format!("waypost network {place} {name}").as_bytes());
    let mut bytes: Vec<u8> = hash.iter().copied().take(16).collect();
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_as_key_files_want_it() {
        assert_eq!(value(" a\\b c "), "\\sa\\\\b c\\s");
        assert_eq!(bytes("ClinicNet 5"), "ClinicNet 5");
        assert_eq!(bytes("a;b"), "97;59;98;");
        assert_eq!(bytes("12"), "49;50;");
        assert_eq!(bytes("é"), "195;169;");
    }

    #[test]
    fn identifiers_are_stable_and_well_formed() {
        let id = uuid(0, "ClinicNet");
        assert_eq!((id.len(), id.clone()), (36, uuid(0, "ClinicNet")));
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_ne!(id, uuid(1, "ClinicNet"));
    }
}
