//! What the tests share: a destination's key, a phone's folder, and the command line.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use waypost_openpgp::SecretKey;
use waypost_protocol::ids::MessageId;
use waypost_protocol::time::UnixTime;

pub(crate) const MADE: UnixTime = UnixTime(1_795_236_000);

pub(crate) fn destination(name: &str) -> SecretKey {
    SecretKey::generate(name, MADE).unwrap()
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ length as u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32).to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// A phone that is only driven through its command line.
pub(crate) struct Cli {
    folder: TempDir,
    /// File with the passphrase that each command is given.
    pub(crate) passphrase: Option<PathBuf>,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Said {
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn objects(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn last(&self) -> Value {
        self.objects().pop().unwrap_or_else(|| panic!("nothing was said: {self:?}"))
    }

    /// Events of one kind.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        self.objects().into_iter().filter(|one| one["event"] == kind).collect()
    }
}

impl Cli {
    pub(crate) fn new() -> Self {
        Cli { folder: tempfile::tempdir().unwrap(), passphrase: None }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    pub(crate) fn write(&self, name: impl AsRef<Path>, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waypost-phone"));
        command.arg("--home").arg(self.home()).stdin(Stdio::null());
        if let Some(passphrase) = &self.passphrase {
            command.env("WAYPOST_PASSPHRASE_FILE", passphrase);
        }
        command
    }

    /// Runs a command; a status other than the expected one fails the test.
    pub(crate) fn expect(&self, status: i32, arguments: &[impl AsRef<OsStr>]) -> Said {
        let said = Said::of(self.command().args(arguments).output().unwrap());
        assert_eq!(said.status, status, "{said:?}");
        said
    }

    /// Runs a command with `--json`.
    pub(crate) fn json(&self, status: i32, arguments: &[impl AsRef<OsStr>]) -> Said {
        let said = Said::of(self.command().arg("--json").args(arguments).output().unwrap());
        assert_eq!(said.status, status, "{said:?}");
        said
    }

    pub(crate) fn add_destination(&self, key: &SecretKey) {
        let certificate = key.certificate();
        let path = self.write("destination.asc", certificate.to_armor().as_bytes());
        let fingerprint = certificate.fingerprint().to_string();
        let said = self.expect(
            0,
            &[
                OsStr::new("destination"),
                OsStr::new("add"),
                path.as_os_str(),
                "--fingerprint".as_ref(),
                fingerprint.as_ref(),
            ],
        );
        assert!(said.stdout.contains("destination added"), "{said:?}");
    }

    /// Makes the phone, and nothing else.
    pub(crate) fn init(&self) {
        self.expect(0, &["init"]);
    }

    /// Pairs with a kiosk and syncs with it, however that ends.
    pub(crate) fn pair(&self, text: &str) {
        self.expect(0, &["pair", text]);
        self.command().arg("sync").output().unwrap();
    }

    /// Adds one file and gives its id.
    pub(crate) fn add(&self, path: &Path) -> MessageId {
        let said = self.json(0, &[OsStr::new("add"), path.as_os_str()]);
        said.events("added")[0]["id"].as_str().unwrap().parse().unwrap()
    }

    /// State and reason of each document by name.
    pub(crate) fn states(&self) -> Vec<(String, String, String)> {
        let listed = self.json(0, &["list", "--all"]).last();
        let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
        let documents = listed["documents"].as_array().unwrap().iter();
        documents.map(|one| (text(one, "name"), text(one, "state"), text(one, "why"))).collect()
    }

    pub(crate) fn state(&self, name: &str) -> String {
        let states = self.states();
        let found = states.iter().find(|(known, _, _)| known == name);
        found.map(|(_, state, _)| state.clone()).unwrap_or_else(|| panic!("no {name} in {states:?}"))
    }
}

/// A command that goes on, and what it says; ended when dropped.
pub(crate) struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    /// With `--json` or without.
    pub(crate) fn start(cli: &Cli, arguments: &[&str]) -> Self {
        let mut child = cli.command().args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    /// The next event of this kind.
    pub(crate) fn until(&mut self, event: &str) -> Value {
        loop {
            let object: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
            if object["event"] == event {
                return object;
            }
        }
    }

    /// The next plain line.
    pub(crate) fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    /// Ends it; the lines that nobody has read yet.
    pub(crate) fn rest(mut self) -> Vec<String> {
        assert_eq!(self.terminate(), 0);
        self.lines.by_ref().map(Result::unwrap).collect()
    }

    pub(crate) fn terminate(&mut self) -> i32 {
        let id = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
