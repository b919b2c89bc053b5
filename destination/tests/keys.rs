//! The key over time: renewed, succeeded, revoked; what was sealed before still opens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::Command;

use support::{Place, Running};
use waypost_destination::Home;
use waypost_openpgp::{Certificate, Chain, Compress, SecretKey, seal_bytes, verify_confirmation};
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::content::Label;
use waypost_protocol::document::Document;
use waypost_protocol::succession;

/// A document that is sealed to the present key.
fn document_for_now(place: &Place, content: &[u8]) -> Document {
    let home = Home::open(place.home.path()).unwrap();
    let label = Label { collection: "forms".into(), ..Label::default() };
    let now = support::now();
    let to = home.chain().recipient(now).unwrap().clone();
    place.wrap("forms", &seal_bytes(&label, content, &[to], Compress::Never, now).unwrap())
}

/// What the server says of its chain, followed from the certificate that was pinned at first.
fn followed(server: &Running, pinned: &Certificate) -> Chain {
    let reply = server.bare_curl("/v1/successions", &[]).unwrap();
    let mut chain = Chain::new(pinned.clone());
    let absorbed = chain.absorb(&succession::decode(&reply.body).unwrap(), support::now());
    assert_eq!(absorbed.faults, vec![]);
    chain
}

/// Uploads it; the confirmation.
fn confirmed(server: &Running, document: &Document) -> Confirmation {
    let answer = server.put(document).answer();
    let confirmation = Confirmation::from_wire(&answer.confirmations[0]).unwrap();
    let verdict = confirmation.statement.verdict_on(&document.id());
    assert_eq!(verdict, Some(waypost_protocol::confirmation::Verdict::Opened));
    confirmation
}

fn verifies(confirmation: &Confirmation, certificates: &[Certificate]) -> bool {
    verify_confirmation(confirmation, certificates, support::now()).is_ok()
}

#[test]
fn a_renewed_key_opens_what_was_sealed_to_the_old_subkey_and_its_state_is_served() {
    let place = Place::new();
    let pinned = place.home.certificate();
    let before = place.document(None, b"before");
    let renewed = place.command(&["key", "renew", "--for", "2y"]).unwrap();
    assert_eq!(renewed["fingerprint"], pinned.fingerprint().to_string());
    // OpenPGP counts in seconds: what is made in the second of the old key is dated a second later.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let server = place.run();
    let chain = followed(&server, &pinned);
    assert_ne!(chain.certificates(), std::slice::from_ref(&pinned));
    for document in [before, document_for_now(&place, b"after")] {
        let confirmation = confirmed(&server, &document);
        assert!(verifies(&confirmation, chain.certificates()));
        assert!(!verifies(&confirmation, std::slice::from_ref(&pinned)), "a new subkey signs");
    }
    assert_eq!(place.inbox().len(), 2);
    let file = std::fs::read(place.home.certificate_file()).unwrap();
    assert_eq!([Certificate::from_bytes(&file).unwrap()], chain.certificates());
    let wrong = place.command(&["key", "renew", "--for", "2 years"]).unwrap_err();
    assert!(wrong.contains("such as 2y"), "{wrong}");
}

#[test]
fn a_successor_signs_opens_what_is_older_and_keeps_the_destinations_name() {
    let place = Place::new();
    let pinned = place.home.certificate();
    let before = place.document(None, b"before");
    let said = place.command(&["key", "succeed", "--new"]).unwrap();
    assert_eq!(said["by"], pinned.fingerprint().to_string());
    let server = place.run();
    let chain = followed(&server, &pinned);
    let [_, successor] = chain.certificates() else { panic!("{chain:?}") };
    assert_eq!(said["successor"], successor.fingerprint().to_string());
    for document in [before, document_for_now(&place, b"after")] {
        let confirmation = confirmed(&server, &document);
        assert_eq!(confirmation.statement.destination(), pinned.fingerprint());
        assert!(verifies(&confirmation, chain.certificates()));
        assert!(!verifies(&confirmation, std::slice::from_ref(&pinned)), "the successor signs");
    }
    assert_eq!(place.inbox().len(), 2);
    let keyring = server.bare_curl("/v1/certificate", &[]).unwrap().body;
    assert_eq!(Certificate::several_from_bytes(&keyring).unwrap(), chain.certificates());
    let info = server.bare_curl("/v1/info", &[]).unwrap().json();
    assert_eq!(info["fingerprint"], pinned.fingerprint().to_string());

    let folder = place.folder.path().join("statements");
    let said = place.command(&["key", "statement", "--to", folder.to_str().unwrap()]).unwrap();
    let name = said["statements"][0]["successor"].as_str().unwrap().to_owned();
    let gpg_home = tempfile::Builder::new().prefix("wpg").tempdir_in("/tmp").unwrap();
    let gpg = |arguments: &[&std::path::Path]| {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(gpg_home.path()).args(["--batch", "--quiet", "--trust-model", "always"]);
        gpg.args(arguments).output().expect("gpg is not installed: apt-get install gnupg")
    };
    gpg(&["--import".as_ref(), &place.home.certificate_file()]);
    let (signature, text) = (folder.join(format!("{name}.txt.asc")), folder.join(format!("{name}.txt")));
    let verified = gpg(&["--verify".as_ref(), &signature, &text]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    drop(Command::new("gpgconf").arg("--homedir").arg(gpg_home.path()).args(["--kill", "all"]).status());
}

#[test]
fn a_key_that_is_brought_along_succeeds_and_a_revoked_one_is_told_of() {
    let place = Place::new();
    let pinned = place.home.certificate();
    let key = SecretKey::generate("Clinic", support::now()).unwrap();
    let file = place.file("new.pgp", key.to_armor().unwrap().as_bytes());
    let first = pinned.fingerprint().to_string();
    let alone = place.command(&["key", "revoke", &first]).unwrap_err();
    assert!(alone.contains("no successor"), "{alone}");
    place.command(&["key", "succeed", "--to", file.to_str().unwrap()]).unwrap();
    let server = place.run();
    let mut chain = followed(&server, &pinned);
    drop(server);
    let old = SecretKey::from_bytes(&std::fs::read(place.home.path().join("secret.pgp")).unwrap()).unwrap();
    place.command(&["key", "revoke", &first]).unwrap();
    let list = place.command(&["key", "list"]).unwrap();
    assert_eq!((&list["keys"][0]["revoked"], &list["keys"][1]["signs"]), (&true.into(), &true.into()));
    let server = place.run();
    let links = server.bare_curl("/v1/successions", &[]).unwrap().body;
    chain.absorb(&succession::decode(&links).unwrap(), support::now());
    let document = document_for_now(&place, b"x");
    let late = old.sign(
        pinned.fingerprint(),
        vec![(document.id(), waypost_protocol::confirmation::Verdict::Opened)],
        support::now(),
    );
    assert!(!verifies(&late.unwrap(), chain.certificates()), "in other hands");
    assert!(verifies(&confirmed(&server, &document), chain.certificates()));
}

#[test]
fn a_secret_whose_chain_was_not_written_before_the_power_cut_harms_nothing() {
    let place = Place::new();
    let keys = place.home.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    let unused = SecretKey::generate("Clinic", support::now()).unwrap();
    let name = unused.certificate().fingerprint();
    std::fs::write(keys.join(format!("{name}.pgp")), unused.to_armor().unwrap().as_bytes()).unwrap();
    let list = place.command(&["key", "list"]).unwrap();
    assert_eq!(list["keys"].as_array().unwrap().len(), 1);
    assert_eq!(list["keys"][0]["signs"], true);
    // A renewed secret beside an older chain.
    place.command(&["key", "renew"]).unwrap();
    let chain = std::fs::read(place.home.path().join("chain.pb")).unwrap();
    place.command(&["key", "renew"]).unwrap();
    std::fs::write(place.home.path().join("chain.pb"), chain).unwrap();
    let server = place.run();
    let chain = followed(&server, &place.home.certificate());
    assert!(verifies(&confirmed(&server, &document_for_now(&place, b"x")), chain.certificates()));
}
