//! NetworkManager itself reads the key files and says the same as the boot file. Its `nmcli` needs no daemon for that: the
//! system's, or on Debian one that `nmcli.sh` beside this unpacks. Elsewhere this says that it is left out.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod kit;

use std::io::Write as _;
use std::process::{Command, Stdio};

use kit::Kiosk;

fn nmcli() -> Option<String> {
    let is_there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if is_there("nmcli") {
        return Some("nmcli".to_owned());
    }
    if !is_there("apt-get") {
        return None;
    }
    let ran = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nmcli.sh")).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Some(String::from_utf8(ran.stdout).unwrap().trim().to_owned())
}

/// What NetworkManager makes of a key file.
fn read_back(nmcli: &str, text: &str) -> String {
    let mut child = Command::new(nmcli)
        .args(["--offline", "connection", "modify", "connection.lldp", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.is_empty(), "{said}: {text}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn network_manager_reads_what_was_meant() {
    let Some(nmcli) = nmcli() else {
        return println!("left out: no nmcli here; install network-manager");
    };
    let kiosk = Kiosk::new("10000000abcdef01");
    let text = r#"
        [[network]]
        wifi = "Plain Net"
        password = ' back\slash "quotes" '
        hidden = true
        [[network]]
        wifi = "semi;colon é"
        password = "with;semicolon=1"
        wpa3 = true
        address = "10.1.2.3/24"
        router = "10.1.2.1"
        dns = ["9.9.9.9", "fd00::1"]
        [[network]]
        wifi = "1234"
        [[network]]
        ethernet = true
        [[network]]
        ethernet = "eth1"
        address = "fd00::5/64"
        router = "fd00::1"
        [[network]]
        mobile = "internet.example"
        pin = "1234"
        user = "web"
        password = "wap"
        cost = "metered"
    "#;
    kiosk.put("waypost.toml", text);
    kiosk.start();
    let connections = kiosk.connections();
    assert_eq!(connections.len(), 6, "{}", kiosk.errors());
    let expected: [&[&str]; 6] = [
        &[
            "type=wifi",
            "ssid=Plain Net",
            "hidden=true",
            "key-mgmt=wpa-psk",
            "psk=\\sback\\\\slash \"quotes\" ",
            "autoconnect-priority=100",
        ],
        &[
            "ssid=115;101;109;105;59;99;111;108;111;110;32;195;169;",
            "key-mgmt=sae",
            "psk=with;semicolon=1",
            "address1=10.1.2.3/24,10.1.2.1",
            "dns=9.9.9.9;",
            "dns=fd00::1;",
            "method=manual",
        ],
        &["ssid=1234"],
        &["type=ethernet", "multi-connect=3", "method=auto", "route-metric=250"],
        &["interface-name=eth1", "address1=fd00::5/64,fd00::1"],
        &["type=gsm", "metered=1", "apn=internet.example", "pin=1234", "username=web", "password=wap"],
    ];
    for ((name, text), lines) in connections.iter().zip(expected) {
        let back = read_back(&nmcli, text);
        for line in lines {
            assert!(back.lines().any(|found| found == *line), "{name}: {line} is not in {back}\nof {text}");
        }
    }
}
