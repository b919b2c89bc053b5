//! Programs that have no protocol version in common say so, on both sides, and name the ranges.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use waypost_protocol::invite::{CodeSecret, Pairing};
use waypost_protocol::session::{SessionError, Versions, encode_no_common_version};
use waypost_tests::rogue::{RawError, RawSession, hello, identity, introduced_to};
use waypost_tests::scenario::{Site, wait_until};

#[test]
fn a_gateway_names_a_newer_phone_and_tells_it_its_own_versions() {
    let site = Site::start();
    let newer = Versions { lowest: 7, highest: 9 };
    let address = site.gateway.link.address();
    let error =
        RawSession::open_as(newer, address, &introduced_to(&site.gateway), &identity(1), &hello("new", &[]));
    match error.err() {
        Some(RawError::Session(SessionError::NoCommonVersion { theirs, .. })) => {
            assert_eq!(theirs, Versions::OURS);
        }
        other => panic!("not told: {other:?}"),
    }
    let log = wait_until("the log's line", || {
        let log = std::fs::read_to_string(site.gateway.log()).unwrap();
        log.lines().find(|line| line.contains("no common protocol version")).map(str::to_owned)
    });
    assert!(log.contains("7") && log.contains("9") && log.contains("update the older one"), "{log}");

    // One that still speaks an older version as well is served, and the gateway goes on as before.
    let both = Versions { lowest: Versions::OURS.lowest, highest: 9 };
    let introduction = introduced_to(&site.gateway);
    let session = RawSession::open_as(both, address, &introduction, &identity(1), &hello("new", &[]));
    session.unwrap().close();
}

#[test]
fn a_phone_names_a_newer_gateway_and_keeps_its_documents() {
    let site = Site::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut first = [0; 2];
            stream.read_exact(&mut first).unwrap();
            let answer = encode_no_common_version(Versions { lowest: 7, highest: 9 });
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length[..], &answer].concat()).unwrap();
            // Until the phone hangs up.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let phone = site.new_phone("anna");
    phone.add_destination(&site.destination);
    phone.add(&[("form.xml", b"<form/>")]);
    let pairing = Pairing {
        gateway: identity(2).public(),
        secret: CodeSecret::new([1; 16]),
        name: "Newer kiosk".into(),
        addresses: vec![address.to_string()],
    };
    phone.try_run(&["pair", &pairing.to_text()]);
    let ran = phone.try_run(&["sync"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:#?}");
    let why = ran.last()["why"].as_str().unwrap();
    let words = ["no common protocol version", "7", "9", "update the older one"];
    assert!(words.iter().all(|word| why.contains(word)), "{why}");
    assert_eq!(ran.last()["ending"], "failed");
    assert!(!why.contains("code"), "a version is no matter of codes: {why}");
    assert_eq!(phone.list(false)[0]["state"], "ready");
}
