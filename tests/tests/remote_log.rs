//! Kiosks that never meet: what phones bring to one is published, and is at the other, by way of a place that both reach.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use waypost_tests::proxy::Direction;
use waypost_tests::scenario::{Destination, Gateway, Site, content, wait_until};

/// Lets a gateway keep bodies, and sets its remote logs.
fn configure(gateway: &Gateway, destination: &Destination, remote_log: &str) {
    let address = destination.backhaul.address();
    gateway.configure(
        "20-destination",
        &format!(
            "[[destination]]\nname = \"test\"\nurl = \"https://{address}\"\ncertificate = \"../certificate.pgp\"\n\
             token_file = \"../token\"\nca_file = \"../ca.pem\"\nkeep = \"1h\"\n"
        ),
    );
    gateway.configure("40-log", &format!("[remote_log]\ninterval = \"1s\"\n{remote_log}"));
    gateway.run(&["reload"]);
}

fn log_key(gateway: &Gateway) -> String {
    gateway.status()["log_key"].as_str().unwrap().to_owned()
}

/// Ids of the documents whose bytes a gateway has.
fn with_bodies(gateway: &Gateway) -> Vec<Value> {
    let mut ids: Vec<String> = gateway
        .documents()
        .iter()
        .filter(|document| document["has_body"] == true)
        .map(|document| document["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids.into_iter().map(Value::from).collect()
}

#[track_caller]
fn wait_for_bodies(gateway: &Gateway, count: usize) -> Vec<Value> {
    wait_until("the documents of the other kiosk", || {
        Some(with_bodies(gateway)).filter(|ids| ids.len() >= count)
    })
}

fn follows(gateway: &Gateway) -> Value {
    gateway.status()["remote_logs"][0]["follows"][0].clone()
}

#[test]
fn what_phones_bring_to_one_kiosk_reaches_another_by_the_destination_in_every_mode_and_is_uploaded_once() {
    let site = Site::start();
    let other = site.another_gateway("other");
    let anna = site.paired_phone("anna");
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut after_modes = Vec::new();
    for mode in ["full", "page", "linked", "mixed"] {
        configure(
            &site.gateway,
            &site.destination,
            &format!("publish = true\nmode = \"{mode}\"\ninline_last = 1\n"),
        );
        if mode == "full" {
            configure(&other, &site.destination, &format!("follow = [\"{}\"]\n", log_key(&site.gateway)));
        }
        let new: Vec<(String, Vec<u8>)> =
            (0..3u64).map(|at| (format!("{mode}-{at}.bin"), content(at, 2_000))).collect();
        anna.add(&new.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>());
        anna.sync();
        files.extend(new);
        after_modes.push(wait_for_bodies(&other, files.len()).len());
    }
    assert_eq!(after_modes, [3, 6, 9, 12]);

    // A large one, in pieces.
    let video = content(9, 1_500_000);
    anna.add(&[("video.mp4", &video)]);
    anna.sync();
    files.push(("video.mp4".into(), video));
    assert_eq!(wait_for_bodies(&other, 13), wait_for_bodies(&site.gateway, 13));

    // The destination had everything: the other kiosk was told so, and sent nothing.
    wait_until("the verdicts", || (other.status()["waiting"] == 0).then_some(()));
    let status = other.status();
    assert_eq!(status["destinations"][0]["uploaded"], 0, "{status:#}");
    assert_eq!((&follows(&other)["taken"], &follows(&other)["trouble"]), (&13.into(), &Value::Null));
    assert_eq!(site.gateway.status()["remote_logs"][0]["published"], 13);
    assert_eq!(site.destination.inbox(), files.into_iter().collect());
    assert!(other.findings().is_empty());
}

#[test]
fn a_published_document_crosses_the_backhaul_once_by_itself_in_a_batch_and_in_parts() {
    let site = Site::start();
    let anna = site.paired_phone("anna");
    let mut in_the_log = 0;
    for mode in ["page", "linked"] {
        configure(&site.gateway, &site.destination, &format!("publish = true\nmode = \"{mode}\"\n"));
        for (count, size) in [(1, 40_000), (30, 20_000), (2, 3_000_000)] {
            let sent = || site.destination.backhaul.counts(Direction::ToTarget).bytes;
            let before = sent();
            in_the_log += count;
            let files: Vec<(String, Vec<u8>)> =
                (0..count).map(|at| (format!("{mode}-{count}-{at}"), content(at, size))).collect();
            anna.add(
                &files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>(),
            );
            site.destination.backhaul.refuse(true);
            site.destination.backhaul.cut();
            anna.sync();
            site.destination.backhaul.refuse(false);
            wait_until("the log", || {
                (site.gateway.status()["remote_logs"][0]["published"] == in_the_log).then_some(())
            });
            wait_until("the verdicts", || (site.gateway.status()["waiting"] == 0).then_some(()));
            let (documents, crossed) = (count * size as u64, sent() - before);
            println!("{mode}: {count} documents of {size} bytes: {crossed} bytes crossed");
            assert!(crossed > documents, "{crossed} bytes");
            // Handshakes, questions, and in "linked" a page for each document.
            assert!(crossed < documents + documents / 10 + 20_000, "{crossed} bytes");
        }
    }
}

#[test]
fn a_kiosk_that_is_killed_while_it_catches_up_gets_the_rest_and_nothing_twice() {
    let site = Site::start();
    configure(&site.gateway, &site.destination, "publish = true\n");
    let anna = site.paired_phone("anna");
    let files: Vec<(String, Vec<u8>)> = (0..60u64).map(|at| (format!("{at}"), content(at, 20_000))).collect();
    anna.add(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>());
    anna.sync();
    wait_until("the log", || (site.gateway.status()["remote_logs"][0]["published"] == 60).then_some(()));

    let mut other = site.another_gateway("other");
    configure(&other, &site.destination, &format!("follow = [\"{}\"]\n", log_key(&site.gateway)));
    wait_for_bodies(&other, 1);
    other.kill9();
    other.start();
    assert_eq!(wait_for_bodies(&other, 60).len(), 60);
    wait_until("the verdicts", || (other.status()["waiting"] == 0).then_some(()));
    assert_eq!(other.status()["destinations"][0]["uploaded"], 0);
    assert_eq!((other.documents().len(), site.destination.inbox().len()), (60, 60));
    assert!(other.findings().is_empty());
}

#[test]
fn a_stick_carries_documents_from_a_kiosk_without_backhaul_to_one_that_uploads_them() {
    let site = Site::start();
    let stick = site.folder().join("stick");
    let to = format!("to = \"folder:{}\"\n", stick.display());
    let other = site.another_gateway("other");
    // No way out, ever.
    site.destination.backhaul.refuse(true);
    configure(&site.gateway, &site.destination, &format!("publish = true\n{to}"));
    configure(&other, &site.destination, &format!("follow = [\"{}\"]\n{to}", log_key(&site.gateway)));
    let anna = site.paired_phone("anna");
    anna.add(&[("form.xml", b"<form/>"), ("photo.jpg", &content(1, 400_000))]);
    anna.sync();
    let trouble = wait_until("what is wrong", || {
        site.gateway.status()["remote_logs"][0]["trouble"].as_str().map(str::to_owned)
    });
    assert!(trouble.contains("stick") && trouble.contains("waited for"), "{trouble}");
    assert!(!stick.exists());

    std::fs::create_dir(&stick).unwrap();
    assert_eq!(wait_for_bodies(&other, 2), wait_for_bodies(&site.gateway, 2));
    assert_eq!(site.gateway.status()["remote_logs"][0]["trouble"], Value::Null);
    // The other one has a backhaul.
    site.destination.backhaul.refuse(false);
    wait_until("the verdicts", || (other.status()["opened"] == 2).then_some(()));
    assert_eq!(site.destination.inbox().len(), 2);
}

#[test]
fn a_log_whose_head_is_forged_or_that_was_revoked_is_named_and_stops_no_other() {
    let site = Site::start();
    let stick = site.folder().join("stick");
    std::fs::create_dir(&stick).unwrap();
    let to = format!("to = \"folder:{}\"\n", stick.display());
    let (second, reader) = (site.another_gateway("second"), site.another_gateway("reader"));
    let (anna, bela) = (site.paired_phone("anna"), site.new_phone("bela"));
    bela.add_destination(&site.destination);
    bela.pair(&second);
    for gateway in [&site.gateway, &second] {
        configure(gateway, &site.destination, &format!("publish = true\n{to}"));
    }
    anna.add(&[("anna.xml", b"anna")]);
    bela.add(&[("bela.xml", b"bela")]);
    anna.sync();
    bela.sync();
    let head = |gateway: &Gateway| stick.join("names").join(format!("{}.head", log_key(gateway)));
    wait_until("both logs", || (head(&site.gateway).exists() && head(&second).exists()).then_some(()));

    // The second kiosk's head under the first one's name.
    std::fs::copy(head(&second), stick.join("forged")).unwrap();
    configure(&site.gateway, &site.destination, "");
    std::fs::rename(stick.join("forged"), head(&site.gateway)).unwrap();
    let keys = json!([log_key(&site.gateway), log_key(&second)]);
    configure(&reader, &site.destination, &format!("follow = {keys}\n{to}"));
    wait_for_bodies(&reader, 1);
    let logs = wait_until("what is wrong", || {
        let logs = reader.status()["remote_logs"][0]["follows"].clone();
        // Both have had their turn: what comes of one is shown before the other is looked at.
        (logs[0]["trouble"].is_string() && logs[1]["taken"] != 0).then_some(logs)
    });
    assert_eq!((&logs[1]["taken"], &logs[1]["trouble"]), (&1.into(), &Value::Null), "{logs:#}");
    assert_eq!(with_bodies(&reader).len(), 1);

    reader.run(&["peers", "revoke", &log_key(&second)]);
    let revoked = wait_until("the revocation", || {
        reader.status()["remote_logs"][0]["follows"][1]["trouble"].as_str().map(str::to_owned)
    });
    assert!(revoked.contains("revoked"), "{revoked}");
}
