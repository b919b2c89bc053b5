//! A store that lies somewhere else: on the card of a kiosk that has died, in a laptop's reader. The card may be dying too: it
//! is read once, as far as it can be, and never written to; everything else happens on the copy.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;

use super::output;

/// What is read at a time, and, where that fails, what is tried by itself: a page of the database.
const STEP: usize = 1 << 20;
const PAGE: usize = 4096;
/// No store is larger than its kiosk's `map_size`, which is not known here.
const MAP_SIZE: &str = "1TiB";

/// A copy of a store, and a configuration for it; gone when it is dropped.
pub(super) struct Rescue {
    folder: TempDir,
}

impl Rescue {
    /// Copies the store in `store`, with its key, which lies beside it unless `key` says where.
    pub(super) fn copy(store: &Path, key: Option<&Path>, work: Option<&Path>) -> anyhow::Result<Self> {
        let database = store.join("data.mdb");
        fs::metadata(&database).map_err(|error| not_there(store, &error))?;
        let key = key.map_or_else(|| beside(store, "store.key"), |key| Ok(key.to_owned()))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix("waypost-store-");
        let folder = match work {
            Some(work) => builder.tempdir_in(work),
            None => builder.tempdir(),
        };
        let folder =
            folder.context("no folder for a copy of the store: --work names one with enough room")?;
        let copy = folder.path().join("store");
        fs::create_dir(&copy)?;
        fs::copy(&key, folder.path().join("store.key")).with_context(|| {
            format!("the store's key is not in {}: name it with --store-key", key.display())
        })?;
        // What others are told who made the bundle.
        if let Ok(identity) = beside(store, "identity.key") {
            drop(fs::copy(identity, folder.path().join("identity.key")));
        }
        let lost = copy_readable(&database, &copy.join("data.mdb")).with_context(|| {
            format!("{} could not be copied; --work names a folder with more room", database.display())
        })?;
        if lost > 0 {
            output::note(&format!(
                "{lost} bytes of the card cannot be read: what lies there is lost; `store check` names it"
            ));
        }
        let configuration = format!(
            "store.path = \"store\"\nstore.key_file = \"store.key\"\nstore.map_size = \"{MAP_SIZE}\"\n\
             identity.key_file = \"identity.key\"\ncontrol.socket = \"control.sock\"\n"
        );
        fs::write(folder.path().join("gateway.toml"), configuration)?;
        Ok(Rescue { folder })
    }

    /// Its configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.path().join("gateway.toml")
    }
}

/// Why a store cannot be read, and what to do. On a kiosk's card it is its gateway's alone.
fn not_there(store: &Path, error: &io::Error) -> anyhow::Error {
    let store = store.display();
    match error.kind() {
        io::ErrorKind::NotFound => anyhow!(
            "there is no store in {store}: name the folder that has data.mdb, on the card `waypost/store`"
        ),
        io::ErrorKind::PermissionDenied => {
            anyhow!("you may not look into {store}: run this as root, with sudo")
        }
        _ => anyhow!("{store} cannot be read: {error}; see whether the card is mounted"),
    }
}

/// A file in the folder that the store is in.
fn beside(store: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let whole = fs::canonicalize(store)?;
    Ok(whole.parent().context("a store is in a folder")?.join(name))
}

/// Copies a file; pages that cannot be read are left empty. How many bytes those are.
fn copy_readable(from: &Path, to: &Path) -> io::Result<u64> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let size = from.seek(SeekFrom::End(0))?;
    let bar = if io::stderr().is_terminal() { ProgressBar::new(size) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("reading the store {bar:30} {bytes}/{total_bytes} {eta}")
    {
        bar.set_style(style);
    }
    let (mut at, mut lost) = (0, 0);
    let mut buffer = vec![0; STEP];
    while at < size {
        let len = usize::try_from(size - at).unwrap_or(STEP).min(STEP);
        match read_at(&mut from, at, &mut buffer[..len]) {
            Ok(()) => write_at(&mut to, at, &buffer[..len])?,
            Err(error) if is_of_the_device(&error) => {
                for start in (0..len).step_by(PAGE) {
                    let part = &mut buffer[start..len.min(start + PAGE)];
                    let page = at + start as u64;
                    match read_at(&mut from, page, part) {
                        Ok(()) => write_at(&mut to, page, part)?,
                        Err(error) if is_of_the_device(&error) => lost += part.len() as u64,
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        at += len as u64;
        bar.set_position(at);
    }
    to.set_len(size)?;
    bar.finish_and_clear();
    Ok(lost)
}

fn is_of_the_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::EIO)
}

fn read_at(file: &mut File, at: u64, buffer: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(buffer)
}

fn write_at(file: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_not_there_is_told_from_one_that_may_not_be_read() {
        let store = Path::new("/media/card/waypost/store");
        let said = |kind: io::ErrorKind| not_there(store, &kind.into()).to_string();
        assert!(said(io::ErrorKind::NotFound).contains("there is no store in /media/card/waypost/store"));
        assert!(said(io::ErrorKind::PermissionDenied).ends_with("run this as root, with sudo"));
        assert!(said(io::ErrorKind::InvalidData).contains("see whether the card is mounted"));
    }
}
