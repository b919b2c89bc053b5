//! A document of 100 MB streams through the server in little memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::{Place, noise};
use waypost_openpgp::{Compress, seal_bytes};
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::content::Label;

#[test]
fn a_hundred_megabytes_pass_in_little_memory_by_put_and_in_a_batch() {
    let place = Place::new();
    let server = place.run();
    let small = place.document(Some(b"small"), b"x");
    server.put(&small).answer();
    let resident = |field: &str| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim();
        line.trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    let before = resident("VmRSS:");
    let block = noise(1, 1_000_000);
    for (name, batch) in [("put", false), ("batch", true)] {
        let mut content = block.repeat(100);
        content[..name.len()].copy_from_slice(name.as_bytes());
        let label = Label {
            collection: "forms".into(),
            file_name: Some(name.as_bytes().to_vec()),
            ..Label::default()
        };
        let certificates = [place.home.certificate()];
        let sealed = seal_bytes(&label, &content, &certificates, Compress::Never, support::now()).unwrap();
        let document = place.wrap("forms", &sealed);
        let begun = std::time::Instant::now();
        let answer = match batch {
            true => server.send("POST", "/v1/batch", &support::batch([&document, &small])).answer(),
            false => server.put(&document).answer(),
        };
        println!("100 MB by {name}: {:.2} s", begun.elapsed().as_secs_f64());
        assert_eq!(place.verdict_on(&answer, &document), Some(Verdict::Opened));
        let stored = std::fs::read(place.home.inbox_folder().join("forms").join(name)).unwrap();
        assert!(stored == content);
    }
    let grown = resident("VmHWM:").saturating_sub(before);
    println!("resident memory grew from {before} MiB by {grown} MiB");
    assert!(grown <= 16, "{grown} MiB");
}
