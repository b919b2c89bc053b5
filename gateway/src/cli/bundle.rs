//! `export` and `import`: by the running gateway, or, where none runs, here.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{anyhow, bail};
use indicatif::ProgressBar;
use waypost_config::{Config, printable};
use waypost_protocol::time::UnixTime;
use waypost_store::Store;

use super::live::{config, unexpected};
use super::output;
use crate::admin::{Answer, Request};
use crate::bundle::{self, Gateway, Job, Passed, Progress, Report, Shown, Task};
use crate::control::{self, ControlError};
use crate::destinations::Destinations;
use crate::setup;

/// How often a task is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// Something was passed over.
const SKIPPED: u8 = 3;

pub(super) fn export(path: &Path, json: bool, folder: PathBuf, identity: bool) -> anyhow::Result<ExitCode> {
    let folder = std::path::absolute(folder)?;
    let reports = perform(path, json, Task::Export { folder: folder.clone(), identity })?;
    if identity && !json {
        output::line(&format!(
            "{} has the identity of this kiosk: whoever has it is this kiosk. Keep it to yourself, import it with `waypost \
             import DIR --identity` on the spare board, then delete it; do not run both boards.",
            folder.join("waypost/identity").display()
        ));
    }
    tell(json, &reports)
}

pub(super) fn import(path: &Path, json: bool, folder: PathBuf, identity: bool) -> anyhow::Result<ExitCode> {
    let folder = std::path::absolute(folder)?;
    if identity {
        let config = config(path)?;
        if control::is_running(&config.control.socket) {
            bail!(
                "the gateway runs; stop it first (`systemctl stop waypost`), and start it when the kiosk has moved"
            );
        }
        let store = setup::open_store(&config)?;
        let moved = bundle::receive_kiosk(&store, &setup::identity_path(&config), &folder)?;
        match json {
            true => output::json(&serde_json::json!({ "moved": moved }))?,
            false => output::line(&format!(
                "this board is now the kiosk {}: {} peers, {} deleted documents remembered",
                moved.key, moved.peers, moved.deleted
            )),
        }
    }
    tell(json, &perform(path, json, Task::Import { folder })?)
}

/// Does it in the running gateway, or here.
fn perform(path: &Path, json: bool, task: Task) -> anyhow::Result<Vec<Report>> {
    let config = config(path)?;
    let bar = (!json && std::io::stderr().is_terminal()).then(ProgressBar::new_spinner);
    let show = |progress: &Progress| {
        if let Some(bar) = &bar {
            bar.set_message(format!("{}: {}", progress.step, progress.files));
            bar.tick();
        }
    };
    let ask = |request: &Request| match control::ask(&config.control.socket, request)? {
        Ok(Answer::BundleJob(job)) => anyhow::Ok(*job),
        Ok(_) => Err(unexpected()),
        Err(message) => Err(anyhow!(message)),
    };
    let reports = match ask(&Request::Bundle(task.clone())) {
        Ok(mut job) => loop {
            match job.outcome {
                Some(outcome) => break outcome.map_err(|message| anyhow!(message)),
                None => show(&job.progress),
            }
            std::thread::sleep(LOOK);
            job = ask(&Request::BundleJob { number: job.number })?;
        },
        Err(error) if matches!(error.downcast_ref(), Some(ControlError::NotRunning { .. })) => {
            here(&config, &task, show)
        }
        Err(error) => Err(error),
    };
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    reports
}

/// On the store itself, while no gateway runs.
fn here(config: &Config, task: &Task, show: impl Fn(&Progress)) -> anyhow::Result<Vec<Report>> {
    if !config.store.path.exists() && matches!(task, Task::Export { .. }) {
        bail!("there is no store at {} yet; `waypost run` makes it", config.store.path.display());
    }
    let gateway = open(config)?;
    let shown = Shown::default();
    let theirs = &shown;
    std::thread::scope(|scope| {
        let work = scope.spawn(move || bundle::run(&gateway, task, theirs));
        while !work.is_finished() {
            show(&shown.progress());
            std::thread::sleep(LOOK / 10);
        }
        match work.join() {
            Ok(done) => Ok(done?),
            Err(_) => {
                bail!("the work on the bundle has panicked; this is a mistake of the program: report it")
            }
        }
    })
}

fn open(config: &Config) -> anyhow::Result<Gateway> {
    let store: Store = setup::open_store(config)?;
    let (mut destinations, problems) = Destinations::load(config);
    destinations.go_on(&Destinations::default(), &store);
    for problem in problems {
        output::note(&printable(&problem.to_string()));
    }
    let destinations = std::sync::Arc::new(destinations);
    let judge = destinations.clone();
    let verify = move |confirmation: &waypost_protocol::confirmation::Confirmation| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        judge.verify(confirmation, UnixTime(now)).map_err(|error| error.to_string())
    };
    Ok(Gateway {
        store,
        destinations,
        max_document: config.limits.max_document.bytes(),
        key: setup::open_identity(config)?.public(),
        key_file: setup::identity_path(config),
        verify: Box::new(verify),
    })
}

fn tell(json: bool, reports: &[Report]) -> anyhow::Result<ExitCode> {
    for report in reports {
        match json {
            true => output::json(report)?,
            false => lines(report).iter().for_each(|line| output::line(line)),
        }
    }
    let whole = reports.iter().all(Report::is_whole);
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(SKIPPED) })
}

fn lines(report: &Report) -> Vec<String> {
    let Report { documents, bytes, already, confirmed, confirmations, settled, removed, no_room, .. } =
        report;
    let is_export = report.work == "export";
    let mut lines = vec![match is_export {
        true => format!(
            "exported     {documents} documents ({}); {already} were there already. They stay here until they are confirmed.",
            output::bytes(*bytes)
        ),
        false => format!(
            "imported     {documents} documents ({}); {already} were here already, {confirmed} are confirmed",
            output::bytes(*bytes)
        ),
    }];
    let known = report.confirmations_already;
    lines.push(match is_export {
        true => format!("confirmed    {confirmations} confirmations written, {known} were there already"),
        false => {
            format!(
                "confirmed    {confirmations} new confirmations for {settled} documents here, {known} not new"
            )
        }
    });
    if *removed > 0 {
        lines.push(format!("removed      {removed} documents that are confirmed or were deleted"));
    }
    if *no_room > 0 {
        lines.push(format!(
            "no room      {no_room} documents or confirmations; take a larger stick, or empty this one"
        ));
    }
    let passed: [(&str, &Passed); 4] = [
        ("refused", &report.refused),
        ("damaged", &report.damaged),
        ("missing", &report.missing),
        ("unreadable", &report.unreadable),
    ];
    for (what, passed) in passed {
        for (name, why) in &passed.named {
            lines.push(format!("{what:<13}{}: {}", printable(name), printable(why)));
        }
        let more = passed.count - passed.named.len() as u64;
        if more > 0 {
            lines.push(format!("{what:<13}and {more} more"));
        }
    }
    lines
}

/// For `waypost status`.
pub(super) fn words(job: &Job) -> String {
    let folder = job.task.folder().display().to_string();
    let is_stick = matches!(job.task, Task::Stick { .. });
    let words = match &job.outcome {
        None => format!("{folder}: {} ({}); do not pull it", job.progress.step, job.progress.files),
        Some(Err(error)) => format!("{folder}: {error}"),
        Some(Ok(reports)) => {
            let done: Vec<String> = reports
                .iter()
                .map(|report| {
                    let Report { work, documents, confirmations, .. } = report;
                    format!("{work} of {documents} documents and {confirmations} confirmations")
                })
                .collect();
            let end = if is_stick { "; it may be pulled" } else { "" };
            format!("{folder}: {}{end}", done.join(", "))
        }
    };
    printable(&words).to_string()
}
