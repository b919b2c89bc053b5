//! A folder that is open: files in it by plain names, relative to it, through no symbolic link.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// An open folder. Names given to it are single ones: with a `/`, or `..`, they are refused.
pub struct Folder(OwnedFd);

impl Folder {
    /// Opens a folder by its path, as whoever names it means it: links in this path are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Folder(nix::fcntl::open(path, flags, Mode::empty())?))
    }

    /// A folder inside. A link is an error ([`io::ErrorKind::NotADirectory`]).
    pub fn enter(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.0, plain(name)?, flags, Mode::empty()) {
            Ok(fd) => Ok(Folder(fd)),
            Err(Errno::ELOOP) => Err(io::ErrorKind::NotADirectory.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A folder inside, made where it is missing.
    pub fn make(&self, name: &OsStr) -> io::Result<Self> {
        self.make_with(name, 0o777)
    }

    /// The same, with these permissions where it is made.
    pub fn make_with(&self, name: &OsStr, mode: u32) -> io::Result<Self> {
        match mkdirat(&self.0, plain(name)?, Mode::from_bits_truncate(mode)) {
            Ok(()) | Err(Errno::EEXIST) => self.enter(name),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A file inside, for reading. What is no regular file is not opened: [`io::ErrorKind::InvalidInput`].
    pub fn file(&self, name: &OsStr) -> io::Result<File> {
        let name = plain(name)?;
        // Opening a device or a pipe may do something, or wait; so it is looked at before, and after.
        let kind = fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW)?.st_mode & SFlag::S_IFMT.bits();
        if kind != SFlag::S_IFREG.bits() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags =
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = File::from(openat(&self.0, name, flags, Mode::empty())?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// A new file inside, for writing, in the place of whatever has the name.
    pub fn create(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let name = plain(name)?;
        match unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.0, name, flags, Mode::from_bits_truncate(mode))?))
    }

    /// Gives a file another name, in the place of what has that name. A folder of that name stays: an error.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.0, plain(from)?, &self.0, plain(to)?)?)
    }

    /// Removes a file; one that is not there is no error.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(&self.0, plain(name)?, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether there is something of that name.
    pub fn has(&self, name: &OsStr) -> bool {
        plain(name).is_ok_and(|name| fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok())
    }

    /// The names inside, sorted, without `.` and `..`; at most `most`, and whether there are more.
    pub fn names(&self, most: usize) -> io::Result<(Vec<OsString>, bool)> {
        // A handle of its own: reading moves its place.
        let mut dir = Dir::openat(
            &self.0,
            ".",
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let name = entry?.file_name().to_bytes().to_vec();
            if matches!(name.as_slice(), b"." | b"..") {
                continue;
            }
            if names.len() == most {
                return Ok((sorted(names), true));
            }
            names.push(OsString::from_vec(name));
        }
        Ok((sorted(names), false))
    }

    /// Flushes its names.
    pub fn sync(&self) -> io::Result<()> {
        self.handle()?.sync_all()
    }

    /// A further handle to it.
    pub fn handle(&self) -> io::Result<File> {
        Ok(File::from(self.0.as_fd().try_clone_to_owned()?))
    }
}

fn sorted(mut names: Vec<OsString>) -> Vec<OsString> {
    names.sort_unstable();
    names
}

fn plain(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_encoded_bytes();
    match bytes.is_empty() || matches!(bytes, b"." | b"..") || bytes.contains(&b'/') || bytes.contains(&0) {
        true => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain name")),
        false => Ok(name),
    }
}

/// The name of a file that is being written; FAT takes no leading dot kindly.
pub(crate) fn part_name(name: &str) -> String {
    format!("{name}.part")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_and_no_link_leads_out_of_a_folder() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("file"), b"secret").unwrap();
        let inside = place.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("folder")).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), inside.join("link")).unwrap();
        let folder = Folder::open(&inside).unwrap();
        for name in ["..", ".", "", "../outside", "folder/file", "/etc/passwd", "a\0b"] {
            assert!(folder.file(name.as_ref()).is_err(), "{name:?}");
            assert!(folder.enter(name.as_ref()).is_err(), "{name:?}");
            assert!(folder.create(name.as_ref(), 0o644).is_err(), "{name:?}");
            assert!(folder.remove(name.as_ref()).is_err(), "{name:?}");
        }
        assert_eq!(folder.enter("folder".as_ref()).err().unwrap().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(folder.make("folder".as_ref()).err().unwrap().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(folder.file("link".as_ref()).err().unwrap().kind(), io::ErrorKind::InvalidInput);
        // Writing takes the link's place, and leaves alone what it led to.
        folder.create("link".as_ref(), 0o644).unwrap();
        assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"secret");
        assert!(folder.file("link".as_ref()).is_ok());
    }

    #[test]
    fn pipes_and_folders_are_no_files_and_names_are_bounded() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        nix::unistd::mkfifo(&place.path().join("pipe"), Mode::S_IRWXU).unwrap();
        folder.make("folder".as_ref()).unwrap();
        for name in ["pipe", "folder"] {
            assert_eq!(
                folder.file(name.as_ref()).err().unwrap().kind(),
                io::ErrorKind::InvalidInput,
                "{name}"
            );
        }
        for at in 0..5 {
            folder.create(format!("{at}").as_ref(), 0o644).unwrap();
        }
        assert_eq!(
            folder.names(100).unwrap(),
            (["0", "1", "2", "3", "4", "folder", "pipe"].map(OsString::from).to_vec(), false)
        );
        let (some, more) = folder.names(3).unwrap();
        assert_eq!((some.len(), more), (3, true));
    }
}
