//! A kiosk that is started with one file or another on its boot partition.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod kit;

use std::fs;
use std::time::{Duration, Instant};

use kit::{Kiosk, SSH_KEY};
use waypost_config::{Severity, Source, parse};
use waypost_kiosk::console::{Session, Size};
use waypost_kiosk::gateway::Gateway;
use waypost_kiosk::overview::Overview;

const MINE: &str = "10000000abcdef01";

const WHOLE: &str = r#"# Mbale
name = "Clinic Mbale"
country = "UG"
time_zone = "Africa/Kampala"
access = "paired"
ssh_keys = ["KEY"]

[[network]]
wifi = "ClinicNet"
password = "wifi-secret"   # ask Grace
[[network]]
mobile = "internet"
pin = "4711"
cost = "metered"
day = "50MB"
[[destination]]
name = "ministry"
url = "https://example.org/waypost"
certificate = "ministry.asc"
token = "token-secret"
[gateway.access]
code_lifetime = "30m"
"#;

fn whole(kiosk: &Kiosk) -> String {
    kiosk.put("ministry.asc", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n");
    WHOLE.replace("KEY", SSH_KEY)
}

fn started(text: &str) -> Kiosk {
    let kiosk = Kiosk::new(MINE);
    kiosk.put("waypost.toml", &text.replace("KEY", SSH_KEY));
    kiosk.put("ministry.asc", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n");
    kiosk.start();
    kiosk
}

#[test]
fn without_a_file_safe_defaults_hold() {
    let kiosk = Kiosk::new(MINE);
    kiosk.start();
    let settings = kiosk.settings();
    assert_eq!(
        (settings["host_name"].as_str(), settings["ssh"].as_bool()),
        (Some("waypost-cdef01"), Some(false))
    );
    let connections = kiosk.connections();
    assert_eq!(connections.len(), 1);
    assert!(connections[0].1.contains("type=ethernet\nmulti-connect=3"), "{connections:?}");
    assert!(!kiosk.path("run/waypost-kiosk/ssh").exists());
    assert!(kiosk.errors().contains("no documents are taken"), "{}", kiosk.errors());
    assert!(kiosk.current("gateway.d/50-waypost-toml.toml").contains("name = \"waypost-cdef01\""));
}

#[test]
fn a_good_file_sets_up_everything() {
    let kiosk = started(WHOLE);
    assert_eq!(kiosk.errors(), "");
    let settings = kiosk.settings();
    assert_eq!(settings["host_name"], "clinic-mbale");
    assert_eq!(settings["country"], "UG");
    let zone = fs::read_link(kiosk.path("run/waypost-kiosk/localtime")).unwrap();
    assert_eq!(zone.to_str(), Some("/usr/share/zoneinfo/Africa/Kampala"));
    let connections = kiosk.connections();
    let names: Vec<_> = connections.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "waypost-01-clinicnet.nmconnection",
            "waypost-02-internet.nmconnection",
            "waypost-03-ethernet.nmconnection"
        ]
    );
    assert!(connections[0].1.contains("ssid=ClinicNet") && connections[0].1.contains("psk=wifi-secret"));
    assert!(
        connections[1].1.contains("[gsm]\napn=internet\npin=4711") && connections[1].1.contains("metered=1")
    );
    assert!(kiosk.text("run/userdb/admin.user-privileged").contains(SSH_KEY));
    assert_eq!(fs::read_link(kiosk.path("run/userdb/1000.user")).unwrap().to_str(), Some("admin.user"));
    assert!(kiosk.path("run/waypost-kiosk/ssh").exists());
    assert_eq!(kiosk.text("run/waypost-kiosk/authorized_keys/admin"), format!("{SSH_KEY}\n"));
    assert!(kiosk.path("var/lib/waypost-kiosk/home/admin").is_dir());
    assert_eq!(kiosk.current("gateway/1-token.txt"), "token-secret");
}

#[test]
fn the_gateway_understands_what_it_is_told() {
    let kiosk = started(WHOLE);
    let loaded = parse(&[Source::new("gateway.toml", kiosk.current("gateway.d/50-waypost-toml.toml"))]);
    let worse: Vec<_> =
        loaded.problems.iter().filter(|problem| problem.severity > Severity::Warning).collect();
    assert!(worse.is_empty(), "{worse:?}");
    let config = loaded.config;
    assert_eq!(config.name.as_str(), "Clinic Mbale");
    assert_eq!(config.access.code_lifetime.to_string(), "30m");
    let backhauls: Vec<_> =
        config.backhaul.iter().map(|one| (one.name.as_str(), one.cost.to_string())).collect();
    assert_eq!(backhauls, [("ClinicNet", "free".to_owned()), ("internet", "metered".to_owned())]);
    let certificate = config.destination[0].certificate.to_str().unwrap();
    let below = certificate.strip_prefix("/var/lib/waypost-kiosk/current/").unwrap();
    assert!(kiosk.current(below).starts_with("-----BEGIN PGP"));
}

#[test]
fn whoever_may_use_the_kiosk_is_as_the_file_says() {
    for mode in ["open", "paired", "listed"] {
        let kiosk = started(&WHOLE.replace("\"paired\"", &format!("{mode:?}")));
        let loaded = parse(&[Source::new("gateway.toml", kiosk.current("gateway.d/50-waypost-toml.toml"))]);
        assert_eq!(loaded.config.access.mode.to_string(), mode);
    }
}

#[test]
fn an_admin_is_in_the_systems_own_groups() {
    let kiosk = Kiosk::new(MINE);
    kiosk.write("etc/group", "root:x:0:\nwaypost:x:993:\nsystemd-journal:x:990:\nsudo:x:27:\n");
    kiosk.put("waypost.toml", &whole(&kiosk));
    kiosk.start();
    assert_eq!(kiosk.text("run/userdb/993.group"), "{\"gid\":993,\"groupName\":\"waypost\"}");
    assert!(kiosk.path("run/userdb/admin:waypost.membership").exists());
    assert!(!kiosk.path("run/userdb/sudo.group").exists(), "nobody is in it");
}

#[test]
fn secrets_are_readable_to_those_who_need_them_only() {
    let kiosk = started(WHOLE);
    for (path, mode) in [
        ("run/NetworkManager/system-connections/waypost-01-clinicnet.nmconnection", 0o600),
        ("run/userdb/admin.user-privileged", 0o600),
        ("run/userdb/admin.user", 0o644),
        ("var/lib/waypost-kiosk/secrets.toml", 0o600),
        ("var/lib/waypost-kiosk/current/networks/waypost-01-clinicnet.nmconnection", 0o600),
        ("var/lib/waypost-kiosk/current/gateway/1-token.txt", 0o640),
        ("var/lib/waypost-kiosk/current/gateway.d/50-waypost-toml.toml", 0o640),
        ("var/lib/waypost-kiosk/current/gateway", 0o750),
    ] {
        assert_eq!(kiosk.mode(path), mode, "{path}: {:o}", kiosk.mode(path));
    }
}

#[test]
fn secrets_leave_the_boot_partition_and_are_used_all_the_same() {
    let kiosk = started(WHOLE);
    let expected = WHOLE
        .replace("KEY", SSH_KEY)
        .replace("wifi-secret", "(kept)")
        .replace("4711", "(kept)")
        .replace("token-secret", "(kept)");
    assert_eq!(kiosk.text("boot/firmware/waypost.toml"), expected);
    let before = fs::metadata(kiosk.path("boot/firmware/waypost.toml")).unwrap().modified().unwrap();
    kiosk.start();
    assert_eq!(
        fs::metadata(kiosk.path("boot/firmware/waypost.toml")).unwrap().modified().unwrap(),
        before,
        "it is written again"
    );
    assert!(kiosk.connections()[0].1.contains("psk=wifi-secret"));
    assert_eq!(fs::read_dir(kiosk.path("var/lib/waypost-kiosk/generations")).unwrap().count(), 1);
    // Another key changes, another secret is given.
    kiosk.put(
        "waypost.toml",
        &expected.replace("Clinic Mbale", "Clinic Lira").replacen("\"(kept)\"", "\"new-secret\"", 1),
    );
    kiosk.start();
    assert_eq!(kiosk.errors(), "");
    assert!(kiosk.connections()[0].1.contains("psk=new-secret"));
    assert_eq!(
        (kiosk.settings()["host_name"].as_str(), kiosk.current("gateway/1-token.txt").as_str()),
        (Some("clinic-lira"), "token-secret")
    );
    assert!(!kiosk.text("boot/firmware/waypost.toml").contains("new-secret"));
}

#[test]
fn kept_without_a_kept_secret_is_an_error_in_words() {
    let kiosk = started("name = \"x\"\n[[network]]\nwifi = \"A\"\npassword = \"(kept)\"\n");
    let errors = kiosk.errors();
    assert!(
        errors.contains(
            "waypost.toml, line 2: error: network.A.password: says \"(kept)\", but this kiosk has kept none"
        ),
        "{errors}"
    );
    assert_eq!(kiosk.connections().len(), 1, "the network is left out");
}

#[test]
fn a_wrong_secret_is_named_until_it_is_mended() {
    let file = |password: &str, pin: &str| {
        format!(
            "[[network]]\nwifi = \"A\"\npassword = \"{password}\"\n[[network]]\nmobile = \"internet\"\npin = \"{pin}\"\n"
        )
    };
    let wrong = file("short", "one");
    let kiosk = started(&wrong);
    let errors = kiosk.errors();
    assert!(errors.contains("expected 8 to 63 characters") && errors.contains("4 to 8 digits"), "{errors}");
    kiosk.start();
    assert_eq!(kiosk.errors(), errors, "the second start says what the first one said");
    assert_eq!(kiosk.connections().len(), 1, "the networks are left out");
    assert_eq!(kiosk.text("boot/firmware/waypost.toml"), wrong);
    kiosk.put("waypost.toml", &file("long enough", "4711"));
    kiosk.start();
    let connections = kiosk.connections();
    assert!(
        connections[0].1.contains("psk=long enough") && connections[1].1.contains("pin=4711"),
        "{connections:?}"
    );
    assert_eq!(kiosk.text("boot/firmware/waypost.toml"), file("(kept)", "(kept)"));
}

#[test]
fn what_is_kept_outlives_a_mistake_in_what_it_is_kept_for() {
    let kiosk = started(WHOLE);
    let right = kiosk.text("boot/firmware/waypost.toml");
    for (word, misspelt) in [
        ("[[network]]", "[[netwrok]]"),
        ("wifi = \"ClinicNet\"", "wfi = \"ClinicNet\""),
        ("name = \"ministry\"", "nmae = \"ministry\""),
    ] {
        kiosk.put("waypost.toml", &right.replace(word, misspelt));
        kiosk.start();
        assert_ne!(kiosk.errors(), "", "{misspelt}");
        kiosk.put("waypost.toml", &right);
        kiosk.start();
        assert_eq!(kiosk.errors(), "", "{misspelt}");
        assert!(kiosk.connections()[0].1.contains("psk=wifi-secret"), "{misspelt}");
        assert_eq!(kiosk.current("gateway/1-token.txt"), "token-secret", "{misspelt}");
    }
    // What nothing is wrong about is forgotten with its entry.
    kiosk.put("waypost.toml", "name = \"Clinic\"\n");
    kiosk.start();
    assert_eq!(kiosk.kept("secret"), [""; 0]);
}

#[test]
fn networks_of_one_name_never_swap_their_secrets() {
    for second in
        ["wifi = \"internet\"\npassword = \"the-other-secret\"", "mobile = \"internet\"\npin = \"1234\""]
    {
        let kiosk = started(&format!(
            "[[network]]\nwifi = \"internet\"\npassword = \"the-first-secret\"\n[[network]]\n{second}\n"
        ));
        for _ in 0..2 {
            assert!(kiosk.connections()[0].1.contains("psk=the-first-secret"), "{second}");
            assert!(kiosk.errors().contains("another network has this name"), "{}", kiosk.errors());
            kiosk.start();
        }
        assert!(
            kiosk.text("boot/firmware/waypost.toml").ends_with(&format!("{second}\n")),
            "it stays until it is right"
        );
    }
}

#[test]
fn what_is_kept_and_cannot_be_read_is_left_alone_and_what_was_read_last_holds() {
    let kiosk = started(WHOLE);
    let (kept, before) = (kiosk.text("var/lib/waypost-kiosk/secrets.toml"), kiosk.connections());
    let damaged = kept.replace("= \"", "= ");
    kiosk.write("var/lib/waypost-kiosk/secrets.toml", &damaged);
    let log = kiosk.start();
    assert!(log.contains("secrets that this kiosk keeps cannot be read"), "{log}");
    assert!(kiosk.errors().contains("as it did before"), "{}", kiosk.errors());
    assert_eq!(kiosk.connections(), before);
    assert_eq!(kiosk.text("var/lib/waypost-kiosk/secrets.toml"), damaged);
    // What reads again is used again; and secrets in the file are as good.
    kiosk.write("var/lib/waypost-kiosk/secrets.toml", &kept);
    kiosk.start();
    assert_eq!((kiosk.errors(), kiosk.connections()), (String::new(), before.clone()));
    kiosk.write("var/lib/waypost-kiosk/secrets.toml", &damaged);
    kiosk.put("waypost.toml", &whole(&kiosk));
    kiosk.start();
    assert_eq!((kiosk.errors(), kiosk.connections()), (String::new(), before));
    assert_eq!(kiosk.text("var/lib/waypost-kiosk/secrets.toml"), kept);
}

#[test]
fn where_nothing_can_be_written_a_bad_file_leaves_what_held_before() {
    let kiosk = started(WHOLE);
    let before = kiosk.connections();
    kiosk.put("waypost.toml", "name = ");
    // Not even root writes a file over a folder.
    fs::remove_file(kiosk.path("var/lib/waypost-kiosk/machine.json")).unwrap();
    fs::create_dir_all(kiosk.path("var/lib/waypost-kiosk/machine.json/in-the-way")).unwrap();
    let log = kiosk.start();
    assert!(log.contains("cannot be written"), "{log}");
    assert_eq!(kiosk.connections(), before);
}

#[test]
fn a_bad_file_changes_nothing_and_a_good_one_clears_the_errors() {
    let kiosk = started(WHOLE);
    let before = (kiosk.current("settings.json"), kiosk.connections());
    for (bad, words) in [
        ("name = ", "not TOML"),
        ("name = \"New\"\naccess = \"listd\"", "did you mean \"listed\"?"),
        ("name = \"New\"\n[gateway.store]\npath = 5", "gateway.store.path"),
        ("name = \"\u{0}\"", "not TOML"),
    ] {
        kiosk.put("waypost.toml", bad);
        let log = kiosk.start();
        assert!(log.contains("ERROR"), "{log}");
        assert_eq!((kiosk.current("settings.json"), kiosk.connections()), before, "{bad}");
        let errors = kiosk.errors();
        assert!(errors.contains(words) && errors.contains("as it did before"), "{errors}");
        assert!(errors.ends_with("\r\n") && !errors.replace("\r\n", "").contains('\n'));
        assert_eq!(kiosk.text("boot/firmware/waypost.toml"), bad);
    }
    kiosk.put("waypost.toml", &whole(&kiosk).replace("wifi-secret", "(kept)"));
    kiosk.start();
    assert_eq!(kiosk.errors(), "");
    assert_eq!(kiosk.connections(), before.1, "the secret was lost meanwhile");
}

#[test]
fn a_bad_first_file_leaves_safe_defaults() {
    let kiosk = started("access = \"listd\"\nssh_keys = [\"KEY\"]\n");
    assert_eq!(kiosk.settings()["host_name"], "waypost-cdef01");
    assert!(!kiosk.path("run/userdb/admin.user").exists());
    assert!(kiosk.errors().contains("Nobody can log in"), "{}", kiosk.errors());
}

#[test]
fn a_file_that_is_gone_or_emptied_is_missed_and_a_comment_starts_over() {
    let kiosk = started(WHOLE);
    let before = (kiosk.current("settings.json"), kiosk.connections());
    fs::remove_file(kiosk.path("boot/firmware/waypost.toml")).unwrap();
    let log = kiosk.start();
    assert_eq!((kiosk.current("settings.json"), kiosk.connections()), before);
    assert!(kiosk.errors().contains("there is no waypost.toml any more"), "{}", kiosk.errors());
    assert!(log.contains("there is no waypost.toml any more"), "{log}");
    for left_by_a_cut in ["", "\0\0\0\0", "\u{feff}\r\n"] {
        kiosk.put("waypost.toml", left_by_a_cut);
        let log = kiosk.start();
        assert_eq!((kiosk.current("settings.json"), kiosk.connections()), before, "{left_by_a_cut:?}");
        let errors = kiosk.errors();
        assert!(errors.contains("waypost.toml is empty, perhaps because the card was taken out"), "{errors}");
        assert!(
            errors.contains("as it did before") && log.contains("waypost.toml is empty"),
            "{errors}{log}"
        );
        assert!(kiosk.text("run/waypost-kiosk/mistakes.json").contains("\"errors\":1"), "the screen's count");
        assert_eq!(kiosk.text("boot/firmware/waypost.toml"), left_by_a_cut);
        assert!(kiosk.text("var/lib/waypost-kiosk/secrets.toml").contains("wifi-secret"));
    }
    kiosk.put("waypost.toml", "#");
    kiosk.start();
    assert_eq!(kiosk.settings()["host_name"], "waypost-cdef01");
    assert_eq!(kiosk.connections().len(), 1);
    assert_eq!(kiosk.kept("secret"), [""; 0]);
}

#[test]
fn cloud_inits_files_that_are_gone_are_missed_too_and_a_comment_starts_over() {
    let kiosk = Kiosk::new(MINE);
    let network =
        "version: 2\nwifis:\n  wlan0:\n    access-points:\n      ClinicNet:\n        password: wifi-secret\n";
    kiosk.put("user-data", "#cloud-config\nhostname: from-cloud-init\n");
    kiosk.put("network-config", network);
    kiosk.start();
    let before = (kiosk.current("settings.json"), kiosk.connections());
    for name in ["network-config", "user-data"] {
        fs::remove_file(kiosk.path(&format!("boot/firmware/{name}"))).unwrap();
        kiosk.start();
        assert_eq!((kiosk.current("settings.json"), kiosk.connections()), before);
        assert!(kiosk.errors().contains(&format!("there is no {name} any more")), "{}", kiosk.errors());
    }
    kiosk.put("waypost.toml", "#");
    kiosk.start();
    assert_eq!(kiosk.settings()["host_name"], "waypost-cdef01");
    assert_eq!(kiosk.kept("secret"), [""; 0]);
}

#[test]
fn a_first_file_that_is_empty_is_told_and_cloud_init_holds() {
    let kiosk = Kiosk::new(MINE);
    kiosk.put("waypost.toml", "");
    kiosk.put("user-data", "#cloud-config\nhostname: from-cloud-init\n");
    kiosk.start();
    assert_eq!(kiosk.settings()["host_name"], "from-cloud-init");
    assert!(kiosk.errors().contains("waypost.toml is empty"), "{}", kiosk.errors());
}

#[test]
fn a_name_that_windows_shows_half_of_is_told() {
    let kiosk = Kiosk::new(MINE);
    kiosk.put("waypost.toml.txt", "name = \"x\"");
    kiosk.start();
    assert!(kiosk.errors().contains("rename it to waypost.toml"), "{}", kiosk.errors());
}

#[test]
fn what_is_no_file_or_too_large_changes_nothing() {
    let kiosk = started(WHOLE);
    kiosk.put("waypost.toml", &"# too much\n".repeat(100_000));
    kiosk.start();
    assert!(kiosk.errors().contains("it is larger than 1048576 bytes"), "{}", kiosk.errors());
    fs::remove_file(kiosk.path("boot/firmware/waypost.toml")).unwrap();
    fs::create_dir(kiosk.path("boot/firmware/waypost.toml")).unwrap();
    kiosk.start();
    assert!(kiosk.errors().contains("it is no file"), "{}", kiosk.errors());
    assert_eq!(kiosk.settings()["host_name"], "clinic-mbale");
}

#[test]
fn one_wrong_entry_is_left_out_and_named() {
    let kiosk = started(
        &WHOLE
            .replace("\"UG\"", "\"UK\"")
            .replace("Africa/Kampala", "Africa/Kampla")
            .replace("ministry.asc", "nothing.asc"),
    );
    let errors = kiosk.errors();
    for words in [
        "waypost.toml, line 3: error: country: expected a country of two letters",
        "did you mean \"GB\"?",
        "waypost.toml, line 4: error: time_zone: the time zone Africa/Kampla is not known; did you mean \"Africa/Kampala\"?",
        "error: destination.ministry.certificate: the file nothing.asc cannot be read",
        "What holds: all of the files but what is named",
    ] {
        assert!(errors.contains(words), "{words}: {errors}");
    }
    assert_eq!(kiosk.settings()["host_name"], "clinic-mbale");
    assert_eq!(kiosk.connections().len(), 3);
}

#[test]
fn a_time_zone_whose_file_is_not_there_is_named() {
    let kiosk = started("time_zone = \"Africa/Asmera\"\n");
    assert!(kiosk.errors().contains("the time zone Africa/Asmera is not known"), "{}", kiosk.errors());
    assert_eq!(
        fs::read_link(kiosk.path("run/waypost-kiosk/localtime")).unwrap().to_str(),
        Some("/usr/share/zoneinfo/UTC")
    );
}

#[test]
fn one_file_serves_fifty_kiosks() {
    let mut text = String::from(
        "name = \"Clinic\"\ncountry = \"UG\"\n[[network]]\nwifi = \"All\"\npassword = \"all-secret\"\n",
    );
    for number in 0..50 {
        let name = if number % 2 == 0 {
            format!("100000000000{number:04}")
        } else {
            format!("B8-27-EB-00-00-{number:02X}")
        };
        text.push_str(&format!("[kiosk.\"{name}\"]\nname = \"Clinic {number}\"\n"));
        if number == 7 {
            text.push_str(&format!(
                "[[kiosk.\"{name}\".network]]\nwifi = \"Seven\"\npassword = \"seven-secret\"\n"
            ));
        }
    }
    for number in [0, 7, 48] {
        let kiosk = Kiosk::new(&format!("100000000000{number:04}"));
        kiosk.write("sys/class/net/wlan0/address", &format!("b8:27:eb:00:00:{number:02x}\n"));
        kiosk.put("waypost.toml", &text);
        kiosk.start();
        assert_eq!(kiosk.settings()["host_name"], format!("clinic-{number}"));
        let first = &kiosk.connections()[0].1;
        let (own, other) =
            if number == 7 { ("seven-secret", "all-secret") } else { ("all-secret", "seven-secret") };
        assert!(first.contains(own), "{first}");
        let (file, kept) =
            (kiosk.text("boot/firmware/waypost.toml"), kiosk.text("var/lib/waypost-kiosk/secrets.toml"));
        assert!(
            !file.contains("secret") && kept.contains(own) && (number == 7 || !kept.contains(other)),
            "{kept}"
        );
        kiosk.start();
        assert!(kiosk.connections()[0].1.contains(own));
    }
}

#[test]
fn the_status_is_written_beside_the_file() {
    let kiosk = started(WHOLE);
    let out = kiosk.run(&["status", "--waypost", "/nowhere/waypost"]);
    assert!(out.status.success(), "{out:?}");
    let status = kiosk.text("boot/firmware/waypost-status.txt");
    assert!(
        status.contains("serial        10000000abcdef01\r\n") && status.contains("The gateway does not run"),
        "{status}"
    );
}

#[test]
fn the_screen_shows_a_code_where_it_can_be_seen() {
    let kiosk = started(WHOLE);
    let waypost = kiosk.path("waypost");
    let answers = "#!/bin/sh\n# Answers as the gateway's command does.\nset -eu\ncase \"$2\" in\nstatus) echo '{\"name\":\"Clinic Mbale\",\"waiting\":3,\"destinations\":[{\"name\":\"m\",\"state\":\"ok\"}]}' ;;\npair) touch \"$0.paired\"; echo '{\"text\":\"waypost://pair?v=1&k=abc&a=192.168.1.5:4180\",\"valid_seconds\":600}' ;;\nesac\n";
    kiosk.write("waypost", answers);
    fs::set_permissions(&waypost, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let show = |terminal: &str| {
        let out =
            kiosk.run(&["console", "--once", "--terminal", terminal, "--waypost", waypost.to_str().unwrap()]);
        String::from_utf8(out.stdout).unwrap()
    };
    let unseen = show("/dev/tty1");
    assert!(
        unseen.contains("Clinic Mbale")
            && unseen.contains("3 documents are waiting")
            && !unseen.contains('█'),
        "{unseen}"
    );
    assert!(!kiosk.path("waypost.paired").exists(), "a code was made that nobody sees");
    assert!(show("/dev/ttyS0").contains('█'));
    kiosk.write("sys/class/drm/card0-HDMI-A-1/status", "connected\n");
    assert!(show("/dev/tty1").contains('█'));
}

#[test]
fn a_used_code_leaves_the_screen_also_where_the_phone_was_known() {
    let kiosk = started(WHOLE);
    let answers = "#!/bin/sh\n# Answers as the gateway's command does; each code is another one.\nset -eu\ncase \"$2\" in\nstatus) cat \"$0.status\" ;;\npair) echo >> \"$0.codes\"; echo \"{\\\"text\\\":\\\"waypost://pair?v=1&k=code$(wc -l < \"$0.codes\")\\\",\\\"valid_seconds\\\":600}\" ;;\nesac\n";
    kiosk.write("waypost", answers);
    let waypost = kiosk.path("waypost");
    fs::set_permissions(&waypost, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (gateway, now) = (Gateway { program: waypost }, Instant::now());
    let mut session = Session::default();
    let mut turn = |codes_used: u64, seconds: u64| {
        kiosk.write("waypost.status", &format!("{{\"peers\":1,\"codes_used\":{codes_used}}}"));
        let (size, later) = (Size { columns: 80, rows: 25 }, Duration::from_secs(seconds));
        session.turn(Overview::default(), &gateway, true, size, now + later)
    };
    let first = turn(0, 0).unwrap();
    assert!(turn(0, 10).is_none(), "the code can be used still");
    let second = turn(1, 20).expect("the code was used");
    assert_ne!(first, second);
    assert!(turn(1, 30).is_none(), "the new code can be used");
}
