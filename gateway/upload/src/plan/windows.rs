//! A path that is there for 45 seconds an hour: what gets through, in which order, and at what cost, in virtual time.

use super::tests::{info, waiting};
use super::*;

const WINDOW: Duration = Duration::from_secs(45);
const EVERY: Duration = Duration::from_secs(3_600);
/// Bytes that a `have` or a confirmation takes for a document, more or less.
const ASKED: u64 = 32;
const CONFIRMED: u64 = 50;

/// A line and the server at its end.
struct Line {
    /// Bytes per second.
    rate: u64,
    rtt: Duration,
    held: BTreeSet<Seq>,
    parts: BTreeMap<Seq, u64>,
    confirmed: BTreeMap<Seq, Monotonic>,
    /// Bytes that went up, bodies of uploads only.
    sent: u64,
    /// What was done in each window, in order.
    steps: Vec<(u64, &'static str)>,
    /// A document that arrives at the gateway at that time.
    newcomer: Option<(Monotonic, Waiting)>,
    waiting: BTreeMap<Seq, Waiting>,
}

/// What came of a request.
enum Outcome {
    /// It was answered then.
    Answered(Monotonic),
    /// The window closed, after so many bytes had arrived.
    Cut(u64, Monotonic),
}

fn window_of(now: Monotonic) -> u64 {
    now.0.as_secs() / EVERY.as_secs()
}

impl Line {
    fn closes(now: Monotonic) -> Monotonic {
        Monotonic(EVERY * u32::try_from(window_of(now)).unwrap() + WINDOW)
    }

    /// A request that sends so many bytes, begun now.
    fn request(&mut self, name: &'static str, bytes: u64, now: Monotonic) -> Outcome {
        self.steps.push((window_of(now), name));
        let closes = Self::closes(now);
        let done = now + self.rtt + Duration::from_millis(bytes * 1_000 / self.rate);
        if done <= closes {
            return Outcome::Answered(done);
        }
        let moving = closes.since(now).saturating_sub(self.rtt / 2);
        let arrived = u64::try_from(moving.as_millis()).unwrap() * self.rate / 1_000;
        Outcome::Cut(arrived.min(bytes), closes)
    }

    fn confirm(&mut self, seq: Seq, now: Monotonic) -> (Seq, Fate) {
        self.confirmed.entry(seq).or_insert(now);
        self.waiting.remove(&seq);
        (seq, Fate::Done)
    }

    /// Takes in what of a batch arrived before byte `arrived`.
    fn take(&mut self, documents: &[Waiting], arrived: u64) {
        let mut end = 0;
        for document in documents {
            end += framed_len(&document.description).unwrap();
            if end <= arrived {
                assert!(self.held.insert(document.seq), "sent twice: {document:?}");
            }
        }
        self.sent += arrived;
    }

    /// Does a step; returns what came of it, and when.
    fn act(&mut self, step: Step, planner: &mut Planner, now: Monotonic) -> (Input, Monotonic) {
        let lost = |begun: bool| {
            let cause = Cause::ConnectionLost { host: "d".into(), detail: "cut".into() };
            Error::new(cause, begun)
        };
        match step {
            Step::Scan { after, limit } => {
                let rest = self.waiting.values().filter(|row| Some(row.seq) > after);
                let documents: Vec<Waiting> = rest.take(limit).copied().collect();
                (Input::Scanned { more: documents.len() == limit, documents, owed: false }, now)
            }
            Step::Probe | Step::Try => match self.request("info", 500, now) {
                Outcome::Answered(then) => (Input::Info(Ok(Info { resumable: true, ..info() })), then),
                Outcome::Cut(_, then) => (Input::Info(Err(lost(false))), then),
            },
            Step::AskHave(documents) => {
                let bytes = documents.len() as u64 * (ASKED + CONFIRMED);
                match self.request("have", bytes, now) {
                    Outcome::Cut(_, then) => (Input::Had(Err(lost(false))), then),
                    Outcome::Answered(then) => {
                        let fate = |document: &Waiting| match self.held.contains(&document.seq) {
                            true => self.confirm(document.seq, then),
                            false => (document.seq, Fate::NotHeld),
                        };
                        (Input::Had(Ok(documents.iter().map(fate).collect())), then)
                    }
                }
            }
            Step::Batch(documents) => {
                let bytes = documents.iter().map(|one| framed_len(&one.description).unwrap()).sum();
                let name =
                    if documents.iter().any(|one| one.seq == Seq(999_999)) { "newcomer" } else { "batch" };
                let down = documents.len() as u64 * CONFIRMED;
                match self.request(name, bytes + down, now) {
                    Outcome::Answered(then) => {
                        self.take(&documents, bytes);
                        let fates = documents.iter().map(|one| self.confirm(one.seq, then)).collect();
                        planner.handle(Input::Pace { bytes, span: then.since(now) }, then);
                        (Input::Uploaded(Ok(fates)), then)
                    }
                    Outcome::Cut(arrived, then) => {
                        self.take(&documents, arrived.min(bytes));
                        for document in &documents {
                            self.waiting.get_mut(&document.seq).unwrap().ambiguous = true;
                        }
                        planner.handle(Input::Pace { bytes: arrived, span: then.since(now) }, then);
                        (Input::Uploaded(Err(lost(true))), then)
                    }
                }
            }
            Step::Part(part) => self.part(&part, planner, now, &lost),
            other => panic!("{other:?}"),
        }
    }

    fn part(
        &mut self,
        part: &Part,
        planner: &mut Planner,
        mut now: Monotonic,
        lost: &dyn Fn(bool) -> Error,
    ) -> (Input, Monotonic) {
        let seq = part.document.seq;
        // The store notes every attempt.
        if let Some(row) = self.waiting.get_mut(&seq) {
            row.ambiguous = true;
        }
        let there = self.parts.get(&seq).copied().unwrap_or(0);
        match part.begun {
            Begun::No => assert_eq!(there, 0),
            Begun::At(offset) => assert_eq!(offset, there),
            Begun::Unsure(_) => match self.request("head", 300, now) {
                Outcome::Cut(_, then) => return (Input::Uploaded(Err(lost(false))), then),
                Outcome::Answered(then) => {
                    planner.handle(Input::Found(there), then);
                    now = then;
                }
            },
        }
        let left = encoded_len(&part.document.description) - there;
        let in_turn = part.turn.0.min(part.turn.1.as_secs() * self.rate);
        let arrives = self.newcomer.as_ref().map(|(at, _)| at.since(now));
        let others = part.others
            || arrives
                .is_some_and(|after| after <= Duration::from_millis(left.min(in_turn) * 1_000 / self.rate));
        let bytes = if others { left.min(in_turn) } else { left };
        match self.request("part", bytes, now) {
            Outcome::Cut(arrived, then) => {
                self.parts.insert(seq, there + arrived);
                self.sent += arrived;
                planner.handle(Input::Pace { bytes: arrived, span: then.since(now) }, then);
                (Input::Uploaded(Err(lost(false))), then)
            }
            Outcome::Answered(then) => {
                self.parts.insert(seq, there + bytes);
                self.sent += bytes;
                planner.handle(Input::Pace { bytes, span: then.since(now) }, then);
                if bytes < left {
                    return (Input::Advanced(there + bytes), then);
                }
                self.held.insert(seq);
                match self.request("confirmation", 200, then) {
                    Outcome::Cut(_, then) => (Input::Uploaded(Err(lost(true))), then),
                    Outcome::Answered(then) => (Input::Uploaded(Ok(vec![self.confirm(seq, then)])), then),
                }
            }
        }
    }

    /// Until nothing waits, or so many windows are over.
    fn run(&mut self, planner: &mut Planner, windows: u64) -> u64 {
        let mut now = Monotonic::default();
        planner.handle(Input::PathUp, now);
        while !self.waiting.is_empty() && window_of(now) < windows {
            if let Some((at, document)) = self.newcomer.filter(|(at, _)| *at <= now) {
                assert!(at <= now);
                self.newcomer = None;
                self.waiting.insert(document.seq, document);
                planner.handle(Input::Nudge, now);
            }
            if now >= Self::closes(now) {
                planner.handle(Input::PathDown, now);
                now = Monotonic(EVERY * u32::try_from(window_of(now) + 1).unwrap());
                planner.handle(Input::PathUp, now);
                continue;
            }
            match planner.next(now) {
                Step::Wait(until) => {
                    let closes = Self::closes(now);
                    now = until.map_or(closes, |until| until.min(closes)).max(now + Duration::from_millis(1));
                }
                step => {
                    let (input, then) = self.act(step, planner, now);
                    planner.handle(input, then);
                    now = then;
                }
            }
        }
        window_of(now) + 1
    }
}

fn line(rate: u64, documents: Vec<Waiting>) -> Line {
    Line {
        rate,
        rtt: Duration::from_millis(600),
        held: BTreeSet::new(),
        parts: BTreeMap::new(),
        confirmed: BTreeMap::new(),
        sent: 0,
        steps: Vec::new(),
        newcomer: None,
        waiting: documents.into_iter().map(|document| (document.seq, document)).collect(),
    }
}

/// 10,000 forms of 1 KB of twenty phones, and behind the first of them a video of 200 MB.
fn load() -> Vec<Waiting> {
    let form = |seq: u64| {
        let mut form = waiting(seq, u8::try_from(seq % 20).unwrap(), 1);
        form.description.size = 1_024;
        form
    };
    let mut documents: Vec<Waiting> = (2..10_002).map(form).collect();
    let mut video = waiting(1, 0, 2);
    video.description.size = 200 << 20;
    documents.push(video);
    documents
}

#[test]
fn ten_thousand_forms_and_a_video_go_through_windows_of_45_seconds_and_nothing_goes_twice() {
    const RATE: u64 = 60_000;
    let documents = load();
    let bytes: u64 = documents.iter().map(|one| framed_len(&one.description).unwrap()).sum();
    let mut line = line(RATE, documents);
    // In the middle of a window in which only the video is left, a form arrives.
    let mut newcomer = waiting(999_999, 7, 1);
    newcomer.description.size = 1_024;
    let arrives = Monotonic(EVERY * 40 + Duration::from_secs(10));
    line.newcomer = Some((arrives, newcomer));
    let mut planner = Planner::new(Settings::default(), None, 1);
    let windows = line.run(&mut planner, 200);
    assert!(line.waiting.is_empty(), "{} are left after {windows} windows", line.waiting.len());

    let ideal = bytes.div_ceil(RATE * WINDOW.as_secs());
    let forms: Vec<u64> = (2..10_002).map(|seq| window_of(line.confirmed[&Seq(seq)])).collect();
    let last_form = forms.iter().max().unwrap() + 1;
    println!(
        "{windows} windows, {ideal} if nothing but bodies went; forms within the first {last_form}; {} bytes sent of {bytes}",
        line.sent
    );
    assert!(windows <= 100);
    assert!(windows * 100 <= ideal * 110, "{windows} windows, ideal {ideal}");
    // Nineteen phones' forms do not wait for the twentieth's video.
    assert!(last_form <= 6, "{last_form}");
    // What was under way when a window closed may go again, in part.
    assert!(line.sent <= bytes + bytes / 100, "{} of {bytes}", line.sent);
    assert_eq!(line.held.len(), 10_002);
    let heard = line.confirmed[&Seq(999_999)];
    assert!(
        heard.since(arrives) <= Duration::from_secs(15),
        "{heard:?}: it does not wait for the next window"
    );
}

#[test]
fn each_window_brings_confirmations_down_first() {
    // So slow that the first batch cannot be answered within its window.
    let documents = (2..2_002).map(|seq| Waiting { ..load()[usize::try_from(seq).unwrap()] }).collect();
    let mut line = line(20_000, documents);
    let mut planner = Planner::new(Settings::default(), None, 1);
    line.run(&mut planner, 50);
    assert!(line.waiting.is_empty());
    let of_window = |window: u64| {
        let steps = line.steps.iter().filter(|(at, _)| *at == window);
        steps.map(|(_, name)| *name).collect::<Vec<_>>()
    };
    assert_eq!(of_window(0), ["info", "batch"], "the path was not known yet");
    // What was under way is asked about before anything is sent; then batches are as the path carries them.
    let second = of_window(1);
    assert_eq!(second[0], "have", "{second:?}");
    assert!(second.iter().filter(|name| **name == "batch").count() >= 3, "{second:?}");
    let in_second = line.confirmed.values().filter(|at| window_of(**at) == 1).count();
    assert!(in_second >= 1_000, "{in_second} confirmed in the second window");
}

#[test]
fn what_no_window_has_time_for_goes_on_where_it_was_cut_off_and_small_ones_stay_together() {
    let mut planner = Planner::new(Settings::default(), Some(Info { resumable: true, ..info() }), 1);
    let size = |seq, size| {
        let mut document = waiting(seq, 1, 1);
        document.description.size = size;
        document
    };
    let documents = vec![size(1, 200_000), size(2, 1_000), size(3, 1_000)];
    let mut scanned = Some(documents);
    let (mut now, mut lost) = (Monotonic::default(), 0);
    let mut part = None;
    while part.is_none() {
        assert!(now < Monotonic(Duration::from_secs(60)), "not by parts");
        match planner.next(now) {
            Step::Scan { .. } => {
                let documents = scanned.take().unwrap_or_default();
                planner.handle(Input::Scanned { documents, more: false, owed: false }, now);
            }
            Step::Probe | Step::Try => {
                planner.handle(Input::Info(Ok(Info { resumable: true, ..info() })), now)
            }
            Step::AskHave(asked) => {
                let fates = asked.iter().map(|document| (document.seq, Fate::NotHeld)).collect();
                planner.handle(Input::Had(Ok(fates)), now);
            }
            Step::Batch(documents) => {
                let has_large = documents.iter().any(|document| document.seq == Seq(1));
                assert!(!has_large || lost < 2, "in a batch again after two were lost");
                lost += u32::from(has_large);
                planner.handle(Input::Uploaded(Err(super::tests::lost())), now);
                planner.handle(Input::PathUp, now);
            }
            Step::Part(begun) => part = Some(begun),
            other => panic!("{other:?}"),
        }
        now = now + Duration::from_secs(1);
    }
    assert_eq!(part.map(|part| part.document.seq), Some(Seq(1)));
}
