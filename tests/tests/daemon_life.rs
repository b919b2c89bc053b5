//! The gateway's life: it starts, says how it is and what is wrong, stops in order, and keeps everything.

use std::time::Duration;

use serde_json::{Value, json};
use waypost_protocol::envelope::Header;
use waypost_protocol::refusal::Goodbye;
use waypost_tests::process::{Process, ProcessError};
use waypost_tests::rogue::{RawSession, Told, document, hello, identity, introduced_to};
use waypost_tests::scenario::{PATIENCE, Site, program, run, wait_until};

fn trouble(site: &Site) -> Option<String> {
    site.gateway.status()["destinations"][0]["trouble"].as_str().map(str::to_owned)
}

#[test]
fn told_to_stop_it_tells_phones_and_keeps_everything_for_the_next_start() {
    let mut site = Site::start();
    site.destination.backhaul.refuse(true);
    let served = Header::to(site.destination.fingerprint().parse().unwrap());
    let (address, code) = (site.gateway.link.address(), introduced_to(&site.gateway));
    let mut phone = RawSession::open(address, &code, &identity(1), &hello("raw", &[])).unwrap();
    for seed in 0..10 {
        assert_eq!(phone.deposit(&document(&served, seed, 1_000)), Told::Ack);
    }
    // How often they were tried is counted meanwhile.
    let documents = |site: &Site| {
        let mut documents = site.gateway.documents();
        documents.iter_mut().for_each(|document| document["attempts"] = Value::Null);
        documents
    };
    let (before, kept) = (site.gateway.status(), documents(&site));
    site.gateway.process().signal(nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(phone.goodbye().unwrap(), Goodbye::Stopping);
    assert!(site.gateway.process().wait(Duration::from_secs(15)).unwrap().success());
    assert!(!site.gateway.folder().join("control.sock").exists());

    site.gateway.start();
    let after = site.gateway.status();
    assert_eq!((&after["key"], &after["store"]), (&before["key"], &before["store"]));
    assert_eq!((&after["waiting"], documents(&site)), (&10.into(), kept));
    assert!(site.gateway.findings().is_empty());
    site.destination.backhaul.refuse(false);
    wait_until("their verdicts", || (site.gateway.status()["waiting"] == 0).then_some(()));
}

#[test]
fn status_says_how_it_is() {
    let site = Site::start();
    let phone = site.paired_phone("anna");
    phone.add(&[("form.xml", b"<form/>")]);
    phone.run(&["sync", "--wait", "30s"]);
    let status = site.gateway.run(&["status"]).last().clone();
    let hex = |key: &str, digits: usize| {
        let text = status[key].as_str().unwrap();
        assert!(text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}: {text}");
    };
    hex("key", 64);
    hex("store", 32);
    assert_eq!(status["name"], "Test kiosk");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let numbers = ["running", "sessions", "contacts", "link_bytes", "partials", "used", "room"];
    assert!(numbers.iter().all(|key| status[key].is_u64()), "{status}");
    assert!(status["link_bytes"].as_u64() > Some(100) && status["used"].as_u64() > Some(0), "{status}");
    let counts = ["waiting", "opened", "held", "rejected"].map(|key| status[key].as_u64().unwrap());
    assert_eq!(counts, [0, 1, 0, 0]);
    let destination = &status["destinations"][0];
    assert_eq!(destination["name"], "test");
    assert_eq!(destination["fingerprint"], site.destination.fingerprint());
    assert_eq!((&destination["state"], &destination["trouble"]), (&"ok".into(), &Value::Null));
    assert_eq!((&destination["uploaded"], &destination["confirmed"]), (&1.into(), &1.into()));
    assert_eq!(destination["set_aside"], json!({}));

    let mut people = std::process::Command::new(program("waypost"));
    people.arg("--config").arg(site.gateway.folder().join("gateway.toml")).arg("status");
    let said = String::from_utf8(people.output().unwrap().stdout).unwrap();
    for words in ["Test kiosk", "0 waiting, 1 opened", "test: ok"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_token_that_the_destination_does_not_know_is_seen_before_anything_waits() {
    let mut site = Site::start();
    let state = |site: &Site| site.gateway.status()["destinations"][0]["state"].clone();
    wait_until("it is reached", || (state(&site) == "ok").then_some(()));
    site.destination.run(&["gateways", "revoke", "kiosk"]);
    site.gateway.kill9();
    site.gateway.start();
    // Before the networks are known, and before it is tried.
    let is_early = |state: &Value| state == "no network" || state == "link up";
    let after = wait_until("it is tried", || Some(state(&site)).filter(|state| !is_early(state)));
    assert_eq!(after, "not authorised");
}

#[test]
fn a_destination_that_cannot_be_used_is_shown_with_the_next_thing_to_do() {
    let mut site = Site::start();
    let phone = site.paired_phone("anna");
    site.destination.stop();
    // Nobody listens there.
    site.gateway.reach(([127, 0, 0, 1], 9).into());
    site.gateway.run(&["reload"]);
    phone.add(&[("form.xml", b"<form/>")]);
    phone.sync();
    let why = wait_until("the trouble", || trouble(&site));
    assert!(
        why.contains("cannot connect to 127.0.0.1:9") && why.contains("check that the server runs"),
        "{why}"
    );
    let state = site.gateway.status()["destinations"][0]["state"].clone();
    assert!(state.as_str().unwrap().starts_with("unreachable"), "{state}");

    // It takes back the token.
    site.destination.run(&["gateways", "revoke", "kiosk"]);
    site.destination.start();
    site.gateway.reach(site.destination.backhaul.address());
    site.gateway.run(&["reload"]);
    let why = wait_until("the other trouble", || trouble(&site).filter(|why| why.contains("credentials")));
    assert!(why.contains("waypost-destination gateways add"), "{why}");
    assert_eq!(site.gateway.status()["destinations"][0]["state"], "not authorised");
    let added = site.destination.run(&["gateways", "add", "again"]);
    std::fs::write(site.gateway.folder().join("token"), added.last()["token"].as_str().unwrap()).unwrap();
    // The file has another token now; its name is the same.
    site.gateway.run(&["reload"]);
    wait_until("the verdict", || (site.gateway.status()["opened"] == 1).then_some(()));
}

#[test]
fn a_destination_whose_certificate_comes_later_is_taken_up_by_a_reload() {
    let mut site = Site::start();
    let phone = site.paired_phone("anna");
    phone.add(&[("form.xml", b"<form/>")]);
    let certificate = site.gateway.folder().join("certificate.pgp");
    let aside = site.folder().join("aside.pgp");
    site.gateway.stop();
    std::fs::rename(&certificate, &aside).unwrap();
    site.gateway.start();
    let status = site.gateway.status();
    assert_eq!(status["destinations"], json!([]));
    let problem = status["problems"][0].as_str().unwrap();
    assert!(problem.contains("destination.test.certificate") && problem.contains("cannot read"), "{problem}");
    assert_eq!(phone.try_run(&["sync"]).last()["transferred"], 0);
    std::fs::rename(&aside, &certificate).unwrap();
    let reloaded = site.gateway.run(&["reload"]);
    assert_eq!(reloaded.last()["changed"], json!([]), "no key of the configuration");
    phone.run(&["sync", "--wait", "30s"]);
    assert_eq!(site.destination.inbox().len(), 1);
    assert_eq!(site.gateway.status()["problems"], json!([]));
}

#[test]
fn a_reload_leaves_uploads_alone_that_it_does_not_concern() {
    let site = Site::start();
    let phone = site.paired_phone("anna");
    phone.add(&[("form.xml", b"<form/>")]);
    phone.run(&["sync", "--wait", "30s"]);
    let uploaded = || site.gateway.status()["destinations"][0]["uploaded"].clone();
    assert_eq!(uploaded(), 1);
    let drop_in = site.gateway.folder().join("gateway.d/50-name.toml");
    std::fs::write(&drop_in, "name = \"Renamed\"\n").unwrap();
    site.gateway.run(&["reload"]);
    assert_eq!((site.gateway.status()["name"].clone(), uploaded()), ("Renamed".into(), 1.into()));
    std::fs::write(&drop_in, "[upload]\nconnect_timeout = \"7s\"\n").unwrap();
    site.gateway.run(&["reload"]);
    assert_eq!(uploaded(), 0, "it counts since its start");
}

#[test]
fn what_needs_a_restart_is_named_until_there_is_one() {
    let mut site = Site::start();
    let drop_in = site.gateway.folder().join("gateway.d/50-quota.toml");
    std::fs::write(&drop_in, "[store]\nquota = \"5GB\"\n[limits]\nsessions = 7\n").unwrap();
    let checked = site.gateway.run(&["check"]).last().clone();
    assert_eq!(
        (&checked["reload"], &checked["needs_restart"]),
        (&json!(["limits.sessions"]), &json!(["store.quota"]))
    );
    for _ in 0..2 {
        assert_eq!(site.gateway.run(&["reload"]).last()["needs_restart"], json!(["store.quota"]));
        let checked = site.gateway.run(&["check"]).last().clone();
        assert_eq!((&checked["reload"], &checked["needs_restart"]), (&json!([]), &json!(["store.quota"])));
    }
    site.gateway.stop();
    site.gateway.start();
    assert_eq!(site.gateway.run(&["check"]).last()["needs_restart"], json!([]));
}

#[test]
fn check_names_what_would_keep_it_from_starting() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut site = Site::start();
    site.gateway.stop();
    let key = site.gateway.folder().join("store.key");
    assert!(key.exists());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let checked = run(&mut site.gateway.command(&["check"]));
    assert_eq!(checked.status.code(), Some(1));
    let named = |checked: &Value| {
        let problems = checked["problems"].as_array().unwrap().clone();
        problems.into_iter().find(|one| one["severity"] == "error").unwrap()
    };
    let problem = named(checked.last());
    assert_eq!(problem["key"], "store.key_file");
    assert!(problem["message"].as_str().unwrap().contains("chmod 600"), "{problem}");
    std::fs::remove_file(&key).unwrap();
    let checked = run(&mut site.gateway.command(&["check"]));
    let problem = named(checked.last());
    assert!(problem["message"].as_str().unwrap().contains("restore it"), "{problem}");
}

#[test]
fn no_secret_is_in_the_most_talkative_log() {
    let mut site = Site::start();
    site.gateway.stop();
    let drop_in = site.gateway.folder().join("gateway.d/50-log.toml");
    std::fs::write(drop_in, "[log]\nlevel = \"trace\"\n").unwrap();
    site.gateway.start();
    let code = site.gateway.pairing_code();
    let phone = site.paired_phone("anna");
    phone.add(&[("form.xml", b"<form/>")]);
    phone.run(&["sync", "--wait", "30s"]);
    let log = std::fs::read_to_string(site.gateway.log()).unwrap();
    assert!(log.contains("frame received") && log.contains("uploaded"), "{log}");
    let read = |name: &str| std::fs::read_to_string(site.gateway.folder().join(name)).unwrap();
    let secret = code.split("&s=").nth(1).unwrap()[..22].to_owned();
    for text in [read("token"), read("identity.key"), read("store.key"), secret] {
        let text = text.trim();
        assert!(text.len() >= 22);
        for at in 0..text.len() - 8 {
            assert!(!log.contains(&text[at..at + 8]), "eight characters of a secret are in the log");
        }
    }
}

#[test]
fn only_one_gateway_runs_at_a_control_socket() {
    let site = Site::start();
    let log = site.folder().join("second.log");
    let mut second = Process::start(site.gateway.command(&["run"]), &log).unwrap();
    let status = second.wait(PATIENCE).unwrap();
    assert!(!status.success());
    assert!(second.output().contains("another gateway is running"), "{}", second.output());
    // The first one goes on.
    assert_eq!(site.gateway.status()["name"], "Test kiosk");
    let phone = site.paired_phone("anna");
    phone.add(&[("form.xml", b"<form/>")]);
    phone.run(&["sync", "--wait", "30s"]);
}

#[test]
fn check_names_each_mistake_with_its_place_and_the_nearest_key() {
    let site = Site::start();
    let checked = run(&mut site.gateway.command(&["check"]));
    assert_eq!((checked.status.code(), &checked.last()["ok"]), (Some(0), &true.into()), "{checked:#?}");

    let file = site.gateway.folder().join("gateway.d/90-mistakes.toml");
    let text = "[upload]\nprobe_intervall = \"1s\"\nmax_backoff = \"soon\"\n\n[limits]\nsessions = 0\n\n\
                [[destination]]\nname = \"gone\"\nurl = \"http://example.org\"\ncertificate = \"none.pgp\"\n";
    std::fs::write(&file, text).unwrap();
    let checked = run(&mut site.gateway.command(&["check"]));
    assert_eq!((checked.status.code(), &checked.last()["ok"]), (Some(1), &false.into()), "{checked:#?}");
    let problems = checked.last()["problems"].as_array().unwrap();
    let at = |line: u64, words: &str| {
        let found = problems.iter().find(|one| {
            one["origin"]["file"].as_str().is_some_and(|path| path.ends_with("90-mistakes.toml"))
                && one["origin"]["line"] == line
                && one.to_string().contains(words)
        });
        let problem = found.unwrap_or_else(|| panic!("nothing with {words:?} at line {line}: {problems:#?}"));
        assert!(problem["origin"]["column"].as_u64() > Some(0), "{problem}");
    };
    at(2, "probe_interval");
    at(3, "90s");
    at(6, "1");
    at(10, "https");
    let mut people = std::process::Command::new(program("waypost"));
    people.arg("--config").arg(site.gateway.folder().join("gateway.toml")).arg("check");
    let said = String::from_utf8(people.output().unwrap().stdout).unwrap();
    assert!(said.contains("90-mistakes.toml:2:") && said.contains("90-mistakes.toml:10:"), "{said}");
    // The running gateway is not disturbed by it, nor by reading it again.
    assert!(!run(&mut site.gateway.command(&["reload"])).status.success());
    assert_eq!(site.gateway.status()["destinations"].as_array().unwrap().len(), 1);
}

#[test]
fn commands_work_on_the_store_while_no_gateway_runs_and_say_where_one_is_needed() {
    let mut site = Site::start();
    site.destination.backhaul.refuse(true);
    let phone = site.paired_phone("anna");
    let id = phone.add(&[("form.xml", b"<form/>")]).remove(0);
    phone.sync();
    site.gateway.stop();
    let listed = site.gateway.run(&["documents", "list"]);
    assert_eq!((listed.said.len(), &listed.said[0]["id"]), (1, &id.clone().into()));
    assert_eq!(site.gateway.run(&["peers", "list"]).said[0]["label"], "anna");
    assert!(site.gateway.run(&["store", "check"]).status.success());
    for needs_one in [&["status"][..], &["pair"], &["reload"]] {
        let ran = run(&mut site.gateway.command(needs_one));
        let why = ran.last()["error"].as_str().unwrap();
        assert!(!ran.status.success() && why.contains("waypost run"), "{ran:#?}");
    }
    let ran = run(&mut site.gateway.command(&["documents", "show", "ffff"]));
    let why = ran.last()["error"].as_str().unwrap();
    assert!(!ran.status.success() && why.contains("waypost documents list"), "{ran:#?}");
    site.gateway.run(&["documents", "delete", &id[..8]]);
    assert!(site.gateway.run(&["documents", "list"]).said.is_empty());
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let site = Site::start();
    let start = |name: &str, text: &str| {
        let mut other = site.folder().join("gateway");
        other.set_file_name(name);
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join("gateway.toml"), text).unwrap();
        let mut command = std::process::Command::new(program("waypost"));
        command.arg("--config").arg(other.join("gateway.toml")).arg("run");
        let mut process = Process::start(command, other.join("log")).unwrap();
        match process.wait(PATIENCE) {
            Ok(status) => (status.code(), process.output()),
            Err(ProcessError::Late { output, .. }) => panic!("it runs: {output}"),
            Err(error) => panic!("{error}"),
        }
    };
    let (status, said) = start("broken", "[store\n");
    assert!(status == Some(1) && said.contains("gateway.toml:1:"), "{said}");
    let (status, said) =
        start("no-file", "[store]\npath = \"/proc/nowhere\"\n[identity]\nkey_file = \"key\"\n");
    assert!(status == Some(1) && said.contains("/proc/nowhere"), "{said}");
    std::fs::create_dir_all(site.folder().join("bad-key")).unwrap();
    std::fs::write(site.folder().join("bad-key/identity.key"), "not a key").unwrap();
    let text =
        "[store]\npath = \"store\"\n[identity]\nkey_file = \"identity.key\"\n[control]\nsocket = \"s\"\n";
    let (status, said) = start("bad-key", text);
    assert!(status == Some(1) && said.contains("chmod 600"), "{said}");
}
