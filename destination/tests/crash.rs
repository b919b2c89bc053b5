//! Killed at any moment, the server loses nothing that it confirmed, and puts nothing into the inbox twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use prost::Message as _;
use support::{Place, batch, noise};
use waypost_protocol::api::Answer;
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::document::Document;

#[test]
fn killed_at_any_moment_it_loses_nothing_confirmed_and_writes_nothing_twice() {
    let place = Place::new();
    // Where servers share a database: what a killed one left behind, the next one goes on with at once.
    place.set("takeover_after", "0");
    let count: u64 = if support::is_at_scale() { 150 } else { 300 };
    let documents: Vec<Document> =
        (0..count).map(|n| place.document(Some(format!("{n}.bin").as_bytes()), &noise(n, 3_000))).collect();
    let body = place.file("batch", &batch(&documents));
    let data = format!("@{}", body.display());
    let output = place.folder.path().join("answer");
    let mut confirmed: BTreeMap<_, Verdict> = BTreeMap::new();
    let mut killed_midway = 0;
    let begun = Instant::now();
    for round in 0..14u64 {
        let server = place.run();
        let mut upload = Command::new("curl")
            .args(["--silent", "--max-time", "60", "--limit-rate", "8M", "--request", "POST", "--cacert"])
            .arg(&server.ca)
            .args(["--header", &format!("Authorization: Bearer {}", server.token)])
            .args(["--header", "Accept: application/x-protobuf", "--data-binary", &data, "--output"])
            .arg(&output)
            .arg(format!("{}/v1/batch", server.url))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // The tests' object store is slower than a disk.
        let step = if support::is_at_scale() { 70 } else { 17 };
        std::thread::sleep(Duration::from_millis(10 + round * step));
        // On a machine with a lot to do nothing has come by then: the first times it is killed as soon as something has.
        while round < 3 && place.inbox().is_empty() && upload.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        server.kill();
        let finished = upload.wait().unwrap().success();
        killed_midway += usize::from(!finished && !place.inbox().is_empty());
        if let Some(answer) = std::fs::read(&output).ok().filter(|_| finished) {
            confirmed.extend(place.verdicts(&Answer::decode(&answer[..]).unwrap()));
        }
        check(&place, &documents, &confirmed);
    }
    println!("killed {killed_midway} times midway, in {:?}", begun.elapsed());
    assert!(killed_midway > 0);
    let server = place.run();
    let answer = server.send("POST", "/v1/batch", &batch(&documents)).answer();
    let verdicts = place.verdicts(&answer);
    assert!(verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Opened));
    confirmed.extend(verdicts);
    assert_eq!(confirmed.len(), documents.len());
    check(&place, &documents, &confirmed);
    assert_eq!(place.inbox().len(), documents.len());
    assert_eq!(place.temporary_files(), 0);
}

/// What is confirmed is in the inbox, and nothing is there twice or in part.
fn check<K>(place: &Place, documents: &[Document], confirmed: &BTreeMap<K, Verdict>) {
    let inbox = place.inbox();
    assert!(inbox.len() >= confirmed.len() && inbox.len() <= documents.len());
    for (path, content) in &inbox {
        let number = path.file_stem().unwrap().to_str().unwrap().parse::<u64>();
        let number = number.unwrap_or_else(|_| panic!("{} is a second copy", path.display()));
        assert!(*content == noise(number, 3_000), "{} is not whole", path.display());
    }
}
