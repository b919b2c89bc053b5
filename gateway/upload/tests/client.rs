//! The client against a real HTTPS server that plays answers, good and bad.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Certificates, FINGERPRINT, Play, Server, certificates, document, server_config};
use data_encoding::BASE64;
use sha2::{Digest, Sha256};
use waypost_protocol::api::{self, Answer};
use waypost_protocol::document::{Description, Document};
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::time::UnixTime;
use waypost_upload::error::{Cause, Error, Kind, Phase};
use waypost_upload::settings::TimeFloor;
use waypost_upload::way::{Route, Way};
use waypost_upload::{Client, Settings, Upload};

type Part = Upload<std::io::Cursor<Bytes>>;

fn part(document: &Document) -> Part {
    Upload::new(document.description(), std::io::Cursor::new(document.body().clone()))
}

fn batch(client: &mut Client, documents: &[Document]) -> Result<Answer, Error> {
    client.batch(documents.iter().map(part).collect(), &mut |_, _| ())
}

/// A batch of one small document, to a server that plays this.
fn batch_when(play: Play) -> Result<Answer, Error> {
    let server = Server::start();
    server.play([play]);
    batch(&mut server.client(), &[document(1, 1_000)])
}

fn definite(result: Result<Answer, Error>) -> Cause {
    match result.unwrap_err() {
        Error::Definite(cause) => cause,
        Error::Ambiguous(cause) => panic!("{cause:?} should be definite"),
    }
}

fn ambiguous(result: Result<Answer, Error>) -> Cause {
    match result.unwrap_err() {
        Error::Ambiguous(cause) => cause,
        Error::Definite(cause) => panic!("{cause:?} should be ambiguous"),
    }
}

#[test]
fn all_calls_go_over_one_connection() {
    let server = Server::start();
    let mut client = server.client();
    let documents: Vec<Document> = (0..50).map(|seed| document(seed, 1_000)).collect();
    let info = client.info(None).unwrap();
    assert_eq!(info.info.fingerprint, FINGERPRINT);
    assert_eq!(client.info(Some(&info)).unwrap(), info, "304 leaves it as it was");
    let (mut last, mut total) = (0, 0);
    let answer = client
        .batch(documents.iter().map(part).collect(), &mut |sent, of| (last, total) = (sent, of))
        .unwrap();
    assert_eq!(answer.confirmations.len(), 1);
    assert!(last == total && total > 50_000, "{last} of {total}");
    {
        let state = server.state.lock().unwrap();
        assert_eq!(state.held.len(), 50);
        assert_eq!(state.last_headers["content-length"], total.to_string());
        assert_eq!(state.last_headers["content-type"], api::DOCUMENTS_STREAM);
        assert_eq!(state.last_headers["authorization"], "Bearer s3cret");
        assert!(
            !state.last_headers.contains_key("expect")
                && !state.last_headers.contains_key("transfer-encoding")
        );
    }
    let ids = [documents[0].id(), document(99, 5).id()];
    let answer = client.have(&ids).unwrap();
    assert!(api::bit(&answer.held, 0) && !api::bit(&answer.held, 1));
    assert_eq!(client.confirmations(&ids).unwrap().confirmations.len(), 1);
    assert_eq!(client.confirmations_since(0).unwrap().cursor, 5);
    let state = server.state.lock().unwrap();
    assert_eq!(state.connections, 1, "{:?}", state.requests);
}

#[test]
fn a_single_document_goes_with_its_digest() {
    let server = Server::start();
    for size in [0, 1, 3_000_000] {
        let document = document(1, size);
        let digest: [u8; 32] = Sha256::digest(document.encode()).into();
        server.client().put(part(&document), digest, &mut |_, _| ()).unwrap();
        let state = server.state.lock().unwrap();
        assert_eq!(state.held[&document.id()], document);
        assert_eq!(state.last_headers["repr-digest"], format!("sha-256=:{}:", BASE64.encode(&digest)));
        assert_eq!(state.requests.last().unwrap(), &format!("PUT /v1/documents/{}", document.id()));
    }
}

#[test]
fn a_connection_that_the_server_closed_meanwhile_is_not_used_again() {
    let server = Server::start();
    let mut client = server.client();
    server.play([Play::Say(200, vec![("connection", "close".into())], Bytes::new())]);
    assert!(client.confirmations_since(0).is_err());
    std::thread::sleep(Duration::from_millis(50));
    batch(&mut client, &[document(1, 10)]).unwrap();
    assert_eq!(server.state.lock().unwrap().connections, 2);
}

/// The account with this number is used.
#[derive(Debug, Default)]
struct Numbered(AtomicU64);

impl Way for Numbered {
    fn routes(&self) -> Result<Vec<Route>, String> {
        let account = Some(self.0.load(Ordering::Relaxed).to_string());
        Ok(vec![Route { account, ..Route::default() }])
    }

    fn lease(&self, _: &Route, bytes: u64) -> Result<u64, String> {
        Ok(bytes)
    }

    fn give_back(&self, _: &Route, _: u64) {}
}

#[test]
fn after_another_way_was_chosen_the_next_request_takes_it() {
    let server = Server::start();
    let mut settings = server.settings();
    let way = Arc::new(Numbered::default());
    settings.way = way.clone();
    let mut client = Client::new(&settings).unwrap();
    for (account, connections) in [(0, 1), (0, 1), (1, 2), (1, 2), (0, 3)] {
        way.0.store(account, Ordering::Relaxed);
        client.confirmations_since(0).unwrap();
        assert_eq!(server.state.lock().unwrap().connections, connections, "account {account}");
    }
}

#[test]
fn a_cut_in_mid_body_is_ambiguous() {
    let server = Server::start();
    server.play([Play::CutAfter(300_000)]);
    let documents: Vec<Document> = (0..40).map(|seed| document(seed, 100_000)).collect();
    let cause = ambiguous(batch(&mut server.client(), &documents));
    assert_eq!(cause.kind(), Kind::ConnectionLost);
    let held = server.state.lock().unwrap().held.len();
    assert!((1..40).contains(&held), "the server kept {held}: that is why it is ambiguous");
}

#[test]
fn a_cut_after_the_body_is_ambiguous() {
    assert_eq!(ambiguous(batch_when(Play::CutBeforeAnswer)).kind(), Kind::ConnectionLost);
}

#[test]
fn an_answer_that_is_cut_too_long_or_garbage_is_ambiguous() {
    assert!(matches!(ambiguous(batch_when(Play::Truncated)).kind(), Kind::ConnectionLost | Kind::Unreadable));
    let say = |body: Bytes| Play::Say(200, vec![("content-type", api::PROTOBUF.into())], body);
    let giant = ambiguous(batch_when(say(vec![0; 20 << 20].into())));
    assert_eq!(giant, Cause::Unreadable { detail: "it is longer than 77824 bytes".into() });
    assert_eq!(ambiguous(batch_when(say(vec![0xff; 100].into()))).kind(), Kind::Unreadable);
    assert_eq!(ambiguous(batch_when(say([0x12, 0].repeat(1_000).into()))).kind(), Kind::Unreadable);
}

#[test]
fn an_answer_that_does_not_come_is_ambiguous() {
    let server = Server::start();
    server.play([Play::Late(Duration::from_secs(30))]);
    let mut settings = server.settings();
    settings.answer_timeout = Duration::from_millis(300);
    let cause = ambiguous(batch(&mut Client::new(&settings).unwrap(), &[document(1, 1_000)]));
    assert!(matches!(cause, Cause::Timeout { during: Phase::Answering, .. }), "{cause:?}");
}

#[test]
fn a_server_that_does_not_read_times_out() {
    let server = Server::start();
    server.play([Play::Stall]);
    let mut settings = server.settings();
    settings.stall_timeout = Duration::from_millis(200);
    let cause = ambiguous(batch(&mut Client::new(&settings).unwrap(), &[document(1, 30 << 20)]));
    assert!(matches!(cause, Cause::Timeout { during: Phase::Sending, .. }), "{cause:?}");
}

#[test]
fn a_slow_answer_within_its_time_is_taken() {
    batch_when(Play::Late(Duration::from_millis(300))).unwrap();
}

#[test]
fn a_redirect_is_not_followed() {
    let server = Server::start();
    server.play([Play::Say(302, vec![("location", format!("{}/elsewhere", server.url))], Bytes::new())]);
    let cause = definite(batch(&mut server.client(), &[document(1, 10)]));
    assert_eq!(cause.kind(), Kind::WrongServer);
    assert!(cause.to_string().contains("/elsewhere"), "{cause}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_captive_portal_is_not_taken_for_the_destination() {
    let portal =
        || Play::Say(200, vec![("content-type", "text/html; charset=utf-8".into())], "<h1>Login</h1>".into());
    assert_eq!(ambiguous(batch_when(portal())).kind(), Kind::WrongServer);
    let server = Server::start();
    server.play([portal()]);
    let error = server.client().info(None).unwrap_err();
    assert_eq!((error.kind(), error.is_ambiguous()), (Kind::WrongServer, false));
}

#[test]
fn another_fingerprint_is_another_server() {
    let server = Server::start();
    let mut settings = server.settings();
    settings.fingerprint = Some(Fingerprint::V4([8; 20]));
    let error = Client::new(&settings).unwrap().info(None).unwrap_err();
    assert_eq!(error.kind(), Kind::WrongServer);
    settings.fingerprint = None;
    assert!(Client::new(&settings).unwrap().info(None).is_ok(), "while it is being added any will do");
}

#[test]
fn each_refusal_has_its_name() {
    for (status, kind, certain) in [
        (400, Kind::Malformed, true),
        (401, Kind::NotAuthorised, true),
        (403, Kind::NotAuthorised, true),
        (404, Kind::WrongServer, true),
        (413, Kind::TooLarge, true),
        (415, Kind::Incompatible, true),
        (422, Kind::Malformed, true),
        (429, Kind::ServerError, true),
        (500, Kind::ServerError, false),
        (502, Kind::ServerError, false),
        (504, Kind::ServerError, false),
        (507, Kind::Full, true),
        (511, Kind::WrongServer, true),
    ] {
        let server = Server::start();
        server.play([Play::Say(status, vec![], Bytes::new())]);
        let error = batch(&mut server.client(), &[document(1, 10)]).unwrap_err();
        assert_eq!((error.kind(), !error.is_ambiguous()), (kind, certain), "{status}: {error}");
    }
}

#[test]
fn what_the_server_says_is_shown_harmless_and_short() {
    let text = format!("\u{1b}]0;title\u{7} {}", "x".repeat(5_000));
    let cause =
        definite(batch_when(Play::Say(507, vec![("content-type", "text/plain".into())], text.into())));
    let shown = cause.to_string();
    assert!(shown.contains("\\u{1b}]0;title\\u{7} x") && shown.len() < 500, "{shown}");
    assert!(shown.contains("free some"), "{shown}");
}

#[test]
fn of_problem_details_only_the_sentence_for_people_is_shown() {
    let body =
        r#"{"type":"urn:x","title":"Not known here","status":401,"detail":"give the token \u001b[31mthat"}"#;
    let problem = vec![("content-type", "application/problem+json".into())];
    let shown = definite(batch_when(Play::Say(401, problem, body.into()))).to_string();
    assert!(shown.contains("(HTTP 401: give the token \\u{1b}[31mthat)"), "{shown}");
    assert!(!shown.contains("urn:x") && !shown.contains("detail"), "{shown}");
}

#[test]
fn a_wait_that_the_server_asks_for_is_told() {
    let cause = definite(batch_when(Play::Say(429, vec![("retry-after", "17".into())], Bytes::new())));
    assert!(matches!(cause, Cause::ServerError { retry_after: Some(span), .. } if span.as_secs() == 17));
}

/// Counts what is read of it.
struct Counted<'a>(&'a AtomicU64);

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        Ok(buffer.len())
    }
}

#[test]
fn a_refusal_in_the_middle_of_an_upload_is_heard_and_the_rest_not_sent() {
    for (status, kind) in [(401, Kind::NotAuthorised), (507, Kind::Full), (413, Kind::TooLarge)] {
        let server = Server::start();
        server.play([Play::SayEarly(status, "no")]);
        let read = AtomicU64::new(0);
        let description = Description { size: 200 << 20, ..document(1, 1).description() };
        let result = server.client().put(Upload::new(description, Counted(&read)), [0; 32], &mut |_, _| ());
        assert_eq!(definite(result).kind(), kind);
        let read = read.load(Ordering::Relaxed);
        assert!(read < 50 << 20, "{read} bytes were read of a document that nobody wanted");
    }
}

#[test]
fn an_early_refusal_is_heard_also_while_the_connection_stays_open() {
    let certificates = certificates("localhost", 2020, 2100);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings =
        Settings::new(format!("https://localhost:{}", listener.local_addr().unwrap().port()), None);
    settings.ca_pem = Some(certificates.ca_pem.clone().into_bytes());
    let config = Arc::new(server_config(&certificates, false));
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let server = std::thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let mut tls = rustls::StreamOwned::new(rustls::ServerConnection::new(config).unwrap(), tcp);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tls.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        tls.write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n").unwrap();
        // Reads a little more, so that the client's writes get on, and closes only in the end.
        let _ = std::io::copy(&mut (&mut tls).take(20 << 20), &mut std::io::sink());
        let _ = wait.recv();
    });
    let read = AtomicU64::new(0);
    let description = Description { size: 200 << 20, ..document(1, 1).description() };
    let mut client = Client::new(&settings).unwrap();
    let begun = Instant::now();
    let result = client.put(Upload::new(description, Counted(&read)), [0; 32], &mut |_, _| ());
    assert_eq!(definite(result).kind(), Kind::TooLarge);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    drop((done, client));
    server.join().unwrap();
}

#[test]
fn a_document_that_cannot_be_read_is_named() {
    let server = Server::start();
    let good = document(1, 300_000);
    let broken = Description { size: 5_000, ..document(2, 10).description() };
    let parts = vec![part(&good), Upload::new(broken, std::io::Cursor::new(Bytes::from_static(b"short")))];
    let cause = ambiguous(server.client().batch(parts, &mut |_, _| ()));
    assert!(matches!(cause, Cause::Local { id, .. } if id == broken.id), "{cause:?}");
}

fn refused(certificates: Certificates, change: impl FnOnce(&mut Settings)) -> String {
    let server = Server::with(certificates, false, "127.0.0.1:0");
    let mut settings = server.settings();
    change(&mut settings);
    match definite(batch(&mut Client::new(&settings).unwrap(), &[document(1, 10)])) {
        Cause::TlsRefused { detail, .. } => detail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wrong_certificate_is_refused_with_its_reason() {
    let good = || certificates("localhost", 2020, 2100);
    let other_name = refused(certificates("other.example", 2020, 2100), |_| ());
    assert!(other_name.contains("another name"), "{other_name}");
    let other_ca = good().ca_pem.into_bytes();
    let unknown = refused(good(), |settings| settings.ca_pem = Some(other_ca));
    assert!(unknown.contains("nobody that is trusted"), "{unknown}");
    // Named as the gateway's configuration and the phone's command line have it.
    assert!(unknown.contains("`ca_file`") && unknown.contains("`--ca FILE`"), "{unknown}");
    let public = refused(good(), |settings| settings.ca_pem = None);
    assert!(public.contains("nobody that is trusted"), "{public}");
    let expired = refused(certificates("localhost", 2000, 2010), |_| ());
    assert!(expired.contains("expired"), "{expired}");
    let early = refused(certificates("localhost", 2090, 2100), |_| ());
    assert!(early.contains("clock"), "{early}");
}

#[test]
fn a_clock_that_is_behind_is_raised_to_the_floor() {
    let server = Server::with(certificates("localhost", 2090, 2100), false, "127.0.0.1:0");
    let mut settings = server.settings();
    settings.time_floor = TimeFloor::new(UnixTime(3_800_000_000));
    Client::new(&settings).unwrap().info(None).unwrap();
}

#[test]
fn where_the_clock_is_wrong_a_certificate_can_be_too_old_and_not_too_new() {
    let info = |certificates| {
        let server = Server::with(certificates, false, "127.0.0.1:0");
        let mut settings = server.settings();
        // 2090: years ahead of the wall clock, which is therefore wrong.
        settings.time_floor = TimeFloor::new(UnixTime(3_800_000_000));
        Client::new(&settings).unwrap().info(None)
    };
    assert!(info(certificates("localhost", 2095, 2100)).is_ok());
    assert_eq!(info(certificates("localhost", 2000, 2089)).unwrap_err().kind(), Kind::TlsRefused);
    assert_eq!(info(certificates("elsewhere", 2095, 2100)).unwrap_err().kind(), Kind::TlsRefused);
    assert_eq!(info(certificates("localhost", 2150, 2160)).unwrap_err().kind(), Kind::TlsRefused);
}

#[test]
fn a_client_certificate_is_shown_and_a_missing_one_is_named() {
    let server = Server::with(certificates("localhost", 2020, 2100), true, "127.0.0.1:0");
    let mut settings = server.settings();
    let cause = definite(batch(&mut Client::new(&settings).unwrap(), &[document(1, 1_000_000)]));
    assert!(
        matches!(cause, Cause::TlsRefused { ref detail, .. } if detail.contains("this device's certificate")),
        "{cause:?}"
    );
    settings.certificate = Some(server.client_certificate());
    Client::new(&settings).unwrap().info(None).unwrap();
}

#[test]
fn failures_before_anything_is_sent_are_definite_and_told_apart() {
    let server = Server::start();
    let mut settings = server.settings();
    settings.connect_timeout = Duration::from_millis(300);
    let mut try_url = |url: String| {
        settings.url = url;
        definite(batch(&mut Client::new(&settings).unwrap(), &[document(1, 10)]))
    };
    assert_eq!(try_url("https://nowhere.invalid".into()).kind(), Kind::DnsFailed);

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(try_url(format!("https://{closed}")).kind(), Kind::ConnectFailed);

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let cause = try_url(format!("https://{}", silent.local_addr().unwrap()));
    assert!(matches!(cause, Cause::Timeout { during: Phase::Connecting, .. }), "{cause:?}");

    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = http.local_addr().unwrap();
    let plain = std::thread::spawn(move || {
        let (mut tcp, _) = http.accept().unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let cause = try_url(format!("https://{address}"));
    assert_eq!(cause.kind(), Kind::TlsRefused);
    assert!(cause.to_string().contains("does not speak TLS"), "{cause}");
    plain.join().unwrap();
}

#[test]
fn stopping_ends_a_request_at_once() {
    let server = Server::start();
    server.play([Play::Stall]);
    let mut settings = server.settings();
    settings.stall_timeout = Duration::from_secs(60);
    let mut client = Client::new(&settings).unwrap();
    let large = document(1, 30 << 20);
    let stopper = client.stopper();
    let stop = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        stopper.stop();
        Instant::now()
    });
    let cause = ambiguous(batch(&mut client, &[large]));
    assert_eq!(cause, Cause::Stopped);
    assert!(stop.join().unwrap().elapsed() < Duration::from_millis(300));
    assert_eq!(client.info(None).unwrap_err().kind(), Kind::Stopped);
}
