//! A phone with a passphrase: what its commands say, and that nothing is lost whenever it is set, changed or removed.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng as _};

use crate::kiosk::{Kiosk, Manners};
use crate::kit::*;

fn with_passphrase() -> (Cli, PathBuf) {
    let mut cli = Cli::new();
    cli.init();
    let path = cli.write("passphrase", b"open sesame\n");
    cli.passphrase = Some(path.clone());
    cli.expect(0, &["passphrase", "set"]);
    (cli, path)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_phone_with_a_passphrase_opens_with_it_only() {
    let (mut cli, path) = with_passphrase();
    assert_eq!(names(&cli.home()), ["keys.locked", "store"]);
    let key = cli.json(0, &["status"]).last()["key"].clone();
    assert!(cli.expect(2, &["passphrase", "set"]).stderr.contains("has a passphrase already"));
    let wrong = cli.write("wrong", b"open sesam");
    let (long, empty) = (cli.write("long", &[b'a'; 4096]), cli.write("empty", b"\n"));
    for arguments in [&["list"][..], &["status"], &["init"], &["run", "--lan"], &["listen"], &["sync"]] {
        cli.passphrase = None;
        let said = cli.expect(2, arguments);
        assert!(said.stderr.contains("this phone has a passphrase; type it"), "{said:?}");
        cli.passphrase = Some(wrong.clone());
        let said = cli.expect(2, arguments);
        assert!(said.stderr.contains("keys.locked: the passphrase is wrong"), "{said:?}");
    }
    for unfit in [long, empty] {
        let said = cli.expect(2, &["--passphrase-file", unfit.to_str().unwrap(), "list"]);
        assert!(said.stderr.contains("1024 bytes at most"), "{said:?}");
    }
    let said = cli.expect(1, &["--passphrase-file", "/nowhere", "list"]);
    assert!(said.stderr.contains("the passphrase's file /nowhere: No such file"), "{said:?}");
    cli.expect(2, &["passphrase", "remove"]);
    cli.passphrase = Some(path);
    let other = cli.write("other", b"another one");
    cli.expect(0, &["passphrase", "change", "--new-passphrase-file", other.to_str().unwrap()]);
    cli.expect(2, &["list"]);
    cli.passphrase = Some(other);
    assert_eq!(cli.json(0, &["status"]).last()["key"], key);
    cli.expect(0, &["passphrase", "remove"]);
    assert!(cli.expect(2, &["passphrase", "remove"]).stderr.contains("has no passphrase"));
    cli.passphrase = None;
    assert_eq!(cli.json(0, &["status"]).last()["key"], key);
    assert!(cli.expect(2, &["passphrase", "set"]).stderr.contains("--passphrase-file"));
}

#[test]
fn run_needs_the_passphrase_once() {
    let (mut cli, path) = with_passphrase();
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners::serving(&key));
    cli.add_destination(&key);
    cli.pair(&kiosk.pairing());
    let mut run = Running::start(&cli, &["--json", "run", "--lan"]);
    assert_eq!(run.until("report")["ending"], "nothing new");
    let elsewhere = cli.path("elsewhere");
    std::fs::rename(path, &elsewhere).unwrap();
    cli.passphrase = Some(elsewhere);
    cli.add(&cli.write("form", b"form"));
    assert_eq!(run.until("report")["transferred"], 1);
    assert_eq!(run.terminate(), 0);
}

#[test]
fn a_phone_that_is_made_with_a_passphrase_has_it_from_the_beginning() {
    let mut cli = Cli::new();
    cli.passphrase = Some(cli.write("passphrase", b"open sesame"));
    cli.init();
    assert_eq!(names(&cli.home()), ["keys.locked", "store"]);
    cli.passphrase = None;
    cli.expect(2, &["list"]);
}

#[test]
fn a_passphrase_that_is_typed_is_not_shown() {
    let (mut cli, _) = with_passphrase();
    cli.passphrase = None;
    let program = format!("{} --home {} status", env!("CARGO_BIN_EXE_waypost-phone"), cli.home().display());
    // util-linux: a terminal around the program.
    let script = ["--quiet", "--return", "--command", &program, "/dev/null"];
    let mut terminal = Command::new("script");
    let terminal = terminal.args(script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut terminal = terminal.spawn().unwrap();
    let mut stdout = terminal.stdout.take().unwrap();
    let mut shown = Vec::new();
    while !shown.ends_with(b"Passphrase: ") {
        let mut byte = [0];
        stdout.read_exact(&mut byte).unwrap();
        shown.push(byte[0]);
    }
    // It asks before it turns the echo off.
    std::thread::sleep(Duration::from_secs(1));
    let mut stdin = terminal.stdin.take().unwrap();
    stdin.write_all(b"open sesame\n").unwrap();
    stdout.read_to_end(&mut shown).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(terminal.wait().unwrap().success(), "{shown}");
    assert!(shown.contains("folder") && !shown.contains("sesame"), "{shown}");
}

/// At random moments of the whole, and within milliseconds of the first change of the folder.
#[test]
fn a_phone_that_is_killed_while_its_passphrase_changes_opens_and_has_everything() {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let mut random = |end: Duration| end.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX));
    let mut cli = Cli::new();
    cli.add_destination(&destination("Clinic"));
    let form = cli.write("form", b"form");
    let id = cli.add(&form).to_string();
    let key = cli.json(0, &["status"]).last()["key"].clone();
    let passphrases = [cli.write("one", b"one"), cli.write("two", b"two")];
    let (mut now, mut whole, mut killed) = (None::<usize>, Duration::from_secs(1), 0);
    for round in 0..24 {
        let next = now.map_or(0, |now| 1 - now);
        let new = ["passphrase", "change", "--new-passphrase-file", passphrases[next].to_str().unwrap()];
        let arguments = match (now, round % 3) {
            (None, _) => &["passphrase", "set"][..],
            (Some(_), 0) => &new,
            (Some(_), _) => &["passphrase", "remove"],
        };
        cli.passphrase = Some(passphrases[now.unwrap_or(0)].clone());
        let (start, before) = (Instant::now(), names(&cli.home()));
        let mut child = cli.command().args(arguments).stdout(Stdio::null()).spawn().unwrap();
        if round % 2 == 0 {
            std::thread::sleep(random(whole));
        } else {
            while names(&cli.home()) == before && child.try_wait().unwrap().is_none() {}
            std::thread::sleep(random(Duration::from_millis(4)));
        }
        child.kill().unwrap();
        match child.wait().unwrap().success() {
            true => whole = start.elapsed(),
            false => killed += 1,
        }
        now = passphrases
            .iter()
            .enumerate()
            .find_map(|(number, passphrase)| {
                cli.passphrase = Some(passphrase.clone());
                let listed = cli.command().args(["list", "--all"]).output().unwrap();
                let is_locked = cli.home().join("keys.locked").exists();
                listed.status.success().then(|| {
                    assert!(String::from_utf8_lossy(&listed.stdout).contains(&id[..8]), "round {round}");
                    is_locked.then_some(number)
                })
            })
            .unwrap_or_else(|| panic!("round {round}: it does not open"));
        assert_eq!(cli.json(0, &["status"]).last()["key"], key, "round {round}");
        let left = names(&cli.home());
        let is_clean = left == ["keys.locked", "store"] || left == ["identity.key", "store", "store.key"];
        assert!(is_clean, "round {round}: {left:?}");
    }
    assert!(killed > 5, "{killed}");
}
