//! Documents: stored for good, once, in order, until deleted, expired or confirmed.

use waypost_protocol::confirmation::Verdict;
use waypost_protocol::ids::Seq;
use waypost_protocol::refusal::Reason;
use waypost_protocol::sync::{Holdings as _, Standing};
use waypost_store::{
    Applied, Change, ChangeError, Filter, NewDocument, OpenError, Options, PeerClass, State, Store, StoreKey,
};

use crate::kit::*;

#[test]
fn what_was_stored_is_there_byte_for_byte_after_reopening() {
    let mut kit = Kit::new();
    kit.apply(Change::PutPeer { peer: peer(1), class: PeerClass::Paired, label: None }).unwrap();
    let documents: Vec<_> = [0, 1, 100, 32_600, 32_712, 70_000, 3_000_000]
        .iter()
        .map(|&size| document(size as u64, size))
        .collect();
    let seqs: Vec<Seq> = documents.iter().map(|document| kit.stored(document, Some(peer(1)))).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b));
    kit.reopen();
    for (document, seq) in documents.iter().zip(&seqs) {
        assert_eq!(kit.whole_body(*seq), document.body().as_ref());
        let entry = kit.store().document(&document.id()).unwrap().unwrap();
        assert_eq!((entry.description, entry.state), (document.description(), State::Waiting));
        assert_eq!((entry.depositor, entry.has_body), (Some(peer(1)), true));
        assert_eq!(kit.store().standing(&document.id(), None).unwrap(), Standing::Held);
    }
    kit.assert_sound();
}

#[test]
fn any_range_of_a_body_can_be_read() {
    let kit = Kit::new();
    let document = document(1, 100_000);
    let (seq, body) = (kit.stored(&document, None), document.body());
    for (offset, len) in [(0, 10), (32_711, 2), (32_712, 40_000), (99_000, 50_000), (5, 100_000), (0, 0)] {
        let end = body.len().min(offset + len);
        let read = kit.store().read_body(seq, offset as u64, len).unwrap();
        assert_eq!(read, body.slice(offset..end), "{offset} {len}");
    }
    assert!(kit.store().read_body(seq, body.len() as u64, 10).unwrap().is_empty());
    assert!(kit.store().read_body(Seq(999), 0, 10).unwrap().is_empty());
}

#[test]
fn the_same_document_again_is_already_held() {
    let kit = Kit::new();
    let document = document(1, 10);
    let seq = kit.stored(&document, Some(peer(1)));
    assert_eq!(kit.put(&document, Some(peer(2))), Ok(Applied::AlreadyHeld { seq }));
    assert_eq!(kit.put(&document, Some(peer(1))), Ok(Applied::AlreadyHeld { seq }));
    assert_eq!(kit.store().counts().unwrap().waiting, 1);
    kit.assert_sound();
}

#[test]
fn a_batch_answers_each_change_and_one_bad_one_fails_alone() {
    let kit = Kit::new();
    let mut ephemeral = header();
    ephemeral.ephemeral = true;
    let mut short_lived = header();
    short_lived.lifetime = 10;
    let mut old = new_document(&document_with(&short_lived, 3, 10), None);
    old.age = 10;
    let missing = document(9, 9).id();
    let answers = kit.store().apply(vec![
        deposit(&document(1, 10), None),
        deposit(&document_with(&ephemeral, 2, 10), None),
        Change::Document(Box::new(old)),
        Change::Delete { id: missing },
        deposit(&document(1, 10), None),
        deposit(&document(4, 10), None),
    ]);
    assert_eq!(answers[0], Ok(Applied::Stored { seq: Seq(1) }));
    assert_eq!(answers[1], Err(ChangeError::Refused(Reason::NotPermitted)));
    assert_eq!(answers[2], Err(ChangeError::Refused(Reason::Expired)));
    assert_eq!(answers[3], Err(ChangeError::NoDocument(missing)));
    assert_eq!(answers[4], Ok(Applied::AlreadyHeld { seq: Seq(1) }));
    assert_eq!(answers[5], Ok(Applied::Stored { seq: Seq(2) }));
    kit.assert_sound();
}

#[test]
fn what_was_deleted_does_not_come_back_and_its_sequence_is_not_reused() {
    let mut kit = Kit::new();
    let (one, two) = (document(1, 50_000), document(2, 10));
    kit.stored(&one, Some(peer(1)));
    assert_eq!(kit.apply(Change::Delete { id: one.id() }), Ok(Applied::Done));
    kit.reopen();
    assert_eq!(kit.put(&one, Some(peer(1))), Err(ChangeError::Refused(Reason::Deleted)));
    assert_eq!(kit.store().standing(&one.id(), None).unwrap(), Standing::Gone(Reason::Deleted));
    assert_eq!(kit.stored(&two, None), Seq(2));
    assert_eq!(kit.store().waiting(&A, None, 10).unwrap().len(), 1);
    kit.assert_sound();
    assert!(kit.sweep().pieces >= 2);
    assert_eq!(kit.sweep().pieces, 0);
    kit.assert_sound();
}

#[test]
fn what_is_gone_moves_to_another_store_and_takes_nothing_away_there() {
    let (here, there) = (Kit::new(), Kit::new());
    let (one, two, confirmed) = (document(1, 10), document(2, 10), document(3, 10));
    for document in [&one, &two, &confirmed] {
        here.stored(document, None);
    }
    here.apply(Change::Delete { id: one.id() }).unwrap();
    here.apply(Change::Delete { id: confirmed.id() }).unwrap();
    let mut gone = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = here.store().gone(after.as_deref(), 1).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.place.clone());
        gone.extend(page.into_iter().filter_map(|gone| gone.document));
    }
    gone.sort();
    let mut expected = vec![(one.id(), Reason::Deleted), (confirmed.id(), Reason::Deleted)];
    expected.sort();
    assert_eq!(gone, expected);

    // What is there stays, as does what is confirmed there.
    let seq = there.stored(&two, None);
    there.confirm(&[confirmed.id()], Verdict::Opened).unwrap();
    for (id, reason) in gone.into_iter().chain([(two.id(), Reason::Deleted)]) {
        assert_eq!(there.apply(Change::Gone { id, reason }), Ok(Applied::Done));
    }
    assert_eq!(there.put(&one, None), Err(ChangeError::Refused(Reason::Deleted)));
    assert_eq!(there.put(&two, None), Ok(Applied::AlreadyHeld { seq }));
    assert!(matches!(there.put(&confirmed, None), Ok(Applied::Confirmed(_))));
    there.assert_sound();
}

#[test]
fn tombstones_are_forgotten_after_400_days() {
    let kit = Kit::new();
    let document = document(1, 10);
    kit.stored(&document, None);
    kit.apply(Change::Delete { id: document.id() }).unwrap();
    kit.clock.advance(399 * 86_400);
    assert_eq!(kit.sweep().forgotten, 0);
    kit.clock.advance(2 * 86_400);
    assert_eq!(kit.sweep().forgotten, 1);
    assert_eq!(kit.store().standing(&document.id(), None).unwrap(), Standing::Unknown);
    kit.stored(&document, None);
}

#[test]
fn a_lifetime_counts_age_on_arrival_and_running_time_over_restarts() {
    let mut kit = Kit::new();
    let mut header = header();
    header.lifetime = 100;
    let document = document_with(&header, 1, 40_000);
    let mut new = new_document(&document, Some(peer(1)));
    new.age = 30;
    kit.apply(Change::Document(Box::new(new))).unwrap();
    kit.clock.advance(60);
    kit.apply(Change::Put { key: "any".into(), value: None }).unwrap();
    kit.reopen();
    let outgoing = kit.store().outgoing(&to(peer(2), store_id(2)), None, 10).unwrap();
    assert_eq!(outgoing[0].age, Some(90));
    assert_eq!(kit.store().document(&document.id()).unwrap().unwrap().age, 90);
    kit.clock.advance(10);
    assert_eq!(kit.store().standing(&document.id(), None).unwrap(), Standing::Gone(Reason::Expired));
    assert!(kit.store().outgoing(&to(peer(2), store_id(2)), None, 10).unwrap().is_empty());
    assert!(kit.store().waiting(&A, None, 10).unwrap().is_empty());
    assert_eq!(kit.put(&document, Some(peer(2))), Err(ChangeError::Refused(Reason::Expired)));
    assert_eq!(kit.sweep().expired, 1);
    assert_eq!(kit.store().document(&document.id()).unwrap(), None);
    assert_eq!(kit.store().standing(&document.id(), None).unwrap(), Standing::Gone(Reason::Expired));
    kit.assert_sound();
}

#[test]
fn peers_that_lie_about_ages_and_lifetimes_end_nothing_but_their_own_documents() {
    let kit = Kit::new();
    let honest = document(1, 10);
    kit.stored(&honest, Some(peer(1)));
    let bring = |number, size, lifetime, age| {
        let mut header = header();
        header.lifetime = lifetime;
        let document = document_with(&header, number, size);
        let mut change = piece(&document, 0..document.body().len(), peer(2));
        if let Change::Piece { header: place, age: told, .. } = &mut change {
            (*place, *told) = (header.clone().into(), age);
        }
        let whole = Change::Document(Box::new(NewDocument { age, ..new_document(&document, Some(peer(2))) }));
        (document.id(), [whole, change])
    };
    let expired = Err(ChangeError::Refused(Reason::Expired));
    for (lifetime, age) in [(1, 1), (100, u64::MAX), (u64::MAX, u64::MAX), (1 << 40, 1 << 41)] {
        let (id, changes) = bring(2, 20_000, lifetime, age);
        changes.into_iter().for_each(|change| assert_eq!(kit.apply(change), expired, "{lifetime} {age}"));
        assert_eq!(kit.store().document(&id).unwrap(), None);
    }
    let to = to(peer(3), store_id(3));
    let mut ids = vec![honest.id()];
    // Without a lifetime an age says nothing; the longest one never passes.
    for (number, lifetime, age) in [(3, 0, u64::MAX), (4, u64::MAX, 0), (5, u64::MAX, u64::MAX - 2_000)] {
        let (id, [whole, _]) = bring(number, 20_000, lifetime, age);
        kit.apply(whole).unwrap();
        ids.push(id);
    }
    kit.clock.advance(1_000);
    let outgoing = kit.store().outgoing(&to, None, 10).unwrap();
    let ages: Vec<_> = outgoing.iter().map(|one| one.age).collect();
    assert_eq!(ages, [None, None, Some(1_000), Some(u64::MAX - 1_000)]);
    assert_eq!(kit.sweep().expired, 0);
    kit.clock.advance(1_000);
    assert_eq!(kit.sweep().expired, 1, "the one that claimed to be about that old");
    let left: Vec<_> =
        kit.store().outgoing(&to, None, 10).unwrap().iter().map(|one| one.description.id).collect();
    assert_eq!(left, ids[..3]);
    kit.assert_sound();
}

#[test]
fn time_counts_while_the_store_is_closed_until_the_machine_is_switched_off() {
    let mut kit = Kit::new();
    kit.clock.set_boot("first", 1_000);
    kit.reopen();
    kit.clock.advance(10);
    kit.stored(&document(1, 10), None);
    kit.close();
    kit.clock.set_boot("first", 1_500);
    kit.reopen();
    assert_eq!(kit.store().uptime(), 500, "10 seconds open, 490 closed");
    kit.stored(&document(2, 10), None);
    kit.close();
    // Another start of the machine: how long it was off is not known.
    kit.clock.set_boot("second", 7_000);
    kit.reopen();
    assert_eq!(kit.store().uptime(), 500);
    kit.clock.advance(5);
    kit.stored(&document(3, 10), None);
    kit.reopen();
    assert_eq!(kit.store().uptime(), 505);
    // A clock that stands still or goes back counts for nothing.
    kit.clock.set_boot("second", 6_000);
    kit.reopen();
    assert_eq!(kit.store().uptime(), 505);
    kit.assert_sound();
}

#[test]
fn the_systems_clock_knows_the_start_of_the_machine() {
    use waypost_store::{Clock as _, SystemClock};
    let boot = SystemClock::new().boot().unwrap();
    assert_eq!(boot.name.len(), 36, "{boot:?}");
    assert!(boot.seconds > 0, "{boot:?}");
}

#[test]
fn a_draft_waits_for_its_release() {
    let kit = Kit::new();
    for (n, size) in [(1, 10), (2, 2_500_000)] {
        let document = document(n, size);
        let mut new = new_document(&document, None);
        (new.draft, new.note) = (true, Some("photo.jpg".into()));
        kit.apply(Change::Document(Box::new(new))).unwrap();
        let entry = kit.store().document(&document.id()).unwrap().unwrap();
        assert_eq!((entry.state, entry.note.as_deref()), (State::Draft, Some("photo.jpg")));
        assert!(kit.store().outgoing(&to(peer(1), store_id(1)), None, 10).unwrap().is_empty());
        assert!(kit.store().waiting(&A, None, 10).unwrap().is_empty());
        kit.assert_sound();
        kit.apply(Change::Release { id: document.id() }).unwrap();
        assert_eq!(kit.store().waiting(&A, None, 10).unwrap()[0].description, document.description());
        assert_eq!(kit.store().outgoing(&to(peer(1), store_id(1)), None, 10).unwrap().len(), 1);
        kit.assert_sound();
        kit.apply(Change::Delete { id: document.id() }).unwrap();
    }
}

#[test]
fn the_outbox_is_by_destination_in_order_with_attempts() {
    let kit = Kit::new();
    let mut other = header();
    other.destination = B;
    other.priority = 4;
    let (one, two, three) = (document(1, 10), document_with(&other, 2, 10), document(3, 10));
    kit.stored(&one, Some(peer(1)));
    kit.stored(&two, None);
    kit.stored(&three, None);
    kit.apply(Change::Attempted { id: three.id() }).unwrap();
    kit.apply(Change::Attempted { id: three.id() }).unwrap();
    let waiting = kit.store().waiting(&A, None, 10).unwrap();
    let told: Vec<_> = waiting.iter().map(|w| (w.description.id, w.attempts, w.depositor)).collect();
    assert_eq!(told, [(one.id(), 0, Some(peer(1))), (three.id(), 2, None)]);
    assert_eq!(kit.store().waiting(&A, Some(waiting[0].seq), 10).unwrap(), waiting[1..]);
    assert_eq!(kit.store().waiting(&A, None, 1).unwrap(), waiting[..1]);
    assert_eq!(kit.store().waiting(&B, None, 10).unwrap()[0].priority, 4);
    let mut destinations = kit.store().destinations().unwrap();
    destinations.sort();
    assert_eq!(destinations, [A, B]);
}

#[test]
fn documents_are_listed_by_filter_and_found_by_the_beginning_of_their_id() {
    let kit = Kit::new();
    let documents: Vec<_> = (0..30).map(|n| document(n, 10)).collect();
    for document in &documents {
        kit.stored(document, None);
    }
    kit.confirm(&[documents[4].id()], waypost_protocol::confirmation::Verdict::Opened).unwrap();
    let count = |filter| kit.store().documents(&filter, None, 100).unwrap().len();
    assert_eq!((count(Filter::All), count(Filter::Waiting), count(Filter::Confirmed)), (30, 29, 1));
    assert_eq!((count(Filter::For(A)), count(Filter::For(B)), count(Filter::Draft)), (30, 0, 0));
    assert_eq!(count(Filter::Collection(documents[0].group())), 30);
    let page = kit.store().documents(&Filter::All, Some(Seq(10)), 5).unwrap();
    assert_eq!(page.iter().map(|entry| entry.seq.0).collect::<Vec<_>>(), [11, 12, 13, 14, 15]);
    let id = documents[7].id();
    let digits = id.to_string()[..12].to_uppercase();
    assert_eq!(kit.store().find_by_prefix(&digits, 10).unwrap(), [id]);
    assert_eq!(kit.store().find_by_prefix("", 3).unwrap().len(), 3);
}

#[test]
fn one_process_opens_it_once_with_the_right_key() {
    let mut kit = Kit::new();
    let open = |key: [u8; 32]| Store::open(kit.folder.path(), &StoreKey::new(key), Options::default());
    assert!(matches!(open([7; 32]), Err(OpenError::AlreadyOpen(_))));
    let id = kit.store().store_id();
    kit.close();
    let open = |key: [u8; 32]| Store::open(kit.folder.path(), &StoreKey::new(key), Options::default());
    assert!(matches!(open([8; 32]), Err(OpenError::WrongKey(_))));
    kit.reopen();
    assert_eq!(kit.store().store_id(), id);
    assert_ne!(Kit::new().store().store_id(), id);
}

#[test]
fn a_compacted_copy_is_the_same_store() {
    let kit = Kit::new();
    for n in 0..20 {
        kit.stored(&document(n, 100_000), None);
        if n % 2 == 0 {
            kit.apply(Change::Delete { id: document(n, 100_000).id() }).unwrap();
        }
    }
    kit.sweep();
    let target = tempfile::tempdir().unwrap();
    let target = target.path().join("copy");
    kit.store().compact(&target).unwrap();
    assert!(kit.store().compact(&target).is_err(), "never over another store");
    let copy = Store::open(&target, &Kit::key(), kit.options.clone()).unwrap();
    assert_eq!(copy.store_id(), kit.store().store_id());
    assert_eq!(copy.counts().unwrap(), kit.store().counts().unwrap());
    assert_eq!(copy.check().unwrap(), vec![]);
    assert!(copy.usage().unwrap().file < kit.store().usage().unwrap().file);
}

#[test]
fn settings_are_set_replaced_listed_and_removed() {
    let mut kit = Kit::new();
    let put = |kit: &Kit, key: &str, value: Option<&[u8]>| {
        kit.apply(Change::Put { key: key.into(), value: value.map(<[u8]>::to_vec) }).unwrap()
    };
    put(&kit, "gateway/2", Some(b"two"));
    put(&kit, "gateway/1", Some(b"one"));
    put(&kit, "floor", Some(b"1"));
    put(&kit, "floor", Some(b"2"));
    kit.reopen();
    assert_eq!(kit.store().setting("floor").unwrap().as_deref(), Some(&b"2"[..]));
    let listed = kit.store().settings("gateway/").unwrap();
    assert_eq!(listed, [("gateway/1".into(), b"one".to_vec()), ("gateway/2".into(), b"two".to_vec())]);
    put(&kit, "floor", None);
    assert_eq!(kit.store().setting("floor").unwrap(), None);
    kit.assert_sound();
}

#[test]
fn bytes_that_are_no_store_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data.mdb"), vec![0x5a; 100_000]).unwrap();
    let opened = Store::open(folder.path(), &Kit::key(), Options::default());
    assert!(matches!(opened, Err(OpenError::Store(_))));
}

#[test]
fn two_processes_use_the_same_store() {
    let kit = Kit::new();
    kit.stored(&document(1, 10), None);
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "documents::the_other_process"])
        .env("WAYPOST_SHARED_STORE", kit.folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(kit.store().document(&document(1, 10).id()).unwrap(), None);
    assert_eq!(kit.store().waiting(&A, None, 10).unwrap()[0].seq, Seq(2));
    assert_eq!(kit.stored(&document(3, 10), None), Seq(3));
    kit.assert_sound();
}

#[test]
#[ignore = "runs within the test above"]
fn the_other_process() {
    let Some(folder) = std::env::var_os("WAYPOST_SHARED_STORE") else { return };
    let options = Options { map_size: 64 << 20, reserve: 0, ..Options::default() };
    let store = Store::open(std::path::Path::new(&folder), &Kit::key(), options).unwrap();
    store.apply_one(Change::Delete { id: document(1, 10).id() }).unwrap();
    store.apply_one(deposit(&document(2, 10), None)).unwrap();
    assert_eq!(store.check().unwrap(), vec![]);
}
