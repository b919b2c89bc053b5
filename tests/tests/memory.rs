//! Memory does not grow with documents: neither the gateway's nor the destination's while one of 100 MB passes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use waypost_tests::process::Process;
use waypost_tests::scenario::{Site, content, say};

const SIZE: usize = 100_000_000;
/// How much more may be resident than before, in KiB.
const GROWTH: u64 = 16 << 10;
/// The gateway's data file, whose mapping is the kernel's cache and not counted.
const DATA_FILE: &str = "data.mdb";

/// The most that is resident while `during` runs, in KiB.
fn peak(process: &Process, during: impl FnOnce()) -> u64 {
    process.peak_kib(DATA_FILE, during).unwrap().0
}

#[test]
fn resident_memory_grows_by_16_mib_at_most_while_a_document_of_100_mb_passes() {
    let mut site = Site::start();
    let phone = site.paired_phone("phone");
    // Everything has run once before it is measured.
    phone.add(&[("form.xml", &content(1, 200_000))]);
    phone.run(&["sync", "--wait", "60s"]);
    let video = content(2, SIZE);
    phone.add(&[("video.mp4", &video)]);

    let at_rest = |process: &Process| process.rss_kib(DATA_FILE).unwrap();
    let before = at_rest(site.gateway.process());
    site.destination.backhaul.refuse(true);
    let receiving = peak(site.gateway.process(), || {
        phone.sync();
    });
    site.destination.backhaul.refuse(false);
    let destination_before = at_rest(site.destination.process());
    let mut destination_peak = 0;
    let uploading = peak(site.gateway.process(), || {
        destination_peak = peak(site.destination.process(), || {
            phone.run(&["sync", "--wait", "120s"]);
        });
    });

    say(&format!("gateway: {before} KiB at rest, {receiving} receiving, {uploading} uploading"));
    say(&format!("destination: {destination_before} KiB at rest, {destination_peak} opening"));
    assert!(
        site.destination.inbox()
            == [("form.xml", content(1, 200_000)), ("video.mp4", video)]
                .map(|(n, b)| (n.to_owned(), b))
                .into()
    );
    for (what, before, peak) in [
        ("the gateway, receiving", before, receiving),
        ("the gateway, uploading", before, uploading),
        ("the destination", destination_before, destination_peak),
    ] {
        assert!(peak <= before + GROWTH, "{what}: {before} KiB before, {peak} KiB at most");
    }
}
