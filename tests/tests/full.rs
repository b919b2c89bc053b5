//! A full disk, a full map: documents are refused with a reason that people see, nothing breaks, deleting works,
//! confirmations still flow, and all goes on when there is room again.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use serde_json::Value;
use tempfile::TempDir;
use waypost_tests::lossy_fs::{LossyDisk, Mounted};
use waypost_tests::proxy::{Direction, Frame, Moment, Then};
use waypost_tests::scenario::{Destination, Gateway, Phone, content, folder, wait_until};

const MIB: usize = 1 << 20;

/// A site whose gateway has its store on a disk of its own; the backhaul is cut at first.
struct Scene {
    gateway: Gateway,
    destination: Destination,
    mounted: Mounted,
    folder: TempDir,
}

impl Scene {
    fn set(configuration: &str, capacity: usize) -> Self {
        let folder = folder();
        let mut destination = Destination::make(&folder.path().join("destination"));
        destination.start();
        let mut gateway = Gateway::make(&folder.path().join("gateway"), &destination);
        gateway.configure("scenario", configuration);
        let store = gateway.folder().join("store");
        std::fs::create_dir(&store).unwrap();
        let disk = LossyDisk::new();
        disk.set_capacity(capacity as u64);
        let mounted = disk.mount(store).unwrap();
        gateway.start();
        destination.backhaul.refuse(true);
        Scene { gateway, destination, mounted, folder }
    }

    fn disk(&self) -> &LossyDisk {
        self.mounted.disk()
    }

    fn phone(&self, name: &str) -> Phone {
        let phone = Phone::make(&self.folder.path().join(name), name);
        phone.add_destination(&self.destination);
        phone.pair(&self.gateway);
        phone
    }

    #[track_caller]
    fn assert_sound(&self) {
        assert_eq!(self.gateway.findings(), Vec::<Value>::new());
    }

    /// The notice about the disk, or about what the store may take of it, with the percentage in it.
    fn notice(&self, which: &str) -> Option<(u32, String)> {
        let status = self.gateway.status();
        let notices = status["notices"].as_array().unwrap();
        let told = notices.iter().find(|one| one["about"] == "disk" && one["which"] == which)?;
        let text = told["text"].as_str().unwrap();
        Some((text.split(' ').find_map(|word| word.parse().ok()).unwrap(), text.to_owned()))
    }

    fn waiting(&self) -> Vec<String> {
        let documents = self.gateway.documents();
        let waiting = documents.iter().filter(|one| one["state"]["is"] == "waiting");
        waiting.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Phones come again until the gateway has nothing left to upload and each has as many documents left as expected: those
/// that were deleted at the gateway.
#[track_caller]
fn deliver(scene: &Scene, phones: &[(&Phone, usize)]) {
    scene.destination.backhaul.refuse(false);
    wait_until("everything to be delivered", || {
        phones.iter().for_each(|(phone, _)| drop(phone.try_run(&["sync"])));
        let delivered = phones.iter().all(|(phone, left)| phone.list(false).len() == *left);
        (scene.waiting().is_empty() && delivered).then_some(())
    });
}

fn add(phone: &Phone, prefix: &str, count: u64, size: usize) -> Vec<String> {
    let files: Vec<(String, Vec<u8>)> =
        (0..count).map(|number| (format!("{prefix}{number}"), content(number, size))).collect();
    phone.add(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>())
}

/// The phone's documents were refused for want of room, and its user is told so; answers how many.
#[track_caller]
fn assert_refused(phone: &Phone, report: &Value) -> usize {
    let refused = report["refused"].as_array().unwrap();
    assert!(!refused.is_empty(), "nothing was refused: {report:#}");
    let listed = phone.list(false);
    for refusal in refused {
        assert!(refusal["reason"].as_str().unwrap().contains("no room"), "{refusal}");
        assert_eq!(refusal["is_temporary"], true, "{refusal}");
        let listed = listed.iter().find(|one| one["id"] == refusal["id"]).unwrap();
        assert!(
            listed["state"] == "ready" && listed["why"].as_str().unwrap().contains("no room"),
            "{listed}"
        );
    }
    refused.len()
}

#[test]
fn a_full_disk_refuses_documents_and_goes_on_when_there_is_room_again() {
    // The reserve file takes 16 MiB of it.
    let scene = Scene::set("", 80 * MIB);
    let (anna, ben) = (scene.phone("anna"), scene.phone("ben"));
    add(&ben, "form", 1, 2_000);
    ben.sync();
    assert_eq!(scene.notice(""), None);
    add(&anna, "video", 16, 4 * MIB);
    let first = anna.try_run(&["sync"]);
    let refused = assert_refused(&anna, first.last());
    assert!(refused < 12 && first.last()["transferred"] == 16 - refused, "{:#}", first.last());
    scene.assert_sound();

    // Others fill the disk to its last byte.
    scene.disk().fill(0);
    let (full, told) = scene.notice("").expect("the admin is told");
    assert!(
        full >= 98 && told.ends_with("% full: documents need a backhaul, or the kiosk a larger disk"),
        "{told}"
    );
    add(&ben, "late", 1, 2_000);
    add(&ben, "photo", 1, 3 * MIB);
    assert_refused(&ben, ben.try_run(&["sync"]).last());
    scene.assert_sound();
    // The first is Ben's, the next are Anna's. The reserve is given up for it, and room comes of it soon.
    let room = || scene.gateway.status()["room"].as_u64().unwrap();
    let before = room();
    let gone = scene.waiting()[1].clone();
    scene.gateway.run(&["documents", "delete", &gone]);
    assert!(!scene.waiting().contains(&gone));
    wait_until("room", || (room() >= before + 3 * MIB as u64).then_some(()));
    scene.assert_sound();

    // Confirmations flow, and make more room, while the disk is as full as before.
    deliver(&scene, &[(&ben, 0)]);

    scene.disk().set_capacity((200 * MIB) as u64);
    deliver(&scene, &[(&anna, 1), (&ben, 0)]);
    scene.assert_sound();
    assert_eq!(scene.notice(""), None);
    assert_eq!(scene.destination.inbox().len(), 16 + 3 - 1);
}

#[test]
fn a_full_map_refuses_documents_and_goes_on_when_there_is_room_again() {
    let scene = Scene::set("[store]\nmap_size = \"16MiB\"\nphone_share = 100\n", 1 << 30);
    let (anna, ben) = (scene.phone("anna"), scene.phone("ben"));
    add(&ben, "form", 1, 2_000);
    ben.sync();
    add(&anna, "photo", 40, 500_000);
    let first = anna.try_run(&["sync"]);
    assert_refused(&anna, first.last());
    // Small ones fill what is left.
    add(&anna, "form", 1_000, 700);
    assert_refused(&anna, anna.try_run(&["sync"]).last());
    scene.assert_sound();
    let (full, told) = scene.notice("quota").expect("the admin is told");
    assert!(full >= 90 && told.contains("`store.map_size`"), "{told}");

    let gone = scene.waiting()[1].clone();
    scene.gateway.run(&["documents", "delete", &gone]);
    scene.assert_sound();
    deliver(&scene, &[(&anna, 1), (&ben, 0)]);
    scene.assert_sound();
    assert_eq!(scene.destination.inbox().len(), 1_041 - 1);
}

#[test]
fn a_document_that_has_no_room_is_refused_at_once_and_holds_back_no_smaller_one() {
    let scene = Scene::set("", 80 * MIB);
    let anna = scene.phone("anna");
    let large = add(&anna, "video", 1, 90 * MIB);
    add(&anna, "form", 3, 2_000);
    let report = anna.try_run(&["sync"]);
    assert_eq!(assert_refused(&anna, report.last()), 1);
    assert_eq!(report.last()["refused"][0]["id"], *large[0]);
    assert_eq!(report.last()["transferred"], 3, "{:#}", report.last());
    let sent = scene.gateway.link.counts(Direction::ToTarget).bytes;
    assert!(sent < MIB as u64, "{sent} bytes were sent of what there is no room for");
    scene.assert_sound();
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_document_keeps_what_it_has_and_the_rest_follows() {
    let scene = Scene::set("", 200 * MIB);
    let anna = scene.phone("anna");
    add(&anna, "video", 1, 20 * MIB);
    let disk = scene.disk().clone();
    let is_middle = |frame: &Frame| frame.direction == Direction::ToTarget && frame.number >= 500;
    scene.gateway.link.when(Moment::Before, is_middle, move |_| {
        disk.fill(0);
        Then::GoOn
    });
    let report = anna.try_run(&["sync"]);
    assert_refused(&anna, report.last());
    scene.assert_sound();
    scene.disk().set_capacity((200 * MIB) as u64);
    let before = scene.gateway.link.counts(Direction::ToTarget).bytes;
    assert!(before > 5_000_000, "only {before} bytes were sent before it was full");
    scene.destination.backhaul.refuse(false);
    anna.run(&["sync", "--wait", "60s"]);
    let again = scene.gateway.link.counts(Direction::ToTarget).bytes - before;
    assert!(again < 16_000_000, "{again} bytes were sent after {before}");
    assert!(scene.destination.inbox() == [("video0".to_owned(), content(0, 20 * MIB))].into());
    scene.assert_sound();
}
