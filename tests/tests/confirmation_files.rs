//! A power cut takes no confirmation's file that the destination counts as written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use waypost_tests::lossy_fs::{Loss, LossyDisk};
use waypost_tests::scenario::{Destination, Phone};

#[test]
fn confirmations_that_count_as_written_are_whole_after_a_power_cut() {
    let place = tempfile::tempdir().unwrap();
    let mut destination = Destination::make(&place.path().join("destination"));
    let folder = destination.confirmations();
    fs::create_dir_all(&folder).unwrap();
    // The store is on a disk that keeps everything: it will say of each file that it is there.
    let mounted = LossyDisk::new().mount(&folder).unwrap();
    destination.start();
    let phone = Phone::make(&place.path().join("phone"), "phone");
    let code =
        destination.run(&["phone-code", "--token", "phones"]).last()["text"].as_str().unwrap().to_owned();
    let authority = destination.authority();
    phone.run(&["destination", "add", &code, "--yes", "--ca", authority.to_str().unwrap()]);
    phone.add(&[("a", b"a"), ("b", b"b")]);
    assert_eq!(phone.run(&["sync", "--direct"]).last()["opened"], 2);
    destination.kill9();
    let mounted = mounted.crash(Loss::Everything).unwrap().mount(&folder).unwrap();
    destination.start();
    assert!(destination.stop().success());
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let [text, signature] = files.as_slice() else { panic!("{files:?}") };
    assert!(fs::read_to_string(text).unwrap().ends_with(" opened\n"), "{}", text.display());
    assert!(
        fs::read_to_string(signature).unwrap().ends_with("-----END PGP SIGNATURE-----\n"),
        "{}",
        signature.display()
    );
    drop(mounted);
}
