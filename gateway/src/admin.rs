//! What an admin can ask and do: the same over the control socket and, while no daemon runs, on the store itself.

use std::collections::BTreeMap;

use crate::remote_log::LogStatus;
use serde::{Deserialize, Serialize};
use waypost_ble::AdapterStatus;
use waypost_openpgp::Chain;
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::ids::{Fingerprint, GroupId, MessageId, PeerKey, Seq, StoreId};
use waypost_protocol::succession;
use waypost_protocol::time::UnixTime;
use waypost_store::{Applied, Change, DocumentEntry, Filter, PeerClass, PeerEntry, Poster, State, Store};
use waypost_wifi_direct::GroupStatus;

use crate::bundle::{Job, Task};
use crate::destinations::{chain_key, stored_chain, tag_key, without_learnt};
pub use crate::notices::{About, Notice};

/// Documents in one answer; the next page begins after the last.
pub const PAGE: usize = 500;

/// A request.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// How the gateway is. Answered by the daemon only.
    Status,
    /// A new pairing code. Answered by the daemon only.
    Pair,
    /// A printed code. Answered by the daemon only.
    Poster {
        /// What it is called.
        name: String,
        /// What is to be done.
        wish: PosterWish,
    },
    /// The posters.
    Posters,
    /// Voids a poster, and revokes the phones that came by it.
    RevokePoster {
        /// What it is called.
        name: String,
    },
    /// How to join the gateway's own Wi-Fi network. Answered by the daemon only.
    Wifi,
    /// Reads the configuration again. Answered by the daemon only.
    Reload,
    /// What of the configuration files the running gateway has not taken up. Answered by the daemon only.
    Changes,
    /// A page of documents.
    Documents {
        /// Only those that wait for their destination.
        waiting: bool,
        /// Those after this one.
        after: Option<Seq>,
    },
    /// One document, by its id or the beginning of it.
    Document {
        /// Hexadecimal digits.
        id: String,
    },
    /// Deletes a document for good.
    DeleteDocument {
        /// Hexadecimal digits.
        id: String,
    },
    /// All peers.
    Peers,
    /// Takes nothing from a peer any more.
    Revoke {
        /// Its key, or the beginning of it, or its label.
        peer: String,
    },
    /// Forgets what was learnt of a destination's certificates beside those of the configuration.
    ResetCertificates {
        /// Its first fingerprint.
        destination: Fingerprint,
        /// Those of the configuration, as [`succession::encode`] makes them.
        configured: Vec<u8>,
    },
    /// Opens every value of the store and compares what must agree.
    CheckStore,
    /// Begins to write or read a bundle. Answered by the daemon only.
    Bundle(Task),
    /// How a task of [`Request::Bundle`] stands. Answered by the daemon only.
    BundleJob {
        /// Its number.
        number: u64,
    },
}

/// An answer.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Pair`]: the text of the QR code, and for how many seconds it is valid.
    Code {
        /// `waypost://pair?…`
        text: String,
        /// Seconds.
        valid: u64,
    },
    /// To [`Request::Poster`].
    Poster {
        /// `waypost://pair?…`
        text: String,
    },
    /// To [`Request::Posters`].
    Posters(Vec<PosterStatus>),
    /// To [`Request::RevokePoster`].
    PosterRevoked {
        /// The phones.
        peers: Vec<PeerKey>,
    },
    /// To [`Request::Wifi`].
    Wifi(WifiInvitation),
    /// To [`Request::Reload`] and [`Request::Changes`]: what is wrong, what has changed, what waits for a restart.
    Reloaded {
        /// Whether none of them is an error.
        ok: bool,
        /// Problems, as `waypost check` prints them.
        problems: Vec<String>,
        /// Keys that have changed and take effect on SIGHUP.
        changed: Vec<String>,
        /// Keys that have changed and take effect after a restart.
        needs_restart: Vec<String>,
    },
    /// To [`Request::Documents`].
    Documents {
        /// In the order in which they came.
        documents: Vec<Document>,
        /// Where the next page begins; `None` at the end.
        next: Option<Seq>,
    },
    /// To [`Request::Document`].
    Document(Box<Document>),
    /// To [`Request::Peers`].
    Peers(Vec<Peer>),
    /// To [`Request::Revoke`].
    Revoked(PeerKey),
    /// To [`Request::DeleteDocument`].
    Deleted(MessageId),
    /// To [`Request::ResetCertificates`].
    Reset(Fingerprint),
    /// To [`Request::CheckStore`]: what is wrong; empty when all is well.
    Findings(Vec<String>),
    /// To [`Request::Bundle`] and [`Request::BundleJob`].
    BundleJob(Box<Job>),
}

/// What it takes to join the gateway's own Wi-Fi network.
#[derive(Clone, Serialize, Deserialize)]
pub struct WifiInvitation {
    /// Its name.
    pub ssid: String,
    /// Its passphrase.
    pub passphrase: String,
    /// The PIN for phones that join by Wi-Fi Direct; absent where they join otherwise.
    pub pin: Option<String>,
    /// How those join that do not know the passphrase, as in the configuration.
    pub join: String,
}

impl std::fmt::Debug for WifiInvitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WifiInvitation").field("ssid", &self.ssid).finish_non_exhaustive()
    }
}

/// How the gateway is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Program version.
    pub version: String,
    /// The gateway's name.
    pub name: String,
    /// The gateway's static key.
    pub key: PeerKey,
    /// The store's name.
    pub store: StoreId,
    /// Seconds since the daemon started.
    pub running: u64,
    /// Addresses that LAN links come to.
    pub listening: Vec<String>,
    /// Each Bluetooth adapter that is used; one entry without a name where none is there.
    pub bluetooth: Vec<AdapterStatus>,
    /// The gateway's own Wi-Fi network; absent where Wi-Fi Direct is off.
    #[serde(default)]
    pub wifi: Option<GroupStatus>,
    /// Phones in conversation now.
    pub sessions: usize,
    /// Phones that wait for their turn on a radio that serves others.
    pub in_line: usize,
    /// Contacts since the start.
    pub contacts: u64,
    /// Frame bytes since the start, both ways.
    pub link_bytes: u64,
    /// Pairing codes that phones have used up since the start, known phones too.
    #[serde(default)]
    pub codes_used: u64,
    /// Documents on their way to a destination.
    pub waiting: u64,
    /// Documents that destinations have opened.
    pub opened: u64,
    /// Documents that destinations hold unopened.
    pub held: u64,
    /// Documents that destinations have rejected.
    pub rejected: u64,
    /// Bodies that phones have begun to send.
    pub partials: u64,
    /// Documents that were damaged here and are asked for again, counted for each phone that brought them.
    pub asked_for_again: u64,
    /// Bytes that the store uses.
    pub used: u64,
    /// Bytes that it may still take.
    pub room: u64,
    /// Interfaces with a default route, the one that the kernel prefers first; absent where the kernel does not tell.
    pub networks: Option<Vec<String>>,
    /// Each backhaul of the configuration, in its order.
    pub backhauls: Vec<BackhaulStatus>,
    /// Each destination that is served.
    pub destinations: Vec<DestinationStatus>,
    /// The bundle that is being written or read, or the last one; absent where there was none since the start.
    pub bundle: Option<Job>,
    /// The public key of this gateway's own remote log: what others put into their `follow`.
    pub log_key: String,
    /// Remote logs, by place.
    pub remote_logs: Vec<LogStatus>,
    /// What of the configuration could not be used, as `waypost check` prints it: destinations left out, for example.
    pub problems: Vec<String>,
    /// When a destination last gave verdicts on documents of this gateway, by its own clock; absent where none ever did.
    #[serde(default)]
    pub last_upload: Option<UnixTime>,
    /// Whether the clock can be relied on: it is not behind what destinations have signed, and a time server or a destination has
    /// confirmed it since the machine was switched on.
    #[serde(default)]
    pub clock_trusted: bool,
    /// Phones and gateways that are known here.
    #[serde(default)]
    pub peers: usize,
    /// What needs the admin.
    #[serde(default)]
    pub notices: Vec<Notice>,
}

/// How it stands with a backhaul.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackhaulStatus {
    /// Its name in the configuration.
    pub name: String,
    /// In use, connected, not connected, leading nowhere, or why it is not used.
    pub state: String,
    /// "free" or "metered".
    pub cost: String,
    /// Bytes of the day that is under way.
    pub day: u64,
    /// How many it may have.
    pub day_budget: Option<u64>,
    /// Bytes of the month that is under way.
    pub month: u64,
    /// How many it may have.
    pub month_budget: Option<u64>,
}

/// How it stands with a destination.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DestinationStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Its first fingerprint.
    pub fingerprint: Fingerprint,
    /// How it can be reached: a word of [`waypost_upload::PathState`].
    pub state: String,
    /// What is wrong and what to do, where something is.
    pub trouble: Option<String>,
    /// The network interface that its last connection went over; absent before, and where the system's routes decide.
    pub interface: Option<String>,
    /// Uploads set aside: the destination does not take them.
    pub set_aside: BTreeMap<MessageId, String>,
    /// Documents uploaded since the start.
    pub uploaded: u64,
    /// Bytes of the requests that they went in.
    pub uploaded_bytes: u64,
    /// Documents confirmed since the start.
    pub confirmed: u64,
    /// Bytes of the upload under way: sent and in all.
    pub progress: Option<(u64, u64)>,
    /// Its certificates, the pinned one first, each further one succeeding the one before it.
    pub certificates: Vec<Fingerprint>,
    /// Why a certificate that its server hands out is not taken.
    pub chain_trouble: Option<String>,
}

/// A document, as far as a gateway can know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Document {
    /// Message id.
    pub id: MessageId,
    /// Destination.
    pub destination: Fingerprint,
    /// Collection.
    pub group: GroupId,
    /// Bytes of the envelope.
    pub size: u64,
    /// Where it stands.
    pub state: DocumentState,
    /// Whether its bytes are still here; a verdict of the destination frees them.
    pub has_body: bool,
    /// Who brought it; absent for the gateway itself.
    pub from: Option<PeerKey>,
    /// When it came, by this gateway's clock.
    pub arrived: UnixTime,
    /// Uploads begun.
    pub attempts: u32,
    /// Depth of the revision, where it is one of a record.
    #[serde(default)]
    pub revision: u64,
    /// Revisions of its record that it replaces.
    #[serde(default)]
    pub replaces: Vec<MessageId>,
}

/// Where a document stands at the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "verdict")]
pub enum DocumentState {
    /// Waits for the backhaul.
    Waiting,
    /// Kept back.
    Draft,
    /// The destination has spoken.
    Confirmed(Verdict),
    /// It came for subscribers.
    Received,
}

impl std::fmt::Display for DocumentState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DocumentState::Waiting => "waiting",
            DocumentState::Draft => "draft",
            DocumentState::Confirmed(verdict) => verdict.words(),
            DocumentState::Received => "for subscribers",
        })
    }
}

/// What is to be done with a poster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PosterWish {
    /// A new one.
    Add,
    /// Its code once more.
    Show,
    /// Another code in the place of the one that it has, which is void. Who has come by it comes again.
    Rotate,
}

/// A poster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PosterStatus {
    /// What it is called.
    pub name: String,
    /// Whether phones can come by its code.
    pub is_valid: bool,
    /// How many have, and are not revoked.
    pub phones: u64,
}

/// A peer.
#[derive(Clone, Serialize, Deserialize)]
pub struct Peer {
    /// Its static key.
    pub key: PeerKey,
    /// The name that it gave itself.
    pub label: String,
    /// What it may do.
    pub class: String,
    /// Nothing is taken from it any more.
    pub revoked: bool,
    /// By this gateway's clock.
    pub last_contact: UnixTime,
    /// Documents that it brought first.
    pub documents: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// Answers what the store alone can answer. An error is in words, and names the next thing to do.
pub fn answer(store: &Store, request: &Request) -> Result<Answer, String> {
    let words = |error: waypost_store::StoreError| error.to_string();
    match request {
        Request::Status
        | Request::Pair
        | Request::Poster { .. }
        | Request::Wifi
        | Request::Reload
        | Request::Changes
        | Request::Bundle(_)
        | Request::BundleJob { .. } => {
            Err("only a running gateway can answer that; start it with `waypost run`".into())
        }
        Request::Documents { waiting, after } => {
            let filter = if *waiting { Filter::Waiting } else { Filter::All };
            let rows = store.documents(&filter, *after, PAGE).map_err(words)?;
            let next = (rows.len() == PAGE).then(|| rows.last().map(|row| row.seq)).flatten();
            Ok(Answer::Documents { documents: rows.iter().map(Document::from).collect(), next })
        }
        Request::Document { id } => {
            let id = find_document(store, id)?;
            let row = store.document(&id).map_err(words)?.ok_or_else(|| no_document(&id.to_string()))?;
            Ok(Answer::Document(Box::new(Document::from(&row))))
        }
        Request::DeleteDocument { id } => {
            let id = find_document(store, id)?;
            store.apply_one(Change::Delete { id }).map_err(|error| error.to_string())?;
            Ok(Answer::Deleted(id))
        }
        Request::Peers => Ok(Answer::Peers(store.peers().map_err(words)?.iter().map(Peer::from).collect())),
        Request::Revoke { peer } => {
            let peer = find_peer(store, peer)?;
            store.apply_one(Change::Revoke { peer }).map_err(|error| error.to_string())?;
            Ok(Answer::Revoked(peer))
        }
        Request::Posters => {
            let posters = store.posters().map_err(|error| error.to_string())?;
            let status = |one: Poster| PosterStatus {
                name: one.name,
                is_valid: one.secret.is_some(),
                phones: one.peers,
            };
            Ok(Answer::Posters(posters.into_iter().map(status).collect()))
        }
        Request::RevokePoster { name } => {
            let remove = Change::RemovePoster { name: name.clone(), revoke: true };
            match store.apply_one(remove).map_err(|error| error.to_string())? {
                Applied::Revoked(peers) => Ok(Answer::PosterRevoked { peers }),
                _ => Ok(Answer::PosterRevoked { peers: Vec::new() }),
            }
        }
        Request::ResetCertificates { destination, configured } => {
            let links = succession::decode(configured).map_err(|error| error.to_string())?;
            let configured = Chain::from_links(&links).map_err(|error| error.to_string())?;
            let chain = match (configured, stored_chain(store, destination)) {
                (Some(configured), Some(learnt)) => Some(without_learnt(configured, &learnt)),
                (configured, _) => configured,
            };
            let stays = chain.map(|chain| succession::encode(&chain.links()));
            for (key, value) in [(chain_key(destination), stays), (tag_key(destination), None)] {
                store.apply_one(Change::Put { key, value }).map_err(|error| error.to_string())?;
            }
            Ok(Answer::Reset(*destination))
        }
        Request::CheckStore => {
            let findings = store.check().map_err(words)?;
            Ok(Answer::Findings(findings.iter().map(ToString::to_string).collect()))
        }
    }
}

fn no_document(id: &str) -> String {
    format!("no document {id} here; `waypost documents list` shows which there are")
}

fn find_document(store: &Store, digits: &str) -> Result<MessageId, String> {
    if digits.len() < 4 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("{digits:?} is no document id: give at least its first 4 hexadecimal digits"));
    }
    match store.find_by_prefix(digits, 2).map_err(|error| error.to_string())?.as_slice() {
        [one] => Ok(*one),
        [] => Err(no_document(digits)),
        _ => Err(format!("several documents begin with {digits}; give more digits")),
    }
}

fn find_peer(store: &Store, text: &str) -> Result<PeerKey, String> {
    let peers = store.peers().map_err(|error| error.to_string())?;
    let digits = text.to_ascii_lowercase();
    let matches = |peer: &&PeerEntry| {
        peer.label == text || (digits.len() >= 4 && peer.key.to_string().starts_with(&digits))
    };
    match peers.iter().filter(matches).collect::<Vec<_>>().as_slice() {
        [one] => Ok(one.key),
        [] => Err(format!("no peer {text:?} here; `waypost peers list` shows which there are")),
        _ => Err(format!("several peers match {text:?}; give more digits of the key")),
    }
}

impl From<&DocumentEntry> for Document {
    fn from(row: &DocumentEntry) -> Self {
        Document {
            id: row.description.id,
            destination: row.header.destination,
            group: row.description.group,
            size: row.description.size,
            state: match row.state {
                State::Draft => DocumentState::Draft,
                State::Waiting => DocumentState::Waiting,
                State::Confirmed(verdict) => DocumentState::Confirmed(verdict),
                State::Received(_) => DocumentState::Received,
            },
            has_body: row.has_body,
            from: row.depositor,
            arrived: row.arrived,
            attempts: row.attempts,
            revision: row.header.revision,
            replaces: row.header.replaces.clone(),
        }
    }
}

impl From<&PeerEntry> for Peer {
    fn from(row: &PeerEntry) -> Self {
        Peer {
            key: row.key,
            label: row.label.clone(),
            class: class_word(row.class).to_owned(),
            revoked: row.revoked,
            last_contact: row.last_contact,
            documents: row.deposited,
            bytes: row.deposited_bytes,
        }
    }
}

/// The word for a class.
pub(crate) fn class_word(class: PeerClass) -> &'static str {
    match class {
        PeerClass::Paired => "paired",
        PeerClass::Listed => "listed",
        PeerClass::Poster => "poster",
        PeerClass::Open => "open",
        PeerClass::Gateway => "gateway",
    }
}

/// The class of a word.
pub(crate) fn class_of_word(word: &str) -> Option<PeerClass> {
    use PeerClass::{Gateway, Listed, Open, Paired, Poster};
    [Paired, Listed, Poster, Open, Gateway].into_iter().find(|class| class_word(*class) == word)
}
