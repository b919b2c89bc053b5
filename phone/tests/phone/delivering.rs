//! The main way: sealed, at the kiosk, at the server, deleted here.

use std::time::Duration;

use waypost_protocol::confirmation::Verdict;
use waypost_protocol::ids::MessageId;

use crate::kiosk::{Kiosk, Manners};
use crate::kit::*;

#[test]
fn documents_go_from_the_phone_to_the_server_and_are_deleted_on_its_word() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners::serving(&key));
    let cli = Cli::new();
    cli.add_destination(&key);
    let paired = cli.expect(0, &["pair", &kiosk.pairing()]);
    assert!(paired.stdout.contains("paired with Test kiosk"), "{paired:?}");
    let contents = [("empty", Vec::new()), ("form.xml", b"<form/>".to_vec()), ("film.mp4", noise(3_000_000))];
    for (name, content) in &contents {
        cli.add(&cli.write(name, content));
        assert_eq!(cli.state(name), "ready");
    }
    let synced = cli.json(0, &["sync"]);
    assert_eq!(synced.events("at-kiosk").len(), 3);
    assert!(!synced.events("progress").is_empty());
    let report = synced.last();
    assert_eq!((&report["ending"], &report["transferred"]), (&"finished".into(), &3.into()), "{report}");
    assert_eq!((&report["unconfirmed"], &report["confirmations"]), (&3.into(), &0.into()));
    assert!(report["bytes_out"].as_u64().unwrap() > 3_000_000);
    let ids = kiosk.documents();
    assert_eq!(ids.len(), 3);
    for ((name, content), id) in contents.iter().zip(&ids) {
        assert_eq!(cli.state(name), "at-the-kiosk");
        let (label, opened) = kiosk.open(id, &key);
        assert!(opened == *content, "{name}");
        assert_eq!(label.file_name.as_deref(), Some(name.as_bytes()));
        assert_eq!(label.collection, "forms");
    }
    let again = cli.json(0, &["sync"]).last();
    assert_eq!((&again["ending"], &again["transferred"]), (&"nothing new".into(), &0.into()), "{again}");
    kiosk.confirm(&key, &ids, Verdict::Opened);
    let synced = cli.json(0, &["sync"]);
    assert_eq!(synced.events("confirmed").len(), 3);
    assert_eq!((&synced.last()["opened"], &synced.last()["unconfirmed"]), (&3.into(), &0.into()));
    assert!(cli.expect(0, &["list"]).stdout.contains("no documents here"));
    assert_eq!(cli.json(0, &["list"]).last()["documents"], serde_json::json!([]));
    contents.iter().for_each(|(name, _)| assert_eq!(cli.state(name), "at-the-server"));
}

#[test]
fn waiting_for_confirmations_ends_as_soon_as_they_are_there() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners::serving(&key));
    let cli = Cli::new();
    cli.add_destination(&key);
    cli.pair(&kiosk.pairing());
    cli.add(&cli.write("a.txt", b"a"));
    let begun = std::time::Instant::now();
    let said = std::thread::scope(|scope| {
        let sync = scope.spawn(|| cli.json(0, &["sync", "--wait", "30s"]));
        while kiosk.documents().is_empty() {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300));
        kiosk.confirm(&key, &kiosk.documents(), Verdict::Opened);
        sync.join().unwrap()
    });
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(said.last()["opened"], 1);
    assert_eq!(cli.state("a.txt"), "at-the-server");
}

fn sorted(ids: &[MessageId]) -> Vec<MessageId> {
    let mut ids = ids.to_vec();
    ids.sort();
    ids
}

#[test]
fn a_wiped_kiosk_gets_again_what_is_not_confirmed_and_so_does_another() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners { open: true, ..Manners::serving(&key) });
    let cli = Cli::new();
    cli.add_destination(&key);
    cli.pair(&kiosk.pairing());
    for number in 0..50 {
        cli.write(format!("forms/{number}"), format!("form {number}").as_bytes());
    }
    let files: Vec<_> = (0..50).map(|number| cli.path(format!("forms/{number}"))).collect();
    let mut add = vec![std::ffi::OsString::from("add")];
    add.extend(files.iter().map(|path| path.clone().into_os_string()));
    assert_eq!(cli.json(0, &add).last()["added"], 50);
    assert_eq!(cli.json(0, &["sync"]).last()["transferred"], 50);
    let first = kiosk.documents();
    kiosk.confirm(&key, &first[..10], Verdict::Opened);
    let kiosk = kiosk.wiped();
    assert!(kiosk.documents().is_empty());
    // The ten confirmed ones got lost with the kiosk's store, so all 50 come again, once.
    assert_eq!(cli.json(0, &["sync"]).last()["transferred"], 50);
    assert_eq!(sorted(&kiosk.documents()), sorted(&first));
    assert_eq!(cli.json(0, &["sync"]).last()["ending"], "nothing new");
    let other = Kiosk::start(Manners::serving(&key));
    kiosk.confirm(&key, &first[..20], Verdict::Opened);
    cli.expect(0, &["sync"]);
    cli.pair(&other.pairing());
    assert_eq!(sorted(&other.documents()), sorted(&first[20..]));
}

#[test]
fn a_document_that_was_deleted_does_not_go_out_and_a_draft_waits() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners::serving(&key));
    let cli = Cli::new();
    cli.add_destination(&key);
    let gone = cli.add(&cli.write("gone", b"gone"));
    let draft = cli.write("draft", &noise(2_000_000));
    let said = cli.json(0, &["add".as_ref(), "--draft".as_ref(), draft.as_os_str()]);
    let draft = said.events("added")[0]["id"].as_str().unwrap().to_owned();
    cli.expect(0, &["delete", &gone.to_string()[..16]]);
    cli.pair(&kiosk.pairing());
    assert!(kiosk.documents().is_empty());
    assert_eq!(cli.state("draft"), "draft");
    cli.expect(0, &["send", &draft[..10]]);
    let again = cli.expect(1, &["send", &draft]);
    assert!(again.stderr.contains("no draft"), "{again:?}");
    cli.expect(0, &["sync"]);
    assert_eq!(kiosk.documents(), [draft.parse().unwrap()]);
}

#[test]
fn a_kiosk_is_found_on_the_local_network_without_knowing_its_address() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners::serving(&key));
    let port = kiosk.address.rsplit(':').next().unwrap().parse().unwrap();
    let _announcement = waypost_lan::announce("Test kiosk", &kiosk.key().as_bytes()[..4], port).unwrap();
    let cli = Cli::new();
    cli.add_destination(&key);
    cli.add(&cli.write("form", b"form"));
    let near = cli.json(0, &["gateways", "--lan", "--seconds", "2"]).last();
    let near = near["near"].as_array().unwrap();
    assert!(near.iter().any(|one| one["name"] == "Test kiosk"), "{near:?}");
    cli.pair(&kiosk.pairing_without_address());
    assert_eq!(kiosk.documents().len(), 1);
}
