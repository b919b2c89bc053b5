//! The configuration itself: every section and key, with default, unit and cost. `gateway.toml` is made from it.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use waypost_protocol::ids::PeerKey;

use crate::backhaul::{self, Backhaul};
use crate::destination::{Destination, Draft};
use crate::quantity::{Period, Size};
use crate::setting::section;
use crate::value::{
    AccessMode, AdapterName, FileName, GroupList, HostPort, LogLevel, LogMode, LogPlace, Name,
};
use crate::wifi::{RadioName, WifiChannels, WifiJoin, WifiMode};

section! {
    /// The configuration of a Waypost gateway.
    pub struct Config {
        /// The gateway's name: what phones show when they find it, up to 64 bytes. Everyone near can read it.
        [reload] name: Name = Name::of_gateway();
        /// Where documents are kept.
        [] store: Store = Store::default();
        /// Who the gateway is to phones.
        [] identity: Identity = Identity::default();
        /// Which phones are served.
        [] access: Access = Access::default();
        /// What phones may cost.
        [] limits: Limits = Limits::default();
        /// Phones over Wi-Fi or cable.
        [] lan: Lan = Lan::default();
        /// Phones over Bluetooth.
        [] ble: Ble = Ble::default();
        /// Phones over Wi-Fi Direct.
        [] wifi_direct: WifiDirect = WifiDirect::default();
        /// How documents get to their destinations.
        [] upload: Upload = Upload::default();
        /// Documents on USB sticks.
        [] bundles: Bundles = Bundles::default();
        /// What the gateway shares with other kiosks by way of a place that both reach.
        [] remote_log: RemoteLog = RemoteLog::default();
        /// What the admin is told besides.
        [] notices: Notices = Notices::default();
        /// How commands reach the gateway.
        [] control: Control = Control::default();
        /// What is logged.
        [] log: Log = Log::default();
        /// Ways to the internet, the preferred one first.
        #[schemars(with = "Vec<backhaul::Draft>")]
        [] backhaul: Vec<Backhaul> = Vec::new();
        /// The destinations, in the order of the files.
        #[schemars(with = "Vec<Draft>")]
        [] destination: Vec<Destination> = Vec::new();
    }
}

section! {
    /// Where documents are kept until they are delivered.
    pub struct Store {
        /// Folder of the database. The gateway's user must be able to write there, and the file system must honour
        /// flushes: what is acknowledged to a phone is on this disk.
        [restart, vital] path: PathBuf = PathBuf::from("/var/lib/waypost/store");
        /// At most this much is stored. Absent, the disk (see `reserve`) and `map_size` are the only limits. A full
        /// store refuses documents, which stay on their phones; nothing is dropped to make room.
        [restart] quota: Option<Size> = None, example "\"100GB\"";
        /// Percent of what may be stored that the documents of one phone may take, so that there is room for others'. What
        /// is beyond it stays on the phone until some of its documents are delivered.
        [restart] phone_share: u32 = 50, within 1, 100;
        /// The same for all phones together that are not paired, in mode "open".
        [restart] open_share: u32 = 5, within 1, 100;
        /// The same for all phones together that have come by a poster (`waypost posters`).
        [restart] poster_share: u32 = 5, within 1, 100;
        /// Disk space that is left free for the system and its logs: the store takes nothing in when less is free.
        [restart] reserve: Size = Size::mib(512), within Size::mib(16), Size::gib(1024);
        /// Largest size that the database may ever have. Costs address space only, neither disk nor memory; documents
        /// are taken up to 90 % of it. Use 1GiB on 32-bit systems.
        [restart] map_size: Size = Size::gib(64), within Size::mib(16), Size::gib(16_384);
        /// How long it is remembered what was deleted or has expired, and how long confirmations are kept for phones that
        /// have not fetched them. A phone that stays away for longer can bring a deleted document back, and keeps its
        /// copies until it hears from the destination itself. Costs about 100 bytes for each document.
        [restart] remember: Period = Period::days(400), within Period::days(1), Period::days(400);
        /// File with the key that encrypts the store: 32 bytes, or the same as 64 hexadecimal digits; nobody else may read
        /// it. Absent, it is the systemd credential `waypost.store-key`, where there is one; else it is made and lies
        /// beside the store, and whoever takes the disk can read sizes, times and labels (documents stay sealed).
        [restart, vital] key_file: Option<PathBuf> = None, example "\"/etc/waypost/store.key\"";
    }
}

section! {
    /// Who the gateway is to phones.
    pub struct Identity {
        /// File with the gateway's secret key; made at the first start. Paired phones know the gateway by it: without
        /// it they have to pair again. Absent, it is the systemd credential `waypost.identity`, where there is one, else
        /// /var/lib/waypost/identity.key.
        [restart, vital] key_file: Option<PathBuf> = None, example "\"/var/lib/waypost/identity.key\"";
    }
}

section! {
    /// Which phones are served.
    pub struct Access {
        /// "open": all; those that are not paired may only deposit small sealed documents. "paired": those that were
        /// paired with a code from `waypost pair`. "listed": only those in `listed`. A change ends the sessions of
        /// phones that are no longer served.
        [reload, vital] mode: AccessMode = AccessMode::Paired;
        /// Keys of the phones that are served in mode "listed", as 64 hexadecimal digits or 43 characters of base64url
        /// (on the phone: `waypost-phone status`). An entry that cannot be read is left out.
        #[schemars(with = "Vec<String>", extend("items" = peer_key_schema()))]
        [reload] listed: Vec<PeerKey> = Vec::new();
        /// How long a pairing code can be used after it was shown. A longer time gives whoever photographs it more time.
        [reload] code_lifetime: Period = Period::minutes(10), within Period::secs(10), Period::days(366);
    }
}

section! {
    /// What one phone, and all of them together, may cost.
    pub struct Limits {
        /// The largest document that is taken, in bytes of its sealed body. Costs disk, no memory.
        [reload] max_document: Size = Size::gib(1), within Size::kib(1), Size::gib(1024);
        /// The same for phones that are not paired, in mode "open".
        [reload] open_max_document: Size = Size::kib(64), within Size::kib(1), Size::gib(1024);
        /// The highest priority that a phone's documents count with among its own of a collection; higher ones count as this.
        /// 0 switches priorities off. They never come before another phone's.
        [reload] max_priority: u32 = 9, within 0, 9;
        /// Sessions with phones at the same time; more are told to come again. Over networks half of them is for phones that
        /// are known. Costs about 0.5 MiB of memory each while documents move.
        [reload] sessions: u32 = 100, within 1, 10_000;
        /// Of these, how many from one IP address, so that one device cannot take all.
        [reload] sessions_per_address: u32 = 16, within 1, 10_000;
        /// Connections over networks at the same time that have not proven who they are yet; each radio has a bound of
        /// its own. More protects nobody; fewer delay phones that come all at once.
        [reload] half_open: u32 = 16, within 1, 1_000;
        /// A session in which nothing happens for so long is ended; the phone goes on later where it stopped. Longer
        /// holds places of `sessions`.
        [reload] idle_timeout: Period = Period::secs(60), within Period::secs(5), Period::days(1);
        /// How long a phone may take to prove who it is. Slow radios need several seconds.
        [reload] handshake_timeout: Period = Period::secs(10), within Period::secs(1), Period::minutes(10);
    }
}

section! {
    /// Phones over Wi-Fi or cable: TCP on the local network.
    pub struct Lan {
        /// Whether phones are served over the local network.
        [restart] enabled: bool = true;
        /// Addresses to listen on, each with its port. The default is every interface, IPv6 and IPv4. Port 0 is any free one.
        #[schemars(with = "Vec<String>")]
        [restart] listen: Vec<SocketAddr> = vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, 4180))];
        /// Whether the gateway says on the network that it is there (DNS-SD, `_waypost._tcp`), so that phones find it by
        /// themselves. Costs a few packets an hour.
        [restart] advertise: bool = true;
        /// Addresses that pairing codes tell phones, most likely first, each with its port. Empty, those of the network
        /// interfaces. Longer lists make larger QR codes.
        [reload] addresses: Vec<HostPort> = Vec::new();
    }
}

section! {
    /// Phones over Bluetooth LE, by the system's Bluetooth service (BlueZ). Where there is none, or no adapter, this is said
    /// in the log and in `waypost status`, and everything else goes on. docs/bluetooth.md has the settings of BlueZ itself.
    pub struct Ble {
        /// Whether phones are served over Bluetooth.
        [restart] enabled: bool = true;
        /// The adapters to use: "best" for the one that can do most, "all", or names such as "hci0" and addresses as
        /// `bluetoothctl list` shows them. An adapter may come and go.
        #[schemars(with = "Vec<String>")]
        [restart] adapters: Vec<AdapterName> = vec![AdapterName::best()];
        /// Phones that are served at the same time on each adapter. More are told their place in the queue, over one more
        /// link, so that this should be one less than the adapter holds; those of Raspberry Pis hold about 8. While others
        /// wait, each is served for a while and comes again.
        [restart] links: u32 = 7, within 1, 32;
        /// Whether the gateway also looks for paired phones that wait to be called, and calls them. Costs scanning:
        /// `call_window` in every `call_interval`, during which the adapter hears less of everyone else.
        [restart] call: bool = false;
        /// The pause between two looks.
        [restart] call_interval: Period = Period::secs(60), within Period::secs(2), Period::minutes(60);
        /// For how long. A phone that advertises as the reference phone does is heard within 2 seconds.
        [restart] call_window: Period = Period::secs(4), within Period::secs(1), Period::secs(10);
    }
}

section! {
    /// Phones over Wi-Fi Direct, by the system's wpa_supplicant: the gateway has a network of its own, which phones, laptops
    /// and whatever else has Wi-Fi can join, and that leads to the gateway alone. Its name and passphrase are made once and
    /// stay (`waypost wifi` shows them). docs/wifi.md has what the system needs for it.
    pub struct WifiDirect {
        /// "off": the radio is left alone. "always": the network is there. "on-demand": it comes when a phone that is here over
        /// Bluetooth has so much to hand over that Wi-Fi is worth it, or when one asks for it, and goes again. Before it is
        /// switched on, the firewall of docs/wifi.md should be: everybody near may be in the network.
        [restart] mode: WifiMode = WifiMode::Off;
        /// The radio, by the name of its network interface; "auto" is the first one. It may be in another network besides,
        /// where its driver can do both; then both share a channel, if that is among `channels`.
        #[schemars(with = "String")]
        [restart] interface: RadioName = RadioName::auto();
        /// Where the network may be: "auto" (5 GHz where the country allows it, since 2.4 GHz is what Bluetooth needs as well,
        /// else 2.4 GHz), "5GHz", "2.4GHz", or channels such as [36, 6], of which the first that is allowed is used.
        [restart] channels: WifiChannels = WifiChannels::Auto;
        /// How phones join that do not know the passphrase. "button": whoever asks by Wi-Fi Direct is let in, as if somebody had
        /// pressed a button here. "pin": whoever types the PIN that `waypost wifi` shows. "closed": nobody. Whoever is in the
        /// network still has to prove who he is to the gateway.
        [restart] join: WifiJoin = WifiJoin::Button;
        /// "on-demand": how long the network stays that nobody is in. Longer costs power.
        [restart] idle: Period = Period::minutes(5), within Period::secs(5), Period::days(1);
        /// Phones that are served over it at the same time. Radios of Raspberry Pis hold 7 to 10 stations. More are told their
        /// place in the queue.
        [restart] links: u32 = 7, within 1, 64;
    }
}

section! {
    /// How documents get to their destinations.
    pub struct Upload {
        /// How often a destination that cannot be reached is tried again, at first. The wait doubles with each failure,
        /// up to `max_backoff`. Each try costs about 5 KB of the backhaul.
        [reload] probe_interval: Period = Period::secs(60), within Period::secs(1), Period::days(1);
        /// The longest wait between two tries.
        [reload] max_backoff: Period = Period::minutes(15), within Period::secs(1), Period::days(7);
        /// How long one connection may take to be made, TLS included. Satellite links need several seconds.
        [reload] connect_timeout: Period = Period::secs(30), within Period::secs(1), Period::minutes(10);
        /// A request on which no byte moves for so long is given up and tried again later.
        [reload] idle_timeout: Period = Period::secs(60), within Period::secs(1), Period::minutes(60);
        /// At most so many documents in one request. More save round trips; what a broken request carried is asked
        /// about before it is sent again.
        [reload] batch_documents: u32 = 1024, within 1, 1024;
        /// At most this much in one request of several documents; a larger document has a request of its own.
        [reload] batch_bytes: Size = Size::mib(4), within Size::kib(64), Size::gib(1);
    }
}

section! {
    /// Documents that travel on a USB stick. `waypost export` and `waypost import` work without any of this.
    pub struct Bundles {
        /// Whether a stick with the marker file is imported from and exported to when it is mounted. Whoever can plug one
        /// in can bring documents for the destinations below, as many as the store takes, and take sealed ones away.
        [restart] enabled: bool = false;
        /// Name of the file, at the top of the stick, that says that the stick is meant for this.
        [reload] marker: FileName = FileName::marker();
        /// Below which folders sticks are mounted. Mounting them is the system's part.
        #[schemars(with = "Vec<String>")]
        [reload] folders: Vec<PathBuf> = ["/media", "/run/media", "/mnt"].map(PathBuf::from).to_vec();
    }
}

section! {
    /// What the gateway shares with other kiosks by way of a place that both reach (docs/remote-log.md). A document is
    /// published while its bytes are here, and is of use at another kiosk while its bytes are there: see `keep` of the
    /// destination. Documents with a lifetime are never published.
    pub struct RemoteLog {
        /// Whether the gateway publishes a log of the documents that phones have brought. `waypost status` shows its key.
        [reload] publish: bool = false;
        /// Where logs are: "destination" (each destination has those of its own documents), or "folder:/path" on a stick or
        /// a shared disk. The folder must be there; where a stick is missing, it is waited for.
        [reload] to: LogPlace = LogPlace::Destination;
        /// How the log is laid out. "full": documents in the pages, nothing else to fetch. "page": pages of 256 documents,
        /// each fetched by those who want it. "linked": a page for each document, the least to write and the most round
        /// trips to read. "mixed": the last `inline_last` documents in the newest page, older ones as in "page".
        [reload] mode: LogMode = LogMode::Page;
        /// For "mixed". More save round trips for kiosks that come often; each time all of them are sent again.
        [reload] inline_last: u32 = 16, within 0, 128;
        /// Keys of the logs that are followed, as their gateways' `waypost status` shows them. Whoever has such a key's
        /// secret can fill this gateway's store with documents of collections that it carries, as a paired phone can.
        #[schemars(with = "Vec<String>", extend("items" = peer_key_schema()))]
        [reload] follow: Vec<PeerKey> = Vec::new();
        /// Collections, by group id, that are published and taken. Absent, all that the gateway carries.
        #[schemars(with = "Option<Vec<String>>", extend("items" = group_schema()))]
        [reload] collections: Option<GroupList> = None,
            example "[\"0000000000000000000000000000000000000000000000000000000000000000\"]";
        /// How often logs that are followed are looked at, besides when a backhaul appears. Costs about 500 bytes for each.
        [reload] interval: Period = Period::minutes(15), within Period::secs(1), Period::days(7);
    }
}

section! {
    /// What needs the admin is a notice: a warning in the log, a line of `waypost status`, and of a kiosk's console. There
    /// is one too where the disk is 90 % full, a certificate ends within 30 days, the clock is behind, or a Bluetooth
    /// adapter has to be reset again and again.
    pub struct Notices {
        /// How long documents may wait for a destination before that is told, by the time that the gateway was on.
        [reload] waiting: Period = Period::days(3), within Period::secs(1), Period::days(400);
    }
}

section! {
    /// How the commands (`waypost status` and others) reach the running gateway.
    pub struct Control {
        /// The Unix socket. Who may write to it may administer the gateway.
        [restart] socket: PathBuf = PathBuf::from("/run/waypost/control.sock");
    }
}

section! {
    /// What is logged, to the journal under systemd, else to standard error.
    pub struct Log {
        /// "error": what needs the admin. "warn": what was passed over, too. "info": contacts, uploads, confirmations.
        /// "debug": each document. "trace": each frame; fills a small disk within days. Secret keys, codes and tokens are
        /// logged at no level; public keys and addresses of phones are, from "info" on.
        [reload] level: LogLevel = LogLevel::Info;
    }
}

/// Both writings of a key.
fn peer_key_schema() -> serde_json::Value {
    serde_json::json!({ "type": "string", "pattern": r"^\s*([0-9a-fA-F]{64}|[A-Za-z0-9_-]{43})\s*$" })
}

fn group_schema() -> serde_json::Value {
    serde_json::json!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" })
}

impl Config {
    /// The destination of this name.
    pub fn destination(&self, name: &str) -> Option<&Destination> {
        self.destination.iter().find(|destination| destination.name.as_str() == name)
    }
}
