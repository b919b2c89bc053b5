//! A tus client that others wrote, tuspy, uploads to our server and goes on after a cut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use support::{Place, noise, servers};
use waypost_protocol::confirmation::Verdict;

#[test]
fn tuspy_is_cut_in_mid_upload_and_goes_on_where_it_stopped() {
    let place = Place::new();
    let server = place.run();
    let content = noise(9, 12 << 20);
    let document = place.document(Some(b"film.mp4"), &content);
    let whole = document.encode().len() as u64;
    let file = place.file("document", &document.encode());
    let python = servers::python();
    let run = |upload: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/upload.py"));
        command.args([&server.url, &server.token]).arg(&file).arg(document.id().to_string()).args(upload);
        command.env("REQUESTS_CA_BUNDLE", &server.ca).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        (child, lines)
    };
    let (mut child, mut lines) = run(&[]);
    let url = lines.next().unwrap();
    assert_eq!(url, format!("{}/v1/uploads/{}", server.url, document.id()));
    let offset = |line: String| line.parse::<u64>().unwrap();
    let sent = lines.by_ref().map(offset).find(|sent| *sent >= 5 << 20).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(place.inbox().is_empty());

    let (mut child, mut lines) = run(&[&url]);
    assert_eq!(lines.next().unwrap(), url);
    let resumed = offset(lines.next().unwrap());
    assert!(resumed >= sent && resumed < whole, "{sent} {resumed} {whole}");
    assert_eq!(lines.map(offset).last(), Some(whole));
    assert!(child.wait().unwrap().success());
    println!("cut at {sent} of {whole} bytes, resumed at {resumed}");
    let answer = server.ask("/v1/confirmations", &[document.id()]);
    assert_eq!(place.verdict_on(&answer, &document), Some(Verdict::Opened));
    assert!(place.inbox()[0].1 == content);
}
