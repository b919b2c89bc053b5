//! `waypost demo`: destination, gateway and phone as three processes over real sockets, and the way of a folder's files.

mod backhaul;
mod files;
mod processes;
mod progress;
mod stage;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use self::progress::{Progress, Step};
use self::stage::Stage;
use super::output;

/// How long the demo waits while nothing moves.
const PATIENCE: Duration = Duration::from_secs(120);

/// Arguments of `waypost demo`.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Folder whose files are sent; without it, a few files that the demo writes.
    folder: Option<PathBuf>,
    /// Where destination, gateway and phone keep their things; made anew, and left for you to look at.
    #[arg(long)]
    work: Option<PathBuf>,
}

/// Exit status 0: every file arrived byte for byte, and every copy on the phone was deleted on a verified confirmation.
/// 3: all that could be read did, some were skipped. 1: otherwise.
pub(super) fn demo(args: &DemoArgs, json: bool) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let work = work_folder(args.work.clone())?;
    let folder = match &args.folder {
        Some(folder) => folder.canonicalize().with_context(|| format!("cannot read {}", folder.display()))?,
        None => own_files(&work)?,
    };
    let found = files::scan(&folder);
    if found.files.is_empty() && found.skipped.is_empty() {
        bail!("{} has no files; name a folder that has some", folder.display());
    }
    let progress = Progress::new(found.files.len(), json);
    progress.say(&format!(
        "{} files of {}; everything is kept in {}",
        found.files.len(),
        folder.display(),
        work.display()
    ));

    progress.say("starting destination, gateway and phone as three processes; the backhaul is cut");
    let mut stage = Stage::start(&work)?;
    stage.pair()?;
    progress.say("the phone has scanned the gateway's code");
    let mut skipped = found.skipped;
    skipped.extend(stage.seal(&folder, &found.files, &progress)?);
    let sealed = progress.count(Step::Sealed);

    stage.sync(&progress)?;
    if stage.confirmed()? != 0 {
        bail!("a document was confirmed while the backhaul was cut");
    }
    stage.expect_nothing_at_the_server()?;
    progress.say(&format!(
        "no backhaul: {} documents wait at the kiosk, none is at the server",
        stage.waiting()?
    ));

    stage.backhaul.set(true);
    progress.say("the backhaul is back");
    stage.wait_for_uploads(&progress, PATIENCE)?;
    stage.sync(&progress)?;
    let left = stage.left_on_phone()?;
    progress.end();

    let outcome = summary::Outcome {
        sealed,
        left,
        skipped,
        seconds: started.elapsed().as_secs_f64(),
        uploaded_bytes: stage.backhaul.bytes(),
        link_bytes: stage.link_bytes,
    };
    let code = summary::report(&stage, &folder, &found.files, outcome, json)?;
    stage.stop();
    Ok(code)
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

/// A few files, for those who named no folder.
fn own_files(work: &std::path::Path) -> anyhow::Result<PathBuf> {
    let folder = work.join("files");
    std::fs::create_dir_all(&folder)?;
    for (name, text) in [
        ("household-17.xml", "<form><household>17</household><children>3</children></form>\n"),
        ("notes — Straße & 村.txt", "Names in any script arrive as they were.\n"),
        ("empty", ""),
    ] {
        std::fs::write(folder.join(name), text)?;
    }
    let photo: Vec<u8> = (0..300_000u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    std::fs::write(folder.join("photo.jpg"), photo)?;
    Ok(folder)
}

/// A line for people that is none of the table's.
fn say(json: bool, text: &str) {
    match json {
        true => output::note(text),
        false => output::line(text),
    }
}
