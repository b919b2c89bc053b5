//! The thread that uploads to one destination: asks the plan, does what it says, and tells the sink.

mod parts;
mod reading;

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use waypost_protocol::api::{self, Answer, FailureCode};
use waypost_protocol::ids::{MessageId, Seq};
use waypost_protocol::mvds;
use waypost_protocol::time::Monotonic;

pub use self::parts::{AfterUploads, Event, Sink, Source};
use self::reading::{Pace, StoredBody, digest, progress};
use crate::body::{Upload, encoded_len};
use crate::client::{CachedInfo, Client, Stopper};
use crate::error::{Cause, Error, plain};
use crate::plan::{self, Begun, Fate, Input, Part, PathState, Planner, Step, Waiting};
use crate::way::Route;

/// Bytes of a body read from the store at once.
const CHUNK: usize = 64 << 10;
/// Progress is told at most so often.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Pages of `?since=` fetched in a row.
const MAX_PAGES: usize = 64;
/// A connection that was silent for so long when a path appears belongs to the one before.
const SILENCE: Duration = Duration::from_millis(1_500);
/// How long the thread gets to end after its connection was closed.
const GRACE: Duration = Duration::from_millis(500);

/// What an uploader is made of.
pub struct Settings {
    /// The destination.
    pub client: Client,
    /// The plan's settings.
    pub plan: plan::Settings,
    /// Server information from before, which saves asking.
    pub info: Option<CachedInfo>,
    /// For jitter.
    pub seed: u64,
    /// The clock of [`PathState::Ok`].
    pub clock: Box<dyn Fn() -> Monotonic + Send>,
    /// What is done when no upload can be.
    pub after: Option<Box<dyn AfterUploads>>,
}

/// A running uploader. Dropping it stops it without waiting.
pub struct Uploader {
    control: Arc<Control>,
    stopper: Stopper,
    finished: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Control {
    signals: Mutex<Signals>,
    changed: Condvar,
}

/// News for the thread; more of the same is one.
#[derive(Debug, Default, Clone, Copy)]
struct Signals {
    nudge: bool,
    path: Option<bool>,
    stop: bool,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, Signals> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, set: impl FnOnce(&mut Signals)) {
        set(&mut self.lock());
        self.changed.notify_all();
    }
}

impl Uploader {
    /// Starts the thread.
    pub fn start(
        settings: Settings,
        source: impl Source + 'static,
        sink: impl Sink + 'static,
    ) -> io::Result<Uploader> {
        let control = Arc::new(Control::default());
        let stopper = settings.client.stopper();
        let (done, finished) = sync_channel(1);
        let info = settings.info.as_ref().map(|cached| cached.info.clone());
        let worker = Worker {
            planner: Planner::new(settings.plan, info, settings.seed),
            client: settings.client,
            info: settings.info,
            clock: settings.clock,
            after: settings.after,
            control: control.clone(),
            source,
            sink,
            state: PathState::Unknown,
            route: Route::default(),
        };
        let thread = std::thread::Builder::new().name("upload".into()).spawn(move || {
            // Closes the channel when the thread ends, also by a panic: whoever stops it sees that at once.
            let _done = done;
            worker.run();
        })?;
        Ok(Uploader { control, stopper, finished, thread: Some(thread) })
    }

    /// Something new waits in the source.
    pub fn nudge(&self) {
        self.control.signal(|signals| signals.nudge = true);
    }

    /// A backhaul appeared: what failed before is tried at once. A connection on which nothing moves is given up: TCP
    /// would find out by itself only when the window may be over.
    pub fn path_up(&self) {
        self.stopper.path_up(SILENCE);
        self.control.signal(|signals| signals.path = Some(true));
    }

    /// The backhaul is gone.
    pub fn path_down(&self) {
        self.control.signal(|signals| signals.path = Some(false));
    }

    /// Begins nothing new from now on; [`Uploader::stop`] is to follow.
    pub fn wind_down(&self) {
        self.control.signal(|signals| signals.stop = true);
    }

    /// Whether the thread runs; false before [`Uploader::stop`] means that it broke down.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Begins nothing new, lets the request under way go on until shortly before the deadline, then closes its
    /// connection. Whether the thread has ended; it has not only where connecting hangs, and then it will later.
    pub fn stop(mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        self.control.signal(|signals| signals.stop = true);
        let patience = within.saturating_sub(GRACE.min(within / 2));
        if self.finished.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            self.stopper.stop();
            let left = deadline.saturating_duration_since(Instant::now()).max(GRACE / 10);
            if self.finished.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                return false;
            }
        }
        // It has nothing left to do but return. A panic of it was told on its way.
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.control.signal(|signals| signals.stop = true);
        self.stopper.stop();
    }
}

struct Worker<S, K> {
    planner: Planner,
    client: Client,
    info: Option<CachedInfo>,
    clock: Box<dyn Fn() -> Monotonic + Send>,
    after: Option<Box<dyn AfterUploads>>,
    control: Arc<Control>,
    source: S,
    sink: K,
    state: PathState,
    /// Of the last connection.
    route: Route,
}

impl<S: Source, K: Sink> Worker<S, K> {
    fn run(mut self) {
        if let (Some(after), Some(cached)) = (&mut self.after, &self.info) {
            after.info(&cached.info, (self.clock)());
        }
        // Whether it is the turn of what else is to be done.
        let mut turn = false;
        while self.take_signals(None) {
            self.look_at_lines();
            let now = (self.clock)();
            self.planner.set_metered(self.client.is_metered());
            if std::mem::take(&mut turn) && self.after_uploads(now) {
                continue;
            }
            let input = match self.planner.next(now) {
                Step::Scan { after, limit } => Some(self.scan(after, limit)),
                Step::Probe => Some(self.probe()),
                Step::Try => Some(self.try_it()),
                Step::AskHave(documents) => Some(self.ask(&documents)),
                Step::Batch(documents) => self.upload(documents, false),
                Step::Put(document) => self.upload(vec![document], true),
                Step::Part(part) => self.advance(part),
                Step::FetchConfirmations => Some(self.fetch()),
                Step::SetAside { document, cause } => {
                    self.sink.event(Event::SetAside { document: &document, cause: &cause });
                    continue;
                }
                Step::Wait(until) => {
                    if self.after_uploads(now) {
                        continue;
                    }
                    let due = self.after.as_ref().and_then(|after| after.due());
                    let until = [until, due].into_iter().flatten().min();
                    self.client.rest();
                    if !self.take_signals(Some(until)) {
                        return;
                    }
                    continue;
                }
            };
            if let Some(input) = input {
                turn = matches!(input, Input::Uploaded(Ok(_)) | Input::Advanced(_));
                self.tell(input);
            }
        }
    }

    /// Tells by which route connections go, and goes on at once where a line failed and another one may work.
    fn look_at_lines(&mut self) {
        let route = self.client.route();
        if route != self.route {
            self.sink.event(Event::TookRoute(&route));
            self.route = route;
        }
        if self.client.has_turned() {
            self.path_up();
        }
    }

    fn path_up(&mut self) {
        if let Some(after) = &mut self.after {
            after.path_up((self.clock)());
        }
        self.tell(Input::PathUp);
    }

    /// A step of what else is to be done, if one is due.
    fn after_uploads(&mut self, now: Monotonic) -> bool {
        let Some(after) = self.after.as_mut().filter(|after| after.due().is_some_and(|due| due <= now))
        else {
            return false;
        };
        if after.step(&mut self.client, now) {
            self.tell(Input::Nudge);
        }
        true
    }

    fn tell(&mut self, input: Input) {
        let now = (self.clock)();
        self.planner.handle(input, now);
        let state = self.planner.path();
        if state != self.state {
            self.state = state;
            self.sink.event(Event::StateChanged(state));
        }
    }

    /// Passes signals on, waiting for one if `until` says so. False at the end.
    fn take_signals(&mut self, until: Option<Option<Monotonic>>) -> bool {
        let control = self.control.clone();
        let mut signals = control.lock();
        let waiting = |signals: &mut Signals| !signals.nudge && signals.path.is_none() && !signals.stop;
        if let Some(until) = until {
            signals = match until {
                Some(until) => {
                    let span = until.since((self.clock)());
                    let wait = control.changed.wait_timeout_while(signals, span, waiting);
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
                None => control.changed.wait_while(signals, waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let taken = *signals;
        signals.nudge = false;
        signals.path = None;
        drop(signals);
        if let Some(after) = self.after.as_mut().filter(|_| taken.nudge) {
            after.nudge((self.clock)());
        }
        match taken.path {
            Some(true) => self.path_up(),
            Some(false) => {
                self.failed(&[], Error::Definite(Cause::NoRoute { host: self.client.host().to_owned() }));
                self.tell(Input::PathDown);
            }
            None => {}
        }
        if taken.nudge {
            self.tell(Input::Nudge);
        }
        !taken.stop
    }

    fn scan(&mut self, after: Option<Seq>, limit: usize) -> Input {
        match self.source.waiting(after, limit) {
            Ok(documents) => {
                Input::Scanned { more: documents.len() >= limit, documents, owed: self.source.owed() }
            }
            Err(problem) => {
                self.sink.event(Event::StoreFailed(&problem));
                Input::ScanFailed
            }
        }
    }

    fn probe(&mut self) -> Input {
        let result = self.client.info(self.info.as_ref());
        Input::Info(match result {
            Ok(cached) => {
                self.sink.event(Event::Info(&cached));
                self.follow();
                let info = cached.info.clone();
                if let Some(after) = &mut self.after {
                    after.info(&info, (self.clock)());
                }
                self.info = Some(cached);
                Ok(info)
            }
            Err(error) => Err(self.failed(&[], error)),
        })
    }

    /// Server information is for everybody; a question about no documents is for gateways that it knows.
    fn try_it(&mut self) -> Input {
        let input = self.probe();
        if !matches!(input, Input::Info(Ok(_))) {
            return input;
        }
        // What else is to be done may follow.
        self.client.set_closes(self.after.is_none());
        let known = self.client.have(&[]);
        self.client.set_closes(false);
        match known {
            Ok(_) => input,
            Err(error) => Input::Info(Err(self.failed(&[], error))),
        }
    }

    fn failed(&mut self, documents: &[Waiting], error: Error) -> Error {
        self.sink.event(Event::Failed { documents, error: &error });
        error
    }

    /// Fetches the destination's chain where that is wanted; whether it has news. A failure is no news: the next request
    /// meets the same trouble and tells it.
    fn follow(&mut self) -> bool {
        let called = match (self.client.chain(), &self.info) {
            ("", Some(cached)) => cached.info.chain.as_str(),
            (called, _) => called,
        };
        if !self.sink.wants_successions(called) {
            return false;
        }
        match self.client.successions() {
            Ok(encoded) => self.sink.successions(&encoded),
            Err(_) => false,
        }
    }

    /// Commits confirmations; the ids that they settle. Where the store fails nothing is settled and all waits on.
    fn commit(&mut self, confirmations: Vec<mvds::Confirmation>) -> Option<Vec<MessageId>> {
        self.follow();
        if confirmations.is_empty() {
            return Some(Vec::new());
        }
        let mut settled = self.sink.confirmations(confirmations.clone());
        // Somebody signs who is not known.
        if settled.is_ok() && self.follow() {
            settled = self.sink.confirmations(confirmations);
        }
        match settled {
            Ok(mut settled) => {
                if let Some(after) = self.after.as_mut().filter(|_| !settled.is_empty()) {
                    after.nudge((self.clock)());
                }
                settled.sort_unstable();
                Some(settled)
            }
            Err(problem) => {
                self.sink.event(Event::StoreFailed(&problem));
                None
            }
        }
    }

    fn ask(&mut self, documents: &[Waiting]) -> Input {
        let ids: Vec<MessageId> = documents.iter().map(|document| document.description.id).collect();
        let answer = match self.client.have(&ids) {
            Ok(answer) => answer,
            Err(error) => return Input::Had(Err(self.failed(documents, error))),
        };
        let Some(settled) = self.commit(answer.confirmations) else { return Input::Had(Ok(Vec::new())) };
        let fates = documents.iter().enumerate().map(|(at, document)| {
            let id = document.description.id;
            let fate = if settled.binary_search(&id).is_ok() {
                Fate::Done
            } else if api::bit(&answer.held, at) {
                Fate::Held
            } else {
                Fate::NotHeld
            };
            (document.seq, fate)
        });
        Input::Had(Ok(fates.collect()))
    }

    fn fetch(&mut self) -> Input {
        let mut cursor = self.source.cursor();
        let mut is_proven = true;
        for _ in 0..MAX_PAGES {
            let answer = match self.client.confirmations_since(cursor) {
                Ok(answer) => answer,
                Err(error) => return Input::Fetched(Err(self.failed(&[], error))),
            };
            // The cursor stays where it is until everything before it is committed.
            if answer.cursor <= cursor || self.commit(answer.confirmations).is_none() {
                break;
            }
            cursor = answer.cursor;
            // What does not verify today may do so once the destination's next key is known: it is asked for again.
            is_proven &= !self.sink.has_unproven();
            if is_proven {
                self.sink.event(Event::Cursor(cursor));
            }
            if self.control.lock().stop {
                break;
            }
        }
        Input::Fetched(Ok(self.source.owed()))
    }

    /// None where nothing is left to upload.
    fn upload(&mut self, documents: Vec<Waiting>, by_itself: bool) -> Option<Input> {
        let documents = self.still_waiting(documents);
        if documents.is_empty() {
            return None;
        }
        self.sink.event(Event::Attempting { documents: &documents });
        Some(Input::Uploaded(match self.send(&documents, by_itself) {
            Ok(answer) => Ok(self.take_answer(&documents, answer)),
            Err(error) => Err(self.failed(&documents, error)),
        }))
    }

    /// A part of a large document; after the last one its verdict.
    fn advance(&mut self, part: Part) -> Option<Input> {
        let documents = self.still_waiting(vec![part.document]);
        let [document] = documents[..] else { return None };
        self.sink.event(Event::Attempting { documents: &documents });
        let result = self.send_part(&document, part).and_then(|there| {
            if there < encoded_len(&document.description) {
                return Ok(Err(there));
            }
            // The document is there; only its confirmation may have to wait.
            let answer = self.client.confirmations(&[document.description.id]);
            answer.map(Ok).map_err(|error| Error::Ambiguous(error.cause().clone()))
        });
        Some(match result {
            Ok(Err(there)) => Input::Advanced(there),
            Ok(Ok(answer)) => Input::Uploaded(Ok(self.take_answer(&documents, answer))),
            Err(error) => Input::Uploaded(Err(self.failed(&documents, error))),
        })
    }

    /// Sends from where the destination is on; returns where it is then.
    fn send_part(&mut self, document: &Waiting, part: Part) -> Result<u64, Error> {
        let from = match part.begun {
            Begun::No => None,
            Begun::At(offset) => Some(offset),
            Begun::Unsure(_) => {
                let id = document.description.id;
                let found = self.client.upload_offset(&id)?;
                if found.is_none() && api::bit(&self.client.have(&[id])?.held, 0) {
                    // It became whole while it was asked for.
                    return Ok(encoded_len(&document.description));
                }
                self.tell(Input::Found(found.unwrap_or(0)));
                found
            }
        };
        let control = self.control.clone();
        let begun = Instant::now();
        let ends = |sent: u64| {
            let signals = control.lock();
            let is_over = sent >= part.turn.0 || begun.elapsed() >= part.turn.1;
            signals.stop || (is_over && (part.others || signals.nudge))
        };
        let mut pace = Pace::new();
        let offset = from.unwrap_or(0);
        let mut progress = progress(&mut self.sink, &mut pace);
        let upload = Upload {
            description: document.description,
            body: StoredBody::from(&self.source, document, offset),
            is_listed: self.source.is_listed(document),
        };
        let result = self.client.append(upload, from, &ends, &mut progress);
        drop(progress);
        self.tell_pace(pace, offset, result.is_ok());
        result
    }

    fn tell_pace(&mut self, pace: Pace, offset: u64, is_whole: bool) {
        // Of an upload that failed, only the time counts in which something moved.
        let span = if is_whole { pace.begun.elapsed() } else { pace.moved.duration_since(pace.begun) };
        self.tell(Input::Pace { bytes: pace.sent.saturating_sub(offset), span });
    }

    fn still_waiting(&mut self, documents: Vec<Waiting>) -> Vec<Waiting> {
        match self.source.still_waiting(&documents) {
            Ok(still) => {
                let mut still = still.into_iter();
                let (stay, gone): (Vec<_>, Vec<_>) =
                    documents.into_iter().partition(|_| still.next().unwrap_or(false));
                self.tell(Input::Gone(gone.iter().map(|document| document.seq).collect()));
                stay
            }
            // Then reading the bodies will fail as well, and name the document.
            Err(problem) => {
                self.sink.event(Event::StoreFailed(&problem));
                documents
            }
        }
    }

    fn send(&mut self, documents: &[Waiting], by_itself: bool) -> Result<Answer, Error> {
        let source = &self.source;
        let mut pace = Pace::new();
        let mut progress = progress(&mut self.sink, &mut pace);
        let uploads = documents.iter().map(|document| Upload {
            description: document.description,
            body: StoredBody::new(source, document),
            is_listed: source.is_listed(document),
        });
        let mut uploads: Vec<_> = uploads.collect();
        let result = match (documents, by_itself, uploads.pop()) {
            ([document], true, Some(upload)) => digest(document, source, &self.control)
                .and_then(|digest| self.client.put(upload, digest, &mut progress)),
            (_, _, last) => {
                uploads.extend(last);
                self.client.batch(uploads, &mut progress)
            }
        };
        drop(progress);
        self.tell_pace(pace, 0, result.is_ok());
        result
    }

    fn take_answer(&mut self, documents: &[Waiting], answer: Answer) -> Vec<(Seq, Fate)> {
        let mut refused = BTreeMap::new();
        for failure in answer.failures {
            let at = usize::try_from(failure.index).unwrap_or(usize::MAX);
            if let Some(document) = documents.get(at) {
                let detail = plain(&failure.detail);
                let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
                refused.insert(document.seq, (FailureCode::from_code(failure.code), detail));
            }
        }
        let taken = documents.iter().filter(|document| !refused.contains_key(&document.seq));
        let sent: Vec<MessageId> = taken.map(|document| document.description.id).collect();
        self.sink.event(Event::Sent { ids: &sent });
        let settled = self.commit(answer.confirmations).unwrap_or_default();
        let mut fates = Vec::new();
        for document in documents {
            if settled.binary_search(&document.description.id).is_ok() {
                fates.push((document.seq, Fate::Done));
            } else if let Some((code, detail)) = refused.remove(&document.seq) {
                let error = Error::Definite(Cause::DocumentRefused { code, detail: detail.clone() });
                self.failed(std::slice::from_ref(document), error);
                fates.push((document.seq, Fate::Refused(code, detail)));
            }
        }
        fates
    }
}
