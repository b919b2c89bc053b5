//! Full quota, full map, full disk: a reason, no corruption, deleting works, and it goes on when space is back.

use std::sync::atomic::Ordering;

use waypost_protocol::document::Document;
use waypost_protocol::refusal::Reason;
use waypost_store::{Change, ChangeError, Options, Store, SystemDisk};

use crate::kit::*;

/// Stores documents from number `first` on, until one is refused; those that were stored, and the refusal.
fn fill(kit: &Kit, first: u64, size: usize) -> (Vec<Document>, ChangeError) {
    let mut stored = Vec::new();
    for start in (first..).step_by(16) {
        let batch: Vec<_> = (start..start + 16).map(|n| document(n, size)).collect();
        let answers = kit.store().apply(batch.iter().map(|document| deposit(document, None)).collect());
        for (document, answer) in batch.into_iter().zip(answers) {
            match answer {
                Ok(_) => stored.push(document),
                Err(error) => return (stored, error),
            }
        }
    }
    unreachable!()
}

fn deleting_works_and_it_goes_on(kit: &mut Kit, stored: &[Document], size: usize) {
    kit.assert_sound();
    let used = kit.store().usage().unwrap().used;
    for some in stored.chunks(100) {
        let delete = some.iter().map(|document| Change::Delete { id: document.id() }).collect();
        for answer in kit.store().apply(delete) {
            answer.unwrap();
        }
    }
    kit.sweep();
    assert!(kit.store().usage().unwrap().used < used / 2);
    kit.reopen();
    let (again, _) = fill(kit, 1_000_000, size);
    assert!(again.len() * 10 >= stored.len() * 7, "{} after {}", again.len(), stored.len());
    kit.assert_sound();
}

#[test]
fn beyond_the_quota_documents_are_refused_with_a_reason() {
    let mut kit = Kit::with(|options| options.quota = 1 << 20);
    let (stored, refusal) = fill(&kit, 0, 20_000);
    assert_eq!(refusal, ChangeError::Refused(Reason::OverQuota));
    assert!(stored.len() > 25, "{}", stored.len());
    assert!(kit.store().usage().unwrap().used <= 1 << 20);
    deleting_works_and_it_goes_on(&mut kit, &stored, 20_000);
}

#[test]
fn a_full_map_refuses_documents_and_deleting_works() {
    for size in [100, 20_000] {
        let mut kit = Kit::with(|options| options.map_size = 2 << 20);
        let (stored, refusal) = fill(&kit, 0, size);
        assert_eq!(refusal.reason(), Reason::OverQuota);
        deleting_works_and_it_goes_on(&mut kit, &stored, size);
    }
}

#[test]
fn a_map_that_is_too_small_for_a_batch_takes_what_fits() {
    let kit = Kit::with(|options| options.map_size = 2 << 20);
    let batch = (0..150).map(|n| deposit(&document(n, 20_000), None)).collect();
    let answers = kit.store().apply(batch);
    let taken = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(taken > 40, "{taken}");
    for answer in &answers {
        assert!(answer.is_ok() || answer.as_ref().unwrap_err().reason() == Reason::OverQuota);
    }
    assert_eq!(kit.store().counts().unwrap().waiting, taken as u64);
    kit.assert_sound();
}

#[test]
fn documents_leave_the_reserve_on_the_disk_alone() {
    let kit = Kit::with(|options| options.reserve = 1 << 20);
    kit.disk.0.store((1 << 20) + 100_000, Ordering::SeqCst);
    kit.stored(&document(1, 20_000), None);
    kit.disk.0.store(1 << 20, Ordering::SeqCst);
    // What is free within the file may still be used.
    let free_inside = kit.store().usage().unwrap().room;
    let refusal = kit.put(&document(2, usize::try_from(free_inside).unwrap()), None);
    assert_eq!(refusal, Err(ChangeError::Refused(Reason::OverQuota)));
    kit.disk.0.store(10 << 20, Ordering::SeqCst);
    kit.stored(&document(2, 1_000_000), None);
}

#[test]
fn the_first_piece_is_refused_when_the_whole_has_no_room() {
    let kit = Kit::with(|options| options.quota = 1 << 20);
    let document = document(1, 2 << 20);
    let refused = kit.apply(piece(&document, 0..1000, peer(1)));
    assert_eq!(refused, Err(ChangeError::Refused(Reason::OverQuota)));
    assert!(matches!(kit.put(&document, None), Err(ChangeError::Refused(Reason::OverQuota))));
    assert_eq!(kit.store().counts().unwrap().partials, 0);
    kit.assert_sound();
}

/// Runs the test below in a mount namespace of its own, on a file system of 6 MiB.
#[test]
fn on_a_disk_that_is_really_full_nothing_breaks_and_deleting_works() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=6m none "$1" && exec "$2" --exact --ignored --nocapture space::on_a_small_disk"#;
    let run = |flags: &str| {
        std::process::Command::new("unshare")
            .args([flags, "sh", "-c", script, "sh"])
            .arg(folder.path())
            .arg(std::env::current_exe().unwrap())
            .env("WAYPOST_SMALL_DISK", folder.path())
            .output()
    };
    // As root a mount namespace is enough; others need a user namespace for it.
    let probe = |flags: &str| {
        let output = std::process::Command::new("unshare").args([flags, "true"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let Some(flags) = ["-rm", "-m"].into_iter().find(|flags| probe(flags)) else {
        eprintln!("skipped: this system lets nobody mount (unshare -rm)");
        return;
    };
    let output = run(flags).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "runs within the test above"]
fn on_a_small_disk() {
    let Some(disk) = std::env::var_os("WAYPOST_SMALL_DISK") else { return };
    let folder = std::path::Path::new(&disk).join("store");
    // Admission by a false disk, so that the writes themselves run into the end.
    let mut kit = Kit::new();
    let options = Options { reserve: 1 << 20, ..kit.options.clone() };
    let open = |options: &Options| Store::open(&folder, &Kit::key(), options.clone()).unwrap();
    let store = open(&options);
    let reserve = folder.join("reserve");
    assert_eq!(reserve.metadata().unwrap().len(), 1 << 20);
    let mut stored = Vec::new();
    let refusal = loop {
        let document = document(stored.len() as u64, 100_000);
        match store.apply_one(deposit(&document, None)) {
            Ok(_) => stored.push(document),
            Err(error) => break error,
        }
    };
    assert_eq!(refusal.reason(), Reason::OverQuota, "{refusal}");
    assert!(stored.len() > 20, "{}", stored.len());
    assert!(reserve.exists(), "documents must not use the reserve");
    // Whatever is left is eaten by somebody else.
    let junk = std::path::Path::new(&disk).join("junk");
    let _ = std::fs::write(&junk, vec![1; 6 << 20]);
    assert_eq!(store.check().unwrap(), vec![]);
    // What is no document may use the reserve.
    for n in 0.. {
        store.apply_one(Change::Put { key: format!("setting {n}"), value: Some(vec![0; 50_000]) }).unwrap();
        if !reserve.exists() {
            break;
        }
    }
    for document in &stored {
        store.apply_one(Change::Delete { id: document.id() }).unwrap();
    }
    while store.sweep(1000).unwrap().more {}
    drop(store);
    std::fs::remove_file(&junk).unwrap();
    let store = open(&Options { disk: std::sync::Arc::new(SystemDisk), ..options.clone() });
    assert_eq!(store.check().unwrap(), vec![]);
    for n in 0..10 {
        store.apply_one(deposit(&document(1000 + n, 100_000), None)).unwrap();
    }
    assert_eq!(store.check().unwrap(), vec![]);
    drop(store);
    kit.close();
}
