//! For the one who is called at night: notices, the bundle for support, and the store of a card whose kiosk has died.

use std::fs;
use std::path::Path;
use std::process::Command;

use waypost_tests::scenario::{Gateway, Site, content, program, wait_until};

#[test]
fn documents_that_wait_too_long_are_a_notice_in_the_log_and_in_status_until_they_are_delivered() {
    let mut site = Site::configured(
        "[notices]\nwaiting = \"3s\"\n[upload]\nprobe_interval = \"1s\"\nmax_backoff = \"1s\"\n",
    );
    site.destination.stop();
    let phone = site.paired_phone("amina");
    phone.add(&[("form", b"a form")]);
    phone.sync();
    assert_eq!(waiting_notices(&site.gateway), Vec::<String>::new(), "they may wait for a while");
    let told = "documents for test have waited for less than an hour: bring a backhaul, or a USB stick";
    wait_until("status says so", || (waiting_notices(&site.gateway) == [told]).then_some(()));
    // The log is written to now and then, and soon after the start.
    site.gateway.stop();
    site.gateway.start();
    let log = || fs::read_to_string(site.gateway.log()).unwrap();
    wait_until("the log says so", || log().contains("notice: documents for test have waited").then_some(()));
    site.destination.start();
    wait_until("it is over", || waiting_notices(&site.gateway).is_empty().then_some(()));
    let status = site.gateway.status();
    assert!(status["last_upload"].as_u64().unwrap() > 1_700_000_000, "{status}");
    assert_eq!(status["clock_trusted"], true);
}

#[test]
fn documents_for_a_destination_that_is_taken_out_of_the_configuration_are_a_notice() {
    let mut site = Site::start();
    site.destination.stop();
    let phone = site.paired_phone("amina");
    phone.add(&[("form", b"a form")]);
    phone.sync();
    let not_served = |gateway: &Gateway| {
        let status = gateway.status();
        let notices = status["notices"].as_array().unwrap().clone();
        notices.into_iter().find(|notice| notice["about"] == "not-served")
    };
    assert_eq!(not_served(&site.gateway), None);
    let drop_in = site.gateway.folder().join("gateway.d/20-destination.toml");
    let configured = fs::read_to_string(&drop_in).unwrap();
    fs::remove_file(&drop_in).unwrap();
    site.gateway.run(&["reload"]);
    let notice = wait_until("status says so", || not_served(&site.gateway));
    let fingerprint = site.destination.fingerprint();
    assert_eq!(notice["which"], fingerprint);
    let text = notice["text"].as_str().unwrap();
    assert!(
        text.starts_with(&format!("documents wait for destination {fingerprint}, which is not")),
        "{text}"
    );
    fs::write(&drop_in, configured).unwrap();
    site.gateway.run(&["reload"]);
    wait_until("it is over", || not_served(&site.gateway).is_none().then_some(()));
}

#[test]
fn a_destination_whose_certificate_ends_soon_is_a_notice_until_it_is_renewed() {
    let mut site = Site::configured("[upload]\nprobe_interval = \"1s\"\nmax_backoff = \"1s\"\n");
    let phone = site.paired_phone("amina");
    let about_certificates = |gateway: &Gateway| -> Vec<String> {
        let status = gateway.status();
        let notices = status["notices"].as_array().unwrap();
        let told = notices.iter().filter(|notice| notice["about"] == "certificate");
        told.map(|notice| notice["text"].as_str().unwrap().to_owned()).collect()
    };
    let mut renew = |lasts: &str, number: u32| {
        site.destination.stop();
        // OpenPGP counts in seconds.
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        site.destination.run(&["key", "renew", "--for", lasts]);
        site.destination.start();
        phone.add(&[(&format!("form-{number}"), b"a form")]);
        phone.sync();
        wait_until("the verdict", || (site.gateway.status()["opened"] == number).then_some(()));
    };
    renew("20d", 1);
    let told = wait_until("it is told", || about_certificates(&site.gateway).pop());
    assert!(told.starts_with("the OpenPGP certificate of test ends in "), "{told}");
    renew("2y", 2);
    wait_until("it is over", || about_certificates(&site.gateway).is_empty().then_some(()));
}

#[test]
fn a_clock_in_1970_is_a_notice() {
    let mut site = Site::start();
    site.gateway.stop();
    site.gateway.set_clock(Some("1970-01-01 00:00:00"));
    site.gateway.start();
    let status = site.gateway.status();
    assert_eq!(status["clock_trusted"], false);
    let text = status["notices"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("the clock says 1970-01-01, and it is 20"), "{text}");
}

#[test]
fn the_bundle_for_support_has_what_helps_and_neither_phones_nor_secrets() {
    let site = Site::configured("log.level = \"debug\"\n");
    let phone = site.paired_phone("amina");
    phone.add(&[("form", b"a form")]);
    phone.sync();
    let peer = site.gateway.run(&["peers", "list"]).last()["key"].as_str().unwrap().to_owned();
    // What must not be there is put where the bundle looks, in a form that nothing but the key itself tells.
    let mut keys = Vec::new();
    for name in ["store.key", "identity.key"] {
        let key = fs::read(site.gateway.folder().join(name)).unwrap();
        keys.push(key.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        keys.extend(String::from_utf8(key).map(|text| text.trim().to_owned()));
    }
    let config = site.gateway.folder().join("gateway.toml");
    let leaks: String = keys.iter().map(|key| format!("x{key} = \"leaked\"\n")).collect();
    fs::write(&config, leaks + &fs::read_to_string(&config).unwrap()).unwrap();
    let out = site.folder().join("bundle");
    fs::create_dir(&out).unwrap();
    let report = site.gateway.run(&["support", out.to_str().unwrap()]);
    let file = report.last()["file"].as_str().unwrap().to_owned();
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = unpacked(Path::new(&file), &out);
    for there in ["\"waiting\"", "Test", "url = \"https://127.0.0.1", "Linux"] {
        assert!(text.contains(there), "{there} is not in the bundle");
    }
    let token = site.destination.token();
    assert!(text.matches("= \"leaked\"").count() >= keys.len(), "the keys were not looked for: {text}");
    for gone in [peer.as_str(), token, "amina"].into_iter().chain(keys.iter().map(String::as_str)) {
        assert!(!text.contains(gone), "{gone} is in the bundle");
    }

    // The journal is one of the bundle's parts where the gateway is a service.
    assert!(!fs::read_to_string(site.gateway.log()).unwrap().contains("amina"));

    // Also where nothing runs; and never over what is there.
    let second = out.join("second");
    let again = || site.gateway.command(&["support", second.to_str().unwrap()]).output().unwrap();
    assert!(again().status.success());
    let refused = again();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("is there already"), "{refused:?}");
}

#[test]
fn the_store_of_a_dead_kiosks_card_is_read_and_exported_without_writing_to_it() {
    let mut site = Site::start();
    site.destination.stop();
    let phone = site.paired_phone("amina");
    let (form, photo) = (content(1, 1_000), content(2, 300_000));
    phone.add(&[("form", &form), ("photo", &photo)]);
    phone.sync();
    site.gateway.kill9();

    let card = site.gateway.folder().to_owned();
    let before = hashes(&card);
    let store = card.join("store");
    let look = |arguments: &[&str]| {
        let mut command = Command::new(program("waypost"));
        command.arg("--json").arg("--store").arg(&store).args(arguments).env("TMPDIR", site.folder());
        let ran = command.output().unwrap();
        let text = String::from_utf8(ran.stdout).unwrap();
        assert!(ran.status.success(), "{text}{}", String::from_utf8_lossy(&ran.stderr));
        text
    };
    assert_eq!(look(&["documents", "list"]).lines().count(), 2);
    look(&["store", "check"]);
    let stick = site.folder().join("stick");
    fs::create_dir(&stick).unwrap();
    look(&["export", stick.to_str().unwrap()]);
    assert_eq!(hashes(&card), before, "nothing is written to the card");

    site.destination.start();
    site.destination.run(&["import", stick.to_str().unwrap()]);
    let mut found: Vec<Vec<u8>> = site.destination.inbox().into_values().collect();
    found.sort_by_key(Vec::len);
    assert_eq!(found, [form, photo]);

    for refused in [&["run"][..], &["documents", "delete", "0000"], &["export", "--identity", "/tmp"]] {
        let mut command = Command::new(program("waypost"));
        let ran = command.arg("--store").arg(&store).args(refused).output().unwrap();
        assert!(String::from_utf8_lossy(&ran.stderr).contains("--store is for"), "{refused:?}");
    }
}

/// Everything in the bundle, one file after the other.
fn unpacked(file: &Path, to: &Path) -> String {
    let ran = Command::new("tar").arg("-xzf").arg(file).arg("-C").arg(to).status().unwrap();
    assert!(ran.success());
    let folder =
        fs::read_dir(to).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Every file below a folder, with its content.
fn hashes(folder: &Path) -> Vec<(String, String)> {
    let ran = Command::new("sh")
        .args(["-c", "find . -type f -print0 | sort -z | xargs -0 sha256sum"])
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(hash, name)| (name.into(), hash.into()))
        .collect()
}

fn waiting_notices(gateway: &Gateway) -> Vec<String> {
    let status = gateway.status();
    let notices = status["notices"].as_array().unwrap().iter();
    let waiting = notices.filter(|notice| notice["about"] == "waiting");
    waiting.map(|notice| notice["text"].as_str().unwrap().to_owned()).collect()
}
