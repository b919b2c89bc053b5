//! Places that lose, damage, forge, roll back and fork: each is named, and nothing false is taken.

use bytes::Bytes;
use waypost_protocol::ids::MessageId;
use waypost_remote_log::head::HeadError;
use waypost_remote_log::memory::InMemory;
use waypost_remote_log::writer::Begun;
use waypost_remote_log::{
    Chain, Content, ContentHash, Entry, Head, LogId, Mode, Page, PlaceError, Progress, ReadError,
};

use crate::kit::*;

#[test]
fn an_older_head_than_before_is_refused_as_rolled_back() {
    let (mut place, signer) = (InMemory::default(), signer(1));
    append(&mut place, &signer, Mode::Page, &documents(0, 5, 50)).unwrap();
    let old = place.names.clone();
    let newest = append(&mut place, &signer, Mode::Page, &documents(5, 5, 50)).unwrap().head;
    let (mut store, mut reader) = (Store::default(), reader(signer.key()));
    round(&mut reader, &mut place, &mut store).unwrap();

    let newest_names = std::mem::replace(&mut place.names, old);
    let error = round(&mut reader, &mut place, &mut store).unwrap_err();
    assert!(matches!(error, ReadError::RollBack { known: 2, found: 1, .. }), "{error}");
    assert_eq!(newest.sequence, 2);
    // The right one again: on it goes.
    place.names = newest_names;
    append(&mut place, &signer, Mode::Page, &documents(10, 1, 50)).unwrap();
    round(&mut restarted(&reader), &mut place, &mut store).unwrap();
    assert_eq!(store.documents.len(), 11);
}

#[test]
fn a_head_whose_documents_do_not_continue_those_before_is_refused_as_a_fork() {
    for mode in MODES {
        let signer = signer(1);
        let (mut place, mut other) = (InMemory::default(), InMemory::default());
        append(&mut place, &signer, mode, &documents(0, 5, 50)).unwrap();
        let (mut store, mut reader) = (Store::default(), reader(signer.key()));
        round(&mut reader, &mut place, &mut store).unwrap();
        // The same log with another past.
        for from in [100, 200, 300] {
            append(&mut other, &signer, mode, &documents(from, 5, 50)).unwrap();
        }
        let error = round(&mut reader, &mut other, &mut store).unwrap_err();
        assert!(matches!(error, ReadError::Fork { count: 5, .. }), "{mode:?}: {error}");
        // It stays refused, whatever is shown.
        reader = restarted(&reader);
        append(&mut place, &signer, mode, &documents(5, 5, 50)).unwrap();
        let error = round(&mut reader, &mut place, &mut store).unwrap_err();
        assert!(matches!(error, ReadError::Fork { .. }), "{error}");
        // A new log of the same gateway is another matter.
        place.names.clear();
        let new = documents(400, 3, 50);
        append_as(&mut place, &signer, mode, &new, None, LogId([7; 16])).unwrap();
        round(&mut reader, &mut place, &mut store).unwrap();
        assert!(new.iter().all(|document| store.documents.contains_key(&document.id())));
    }
}

#[test]
fn two_heads_of_one_sequence_are_a_fork() {
    let signer = signer(1);
    let (mut place, mut other) = (InMemory::default(), InMemory::default());
    append(&mut place, &signer, Mode::Page, &documents(0, 5, 50)).unwrap();
    append(&mut other, &signer, Mode::Page, &documents(7, 6, 50)).unwrap();
    let (mut store, mut reader) = (Store::default(), reader(signer.key()));
    round(&mut reader, &mut place, &mut store).unwrap();
    let error = round(&mut reader, &mut other, &mut store).unwrap_err();
    assert!(matches!(error, ReadError::Fork { .. }), "{error}");
}

#[test]
fn a_head_of_another_kiosk_or_with_any_bit_changed_is_refused() {
    let (mut place, signer) = (InMemory::default(), signer(1));
    append(&mut place, &signer, Mode::Full, &documents(0, 5, 50)).unwrap();
    let good = place.names[&signer.key()].clone();
    let other = crate::kit::signer(2);
    let mut store = Store::default();
    place.names.insert(other.key(), good.clone());
    let error = round(&mut reader(other.key()), &mut place, &mut store).unwrap_err();
    assert!(matches!(error, ReadError::Head(HeadError::OtherLog { .. })), "{error}");
    // With the other's key written in, it is the signature that is wrong.
    let text = good.windows(32).position(|bytes| bytes == signer.key().0).unwrap();
    let mut forged = good.to_vec();
    forged[text..text + 32].copy_from_slice(&other.key().0);
    assert_eq!(Head::decode(&forged, &other.key()), Err(HeadError::Signature(other.key())));
    for bit in 0..good.len() * 8 {
        let mut bytes = good.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Head::decode(&bytes, &signer.key()).is_err(), "bit {bit}");
    }
    for length in 0..good.len() {
        assert!(Head::decode(&good[..length], &signer.key()).is_err(), "cut at {length}");
    }
    assert!(store.documents.is_empty());
}

#[test]
fn a_damaged_or_missing_page_is_named_and_read_once_it_is_there_again() {
    for mode in MODES {
        let (mut place, signer) = (InMemory::default(), signer(1));
        let all = documents(0, 300, 300);
        let head = append_all(&mut place, &signer, mode, &all);
        let newest = Page::decode(place.content[&head.root].clone()).unwrap();
        for hash in [Some(head.root), newest.tail].into_iter().flatten() {
            let good = place.content[&hash].clone();
            let (mut store, mut reader) = (Store::default(), reader(signer.key()));
            let mut bad = good.to_vec();
            bad[good.len() / 2] ^= 1;
            place.content.insert(hash, bad.into());
            let error = round(&mut reader, &mut place, &mut store).unwrap_err();
            assert!(matches!(error, ReadError::Place(PlaceError::Damaged { .. })), "{error}");
            assert!(error.to_string().contains(&hash.to_string()), "{error}");
            place.content.remove(&hash);
            let error = round(&mut reader, &mut place, &mut store).unwrap_err();
            assert!(matches!(error, ReadError::Place(PlaceError::Missing(_))), "{error}");
            place.content.insert(hash, good);
            round(&mut restarted(&reader), &mut place, &mut store).unwrap();
            assert_eq!(held(&store), ids(&all));
        }
    }
}

#[test]
fn a_newest_page_that_is_lost_is_got_round_by_the_next_head() {
    let (mut place, signer) = (InMemory::default(), signer(1));
    let mut all = documents(0, 10, 50);
    append(&mut place, &signer, Mode::Page, &all[..5]).unwrap();
    let (mut store, mut reader) = (Store::default(), reader(signer.key()));
    round(&mut reader, &mut place, &mut store).unwrap();
    let lost = append(&mut place, &signer, Mode::Page, &all[5..]).unwrap().head.root;
    let page = place.content.remove(&lost).unwrap();
    round(&mut reader, &mut place, &mut store).unwrap_err();
    place.content.insert(lost, page);
    let new = documents(10, 5, 50);
    append(&mut place, &signer, Mode::Page, &new).unwrap();
    all.extend(new);
    place.content.remove(&lost);
    round(&mut reader, &mut place, &mut store).unwrap();
    assert_eq!(held(&store), ids(&all));
}

#[test]
fn a_walk_that_is_given_up_still_binds_the_next_head() {
    let signer = signer(1);
    let (mut place, mut other) = (InMemory::default(), InMemory::default());
    let lost = append(&mut place, &signer, Mode::Page, &documents(0, 5, 50)).unwrap().head.root;
    place.content.remove(&lost);
    let (mut store, mut reader) = (Store::default(), reader(signer.key()));
    round(&mut reader, &mut place, &mut store).unwrap_err();
    for from in [100, 200] {
        append(&mut other, &signer, Mode::Page, &documents(from, 5, 50)).unwrap();
    }
    let error = round(&mut reader, &mut other, &mut store).unwrap_err();
    assert!(matches!(error, ReadError::Fork { count: 5, .. }), "{error}");
}

#[test]
fn content_that_is_missing_damaged_or_finds_no_room_is_passed_over_and_tried_again_with_the_next_head() {
    for mode in MODES {
        let (mut place, signer) = (InMemory::default(), signer(1));
        let all = documents(0, 12, 300);
        append(&mut place, &signer, mode, &all).unwrap();
        let hash_of = |document: &waypost_protocol::document::Document| ContentHash::of(&document.encode());
        let by_hash = |place: &InMemory, at: usize| place.content.contains_key(&hash_of(&all[at]));
        let (mut store, mut reader) = (Store::default(), reader(signer.key()));
        if by_hash(&place, 0) {
            place.content.remove(&hash_of(&all[0]));
            place.content.insert(hash_of(&all[1]), Bytes::from_static(b"something else"));
        }
        store.full_for = vec![all[0].id(), all[2].id(), all[11].id()];
        let steps = round(&mut reader, &mut place, &mut store).unwrap();
        let skipped: Vec<MessageId> = steps
            .iter()
            .filter_map(|step| match step {
                Progress::Skipped(id, _) => Some(*id),
                _ => None,
            })
            .collect();
        assert_eq!(store.documents.len() + skipped.len(), 12, "{mode:?}");
        assert!(skipped.len() >= 3 && skipped.contains(&all[11].id()), "{skipped:?}");
        // Nothing is asked for as long as the head stays.
        place.costs = Default::default();
        round(&mut reader, &mut place, &mut store).unwrap();
        assert_eq!(place.costs.round_trips, 1);
        store.full_for.clear();
        for document in &all[..2] {
            place.content.insert(hash_of(document), document.encode().into());
        }
        let new = documents(12, 1, 300);
        append(&mut place, &signer, mode, &new).unwrap();
        round(&mut restarted(&reader), &mut place, &mut store).unwrap();
        assert_eq!(store.documents.len(), 13, "{mode:?}");
    }
}

#[test]
fn a_gateway_that_lists_a_document_under_anothers_id_is_not_believed() {
    let (mut place, signer) = (InMemory::default(), signer(1));
    let (real, claimed) = (document(1, 100), document(2, 100));
    let bytes = Bytes::from(real.encode());
    let hash = ContentHash::of(&bytes);
    place.content.insert(hash, bytes);
    let entry = Entry { described: described(&claimed), content: Content::At(hash) };
    let page = Page { key: signer.key(), entries: vec![entry], below: Chain::EMPTY, tail: None };
    let (bytes, root) = page.encode();
    place.content.insert(root, bytes);
    let chain = page.chain();
    let head =
        Head { key: signer.key(), log: LogId([1; 16]), sequence: 1, chain, root, bookmark: Bytes::new() };
    place.names.insert(signer.key(), signer.sign(&head));
    let mut store = Store::default();
    let steps = round(&mut reader(signer.key()), &mut place, &mut store).unwrap();
    assert!(matches!(&steps[2], Progress::Skipped(id, _) if *id == claimed.id()), "{steps:?}");
    assert!(store.documents.is_empty());

    // Nor one whose head counts something else than its pages.
    let head = Head { sequence: 2, chain: Chain { count: 1, hash: [5; 32] }, ..head };
    place.names.insert(signer.key(), signer.sign(&head));
    let error = round(&mut reader(signer.key()), &mut place, &mut store).unwrap_err();
    assert!(matches!(error, ReadError::Fork { .. }), "{error}");
}

#[test]
fn a_writer_begins_a_new_log_where_the_place_lost_or_rolled_back_the_old_one() {
    let signer = signer(1);
    let mode = Mode::Page;
    let mut place = InMemory::default();
    let (first, begun) =
        append_as(&mut place, &signer, mode, &documents(0, 3, 50), None, LogId([1; 16])).unwrap();
    assert_eq!(begun, Begun::First);
    let old = place.names.clone();
    let known = Some((first.head.log, 2));
    let (second, begun) =
        append_as(&mut place, &signer, mode, &documents(3, 3, 50), None, LogId([2; 16])).unwrap();
    assert!(matches!(begun, Begun::Continued(head) if head.bookmark == Bytes::from_static(b"mark")));
    assert_eq!((second.head.log, second.head.sequence, second.head.chain.count), (LogId([1; 16]), 2, 6));
    let good = place.names.clone();

    // Rolled back: going on would be a fork.
    place.names = old;
    let (third, begun) =
        append_as(&mut place, &signer, mode, &documents(6, 3, 50), known, LogId([3; 16])).unwrap();
    assert!(matches!(&begun, Begun::Anew(why) if why.contains("rolled back")), "{begun:?}");
    assert_eq!((third.head.log, third.head.sequence, third.head.chain.count), (LogId([3; 16]), 1, 3));

    // The newest page is gone.
    place.names = good;
    place.content.remove(&second.head.root);
    let (_, begun) =
        append_as(&mut place, &signer, mode, &documents(6, 3, 50), known, LogId([4; 16])).unwrap();
    assert!(matches!(begun, Begun::Anew(_)), "{begun:?}");

    // The head is garbage.
    place.names.insert(signer.key(), Bytes::from_static(b"garbage"));
    let (_, begun) =
        append_as(&mut place, &signer, mode, &documents(6, 3, 50), known, LogId([5; 16])).unwrap();
    assert!(matches!(begun, Begun::Anew(_)), "{begun:?}");
    let mut store = Store::default();
    round(&mut reader(signer.key()), &mut place, &mut store).unwrap();
    assert_eq!(held(&store), ids(&documents(6, 3, 50)));
}
