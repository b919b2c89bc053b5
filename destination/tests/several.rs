//! Several servers that share a database and an object store, and what becomes of it when one of them ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use support::{Client, Place, Running, batch, head, noise, page, servers};
use waypost_destination::Home;
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::document::Document;
use waypost_remote_log::{ContentHash, Head, LogId, Signer};

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
        // As the first start makes it.
        place.home.log_signer().unwrap();
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

/// Puts a head at a server where another one stands; the status.
fn publish(place: &Place, server: &Client, signer: &Signer, head: &[u8], replaces: &[u8]) -> u16 {
    let file = place.file(&ContentHash::of(head).to_string(), head);
    let condition = match replaces {
        [] => "If-None-Match: *".to_owned(),
        bytes => format!("If-Match: \"{}\"", ContentHash::of(bytes)),
    };
    let body = format!("@{}", file.display());
    let path = format!("/v1/names/{}", signer.key());
    server.curl(&path, &["--request", "PUT", "--header", &condition, "--data-binary", &body]).status
}

#[test]
fn any_server_answers_for_a_log_and_of_heads_that_come_to_several_at_once_one_is_taken() {
    let two = Two::new(60);
    let signer = Signer::derive(&[1; 32]).unwrap();
    let page = page(signer.key(), &[&two.place.document(None, b"a")]);
    let (bytes, root) = page.encode();
    let path = format!("/v1/content/{root}");
    assert_eq!(two.first.send("PUT", &path, &bytes).status, 200);
    assert!(two.second.curl(&path, &[]).body == bytes);
    assert!(two.second.curl(&format!("{path}?from=100"), &[]).body == bytes[100..]);

    let mut standing = Vec::new();
    for round in 1..=8u64 {
        // Eight heads that all replace the same one, half of them at each server.
        let heads: Vec<_> = (0..8u8)
            .map(|n| {
                let (chain, bookmark) = (page.chain(), vec![n].into());
                signer.sign(&Head {
                    key: signer.key(),
                    log: LogId([1; 16]),
                    sequence: round,
                    chain,
                    root,
                    bookmark,
                })
            })
            .collect();
        let gate = std::sync::Barrier::new(heads.len());
        let taken: Vec<u16> = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (n, head) in heads.iter().enumerate() {
                let server = if n % 2 == 0 { &two.first } else { &two.second };
                let (place, signer, gate, standing) = (&two.place, &signer, &gate, &standing);
                threads.push(scope.spawn(move || {
                    gate.wait();
                    publish(place, server, signer, head, standing)
                }));
            }
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().filter(|status| **status == 200).count(), 1, "round {round}: {taken:?}");
        assert!(taken.iter().all(|status| [200, 412].contains(status)), "round {round}: {taken:?}");
        let won = taken.iter().position(|status| *status == 200).unwrap();
        standing = heads[won].to_vec();
        for server in [&two.first, &two.second] {
            assert_eq!(server.curl(&format!("/v1/names/{}", signer.key()), &[]).body, standing);
        }
    }
    // A log that was ended at one server is ended at the other.
    let other = head(&signer, LogId([2; 16]), 1, &page);
    assert_eq!(publish(&two.place, &two.first, &signer, &other, &standing), 200);
    let back = head(&signer, LogId([1; 16]), 100, &page);
    assert_eq!(publish(&two.place, &two.second, &signer, &back, &other), 400);
}

#[test]
fn what_remote_logs_may_take_counts_for_all_servers_together() {
    let two = Two::new(60);
    let put = |server: &Client, bytes: &[u8]| {
        server.send("PUT", &format!("/v1/content/{}", ContentHash::of(bytes)), bytes).status
    };
    two.place.command(&["gateways", "set", "kiosk", "--remote-log", "10000"]).unwrap();
    let gate = std::sync::Barrier::new(16);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let thread = |n: u64| {
            let (server, gate) = (if n < 8 { &two.first } else { &two.second }, &gate);
            scope.spawn(move || {
                gate.wait();
                put(server, &noise(n, 1_000))
            })
        };
        let threads: Vec<_> = (0..16).map(thread).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 10, "{statuses:?}");
    assert_eq!(two.shared.objects("log").len(), 10);
    assert_eq!(two.shared.sql("SELECT used_log_bytes FROM clients WHERE name = 'kiosk'"), "10000");
    // The same content at both at once is there once, and costs once.
    for round in 1..=8u64 {
        let limit = (10_000 + round * 1_000).to_string();
        two.place.command(&["gateways", "set", "kiosk", "--remote-log", &limit]).unwrap();
        std::thread::scope(|scope| {
            for server in [&two.first, &two.second].repeat(4) {
                scope.spawn(move || assert_eq!(put(server, &noise(100 + round, 1_000)), 200));
            }
        });
        assert_eq!(two.shared.sql("SELECT used_log_bytes FROM clients WHERE name = 'kiosk'"), limit);
    }
    assert_eq!(two.shared.sql("SELECT count(*) FROM log_reserved"), "0");
}

#[test]
fn documents_of_the_destinations_own_are_published_from_any_server_also_at_once() {
    let two = Two::new(60);
    let other = Home::open(&two.place.folder.path().join("other")).unwrap();
    let certificate = two.place.home.certificate_file();
    std::thread::scope(|scope| {
        for home in [&two.place.home, &other, &two.place.home, &other] {
            let (file, certificate) = (two.place.file("recall.txt", b"batch 17 is recalled"), &certificate);
            scope.spawn(move || {
                let published = std::process::Command::new(env!("CARGO_BIN_EXE_waypost-destination"))
                    .arg("--home")
                    .arg(home.path())
                    .args(["publish", "--collection", "forms", "--reader"])
                    .args([certificate, &file, &file, &file])
                    .output()
                    .unwrap();
                assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
            });
        }
    });
    let key = two.place.home.log_signer().unwrap().key();
    for server in [&two.first, &two.second] {
        let head = Head::decode(&server.curl(&format!("/v1/names/{key}"), &[]).body, &key).unwrap();
        assert_eq!(head.chain.count, 12);
        assert_eq!(server.curl(&format!("/v1/content/{}", head.root), &[]).status, 200);
    }
}
