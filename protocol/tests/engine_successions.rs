//! What a node tells of destinations' certificates: in their order, and before any confirmation.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod shelf;

use bytes::Bytes;
use prost::Message as _;
use shelf::{DESTINATION, Pair, Shelf, Side, bytes_of, confirmation, document, parameters};
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::mvds;
use waypost_protocol::refusal::Reason;
use waypost_protocol::succession::{Link, MAX_CERTIFICATE, Word};
use waypost_protocol::sync::{Engine, Event, Parameters};
use waypost_protocol::time::UnixTime;

fn link(number: u8, signature: &'static [u8]) -> Link {
    let word = Word {
        signer: Fingerprint::V4([number; 20]),
        time: UnixTime(1_795_236_000 + u64::from(number)),
        signature: Bytes::from_static(signature),
    };
    Link {
        destination: DESTINATION,
        certificate: vec![number; 2_000].into(),
        word: (number > 0).then_some(word),
    }
}

/// A gateway that tells these, and has a confirmation to hand over.
fn telling(links: Vec<Link>, phone: Shelf) -> Pair {
    let due = vec![confirmation(&[&document(1, 300)])];
    let gateway =
        Side::with(Parameters { tells: links, ..parameters(false) }, Shelf { due, ..Shelf::default() });
    Pair::greet([Side::new(true, phone), gateway])
}

fn told(pair: &Pair) -> bool {
    pair.sides[1].events.contains(&Event::ToldChains)
}

fn delivered(pair: &Pair) -> bool {
    pair.sides[1].events.iter().any(|event| matches!(event, Event::Delivered { .. }))
}

#[test]
fn certificates_come_in_their_order_and_before_any_confirmation() {
    let links: Vec<Link> = (0..8).map(|number| link(number, b"good")).collect();
    let mut pair = telling(links.clone(), Shelf::default());
    let mut sent = 0;
    for payload in pair.sides[1].speaks() {
        let said = mvds::Payload::decode(payload.as_slice()).unwrap();
        sent += said.successions.len();
        assert!(said.confirmations.is_empty() || sent == links.len(), "after {sent} certificates");
        pair.sides[0].hears(said).unwrap();
    }
    pair.settle();
    assert_eq!((sent, &pair.sides[0].shelf.chain), (links.len(), &links));
    assert!(told(&pair) && delivered(&pair));
    assert!(pair.sides.iter().all(Side::has_finished));
}

#[test]
fn a_peer_that_does_not_answer_is_handed_confirmations_all_the_same_and_told_again() {
    let due = vec![confirmation(&[&document(1, 300)])];
    let gateway = Parameters { tells: vec![link(0, b"")], ..parameters(false) };
    let mut side = Side::with(gateway, Shelf { due, ..Shelf::default() });
    side.hears_bytes(Engine::encode_hello(&parameters(true).hello)).unwrap();
    let said = side.says();
    assert_eq!((said.successions.len(), said.confirmations.len()), (1, 1));
    let acks = vec![bytes_of(&confirmation(&[&document(1, 300)]).id())];
    side.hears(mvds::Payload { acks, ..Default::default() }).unwrap();
    assert!(side.engine.is_idle());
    side.speaks();
    assert!(!side.events.contains(&Event::ToldChains));
}

#[test]
fn a_certificate_that_does_not_verify_is_told_again_and_holds_up_nothing() {
    let mut pair = telling(vec![link(0, b""), link(1, b"forged")], Shelf::default());
    pair.settle();
    assert!(!told(&pair) && delivered(&pair));
    assert!(pair.sides.iter().all(Side::has_finished));
}

#[test]
fn a_confirmation_that_is_not_proven_there_is_named() {
    let mut pair = telling(Vec::new(), Shelf { distrusts: true, ..Shelf::default() });
    pair.settle();
    let undelivered = |event: &Event| matches!(event, Event::Undelivered { reason: Reason::NotProven, .. });
    assert!(pair.sides[1].events.iter().any(undelivered) && !told(&pair));
}

#[test]
fn a_node_without_extensions_is_told_nothing_and_gets_no_less() {
    let links = vec![link(0, b"")];
    let gateway = Parameters { tells: links, ..parameters(false) };
    let mut side = Side::with(gateway, Shelf::sending([document(1, 300)]));
    side.hears(mvds::Payload { offers: vec![Bytes::from_static(&[7; 32])], ..Default::default() }).unwrap();
    let said = side.says();
    assert_eq!((said.successions.len(), said.messages.len()), (0, 1));
}

#[test]
fn what_is_no_certificate_is_refused_by_its_id_and_passed_over() {
    let mut side = Side::greeted(Shelf::default());
    let good = link(1, b"good").to_wire();
    let large = mvds::Succession { certificate: vec![0; MAX_CERTIFICATE + 1].into(), ..good.clone() };
    let nameless = mvds::Succession { destination: Bytes::new(), ..good.clone() };
    let successions = vec![large.clone(), nameless, good];
    side.hears(mvds::Payload { successions, ..Default::default() }).unwrap();
    side.speaks();
    side.commits();
    assert_eq!(side.shelf.chain, [link(1, b"good")]);
    let malformed = side.events.iter().filter(|event| matches!(event, Event::Malformed(_))).count();
    assert_eq!(malformed, 2);
    let said = side.says();
    assert_eq!(said.acks, [bytes_of(&link(1, b"good").id())]);
    assert!(said.report.is_none_or(|report| report.collections.is_empty()), "it counts for nothing else");
    let mut refusing = Side::greeted(Shelf::default());
    refusing.hears(mvds::Payload { successions: vec![large.clone()], ..Default::default() }).unwrap();
    let id = bytes_of(&Link::id_of_wire(&large).unwrap());
    assert_eq!(refusing.says().refusals, [mvds::Refusal { id, reason: Reason::Malformed.code() }]);
}
