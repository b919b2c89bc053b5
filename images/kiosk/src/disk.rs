//! The few things that are done to files, each one a step that the power may cut.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use nix::unistd::{Gid, Group, Uid, chown};

/// Who may read a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Everyone.
    All,
    /// root and the gateway (group `waypost`).
    Gateway,
    /// root.
    Root,
}

impl Readers {
    fn mode(self, is_folder: bool) -> u32 {
        match (self, is_folder) {
            (Readers::All, true) => 0o755,
            (Readers::All, false) => 0o644,
            (Readers::Gateway, true) => 0o750,
            (Readers::Gateway, false) => 0o640,
            (Readers::Root, true) => 0o700,
            (Readers::Root, false) => 0o600,
        }
    }
}

/// Files, by absolute paths. Nothing is durable before it is flushed: a file's content by [`Disk::flush`] of the file, its
/// name, and that of a folder or link, by [`Disk::flush`] of the folder that it is in.
pub trait Disk {
    /// Reads a file of at most so many bytes.
    fn read(&self, path: &str, most: usize) -> io::Result<Vec<u8>>;
    /// Names in a folder, sorted.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Whether what is written there is gone once the power is, since no disk is below it.
    fn forgets(&self, path: &str) -> io::Result<bool>;
    /// Where a symbolic link leads.
    fn read_link(&self, path: &str) -> io::Result<String>;
    /// Makes a folder, and those above it; no error where it is there.
    fn make_folder(&mut self, path: &str, readers: Readers) -> io::Result<()>;
    /// Writes a file that is new, or that nobody else reads.
    fn write(&mut self, path: &str, content: &[u8], readers: Readers) -> io::Result<()>;
    /// Makes a symbolic link at `path`, where nothing is.
    fn link(&mut self, target: &str, path: &str) -> io::Result<()>;
    /// Makes a file's content, or the names in a folder, durable.
    fn flush(&mut self, path: &str) -> io::Result<()>;
    /// Puts a file, folder or link in the place of another, in one step.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file, link, or folder with all that is in it; no error where nothing is.
    fn remove(&mut self, path: &str) -> io::Result<()>;
    /// Puts a file in the place of another, durably, and then overwrites what the other had, where that is possible: it would
    /// be found in the free space.
    fn rename_over_secrets(&mut self, from: &str, to: &str) -> io::Result<()> {
        rename_durably(self, from, to)
    }
}

/// Whether something is there: absent is another thing than unreadable.
pub fn read_if_there(disk: &dyn Disk, path: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
    match disk.read(path, most) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file by way of a new one beside it, so that at every moment either the old content is there or the new.
pub fn replace(disk: &mut dyn Disk, path: &str, content: &[u8], readers: Readers) -> io::Result<()> {
    let new = write_beside(disk, path, content, readers)?;
    rename_durably(disk, &new, path)
}

/// As [`replace`], of a file whose old content has secrets.
pub fn replace_secrets(disk: &mut dyn Disk, path: &str, content: &[u8], readers: Readers) -> io::Result<()> {
    let new = write_beside(disk, path, content, readers)?;
    disk.rename_over_secrets(&new, path)
}

fn write_beside(disk: &mut dyn Disk, path: &str, content: &[u8], readers: Readers) -> io::Result<String> {
    let new = format!("{path}.new");
    disk.remove(&new)?;
    disk.write(&new, content, readers)?;
    disk.flush(&new)?;
    Ok(new)
}

fn rename_durably<D: Disk + ?Sized>(disk: &mut D, from: &str, to: &str) -> io::Result<()> {
    disk.rename(from, to)?;
    // On FAT the new name has no size until the file itself is flushed again.
    disk.flush(to)?;
    disk.flush(folder_of(to))
}

/// The folder that a file is in.
pub fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder })
}

/// ramfs, of which nix has no name.
const RAMFS_MAGIC: i128 = 0x8584_58f6;

/// Whether a path, which need not be there yet, is on a file system in memory. An overlay is taken for one: on a kiosk its
/// changes are.
fn is_in_memory(path: &Path) -> io::Result<bool> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let kind = statfs(there)?.filesystem_type();
    // Its width, and whether it has a sign, are another thing on each architecture.
    let is_ramfs = i128::from(kind.0) & 0xffff_ffff == RAMFS_MAGIC;
    Ok(kind == TMPFS_MAGIC || kind == OVERLAYFS_SUPER_MAGIC || is_ramfs)
}

/// The machine's own files, or those below a folder that stands for its root.
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// With everything below `root`; `/` for the machine's own.
    pub fn new(root: &Path) -> Self {
        RealDisk { root: root.to_owned() }
    }

    /// Where a path is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Gives it to the gateway's group, where there is such a group and we may.
    fn give(&self, path: &Path, readers: Readers) -> io::Result<()> {
        if readers != Readers::Gateway || !Uid::effective().is_root() {
            return Ok(());
        }
        let group = Group::from_name("waypost").ok().flatten();
        let gid = group.map_or(Gid::from_raw(0), |group| group.gid);
        chown(path, None, Some(gid)).map_err(io::Error::from)
    }
}

impl Disk for RealDisk {
    fn read(&self, path: &str, most: usize) -> io::Result<Vec<u8>> {
        let path = self.path(path);
        // Opening a pipe would wait for its other end for ever.
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > most {
            return Err(io::Error::other(format!("it is larger than {most} bytes")));
        }
        Ok(bytes)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.path(path))?;
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// A folder that stands for the root of another machine says nothing of that machine's disk.
    fn forgets(&self, path: &str) -> io::Result<bool> {
        Ok(self.root == Path::new("/") && is_in_memory(&self.path(path))?)
    }

    fn read_link(&self, path: &str) -> io::Result<String> {
        Ok(fs::read_link(self.path(path))?.to_string_lossy().into_owned())
    }

    fn make_folder(&mut self, path: &str, readers: Readers) -> io::Result<()> {
        let path = self.path(path);
        if path.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(readers.mode(true)))?;
        self.give(&path, readers)
    }

    fn write(&mut self, path: &str, content: &[u8], readers: Readers) -> io::Result<()> {
        let path = self.path(path);
        let mode = readers.mode(false);
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&path)?;
        file.write_all(content)?;
        // Whatever the umask; FAT knows no modes.
        let _ = fs::set_permissions(&path, fs::Permissions::from_mode(mode));
        self.give(&path, readers)
    }

    fn link(&mut self, target: &str, path: &str) -> io::Result<()> {
        symlink(target, self.path(path))
    }

    fn flush(&mut self, path: &str) -> io::Result<()> {
        fs::File::open(self.path(path))?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    /// While somebody has a file open, what it takes of the disk stays its own.
    fn rename_over_secrets(&mut self, from: &str, to: &str) -> io::Result<()> {
        let old = fs::OpenOptions::new().write(true).open(self.path(to));
        rename_durably(self, from, to)?;
        let mut old = match old {
            Ok(old) => old,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let size = old.metadata()?.len();
        io::copy(&mut io::repeat(0).take(size), &mut old)?;
        old.sync_all()
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let path = self.path(path);
        let removed = match fs::symlink_metadata(&path) {
            Ok(about) if about.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_is_known_by_its_file_system_also_before_it_is_there() {
        for in_memory in ["/dev/shm", "/dev/shm/not/yet/there"] {
            assert!(is_in_memory(Path::new(in_memory)).unwrap(), "{in_memory}");
        }
        // Neither is a disk, but neither is one of those.
        assert!(!is_in_memory(Path::new("/proc/self")).unwrap());
        assert!(RealDisk::new(Path::new("/")).forgets("/dev/shm").unwrap());
        assert!(!RealDisk::new(Path::new("/dev/shm")).forgets("/var/lib").unwrap(), "it stands for a root");
    }
}
