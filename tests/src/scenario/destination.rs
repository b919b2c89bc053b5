//! The destination of a site: `waypost-destination` behind a backhaul that can be cut.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde_json::Value;

use super::programs::run_well;
use super::{COLLECTION, PATIENCE, Ran, program};
use crate::process::Process;
use crate::proxy::{Content, Proxy};

/// A destination server.
pub struct Destination {
    /// Between gateways and the server: its address is the one that they and the phones know.
    pub backhaul: Proxy,
    home: PathBuf,
    token: String,
    fingerprint: String,
    process: Option<Process>,
    address: SocketAddr,
}

impl Destination {
    /// Makes one, with a key, a certificate authority and a token of its own; it does not run yet.
    #[track_caller]
    pub fn make(home: &Path) -> Self {
        Self::make_at(home, Ipv4Addr::LOCALHOST, "127.0.0.1")
    }

    /// The same, reached at an address of the network that the calling thread is in; its certificate has this name.
    #[track_caller]
    pub fn make_at(home: &Path, address: Ipv4Addr, name: &str) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let backhaul = Proxy::start_at(address, nowhere, Content::Bytes).unwrap();
        let url = format!("https://{}", backhaul.address());
        let init =
            ["init", "--name", "Test", "--url", &url, "--self-signed", name, "--collection", COLLECTION];
        let made = run_well(&mut command(home, &init));
        let added = run_well(&mut command(home, &["gateways", "add", "kiosk"]));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            backhaul,
            home: home.to_owned(),
            token: text(&added.last()["token"]),
            fingerprint: text(&made.last()["fingerprint"]),
            process: None,
            address: nowhere,
        }
    }

    /// Starts the server and waits until it answers.
    #[track_caller]
    pub fn start(&mut self) {
        let run = command(&self.home, &["run", "--listen", "127.0.0.1:0"]);
        let mut process = Process::start(run, self.log()).unwrap();
        let ready = process.wait_for("\"ready\":true", PATIENCE).unwrap();
        let ready: Value = serde_json::from_str(&ready).unwrap();
        self.address = ready["address"].as_str().unwrap().parse().unwrap();
        self.backhaul.retarget(self.address);
        self.process = Some(process);
    }

    /// Ends the server in order.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process.take().unwrap().terminate(PATIENCE).unwrap()
    }

    /// Ends the server as `kill -9` does.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.process.take().unwrap().kill9().unwrap();
    }

    /// The running server.
    #[track_caller]
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// Where the server itself listens now, behind the backhaul.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The fingerprint of its certificate: its name.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The token with which gateways upload.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The file with its OpenPGP certificate.
    pub fn certificate(&self) -> PathBuf {
        self.home.join("certificate.pgp")
    }

    /// The file with the authority that signed its TLS certificate.
    pub fn authority(&self) -> PathBuf {
        self.home.join("tls/ca.pem")
    }

    /// Everything that it and its commands have logged and printed.
    pub fn log(&self) -> PathBuf {
        self.home.with_extension("log")
    }

    /// A command of `waypost-destination`, with JSON.
    pub fn command(&self, arguments: &[&str]) -> Command {
        command(&self.home, arguments)
    }

    /// Runs a command, which must succeed.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run_well(&mut self.command(arguments))
    }

    /// The code with which phones add it.
    #[track_caller]
    pub fn phone_code(&self) -> String {
        self.run(&["phone-code"]).last()["text"].as_str().unwrap().to_owned()
    }

    /// What it has opened: the bytes of each file by its name below the collection's folder.
    #[track_caller]
    pub fn inbox(&self) -> BTreeMap<String, Vec<u8>> {
        let folder = self.inbox_folder();
        let mut found = BTreeMap::new();
        let mut folders = vec![folder.clone()];
        while let Some(at) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&at) else { continue };
            for path in entries.map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&folder).unwrap().to_string_lossy().into_owned();
                    found.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
        found
    }

    /// Where the files of the usual collection are put.
    pub fn inbox_folder(&self) -> PathBuf {
        self.home.join("inbox").join(COLLECTION)
    }

    /// Where it writes its confirmations, each as `NAME.txt` with its signature `NAME.txt.asc`.
    pub fn confirmations(&self) -> PathBuf {
        self.home.join("confirmations")
    }
}

fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("waypost-destination"));
    command.arg("--home").arg(home).arg("--json").args(arguments);
    command
}
