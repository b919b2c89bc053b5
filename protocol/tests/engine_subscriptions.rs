//! Subscriptions: who is offered what, in which order documents and what was said of them come, over any pipe.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod shelf;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use proptest::prelude::*;
use shelf::{GROUP, NOW, Pair, Shelf, Side, bytes_of, confirmation, document, parameters};
use waypost_protocol::document::Document;
use waypost_protocol::ids::GroupId;
use waypost_protocol::mvds;
use waypost_protocol::refusal::Reason;
use waypost_protocol::sync::{Backoff, Event, Input, Output, Parameters, Pipe, Standing};

fn documents(sizes: &[usize]) -> Vec<Document> {
    sizes.iter().zip(0..).map(|(size, number)| document(number, *size)).collect()
}

/// A gateway that has these for subscribers, confirmed all together.
fn confirmed(documents: &[Document]) -> Shelf {
    let all = confirmation(&documents.iter().collect::<Vec<_>>());
    let mut shelf = Shelf::sharing(documents.to_vec());
    for document in documents {
        shelf.standing.insert(document.id(), Standing::Confirmed(Box::new(all.clone())));
    }
    shelf
}

fn ids(documents: &[Document]) -> BTreeSet<Vec<u8>> {
    documents.iter().map(|document| document.id().as_bytes().to_vec()).collect()
}

fn received(side: &Side) -> BTreeSet<Vec<u8>> {
    side.shelf.received.keys().map(|id| id.as_bytes().to_vec()).collect()
}

fn held_by_peer(side: &Side) -> usize {
    side.events.iter().filter(|event| matches!(event, Event::HeldByPeer { .. })).count()
}

#[test]
fn a_subscriber_gets_small_and_large_documents_and_then_what_was_said_of_them() {
    let all = documents(&[300, 15_000, 200_000, 900, 70_000]);
    let mut pair = Pair::subscribed(Shelf::default(), confirmed(&all), vec![GROUP]);
    let first = pair.sides[1].says();
    assert_eq!(first.offers.len(), 3, "small ones are offered, not pushed");
    assert_eq!((first.starts.len(), first.messages.len(), first.confirmations.len()), (2, 0, 0));
    pair.sides[0].hears(first).unwrap();
    pair.settle();
    assert_eq!(received(&pair.sides[0]), ids(&all));
    for document in &all {
        assert!(matches!(pair.sides[0].shelf.standing[&document.id()], Standing::Confirmed(_)));
        assert_eq!(pair.sides[0].shelf.received[&document.id()].body(), document.body());
    }
    assert_eq!(held_by_peer(&pair.sides[1]), 5);
    assert!(pair.sides.iter().all(Side::has_finished));
}

#[test]
fn one_confirmation_follows_many_documents_once() {
    let all = documents(&[15_000; 200]);
    let mut pair = Pair::subscribed(Shelf::default(), confirmed(&all), vec![GROUP]);
    let mut confirmations = 0;
    for _ in 0..1_000 {
        let said = pair.sides[1].speaks();
        for payload in &said {
            let payload: mvds::Payload = prost::Message::decode(payload.as_slice()).unwrap();
            confirmations += payload.confirmations.len();
        }
        said.into_iter().for_each(|payload| pair.sides[0].hears_bytes(payload).unwrap());
        pair.carry(0);
        pair.sides.iter_mut().for_each(Side::commits);
    }
    assert_eq!((received(&pair.sides[0]), confirmations), (ids(&all), 1));
    let delivered = |event: &&Event| matches!(event, Event::Delivered { .. });
    assert!(
        pair.sides[1].events.iter().filter(delivered).count() > 1,
        "what came later is written down, too"
    );
}

#[test]
fn nobody_is_offered_what_it_may_not_have_or_did_not_ask_for() {
    let all = documents(&[300, 200_000]);
    for may_want in [vec![], vec![GroupId([9; 32])]] {
        let mut pair = Pair::subscribed(Shelf::default(), confirmed(&all), may_want);
        // Nor is it given by asking for it.
        let requests = all.iter().map(|document| bytes_of(&document.id())).collect();
        pair.sides[1].hears(mvds::Payload { requests, ..Default::default() }).unwrap();
        pair.settle();
        assert!(pair.sides[0].shelf.received.is_empty());
        assert!(pair.sides.iter().all(Side::has_finished));
    }
    // It may, and does not want to.
    let permitted = Parameters { may_want: vec![GROUP], ..parameters(false) };
    let mut gateway = Side::with(permitted, confirmed(&all));
    gateway.hears_bytes(waypost_protocol::sync::Engine::encode_hello(&parameters(true).hello)).unwrap();
    let said = gateway.says();
    assert!(said.offers.is_empty() && said.starts.is_empty() && said.messages.is_empty());
}

#[test]
fn a_document_whose_confirmation_came_first_is_fetched_all_the_same() {
    let all = documents(&[300, 200_000, 400]);
    let gateway = confirmed(&all);
    // The confirmation came with that of a document of its own.
    let phone = Shelf { standing: gateway.standing.clone(), ..Shelf::default() };
    let mut pair = Pair::subscribed(phone, gateway, vec![GROUP]);
    pair.settle();
    assert_eq!(received(&pair.sides[0]), ids(&all));
    assert!(pair.sides.iter().all(Side::has_finished));
    // The second time there is nothing to fetch.
    let [phone, gateway] = pair.sides.map(|side| side.shelf);
    let mut pair = Pair::subscribed(phone, gateway, vec![GROUP]);
    pair.settle();
    assert_eq!(held_by_peer(&pair.sides[1]), 3);
    assert!(pair.sides.iter().all(Side::has_finished));
    assert!(!pair.sides[0].events.iter().any(|event| matches!(event, Event::Received { .. })));
}

#[test]
fn what_was_deleted_by_its_reader_does_not_come_back() {
    let all = documents(&[300, 40_000]);
    let mut phone = Shelf::default();
    for document in &all {
        phone.standing.insert(document.id(), Standing::Gone(Reason::Deleted));
    }
    let mut pair = Pair::subscribed(phone, confirmed(&all), vec![GROUP]);
    pair.settle();
    assert!(pair.sides[0].shelf.received.is_empty());
    let refused = |event: &&Event| matches!(event, Event::RefusedByPeer { reason: Reason::Deleted, .. });
    assert_eq!(pair.sides[1].events.iter().filter(refused).count(), 2);
}

#[test]
fn a_document_that_arrives_while_the_session_is_open_is_offered_too() {
    let all = documents(&[300, 400, 90_000]);
    let mut pair = Pair::subscribed(Shelf::default(), confirmed(&all[..1]), vec![GROUP]);
    pair.settle();
    assert_eq!(received(&pair.sides[0]), ids(&all[..1]));
    for (document, seq) in all[1..].iter().zip(50..) {
        pair.sides[1].shelf.shared.insert(seq, document.clone());
        pair.sides[1].shelf.standing.insert(document.id(), Standing::Held);
    }
    pair.sides[1].input(Input::Document).unwrap();
    pair.settle();
    assert_eq!(received(&pair.sides[0]), ids(&all));
    assert!(pair.sides.iter().all(Side::has_finished));
}

#[test]
fn a_confirmation_that_crosses_the_documents_keeps_none_of_them_back() {
    // The phone hands over a confirmation of everything, at any moment of the session.
    for moment in 0..12 {
        let all = documents(&[300, 200_000, 400, 15_000]);
        let known = confirmation(&all.iter().collect::<Vec<_>>());
        let mut gateway = Shelf::sharing(all.clone());
        gateway.standing.extend(all.iter().map(|document| (document.id(), Standing::Held)));
        let mut pair = Pair::subscribed(Shelf::default(), gateway, vec![GROUP]);
        for _ in 0..moment {
            pair.carry(1);
            pair.carry(0);
            pair.sides.iter_mut().for_each(Side::commits);
        }
        for document in &all {
            let standing = Standing::Confirmed(Box::new(known.clone()));
            pair.sides[0].shelf.standing.insert(document.id(), standing);
        }
        pair.sides[0].shelf.due.push(known);
        pair.sides[0].input(Input::Confirmation).unwrap();
        pair.settle();
        assert_eq!(received(&pair.sides[0]), ids(&all), "after {moment} rounds");
        assert!(pair.sides.iter().all(Side::has_finished), "after {moment} rounds");
    }
}

#[test]
fn memory_does_not_grow_with_what_a_subscriber_could_have() {
    let all = documents(&[300; 5_000]);
    let mut pair = Pair::subscribed(Shelf::default(), confirmed(&all[..256]), vec![GROUP]);
    pair.sides[1].shelf.shared =
        all.iter().cloned().zip(1..).map(|(document, seq)| (seq, document)).collect();
    let said = pair.sides[1].says();
    // Offers that wait for an answer are few; nothing more is taken from the store before one comes.
    assert!(said.offers.len() <= 256, "{}", said.offers.len());
    assert!(pair.sides[1].says().offers.is_empty());
}

/// Two engines over a pipe that loses, doubles and reorders, in virtual time.
fn over_a_bad_pipe(all: &[Document], loss: u32, seed: u64) -> (Pair, bool) {
    let pipe = Pipe::Datagram(Backoff {
        first: Duration::from_millis(500),
        factor_percent: 200,
        cap: Duration::from_secs(8),
    });
    let mut pair = Pair::subscribed_over(Shelf::default(), confirmed(all), vec![GROUP], pipe);
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut now = NOW;
    let mut queue = BinaryHeap::new();
    let mut order = 0u64;
    for _ in 0..100_000 {
        let mut deadline = None;
        for at in [0usize, 1] {
            let side = &mut pair.sides[at];
            loop {
                match side.engine.poll_output(now, true, &side.shelf) {
                    Output::Transmit(payload) => {
                        let copies =
                            if random(100) < u64::from(loss) { 0 } else { 1 + u64::from(random(100) < 10) };
                        for _ in 0..copies {
                            order += 1;
                            let delay =
                                Duration::from_millis(5 + random(20) + 300 * u64::from(random(10) == 0));
                            queue.push(Reverse((now + delay, order, 1 - at, payload.clone())));
                        }
                    }
                    Output::Persist { ticket, item } => side.waiting.push_back((ticket, item)),
                    Output::Event(event) => side.events.push(event),
                    Output::Timeout(at) => {
                        deadline = [deadline, at].into_iter().flatten().min();
                        break;
                    }
                }
            }
        }
        if pair.sides.iter().any(|side| !side.waiting.is_empty()) {
            for side in &mut pair.sides {
                while let Some((ticket, item)) = side.waiting.pop_front() {
                    let input = match side.shelf.persist(item) {
                        Ok(outcome) => Input::Persisted { ticket, outcome },
                        Err(reason) => Input::PersistFailed { ticket, reason },
                    };
                    side.engine.handle_input(input, now, &side.shelf).unwrap();
                }
            }
            continue;
        }
        let arrival = queue.peek().map(|Reverse((at, ..))| *at);
        match [arrival, deadline].into_iter().flatten().min() {
            None => return (pair, true),
            Some(next) => now = now.max(next),
        }
        if arrival.is_some_and(|arrival| arrival <= now) {
            let Some(Reverse((_, _, to, payload))) = queue.pop() else { continue };
            let side = &mut pair.sides[to];
            side.engine.handle_input(Input::Frame(payload.into()), now, &side.shelf).unwrap();
        } else {
            for side in &mut pair.sides {
                side.engine.handle_input(Input::Timeout, now, &side.shelf).unwrap();
            }
        }
    }
    (pair, false)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_subscriber_gets_everything_under_loss_doubling_and_reordering(
        loss in 0u32..40,
        seed in any::<u64>(),
        sizes in prop::collection::vec(prop_oneof![100usize..2_000, 60_000usize..150_000], 1..12),
    ) {
        let all = documents(&sizes);
        let (pair, ended) = over_a_bad_pipe(&all, loss, seed);
        prop_assert!(ended, "it goes on for ever");
        prop_assert_eq!(received(&pair.sides[0]), ids(&all));
        prop_assert!(pair.sides.iter().all(|side| side.engine.is_idle()));
    }
}
