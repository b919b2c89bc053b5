//! Programs of the workspace as processes: started with their output in a file, watched, killed at will and always at the end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use thiserror::Error;

/// How often a file or process is looked at while waiting.
const LOOK: Duration = Duration::from_millis(5);
/// How much of the end of a log an error shows, in bytes.
const SHOWN: usize = 2000;

/// What can go wrong with a process.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// The program was not built, or not into the same folder as the tests.
    #[error(
        "there is no program {0}: build it first (cargo build -p … --bin …, same profile and target folder)"
    )]
    NoProgram(PathBuf),
    /// It could not be started, or its log not written.
    #[error("can't start {program} with its output in {log}")]
    Start {
        /// The program.
        program: String,
        /// The file for its output.
        log: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It ended while something was expected of it.
    #[error("{program} ended ({status}) before {expected:?} was in its output, which ends with:\n{output}")]
    Ended {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What was waited for.
        expected: String,
        /// The end of its output.
        output: String,
    },
    /// It did not do in time what was expected.
    #[error("{program} took longer than {within:?} for {expected:?}; its output ends with:\n{output}")]
    Late {
        /// The program.
        program: String,
        /// The time that it had.
        within: Duration,
        /// What was waited for.
        expected: String,
        /// The end of its output.
        output: String,
    },
    /// A file or signal of a process is out of reach, because it ended.
    #[error("can't reach process {id}")]
    Gone {
        /// Its process id.
        id: u32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The path of a program of the workspace that was built for these tests: beside the folder of the test's own program.
///
/// # Errors
///
/// When it isn't there.
pub fn program(name: &str) -> Result<PathBuf, ProcessError> {
    let own = std::env::current_exe().map_err(|_| ProcessError::NoProgram(name.into()))?;
    let folder =
        own.parent().map(|folder| if folder.ends_with("deps") { folder.join("..") } else { folder.into() });
    let path = folder.unwrap_or_default().join(name);
    if path.is_file() { Ok(path) } else { Err(ProcessError::NoProgram(path)) }
}

/// A running program. Dropping it kills it (and nothing else: its own children, if any, go on).
#[derive(Debug)]
pub struct Process {
    child: Arc<Mutex<Child>>,
    id: u32,
    name: String,
    log: PathBuf,
    /// Where the output of this run begins in the log, and up to where it was searched.
    begin: u64,
    searched: u64,
}

/// Kills a process from within a hook of another fault. It never hits a later process with the same id.
#[derive(Clone, Debug)]
pub struct Killer(Arc<Mutex<Child>>);

impl Killer {
    /// Ends the process as `kill -9` does; nothing happens if it has ended already.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill9(&self) -> io::Result<()> {
        lock(&self.0).kill()
    }
}

impl Process {
    /// Starts a command with both its outputs appended to the file `log`, and no input.
    ///
    /// # Errors
    ///
    /// When there is no such program, or the log can't be written.
    pub fn start(mut command: Command, log: impl AsRef<Path>) -> Result<Self, ProcessError> {
        let log = log.as_ref().to_owned();
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source| ProcessError::Start { program: program.clone(), log: log.clone(), source };
        let mut out = OpenOptions::new().create(true).append(true).open(&log).map_err(failed)?;
        let begin = out.seek(SeekFrom::End(0)).map_err(failed)?;
        let errors = out.try_clone().map_err(failed)?;
        let child = command.stdin(Stdio::null()).stdout(out).stderr(errors).spawn().map_err(failed)?;
        let id = child.id();
        let name =
            Path::new(&program).file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Ok(Self { child: Arc::new(Mutex::new(child)), id, name, log, begin, searched: begin })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        lock(&self.child).try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// What it has printed in this run.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.read_from(self.begin)).into_owned()
    }

    fn read_from(&self, offset: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            file.read_to_end(&mut bytes)
        });
        match read {
            Ok(_) => bytes,
            Err(error) => format!("(the log can't be read: {error})").into_bytes(),
        }
    }

    /// The end of the output, for messages.
    fn shown(&self) -> String {
        let output = self.output();
        let mut from = output.len().saturating_sub(SHOWN);
        while !output.is_char_boundary(from) {
            from += 1;
        }
        output[from..].to_owned()
    }

    /// Waits until it prints a line with `text` in it, and answers that line; the next call goes on behind it.
    ///
    /// # Errors
    ///
    /// When it ends before, or takes longer than `within`.
    pub fn wait_for(&mut self, text: &str, within: Duration) -> Result<String, ProcessError> {
        let begun = Instant::now();
        loop {
            // Look at the process first: what it printed before it ended is then in the log.
            let ended = self.ended()?;
            let new = self.read_from(self.searched);
            let mut behind = 0;
            for line in new.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
                behind += line.len() as u64;
                let line = String::from_utf8_lossy(line);
                if line.contains(text) {
                    self.searched += behind;
                    return Ok(line.trim_end().to_owned());
                }
            }
            if let Some(status) = ended {
                return Err(ProcessError::Ended {
                    program: self.name.clone(),
                    status,
                    expected: text.to_owned(),
                    output: self.shown(),
                });
            }
            self.check_time(begun, within, text)?;
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    ///
    /// When it takes longer than `within`.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus, ProcessError> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            self.check_time(begun, within, "its end")?;
            std::thread::sleep(LOOK);
        }
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    ///
    /// When it takes longer than `within`.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::SIGTERM)?;
        self.wait(within)
    }

    /// Sends it a signal, unless it has ended.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        // While the lock is held nobody collects the child, so its id can't belong to another process.
        let mut child = lock(&self.child);
        if child.try_wait().map_err(|source| self.gone(source))?.is_none() {
            kill(Pid::from_raw(self.id.cast_signed()), signal).map_err(|errno| self.gone(errno.into()))?;
        }
        Ok(())
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill9(&mut self) -> Result<ExitStatus, ProcessError> {
        lock(&self.child).kill().map_err(|source| self.gone(source))?;
        self.wait(Duration::from_secs(10))
    }

    /// Something that kills it from another thread.
    pub fn killer(&self) -> Killer {
        Killer(Arc::clone(&self.child))
    }

    /// Memory that is resident, in KiB, without the mapping of files in whose path `without` occurs (the
    /// store's data file); all of it if that is empty.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn rss_kib(&self, without: &str) -> Result<u64, ProcessError> {
        self.mappings(|path| without.is_empty() || !path.contains(without))
    }

    /// The most of that, in KiB, while `during` runs, looked at 50 times a second; and what `during` answers.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn peak_kib<T>(&self, without: &str, during: impl FnOnce() -> T) -> Result<(u64, T), ProcessError> {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let mut most = Ok(0);
                while !over.load(Ordering::Relaxed) && most.is_ok() {
                    most = self.rss_kib(without).map(|now| now.max(most.unwrap_or(0)));
                    std::thread::sleep(Duration::from_millis(20));
                }
                most
            });
            let done = during();
            over.store(true, Ordering::Relaxed);
            let most = watching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok((most, done))
        })
    }

    /// Memory that is resident, in KiB, of the mapping of files in whose path `part` occurs.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn mapped_kib(&self, part: &str) -> Result<u64, ProcessError> {
        self.mappings(|path| path.contains(part))
    }

    fn mappings(&self, counted: impl Fn(&str) -> bool) -> Result<u64, ProcessError> {
        let path = format!("/proc/{}/smaps", self.id);
        let smaps = std::fs::read_to_string(path).map_err(|source| self.gone(source))?;
        Ok(resident(&smaps, counted))
    }

    /// How often its threads have gone to sleep so far (voluntary context switches): the difference of two readings over
    /// the time between them is its wake-ups per second.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn wakeups(&self) -> Result<u64, ProcessError> {
        let mut sum = 0;
        let tasks =
            std::fs::read_dir(format!("/proc/{}/task", self.id)).map_err(|source| self.gone(source))?;
        for task in tasks.flatten() {
            // A thread may end while the list is read.
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sum += switches.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(sum)
    }

    fn ended(&self) -> Result<Option<ExitStatus>, ProcessError> {
        lock(&self.child).try_wait().map_err(|source| self.gone(source))
    }

    fn gone(&self, source: io::Error) -> ProcessError {
        ProcessError::Gone { id: self.id, source }
    }

    fn check_time(&self, begun: Instant, within: Duration, expected: &str) -> Result<(), ProcessError> {
        if begun.elapsed() < within {
            return Ok(());
        }
        Err(ProcessError::Late {
            program: self.name.clone(),
            within,
            expected: expected.to_owned(),
            output: self.shown(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        if let Err(error) = child.kill().and_then(|()| child.wait()) {
            log::warn!("can't end {} ({}): {error}", self.name, self.id);
        }
    }
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sums the `Rss` lines of those mappings whose path (empty for anonymous ones) is to be counted.
fn resident(smaps: &str, counted: impl Fn(&str) -> bool) -> u64 {
    let mut sum = 0;
    let mut count = false;
    for line in smaps.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !first.ends_with(':') {
            // A mapping begins: address, permissions, offset, device, inode, path.
            let mut rest = line;
            for _ in 0..5 {
                rest = rest.trim_start().split_once(' ').map_or("", |(_, behind)| behind);
            }
            count = counted(rest.trim_start());
        } else if first == "Rss:" && count {
            let number = line.split_whitespace().nth(1);
            sum += number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0c8a00000-55d0c8b00000 r-xp 00000000 fe:00 1234                       /usr/bin/waypost
Size:               1024 kB
Rss:                 700 kB
7f0000000000-7f1000000000 r--s 00000000 fe:00 99                         /var/lib/way post/store/data.mdb
Rss:               90000 kB
Pss:               90000 kB
7f2000000000-7f2000100000 rw-p 00000000 00:00 0
Rss:                  50 kB
";

    #[test]
    fn the_mapping_of_the_data_file_is_counted_apart() {
        assert_eq!(resident(SMAPS, |path| !path.contains("data.mdb")), 750);
        assert_eq!(resident(SMAPS, |path| path.contains("way post/store/data.mdb")), 90000);
        assert_eq!(resident(SMAPS, |path| path.is_empty()), 50);
    }
}
