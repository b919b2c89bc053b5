//! The backhaul or the server is lost between an upload and its answer: the gateway asks first, and sends nothing twice.

use std::collections::BTreeMap;

use serde_json::Value;
use waypost_tests::proxy::Direction;
use waypost_tests::scenario::{Phone, Site, content, wait_until};

const PHOTO: usize = 1_000_000;

/// Bytes that the gateway has sent towards its destination.
fn uploaded(site: &Site) -> u64 {
    site.destination.backhaul.counts(Direction::ToTarget).bytes
}

fn log(site: &Site) -> String {
    std::fs::read_to_string(site.gateway.log()).unwrap()
}

/// The destination's confirmations, as files.
fn confirmations(site: &Site) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(site.destination.confirmations()).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

/// A site whose gateway has delivered a first document, so that its connection stands and it knows the server.
fn warm() -> (Site, Phone) {
    let site = Site::start();
    let phone = site.paired_phone("anna");
    phone.add(&[("first.xml", b"<form/>")]);
    phone.run(&["sync", "--wait", "30s"]);
    (site, phone)
}

#[test]
fn an_answer_that_is_lost_is_asked_for_and_nothing_is_uploaded_again() {
    let (site, phone) = warm();
    phone.add(&[("photo.jpg", &content(1, PHOTO))]);
    let before = uploaded(&site);
    // The connection stands, so that the next that comes from the server is its answer: its first bytes pass, then the
    // backhaul is gone.
    site.destination.backhaul.cut_after(Direction::FromTarget, 20);
    phone.sync();
    wait_until("the loss", || log(&site).contains("ambiguous=true").then_some(()));
    site.destination.backhaul.refuse(true);
    let lost = log(&site);
    assert!(lost.contains("may have some of it"), "{lost}");
    let first = uploaded(&site) - before;
    assert!(first as usize > PHOTO, "the request was not sent whole: {first} bytes");
    wait_until("the server's side", || (site.destination.inbox().len() == 2).then_some(()));
    let signed = confirmations(&site);
    let status = site.gateway.status();
    assert_eq!((&status["waiting"], &status["opened"]), (&1.into(), &1.into()), "nothing is known yet");

    site.destination.backhaul.refuse(false);
    wait_until("the verdicts", || (site.gateway.status()["opened"] == 2).then_some(()));
    let again = uploaded(&site) - before - first;
    assert!((again as usize) < PHOTO / 50, "{again} bytes were sent after the loss");
    assert_eq!(site.destination.run(&["status"]).last()["documents"]["opened"], 2);
    assert_eq!(site.destination.inbox().len(), 2);
    assert!(confirmations(&site) == signed, "the same documents were confirmed anew");
    phone.sync();
    assert_eq!(phone.list(false), [] as [Value; 0]);
}

#[test]
fn an_upload_that_was_open_when_the_gateway_lost_power_is_asked_about_first() {
    let (mut site, phone) = warm();
    let photo = content(1, PHOTO);
    phone.add(&[("photo.jpg", &photo)]);
    let before = uploaded(&site);
    site.destination.backhaul.cut_after(Direction::FromTarget, 20);
    phone.sync();
    wait_until("the server's side", || (site.destination.inbox().len() == 2).then_some(()));
    site.gateway.kill9();
    let first = uploaded(&site) - before;
    assert!(first as usize > photo.len());

    site.gateway.start();
    wait_until("the verdict", || (site.gateway.status()["waiting"] == 0).then_some(()));
    let again = uploaded(&site) - before - first;
    assert!((again as usize) < PHOTO / 50, "{again} bytes were sent after the power cut");
    assert_eq!(site.destination.run(&["status"]).last()["documents"]["opened"], 2);
    phone.sync();
    assert_eq!(phone.list(false), [] as [Value; 0]);
}

#[test]
fn a_server_that_dies_after_it_stored_some_gets_only_the_rest() {
    let (mut site, phone) = warm();
    const FORMS: usize = 200;
    let forms: BTreeMap<String, Vec<u8>> =
        (0..FORMS as u64).map(|number| (format!("form-{number:03}.xml"), content(number, 4_000))).collect();
    let named: Vec<(&str, &[u8])> = forms.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
    phone.add(&named);
    site.destination.backhaul.refuse(true);
    site.destination.backhaul.cut();
    phone.sync();
    let before = uploaded(&site);
    site.destination.backhaul.refuse(false);
    // Documents are committed as they arrive, long before the answer.
    wait_until("some of them", || (site.destination.inbox().len() > 20).then_some(()));
    site.destination.kill9();
    let stored = site.destination.inbox().len() - 1;
    assert!(stored <= FORMS);
    wait_until("the loss", || log(&site).contains("ambiguous=true").then_some(()));
    let opened = site.gateway.status()["opened"].clone();
    assert!(opened == 1 || stored == FORMS, "{opened} opened of {stored} stored");

    site.destination.start();
    wait_until("the verdicts", || (site.gateway.status()["opened"] == FORMS + 1).then_some(()));
    let mut expected = forms;
    expected.insert("first.xml".into(), b"<form/>".to_vec());
    assert_eq!(site.destination.inbox().len(), expected.len(), "a file is there twice or not at all");
    assert!(site.destination.inbox() == expected);
    assert_eq!(site.destination.run(&["status"]).last()["documents"]["opened"], FORMS + 1);
    let sent = uploaded(&site) - before;
    assert!(sent < 2 * FORMS as u64 * 4_000, "{sent} bytes for {FORMS} forms of 4,000");
    phone.sync();
    assert_eq!(phone.list(false), [] as [Value; 0]);
}

#[test]
fn documents_wait_at_the_kiosk_while_there_is_no_backhaul_and_go_by_themselves_when_it_is_back() {
    let site = Site::start();
    let phone = site.paired_phone("anna");
    site.destination.backhaul.refuse(true);
    phone.add(&[("form.xml", b"<form/>")]);
    phone.sync();
    let trouble = wait_until("the trouble", || {
        let status = site.gateway.status();
        status["destinations"][0]["trouble"].as_str().map(str::to_owned)
    });
    assert!(trouble.contains("127.0.0.1"), "{trouble}");
    assert_eq!(site.gateway.status()["waiting"], 1);
    assert!(site.destination.inbox().is_empty());
    site.destination.backhaul.refuse(false);
    wait_until("the verdict", || (site.gateway.status()["opened"] == 1).then_some(()));
    let destination = &site.gateway.status()["destinations"][0];
    assert_eq!(
        (&destination["trouble"], &destination["state"]),
        (&Value::Null, &"ok".into()),
        "{destination}"
    );
}
