//! Documents of the destination's own: who signs them, and what becomes of one that was published by half.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use support::{Place, Running, now};
use waypost_openpgp::{Author, Chain, Limits, SecretKey};
use waypost_protocol::document::Document;
use waypost_protocol::envelope;
use waypost_protocol::ids::MessageId;
use waypost_protocol::succession;
use waypost_remote_log::{Content, Entry, Head, LogKey, Page};

/// Publishes a file for a reader; the document's id.
fn publish(place: &Place, reader: &Path, file: &Path) -> Result<MessageId, String> {
    let arguments = ["publish", "--collection", "forms", "--reader", reader.to_str().unwrap()];
    let said = place.command(&[&arguments[..], &[file.to_str().unwrap()]].concat())?;
    Ok(said["published"][0]["id"].as_str().unwrap().parse().unwrap())
}

/// What gateways find in the destination's own log.
fn listed(server: &Running) -> Vec<Entry> {
    let info = server.curl("/v1/info", &[]).json();
    let name = info["log"].as_str().unwrap();
    let head = server.curl(&format!("/v1/names/{name}"), &[]).body;
    let head = Head::decode(&head, &LogKey::from_hex(name).unwrap()).unwrap();
    let page = server.curl(&format!("/v1/content/{}", head.root), &[]).body;
    Page::decode(Bytes::from(page)).unwrap().entries
}

fn reader(place: &Place) -> (SecretKey, PathBuf) {
    let key = SecretKey::generate("Anna", now()).unwrap();
    let file = place.file("anna.pgp", &key.certificate().to_bytes());
    // OpenPGP counts in seconds: nothing can be sealed to a key of the future.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    (key, file)
}

#[test]
fn a_reader_accepts_what_a_successor_signed_by_the_chain_from_the_key_that_it_pinned() {
    let place = Place::new();
    let pinned = place.home.certificate();
    let (key, certificate) = reader(&place);
    place.command(&["key", "succeed", "--new"]).unwrap();
    let mut chain = Chain::new(pinned.clone());
    let follow = |chain: &mut Chain, server: &Running| {
        let links = server.curl("/v1/successions", &[]).body;
        chain.absorb(&succession::decode(&links).unwrap(), now())
    };
    assert_eq!(follow(&mut chain, &place.run()).faults, []);
    // In other hands: nothing is sealed to it any more either.
    place.command(&["key", "revoke", &pinned.fingerprint().to_string()]).unwrap();
    let id = publish(&place, &certificate, &place.file("recall.txt", b"batch 17")).unwrap();
    let server = place.run();
    let [entry] = &listed(&server)[..] else { panic!() };
    assert_eq!(entry.described.id, id);
    let Content::Inline(bytes) = &entry.content else { panic!() };
    let document = Document::decode(bytes.clone()).unwrap();
    follow(&mut chain, &server);
    assert!(chain.certificates()[0].is_hard_revoked());
    let (_, at) = envelope::parse(document.body()).unwrap();
    let open = |authors: &[waypost_openpgp::Certificate]| {
        let (mut content, limits) = (Vec::new(), Limits { max_content: 1_000 });
        let opened = key.open_signed(&document.body()[at..], &mut content, limits, authors).unwrap();
        assert_eq!(content, b"batch 17");
        opened.author
    };
    let successor = chain.certificates()[1].fingerprint();
    let author = open(chain.certificates());
    assert!(matches!(author, Author::Signed { certificate, .. } if certificate == successor), "{author:?}");
    assert_eq!(open(&[pinned]), Author::Unknown);
    let answer = server.ask("/v1/confirmations", &[id]);
    let confirmation =
        waypost_protocol::confirmation::Confirmation::from_wire(&answer.confirmations[0]).unwrap();
    assert!(waypost_openpgp::verify_confirmation(&confirmation, chain.certificates(), now()).is_ok());
}

#[test]
fn what_failed_at_the_log_goes_on_as_the_same_document_and_is_listed_once() {
    let place = Place::new();
    let (_, certificate) = reader(&place);
    let file = place.file("recall.txt", b"batch 17");
    let log = place.home.log_folder();
    let _ = std::fs::remove_dir_all(&log);
    std::fs::write(&log, b"no folder").unwrap();
    let said = publish(&place, &certificate, &file).unwrap_err();
    assert!(said.contains("recall.txt"), "{said}");
    std::fs::remove_file(&log).unwrap();
    let left = place.folder.path().join("left");
    let publishing = place.home.path().join("publishing");
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
        assert!(copied.unwrap().success());
    };
    copy(&publishing, &left);
    let id = publish(&place, &certificate, &file).unwrap();
    // A power cut after the log was written and before that was known.
    copy(&left, &publishing);
    assert_eq!(publish(&place, &certificate, &file), Ok(id));
    let ids = |server: &Running| listed(server).iter().map(|entry| entry.described.id).collect::<Vec<_>>();
    let server = place.run();
    assert_eq!(ids(&server), [id]);
    assert_eq!(place.command(&["status"]).unwrap()["documents"]["opened"], 1);
    // What was published well may be published again, and another file is another document.
    let again = publish(&place, &certificate, &file).unwrap();
    let other = publish(&place, &certificate, &place.file("recall.txt", b"batch 18")).unwrap();
    assert_eq!(ids(&server), [id, again, other]);
    assert_eq!(std::fs::read_dir(publishing).unwrap().count(), 0);
}
