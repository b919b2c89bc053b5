//! The way of a document over a whole site, in one scenario: sealed, at the kiosk, at the server, deleted on the phone.

use waypost_tests::scenario::{Site, content};

#[test]
fn a_document_goes_from_phone_over_gateway_to_destination_and_its_confirmation_back() {
    let mut site = Site::start();
    let phone = site.paired_phone("anna");
    let photo = content(1, 300_000);
    let ids = phone.add(&[("form.xml", b"<form/>"), ("photos/roof.jpg", &photo)]);
    site.destination.backhaul.refuse(true);
    let report = phone.sync();
    assert_eq!(report["transferred"], 2, "{report:#}");
    assert_eq!(site.gateway.documents().len(), 2);

    site.gateway.kill9();
    site.destination.backhaul.refuse(false);
    site.gateway.start();
    let report = phone.run(&["sync", "--wait", "30s"]);
    assert_eq!(report.last()["opened"], 2, "{report:#?}");
    assert_eq!(phone.list(false).len(), 0);
    let gone = phone.list(true);
    assert!(ids.iter().all(|id| gone.iter().any(|one| one["id"] == **id && one["state"] == "at-the-server")));
    let inbox = site.destination.inbox();
    assert_eq!(inbox.len(), 2);
    assert!(inbox["photos/roof.jpg"] == photo);
    assert!(site.gateway.findings().is_empty());
    assert!(site.gateway.stop().success() && site.destination.stop().success());
}
