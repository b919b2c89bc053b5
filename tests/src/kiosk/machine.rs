//! The machine that a card is put into.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Board, Card};
use crate::process::Process;

/// Where the guest finds the destination: an address that the emulated network forwards to this machine.
const DESTINATION: &str = "10.0.2.100:443";

/// How the outside and the machine reach each other.
pub struct Reach {
    /// The gateway's port, on this machine.
    pub gateway: SocketAddr,
    /// The SSH server's.
    pub ssh: SocketAddr,
    /// The destination, on this machine; the guest knows it as `10.0.2.100`.
    pub destination: SocketAddr,
}

impl Reach {
    /// With free ports.
    pub fn to(destination: SocketAddr) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Reach { gateway: free(), ssh: free(), destination }
    }
}

/// An emulated machine that runs. Dropping it ends it as a power cut does, but for the card's cache.
pub struct Machine {
    process: Process,
    console: PathBuf,
    /// QEMU's own socket, and a file for what is on the screen.
    control: PathBuf,
    screen: PathBuf,
    /// The folder where each user's SSH waits for the next command, once it is logged in.
    sessions: PathBuf,
    begun: Instant,
}

/// Who logs in.
pub struct Admin {
    user: &'static str,
    key: PathBuf,
    /// The program that says the password, where there is one in place of the key.
    says: Option<PathBuf>,
    /// The line for `ssh_keys`.
    pub public: String,
}

impl Machine {
    /// Puts the card in and switches it on. `folder` gets the console's log and what is on the screen.
    pub fn boot(card: &Card, board: &Board, reach: &Reach, folder: &Path, number: u32) -> Self {
        let path = |name: &str| folder.join(format!("{name}-{number}"));
        let (console, control, screen) = (path("console"), path("control"), path("screen"));
        let sessions = std::env::temp_dir().join(format!("waypost-{}-ssh", reach.ssh.port()));
        // Not the last run's.
        for file in [&console, &control] {
            drop(fs::remove_file(file));
        }
        fs::create_dir_all(&sessions).unwrap();
        let mut command = board.command(card, folder, &console);
        command.arg("-netdev").arg(format!(
            "user,id=network,restrict=on,hostfwd=tcp:{}-:4180,hostfwd=tcp:{}-:22,guestfwd=tcp:{DESTINATION}-cmd:socat - TCP:{}",
            reach.gateway, reach.ssh, reach.destination
        ));
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", control.display()));
        let process = Process::start(command, path("qemu")).unwrap();
        Machine { process, console, control, screen, sessions, begun: Instant::now() }
    }

    /// How long it has been running.
    ///
    /// # Panics
    ///
    /// When the emulator has ended by itself: nothing is to be waited for any more.
    #[track_caller]
    pub fn running(&self) -> Duration {
        assert!(self.process.is_running(), "the emulator has ended: {}", self.process.output());
        self.begun.elapsed()
    }

    /// The code on its screen, as a phone that is held before it reads it; nothing where there is none.
    pub fn code_on_screen(&self) -> Option<String> {
        self.take_picture().unwrap_or_else(|error| panic!("no picture of the screen: {error}"));
        let picture = fs::read(&self.screen).unwrap();
        let (width, height, pixels) = picture_of(&picture).expect("QEMU writes pictures as binary PPM");
        let mut seen = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
            pixels[(y * width + x) * 3 + 1]
        });
        seen.detect_grids().iter().find_map(|grid| Some(grid.decode().ok()?.1))
    }

    fn take_picture(&self) -> io::Result<()> {
        self.control(&[json!({"execute": "screendump", "arguments": {"filename": self.screen}})])
    }

    /// QEMU's machine protocol: a greeting, then an answer to each command, and events between.
    fn control(&self, commands: &[Value]) -> io::Result<()> {
        let mut socket = UnixStream::connect(&self.control)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut answers = BufReader::new(socket.try_clone()?).lines();
        for command in [&json!({"execute": "qmp_capabilities"})].into_iter().chain(commands) {
            writeln!(socket, "{command}")?;
            loop {
                let line = answers.next().ok_or(io::ErrorKind::UnexpectedEof)??;
                let answer: Value = serde_json::from_str(&line)?;
                if !answer["error"].is_null() {
                    return Err(io::Error::other(line));
                }
                if !answer["return"].is_null() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What it has said on its console, without colours.
    pub fn console(&self) -> String {
        let said = String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned();
        let mut parts = said.split("\x1b[");
        let mut plain = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            plain.push_str(
                part.trim_start_matches(|sign: char| sign.is_ascii_digit() || ";:".contains(sign))
                    .get(1..)
                    .unwrap_or_default(),
            );
        }
        plain
    }

    /// Waits until its console says this; answers how long it has been running.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str, within: Duration) -> Duration {
        loop {
            let (running, said) = (self.running(), self.console());
            if said.contains(text) {
                return running;
            }
            let lines: Vec<&str> = said.lines().collect();
            let last = lines[lines.len().saturating_sub(40)..].join("\n");
            assert!(running < within, "not within {within:?}: {text:?}; the console ends with\n{last}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Runs a command there, as an admin with root's rights; it must succeed.
    #[track_caller]
    pub fn run(&self, admin: &Admin, reach: &Reach, command: &str) -> String {
        self.type_there(admin, reach, &format!("sudo {command}"))
    }

    /// Runs a command there, however it ends.
    pub fn try_run(&self, admin: &Admin, reach: &Reach, command: &str) -> Output {
        self.ssh(admin, reach, &["sudo", command])
    }

    /// Types what an admin types there, which must succeed; answers what is printed.
    #[track_caller]
    pub fn type_there(&self, admin: &Admin, reach: &Reach, typed: &str) -> String {
        let ran = self.ssh(admin, reach, &[typed]);
        let (out, error) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{typed}: {}\n{out}{error}", ran.status);
        out.into_owned()
    }

    /// Runs a script there, as root; it must succeed. Answers what it prints.
    #[track_caller]
    pub fn run_script(&self, admin: &Admin, reach: &Reach, script: &Path) -> String {
        let mut ssh = self.ssh_command(admin, reach, &["sudo", "sh", "-s"]);
        let ran = ssh.stdin(fs::File::open(script).unwrap()).output().unwrap();
        let (out, error) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{}: {}\n{out}{error}", script.display(), ran.status);
        out.into_owned()
    }

    fn ssh(&self, admin: &Admin, reach: &Reach, words: &[&str]) -> Output {
        let mut ssh = self.ssh_command(admin, reach, words);
        ssh.output().unwrap_or_else(|error| panic!("ssh (Debian package openssh-client): {error}"))
    }

    fn ssh_command(&self, admin: &Admin, reach: &Reach, words: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-p").arg(reach.ssh.port().to_string());
        match &admin.says {
            None => ssh.arg("-i").arg(&admin.key).args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]),
            Some(says) => ssh.env("SSH_ASKPASS", says).env("SSH_ASKPASS_REQUIRE", "force").args([
                "-o",
                "PreferredAuthentications=password",
                "-o",
                "NumberOfPasswordPrompts=1",
            ]),
        };
        // The kiosk is known by being the only machine behind that port.
        ssh.args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ]);
        ssh.args(["-o", "ConnectTimeout=20"]);
        // Logged in once: under emulation that takes seconds.
        ssh.arg("-o").arg(format!("ControlPath={}", self.sessions.join(admin.user).display()));
        ssh.args(["-o", "ControlMaster=auto", "-o", "ControlPersist=yes", "-o", "ServerAliveInterval=30"]);
        ssh.arg(format!("{}@127.0.0.1", admin.user)).args(words);
        ssh
    }

    /// Waits until an admin can log in.
    #[track_caller]
    pub fn wait_for_ssh(&self, admin: &Admin, reach: &Reach, within: Duration) {
        let begun = self.running();
        loop {
            let ran = self.try_run(admin, reach, "true");
            if ran.status.success() {
                return;
            }
            let why = String::from_utf8_lossy(&ran.stderr);
            assert!(self.running() < begun + within, "nobody can log in: {why}\n{}", self.console());
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Waits until it starts anew by itself, for which the emulator ends; nothing is cut off then.
    #[track_caller]
    pub fn wait_for_restart(&self, within: Duration) {
        while self.process.is_running() {
            assert!(self.begun.elapsed() < within, "it does not start anew: {}", self.console());
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// The power goes.
    pub fn cut(mut self, card: &mut Card) {
        self.process.kill9().unwrap();
        card.cut();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for session in fs::read_dir(&self.sessions).into_iter().flatten().flatten() {
            let path = format!("ControlPath={}", session.path().display());
            // It may have ended.
            drop(Command::new("ssh").arg("-o").arg(path).args(["-O", "exit", "kiosk"]).output());
        }
        drop(fs::remove_dir_all(&self.sessions));
    }
}

/// Width, height and pixels (red, green, blue) of a binary PPM with a byte per colour.
fn picture_of(ppm: &[u8]) -> Option<(usize, usize, &[u8])> {
    let mut lines = ppm.splitn(4, |byte| *byte == b'\n');
    let (kind, size, most, pixels) = (lines.next()?, lines.next()?, lines.next()?, lines.next()?);
    let mut size = std::str::from_utf8(size).ok()?.split(' ').map(str::parse);
    let (width, height): (usize, usize) = (size.next()?.ok()?, size.next()?.ok()?);
    (kind == b"P6" && most == b"255" && pixels.len() >= width * height * 3).then_some((width, height, pixels))
}

impl Admin {
    /// The user that a kiosk has by its own file, with a new key in `folder`.
    pub fn make(folder: &Path) -> Self {
        Self::make_as(folder, "admin")
    }

    /// A user of this name, with a new key in `folder`.
    pub fn make_as(folder: &Path, user: &'static str) -> Self {
        let key = folder.join(user);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", user, "-f"])
            .arg(&key)
            .status();
        assert!(made.unwrap().success());
        let public = fs::read_to_string(key.with_extension("pub")).unwrap().trim().to_owned();
        Admin { user, key, says: None, public }
    }

    /// A user of this name without a key, who types a password.
    pub fn with_password(folder: &Path, user: &'static str, password: &str) -> Self {
        let says = folder.join(format!("{user}-says"));
        fs::write(&says, format!("#!/bin/sh\necho '{password}'\n")).unwrap();
        fs::set_permissions(&says, fs::Permissions::from_mode(0o700)).unwrap();
        Admin { user, key: folder.join(user), says: Some(says), public: String::new() }
    }
}
