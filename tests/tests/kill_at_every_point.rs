//! Stored means durable: the gateway is killed, or its power is cut, at every write of its store and at every frame of a
//! transfer of 20 documents; or the disk fails that one write. Nothing that it had acknowledged is lost, and nothing is
//! delivered twice.
//!
//! Phones are in this process; gateways and the destination are processes. Each gateway's store is on a disk of its own that
//! forgets what was not synced.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use serde_json::json;
use waypost_protocol::ids::MessageId;
use waypost_tests::lossy_fs::{Loss, LossyDisk, Mounted, Operation, Then};
use waypost_tests::proxy::{self, Direction, Frame, Moment};
use waypost_tests::scenario::{
    Destination, Gateway, LocalPhone, PATIENCE, Phone, content, copy_folder, folder, say, wait_until,
};

/// Bytes of the documents: forms, some that need pieces, a photo.
const SIZES: [usize; 20] = [
    500, 900, 1_500, 2_500, 700, 4_000, 7_000, 11_000, 16_500, 1_100, 30_000, 800, 64_000, 600, 70_000,
    3_000, 130_000, 200_000, 300_000, 500,
];
/// Points that run at the same time: more than there are processors, as each waits for others most of the time.
const AT_ONCE: usize = 6;

/// Where no destination is.
const NOWHERE: ([u8; 4], u16) = ([127, 0, 0, 1], 1);

/// What happens to the gateway.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// `kill -9`: what it has written is kept.
    Kill,
    /// What was not synced is gone.
    PowerCut(Loss),
    /// The write fails, once; the gateway lives on.
    DiskError,
}

/// When it happens.
#[derive(Clone, Copy, Debug)]
enum When {
    /// At a write of the store, counted from the beginning of the transfer.
    StoreWrite(u64),
    /// At a frame of the link, counted in both directions together.
    Frame(Moment, u64),
    /// At a write of the store while documents are uploaded and confirmed.
    UploadWrite(u64),
}

#[derive(Clone, Copy, Debug)]
struct Point {
    number: usize,
    when: When,
    blow: Blow,
}

/// What all points share.
struct Stage {
    destination: Destination,
    folder: PathBuf,
}

impl Stage {
    fn gateway(&self) -> PathBuf {
        self.folder.join("gateway")
    }

    fn phone(&self) -> PathBuf {
        self.folder.join("phone")
    }

    fn point(&self, number: usize) -> PathBuf {
        self.folder.join(format!("point-{number}"))
    }

    /// A destination that runs, and folders of a gateway and a phone that are paired.
    fn set_up(folder: &Path) -> Self {
        let mut destination = Destination::make(&folder.join("destination"));
        destination.start();
        let stage = Stage { destination, folder: folder.to_owned() };
        let mut gateway = Gateway::make(&stage.gateway(), &stage.destination);
        gateway.start();
        let phone = Phone::make(&stage.phone(), "phone");
        phone.add_destination(&stage.destination);
        phone.pair(&gateway);
        assert!(gateway.stop().success());
        // Until a point says otherwise, there is no backhaul.
        gateway.reach(NOWHERE.into());
        stage
    }
}

/// Documents by id: their names at the destination, and their bytes.
type Documents = BTreeMap<MessageId, (String, Vec<u8>)>;

/// How many points a run has.
#[derive(Debug)]
struct Extent {
    store_writes: u64,
    frames: u64,
    upload_writes: u64,
}

/// What became of a point.
struct Outcome {
    documents: Documents,
    /// Where the blow fell; none where the run was over before.
    fell: Option<String>,
    acknowledged: usize,
}

/// The one blow of a run, shared with the hook that deals it.
#[derive(Default)]
struct Struck {
    /// Where it fell.
    place: Option<String>,
    /// It is too late for it.
    over: bool,
}

type Fell = Arc<Mutex<Struck>>;

struct Run<'s> {
    stage: &'s Stage,
    number: usize,
    folder: PathBuf,
    gateway: Gateway,
    mounted: Option<Mounted>,
    fell: Fell,
}

impl<'s> Run<'s> {
    fn new(stage: &'s Stage, number: usize) -> Self {
        let folder = stage.point(number);
        copy_folder(&stage.gateway(), &folder.join("gateway"));
        copy_folder(&stage.phone(), &folder.join("phone"));
        // The store is moved to a disk that forgets.
        let store = folder.join("gateway/store");
        let plain = folder.join("plain");
        fs::rename(&store, &plain).unwrap();
        fs::create_dir(&store).unwrap();
        let mounted = LossyDisk::new().mount(&store).unwrap();
        copy_folder(&plain, &store);
        File::open(store.join("data.mdb")).unwrap().sync_all().unwrap();
        File::open(&store).unwrap().sync_all().unwrap();
        let gateway = Gateway::at(&folder.join("gateway"));
        Run { stage, number, folder, gateway, mounted: Some(mounted), fell: Fell::default() }
    }

    fn disk(&self) -> &LossyDisk {
        self.mounted.as_ref().unwrap().disk()
    }

    /// Prepares the blow at a write of the store, `number` writes from now.
    fn strike_at_write(&mut self, number: u64, blow: Blow) {
        let (killer, fell) = (self.gateway.process().killer(), self.fell.clone());
        self.disk().at(self.disk().operations() + number, move |operation| {
            let mut fell = fell.lock().unwrap();
            if fell.over {
                return Then::GoOn;
            }
            fell.place = Some(words(operation));
            match blow {
                Blow::DiskError => return Then::Fail(Errno::EIO),
                Blow::Kill | Blow::PowerCut(_) => killer.kill9().unwrap(),
            }
            match blow {
                Blow::PowerCut(_) => Then::PowerOff,
                // A process may die before or after its write took place.
                _ if number.is_multiple_of(2) => Then::GoOn,
                _ => Then::Fail(Errno::EIO),
            }
        });
    }

    /// Prepares the blow at a frame.
    fn strike_at_frame(&mut self, moment: Moment, number: u64, blow: Blow) {
        let (killer, fell) = (self.gateway.process().killer(), self.fell.clone());
        let disk = self.disk().clone();
        self.gateway.link.at(moment, number, move |frame| {
            let mut fell = fell.lock().unwrap();
            if !fell.over {
                if matches!(blow, Blow::PowerCut(_)) {
                    disk.power_off();
                }
                killer.kill9().unwrap();
                fell.place = Some(format!("{moment:?} {}", words_of_frame(frame)).to_lowercase());
            }
            // It is passed on: an acknowledgement that was on its way arrives although its sender is dead.
            proxy::Then::GoOn
        });
    }

    /// A run without a blow.
    fn count(mut self) -> (Extent, Documents) {
        let phone = LocalPhone::open(&self.folder.join("phone"));
        let documents = self.seal(&phone);
        self.gateway.start();
        let begin = self.disk().operations();
        phone.sync(self.gateway.link.address(), Duration::ZERO);
        let stored = self.disk().operations();
        let frames = [Direction::ToTarget, Direction::FromTarget];
        let frames = frames.map(|direction| self.gateway.link.counts(direction).frames).iter().sum();
        self.give_backhaul();
        self.wait_for_uploads();
        let upload_writes = self.disk().operations() - stored;
        (Extent { store_writes: stored - begin, frames, upload_writes }, documents)
    }

    /// The whole of one point.
    fn go(mut self, when: When, blow: Blow) -> Outcome {
        let phone = LocalPhone::open(&self.folder.join("phone"));
        let documents = self.seal(&phone);
        self.gateway.start();
        match when {
            When::StoreWrite(number) => self.strike_at_write(number, blow),
            When::Frame(moment, number) => self.strike_at_frame(moment, number, blow),
            When::UploadWrite(_) => {}
        }
        let first = phone.sync(self.gateway.link.address(), Duration::ZERO);
        if let When::UploadWrite(number) = when {
            self.strike_at_write(number, blow);
            self.give_backhaul();
            self.wait_for_uploads();
        }
        if !matches!(blow, Blow::DiskError) {
            self.gateway.kill9();
        }
        let fell = {
            let mut fell = self.fell.lock().unwrap();
            fell.over = true;
            fell.place.take()
        };
        let recorded: BTreeSet<MessageId> =
            phone.at_the_kiosk().union(&first.acknowledged).copied().collect();
        if let Blow::PowerCut(loss) = blow {
            let store = self.gateway.folder().join("store");
            self.mounted = Some(self.mounted.take().unwrap().crash(loss).unwrap().mount(store).unwrap());
        }

        self.gateway.reach(NOWHERE.into());
        match blow {
            // It has helped itself.
            Blow::DiskError => self.gateway.settle(),
            Blow::Kill | Blow::PowerCut(_) => self.gateway.start(),
        }
        assert_eq!(self.gateway.findings(), Vec::<serde_json::Value>::new(), "the store is damaged");
        let kept: BTreeSet<String> =
            self.gateway.documents().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
        let lost: Vec<&MessageId> = recorded.iter().filter(|id| !kept.contains(&id.to_string())).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");

        self.give_backhaul();
        let second = phone.sync(self.gateway.link.address(), PATIENCE);
        assert_eq!(phone.left(), 0, "documents are left on the phone: {:?}", second.report);
        self.gateway.kill9();
        drop(self.mounted.take());
        fs::remove_dir_all(&self.folder).unwrap();
        Outcome { documents, fell, acknowledged: recorded.len() }
    }

    fn seal(&self, phone: &LocalPhone) -> Documents {
        let mut documents = Documents::new();
        for (index, size) in SIZES.into_iter().enumerate() {
            let name = format!("{}/{index}", self.number);
            let bytes = content((self.number * SIZES.len() + index) as u64, size);
            documents.insert(phone.add(&name, &bytes), (name, bytes));
        }
        documents
    }

    fn give_backhaul(&self) {
        self.gateway.reach(self.stage.destination.address());
        self.gateway.ask(&json!({ "do": "reload" }));
    }

    /// Until all are confirmed, or the gateway is dead.
    fn wait_for_uploads(&self) {
        wait_until("uploads", || match self.gateway.try_ask(&json!({ "do": "status" })) {
            Ok(status) => (status["waiting"] == 0).then_some(()),
            Err(_) if self.fell.lock().unwrap().place.is_some() => Some(()),
            Err(error) => panic!("{error}"),
        });
    }
}

fn words(operation: &Operation) -> String {
    format!("{:?} {}", operation.action, operation.path.display()).to_lowercase()
}

fn words_of_frame(frame: &Frame) -> String {
    let way = match frame.direction {
        Direction::ToTarget => "to the gateway",
        Direction::FromTarget => "to the phone",
    };
    format!("frame {} {way}, {} bytes", frame.number, frame.len)
}

fn points(extent: &Extent) -> Vec<Point> {
    let loss = |number: u64| match number % 3 {
        0 => Blow::PowerCut(Loss::Everything),
        _ => Blow::PowerCut(Loss::Torn { seed: number, sector: 512 }),
    };
    let mut all = Vec::new();
    for number in 0..extent.store_writes {
        all.extend([Blow::Kill, loss(number), Blow::DiskError].map(|blow| (When::StoreWrite(number), blow)));
    }
    for number in 0..extent.frames {
        // Before and after it, each time with the other of the two blows.
        let (kill, cut) = (Blow::Kill, loss(number));
        let blows = if number.is_multiple_of(2) { [kill, cut] } else { [cut, kill] };
        let moments = [Moment::Before, Moment::After];
        all.extend(moments.into_iter().zip(blows).map(|(moment, blow)| (When::Frame(moment, number), blow)));
    }
    for number in 0..extent.upload_writes {
        let blows = [Blow::Kill, loss(number), Blow::DiskError];
        all.extend(blows.map(|blow| (When::UploadWrite(number), blow)));
    }
    all.into_iter().zip(1..).map(|((when, blow), number)| Point { number, when, blow }).collect()
}

#[test]
fn whatever_was_acknowledged_survives_a_kill_at_every_write_and_every_frame() {
    let folder = folder();
    let begun = Instant::now();
    let stage = Stage::set_up(folder.path());
    let (extent, documents) = Run::new(&stage, 0).count();
    say(&format!("without a blow: {extent:?}, {:.1} s", begun.elapsed().as_secs_f64()));
    let points = points(&extent);

    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![documents]);
    let failed = Mutex::new(Vec::new());
    let fallen = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let took = Instant::now();
                    let Point { number, when, blow } = *point;
                    let run = || Run::new(&stage, number).go(when, blow);
                    let outcome = catch_unwind(AssertUnwindSafe(run));
                    match outcome {
                        Ok(outcome) => {
                            fallen.fetch_add(usize::from(outcome.fell.is_some()), Ordering::Relaxed);
                            let place = outcome.fell.unwrap_or_else(|| "at its end".into());
                            let acknowledged = outcome.acknowledged;
                            let took = took.elapsed().as_millis();
                            say(&format!(
                                "point {number}: {when:?} ({place}), {blow:?}, {acknowledged} acknowledged: ok, {took} ms"
                            ));
                            done.lock().unwrap().push(outcome.documents);
                        }
                        Err(_) => {
                            let log = fs::read_to_string(stage.point(number).join("gateway/log"));
                            let log = log.unwrap_or_else(|error| error.to_string());
                            say(&format!("point {number}: {when:?}, {blow:?}: FAILED; the gateway's log:\n{log}"));
                            failed.lock().unwrap().push(number);
                        }
                    }
                }
            });
        }
    });

    let (done, failed) = (done.into_inner().unwrap(), failed.into_inner().unwrap());
    let fallen = fallen.into_inner();
    say(&format!(
        "{} points, {fallen} of them reached, {:.1} s",
        points.len(),
        begun.elapsed().as_secs_f64()
    ));
    assert!(failed.is_empty(), "points {failed:?} failed; what was left of them is said above");
    assert!(fallen >= 200, "only {fallen} points were reached");
    let expected: BTreeMap<String, Vec<u8>> = done.iter().flat_map(BTreeMap::values).cloned().collect();
    let inbox = stage.destination.inbox();
    let twice: Vec<&String> = inbox.keys().filter(|name| !expected.contains_key(*name)).collect();
    assert!(twice.is_empty(), "delivered twice: {twice:?}");
    assert!(inbox == expected, "{} of {} documents arrived whole", inbox.len(), expected.len());
    assert_one_confirmation_each(&stage.destination, done.iter().flat_map(BTreeMap::keys));
}

/// The destination has confirmed each of these, and each once.
fn assert_one_confirmation_each<'a>(destination: &Destination, ids: impl Iterator<Item = &'a MessageId>) {
    let mut confirmed: BTreeMap<String, u32> = BTreeMap::new();
    for entry in fs::read_dir(destination.confirmations()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "txt") {
            for word in fs::read_to_string(path).unwrap().split_whitespace().filter(|word| word.len() == 64) {
                *confirmed.entry(word.to_owned()).or_default() += 1;
            }
        }
    }
    let other: Vec<MessageId> =
        ids.filter(|id| confirmed.remove(&id.to_string()) != Some(1)).copied().collect();
    assert!(other.is_empty(), "not confirmed, or more than once: {other:?}");
    assert!(confirmed.is_empty(), "confirmed, though nobody sent it: {confirmed:?}");
}
