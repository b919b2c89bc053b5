//! What each mode lays down, and that readers follow all of them.

use proptest::prelude::*;
use waypost_remote_log::memory::InMemory;
use waypost_remote_log::writer::{MAX_BATCH, MAX_INLINE, PAGE_ENTRIES};
use waypost_remote_log::{Content, ContentHash, Head, Mode, Page, Progress, Signer};

use crate::kit::*;

/// The pages from the newest on.
fn pages(place: &InMemory, head: &Head) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut next = Some(head.root);
    while let Some(hash) = next {
        let page = Page::decode(place.content[&hash].clone()).unwrap();
        next = page.tail;
        pages.push(page);
    }
    pages
}

/// Whether each document is inline, newest first.
fn inline(pages: &[Page]) -> Vec<bool> {
    let entries = pages.iter().flat_map(|page| page.entries.iter().rev());
    entries.map(|entry| matches!(entry.content, Content::Inline(_))).collect()
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Full),
        Just(Mode::Page),
        Just(Mode::Linked),
        (0u32..40).prop_map(|inline_last| Mode::Mixed { inline_last })
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_reader_gets_every_document_once_whatever_the_modes_and_however_often_it_comes(
        appends in prop::collection::vec((any_mode(), 1u64..150, 8usize..3_000, any::<bool>()), 1..8)
    ) {
        let (mut place, signer) = (InMemory::default(), signer(1));
        let mut store = Store::default();
        let mut reader = reader(signer.key());
        let mut all = Vec::new();
        for (mode, count, size, reads) in appends {
            let new = documents(all.len() as u64, count, size);
            append(&mut place, &signer, mode, &new).unwrap();
            all.extend(new);
            if reads {
                round(&mut reader, &mut place, &mut store).unwrap();
                prop_assert_eq!(held(&store), ids(&all));
                reader = restarted(&reader);
            }
        }
        round(&mut reader, &mut place, &mut store).unwrap();
        prop_assert_eq!(held(&store), ids(&all));
        prop_assert_eq!(store.taken.len(), all.len());
        // There is nothing new: one question.
        place.costs = Default::default();
        round(&mut reader, &mut place, &mut store).unwrap();
        prop_assert_eq!(place.costs.round_trips, 1);
    }

    #[test]
    fn every_page_is_proven_by_its_hash_and_no_longer_than_allowed(mode in any_mode(), size in 8usize..20_000) {
        let (mut place, signer) = (InMemory::default(), signer(1));
        let all = documents(0, 300, size);
        let head = append_all(&mut place, &signer, mode, &all);
        let pages = pages(&place, &head);
        prop_assert_eq!(pages.iter().map(|page| page.entries.len()).sum::<usize>(), all.len());
        let mut listed: Vec<_> = pages.iter().flat_map(|page| page.entries.iter().rev()).collect();
        listed.reverse();
        for (entry, document) in listed.iter().zip(&all) {
            prop_assert_eq!(entry.described, described(document));
            if let Content::At(hash) = entry.content {
                prop_assert_eq!(&place.content[&hash], &document.encode());
            }
        }
        prop_assert_eq!(head.chain, pages[0].chain());
        prop_assert!(place.content.iter().all(|(hash, bytes)| ContentHash::of(bytes) == *hash));
    }
}

#[test]
fn the_last_k_are_inline_and_older_ones_by_hash() {
    let (mut place, signer) = (InMemory::default(), signer(1));
    let mode = Mode::Mixed { inline_last: 7 };
    for (at, document) in documents(0, 600, 100).chunks(10).enumerate() {
        let head = append(&mut place, &signer, mode, document).unwrap().head;
        let inline = inline(&pages(&place, &head));
        assert_eq!(inline.len(), 10 * (at + 1));
        assert!(inline[..7].iter().all(|inline| *inline) && !inline[7..].contains(&true), "after {at}");
    }
}

#[test]
fn the_modes_lay_pages_out_as_their_names_say() {
    let layout = |mode, count, size| {
        let (mut place, signer) = (InMemory::default(), signer(1));
        let head = append_all(&mut place, &signer, mode, &documents(0, count, size));
        let pages = pages(&place, &head);
        (pages.len(), inline(&pages).iter().filter(|inline| **inline).count())
    };
    assert_eq!(layout(Mode::Page, 2 * PAGE_ENTRIES as u64, 100), (2, 0));
    assert_eq!(layout(Mode::Linked, 50, 100), (50, 0));
    assert_eq!(layout(Mode::Full, 50, 100), (1, 50));
    // What is too large for a page is by hash in every mode.
    let large = usize::try_from(MAX_INLINE).unwrap();
    assert_eq!(layout(Mode::Full, 3, large), (1, 0));
    assert_eq!(layout(Mode::Mixed { inline_last: 3 }, 3, large), (1, 0));
    // Of what is large but not too large, as many as fit.
    assert_eq!(layout(Mode::Full, 10, 20_000), (4, 10));
    assert_eq!(layout(Mode::Mixed { inline_last: 5 }, 10, 20_000), (1, 3));
}

#[test]
fn what_the_place_has_is_not_put_again() {
    let (mut place, signer) = (InMemory::default(), signer(1));
    let all = documents(0, 20, 5_000);
    // As another gateway with the same documents does.
    append(&mut place, &crate::kit::signer(2), Mode::Page, &all).unwrap();
    place.costs = Default::default();
    let published = append(&mut place, &signer, Mode::Page, &all).unwrap();
    assert_eq!(published.already_there, 20);
    assert!(place.costs.bytes_up < 6_000, "{:?}", place.costs);
}

#[test]
fn documents_that_the_source_cannot_give_are_left_out_and_named() {
    let (mut place, signer) = (InMemory::default(), signer(1));
    let all = documents(0, 3, 100);
    let (mut writer, _) = waypost_remote_log::Writer::begin(
        &mut place,
        signer.clone(),
        Mode::Full,
        None,
        waypost_remote_log::LogId([1; 16]),
    )
    .unwrap();
    let batch: Vec<_> = all.iter().map(described).collect();
    let mut source = Store::of(&all[..2]);
    let published = writer.publish(&mut place, &batch, &mut source, Default::default()).unwrap().unwrap();
    assert_eq!((published.listed, published.unreadable[0].0), (2, all[2].id()));
    let mut none = Store::default();
    assert_eq!(writer.publish(&mut place, &batch, &mut none, Default::default()).unwrap(), None);
    let too_many = vec![batch[0]; MAX_BATCH + 1];
    assert!(writer.publish(&mut place, &too_many, &mut none, Default::default()).is_err());
}

#[test]
fn only_documents_that_are_wanted_are_fetched() {
    let (mut place, signer) = (InMemory::default(), signer(1));
    let all = documents(0, 50, 1_000);
    append(&mut place, &signer, Mode::Page, &all).unwrap();
    let mut store = Store::of(&all[..45]);
    place.costs = Default::default();
    let steps = round(&mut reader(signer.key()), &mut place, &mut store).unwrap();
    assert_eq!(steps.iter().filter(|step| matches!(step, Progress::Passed(_))).count(), 45);
    // Head, page, and the five together.
    assert_eq!((place.costs.round_trips, held(&store)), (3, ids(&all)));
}

#[test]
fn a_log_that_is_not_there_is_nothing_to_do() {
    let mut place = InMemory::default();
    let key = Signer::derive(&[9; 32]).unwrap().key();
    let steps = round(&mut reader(key), &mut place, &mut Store::default()).unwrap();
    assert_eq!(steps, [Progress::Head(None), Progress::Done]);
}

#[test]
fn small_documents_by_hash_come_together_and_large_ones_alone() {
    let (mut place, signer) = (InMemory::default(), signer(1));
    let mut all = documents(0, 1_000, 1_000);
    all.extend(documents(1_000, 2, 100_000));
    append_all(&mut place, &signer, Mode::Page, &all);
    let mut store = Store::of(&all[..100]);
    place.costs = Default::default();
    round(&mut reader(signer.key()), &mut place, &mut store).unwrap();
    assert_eq!(held(&store), ids(&all));
    // Head, four pages, 900 of them in parts of 256 KiB, and two.
    assert!(place.costs.round_trips <= 1 + 4 + 6 + 2, "{:?}", place.costs);
    // Nothing is asked for that is there already.
    assert!(place.costs.bytes_down < 902 * 1_100 + 300_000, "{:?}", place.costs);
}

#[test]
fn what_comes_together_and_is_damaged_missing_or_without_room_is_owed_and_the_rest_is_taken() {
    let (mut place, signer) = (InMemory::default(), signer(1));
    let all = documents(0, 50, 500);
    append(&mut place, &signer, Mode::Page, &all).unwrap();
    let hash = |at: usize| ContentHash::of(&all[at].encode());
    place.content.remove(&hash(7));
    place.content.insert(hash(8), place.content[&hash(9)].clone());
    let mut store = Store { full_for: vec![all[10].id()], ..Store::default() };
    let mut reader = reader(signer.key());
    round(&mut reader, &mut place, &mut store).unwrap();
    assert_eq!(store.documents.len(), 47);
    store.full_for.clear();
    for at in [7, 8] {
        place.content.insert(hash(at), all[at].encode().into());
    }
    append(&mut place, &signer, Mode::Page, &documents(50, 1, 500)).unwrap();
    round(&mut restarted(&reader), &mut place, &mut store).unwrap();
    assert_eq!(store.documents.len(), 51);
}
