//! Puts what holds where the system reads it, at each boot: everything below `/run` is gone by then.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::{Gid, Uid, chown};

use crate::disk::{Disk, Readers};
use crate::machine::ZONES;
use crate::render::keyfile::{self, PREFIX};
use crate::render::{File, Settings};
use crate::users::{self, HOMES, number_links};

/// What the kiosk's programs tell each other, and what the image's own links lead to.
pub const RUN: &str = "/run/waypost-kiosk";
/// Where NetworkManager looks for connections that last until the next boot.
pub const CONNECTIONS: &str = "/run/NetworkManager/system-connections";
/// Where nss-systemd looks for users.
pub const USERS: &str = "/run/userdb";
/// There where somebody may log in over SSH: the condition of the SSH server.
pub const SSH: &str = "/run/waypost-kiosk/ssh";
/// Where the SSH server finds the keys of each user.
pub const KEYS: &str = "/run/waypost-kiosk/authorized_keys";
/// What the SSH server is told besides its own configuration.
pub const SSHD_CONFIG: &str = "/run/waypost-kiosk/sshd.conf";

/// What concerns the running system rather than files.
pub trait System {
    /// Sets the host name.
    fn set_host_name(&mut self, name: &str) -> io::Result<()>;
    /// Sets the country whose rules the radios keep.
    fn set_country(&mut self, country: &str) -> io::Result<()>;
    /// Gives a folder to a user.
    fn give(&mut self, path: &str, uid: u32) -> io::Result<()>;
}

/// Does each of these things, whatever becomes of the others; returns what did not work.
pub fn activate(
    disk: &mut dyn Disk,
    system: &mut dyn System,
    files: &[File],
    settings: &Settings,
) -> Vec<String> {
    let mut failures = Vec::new();
    let mut note = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            failures.push(format!("{what}: {error}"));
        }
    };
    note("networks", put_networks(disk, files));
    note("users", put_users(disk, system, files, settings));
    note("time zone", put_time_zone(disk, settings.time_zone.as_deref().unwrap_or("UTC")));
    note("ssh", put_ssh(disk, files, settings));
    note("host name", system.set_host_name(&settings.host_name));
    if let Some(country) = &settings.country {
        note("country", system.set_country(country));
    }
    failures
}

fn below<'a>(files: &'a [File], folder: &'a str) -> impl Iterator<Item = (&'a str, &'a File)> {
    files.iter().filter_map(move |file| Some((file.path.strip_prefix(folder)?.strip_prefix('/')?, file)))
}

fn put_networks(disk: &mut dyn Disk, files: &[File]) -> io::Result<()> {
    disk.make_folder(CONNECTIONS, Readers::All)?;
    for name in disk.list(CONNECTIONS)?.iter().filter(|name| name.starts_with(PREFIX)) {
        disk.remove(&format!("{CONNECTIONS}/{name}"))?;
    }
    for (name, file) in below(files, keyfile::FOLDER) {
        disk.write(&format!("{CONNECTIONS}/{name}"), &file.content, Readers::Root)?;
    }
    Ok(())
}

fn put_users(
    disk: &mut dyn Disk,
    system: &mut dyn System,
    files: &[File],
    settings: &Settings,
) -> io::Result<()> {
    disk.remove(USERS)?;
    disk.make_folder(USERS, Readers::All)?;
    for (name, file) in below(files, users::FOLDER) {
        disk.write(&format!("{USERS}/{name}"), &file.content, file.readers)?;
    }
    let mut links = number_links(&settings.users);
    for (group, gid) in groups_of_the_system(disk, files) {
        let record = serde_json::json!({ "groupName": group, "gid": gid }).to_string();
        disk.write(&format!("{USERS}/{group}.group"), record.as_bytes(), Readers::All)?;
        links.push((format!("{gid}.group"), format!("{group}.group")));
    }
    for (link, target) in links {
        disk.link(&target, &format!("{USERS}/{link}"))?;
    }
    for (name, uid) in &settings.users {
        let home = format!("{HOMES}/{name}");
        disk.make_folder(HOMES, Readers::All)?;
        disk.make_folder(&home, Readers::Root)?;
        system.give(&home, *uid)?;
    }
    Ok(())
}

/// Groups of `/etc/group` that users are members of: nss-systemd counts memberships only in groups that it has records of.
fn groups_of_the_system(disk: &dyn Disk, files: &[File]) -> BTreeMap<String, u32> {
    let group = disk.read("/etc/group", 1 << 20).unwrap_or_default();
    let group = String::from_utf8_lossy(&group).into_owned();
    let is_used = |name: &str| {
        let ending = format!(":{name}.membership");
        below(files, users::FOLDER).any(|(file, _)| file.ends_with(&ending))
    };
    let read = |line: &str| {
        let mut parts = line.split(':');
        let (name, gid) = (parts.next()?, parts.nth(1)?.parse().ok()?);
        is_used(name).then(|| (name.to_owned(), gid))
    };
    group.lines().filter_map(read).collect()
}

fn put_time_zone(disk: &mut dyn Disk, zone: &str) -> io::Result<()> {
    let link = format!("{RUN}/localtime");
    disk.make_folder(RUN, Readers::All)?;
    disk.remove(&link)?;
    disk.link(&format!("{ZONES}/{zone}"), &link)
}

fn put_ssh(disk: &mut dyn Disk, files: &[File], settings: &Settings) -> io::Result<()> {
    disk.remove(KEYS)?;
    disk.make_folder(KEYS, Readers::All)?;
    for (name, file) in below(files, users::KEYS_FOLDER) {
        disk.write(&format!("{KEYS}/{name}"), &file.content, Readers::All)?;
    }
    let passwords = if settings.ssh_passwords { "yes" } else { "no" };
    let config =
        format!("AuthorizedKeysFile {KEYS}/%u\nPasswordAuthentication {passwords}\nPermitRootLogin no\n");
    disk.write(SSHD_CONFIG, config.as_bytes(), Readers::All)?;
    match settings.ssh {
        true => disk.write(SSH, b"", Readers::All),
        false => disk.remove(SSH),
    }
}

/// The system that this runs on.
#[derive(Debug)]
pub struct Running;

impl System for Running {
    fn set_host_name(&mut self, name: &str) -> io::Result<()> {
        nix::unistd::sethostname(name).map_err(io::Error::from)
    }

    fn set_country(&mut self, country: &str) -> io::Result<()> {
        let out = Command::new("iw").args(["reg", "set", country]).output();
        let out = out.map_err(|error| io::Error::new(error.kind(), format!("iw cannot be run: {error}")))?;
        match out.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(String::from_utf8_lossy(&out.stderr).trim().to_owned())),
        }
    }

    fn give(&mut self, path: &str, uid: u32) -> io::Result<()> {
        let path = PathBuf::from(path);
        chown(&path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid))).map_err(io::Error::from)
    }
}

/// No system: for a folder that stands for a root file system.
#[derive(Debug)]
pub struct NoSystem;

impl System for NoSystem {
    fn set_host_name(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn set_country(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn give(&mut self, _: &str, _: u32) -> io::Result<()> {
        Ok(())
    }
}
