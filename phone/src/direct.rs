//! Delivering straight to the destination over HTTPS, when the phone has internet.

use std::collections::HashMap;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};
use waypost_protocol::api::{self, Answer, FailureCode, Info};
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::document::{Description, prefix};
use waypost_protocol::ids::{MessageId, Seq};
use waypost_protocol::succession;
use waypost_protocol::sync::Holdings as _;
use waypost_store::{Applied, Change, Filter, State, Store, Waiting};
use waypost_upload::{Cause, Client, Error, Kind, Upload};

use crate::Phone;
use crate::contact::SyncError;
use crate::destination::{Destination, chain_tag};
use crate::host::UNREADABLE;
use crate::report::{Ending, Progress, Refusal, SyncReport};
use crate::words::plain;

/// Documents up to this size go in batches, larger ones each in a request of its own.
const SMALL: u64 = 1 << 20;
/// At most so many documents are planned at a time.
const PAGE: usize = 512;
/// Bytes of a body that are read at a time.
const READ: usize = 256 << 10;
/// After so many ambiguous failures the rest is left for the next time.
const TRIES: u32 = 3;

impl Phone {
    /// Delivers everything that waits for `destination` to its server, and takes its confirmations. Blocks. That the
    /// server was not reached or said no is in the report.
    pub fn deliver(
        &self,
        destination: &Destination,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<SyncReport, SyncError> {
        let name = destination.name();
        let Some(settings) = destination.client_settings() else {
            let why = "this phone has no url of it; give one with `waypost-phone destination set --url`";
            return Ok(SyncReport::not_begun(&name, Ending::NotReached, why));
        };
        let begun = Instant::now();
        let mut report = SyncReport::not_begun(&name, Ending::NothingNew, "");
        (report.address, report.medium) = (settings.url.clone(), "https".to_owned());
        let mut client = match Client::new(&settings) {
            Ok(client) => client,
            Err(error) => return Ok(SyncReport::not_begun(&name, Ending::Failed, error.to_string())),
        };
        let info = match client.info(None) {
            Ok(cached) => cached.info,
            Err(error) => {
                (report.ending, report.why) = (ending_of(&error), error.to_string());
                report.set_span(begun.elapsed());
                return Ok(report);
            }
        };
        let mut destination = destination.clone();
        self.follow(&mut destination, &mut client, &info)?;
        let destination = &destination;
        progress(Progress::Connected { name, key: None, address: settings.url });
        let mut delivery = Delivery { phone: self, destination, client, info, report, progress };
        if let Err(error) = delivery.run()? {
            let report = &mut delivery.report;
            (report.ending, report.why) = (ending_of(&error), error.to_string());
        } else if delivery.report.transferred + delivery.report.confirmations > 0
            || !delivery.report.refused.is_empty()
        {
            delivery.report.ending = Ending::Finished;
        }
        let mut report = delivery.report;
        report.set_span(begun.elapsed());
        Ok(report)
    }
}

impl Phone {
    /// Asks for the destination's certificates where they have changed. What goes wrong here hinders nothing else.
    fn follow(
        &self,
        destination: &mut Destination,
        client: &mut Client,
        info: &Info,
    ) -> Result<(), SyncError> {
        let key = chain_tag(&destination.fingerprint());
        if info.chain.is_empty() || self.load::<String>(&key)?.is_some_and(|taken| taken == info.chain) {
            return Ok(());
        }
        let fetched = client.successions().map_err(|error| error.to_string());
        let links = fetched.and_then(|bytes| succession::decode(&bytes).map_err(|error| error.to_string()));
        let followed = links.and_then(|links| {
            self.follow_destination(destination, &links).map_err(|error| error.to_string())
        });
        match followed {
            // What was not taken is looked at again: it may have been for the clock.
            Ok(absorbed) if absorbed.faults.is_empty() => self.save(&key, &info.chain)?,
            Ok(_) => {}
            Err(error) => log::warn!("{}: its certificates were not renewed: {error}", destination.name()),
        }
        Ok(())
    }
}

fn ending_of(error: &Error) -> Ending {
    match error.kind() {
        Kind::NoRoute | Kind::DnsFailed | Kind::ConnectFailed => Ending::NotReached,
        Kind::Timeout | Kind::ConnectionLost | Kind::Unreadable | Kind::Stopped => Ending::LinkLost,
        Kind::NotAuthorised => Ending::TurnedAway,
        _ => Ending::Failed,
    }
}

struct Delivery<'p> {
    phone: &'p Phone,
    destination: &'p Destination,
    client: Client,
    info: Info,
    report: SyncReport,
    progress: &'p mut dyn FnMut(Progress),
}

/// The outer error is the phone's own, the inner one the destination's or of the way there.
type Outcome<T> = Result<Result<T, Error>, SyncError>;

impl Delivery<'_> {
    fn run(&mut self) -> Outcome<()> {
        let mut after: Option<Seq> = None;
        loop {
            let page = self.phone.store().waiting(&self.destination.fingerprint(), after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.seq);
            if let Err(error) = self.page(page)? {
                return Ok(Err(error));
            }
        }
        self.ask_about_held()
    }

    /// Uploads documents; after an ambiguous failure it asks what has arrived, and goes on with the rest.
    fn page(&mut self, page: Vec<Waiting>) -> Outcome<()> {
        let mut left: Vec<Waiting> = Vec::new();
        for one in page {
            // What the destination may have got, over a kiosk or before, is asked for first.
            let known = self.phone.store().document(&one.description.id)?;
            let is_doubtful = one.attempts > 0 || known.is_some_and(|known| !known.held_by.is_empty());
            match encoded_len(&one.description) > self.info.max_document {
                true => self.refuse(one.description.id, "larger than the destination takes".into(), false),
                false => left.push(Waiting { attempts: u32::from(is_doubtful), ..one }),
            }
        }
        let mut tries = 0;
        loop {
            let Err(error) = self.upload(&mut left)? else { return Ok(Ok(())) };
            match unreadable_in(&error, &left) {
                // It breaks the request that it is in; the others go on without it.
                Some(at) => {
                    log::warn!("{error}");
                    let one = left.remove(at);
                    self.refuse(one.description.id, UNREADABLE.to_owned(), false);
                }
                None if error.is_ambiguous() && tries + 1 < TRIES => {
                    tries += 1;
                    log::info!("{error}");
                    std::thread::sleep(Duration::from_millis(500) * 2u32.pow(tries));
                }
                None => return Ok(Err(error)),
            }
        }
    }

    fn upload(&mut self, left: &mut Vec<Waiting>) -> Outcome<()> {
        let doubtful: Vec<MessageId> =
            left.iter().filter(|one| one.attempts > 0).map(|one| one.description.id).collect();
        for ids in doubtful.chunks(api::MAX_IDS) {
            let answer = match self.client.have(ids) {
                Ok(answer) => answer,
                Err(error) => return Ok(Err(error)),
            };
            self.take(&answer)?;
            left.retain(|one| {
                let at = ids.iter().position(|id| *id == one.description.id);
                let has_it = at.is_some_and(|at| api::bit(&answer.held, at));
                self.report.already_held += u64::from(has_it);
                !has_it
            });
        }
        while !left.is_empty() {
            let batch = self.next_batch(left);
            let attempted = batch.iter().map(|one| Change::Attempted { id: one.description.id }).collect();
            for outcome in self.phone.store().apply(attempted) {
                outcome.map_err(crate::SettingError::from)?;
            }
            let sent = self.send(&batch)?;
            for one in left.iter_mut().take(batch.len()) {
                one.attempts += 1;
            }
            match sent {
                Ok(answer) => self.settle(&batch, &answer)?,
                Err(error) => return Ok(Err(error)),
            }
            left.drain(..batch.len());
        }
        Ok(Ok(()))
    }

    /// The first documents that go in one request.
    fn next_batch(&self, left: &[Waiting]) -> Vec<Waiting> {
        let most = usize::try_from(self.info.max_batch_documents).unwrap_or(1).clamp(1, PAGE);
        let (mut batch, mut bytes) = (Vec::new(), 0u64);
        for one in left {
            let size = encoded_len(&one.description) + 4;
            bytes = bytes.saturating_add(size);
            let fits = size <= SMALL && bytes <= self.info.max_batch_bytes && batch.len() < most;
            if !batch.is_empty() && !fits {
                break;
            }
            batch.push(one.clone());
            if size > SMALL {
                break;
            }
        }
        batch
    }

    fn send(&mut self, batch: &[Waiting]) -> Outcome<Answer> {
        let store = self.phone.store();
        let body = |one: &Waiting| Body::new(store.clone(), one);
        if let [one] = batch {
            let description = one.description;
            let mut told = Instant::now();
            let progress = &mut *self.progress;
            let mut tell = |done: u64, size: u64| {
                if done == size || told.elapsed() > Duration::from_millis(150) {
                    told = Instant::now();
                    progress(Progress::Progress { id: description.id, done, size });
                }
            };
            self.report.bytes_out += encoded_len(&description);
            if self.info.resumable && encoded_len(&description) > SMALL {
                let from = |offset| Body { offset, ..body(one) };
                return Ok(self.client.put_on(&description, one.attempts > 0, from, &mut tell));
            }
            let Ok(digest) = digest(&description, body(one)) else {
                return Ok(Ok(Answer { failures: vec![unreadable()], ..Answer::default() }));
            };
            return Ok(self.client.put(Upload::new(description, body(one)), digest, &mut tell));
        }
        let parts = batch.iter().map(|one| Upload::new(one.description, body(one))).collect();
        self.report.bytes_out += batch.iter().map(|one| encoded_len(&one.description) + 4).sum::<u64>();
        Ok(self.client.batch(parts, &mut |_, _| {}))
    }

    /// Takes an answer to a batch: verdicts, and documents that got none.
    fn settle(&mut self, batch: &[Waiting], answer: &Answer) -> Result<(), SyncError> {
        self.take(answer)?;
        let mut failed: HashMap<usize, (FailureCode, String)> = HashMap::new();
        for failure in &answer.failures {
            let index = usize::try_from(failure.index).unwrap_or(usize::MAX);
            failed.insert(index, (FailureCode::from_code(failure.code), plain(&failure.detail)));
        }
        for (at, one) in batch.iter().enumerate() {
            match failed.remove(&at) {
                Some((code, detail)) => {
                    self.refuse(one.description.id, detail, code.is_temporary());
                }
                None => {
                    self.report.transferred += 1;
                    self.report.bytes += one.description.size;
                    let size = one.description.size;
                    (self.progress)(Progress::Progress { id: one.description.id, done: size, size });
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, id: MessageId, reason: String, is_temporary: bool) {
        (self.progress)(Progress::Refused { id, reason: reason.clone() });
        self.report.refused.push(Refusal { id, reason, is_temporary });
    }

    /// Verifies and stores confirmations; deletes what they prove delivered.
    fn take(&mut self, answer: &Answer) -> Result<(), SyncError> {
        for wire in &answer.confirmations {
            let checked = Confirmation::from_wire(wire).map_err(|error| error.to_string()).and_then(|one| {
                self.destination.verify(&one, self.phone.wall())?;
                Ok(one)
            });
            let confirmation = match checked {
                Ok(confirmation) => confirmation,
                Err(why) => {
                    self.report.not_proven += 1;
                    (self.progress)(Progress::NotProven { why });
                    continue;
                }
            };
            let freeing = self.destination.freeing();
            let change = Change::Confirmation { confirmation: Box::new(confirmation), freeing, from: None };
            let applied = self.phone.writer().apply(change).map_err(crate::SettingError::from)?;
            let Applied::Verdicts { new: true, changed } = applied else { continue };
            self.report.confirmations += 1;
            for (id, verdict) in changed {
                if self.phone.store().document(&id)?.is_some_and(|entry| entry.depositor.is_none()) {
                    self.report.count_verdict(verdict);
                    (self.progress)(Progress::Confirmed { id, verdict });
                }
            }
        }
        Ok(())
    }

    /// What the destination held unopened may be opened by now.
    fn ask_about_held(&mut self) -> Outcome<()> {
        let mut held = Vec::new();
        self.phone.each_document(Filter::Confirmed, |entry| {
            if entry.state == State::Confirmed(Verdict::Held)
                && entry.header.destination == self.destination.fingerprint()
            {
                held.push(entry.description.id);
            }
        })?;
        for ids in held.chunks(api::MAX_IDS) {
            match self.client.confirmations(ids) {
                Ok(answer) => self.take(&answer)?,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }
}

/// Which of these documents could not be read from the phone's store.
fn unreadable_in(error: &Error, documents: &[Waiting]) -> Option<usize> {
    let Cause::Local { id, .. } = error.cause() else { return None };
    documents.iter().position(|one| one.description.id == *id)
}

fn unreadable() -> api::Failure {
    let detail = UNREADABLE.to_owned();
    api::Failure { code: FailureCode::Server.code(), detail, ..api::Failure::default() }
}

fn encoded_len(description: &Description) -> u64 {
    description.size.saturating_add(prefix(description).len() as u64)
}

/// SHA-256 over the canonical encoding (RFC 9530).
fn digest(description: &Description, mut body: impl Read) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    hasher.update(prefix(description));
    let mut buffer = vec![0; READ];
    loop {
        match body.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            length => hasher.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

/// Reads a document's body out of the store.
struct Body {
    store: Store,
    seq: Seq,
    offset: u64,
    piece: Bytes,
}

impl Body {
    fn new(store: Store, one: &Waiting) -> Self {
        Body { store, seq: one.seq, offset: 0, piece: Bytes::new() }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let read = self.store.read_body(self.seq, self.offset, READ);
            self.piece = read.map_err(|error| io::Error::other(error.to_string()))?;
            self.offset += self.piece.len() as u64;
        }
        let length = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(buffer.get_mut(..length).unwrap_or_default());
        Ok(length)
    }
}
