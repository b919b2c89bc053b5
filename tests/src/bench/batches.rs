//! `batches_vs_fixed`: what batches that follow the path gain over fixed large ones, where it vanishes at random.
//!
//! The gateway's plan itself, against a line and a destination in virtual time: the destination keeps each document that
//! has come whole, a connection dies with its path, and the gateway learns of both ends of a window at once.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use waypost_protocol::api::Info;
use waypost_protocol::document::{Description, prefix};
use waypost_protocol::ids::{Fingerprint, GroupId, MessageId, PeerKey, Seq};
use waypost_protocol::time::{Monotonic, UnixTime};
use waypost_upload::plan::{Begun, Fate, Input, Part, Planner, Settings, Step, Waiting};
use waypost_upload::{Cause, Error};

use super::row::Measured;
use super::{Bench, Outcome};

/// Windows of one run.
const WINDOWS: u32 = 100;
/// The path is away for so long in the mean.
const AWAY: Duration = Duration::from_secs(60);
/// A mobile line, in bytes per second and there and back.
const RATE: u64 = 60_000;
const ROUND_TRIP: Duration = Duration::from_millis(600);
/// So many documents wait at any time.
const WAITING: u64 = 3_000;
/// Bytes that a question or a verdict takes for a document.
const ASKED: u64 = 32;
const CONFIRMED: u64 = 50;

/// Which rule is in effect.
#[derive(Clone, Copy, PartialEq)]
enum Batches {
    /// The gateway's.
    Adaptive,
    /// Always as large as settings and destination allow: neither rate nor losses change anything.
    Fixed,
}

/// Documents that wait.
#[derive(Clone, Copy)]
enum Load {
    Forms,
    Photos,
    /// A photo of 200 KB for each twenty forms.
    Both,
}

/// The value is that of forms and photos where the path is there for five seconds in the mean: confirmed bytes with the
/// gateway's batches ÷ with fixed ones.
pub(super) fn batches(_: &Bench) -> Outcome<Measured> {
    let mut rows = Vec::new();
    for (name, load, seconds) in [
        ("forms and photos, windows of 5 s", Load::Both, 5),
        ("forms, windows of 5 s", Load::Forms, 5),
        ("photos, windows of 5 s", Load::Photos, 5),
        ("forms and photos, windows of 20 s", Load::Both, 20),
        ("forms, windows of 20 s", Load::Forms, 20),
        ("photos, windows of 20 s", Load::Photos, 20),
    ] {
        let run = |batches| Line::new(load, Duration::from_secs(seconds)).run(batches);
        let (adaptive, fixed) = (run(Batches::Adaptive), run(Batches::Fixed));
        let ratio = adaptive.confirmed as f64 / fixed.confirmed as f64;
        let text = format!(
            "{ratio:.2} ({:.0} % of what the line carries against {:.0} %; verdicts {:.0} s after documents are there \
             against {:.0} s)",
            adaptive.used(),
            fixed.used(),
            adaptive.verdict_after(),
            fixed.verdict_after()
        );
        rows.push((name, ratio, text));
    }
    let first = rows.first().map_or(0.0, |(_, ratio, _)| *ratio);
    let measured =
        rows.into_iter().fold(Measured::new(first), |measured, (name, _, text)| measured.beside(name, text));
    Ok(measured.beside(
        "line",
        "60 KB/s, 600 ms there and back, away for 60 s in the mean; 100 windows, the same for both",
    ))
}

/// A line, the gateway's store at one end and the destination at the other.
struct Line {
    load: Load,
    /// The path is there for so long in the mean.
    mean: Duration,
    random: ChaCha8Rng,
    /// Whether a connection is open.
    connected: bool,
    closes: Monotonic,
    next: u64,
    waiting: BTreeMap<Seq, Waiting>,
    /// What the destination has whole and since when, and of what it has parts.
    held: BTreeMap<Seq, Monotonic>,
    parts: BTreeMap<Seq, u64>,
    /// Bytes of documents whose verdict the gateway has.
    confirmed: u64,
    verdicts: u32,
    /// From when documents were there until the gateway knew, added up.
    unheard: Duration,
    up: Duration,
}

fn encoded(document: &Waiting) -> u64 {
    document.description.size + prefix(&document.description).len() as u64
}

fn lost(is_ambiguous: bool) -> Error {
    let cause = Cause::ConnectionLost { host: "d".into(), detail: "cut".into() };
    if is_ambiguous { Error::Ambiguous(cause) } else { Error::Definite(cause) }
}

fn settings(batches: Batches) -> Settings {
    let defaults = Settings::default();
    match batches {
        Batches::Adaptive => defaults,
        Batches::Fixed => Settings { turn: Duration::from_secs(86_400), ..defaults },
    }
}

fn info() -> Info {
    Info {
        versions: vec![1],
        fingerprint: Fingerprint::V4([1; 20]),
        name: "d".into(),
        max_document: 1 << 30,
        max_batch_documents: 4_096,
        max_batch_bytes: 64 << 20,
        resumable: true,
        log: None,
        chain: String::new(),
        time: UnixTime(0),
    }
}

impl Line {
    fn new(load: Load, mean: Duration) -> Self {
        Line {
            mean,
            load,
            random: ChaCha8Rng::seed_from_u64(1),
            connected: false,
            closes: Monotonic::default(),
            next: 0,
            waiting: BTreeMap::new(),
            held: BTreeMap::new(),
            parts: BTreeMap::new(),
            confirmed: 0,
            verdicts: 0,
            unheard: Duration::ZERO,
            up: Duration::ZERO,
        }
    }

    fn run(mut self, batches: Batches) -> Self {
        let new = || Planner::new(settings(batches), Some(info()), 1);
        let (mut planner, mut now) = (new(), Monotonic::default());
        for _ in 0..WINDOWS {
            now = now + self.lasts(AWAY);
            let lasts = self.lasts(self.mean);
            (self.closes, self.connected) = (now + lasts, false);
            self.up += lasts;
            self.fill();
            if batches == Batches::Fixed {
                // A new plan remembers no losses.
                planner = new();
            }
            planner.handle(Input::PathUp, now);
            while now < self.closes {
                now = match planner.next(now) {
                    Step::Wait(until) => {
                        let soon = now + Duration::from_millis(1);
                        until.map_or(self.closes, |until| until.min(self.closes)).max(soon)
                    }
                    step => {
                        let (input, then) = self.act(step, &mut planner, now);
                        planner.handle(input, then);
                        then
                    }
                };
            }
            planner.handle(Input::PathDown, now);
        }
        self
    }

    /// Percent of what the line could have carried.
    fn used(&self) -> f64 {
        100.0 * self.confirmed as f64 / (self.up.as_secs_f64() * RATE as f64)
    }

    /// Seconds, in the mean.
    fn verdict_after(&self) -> f64 {
        self.unheard.as_secs_f64() / f64::from(self.verdicts.max(1))
    }

    /// A time with this mean, exponentially distributed.
    fn lasts(&mut self, mean: Duration) -> Duration {
        let chance = (f64::from(self.random.next_u32()) + 1.0) / (f64::from(u32::MAX) + 2.0);
        mean.mul_f64(-chance.ln())
    }

    /// Phones bring more.
    fn fill(&mut self) {
        while (self.waiting.len() as u64) < WAITING {
            self.next += 1;
            let size = match self.load {
                Load::Photos => 200_000,
                Load::Both if self.next.is_multiple_of(21) => 200_000,
                Load::Forms | Load::Both => 1_150,
            };
            let mut id = [0; 32];
            id[..8].copy_from_slice(&self.next.to_be_bytes());
            let description =
                Description { id: MessageId(id), group: GroupId([1; 32]), timestamp: UnixTime(3_600), size };
            let depositor = PeerKey([u8::try_from(self.next % 20).unwrap_or(0); 32]);
            let seq = Seq(self.next);
            let document = Waiting { seq, description, depositor, share: 100, priority: 0, ambiguous: false };
            self.waiting.insert(seq, document);
        }
    }

    /// Sends so many bytes, and waits for the answer: whether there was one, how much arrived, and when that was over.
    fn request(&mut self, bytes: u64, now: Monotonic) -> (bool, u64, Monotonic) {
        // TCP and TLS.
        let opening = if self.connected { Duration::ZERO } else { ROUND_TRIP * 2 };
        let done = now + opening + ROUND_TRIP + Duration::from_millis(bytes * 1_000 / RATE);
        if done <= self.closes {
            self.connected = true;
            return (true, bytes, done);
        }
        let moving = self.closes.since(now).saturating_sub(opening + ROUND_TRIP / 2);
        let arrived = u64::try_from(moving.as_millis()).unwrap_or(0) * RATE / 1_000;
        (false, arrived.min(bytes), self.closes)
    }

    fn confirm(&mut self, seq: Seq, now: Monotonic) -> (Seq, Fate) {
        if let Some(document) = self.waiting.remove(&seq) {
            self.confirmed += document.description.size;
            self.verdicts += 1;
            self.unheard += self.held.get(&seq).map_or(Duration::ZERO, |held| now.since(*held));
        }
        (seq, Fate::Done)
    }

    fn act(&mut self, step: Step, planner: &mut Planner, now: Monotonic) -> (Input, Monotonic) {
        match step {
            Step::Scan { after, limit } => {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let rest = self.waiting.range((from, Bound::Unbounded));
                let documents: Vec<Waiting> = rest.take(limit).map(|(_, document)| *document).collect();
                (Input::Scanned { more: documents.len() == limit, documents, owed: false }, now)
            }
            Step::AskHave(documents) => {
                let bytes = documents.len() as u64 * (ASKED + CONFIRMED);
                let (is_answered, _, then) = self.request(bytes, now);
                if !is_answered {
                    return (Input::Had(Err(lost(false))), then);
                }
                let fates = documents.iter().map(|document| match self.held.contains_key(&document.seq) {
                    true => self.confirm(document.seq, then),
                    false => (document.seq, Fate::NotHeld),
                });
                (Input::Had(Ok(fates.collect())), then)
            }
            Step::Batch(documents) => self.batch(&documents, planner, now),
            Step::Part(part) => self.part(&part, planner, now),
            // Nothing else is asked for here: the destination takes all, and is known.
            _ => (Input::Nudge, self.closes),
        }
    }

    fn batch(&mut self, documents: &[Waiting], planner: &mut Planner, now: Monotonic) -> (Input, Monotonic) {
        let bytes: u64 = documents.iter().map(|one| encoded(one) + 4).sum();
        let (is_answered, arrived, then) = self.request(bytes + documents.len() as u64 * CONFIRMED, now);
        let mut end = 0;
        for document in documents {
            end += encoded(document) + 4;
            if end <= arrived {
                self.held.insert(document.seq, then);
            }
            if let Some(row) = self.waiting.get_mut(&document.seq) {
                row.ambiguous = true;
            }
        }
        planner.handle(Input::Pace { bytes: arrived.min(bytes), span: then.since(now) }, then);
        if !is_answered {
            return (Input::Uploaded(Err(lost(true))), then);
        }
        let fates = documents.iter().map(|document| self.confirm(document.seq, then)).collect();
        (Input::Uploaded(Ok(fates)), then)
    }

    fn part(&mut self, part: &Part, planner: &mut Planner, mut now: Monotonic) -> (Input, Monotonic) {
        let seq = part.document.seq;
        let there = self.parts.get(&seq).copied().unwrap_or(0);
        if let Begun::Unsure(_) = part.begun {
            let (is_answered, _, then) = self.request(300, now);
            if !is_answered {
                return (Input::Uploaded(Err(lost(false))), then);
            }
            planner.handle(Input::Found(there), then);
            now = then;
        }
        let left = encoded(&part.document) - there;
        let turn = part.turn.0.min(part.turn.1.as_secs().saturating_mul(RATE));
        let bytes = if part.others { left.min(turn) } else { left };
        let (is_answered, arrived, then) = self.request(bytes, now);
        self.parts.insert(seq, there + arrived);
        planner.handle(Input::Pace { bytes: arrived, span: then.since(now) }, then);
        if !is_answered {
            return (Input::Uploaded(Err(lost(false))), then);
        }
        if bytes < left {
            return (Input::Advanced(there + bytes), then);
        }
        self.held.insert(seq, then);
        let (is_answered, _, then) = self.request(200, then);
        match is_answered {
            false => (Input::Uploaded(Err(lost(true))), then),
            true => (Input::Uploaded(Ok(vec![self.confirm(seq, then)])), then),
        }
    }
}
