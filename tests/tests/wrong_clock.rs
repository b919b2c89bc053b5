//! A board without a battery wakes up in 1970: TLS and signatures are judged by what is known of the time.

use serde_json::Value;
use waypost_tests::scenario::{Site, wait_until};

const LONG_AGO: &str = "1970-01-01 00:00:20";

fn opened(site: &Site) -> Option<u64> {
    site.gateway.status()["opened"].as_u64()
}

#[test]
fn a_gateway_whose_clock_says_1970_delivers_from_its_first_day_on() {
    let mut site = Site::start();
    site.gateway.stop();
    site.gateway.set_clock(Some(LONG_AGO));
    site.gateway.start();
    let log = std::fs::read_to_string(site.gateway.log()).unwrap();
    assert!(log.contains("1970-01-01T00:00"), "its clock is another: {log}");
    let phone = site.paired_phone("anna");
    phone.add(&[("form.xml", b"<form/>")]);
    phone.run(&["sync", "--wait", "30s"]);
    assert_eq!(opened(&site), Some(1));
    assert_eq!(phone.list(false), [] as [Value; 0], "the phone has its verdict");

    // After a power cut it is 1970 again; what was learned is not lost.
    site.gateway.kill9();
    site.gateway.start();
    phone.add(&[("form-2.xml", b"<form/>")]);
    phone.run(&["sync", "--wait", "30s"]);
    assert_eq!(opened(&site), Some(2));
    assert_eq!(phone.list(false), [] as [Value; 0]);
}

#[test]
fn a_clock_that_is_ahead_harms_no_document() {
    let mut site = Site::start();
    site.gateway.stop();
    // TLS certificates that are over by then are refused: nobody knows better.
    site.gateway.set_clock(Some("2031-05-01 12:00:00"));
    site.gateway.start();
    let phone = site.paired_phone("anna");
    phone.add(&[("form.xml", b"<form/>")]);
    phone.run(&["sync", "--wait", "30s"]);
    assert_eq!(opened(&site), Some(1));
    site.gateway.stop();
    site.gateway.set_clock(None);
    site.gateway.start();
    phone.add(&[("form-2.xml", b"<form/>")]);
    phone.run(&["sync", "--wait", "30s"]);
    wait_until("both", || opened(&site).filter(|opened| *opened == 2));
}
