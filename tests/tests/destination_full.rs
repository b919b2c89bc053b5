//! A destination that has no room says so, everything waits at the gateway, and goes on when there is some.

use serde_json::Value;
use waypost_tests::lossy_fs::LossyDisk;
use waypost_tests::scenario::{Destination, Gateway, Phone, content, folder, wait_until};

const MIB: usize = 1 << 20;

#[test]
fn documents_wait_for_a_full_destination_and_are_delivered_when_it_has_room() {
    let folder = folder();
    let home = folder.path().join("destination");
    std::fs::create_dir(&home).unwrap();
    let disk = LossyDisk::new();
    let _mounted = disk.mount(home.clone()).unwrap();
    let mut destination = Destination::make(&home);
    destination.start();
    let mut gateway = Gateway::make(&folder.path().join("gateway"), &destination);
    gateway.configure("50-quick", "[upload]\nprobe_interval = \"1s\"\nmax_backoff = \"1s\"\n");
    gateway.start();
    let phone = Phone::make(&folder.path().join("anna"), "anna");
    phone.add_destination(&destination);
    phone.pair(&gateway);
    phone.add(&[("small.xml", b"<form/>")]);
    phone.run(&["sync", "--wait", "30s"]);

    disk.set_capacity((2 * MIB) as u64);
    // Small ones in a batch, and one that goes by parts.
    let files = [("one", content(1, MIB)), ("two", content(2, MIB)), ("video", content(3, 6 * MIB))];
    phone.add(&files.each_ref().map(|(name, bytes)| (*name, &bytes[..])));
    phone.sync();
    let status = wait_until("its state", || {
        let status = gateway.status();
        (status["destinations"][0]["state"] == "destination full").then_some(status)
    });
    let trouble = status["destinations"][0]["trouble"].as_str().unwrap();
    assert!(trouble.contains("its admin must free some"), "{trouble}");
    let log = std::fs::read_to_string(gateway.log()).unwrap();
    assert!(log.contains("destination is destination full"), "{log}");
    assert!(status["waiting"].as_u64().unwrap() >= 1, "{status}");
    assert_eq!(status["destinations"][0]["set_aside"], serde_json::json!({}), "nothing is given up");

    disk.set_capacity((200 * MIB) as u64);
    wait_until("the rest", || (gateway.status()["opened"] == 4).then_some(()));
    phone.sync();
    assert_eq!(phone.list(false), [] as [Value; 0]);
    let inbox = destination.inbox();
    assert!(files.iter().all(|(name, bytes)| inbox[*name] == *bytes));
}
