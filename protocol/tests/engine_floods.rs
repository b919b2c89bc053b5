//! A hostile peer's payloads cost bounded memory and bounded words, whatever is in them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]
#![allow(unsafe_code, reason = "an allocator that counts must be one")]

mod shelf;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use shelf::{DESTINATION, NOW, Shelf, Side, bytes_of, confirmation, document, parameters, start_of};
use waypost_protocol::document::Document;
use waypost_protocol::mvds::{Age, Chunk, Confirmation, Message, Payload, Refusal, Report, Resume, Start};
use waypost_protocol::refusal::{Goodbye, InLine, Reason};
use waypost_protocol::session::MAX_PAYLOAD;
use waypost_protocol::sync::{Engine, Event, Input, Output, ProtocolError, Standing, Stored};

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread holds.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: i64) {
    // A thread that is ending has no counter any more, and nobody asks.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        PEAK.try_with(|peak| peak.set(peak.get().max(live.get())))
    });
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        unsafe { System.realloc(at, layout, size) }
    }
}

fn live() -> i64 {
    LIVE.with(Cell::get)
}

/// What an engine may hold for one peer: what is not durable yet, its tables, and a decoded payload for a moment.
const BOUND: i64 = 4 << 20;

/// Sends payload after payload, as a link would: only while the engine wants more, and without ever taking an answer.
/// The node takes `per_payload` outputs after each; what is to be persisted stays with the store, which is slow.
fn flood(payload: &dyn Fn(u32) -> Payload, per_payload: usize) -> (i64, u32) {
    let mut side = Side::greeted(Shelf::default());
    let mut kept = Vec::new();
    let (before, mut peak, mut sent) = (live(), 0, 0);
    while sent < 20 && side.engine.wants_input() {
        let bytes = payload(sent).encode_to_vec();
        assert!(bytes.len() <= MAX_PAYLOAD, "{} bytes are no payload", bytes.len());
        sent += 1;
        PEAK.set(live());
        if side.hears_bytes(bytes).is_err() {
            break;
        }
        for _ in 0..per_payload {
            match side.engine.poll_output(NOW, false, &side.shelf) {
                Output::Timeout(_) => break,
                Output::Persist { ticket, item } => kept.push((ticket, item)),
                _ => {}
            }
        }
        peak = peak.max(PEAK.get() - before);
    }
    (peak, sent)
}

fn assert_bounded(what: &str, payload: &dyn Fn(u32) -> Payload) {
    for per_payload in [0, 64] {
        let (peak, sent) = flood(payload, per_payload);
        assert!(
            peak < BOUND,
            "{what}: {peak} bytes after {sent} payloads, {per_payload} outputs taken for each"
        );
    }
}

/// `count` ids that no other round has.
fn ids(round: u32, count: u32) -> impl Iterator<Item = Bytes> {
    let id = move |number: u32| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&round.to_be_bytes());
        id[4..8].copy_from_slice(&number.to_be_bytes());
        Bytes::copy_from_slice(&id)
    };
    (0..count).map(id)
}

#[test]
fn floods_of_ids_cost_bounded_memory() {
    let list = |round, count| ids(round, count).collect::<Vec<_>>();
    assert_bounded("acks", &|round| Payload { acks: list(round, 1_800), ..Default::default() });
    assert_bounded("offers", &|round| Payload { offers: list(round, 1_800), ..Default::default() });
    assert_bounded("requests", &|round| Payload { requests: list(round, 1_800), ..Default::default() });
    assert_bounded("queries", &|round| Payload { queries: list(round, 1_800), ..Default::default() });
    let refusals = |round| ids(round, 1_400).map(|id| Refusal { id, reason: 1 }).collect();
    assert_bounded("refusals", &|round| Payload { refusals: refusals(round), ..Default::default() });
    let ages = |round| ids(round, 1_200).map(|id| Age { id, seconds: u64::MAX }).collect();
    assert_bounded("ages", &|round| Payload { ages: ages(round), ..Default::default() });
}

#[test]
fn floods_of_nothing_cost_bounded_memory() {
    assert_bounded("messages", &|_| Payload {
        messages: vec![Message::default(); 16_000],
        ..Default::default()
    });
    assert_bounded("chunks", &|_| Payload { chunks: vec![Chunk::default(); 16_000], ..Default::default() });
    assert_bounded("resumes", &|_| Payload {
        resumes: vec![Resume::default(); 16_000],
        ..Default::default()
    });
    let confirmations = vec![Confirmation::default(); 16_000];
    assert_bounded("confirmations", &|_| Payload {
        confirmations: confirmations.clone(),
        ..Default::default()
    });
    let report = Some(Report { collections: vec![Default::default(); 16_000], confirmations: 1 });
    assert_bounded("a report", &|_| Payload { report: report.clone(), ..Default::default() });
}

#[test]
fn floods_of_documents_cost_bounded_memory() {
    let starts = |round, size| {
        let start = |(id, transfer)| Start {
            transfer,
            id,
            group_id: vec![1; 32].into(),
            timestamp: 0,
            size,
            destination: Bytes::copy_from_slice(DESTINATION.as_bytes()),
        };
        ids(round, 600).zip(round * 600..).map(start).collect()
    };
    assert_bounded("starts", &|round| Payload { starts: starts(round, 20_000), ..Default::default() });
    assert_bounded("endless starts", &|round| Payload {
        starts: starts(round, u64::MAX),
        ..Default::default()
    });
    let number = |round: u32, at: u32| round * 10_000 + at;
    let nothing = |body: Bytes| Message { group_id: vec![1; 32].into(), timestamp: 0, body, metadata: None };
    let messages = |round| ids(round, 900).map(|id| nothing(id.slice(..8))).collect();
    assert_bounded("no envelopes", &|round| Payload { messages: messages(round), ..Default::default() });
    let small = |round| (0..600).map(|at| document(number(round, at), 40).to_message()).collect();
    assert_bounded("small documents", &|round| Payload { messages: small(round), ..Default::default() });
    let signed =
        |round| (0..500).map(|at| confirmation(&[&document(number(round, at), 40)]).to_wire()).collect();
    assert_bounded("confirmations", &|round| Payload { confirmations: signed(round), ..Default::default() });
}

#[test]
fn small_documents_in_padded_payloads_do_not_keep_the_padding() {
    let mut side = Side::greeted(Shelf::default());
    let before = live();
    let mut kept = Vec::new();
    for number in 0.. {
        let mut bytes = Payload { messages: vec![document(number, 100).to_message()], ..Default::default() }
            .encode_to_vec();
        // A field that nobody knows, as a newer version may have.
        let padding = MAX_PAYLOAD - bytes.len() - 6;
        prost::encoding::encode_key(9_999, prost::encoding::WireType::LengthDelimited, &mut bytes);
        prost::encoding::encode_varint(padding as u64, &mut bytes);
        bytes.resize(bytes.len() + padding, 0);
        side.hears_bytes(bytes).unwrap();
        side.speaks();
        kept.extend(side.waiting.drain(..));
        if !side.engine.wants_input() {
            break;
        }
    }
    let held = live() - before;
    assert!(held < BOUND, "{held} bytes for {} documents of 100 bytes", kept.len());
}

#[test]
fn malformed_entries_are_reported_but_not_each() {
    let mut side = Side::greeted(Shelf::default());
    side.hears(Payload { messages: vec![Message::default(); 5_000], ..Default::default() }).unwrap();
    side.speaks();
    let told = side.events.iter().filter(|event| matches!(event, Event::Malformed(_))).count();
    assert!((1..=16).contains(&told), "{told} events");
}

#[test]
fn a_peer_that_leaves_thousands_of_answers_untaken_is_cut_off() {
    let mut side = Side::greeted(Shelf::default());
    let error = (0..50u32).find_map(|part| {
        let offers = (0..1_500).map(|n| bytes_of(&document(part * 1_500 + n, 40).id())).collect();
        side.hears(Payload { offers, ..Default::default() }).err()
    });
    assert!(matches!(error, Some(ProtocolError::TooMany(_))), "{error:?}");
}

#[test]
fn a_hello_with_an_advertising_key_of_another_length_ends_the_session() {
    for length in [1, 15, 17, 32] {
        let mut engine = Engine::new(parameters(false));
        let mut hello = Payload::decode(&engine.hello()[..]).unwrap();
        hello.hello.as_mut().unwrap().advertising_key = vec![1; length].into();
        let input = Input::Frame(hello.encode_to_vec().into());
        let heard = engine.handle_input(input, NOW, &Shelf::default());
        assert!(matches!(heard, Err(ProtocolError::Id(_))), "{length}: {heard:?}");
    }
}

#[test]
fn a_goodbye_in_place_of_the_hello_is_nobody_to_send_documents_to() {
    let mut engine = Engine::new(parameters(true));
    let goodbye = Engine::encode_goodbye(Goodbye::Busy(Some(InLine { place: 2, again: 9 })));
    engine.handle_input(Input::Frame(goodbye.into()), NOW, &Shelf::default()).unwrap();
    let heard = engine.poll_output(NOW, true, &Shelf::default());
    assert!(matches!(heard, Output::Event(Event::Goodbye(Goodbye::Busy(Some(_))))), "{heard:?}");
    assert_eq!(engine.poll_output(NOW, true, &Shelf::default()), Output::Timeout(None));
    assert_eq!(engine.peer(), None);
}

#[test]
fn a_second_hello_ends_the_session() {
    let mut side = Side::greeted(Shelf::default());
    let hello = Engine::encode_hello(&parameters(true).hello);
    assert_eq!(side.hears_bytes(hello), Err(ProtocolError::SecondHello));
}

#[test]
fn acks_and_resumes_for_what_was_never_sent_change_nothing() {
    let large = document(1, 100_000);
    let mut side = Side::greeted(Shelf::sending([large.clone()]));
    let stranger = bytes_of(&document(2, 40).id());
    let resumes = [(1, u64::MAX), (9, 5), (u32::MAX, u64::MAX)];
    let resumes = resumes.map(|(transfer, committed)| Resume { transfer, committed }).to_vec();
    side.hears(Payload { acks: vec![stranger], resumes, ..Default::default() }).unwrap();
    let said = side.says();
    assert!(said.chunks.is_empty(), "there is nothing beyond the end");
    assert!(side.events.iter().all(|event| matches!(event, Event::Hello(_))), "{:?}", side.events);
}

/// Something that a peer, the store or the clock does.
#[derive(Debug, Clone)]
enum Op {
    Bytes(Vec<u8>),
    Payload(Box<Payload>),
    Answer(u8),
    Refuse(u8),
    Speak { room: bool, times: usize },
    News,
    Timeout,
    LinkDown,
}

/// One of a few ids, so that operations meet; sometimes one of a wrong length.
fn some_id() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => (0u32..6).prop_map(|number| bytes_of(&some_document(number).id())),
        1 => Just(bytes_of(&confirmation(&[&some_document(0)]).id())),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
    ]
}

fn some_document(number: u32) -> Document {
    static DOCUMENTS: LazyLock<Vec<Document>> =
        LazyLock::new(|| (0..12).map(|n| document(n, if n % 2 == 0 { 300 } else { 150_000 })).collect());
    DOCUMENTS[number as usize].clone()
}

fn some_offset() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0u64..200_000, any::<u64>(), Just(65_536)]
}

fn some_start() -> impl Strategy<Value = Start> {
    let size = prop_oneof![3 => Just(None), 1 => some_offset().prop_map(Some)];
    (0u32..4, 0u32..6, size).prop_map(|(transfer, number, size)| {
        let honest = start_of(transfer, &some_document(number));
        Start { size: size.unwrap_or(honest.size), ..honest }
    })
}

fn some_chunk() -> impl Strategy<Value = Chunk> {
    (0u32..4, 0u32..6, some_offset(), 0usize..40_000, any::<bool>()).prop_map(
        |(transfer, number, offset, length, honest)| {
            let body = some_document(number).body().clone();
            let start = usize::try_from(offset).unwrap_or(0).min(body.len());
            let bytes = body.slice(start..body.len().min(start + length));
            Chunk { transfer, offset: if honest { start as u64 } else { offset }, bytes }
        },
    )
}

prop_compose! {
    fn some_payload()(
        acks in proptest::collection::vec(some_id(), 0..3),
        offers in proptest::collection::vec(some_id(), 0..4),
        requests in proptest::collection::vec(some_id(), 0..4),
        queries in proptest::collection::vec(some_id(), 0..3),
        messages in proptest::collection::vec((0u32..6).prop_map(|number| some_document(number * 2).to_message()), 0..3),
        starts in proptest::collection::vec(some_start(), 0..3),
        chunks in proptest::collection::vec(some_chunk(), 0..3),
        resumes in proptest::collection::vec((0u32..4, some_offset()).prop_map(|(transfer, committed)| Resume { transfer, committed }), 0..3),
        refusals in proptest::collection::vec((some_id(), 0u32..14).prop_map(|(id, reason)| Refusal { id, reason }), 0..3),
        confirmations in proptest::collection::vec((0u32..6, 0u8..20).prop_map(|(number, verdict)| {
            let mut wire = confirmation(&[&some_document(number)]).to_wire();
            wire.verdicts = vec![verdict].into();
            wire
        }), 0..2),
        report in proptest::option::of(Just(Report::default())),
        ages in proptest::collection::vec((some_id(), any::<u64>()).prop_map(|(id, seconds)| Age { id, seconds }), 0..2),
        // A few of them at a time, or most payloads would end the session at once.
        keep in any::<u16>(),
    ) -> Payload {
        let mut payload = Payload { acks, offers, requests, queries, messages, starts, chunks, resumes, refusals, confirmations, report, ages, ..Default::default() };
        let drop = |bit: u32| keep >> bit & 1 == 0;
        if drop(0) { payload.acks.clear(); }
        if drop(1) { payload.offers.clear(); }
        if drop(2) { payload.requests.clear(); }
        if drop(3) { payload.queries.clear(); }
        if drop(4) { payload.messages.clear(); }
        if drop(5) { payload.refusals.clear(); }
        if drop(6) { payload.ages.clear(); }
        if drop(7) { payload.report = None; }
        payload
    }
}

fn some_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => some_payload().prop_map(|payload| Op::Payload(Box::new(payload))),
        1 => proptest::collection::vec(any::<u8>(), 0..60).prop_map(Op::Bytes),
        6 => any::<u8>().prop_map(Op::Answer),
        2 => any::<u8>().prop_map(Op::Refuse),
        6 => (any::<bool>(), 0usize..30).prop_map(|(room, times)| Op::Speak { room, times }),
        1 => Just(Op::News),
        1 => Just(Op::Timeout),
        1 => Just(Op::LinkDown),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_operations_in_any_order_stay_within_bounds(ops in proptest::collection::vec(some_op(), 0..60)) {
        let shelf = Shelf {
            standing: [(some_document(2).id(), Standing::Held), (some_document(4).id(), Standing::Gone(Reason::Deleted))].into(),
            due: vec![confirmation(&[&some_document(8)])],
            maybe_held: ops.len() % 2 == 0,
            ..Shelf::sending([some_document(0), some_document(3), some_document(7)])
        };
        let mut side = Side::greeted(shelf);
        let before = live();
        for op in ops {
            let wants_input = side.engine.wants_input();
            let result = match op {
                Op::Payload(payload) if wants_input => side.hears(*payload),
                Op::Bytes(bytes) if wants_input => side.hears_bytes(bytes),
                Op::Payload(_) | Op::Bytes(_) => Ok(()),
                Op::Answer(which) => {
                    let at = usize::from(which) % side.waiting.len().max(1);
                    match side.waiting.remove(at).map(|(ticket, item)| (ticket, side.shelf.persist(item))) {
                        Some((ticket, Ok(outcome))) => side.input(Input::Persisted { ticket, outcome }),
                        Some((ticket, Err(reason))) => side.input(Input::PersistFailed { ticket, reason }),
                        None => Ok(()),
                    }
                }
                Op::Refuse(code) => match side.waiting.pop_front() {
                    Some((ticket, _)) if code == 0 => side.input(Input::Persisted { ticket, outcome: Stored::AlreadyHeld }),
                    Some((ticket, _)) => side.input(Input::PersistFailed { ticket, reason: Reason::from_code(code.into()) }),
                    None => Ok(()),
                },
                Op::Speak { room, times } => {
                    for _ in 0..times {
                        match side.engine.poll_output(NOW, room, &side.shelf) {
                            Output::Timeout(_) => break,
                            Output::Persist { ticket, item } => side.waiting.push_back((ticket, item)),
                            Output::Transmit(payload) => prop_assert!(payload.len() <= MAX_PAYLOAD),
                            Output::Event(_) => {}
                        }
                    }
                    Ok(())
                }
                Op::News => side.input(Input::Document).and_then(|()| side.input(Input::Confirmation)),
                Op::Timeout => side.input(Input::Timeout),
                Op::LinkDown => side.input(Input::LinkDown),
            };
            let held = live() - before;
            prop_assert!(held < 4 * BOUND, "{} bytes", held);
            if result.is_err() {
                break;
            }
        }
        // When the store has answered everything, nothing is owed to it any more.
        while { side.speaks(); !side.waiting.is_empty() } {
            side.commits();
        }
        prop_assert!(side.engine.wants_input());
    }
}
