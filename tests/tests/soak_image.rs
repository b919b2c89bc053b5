//! The image on an emulated Raspberry Pi 3, over many power cuts: nothing that a phone was told is stored is ever missing. And
//! how soon after power-on phones see it. `make soak-image` builds the image and runs this, for hours.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use serde_json::{Value, json};
use waypost_tests::kiosk::{Admin, Board, Card, Guide, Machine, Reach, extra_unit, python, tool};
use waypost_tests::process::Process;
use waypost_tests::scenario::{Destination, Phone, content, folder, program, run_well, say};

/// Emulated, on a machine that does other things besides.
const BOOT: Duration = Duration::from_secs(900);
const SERVES: &str = "Started waypost.service";
/// The last that a board says that does nothing but start.
const IS_UP: &str = "Reached target multi-user.target";
/// The emulated card reader takes powers of two.
const CARD: u64 = 2 << 30;
/// The power goes within so many times what the first start took, which also grew the data partition and made keys: about
/// every other time while documents come.
const CUT_WITHIN: f64 = 2.0;
/// The power goes so often within a start. What the last one of them leaves is where the next start begins; what the others would
/// have left, at their moments, is looked at on this machine.
const CUTS_OF_A_START: u32 = 20;
/// So often the very first start is cut off, which grows the data partition and makes keys, at moments within so long.
const CUTS_OF_THE_FIRST: u32 = 2;
const FIRST: Duration = Duration::from_secs(150);
/// After so many starts the destination is reached once, and must have all that phones were told is stored.
const STARTS_TO_DELIVERY: u32 = 3;
/// How much later than a bare board is up the kiosk may advertise.
const MOST: f64 = 1.5;
/// What the image would start of ours.
const OURS: [&str; 10] = [
    "waypost-clock.timer",
    "waypost.service",
    "waypost-grow.service",
    "waypost-kiosk.service",
    "waypost-kiosk-console.service",
    "waypost-kiosk-status.service",
    "waypost-kiosk-status.timer",
    "waypost-modems.service",
    "waypost-ssh-key.service",
    "waypost-wifi.timer",
];

struct Soak {
    folder: PathBuf,
    card: Card,
    reach: Reach,
    admin: Admin,
    boots: u32,
}

impl Soak {
    fn boot(&mut self, controller: Option<PathBuf>, arguments: &str) -> Machine {
        self.boots += 1;
        let board = Board::Pi3 { controller, arguments: arguments.to_owned() };
        Machine::boot(&self.card, &board, &self.reach, &self.folder, self.boots % 4)
    }
}

/// Where the image is, and a folder for what is printed.
fn image() -> PathBuf {
    std::env::var_os("WAYPOST_IMAGE").expect("WAYPOST_IMAGE is the folder with the image").into()
}

fn number_of(variable: &str, otherwise: u32) -> u32 {
    let said = std::env::var(variable).ok().filter(|text| !text.is_empty());
    said.map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn soak(destination: &Destination, folder: &Path) -> Soak {
    let logs = image().join("soaked");
    std::fs::create_dir_all(&logs).unwrap();
    let card = Card::flash(&image().join("waypost-arm64.img"), CARD);
    let (reach, admin) = (Reach::to(destination.backhaul.address()), Admin::make(folder));
    Guide::read().configure(&card, destination, &admin, &reach, "");
    Soak { folder: logs, card, reach, admin, boots: 0 }
}

#[test]
#[ignore = "it needs an image and hours: make soak-image"]
fn nothing_that_was_acknowledged_is_missing_after_many_power_cuts() {
    let cuts = number_of("WAYPOST_CUTS", 100);
    let seed = number_of("WAYPOST_SEED", 1);
    let folder = folder();
    let mut destination =
        Destination::make_at(&folder.path().join("destination"), [127, 0, 0, 1].into(), "10.0.2.100");
    let mut soak = soak(&destination, folder.path());
    let root = soak.card.digest(2);
    let phone = Phone::make(&folder.path().join("phone"), "amina");
    phone.add_destination(&destination);

    let mut rng = ChaCha20Rng::seed_from_u64(seed.into());
    let mut random = || f64::from(rng.next_u32()) / f64::from(u32::MAX);
    for _ in 0..CUTS_OF_THE_FIRST {
        let (machine, moment) = (soak.boot(None, ""), Duration::from_secs(10) + FIRST.mul_f64(random()));
        std::thread::sleep(moment);
        say(&format!("the first start is cut off after {} s: {}", moment.as_secs(), last_line(&machine)));
        machine.cut(&mut soak.card);
    }
    let mut machine = soak.boot(None, "");
    let cut_within = machine.wait_for(SERVES, BOOT).mul_f64(CUT_WITHIN);
    say(&format!("the power goes within {} s", cut_within.as_secs()));
    machine.wait_for_ssh(&soak.admin, &soak.reach, BOOT);
    let room = machine.run(&soak.admin, &soak.reach, "findmnt --noheadings --bytes --output SIZE /data");
    assert!(room.trim().parse::<u64>().unwrap() > CARD / 4, "the data partition has grown: {room}");
    let pairing: Value =
        serde_json::from_str(&machine.run(&soak.admin, &soak.reach, "waypost --json pair")).unwrap();
    phone.run(&["pair", pairing["text"].as_str().unwrap()]);
    machine.cut(&mut soak.card);

    let (mut cut, mut starts, mut up, mut forms, begun) = (0, 0, 0, 0, Instant::now());
    while cut < cuts {
        let mut moments = Vec::new();
        for _ in 0..CUTS_OF_A_START.min(cuts - cut) {
            moments.push(Duration::from_secs(5) + cut_within.mul_f64(random()));
        }
        moments.sort();
        (cut, starts) = (cut + u32::try_from(moments.len()).unwrap(), starts + 1);
        let machine = soak.boot(None, "");
        let told = cut_while_syncing(machine, &mut soak.card, &moments, &phone, &mut forms);
        up += told;
        assert!(cut < 40 || up > 0, "the kiosk never gets as far as taking documents within {cut_within:?}");
        let text = soak.card.read("waypost.toml").expect("the file is there");
        assert!(
            text.contains("name = \"Clinic Mbale\"") && text.contains("\"(kept)\""),
            "after cut {cut}: {text}"
        );
        let mut documents = destination.inbox().len();
        if starts % STARTS_TO_DELIVERY == 0 || cut >= cuts {
            documents = deliver(&mut soak, &mut destination, &phone);
            assert_eq!(soak.card.digest(2), root, "the root is as it was flashed");
            assert!(documents > 0);
        }
        print(&json!({
            "power_cuts": cut, "boards_stopped": starts, "cards_looked_at": cut - starts,
            "of_the_first_start_besides": CUTS_OF_THE_FIRST, "after_documents_came": up, "delivered": documents,
            "at_the_kiosk": at_the_kiosk(&phone).len(), "seed": seed, "minutes": begun.elapsed().as_secs() / 60,
            "root_partition": root,
        }));
    }
}

fn last_line(machine: &Machine) -> String {
    machine.console().lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// New documents as long as the power is there, whatever the phone is doing when it goes, which it does at these moments. Answers
/// how many of them came after a document that the kiosk had not had at the start.
fn cut_while_syncing(
    machine: Machine,
    card: &mut Card,
    moments: &[Duration],
    phone: &Phone,
    forms: &mut u64,
) -> u32 {
    let is_over = AtomicBool::new(false);
    /// However this ends, the phone's thread does.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let before = at_the_kiosk(phone);
    let told = Mutex::new(before.clone());
    let mut after_new = 0;
    std::thread::scope(|scope| {
        let end = End(&is_over);
        scope.spawn(|| {
            let mut is_new = true;
            while !is_over.load(Relaxed) {
                if is_new {
                    *forms += 1;
                    let size = 1_000 + usize::try_from(*forms % 7).unwrap() * 60_000;
                    phone.add(&[(&format!("form-{forms}"), &content(*forms, size))]);
                }
                is_new = phone.try_run(&["sync"]).last()["transferred"].as_u64() > Some(0);
                *told.lock().unwrap() = at_the_kiosk(phone);
                if !is_new {
                    std::thread::sleep(Duration::from_millis(300));
                }
            }
        });
        for (number, moment) in moments.iter().enumerate() {
            std::thread::sleep(moment.saturating_sub(machine.running()));
            let told = told.lock().unwrap().clone();
            after_new += u32::from(told.len() > before.len());
            if number + 1 < moments.len() {
                let left = card.left_by_cut();
                scope.spawn(move || has_all(&left, &told));
            }
        }
        machine.cut(card);
        drop(end);
    });
    after_new
}

/// What e2fsck says of a transaction whose commit block does not have its checksum (e2fsck/problem.c), where it then stops: as
/// jbd2 does with the last one (Linux, fs/jbd2/recovery.c).
const TORN: &str = " was corrupt, replay was aborted.";

/// A card as a cut would have left it: nothing is wrong with its file systems but what their journals mend, and what the phone
/// was told is stored is there.
fn has_all(card: &Card, told: &BTreeMap<String, String>) {
    let folder = folder();
    let data = folder.path().join("data");
    let said = card.mended_data(&data);
    // The last transaction, whose commit block was being written: of eight sectors some were. Nobody was told that it is stored.
    let (torn, said): (Vec<&str>, Vec<&str>) =
        said.lines().partition(|line| line.starts_with("Journal transaction ") && line.ends_with(TORN));
    assert!(torn.len() <= 1, "{torn:?}");
    let said = said.join("\n");
    for bad in ["INCONSISTENCY", "corrupt", "claimed", "nattached", "nvalid"] {
        assert!(!said.contains(bad), "{said}");
    }
    let dump = format!("rdump /waypost /kiosk {}", folder.path().display());
    let ran = Command::new("debugfs").arg("-R").arg(dump).arg(&data).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    has_its_configuration(&folder.path().join("kiosk"));
    is_a_sound_fat(card, folder.path());
    let look = |arguments: &[&str]| {
        let mut command = Command::new(program("waypost"));
        command.arg("--json").arg("--store").arg(folder.path().join("waypost/store")).args(arguments);
        run_well(command.env("TMPDIR", folder.path()))
    };
    look(&["store", "check"]);
    let listed = look(&["documents", "list"]).said;
    for (name, id) in told {
        let is_there = listed.iter().any(|one| one["id"] == id.as_str());
        assert!(is_there, "{name} is lost, though acknowledged: {listed:?}");
    }
    let text = card.read("waypost.toml").expect("the file is there");
    assert!(text.contains("name = \"Clinic Mbale\"") && text.contains("\"(kept)\""), "{text}");
}

/// A whole generation holds, and what is not in the file any more is kept.
fn has_its_configuration(kiosk: &Path) {
    let read =
        |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let current = kiosk.join(fs::read_link(kiosk.join("current")).unwrap());
    for name in ["settings.json", "made-of.json"] {
        serde_json::from_str::<Value>(&read(&current.join(name))).unwrap();
    }
    assert!(fs::read_dir(current.join("gateway.d")).unwrap().count() > 0, "the gateway has its drop-in");
    let secrets = read(&kiosk.join("secrets.toml"));
    assert!(secrets.contains("the password"), "{secrets}");
}

/// It has no journal: what was being written may be clusters that are nobody's, never a file that has lost some, nor two that
/// share one.
fn is_a_sound_fat(card: &Card, folder: &Path) {
    let partition = folder.join("boot");
    card.copy_partition(1, &partition);
    let ran = Command::new("fsck.fat").args(["-n", "-v"]).arg(&partition).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(said.contains("Checking for unused clusters"), "it came to its end: {said}");
    for bad in ["share clusters", "Circular", "Contains a", "ad file name", "Truncating"] {
        assert!(!said.contains(bad), "{said}");
    }
}

/// What the phone was told is stored, by name, with its id.
fn at_the_kiosk(phone: &Phone) -> BTreeMap<String, String> {
    let listed = phone.list(false);
    let told = listed.iter().filter(|one| one["state"] == "at-the-kiosk");
    let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    told.map(|one| (text(one, "name"), text(one, "id"))).collect()
}

/// The destination is reached, and gets all that was acknowledged from the kiosk alone; then the phone may forget it. Answers
/// how many documents it has by now.
fn deliver(soak: &mut Soak, destination: &mut Destination, phone: &Phone) -> usize {
    let told = at_the_kiosk(phone);
    destination.start();
    let machine = soak.boot(None, "");
    loop {
        let there = destination.inbox();
        let missing: Vec<_> = told.keys().filter(|name| !there.contains_key(*name)).collect();
        if missing.is_empty() {
            break;
        }
        assert!(machine.running() < BOOT, "lost, though acknowledged: {missing:?}; {}", machine.console());
        std::thread::sleep(Duration::from_secs(2));
    }
    while !at_the_kiosk(phone).is_empty() {
        assert!(machine.running() < BOOT, "no confirmations: {:?}", phone.list(false));
        phone.try_run(&["sync"]);
        std::thread::sleep(Duration::from_secs(1));
    }
    for (name, bytes) in destination.inbox() {
        let number: u64 = name.strip_prefix("form-").unwrap().parse().unwrap();
        assert_eq!(bytes, content(number, bytes.len()), "{name} is as it was sent");
    }
    machine.wait_for_ssh(&soak.admin, &soak.reach, BOOT);
    let there = |command: &str| machine.run(&soak.admin, &soak.reach, command);
    assert_eq!(there("systemctl --failed --no-legend --plain").trim(), "", "units have failed");
    // Of all starts that the journal still has.
    let boots = there("journalctl --list-boots --no-pager --quiet");
    assert!(boots.lines().count() > 1, "{boots}");
    let found = there(
        "journalctl --identifier=kernel --identifier=systemd-fsck --no-pager --quiet --output cat --grep='EXT4-fs.error|UNEXPECTED.INCONSISTENCY|with.errors' || true",
    );
    assert_eq!(found.trim(), "", "of the data's file system");
    machine.cut(&mut soak.card);
    destination.kill9();
    destination.inbox().len()
}

#[test]
#[ignore = "it needs an image: make soak-image"]
fn phones_see_the_kiosk_hardly_later_than_a_board_that_only_starts_is_up() {
    let folder = folder();
    let destination =
        Destination::make_at(&folder.path().join("destination"), [127, 0, 0, 1].into(), "10.0.2.100");
    let mut soak = soak(&destination, folder.path());
    let attach = "[Service]\nExecStart=/usr/bin/btattach -B /dev/ttyAMA0 -P h4\n";
    let attach = extra_unit("attach", attach);
    let bare = OURS.map(|unit| format!("systemd.mask={unit}")).join(" ");
    let socket = soak.folder.join("controller");

    // The first boot grows the data partition, moves secrets and makes keys.
    let mut pairs = Vec::new();
    for round in 0..=number_of("WAYPOST_PAIRS", 3) {
        let mut controller = Process::start(controller(&socket), soak.folder.join("controller.txt")).unwrap();
        controller.wait_for("listening", BOOT).unwrap();
        let mut machine = soak.boot(Some(socket.clone()), &attach);
        let running = machine.running();
        let begun = Instant::now();
        if let Err(error) = controller.wait_for("advertised", BOOT) {
            panic!("{error}\n{}", machine.console());
        }
        let ours = running + begun.elapsed();
        machine.wait_for(IS_UP, BOOT);
        machine.cut(&mut soak.card);
        drop(controller);
        let mut machine = soak.boot(None, &bare);
        let theirs = machine.wait_for(IS_UP, BOOT);
        machine.cut(&mut soak.card);
        say(&format!(
            "advertised after {:.1} s, a bare board was up after {:.1} s",
            ours.as_secs_f64(),
            theirs.as_secs_f64()
        ));
        if round > 0 {
            pairs.push((ours.as_secs_f64(), theirs.as_secs_f64()));
        }
    }
    pairs.sort_by(|one, other| (one.0 / one.1).total_cmp(&(other.0 / other.1)));
    let (ours, theirs) = pairs[pairs.len() / 2];
    assert!(ours <= theirs * MOST, "advertised after {ours} s, where a bare board is up after {theirs} s");
    print(&json!({
        "first_advertisement_s": (ours * 10.0).round() / 10.0, "bare_boot_s": (theirs * 10.0).round() / 10.0,
        "ratio": (ours / theirs * 100.0).round() / 100.0, "pairs": pairs.len(),
    }));
}

#[test]
#[ignore = "it needs an image: make soak-image"]
fn a_kiosk_whose_data_is_destroyed_lets_its_admin_in_and_keeps_nothing_nor_the_secrets() {
    let folder = folder();
    let destination =
        Destination::make_at(&folder.path().join("destination"), [127, 0, 0, 1].into(), "10.0.2.100");
    let soak = soak(&destination, folder.path());
    soak.card.destroy(4);
    let mut card = soak.card;
    let machine = Machine::boot(&card, &Board::Virt { has_network: true }, &soak.reach, &soak.folder, 9);
    machine.wait_for_ssh(&soak.admin, &soak.reach, BOOT);
    let there = |command: &str| machine.run(&soak.admin, &soak.reach, command);
    assert_eq!(there("systemctl is-active waypost.service || true").trim(), "inactive");
    assert!(there("cat /boot/firmware/waypost-errors.txt").contains("data"), "it is said");
    let text = there("cat /boot/firmware/waypost.toml");
    assert!(text.contains(destination.token()) && !text.contains("(kept)"), "{text}");
    machine.cut(&mut card);
    let text = card.read("waypost.toml").unwrap();
    assert!(text.contains(destination.token()), "{text}");
}

#[test]
#[ignore = "it needs an image: make soak-image"]
fn a_kiosk_whose_file_system_had_an_error_starts_anew_and_keeps_what_it_had() {
    let folder = folder();
    let mut destination =
        Destination::make_at(&folder.path().join("destination"), [127, 0, 0, 1].into(), "10.0.2.100");
    let mut soak = soak(&destination, folder.path());
    let phone = Phone::make(&folder.path().join("phone"), "amina");
    phone.add_destination(&destination);
    let machine = Machine::boot(&soak.card, &Board::Virt { has_network: true }, &soak.reach, &soak.folder, 8);
    machine.wait_for_ssh(&soak.admin, &soak.reach, BOOT);
    let there = |command: &str| machine.run(&soak.admin, &soak.reach, command);
    let pairing: Value = serde_json::from_str(&there("waypost --json pair")).unwrap();
    phone.run(&["pair", pairing["text"].as_str().unwrap()]);
    phone.add(&[("form-1", &content(1, 1_000))]);
    assert_eq!(phone.sync()["transferred"], 1);

    machine.run_script(&soak.admin, &soak.reach, &tool("fail-file-system.sh"));
    phone.add(&[("form-2", &content(2, 1_000))]);
    phone.try_run(&["sync"]);
    machine.wait_for_restart(BOOT);
    assert!(machine.console().contains("reboot: Restarting system"), "{}", machine.console());
    drop(machine);
    let repairs = soak.card.read("waypost-repairs.txt").expect("it is written down");
    assert_eq!(repairs.lines().count(), 1, "{repairs}");
    destination.start();
    let machine = Machine::boot(&soak.card, &Board::Virt { has_network: true }, &soak.reach, &soak.folder, 7);
    while destination.inbox().len() < 2 {
        assert!(machine.running() < BOOT, "not delivered: {:?}", destination.inbox().keys());
        phone.try_run(&["sync"]);
        std::thread::sleep(Duration::from_secs(1));
    }
    machine.wait_for_ssh(&soak.admin, &soak.reach, BOOT);
    let errors = machine.run(&soak.admin, &soak.reach, "cat /sys/fs/ext4/vda4/errors_count");
    assert_eq!(errors.trim(), "0", "it is repaired");
    let screen = machine.run(&soak.admin, &soak.reach, "cat /dev/vcs1");
    assert!(screen.contains("repaired"), "{screen}");
    machine.cut(&mut soak.card);
}

fn controller(socket: &Path) -> Command {
    drop(std::fs::remove_file(socket));
    let mut command = Command::new(python("controller.txt", &["--no-deps"]));
    command.arg(tool("controller.py")).arg(socket);
    command
}

/// A line of JSON, on the screen and kept beside the image.
fn print(line: &Value) {
    say(&line.to_string());
    let kept = std::fs::OpenOptions::new().create(true).append(true).open(image().join("soak.jsonl"));
    writeln!(kept.unwrap(), "{line}").unwrap();
}
