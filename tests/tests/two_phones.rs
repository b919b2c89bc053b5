//! Phones carry documents for each other: to a kiosk and the confirmations back, without anything arriving twice.

use serde_json::Value;
use waypost_phone::Phone as PhoneLibrary;
use waypost_tests::process::Process;
use waypost_tests::proxy::Direction;
use waypost_tests::scenario::{PATIENCE, Phone, Ran, Site, content, wait_until};

/// A phone that waits for another one: the process, the text that it shows, and where it is.
fn listen(phone: &Phone) -> (Process, String, String) {
    let command = phone.command(&["listen", "--listen", "127.0.0.1:0", "--once"]);
    let mut process = Process::start(command, phone.home().with_extension("log")).unwrap();
    let line: Value = serde_json::from_str(&process.wait_for("\"listening\"", PATIENCE).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (process, text(&line["text"]), text(&line["addresses"][0]))
}

/// `from` hands its documents to `to`, who has shown its code.
fn meet(from: &Phone, to: &Phone) -> Ran {
    let (mut process, text, _) = listen(to);
    let ran = from.run(&["sync", "--phone", &text]);
    assert!(process.wait(PATIENCE).unwrap().success(), "{}", process.output());
    ran
}

fn states(phone: &Phone) -> Vec<Value> {
    phone.list(false).iter().map(|one| one["state"].clone()).collect()
}

fn opened_at_the_destination(site: &Site) -> Value {
    site.destination.run(&["status"]).last()["documents"]["opened"].clone()
}

#[test]
fn a_phone_carries_anothers_documents_to_the_kiosk_and_the_confirmations_back() {
    let site = Site::start();
    let (anna, bela) = (site.new_phone("anna"), site.paired_phone("bela"));
    anna.add_destination(&site.destination);
    let photo = content(1, 100_000);
    let files: [(&str, &[u8]); 3] = [("form.xml", b"<form/>"), ("photo.jpg", &photo), ("empty", b"")];
    let ids = anna.add(&files);

    let ran = meet(&anna, &bela);
    assert_eq!((&ran.last()["transferred"], ran.events("with-phone").count()), (&3.into(), 3), "{ran:#?}");
    assert_eq!(states(&anna), ["ready"; 3]);
    assert_eq!(anna.list(false)[0]["why"], "carried by bela");
    assert!(bela.list(true).is_empty(), "another's documents are shown as its own");

    assert_eq!(bela.sync()["transferred"], 3);
    wait_until("the verdicts", || (site.gateway.status()["opened"] == 3).then_some(()));
    let expected = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    assert_eq!(site.destination.inbox(), expected);
    bela.sync();
    // What it carried is done with.
    assert_eq!(PhoneLibrary::open(bela.home()).unwrap().store().counts().unwrap().body_bytes, 0);

    // They meet again, and know each other by now.
    let (mut process, _, address) = listen(&bela);
    let ran = anna.run(&["sync", "--phone", "bela", "--address", &address]);
    assert!(process.wait(PATIENCE).unwrap().success(), "{}", process.output());
    assert_eq!((&ran.last()["opened"], ran.events("confirmed").count()), (&3.into(), 3), "{ran:#?}");
    assert_eq!(anna.list(false), [] as [Value; 0]);
    for id in ids {
        assert_eq!(anna.run(&["confirmations", &id]).last()["confirmations"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_document_that_comes_by_two_ways_is_delivered_once_and_costs_no_second_transfer() {
    let site = Site::start();
    let (anna, bela) = (site.paired_phone("anna"), site.paired_phone("bela"));
    let photos: Vec<Vec<u8>> = (0..2).map(|seed| content(seed, 150_000)).collect();
    anna.add(&[("first.jpg", &photos[0]), ("second.jpg", &photos[1])]);
    meet(&anna, &bela);
    site.destination.backhaul.refuse(true);
    assert_eq!(bela.sync()["transferred"], 2);

    // The author comes as well, before there is a verdict.
    let before = site.gateway.link.counts(Direction::ToTarget).bytes;
    let report = anna.sync();
    assert_eq!((&report["transferred"], &report["already_held"]), (&0.into(), &2.into()), "{report}");
    let sent = site.gateway.link.counts(Direction::ToTarget).bytes - before;
    assert!(sent < 3_000, "{sent} bytes for documents that are there already");
    assert_eq!(states(&anna), ["at-the-kiosk"; 2]);
    assert_eq!(site.gateway.documents().len(), 2);

    // Both are told, and the destination has each once.
    site.destination.backhaul.refuse(false);
    wait_until("the verdicts", || (site.gateway.status()["opened"] == 2).then_some(()));
    assert_eq!(anna.sync()["opened"], 2);
    assert_eq!(anna.list(false), [] as [Value; 0]);
    bela.sync();
    assert_eq!(opened_at_the_destination(&site), 2);
    assert_eq!(site.destination.inbox().len(), 2);

    // Who carries a document that the destination has spoken on brings its confirmation instead.
    let third = anna.add(&[("third.xml", b"<form/>")]);
    meet(&anna, &bela);
    anna.run(&["sync", "--wait", "30s"]);
    assert_eq!(anna.list(false), [] as [Value; 0]);
    let report = bela.sync();
    assert_eq!((&report["transferred"], &report["already_held"]), (&0.into(), &1.into()), "{report}");
    assert_eq!(PhoneLibrary::open(bela.home()).unwrap().store().counts().unwrap().body_bytes, 0);
    assert_eq!((third.len(), opened_at_the_destination(&site)), (1, 3.into()));
}
