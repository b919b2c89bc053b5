//! The planner against a destination and a path that fail in every way, in virtual time.

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use super::tests::{info, waiting};
use super::*;
use crate::error::Phase;

/// What is special about a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    Good,
    /// The connection breaks whenever it is in a request.
    Poison,
    /// The server answers 400 to each request that it is in.
    Offensive,
    /// The answer says that it is malformed.
    Malformed,
    /// The answer says "no room" the first three times.
    Unlucky,
}

/// How bad the world is, in percent of requests.
#[derive(Debug, Clone, Copy)]
struct Weather {
    unreachable: u64,
    answer_lost: u64,
    cut: u64,
    full: u64,
    server_error: u64,
    no_verdict: u64,
}

struct World {
    natures: BTreeMap<Seq, Nature>,
    /// Sizes of what still waits in the store.
    store: BTreeMap<Seq, Waiting>,
    /// Held by the server, and how often it got it.
    received: BTreeMap<Seq, u32>,
    refusals: BTreeMap<Seq, u32>,
    /// Sent without an answer since it was last asked about.
    unsure: BTreeSet<Seq>,
    acknowledged: BTreeMap<Seq, u32>,
    weather: Weather,
    random: ChaCha8Rng,
    requests: u32,
    /// What came of large documents.
    parts: BTreeMap<Seq, u64>,
}

impl World {
    fn happens(&mut self, percent: u64) -> bool {
        self.random.next_u64() % 100 < percent
    }

    fn acknowledge(&mut self, seq: Seq) -> (Seq, Fate) {
        *self.acknowledged.entry(seq).or_default() += 1;
        self.store.remove(&seq);
        (seq, Fate::Done)
    }

    fn unreachable(&mut self) -> Option<Error> {
        self.requests += 1;
        let failed = self.happens(self.weather.unreachable);
        failed.then(|| Error::Definite(Cause::Timeout { host: "d".into(), during: Phase::Connecting }))
    }

    fn upload(&mut self, documents: &[Waiting]) -> Result<Vec<(Seq, Fate)>, Error> {
        for document in documents {
            assert!(!self.unsure.contains(&document.seq), "sent again without asking: {document:?}");
            assert!(self.store.contains_key(&document.seq), "sent again after it was acknowledged");
        }
        if let Some(error) = self.unreachable() {
            return Err(error);
        }
        if self.happens(self.weather.full) {
            return Err(Error::Definite(Cause::Full { detail: String::new() }));
        }
        let seqs: Vec<Seq> = documents.iter().map(|document| document.seq).collect();
        let nature = |world: &World, seq: &Seq| world.natures[seq];
        if seqs.iter().any(|seq| nature(self, seq) == Nature::Offensive) {
            return Err(Error::Definite(Cause::Malformed { status: 400, detail: String::new() }));
        }
        let poison = seqs.iter().position(|seq| nature(self, seq) == Nature::Poison);
        let cut = self.happens(self.weather.cut);
        let cut = cut.then(|| usize::try_from(self.random.next_u64()).unwrap_or(0) % seqs.len());
        let broken_at = poison.into_iter().chain(cut).min();
        let failed = self.happens(self.weather.server_error);
        let mut fates = Vec::new();
        for seq in &seqs[..broken_at.unwrap_or(seqs.len())] {
            let refusals = self.refusals.entry(*seq).or_default();
            match self.natures[seq] {
                Nature::Malformed => {
                    fates.push((*seq, Fate::Refused(FailureCode::Malformed, String::new())));
                }
                Nature::Unlucky if *refusals < 3 => {
                    *refusals += 1;
                    fates.push((*seq, Fate::Refused(FailureCode::Full, String::new())));
                }
                _ => {
                    *self.received.entry(*seq).or_default() += 1;
                    if !self.happens(self.weather.no_verdict) {
                        fates.push((*seq, Fate::Done));
                    }
                }
            }
        }
        if broken_at.is_some() || failed || self.happens(self.weather.answer_lost) {
            self.unsure.extend(seqs);
            return Err(super::tests::lost());
        }
        for (seq, fate) in &fates {
            if *fate == Fate::Done {
                self.acknowledge(*seq);
            }
        }
        let told: BTreeSet<Seq> = fates.iter().map(|(seq, _)| *seq).collect();
        self.unsure.extend(seqs.into_iter().filter(|seq| !told.contains(seq)));
        Ok(fates)
    }

    /// Some of a large document; its last part gives it its verdict.
    fn advance(&mut self, part: &Part, planner: &mut Planner, now: Monotonic) -> Input {
        let document = part.document;
        let seq = document.seq;
        // The store notes every attempt: whoever forgets a document reads that again.
        if let Some(row) = self.store.get_mut(&seq) {
            row.ambiguous = true;
        }
        if let Some(error) = self.unreachable() {
            return Input::Uploaded(Err(error));
        }
        let there = self.parts.get(&seq).copied().unwrap_or(0);
        match part.begun {
            Begun::No => assert_eq!(there, 0, "begun anew"),
            Begun::At(offset) => assert_eq!(offset, there),
            Begun::Unsure(_) => planner.handle(Input::Found(there), now),
        }
        let left = encoded_len(&document.description) - there;
        let sent = if part.others { left.min(part.turn.0) } else { left };
        let is_poison = self.natures[&seq] == Nature::Poison;
        if is_poison || self.happens(self.weather.cut) {
            let arrived = if is_poison { 0 } else { self.random.next_u64() % sent };
            self.parts.insert(seq, there + arrived);
            let cause = Cause::ConnectionLost { host: "d".into(), detail: "cut".into() };
            return Input::Uploaded(Err(Error::Definite(cause)));
        }
        if sent < left {
            self.parts.insert(seq, there + sent);
            return Input::Advanced(there + sent);
        }
        self.parts.remove(&seq);
        Input::Uploaded(self.upload(&[document]))
    }

    fn have(&mut self, documents: &[Waiting]) -> Result<Vec<(Seq, Fate)>, Error> {
        if let Some(error) = self.unreachable() {
            return Err(error);
        }
        let mut fates = Vec::new();
        for document in documents {
            let seq = document.seq;
            self.unsure.remove(&seq);
            fates.push(if !self.received.contains_key(&seq) {
                (seq, Fate::NotHeld)
            } else if self.happens(self.weather.no_verdict) {
                self.unsure.insert(seq);
                (seq, Fate::Held)
            } else {
                self.acknowledge(seq)
            });
        }
        Ok(fates)
    }
}

fn natures() -> impl Strategy<Value = Vec<Nature>> {
    let nature = prop_oneof![
        20 => Just(Nature::Good),
        1 => Just(Nature::Poison),
        1 => Just(Nature::Offensive),
        1 => Just(Nature::Malformed),
        1 => Just(Nature::Unlucky),
    ];
    proptest::collection::vec(nature, 1..200)
}

fn weather() -> impl Strategy<Value = Weather> {
    (0u64..60, 0u64..30, 0u64..30, 0u64..20, 0u64..20, 0u64..40).prop_map(
        |(unreachable, answer_lost, cut, full, server_error, no_verdict)| Weather {
            unreachable,
            answer_lost,
            cut,
            full,
            server_error,
            no_verdict,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_good_document_is_acknowledged_once_whatever_fails(
        natures in natures(),
        weather in weather(),
        seed: u64,
        small_window: bool,
        resumable: bool,
    ) {
        let mut world = World {
            natures: BTreeMap::new(),
            store: BTreeMap::new(),
            received: BTreeMap::new(),
            refusals: BTreeMap::new(),
            unsure: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
            weather,
            random: ChaCha8Rng::seed_from_u64(seed),
            requests: 0,
            parts: BTreeMap::new(),
        };
        for (at, nature) in natures.iter().enumerate() {
            let at = at as u64;
            let [depositor, group, large, ..] = world.random.next_u64().to_le_bytes();
            let mut document = waiting(at, depositor % 4, group % 3);
            if large > 250 {
                document.description.size = 15 << 20;
            }
            world.natures.insert(Seq(at), *nature);
            world.store.insert(Seq(at), document);
        }
        let settings =
            Settings { window: if small_window { 16 } else { 2_048 }, batch_documents: 64, ..Settings::default() };
        let mut planner = Planner::new(settings, None, seed);
        let mut now = Monotonic::default();
        let mut aside = BTreeMap::new();
        // Poison is tried for ever, so the end is when all the others have their verdict.
        let open = |world: &World, aside: &BTreeMap<Seq, Kind>| {
            world.store.keys().any(|seq| world.natures[seq] != Nature::Poison && !aside.contains_key(seq))
        };
        while open(&world, &aside) {
            prop_assert!(world.requests < 5_000, "too many requests; left: {:?}", world.store.keys());
            let input = match planner.next(now) {
                Step::Scan { after, limit } => {
                    let rest = world.store.values().filter(|d| Some(d.seq) > after);
                    let documents: Vec<Waiting> = rest.take(limit.min(50)).copied().collect();
                    let more = documents.len() == 50;
                    Input::Scanned { documents, more, owed: false }
                }
                Step::Probe | Step::Try => {
                    let info = Info { resumable, ..info() };
                    Input::Info(world.unreachable().map_or(Ok(info), Err))
                }
                Step::AskHave(documents) => Input::Had(world.have(&documents)),
                Step::Batch(documents) => {
                    let bytes: u64 = documents.iter().map(|d| framed_len(&d.description).unwrap()).sum();
                    prop_assert!(documents.len() <= 64 && bytes <= settings.batch_bytes);
                    Input::Uploaded(world.upload(&documents))
                }
                Step::Put(document) => Input::Uploaded(world.upload(&[document])),
                Step::Part(part) => world.advance(&part, &mut planner, now),
                Step::SetAside { document, cause } => {
                    aside.insert(document.seq, cause.kind());
                    continue;
                }
                Step::FetchConfirmations => unreachable!("nothing is owed"),
                Step::Wait(until) => {
                    let until = until.expect("it waits for something while documents wait");
                    prop_assert!(until > now && until - now <= MOST_FOR_HELD, "{until:?} from {now:?}");
                    now = until;
                    continue;
                }
            };
            planner.handle(input, now);
        }
        for (seq, nature) in &world.natures {
            let expected = u32::from(matches!(nature, Nature::Good | Nature::Unlucky));
            prop_assert_eq!(world.acknowledged.get(seq).copied().unwrap_or(0), expected, "{:?} {:?}", seq, nature);
            prop_assert!(world.received.get(seq).copied().unwrap_or(0) <= 1, "received twice: {seq:?}");
            let refused = matches!(nature, Nature::Offensive | Nature::Malformed);
            prop_assert_eq!(aside.contains_key(seq), refused, "{:?} {:?}", seq, nature);
        }
        prop_assert!(now < Monotonic(Duration::from_secs(30 * 86_400)), "it took {now:?}");
    }

    #[test]
    fn a_dead_path_costs_little(seed: u64) {
        let mut planner = Planner::new(Settings::default(), None, seed);
        planner.handle(Input::Scanned { documents: vec![waiting(1, 1, 1)], more: false, owed: true }, at(0));
        let (mut now, mut requests) = (at(0), 0);
        let mut last: Option<Monotonic> = None;
        while now < at(86_400) {
            match planner.next(now) {
                Step::Wait(until) => now = until.unwrap(),
                Step::Probe | Step::Try => {
                    requests += 1;
                    if let Some(last) = last {
                        prop_assert!(now - last >= Duration::from_secs(1));
                        prop_assert!(now - last <= Settings::default().max_backoff);
                    }
                    last = Some(now);
                    let cause = Cause::NoRoute { host: "d".into() };
                    planner.handle(Input::Info(Err(Error::Definite(cause))), now);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        // A day has 288 times five minutes; jitter at most doubles that.
        prop_assert!((288..=600).contains(&requests), "{requests}");
    }
}

fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(seconds))
}
