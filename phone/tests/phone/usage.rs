//! What is typed: what it names, where the phone is, and how the command ends.

use waypost_protocol::invite::Pairing;

use crate::kiosk::{Kiosk, Manners};
use crate::kit::*;

#[test]
fn wrong_usage_ends_with_2_and_says_what_to_do() {
    let cli = Cli::new();
    cli.expect(2, &["no-such-command"]);
    let said = cli.expect(1, &["pair", "hello"]);
    assert!(said.stderr.contains("waypost://pair?"), "{said:?}");
    let said = cli.expect(1, &["delete", "abc"]);
    assert!(said.stderr.contains("no document's id begins with"), "{said:?}");
    let made = cli.expect(0, &["init", "--name", "Ann's phone"]);
    assert!(made.stdout.contains("was there already") && made.stdout.contains("next:"), "{made:?}");
    assert_eq!(cli.json(0, &["status"]).last()["name"], "Ann's phone");
}

#[test]
fn a_mistyped_folder_is_no_new_phone() {
    let cli = Cli::new();
    let home = cli.home();
    for arguments in [
        &["list"][..],
        &["status"],
        &["sync"],
        &["run"],
        &["listen"],
        &["add", "/etc/hostname"],
        &["destination", "list"],
        &["gateways"],
        &["confirmations"],
    ] {
        let said = cli.expect(1, arguments);
        let hint =
            format!("there is no phone in {0}; give its folder with --home, or make one", home.display());
        assert!(said.stderr.contains(&hint), "{arguments:?}: {said:?}");
        assert!(!home.exists(), "{arguments:?} made something");
    }
    assert_eq!(
        cli.json(1, &["list"]).last()["error"].as_str().map(|text| text.contains("no phone")),
        Some(true)
    );
    cli.init();
    cli.expect(0, &["list"]);
}

#[test]
fn nothing_and_part_of_a_name_remove_nothing() {
    let key = destination("Clinic North");
    let kiosk = Kiosk::start(Manners::serving(&key));
    let cli = Cli::new();
    cli.add_destination(&key);
    cli.pair(&kiosk.pairing());
    let (fingerprint, peer) = (key.certificate().fingerprint().to_string(), kiosk.key().to_string());
    for text in ["", " ", "Clinic", &fingerprint[..3]] {
        let said = cli.expect(1, &["destination", "remove", text]);
        assert!(said.stderr.contains("whole name or at least 4 digits of its fingerprint"), "{said:?}");
    }
    for text in ["", " ", "Test", &peer[..3]] {
        let said = cli.expect(1, &["gateways", "forget", text]);
        assert!(said.stderr.contains("whole name or at least 4 digits of its key"), "{said:?}");
    }
    let said = cli.expect(1, &["delete", ""]);
    assert!(said.stderr.contains("no document's id begins with"), "{said:?}");
    let known = cli.json(0, &["status"]).last();
    assert_eq!(
        (known["destinations"].as_array().unwrap().len(), known["gateways"].as_array().unwrap().len()),
        (1, 1)
    );
    cli.expect(0, &["gateways", "forget", "test kiosk"]);
    cli.expect(0, &["destination", "remove", &fingerprint[..4]]);
    let known = cli.json(0, &["status"]).last();
    assert_eq!(
        (&known["destinations"], &known["gateways"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
}

#[test]
fn pairing_ends_with_0_only_when_it_is_paired() {
    let key = destination("Clinic");
    let mut kiosk = Kiosk::start(Manners::serving(&key));
    let cli = Cli::new();
    let paired = cli.json(0, &["pair", "--later", &kiosk.pairing()]).last();
    assert_eq!(paired["gateway"]["paired"], false, "it was only asked to remember");
    let wrong = Pairing {
        secret: waypost_protocol::invite::CodeSecret::new([6; 16]),
        ..Pairing::parse(&kiosk.pairing()).unwrap()
    };
    let said = cli.expect(1, &["pair", &wrong.to_text()]);
    assert!(
        said.stdout.contains("not paired with Test kiosk: ") && said.stdout.contains("used up or too old"),
        "{said:?}"
    );
    let text = kiosk.pairing();
    kiosk.stop();
    let said = cli.expect(3, &["pair", &text]);
    assert!(said.stdout.contains("not paired with Test kiosk yet: "), "{said:?}");
    assert!(said.stdout.contains("it is remembered, the first sync pairs"), "{said:?}");
    let _kiosk = kiosk.wiped();
    let paired = cli.json(0, &["pair", &text]).last();
    assert_eq!(paired["gateway"]["paired"], true, "{paired}");
}

#[test]
fn what_the_system_says_is_said_once() {
    let cli = Cli::new();
    let file = cli.write("file", b"");
    let home = file.join("phone");
    let said = std::process::Command::new(env!("CARGO_BIN_EXE_waypost-phone"))
        .args(["init".as_ref(), "--home".as_ref(), home.as_os_str()])
        .output()
        .unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains(home.to_str().unwrap()) && said.contains("choose another with --home"), "{said}");
    assert_eq!(said.matches("os error").count(), 1, "{said}");
}
