//! Remote logs over HTTPS, as curl and gateways see them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use data_encoding::BASE64;
use support::{Client, Place, Reply, altered, batch, head, noise, page};
use waypost_protocol::api::{bit, encode_ids};
use waypost_protocol::document::Document;
use waypost_protocol::ids::MessageId;
use waypost_remote_log::{ContentHash, LogId, Signer};

fn put(client: &Client, bytes: &[u8]) -> Reply {
    client.send("PUT", &format!("/v1/content/{}", ContentHash::of(bytes)), bytes)
}

fn publish(client: &Client, place: &Place, signer: &Signer, head: &[u8], condition: &str) -> Reply {
    let body = format!("@{}", place.file("head", head).display());
    let path = format!("/v1/names/{}", signer.key());
    client.curl(&path, &["--request", "PUT", "--header", condition, "--data-binary", &body])
}

/// The condition that replaces this head.
fn replacing(head: &[u8]) -> String {
    format!("If-Match: \"{}\"", ContentHash::of(head))
}

const FIRST: &str = "If-None-Match: *";

#[test]
fn content_is_given_back_as_it_was_put_also_from_the_middle_and_after_a_kill() {
    let place = Place::new();
    let server = place.run();
    let large = noise(1, 300_000);
    for bytes in [&large[..], b"small"] {
        assert_eq!(put(&server, bytes).status, 200);
        assert_eq!(put(&server, bytes).status, 200, "it may be repeated");
    }
    server.kill();
    let server = place.run();
    let path = format!("/v1/content/{}", ContentHash::of(&large));
    let reply = server.curl(&path, &[]);
    assert!(reply.status == 200 && reply.body == large);
    assert!(server.curl(&format!("{path}?from=123456"), &[]).body == large[123_456..]);
    assert_eq!(server.curl(&format!("{path}?from=300000"), &[]).body, b"");
    assert_eq!(server.curl(&format!("{path}?from=x"), &[]).problem().0, 400);

    let hashes = [&large[..], b"other", b"small"].map(|bytes| MessageId(ContentHash::of(bytes).0));
    let answer = server.send("POST", "/v1/content/have", &encode_ids(&hashes)).answer();
    assert_eq!(answer.held[..], [0b1010_0000]);
    let missing = server.curl(&format!("/v1/content/{}", hashes[1]), &[]);
    assert_eq!(missing.problem().0, 404);
    assert_eq!(server.curl("/v1/content/abc", &[]).problem().0, 400);
}

#[test]
fn content_that_is_not_what_its_hash_says_or_too_large_or_without_room_is_refused() {
    let place = Place::new();
    place.set("max_document", "1000");
    place.set("max_log_bytes", "1500");
    place.command(&["gateways", "set", "kiosk", "--remote-log", "1500"]).unwrap();
    let server = place.run();
    let path = format!("/v1/content/{}", ContentHash::of(b"right"));
    let (status, detail) = server.send("PUT", &path, b"wrong").problem();
    assert!(status == 400 && detail.contains("hash"), "{detail}");
    assert_eq!(server.curl(&path, &[]).status, 404);
    assert_eq!(put(&server, &noise(1, 1_001)).problem().0, 413);
    assert_eq!(put(&server, &noise(2, 1_000)).status, 200);
    let (status, detail) = put(&server, &noise(3, 1_000)).problem();
    assert!(status == 507 && detail.contains("max_log_bytes"), "{detail}");
    // What is there is counted again after a restart, and costs nothing twice.
    server.kill();
    let server = place.run();
    assert_eq!(put(&server, &noise(3, 1_000)).problem().0, 507);
    assert_eq!(put(&server, &noise(2, 1_000)).status, 200);
    assert_eq!(put(&server, &noise(4, 500)).status, 200);
}

#[test]
fn a_head_is_replaced_only_by_a_newer_one_of_its_own_signer_who_has_seen_it() {
    let place = Place::new();
    let server = place.run();
    let (signer, other) = (Signer::derive(&[1; 32]).unwrap(), Signer::derive(&[2; 32]).unwrap());
    let document = place.document(Some(b"a"), b"a");
    let page = page(signer.key(), &[&document]);
    let made = |sequence| head(&signer, LogId([1; 16]), sequence, &page);
    let name = format!("/v1/names/{}", signer.key());
    assert_eq!(server.curl(&name, &[]).problem().0, 404);
    let say = |bytes: &[u8], condition: &str| publish(&server, &place, &signer, bytes, condition);

    // Not before its page is there.
    let (status, detail) = say(&made(1), FIRST).problem();
    assert!(status == 400 && detail.contains("newest page"), "{detail}");
    put(&server, &page.encode().0);
    assert_eq!(say(&made(1), "X: y").problem().0, 428);
    assert_eq!(say(&made(1), FIRST).status, 200);
    assert_eq!(server.curl(&name, &[]).body, made(1));
    assert_eq!(
        server.curl(&name, &["--header", &replacing(&made(1)).replace("If-Match", "If-None-Match")]).status,
        304
    );

    // A replay, a head that was not seen, one that is not newer, another's, a forged one.
    assert_eq!(say(&made(2), FIRST).problem().0, 412);
    assert_eq!(say(&made(3), &replacing(&made(2))).problem().0, 412);
    assert_eq!(say(&made(2), &replacing(&made(1))).status, 200);
    for sequence in [1, 2] {
        let (status, detail) = say(&made(sequence), &replacing(&made(2))).problem();
        assert!(status == 400 && detail.contains("no newer"), "{detail}");
    }
    let foreign = head(&other, LogId([1; 16]), 9, &page);
    assert_eq!(say(&foreign, &replacing(&made(2))).problem().0, 400);
    let mut forged = made(9).to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let (status, detail) = say(&forged, &replacing(&made(2))).problem();
    assert!(status == 400 && detail.contains("signature"), "{detail}");
    assert_eq!(say(&[0; 2_000], &replacing(&made(2))).problem().0, 413);
    assert_eq!(server.curl(&name, &[]).body, made(2));
}

#[test]
fn a_name_never_leads_back_to_a_log_that_was_ended() {
    let place = Place::new();
    let server = place.run();
    let signer = Signer::derive(&[1; 32]).unwrap();
    let document = place.document(Some(b"a"), b"a");
    let page = page(signer.key(), &[&document]);
    put(&server, &page.encode().0);
    let made = |log, sequence| head(&signer, LogId([log; 16]), sequence, &page);
    assert_eq!(publish(&server, &place, &signer, &made(1, 5), FIRST).status, 200);
    assert_eq!(publish(&server, &place, &signer, &made(2, 1), &replacing(&made(1, 5))).status, 200);
    server.kill();
    let server = place.run();
    let (status, detail) = publish(&server, &place, &signer, &made(1, 6), &replacing(&made(2, 1))).problem();
    assert!(status == 400 && detail.contains("ended"), "{detail}");
    assert_eq!(publish(&server, &place, &signer, &made(2, 2), &replacing(&made(2, 1))).status, 200);
}

#[test]
fn phones_read_logs_and_cannot_write_them() {
    let place = Place::new();
    let code = place.command(&["phone-code", "--token", "phones"]).unwrap();
    let text = code["text"].as_str().unwrap();
    let (_, rest) = text.split_once("&t=").unwrap_or_else(|| panic!("{text}"));
    let token = rest.split('&').next().unwrap().to_owned();
    let server = place.run();
    let phone = server.with_token(token);
    assert_eq!(put(&server, b"content").status, 200);
    let path = format!("/v1/content/{}", ContentHash::of(b"content"));
    assert_eq!(phone.curl(&path, &[]).body, b"content");
    assert_eq!(put(&phone, b"content").problem().0, 403);
    let signer = Signer::derive(&[1; 32]).unwrap();
    assert_eq!(publish(&phone, &place, &signer, b"x", FIRST).problem().0, 403);
}

#[test]
fn one_gateway_cannot_use_up_what_all_remote_logs_may_take() {
    let place = Place::new();
    place.set("max_log_bytes", "4000");
    let boat = place.add_gateway("boat");
    let server = place.run();
    let boat = server.with_token(boat);
    assert_eq!(put(&server, &noise(1, 2_000)).status, 200);
    let (status, detail) = put(&server, &noise(2, 100)).problem();
    assert!(status == 507 && detail.contains("gateways set NAME --remote-log"), "{detail}");
    // What another has put costs nothing, and what is refused neither.
    assert_eq!(put(&boat, &noise(1, 2_000)).status, 200);
    let path = format!("/v1/content/{}", ContentHash::of(&noise(4, 900)));
    assert_eq!(boat.send("PUT", &path, &noise(5, 900)).problem().0, 400);
    assert_eq!(put(&boat, &noise(3, 1_000)).status, 200);
    assert_eq!(put(&boat, &noise(2, 100)).problem().0, 507);
    // The admin says otherwise.
    let said = place.command(&["gateways", "set", "kiosk", "--remote-log", "2500B"]).unwrap();
    assert_eq!((&said["quota"]["log_bytes"], &said["used"]["log_bytes"]), (&2_500.into(), &2_000.into()));
    assert_eq!(put(&server, &noise(6, 500)).status, 200);
    let (status, detail) = put(&server, &noise(7, 1)).problem();
    assert!(status == 507 && detail.contains("2500 bytes"), "{detail}");
    assert_eq!(place.command(&["gateways", "list"]).unwrap()["gateways"][1]["used"]["log_bytes"], 2_500);
}

/// Whether a document's canonical encoding is content, and then whether that is given back.
fn is_content(client: &Client, document: &Document) -> bool {
    let bytes = document.encode();
    let hash = ContentHash::of(&bytes);
    let answer = client.send("POST", "/v1/content/have", &hash.0).answer();
    let reply = client.curl(&format!("/v1/content/{hash}"), &[]);
    assert_eq!(bit(&answer.held, 0), reply.status == 200);
    reply.status == 200 && reply.body == bytes
}

/// A batch of documents, of which some are said to be listed.
fn batch_listing(documents: &[(&Document, bool)]) -> Vec<u8> {
    let part = |(document, is_listed): &(&Document, bool)| {
        let mut bytes = batch([*document]);
        bytes[0] |= if *is_listed { 0x80 } else { 0 };
        bytes
    };
    documents.iter().flat_map(part).collect()
}

/// Uploads a document with a header, by itself or by tus in two requests.
fn upload(place: &Place, client: &Client, document: &Document, header: &str, is_tus: bool) -> u16 {
    let bytes = document.encode();
    let body = |bytes: &[u8]| format!("@{}", place.file(&document.id().to_string(), bytes).display());
    if !is_tus {
        let path = format!("/v1/documents/{}", document.id());
        return client.curl(&path, &["-X", "PUT", "-H", header, "--data-binary", &body(&bytes)]).status;
    }
    let (length, half) = (format!("Upload-Length: {}", bytes.len()), bytes.len() / 2);
    let named = format!("Upload-Metadata: id {}", BASE64.encode(document.id().to_string().as_bytes()));
    let tus =
        ["-H", "Tus-Resumable: 1.0.0", "-H", "Content-Type: application/offset+octet-stream", "-H", header];
    let begin = ["-X", "POST", "-H", &length, "-H", &named, "--data-binary", &body(&bytes[..half])];
    assert_eq!(client.curl("/v1/uploads", &[&tus[..], &begin].concat()).status, 201);
    let offset = format!("Upload-Offset: {half}");
    let rest = ["-X", "PATCH", "-H", &offset, "--data-binary", &body(&bytes[half..])];
    client.curl(&format!("/v1/uploads/{}", document.id()), &[&tus[..], &rest].concat()).status
}

const LISTED: &str = "Waypost-Listed: ?1";

#[test]
fn an_upload_that_a_log_lists_is_content_too_by_itself_in_a_batch_and_by_tus() {
    let place = Place::new();
    let server = place.run();
    let small = place.document(Some(b"small"), b"small");
    let large = place.document(Some(b"large"), &noise(1, 300_000));
    let parts = place.document(Some(b"parts"), &noise(2, 300_000));
    assert_eq!(upload(&place, &server, &small, LISTED, false), 200);
    assert_eq!(upload(&place, &server, &large, LISTED, false), 200);
    assert_eq!(upload(&place, &server, &parts, LISTED, true), 204);
    for document in [&small, &large, &parts] {
        assert!(is_content(&server, document));
    }
    let many: Vec<Document> =
        (0..200u64).map(|n| place.document(None, &noise(n, if n == 7 { 200_000 } else { 500 }))).collect();
    let listing: Vec<_> = many.iter().enumerate().map(|(n, document)| (document, n % 2 == 1)).collect();
    let answer = server.send("POST", "/v1/batch", &batch_listing(&listing)).answer();
    assert_eq!((answer.failures.len(), place.verdicts(&answer).len()), (0, 200));
    for (document, is_listed) in listing.iter().step_by(9) {
        assert_eq!(is_content(&server, document), *is_listed);
    }
    // One that is here already is kept when its log says so.
    let (known, by_tus) = (many[0].clone(), many[2].clone());
    assert_eq!(upload(&place, &server, &known, LISTED, false), 200);
    assert_eq!(upload(&place, &server, &by_tus, LISTED, true), 204);
    assert!(is_content(&server, &known) && is_content(&server, &by_tus));
    assert_eq!(place.temporary_files(), 0);
}

#[test]
fn what_is_not_listed_or_rejected_or_a_phones_or_without_room_is_no_content_and_is_taken_all_the_same() {
    let place = Place::new();
    place.set("max_log_bytes", "5000");
    place.command(&["gateways", "set", "kiosk", "--remote-log", "5000"]).unwrap();
    let code = place.command(&["phone-code", "--token", "phones"]).unwrap();
    let token = code["text"].as_str().unwrap().split("&t=").nth(1).unwrap().split('&').next().unwrap();
    let server = place.run();
    let phone = server.with_token(token.to_owned());
    let document = |n: u64| place.document(None, &noise(n, 2_000));
    let (unsaid, denied) = (document(1), document(2));
    assert_eq!(upload(&place, &server, &unsaid, "X: y", false), 200);
    assert_eq!(upload(&place, &server, &denied, "Waypost-Listed: ?0", true), 204);
    let broken = altered(&document(3));
    assert_eq!(upload(&place, &server, &broken, LISTED, false), 200);
    let phones = [document(4), document(5), document(6)];
    assert_eq!(upload(&place, &phone, &phones[0], LISTED, false), 200);
    assert_eq!(upload(&place, &phone, &phones[1], LISTED, true), 204);
    phone.send("POST", "/v1/batch", &batch_listing(&[(&phones[2], true)])).answer();
    for document in [&unsaid, &denied, &broken].into_iter().chain(&phones) {
        assert!(!is_content(&server, document));
    }
    // Two have room, the third is taken without.
    let batch: Vec<Document> = (10..13).map(document).collect();
    let listing: Vec<_> = batch.iter().map(|document| (document, true)).collect();
    let answer = server.send("POST", "/v1/batch", &batch_listing(&listing)).answer();
    assert_eq!((answer.failures.len(), place.verdicts(&answer).len()), (0, 3));
    let kept: Vec<bool> = batch.iter().map(|document| is_content(&server, document)).collect();
    assert_eq!(kept, [true, true, false]);
    assert_eq!(upload(&place, &server, &document(14), LISTED, true), 204);
    let used: u64 = batch[..2].iter().map(|document| document.encode().len() as u64).sum();
    assert_eq!(place.command(&["gateways", "list"]).unwrap()["gateways"][0]["used"]["log_bytes"], used);
}

#[test]
fn a_version_of_the_newest_page_is_removed_with_the_second_head_after_it_and_its_room_is_free_again() {
    let place = Place::new();
    let other = place.add_gateway("other");
    let server = place.run();
    let (signer, rival) = (Signer::derive(&[1; 32]).unwrap(), Signer::derive(&[2; 32]).unwrap());
    let documents: Vec<Document> = (0..5u64).map(|n| place.document(None, &noise(n, 700))).collect();
    let pages: Vec<_> =
        (1..=5).map(|count| page(signer.key(), &documents[..count].iter().collect::<Vec<_>>())).collect();
    let heads: Vec<_> =
        pages.iter().zip(1..).map(|(page, at)| head(&signer, LogId([1; 16]), at, page)).collect();
    let there = |at: usize| server.curl(&format!("/v1/content/{}", pages[at].encode().1), &[]).status == 200;
    let used = || place.command(&["gateways", "list"]).unwrap()["gateways"][0]["used"]["log_bytes"].clone();
    for at in 0..4 {
        put(&server, &pages[at].encode().0);
        let condition = if at == 0 { FIRST.to_owned() } else { replacing(&heads[at - 1]) };
        assert_eq!(publish(&server, &place, &signer, &heads[at], &condition).status, 200);
        let left: Vec<bool> = (0..=at).map(there).collect();
        let expected: Vec<bool> = (0..=at).map(|version| version + 2 > at).collect();
        assert_eq!(left, expected);
        let bytes: usize = (at.saturating_sub(1)..=at).map(|at| pages[at].encode().0.len()).sum();
        assert_eq!(used(), bytes);
    }
    // Another gateway's heads may lead to these pages, and then away from them: they stay.
    let rivals = server.with_token(other);
    let stolen = head(&rival, LogId([1; 16]), 1, &pages[3]);
    assert_eq!(publish(&rivals, &place, &rival, &stolen, FIRST).status, 200);
    let own: Vec<_> =
        [2, 3].map(|count| page(rival.key(), &documents[..count].iter().collect::<Vec<_>>())).into();
    let mut before = stolen;
    for (page, at) in own.iter().zip(2..) {
        put(&rivals, &page.encode().0);
        let head = head(&rival, LogId([1; 16]), at, page);
        assert_eq!(publish(&rivals, &place, &rival, &head, &replacing(&before)).status, 200);
        before = head;
    }
    assert!(there(3));
}

#[test]
fn small_contents_come_several_in_one_answer_and_what_does_not_fit_is_left_to_be_asked_for_by_itself() {
    let place = Place::new();
    place.set("max_log_bytes", "100000000");
    let server = place.run();
    let mut contents: Vec<Vec<u8>> =
        vec![b"a".to_vec(), noise(1, 65_537), b"not there".to_vec(), noise(2, 65_536)];
    contents.extend((10..28u64).map(|n| noise(n, 60_000)));
    contents.push(noise(3, 100));
    for bytes in contents.iter().filter(|bytes| bytes.as_slice() != b"not there") {
        put(&server, bytes);
    }
    let hashes: Vec<MessageId> = contents.iter().map(|bytes| MessageId(ContentHash::of(bytes).0)).collect();
    let reply = server.send("POST", "/v1/content/get", &encode_ids(&hashes));
    assert_eq!((reply.status, reply.kind.as_str()), (200, "application/vnd.waypost.contents"));
    let (mut rest, mut found) = (&reply.body[..], Vec::new());
    while let Some((length, after)) = rest.split_first_chunk() {
        let (bytes, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        found.push(bytes.to_vec());
        rest = after;
    }
    assert_eq!(found.len(), contents.len());
    let whole: Vec<bool> = found.iter().zip(&contents).map(|(found, content)| found == content).collect();
    assert!(found.iter().zip(&whole).all(|(found, whole)| *whole || found.is_empty()));
    // 65,537 + 16 × 60,000 bytes fit, two more do not, and a little one does again.
    let expected: Vec<bool> = (0..contents.len()).map(|at| ![1, 2, 20, 21].contains(&at)).collect();
    assert_eq!(whole, expected);
    assert_eq!(server.send("POST", "/v1/content/get", &[1; 33]).problem().0, 400);
}

#[test]
fn content_whose_bytes_are_lost_is_not_said_to_be_there_and_may_be_put_again() {
    let place = Place::new();
    let server = place.run();
    let bytes = noise(1, 3_000);
    assert_eq!(put(&server, &bytes).status, 200);
    match &place.shared {
        Some(shared) => shared.remove(&format!("log/{}", ContentHash::of(&bytes))),
        None => std::fs::remove_dir_all(place.home.path().join("log")).unwrap(),
    }
    let path = format!("/v1/content/{}", ContentHash::of(&bytes));
    assert_eq!(server.curl(&path, &[]).problem().0, 404);
    let asked = encode_ids(&[MessageId(ContentHash::of(&bytes).0)]);
    assert!(!bit(&server.send("POST", "/v1/content/have", &asked).answer().held, 0));
    let used = || place.command(&["gateways", "list"]).unwrap()["gateways"][0]["used"]["log_bytes"].clone();
    assert_eq!(used(), 0);
    assert_eq!(put(&server, &bytes).status, 200);
    assert!(server.curl(&path, &[]).body == bytes);
    assert_eq!(used(), 3_000);
}
