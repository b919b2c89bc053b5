//! What operators set and see: the webhook, quotas, revocation, metrics, the key's expiry.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use support::{Place, batch, noise};
use waypost_protocol::api::FailureCode;

/// A program that takes webhooks: answers each with the next status, 200 after the last.
struct Receiving {
    address: SocketAddr,
    requests: Receiver<(BTreeMap<String, String>, Vec<u8>)>,
}

impl Receiving {
    fn start(listener: TcpListener, statuses: Vec<u16>) -> Self {
        let address = listener.local_addr().unwrap();
        let (sender, requests) = channel();
        let mut statuses = statuses.into_iter();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut headers = BTreeMap::new();
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                loop {
                    line.clear();
                    stream.read_line(&mut line).unwrap();
                    let Some((name, value)) = line.trim().split_once(": ") else { break };
                    headers.insert(name.to_lowercase(), value.to_owned());
                }
                let mut body = vec![0; headers["content-length"].parse().unwrap()];
                stream.read_exact(&mut body).unwrap();
                let status = statuses.next().unwrap_or(200);
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
                if sender.send((headers, body)).is_err() {
                    return;
                }
            }
        });
        Receiving { address, requests }
    }

    fn next(&self) -> (BTreeMap<String, String>, Vec<u8>) {
        self.requests.recv_timeout(Duration::from_secs(30)).expect("the webhook was not called")
    }
}

fn with_webhook(address: SocketAddr) -> Place {
    let place = Place::new();
    place.append(&format!("[webhook]\nurl = \"http://{address}/opened\"\n"));
    place
}

#[test]
fn the_webhook_is_told_of_each_opened_document_with_a_signature() {
    let receiving = Receiving::start(TcpListener::bind("127.0.0.1:0").unwrap(), vec![]);
    let place = with_webhook(receiving.address);
    let server = place.run();
    let document = place.document(Some(b"2026/form.xml"), b"content");
    let rejected = support::altered(&document);
    server.send("POST", "/v1/batch", &batch([&document, &rejected])).answer();
    let (headers, body) = receiving.next();
    let said: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(said["type"], "document.opened");
    let data = &said["data"];
    assert_eq!(data["id"], document.id().to_string());
    assert_eq!(
        (&data["collection"], &data["name"], &data["size"]),
        (&"forms".into(), &"2026/form.xml".into(), &7.into())
    );
    let inbox = place.home.inbox_folder();
    assert_eq!(std::fs::read(inbox.join(data["path"].as_str().unwrap())).unwrap(), b"content");
    assert_eq!(std::fs::read(data["location"].as_str().unwrap()).unwrap(), b"content");
    // As a receiver checks it.
    let secret = std::fs::read_to_string(place.home.path().join("webhook.secret")).unwrap();
    let secret =
        data_encoding::BASE64.decode(secret.trim().strip_prefix("whsec_").unwrap().as_bytes()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
    mac.update(format!("{}.{}.", headers["webhook-id"], headers["webhook-timestamp"]).as_bytes());
    mac.update(&body);
    let expected = format!("v1,{}", data_encoding::BASE64.encode(&mac.finalize().into_bytes()));
    assert_eq!(headers["webhook-signature"], expected);
    assert_eq!(headers["webhook-id"], format!("msg_{}", document.id()));
    // Of what was rejected, and of what is brought again, nobody is told.
    server.put(&document).answer();
    assert!(receiving.requests.recv_timeout(Duration::from_secs(3)).is_err());
    assert_eq!(place.command(&["status"]).unwrap()["documents"]["notices"], 0);
}

#[test]
fn a_webhook_that_fails_is_told_again_under_the_same_id() {
    let receiving = Receiving::start(TcpListener::bind("127.0.0.1:0").unwrap(), vec![503]);
    let place = with_webhook(receiving.address);
    let server = place.run();
    server.put(&place.document(None, b"one")).answer();
    let (first, second) = (receiving.next(), receiving.next());
    assert_eq!((&first.0["webhook-id"], first.1), (&second.0["webhook-id"], second.1));
}

#[test]
fn a_webhook_that_is_gone_delays_no_upload_and_is_told_after_a_restart() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let place = with_webhook(address);
    let server = place.run();
    let documents: Vec<_> = (0..20u64).map(|n| place.document(None, &noise(n, 500))).collect();
    let begun = Instant::now();
    for document in &documents {
        server.put(document).answer();
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // Some have been tried by now.
    std::thread::sleep(Duration::from_millis(2_500));
    server.kill();
    assert_eq!(place.command(&["status"]).unwrap()["documents"]["notices"], 20);
    let receiving = Receiving::start(TcpListener::bind(address).unwrap(), vec![]);
    let _server = place.run();
    let mut told: Vec<_> = (0..20).map(|_| receiving.next().0["webhook-id"].clone()).collect();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 20);
}

#[test]
fn over_its_quota_a_gateway_is_told_so_and_nothing_is_lost() {
    let place = Place::new();
    let server = place.run();
    let documents: Vec<_> = (0..4u64).map(|n| place.document(Some(b"a"), &noise(n, 3_000))).collect();
    place.command(&["gateways", "set", "kiosk", "--day-documents", "2"]).unwrap();
    let answer = server.send("POST", "/v1/batch", &batch(&documents)).answer();
    assert_eq!(place.verdicts(&answer).len(), 2);
    let over: Vec<_> =
        answer.failures.iter().map(|failure| (failure.index, FailureCode::from_code(failure.code))).collect();
    assert_eq!(over, [(2, FailureCode::Full), (3, FailureCode::Full)]);
    assert!(answer.failures[0].detail.contains("2 documents a day"), "{}", answer.failures[0].detail);
    assert_eq!((place.inbox().len(), place.temporary_files()), (2, 0));
    // One document: the status that gateways show as "destination full". What is here already may come again.
    let (status, detail) = server.curl_put(&documents[2]).problem();
    assert!(status == 507 && detail.contains("quota"), "{status} {detail}");
    server.put(&documents[0]).answer();
    // Another gateway has its own.
    let other = server.with_token(place.add_gateway("boat"));
    other.put(&documents[2]).answer();
    let set =
        place.command(&["gateways", "set", "kiosk", "--day-documents", "none", "--total", "12kB"]).unwrap();
    assert_eq!(set["quota"]["day_documents"], Value::Null);
    assert_eq!(set["quota"]["total_bytes"], 12_000);
    server.put(&documents[3]).answer();
    assert_eq!(server.put(&place.document(None, &noise(9, 3_000))).status, 507);
    assert!(
        place.command(&["gateways", "set", "nobody", "--day", "1GB"]).unwrap_err().contains("gateways list")
    );
    assert!(place.command(&["gateways", "set", "kiosk", "--day", "much"]).unwrap_err().contains("500MB"));
}

#[test]
fn a_gateway_that_is_revoked_in_mid_upload_gets_no_further() {
    let place = Place::new();
    let server = place.run();
    let documents: Vec<_> = (0..100u64).map(|n| place.document(None, &noise(n, 16_000))).collect();
    let body = place.file("batch", &batch(&documents));
    let upload = Command::new("curl")
        .args([
            "--silent",
            "--limit-rate",
            "400k",
            "--request",
            "POST",
            "--write-out",
            "%{http_code}",
            "--cacert",
        ])
        .arg(&server.ca)
        .args(["--header", &format!("Authorization: Bearer {}", server.token), "--header", "Expect:"])
        .args(["--output", "/dev/null", "--data-binary", &format!("@{}", body.display())])
        .arg(format!("{}/v1/batch", server.url))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while place.inbox().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    place.command(&["gateways", "revoke", "kiosk"]).unwrap();
    let at_that_time = place.inbox().len();
    let output = upload.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "401");
    // What was committed in the moment before may still have been put in its place.
    assert!(place.inbox().len() < at_that_time + 50, "{} and {}", at_that_time, place.inbox().len());
    assert_eq!(place.temporary_files(), 0);
}

#[test]
fn metrics_are_openmetrics_on_a_listener_of_their_own() {
    let place = Place::new();
    place.set("metrics", "\"127.0.0.1:0\"");
    let server = place.run();
    server.put(&place.document(None, b"one")).answer();
    server.put(&support::altered(&place.document(None, b"two"))).answer();
    server.bare_curl("/v1/have", &["--request", "POST"]).unwrap();
    let curl = |path: &str| {
        let url = server.metrics.clone().unwrap().replace("/metrics", path);
        let output = Command::new("curl").args(["--silent", "--include"]).arg(url).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let text = curl("/metrics");
    assert!(text.contains("application/openmetrics-text; version=1.0.0"), "{text}");
    for line in [
        "waypost_destination_documents{verdict=\"opened\"} 1",
        "waypost_destination_documents{verdict=\"rejected\"} 1",
        "waypost_destination_confirmations_sent_total 2",
        "waypost_destination_requests_total{path=\"/v1/documents/{id}\",status=\"200\"} 2",
        "waypost_destination_requests_total{path=\"/v1/have\",status=\"401\"} 1",
        "waypost_destination_webhook_waiting 0",
        "waypost_destination_key_expires_seconds ",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(curl("/health").ends_with("ok\n"));
    assert_eq!(server.curl("/metrics", &[]).status, 404);
}

#[test]
fn a_backup_that_was_taken_while_the_server_ran_is_restored_with_all_that_was_confirmed_by_then() {
    let place = Place::new();
    let server = place.run();
    let before: Vec<_> = (0..30u64).map(|n| place.document(Some(b"form.xml"), &noise(n, 700))).collect();
    let confirmed = server.send("POST", "/v1/batch", &batch(&before)).answer();
    // As docs/destination.md has it: the database, then the files, while more comes.
    let home = place.home.path();
    let backup = place.folder.path().join("backup");
    std::fs::create_dir(&backup).unwrap();
    let copied = std::thread::scope(|scope| {
        let more: Vec<_> = (30..60u64).map(|n| place.document(Some(b"form.xml"), &noise(n, 700))).collect();
        let server = &server;
        scope.spawn(move || more.iter().for_each(|document| drop(server.put(document))));
        let database = rusqlite::Connection::open(home.join("store.sqlite")).unwrap();
        database.execute("VACUUM INTO ?", [backup.join("store.sqlite").to_str().unwrap()]).unwrap();
        let copy = |names: &[&str]| {
            let paths = names.iter().map(|name| home.join(name));
            Command::new("cp").arg("-a").args(paths).arg(&backup).status().unwrap()
        };
        // Of which something may vanish meanwhile.
        copy(&["tmp"]);
        copy(&[
            "inbox",
            "held",
            "confirmations",
            "destination.toml",
            "secret.pgp",
            "certificate.pgp",
            "collection.key",
            "tls",
        ])
    });
    assert!(copied.success());
    server.kill();
    std::fs::rename(home, place.folder.path().join("lost")).unwrap();
    std::fs::rename(&backup, home).unwrap();
    let server = place.run();
    let ids: Vec<_> = before.iter().map(|document| document.id()).collect();
    assert_eq!(server.ask("/v1/confirmations", &ids).confirmations, confirmed.confirmations);
    let inbox: Vec<_> = place.inbox().into_iter().map(|(_, content)| content).collect();
    assert!((0..30u64).all(|n| inbox.contains(&noise(n, 700))));
    // And it goes on.
    server.put(&place.document(None, b"after")).answer();
}

#[test]
fn a_key_that_expires_within_sixty_days_is_warned_of_and_one_that_does_not_is_not() {
    let gpg_home = tempfile::Builder::new().prefix("wpg").tempdir_in("/tmp").unwrap();
    let gpg = |arguments: &[&str]| {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(gpg_home.path()).args(["--batch", "--quiet", "--passphrase", ""]);
        let output = gpg.args(arguments).output().expect("gpg is not installed: apt-get install gnupg");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let with_key = |days: &str| {
        gpg(&["--quick-generate-key", days, "future-default", "default", days]);
        let file = gpg_home.path().join(days);
        std::fs::write(&file, gpg(&["--export-secret-keys", days])).unwrap();
        Place::with(|init| init.signing_key = Some(file))
    };
    let now = support::now().0;
    let soon = with_key("30d");
    let status = soon.command(&["status"]).unwrap();
    let said = status["key_warning"].as_str().unwrap();
    assert!(said.contains("expires before") && said.contains("key renew --for 2y"), "{said}");
    let expires = status["key_expires"].as_u64().unwrap();
    assert!((now + 29 * 86_400..now + 32 * 86_400).contains(&expires), "{expires}");
    let late = with_key("90d");
    let status = late.command(&["status"]).unwrap();
    assert!(status["key_warning"].is_null() && status["key_expires"].is_u64(), "{status}");
    let never = Place::new().command(&["status"]).unwrap();
    assert!(never["key_warning"].is_null() && never["key_expires"].is_null(), "{never}");
    let _ = Command::new("gpgconf").arg("--homedir").arg(gpg_home.path()).args(["--kill", "all"]).status();
}
