//! A destination's key over time: gateways and phones follow what its old key vouches for, and nothing else.

use serde_json::Value;
use waypost_openpgp::{BUILD_FLOOR, Chain, SecretKey};
use waypost_protocol::succession;
use waypost_tests::scenario::{Destination, Phone, Site, wait_until};

/// Runs a command of its key while the server is stopped.
fn change_key(destination: &mut Destination, arguments: &[&str]) -> Value {
    destination.stop();
    let said = destination.run(&[&["key"], arguments].concat()).last().clone();
    destination.start();
    said
}

fn certificates(site: &Site) -> Vec<String> {
    let status = site.gateway.status();
    let list = status["destinations"][0]["certificates"].as_array().unwrap().clone();
    list.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

fn log(site: &Site) -> String {
    std::fs::read_to_string(site.gateway.log()).unwrap()
}

#[test]
fn documents_that_were_sealed_before_a_renewal_still_open_and_the_gateway_learns_the_new_subkey() {
    let mut site = Site::start();
    let phone = site.paired_phone("anna");
    site.destination.backhaul.cut();
    phone.add(&[("before.xml", b"<before/>")]);
    // OpenPGP counts in seconds.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    change_key(&mut site.destination, &["renew", "--for", "2y"]);
    phone.sync();
    wait_until("the verdict", || (site.gateway.status()["opened"] == 1).then_some(()));
    let said = format!("has renewed its key {}", site.destination.fingerprint());
    assert!(log(&site).contains(&said), "{}", log(&site));
    assert_eq!(site.destination.inbox().len(), 1);
    assert_eq!(certificates(&site), [site.destination.fingerprint()]);
}

#[test]
fn a_gateway_follows_a_destination_to_its_successor_and_remembers_it() {
    let mut site = Site::start();
    let phone = site.paired_phone("anna");
    phone.add(&[("before.xml", b"<before/>")]);
    let said = change_key(&mut site.destination, &["succeed", "--new"]);
    let (first, successor) = (site.destination.fingerprint().to_owned(), said["successor"].as_str().unwrap());
    phone.sync();
    wait_until("the verdict", || (site.gateway.status()["opened"] == 1).then_some(()));
    assert_eq!(certificates(&site), [first.as_str(), successor]);
    let words = format!("has a successor key {successor}, vouched for by {first}");
    assert!(log(&site).contains(&words), "{}", log(&site));
    site.gateway.stop();
    site.gateway.start();
    assert_eq!(certificates(&site), [first.as_str(), successor], "it is stored");
}

#[test]
fn a_phone_follows_by_itself_over_https_and_seals_to_the_successor() {
    let mut site = Site::start();
    let phone = site.new_phone("anna");
    let said = site.destination.run(&["phone-code", "--token", "phones"]);
    let authority = site.destination.authority();
    let code = said.last()["text"].as_str().unwrap();
    phone.run(&["destination", "add", code, "--yes", "--ca", authority.to_str().unwrap()]);
    phone.add(&[("before.xml", b"<before/>")]);
    change_key(&mut site.destination, &["succeed", "--new"]);
    let ran = phone.run(&["sync", "--direct"]);
    assert_eq!((&ran.last()["opened"], &ran.last()["not_proven"]), (&1.into(), &0.into()), "{ran:#?}");
    assert_eq!(phone.list(false), [] as [Value; 0]);
    // Without the old secret only what is sealed to the successor opens.
    phone.add(&[("after.xml", b"<after/>")]);
    let home = site.destination.home();
    let key = std::fs::read_dir(home.join("keys")).unwrap().next().unwrap().unwrap().path();
    let successor = SecretKey::from_bytes(&std::fs::read(key).unwrap()).unwrap();
    let library = waypost_phone::Phone::open(phone.home()).unwrap();
    let known = library.destinations().unwrap().remove(0);
    let sealed_to = known.recipients("forms", BUILD_FLOOR.max(library.wall())).remove(0);
    drop(library);
    assert_eq!(sealed_to.fingerprint(), successor.certificate().fingerprint());
    let ran = phone.run(&["sync", "--direct"]);
    assert_eq!(ran.last()["opened"], 1, "{ran:#?}");
}

/// A stranger takes the server over, but not the primary key: its chain names the stranger's key.
fn forge(destination: &mut Destination) -> String {
    destination.stop();
    let stranger = SecretKey::generate("Stranger", BUILD_FLOOR).unwrap();
    let secret = std::fs::read(destination.home().join("secret.pgp")).unwrap();
    let first = SecretKey::from_bytes(&secret).unwrap().certificate();
    let name = stranger.certificate().fingerprint();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = waypost_protocol::time::UnixTime(since.as_secs());
    let mut link = stranger.vouch(first.fingerprint(), &stranger.certificate(), now).unwrap();
    link.word.as_mut().unwrap().signer = first.fingerprint();
    let mut links = Chain::new(first).links();
    links.push(link);
    let keys = destination.home().join("keys");
    std::fs::create_dir_all(&keys).unwrap();
    std::fs::write(keys.join(format!("{name}.pgp")), stranger.to_armor().unwrap().as_bytes()).unwrap();
    std::fs::write(destination.home().join("chain.pb"), succession::encode(&links)).unwrap();
    destination.start();
    name.to_string()
}

#[test]
fn a_forged_succession_changes_nothing_at_gateway_or_phone_and_is_named() {
    let mut site = Site::start();
    let phone = site.paired_phone("anna");
    phone.add(&[("form.xml", b"<form/>")]);
    let stranger = forge(&mut site.destination);
    phone.sync();
    let trouble = wait_until("the forgery to be named", || {
        let status = site.gateway.status();
        status["destinations"][0]["chain_trouble"].as_str().map(str::to_owned)
    });
    assert!(trouble.contains(&stranger) && trouble.contains("signature does not match"), "{trouble}");
    assert_eq!(certificates(&site), [site.destination.fingerprint()]);
    let status = site.gateway.status();
    assert_eq!((&status["waiting"], &status["opened"]), (&1.into(), &0.into()), "{status}");
    assert!(log(&site).contains("is not taken"), "{}", log(&site));
    let ran = phone.run(&["sync"]);
    assert_eq!(ran.last()["opened"], 0, "{ran:#?}");
    assert_eq!(phone.list(false)[0]["is_here"], true);
}

fn known_to(phone: &Phone) -> Vec<String> {
    let library = waypost_phone::Phone::open(phone.home()).unwrap();
    let destination = library.destinations().unwrap().remove(0);
    destination.certificates.iter().map(|one| one.fingerprint().to_string()).collect()
}

#[test]
fn a_phone_that_meets_kiosks_only_learns_of_successor_and_revocation_there() {
    let mut site = Site::start();
    let phone = site.paired_phone("anna");
    phone.add(&[("before.xml", b"<before/>")]);
    phone.sync();
    wait_until("the verdict", || (site.gateway.status()["opened"] == 1).then_some(()));
    let said = change_key(&mut site.destination, &["succeed", "--new"]);
    let (first, successor) = (site.destination.fingerprint().to_owned(), said["successor"].as_str().unwrap());
    // Another phone's document has the gateway upload, and so follow.
    let other = site.paired_phone("ben");
    other.add(&[("other.xml", b"<other/>")]);
    other.sync();
    wait_until("its verdict", || (site.gateway.status()["opened"] == 2).then_some(()));
    assert_eq!(known_to(&phone), [first.as_str()]);
    let told = phone.sync();
    assert_eq!((&told["opened"], &told["not_proven"]), (&1.into(), &0.into()), "{told}");
    assert_eq!(known_to(&phone), [first.as_str(), successor]);

    // Once is enough.
    let silent = phone.sync();
    let bytes = |report: &Value| report["bytes_in"].as_u64().unwrap();
    assert!(bytes(&silent) + 1_000 < bytes(&told), "{silent} {told}");

    // What the successor signs is proven, and what is sealed to it opens without the old secret.
    phone.add(&[("after.xml", b"<after/>")]);
    change_key(&mut site.destination, &["revoke", &first]);
    phone.sync();
    wait_until("the verdict", || (site.gateway.status()["opened"] == 3).then_some(()));
    let told = phone.sync();
    assert_eq!((&told["opened"], &told["not_proven"]), (&1.into(), &0.into()), "{told}");
    assert_eq!(phone.list(false), [] as [Value; 0]);
    let library = waypost_phone::Phone::open(phone.home()).unwrap();
    let known = library.destinations().unwrap().remove(0);
    assert!(known.certificates[0].is_hard_revoked());
    assert_eq!(known.recipients("forms", library.wall())[0].fingerprint().to_string(), successor);
}

#[test]
fn an_admin_can_have_a_gateway_forget_what_it_learnt_of_certificates_while_it_runs_and_while_it_does_not() {
    let mut site = Site::start();
    let phone = site.paired_phone("anna");
    let said = change_key(&mut site.destination, &["succeed", "--new"]);
    let (first, successor) = (site.destination.fingerprint().to_owned(), said["successor"].as_str().unwrap());
    for (forms, name) in [(1, "test"), (2, first.as_str())] {
        phone.add(&[(&format!("form {forms}.xml"), name.as_bytes())]);
        phone.sync();
        wait_until("the verdict", || (site.gateway.status()["opened"] == forms).then_some(()));
        assert_eq!(certificates(&site), [first.as_str(), successor]);
        phone.sync();
        let ran = site.gateway.run(&["destinations", "reset", name]);
        assert_eq!(ran.last()["reset"], first, "{ran:#?}");
        assert_eq!(certificates(&site), [first.as_str()]);
    }
    site.gateway.stop();
    site.gateway.run(&["destinations", "reset", "test"]);
    // It asks its destination as soon as it has started.
    site.destination.backhaul.pause(true);
    site.gateway.start();
    assert_eq!(certificates(&site), [first.as_str()]);
    site.destination.backhaul.pause(false);
    wait_until("its answer", || (certificates(&site).len() == 2).then_some(()));
    // The server's answer is taken anew, also by a gateway that went on running.
    site.gateway.run(&["destinations", "reset", "test"]);
    phone.add(&[("form 3.xml", b"3")]);
    phone.sync();
    wait_until("the verdict", || (site.gateway.status()["opened"] == 3).then_some(()));
    assert_eq!(certificates(&site), [first.as_str(), successor]);
    let failed = site.gateway.command(&["destinations", "reset", "tset"]).output().unwrap();
    let said = String::from_utf8_lossy(&failed.stdout);
    assert!(!failed.status.success() && said.contains("no destination tset"), "{said}");
}

#[test]
fn a_new_phone_takes_the_successors_of_a_revoked_key_from_the_code_and_from_nowhere_else() {
    let mut site = Site::start();
    let said = change_key(&mut site.destination, &["succeed", "--new"]);
    let (first, successor) = (site.destination.fingerprint().to_owned(), said["successor"].as_str().unwrap());
    change_key(&mut site.destination, &["revoke", &first]);
    let code = site.destination.run(&["phone-code", "--token", "phones"]).last()["text"].clone();
    let (code, authority) = (code.as_str().unwrap(), site.destination.authority());
    let add = |phone: &Phone, code: &str| {
        phone.try_run(&["destination", "add", code, "--yes", "--ca", authority.to_str().unwrap()])
    };
    let phone = site.new_phone("anna");
    let without = code.replace(&format!("&s={successor}"), "");
    assert_ne!(without, code);
    let ran = add(&phone, &without);
    assert!(!ran.status.success() && ran.errors.contains("has no valid encryption key"), "{ran:#?}");
    let ran = add(&phone, code);
    assert!(ran.status.success(), "{ran:#?}");
    assert_eq!(known_to(&phone), [first.as_str(), successor]);
    phone.add(&[("form.xml", b"<form/>")]);
    let ran = phone.run(&["sync", "--direct"]);
    assert_eq!((&ran.last()["opened"], &ran.last()["not_proven"]), (&1.into(), &0.into()), "{ran:#?}");
}

#[test]
fn a_destination_that_was_removed_and_added_again_is_followed_again() {
    let mut site = Site::start();
    let said = change_key(&mut site.destination, &["succeed", "--new"]);
    let (first, successor) = (site.destination.fingerprint().to_owned(), said["successor"].as_str().unwrap());
    let code = site.destination.run(&["phone-code", "--token", "phones"]).last()["text"].clone();
    // As a code of before says it.
    let code = code.as_str().unwrap().replace(&format!("&s={successor}"), "");
    let phone = site.new_phone("anna");
    let authority = site.destination.authority();
    for round in 0..2 {
        phone.run(&["destination", "add", &code, "--yes", "--ca", authority.to_str().unwrap()]);
        assert_eq!(known_to(&phone), [first.as_str()]);
        phone.add(&[(&format!("form {round}.xml"), b"<form/>")]);
        let ran = phone.run(&["sync", "--direct"]);
        assert_eq!((&ran.last()["opened"], &ran.last()["not_proven"]), (&1.into(), &0.into()), "{ran:#?}");
        assert_eq!(known_to(&phone), [first.as_str(), successor]);
        phone.run(&["destination", "remove", &first]);
    }
}
