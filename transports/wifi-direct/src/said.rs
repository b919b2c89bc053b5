//! What wpa_supplicant says, and what it is told: dictionaries of its D-Bus API (`doc/dbus.doxygen` of hostap) from and to
//! values of ours. Nothing here speaks to anybody.

use std::collections::HashMap;

use zbus::zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Value};

use crate::channel::Megahertz;
use crate::credentials::{Network, Pin, Ssid};

/// A dictionary that is told.
pub(crate) type Told<'a> = HashMap<&'static str, Value<'a>>;
/// A dictionary that was said.
pub(crate) type Said = HashMap<String, OwnedValue>;

/// Bit of a peer's group capability: it is the owner of a group (Wi-Fi Direct specification, 4.1.4).
const IS_OWNER: u8 = 1;
/// Category "Telephone" and subcategory "other" of WSC's primary device types are phones; a kiosk is a "Network
/// Infrastructure" of kind "access point": `category ‖ 00 50 F2 04 ‖ subcategory` (WSC specification 2.0, Annex B).
const KIOSK: [u8; 8] = [0, 6, 0, 0x50, 0xf2, 4, 0, 1];

/// How this device presents itself, and how its groups are.
pub(crate) fn device(name: &str) -> Told<'_> {
    HashMap::from([
        ("DeviceName", name.into()),
        ("PrimaryDeviceType", KIOSK.to_vec().into()),
        // Stations of the group do not hear each other.
        ("IntraBss", false.into()),
        // Who has been in the group and asks for it is heard here, and the group begun as it is to be. wpa_supplicant would begin
        // one itself, or have the phone forget the group, where it has not let that phone in itself.
        ("PersistentReconnect", false.into()),
        // It is owner of its group, whoever asks.
        ("GOIntent", 15u32.into()),
        // That a group is over is decided here.
        ("GroupIdle", 0u32.into()),
        ("NoGroupIface", false.into()),
    ])
}

/// A persistent group of ours. The key is told, not the passphrase.
pub(crate) fn persistent_group(network: &Network) -> Told<'static> {
    HashMap::from([
        ("ssid", network.ssid.as_bytes().to_vec().into()),
        ("psk", network.expose_key().to_vec().into()),
        // Owner of a group.
        ("mode", 3i32.into()),
        // Persistent: not one of the networks that are joined.
        ("disabled", 2i32.into()),
        ("key_mgmt", "WPA-PSK".into()),
        ("proto", "RSN".into()),
        ("pairwise", "CCMP".into()),
        ("group", "CCMP".into()),
    ])
}

/// That group, now, on this frequency.
pub(crate) fn start<'a>(group: &ObjectPath<'a>, frequency: Megahertz) -> Told<'a> {
    HashMap::from([
        ("persistent_group_object", group.clone().into()),
        ("frequency", i32::from(frequency).into()),
    ])
}

/// A network to join as a station. `mark`: what it is known again by.
pub(crate) fn network(
    network: &Network,
    mark: String,
    bssid: Option<&str>,
    frequency: Option<Megahertz>,
) -> Told<'static> {
    let mut told: Told<'static> = HashMap::from([
        ("ssid", network.ssid.as_bytes().to_vec().into()),
        ("psk", network.expose_key().to_vec().into()),
        ("key_mgmt", "WPA-PSK".into()),
        ("proto", "RSN".into()),
        ("id_str", mark.into()),
        // A group that is not there now is looked for by its name as well.
        ("scan_ssid", 1i32.into()),
    ]);
    if let Some(bssid) = bssid {
        told.insert("bssid", bssid.to_owned().into());
    }
    if let Some(frequency) = frequency {
        told.insert("scan_freq", frequency.to_string().into());
        told.insert("freq_list", frequency.to_string().into());
    }
    told
}

/// A look at all channels for networks of these names, also where they are not told to everyone.
pub(crate) fn scan<'a>(ssids: impl Iterator<Item = &'a Ssid>) -> Told<'static> {
    let ssids: Vec<Vec<u8>> = ssids.map(|ssid| ssid.as_bytes().to_vec()).collect();
    HashMap::from([("Type", "active".into()), ("SSIDs", ssids.into())])
}

/// A network that is near.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// Its name.
    pub ssid: Ssid,
    /// The address of its access point, such as `02:00:00:00:00:00`.
    pub bssid: String,
    /// Where it is, in MHz.
    pub frequency: Megahertz,
}

/// The properties of a network that was heard within the last `seconds`; `None` of one that was not.
pub(crate) fn near(said: &Said, seconds: u32) -> Option<Near> {
    let age = said.get("Age").and_then(|age| u32::try_from(age).ok())?;
    let frequency = said.get("Frequency").and_then(|frequency| Megahertz::try_from(frequency).ok())?;
    let near =
        Near { ssid: Ssid::new(&bytes(said, "SSID")?).ok()?, bssid: mac(&bytes(said, "BSSID")?)?, frequency };
    (age <= seconds).then_some(near)
}

/// Lets whoever presses the button, or types the PIN, into the group.
pub(crate) fn let_in(pin: Option<&Pin>) -> Told<'static> {
    let mut told: Told<'static> = HashMap::from([("Role", "enrollee".into())]);
    match pin {
        None => told.insert("Type", "pbc".into()),
        Some(pin) => {
            told.insert("Pin", pin.expose().to_owned().into());
            told.insert("Type", "pin".into())
        }
    };
    told
}

/// A group has begun, or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupNews {
    /// wpa_supplicant's object of the group's interface.
    pub(crate) interface: Option<OwnedObjectPath>,
    /// Its object of the group.
    pub(crate) group: Option<OwnedObjectPath>,
    /// Whether this device is its owner.
    pub(crate) is_owner: bool,
}

/// `GroupStarted` and `GroupFinished`.
pub(crate) fn group_news(said: &Said) -> GroupNews {
    GroupNews {
        interface: path(said, "interface_object"),
        group: path(said, "group_object"),
        is_owner: text(said, "role").is_some_and(|role| role == "GO"),
    }
}

/// Whether the properties of a persistent group are those of a network of this name: quoted where it can be printed, else in
/// hexadecimal digits.
pub(crate) fn is_group_of(said: &Said, ssid: &Ssid) -> bool {
    let properties = said.get("Properties").and_then(|value| Said::try_from(value.try_clone().ok()?).ok());
    let Some(name) = properties.as_ref().and_then(|properties| text(properties, "ssid")) else {
        return false;
    };
    let digits: String = ssid.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).map(str::as_bytes) == Some(ssid.as_bytes())
        || name.eq_ignore_ascii_case(&digits)
}

/// Another device near.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name for people, unproven.
    pub name: String,
    /// The address of its P2P device, such as `02:00:00:00:00:00`.
    pub address: String,
    /// Whether it is the owner of a group now.
    pub is_owner: bool,
    /// How strong it was, in dBm; `None` where it was not said.
    pub signal: Option<i32>,
}

/// The properties of a peer.
pub(crate) fn peer(said: &Said) -> Option<Peer> {
    let address = bytes(said, "DeviceAddress")?;
    let signal = said.get("level").and_then(|level| i32::try_from(level).ok());
    let capability = said.get("groupcapability").and_then(|bits| u8::try_from(bits).ok()).unwrap_or(0);
    Some(Peer {
        name: text(said, "DeviceName").unwrap_or_default(),
        address: mac(&address)?,
        is_owner: capability & IS_OWNER != 0,
        signal: signal.filter(|signal| *signal < 0),
    })
}

/// An address as people write it; `None` for what has not 6 bytes.
pub(crate) fn mac(bytes: &[u8]) -> Option<String> {
    let bytes: &[u8; 6] = bytes.try_into().ok()?;
    Some(bytes.map(|byte| format!("{byte:02x}")).join(":"))
}

/// Whether a configured network was switched on, or off, of what is said when it changes; `None`: something else has changed.
pub(crate) fn is_on(said: &Said) -> Option<bool> {
    bool::try_from(&**said.get("Enabled")?).ok()
}

pub(crate) fn text(said: &Said, key: &str) -> Option<String> {
    String::try_from(said.get(key)?.try_clone().ok()?).ok()
}

pub(crate) fn bytes(said: &Said, key: &str) -> Option<Vec<u8>> {
    Vec::<u8>::try_from(said.get(key)?.try_clone().ok()?).ok()
}

pub(crate) fn number(said: &Said, key: &str) -> Option<i32> {
    i32::try_from(&**said.get(key)?).ok()
}

fn path(said: &Said, key: &str) -> Option<OwnedObjectPath> {
    OwnedObjectPath::try_from(said.get(key)?.try_clone().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::credentials::{Credentials, Passphrase};

    fn said<const N: usize>(entries: [(&str, Value<'static>); N]) -> Said {
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), OwnedValue::try_from(value).unwrap()))
            .collect()
    }

    fn credentials() -> Credentials {
        Credentials { ssid: Ssid::new(b"IEEE").unwrap(), passphrase: Passphrase::new("password").unwrap() }
    }

    #[test]
    fn a_group_is_told_by_its_key_in_the_types_that_wpa_supplicant_takes() {
        let told = persistent_group(&credentials().network());
        // Strings would be quoted there, numbers of other types are "invalid message format".
        assert_eq!(told["ssid"].value_signature().to_string(), "ay");
        assert_eq!(told["psk"].value_signature().to_string(), "ay");
        assert_eq!(
            told["psk"].try_clone().unwrap(),
            Value::from(credentials().passphrase.psk(&credentials().ssid).to_vec())
        );
        for key in ["mode", "disabled"] {
            assert_eq!(told[key].value_signature().to_string(), "i");
        }
        let path = ObjectPath::try_from("/fi/w1/wpa_supplicant1/Interfaces/0/PersistentGroups/0").unwrap();
        let told = start(&path, 5180);
        assert_eq!(told["persistent_group_object"].value_signature().to_string(), "o");
        assert_eq!(told["frequency"], Value::from(5180i32));
    }

    #[test]
    fn the_passphrase_is_in_nothing_that_is_told() {
        let told = [
            persistent_group(&credentials().network()),
            network(&credentials().network(), "waypost 7".into(), Some("02:00:00:00:00:00"), Some(2437)),
        ];
        for value in told.iter().flat_map(HashMap::values) {
            let signature = value.value_signature().to_string();
            let holds = match value {
                Value::Str(text) => text.contains("password"),
                Value::Array(array) => {
                    let bytes = Vec::<u8>::try_from(array.try_clone().unwrap()).unwrap_or_default();
                    bytes.windows(8).any(|part| part == b"password")
                }
                _ => false,
            };
            assert!(!holds, "{signature}");
        }
    }

    #[test]
    fn a_station_is_let_in_by_button_or_by_pin() {
        let pin = Pin::generate(&mut ChaCha20Rng::seed_from_u64(1));
        assert_eq!(let_in(None)["Type"], Value::from("pbc"));
        assert_eq!(let_in(Some(&pin))["Pin"], Value::from(pin.expose()));
        assert_eq!(let_in(Some(&pin))["Type"], Value::from("pin"));
    }

    #[test]
    fn groups_begin_and_end() {
        let path = |text: &str| ObjectPath::try_from(text.to_owned()).unwrap();
        let begun = said([
            ("interface_object", path("/fi/w1/wpa_supplicant1/Interfaces/3").into()),
            ("role", "GO".into()),
            ("group_object", path("/fi/w1/wpa_supplicant1/Groups/0").into()),
        ]);
        let news = group_news(&begun);
        assert!(news.is_owner);
        assert_eq!(news.interface.unwrap().as_str(), "/fi/w1/wpa_supplicant1/Interfaces/3");
        assert!(!group_news(&said([("role", "client".into())])).is_owner);
        assert_eq!(group_news(&Said::new()), GroupNews { interface: None, group: None, is_owner: false });
        // Values of another type than expected are none.
        assert_eq!(group_news(&said([("interface_object", 5u32.into())])).interface, None);
    }

    #[test]
    fn a_group_that_is_remembered_is_ours_by_its_name() {
        let of = |name: &'static str| {
            let properties: HashMap<String, Value<'static>> =
                HashMap::from([("ssid".to_owned(), name.into())]);
            said([("Properties", properties.into())])
        };
        let ours = Ssid::new(b"DIRECT-ab-Clinic").unwrap();
        assert!(is_group_of(&of("\"DIRECT-ab-Clinic\""), &ours));
        assert!(is_group_of(&of("4449524543542d61622d436c696e6963"), &ours));
        for other in ["DIRECT-ab-Clinic", "\"DIRECT-cd-Clinic\"", "", "\""] {
            assert!(!is_group_of(&of(other), &ours), "{other}");
        }
        assert!(!is_group_of(&Said::new(), &ours));
    }

    #[test]
    fn a_network_is_near_while_it_was_heard_lately() {
        let heard = |age: u32| {
            said([
                ("SSID", b"DIRECT-ab-Clinic".to_vec().into()),
                ("BSSID", vec![2u8, 0, 0, 0, 0xab, 0].into()),
                ("Frequency", 5180u16.into()),
                ("Age", age.into()),
            ])
        };
        let expected = Near {
            ssid: Ssid::new(b"DIRECT-ab-Clinic").unwrap(),
            bssid: "02:00:00:00:ab:00".into(),
            frequency: 5180,
        };
        assert_eq!(near(&heard(4), 4), Some(expected));
        assert_eq!((near(&heard(5), 4), near(&Said::new(), 4)), (None, None));
    }

    #[test]
    fn a_network_is_switched_on_and_off() {
        assert_eq!(is_on(&said([("Enabled", true.into())])), Some(true));
        assert_eq!(is_on(&said([("Enabled", false.into())])), Some(false));
        assert_eq!((is_on(&said([("Enabled", 1u32.into())])), is_on(&Said::new())), (None, None));
    }

    #[test]
    fn a_peer_is_who_it_says_as_far_as_it_says() {
        let whole = said([
            ("DeviceName", "Clinic".into()),
            ("DeviceAddress", vec![2u8, 0, 0, 0, 0xab, 0].into()),
            ("groupcapability", 0x2bu8.into()),
            ("level", (-40i32).into()),
        ]);
        let expected = Peer {
            name: "Clinic".into(),
            address: "02:00:00:00:ab:00".into(),
            is_owner: true,
            signal: Some(-40),
        };
        assert_eq!(peer(&whole), Some(expected));
        let least = said([("DeviceAddress", vec![2u8, 0, 0, 0, 0, 0].into())]);
        assert!(peer(&least).is_some_and(|one| !one.is_owner && one.name.is_empty() && one.signal.is_none()));
        assert_eq!(peer(&said([("DeviceAddress", vec![2u8, 0].into())])), None);
    }
}
