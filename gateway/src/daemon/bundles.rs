//! Bundles in the running daemon: tasks that commands ask for, and sticks that are plugged in.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use tokio::sync::mpsc;
use waypost_config::Config;

use super::{Daemon, Event};
use crate::admin::Answer;
use crate::bundle::{Gateway, Job, Jobs, Report, Task};
use crate::setup;

mod mounts;

use mounts::Mounts;

/// What is under way with bundles, and what is mounted.
pub(super) struct Bundles {
    pub(super) jobs: Jobs,
    done: mpsc::Receiver<Job>,
    done_in: mpsc::Sender<Job>,
    /// Where the kernel tells of mounts; nothing where sticks are not looked for.
    mounts: Option<Mounts>,
    /// Sticks that were found and wait for their turn.
    waiting: Vec<PathBuf>,
    /// Sticks that have had their turn and are still mounted.
    known: Vec<PathBuf>,
}

impl Bundles {
    pub(super) fn new(config: &Config) -> Self {
        // One task runs at a time, so there is always room.
        let (done_in, done) = mpsc::channel(4);
        let mounts = config.bundles.enabled.then(Mounts::open);
        let mounts = mounts.transpose().unwrap_or_else(|error| {
            log::error!(error:%; "sticks are not noticed, as mounts cannot be watched: {error}");
            None
        });
        Bundles { jobs: Jobs::default(), done, done_in, mounts, waiting: Vec::new(), known: Vec::new() }
    }

    /// A task that is over, or a change of what is mounted.
    pub(super) async fn next(&mut self) -> Event {
        let mounts = async {
            match &mut self.mounts {
                Some(mounts) => mounts.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(job) = self.done.recv() => Event::Bundle(Box::new(job)),
            () = mounts => Event::Mounts,
        }
    }

    /// Lets the task under way end.
    pub(super) fn stop(&mut self) {
        self.done.close();
        self.jobs.stop();
    }
}

impl Daemon {
    /// Begins a task; its number. An error is in words.
    pub(super) fn start_bundle(&self, task: Task) -> Result<u64, String> {
        let (destinations, time) = (self.destinations.clone(), self.shared.time.clone());
        let verify = move |confirmation: &waypost_protocol::confirmation::Confirmation| {
            destinations.verify(confirmation, time.now()).map_err(|error| error.to_string())?;
            time.heard(confirmation.statement.time());
            Ok(())
        };
        let gateway = Gateway {
            store: self.shared.store.clone(),
            destinations: self.destinations.clone(),
            max_document: self.config.limits.max_document.bytes(),
            key: self.identity.public(),
            key_file: setup::identity_path(&self.config),
            verify: Box::new(verify),
        };
        let done = self.bundles.done_in.clone();
        let folder = task.folder().display().to_string();
        let number = self.bundles.jobs.start(gateway, task, move |job| {
            // The loop is gone only when the daemon ends.
            let _ = done.blocking_send(job);
        })?;
        log::info!(folder = folder.as_str(); "working on the bundle in {folder}");
        Ok(number)
    }

    pub(super) fn bundle_job(&self, number: u64) -> Result<Answer, String> {
        let job = self.bundles.jobs.job(number);
        job.map(|job| Answer::BundleJob(Box::new(job)))
            .ok_or_else(|| format!("no task {number} on a bundle; the gateway was restarted: run it again"))
    }

    /// What came of a task: uploads and phones are told, and people at the stick.
    pub(super) fn bundle_done(&mut self, job: &Job) {
        let folder = job.task.folder().display().to_string();
        let folder = folder.as_str();
        match &job.outcome {
            Some(Ok(reports)) => {
                for report in reports {
                    log_report(folder, report);
                    let taken = report.work == "import";
                    self.host.new_documents |= taken && report.documents > 0;
                    self.host.new_confirmations |= taken && report.confirmations > 0;
                }
                if let Task::Stick { .. } = job.task {
                    log::info!(folder; "the stick at {folder} may be pulled");
                }
            }
            Some(Err(error)) => {
                log::error!(folder, error = error.as_str(); "the bundle in {folder} was not done with: {error}");
            }
            None => {}
        }
        for upload in self.uploads.iter().filter(|_| self.host.new_confirmations) {
            let mut status = upload.status.lock().unwrap_or_else(PoisonError::into_inner);
            let waits = |id: &_| {
                let row = self.shared.store.document(id).ok().flatten();
                row.is_some_and(|row| row.state == waypost_store::State::Waiting)
            };
            status.set_aside.retain(|id, _| waits(id));
        }
        self.next_stick();
    }

    /// Looks at what is mounted: a stick with the marker gets its turn, once while it is plugged in.
    pub(super) fn look_for_sticks(&mut self) {
        let Some(mounts) = &self.bundles.mounts else { return };
        let settings = &self.config.bundles;
        let is_stick = |path: &Path| {
            settings.folders.iter().any(|folder| path.starts_with(folder) && path != folder)
                && path.join(settings.marker.as_str()).symlink_metadata().is_ok_and(|marker| marker.is_file())
        };
        let found: Vec<PathBuf> = match mounts.points() {
            Ok(points) => points.into_iter().filter(|path| is_stick(path)).collect(),
            Err(error) => {
                log::error!(error:%; "what is mounted cannot be read: {error}");
                return;
            }
        };
        for gone in self.bundles.known.extract_if(.., |path| !found.contains(path)) {
            log::info!(folder:% = gone.display(); "the stick at {} is gone", gone.display());
        }
        self.bundles.waiting.retain(|path| found.contains(path));
        for path in found {
            if !self.bundles.known.contains(&path) && !self.bundles.waiting.contains(&path) {
                log::info!(folder:% = path.display(); "a stick with {} was plugged in", settings.marker);
                self.bundles.waiting.push(path);
            }
        }
        self.next_stick();
    }

    fn next_stick(&mut self) {
        let is_busy = self.bundles.jobs.last().is_some_and(|job| job.outcome.is_none());
        if is_busy || self.bundles.waiting.is_empty() {
            return;
        }
        let folder = self.bundles.waiting.remove(0);
        self.bundles.known.push(folder.clone());
        if let Err(error) = self.start_bundle(Task::Stick { folder }) {
            log::error!(error = error.as_str(); "a stick was passed over: {error}");
        }
    }
}

fn log_report(folder: &str, report: &Report) {
    let Report { work, documents, already, confirmed, confirmations, removed, no_room, .. } = report;
    log::info!(
        folder, documents, already, confirmed, confirmations, removed, no_room, refused = report.refused.count,
        damaged = report.damaged.count;
        "{work} of the bundle in {folder}: {documents} documents, {confirmations} confirmations"
    );
    for (what, why) in
        report.damaged.named.iter().chain(&report.refused.named).chain(&report.unreadable.named)
    {
        log::warn!(folder, reason = why.as_str(); "passed over in the bundle in {folder}: {what}: {why}");
    }
}
