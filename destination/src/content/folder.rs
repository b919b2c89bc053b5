//! Content in the folders of the home.
//!
//! One atomic rename puts a file where it belongs, once; see [`crate::inbox`].

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::unistd::syncfs;
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::ids::MessageId;
use waypost_remote_log::{ContentHash, ContentStore as _, Folder as LogFolder, PlaceError};

use super::{Content, HeldBytes, Placement};
use crate::confirmations::write_confirmation;
use crate::durable::sync_folder;
use crate::home::Home;
use crate::inbox;
use crate::store::Staged;

/// Files that are flushed at a time: file systems join such flushes.
const FLUSHERS: usize = 8;

/// The folders `inbox/`, `held/`, `confirmations/`, `log/` and `tmp/` of a home.
pub struct Folder {
    home: Home,
}

impl Folder {
    /// Those of that home.
    pub fn new(home: &Home) -> Self {
        Folder { home: home.clone() }
    }

    fn log(&self) -> Result<LogFolder, PlaceError> {
        let folder = self.home.log_folder();
        fs::create_dir_all(&folder).map_err(|error| PlaceError::Unreachable(error.to_string()))?;
        LogFolder::on_disk(&folder)
    }

    /// `None` where it had been put there before.
    fn place_one(&self, row: &Staged) -> io::Result<Option<inbox::Placed>> {
        let from = self.home.temporary_folder();
        if !from.join(&row.staged).try_exists()? {
            return Ok(None);
        }
        if row.verdict != Verdict::Held {
            let inbox = self.home.inbox_folder();
            let name = row.name.as_deref();
            return match inbox::place(&inbox, &from, &row.staged, &row.collection, name, &row.id) {
                // Another thread was faster.
                Err(_) if !from.join(&row.staged).try_exists()? => Ok(None),
                other => other.map(Some),
            };
        }
        let path = self.home.held_file(&row.id);
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        fs::create_dir_all(&folder)?;
        fs::rename(from.join(&row.staged), &path)?;
        Ok(Some(inbox::Placed { path, folders: vec![folder, self.home.held_folder()] }))
    }
}

impl Content for Folder {
    /// Flushes them, several at a time, then their folder.
    fn keep(&self, files: &[Option<&str>]) -> Vec<Option<io::Error>> {
        let folder = self.home.temporary_folder();
        let mut faults = sync_files(&folder, files);
        if let Err(error) = sync_folder(&folder) {
            let kind = error.kind();
            faults.iter_mut().for_each(|fault| *fault = Some(kind.into()));
        }
        faults
    }

    fn discard(&self, staged: &str) {
        let _ = fs::remove_file(self.home.temporary_folder().join(staged));
    }

    fn place(&self, rows: &[Staged]) -> Placement {
        let mut placement = Placement::default();
        let mut folders = BTreeSet::from([self.home.temporary_folder()]);
        let mut moved_before = false;
        for row in rows {
            match self.place_one(row) {
                Ok(found) => {
                    moved_before |= found.is_none();
                    let path = found.as_ref().map(|found| found.path.as_os_str().as_encoded_bytes().to_vec());
                    folders.extend(found.into_iter().flat_map(|found| found.folders));
                    placement.placed.push((row.seq, path.unwrap_or_default()));
                }
                Err(error) => {
                    placement.is_incomplete = true;
                    log::error!(
                        "document {} is stored, but cannot be put into the inbox yet: {error}",
                        row.id
                    );
                }
            }
        }
        let inbox = self.home.inbox_folder();
        // Whoever moved them may not have come to flushing; where they are now is not known, so everything is.
        let all = if moved_before { File::open(&inbox).and_then(|file| Ok(syncfs(&file)?)) } else { Ok(()) };
        let flushed = folders.iter().map(|folder| (folder, sync_folder(folder))).chain([(&inbox, all)]);
        for (folder, result) in flushed {
            if let Err(error) = result {
                // Not noted as placed, so that the next start looks again.
                log::error!("{}: {error}", folder.display());
                return Placement { placed: Vec::new(), is_incomplete: true };
            }
        }
        placement
    }

    fn sweep(&self, known: &HashSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(self.home.temporary_folder())? {
            let entry = entry?;
            if entry.file_name().to_str().is_none_or(|name| !known.contains(name)) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    fn held(&self, id: &MessageId) -> io::Result<(HeldBytes, u64)> {
        let file = File::open(self.home.held_file(id))?;
        let length = file.metadata()?.len();
        Ok((Box::new(file), length))
    }

    fn forget_held(&self, id: &MessageId) {
        let _ = fs::remove_file(self.home.held_file(id));
    }

    fn export(&self, confirmations: &[Confirmation]) -> io::Result<Vec<bool>> {
        let folder = self.home.confirmations_folder();
        let write = |confirmation| match write_confirmation(&folder, confirmation) {
            Ok(()) => true,
            Err(error) => {
                log::warn!("{}: {error}", folder.display());
                false
            }
        };
        let written = confirmations.iter().map(write).collect();
        sync_folder(&folder)?;
        Ok(written)
    }

    fn put_logged(&self, hash: &ContentHash, length: u64, bytes: &mut dyn Read) -> Result<(), PlaceError> {
        self.log()?.put(hash, length, bytes)
    }

    fn logged(&self, hash: &ContentHash, offset: u64) -> Result<Box<dyn Read + '_>, PlaceError> {
        Ok(Box::new(self.log()?.open(hash, offset)?))
    }

    fn remove_logged(&self, hash: &ContentHash) {
        if let Err(error) = self.log().and_then(|mut log| log.remove(hash)) {
            log::warn!("log/content/{hash} stays: {error}");
        }
    }

    fn inbox(&self) -> String {
        self.home.inbox_folder().display().to_string()
    }
}

/// Flushes the named files of a folder, several at a time.
fn sync_files(folder: &Path, files: &[Option<&str>]) -> Vec<Option<io::Error>> {
    let next = AtomicUsize::new(0);
    let faults: Vec<_> = files.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(name), Some(fault)) = (files.get(at), faults.get(at)) else { break };
            let Some(name) = name else { continue };
            let result = File::open(folder.join(name)).and_then(|file| file.sync_all());
            *fault.lock().unwrap_or_else(PoisonError::into_inner) = result.err();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..FLUSHERS.min(files.len()) {
            scope.spawn(work);
        }
        work();
    });
    faults.into_iter().map(|fault| fault.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}
