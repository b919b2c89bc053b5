//! What the destination writes itself reaches the phones that subscribe, in the same windows in which documents go up.

use std::path::Path;

use serde_json::Value;
use waypost_openpgp::SecretKey;
use waypost_protocol::time::UnixTime;
use waypost_tests::proxy::Direction;
use waypost_tests::scenario::{Phone, Site, content, wait_until};

/// A site whose gateway hands the collection to subscribers, as `collection` configures it, and a phone that reads it.
fn scene(collection: &str) -> (Site, Phone) {
    let mut site = Site::start();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let secret = SecretKey::generate("Bela", UnixTime(since.as_secs())).unwrap();
    let key = site.folder().join("reader.key");
    std::fs::write(&key, secret.to_armor().unwrap().as_bytes()).unwrap();
    let readers = site.destination.home().join("readers/forms");
    std::fs::create_dir_all(&readers).unwrap();
    std::fs::write(readers.join("bela.pgp"), secret.certificate().to_armor()).unwrap();
    let reader = site.new_phone("bela");
    reader.add_destination(&site.destination);
    reader.run(&["reader", "import", key.to_str().unwrap()]);
    let subscribed = reader.run(&["subscribe", "forms"]);
    let group = subscribed.last()["subscribed"]["group"].as_str().unwrap().to_owned();
    site.gateway.carry(&site.destination, &group, collection);
    site.gateway.configure(
        "50-quick",
        "[upload]\nprobe_interval = \"1s\"\nmax_backoff = \"1s\"\n[remote_log]\ninterval = \"1s\"\n",
    );
    site.gateway.stop();
    site.gateway.start();
    reader.pair(&site.gateway);
    (site, reader)
}

fn publish(site: &Site, name: &str, bytes: &[u8], options: &[&str]) -> String {
    let path = site.folder().join(name);
    std::fs::write(&path, bytes).unwrap();
    let arguments = [&["publish", "--collection", "forms", path.to_str().unwrap()], options].concat();
    site.destination.run(&arguments).last()["published"][0]["id"].as_str().unwrap().to_owned()
}

fn received(phone: &Phone) -> Vec<Value> {
    phone.run(&["list"]).last()["received"].as_array().unwrap().clone()
}

/// The phone meets the gateway until it has received so many.
fn wait_for(phone: &Phone, count: usize) -> Vec<Value> {
    wait_until("what the destination wrote", || {
        phone.sync();
        Some(received(phone)).filter(|received| received.len() == count)
    })
}

fn open(phone: &Phone, id: &str, folder: &Path) -> (Value, Vec<u8>) {
    let ran = phone.run(&["open", id, "--to", folder.to_str().unwrap()]);
    let opened = ran.last()["opened"][0].clone();
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap();
    (opened, std::fs::read(file.path()).unwrap())
}

#[test]
fn a_message_of_the_destination_is_read_on_a_phone_as_its_own() {
    let (site, reader) = scene(", retain = \"30d\"");
    // So that the gateway knows the destination.
    let author = site.paired_phone("anna");
    author.add(&[("form.xml", b"<form/>")]);
    author.run(&["sync", "--wait", "30s"]);
    let film = content(7, 3_000_000);
    let ids = [
        publish(&site, "recall.txt", b"batch 17 is recalled", &[]),
        publish(&site, "how-to.mp4", &film, &[]),
    ];
    let listed = wait_for(&reader, 3);
    assert!(ids.iter().all(|id| listed.iter().any(|one| one["id"] == *id.as_str())), "{listed:#?}");
    let fingerprint = site.destination.fingerprint();
    for (id, bytes) in ids.iter().zip([&b"batch 17 is recalled"[..], &film]) {
        let folder = site.folder().join(&id[..8]);
        let (opened, content) = open(&reader, id, &folder);
        assert_eq!(opened["signed_by"], fingerprint, "{opened:#}");
        assert_eq!(opened["not_proven"], Value::Null, "{opened:#}");
        assert!(content == bytes);
    }
    // It came down and never went up again; the operator's inbox has what phones wrote, and nothing else.
    assert_eq!(site.destination.inbox().len(), 1);
    assert_eq!(site.gateway.status()["waiting"], 0);
    assert!(site.gateway.findings().is_empty());
    // A phone that did not subscribe gets nothing.
    assert_eq!(author.sync()["received"], 0);
}

#[test]
fn a_revision_that_resolves_a_conflict_names_what_it_replaces() {
    let (site, reader) = scene(", retain = \"30d\"");
    let record = ["--record", "household 17"];
    let one = publish(&site, "one.xml", b"one", &[&record[..], &["--revision", "1"]].concat());
    let other = publish(&site, "other.xml", b"other", &[&record[..], &["--revision", "1"]].concat());
    let resolved = [&record[..], &["--revision", "2", "--replaces", &one, "--replaces", &other]].concat();
    let resolution = publish(&site, "resolved.xml", b"resolved", &resolved);
    wait_for(&reader, 3);
    let documents = site.gateway.documents();
    let row = documents.iter().find(|one| one["id"] == *resolution.as_str()).unwrap();
    assert_eq!((&row["state"]["is"], &row["revision"]), (&"received".into(), &2.into()), "{row:#}");
    let replaces = row["replaces"].as_array().unwrap();
    assert!([&one, &other].iter().all(|id| replaces.iter().any(|known| known == id.as_str())), "{row:#}");
}

#[test]
fn it_comes_down_in_a_window_that_uploads_fill() {
    let (site, reader) = scene(", retain = \"30d\"");
    let author = site.paired_phone("anna");
    author.add(&[("form.xml", b"<form/>")]);
    author.run(&["sync", "--wait", "30s"]);
    site.destination.backhaul.refuse(true);
    // More than the window lets through: it closes in the middle of the second.
    author.add(&[("one.mp4", &content(1, 6_000_000)), ("two.mp4", &content(2, 6_000_000))]);
    author.sync();
    let id = publish(&site, "recall.txt", b"batch 17 is recalled", &[]);
    let before = site.destination.backhaul.counts(Direction::ToTarget).bytes;
    site.destination.backhaul.cut_after(Direction::ToTarget, before + 9_000_000);
    site.destination.backhaul.refuse(false);
    wait_until("the first video", || site.destination.inbox().contains_key("one.mp4").then_some(()));
    wait_until("the message", || {
        reader.sync();
        received(&reader).iter().any(|one| one["id"] == *id.as_str()).then_some(())
    });
}

#[test]
fn a_gateway_without_subscribers_fetches_nothing_and_without_readers_nothing_is_published() {
    let (site, _) = scene("");
    let author = site.paired_phone("anna");
    author.add(&[("form.xml", b"<form/>")]);
    author.run(&["sync", "--wait", "30s"]);
    publish(&site, "recall.txt", b"batch 17 is recalled", &[]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(site.gateway.documents().len(), 1);
    assert_eq!(site.gateway.status()["remote_logs"], serde_json::json!([]));
    std::fs::remove_dir_all(site.destination.home().join("readers")).unwrap();
    let path = site.folder().join("recall.txt");
    let mut command = site.destination.command(&["publish", "--collection", "forms", path.to_str().unwrap()]);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("has no readers") && said.contains("--reader FILE"), "{said}");
}
