//! `openapi.json` describes exactly the routes that the server has.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use serde_json::Value;
use support::Place;
use waypost_destination::api::ROUTES;

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
fn every_route_answers_as_described() {
    let (place, document) = (Place::new(), document());
    let server = place.run();
    for (method, path) in ROUTES {
        let there = path.replace("{id}", &"0".repeat(64));
        let arguments: &[&str] = match method {
            "GET" => &[],
            _ => &["--request", method, "--data-binary", "x"],
        };
        let reply = server.curl(&there, arguments);
        let responses = &document["paths"][path][method.to_lowercase()]["responses"];
        assert!(responses[reply.status.to_string()].is_object(), "{method} {path}: {}", reply.status);
        assert!(![404, 405].contains(&reply.status), "{method} {path}");
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
