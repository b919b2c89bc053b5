//! Work on bundles inside the running daemon: one at a time, on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::report::{Progress, Report, Shown};
use super::{Gateway, run};

/// What shall be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Write what waits.
    Export {
        /// Where to.
        folder: PathBuf,
        /// With the kiosk's identity.
        identity: bool,
    },
    /// Take in what there is.
    Import {
        /// Where from.
        folder: PathBuf,
    },
    /// Both, for a stick that was plugged in.
    Stick {
        /// Where it is mounted.
        folder: PathBuf,
    },
}

impl Task {
    /// The folder that it is about.
    pub fn folder(&self) -> &Path {
        match self {
            Task::Export { folder, .. } | Task::Import { folder } | Task::Stick { folder } => folder,
        }
    }
}

/// How a task stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Counts the tasks of this run of the daemon.
    pub number: u64,
    /// What is done.
    pub task: Task,
    /// How far it is, or was.
    pub progress: Progress,
    /// What came of it; absent while it is under way. An error is in words.
    pub outcome: Option<Result<Vec<Report>, String>>,
}

struct Current {
    job: Job,
    shown: Shown,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The task under way, or the last one.
#[derive(Clone, Default)]
pub struct Jobs {
    current: Arc<Mutex<Option<Current>>>,
}

impl Jobs {
    /// Begins a task; its number. `done` is called on its thread when it is over. An error is in words.
    pub fn start(
        &self,
        gateway: Gateway,
        task: Task,
        done: impl FnOnce(Job) + Send + 'static,
    ) -> Result<u64, String> {
        let mut current = self.lock();
        if let Some(running) = current.as_ref().filter(|current| current.job.outcome.is_none()) {
            let folder = running.job.task.folder().display();
            return Err(format!(
                "the gateway is busy with the bundle in {folder}; try again when that is done"
            ));
        }
        let number = current.as_ref().map_or(1, |last| last.job.number + 1);
        let shown = Shown::default();
        let (theirs, jobs, work) = (shown.clone(), self.clone(), task.clone());
        let run = move || {
            let outcome = run(&gateway, &work, &theirs).map_err(|error| error.to_string());
            // The bundle is closed and the store let go before anybody hears of it.
            drop(gateway);
            if let Some(job) = jobs.finish(number, &theirs, outcome) {
                done(job);
            }
        };
        let thread = std::thread::Builder::new().name("bundle".to_owned()).spawn(run);
        let thread = thread.map_err(|error| format!("no thread for a bundle: {error}"))?;
        let job = Job { number, task, progress: Progress::default(), outcome: None };
        *current = Some(Current { job, shown, thread: Some(thread) });
        Ok(number)
    }

    fn finish(&self, number: u64, shown: &Shown, outcome: Result<Vec<Report>, String>) -> Option<Job> {
        let mut current = self.lock();
        let current = current.as_mut().filter(|current| current.job.number == number)?;
        current.job.progress = shown.progress();
        current.job.outcome = Some(outcome);
        Some(current.job.clone())
    }

    /// How the task with that number stands; `None` where it is not the last one.
    pub fn job(&self, number: u64) -> Option<Job> {
        self.lock().as_ref().filter(|current| current.job.number == number).map(|current| {
            let mut job = current.job.clone();
            if job.outcome.is_none() {
                job.progress = current.shown.progress();
            }
            job
        })
    }

    /// The task under way, or the last one.
    pub fn last(&self) -> Option<Job> {
        let number = self.lock().as_ref().map(|current| current.job.number)?;
        self.job(number)
    }

    /// Lets the task under way end after its file, and waits for that.
    pub fn stop(&self) {
        let thread = match self.lock().as_mut() {
            Some(current) => {
                current.shown.stop();
                current.thread.take()
            }
            None => None,
        };
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            log::error!("the thread for bundles has panicked");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
