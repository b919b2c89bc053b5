//! `check` finds our own server right, and each fault of one that is deliberately wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use prost::Message as _;
use serde_json::Value;
use support::{Place, Running};
use waypost_destination::check::{Finding, Target, check};
use waypost_protocol::api::{Answer, PROTOBUF};
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::succession;

fn target(server: &Running) -> Target {
    Target {
        url: server.url.clone(),
        token: Some(server.token.clone()),
        ca_file: Some(server.ca.clone()),
        collection: "forms".into(),
    }
}

/// Names of those that failed.
fn failed(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().filter(|finding| finding.passed == Some(false)).map(|finding| finding.name).collect()
}

#[test]
fn our_own_server_passes_every_requirement() {
    let place = Place::new();
    let server = place.run();
    let ca = server.ca.to_str().unwrap();
    let said = place.command(&["check", &server.url, "--token", &server.token, "--ca", ca]).unwrap();
    let findings = said["requirements"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["passed"] == true), "{said:#}");
    assert!(findings.len() >= 18 && said["passed"] == findings.len() && said["failed"] == 0, "{said:#}");
    // Without a token what is public is tested, and what is not is named.
    let said = place.command(&["check", &server.url, "--ca", ca]).unwrap();
    assert_eq!((&said["failed"], &said["untested"]), (&Value::from(0), &Value::from(1)));
    // A server that holds documents passes as well.
    let key = waypost_openpgp::SecretKey::generate("Clinic", support::now()).unwrap();
    let file = place.file("signing.pgp", key.signing_only().unwrap().to_armor().unwrap().as_bytes());
    let held = Place::with(|init| init.signing_key = Some(file));
    let server = held.run();
    assert_eq!(failed(&check(&target(&server)).unwrap()), Vec::<&str>::new());
}

#[test]
fn nobody_there_or_another_server_fails_with_the_reason_and_status_1() {
    let place = Place::new();
    let said = place.command(&["check", "http://127.0.0.1:1"]);
    assert!(said.is_err());
    let findings = check(&Target { url: "http://127.0.0.1:1".into(), ..Target::default() }).unwrap();
    let reason = findings[0].reason.as_deref().unwrap();
    assert!(findings[0].passed == Some(false) && reason.contains("Connection refused"), "{reason}");
    assert!(check(&Target { url: "http://example.org".into(), ..Target::default() }).is_err());
    let server = place.run();
    let wrong = Target { collection: "nothing".into(), ..target(&server) };
    let findings = check(&wrong).unwrap();
    let put = findings.iter().find(|finding| finding.name == "put").unwrap();
    assert!(put.reason.as_deref().unwrap().contains("--collection"), "{put:?}");
}

/// What a server does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    NoEtag,
    NeverKnown,
    Redirects,
    LetsAnyoneIn,
    OtherCertificate,
    PlainProblems,
    BreaksSignatures,
    ConfirmsNothing,
    IgnoresDigests,
    IgnoresIds,
    HidesFailures,
    HasEverything,
    ForgetsTheCursor,
    TakesAnyNumberOfIds,
    LosesTheOffset,
    HidesSuccessions,
    BreaksSuccessions,
    ForeignSuccessions,
}

/// A server in front of the right one that spoils its answers.
fn spoiled(server: &Running, fault: Fault) -> (tokio::runtime::Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = std::fs::read(&server.ca).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(&ca).unwrap())
        .build()
        .unwrap();
    let (url, token) = (Arc::<str>::from(&*server.url), Arc::<str>::from(&*server.token));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let (client, url, token) = (client.clone(), url.clone(), token.clone());
        async move { pass_on(&client, &url, &token, fault, method, uri, headers, body).await }
    });
    let router = router.layer(axum::extract::DefaultBodyLimit::disable());
    runtime.spawn(async move { axum::serve(listener, router).await });
    (runtime, address)
}

#[allow(clippy::too_many_arguments, reason = "the parts of a request")]
async fn pass_on(
    client: &reqwest::Client,
    url: &str,
    token: &str,
    fault: Fault,
    method: Method,
    uri: Uri,
    mut headers: HeaderMap,
    mut body: Bytes,
) -> Response<Body> {
    let mut path = uri.path_and_query().unwrap().to_string();
    headers.remove(header::HOST);
    let is_put = method == Method::PUT;
    match fault {
        Fault::LetsAnyoneIn => {
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        Fault::NeverKnown => drop(headers.remove(header::IF_NONE_MATCH)),
        Fault::IgnoresDigests => drop(headers.remove("repr-digest")),
        Fault::IgnoresIds if is_put => {
            let document = waypost_protocol::document::Document::decode(body.clone());
            path = format!("/v1/documents/{}", document.unwrap().id());
        }
        Fault::TakesAnyNumberOfIds if path == "/v1/have" => {
            body.truncate(32 * 8_192);
            headers.remove(header::CONTENT_LENGTH);
        }
        Fault::ForgetsTheCursor => path = path.split('?').next().unwrap().to_owned(),
        Fault::Redirects if path == "/v1/certificate" && uri.query().is_none() => {
            let answer = Response::builder().status(302).header("location", "/v1/certificate?again");
            return answer.body(Body::empty()).unwrap();
        }
        _ => {}
    }
    let answer =
        client.request(method, format!("{url}{path}")).headers(headers).body(body).send().await.unwrap();
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    let mut body = answer.bytes().await.unwrap();
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::CONNECTION);
    match fault {
        Fault::NoEtag => drop(headers.remove(header::ETAG)),
        Fault::PlainProblems if status.is_client_error() => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        Fault::OtherCertificate if path == "/v1/certificate" => {
            let key = waypost_openpgp::SecretKey::generate("Other", support::now()).unwrap();
            body = key.certificate().to_bytes().into();
        }
        Fault::LosesTheOffset if headers.contains_key("upload-offset") => {
            headers.insert("upload-offset", HeaderValue::from(0));
        }
        Fault::BreaksSuccessions | Fault::ForeignSuccessions if path == "/v1/successions" => {
            let mut links = succession::decode(&body).unwrap();
            match fault {
                Fault::ForeignSuccessions => links[0].destination = Fingerprint::V4([9; 20]),
                _ => {
                    let word = links[1].word.as_mut().unwrap();
                    let mut signature = word.signature.to_vec();
                    *signature.last_mut().unwrap() ^= 1;
                    word.signature = signature.into();
                }
            }
            body = succession::encode(&links).into();
        }
        _ => {}
    }
    let status = match fault {
        Fault::HidesSuccessions if path == "/v1/successions" => StatusCode::NOT_FOUND,
        _ => status,
    };
    let is_answer = path != "/v1/successions" && status == StatusCode::OK;
    if is_answer && headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROTOBUF) {
        let mut answer = Answer::decode(&body[..]).unwrap();
        match fault {
            Fault::BreaksSignatures => answer.confirmations.iter_mut().for_each(|confirmation| {
                let mut signature = confirmation.signature.to_vec();
                *signature.last_mut().unwrap() ^= 1;
                confirmation.signature = signature.into();
            }),
            Fault::ConfirmsNothing => answer.confirmations.clear(),
            Fault::HidesFailures => answer.failures.clear(),
            Fault::HasEverything => answer.held = vec![0xff; answer.held.len()].into(),
            _ => {}
        }
        body = answer.encode_to_vec().into();
    }
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

#[test]
fn a_server_whose_key_was_renewed_and_succeeded_passes_and_its_chain_is_followed() {
    let place = Place::new();
    place.command(&["key", "renew", "--for", "2y"]).unwrap();
    place.command(&["key", "succeed", "--new"]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let server = place.run();
    let findings = check(&target(&server)).unwrap();
    assert!(findings.iter().all(|finding| finding.passed == Some(true)), "{findings:#?}");
    // Nobody vouches for the key that signs.
    let (_runtime, address) = spoiled(&server, Fault::BreaksSuccessions);
    let spoiled = Target { url: format!("http://{address}"), ca_file: None, ..target(&server) };
    let findings = check(&spoiled).unwrap();
    assert!(failed(&findings).starts_with(&["successions", "put"]), "{findings:#?}");
    // The first key is in other hands.
    let first = place.home.destination().to_string();
    drop(server);
    place.command(&["key", "revoke", &first]).unwrap();
    let server = place.run();
    let findings = check(&target(&server)).unwrap();
    let passed = |finding: &Finding| finding.passed == (finding.name != "successions").then_some(true);
    assert!(findings.iter().all(passed), "{findings:#?}");
    assert!(findings.iter().any(|finding| finding.name == "tus"));
}

#[test]
fn every_fault_of_a_server_is_found() {
    let place = Place::new();
    let server = place.run();
    let all = [
        (Fault::None, &[][..]),
        (Fault::NoEtag, &["etag"]),
        (Fault::NeverKnown, &["etag"]),
        (Fault::Redirects, &["certificate", "no-redirects"]),
        (Fault::LetsAnyoneIn, &["unauthorised"]),
        (Fault::OtherCertificate, &["certificate"]),
        (Fault::HidesSuccessions, &["successions"]),
        (Fault::ForeignSuccessions, &["successions"]),
        (Fault::PlainProblems, &["problems", "unauthorised", "wrong-digest", "bad-ids"]),
        (Fault::BreaksSignatures, &["put", "batch", "tus"]),
        (Fault::ConfirmsNothing, &["put", "batch", "tus"]),
        (Fault::IgnoresDigests, &["wrong-digest"]),
        (Fault::IgnoresIds, &["wrong-id"]),
        (Fault::HidesFailures, &["batch"]),
        (Fault::HasEverything, &["have", "wrong-digest"]),
        (Fault::ForgetsTheCursor, &["cursor"]),
        (Fault::TakesAnyNumberOfIds, &["too-large"]),
        (Fault::LosesTheOffset, &["tus"]),
    ];
    for (fault, expected) in all {
        let (_runtime, address) = spoiled(&server, fault);
        let target = Target { url: format!("http://{address}"), ca_file: None, ..target(&server) };
        let findings = check(&target).unwrap();
        let found = failed(&findings);
        assert!(expected.iter().all(|name| found.contains(name)), "{fault:?}: {found:?}");
        // What one fault does not concern is not blamed.
        let is_narrow = !matches!(fault, Fault::PlainProblems | Fault::HasEverything);
        assert!(!is_narrow || found == expected, "{fault:?}: {findings:#?}");
    }
}
