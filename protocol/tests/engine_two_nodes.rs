//! Two nodes over a link that keeps order: whatever happens to either meanwhile, the session comes to its end on both.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod shelf;

use std::collections::VecDeque;

use proptest::prelude::*;
use shelf::{NOW, Pair, Shelf, Side, confirmation, document};
use waypost_protocol::document::Document;
use waypost_protocol::refusal::Reason;
use waypost_protocol::sync::{Event, Input, Output, Standing};

const SIZES: [usize; 4] = [200, 15_000, 70_000, 400_000];

fn some_document(number: u8) -> Document {
    document(u32::from(number), SIZES[usize::from(number) % SIZES.len()])
}

/// Something that happens to one side.
#[derive(Debug, Clone, Copy)]
enum Op {
    /// It polls so often.
    Speaks(u8),
    /// Payloads from the other side arrive.
    Hears(u8),
    /// Its store answers.
    Commits(u8),
    /// Its store fails the next thing.
    Fails,
    /// Its user writes a document.
    Writes(u8),
    /// Its user deletes a document.
    Deletes(u8),
    /// It learns from elsewhere that a document is confirmed.
    Learns(u8),
    /// It gets a document from elsewhere.
    Gets(u8),
    /// Confirmations begin or cease to verify here.
    Distrusts(bool),
}

fn some_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1u8..20).prop_map(Op::Speaks),
        8 => (1u8..6).prop_map(Op::Hears),
        6 => (1u8..6).prop_map(Op::Commits),
        1 => Just(Op::Fails),
        2 => (0u8..10).prop_map(Op::Writes),
        2 => (0u8..10).prop_map(Op::Deletes),
        2 => (0u8..10).prop_map(Op::Learns),
        1 => (0u8..10).prop_map(Op::Gets),
        1 => any::<bool>().prop_map(Op::Distrusts),
    ]
}

/// Payloads under way to each side.
type Links = [VecDeque<Vec<u8>>; 2];

fn happen(pair: &mut Pair, links: &mut Links, at: usize, op: Op) {
    let side = &mut pair.sides[at];
    match op {
        Op::Speaks(times) => {
            for _ in 0..times {
                match side.engine.poll_output(NOW, true, &side.shelf) {
                    Output::Transmit(payload) => links[1 - at].push_back(payload),
                    Output::Persist { ticket, item } => side.waiting.push_back((ticket, item)),
                    Output::Event(event) => side.events.push(event),
                    Output::Timeout(_) => return,
                }
            }
        }
        Op::Hears(times) => {
            for payload in (0..times).map_while(|_| links[at].pop_front()) {
                side.hears_bytes(payload).unwrap();
            }
        }
        Op::Commits(times) => (0..times).for_each(|_| commit(side, false)),
        Op::Fails => commit(side, true),
        Op::Writes(number) => {
            let document = some_document(number);
            if !side.shelf.standing.contains_key(&document.id()) {
                side.shelf.delete(&document.id());
                // Sequences are never used again.
                side.shelf.written += 1;
                let seq = 1_000 + side.shelf.written;
                side.shelf.standing.insert(document.id(), Standing::Held);
                side.shelf.outbox.insert(seq, document);
                side.input(Input::Document).unwrap();
            }
        }
        Op::Deletes(number) => {
            let id = some_document(number).id();
            if side.shelf.standing.get(&id) == Some(&Standing::Held) {
                side.shelf.delete(&id);
                side.shelf.standing.insert(id, Standing::Gone(Reason::Deleted));
            }
        }
        Op::Learns(number) => {
            let document = some_document(number);
            let known = confirmation(&[&document]);
            side.shelf.delete(&document.id());
            side.shelf.standing.insert(document.id(), Standing::Confirmed(Box::new(known.clone())));
            side.shelf.due.push(known);
            side.input(Input::Confirmation).unwrap();
        }
        Op::Gets(number) => {
            side.shelf.standing.entry(some_document(number).id()).or_insert(Standing::Held);
        }
        Op::Distrusts(distrusts) => side.shelf.distrusts = distrusts,
    }
}

fn commit(side: &mut Side, fails: bool) {
    let Some((ticket, item)) = side.waiting.pop_front() else { return };
    let result = match (fails, item) {
        (true, _) => Err(Reason::StorageFailed),
        // A store looks again when it writes.
        (false, item) => side.shelf.persist(item),
    };
    let input = match result {
        Ok(outcome) => Input::Persisted { ticket, outcome },
        Err(reason) => Input::PersistFailed { ticket, reason },
    };
    side.input(input).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_session_comes_to_its_end(
        ops in proptest::collection::vec((0usize..2, some_op()), 0..120),
        first in proptest::collection::vec(0u8..10, 0..6),
        second in proptest::collection::vec(0u8..10, 0..6),
        maybe_held in any::<[bool; 2]>(),
        target in prop_oneof![Just(600usize), Just(4_096), Just(60_000)],
    ) {
        let shelf = |numbers: Vec<u8>, maybe_held| {
            let mut shelf = Shelf { maybe_held, ..Shelf::sending(numbers.iter().map(|one| some_document(*one))) };
            let held = shelf.outbox.values().map(|document| (document.id(), Standing::Held));
            shelf.standing = held.collect();
            shelf
        };
        let mut pair = Pair::with_target(shelf(first, maybe_held[0]), shelf(second, maybe_held[1]), target);
        let mut links = Links::default();
        for (at, op) in ops {
            happen(&mut pair, &mut links, at, op);
        }
        let before = pair.sides.each_ref().map(|side| side.events.len());
        for _ in 0..5_000 {
            let quiet = links.iter().all(VecDeque::is_empty) && pair.sides.iter().all(|side| side.waiting.is_empty());
            let said = [0, 1].map(|at| {
                happen(&mut pair, &mut links, at, Op::Speaks(255));
                !links[1 - at].is_empty() || !pair.sides[at].waiting.is_empty()
            });
            if quiet && said == [false, false] {
                break;
            }
            for at in [0, 1] {
                happen(&mut pair, &mut links, at, Op::Hears(255));
                happen(&mut pair, &mut links, at, Op::Commits(255));
            }
        }
        for (side, before) in pair.sides.iter().zip(before) {
            prop_assert!(side.engine.is_idle(), "a side still waits for something");
            prop_assert!(side.engine.wants_input());
            let reported = |event: &Event| matches!(event, Event::Finished { .. });
            prop_assert!(side.events.iter().any(reported), "a side never finished; {} events before", before);
        }
        for side in &pair.sides {
            for document in side.shelf.outbox.values() {
                prop_assert!(side.shelf.standing.contains_key(&document.id()));
            }
        }
    }
}
