//! Values of the keys that say how a Wi-Fi Direct group is.

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde::ser::SerializeSeq as _;
use toml::de::DeValue;

use crate::value::{Leaf, meant, text, text_value, words};

words!(
    /// When there is a Wi-Fi Direct group.
    WifiMode, "\"always\", \"on-demand\" or \"off\"", {
        /// All the time.
        Always = "always",
        /// While somebody wants it, and a while longer.
        OnDemand = "on-demand",
        /// Never; the radio is not touched.
        Off = "off",
    }
);

words!(
    /// How phones join a group whose passphrase they do not know.
    WifiJoin, "\"button\", \"pin\" or \"closed\"", {
        /// Whoever asks is let in.
        Button = "button",
        /// Whoever types the PIN is.
        Pin = "pin",
        /// Nobody is.
        Closed = "closed",
    }
);

text_value!(
    /// A network interface of a Wi-Fi radio: "auto", or a name of up to 15 bytes such as `wlan0`.
    #[schemars(extend("minLength" = 1, "maxLength" = 15, "pattern" = "^[^/\\s]+$"))]
    RadioName
);

impl RadioName {
    /// The first that there is.
    pub(crate) fn auto() -> Self {
        RadioName::from_text("auto")
    }

    /// The interface, unless any will do.
    pub fn interface(&self) -> Option<&str> {
        Some(self.as_str()).filter(|name| *name != "auto")
    }
}

impl Leaf for RadioName {
    const EXPECTED: &'static str = "\"auto\", or an interface's name";
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        let name = text(value)?.trim();
        // What the kernel takes for a name (`dev_valid_name`).
        let is_name = (1..16).contains(&name.len())
            && !matches!(name, "." | "..")
            && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
        match is_name {
            true => Ok(RadioName::from_text(name)),
            false => Err("`iw dev` shows the names of radios, such as wlan0".to_owned()),
        }
    }
}

/// Which channels a group may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WifiChannels {
    /// 5 GHz where the country allows it, else 2.4 GHz.
    Auto,
    /// 5 GHz only.
    FiveGigahertz,
    /// 2.4 GHz only.
    TwoGigahertz,
    /// One of these, the first that is allowed.
    These(Vec<u16>),
}

const WORDS: [(&str, WifiChannels); 3] = [
    ("auto", WifiChannels::Auto),
    ("5GHz", WifiChannels::FiveGigahertz),
    ("2.4GHz", WifiChannels::TwoGigahertz),
];

impl WifiChannels {
    fn word(&self) -> Option<&'static str> {
        WORDS.iter().find(|(_, channels)| channels == self).map(|(word, _)| *word)
    }
}

impl fmt::Display for WifiChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.word(), self) {
            (Some(word), _) => f.write_str(word),
            (None, WifiChannels::These(numbers)) => write!(f, "{numbers:?}"),
            (None, _) => Ok(()),
        }
    }
}

impl Serialize for WifiChannels {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.word(), self) {
            (None, WifiChannels::These(numbers)) => {
                let mut list = serializer.serialize_seq(Some(numbers.len()))?;
                numbers.iter().try_for_each(|number| list.serialize_element(number))?;
                list.end()
            }
            (word, _) => serializer.serialize_str(word.unwrap_or_default()),
        }
    }
}

impl JsonSchema for WifiChannels {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WifiChannels".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [
            { "enum": ["auto", "5GHz", "2.4GHz"] },
            { "type": "array", "minItems": 1, "items": { "type": "integer", "minimum": 1, "maximum": 177 } },
        ] })
    }
}

impl Leaf for WifiChannels {
    const EXPECTED: &'static str = "\"auto\", \"5GHz\", \"2.4GHz\", or a list of channels such as [36, 6]";
    fn read(value: &DeValue<'_>, folder: &Path) -> Result<Self, String> {
        let Some(array) = value.as_array() else {
            let word = text(value)?.trim();
            let found = WORDS.iter().find(|(known, _)| *known == word).map(|(_, channels)| channels.clone());
            return found.ok_or_else(|| meant(word, &WORDS.map(|(known, _)| known)));
        };
        let mut numbers = Vec::new();
        for value in array {
            let number = u32::read(value.get_ref(), folder)?;
            match u16::try_from(number) {
                Ok(channel) if is_channel(channel) => numbers.push(channel),
                _ => return Err(format!("there is no channel {number}; `iw list` shows those of a radio")),
            }
        }
        match numbers.is_empty() {
            true => Err("name at least one, or write \"auto\"".to_owned()),
            false => Ok(WifiChannels::These(numbers)),
        }
    }
}

/// Whether a number is a channel of 20 MHz in the bands of 2.4 or 5 GHz (IEEE 802.11-2020, Annex E).
fn is_channel(number: u16) -> bool {
    match number {
        1..=14 => true,
        36..=64 | 100..=144 => number.is_multiple_of(4),
        149..=177 => (number - 1).is_multiple_of(4),
        _ => false,
    }
}
