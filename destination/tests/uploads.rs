//! Uploads over real HTTPS, with curl as the client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::HashSet;
use std::time::Instant;

use bytes::Bytes;
use data_encoding::BASE64;
use sha2::{Digest as _, Sha256};
use support::{Place, altered, batch, noise};
use waypost_protocol::api::{FailureCode, bit};
use waypost_protocol::confirmation::{Rejection, Verdict};
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{Header, assemble};
use waypost_protocol::ids::{Fingerprint, MessageId};

#[test]
fn a_document_that_is_put_is_opened_and_confirmed_and_again_with_the_same_confirmation() {
    let place = Place::new();
    let server = place.run();
    let document = place.document(Some(b"visit.xml"), b"<form/>");
    let first = server.put(&document).answer();
    assert_eq!(place.verdicts(&first), [(document.id(), Verdict::Opened)]);
    assert_eq!(place.inbox(), [("forms/visit.xml".into(), b"<form/>".to_vec())]);
    let again = server.put(&document).answer();
    assert_eq!(again.confirmations, first.confirmations);
    let other = server.with_token(place.add_gateway("boat"));
    assert_eq!(other.put(&document).answer().confirmations, first.confirmations);
    assert_eq!(
        other.send("POST", "/v1/batch", &batch([&document])).answer().confirmations,
        first.confirmations
    );
    assert_eq!(place.inbox().len(), 1);
    assert_eq!(place.temporary_files(), 0);
}

#[test]
fn people_with_curl_get_json_with_the_signed_text() {
    let place = Place::new();
    let server = place.run();
    let document = place.document(None, b"hello");
    let file = place.file("document", &document.encode());
    let path = format!("/v1/documents/{}", document.id());
    let reply = server.curl(&path, &["--upload-file", file.to_str().unwrap()]);
    assert_eq!((reply.status, reply.kind.as_str()), (200, "application/json"));
    let answer = reply.json();
    let text = answer["confirmations"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("Waypost confirmation 1\n"), "{text}");
    assert!(text.ends_with(&format!("\n{} opened\n", document.id())), "{text}");
    assert!(BASE64.decode(answer["confirmations"][0]["signature"].as_str().unwrap().as_bytes()).is_ok());
    let name = format!("forms/{}", &document.id().to_string()[..16]);
    assert_eq!(place.inbox(), [(name.into(), b"hello".to_vec())]);
}

#[test]
fn one_bad_document_in_a_batch_holds_back_no_other() {
    let place = Place::new();
    let server = place.run();
    let good: Vec<_> = (0..5).map(|n| place.document(Some(format!("{n}.txt").as_bytes()), &[n])).collect();
    let damaged = altered(&place.document(Some(b"damaged"), b"x"));
    let unknown = place.document_in("photos", None, b"x");
    let other = assemble(&Header::to(Fingerprint::V4([1; 20])), b"sealed").unwrap();
    let elsewhere = Document::new(good[0].group(), support::now(), other).unwrap();
    let no_envelope = Document::new(good[0].group(), support::now(), Bytes::from_static(b"hello")).unwrap();
    let mut body = batch([&good[0], &damaged, &good[1], &unknown, &elsewhere, &good[2]]);
    body.extend([0, 0, 0, 5]);
    body.extend(b"hello");
    body.extend(batch([&no_envelope, &good[3], &good[3], &good[4]]));
    let answer = server.send("POST", "/v1/batch", &body).answer();
    for document in &good {
        assert_eq!(place.verdict_on(&answer, document), Some(Verdict::Opened));
    }
    assert_eq!(place.verdict_on(&answer, &damaged), Some(Verdict::Rejected(Rejection::CannotOpen)));
    assert_eq!(place.verdict_on(&answer, &unknown), Some(Verdict::Rejected(Rejection::UnknownCollection)));
    assert_eq!(answer.confirmations.len(), 1, "one confirmation per batch");
    let failures: Vec<_> =
        answer.failures.iter().map(|f| (f.index, FailureCode::from_code(f.code))).collect();
    let expected =
        [(4, FailureCode::WrongDestination), (6, FailureCode::Malformed), (7, FailureCode::Malformed)];
    assert_eq!(failures, expected);
    assert_eq!(answer.failures[0].id, elsewhere.id().0.to_vec());
    assert_eq!(place.inbox().len(), 5);
    assert_eq!(place.temporary_files(), 0);
    // The confirmations are there as files as well, and the text is what was signed.
    let folder = place.confirmations_folder();
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(format!("{}.asc", names[0]), names[1]);
}

#[test]
fn a_batch_of_more_than_256_documents_has_several_confirmations_and_takes_no_second_each() {
    let place = Place::new();
    let server = place.run();
    // The object store of the tests has some milliseconds for each request.
    let count: u64 = if support::is_at_scale() { 300 } else { 1_000 };
    let documents: Vec<_> = (0..count).map(|n| place.document(Some(b"form.xml"), &noise(n, 1_000))).collect();
    let body = batch(&documents);
    let begun = Instant::now();
    let answer = server.send("POST", "/v1/batch", &body).answer();
    let seconds = begun.elapsed().as_secs_f64();
    println!("{count} documents of 1 KB in one batch: {seconds:.2} s");
    assert!(seconds < 20.0);
    let expected = documents.len().div_ceil(256);
    assert_eq!(answer.confirmations.len(), expected);
    let opened: HashSet<MessageId> = place.verdicts(&answer).into_iter().map(|(id, _)| id).collect();
    assert_eq!(opened.len(), documents.len());
    let contents: HashSet<Vec<u8>> = place.inbox().into_iter().map(|(_, content)| content).collect();
    assert_eq!(contents, (0..count).map(|n| noise(n, 1_000)).collect());

    let mut ids: Vec<_> = documents.iter().map(Document::id).collect();
    ids.insert(150, MessageId([0; 32]));
    let have = server.ask("/v1/have", &ids);
    for (at, id) in ids.iter().enumerate() {
        assert_eq!(bit(&have.held, at), *id != MessageId([0; 32]));
    }
    assert_eq!(have.confirmations, answer.confirmations);
    assert_eq!(server.ask("/v1/confirmations", &ids[..1]).confirmations.len(), 1);
    assert_eq!(server.ask("/v1/confirmations", &[]).confirmations, []);

    let protobuf = ["--header", "Accept: application/x-protobuf"];
    let page = server.curl(&format!("/v1/confirmations?since=0&limit={}", expected - 1), &protobuf).answer();
    assert_eq!(page.confirmations, answer.confirmations[..expected - 1]);
    let rest = server.curl(&format!("/v1/confirmations?since={}", page.cursor), &protobuf).answer();
    assert_eq!(rest.confirmations, answer.confirmations[expected - 1..]);
    let none = server.curl(&format!("/v1/confirmations?since={}", rest.cursor), &protobuf).answer();
    assert_eq!((none.confirmations.len(), none.cursor), (0, rest.cursor));
    let stranger = server.with_token(place.add_gateway("boat"));
    assert_eq!(stranger.curl("/v1/confirmations", &protobuf).answer().confirmations, []);
}

#[test]
fn a_batch_that_ends_within_a_document_keeps_what_came() {
    let place = Place::new();
    let server = place.run();
    let documents = [place.document(Some(b"a"), b"a"), place.document(Some(b"b"), b"b")];
    let body = batch(&documents);
    for (cut, failures) in [(body.len() - 1, 1), (documents[0].encode().len() + 6, 1), (4, 1), (2, 1), (0, 0)]
    {
        let answer = server.send("POST", "/v1/batch", &body[..cut]).answer();
        assert_eq!(answer.failures.len(), failures, "cut at {cut}");
        assert!(answer.failures.iter().all(|failure| failure.code == FailureCode::Malformed.code()));
    }
    assert_eq!(place.inbox().len(), 1);
}

#[test]
fn wrong_digests_are_refused_and_nothing_is_taken() {
    let place = Place::new();
    let server = place.run();
    let document = place.document(Some(b"a"), b"a");
    let path = format!("/v1/documents/{}", document.id());
    let file = place.file("document", &document.encode());
    let put =
        |header: &str| server.curl(&path, &["--header", header, "--upload-file", file.to_str().unwrap()]);
    let digest = |bytes: &[u8]| BASE64.encode(&Sha256::digest(bytes));
    for name in ["Repr-Digest", "Content-Digest"] {
        let (status, detail) = put(&format!("{name}: sha-256=:{}:", digest(b"other"))).problem();
        assert_eq!(status, 400);
        assert!(detail.contains("send them again"), "{detail}");
        assert_eq!(put(&format!("{name}: nonsense")).problem().0, 400);
    }
    assert_eq!(place.inbox(), []);
    assert_eq!(place.temporary_files(), 0);
    let right = format!("Repr-Digest: sha-256=:{}:", digest(&document.encode()));
    assert_eq!(put(&right).status, 200);
    assert_eq!(place.inbox().len(), 1);
}

#[test]
fn bad_requests_get_precise_answers_and_never_a_server_error() {
    let place = Place::new();
    place.set("max_document", "20000");
    place.set("max_batch_documents", "3");
    place.set("max_batch_bytes", "100000");
    let server = place.run();
    let document = place.document(Some(b"a"), b"a");
    let put = |id: &str, body: &[u8]| server.send("PUT", &format!("/v1/documents/{id}"), body).problem();
    let id = document.id().to_string();
    let other = MessageId([7; 32]).to_string();
    let (status, detail) = put(&other, &document.encode());
    assert_eq!(status, 400);
    assert!(detail.contains(&id) && detail.contains(&other), "{detail}");
    assert_eq!(put(&id, b"hello").0, 400);
    assert_eq!(put(&id, b"").0, 400);
    assert_eq!(put("xyz", b"hello").0, 400);
    assert_eq!(put(&id, &vec![0; 200_000]).0, 413);
    let elsewhere = assemble(&Header::to(Fingerprint::V4([1; 20])), b"sealed").unwrap();
    let elsewhere = Document::new(document.group(), support::now(), elsewhere).unwrap();
    assert_eq!(put(&elsewhere.id().to_string(), &elsewhere.encode()).0, 422);

    // Read through, so that it is rejected by its true id, and only by that.
    let large = Document::new(document.group(), support::now(), Bytes::from(vec![0; 30_000])).unwrap();
    assert_eq!(put(&id, &large.encode()).0, 400);
    let answer = server.put(&large).answer();
    assert_eq!(place.verdict_on(&answer, &large), Some(Verdict::Rejected(Rejection::TooLarge)));

    assert_eq!(server.send("POST", "/v1/batch", &vec![0; 100_001]).problem().0, 413);
    let many: Vec<_> = (0..5).map(|n| place.document(None, &[n])).collect();
    let answer = server.send("POST", "/v1/batch", &batch(&many)).answer();
    assert_eq!(place.verdicts(&answer).len(), 3);
    assert_eq!(answer.failures.len(), 1);
    assert_eq!((answer.failures[0].index, answer.failures[0].code), (3, FailureCode::Full.code()));
    let huge = [&[0xff; 4][..], b"x"].concat();
    assert_eq!(server.send("POST", "/v1/batch", &huge).answer().failures[0].code, FailureCode::Full.code());

    for path in ["/v1/have", "/v1/confirmations"] {
        assert_eq!(server.send("POST", path, &[0; 33]).problem().0, 400);
        assert_eq!(server.send("POST", path, &vec![0; 8_193 * 32]).problem().0, 413);
    }
    for query in ["since=x", "limit=0", "limit=1001", "other=1", "since"] {
        assert_eq!(server.curl(&format!("/v1/confirmations?{query}"), &[]).problem().0, 400);
    }
    assert_eq!(server.curl("/v2/info", &[]).problem().0, 404);
    assert_eq!(server.curl("/v1/batch", &[]).problem().0, 405);
    assert_eq!(server.send("DELETE", &format!("/v1/documents/{id}"), b"").problem().0, 405);
    let chunked = ["--header", "Transfer-Encoding: chunked", "--request", "PUT", "--data-binary", "x"];
    assert_eq!(server.curl(&format!("/v1/documents/{id}"), &chunked).problem().0, 411);
    let many: Vec<String> = (0..100).flat_map(|n| ["--header".to_owned(), format!("X-{n}: 1")]).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(server.curl("/v1/info", &many).status, 431);
    assert_eq!(server.curl("/v1/info", &[]).status, 200, "and it goes on");
}

#[test]
fn only_known_gateways_may_upload_and_revoking_is_at_once() {
    let place = Place::new();
    let server = place.run();
    let document = place.document(Some(b"a"), b"a");
    for (header, status) in [
        ("X-Nothing: 1", 401),
        ("Authorization: Bearer wrong", 401),
        ("Authorization: Basic YTpi", 401),
        ("Authorization: Bearer", 401),
    ] {
        for (method, path) in
            [("PUT", format!("/v1/documents/{}", document.id())), ("POST", "/v1/have".into())]
        {
            let arguments = ["--request", method, "--header", header, "--data-binary", "x"];
            let (found, detail) = server.bare_curl(&path, &arguments).unwrap().problem();
            assert_eq!(found, status);
            assert!(detail.contains("gateways add"), "{detail}");
        }
    }
    // A client that sends at once, without asking first, hears the reason too.
    let large = place.file("large", &noise(1, 5_000_000));
    let data = format!("@{}", large.display());
    let at_once = ["--request", "POST", "--header", "Expect:", "--data-binary", &data];
    for _ in 0..5 {
        assert_eq!(server.bare_curl("/v1/batch", &at_once).unwrap().problem().0, 401);
    }
    assert_eq!(server.put(&document).status, 200);
    place.command(&["gateways", "revoke", "kiosk"]).unwrap();
    assert_eq!(server.put(&document).problem().0, 401);
    assert!(place.command(&["gateways", "revoke", "kiosk"]).unwrap_err().contains("gateways list"));
    assert!(place.command(&["gateways", "add", "kiosk"]).unwrap_err().contains("already"));
    let list = place.command(&["gateways", "list"]).unwrap();
    assert_eq!(list["gateways"][0]["name"], "kiosk");
    assert_eq!(list["gateways"][0]["documents"], 1);
    assert!(list["gateways"][0]["revoked"].is_number());
}

#[test]
fn a_gateway_may_have_a_client_certificate_in_place_of_a_token() {
    let place = Place::new();
    let server = place.run();
    let make = |name: &str| {
        let made = waypost_destination::tls::make_authority(name, &[name.to_owned()]).unwrap();
        let certificate = place.file(&format!("{name}.pem"), made.certificate.as_bytes());
        let key = place.file(&format!("{name}.key"), made.key.as_bytes());
        (certificate.to_str().unwrap().to_owned(), key.to_str().unwrap().to_owned())
    };
    let (known, unknown) = (make("boat"), make("stranger"));
    let added = place.command(&["gateways", "add", "boat", "--client-cert", &known.0]).unwrap();
    assert!(added["token"].is_null());
    let status = |(certificate, key): &(String, String), version: &str| {
        let arguments = ["--cert", certificate, "--key", key, version, "--tls-max", &version[6..]];
        server.bare_curl("/v1/confirmations", &arguments).unwrap().status
    };
    for version in ["--tlsv1.2", "--tlsv1.3"] {
        assert_eq!(status(&known, version), 200);
        assert_eq!(status(&unknown, version), 401);
    }
    // Someone else's certificate is of no use without its key.
    let stolen = ["--cert", &known.0, "--key", &unknown.1];
    assert!(server.bare_curl("/v1/confirmations", &stolen).is_err());
}

#[test]
fn info_and_certificate_are_public_and_cached() {
    let place = Place::new();
    let server = place.run();
    let info = server.bare_curl("/v1/info", &[]).unwrap();
    let parsed: waypost_protocol::api::Info = serde_json::from_slice(&info.body).unwrap();
    assert_eq!(parsed.fingerprint, place.home.destination());
    assert_eq!((parsed.versions, parsed.name.as_str()), (vec![1], "Clinic"));
    assert!(parsed.time.0.abs_diff(support::now().0) < 60);
    let headers = server.bare_curl("/v1/info", &["--head", "--request", "GET"]).unwrap();
    let headers = String::from_utf8(headers.body).unwrap();
    let tag = headers.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().trim();
    let known = format!("If-None-Match: \"other\", {tag}");
    let reply = server.bare_curl("/v1/info", &["--header", &known]).unwrap();
    assert_eq!((reply.status, reply.body.len()), (304, 0));
    assert_eq!(server.bare_curl("/v1/info", &["--header", "If-None-Match: \"other\""]).unwrap().status, 200);
    let certificate = server.bare_curl("/v1/certificate", &[]).unwrap();
    assert_eq!(certificate.body, place.home.certificate().to_bytes());
}

#[test]
fn hostile_file_names_stay_in_the_inbox() {
    let place = Place::new();
    let server = place.run();
    let long = vec![b'n'; 300];
    let names: [&[u8]; 12] = [
        b"../../x",
        b"/etc/passwd",
        b"a\0b",
        &long,
        b"-rf",
        b"quote'\"\n$(reboot).txt",
        b"\xff\xfe.bin",
        b"..",
        b"sub/folder/form.xml",
        b"same",
        b"same",
        "写真.jpg".as_bytes(),
    ];
    let documents: Vec<_> = (0u8..).zip(names).map(|(n, name)| place.document(Some(name), &[n])).collect();
    let answer = server.send("POST", "/v1/batch", &batch(&documents)).answer();
    assert!(documents.iter().all(|document| place.verdict_on(&answer, document) == Some(Verdict::Opened)));
    let inbox = place.inbox();
    assert_eq!(inbox.len(), names.len());
    let content = |path: &[u8]| {
        use std::os::unix::ffi::OsStrExt as _;
        let path = std::path::Path::new("forms").join(std::ffi::OsStr::from_bytes(path));
        inbox.iter().find(|(found, _)| *found == path).map(|(_, content)| content[0])
    };
    assert_eq!(content(b"x"), Some(0));
    assert_eq!(content(b"etc/passwd"), Some(1));
    assert_eq!(content(b"a_b"), Some(2));
    assert_eq!(content(&long[..255]), Some(3));
    for (n, name) in [(4, names[4]), (5, names[5]), (6, names[6]), (8, names[8]), (11, names[11])] {
        assert_eq!(content(name), Some(n));
    }
    assert_eq!(content(&documents[7].id().to_string().as_bytes()[..16]), Some(7));
    assert_eq!(content(b"same").max(content(b"same~2")), Some(10));
}

#[test]
fn a_second_server_in_the_same_home_does_not_start() {
    let place = Place::new();
    let _server = place.run();
    let error = place.command(&["run", "--listen", "127.0.0.1:0"]).unwrap_err();
    assert!(error.contains("another server runs"), "{error}");
}
