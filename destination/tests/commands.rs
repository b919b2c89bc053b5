//! The commands: what they make and say, held documents, confirmations that `gpg --verify` takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::process::Command;

use support::{Place, batch, binary};
use waypost_openpgp::{Certificate, SecretKey};
use waypost_protocol::confirmation::{Rejection, Verdict};
use waypost_protocol::invite::Destination;

/// A destination whose decryption key is elsewhere, and that key.
fn held_place() -> (Place, SecretKey) {
    let whole = SecretKey::generate("Clinic", support::now()).unwrap();
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("signing.pgp");
    std::fs::write(&file, whole.signing_only().unwrap().to_armor().unwrap().as_bytes()).unwrap();
    (Place::with(|init| init.signing_key = Some(file)), whole)
}

#[test]
fn held_documents_are_confirmed_as_held_and_again_when_the_key_opens_them() {
    let (place, key) = held_place();
    let server = place.run();
    let good: Vec<_> = (0..70).map(|n| place.document(Some(b"form.xml"), &[n])).collect();
    let damaged = support::altered(&place.document(None, b"x"));
    let answer = server.send("POST", "/v1/batch", &batch(good.iter().chain([&damaged]))).answer();
    assert!(place.verdicts(&answer).iter().all(|(_, verdict)| *verdict == Verdict::Held));
    assert_eq!(place.verdicts(&answer).len(), 71);
    assert_eq!((place.inbox(), place.temporary_files()), (vec![], 0));
    assert!(place.command(&["open"]).unwrap_err().contains("--key FILE"));
    assert_eq!(place.command(&["status"]).unwrap()["documents"]["held"], 71);

    let file = place.file("key.pgp", key.to_armor().unwrap().as_bytes());
    let report = place.command(&["open", "--key", file.to_str().unwrap()]).unwrap();
    assert_eq!(
        (&report["opened"], &report["rejected"], &report["failed"]),
        (&70.into(), &1.into(), &0.into())
    );
    assert_eq!(place.inbox().len(), 70);
    let ids: Vec<_> = good.iter().chain([&damaged]).map(|document| document.id()).collect();
    let later = server.ask("/v1/confirmations", &ids);
    for document in &good {
        assert_eq!(place.verdict_on(&later, document), Some(Verdict::Opened));
    }
    assert_eq!(place.verdict_on(&later, &damaged), Some(Verdict::Rejected(Rejection::CannotOpen)));
    // A gateway that asks since its cursor hears of both.
    let protobuf = ["--header", "Accept: application/x-protobuf"];
    let all = server.curl("/v1/confirmations", &protobuf).answer();
    assert_eq!(all.confirmations.len(), answer.confirmations.len() + later.confirmations.len());
    // The same document again: nothing moves back.
    assert_eq!(place.verdict_on(&server.put(&good[0]).answer(), &good[0]), Some(Verdict::Opened));
    let again = place.command(&["open", "--key", file.to_str().unwrap()]).unwrap();
    assert_eq!(again["opened"], 0);
    assert_eq!((place.inbox().len(), place.temporary_files()), (70, 0));
    assert_eq!(place.held(), 0);
}

#[test]
fn confirmations_verify_with_gpg_as_files() {
    let place = Place::new();
    let server = place.run();
    for content in [b"a", b"b"] {
        server.put(&place.document(None, content)).answer();
    }
    let folder = place.folder.path().join("exported");
    let report = place.command(&["confirmations", "export", folder.to_str().unwrap()]).unwrap();
    assert_eq!(report["confirmations"], 2);
    let gpg_home = tempfile::Builder::new().prefix("wpg").tempdir_in("/tmp").unwrap();
    let gpg = |arguments: &[&Path]| {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(gpg_home.path()).args(["--batch", "--quiet", "--trust-model", "always"]);
        gpg.args(arguments).output().expect("gpg is not installed: apt-get install gnupg").status.success()
    };
    assert!(gpg(&[Path::new("--import"), &place.home.certificate_file()]));
    for folder in [folder, place.confirmations_folder()] {
        let texts = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let texts: Vec<_> = texts.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect();
        assert_eq!(texts.len(), 2);
        for text in texts {
            let signature = text.with_extension("txt.asc");
            assert!(gpg(&[Path::new("--verify"), &signature, &text]), "{}", text.display());
        }
    }
    let _ = Command::new("gpgconf").arg("--homedir").arg(gpg_home.path()).args(["--kill", "all"]).status();
}

#[test]
fn init_makes_a_home_that_the_other_commands_read() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let run = |arguments: &[&str]| {
        let output = binary().arg("--home").arg(&home).args(arguments).output().unwrap();
        let text =
            String::from_utf8(if output.status.success() { output.stdout } else { output.stderr }).unwrap();
        (output.status.success(), text)
    };
    let (ok, text) = run(&["status"]);
    assert!(!ok && text.contains("waypost-destination init --home"), "{text}");
    let init = ["init", "--name", "Clinic Süd", "--url", "https://localhost:8443", "--collection", "forms"];
    let (ok, text) = run(&[&init[..], &["--collection", "photos"]].concat());
    assert!(ok && text.contains("fingerprint: ") && text.contains("gateways add"), "{text}");
    assert!(run(&init).1.contains("already"));
    let (ok, certificate) = run(&["certificate"]);
    assert!(ok);
    let certificate = Certificate::from_bytes(certificate.as_bytes()).unwrap();
    let (_, text) = run(&["gateways", "add", "kiosk"]);
    let expected = [
        "[[destination]]",
        "name = \"clinic-s-d\"",
        "url = \"https://localhost:8443\"",
        "certificate = \"/etc/waypost/clinic-s-d.pgp\"",
        "token_file = \"/etc/waypost/clinic-s-d.token\"",
        "ca_file = \"/etc/waypost/clinic-s-d-ca.pem\"",
    ];
    assert!(text.contains(&expected.join("\n")), "{text}");

    let (_, text) = run(&["--json", "phone-code", "--token", "phones"]);
    let text = serde_json::from_str::<serde_json::Value>(&text).unwrap()["text"].as_str().unwrap().to_owned();
    let code = Destination::parse(&text).unwrap();
    assert_eq!(code.fingerprint, certificate.fingerprint());
    assert_eq!(code.collections, ["forms", "photos"]);
    assert_eq!(code.url.as_deref(), Some("https://localhost:8443"));
    assert_eq!(Certificate::from_bytes(&code.certificate.unwrap()).unwrap(), certificate);
    assert!(code.token.is_some());
    let (_, text) = run(&["phone-code"]);
    assert!(text.contains('█') && text.contains("waypost://destination?v=1"), "{text}");
    let (_, text) = run(&["gateways", "list"]);
    assert!(text.contains("kiosk") && text.contains("phones"), "{text}");
    let (_, text) = run(&["status"]);
    assert!(text.contains("0 opened") && text.contains("forms, photos"), "{text}");
}

#[test]
fn a_gateway_with_a_client_certificate_is_given_all_keys_that_it_needs() {
    let place = Place::new();
    let authority = place.home.authority_file().unwrap();
    let added =
        place.command(&["gateways", "add", "other", "--client-cert", authority.to_str().unwrap()]).unwrap();
    let snippet = added["snippet"].as_str().unwrap();
    let keys = [
        "client_certificate = \"/etc/waypost/clinic-client.pem\"",
        "client_key = \"/etc/waypost/clinic-client.key\"",
    ];
    assert!(snippet.contains(&keys.join("\n")) && !snippet.contains("token_file"), "{snippet}");
    assert!(added["token"].is_null());
}

#[test]
fn what_goes_wrong_is_one_object_for_programs_and_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let run = |arguments: &[&str]| {
        let output = binary().arg("--home").arg(&home).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (plain, said) = run(&["status"]);
    assert!(plain.is_empty() && said.contains("is not the home of a destination"), "{plain}{said}");
    let (object, again) = run(&["--json", "status"]);
    assert_eq!(again, said);
    let object: serde_json::Value = serde_json::from_str(&object).unwrap();
    assert_eq!(format!("waypost-destination: {}\n", object["error"].as_str().unwrap()), said);
    assert_eq!(object.as_object().unwrap().len(), 1);
    // Errors that tell their cause, and anyhow which tells it once more: a key, a file, the listener's address.
    std::fs::write(folder.path().join("key.pgp"), b"no key").unwrap();
    let key = folder.path().join("key.pgp");
    let (_, said) = run(&["init", "--signing-key", key.to_str().unwrap()]);
    assert!(is_said_once(&said), "{said}");
    assert!(binary().arg("--home").arg(&home).arg("init").output().unwrap().status.success());
    for wrong in [
        &["open", "--key", "/no/such/file"][..],
        &["run", "--listen", "192.0.2.1:1"],
        &["confirmations", "export", "/proc/no"],
    ] {
        let (_, said) = run(wrong);
        assert!(said.contains("os error") && is_said_once(&said), "{said}");
    }
    std::fs::write(home.join("store.sqlite"), b"no database, but as long as one would have to be").unwrap();
    let (_, said) = run(&["status"]);
    assert!(is_said_once(&said), "{said}");
}

/// Whether no part of a message is another one again.
fn is_said_once(said: &str) -> bool {
    let parts: Vec<_> = said.trim().split(": ").collect();
    parts.iter().enumerate().all(|(at, part)| !parts[..at].contains(part))
}

#[test]
fn a_signing_key_without_its_certificate_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let init = waypost_destination::home::Init {
        signing_key: Some(folder.path().join("missing.pgp")),
        ..Default::default()
    };
    let error = waypost_destination::Home::init(&folder.path().join("home"), &init).unwrap_err();
    assert!(error.to_string().contains("missing.pgp"), "{error}");
    assert!(!folder.path().join("home").exists());
}

#[test]
fn a_running_server_ends_in_order_when_it_is_told_to() {
    let place = Place::new();
    let mut server = place.run();
    server.put(&place.document(Some(b"a"), b"a")).answer();
    let id = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(server.child.wait().unwrap().success());
    assert_eq!(place.inbox().len(), 1);
}

#[test]
fn the_server_can_be_started_within_a_program() {
    let place = Place::new();
    let server = waypost_destination::Server::start(&place.home, "127.0.0.1:0").unwrap();
    let address = server.address();
    assert_ne!(address.port(), 0);
    server.stop();
    assert!(std::net::TcpStream::connect(address).is_err());
}
