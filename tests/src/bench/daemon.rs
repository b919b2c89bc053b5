//! `rss_*` and `idle_wakeups_per_s`: a real `waypost run`, looked at from outside.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use waypost_lan::connect;
use waypost_node::{identity, store_key, system_rng};
use waypost_protocol::document::Document;
use waypost_protocol::envelope;
use waypost_protocol::ids::PeerKey;
use waypost_protocol::session::{Identity, Introduction};
use waypost_store::{Change, NewDocument, Options, PeerClass, Store};

use super::memory::{Memory, Role, converse};
use super::row::Measured;
use super::workload::{Addressee, Signer, noise};
use super::{Bench, Outcome};
use crate::process::{Process, program};

/// Documents that are held while the gateway is idle.
const HELD: u64 = 100_000;
/// Bytes of each, sealed.
const HELD_SIZE: usize = 1_150;
/// How long it is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(60);
/// Over how long wake-ups are counted.
const WATCH: Duration = Duration::from_secs(30);
const SESSIONS: u64 = 100;
/// Bytes that each session moves.
const MOVED: usize = 1 << 20;
const DATA_FILE: &str = "data.mdb";
const START: Duration = Duration::from_secs(30);

/// What an idle gateway was seen to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    rss: f64,
    mapped: f64,
    voluntary: f64,
    involuntary: f64,
}

pub(super) fn rss_idle(bench: &Bench) -> Outcome<Measured> {
    let idle = idle(bench)?;
    Ok(Measured::new(idle.rss)
        .beside("mapping of the data file", format!("{:.1} MiB", idle.mapped))
        .beside("held", format!("{HELD} documents of {HELD_SIZE} bytes, their destination out of reach")))
}

pub(super) fn idle_wakeups(bench: &Bench) -> Outcome<Measured> {
    let idle = idle(bench)?;
    Ok(Measured::new(idle.voluntary + idle.involuntary)
        .beside("voluntary", format!("{:.2}/s", idle.voluntary))
        .beside("involuntary", format!("{:.2}/s", idle.involuntary))
        .beside("counted", format!("context switches of all threads over {} s", WATCH.as_secs())))
}

/// Both figures of the same process.
fn idle(bench: &Bench) -> Outcome<Idle> {
    if let Some(idle) = *bench.idle.borrow() {
        return Ok(idle);
    }
    let folder = bench.folder("idle")?;
    let addressee = Signer::new()?.addressee;
    fill(folder.path(), &addressee)?;
    let gateway = Gateway::start(folder, &addressee, &[])?;
    std::thread::sleep(SETTLE);
    let (rss, mapped) =
        (mib(gateway.process.rss_kib(DATA_FILE)?), mib(gateway.process.mapped_kib(DATA_FILE)?));
    let (before, begun) = (gateway.switches()?, Instant::now());
    std::thread::sleep(WATCH);
    let (after, span) = (gateway.switches()?, begun.elapsed().as_secs_f64());
    let rate = |at: usize| f64::from(u32::try_from(after[at] - before[at]).unwrap_or(u32::MAX)) / span;
    let idle = Idle { rss, mapped, voluntary: rate(0), involuntary: rate(1) };
    gateway.stop()?;
    bench.idle.replace(Some(idle));
    Ok(idle)
}

/// Puts documents into the store before the gateway opens it.
fn fill(folder: &Path, addressee: &Addressee) -> Outcome<()> {
    let key = store_key(&folder.join("store.key"))?;
    let store = Store::open(&folder.join("store"), &key, Options::default())?;
    let phones: Vec<PeerKey> = (1..=20).map(|number| PeerKey([number; 32])).collect();
    for peer in &phones {
        store.apply_one(Change::PutPeer { peer: *peer, class: PeerClass::Paired, label: None })?;
    }
    for batch in 0..HELD / 500 {
        let changes = (batch * 500..(batch + 1) * 500).zip(phones.iter().cycle()).map(|(seed, phone)| {
            let document = addressee.wrap(&noise(seed, HELD_SIZE))?;
            let (header, _) = envelope::parse(document.body())?;
            let new =
                NewDocument { document, header, age: 0, depositor: Some(*phone), draft: false, note: None };
            Ok(Change::Document(Box::new(new)))
        });
        for outcome in store.apply(changes.collect::<Outcome<_>>()?) {
            outcome?;
        }
    }
    Ok(())
}

pub(super) fn rss_100_sessions(bench: &Bench) -> Outcome<Measured> {
    let addressee = Signer::new()?.addressee;
    let phones = (0..SESSIONS).map(|_| Ok(Identity::generate(&mut system_rng()?)?));
    let phones: Vec<Identity> = phones.collect::<Outcome<_>>()?;
    let documents = (0..SESSIONS).map(|seed| addressee.wrap(&noise(seed, MOVED)));
    let documents: Vec<Document> = documents.collect::<Outcome<_>>()?;
    let listed: Vec<PeerKey> = phones.iter().map(Identity::public).collect();
    let gateway = Gateway::start(bench.folder("sessions")?, &addressee, &listed)?;
    let before = mib(gateway.process.rss_kib(DATA_FILE)?);
    let (over, mut peak, mut mapped) = (AtomicBool::new(false), before, 0.0);
    let took = std::thread::scope(|scope| -> Outcome<Duration> {
        let moving = scope.spawn(|| {
            let moved = deposit_all(&gateway, phones, documents);
            over.store(true, Ordering::Relaxed);
            moved
        });
        while !over.load(Ordering::Relaxed) {
            peak = mib(gateway.process.rss_kib(DATA_FILE)?).max(peak);
            mapped = mib(gateway.process.mapped_kib(DATA_FILE)?).max(mapped);
            std::thread::sleep(Duration::from_millis(5));
        }
        moving.join().unwrap_or_else(|_| Err("a phone panicked".into()))
    })?;
    gateway.stop()?;
    Ok(Measured::new(peak)
        .beside("before the first session", format!("{before:.1} MiB"))
        .beside("mapping of the data file", format!("{mapped:.1} MiB"))
        .beside("moved", format!("{SESSIONS} documents of 1 MiB in {:.1} s", took.as_secs_f64())))
}

/// All phones at once, each with one document; until each has heard that its own is stored.
fn deposit_all(gateway: &Gateway, phones: Vec<Identity>, documents: Vec<Document>) -> Outcome<Duration> {
    let introduction = Introduction::Known(identity(&gateway.folder.path().join("identity.key"))?.public());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let begun = Instant::now();
    runtime.block_on(async {
        let local = tokio::task::LocalSet::new();
        let talks: Vec<_> = phones
            .into_iter()
            .zip(documents)
            .map(|(phone, document)| {
                let (address, introduction) = (gateway.address.clone(), introduction.clone());
                local.spawn_local(async move {
                    let link = connect(&address, START).await?;
                    let mut memory = Memory::with(vec![document]);
                    let role = Role::Initiator(&introduction);
                    let (_, theirs) = converse(link, role, &phone, &mut memory).await?;
                    match theirs.stored {
                        1 => Outcome::Ok(()),
                        other => Err(format!("the gateway stored {other} documents of 1").into()),
                    }
                })
            })
            .collect();
        local
            .run_until(async {
                for talk in talks {
                    talk.await??;
                }
                Outcome::Ok(())
            })
            .await
    })?;
    Ok(begun.elapsed())
}

/// A running gateway with its folder.
struct Gateway {
    process: Process,
    address: String,
    folder: TempDir,
}

impl Gateway {
    /// With the default configuration, except for places, the port, and phones that are listed if there are any.
    fn start(folder: TempDir, addressee: &Addressee, listed: &[PeerKey]) -> Outcome<Self> {
        let at = folder.path();
        std::fs::write(at.join("clinic.pgp"), addressee.certificate.to_bytes())?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let configuration = at.join("gateway.toml");
        std::fs::write(&configuration, text(at, port, listed))?;
        let mut command = Command::new(program("waypost")?);
        command.arg("--config").arg(&configuration).arg("run");
        let mut process = Process::start(command, log(at))?;
        process.wait_for("gateway is running", START)?;
        Ok(Gateway { process, address: format!("127.0.0.1:{port}"), folder })
    }

    /// Context switches of all threads so far: voluntary, involuntary.
    fn switches(&self) -> Outcome<[u64; 2]> {
        let mut sums = [0; 2];
        for task in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))?.flatten() {
            let status = std::fs::read_to_string(task.path().join("status"))?;
            for (sum, key) in sums.iter_mut().zip(["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"])
            {
                let number = status.lines().find_map(|line| line.strip_prefix(key));
                *sum += number.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0);
            }
        }
        Ok(sums)
    }

    fn stop(mut self) -> Outcome<()> {
        let status = self.process.terminate(START)?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("the gateway ended with {status}: {}", self.process.output()).into()),
        }
    }
}

fn log(folder: &Path) -> PathBuf {
    folder.join("gateway.log")
}

fn text(folder: &Path, port: u16, listed: &[PeerKey]) -> String {
    let path = |name: &str| format!("{:?}", folder.join(name).display().to_string());
    let access = match listed {
        [] => String::new(),
        listed => {
            let keys: Vec<String> = listed.iter().map(|key| format!("{:?}", key.to_string())).collect();
            format!(
                "[access]\nmode = \"listed\"\nlisted = [{}]\n\n[limits]\nsessions_per_address = {SESSIONS}\n\
                 half_open = {SESSIONS}\n\n",
                keys.join(", ")
            )
        }
    };
    format!(
        "[store]\npath = {store}\n\n[identity]\nkey_file = {identity}\n\n{access}[lan]\nlisten = [\"[::]:{port}\"]\n\n\
         [control]\nsocket = {socket}\n\n[[destination]]\nname = \"clinic\"\nurl = \"https://127.0.0.1:9\"\n\
         certificate = {certificate}\n",
        store = path("store"),
        identity = path("identity.key"),
        socket = path("control.sock"),
        certificate = path("clinic.pgp"),
    )
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}
