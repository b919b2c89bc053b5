//! Documents that are damaged on the disk: given up, asked for again, found again.

use waypost_protocol::confirmation::Verdict;
use waypost_protocol::ids::MessageId;
use waypost_protocol::sync::{Holdings as _, Standing};
use waypost_store::{Applied, Change, Freeing};

use crate::kit::*;
use crate::secrecy::tamper;

fn lost(kit: &Kit, n: u8) -> Vec<MessageId> {
    kit.store().lost(&peer(n), 10).unwrap()
}

/// A store with a damaged document of two phones, and a whole one.
fn damaged() -> (Kit, MessageId, MessageId) {
    let mut kit = Kit::new();
    let (bad, good) = (document(1, 40_000), document(2, 40_000));
    kit.stored(&bad, Some(peer(1)));
    kit.put(&bad, Some(peer(2))).unwrap();
    kit.stored(&good, Some(peer(1)));
    tamper(&mut kit, "pieces", |rows| *rows[0].1.last_mut().unwrap() ^= 1);
    (kit, bad.id(), good.id())
}

#[test]
fn a_damaged_document_is_given_up_and_everybody_who_brought_it_is_asked() {
    let (mut kit, bad, good) = damaged();
    assert_eq!(kit.apply(Change::Damaged { id: bad }), Ok(Applied::Lost { peers: 2 }));
    assert_eq!(kit.apply(Change::Damaged { id: good }), Ok(Applied::Done), "a whole one stays");
    kit.reopen();
    kit.assert_sound();
    assert_eq!((lost(&kit, 1), lost(&kit, 2), lost(&kit, 3)), (vec![bad], vec![bad], vec![]));
    assert_eq!(kit.store().counts().unwrap().lost, 2);
    assert_eq!(kit.store().standing(&bad, None).unwrap(), Standing::Unknown, "so that it may come again");
    assert_eq!(kit.store().standing(&good, None).unwrap(), Standing::Held);
}

#[test]
fn when_it_comes_again_nobody_is_asked_any_more() {
    let (kit, bad, _) = damaged();
    kit.apply(Change::Damaged { id: bad }).unwrap();
    kit.stored(&document(1, 40_000), Some(peer(2)));
    assert_eq!((lost(&kit, 1), lost(&kit, 2)), (vec![], vec![]));
    assert_eq!(kit.store().counts().unwrap().lost, 0);
    kit.assert_sound();
}

#[test]
fn who_has_it_no_more_is_not_asked_again_but_the_others_are() {
    let (kit, bad, _) = damaged();
    kit.apply(Change::Damaged { id: bad }).unwrap();
    kit.apply(Change::Forgo { id: bad, peer: peer(1) }).unwrap();
    kit.apply(Change::Forgo { id: bad, peer: peer(9) }).unwrap();
    assert_eq!((lost(&kit, 1), lost(&kit, 2)), (vec![], vec![bad]));
    kit.assert_sound();
}

#[test]
fn the_verdict_of_its_own_destination_ends_the_asking_and_no_other() {
    let (kit, bad, _) = damaged();
    kit.apply(Change::Damaged { id: bad }).unwrap();
    let foreign = confirmation(B, &[bad], Verdict::Opened);
    kit.apply(confirmed(foreign, Freeing::GATEWAY)).unwrap();
    assert_eq!(lost(&kit, 1), [bad]);
    assert!(matches!(kit.store().standing(&bad, None).unwrap(), Standing::Confirmed(_)));
    assert_eq!(kit.store().standing(&bad, Some(&A)).unwrap(), Standing::Unknown);
    kit.confirm(&[bad], Verdict::Opened).unwrap();
    assert_eq!(lost(&kit, 1), []);
    assert!(matches!(kit.store().standing(&bad, Some(&A)).unwrap(), Standing::Confirmed(_)));
    kit.assert_sound();
}

#[test]
fn what_this_node_made_itself_is_never_given_up() {
    let mut kit = Kit::new();
    let own = document(1, 40_000);
    kit.stored(&own, None);
    tamper(&mut kit, "pieces", |rows| *rows[0].1.last_mut().unwrap() ^= 1);
    assert_eq!(kit.apply(Change::Damaged { id: own.id() }), Ok(Applied::Done));
    assert_eq!(kit.store().standing(&own.id(), None).unwrap(), Standing::Held);
}

#[test]
fn a_document_may_be_sent_again_to_who_asks_for_it_and_to_nobody_else() {
    let kit = Kit::new();
    let document = document(1, 10);
    kit.stored(&document, None);
    let recipient = to(peer(1), store_id(1));
    let store = recipient.store;
    kit.apply(Change::PeerHolds { peer: peer(1), store, id: document.id() }).unwrap();
    assert!(kit.store().outgoing(&recipient, None, 10).unwrap().is_empty());
    let again = kit.store().outgoing_again(&recipient, &document.id()).unwrap().unwrap();
    assert_eq!((again.description, again.destination), (document.description(), A));
    let elsewhere = waypost_protocol::sync::Recipient { serves: vec![B], ..recipient.clone() };
    assert_eq!(kit.store().outgoing_again(&elsewhere, &document.id()).unwrap(), None);
    let small = waypost_protocol::sync::Recipient { max_document: 5, ..recipient.clone() };
    assert_eq!(kit.store().outgoing_again(&small, &document.id()).unwrap(), None);
    kit.confirm(&[document.id()], Verdict::Opened).unwrap();
    assert_eq!(kit.store().outgoing_again(&recipient, &document.id()).unwrap(), None);
}
