//! A destination that has no room says so, everything waits at the gateway, and goes on when there is some.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use waypost_tests::lossy_fs::{LossyDisk, Mounted};
use waypost_tests::scenario::{Destination, Gateway, Phone, content, folder, wait_until};

const MIB: usize = 1 << 20;

#[test]
fn documents_wait_for_a_full_destination_and_are_delivered_when_it_has_room() {
    let folder = folder();
    let (disk, _mounted, destination) = on_a_disk_of_its_own(folder.path());
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

#[test]
fn a_large_document_that_there_is_no_room_for_holds_up_no_other_and_goes_when_there_is() {
    let folder = folder();
    let mut destination = Destination::make(&folder.path().join("destination"));
    let settings = destination.home().join("destination.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, text.replace("max_partials = 1000", "max_partials = 1")).unwrap();
    destination.start();
    let mut gateway = Gateway::make(&folder.path().join("gateway"), &destination);
    gateway.configure("50-quick", "[upload]\nprobe_interval = \"1s\"\nmax_backoff = \"1s\"\n");
    // An upload that this gateway began before.
    let other = "05".repeat(32);
    assert_eq!(
        tus(&destination, "POST", "", &["--header", "Upload-Length: 5000000", "--header", &named(&other)]),
        "201"
    );
    gateway.start();
    let phone = Phone::make(&folder.path().join("anna"), "anna");
    phone.add_destination(&destination);
    phone.pair(&gateway);
    let video = content(3, 6 * MIB);
    phone.add(&[("video", &video)]);
    phone.sync();
    let state = || gateway.status()["destinations"][0]["state"].clone();
    wait_until("its state", || (state() == "destination full").then_some(()));
    phone.add(&[("small.xml", b"<form/>")]);
    phone.sync();
    wait_until("the small one", || (gateway.status()["opened"] == 1).then_some(()));
    assert_eq!(destination.inbox().into_keys().collect::<Vec<_>>(), ["small.xml"]);
    assert_eq!(gateway.status()["destinations"][0]["set_aside"], serde_json::json!({}));
    assert_eq!(tus(&destination, "DELETE", &format!("/{other}"), &[]), "204");
    wait_until("the large one", || (gateway.status()["opened"] == 2).then_some(()));
    assert!(destination.inbox()["video"] == video);
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_an_upload_is_no_fault_of_the_client() {
    let folder = folder();
    let (disk, _mounted, destination) = on_a_disk_of_its_own(folder.path());
    disk.set_capacity((2 * MIB) as u64);
    let (id, bytes) = ("05".repeat(32), folder.path().join("bytes"));
    std::fs::write(&bytes, content(1, 6 * MIB)).unwrap();
    let (body, length) = (format!("@{}", bytes.display()), format!("Upload-Length: {}", 6 * MIB));
    assert_eq!(tus(&destination, "POST", "", &["--header", &length, "--header", &named(&id)]), "201");

    let part = |offset: &str| {
        let kind = "Content-Type: application/offset+octet-stream";
        let offset = format!("Upload-Offset: {offset}");
        let more = ["--header", kind, "--header", &offset, "--header", "Expect:", "--data-binary", &body];
        tus(&destination, "PATCH", &format!("/{id}"), &more)
    };
    assert_eq!(part("0"), "507", "no room");
    let head = ["--head", "--write-out", "%header{upload-offset}"];
    let kept = tus(&destination, "HEAD", &format!("/{id}"), &head);
    let count: usize = kept.parse().unwrap();
    assert!(0 < count && count < 2 * MIB, "{kept} bytes are kept");
    assert_eq!(part(&kept), "507", "still no room");
}

/// A destination that runs on a disk that can be made full.
fn on_a_disk_of_its_own(folder: &Path) -> (LossyDisk, Mounted, Destination) {
    let home = folder.join("destination");
    std::fs::create_dir(&home).unwrap();
    let disk = LossyDisk::new();
    let mounted = disk.mount(home.clone()).unwrap();
    let mut destination = Destination::make(&home);
    destination.start();
    (disk, mounted, destination)
}

/// What curl writes of a request about unfinished uploads: the status, where `more` asks for nothing else.
fn tus(destination: &Destination, method: &str, path: &str, more: &[&str]) -> String {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    curl.args(["--request", method, "--cacert"]).arg(destination.authority());
    curl.args(["--header", &format!("Authorization: Bearer {}", destination.token())]);
    curl.args(["--header", "Tus-Resumable: 1.0.0"]).args(more);
    let output = curl.arg(format!("https://{}/v1/uploads{path}", destination.address())).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The header that names an upload's document.
fn named(id: &str) -> String {
    format!("Upload-Metadata: id {}", data_encoding::BASE64.encode(id.as_bytes()))
}
