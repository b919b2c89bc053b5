//! Subscriptions, with real programs: documents reach the phones that want and may have them, and are read there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use prost::Message as _;
use serde_json::Value;
use waypost_openpgp::{Compress, SecretKey, seal_bytes, seal_bytes_signed};
use waypost_protocol::content::Label;
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::{Fingerprint, GroupId, StoreId};
use waypost_protocol::mvds::Payload;
use waypost_protocol::session::Introduction;
use waypost_protocol::time::UnixTime;
use waypost_tests::proxy::Direction;
use waypost_tests::rogue::{RawSession, Told, hello, identity, introduced_to};
use waypost_tests::scenario::{Phone, Site, content};

const RETAINED: &str = ", retain = \"30d\"";

/// A site whose gateway has the collection with this configuration, and a phone that reads it.
struct Scene {
    site: Site,
    reader: Phone,
    key: PathBuf,
    certificate: PathBuf,
    group: GroupId,
}

impl Scene {
    fn set(collection: &str, more: &str) -> Self {
        let mut site = Site::start();
        let (key, certificate) = (site.folder().join("reader.key"), site.folder().join("reader.pgp"));
        let secret = SecretKey::generate("Bela", now()).unwrap();
        std::fs::write(&key, secret.to_armor().unwrap().as_bytes()).unwrap();
        std::fs::write(&certificate, secret.certificate().to_armor()).unwrap();
        let reader = site.new_phone("bela");
        let group = subscribe(&site, &reader, &key);
        site.gateway.carry(&site.destination, &group.to_string(), collection);
        site.gateway.configure("30-scene", more);
        site.gateway.stop();
        site.gateway.start();
        reader.pair(&site.gateway);
        Scene { site, reader, key, certificate, group }
    }

    /// A phone that seals to the reader, too, and has handed these over; they are confirmed, and gone from it.
    fn deposit(&self, files: &[(&str, &[u8])]) -> Phone {
        let author = self.site.paired_phone("anna");
        let reader = self.certificate.to_str().unwrap();
        author.run(&["destination", "set", self.site.destination.fingerprint(), "--reader", reader]);
        author.add(files);
        author.run(&["sync", "--wait", "60s"]);
        assert!(author.list(false).is_empty());
        author
    }

    fn open_all(&self, phone: &Phone) -> (Vec<Value>, BTreeMap<String, Vec<u8>>) {
        let folder = tempfile::tempdir_in(self.site.folder()).unwrap();
        let ran = phone.run(&["open", "--all", "--to", folder.path().to_str().unwrap()]);
        let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
        let files = files.map(|file| {
            let name = file.file_name().into_string().unwrap();
            // After the beginning of the id.
            (name[13..].to_owned(), std::fs::read(file.path()).unwrap())
        });
        (ran.last()["opened"].as_array().unwrap().clone(), files.collect())
    }
}

fn now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixTime(since.as_secs())
}

fn subscribe(site: &Site, phone: &Phone, key: &std::path::Path) -> GroupId {
    phone.add_destination(&site.destination);
    phone.run(&["reader", "import", key.to_str().unwrap()]);
    let subscribed = phone.run(&["subscribe", "forms"]);
    subscribed.last()["subscribed"]["group"].as_str().unwrap().parse().unwrap()
}

fn received(phone: &Phone) -> Vec<Value> {
    phone.run(&["list"]).last()["received"].as_array().unwrap().clone()
}

#[test]
fn a_subscriber_gets_what_another_phone_delivered_and_reads_it() {
    let scene = Scene::set(RETAINED, "");
    let photo = content(1, 300_000);
    let author = scene.deposit(&[("form.xml", b"<form/>"), ("photos/cow.jpg", &photo)]);
    assert_eq!(scene.site.destination.inbox().len(), 2);
    let report = scene.reader.sync();
    assert_eq!((&report["ending"], &report["received"]), (&"finished".into(), &2.into()), "{report:#}");
    let listed = received(&scene.reader);
    assert_eq!(listed.len(), 2);
    for one in &listed {
        assert_eq!((&one["collection"], &one["at_the_server"]), (&"forms".into(), &true.into()), "{one:#}");
    }
    let (opened, files) = scene.open_all(&scene.reader);
    assert_eq!(files, [("form.xml".into(), b"<form/>".to_vec()), ("cow.jpg".into(), photo)].into());
    for one in &opened {
        assert_eq!((&one["signed_by"], &one["not_proven"]), (&Value::Null, &"it is not signed".into()));
    }
    // They are its reader's alone: no documents of its own, nothing to hand over, nothing twice.
    assert!(scene.reader.list(true).is_empty());
    let report = scene.reader.sync();
    assert_eq!((&report["ending"], &report["received"]), (&"nothing new".into(), &0.into()), "{report:#}");
    assert_eq!(scene.site.gateway.documents().len(), 2);
    // The author did not subscribe; a phone without the key gets the documents, and is told what is missing.
    assert_eq!(author.sync()["received"], 0);
    let other = scene.site.paired_phone("cecil");
    other.run(&["reader", "new"]);
    other.run(&["subscribe", "forms"]);
    assert_eq!(other.sync()["received"], 2);
    let id = received(&other)[0]["id"].as_str().unwrap().to_owned();
    let folder = scene.site.folder().join("nothing");
    let ran = other.try_run(&["open", &id, "--to", folder.to_str().unwrap()]);
    assert!(!ran.status.success());
    let why = ran.last()["failed"][0]["reason"].as_str().unwrap();
    assert!(why.contains("not sealed to this phone's key"), "{why}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    // Deleted by its reader it does not come back.
    let id = listed[0]["id"].as_str().unwrap();
    scene.reader.run(&["delete", id]);
    assert_eq!(scene.reader.sync()["received"], 0);
    assert_eq!(received(&scene.reader).len(), 1);
    assert!(scene.site.gateway.findings().is_empty());
}

#[test]
fn a_subscriber_that_has_lost_its_store_gets_everything_again() {
    let scene = Scene::set(RETAINED, "");
    scene.deposit(&[("form.xml", b"<form/>")]);
    assert_eq!(scene.reader.sync()["received"], 1);
    std::fs::remove_dir_all(scene.reader.home().join("store")).unwrap();
    subscribe(&scene.site, &scene.reader, &scene.key);
    scene.reader.pair(&scene.site.gateway);
    scene.reader.sync();
    let (_, files) = scene.open_all(&scene.reader);
    assert_eq!(files, [("form.xml".into(), b"<form/>".to_vec())].into());
}

#[test]
fn a_large_document_goes_on_where_the_subscriber_has_it() {
    let scene = Scene::set(RETAINED, "");
    let film = content(2, 6_000_000);
    scene.deposit(&[("film.mp4", &film)]);
    let counts = || scene.site.gateway.link.counts(Direction::FromTarget).bytes;
    let before = counts();
    scene.site.gateway.link.cut_after(Direction::FromTarget, 3_000_000);
    assert_eq!(scene.reader.try_run(&["sync"]).last()["ending"], "link lost");
    let first = counts() - before;
    assert_eq!(scene.reader.sync()["received"], 1);
    let both = counts() - before;
    assert!(first > 2_000_000 && both < 6_000_000 + (1 << 20), "{first} bytes first, {both} in all");
    assert!(scene.open_all(&scene.reader).1["film.mp4"] == film);
}

#[test]
fn a_collection_that_the_admin_closed_is_not_handed_out() {
    for collection in [", retain = \"30d\", subscribe = false", ""] {
        let scene = Scene::set(collection, "");
        scene.deposit(&[("form.xml", b"<form/>")]);
        let report = scene.reader.sync();
        assert_eq!(
            (&report["ending"], &report["received"]),
            (&"nothing new".into(), &0.into()),
            "{report:#}"
        );
    }
}

/// Everything that a gateway says to a peer that wants this collection, until it has nothing more to say.
fn said_to(scene: &Scene, introduction: &Introduction, seed: u64) -> Payload {
    let wanting = waypost_protocol::sync::PeerHello {
        store: StoreId([seed as u8; 16]),
        wants: vec![scene.group],
        max_document: 1 << 30,
        ..hello("raw", &[])
    };
    let address = scene.site.gateway.link.address();
    let mut session = RawSession::open(address, introduction, &identity(seed), &wanting).unwrap();
    session.send(&Payload { report: Some(Default::default()), ..Payload::default() }).unwrap();
    let mut all = Payload::default();
    // A report, or what comes before it.
    while all.report.is_none() && all.offers.is_empty() && all.starts.is_empty() {
        all.merge(session.receive().unwrap().encode_to_vec().as_slice()).unwrap();
    }
    all
}

#[test]
fn a_collection_that_a_reload_closes_is_closed_in_the_middle_of_a_conversation() {
    let scene = Scene::set(RETAINED, "");
    let author = scene.deposit(&[("form.xml", b"<form/>")]);
    let gateway = &scene.site.gateway;
    let wanting = waypost_protocol::sync::PeerHello {
        store: StoreId([9; 16]),
        wants: vec![scene.group],
        max_document: 1 << 30,
        ..hello("raw", &[])
    };
    let introduction = introduced_to(gateway);
    let mut session =
        RawSession::open(gateway.link.address(), &introduction, &identity(9), &wanting).unwrap();
    session.send(&Payload { report: Some(Default::default()), ..Payload::default() }).unwrap();
    let mut offered = Payload::default();
    while offered.offers.is_empty() {
        offered = session.receive().unwrap();
    }
    gateway.carry(&scene.site.destination, &scene.group.to_string(), ", retain = \"30d\", subscribe = false");
    gateway.run(&["reload"]);
    author.add(&[("later.xml", b"<form/>")]);
    author.run(&["sync", "--wait", "60s"]);
    // What was offered before is not sent either; an unknown document is asked for, so that there is an answer.
    let unknown = prost::bytes::Bytes::from(vec![7; 32]);
    session
        .send(&Payload { requests: offered.offers, offers: vec![unknown.clone()], ..Payload::default() })
        .unwrap();
    let mut all = Payload::default();
    while !all.requests.contains(&unknown) {
        all.merge(session.receive().unwrap().encode_to_vec().as_slice()).unwrap();
    }
    assert!(all.offers.is_empty(), "{all:?}");
    assert!(all.messages.is_empty() && all.starts.is_empty(), "{all:?}");
}

#[test]
fn who_is_not_paired_is_offered_nothing_whatever_it_wants() {
    let scene = Scene::set(RETAINED, "[access]\nmode = \"open\"\n");
    scene.deposit(&[("form.xml", b"<form/>"), ("photo.jpg", &content(3, 100_000))]);
    let paired = said_to(&scene, &introduced_to(&scene.site.gateway), 1);
    assert!(paired.offers.len() + paired.starts.len() > 0, "one that is paired is offered them: {paired:?}");
    let open = said_to(&scene, &Introduction::Open, 2);
    assert!(open.offers.is_empty() && open.starts.is_empty() && open.messages.is_empty(), "{open:?}");
    // Nor does the program of a phone tell a stranger what it wants.
    let address = scene.site.gateway.link.address().to_string();
    let stranger = scene.site.new_phone("stranger");
    subscribe(&scene.site, &stranger, &scene.key);
    let report = stranger.run(&["sync", "--address", &address, "--unverified"]);
    assert_eq!(report.last()["received"], 0);
}

#[test]
fn only_what_the_destination_signed_where_it_belongs_is_shown_as_its_word() {
    let scene = Scene::set(RETAINED, "");
    let home = scene.site.destination.home();
    let author = SecretKey::from_bytes(&std::fs::read(home.join("secret.pgp")).unwrap()).unwrap();
    let reader = SecretKey::from_bytes(&std::fs::read(&scene.key).unwrap()).unwrap().certificate();
    let stranger = SecretKey::generate("The Ministry", now()).unwrap();
    let recipients = [author.certificate(), reader];
    let destination: Fingerprint = scene.site.destination.fingerprint().parse().unwrap();
    let label = |collection: &str, name: &str| Label {
        collection: collection.into(),
        time: Some(now()),
        file_name: Some(name.into()),
        ..Label::default()
    };
    let sign =
        |key, label: &Label| seal_bytes_signed(label, b"hello", key, &recipients, Compress::Never, now());
    let sealed = [
        sign(&author, &label("forms", "true")),
        sign(&stranger, &label("forms", "false")),
        seal_bytes(&label("forms", "nobody"), b"hello", &recipients, Compress::Never, now()),
        // Signed by the destination, and put by somebody else where it does not belong.
        sign(&author, &label("other", "moved")),
    ];
    // What waits for the backhaul is handed to subscribers, too.
    scene.site.destination.backhaul.refuse(true);
    let address = scene.site.gateway.link.address();
    let introduction = introduced_to(&scene.site.gateway);
    let mut session = RawSession::open(address, &introduction, &identity(7), &hello("raw", &[])).unwrap();
    for sealed in sealed {
        let body = envelope::assemble(&Header::to(destination), &sealed.unwrap()).unwrap();
        let document = Document::new(scene.group, UnixTime(0), body).unwrap();
        assert_eq!(session.deposit(&document), Told::Ack);
    }
    scene.reader.sync();
    assert_eq!(received(&scene.reader).len(), 4);
    let folder = scene.site.folder().join("opened");
    let ran = scene.reader.try_run(&["open", "--all", "--to", folder.to_str().unwrap()]);
    assert_eq!(ran.status.code(), Some(3), "{ran:#?}");
    let opened = ran.last()["opened"].as_array().unwrap();
    let by_name: BTreeMap<&str, &Value> =
        opened.iter().map(|one| (one["name"].as_str().unwrap(), one)).collect();
    assert_eq!(by_name.len(), 3);
    assert_eq!(by_name["true"]["signed_by"], scene.site.destination.fingerprint());
    for (name, why) in [("false", "a key that this phone does not know"), ("nobody", "it is not signed")] {
        assert_eq!(by_name[name]["signed_by"], Value::Null);
        assert!(by_name[name]["not_proven"].as_str().unwrap().contains(why), "{:#}", by_name[name]);
    }
    let why = ran.last()["failed"][0]["reason"].as_str().unwrap();
    assert!(why.contains("collection `other`"), "{why}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
}
