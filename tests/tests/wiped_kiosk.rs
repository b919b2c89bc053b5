//! A kiosk that has acknowledged documents and then loses its store: they are all delivered all the same, once.

use std::collections::BTreeMap;

use serde_json::Value;
use waypost_tests::scenario::{Gateway, Phone, Site, content, wait_until};

const FORMS: usize = 50;

fn forms() -> BTreeMap<String, Vec<u8>> {
    (0..FORMS).map(|number| (format!("form-{number:02}.xml"), content(number as u64, 700))).collect()
}

/// The phone hands 50 forms to the kiosk while there is no backhaul.
fn deposit(site: &Site, phone: &Phone) {
    site.destination.backhaul.refuse(true);
    let forms = forms();
    let named: Vec<(&str, &[u8])> = forms.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
    phone.add(&named);
    assert_eq!(phone.sync()["transferred"], FORMS);
    assert_eq!(at_the_kiosk(phone), FORMS);
}

fn at_the_kiosk(phone: &Phone) -> usize {
    phone.list(false).iter().filter(|one| one["state"] == "at-the-kiosk").count()
}

/// The card is replaced: the store is gone, the kiosk's key is not.
fn wipe(gateway: &mut Gateway) {
    gateway.kill9();
    std::fs::remove_dir_all(gateway.folder().join("store")).unwrap();
    gateway.start();
    assert!(gateway.documents().is_empty());
}

fn delivered(site: &Site, phone: &Phone) {
    wait_until("the verdicts", || (site.destination.inbox().len() == FORMS).then_some(()));
    phone.run(&["sync", "--wait", "30s"]);
    assert_eq!(site.destination.inbox(), forms());
    assert_eq!(site.destination.run(&["status"]).last()["documents"]["opened"], FORMS);
    assert_eq!(phone.list(false), [] as [Value; 0]);
}

#[test]
fn at_the_next_contact_everything_that_is_unconfirmed_goes_there_again() {
    let site = Site::start();
    let phone = site.new_phone("anna");
    phone.add_destination(&site.destination);
    // Listed by its key, the phone needs no new introduction.
    let key = phone.run(&["status"]).last()["key"].as_str().unwrap().to_owned();
    site.gateway.configure("40-access", &format!("[access]\nmode = \"listed\"\nlisted = [\"{key}\"]\n"));
    let code = site.gateway.pairing_code();
    site.gateway.run(&["reload"]);
    phone.run(&["pair", &code]);
    let mut site = site;
    deposit(&site, &phone);
    wipe(&mut site.gateway);
    let report = phone.sync();
    assert_eq!(report["transferred"], FORMS, "{report}");
    assert_eq!(phone.sync()["ending"], "nothing new");
    site.destination.backhaul.refuse(false);
    delivered(&site, &phone);
}

#[test]
fn a_phone_that_the_wiped_kiosk_forgot_is_told_to_pair_and_then_everything_goes() {
    let mut site = Site::start();
    let phone = site.paired_phone("anna");
    deposit(&site, &phone);
    wipe(&mut site.gateway);
    let ran = phone.try_run(&["sync"]);
    assert_eq!((ran.status.code(), &ran.last()["ending"]), (Some(1), &"turned away".into()), "{ran:#?}");
    assert!(ran.last()["why"].as_str().unwrap().contains("scan its QR code"), "{ran:#?}");
    phone.pair(&site.gateway);
    site.destination.backhaul.refuse(false);
    phone.sync();
    delivered(&site, &phone);
}

#[test]
fn another_kiosk_delivers_everything_in_its_place() {
    let mut site = Site::start();
    let phone = site.paired_phone("anna");
    deposit(&site, &phone);
    wipe(&mut site.gateway);
    site.gateway.stop();
    let mut other = site.another_gateway("other");
    other.configure("05-name", "name = \"Other kiosk\"\n");
    other.stop();
    other.start();
    site.destination.backhaul.refuse(false);
    phone.pair(&other);
    phone.sync();
    delivered(&site, &phone);

    // The first one comes back as it was before: what it brings arrived long ago.
    site.gateway.start();
    phone.pair(&site.gateway);
    phone.run(&["sync", "--to", "Test kiosk"]);
    assert_eq!(site.destination.run(&["status"]).last()["documents"]["opened"], FORMS);
}

#[test]
fn two_kiosks_that_hold_the_same_documents_deliver_them_once() {
    let site = Site::start();
    let phone = site.paired_phone("anna");
    deposit(&site, &phone);
    let other = site.another_gateway("other");
    phone.pair(&other);
    wait_until("all of them at the other kiosk", || (other.status()["waiting"] == FORMS).then_some(()));
    site.destination.backhaul.refuse(false);
    for gateway in [&site.gateway, &other] {
        wait_until("its verdicts", || (gateway.status()["opened"] == FORMS).then_some(()));
    }
    delivered(&site, &phone);
}

#[test]
fn a_kiosk_with_a_new_key_is_another_one_and_the_phone_says_what_to_do() {
    let mut site = Site::start();
    let phone = site.paired_phone("anna");
    deposit(&site, &phone);
    site.gateway.stop();
    std::fs::remove_dir_all(site.gateway.folder().join("store")).unwrap();
    std::fs::remove_file(site.gateway.folder().join("identity.key")).unwrap();
    site.gateway.start();
    let ran = phone.try_run(&["sync"]);
    assert_eq!((ran.status.code(), &ran.last()["ending"]), (Some(1), &"failed".into()), "{ran:#?}");
    let why = ran.last()["why"].as_str().unwrap();
    assert!(why.contains("another kiosk") && why.contains("scan its QR code"), "{why}");
    assert_eq!(at_the_kiosk(&phone), FORMS, "nothing is deleted for it");
    phone.pair(&site.gateway);
    site.destination.backhaul.refuse(false);
    phone.sync();
    delivered(&site, &phone);
}
