//! Remote logs in a folder: a thread that waits for the folder, and for something to do in it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use waypost_node::Clock;
use waypost_protocol::time::Monotonic;
use waypost_remote_log::Folder;

use super::{LogStatus, Parts, Work};

/// How often it is looked whether a stick was plugged in, pulled or changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long the thread gets to end its present step.
const GRACE: Duration = Duration::from_secs(2);

/// The logs in a folder. Dropping it ends the thread after its present step.
pub struct AtFolder {
    control: Arc<Control>,
    status: Arc<Mutex<LogStatus>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Control {
    signals: Mutex<Signals>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy)]
struct Signals {
    nudge: bool,
    stop: bool,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, Signals> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AtFolder {
    /// Starts the thread.
    pub fn start(parts: Parts, path: &Path, clock: Clock) -> io::Result<AtFolder> {
        let work = Work::new(parts, None, path.display().to_string());
        let status = work.status.clone();
        let control = Arc::new(Control::default());
        let path = path.to_owned();
        let runner = Runner { work, path, clock, control: control.clone(), medium: None };
        let thread = std::thread::Builder::new().name("remote-log".into()).spawn(move || runner.run())?;
        Ok(AtFolder { control, status, thread: Some(thread) })
    }

    /// There may be something new to publish.
    pub fn nudge(&self) {
        self.control.lock().nudge = true;
        self.control.changed.notify_all();
    }

    /// How they are.
    pub fn status(&self) -> LogStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for AtFolder {
    fn drop(&mut self) {
        self.control.lock().stop = true;
        self.control.changed.notify_all();
        let Some(thread) = self.thread.take() else { return };
        let until = std::time::Instant::now() + GRACE;
        // A stick may hang; whoever waits for this one serves phones.
        while !thread.is_finished() && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

struct Runner {
    work: Work,
    path: PathBuf,
    clock: Clock,
    control: Arc<Control>,
    /// Device and inode of the folder that was seen last.
    medium: Option<(u64, u64)>,
}

impl Runner {
    fn run(mut self) {
        while self.take_signals() {
            let now = self.clock.now();
            let medium = std::fs::metadata(&self.path).ok().map(|found| (found.dev(), found.ino()));
            if medium.is_some() && medium != self.medium {
                self.work.try_now(now);
            }
            self.medium = medium;
            match Folder::on_stick(&self.path) {
                Ok(mut folder) => self.steps(&mut folder),
                Err(error) => self.work.fail(&format!("{error}; it is waited for"), now),
            }
            self.wait();
        }
    }

    /// Everything that is due.
    fn steps(&mut self, folder: &mut Folder) {
        while !self.control.lock().stop {
            let now = self.clock.now();
            if self.work.due().is_none_or(|due| due > now) {
                return;
            }
            if self.work.step(folder, now) {
                (self.work.parts.fetched)();
            }
        }
    }

    fn wait(&self) {
        let now = self.clock.now();
        let span = self.work.due().map_or(LOOK_EVERY, |due: Monotonic| due.since(now).min(LOOK_EVERY));
        let waiting = |signals: &mut Signals| !signals.nudge && !signals.stop;
        let signals = self.control.lock();
        drop(self.control.changed.wait_timeout_while(signals, span, waiting));
    }

    /// False at the end.
    fn take_signals(&mut self) -> bool {
        let taken = std::mem::take(&mut self.control.lock().nudge);
        if taken {
            let now = self.clock.now();
            self.work.nudge(now);
        }
        !self.control.lock().stop
    }
}
