//! The bytes of each protocol version, frozen: what this code makes and reads is what `tests/versions/` says.
//!
//! The files there are never edited, only added to: a change to one of them breaks what is deployed. New vectors go
//! into a new file, which `WRITE_VECTORS=1 cargo test -p waypost-tests --test frozen_bytes` makes; it never writes over
//! one that is there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod frozen;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use frozen::{handshakes, openpgp, remote_log, same, values};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Each frozen file and its SHA-256.
const FROZEN: [(&str, &str); 5] = [
    ("v1.json", "e4fdf4ee8d06883c2b09fb9746b602597120fa45e2ed6f73bc0d43993b80e618"),
    ("v1-openpgp.json", "af57ce05ecf39b0c986d4402f5f7bc0a50f505b2f2736a8dd1be66ac896eee98"),
    ("v1-signed.json", "b39033834ba09c3b6ae552a5bb5fb491ad8c347af73fd83952f70cce54a2e0df"),
    ("v1-remote-log.json", "5b1aa4319c4dac725535a9917d84183e8699de8282f22e2c8eceda2e1d3c48fa"),
    ("v1-succession.json", "c3b744c1b7911abb2a21f22a80a26557fd3a99195d2b065d88e7099c6e5dfe7c"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("versions")
}

/// The frozen file `name`, made by `make` where it is not there yet and that was asked for.
fn frozen(name: &str, make: impl FnOnce() -> Value) -> Value {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let path = folder().join(name);
    if std::env::var_os("WRITE_VECTORS").is_some() && !path.exists() {
        let mut text = serde_json::to_string_pretty(&make()).unwrap();
        text.push('\n');
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn make_v1() -> Value {
    let mut whole = values::make();
    whole["handshakes"] = handshakes::make();
    whole
}

#[test]
fn the_files_are_what_they_were_when_they_were_frozen() {
    for (name, expected) in FROZEN {
        let bytes = std::fs::read(folder().join(name)).unwrap();
        let found = frozen::hex(&Sha256::digest(&bytes));
        assert_eq!(found, expected, "{name} was changed; put new vectors into a new file instead");
    }
    let mut known: Vec<_> = FROZEN.iter().map(|(name, _)| (*name).to_owned()).collect();
    let found = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut found: Vec<_> = found.map(|name| name.into_string().unwrap()).collect();
    known.sort();
    found.sort();
    assert_eq!(found, known, "each file in tests/versions is frozen here by its hash");
}

#[test]
fn version_1_has_its_frozen_bytes() {
    same("v1.json", &frozen("v1.json", make_v1), &make_v1());
}

#[test]
fn version_1_is_read_from_its_frozen_bytes() {
    values::check(&frozen("v1.json", make_v1));
}

#[test]
fn handshakes_of_version_1_are_taken_by_either_side() {
    handshakes::check(&frozen("v1.json", make_v1)["handshakes"]);
}

#[test]
fn sealed_documents_and_confirmations_of_version_1_open_and_verify() {
    openpgp::check(&frozen("v1-openpgp.json", openpgp::make));
}

#[test]
fn a_document_of_version_1_that_was_signed_inside_says_who_signed_it() {
    let keys = frozen("v1-openpgp.json", openpgp::make);
    openpgp::check_signed(&keys, &frozen("v1-signed.json", || openpgp::make_signed(&keys)));
}

#[test]
fn remote_logs_of_version_1_have_their_frozen_bytes_and_are_read_from_them() {
    let frozen = frozen("v1-remote-log.json", remote_log::make);
    same("v1-remote-log.json", &frozen, &remote_log::make());
    remote_log::check(&frozen);
}

#[test]
fn a_succession_of_version_1_extends_the_chain() {
    openpgp::check_succession(&frozen("v1-succession.json", openpgp::make_succession));
}

/// Runs the second implementation of docs/protocol.md over the vectors in a folder.
fn second_implementation(vectors: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/check_vectors.py");
    // Debian's own: another one on the path does not have Debian's modules.
    let mut python = Command::new("/usr/bin/python3");
    python.env("PYTHONDONTWRITEBYTECODE", "1").arg(script).arg(vectors);
    python
        .output()
        .unwrap_or_else(|error| panic!("python3 does not run ({error}); tests/tools/setup.sh installs it"))
}

#[test]
fn a_second_implementation_of_the_specification_makes_and_reads_the_same_bytes() {
    let Output { status, stdout, stderr } = second_implementation(&folder());
    let (said, why) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{said}{why}\n(what it needs is installed by tests/tools/setup.sh)");
    assert_eq!(said.matches(": as specified\n").count(), 13, "{said}");
    // Without gpg it would only have looked at the shapes.
    assert!(said.ends_with("openpgp: opened and verified by gpg\nsuccession: verified by gpg\n"), "{said}");
}

#[test]
fn the_second_implementation_notices_a_changed_byte() {
    let text = std::fs::read_to_string(folder().join("v1.json")).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    for place in [
        "/documents/0/id",
        "/payloads/3/bytes",
        "/handshakes/1/frames/1/frame",
        "/destination_codes/0/fingerprint",
        "/advertisements/1/identifier",
    ] {
        let mut changed = vectors.clone();
        let value = changed.pointer_mut(place).unwrap_or_else(|| panic!("no {place}"));
        let digits = value.as_str().unwrap().to_owned();
        let last = if digits.ends_with('0') { "1" } else { "0" };
        *value = Value::from(format!("{}{last}", &digits[..digits.len() - 1]));
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join("v1.json"), changed.to_string()).unwrap();
        let said = String::from_utf8(second_implementation(copy.path()).stderr).unwrap();
        assert!(said.starts_with("not as specified: "), "{place}: {said}");
    }
}

#[test]
fn the_second_implementation_notices_a_changed_byte_of_a_remote_log() {
    let text = std::fs::read_to_string(folder().join("v1-remote-log.json")).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    for place in ["/pages/1/bytes", "/pages/0/chain", "/heads/1/bytes", "/log_key"] {
        let mut changed = vectors.clone();
        let value = changed.pointer_mut(place).unwrap_or_else(|| panic!("no {place}"));
        let digits = value.as_str().unwrap().to_owned();
        let last = if digits.ends_with('0') { "1" } else { "0" };
        *value = Value::from(format!("{}{last}", &digits[..digits.len() - 1]));
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(folder().join("v1.json"), copy.path().join("v1.json")).unwrap();
        std::fs::write(copy.path().join("v1-remote-log.json"), changed.to_string()).unwrap();
        let said = String::from_utf8(second_implementation(copy.path()).stderr).unwrap();
        assert!(said.starts_with("not as specified: "), "{place}: {said}");
    }
}
