//! A phone whose destination the kiosk does not serve is told so, and keeps everything ready.

use serde_json::Value;
use waypost_tests::proxy::Direction;
use waypost_tests::scenario::{Destination, Phone, Site, program, wait_until};

fn add(phone: &Phone, to: &Destination, folder: &std::path::Path, name: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, name.repeat(2_000)).unwrap();
    let added = phone.run(&["add", "--destination", to.fingerprint(), file.to_str().unwrap()]);
    added.events("added").next().unwrap()["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_phone_is_told_that_its_destination_is_not_served_and_sends_nothing_for_it() {
    let site = Site::start();
    let other = site.another_destination("other");
    let phone = site.paired_phone("anna");
    phone.add_destination(&other);
    let ids = [add(&phone, &other, site.folder(), "one.xml"), add(&phone, &other, site.folder(), "two.xml")];
    let sent_before = site.gateway.link.counts(Direction::ToTarget).bytes;

    let ran = phone.try_run(&["sync"]);
    assert_eq!(ran.status.code(), Some(3), "{ran:#?}");
    let not_served = |report: &Value| {
        let all = report["not_served"].as_array().unwrap();
        assert_eq!(all.len(), 1, "{report}");
        (all[0]["destination"].as_str().unwrap().to_owned(), all[0]["documents"].as_u64().unwrap())
    };
    assert_eq!(not_served(ran.last()), (other.fingerprint().to_owned(), 2));
    assert_eq!(ran.last()["transferred"], 0);
    // Less than a document would take, even if it were offered only: a handshake, hellos and reports.
    let sent = site.gateway.link.counts(Direction::ToTarget).bytes - sent_before;
    assert!(sent < 600, "{sent} bytes went to a gateway that wants nothing");
    assert!(site.gateway.documents().is_empty());
    for one in phone.list(false) {
        assert_eq!((&one["state"], &one["why"]), (&"ready".into(), &"".into()), "{one}");
    }

    let said = std::process::Command::new(program("waypost-phone"))
        .arg("--home")
        .arg(phone.home())
        .arg("sync")
        .output()
        .unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("takes nothing for") && said.contains("2 documents stay here"), "{said}");

    // What else there is goes all the same.
    add(&phone, &site.destination, site.folder(), "three.xml");
    let ran = phone.try_run(&["sync", "--wait", "20s"]);
    assert_eq!((ran.last()["opened"].as_u64(), not_served(ran.last()).1), (Some(1), 2), "{ran:#?}");
    assert_eq!(site.destination.inbox().into_keys().collect::<Vec<_>>(), ["three.xml"]);

    // Once the admin has added the destination, nothing needs to be done on the phone.
    site.gateway.serve_also("other", &other);
    site.gateway.run(&["reload"]);
    let ran = phone.run(&["sync", "--wait", "20s"]);
    assert_eq!((&ran.last()["transferred"], &ran.last()["opened"]), (&2.into(), &2.into()), "{ran:#?}");
    wait_until("both files", || (other.inbox().len() == ids.len()).then_some(()));
    assert!(phone.list(false).is_empty());
}
