//! `gateway.toml`, `gateway.schema.json` and `waypost.toml` say what the code does, key by key, both ways.
//!
//! `UPDATE_CONFIG_FILES=1 cargo test -p waypost-config --test files_are_true` writes all anew; run it again after that.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use waypost_config::boot::boot_example;
use waypost_config::{Config, Source, annotated, parse, schema};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn committed(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

fn is_current(name: &str, current: &str) {
    if std::env::var_os("UPDATE_CONFIG_FILES").is_some() {
        // In one step, since other tests are reading it.
        let new = file(&format!("{name}.new"));
        std::fs::write(&new, current).unwrap();
        std::fs::rename(new, file(name)).unwrap();
    }
    let is_current = committed(name) == current;
    assert!(is_current, "config/{name} is out of date; run this test with UPDATE_CONFIG_FILES=1");
}

/// A key as `gateway.toml` documents it.
struct Documented {
    comment: String,
    line: String,
}

/// Reads the file as a person does: headers, comments, and keys behind a `#`, by their dotted names.
fn documented() -> BTreeMap<String, Documented> {
    let text = committed("gateway.toml");
    let (mut keys, mut section, mut comment) = (BTreeMap::new(), String::new(), String::new());
    for line in text.lines() {
        let bare = line.strip_prefix('#').unwrap_or(line);
        if bare.is_empty() {
            comment.clear();
        } else if bare.starts_with('[') {
            section = bare.trim_matches(['[', ']']).to_owned();
            comment.clear();
        } else if let Some(text) = line.strip_prefix("# ") {
            comment.push_str(text);
            comment.push(' ');
        } else {
            let name = bare.split(" = ").next().unwrap();
            let key = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            let entry = Documented { comment: std::mem::take(&mut comment), line: bare.to_owned() };
            assert!(keys.insert(key, entry).is_none(), "documented twice: {line}");
        }
    }
    keys
}

/// Every key of the schema, by its dotted name, with its own schema.
fn schema_keys() -> BTreeMap<String, Value> {
    let schema = schema();
    let resolve = |property: &Value| -> Option<Value> {
        let target = property.get("$ref").or_else(|| property.pointer("/items/$ref"))?;
        schema.pointer(target.as_str()?.strip_prefix('#')?).cloned()
    };
    let mut keys = BTreeMap::new();
    for (name, property) in schema["properties"].as_object().unwrap() {
        let table = resolve(property).filter(|target| target.get("properties").is_some());
        match table {
            Some(table) => keys.extend(
                table["properties"]
                    .as_object()
                    .unwrap()
                    .iter()
                    .map(|(key, value)| (format!("{name}.{key}"), value.clone())),
            ),
            None => _ = keys.insert(name.clone(), property.clone()),
        }
    }
    keys
}

fn at<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(value, |value, part| value.get(part))
}

#[test]
fn the_committed_files_are_current() {
    is_current("gateway.toml", &annotated());
    is_current("gateway.schema.json", &format!("{:#}\n", schema()));
    is_current("waypost.toml", &boot_example());
}

#[test]
fn the_file_documents_exactly_the_keys_that_exist() {
    let documented: BTreeSet<_> = documented().into_keys().collect();
    let existing: BTreeSet<_> = schema_keys().into_keys().collect();
    assert_eq!(documented, existing);
    assert!(existing.len() >= 39, "found only {existing:?}");
}

#[test]
fn every_documented_default_is_the_codes_default() {
    let defaults = serde_json::to_value(Config::default()).unwrap();
    for (key, entry) in documented() {
        let table: toml::Table = entry.line.parse().unwrap();
        let (_, written) = table.into_iter().next().unwrap();
        let is_absent = ["Absent by default.", "Needed."].iter().any(|words| entry.comment.contains(words));
        match at(&defaults, &key) {
            Some(Value::Null) | None => {
                // The keys of a table of a list have no place among the defaults.
                let has_default =
                    ["destination.keep", "backhaul.cost", "backhaul.windows"].contains(&key.as_str());
                assert!(is_absent != has_default, "{key} is absent by default, the file has to say so");
            }
            Some(default) => {
                assert!(!is_absent, "{key} has a default");
                assert_eq!(&serde_json::to_value(written).unwrap(), default, "{key}");
            }
        }
    }
}

#[test]
fn every_key_says_what_it_is_and_when_a_change_takes_effect() {
    let schema = schema_keys();
    for (key, entry) in documented() {
        assert!(entry.comment.len() > 60, "{key} is hardly documented: {}", entry.comment);
        let effect = schema[&key]["x-takes-effect"].as_str();
        let on_reload = entry.comment.contains("Takes effect on SIGHUP.");
        let on_restart = entry.comment.contains("Takes effect after a restart.");
        assert_eq!((on_reload, on_restart), (effect == Some("reload"), effect == Some("restart")), "{key}");
        assert!(on_reload != on_restart, "{key}");
    }
}

#[test]
fn the_file_as_it_is_changes_nothing() {
    let text = committed("gateway.toml");
    let loaded = parse(&[Source::new("gateway.toml", text)]);
    assert_eq!(loaded.config, Config::default());
    let keys: Vec<_> = loaded.problems.iter().filter_map(|problem| problem.key.as_deref()).collect();
    assert_eq!(keys, ["store.key_file", "destination"], "{:?}", loaded.problems);
}

#[test]
fn every_line_may_be_used_as_it_stands() {
    let mut text = String::new();
    for line in committed("gateway.toml").lines() {
        let bare = line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' '));
        // These two and the token exclude each other.
        if !line.starts_with("#client_") {
            text.push_str(bare.unwrap_or(line));
        }
        text.push('\n');
    }
    let loaded = parse(&[Source::new("/etc/waypost/gateway.toml", text)]);
    let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    assert!(problems.iter().all(|problem| problem.contains("store.quota")), "{problems:#?}");
    assert_eq!((loaded.config.destination.len(), loaded.config.backhaul.len()), (1, 1));
    let without_examples = Config {
        destination: Vec::new(),
        backhaul: Vec::new(),
        remote_log: waypost_config::RemoteLog { collections: None, ..loaded.config.remote_log },
        store: waypost_config::Store { quota: None, key_file: None, ..loaded.config.store },
        identity: waypost_config::Identity { key_file: None },
        ..loaded.config
    };
    assert_eq!(without_examples, Config::default());
}

#[test]
fn the_guide_lists_exactly_the_keys_that_sighup_reloads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gateway.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let (_, list) = guide.split_once("These keys take effect on SIGHUP").unwrap();
    let list = list.split("\n## ").next().unwrap();
    let listed: BTreeSet<String> = list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let reloaded: BTreeSet<String> = documented()
        .into_iter()
        .filter(|(_, text)| text.comment.contains("on SIGHUP"))
        .map(|(key, _)| key)
        .collect();
    assert_eq!(listed, reloaded);
}
