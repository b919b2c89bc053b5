//! What a gateway answers to an OFFER (R27): ACK, confirmation, refusal with its reason, or REQUEST.

use waypost_protocol::confirmation::{Rejection, Verdict};
use waypost_protocol::document::Document;
use waypost_protocol::envelope::Header;
use waypost_protocol::ids::{Fingerprint, MessageId};
use waypost_protocol::refusal::Reason;
use waypost_tests::rogue::{RawSession, Told, document, hello, identity, introduced_to, known_to};
use waypost_tests::scenario::{Site, wait_until};

/// A session with the site's gateway, as a phone that was paired for this.
fn session(site: &Site, seed: u64) -> RawSession {
    let address = site.gateway.link.address();
    RawSession::open(address, &introduced_to(&site.gateway), &identity(seed), &hello("raw", &[])).unwrap()
}

fn served(site: &Site) -> Header {
    Header::to(site.destination.fingerprint().parse().unwrap())
}

fn refused(reason: Reason) -> Told {
    Told::Refused(reason)
}

#[test]
fn what_is_unknown_is_requested_and_what_is_held_is_acknowledged() {
    let site = Site::start();
    site.destination.backhaul.refuse(true);
    let small = document(&served(&site), 1, 1_000);
    let mut first = session(&site, 1);
    assert_eq!(first.offer(&small.id()), Told::Request);
    assert_eq!(first.deposit(&small), Told::Ack);
    assert_eq!(first.offer(&small.id()), Told::Ack);
    assert_eq!(first.start(&document(&served(&site), 2, 100_000)), Told::Request);
    // The ACK is about the gateway's store, whoever asks; and who asks is remembered as one more depositor.
    let mut second = session(&site, 2);
    assert_eq!(second.offer(&small.id()), Told::Ack);
    assert_eq!(site.gateway.documents().len(), 1);
}

#[test]
fn what_the_destination_has_spoken_on_is_answered_with_its_confirmation() {
    let site = Site::start();
    let phone = site.paired_phone("anna");
    let opened: MessageId = phone.add(&[("form.xml", b"<form/>")])[0].parse().unwrap();
    phone.sync();
    let noise = document(&served(&site), 1, 1_000);
    let mut raw = session(&site, 1);
    assert_eq!(raw.deposit(&noise), Told::Ack);
    wait_until("the verdicts", || (site.gateway.status()["waiting"] == 0).then_some(()));
    raw.close();

    let mut raw = session(&site, 2);
    for (id, verdict) in
        [(opened, Verdict::Opened), (noise.id(), Verdict::Rejected(Rejection::UnknownCollection))]
    {
        match raw.offer(&id) {
            Told::Confirmed(confirmation) => {
                assert_eq!(confirmation.statement.verdict_on(&id), Some(verdict));
            }
            other => panic!("{verdict:?} was answered with {other:?}"),
        }
    }
    // A large one by its announcement, the same.
    assert!(matches!(raw.start(&noise), Told::Confirmed(_)));
    // And a document that is sent without having been offered.
    assert!(matches!(raw.deposit(&noise), Told::Confirmed(_)));
}

#[test]
fn what_was_deleted_or_has_expired_is_refused_with_that_reason() {
    let site = Site::start();
    site.destination.backhaul.refuse(true);
    let deleted = document(&served(&site), 1, 1_000);
    let expiring = document(&Header { lifetime: 1, ..served(&site) }, 2, 1_000);
    let mut raw = session(&site, 1);
    for one in [&deleted, &expiring] {
        assert_eq!(raw.deposit(one), Told::Ack);
    }
    site.gateway.run(&["documents", "delete", &deleted.id().to_string()]);
    let every_way = |raw: &mut RawSession, document: &Document, reason| {
        assert_eq!(raw.offer(&document.id()), refused(reason));
        assert_eq!(raw.start(document), refused(reason));
        assert_eq!(raw.deposit(document), refused(reason));
    };
    every_way(&mut raw, &deleted, Reason::Deleted);
    wait_until("the end of its life", || (raw.offer(&expiring.id()) != Told::Ack).then_some(()));
    every_way(&mut raw, &expiring, Reason::Expired);
    // The same to another phone, and after a restart, which forgets nothing. (It may age nothing, either: up to a minute of
    // the store's own time is written down with the next change only.)
    let mut site = site;
    site.gateway.stop();
    site.gateway.start();
    let mut raw = session(&site, 2);
    every_way(&mut raw, &deleted, Reason::Deleted);
    wait_until("the end of its life", || (raw.offer(&expiring.id()) != Told::Ack).then_some(()));
    every_way(&mut raw, &expiring, Reason::Expired);
    assert!(site.gateway.findings().is_empty());
}

#[test]
fn what_is_not_served_or_not_permitted_is_refused_with_that_reason() {
    let site = Site::start();
    let elsewhere = document(&Header::to(Fingerprint::V4([9; 20])), 1, 1_000);
    let ephemeral = document(&Header { ephemeral: true, ..served(&site) }, 2, 1_000);
    let mut raw = session(&site, 1);
    // An id alone says nothing of its destination: that shows when the document comes.
    assert_eq!(raw.offer(&elsewhere.id()), Told::Request);
    assert_eq!(raw.deposit(&elsewhere), refused(Reason::DestinationNotServed));
    assert_eq!(raw.deposit(&ephemeral), refused(Reason::NotPermitted));
    let no_envelope = Document::new(elsewhere.group(), elsewhere.timestamp(), vec![0; 100].into()).unwrap();
    assert_eq!(raw.deposit(&no_envelope), refused(Reason::Malformed));
    raw.close();

    let others = "[[destination]]\nname = \"test\"\ncollections = \
                  [{ label = \"other\", group = \"0404040404040404040404040404040404040404040404040404040404040404\" }]\n";
    let url = format!("url = \"https://{}\"\n", site.destination.backhaul.address());
    let files = "certificate = \"../certificate.pgp\"\ntoken_file = \"../token\"\nca_file = \"../ca.pem\"\n";
    site.gateway.configure("20-destination", &format!("{others}{url}{files}"));
    site.gateway.run(&["reload"]);
    let mut raw = RawSession::open(
        site.gateway.link.address(),
        &known_to(&site.gateway),
        &identity(1),
        &hello("raw", &[]),
    )
    .unwrap();
    let served_before = document(&served(&site), 3, 1_000);
    assert_eq!(raw.offer(&served_before.id()), Told::Request);
    assert_eq!(raw.deposit(&served_before), refused(Reason::CollectionNotServed));
    assert!(site.gateway.documents().is_empty());
}

#[test]
fn what_is_too_large_or_over_quota_is_refused_with_that_reason() {
    let site = Site::configured("[store]\nquota = \"2MiB\"\n[limits]\nmax_document = \"1MiB\"\n");
    site.destination.backhaul.refuse(true);
    let mut raw = session(&site, 1);
    assert_eq!(raw.start(&document(&served(&site), 1, 1 << 20)), refused(Reason::TooLarge));
    let mut held = Vec::new();
    let full = (2..).map(|seed| document(&served(&site), seed, 15_000)).take(300).find(|next| {
        let told = raw.deposit(next);
        if told == Told::Ack {
            held.push(next.id());
        }
        told == refused(Reason::OverQuota)
    });
    let full = full.expect("the quota is never reached");
    assert!(held.len() > 20, "full after {} documents", held.len());
    assert_eq!(raw.deposit(&full), refused(Reason::OverQuota));
    // What is held is acknowledged all the same, and room that is made is used.
    assert_eq!(raw.offer(&held[0]), Told::Ack);
    for id in &held[..10] {
        site.gateway.run(&["documents", "delete", &id.to_string()]);
    }
    wait_until("room", || (raw.deposit(&full) == Told::Ack).then_some(()));
    assert!(site.gateway.findings().is_empty());
}
