//! Networks of the boot file: how the kiosk gets out, in the order in which the ways are preferred.

use std::net::IpAddr;
use std::ops::Range;

use serde::Serialize;
use toml::de::DeTable;

use super::value::{Apn, Cidr, Line, Ports, Secret, Ssid};
use crate::backhaul::{MAX_BACKHAULS, Window};
use crate::problem::{Origin, Problem, Severity};
use crate::quantity::Size;
use crate::reader::Reader;
use crate::setting::section;
use crate::tables::{self, Entry, tables_of};
use crate::value::{Cost, Name};

/// A network that the kiosk joins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Network {
    /// How people call it; unique.
    pub name: Name,
    /// What it is.
    pub kind: Kind,
    /// An address of its own; absent: by DHCP.
    pub address: Option<Cidr>,
    /// The router, where it is not found by DHCP.
    pub router: Option<IpAddr>,
    /// Name servers, beside those that the network tells.
    pub dns: Vec<IpAddr>,
    /// Whether bytes cost money.
    pub cost: Cost,
    /// Bytes in a day, both ways.
    pub day: Option<Size>,
    /// Bytes in a month, both ways.
    pub month: Option<Size>,
    /// Times of day at which it may be used; empty: always.
    pub windows: Vec<Window>,
    /// Where it was configured.
    #[serde(skip)]
    pub origin: Option<Origin>,
}

/// What a network is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Kind {
    /// Wi-Fi.
    Wifi {
        /// Its name.
        ssid: Ssid,
        /// Absent for one that is open to all.
        password: Option<Secret>,
        /// Whether it does not say that it is there.
        hidden: bool,
        /// Whether it must be WPA3; else whichever of WPA2 and WPA3 it has.
        wpa3: bool,
    },
    /// A cable.
    Ethernet(Ports),
    /// 3G, 4G, 5G.
    Mobile {
        /// Access point name.
        apn: Apn,
        /// Of the SIM.
        pin: Option<Secret>,
        /// Where the provider asks for it.
        user: Option<Line>,
        /// Where the provider asks for it.
        password: Option<Secret>,
    },
}

section! {
    /// A way to the internet. The first of these tables that is connected, within its windows and its budget, is used.
    /// Each has one of `wifi`, `ethernet` and `mobile`. Ethernet ports that none of them is about get an address by DHCP.
    #[schemars(rename = "Network")]
    pub(crate) struct Draft {
        /// How people call it, in lists and logs: up to 64 bytes, unique. Absent, its Wi-Fi or access point name, or the port.
        #[schemars(with = "String")]
        [boot] name: Option<Name> = None, example "\"the clinic's Wi-Fi\"";
        /// The name of a Wi-Fi network.
        #[schemars(with = "String")]
        [boot] wifi: Option<Ssid> = None, example "\"ClinicNet\"";
        /// Its password: 8 to 63 characters, or the key of 64 hexadecimal digits. Absent for a network that is open to all.
        /// For `mobile`, the provider's password. It is moved off this card once read.
        #[schemars(with = "String")]
        [boot] password: Option<Secret> = None, example "\"the password\"";
        /// Whether the Wi-Fi network does not say that it is there.
        [boot] hidden: bool = false;
        /// Whether the Wi-Fi network must be WPA3; else WPA2 or WPA3, whichever it has.
        [boot] wpa3: bool = false;
        /// A cable: `true` for every port, or the name of one such as "eth0".
        #[schemars(with = "String")]
        [boot] ethernet: Option<Ports> = None, example "true";
        /// The access point name of a mobile network, for a 3G or 4G stick.
        #[schemars(with = "String")]
        [boot] mobile: Option<Apn> = None, example "\"internet\"";
        /// The PIN of its SIM card. It is moved off this card once read.
        #[schemars(with = "String")]
        [boot] pin: Option<Secret> = None, example "\"1234\"";
        /// The user name that the mobile provider asks for, where it does.
        #[schemars(with = "String")]
        [boot] user: Option<Line> = None, example "\"web\"";
        /// The kiosk's own address in a Wi-Fi or cable network, with the length of the network. Absent, by DHCP.
        #[schemars(with = "String")]
        [boot] address: Option<Cidr> = None, example "\"192.168.1.5/24\"";
        /// The router, where `address` is set.
        #[schemars(with = "String")]
        [boot] router: Option<IpAddr> = None, example "\"192.168.1.1\"";
        /// Name servers, used besides those that the network tells.
        #[schemars(with = "Vec<String>")]
        [boot] dns: Vec<IpAddr> = Vec::new();
        /// "free", or "metered" where bytes cost money; see [[backhaul]] in gateway.toml, as for the next three.
        [boot] cost: Cost = Cost::Free;
        /// At most this much in 24 hours, both ways.
        [boot] day: Option<Size> = None, example "\"50MB\"";
        /// The same in 30 days.
        [boot] month: Option<Size> = None, example "\"1GB\"";
        /// Times of day at which it may be used, such as "22:00-06:00". Empty, always.
        #[schemars(with = "Vec<String>")]
        [boot] windows: Vec<Window> = Vec::new();
    }
}

impl Network {
    /// A network without any of the keys that are absent by default.
    pub fn new(name: Name, kind: Kind) -> Self {
        Network {
            name,
            kind,
            address: None,
            router: None,
            dns: Vec::new(),
            cost: Cost::Free,
            day: None,
            month: None,
            windows: Vec::new(),
            origin: None,
        }
    }

    /// Something that is wrong with it, at the place where it was configured. `key` is one of its keys.
    pub fn problem(&self, severity: Severity, key: &str, message: &str) -> Problem {
        tables::problem(self, severity, key, message)
    }
}

/// Whether it is a password of WPA: 8 to 63 printable ASCII characters, or a key of 64 hexadecimal digits.
pub fn is_wifi_password(text: &str) -> bool {
    let is_key = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_plain = |byte: u8| (0x20..0x7f).contains(&byte);
    is_key || ((8..=63).contains(&text.len()) && text.bytes().all(is_plain))
}

/// Keys that belong to one kind of network only.
const KEYS_OF_KINDS: [(&str, &[&str]); 8] = [
    ("password", &["wifi", "mobile"]),
    ("hidden", &["wifi"]),
    ("wpa3", &["wifi"]),
    ("pin", &["mobile"]),
    ("user", &["mobile"]),
    ("address", &["wifi", "ethernet"]),
    ("router", &["wifi", "ethernet"]),
    ("dns", &["wifi", "ethernet"]),
];

impl Entry for Network {
    type Draft = Draft;
    const KEY: &'static str = "network";
    const MOST: usize = MAX_BACKHAULS;

    fn name(&self) -> &Name {
        &self.name
    }

    fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    fn changed(&self, other: &Self) -> Vec<&'static str> {
        if self == other { Vec::new() } else { vec!["kind"] }
    }

    fn finish(
        draft: Draft,
        table: &DeTable<'_>,
        header: Range<usize>,
        reader: &mut Reader<'_>,
    ) -> Option<Self> {
        let kinds: Vec<&str> =
            ["wifi", "ethernet", "mobile"].into_iter().filter(|kind| table.contains_key(*kind)).collect();
        let [kind] = kinds.as_slice() else {
            reader.error(header, || match kinds.is_empty() {
                true => {
                    "what it is is missing; add a line wifi = \"NAME\", ethernet = true or mobile = \"APN\""
                        .to_owned()
                }
                false => format!("it is {} at once; write a [[network]] for each", kinds.join(" and ")),
            });
            return None;
        };
        check_keys(kind, &draft, table, reader);
        let Draft { wifi, password, hidden, wpa3, ethernet, mobile, pin, user, address, router, dns, .. } =
            draft;
        let (called, kind) = match (wifi, ethernet, mobile) {
            (Some(ssid), None, None) => {
                (ssid.as_str().to_owned(), Kind::Wifi { ssid, password, hidden, wpa3 })
            }
            (None, Some(Ports::Any), None) => ("ethernet".to_owned(), Kind::Ethernet(Ports::Any)),
            (None, Some(Ports::Named(port)), None) => (port.clone(), Kind::Ethernet(Ports::Named(port))),
            (None, None, Some(apn)) => (apn.as_str().to_owned(), Kind::Mobile { apn, pin, user, password }),
            _ => return None,
        };
        let name = if table.contains_key("name") { draft.name? } else { Name::new(&called)? };
        let Draft { cost, day, month, windows, .. } = draft;
        let origin = Some(reader.source().origin(header.start));
        Some(Network { name, kind, address, router, dns, cost, day, month, windows, origin })
    }
}

/// What only shows once all keys are read.
fn check_keys(kind: &str, draft: &Draft, table: &DeTable<'_>, reader: &mut Reader<'_>) {
    let place = |key: &str| table.get_key_value(key).map_or(0..0, |(key, _)| key.span());
    for (key, kinds) in KEYS_OF_KINDS {
        if table.contains_key(key) && !kinds.contains(&kind) {
            reader.error(place(key), || {
                format!("`{key}` belongs to {}, this network is {kind}", kinds.join(" or "))
            });
        }
    }
    if let (Some(Secret::Given(password)), true) = (&draft.password, kind == "wifi")
        && !is_wifi_password(password)
    {
        // Never what was found: the error is written beside the file.
        reader.error(place("password"), || {
            "expected 8 to 63 characters of ASCII, or 64 hexadecimal digits; copy the password as the network's admin has it"
                .to_owned()
        });
    }
    if let (Some(Secret::Given(password)), true) = (&draft.password, kind == "mobile")
        && Line::parse(password).is_none()
    {
        reader.error(place("password"), || "expected one line of 1 to 128 bytes".to_owned());
    }
    if let Some(Secret::Given(pin)) = &draft.pin
        && !((4..=8).contains(&pin.len()) && pin.bytes().all(|digit| digit.is_ascii_digit()))
    {
        reader.error(place("pin"), || "expected 4 to 8 digits in quotes".to_owned());
    }
    let (address, router) = (draft.address, draft.router);
    if router.is_some() && !table.contains_key("address") {
        reader
            .error(place("router"), || "has no effect without `address`; add that, or remove it".to_owned());
    }
    if address.zip(router).is_some_and(|(own, router)| own.address.is_ipv4() != router.is_ipv4()) {
        reader.error(place("router"), || {
            "is of another kind than `address`; both are IPv4 or both IPv6".to_owned()
        });
    }
}

tables_of!(Network);
