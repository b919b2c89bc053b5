//! cloud-init's files, as Raspberry Pi Imager 2 and people write them.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod kit;

use kit::{Kiosk, SSH_KEY};

/// As Imager writes it for a user with password and key: the singular `user`, its own commands, an `apt` block.
const IMAGERS_USER_DATA: &str = "#cloud-config
manage_resolv_conf: false

hostname: clinic-lira
manage_etc_hosts: true
packages:
- avahi-daemon
apt:
  preserve_sources_list: true
  conf: |
    Acquire {
      Check-Date \"false\";
    };
timezone: Africa/Kampala
keyboard:
  model: pc105
  layout: \"us\"
user:
  name: grace
  shell: /bin/bash
  lock_passwd: false
  passwd: \"$y$j9T$abcdefgh$0123456789abcdef\"
  ssh_authorized_keys:
    - \"KEY\"
  sudo: ALL=(ALL) NOPASSWD:ALL
ssh_pwauth: false

runcmd:
  - [ systemctl, enable, --now, ssh ]
  - [ sh, -c, \"echo 'grace ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/010_grace-nopasswd\" ]
  - [ chmod, '0440', '/etc/sudoers.d/010_grace-nopasswd' ]
";

const IMAGERS_NETWORK: &str = "network:
  version: 2
  ethernets:
    eth0:
      dhcp4: true
      dhcp6: true
      optional: true
  wifis:
    wlan0:
      dhcp4: true
      regulatory-domain: \"UG\"
      access-points:
        \"Clinic; Net\":
          hidden: true
          password: \"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"
      optional: true
";

fn started(files: &[(&str, &str)]) -> Kiosk {
    let kiosk = Kiosk::new("10000000abcdef01");
    files.iter().for_each(|(name, text)| kiosk.put(name, &text.replace("KEY", SSH_KEY)));
    kiosk.start();
    kiosk
}

/// Errors and notes but for what is said where no destination is.
fn said(kiosk: &Kiosk) -> Vec<String> {
    let errors = kiosk.errors();
    errors
        .lines()
        .filter(|line| line.starts_with("- ") && !line.contains("no documents are taken"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_imager_writes_is_understood_and_only_its_password_has_a_word() {
    let kiosk =
        started(&[("user-data", IMAGERS_USER_DATA), ("network-config", IMAGERS_NETWORK), ("meta-data", "")]);
    let said = said(&kiosk);
    assert!(said.len() == 1 && said[0].contains("this password stays readable on this card"), "{said:?}");
    let settings = kiosk.settings();
    assert_eq!(
        (settings["host_name"].as_str(), settings["country"].as_str()),
        (Some("clinic-lira"), Some("UG"))
    );
    assert_eq!(settings["time_zone"], "Africa/Kampala");
    assert_eq!((settings["ssh"].as_bool(), settings["ssh_passwords"].as_bool()), (Some(true), Some(false)));
    let privileged = kiosk.text("run/userdb/grace.user-privileged");
    assert!(privileged.contains("$y$j9T$abcdefgh$") && privileged.contains(SSH_KEY));
    assert!(kiosk.path("run/userdb/grace:waypost-admin.membership").exists());
    let connections = kiosk.connections();
    assert!(connections[0].1.contains("interface-name=eth0"), "{connections:?}");
    let wifi = &connections[1].1;
    assert!(
        wifi.contains("ssid=67;108;105;110;105;99;59;32;78;101;116;\nhidden=true")
            && wifi.contains("psk=0123456789abcdef"),
        "{wifi}"
    );
}

#[test]
fn lists_of_users_and_static_addresses_are_understood() {
    let user_data = "#cloud-config\nusers:\n  - default\n  - name: moses\n    gecos: Moses O.\n    groups: [adm, sudo]\n    ssh_authorized_keys: KEY\n  - name: root\nssh_authorized_keys:\n  - KEY\nssh_pwauth: true\n";
    let network = "version: 2\nethernets:\n  eth0:\n    addresses: [192.168.7.5/24]\n    routes:\n      - {to: default, via: 192.168.7.1}\n    nameservers: {addresses: [9.9.9.9]}\nwifis:\n  wlan0:\n    access-points:\n      Open: {}\n";
    let kiosk = started(&[("user-data", user_data), ("network-config", network)]);
    let said = said(&kiosk);
    assert!(said.len() == 1 && said[0].contains("user-data, line 8: note: a user's `name`"), "{said:?}");
    assert!(kiosk.path("run/userdb/moses:sudo.membership").exists());
    assert!(!kiosk.path("run/userdb/moses:waypost-admin.membership").exists());
    let connections = kiosk.connections();
    assert!(
        connections[0].1.contains("method=manual\naddress1=192.168.7.5/24,192.168.7.1\ndns=9.9.9.9;"),
        "{connections:?}"
    );
    assert!(!connections[1].1.contains("wifi-security"));
}

#[test]
fn what_is_not_understood_is_named_and_the_rest_holds() {
    let user_data = "#cloud-config\nhostname: lira\nwrite_files:\n  - path: /etc/x\nruncmd:\n  - reboot\nuser:\n  name: grace\n  passwd: plain\n";
    let network = "version: 2\nbridges:\n  br0: {}\nwifis:\n  wlan0:\n    access-points:\n      A: {password: short}\n      B: {password: longenough, bssid: x}\n";
    let kiosk = started(&[("user-data", user_data), ("network-config", network)]);
    let said = said(&kiosk).join("\n");
    for words in [
        "user-data, line 4: note: `write_files` is not understood",
        "user-data, line 6: note: `runcmd` is not understood",
        "user-data, line 9: note: expected a hashed password",
        "network-config, line 3: note: `bridges` is not understood",
        "network-config, line 7: note: expected a password of 8 to 63 characters",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(kiosk.settings()["host_name"], "lira");
    assert!(kiosk.connections()[0].1.contains("ssid=B"));
}

#[test]
fn waypost_toml_wins() {
    let boot_file = "name = \"Clinic Gulu\"\nssh_keys = [\"KEY\"]\n[[network]]\nwifi = \"Ours\"\n";
    let kiosk = started(&[
        ("waypost.toml", boot_file),
        ("user-data", IMAGERS_USER_DATA),
        ("network-config", IMAGERS_NETWORK),
    ]);
    assert_eq!(kiosk.settings()["host_name"], "clinic-gulu");
    assert_eq!(kiosk.settings()["country"], "UG", "what it does not say is taken from there");
    assert!(kiosk.connections()[0].1.contains("ssid=Ours") && kiosk.connections().len() == 2);
    assert!(kiosk.path("run/userdb/admin.user").exists() && kiosk.path("run/userdb/grace.user").exists());
}

#[test]
fn files_that_are_no_yaml_change_nothing_and_scripts_are_passed_over() {
    let kiosk = started(&[("user-data", IMAGERS_USER_DATA)]);
    for bad in ["a: [", "\ta: b: c", "a: &x 1\nb: *x\n"] {
        kiosk.put("user-data", bad);
        kiosk.start();
        assert_eq!(kiosk.settings()["host_name"], "clinic-lira", "{bad}");
        assert!(
            kiosk.errors().contains("user-data, line") && kiosk.errors().contains("as it did before"),
            "{}",
            kiosk.errors()
        );
    }
    kiosk.put("user-data", "#!/bin/sh\nreboot\n");
    kiosk.start();
    assert!(said(&kiosk)[0].contains("only #cloud-config is understood"));
}
