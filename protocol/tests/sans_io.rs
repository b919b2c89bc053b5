//! The protocol core does no IO: what it is built from is a short list, which grows only on purpose.

#![allow(clippy::disallowed_methods, reason = "asking cargo is IO, and no part of the protocol")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::process::Command;

/// What `waypost-protocol` is built from. Macros run at build time and are not linked.
const EXPECTED: &[&str] = &[
    "aead",
    "block-buffer",
    "bytes",
    "cfg-if",
    "chacha20",
    "chacha20poly1305",
    "cipher",
    "cpufeatures",
    "crypto-common",
    "curve25519-dalek",
    "data-encoding",
    "digest",
    "generic-array",
    "getrandom",
    "hmac",
    "inout",
    "libc",
    "opaque-debug",
    "percent-encoding",
    "poly1305",
    "ppv-lite86",
    "prost",
    "rand_chacha",
    "rand_core",
    "serde",
    "serde_core",
    "sha2",
    "snow",
    "subtle",
    "thiserror",
    "typenum",
    "universal-hash",
    "zerocopy",
    "zeroize",
];

/// What would let a socket, a runtime, a file or a clock in, and why a name on the list above must never be one of these.
const BANNED: &[&str] = &[
    "async-io",
    "async-std",
    "heed",
    "hyper",
    "lmdb-master-sys",
    "mio",
    "native-tls",
    "nix",
    "openssl",
    "quinn",
    "reqwest",
    "rusqlite",
    "rustix",
    "rustls",
    "smol",
    "socket2",
    "tokio",
    "ureq",
    "chrono",
    "jiff",
    "time",
];

/// Names in `cargo tree` of this crate, without itself.
fn dependencies() -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--package",
            "waypost-protocol",
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "none",
        ])
        .args(["--format", "{p}", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap_or_else(|error| panic!("cargo tree: {error}"));
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    names.filter(|name| name != "waypost-protocol").collect()
}

#[test]
fn the_core_is_built_from_nothing_that_does_io() {
    let found = dependencies();
    assert!(found.contains("snow"), "cargo tree told nothing: {found:?}");
    for banned in BANNED {
        assert!(
            !found.contains(*banned),
            "waypost-protocol must not depend on {banned}: sockets, files and clocks belong to its callers"
        );
    }
    let expected: BTreeSet<String> = EXPECTED.iter().map(|name| (*name).to_owned()).collect();
    let new: Vec<_> = found.difference(&expected).collect();
    assert!(
        new.is_empty(),
        "waypost-protocol has new dependencies: {new:?}. If none of them does IO or reads a clock, add them to EXPECTED \
         in {}",
        file!()
    );
}

#[test]
fn the_lints_that_ban_io_are_there() {
    let lints = include_str!("../clippy.toml");
    for banned in [
        "std::net::TcpStream",
        "std::net::UdpSocket",
        "std::fs::File",
        "std::time::Instant",
        "std::time::SystemTime",
        "std::thread::spawn",
        "std::thread::sleep",
    ] {
        assert!(lints.contains(banned), "protocol/clippy.toml no longer bans {banned}");
    }
}
