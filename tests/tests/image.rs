//! The image, as whoever has flashed it has it: it comes up, takes one file, takes documents, and loses none of them to power
//! cuts. `make test-image` builds the image and runs this. What an admin does is taken from docs/install.md.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use waypost_tests::kiosk::{Admin, Board, Card, Guide, Machine, Reach, python, tool};
use waypost_tests::scenario::{Destination, Phone, content, folder, say, wait_until};

/// Emulated, on a machine that does other things besides.
const BOOT: Duration = Duration::from_secs(400);
const SERVES: &str = "Started waypost.service";
const CARD: u64 = 2 << 30;
/// Of the compressed image, in bytes.
const LARGEST: u64 = 250_000_000;
/// Seconds from 1970 to the project's first commit.
const BEGINNING: u64 = 1_770_000_000;

#[test]
fn the_guide_has_an_admin_do_five_things_at_most() {
    let guide = Guide::read();
    assert!((1..=5).contains(&guide.actions().len()), "{:?}", guide.actions());
}

#[test]
#[ignore = "it needs an image: make test-image"]
fn a_kiosk_takes_one_file_and_a_document_and_delivers_it_after_three_power_cuts() {
    let folder = folder();
    let image =
        PathBuf::from(std::env::var_os("WAYPOST_IMAGE").expect("WAYPOST_IMAGE is the folder with the image"));
    let logs = image.join("tried");
    std::fs::create_dir_all(&logs).unwrap();
    let guide = Guide::read();
    let mut destination =
        Destination::make_at(&folder.path().join("destination"), [127, 0, 0, 1].into(), "10.0.2.100");
    let reach = Reach::to(destination.backhaul.address());
    let admin = Admin::make(folder.path());

    // Action 1.
    let packed = image.join("waypost-arm64.img.zst").metadata().unwrap().len();
    assert!(packed <= LARGEST, "the image has {packed} bytes");
    let mut card = flash(&guide, &image, folder.path());
    let (root, small) = (card.digest(2), card.partition(4).size());

    // What an admin may forget: no file at all, and the clock is in 1970.
    let mut machine = Machine::boot(&card, &Board::Virt, &reach, &logs, 1);
    let took = machine.wait_for(SERVES, BOOT);
    say(&format!("without a file, the gateway serves {} s after power-on", took.as_secs()));
    let status = wait_for_text(&machine, &card, "waypost-status.txt");
    let errors = wait_for_text(&machine, &card, "waypost-errors.txt");
    has_no_failed_units(&machine);
    machine.cut(&mut card);
    assert!(status.contains("version") && status.contains("clock"), "{status}");
    assert!(!status.contains("1970"), "the clock begins at the image's time: {status}");
    assert!(errors.contains("waypost-example.toml"), "where to begin is said: {errors}");
    let grown = card.partition(4).size();
    assert!(grown > small * 4, "the data partition has grown: {small} to {grown}");

    // One that nobody can read.
    card.write("waypost.toml", "name = \"Clinic\n[[destination]]\n");
    let mut machine = Machine::boot(&card, &Board::Virt, &reach, &logs, 2);
    machine.wait_for(SERVES, BOOT);
    has_no_failed_units(&machine);
    machine.cut(&mut card);
    let errors = card.read("waypost-errors.txt").expect("what is wrong is said beside the file");
    assert!(errors.contains("line 1") && errors.contains("not TOML"), "{errors}");

    // Actions 2 and 3.
    guide.configure(&card, &destination, &admin, &reach);
    let mut machine = Machine::boot(&card, &Board::Virt, &reach, &logs, 3);
    machine.wait_for(SERVES, BOOT);
    machine.wait_for_ssh(&admin, &reach, BOOT);

    // Action 4.
    let there = |command: &str| machine.run(&admin, &reach, command);
    let status = machine.type_there(&admin, &reach, guide.command(4));
    assert!(status.contains("ministry"), "{status}");
    looks_as_it_should(&there);
    // What a timer does.
    there("systemctl start waypost-clock.service");
    let time: u64 = there("date +%s").trim().parse().unwrap();

    // Action 5, with the screen and without.
    let code = wait_until("a code is on the screen", || machine.code_on_screen());
    let phone = Phone::make(&folder.path().join("phone"), "amina");
    phone.add_destination(&destination);
    let paired = phone.run(&["pair", &code]);
    assert!(paired.last()["report"]["key"].is_string(), "{paired:?}");
    let printed = machine.type_there(&admin, &reach, guide.command(5));
    let other =
        printed.split_whitespace().find(|word| word.starts_with("waypost://pair?")).expect("a code as text");
    assert_ne!(other, code);
    let (form, photo, late) = (content(1, 1_000), content(2, 1_000_000), content(3, 2_000));
    phone.add(&[("form", &form), ("photo", &photo)]);
    assert_eq!(phone.sync()["transferred"], 2);
    machine.cut(&mut card);

    // In the middle of the start, and right after a document was taken.
    let mut machine = Machine::boot(&card, &Board::Virt, &reach, &logs, 4);
    machine.wait_for("Mounted data.mount", BOOT);
    machine.cut(&mut card);
    let mut machine = Machine::boot(&card, &Board::Virt, &reach, &logs, 5);
    machine.wait_for(SERVES, BOOT);
    phone.add(&[("late", &late)]);
    wait_until_transferred(&phone, 1);
    machine.cut(&mut card);

    // What was acknowledged is there, and goes out when a way out is there.
    destination.start();
    let machine = Machine::boot(&card, &Board::Virt, &reach, &logs, 6);
    wait_for_inbox(&destination, 3);
    say(&format!("delivered {} s after power-on", machine.running().as_secs()));
    let mut contents: Vec<Vec<u8>> = destination.inbox().into_values().collect();
    contents.sort_by_key(Vec::len);
    assert_eq!(contents, [form, late, photo]);
    let report = wait_until_synced(&phone);
    assert_eq!(report["unconfirmed"], 0, "{report}");
    machine.wait_for_ssh(&admin, &reach, BOOT);
    let text = machine.run(&admin, &reach, "cat /boot/firmware/waypost.toml");
    assert!(text.contains("\"(kept)\"") && !text.contains(destination.token()), "{text}");
    assert_eq!(
        machine.run(&admin, &reach, "systemctl --failed --no-legend --plain").trim(),
        "",
        "units have failed"
    );
    let later: u64 = machine.run(&admin, &reach, "date +%s").trim().parse().unwrap();
    assert!(later >= time, "the clock went back with the power: {time} to {later}");
    machine.cut(&mut card);
    assert_eq!(card.digest(2), root, "the root is as it was flashed");
    assert_eq!(card.read("waypost-errors.txt"), None);
}

#[test]
#[ignore = "it needs an image: make test-image"]
fn the_bill_of_materials_is_one_and_names_what_the_kiosk_is_made_of() {
    let image =
        PathBuf::from(std::env::var_os("WAYPOST_IMAGE").expect("WAYPOST_IMAGE is the folder with the image"));
    let bill = image.join("waypost-arm64.img.cdx.json");
    let ran = Command::new(python("bill.txt", &[])).arg(tool("bill.py")).arg(&bill).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let bill: Value = serde_json::from_slice(&std::fs::read(bill).unwrap()).unwrap();
    let names: Vec<_> =
        bill["components"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    for name in ["waypost", "bluez", "linux-image-arm64", "sequoia-openpgp"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
}

/// The guide's first action, on a file that is the card.
fn flash(guide: &Guide, image: &Path, folder: &Path) -> Card {
    let flashed = folder.join("flashed.img");
    let script = guide.block(1, "sh").replace("sudo ", "").replace("/dev/sdX", flashed.to_str().unwrap());
    let ran =
        Command::new("bash").args(["-euo", "pipefail", "-c", &script]).current_dir(image).output().unwrap();
    assert!(ran.status.success(), "{script}{}", String::from_utf8_lossy(&ran.stderr));
    let card = Card::flash(&flashed, CARD);
    std::fs::remove_file(flashed).unwrap();
    card
}

/// What an admin would look at.
fn looks_as_it_should(there: &dyn Fn(&str) -> String) {
    assert_eq!(there("systemctl --failed --no-legend --plain").trim(), "", "units have failed");
    assert_eq!(there("hostname").trim(), "clinic-mbale");
    assert!(there("date").contains("EAT"), "the time zone is Kampala's");
    let now: u64 = there("date +%s").trim().parse().unwrap();
    assert!(now >= BEGINNING, "the clock is not behind the image: {now}");
    assert_eq!(there("swapon --show").trim(), "");
    assert_eq!(there("findmnt --noheadings --output FSTYPE /").trim(), "overlay");
    assert!(there("findmnt --noheadings --output OPTIONS /media/root-ro").starts_with("ro"));
    assert_eq!(there("findmnt --noheadings --output FSTYPE /var/lib/waypost").trim(), "ext4");
    assert_eq!(there("systemctl show --property=RuntimeWatchdogUSec --value").trim(), "15s");
    assert_eq!(there("cat /sys/class/watchdog/watchdog0/state").trim(), "active");
    assert!(there("journalctl --unit systemd-journald --output cat --no-pager").contains("max 64M"));
    assert_eq!(there("cat /etc/bluetooth/main.conf"), include_str!("../../systemd/bluetooth/main.conf"));
    assert!(there("systemctl show --property=ExecStart chrony.service").contains("-F 1 -s"));
    let boots =
        there("journalctl --list-boots --no-pager").lines().filter(|line| !line.contains("IDX")).count();
    assert!(boots >= 3, "the journal has the boots before: {boots}");
    assert!(there("nmcli --terse --fields STATE general").contains("connected"));
    let screen = there("cat /dev/vcs1");
    assert!(screen.contains("Clinic Mbale") && screen.contains("eth0 10.0.2.15"), "{screen}");
    let security = there("systemd-analyze security --no-pager waypost.service");
    let line =
        security.lines().find(|line| line.contains("Overall exposure")).expect("systemd-analyze says it");
    let exposure: f64 = line.split_whitespace().find_map(|word| word.parse().ok()).expect("a number");
    assert!(exposure <= 1.5, "{line}");
    say(line.trim());
    say(&format!("memory: {}", there("free -m").lines().nth(1).unwrap_or_default()));
}

fn has_no_failed_units(machine: &Machine) {
    let console = machine.console();
    for sign in ["[FAILED]", "[DEPEND]", "[ TIME ]"] {
        assert!(!console.contains(sign), "{console}");
    }
}

/// A text on the card that the kiosk writes when it has come up.
fn wait_for_text(machine: &Machine, card: &Card, name: &str) -> String {
    loop {
        if let Some(text) = card.read(name).filter(|text| text.ends_with('\n')) {
            return text;
        }
        assert!(machine.running() < BOOT, "no {name}: {}", machine.console());
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn wait_until_transferred(phone: &Phone, count: u64) {
    let begun = Instant::now();
    while phone.try_run(&["sync"]).last()["transferred"] != count {
        assert!(begun.elapsed() < BOOT, "the kiosk takes nothing");
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn wait_for_inbox(destination: &Destination, count: usize) {
    let begun = Instant::now();
    while destination.inbox().len() < count {
        assert!(begun.elapsed() < BOOT, "not delivered: {:?}", destination.inbox().keys());
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn wait_until_synced(phone: &Phone) -> Value {
    wait_until("the phone has its confirmations", || {
        let ran = phone.try_run(&["sync"]);
        let report = ran.last();
        (report["unconfirmed"] == 0).then(|| report.clone())
    })
}
