//! Peers: what their stores hold, another store id, revocation, pairing codes, shares.

use std::time::Duration;

use waypost_protocol::advertising::AdvertisingKey;
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::invite::CodeSecret;
use waypost_protocol::refusal::Reason;
use waypost_protocol::sync::{Holdings as _, Recipient};
use waypost_store::{Applied, Change, ChangeError, PeerClass};

use crate::kit::*;

fn outgoing(kit: &Kit, to: &Recipient) -> Vec<u64> {
    kit.store().outgoing(to, None, 100).unwrap().into_iter().map(|document| document.seq.0).collect()
}

fn holds(n: u8, store: u8, document: &waypost_protocol::document::Document) -> Change {
    Change::PeerHolds { peer: peer(n), store: store_id(store), id: document.id() }
}

fn refuses(n: u8, document: &waypost_protocol::document::Document, reason: Reason) -> Change {
    Change::PeerRefuses { peer: peer(n), store: store_id(n), id: document.id(), reason }
}

#[test]
fn what_a_store_acknowledged_or_refused_for_good_is_not_sent_to_it_again() {
    let mut kit = Kit::new();
    let documents: Vec<_> = (0..5).map(|n| document(n, 10)).collect();
    for document in &documents {
        kit.stored(document, None);
    }
    let gateway = to(peer(1), store_id(1));
    assert_eq!(outgoing(&kit, &gateway), [1, 2, 3, 4, 5]);
    kit.apply(holds(1, 1, &documents[0])).unwrap();
    kit.apply(refuses(1, &documents[1], Reason::Deleted)).unwrap();
    kit.apply(refuses(1, &documents[2], Reason::OverQuota)).unwrap();
    kit.apply(refuses(1, &documents[3], Reason::CollectionNotServed)).unwrap();
    kit.reopen();
    // What there is no room for now, or what an admin may change, is worth asking again.
    assert_eq!(outgoing(&kit, &gateway), [3, 4, 5]);
    let entry = |n: usize| kit.store().document(&documents[n].id()).unwrap().unwrap();
    assert_eq!(entry(0).held_by, [peer(1)]);
    assert_eq!(entry(1).refused_by, [(peer(1), Reason::Deleted)]);
    assert_eq!(entry(2).refused_by, [(peer(1), Reason::OverQuota)]);
    assert_eq!(entry(3).refused_by, [(peer(1), Reason::CollectionNotServed)]);
    let other = kit.store().outgoing(&to(peer(2), store_id(2)), None, 10).unwrap();
    let maybe_held: Vec<_> = other.iter().map(|document| document.maybe_held).collect();
    assert_eq!(maybe_held, [true, false, false, false, false]);
    kit.assert_sound();
}

#[test]
fn with_another_store_id_everything_unconfirmed_is_offered_again() {
    let kit = Kit::new();
    let documents: Vec<_> = (0..3).map(|n| document(n, 10)).collect();
    for document in &documents {
        kit.stored(document, None);
        kit.apply(holds(1, 1, document)).unwrap();
    }
    kit.confirm(&[documents[2].id()], Verdict::Opened).unwrap();
    assert!(outgoing(&kit, &to(peer(1), store_id(1))).is_empty());
    // Even before anything is written about it.
    assert_eq!(outgoing(&kit, &to(peer(1), store_id(7))), [1, 2]);
    kit.apply(Change::PeerSeen {
        peer: peer(1),
        store: Some(store_id(7)),
        label: None,
        advertising_key: None,
    })
    .unwrap();
    assert_eq!(outgoing(&kit, &to(peer(1), store_id(7))), [1, 2]);
    assert!(kit.store().document(&documents[0].id()).unwrap().unwrap().held_by.is_empty());
    kit.apply(holds(1, 7, &documents[0])).unwrap();
    assert_eq!(outgoing(&kit, &to(peer(1), store_id(7))), [2]);
    // What was cleared stays cleared, also when the first store comes back.
    kit.apply(Change::PeerSeen {
        peer: peer(1),
        store: Some(store_id(1)),
        label: None,
        advertising_key: None,
    })
    .unwrap();
    assert_eq!(outgoing(&kit, &to(peer(1), store_id(1))), [1, 2]);
    kit.assert_sound();
}

#[test]
fn only_what_a_peer_serves_and_can_take_is_sent_in_order_over_destinations() {
    let kit = Kit::new();
    let mut other = header();
    other.destination = B;
    for n in 0..6 {
        let header = if n % 2 == 0 { header() } else { other.clone() };
        kit.stored(
            &document_with(&header, n, if n == 4 { 5000 } else { 10 }),
            Some(peer(u8::try_from(n).unwrap())),
        );
    }
    let mut recipient = to(peer(0), store_id(9));
    kit.apply(Change::PeerSeen {
        peer: peer(0),
        store: Some(store_id(9)),
        label: None,
        advertising_key: None,
    })
    .unwrap();
    assert_eq!(outgoing(&kit, &recipient), [3, 5], "not back to who brought it");
    recipient.key = peer(9);
    recipient.serves = vec![A, B, A];
    assert_eq!(outgoing(&kit, &recipient), [1, 2, 3, 4, 5, 6]);
    recipient.max_document = 4000;
    assert_eq!(outgoing(&kit, &recipient), [1, 2, 3, 4, 6]);
    let page = kit.store().outgoing(&recipient, Some(waypost_protocol::ids::Seq(2)), 2).unwrap();
    assert_eq!(page.iter().map(|document| document.seq.0).collect::<Vec<_>>(), [3, 4]);
    recipient.serves.clear();
    assert!(outgoing(&kit, &recipient).is_empty());
}

#[test]
fn a_store_that_does_not_forward_offers_nothing() {
    let kit = Kit::with(|options| options.forwards = false);
    kit.stored(&document(1, 10), Some(peer(1)));
    assert!(outgoing(&kit, &to(peer(2), store_id(2))).is_empty());
}

#[test]
fn nothing_is_taken_from_a_revoked_peer() {
    let mut kit = Kit::new();
    assert_eq!(kit.apply(Change::Revoke { peer: peer(1) }), Err(ChangeError::NoPeer));
    kit.apply(Change::PutPeer { peer: peer(1), class: PeerClass::Paired, label: Some("Ana\n".into()) })
        .unwrap();
    let document = document(1, 60_000);
    kit.apply(piece(&document, 0..10, peer(1))).unwrap();
    kit.apply(Change::Revoke { peer: peer(1) }).unwrap();
    kit.reopen();
    let refused = Err(ChangeError::Refused(Reason::NotPermitted));
    assert_eq!(kit.put(&document, Some(peer(1))), refused);
    assert_eq!(kit.apply(piece(&document, 10..20, peer(1))), refused);
    // Being listed again in a config does not take it back.
    kit.apply(Change::PutPeer { peer: peer(1), class: PeerClass::Listed, label: None }).unwrap();
    let known = kit.store().peer(&peer(1)).unwrap().unwrap();
    assert_eq!((known.class, known.revoked, known.label.as_str()), (PeerClass::Listed, true, "Ana"));
    assert_eq!(kit.put(&document, Some(peer(1))), refused);
}

#[test]
fn a_code_is_consumed_once() {
    let mut kit = Kit::new();
    let secret = CodeSecret::new([5; 16]);
    let code = secret.id();
    let add = |secret: &CodeSecret, reusable, valid| Change::AddCode {
        secret: secret.clone(),
        class: if reusable { PeerClass::Poster } else { PeerClass::Paired },
        valid,
        poster: reusable.then(|| "market".into()),
    };
    let consume = |code, n| Change::ConsumeCode { code, peer: peer(n), label: Some("phone".into()) };
    assert_eq!(kit.apply(consume(code, 1)), Err(ChangeError::BadCode));
    kit.apply(add(&secret, false, Some(Duration::from_secs(100)))).unwrap();
    assert!(kit.store().code(&code).unwrap().unwrap().secret == secret);
    assert_eq!(kit.apply(consume(code, 1)), Ok(Applied::Paired { class: PeerClass::Paired }));
    kit.reopen();
    assert_eq!(kit.apply(consume(code, 2)), Err(ChangeError::BadCode));
    assert_eq!(kit.store().code(&code).unwrap().unwrap().used_by, Some(peer(1)));
    assert!(kit.store().peer(&peer(2)).unwrap().is_none(), "neither the code nor the peer");
    assert_eq!(kit.apply(consume(code, 1)), Ok(Applied::Paired { class: PeerClass::Paired }));
    kit.apply(Change::Revoke { peer: peer(1) }).unwrap();
    assert_eq!(kit.apply(consume(code, 1)), Err(ChangeError::BadCode));
    // A new one from the admin takes the revocation back.
    let second = CodeSecret::new([6; 16]);
    kit.apply(add(&second, false, None)).unwrap();
    kit.apply(consume(second.id(), 1)).unwrap();
    assert!(!kit.store().peer(&peer(1)).unwrap().unwrap().revoked);
    // A printed one is for many, but takes no revocation back.
    let poster = CodeSecret::new([7; 16]);
    kit.apply(add(&poster, true, None)).unwrap();
    assert_eq!(kit.apply(consume(poster.id(), 3)), Ok(Applied::Paired { class: PeerClass::Poster }));
    assert_eq!(kit.apply(consume(poster.id(), 1)), Ok(Applied::Paired { class: PeerClass::Paired }));
    kit.apply(Change::Revoke { peer: peer(3) }).unwrap();
    assert_eq!(kit.apply(consume(poster.id(), 3)), Err(ChangeError::BadCode));
    kit.apply(Change::RemovePoster { name: "market".into(), revoke: false }).unwrap();
    assert_eq!(kit.apply(consume(poster.id(), 4)), Err(ChangeError::BadCode));
    kit.assert_sound();
}

#[test]
fn a_poster_is_made_anew_for_new_phones_and_revoked_with_all_that_came_by_it() {
    let mut kit = Kit::new();
    let code = |n| CodeSecret::new([n; 16]);
    let add = |secret, name: &str| {
        let (class, poster) = (PeerClass::Poster, Some(name.to_owned()));
        Change::AddCode { secret, class, valid: None, poster }
    };
    let come = |secret: CodeSecret, n| Change::ConsumeCode { code: secret.id(), peer: peer(n), label: None };
    let remove = |revoke| Change::RemovePoster { name: "market".into(), revoke };
    kit.apply(add(code(1), "market")).unwrap();
    kit.apply(add(code(2), "clinic")).unwrap();
    kit.pair(9);
    for (secret, n) in [(code(1), 1), (code(1), 2), (code(2), 3), (code(1), 9)] {
        kit.apply(come(secret, n)).unwrap();
    }
    let posters = |kit: &Kit| {
        let posters = kit.store().posters().unwrap().into_iter();
        posters
            .map(|one| (one.name, one.secret.map(|secret| secret.expose()[0]), one.peers))
            .collect::<Vec<_>>()
    };
    assert_eq!(posters(&kit), [("clinic".into(), Some(2), 1), ("market".into(), Some(1), 2)]);
    // Made anew: the old code is void, whoever has come by it comes again.
    kit.apply(remove(false)).unwrap();
    assert_eq!(kit.apply(come(code(1), 4)), Err(ChangeError::BadCode));
    assert_eq!(posters(&kit)[1], ("market".into(), None, 2));
    kit.apply(add(code(3), "market")).unwrap();
    kit.apply(come(code(3), 4)).unwrap();
    kit.reopen();
    // Who is paired since is no phone of the poster's.
    kit.pair(2);
    let Ok(Applied::Revoked(mut revoked)) = kit.apply(remove(true)) else { panic!("it is not revoked") };
    revoked.sort();
    assert_eq!(revoked, [peer(1), peer(4)]);
    let is_revoked = |n| kit.store().peer(&peer(n)).unwrap().unwrap().revoked;
    assert_eq!([1, 2, 3, 4, 9].map(is_revoked), [true, false, false, true, false]);
    assert_eq!(kit.apply(come(code(3), 5)), Err(ChangeError::BadCode));
    assert_eq!(kit.apply(remove(true)), Err(ChangeError::NoPoster));
    // Also whoever comes by it in the same moment.
    kit.apply(add(code(6), "gate")).unwrap();
    let at_once = vec![come(code(6), 6), Change::RemovePoster { name: "gate".into(), revoke: true }];
    assert_eq!(kit.store().apply(at_once)[1], Ok(Applied::Revoked(vec![peer(6)])));
    // Hung up again under the same name, it is for others.
    kit.apply(add(code(4), "market")).unwrap();
    assert_eq!(kit.apply(come(code(4), 1)), Err(ChangeError::BadCode));
    kit.apply(come(code(4), 5)).unwrap();
    kit.assert_sound();
}

#[test]
fn strangers_bring_no_more_in_a_day_than_a_few_times_their_share_however_soon_it_is_delivered() {
    let mut kit = Kit::with(|options| options.quota = 4 << 20);
    // Each is delivered at once.
    let bring = |kit: &Kit, n: u64, from: u8| {
        let brought = kit.put(&document(n, 20_000), Some(peer(from)));
        kit.confirm(&[document(n, 20_000).id()], Verdict::Opened).unwrap();
        kit.sweep();
        brought
    };
    let brings = |kit: &Kit, from: u64| (from..from + 500).take_while(|n| bring(kit, *n, 1).is_ok()).count();
    let at_once = brings(&kit, 0);
    assert!((18..=21).contains(&at_once), "{at_once} × 20 kB of twice 5 % of 4 MiB");
    assert_eq!(bring(&kit, 600, 2), Err(ChangeError::Refused(Reason::OverQuota)), "whoever it is");
    kit.reopen();
    assert_eq!(bring(&kit, 601, 2), Err(ChangeError::Refused(Reason::OverQuota)));
    kit.pair(3);
    bring(&kit, 602, 3).unwrap();
    // A quarter of their share in an hour and a half.
    kit.clock.advance(5_400);
    let later = brings(&kit, 1_000);
    assert!((2..=3).contains(&later), "{later} × 20 kB of a quarter of 5 % of 4 MiB");
    // Small ones count as what they cost.
    kit.clock.advance(86_400);
    let small = (2_000..3_000).take_while(|n| kit.put(&document(*n, 10), Some(peer(4))).is_ok()).count();
    assert!((90..=105).contains(&small), "{small} × 4,096 bytes");
    kit.assert_sound();
}

#[test]
fn strangers_that_come_in_vain_use_up_nothing_of_what_they_may_bring_in_a_day() {
    let kit = Kit::with(|options| options.quota = 4 << 20);
    let brings = |from: u64| {
        let ids = (from..).map(|n| document(n, 20_000));
        let taken = ids.take_while(|document| kit.put(document, Some(peer(1))).is_ok());
        taken.map(|document| document.id()).collect::<Vec<_>>()
    };
    let first = brings(0);
    assert!((8..=10).contains(&first.len()), "{} × 20 kB of 5 % of 4 MiB", first.len());
    for n in 100..200 {
        let refused = Err(ChangeError::Refused(Reason::OverQuota));
        assert_eq!(kit.put(&document(n, 20_000), Some(peer(2))), refused);
        assert_eq!(kit.apply(piece(&document(n, 20_000), 0..10, peer(2))), refused);
    }
    kit.confirm(&first, Verdict::Opened).unwrap();
    kit.sweep();
    assert!(brings(300).len() >= 8, "as many as before");
    kit.assert_sound();
}

#[test]
fn phones_of_posters_have_a_share_of_their_own() {
    let kit = Kit::with(|options| (options.quota, options.max_partials) = (4 << 20, 16));
    for n in 0..60 {
        kit.apply(Change::PutPeer { peer: peer(n), class: PeerClass::Poster, label: None }).unwrap();
    }
    let taken =
        (0..60).take_while(|n| kit.put(&document(*n, 20_000), Some(peer(u8::try_from(*n).unwrap()))).is_ok());
    let taken = taken.count();
    assert!((8..=10).contains(&taken), "{taken} × 20 kB of 5 % of 4 MiB");
    let over = Err(ChangeError::Refused(Reason::OverQuota));
    assert_eq!(kit.apply(piece(&document(70, 20_000), 0..10, peer(1))), over);
    // Strangers have theirs.
    kit.stored(&document(80, 20_000), Some(peer(200)));
    kit.apply(piece(&document(81, 20_000), 0..10, peer(201))).unwrap();
    kit.apply(Change::Delete { id: document(0, 20_000).id() }).unwrap();
    kit.apply(piece(&document(70, 20_000), 0..10, peer(1))).unwrap();
    kit.assert_sound();
}

#[test]
fn a_code_is_void_when_its_time_is_over() {
    let kit = Kit::new();
    let secret = CodeSecret::new([5; 16]);
    let valid = Some(Duration::from_secs(100));
    kit.apply(Change::AddCode { secret: secret.clone(), class: PeerClass::Paired, valid, poster: None })
        .unwrap();
    kit.clock.advance(100);
    assert!(kit.store().code(&secret.id()).unwrap().is_none());
    let consume = Change::ConsumeCode { code: secret.id(), peer: peer(1), label: None };
    assert_eq!(kit.apply(consume), Err(ChangeError::BadCode));
    assert_eq!(kit.sweep().forgotten, 1);
}

#[test]
fn advertisements_are_recognised_of_peers_that_are_known_and_not_revoked() {
    let mut kit = Kit::new();
    let key = |n: u8| Some(AdvertisingKey::new([n; 16]));
    let classes = [
        (1, PeerClass::Paired),
        (2, PeerClass::Listed),
        (3, PeerClass::Gateway),
        (4, PeerClass::Poster),
        (5, PeerClass::Open),
        (6, PeerClass::Paired),
        (7, PeerClass::Paired),
    ];
    for (n, class) in classes {
        kit.apply(Change::PutPeer { peer: peer(n), class, label: None }).unwrap();
        let advertising_key = key(n).filter(|_| n != 7);
        kit.apply(Change::PeerSeen { peer: peer(n), store: None, label: None, advertising_key }).unwrap();
    }
    kit.apply(Change::Revoke { peer: peer(6) }).unwrap();
    // One that does not tell it again has not changed it; neither has another store of the same peer.
    let store = Some(store_id(9));
    kit.apply(Change::PeerSeen { peer: peer(1), store, label: None, advertising_key: None }).unwrap();
    kit.reopen();
    let found = kit.store().advertising_keys().unwrap();
    assert_eq!(found, [1, 2, 3].map(|n| (peer(n), key(n).unwrap())));
}

#[test]
fn peers_are_listed_with_what_they_brought() {
    let kit = Kit::new();
    kit.stored(&document(1, 10), Some(peer(1)));
    kit.stored(&document(2, 10), Some(peer(1)));
    kit.put(&document(2, 10), Some(peer(2))).unwrap();
    kit.clock.advance(5);
    let seen = |label: &str| Change::PeerSeen {
        peer: peer(1),
        store: Some(store_id(1)),
        label: Some(label.into()),
        advertising_key: None,
    };
    kit.apply(seen("Ben")).unwrap();
    kit.apply(seen("Impostor")).unwrap();
    let peers = kit.store().peers().unwrap();
    assert_eq!(peers.iter().map(|peer| peer.key).collect::<Vec<_>>(), [peer(1), peer(2)]);
    assert_eq!((peers[0].deposited, peers[1].deposited), (2, 0));
    assert_eq!((peers[0].label.as_str(), peers[0].store), ("Ben", Some(store_id(1))));
    assert_eq!(peers[0].last_contact.0 - peers[0].first_contact.0, 5);
    assert_eq!(peers[0].class, PeerClass::Open);
}

#[test]
fn one_phone_gets_half_of_the_room_whole_or_in_pieces_and_the_rest_is_for_others() {
    let mut kit = Kit::with(|options| options.quota = 4 << 20);
    (1..3).for_each(|n| kit.pair(n));
    let (mut taken, over) = (0, Err(ChangeError::Refused(Reason::OverQuota)));
    while kit.put(&document(taken, 100_000), Some(peer(1))).is_ok() {
        taken += 1;
    }
    assert!((18..=21).contains(&taken), "{taken} × 100 kB of half of 4 MiB");
    assert_eq!(kit.apply(piece(&document(50, 100_000), 0..10, peer(1))), over);
    kit.reopen();
    assert_eq!(kit.put(&document(taken, 100_000), Some(peer(1))), over);
    kit.stored(&document(60, 1_000_000), Some(peer(2)));
    kit.stored(&document(61, 10_000), None);
    // What is delivered makes room, for bodies under way, too.
    kit.confirm(&[document(0, 100_000).id(), document(1, 100_000).id()], Verdict::Opened).unwrap();
    kit.apply(piece(&document(50, 100_000), 0..10, peer(1))).unwrap();
    kit.apply(piece(&document(51, 100_000), 0..10, peer(1))).unwrap();
    assert_eq!(kit.apply(piece(&document(52, 100_000), 0..10, peer(1))), over);
    let whole = document(50, 100_000);
    kit.apply(piece(&whole, 10..whole.body().len(), peer(1))).unwrap();
    kit.assert_sound();
}

#[test]
fn a_peer_that_is_forgotten_is_a_stranger_and_its_code_is_void() {
    let kit = Kit::new();
    let secret = CodeSecret::new([7; 16]);
    let (code, label) = (secret.id(), Some("Anna".to_owned()));
    kit.apply(Change::AddCode { secret, class: PeerClass::Paired, valid: None, poster: None }).unwrap();
    kit.apply(Change::ConsumeCode { code, peer: peer(1), label: label.clone() }).unwrap();
    kit.apply(Change::PeerSeen {
        peer: peer(1),
        store: Some(store_id(1)),
        label: None,
        advertising_key: Some(AdvertisingKey::new([3; 16])),
    })
    .unwrap();
    let document = document(1, 10);
    kit.stored(&document, None);
    kit.apply(holds(1, 1, &document)).unwrap();
    kit.apply(Change::Forget { peer: peer(1) }).unwrap();
    let known = kit.store().peer(&peer(1)).unwrap().unwrap();
    assert_eq!((known.class, &known.label[..]), (PeerClass::Open, ""));
    assert!(known.advertising_key.is_none());
    assert_eq!(kit.apply(Change::ConsumeCode { code, peer: peer(1), label }), Err(ChangeError::BadCode));
    // It has what it has.
    assert!(outgoing(&kit, &to(peer(1), store_id(1))).is_empty());
    kit.apply(Change::Forget { peer: peer(9) }).unwrap();
    assert!(kit.store().peer(&peer(9)).unwrap().is_none());
    kit.assert_sound();
}

#[test]
fn open_peers_together_get_only_their_share() {
    let kit = Kit::with(|options| options.quota = 4 << 20);
    let mut taken = 0;
    let refused = loop {
        match kit.put(&document(taken, 20_000), Some(peer(u8::try_from(taken).unwrap()))) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, ChangeError::Refused(Reason::OverQuota));
    assert!((8..=10).contains(&taken), "{taken} × 20 kB of 5 % of 4 MiB");
    kit.apply(Change::PutPeer { peer: peer(99), class: PeerClass::Paired, label: None }).unwrap();
    kit.stored(&document(1000, 20_000), Some(peer(99)));
    kit.apply(Change::Delete { id: document(0, 20_000).id() }).unwrap();
    kit.stored(&document(1001, 20_000), Some(peer(98)));
    kit.assert_sound();
}
