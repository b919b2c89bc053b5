//! A place that is a folder: on a stick that may be pulled at any byte, or the destination's own.
//!
//! ```text
//! content/ab/abcd…          content under its hash          names/KEY.head   a head
//! content/ab/abcd….N.part   being written                   names/KEY.new    being written; KEY.old the one before
//! ```
//!
//! Content is flushed before it gets its name, and everything is verified where it is read: a head by its signature, all
//! else by its hash. Whoever prepared the folder may have put anything into it: only plain files are opened, links are
//! not followed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};

use crate::hash::ContentHash;
use crate::head::{Head, LogKey, MAX_HEAD};
use crate::place::{ContentStore, NameSystem, PlaceError};
use crate::superseded::superseded;

static PUTS: AtomicUsize = AtomicUsize::new(0);

/// A folder as a place.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    /// Whether content that is there already is read before it is believed to be there.
    distrusts: bool,
}

impl Folder {
    /// On a medium that may lose what was written, such as a stick. The folder itself must be there: where a stick is
    /// missing, the folder that it would be mounted on must not be filled instead.
    pub fn on_stick(path: &Path) -> Result<Folder, PlaceError> {
        Self::at(path, true)
    }

    /// On a disk of one's own.
    pub fn on_disk(path: &Path) -> Result<Folder, PlaceError> {
        Self::at(path, false)
    }

    fn at(path: &Path, distrusts: bool) -> Result<Folder, PlaceError> {
        if !fs::metadata(path).map_err(|error| unreachable(path, &error))?.is_dir() {
            return Err(PlaceError::Unreachable(format!("{} is no folder", path.display())));
        }
        Ok(Folder { path: path.to_owned(), distrusts })
    }

    fn content_file(&self, hash: &ContentHash) -> (PathBuf, PathBuf) {
        let digits = hash.to_string();
        let folder = self.path.join("content").join(digits.get(..2).unwrap_or_default());
        let file = folder.join(digits);
        (folder, file)
    }

    fn name_file(&self, name: &LogKey, ending: &str) -> PathBuf {
        self.path.join("names").join(format!("{name}.{ending}"))
    }

    /// The file of this content from `offset` on, **unverified**.
    pub fn open(&self, hash: &ContentHash, offset: u64) -> Result<File, PlaceError> {
        let path = self.content_file(hash).1;
        let mut file = open_plain(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PlaceError::Missing(*hash),
            io::ErrorKind::InvalidInput => PlaceError::Damaged { hash: *hash, detail: error.to_string() },
            _ => unreachable(&path, &error),
        })?;
        file.seek(SeekFrom::Start(offset)).map_err(|error| unreachable(&path, &error))?;
        Ok(file)
    }

    /// Removes content; that it is not there is no error.
    pub fn remove(&mut self, hash: &ContentHash) -> Result<(), PlaceError> {
        let path = self.content_file(hash).1;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unreachable(&path, &error)),
            _ => Ok(()),
        }
    }

    /// A head that verifies, from one of the files that may have it.
    fn head(&self, name: &LogKey, ending: &str) -> Option<Bytes> {
        let file = open_plain(&self.name_file(name, ending)).ok()?;
        let mut bytes = Vec::new();
        file.take(MAX_HEAD as u64 + 1).read_to_end(&mut bytes).ok()?;
        Head::decode(&bytes, name).ok().map(|_| Bytes::from(bytes))
    }
}

impl ContentStore for Folder {
    fn has(&mut self, hashes: &[ContentHash]) -> Result<Vec<bool>, PlaceError> {
        let has = |hash: &ContentHash| {
            let Ok(mut file) = open_plain(&self.content_file(hash).1) else { return false };
            !self.distrusts || ContentHash::of_reader(&mut file).is_ok_and(|(found, _)| found == *hash)
        };
        Ok(hashes.iter().map(has).collect())
    }

    fn put(&mut self, hash: &ContentHash, length: u64, content: &mut dyn Read) -> Result<(), PlaceError> {
        let (folder, file) = self.content_file(hash);
        let at = |error: io::Error| unreachable(&file, &error);
        make_folder(&self.path.join("content")).map_err(at)?;
        make_folder(&folder).map_err(at)?;
        // Several may be put at a time; what a power cut leaves over is overwritten one day.
        let part = file.with_extension(format!("{}.part", PUTS.fetch_add(1, Ordering::Relaxed) % 64));
        let outcome = write_content(&part, hash, length, content);
        if outcome.is_err() {
            let _ = fs::remove_file(&part);
        }
        outcome?;
        fs::rename(&part, &file).map_err(at)?;
        sync_folder(&folder).map_err(at)
    }

    fn get(&mut self, hash: &ContentHash, offset: u64) -> Result<Box<dyn Read + '_>, PlaceError> {
        Ok(Box::new(self.open(hash, offset)?))
    }
}

impl NameSystem for Folder {
    /// A power cut between the two renames of [`Folder::publish`] leaves the newest head as `.new`.
    fn resolve(&mut self, name: &LogKey) -> Result<Option<Bytes>, PlaceError> {
        Ok(["head", "new", "old"].into_iter().find_map(|ending| self.head(name, ending)))
    }

    fn publish(
        &mut self,
        name: &LogKey,
        head: &Bytes,
        replaces: Option<ContentHash>,
    ) -> Result<(), PlaceError> {
        let before = self.resolve(name)?;
        if before.as_ref().map(|head| ContentHash::of(head)) != replaces {
            return Err(PlaceError::Changed);
        }
        let earlier = self.head(name, "old");
        let [file, new, old] = ["head", "new", "old"].map(|ending| self.name_file(name, ending));
        let folder = self.path.join("names");
        let write = || {
            make_folder(&folder)?;
            let mut out = create(&new)?;
            out.write_all(head)?;
            out.sync_all()?;
            if self.head(name, "head").is_some() {
                fs::rename(&file, &old)?;
            }
            fs::rename(&new, &file)?;
            sync_folder(&folder)
        };
        write().map_err(|error| unreachable(&file, &error))?;
        let pages =
            earlier.zip(before).and_then(|(earlier, before)| superseded(self, name, &earlier, &before, head));
        match pages {
            // It is in nobody's way.
            Some(page) => self.remove(&page).or(Ok(())),
            None => Ok(()),
        }
    }
}

/// Writes and flushes a file that has this hash, and no other.
fn write_content(
    part: &Path,
    hash: &ContentHash,
    length: u64,
    content: &mut dyn Read,
) -> Result<(), PlaceError> {
    let at = |error: io::Error| unreachable(part, &error);
    let mut file = create(part).map_err(at)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut written = 0u64;
    loop {
        let count = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(PlaceError::Source(error)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        written = written.saturating_add(bytes.len() as u64);
        if written > length {
            break;
        }
        hasher.update(bytes);
        file.write_all(bytes).map_err(at)?;
    }
    if written != length || hasher.finalize().as_slice() != hash.0 {
        return Err(PlaceError::Refused("its bytes have another hash or length than was said".into()));
    }
    file.sync_all().map_err(at)
}

/// Opens a plain file: neither a link, nor a device or pipe, whose opening alone might do something.
fn open_plain(path: &Path) -> io::Result<File> {
    let is_plain = |kind: fs::FileType| match kind.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file")),
    };
    is_plain(fs::symlink_metadata(path)?.file_type())?;
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    is_plain(file.metadata()?.file_type())?;
    Ok(file)
}

/// A new file; what was there under its name, link or file, is removed.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Makes a folder where it is missing; a link in its place is not followed. Several may do so at a time.
fn make_folder(path: &Path) -> io::Result<()> {
    let is_new = match fs::create_dir(path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    if !fs::symlink_metadata(path)?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is no folder; move it away"));
    }
    match path.parent() {
        Some(parent) if is_new => sync_folder(parent),
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn unreachable(path: &Path, error: &io::Error) -> PlaceError {
    let words = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            PlaceError::Full(words)
        }
        _ => PlaceError::Unreachable(words),
    }
}
