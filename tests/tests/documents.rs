//! What the documents say of the code is so: files that they name exist, each dependency is used and has its reason.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below a folder with one of these endings.
fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            files(&path, endings, found);
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
}

/// The keys of a table of a manifest; those of its dev-dependencies, too, where that is asked for.
fn keys(manifest: &str, table: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut keys = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == format!("[{table}]");
        } else if inside && let Some((key, _)) = line.split_once('=') {
            keys.insert(key.trim().trim_end_matches(".workspace").to_owned());
        }
    }
    keys
}

/// docs/security.md promises nothing that no test shows.
#[test]
fn tests_that_the_security_document_names_exist() {
    let mut sources = Vec::new();
    files(&root(), &[".rs"], &mut sources);
    let code: String = sources.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let document = read("docs/security.md");
    let mut named = 0;
    for line in document.lines() {
        let is_row = line.starts_with('|');
        for name in line.split('`').skip(1).step_by(2) {
            // In other lines there are also names of other things, which are shorter.
            let is_test =
                name.matches('_').count() > if is_row { 0 } else { 3 } && !name.contains(['.', '/']);
            if is_test {
                named += 1;
                let is_there = code.match_indices(&format!("fn {name}(")).any(|(at, _)| {
                    code[..at].trim_end().trim_end_matches("async").trim_end().ends_with("test]")
                });
                assert!(is_there, "there is no test {name}");
            } else if is_row && name.contains('-') {
                named += 1;
                assert!(
                    root().join(format!("tests/radio-lab/scenarios/{name}.py")).exists(),
                    "there is no scenario {name}"
                );
            }
        }
    }
    assert!(named > 20, "{named}");
}

#[test]
fn files_that_the_documents_name_exist() {
    let mut documents = Vec::new();
    files(&root(), &[".md"], &mut documents);
    assert!(documents.len() >= 6, "{documents:?}");
    let mut named = 0;
    for document in documents.iter().filter(|path| !path.ends_with("THIRD-PARTY.md")) {
        let text = std::fs::read_to_string(document).unwrap();
        // Every second piece between backticks is code.
        for code in text.split('`').skip(1).step_by(2) {
            let is_path =
                code.contains('/') && !code.contains(|c: char| c.is_whitespace() || "*<>$:|".contains(c));
            let ours = code.split('/').next().is_some_and(|first| root().join(first).is_dir());
            if !is_path || !ours || code.starts_with("target/") || code.starts_with('/') {
                continue;
            }
            named += 1;
            assert!(root().join(code).exists(), "{}: `{code}` does not exist", document.display());
        }
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                named += 1;
                let path = document.parent().unwrap().join(target);
                assert!(path.exists(), "{}: the link {link} leads nowhere", document.display());
            }
        }
    }
    assert!(named > 40, "only {named} names were found");
}

#[test]
fn each_dependency_is_used_and_has_its_line_of_reason() {
    let workspace = keys(&read("Cargo.toml"), "workspace.dependencies");
    let foreign: BTreeSet<String> =
        workspace.iter().filter(|key| !key.starts_with("waypost-")).cloned().collect();
    let architecture = read("ARCHITECTURE.md");
    let table = architecture.split("## Dependencies").nth(1).unwrap().split("\n## ").next().unwrap();
    let reasons: BTreeSet<String> = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|cell| cell.split([',', ' ']))
        .filter(|word| foreign.contains(*word))
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = foreign.difference(&reasons).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md gives no reason for {missing:?}");

    let mut manifests = Vec::new();
    files(&root(), &["Cargo.toml"], &mut manifests);
    let mut declared = BTreeSet::new();
    for manifest in manifests.iter().filter(|path| path.parent() != Some(&root())) {
        let folder = manifest.parent().unwrap();
        let mut sources = Vec::new();
        for part in
            ["src", "tests", "benches"].map(|part| folder.join(part)).iter().filter(|part| part.is_dir())
        {
            files(part, &[".rs"], &mut sources);
        }
        let code: String = sources.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        let text = std::fs::read_to_string(manifest).unwrap();
        for key in keys(&text, "dependencies").into_iter().chain(keys(&text, "dev-dependencies")) {
            let name = key.replace('-', "_");
            let uses = ["::", " as ", ";"].iter().any(|after| code.contains(&format!("{name}{after}")));
            assert!(uses, "{}: {key} is not used", manifest.display());
            declared.insert(key);
        }
    }
    let idle: Vec<_> = workspace.difference(&declared).collect();
    assert!(idle.is_empty(), "Cargo.toml: no crate depends on {idle:?}");
}

#[test]
fn the_only_unsafe_code_of_the_programs_opens_the_store() {
    let mut sources = Vec::new();
    for folder in ["protocol", "transports", "gateway", "config", "phone", "destination", "images"] {
        files(&root().join(folder), &[".rs"], &mut sources);
    }
    let is_product = |path: &&PathBuf| path.components().any(|part| part.as_os_str() == "src");
    let mut found = Vec::new();
    for path in sources.iter().filter(is_product) {
        let text = std::fs::read_to_string(path).unwrap();
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = code.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        let begins = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait", "[unsafe("];
        let unsafe_ones = lines.filter(|line| begins.iter().any(|begin| line.contains(begin)));
        found
            .extend(unsafe_ones.map(|line| (path.strip_prefix(root()).unwrap().to_owned(), line.to_owned())));
    }
    assert_eq!(found, [("gateway/store/src/tables.rs".into(), "unsafe { options.open(folder) }".into())]);
}

/// By the log policy, `error` is what needs the admin: each such line is where admins look it up.
#[test]
fn each_error_of_the_log_is_in_the_admins_document() {
    let mut sources = Vec::new();
    for folder in ["gateway", "transports", "images/kiosk"] {
        files(&root().join(folder), &["rs"], &mut sources);
    }
    let document = read("docs/admin.md");
    let mut found = 0;
    for source in sources.iter().filter(|path| !path.components().any(|part| part.as_os_str() == "tests")) {
        let text = std::fs::read_to_string(source).unwrap();
        for (at, name) in text.match_indices("error!(") {
            if text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
                continue;
            }
            let message = message(&text[at + name.len()..]);
            let fixed = message.split(['{', '}']).map(|part| part.trim_matches([' ', ':', '(', ')', ';']));
            let Some(longest) = fixed.max_by_key(|part| part.len()).filter(|part| part.len() > 8) else {
                continue;
            };
            assert!(
                document.contains(longest),
                "docs/admin.md does not say what to do about {longest:?} ({})",
                source.display()
            );
            found += 1;
        }
    }
    assert!(found > 30, "only {found} lines were found");
}

#[test]
fn each_notice_is_in_the_admins_document() {
    let source = read("gateway/src/notices.rs");
    let (_, facts) = source.split_once("fn notices(&self)").unwrap();
    let (facts, _) = facts.split_once("\nfn percent_taken").unwrap();
    let document = read("docs/admin.md");
    let mut found = 0;
    for (at, name) in facts.match_indices("format!(") {
        let message = message(&facts[at + name.len()..]);
        let mut fixed = message.split(['{', '}']).map(|part| part.trim_matches([' ', ':', ',']));
        let Some(first) = fixed.find(|part| part.len() > 10) else { continue };
        assert!(document.contains(first), "docs/admin.md does not say what to do about {first:?}");
        found += 1;
    }
    assert!(found >= 9, "only {found} notices were found");
}

#[test]
fn each_key_of_the_file_on_the_card_is_in_its_document() {
    let example = read("config/waypost.toml");
    let document = read("docs/kiosk-file.md");
    // The gateway's own are in config/gateway.toml.
    let (example, _) = example.split_once("#[gateway").unwrap();
    let keys = example.lines().filter_map(|line| line.strip_prefix('#')?.split_once(" = "));
    let keys: BTreeSet<_> = keys.map(|(key, _)| key).filter(|key| !key.contains(' ')).collect();
    assert!(keys.len() > 25, "{keys:?}");
    for key in keys {
        assert!(document.contains(&format!("`{key}`")), "docs/kiosk-file.md has nothing about `{key}`");
    }
}

/// The message of a log line, from what follows its bracket: the first text, after the fields where there are any, which end
/// with a semicolon.
fn message(call: &str) -> String {
    let (mut fields, mut texts, mut inside, mut depth) = (0, Vec::new(), false, 0);
    let mut chars = call.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' if inside => inside = false,
            '"' => {
                inside = true;
                texts.push(String::new());
            }
            '\\' if inside => _ = chars.next(),
            c if inside => texts.last_mut().unwrap().push(c),
            ';' => fields = texts.len(),
            '(' => depth += 1,
            ')' if depth == 0 => break,
            ')' => depth -= 1,
            _ => {}
        }
    }
    texts.into_iter().nth(fields).unwrap_or_default()
}
