//! Several servers that share a database and an object store, and what becomes of it when one of them ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use support::{Client, Place, Running, batch, noise, servers};
use waypost_destination::Home;
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::document::Document;

/// Two homes with the same keys, database and object store, as on two machines.
struct Two {
    place: Place,
    first: Running,
    second: Running,
    shared: servers::Shared,
}

impl Two {
    fn new(takeover: u32) -> Self {
        let shared = servers::shared();
        let mut place = Place::bare();
        let file = place.home.path().join("destination.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("takeover_after = 60", &format!("takeover_after = {takeover}"));
        std::fs::write(&file, text + &shared.settings()).unwrap();
        let other = place.folder.path().join("other");
        let copied = Command::new("cp").arg("-a").arg(place.home.path()).arg(&other).status();
        assert!(copied.unwrap().success());
        place.home = Home::open(place.home.path()).unwrap();
        place.shared = Some(shared.clone());
        place.token = place.add_gateway("kiosk");
        let (first, second) = (place.run(), place.run_home(&Home::open(&other).unwrap()));
        Two { place, first, second, shared }
    }
}

#[test]
fn whichever_server_is_asked_a_document_is_opened_once_and_has_one_confirmation() {
    let two = Two::new(60);
    let documents: Vec<_> =
        (0..40u64).map(|n| two.place.document(Some(format!("{n}.bin").as_bytes()), &noise(n, 900))).collect();
    let tokens = [two.place.token.clone(), two.place.add_gateway("boat"), two.place.add_gateway("van")];
    // Three gateways bring the same documents at once, in different orders, to both servers.
    let clients: Vec<Client> = tokens
        .iter()
        .enumerate()
        .flat_map(|(n, token)| {
            let server = if n % 2 == 0 { &two.first } else { &two.second };
            [server.with_token(token.clone()), two.second.with_token(token.clone())]
        })
        .collect();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter()
            .enumerate()
            .map(|(n, client)| {
                let mut mine = documents.clone();
                mine.rotate_left(n * 7);
                scope.spawn(move || client.send("POST", "/v1/batch", &batch(&mine)).answer())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut of_document = BTreeMap::new();
    for answer in &answers {
        assert_eq!(answer.failures, []);
        for wire in &answer.confirmations {
            let one = waypost_protocol::confirmation::Confirmation::from_wire(wire).unwrap();
            for (id, verdict) in one.statement.verdicts() {
                assert_eq!(*verdict, Verdict::Opened);
                let first = of_document.entry(id.0).or_insert_with(|| wire.clone());
                assert_eq!(first, wire, "two confirmations of {id}");
            }
        }
    }
    assert_eq!(of_document.len(), documents.len());
    let inbox = two.place.inbox();
    assert_eq!(inbox.len(), documents.len());
    assert_eq!(two.shared.sql("SELECT count(*) FROM documents WHERE confirmation IS NULL"), "0");
    // What was opened twice was thrown away again.
    let staged: Vec<_> = two.shared.objects("staging").into_iter().map(|(name, _)| name).collect();
    assert_eq!(staged, ["probe"]);
    // Each gateway finds the confirmations of its documents after its cursor, at either server.
    for (server, token) in [(&two.first, &tokens[2]), (&two.second, &tokens[1])] {
        let protobuf = ["--header", "Accept: application/x-protobuf"];
        let all = server.with_token(token.clone()).curl("/v1/confirmations?limit=1000", &protobuf).answer();
        assert_eq!(two.place.verdicts(&all).len(), documents.len());
    }
}

#[test]
fn one_document_that_comes_to_both_servers_at_the_same_moment_is_confirmed_identically() {
    let two = Two::new(60);
    let tokens: Vec<_> = (0..6).map(|n| two.place.add_gateway(&format!("kiosk {n}"))).collect();
    for round in 0..12u64 {
        let document = two.place.document(Some(b"form.xml"), &noise(round, 300));
        let gate = std::sync::Barrier::new(tokens.len());
        let answers: Vec<_> = std::thread::scope(|scope| {
            let put = |(n, token): (usize, &String)| {
                let server = if n % 2 == 0 { &two.first } else { &two.second };
                let (client, document, gate) = (server.with_token(token.clone()), &document, &gate);
                scope.spawn(move || {
                    gate.wait();
                    client.put(document).answer().confirmations
                })
            };
            let threads: Vec<_> = tokens.iter().enumerate().map(put).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(answers.iter().all(|answer| answer.len() == 1 && *answer == answers[0]), "round {round}");
    }
    assert_eq!(two.shared.sql("SELECT count(*) FROM confirmations"), "12");
    assert_eq!(two.place.inbox().len(), 12);
}

#[test]
fn what_was_taken_out_of_the_inbox_does_not_come_back_with_a_second_gateway() {
    let two = Two::new(60);
    let document = two.place.document(Some(b"form.xml"), b"one");
    let first = two.first.put(&document).answer();
    let key = format!("inbox/{}", two.shared.objects("inbox")[0].0);
    two.shared.remove(&key);
    let other = two.second.with_token(two.place.add_gateway("boat"));
    let second = other.send("POST", "/v1/batch", &batch([&document])).answer();
    assert_eq!(first.confirmations, second.confirmations);
    assert_eq!(two.place.inbox(), []);
}

#[test]
fn a_revoked_gateway_is_refused_by_every_server_at_once() {
    let two = Two::new(60);
    two.second.put(&two.place.document(None, b"before")).answer();
    assert_eq!(two.place.command(&["gateways", "revoke", "kiosk"]).unwrap()["revoked"], "kiosk");
    for server in [&two.first, &two.second] {
        assert_eq!(server.put(&two.place.document(None, b"after")).status, 401);
    }
    assert_eq!(two.place.inbox().len(), 1);
}

#[test]
fn what_a_killed_server_left_behind_another_one_goes_on_with() {
    let two = Two::new(1);
    let documents: Vec<_> =
        (0..60u64).map(|n| two.place.document(Some(format!("{n}.bin").as_bytes()), &noise(n, 900))).collect();
    let body = two.place.file("batch", &batch(&documents));
    let mut upload = Command::new("curl")
        .args(["--silent", "--request", "POST", "--output", "/dev/null", "--cacert"])
        .arg(&two.first.ca)
        .args(["--header", &format!("Authorization: Bearer {}", two.first.token)])
        .args(["--data-binary", &format!("@{}", body.display())])
        .arg(format!("{}/v1/batch", two.first.url))
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while two.shared.sql("SELECT count(*) FROM documents") == "0" {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
    // Rows are committed, their content is in staging, nothing is signed.
    let Two { place, first, second, shared } = two;
    first.kill();
    let _ = upload.wait();
    let committed: usize = shared.sql("SELECT count(*) FROM documents").parse().unwrap();
    let left = "SELECT count(*) FROM documents WHERE staged IS NOT NULL OR confirmation IS NULL";
    println!("{committed} documents committed, {} of them left in between", shared.sql(left));
    let begun = Instant::now();
    while shared.sql(left) != "0" {
        assert!(begun.elapsed() < Duration::from_secs(30), "{} are left", shared.sql(left));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(place.inbox().len(), committed);
    // The other server answers for all of them.
    let answer = second.send("POST", "/v1/batch", &batch(&documents)).answer();
    assert_eq!(place.verdicts(&answer).len(), documents.len());
    assert_eq!(place.inbox().len(), documents.len());
}

#[test]
fn a_document_of_many_parts_comes_whole_into_the_object_store() {
    let two = Two::new(60);
    let content = noise(7, 20 << 20);
    let document = two.place.document(Some(b"film.mp4"), &content);
    let answer = two.first.put(&document).answer();
    assert_eq!(two.place.verdict_on(&answer, &document), Some(Verdict::Opened));
    let inbox = two.place.inbox();
    assert_eq!(inbox.len(), 1);
    assert!(inbox[0].1 == content);
    assert_eq!(two.place.temporary_files(), 0);
}

#[test]
fn half_a_configuration_is_refused_with_what_is_missing() {
    let place = Place::bare();
    let said = |key: &str, value: &str| {
        place.set(key, value);
        place.command(&["status"]).unwrap_err()
    };
    let words = said("database", "\"mysql://root:secret@localhost/x\"");
    assert!(words.contains("postgres://") && !words.contains("secret"), "{words}");
    let words = said("database", "\"postgres://nobody@localhost/x?host=/nowhere\"");
    assert!(words.contains("content = \"s3://BUCKET/PREFIX\""), "{words}");
    let words = said("content", "\"folder\"");
    assert!(words.contains("see that PostgreSQL runs"), "{words}");
    let place = Place::bare();
    place.set("content", "\"s3:/bucket\"");
    let words = place.command(&["run", "--listen", "127.0.0.1:0"]).unwrap_err();
    assert!(words.contains("s3://BUCKET/PREFIX"), "{words}");
    place.set("content", "\"folder\"");
    place.set("contents", "\"folder\"");
    assert!(place.command(&["status"]).unwrap_err().contains("contents"));
}

/// A document of 20 MiB, and curl that begins its upload at that server: bytes go on coming as they are written.
fn begun(two: &Two, server: &Client) -> (Document, Vec<u8>, Child, ChildStdin) {
    let document = two.place.document(Some(b"film.mp4"), &noise(7, 20 << 20));
    let bytes = document.encode().to_vec();
    let mut upload = tus(server, "POST", "/v1/uploads")
        .args(["--header", &format!("Upload-Length: {}", bytes.len())])
        .args(["--header", &named(&document)])
        .args(["--header", &format!("Content-Length: {}", bytes.len()), "--upload-file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let stdin = upload.stdin.take().unwrap();
    (document, bytes, upload, stdin)
}

fn named(document: &Document) -> String {
    format!("Upload-Metadata: id {}", BASE64.encode(document.id().to_string().as_bytes()))
}

fn tus(server: &Client, method: &str, path: &str) -> Command {
    let mut command = Command::new("curl");
    let method = if method == "HEAD" { vec!["--head"] } else { vec!["--request", method] };
    command.args(["--silent", "--include", "--max-time", "60", "--cacert"]).arg(&server.ca).args(method);
    let token = format!("Authorization: Bearer {}", server.token);
    for header in [&token, "Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream", "Expect:"]
    {
        command.args(["--header", header]);
    }
    command.arg(format!("{}{path}", server.url));
    command
}

/// Status, and the offset that it says.
fn heard(command: &mut Command) -> (u16, Option<usize>) {
    let output = String::from_utf8_lossy(&command.output().unwrap().stdout).to_lowercase();
    let offset = output.split("upload-offset: ").nth(1).and_then(|rest| rest.lines().next());
    let status = output.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap(), offset.and_then(|offset| offset.trim().parse().ok()))
}

fn offset(server: &Client, document: &Document) -> usize {
    let (status, offset) = heard(&mut tus(server, "HEAD", &format!("/v1/uploads/{}", document.id())));
    assert_eq!(status, 200);
    offset.unwrap()
}

/// Sends the rest there; the document is opened.
fn finish(two: &Two, server: &Client, document: &Document, bytes: &[u8], from: usize) {
    let rest = two.place.file("rest", &bytes[from..]);
    let path = format!("/v1/uploads/{}", document.id());
    let mut patch = tus(server, "PATCH", &path);
    patch.args(["--header", &format!("Upload-Offset: {from}")]);
    patch.arg("--data-binary").arg(format!("@{}", rest.display()));
    assert_eq!(heard(&mut patch), (204, Some(bytes.len())));
    let answer = server.ask("/v1/confirmations", &[document.id()]);
    assert_eq!(two.place.verdict_on(&answer, document), Some(Verdict::Opened));
    assert!(two.place.inbox()[0].1 == noise(7, 20 << 20));
    assert_eq!(two.shared.objects("partials"), []);
    assert_eq!(two.shared.sql("SELECT count(*) FROM partials"), "0");
}

#[test]
fn an_upload_that_is_cut_at_one_server_goes_on_at_another_where_it_stopped() {
    let two = Two::new(60);
    let (document, bytes, mut upload, mut stdin) = begun(&two, &two.first);
    stdin.write_all(&bytes[..13 << 20]).unwrap();
    stdin.flush().unwrap();
    // Three parts of 4 MiB are stored, the rest is in memory; the connection still stands.
    let begun = Instant::now();
    while two.shared.sql("SELECT count(*) FROM parts") != "3" {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    let there = offset(&two.second, &document);
    println!("{there} of {} bytes sent are at the other server after {:?}", 13 << 20, begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // But for what is on its way.
    assert!(((13 << 20) - (256 << 10)..=13 << 20).contains(&there), "{there}");
    // What the cut connection still brings counts for nothing.
    let _ = stdin.write_all(&bytes[13 << 20..14 << 20]);
    assert_eq!(offset(&two.second, &document), there);
    drop(stdin);
    upload.kill().unwrap();
    upload.wait().unwrap();
    finish(&two, &two.second, &document, &bytes, there);
    println!("{} bytes were sent again", (13 << 20) - there);
}

#[test]
fn an_upload_outlives_the_server_that_it_began_at() {
    let mut two = Two::new(60);
    let (document, bytes, mut upload, mut stdin) = begun(&two, &two.first);
    stdin.write_all(&bytes[..10 << 20]).unwrap();
    stdin.flush().unwrap();
    let begun = Instant::now();
    while two.shared.sql("SELECT count(*) FROM parts") != "2" {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    two.first.child.kill().unwrap();
    two.first.child.wait().unwrap();
    drop(stdin);
    let _ = upload.wait();
    // What was in its memory is gone.
    assert_eq!(offset(&two.second, &document), 8 << 20);
    finish(&two, &two.second, &document, &bytes, 8 << 20);
}
