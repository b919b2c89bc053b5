//! The boot partition: FAT, which every laptop can edit, and mounted read-only but for the moments in which it is written.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

use crate::disk::{Disk, Readers, read_if_there, replace, replace_secrets};

/// A change of a file at the top of the partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The file's name.
    pub name: String,
    /// What shall be in it; absent: it shall be gone.
    pub content: Option<Vec<u8>>,
    /// Whether what was in it shall not be found in the free space either.
    pub had_secrets: bool,
}

impl Change {
    /// A change of a file that never has secrets.
    pub fn plain(name: &str, content: Option<String>) -> Self {
        Change { name: name.to_owned(), content: content.map(String::into_bytes), had_secrets: false }
    }
}

/// Where the partition is mounted, and how it is made writable.
#[derive(Debug, Clone)]
pub struct BootPartition {
    /// Its mount point, as the disk knows it.
    pub folder: String,
    /// Whether it has to be mounted anew to be written; absent where it can be written as it is. With the mount point, and
    /// the file that keeps two programs from doing so at once.
    pub remount: Option<(PathBuf, PathBuf)>,
}

impl BootPartition {
    /// The path of one of its files.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    /// Makes those changes that are any; it is not written to, nor mounted anew, where none is.
    pub fn change(&self, disk: &mut dyn Disk, changes: &[Change]) -> io::Result<bool> {
        let mut due = Vec::new();
        for change in changes {
            let now = read_if_there(disk, &self.path(&change.name), waypost_config::MAX_FILE)?;
            if now != change.content {
                due.push(change);
            }
        }
        if due.is_empty() {
            return Ok(false);
        }
        let _writable = self.remount.as_ref().map(|(mount, lock)| Writable::new(mount, lock)).transpose()?;
        for change in due {
            let path = self.path(&change.name);
            match &change.content {
                Some(content) if change.had_secrets => replace_secrets(disk, &path, content, Readers::All)?,
                Some(content) => replace(disk, &path, content, Readers::All)?,
                None => {
                    disk.remove(&path)?;
                    disk.flush(&self.folder)?;
                }
            }
        }
        Ok(true)
    }
}

/// The partition is writable as long as this is there.
struct Writable {
    mount: PathBuf,
    _lock: Flock<File>,
}

impl Writable {
    fn new(mount: &std::path::Path, lock: &std::path::Path) -> io::Result<Self> {
        let lock = Flock::lock(File::create(lock)?, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
        remount(mount, "remount,rw")?;
        Ok(Writable { mount: mount.to_owned(), _lock: lock })
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        if let Err(error) = remount(&self.mount, "remount,ro") {
            log::warn!("{} stays writable: {error}", self.mount.display());
        }
    }
}

/// By the program, which keeps the options that the partition is mounted with.
fn remount(mount: &std::path::Path, options: &str) -> io::Result<()> {
    let out = Command::new("mount").args(["-o", options]).arg(mount).output();
    let out = out.map_err(|error| io::Error::new(error.kind(), format!("mount cannot be run: {error}")))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&out.stderr).trim().to_owned())),
    }
}
