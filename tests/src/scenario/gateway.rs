//! The gateway of a site: `waypost` behind a link that can be counted and cut.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde_json::{Value, json};

use super::programs::run_well;
use super::{Destination, PATIENCE, Ran, program, say, wait_until};
use crate::process::Process;
use crate::proxy::{Content, Proxy};

/// A gateway.
pub struct Gateway {
    /// Between phones and the gateway's LAN port: its address is the one that pairing codes tell.
    pub link: Proxy,
    folder: PathBuf,
    process: Option<Process>,
    clock: Option<String>,
    /// Where a service manager would listen.
    manager: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Gateway {
    /// Makes one that serves `destination` through its backhaul; it does not run yet. Everything that it keeps is in
    /// `folder`, and named in its configuration relative to it, so that a copy of the folder is a copy of the gateway.
    #[track_caller]
    pub fn make(folder: &Path, destination: &Destination) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        for (name, from) in
            [("certificate.pgp", destination.certificate()), ("ca.pem", destination.authority())]
        {
            std::fs::copy(from, folder.join(name)).unwrap();
        }
        std::fs::write(folder.join("token"), destination.token()).unwrap();
        std::fs::write(folder.join("gateway.toml"), CONFIGURATION).unwrap();
        let gateway = Self::at(folder);
        gateway.reach(destination.backhaul.address());
        gateway
    }

    /// The gateway that is in `folder`, a copy of another's; it does not run yet.
    #[track_caller]
    pub fn at(folder: &Path) -> Self {
        let link = Proxy::start(SocketAddr::from(([127, 0, 0, 1], 1)), Content::Frames).unwrap();
        let gateway = Self {
            link,
            folder: folder.to_owned(),
            process: None,
            clock: None,
            manager: None,
            environment: Vec::new(),
        };
        gateway.configure("10-link", &format!("[lan]\naddresses = [\"{}\"]\n", gateway.link.address()));
        gateway
    }

    /// Sets where the gateway finds its destination; from the next start or reload on.
    #[track_caller]
    pub fn reach(&self, destination: SocketAddr) {
        self.reach_at(&destination.to_string());
    }

    /// The same by `host:port`.
    #[track_caller]
    pub fn reach_at(&self, destination: &str) {
        self.reach_with(destination, "");
    }

    #[track_caller]
    fn reach_with(&self, destination: &str, more: &str) {
        self.configure(
            "20-destination",
            &format!(
                "[[destination]]\nname = \"test\"\nurl = \"https://{destination}\"\ncertificate = \"../certificate.pgp\"\n\
                 token_file = \"../token\"\nca_file = \"../ca.pem\"\n{more}",
            ),
        );
    }

    /// Lets the gateway carry this collection of its destination alone, with `more` of the collection's keys (TOML, after
    /// a comma); from the next start or reload on.
    #[track_caller]
    pub fn carry(&self, destination: &Destination, group: &str, more: &str) {
        let address = destination.backhaul.address();
        self.reach_with(
            &address.to_string(),
            &format!("collections = [{{ label = \"forms\", group = \"{group}\"{more} }}]\n"),
        );
    }

    /// Lets the gateway serve a further destination, called `name`; from the next start or reload on.
    #[track_caller]
    pub fn serve_also(&self, name: &str, destination: &Destination) {
        for (ending, from) in [("pgp", destination.certificate()), ("ca.pem", destination.authority())] {
            std::fs::copy(from, self.folder.join(format!("{name}.{ending}"))).unwrap();
        }
        std::fs::write(self.folder.join(format!("{name}.token")), destination.token()).unwrap();
        self.configure(
            &format!("30-{name}"),
            &format!(
                "[[destination]]\nname = \"{name}\"\nurl = \"https://{}\"\ncertificate = \"../{name}.pgp\"\n\
                 token_file = \"../{name}.token\"\nca_file = \"../{name}.ca.pem\"\n",
                destination.backhaul.address()
            ),
        );
    }

    /// Adds or replaces a drop-in file of the configuration, read in the order of names; from the next start or reload on.
    #[track_caller]
    pub fn configure(&self, name: &str, text: &str) {
        let folder = self.folder.join("gateway.d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name).with_extension("toml"), text).unwrap();
    }

    /// From the next start on its wall clock begins at that time, "1970-01-01 00:00:00" for a board without a battery;
    /// `None` for the machine's.
    pub fn set_clock(&mut self, time: Option<&str>) {
        self.clock = time.map(|time| format!("@{time}"));
    }

    /// From the next start on it tells a service manager, which listens at this datagram socket, how it is.
    pub fn set_manager(&mut self, socket: &Path) {
        self.manager = Some(socket.to_owned());
    }

    /// From the next start on it has this variable in its environment.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it and waits until it serves phones; the link leads to it.
    #[track_caller]
    pub fn start(&mut self) {
        let mut run = self.command(&["run"]);
        if let Some(clock) = &self.clock {
            let mut faked = Command::new("faketime");
            faked.args(["-f", clock]).arg(run.get_program()).args(run.get_args());
            // Monotonic clocks go on as they are, as on such a board.
            faked.env("DONT_FAKE_MONOTONIC", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            run = faked;
        }
        if let Some(manager) = &self.manager {
            run.env("NOTIFY_SOCKET", manager);
        }
        run.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start(run, self.log()).unwrap();
        process.wait_for("gateway is running", PATIENCE).unwrap();
        self.process = Some(process);
        self.settle();
    }

    /// Waits until it answers, which takes a while where it opens its store anew, and leads the link to where it listens.
    #[track_caller]
    pub fn settle(&self) {
        let status = wait_until("the gateway's status", || self.try_ask(&json!({ "do": "status" })).ok());
        self.link.retarget(status["listening"][0].as_str().unwrap().parse().unwrap());
    }

    /// Ends it in order (SIGTERM).
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process.take().unwrap().terminate(PATIENCE).unwrap()
    }

    /// Ends it as `kill -9` does.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.process.take().unwrap().kill9().unwrap();
    }

    /// The running program.
    #[track_caller]
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// The same, to be looked at.
    #[track_caller]
    pub fn running(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    /// Its folder: `gateway.toml`, `store`, keys, `control.sock`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Everything that it has logged.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// A command of `waypost`, with JSON.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("waypost"));
        command.arg("--config").arg(self.folder.join("gateway.toml")).arg("--json").args(arguments);
        command
    }

    /// Runs a command, which must succeed.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run_well(&mut self.command(arguments))
    }

    /// Asks the running gateway over its control socket, as its commands do.
    ///
    /// # Panics
    ///
    /// When it does not run, or answers with an error.
    #[track_caller]
    pub fn ask(&self, request: &Value) -> Value {
        self.try_ask(request).unwrap()
    }

    /// The same for a gateway that may be dead, or die meanwhile.
    pub fn try_ask(&self, request: &Value) -> io::Result<Value> {
        let stream = UnixStream::connect(self.folder.join("control.sock"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(&stream, "{request}")?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        let mut answer: Value = serde_json::from_str(&line)?;
        match answer["answer"].as_object_mut().and_then(|answer| answer.iter_mut().next()) {
            Some((_, answer)) => Ok(answer.take()),
            None => Err(io::Error::other(format!("the gateway answers {request} with {line}"))),
        }
    }

    /// How it is (`waypost status`).
    #[track_caller]
    pub fn status(&self) -> Value {
        self.ask(&json!({ "do": "status" }))
    }

    /// In a word, how its first destination can be reached.
    #[track_caller]
    pub fn state(&self) -> String {
        self.status()["destinations"][0]["state"].as_str().unwrap().to_owned()
    }

    /// What is wrong with that and what to do; nothing where all is well.
    #[track_caller]
    pub fn trouble(&self) -> String {
        self.status()["destinations"][0]["trouble"].as_str().unwrap_or_default().to_owned()
    }

    /// Every document that it has or remembers (`waypost documents list`).
    #[track_caller]
    pub fn documents(&self) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), Value::Null);
        loop {
            let page = self.ask(&json!({ "do": "documents", "waiting": false, "after": after }));
            all.extend(page["documents"].as_array().unwrap().iter().cloned());
            after = page["next"].clone();
            if after.is_null() {
                return all;
            }
        }
    }

    /// What `waypost store check` finds in the store of the running gateway.
    #[track_caller]
    pub fn findings(&self) -> Vec<Value> {
        self.ask(&json!({ "do": "check-store" })).as_array().unwrap().clone()
    }

    /// A new pairing code's text.
    #[track_caller]
    pub fn pairing_code(&self) -> String {
        self.ask(&json!({ "do": "pair" }))["text"].as_str().unwrap().to_owned()
    }
}

impl Drop for Gateway {
    /// The end of the log says most about a test that fails.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log()).unwrap_or_else(|error| error.to_string());
            let lines: Vec<&str> = log.lines().collect();
            let status = self.try_ask(&json!({ "do": "status" })).unwrap_or_default();
            say(&format!("log of the gateway in {}:", self.folder.display()));
            lines[lines.len().saturating_sub(SHOWN)..].iter().for_each(|line| say(line));
            say(&format!("its status: {status:#}"));
        }
    }
}

/// Lines of a log that are shown when a test fails.
const SHOWN: usize = 60;

const CONFIGURATION: &str = r#"name = "Test kiosk"

[store]
path = "store"
reserve = "16MiB"

[identity]
key_file = "identity.key"

[lan]
listen = ["127.0.0.1:0"]
advertise = false

[ble]
enabled = false

[upload]
probe_interval = "1s"
max_backoff = "1s"

[control]
socket = "control.sock"
"#;
