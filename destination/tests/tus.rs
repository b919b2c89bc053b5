//! Uploads that go on later: tus 1.0 as its specification has it, with curl as the client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use support::{Client, Place, noise};
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::document::Document;
use waypost_protocol::ids::MessageId;

const VERSION: &str = "Tus-Resumable: 1.0.0";
const STREAM: &str = "Content-Type: application/offset+octet-stream";

/// Status and headers, in lower case.
struct Heard {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Heard {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn offset(&self) -> u64 {
        self.header("upload-offset").unwrap().parse().unwrap()
    }
}

/// A request as these headers and this body make it.
fn say(client: &Client, method: &str, path: &str, headers: &[&str], body: Option<&[u8]>) -> Heard {
    let mut command = curl(client, method, path, headers);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    if let Some(body) = body {
        file.write_all(body).unwrap();
        command.arg("--data-binary").arg(format!("@{}", file.path().display()));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (head, body) = text.rsplit_once("\r\n\r\n").unwrap();
    // Of several heads ("100 Continue" first) the last counts.
    let head = head.rsplit("\r\n\r\n").next().unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
    Heard { status, headers, body: body.to_owned() }
}

fn curl(client: &Client, method: &str, path: &str, headers: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--max-time", "60", "--cacert"]).arg(&client.ca);
    match method {
        "HEAD" => command.arg("--head"),
        _ => command.args(["--request", method]),
    };
    command.args(["--header", &format!("Authorization: Bearer {}", client.token)]);
    // Only what is given: curl adds a media type of its own to bodies.
    command.args(["--header", "Content-Type:", "--header", "Expect:"]);
    for header in headers {
        command.args(["--header", header]);
    }
    command.arg(format!("{}{path}", client.url));
    command
}

fn begin(client: &Client, id: &MessageId, length: u64, first: Option<&[u8]>) -> Heard {
    let metadata = format!("Upload-Metadata: x, id {}", BASE64.encode(id.to_string().as_bytes()));
    let length = format!("Upload-Length: {length}");
    let mut headers = vec![VERSION, &metadata, &length];
    if first.is_some() {
        headers.push(STREAM);
    }
    say(client, "POST", "/v1/uploads", &headers, first)
}

fn upload(id: &MessageId) -> String {
    format!("/v1/uploads/{id}")
}

fn head(client: &Client, id: &MessageId) -> Heard {
    say(client, "HEAD", &upload(id), &[VERSION], None)
}

fn add(client: &Client, id: &MessageId, offset: u64, bytes: &[u8]) -> Heard {
    let offset = format!("Upload-Offset: {offset}");
    say(client, "PATCH", &upload(id), &[VERSION, STREAM, &offset], Some(bytes))
}

fn large(place: &Place) -> (Document, Vec<u8>) {
    let document = place.document(Some(b"video.mp4"), &noise(3, 300_000));
    let bytes = document.encode();
    (document, bytes)
}

#[test]
fn a_document_in_three_parts_is_opened_and_confirmed() {
    let place = Place::new();
    let server = place.run();
    let (document, bytes) = large(&place);
    let id = document.id();
    let begun = begin(&server, &id, bytes.len() as u64, None);
    assert_eq!((begun.status, begun.offset()), (201, 0));
    assert_eq!(begun.header("location"), Some(upload(&id).as_str()));
    assert_eq!(begun.header("tus-resumable"), Some("1.0.0"));
    for (from, to) in [(0, 100_000), (100_000, 250_000)] {
        let heard = add(&server, &id, from as u64, &bytes[from..to]);
        assert_eq!((heard.status, heard.offset()), (204, to as u64));
        let heard = head(&server, &id);
        assert_eq!((heard.status, heard.offset()), (200, to as u64));
        assert_eq!(heard.header("upload-length"), Some(bytes.len().to_string().as_str()));
        assert_eq!(heard.header("cache-control"), Some("no-store"));
        assert!(server.ask("/v1/confirmations", &[id]).confirmations.is_empty());
        assert!(place.inbox().is_empty());
    }
    let heard = add(&server, &id, 250_000, &bytes[250_000..]);
    assert_eq!((heard.status, heard.offset()), (204, bytes.len() as u64));
    let answer = server.ask("/v1/confirmations", &[id]);
    assert_eq!(place.verdict_on(&answer, &document), Some(Verdict::Opened));
    assert_eq!(place.inbox(), [("forms/video.mp4".into(), noise(3, 300_000))]);
    assert_eq!(head(&server, &id).status, 404, "what is whole is no upload any more");
    assert_eq!(place.temporary_files(), 0);
}

#[test]
fn a_document_that_comes_with_its_creation_needs_one_request() {
    let place = Place::new();
    let server = place.run();
    let (document, bytes) = large(&place);
    let heard = begin(&server, &document.id(), bytes.len() as u64, Some(&bytes));
    assert_eq!((heard.status, heard.offset()), (201, bytes.len() as u64));
    let answer = server.ask("/v1/confirmations", &[document.id()]);
    assert_eq!(place.verdict_on(&answer, &document), Some(Verdict::Opened));
    // Again: nothing is opened twice, and the answer says that all is there.
    let heard = begin(&server, &document.id(), bytes.len() as u64, Some(&bytes));
    assert_eq!((heard.status, heard.offset()), (201, bytes.len() as u64));
    assert_eq!(place.inbox().len(), 1);
}

#[test]
fn an_upload_outlives_its_connection_and_the_server() {
    let place = Place::new();
    let mut server = place.run();
    let (document, bytes) = large(&place);
    let id = document.id();
    let metadata = format!("Upload-Metadata: id {}", BASE64.encode(id.to_string().as_bytes()));
    let length = format!("Upload-Length: {}", bytes.len());
    // A connection that breaks in the middle: the client is killed while it sends.
    let mut child = curl(&server, "POST", "/v1/uploads", &[VERSION, STREAM, &metadata, &length])
        .args(["--header", &format!("Content-Length: {}", bytes.len()), "--upload-file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&bytes[..200_000]).unwrap();
    stdin.flush().unwrap();
    let kept = || match &place.shared {
        // What is in memory there does not show.
        Some(shared) => shared.sql("SELECT count(*) FROM partials") == "1",
        None => {
            let clients = std::fs::read_dir(place.home.path().join("partials")).unwrap();
            let files = clients.flat_map(|client| std::fs::read_dir(client.unwrap().path()).unwrap());
            // Curl sends what it has in pieces of 64 KiB.
            files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>() >= 128 << 10
        }
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !kept() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    if support::is_at_scale() {
        std::thread::sleep(Duration::from_secs(1));
    }
    // The connection still stands when the client asks on another: it must hear the truth, and soon.
    let begun = Instant::now();
    let first = head(&server, &id);
    assert_eq!(first.status, 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let offset = first.offset();
    assert!((128 << 10..=200_000).contains(&offset), "{offset}");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(stdin);
    server.kill();
    server = place.run();
    assert_eq!(head(&server, &id).offset(), offset);
    let rest = &bytes[usize::try_from(offset).unwrap()..];
    assert_eq!(add(&server, &id, offset, rest).offset(), bytes.len() as u64);
    let answer = server.ask("/v1/confirmations", &[id]);
    assert_eq!(place.verdict_on(&answer, &document), Some(Verdict::Opened));
}

#[test]
fn requests_that_the_specification_forbids_are_refused_and_change_nothing() {
    let place = Place::new();
    let server = place.run();
    let (document, bytes) = large(&place);
    let (id, whole) = (document.id(), bytes.len() as u64);
    begin(&server, &id, whole, Some(&bytes[..1_000]));
    let offset = "Upload-Offset: 1000";
    let other = MessageId([9; 32]);
    let length = format!("Upload-Length: {whole}");
    let named = format!("Upload-Metadata: id {}", BASE64.encode(other.to_string().as_bytes()));
    let cases: [(u16, &str, String, Vec<&str>); 11] = [
        (412, "PATCH", upload(&id), vec![STREAM, offset]),
        (412, "PATCH", upload(&id), vec!["Tus-Resumable: 0.2.2", STREAM, offset]),
        (412, "HEAD", upload(&id), vec![]),
        (412, "POST", "/v1/uploads".into(), vec![&length, &named]),
        (409, "PATCH", upload(&id), vec![VERSION, STREAM, "Upload-Offset: 999"]),
        (415, "PATCH", upload(&id), vec![VERSION, "Content-Type: text/plain", offset]),
        (400, "PATCH", upload(&id), vec![VERSION, STREAM]),
        (404, "PATCH", upload(&other), vec![VERSION, STREAM, offset]),
        (400, "POST", "/v1/uploads".into(), vec![VERSION, &named]),
        (400, "POST", "/v1/uploads".into(), vec![VERSION, &length]),
        (413, "POST", "/v1/uploads".into(), vec![VERSION, "Upload-Length: 9999999999999", &named]),
    ];
    for (status, method, path, headers) in cases {
        let heard = say(&server, method, &path, &headers, (method != "HEAD").then_some(&b"more"[..]));
        assert_eq!(heard.status, status, "{method} {path} {headers:?}: {}", heard.body);
        assert_eq!(heard.header("tus-resumable"), Some("1.0.0"));
        if status == 412 {
            assert_eq!(heard.header("tus-version"), Some("1.0.0"));
        }
        assert_eq!(head(&server, &id).offset(), 1_000);
    }
    assert_eq!(head(&server, &other).status, 404);
}

#[test]
fn the_server_says_what_it_speaks() {
    let place = Place::new();
    let server = place.run();
    let heard = say(&server, "OPTIONS", "/v1/uploads", &[], None);
    assert_eq!(heard.status, 204);
    assert_eq!(heard.header("tus-version"), Some("1.0.0"));
    assert_eq!(heard.header("tus-extension"), Some("creation,creation-with-upload,termination"));
    assert!(heard.header("tus-max-size").unwrap().parse::<u64>().unwrap() >= 256 << 20);
}

#[test]
fn an_upload_that_is_given_up_is_gone() {
    let place = Place::new();
    let server = place.run();
    let (document, bytes) = large(&place);
    let id = document.id();
    begin(&server, &id, bytes.len() as u64, Some(&bytes[..1_000]));
    let other = server.with_token(place.add_gateway("boat"));
    assert_eq!(head(&other, &id).status, 404, "another gateway's upload is not there for it");
    assert_eq!(say(&other, "DELETE", &upload(&id), &[VERSION], None).status, 404);
    assert_eq!(say(&server, "DELETE", &upload(&id), &[VERSION], None).status, 204);
    assert_eq!(head(&server, &id).status, 404);
}

#[test]
fn parts_that_make_another_document_are_thrown_away_and_the_right_one_is_taken_after() {
    let place = Place::new();
    let server = place.run();
    let (document, bytes) = large(&place);
    let (id, whole) = (document.id(), bytes.len() as u64);
    let mut damaged = bytes[..1_000].to_vec();
    damaged[999] ^= 1;
    begin(&server, &id, whole, Some(&damaged));
    let heard = add(&server, &id, 1_000, &bytes[1_000..]);
    assert_eq!(heard.status, 503, "{}", heard.body);
    assert!(heard.body.contains("begin it again"), "{}", heard.body);
    assert_eq!(head(&server, &id).status, 404);
    assert!(place.inbox().is_empty());
    assert_eq!(begin(&server, &id, whole, Some(&bytes)).status, 201);
    assert_eq!(place.inbox().len(), 1);
    // All in one request it is the document that is wrong, and sending it again cannot help.
    let altered = support::altered(&place.document(None, &noise(4, 5_000)));
    let heard = begin(&server, &MessageId([5; 32]), altered.encode().len() as u64, Some(&altered.encode()));
    assert_eq!(heard.status, 400, "{}", heard.body);
}

/// Unfinished uploads that are there.
fn unfinished(place: &Place) -> usize {
    if let Some(shared) = &place.shared {
        let objects = shared.objects("partials").len();
        return objects + shared.sql("SELECT count(*) FROM partials").parse::<usize>().unwrap();
    }
    let clients = std::fs::read_dir(place.home.path().join("partials")).unwrap();
    clients.map(|client| std::fs::read_dir(client.unwrap().path()).unwrap().count()).sum()
}

#[test]
fn an_upload_that_there_is_no_room_for_is_refused_and_throws_no_other_out() {
    let place = Place::new();
    place.set("max_partials", "2");
    place.set("max_document", "1000000");
    place.set("max_partial_bytes", "1000000");
    let server = place.run();
    let (first, second) = (MessageId([1; 32]), MessageId([2; 32]));
    assert_eq!(begin(&server, &first, 400_000, Some(b"first")).status, 201);
    let heard = begin(&server, &second, 600_001, Some(b"second"));
    assert_eq!(heard.status, 507, "{}", heard.body);
    assert!(heard.body.contains("1000000 bytes in all"), "{}", heard.body);
    assert_eq!(begin(&server, &second, 600_000, None).status, 201);
    let (document, bytes) = large(&place);
    assert_eq!(begin(&server, &document.id(), bytes.len() as u64, Some(&bytes)).status, 507);
    assert_eq!((head(&server, &first).offset(), head(&server, &second).offset()), (5, 0));
    assert_eq!(begin(&server, &MessageId([3; 32]), 1_000_001, None).status, 413);
    // Another gateway has room of its own, and so has this one when one of its uploads is over.
    let other = server.with_token(place.add_gateway("boat"));
    assert_eq!(begin(&other, &second, 600_000, None).status, 201);
    assert_eq!(say(&server, "DELETE", &upload(&second), &[VERSION], None).status, 204);
    assert_eq!(begin(&server, &document.id(), bytes.len() as u64, Some(&bytes)).status, 201);
    assert_eq!(place.inbox().len(), 1);
    place.set("max_partial_bytes", "999999");
    assert!(place.command(&["status"]).unwrap_err().contains("max_partial_bytes = 999999"));
}

#[test]
fn unfinished_uploads_count_in_the_quota_and_end_with_the_gateways_access() {
    let place = Place::new();
    place.command(&["gateways", "set", "kiosk", "--total", "500KB"]).unwrap();
    let server = place.run();
    let (document, bytes) = large(&place);
    let whole = bytes.len() as u64;
    assert_eq!(begin(&server, &document.id(), whole, Some(&bytes[..1_000])).status, 201);
    let heard = begin(&server, &MessageId([2; 32]), 200_001, None);
    assert_eq!(heard.status, 507, "{}", heard.body);
    assert!(heard.body.contains("quota of 500000 bytes in all"), "{}", heard.body);
    assert_eq!(add(&server, &document.id(), 1_000, &bytes[1_000..]).status, 204);
    // What is known here costs nothing, whatever it is announced to be.
    assert_eq!(begin(&server, &document.id(), 400_000, Some(&bytes[..1_000])).status, 201);
    let other = server.with_token(place.add_gateway("boat"));
    assert_eq!(begin(&other, &document.id(), whole, Some(&bytes[..1_000])).status, 201);
    place.command(&["gateways", "revoke", "kiosk"]).unwrap();
    assert_eq!(head(&server, &document.id()).status, 401);
    drop(server);
    let server = place.run();
    let begun = Instant::now();
    let one = if place.shared.is_some() { 2 } else { 1 };
    while unfinished(&place) > one {
        assert!(begun.elapsed() < Duration::from_secs(20), "{} are left", unfinished(&place));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(head(&server.with_token(other.token), &document.id()).offset(), 1_000);
}

#[test]
fn more_bytes_than_were_announced_are_refused() {
    let place = Place::new();
    let server = place.run();
    let (document, bytes) = large(&place);
    let id = document.id();
    begin(&server, &id, 2_000, Some(&bytes[..1_000]));
    let heard = add(&server, &id, 1_000, &bytes[1_000..3_000]);
    assert_eq!(heard.status, 400, "{}", heard.body);
    assert!(heard.body.contains("more than the 2000 bytes"), "{}", heard.body);
    assert!(place.inbox().is_empty());
}
