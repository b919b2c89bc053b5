//! Documents travel on a stick: from kiosk to destination and back, between kiosks, through damage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use waypost_tests::scenario::{Destination, Gateway, Ran, Site, content, run, wait_until};

/// A folder that plays the stick.
fn new_stick(site: &Site) -> PathBuf {
    let stick = site.folder().join("stick");
    fs::create_dir(&stick).unwrap();
    stick
}

#[track_caller]
fn export(gateway: &Gateway, stick: &Path) -> Value {
    gateway.run(&["export", stick.to_str().unwrap()]).last().clone()
}

#[track_caller]
fn import(gateway: &Gateway, stick: &Path) -> Value {
    gateway.run(&["import", stick.to_str().unwrap()]).last().clone()
}

fn try_import(gateway: &Gateway, stick: &Path) -> Ran {
    run(&mut gateway.command(&["import", stick.to_str().unwrap()]))
}

#[track_caller]
fn deliver(destination: &Destination, stick: &Path) -> Value {
    destination.run(&["import", stick.to_str().unwrap()]).last().clone()
}

/// The files of one kind on a stick.
fn files(stick: &Path, kind: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for shelf in fs::read_dir(stick.join("waypost").join(kind)).unwrap() {
        for file in fs::read_dir(shelf.unwrap().path()).unwrap() {
            found.push(file.unwrap().path());
        }
    }
    found.retain(|path| path.to_string_lossy().ends_with(ending));
    found.sort();
    found
}

/// What `gpg` says of every confirmation on a stick, with nothing but the destination's certificate.
#[track_caller]
fn verified_by_gpg(destination: &Destination, stick: &Path) -> usize {
    let home = tempfile::tempdir().unwrap();
    let gpg = |arguments: &[&str]| {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(home.path()).args(["--batch", "--quiet"]).args(arguments);
        command.output().unwrap()
    };
    let imported = gpg(&["--import", destination.certificate().to_str().unwrap()]);
    assert!(imported.status.success(), "{imported:?}");
    let texts = files(stick, "confirmations", ".txt");
    for text in &texts {
        let signature = format!("{}.sig", text.display());
        let said = gpg(&["--verify", &signature, text.to_str().unwrap()]);
        assert!(said.status.success(), "{said:?}");
    }
    texts.len()
}

#[test]
fn documents_go_to_the_destination_on_a_stick_and_their_confirmations_come_back_on_it() {
    let mut site = Site::start();
    let phone = site.paired_phone("anna");
    site.destination.backhaul.refuse(true);
    let video = content(1, 2_500_000);
    let sent: [(&str, &[u8]); 3] =
        [("form.xml", b"<form/>"), ("photo.jpg", &content(2, 90_000)), ("video.mp4", &video)];
    phone.add(&sent);
    assert_eq!(phone.sync()["transferred"], 3);
    let stick = new_stick(&site);

    let exported = export(&site.gateway, &stick);
    assert_eq!((&exported["documents"], &exported["already"]), (&json!(3), &json!(0)), "{exported}");
    assert_eq!(site.gateway.status()["waiting"], 3, "an export is no delivery");
    let again = export(&site.gateway, &stick);
    assert_eq!((&again["documents"], &again["already"]), (&json!(0), &json!(3)), "{again}");
    assert_eq!(files(&stick, "documents", ".mvds").len(), 3);

    // The server takes it whether it runs or not; the first time it does not.
    assert!(site.destination.stop().success());
    let taken = deliver(&site.destination, &stick);
    assert_eq!((&taken["documents"], &taken["already"]), (&json!(3), &json!(0)), "{taken}");
    site.destination.start();
    let taken = deliver(&site.destination, &stick);
    assert_eq!((&taken["documents"], &taken["already"]), (&json!(0), &json!(3)), "{taken}");
    assert_eq!(site.destination.inbox(), sent.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).into());
    assert_eq!(verified_by_gpg(&site.destination, &stick), 1, "one confirmation of all three");
    assert_eq!(files(&stick, "documents", ".mvds").len(), 3, "they go with the gateway's next export");

    // Back at the kiosk, which still has no backhaul.
    let imported = import(&site.gateway, &stick);
    assert_eq!((&imported["confirmations"], &imported["settled"]), (&json!(1), &json!(3)), "{imported}");
    let status = site.gateway.status();
    assert_eq!((&status["waiting"], &status["opened"]), (&json!(0), &json!(3)), "{status}");
    assert!(site.gateway.documents().iter().all(|one| one["has_body"] == false), "bodies are freed");
    phone.sync();
    assert_eq!(phone.list(false), [] as [Value; 0], "the phone has its confirmation, and deletes");
    let last = export(&site.gateway, &stick);
    assert_eq!((&last["removed"], &last["documents"]), (&json!(3), &json!(0)), "{last}");
    assert_eq!(files(&stick, "documents", ".mvds"), [] as [PathBuf; 0]);
    assert_eq!(site.gateway.findings(), [] as [Value; 0]);
}

#[test]
fn two_kiosks_use_one_stick_and_nothing_that_one_needs_is_overwritten_by_the_other() {
    let site = Site::start();
    site.destination.backhaul.refuse(true);
    let mut other = site.another_gateway("other");
    let (anna, ben) = (site.paired_phone("anna"), site.new_phone("ben"));
    ben.add_destination(&site.destination);
    ben.pair(&other);
    anna.add(&[("a.xml", b"of anna")]);
    ben.add(&[("b.xml", b"of ben"), ("c.xml", b"of ben, too")]);
    assert_eq!((anna.sync()["transferred"].clone(), ben.sync()["transferred"].clone()), (json!(1), json!(2)));
    let stick = new_stick(&site);
    assert_eq!(export(&site.gateway, &stick)["documents"], 1);
    // The other one does not run: the command works on its store.
    other.stop();
    let exported = export(&other, &stick);
    assert_eq!((&exported["documents"], &exported["removed"]), (&json!(2), &json!(0)), "{exported}");
    assert_eq!(deliver(&site.destination, &stick)["documents"], 3);
    let first = import(&site.gateway, &stick);
    // What is the other's and confirmed is not taken in.
    assert_eq!(
        (&first["settled"], &first["confirmed"], &first["documents"]),
        (&json!(1), &json!(3), &json!(0)),
        "{first}"
    );
    // The first one takes what is confirmed off the stick; the other still finds its confirmation there.
    assert_eq!(export(&site.gateway, &stick)["removed"], 3);
    assert_eq!(import(&other, &stick)["settled"], 2);
    other.start();
    ben.sync();
    anna.sync();
    assert_eq!((ben.list(false).len(), anna.list(false).len()), (0, 0));
    assert_eq!(site.destination.run(&["status"]).last()["documents"]["opened"], 3);
}

#[test]
fn a_kiosk_with_a_backhaul_delivers_what_a_kiosk_without_one_has_exported() {
    let site = Site::start();
    let phone = site.paired_phone("anna");
    site.gateway.reach("127.0.0.1:1".parse().unwrap());
    site.gateway.run(&["reload"]);
    let large = content(7, 700_000);
    let ids = phone.add(&[("a.xml", b"a"), ("large", &large)]);
    assert_eq!(phone.sync()["transferred"], 2);
    let stick = new_stick(&site);
    export(&site.gateway, &stick);
    let other = site.another_gateway("other");
    let imported = import(&other, &stick);
    assert_eq!((&imported["documents"], &imported["already"]), (&json!(2), &json!(0)), "{imported}");
    wait_until("the upload", || (other.status()["opened"] == 2).then_some(()));
    assert_eq!(site.destination.inbox()["large"], large);
    let imported = import(&other, &stick);
    assert_eq!((&imported["documents"], &imported["confirmed"]), (&json!(0), &json!(2)), "{imported}");
    assert_eq!(export(&other, &stick)["removed"], 2);
    assert_eq!(import(&site.gateway, &stick)["settled"], 2);
    phone.sync();
    assert_eq!(phone.list(false), [] as [Value; 0], "{ids:?}");
}

#[test]
fn a_stick_deletes_nothing_and_brings_back_nothing_that_was_deleted() {
    let site = Site::start();
    let phone = site.paired_phone("anna");
    site.destination.backhaul.refuse(true);
    let ids = phone.add(&[("kept.xml", b"kept"), ("deleted.xml", b"deleted")]);
    phone.sync();
    let stick = new_stick(&site);
    export(&site.gateway, &stick);
    site.gateway.run(&["documents", "delete", &ids[1]]);
    let ran = try_import(&site.gateway, &stick);
    let imported = ran.last();
    assert_eq!(ran.status.code(), Some(3), "something was passed over: {imported}");
    assert_eq!(imported["refused"]["named"], json!([[ids[1], "it was deleted there"]]), "{imported}");
    assert_eq!((&imported["already"], &imported["documents"]), (&json!(1), &json!(0)), "{imported}");

    // Another destination confirms whatever is on the stick: its word counts for nothing here.
    let forger = site.another_destination("forger");
    let theirs = site.new_phone("eve");
    theirs.add_destination(&forger);
    let stranger = site.folder().join("strange");
    fs::create_dir(&stranger).unwrap();
    let mut kiosk = Gateway::make(&site.folder().join("their-kiosk"), &forger);
    forger.backhaul.refuse(true);
    kiosk.start();
    theirs.pair(&kiosk);
    theirs.add(&[("x.xml", b"x")]);
    theirs.sync();
    export(&kiosk, &stranger);
    deliver(&forger, &stranger);
    // Their statement, made to speak of this document for this destination, under their signature.
    let text = &files(&stranger, "confirmations", ".txt")[0];
    let forged =
        fs::read_to_string(text).unwrap().replace(forger.fingerprint(), site.destination.fingerprint());
    let line = forged.lines().last().unwrap();
    let forged = forged.replace(line, &format!("{} opened", ids[0]));
    let signature = fs::read(format!("{}.sig", text.display())).unwrap();
    let name = name_of(&forged, &signature);
    let shelf = stick.join("waypost/confirmations").join(&name[..2]);
    fs::create_dir_all(&shelf).unwrap();
    fs::write(shelf.join(format!("{name}.txt")), &forged).unwrap();
    fs::write(shelf.join(format!("{name}.txt.sig")), &signature).unwrap();
    let ran = try_import(&site.gateway, &stick);
    assert_eq!((ran.status.code(), &ran.last()["confirmations"]), (Some(3), &json!(0)), "{:#?}", ran.last());
    let refused = ran.last()["refused"]["named"].to_string();
    assert!(refused.contains(&name) && refused.contains("signed by"), "{refused}");
    let status = site.gateway.status();
    assert_eq!((&status["waiting"], &status["opened"]), (&json!(1), &json!(0)), "{status}");

    // The next export takes what was deleted here off the stick, as no other gateway lists it.
    assert_eq!(export(&site.gateway, &stick)["removed"], 1);
    assert_eq!(files(&stick, "documents", ".mvds").len(), 1);
}

/// The id of text and signature, which is the name of their files.
fn name_of(text: &str, signature: &[u8]) -> String {
    use waypost_protocol::confirmation::{Confirmation, Statement};
    let statement = Statement::parse_text(text).unwrap();
    Confirmation::new(statement, signature.to_vec().into()).unwrap().id().to_string()
}

#[test]
fn damaged_files_are_named_and_everything_else_is_taken() {
    let site = Site::start();
    let phone = site.paired_phone("anna");
    site.destination.backhaul.refuse(true);
    let names: Vec<String> = (0..6).map(|number| format!("{number}.xml")).collect();
    let bytes: Vec<Vec<u8>> = (0..6).map(|number| content(number, 3_000)).collect();
    let named: Vec<(&str, &[u8])> =
        names.iter().zip(&bytes).map(|(name, bytes)| (&name[..], &bytes[..])).collect();
    phone.add(&named);
    phone.sync();
    let stick = new_stick(&site);
    export(&site.gateway, &stick);
    let all = files(&stick, "documents", ".mvds");
    let damage = |at: usize, change: fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(&all[at]).unwrap();
        change(&mut bytes);
        fs::write(&all[at], bytes).unwrap();
    };
    damage(0, |bytes| bytes.truncate(1_000));
    damage(1, |bytes| bytes[2_000] ^= 1);
    damage(2, |bytes| bytes.clear());
    fs::remove_file(&all[3]).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &all[3]).unwrap();
    fs::write(stick.join("waypost/index/gateway-of-nobody.jsonl"), "nothing").unwrap();

    let other = site.another_gateway("other");
    let ran = try_import(&other, &stick);
    let imported = ran.last();
    assert_eq!((ran.status.code(), &imported["documents"]), (Some(3), &json!(2)), "{imported:#}");
    let damaged = imported["damaged"]["named"].as_array().unwrap();
    assert_eq!(damaged.len(), 5, "{damaged:#?}");
    let why = |at: usize| {
        let name = all[at].file_name().unwrap().to_str().unwrap();
        let found = damaged.iter().find(|one| one[0].as_str().unwrap().ends_with(name)).unwrap();
        found[1].as_str().unwrap().to_owned()
    };
    assert!(why(0).starts_with("has 1000 bytes, should have"), "{}", why(0));
    assert!(why(1).contains("have the hash"), "{}", why(1));
    assert!(why(2).contains("no document"), "{}", why(2));
    assert_eq!(why(3), "not a plain file");
    assert_eq!(other.findings(), [] as [Value; 0]);

    // The destination says the same, and takes the rest; the kiosk mends what it still has.
    let ran = run(&mut site.destination.command(&["import", stick.to_str().unwrap()]));
    assert_eq!(
        (ran.status.code(), &ran.last()["documents"], &ran.last()["damaged"]["count"]),
        (Some(3), &json!(2), &json!(4)),
        "{ran:#?}"
    );
    fs::remove_file(stick.join("waypost/index/gateway-of-nobody.jsonl")).unwrap();
    assert_eq!(export(&site.gateway, &stick)["documents"], 4);
    assert_eq!(deliver(&site.destination, &stick)["documents"], 4);
    assert_eq!(site.destination.inbox().len(), 6);
    assert_eq!(
        fs::read_to_string("/etc/passwd").unwrap().lines().next().map(|line| line.contains("root")),
        Some(true)
    );
}

#[test]
fn an_export_or_import_that_is_killed_at_any_moment_goes_on_with_the_next_one() {
    let mut site = Site::start();
    let phone = site.paired_phone("anna");
    site.destination.backhaul.refuse(true);
    let large = content(1, 12_000_000);
    phone.add(&[("large", &large), ("a.xml", b"a"), ("b.xml", b"b")]);
    assert_eq!(phone.sync()["transferred"], 3);
    site.gateway.stop();
    let stick = new_stick(&site);
    let to = stick.to_str().unwrap();
    let mut other = site.another_gateway("other");
    site.destination.backhaul.refuse(true);
    other.stop();
    // Later and later, up to the end; each goes on from what the one before has left.
    let killed = |gateway: &Gateway, work: &str| {
        for (cut, milliseconds) in (0..).step_by(15).enumerate() {
            let mut command = gateway.command(&[work, to]);
            let mut child = command
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
            child.kill().unwrap();
            if child.wait().unwrap().success() {
                return cut;
            }
        }
        unreachable!("there is always a later moment")
    };
    assert!(killed(&site.gateway, "export") > 0);
    let exported = export(&site.gateway, &stick);
    assert_eq!((&exported["already"], &exported["documents"]), (&json!(3), &json!(0)), "{exported}");
    assert!(killed(&other, "import") > 0);
    let imported = import(&other, &stick);
    assert_eq!((&imported["already"], &imported["documents"]), (&json!(3), &json!(0)), "{imported}");
    other.start();
    assert_eq!((other.findings(), other.status()["partials"].clone()), (Vec::new(), json!(0)));
    site.destination.backhaul.refuse(false);
    wait_until("the upload", || (other.status()["opened"] == 3).then_some(()));
    assert_eq!(site.destination.inbox()["large"], large);
}

#[test]
fn what_this_kiosk_does_not_serve_is_refused_and_no_stick_at_all_is_an_error() {
    let site = Site::start();
    let elsewhere = site.another_destination("elsewhere");
    let other = Gateway::make(&site.folder().join("other"), &elsewhere);
    let phone = site.paired_phone("anna");
    site.destination.backhaul.refuse(true);
    let ids = phone.add(&[("a.xml", b"a")]);
    phone.sync();
    let stick = new_stick(&site);
    export(&site.gateway, &stick);
    let ran = try_import(&other, &stick);
    assert_eq!(ran.status.code(), Some(3));
    let why = "does not carry documents for this destination";
    assert_eq!(ran.last()["refused"]["named"], json!([[ids[0], why]]), "{:#?}", ran.last());
    assert_eq!(deliver(&elsewhere, &stick)["for_others"], 1);

    let nothing = site.folder().join("nothing");
    fs::create_dir(&nothing).unwrap();
    let ran = try_import(&site.gateway, &nothing);
    assert_eq!(ran.status.code(), Some(1));
    assert!(ran.last()["error"].as_str().unwrap().contains("no bundle in"), "{ran:#?}");
    let ran = run(&mut site.gateway.command(&["export", "/nowhere/at/all"]));
    assert_eq!(ran.status.code(), Some(1));
    assert!(ran.last()["error"].as_str().unwrap().contains("is the stick plugged in"), "{ran:#?}");
    let ran = run(&mut site.destination.command(&["import", nothing.to_str().unwrap()]));
    assert!(ran.last()["error"].as_str().unwrap().contains("no bundle in"), "{ran:#?}");
}
