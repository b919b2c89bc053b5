//! Which files of a folder the demo sends, and which it cannot.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::progress::Count;

/// What is in a folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Regular files, relative to the folder, sorted.
    pub(super) files: Vec<PathBuf>,
    /// What cannot be sent, and why.
    pub(super) skipped: Vec<(PathBuf, String)>,
}

/// Walks `folder`. Links to files count as files; links to folders are not followed, as they may lead in circles.
pub(super) fn scan(folder: &Path) -> Found {
    let mut found = Found::default();
    let mut folders = vec![PathBuf::new()];
    while let Some(relative) = folders.pop() {
        let entries = match fs::read_dir(folder.join(&relative)) {
            Ok(entries) => entries,
            Err(error) => {
                found.skipped.push((relative, format!("folder cannot be read: {error}")));
                continue;
            }
        };
        for entry in entries {
            match entry {
                Ok(entry) => sort(folder, relative.join(entry.file_name()), &mut found, &mut folders),
                Err(error) => {
                    found.skipped.push((relative.clone(), format!("folder cannot be read: {error}")))
                }
            }
        }
    }
    found.files.sort();
    found.skipped.sort();
    found
}

fn sort(folder: &Path, relative: PathBuf, found: &mut Found, folders: &mut Vec<PathBuf>) {
    let path = folder.join(&relative);
    let is_link = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink());
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() && is_link => {
            found.skipped.push((relative, "link to a folder".into()));
        }
        Ok(metadata) if metadata.is_dir() => folders.push(relative),
        Ok(metadata) if metadata.is_file() => match can_be_read(&path) {
            Ok(()) => found.files.push(relative),
            Err(error) => found.skipped.push((relative, format!("cannot be read: {error}"))),
        },
        Ok(_) => found.skipped.push((relative, "neither file nor folder".into())),
        Err(error) => found.skipped.push((relative, format!("cannot be read: {error}"))),
    }
}

fn can_be_read(path: &Path) -> std::io::Result<()> {
    let mut byte = [0];
    File::open(path)?.read(&mut byte).map(|_| ())
}

/// How many files there are below `folder`, and how large they are together.
pub(super) fn count(folder: &Path) -> Count {
    let files = scan(folder).files;
    let size = |file: &PathBuf| fs::metadata(folder.join(file)).map_or(0, |metadata| metadata.len());
    Count { documents: files.len(), bytes: files.iter().map(size).sum() }
}

/// Whether a file can be read to its end.
pub(super) fn is_readable(path: &Path) -> bool {
    File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink())).is_ok()
}

/// Whether two files have the same bytes.
pub(super) fn same(one: &Path, other: &Path) -> std::io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let count = one.read(&mut left)?;
        if count == 0 {
            return Ok(true);
        }
        other.read_exact(&mut right[..count])?;
        if left[..count] != right[..count] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_regular_file_is_found_and_the_rest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        for name in ["-dash", "new\nline", "quo\"te", "empty", "sub/inner"] {
            fs::write(at(name), name).unwrap();
        }
        std::os::unix::fs::symlink("empty", at("link")).unwrap();
        std::os::unix::fs::symlink(".", at("circle")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("broken")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let found = scan(folder.path());
        let names: Vec<_> = found.files.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(names, ["-dash", "empty", "link", "new\nline", "quo\"te", "sub/inner"]);
        let skipped: Vec<_> = found.skipped.iter().map(|(path, _)| path.to_str().unwrap()).collect();
        assert_eq!(skipped, ["broken", "circle", "socket"]);
    }

    #[test]
    fn files_are_the_same_when_their_bytes_are() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            fs::write(folder.path().join(name), bytes).unwrap();
            folder.path().join(name)
        };
        let one = write("one", &[1; 70_000]);
        assert!(same(&one, &write("two", &[1; 70_000])).unwrap());
        assert!(!same(&one, &write("three", &[1; 70_001])).unwrap());
        let mut bytes = [1; 70_000];
        bytes[69_999] = 2;
        assert!(!same(&one, &write("four", &bytes)).unwrap());
    }
}
