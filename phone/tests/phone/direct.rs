//! Straight to the destination, the real reference server, over HTTPS.

use sha2::{Digest as _, Sha256};
use waypost_destination::home::{Home, Init};
use waypost_destination::store::{ClientKind, Store};
use waypost_destination::{Server, clock};
use waypost_protocol::invite;
use zeroize::Zeroizing;

use crate::kiosk::{Kiosk, Manners};
use crate::kit::*;

struct Place {
    _folder: tempfile::TempDir,
    home: Home,
    server: Option<Server>,
    url: String,
}

impl Place {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let init = Init { name: "Clinic".into(), self_signed: vec!["127.0.0.1".into()], ..Init::default() };
        let home = Home::init(&folder.path().join("home"), &init).unwrap();
        let hash = Sha256::digest(b"the-token").into();
        let store = Store::open(&home.store_file()).unwrap();
        assert!(store.add_client("phones", ClientKind::Phone, Some(hash), None, clock::now()).unwrap());
        drop(store);
        let server = Server::start(&home, "127.0.0.1:0").unwrap();
        let url = format!("https://{}", server.address());
        Place { _folder: folder, home, server: Some(server), url }
    }

    fn code(&self, token: &str) -> String {
        let code = invite::Destination {
            url: Some(self.url.clone()),
            fingerprint: self.home.destination(),
            // To be fetched from the URL.
            certificate: None,
            successors: vec![],
            collection_key: self.home.collection_key().clone(),
            collections: self.home.settings().collections.clone(),
            token: Some(Zeroizing::new(token.into())),
        };
        code.to_text()
    }

    /// A phone that has this destination.
    fn phone(&self, token: &str) -> Cli {
        let cli = Cli::new();
        let authority = self.home.authority_file().unwrap();
        let code = self.code(token);
        cli.expect(
            0,
            &[
                "destination".as_ref(),
                "add".as_ref(),
                code.as_ref(),
                "--ca".as_ref(),
                authority.as_os_str(),
                "--yes".as_ref(),
            ],
        );
        cli
    }

    /// The inbox's files, by name.
    fn inbox(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        let mut folders = vec![self.home.inbox_folder()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => files.push((
                        entry.file_name().into_string().unwrap(),
                        std::fs::read(entry.path()).unwrap(),
                    )),
                }
            }
        }
        files.sort();
        files
    }
}

#[test]
fn a_phone_with_internet_delivers_by_itself_and_deletes_on_the_answer() {
    let place = Place::start();
    let cli = place.phone("the-token");
    let contents = [("empty", Vec::new()), ("film.mp4", noise(3_000_000)), ("form.xml", b"<form/>".to_vec())];
    contents.iter().for_each(|(name, content)| {
        cli.add(&cli.write(name, content));
    });
    // No kiosk is known, so this is the way without asking for it.
    let said = cli.json(0, &["sync"]);
    let report = said.last();
    assert_eq!((&report["ending"], &report["opened"]), (&"finished".into(), &3.into()), "{said:?}");
    assert_eq!(said.events("confirmed").len(), 3);
    assert!(cli.expect(0, &["list"]).stdout.contains("no documents here"));
    let inbox = place.inbox();
    for (name, content) in &contents {
        assert!(inbox.iter().any(|(known, bytes)| known == name && bytes == content), "{name}");
    }
    assert_eq!(cli.json(0, &["sync", "--direct"]).last()["ending"], "nothing new");
}

#[test]
fn what_a_kiosk_brought_already_is_not_uploaded_again() {
    let place = Place::start();
    let kiosk = Kiosk::start(Manners::serving(place.home.key()));
    let (cli, carrier) = (place.phone("the-token"), place.phone("the-token"));
    cli.add(&cli.write("film.mp4", &noise(2_000_000)));
    cli.pair(&kiosk.pairing());
    assert_eq!(cli.state("film.mp4"), "at-the-kiosk");
    // The same document reaches the server on another way, whose confirmation this phone does not get to see.
    let copy = carrier.home();
    std::fs::create_dir_all(&copy).unwrap();
    std::fs::remove_dir_all(&copy).unwrap();
    assert!(
        std::process::Command::new("cp").arg("-a").arg(cli.home()).arg(&copy).status().unwrap().success()
    );
    assert_eq!(carrier.json(0, &["sync", "--direct"]).last()["transferred"], 1);
    let report = cli.json(0, &["sync", "--direct"]).last();
    assert_eq!(
        (&report["already_held"], &report["transferred"], &report["opened"]),
        (&1.into(), &0.into(), &1.into())
    );
    assert_eq!(report["bytes_out"], 0);
    assert_eq!(place.inbox().len(), 1);
}

#[test]
fn a_server_that_is_away_and_one_that_says_no_are_told_apart() {
    let mut place = Place::start();
    let stranger = place.phone("another-token");
    stranger.add(&stranger.write("form", b"form"));
    let report = stranger.json(1, &["sync", "--direct"]).last();
    assert_eq!(report["ending"], "turned away");
    assert!(report["why"].as_str().unwrap().contains("gateways add"), "{report}");
    assert_eq!(stranger.state("form"), "ready");
    let cli = place.phone("the-token");
    cli.add(&cli.write("form", b"form"));
    place.server.take().unwrap().stop();
    assert_eq!(cli.json(1, &["sync", "--direct"]).last()["ending"], "not reached");
    assert_eq!(cli.state("form"), "ready");
}

#[test]
fn away_from_the_kiosk_and_without_internet_both_are_said_with_the_reason() {
    let mut place = Place::start();
    let cli = place.phone("the-token");
    cli.add(&cli.write("form", b"form"));
    place.server.take().unwrap().stop();
    let said = cli.expect(1, &["sync"]);
    assert!(said.stdout.contains("not reached: no kiosk is known yet; pair with one"), "{said:?}");
    assert!(said.stdout.contains("; straight to Clinic: cannot connect to 127.0.0.1:"), "{said:?}");
    let mut kiosk = Kiosk::start(Manners::serving(place.home.key()));
    let pairing = kiosk.pairing();
    kiosk.stop();
    cli.expect(0, &["pair", "--later", &pairing]);
    let report = cli.json(1, &["sync"]).last();
    let why = report["why"].as_str().unwrap();
    assert_eq!(report["ending"], "not reached");
    assert!(why.starts_with("no known kiosk answers here; "), "{why}");
    assert!(why.contains("; straight to Clinic: cannot connect to 127.0.0.1:"), "{why}");
}

#[test]
fn a_destination_is_added_from_its_url_once_its_fingerprint_is_confirmed() {
    let place = Place::start();
    let cli = Cli::new();
    let authority = place.home.authority_file().unwrap();
    let arguments = |fingerprint: &str| {
        let plain = ["destination", "add", &place.url, "--fingerprint", fingerprint, "--ca"];
        let mut all: Vec<std::ffi::OsString> = plain.iter().map(Into::into).collect();
        all.push(authority.clone().into());
        all
    };
    cli.expect(1, &arguments(&"0".repeat(40)));
    let said = cli.expect(0, &arguments(&place.home.destination().to_string()));
    assert!(said.stdout.contains("collections: forms"), "{said:?}");
    let said = cli.expect(1, &["destination", "add", &place.url, "--yes"]);
    assert!(said.stderr.contains("nobody that is trusted"), "{said:?}");
    let said = cli.expect(2, &["destination", "add", "http://127.0.0.1", "--yes"]);
    assert!(said.stderr.contains("https://"), "{said:?}");
}
