//! Whatever is offered, sent, started or asked for gets an answer, so that every conversation comes to its end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod shelf;

use bytes::Bytes;
use shelf::{Pair, Shelf, Side, bytes_of, confirmation, confirmation_by, document, start_of};
use waypost_protocol::mvds::{Chunk, Payload, Refusal};
use waypost_protocol::refusal::Reason;
use waypost_protocol::sync::{Event, Input, ProtocolError, Standing, Stored};

const LARGE: usize = 300_000;

fn both_finished(pair: &Pair) -> [bool; 2] {
    [pair.sides[0].has_finished(), pair.sides[1].has_finished()]
}

#[test]
fn two_nodes_that_both_have_documents_both_finish() {
    for target in [600, 4096, 60_000] {
        let phone =
            Shelf::sending((0..300).map(|number| document(number, 900)).chain([document(900, LARGE)]));
        let gateway =
            Shelf::sending((300..600).map(|number| document(number, 900)).chain([document(901, LARGE)]));
        let mut pair = Pair::with_target(phone, gateway, target);
        pair.settle();
        assert_eq!(both_finished(&pair), [true, true]);
        for (side, other) in [(0, 1), (1, 0)] {
            assert_eq!(pair.sides[side].shelf.standing.len(), pair.sides[other].shelf.outbox.len());
        }
    }
}

#[test]
fn a_request_for_what_was_deleted_meanwhile_is_answered() {
    let one = document(1, 500);
    let mut pair = Pair::new(Shelf { maybe_held: true, ..Shelf::sending([one.clone()]) }, Shelf::default());
    pair.carry(0);
    pair.sides[0].shelf.delete(&one.id());
    pair.settle();
    assert_eq!(both_finished(&pair), [true, true]);
}

#[test]
fn a_request_for_what_was_confirmed_meanwhile_is_answered() {
    let one = document(1, 500);
    let mut pair = Pair::new(Shelf { maybe_held: true, ..Shelf::sending([one.clone()]) }, Shelf::default());
    pair.carry(0);
    // The gateway asks for it; before that arrives, it learns the confirmation and hands it over.
    pair.sides[1].shelf.due.push(confirmation(&[&one]));
    let asked = pair.sides[1].speaks();
    let told = pair.sides[1].shelf.due.len();
    assert_eq!((asked.len(), told), (1, 1));
    let requests = Payload { requests: vec![bytes_of(&one.id())], ..Default::default() };
    let confirmations =
        Payload { confirmations: vec![confirmation(&[&one]).to_wire()], ..Default::default() };
    pair.sides[0].hears(confirmations).unwrap();
    let _ = pair.sides[0].speaks();
    pair.sides[0].commits();
    pair.sides[0].hears(requests).unwrap();
    let said = pair.sides[0].says();
    assert_eq!(said.confirmations, [confirmation(&[&one]).to_wire()]);
}

#[test]
fn a_document_that_the_gateway_lost_is_asked_for_and_sent_again() {
    for size in [500, LARGE] {
        let one = document(1, size);
        let phone = Shelf { kept: [(1, one.clone())].into(), ..Shelf::default() };
        let gateway = Shelf { lost: vec![one.id()], ..Shelf::default() };
        let mut pair = Pair::new(phone, gateway);
        pair.settle();
        assert_eq!(both_finished(&pair), [true, true]);
        assert_eq!(pair.sides[1].shelf.standing[&one.id()], Standing::Held);
        let lost = Event::LostByPeer { store: shelf::parameters(false).hello.store, id: one.id() };
        let held = Event::HeldByPeer { store: shelf::parameters(false).hello.store, id: one.id() };
        let place = |event| pair.sides[0].events.iter().position(|one| *one == event).unwrap();
        assert!(place(lost) < place(held));
    }
}

#[test]
fn a_lost_document_is_answered_by_its_confirmation_where_there_is_one() {
    let one = document(1, 500);
    let mut phone = Shelf::default();
    phone.standing.insert(one.id(), Standing::Confirmed(Box::new(confirmation(&[&one]))));
    let mut pair = Pair::new(phone, Shelf { lost: vec![one.id()], ..Shelf::default() });
    pair.settle();
    assert_eq!(both_finished(&pair), [true, true]);
    assert!(matches!(pair.sides[1].shelf.standing[&one.id()], Standing::Confirmed(_)));
}

#[test]
fn a_lost_document_that_nobody_has_any_more_holds_nothing_up() {
    let (gone, there) = (document(1, 500), document(2, 500));
    let phone = Shelf::sending([there.clone()]);
    let mut pair = Pair::new(phone, Shelf { lost: vec![gone.id()], ..Shelf::default() });
    pair.settle();
    assert_eq!(both_finished(&pair), [true, true]);
    assert!(pair.sides[1].events.contains(&Event::Withdrawn { id: gone.id() }));
    assert_eq!(pair.sides[1].shelf.standing[&there.id()], Standing::Held);
}

#[test]
fn another_destinations_confirmation_keeps_no_document_out() {
    let foreign = waypost_protocol::ids::Fingerprint::V4([0xee; 20]);
    for (size, distrusts) in [(500, false), (500, true), (LARGE, false), (LARGE, true)] {
        let one = document(1, size);
        let mut gateway = Shelf::default();
        let other = confirmation_by(foreign, &[&one]);
        gateway.standing.insert(one.id(), Standing::Confirmed(Box::new(other)));
        let phone = Shelf { maybe_held: true, distrusts, ..Shelf::sending([one.clone()]) };
        let mut pair = Pair::new(phone, gateway);
        pair.settle();
        assert_eq!(both_finished(&pair), [true, true], "{size} bytes, distrusts: {distrusts}");
        assert_eq!(pair.sides[1].shelf.standing[&one.id()], Standing::Held);
    }
}

#[test]
fn a_body_that_is_deleted_while_it_is_sent_is_withdrawn_and_the_rest_goes_on() {
    let (large, small) = (document(1, 3_000_000), document(2, 500));
    let mut pair = Pair::new(Shelf::sending([large.clone(), small.clone()]), Shelf::default());
    for _ in 0..3 {
        pair.carry(0);
        pair.carry(1);
        pair.sides[1].commits();
    }
    assert!(!pair.sides[1].shelf.partials[&large.id()].is_empty());
    pair.sides[0].shelf.delete(&large.id());
    pair.settle();
    assert_eq!(both_finished(&pair), [true, true]);
    assert!(!pair.sides[1].shelf.partials[&large.id()].is_empty(), "what came is kept for another time");
    assert!(pair.sides[1].shelf.standing.contains_key(&small.id()));
}

#[test]
fn a_refusal_by_the_one_who_offered_ends_the_wait() {
    let (small, large) = (document(1, 500), document(2, LARGE));
    let mut side = Side::greeted(Shelf::default());
    let offers = vec![bytes_of(&small.id())];
    side.hears(Payload { offers, starts: vec![start_of(1, &large)], ..Default::default() }).unwrap();
    let said = side.says();
    assert_eq!((said.requests.len(), said.resumes.len()), (1, 1));
    assert!(!side.engine.is_idle());
    let refusal = |id| Refusal { id: bytes_of(&id), reason: 12 };
    let refusals = vec![refusal(small.id()), refusal(large.id())];
    side.hears(Payload { refusals, ..Default::default() }).unwrap();
    side.speaks();
    assert!(side.engine.is_idle());
}

#[test]
fn every_confirmed_document_is_answered_however_many_confirmations_that_takes() {
    let documents: Vec<_> = (0..250).map(|number| document(number, 400)).collect();
    let standing =
        documents.iter().map(|one| (one.id(), Standing::Confirmed(Box::new(confirmation(&[one])))));
    let gateway = Shelf { standing: standing.collect(), ..Default::default() };
    let mut pair = Pair::new(Shelf::sending(documents), gateway);
    pair.settle();
    assert_eq!(both_finished(&pair), [true, true]);
    assert!(pair.sides[0].shelf.outbox.is_empty(), "{} are left", pair.sides[0].shelf.outbox.len());
}

#[test]
fn a_confirmation_that_is_not_proven_still_ends_the_wait_and_deletes_nothing() {
    let one = document(1, 400);
    let standing = [(one.id(), Standing::Confirmed(Box::new(confirmation(&[&one]))))];
    let gateway = Shelf { standing: standing.into(), ..Default::default() };
    let phone = Shelf { distrusts: true, ..Shelf::sending([one.clone()]) };
    let mut pair = Pair::new(phone, gateway);
    pair.settle();
    assert_eq!(both_finished(&pair), [true, true]);
    assert_eq!(pair.sides[0].shelf.outbox.len(), 1);
    let held = |event: &Event| matches!(event, Event::HeldByPeer { .. });
    assert!(!pair.sides[0].events.iter().any(held));
}

#[test]
fn a_confirmation_with_a_verdict_of_the_future_is_refused_by_its_id() {
    let one = document(1, 400);
    let mut side = Side::greeted(Shelf::sending([one.clone()]));
    let known = confirmation(&[&one]);
    let mut wire = known.to_wire();
    wire.verdicts = Bytes::from_static(&[77]);
    side.hears(Payload { confirmations: vec![wire.clone()], ..Default::default() }).unwrap();
    let said = side.says();
    assert_eq!(said.refusals.len(), 1);
    assert_eq!(said.refusals[0].reason, Reason::Malformed.code());
    assert_ne!(said.refusals[0].id, bytes_of(&known.id()), "another verdict has another id");
    assert!(side.engine.is_idle(), "the document has its answer, though one that says nothing here");
    assert!(side.events.iter().any(|event| matches!(event, Event::Malformed(text) if text.contains("77"))));
}

#[test]
fn confirmations_can_be_asked_for_by_document() {
    let (confirmed, unknown) = (document(1, 400), document(2, 400));
    let standing = [(confirmed.id(), Standing::Confirmed(Box::new(confirmation(&[&confirmed]))))];
    let mut side = Side::greeted(Shelf { standing: standing.into(), ..Default::default() });
    let queries = vec![bytes_of(&unknown.id()), bytes_of(&confirmed.id())];
    side.hears(Payload { queries, ..Default::default() }).unwrap();
    let said = side.says();
    assert_eq!(said.confirmations, [confirmation(&[&confirmed]).to_wire()]);
    assert!(said.requests.is_empty() && said.refusals.is_empty());
}

#[test]
fn an_offer_beyond_what_can_be_asked_for_is_refused_for_now() {
    let mut side = Side::greeted(Shelf::default());
    let mut answers = 0;
    for part in 0..3u32 {
        let offers = (0..500).map(|number| bytes_of(&document(part * 500 + number, 400).id())).collect();
        side.hears(Payload { offers, ..Default::default() }).unwrap();
        let said = side.says();
        assert!(said.refusals.iter().all(|one| Reason::from_code(one.reason).is_temporary()));
        answers += said.requests.len() + said.refusals.len();
    }
    assert_eq!(answers, 1_500);
}

#[test]
fn an_offer_is_asked_for_once_however_often_it_comes() {
    let mut side = Side::greeted(Shelf::default());
    let offers = vec![bytes_of(&document(1, 400).id()); 1_000];
    side.hears(Payload { offers, ..Default::default() }).unwrap();
    assert_eq!(side.says().requests.len(), 1);
}

#[test]
fn an_offer_of_what_is_being_transferred_waits_for_the_transfer() {
    let large = document(1, 50_000);
    let mut side = Side::greeted(Shelf::default());
    side.hears(Payload { starts: vec![start_of(1, &large)], ..Default::default() }).unwrap();
    side.speaks();
    side.hears(Payload { offers: vec![bytes_of(&large.id())], ..Default::default() }).unwrap();
    let chunks = vec![Chunk { transfer: 1, offset: 0, bytes: large.body().clone() }];
    side.hears(Payload { chunks, ..Default::default() }).unwrap();
    let said = side.says();
    assert!(said.requests.is_empty());
    side.commits();
    assert_eq!(side.says().acks, [bytes_of(&large.id())]);
    assert!(side.engine.is_idle());
}

#[test]
fn chunks_may_be_smaller_than_the_header() {
    let large = document(1, 50_000);
    let mut side = Side::greeted(Shelf::default());
    side.hears(Payload { starts: vec![start_of(1, &large)], ..Default::default() }).unwrap();
    for (at, byte) in large.body()[..40].chunks(7).enumerate() {
        let bytes = Bytes::copy_from_slice(byte);
        let chunks = vec![Chunk { transfer: 1, offset: at as u64 * 7, bytes }];
        side.hears(Payload { chunks, ..Default::default() }).unwrap();
    }
    let chunks = vec![Chunk { transfer: 1, offset: 40, bytes: large.body().slice(40..) }];
    side.hears(Payload { chunks, ..Default::default() }).unwrap();
    side.speaks();
    side.commits();
    let said = side.says();
    assert_eq!(said.refusals, []);
    assert_eq!(said.acks, [bytes_of(&large.id())]);
}

#[test]
fn a_store_that_has_committed_more_than_came_here_moves_the_transfer_on() {
    let large = document(1, LARGE);
    let mut side = Side::greeted(Shelf::default());
    side.hears(Payload { starts: vec![start_of(1, &large)], ..Default::default() }).unwrap();
    let chunk = |from: usize, to: usize| {
        let chunks = vec![Chunk { transfer: 1, offset: from as u64, bytes: large.body().slice(from..to) }];
        Payload { chunks, ..Default::default() }
    };
    side.hears(chunk(0, 60_000)).unwrap();
    side.hears(chunk(60_000, 70_000)).unwrap();
    side.hears(chunk(70_000, 80_000)).unwrap();
    side.speaks();
    // Another conversation of the same phone has brought more.
    side.shelf.partials.insert(large.id(), large.body()[..140_000].to_vec());
    side.commits();
    assert_eq!(side.says().resumes.last().map(|one| one.committed), Some(140_000));
    for from in (140_000..LARGE).step_by(40_000) {
        side.hears(chunk(from, LARGE.min(from + 40_000))).unwrap();
        side.speaks();
        side.commits();
    }
    assert_eq!(side.says().acks, [bytes_of(&large.id())]);
    assert!(side.engine.is_idle());
}

#[test]
fn a_transfer_number_that_is_used_again_leaves_nothing_behind() {
    let mut side = Side::greeted(Shelf::default());
    for number in 0..30 {
        let large = document(number, LARGE);
        side.hears(Payload { starts: vec![start_of(1, &large)], ..Default::default() }).unwrap();
        let chunks = vec![Chunk { transfer: 1, offset: 0, bytes: large.body().slice(..60_000) }];
        side.hears(Payload { chunks, ..Default::default() }).unwrap();
        side.speaks();
    }
    assert!(side.engine.wants_input(), "nothing waits to become durable");
}

#[test]
fn a_piece_counts_for_its_document_whatever_the_number_means_by_now() {
    let (first, second) = (document(1, LARGE), document(2, LARGE));
    let mut side = Side::greeted(Shelf::default());
    side.hears(Payload { starts: vec![start_of(1, &first)], ..Default::default() }).unwrap();
    for from in [0, 40_000] {
        let bytes = first.body().slice(from..from + 40_000);
        let chunks = vec![Chunk { transfer: 1, offset: from as u64, bytes }];
        side.hears(Payload { chunks, ..Default::default() }).unwrap();
    }
    side.speaks();
    side.hears(Payload { starts: vec![start_of(1, &second)], ..Default::default() }).unwrap();
    side.speaks();
    side.commits();
    assert!(side.says().resumes.is_empty(), "nothing of the second document is durable");
}

#[test]
fn a_gap_in_a_stream_ends_the_session_instead_of_the_progress() {
    let large = document(1, LARGE);
    let mut side = Side::greeted(Shelf::default());
    side.hears(Payload { starts: vec![start_of(1, &large)], ..Default::default() }).unwrap();
    let chunks = vec![Chunk { transfer: 1, offset: 10, bytes: large.body().slice(10..20) }];
    let error = side.hears(Payload { chunks, ..Default::default() }).unwrap_err();
    assert!(matches!(error, ProtocolError::BeyondBounds(_)));
}

#[test]
fn a_document_of_which_only_a_part_became_durable_is_not_acknowledged() {
    let one = document(1, 400);
    let mut side = Side::greeted(Shelf::default());
    side.hears(Payload { messages: vec![one.to_message()], ..Default::default() }).unwrap();
    side.speaks();
    let (ticket, _) = side.waiting.pop_front().unwrap();
    side.input(Input::Persisted { ticket, outcome: Stored::Partial { committed: 3 } }).unwrap();
    let said = side.says();
    assert!(said.acks.is_empty());
    assert_eq!(said.refusals.len(), 1);
}
