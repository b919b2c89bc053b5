//! Documents for subscribers: kept after the verdict, handed out by collection, and gone first where there is no room.

use waypost_protocol::confirmation::Verdict;
use waypost_protocol::document::Document;
use waypost_protocol::ids::{GroupId, Seq};
use waypost_protocol::refusal::Reason;
use waypost_protocol::sync::{Holdings as _, Recipient, Standing};
use waypost_protocol::time::UnixTime;
use waypost_store::{Applied, Change, ChangeError, Filter, Free, Freeing, Options, State, Store};

use crate::kit::*;

const NEWS: GroupId = GroupId([7; 32]);
const DAY: u64 = 86_400;

fn of(group: GroupId, n: u64, size: usize) -> Document {
    Document::new(group, UnixTime(1_800_000_000), document(n, size).body().clone()).unwrap()
}

fn freeing() -> Freeing {
    Freeing { retain: vec![(NEWS, 30 * DAY)], ..Freeing::GATEWAY }
}

fn confirm(kit: &Kit, documents: &[&Document], verdict: Verdict) {
    let ids: Vec<_> = documents.iter().map(|document| document.id()).collect();
    kit.apply(confirmed(confirmation(A, &ids, verdict), freeing())).unwrap();
}

fn wanting(n: u8, store: u8) -> Recipient {
    Recipient { serves: Vec::new(), wants: vec![NEWS], ..to(peer(n), store_id(store)) }
}

/// Everything that the peer would be offered, by number of page.
fn offered(kit: &Kit, to: &Recipient, limit: usize) -> Vec<Document> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = kit.store().subscribed(to, after, limit).unwrap();
        assert!(page.documents.len() <= limit);
        for row in &page.documents {
            assert!(after.is_none_or(|after: Seq| row.seq > after));
            let body = kit.whole_body(row.seq);
            let description = row.description;
            all.push(Document::new(description.group, description.timestamp, body.into()).unwrap());
        }
        after = page.seen.or(after);
        if !page.more {
            return all;
        }
    }
}

fn seen(kit: &Kit, n: u8, store: u8) {
    kit.apply(Change::PeerSeen {
        peer: peer(n),
        store: Some(store_id(store)),
        label: None,
        advertising_key: None,
    })
    .unwrap();
}

fn received(document: &Document, from: u8, free: Free) -> Change {
    Change::Received { change: Box::new(deposit(document, Some(peer(from)))), free }
}

#[test]
fn a_verdict_leaves_the_body_of_a_retained_collection_until_its_time_is_over() {
    let mut kit = Kit::new();
    let (news, form, bad) = (of(NEWS, 1, 5_000), document(2, 5_000), of(NEWS, 3, 5_000));
    let seq = [&news, &form, &bad].map(|document| kit.stored(document, Some(peer(1))));
    confirm(&kit, &[&news, &form], Verdict::Opened);
    confirm(&kit, &[&bad], REJECTED);
    kit.sweep();
    assert!(kit.whole_body(seq[0]) == *news.body());
    assert!(kit.whole_body(seq[1]).is_empty(), "its collection is not retained");
    assert!(kit.whole_body(seq[2]).is_empty(), "nobody wants what was rejected");
    assert!(kit.store().waiting(&A, None, 9).unwrap().is_empty());
    kit.assert_sound();
    // By the store's own time, which goes on over a restart.
    kit.clock.advance(30 * DAY - 1);
    kit.apply(Change::Put { key: "now".into(), value: None }).unwrap();
    kit.sweep();
    kit.reopen();
    assert_eq!(offered(&kit, &wanting(2, 1), 10), std::slice::from_ref(&news));
    kit.clock.advance(1);
    assert_eq!(kit.sweep().freed, 1);
    assert!(offered(&kit, &wanting(2, 1), 10).is_empty());
    let entry = kit.store().document(&news.id()).unwrap().unwrap();
    assert_eq!((entry.state, entry.has_body), (State::Confirmed(Verdict::Opened), false));
    kit.assert_sound();
}

#[test]
fn a_subscriber_is_offered_its_collections_in_pages_and_not_what_it_brought_or_has() {
    let mut kit = Kit::new();
    let all: Vec<_> = (0..40).map(|n| of(if n % 4 == 3 { GroupId([8; 32]) } else { NEWS }, n, 300)).collect();
    for (n, document) in (0u8..).zip(&all) {
        kit.stored(document, Some(peer(1 + n % 2)));
    }
    confirm(&kit, &all.iter().take(20).collect::<Vec<_>>(), Verdict::Opened);
    seen(&kit, 1, 1);
    seen(&kit, 3, 1);
    let wanted: Vec<_> = all.iter().filter(|document| document.group() == NEWS).cloned().collect();
    for limit in [1, 7, 100] {
        assert_eq!(offered(&kit, &wanting(3, 1), limit), wanted);
    }
    // The first one brought every other document.
    let others: Vec<_> = (0..).zip(&all).filter(|(n, one)| n % 2 == 1 && one.group() == NEWS).collect();
    let others: Vec<_> = others.into_iter().map(|(_, document)| document.clone()).collect();
    assert_eq!(offered(&kit, &wanting(1, 1), 100), others);
    // What the third has said counts, for waiting and for confirmed ones, also after a restart.
    for id in [wanted[0].id(), wanted[20].id()] {
        kit.apply(Change::PeerHolds { peer: peer(3), store: store_id(1), id }).unwrap();
    }
    let (id, reason) = (wanted[1].id(), Reason::Deleted);
    kit.apply(Change::PeerRefuses { peer: peer(3), store: store_id(1), id, reason }).unwrap();
    kit.reopen();
    let left: Vec<_> =
        (0..).zip(&wanted).filter(|(n, _)| ![0, 1, 20].contains(n)).map(|(_, one)| one.clone()).collect();
    assert_eq!(offered(&kit, &wanting(3, 1), 100), left);
    kit.assert_sound();
    // A new store of the same peer has none of it.
    assert_eq!(offered(&kit, &wanting(3, 2), 100), wanted);
    seen(&kit, 3, 2);
    assert_eq!(offered(&kit, &wanting(3, 2), 100), wanted);
    // Nor is anything offered that nobody asked for.
    assert!(offered(&kit, &Recipient { wants: vec![], ..wanting(3, 2) }, 10).is_empty());
    assert!(offered(&kit, &Recipient { max_document: 10, ..wanting(3, 2) }, 10).is_empty());
}

#[test]
fn who_gets_a_confirmed_document_is_to_get_the_confirmation() {
    let kit = Kit::new();
    let news = of(NEWS, 1, 500);
    kit.stored(&news, Some(peer(1)));
    confirm(&kit, &[&news], Verdict::Opened);
    seen(&kit, 3, 1);
    let holds = Change::PeerHolds { peer: peer(3), store: store_id(1), id: news.id() };
    assert!(matches!(kit.apply(holds), Ok(Applied::Confirmed(_))));
    assert_eq!(kit.store().confirmations_due(&peer(3), None, 9).unwrap().len(), 1);
}

#[test]
fn a_deposit_is_never_refused_for_what_is_retained() {
    let mut kit = Kit::with(|options| (options.quota, options.peer_share) = (2 << 20, 100));
    kit.pair(1);
    let retained: Vec<_> = (0..30).map(|n| of(NEWS, n, 40_000)).collect();
    for document in &retained {
        kit.stored(document, Some(peer(1)));
        confirm(&kit, &[document], Verdict::Opened);
    }
    kit.sweep();
    // So many forms fit an empty store; they fit this one, too, and the oldest bodies go first.
    let mut fitted = 0;
    let mut before = offered(&kit, &wanting(2, 1), 100);
    assert_eq!(before, retained);
    for n in 100.. {
        match kit.put(&document(n, 40_000), Some(peer(1))) {
            Ok(_) => fitted += 1,
            Err(error) => {
                assert_eq!(error, ChangeError::Refused(Reason::OverQuota));
                break;
            }
        }
        let after = offered(&kit, &wanting(2, 1), 100);
        assert!(before.ends_with(&after), "the oldest go first");
        before = after;
        if n % 10 == 0 {
            kit.reopen();
            kit.assert_sound();
        }
    }
    assert!(before.is_empty(), "{} bodies were kept while a deposit was refused", before.len());
    let empty = Kit::with(|options| (options.quota, options.peer_share) = (2 << 20, 100));
    empty.pair(1);
    let most = (100..).take_while(|n| empty.put(&document(*n, 40_000), Some(peer(1))).is_ok()).count();
    assert!(fitted + 2 >= most, "{fitted} where {most} fit without subscribers");
    assert!(kit.store().usage().unwrap().used <= 2 << 20);
    kit.assert_sound();
}

#[test]
fn a_large_deposit_in_pieces_makes_room_for_itself_and_one_that_cannot_leaves_everything() {
    let kit = Kit::with(|options| (options.quota, options.peer_share) = (2 << 20, 100));
    kit.pair(1);
    let retained: Vec<_> = (0..20).map(|n| of(NEWS, n, 40_000)).collect();
    for document in &retained {
        kit.stored(document, Some(peer(1)));
        confirm(&kit, &[document], Verdict::Opened);
    }
    let hopeless = document(98, 3 << 20);
    let refused = kit.apply(piece(&hopeless, 0..1_000, peer(1)));
    assert_eq!(refused, Err(ChangeError::Refused(Reason::OverQuota)));
    assert_eq!(offered(&kit, &wanting(2, 1), 100), retained);
    let large = document(99, 1_400_000);
    let mut at = 0;
    while at < large.body().len() {
        let end = large.body().len().min(at + 65_536);
        kit.apply(piece(&large, at..end, peer(1))).unwrap();
        at = end;
    }
    assert_eq!(kit.store().counts().unwrap().waiting, 1);
    kit.assert_sound();
    // What comes for subscribers itself drives nothing out.
    let more = of(NEWS, 97, 1_400_000);
    assert_eq!(
        kit.apply(received(&more, 1, Free::Yielding(DAY))),
        Err(ChangeError::Refused(Reason::OverQuota))
    );
}

#[test]
fn what_is_received_is_kept_whatever_is_said_of_it_and_goes_to_nobody_by_itself() {
    let mut kit = Kit::new();
    let all: Vec<_> = [300, 90_000, 1_500_000].iter().zip(0..).map(|(size, n)| of(NEWS, n, *size)).collect();
    // On one the destination has spoken before it comes.
    kit.apply(confirmed(confirmation(A, &[all[2].id()], Verdict::Opened), Freeing::PHONE)).unwrap();
    assert!(kit.store().is_missing(&all[2].id()).unwrap());
    assert!(
        matches!(kit.put(&all[2], Some(peer(9))), Ok(Applied::Confirmed(_))),
        "nobody needs to deliver it"
    );
    for document in &all {
        assert!(matches!(kit.apply(received(document, 9, Free::Never)), Ok(Applied::Stored { .. })));
        assert!(!kit.store().is_missing(&document.id()).unwrap());
    }
    kit.apply(confirmed(confirmation(A, &[all[0].id()], Verdict::Opened), Freeing::PHONE)).unwrap();
    kit.sweep();
    kit.reopen();
    let entries = kit.store().documents(&Filter::Received, None, 9).unwrap();
    let states: Vec<_> = entries.iter().map(|entry| (entry.state, entry.has_body)).collect();
    let opened = State::Received(Some(Verdict::Opened));
    assert_eq!(states, [(opened, true), (State::Received(None), true), (opened, true)]);
    for (entry, document) in entries.iter().zip(&all) {
        assert!(kit.whole_body(entry.seq) == *document.body());
    }
    assert!(kit.store().waiting(&A, None, 9).unwrap().is_empty());
    assert!(kit.store().outgoing(&to(peer(1), store_id(1)), None, 9).unwrap().is_empty());
    assert_eq!(kit.store().counts().unwrap().received, 3);
    assert_eq!(kit.store().standing(&all[1].id(), None).unwrap(), Standing::Held);
    assert_eq!(kit.store().standing(&all[0].id(), None).unwrap(), Standing::Held);
    // Who brings it to be delivered hears what was said of it; who hands it to its readers hears that it is here.
    let offered = |peer| Change::Depositor { id: all[0].id(), peer };
    assert!(matches!(kit.apply(offered(peer(4))), Ok(Applied::Confirmed(_))));
    let offered = Change::Received { change: Box::new(offered(peer(9))), free: Free::Never };
    assert!(matches!(kit.apply(offered), Ok(Applied::AlreadyHeld { .. })));
    kit.assert_sound();
    // Deleted by its reader it does not come back, also where its confirmation is known.
    for document in [&all[0], &all[1]] {
        kit.apply(Change::Delete { id: document.id() }).unwrap();
        assert!(!kit.store().is_missing(&document.id()).unwrap());
        assert!(!matches!(kit.apply(received(document, 9, Free::Never)), Ok(Applied::Stored { .. })));
    }
    kit.sweep();
    kit.assert_sound();
}

#[test]
fn what_was_received_and_is_then_brought_to_be_delivered_is_delivered_and_stays_to_be_read() {
    let kit = Kit::new();
    let news = of(NEWS, 1, 500);
    kit.apply(received(&news, 9, Free::Never)).unwrap();
    assert_eq!(kit.put(&news, Some(peer(2))).map(|_| ()), Ok(()));
    assert_eq!(kit.store().waiting(&A, None, 9).unwrap().len(), 1);
    kit.assert_sound();
    confirm(&kit, &[&news], Verdict::Opened);
    let entry = kit.store().document(&news.id()).unwrap().unwrap();
    assert_eq!((entry.state, entry.has_body), (State::Received(Some(Verdict::Opened)), true));
    assert!(kit.store().waiting(&A, None, 9).unwrap().is_empty());
    kit.assert_sound();
}

#[test]
fn what_a_destination_wrote_is_kept_for_subscribers_for_a_while() {
    let kit = Kit::new();
    let news = of(NEWS, 1, 500);
    let from_destination =
        Change::Received { change: Box::new(deposit(&news, None)), free: Free::Yielding(DAY) };
    kit.apply(from_destination.clone()).unwrap();
    assert_eq!(offered(&kit, &wanting(2, 1), 9), std::slice::from_ref(&news));
    kit.clock.advance(DAY);
    assert_eq!(kit.sweep().freed, 1);
    assert!(offered(&kit, &wanting(2, 1), 9).is_empty());
    kit.assert_sound();
    assert_eq!(
        kit.apply(from_destination),
        Err(ChangeError::Refused(Reason::Expired)),
        "it does not come back"
    );
}

/// Deposits, verdicts and documents for readers in a store that is always full, until somebody kills this process.
#[test]
#[ignore = "run by the test below, in a process that is killed"]
fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os("WAYPOST_KILLED_STORE") else { return };
    let options = Options {
        map_size: 64 << 20,
        reserve: 64 << 10,
        quota: 1 << 20,
        open_share: 100,
        ..Options::default()
    };
    let store = Store::open(folder.as_ref(), &Kit::key(), options).unwrap();
    for n in store.counts().unwrap().opened * 1_000.. {
        let document = of(NEWS, n, 3_000 + (n % 7) as usize * 9_000);
        let confirmation = confirmation(A, &[document.id()], Verdict::Opened);
        let changes = vec![
            deposit(&document, Some(peer(1))),
            confirmed(confirmation, freeing()),
            received(&of(NEWS, n + (1 << 40), 2_000), 2, Free::Yielding(DAY)),
            Change::PeerHolds { peer: peer(3), store: store_id(1), id: document.id() },
        ];
        for change in changes {
            let outcome = store.apply_one(change);
            assert!(!matches!(outcome, Err(ChangeError::Storage(_))), "{outcome:?}");
        }
        store.sweep(50).unwrap();
    }
}

#[test]
fn a_store_that_is_killed_while_retained_bodies_make_room_is_sound() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut evicted = false;
    for round in 0..15u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "retained::writes_until_it_is_killed"])
            .env("WAYPOST_KILLED_STORE", folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(60 + round * 7));
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        let options = Options { map_size: 64 << 20, reserve: 64 << 10, quota: 1 << 20, ..Options::default() };
        let store = Store::open(folder.path(), &Kit::key(), options).unwrap();
        assert_eq!(store.check().unwrap(), vec![], "round {round}");
        let counts = store.counts().unwrap();
        evicted |= counts.opened * 10_000 > counts.body_bytes;
    }
    assert!(evicted, "nothing had to make room");
}
