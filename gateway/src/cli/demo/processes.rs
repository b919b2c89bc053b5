//! The demo's processes: started from the programs beside this one, ended with it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
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
                let why = last_line(&self.log).map(|line| format!(": {line}")).unwrap_or_default();
                bail!("{what} ended at its start ({status}){why}; see {}", self.log.display());
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

/// How long a command may say nothing before [`Heard::Nothing`].
const QUIET: Duration = Duration::from_millis(200);

/// What is heard of a command while it runs.
pub(super) enum Heard<'v> {
    /// It printed an object.
    Object(&'v Value),
    /// It has printed nothing for a while; this is its process id.
    Nothing(u32),
}

/// How a command ended.
pub(super) struct Ended {
    /// The last JSON object that it printed.
    pub(super) last: Value,
    failure: Option<String>,
}

impl Ended {
    /// The last object of a command that has done what it should.
    pub(super) fn done(self) -> anyhow::Result<Value> {
        match self.failure {
            None => Ok(self.last),
            Some(failure) => bail!("{failure}"),
        }
    }
}

/// Runs a command to its end. `each` hears every JSON object as it comes, and silence. `input` is written to its standard input. Exit
/// status 3 ("partly") counts as done.
pub(super) fn run_json(
    command: &mut Command,
    input: Option<Vec<u8>>,
    log: &Path,
    mut each: impl FnMut(Heard<'_>),
) -> anyhow::Result<Ended> {
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
    let (sender, lines) = mpsc::sync_channel(1_000);
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let is_broken = line.is_err();
                if sender.send(line).is_err() || is_broken {
                    return;
                }
            }
        });
    }
    let mut last = Value::Null;
    loop {
        match lines.recv_timeout(QUIET) {
            Ok(line) => {
                if let Ok(value) = serde_json::from_str::<Value>(&line?) {
                    each(Heard::Object(&value));
                    last = value;
                }
            }
            Err(RecvTimeoutError::Timeout) => each(Heard::Nothing(child.id())),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait()?;
    // It only writes to a pipe that is closed by now.
    let _ = writer.join();
    let failure = (!matches!(status.code(), Some(0 | 3))).then(|| {
        let why = last["why"].as_str().filter(|why| !why.is_empty()).map(str::to_owned);
        let why = why.or_else(|| last_line(log)).map(|line| format!(": {line}")).unwrap_or_default();
        format!("{} failed ({status}){why}; see {}", shown.display(), log.display())
    });
    Ok(Ended { last, failure })
}

/// What a program said last in its log.
pub(super) fn last_line(log: &Path) -> Option<String> {
    let bytes = std::fs::read(log).ok()?;
    let line = bytes.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty())?;
    Some(String::from_utf8_lossy(line).into_owned())
}

/// How far a process has read the file that it has open for reading outside `own`, its own folder.
pub(super) fn bytes_read(process: u32, own: &Path) -> Option<u64> {
    let proc = PathBuf::from(format!("/proc/{process}"));
    let position = |number: &OsStr| {
        let info = std::fs::read_to_string(proc.join("fdinfo").join(number)).ok()?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        // The last octal digit is the access mode; 0 is reading.
        field("flags:")?.ends_with('0').then(|| field("pos:")?.parse::<u64>().ok())?
    };
    std::fs::read_dir(proc.join("fd"))
        .ok()?
        .flatten()
        .filter(|entry| {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            // Pipes and sockets have names that are no paths.
            target.is_absolute() && !target.starts_with(own) && !target.starts_with("/dev")
        })
        .filter_map(|entry| position(&entry.file_name()))
        .max()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn how_far_a_process_has_read_a_file_is_seen_from_outside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [0; 1_000]).unwrap();
        let mut file = File::open(&path).unwrap();
        file.read_exact(&mut [0; 700]).unwrap();
        // Other tests of this process may have read further in files of theirs.
        assert!(bytes_read(std::process::id(), Path::new("/nowhere")) >= Some(700));
    }

    #[test]
    fn a_failure_says_why_and_where_to_read_on() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo '{\"a\":1}'; echo 'no room' >&2; exit 1"]);
        let mut heard = 0;
        let ended = run_json(&mut command, None, &log, |_| heard += 1).unwrap();
        assert!(heard > 0 && ended.last["a"] == 1);
        let why = ended.done().unwrap_err().to_string();
        assert!(why.contains("no room") && why.contains(log.to_str().unwrap()), "{why}");
    }
}
