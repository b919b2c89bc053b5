//! A gateway's publishing and following against a real store, over a place in memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use waypost_openpgp::SecretKey;
use waypost_protocol::confirmation::{Rejection, Verdict};
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{Header, assemble};
use waypost_protocol::ids::GroupId;
use waypost_protocol::time::UnixTime;
use waypost_remote_log::memory::InMemory;
use waypost_remote_log::{ContentHash, ContentStore, NameSystem};
use waypost_store::{Filter, NewDocument, Options, StoreKey, WriterOptions};

use super::*;

const GROUP: GroupId = GroupId([7; 32]);
const OTHER: GroupId = GroupId([8; 32]);

/// A gateway's store and configuration.
struct Kiosk {
    folder: tempfile::TempDir,
    parts: Parts,
    destination: Fingerprint,
}

impl Kiosk {
    /// With `[remote_log]` as given; serving the destination of `key`.
    fn new(key: &SecretKey, seed: u8, remote_log: &str) -> Kiosk {
        Self::keeping(key, seed, remote_log, "")
    }

    /// With more of `[[destination]]`.
    fn keeping(key: &SecretKey, seed: u8, remote_log: &str, destination: &str) -> Kiosk {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("d.pgp"), key.certificate().to_armor()).unwrap();
        let text = format!(
            "[remote_log]\n{remote_log}\n[[destination]]\nname = \"d\"\nurl = \"https://d.example\"\ncertificate = \"d.pgp\"\n{destination}"
        );
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, text).unwrap();
        let config = Arc::new(waypost_config::load(&path).config);
        let (destinations, problems) = Destinations::load(&config);
        assert!(problems.is_empty(), "{problems:?}");
        let store = Store::open(&folder.path().join("store"), &StoreKey::new([seed; 32]), Options::default())
            .unwrap();
        let writer = StoreWriter::start(store.clone(), WriterOptions::default()).unwrap();
        let signer = Arc::new(Signer::derive(&[seed; 32]).unwrap());
        let destinations = Arc::new(destinations);
        let parts = Parts { store, writer, destinations, config, signer, fetched: Arc::new(|| ()) };
        Kiosk { folder, parts, destination: key.certificate().fingerprint() }
    }

    fn work(&self) -> Work {
        self.parts.writer.flush();
        Work::new(self.parts.clone(), Some(self.destination), "d".into())
    }

    fn add(&self, group: GroupId, content: &[u8], change: impl FnOnce(&mut Header)) -> Document {
        let mut header = Header::to(self.destination);
        change(&mut header);
        let body = assemble(&header, content).unwrap();
        let document = Document::new(group, UnixTime(3_600), body).unwrap();
        let depositor = Some(PeerKey([9; 32]));
        let new =
            NewDocument { document: document.clone(), header, age: 0, depositor, draft: false, note: None };
        self.parts.writer.apply(Change::Document(Box::new(new))).unwrap();
        document
    }

    /// The destination's verdict.
    fn confirm(&self, key: &SecretKey, document: &Document, verdict: Verdict) {
        let verdicts = vec![(document.id(), verdict)];
        let confirmation = key.sign(self.destination, verdicts, waypost_openpgp::BUILD_FLOOR).unwrap();
        let freeing = self.parts.destinations.freeing(&confirmation);
        let confirmation = Box::new(confirmation);
        self.parts.writer.apply(Change::Confirmation { confirmation, freeing, from: None }).unwrap();
    }

    fn ids(&self) -> Vec<MessageId> {
        let rows = self.parts.store.documents(&Filter::All, None, 1_000).unwrap();
        assert!(rows.iter().all(|row| row.has_body));
        let mut ids: Vec<MessageId> = rows.iter().map(|row| row.description.id).collect();
        ids.sort_unstable();
        ids
    }
}

fn key() -> SecretKey {
    SecretKey::generate("test", waypost_openpgp::BUILD_FLOOR).unwrap()
}

fn follower(key: &SecretKey, of: &Kiosk, more: &str) -> Kiosk {
    // Each has a key of its own.
    let seed = of.parts.signer.key().0[0].wrapping_add(1);
    Kiosk::new(key, seed, &format!("follow = [\"{}\"]\n{more}", of.parts.signer.key()))
}

/// Everything that is due now.
fn run(work: &mut Work, place: &mut dyn Place) {
    let now = Monotonic(Duration::from_secs(1));
    work.try_now(now);
    for _ in 0..10_000 {
        if work.due().is_none_or(|due| due > now) {
            return;
        }
        work.step(place, now);
    }
    panic!("no end of it");
}

fn sorted(documents: &[&Document]) -> Vec<MessageId> {
    let mut ids: Vec<MessageId> = documents.iter().map(|document| document.id()).collect();
    ids.sort_unstable();
    ids
}

/// A place with which something goes wrong.
struct Faulty {
    place: InMemory,
    /// It breaks off after so many bytes of content.
    most: u64,
    /// The answer to the next head is lost.
    loses_answer: bool,
}

impl Faulty {
    fn new(place: InMemory) -> Self {
        Faulty { place, most: u64::MAX, loses_answer: false }
    }
}

impl ContentStore for Faulty {
    fn has(&mut self, hashes: &[ContentHash]) -> Result<Vec<bool>, PlaceError> {
        self.place.has(hashes)
    }
    fn put(
        &mut self,
        hash: &ContentHash,
        length: u64,
        content: &mut dyn std::io::Read,
    ) -> Result<(), PlaceError> {
        self.place.put(hash, length, content)
    }
    fn get(&mut self, hash: &ContentHash, offset: u64) -> Result<Box<dyn std::io::Read + '_>, PlaceError> {
        use std::io::Read as _;
        let most = self.most;
        Ok(Box::new(self.place.get(hash, offset)?.take(most)))
    }
}

impl NameSystem for Faulty {
    fn resolve(&mut self, name: &LogKey) -> Result<Option<Bytes>, PlaceError> {
        self.place.resolve(name)
    }
    fn publish(
        &mut self,
        name: &LogKey,
        head: &Bytes,
        replaces: Option<ContentHash>,
    ) -> Result<(), PlaceError> {
        self.place.publish(name, head, replaces)?;
        match std::mem::take(&mut self.loses_answer) {
            true => Err(PlaceError::Unreachable("the line is cut".into())),
            false => Ok(()),
        }
    }
}

#[test]
fn what_one_kiosk_publishes_another_takes_and_asks_about_before_it_uploads() {
    let key = key();
    let (here, mut place) = (Kiosk::new(&key, 1, "publish = true"), InMemory::default());
    let documents: Vec<Document> = (0..300u32).map(|at| here.add(GROUP, &at.to_be_bytes(), |_| ())).collect();
    let mut work = here.work();
    run(&mut work, &mut place);
    assert_eq!(work.status().published, 300);
    let there = follower(&key, &here, "");
    let mut following = there.work();
    run(&mut following, &mut place);
    assert_eq!(there.ids(), sorted(&documents.iter().collect::<Vec<_>>()));
    let waiting = there.parts.store.waiting(&there.destination, None, 1_000).unwrap();
    assert!(waiting.len() == 300 && waiting.iter().all(|one| one.attempts == 1));
    let follow = following.status().follows[0].clone();
    assert_eq!((follow.documents, follow.taken, follow.is_read), (300, 300, true));

    // After a restart nothing is published or fetched again: not even the place is asked for its pages.
    place.costs = Default::default();
    run(&mut here.work(), &mut place);
    assert_eq!(place.costs.round_trips, 0);
    run(&mut there.work(), &mut place);
    assert_eq!(place.costs.round_trips, 1);
}

#[test]
fn only_documents_without_lifetime_of_the_collections_named_and_not_from_other_logs_are_published() {
    let key = key();
    let settings = format!("publish = true\ncollections = [\"{GROUP}\"]");
    let (here, mut place) = (Kiosk::new(&key, 1, &settings), InMemory::default());
    let published = here.add(GROUP, b"published", |_| ());
    here.add(OTHER, b"another collection", |_| ());
    here.add(GROUP, b"short-lived", |header| header.lifetime = 60);
    run(&mut here.work(), &mut place);
    let there = follower(&key, &here, "publish = true");
    let own = there.add(GROUP, b"own", |_| ());
    run(&mut there.work(), &mut place);
    assert_eq!(there.ids(), sorted(&[&published, &own]));
    // The follower's log has its own only.
    let third = follower(&key, &there, "");
    run(&mut third.work(), &mut place);
    assert_eq!(third.ids(), [own.id()]);
}

#[test]
fn collections_that_are_not_wanted_cost_no_content() {
    let key = key();
    let (here, mut place) = (Kiosk::new(&key, 1, "publish = true"), InMemory::default());
    let wanted = here.add(GROUP, &[1; 1_000], |_| ());
    here.add(OTHER, &[2; 50_000], |_| ());
    run(&mut here.work(), &mut place);
    let there = follower(&key, &here, &format!("collections = [\"{GROUP}\"]"));
    place.costs = Default::default();
    run(&mut there.work(), &mut place);
    assert_eq!(there.ids(), [wanted.id()]);
    assert!(place.costs.bytes_down < 2_500, "{:?}", place.costs);
}

#[test]
fn a_large_document_goes_on_where_it_was_cut_off_also_after_a_restart() {
    let key = key();
    let (here, mut place) = (Kiosk::new(&key, 1, "publish = true"), InMemory::default());
    let large: Vec<u8> = (0..3_000_000u32).map(|at| at.to_le_bytes()[(at % 3) as usize]).collect();
    let document = here.add(GROUP, &large, |_| ());
    run(&mut here.work(), &mut place);
    let there = follower(&key, &here, "");
    place.costs = Default::default();
    let mut breaking = Faulty { most: 1_000_000, ..Faulty::new(place) };
    let mut rounds = 0;
    while there.parts.store.document(&document.id()).unwrap().is_none() {
        run(&mut there.work(), &mut breaking);
        rounds += 1;
        assert!(rounds < 10);
    }
    assert!((3..6).contains(&rounds), "{rounds} rounds");
    assert_eq!(there.ids(), [document.id()]);
    assert_eq!(there.parts.store.settings("remote-log/part").unwrap(), []);
    assert!(there.parts.store.check().unwrap().is_empty());
}

#[test]
fn a_place_that_was_emptied_gets_the_whole_log_anew() {
    let key = key();
    let (here, mut place) = (Kiosk::new(&key, 1, "publish = true"), InMemory::default());
    let first = here.add(GROUP, b"first", |_| ());
    run(&mut here.work(), &mut place);
    // As after a new stick.
    let mut place = InMemory::default();
    let second = here.add(GROUP, b"second", |_| ());
    run(&mut here.work(), &mut place);
    let there = follower(&key, &here, "");
    run(&mut there.work(), &mut place);
    assert_eq!(there.ids(), sorted(&[&first, &second]));
}

#[test]
fn a_place_that_fails_is_left_alone_longer_each_time_until_a_path_appears() {
    let key = key();
    let here = Kiosk::new(&key, 1, "publish = true\ninterval = \"1m\"");
    here.add(GROUP, b"document", |_| ());
    let mut place = InMemory { patience: Some(0), ..InMemory::default() };
    let mut work = here.work();
    let mut now = Monotonic(Duration::from_secs(1));
    let mut waits = Vec::new();
    for _ in 0..6 {
        work.step(&mut place, now);
        let due = work.due().unwrap();
        waits.push(due.since(now).as_secs());
        now = due;
    }
    assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
    assert!(work.status().trouble.clone().unwrap().contains("cut"));
    place.patience = None;
    run(&mut work, &mut place);
    let status = work.status().clone();
    assert_eq!((status.published, status.trouble), (1, None));
    drop(here.folder);
}

#[test]
fn documents_that_stay_here_are_published_once_the_destination_has_them_in_whatever_order_and_each_once() {
    let key = key();
    let here = Kiosk::keeping(&key, 1, "publish = true", "keep = \"1h\"");
    let mut place = Faulty { loses_answer: true, ..Faulty::new(InMemory::default()) };
    let documents: Vec<Document> = (0..6u8).map(|at| here.add(GROUP, &[at], |_| ())).collect();
    let mut work = here.work();
    run(&mut work, &mut place);
    assert_eq!((work.status().published, place.place.names.len()), (0, 0));
    // The answer to the first head is lost, and the daemon killed; what was held back is not forgotten.
    here.confirm(&key, &documents[3], Verdict::Opened);
    here.confirm(&key, &documents[5], Verdict::Rejected(Rejection::CannotOpen));
    work.try_now(Monotonic(Duration::from_secs(1)));
    while place.loses_answer {
        work.step(&mut place, Monotonic(Duration::from_secs(1)));
    }
    assert!(!place.place.names.is_empty());
    for (document, verdict) in [(&documents[0], Verdict::Held), (&documents[4], Verdict::Opened)] {
        here.confirm(&key, document, verdict);
        run(&mut here.work(), &mut place);
    }
    here.confirm(&key, &documents[1], Verdict::Opened);
    let mut work = here.work();
    run(&mut work, &mut place);
    assert_eq!(work.status().published, 4);
    let there = follower(&key, &here, "");
    run(&mut there.work(), &mut place);
    assert_eq!(there.ids(), sorted(&[0, 1, 3, 4].map(|at| &documents[at])));
    // On a stick nothing is held back: it may be the only way out.
    let mut stick = InMemory::default();
    let mut work = Work::new(here.parts.clone(), None, "stick".into());
    run(&mut work, &mut stick);
    assert_eq!(work.status().published, 5);
}

#[test]
fn what_was_held_back_while_nothing_was_published_is_not_forgotten_with_the_answer_to_the_next_head() {
    let key = key();
    let here = Kiosk::keeping(&key, 1, "publish = true", "keep = \"1h\"");
    let mut place = Faulty::new(InMemory::default());
    let first = here.add(GROUP, b"first", |_| ());
    here.confirm(&key, &first, Verdict::Opened);
    let mut work = here.work();
    run(&mut work, &mut place);
    assert_eq!(work.status().published, 1);
    // Both are held back by a step that publishes nothing; one of them is confirmed, and then the daemon is killed.
    let [late, soon] = [b"late", b"soon"].map(|content| here.add(GROUP, content, |_| ()));
    run(&mut work, &mut place);
    here.confirm(&key, &soon, Verdict::Opened);
    place.loses_answer = true;
    work.try_now(Monotonic(Duration::from_secs(1)));
    while place.loses_answer {
        work.step(&mut place, Monotonic(Duration::from_secs(1)));
    }
    here.confirm(&key, &late, Verdict::Opened);
    let mut work = here.work();
    run(&mut work, &mut place);
    assert_eq!(work.status().published, 3);
    let there = follower(&key, &here, "");
    run(&mut there.work(), &mut place);
    assert_eq!(there.ids(), sorted(&[&first, &late, &soon]));
}
