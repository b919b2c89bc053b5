//! Where the parts of the bundle come from: the gateway, its configuration, the system's own commands and files.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use waypost_config::Loaded;

use crate::admin::Request;
use crate::cli::{live, output};

/// Each command gets so long: a bundle is made when something does not work.
const PATIENCE: &str = "20";

/// One file of the bundle.
pub(super) struct Part {
    pub(super) name: &'static str,
    from: From,
}

enum From {
    Text(String),
    Command(&'static [&'static str]),
    File(&'static str),
}

impl Part {
    /// What it says, or why it says nothing.
    pub(super) fn text(&self) -> String {
        match &self.from {
            From::Text(text) => text.clone(),
            From::Command(words) => run(words),
            From::File(path) => fs::read(path).map_or_else(
                |error| format!("{path}: {error}\n"),
                |bytes| String::from_utf8_lossy(&bytes).into_owned(),
            ),
        }
    }
}

/// All of them.
pub(super) fn parts(config: &Path, loaded: &Loaded) -> Vec<Part> {
    let status = match live::ask_live(config, &Request::Status) {
        Ok(answer) => serde_json::to_string_pretty(&answer).unwrap_or_else(|error| error.to_string()),
        Err(error) => output::words(&error),
    };
    let mut problems: String = loaded.problems.iter().map(|problem| format!("{problem}\n")).collect();
    if problems.is_empty() {
        problems = "none\n".to_owned();
    }
    let text = |name, text| Part { name, from: From::Text(text) };
    let mut all = vec![
        text("version.txt", format!("waypost {}\n", env!("CARGO_PKG_VERSION"))),
        text("status.json", status),
        text("problems.txt", problems),
        text("configuration.toml", loaded.files.iter().map(|file| settings(file)).collect()),
    ];
    all.extend(COMMANDS.iter().map(|&(name, words)| Part { name, from: From::Command(words) }));
    all.extend(FILES.iter().map(|&(name, path)| Part { name, from: From::File(path) }));
    all
}

/// What a configuration file sets, without its comments.
fn settings(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_else(|error| format!("{error}"));
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    format!("# {}\n{}\n", file.display(), lines.collect::<Vec<_>>().join("\n"))
}

const COMMANDS: &[(&str, &[&str])] = &[
    (
        "journal.txt",
        &[
            "journalctl",
            "--no-pager",
            "--output=short-iso",
            "--since=-14days",
            "--lines=20000",
            "--unit=waypost*",
            "--unit=bluetooth",
            "--unit=NetworkManager",
            "--unit=ModemManager",
            "--unit=wpa_supplicant",
            "--unit=chrony",
        ],
    ),
    ("kernel.txt", &["journalctl", "--no-pager", "--output=short-iso", "--dmesg", "--lines=5000"]),
    ("boots.txt", &["journalctl", "--no-pager", "--list-boots"]),
    ("units-failed.txt", &["systemctl", "--no-pager", "--failed"]),
    ("unit.txt", &["systemctl", "--no-pager", "status", "waypost"]),
    ("kernel-version.txt", &["uname", "-a"]),
    ("uptime.txt", &["uptime"]),
    ("memory.txt", &["free", "-m"]),
    ("disks.txt", &["df", "-h"]),
    ("partitions.txt", &["lsblk", "--output=NAME,SIZE,TYPE,FSTYPE,MOUNTPOINTS,RO"]),
    ("networks.txt", &["ip", "-brief", "address"]),
    ("routes.txt", &["ip", "route"]),
    ("switches.txt", &["rfkill"]),
    ("usb.txt", &["lsusb"]),
    ("clock.txt", &["timedatectl"]),
    ("clock-sources.txt", &["chronyc", "-n", "sources"]),
    ("connections.txt", &["nmcli", "--terse", "device"]),
    ("modems.txt", &["mmcli", "--list-modems"]),
];

const FILES: &[(&str, &str)] = &[
    ("system.txt", "/etc/os-release"),
    ("board.txt", "/proc/device-tree/model"),
    ("boot-errors.txt", "/boot/firmware/waypost-errors.txt"),
    ("boot-status.txt", "/boot/firmware/waypost-status.txt"),
];

/// What a command says, both its outputs; it is ended where it takes long.
fn run(words: &[&str]) -> String {
    let ran = Command::new("timeout").arg(PATIENCE).args(words).stdin(Stdio::null()).output();
    match ran {
        Ok(ran) => {
            let mut text = String::from_utf8_lossy(&ran.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&ran.stderr));
            if !ran.status.success() {
                text.push_str(&format!("({}: {})\n", words.join(" "), ran.status));
            }
            text
        }
        Err(error) => format!("{}: {error}\n", words.join(" ")),
    }
}
