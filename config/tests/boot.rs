//! What a boot file means for one kiosk, and what is said of mistakes in it.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use proptest::prelude::*;
use waypost_config::boot::{
    BootCredentials, BootLoaded, Kind, Material, Ports, Secret, boot_example, kiosk_id, read,
};
use waypost_config::{AccessMode, Severity, Source};

const MINE: &str = "10000000abcdef01";

fn load(text: &str) -> BootLoaded {
    read(&Source::new("/boot/firmware/waypost.toml", text), &|id| id == MINE)
}

/// Errors and worse, without the file's folder.
fn errors(loaded: &BootLoaded) -> Vec<String> {
    let worse = loaded.problems.iter().filter(|problem| problem.severity > Severity::Warning);
    worse.map(|problem| problem.to_string().replace("/boot/firmware/", "")).collect()
}

#[test]
fn every_kind_of_value_is_taken_over() {
    let loaded = load(
        r#"
        name = "Clinic Mbale"
        country = "ug"
        time_zone = "Africa/Kampala"
        access = "open"
        [[network]]
        wifi = "ClinicNet"
        password = "hunter22"
        hidden = true
        [[network]]
        ethernet = "eth1"
        address = "192.168.1.5/24"
        router = "192.168.1.1"
        dns = ["9.9.9.9"]
        [[network]]
        name = "stick"
        mobile = "internet"
        pin = 1234
        cost = "metered"
        day = "50MB"
        windows = ["22:00-06:00"]
        [[destination]]
        name = "ministry"
        url = "https://example.org/"
        certificate = "ministry.asc"
        token = "abc"
        [gateway.lan]
        advertise = false
        [gateway.access]
        code_lifetime = "30m"
        "#,
    );
    assert_eq!(errors(&loaded), [""; 0]);
    let file = loaded.file;
    assert_eq!(file.name.unwrap().as_str(), "Clinic Mbale");
    assert_eq!(file.country.unwrap().as_str(), "UG");
    assert_eq!(file.access, Some(AccessMode::Open));
    let names: Vec<_> = file.network.iter().map(|network| network.name.as_str()).collect();
    assert_eq!(names, ["ClinicNet", "eth1", "stick"]);
    assert!(
        matches!(&file.network[0].kind, Kind::Wifi { password: Some(Secret::Given(it)), hidden: true, .. } if it == "hunter22")
    );
    assert!(matches!(&file.network[1].kind, Kind::Ethernet(Ports::Named(port)) if port == "eth1"));
    assert!(
        matches!(&file.network[2].kind, Kind::Mobile { pin: Some(Secret::Given(pin)), .. } if pin == "1234")
    );
    assert!(
        matches!(&file.destination[0].certificate, Material::File(name) if name.as_str() == "ministry.asc")
    );
    assert!(matches!(&file.destination[0].credentials, BootCredentials::Token(_)));
    assert_eq!(file.gateway.0["lan"]["advertise"].as_bool(), Some(false));
    assert_eq!(file.gateway.0["access"]["code_lifetime"].as_str(), Some("30m"));
}

#[test]
fn a_wrong_entry_is_left_out_and_the_rest_holds() {
    let loaded = load(
        r#"name = "Clinic"
county = "UG"
time_zone = "/etc/passwd"
ssh_keys = ["hello"]
[[network]]
wifi = "A"
password = "short"
[[network]]
wifi = "B"
ethernet = true
[[network]]
ethernet = true
pin = "1234"
[[network]]
wifi = "Good"
[gateway]
name = "x"
backhaul = []
[gateway.lan]
advertise = "no"
addresses = ["kiosk:4180", "kiosk"]
[gateway.lam]
enabled = true
[kiosk.nobody]
name = "x"
"#,
    );
    let errors = errors(&loaded);
    for (error, expected) in [
        ("waypost.toml:2:1: error: unknown key `county`, did you mean `country`?", 0),
        ("waypost.toml:3:13: error: time_zone: expected a time zone such as", 1),
        ("waypost.toml:4:13: error: ssh_keys: expected a public key", 2),
        ("waypost.toml:5:1: error: network: this network is left out", 3),
        ("waypost.toml:7:1: error: network: expected 8 to 63 characters of ASCII", 4),
        ("waypost.toml:8:1: error: network: it is wifi and ethernet at once", 5),
        ("waypost.toml:13:1: error: network: `pin` belongs to mobile, this network is ethernet", 8),
    ] {
        assert!(errors[expected].starts_with(error), "{errors:#?}");
    }
    for (line, words) in [
        (17, "`name` has its place at the top"),
        (18, "[[network]]"),
        (20, "expected true or false"),
        (21, "gateway.lan.addresses"),
        (22, "did you mean `lan`?"),
        (24, "expected a Pi's serial number"),
    ] {
        let is_told = |error: &String| error.contains(&format!(".toml:{line}:")) && error.contains(words);
        assert!(errors.iter().any(is_told), "{line}: {words}: {errors:#?}");
    }
    assert!(!loaded.is_fatal());
    let names: Vec<_> = loaded.file.network.iter().map(|network| network.name.as_str()).collect();
    assert_eq!(names, ["Good"]);
    assert_eq!(loaded.file.name.unwrap().as_str(), "Clinic");
    let lan = &loaded.file.gateway.0["lan"];
    assert!(lan.get("advertise").is_none() && lan.get("addresses").is_some());
}

#[test]
fn what_no_default_can_stand_in_for_is_fatal() {
    for text in ["access = \"listd\"", "name = ", "[gateway.store]\npath = 1", "acess = \"listed\""] {
        assert!(load(text).is_fatal(), "{text}");
    }
}

#[test]
fn no_message_tells_a_secret() {
    let text = "[[network]]\nwifi = \"A\"\npassword = 2024-01-01\n[[network]]\nmobile = \"x\"\npin = 5.5\n\
                [[destination]]\nclient_key = \"qqq\\nzzz\"\ntoken = \"ttt uuu\"\n\
                [[network]]\nwifi = \"B\"\npassword = \"geheim";
    for text in [text.to_owned(), format!("{text}\"")] {
        let said = errors(&load(&text)).join("\n");
        let secrets = ["2024", "5.5", "qqq", "zzz", "ttt", "geheim"];
        assert!(!said.is_empty() && secrets.iter().all(|secret| !said.contains(secret)), "{said}");
    }
}

#[test]
fn a_kiosks_own_section_changes_single_keys_and_replaces_lists() {
    let text = "name = \"All\"\ncountry = \"UG\"\n[[network]]\nwifi = \"A\"\n[[network]]\nethernet = true\n\
         [gateway.lan]\nadvertise = false\n[gateway.limits]\nsessions = 5\n\
         [kiosk.\"10-00-00-00-AB-CD-EF-01\"]\nname = \"Mine\"\n[[kiosk.\"10-00-00-00-AB-CD-EF-01\".network]]\nwifi = \"B\"\n\
         [kiosk.\"10-00-00-00-AB-CD-EF-01\".gateway.limits]\nsessions = 6\n\
         [kiosk.\"b8:27:eb:00:00:01\"]\nname = \"Other\"\nnonsense = 1\n";
    let loaded = load(text);
    assert_eq!(errors(&loaded), [""; 0]);
    assert_eq!(loaded.file.name.unwrap().as_str(), "Mine");
    assert_eq!(loaded.file.country.unwrap().as_str(), "UG");
    assert_eq!(loaded.file.network.len(), 1);
    assert_eq!(loaded.networks_from.as_deref(), Some("10-00-00-00-AB-CD-EF-01"));
    assert_eq!(loaded.file.gateway.0["limits"]["sessions"].as_integer(), Some(6));
    assert_eq!(loaded.file.gateway.0["lan"]["advertise"].as_bool(), Some(false));
}

#[test]
fn machines_are_named_in_any_notation() {
    for text in ["B8:27:EB:00:00:01", "b8-27-eb-00-00-01", "b827.eb00.0001", "b827eb000001"] {
        assert_eq!(kiosk_id(text).as_deref(), Some("b827eb000001"));
    }
    assert_eq!(kiosk_id(" 10000000ABCDEF01").as_deref(), Some(MINE));
    assert!(["", "abc", "10000000abcdef0", "g0000000abcdef01"].iter().all(|text| kiosk_id(text).is_none()));
}

#[test]
fn the_example_changes_nothing_and_all_of_it_may_be_used() {
    let loaded = load(&boot_example());
    assert_eq!((errors(&loaded), loaded.problems.len()), (Vec::new(), 0));
    assert_eq!(loaded.file, waypost_config::boot::BootFile::default());
    let in_use = |line: &str| match line.strip_prefix('#') {
        // One network of each kind would be needed.
        Some(rest)
            if !rest.starts_with(' ')
                && !["ethernet", "mobile", "pin", "user", "token_file", "client_"]
                    .iter()
                    .any(|key| rest.starts_with(key)) =>
        {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    let text: Vec<_> = boot_example().lines().map(in_use).collect();
    let loaded = load(&text.join("\n"));
    assert_eq!(errors(&loaded), [""; 0]);
    assert_eq!(loaded.file.network[0].name.as_str(), "SorotiNet");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        load(&text);
    }

    #[test]
    fn damaged_files_are_survived(at in 0.0..1.0f64, length in 0..12usize, with in ".{0,12}") {
        let everything: Vec<String> = boot_example().lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest.to_owned(),
            _ => line.to_owned(),
        }).collect();
        let mut characters: Vec<char> = everything.join("\n").chars().collect();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the text")]
        let start = (at * characters.len() as f64) as usize;
        let end = (start + length).min(characters.len());
        characters.splice(start..end, with.chars());
        load(&characters.into_iter().collect::<String>());
    }

    #[test]
    fn any_value_behind_any_key_is_survived(key in "(name|country|access|ssh_keys|network|destination|gateway|kiosk|gateway.lan|gateway.store.path|kiosk.10000000abcdef01.network)", value in r#"("[^"\\]{0,20}"|-?[0-9]{1,25}|0x[0-9a-f]{1,20}|[0-9]\.[0-9]e[0-9]{1,4}|true|nan|\[\]|\[1, "x", \{\}\]|\[\{ wifi = "x", pin = 1 \}\]|\{ a = 1 \}|1979-05-27)"#) {
        load(&format!("{key} = {value}"));
    }
}
