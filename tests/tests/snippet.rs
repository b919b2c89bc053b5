//! What `waypost-destination gateways add` prints is what a gateway's configuration takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use waypost_config::{Credentials, Severity, Source, parse};
use waypost_tests::process::program;

fn destination(home: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(program("waypost-destination").unwrap());
    let output = command.arg("--home").arg(home).arg("--json").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The destination that a gateway makes of the snippet; nothing may be wrong with it.
fn pasted(added: &Value) -> waypost_config::Destination {
    let text = added["snippet"].as_str().unwrap();
    let loaded = parse(&[Source::new("/etc/waypost/gateway.d/clinic.toml", text)]);
    let about_it = |problem: &&waypost_config::Problem| {
        problem.severity > Severity::Warning
            || problem.key.as_deref().is_some_and(|key| key.starts_with("destination"))
    };
    let problems: Vec<_> = loaded.problems.iter().filter(about_it).map(ToString::to_string).collect();
    assert_eq!(problems, [""; 0], "{text}");
    assert_eq!(loaded.config.destination.len(), 1, "{text}");
    loaded.config.destination[0].clone()
}

#[test]
fn a_snippet_is_taken_by_a_gateway_as_it_is_printed() {
    let place = tempfile::tempdir().unwrap();
    let long = "Médecins & Co. ".repeat(20);
    for (number, name) in ["Clinic", "\"'\\", "", &long].into_iter().enumerate() {
        let home = place.path().join(number.to_string());
        let made = destination(&home, &["init", "--name", name, "--url", "https://[::1]:8443/a'b%20c"]);
        let token = pasted(&destination(&home, &["gateways", "add", "with a token"]));
        assert_eq!(token.url.as_str(), "https://[::1]:8443/a'b%20c");
        assert!(matches!(token.credentials, Credentials::Token { .. }), "{:?}", token.credentials);
        let file = made["ca"].as_str().unwrap();
        let certificate = pasted(&destination(&home, &["gateways", "add", "other", "--client-cert", file]));
        let Credentials::Certificate { client_certificate, client_key } = &certificate.credentials else {
            panic!("{:?}", certificate.credentials);
        };
        assert!(client_certificate != client_key);
        assert_eq!((&certificate.name, &certificate.ca_file), (&token.name, &token.ca_file));
    }
}
