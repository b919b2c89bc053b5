//! The image, as whoever has flashed it has it: it comes up, takes one file, takes documents, and loses none of them to power
//! cuts. `make test-image` builds the image and runs this.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use waypost_tests::kiosk::{Admin, Card, Machine, Reach};
use waypost_tests::scenario::{Destination, Phone, content, folder, say, wait_until};

/// Emulated, on a machine that does other things besides.
const BOOT: Duration = Duration::from_secs(400);
const SERVES: &str = "Started waypost.service";
const CARD: u64 = 2 << 30;

#[test]
#[ignore = "it needs an image: make test-image"]
fn a_kiosk_takes_one_file_and_a_document_and_delivers_it_after_three_power_cuts() {
    let folder = folder();
    let logs =
        PathBuf::from(std::env::var_os("WAYPOST_IMAGE").expect("WAYPOST_IMAGE is the folder with the image"));
    let mut destination =
        Destination::make_at(&folder.path().join("destination"), [127, 0, 0, 1].into(), "10.0.2.100");
    let reach = Reach::to(destination.backhaul.address());
    let admin = Admin::make(folder.path());
    let mut card = Card::flash(&logs.join("waypost-arm64.img"), CARD);
    let (root, small) = (card.digest(2), card.partition(4).size());

    // Without any file, and with the clock in 1970.
    let mut machine = Machine::boot(&card, &reach, &logs, 1);
    let took = machine.wait_for(SERVES, BOOT);
    say(&format!("without a file, the gateway serves {} s after power-on", took.as_secs()));
    // The console cuts long lines.
    machine.wait_for("Finished waypost-kiosk-status.serv", BOOT);
    assert!(!machine.console().contains("FAILED"), "{}", machine.console());
    machine.cut(&mut card);
    let status = card.read("waypost-status.txt").expect("the kiosk says how it is");
    assert!(status.contains("Version"), "{status}");
    assert_eq!(card.read("waypost-errors.txt"), None);
    let grown = card.partition(4).size();
    assert!(grown > small * 4, "the data partition has grown: {small} to {grown}");

    // With one that nobody can read.
    card.write("waypost.toml", "name = \"Clinic\n[[destination]]\n");
    let mut machine = Machine::boot(&card, &reach, &logs, 2);
    machine.wait_for(SERVES, BOOT);
    assert!(!machine.console().contains("FAILED"), "{}", machine.console());
    machine.cut(&mut card);
    let errors = card.read("waypost-errors.txt").expect("what is wrong is said beside the file");
    assert!(errors.contains("line 1") && errors.contains("not TOML"), "{errors}");

    // With a good one.
    card.write("clinic.pgp", &armored(&destination));
    card.write("clinic-ca.pem", &std::fs::read_to_string(destination.authority()).unwrap());
    card.write("waypost.toml", &configuration(&destination, &admin, &reach));
    let mut machine = Machine::boot(&card, &reach, &logs, 3);
    machine.wait_for(SERVES, BOOT);
    machine.wait_for_ssh(&admin, &reach, BOOT);
    let there = |command: &str| machine.run(&admin, &reach, command);
    looks_as_it_should(&there);

    let pairing: Value = serde_json::from_str(&there("waypost --json pair")).unwrap();
    let phone = Phone::make(&folder.path().join("phone"), "amina");
    phone.add_destination(&destination);
    let paired = phone.run(&["pair", pairing["text"].as_str().unwrap()]);
    assert!(paired.last()["report"]["key"].is_string(), "{paired:?}");
    let (form, photo) = (content(1, 1_000), content(2, 1_000_000));
    phone.add(&[("form", &form), ("photo", &photo)]);
    assert_eq!(phone.sync()["transferred"], 2);
    machine.cut(&mut card);

    // What was acknowledged is there, and goes out when a way out is there.
    destination.start();
    let machine = Machine::boot(&card, &reach, &logs, 4);
    wait_for_inbox(&destination, 2);
    let mut contents: Vec<Vec<u8>> = destination.inbox().into_values().collect();
    contents.sort_by_key(Vec::len);
    assert_eq!(contents, [form, photo]);
    let report = wait_until_synced(&phone);
    assert_eq!(report["unconfirmed"], 0, "{report}");
    let text = card_text(&machine, &admin, &reach);
    assert!(text.contains("\"(kept)\"") && !text.contains(destination.token()), "{text}");
    machine.cut(&mut card);
    assert_eq!(card.digest(2), root, "the root is as it was flashed");
    assert_eq!(card.read("waypost-errors.txt"), None);
}

fn armored(destination: &Destination) -> String {
    std::fs::read(destination.certificate())
        .map(|bytes| waypost_openpgp::Certificate::from_bytes(&bytes).unwrap().to_armor())
        .unwrap()
}

fn configuration(destination: &Destination, admin: &Admin, reach: &Reach) -> String {
    format!(
        "# A kiosk's one file.\nname = \"Clinic Mbale\"\ncountry = \"UG\"\ntime_zone = \"Africa/Kampala\"\nssh_keys = [\"{}\"]\n\n\
         [[network]]\nethernet = true\n\n\
         [[destination]]\nname = \"clinic\"\nurl = \"https://10.0.2.100\"\ncertificate = \"clinic.pgp\"\nca = \"clinic-ca.pem\"\n\
         token = \"{}\"\n\n\
         [gateway]\nlan.addresses = [\"{}\"]\nupload.probe_interval = \"5s\"\nupload.max_backoff = \"5s\"\nstore.reserve = \"16MiB\"\n",
        admin.public,
        destination.token(),
        reach.gateway
    )
}

/// What an admin would look at.
fn looks_as_it_should(there: &dyn Fn(&str) -> String) {
    assert_eq!(there("systemctl --failed --no-legend --plain").trim(), "", "units have failed");
    assert_eq!(there("hostname").trim(), "clinic-mbale");
    assert!(there("date").contains("EAT"), "the time zone is Kampala's");
    let year: u32 = there("date +%Y").trim().parse().unwrap();
    assert!(year >= 2025, "the clock is not behind the image: {year}");
    assert_eq!(there("swapon --show").trim(), "");
    assert_eq!(there("findmnt --noheadings --output FSTYPE /").trim(), "overlay");
    assert!(there("findmnt --noheadings --output OPTIONS /media/root-ro").starts_with("ro"));
    assert_eq!(there("findmnt --noheadings --output FSTYPE /var/lib/waypost").trim(), "ext4");
    assert_eq!(there("systemctl show --property=RuntimeWatchdogUSec --value").trim(), "15s");
    let boots =
        there("journalctl --list-boots --no-pager").lines().filter(|line| !line.contains("IDX")).count();
    assert!(boots >= 3, "the journal has the boots before: {boots}");
    assert!(there("nmcli --terse --fields STATE general").contains("connected"));
    let security = there("systemd-analyze security --no-pager waypost.service");
    let line = security.lines().find(|line| line.contains("Overall exposure")).unwrap_or_default();
    say(line.trim());
    say(&format!("memory: {}", there("free -m").lines().nth(1).unwrap_or_default()));
}

fn wait_for_inbox(destination: &Destination, count: usize) {
    let begun = std::time::Instant::now();
    while destination.inbox().len() < count {
        assert!(begun.elapsed() < BOOT, "not delivered: {:?}", destination.inbox().keys());
        std::thread::sleep(Duration::from_secs(1));
    }
    say(&format!("delivered {} s after power-on", begun.elapsed().as_secs()));
}

fn wait_until_synced(phone: &Phone) -> Value {
    wait_until("the phone has its confirmations", || {
        let ran = phone.try_run(&["sync"]);
        let report = ran.last();
        (report["unconfirmed"] == 0).then(|| report.clone())
    })
}

fn card_text(machine: &Machine, admin: &Admin, reach: &Reach) -> String {
    machine.wait_for_ssh(admin, reach, BOOT);
    machine.run(admin, reach, "cat /boot/firmware/waypost.toml")
}
