//! An independent client asks what `openapi.json` allows, and what it does not: no answer is the server's failure, each is of
//! the described form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::Command;

use support::{Place, servers};

#[test]
fn schemathesis_gets_no_server_error_and_only_answers_that_are_described() {
    let python = servers::python();
    let place = Place::new();
    let server = place.run();
    let bodies = place.folder.path().join("bodies");
    std::fs::create_dir(&bodies).unwrap();
    let documents: Vec<_> = (0..3).map(|n| place.document(Some(b"form.xml"), &[n])).collect();
    std::fs::write(bodies.join("document"), documents[0].encode()).unwrap();
    std::fs::write(bodies.join("batch"), support::batch(&documents)).unwrap();
    let ids: Vec<_> = documents.iter().map(|document| document.id()).collect();
    std::fs::write(bodies.join("ids"), waypost_protocol::api::encode_ids(&ids)).unwrap();
    let description = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let output = Command::new(python.with_file_name("schemathesis"))
        .args(["run", description, "--url", &server.url])
        .args(["--header", &format!("Authorization: Bearer {}", server.token)])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        // A connection that the server ends after a refusal may be one that the client was about to use again.
        .args(["--request-retries", "3"])
        .args(["--max-examples", "40", "--seed", "1", "--workers", "2", "--request-timeout", "10"])
        .arg("--tls-verify")
        .arg(&server.ca)
        .args(["--no-color"])
        .env("SCHEMATHESIS_HOOKS", "media_types")
        .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(place.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    // It did send documents, and got verdicts on some.
    assert!(!place.inbox().is_empty());
    // It was still the same server that answered at the end.
    server.put(&place.document(None, b"after")).answer();
}
