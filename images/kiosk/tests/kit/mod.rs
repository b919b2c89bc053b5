//! A folder that stands for a kiosk's root file system, and the program run on it as it runs on a kiosk.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A key that is whole.
#[allow(dead_code, reason = "each test program has a part of it in use")]
pub(crate) const SSH_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIw7ZvEZ0YFfjQXbqBbk0gk3V5bNnQ5S4yXyZ0w1Hh3K admin@laptop";

/// See the module.
pub(crate) struct Kiosk {
    root: tempfile::TempDir,
}

impl Kiosk {
    /// A Raspberry Pi of this serial number with one Ethernet port, and nothing on its boot partition.
    #[allow(dead_code, reason = "each test program has a part of it in use")]
    pub(crate) fn new(serial: &str) -> Self {
        let kiosk = Kiosk { root: tempfile::tempdir().unwrap() };
        for (path, text) in [
            ("proc/device-tree/serial-number", format!("{serial}\0")),
            ("sys/class/net/eth0/address", "b8:27:eb:aa:00:01\n".to_owned()),
            ("sys/class/net/eth0/device/uevent", String::new()),
            ("sys/class/net/lo/address", "00:00:00:00:00:00\n".to_owned()),
            ("usr/share/zoneinfo/tzdata.zi", "Z Africa/Nairobi 2:27 - LMT\nL Africa/Nairobi Africa/Kampala\nZ Etc/UTC 0 - UTC\nL Etc/UTC UTC\nL Africa/Nairobi Africa/Asmera\n".to_owned()),
            ("usr/share/zoneinfo/Africa/Nairobi", String::new()),
            ("usr/share/zoneinfo/Africa/Kampala", String::new()),
            ("usr/share/zoneinfo/UTC", String::new()),
            ("boot/firmware/config.txt", String::new()),
        ] {
            kiosk.write(path, &text);
        }
        kiosk
    }

    #[allow(dead_code, reason = "each test program has a part of it in use")]
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    #[allow(dead_code, reason = "each test program has a part of it in use")]
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Puts a file on the boot partition.
    #[allow(dead_code, reason = "each test program has a part of it in use")]
    pub(crate) fn put(&self, name: &str, text: &str) {
        self.write(&format!("boot/firmware/{name}"), text);
    }

    #[allow(dead_code, reason = "each test program has a part of it in use")]
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waypost-kiosk"));
        command.arg("--root").arg(self.root.path()).args(words).output().unwrap()
    }

    /// Starts the kiosk: everything below /run is gone before. What it logs.
    #[allow(dead_code, reason = "each test program has a part of it in use")]
    pub(crate) fn start(&self) -> String {
        let _ = fs::remove_dir_all(self.path("run"));
        let out = self.run(&["apply"]);
        let log = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{log}");
        log
    }

    /// A file's text; empty where there is none.
    #[allow(dead_code, reason = "each test program has a part of it in use")]
    pub(crate) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// A file of the generation that holds.
    #[allow(dead_code, reason = "each test program has a part of it in use")]
    pub(crate) fn current(&self, path: &str) -> String {
        self.text(&format!("var/lib/waypost-kiosk/current/{path}"))
    }

    #[allow(dead_code, reason = "each test program has a part of it in use")]
    pub(crate) fn settings(&self) -> serde_json::Value {
        serde_json::from_str(&self.current("settings.json")).unwrap()
    }

    /// Files among what it keeps that have this word in them.
    #[allow(dead_code, reason = "each test program has a part of it in use")]
    pub(crate) fn kept(&self, word: &str) -> Vec<String> {
        let ran = Command::new("grep").args(["-rla", word]).arg(self.path("var/lib/waypost-kiosk")).output();
        String::from_utf8(ran.unwrap().stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[allow(dead_code, reason = "each test program has a part of it in use")]
    pub(crate) fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.path(path)).unwrap().permissions().mode() & 0o7777
    }

    #[allow(dead_code, reason = "each test program has a part of it in use")]
    pub(crate) fn errors(&self) -> String {
        self.text("boot/firmware/waypost-errors.txt")
    }

    /// NetworkManager's connections: names and texts.
    #[allow(dead_code, reason = "each test program has a part of it in use")]
    pub(crate) fn connections(&self) -> Vec<(String, String)> {
        let folder = "run/NetworkManager/system-connections";
        let mut names: Vec<String> = fs::read_dir(self.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.into_iter().map(|name| (name.clone(), self.text(&format!("{folder}/{name}")))).collect()
    }
}
