//! Confirmations: only the document's own destination counts, verdicts only move on, everybody concerned is told.

use waypost_protocol::confirmation::Verdict;
use waypost_protocol::ids::Seq;
use waypost_protocol::refusal::Reason;
use waypost_protocol::sync::{Holdings as _, Standing};
use waypost_store::{Applied, Change, ChangeError, Free, Freeing, State};

use crate::kit::*;

fn due(kit: &Kit, n: u8) -> Vec<waypost_protocol::confirmation::Confirmation> {
    kit.store().confirmations_due(&peer(n), None, 10).unwrap().into_iter().map(|(_, c)| c).collect()
}

#[test]
fn a_confirmation_ends_the_waiting_frees_the_body_and_is_answered_to_offers() {
    let mut kit = Kit::new();
    let (one, two) = (document(1, 50_000), document(2, 10));
    let seq = kit.stored(&one, Some(peer(1)));
    kit.stored(&two, Some(peer(1)));
    let confirmation = confirmation(A, &[one.id()], Verdict::Opened);
    let applied = kit.apply(confirmed(confirmation.clone(), Freeing::GATEWAY)).unwrap();
    assert_eq!(applied, Applied::Verdicts { new: true, changed: vec![(one.id(), Verdict::Opened)] });
    kit.assert_sound();
    kit.reopen();
    let entry = kit.store().document(&one.id()).unwrap().unwrap();
    assert_eq!((entry.state, entry.has_body), (State::Confirmed(Verdict::Opened), false));
    assert!(kit.store().read_body(seq, 0, 10).unwrap().is_empty());
    assert_eq!(kit.store().waiting(&A, None, 10).unwrap().len(), 1);
    let standing = kit.store().standing(&one.id(), None).unwrap();
    assert_eq!(standing, Standing::Confirmed(Box::new(confirmation.clone())));
    let again = kit.put(&one, Some(peer(2))).unwrap();
    assert_eq!(again, Applied::Confirmed(Box::new(confirmation.clone())));
    assert_eq!(kit.store().confirmation(&confirmation.id()).unwrap(), Some(confirmation.clone()));
    assert_eq!(kit.store().confirmation_on(&one.id(), &A).unwrap(), Some(confirmation));
    assert!(kit.sweep().pieces >= 2);
    kit.assert_sound();
}

#[test]
fn the_same_confirmation_again_changes_nothing() {
    let kit = Kit::new();
    let document = document(1, 10);
    kit.stored(&document, Some(peer(1)));
    kit.confirm(&[document.id()], Verdict::Opened).unwrap();
    let again = kit.confirm(&[document.id()], Verdict::Opened).unwrap();
    assert_eq!(again, Applied::Verdicts { new: false, changed: vec![] });
    assert_eq!(kit.store().confirmations(None, 10).unwrap().len(), 1);
}

#[test]
fn verdicts_move_from_held_to_opened_or_rejected_and_no_other_way() {
    for last in [Verdict::Opened, REJECTED] {
        let kit = Kit::new();
        let document = document(1, 10);
        kit.stored(&document, Some(peer(1)));
        let state = || kit.store().document(&document.id()).unwrap().unwrap().state;
        let confirm =
            |verdict| kit.apply(confirmed(confirmation(A, &[document.id()], verdict), Freeing::PHONE));
        confirm(Verdict::Held).unwrap();
        assert_eq!(state(), State::Confirmed(Verdict::Held));
        assert!(kit.store().outgoing(&to(peer(9), store_id(9)), None, 10).unwrap().is_empty());
        confirm(last).unwrap();
        assert_eq!(state(), State::Confirmed(last));
        for verdict in [Verdict::Held, Verdict::Opened, REJECTED] {
            assert_eq!(confirm(verdict), Ok(Applied::Verdicts { new: false, changed: vec![] }));
            assert_eq!(state(), State::Confirmed(last));
        }
        assert_eq!(due(&kit, 1).len(), 2, "the depositor gets both");
        kit.assert_sound();
    }
}

#[test]
fn a_phone_keeps_its_copy_unless_it_was_opened() {
    let kit = Kit::new();
    let documents: Vec<_> = (0..3).map(|n| document(n, 10)).collect();
    let verdicts = [Verdict::Opened, Verdict::Held, REJECTED];
    for (document, verdict) in documents.iter().zip(verdicts) {
        kit.stored(document, None);
        kit.apply(confirmed(confirmation(A, &[document.id()], verdict), Freeing::PHONE)).unwrap();
    }
    let has_body = |n: usize| kit.store().document(&documents[n].id()).unwrap().unwrap().has_body;
    assert_eq!((has_body(0), has_body(1), has_body(2)), (false, true, true));
    let counts = kit.store().counts().unwrap();
    assert_eq!((counts.opened, counts.held, counts.rejected, counts.waiting), (1, 1, 1, 0));
    kit.assert_sound();
}

#[test]
fn a_body_can_be_kept_for_a_while_after_the_confirmation() {
    let kit = Kit::new();
    let document = document(1, 10);
    kit.stored(&document, None);
    let freeing = Freeing { opened: Free::After(100), ..Freeing::GATEWAY };
    kit.apply(confirmed(confirmation(A, &[document.id()], Verdict::Opened), freeing)).unwrap();
    let has_body = || kit.store().document(&document.id()).unwrap().unwrap().has_body;
    kit.clock.advance(99);
    assert_eq!((kit.sweep().freed, has_body()), (0, true));
    kit.clock.advance(1);
    assert_eq!((kit.sweep().freed, has_body()), (1, false));
    kit.assert_sound();
}

#[test]
fn nothing_is_freed_without_a_verdict() {
    let kit = Kit::new();
    let document = document(1, 10);
    let seq = kit.stored(&document, None);
    kit.apply(Change::FreeBody { id: document.id() }).unwrap();
    assert_eq!(kit.whole_body(seq), document.body().as_ref());
}

#[test]
fn another_destination_cannot_confirm_a_document() {
    let kit = Kit::new();
    let (held, later) = (document(1, 10), document(2, 10));
    let seq = kit.stored(&held, Some(peer(1)));
    let foreign = confirmation(B, &[held.id(), later.id()], Verdict::Opened);
    let applied = kit.apply(confirmed(foreign, Freeing::GATEWAY)).unwrap();
    assert_eq!(applied, Applied::Verdicts { new: true, changed: vec![] });
    assert_eq!(kit.store().standing(&held.id(), None).unwrap(), Standing::Held);
    assert_eq!(kit.whole_body(seq), held.body().as_ref());
    assert!(matches!(kit.put(&later, Some(peer(1))), Ok(Applied::Stored { .. })));
    assert_eq!(kit.store().waiting(&A, None, 10).unwrap().len(), 2);
    assert!(due(&kit, 1).is_empty());
    kit.assert_sound();
}

#[test]
fn every_depositor_and_holder_is_told_but_not_who_brought_it() {
    let kit = Kit::new();
    let document = document(1, 10);
    kit.stored(&document, Some(peer(1)));
    kit.put(&document, Some(peer(2))).unwrap();
    kit.apply(Change::Depositor { id: document.id(), peer: peer(3) }).unwrap();
    kit.apply(Change::PeerHolds { peer: peer(4), store: store_id(4), id: document.id() }).unwrap();
    kit.apply(Change::Depositor { id: document.id(), peer: peer(5) }).unwrap();
    let confirmation = confirmation(A, &[document.id()], Verdict::Opened);
    kit.apply(Change::Confirmation {
        confirmation: Box::new(confirmation.clone()),
        freeing: Freeing::GATEWAY,
        from: Some(peer(5)),
    })
    .unwrap();
    for n in 1..=4 {
        assert_eq!(due(&kit, n), std::slice::from_ref(&confirmation), "peer {n}");
    }
    assert!(due(&kit, 5).is_empty());
    // Whoever offers it only now is told, too.
    kit.apply(Change::Depositor { id: document.id(), peer: peer(6) }).unwrap();
    assert_eq!(due(&kit, 6), std::slice::from_ref(&confirmation));
    let delivered = Change::Delivered { peer: peer(1), confirmation: confirmation.id() };
    kit.apply(delivered.clone()).unwrap();
    kit.apply(delivered).unwrap();
    assert!(due(&kit, 1).is_empty());
    assert_eq!(kit.store().peer(&peer(1)).unwrap().unwrap().delivered, 1);
    assert_eq!(due(&kit, 2).len(), 1);
    kit.assert_sound();
}

#[test]
fn confirmations_due_come_in_order_and_in_pages() {
    let kit = Kit::new();
    for n in 0..5 {
        let document = document(n, 10);
        kit.stored(&document, Some(peer(1)));
        kit.confirm(&[document.id()], Verdict::Opened).unwrap();
    }
    let page = |after, limit| -> Vec<u64> {
        let due = kit.store().confirmations_due(&peer(1), after, limit).unwrap();
        due.into_iter().map(|(seq, _)| seq.0).collect()
    };
    assert_eq!((page(None, 3), page(Some(Seq(3)), 3)), (vec![1, 2, 3], vec![4, 5]));
    assert_eq!(kit.store().confirmations(Some(Seq(4)), 9).unwrap()[0].0, Seq(5));
}

#[test]
fn after_400_days_a_confirmation_and_its_documents_are_forgotten_unless_a_body_is_kept() {
    let kit = Kit::new();
    let (freed, kept) = (document(1, 10), document(2, 10));
    for (document, freeing) in [(&freed, Freeing::GATEWAY), (&kept, Freeing::PHONE)] {
        kit.stored(document, Some(peer(1)));
        kit.apply(confirmed(confirmation(A, &[document.id()], REJECTED), freeing)).unwrap();
    }
    kit.clock.advance(400 * 86_400);
    assert_eq!(kit.sweep().forgotten, 1);
    assert_eq!(kit.store().document(&freed.id()).unwrap(), None);
    assert_eq!(kit.store().standing(&freed.id(), None).unwrap(), Standing::Unknown);
    assert!(matches!(kit.store().standing(&kept.id(), None).unwrap(), Standing::Confirmed(_)));
    assert_eq!(due(&kit, 1).len(), 1);
    kit.assert_sound();
}

#[test]
fn a_deleted_document_that_is_confirmed_later_stays_deleted() {
    let kit = Kit::new();
    let document = document(1, 10);
    kit.stored(&document, Some(peer(1)));
    kit.apply(Change::Delete { id: document.id() }).unwrap();
    let refused = kit.put(&document, Some(peer(1)));
    assert_eq!(refused, Err(ChangeError::Refused(Reason::Deleted)));
    kit.confirm(&[document.id()], Verdict::Opened).unwrap();
    assert_eq!(kit.store().document(&document.id()).unwrap(), None);
    // From now on the proof is the better answer.
    assert!(matches!(kit.put(&document, Some(peer(1))), Ok(Applied::Confirmed(_))));
    kit.assert_sound();
}
