//! The uploader's thread, from a store in memory to a real HTTPS server that fails on demand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Play, SIGNATURE, Server, certificates, document};
use waypost_protocol::api;
use waypost_protocol::document::Document;
use waypost_protocol::ids::{MessageId, PeerKey, Seq};
use waypost_protocol::mvds;
use waypost_protocol::time::Monotonic;
use waypost_upload::client::Client;
use waypost_upload::error::Kind;
use waypost_upload::plan::{self, PathState, Waiting};
use waypost_upload::uploader::{Event, Settings, Sink, Source, Uploader};

/// What the uploader reads and tells, shared with the test.
#[derive(Default)]
struct Store {
    documents: BTreeMap<Seq, Document>,
    arrived: u64,
    events: Vec<String>,
    settled: Vec<MessageId>,
    unreadable: Option<Seq>,
    cursor: u64,
    owed: bool,
    broken: u32,
    unproven: bool,
}

#[derive(Clone, Default)]
struct Shared(Arc<(Mutex<Store>, Condvar)>);

impl Shared {
    fn with(documents: impl IntoIterator<Item = Document>) -> Self {
        let shared = Shared::default();
        for document in documents {
            shared.add(document);
        }
        shared
    }

    fn add(&self, document: Document) {
        let mut store = self.0.0.lock().unwrap();
        store.arrived += 1;
        let seq = Seq(store.arrived);
        store.documents.insert(seq, document);
    }

    fn change(&self, change: impl FnOnce(&mut Store)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    /// Waits until this holds, for at most ten seconds.
    fn wait(&self, what: &str, done: impl Fn(&Store) -> bool) {
        let store = self.0.0.lock().unwrap();
        let (store, timeout) =
            self.0.1.wait_timeout_while(store, Duration::from_secs(10), |store| !done(store)).unwrap();
        assert!(!timeout.timed_out(), "{what} did not happen: {:#?}", store.events);
    }

    fn events(&self) -> Vec<String> {
        self.0.0.lock().unwrap().events.clone()
    }
}

fn waiting(seq: Seq, document: &Document) -> Waiting {
    Waiting {
        seq,
        description: document.description(),
        depositor: PeerKey([1; 32]),
        share: 100,
        priority: 0,
        ambiguous: false,
    }
}

impl Source for Shared {
    fn waiting(&self, after: Option<Seq>, limit: usize) -> Result<Vec<Waiting>, String> {
        let store = self.0.0.lock().unwrap();
        let rest = store.documents.iter().filter(|(seq, _)| Some(**seq) > after);
        Ok(rest.take(limit).map(|(seq, document)| waiting(*seq, document)).collect())
    }

    fn still_waiting(&self, documents: &[Waiting]) -> Result<Vec<bool>, String> {
        let store = self.0.0.lock().unwrap();
        Ok(documents.iter().map(|document| store.documents.contains_key(&document.seq)).collect())
    }

    fn read_body(&self, document: &Waiting, offset: u64, len: usize) -> Result<Bytes, String> {
        let store = self.0.0.lock().unwrap();
        if store.unreadable == Some(document.seq) {
            return Err("sector gone".into());
        }
        let offset = usize::try_from(offset).unwrap();
        Ok(store.documents[&document.seq].body().slice(offset..offset + len))
    }

    fn owed(&self) -> bool {
        self.0.0.lock().unwrap().owed
    }

    fn cursor(&self) -> u64 {
        self.0.0.lock().unwrap().cursor
    }
}

impl Sink for Shared {
    fn event(&mut self, event: Event<'_>) {
        self.change(|store| {
            if let Event::Cursor(cursor) = event {
                store.cursor = cursor;
                store.owed = false;
            }
            store.events.push(match event {
                Event::Failed { documents, error } => format!("failed {} {error:?}", documents.len()),
                Event::SetAside { document, cause } => format!("aside {} {cause}", document.seq.0),
                Event::Attempting { documents } => format!("attempting {}", documents.len()),
                Event::Sent { ids } => format!("sent {}", ids.len()),
                other => format!("{other:?}"),
            });
        });
    }

    fn has_unproven(&mut self) -> bool {
        std::mem::take(&mut self.0.0.lock().unwrap().unproven)
    }

    fn confirmations(&mut self, confirmations: Vec<mvds::Confirmation>) -> Result<Vec<MessageId>, String> {
        let unproven = confirmations.iter().any(|confirmation| confirmation.signature != SIGNATURE);
        self.change(|store| store.unproven |= unproven);
        let mut settled = Vec::new();
        for confirmation in confirmations.iter().filter(|confirmation| confirmation.signature == SIGNATURE) {
            settled.extend(api::decode_ids(&confirmation.ids).unwrap());
        }
        let mut problem = None;
        self.change(|store| {
            if store.broken > 0 {
                store.broken -= 1;
                problem = Some("disk is gone".to_owned());
                return;
            }
            store.documents.retain(|_, document| !settled.contains(&document.id()));
            store.settled.extend(&settled);
        });
        problem.map_or(Ok(settled), Err)
    }
}

fn start(client: Client, store: &Shared) -> Uploader {
    let started = Instant::now();
    let plan = plan::Settings {
        min_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_millis(400),
        ..plan::Settings::default()
    };
    let settings = Settings {
        client,
        plan,
        info: None,
        seed: 1,
        clock: Box::new(move || Monotonic(started.elapsed())),
        after: None,
    };
    Uploader::start(settings, store.clone(), store.clone()).unwrap()
}

fn received_once(server: &Server, count: usize) {
    let state = server.state.lock().unwrap();
    assert_eq!(state.received.len(), count);
    assert!(state.received.values().all(|times| *times == 1), "{:?}", state.received.values());
}

fn count(server: &Server, path: &str) -> usize {
    server.requests().iter().filter(|request| request.contains(path)).count()
}

#[test]
fn everything_is_delivered_in_few_requests() {
    let server = Server::start();
    let store = Shared::with((0..500).map(|seed| document(seed, 1_000)));
    store.add(document(1_000, 5 << 20));
    let uploader = start(server.client(), &store);
    store.wait("delivery", |store| store.documents.is_empty());
    assert_eq!(store.0.0.lock().unwrap().settled.len(), 501);
    received_once(&server, 501);
    assert_eq!(server.requests().len(), 4, "{:?}", server.requests());
    let document = document(2_000, 10);
    store.add(document);
    uploader.nudge();
    store.wait("delivery of a newcomer", |store| store.documents.is_empty());
    assert_eq!(server.state.lock().unwrap().connections, 1);
    assert!(uploader.stop(Duration::from_millis(500)));
    let events = store.events();
    assert!(events.iter().any(|event| event.starts_with("StateChanged(Ok")), "{events:?}");
    assert!(events.iter().any(|event| event.starts_with("Progress")), "{events:?}");
}

#[test]
fn an_answer_that_was_lost_is_asked_for_and_nothing_is_sent_twice() {
    let server = Server::start();
    server.play([Play::Normal, Play::CutBeforeAnswer]);
    let store = Shared::with((0..20).map(|seed| document(seed, 1_000)));
    let _uploader = start(server.client(), &store);
    store.wait("delivery", |store| store.documents.is_empty());
    received_once(&server, 20);
    assert_eq!((count(&server, api::BATCH), count(&server, api::HAVE)), (1, 1));
}

#[test]
fn after_a_cut_only_the_rest_is_sent() {
    let server = Server::start();
    server.play([Play::Normal, Play::CutAfter(600_000)]);
    let store = Shared::with((0..30).map(|seed| document(seed, 100_000)));
    let _uploader = start(server.client(), &store);
    store.wait("delivery", |store| store.documents.is_empty());
    received_once(&server, 30);
    assert_eq!((count(&server, api::BATCH), count(&server, api::HAVE)), (2, 1));
}

#[test]
fn a_forged_confirmation_settles_nothing() {
    let server = Server::start();
    server.play([Play::Normal, Play::Forge]);
    let store = Shared::with([document(1, 1_000)]);
    let _uploader = start(server.client(), &store);
    store.wait("the forged answer", |store| store.events.iter().any(|event| event == "sent 1"));
    assert_eq!(store.0.0.lock().unwrap().documents.len(), 1);
    // The true confirmation is asked for and settles it.
    store.wait("delivery", |store| store.documents.is_empty());
    received_once(&server, 1);
}

#[test]
fn a_confirmation_that_could_not_be_stored_is_asked_for_again() {
    let server = Server::start();
    let store = Shared::with([document(1, 1_000)]);
    store.change(|store| store.broken = 2);
    let _uploader = start(server.client(), &store);
    store.wait("delivery", |store| store.documents.is_empty());
    received_once(&server, 1);
    assert_eq!(store.0.0.lock().unwrap().settled.len(), 1);
}

#[test]
fn bad_documents_are_set_aside_with_their_reason_and_the_others_go() {
    let server = Server::start();
    let bad = {
        let good = document(1, 10);
        Document::new(good.group(), good.timestamp(), Bytes::from_static(b"bad body")).unwrap()
    };
    let store = Shared::with([document(1, 1_000), bad, document(2, 1_000), document(3, 1_000)]);
    store.change(|store| store.unreadable = Some(Seq(4)));
    let _uploader = start(server.client(), &store);
    store.wait("delivery", |store| store.documents.len() == 2);
    store.wait("both set aside", |store| {
        store.events.iter().filter(|event| event.starts_with("aside")).count() == 2
    });
    let events = store.events();
    let aside = |prefix: &str, text: &str| {
        assert!(events.iter().any(|event| event.starts_with(prefix) && event.contains(text)), "{events:#?}");
    };
    aside("aside 2", "no \\u{1b}[1mgood");
    aside("aside 4", "sector gone");
}

#[test]
fn a_backhaul_that_appears_is_used_at_once() {
    let certificates = certificates("localhost", 2020, 2100);
    let first = Server::with(certificates.clone(), false, "127.0.0.1:0");
    let (settings, address) = (first.settings(), first.address.to_string());
    drop(first);
    let store = Shared::with([document(1, 1_000)]);
    let started = Instant::now();
    let settings = Settings {
        client: Client::new(&settings).unwrap(),
        plan: plan::Settings { min_backoff: Duration::from_secs(600), ..plan::Settings::default() },
        info: None,
        seed: 1,
        clock: Box::new(move || Monotonic(started.elapsed())),
        after: None,
    };
    let uploader = Uploader::start(settings, store.clone(), store.clone()).unwrap();
    let state = format!("{:?}", Event::StateChanged(PathState::Unreachable { kind: Kind::ConnectFailed }));
    store.wait("the failure", |store| store.events.contains(&state));
    let server = Server::with(certificates, false, &address);
    uploader.path_up();
    store.wait("delivery", |store| store.documents.is_empty());
    received_once(&server, 1);
}

#[test]
fn each_path_state_has_its_name() {
    for (status, expected) in
        [(401, PathState::NotAuthorised), (404, PathState::WrongServer), (507, PathState::Full)]
    {
        let server = Server::start();
        server.play([Play::Normal, Play::Say(status, vec![], Bytes::new())]);
        let store = Shared::with([document(1, 1_000)]);
        let _uploader = start(server.client(), &store);
        let expected = format!("{:?}", Event::StateChanged(expected));
        store.wait(&expected, |store| store.events.contains(&expected));
        store.wait("delivery all the same", |store| store.documents.is_empty());
    }
}

#[test]
fn later_verdicts_are_fetched_and_the_cursor_moves_after_the_commit() {
    let server = Server::start();
    let store = Shared::default();
    store.change(|store| (store.owed, store.broken) = (true, 1));
    let known = document(1, 10);
    server.state.lock().unwrap().held.insert(known.id(), known);
    let uploader = start(server.client(), &store);
    store
        .wait("the store's failure", |store| store.events.iter().any(|event| event.contains("disk is gone")));
    assert_eq!(store.0.0.lock().unwrap().cursor, 0);
    uploader.path_up();
    store.wait("the cursor", |store| store.cursor == 5);
    assert_eq!(count(&server, "?since=0"), 2);
    assert_eq!(store.0.0.lock().unwrap().settled.len(), 1);
}

#[test]
fn verdicts_that_do_not_verify_are_asked_for_again_once_they_may() {
    let server = Server::start();
    let store = Shared::default();
    store.change(|store| store.owed = true);
    let known = document(1, 10);
    server.state.lock().unwrap().held.insert(known.id(), known);
    // Server information, then later verdicts by a key that is not known yet.
    server.play([Play::Normal, Play::Forge]);
    let uploader = start(server.client(), &store);
    while count(&server, "?since=0") == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(store.0.0.lock().unwrap().cursor, 0, "it did not pass them over");
    uploader.path_up();
    store.wait("the verdict", |store| store.settled.len() == 1);
    store.wait("the cursor", |store| store.cursor == 5);
}

#[test]
fn a_document_that_was_deleted_meanwhile_is_not_sent() {
    let server = Server::start();
    let store = Shared::with([document(1, 1_000), document(2, 1_000)]);
    // The first request is the question for server information; the documents are read before it.
    server.play([Play::Late(Duration::from_millis(300))]);
    let _uploader = start(server.client(), &store);
    while server.requests().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    store.change(|store| {
        store.documents.remove(&Seq(1));
    });
    store.wait("delivery", |store| store.documents.is_empty());
    received_once(&server, 1);
}

#[test]
fn stopping_lets_a_short_request_end_and_cuts_a_long_one() {
    let server = Server::start();
    server.play([Play::Normal, Play::Late(Duration::from_millis(300))]);
    let store = Shared::with([document(1, 1_000)]);
    let uploader = start(server.client(), &store);
    store.wait("the upload", |store| store.events.iter().any(|event| event.starts_with("Progress")));
    assert!(uploader.stop(Duration::from_millis(1_500)));
    assert!(store.0.0.lock().unwrap().documents.is_empty(), "the request was let through");

    let server = Server::start();
    server.play([Play::Normal, Play::Stall]);
    let mut settings = server.settings();
    settings.stall_timeout = Duration::from_secs(60);
    let store = Shared::with([document(1, 30 << 20)]);
    let uploader = start(Client::new(&settings).unwrap(), &store);
    store.wait("the upload", |store| store.events.iter().any(|event| event.starts_with("Progress")));
    let begun = Instant::now();
    assert!(uploader.stop(Duration::from_millis(500)));
    assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
    assert!(store.events().iter().any(|event| event.contains("Ambiguous(Stopped)")));
}
