//! `openapi.json` describes exactly the routes that the server has.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use prost::Message as _;
use serde_json::Value;
use support::{Place, Reply};
use waypost_destination::api::ROUTES;
use waypost_protocol::api::{Answer, Failure, FailureCode};

fn document() -> Value {
    serde_json::from_str(include_str!("../openapi.json")).unwrap()
}

#[test]
fn every_route_is_described_and_every_description_has_its_route() {
    let document = document();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let routes = ROUTES.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(routes.collect::<BTreeSet<_>>(), described);
}

#[test]
fn without_credentials_every_route_but_the_public_ones_says_so_as_described() {
    let (place, document) = (Place::new(), document());
    let server = place.run();
    for (method, path) in ROUTES {
        let there = path.replace("{id}", &"0".repeat(64));
        let tus = ["--header", "Tus-Resumable: 1.0.0"];
        let arguments: &[&str] = match method {
            "GET" => &[],
            "HEAD" => &["--head", tus[0], tus[1]],
            _ => &["--request", method, "--data-binary", "x", tus[0], tus[1]],
        };
        let reply = server.bare_curl(&there, arguments).unwrap();
        let operation = &document["paths"][path][method.to_lowercase()];
        let is_public = operation["security"] == serde_json::json!([]);
        let success = if method == "OPTIONS" { 204 } else { 200 };
        assert_eq!(reply.status, if is_public { success } else { 401 }, "{method} {path}");
        check(&document, method, path, &reply);
    }
}

#[test]
fn with_credentials_every_route_succeeds_as_described() {
    let (place, document) = (Place::new(), document());
    let server = place.run();
    let one = place.document(Some(b"one.xml"), b"one");
    let other = place.document(Some(b"other.xml"), b"other");
    let file = |name: &str, bytes: &[u8]| format!("@{}", place.file(name, bytes).display());
    let single = file("one", &one.encode());
    // The second of the batch is no document, so that there is a failure to look at.
    let mut stream = support::batch([&other]);
    stream.extend(b"\0\0\0\x01x");
    let several = file("several", &stream);
    let ids = file("ids", &waypost_protocol::api::encode_ids(&[one.id(), other.id()]));
    let nothing = file("nothing", b"");
    let (page, root, head, key) = support::log(&one);
    let (page, head) = (file("page", &page), file("head", &head));
    // An upload of a third document, of which nothing comes.
    let third = support::noise(5, 32).try_into().map(waypost_protocol::ids::MessageId).unwrap();
    let named = format!("Upload-Metadata: id {}", data_encoding::BASE64.encode(third.to_string().as_bytes()));
    let stream = "Content-Type: application/offset+octet-stream";
    let headers = ["Tus-Resumable: 1.0.0", "Upload-Length: 100", "Upload-Offset: 0", named.as_str()];
    let mut tus: Vec<&str> = headers.iter().flat_map(|header| ["--header", header]).collect();
    tus.extend(["--header", stream]);
    let mut answers = Vec::new();
    for (method, path) in ROUTES {
        let id = if path.starts_with("/v1/uploads") { third } else { one.id() };
        let there = path.replace("{id}", &id.to_string());
        let there = there.replace("{hash}", &root.to_string()).replace("{name}", &key.to_string());
        let body = match path {
            "/v1/content/{hash}" => &page,
            "/v1/names/{name}" => &head,
            "/v1/documents/{id}" => &single,
            "/v1/batch" => &several,
            "/v1/uploads" | "/v1/uploads/{id}" => &nothing,
            _ => &ids,
        };
        let mut arguments: Vec<&str> = match method {
            "GET" => vec![],
            "HEAD" => vec!["--head"],
            _ => vec!["--request", method, "--data-binary", body],
        };
        let is_tus = path.starts_with("/v1/uploads");
        if (method, path) == ("PUT", "/v1/names/{name}") {
            arguments.extend(["--header", "If-None-Match: *"]);
        }
        if is_tus {
            arguments.extend(&tus);
        }
        let reply = server.curl(&there, &arguments);
        let expected = match method {
            "POST" if is_tus => 201,
            "OPTIONS" | "PATCH" | "DELETE" => 204,
            _ => 200,
        };
        assert_eq!(reply.status, expected, "{method} {path}: {}", String::from_utf8_lossy(&reply.body));
        check(&document, method, path, &reply);
        if is_tus {
            continue;
        }
        if reply.kind == "application/json" {
            answers.push((path, reply.json()));
        }
        let protobuf = [&arguments[..], &["--header", "Accept: application/x-protobuf"]].concat();
        let reply = server.curl(&there, &protobuf);
        check(&document, method, path, &reply);
    }
    let count = |path: &str, field: &str| {
        let of_path = answers.iter().filter(|(known, _)| *known == path);
        of_path.map(|(_, answer)| answer[field].as_array().unwrap().len()).collect::<Vec<_>>()
    };
    // Schemas of lists are only checked where the lists have something in them.
    assert_eq!((count("/v1/batch", "confirmations"), count("/v1/batch", "failures")), (vec![1], vec![1]));
    assert_eq!(
        (count("/v1/have", "held"), count("/v1/confirmations", "confirmations")),
        (vec![2], vec![2, 2])
    );
}

#[test]
fn numbers_of_the_protobuf_are_those_of_the_code() {
    let failure = &document()["components"]["schemas"]["Failure"];
    let words = failure["description"].as_str().unwrap();
    for code in
        [FailureCode::Malformed, FailureCode::WrongDestination, FailureCode::Server, FailureCode::Full]
    {
        let name = serde_json::to_value(code).unwrap();
        assert!(failure["properties"]["code"]["enum"].as_array().unwrap().contains(&name), "{name}");
        let described = format!("{} {}", name.as_str().unwrap(), code.code());
        assert!(words.contains(&described), "{described}");
    }
    let number = |message: Vec<u8>| message[0] >> 3;
    let none = Failure::default();
    for (name, only) in [
        ("uint32 index", Failure { index: 1, ..none.clone() }),
        ("bytes id", Failure { id: vec![1].into(), ..none.clone() }),
        ("uint32 code", Failure { code: 1, ..none.clone() }),
        ("string detail", Failure { detail: "1".into(), ..none.clone() }),
    ] {
        let described = format!("{name} = {}", number(only.encode_to_vec()));
        assert!(words.contains(&described), "{described}");
    }
    let answer = document()["components"]["responses"]["Answer"]["description"].as_str().unwrap().to_owned();
    let none = Answer::default();
    for (name, only) in [
        (
            "repeated Confirmation confirmations",
            Answer { confirmations: vec![Default::default()], ..none.clone() },
        ),
        ("repeated Failure failures", Answer { failures: vec![Failure::default()], ..none.clone() }),
        ("bytes held", Answer { held: vec![1].into(), ..none.clone() }),
        ("uint64 cursor", Answer { cursor: 1, ..none.clone() }),
    ] {
        let described = format!("{name} = {}", number(only.encode_to_vec()));
        assert!(answer.contains(&described), "{described}");
    }
}

/// Status, media type and, where it is JSON, the shape of a reply are those that are described.
#[track_caller]
fn check(document: &Value, method: &str, path: &str, reply: &Reply) {
    let responses = &document["paths"][path][method.to_lowercase()]["responses"];
    let response = resolved(&responses[reply.status.to_string()], document);
    assert!(response["description"].is_string(), "{method} {path}: {}", reply.status);
    if method == "HEAD" || reply.status == 204 || reply.status == 201 {
        assert!(response["content"].is_null(), "{method} {path}");
        return;
    }
    let content = &response["content"][reply.kind.as_str()];
    assert!(content.is_object(), "{method} {path}: {} as {}", reply.status, reply.kind);
    if reply.kind.ends_with("json") {
        let fits = fits(&reply.json(), &content["schema"], document);
        fits.unwrap_or_else(|why| panic!("{method} {path}, {}: {why}", reply.status));
    }
}

fn resolved<'a>(value: &'a Value, document: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(path) => document.pointer(path.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

/// The part of JSON Schema that the description uses; what it does not name must not be there.
fn fits(value: &Value, schema: &Value, document: &Value) -> Result<(), String> {
    let schema = resolved(schema, document);
    let of_type = |name: &Value| match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => panic!("type {name} is not known to this test"),
    };
    let is_one = match &schema["type"] {
        Value::Array(names) => names.iter().any(of_type),
        Value::Null => schema["enum"].as_array().is_some_and(|all| all.contains(value)),
        name => of_type(name),
    };
    if !is_one {
        return Err(format!("{value} is not of {schema}"));
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(key) {
            Some(schema) => fits(inner, schema, document).map_err(|why| format!("{key}: {why}"))?,
            None => return Err(format!("{key} is not described")),
        }
    }
    let required = schema["required"].as_array().into_iter().flatten();
    if let Some(missing) = required.filter_map(Value::as_str).find(|key| value.get(key).is_none()) {
        return Err(format!("{missing} is missing"));
    }
    value.as_array().into_iter().flatten().try_for_each(|item| fits(item, &schema["items"], document))
}

#[test]
fn a_stalled_question_is_described_with_its_status() {
    for (path, methods) in document()["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let has_body = operation.get("requestBody").is_some();
            assert_eq!(operation["responses"].get("408").is_some(), has_body, "{method} {path}");
        }
    }
}

#[test]
fn references_in_the_description_lead_somewhere() {
    fn check(value: &Value, document: &Value) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| match (key.as_str(), value) {
                ("$ref", Value::String(path)) => {
                    let pointer = path.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{path}");
                }
                _ => check(value, document),
            }),
            Value::Array(list) => list.iter().for_each(|value| check(value, document)),
            _ => {}
        }
    }
    let document = document();
    check(&document, &document);
}
