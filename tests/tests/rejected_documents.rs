//! What the destination never wants: the gateway frees it, the phone keeps it and says why.

use std::path::Path;

use serde_json::Value;
use waypost_openpgp::{BUILD_FLOOR, SecretKey};
use waypost_phone::{Phone as PhoneLibrary, Sending};
use waypost_tests::scenario::{Phone, Site, wait_until};

/// Seals a file to another key than the destination's, as a phone with a damaged configuration might.
fn add_sealed_to_another_key(phone: &Phone, file: &Path) -> String {
    let library = PhoneLibrary::open(phone.home()).unwrap();
    let mut destination = library.destinations().unwrap().remove(0);
    destination.certificates = vec![SecretKey::generate("Other", BUILD_FLOOR).unwrap().certificate()];
    let added = library.add_file(file, b"unreadable.xml", &Sending::to(&destination)).unwrap();
    added.id.to_string()
}

fn of<'a>(documents: &'a [Value], id: &str) -> &'a Value {
    documents.iter().find(|one| one["id"] == id).unwrap_or_else(|| panic!("no {id} in {documents:#?}"))
}

#[test]
fn a_rejected_document_leaves_the_gateway_and_stays_on_the_phone_with_the_reason() {
    let mut site = Site::start();
    site.destination.stop();
    let settings = site.destination.home().join("destination.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    let others: Vec<&str> = text.lines().filter(|line| !line.starts_with("max_content")).collect();
    std::fs::write(&settings, format!("max_content = 100000\n{}\n", others.join("\n"))).unwrap();
    site.destination.start();
    let phone = site.paired_phone("anna");
    phone.run(&["destination", "set", site.destination.fingerprint(), "--collection", "unheard-of"]);

    let good = phone.add(&[("good.xml", b"<form/>")]).remove(0);
    let zeros = vec![0; 300_000];
    let large = phone.add(&[("large.txt", &zeros)]).remove(0);
    let file = site.folder().join("file");
    std::fs::write(&file, b"content").unwrap();
    let unreadable = add_sealed_to_another_key(&phone, &file);
    let added = phone.run(&["add", "--collection", "unheard-of", file.to_str().unwrap()]);
    let unknown = added.events("added").next().unwrap()["id"].as_str().unwrap().to_owned();
    let rejected = [
        (&large, "too-large", "too large for the destination"),
        (&unreadable, "cannot-open", "the destination cannot open it"),
        (&unknown, "unknown-collection", "the destination does not have this collection"),
    ];

    assert_eq!(phone.sync()["transferred"], 4);
    wait_until("the verdicts", || (site.gateway.status()["waiting"] == 0).then_some(()));
    let status = site.gateway.status();
    assert_eq!((&status["opened"], &status["rejected"]), (&1.into(), &3.into()), "{status}");
    let documents = site.gateway.documents();
    for (id, verdict, _) in rejected {
        let document = of(&documents, id);
        assert_eq!(document["has_body"], false, "{document}");
        assert_eq!(document["state"]["verdict"]["rejected"], verdict, "{document}");
    }

    let ran = phone.run(&["sync"]);
    assert_eq!((&ran.last()["rejected"], &ran.last()["opened"]), (&3.into(), &1.into()), "{ran:#?}");
    let listed = phone.list(false);
    assert_eq!(listed.len(), 3, "{listed:#?}");
    for (id, _, why) in rejected {
        let one = of(&listed, id);
        assert_eq!((&one["state"], &one["is_here"]), (&"refused".into(), &true.into()), "{one}");
        assert_eq!(one["why"], why);
    }
    let shown = String::from_utf8(
        std::process::Command::new(waypost_tests::scenario::program("waypost-phone"))
            .args([Path::new("--home"), phone.home(), Path::new("list")])
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap();
    for (id, _, why) in rejected {
        assert!(shown.contains(&id[..12]) && shown.contains(why), "{shown}");
    }
    assert_eq!(of(&phone.list(true), &good)["state"], "at-the-server");
    assert_eq!(site.destination.inbox(), [("good.xml".into(), b"<form/>".to_vec())].into());

    // It is not offered again, and goes when its user says so.
    let again = phone.sync();
    assert_eq!((&again["ending"], &again["transferred"]), (&"nothing new".into(), &0.into()), "{again}");
    phone.run(&["delete", &large, &unreadable, &unknown]);
    assert_eq!(phone.list(false), [] as [Value; 0]);
    assert!(site.gateway.findings().is_empty());
}
