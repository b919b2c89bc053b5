//! Random operations on the store and on a simple model of it, which must agree after each, also after reopening.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::document::Document;
use waypost_protocol::ids::{Fingerprint, MessageId};
use waypost_protocol::refusal::Reason;
use waypost_protocol::sync::{Holdings as _, Recipient, Standing};
use waypost_store::{Applied, Change, ChangeError, Freeing};

use crate::kit::*;

const DOCUMENTS: u8 = 6;
const PEERS: u8 = 3;
const LIFETIME: u64 = 100;
const RETAIN: u64 = 50;

#[derive(Debug, Clone)]
enum Op {
    Put { document: u8, peer: u8 },
    Piece { document: u8, peer: u8, length: usize },
    Delete { document: u8 },
    Confirm { of_a: bool, documents: Vec<u8>, verdict: Verdict, retain: bool },
    Holds { document: u8, peer: u8, store: u8 },
    Refuses { document: u8, peer: u8, store: u8, for_good: bool },
    Offers { document: u8, peer: u8 },
    Seen { peer: u8, store: u8 },
    Delivered { peer: u8 },
    Advance { seconds: u64 },
    Sweep,
}

fn op() -> impl Strategy<Value = Op> {
    let (document, peer, store) = (0..DOCUMENTS, 1..=PEERS, 1u8..3);
    let verdict = prop_oneof![Just(Verdict::Opened), Just(Verdict::Held), Just(REJECTED)];
    prop_oneof![
        5 => (document.clone(), peer.clone()).prop_map(|(document, peer)| Op::Put { document, peer }),
        5 => (document.clone(), peer.clone(), 1usize..40_000)
            .prop_map(|(document, peer, length)| Op::Piece { document, peer, length }),
        2 => document.clone().prop_map(|document| Op::Delete { document }),
        3 => (any::<bool>(), prop::collection::vec(document.clone(), 1..4), verdict, any::<bool>()).prop_map(
            |(of_a, documents, verdict, retain)| Op::Confirm { of_a, documents, verdict, retain }
        ),
        3 => (document.clone(), peer.clone(), store.clone())
            .prop_map(|(document, peer, store)| Op::Holds { document, peer, store }),
        2 => (document.clone(), peer.clone(), store.clone(), any::<bool>())
            .prop_map(|(document, peer, store, for_good)| Op::Refuses { document, peer, store, for_good }),
        1 => (document, peer.clone()).prop_map(|(document, peer)| Op::Offers { document, peer }),
        2 => (peer.clone(), store).prop_map(|(peer, store)| Op::Seen { peer, store }),
        1 => peer.prop_map(|peer| Op::Delivered { peer }),
        1 => (1u64..60).prop_map(|seconds| Op::Advance { seconds }),
        1 => Just(Op::Sweep),
    ]
}

struct Row {
    order: usize,
    arrival: u64,
    first: u8,
    depositors: BTreeSet<u8>,
    verdict: Option<Verdict>,
    body: bool,
    /// When the body goes that is kept for subscribers.
    free_at: Option<u64>,
}

#[derive(Default)]
struct Model {
    now: u64,
    arrivals: usize,
    rows: BTreeMap<u8, Row>,
    gone: BTreeMap<u8, Reason>,
    /// (document, of destination A) → verdict, confirmation.
    verdicts: BTreeMap<(u8, bool), (Verdict, MessageId)>,
    partials: BTreeMap<(u8, u8), usize>,
    /// (document, peer) → epoch, whether that settles it, whether it is held.
    answers: BTreeMap<(u8, u8), (u32, bool, bool)>,
    /// Peer → store, epoch.
    peers: BTreeMap<u8, (u8, u32)>,
    due: BTreeSet<(u8, MessageId)>,
}

/// Even ones are for A, odd ones for B; number 0 has a lifetime.
fn pool() -> Vec<Document> {
    (0..DOCUMENTS)
        .map(|n| {
            let mut header = header();
            header.destination = destination(is_of_a(n));
            header.lifetime = if n == 0 { LIFETIME } else { 0 };
            document_with(&header, u64::from(n), [10, 3_000, 33_000, 70_000][usize::from(n) % 4])
        })
        .collect()
}

fn is_of_a(document: u8) -> bool {
    document.is_multiple_of(2)
}

fn destination(of_a: bool) -> Fingerprint {
    if of_a { A } else { B }
}

impl Model {
    fn is_expired(&self, document: u8) -> bool {
        document == 0 && self.rows.get(&0).is_some_and(|row| self.now - row.arrival >= LIFETIME)
    }

    fn epoch(&mut self, peer: u8, store: u8) -> u32 {
        let known = self.peers.entry(peer).or_insert((0, 0));
        if known.0 != store {
            *known = (store, known.1 + 1);
        }
        known.1
    }

    /// What an arrival is answered where it is not stored.
    fn known(&mut self, document: u8, peer: u8) -> Option<&'static str> {
        let own = self.verdicts.get(&(document, is_of_a(document))).copied();
        if self.rows.get(&document).is_some_and(|row| row.verdict.is_none()) {
            if self.is_expired(document) {
                return Some("expired");
            }
            self.rows.get_mut(&document)?.depositors.insert(peer);
            return Some("held");
        }
        if let Some((_, confirmation)) = own {
            self.due.insert((peer, confirmation));
            return Some("confirmed");
        }
        self.gone.get(&document).map(|reason| if *reason == Reason::Deleted { "deleted" } else { "expired" })
    }

    fn store(&mut self, document: u8, peer: u8) {
        self.arrivals += 1;
        let row = Row {
            order: self.arrivals,
            arrival: self.now,
            first: peer,
            depositors: [peer].into(),
            verdict: None,
            body: true,
            free_at: None,
        };
        self.rows.insert(document, row);
    }

    fn confirm(
        &mut self,
        of_a: bool,
        documents: &BTreeSet<u8>,
        verdict: Verdict,
        retain: bool,
        id: MessageId,
    ) -> Vec<u8> {
        let mut changed = Vec::new();
        for &document in documents {
            let known = self.verdicts.get(&(document, of_a));
            if known.is_some_and(|(known, _)| !known.may_become(verdict)) {
                continue;
            }
            self.verdicts.insert((document, of_a), (verdict, id));
            let Some(row) = self.rows.get_mut(&document).filter(|_| is_of_a(document) == of_a) else {
                continue;
            };
            row.verdict = Some(verdict);
            let holders = self.answers.iter().filter(|((held, _), answer)| *held == document && answer.2);
            row.depositors.extend(holders.map(|((_, peer), _)| peer));
            row.body &= retain && verdict != REJECTED;
            row.free_at = row.body.then_some(self.now + RETAIN);
            if !row.body {
                self.answers.retain(|(answered, _), _| *answered != document);
            }
            self.due.extend(row.depositors.iter().map(|peer| (*peer, id)));
            changed.push(document);
        }
        changed
    }

    fn outgoing(&self, peer: u8, store: u8) -> Vec<u8> {
        self.sent_to(peer, store, |document, row| is_of_a(document) && row.verdict.is_none())
    }

    fn subscribed(&self, peer: u8, store: u8) -> Vec<u8> {
        self.sent_to(peer, store, |_, row| row.body && row.verdict != Some(REJECTED))
    }

    fn sent_to(&self, peer: u8, store: u8, fits: impl Fn(u8, &Row) -> bool) -> Vec<u8> {
        let known = self.peers.get(&peer).filter(|known| known.0 == store);
        let mut rows: Vec<_> = self
            .rows
            .iter()
            .filter(|(document, row)| {
                let answer = self.answers.get(&(**document, peer));
                let settled = known.is_some_and(|known| answer.is_some_and(|a| a.0 == known.1 && a.1));
                let brought = known.is_some() && row.first == peer;
                fits(**document, row) && !self.is_expired(**document) && !settled && !brought
            })
            .collect();
        rows.sort_by_key(|(_, row)| row.order);
        rows.into_iter().map(|(document, _)| *document).collect()
    }
}

fn words(outcome: &Result<Applied, ChangeError>) -> &'static str {
    match outcome {
        Ok(Applied::Stored { .. }) => "stored",
        Ok(Applied::AlreadyHeld { .. }) => "held",
        Ok(Applied::Confirmed(_)) => "confirmed",
        Ok(Applied::Partial { .. }) => "partial",
        Ok(_) => "done",
        Err(ChangeError::Refused(Reason::Deleted)) => "deleted",
        Err(ChangeError::Refused(Reason::Expired)) => "expired",
        Err(ChangeError::NoDocument(_)) => "none",
        Err(_) => "error",
    }
}

fn step(kit: &Kit, model: &mut Model, pool: &[Document], op: Op) {
    let of = |document: u8| &pool[usize::from(document)];
    match op {
        Op::Put { document, peer: n } => {
            let expected = model.known(document, n).unwrap_or("stored");
            if expected == "stored" {
                model.store(document, n);
            }
            model.partials.remove(&(document, n));
            assert_eq!(words(&kit.put(of(document), Some(peer(n)))), expected);
        }
        Op::Piece { document, peer: n, length } => {
            let at = model.partials.get(&(document, n)).copied().unwrap_or(0);
            let whole = of(document).body().len();
            let end = whole.min(at + length);
            let expected =
                model.known(document, n).unwrap_or(if end == whole { "stored" } else { "partial" });
            match expected {
                "partial" => drop(model.partials.insert((document, n), end)),
                _ => drop(model.partials.remove(&(document, n))),
            }
            if expected == "stored" {
                model.store(document, n);
            }
            assert_eq!(words(&kit.apply(piece(of(document), at..end, peer(n)))), expected);
        }
        Op::Delete { document } => {
            let expected = if model.rows.remove(&document).is_some() { "done" } else { "none" };
            if expected == "done" {
                model.gone.insert(document, Reason::Deleted);
                model.answers.retain(|(answered, _), _| *answered != document);
            }
            assert_eq!(words(&kit.apply(Change::Delete { id: of(document).id() })), expected);
        }
        Op::Confirm { of_a, documents, verdict, retain } => {
            let documents: BTreeSet<u8> = documents.into_iter().collect();
            let ids: Vec<_> = documents.iter().map(|document| of(*document).id()).collect();
            let confirmation = confirmation(destination(of_a), &ids, verdict);
            let changed = model.confirm(of_a, &documents, verdict, retain, confirmation.id());
            let retain = if retain { vec![(pool[0].group(), RETAIN)] } else { Vec::new() };
            let freeing = Freeing { retain, ..Freeing::GATEWAY };
            let applied = kit.apply(confirmed(confirmation, freeing)).unwrap();
            let Applied::Verdicts { changed: told, .. } = applied else { panic!("{applied:?}") };
            let told: BTreeSet<_> = told.into_iter().map(|(id, _)| id).collect();
            assert_eq!(told, changed.into_iter().map(|document| of(document).id()).collect());
        }
        Op::Holds { document, peer: n, store } => {
            answer(model, document, n, store, true, true);
            kit.apply(Change::PeerHolds { peer: peer(n), store: store_id(store), id: of(document).id() })
                .unwrap();
        }
        Op::Refuses { document, peer: n, store, for_good } => {
            answer(model, document, n, store, for_good, false);
            let reason = if for_good { Reason::Deleted } else { Reason::OverQuota };
            let (peer, store, id) = (peer(n), store_id(store), of(document).id());
            kit.apply(Change::PeerRefuses { peer, store, id, reason }).unwrap();
        }
        Op::Offers { document, peer: n } => {
            let expected = match (model.rows.contains_key(&document), is_of_a(document)) {
                (true, _) if model.rows[&document].verdict.is_some() => model.known(document, n).unwrap(),
                (true, _) => {
                    model.rows.get_mut(&document).unwrap().depositors.insert(n);
                    "held"
                }
                // With verdicts of two destinations on an unknown id it may be either.
                (false, _) => return,
            };
            let outcome = kit.apply(Change::Depositor { id: of(document).id(), peer: peer(n) });
            assert_eq!(words(&outcome), expected);
        }
        Op::Seen { peer: n, store } => {
            model.epoch(n, store);
            kit.apply(Change::PeerSeen {
                peer: peer(n),
                store: Some(store_id(store)),
                label: None,
                advertising_key: None,
            })
            .unwrap();
        }
        Op::Delivered { peer: n } => {
            let due = kit.store().confirmations_due(&peer(n), None, 1).unwrap();
            if let Some((_, confirmation)) = due.first() {
                let confirmation = confirmation.id();
                model.due.remove(&(n, confirmation));
                kit.apply(Change::Delivered { peer: peer(n), confirmation }).unwrap();
            }
        }
        Op::Advance { seconds } => {
            model.now += seconds;
            kit.clock.advance(seconds);
            // What is not written down is lost with the power, and may be.
            kit.apply(Change::Put { key: "now".into(), value: None }).unwrap();
        }
        Op::Sweep => {
            kit.sweep();
            let now = model.now;
            for (document, row) in &mut model.rows {
                if row.free_at.is_some_and(|at| now >= at) {
                    (row.body, row.free_at) = (false, None);
                    model.answers.retain(|(answered, _), _| answered != document);
                }
            }
            // A confirmed document has no body left that could expire, but its lifetime ends its row all the same.
            if model.is_expired(0) {
                model.rows.remove(&0);
                model.gone.insert(0, Reason::Expired);
                model.answers.retain(|(answered, _), _| *answered != 0);
            }
        }
    }
}

fn answer(model: &mut Model, document: u8, n: u8, store: u8, settles: bool, held: bool) {
    let epoch = model.epoch(n, store);
    let Some((confirmed, body)) = model.rows.get(&document).map(|row| (row.verdict.is_some(), row.body))
    else {
        return;
    };
    if body {
        model.answers.insert((document, n), (epoch, settles, held));
    }
    if confirmed && held {
        model.known(document, n);
    }
}

fn agree(kit: &Kit, model: &Model, pool: &[Document]) {
    for (n, document) in (0..DOCUMENTS).zip(pool) {
        let standing = kit.store().standing(&document.id(), None).unwrap();
        let named = |own_only: bool, confirmation: &Confirmation| {
            let mut verdicts = model
                .verdicts
                .iter()
                .filter(|((document, of_a), _)| *document == n && (!own_only || *of_a == is_of_a(n)));
            verdicts.any(|(_, (_, id))| *id == confirmation.id())
        };
        let any_verdict = model.verdicts.keys().any(|(document, _)| *document == n);
        let fits = match (&standing, model.rows.get(&n), model.gone.get(&n)) {
            (Standing::Confirmed(confirmation), Some(row), _) => {
                row.verdict.is_some() && named(true, confirmation)
            }
            (Standing::Confirmed(confirmation), None, _) => named(false, confirmation),
            (Standing::Held, Some(row), _) => row.verdict.is_none() && !model.is_expired(n),
            (Standing::Gone(Reason::Expired), Some(row), _) => row.verdict.is_none() && model.is_expired(n),
            (Standing::Gone(reason), None, Some(gone)) => reason == gone && !any_verdict,
            (Standing::Unknown, None, None) => !any_verdict,
            _ => false,
        };
        assert!(fits, "document {n}: {standing:?}");
        if let (Some(row), Some(entry)) = (model.rows.get(&n), kit.store().document(&document.id()).unwrap())
        {
            assert_eq!(entry.has_body, row.body);
            assert_eq!(
                kit.whole_body(entry.seq).len(),
                if entry.has_body { document.body().len() } else { 0 }
            );
        }
        for m in 1..=PEERS {
            let partial = kit.store().partial(&document.id(), &peer(m)).unwrap();
            let committed = partial.map_or(0, |partial| partial.committed);
            assert_eq!(committed, model.partials.get(&(n, m)).copied().unwrap_or(0) as u64);
        }
    }
    for n in 1..=PEERS {
        let due = kit.store().confirmations_due(&peer(n), None, 100).unwrap();
        let due: BTreeSet<_> = due.iter().map(|(_, confirmation)| (n, confirmation.id())).collect();
        assert_eq!(due, model.due.iter().filter(|(peer, _)| *peer == n).copied().collect());
        for store in 1..3 {
            let outgoing = kit.store().outgoing(&to(peer(n), store_id(store)), None, 100).unwrap();
            let outgoing: Vec<_> = outgoing.iter().map(|outgoing| outgoing.description.id).collect();
            let expected: Vec<_> = model
                .outgoing(n, store)
                .into_iter()
                .map(|document| pool[usize::from(document)].id())
                .collect();
            assert_eq!(outgoing, expected, "peer {n}, store {store}");
            let wanting = Recipient { wants: vec![pool[0].group()], ..to(peer(n), store_id(store)) };
            let page = kit.store().subscribed(&wanting, None, 100).unwrap();
            let offered: Vec<_> = page.documents.iter().map(|offered| offered.description.id).collect();
            let subscribed = model.subscribed(n, store).into_iter();
            let expected: Vec<_> = subscribed.map(|document| pool[usize::from(document)].id()).collect();
            assert_eq!(offered, expected, "subscriber {n}, store {store}");
        }
    }
    let counts = kit.store().counts().unwrap();
    let waiting = model.rows.values().filter(|row| row.verdict.is_none()).count();
    assert_eq!((counts.waiting, counts.partials), (waiting as u64, model.partials.len() as u64));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_store_agrees_with_the_model_after_each_operation_and_reopening(
        ops in prop::collection::vec((op(), any::<bool>()), 1..50)
    ) {
        let mut kit = Kit::with(|options| options.open_share = 100);
        let (mut model, pool) = (Model::default(), pool());
        for (op, reopen) in ops {
            step(&kit, &mut model, &pool, op);
            agree(&kit, &model, &pool);
            if reopen {
                kit.reopen();
                agree(&kit, &model, &pool);
                kit.assert_sound();
            }
        }
        // In the end nothing is left of what was deleted, freed or given up.
        kit.sweep();
        kit.assert_sound();
    }
}
