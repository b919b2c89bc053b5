//! Sticks that are plugged into a running kiosk, pulled at any moment, and that carry a whole kiosk to another board.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bytes::Bytes;
use serde_json::json;
use waypost_bundle::{Bundle, Entry, Kind, Writer};
use waypost_protocol::confirmation::{Confirmation, Statement, Verdict};
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::{Fingerprint, GroupId, MessageId, PeerKey};
use waypost_protocol::time::UnixTime;
use waypost_tests::lossy_fs::{Loss, LossyDisk, Then};
use waypost_tests::scenario::{Gateway, Site, content, folder, run, wait_until};

#[test]
fn a_kiosk_moves_to_a_spare_board_and_its_phones_notice_nothing() {
    let mut site = Site::start();
    let (phone, banned) = (site.paired_phone("anna"), site.paired_phone("eve"));
    let key = |phone: &waypost_tests::scenario::Phone| {
        phone.run(&["status"]).last()["key"].as_str().unwrap().to_owned()
    };
    site.gateway.run(&["peers", "revoke", &key(&banned)]);
    site.destination.backhaul.refuse(true);
    let ids = phone.add(&[("a.xml", b"a"), ("b.xml", b"b"), ("deleted.xml", b"deleted")]);
    assert_eq!(phone.sync()["transferred"], 3);
    site.gateway.run(&["documents", "delete", &ids[2]]);
    let old = site.gateway.status();
    let stick = site.folder().join("stick");
    fs::create_dir(&stick).unwrap();
    let to = stick.to_str().unwrap();

    // Only when it is asked for, and then for nobody else's eyes.
    site.gateway.run(&["export", to]);
    assert!(!stick.join("waypost/identity").exists());
    let exported = site.gateway.run(&["export", to, "--identity"]);
    assert_eq!((&exported.last()["identity"], &exported.last()["already"]), (&json!(true), &json!(2)));
    let secret = stick.join("waypost/identity/kiosk.jsonl");
    for (path, mode) in [(secret.as_path(), 0o600), (secret.parent().unwrap(), 0o700)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }

    // Not into a gateway that runs, and not into one that has phones or documents of its own.
    let into = |gateway: &Gateway| run(&mut gateway.command(&["import", to, "--identity"]));
    let said = into(&site.gateway);
    assert!(said.last()["error"].as_str().unwrap().contains("stop it first"), "{said:#?}");
    let mut other = site.another_gateway("other");
    let ben = site.new_phone("ben");
    ben.pair(&other);
    other.stop();
    let before = fs::read(other.folder().join("identity.key")).unwrap();
    let said = into(&other);
    assert!(said.last()["error"].as_str().unwrap().contains("a kiosk of its own"), "{said:#?}");
    assert_eq!(fs::read(other.folder().join("identity.key")).unwrap(), before);

    // Half of an identity is none.
    let mut spare = Gateway::make(&site.folder().join("spare"), &site.destination);
    let whole = fs::read(&secret).unwrap();
    for length in [0, 30, whole.len() / 2, whole.len() - 1] {
        fs::write(&secret, &whole[..length]).unwrap();
        let said = into(&spare);
        assert!(said.last()["error"].as_str().unwrap().contains("is damaged at line"), "{said:#?}");
        assert!(!spare.folder().join("identity.key").exists());
    }
    fs::write(&secret, &whole).unwrap();

    site.gateway.stop();
    let said = into(&spare);
    assert_eq!(said.status.code(), Some(0), "{said:#?}");
    assert_eq!(said.said[0]["moved"], json!({ "key": old["key"], "peers": 2, "deleted": 1 }), "{said:#?}");
    assert_eq!(said.last()["documents"], 2);
    // Once more: what was begun may be repeated.
    let said = into(&spare);
    assert_eq!((said.status.code(), &said.last()["already"]), (Some(0), &json!(2)), "{said:#?}");
    spare.start();
    let new = spare.status();
    assert_eq!(new["key"], old["key"]);
    assert_ne!(new["store"], old["store"], "a new store, so that phones offer again what is unconfirmed");
    site.gateway.link.retarget(new["listening"][0].as_str().unwrap().parse().unwrap());

    // The phone goes on as if nothing had happened; what was deleted stays so, and who was revoked.
    phone.add(&[("later.xml", b"later")]);
    let said = phone.try_run(&["sync"]);
    let report = said.last();
    let told = (&report["transferred"], &report["already_held"], &report["refused"][0]["id"]);
    assert_eq!(told, (&json!(1), &json!(2), &json!(ids[2])), "{report:#}");
    let waiting: BTreeSet<String> =
        spare.documents().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert!(waiting.len() == 3 && !waiting.contains(&ids[2]), "{waiting:?}");
    let said = banned.try_run(&["sync"]);
    assert_eq!(said.last()["ending"], "turned away", "{said:#?}");
    site.destination.backhaul.refuse(false);
    wait_until("the verdicts", || (spare.status()["opened"] == 3).then_some(()));
    phone.try_run(&["sync"]);
    let left: Vec<_> = phone.list(false).iter().map(|one| one["id"].clone()).collect();
    assert_eq!(left, [json!(ids[2])], "confirmed through the new board: deleted on the phone");
}

#[test]
fn a_stick_with_the_marker_is_imported_exported_and_may_then_be_pulled() {
    let place = folder();
    let media = place.path().join("media");
    fs::create_dir_all(media.join("stick")).unwrap();
    fs::create_dir_all(media.join("other")).unwrap();
    let at = media.join("stick");
    let mut site =
        Site::configured(&format!("[bundles]\nenabled = true\nfolders = [\"{}\"]\n", media.display()));
    let phone = site.paired_phone("anna");
    site.destination.backhaul.refuse(true);
    phone.add(&[("a.xml", b"a"), ("b.xml", &content(3, 400_000))]);
    assert_eq!(phone.sync()["transferred"], 2);

    // One without the marker is left alone.
    let plain = LossyDisk::new().mount(media.join("other")).unwrap();
    let elsewhere = place.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let prepared = LossyDisk::new().mount(&elsewhere).unwrap();
    fs::write(elsewhere.join("WAYPOST-BUNDLE"), "").unwrap();
    let stick = prepared.unmount().unwrap();
    assert_eq!(site.gateway.status()["bundle"], json!(null), "no stick with the marker so far");
    let mounted = stick.mount(&at).unwrap();
    let done = |gateway: &Gateway, number: u64| {
        wait_until("the end of the work on the stick", || {
            let bundle = gateway.status()["bundle"].clone();
            (bundle["number"] == number && !bundle["outcome"].is_null()).then_some(bundle)
        })
    };
    let bundle = done(&site.gateway, 1);
    assert_eq!(bundle["outcome"]["Ok"][0]["documents"], 2, "{bundle:#}");
    site.gateway.process().wait_for("may be pulled", waypost_tests::scenario::PATIENCE).unwrap();
    assert!(!media.join("other/waypost").exists());

    // It is pulled, without a word to the system. Everything is on it. No hand plugs one in again before the kiosk sees that.
    let gone = |site: &mut Site| {
        site.gateway.process().wait_for("is gone", waypost_tests::scenario::PATIENCE).unwrap();
    };
    let stick = mounted.crash(Loss::Everything).unwrap();
    gone(&mut site);
    let mounted = stick.mount(&at).unwrap();
    let second = done(&site.gateway, 2);
    assert_eq!(second["outcome"]["Ok"][1]["already"], 2, "all of it was durable: {second:#}");
    let stick = mounted.unmount().unwrap();
    gone(&mut site);
    let mounted = stick.mount(&elsewhere).unwrap();
    let taken = site.destination.run(&["import", elsewhere.to_str().unwrap()]);
    assert_eq!(taken.last()["documents"], 2, "{taken:#?}");
    let stick = mounted.crash(Loss::Everything).unwrap();
    let mounted = stick.mount(&at).unwrap();
    let third = done(&site.gateway, 3);
    assert_eq!(third["outcome"]["Ok"][0]["settled"], 2, "{third:#}");
    assert_eq!(site.gateway.status()["opened"], 2);
    phone.sync();
    assert_eq!(phone.list(false).len(), 0, "the phone has its confirmation");
    site.gateway.stop();
    drop((mounted, plain));
}

#[test]
fn a_stick_that_is_too_small_takes_what_fits_and_the_rest_waits_for_a_larger_one() {
    let place = folder();
    let site = Site::start();
    let phone = site.paired_phone("anna");
    site.destination.backhaul.refuse(true);
    phone.add(&[("large", &content(1, 3_000_000)), ("a.xml", b"a"), ("b.xml", b"b")]);
    assert_eq!(phone.sync()["transferred"], 3);
    let disk = LossyDisk::new();
    disk.set_capacity(3 << 20);
    let small = disk.mount(place.path()).unwrap();
    let to = place.path().to_str().unwrap();
    let said = run(&mut site.gateway.command(&["export", to]));
    assert_eq!(said.status.code(), Some(3), "{said:#?}");
    assert_eq!((&said.last()["documents"], &said.last()["no_room"]), (&json!(2), &json!(1)), "{said:#?}");
    assert_eq!(site.gateway.status()["waiting"], 3);
    small.disk().set_capacity(30 << 20);
    let said = site.gateway.run(&["export", to]);
    assert_eq!((&said.last()["documents"], &said.last()["already"]), (&json!(1), &json!(2)), "{said:#?}");
    assert_eq!(site.destination.run(&["import", to]).last()["documents"], 3);
    drop(small);
}

const DESTINATION: Fingerprint = Fingerprint::V4([7; 20]);
const US: Writer = Writer::Gateway(PeerKey([1; 32]));

fn documents() -> Vec<Document> {
    let make = |number: u64| {
        let body = envelope::assemble(&Header::to(DESTINATION), &content(number, 3_000)).unwrap();
        Document::new(GroupId([2; 32]), UnixTime(1_800_000_000), body).unwrap()
    };
    (0..3).map(make).collect()
}

/// As an export does it; whether it came to its end.
fn write(folder: &Path, documents: &[Document]) -> std::io::Result<()> {
    let other = |error: &dyn std::fmt::Debug| std::io::Error::other(format!("{error:?}"));
    let bundle = Bundle::create(folder).map_err(|error| other(&error))?;
    bundle.remove_parts()?;
    let verdicts = vec![(MessageId([9; 32]), Verdict::Opened)];
    let statement = Statement::new(DESTINATION, DESTINATION, UnixTime(1_800_000_000), verdicts).unwrap();
    bundle.put_confirmation(&Confirmation::new(statement, Bytes::from_static(b"signature")).unwrap())?;
    for document in documents {
        let read = |offset: u64, most: usize| -> Result<Bytes, Infallible> {
            let start = usize::try_from(offset).unwrap();
            Ok(document.body().slice(start..document.body().len().min(start + most)))
        };
        bundle.put_document(&document.description(), read).map_err(|error| other(&error))?;
    }
    bundle.flush()?;
    let mut index = bundle.index(&US)?;
    for place in bundle.walk(Kind::Documents).flatten() {
        index.add(&Entry::Document { document: place.id, size: 1, age: 0 })?;
    }
    index.finish()?;
    bundle.flush()
}

/// Documents and confirmations that are whole, and how many files are not.
fn read(folder: &Path) -> (BTreeSet<MessageId>, usize, usize) {
    let Ok(bundle) = Bundle::open(folder) else { return Default::default() };
    let (mut whole, mut confirmations, mut faults) = (BTreeSet::new(), 0, bundle.listing().1.len());
    for found in bundle.walk(Kind::Documents) {
        match found.map(|place| (place.id, bundle.document(&place).and_then(|mut file| file.verify()))) {
            Ok((id, Ok(()))) => drop(whole.insert(id)),
            _ => faults += 1,
        }
    }
    for found in bundle.walk(Kind::Confirmations) {
        match found.map(|place| bundle.confirmation(&place)) {
            Ok(Ok(_)) => confirmations += 1,
            _ => faults += 1,
        }
    }
    (whole, confirmations, faults)
}

#[test]
fn a_stick_that_is_pulled_at_any_operation_has_whole_files_or_none_and_is_mended_by_the_next_export() {
    let place = folder();
    let at = place.path();
    let documents = documents();
    let ids: BTreeSet<MessageId> = documents.iter().map(Document::id).collect();
    let disk = LossyDisk::new();
    let mounted = disk.mount(at).unwrap();
    write(at, &documents).unwrap();
    let operations = disk.operations();
    assert!(operations > 40, "{operations}");
    // At its end, all of it lasts.
    let mounted = mounted.crash(Loss::Everything).unwrap().mount(at).unwrap();
    assert_eq!(read(at), (ids.clone(), 1, 0));
    drop(mounted);
    let (mut halves, mut wholes) = (0, 0);
    for number in 0..operations {
        for loss in [Loss::Everything, Loss::Torn { seed: number, sector: 512 }] {
            let disk = LossyDisk::new();
            let mounted = disk.mount(at).unwrap();
            disk.at(number, |_| Then::PowerOff);
            let ended = write(at, &documents);
            let mounted = mounted.crash(loss).unwrap().mount(at).unwrap();
            let (whole, confirmations, faults) = read(at);
            assert!(whole.is_subset(&ids) && confirmations <= 1);
            if ended.is_ok() {
                assert_eq!((&whole, confirmations, faults), (&ids, 1, 0), "cut at {number} after its end");
                wholes += 1;
            }
            halves += usize::from(!whole.is_empty() && whole.len() < ids.len());
            write(at, &documents).unwrap_or_else(|error| panic!("cut at {number}: not mended: {error}"));
            assert_eq!(read(at), (ids.clone(), 1, 0), "cut at {number}");
            drop(mounted);
        }
    }
    assert!(halves > 0, "the cuts came between documents too: {halves} {wholes}");
}
