//! `waypost demo`: destination, gateway and phone as three processes over real sockets, and the way of a folder's files.

mod backhaul;
mod files;
mod ledger;
mod paste;
mod processes;
mod progress;
mod stage;
mod summary;
mod way;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rand_core::RngCore as _;

use self::ledger::Ledger;
use self::progress::{Progress, Step};
use self::stage::Stage;
use self::summary::Outcome;
use self::way::Way;
use super::output;

/// How long the demo waits while nothing moves.
const PATIENCE: Duration = Duration::from_secs(120);

/// The backhaul's first window closes after half of what the phone sent, but not before so many bytes.
const SMALLEST_WINDOW: u64 = 16 << 10;
/// Beside them something large, in bytes, so that it can be seen going on after an interruption.
const RECORDING: usize = 6 << 20;

/// What is sent where no folder is named: files that the repository has anyway, under their own names.
const OWN_FILES: [(&str, &[u8]); 5] = [
    ("README.md", include_bytes!("../../../../README.md")),
    ("LICENSE-MIT", include_bytes!("../../../../LICENSE-MIT")),
    ("gateway.toml", include_bytes!("../../../../config/gateway.toml")),
    ("openapi.json", include_bytes!("../../../../destination/openapi.json")),
    ("Cargo.lock", include_bytes!("../../../../Cargo.lock")),
];

/// Arguments of `waypost demo`.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Folder whose files are sent; without it, a few files of Waypost's own repository.
    folder: Option<PathBuf>,
    /// Where destination, gateway and phone keep their things; made anew, and left for you to look at.
    #[arg(long)]
    work: Option<PathBuf>,
    /// The largest document that the destination takes, in bytes, to see what becomes of larger ones; without it, any.
    #[arg(long, value_name = "BYTES")]
    max_document: Option<u64>,
}

/// Exit status 0: every file arrived byte for byte, and every copy on the phone was deleted on a verified confirmation.
/// 3: all that could be read did, some were skipped. 1: otherwise.
pub(super) fn demo(args: &DemoArgs, json: bool) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let mut outcome = Outcome::default();
    let done = prepare(args, &mut outcome).and_then(|()| show(args, &mut outcome, json));
    outcome.times.total = started.elapsed();
    outcome.error = done.err();
    summary::report(outcome, json)
}

/// Finds out where everything is and which files there are.
fn prepare(args: &DemoArgs, outcome: &mut Outcome) -> anyhow::Result<()> {
    let work = work_folder(args.work.clone())?;
    outcome.work = Some(work.clone());
    let folder = match &args.folder {
        Some(folder) => folder.canonicalize().with_context(|| format!("cannot read {}", folder.display()))?,
        None => own_files(&work)?,
    };
    let found = files::scan(&folder);
    if found.files.is_empty() && found.skipped.is_empty() {
        bail!("{} has no files; name a folder that has some", folder.display());
    }
    outcome.skipped = found.skipped;
    outcome.ledger = Ledger::new(&folder, found.files);
    Ok(())
}

/// Starts the three, goes the way with them, and ends them.
fn show(args: &DemoArgs, outcome: &mut Outcome, json: bool) -> anyhow::Result<()> {
    let Some(work) = outcome.work.clone() else { bail!("there is no folder to work in") };
    let progress = Progress::new(outcome.ledger.total(), json);
    progress.say(&format!(
        "{} files of {}; everything is kept in {}",
        outcome.ledger.entries.len(),
        outcome.ledger.folder.display(),
        work.display()
    ));
    progress.say("starting destination, gateway and phone as three processes; the backhaul is cut");
    let mut stage = Stage::start(&work, args.max_document)?;
    let done = go(&mut stage, outcome, &progress);
    progress.end();
    outcome.link_bytes = stage.link_bytes;
    outcome.upload_bytes = stage.backhaul.bytes();
    outcome.left = stage.left_on_phone().ok();
    stage.stop();
    done
}

fn go(stage: &mut Stage, outcome: &mut Outcome, progress: &Progress) -> anyhow::Result<()> {
    stage.pair()?;
    progress.say("the phone has scanned the gateway's code");
    let mut way = Way { stage, ledger: &mut outcome.ledger, progress };
    timed(&mut outcome.times.sealing, || way.seal())?;
    timed(&mut outcome.times.to_kiosk, || way.meet())?;
    if way.stage.confirmed()? != 0 {
        bail!("a document was confirmed while the backhaul was cut");
    }
    way.stage.expect_nothing_at_the_server()?;
    let waiting = way.stage.waiting()?;
    progress.say(&format!("no backhaul: {waiting} documents wait at the kiosk, none is at the server"));

    let window = (way.stage.link_bytes / 2).max(SMALLEST_WINDOW);
    way.stage.backhaul.open(window);
    progress.say(&format!("the backhaul is back, for {} that may go up", output::bytes(window)));
    loop {
        let uploaded = timed(&mut outcome.times.upload, || way.wait_for_uploads(PATIENCE));
        if uploaded.is_ok() && !way.stage.backhaul.is_open() {
            let (there, bytes) = (way.stage.at_server().documents, way.stage.backhaul.bytes());
            outcome.windows.push((there, bytes));
            progress.say(&format!(
                "the window has closed in the middle of an upload: {there} documents are at the server, {} went over \
                 the backhaul; in the next one it goes on from there",
                output::bytes(bytes)
            ));
            way.stage.backhaul.open(u64::MAX);
            continue;
        }
        let before = way.ledger.count(Step::AtKiosk);
        timed(&mut outcome.times.confirmations, || way.meet())?;
        uploaded?;
        // A kiosk that was full takes more now that some of its documents are delivered.
        if way.ledger.count(Step::AtKiosk).documents == before.documents {
            return Ok(());
        }
    }
}

/// Adds the time that `work` takes.
fn timed<T>(time: &mut Duration, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = work();
    *time += started.elapsed();
    done
}

fn work_folder(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let work =
        named.unwrap_or_else(|| std::env::temp_dir().join(format!("waypost-demo-{}", std::process::id())));
    std::fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    if std::fs::read_dir(&work)?.next().is_some() {
        bail!("{} is not empty; name another folder with --work", work.display());
    }
    Ok(work.canonicalize()?)
}

fn own_files(work: &Path) -> anyhow::Result<PathBuf> {
    let folder = work.join("files");
    std::fs::create_dir_all(&folder)?;
    for (name, bytes) in OWN_FILES {
        std::fs::write(folder.join(name), bytes)?;
    }
    let mut recording = vec![0; RECORDING];
    waypost_node::system_rng()?.fill_bytes(&mut recording);
    std::fs::write(folder.join("recording.bin"), recording)?;
    Ok(folder)
}
