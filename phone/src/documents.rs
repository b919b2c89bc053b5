//! What became of the phone's documents: six states in plain words, conflicts, confirmations.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use waypost_protocol::confirmation::{Confirmation, Rejection, Verdict};
use waypost_protocol::ids::{GroupId, MessageId, PeerKey, RecordTag, Seq};
use waypost_protocol::time::UnixTime;
use waypost_store::{Change, ChangeError, DocumentEntry, Filter, PeerClass, State, StoreError};

use crate::Phone;
use crate::destination::Destination;
use crate::settings::SettingError;

/// Documents are read so many at a time.
const PAGE: usize = 512;

/// Why a document cannot be shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// The store cannot be written.
    #[error(transparent)]
    Write(#[from] ChangeError),
    /// What the phone knows of peers and destinations cannot be read.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// No id begins so.
    #[error("no document's id begins with `{0}`; `waypost-phone list --all` shows them")]
    Unknown(String),
    /// Several ids begin so.
    #[error("several documents' ids begin with `{0}`; give more of it")]
    Ambiguous(String),
    /// It is no draft.
    #[error("document {0} is no draft; it is on its way already")]
    NoDraft(MessageId),
}

/// Where a document of the phone stands (design R34).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Kept back until it is sent.
    Draft,
    /// Waits for a kiosk or the internet.
    Ready,
    /// A kiosk has it; the destination has not spoken yet.
    AtTheKiosk,
    /// The destination has confirmed it.
    AtTheServer,
    /// The kiosk or the destination does not want it.
    Refused,
    /// Two revisions of one record, neither of which replaces the other.
    Conflict,
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Standing::Draft => "draft",
            Standing::Ready => "ready",
            Standing::AtTheKiosk => "at the kiosk",
            Standing::AtTheServer => "at the server",
            Standing::Refused => "refused",
            Standing::Conflict => "conflict",
        })
    }
}

/// A document, as the phone's user is told of it.
#[derive(Clone, Serialize)]
pub struct Listed {
    /// Its id.
    pub id: MessageId,
    /// The file's name, or empty.
    pub name: String,
    /// Where it stands.
    pub state: Standing,
    /// Why, where there is something to say.
    pub why: String,
    /// Bytes of the sealed document.
    pub size: u64,
    /// Where it goes.
    pub destination: String,
    /// Its collection, where that is known.
    pub collection: String,
    /// When it was added, by the phone's clock.
    pub added: UnixTime,
    /// Whether the phone still has its contents.
    pub is_here: bool,
}

/// Shows no name.
impl std::fmt::Debug for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listed").field("id", &self.id).field("state", &self.state).finish_non_exhaustive()
    }
}

/// A document of a subscription. What is in it is known only after it was opened.
#[derive(Debug, Clone, Serialize)]
pub struct ReceivedDocument {
    /// Its id.
    pub id: MessageId,
    /// Bytes of the sealed document.
    pub size: u64,
    /// Whose it is.
    pub destination: String,
    /// Its collection, where that is known.
    pub collection: String,
    /// When it came, by the phone's clock.
    pub received: UnixTime,
    /// Whether the destination has confirmed that it has it.
    pub at_the_server: bool,
}

/// What a rejection means, for people.
pub fn rejection_words(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::UnknownCollection => "the destination does not have this collection",
        Rejection::CannotOpen => "the destination cannot open it",
        Rejection::TooLarge => "too large for the destination",
        Rejection::AuthorRevoked => "its author's key was revoked",
    }
}

impl Phone {
    /// The phone's own documents, oldest first; with `all` also those that were delivered and deleted.
    pub fn list(&self, all: bool) -> Result<Vec<Listed>, DocumentsError> {
        let entries = self.own_documents(Filter::All)?;
        let destinations = self.destinations()?;
        let mut peers = HashMap::new();
        for peer in self.store().peers()? {
            peers.insert(peer.key, (peer.class, peer.label));
        }
        let conflicts = conflicts(&entries);
        let lister = Lister { destinations: &destinations, peers: &peers, conflicts: &conflicts };
        let shown = entries.iter().map(|entry| lister.listed(entry));
        Ok(shown.filter(|one| all || one.is_here).collect())
    }

    /// Documents of subscriptions, oldest first.
    pub fn received(&self) -> Result<Vec<ReceivedDocument>, DocumentsError> {
        let destinations = self.destinations()?;
        let mut all = Vec::new();
        self.each_document(Filter::Received, |entry| {
            let of = destinations.iter().find(|one| one.fingerprint() == entry.header.destination);
            let collection = of.and_then(|one| one.collection_of(&entry.description.group));
            all.push(ReceivedDocument {
                id: entry.description.id,
                size: entry.description.size,
                destination: of.map_or_else(|| entry.header.destination.to_string(), Destination::name),
                collection: collection.unwrap_or_default().to_owned(),
                received: entry.arrived,
                at_the_server: matches!(entry.state, State::Received(Some(Verdict::Opened | Verdict::Held))),
            });
        })?;
        Ok(all)
    }

    /// Documents that this phone made, oldest first.
    pub fn own_documents(&self, filter: Filter) -> Result<Vec<DocumentEntry>, StoreError> {
        let mut own = Vec::new();
        self.each_document(filter, |entry| {
            if entry.depositor.is_none() {
                own.push(entry);
            }
        })?;
        Ok(own)
    }

    pub(crate) fn each_document(
        &self,
        filter: Filter,
        mut visit: impl FnMut(DocumentEntry),
    ) -> Result<(), StoreError> {
        let mut after: Option<Seq> = None;
        loop {
            let page = self.store().documents(&filter, after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.seq);
            page.into_iter().for_each(&mut visit);
        }
    }

    /// The document that a user means by the beginning of its id.
    pub fn find_document(&self, text: &str) -> Result<MessageId, DocumentsError> {
        let text = text.trim();
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let unknown = || DocumentsError::Unknown(text.to_owned());
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        match self.store().find_by_prefix(text, 2)?.as_slice() {
            [id] => Ok(*id),
            [] => Err(unknown()),
            _ => Err(DocumentsError::Ambiguous(text.to_owned())),
        }
    }

    /// Lets a draft go. Durable when it returns.
    pub fn release(&self, id: &MessageId) -> Result<(), DocumentsError> {
        let entry = self.store().document(id)?.ok_or_else(|| DocumentsError::Unknown(id.to_string()))?;
        if entry.state != State::Draft {
            return Err(DocumentsError::NoDraft(*id));
        }
        self.writer().apply(Change::Release { id: *id })?;
        Ok(())
    }

    /// Deletes a document for good, delivered or not; its id is remembered. Durable when it returns.
    pub fn delete(&self, id: &MessageId) -> Result<(), DocumentsError> {
        self.writer().apply(Change::Delete { id: *id })?;
        Ok(())
    }

    /// The confirmation with the destination's verdict on a document.
    pub fn confirmation_on(&self, id: &MessageId) -> Result<Option<Confirmation>, DocumentsError> {
        let Some(entry) = self.store().document(id)? else { return Ok(None) };
        Ok(self.store().confirmation_on(id, &entry.header.destination)?)
    }

    /// All confirmations that the phone has verified and kept, in the order in which they came.
    pub fn all_confirmations(&self) -> Result<Vec<Confirmation>, DocumentsError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.store().confirmations(after, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(all) };
            after = Some(*last);
            all.extend(page.into_iter().map(|(_, confirmation)| confirmation));
        }
    }
}

struct Lister<'a> {
    destinations: &'a [Destination],
    peers: &'a HashMap<PeerKey, (PeerClass, String)>,
    conflicts: &'a HashSet<MessageId>,
}

impl Lister<'_> {
    fn listed(&self, entry: &DocumentEntry) -> Listed {
        let header = &entry.header;
        let destination = self.destinations.iter().find(|one| one.fingerprint() == header.destination);
        let collection = destination.and_then(|one| one.collection_of(&entry.description.group));
        let (state, why) = self.standing(entry);
        Listed {
            id: entry.description.id,
            name: entry.note.clone().unwrap_or_default(),
            state,
            why,
            size: entry.description.size,
            destination: destination.map_or_else(|| header.destination.to_string(), Destination::name),
            collection: collection.unwrap_or_default().to_owned(),
            added: entry.arrived,
            is_here: entry.has_body,
        }
    }

    fn standing(&self, entry: &DocumentEntry) -> (Standing, String) {
        let held_at: Vec<&PeerKey> = entry.held_by.iter().filter(|peer| self.is_kiosk(peer)).collect();
        let names =
            |peers: &[&PeerKey]| peers.iter().map(|peer| self.name(peer)).collect::<Vec<_>>().join(", ");
        let (state, why) = match entry.state {
            State::Draft => return (Standing::Draft, String::new()),
            // Not of this phone: see [`Phone::received`].
            State::Received(_) => return (Standing::AtTheServer, String::new()),
            State::Confirmed(Verdict::Rejected(rejection)) => {
                return (Standing::Refused, rejection_words(rejection).to_owned());
            }
            State::Confirmed(Verdict::Opened) => (Standing::AtTheServer, String::new()),
            State::Confirmed(Verdict::Held) => {
                (Standing::AtTheServer, "stored there, not opened yet".to_owned())
            }
            State::Waiting if !held_at.is_empty() => (Standing::AtTheKiosk, names(&held_at)),
            State::Waiting => match entry.refused_by.first() {
                Some((peer, reason)) => {
                    let state = if reason.is_temporary() { Standing::Ready } else { Standing::Refused };
                    (state, format!("{}: {reason}", self.name(peer)))
                }
                None if entry.held_by.is_empty() => (Standing::Ready, String::new()),
                None => {
                    let carriers: Vec<&PeerKey> = entry.held_by.iter().collect();
                    (Standing::Ready, format!("carried by {}", names(&carriers)))
                }
            },
        };
        let is_delivered = entry.state == State::Confirmed(Verdict::Opened);
        match self.conflicts.contains(&entry.description.id) && !is_delivered {
            true => {
                (Standing::Conflict, format!("{state}; another revision of the same record stands beside it"))
            }
            false => (state, why),
        }
    }

    /// Whoever is not known as another phone.
    fn is_kiosk(&self, peer: &PeerKey) -> bool {
        self.peers.get(peer).is_none_or(|(class, _)| *class != PeerClass::Paired)
    }

    fn name(&self, peer: &PeerKey) -> String {
        match self.peers.get(peer) {
            Some((_, label)) if !label.is_empty() => crate::words::plain(label),
            _ => peer.to_string().chars().take(12).collect(),
        }
    }
}

/// Documents that are heads of a record that has several.
fn conflicts(entries: &[DocumentEntry]) -> HashSet<MessageId> {
    let replaced: HashSet<&MessageId> = entries.iter().flat_map(|entry| &entry.header.replaces).collect();
    let mut heads: HashMap<(GroupId, RecordTag), Vec<MessageId>> = HashMap::new();
    for entry in entries.iter().filter(|entry| !replaced.contains(&entry.description.id)) {
        if let Some(record) = entry.header.record {
            heads.entry((entry.description.group, record)).or_default().push(entry.description.id);
        }
    }
    heads.into_values().filter(|heads| heads.len() > 1).flatten().collect()
}
