//! The boot file, `waypost.toml`: the one file on a card's boot partition by which an admin sets up a kiosk.
//!
//! [`read`] returns what holds for one machine with all that is wrong, as [`crate::load`] does for the gateway's own
//! files and by the same code. What becomes of it is the kiosk's part (`images/kiosk`).

mod destination;
mod example;
mod gateway;
mod network;
mod value;

use std::collections::BTreeMap;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use destination::{BootCredentials, BootDestination};
pub use example::boot_example;
pub use gateway::GatewayKeys;
pub use network::{Kind, Network, is_wifi_password};
pub use value::{Apn, Cidr, Country, KEPT, Line, Material, Ports, Secret, SshKey, Ssid, TimeZone};

use crate::load::parse;
use crate::problem::{Origin, Problem, Problems, Severity};
use crate::reader::Reader;
use crate::setting::{Setting as _, section};
use crate::source::Source;
use crate::value::{AccessMode, Name};

/// At most so many `[kiosk."…"]` sections.
pub const MAX_KIOSKS: usize = 1000;
/// Syntax errors that are named; after the first few, a parser mostly stumbles over its own recovery.
const MAX_SYNTAX_ERRORS: usize = 5;
const KIOSK: &str = "kiosk";

section! {
    /// What a boot file says for one kiosk.
    pub struct BootFile {
        /// The kiosk's name, up to 64 bytes: what phones see, and, made into a valid one, the host name. Everyone near can
        /// read it.
        [boot] name: Option<Name> = None, example "\"Clinic Mbale\"";
        /// The country where it stands, two letters: which Wi-Fi channels are allowed. Without it, 5 GHz is mostly off.
        #[schemars(with = "String")]
        [boot] country: Option<Country> = None, example "\"UG\"";
        /// Its time zone: for hours in `windows` and for times on its screen. Absent, UTC.
        #[schemars(with = "String")]
        [boot] time_zone: Option<TimeZone> = None, example "\"Africa/Kampala\"";
        /// Which phones are served. "open": all; those that are not paired may only deposit small sealed documents.
        /// "paired": those that were paired with a code. "listed": only those in `listed` of [gateway.access]. Absent,
        /// "paired". With a mistake here nothing of this file is used.
        [boot, vital] access: Option<AccessMode> = None, example "\"paired\"";
        /// Public keys that may log in over SSH as user `admin`, who may do everything (sudo without a password). Without
        /// any, nobody can log in.
        #[schemars(with = "Vec<String>")]
        [boot] ssh_keys: Vec<SshKey> = Vec::new();
        /// Networks, the preferred one first.
        #[schemars(with = "Vec<network::Draft>")]
        [] network: Vec<Network> = Vec::new();
        /// Destinations.
        #[schemars(with = "Vec<destination::Draft>")]
        [] destination: Vec<BootDestination> = Vec::new();
        /// Any further key of gateway.toml.
        #[schemars(with = "BTreeMap<String, Value>")]
        [] gateway: GatewayKeys = GatewayKeys::default();
    }
}

/// What a boot file says for one kiosk, and everything that is wrong with it.
#[derive(Debug, Clone)]
pub struct BootLoaded {
    /// What holds: what could be read. Not to be used if a problem is fatal.
    pub file: BootFile,
    /// What is wrong, in the order of the lines.
    pub problems: Vec<Problem>,
    /// The `[kiosk."…"]` sections that are about this machine, as they are written.
    pub sections: Vec<String>,
    /// The section that the networks come from; absent: from none.
    pub networks_from: Option<String>,
    /// The section that the destinations come from; absent: from none.
    pub destinations_from: Option<String>,
    /// Where keys are set, by their dotted names.
    pub origins: BTreeMap<String, Origin>,
    /// Where the networks and destinations begin that are right, also those of lists that a section's take the place of.
    pub right: Vec<Origin>,
}

impl BootLoaded {
    /// Whether nothing of the file may be used.
    pub fn is_fatal(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Fatal)
    }

    /// Takes what a table says; lists of its own add to those before.
    fn update(&mut self, table: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) {
        self.file.update(table, reader);
        let networks = self.file.network.iter().filter_map(|network| network.origin.clone());
        let destinations = self.file.destination.iter().filter_map(|destination| destination.origin.clone());
        self.right.extend(networks.chain(destinations));
    }
}

/// Reads a boot file for the machine that `is_mine` knows the names of, as [`kiosk_id`] writes them.
///
/// Sections of other kiosks are not looked at but for their names.
pub fn read(source: &Source, is_mine: &dyn Fn(&str) -> bool) -> BootLoaded {
    let (mut problems, mut origins) = (Problems::default(), BTreeMap::new());
    let mut loaded = BootLoaded {
        file: BootFile::default(),
        problems: Vec::new(),
        sections: Vec::new(),
        networks_from: None,
        destinations_from: None,
        origins: BTreeMap::new(),
        right: Vec::new(),
    };
    let (table, errors) = DeTable::parse_recoverable(source.text());
    for error in errors.iter().take(MAX_SYNTAX_ERRORS) {
        let place = error.span().map_or(source.text().len(), |span| span.start);
        // Without what was found: it may be a password.
        let message = format!("not TOML: {}; nothing of the file is used", error.message());
        problems.push(Severity::Fatal, || {
            Problem::new(Severity::Fatal, Some(source.origin(place)), None, &message)
        });
    }
    if errors.is_empty() {
        let root = BootFile::fields();
        let span = table.span();
        let mut table = table.into_inner();
        let kiosks = table.remove_entry(KIOSK);
        let mut reader = Reader::new(source, &root, &mut problems, &mut origins);
        loaded.update(&Spanned::new(span, DeValue::Table(table)), &mut reader);
        if let Some((key, value)) = kiosks {
            let value = Spanned::new(key.span(), value.into_inner());
            read_sections(&value, is_mine, &mut loaded, &mut reader);
        }
    }
    loaded.problems = problems.into_vec();
    // Keys are read in the alphabet's order; people mend from the top down.
    loaded.problems.sort_by(|a, b| (a.origin.is_none(), &a.origin).cmp(&(b.origin.is_none(), &b.origin)));
    loaded.origins = origins;
    loaded
}

/// Changes single keys, and replaces lists, by the sections that are about this machine.
fn read_sections(
    value: &Spanned<DeValue<'_>>,
    is_mine: &dyn Fn(&str) -> bool,
    loaded: &mut BootLoaded,
    reader: &mut Reader<'_>,
) {
    let Some(sections) = value.get_ref().as_table() else {
        return reader.mismatch(value, "sections, each [kiosk.\"SERIAL\"]", "");
    };
    for (count, (key, section)) in sections.iter().enumerate() {
        if count == MAX_KIOSKS {
            return reader.error(key.span(), || {
                format!("more than {MAX_KIOSKS} sections; this one and those after it are left out")
            });
        }
        let written = key.get_ref().as_ref();
        let Some(id) = kiosk_id(written) else {
            reader.error(key.span(), || {
                "expected a Pi's serial number of 16 hexadecimal digits, or a MAC address; this section is left out"
                    .to_owned()
            });
            continue;
        };
        if !is_mine(&id) {
            continue;
        }
        let Some(table) = reader.table(section) else { continue };
        if table.contains_key(KIOSK) {
            reader.error(key.span(), || "a kiosk's section has no sections of kiosks".to_owned());
            continue;
        }
        loaded.sections.push(written.to_owned());
        if table.contains_key("network") {
            loaded.file.network.clear();
            loaded.networks_from = Some(written.to_owned());
        }
        if table.contains_key("destination") {
            loaded.file.destination.clear();
            loaded.destinations_from = Some(written.to_owned());
        }
        loaded.update(section, reader);
    }
}

/// A name of a machine in one writing: a serial number's 16 hexadecimal digits, or a MAC address's 12. The latter may be
/// written with `:`, `-` or `.` between its digits. Absent for anything else.
pub fn kiosk_id(text: &str) -> Option<String> {
    let digits: String = text.trim().chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect();
    let is_id = matches!(digits.len(), 12 | 16) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_id.then(|| digits.to_ascii_lowercase())
}

/// What the gateway itself says of the drop-in file that was made of a boot file, but for what goes without saying.
pub fn check_drop_in(text: &str) -> Vec<Problem> {
    let problems = parse(&[Source::new("50-waypost-toml.toml", text)]).problems;
    let is_worth = |problem: &Problem| gateway::is_worth_telling(problem.severity, problem.key.as_deref());
    problems.into_iter().filter(is_worth).collect()
}
