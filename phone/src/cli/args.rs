//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use crate::{DeleteOn, Wifi};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use waypost_wifi_direct::Pin;

/// Listens on every address of this machine, on a port that is free.
pub(crate) const ANYWHERE: &str = "[::]:0";

/// Seals forms and photos, hands them to a Waypost kiosk, and deletes them here once the destination has confirmed them.
#[derive(Parser)]
#[command(name = "waypost-phone", version, max_term_width = 100)]
pub(crate) struct Args {
    /// The phone's folder [default: $XDG_DATA_HOME/waypost-phone or ~/.local/share/waypost-phone]
    #[arg(long, global = true, env = "WAYPOST_PHONE_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// File with the phone's passphrase, where it has one [default: asks on the terminal]. A phone that is made has it from the
    /// beginning
    #[arg(long, global = true, env = "WAYPOST_PASSPHRASE_FILE", value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Prints JSON: a line for each thing that happens, one object at the end
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Says more on standard error
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes the phone: its key and its store. So do `pair` and `destination add` where it is missing
    Init(Init),
    /// Whom documents are sealed to
    #[command(subcommand)]
    Destination(DestinationCommand),
    /// Pairs with a kiosk, from its QR code
    Pair(Pair),
    /// Kiosks that are known, and those near
    Gateways(Gateways),
    /// Seals files and keeps them until they are delivered
    Add(Add),
    /// Lets drafts go
    Send {
        /// Ids, or their beginnings
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Hands documents to a kiosk, the destination or another phone, and fetches confirmations
    Sync(Sync),
    /// Lets another phone hand its documents to this one, which carries them on
    Listen(Listen),
    /// Stays in the background and syncs whenever a known kiosk is near
    Run(Run),
    /// Where each document stands
    List {
        /// Also those that were delivered and deleted here
        #[arg(long)]
        all: bool,
    },
    /// Deletes documents here for good, delivered or not
    Delete {
        /// Ids, or their beginnings
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Wants a collection: kiosks that allow it hand its documents to this phone
    Subscribe(Subscribe),
    /// Takes no more of a collection; what is here stays
    Unsubscribe(Subscribe),
    /// This phone's own key, to read what it receives
    #[command(subcommand)]
    Reader(ReaderCommand),
    /// Opens received documents that are sealed to this phone
    Open(Open),
    /// This phone, its destinations and kiosks, and what waits
    Status,
    /// Without its passphrase nobody opens this phone's store, or passes for it
    #[command(subcommand)]
    Passphrase(PassphraseCommand),
    /// The destination's signed confirmations
    Confirmations(Confirmations),
}

impl Command {
    /// Whether a phone is made where there is none. What has nothing to work on without one would, after a typo in
    /// --home, only show an empty one.
    pub(crate) fn may_make_a_phone(&self) -> bool {
        use DestinationCommand as To;
        matches!(self, Command::Init(_) | Command::Pair(_) | Command::Destination(To::Add(_)))
    }
}

#[derive(ClapArgs)]
pub(crate) struct Init {
    /// What paired kiosks call this phone [default: nothing]
    #[arg(long, value_name = "LABEL")]
    pub(crate) name: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum DestinationCommand {
    /// Adds one, after showing its fingerprint
    Add(AddDestination),
    /// Shows those that are known
    List,
    /// Changes one
    Set(SetDestination),
    /// Forgets one; its documents stay
    Remove {
        /// Its name, or the beginning of its fingerprint
        destination: String,
    },
}

#[derive(ClapArgs)]
pub(crate) struct AddDestination {
    /// Its URL, its certificate's file, its code (waypost://destination?…), a file with the code, or - for standard input
    #[arg(value_name = "URL|CERT-FILE|CODE")]
    pub(crate) what: String,
    /// Authorities (PEM) to trust for its URL instead of the public ones
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Takes the fingerprint as confirmed
    #[arg(long)]
    pub(crate) yes: bool,
    /// The fingerprint that it must have
    #[arg(long, value_name = "HEX", conflicts_with = "yes")]
    pub(crate) fingerprint: Option<String>,
    /// A collection of it; the first is the usual one [default: what its code says, or forms]
    #[arg(long, value_name = "NAME")]
    pub(crate) collection: Vec<String>,
    /// Its URL, where a certificate was given
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// The token with which this phone delivers by itself
    #[arg(long)]
    pub(crate) token: Option<String>,
}

#[derive(ClapArgs)]
pub(crate) struct SetDestination {
    /// Its name, or the beginning of its fingerprint
    pub(crate) destination: String,
    /// When this phone's copies are deleted
    #[arg(long, value_enum)]
    pub(crate) delete_on: Option<DeleteOnArg>,
    /// One more collection
    #[arg(long, value_name = "NAME")]
    pub(crate) collection: Vec<String>,
    /// Its URL
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Authorities (PEM) to trust for its URL instead of the public ones
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The token with which this phone delivers by itself
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// Certificate of one more reader, whom documents are sealed to beside the destination
    #[arg(long, value_name = "FILE")]
    pub(crate) reader: Vec<PathBuf>,
    /// That reader reads this collection only [default: all]
    #[arg(long, value_name = "NAME", requires = "reader")]
    pub(crate) reads: Vec<String>,
    /// Fingerprint of a reader whom nothing more is sealed to
    #[arg(long, value_name = "HEX")]
    pub(crate) drop_reader: Vec<String>,
}

#[derive(Subcommand)]
pub(crate) enum PassphraseCommand {
    /// Puts the phone's keys under a passphrase, which every command needs from then on. A forgotten one cannot be replaced
    Set,
    /// Puts them under another
    Change {
        /// File with the new passphrase [default: asks on the terminal]
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Leaves them in the phone's folder in clear
    Remove,
}

#[derive(ClapArgs)]
pub(crate) struct Subscribe {
    /// The collection's name
    pub(crate) collection: String,
    /// The destination, by its name or the beginning of its fingerprint [default: the only one]
    #[arg(long)]
    pub(crate) destination: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum ReaderCommand {
    /// Makes one
    New {
        /// What its certificate calls this phone
        #[arg(long, value_name = "TEXT", default_value = "Waypost reader")]
        name: String,
    },
    /// Takes one that was made elsewhere, without a passphrase
    Import {
        /// The secret key, binary or armored, or - for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Its certificate, for the destination's operator and for phones whose documents this one shall read
    ExportCertificate {
        /// Writes it here, in place of standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

#[derive(ClapArgs)]
pub(crate) struct Open {
    /// Ids, or their beginnings
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) ids: Vec<String>,
    /// All that were received
    #[arg(long, requires = "to")]
    pub(crate) all: bool,
    /// Writes files into this folder; without it the content of a single document goes to standard output
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum DeleteOnArg {
    /// When it has been opened
    Opened,
    /// Also when it is held unopened
    Held,
}

impl From<DeleteOnArg> for DeleteOn {
    fn from(arg: DeleteOnArg) -> Self {
        match arg {
            DeleteOnArg::Opened => DeleteOn::Opened,
            DeleteOnArg::Held => DeleteOn::Held,
        }
    }
}

#[derive(ClapArgs)]
pub(crate) struct Pair {
    /// The text in the kiosk's QR code (waypost://pair?…), a picture of the code (PNG), or - for standard input
    #[arg(value_name = "TEXT|PNG")]
    pub(crate) text: String,
    /// Where the kiosk is, instead of what the code says
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "ble")]
    pub(crate) address: Option<String>,
    #[command(flatten)]
    pub(crate) bluetooth: Bluetooth,
    /// By Wi-Fi Direct: joins the kiosk's network by its button, or by --pin
    #[arg(long, conflicts_with_all = ["ble", "address"])]
    pub(crate) wifi_direct: bool,
    /// The PIN that the kiosk shows (`waypost wifi`)
    #[arg(long, value_name = "DIGITS", requires = "wifi_direct", value_parser = pin)]
    pub(crate) pin: Option<Pin>,
    #[command(flatten)]
    pub(crate) radio: WifiArgs,
    /// Only remembers it; the first sync pairs
    #[arg(long)]
    pub(crate) later: bool,
}

fn pin(text: &str) -> Result<Pin, String> {
    Pin::new(text)
        .ok_or_else(|| "a PIN has 8 digits, of which the last checks the others: look again".to_owned())
}

/// Which Wi-Fi radio.
#[derive(ClapArgs)]
pub(crate) struct WifiArgs {
    /// The Wi-Fi radio, by the name of its interface (wlan0), or `joined`: this system is in the kiosk's network by itself
    /// [default: the first]
    #[arg(long, value_name = "RADIO", env = "WAYPOST_PHONE_RADIO")]
    pub(crate) radio: Option<String>,
    /// D-Bus address of the bus that wpa_supplicant is on, if it is not the system's
    #[arg(long, value_name = "ADDRESS", env = "WAYPOST_PHONE_WIFI_BUS", hide = true)]
    pub(crate) wifi_bus: Option<String>,
}

impl WifiArgs {
    /// For what needs a radio of this program's.
    pub(crate) fn of_radio(&self) -> anyhow::Result<Wifi> {
        match self.use_of(true) {
            Some(wifi @ Wifi::Radio { .. }) => Ok(wifi),
            _ => anyhow::bail!("Wi-Fi Direct needs a radio; give --radio its interface's name"),
        }
    }

    /// How it is used, if it is.
    pub(crate) fn use_of(&self, is_used: bool) -> Option<Wifi> {
        is_used.then(|| match self.radio.as_deref() {
            Some("joined") => Wifi::Joined,
            radio => Wifi::Radio { interface: radio.map(str::to_owned), bus: self.wifi_bus.clone() },
        })
    }
}

/// Which Bluetooth adapter, and how it is used.
#[derive(ClapArgs)]
pub(crate) struct Bluetooth {
    /// Over Bluetooth
    #[arg(long)]
    pub(crate) ble: bool,
    /// The Bluetooth adapter, by its name (hci0) or its address
    #[arg(long, value_name = "ADAPTER", env = "WAYPOST_PHONE_ADAPTER", default_value = "best")]
    pub(crate) adapter: String,
}

#[derive(ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Gateways {
    #[command(subcommand)]
    pub(crate) command: Option<GatewaysCommand>,
    /// Also asks the local network
    #[arg(long)]
    pub(crate) lan: bool,
    /// Also by Wi-Fi Direct; takes up to 30 seconds
    #[arg(long)]
    pub(crate) wifi_direct: bool,
    #[command(flatten)]
    pub(crate) radio: WifiArgs,
    #[command(flatten)]
    pub(crate) bluetooth: Bluetooth,
    /// For so long
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) seconds: u64,
}

#[derive(Subcommand)]
pub(crate) enum GatewaysCommand {
    /// Forgets a kiosk or phone
    Forget {
        /// Its name, or the beginning of its key
        gateway: String,
    },
}

#[derive(ClapArgs)]
pub(crate) struct Add {
    /// Files
    #[arg(required_unless_present = "files_from")]
    pub(crate) files: Vec<PathBuf>,
    /// The destination, by its name or the beginning of its fingerprint [default: the only one]
    #[arg(long)]
    pub(crate) destination: Option<String>,
    /// The destination's collection [default: its usual one]
    #[arg(long, value_name = "NAME")]
    pub(crate) collection: Option<String>,
    /// Makes the file a revision of this record
    #[arg(long, value_name = "KEY")]
    pub(crate) record: Option<String>,
    /// Revisions of the record that it replaces
    #[arg(long, value_name = "ID", requires = "record")]
    pub(crate) replaces: Vec<String>,
    /// Files keep their names relative to this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) base: Option<PathBuf>,
    /// Takes names of files from here as well, each ended by a NUL byte; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) files_from: Option<PathBuf>,
    /// Keeps them back until `send`
    #[arg(long)]
    pub(crate) draft: bool,
    /// After so long nobody wants it any more, for example 30d
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) lifetime: Option<Duration>,
    /// 0 (ordinary) to 9
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=9))]
    pub(crate) priority: u8,
    /// The name that the destination shall see, of a single file
    #[arg(long, value_name = "NAME", conflicts_with = "base")]
    pub(crate) name: Option<std::ffi::OsString>,
}

#[derive(ClapArgs)]
pub(crate) struct Sync {
    /// This kiosk, by its name or the beginning of its key [default: the first that is near]
    #[arg(long, value_name = "GATEWAY")]
    pub(crate) to: Option<String>,
    /// At this address, instead of those that are known
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "ble")]
    pub(crate) address: Option<String>,
    #[command(flatten)]
    pub(crate) bluetooth: Bluetooth,
    /// By whatever finds the kiosk: the local network, else Bluetooth, from where it goes on over the kiosk's Wi-Fi if much is
    /// left, else Wi-Fi Direct
    #[arg(long, conflicts_with_all = ["address", "ble", "direct", "phone", "unverified"])]
    pub(crate) auto: bool,
    /// Over the local network only
    #[arg(long, conflicts_with_all = ["ble", "wifi_direct", "auto", "direct"])]
    pub(crate) lan: bool,
    /// By Wi-Fi Direct: joins the kiosk's network by its button, or by --pin
    #[arg(long, conflicts_with_all = ["ble", "address", "auto", "direct", "phone"])]
    pub(crate) wifi_direct: bool,
    /// The PIN that the kiosk shows (`waypost wifi`)
    #[arg(long, value_name = "DIGITS", requires = "wifi_direct", value_parser = pin)]
    pub(crate) pin: Option<Pin>,
    /// With --ble: goes on over the kiosk's Wi-Fi where much is left
    #[arg(long, requires = "ble")]
    pub(crate) wifi: bool,
    #[command(flatten)]
    pub(crate) radio: WifiArgs,
    /// Over GATT, also where an L2CAP channel is to be had
    #[arg(long, requires = "ble")]
    pub(crate) gatt: bool,
    /// Straight to the destinations, over the internet
    #[arg(long, conflicts_with_all = ["to", "address", "unverified", "phone", "ble"])]
    pub(crate) direct: bool,
    /// Stays, or comes again, so long until everything is confirmed
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) wait: Option<Duration>,
    /// With whoever answers at --address, or the nearest with --ble; hands over sealed documents, nothing else
    #[arg(long, conflicts_with_all = ["to", "phone"])]
    pub(crate) unverified: bool,
    /// With another phone: the text that its `listen` shows, or its name once they have met
    #[arg(long, value_name = "TEXT|NAME", conflicts_with = "to")]
    pub(crate) phone: Option<String>,
    /// A contact takes so long at most
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(ClapArgs)]
pub(crate) struct Listen {
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = ANYWHERE)]
    pub(crate) listen: String,
    #[command(flatten)]
    pub(crate) bluetooth: Bluetooth,
    /// Over GATT only, also with those who could open an L2CAP channel
    #[arg(long, requires = "ble")]
    pub(crate) gatt: bool,
    /// For a kiosk that calls phones, instead of other phones
    #[arg(long, requires = "ble")]
    pub(crate) kiosk: bool,
    /// Ends after one contact
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(ClapArgs)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) bluetooth: Bluetooth,
    /// By Wi-Fi Direct as well, and from Bluetooth over the kiosk's Wi-Fi where much is left. Without this and --ble, whatever this
    /// machine has is used
    #[arg(long)]
    pub(crate) wifi_direct: bool,
    /// Over the local network, and the internet, only
    #[arg(long, conflicts_with_all = ["ble", "wifi_direct"])]
    pub(crate) lan: bool,
    #[command(flatten)]
    pub(crate) radio: WifiArgs,
    /// Other phones may come as well, to this address
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = ANYWHERE)]
    pub(crate) listen: Option<String>,
}

#[derive(ClapArgs)]
pub(crate) struct Confirmations {
    /// Documents' ids, or their beginnings [default: every confirmation]
    pub(crate) ids: Vec<String>,
    /// Writes each as NAME.txt with its signature NAME.txt.asc into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
}
