//! Bodies in pieces: they resume where they are committed, and only the right hash makes a document.

use waypost_protocol::refusal::Reason;
use waypost_protocol::sync::{Holdings as _, Standing};
use waypost_store::{Applied, Change, ChangeError};

use crate::kit::*;

fn committed(kit: &Kit, document: &waypost_protocol::document::Document, n: u8) -> u64 {
    kit.store().partial(&document.id(), &peer(n)).unwrap().map_or(0, |partial| partial.committed)
}

#[test]
fn a_body_under_way_resumes_where_it_was_after_each_restart() {
    let mut kit = Kit::new();
    let document = document(1, 150_000);
    let len = document.body().len();
    let mut at = 0;
    while at < len {
        assert_eq!(committed(&kit, &document, 1), at as u64);
        assert_eq!(kit.store().standing(&document.id(), None).unwrap(), Standing::Unknown);
        let end = len.min(at + 16_300);
        let outcome = kit.apply(piece(&document, at..end, peer(1))).unwrap();
        match end < len {
            true => assert_eq!(outcome, Applied::Partial { committed: end as u64 }),
            false => assert!(matches!(outcome, Applied::Stored { .. })),
        }
        at = end;
        // Every second time the running hash is lost and made again from the disk.
        if at / 16_300 % 2 == 0 {
            kit.reopen();
        }
        kit.assert_sound();
    }
    let entry = kit.store().document(&document.id()).unwrap().unwrap();
    assert_eq!(kit.whole_body(entry.seq), document.body().as_ref());
    assert_eq!(committed(&kit, &document, 1), 0);
    assert_eq!(kit.store().counts().unwrap().partials, 0);
}

#[test]
fn many_pieces_of_several_bodies_go_into_one_batch() {
    let kit = Kit::new();
    let (one, two) = (document(1, 60_000), document(2, 60_000));
    let (len, half) = (one.body().len(), 30_000);
    let answers = kit.store().apply(vec![
        piece(&one, 0..half, peer(1)),
        piece(&two, 0..half, peer(2)),
        piece(&two, half..len, peer(2)),
        piece(&one, half..len, peer(1)),
        piece(&one, 0..half, peer(3)),
    ]);
    assert!(matches!(answers[2], Ok(Applied::Stored { .. })));
    assert!(matches!(answers[3], Ok(Applied::Stored { .. })));
    assert!(matches!(answers[4], Ok(Applied::AlreadyHeld { .. })));
    kit.assert_sound();
}

#[test]
fn a_wrong_hash_is_dropped_and_the_right_bytes_are_taken_afterwards() {
    let kit = Kit::new();
    let (right, wrong) = (document(1, 60_000), document(2, 60_000));
    kit.apply(piece(&right, 0..30_000, peer(1))).unwrap();
    let Change::Piece { bytes, .. } = piece(&wrong, 30_000..wrong.body().len(), peer(1)) else { panic!() };
    let mut forged = piece(&right, 30_000..right.body().len(), peer(1));
    if let Change::Piece { bytes: place, .. } = &mut forged {
        *place = bytes;
    }
    assert_eq!(kit.apply(forged), Err(ChangeError::Refused(Reason::WrongHash)));
    assert_eq!(committed(&kit, &right, 1), 0);
    assert_eq!(kit.store().standing(&right.id(), None).unwrap(), Standing::Unknown);
    kit.assert_sound();
    assert!(kit.sweep().pieces > 0);
    kit.apply(piece(&right, 0..30_000, peer(1))).unwrap();
    let last = kit.apply(piece(&right, 30_000..right.body().len(), peer(1)));
    assert!(matches!(last, Ok(Applied::Stored { .. })));
    kit.assert_sound();
}

#[test]
fn pieces_repeat_and_overlap_freely_but_leave_no_gap() {
    let kit = Kit::new();
    let document = document(1, 60_000);
    let len = document.body().len();
    let from = peer(1);
    assert_eq!(kit.apply(piece(&document, 10..20, from)), Err(ChangeError::Gap { offset: 10, committed: 0 }));
    kit.apply(piece(&document, 0..20_000, from)).unwrap();
    let again = kit.apply(piece(&document, 5..10_000, from));
    assert_eq!(again, Ok(Applied::Partial { committed: 20_000 }));
    let overlap = kit.apply(piece(&document, 10_000..30_000, from));
    assert_eq!(overlap, Ok(Applied::Partial { committed: 30_000 }));
    let gap = kit.apply(piece(&document, 30_001..len, from));
    assert_eq!(gap, Err(ChangeError::Gap { offset: 30_001, committed: 30_000 }));
    assert!(gap.unwrap_err().reason().is_temporary());
    assert!(matches!(kit.apply(piece(&document, 30_000..len, from)), Ok(Applied::Stored { .. })));
    kit.assert_sound();
}

#[test]
fn a_body_under_way_belongs_to_its_depositor() {
    let kit = Kit::new();
    let document = document(1, 60_000);
    let len = document.body().len();
    kit.apply(piece(&document, 0..40_000, peer(1))).unwrap();
    assert_eq!(committed(&kit, &document, 2), 0);
    kit.apply(piece(&document, 0..50_000, peer(2))).unwrap();
    assert_eq!((committed(&kit, &document, 1), committed(&kit, &document, 2)), (40_000, 50_000));
    assert!(matches!(kit.apply(piece(&document, 50_000..len, peer(2))), Ok(Applied::Stored { .. })));
    let late = kit.apply(piece(&document, 40_000..len, peer(1)));
    assert!(matches!(late, Ok(Applied::AlreadyHeld { .. })));
    assert_eq!(kit.store().counts().unwrap().partials, 0);
    kit.assert_sound();
}

#[test]
fn a_piece_that_does_not_fit_its_description_is_malformed() {
    let kit = Kit::new();
    let document = document(1, 60_000);
    let mut beyond = piece(&document, 0..10, peer(1));
    if let Change::Piece { description, .. } = &mut beyond {
        description.size = 5;
    }
    assert_eq!(kit.apply(beyond), Err(ChangeError::Refused(Reason::Malformed)));
    kit.apply(piece(&document, 0..10, peer(1))).unwrap();
    let mut other_size = piece(&document, 10..20, peer(1));
    if let Change::Piece { description, .. } = &mut other_size {
        description.size += 1;
    }
    assert_eq!(kit.apply(other_size), Err(ChangeError::Refused(Reason::Malformed)));
    kit.assert_sound();
}

#[test]
fn beyond_the_bound_the_oldest_idle_body_makes_way_and_none_that_is_being_sent() {
    let kit = Kit::with(|options| options.max_partials = 2);
    (1..4).for_each(|n| kit.pair(n));
    let documents: Vec<_> = (0..4).map(|n| document(n, 60_000)).collect();
    kit.apply(piece(&documents[0], 0..10, peer(1))).unwrap();
    kit.clock.advance(30);
    kit.apply(piece(&documents[1], 0..10, peer(2))).unwrap();
    let full = kit.apply(piece(&documents[2], 0..10, peer(3)));
    assert_eq!(full, Err(ChangeError::Refused(Reason::OverQuota)));
    kit.clock.advance(40);
    kit.apply(piece(&documents[2], 0..10, peer(3))).unwrap();
    assert_eq!(committed(&kit, &documents[0], 1), 0);
    assert_eq!((committed(&kit, &documents[1], 2), committed(&kit, &documents[2], 3)), (10, 10));
    kit.assert_sound();
}

#[test]
fn one_phone_or_all_strangers_together_have_a_quarter_of_the_bodies_under_way() {
    let kit = Kit::with(|options| options.max_partials = 16);
    (1..3).for_each(|n| kit.pair(n));
    let begin = |n: u64, of: u8| kit.apply(piece(&document(n, 20_000), 0..10, peer(of)));
    let over = Err(ChangeError::Refused(Reason::OverQuota));
    // Each stranger has one, the phones several.
    for n in 0..4 {
        begin(n, 1).unwrap();
        begin(10 + n, 50 + u8::try_from(n).unwrap()).unwrap();
    }
    assert_eq!((begin(4, 1), begin(14, 60)), (over.clone(), over));
    begin(20, 2).unwrap();
    // With time their own oldest makes way, and nobody else's.
    kit.clock.advance(61);
    begin(14, 60).unwrap();
    begin(4, 1).unwrap();
    let is_under_way = |n: u64, of: u8| committed(&kit, &document(n, 20_000), of) == 10;
    assert_eq!((0..5).filter(|n| is_under_way(*n, 1)).count(), 4);
    assert_eq!((0..4).filter(|n| is_under_way(10 + *n, 50 + u8::try_from(*n).unwrap())).count(), 3);
    assert!(is_under_way(4, 1) && is_under_way(14, 60) && is_under_way(20, 2));
    kit.assert_sound();
}

#[test]
fn what_strangers_have_under_way_counts_towards_their_share() {
    let kit = Kit::with(|options| options.quota = 4 << 20);
    let mut begun = 0;
    let refused = loop {
        match kit.apply(piece(&document(begun, 20_000), 0..10, peer(u8::try_from(begun).unwrap()))) {
            Ok(_) => begun += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, ChangeError::Refused(Reason::OverQuota));
    assert!((8..=10).contains(&begun), "{begun} × 20 kB of 5 % of 4 MiB");
    // What is begun is taken to its end.
    let whole = document(0, 20_000);
    let last = kit.apply(piece(&whole, 10..whole.body().len(), peer(0)));
    assert!(matches!(last, Ok(Applied::Stored { .. })), "{last:?}");
    kit.assert_sound();
}

#[test]
fn declared_sizes_of_bodies_under_way_are_bounded() {
    let kit = Kit::with(|options| options.max_partial_bytes = 100_000);
    let huge = kit.apply(piece(&document(1, 100_001), 0..10, peer(1)));
    assert_eq!(huge, Err(ChangeError::Refused(Reason::TooLarge)));
    kit.apply(piece(&document(2, 60_000), 0..10, peer(1))).unwrap();
    let second = kit.apply(piece(&document(3, 60_000), 0..10, peer(2)));
    assert_eq!(second, Err(ChangeError::Refused(Reason::OverQuota)));
    // This node's own documents are not hindered by it.
    kit.stored(&document(4, 3_000_000), None);
    kit.assert_sound();
}

#[test]
fn what_nobody_goes_on_with_is_removed_after_a_while() {
    let kit = Kit::new();
    let document = document(1, 60_000);
    kit.apply(piece(&document, 0..40_000, peer(1))).unwrap();
    kit.clock.advance(13 * 86_400);
    assert_eq!(kit.sweep().partials, 0);
    kit.clock.advance(86_400);
    assert_eq!(kit.sweep().partials, 1);
    assert!(kit.sweep().pieces > 0);
    assert_eq!(committed(&kit, &document, 1), 0);
    kit.assert_sound();
}

#[test]
fn what_a_dead_process_of_this_node_began_is_given_up_after_an_hour() {
    let kit = Kit::new();
    let document = document(1, 3_000_000);
    let (header, _) = waypost_protocol::envelope::parse(document.body()).unwrap();
    let begun = Change::OwnPiece {
        description: document.description(),
        header: std::sync::Arc::new(header),
        offset: 0,
        bytes: document.body().slice(0..100_000),
        draft: false,
        note: None,
    };
    kit.apply(begun).unwrap();
    kit.apply(piece(&document, 0..1_000, peer(1))).unwrap();
    kit.clock.advance(3_599);
    assert_eq!(kit.sweep().partials, 0);
    kit.clock.advance(1);
    assert_eq!(kit.sweep().partials, 1, "the peer's goes on");
    assert_eq!(committed(&kit, &document, 1), 1_000);
    kit.assert_sound();
}

#[test]
fn a_large_document_of_this_node_may_be_a_draft_with_a_note() {
    let kit = Kit::new();
    let document = document(1, 3_000_000);
    let (header, _) = waypost_protocol::envelope::parse(document.body()).unwrap();
    let header = std::sync::Arc::new(header);
    let piece = |range: std::ops::Range<usize>| Change::OwnPiece {
        description: document.description(),
        header: header.clone(),
        offset: range.start as u64,
        bytes: document.body().slice(range),
        draft: true,
        note: Some("film.mp4".into()),
    };
    let size = document.body().len();
    let outcomes = kit.store().apply(vec![piece(0..1_000), piece(1_000..2_500_000), piece(2_500_000..size)]);
    assert!(matches!(outcomes.last(), Some(Ok(Applied::Stored { .. }))), "{outcomes:?}");
    let entry = kit.store().document(&document.id()).unwrap().unwrap();
    assert_eq!((entry.state, entry.note.as_deref()), (waypost_store::State::Draft, Some("film.mp4")));
    assert_eq!(entry.depositor, None);
    kit.assert_sound();
}
