//! The inbox: opened content under its own name, never outside its folder, nothing overwritten.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{FileStat, Mode, fstatat, mkdirat};
use nix::unistd::{LinkatFlags, UnlinkatFlags, linkat, unlinkat};
use waypost_protocol::ids::MessageId;

use crate::names::{components, marked};

/// How many numbered names are tried before one that has the document's id in it.
const NUMBERED: u32 = 100;

/// Where something was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Below the inbox.
    pub path: PathBuf,
    /// Folders whose entries changed; to be flushed before anything is confirmed.
    pub folders: Vec<PathBuf>,
}

/// Moves the whole and flushed file `staged` in `from` to `COLLECTION/NAME` below `inbox`, by one atomic rename that
/// overwrites nothing. Folders are entered one by one without following links.
///
/// A second file of one name gets `~2` before its extension; without a name it is called by the first 16 digits of
/// the document's id. Done again after a crash, it never makes a second copy.
pub fn place(
    inbox: &Path,
    from: &Path,
    staged: &str,
    collection: &str,
    name: Option<&[u8]>,
    id: &MessageId,
) -> io::Result<Placed> {
    let source = File::open(from)?;
    let mut parts = components(name.unwrap_or_default());
    let hex = id.to_string();
    let last = parts.pop().unwrap_or_else(|| hex.as_bytes()[..16].to_vec());
    let mut folder = OwnedFd::from(File::open(inbox)?);
    let mut path = PathBuf::new();
    let mut folders = vec![inbox.to_owned()];
    for part in std::iter::once(collection.as_bytes().to_vec()).chain(parts) {
        let (entered, name) = enter(&folder, &part)?;
        folder = entered;
        path.push(OsStr::from_bytes(&name));
        folders.push(inbox.join(&path));
    }
    let numbered = (2..NUMBERED).map(|number| marked(&last, &number.to_string()));
    let by_id = [marked(&last, &hex[..8]), marked(&last, &hex)];
    for candidate in std::iter::once(last.clone()).chain(numbered).chain(by_id) {
        match move_without_overwriting(&source, staged, &folder, &candidate) {
            Ok(()) => {
                path.push(OsStr::from_bytes(&candidate));
                return Ok(Placed { path, folders });
            }
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("every name for document {id} is taken")))
}

/// Opens the folder `part`, making it where it is missing. What is there and is no folder, be it a file or a link,
/// is left alone: then it is `part~2`, and so on.
fn enter(parent: &OwnedFd, part: &[u8]) -> io::Result<(OwnedFd, Vec<u8>)> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let numbered = (2..NUMBERED).map(|number| marked(part, &number.to_string()));
    for candidate in std::iter::once(part.to_vec()).chain(numbered) {
        match mkdirat(parent, OsStr::from_bytes(&candidate), Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        match openat(parent, OsStr::from_bytes(&candidate), flags, Mode::empty()) {
            Ok(folder) => return Ok((folder, candidate)),
            Err(Errno::ENOTDIR | Errno::ELOOP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let name = String::from_utf8_lossy(part).into_owned();
    Err(io::Error::new(
        io::ErrorKind::NotADirectory,
        format!("{name:?} is no folder, nor are its numbered names"),
    ))
}

fn move_without_overwriting(
    from: &impl AsFd,
    staged: &str,
    folder: &impl AsFd,
    name: &[u8],
) -> Result<(), Errno> {
    let name = OsStr::from_bytes(name);
    match renameat2(from, staged, folder, name, RenameFlags::RENAME_NOREPLACE) {
        // Not on every file system: there a link, then the removal of the other name.
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP) => {
            match linkat(from, staged, folder, name, LinkatFlags::empty()) {
                Err(Errno::EEXIST) if is_same_file(from, staged, folder, name)? => {}
                other => other?,
            }
            unlinkat(from, staged, UnlinkatFlags::NoRemoveDir)
        }
        other => other,
    }
}

/// Whether a crash came between link and removal.
fn is_same_file(from: &impl AsFd, staged: &str, folder: &impl AsFd, name: &OsStr) -> Result<bool, Errno> {
    let key = |stat: FileStat| (stat.st_dev, stat.st_ino);
    let ours = fstatat(from, staged, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let theirs = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(key(ours) == key(theirs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Place {
        folder: tempfile::TempDir,
        count: std::cell::Cell<u8>,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("tmp")).unwrap();
            fs::create_dir(folder.path().join("inbox")).unwrap();
            Place { folder, count: std::cell::Cell::new(0) }
        }

        fn put(&self, name: Option<&[u8]>) -> PathBuf {
            let count = self.count.get() + 1;
            self.count.set(count);
            let (tmp, inbox) = (self.folder.path().join("tmp"), self.folder.path().join("inbox"));
            fs::write(tmp.join("staged"), [count]).unwrap();
            let placed = place(&inbox, &tmp, "staged", "forms", name, &MessageId([count; 32])).unwrap();
            assert_eq!(fs::read(inbox.join(&placed.path)).unwrap(), [count]);
            assert!(!tmp.join("staged").exists());
            placed.path
        }
    }

    #[test]
    fn the_same_name_twice_gets_a_number_and_nothing_is_overwritten() {
        let place = Place::new();
        assert_eq!(place.put(Some(b"a.xml")), Path::new("forms/a.xml"));
        assert_eq!(place.put(Some(b"a.xml")), Path::new("forms/a~2.xml"));
        assert_eq!(place.put(Some(b"a.xml")), Path::new("forms/a~3.xml"));
        assert_eq!(fs::read(place.folder.path().join("inbox/forms/a.xml")).unwrap(), [1]);
        for _ in 0..NUMBERED - 3 - 1 {
            place.put(Some(b"a.xml"));
        }
        let path = place.put(Some(b"a.xml"));
        assert_eq!(path.to_str().unwrap(), "forms/a~64646464.xml");
    }

    #[test]
    fn a_document_without_a_name_is_called_by_its_id() {
        let place = Place::new();
        assert_eq!(place.put(None), Path::new("forms/0101010101010101"));
        assert_eq!(place.put(Some(b"../..")), Path::new("forms/0202020202020202"));
    }

    #[test]
    fn links_in_the_inbox_are_not_followed() {
        let place = Place::new();
        let outside = place.folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        place.put(Some(b"first"));
        let forms = place.folder.path().join("inbox/forms");
        std::os::unix::fs::symlink(&outside, forms.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.join("new"), forms.join("dangling")).unwrap();
        assert_eq!(place.put(Some(b"link/x")), Path::new("forms/link~2/x"));
        assert_eq!(place.put(Some(b"dangling")), Path::new("forms/dangling~2"));
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a_file_where_a_folder_should_be_stays() {
        let place = Place::new();
        place.put(Some(b"a"));
        assert_eq!(place.put(Some(b"a/b")), Path::new("forms/a~2/b"));
        assert_eq!(place.put(Some(b"a/b")), Path::new("forms/a~2/b~2"));
        assert_eq!(place.put(Some(b"a~2")), Path::new("forms/a~2~2"));
    }

    #[test]
    fn hostile_names_stay_in_the_folder() {
        let place = Place::new();
        let long = vec![b'n'; 300];
        let names: [&[u8]; 8] =
            [b"../../x", b"/etc/passwd", b"a\0b", &long, b"-rf", b"quote'\"\n.txt", b"\xff\xfe", b"CON:x"];
        for name in names {
            place.put(Some(name));
        }
        let top: Vec<_> =
            fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(top.len(), 2, "{top:?}");
        assert_eq!(fs::read_dir(place.folder.path().join("inbox")).unwrap().count(), 1);
        assert!(place.folder.path().join("inbox/forms").join(OsStr::from_bytes(b"\xff\xfe")).exists());
    }
}
