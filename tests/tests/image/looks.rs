//! What is looked at on a card and a board, and waited for.

use super::*;

/// The folder that the image was built in.
pub(crate) fn image() -> PathBuf {
    std::env::var_os("WAYPOST_IMAGE").expect("WAYPOST_IMAGE is the folder with the image").into()
}

pub(crate) fn digest(path: &Path) -> String {
    let mut hash = Sha256::new();
    std::io::copy(&mut fs::File::open(path).unwrap(), &mut hash).unwrap();
    format!("{:x}", hash.finalize())
}

/// The guide's first action, on a file that is the card.
pub(crate) fn flash(guide: &Guide, folder: &Path) -> Card {
    let flashed = folder.join("flashed.img");
    let script = guide.block(1, "sh").replace("sudo ", "").replace("/dev/sdX", flashed.to_str().unwrap());
    let ran =
        Command::new("bash").args(["-euo", "pipefail", "-c", &script]).current_dir(image()).output().unwrap();
    assert!(ran.status.success(), "{script}{}", String::from_utf8_lossy(&ran.stderr));
    let card = Card::flash(&flashed, CARD);
    fs::remove_file(flashed).unwrap();
    card
}

/// What an admin would look at.
pub(crate) fn looks_as_it_should(there: &dyn Fn(&str) -> String) {
    assert_eq!(there("systemctl --failed --no-legend --plain").trim(), "", "units have failed");
    assert_eq!(there("hostname").trim(), "clinic-mbale");
    let units = ["waypost-kiosk-status.timer", "waypost-clock.timer", "waypost-wifi.timer"];
    let of_wifi_direct = ["waypost-wifi-firewall.timer", "systemd-networkd.service"];
    for unit in [&units[..], &of_wifi_direct].concat() {
        assert_eq!(there(&format!("systemctl is-active {unit}")).trim(), "active", "{unit}");
    }
    let rules = there("nft list table inet waypost");
    assert!(rules.contains("tcp dport 4180 accept") && rules.contains("oifname \"p2p-*\" drop"), "{rules}");
    // Once: every unit that is started wants it.
    assert_eq!(there("systemctl is-active waypost-grow.service").trim(), "active");
    assert!(there("date").contains("CAT"), "the time zone is Lusaka's, by the kiosk's own section");
    let now: u64 = there("date +%s").trim().parse().unwrap();
    assert!(now >= BEGINNING, "the clock is not behind the image: {now}");
    assert_eq!(there("swapon --show").trim(), "");
    assert_eq!(there("findmnt --noheadings --output FSTYPE /").trim(), "overlay");
    assert!(there("findmnt --noheadings --output OPTIONS /media/root-ro").starts_with("ro"));
    assert_eq!(there("findmnt --noheadings --output FSTYPE /var/lib/waypost").trim(), "ext4");
    let room = there("findmnt --noheadings --bytes --output SIZE /data");
    assert!(
        room.trim().parse::<u64>().unwrap() > CARD / 4,
        "the file system has grown with its partition: {room}"
    );
    let image = there("cat /etc/os-release");
    let version = format!("IMAGE_VERSION={}\n", env!("CARGO_PKG_VERSION"));
    assert!(image.contains("IMAGE_ID=waypost\n") && image.contains(&version), "{image}");
    assert_eq!(there("systemctl show --property=RuntimeWatchdogUSec --value").trim(), "15s");
    assert_eq!(there("cat /sys/class/watchdog/watchdog0/state").trim(), "active");
    assert!(there("journalctl --unit systemd-journald --output cat --no-pager").contains("max 64M"));
    assert_eq!(there("cat /etc/bluetooth/main.conf"), include_str!("../../../systemd/bluetooth/main.conf"));
    assert!(there("systemctl show --property=ExecStart chrony.service").contains("-F 1 -s"));
    let boots =
        there("journalctl --list-boots --no-pager").lines().filter(|line| !line.contains("IDX")).count();
    assert!(boots >= 3, "the journal has the boots before: {boots}");
    assert!(there("nmcli --terse --fields STATE general").starts_with("connected"));
    assert_eq!(there(MANAGES_MODEMS).trim(), "inactive", "no mobile network is configured");
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

/// Nor had one to be started anew, or was not started at all, once all have started.
pub(crate) fn has_no_failed_units(machine: &mut Machine) {
    machine.wait_for(LOOKED_AT, BOOT);
    let console = machine.console();
    for sign in [FAILED, "[FAILED]", "[DEPEND]", "[ TIME ]"] {
        assert!(!console.contains(sign), "{console}");
    }
}

/// How many lines of the boot partition, also where no file is any more, are like this.
pub(crate) fn lines_like(pattern: &str, card: &Card, folder: &Path) -> u32 {
    let partition = folder.join("boot");
    card.copy_partition(1, &partition);
    let ran = Command::new("grep").args(["--text", "--count", "--regexp", pattern]).arg(&partition).output();
    fs::remove_file(partition).unwrap();
    String::from_utf8(ran.unwrap().stdout).unwrap().trim().parse().unwrap()
}

/// A text on the card that the kiosk writes when it has come up.
pub(crate) fn wait_for_text(machine: &Machine, card: &Card, name: &str) -> String {
    loop {
        if let Some(text) = card.read(name).filter(|text| text.ends_with('\n')) {
            return text;
        }
        assert!(machine.running() < BOOT, "no {name}: {}", machine.console());
        std::thread::sleep(Duration::from_secs(1));
    }
}

pub(crate) fn wait_until_transferred(phone: &Phone, count: u64) {
    let begun = Instant::now();
    while phone.try_run(&["sync"]).last()["transferred"] != count {
        assert!(begun.elapsed() < BOOT, "the kiosk takes nothing");
        std::thread::sleep(Duration::from_secs(1));
    }
}

pub(crate) fn wait_for_inbox(destination: &Destination, count: usize) {
    let begun = Instant::now();
    while destination.inbox().len() < count {
        assert!(begun.elapsed() < BOOT, "not delivered: {:?}", destination.inbox().keys());
        std::thread::sleep(Duration::from_secs(1));
    }
}

pub(crate) fn wait_until_synced(phone: &Phone) -> Value {
    wait_until("the phone has its confirmations", || {
        let ran = phone.try_run(&["sync"]);
        let report = ran.last();
        (report["unconfirmed"] == 0).then(|| report.clone())
    })
}
