//! Kiosks that their file names by a MAC address, at starts at which that interface comes late, or not at all.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod kit;

use std::fs;
use std::time::{Duration, Instant};

use kit::{Kiosk, SSH_KEY};
use waypost_kiosk::apply;
use waypost_kiosk::boot_partition::BootPartition;
use waypost_kiosk::disk::RealDisk;
use waypost_kiosk::machine::Machine;

const SERIAL: &str = "10000000abcdef01";
const STICK: &str = "00e04c000007";
const FILE: &str = r#"name = "Clinic"
[kiosk."00:e0:4c:00:00:07"]
name = "Mine"
ssh_keys = ["KEY"]
[[kiosk."00:e0:4c:00:00:07".network]]
wifi = "MineNet"
password = "mine-secret"
[[kiosk."00:e0:4c:00:00:08".network]]
wifi = "TheirNet"
password = "their-secret"
"#;

fn kiosk() -> Kiosk {
    let kiosk = Kiosk::new(SERIAL);
    kiosk.put("waypost.toml", &FILE.replace("KEY", SSH_KEY));
    kiosk
}

fn plug_in(kiosk: &Kiosk) {
    kiosk.write("sys/class/net/eth1/device/uevent", "");
    kiosk.write("sys/class/net/eth1/address", "00:e0:4c:00:00:07\n");
}

fn pull_out(kiosk: &Kiosk) {
    fs::remove_dir_all(kiosk.path("sys/class/net/eth1")).unwrap();
}

/// A start that does not wait for anything.
fn start_at_once(kiosk: &Kiosk) {
    let mut disk = RealDisk::new(&kiosk.path(""));
    let boot = BootPartition { folder: "/boot/firmware".into(), remount: None };
    let machine = Machine::read(&disk);
    let read = apply::read(&disk, &boot, &machine);
    apply::apply(&mut disk, &boot, &machine, read).unwrap();
}

fn file(kiosk: &Kiosk) -> String {
    kiosk.text("boot/firmware/waypost.toml")
}

fn kept(kiosk: &Kiosk) -> String {
    kiosk.text("var/lib/waypost-kiosk/secrets.toml")
}

fn is_mine(kiosk: &Kiosk) {
    assert_eq!(kiosk.settings()["host_name"], "mine");
    assert!(kiosk.connections()[0].1.contains("psk=mine-secret"));
    assert!(kiosk.text("run/waypost-kiosk/authorized_keys/admin").contains(SSH_KEY));
    assert!(kept(kiosk).contains("mine-secret") && !kept(kiosk).contains("their-secret"));
    assert!(!file(kiosk).contains("-secret"), "{}", file(kiosk));
}

#[test]
fn an_interface_that_comes_late_is_waited_for() {
    let kiosk = kiosk();
    let since = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(1200));
            plug_in(&kiosk);
        });
        kiosk.start();
    });
    assert!(since.elapsed() < Duration::from_secs(8), "it waited on: {:?}", since.elapsed());
    is_mine(&kiosk);
}

#[test]
fn a_stick_that_is_pulled_out_does_not_make_another_kiosk_of_it() {
    let kiosk = kiosk();
    plug_in(&kiosk);
    kiosk.start();
    is_mine(&kiosk);
    pull_out(&kiosk);
    let since = Instant::now();
    kiosk.start();
    assert!(since.elapsed() < Duration::from_secs(8), "it waits for what it knows: {:?}", since.elapsed());
    is_mine(&kiosk);
    // The file as it was written, on the card again.
    kiosk.put("waypost.toml", &FILE.replace("KEY", SSH_KEY).replace("mine-secret", "mine-secret-2"));
    kiosk.start();
    assert!(kept(&kiosk).contains("mine-secret-2"), "{}", kept(&kiosk));
    is_mine(&kiosk);
}

#[test]
fn while_no_section_is_its_own_nothing_of_any_is_taken_out_or_forgotten() {
    let kiosk = kiosk();
    start_at_once(&kiosk);
    assert_eq!(kiosk.settings()["host_name"], "clinic");
    assert_eq!(file(&kiosk), FILE.replace("KEY", SSH_KEY));
    plug_in(&kiosk);
    kiosk.start();
    is_mine(&kiosk);
    // Everything that is remembered is lost with the stick pulled out, and with it what its section is.
    fs::remove_file(kiosk.path("var/lib/waypost-kiosk/machine.json")).unwrap();
    pull_out(&kiosk);
    let before = file(&kiosk);
    start_at_once(&kiosk);
    assert_eq!((kiosk.settings()["host_name"].as_str(), file(&kiosk)), (Some("clinic"), before));
    assert!(kept(&kiosk).contains("mine-secret"), "{}", kept(&kiosk));
    plug_in(&kiosk);
    kiosk.start();
    is_mine(&kiosk);
}

#[test]
fn a_card_in_another_board_is_that_boards() {
    let kiosk = kiosk();
    plug_in(&kiosk);
    kiosk.start();
    pull_out(&kiosk);
    kiosk.write("proc/device-tree/serial-number", "10000000abcdef02\0");
    let machine = Machine::read(&RealDisk::new(&kiosk.path("")));
    assert!(!machine.was_called(STICK) && machine.remembered.is_empty(), "{machine:?}");
}

#[test]
fn a_radio_is_called_by_its_own_address_and_not_by_one_that_was_thrown() {
    let kiosk = kiosk();
    kiosk.write("sys/class/net/wlan0/address", "da:a1:19:12:34:56\n");
    kiosk.write("sys/class/net/wlan0/phy80211/macaddress", "b8:27:eb:aa:00:02\n");
    let machine = Machine::read(&RealDisk::new(&kiosk.path("")));
    assert_eq!(machine.macs, ["b827ebaa0001", "b827ebaa0002"]);
}

#[test]
fn where_something_is_wrong_the_kiosk_says_what_it_is_called() {
    let kiosk = kiosk();
    kiosk.put("waypost.toml", "nam = \"x\"\n");
    kiosk.start();
    assert!(kiosk.errors().contains("This kiosk: serial number 10000000abcdef01."), "{}", kiosk.errors());
}
