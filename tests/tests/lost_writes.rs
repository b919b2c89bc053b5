//! The power is cut at every operation on the store's disk while 20 documents arrive: what was acknowledged is there after
//! the reboot, and `waypost store check` finds nothing. Each sync is needed: the same checks see it when one is taken out.
//!
//! The store is in a process of its own, as a program whose disk goes away under a memory map may be killed for it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use waypost_protocol::document::Document;
use waypost_protocol::envelope::Header;
use waypost_protocol::ids::{Fingerprint, GroupId, MessageId, PeerKey};
use waypost_protocol::sync::Holdings as _;
use waypost_protocol::time::UnixTime;
use waypost_store::{Applied, Change, Filter, NewDocument, Options, Store, StoreKey, Writer, WriterOptions};
use waypost_tests::lossy_fs::{Action, Loss, LossyDisk, Mounted, Operation, Then};
use waypost_tests::scenario::{content, folder, program, run, say};

/// Runs at the same time.
const AT_ONCE: usize = 4;
const PEER: PeerKey = PeerKey([7; 32]);
const KEY: [u8; 32] = [9; 32];
/// Bytes of the documents' contents. The first ten come one by one, the next eight together; the last two come in
/// pieces, of which one is so large that the store writes it in several transactions.
const SIZES: [usize; 20] = [
    500, 900, 2_500, 7_000, 600, 16_500, 30_000, 1_100, 64_000, 700, 500, 4_000, 800, 130_000, 1_000, 300,
    9_000, 300_000, 250_000, 1_500_000,
];
const PIECE: usize = 64 << 10;
/// Tells the program of this test that it is the process with the store, and what to do.
const TASK: &str = "WAYPOST_TEST_STORE_TASK";

fn documents() -> Vec<(Document, Header)> {
    let make = |(seed, size): (u64, usize)| {
        let header = Header::to(Fingerprint::V4([1; 20]));
        let mut body = header.encode().unwrap();
        body.extend(content(seed, size));
        (Document::new(GroupId([2; 32]), UnixTime(1_800_000_000), body.into()).unwrap(), header)
    };
    (0..).zip(SIZES).map(make).collect()
}

/// The process with the store; nothing unless it is started by the other tests.
#[test]
fn process_with_the_store() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (task, store) = task.split_once(' ').unwrap();
    let store = Store::open(Path::new(store), &StoreKey::new(KEY), Options::default()).unwrap();
    match task {
        "fill" => fill(store),
        _ => show(&store),
    }
}

/// Stores all documents, and tells of each as soon as the store has acknowledged it.
fn fill(store: Store) {
    let writer = Writer::start(store, WriterOptions::default()).unwrap();
    let all = documents();
    let change = |(document, header): &(Document, Header)| {
        let (document, header) = (document.clone(), header.clone());
        let depositor = Some(PEER);
        Change::Document(Box::new(NewDocument {
            document,
            header,
            age: 0,
            depositor,
            draft: false,
            note: None,
        }))
    };
    for one in &all[..10] {
        assert!(matches!(writer.apply(change(one)), Ok(Applied::Stored { .. })));
        say(&format!("stored {}", one.0.id()));
    }
    for one in &all[10..18] {
        let id = one.0.id();
        writer.submit(change(one), move |applied| {
            if let Ok(Applied::Stored { .. }) = applied {
                say(&format!("stored {id}"));
            }
        });
    }
    writer.flush();
    for (one, step) in [(&all[18], PIECE), (&all[19], usize::MAX)] {
        let (document, header) = (&one.0, Arc::new(one.1.clone()));
        let mut offset = 0;
        while offset < document.body().len() {
            let end = document.body().len().min(offset.saturating_add(step));
            let bytes = document.body().slice(offset..end);
            let (description, header) = (document.description(), header.clone());
            let piece = Change::Piece {
                description,
                header,
                offset: offset as u64,
                bytes,
                age: 0,
                depositor: Some(PEER),
            };
            match writer.apply(piece).unwrap() {
                Applied::Partial { committed } => say(&format!("partial {} {committed}", document.id())),
                applied => {
                    assert!(matches!(applied, Applied::Stored { .. }));
                    say(&format!("stored {}", document.id()));
                }
            }
            offset = end;
        }
    }
    say("done");
}

/// Tells what is in the store, bodies compared byte for byte.
fn show(store: &Store) {
    for (document, _) in documents() {
        let id = document.id();
        if let Some(entry) = store.document(&id).unwrap() {
            let body = store.read_body(entry.seq, 0, document.body().len()).unwrap();
            assert!(entry.has_body && body == *document.body(), "{id} is not whole");
            say(&format!("stored {id}"));
        } else if let Some(partial) = store.partial(&id, &PEER).unwrap() {
            say(&format!("partial {id} {}", partial.committed));
        }
    }
    assert!(store.documents(&Filter::All, None, 100).unwrap().len() <= SIZES.len());
    say("done");
}

/// What a process with the store has told.
#[derive(Debug, Default)]
struct Told {
    stored: BTreeSet<MessageId>,
    /// How far the last document that came in pieces has got, by the last that was told of it.
    partial: Option<(MessageId, u64)>,
    done: bool,
    output: String,
}

fn child(task: &str, store: &Path) -> Told {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "process_with_the_store", "--nocapture"]);
    let output = command.env(TASK, format!("{task} {}", store.display())).output().unwrap();
    let mut told = Told::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.split_once(' ') {
            Some(("stored", id)) => drop(told.stored.insert(id.parse().unwrap())),
            Some(("partial", rest)) => {
                let (id, committed) = rest.split_once(' ').unwrap();
                told.partial = Some((id.parse().unwrap(), committed.parse().unwrap()));
            }
            _ => told.done |= line == "done",
        }
    }
    told.output = format!("{}{}", output.status, String::from_utf8_lossy(&output.stderr));
    told
}

/// A disk with an empty folder for a store, and beside it what `waypost` needs to open that.
struct Scene {
    folder: PathBuf,
    mounted: Option<Mounted>,
}

impl Scene {
    fn set(parent: &Path, number: usize) -> Self {
        let folder = parent.join(number.to_string());
        fs::create_dir_all(folder.join("store")).unwrap();
        let mut key =
            fs::File::options().write(true).create_new(true).mode(0o600).open(folder.join("key")).unwrap();
        KEY.iter().for_each(|byte| write!(key, "{byte:02x}").unwrap());
        let configuration =
            "[store]\npath = \"store\"\nkey_file = \"key\"\n[control]\nsocket = \"control.sock\"\n";
        fs::write(folder.join("gateway.toml"), configuration).unwrap();
        let mounted = Some(LossyDisk::new().mount(folder.join("store")).unwrap());
        Scene { folder, mounted }
    }

    fn disk(&self) -> &LossyDisk {
        self.mounted.as_ref().unwrap().disk()
    }

    fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// Fills the store as far as the disk lets it.
    fn fill(&self) -> Told {
        child("fill", &self.store())
    }

    /// Cuts the power, if that was not done yet, and looks at what is left. An error says what is wrong with that.
    fn reboot(mut self, loss: Loss, before: &Told) -> Result<(), String> {
        let disk = self.mounted.take().unwrap().crash(loss).unwrap();
        self.mounted = Some(disk.mount(self.store()).unwrap());
        let after = child("show", &self.store());
        if !after.done {
            return Err(format!("the store cannot be read: {}", after.output));
        }
        let lost: Vec<&MessageId> = before.stored.difference(&after.stored).collect();
        if !lost.is_empty() {
            return Err(format!("acknowledged and lost: {lost:?}"));
        }
        if let Some((id, committed)) = before.partial
            && !after.stored.contains(&id)
            && after.partial.is_none_or(|(other, kept)| other != id || kept < committed)
        {
            return Err(format!("{committed} bytes of {id} were acknowledged, {:?} are left", after.partial));
        }
        let mut check = Command::new(program("waypost"));
        let checked = run(check
            .arg("--config")
            .arg(self.folder.join("gateway.toml"))
            .args(["--json", "store", "check"]));
        if !checked.status.success() || checked.last()["ok"] != true {
            return Err(format!("`waypost store check` says: {checked:?}"));
        }
        drop(self.mounted.take());
        fs::remove_dir_all(&self.folder).unwrap();
        Ok(())
    }
}

#[test]
fn whatever_was_acknowledged_survives_a_power_cut_at_every_operation_of_the_disk() {
    let folder = folder();
    let scene = Scene::set(folder.path(), 0);
    let told = scene.fill();
    assert!(told.done && told.stored.len() == SIZES.len(), "{told:?}");
    let operations = scene.disk().operations();
    scene.reboot(Loss::Everything, &told).unwrap();

    let losses = |number| [Loss::Everything, Loss::Torn { seed: number, sector: 512 }];
    let points: Vec<(u64, Loss)> =
        (0..operations).flat_map(|number| losses(number).map(|loss| (number, loss))).collect();
    let (next, acknowledged) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((number, loss)) = points.get(index).copied() else { return };
                    let scene = Scene::set(folder.path(), index + 1);
                    let place = Arc::new(Mutex::new(None));
                    let told_place = place.clone();
                    scene.disk().at(number, move |operation| {
                        *told_place.lock().unwrap() = Some(operation.clone());
                        Then::PowerOff
                    });
                    let told = scene.fill();
                    acknowledged.fetch_add(told.stored.len(), Ordering::Relaxed);
                    if let Err(wrong) = scene.reboot(loss, &told) {
                        let place = place.lock().unwrap().take();
                        failed.lock().unwrap().push(format!("{loss:?} at {place:?}: {wrong}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} points:\n{}", failed.len(), points.len(), failed.join("\n"));
    let acknowledged = acknowledged.into_inner();
    say(&format!("{} points, {acknowledged} documents acknowledged before them", points.len()));
    assert!(points.len() >= 150 && acknowledged >= 5 * points.len());
}

/// Fills a store on a disk that pretends to do those of its syncs that `taken_out` names by their number, then cuts the power
/// at an operation, or at the end.
fn with_syncs_taken_out(
    scene: Scene,
    taken_out: impl Fn(u64) -> bool + Send + 'static,
    at: Option<u64>,
    loss: Loss,
) -> Result<(), String> {
    // Made in order: it is the documents' syncs that are taken out.
    let made = child("show", &scene.store());
    assert!(made.done, "{made:?}");
    let begin = scene.disk().operations();
    let count = AtomicU64::new(0);
    let of_data =
        |operation: &Operation| operation.action == Action::Sync && operation.path == Path::new("data.mdb");
    scene.disk().lie(move |operation| of_data(operation) && taken_out(count.fetch_add(1, Ordering::Relaxed)));
    if let Some(at) = at {
        scene.disk().at(begin + at, |_| Then::PowerOff);
    }
    let told = scene.fill();
    assert_eq!(told.done, at.is_none(), "{told:?}");
    scene.reboot(loss, &told)
}

#[test]
fn documents_are_lost_when_every_sync_is_taken_out() {
    let folder = folder();
    let wrong =
        with_syncs_taken_out(Scene::set(folder.path(), 0), |_| true, None, Loss::Everything).unwrap_err();
    assert!(wrong.contains("acknowledged and lost"), "{wrong}");
}

/// A commit has two syncs: of the pages, and of the meta page that makes them count.
#[test]
fn the_last_document_is_lost_when_the_sync_of_meta_pages_is_taken_out() {
    let folder = folder();
    let is_meta = |number: u64| number % 2 == 1;
    let wrong =
        with_syncs_taken_out(Scene::set(folder.path(), 0), is_meta, None, Loss::Everything).unwrap_err();
    assert!(wrong.contains("acknowledged and lost"), "{wrong}");
}

#[test]
fn the_store_is_damaged_when_the_sync_of_pages_is_taken_out() {
    let folder = folder();
    let is_pages = |number: u64| number.is_multiple_of(2);
    let cut = |at: u64| {
        let loss = Loss::Torn { seed: at, sector: 512 };
        let scene = Scene::set(folder.path(), usize::try_from(at).unwrap());
        with_syncs_taken_out(scene, is_pages, Some(at), loss)
    };
    let damaged: Vec<String> = (20..60).filter_map(|at| cut(at).err()).collect();
    assert!(!damaged.is_empty(), "meta pages were on the disk before what they point to, and nobody noticed");
}
