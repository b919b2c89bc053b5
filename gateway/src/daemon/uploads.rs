//! Uploads: the store as the uploader's source, and what comes back: verified, made durable, shown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use waypost_config::{Config, LogPlace, RemoteLog};
use waypost_node::Clock;
use waypost_openpgp::VerifyError;
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::{Fingerprint, MessageId, PeerKey, Seq};
use waypost_protocol::mvds;
use waypost_protocol::succession;
use waypost_protocol::sync::Holdings as _;
use waypost_remote_log::Signer;
use waypost_store::{Applied, Change, PeerClass, Store, Writer};
use waypost_upload::plan::{self, Waiting};
use waypost_upload::uploader::{AfterUploads, Event, Settings, Sink, Source, Uploader};
use waypost_upload::{CachedInfo, Cause, PathState};

use super::backhaul::{Backhauls, route_words};
use super::follow::{self, Follow};
use super::time::TrustedTime;
use crate::admin::DestinationStatus;
use crate::destinations::{Destinations, Served, tag_key};
use crate::policy;
use crate::remote_log::{AtDestination, LogStatus, Parts, is_wanted};

/// Why a document is set aside whose bytes did not survive.
const DAMAGED: &str = "its bytes were damaged here; whoever brought it is asked for it again";
/// What has waited for so long may have come to its destination by another gateway meanwhile, in seconds.
const ELSEWHERE: u64 = 600;
/// Whose documents those of all strangers together are.
const EVERYBODY: PeerKey = PeerKey([0; 32]);
/// And those of all phones that came by a poster.
const POSTERS: PeerKey = PeerKey([1; 32]);
/// Whose documents those are that came by no peer: from bundles.
const NOBODY: PeerKey = PeerKey([0xff; 32]);

/// What the event loop is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum UploadNews {
    /// New confirmations are durable.
    Confirmed,
    /// Documents have come from a remote log.
    Fetched,
    /// The backhaul's budget is spent.
    Backhaul,
    /// The store failed.
    StoreFailed,
}

/// A running uploader and what is known of its destination.
pub(super) struct Upload {
    pub(super) served: Served,
    pub(super) uploader: Uploader,
    pub(super) status: Arc<Mutex<DestinationStatus>>,
    /// Its remote logs, where they are configured to be there.
    pub(super) log: Option<Arc<Mutex<LogStatus>>>,
}

/// Where it is kept among the store's settings when documents were last delivered: Unix seconds, 8 bytes, big-endian.
pub(super) const LAST_UPLOAD: &str = "upload/last";

/// What all uploaders share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) writer: Writer,
    pub(super) clock: Clock,
    pub(super) time: TrustedTime,
    pub(super) way: Arc<Backhauls>,
    pub(super) news: mpsc::Sender<UploadNews>,
    pub(super) signer: Arc<Signer>,
}

impl Shared {
    /// What remote logs need.
    pub(super) fn for_logs(&self, config: &Arc<Config>, destinations: &Arc<Destinations>) -> Parts {
        let news = self.news.clone();
        Parts {
            store: self.store.clone(),
            writer: self.writer.clone(),
            destinations: destinations.clone(),
            config: config.clone(),
            signer: self.signer.clone(),
            // Where the loop has so much to read, it will look at what is new anyway.
            fetched: Arc::new(move || {
                let _ = news.try_send(UploadNews::Fetched);
            }),
        }
    }
}

/// Starts the uploader of one destination. An error names the configuration's key.
pub(super) fn start(
    served: &Served,
    destinations: &Arc<Destinations>,
    config: &Arc<Config>,
    shared: &Shared,
    seed: u64,
) -> Result<Upload, (&'static str, String)> {
    let client = served.client(config, shared.time.floor(), shared.way.clone())?;
    let status = Arc::new(Mutex::new(DestinationStatus {
        name: served.config.name.to_string(),
        fingerprint: served.fingerprint,
        state: PathState::Unknown.to_string(),
        trouble: None,
        interface: None,
        set_aside: BTreeMap::new(),
        uploaded: 0,
        uploaded_bytes: 0,
        confirmed: 0,
        progress: None,
        certificates: Vec::new(),
        chain_trouble: None,
    }));
    let logs = &config.remote_log;
    let is_configured = is_wanted(logs) && logs.to == LogPlace::Destination;
    let at_destination = is_configured || destinations.has_readers(&served.fingerprint);
    let log = at_destination.then(|| {
        let mut parts = shared.for_logs(config, destinations);
        if !is_configured {
            // Only the destination's own documents are fetched.
            let remote_log = RemoteLog { publish: false, follow: Vec::new(), ..logs.clone() };
            parts.config = Arc::new(Config { remote_log, ..(**config).clone() });
        }
        AtDestination::new(parts, served.fingerprint, served.config.name.as_str())
    });
    let log_status = log.as_ref().map(AtDestination::status);
    let upload = &config.upload;
    let settings = Settings {
        client,
        plan: plan::Settings {
            batch_bytes: upload.batch_bytes.bytes(),
            batch_documents: upload.batch_documents,
            min_backoff: upload.probe_interval.duration(),
            max_backoff: upload.max_backoff.duration().max(upload.probe_interval.duration()),
            asks_unprompted: log.is_some(),
            ..plan::Settings::default()
        },
        info: known_info(&shared.store, &served.fingerprint),
        seed,
        clock: Box::new({
            let clock = shared.clock;
            move || clock.now()
        }),
        after: log.map(|log| Box::new(log) as Box<dyn AfterUploads>),
    };
    let logs = shared.for_logs(config, destinations);
    let source = StoreSource {
        store: shared.store.clone(),
        destination: served.fingerprint,
        max_priority: config.limits.max_priority.try_into().unwrap_or(u8::MAX),
        logs,
    };
    let sink = DaemonSink {
        writer: shared.writer.clone(),
        served: served.clone(),
        destinations: destinations.clone(),
        time: shared.time.clone(),
        news: shared.news.clone(),
        status: status.clone(),
        request: 0,
        unproven: false,
        certificates: served.chain().certificates().len(),
        follow: Follow::new(shared.store.setting(&tag_key(&served.fingerprint)).ok().flatten()),
    };
    let uploader = Uploader::start(settings, source, sink).map_err(|error| ("url", error.to_string()))?;
    Ok(Upload { served: served.clone(), uploader, status, log: log_status })
}

fn cursor_key(destination: &Fingerprint) -> String {
    format!("upload-cursor/{destination}")
}

fn info_key(destination: &Fingerprint) -> String {
    format!("upload-info/{destination}")
}

/// What the destination said of itself before the last restart: saves a round trip before the first upload.
fn known_info(store: &Store, destination: &Fingerprint) -> Option<CachedInfo> {
    let bytes = store.setting(&info_key(destination)).ok().flatten()?;
    let (info, etag) = serde_json::from_slice(&bytes).ok()?;
    Some(CachedInfo { info, etag })
}

/// The largest body that the destination takes, where it has been reached before.
pub(crate) fn largest_body(store: &Store, destination: &Fingerprint) -> Option<u64> {
    /// What a document's canonical encoding has beside its body, at most: group id, timestamp, keys and lengths.
    const AROUND: u64 = 64;
    known_info(store, destination).map(|known| known.info.max_document.saturating_sub(AROUND))
}

struct StoreSource {
    store: Store,
    destination: Fingerprint,
    max_priority: u8,
    logs: Parts,
}

impl Source for StoreSource {
    fn waiting(&self, after: Option<Seq>, limit: usize) -> Result<Vec<Waiting>, String> {
        let rows = self.store.waiting(&self.destination, after, limit).map_err(|error| error.to_string())?;
        rows.into_iter()
            .map(|row| {
                let class = match row.depositor {
                    Some(peer) => {
                        self.store.peer(&peer).map_err(|error| error.to_string())?.map(|peer| peer.class)
                    }
                    None => None,
                };
                let rights = class.map(policy::rights);
                Ok(Waiting {
                    seq: row.seq,
                    description: row.description,
                    depositor: match class {
                        Some(PeerClass::Open) => EVERYBODY,
                        Some(PeerClass::Poster) => POSTERS,
                        _ => row.depositor.unwrap_or(NOBODY),
                    },
                    share: rights.map_or(100, |rights| rights.upload_share),
                    priority: match rights {
                        Some(rights) if !rights.priority => 0,
                        _ => row.priority.min(self.max_priority),
                    },
                    ambiguous: row.attempts > 0 || row.waited >= ELSEWHERE,
                })
            })
            .collect()
    }

    fn still_waiting(&self, documents: &[Waiting]) -> Result<Vec<bool>, String> {
        let waits = |document: &Waiting| {
            let row = self.store.document(&document.description.id).map_err(|error| error.to_string())?;
            Ok(row.is_some_and(|row| row.has_body && row.state == waypost_store::State::Waiting))
        };
        documents.iter().map(waits).collect()
    }

    fn read_body(&self, document: &Waiting, offset: u64, len: usize) -> Result<Bytes, String> {
        self.store.read_body(document.seq, offset, len).map_err(|error| error.to_string())
    }

    fn is_listed(&self, document: &Waiting) -> bool {
        self.logs.is_content(&document.description.id)
    }

    fn owed(&self) -> bool {
        self.store.counts().is_ok_and(|counts| counts.held > 0)
    }

    fn cursor(&self) -> u64 {
        let bytes = self.store.setting(&cursor_key(&self.destination)).ok().flatten();
        bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
    }
}

struct DaemonSink {
    writer: Writer,
    served: Served,
    destinations: Arc<Destinations>,
    time: TrustedTime,
    news: mpsc::Sender<UploadNews>,
    status: Arc<Mutex<DestinationStatus>>,
    /// Bytes of the request under way.
    request: u64,
    follow: Follow,
    /// How many certificates the chain had; fewer than that, and the admin has reset it.
    certificates: usize,
    /// A confirmation was signed by a key that is not known.
    unproven: bool,
}

impl DaemonSink {
    fn status(&self) -> MutexGuard<'_, DestinationStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> &str {
        self.served.config.name.as_str()
    }

    /// A document cannot be read: where its bytes are damaged, those who brought it are asked for it at their next visit.
    fn give_up_if_damaged(&self, id: MessageId) {
        let status = self.status.clone();
        self.writer.submit(Change::Damaged { id }, move |result| match result {
            Ok(Applied::Lost { peers }) => {
                log::error!(document:% = id, peers; "a document is damaged on the disk; whoever brought it is asked for it again");
                let mut status = status.lock().unwrap_or_else(PoisonError::into_inner);
                status.set_aside.insert(id, DAMAGED.into());
            }
            Ok(_) => log::error!(document:% = id; "document set aside: it could not be read"),
            Err(error) => log::error!(document:% = id, error:%; "document set aside: it cannot be read: {error}"),
        });
    }
}

impl Sink for DaemonSink {
    fn event(&mut self, event: Event<'_>) {
        let destination = self.name();
        match event {
            Event::StateChanged(state) => {
                let word = state.to_string();
                let mut status = self.status();
                if matches!(state, PathState::Ok { .. }) {
                    status.trouble = None;
                }
                let trouble =
                    status.trouble.as_deref().map_or(String::new(), |trouble| format!(": {trouble}"));
                log::info!(destination, state = word.as_str(); "destination is {word}{trouble}");
                status.state = word;
            }
            Event::TookRoute(route) => {
                log::info!(destination; "connections go over {}", route_words(route));
                self.status().interface.clone_from(&route.interface);
            }
            Event::Attempting { documents } => {
                // A power cut from here on leaves it open whether they arrived; then they are asked about first.
                for document in documents {
                    let id = document.description.id;
                    self.writer.submit(Change::Attempted { id }, |_| ());
                }
            }
            Event::Progress { sent, total } => {
                self.status().progress = (sent < total).then_some((sent, total));
                self.request = total;
            }
            Event::Sent { ids } => {
                log::info!(destination, documents = ids.len(); "uploaded");
                let bytes = std::mem::take(&mut self.request);
                let mut status = self.status();
                status.uploaded += ids.len() as u64;
                status.uploaded_bytes += bytes;
            }
            Event::Failed { documents, error } => {
                match documents.len() {
                    // A question, for example whether it can be reached again: told when its state changes.
                    0 => log::debug!(destination, error:%; "no answer: {error}"),
                    count => {
                        log::warn!(destination, documents = count, ambiguous = error.is_ambiguous(), error:%; "upload failed: {error}");
                    }
                }
                let mut status = self.status();
                (status.trouble, status.progress) = (Some(error.to_string()), None);
            }
            Event::SetAside { document, cause } => {
                let id = document.description.id;
                self.status().set_aside.insert(id, cause.to_string());
                match cause {
                    Cause::Local { .. } => self.give_up_if_damaged(id),
                    _ => {
                        log::warn!(destination, document:% = id, cause:%; "document set aside: {cause}")
                    }
                }
            }
            Event::Cursor(cursor) => {
                let key = cursor_key(&self.served.fingerprint);
                self.writer.submit(Change::Put { key, value: Some(cursor.to_be_bytes().to_vec()) }, |_| ());
            }
            Event::StoreFailed(detail) => {
                log::error!(destination, detail; "the store failed an upload: {detail}");
                // The loop looks whether it can go on with it; it is gone only when the daemon ends.
                let _ = self.news.blocking_send(UploadNews::StoreFailed);
            }
            Event::Info(info) => {
                // Told inside TLS, by whom the destination's certificate was checked.
                self.time.heard(info.info.time);
                let key = info_key(&self.served.fingerprint);
                let value = serde_json::to_vec(&(&info.info, &info.etag)).ok();
                self.writer.submit(Change::Put { key, value }, |_| ());
            }
        }
    }

    fn has_unproven(&mut self) -> bool {
        std::mem::take(&mut self.unproven)
    }

    fn confirmations(&mut self, confirmations: Vec<mvds::Confirmation>) -> Result<Vec<MessageId>, String> {
        let (mut settled, mut new) = (Vec::new(), 0);
        for wire in confirmations {
            let confirmation = match Confirmation::from_wire(&wire) {
                Ok(confirmation) => confirmation,
                Err(error) => {
                    log::error!(destination = self.name(), error:%; "a confirmation is malformed and not taken: {error}");
                    continue;
                }
            };
            let now = self.time.now();
            if let Err(error) = self.served.verify(&confirmation, now) {
                let is_strangers = matches!(error, VerifyError::WrongKey(_));
                self.follow.stranger |= is_strangers;
                self.unproven |= is_strangers;
                log::error!(destination = self.name(), error:%; "a confirmation does not verify and is not taken: {error}");
                self.status().trouble = Some(error.to_string());
                continue;
            }
            let signed = confirmation.statement.time();
            self.time.heard(signed);
            let ids: Vec<MessageId> = confirmation.statement.verdicts().iter().map(|(id, _)| *id).collect();
            let freeing = self.destinations.freeing(&confirmation);
            let change = Change::Confirmation { confirmation: Box::new(confirmation), freeing, from: None };
            if let Applied::Verdicts { changed, .. } =
                self.writer.apply(change).map_err(|error| error.to_string())?
            {
                new += changed.len();
                if !changed.is_empty() {
                    let value = Some(signed.0.to_be_bytes().to_vec());
                    self.writer.submit(Change::Put { key: LAST_UPLOAD.to_owned(), value }, |_| ());
                }
            }
            let mut status = self.status();
            ids.iter().for_each(|id| drop(status.set_aside.remove(id)));
            drop(status);
            settled.extend(ids);
        }
        if new > 0 {
            log::info!(destination = self.name(), documents = new; "confirmed by the destination");
            self.status().confirmed += new as u64;
            // The loop is gone only when the daemon ends.
            let _ = self.news.blocking_send(UploadNews::Confirmed);
        }
        Ok(settled)
    }

    fn wants_successions(&mut self, called: &str) -> bool {
        let certificates = self.served.chain().certificates().len();
        if std::mem::replace(&mut self.certificates, certificates) > certificates {
            self.follow.forget();
        }
        self.follow.wants(called, Instant::now())
    }

    fn successions(&mut self, encoded: &[u8]) -> bool {
        let links = match succession::decode(encoded) {
            Ok(links) => links,
            Err(error) => {
                log::warn!(destination = self.name(), error:%; "the destination's certificates are malformed: {error}");
                self.status().chain_trouble = Some(error.to_string());
                return false;
            }
        };
        let (absorbed, change) = follow::follow(&self.served, &links, self.time.now());
        let changed = change.is_some();
        if let Some(change) = change
            && let Err(error) = self.writer.apply(change)
        {
            log::error!(destination = self.name(), error:%; "the destination's certificates could not be stored: {error}");
            return changed;
        }
        let key = tag_key(&self.served.fingerprint);
        let value = self.follow.fetched(absorbed.faults.is_empty());
        self.writer.submit(Change::Put { key, value }, |_| ());
        self.status().chain_trouble = absorbed.faults.first().map(ToString::to_string);
        changed
    }
}
