//! The store of a card that is dying: what cannot be read is named, all the rest is saved.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use nix::libc::EIO;
use serde_json::Value;
use waypost_tests::lossy_fs::LossyDisk;
use waypost_tests::scenario::{Site, content, page_of_body, program};

#[test]
fn a_page_that_cannot_be_read_costs_the_document_that_it_is_of_and_no_other() {
    let mut site = Site::start();
    site.destination.stop();
    let phone = site.paired_phone("amina");
    let contents: Vec<Vec<u8>> = (0..5).map(|seed| content(seed, 100_000)).collect();
    let mut ids = Vec::new();
    // One contact each, so that they come in this order.
    for (number, bytes) in contents.iter().enumerate() {
        ids.extend(phone.add(&[(&format!("form-{number}"), bytes)]));
        phone.sync();
    }
    site.gateway.kill9();

    let card = site.folder().join("card");
    fs::create_dir(&card).unwrap();
    let mounted = LossyDisk::new().mount(&card).unwrap();
    fs::create_dir(card.join("store")).unwrap();
    for name in ["store/data.mdb", "store.key", "identity.key"] {
        fs::copy(site.gateway.folder().join(name), card.join(name)).unwrap();
    }
    let page = page_of_body(&site.gateway.folder().join("store"), 2);
    // Mounted anew, so that the kernel has nothing of it.
    let mounted = mounted.unmount().unwrap().mount(&card).unwrap();
    mounted.disk().refuse_reads("store/data.mdb", page.clone());
    assert_eq!(fs::read(card.join("store/data.mdb")).unwrap_err().raw_os_error(), Some(EIO));

    let look = |arguments: &[&str]| rescue(&card.join("store"), site.folder(), arguments);
    let checked = look(&["store", "check"]);
    assert_eq!(checked.status.code(), Some(1));
    let lost = "4096 bytes of the card cannot be read: what lies there is lost; `store check` names it";
    assert!(String::from_utf8_lossy(&checked.stderr).contains(lost), "{checked:?}");
    let findings = last(&checked)["findings"].as_array().unwrap().clone();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].as_str().unwrap().contains(&ids[2]), "{findings:?} of {ids:?}");

    let stick = site.folder().join("stick");
    fs::create_dir(&stick).unwrap();
    let exported = look(&["export", stick.to_str().unwrap()]);
    let report = last(&exported);
    assert_eq!(exported.status.code(), Some(3), "something was passed over: {report}");
    assert_eq!(report["documents"], 4, "{report}");
    assert_eq!(report["unreadable"]["count"], 1, "{report}");
    assert!(report["unreadable"].to_string().contains(&ids[2]), "{report}");

    site.destination.start();
    site.destination.run(&["import", stick.to_str().unwrap()]);
    let found: Vec<Vec<u8>> = site.destination.inbox().into_values().collect();
    assert_eq!(found.len(), 4);
    for (number, bytes) in contents.iter().enumerate() {
        assert_eq!(found.contains(bytes), number != 2, "form-{number}");
    }
}

/// Runs a command on the card's store, with the copy in `work`.
fn rescue(store: &Path, work: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("waypost"));
    command.arg("--json").arg("--store").arg(store).args(arguments).env("TMPDIR", work);
    command.output().unwrap()
}

fn last(ran: &Output) -> Value {
    let text = String::from_utf8_lossy(&ran.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_else(|| panic!("{ran:?}"))).unwrap()
}
