//! Printed codes: for many phones, made anew, revoked as a whole.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use serde_json::{Value, json};
use waypost_protocol::envelope::Header;
use waypost_protocol::ids::RecordTag;
use waypost_protocol::invite::Pairing;
use waypost_protocol::refusal::{Goodbye, Reason};
use waypost_protocol::session::Introduction;
use waypost_tests::rogue::{RawError, RawSession, Told, document, hello, identity, known_to};
use waypost_tests::scenario::{Site, run};

fn posters(site: &Site, arguments: &[&str]) -> Value {
    let said = run(&mut site.gateway.command(&[&["posters"], arguments].concat()));
    assert!(said.status.success(), "{said:#?}");
    said.last().clone()
}

fn refused(site: &Site, arguments: &[&str]) -> String {
    let said = run(&mut site.gateway.command(&[&["posters"], arguments].concat()));
    assert_eq!(said.status.code(), Some(1), "{said:#?}");
    said.last()["error"].as_str().unwrap().to_owned()
}

fn code(answer: &Value) -> Introduction {
    let pairing = Pairing::parse(answer["text"].as_str().unwrap()).unwrap();
    Introduction::Code(pairing.gateway, pairing.secret)
}

fn open(site: &Site, how: &Introduction, seed: u64) -> RawSession {
    RawSession::open(site.gateway.link.address(), how, &identity(seed), &hello("raw", &[])).unwrap()
}

#[test]
fn a_poster_lets_many_phones_in_until_it_is_made_anew_or_revoked() {
    let site = Site::start();
    let header = Header::to(site.destination.fingerprint().parse().unwrap());
    let brings = |session: &mut RawSession, seed| session.deposit(&document(&header, seed, 15_000));
    let market = posters(&site, &["add", "market gate"]);
    assert_eq!(posters(&site, &["show", "market gate"]), market);
    let clinic = code(&posters(&site, &["add", "clinic"]));
    let first = code(&market);
    let mut anna = open(&site, &first, 1);
    let mut bela = open(&site, &first, 2);
    let mut other = open(&site, &clinic, 3);
    for (session, seed) in [(&mut anna, 1), (&mut bela, 2), (&mut other, 3)] {
        assert_eq!(brings(session, seed), Told::Ack);
        let large = document(&header, 10 + seed, 70_000);
        assert_eq!(session.start(&large), Told::Refused(Reason::TooLarge));
        let record = Header { record: Some(RecordTag([1; 16])), ..header.clone() };
        assert_eq!(session.deposit(&document(&record, seed, 500)), Told::Refused(Reason::NotPermitted));
    }
    assert_eq!(site.gateway.status()["codes_used"], 0, "it is not used up");
    let peers = site.gateway.ask(&json!({ "do": "peers" }));
    assert!(peers.as_array().unwrap().iter().all(|peer| peer["class"] == "poster"), "{peers}");

    // Made anew: who has come by the old one comes again, and nobody else.
    let second = code(&posters(&site, &["rotate", "market gate"]));
    let late = RawSession::open(site.gateway.link.address(), &first, &identity(4), &hello("late", &[]));
    assert!(matches!(late, Err(RawError::Closed | RawError::Io(_))), "a void code");
    assert_eq!(brings(&mut anna, 21), Told::Ack);
    assert_eq!(brings(&mut open(&site, &known_to(&site.gateway), 2), 22), Told::Ack);
    assert_eq!(brings(&mut open(&site, &second, 4), 23), Told::Ack);
    assert_eq!(
        run(&mut site.gateway.command(&["posters", "list"])).said,
        [
            json!({ "name": "clinic", "is_valid": true, "phones": 1 }),
            json!({ "name": "market gate", "is_valid": true, "phones": 3 })
        ]
    );

    // Revoked: sessions end at once, and those to come, by key or by code.
    let revoked = posters(&site, &["revoke", "market gate"]);
    assert_eq!(revoked["phones"].as_array().unwrap().len(), 3, "{revoked}");
    assert_eq!(anna.goodbye().unwrap(), Goodbye::Revoked);
    assert_eq!(open(&site, &known_to(&site.gateway), 2).goodbye().unwrap(), Goodbye::Revoked);
    let late = RawSession::open(site.gateway.link.address(), &second, &identity(5), &hello("late", &[]));
    assert!(matches!(late, Err(RawError::Closed | RawError::Io(_))), "a void code");
    assert_eq!(brings(&mut other, 24), Told::Ack);
    // One that an admin pairs by hand is let in again.
    let by_hand = waypost_tests::rogue::introduced_to(&site.gateway);
    assert_eq!(brings(&mut open(&site, &by_hand, 1), 25), Told::Ack);
}

#[test]
fn what_is_wrong_with_a_poster_is_said() {
    let site = Site::start();
    posters(&site, &["add", "market"]);
    for (arguments, why) in [
        (&["add", "market"][..], "there is a poster market already"),
        (&["add", ""], "1 to 64 characters"),
        (&["add", "two\nlines"], "1 to 64 characters"),
        (&["show", "clinic"], "no poster is called clinic"),
        (&["rotate", "clinic"], "no poster is called clinic"),
        (&["revoke", "clinic"], "no poster is called so"),
        (&["add", "clinic", "--picture", "clinic.pdf"], "ends with .svg or .png"),
    ] {
        let said = refused(&site, arguments);
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
    assert_eq!(run(&mut site.gateway.command(&["posters", "list"])).said.len(), 1);
}
