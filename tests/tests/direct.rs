//! A phone with internet delivers by itself; what a kiosk holds as well is stored once, whoever comes first.

use std::time::Duration;

use serde_json::{Value, json};
use waypost_tests::proxy::Direction;
use waypost_tests::scenario::{Phone, Site, content, damage_body, wait_until};

/// Lets the phone deliver by itself, by a way of its own that is not the kiosk's backhaul.
fn with_internet(site: &Site, phone: &Phone, name: &str) {
    let code =
        site.destination.run(&["phone-code", "--token", name]).last()["text"].as_str().unwrap().to_owned();
    let url = format!("https://{}", site.destination.address());
    let ca = site.destination.authority();
    phone.run(&["destination", "add", &code, "--ca", ca.to_str().unwrap(), "--yes", "--url", &url]);
}

fn opened_at_the_destination(site: &Site) -> Value {
    site.destination.run(&["status"]).last()["documents"]["opened"].clone()
}

#[test]
fn a_phone_with_internet_delivers_and_deletes_on_the_destinations_word() {
    let site = Site::start();
    let phone = site.new_phone("anna");
    with_internet(&site, &phone, "phones");
    let photo = content(1, 2_000_000);
    phone.add(&[("form.xml", b"<form/>"), ("photo.jpg", &photo), ("empty", b"")]);
    let ran = phone.run(&["sync", "--direct"]);
    let report = ran.last();
    assert_eq!((&report["opened"], &report["medium"]), (&3.into(), &"https".into()), "{ran:#?}");
    assert_eq!(phone.list(false), [] as [Value; 0]);
    let files =
        [("empty".to_owned(), vec![]), ("form.xml".into(), b"<form/>".to_vec()), ("photo.jpg".into(), photo)];
    assert_eq!(site.destination.inbox(), files.into());
    assert_eq!(phone.run(&["sync", "--direct"]).last()["ending"], "nothing new");

    // Where nobody answers it says so, and keeps what it has.
    phone.add(&[("later.xml", b"<form/>")]);
    let mut site = site;
    site.destination.stop();
    let ran = phone.try_run(&["sync", "--direct"]);
    assert_eq!((ran.status.code(), &ran.last()["ending"]), (Some(1), &json!("not reached")), "{ran:#?}");
    assert!(ran.last()["why"].as_str().unwrap().contains("cannot connect"), "{ran:#?}");
    assert_eq!(phone.list(false)[0]["state"], "ready");
}

#[test]
fn a_large_document_that_was_cut_off_goes_on_where_it_was() {
    let site = Site::start();
    let phone = site.new_phone("anna");
    let code = site.destination.run(&["phone-code", "--token", "phones"]);
    let code = code.last()["text"].as_str().unwrap().to_owned();
    // Through the proxy, which cuts.
    let ca = site.destination.authority();
    phone.run(&["destination", "add", &code, "--ca", ca.to_str().unwrap(), "--yes"]);
    let video = content(1, 6_000_000);
    phone.add(&[("video.mp4", &video)]);
    // Held before it is cut, so that the server has read what came: what it had not is lost with the connection.
    let line = &site.destination.backhaul;
    let sent = || line.counts(Direction::ToTarget).bytes;
    std::thread::scope(|scope| {
        scope.spawn(|| phone.try_run(&["sync", "--direct"]));
        while sent() < 2_000_000 {
            std::thread::sleep(Duration::from_millis(1));
        }
        line.pause(true);
        std::thread::sleep(Duration::from_secs(1));
        assert!(sent() < 5_000_000, "it was too late to cut: {}", sent());
        line.cut();
        line.pause(false);
    });
    if phone.list(false) != [] as [Value; 0] {
        phone.run(&["sync", "--direct"]);
    }
    assert!(site.destination.inbox()["video.mp4"] == video);
    let sent = sent();
    println!("{sent} bytes for {}", video.len());
    assert!(sent < 6_500_000, "{sent}");
}

#[test]
fn what_a_kiosk_holds_as_well_is_not_uploaded_once_the_phone_tells_it() {
    let site = Site::start();
    let phone = site.paired_phone("anna");
    with_internet(&site, &phone, "phones");
    site.destination.backhaul.refuse(true);
    let photo = content(1, 300_000);
    phone.add(&[("photo.jpg", &photo)]);
    assert_eq!(phone.sync()["transferred"], 1);
    assert_eq!(phone.list(false)[0]["state"], "at-the-kiosk");
    assert_eq!(phone.run(&["sync", "--direct"]).last()["opened"], 1);

    // The kiosk is still cut off; it believes the destination's signature, not the phone.
    phone.sync();
    let status = site.gateway.status();
    assert_eq!((&status["waiting"], &status["opened"]), (&0.into(), &1.into()), "{status}");
    assert_eq!(site.gateway.documents()[0]["has_body"], false);
    let before = site.destination.backhaul.counts(Direction::ToTarget).bytes;
    site.destination.backhaul.refuse(false);
    let small = phone.add(&[("form.xml", b"<form/>")]);
    phone.run(&["sync", "--to", "Test kiosk", "--wait", "30s"]);
    let sent = site.destination.backhaul.counts(Direction::ToTarget).bytes - before;
    assert!(sent < 20_000, "{sent} bytes over the backhaul for a form");
    assert_eq!((small.len(), opened_at_the_destination(&site)), (1, 2.into()));
}

#[test]
fn what_arrives_by_phone_and_by_kiosk_is_stored_once_with_the_same_confirmation() {
    let site = Site::start();
    let phone = site.paired_phone("anna");
    with_internet(&site, &phone, "phones");
    site.destination.backhaul.refuse(true);
    let ids = phone.add(&[("photo.jpg", &content(1, 300_000)), ("form.xml", b"<form/>")]);
    phone.sync();
    assert_eq!(phone.run(&["sync", "--direct"]).last()["opened"], 2);
    let confirmations = || {
        let mut all: Vec<String> = std::fs::read_dir(site.destination.confirmations())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    };
    let before = confirmations();
    // The kiosk's backhaul comes back before the phone does.
    site.destination.backhaul.refuse(false);
    wait_until("the kiosk's verdicts", || (site.gateway.status()["opened"] == 2).then_some(()));
    assert_eq!(opened_at_the_destination(&site), 2);
    assert_eq!(site.destination.inbox().len(), 2);
    assert_eq!(confirmations(), before, "the verdicts were signed again");

    // The other way round: the kiosk was first, and the phone asks before it sends.
    site.destination.backhaul.refuse(true);
    let photo = content(2, 1_000_000);
    phone.add(&[("second.jpg", &photo)]);
    phone.sync();
    site.destination.backhaul.refuse(false);
    wait_until("the kiosk's verdict", || (site.gateway.status()["opened"] == 3).then_some(()));
    let ran = phone.run(&["sync", "--direct"]);
    let report = ran.last();
    assert_eq!(
        (&report["opened"], &report["transferred"], &report["already_held"]),
        (&1.into(), &0.into(), &1.into())
    );
    assert!(report["bytes_out"].as_u64().unwrap() < 10_000, "{report}");
    assert_eq!(phone.list(false), [] as [Value; 0]);
    assert_eq!((ids.len(), site.destination.inbox().len()), (2, 3));
}

#[test]
fn documents_that_are_damaged_on_the_phone_hold_back_no_others() {
    let site = Site::start();
    let phone = site.new_phone("anna");
    with_internet(&site, &phone, "phones");
    let photo = content(1, 2_000_000);
    let mut files: Vec<(String, Vec<u8>)> =
        (0..10).map(|number| (format!("form-{number}.xml"), content(number, 2_000))).collect();
    files.insert(5, ("photo.jpg".into(), photo));
    let named: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
    let ids = phone.add(&named);
    for bad in [3, 5] {
        damage_body(&phone.home().join("store"), bad);
    }
    let ran = phone.try_run(&["sync", "--direct"]);
    assert_eq!((ran.status.code(), &ran.last()["opened"]), (Some(3), &9.into()), "{ran:#?}");
    let mut refused: Vec<String> = ran.events("refused").map(|event| event["id"].to_string()).collect();
    let mut left: Vec<String> = phone.list(false).iter().map(|one| one["id"].to_string()).collect();
    refused.sort();
    left.sort();
    assert_eq!(
        (refused.len(), &refused),
        (2, &left),
        "those that are damaged are named, and stay; none other does"
    );
    assert!(ids.iter().any(|id| refused.contains(&Value::from(id.clone()).to_string())));
    assert_eq!(site.destination.inbox().len(), 9);
    assert_eq!(opened_at_the_destination(&site), 9);
}
