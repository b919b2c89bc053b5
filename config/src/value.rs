//! Values of keys that are more than a number or a text, each valid once it exists.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use schemars::JsonSchema;
use serde::Serialize;
use toml::de::DeValue;
use waypost_protocol::ids::{GroupId, PeerKey};

use crate::nearest::nearest;
use crate::problem::is_printable;
use crate::quantity::{Period, Size};

/// A value that stands behind a key.
pub(crate) trait Leaf: Sized + Clone + PartialEq + Serialize {
    /// What an error says was expected, for example "a size such as …".
    const EXPECTED: &'static str;
    /// Whether no message may say what was found.
    const SECRET: bool = false;

    /// Reads it; relative paths start from `folder`. The error is a hint on what to do, or empty.
    fn read(value: &DeValue<'_>, folder: &Path) -> Result<Self, String>;
}

/// A value that is written as text.
pub(crate) fn text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, String> {
    value.as_str().ok_or_else(String::new)
}

macro_rules! text_value {
    ($(#[$meta:meta])* $name:ident) => {
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
        #[serde(transparent)]
        $(#[$meta])*
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            #[allow(dead_code, reason = "only some are made outside of this module")]
            pub(crate) fn from_text(text: &str) -> Self {
                $name(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(crate) use text_value;

text_value!(
    /// A name for people: 1 to 64 bytes of printable text. May be printed to a terminal as it is.
    #[schemars(extend("minLength" = 1, "maxLength" = 64))]
    Name
);
text_value!(
    /// The base address of a destination: `https`, a host, perhaps a port and a path; without a `/` at its end.
    #[schemars(extend("format" = "uri", "pattern" = "^[hH][tT][tT][pP][sS]://[^@?#]+$"))]
    HttpsUrl
);
text_value!(
    /// `host:port`, where the host is a name or an address (IPv6 in brackets).
    #[schemars(extend("pattern" = "^.+:[0-9]+$"))]
    HostPort
);

text_value!(
    /// The name of a file in a folder that goes without saying: 1 to 64 bytes of printable text, no `/`, no dot first.
    #[schemars(extend("minLength" = 1, "maxLength" = 64, "pattern" = "^[^./][^/]*$"))]
    FileName
);

text_value!(
    /// A Bluetooth adapter: "best", "all", its name (`hci0`) or its address (`AA:BB:CC:DD:EE:FF`).
    #[schemars(extend("pattern" = "^(best|all|hci[0-9]+|([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2})$"))]
    AdapterName
);

impl AdapterName {
    /// Whichever can do most.
    pub(crate) fn best() -> Self {
        AdapterName("best".to_owned())
    }
}

impl Leaf for AdapterName {
    const EXPECTED: &'static str = "\"best\", \"all\", or an adapter's name or address";
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        let name = text(value)?.trim();
        let is_name = name.strip_prefix("hci").is_some_and(|number| number.parse::<u16>().is_ok());
        let octets: Vec<&str> = name.split(':').collect();
        let is_octet =
            |octet: &&str| octet.len() == 2 && octet.bytes().all(|digit| digit.is_ascii_hexdigit());
        let is_address = octets.len() == 6 && octets.iter().all(is_octet);
        match matches!(name, "best" | "all") || is_name || is_address {
            true => Ok(AdapterName(name.to_owned())),
            false => Err("`bluetoothctl list` shows addresses; names are hci0, hci1, …".to_owned()),
        }
    }
}

impl FileName {
    /// What a stick has that is meant for gateways.
    pub(crate) fn marker() -> Self {
        FileName("WAYPOST-BUNDLE".to_owned())
    }
}

impl Leaf for FileName {
    const EXPECTED: &'static str = "the name of a file, without folders, of 1 to 64 bytes";
    fn read(value: &DeValue<'_>, folder: &Path) -> Result<Self, String> {
        let name = Name::read(value, folder)?;
        match name.0.starts_with('.') || name.0.contains('/') {
            true => Err("write it without / and without a dot at its beginning".to_owned()),
            false => Ok(FileName(name.0)),
        }
    }
}

impl Name {
    /// The name, where the text is one.
    pub fn new(text: &str) -> Option<Self> {
        Self::checked(text).ok()
    }

    /// The name that a gateway has as long as nobody gave it another.
    pub(crate) fn of_gateway() -> Self {
        Name("Waypost".to_owned())
    }
}

impl Name {
    fn checked(text: &str) -> Result<Self, String> {
        let name = text.trim();
        if name.len() > 64 {
            return Err(format!("shorten it by {} bytes", name.len() - 64));
        }
        let valid = !name.is_empty() && name.chars().all(is_printable);
        if valid { Ok(Name(name.to_owned())) } else { Err(String::new()) }
    }
}

impl Leaf for Name {
    const EXPECTED: &'static str = "a name of 1 to 64 bytes of printable text";
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        Self::checked(text(value)?)
    }
}

impl Leaf for HttpsUrl {
    const EXPECTED: &'static str = "an address such as \"https://example.org/waypost\"";
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        let text = text(value)?.trim();
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("http://") {
            return Err(
                "write https: over plain http anyone on the way could read the credentials".to_owned()
            );
        }
        if text.contains(['@', '?', '#']) {
            return Err(
                "write it without user, query and fragment; credentials have their own keys".to_owned()
            );
        }
        let uri: http::Uri = text.parse().map_err(|_| String::new())?;
        let (Some(authority), Some("https")) = (uri.authority(), uri.scheme_str()) else {
            return Err(String::new());
        };
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let has_good_port = port.is_empty() || authority.port_u16().is_some_and(|port| port > 0);
        let has_host = !authority.host().trim_matches(['[', ']']).is_empty();
        if !has_good_port || !has_host {
            return Err(String::new());
        }
        Ok(HttpsUrl(text.trim_end_matches('/').to_owned()))
    }
}

impl Leaf for HostPort {
    const EXPECTED: &'static str =
        "an address with its port such as \"kiosk.local:4180\" or \"[fd00::1]:4180\"";
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        let text = text(value)?.trim();
        if text.parse::<SocketAddr>().is_ok_and(|address| address.port() > 0) {
            return Ok(HostPort(text.to_owned()));
        }
        let (host, port) = text.rsplit_once(':').ok_or("add its port, for example :4180")?;
        let has_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_host = (1..=253).contains(&host.len()) && host.chars().all(is_name);
        if has_port && is_host { Ok(HostPort(text.to_owned())) } else { Err(String::new()) }
    }
}

/// What becomes of the body of a document at the gateway. Nothing goes before the destination's signed verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It goes as soon as the verdict is stored.
    UntilConfirmed,
    /// It stays this long after the verdict.
    For(Period),
    /// It stays until the admin deletes it.
    Always,
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keep::UntilConfirmed => f.write_str("until-confirmed"),
            Keep::For(period) => period.fmt(f),
            Keep::Always => f.write_str("always"),
        }
    }
}

impl Serialize for Keep {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Keep {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Keep".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let period = generator.subschema_for::<Period>();
        schemars::json_schema!({ "anyOf": [{ "enum": ["until-confirmed", "always"] }, period] })
    }
}

impl Leaf for Keep {
    const EXPECTED: &'static str = "\"until-confirmed\", \"always\" or a duration such as \"30d\"";
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        match text(value)?.trim() {
            "until-confirmed" => Ok(Keep::UntilConfirmed),
            "always" => Ok(Keep::Always),
            other => other.parse().map(Keep::For).map_err(|_| meant(other, &["until-confirmed", "always"])),
        }
    }
}

/// An enumeration that is written as one of a few words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $expected:literal, { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$variant => $word,)+ })
            }
        }

        impl Leaf for $name {
            const EXPECTED: &'static str = $expected;
            fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
                match text(value)? {
                    $($word => Ok($name::$variant),)+
                    other => Err(meant(other, &[$($word),+])),
                }
            }
        }
    };
}

pub(crate) use words;

words!(
    /// Which phones are served (design R4).
    AccessMode, "\"open\", \"paired\" or \"listed\"", {
        /// All; those that are not paired may only deposit small sealed documents.
        Open = "open",
        /// Those that were paired with a code.
        Paired = "paired",
        /// Only those whose keys the configuration lists.
        Listed = "listed",
    }
);

words!(
    /// How a remote log is laid out (3/REMOTE-LOG).
    LogMode, "\"full\", \"page\", \"linked\" or \"mixed\"", {
        /// Documents in the pages.
        Full = "full",
        /// Documents by hash.
        Page = "page",
        /// A page for each document.
        Linked = "linked",
        /// The last ones in the newest page.
        Mixed = "mixed",
    }
);

/// Where remote logs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPlace {
    /// At the destinations.
    Destination,
    /// In a folder.
    Folder(PathBuf),
}

impl fmt::Display for LogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogPlace::Destination => f.write_str("destination"),
            LogPlace::Folder(path) => write!(f, "folder:{}", path.display()),
        }
    }
}

impl Serialize for LogPlace {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for LogPlace {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LogPlace".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^\\s*(destination|folder:.+)\\s*$" })
    }
}

impl Leaf for LogPlace {
    const EXPECTED: &'static str = "\"destination\" or \"folder:/path\"";
    fn read(value: &DeValue<'_>, folder: &Path) -> Result<Self, String> {
        let text = text(value)?.trim();
        match text.strip_prefix("folder:") {
            Some("") => Err("name the folder after the colon".to_owned()),
            Some(path) => Ok(LogPlace::Folder(folder.join(path))),
            None if text == "destination" => Ok(LogPlace::Destination),
            None if text.starts_with('/') => Err(format!("write \"folder:{text}\"")),
            None => Err(meant(text, &["destination"])),
        }
    }
}

/// Collections by group id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct GroupList(pub Vec<GroupId>);

impl Leaf for GroupList {
    const EXPECTED: &'static str = "a list of group ids, each 64 hexadecimal digits";
    fn read(value: &DeValue<'_>, folder: &Path) -> Result<Self, String> {
        let array = value.as_array().ok_or_else(|| "put it in [ ]".to_owned())?;
        array
            .iter()
            .map(|group| GroupId::read(group.get_ref(), folder))
            .collect::<Result<_, _>>()
            .map(GroupList)
    }
}

words!(
    /// Whether bytes over a backhaul cost money (design R16).
    Cost, "\"free\" or \"metered\"", {
        /// They do not.
        Free = "free",
        /// They do.
        Metered = "metered",
    }
);

words!(
    /// How much is logged, ascending.
    LogLevel, "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"", {
        /// What needs the admin.
        Error = "error",
        /// What was passed over.
        Warn = "warn",
        /// Contacts, uploads, confirmations.
        Info = "info",
        /// Each document.
        Debug = "debug",
        /// Each frame.
        Trace = "trace",
    }
);

pub(crate) fn meant(found: &str, words: &[&str]) -> String {
    nearest(found, words.iter().copied()).map(|word| format!("did you mean \"{word}\"?")).unwrap_or_default()
}

impl Leaf for Size {
    const EXPECTED: &'static str = Size::EXPECTED;
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        if let Some(integer) = value.as_integer() {
            let bytes = u64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| String::new())?;
            let size = Size::from_bytes(bytes);
            return if size.bytes() == bytes { Ok(size) } else { Err(String::new()) };
        }
        text(value)?.parse().map_err(|_| String::new())
    }
}

impl Leaf for Period {
    const EXPECTED: &'static str = Period::EXPECTED;
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        let unit_missing = |number: &str| format!("add the unit, for example \"{number}s\" for seconds");
        let integer =
            value.as_integer().filter(|integer| integer.radix() == 10 && integer.as_str().len() < 20);
        if let Some(integer) = integer {
            return Err(unit_missing(integer.as_str()));
        }
        let text = text(value)?.trim();
        let is_number = !text.is_empty() && text.len() < 20 && text.bytes().all(|byte| byte.is_ascii_digit());
        // The parser takes "0" alone; here every duration has its unit.
        if is_number {
            return Err(unit_missing(text));
        }
        text.parse().map_err(|_| String::new())
    }
}

impl Leaf for u32 {
    const EXPECTED: &'static str = "a whole number such as 100";
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        let integer = value.as_integer().ok_or_else(|| match value.as_str() {
            Some(_) => "write it without quotes".to_owned(),
            None => String::new(),
        })?;
        u32::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| String::new())
    }
}

impl Leaf for bool {
    const EXPECTED: &'static str = "true or false";
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| match value.as_str() {
            Some("true" | "false") => "write it without quotes".to_owned(),
            _ => String::new(),
        })
    }
}

impl Leaf for PathBuf {
    const EXPECTED: &'static str = "a path";
    fn read(value: &DeValue<'_>, folder: &Path) -> Result<Self, String> {
        let text = text(value)?;
        if text.is_empty() || text.contains(char::is_control) {
            return Err("a path has no control characters and is not empty".to_owned());
        }
        if text.starts_with("~/") {
            return Err("write the whole path: ~ is a shell's".to_owned());
        }
        Ok(folder.join(text))
    }
}

impl Leaf for SocketAddr {
    const EXPECTED: &'static str =
        "an address and port to listen on such as \"[::]:4180\" or \"192.168.4.1:4180\"";
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        text(value)?.trim().parse().map_err(|_| String::new())
    }
}

impl Leaf for PeerKey {
    const EXPECTED: &'static str = "a peer key: 64 hexadecimal digits or 43 characters of base64url";
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        let text = text(value)?.trim();
        let from_base64 = || PeerKey::from_slice(&BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok();
        let hint = || "`waypost peers list` shows keys".to_owned();
        PeerKey::from_hex(text).ok().or_else(from_base64).ok_or_else(hint)
    }
}

impl Leaf for GroupId {
    const EXPECTED: &'static str = "a group id: 64 hexadecimal digits";
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        let hint = |_| "the destination's admin has it".to_owned();
        GroupId::from_hex(text(value)?).map_err(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn read<T: Leaf>(text: &str) -> Result<T, String> {
        T::read(&DeValue::String(Cow::Borrowed(text)), Path::new("/etc/waypost"))
    }

    #[test]
    fn only_https_addresses_without_secrets_are_taken() {
        for (text, url) in [
            ("https://example.org", "https://example.org"),
            ("HTTPS://example.org:8443/way/", "HTTPS://example.org:8443/way"),
            ("https://[fd00::1]:8443", "https://[fd00::1]:8443"),
        ] {
            assert_eq!(read::<HttpsUrl>(text).unwrap().as_str(), url);
        }
        for text in [
            "",
            "example.org",
            "/way",
            "ftp://example.org",
            "http://example.org",
            "https://",
            "https:///way",
            "https://user:pass@example.org",
            "https://example.org/?a",
            "https://example.org#a",
            "https://example.org:99999",
            "https://example.org:0",
            "https://exam ple.org",
            "https://\u{1b}[0m",
        ] {
            assert!(read::<HttpsUrl>(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn addresses_for_codes_need_a_port() {
        for text in ["kiosk.local:4180", "192.168.4.1:4180", "[fd00::1]:4180", "[fe80::1%3]:4180"] {
            assert!(read::<HostPort>(text).is_ok(), "{text}");
        }
        for text in
            ["", "kiosk", "kiosk:", "kiosk:0", "kiosk:99999", ":4180", "fd00::1:4180", "a b:4180", "a&k=:1"]
        {
            assert!(read::<HostPort>(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn peer_keys_are_read_in_both_writings() {
        let key = PeerKey([0xab; 32]);
        assert_eq!(read::<PeerKey>(&key.to_string()), Ok(key));
        assert_eq!(read::<PeerKey>(&BASE64URL_NOPAD.encode(&key.0)), Ok(key));
        assert!(read::<PeerKey>("abcd").is_err());
    }

    #[test]
    fn names_hold_nothing_that_a_terminal_obeys() {
        assert_eq!(read::<Name>(" Clínica 3 ").unwrap().as_str(), "Clínica 3");
        for text in ["", "  ", "a\u{1b}b", "a\u{202e}b", "a\nb", &"é".repeat(33)] {
            assert!(read::<Name>(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn paths_start_from_the_folder_of_their_file() {
        assert_eq!(read::<PathBuf>("keys/token"), Ok(PathBuf::from("/etc/waypost/keys/token")));
        assert_eq!(read::<PathBuf>("/run/token"), Ok(PathBuf::from("/run/token")));
        assert!(
            read::<PathBuf>("").is_err()
                && read::<PathBuf>("a\0b").is_err()
                && read::<PathBuf>("~/x").is_err()
        );
    }

    #[test]
    fn words_are_written_as_they_are_read() {
        for mode in [AccessMode::Open, AccessMode::Paired, AccessMode::Listed] {
            assert_eq!(read(&mode.to_string()), Ok(mode));
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.to_string());
        }
        assert_eq!(read::<AccessMode>("pared"), Err("did you mean \"paired\"?".to_owned()));
        assert_eq!(read::<LogLevel>("warning"), Err("did you mean \"warn\"?".to_owned()));
        for keep in [Keep::Always, Keep::UntilConfirmed, Keep::For(Period::days(30))] {
            assert_eq!(read(&keep.to_string()), Ok(keep));
        }
    }
}
