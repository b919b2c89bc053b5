//! Lines that are cut after any question: what was done stays done, and nothing is done twice.

use waypost_remote_log::memory::InMemory;
use waypost_remote_log::{LogId, PlaceError, ReadError, WriteError};

use crate::kit::*;

#[test]
fn a_reader_that_is_cut_off_after_any_number_of_questions_goes_on_where_it_was() {
    for mode in MODES {
        let (mut place, signer) = (InMemory::default(), signer(1));
        let all = documents(0, 40, 300);
        append_all(&mut place, &signer, mode, &all);
        // With two, the head and the page take all of them.
        for answered in 3..9 {
            let mut store = Store::default();
            let mut reader = reader(signer.key());
            let mut rounds = 0;
            loop {
                place.patience = Some(answered);
                let outcome = round(&mut reader, &mut place, &mut store);
                // As after a power cut.
                reader = restarted(&reader);
                rounds += 1;
                assert!(rounds < 200, "no end in mode {mode:?} with {answered} questions a round");
                match outcome {
                    Ok(_) => break,
                    Err(ReadError::Place(PlaceError::Unreachable(_))) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            place.patience = None;
            assert_eq!(held(&store), ids(&all), "{mode:?}, {answered}");
            assert_eq!(store.taken.len(), all.len(), "something was fetched twice");
        }
    }
}

#[test]
fn a_walk_that_was_cut_off_is_ended_before_the_next_one_begins_and_then_what_is_new_comes_too() {
    for mode in MODES {
        let (mut place, signer) = (InMemory::default(), signer(1));
        let mut all = documents(0, 30, 11_000);
        append_all(&mut place, &signer, mode, &all);
        let (mut store, mut reader) = (Store::default(), reader(signer.key()));
        place.patience = Some(3);
        round(&mut reader, &mut place, &mut store).unwrap_err();
        place.patience = None;
        let new = documents(30, 30, 11_000);
        append_all(&mut place, &signer, mode, &new);
        all.extend(new);
        round(&mut reader, &mut place, &mut store).unwrap();
        assert_eq!(held(&store), ids(&all), "{mode:?}");
        assert_eq!(store.taken.len(), all.len());
    }
}

#[test]
fn a_writer_that_is_cut_off_after_any_number_of_questions_leaves_the_log_as_it_was() {
    for mode in MODES {
        let signer = signer(1);
        let (old, new) = (documents(0, 20, 700), documents(20, 30, 700));
        let mut before = InMemory::default();
        append(&mut before, &signer, mode, &old).unwrap();
        let mut answered = 0;
        loop {
            let mut place = InMemory {
                content: before.content.clone(),
                names: before.names.clone(),
                patience: Some(answered),
                ..InMemory::default()
            };
            let outcome = append(&mut place, &signer, mode, &new);
            place.patience = None;
            let mut store = Store::default();
            round(&mut reader(signer.key()), &mut place, &mut store).unwrap();
            let all: Vec<_> = old.iter().chain(&new).cloned().collect();
            match outcome {
                Ok(_) => {
                    assert_eq!(held(&store), ids(&all));
                    break;
                }
                Err(WriteError::Place(PlaceError::Unreachable(_))) => assert_eq!(held(&store), ids(&old)),
                Err(other) => panic!("{other}"),
            }
            // The next try brings the rest, and what arrived is not put again.
            append(&mut place, &signer, mode, &new).unwrap();
            round(&mut reader(signer.key()), &mut place, &mut store).unwrap();
            assert_eq!(held(&store), ids(&all), "{mode:?} after {answered}");
            answered += 1;
        }
        assert!(answered > 3);
    }
}

#[test]
fn two_writers_with_one_key_do_not_undo_each_other() {
    let (mut place, signer) = (InMemory::default(), signer(1));
    let mode = MODES[1];
    append(&mut place, &signer, mode, &documents(0, 3, 50)).unwrap();
    let begin = |place: &mut InMemory| {
        waypost_remote_log::Writer::begin(place, signer.clone(), mode, None, LogId([2; 16])).unwrap().0
    };
    let (mut first, mut second) = (begin(&mut place), begin(&mut place));
    let (a, b) = (documents(3, 1, 50), documents(4, 1, 50));
    let batch = |documents: &[_]| documents.iter().map(described).collect::<Vec<_>>();
    first.publish(&mut place, &batch(&a), &mut Store::of(&a), Default::default()).unwrap().unwrap();
    let error = second.publish(&mut place, &batch(&b), &mut Store::of(&b), Default::default()).unwrap_err();
    assert!(matches!(error, WriteError::Place(PlaceError::Changed)), "{error}");
    begin(&mut place)
        .publish(&mut place, &batch(&b), &mut Store::of(&b), Default::default())
        .unwrap()
        .unwrap();
    let mut store = Store::default();
    round(&mut reader(signer.key()), &mut place, &mut store).unwrap();
    assert_eq!(held(&store), ids(&documents(0, 5, 50)));
}
