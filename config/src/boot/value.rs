//! Values that only the boot file has: country, time zone, keys, secrets, networks' names and addresses.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use data_encoding::BASE64;
use serde::{Serialize, Serializer};
use toml::de::DeValue;

use crate::nearest::nearest;
use crate::problem::is_printable;
use crate::value::{FileName, Leaf, text};

/// What stands in the file in place of a secret that was read and moved away.
pub const KEPT: &str = "(kept)";

/// The codes of ISO 3166-1 alpha-2.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT \
    BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM \
    FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO \
    JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT \
    MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA \
    SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US \
    UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

/// A text that its `checked` has looked at, which makes it a [`Leaf`]; and what is expected in its place.
macro_rules! checked_text {
    ($(#[$meta:meta])* $name:ident, $expected:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text, where it is right.
            pub fn parse(text: &str) -> Option<Self> {
                Self::checked(text).ok()
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Leaf for $name {
            const EXPECTED: &'static str = $expected;
            fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
                Self::checked(text(value)?)
            }
        }
    };
}

checked_text!(
    /// A country by its code (ISO 3166-1 alpha-2), in capitals.
    Country,
    "a country of two letters (ISO 3166) such as \"UG\""
);
checked_text!(
    /// A time zone by its name in the tz database. Whether the machine knows it is another question.
    TimeZone,
    "a time zone such as \"Africa/Kampala\""
);
checked_text!(
    /// A public key as `ssh-keygen` writes it, in one line without options before it.
    SshKey,
    "a public key in one line such as \"ssh-ed25519 AAAA… admin\""
);
checked_text!(
    /// The name of a Wi-Fi network: 1 to 32 bytes of printable text.
    Ssid,
    "the name of a Wi-Fi network, 1 to 32 bytes"
);
checked_text!(
    /// An access point name of a mobile network.
    Apn,
    "an access point name such as \"internet\""
);
checked_text!(
    /// A name or password that a provider of mobile networks asks for: printable, in one line, up to 128 bytes.
    Line,
    "one line of text, 1 to 128 bytes"
);

impl Country {
    fn checked(text: &str) -> Result<Self, String> {
        let code = text.trim().to_ascii_uppercase();
        if code == "UK" {
            return Err("did you mean \"GB\"?".to_owned());
        }
        let is_known = code.len() == 2 && COUNTRIES.split_ascii_whitespace().any(|known| known == code);
        if is_known { Ok(Country(code)) } else { Err(String::new()) }
    }
}

impl TimeZone {
    fn checked(text: &str) -> Result<Self, String> {
        let name = text.trim();
        let is_part = |part: &str| {
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-');
            !part.is_empty() && part.bytes().all(is_letter)
        };
        if name.len() <= 64 && name.split('/').all(is_part) {
            return Ok(TimeZone(name.to_owned()));
        }
        Err(String::new())
    }
}

impl SshKey {
    fn checked(line: &str) -> Result<Self, String> {
        const KINDS: [&str; 7] = [
            "ssh-ed25519",
            "ssh-rsa",
            "ecdsa-sha2-nistp256",
            "ecdsa-sha2-nistp384",
            "ecdsa-sha2-nistp521",
            "sk-ssh-ed25519@openssh.com",
            "sk-ecdsa-sha2-nistp256@openssh.com",
        ];
        let line = line.trim();
        if line.contains("PRIVATE KEY") {
            return Err("this is the secret half; take the file that ends in .pub".to_owned());
        }
        let mut words = line.split_ascii_whitespace();
        let (kind, body) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if !KINDS.contains(&kind) {
            let near = nearest(kind, KINDS).map(|near| format!("did you mean \"{near}\"?"));
            return Err(near.unwrap_or_else(|| "its first word is the kind, such as ssh-ed25519".to_owned()));
        }
        // RFC 4253 §6.6: the key begins with the length and the name of its kind.
        let bytes = BASE64.decode(body.as_bytes()).ok().filter(|bytes| bytes.len() > kind.len() + 8);
        let length = u32::try_from(kind.len()).unwrap_or_default().to_be_bytes();
        let is_whole = bytes.is_some_and(|bytes| {
            bytes.starts_with(&length) && bytes.get(4..4 + kind.len()) == Some(kind.as_bytes())
        });
        let is_line = line.len() <= 16 * 1024 && line.chars().all(is_printable);
        match is_whole && is_line {
            true => Ok(SshKey(line.to_owned())),
            false => Err("its second word is damaged or cut off; copy the whole line".to_owned()),
        }
    }
}

impl Ssid {
    fn checked(text: &str) -> Result<Self, String> {
        if text.len() > 32 {
            return Err(format!("it is {} bytes too long", text.len() - 32));
        }
        let is_name = !text.trim().is_empty() && text.chars().all(is_printable);
        if is_name { Ok(Ssid(text.to_owned())) } else { Err(String::new()) }
    }
}

impl Apn {
    fn checked(text: &str) -> Result<Self, String> {
        let name = text.trim();
        let is_name = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        if is_name { Ok(Apn(name.to_owned())) } else { Err(String::new()) }
    }
}

impl Line {
    fn checked(text: &str) -> Result<Self, String> {
        let is_line = (1..=128).contains(&text.len()) && text.chars().all(is_printable);
        if is_line { Ok(Line(text.to_owned())) } else { Err(String::new()) }
    }
}

/// A secret: as the file has it, or kept from an earlier time. Cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// As the file has it.
    Given(String),
    /// The file says [`KEPT`].
    Kept,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(secret)")
    }
}

impl Leaf for Secret {
    const EXPECTED: &'static str = "a text in quotes";
    const SECRET: bool = true;
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        // A PIN without quotes.
        if let Some(number) = value.as_integer().filter(|number| number.radix() == 10) {
            return Ok(Secret::Given(number.as_str().to_owned()));
        }
        Ok(match text(value)? {
            KEPT => Secret::Kept,
            given => Secret::Given(given.to_owned()),
        })
    }
}

/// A certificate or key: in the file itself, or in a file beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Material {
    /// As the file has it, with its `-----BEGIN` line.
    Inline(Secret),
    /// The name of a file in the same folder.
    File(FileName),
}

impl Leaf for Material {
    const EXPECTED: &'static str = "the text with its -----BEGIN line, or the name of a file beside this one";
    const SECRET: bool = true;
    fn read(value: &DeValue<'_>, folder: &Path) -> Result<Self, String> {
        let text = text(value)?;
        if text.contains("-----BEGIN") || text == KEPT {
            return Secret::read(value, folder).map(Material::Inline);
        }
        if text.contains('\n') {
            return Err("the text has no -----BEGIN line; copy all of it".to_owned());
        }
        FileName::read(value, folder).map(Material::File)
    }
}

/// An address of a machine, with the length of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    /// The address, where the text is one.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.trim().split_once('/')?;
        let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        let most = if address.is_ipv4() { 32 } else { 128 };
        let is_host = (1..=most).contains(&prefix) && !address.is_unspecified() && !address.is_multicast();
        is_host.then_some(Cidr { address, prefix })
    }
}

impl Leaf for Cidr {
    const EXPECTED: &'static str = "an address with the length of its network such as \"192.168.1.5/24\"";
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        let text = text(value)?;
        let hint = if text.contains('/') { "" } else { "add /24 or what the network's admin says" };
        Self::parse(text).ok_or_else(|| hint.to_owned())
    }
}

impl Leaf for IpAddr {
    const EXPECTED: &'static str = "an address such as \"192.168.1.1\"";
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        text(value)?.trim().parse().map_err(|_| String::new())
    }
}

/// Which Ethernet ports a network is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Ports {
    /// All that no other network names.
    Any,
    /// One, by the name of its interface.
    Named(String),
}

impl Ports {
    /// The port of this name, where it can be one.
    pub fn named(text: &str) -> Option<Self> {
        // Linux: up to 15 bytes, neither `/` nor white space.
        let name = text.trim();
        let is_name = (1..=15).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"/*:".contains(&byte))
            && !matches!(name, "." | "..");
        is_name.then(|| Ports::Named(name.to_owned()))
    }
}

impl Leaf for Ports {
    const EXPECTED: &'static str = "true, or the name of an interface such as \"eth0\"";
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        match value.as_bool() {
            Some(true) => return Ok(Ports::Any),
            Some(false) => return Err("leave it out".to_owned()),
            None => {}
        }
        Self::named(text(value)?).ok_or_else(String::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIw7ZvEZ0YFfjQXbqBbk0gk3V5bNnQ5S4yXyZ0w1Hh3K admin";

    #[test]
    fn public_keys_are_taken_whole_or_not_at_all() {
        assert_eq!(SshKey::checked(&format!(" {KEY}\n")).unwrap().as_str(), KEY);
        for wrong in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIIw7", "hello"]
        {
            assert!(SshKey::checked(wrong).is_err(), "{wrong}");
        }
        assert!(SshKey::checked(&KEY.replace("25519 ", "25519\n")).is_err(), "in two lines");
        assert!(SshKey::checked("-----BEGIN OPENSSH PRIVATE KEY-----").unwrap_err().contains(".pub"));
        assert!(SshKey::checked("ssh-ed2551 AAAA").unwrap_err().contains("did you mean"));
    }

    #[test]
    fn countries_are_those_of_iso_3166() {
        assert_eq!(COUNTRIES.split_ascii_whitespace().count(), 249);
        assert_eq!(Country::parse(" ug ").unwrap().as_str(), "UG");
        assert_eq!(Country::checked("UK"), Err("did you mean \"GB\"?".to_owned()));
        assert!(["", "XX", "00", "UGA", "Ü"].iter().all(|wrong| Country::parse(wrong).is_none()));
    }

    #[test]
    fn time_zones_name_no_other_file() {
        assert!(
            ["UTC", "Africa/Kampala", "America/Argentina/Buenos_Aires", "Etc/GMT+3"]
                .iter()
                .all(|name| TimeZone::parse(name).is_some())
        );
        assert!(
            ["", "/etc/passwd", "../../etc/passwd", "Africa/", "a b"]
                .iter()
                .all(|wrong| TimeZone::parse(wrong).is_none())
        );
    }

    #[test]
    fn addresses_have_their_network() {
        assert_eq!(Cidr::parse("192.168.1.5/24").unwrap().to_string(), "192.168.1.5/24");
        for wrong in ["192.168.1.5", "192.168.1.5/33", "0.0.0.0/8", "224.0.0.1/4", "fd00::1/0", "x/8"] {
            assert!(Cidr::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn secrets_cannot_be_printed() {
        assert_eq!(format!("{:?}", Secret::Given("hunter2".to_owned())), "(secret)");
        assert!(
            !serde_json::to_string(&Material::Inline(Secret::Given("x9".into()))).unwrap().contains("x9")
        );
    }
}
