//! One bad thing stops nothing else: a bad file, document, row, phone or destination is reported and passed over.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use waypost_protocol::envelope::Header;
use waypost_protocol::mvds::{Chunk, Message, Payload, Start};
use waypost_protocol::refusal::{Goodbye, Reason};
use waypost_tests::rogue::{RawSession, Told, document, hello, identity, introduced_to, known_to};
use waypost_tests::scenario::{Phone, Site, content, damage_body, wait_until};

fn states(phone: &Phone) -> Vec<(String, Value)> {
    let listed = phone.list(true);
    listed.iter().map(|one| (one["name"].as_str().unwrap().to_owned(), one["state"].clone())).collect()
}

#[test]
fn files_that_cannot_be_read_are_named_and_the_others_are_sealed_and_delivered() {
    let site = Site::start();
    let phone = site.paired_phone("anna");
    let file = |name: &str| site.folder().join(name).to_str().unwrap().to_owned();
    std::fs::write(file("first.xml"), "<first/>").unwrap();
    std::fs::write(file("last.xml"), "<last/>").unwrap();
    std::fs::create_dir(file("folder")).unwrap();
    mkfifo(Path::new(&file("fifo")), Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", file("unreadable")).unwrap();
    let names = ["first.xml", "missing", "folder", "fifo", "unreadable", "last.xml"].map(file);
    let arguments: Vec<&str> = ["add"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let ran = phone.try_run(&arguments);
    assert_eq!((ran.status.code(), &ran.last()["added"]), (Some(3), &2.into()), "{ran:#?}");
    let skipped: Vec<(String, String)> = ran.last()["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["path"].as_str().unwrap().to_owned(), one["reason"].as_str().unwrap().to_owned()))
        .collect();
    let reasons = ["cannot be read: No such file", "is a folder", "is no regular file", "cannot be read"];
    assert_eq!(skipped.len(), reasons.len(), "{skipped:#?}");
    for ((path, reason), (name, expected)) in skipped.iter().zip(names[1..5].iter().zip(reasons)) {
        assert!(path == name && reason.contains(expected), "{path}: {reason}");
    }
    phone.run(&["sync", "--wait", "30s"]);
    let expected = [("first.xml".into(), b"<first/>".to_vec()), ("last.xml".into(), b"<last/>".to_vec())];
    assert_eq!(site.destination.inbox(), expected.into());
}

#[test]
fn a_document_that_is_too_large_for_the_kiosk_or_for_the_server_holds_back_no_other() {
    let mut site = Site::configured("[limits]\nmax_document = \"400KiB\"\n");
    site.destination.stop();
    let settings = site.destination.home().join("destination.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    let others: Vec<&str> = text.lines().filter(|line| !line.starts_with("max_document")).collect();
    std::fs::write(&settings, format!("max_document = 200000\n{}\n", others.join("\n"))).unwrap();
    let phone = site.paired_phone("anna");
    let (small, medium, large) = (content(1, 1_000), content(2, 300_000), content(3, 600_000));
    let files: [(&str, &[u8]); 4] =
        [("large.mp4", &large), ("one.xml", &small), ("medium.jpg", &medium), ("two.xml", &small)];
    let ids = phone.add(&files);
    // The kiosk tells phones what the server takes as soon as it knows: it is only asked afterwards.
    let ran = phone.try_run(&["sync"]);
    assert_eq!((ran.status.code(), &ran.last()["transferred"]), (Some(3), &3.into()), "{ran:#?}");
    site.destination.start();
    let refused = &ran.last()["refused"][0];
    assert_eq!(
        (&refused["id"], &refused["reason"]),
        (&ids[0].clone().into(), &"too large for this kiosk".into())
    );

    let aside = wait_until("the document that the server does not take", || {
        let status = site.gateway.status();
        let aside = status["destinations"][0]["set_aside"][&ids[2]].as_str().map(str::to_owned);
        aside.filter(|_| status["opened"] == 2)
    });
    assert!(
        aside.contains("larger than the destination takes") && aside.contains("ask its admin"),
        "{aside}"
    );
    phone.try_run(&["sync"]);
    assert_eq!(site.destination.inbox().into_keys().collect::<Vec<_>>(), ["one.xml", "two.xml"]);
    let state = |name: &str| states(&phone).into_iter().find(|(known, _)| known == name).unwrap().1;
    assert_eq!((state("one.xml"), state("two.xml")), ("at-the-server".into(), "at-the-server".into()));
    assert_eq!((state("medium.jpg"), state("large.mp4")), ("at-the-kiosk".into(), "ready".into()));
}

#[test]
fn a_body_that_is_damaged_on_the_phone_is_reported_and_the_others_are_delivered() {
    let site = Site::start();
    let phone = site.paired_phone("anna");
    let large = content(1, 100_000);
    let files: [(&str, &[u8]); 4] =
        [("one.xml", b"<one/>"), ("two.xml", b"<two/>"), ("three.jpg", &large), ("four.xml", b"<four/>")];
    let ids = phone.add(&files);
    damage_body(&phone.home().join("store"), 1);
    damage_body(&phone.home().join("store"), 2);
    let ran = phone.try_run(&["sync", "--wait", "5s"]);
    assert_eq!((ran.status.code(), &ran.last()["opened"]), (Some(3), &2.into()), "{ran:#?}");
    assert_eq!(site.destination.inbox().into_keys().collect::<Vec<_>>(), ["four.xml", "one.xml"]);
    for id in &ids[1..3] {
        let event = ran.events("refused").find(|event| event["id"] == **id);
        let reason = event.unwrap_or_else(|| panic!("{id} is not reported: {ran:#?}"))["reason"].to_string();
        assert!(reason.contains("damaged in this phone's store") && reason.contains("delete it"), "{reason}");
    }
    let listed = phone.list(false);
    assert_eq!(listed.iter().map(|one| &one["name"]).collect::<Vec<_>>(), ["two.xml", "three.jpg"]);
    // It can be deleted, and the rest of the phone's life goes on.
    phone.run(&["delete", &ids[1], &ids[2]]);
    phone.add(&[("five.xml", b"<five/>")]);
    assert_eq!(phone.run(&["sync", "--wait", "30s"]).last()["opened"], 1);
}

#[test]
fn a_body_that_is_damaged_at_the_gateway_is_asked_for_again_and_the_others_are_delivered() {
    let mut site = Site::start();
    let (phone, other) = (site.paired_phone("anna"), site.paired_phone("ben"));
    site.destination.backhaul.refuse(true);
    let large = content(1, 100_000);
    let files: [(&str, &[u8]); 4] =
        [("one.xml", b"<one/>"), ("two.xml", b"<two/>"), ("three.jpg", &large), ("four.xml", b"<four/>")];
    let ids = phone.add(&files);
    phone.sync();
    site.gateway.stop();
    damage_body(&site.gateway.folder().join("store"), 1);
    damage_body(&site.gateway.folder().join("store"), 2);
    site.gateway.start();
    assert_eq!(site.gateway.findings().len(), 2, "the check names both");
    site.destination.backhaul.refuse(false);
    wait_until("the others", || (site.gateway.status()["opened"] == 2).then_some(()));
    let status = wait_until("the report", || {
        let status = site.gateway.status();
        (status["asked_for_again"] == 2).then_some(status)
    });
    let aside = status["destinations"][0]["set_aside"].as_object().unwrap();
    assert_eq!(aside.len(), 2);
    for (id, cause) in aside {
        let cause = cause.as_str().unwrap();
        assert!(ids.contains(id) && cause.contains("were damaged here"), "{id}: {cause}");
        assert!(cause.contains("asked for it again"), "{cause}");
    }
    assert!(site.gateway.findings().is_empty());
    // Somebody else's visit changes nothing; the phone that brought them brings them once more.
    other.sync();
    assert_eq!(site.gateway.status()["asked_for_again"], 2);
    let ran = phone.run(&["sync", "--wait", "30s"]);
    assert_eq!((&ran.last()["transferred"], &ran.last()["opened"]), (&2.into(), &4.into()), "{ran:#?}");
    assert!(phone.list(false).is_empty());
    assert_eq!(site.destination.inbox(), files.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).into());
    let status = site.gateway.status();
    assert_eq!(
        (&status["asked_for_again"], &status["destinations"][0]["set_aside"]),
        (&0.into(), &serde_json::json!({}))
    );
}

#[test]
fn a_phone_that_sends_nonsense_is_told_and_disturbs_nobody() {
    let site = Site::start();
    let address = site.gateway.link.address();
    let mut mallory =
        RawSession::open(address, &introduced_to(&site.gateway), &identity(1), &hello("mallory", &[]))
            .unwrap();
    let mut other =
        RawSession::open(address, &introduced_to(&site.gateway), &identity(2), &hello("other", &[])).unwrap();
    let served = Header::to(site.destination.fingerprint().parse().unwrap());
    let good = document(&served, 1, 500);

    // What is no document is refused or passed over; the session goes on.
    let mut altered = good.to_message();
    altered.body = vec![b'W', b'P', 1, 0xff, 0xff].into();
    let altered = waypost_protocol::document::Document::from_message(altered).unwrap();
    assert_eq!(mallory.deposit(&altered), Told::Refused(Reason::Malformed));
    let bad_messages = [
        Message { group_id: vec![1; 31].into(), ..good.to_message() },
        Message { timestamp: -1, ..good.to_message() },
        Message { timestamp: 1 << 40, ..good.to_message() },
    ];
    mallory.send(&Payload { messages: bad_messages.to_vec(), ..Payload::default() }).unwrap();
    assert_eq!(mallory.deposit(&good), Told::Ack);

    // What breaks the protocol ends the session, with the reason.
    let broken = |site: &Site| {
        RawSession::open(address, &known_to(&site.gateway), &identity(1), &hello("mallory", &[])).unwrap()
    };
    let start = Start {
        transfer: 1,
        id: vec![7; 32].into(),
        group_id: vec![3; 32].into(),
        timestamp: 0,
        size: 100_000,
        destination: bytes::Bytes::copy_from_slice(served.destination.as_bytes()),
    };
    let beyond = Chunk { transfer: 1, offset: 0, bytes: vec![0; 60_000].into() };
    let nonsense: [Vec<u8>; 4] = [
        b"this is no protobuf at all".to_vec(),
        encode(&Payload { offers: vec![vec![1; 31].into()], ..Payload::default() }),
        encode(&Payload { hello: Some(Default::default()), ..Payload::default() }),
        encode(&Payload {
            starts: vec![Start { size: 50_000, ..start }],
            chunks: vec![beyond],
            ..Payload::default()
        }),
    ];
    for payload in nonsense {
        let mut session = broken(&site);
        session.send_bytes(&payload).unwrap();
        let goodbye = session.goodbye();
        assert!(matches!(goodbye, Ok(Goodbye::ProtocolError)), "{goodbye:?} after {payload:?}");
    }
    // A frame that does not decrypt ends it without a word.
    let mut session = broken(&site);
    session.send_frame(&[0x55; 300]).unwrap();
    assert!(session.goodbye().is_err());

    assert_eq!(other.deposit(&document(&served, 2, 500)), Told::Ack, "the other phone's session suffered");
    let log = std::fs::read_to_string(site.gateway.log()).unwrap();
    assert!(log.contains("peer broke the protocol") && log.contains("malformed data passed over"), "{log}");
    let phone = site.paired_phone("anna");
    phone.add(&[("form.xml", b"<form/>")]);
    phone.run(&["sync", "--wait", "30s"]);
    assert_eq!(site.destination.inbox().len(), 1);
    assert!(site.gateway.findings().is_empty());
}

fn encode(payload: &Payload) -> Vec<u8> {
    prost::Message::encode_to_vec(payload)
}

/// Connects again and again and sends what is no session, as fast as it goes.
fn flood(address: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut connections = 0;
    while !stop.load(Ordering::Relaxed) {
        connections += 1;
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        for round in 0..20 {
            let garbage = content(connections * 100 + round, 900);
            let sent = stream.write_all(&[&900u16.to_be_bytes(), &garbage[..]].concat());
            if sent.is_err() {
                break;
            }
        }
    }
    connections
}

#[test]
fn phones_are_served_while_others_flood_the_gateway_with_garbage() {
    let site = Site::start();
    let phone = site.paired_phone("anna");
    // Past the proxy, which would be the one to suffer.
    let address: SocketAddr = site.gateway.status()["listening"][0].as_str().unwrap().parse().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let flooders: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || flood(address, &stop))
        })
        .collect();
    let files: Vec<(String, Vec<u8>)> =
        (0..20).map(|number| (format!("form-{number:02}.xml"), content(number, 5_000))).collect();
    let named: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
    phone.add(&named);
    // A contact may be turned away while strangers hold all places; the next one may not.
    wait_until("the delivery", || {
        phone.try_run(&["sync", "--wait", "5s"]);
        phone.list(false).is_empty().then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    let connections: u64 = flooders.into_iter().map(|one| one.join().unwrap()).sum();
    assert!(connections > 100, "only {connections} connections were made");
    assert_eq!(site.destination.inbox(), files.into_iter().collect());
    let status = wait_until("peace", || Some(site.gateway.status()).filter(|status| status["sessions"] == 0));
    assert_eq!((&status["waiting"], &status["opened"]), (&0.into(), &20.into()));
    assert!(site.gateway.findings().is_empty());
}

#[test]
fn a_bad_destination_beside_a_good_one_is_named_and_the_good_one_is_served() {
    let mut site = Site::start();
    let phone = site.paired_phone("anna");
    site.gateway.stop();
    let folder = site.gateway.folder().to_owned();
    std::fs::write(folder.join("garbage.pgp"), "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nnonsense\n").unwrap();
    let table = |name: &str, certificate: &str| {
        format!(
            "[[destination]]\nname = \"{name}\"\nurl = \"https://127.0.0.1:9\"\ncertificate = \"../{certificate}\"\n"
        )
    };
    site.gateway.configure(
        "90-bad",
        &[
            table("no-file", "none.pgp"),
            table("garbage", "garbage.pgp"),
            table("the-same", "certificate.pgp"),
        ]
        .join("\n"),
    );
    let checked = waypost_tests::scenario::run(&mut site.gateway.command(&["check"]));
    let named = checked.last()["problems"].to_string();
    assert!(!checked.status.success());
    for words in ["none.pgp", "garbage.pgp", "the same as that of"] {
        assert!(named.contains(words), "{words}: {named}");
    }
    site.gateway.start();
    let log = std::fs::read_to_string(site.gateway.log()).unwrap();
    assert!(log.contains("none.pgp") && log.contains("garbage.pgp"), "{log}");
    phone.add(&[("form.xml", b"<form/>")]);
    phone.run(&["sync", "--wait", "30s"]);
    assert_eq!(site.destination.inbox().len(), 1);
}
