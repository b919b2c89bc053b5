//! The image, as whoever has flashed it has it: it comes up, takes one file, takes documents, and loses none of them to power
//! cuts. `make test-image` builds the image and runs this. What an admin does is taken from docs/install.md.

mod looks;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use waypost_tests::kiosk::{
    Admin, Board, Card, FAILED, Guide, LOOKED_AT, Machine, Reach, SERIAL, mend_data, python, tool,
};
use waypost_tests::scenario::{Destination, Phone, content, folder, say, wait_until};

use crate::looks::*;

/// Emulated, on a machine that does other things besides.
const BOOT: Duration = Duration::from_secs(400);
const SERVES: &str = "Started waypost.service";
const IS_UP: &str = "Reached target multi-user.target";
const CARD: u64 = 2 << 30;
/// Of what was being written at each power cut, other parts are lost in so many copies of the card.
const OTHER_CUTS: u32 = 4;
/// Of the compressed image, in bytes.
const LARGEST: u64 = 250_000_000;
/// Seconds from 1970 to the project's first commit.
const BEGINNING: u64 = 1_770_000_000;
const MANAGES_MODEMS: &str = "systemctl is-active ModemManager.service || true";
/// A file that nobody can read.
const UNREADABLE: &str = "name = \"Clinic\n[[destination]]\n";
/// As Raspberry Pi Imager 2 writes them, but for the address, which the emulated network would have given.
const IMAGERS_USER_DATA: &str = "#cloud-config
hostname: clinic-lira
manage_etc_hosts: true
timezone: Africa/Kampala
user:
  name: grace
  shell: /bin/bash
  lock_passwd: true
  ssh_authorized_keys:
    - \"KEY\"
  sudo: ALL=(ALL) NOPASSWD:ALL
users:
  - name: moses
    groups: [sudo]
    lock_passwd: false
    passwd: HASH
ssh_pwauth: true
runcmd:
  - [ systemctl, enable, --now, ssh ]
";
const PASSWORD: &str = "a long password";
/// As `openssl passwd -6` makes it of that.
const HASH: &str =
    "$6$waypostkiosk$ijN/FEBAqHD7JoQ7tkYRDVCBcI.uuaQzUZbdbrqQaBT3rvSn/oU02OUsxlL29irzWK9tvZ.VJ9DX98IEQ9fja.";
const IMAGERS_NETWORK: &str = "network:
  version: 2
  ethernets:
    eth0:
      addresses: [10.0.2.15/24]
      routes:
        - to: default
          via: 10.0.2.2
      optional: true
  wifis:
    wlan0:
      dhcp4: true
      regulatory-domain: \"UG\"
      access-points:
        \"ClinicNet\":
          password: \"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"
      optional: true
";

#[test]
fn the_guide_has_an_admin_do_five_things_at_most() {
    let guide = Guide::read();
    assert!((1..=5).contains(&guide.actions().len()), "{:?}", guide.actions());
}

/// A card, and the machine that it is put into.
struct Kiosk {
    card: Card,
    reach: Reach,
    admin: Admin,
    logs: PathBuf,
    boots: u32,
}

impl Kiosk {
    fn boot(&mut self, has_network: bool) -> Machine {
        self.boots += 1;
        Machine::boot(&self.card, &Board::Virt { has_network }, &self.reach, &self.logs, self.boots)
    }

    /// The power goes. Wherever it would have left the card otherwise, the next start makes its data sound.
    fn cut(&mut self, machine: Machine) {
        let folder = folder();
        for _ in 0..OTHER_CUTS {
            self.card.left_by_cut().mended_data(&folder.path().join("data"));
        }
        machine.cut(&mut self.card);
    }

    fn run(&self, machine: &Machine, command: &str) -> String {
        machine.run(&self.admin, &self.reach, command)
    }

    /// What an admin types, as the guide has it.
    fn typed(&self, machine: &Machine, command: &str) -> String {
        machine.type_there(&self.admin, &self.reach, command)
    }
}

#[test]
#[ignore = "it needs an image: make test-image"]
fn a_kiosk_takes_one_file_and_documents_and_delivers_them_after_three_power_cuts() {
    let folder = folder();
    let logs = image().join("tried");
    fs::create_dir_all(&logs).unwrap();
    let guide = Guide::read();
    let mut destination =
        Destination::make_at(&folder.path().join("destination"), [127, 0, 0, 1].into(), "10.0.2.100");
    let reach = Reach::to(destination.backhaul.address());
    let admin = Admin::make(folder.path());

    // Action 1.
    let packed = image().join("waypost-arm64.img.zst").metadata().unwrap().len();
    assert!(packed <= LARGEST, "the image has {packed} bytes");
    let mut kiosk = Kiosk { card: flash(&guide, folder.path()), reach, admin, logs, boots: 0 };
    let root = kiosk.card.digest(2);

    // What an admin may forget, or do wrong.
    it_comes_up_without_a_file(&mut kiosk);
    it_is_as_imager_has_set_it_up(&mut kiosk, &folder.path().join("imager"));
    it_comes_up_with_one_that_nobody_can_read(&mut kiosk);

    // Actions 2 to 5.
    // This one kiosk is elsewhere.
    let section = format!("\n[kiosk.\"{SERIAL}\"]\ntime_zone = \"Africa/Lusaka\"\n");
    guide.configure(&kiosk.card, &destination, &kiosk.admin, &kiosk.reach, &section);
    // Its networks, with a password that stays readable, are in the file now.
    kiosk.card.remove("network-config");
    destination.start();
    let mut machine = kiosk.boot(true);
    machine.wait_for(SERVES, BOOT);
    machine.wait_for_ssh(&kiosk.admin, &kiosk.reach, BOOT);
    it_is_connected(&kiosk, &machine, &guide, &destination);
    // All that starts by itself has.
    machine.wait_for(IS_UP, BOOT);
    looks_as_it_should(&|command| kiosk.run(&machine, command));
    it_joins_the_wifi(&kiosk, &machine);
    its_bundle_for_support_has_no_secrets(&kiosk, &machine, &destination);
    destination.kill9();
    // What a timer does, at a time that the next start does not reach by itself.
    kiosk.run(&machine, "date --set='+20 hours'");
    kiosk.run(&machine, "systemctl start waypost-clock.service");
    let time: u64 = kiosk.run(&machine, "date +%s").trim().parse().unwrap();
    // Nor is it kept when it is behind what was.
    let kept = "stat --format=%Y /var/lib/chrony/chrony.drift";
    let before = kiosk.run(&machine, kept);
    kiosk.run(&machine, "date --set='-2 hours'");
    kiosk.run(&machine, "systemctl start waypost-clock.service");
    assert_eq!(kiosk.run(&machine, kept), before);
    kiosk.run(&machine, "date --set='+2 hours'");
    let phone = Phone::make(&folder.path().join("phone"), "amina");
    phone.add_destination(&destination);
    it_pairs(&kiosk, &machine, &guide, &phone);
    let (form, photo, late) = (content(1, 1_000), content(2, 1_000_000), content(3, 2_000));
    phone.add(&[("form", &form), ("photo", &photo)]);
    assert_eq!(phone.sync()["transferred"], 2);
    kiosk.cut(machine);

    // In the middle of the start.
    let good = kiosk.card.read("waypost.toml").expect("the file is there");
    assert!(good.contains("\"(kept)\"") && !good.contains(destination.token()), "{good}");
    let lines_like = |pattern: &str| lines_like(pattern, &kiosk.card, folder.path());
    assert!(lines_like("^#password = \"the password\"") > 0, "the example has such lines");
    assert_eq!((lines_like("^password = \"the password\""), lines_like(destination.token())), (0, 0));
    kiosk.card.write("waypost.toml", UNREADABLE);
    let mut machine = kiosk.boot(true);
    machine.wait_for("Mounted data.mount", BOOT);
    kiosk.cut(machine);

    // Right after a document was taken; what was configured before still holds.
    let mut machine = kiosk.boot(true);
    machine.wait_for(SERVES, BOOT);
    phone.add(&[("late", &late)]);
    wait_until_transferred(&phone, 1);
    let errors = kiosk.card.read("waypost-errors.txt").expect("what is wrong is said beside the file");
    assert!(errors.contains("not TOML") && errors.contains("runs as it did before"), "{errors}");
    kiosk.cut(machine);

    // What was acknowledged is there, and goes out when a way out is there.
    let good = format!("{good}\n[[network]]\nmobile = \"internet\"\n");
    kiosk.card.write("waypost.toml", &good);
    destination.start();
    let mut machine = kiosk.boot(true);
    wait_for_inbox(&destination, 3);
    say(&format!("delivered {} s after power-on", machine.running().as_secs()));
    let mut contents: Vec<Vec<u8>> = destination.inbox().into_values().collect();
    contents.sort_by_key(Vec::len);
    assert_eq!(contents, [form, late, photo]);
    let report = wait_until_synced(&phone);
    assert_eq!(report["unconfirmed"], 0, "{report}");
    machine.wait_for(IS_UP, BOOT);
    machine.wait_for_ssh(&kiosk.admin, &kiosk.reach, BOOT);
    assert_eq!(kiosk.run(&machine, MANAGES_MODEMS).trim(), "active", "a mobile network is configured");
    let connections = kiosk.run(&machine, "nmcli --terse --fields TYPE connection show");
    assert!(connections.contains("gsm"), "{connections}");
    let failed = kiosk.run(&machine, "systemctl --failed --no-legend --plain");
    assert_eq!(failed.trim(), "", "units have failed");
    its_card_tells_of_the_upload(&kiosk, &machine);
    let later: u64 = kiosk.run(&machine, "date +%s").trim().parse().unwrap();
    assert!(later >= time, "the clock went back with the power: {time} to {later}");
    kiosk.cut(machine);
    assert_eq!(kiosk.card.digest(2), root, "the root is as it was flashed");
    assert_eq!(kiosk.card.read("waypost-errors.txt"), None);
    assert_eq!(kiosk.card.read("waypost.toml"), Some(good));
}

/// Offline, with no network port at all, and the clock in 1970.
fn it_comes_up_without_a_file(kiosk: &mut Kiosk) {
    let small = kiosk.card.partition(4).size();
    let mut machine = kiosk.boot(false);
    let took = machine.wait_for(SERVES, BOOT);
    say(&format!("without a file, the gateway serves {} s after power-on", took.as_secs()));
    let status = wait_for_text(&machine, &kiosk.card, "waypost-status.txt");
    let errors = wait_for_text(&machine, &kiosk.card, "waypost-errors.txt");
    has_no_failed_units(&mut machine);
    kiosk.cut(machine);
    for said in ["no documents are taken", "waypost-cdef01", SERIAL, "\r\nversion", "\r\nclock"] {
        assert!(status.contains(said), "{said}: {status}");
    }
    assert!(!status.contains("\r\naddress"), "it has none: {status}");
    assert!(!status.contains("1970"), "the clock begins at the image's time: {status}");
    assert!(errors.contains("waypost-example.toml"), "where to begin is said: {errors}");
    let grown = kiosk.card.partition(4).size();
    assert!(grown > small * 4, "the data partition has grown: {small} to {grown}");
}

/// With cloud-init's files and no other, of which `user-data` stays on the card from then on.
fn it_is_as_imager_has_set_it_up(kiosk: &mut Kiosk, folder: &Path) {
    fs::create_dir(folder).unwrap();
    let grace = Admin::make_as(folder, "grace");
    let moses = Admin::with_password(folder, "moses", PASSWORD);
    let user_data = IMAGERS_USER_DATA.replace("KEY", &grace.public).replace("HASH", HASH);
    kiosk.card.write("user-data", &user_data);
    kiosk.card.write("network-config", IMAGERS_NETWORK);
    let mut machine = kiosk.boot(true);
    machine.wait_for(SERVES, BOOT);
    machine.wait_for_ssh(&grace, &kiosk.reach, BOOT);
    // As root, by her right to use sudo.
    let there = |command: &str| machine.run(&grace, &kiosk.reach, command);
    assert_eq!(there("hostname").trim(), "clinic-lira");
    assert!(there("date").contains("EAT"), "the time zone is Kampala's");
    let address = there("ip -4 address show eth0");
    assert!(address.contains("10.0.2.15/24") && !address.contains("dynamic"), "{address}");
    let connections = there("nmcli --terse --fields TYPE connection show");
    assert!(connections.contains("802-11-wireless"), "{connections}");
    there("systemctl start waypost-kiosk-status.service");
    assert!(there("cat /boot/firmware/waypost-status.txt").contains("clinic-lira"));
    let typed = format!("echo '{PASSWORD}' | sudo --stdin id --user --name");
    assert_eq!(machine.type_there(&moses, &kiosk.reach, &typed).trim(), "root");
    let as_admin = machine.try_run(&kiosk.admin, &kiosk.reach, "true");
    has_no_failed_units(&mut machine);
    kiosk.cut(machine);
    let why = String::from_utf8_lossy(&as_admin.stderr);
    assert!(why.contains("Permission denied"), "there is nobody else: {why}");
    let errors = kiosk.card.read("waypost-errors.txt").expect("that there is no destination is said");
    assert!(!errors.contains("user-data"), "{errors}");
    let notes: Vec<_> = errors.lines().filter(|line| line.contains("network-config")).collect();
    assert!(matches!(notes[..], [note] if note.contains("stays readable on this card")), "{errors}");
}

fn it_comes_up_with_one_that_nobody_can_read(kiosk: &mut Kiosk) {
    kiosk.card.write("waypost.toml", UNREADABLE);
    let mut machine = kiosk.boot(true);
    machine.wait_for(SERVES, BOOT);
    machine.wait_for("Finished waypost-kiosk-status", BOOT);
    has_no_failed_units(&mut machine);
    kiosk.cut(machine);
    let errors = kiosk.card.read("waypost-errors.txt").expect("what is wrong is said beside the file");
    for said in ["line 1", "not TOML", "runs as it did before", SERIAL] {
        assert!(errors.contains(said), "{said}: {errors}");
    }
    assert_eq!(kiosk.card.read("waypost.toml").as_deref(), Some(UNREADABLE));
    let status = kiosk.card.read("waypost-status.txt").expect("how it is stands there");
    assert!(
        status.contains("no documents are taken") && status.contains("1 mistake in waypost.toml"),
        "{status}"
    );
}

/// Action 4: by SSH, on the screen, and on the card.
fn it_is_connected(kiosk: &Kiosk, machine: &Machine, guide: &Guide, destination: &Destination) {
    const CONNECTED: &str = "Connected to its destination.";
    let begun = Instant::now();
    while !kiosk.run(machine, "cat /dev/vcs1").contains(CONNECTED) {
        let screen = kiosk.run(machine, "cat /dev/vcs1");
        assert!(begun.elapsed() < BOOT, "the screen does not say that it is connected: {screen}");
        std::thread::sleep(Duration::from_secs(1));
    }
    let said = kiosk.typed(machine, guide.command(4));
    assert!(said.contains("ministry"), "{said}");
    kiosk.run(machine, "systemctl start waypost-kiosk-status.service");
    let text = kiosk.run(machine, "cat /boot/firmware/waypost-status.txt");
    let status: Value = serde_json::from_str(&kiosk.run(machine, "waypost --json status")).unwrap();
    let is_said = |key: &str, value: &str| {
        let line = format!("{key:<14}{value}");
        assert!(text.lines().any(|one| one.trim_end().starts_with(&line)), "{line:?}: {text}");
    };
    is_said("name", "Clinic Mbale");
    is_said("host name", "clinic-mbale");
    is_said("serial", SERIAL);
    is_said("state", CONNECTED);
    is_said("address", "eth0 10.0.2.15");
    is_said("key", status["key"].as_str().unwrap());
    is_said("version", &format!("waypost {}", status["version"].as_str().unwrap()));
    is_said("waiting", "0");
    is_said("destination", &format!("ministry: ok ({})", destination.fingerprint()));
    say(&text);
}

/// Action 5, with the screen and without.
fn it_pairs(kiosk: &Kiosk, machine: &Machine, guide: &Guide, phone: &Phone) {
    let code = wait_until("a code is on the screen", || machine.code_on_screen());
    let paired = phone.run(&["pair", &code]);
    assert!(paired.last()["report"]["key"].is_string(), "{paired:?}");
    let printed = kiosk.typed(machine, guide.command(5));
    let other =
        printed.split_whitespace().find(|word| word.starts_with("waypost://pair?")).expect("a code as text");
    assert_ne!(other, code);
}

/// The guide's own, with virtual radios; and the gateway may speak to who drives them, as nobody else may.
fn it_joins_the_wifi(kiosk: &Kiosk, machine: &Machine) {
    let joined = machine.run_script(&kiosk.admin, &kiosk.reach, &tool("access-point.sh"));
    assert!(joined.contains("SSID: ClinicNet") && joined.contains("address: 10.77.0."), "{joined}");
    assert!(joined.contains("Power save: off"), "it is on the mains: {joined}");
    assert!(joined.contains("p2p-wlan0-0:unmanaged"), "Wi-Fi Direct is the gateway's: {joined}");
    // One radio, on one channel: the group makes way for the clinic's network, and comes back beside it.
    let is_said = |what: &str| assert!(joined.contains(what), "{what} is not in {joined}");
    is_said("group: 5180 MHz 172.29.77.1/24");
    is_said("gives way");
    is_said("group: 2437 MHz 172.29.77.1/24");
    is_said("wlan0:connected");
    let states: Vec<&str> = joined.lines().filter(|line| line.starts_with("p2p-")).collect();
    assert!(states.iter().all(|state| state.ends_with(":unmanaged")), "also with a group: {joined}");
    let ask = |user: &str| {
        let ask = "busctl get-property fi.w1.wpa_supplicant1 /fi/w1/wpa_supplicant1 fi.w1.wpa_supplicant1 Interfaces";
        machine.try_run(&kiosk.admin, &kiosk.reach, &format!("runuser -u {user} -- {ask}"))
    };
    let (ours, others) = (ask("waypost"), ask("nobody"));
    assert!(ours.status.success(), "{}", String::from_utf8_lossy(&ours.stderr));
    assert!(!others.status.success(), "{}", String::from_utf8_lossy(&others.stdout));
    let country = kiosk.run(machine, "iw reg get");
    assert!(country.contains("country UG"), "radios keep to the country's rules: {country}");
}

/// The gateway does not know what the kiosk has kept: `waypost support` looks there.
fn its_bundle_for_support_has_no_secrets(kiosk: &Kiosk, machine: &Machine, destination: &Destination) {
    kiosk.run(machine, "waypost support help.tar.gz");
    // Who asked for it may take it away.
    let text = kiosk.typed(machine, "tar -xzOf help.tar.gz");
    for there in ["Clinic Mbale", "ministry", "ClinicNet", "waypost-kiosk"] {
        assert!(text.contains(there), "{there} is not in the bundle");
    }
    for secret in ["the password", destination.token()] {
        assert!(!text.contains(secret), "{secret} is in the bundle");
    }
}

/// As it is read on a laptop, once something has been delivered.
fn its_card_tells_of_the_upload(kiosk: &Kiosk, machine: &Machine) {
    kiosk.run(machine, "systemctl start waypost-kiosk-status.service");
    let text = kiosk.run(machine, "cat /boot/firmware/waypost-status.txt");
    let status: Value = serde_json::from_str(&kiosk.run(machine, "waypost --json status")).unwrap();
    let is_trusted = status["clock_trusted"].as_bool().unwrap();
    let line = |key: &str| {
        let found = text.lines().find(|line| line.starts_with(&format!("{key:<14}")));
        found.unwrap_or_else(|| panic!("no {key}: {text}")).trim_end().to_owned()
    };
    let (upload, clock) = (line("last upload"), line("clock"));
    assert!(upload.contains("last upload   20") && upload.contains("3 documents since"), "{upload}");
    assert!(clock.ends_with(if is_trusted { ", trusted" } else { ", not trusted" }), "{clock}");
    assert!(line("delivered").contains("3 opened"), "{text}");
}

#[test]
#[ignore = "it needs an image: make test-image"]
fn what_is_beside_the_image_says_what_it_is() {
    let bill = image().join("waypost-arm64.img.cdx.json");
    let ran = Command::new(python("bill.txt", &[])).arg(tool("bill.py")).arg(&bill).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let bill = read(&bill);
    let names: Vec<_> =
        bill["components"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    for name in ["waypost", "bluez", "linux-image-arm64", "sequoia-openpgp"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    // Of the destination's server alone.
    assert!(!names.contains(&"sqlx") && !names.contains(&"axum"), "{names:?}");

    let (plain, packed) = (image().join("waypost-arm64.img"), image().join("waypost-arm64.img.zst"));
    let imager = read(&image().join("imager.json"));
    let system = &imager["os_list"][0];
    for (path, size, hash) in [
        (&plain, "extract_size", "extract_sha256"),
        (&packed, "image_download_size", "image_download_sha256"),
    ] {
        assert_eq!(system[size], path.metadata().unwrap().len(), "{size}");
        assert_eq!(system[hash], digest(path), "{hash}");
    }
    // What Imager's schema (os-list-schema.json) asks for.
    for key in ["name", "description", "icon", "url", "release_date", "extract_size", "extract_sha256"] {
        assert!(!system[key].is_null(), "{key}: {system}");
    }
    for (key, name) in [("url", "waypost-arm64.img.zst"), ("icon", "icon.svg")] {
        assert_eq!(system[key], format!("https://images.example/waypost/{name}"));
    }
    assert_eq!(system["devices"], serde_json::json!(["pi3-64bit", "pi4-64bit"]));
    assert_eq!(system["init_format"], "cloudinit");
    let report = read(&image().join("waypost-arm64.img.report.json"));
    assert_eq!(report["packed_bytes"], packed.metadata().unwrap().len());
    assert_eq!(report["root_sha256"], digest(&image().join("root.squashfs")));
    let ran =
        Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(image()).output();
    assert!(ran.unwrap().status.success());
    for name in [
        "waypost-arm64.img.zst",
        "imager.json",
        "icon.svg",
        "waypost-arm64.img.cdx.json",
        "waypost-arm64.img.report.json",
    ] {
        assert!(fs::read_to_string(image().join("SHA256SUMS")).unwrap().contains(name), "{name}");
    }
}

/// Of its two sectors one is old, where the power went; or the card has lost a byte of it.
#[test]
#[ignore = "it needs an image: make test-image"]
fn a_superblock_that_is_wrong_costs_no_file() {
    let folder = folder();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    fs::write(folder.path().join("document"), content(1, 100_000)).unwrap();
    let debugfs = |requests: &str, file: &Path| {
        let ran = Command::new("debugfs")
            .args(["-w", "-R", requests])
            .arg(file)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    };
    let made =
        Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-b", "4096"]).arg(&old).arg("400M").status();
    assert!(made.unwrap().success());
    debugfs("write document first", &old);
    fs::copy(&old, &new).unwrap();
    for file in 0..10 {
        debugfs(&format!("write document {file}"), &new);
    }
    let (old, new) = (fs::read(old).unwrap(), fs::read(new).unwrap());
    let has_all = |file: &Path| {
        let files = debugfs("ls -p /", file).lines().filter(|line| line.contains("/100644/")).count();
        assert_eq!(files, 11);
    };
    let file = folder.path().join("data");
    for sector in [2, 3] {
        let mut torn = new.clone();
        let sector = sector * 512..(sector + 1) * 512;
        assert_ne!(torn[sector.clone()], old[sector.clone()]);
        torn[sector.clone()].copy_from_slice(&old[sector]);
        fs::write(&file, torn).unwrap();
        let said = mend_data(&file);
        assert!(said.contains("taken from the journal") && !said.contains("backup"), "{said}");
        has_all(&file);
    }
    // How many blocks there are: with a checksum that fits, e2fsck would end.
    let mut wrong = new;
    wrong[1028] ^= 1;
    fs::write(&file, wrong).unwrap();
    let said = mend_data(&file);
    assert!(said.contains("a backup is taken"), "{said}");
    has_all(&file);
}
