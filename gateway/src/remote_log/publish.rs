//! Publishing: which documents the gateway's log lists, and when.

use std::collections::BTreeSet;

use bytes::Bytes;
use rand_core::RngCore as _;
use serde::{Deserialize, Serialize};
use waypost_config::{LogMode, LogPlace};
use waypost_node::{KeyFileError, system_rng};
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::ids::{MessageId, Seq, StoreId};
use waypost_protocol::time::Monotonic;
use waypost_remote_log::writer::{Begun, MAX_BATCH, MAX_INLINE};
use waypost_remote_log::{Described, LogId, Mode, Place, PlaceError, WriteError, Writer};
use waypost_store::{Change, DocumentEntry, Filter, PeerClass, State, StoreError};

use super::source::{StoreSource, encoded_len};
use super::{Parts, Work, scope_word};

/// Bytes of documents in one head, beside a single document that is larger.
const BATCH_BYTES: u64 = 4 << 20;
/// Rows of the store that one step looks at.
const SCAN: usize = 256;
/// So many documents are held back at a time; further ones are published although they wait for upload.
const MAX_LATER: usize = 1_024;

/// What is known of the gateway's own log at a place, beside what the place itself says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Published {
    log: [u8; 16],
    sequence: u64,
    cursor: u64,
    /// Rows before `cursor` that are to be published once they have been uploaded.
    #[serde(default)]
    later: BTreeSet<u64>,
}

/// What the next head is about.
#[derive(Default)]
struct Candidates {
    batch: Vec<Described>,
    /// Bytes of the batch.
    bytes: u64,
    /// The last row that was looked at.
    cursor: u64,
    /// Rows up to there that are held back.
    later: BTreeSet<u64>,
    /// There may be more.
    more: bool,
}

impl Candidates {
    /// False where it does not fit any more.
    fn add(&mut self, row: &DocumentEntry) -> bool {
        let size = encoded_len(&row.description);
        let bytes = self.bytes.saturating_add(size);
        if self.batch.len() >= MAX_BATCH || (bytes > BATCH_BYTES && !self.batch.is_empty()) {
            self.more = true;
            return false;
        }
        self.bytes = bytes;
        self.batch.push(Described { id: row.description.id, group: row.description.group, size });
        true
    }
}

/// Publishing.
impl Work {
    pub(super) fn publish(&mut self, place: &mut dyn Place, now: Monotonic) {
        let outcome = match self.own.take() {
            None => self.begin(place),
            Some(own) => self.append(own, place),
        };
        match outcome {
            Ok(goes_on) => self.publish_at = goes_on.then_some(now),
            Err(WriteError::Refused { id, why }) => {
                log::warn!(document:% = id; "not published: {why}");
                self.refused.insert(id);
            }
            Err(error) => self.fail(&format!("the log cannot be published: {error}"), now),
        }
    }

    /// Finds out where the log stands, if there is anything to append to it. Whether there is.
    fn begin(&mut self, place: &mut dyn Place) -> Result<bool, WriteError> {
        let known = self.published();
        (self.cursor, self.later) =
            known.as_ref().map_or_else(Default::default, |known| (known.cursor, known.later.clone()));
        // Another stick may be there by now; a destination is always the same.
        if self.scope.is_some() {
            let candidates = self.candidates()?;
            if candidates.batch.is_empty() && !candidates.more {
                return Ok(false);
            }
        }
        let mut fresh = [0; 16];
        let random = |error: KeyFileError| PlaceError::Source(std::io::Error::other(error.to_string()));
        system_rng().map_err(random)?.fill_bytes(&mut fresh);
        let mode = match self.settings().mode {
            LogMode::Full => Mode::Full,
            LogMode::Page => Mode::Page,
            LogMode::Linked => Mode::Linked,
            LogMode::Mixed => Mode::Mixed { inline_last: self.settings().inline_last },
        };
        let signer = self.parts.signer.clone();
        let remembered = known.as_ref().map(|known| (LogId(known.log), known.sequence));
        let (own, begun) = Writer::begin(place, signer, mode, remembered, LogId(fresh))?;
        let mut published = 0;
        self.cursor = match begun {
            Begun::Continued(head) => {
                published = head.chain.count;
                parse_bookmark(&head.bookmark, &self.parts.store.store_id()).unwrap_or(0)
            }
            Begun::First => 0,
            Begun::Anew(why) => {
                log::warn!("the gateway begins a new remote log: {why}");
                0
            }
        };
        if self.cursor == 0 {
            self.later.clear();
        }
        self.status().published = published;
        (self.own, self.known) = (Some(own), known);
        self.succeed();
        Ok(true)
    }

    /// Appends what is new. Whether there may be more.
    fn append(&mut self, mut own: Writer, place: &mut dyn Place) -> Result<bool, WriteError> {
        let Candidates { batch, cursor: last, later, more, .. } = self.candidates()?;
        let batch: Vec<Described> = batch.into_iter().filter(|one| !own.lists(&one.id)).collect();
        let none = BTreeSet::new();
        let stored = self.known.as_ref().map_or(&none, |known| &known.later);
        if !batch.is_empty() && !later.is_subset(stored) {
            // Should the answer be lost, the head's bookmark is past them.
            let later = self.later.union(&later).copied().collect();
            let first = Published { log: own.log().0, sequence: 0, cursor: 0, later: BTreeSet::new() };
            let known = Published { later, ..self.known.take().unwrap_or(first) };
            self.parts.writer.apply(self.note(&known)).map_err(|error| not_readable(&error))?;
            self.later.clone_from(&known.later);
            self.known = Some(known);
        }
        let bookmark = bookmark(&self.parts.store.store_id(), last);
        let mut source = StoreSource(self.parts.store.clone());
        if let Some(published) = own.publish(place, &batch, &mut source, bookmark)? {
            for (id, why) in &published.unreadable {
                log::warn!(document:% = id; "not published: {why}");
            }
            let head = &published.head;
            log::info!(
                documents = published.listed, already_there = published.already_there, head = head.sequence;
                "published in the remote log"
            );
            let known =
                Published { log: head.log.0, sequence: head.sequence, cursor: last, later: later.clone() };
            self.parts.writer.submit(self.note(&known), |_| ());
            self.known = Some(known);
            self.status().published = head.chain.count;
            self.succeed();
        }
        (self.cursor, self.later) = (last, later);
        // Where a stick may be changed, the log is looked at anew each time.
        if more || self.scope.is_some() {
            self.own = Some(own);
        }
        Ok(more)
    }

    /// Documents to be published: those that were held back, and then those that came since.
    fn candidates(&self) -> Result<Candidates, WriteError> {
        let store = &self.parts.store;
        let failed = |error: StoreError| not_readable(&error);
        let filter = self.scope.map_or(Filter::All, Filter::For);
        let mut found = Candidates { cursor: self.cursor, ..Candidates::default() };
        for &seq in &self.later {
            let after = seq.checked_sub(1).map(Seq);
            let row = store.documents(&filter, after, 1).map_err(failed)?.into_iter().next();
            let Some(row) = row.filter(|row| row.seq.0 == seq) else { continue };
            let is_listed = self.is_listed(&row).map_err(failed)?;
            if is_listed && (self.is_held_back(&row) || !found.add(&row)) {
                found.later.insert(seq);
            }
        }
        let rows = store.documents(&filter, Some(Seq(self.cursor)), SCAN).map_err(failed)?;
        found.more |= rows.len() == SCAN;
        for row in rows {
            if self.is_listed(&row).map_err(failed)? {
                if found.later.len() < MAX_LATER && self.is_held_back(&row) {
                    found.later.insert(row.seq.0);
                } else if !found.add(&row) {
                    return Ok(found);
                }
            }
            found.cursor = row.seq.0;
        }
        Ok(found)
    }

    fn is_listed(&self, row: &DocumentEntry) -> Result<bool, StoreError> {
        Ok(!self.refused.contains(&row.description.id) && self.parts.lists(row)?)
    }

    /// At a destination documents are published once it has them: then their content need not come a second time.
    fn is_held_back(&self, row: &DocumentEntry) -> bool {
        self.scope.is_some() && row.state == State::Waiting && self.parts.outlives_verdict(row)
    }

    fn published_key(&self) -> String {
        format!("remote-log/own/{}", scope_word(self.scope.as_ref()))
    }

    fn published(&self) -> Option<Published> {
        let bytes = self.parts.store.setting(&self.published_key()).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn note(&self, published: &Published) -> Change {
        Change::Put { key: self.published_key(), value: serde_json::to_vec(published).ok() }
    }
}

impl Parts {
    /// Whether a document's upload is to be kept as content of this gateway's log at its destination.
    pub(crate) fn is_content(&self, id: &MessageId) -> bool {
        let settings = &self.config.remote_log;
        if !settings.publish || settings.to != LogPlace::Destination {
            return false;
        }
        let row = self.store.document(id).ok().flatten();
        row.is_some_and(|row| {
            let is_inline = settings.mode == LogMode::Full && encoded_len(&row.description) <= MAX_INLINE;
            !is_inline && self.outlives_verdict(&row) && self.lists(&row).unwrap_or(false)
        })
    }

    /// Whether a document's bytes stay here after its destination's verdict.
    fn outlives_verdict(&self, row: &DocumentEntry) -> bool {
        self.destinations.kept_for_readers(&row.header.destination, &row.description.group).is_some()
    }

    /// Whether this gateway's log lists a document, at its time.
    fn lists(&self, row: &DocumentEntry) -> Result<bool, StoreError> {
        let is_wanted = match row.state {
            State::Waiting | State::Confirmed(Verdict::Opened | Verdict::Held) => row.has_body,
            State::Draft | State::Confirmed(Verdict::Rejected(_)) | State::Received(_) => false,
        };
        // How old a document gets in a log nobody can say.
        let is_timeless = row.header.lifetime == 0 && !row.header.ephemeral;
        if !is_wanted || !is_timeless || self.destinations.get(&row.header.destination).is_none() {
            return Ok(false);
        }
        let collections = self.config.remote_log.collections.as_ref();
        if collections.is_some_and(|list| !list.0.contains(&row.description.group)) {
            return Ok(false);
        }
        // What came from another log is in that one.
        Ok(match row.depositor {
            Some(peer) => self.store.peer(&peer)?.is_none_or(|peer| peer.class != PeerClass::Gateway),
            None => true,
        })
    }
}

fn not_readable(error: &dyn std::fmt::Display) -> WriteError {
    WriteError::Place(PlaceError::Source(std::io::Error::other(error.to_string())))
}

/// Where publishing goes on, for the store that counted it.
fn bookmark(store: &StoreId, cursor: u64) -> Bytes {
    Bytes::from([store.as_bytes(), &cursor.to_be_bytes()].concat())
}

fn parse_bookmark(bookmark: &[u8], store: &StoreId) -> Option<u64> {
    let (name, cursor) = bookmark.split_at_checked(StoreId::LEN)?;
    (name == store.as_bytes()).then(|| cursor.try_into().ok().map(u64::from_be_bytes)).flatten()
}
