//! The demo's processes: started from the programs beside this one, ended with it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

/// A program beside this one.
pub(super) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        bail!("{} is missing; build it first: make build, or install all of Waypost", path.display());
    }
    Ok(path)
}

/// A process that runs until the demo ends.
pub(super) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it with its output in a log file.
    pub(super) fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Running { child, log: log.to_owned() })
    }

    /// Waits until `ready`; names the log where the process ends before.
    pub(super) fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{what} ended at its start ({status}); see {}", self.log.display());
            }
            if Instant::now() > until {
                bail!("{what} did not start within a minute; see {}", self.log.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Lets it end in order, then makes it.
    pub(super) fn stop(&mut self) {
        let id = self.child.id().to_string();
        let _ = Command::new("kill").arg(&id).stderr(Stdio::null()).status();
        let until = Instant::now() + Duration::from_secs(15);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a command to its end and returns the last JSON object that it printed. `each` sees every object as it comes.
/// `input` is written to its standard input. Exit status 3 ("partly") counts as done.
pub(super) fn run_json(
    command: &mut Command,
    input: Option<Vec<u8>>,
    log: &Path,
    mut each: impl FnMut(&Value),
) -> anyhow::Result<Value> {
    let shown = Path::new(command.get_program()).file_name().unwrap_or(OsStr::new("?")).to_owned();
    let errors = File::options().create(true).append(true).open(log)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let stdin = child.stdin.take();
    let writer = std::thread::spawn(move || {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A command that ends early says so by its exit status.
            let _ = stdin.write_all(&input);
        }
    });
    let mut last = Value::Null;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            if let Ok(value) = serde_json::from_str::<Value>(&line?) {
                each(&value);
                last = value;
            }
        }
    }
    let status = child.wait()?;
    // It only writes to a pipe that is closed by now.
    let _ = writer.join();
    if !matches!(status.code(), Some(0 | 3)) {
        bail!("{} failed ({status}); see {}", shown.display(), log.display());
    }
    Ok(last)
}
