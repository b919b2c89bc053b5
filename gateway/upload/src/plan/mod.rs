//! What to do next for one destination: a state machine without IO, whose time and randomness are arguments.
//!
//! Call [`Planner::next`], do what it says, tell the outcome with [`Planner::handle`], and again. One thing is under
//! way at a time; nudges and news of the path may come in between.

mod backoff;
mod lanes;
mod limits;
mod path;
mod scan;
#[cfg(test)]
mod simulation;
mod step;
#[cfg(test)]
mod windows;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use waypost_protocol::api::{FailureCode, Info};
use waypost_protocol::ids::Seq;
use waypost_protocol::time::Monotonic;

use crate::body::{encoded_len, framed_len};
use crate::error::{Cause, Error, Kind};
use backoff::Backoff;
use lanes::Lanes;
use limits::{Limits, WORTH_PARTS};
use path::Path;
pub use step::{Begun, Fate, Input, Part, PathState, Settings, Step, Waiting};

/// Documents read from the store at once.
const PAGE: usize = 512;
/// Documents asked about in one `have`: their answers, each with a confirmation of its own, stay below the client's limit.
const ASK: usize = 1_024;
/// After so many reads of a document failed it is set aside.
const LOCAL_TRIES: u32 = 5;
/// So many batches lost in a row are no chance: the next ones are made smaller.
const LOSSES: u32 = 2;
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
    /// Bytes per second that the path has carried lately.
    rate: Option<u64>,
    /// When later verdicts are asked for; none while none is owed.
    fetch_at: Option<Monotonic>,
    /// Bytes cost money: those verdicts are asked for only so much later.
    patience: Duration,
}

#[derive(Debug)]
struct Item {
    waiting: Waiting,
    /// Bytes on the wire, for batches.
    bytes: u64,
    /// What of it the destination has by parts.
    begun: Begun,
    /// Ask with `have` before it is sent.
    ask: bool,
    /// It has been asked for.
    asked: bool,
    /// What its depositor was charged for the turn that it has now.
    charged: u64,
    /// Requests that it failed in alone, or that gave it no verdict.
    tries: u32,
    /// Batches with it that were lost in a row.
    losses: u32,
    /// It goes only in batches of at most so many documents: what breaks requests is found by halving.
    cap: usize,
}

impl Item {
    /// Bytes of its next turn: a large one goes part by part.
    fn turn(&self, most: u64) -> u64 {
        self.bytes.saturating_sub(self.there()).min(most)
    }

    /// Bytes that the destination has by parts.
    fn there(&self) -> u64 {
        match self.begun {
            Begun::No => 0,
            Begun::At(there) | Begun::Unsure(there) => there,
        }
    }
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

impl Planner {
    /// A plan that begins with reading what waits. `info` saves asking where it is known from before.
    pub fn new(settings: Settings, info: Option<Info>, seed: u64) -> Self {
        Planner {
            settings,
            backoff: Backoff::new(settings.min_backoff, settings.max_backoff, seed),
            path: Path::default(),
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
            rate: None,
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

    /// When it is asked again what it says of itself, also where nothing has to be sent, if so set.
    fn unprompted_due(&self, now: Monotonic) -> Option<Monotonic> {
        let known = self.info.as_ref().map(|(_, until)| *until).filter(|until| now < *until);
        let due = known.unwrap_or_else(|| self.path.try_at.max(self.path.not_before));
        self.settings.asks_unprompted.then_some(due)
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
            let again = [self.try_due(), self.unprompted_due(now)].into_iter().flatten().min();
            if again.is_some_and(|at| at <= now) {
                self.path.is_tried = true;
                self.path.tried = Some(now);
                self.path.is_untried = false;
                return Step::Try;
            }
            let first = self.deferred.first().map(|(at, _)| *at);
            return Step::Wait(
                [first, self.fetch_due(), self.scan.retry_at, again].into_iter().flatten().min(),
            );
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
        // Confirmations come down before anything goes up.
        if fetch {
            return Step::FetchConfirmations;
        }
        if !self.asks.is_empty() {
            self.flight = self.asks.iter().take(ASK).copied().collect();
            self.asks.retain(|seq| self.flight.binary_search(seq).is_err());
            return Step::AskHave(self.in_flight());
        }
        let limits = Limits::new(&self.settings, info, self.shrink, self.rate);
        self.upload(limits).unwrap_or_else(|| self.next(now))
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Monotonic) {
        match input {
            Input::Nudge => self.scan_again(),
            Input::PathUp => self.path_up(now),
            Input::PathDown => {
                self.path.not_before = now + self.settings.max_backoff;
                self.path.try_at = self.path.not_before;
                self.path.state = PathState::Unreachable { kind: Kind::NoRoute };
            }
            Input::Scanned { documents, more, owed } => self.scanned(&documents, more, owed, now),
            Input::ScanFailed => {
                self.scan.failures += 1;
                self.scan.retry_at = Some(now + self.backoff.after(self.scan.failures));
                self.scan.wanted = None;
            }
            Input::Info(Err(error)) if std::mem::take(&mut self.path.is_tried) => {
                if error.kind() != Kind::Stopped {
                    self.try_failed(&error, now);
                }
            }
            Input::Info(Ok(info)) => {
                self.path.failed_tries = 0;
                self.take_up_large(info.max_document);
                // Else it is asked again before the first upload: what it takes may be another thing by then.
                if !std::mem::take(&mut self.path.is_tried) || self.settings.asks_unprompted {
                    self.info = Some((info, now + self.settings.info_age));
                }
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
            Input::Pace { bytes, span } => self.measure(bytes, span),
            Input::Found(offset) => self.found(offset),
            Input::Advanced(offset) => self.advanced(offset, now),
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
                // What failed has left by another way.
                if self.items.is_empty() {
                    self.path.failed_uploads = 0;
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

    /// Bytes of one turn, as the path carries them.
    fn turn_bytes(&self) -> u64 {
        self.settings.batch_bytes.min(limits::in_time(&self.settings, self.rate))
    }

    fn enqueue(&mut self, seq: Seq) {
        let Some(item) = self.items.get(&seq) else { return };
        if item.ask {
            self.asks.insert(seq);
        } else if item.tries > 0 {
            self.retries.insert((item.tries, seq));
        } else {
            let is_large = item.bytes > self.settings.batch_bytes;
            self.lanes.push(&item.waiting, item.turn(self.turn_bytes()), is_large);
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

/// Sending.
impl Planner {
    fn is_asked(&self, seq: Seq) -> bool {
        self.items.get(&seq).is_some_and(|item| item.asked)
    }

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
            // What no window had time for goes on where it was cut off.
            let is_cut = limits.resumable && item.losses >= LOSSES && encoded >= WORTH_PARTS;
            let alone = is_cut || framed_len(description).is_none_or(|framed| framed > limits.alone);
            let (document, begun) = (item.waiting, item.begun);
            let fits = bytes.saturating_add(item.bytes) <= limits.batch_bytes && self.flight.len() < item.cap;
            if !self.flight.is_empty() && (alone || !fits) {
                break;
            }
            bytes = bytes.saturating_add(item.bytes);
            cap = cap.min(item.cap);
            self.take_first(retries);
            let most = self.turn_bytes();
            if let Some(item) = self.items.get_mut(&seq) {
                item.charged = if retries { 0 } else { item.turn(most) };
            }
            self.flight.push(seq);
            if alone && !self.is_asked(seq) {
                // That costs little beside something large.
                return Some(Step::AskHave(self.in_flight()));
            }
            if alone && limits.resumable {
                let others = !self.lanes.is_empty() || !self.retries.is_empty();
                let turn = (limits.batch_bytes.max(WORTH_PARTS), self.settings.turn);
                if let Some(item) = self.items.get_mut(&seq).filter(|item| item.begun == Begun::No) {
                    item.begun = Begun::Unsure(0);
                }
                return Some(Step::Part(Part { document, begun, turn, others }));
            }
            if alone {
                return Some(Step::Put(document));
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

    /// The destination has so many bytes of what is under way: more than at the last try, or that try was in vain.
    fn found(&mut self, offset: u64) {
        let item = self.flight.first().and_then(|seq| self.items.get_mut(seq));
        if let Some(item) = item
            && let Begun::Unsure(before) = item.begun
        {
            item.tries = if offset > before { 0 } else { item.tries.saturating_add(1) };
            item.begun = Begun::Unsure(offset);
        }
    }

    fn advanced(&mut self, offset: u64, now: Monotonic) {
        self.succeeded(now);
        for seq in std::mem::take(&mut self.flight) {
            let Some(item) = self.items.get_mut(&seq) else { continue };
            let there = item.there();
            (item.begun, item.tries) = (Begun::At(offset), 0);
            // Its turn may have been shorter than what it was charged for.
            let unused = std::mem::take(&mut item.charged).saturating_sub(offset.saturating_sub(there));
            let depositor = item.waiting.depositor;
            self.enqueue(seq);
            self.lanes.credit(&depositor, unused);
        }
    }

    /// Takes in how fast the path is: half of what was known before, half of what was seen now.
    fn measure(&mut self, bytes: u64, span: Duration) {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
        let seen = bytes.saturating_mul(1_000) / millis;
        self.rate =
            (bytes >= WORTH_PARTS).then(|| self.rate.map_or(seen, |rate| rate / 2 + seen / 2)).or(self.rate);
    }

    /// An upload got its answer.
    fn succeeded(&mut self, now: Monotonic) {
        self.losses = 0;
        self.shrink = self.shrink.saturating_sub(1);
        self.path.failed_uploads = 0;
        self.answered_question(now);
    }

    fn uploaded(&mut self, fates: Vec<(Seq, Fate)>, now: Monotonic) {
        let full = |(_, fate): &(Seq, Fate)| matches!(fate, Fate::Refused(FailureCode::Full, _));
        let all_full = fates.len() == self.flight.len() && fates.iter().all(full);
        if all_full {
            let error = Error::Definite(Cause::Full { detail: String::new() });
            self.path.failed_uploads = self.path.failed_uploads.saturating_add(1);
            self.path_failed(&error, now);
        } else {
            self.succeeded(now);
        }
        self.settle(fates, now);
    }

    /// Each document under way goes on by its fate; without one it will be asked about.
    fn settle(&mut self, fates: Vec<(Seq, Fate)>, now: Monotonic) {
        let mut fates: BTreeMap<Seq, Fate> = fates.into_iter().collect();
        for seq in std::mem::take(&mut self.flight) {
            let Some(item) = self.items.get_mut(&seq) else { continue };
            // Whole, refused or taken for another: what there was of its parts may be gone.
            item.begun = item.begun.unsure();
            let most = self.settings.max_backoff;
            match fates.remove(&seq) {
                Some(Fate::Done) => {
                    self.items.remove(&seq);
                }
                Some(Fate::NotHeld) => {
                    (item.ask, item.asked) = (false, true);
                    // One that was asked about at its turn still has that.
                    let (depositor, charged) = (item.waiting.depositor, std::mem::take(&mut item.charged));
                    self.enqueue(seq);
                    self.lanes.credit(&depositor, charged);
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
            if self.losses >= LOSSES {
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
            item.begun = item.begun.unsure();
            if lost {
                item.losses = item.losses.saturating_add(1);
            }
            let unreadable = local == Some(item.waiting.description.id);
            if unreadable && item.tries + 1 >= LOCAL_TRIES || refused && alone {
                self.put_aside(seq, cause.clone());
                continue;
            }
            // Twice may be the link; after that it may be one of these.
            if refused || kind == Kind::Full || (lost && item.losses >= LOSSES) {
                item.cap = item.cap.min(halved);
            }
            let in_vain = matches!(item.begun, Begun::Unsure(_)) && item.tries > 0;
            if unreadable || (alone && (lost || in_vain || kind == Kind::Full)) {
                self.defer(seq, self.settings.max_backoff, now);
            } else {
                self.enqueue(seq);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
