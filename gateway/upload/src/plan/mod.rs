//! What to do next for one destination: a state machine without IO, whose time and randomness are arguments.
//!
//! Call [`Planner::next`], do what it says, tell the outcome with [`Planner::handle`], and again. One thing is under
//! way at a time; nudges and news of the path may come in between.

mod backoff;
mod lanes;
#[cfg(test)]
mod simulation;
mod step;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use waypost_protocol::api::{FailureCode, Info};
use waypost_protocol::ids::Seq;
use waypost_protocol::time::Monotonic;

use crate::body::{encoded_len, framed_len};
use crate::error::{Cause, Error, Kind};
use backoff::Backoff;
use lanes::Lanes;
pub use step::{Fate, Input, PathState, Settings, Step, Waiting};

/// Documents read from the store at once.
const PAGE: usize = 512;
/// Documents asked about in one `have`: their answers, each with a confirmation of its own, stay below the client's limit.
const ASK: usize = 1_024;
/// After so many reads of a document failed it is set aside.
const LOCAL_TRIES: u32 = 5;
/// Batches are halved at most so often.
const MAX_SHRINK: u32 = 16;
/// The longest wait for a confirmation of a document that the destination holds already.
const MOST_FOR_HELD: Duration = Duration::from_secs(3_600);

/// The plan for one destination.
#[derive(Debug)]
pub struct Planner {
    settings: Settings,
    backoff: Backoff,
    path: Path,
    /// What the destination takes, and until when that is believed.
    info: Option<(Info, Monotonic)>,
    items: BTreeMap<Seq, Item>,
    /// Ready, and never failed by themselves.
    lanes: Lanes,
    /// Ready again, those that failed least first. They alternate with the lanes, so that a document that breaks every
    /// request costs others at most every second one, and waits for others no longer than they for it.
    retries: BTreeSet<(u32, Seq)>,
    retries_turn: bool,
    /// To be asked about.
    asks: BTreeSet<Seq>,
    /// Not before then.
    deferred: BTreeSet<(Monotonic, Seq)>,
    /// In the request that is under way.
    flight: Vec<Seq>,
    /// Refused for themselves; not tried again by this planner, but for those of so many bytes, once the destination
    /// takes as many.
    set_aside: BTreeMap<Seq, Option<u64>>,
    to_report: VecDeque<(Waiting, Cause)>,
    scan: Scan,
    /// How often batches are halved now, and how many were lost in a row.
    shrink: u32,
    losses: u32,
    /// When later verdicts are asked for; none while none is owed.
    fetch_at: Option<Monotonic>,
    /// Bytes cost money: those verdicts are asked for only so much later.
    patience: Duration,
}

#[derive(Debug)]
struct Item {
    waiting: Waiting,
    /// Bytes on the wire, for fairness and for batches.
    bytes: u64,
    /// Ask with `have` before it is sent.
    ask: bool,
    /// Requests that it failed in alone, or that gave it no verdict.
    tries: u32,
    /// Batches with it that were lost in a row.
    losses: u32,
    /// It goes only in batches of at most so many documents: what breaks requests is found by halving.
    cap: usize,
}

#[derive(Debug, Default)]
struct Scan {
    /// A page is wanted after this one.
    wanted: Option<Option<Seq>>,
    /// The last document seen.
    seen: Option<Seq>,
    /// The earliest one for which there was no room.
    skipped: Option<Seq>,
    /// When to try again after the store failed.
    retry_at: Option<Monotonic>,
    failures: u32,
}

#[derive(Debug)]
struct Path {
    state: PathState,
    not_before: Monotonic,
    /// In a row. Those of questions are forgiven when a question succeeds, those of uploads only by an upload: a
    /// server that answers questions and fails all uploads must not be sent everything at full speed.
    failed_questions: u32,
    failed_uploads: u32,
    /// Until then a path is fresh: addresses and names may not be there yet, and it may not be there for long.
    fresh_until: Monotonic,
}

/// For so long after a path appeared failures delay the next try by less than a second.
const FRESH: Duration = Duration::from_secs(15);
/// How much, after the first of them and at most.
const FRESH_DELAYS: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];

impl Planner {
    /// A plan that begins with reading what waits. `info` saves asking where it is known from before.
    pub fn new(settings: Settings, info: Option<Info>, seed: u64) -> Self {
        Planner {
            settings,
            backoff: Backoff::new(settings.min_backoff, settings.max_backoff, seed),
            path: Path {
                state: PathState::Unknown,
                not_before: Monotonic::default(),
                failed_questions: 0,
                failed_uploads: 0,
                fresh_until: Monotonic::default(),
            },
            info: info.map(|info| (info, Monotonic::default() + settings.info_age)),
            items: BTreeMap::new(),
            lanes: Lanes::new(settings.quantum),
            retries: BTreeSet::new(),
            retries_turn: false,
            asks: BTreeSet::new(),
            deferred: BTreeSet::new(),
            flight: Vec::new(),
            set_aside: BTreeMap::new(),
            to_report: VecDeque::new(),
            scan: Scan { wanted: Some(None), ..Scan::default() },
            shrink: 0,
            losses: 0,
            fetch_at: None,
            patience: Duration::ZERO,
        }
    }

    /// Whether bytes cost money now.
    pub fn set_metered(&mut self, is_metered: bool) {
        self.patience = if is_metered { self.settings.confirmations_every_metered } else { Duration::ZERO };
    }

    fn fetch_due(&self) -> Option<Monotonic> {
        self.fetch_at.map(|at| at + self.patience)
    }

    /// How the destination can be reached.
    pub fn path(&self) -> PathState {
        self.path.state
    }

    /// What to do now.
    pub fn next(&mut self, now: Monotonic) -> Step {
        if let Some((document, cause)) = self.to_report.pop_front() {
            return Step::SetAside { document, cause };
        }
        if !self.flight.is_empty() {
            return Step::Wait(None);
        }
        self.wake(now);
        let fetch = self.fetch_due().is_some_and(|at| at <= now);
        let idle = self.asks.is_empty() && self.lanes.is_empty() && self.retries.is_empty() && !fetch;
        if idle && self.scan.wanted.is_none() {
            let first = self.deferred.first().map(|(at, _)| *at);
            return Step::Wait([first, self.fetch_due(), self.scan.retry_at].into_iter().flatten().min());
        }
        if now < self.path.not_before {
            return Step::Wait(Some(self.path.not_before));
        }
        if let Some(after) = self.scan.wanted {
            return Step::Scan { after, limit: PAGE };
        }
        let Some(info) = self.info.as_ref().filter(|(_, until)| now < *until).map(|(info, _)| info) else {
            return Step::Probe;
        };
        if !self.asks.is_empty() {
            self.flight = self.asks.iter().take(ASK).copied().collect();
            self.asks.retain(|seq| self.flight.binary_search(seq).is_err());
            return Step::AskHave(self.in_flight());
        }
        if fetch {
            return Step::FetchConfirmations;
        }
        let limits = Limits::new(&self.settings, info, self.shrink);
        self.upload(limits).unwrap_or_else(|| self.next(now))
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Monotonic) {
        match input {
            Input::Nudge => self.scan_again(),
            Input::PathUp => self.path_up(now),
            Input::PathDown => {
                self.path.not_before = now + self.settings.max_backoff;
                self.path.state = PathState::Unreachable { kind: Kind::NoRoute };
            }
            Input::Scanned { documents, more, owed } => self.scanned(&documents, more, owed, now),
            Input::ScanFailed => {
                self.scan.failures += 1;
                self.scan.retry_at = Some(now + self.backoff.after(self.scan.failures));
                self.scan.wanted = None;
            }
            Input::Info(Ok(info)) => {
                self.take_up_large(info.max_document);
                self.info = Some((info, now + self.settings.info_age));
                self.answered_question(now);
            }
            Input::Had(Ok(fates)) => {
                self.answered_question(now);
                self.settle(fates, now);
            }
            Input::Fetched(Ok(owed)) => {
                self.answered_question(now);
                self.fetch_at = owed.then(|| now + self.settings.confirmations_every);
            }
            Input::Uploaded(Ok(fates)) => self.uploaded(fates, now),
            Input::Uploaded(Err(error)) => self.upload_failed(&error, now),
            Input::Info(Err(error)) | Input::Had(Err(error)) | Input::Fetched(Err(error)) => {
                let asked = std::mem::take(&mut self.flight);
                self.asks.extend(asked);
                if error.kind() != Kind::Stopped {
                    self.path.failed_questions = self.path.failed_questions.saturating_add(1);
                    self.path_failed(&error, now);
                }
            }
            Input::Gone(gone) => {
                for seq in gone {
                    self.flight.retain(|other| *other != seq);
                    self.asks.remove(&seq);
                    self.items.remove(&seq);
                }
            }
        }
    }

    fn in_flight(&self) -> Vec<Waiting> {
        self.flight.iter().filter_map(|seq| Some(self.items.get(seq)?.waiting)).collect()
    }

    /// Takes up what was deferred until now, and reads on where there is room again.
    fn wake(&mut self, now: Monotonic) {
        while let Some((at, seq)) = self.deferred.first().copied().filter(|(at, _)| *at <= now) {
            self.deferred.remove(&(at, seq));
            self.enqueue(seq);
        }
        let retry = self.scan.retry_at.is_some_and(|at| at <= now);
        let room = self.lanes.len() <= self.settings.window / 2 && self.items.len() < self.most_items();
        if retry || (room && self.scan.skipped.is_some()) {
            self.scan_again();
        }
    }

    /// Bounds memory also when a destination takes documents and confirms none for days.
    fn most_items(&self) -> usize {
        self.settings.window.saturating_mul(8)
    }

    fn enqueue(&mut self, seq: Seq) {
        let Some(item) = self.items.get(&seq) else { return };
        if item.ask {
            self.asks.insert(seq);
        } else if item.tries > 0 {
            self.retries.insert((item.tries, seq));
        } else {
            self.lanes.push(&item.waiting, item.bytes);
        }
    }

    /// Counts a failure of this document alone, and lets others go before it is tried again.
    fn defer(&mut self, seq: Seq, most: Duration, now: Monotonic) {
        if let Some(item) = self.items.get_mut(&seq) {
            item.tries = item.tries.saturating_add(1);
            self.deferred.insert((now + self.backoff.up_to(item.tries, most), seq));
        }
    }

    fn put_aside(&mut self, seq: Seq, cause: Cause) {
        if let Some(item) = self.items.remove(&seq) {
            let too_large = matches!(cause, Cause::TooLarge { .. });
            self.set_aside.insert(seq, too_large.then(|| encoded_len(&item.waiting.description)));
            self.to_report.push_back((item.waiting, cause));
        }
    }
}

/// Reading what waits.
impl Planner {
    /// The destination takes documents of so many bytes now.
    fn take_up_large(&mut self, most: u64) {
        let before = self.set_aside.len();
        self.set_aside.retain(|_, size| size.is_none_or(|size| size > most));
        if self.set_aside.len() < before {
            self.scan.wanted = Some(None);
        }
    }

    fn scan_again(&mut self) {
        self.scan.retry_at = None;
        if self.scan.wanted.is_none() {
            let skipped = self.scan.skipped.take();
            self.scan.wanted = Some(match skipped {
                Some(seq) => seq.0.checked_sub(1).map(Seq),
                None => self.scan.seen,
            });
        }
    }

    fn scanned(&mut self, documents: &[Waiting], more: bool, owed: bool, now: Monotonic) {
        self.scan.failures = 0;
        let last = documents.last().map(|document| document.seq);
        self.scan.seen = self.scan.seen.max(last);
        for document in documents {
            self.offer(document);
        }
        self.scan.wanted = last.filter(|_| more).map(Some);
        match (owed, self.fetch_at) {
            (true, None) => self.fetch_at = Some(now),
            (false, Some(_)) => self.fetch_at = None,
            _ => {}
        }
    }

    /// Takes a document into the window where there is room, or where others of a greedier depositor can wait.
    fn offer(&mut self, document: &Waiting) {
        let seq = document.seq;
        if self.items.contains_key(&seq) || self.set_aside.contains_key(&seq) {
            return;
        }
        if self.lanes.len() >= self.settings.window || self.items.len() >= self.most_items() {
            let evicted = self.lanes.evict_for(&document.depositor);
            let out = evicted.unwrap_or(seq);
            self.scan.skipped = Some(self.scan.skipped.map_or(out, |earliest| earliest.min(out)));
            match evicted {
                Some(evicted) => self.items.remove(&evicted),
                None => return,
            };
        }
        let bytes = framed_len(&document.description).unwrap_or(document.description.size);
        let item =
            Item { waiting: *document, bytes, ask: document.ambiguous, tries: 0, losses: 0, cap: usize::MAX };
        self.items.insert(seq, item);
        self.enqueue(seq);
    }
}

/// What one upload may be.
#[derive(Debug, Clone, Copy)]
struct Limits {
    max_document: u64,
    /// What is larger goes by itself.
    max_batch_bytes: u64,
    batch_bytes: u64,
    batch_documents: usize,
}

impl Limits {
    fn new(settings: &Settings, info: &Info, shrink: u32) -> Self {
        let max_batch_bytes = settings.batch_bytes.min(info.max_batch_bytes);
        let documents = settings.batch_documents.min(info.max_batch_documents);
        Limits {
            max_document: info.max_document,
            max_batch_bytes,
            batch_bytes: max_batch_bytes >> shrink,
            batch_documents: usize::try_from(documents >> shrink).unwrap_or(usize::MAX).max(1),
        }
    }
}

/// Sending.
impl Planner {
    /// Puts together the next upload. None where all that is ready turned out to be too large.
    fn upload(&mut self, limits: Limits) -> Option<Step> {
        let retries = !self.retries.is_empty() && (self.retries_turn || self.lanes.is_empty());
        self.retries_turn = !retries;
        let mut bytes = 0u64;
        let mut cap = limits.batch_documents;
        while self.flight.len() < cap {
            let Some(seq) = self.first(retries) else { break };
            let Some(item) = self.items.get(&seq) else {
                self.take_first(retries);
                continue;
            };
            let description = &item.waiting.description;
            let encoded = encoded_len(description);
            if encoded > limits.max_document {
                self.take_first(retries);
                let detail = format!(": {encoded} bytes, it takes {}", limits.max_document);
                self.put_aside(seq, Cause::TooLarge { detail });
                continue;
            }
            let alone = framed_len(description).is_none_or(|framed| framed > limits.max_batch_bytes);
            let waiting = item.waiting;
            let fits = bytes.saturating_add(item.bytes) <= limits.batch_bytes && self.flight.len() < item.cap;
            if !self.flight.is_empty() && (alone || !fits) {
                break;
            }
            bytes = bytes.saturating_add(item.bytes);
            cap = cap.min(item.cap);
            self.take_first(retries);
            self.flight.push(seq);
            if alone {
                return Some(Step::Put(waiting));
            }
        }
        (!self.flight.is_empty()).then(|| Step::Batch(self.in_flight()))
    }

    fn first(&mut self, retries: bool) -> Option<Seq> {
        if retries { self.retries.first().map(|(_, seq)| *seq) } else { self.lanes.peek() }
    }

    fn take_first(&mut self, retries: bool) {
        if retries {
            self.retries.pop_first();
        } else {
            self.lanes.take();
        }
    }

    fn uploaded(&mut self, fates: Vec<(Seq, Fate)>, now: Monotonic) {
        let full = |(_, fate): &(Seq, Fate)| matches!(fate, Fate::Refused(FailureCode::Full, _));
        let all_full = fates.len() == self.flight.len() && fates.iter().all(full);
        self.losses = 0;
        self.shrink = self.shrink.saturating_sub(1);
        if all_full {
            let error = Error::Definite(Cause::Full { detail: String::new() });
            self.path.failed_uploads = self.path.failed_uploads.saturating_add(1);
            self.path_failed(&error, now);
        } else {
            self.path.failed_uploads = 0;
            self.answered_question(now);
        }
        self.settle(fates, now);
    }

    /// Each document under way goes on by its fate; without one it will be asked about.
    fn settle(&mut self, fates: Vec<(Seq, Fate)>, now: Monotonic) {
        let mut fates: BTreeMap<Seq, Fate> = fates.into_iter().collect();
        for seq in std::mem::take(&mut self.flight) {
            let Some(item) = self.items.get_mut(&seq) else { continue };
            let most = self.settings.max_backoff;
            match fates.remove(&seq) {
                Some(Fate::Done) => {
                    self.items.remove(&seq);
                }
                Some(Fate::NotHeld) => {
                    item.ask = false;
                    self.enqueue(seq);
                }
                Some(Fate::Refused(code, detail)) if !code.is_temporary() => {
                    self.put_aside(seq, Cause::DocumentRefused { code, detail });
                }
                Some(Fate::Refused(..)) => {
                    item.ask = false;
                    self.defer(seq, most, now);
                }
                Some(Fate::Held) => {
                    item.ask = true;
                    self.defer(seq, most.max(MOST_FOR_HELD), now);
                }
                None => {
                    item.ask = true;
                    self.defer(seq, most, now);
                }
            }
        }
    }

    fn upload_failed(&mut self, error: &Error, now: Monotonic) {
        let flight = std::mem::take(&mut self.flight);
        let alone = flight.len() == 1;
        let halved = (flight.len() / 2).max(1);
        let cause = error.cause();
        let kind = cause.kind();
        // The server refuses these as they are: not the path's fault, and found out by sending fewer at once.
        let refused = matches!(kind, Kind::TooLarge | Kind::Malformed);
        let local = match cause {
            Cause::Local { id, .. } => Some(*id),
            _ => None,
        };
        let lost = error.is_ambiguous() && !refused && local.is_none() && kind != Kind::Stopped;
        if lost && !alone {
            self.losses = self.losses.saturating_add(1);
            if self.losses >= 2 {
                self.shrink = (self.shrink + 1).min(MAX_SHRINK);
            }
        }
        if kind == Kind::TooLarge {
            self.info = None;
        }
        if !refused && local.is_none() && kind != Kind::Stopped {
            self.path.failed_uploads = self.path.failed_uploads.saturating_add(1);
            self.path_failed(error, now);
        }
        for seq in flight {
            let Some(item) = self.items.get_mut(&seq) else { continue };
            item.ask |= error.is_ambiguous();
            if lost {
                item.losses = item.losses.saturating_add(1);
            }
            let unreadable = local == Some(item.waiting.description.id);
            if unreadable && item.tries + 1 >= LOCAL_TRIES || refused && alone {
                self.put_aside(seq, cause.clone());
                continue;
            }
            // Twice may be the link; after that it may be one of these.
            if refused || kind == Kind::Full || (lost && item.losses >= 2) {
                item.cap = item.cap.min(halved);
            }
            if unreadable || (alone && (lost || kind == Kind::Full)) {
                self.defer(seq, self.settings.max_backoff, now);
            } else {
                self.enqueue(seq);
            }
        }
    }
}

/// The path.
impl Planner {
    fn path_up(&mut self, now: Monotonic) {
        self.path.failed_questions = 0;
        self.path.failed_uploads = 0;
        self.path.not_before = now;
        self.path.fresh_until = now + FRESH;
        for (_, seq) in std::mem::take(&mut self.deferred) {
            self.enqueue(seq);
        }
        self.fetch_at = self.fetch_at.map(|_| now);
        self.scan_again();
    }

    fn answered_question(&mut self, now: Monotonic) {
        self.path.failed_questions = 0;
        if self.path.failed_uploads == 0 {
            self.path.not_before = now;
            if !matches!(self.path.state, PathState::Ok { .. }) {
                self.path.state = PathState::Ok { since: now };
            }
        }
    }

    fn path_failed(&mut self, error: &Error, now: Monotonic) {
        let failures = self.path.failed_questions.saturating_add(self.path.failed_uploads);
        let mut delay = match now < self.path.fresh_until && is_the_paths(error.kind()) {
            true => (FRESH_DELAYS[0] * failures.min(16)).min(FRESH_DELAYS[1]),
            false => self.backoff.after(failures),
        };
        if let Cause::ServerError { retry_after: Some(asked), .. } = error.cause() {
            delay = delay.max((*asked).min(self.settings.max_backoff.saturating_mul(4)));
        }
        self.path.not_before = now + delay;
        self.path.state = match error.kind() {
            Kind::NotAuthorised => PathState::NotAuthorised,
            Kind::WrongServer | Kind::Incompatible => PathState::WrongServer,
            Kind::Full => PathState::Full,
            kind => PathState::Unreachable { kind },
        };
        // A small question finds out whether it works again for less than a batch.
        if failures >= 2 || matches!(self.path.state, PathState::NotAuthorised | PathState::WrongServer) {
            self.info = None;
        }
    }
}

/// Whether a path that has just come up can be the reason.
fn is_the_paths(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NoRoute | Kind::DnsFailed | Kind::ConnectFailed | Kind::Timeout | Kind::ConnectionLost
    )
}

#[cfg(test)]
pub(crate) mod tests;
