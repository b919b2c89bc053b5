//! The power goes after every step of applying a file; the next start ends where an undisturbed one does, and no secret is
//! lost on the way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod memory_disk;

use memory_disk::{BOOT, Loss, MemoryDisk};
use waypost_kiosk::apply::{self, CURRENT, current_files, current_settings};
use waypost_kiosk::boot_partition::BootPartition;
use waypost_kiosk::disk::Disk;
use waypost_kiosk::machine::Machine;

const SECRETS: &str = "/var/lib/waypost-kiosk/secrets.toml";
const BOOT_FILE: &str = "/boot/firmware/waypost.toml";
const FIRST: &str = "name = \"First\"\n[[network]]\nwifi = \"A\"\npassword = \"first-secret\"\n";
const SECOND: &str = "# a comment\nname = \"Second\"\ncountry = \"XX\"\n[[network]]\nwifi = \"A\"\npassword = \"(kept)\"\n\
                      [[network]]\nwifi = \"B\"\npassword = \"second-secret\" # here\n";

fn boot() -> BootPartition {
    BootPartition { folder: BOOT.to_owned(), remount: None }
}

fn start(disk: &mut MemoryDisk) -> Result<(), apply::ApplyError> {
    let machine = Machine { serial: Some("10000000abcdef01".into()), ..Machine::default() };
    let read = apply::read(disk, &boot(), &machine);
    let applied = apply::apply(disk, &boot(), &machine, read)?;
    assert!(applied.unwritten.is_none() || disk.is_cut());
    Ok(())
}

fn with_file(mut disk: MemoryDisk, text: &str) -> MemoryDisk {
    disk.put(BOOT_FILE, text.as_bytes());
    disk
}

fn text(disk: &MemoryDisk, path: &str) -> String {
    disk.read(path, 1 << 20).map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default()
}

/// Everything that counts once a start is over: the generation, the secrets and the boot partition.
fn state(disk: &MemoryDisk) -> Vec<String> {
    let mut state: Vec<String> = ["waypost.toml", "waypost-errors.txt"]
        .map(|name| text(disk, &format!("/boot/firmware/{name}")))
        .to_vec();
    state.push(text(disk, SECRETS));
    state.push(format!("{:?}", current_settings(disk)));
    state.extend(
        current_files(disk)
            .unwrap()
            .iter()
            .map(|file| format!("{} {:?}", file.path, String::from_utf8_lossy(&file.content))),
    );
    state
}

/// What must be true at any moment: a whole generation, and every secret in at least one place.
fn is_sound(disk: &MemoryDisk, step: usize, loss: Loss) {
    if disk.read_link(CURRENT).is_ok() {
        let settings =
            current_settings(disk).unwrap_or_else(|| panic!("step {step}, {loss:?}: half a generation"));
        let files = current_files(disk).unwrap();
        let networks = if settings.host_name == "second" { 3 } else { 2 };
        assert_eq!(
            files.iter().filter(|file| file.path.starts_with("networks/")).count(),
            networks,
            "step {step}, {loss:?}"
        );
    }
    let everywhere = text(disk, BOOT_FILE) + &text(disk, SECRETS);
    assert!(everywhere.contains("first-secret"), "step {step}, {loss:?}: the first secret is lost");
    let has_second =
        text(disk, BOOT_FILE).contains("second") || text(disk, SECRETS).contains("second-secret");
    assert!(
        has_second || !text(disk, BOOT_FILE).contains("Second"),
        "step {step}, {loss:?}: the second secret is lost"
    );
}

#[test]
fn a_cut_after_any_step_is_mended_by_the_next_start() {
    let mut before = with_file(MemoryDisk::new(&["/boot/firmware", "/var/lib"]), FIRST);
    start(&mut before).unwrap();
    assert!(
        text(&before, SECRETS).contains("first-secret") && !text(&before, BOOT_FILE).contains("first-secret")
    );
    let mut undisturbed = with_file(before.clone(), SECOND);
    start(&mut undisturbed).unwrap();
    let (expected, steps) = (state(&undisturbed), undisturbed.steps() - before.steps());
    assert!(steps > 30, "only {steps} steps");
    assert!(
        expected[0].contains("# a comment")
            && !expected[0].contains("second-secret")
            && expected[1].contains("country")
    );
    println!("{steps} steps, each cut in three ways");
    let mut emptied = Vec::new();
    // The last one is a cut after all is done.
    for step in 0..=steps {
        for loss in [Loss::Nothing, Loss::Contents, Loss::ContentsAndNames] {
            let mut disk = with_file(before.clone(), SECOND);
            disk.cut_after(step);
            let _ = start(&mut disk);
            assert!(disk.is_cut(), "step {step} was not reached");
            disk.power_comes_back(loss);
            is_sound(&disk, step, loss);
            start(&mut disk).unwrap();
            if text(&disk, BOOT_FILE).is_empty() {
                // Told in words; all but the file is as it should be, and the file is what somebody writes again.
                emptied.push(step);
                let state = state(&disk);
                assert!(state[1].contains("waypost.toml is empty"), "step {step}: {}", state[1]);
                assert_eq!(state[2..], expected[2..], "step {step}, {loss:?}");
                disk.put(BOOT_FILE, expected[0].as_bytes());
                start(&mut disk).unwrap();
            }
            assert_eq!(state(&disk), expected, "step {step}, {loss:?}");
            let done = disk.steps();
            start(&mut disk).unwrap();
            assert_eq!(state(&disk), expected, "step {step}, {loss:?}, once more");
            assert!(disk.steps() - done <= 2, "step {step}: the third start still writes");
        }
    }
    // FAT leaves that one moment, between a rename and the flush after it.
    assert_eq!(emptied.len(), 1, "cuts that empty the file: after steps {emptied:?} of {steps}");
}

#[test]
fn a_start_with_the_same_file_writes_nothing() {
    let mut disk = with_file(MemoryDisk::new(&["/boot/firmware", "/var/lib"]), FIRST);
    start(&mut disk).unwrap();
    let (steps, before) = (disk.steps(), state(&disk));
    start(&mut disk).unwrap();
    assert_eq!(state(&disk), before);
    // The folder of the state, which is there, is asked for and flushed.
    assert!(disk.steps() - steps <= 2, "{} steps", disk.steps() - steps);
}

#[test]
fn without_the_data_partition_secrets_stay_in_the_file_and_the_file_is_used() {
    let mut disk = with_file(MemoryDisk::new(&["/boot/firmware", "/var/lib"]), FIRST);
    let sound = disk.clone();
    disk.loses_data_partition();
    let machine = Machine::default();
    let read = apply::read(&disk, &boot(), &machine);
    let (files, settings) = apply::in_memory(&disk, &read, &machine).unwrap();
    assert_eq!(settings.host_name, "first");
    let network = files.iter().find(|file| file.path == "networks/waypost-01-a.nmconnection").unwrap();
    assert!(String::from_utf8_lossy(&network.content).contains("psk=first-secret"));
    let applied = apply::apply(&mut disk, &boot(), &machine, read).unwrap();
    assert!(applied.is_forgotten && !applied.is_new && applied.unwritten.is_none(), "{applied:?}");
    assert_eq!(text(&disk, BOOT_FILE), FIRST);
    assert!(disk.list("/var/lib/waypost-kiosk").is_err(), "something is kept where it is lost");
    let errors = text(&disk, "/boot/firmware/waypost-errors.txt");
    assert!(errors.contains("data partition is not there") && errors.contains("secrets stay"), "{errors}");

    // It is there again: secrets move, and nothing is left to say of it.
    let mut disk = with_file(sound, &text(&disk, BOOT_FILE));
    start(&mut disk).unwrap();
    assert!(text(&disk, SECRETS).contains("first-secret") && text(&disk, BOOT_FILE).contains("(kept)"));
    assert!(!text(&disk, "/boot/firmware/waypost-errors.txt").contains("data partition"));
}

#[test]
fn a_data_partition_that_was_there_once_keeps_its_secrets_while_it_is_away() {
    let mut disk = with_file(MemoryDisk::new(&["/boot/firmware", "/var/lib"]), FIRST);
    start(&mut disk).unwrap();
    let before = state(&disk);
    let mut without = disk.clone();
    without.loses_data_partition();
    start(&mut without).unwrap();
    assert_eq!(
        text(&without, BOOT_FILE),
        before[0],
        "a secret is missing, which is no reason to change the file"
    );
    start(&mut disk).unwrap();
    assert_eq!(state(&disk), before);
}
