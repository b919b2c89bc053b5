//! Only the destination's verified word about this very document deletes it.

use waypost_node::Ending;
use waypost_protocol::confirmation::{Confirmation, Rejection, Statement, Verdict};
use waypost_protocol::ids::MessageId;

use crate::kiosk::{Kiosk, Manners};
use crate::kit::*;

/// A phone with one document at the kiosk.
fn deposited(manners: impl FnOnce(&mut Manners)) -> (waypost_openpgp::SecretKey, Kiosk, Cli, MessageId) {
    let key = destination("Clinic");
    let mut wanted = Manners::serving(&key);
    manners(&mut wanted);
    let kiosk = Kiosk::start(wanted);
    let cli = Cli::new();
    cli.add_destination(&key);
    let id = cli.add(&cli.write("form", b"form"));
    cli.pair(&kiosk.pairing());
    assert_eq!(cli.state("form"), "at-the-kiosk");
    (key, kiosk, cli, id)
}

/// The phone is handed a confirmation that must not count.
fn is_refused(kiosk: &Kiosk, cli: &Cli, confirmation: Confirmation) {
    kiosk.pass_on(confirmation);
    let said = cli.json(3, &["sync"]);
    assert_eq!(said.last()["not_proven"], 1, "{said:?}");
    assert_eq!(said.events("not-proven").len(), 1);
    assert_eq!(said.last()["opened"], 0);
    assert_eq!(cli.state("form"), "at-the-kiosk");
    assert_eq!(cli.json(0, &["list"]).last()["documents"].as_array().unwrap().len(), 1);
}

#[test]
fn a_confirmation_by_another_key_deletes_nothing() {
    let (key, kiosk, cli, id) = deposited(|_| {});
    let forger = destination("Clinic");
    let named = key.certificate().fingerprint();
    let forged = forger.sign(named, vec![(id, Verdict::Opened)], MADE).unwrap();
    is_refused(&kiosk, &cli, forged);
}

#[test]
fn a_confirmation_of_another_destination_deletes_nothing_and_keeps_no_document_out() {
    let (key, other) = (destination("Clinic"), destination("Other"));
    for (pinned, size) in [(false, 1_000), (true, 1_000), (false, 100_000), (true, 100_000)] {
        let kiosk = Kiosk::start(Manners::serving(&key));
        let cli = Cli::new();
        cli.add_destination(&key);
        let id = cli.add(&cli.write("form", &noise(size)));
        if pinned {
            cli.add_destination(&other);
        }
        // To the kiosk the id is one that somebody's destination has spoken on.
        kiosk.confirm(&other, &[id], Verdict::Opened);
        cli.expect(0, &["pair", "--later", &kiosk.pairing()]);
        let said = cli.json(0, &["sync"]);
        assert_eq!((&said.last()["transferred"], &said.last()["opened"]), (&1.into(), &0.into()), "{said:?}");
        assert_eq!(cli.state("form"), "at-the-kiosk");
        kiosk.confirm(&key, &[id], Verdict::Opened);
        assert_eq!(cli.json(0, &["sync"]).last()["opened"], 1);
    }
}

#[test]
fn an_altered_confirmation_deletes_nothing() {
    let (key, kiosk, cli, id) = deposited(|_| {});
    let named = key.certificate().fingerprint();
    let held = key.sign(named, vec![(id, Verdict::Held)], MADE).unwrap();
    let statement = &held.statement;
    let opened =
        Statement::new(named, statement.signer(), statement.time(), vec![(id, Verdict::Opened)]).unwrap();
    is_refused(&kiosk, &cli, Confirmation::new(opened, held.signature().clone()).unwrap());
}

#[test]
fn a_confirmation_of_another_document_deletes_nothing() {
    let (key, kiosk, cli, _) = deposited(|_| {});
    kiosk.confirm(&key, &[MessageId([7; 32])], Verdict::Opened);
    cli.expect(0, &["sync"]);
    assert_eq!(cli.state("form"), "at-the-kiosk");
}

#[test]
fn a_phone_that_waits_acknowledges_its_confirmations_before_it_leaves() {
    let (key, kiosk, cli, first) = deposited(|_| {});
    kiosk.confirm(&key, &[first], Verdict::Opened);
    // Pairing was two contacts.
    assert_eq!([kiosk.next_ending(), kiosk.next_ending()], [Ending::Finished, Ending::NothingNew]);
    for number in 0..10 {
        let id = cli.add(&cli.write(format!("form-{number}"), &noise(2_000)));
        let mut sync = Running::start(&cli, &["--json", "sync", "--wait", "60s"]);
        sync.until("at-kiosk");
        kiosk.confirm(&key, &[id], Verdict::Opened);
        sync.until("confirmed");
        assert_eq!(kiosk.next_ending(), Ending::Finished);
        cli.expect(0, &["sync"]);
        assert_eq!(kiosk.next_ending(), Ending::NothingNew, "form {number}");
    }
}

#[test]
fn what_was_rejected_stays_on_the_phone_with_the_reason() {
    let (key, kiosk, cli, id) = deposited(|_| {});
    kiosk.confirm(&key, &[id], Verdict::Rejected(Rejection::CannotOpen));
    let said = cli.json(0, &["sync"]);
    assert_eq!(said.events("confirmed")[0]["verdict"], "rejected cannot-open");
    let listed = cli.expect(0, &["list"]);
    assert!(listed.stdout.contains("refused"), "{listed:?}");
    assert!(listed.stdout.contains("the destination cannot open it"), "{listed:?}");
    // Its user decides.
    cli.expect(0, &["delete", &id.to_string()]);
    assert!(cli.expect(0, &["list", "--all"]).stdout.contains("no documents"));
}

#[test]
fn what_is_held_unopened_stays_unless_the_user_said_otherwise() {
    let (key, kiosk, cli, id) = deposited(|_| {});
    kiosk.confirm(&key, &[id], Verdict::Held);
    assert_eq!(cli.json(0, &["sync"]).last()["held"], 1);
    let listed = cli.expect(0, &["list"]);
    assert!(listed.stdout.contains("at the server"), "{listed:?}");
    assert!(listed.stdout.contains("not opened yet"), "{listed:?}");

    let (key, kiosk, cli, id) = deposited(|_| {});
    cli.expect(0, &["destination", "set", "Clinic", "--delete-on", "held"]);
    kiosk.confirm(&key, &[id], Verdict::Held);
    cli.expect(0, &["sync"]);
    assert!(cli.expect(0, &["list"]).stdout.contains("no documents here"));
}

#[test]
fn confirmations_are_written_as_text_with_a_detached_signature() {
    let (key, kiosk, cli, id) = deposited(|_| {});
    let said = cli.expect(1, &["confirmations", &id.to_string()]);
    assert!(said.stderr.contains("has not spoken on"), "{said:?}");
    kiosk.confirm(&key, &[id], Verdict::Opened);
    cli.expect(0, &["sync"]);
    let folder = cli.path("confirmations");
    cli.expect(0, &["confirmations".as_ref(), "--to".as_ref(), folder.as_os_str()]);
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(names[1], format!("{}.asc", names[0]));
    let text = std::fs::read_to_string(folder.join(&names[0])).unwrap();
    assert!(
        text.starts_with("Waypost confirmation 1\n") && text.contains(&format!("{id} opened\n")),
        "{text}"
    );
    let armor = std::fs::read_to_string(folder.join(&names[1])).unwrap();
    assert!(armor.starts_with("-----BEGIN PGP SIGNATURE-----"), "{armor}");
}
